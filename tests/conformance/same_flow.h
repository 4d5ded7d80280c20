/* SPDX-License-Identifier: MIT
 * One suite for two providers: the certified OpenID provider, unmodified, and the
 * practice provider. What is handed out is taken, kept, rotated, handed on and
 * given back, over TLS. Both rotate every refresh token, and a spent one that
 * comes back kills its grant; both show a sign-in and a consent page. So whatever
 * a test shows at the one it shows at the other. What only one of them can do
 * stands in its own program, test_certified.c or test_practice.c.
 *
 * One provider serves all tests; each has users of its own.
 */
#ifndef SAME_FLOW_H
#define SAME_FLOW_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define MINUTES(n) (INT64_C(60) * 1000 * (n))
#define HOURS(n) MINUTES(INT64_C(60) * (n))
#define DAYS(n) HOURS(INT64_C(24) * (n))

#define expect_status(call, wanted, err) \
	do { \
		acctlink_status got_ = (call); \
		th_check(got_ == (wanted), "%s: %d instead of %d: %s", #call, (int)got_, (int)(wanted), \
			th_error_text(err)); \
	} while (0)

#define expect_number(got, wanted) \
	th_check((long long)(got) == (long long)(wanted), "%s is %lld, not %lld", #got, (long long)(got), \
		(long long)(wanted))

#define expect_text(got, wanted) \
	th_check((got) != NULL && strcmp(got, wanted) == 0, "%s is \"%s\", not \"%s\"", #got, \
		(got) != NULL ? (got) : "", wanted)

/* OpenID Connect Core, 11: offline_access is granted with prompt=consent only. */
#define ASK_CONSENT "authorize_parameters = { prompt = 'consent'; };"

/* ---- what the including program tells of its provider -------------------------- */

static enum th_kind kind_of_provider(void);
/* Before each test: as it was at the start, but for its clock and its grants. */
static void renew(void);
/* The next id_tokens are signed so, where not the client's registration decides it. */
static void sign_with(const char *alg);
/* A consent that was not asked for with prompt=consent leaves offline_access out, as
 * OpenID Connect Core, 11 wants it; this tells a provider that cares for no prompt. */
static void leave_offline_access_out(void);
/* What userinfo says to an id_token in place of an access token. */
static long userinfo_of_id_token(void);

/* ---- the provider and its hosts --------------------------------------------------- */

static struct th_provider *provider; /* of the program */

static int start_provider(void **state)
{
	(void)state;
	provider = th_provider_start(kind_of_provider(), NULL);
	return 0;
}

static int renew_provider(void **state)
{
	(void)state;
	renew();
	return 0;
}

#define same_test(f) cmocka_unit_test_setup(f, renew_provider)

static int stop_provider(void **state)
{
	(void)state;
	th_provider_stop(&provider);
	return 0;
}

/* A host whose clock is the provider's, which earlier tests have moved. */
static struct th_host *host_with(const struct th_config *config)
{
	struct th_host *host = th_host_new(provider, config);

	th_clock_advance(host->clock, provider->offset_ms);
	return host;
}

static struct th_host *usual_host(void)
{
	const struct th_config config = { .provider_lines = ASK_CONSENT };

	return host_with(&config);
}

static int refreshes(void)
{
	return th_count(provider, "token", "refresh_token");
}

static int exchanges(void)
{
	return th_count(provider, "token", "authorization_code");
}

static acctlink_inspect_result look(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	expect_status(th_inspect(host, user, NULL, &result, &err), ACCTLINK_OK, &err);
	return result;
}

/* The subject of the newest grant. */
static char *granted_subject(void)
{
	json_object *ledger = th_ledger(provider);
	json_object *grants = json_object_object_get(ledger, "grants");
	const size_t count = json_object_array_length(grants);
	char *subject;

	th_check(count > 0, "the provider has no grant");
	subject = th_printf("%s",
		json_object_get_string(json_object_object_get(json_object_array_get_idx(grants, count - 1), "sub")));
	json_object_put(ledger);
	return subject;
}

/* The bearer of this generation, which the provider's userinfo takes. */
static char *accepted_bearer(struct th_host *host, const char *user, uint64_t generation)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer = th_must_bearer(host, user, NULL, &info);

	expect_number(info.generation, generation);
	expect_number(th_userinfo(provider, bearer), 200);
	return bearer;
}

/* A form at the token endpoint, by hand, from the usual client: the HTTP status, and
 * the OAuth error if there is one. */
