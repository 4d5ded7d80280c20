/* SPDX-License-Identifier: MIT
 * JWS verification (RFC 7515) with public keys from a JWKS (RFC 7517, 7518,
 * 8037) on OpenSSL's EVP. The caller names the algorithms, the token only
 * chooses among them; each is bound to its kind of key, and there are no
 * symmetric ones. Keys in a token's header (jwk, jku, x5c) are never looked at.
 * A JWKS is immutable and may be used by any number of threads; OpenSSL's error
 * queue, which is the host's as well, is left as it was found.
 */
#include "provider/provider_int.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEADER_MAX = 4096,
	KEYS_MAX = 64,
	RSA_MIN_BITS = 2048,
	RSA_MAX_BITS = 8192,
	RSA_MAX_EXPONENT = 8, /* bytes */
	EC_FIELD = 32,        /* bytes of a P-256 coordinate */
	ED_KEY = 32,
	SIGNATURE_MAX = RSA_MAX_BITS / 8
};

struct alg {
	const char *name;
	unsigned bit;
	const char *hash; /* of at_hash; Ed25519 hashes with SHA-512 inside */
};

static const struct alg known_algs[] = {
	{ "RS256", AL_ALG_RS256, "SHA256" }, { "PS256", AL_ALG_PS256, "SHA256" }, { "ES256", AL_ALG_ES256, "SHA256" },
	{ "EdDSA", AL_ALG_EDDSA, "SHA512" }, { "Ed25519", AL_ALG_EDDSA, "SHA512" } /* RFC 9864 */
};

struct al_jwk {
	char *kid;     /* NULL: none */
	unsigned algs; /* what it may verify */
	EVP_PKEY *key;
};

struct al_jwks {
	atomic_int refs;
	size_t count;
	size_t left_out;
	struct al_jwk keys[KEYS_MAX];
};

static const struct alg *find_alg(const char *name, size_t len)
{
	for (size_t i = 0; i < AL_COUNT(known_algs); i++) {
		if (strlen(known_algs[i].name) == len && memcmp(known_algs[i].name, name, len) == 0)
			return &known_algs[i];
	}
	return NULL;
}

unsigned al_alg_from_name(const char *name)
{
	unsigned bits = 0;

	while (*name != '\0') {
		size_t len = strcspn(name, " ");
		const struct alg *alg = find_alg(name, len);

		if (alg != NULL)
			bits |= alg->bit;
		name += len;
		name += strspn(name, " ");
	}
	return bits;
}

/* ---- JWK ------------------------------------------------------------------- */

static bool read_binary(struct json_object *jwk, const char *name, size_t max, struct al_buf *out)
{
	size_t len = 0;
	const char *text = al_json_string(jwk, name, &len);

	al_buf_init(out, max);
	return text != NULL && al_base64url_decode(out, text, len);
}

static EVP_PKEY *key_from_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *key = NULL;

	if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		(void)EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static EVP_PKEY *rsa_from_numbers(const BIGNUM *n, const BIGNUM *e)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (bld != NULL && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1
		&& OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		params = OSSL_PARAM_BLD_to_param(bld);
	if (params != NULL)
		key = key_from_params("RSA", params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	return key;
}

/* With an exponent of 1 anyone can sign. */
static bool rsa_is_sound(const BIGNUM *n, const BIGNUM *e)
{
	int bits = BN_num_bits(n);

	return bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS && BN_is_odd(n) && BN_is_odd(e) && !BN_is_one(e);
}

static EVP_PKEY *import_rsa(struct json_object *jwk)
{
	struct al_buf raw_n;
	struct al_buf raw_e;
	BIGNUM *n = NULL;
	BIGNUM *e = NULL;
	EVP_PKEY *key = NULL;

	/* One byte more than needed: a leading zero is common. */
	if (read_binary(jwk, "n", RSA_MAX_BITS / 8 + 1, &raw_n))
		n = BN_bin2bn((const unsigned char *)al_buf_text(&raw_n), (int)raw_n.len, NULL);
	if (read_binary(jwk, "e", RSA_MAX_EXPONENT, &raw_e))
		e = BN_bin2bn((const unsigned char *)al_buf_text(&raw_e), (int)raw_e.len, NULL);
	if (n != NULL && e != NULL && rsa_is_sound(n, e))
		key = rsa_from_numbers(n, e);
	BN_free(n);
	BN_free(e);
	al_buf_clear(&raw_n);
	al_buf_clear(&raw_e);
	return key;
}

/* The import refuses a point that is not on the curve. */
static EVP_PKEY *import_p256(struct json_object *jwk)
{
	char group[] = "P-256";
	unsigned char point[1 + 2 * EC_FIELD] = { POINT_CONVERSION_UNCOMPRESSED };
	struct al_buf x;
	struct al_buf y;
	bool good = read_binary(jwk, "x", EC_FIELD, &x);
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
		OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
		OSSL_PARAM_construct_end() };

	good = read_binary(jwk, "y", EC_FIELD, &y) && good && x.len == EC_FIELD && y.len == EC_FIELD;
	if (good) {
		memcpy(point + 1, x.data, EC_FIELD);
		memcpy(point + 1 + EC_FIELD, y.data, EC_FIELD);
	}
	al_buf_clear(&x);
	al_buf_clear(&y);
	return good ? key_from_params("EC", params) : NULL;
}

