/* SPDX-License-Identifier: MIT
 * JWS verification: real tokens of all four algorithms, published examples, and
 * the attacks that other libraries have fallen for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "provider/provider_int.h"
#include "jose_sign.h"

#define ALL_ALGS (AL_ALG_RS256 | AL_ALG_PS256 | AL_ALG_ES256 | AL_ALG_EDDSA)
#define PAYLOAD "{\"sub\":\"mikomo_1\"}"

static EVP_PKEY *rsa;
static EVP_PKEY *p256;
static EVP_PKEY *ed;
static EVP_PKEY *ed_other;
static struct al_jwks *all; /* kid r, e, o: one key of each kind */

static struct al_jwks *parse_keys(const char *text)
{
	struct al_jwks *jwks = NULL;
	acctlink_error err;

	if (al_jwks_parse(text, strlen(text), &jwks, &err) != ACCTLINK_OK)
		fail_msg("%s", err.message);
	return jwks;
}

/* A JWKS of up to three keys, each with its extra members; key NULL ends. */
static struct al_jwks *keys_of(
	EVP_PKEY *a, const char *more_a, EVP_PKEY *b, const char *more_b, EVP_PKEY *c, const char *more_c)
{
	EVP_PKEY *const keys[] = { a, b, c };
	const char *const more[] = { more_a, more_b, more_c };
	struct al_buf text;
	struct al_jwks *jwks;

	al_buf_init(&text, 65536);
	al_buf_puts(&text, "{\"keys\":[");
	for (size_t i = 0; i < 3 && keys[i] != NULL; i++) {
		al_buf_puts(&text, i > 0 ? "," : "");
		put_jwk(&text, keys[i], more[i]);
	}
	al_buf_puts(&text, "]}");
	jwks = parse_keys(al_buf_text(&text));
	al_buf_clear(&text);
	return jwks;
}

static struct al_jwks *keys_of_one(EVP_PKEY *key, const char *more)
{
	return keys_of(key, more, NULL, NULL, NULL, NULL);
}

static int make_keys(void **state)
{
	(void)state;
	rsa = make_rsa(2048);
	p256 = make_ec("P-256");
	ed = make_ed25519();
	ed_other = make_ed25519();
	all = keys_of(rsa, ",\"kid\":\"r\"", p256, ",\"kid\":\"e\"", ed, ",\"kid\":\"o\"");
	return al_jwks_count(all) == 3 ? 0 : -1;
}

static int drop_keys(void **state)
{
	(void)state;
	al_jwks_free(&all);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(ed);
	EVP_PKEY_free(ed_other);
	return 0;
}

/* The result for one token; OK means that the payload came out unchanged. */
static al_rc verify_buf(const struct al_jwks *keys, unsigned algs, const struct al_buf *token, acctlink_error *err)
{
	struct al_buf payload;
	al_rc rc;

	al_buf_init(&payload, 65536);
	al_buf_puts(&payload, "left over");
	al_error_clear(err);
	rc = al_jws_verify(keys, algs, token, &payload, err);
	assert_string_equal(al_buf_text(&payload), rc == ACCTLINK_OK ? PAYLOAD : "");
	if (rc != ACCTLINK_OK) {
		assert_int_equal(err->status, ACCTLINK_BAD_PROVIDER);
		assert_true(strlen(err->message) > 10);
	}
	al_buf_clear(&payload);
	return rc;
}

static al_rc verify_text(const struct al_jwks *keys, const char *text, acctlink_error *err)
{
	struct al_buf token;
	al_rc rc;

	al_buf_init(&token, AL_TOKEN_MAX + 1);
	assert_true(al_buf_puts(&token, text));
	rc = verify_buf(keys, ALL_ALGS, &token, err);
	al_buf_clear(&token);
	return rc;
}

/* Signs PAYLOAD under that header and verifies. */
static al_rc verify_signed(
	const struct al_jwks *keys, unsigned algs, EVP_PKEY *key, const char *alg, const char *header)
{
	struct al_buf token;
	acctlink_error err;
	al_rc rc;

	al_buf_init(&token, 65536);
	sign_token(&token, key, alg, header, PAYLOAD);
	rc = verify_buf(keys, algs, &token, &err);
	al_buf_clear(&token);
	return rc;
}