static long post_token(const char *form, char *error, size_t cap)
{
	/* test-client:test-secret */
	const char *const headers[] = { "Authorization: Basic dGVzdC1jbGllbnQ6dGVzdC1zZWNyZXQ=",
		"Content-Type: application/x-www-form-urlencoded", NULL };
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *url = th_printf("%s/token", provider->issuer);
	struct th_answer answer;
	json_object *json;
	const char *text;
	long status;

	th_check(th_browser_go(browser, "POST", url, headers, form, &answer), "the provider does not answer");
	json = json_tokener_parse(answer.body);
	text = json_object_get_string(json_object_object_get(json, "error"));
	snprintf(error, cap, "%s", text != NULL ? text : "");
	status = answer.status;
	json_object_put(json);
	th_answer_clear(&answer);
	th_browser_free(&browser);
	free(url);
	return status;
}

static long refresh_by_hand(const char *refresh_token, char *error, size_t cap)
{
	char *form = th_printf("grant_type=refresh_token&refresh_token=%s", refresh_token);
	const long status = post_token(form, error, cap);

	free(form);
	return status;
}

/* ---- rotation ------------------------------------------------------------------- */

enum { ROUNDS = 20 };

/* Every one is accepted once: by the ledger, and by the bearer that it brought. */
static void refresh_twenty_times(struct th_host *host, const char *user, char *hashes[ROUNDS + 1])
{
	char *before = accepted_bearer(host, user, 1);

	hashes[0] = th_grant_current(provider, -1);
	for (int i = 1; i <= ROUNDS; i++) {
		char *bearer;

		th_advance(host, provider, MINUTES(61));
		if (i == ROUNDS / 2)
			th_host_restart(host);
		bearer = accepted_bearer(host, user, (uint64_t)i + 1);
		th_check(strcmp(before, bearer) != 0, "refresh %d brought the old bearer", i);
		hashes[i] = th_grant_current(provider, -1);
		th_check(strcmp(hashes[i - 1], hashes[i]) != 0, "refresh %d did not rotate", i);
		expect_number(th_arrivals(provider, hashes[i - 1]), 1);
		expect_number(th_arrivals(provider, hashes[i]), 0);
		expect_number(th_grant_generation(provider, -1), i + 1);
		free(before);
		before = bearer;
	}
	free(before);
}

static void spend_again(const char *hash)
{
	char *token = th_raw_token(provider, hash);
	char error[64];

	expect_number(refresh_by_hand(token, error, sizeof(error)), 400);
	expect_text(error, "invalid_grant");
	expect_number(th_arrivals(provider, hash), 2);
	free(token);
}

