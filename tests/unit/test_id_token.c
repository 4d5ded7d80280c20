/* SPDX-License-Identifier: MIT
 * The id_token checks: every claim of first and refreshed tokens, the edges of
 * the clock tolerance, where keys and algorithms come from, and forged tokens.
 * The provider is built by hand; the metadata room is not needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>

#include "provider/provider_int.h"
#include "jose_sign.h"

#define NOW INT64_C(1764036000)
#define BOOT_MS INT64_C(90000000)
#define NONCE "n-0S6_WzA2Mj"
#define SUBJECT "CghtaWtvbW9fMRIGbWlrb21v"
#define HEADER "{\"alg\":\"ES256\",\"kid\":\"k\"}"

static EVP_PKEY *rsa;
static EVP_PKEY *p256;
static EVP_PKEY *p256_other;
static EVP_PKEY *ed;

static struct al_endpoints endpoints = { .algs = 0 };
static bool endpoints_known;

struct al_endpoints *al_provider_endpoints(struct al_provider *provider)
{
	(void)provider;
	if (!endpoints_known)
		return NULL;
	atomic_fetch_add(&endpoints.refs, 1);
	return &endpoints;
}

void al_endpoints_unref(struct al_endpoints **gone)
{
	if (*gone != NULL)
		atomic_fetch_sub(&(*gone)->refs, 1);
	*gone = NULL;
}

static void read_clock(void *ctx, acctlink_time *now)
{
	(void)ctx;
	now->wall_ms = 1; /* the caller's wall_ms counts, not this */
	now->boot_ms = BOOT_MS;
}

static const struct al_clock test_clock = { read_clock, NULL };
static char issuer[] = "https://idp.example/";
static char client_id[] = "acme-app";
static char config_where[] = "acctlink.conf:12";
static struct al_provider_config config;
static struct al_provider provider;

static struct al_jwks *keys_of(const EVP_PKEY *key, const char *more)
{
	struct al_buf text;
	struct al_jwks *jwks = NULL;

	al_buf_init(&text, 8192);
	al_buf_puts(&text, "{\"keys\":[");
	put_jwk(&text, key, more);
	al_buf_puts(&text, "]}");
	assert_int_equal(al_jwks_parse(text.data, text.len, &jwks, NULL), ACCTLINK_OK);
	al_buf_clear(&text);
	return jwks;
}

static void set_keys(struct al_jwks *keys)
{
	al_jwks_free(&provider.keys);
	provider.keys = keys;
}

static int set_up(void **state)
{
	(void)state;
	memset(&config, 0, sizeof(config));
	memset(&provider, 0, sizeof(provider));
	config.issuer = issuer;
	config.client_id = client_id;
	config.where = config_where;
	config.clock_skew_ms = 300000;
	config.algs = AL_ALG_ES256;
	config.jwks_min_interval_ms = 60000;
	provider.config = &config;
	provider.clock = &test_clock;
	provider.keys = keys_of(p256, ",\"kid\":\"k\"");
	provider.keys_fetched_at = BOOT_MS - 1000;
	provider.keys_until = BOOT_MS + 1000;
	endpoints.algs = 0;
	endpoints_known = true;
	return pthread_mutex_init(&provider.lock, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	al_jwks_free(&provider.keys);
	assert_int_equal(atomic_load(&endpoints.refs), 0);
	return pthread_mutex_destroy(&provider.lock);
}

static int make_keys(void **state)
{
	(void)state;
	rsa = make_rsa(2048);
	p256 = make_ec("P-256");
	p256_other = make_ec("P-256");
	ed = make_ed25519();
	return 0;
}

static int drop_keys(void **state)
{
	(void)state;
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p256_other);
	EVP_PKEY_free(ed);
	return 0;
}

/* ---- claims and checks ------------------------------------------------------ */

struct change {
	const char *name;
	const char *value; /* as JSON; NULL: the claim is left out */
};

static const struct change good_claims[] = { { "iss", "\"https://idp.example/\"" }, { "sub", "\"" SUBJECT "\"" },
	{ "aud", "\"acme-app\"" }, { "exp", "1764039600" }, { "iat", "1764036000" }, { "nonce", "\"" NONCE "\"" },
	{ "email", "\"mikomo_1\"" }, { "accounts", "[{\"accountId\":\"1\"},{\"accountId\":\"2\"}]" } };

static const struct change *find_change(const struct change *changes, const char *name)
{
	for (; changes != NULL && changes->name != NULL; changes++) {
		if (strcmp(changes->name, name) == 0)
			return changes;
	}
	return NULL;
}

static void put_claim(struct al_buf *out, const struct change *one)
{
	if (one->value != NULL)
		assert_true(al_buf_printf(out, "%s\"%s\":%s", out->len > 1 ? "," : "", one->name, one->value));
}

/* The good claims, but for the changes (name NULL ends them). */
static void put_claims(struct al_buf *out, const struct change *changes)
{
	al_buf_init(out, 65536);
	al_buf_puts(out, "{");
	for (size_t i = 0; i < AL_COUNT(good_claims); i++) {
		if (find_change(changes, good_claims[i].name) == NULL)
			put_claim(out, &good_claims[i]);
	}
	for (; changes != NULL && changes->name != NULL; changes++)
		put_claim(out, changes);
	al_buf_puts(out, "}");
}