static void tokens_of_all_four_algorithms_verify(void **state)
{
	(void)state;
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\",\"kid\":\"r\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "PS256", "{\"alg\":\"PS256\",\"kid\":\"r\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(all, ALL_ALGS, p256, "ES256", "{\"alg\":\"ES256\",\"kid\":\"e\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"o\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"Ed25519\",\"kid\":\"o\"}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(all, ALL_ALGS, ed, "EdDSA", "{\"typ\":\"anything\",\"alg\":\"EdDSA\",\"x\":{\"y\":[1]}}"),
		ACCTLINK_OK);
}

/* RFC 7515, appendix A.3, and RFC 8037, appendix A.4. */
static void published_examples_verify(void **state)
{
	static const char es256_key[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
					"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
					"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
	static const char
		es256[] = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
			  "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXF"
			  "CgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
	static const char ed_key[] = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
				     "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
	static const char
		ed_token[] = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
			     "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
	const char *const cases[2][3] = {
		{ es256_key, es256,
			"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}" },
		{ ed_key, ed_token, "Example of Ed25519 signing" }
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct al_jwks *keys = parse_keys(cases[i][0]);
		struct al_buf token;
		struct al_buf payload;

		al_buf_init(&token, 1024);
		al_buf_init(&payload, 1024);
		al_buf_puts(&token, cases[i][1]);
		assert_int_equal(al_jws_verify(keys, ALL_ALGS, &token, &payload, NULL), ACCTLINK_OK);
		assert_string_equal(al_buf_text(&payload), cases[i][2]);
		al_buf_clear(&payload);
		al_buf_clear(&token);
		al_jwks_free(&keys);
	}
}

static void a_changed_or_cut_token_never_verifies(void **state)
{
	struct al_buf token;
	struct al_buf copy;
	acctlink_error err;

	(void)state;
	al_buf_init(&token, 1024);
	al_buf_init(&copy, 1024);
	sign_token(&token, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"o\"}", PAYLOAD);
	for (size_t at = 0; at < token.len; at++) {
		static const char others[] = "A_.=\n\xff{";

		for (size_t i = 0; i < sizeof(others); i++) { /* the NUL too */
			assert_true(al_buf_copy(&copy, &token));
			copy.data[at] = copy.data[at] == others[i] ? 'B' : others[i];
			assert_int_not_equal(verify_buf(all, ALL_ALGS, &copy, &err), ACCTLINK_OK);
		}
		assert_true(al_buf_set(&copy, token.data, at));
		assert_int_not_equal(verify_buf(all, ALL_ALGS, &copy, &err), ACCTLINK_OK);
	}
	al_buf_clear(&copy);
	al_buf_clear(&token);
}

static void a_payload_of_another_token_is_a_conflict_with_the_key(void **state)
{
	static const char *const algs[] = { "RS256", "PS256", "ES256", "EdDSA" };
	EVP_PKEY *const signers[] = { rsa, rsa, p256, ed };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(algs); i++) {
		struct al_buf token;
		struct al_buf forged;
		char header[64];
		acctlink_error err;

		al_buf_init(&token, 4096);
		al_buf_init(&forged, 4096);
		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", algs[i]);
		sign_token(&token, signers[i], algs[i], header, PAYLOAD);
		put_part(&forged, header);
		put_part(&forged, "{\"sub\":\"mikomo_2\"}");
		al_buf_puts(&forged, strrchr(token.data, '.'));
		assert_int_equal(verify_buf(all, ALL_ALGS, &forged, &err), AL_CONFLICT);
		assert_non_null(strstr(err.message, "does not verify"));
		al_buf_clear(&forged);
		al_buf_clear(&token);
	}
}

static void only_the_algorithms_that_the_caller_names_are_taken(void **state)
{
	(void)state;
	assert_int_equal(verify_signed(all, AL_ALG_ES256 | AL_ALG_PS256 | AL_ALG_EDDSA, rsa, "RS256",
				 "{\"alg\":\"RS256\",\"kid\":\"r\"}"),
		ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_signed(all, AL_ALG_RS256, rsa, "PS256", "{\"alg\":\"PS256\",\"kid\":\"r\"}"),
		ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_signed(all, AL_ALG_RS256, p256, "ES256", "{\"alg\":\"ES256\",\"kid\":\"e\"}"),
		ACCTLINK_BAD_PROVIDER);
	assert_int_equal(
		verify_signed(all, 0, rsa, "RS256", "{\"alg\":\"RS256\",\"kid\":\"r\"}"), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_signed(all, AL_ALG_EDDSA, ed, "EdDSA", "{\"alg\":\"EdDSA\"}"), ACCTLINK_OK);
}

static void unsigned_and_unknown_algorithms_are_refused(void **state)
{
	static const char *const headers[] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\"}", "{\"alg\":\"NONE\"}",
		"{\"alg\":\"nOnE\"}", "{\"alg\":\"\"}", "{}", "{\"alg\":null}", "{\"alg\":1}", "{\"alg\":[\"EdDSA\"]}",
		"{\"alg\":{}}", "{\"alg\":true}", "{\"alg\":\"eddsa\"}", "{\"alg\":\"EdDSA \"}", "{\"alg\":\" EdDSA\"}",
		"{\"alg\":\"RS256 EdDSA\"}", "{\"alg\":\"RS384\"}", "{\"alg\":\"RS512\"}", "{\"alg\":\"PS512\"}",
		"{\"alg\":\"ES256K\"}", "{\"alg\":\"ES384\"}", "{\"alg\":\"Ed448\"}", "{\"alg\":\"HS256\"}",
		"{\"alg\":\"HS512\"}", "{\"alg\":\"RSA-OAEP\",\"enc\":\"A256GCM\"}", "{\"alg\":\"dir\"}",
		"{\"ALG\":\"EdDSA\"}", "{\"alg\":\"\\u001b[31mred\\u0007\"}" };
	struct al_buf token;
	acctlink_error err;

	(void)state;
	al_buf_init(&token, 1024);
	for (size_t i = 0; i < AL_COUNT(headers); i++) {
		sign_token(&token, ed, "EdDSA", headers[i], PAYLOAD);
		assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_BAD_PROVIDER);
		assert_null(strchr(err.message, '\x1b'));
		al_buf_clear(&token);
		put_part(&token, headers[i]);
		put_part(&token, PAYLOAD);
		al_buf_puts(&token, ".");
		assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_BAD_PROVIDER);
		al_buf_clear(&token);
	}
}

static void put_public(struct al_buf *out, EVP_PKEY *key, bool pem)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data = NULL;
	long len;

	assert_non_null(bio);
	assert_int_equal(pem ? PEM_write_bio_PUBKEY(bio, key) : i2d_PUBKEY_bio(bio, key), 1);
	len = BIO_get_mem_data(bio, &data);
	assert_true(al_buf_set(out, data, (size_t)len));
	BIO_free(bio);
}

/* The public key is known to all: as the secret of an HMAC it proves nothing. */
static void hmac_over_the_public_key_is_refused(void **state)
{
	EVP_PKEY *const victims[] = { rsa, p256, ed };
	static const char *const kids[] = { "r", "e", "o" };

	(void)state;
	for (size_t i = 0; i < 2 * AL_COUNT(victims); i++) {
		struct al_buf secret;
		struct al_buf token;
		unsigned char mac[32];
		size_t len = 0;
		char header[64];
		acctlink_error err;

		al_buf_init(&secret, 4096);
		al_buf_init(&token, 4096);
		put_public(&secret, victims[i / 2], i % 2 == 0);
		(void)snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kids[i / 2]);
		put_part(&token, header);
		put_part(&token, PAYLOAD);
		assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret.data, secret.len,
			(const unsigned char *)token.data, token.len, mac, sizeof(mac), &len));
		al_buf_puts(&token, ".");
		al_base64url_put(&token, mac, len);
		assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_BAD_PROVIDER);
		assert_int_equal(verify_buf(all, UINT_MAX, &token, &err), ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(err.message, "HS256"));
		al_buf_clear(&token);
		al_buf_clear(&secret);
	}
}