static void twenty_refreshes_bring_accepted_bearers_and_a_spent_token_kills_the_grant(void **state)
{
	struct th_host *host = usual_host();
	const int before = refreshes();
	acctlink_error err = { 0 };
	acctlink_inspect_result seen;
	char *hashes[ROUNDS + 1];
	char *bearer = NULL;

	(void)state;
	th_must_link(host, provider, "twenty", NULL, NULL);
	refresh_twenty_times(host, "twenty", hashes);
	expect_number(refreshes() - before, ROUNDS);
	for (int i = 0; i < ROUNDS; i++)
		expect_number(th_arrivals(provider, hashes[i]), 1);
	expect_number(th_lines_count(host->events, "REFRESHED user=twenty"), ROUNDS);
	bearer = accepted_bearer(host, "twenty", ROUNDS + 1); /* held: no refresh */
	expect_number(refreshes() - before, ROUNDS);

	th_check(th_grant_alive(provider, -1), "the grant died by itself");
	spend_again(hashes[18]); /* the 19th token, spent long ago */
	th_check(!th_grant_alive(provider, -1), "a spent token did not kill the grant: is there rotation at all?");
	expect_number(th_userinfo(provider, bearer), 401);
	free(bearer);

	th_advance(host, provider, MINUTES(1));
	expect_status(th_report(host, "twenty", NULL, ROUNDS + 1, &err), ACCTLINK_OK, &err);
	expect_status(th_bearer(host, "twenty", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(th_arrivals(provider, hashes[ROUNDS]), 1);
	seen = look(host, "twenty");
	expect_number(seen.state, ACCTLINK_STATE_RELINK_REQUIRED);
	expect_number(seen.reason, ACCTLINK_REASON_REVOKED);
	expect_number(seen.generation, ROUNDS + 1);
	expect_text(seen.last_error, "invalid_grant");
	expect_number(seen.last_http_status, 400);
	expect_number(th_lines_count(host->events, "RELINK_REQUIRED user=twenty"), 1);
	expect_status(th_bearer(host, "twenty", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(th_arrivals(provider, hashes[ROUNDS]), 1); /* and never again */
	for (int i = 0; i <= ROUNDS; i++)
		free(hashes[i]);
	th_host_free(&host);
}

static void after_a_new_consent_the_same_link_goes_on(void **state)
{
	struct th_host *host = usual_host();
	acctlink_callback_result first;
	acctlink_callback_result again;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *spent;

	(void)state;
	th_must_link(host, provider, "anew", NULL, &first);
	spent = th_grant_current(provider, -1);
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "anew", 2));
	th_advance(host, provider, HOURS(2));
	{
		char *token = th_raw_token(provider, spent);
		char error[64];

		expect_number(refresh_by_hand(token, error, sizeof(error)), 400);
		free(token);
	}
	expect_status(th_bearer(host, "anew", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	th_must_link(host, provider, "anew", NULL, &again);
	expect_text(again.link_id, first.link_id);
	th_check((again.flags & ACCTLINK_CALLBACK_RENEWED) != 0, "it does not count as renewed");
	expect_number(again.epoch, 2);
	expect_number(again.generation, 3);
	free(accepted_bearer(host, "anew", 3));
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "anew", 4));
	expect_number(look(host, "anew").state, ACCTLINK_STATE_LINKED);
	expect_number(th_lines_count(host->events, "RENEWED user=anew"), 1);
	free(spent);
	th_host_free(&host);
}

static void a_refresh_token_that_was_idle_too_long_ends_the_link(void **state)
{
	struct th_host *host = usual_host();
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *hash;

	(void)state;
	th_must_link(host, provider, "idle", NULL, NULL);
	hash = th_grant_current(provider, -1);
	th_advance(host, provider, DAYS(31));
	expect_status(th_bearer(host, "idle", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(look(host, "idle").reason, ACCTLINK_REASON_REVOKED);
	expect_number(th_arrivals(provider, hash), 1);
	free(hash);
	th_host_free(&host);
}

static void a_restart_needs_no_refresh_and_no_consent(void **state)
{
	struct th_host *host = usual_host();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	acctlink_callback_result result;
	char *before;
	char *after;
	char *params;
	int sent;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "restart", NULL, flow, &err), ACCTLINK_OK, &err);
	th_host_restart(host); /* between the consent URL and the callback */
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, "restart", params, flow->cookie, &result, &err), ACCTLINK_OK, &err);
	before = accepted_bearer(host, "restart", 1);
	sent = refreshes();
	th_host_restart(host);
	after = accepted_bearer(host, "restart", 1);
	expect_text(after, before);
	expect_number(refreshes(), sent);
	free(before);
	free(after);
	free(params);
	free(flow);
	th_host_free(&host);
}

/* ---- id_tokens -------------------------------------------------------------------------- */

/* One part of a JWT as JSON. */
static json_object *jwt_part(const char *jwt, int part)
{
	unsigned char *bytes;
	json_object *json;
	char *text;
	size_t len;

	for (; part > 0 && jwt != NULL; part--)
		jwt = strchr(jwt, '.') != NULL ? strchr(jwt, '.') + 1 : NULL;
	th_check(jwt != NULL && strchr(jwt, '.') != NULL, "this is no JWT");
	len = strcspn(jwt, ".");
	text = th_printf("%.*s%.*s", (int)len, jwt, (int)((4 - len % 4) % 4), "===");
	for (char *at = text; *at != '\0'; at++)
		*at = *at == '-' ? '+' : *at == '_' ? '/' : *at;
	bytes = calloc(1, strlen(text) + 1);
	th_check(bytes != NULL && EVP_DecodeBlock(bytes, (unsigned char *)text, (int)strlen(text)) > 0, "no base64: %s",
		text);
	json = json_tokener_parse((char *)bytes);
	th_check(json != NULL, "no JSON in a JWT: %s", (char *)bytes);
	free(bytes);
	free(text);
	return json;
}

static char *jwt_member(const char *jwt, int part, const char *name)
{
	json_object *json = jwt_part(jwt, part);
	char *value = th_printf("%s", json_object_get_string(json_object_object_get(json, name)));

	json_object_put(json);
	return value;
}

