/* SPDX-License-Identifier: MIT
 * Signing keys and JWTs, by hand on OpenSSL: a JOSE library would refuse to make
 * the bad tokens that tests need.
 */
#include "practice.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
	const char *alg;
	char *kid;
	EVP_PKEY *pkey;
	bool published;
	struct key *next; /* older */
};

static const char *const algorithms[] = { "RS256", "PS256", "ES256", "EdDSA", NULL };
/* The newest of each algorithm signs; all of them, newest first. */
static struct key *keys;
static int64_t key_count;
static int64_t kid_count; /* of the kids that were made up here */

const char *const *pp_key_algorithms(void)
{
	return algorithms;
}

static const char *known_algorithm(const char *alg)
{
	size_t i;

	for (i = 0; algorithms[i] != NULL; i++) {
		if (alg != NULL && strcmp(algorithms[i], alg) == 0)
			return algorithms[i];
	}
	return algorithms[0];
}

static void need(bool done, const char *what)
{
	if (!done)
		pp_die("OpenSSL: %s fails", what);
}

static EVP_PKEY *make_pkey(const char *alg)
{
	EVP_PKEY *pkey = alg[0] == 'R' || alg[0] == 'P' ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)
		: alg[1] == 'S'                         ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
							: EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	need(pkey != NULL, "making a key");
	return pkey;
}

static struct key *signing_key(const char *alg)
{
	struct key *key;

	for (key = keys; key != NULL && key->alg != known_algorithm(alg); key = key->next)
		;
	return key;
}

/* ---- the ledger's file ------------------------------------------------------------------ */

static char *bio_text(BIO *bio)
{
	char *data = NULL;
	const long len = BIO_get_mem_data(bio, &data);
	char *text = pp_printf("%.*s", (int)len, data);

	BIO_free(bio);
	return text;
}

static void write_key(const struct key *key, int64_t number)
{
	json_object *json = json_object_new_object();
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	char name[24];

	need(bio != NULL && PEM_write_bio_PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1, "writing a key");
	pem = bio_text(bio);
	json_object_object_add(json, "alg", json_object_new_string(key->alg));
	json_object_object_add(json, "kid", json_object_new_string(key->kid));
	json_object_object_add(json, "pem", json_object_new_string(pem));
	json_object_object_add(json, "published", json_object_new_boolean(key->published));
	snprintf(name, sizeof(name), "%lld", (long long)number);
	pp_journal_put("key", name, json);
	free(pem);
}

/* Oldest first, so that they come back in that order. */
static void write_keys(const struct key *key, int64_t number)
{
	if (key == NULL)
		return;
	write_keys(key->next, number - 1);
	write_key(key, number);
}

static void write_all_keys(void)
{
	write_keys(keys, key_count - 1);
}

static struct key *add_key(const char *alg, const char *kid, EVP_PKEY *pkey, bool published)
{
	struct key *key = pp_calloc(1, sizeof(*key));

	key->alg = known_algorithm(alg);
	key->kid = pp_strdup(kid);
	key->pkey = pkey;
	key->published = published;
	key->next = keys;
	keys = key;
	key_count++;
	return key;
}

static void restore_key(const char *name, json_object *json)
{
	const char *kid = pp_text(json, "kid", "");
	const char *dash = strrchr(kid, '-');
	const int64_t number = dash != NULL ? strtoll(dash + 1, NULL, 10) : 0;
	BIO *bio = BIO_new_mem_buf(pp_text(json, "pem", ""), -1);
	EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

	(void)name;
	need(pkey != NULL, "reading a key of the ledger's file");
	BIO_free(bio);
	if (kid_count < number)
		kid_count = number;
	add_key(pp_text(json, "alg", ""), kid, pkey, pp_flag(json, "published", true));
}

/* ---- rotation ------------------------------------------------------------------------------- */

static void new_key(const char *alg, const char *kid)
{
	char *own = kid != NULL ? pp_strdup(kid) : pp_printf("%s-%lld", alg, (long long)++kid_count);

	add_key(alg, own, make_pkey(alg), true);
	free(own);
}

void pp_keys_register(void)
{
	pp_journal_restore("key", restore_key);
}

