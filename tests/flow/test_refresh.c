/* SPDX-License-Identifier: MIT
 * Refreshing through the ABI: answers that are lost, who may send again and
 * when, what other processes did meanwhile, bearers that the data API refused,
 * clocks that jump. The practice provider rotates at each refresh and ends a
 * grant whose spent token comes back, so a send too many shows.
 */
#include "refresh_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- lost answers ---------------------------------------------------------------- */

/* The provider has rotated; what it says does not arrive, or only in part. */
static const struct loss {
	const char *what;
	const char *script;
	const char *last_error;
	int http_status;
} losses[] = { { "answer after the time-out", "{'hold':'late'}", "timeout", 0 },
	{ "504 of a gateway", "{'status':504,'spend':true,'body':'<html>gateway</html>','content_type':'text/html'}",
		"http_504", 504 },
	{ "half of the JSON, then a reset", "{'cut':'half_body','reset':true}", "cut", 200 },
	{ "closed without a byte", "{'cut':'before_answer'}", "cut", 0 } };
enum { LOSSES = sizeof(losses) / sizeof(losses[0]) };

struct lost {
	const struct loss *loss;
	bool accepted; /* the provider would take the same token once more */
	char user[32];
	int grant;
	char *token; /* hash of the one that was sent */
	char *bearer;
	int64_t ends_at;
};

static void link_lost(struct th_host *host, struct lost *lost)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	lost->grant = th_grant_count(provider);
	th_must_link(host, provider, lost->user, NULL, NULL);
	lost->token = th_grant_current(provider, lost->grant);
	lost->bearer = th_must_bearer(host, lost->user, NULL, &info);
	lost->ends_at = info.expires_at_ms;
}

