/* SPDX-License-Identifier: MIT
 * Checks an id_token by OpenID Connect Core 3.1.3.7 (from a consent) and 12.2
 * (from a refresh). Does no I/O: keys come from what metadata.c last fetched.
 * The tolerance for clocks is for these checks only; claims hold the raw times.
 * Errors show issuers, clients and times, never a subject, nonce or token.
 * The provider's lock is held to take the keys, never while verifying.
 */
#include "provider/provider_int.h"

#include <inttypes.h>
#include <string.h>

#define SUBJECT_MAX ((size_t)1024)
/* The last second of the year 9999; milliseconds by mistake are far beyond. */
#define TIME_MAX INT64_C(253402300799)
/* A first token was issued a moment ago, for this very exchange. */
#define FIRST_TOKEN_AGE_MAX_MS INT64_C(3600000)

struct check {
	struct json_object *json;
	const struct al_provider_config *config;
	const struct al_id_expect *expect;
	const struct al_buf *token;
	int64_t wall_ms;
	struct al_id_claims *claims;
};

void al_id_claims_init(struct al_id_claims *claims)
{
	memset(claims, 0, sizeof(*claims));
	al_buf_init(&claims->subject, SUBJECT_MAX);
}

void al_id_claims_clear(struct al_id_claims *claims)
{
	al_buf_clear(&claims->subject);
	al_id_claims_init(claims);
}

static al_rc refuse(acctlink_error *err, const char *what)
{
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL, "id_token refused: %s", what);
}

/* ---- reading claims -------------------------------------------------------- */

/* NULL for absent and for null. */
static struct json_object *claim(const struct check *c, const char *name)
{
	struct json_object *value = NULL;

	(void)json_object_object_get_ex(c->json, name, &value);
	return value;
}

/* NumericDate (RFC 7519, 2): seconds, a fraction is allowed and dropped. */
static bool read_time(struct json_object *json, const char *name, int64_t *out)
{
	struct json_object *value = NULL;
	double number;

	if (!al_json_int(json, name, false, out)) {
		if (!json_object_object_get_ex(json, name, &value) || !json_object_is_type(value, json_type_double))
			return false;
		number = json_object_get_double(value);
		if (!(number >= 0 && number <= (double)TIME_MAX))
			return false;
		*out = (int64_t)number;
	}
	return *out >= 0 && *out <= TIME_MAX;
}

/* 0 if absent and not required. */
static al_rc time_claim(const struct check *c, const char *name, bool required, int64_t *out, acctlink_error *err)
{
	*out = 0;
	if (claim(c, name) == NULL)
		return required ? al_fail(err, ACCTLINK_BAD_PROVIDER, NULL, "id_token refused: %s is missing", name)
				: ACCTLINK_OK;
	if (!read_time(c->json, name, out))
		return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"id_token refused: %s is no number of seconds between 1970 and 9999", name);
	return ACCTLINK_OK;
}

/* Both times are shown, for one of the two clocks is wrong. */
static al_rc refuse_time(const struct check *c, const char *name, int64_t value, const char *what, acctlink_error *err)
{
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
		"id_token refused: %s (%s %" PRId64 ", our clock %" PRId64 ", clock_skew %" PRId64
		" s): check this machine's clock",
		what, name, value, c->wall_ms / 1000, c->config->clock_skew_ms / 1000);
}

static bool texts_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && al_equal(a, b, a_len);
}

/* ---- the rules, in the order of 3.1.3.7 ------------------------------------ */

static al_rc check_issuer(const struct check *c, acctlink_error *err)
{
	char shown[160] = "";
	size_t len = 0;
	const char *iss = al_json_string(c->json, "iss", &len);

	if (c->config->issuer == NULL)
		return refuse(err, "the config names no issuer for this provider");
	if (iss == NULL)
		return refuse(err, "iss is missing or not a string");
	if (strcmp(iss, c->config->issuer) == 0)
		return ACCTLINK_OK;
	al_copy_printable(shown, sizeof(shown), iss, len);
	return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
		"id_token refused: iss is \"%s\", the configured "
		"issuer is \"%.160s\"; they must match to the byte",
		shown, c->config->issuer);
}