static void an_algorithm_is_bound_to_its_kind_of_key(void **state)
{
	struct al_jwks *ec_only = keys_of_one(p256, "");

	(void)state;
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\",\"kid\":\"e\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, p256, "ES256", "{\"alg\":\"RS256\",\"kid\":\"e\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, p256, "ES256", "{\"alg\":\"EdDSA\",\"kid\":\"o\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "RS256", "{\"alg\":\"PS256\",\"kid\":\"r\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "PS256", "{\"alg\":\"RS256\",\"kid\":\"r\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(ec_only, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\"}"), AL_ABSENT);
	al_jwks_free(&ec_only);
}

static void a_key_marked_for_one_algorithm_serves_no_other(void **state)
{
	struct al_jwks *named = keys_of_one(rsa, ",\"kid\":\"r\",\"alg\":\"RS256\"");
	struct al_jwks *pss = keys_of_one(rsa, ",\"alg\":\"PS256\"");
	struct al_jwks *ed_named = keys_of(
		ed, ",\"kid\":\"1\",\"alg\":\"EdDSA\"", ed, ",\"kid\":\"2\",\"alg\":\"Ed25519\"", NULL, NULL);
	struct al_jwks *wrong = keys_of(
		rsa, ",\"alg\":\"ES256\"", p256, ",\"alg\":\"RS256\"", ed, ",\"alg\":\"HS256\"");

	(void)state;
	assert_int_equal(
		verify_signed(named, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\",\"kid\":\"r\"}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(named, ALL_ALGS, rsa, "PS256", "{\"alg\":\"PS256\",\"kid\":\"r\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(pss, ALL_ALGS, rsa, "PS256", "{\"alg\":\"PS256\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(pss, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\"}"), AL_ABSENT);
	assert_int_equal(
		verify_signed(ed_named, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"Ed25519\",\"kid\":\"1\"}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(ed_named, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"2\"}"), ACCTLINK_OK);
	assert_int_equal(al_jwks_count(wrong), 0);
	al_jwks_free(&wrong);
	al_jwks_free(&ed_named);
	al_jwks_free(&pss);
	al_jwks_free(&named);
}

static void anything_but_three_parts_is_refused_with_its_reason(void **state)
{
	static const char *const texts[][2] = { { "", "this one has 1" }, { "opaque", "this one has 1" },
		{ ".", "this one has 2" }, { "eyJhbGciOiJFZERTQSJ9.e30", "this one has 2" }, { "..", "header" },
		{ "...", "this one has 4" }, { "eyJhbGciOiJFZERTQSJ9.e30.", "not signed" }, { ".e30.AAAA", "header" },
		{ "eyJhbGciOiJFZERTQSJ9.e30.AAAA.AAAA", "this one has 4" },
		{ "eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1cifQ.AA.AA.AA.AA", "encrypted" }, { "....", "encrypted" },
		{ ".....", "this one has 6" }, { "{\"payload\":\"e30\",\"signatures\":[]}", "JSON serialization" },
		{ "{\"protected\":\"a.b\",\"payload\":\"c.d\"}", "JSON serialization" } };
	struct al_buf token;
	acctlink_error err;

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		assert_int_equal(verify_text(all, texts[i][0], &err), ACCTLINK_BAD_PROVIDER);
		if (strstr(err.message, texts[i][1]) == NULL)
			fail_msg("%s: %s", texts[i][0], err.message);
	}
	al_buf_init(&token, 1024);
	sign_token(&token, ed, "EdDSA", "{\"alg\":\"EdDSA\"}", PAYLOAD);
	al_buf_puts(&token, strrchr(token.data, '.')); /* the signature once more */
	assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_BAD_PROVIDER);
	al_buf_clear(&token);
}

/* Signs parts that are written by hand, so that only their form is wrong. */
static al_rc verify_parts(const char *header, const char *payload, const char *tail)
{
	struct al_buf token;
	acctlink_error err;
	al_rc rc;

	al_buf_init(&token, 2048);
	assert_true(al_buf_printf(&token, "%s.%s", header, payload));
	sign_parts(&token, ed, scheme_of("EdDSA"));
	assert_true(al_buf_puts(&token, tail));
	rc = verify_buf(all, ALL_ALGS, &token, &err);
	al_buf_clear(&token);
	return rc;
}

static void only_canonical_base64url_is_taken(void **state)
{
	/* {"alg":"EdDSA"} and the payload; both leave no spare bits, so one space is added for those. */
	static const char header[] = "eyJhbGciOiJFZERTQSJ9";
	static const char payload[] = "eyJzdWIiOiJtaWtvbW9fMSJ9";

	(void)state;
	assert_int_equal(verify_parts(header, payload, ""), ACCTLINK_OK);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSJ9IA", payload, ""), ACCTLINK_OK);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSJ9IB", payload, ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSJ9IA==", payload, ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSJ9\n", payload, ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(" eyJhbGciOiJFZERTQSJ9", payload, ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSIsIngiOiI_In0", payload, ""), ACCTLINK_OK);
	assert_int_equal(verify_parts("eyJhbGciOiJFZERTQSIsIngiOiI/In0", payload, ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, "eyJzdWIiOiJtaWtvbW9fMSJ9IB", ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, "eyJzdWIiOiJtaWtvbW9fMSJ9IA==", ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, "eyJzdWIiOiJtaWtvbW9fMSJ9 ", ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, "eyJzdWIiOiJtaWtvbW9fMSJ9I", ""), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, payload, "=="), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(verify_parts(header, payload, "\n"), ACCTLINK_BAD_PROVIDER);
}

static void loose_bits_at_the_end_of_a_signature_are_refused(void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	struct al_buf token;
	acctlink_error err;

	(void)state;
	al_buf_init(&token, 1024);
	sign_token(&token, p256, "ES256", "{\"alg\":\"ES256\",\"kid\":\"e\"}", PAYLOAD);
	assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_OK);
	/* 64 bytes are 86 digits, of which the last carries two bits. */
	token.data[token.len - 1] = *(strchr(alphabet, token.data[token.len - 1]) + 1);
	assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), ACCTLINK_BAD_PROVIDER);
	al_buf_clear(&token);
}