static enum al_id_verdict check_text(
	const char *payload, const struct al_id_expect *expect, struct al_id_claims *claims, acctlink_error *err)
{
	struct al_buf token;
	enum al_id_verdict verdict;

	al_buf_init(&token, AL_TOKEN_MAX);
	sign_token(&token, p256, "ES256", HEADER, payload);
	al_error_clear(err);
	verdict = al_id_token_check(&provider, &token, expect, NOW * 1000, claims, err);
	al_buf_clear(&token);
	return verdict;
}

static enum al_id_verdict check_changed(const struct change *changes, const struct al_id_expect *expect,
	struct al_id_claims *claims, acctlink_error *err)
{
	struct al_buf payload;
	enum al_id_verdict verdict;

	put_claims(&payload, changes);
	verdict = check_text(al_buf_text(&payload), expect, claims, err);
	al_buf_clear(&payload);
	return verdict;
}

static const struct al_id_expect first = { .nonce = NONCE };
static const struct al_id_expect refreshed = { .refreshed = true, .nonce = NONCE, .subject = SUBJECT };

struct row {
	struct change changes[3];
	const char *refused; /* part of the error; NULL: good */
};

static void check_rows(const struct row *rows, size_t count, const struct al_id_expect *expect)
{
	for (size_t i = 0; i < count; i++) {
		struct al_id_claims claims;
		acctlink_error err;
		enum al_id_verdict verdict;

		al_id_claims_init(&claims);
		verdict = check_changed(rows[i].changes, expect, &claims, &err);
		if (verdict != (rows[i].refused == NULL ? AL_ID_GOOD : AL_ID_BAD)
			|| (rows[i].refused != NULL && strstr(err.message, rows[i].refused) == NULL))
			fail_msg("%s %s: verdict %d, %s", rows[i].changes[0].name,
				rows[i].changes[0].value == NULL ? "(absent)" : rows[i].changes[0].value, (int)verdict,
				err.message);
		if (rows[i].refused != NULL) {
			assert_int_equal(err.status, ACCTLINK_BAD_PROVIDER);
			assert_string_equal(err.where, "acctlink.conf:12");
			assert_null(strstr(err.message, SUBJECT));
			assert_null(strstr(err.message, NONCE));
			assert_null(strchr(err.message, '\x1b'));
			assert_int_equal(claims.subject.len, 0);
			assert_int_equal(claims.expires_at, 0);
		}
		al_id_claims_clear(&claims);
	}
}

static void a_good_first_token_gives_its_claims(void **state)
{
	static const struct change changes[] = { { "auth_time", "1764035990" }, { NULL, NULL } };
	struct al_id_claims claims;
	acctlink_error err;

	(void)state;
	al_id_claims_init(&claims);
	assert_int_equal(check_changed(changes, &first, &claims, &err), AL_ID_GOOD);
	assert_string_equal(al_buf_text(&claims.subject), SUBJECT);
	assert_int_equal(claims.expires_at, NOW + 3600);
	assert_int_equal(claims.issued_at, NOW);
	assert_int_equal(claims.auth_time, NOW - 10);
	/* The same struct again: nothing is left of the first. */
	assert_int_equal(check_changed(NULL, &first, &claims, NULL), AL_ID_GOOD);
	assert_int_equal(claims.auth_time, 0);
	assert_int_equal(err.status, 0);
	al_id_claims_clear(&claims);
}

static void issuer_and_audience_are_compared_to_the_byte(void **state)
{
	static const struct row rows[] = { { { { "iss", "\"https:\\/\\/idp.example\\/\"" } }, NULL },
		{ { { "iss", NULL } }, "iss is missing" }, { { { "iss", "null" } }, "iss is missing" },
		{ { { "iss", "1" } }, "iss is missing or not a string" },
		{ { { "iss", "[\"https://idp.example/\"]" } }, "iss is missing or not a string" },
		{ { { "iss", "\"https://idp.example\"" } },
			"iss is \"https://idp.example\", the configured issuer is \"https://idp.example/\"" },
		{ { { "iss", "\"https://idp.example//\"" } }, "must match to the byte" },
		{ { { "iss", "\"https://IDP.example/\"" } }, "must match to the byte" },
		{ { { "iss", "\"http://idp.example/\"" } }, "must match to the byte" },
		{ { { "iss", "\"idp.example/\"" } }, "must match to the byte" },
		{ { { "iss", "\"https://evil.example/\\u001b[2J\"" } }, "iss is \"https://evil.example/?[2J\"" },
		{ { { "aud", "[\"acme-app\"]" } }, NULL }, { { { "aud", "[\"acme-app\",\"acme-app\"]" } }, NULL },
		{ { { "aud", NULL } }, "aud is neither" }, { { { "aud", "null" } }, "aud is neither" },
		{ { { "aud", "1" } }, "aud is neither" }, { { { "aud", "{\"acme-app\":1}" } }, "aud is neither" },
		{ { { "aud", "[\"acme-app\",1]" } }, "aud is neither" },
		{ { { "aud", "[[\"acme-app\"]]" } }, "aud is neither" },
		{ { { "aud", "[\"acme-app\",null]" } }, "aud is neither" },
		{ { { "aud", "[]" } }, "aud does not contain our client_id \"acme-app\"" },
		{ { { "aud", "\"\"" } }, "aud does not contain" },
		{ { { "aud", "\"acme-app-2\"" } }, "aud does not contain" },
		{ { { "aud", "\"acme\"" } }, "aud does not contain" },
		{ { { "aud", "\"ACME-APP\"" } }, "aud does not contain" },
		{ { { "aud", "\"acme-app other\"" } }, "aud does not contain" },
		{ { { "aud", "\"other,acme-app\"" } }, "aud does not contain" },
		{ { { "aud", "[\"other\",\"third\"]" } }, "aud does not contain" },
		{ { { "aud", "[\"other\"]" }, { "azp", "\"acme-app\"" } }, "aud does not contain" },
		{ { { "aud", "[\"acme-app\",\"other\"]" } }, "no azp says" },
		{ { { "aud", "[\"other\",\"acme-app\"]" }, { "azp", "null" } }, "no azp says" },
		{ { { "aud", "[\"other\",\"acme-app\"]" }, { "azp", "\"acme-app\"" } }, NULL },
		{ { { "aud", "[\"other\",\"acme-app\"]" }, { "azp", "\"other\"" } },
			"azp is \"other\", our client_id is \"acme-app\"" },
		{ { { "azp", "\"acme-app\"" } }, NULL }, { { { "azp", "\"other\"" } }, "azp is \"other\"" },
		{ { { "azp", "\"\"" } }, "azp is \"\"" }, { { { "azp", "1" } }, "azp is not a string" },
		{ { { "azp", "[\"acme-app\"]" } }, "azp is not a string" } };

	(void)state;
	check_rows(rows, AL_COUNT(rows), &first);
	check_rows(rows, AL_COUNT(rows), &refreshed);
}

