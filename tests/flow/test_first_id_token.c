/* SPDX-License-Identifier: MIT
 * The id_token of a consent: one that is not to be believed makes no link and
 * its tokens are revoked; one that can't be checked yet is kept, hands nothing
 * out, and is checked later without another exchange.
 */
#include "steps.h"

/* ---- not to be believed ---------------------------------------------------------- */

struct forgery {
	const char *what;
	const char *id_token; /* what the provider does with it */
	const char *message;
};

static const struct forgery forgeries[] = {
	{ "no signature", "{'sign':'none'}", "alg" },
	{ "no signature, spelt otherwise", "{'sign':'none','header':{'alg':'None'}}", "alg" },
	{ "no signature, spelt in capitals", "{'sign':'none','header':{'alg':'NONE'}}", "alg" },
	{ "no signature under a good name", "{'sign':'none','header':{'alg':'RS256'}}", "not signed" },
	{ "no alg", "{'header':{'alg':null}}", "alg" },
	{ "an empty alg", "{'header':{'alg':''}}", "alg" },
	{ "alg is a list", "{'header':{'alg':['RS256']}}", "alg" },
	{ "HMAC with the public key in PEM", "{'sign':'hs256_pem'}", "alg" },
	{ "HMAC with the public key in DER", "{'sign':'hs256_der'}", "alg" },
	{ "HMAC under a good name", "{'sign':'hs256_pem','header':{'alg':'RS256'}}", "signature" },
	{ "a stranger's key", "{'sign':'wrong_key'}", "signature" },
	{ "a broken signature", "{'sign':'broken'}", "signature" },
	{ "an extra part", "{'suffix':'.AAAA'}", "" },
	{ "an extra dot", "{'suffix':'.'}", "" },
	{ "text after the signature", "{'suffix':'!'}", "" },
	{ "critical extensions", "{'header':{'crit':['exp']}}", "crit" },
	{ "no JWT", "{'raw':'not-a-jwt'}", "" },
	{ "three empty parts", "{'raw':'..'}", "" },
	{ "parts that are no JSON", "{'raw':'AAAA.AAAA.AAAA'}", "" },
	{ "another issuer", "{'claims':{'iss':'https://evil.example'}}", "https://evil.example" },
	{ "no issuer", "{'claims':{'iss':null}}", "iss" },
	{ "another client's", "{'claims':{'aud':'sister-client'}}", "aud" },
	{ "a longer client id", "{'claims':{'aud':'test-client2'}}", "aud" },
	{ "a list without us", "{'claims':{'aud':['sister-client','other']}}", "aud" },
	{ "us only inside another name", "{'claims':{'aud':['sister,test-client']}}", "aud" },
	{ "an empty list", "{'claims':{'aud':[]}}", "aud" },
	{ "no audience", "{'claims':{'aud':null}}", "aud" },
	{ "issued to a sister", "{'claims':{'aud':['test-client','sister-client'],'azp':'sister-client'}}", "azp" },
	{ "for us, issued to a sister", "{'claims':{'azp':'sister-client'}}", "azp" },
	{ "for two, issued to nobody", "{'claims':{'aud':['test-client','sister-client']}}", "azp" },
	{ "azp is no text", "{'claims':{'azp':7}}", "azp" },
	{ "expired", "{'claims_in':{'exp':-302}}", "expired" },
	{ "no end", "{'claims':{'exp':null}}", "exp" },
	{ "an end in words", "{'claims':{'exp':'soon'}}", "exp" },
	{ "issued in the future", "{'claims_in':{'iat':330}}", "future" },
	{ "issued long ago", "{'claims_in':{'iat':-3902}}", "hour ago" },
	{ "never issued", "{'claims':{'iat':null}}", "iat" },
	{ "not valid yet", "{'claims_in':{'nbf':330}}", "not valid yet" },
	{ "another nonce", "{'claims':{'nonce':'another'}}", "nonce" },
	{ "no nonce", "{'claims':{'nonce':null}}", "nonce" },
	{ "a nonce that is no text", "{'claims':{'nonce':[]}}", "nonce" },
	{ "another access token's hash", "{'claims':{'at_hash':'AAAAAAAAAAAAAAAAAAAAAA'}}", "at_hash" },
	{ "no subject", "{'claims':{'sub':null}}", "sub" },
	{ "an empty subject", "{'claims':{'sub':''}}", "sub" },
	{ "a subject that is no text", "{'claims':{'sub':12}}", "sub" },
	{ "another algorithm's name", "{'header':{'alg':'ES256'}}", "" },
	{ "an algorithm nobody agreed to", "{'header':{'alg':'RS512'}}", "alg" },
};