static void critical_extensions_are_refused_even_signed(void **state)
{
	static const char *const headers[] = { "{\"alg\":\"EdDSA\",\"crit\":[\"b64\"],\"b64\":false}",
		"{\"alg\":\"EdDSA\",\"crit\":[\"exp\"],\"exp\":1}", "{\"alg\":\"EdDSA\",\"crit\":[]}",
		"{\"alg\":\"EdDSA\",\"crit\":null}", "{\"alg\":\"EdDSA\",\"crit\":\"x\"}",
		"{\"alg\":\"EdDSA\",\"cr\\u0069t\":[\"x\"]}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(headers); i++)
		assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", headers[i]), ACCTLINK_BAD_PROVIDER);
	/* Without crit it is a name like any other and changes nothing. */
	assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"b64\":false}"), ACCTLINK_OK);
}

static void a_header_that_is_not_strict_json_is_refused(void **state)
{
	static const char *const headers[] = { "{\"alg\":\"none\",\"alg\":\"EdDSA\"}",
		"{\"alg\":\"EdDSA\",\"\\u0061lg\":\"none\"}", "{\"alg\":\"EdDSA\",\"kid\":\"o\",\"kid\":\"o\"}",
		"[\"EdDSA\"]", "\"EdDSA\"", "{'alg':'EdDSA'}", "{\"alg\":\"EdDSA\"} x", "{\"alg\":\"EdDSA\",}",
		"{\"alg\":\"EdDSA\\u0000\"}", "{\"alg\":\"EdDSA\",\"kid\":7}", "{\"alg\":\"EdDSA\",\"kid\":[\"o\"]}",
		"{\"alg\":\"EdDSA\",\"x\":NaN}", "x" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(headers); i++)
		assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", headers[i]), ACCTLINK_BAD_PROVIDER);
}

static void a_header_may_have_4096_bytes_and_no_more(void **state)
{
	char header[4098];
	static const char start[] = "{\"alg\":\"EdDSA\",\"x\":\"";

	(void)state;
	for (size_t len = 4096; len <= 4097; len++) {
		memset(header, 'x', len);
		memcpy(header, start, sizeof(start) - 1);
		memcpy(header + len - 2, "\"}", 3);
		assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", header),
			len == 4096 ? ACCTLINK_OK : ACCTLINK_BAD_PROVIDER);
	}
}

static void the_kid_chooses_the_key(void **state)
{
	struct al_jwks *nameless = keys_of_one(ed, "");
	struct al_jwks *others = keys_of(ed_other, ",\"kid\":\"1\"", ed, ",\"kid\":\"2\"", NULL, NULL);
	struct al_jwks *same_name = keys_of(rsa, ",\"kid\":\"1\"", ed_other, ",\"kid\":\"1\"", ed, ",\"kid\":\"1\"");

	(void)state;
	assert_int_equal(
		verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"2\"}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"1\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"3\"}"), AL_ABSENT);
	assert_int_equal(verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"\"}"), AL_ABSENT);
	assert_int_equal(verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"22\"}"), AL_ABSENT);
	assert_int_equal(verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(others, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":null}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(nameless, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"1\"}"), AL_ABSENT);
	assert_int_equal(verify_signed(nameless, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\"}"), ACCTLINK_OK);
	assert_int_equal(verify_signed(nameless, ALL_ALGS, ed_other, "EdDSA", "{\"alg\":\"EdDSA\"}"), AL_CONFLICT);
	assert_int_equal(
		verify_signed(same_name, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"1\"}"), ACCTLINK_OK);
	assert_int_equal(
		verify_signed(same_name, ALL_ALGS, rsa, "RS256", "{\"alg\":\"RS256\",\"kid\":\"1\"}"), ACCTLINK_OK);
	al_jwks_free(&same_name);
	al_jwks_free(&others);
	al_jwks_free(&nameless);
}

static void an_absent_key_is_told_with_the_kid_and_the_counts(void **state)
{
	struct al_jwks *keys = keys_of(ed, ",\"kid\":\"1\"", p256, ",\"use\":\"enc\"", NULL, NULL);
	struct al_buf token;
	acctlink_error err;

	(void)state;
	al_buf_init(&token, 1024);
	sign_token(&token, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"\\u001b2026\"}", PAYLOAD);
	assert_int_equal(verify_buf(keys, ALL_ALGS, &token, &err), AL_ABSENT);
	assert_string_equal(err.message,
		"the provider's JWKS has no EdDSA key for the token (kid \"?2026\"); "
		"of its keys 1 are usable, 1 are not");
	al_buf_clear(&token);
	al_jwks_free(&keys);
}