static EVP_PKEY *import_ed25519(struct json_object *jwk)
{
	struct al_buf x;
	EVP_PKEY *key = NULL;

	if (read_binary(jwk, "x", ED_KEY, &x) && x.len == ED_KEY)
		key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)x.data, x.len);
	al_buf_clear(&x);
	return key;
}

struct key_kind {
	const char *kty;
	const char *crv; /* NULL: the kind has none */
	unsigned algs;
	EVP_PKEY *(*import)(struct json_object *jwk);
};

static const struct key_kind key_kinds[] = { { "RSA", NULL, AL_ALG_RS256 | AL_ALG_PS256, import_rsa },
	{ "EC", "P-256", AL_ALG_ES256, import_p256 }, { "OKP", "Ed25519", AL_ALG_EDDSA, import_ed25519 } };

static const struct key_kind *find_kind(struct json_object *jwk)
{
	const char *kty = al_json_string(jwk, "kty", NULL);
	const char *crv = al_json_string(jwk, "crv", NULL);

	for (size_t i = 0; kty != NULL && i < AL_COUNT(key_kinds); i++) {
		const struct key_kind *kind = &key_kinds[i];

		if (strcmp(kind->kty, kty) == 0 && (kind->crv == NULL || (crv != NULL && strcmp(kind->crv, crv) == 0)))
			return kind;
	}
	return NULL;
}

static bool may_verify(struct json_object *ops)
{
	if (!json_object_is_type(ops, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(ops); i++) {
		struct json_object *op = json_object_array_get_idx(ops, i);

		if (json_object_is_type(op, json_type_string) && strcmp(json_object_get_string(op), "verify") == 0)
			return true;
	}
	return false;
}

/* NULL as well for null, which some writers leave where they have nothing to say. */
static struct json_object *member(struct json_object *object, const char *name)
{
	struct json_object *value = NULL;

	(void)json_object_object_get_ex(object, name, &value);
	return value;
}

/* False only for a member that is there and is no string. */
static bool optional_text(struct json_object *object, const char *name, const char **text)
{
	*text = al_json_string(object, name, NULL);
	return *text != NULL || member(object, name) == NULL;
}

/* RFC 7517, 4.2 to 4.4: what the key says that it is for. */
static unsigned usable_algs(struct json_object *jwk, unsigned algs)
{
	struct json_object *ops = member(jwk, "key_ops");
	const char *use;
	const char *name;
	const struct alg *alg;

	if (!optional_text(jwk, "use", &use) || (use != NULL && strcmp(use, "sig") != 0))
		return 0;
	if ((ops != NULL && !may_verify(ops)) || !optional_text(jwk, "alg", &name))
		return 0;
	if (name == NULL)
		return algs;
	alg = find_alg(name, strlen(name));
	return alg == NULL ? 0 : algs & alg->bit;
}

/* False: no memory. A key without `key` was not usable. Private members of a
 * key that should never have been published are not looked at. */
static bool read_jwk(struct json_object *jwk, struct al_jwk *out)
{
	const struct key_kind *kind = find_kind(jwk);
	const char *kid;

	memset(out, 0, sizeof(*out));
	if (kind == NULL || !optional_text(jwk, "kid", &kid))
		return true;
	out->algs = usable_algs(jwk, kind->algs);
	if (out->algs != 0)
		out->key = kind->import(jwk);
	if (out->key == NULL || kid == NULL)
		return true;
	out->kid = al_dup(kid);
	return out->kid != NULL;
}

static bool read_jwk_list(struct json_object *list, struct al_jwks *jwks)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *jwk = json_object_array_get_idx(list, i);
		struct al_jwk *next = &jwks->keys[jwks->count];

		if (jwks->count == KEYS_MAX || !json_object_is_type(jwk, json_type_object)) {
			jwks->left_out++;
			continue;
		}
		if (!read_jwk(jwk, next)) {
			EVP_PKEY_free(next->key);
			return false;
		}
		if (next->key != NULL)
			jwks->count++;
		else
			jwks->left_out++;
	}
	return true;
}

