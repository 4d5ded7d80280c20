/* SPDX-License-Identifier: MIT
 * A link at Akoya over time: what is kept and how, refreshes that go well, that
 * answer with nothing readable or whose answer is lost, id_tokens that can't be
 * believed, lifetimes of every shape, and the end by revocation.
 */
#include "akoya.h"

#include <dirent.h>

/* ---- what is kept ------------------------------------------------------------------------ */

static bool file_holds(const char *path, const char *text)
{
	FILE *file = fopen(path, "rb");
	const size_t len = strlen(text);
	size_t matched = 0;
	int c;

	th_check(file != NULL, "%s can't be read", path);
	/* A token's bytes don't repeat their beginning, so this simple search finds them. */
	while (matched < len && (c = getc(file)) != EOF)
		matched = c == text[matched] ? matched + 1 : c == text[0];
	fclose(file);
	return matched == len;
}

/* No file beside the config holds this text: store, its log, its index. */
static void expect_sealed(const struct th_host *host, const char *what, const char *text)
{
	char *dir = th_printf("%.*s", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
	DIR *list = opendir(dir);
	const struct dirent *entry;
	int files = 0;

	th_check(list != NULL, "%s can't be listed", dir);
	th_check(file_holds(host->config_path, "client_secret"), "the search finds nothing at all");
	while ((entry = readdir(list)) != NULL) {
		char *path = th_printf("%s/%s", dir, entry->d_name);

		if (strncmp(entry->d_name, "store.db", 8) == 0) {
			files++;
			th_check(!file_holds(path, text), "%s holds the %s", path, what);
		}
		free(path);
	}
	th_check(files > 0, "no store in %s", dir);
	closedir(list);
	free(dir);
}

static char *current_refresh_token(void)
{
	char *hash = th_grant_current(provider, -1);
	char *token = th_raw_token(provider, hash);

	free(hash);
	return token;
}

static void a_link_at_mikomo_has_the_id_token_as_bearer_and_both_tokens_sealed(void **state)
{
	struct th_host *host = host_with(NULL);
	char *refresh_token;
	char *bearer;

	(void)state;
	link_user(host, "ana", NULL);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	bearer = th_must_bearer(host, "ana", "mikomo", NULL);
	expect_number(th_userinfo(provider, bearer), 200);
	refresh_token = current_refresh_token();
	expect_sealed(host, "refresh token", refresh_token);
	expect_sealed(host, "id_token", bearer);
	expect_sealed(host, "id_token's payload", strchr(bearer, '.'));
	free(refresh_token);
	free(bearer);
	th_host_free(&host);
}

/* The pair is the new one here as at the bank, over a restart, and what is sent next is the new token. */
static void expect_replaced(struct th_host *host, const char *former)
{
	char *current = th_grant_current(provider, -1);
	char *before = th_must_bearer(host, "ana", "mikomo", NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer;

	th_check(strcmp(current, former) != 0, "the bank gave no new refresh token");
	expect_number(th_arrivals(provider, former), 1);
	expect_number(th_userinfo(provider, before), 200);
	expect_number(th_lines_count(host->events, "REFRESHED user=ana"), 1);
	th_host_restart(host);
	bearer = th_must_bearer(host, "ana", "mikomo", &info);
	expect_text(bearer, before);
	expect_number(info.generation, 2);
	expect_number(th_grant_generation(provider, -1), 2);
	expect_number(refreshes(), 1);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 3);
	expect_number(th_arrivals(provider, former), 1);
	expect_number(th_arrivals(provider, current), 1);
	free(bearer);
	free(before);
	free(current);
}

static void a_refresh_of_a_live_token_replaces_the_pair(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *buf = malloc(65536);
	char *former;
	char *first;

	(void)state;
	th_check(buf != NULL, "no memory");
	link_user(host, "ana", NULL);
	former = th_grant_current(provider, -1);
	first = th_must_bearer(host, "ana", "mikomo", NULL);
	th_advance(host, provider, HOURS(12)); /* the id_token is still good: the host wants a fresher one */
	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.institution = th_str("mikomo");
	args.min_ttl_ms = HOURS(20);
	expect_status(host->api.get_bearer(host->handle, &args, buf, 65536, &info, &err), ACCTLINK_OK, &err);
	expect_number(info.generation, 2);
	th_check(strcmp(buf, first) != 0, "it is the old bearer");
	expect_number(refreshes(), 1);
	expect_replaced(host, former);
	free(former);
	free(first);
	free(buf);
	th_host_free(&host);
}

static void a_refresh_when_the_id_token_is_older_than_a_day_replaces_the_pair(void **state)
{
	struct th_host *host = host_with(NULL);
	char *former;

	(void)state;
	link_user(host, "ana", NULL);
	former = th_grant_current(provider, -1);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 2);
	expect_number(refreshes(), 1);
	expect_replaced(host, former);
	free(former);
	th_host_free(&host);
}