static void a_key_that_the_token_brings_along_is_not_used(void **state)
{
	struct al_buf header;

	(void)state;
	al_buf_init(&header, 4096);
	al_buf_puts(&header,
		"{\"alg\":\"EdDSA\",\"kid\":\"o\",\"jku\":\"https://evil.example/jwks\","
		"\"x5u\":\"https://evil.example/x5u\",\"jwk\":");
	put_jwk(&header, ed_other, ",\"kid\":\"o\"");
	al_buf_puts(&header, "}");
	assert_int_equal(verify_signed(all, ALL_ALGS, ed_other, "EdDSA", al_buf_text(&header)), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", al_buf_text(&header)), ACCTLINK_OK);
	al_buf_clear(&header);
}

/* A token whose signature is those bytes. */
static al_rc verify_with_signature(const char *header, const void *sig, size_t len, acctlink_error *err)
{
	struct al_buf token;
	al_rc rc;

	al_buf_init(&token, AL_TOKEN_MAX * 2);
	put_part(&token, header);
	put_part(&token, PAYLOAD);
	al_buf_puts(&token, ".");
	assert_true(al_base64url_put(&token, sig, len));
	rc = verify_buf(all, ALL_ALGS, &token, err);
	al_buf_clear(&token);
	return rc;
}

static void an_es256_signature_has_exactly_64_bytes(void **state)
{
	static const char header[] = "{\"alg\":\"ES256\",\"kid\":\"e\"}";
	static const unsigned char bytes[4096] = { 1, 2, 3 };
	static const size_t lengths[] = { 1, 32, 63, 65, 66, 70, 72, 96, 128, 132, 139, 1000, 1024, 1025, 4096 };
	struct al_buf text;
	struct al_buf der;
	acctlink_error err;

	(void)state;
	for (size_t i = 0; i < AL_COUNT(lengths); i++)
		assert_int_equal(verify_with_signature(header, bytes, lengths[i], &err), ACCTLINK_BAD_PROVIDER);
	/* What EVP itself makes, DER, is no JWS signature. */
	al_buf_init(&text, 1024);
	al_buf_init(&der, 1024);
	put_part(&text, header);
	put_part(&text, PAYLOAD);
	sign_raw(&der, p256, scheme_of("ES256"), &text);
	assert_int_equal(verify_with_signature(header, der.data, der.len, &err), ACCTLINK_BAD_PROVIDER);
	der_to_pair(&der);
	assert_int_equal(verify_with_signature(header, der.data, der.len, &err), ACCTLINK_OK);
	al_buf_clear(&der);
	al_buf_clear(&text);
}

static void es256_numbers_out_of_range_prove_nothing(void **state)
{
	static const char header[] = "{\"alg\":\"ES256\",\"kid\":\"e\"}";
	static const unsigned char order[32] = { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25,
		0x51 };
	unsigned char sig[64] = { 0 };
	acctlink_error err;

	(void)state;
	assert_int_equal(verify_with_signature(header, sig, 64, &err), AL_CONFLICT);
	sig[63] = 1;
	assert_int_equal(verify_with_signature(header, sig, 64, &err), AL_CONFLICT);
	memcpy(sig, order, 32);
	memcpy(sig + 32, order, 32);
	assert_int_equal(verify_with_signature(header, sig, 64, &err), AL_CONFLICT);
	memset(sig, 0xff, sizeof(sig));
	assert_int_equal(verify_with_signature(header, sig, 64, &err), AL_CONFLICT);
}

static void signatures_of_a_wrong_length_fail_for_each_key(void **state)
{
	static const char *const headers[] = { "{\"alg\":\"RS256\"}", "{\"alg\":\"PS256\"}", "{\"alg\":\"EdDSA\"}" };
	static const unsigned char bytes[1100] = { 0, 1, 2 };
	static const size_t lengths[] = { 1, 63, 64, 65, 255, 256, 257, 512, 1024 };
	acctlink_error err;

	(void)state;
	for (size_t i = 0; i < AL_COUNT(headers); i++) {
		for (size_t j = 0; j < AL_COUNT(lengths); j++)
			assert_int_equal(verify_with_signature(headers[i], bytes, lengths[j], &err), AL_CONFLICT);
		assert_int_equal(verify_with_signature(headers[i], bytes, 1025, &err), ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(err.message, "too long"));
	}
}

/* A PSS signature that begins with a zero byte can be written without it; two
 * spellings of one signature would make two tokens of one. Such a signature is
 * one in 256, so here is one that was made before, and its key. */
static void a_pss_signature_without_its_leading_zero_is_refused(void **state)
{
	static const char key
		[] = "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\""
		     "s3AB74ISum4grlWf4xZNqd8MdW-"
		     "Xch1cLGyXN1c67heuq2loqieyO6txIh9Ls7LVnUfSOM7GC57_5qWIj3mkJ_KMH_tHDKny8nn-wUgzSgyczh6-"
		     "W7cScEZ1arwHs8JU1blc1ykDLUhLSj8S_cHNRUVfxL5kpLvK8BTUqXOrsjHTbGtN9SIJXLzVeg_vPltOeow5F-DGuQX-kwqj"
		     "FjmT0DjxUONJc_qAAQv33X0xwcquPMJ3a5Qqd9fIpxJADG2UwHuFobgtQuAhujbfdpTUHBjAFWz37E29tD_LeGrX5XkvdNAF"
		     "qGwpuEJCu4Oi_rz-1RGkeBa8cjF_g94Yy80CyQ"
		     "\"}]}";
	static const char start[] = "eyJhbGciOiJQUzI1NiJ9.eyJzdWIiOiJtaWtvbW9fMSJ9.";
	static const char sig
		[] = "AHPciIYune_BAoKjwYaGRRkUamMeq_qZ8iKr9nU54kCmrAUb3DWMbKgu0xrUUG4Y16Vb1cOeMGZ26T0PYGJmwWoWARbIEOtd"
		     "RqDcSR-SJv_rDgwt0nSnX012SBoq1e7B-cmw1e5k_nNARCLIpDYn8bh4hTrUFTpi4Crr_UPd5r-"
		     "6StaRJXIEt9KXCLtLBaWiY4bvIPN_7qGPcOAy4WptGZYKj0MdffXV45LpTxIkI_3MTPvD_wq1VC1-"
		     "mBDGg8Ue1WJMXY43d8n9AFPIshVHSBkFXdveqYNK35Ge4NU1KEBeaZqtHDG_HuU1SgLOEQ4jA7knTfElkneVfiPu5cSU8A";
	struct al_jwks *keys = parse_keys(key);
	struct al_buf raw;
	struct al_buf token;
	acctlink_error err;

	(void)state;
	al_buf_init(&raw, 1024);
	al_buf_init(&token, 1024);
	assert_true(al_base64url_decode(&raw, sig, sizeof(sig) - 1));
	assert_int_equal(raw.data[0], 0);
	assert_true(al_buf_printf(&token, "%s%s", start, sig));
	assert_int_equal(verify_buf(keys, ALL_ALGS, &token, &err), ACCTLINK_OK);
	assert_true(al_buf_set(&token, start, sizeof(start) - 1));
	assert_true(al_base64url_put(&token, raw.data + 1, raw.len - 1));
	assert_int_equal(verify_buf(keys, ALL_ALGS, &token, &err), AL_CONFLICT);
	al_buf_clear(&token);
	al_buf_clear(&raw);
	al_jwks_free(&keys);
}

static void other_paddings_salts_and_digests_do_not_verify(void **state)
{
	static const struct scheme schemes[] = { { "SHA256", RSA_PKCS1_PSS_PADDING, 0, "SHA256" },
		{ "SHA256", RSA_PKCS1_PSS_PADDING, 20, "SHA256" }, { "SHA256", RSA_PKCS1_PSS_PADDING, 64, "SHA256" },
		{ "SHA256", RSA_PKCS1_PSS_PADDING, 32, "SHA1" }, { "SHA512", RSA_PKCS1_PSS_PADDING, 32, "SHA256" },
		{ "SHA1", RSA_PKCS1_PADDING, 0, NULL }, { "SHA512", RSA_PKCS1_PADDING, 0, NULL } };
	static const char *const headers[] = { "{\"alg\":\"PS256\",\"kid\":\"r\"}",
		"{\"alg\":\"RS256\",\"kid\":\"r\"}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(schemes) * 2; i++) {
		struct al_buf token;
		acctlink_error err;

		al_buf_init(&token, 4096);
		put_part(&token, headers[i % 2]);
		put_part(&token, PAYLOAD);
		sign_parts(&token, rsa, &schemes[i / 2]);
		assert_int_equal(verify_buf(all, ALL_ALGS, &token, &err), AL_CONFLICT);
		al_buf_clear(&token);
	}
}

static size_t count_keys(const char *list)
{
	struct al_buf text;
	struct al_jwks *jwks;
	size_t count;

	al_buf_init(&text, 65536);
	assert_true(al_buf_printf(&text, "{\"keys\":[%s]}", list));
	jwks = parse_keys(al_buf_text(&text));
	count = al_jwks_count(jwks);
	al_jwks_free(&jwks);
	al_buf_clear(&text);
	return count;
}

static size_t count_key(EVP_PKEY *key, const char *more)
{
	struct al_buf text;
	size_t count;

	al_buf_init(&text, 65536);
	put_jwk(&text, key, more);
	count = count_keys(al_buf_text(&text));
	al_buf_clear(&text);
	return count;
}

static void keys_for_other_purposes_are_left_out(void **state)
{
	static const char *const kept[] = { "", ",\"use\":\"sig\"", ",\"key_ops\":[\"verify\"]",
		",\"key_ops\":[\"sign\",\"verify\"]",
		",\"use\":\"sig\",\"key_ops\":[\"verify\"],\"alg\":\"EdDSA\",\"kid\":\"a\"",
		",\"use\":null,\"key_ops\":null,\"alg\":null,\"kid\":null", ",\"x5c\":[\"MIIB\"],\"x5t\":\"AA\"",
		",\"d\":\"AAAA\"", ",\"d\":17", ",\"unknown\":{\"a\":[]}" };
	static const char *const left_out[] = { ",\"use\":\"enc\"", ",\"use\":\"\"", ",\"use\":\"SIG\"", ",\"use\":1",
		",\"use\":[\"sig\"]", ",\"key_ops\":[]", ",\"key_ops\":[\"sign\"]",
		",\"key_ops\":[\"encrypt\",\"wrapKey\"]", ",\"key_ops\":\"verify\"", ",\"key_ops\":[[\"verify\"]]",
		",\"key_ops\":[\"Verify\"]", ",\"alg\":\"ECDH-ES\"", ",\"alg\":\"RS256\"", ",\"alg\":\"none\"",
		",\"alg\":\"\"", ",\"alg\":1", ",\"kid\":1", ",\"kid\":[]" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(kept); i++)
		assert_int_equal(count_key(ed, kept[i]), 1);
	for (size_t i = 0; i < AL_COUNT(left_out); i++)
		assert_int_equal(count_key(ed, left_out[i]), 0);
}

static void keys_of_other_kinds_are_left_out(void **state)
{
	EVP_PKEY *p384 = make_ec("P-384");
	EVP_PKEY *small = make_rsa(1024);
	static const char *const lists[] = { "{\"kty\":\"oct\",\"k\":\"AAAA\",\"alg\":\"HS256\"}",
		"{\"kty\":\"oct\",\"k\":\"\"}", "{}", "1", "null", "[]", "\"x\"",
		"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AAAA\"}", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}",
		"{\"kty\":\"OKP\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":5}", "{\"kty\":\"okp\",\"crv\":\"Ed25519\",\"x\":\"AA\"}",
		"{\"kty\":[\"RSA\"],\"n\":\"AA\",\"e\":\"AQAB\"}", "{\"kty\":\"RSA\"}",
		"{\"kty\":\"RSA\",\"alg\":\"RS256\"}", "{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"}",
		"{\"kty\":\"EC\",\"crv\":\"P-256\"}",
		"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AA\",\"y\":\"AA\"}" };

	(void)state;
	assert_int_equal(count_key(p384, ""), 0);
	assert_int_equal(count_key(p384, ",\"alg\":\"ES256\""), 0);
	assert_int_equal(count_key(small, ""), 0);
	for (size_t i = 0; i < AL_COUNT(lists); i++)
		assert_int_equal(count_keys(lists[i]), 0);
	EVP_PKEY_free(small);
	EVP_PKEY_free(p384);
}