static al_rc jwks_from_list(struct json_object *list, struct al_jwks **out, acctlink_error *err)
{
	struct al_jwks *jwks = al_new(sizeof(*jwks));
	bool done;

	if (jwks == NULL)
		return al_fail_memory(err);
	atomic_init(&jwks->refs, 1);
	(void)ERR_set_mark();
	done = read_jwk_list(list, jwks);
	(void)ERR_pop_to_mark();
	if (!done) {
		al_jwks_free(&jwks);
		return al_fail_memory(err);
	}
	*out = jwks;
	return ACCTLINK_OK;
}

al_rc al_jwks_parse(const char *text, size_t len, struct al_jwks **out, acctlink_error *err)
{
	struct json_object *list;
	struct json_object *set;
	acctlink_error why;
	al_rc rc;

	set = al_json_parse(text, len, &why);
	if (set == NULL)
		return al_fail(err, why.status, NULL, "the JWKS can't be read: %.400s", why.message);
	list = member(set, "keys");
	if (json_object_is_type(list, json_type_array))
		rc = jwks_from_list(list, out, err);
	else
		rc = al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"the JWKS has no list named keys (RFC 7517, 5): check jwks_uri");
	al_json_free(&set);
	return rc;
}

struct al_jwks *al_jwks_ref(struct al_jwks *jwks)
{
	if (jwks != NULL)
		atomic_fetch_add_explicit(&jwks->refs, 1, memory_order_relaxed);
	return jwks;
}

void al_jwks_free(struct al_jwks **jwks)
{
	struct al_jwks *gone = *jwks;

	*jwks = NULL;
	if (gone == NULL || atomic_fetch_sub_explicit(&gone->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < gone->count; i++) {
		al_free_text(&gone->keys[i].kid);
		EVP_PKEY_free(gone->keys[i].key);
	}
	free(gone);
}

size_t al_jwks_count(const struct al_jwks *jwks)
{
	return jwks->count;
}

/* ---- JWS ------------------------------------------------------------------- */

struct jws {
	acctlink_str header; /* the three parts, still encoded */
	acctlink_str payload;
	acctlink_str signature;
	acctlink_str signed_part;
	const struct alg *alg;
	char *kid;         /* NULL: none */
	struct al_buf raw; /* the signature as EVP takes it */
};

static al_rc refuse(acctlink_error *err, const char *what)
{
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL, "the token is refused: %s", what);
}

/* RFC 7515, 7.1. */
/* A part that did not go into its buffer. */
static al_rc no_room(const acctlink_str *encoded, size_t max, const char *what, acctlink_error *err)
{
	return encoded->len * 3 / 4 > max ? refuse(err, what) : al_fail_memory(err);
}

static al_rc split(struct jws *jws, const struct al_buf *token, acctlink_error *err)
{
	const char *text = al_buf_text(token);
	const char *end = text + token->len;
	const char *dot[2] = { NULL, NULL };
	size_t dots = 0;

	for (const char *at = text; at < end; at++) {
		if (*at == '.' && dots++ < 2)
			dot[dots - 1] = at;
	}
	if (*text == '{')
		return refuse(err, "JSON serialization of a JWS; only the compact one is supported");
	if (dots == 4)
		return refuse(err, "it is encrypted (JWE); ask the provider for signed id_tokens");
	if (dots != 2)
		return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"the token is refused: a signed token has 3 parts, this one has %zu", dots + 1);
	jws->header = (acctlink_str){ text, (size_t)(dot[0] - text) };
	jws->payload = (acctlink_str){ dot[0] + 1, (size_t)(dot[1] - dot[0] - 1) };
	jws->signature = (acctlink_str){ dot[1] + 1, (size_t)(end - dot[1] - 1) };
	jws->signed_part = (acctlink_str){ text, (size_t)(dot[1] - text) };
	return ACCTLINK_OK;
}

static al_rc choose_alg(struct jws *jws, struct json_object *header, acctlink_error *err)
{
	char shown[32];
	size_t len = 0;
	const char *name = al_json_string(header, "alg", &len);

	if (name == NULL)
		return refuse(err, "its header has no alg");
	jws->alg = find_alg(name, len);
	if (jws->alg != NULL)
		return ACCTLINK_OK;
	if (al_may_quote_secret(name, len, NULL, 0))
		return refuse(err, "its alg is none at all");
	al_copy_printable(shown, sizeof(shown), name, len);
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
		"the token is refused: alg %s is not "
		"supported (RS256, PS256, ES256, EdDSA are)",
		shown);
}