/* False if one of the list is not a string. */
static bool read_audience(const struct check *c, struct json_object *aud, bool *ours, bool *others)
{
	bool is_list = json_object_is_type(aud, json_type_array);
	size_t count = is_list ? json_object_array_length(aud) : 1;

	*ours = *others = false;
	for (size_t i = 0; i < count; i++) {
		struct json_object *one = is_list ? json_object_array_get_idx(aud, i) : aud;

		if (!json_object_is_type(one, json_type_string))
			return false;
		if (strcmp(json_object_get_string(one), c->config->client_id) == 0)
			*ours = true;
		else
			*others = true;
	}
	return true;
}

static al_rc check_audience(const struct check *c, acctlink_error *err)
{
	char shown[160] = "";
	size_t len = 0;
	const char *azp = al_json_string(c->json, "azp", &len);
	bool ours;
	bool others;

	if (!read_audience(c, claim(c, "aud"), &ours, &others))
		return refuse(err, "aud is neither a string nor a list of strings");
	if (!ours)
		return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"id_token refused: aud does not contain our client_id \"%.160s\"", c->config->client_id);
	if (azp == NULL && claim(c, "azp") != NULL)
		return refuse(err, "azp is not a string");
	if (azp != NULL && strcmp(azp, c->config->client_id) != 0) {
		al_copy_printable(shown, sizeof(shown), azp, len);
		return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"id_token refused: azp is \"%s\", our "
			"client_id is \"%.160s\"",
			shown, c->config->client_id);
	}
	if (others && azp == NULL)
		return refuse(err, "aud names other clients as well, and no azp says that it was issued to us");
	return ACCTLINK_OK;
}

static al_rc check_expiry(const struct check *c, acctlink_error *err)
{
	int64_t exp;
	al_rc rc = time_claim(c, "exp", true, &exp, err);

	if (rc != ACCTLINK_OK)
		return rc;
	if (exp * 1000 + c->config->clock_skew_ms <= c->wall_ms)
		return refuse_time(c, "exp", exp, "it has expired", err);
	c->claims->expires_at = exp;
	return ACCTLINK_OK;
}

static al_rc check_issue_time(const struct check *c, acctlink_error *err)
{
	int64_t iat;
	al_rc rc = time_claim(c, "iat", true, &iat, err);

	if (rc != ACCTLINK_OK)
		return rc;
	if (iat * 1000 > al_add_ms(c->wall_ms, c->config->clock_skew_ms))
		return refuse_time(c, "iat", iat, "it was issued in the future", err);
	if (!c->expect->refreshed && iat * 1000 + FIRST_TOKEN_AGE_MAX_MS + c->config->clock_skew_ms < c->wall_ms)
		return refuse_time(c, "iat", iat, "it was issued over an hour ago", err);
	c->claims->issued_at = iat;
	return ACCTLINK_OK;
}

static al_rc check_not_before(const struct check *c, acctlink_error *err)
{
	int64_t nbf;
	al_rc rc = time_claim(c, "nbf", false, &nbf, err);

	if (rc == ACCTLINK_OK && nbf * 1000 > al_add_ms(c->wall_ms, c->config->clock_skew_ms))
		return refuse_time(c, "nbf", nbf, "it is not valid yet", err);
	return rc;
}

/* 12.2: a refreshed token should have none, and if it has one, the first's. */
static al_rc check_nonce(const struct check *c, acctlink_error *err)
{
	const char *expected = c->expect->nonce;
	size_t len = 0;
	const char *nonce = al_json_string(c->json, "nonce", &len);

	if (expected == NULL || (c->expect->refreshed && claim(c, "nonce") == NULL))
		return ACCTLINK_OK;
	if (nonce == NULL)
		return refuse(err, "the nonce that was sent is missing");
	if (!texts_equal(nonce, len, expected, strlen(expected)))
		return refuse(err, "its nonce is not the one that was sent");
	return ACCTLINK_OK;
}