void pp_keys_init(void)
{
	size_t i;

	if (keys != NULL)
		return;
	for (i = 0; algorithms[i] != NULL; i++)
		new_key(algorithms[i], NULL);
	write_all_keys();
}

void pp_key_withdraw(const char *kid)
{
	struct key *key;

	for (key = keys; key != NULL; key = key->next) {
		if (kid != NULL && strcmp(key->kid, kid) == 0)
			key->published = false;
	}
	write_all_keys();
}

void pp_key_rotate(const char *alg, bool same_kid, bool keep_old)
{
	const struct key *old = signing_key(alg);
	char *kid = same_kid ? pp_strdup(old->kid) : NULL;

	if (same_kid || !keep_old)
		pp_key_withdraw(old->kid);
	new_key(known_algorithm(alg), kid);
	write_all_keys();
	free(kid);
}

/* ---- JWKs --------------------------------------------------------------------------------------- */

static void add_number(json_object *jwk, const char *name, const EVP_PKEY *pkey, const char *param, int width)
{
	BIGNUM *number = NULL;
	unsigned char bytes[512];
	int len;
	char *text;

	need(EVP_PKEY_get_bn_param(pkey, param, &number) == 1, "reading a public key");
	len = width > 0 ? BN_bn2binpad(number, bytes, width) : BN_bn2bin(number, bytes);
	need(len > 0, "reading a public key");
	text = pp_base64url(bytes, (size_t)len);
	json_object_object_add(jwk, name, json_object_new_string(text));
	free(text);
	BN_free(number);
}

static void add_word(json_object *jwk, const char *name, const char *word)
{
	json_object_object_add(jwk, name, json_object_new_string(word));
}

static void add_ed25519(json_object *jwk, const EVP_PKEY *pkey)
{
	unsigned char bytes[32];
	size_t len = sizeof(bytes);
	char *text;

	need(EVP_PKEY_get_raw_public_key(pkey, bytes, &len) == 1, "reading a public key");
	text = pp_base64url(bytes, len);
	add_word(jwk, "x", text);
	free(text);
}

static json_object *jwk_of(const struct key *key, bool without_kid)
{
	json_object *jwk = json_object_new_object();

	if (EVP_PKEY_is_a(key->pkey, "RSA")) {
		add_word(jwk, "kty", "RSA");
		add_number(jwk, "n", key->pkey, OSSL_PKEY_PARAM_RSA_N, 0);
		add_number(jwk, "e", key->pkey, OSSL_PKEY_PARAM_RSA_E, 0);
	} else if (EVP_PKEY_is_a(key->pkey, "EC")) {
		add_word(jwk, "kty", "EC");
		add_word(jwk, "crv", "P-256");
		add_number(jwk, "x", key->pkey, OSSL_PKEY_PARAM_EC_PUB_X, 32);
		add_number(jwk, "y", key->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, 32);
	} else {
		add_word(jwk, "kty", "OKP");
		add_word(jwk, "crv", "Ed25519");
		add_ed25519(jwk, key->pkey);
	}
	if (!without_kid)
		add_word(jwk, "kid", key->kid);
	add_word(jwk, "alg", key->alg);
	add_word(jwk, "use", "sig");
	return jwk;
}

/* Oldest first, so that who tries keys in their order meets a wrong one first. */
static void publish(json_object *list, const struct key *key, bool without_kid)
{
	if (key == NULL)
		return;
	publish(list, key->next, without_kid);
	if (key->published)
		json_object_array_add(list, jwk_of(key, without_kid));
}

json_object *pp_keys_published(bool without_kid)
{
	json_object *list = json_object_new_array();

	publish(list, keys, without_kid);
	return list;
}

/* ---- signatures ------------------------------------------------------------------------------------ */

struct bytes {
	unsigned char data[1024];
	size_t len;
};

static void sign(const char *alg, EVP_PKEY *pkey, const char *input, struct bytes *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	const EVP_MD *digest = strcmp(alg, "EdDSA") == 0 ? NULL : EVP_sha256();

	need(ctx != NULL && EVP_DigestSignInit(ctx, &pctx, digest, NULL, pkey) == 1, "signing");
	if (strcmp(alg, "PS256") == 0)
		need(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1
				&& EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, 32) == 1,
			"signing");
	out->len = sizeof(out->data);
	need(EVP_DigestSign(ctx, out->data, &out->len, (const unsigned char *)input, strlen(input)) == 1, "signing");
	EVP_MD_CTX_free(ctx);
}

