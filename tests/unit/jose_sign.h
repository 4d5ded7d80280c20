/* SPDX-License-Identifier: MIT
 * For the tests of JOSE and id_tokens: makes keys, writes them as JWK and signs
 * compact tokens with whatever header a test wants, honest or not.
 */
#ifndef JOSE_SIGN_H
#define JOSE_SIGN_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

static inline EVP_PKEY *make_rsa(size_t bits)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", bits);

	assert_non_null(key);
	return key;
}

static inline EVP_PKEY *make_ec(const char *group)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", group);

	assert_non_null(key);
	return key;
}

static inline EVP_PKEY *make_ed25519(void)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	assert_non_null(key);
	return key;
}

/* "name":"base64url", of a key's number, len bytes of it or as many as it has. */
static inline void put_number(struct al_buf *out, const EVP_PKEY *key, const char *param, const char *name, int len)
{
	unsigned char raw[1024];
	BIGNUM *number = NULL;

	assert_int_equal(EVP_PKEY_get_bn_param(key, param, &number), 1);
	len = len == 0 ? BN_num_bytes(number) : len;
	assert_int_equal(BN_bn2binpad(number, raw, len), len);
	BN_free(number);
	assert_true(al_buf_printf(out, ",\"%s\":\"", name));
	assert_true(al_base64url_put(out, raw, (size_t)len));
	assert_true(al_buf_puts(out, "\""));
}

/* Appends {"kty":…} with `more`, such as ,"kid":"a", at its end. */
static inline void put_jwk(struct al_buf *out, const EVP_PKEY *key, const char *more)
{
	unsigned char raw[32];
	size_t len = sizeof(raw);
	char group[32];

	if (EVP_PKEY_is_a(key, "RSA")) {
		assert_true(al_buf_puts(out, "{\"kty\":\"RSA\""));
		put_number(out, key, OSSL_PKEY_PARAM_RSA_N, "n", 0);
		put_number(out, key, OSSL_PKEY_PARAM_RSA_E, "e", 0);
	} else if (EVP_PKEY_is_a(key, "EC")) {
		bool is_p256 = EVP_PKEY_get_bits(key) == 256;

		assert_int_equal(EVP_PKEY_get_group_name(key, group, sizeof(group), &len), 1);
		assert_true(al_buf_printf(out, "{\"kty\":\"EC\",\"crv\":\"%s\"", is_p256 ? "P-256" : "P-384"));
		put_number(out, key, OSSL_PKEY_PARAM_EC_PUB_X, "x", is_p256 ? 32 : 48);
		put_number(out, key, OSSL_PKEY_PARAM_EC_PUB_Y, "y", is_p256 ? 32 : 48);
	} else {
		assert_int_equal(EVP_PKEY_get_raw_public_key(key, raw, &len), 1);
		assert_true(al_buf_puts(out, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\""));
		assert_true(al_base64url_put(out, raw, len));
		assert_true(al_buf_puts(out, "\""));
	}
	assert_true(al_buf_printf(out, "%s}", more));
}

static inline void put_part(struct al_buf *out, const char *text)
{
	if (out->len > 0)
		assert_true(al_buf_puts(out, "."));
	assert_true(al_base64url_put(out, text, strlen(text)));
}

/* How a signature is made. NULL digest: the scheme has its own. */
struct scheme {
	const char *digest;
	int padding;  /* 0: not RSA */
	int salt_len; /* PSS */
	const char *mgf1;
};

static inline const struct scheme *scheme_of(const char *alg)
{
	static const struct scheme rs256 = { "SHA256", RSA_PKCS1_PADDING, 0, NULL };
	static const struct scheme ps256 = { "SHA256", RSA_PKCS1_PSS_PADDING, 32, "SHA256" };
	static const struct scheme es256 = { "SHA256", 0, 0, NULL };
	static const struct scheme eddsa = { NULL, 0, 0, NULL };

	if (strcmp(alg, "RS256") == 0)
		return &rs256;
	if (strcmp(alg, "PS256") == 0)
		return &ps256;
	return strcmp(alg, "ES256") == 0 ? &es256 : &eddsa;
}

/* The signature as EVP makes it: DER for ECDSA. */
static inline void sign_raw(struct al_buf *out, EVP_PKEY *key, const struct scheme *scheme, const struct al_buf *text)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx = NULL;
	unsigned char raw[1024];
	size_t len = sizeof(raw);

	assert_non_null(md);
	assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, scheme->digest, NULL, NULL, key, NULL), 1);
	if (scheme->padding != 0)
		assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, scheme->padding), 1);
	if (scheme->mgf1 != NULL) {
		assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, scheme->salt_len), 1);
		assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, scheme->mgf1, NULL), 1);
	}
	assert_int_equal(EVP_DigestSign(md, raw, &len, (const unsigned char *)text->data, text->len), 1);
	EVP_MD_CTX_free(md);
	assert_true(al_buf_set(out, raw, len));
}

static inline void der_to_pair(struct al_buf *sig)
{
	const unsigned char *at = (const unsigned char *)sig->data;
	ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)sig->len);
	unsigned char raw[64];

	assert_non_null(pair);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw, 32), 32);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw + 32, 32), 32);
	ECDSA_SIG_free(pair);
	assert_true(al_buf_set(sig, raw, sizeof(raw)));
}

/* Appends a signature by `scheme` to header.payload. */
static inline void sign_parts(struct al_buf *token, EVP_PKEY *key, const struct scheme *scheme)
{
	struct al_buf sig;

	al_buf_init(&sig, 1024);
	sign_raw(&sig, key, scheme, token);
	if (EVP_PKEY_is_a(key, "EC"))
		der_to_pair(&sig);
	assert_true(al_buf_puts(token, "."));
	assert_true(al_base64url_put(token, sig.data, sig.len));
	al_buf_clear(&sig);
}

/* A whole token, signed as alg says, whatever its header claims. */
static inline void sign_token(
	struct al_buf *token, EVP_PKEY *key, const char *alg, const char *header, const char *payload)
{
	al_buf_clear(token);
	put_part(token, header);
	put_part(token, payload);
	sign_parts(token, key, scheme_of(alg));
}

#endif