static al_rc check_auth_time(const struct check *c, acctlink_error *err)
{
	const struct al_id_expect *expect = c->expect;
	int64_t max_age_ms = c->config->max_age_ms;
	int64_t at;
	al_rc rc = time_claim(c, "auth_time", !expect->refreshed && max_age_ms > 0, &at, err);

	if (rc != ACCTLINK_OK)
		return rc;
	if (!expect->refreshed && max_age_ms > 0 && at * 1000 + max_age_ms + c->config->clock_skew_ms < c->wall_ms)
		return refuse_time(c, "auth_time", at, "the user signed in longer ago than max_age", err);
	if (expect->refreshed && at != 0 && expect->auth_time != 0 && at != expect->auth_time)
		return al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"id_token refused: auth_time is %" PRId64 ", that of the first token was %" PRId64, at,
			expect->auth_time);
	c->claims->auth_time = at;
	return ACCTLINK_OK;
}

/* 3.1.3.6. Optional in the code flow, so checked where there is something to check. */
static al_rc check_at_hash(const struct check *c, acctlink_error *err)
{
	const struct al_buf *access_token = c->expect->access_token;
	size_t len = 0;
	const char *at_hash = al_json_string(c->json, "at_hash", &len);
	struct al_buf hash;
	al_rc rc;

	if (access_token == NULL || access_token->len == 0 || claim(c, "at_hash") == NULL)
		return ACCTLINK_OK;
	if (at_hash == NULL)
		return refuse(err, "at_hash is not a string");
	al_buf_init(&hash, 128);
	rc = al_jws_half_hash(c->token, access_token, &hash, err);
	if (rc == ACCTLINK_OK && !texts_equal(at_hash, len, al_buf_text(&hash), hash.len))
		rc = refuse(err, "at_hash does not fit the access_token that came with it");
	al_buf_clear(&hash);
	return rc;
}

static al_rc check_subject(const struct check *c, acctlink_error *err)
{
	size_t len = 0;
	const char *sub = al_json_string(c->json, "sub", &len);

	if (sub == NULL || len == 0)
		return refuse(err, "sub is missing, empty or not a string");
	if (len > SUBJECT_MAX)
		return refuse(err, "sub is longer than 1024 bytes");
	if (!al_buf_set(&c->claims->subject, sub, len))
		return al_fail_memory(err);
	return ACCTLINK_OK;
}

static al_rc check_claims(const struct check *c, acctlink_error *err)
{
	static al_rc (*const rules[])(const struct check *, acctlink_error *) = { check_issuer, check_audience,
		check_expiry, check_issue_time, check_not_before, check_nonce, check_auth_time, check_at_hash,
		check_subject };
	al_rc rc = ACCTLINK_OK;

	for (size_t i = 0; i < AL_COUNT(rules) && rc == ACCTLINK_OK; i++)
		rc = rules[i](c, err);
	return rc;
}

/* ---- keys ------------------------------------------------------------------ */

struct held_keys {
	struct al_jwks *jwks;
	bool may_refetch; /* they are old enough for another fetch to tell more */
};

/* None if they are too old: a withdrawn key must not be trusted for ever. */
static struct held_keys take_keys(struct al_provider *provider)
{
	int64_t now = al_now(provider->clock).boot_ms;
	struct held_keys held = { NULL, false };

	(void)pthread_mutex_lock(&provider->lock);
	if (now < provider->keys_until)
		held.jwks = al_jwks_ref(provider->keys);
	held.may_refetch = now >= al_add_ms(provider->keys_fetched_at, provider->config->jwks_min_interval_ms);
	(void)pthread_mutex_unlock(&provider->lock);
	return held;
}

/* OpenID Connect Core 3.1.3.7, 7: RS256 where nothing else was agreed. */
static unsigned allowed_algs(struct al_provider *provider)
{
	unsigned algs = provider->config->algs;
	struct al_endpoints *endpoints;

	if (algs != 0)
		return algs;
	endpoints = al_provider_endpoints(provider);
	if (endpoints != NULL)
		algs = endpoints->algs;
	al_endpoints_unref(&endpoints);
	return algs != 0 ? algs : AL_ALG_RS256;
}

/* A failure of ours says nothing about the token: it waits for its check. */
static enum al_id_verdict verdict_of(al_rc rc)
{
	return rc == ACCTLINK_NO_MEMORY || rc == ACCTLINK_INTERNAL ? AL_ID_NO_KEY : AL_ID_BAD;
}