static bool all_revoked(void *ctx)
{
	struct th_provider *provider = ctx;

	return !th_grant_alive(provider, -1) && th_count(provider, "revoke", NULL) >= 2;
}

/* The tokens of the newest grant go: the refresh token first. */
static void expect_revocation(struct th_provider *provider)
{
	char *hint;

	th_wait_until(all_revoked, provider, 30000, "the revocation of tokens that make no link");
	hint = th_request(provider, "revoke", 1, "params.token_type_hint");
	expect_text(hint, "refresh_token");
	free(hint);
	hint = th_request(provider, "revoke", 0, "params.token_type_hint");
	expect_text(hint, "access_token");
	free(hint);
	assert_int_equal(th_count(provider, "revoke", NULL), 2);
}

static void expect_refusal(
	struct th_host *host, struct th_provider *provider, const struct forgery *forgery, const char *user)
{
	char *event = th_printf("FLOW_FAILED user=%s", user);
	struct consent *consent = consent_new(host, provider, user, NULL);
	acctlink_error err = { 0 };
	acctlink_status rc;

	th_control(provider, "{'reset_ledger':true}");
	th_script(provider, "token", NULL, 1, "{'id_token':%s}", forgery->id_token);
	rc = return_with(consent, host, user, NULL, &err);
	th_check(rc == ACCTLINK_BAD_PROVIDER && strcmp(err.provider_code, "id_token_refused") == 0
			&& strstr(err.message, forgery->message) != NULL
			&& strstr(err.message, "the tokens are revoked") != NULL,
		"%s: %d %s", forgery->what, (int)rc, th_error_text(&err));
	assert_true(not_linked(host, user, NULL));
	expect_revocation(provider);
	expect_status(return_with(consent, host, user, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
	expect_text(err.provider_code, "id_token_refused");
	expect_exchanges(provider, 1);
	expect_events(host, event, 1);
	free(event);
	consent_free(&consent);
}

static bool all_gone(void *ctx)
{
	return stored_number(ctx, "SELECT count(*) FROM link") == 0;
}

static void try_forgeries(struct th_provider *provider, const char *lines)
{
	const struct th_config config = { .provider_lines = lines };
	struct th_host *host = th_host_new(provider, &config);
	const size_t count = sizeof(forgeries) / sizeof(forgeries[0]);
	size_t i;

	for (i = 0; i < count; i++) {
		char *user = th_printf("user-%zu", i);

		expect_refusal(host, provider, &forgeries[i], user);
		free(user);
	}
	expect_events(host, "LINKED", 0);
	th_wait_event(host, "REVOKED", count);
	th_wait_until(all_gone, host, 30000, "the end of the revocation queue");
	th_must_link(host, provider, "ana", NULL, NULL); /* the same host believes a true one */
	th_host_free(&host);
}

static void an_id_token_that_is_not_to_be_believed_makes_no_link_and_its_tokens_are_revoked(void **state)
{
	try_forgeries(*state, NULL);
}

static void the_same_holds_where_the_id_token_is_the_bearer(void **state)
{
	try_forgeries(*state, "bearer = 'id_token';");
}

static void the_configured_algorithm_counts_whatever_the_token_says(void **state)
{
	static const char *const algs[] = { "RS256", "PS256", "ES256", "EdDSA" };
	struct th_provider *provider = *state;
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < 4; i++) {
		char *lines = th_printf("id_token_signed_response_alg = '%s';", algs[i]);
		const struct th_config config = { .provider_lines = lines };
		struct th_host *host = th_host_new(provider, &config);

		th_control(provider, "{'set':{'alg':'%s'}}", algs[i]);
		th_must_link(host, provider, "ana", NULL, NULL);
		th_control(provider, "{'set':{'alg':'%s'}}", algs[(i + 1) % 4]);
		expect_status(th_link(host, provider, "bea", NULL, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
		expect_text(err.provider_code, "id_token_refused");
		assert_true(not_linked(host, "bea", NULL));
		th_host_free(&host);
		free(lines);
	}
}

static void tokens_that_could_not_be_revoked_at_once_are_revoked_after_a_restart(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };

	th_script(provider, "token", NULL, 1, "{'id_token':{'claims':{'nonce':'another'}}}");
	th_script(provider, "revoke", NULL, -1, "{'status':503,'body':''}");
	expect_status(th_link(host, provider, "ana", NULL, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
	th_wait_count(provider, "revoke", NULL, 1);
	assert_true(th_grant_alive(provider, -1));
	th_unscript(provider);
	th_advance(host, provider, MINUTES(2));
	th_host_restart(host);
	assert_true(not_linked(host, "ana", NULL)); /* the first call starts upkeep */
	th_wait_event(host, "REVOKED user=ana", 1);
	assert_false(th_grant_alive(provider, -1));
	assert_int_equal(stored_number(host, "SELECT count(*) FROM link"), 0);
	th_host_free(&host);
}

/* ---- none at all -------------------------------------------------------------------- */

static void expect_missing(struct th_provider *provider, const char *lines, const char *code, const char *message)
{
	const struct th_config config = { .provider_lines = lines };
	struct th_host *host = th_host_new(provider, &config);
	acctlink_error err = { 0 };

	th_control(provider, "{'reset_ledger':true}");
	expect_status(th_link(host, provider, "ana", NULL, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
	expect_text(err.provider_code, code);
	expect_part(err.message, message);
	assert_true(not_linked(host, "ana", NULL));
	th_wait_event(host, "REVOKED user=ana", 1);
	assert_false(th_grant_alive(provider, -1));
	expect_events(host, "FLOW_FAILED user=ana", 1);
	expect_exchanges(provider, 1);
	th_host_free(&host);
}

static void a_first_answer_without_the_bearer_makes_no_link_and_is_revoked(void **state)
{
	struct th_provider *provider = *state;

	th_control(provider, "{'set':{'id_token':'never'}}");
	expect_missing(provider, "bearer = 'id_token';", "no_id_token", "no id_token, which is the bearer");
	th_control(provider, "{'set':{'id_token':'always','access_token':false}}");
	expect_missing(provider, NULL, "no_access_token", "no access_token");
}

/* OpenID Connect Core, 3.1.3.3: without it nobody knows whose tokens they are. */
static void openid_without_an_id_token_makes_no_link(void **state)
{
	struct th_provider *provider = *state;

	th_control(provider, "{'set':{'id_token':'never'}}");
	expect_missing(provider, NULL, "no_id_token", "openid was asked for");
	th_control(provider, "{'set':{'scope':'openid accounts'}}");
	expect_missing(provider, NULL, "no_id_token", "openid was asked for");
	/* Where the nonce is all that protects the code, it must be seen. */
	th_control(provider, "{'set':{'scope':'accounts'}}");
	expect_missing(provider, "pkce = false;", "no_id_token", "openid was asked for");
}

static void a_grant_without_openid_needs_no_id_token(void **state)
{
	const struct th_config plain = { .profile = "oauth2",
		.provider_lines = "scope = 'accounts offline_access'; "
				  "authorization_endpoint = '{issuer}/auth'; token_endpoint = '{issuer}/token';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &plain);
	acctlink_callback_result result;

	th_control(provider, "{'set':{'id_token':'never'}}");
	th_must_link(host, provider, "ana", NULL, &result);
	assert_int_equal(result.flags, 0);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	host = th_host_new(provider, NULL);
	th_control(provider, "{'set':{'scope':'accounts offline_access'}}");
	th_must_link(host, provider, "ana", NULL, &result);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_SCOPE_REDUCED);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
}

/* ---- the keys are out of reach -------------------------------------------------------- */

static void keys_down(struct th_provider *provider)
{
	th_script(provider, "jwks", NULL, -1, "{'status':503,'body':''}");
}

static void keys_back(struct th_host *host, struct th_provider *provider)
{
	th_control(provider, "{'clear':'jwks'}");
	th_advance(host, provider, 2000); /* a failed fetch is not repeated for a second */
}

static void expect_state(struct th_host *host, const char *user, int32_t state, int32_t reason)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	expect_status(th_inspect(host, user, NULL, &result, &err), ACCTLINK_OK, &err);
	assert_int_equal(result.state, state);
	assert_int_equal(result.reason, reason);
}

static char *subject_of(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	char *subject = calloc(1, 256);
	acctlink_error err = { 0 };

	assert_non_null(subject);
	result.subject = (acctlink_out){ subject, 256, 0 };
	expect_status(th_inspect(host, user, NULL, &result, &err), ACCTLINK_OK, &err);
	return subject;
}

static void link_unchecked(
	struct th_host *host, struct th_provider *provider, const char *user, acctlink_callback_result *result)
{
	keys_down(provider);
	th_must_link(host, provider, user, NULL, result);
	expect_state(host, user, ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
}

static void expect_no_bearer(struct th_host *host, const char *user, acctlink_status status)
{
	acctlink_error err = { 0 };
	char *bearer = NULL;

	expect_status(th_bearer(host, user, NULL, &bearer, NULL, &err), status, &err);
	assert_null(bearer);
}

/* kind: the config's line, or NULL for access tokens. */
static void heal_without_exchange(void **state, const char *kind, bool restart)
{
	const struct th_config config = { .provider_lines = kind };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_callback_result result;
	char *subject;

	renew_provider(state); /* its clock is that of the new host */
	link_unchecked(host, provider, "ana", &result);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_UNCHECKED);
	subject = subject_of(host, "ana");
	expect_text(subject, "");
	free(subject);
	expect_no_bearer(host, "ana", ACCTLINK_PROVIDER_DOWN);
	th_advance(host, provider, MINUTES(5));
	expect_no_bearer(host, "ana", ACCTLINK_PROVIDER_DOWN);
	if (restart)
		th_host_restart(host);
	keys_back(host, provider);
	free(th_must_bearer(host, "ana", NULL, &info));
	assert_int_equal(info.generation, 1);
	assert_int_equal(info.epoch, 1);
	assert_int_equal(info.state, ACCTLINK_STATE_LINKED);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	subject = subject_of(host, "ana");
	expect_text(subject, "sub-1");
	free(subject);
	expect_events(host, "HEALED user=ana", 1);
	assert_int_equal(th_count(provider, "token", NULL), 1);
	th_host_free(&host);
}

static void keys_that_are_down_at_the_first_exchange_heal_later_without_another(void **state)
{
	heal_without_exchange(state, NULL, false);
	heal_without_exchange(state, NULL, true);
	heal_without_exchange(state, "bearer = 'id_token';", false);
	heal_without_exchange(state, "bearer = 'id_token';", true);
}

/* The keys are late by more than the bearer's and the id_token's life: that is no
 * fault of the token, and the refresh comes after the check. */
static void the_check_may_come_after_the_bearers_end(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	link_unchecked(host, provider, "ana", NULL);
	th_advance(host, provider, HOURS(30));
	expect_no_bearer(host, "ana", ACCTLINK_PROVIDER_DOWN);
	assert_int_equal(th_count(provider, "token", NULL), 1);
	keys_back(host, provider);
	if (th_bearer(host, "ana", NULL, &bearer, &info, &err) != ACCTLINK_OK) {
		/* It was checked; the refresh keeps its least interval. */
		assert_int_equal(err.status, ACCTLINK_PROVIDER_DOWN);
		assert_in_range(err.retry_after_ms, 1, 10000);
		th_advance(host, provider, err.retry_after_ms);
		bearer = th_must_bearer(host, "ana", NULL, &info);
	}
	assert_int_equal(info.generation, 2);
	assert_int_equal(th_count(provider, "token", NULL), 2);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	free(bearer);
	th_host_free(&host);
}

/* A refresh brings an id_token without a nonce: it must not whitewash the first. */
static void a_forged_first_id_token_is_found_out_when_the_keys_are_back(void **state)
{
	static const char *const claims[] = { "{'nonce':'another'}", "{'nonce':null}", "{'aud':'sister-client'}",
		"{'iss':'https://evil.example'}" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	size_t i;

	for (i = 0; i < 8; i++) {
		char *user = th_printf("user-%zu", i);
		char *event = th_printf("RELINK_REQUIRED user=%s", user);

		th_control(provider, "{'reset_ledger':true}");
		th_script(provider, "token", "authorization_code", 1, "{'id_token':{'claims':%s}}", claims[i / 2]);
		th_advance(host, provider, HOURS(2)); /* what keys were held are too old */
		link_unchecked(host, provider, user, NULL);
		if (i % 2 == 1)
			th_advance(host, provider, HOURS(2)); /* a refresh is due as well */
		expect_no_bearer(host, user, ACCTLINK_PROVIDER_DOWN);
		keys_back(host, provider);
		expect_no_bearer(host, user, ACCTLINK_RELINK_REQUIRED);
		expect_state(host, user, ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
		expect_events(host, event, 1);
		expect_revocation(provider);
		th_advance(host, provider, MINUTES(1));
		expect_no_bearer(host, user, ACCTLINK_RELINK_REQUIRED);
		assert_int_equal(th_count(provider, "token", NULL), 1);
		th_must_link(host, provider, user, NULL, NULL); /* a new consent helps */
		free(th_must_bearer(host, user, NULL, NULL));
		free(event);
		free(user);
	}
	th_host_free(&host);
}

static void a_renewal_that_can_not_be_checked_takes_no_good_bearer_away(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	char *before;
	char *after;

	th_must_link(host, provider, "ana", NULL, NULL);
	th_control(provider, "{'set':{'access_ttl':36000}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	before = th_must_bearer(host, "ana", NULL, NULL);
	th_advance(host, provider, HOURS(2)); /* the keys are to be fetched anew */
	link_unchecked(host, provider, "ana", &result);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_RENEWED | ACCTLINK_CALLBACK_UNCHECKED);
	assert_int_equal(result.generation, 3);
	after = th_must_bearer(host, "ana", NULL, &info);
	expect_text(after, before);
	assert_int_equal(info.generation, 2);
	free(after);
	/* Refused by the data API it is withheld, and only the check can help. */
	expect_status(th_report(host, "ana", NULL, 2, &err), ACCTLINK_OK, &err);
	expect_no_bearer(host, "ana", ACCTLINK_PROVIDER_DOWN);
	keys_back(host, provider);
	after = th_must_bearer(host, "ana", NULL, &info);
	assert_true(strcmp(after, before) != 0);
	assert_int_equal(info.generation, 3);
	assert_int_equal(th_count(provider, "token", "refresh_token"), 0);
	expect_exchanges(provider, 3);
	free(before);
	free(after);
	th_host_free(&host);
}

static void a_renewal_whose_late_check_shows_another_subject_ends_the_link(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOURS(2));
	th_control(provider, "{'set':{'sub':'somebody-else'}}");
	link_unchecked(host, provider, "ana", NULL);
	keys_back(host, provider);
	th_control(provider, "{'reset_ledger':true}");
	expect_no_bearer(host, "ana", ACCTLINK_RELINK_REQUIRED);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_SUBJECT_CHANGED);
	expect_revocation(provider);
	th_host_free(&host);
}

static void a_key_that_appears_later_heals_the_link(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result result;

	/* The new key signs before the old list is gone from a cache in between. */
	th_script(provider, "jwks", NULL, 1, "{'json':{'keys':[]}}");
	th_must_link(host, provider, "ana", NULL, &result);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_UNCHECKED);
	th_advance(host, provider, 2000);
	free(th_must_bearer(host, "ana", NULL, NULL));
	assert_int_equal(th_count(provider, "token", NULL), 1);
	th_host_free(&host);
}

/* Anybody can name a key that does not exist. */
static void an_id_token_of_an_unknown_key_hands_nothing_out_and_drives_no_fetches(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	int i;

	th_script(provider, "token", NULL, 1, "{'id_token':{'sign':'wrong_key','header':{'kid':'nobody'}}}");
	th_must_link(host, provider, "ana", NULL, &result);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_UNCHECKED);
	for (i = 0; i < 60; i++) {
		acctlink_status rc = th_bearer(host, "ana", NULL, &bearer, NULL, &err);

		th_check(rc == ACCTLINK_PROVIDER_DOWN || rc == ACCTLINK_BAD_PROVIDER, "%s", th_error_text(&err));
		th_advance(host, provider, 1000);
	}
	assert_null(bearer);
	assert_in_range(th_count(provider, "jwks", NULL), 1, 3);
	assert_int_equal(th_count(provider, "token", NULL), 1);
	expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		consent_test(an_id_token_that_is_not_to_be_believed_makes_no_link_and_its_tokens_are_revoked),
		consent_test(the_same_holds_where_the_id_token_is_the_bearer),
		consent_test(the_configured_algorithm_counts_whatever_the_token_says),
		consent_test(tokens_that_could_not_be_revoked_at_once_are_revoked_after_a_restart),
		consent_test(a_first_answer_without_the_bearer_makes_no_link_and_is_revoked),
		consent_test(openid_without_an_id_token_makes_no_link),
		consent_test(a_grant_without_openid_needs_no_id_token),
		consent_test(keys_that_are_down_at_the_first_exchange_heal_later_without_another),
		consent_test(the_check_may_come_after_the_bearers_end),
		consent_test(a_forged_first_id_token_is_found_out_when_the_keys_are_back),
		consent_test(a_renewal_that_can_not_be_checked_takes_no_good_bearer_away),
		consent_test(a_renewal_whose_late_check_shows_another_subject_ends_the_link),
		consent_test(a_key_that_appears_later_heals_the_link),
		consent_test(an_id_token_of_an_unknown_key_hands_nothing_out_and_drives_no_fetches)
	};

	return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