static al_rc read_header_members(struct jws *jws, struct json_object *header, acctlink_error *err)
{
	const char *kid;

	/* RFC 7515, 4.1.11: what is critical must be understood, and nothing is. */
	if (json_object_object_get_ex(header, "crit", NULL))
		return refuse(err, "its header has crit, and no extension is supported");
	if (!optional_text(header, "kid", &kid))
		return refuse(err, "the kid of its header is not a string");
	jws->kid = kid == NULL ? NULL : al_dup(kid);
	if (kid != NULL && jws->kid == NULL)
		return al_fail_memory(err);
	return choose_alg(jws, header, err);
}

static al_rc read_header(struct jws *jws, const struct al_buf *token, acctlink_error *err)
{
	struct json_object *header = NULL;
	struct al_buf text;
	acctlink_error why;
	al_rc rc = split(jws, token, err);

	if (rc != ACCTLINK_OK)
		return rc;
	al_buf_init(&text, HEADER_MAX);
	if (!al_base64url_decode(&text, jws->header.data, jws->header.len)) {
		rc = text.failed ? no_room(&jws->header, HEADER_MAX, "its header is longer than 4 KiB", err)
				 : refuse(err, "its header is not base64url");
		goto out;
	}
	header = al_json_parse(al_buf_text(&text), text.len, &why);
	if (header == NULL)
		rc = al_fail(err, why.status, NULL, "the header of the token is %.400s", why.message);
	else
		rc = read_header_members(jws, header, err);
out:
	al_json_free(&header);
	al_buf_clear(&text);
	return rc;
}

static void clear_jws(struct jws *jws)
{
	al_free_text(&jws->kid);
	al_buf_clear(&jws->raw);
}

/* RFC 7518, 3.4: r and s side by side, 32 bytes each; EVP wants DER. */
static al_rc ecdsa_to_der(struct al_buf *raw, acctlink_error *err)
{
	const unsigned char *pair = (const unsigned char *)raw->data;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(pair, EC_FIELD, NULL);
	BIGNUM *s = BN_bin2bn(pair + EC_FIELD, EC_FIELD, NULL);
	unsigned char *der = NULL;
	int len = -1;

	if (sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
		r = NULL; /* sig owns both now */
		s = NULL;
		len = i2d_ECDSA_SIG(sig, &der);
	}
	if (len > 0 && !al_buf_set(raw, der, (size_t)len))
		len = -1;
	OPENSSL_free(der);
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return len > 0 ? ACCTLINK_OK : al_fail_memory(err);
}

static al_rc read_signature(struct jws *jws, acctlink_error *err)
{
	al_buf_init(&jws->raw, SIGNATURE_MAX);
	if (jws->signature.len == 0)
		return refuse(err, "it is not signed");
	if (!al_base64url_decode(&jws->raw, jws->signature.data, jws->signature.len))
		return jws->raw.failed ? no_room(&jws->signature, SIGNATURE_MAX, "its signature is too long", err)
				       : refuse(err, "its signature is not base64url");
	/* Before anything is built of it: longer ones have overflowed elsewhere. */
	if (jws->alg->bit == AL_ALG_ES256 && jws->raw.len != (size_t)2 * EC_FIELD)
		return refuse(err, "an ES256 signature has 64 bytes, this one has not");
	return jws->alg->bit == AL_ALG_ES256 ? ecdsa_to_der(&jws->raw, err) : ACCTLINK_OK;
}

static bool set_padding(EVP_PKEY_CTX *ctx, unsigned alg)
{
	if (alg == AL_ALG_RS256)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
	if (alg == AL_ALG_PS256)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1
			&& EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, "SHA256", NULL) == 1
			&& EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	return true;
}

/* The oldest error tells the cause, the newest may; this thread is the plugin's own. */
static bool ran_out_of_memory(void)
{
	return ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE
		|| ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
}