/* ---- answers that say nothing ------------------------------------------------------------------ */

static void an_answer_that_can_not_be_read_keeps_the_token_and_is_noted_as_open(void **state)
{
	static const char *const answers[] = {
		"{'status':200,'body':''}",
		"{'status':200,'content_type':'application/json','body':'{\\\"id_token\\\":\\\"abc'}",
		"{'status':502,'content_type':'text/html','body':'<html><title>502 Bad Gateway</title></html>'}",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct th_host *host = host_with(NULL);
		acctlink_error err = { 0 };
		char *hash;

		be_akoya(NULL);
		link_user(host, "ana", NULL);
		hash = th_grant_current(provider, -1);
		th_advance(host, provider, DAY);
		th_script(provider, "token", "refresh_token", 1, "%s", answers[i]);
		expect_status(denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN, &err);
		expect_number(look(host, "ana").claim, ACCTLINK_CLAIM_UNKNOWN);
		expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN);
		th_host_restart(host);
		expect_number(look(host, "ana").claim, ACCTLINK_CLAIM_UNKNOWN);
		th_advance(host, provider, HOURS(1));
		expect_bearer(host, "ana", 2);
		expect_number(th_arrivals(provider, hash), 2);
		free(hash);
		th_host_free(&host);
	}
}

/* The bank rotates and its answer is lost. Afterwards its token is sent once more, when it is needed. */
static void lose_answer(struct th_host *host)
{
	acctlink_error err = { 0 };

	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	expect_status(denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN, &err);
	expect_number(look(host, "ana").claim, ACCTLINK_CLAIM_UNKNOWN);
	expect_number(refreshes(), 1);
	th_advance(host, provider, MINUTES(5));
}

static void a_lost_answer_heals_where_the_bank_has_a_grace_period(void **state)
{
	struct th_host *host = host_with(NULL);

	(void)state;
	th_control(provider, "{'set':{'reuse_window_ms':3600000}}");
	lose_answer(host);
	expect_bearer(host, "ana", 2);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(refreshes(), 2);
	expect_number(th_grant_generation(provider, -1), 2); /* Dex repeats what it gave */
	th_control(provider, "{'set':{'reuse_window_ms':0}}");
	th_host_free(&host);
}

static void a_lost_answer_that_the_bank_does_not_repeat_needs_a_new_consent(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };

	(void)state;
	lose_answer(host);
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ROTATION_LOST);
	th_advance(host, provider, DAY);
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(refreshes(), 2);
	link_user(host, "ana", NULL);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	th_host_free(&host);
}

/* ---- id_tokens ------------------------------------------------------------------------------------ */

/* What is wrong with a refreshed id_token, and what the link then tells. */
static void expect_unbelieved(const char *wrong, const char *code)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };

	printf("# %s\n", wrong); /* which one it was, if something fails */
	be_akoya(NULL);
	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "%s", wrong);
	expect_status(denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN, &err);
	expect_text(err.provider_code, code);
	th_check(err.retry_after_ms > 0, "nobody is told when the next refresh is due");
	expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
	expect_number(th_lines_count(host->events, "STALE user=ana"), 1);
	expect_number(look(host, "ana").generation, 2);
	expect_number(look(host, "ana").claim, ACCTLINK_CLAIM_NONE);
	expect_number(refreshes(), 1);
	expect_number(th_grant_generation(provider, -1), 2);
	/* The next refresh sends the new token, not the spent one: it was kept. */
	th_advance(host, provider, HOURS(1));
	expect_bearer(host, "ana", 3);
	expect_number(refreshes(), 2);
	expect_number(th_max_arrivals(provider), 1);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(th_lines_count(host->events, "HEALED user=ana"), 1);
	th_host_free(&host);
}