static void expect_member(const char *jwt, int part, const char *name, const char *wanted)
{
	char *got = jwt_member(jwt, part, name);

	expect_text(got, wanted);
	free(got);
}

/* A link at the client whose id_tokens are signed so; refreshed once. */
static void link_with_alg(const char *alg, const char *client, const char *lines)
{
	struct th_config config = { .client_id = client, .provider_lines = lines };
	struct th_host *host = host_with(&config);
	acctlink_callback_result linked;
	char *subject;
	char *first;
	char *second;

	sign_with(alg);
	th_must_link(host, provider, "algs", NULL, &linked);
	subject = granted_subject();
	expect_number(linked.flags & ACCTLINK_CALLBACK_UNCHECKED, 0);
	first = th_must_bearer(host, "algs", NULL, NULL);
	expect_member(first, 0, "alg", alg);
	expect_member(first, 1, "sub", subject);
	expect_member(first, 1, "aud", client);
	expect_member(first, 1, "iss", provider->issuer);
	th_advance(host, provider, HOURS(2));
	second = th_must_bearer(host, "algs", NULL, NULL);
	th_check(strcmp(first, second) != 0, "the refresh brought the old id_token");
	expect_member(second, 0, "alg", alg);
	expect_member(second, 1, "sub", subject);
	expect_number(look(host, "algs").state, ACCTLINK_STATE_LINKED);
	expect_number(look(host, "algs").generation, 2);
	free(subject);
	free(first);
	free(second);
	th_host_free(&host);
}

static const struct {
	const char *alg;
	const char *client;
	const char *other;
} algs[] = { { "RS256", "rs256-client", "PS256" }, { "PS256", "ps256-client", "RS256" },
	{ "ES256", "es256-client", "EdDSA" }, { "EdDSA", "eddsa-client", "ES256" } };

static void id_tokens_of_all_four_algorithms_are_checked_and_served(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
		char *lines = th_printf(
			"bearer = 'id_token'; id_token_signed_response_alg = '%s'; " ASK_CONSENT, algs[i].alg);

		link_with_alg(algs[i].alg, algs[i].client, lines);
		free(lines);
	}
}

static void the_metadata_names_the_algorithms_if_the_config_does_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++)
		link_with_alg(algs[i].alg, algs[i].client, "bearer = 'id_token'; " ASK_CONSENT);
}