static void lose_answer(struct th_host *host, const struct lost *lost)
{
	const int64_t before = th_clock_wall_ms(host->clock);
	acctlink_inspect_result seen;
	char *bearer = NULL;

	th_script(provider, "token", "refresh_token", 1, "%s", lost->loss->script);
	same(lost->loss->what, ask(host, lost->user, AHEAD_MS, &bearer, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(bearer, lost->bearer) == 0, "%s: another bearer was served", lost->loss->what);
	free(bearer);
	th_release(provider, "late");
	seen = look(host, lost->user);
	th_check(seen.claimed_at_ms >= before && seen.claimed_at_ms <= th_clock_wall_ms(host->clock),
		"%s: inspect does not tell when it was sent", lost->loss->what);
	same(lost->loss->what, events(host, "STALE", lost->user), 1);
}

/* What must be so from the loss on, until the bearer is needed. */
static void check_lost(struct th_host *host, const struct lost *lost)
{
	const acctlink_inspect_result seen = look(host, lost->user);
	const char *what = lost->loss->what;
	char *bearer = NULL;

	same(what, ask(host, lost->user, AHEAD_MS, &bearer, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(bearer, lost->bearer) == 0, "%s: another bearer was served", what);
	free(bearer);
	same(what, th_arrivals(provider, lost->token), 1);
	same(what, seen.state, ACCTLINK_STATE_STALE);
	same(what, seen.reason, ACCTLINK_REASON_OUTCOME_UNKNOWN);
	same(what, seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	same(what, seen.generation, 1);
	same(what, seen.claim_attempt, 1);
	same(what, seen.failures, 1);
	same(what, seen.last_http_status, lost->loss->http_status);
	same(what, seen.bearer_expires_at_ms, lost->ends_at);
	th_check(strcmp(seen.last_error, lost->loss->last_error) == 0, "%s: last_error is %s", what, seen.last_error);
}

static void check_accepted(struct th_host *host, const struct lost *lost)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	const char *what = lost->loss->what;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_check(ask(host, lost->user, 0, &bearer, &info, &err) == ACCTLINK_OK, "%s: %s", what, th_error_text(&err));
	th_check(th_userinfo(provider, bearer) == 200, "%s: the provider refuses the new bearer", what);
	free(bearer);
	same(what, info.generation, 2);
	same(what, th_arrivals(provider, lost->token), 2);
	state_is(host, lost->user, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	same(what, look(host, lost->user).claim, ACCTLINK_CLAIM_NONE);
	same(what, look(host, lost->user).failures, 0);
	same(what, events(host, "HEALED", lost->user), 1);
	same(what, events(host, "RELINK_REQUIRED", lost->user), 0);
}

static void check_refused(struct th_host *host, const struct lost *lost)
{
	const char *what = lost->loss->what;
	acctlink_error err = { 0 };

	same(what, denied(host, lost->user, &err), ACCTLINK_RELINK_REQUIRED);
	th_check(strstr(err.message, "lost") != NULL, "%s: the error does not tell of the loss: %s", what, err.message);
	same(what, denied(host, lost->user, NULL), ACCTLINK_RELINK_REQUIRED);
	same(what, th_arrivals(provider, lost->token), 2);
	state_is(host, lost->user, ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ROTATION_LOST, 1);
	same(what, events(host, "RELINK_REQUIRED", lost->user), 1);
	same(what, look(host, lost->user).last_http_status, 400);
}

static void a_lost_answer_is_not_asked_for_again_before_the_bearer_is_needed(void **state)
{
	const struct th_config config = { .provider_lines = "connect_timeout = 1; request_timeout = 1;" };
	struct lost lost[2 * LOSSES];
	struct th_host *host = th_host_new(provider, &config);
	unsigned i;

	(void)state;
	for (i = 0; i < 2 * LOSSES; i++) {
		lost[i] = (struct lost){ .loss = &losses[i / 2], .accepted = i % 2 == 0 };
		snprintf(lost[i].user, sizeof(lost[i].user), "user-%u", i);
		link_lost(host, &lost[i]);
	}
	th_advance(host, provider, 50 * MINUTE_MS); /* 10 are left */
	for (i = 0; i < 2 * LOSSES; i++) {
		lose_answer(host, &lost[i]);
		check_lost(host, &lost[i]);
	}
	th_host_restart(host);
	for (i = 0; i < 2 * LOSSES; i++)
		check_lost(host, &lost[i]);
	th_advance(host, provider, 8 * MINUTE_MS);
	for (i = 0; i < 2 * LOSSES; i++)
		check_lost(host, &lost[i]);
	advance_past(host, lost[2 * LOSSES - 1].ends_at, 1);
	th_control(provider, "{'set':{'reuse_window_ms':%lld}}", (long long)HOUR_MS);
	for (i = 0; i < 2 * LOSSES; i += 2)
		check_accepted(host, &lost[i]);
	th_control(provider, "{'set':{'reuse_window_ms':0}}");
	for (i = 1; i < 2 * LOSSES; i += 2)
		check_refused(host, &lost[i]);
	th_host_restart(host);
	th_advance(host, provider, HOUR_MS);
	for (i = 0; i < 2 * LOSSES; i++) {
		if (lost[i].accepted)
			same(lost[i].loss->what, served(host, lost[i].user, 0), 3);
		else
			check_refused(host, &lost[i]);
		free(lost[i].token);
		free(lost[i].bearer);
	}
	th_host_free(&host);
}

static void a_lost_answer_is_asked_for_again_when_a_minute_of_the_bearer_is_left(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	seen = look(host, "ana");
	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer','spend':false}");
	same("lost", served(host, "ana", AHEAD_MS), 1);
	advance_past(host, seen.bearer_expires_at_ms - 65 * 1000, 0);
	same("65 s left", served(host, "ana", AHEAD_MS), 1);
	same("65 s left", refreshes(), 1);
	advance_past(host, seen.bearer_expires_at_ms - 55 * 1000, 0);
	same("55 s left", served(host, "ana", AHEAD_MS), 2);
	same("55 s left", refreshes(), 2);
	same("after", served(host, "ana", AHEAD_MS), 2);
	same("after", refreshes(), 2);
	th_host_free(&host);
}

static void a_refusal_without_a_lost_answer_before_it_is_called_a_revocation(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_control(provider, "{'kill_grant':%d}", th_grant_count(provider) - 1);
	th_advance(host, provider, HOUR_MS + 1000);
	same("revoked", denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED);
	th_check(strstr(err.message, "revoked") != NULL, "the error does not tell of the revocation: %s", err.message);
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_REVOKED, 1);
	th_advance(host, provider, HOUR_MS);
	same("later", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	same("later", refreshes(), 1);
	same("later", events(host, "RELINK_REQUIRED", "ana"), 1);
	th_host_free(&host);
}

static void a_new_consent_ends_a_lost_rotation(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result first;
	acctlink_callback_result again;

	(void)state;
	th_must_link(host, provider, "ana", NULL, &first);
	th_advance(host, provider, HOUR_MS + 1000);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same("lost", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	th_advance(host, provider, MINUTE_MS);
	same("resent", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	th_must_link(host, provider, "ana", NULL, &again);
	th_check(strcmp(first.link_id, again.link_id) == 0, "the link got another id");
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	same("renewed", look(host, "ana").claim, ACCTLINK_CLAIM_NONE);
	same("renewed", served(host, "ana", 0), 2);
	th_advance(host, provider, HOUR_MS + 1000);
	same("refreshed", served(host, "ana", 0), 3);
	th_host_free(&host);
}

/* ---- the provider's reuse window ---------------------------------------------------- */

static void inside_a_documented_reuse_window_a_lost_answer_is_asked_for_again(void **state)
{
	const struct th_config config = { .provider_lines = "reuse_window = 30;" };
	struct th_host *host = th_host_new(provider, &config);
	char *token;

	(void)state;
	th_control(provider, "{'set':{'reuse_window_ms':30000}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	token = th_grant_current(provider, -1);
	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same("lost", served(host, "ana", AHEAD_MS), 1);
	same("lost", th_arrivals(provider, token), 1);
	th_advance(host, provider, 5000);
	same("inside", served(host, "ana", AHEAD_MS), 2);
	same("inside", th_arrivals(provider, token), 2);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	th_check(th_grant_alive(provider, -1), "the provider ended the grant");
	free(token);
	th_host_free(&host);
}

static void the_reuse_window_begins_with_the_first_send_of_the_token(void **state)
{
	const struct th_config config = { .provider_lines = "reuse_window = 30;" };
	struct th_host *host = th_host_new(provider, &config);
	acctlink_inspect_result seen;
	char *token;

	(void)state;
	th_control(provider, "{'set':{'reuse_window_ms':30000}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	token = th_grant_current(provider, -1);
	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same("lost", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, 20000);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer','spend':false}");
	same("lost twice", served(host, "ana", AHEAD_MS), 1);
	same("lost twice", th_arrivals(provider, token), 2);
	th_advance(host, provider, 15000);
	same("outside", served(host, "ana", AHEAD_MS), 1);
	same("outside", th_arrivals(provider, token), 2);
	th_check(th_grant_alive(provider, -1), "a send outside the window ended the grant");
	seen = look(host, "ana");
	same("outside", seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("needed", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	same("needed", th_arrivals(provider, token), 3);
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ROTATION_LOST, 1);
	free(token);
	th_host_free(&host);
}

static void a_reuse_window_that_has_passed_is_left_alone_while_the_bearer_is_good(void **state)
{
	const struct th_config config = { .provider_lines = "reuse_window = 30;" };
	struct th_host *host = th_host_new(provider, &config);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same("lost", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, 31000);
	same("outside", served(host, "ana", AHEAD_MS), 1);
	same("outside", refreshes(), 1);
	th_check(th_grant_alive(provider, -1), "a send outside the window ended the grant");
	th_host_free(&host);
}

/* ---- connections -------------------------------------------------------------------- */

static void a_reused_connection_that_dies_carries_the_refresh_once(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen;
	char *first;
	char *second;
	char *port_before;
	char *port;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	first = th_grant_current(provider, -1);
	th_advance(host, provider, 45 * MINUTE_MS);
	same("first", served(host, "ana", AHEAD_MS), 2);
	second = th_grant_current(provider, -1);
	port_before = th_request(provider, "token", 0, "remote_port");
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer','reset':true}");
	same("cut", served(host, "ana", AHEAD_MS), 2);
	port = th_request(provider, "token", 0, "remote_port");
	th_check(strcmp(port, port_before) == 0, "the connection was not reused: the test shows nothing");
	same("first", th_arrivals(provider, first), 1);
	same("cut", th_arrivals(provider, second), 1);
	seen = look(host, "ana");
	same("cut", seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	same("cut", seen.reason, ACCTLINK_REASON_OUTCOME_UNKNOWN);
	th_advance(host, provider, 10 * MINUTE_MS);
	same("while it is good", served(host, "ana", AHEAD_MS), 2);
	same("while it is good", th_arrivals(provider, second), 1);
	th_control(provider, "{'set':{'reuse_window_ms':%lld}}", (long long)HOUR_MS);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("after its end", served(host, "ana", 0), 3);
	same("after its end", th_arrivals(provider, second), 2);
	same("later", served(host, "ana", 0), 3);
	same("later", refreshes(), 3);
	free(first);
	free(second);
	free(port_before);
	free(port);
	th_host_free(&host);
}

static void an_idle_connection_that_was_closed_costs_nothing(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	uint64_t generation;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	for (generation = 2; generation < 5; generation++) {
		th_control(provider, "{'close_idle':true}");
		th_advance(host, provider, HOUR_MS + 1000);
		same("refresh", served(host, "ana", 0), generation);
	}
	same("refreshes", refreshes(), 3);
	same("arrivals", th_max_arrivals(provider), 1);
	th_host_free(&host);
}

/* ---- deadlines ------------------------------------------------------------------------ */

static void a_caller_who_stops_waiting_does_not_stop_the_exchange(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *token;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	token = th_grant_current(provider, -1);
	th_advance(host, provider, HOUR_MS + 1000);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'slow'}");
	same("impatient", ask_at(host, "ana", NULL, 0, 300, NULL, NULL, NULL), ACCTLINK_TIMED_OUT);
	th_wait_held(provider, "slow", 1);
	same("inspect", look(host, "ana").claim, ACCTLINK_CLAIM_OPEN);
	same("impatient", ask_at(host, "ana", NULL, 0, 300, NULL, NULL, NULL), ACCTLINK_TIMED_OUT);
	th_release(provider, "slow");
	same("patient", served(host, "ana", 0), 2);
	same("arrivals", th_arrivals(provider, token), 1);
	same("refreshes", refreshes(), 1);
	free(token);
	th_host_free(&host);
}

static void a_good_bearer_does_not_wait_for_a_refresh_ahead_of_time(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS - 20000); /* less than bearer_margin */
	th_script(provider, "token", "refresh_token", 1, "{'hold':'slow'}");
	same("early", served(host, "ana", 0), 1);
	th_wait_held(provider, "slow", 1);
	same("meanwhile", served(host, "ana", 0), 1);
	same("one who insists", ask_at(host, "ana", NULL, AHEAD_MS, 300, NULL, NULL, NULL), ACCTLINK_OK);
	th_release(provider, "slow");
	same("after", served(host, "ana", AHEAD_MS), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

/* ---- a process that dies ------------------------------------------------------------------ */

struct crash {
	const char *config_path;
	struct th_clock *clock;
};

static int refresh_and_hang(void *ctx)
{
	const struct crash *crash = ctx;
	struct th_host *host = th_host_open(crash->config_path, crash->clock);

	(void)served(host, "ana", AHEAD_MS);
	return 0;
}

static void kill_and_reap(pid_t pid)
{
	int status = 0;

	th_check(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
		"the child was not killed");
}

static void a_process_that_was_killed_while_it_waited_leaves_an_unknown_outcome(void **state)
{
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, NULL);
	struct crash crash = { path, th_clock_new() };
	struct th_host *host = th_host_open(path, crash.clock);
	acctlink_inspect_result seen;
	char *token;
	pid_t pid;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	token = th_grant_current(provider, -1);
	th_advance(host, provider, 50 * MINUTE_MS);
	th_host_free(&host); /* no thread is left to be forked */
	th_script(provider, "token", "refresh_token", 1, "{'hold':'never'}");
	pid = th_fork(refresh_and_hang, &crash);
	th_wait_held(provider, "never", 1);
	kill_and_reap(pid);
	th_release(provider, "never");
	host = th_host_open(path, crash.clock);
	seen = look(host, "ana");
	same("inspect", seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	th_check(seen.claimed_at_ms > 0, "inspect does not tell when it was sent");
	same("good", served(host, "ana", AHEAD_MS), 1);
	same("good", th_arrivals(provider, token), 1);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("needed", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	same("needed", th_arrivals(provider, token), 2);
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ROTATION_LOST, 1);
	th_host_free(&host);
	th_clock_free(&crash.clock);
	free(token);
	free(path);
	free(dir);
}

/* ---- Akoya's words, and somebody who was faster ---------------------------------------------- */

static struct th_host *akoya_host(void)
{
	const struct th_config config = { .profile = "akoya" };

	th_control(provider, "{'set':{'rotation':'dex'}}");
	return th_host_new(provider, &config);
}

/* The refusal comes while the bearer is good, and again when it is needed. */
static void refuse_at_akoya(const char *json, int32_t reason)
{
	struct th_host *host = akoya_host();
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };

	th_must_link(host, provider, "ana", "mikomo", NULL);
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", -1, "{'status':400,'json':%s}", json);
	same(json, ask_at(host, "ana", "mikomo", AHEAD_MS, 0, NULL, NULL, NULL), ACCTLINK_OK);
	seen = look_at(host, "ana", "mikomo");
	same(json, seen.state, ACCTLINK_STATE_RELINK_REQUIRED);
	same(json, seen.reason, reason);
	same(json, events(host, "RELINK_REQUIRED", "ana"), 1);
	same(json, ask_at(host, "ana", "mikomo", AHEAD_MS, 0, NULL, NULL, NULL), ACCTLINK_OK);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same(json, ask_at(host, "ana", "mikomo", 0, 0, NULL, NULL, &err), ACCTLINK_RELINK_REQUIRED);
	same(json, refreshes(), 1);
	th_host_free(&host);
}

static void dex_words_for_a_spent_token_end_the_link_at_akoya(void **state)
{
	(void)state;
	refuse_at_akoya("{'error':'invalid_request','error_description':"
			"'Refresh token is invalid or has already been claimed by another client.'}",
		ACCTLINK_REASON_REVOKED);
}

static void dex_words_broken_over_two_lines_are_understood(void **state)
{
	(void)state;
	refuse_at_akoya("{'error':'invalid_request','error_description':"
			"'Refresh token is invalid or has already been\\n  claimed by another client'}",
		ACCTLINK_REASON_REVOKED);
}

static void dex_words_with_invalid_grant_end_the_link_at_akoya(void **state)
{
	(void)state;
	refuse_at_akoya("{'error':'invalid_grant','error_description':"
			"'Refresh token is invalid or has already been claimed by another client.'}",
		ACCTLINK_REASON_REVOKED);
}

static void invalid_request_for_another_reason_is_our_fault_and_ends_nothing(void **state)
{
	struct th_host *host = akoya_host();
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	char *token;

	(void)state;
	th_must_link(host, provider, "ana", "mikomo", NULL);
	token = th_grant_current(provider, -1);
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", -1,
		"{'status':400,'json':{'error':'invalid_request',"
		"'error_description':'missing parameter refresh_token'}}");
	same("good", ask_at(host, "ana", "mikomo", AHEAD_MS, 0, NULL, NULL, NULL), ACCTLINK_OK);
	seen = look_at(host, "ana", "mikomo");
	same("good", seen.state, ACCTLINK_STATE_STALE);
	same("good", seen.reason, ACCTLINK_REASON_OUR_FAULT);
	same("good", seen.claim, ACCTLINK_CLAIM_NONE);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("ended", ask_at(host, "ana", "mikomo", 0, 0, NULL, NULL, &err), ACCTLINK_BAD_PROVIDER);
	same("ended", err.http_status, 400);
	th_check(strcmp(err.provider_code, "invalid_request") == 0 && strstr(err.message, "missing parameter") != NULL,
		"the error does not tell what the provider said: %s", th_error_text(&err));
	same("ended", events(host, "RELINK_REQUIRED", "ana"), 0);
	th_unscript(provider);
	th_advance(host, provider, 10 * MINUTE_MS);
	same("repaired", ask_at(host, "ana", "mikomo", 0, 0, NULL, NULL, NULL), ACCTLINK_OK);
	same("repaired", look_at(host, "ana", "mikomo").generation, 2);
	th_check(last_token_is(token), "another token was sent");
	free(token);
	th_host_free(&host);
}

/* One who is still sending, and one in another process who thinks it dead: its
 * clock is past the end of the claim's lease. */
struct race {
	const char *config_path;
	struct th_clock *clock;      /* of the slow one */
	struct th_clock *late_clock; /* of the winner */
	struct th_host *slow;
	int go[2];
	pid_t winner;
	acctlink_status slow_end;
	acctlink_bearer_info slow_info;
	char *slow_bearer;
};

static int win(void *ctx)
{
	struct race *race = ctx;
	struct th_host *host;
	char go;

	th_check(read(race->go[0], &go, 1) == 1, "nobody told to go");
	host = th_host_open(race->config_path, race->late_clock);
	same("winner", ask_at(host, "ana", "mikomo", 0, 0, NULL, NULL, NULL), ACCTLINK_OK);
	same("winner", look_at(host, "ana", "mikomo").generation, 2);
	th_host_free(&host);
	return 0;
}

static void run_race(void *ctx, unsigned i)
{
	struct race *race = ctx;

	if (i == 0) {
		race->slow_end = ask_at(race->slow, "ana", "mikomo", 0, 0, &race->slow_bearer, &race->slow_info, NULL);
		return;
	}
	th_wait_held(provider, "loser", 1);
	th_check(write(race->go[1], "g", 1) == 1, "write");
	th_join(race->winner, 60000);
	th_release(provider, "loser");
}

static void a_refusal_of_a_token_that_another_process_has_replaced_harms_nobody(void **state)
{
	const struct th_config config = { .profile = "akoya" };
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, &config);
	struct race race = { .config_path = path, .clock = th_clock_new(), .late_clock = th_clock_new() };
	struct th_host *first = th_host_open(path, race.clock);
	acctlink_inspect_result seen;
	char *token;

	(void)state;
	th_control(provider, "{'set':{'rotation':'dex'}}");
	th_must_link(first, provider, "ana", "mikomo", NULL);
	token = th_grant_current(provider, -1);
	th_advance(first, provider, HOUR_MS + 1000);
	th_clock_advance(race.late_clock, HOUR_MS + 1000 + 100 * 1000);
	th_host_free(&first); /* no thread is left to be forked */
	th_check(pipe2(race.go, O_CLOEXEC) == 0, "pipe");
	race.winner = th_fork(win, &race);
	race.slow = th_host_open(path, race.clock);
	th_script(provider, "token", "refresh_token", 1, "{'hold_before':'loser'}");
	th_parallel(2, run_race, &race);
	same("loser", race.slow_end, ACCTLINK_OK);
	same("loser", race.slow_info.generation, 2);
	th_check(th_userinfo(provider, race.slow_bearer) == 200, "the loser's bearer is not the winner's");
	same("arrivals", th_arrivals(provider, token), 2);
	seen = look_at(race.slow, "ana", "mikomo");
	same("after", seen.state, ACCTLINK_STATE_LINKED);
	same("after", seen.reason, ACCTLINK_REASON_NONE);
	same("after", seen.generation, 2);
	same("after", seen.claim, ACCTLINK_CLAIM_NONE);
	same("after", th_lines_count(race.slow->events, NULL), 0);
	th_advance(race.slow, provider, HOUR_MS + 1000);
	same("later", ask_at(race.slow, "ana", "mikomo", 0, 0, NULL, NULL, NULL), ACCTLINK_OK);
	same("later", look_at(race.slow, "ana", "mikomo").generation, 3);
	th_host_free(&race.slow);
	th_clock_free(&race.clock);
	th_clock_free(&race.late_clock);
	close(race.go[0]);
	close(race.go[1]);
	free(race.slow_bearer);
	free(token);
	free(path);
	free(dir);
}

/* ---- answers with and without a refresh token -------------------------------------------------- */

static const struct repeat {
	const char *what;
	const char *rotation;
	const char *script; /* NULL: the ordinary answer */
	bool rotates;
} repeats[] = { { "no refresh_token", "none", NULL, false },
	{ "refresh_token null", "none",
		"{'spend':true,'body':'{\\'access_token\\':\\'{{access_token}}\\',"
		"\\'token_type\\':\\'bearer\\',\\'expires_in\\':3600,\\'refresh_token\\':null}'}",
		false },
	{ "refresh_token empty", "none", "{'set':{'refresh_token':''}}", false },
	{ "the same refresh_token", "same", NULL, false }, { "a new refresh_token", "strict", NULL, true } };

static void refresh_three_times(const struct repeat *repeat)
{
	struct th_host *host = th_host_new(provider, NULL);
	uint64_t generation;
	char *body;
	char *token;

	reset_provider(NULL); /* its clock, too */
	th_control(provider, "{'set':{'rotation':'%s'}}", repeat->rotation);
	th_must_link(host, provider, "ana", NULL, NULL);
	/* With rotation none the first answer brings the token all the same. */
	token = th_grant_current(provider, -1);
	if (repeat->script != NULL)
		th_script(provider, "token", "refresh_token", -1, "%s", repeat->script);
	for (generation = 2; generation <= 4; generation++) {
		th_advance(host, provider, HOUR_MS + 1000);
		same(repeat->what, served(host, "ana", 0), generation);
		th_check(last_token_is(token), "%s: another token was sent at generation %d", repeat->what,
			(int)generation);
		body = th_must_bearer(host, "ana", NULL, NULL);
		th_check(th_userinfo(provider, body) == 200, "%s: the bearer is refused", repeat->what);
		free(body);
		if (repeat->rotates) {
			free(token);
			token = th_grant_current(provider, -1);
		}
		th_host_restart(host);
	}
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 4);
	same(repeat->what, th_max_arrivals(provider), repeat->rotates ? 1 : 3);
	free(token);
	th_host_free(&host);
	th_unscript(provider);
}

static void a_refresh_token_is_kept_unless_a_new_one_comes(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(repeats) / sizeof(repeats[0]); i++)
		refresh_three_times(&repeats[i]);
}

/* ---- bearers that the data API refused -------------------------------------------------------------- */

static void report(struct th_host *host, uint64_t generation)
{
	acctlink_error err = { 0 };

	th_check(th_report(host, "ana", NULL, generation, &err) == ACCTLINK_OK, "report: %s", th_error_text(&err));
}

static struct th_host *host_with_link(const struct th_config *config)
{
	struct th_host *host = th_host_new(provider, config);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, MINUTE_MS); /* past min_refresh_interval */
	return host;
}

static void a_rejected_bearer_is_replaced_by_one_refresh(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	same("before", served(host, "ana", 0), 1);
	report(host, 1);
	same("reported", served(host, "ana", 0), 2);
	same("again", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	th_host_free(&host);
}

static void a_report_about_an_older_generation_changes_nothing(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	report(host, 1);
	same("new", served(host, "ana", 0), 2);
	th_advance(host, provider, MINUTE_MS);
	report(host, 1);
	same("still", served(host, "ana", 0), 2);
	th_host_restart(host);
	report(host, 1);
	same("still, after a restart", served(host, "ana", 0), 2);
	th_host_restart(host); /* the report has been written, or not */
	same("still, after another", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static void a_report_about_a_generation_that_never_was_changes_nothing(void **state)
{
	struct th_host *host = host_with_link(NULL);
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		report(host, 2 + (uint64_t)i);
		same("still", served(host, "ana", 0), 1);
	}
	same("refreshes", refreshes(), 0);
	th_host_restart(host); /* ends what is queued */
	same("still", served(host, "ana", 0), 1);
	report(host, 1);
	same("a true one", served(host, "ana", 0), 2);
	th_host_free(&host);
}

static void every_report_is_seen_by_the_next_get_bearer(void **state)
{
	struct th_host *host = host_with_link(NULL);
	uint64_t generation;

	(void)state;
	for (generation = 1; generation < 100; generation++) {
		report(host, generation);
		same("next", served(host, "ana", 0), generation + 1);
		th_advance(host, provider, 11000); /* past min_refresh_interval */
	}
	th_host_free(&host);
}

struct storm {
	struct th_host *host;
	uint64_t generation[50];
};

static void report_and_ask(void *ctx, unsigned i)
{
	struct storm *storm = ctx;

	if (i >= 40) /* these see the new bearer first */
		(void)served(storm->host, "ana", 0);
	report(storm->host, 1);
	storm->generation[i] = served(storm->host, "ana", 0);
}

static void many_reports_about_one_generation_cost_one_refresh(void **state)
{
	struct storm storm = { .host = host_with_link(NULL) };
	unsigned i;

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'delay_ms':300}");
	same("before", served(storm.host, "ana", 0), 1);
	report(storm.host, 1);
	th_parallel(50, report_and_ask, &storm);
	for (i = 0; i < 50; i++)
		same("bearer", storm.generation[i], 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&storm.host);
}

static void forced_refreshes_keep_a_least_interval(void **state)
{
	struct th_host *host = host_with_link(NULL);
	acctlink_error err = { 0 };

	(void)state;
	report(host, 1);
	same("first", served(host, "ana", 0), 2);
	report(host, 2);
	same("too soon", denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN);
	th_check(err.retry_after_ms > 0 && err.retry_after_ms <= 10000, "retry_after_ms is %lld",
		(long long)err.retry_after_ms);
	same("too soon", refreshes(), 1);
	th_advance(host, provider, err.retry_after_ms + 1);
	same("in time", served(host, "ana", 0), 3);
	same("in time", refreshes(), 2);
	th_host_free(&host);
}

static void a_rejected_bearer_is_not_handed_out_again_though_refreshing_fails(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	th_script(provider, "token", "refresh_token", -1, "{'status':503,'body':'busy'}");
	report(host, 1);
	same("at once", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	same("again", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	th_host_restart(host);
	same("after a restart", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	th_unscript(provider);
	th_advance(host, provider, 10 * MINUTE_MS);
	same("repaired", served(host, "ana", 0), 2);
	th_host_free(&host);
}

static void a_report_just_before_the_shutdown_is_not_forgotten(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	same("before", served(host, "ana", 0), 1);
	report(host, 1);
	th_host_restart(host);
	same("after", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static bool serves_the_second(void *ctx)
{
	return served(ctx, "ana", 0) == 2;
}

static void a_report_reaches_the_other_process(void **state)
{
	struct th_host *host = host_with_link(&(struct th_config){ .lines = "poll_interval = 0.05;" });
	struct th_host *other = th_host_open(host->config_path, host->clock);

	(void)state;
	same("held here", served(host, "ana", 0), 1);
	same("held there", served(other, "ana", 0), 1);
	report(host, 1);
	same("refreshed here", served(host, "ana", 0), 2);
	th_wait_until(serves_the_second, other, 10000, "the other process to drop what it holds");
	same("there", served(other, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&other);
	th_host_free(&host);
}

static void a_rejected_bearer_makes_a_lost_answer_worth_asking_for_again(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer','spend':false}");
	same("lost", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, MINUTE_MS);
	same("good", served(host, "ana", AHEAD_MS), 1);
	same("good", refreshes(), 1);
	report(host, 1);
	same("rejected", served(host, "ana", 0), 2);
	same("rejected", refreshes(), 2);
	th_host_free(&host);
}

/* ---- another client in the config ------------------------------------------------------------------------ */

static void a_refresh_token_is_not_sent_for_another_client(void **state)
{
	const struct th_config other = { .client_id = "other-client" };
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	seen = look(host, "ana");
	th_advance(host, provider, 45 * MINUTE_MS);
	reconfigure(host, provider, &other);
	same("good", served(host, "ana", AHEAD_MS), 1);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("ended", denied(host, "ana", &err), ACCTLINK_BAD_CONFIG);
	th_check(strstr(err.message, "client_id") != NULL && strstr(err.where, "acctlink.conf") != NULL,
		"the error does not tell what to look at: %s", th_error_text(&err));
	th_host_restart(host);
	same("after a restart", denied(host, "ana", NULL), ACCTLINK_BAD_CONFIG);
	same("sent", th_count(provider, "token", "refresh_token"), 0);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 1);
	reconfigure(host, provider, NULL);
	same("corrected", served(host, "ana", 0), 2);
	th_host_free(&host);
}

static void a_refresh_token_is_not_sent_to_another_issuer(void **state)
{
	struct th_provider *elsewhere = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, NULL);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS + 1000);
	reconfigure(host, elsewhere, NULL);
	same("elsewhere", denied(host, "ana", NULL), ACCTLINK_BAD_CONFIG);
	same("elsewhere", th_count(elsewhere, "token", NULL), 0);
	same("here", refreshes(), 0);
	th_host_free(&host);
	th_provider_stop(&elsewhere);
}

static void a_provider_that_left_the_config_serves_the_bearer_and_sends_nothing(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *dir = folder_of(host);
	char *text = th_read_file(host->config_path);
	char *section = strstr(text, "\ttest = {");
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	seen = look(host, "ana");
	memcpy(section, "\tgone", 5);
	th_write_file(host->config_path, 0600, text);
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "reload: %s", th_error_text(&err));
	th_advance(host, provider, 45 * MINUTE_MS);
	same("good", served(host, "ana", AHEAD_MS), 1);
	same("inspect", look(host, "ana").state, ACCTLINK_STATE_LINKED);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("ended", denied(host, "ana", NULL), ACCTLINK_UNKNOWN_PROVIDER);
	same("sent", refreshes(), 0);
	reconfigure(host, provider, NULL);
	same("back", served(host, "ana", 0), 2);
	free(text);
	free(dir);
	th_host_free(&host);
}

/* ---- clocks that jump ---------------------------------------------------------------------------------- */

/* A bearer is held in memory by then. Refreshes bring no id_token, whose times
 * would be checked against the clock that jumped. */
static struct th_host *host_that_holds(void)
{
	struct th_host *host;
	int i;

	th_control(provider, "{'set':{'id_token':'first'}}");
	host = host_with_link(NULL);
	for (i = 0; i < 3; i++)
		same("held", served(host, "ana", 0), 1);
	return host;
}

static void a_wall_clock_set_forward_ends_the_bearer(void **state)
{
	struct th_host *host = host_that_holds();

	(void)state;
	th_clock_shift_wall(host->clock, 2 * HOUR_MS);
	same("forward", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static void a_machine_that_slept_ends_the_bearer_though_its_wall_clock_stood_still(void **state)
{
	struct th_host *host = host_that_holds();

	(void)state;
	th_clock_advance(host->clock, 2 * HOUR_MS);
	th_clock_shift_wall(host->clock, -2 * HOUR_MS);
	same("slept", served(host, "ana", 0), 2);
	same("again", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static void a_wall_clock_set_back_does_not_prolong_a_held_bearer(void **state)
{
	struct th_host *host = host_that_holds();

	(void)state;
	th_clock_shift_wall(host->clock, -2 * HOUR_MS);
	same("set back", served(host, "ana", 0), 1);
	th_clock_advance(host->clock, HOUR_MS - 10 * MINUTE_MS);
	same("ten minutes left", served(host, "ana", 0), 1);
	same("ten minutes left", refreshes(), 0);
	th_clock_advance(host->clock, 10 * MINUTE_MS);
	same("an hour later", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static void a_wall_clock_set_back_does_not_hold_refreshing_up(void **state)
{
	struct th_host *host = host_that_holds();

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'status':503,'headers':{'retry-after':'1800'}}");
	report(host, 1);
	same("turned away", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	th_clock_shift_wall(host->clock, -24 * HOUR_MS);
	th_clock_advance(host->clock, HOUR_MS); /* the longest pause that a provider can ask for */
	same("an hour later", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 2);
	th_host_free(&host);
}

/* ---- long tokens, odd users -------------------------------------------------------------------------------- */

static char *text_of(size_t len, char seed)
{
	char *text = calloc(1, len + 1);
	size_t i;

	th_check(text != NULL, "no memory");
	for (i = 0; i < len; i++)
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"[(i * 7 + (size_t)seed
												       + i / 66)
			% 66];
	return text;
}

static void check_length(size_t len)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *what = th_printf("%zu bytes", len);
	char *wanted = text_of(len, 1);
	char *bearer;
	char *token;
	uint64_t generation;

	reset_provider(NULL); /* its clock, too */
	th_control(provider, "{'set':{'token_bytes':{'refresh':%zu,'access':%zu,'id':%zu}}}", len, len, len);
	th_must_link(host, provider, "ana", NULL, NULL);
	for (generation = 2; generation <= 4; generation++) {
		token = th_grant_current(provider, -1);
		th_advance(host, provider, HOUR_MS + 1000);
		free(wanted);
		wanted = text_of(len, (char)generation);
		/* Its at_hash would be that of the token made by the server. */
		th_script(
			provider, "token", "refresh_token", 1, "{'set':{'access_token':'%s','id_token':null}}", wanted);
		same(what, served(host, "ana", 0), generation);
		th_check(last_token_is(token), "%s: not the refresh token that the provider gave", what);
		free(token);
		th_host_restart(host);
		bearer = th_must_bearer(host, "ana", NULL, NULL);
		th_check(strcmp(bearer, wanted) == 0, "%s: the bearer is not the one that came", what);
		free(bearer);
	}
	same(what, th_max_arrivals(provider), 1);
	free(wanted);
	free(what);
	th_host_free(&host);
}

static void tokens_of_any_length_come_back_to_the_byte(void **state)
{
	static const size_t lengths[] = { 1, 255, 4096, 16384, 65536 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		check_length(lengths[i]);
}

static void long_id_tokens_are_served_as_bearers(void **state)
{
	static const size_t lengths[] = { 4096, 16384, 65536 };
	const struct th_config config = { .provider_lines = "bearer = 'id_token';" };
	struct th_host *host = th_host_new(provider, &config);
	char *bearer;
	size_t i;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		th_control(provider, "{'set':{'token_bytes':{'id':%zu}}}", lengths[i]);
		th_advance(host, provider, HOUR_MS + 1000);
		same("generation", served(host, "ana", 0), i + 2);
		th_host_restart(host);
		bearer = th_must_bearer(host, "ana", NULL, NULL);
		th_check(strlen(bearer) > lengths[i] - 4 && strlen(bearer) <= lengths[i], "%zu bytes of %zu came back",
			strlen(bearer), lengths[i]);
		if (lengths[i] < 8192) /* node takes no longer header */
			th_check(th_userinfo(provider, bearer) == 200, "the provider does not know its id_token");
		free(bearer);
	}
	th_host_free(&host);
}

static acctlink_status list_user(struct th_host *host, const char *user, acctlink_list_item items[4], uint32_t *count)
{
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result result = ACCTLINK_LIST_RESULT_INIT;
	acctlink_status rc;

	args.user = th_str(user);
	result.items = items;
	result.capacity = 4;
	rc = host->api.list(host->handle, &args, &result, NULL);
	*count = result.count;
	return rc;
}

static void users_who_look_alike_never_meet(void **state)
{
	char *longest = text_of(1024, 3);
	const char *users[] = { "Ana", "ana", "\xc3\xa1na", "a\xcc\x81na", "' OR 1=1 --", "%00", "../x", "ana ",
		"\"ana\"", "ana;provider=test", longest };
	enum { USERS = sizeof(users) / sizeof(users[0]) };
	static const char *const strangers[] = { "ANA", "an", "anaa", "a na", "%", "_na", "../X", "ana\n" };
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result made[USERS];
	char *bearers[USERS];
	acctlink_list_item items[4];
	uint32_t count = 0;
	size_t i;
	size_t j;

	(void)state;
	for (i = 0; i < USERS; i++)
		th_must_link(host, provider, users[i], NULL, &made[i]);
	for (i = 0; i < USERS; i++)
		bearers[i] = th_must_bearer(host, users[i], NULL, NULL);
	th_host_restart(host);
	for (i = 0; i < USERS; i++) {
		char *again = th_must_bearer(host, users[i], NULL, NULL);

		th_check(strcmp(again, bearers[i]) == 0, "%s got another bearer after the restart", users[i]);
		free(again);
		for (j = 0; j < i; j++)
			th_check(strcmp(bearers[i], bearers[j]) != 0, "%s and %s share a bearer", users[i], users[j]);
		same(users[i], list_user(host, users[i], items, &count), ACCTLINK_OK);
		same(users[i], count, 1);
		th_check(strcmp(items[0].link_id, made[i].link_id) == 0, "%s sees another's link", users[i]);
		th_check(strcmp(look(host, users[i]).link_id, made[i].link_id) == 0, "%s inspects another's link",
			users[i]);
	}
	for (i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		acctlink_inspect_result none = ACCTLINK_INSPECT_RESULT_INIT;

		same(strangers[i], denied(host, strangers[i], NULL), ACCTLINK_NOT_LINKED);
		same(strangers[i], th_inspect(host, strangers[i], NULL, &none, NULL), ACCTLINK_NOT_LINKED);
		same(strangers[i], list_user(host, strangers[i], items, &count), ACCTLINK_OK);
		same(strangers[i], count, 0);
	}
	for (i = 0; i < USERS; i++)
		free(bearers[i]);
	free(longest);
	th_host_free(&host);
}

static void users_that_are_too_long_or_no_utf8_are_refused_not_cut(void **state)
{
	char *too_long = text_of(1025, 3);
	const char *users[] = { too_long, "an\xff", "\xc3", "\xed\xa0\x80", "\xc0\x80" };
	struct th_host *host = th_host_new(provider, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	size_t i;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	too_long[1024] = 'x';
	for (i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		acctlink_inspect_result none = ACCTLINK_INSPECT_RESULT_INIT;
		acctlink_list_item items[4];
		acctlink_error err = { 0 };
		uint32_t count = 0;

		same("begin", th_begin(host, users[i], NULL, flow, &err), ACCTLINK_BAD_ARGUMENT);
		th_check(strstr(err.message, "user") != NULL, "the error does not name the argument: %s", err.message);
		same("get_bearer", denied(host, users[i], NULL), ACCTLINK_BAD_ARGUMENT);
		same("inspect", th_inspect(host, users[i], NULL, &none, NULL), ACCTLINK_BAD_ARGUMENT);
		same("list", list_user(host, users[i], items, &count), ACCTLINK_BAD_ARGUMENT);
		same("unlink", th_unlink(host, users[i], NULL, NULL, NULL), ACCTLINK_BAD_ARGUMENT);
		same("report", th_report(host, users[i], NULL, 1, NULL), ACCTLINK_BAD_ARGUMENT);
	}
	free(flow);
	free(too_long);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = { refresh_test(
						    a_lost_answer_is_not_asked_for_again_before_the_bearer_is_needed),
		refresh_test(a_lost_answer_is_asked_for_again_when_a_minute_of_the_bearer_is_left),
		refresh_test(a_refusal_without_a_lost_answer_before_it_is_called_a_revocation),
		refresh_test(a_new_consent_ends_a_lost_rotation),
		refresh_test(inside_a_documented_reuse_window_a_lost_answer_is_asked_for_again),
		refresh_test(the_reuse_window_begins_with_the_first_send_of_the_token),
		refresh_test(a_reuse_window_that_has_passed_is_left_alone_while_the_bearer_is_good),
		refresh_test(a_reused_connection_that_dies_carries_the_refresh_once),
		refresh_test(an_idle_connection_that_was_closed_costs_nothing),
		refresh_test(a_caller_who_stops_waiting_does_not_stop_the_exchange),
		refresh_test(a_good_bearer_does_not_wait_for_a_refresh_ahead_of_time),
		refresh_test(a_process_that_was_killed_while_it_waited_leaves_an_unknown_outcome),
		refresh_test(dex_words_for_a_spent_token_end_the_link_at_akoya),
		refresh_test(dex_words_broken_over_two_lines_are_understood),
		refresh_test(dex_words_with_invalid_grant_end_the_link_at_akoya),
		refresh_test(invalid_request_for_another_reason_is_our_fault_and_ends_nothing),
		refresh_test(a_refusal_of_a_token_that_another_process_has_replaced_harms_nobody),
		refresh_test(a_refresh_token_is_kept_unless_a_new_one_comes),
		refresh_test(a_rejected_bearer_is_replaced_by_one_refresh),
		refresh_test(a_report_about_an_older_generation_changes_nothing),
		refresh_test(a_report_about_a_generation_that_never_was_changes_nothing),
		refresh_test(every_report_is_seen_by_the_next_get_bearer),
		refresh_test(many_reports_about_one_generation_cost_one_refresh),
		refresh_test(forced_refreshes_keep_a_least_interval),
		refresh_test(a_rejected_bearer_is_not_handed_out_again_though_refreshing_fails),
		refresh_test(a_report_just_before_the_shutdown_is_not_forgotten),
		refresh_test(a_report_reaches_the_other_process),
		refresh_test(a_rejected_bearer_makes_a_lost_answer_worth_asking_for_again),
		refresh_test(a_refresh_token_is_not_sent_for_another_client),
		refresh_test(a_refresh_token_is_not_sent_to_another_issuer),
		refresh_test(a_provider_that_left_the_config_serves_the_bearer_and_sends_nothing),
		refresh_test(a_wall_clock_set_forward_ends_the_bearer),
		refresh_test(a_machine_that_slept_ends_the_bearer_though_its_wall_clock_stood_still),
		refresh_test(a_wall_clock_set_back_does_not_prolong_a_held_bearer),
		refresh_test(a_wall_clock_set_back_does_not_hold_refreshing_up),
		refresh_test(tokens_of_any_length_come_back_to_the_byte),
		refresh_test(long_id_tokens_are_served_as_bearers), refresh_test(users_who_look_alike_never_meet),
		refresh_test(users_that_are_too_long_or_no_utf8_are_refused_not_cut) };

	return cmocka_run_group_tests_name("refresh", tests, start_provider, stop_provider);
}