static void an_id_token_that_fails_a_check_is_not_served_but_its_refresh_token_is_kept(void **state)
{
	char *slashless;

	(void)state;
	expect_unbelieved("{'id_token':{'sign':'broken'}}", "id_token_refused");
	expect_unbelieved("{'id_token':{'claims':{'iss':'https://evil.example'}}}", "id_token_refused");
	slashless = th_printf("{'id_token':{'claims':{'iss':'%s'}}}", provider->issuer);
	expect_unbelieved(slashless, "id_token_refused"); /* Akoya's issuer, but for the slash at its end */
	free(slashless);
	expect_unbelieved("{'id_token':{'claims':{'aud':'another-client'}}}", "id_token_refused");
	/* It has ended already: no key is fetched for it. */
	expect_unbelieved("{'id_token':{'claims_in':{'exp':-400,'iat':-500}}}", "id_token_unchecked");
}

static void another_subject_at_a_refresh_is_refused(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };

	(void)state;
	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims':{'sub':'somebody-else'}}}");
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_SUBJECT_CHANGED);
	expect_number(th_lines_count(host->events, "RELINK_REQUIRED user=ana"), 1);
	th_wait_count(provider, "revoke", NULL, 1);
	th_host_free(&host);
}

static void another_subject_at_a_new_consent_is_told_and_leaves_the_link(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_callback_result result;
	acctlink_error err = { 0 };

	(void)state;
	th_control(provider, "{'set':{'sub':'first-login'}}");
	link_user(host, "ana", NULL);
	th_control(provider, "{'set':{'sub':'second-login'}}");
	expect_status(th_link(host, provider, "ana", "mikomo", &result, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	expect_number(look(host, "ana").epoch, 1);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_bearer(host, "ana", 1);
	th_host_free(&host);
}

/* ---- lifetimes --------------------------------------------------------------------------------------- */

/* expires_in as it stands in the answer, null: it is absent; the id_token's own end, in seconds from then. */
struct lifetime {
	const char *expires_in;
	bool access_token;
	int id_ttl;
	int64_t seconds; /* that the bearer lasts */
};

static void check_lifetime(const struct lifetime *row)
{
	struct th_host *host = host_with(NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	int64_t lasts;
	char *bearer;

	be_akoya(NULL);
	th_control(provider, "{'set':{'access_token':%s,'id_token_ttl':%d}}", row->access_token ? "true" : "false",
		row->id_ttl);
	th_script(provider, "token", NULL, 1, "{'set':{'expires_in':%s}}", row->expires_in);
	link_user(host, "ana", NULL);
	bearer = th_must_bearer(host, "ana", "mikomo", &info);
	expect_number(th_userinfo(provider, bearer), 200);
	lasts = (info.expires_at_ms - th_clock_wall_ms(host->clock)) / 1000;
	th_check(lasts <= row->seconds && lasts >= row->seconds - 15,
		"expires_in %s: the bearer lasts %lld s, not %lld", row->expires_in, (long long)lasts,
		(long long)row->seconds);
	free(bearer);
	th_host_free(&host);
}

static void the_bearer_ends_with_its_id_token_or_expires_in_whichever_comes_first(void **state)
{
	static const struct lifetime rows[] = {
		{ "86399", false, 86399, 86399 },
		{ "86399", true, 86399, 86399 },
		{ "'86399'", false, 86399, 86399 },
		{ "86399.0", false, 86399, 86399 },
		{ "null", false, 86399, 86399 },
		{ "-1", false, 86399, 86399 },
		{ "1e30", false, 86399, 86399 },
		{ "600", false, 86399, 600 },
		{ "86399", false, 900, 900 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_lifetime(&rows[i]);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

static void a_revocation_with_an_empty_200_ends_the_link_and_the_bearer(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_unlink_result ended;
	acctlink_error err = { 0 };
	char *bearer;
	char *status;
	int code;

	(void)state;
	link_user(host, "ana", NULL);
	bearer = th_must_bearer(host, "ana", "mikomo", NULL);
	expect_number(data_call(bearer, &code), 200);
	expect_status(th_unlink(host, "ana", "mikomo", &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	expect_number(data_call(bearer, &code), 401);
	expect_number(code, 602);
	expect_no_link(host, "ana");
	th_host_restart(host);
	expect_no_link(host, "ana");
	expect_number(revocations(), 1);
	status = th_request(provider, "revoke", 0, "status");
	expect_text(status, "200");
	expect_number(th_lines_count(host->events, "UNLINKED user=ana"), 1);
	expect_number(th_lines_count(host->events, "REVOKED user=ana"), 1);
	free(status);
	free(bearer);
	th_host_free(&host);
}

/* ---- secrets ------------------------------------------------------------------------------------------ */

static void expect_token_untold(struct th_host *host, const char *what, char *token)
{
	const char *signature = strrchr(token, '.');

	expect_untold(host, what, token);
	if (signature != NULL)
		expect_untold(host, what, signature);
	free(token);
}

static void expect_param_untold(struct th_host *host, const char *form, const char *name)
{
	char *value = th_param(form, name);

	th_check(value != NULL, "no %s in %s", name, form);
	expect_untold(host, name, value);
	free(value);
}

/* A whole life at the log's finest level. */
static void no_secret_of_a_link_is_told_to_log_or_events(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;
	char *body;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	body = th_request_body(provider, "token", 0);
	expect_param_untold(host, flow->url, "nonce");
	expect_param_untold(host, params, "state");
	expect_param_untold(host, params, "code");
	expect_param_untold(host, body, "code_verifier");
	expect_untold(host, "cookie", strchr(flow->cookie, '=') + 1);
	for (int i = 0; i < 3; i++) {
		expect_token_untold(host, "refresh token", current_refresh_token());
		expect_token_untold(host, "id_token", th_must_bearer(host, "ana", "mikomo", NULL));
		if (i == 0) /* an answer that can't be believed */
			th_script(provider, "token", "refresh_token", 1, "{'id_token':{'sign':'broken'}}");
		th_advance(host, provider, DAY);
		if (i == 0)
			expect_status(denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN, &err);
		th_advance(host, provider, HOURS(1));
	}
	expect_status(th_unlink(host, "ana", "mikomo", NULL, &err), ACCTLINK_OK, &err);
	expect_token_untold(host, "refresh token", current_refresh_token());
	expect_untold(host, "client secret", "test-secret");
	expect_untold(host, "Basic header", "dGVzdC1jbGllbnQ6dGVzdC1zZWNyZXQ");
	th_check(th_lines_count(host->logs, NULL) > 0, "nothing is logged at all");
	free(body);
	free(params);
	free(flow);
	th_host_free(&host);
}

#define akoya_test(f) cmocka_unit_test_setup(f, be_akoya)

int main(void)
{
	const struct CMUnitTest tests[] = { akoya_test(
						    a_link_at_mikomo_has_the_id_token_as_bearer_and_both_tokens_sealed),
		akoya_test(a_refresh_of_a_live_token_replaces_the_pair),
		akoya_test(a_refresh_when_the_id_token_is_older_than_a_day_replaces_the_pair),
		akoya_test(an_answer_that_can_not_be_read_keeps_the_token_and_is_noted_as_open),
		akoya_test(a_lost_answer_heals_where_the_bank_has_a_grace_period),
		akoya_test(a_lost_answer_that_the_bank_does_not_repeat_needs_a_new_consent),
		akoya_test(an_id_token_that_fails_a_check_is_not_served_but_its_refresh_token_is_kept),
		akoya_test(another_subject_at_a_refresh_is_refused),
		akoya_test(another_subject_at_a_new_consent_is_told_and_leaves_the_link),
		akoya_test(the_bearer_ends_with_its_id_token_or_expires_in_whichever_comes_first),
		akoya_test(a_revocation_with_an_empty_200_ends_the_link_and_the_bearer),
		akoya_test(no_secret_of_a_link_is_told_to_log_or_events) };

	return cmocka_run_group_tests_name("akoya refresh", tests, start_provider, stop_provider);
}