static enum al_id_verdict verify(
	struct al_provider *provider, const struct al_buf *token, struct al_buf *payload, acctlink_error *err)
{
	struct held_keys held = take_keys(provider);
	enum al_id_verdict verdict = AL_ID_NO_KEY;
	al_rc rc;

	if (held.jwks == NULL) {
		(void)al_fail(err, ACCTLINK_BAD_PROVIDER, NULL,
			"the id_token can't be checked: the provider's keys are not at hand");
		return verdict;
	}
	rc = al_jws_verify(held.jwks, allowed_algs(provider), token, payload, err);
	switch (rc) {
	case ACCTLINK_OK: verdict = AL_ID_GOOD; break;
	case AL_ABSENT: break;
	case AL_CONFLICT:
		/* Providers have put a new key under an old name. */
		verdict = held.may_refetch ? AL_ID_NO_KEY : AL_ID_BAD;
		break;
	default: verdict = verdict_of(rc);
	}
	al_jwks_free(&held.jwks);
	return verdict;
}

/* ---- the whole ------------------------------------------------------------- */

static enum al_id_verdict judge(const struct check *c, acctlink_error *err)
{
	const char *subject = c->expect->subject;
	const struct al_buf *got = &c->claims->subject;
	al_rc rc = check_claims(c, err);

	if (rc != ACCTLINK_OK)
		return verdict_of(rc);
	if (subject == NULL || texts_equal(al_buf_text(got), got->len, subject, strlen(subject)))
		return AL_ID_GOOD;
	(void)refuse(err, "its subject is another than the link's");
	return AL_ID_OTHER_SUBJECT;
}

static enum al_id_verdict check_token(struct al_provider *provider, struct check *c, acctlink_error *err)
{
	enum al_id_verdict verdict;
	struct al_buf payload;
	acctlink_error why;

	al_buf_init(&payload, AL_TOKEN_MAX);
	verdict = verify(provider, c->token, &payload, err);
	if (verdict != AL_ID_GOOD)
		goto out;
	c->json = al_json_parse(al_buf_text(&payload), payload.len, &why);
	if (c->json == NULL) {
		(void)al_fail(err, why.status, NULL, "id_token refused: its payload is %.400s", why.message);
		verdict = verdict_of(why.status);
		goto out;
	}
	verdict = judge(c, err);
	al_json_free(&c->json);
out:
	al_buf_clear(&payload);
	return verdict;
}

enum al_id_verdict al_id_token_check(struct al_provider *provider, const struct al_buf *token,
	const struct al_id_expect *expect, int64_t wall_ms, struct al_id_claims *claims, acctlink_error *err)
{
	struct check check = {
		.config = provider->config, .expect = expect, .token = token, .wall_ms = wall_ms, .claims = claims
	};
	enum al_id_verdict verdict = check_token(provider, &check, err);

	if (verdict == AL_ID_GOOD)
		return verdict;
	if (verdict != AL_ID_OTHER_SUBJECT)
		al_id_claims_clear(claims);
	/* The operator compares with this section of the config. */
	if (err != NULL && err->where[0] == '\0' && provider->config->where != NULL)
		al_copy_printable(
			err->where, sizeof(err->where), provider->config->where, strlen(provider->config->where));
	return verdict;
}

int64_t al_jwt_peek_exp(const struct al_buf *token)
{
	const char *text = al_buf_text(token);
	const char *end = text + token->len;
	const char *first = memchr(text, '.', token->len);
	const char *second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
	struct json_object *json = NULL;
	struct al_buf payload;
	int64_t exp = 0;

	if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL)
		return 0;
	al_buf_init(&payload, AL_TOKEN_MAX);
	if (al_base64url_decode(&payload, first + 1, (size_t)(second - first - 1)))
		json = al_json_parse(al_buf_text(&payload), payload.len, NULL);
	if (json != NULL && !read_time(json, "exp", &exp))
		exp = 0;
	al_json_free(&json);
	al_buf_clear(&payload);
	return exp;
}