static size_t count_rsa(size_t n_bytes, unsigned char first, unsigned char last, const char *e)
{
	struct al_buf list;
	unsigned char n[1100];
	size_t count;

	memset(n, 0x5a, sizeof(n));
	n[0] = first;
	n[n_bytes - 1] = last;
	al_buf_init(&list, 8192);
	al_buf_puts(&list, "{\"kty\":\"RSA\",\"n\":\"");
	al_base64url_put(&list, n, n_bytes);
	assert_true(al_buf_printf(&list, "\",\"e\":\"%s\"}", e));
	count = count_keys(al_buf_text(&list));
	al_buf_clear(&list);
	return count;
}

static void rsa_keys_are_taken_from_2048_to_8192_bits_with_a_sound_exponent(void **state)
{
	(void)state;
	assert_int_equal(count_rsa(256, 0x80, 1, "AQAB"), 1);
	assert_int_equal(count_rsa(256, 0x7f, 1, "AQAB"), 0); /* 2047 bits */
	assert_int_equal(count_rsa(257, 0x00, 1, "AQAB"), 0); /* a zero and 2047 bits */
	assert_int_equal(count_rsa(512, 0x00, 1, "AQAB"), 1); /* a leading zero does no harm */
	assert_int_equal(count_rsa(1024, 0xff, 1, "AQAB"), 1);
	assert_int_equal(count_rsa(1025, 0x00, 1, "AQAB"), 1);
	assert_int_equal(count_rsa(1025, 0x01, 1, "AQAB"), 0); /* 8193 bits */
	assert_int_equal(count_rsa(1026, 0x00, 1, "AQAB"), 0);
	assert_int_equal(count_rsa(256, 0x80, 2, "AQAB"), 0); /* even */
	assert_int_equal(count_rsa(256, 0x80, 1, "Aw"), 1);   /* 3 */
	assert_int_equal(count_rsa(256, 0x80, 1, "AQ"), 0);   /* 1: everyone could sign */
	assert_int_equal(count_rsa(256, 0x80, 1, "AAAAAQ"), 0);
	assert_int_equal(count_rsa(256, 0x80, 1, "AA"), 0);
	assert_int_equal(count_rsa(256, 0x80, 1, ""), 0);
	assert_int_equal(count_rsa(256, 0x80, 1, "AQAA"), 0);         /* 65536 */
	assert_int_equal(count_rsa(256, 0x80, 1, "AQAAAAAAAAAB"), 0); /* 9 bytes */
	assert_int_equal(count_rsa(256, 0x80, 1, "AQAB="), 0);
}