static void an_algorithm_other_than_the_configured_one_makes_no_link(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
		char *lines = th_printf("id_token_signed_response_alg = '%s'; " ASK_CONSENT, algs[i].other);
		struct th_config config = { .client_id = algs[i].client, .provider_lines = lines };
		struct th_host *host = host_with(&config);
		acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
		acctlink_error err = { 0 };

		sign_with(algs[i].alg);
		expect_status(th_link(host, provider, "wrongalg", NULL, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
		th_check(strstr(err.message, algs[i].alg) != NULL, "the error does not name it: %s", err.message);
		expect_status(th_inspect(host, "wrongalg", NULL, &seen, &err), ACCTLINK_NOT_LINKED, &err);
		th_host_free(&host); /* the revocation of what came goes on until here, or later */
		free(lines);
	}
}

static void an_id_token_is_the_bearer_where_the_config_says_so(void **state)
{
	const struct th_config config = { .provider_lines = "bearer = 'id_token'; " ASK_CONSENT };
	struct th_host *host = host_with(&config);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer;
	char *exp;

	(void)state;
	th_must_link(host, provider, "idbearer", NULL, NULL);
	for (uint64_t generation = 1; generation <= 3; generation++) {
		bearer = th_must_bearer(host, "idbearer", NULL, &info);
		expect_number(info.generation, generation);
		expect_member(bearer, 1, "aud", "test-client");
		exp = jwt_member(bearer, 1, "exp");
		th_check(info.expires_at_ms <= strtoll(exp, NULL, 10) * 1000, "served beyond its exp");
		expect_number(th_userinfo(provider, bearer), userinfo_of_id_token());
		th_advance(host, provider, HOURS(2));
		free(bearer);
		free(exp);
	}
	th_host_free(&host);
}

static void the_subject_and_the_granted_scope_can_be_seen(void **state)
{
	const struct th_config config = { .provider_lines = "scope = 'openid offline_access profile'; " ASK_CONSENT };
	struct th_host *host = host_with(&config);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_callback_result linked;
	char subject[128];
	char scope[64];
	char *granted;

	(void)state;
	th_must_link(host, provider, "seen", NULL, &linked);
	granted = granted_subject();
	expect_number(linked.flags, 0);
	seen.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	seen.scope = (acctlink_out){ scope, sizeof(scope), 0 };
	expect_status(th_inspect(host, "seen", NULL, &seen, &err), ACCTLINK_OK, &err);
	expect_text(subject, granted);
	expect_text(scope, "openid offline_access profile");
	expect_number(th_lines_count(host->events, "SCOPE_REDUCED"), 0);
	free(granted);
	th_host_free(&host);
}

static void less_scope_than_was_asked_for_is_told(void **state)
{
	struct th_host *host = host_with(NULL); /* asks without prompt=consent */
	acctlink_callback_result linked;

	(void)state;
	leave_offline_access_out();
	th_must_link(host, provider, "less", NULL, &linked);
	th_check((linked.flags & ACCTLINK_CALLBACK_SCOPE_REDUCED) != 0, "the flag is missing");
	expect_number(th_lines_count(host->events, "SCOPE_REDUCED user=less"), 1);
	free(accepted_bearer(host, "less", 1));
	th_host_free(&host);
}

/* ---- client authentication ------------------------------------------------------------------ */

struct client {
	const char *id;
	const char *secret;
	const char *method;
	const char *seen;          /* by the provider */
	const char *authorization; /* to the byte; NULL: none */
};

static void expect_client(const struct client *client, const char *endpoint)
{
	char *id = th_request(provider, endpoint, 0, "client");
	char *auth = th_request(provider, endpoint, 0, "auth");
	char *header = th_request(provider, endpoint, 0, "authorization");

	expect_text(id, client->id);
	expect_text(auth, client->seen);
	if (client->authorization != NULL)
		expect_text(header, client->authorization);
	else
		th_check(header == NULL, "%s sent an Authorization header", client->id);
	free(id);
	free(auth);
	free(header);
}

static void all_ways_of_client_authentication_work_from_exchange_to_revocation(void **state)
{
	static const struct client clients[] = {
		{ "test-client", "test-secret", "client_secret_basic", "basic",
			"Basic dGVzdC1jbGllbnQ6dGVzdC1zZWNyZXQ=" },
		{ "post-client", "post-secret", "client_secret_post", "post", NULL },
		{ "public-client", "", "none", "none", NULL },
		/* odd%3Aid+%2F1:p%2Bq%2Fr%3As%25t%3Du+v%26w (RFC 6749, 2.3.1) */
		{ "odd:id /1", "p+q/r:s%t=u v&w", "client_secret_basic", "basic",
			"Basic b2RkJTNBaWQrJTJGMTpwJTJCcSUyRnIlM0FzJTI1dCUzRHUrdiUyNnc=" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
		char *lines = th_printf("token_endpoint_auth_method = '%s'; " ASK_CONSENT, clients[i].method);
		struct th_config config = {
			.client_id = clients[i].id, .client_secret = clients[i].secret, .provider_lines = lines
		};
		struct th_host *host = host_with(&config);
		acctlink_unlink_result ended = ACCTLINK_UNLINK_RESULT_INIT;
		const int before = th_count(provider, "token", NULL);
		acctlink_error err = { 0 };

		th_must_link(host, provider, "auths", NULL, NULL);
		expect_client(&clients[i], "token");
		th_advance(host, provider, HOURS(2));
		free(accepted_bearer(host, "auths", 2));
		expect_client(&clients[i], "token");
		expect_number(th_count(provider, "token", NULL) - before, 2); /* one try each, no probing */
		expect_status(th_unlink(host, "auths", NULL, &ended, &err), ACCTLINK_OK, &err);
		expect_number(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED);
		expect_client(&clients[i], "revoke");
		th_check(!th_grant_alive(provider, -1), "%s: the grant lives on", clients[i].id);
		th_host_free(&host);
		free(lines);
	}
}

static void a_wrong_secret_is_the_operators_fault_and_harms_no_link(void **state)
{
	struct th_config config = { .provider_lines = ASK_CONSENT };
	struct th_host *host = host_with(&config);
	acctlink_error err = { 0 };
	acctlink_inspect_result seen;
	char *bearer = NULL;
	char *dir;

	(void)state;
	th_must_link(host, provider, "wrongsecret", NULL, NULL);
	dir = th_printf("%.*s", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
	config.client_secret = "canary-not-the-secret";
	free(th_config_write(dir, provider, &config));
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	th_advance(host, provider, HOURS(2));
	expect_status(th_bearer(host, "wrongsecret", NULL, &bearer, NULL, &err), ACCTLINK_CLIENT_REFUSED, &err);
	expect_text(err.provider_code, "invalid_client");
	expect_number(err.http_status, 401);
	seen = look(host, "wrongsecret");
	expect_number(seen.state, ACCTLINK_STATE_STALE);
	expect_number(seen.reason, ACCTLINK_REASON_CLIENT_REFUSED);
	th_check(!th_lines_contain(host->logs, "canary"), "the log tells the secret");
	expect_status(th_link(host, provider, "wrongsecret2", NULL, NULL, &err), ACCTLINK_CLIENT_REFUSED, &err);
	config.client_secret = NULL;
	free(th_config_write(dir, provider, &config));
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	th_advance(host, provider, HOURS(2)); /* past the slow probes */
	free(accepted_bearer(host, "wrongsecret", 2));
	expect_number(look(host, "wrongsecret").state, ACCTLINK_STATE_LINKED);
	free(dir);
	th_host_free(&host);
}

/* ---- the consent ----------------------------------------------------------------------------------- */

static void the_callback_may_come_as_a_query_or_as_a_form(void **state)
{
	static const struct {
		const char *lines;
		const char *mode;
		const char *same_site;
	} modes[] = {
		{ "response_mode = 'query'; " ASK_CONSENT, NULL, "SameSite=Lax" },
		{ "response_mode = 'form_post'; " ASK_CONSENT, "form_post", "SameSite=None" },
	};
	struct th_flow *flow = calloc(1, sizeof(*flow));

	(void)state;
	th_check(flow != NULL, "no memory");
	for (size_t i = 0; i < 2; i++) {
		struct th_config config = { .provider_lines = modes[i].lines };
		struct th_host *host = host_with(&config);
		acctlink_error err = { 0 };
		char *mode;
		char *params;

		expect_status(th_begin(host, "modes", NULL, flow, &err), ACCTLINK_OK, &err);
		mode = th_param(flow->url, "response_mode");
		if (modes[i].mode != NULL)
			expect_text(mode, modes[i].mode);
		else
			th_check(mode == NULL, "response_mode is sent");
		th_check(strstr(flow->set_cookie, modes[i].same_site) != NULL
				&& strstr(flow->set_cookie, "Secure") != NULL,
			"the cookie is %s", flow->set_cookie);
		params = th_consent(provider, flow->url);
		expect_status(th_callback(host, "modes", params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
		free(accepted_bearer(host, "modes", 1));
		free(mode);
		free(params);
		th_host_free(&host);
	}
	free(flow);
}

static void a_user_who_says_no_is_told_apart_from_a_fault(void **state)
{
	struct th_host *host = usual_host();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	const int before = exchanges();
	acctlink_error err = { 0 };
	char *params;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "refuses", NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent_as(provider, flow->url, TH_DENY, "refuses");
	expect_status(th_callback(host, "refuses", params, flow->cookie, NULL, &err), ACCTLINK_DENIED, &err);
	expect_text(err.provider_code, "access_denied");
	expect_status(th_callback(host, "refuses", params, flow->cookie, NULL, &err), ACCTLINK_DENIED, &err);
	expect_number(exchanges(), before);
	expect_number(th_lines_count(host->events, "DENIED user=refuses"), 1);
	expect_number(th_lines_count(host->events, "FLOW_FAILED"), 0);
	expect_status(th_inspect(host, "refuses", NULL, &seen, &err), ACCTLINK_NOT_LINKED, &err);
	th_must_link(host, provider, "refuses", NULL, NULL); /* and may think again */
	free(params);
	free(flow);
	th_host_free(&host);
}

/* The parameters with one of them replaced, or left out if value is NULL. */
static char *with_iss(const char *params, const char *value)
{
	const char *at = strstr(params, "iss=");
	const char *end;

	th_check(at != NULL, "the provider sends no iss: %s", params);
	end = at + strcspn(at, "&");
	if (value != NULL)
		return th_printf("%.*siss=%s%s", (int)(at - params), params, value, end);
	return th_printf("%.*s%s", (int)(at - params), params, *end == '&' ? end + 1 : end);
}

static void the_answer_must_name_the_server_that_was_asked(void **state)
{
	static const char *const wrong[] = { NULL, "", "https%3A%2F%2Fevil.example", "https%3A%2F%2Flocalhost" };
	struct th_host *host = usual_host();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	const int before = exchanges();
	acctlink_error err = { 0 };
	char *params;
	char *iss;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "issuers", NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	iss = th_param(params, "iss");
	expect_text(iss, provider->issuer);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char *changed = with_iss(params, wrong[i]);

		expect_status(
			th_callback(host, "issuers", changed, flow->cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
		free(changed);
	}
	expect_number(exchanges(), before);
	expect_status(th_callback(host, "issuers", params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	free(accepted_bearer(host, "issuers", 1));
	free(iss);
	free(params);
	free(flow);
	th_host_free(&host);
}

static void a_callback_that_comes_twice_sends_its_code_once(void **state)
{
	struct th_host *host = usual_host();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char *params;
	char *hash;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "codes", NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, "codes", params, flow->cookie, &first, &err), ACCTLINK_OK, &err);
	hash = th_request(provider, "token", 0, "token");
	expect_status(th_callback(host, "codes", params, flow->cookie, &second, &err), ACCTLINK_OK, &err);
	expect_text(second.link_id, first.link_id);
	expect_number(second.flags & ACCTLINK_CALLBACK_REPEATED, ACCTLINK_CALLBACK_REPEATED);
	expect_number(th_arrivals(provider, hash), 1);
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "codes", 2));
	free(hash);
	free(params);
	free(flow);
	th_host_free(&host);
}

/* Somebody saw the callback's URL and even knows our secret, but has no code_verifier. */
static void a_code_is_worth_nothing_without_its_verifier(void **state)
{
	struct th_host *host = usual_host();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;
	char *code;
	char *form;
	char error[64];

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "stolen", NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	code = th_param(params, "code");
	form = th_printf("grant_type=authorization_code&code=%s&redirect_uri=https%%3A%%2F%%2Fapp.example%%2Fcb", code);
	expect_number(post_token(form, error, sizeof(error)), 400);
	expect_text(error, "invalid_grant");
	/* Nor is it lost to its owner. */
	expect_status(th_callback(host, "stolen", params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	free(accepted_bearer(host, "stolen", 1));
	free(form);
	free(code);
	free(params);
	free(flow);
	th_host_free(&host);
}

/* Links, and sends the same code once more by hand, without its code_verifier. */
static void spend_code_again(struct th_host *host, const char *user)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;
	char *code;
	char *hash;
	char *form;
	char error[64];

	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, user, NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, user, params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	hash = th_request(provider, "token", 0, "token");
	code = th_param(params, "code");
	form = th_printf("grant_type=authorization_code&code=%s&redirect_uri=https%%3A%%2F%%2Fapp.example%%2Fcb", code);
	expect_number(post_token(form, error, sizeof(error)), 400);
	expect_text(error, "invalid_grant");
	expect_number(th_arrivals(provider, hash), 2);
	free(form);
	free(hash);
	free(code);
	free(params);
	free(flow);
}

static void every_redirect_uri_is_repeated_as_it_was_sent(void **state)
{
	static const char *const uris[] = { "https://app.example/cb", "https://app.example/cb/",
		"https://app.example/cb?tenant=7", "https://app.example:8443/cb" };

	(void)state;
	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		struct th_config config = { .redirect_uri = uris[i], .provider_lines = ASK_CONSENT };
		struct th_host *host = host_with(&config);

		th_must_link(host, provider, "uris", NULL, NULL); /* the provider compares to the byte */
		th_host_free(&host);
	}
}

static void an_issuer_with_another_slash_is_refused_with_both_values(void **state)
{
	char *issuer = th_printf("%s/", provider->issuer);
	struct th_config config = { .issuer = issuer, .provider_lines = ASK_CONSENT };
	struct th_host *host = host_with(&config);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "slash", NULL, flow, &err), ACCTLINK_BAD_PROVIDER, &err);
	th_check(strstr(err.message, issuer) != NULL, "the configured issuer is not shown: %s", err.message);
	free(flow);
	free(issuer);
	th_host_free(&host);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

static void after_unlinking_the_refresh_token_is_dead_at_the_provider(void **state)
{
	struct th_host *host = usual_host();
	acctlink_unlink_result ended = ACCTLINK_UNLINK_RESULT_INIT;
	const int before = th_count(provider, "revoke", NULL);
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *hash;
	char *token;
	char error[64];

	(void)state;
	th_must_link(host, provider, "ends", NULL, NULL);
	th_advance(host, provider, HOURS(2));
	bearer = accepted_bearer(host, "ends", 2);
	hash = th_grant_current(provider, -1);
	token = th_raw_token(provider, hash);
	expect_status(th_unlink(host, "ends", NULL, &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	expect_number(th_count(provider, "revoke", NULL) - before, 2);
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	expect_number(th_userinfo(provider, bearer), 401);
	expect_number(refresh_by_hand(token, error, sizeof(error)), 400);
	expect_text(error, "invalid_grant");
	free(bearer);
	bearer = NULL;
	expect_status(th_bearer(host, "ends", NULL, &bearer, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	expect_number(th_lines_count(host->events, "REVOKED user=ends"), 1);
	free(hash);
	free(token);
	th_host_free(&host);
}

static void two_users_may_share_a_bank_login_where_each_consent_is_a_grant_of_its_own(void **state)
{
	struct th_host *host = usual_host();
	acctlink_callback_result first;
	acctlink_callback_result second;

	(void)state;
	th_must_link(host, provider, "one", NULL, &first);
	th_must_link(host, provider, "two", NULL, &second); /* both sign in as alice */
	th_check(strcmp(first.link_id, second.link_id) != 0, "they share a link");
	expect_number(second.flags, 0); /* nobody lost a grant */
	expect_number(th_lines_count(host->events, "SUPERSEDED"), 0);
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "one", 2));
	free(accepted_bearer(host, "two", 2));
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "two", 3));
	free(accepted_bearer(host, "one", 3));
	th_host_free(&host);
}

static void a_provider_that_is_away_for_a_while_costs_nothing(void **state)
{
	struct th_host *host = usual_host();
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *hash;

	(void)state;
	th_must_link(host, provider, "away", NULL, NULL);
	hash = th_grant_current(provider, -1);
	th_advance(host, provider, HOURS(2));
	th_provider_down(provider, true);
	expect_status(th_bearer(host, "away", NULL, &bearer, NULL, &err), ACCTLINK_PROVIDER_DOWN, &err);
	th_check(err.retry_after_ms >= 0, "no time is told");
	expect_number(look(host, "away").state, ACCTLINK_STATE_STALE);
	expect_number(look(host, "away").claim, ACCTLINK_CLAIM_NONE); /* nothing was sent, nothing is in doubt */
	th_provider_down(provider, false);
	th_advance(host, provider, HOURS(1));
	free(accepted_bearer(host, "away", 2));
	expect_number(th_arrivals(provider, hash), 1);
	expect_number(look(host, "away").state, ACCTLINK_STATE_LINKED);
	free(hash);
	th_host_free(&host);
}

/* For the array of the including program. */
#define SAME_TESTS \
	same_test(twenty_refreshes_bring_accepted_bearers_and_a_spent_token_kills_the_grant), \
		same_test(after_a_new_consent_the_same_link_goes_on), \
		same_test(a_restart_needs_no_refresh_and_no_consent), \
		same_test(id_tokens_of_all_four_algorithms_are_checked_and_served), \
		same_test(the_metadata_names_the_algorithms_if_the_config_does_not), \
		same_test(an_algorithm_other_than_the_configured_one_makes_no_link), \
		same_test(an_id_token_is_the_bearer_where_the_config_says_so), \
		same_test(the_subject_and_the_granted_scope_can_be_seen), \
		same_test(less_scope_than_was_asked_for_is_told), \
		same_test(all_ways_of_client_authentication_work_from_exchange_to_revocation), \
		same_test(a_wrong_secret_is_the_operators_fault_and_harms_no_link), \
		same_test(the_callback_may_come_as_a_query_or_as_a_form), \
		same_test(a_user_who_says_no_is_told_apart_from_a_fault), \
		same_test(the_answer_must_name_the_server_that_was_asked), \
		same_test(a_callback_that_comes_twice_sends_its_code_once), \
		same_test(a_code_is_worth_nothing_without_its_verifier), \
		same_test(every_redirect_uri_is_repeated_as_it_was_sent), \
		same_test(an_issuer_with_another_slash_is_refused_with_both_values), \
		same_test(after_unlinking_the_refresh_token_is_dead_at_the_provider), \
		same_test(two_users_may_share_a_bank_login_where_each_consent_is_a_grant_of_its_own), \
		same_test(a_provider_that_is_away_for_a_while_costs_nothing), \
		same_test(a_refresh_token_that_was_idle_too_long_ends_the_link)

#endif