static void times_are_numbers_of_seconds_within_the_calendar(void **state)
{
	static const struct row rows[] = { { { { "exp", "1764039600.0" } }, NULL },
		{ { { "exp", "1764039600.75" } }, NULL }, { { { "exp", "1.7640396e9" } }, NULL },
		{ { { "exp", "253402300799" } }, NULL }, { { { "exp", NULL } }, "exp is missing" },
		{ { { "exp", "null" } }, "exp is missing" }, { { { "exp", "\"1764039600\"" } }, "exp is no number" },
		{ { { "exp", "true" } }, "exp is no number" }, { { { "exp", "[1764039600]" } }, "exp is no number" },
		{ { { "exp", "253402300800" } }, "exp is no number" },
		{ { { "exp", "1764039600000" } }, "exp is no number" }, { { { "exp", "1e30" } }, "exp is no number" },
		{ { { "exp", "18446744073709551616" } }, "exp is no number" },
		{ { { "exp", "-1" } }, "exp is no number" }, { { { "exp", "-0.5" } }, "exp is no number" },
		{ { { "exp", "-99999999999999999999" } }, "exp is no number" },
		{ { { "iat", NULL } }, "iat is missing" }, { { { "iat", "1764036000.9" } }, NULL },
		{ { { "iat", "\"now\"" } }, "iat is no number" },
		{ { { "iat", "1764036000000" } }, "iat is no number" }, { { { "nbf", "null" } }, NULL },
		{ { { "nbf", "0" } }, NULL }, { { { "nbf", "1764036000.5" } }, NULL },
		{ { { "nbf", "\"0\"" } }, "nbf is no number" }, { { { "auth_time", "null" } }, NULL },
		{ { { "auth_time", "{}" } }, "auth_time is no number" } };

	(void)state;
	check_rows(rows, AL_COUNT(rows), &first);
	check_rows(rows, AL_COUNT(rows), &refreshed);
}

/* Tolerance 300 s, our clock at 1764036000. */
static void skewed_clocks_pass_up_to_the_tolerance(void **state)
{
	static const struct row rows[] = { { { { "iat", "1764036001" } }, NULL }, { { { "iat", "1764036030" } }, NULL },
		{ { { "iat", "1764036299" } }, NULL }, { { { "iat", "1764036300" } }, NULL },
		{ { { "iat", "1764036301" } },
			"issued in the future (iat 1764036301, our clock 1764036000, clock_skew 300 s)" },
		{ { { "iat", "1764036900" } }, "issued in the future" }, { { { "nbf", "1764035000" } }, NULL },
		{ { { "nbf", "1764036001" } }, NULL }, { { { "nbf", "1764036030" } }, NULL },
		{ { { "nbf", "1764036299" } }, NULL }, { { { "nbf", "1764036300" } }, NULL },
		{ { { "nbf", "1764036301" } }, "not valid yet (nbf 1764036301, our clock 1764036000" },
		{ { { "nbf", "1764036900" } }, "not valid yet" }, { { { "exp", "1764036001" } }, NULL },
		{ { { "exp", "1764036000" } }, NULL }, { { { "exp", "1764035999" } }, NULL },
		{ { { "exp", "1764035970" } }, NULL }, { { { "exp", "1764035701" } }, NULL },
		{ { { "exp", "1764035700" } }, "expired (exp 1764035700, our clock 1764036000, clock_skew 300 s)" },
		{ { { "exp", "1764035100" } }, "expired" }, { { { "exp", "0" } }, "expired" } };

	(void)state;
	check_rows(rows, AL_COUNT(rows), &first);
	check_rows(rows, AL_COUNT(rows), &refreshed);
}