static void a_point_that_is_not_on_the_curve_is_left_out(void **state)
{
	static const char *const points[][2] = { { "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
							 "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
		{ "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4" },
		{ "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU" },
		{ "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" },
		{ "_____________________________________w", "_____________________________________w" },
		{ "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "" }, { "", "" },
		{ "AH_NzidsdsRdQYPL7m_bS3tYBzM1e-nvE7rPbjx70VRF", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" } };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(points); i++) {
		char list[256];

		(void)snprintf(list, sizeof(list), "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}",
			points[i][0], points[i][1]);
		assert_int_equal(count_keys(list), i == 0 ? 1 : 0);
	}
}

static void a_bad_key_does_not_spoil_its_neighbours(void **state)
{
	struct al_buf list;

	(void)state;
	al_buf_init(&list, 4096);
	al_buf_puts(&list, "null,{\"kty\":\"RSA\",\"n\":\"!\",\"e\":\"AQAB\",\"kid\":\"a\"},");
	put_jwk(&list, ed, ",\"kid\":\"a\"");
	al_buf_puts(&list, ",{\"kty\":\"oct\",\"k\":\"AA\"}");
	assert_int_equal(count_keys(al_buf_text(&list)), 1);
	al_buf_clear(&list);
}

static void at_most_64_keys_are_kept(void **state)
{
	struct al_buf list;

	(void)state;
	al_buf_init(&list, 65536);
	for (int i = 0; i < 70; i++) {
		al_buf_puts(&list, i > 0 ? "," : "");
		put_jwk(&list, ed, "");
	}
	assert_int_equal(count_keys(al_buf_text(&list)), 64);
	al_buf_clear(&list);
}

static void what_is_no_jwks_is_an_error(void **state)
{
	static const char *const texts[] = { "", "<html></html>", "[]", "{}", "{\"keys\":null}", "{\"keys\":{}}",
		"{\"keys\":\"x\"}", "{\"keys\":[}", "{\"keys\":[],\"keys\":[]}",
		"{\"keys\":[{\"kty\":\"oct\",\"kty\":\"RSA\"}]}", "{\"keys\":[]} x", "{\"KEYS\":[]}",
		"{\"error\":\"not_found\"}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		struct al_jwks *jwks = NULL;
		acctlink_error err;

		assert_int_equal(al_jwks_parse(texts[i], strlen(texts[i]), &jwks, &err), ACCTLINK_BAD_PROVIDER);
		assert_int_equal(err.status, ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(err.message, "JWKS"));
		assert_null(jwks);
		assert_int_equal(al_jwks_parse(texts[i], strlen(texts[i]), &jwks, NULL), ACCTLINK_BAD_PROVIDER);
	}
	assert_int_equal(count_keys(""), 0);
}

static void a_jwks_lives_until_its_last_reference_is_dropped(void **state)
{
	struct al_jwks *first = keys_of_one(ed, "");
	struct al_jwks *second = al_jwks_ref(first);
	struct al_jwks *none = NULL;

	(void)state;
	assert_ptr_equal(first, second);
	al_jwks_free(&first);
	assert_null(first);
	assert_int_equal(verify_signed(second, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\"}"), ACCTLINK_OK);
	al_jwks_free(&second);
	assert_null(second);
	al_jwks_free(&none);
	assert_null(al_jwks_ref(NULL));
}

static void half_hash(const char *header, const char *of, char *out, size_t cap)
{
	struct al_buf token;
	struct al_buf text;
	struct al_buf hash;

	al_buf_init(&token, 1024);
	al_buf_init(&text, 1024);
	al_buf_init(&hash, 128);
	put_part(&token, header);
	al_buf_puts(&token, ".e30.AAAA");
	al_buf_puts(&text, of);
	assert_int_equal(al_jws_half_hash(&token, &text, &hash, NULL), ACCTLINK_OK);
	(void)snprintf(out, cap, "%s", al_buf_text(&hash));
	al_buf_clear(&hash);
	al_buf_clear(&text);
	al_buf_clear(&token);
}

/* The first is the example of OpenID Connect Core, appendix A.3. */
static void half_hashes_are_those_of_the_algorithm(void **state)
{
	static const char token[] = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
	static const char *const short_hash[] = { "RS256", "PS256", "ES256" };
	static const char *const long_hash[] = { "EdDSA", "Ed25519" };
	char header[64];
	char out[64];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(short_hash); i++) {
		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", short_hash[i]);
		half_hash(header, token, out, sizeof(out));
		assert_string_equal(out, "77QmUPtjPfzWtF2AnpK9RQ");
	}
	for (size_t i = 0; i < AL_COUNT(long_hash); i++) {
		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", long_hash[i]);
		half_hash(header, token, out, sizeof(out));
		assert_string_equal(out, "q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM");
	}
}

static void a_half_hash_of_a_broken_token_is_an_error(void **state)
{
	struct al_buf token;
	struct al_buf hash;
	acctlink_error err;

	(void)state;
	al_buf_init(&token, 64);
	al_buf_init(&hash, 64);
	al_buf_puts(&token, "e30.e30.AAAA");
	assert_int_equal(al_jws_half_hash(&token, &token, &hash, &err), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(hash.len, 0);
	al_buf_clear(&token);
}

static void names_become_bits_and_unknown_ones_nothing(void **state)
{
	(void)state;
	assert_int_equal(al_alg_from_name("RS256"), AL_ALG_RS256);
	assert_int_equal(al_alg_from_name("Ed25519"), AL_ALG_EDDSA);
	assert_int_equal(al_alg_from_name("  RS256   PS256 ES256 EdDSA "), ALL_ALGS);
	assert_int_equal(al_alg_from_name("none HS256 RS512 rs256 RS2566 RS25"), 0);
	assert_int_equal(al_alg_from_name("HS256 ES256"), AL_ALG_ES256);
	assert_int_equal(al_alg_from_name(""), 0);
}

/* OpenSSL's queue of errors is per thread and shared with the host's TLS. */
static void the_error_queue_of_the_host_is_left_as_it_was(void **state)
{
	acctlink_error err;

	(void)state;
	ERR_clear_error();
	assert_int_equal(verify_signed(all, ALL_ALGS, ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"r\"}"), AL_CONFLICT);
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "PS256", "{\"alg\":\"RS256\"}"), AL_CONFLICT);
	assert_int_equal(
		count_keys("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
			   "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"),
		0);
	assert_int_equal(verify_text(all, "a.b.c", &err), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(ERR_peek_error(), 0);
	ERR_raise(ERR_LIB_USER, 42);
	assert_int_equal(verify_signed(all, ALL_ALGS, rsa, "PS256", "{\"alg\":\"RS256\"}"), AL_CONFLICT);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), 42);
	assert_int_equal(ERR_peek_error(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_of_all_four_algorithms_verify),
		cmocka_unit_test(published_examples_verify),
		cmocka_unit_test(a_changed_or_cut_token_never_verifies),
		cmocka_unit_test(a_payload_of_another_token_is_a_conflict_with_the_key),
		cmocka_unit_test(only_the_algorithms_that_the_caller_names_are_taken),
		cmocka_unit_test(unsigned_and_unknown_algorithms_are_refused),
		cmocka_unit_test(hmac_over_the_public_key_is_refused),
		cmocka_unit_test(an_algorithm_is_bound_to_its_kind_of_key),
		cmocka_unit_test(a_key_marked_for_one_algorithm_serves_no_other),
		cmocka_unit_test(anything_but_three_parts_is_refused_with_its_reason),
		cmocka_unit_test(only_canonical_base64url_is_taken),
		cmocka_unit_test(loose_bits_at_the_end_of_a_signature_are_refused),
		cmocka_unit_test(critical_extensions_are_refused_even_signed),
		cmocka_unit_test(a_header_that_is_not_strict_json_is_refused),
		cmocka_unit_test(a_header_may_have_4096_bytes_and_no_more),
		cmocka_unit_test(the_kid_chooses_the_key),
		cmocka_unit_test(an_absent_key_is_told_with_the_kid_and_the_counts),
		cmocka_unit_test(a_key_that_the_token_brings_along_is_not_used),
		cmocka_unit_test(an_es256_signature_has_exactly_64_bytes),
		cmocka_unit_test(es256_numbers_out_of_range_prove_nothing),
		cmocka_unit_test(signatures_of_a_wrong_length_fail_for_each_key),
		cmocka_unit_test(a_pss_signature_without_its_leading_zero_is_refused),
		cmocka_unit_test(other_paddings_salts_and_digests_do_not_verify),
		cmocka_unit_test(keys_for_other_purposes_are_left_out),
		cmocka_unit_test(keys_of_other_kinds_are_left_out),
		cmocka_unit_test(rsa_keys_are_taken_from_2048_to_8192_bits_with_a_sound_exponent),
		cmocka_unit_test(a_point_that_is_not_on_the_curve_is_left_out),
		cmocka_unit_test(a_bad_key_does_not_spoil_its_neighbours),
		cmocka_unit_test(at_most_64_keys_are_kept),
		cmocka_unit_test(what_is_no_jwks_is_an_error),
		cmocka_unit_test(a_jwks_lives_until_its_last_reference_is_dropped),
		cmocka_unit_test(half_hashes_are_those_of_the_algorithm),
		cmocka_unit_test(a_half_hash_of_a_broken_token_is_an_error),
		cmocka_unit_test(names_become_bits_and_unknown_ones_nothing),
		cmocka_unit_test(the_error_queue_of_the_host_is_left_as_it_was),
	};

	return cmocka_run_group_tests_name("jose", tests, make_keys, drop_keys);
}