/* JWS wants r and s side by side, OpenSSL gives DER. */
static void unpack_ecdsa(struct bytes *out)
{
	const unsigned char *at = out->data;
	ECDSA_SIG *parts = d2i_ECDSA_SIG(NULL, &at, (long)out->len);

	need(parts != NULL, "signing");
	need(BN_bn2binpad(ECDSA_SIG_get0_r(parts), out->data, 32) == 32
			&& BN_bn2binpad(ECDSA_SIG_get0_s(parts), out->data + 32, 32) == 32,
		"signing");
	out->len = 64;
	ECDSA_SIG_free(parts);
}

static void sign_jws(const char *alg, EVP_PKEY *pkey, const char *input, struct bytes *out)
{
	sign(alg, pkey, input, out);
	if (strcmp(alg, "ES256") == 0)
		unpack_ecdsa(out);
}

/* A forgery: HMAC with the public key, which everybody knows, as the secret. */
static void sign_hmac(EVP_PKEY *pkey, bool pem, const char *input, struct bytes *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *secret = NULL;
	unsigned len = 0;
	long secret_len;

	need(bio != NULL && (pem ? PEM_write_bio_PUBKEY(bio, pkey) : i2d_PUBKEY_bio(bio, pkey)) == 1,
		"writing a public key");
	secret_len = BIO_get_mem_data(bio, &secret);
	need(HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)input, strlen(input), out->data, &len)
			!= NULL,
		"HMAC");
	out->len = len;
	BIO_free(bio);
}

static void mark(const struct key *key, const char *how, const char *input, struct bytes *out)
{
	EVP_PKEY *other;

	if (strcmp(how, "none") == 0) {
		out->len = 0;
	} else if (strncmp(how, "hs256", 5) == 0) {
		sign_hmac(key->pkey, strcmp(how, "hs256_pem") == 0, input, out);
	} else if (strcmp(how, "wrong_key") == 0) {
		other = make_pkey(key->alg);
		sign_jws(key->alg, other, input, out);
		EVP_PKEY_free(other);
	} else {
		sign_jws(key->alg, key->pkey, input, out);
		if (strcmp(how, "broken") == 0)
			out->data[out->len / 2] ^= 1;
	}
}

static char *part_of(json_object *value)
{
	const char *text = json_object_to_json_string_ext(
		value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	return pp_base64url((const unsigned char *)text, strlen(text));
}

static char *header_of(const struct key *key, const char *how, json_object *changes)
{
	json_object *header = json_object_new_object();
	char *part;

	add_word(header, "alg", strcmp(how, "none") == 0 ? "none" : strncmp(how, "hs256", 5) == 0 ? "HS256" : key->alg);
	add_word(header, "kid", key->kid);
	add_word(header, "typ", "JWT");
	pp_merge(header, changes);
	part = part_of(header);
	json_object_put(header);
	return part;
}

char *pp_jwt(const char *alg, json_object *claims, json_object *how)
{
	const struct key *key = signing_key(alg);
	const char *manner = pp_text(how, "sign", "");
	char *header = header_of(key, manner, pp_member(how, "header"));
	char *payload = part_of(claims);
	char *input = pp_printf("%s.%s", header, payload);
	struct bytes bytes;
	char *signature;
	char *jwt;

	mark(key, manner, input, &bytes);
	signature = pp_base64url(bytes.data, bytes.len);
	jwt = pp_printf("%s.%s%s", input, signature, pp_text(how, "suffix", ""));
	free(signature);
	free(input);
	free(payload);
	free(header);
	return jwt;
}

char *pp_at_hash(const char *alg, const char *access_token)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	need(EVP_Digest(access_token, strlen(access_token), digest, &len,
		     strcmp(alg, "EdDSA") == 0 ? EVP_sha512() : EVP_sha256(), NULL)
			== 1,
		"hashing");
	return pp_base64url(digest, len / 2);
}