/* CONFLICT: the signature is another key's, or nobody's. */
static al_rc verify_with(EVP_PKEY *key, const struct jws *jws, acctlink_error *err)
{
	unsigned alg = jws->alg->bit;
	bool is_rsa = alg == AL_ALG_RS256 || alg == AL_ALG_PS256;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx = NULL; /* md's */
	al_rc rc = AL_CONFLICT;

	if (md == NULL
		|| EVP_DigestVerifyInit_ex(md, &ctx, alg == AL_ALG_EDDSA ? NULL : "SHA256", NULL, NULL, key, NULL) != 1
		|| !set_padding(ctx, alg))
		rc = al_fail(err, ACCTLINK_INTERNAL, NULL, "OpenSSL could not begin to check a signature (%s)",
			jws->alg->name);
	/* OpenSSL takes a PSS signature with its leading zeros cut off. */
	else if ((!is_rsa || (int)jws->raw.len == EVP_PKEY_get_size(key))
		&& EVP_DigestVerify(md, (const unsigned char *)jws->raw.data, jws->raw.len,
			   (const unsigned char *)jws->signed_part.data, jws->signed_part.len)
			== 1)
		rc = ACCTLINK_OK;
	else if (ran_out_of_memory())
		rc = al_fail_memory(err);
	EVP_MD_CTX_free(md);
	return rc;
}

static al_rc no_key(const struct al_jwks *keys, const struct jws *jws, bool named, bool tried, acctlink_error *err)
{
	char kid[64] = "";

	if (jws->kid != NULL)
		al_copy_printable(kid, sizeof(kid), jws->kid, strlen(jws->kid));
	if (tried) {
		(void)al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"the %s signature of the token does not "
			"verify with the provider's key (kid \"%s\")",
			jws->alg->name, kid);
		return AL_CONFLICT;
	}
	if (named) {
		(void)al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"the token is signed with %s, for which "
			"the provider's key \"%s\" is not meant",
			jws->alg->name, kid);
		return AL_CONFLICT;
	}
	(void)al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
		"the provider's JWKS has no %s key for the token "
		"(kid \"%s\"); of its keys %zu are usable, %zu are not",
		jws->alg->name, kid, keys->count, keys->left_out);
	return AL_ABSENT;
}

static al_rc try_keys(const struct al_jwks *keys, const struct jws *jws, acctlink_error *err)
{
	bool named = false;
	bool tried = false;
	al_rc rc;

	for (size_t i = 0; i < keys->count; i++) {
		const struct al_jwk *jwk = &keys->keys[i];

		if (jws->kid != NULL && (jwk->kid == NULL || strcmp(jwk->kid, jws->kid) != 0))
			continue;
		named = named || jws->kid != NULL;
		if ((jwk->algs & jws->alg->bit) == 0)
			continue;
		tried = true;
		rc = verify_with(jwk->key, jws, err);
		if (rc != AL_CONFLICT)
			return rc;
	}
	return no_key(keys, jws, named, tried, err);
}

static al_rc check_alg_allowed(const struct jws *jws, unsigned algs, acctlink_error *err)
{
	if ((jws->alg->bit & algs) != 0)
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
		"the token is refused: it is signed with %s, "
		"which neither the config nor the metadata allows",
		jws->alg->name);
}

al_rc al_jws_verify(const struct al_jwks *keys, unsigned algs, const struct al_buf *token, struct al_buf *payload,
	acctlink_error *err)
{
	struct jws jws = { 0 };
	al_rc rc;

	al_buf_clear(payload);
	(void)ERR_set_mark();
	rc = read_header(&jws, token, err);
	if (rc == ACCTLINK_OK)
		rc = check_alg_allowed(&jws, algs, err);
	if (rc == ACCTLINK_OK)
		rc = read_signature(&jws, err);
	if (rc == ACCTLINK_OK)
		rc = try_keys(keys, &jws, err);
	if (rc == ACCTLINK_OK && !al_base64url_decode(payload, jws.payload.data, jws.payload.len)) {
		rc = payload->failed ? al_fail_memory(err) : refuse(err, "its payload is not base64url");
		al_buf_clear(payload);
	}
	(void)ERR_pop_to_mark();
	clear_jws(&jws);
	return rc;
}

al_rc al_jws_half_hash(const struct al_buf *token, const struct al_buf *of, struct al_buf *out, acctlink_error *err)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	size_t len = 0;
	struct jws jws = { 0 };
	al_rc rc = read_header(&jws, token, err);

	al_buf_clear(out);
	(void)ERR_set_mark();
	if (rc == ACCTLINK_OK /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a header that was read has an alg */
		&& EVP_Q_digest(NULL, jws.alg->hash, NULL, al_buf_text(of), of->len, hash, &len) != 1)
		rc = al_fail(err, ACCTLINK_INTERNAL, NULL, "OpenSSL has no %s", jws.alg->hash);
	(void)ERR_pop_to_mark();
	if (rc == ACCTLINK_OK && !al_base64url_put(out, hash, len / 2))
		rc = al_fail_memory(err);
	al_wipe(hash, sizeof(hash));
	clear_jws(&jws);
	return rc;
}