static void without_tolerance_the_edges_are_exact(void **state)
{
	static const struct row rows[] = { { { { "iat", "1764036000" } }, NULL },
		{ { { "iat", "1764036001" } }, "in the future" }, { { { "nbf", "1764036000" } }, NULL },
		{ { { "nbf", "1764036001" } }, "not valid yet" }, { { { "exp", "1764036001" } }, NULL },
		{ { { "exp", "1764036000" } }, "expired" } };

	(void)state;
	config.clock_skew_ms = 0;
	check_rows(rows, AL_COUNT(rows), &first);
}

static void the_tolerance_never_prolongs_the_bearer(void **state)
{
	static const struct change changes[] = { { "exp", "1764035999" }, { NULL, NULL } };
	struct al_id_claims claims;

	(void)state;
	al_id_claims_init(&claims);
	assert_int_equal(check_changed(changes, &first, &claims, NULL), AL_ID_GOOD);
	assert_int_equal(claims.expires_at, NOW - 1);
	al_id_claims_clear(&claims);
}

static void clocks_at_the_ends_of_time_do_no_harm(void **state)
{
	static const int64_t walls[] = { INT64_MIN, INT64_MIN / 1000, -1, 0, INT64_MAX / 1000, INT64_MAX };
	struct al_id_claims claims;
	struct al_buf payload;
	struct al_buf token;

	(void)state;
	config.max_age_ms = 60000;
	al_id_claims_init(&claims);
	al_buf_init(&token, 4096);
	put_claims(&payload, (const struct change[]){ { "auth_time", "1764036000" }, { NULL, NULL } });
	sign_token(&token, p256, "ES256", HEADER, al_buf_text(&payload));
	for (size_t i = 0; i < AL_COUNT(walls); i++)
		assert_int_equal(al_id_token_check(&provider, &token, &first, walls[i], &claims, NULL), AL_ID_BAD);
	al_buf_clear(&token);
	al_buf_clear(&payload);
}

static void only_a_first_token_may_not_be_old(void **state)
{
	static const struct row old[] = { { { { "iat", "1764032100" } }, NULL }, /* an hour and the tolerance */
		{ { { "iat", "1764032099" } }, "issued over an hour ago (iat 1764032099, our clock 1764036000" },
		{ { { "iat", "0" } }, "issued over an hour ago" } };
	static const struct row taken[] = { { { { "iat", "1764032099" } }, NULL }, { { { "iat", "0" } }, NULL } };

	(void)state;
	check_rows(old, AL_COUNT(old), &first);
	check_rows(taken, AL_COUNT(taken), &refreshed);
}

static void a_first_token_repeats_the_nonce_that_was_sent(void **state)
{
	static const struct row sent[] = { { { { "nonce", "\"n-0S6_WzA2Mj\"" } }, NULL },
		{ { { "nonce", NULL } }, "nonce that was sent is missing" }, { { { "nonce", "null" } }, "is missing" },
		{ { { "nonce", "\"\"" } }, "not the one that was sent" },
		{ { { "nonce", "\"n-0S6_WzA2M\"" } }, "not the one that was sent" },
		{ { { "nonce", "\"n-0S6_WzA2Mjj\"" } }, "not the one that was sent" },
		{ { { "nonce", "\"n-0S6_WzA2MJ\"" } }, "not the one that was sent" },
		{ { { "nonce", "[\"n-0S6_WzA2Mj\"]" } }, "is missing" }, { { { "nonce", "0" } }, "is missing" } };
	static const struct row not_sent[] = { { { { "nonce", NULL } }, NULL },
		{ { { "nonce", "\"surprise\"" } }, NULL }, { { { "nonce", "7" } }, NULL } };
	static const struct al_id_expect without = { .nonce = NULL };

	(void)state;
	check_rows(sent, AL_COUNT(sent), &first);
	check_rows(not_sent, AL_COUNT(not_sent), &without);
}

static void a_refreshed_token_has_no_nonce_or_the_first_one(void **state)
{
	static const struct row known[] = { { { { "nonce", NULL } }, NULL }, { { { "nonce", "null" } }, NULL },
		{ { { "nonce", "\"n-0S6_WzA2Mj\"" } }, NULL },
		{ { { "nonce", "\"other\"" } }, "not the one that was sent" }, { { { "nonce", "1" } }, "nonce" } };
	static const struct row unknown[] = { { { { "nonce", NULL } }, NULL }, { { { "nonce", "\"other\"" } }, NULL } };
	static const struct al_id_expect forgotten = { .refreshed = true, .subject = SUBJECT };

	(void)state;
	check_rows(known, AL_COUNT(known), &refreshed);
	check_rows(unknown, AL_COUNT(unknown), &forgotten);
}

static void max_age_needs_an_auth_time_that_is_young_enough(void **state)
{
	static const struct row rows[] = { { { { "auth_time", "1764035940" } }, NULL },
		{ { { "auth_time", "1764035640" } }, NULL },
		{ { { "auth_time", "1764035639" } },
			"longer ago than max_age (auth_time 1764035639, our clock 1764036000" },
		{ { { "auth_time", NULL } }, "auth_time is missing" },
		{ { { "auth_time", "null" } }, "auth_time is missing" } };
	static const struct row later[] = { { { { "auth_time", NULL } }, NULL },
		{ { { "auth_time", "1764000000" } }, NULL } };

	(void)state;
	config.max_age_ms = 60000;
	check_rows(rows, AL_COUNT(rows), &first);
	check_rows(later, AL_COUNT(later), &refreshed);
}

static void a_refreshed_token_keeps_the_first_auth_time(void **state)
{
	static const struct row known[] = {
		{ { { "auth_time", NULL } }, NULL }, { { { "auth_time", "1764000000" } }, NULL },
		{ { { "auth_time", "1764000001" } }, "auth_time is 1764000001, that of the first token was 1764000000" }
	};
	static const struct row free_rows[] = { { { { "auth_time", "1764000001" } }, NULL } };
	struct al_id_expect expect = refreshed;

	(void)state;
	check_rows(free_rows, AL_COUNT(free_rows), &refreshed);
	expect.auth_time = 1764000000;
	check_rows(known, AL_COUNT(known), &expect);
	expect.refreshed = false;
	check_rows(free_rows, AL_COUNT(free_rows), &expect);
}

static void a_subject_is_required(void **state)
{
	static const struct row rows[] = { { { { "sub", NULL } }, "sub is missing" },
		{ { { "sub", "null" } }, "sub is missing" }, { { { "sub", "\"\"" } }, "sub is missing, empty" },
		{ { { "sub", "7" } }, "not a string" }, { { { "sub", "[\"" SUBJECT "\"]" } }, "not a string" } };

	(void)state;
	check_rows(rows, AL_COUNT(rows), &first);
	check_rows(rows, AL_COUNT(rows), &refreshed);
}

static void a_subject_may_have_1024_bytes_of_utf8(void **state)
{
	for (size_t len = 1024; len <= 1026; len += 2) {
		char sub[1032] = "\"";
		struct change changes[] = { { "sub", sub }, { NULL, NULL } };
		struct al_id_claims claims;
		acctlink_error err;

		(void)state;
		for (size_t i = 0; i < len / 2; i++)
			memcpy(sub + 1 + 2 * i, "\xc3\xa9", 2);
		memcpy(sub + 1 + len, "\"", 2);
		al_id_claims_init(&claims);
		assert_int_equal(check_changed(changes, &first, &claims, &err), len == 1024 ? AL_ID_GOOD : AL_ID_BAD);
		assert_int_equal(claims.subject.len, len == 1024 ? len : 0);
		al_id_claims_clear(&claims);
	}
}

static void another_subject_is_told_only_if_all_else_is_good(void **state)
{
	static const struct change other[] = { { "sub", "\"someone else\"" }, { NULL, NULL } };
	static const struct change longer[] = { { "sub", "\"" SUBJECT "x\"" }, { NULL, NULL } };
	static const struct change other_issuer[] = { { "sub", "\"someone else\"" },
		{ "iss", "\"https://b.example/\"" }, { NULL, NULL } };
	static const struct change expired[] = { { "sub", "\"someone else\"" }, { "exp", "1764000000" },
		{ NULL, NULL } };
	static const struct al_id_expect renewing = { .nonce = NONCE, .subject = SUBJECT };
	struct al_id_claims claims;
	acctlink_error err;

	(void)state;
	al_id_claims_init(&claims);
	assert_int_equal(check_changed(NULL, &refreshed, &claims, NULL), AL_ID_GOOD);
	assert_int_equal(check_changed(other, &refreshed, &claims, &err), AL_ID_OTHER_SUBJECT);
	assert_string_equal(al_buf_text(&claims.subject), "someone else");
	assert_int_equal(claims.expires_at, NOW + 3600);
	assert_int_equal(err.status, ACCTLINK_BAD_PROVIDER);
	assert_null(strstr(err.message, "someone else"));
	assert_int_equal(check_changed(longer, &refreshed, &claims, NULL), AL_ID_OTHER_SUBJECT);
	assert_int_equal(check_changed(other, &renewing, &claims, NULL), AL_ID_OTHER_SUBJECT);
	assert_int_equal(check_changed(other, &first, &claims, NULL), AL_ID_GOOD);
	assert_int_equal(check_changed(other_issuer, &refreshed, &claims, NULL), AL_ID_BAD);
	assert_int_equal(claims.subject.len, 0);
	assert_int_equal(check_changed(expired, &refreshed, &claims, NULL), AL_ID_BAD);
	al_id_claims_clear(&claims);
}

/* ---- at_hash ----------------------------------------------------------------- */

static enum al_id_verdict check_at_hash(EVP_PKEY *key, const char *alg, const char *at_hash, const char *access_token)
{
	struct change changes[] = { { "at_hash", at_hash }, { NULL, NULL } };
	struct al_id_expect expect = { .nonce = NONCE };
	struct al_buf bearer;
	struct al_buf payload;
	struct al_buf token;
	struct al_id_claims claims;
	char header[64];
	enum al_id_verdict verdict;

	al_buf_init(&bearer, 1024);
	al_buf_init(&token, 4096);
	al_id_claims_init(&claims);
	al_buf_puts(&bearer, access_token);
	expect.access_token = &bearer;
	config.algs = al_alg_from_name(alg);
	set_keys(keys_of(key, ""));
	(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", alg);
	put_claims(&payload, changes);
	sign_token(&token, key, alg, header, al_buf_text(&payload));
	verdict = al_id_token_check(&provider, &token, &expect, NOW * 1000, &claims, NULL);
	al_id_claims_clear(&claims);
	al_buf_clear(&token);
	al_buf_clear(&payload);
	al_buf_clear(&bearer);
	return verdict;
}

/* OpenID Connect Core, appendix A.3, for SHA-256. */
static void at_hash_is_checked_against_the_access_token(void **state)
{
	static const char bearer[] = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
	static const char sha256[] = "\"77QmUPtjPfzWtF2AnpK9RQ\"";
	static const char sha512[] = "\"q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM\"";

	(void)state;
	assert_int_equal(check_at_hash(rsa, "RS256", sha256, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(rsa, "PS256", sha256, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(p256, "ES256", sha256, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(ed, "EdDSA", sha512, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(ed, "Ed25519", sha512, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(ed, "EdDSA", sha256, bearer), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", sha512, bearer), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", sha256, "another"), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", "\"77QmUPtjPfzWtF2AnpK9RQ==\"", bearer), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", "\"\"", bearer), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", "1", bearer), AL_ID_BAD);
	assert_int_equal(check_at_hash(p256, "ES256", NULL, bearer), AL_ID_GOOD);
	assert_int_equal(check_at_hash(p256, "ES256", "null", bearer), AL_ID_GOOD);
	/* Akoya sends an at_hash and no access_token. */
	assert_int_equal(check_at_hash(p256, "ES256", sha256, ""), AL_ID_GOOD);
}

/* ---- keys and algorithms ------------------------------------------------------ */

static enum al_id_verdict check_signed(EVP_PKEY *key, const char *alg, const char *header, acctlink_error *err)
{
	struct al_id_claims claims;
	struct al_buf payload;
	struct al_buf token;
	enum al_id_verdict verdict;

	al_id_claims_init(&claims);
	al_buf_init(&token, 4096);
	put_claims(&payload, NULL);
	sign_token(&token, key, alg, header, al_buf_text(&payload));
	verdict = al_id_token_check(&provider, &token, &first, NOW * 1000, &claims, err);
	assert_int_equal(claims.subject.len > 0, verdict == AL_ID_GOOD);
	al_id_claims_clear(&claims);
	al_buf_clear(&token);
	al_buf_clear(&payload);
	return verdict;
}

static void missing_or_outdated_keys_ask_for_a_fetch(void **state)
{
	acctlink_error err;

	(void)state;
	assert_int_equal(check_signed(p256, "ES256", HEADER, NULL), AL_ID_GOOD);
	provider.keys_until = BOOT_MS + 1;
	assert_int_equal(check_signed(p256, "ES256", HEADER, NULL), AL_ID_GOOD);
	provider.keys_until = BOOT_MS;
	assert_int_equal(check_signed(p256, "ES256", HEADER, &err), AL_ID_NO_KEY);
	assert_int_equal(err.status, ACCTLINK_BAD_PROVIDER);
	assert_string_equal(err.where, "acctlink.conf:12");
	provider.keys_until = BOOT_MS + 1000;
	set_keys(NULL);
	assert_int_equal(check_signed(p256, "ES256", HEADER, &err), AL_ID_NO_KEY);
	assert_non_null(strstr(err.message, "not at hand"));
}

static void an_unknown_kid_asks_for_a_fetch(void **state)
{
	acctlink_error err;

	(void)state;
	assert_int_equal(check_signed(p256, "ES256", "{\"alg\":\"ES256\",\"kid\":\"k2\"}", &err), AL_ID_NO_KEY);
	assert_non_null(strstr(err.message, "\"k2\""));
	set_keys(keys_of(rsa, ""));
	assert_int_equal(check_signed(p256, "ES256", "{\"alg\":\"ES256\"}", &err), AL_ID_NO_KEY);
}

/* A provider may put a new key under an old name; only keys that have been at
 * hand for a while can be outdated in this way. */
static void a_key_that_no_longer_fits_is_fetched_anew_once(void **state)
{
	acctlink_error err;

	(void)state;
	provider.keys_fetched_at = BOOT_MS - config.jwks_min_interval_ms;
	assert_int_equal(check_signed(p256_other, "ES256", HEADER, &err), AL_ID_NO_KEY);
	assert_int_equal(check_signed(p256, "ES256", HEADER, &err), AL_ID_GOOD);
	provider.keys_fetched_at = BOOT_MS - config.jwks_min_interval_ms + 1;
	assert_int_equal(check_signed(p256_other, "ES256", HEADER, &err), AL_ID_BAD);
	assert_non_null(strstr(err.message, "does not verify"));
	/* A key of another kind under that name is the same case. */
	config.algs = AL_ALG_ES256 | AL_ALG_EDDSA;
	assert_int_equal(check_signed(ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"k\"}", &err), AL_ID_BAD);
	provider.keys_fetched_at = 0;
	assert_int_equal(check_signed(ed, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"k\"}", &err), AL_ID_NO_KEY);
}

/* No other key could make them good, so they must not cause a fetch. */
static void forged_headers_are_bad_however_old_the_keys(void **state)
{
	static const char *const headers[] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\",\"kid\":\"k\"}", "{}",
		"{\"alg\":\"HS256\",\"kid\":\"k\"}", "{\"alg\":\"RS256\",\"kid\":\"k\"}",
		"{\"alg\":\"ES256\",\"kid\":\"k\",\"crit\":[\"x\"]}", "{\"alg\":\"none\",\"alg\":\"ES256\"}" };

	(void)state;
	provider.keys_fetched_at = 0;
	for (size_t i = 0; i < AL_COUNT(headers); i++)
		assert_int_equal(check_signed(p256, "ES256", headers[i], NULL), AL_ID_BAD);
}

static void the_algorithm_comes_from_config_then_metadata_then_is_rs256(void **state)
{
	static const char rs256[] = "{\"alg\":\"RS256\"}";
	static const char ps256[] = "{\"alg\":\"PS256\"}";

	(void)state;
	set_keys(keys_of(rsa, ""));
	config.algs = AL_ALG_PS256;
	endpoints.algs = AL_ALG_RS256;
	assert_int_equal(check_signed(rsa, "PS256", ps256, NULL), AL_ID_GOOD);
	assert_int_equal(check_signed(rsa, "RS256", rs256, NULL), AL_ID_BAD);
	config.algs = 0;
	assert_int_equal(check_signed(rsa, "RS256", rs256, NULL), AL_ID_GOOD);
	assert_int_equal(check_signed(rsa, "PS256", ps256, NULL), AL_ID_BAD);
	endpoints.algs = 0;
	assert_int_equal(check_signed(rsa, "RS256", rs256, NULL), AL_ID_GOOD);
	assert_int_equal(check_signed(rsa, "PS256", ps256, NULL), AL_ID_BAD);
	endpoints_known = false;
	assert_int_equal(check_signed(rsa, "RS256", rs256, NULL), AL_ID_GOOD);
	assert_int_equal(check_signed(rsa, "PS256", ps256, NULL), AL_ID_BAD);
}

static void a_payload_that_is_not_strict_json_is_refused(void **state)
{
	static const char *const payloads[] = { "", "x", "[]", "\"x\"", "{", "{\"sub\":\"a\",\"sub\":\"b\"}",
		"{\"sub\":\"a\",\"s\\u0075b\":\"a\"}", "{\"aud\":\"acme-app\",\"x\":{\"a\":1,\"a\":2}}", "{'sub':'a'}",
		"{} {}", "{\"sub\":\"a\\u0000b\"}", "{}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(payloads); i++) {
		struct al_id_claims claims;
		acctlink_error err;

		al_id_claims_init(&claims);
		assert_int_equal(check_text(payloads[i], &first, &claims, &err), AL_ID_BAD);
		assert_non_null(strstr(err.message, i + 1 < AL_COUNT(payloads) ? "JSON" : "iss is missing"));
		assert_string_equal(err.where, "acctlink.conf:12");
	}
}

static void a_provider_without_issuer_has_no_id_tokens(void **state)
{
	acctlink_error err;

	(void)state;
	config.issuer = NULL;
	config.where = NULL;
	assert_int_equal(check_signed(p256, "ES256", HEADER, &err), AL_ID_BAD);
	assert_non_null(strstr(err.message, "no issuer"));
	assert_string_equal(err.where, "");
}

static void a_token_with_very_many_accounts_is_taken(void **state)
{
	struct al_buf accounts;
	struct change changes[] = { { "accounts", NULL }, { NULL, NULL } };
	struct al_id_claims claims;

	(void)state;
	al_buf_init(&accounts, 65000);
	al_buf_puts(&accounts, "[\"0\"");
	while (accounts.len < 60000)
		al_buf_printf(&accounts, ",\"account-%zu\"", accounts.len);
	al_buf_puts(&accounts, "]");
	changes[0].value = al_buf_text(&accounts);
	al_id_claims_init(&claims);
	assert_int_equal(check_changed(changes, &first, &claims, NULL), AL_ID_GOOD);
	al_id_claims_clear(&claims);
	al_buf_clear(&accounts);
}

/* ---- threads ------------------------------------------------------------------ */

struct checker {
	const struct al_buf *token;
	atomic_bool *end;
	unsigned checks;
	unsigned failures;
};

static void *check_until_the_end(void *ctx)
{
	struct checker *checker = ctx;

	do {
		struct al_id_claims claims;

		al_id_claims_init(&claims);
		if (al_id_token_check(&provider, checker->token, &first, NOW * 1000, &claims, NULL) != AL_ID_GOOD)
			checker->failures++;
		al_id_claims_clear(&claims);
		checker->checks++;
	} while (!atomic_load(checker->end));
	return NULL;
}

static void keys_may_be_replaced_while_tokens_are_checked(void **state)
{
	atomic_bool end;
	struct al_buf payload;
	struct al_buf token;
	struct checker checkers[2];
	pthread_t threads[2];

	(void)state;
	atomic_init(&end, false);
	al_buf_init(&token, 4096);
	put_claims(&payload, NULL);
	sign_token(&token, p256, "ES256", HEADER, al_buf_text(&payload));
	for (size_t i = 0; i < AL_COUNT(threads); i++) {
		checkers[i] = (struct checker){ .token = &token, .end = &end };
		assert_int_equal(pthread_create(&threads[i], NULL, check_until_the_end, &checkers[i]), 0);
	}
	for (int i = 0; i < 30; i++) {
		struct al_jwks *fresh = keys_of(p256, ",\"kid\":\"k\"");
		struct al_jwks *old;

		pthread_mutex_lock(&provider.lock);
		old = provider.keys;
		provider.keys = fresh;
		pthread_mutex_unlock(&provider.lock);
		al_jwks_free(&old);
	}
	atomic_store(&end, true);
	for (size_t i = 0; i < AL_COUNT(threads); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(checkers[i].checks > 0);
		assert_int_equal(checkers[i].failures, 0);
	}
	al_buf_clear(&token);
	al_buf_clear(&payload);
}

/* ---- peeking ------------------------------------------------------------------ */

static int64_t peek(const char *payload)
{
	struct al_buf token;
	int64_t exp;

	al_buf_init(&token, 4096);
	al_buf_puts(&token, "eyJhbGciOiJIUzI1NiJ9");
	put_part(&token, payload);
	al_buf_puts(&token, ".c2lnbmF0dXJl");
	exp = al_jwt_peek_exp(&token);
	al_buf_clear(&token);
	return exp;
}

static void the_end_of_any_jwt_can_be_peeked_at(void **state)
{
	(void)state;
	assert_int_equal(peek("{\"exp\":1764039600}"), 1764039600);
	assert_int_equal(peek("{\"exp\":1764039600.5,\"x\":[]}"), 1764039600);
	assert_int_equal(peek("{\"exp\":1}"), 1);
	assert_int_equal(peek("{\"exp\":253402300799}"), 253402300799);
	assert_int_equal(peek("{\"exp\":253402300800}"), 0);
	assert_int_equal(peek("{\"exp\":1e300}"), 0);
	assert_int_equal(peek("{\"exp\":-1}"), 0);
	assert_int_equal(peek("{\"exp\":\"1764039600\"}"), 0);
	assert_int_equal(peek("{\"exp\":1,\"exp\":2}"), 0);
	assert_int_equal(peek("{}"), 0);
	assert_int_equal(peek("[]"), 0);
	assert_int_equal(peek("exp"), 0);
	assert_int_equal(peek(""), 0);
}

static void what_is_no_jwt_has_no_end(void **state)
{
	static const char good[] = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.AA";
	static const char *const texts[] = { "", ".", "..", "...", "opaque", "a.b", "a.b.c", "x.eyJleHAiOjF9",
		"eyJleHAiOjF9", "a.eyJleHAiOjF9.b.c", "a.b.c.d.e", "a.eyJleHAiOjF9==.b", "a.eyJleHAiOjF8.b",
		"\xff\xfe.\x80.\n", ".eyJleHAiOjF9", "eyJleHAiOjF9..", "a.eyJleHAiOjF9 .b" };
	struct al_buf token;

	(void)state;
	al_buf_init(&token, 4096);
	assert_int_equal(al_jwt_peek_exp(&token), 0);
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		al_buf_set(&token, texts[i], strlen(texts[i]));
		assert_int_equal(al_jwt_peek_exp(&token), 0);
	}
	al_buf_set(&token, good, sizeof(good) - 1);
	assert_int_equal(al_jwt_peek_exp(&token), 1);
	for (size_t at = 0; at < sizeof(good) - 1; at++) {
		for (int c = 0; c < 256; c++) {
			al_buf_set(&token, good, sizeof(good) - 1);
			token.data[at] = (char)c;
			(void)al_jwt_peek_exp(&token);
		}
	}
	al_buf_clear(&token);
}

#define CHECK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHECK(a_good_first_token_gives_its_claims),
		CHECK(issuer_and_audience_are_compared_to_the_byte),
		CHECK(times_are_numbers_of_seconds_within_the_calendar),
		CHECK(skewed_clocks_pass_up_to_the_tolerance),
		CHECK(without_tolerance_the_edges_are_exact),
		CHECK(the_tolerance_never_prolongs_the_bearer),
		CHECK(clocks_at_the_ends_of_time_do_no_harm),
		CHECK(only_a_first_token_may_not_be_old),
		CHECK(a_first_token_repeats_the_nonce_that_was_sent),
		CHECK(a_refreshed_token_has_no_nonce_or_the_first_one),
		CHECK(max_age_needs_an_auth_time_that_is_young_enough),
		CHECK(a_refreshed_token_keeps_the_first_auth_time),
		CHECK(a_subject_is_required),
		CHECK(a_subject_may_have_1024_bytes_of_utf8),
		CHECK(another_subject_is_told_only_if_all_else_is_good),
		CHECK(at_hash_is_checked_against_the_access_token),
		CHECK(missing_or_outdated_keys_ask_for_a_fetch),
		CHECK(an_unknown_kid_asks_for_a_fetch),
		CHECK(a_key_that_no_longer_fits_is_fetched_anew_once),
		CHECK(forged_headers_are_bad_however_old_the_keys),
		CHECK(the_algorithm_comes_from_config_then_metadata_then_is_rs256),
		CHECK(a_payload_that_is_not_strict_json_is_refused),
		CHECK(a_provider_without_issuer_has_no_id_tokens),
		CHECK(a_token_with_very_many_accounts_is_taken),
		CHECK(keys_may_be_replaced_while_tokens_are_checked),
		cmocka_unit_test(the_end_of_any_jwt_can_be_peeked_at),
		cmocka_unit_test(what_is_no_jwt_has_no_end),
	};

	return cmocka_run_group_tests_name("id_token", tests, make_keys, drop_keys);
}
