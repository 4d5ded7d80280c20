/* SPDX-License-Identifier: MIT
 * What the answers to a refresh mean, through the ABI: passing faults, a client
 * that is refused, refusals that pile up, odd dress, lifetimes in all shapes,
 * pauses, redirects. A table each; the counts are the provider's.
 */
#include "refresh_util.h"

#include <time.h>

/* ---- passing faults ---------------------------------------------------------------- */

enum fault { SCRIPTED, UNTRUSTED, REFUSED_CONNECTION, WRONG_SECRET };

static const struct passing {
	const char *what;
	enum fault fault;
	const char *script;
	int32_t reason;
	acctlink_status end; /* when no bearer is left */
	int http_status;
	const char *last_error;
} passings[] = { { "500", SCRIPTED, "{'status':500,'body':'oops'}", ACCTLINK_REASON_OUTCOME_UNKNOWN,
			 ACCTLINK_PROVIDER_DOWN, 500, "http_500" },
	{ "500 with an OAuth error", SCRIPTED, "{'status':500,'json':{'error':'invalid_request'}}",
		ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_PROVIDER_DOWN, 500, "invalid_request" },
	{ "500 with invalid_grant", SCRIPTED, "{'status':500,'json':{'error':'invalid_grant'}}",
		ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_PROVIDER_DOWN, 500, "invalid_grant" },
	{ "502 with a page", SCRIPTED, "{'status':502,'content_type':'text/html','body':'<html>bad gateway</html>'}",
		ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_PROVIDER_DOWN, 502, "http_502" },
	{ "503 with Retry-After", SCRIPTED, "{'status':503,'headers':{'retry-after':'30'},'body':'busy'}",
		ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN, 503, "http_503" },
	{ "429", SCRIPTED, "{'status':429,'body':'slow down'}", ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN,
		429, "http_429" },
	{ "429 with invalid_grant", SCRIPTED, "{'status':429,'json':{'error':'invalid_grant'}}",
		ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN, 429, "invalid_grant" },
	{ "403 with a challenge page", SCRIPTED,
		"{'status':403,'content_type':'text/html','body':'<html>are you human? invalid_grant</html>'}",
		ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN, 403, "http_403" },
	{ "401 with an empty body", SCRIPTED, "{'status':401,'body':''}", ACCTLINK_REASON_PROVIDER_DOWN,
		ACCTLINK_PROVIDER_DOWN, 401, "http_401" },
	{ "404", SCRIPTED, "{'status':404,'body':'no such page'}", ACCTLINK_REASON_PROVIDER_DOWN,
		ACCTLINK_PROVIDER_DOWN, 404, "http_404" },
	{ "200 with an empty body", SCRIPTED, "{'status':200,'body':''}", ACCTLINK_REASON_OUTCOME_UNKNOWN,
		ACCTLINK_PROVIDER_DOWN, 200, "empty_answer" },
	{ "200 with a page", SCRIPTED, "{'status':200,'content_type':'text/html','body':'<html>log in</html>'}",
		ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_PROVIDER_DOWN, 200, "not_json" },
	{ "204", SCRIPTED, "{'status':204,'body':''}", ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_PROVIDER_DOWN, 204,
		"empty_answer" },
	{ "unsupported_grant_type", SCRIPTED, "{'status':400,'json':{'error':'unsupported_grant_type'}}",
		ACCTLINK_REASON_OUR_FAULT, ACCTLINK_BAD_PROVIDER, 400, "unsupported_grant_type" },
	{ "a TLS failure", UNTRUSTED, NULL, ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN, 0, "not_sent" },
	{ "connection refused", REFUSED_CONNECTION, NULL, ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_PROVIDER_DOWN, 0,
		"not_sent" },
	{ "401 invalid_client", WRONG_SECRET, NULL, ACCTLINK_REASON_CLIENT_REFUSED, ACCTLINK_CLIENT_REFUSED, 401,
		"invalid_client" },
	{ "400 unauthorized_client", SCRIPTED, "{'status':400,'json':{'error':'unauthorized_client'}}",
		ACCTLINK_REASON_CLIENT_REFUSED, ACCTLINK_CLIENT_REFUSED, 400, "unauthorized_client" } };
enum { PASSINGS = sizeof(passings) / sizeof(passings[0]) };

/* Without discovery, so that a fault meets the refresh itself. */
struct fixed {
	char *lines;
	struct th_config config;
	struct th_host *host;
};

static struct fixed fixed_host(void)
{
	struct fixed fixed = {
		.lines = th_printf(
			"discovery = false; authorization_endpoint = '%s/auth';"
			"token_endpoint = '%s/token'; revocation_endpoint = '%s/revoke'; jwks_uri = '%s/jwks';",
			provider->issuer, provider->issuer, provider->issuer, provider->issuer)
	};

	fixed.config.provider_lines = fixed.lines;
	fixed.host = th_host_new(provider, &fixed.config);
	return fixed;
}

static void fixed_end(struct fixed *fixed)
{
	th_host_free(&fixed->host);
	free(fixed->lines);
}

static void break_it(const struct fixed *fixed, const struct passing *passing)
{
	struct th_provider distrusted = *provider;
	struct th_tls tls;
	char *dir;

	switch (passing->fault) {
	case SCRIPTED: th_script(provider, "token", "refresh_token", -1, "%s", passing->script); return;
	case UNTRUSTED:
		dir = th_temp_dir();
		th_tls_make(&tls, dir);
		distrusted.ca_file = tls.ca_file;
		reconfigure(fixed->host, &distrusted, &fixed->config);
		th_tls_clear(&tls);
		free(dir);
		return;
	case REFUSED_CONNECTION: th_provider_down(provider, true); return;
	default: th_control(provider, "{'set':{'clients':{'test-client':'another secret'}}}");
	}
}

static void repair_it(const struct fixed *fixed, const struct passing *passing)
{
	th_unscript(provider);
	th_provider_down(provider, false);
	th_control(provider, "{'set':{'clients':null}}");
	if (passing->fault == UNTRUSTED)
		reconfigure(fixed->host, provider, &fixed->config);
}

/* Ahead of time, with 20 minutes left: nothing is lost but a try. */
static void fail_in_time(const struct fixed *fixed, const struct passing *passing)
{
	struct th_host *host = fixed->host;
	acctlink_inspect_result seen;

	reset_provider(NULL); /* its clock, too */
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 40 * MINUTE_MS);
	break_it(fixed, passing);
	same(passing->what, served(host, "ana", AHEAD_MS), 1);
	seen = look(host, "ana");
	same(passing->what, seen.state, ACCTLINK_STATE_STALE);
	same(passing->what, seen.reason, passing->reason);
	same(passing->what, seen.last_http_status, passing->http_status);
	same(passing->what, seen.failures, 1);
	same(passing->what, seen.generation, 1);
	same(passing->what, seen.claim,
		passing->reason == ACCTLINK_REASON_OUTCOME_UNKNOWN ? ACCTLINK_CLAIM_UNKNOWN : ACCTLINK_CLAIM_NONE);
	th_check(strcmp(seen.last_error, passing->last_error) == 0, "%s: last_error is %s", passing->what,
		seen.last_error);
	same(passing->what, events(host, "STALE", "ana"), 1);
	same(passing->what, refreshes(), passing->http_status != 0);
	th_host_restart(host);
	same(passing->what, look(host, "ana").reason, passing->reason);
}

static void check_healed(struct th_host *host, const struct passing *passing)
{
	char *bearer;

	same(passing->what, served(host, "ana", AHEAD_MS), 2);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	same(passing->what, events(host, "HEALED", "ana"), 1);
	same(passing->what, events(host, "RELINK_REQUIRED", NULL), 0);
	same(passing->what, events(host, "STALE", NULL), 1);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	same(passing->what, th_userinfo(provider, bearer), 200);
	free(bearer);
}

static void a_passing_fault_leaves_the_bearer_and_heals_by_itself(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < PASSINGS; i++) {
		const struct passing *passing = &passings[i];
		struct fixed fixed = fixed_host();
		const int64_t after = 2 * MINUTE_MS; /* past the back-off, Retry-After and the probe's pause */
		int sent;

		fail_in_time(&fixed, passing);
		repair_it(&fixed, passing);
		th_advance(fixed.host, provider, after);
		if (passing->reason == ACCTLINK_REASON_OUTCOME_UNKNOWN) { /* not before it is needed */
			sent = refreshes();
			same(passing->what, served(fixed.host, "ana", AHEAD_MS), 1);
			same(passing->what, refreshes(), sent);
			th_advance(fixed.host, provider, 20 * MINUTE_MS);
		}
		check_healed(fixed.host, passing);
		fixed_end(&fixed);
	}
}

static void a_fault_that_outlasts_the_bearer_is_told_and_ends_no_link(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < PASSINGS; i++) {
		const struct passing *passing = &passings[i];
		struct fixed fixed = fixed_host();
		acctlink_error err = { 0 };

		fail_in_time(&fixed, passing);
		th_advance(fixed.host, provider, 20 * MINUTE_MS + 1000);
		same(passing->what, denied(fixed.host, "ana", &err), passing->end);
		same(passing->what, err.http_status, passing->http_status);
		th_check(strcmp(err.provider_code, passing->last_error) == 0, "%s: provider_code is %s", passing->what,
			err.provider_code);
		same(passing->what, denied(fixed.host, "ana", &err),
			passing->end == ACCTLINK_BAD_PROVIDER ? ACCTLINK_PROVIDER_DOWN
							      : passing->end); /* this one was not sent: it waits */
		th_check(err.retry_after_ms > 0, "%s: the error does not tell when to try again", passing->what);
		same(passing->what, look(fixed.host, "ana").state, ACCTLINK_STATE_STALE);
		repair_it(&fixed, passing);
		th_advance(fixed.host, provider, 10 * MINUTE_MS);
		check_healed(fixed.host, passing);
		fixed_end(&fixed);
	}
}

static void metadata_that_cannot_be_fetched_costs_no_link(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 40 * MINUTE_MS);
	th_host_restart(host); /* the metadata is forgotten */
	th_script(provider, "discovery", NULL, -1, "{'status':503,'body':'busy'}");
	same("good", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, 20 * MINUTE_MS + 1000);
	same("ended", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	same("sent", refreshes(), 0);
	same("events", th_lines_count(host->events, "RELINK_REQUIRED"), 0);
	th_unscript(provider);
	th_advance(host, provider, MINUTE_MS);
	same("repaired", served(host, "ana", 0), 2);
	th_host_free(&host);
}

static void invalid_grant_ends_the_link_and_leaves_the_bearer(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 40 * MINUTE_MS);
	th_control(provider, "{'kill_grant':%d}", th_grant_count(provider) - 1);
	same("good", served(host, "ana", AHEAD_MS), 1);
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_REVOKED, 1);
	same("one event", events(host, "RELINK_REQUIRED", "ana"), 1);
	same("one event", events(host, "STALE", "ana"), 0);
	th_host_restart(host);
	same("good, after a restart", served(host, "ana", AHEAD_MS), 1);
	seen = look(host, "ana");
	advance_past(host, seen.bearer_expires_at_ms, -2000);
	same("to the end", served(host, "ana", 0), 1);
	advance_past(host, seen.bearer_expires_at_ms, 0);
	same("ended", denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED);
	th_advance(host, provider, HOUR_MS);
	same("ended", denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED);
	same("sent", refreshes(), 1);
	th_host_free(&host);
}

/* ---- a client that is refused ------------------------------------------------------------ */

static char *user_name(unsigned i)
{
	return th_printf("user-%u", i);
}

static void an_hour_of_invalid_client_harms_no_link(void **state)
{
	const unsigned links = th_full() ? 1000 : 100;
	const uint32_t ahead = (uint32_t)HOUR_MS;
	struct th_host *host = th_host_new(provider, NULL);
	int64_t long_ones_end;
	unsigned minute;
	unsigned i;

	(void)state;
	for (i = 0; i < links; i++) { /* every other one lives for two hours */
		char *user = user_name(i);

		th_control(provider, "{'set':{'access_ttl':%d,'id_token_ttl':%d}}", i % 2 ? 7200 : 600,
			i % 2 ? 7200 : 600);
		th_must_link(host, provider, user, NULL, NULL);
		free(user);
	}
	long_ones_end = th_clock_wall_ms(host->clock) + 2 * HOUR_MS;
	th_control(provider, "{'set':{'clients':{'test-client':'another secret'}}}");
	th_advance(host, provider, 4000 * 1000);
	for (minute = 0; minute < 60; minute++) {
		for (i = 0; i < links; i++) {
			char *user = user_name(i);
			const bool good = i % 2 && th_clock_wall_ms(host->clock) < long_ones_end - MINUTE_MS;
			const acctlink_status rc = ask(host, user, ahead, NULL, NULL, NULL);

			if (good)
				same(user, rc, ACCTLINK_OK);
			else if (!(i % 2))
				same(user, rc, ACCTLINK_CLIENT_REFUSED);
			free(user);
		}
		th_advance(host, provider, MINUTE_MS);
	}
	th_check(refreshes() >= 2 && refreshes() <= 8, "%d requests in an hour", refreshes());
	same("alarms", events(host, "CLIENT_REFUSED", NULL), 1);
	same("alarms", th_lines_count(host->logs, "refuses our client"), 1);
	same("relinks", events(host, "RELINK_REQUIRED", NULL), 0);
	th_control(provider, "{'set':{'clients':null}}");
	th_advance(host, provider, HOUR_MS + MINUTE_MS); /* the longest pause between two probes */
	for (i = 0; i < links; i++) {
		char *user = user_name(i);

		same(user, served(host, user, 0), 2);
		state_is(host, user, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
		free(user);
	}
	same("relinks", events(host, "RELINK_REQUIRED", NULL), 0);
	th_control(provider, "{'set':{'clients':{'test-client':'another secret'}}}");
	th_advance(host, provider, 3 * HOUR_MS);
	same("again", denied(host, "user-0", NULL), ACCTLINK_CLIENT_REFUSED);
	same("alarms", events(host, "CLIENT_REFUSED", NULL), 2);
	th_host_free(&host);
}

/* ---- refusals that pile up ------------------------------------------------------------------ */

static void more_than_twenty_refusals_in_a_row_stop_refreshing(void **state)
{
	enum { LINKS = 30, FUSE = 20 };
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };
	unsigned i;

	(void)state;
	for (i = 0; i < LINKS; i++) {
		char *user = user_name(i);

		if (i == LINKS - 1)
			th_control(provider, "{'set':{'access_ttl':36000,'id_token_ttl':36000}}");
		th_must_link(host, provider, user, NULL, NULL);
		free(user);
	}
	th_control(provider, "{'set':{'access_ttl':3600,'id_token_ttl':3600}}");
	th_script(provider, "token", "refresh_token", -1, "{'status':400,'json':{'error':'invalid_grant'}}");
	th_advance(host, provider, HOUR_MS + 1000);
	for (i = 0; i < LINKS - 1; i++) {
		char *user = user_name(i);

		same(user, denied(host, user, &err), i < FUSE ? ACCTLINK_RELINK_REQUIRED : ACCTLINK_PROVIDER_DOWN);
		free(user);
	}
	th_check(strstr(err.message, "in a row") != NULL && err.retry_after_ms > 0,
		"the error does not tell of the fuse: %s", err.message);
	same("fuse", refreshes(), FUSE + 1);
	same("fuse", events(host, "RELINK_REQUIRED", NULL), FUSE);
	same("alarm", th_lines_count(host->logs, "refreshing is stopped"), 1);
	same("a good bearer", served(host, "user-29", 0), 1);
	th_advance(host, provider, MINUTE_MS + 1000);
	for (i = FUSE; i < LINKS - 1; i++) { /* one of these is the probe */
		char *user = user_name(i);

		same(user, denied(host, user, NULL), ACCTLINK_PROVIDER_DOWN);
		free(user);
	}
	same("probe", refreshes(), FUSE + 2);
	same("probe", events(host, "RELINK_REQUIRED", NULL), FUSE);
	same("alarm", th_lines_count(host->logs, "refreshing is stopped"), 1);
	th_unscript(provider);
	th_advance(host, provider, 10 * MINUTE_MS);
	for (i = 0; i < LINKS - 1; i++) {
		char *user = user_name(i);

		if (i < FUSE)
			same(user, denied(host, user, NULL), ACCTLINK_RELINK_REQUIRED);
		else
			same(user, served(host, user, 0), 2);
		free(user);
	}
	th_control(provider, "{'kill_grant':%d}", th_grant_count(provider) - 2);
	th_advance(host, provider, HOUR_MS + 1000);
	same("one refusal", denied(host, "user-28", NULL), ACCTLINK_RELINK_REQUIRED);
	th_host_free(&host);
}

static void refusals_with_a_success_between_them_do_not_stop_refreshing(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	const int first = th_grant_count(provider);
	unsigned i;

	(void)state;
	for (i = 0; i < 30; i++) {
		char *user = user_name(i);

		th_must_link(host, provider, user, NULL, NULL);
		if (i % 15 != 7)
			th_control(provider, "{'kill_grant':%d}", first + (int)i);
		free(user);
	}
	th_advance(host, provider, HOUR_MS + 1000);
	for (i = 0; i < 30; i++) {
		char *user = user_name(i);

		if (i % 15 == 7)
			same(user, served(host, user, 0), 2);
		else
			same(user, denied(host, user, NULL), ACCTLINK_RELINK_REQUIRED);
		free(user);
	}
	same("relinks", events(host, "RELINK_REQUIRED", NULL), 28);
	th_host_free(&host);
}

/* ---- odd dress ---------------------------------------------------------------------------------- */

static const struct dress {
	const char *what;
	const char *script;
} dresses[] = { { "text/plain", "{'content_type':'text/plain; charset=utf-8'}" },
	{ "text/html", "{'content_type':'text/html'}" }, { "no content type", "{'no_content_type':true}" },
	{ "a byte-order mark", "{'bom':true}" }, { "a newline at the end", "{'suffix':'\\n'}" },
	{ "blank lines at the end", "{'suffix':'\\r\\n\\r\\n  '}" }, { "a form that says so", "{'form':true}" },
	{ "a form that says it is text", "{'form':true,'content_type':'text/plain'}" },
	{ "a connection cut after the last brace", "{'cut':'after_body'}" },
	{ "a connection reset after the last brace", "{'cut':'after_body','reset':true}" },
	{ "byte by byte", "{'drip':{'bytes':100,'every_ms':1}}" }, { "201", "{'status':201,'spend':true}" },
	{ "no token_type", "{'set':{'token_type':null}}" }, { "another token_type", "{'set':{'token_type':'BEARER'}}" },
	{ "no scope", "{'set':{'scope':null}}" },
	{ "more members", "{'set':{'x':{'y':[1,2,{'error':'no'}]},'error':null}}" },
	{ "error null",
		"{'spend':true,'body':'{\\'error\\':null,\\'access_token\\':\\'{{access_token}}\\',"
		"\\'refresh_token\\':\\'{{refresh_token}}\\',\\'expires_in\\':3600}'}" } };

static void a_readable_set_is_kept_in_whatever_dress(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(dresses) / sizeof(dresses[0]); i++) {
		const struct dress *dress = &dresses[i];
		struct th_host *host;
		char *current;
		char *bearer;

		reset_provider(NULL); /* its clock, too */
		host = th_host_new(provider, NULL);
		th_must_link(host, provider, "ana", NULL, NULL);
		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", 1, "%s", dress->script);
		same(dress->what, served(host, "ana", 0), 2);
		bearer = th_must_bearer(host, "ana", NULL, NULL);
		same(dress->what, th_userinfo(provider, bearer), 200);
		free(bearer);
		state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
		current = th_grant_current(provider, -1);
		th_host_restart(host);
		th_advance(host, provider, HOUR_MS + 1000);
		same(dress->what, served(host, "ana", 0), 3);
		th_check(last_token_is(current), "%s: the rotated token was not kept", dress->what);
		same(dress->what, th_max_arrivals(provider), 1);
		free(current);
		th_host_free(&host);
	}
}

static const struct disguise {
	const char *what;
	const char *script;
	const char *code;
} disguises[] = { { "200 with an error", "{'status':200,'json':{'error':'bad_refresh_token','error_description':'x'}}",
			  "bad_refresh_token" },
	{ "200 with an error as access_token",
		"{'status':200,'json':{'access_token':'error: no such user',"
		"'refresh_token':'','expires_in':0,'error':'error: no such user'}}",
		"error: no such user" },
	{ "200 with an error beside a whole set",
		"{'status':200,'json':{'access_token':'at-false','refresh_token':'rt-false',"
		"'expires_in':3600,'error':'temporarily_odd'}}",
		"temporarily_odd" },
	{ "200 with an error as a form",
		"{'status':200,'content_type':'application/x-www-form-urlencoded',"
		"'body':'error=bad_refresh_token&error_description=x'}",
		"bad_refresh_token" } };

static void an_error_inside_a_200_is_a_failure(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(disguises) / sizeof(disguises[0]); i++) {
		const struct disguise *disguise = &disguises[i];
		acctlink_error err = { 0 };
		struct th_host *host;
		char *token;

		reset_provider(NULL);
		host = th_host_new(provider, NULL);
		th_must_link(host, provider, "ana", NULL, NULL);
		token = th_grant_current(provider, -1);
		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", 1, "%s", disguise->script);
		same(disguise->what, denied(host, "ana", &err), ACCTLINK_BAD_PROVIDER);
		same(disguise->what, err.http_status, 200);
		th_check(strcmp(err.provider_code, disguise->code) == 0, "%s: provider_code is %s", disguise->what,
			err.provider_code);
		state_is(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUR_FAULT, 1);
		th_advance(host, provider, MINUTE_MS);
		same(disguise->what, served(host, "ana", 0), 2);
		th_check(last_token_is(token), "%s: the token was not kept", disguise->what);
		free(token);
		th_host_free(&host);
	}
}

static void a_json_error_counts_whatever_its_content_type(void **state)
{
	static const char *const types[] = { "'content_type':'text/plain'", "'content_type':'text/html'",
		"'no_content_type':true" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct th_host *host;

		reset_provider(NULL);
		host = th_host_new(provider, NULL);
		th_must_link(host, provider, "ana", NULL, NULL);
		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", 1, "{'status':400,%s,'json':{'error':'invalid_grant'}}",
			types[i]);
		same(types[i], denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
		state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_REVOKED, 1);
		th_host_free(&host);
	}
}

static void json_is_always_asked_for(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *accept;
	char *type;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS + 1000);
	same("refresh", served(host, "ana", 0), 2);
	accept = th_request(provider, "token", 0, "accept");
	type = th_request(provider, "token", 0, "content_type");
	assert_string_equal(accept, "application/json");
	assert_string_equal(type, "application/x-www-form-urlencoded");
	free(accept);
	free(type);
	same("unlink", th_unlink(host, "ana", NULL, NULL, NULL), ACCTLINK_OK);
	accept = th_request(provider, "revoke", 0, "accept");
	assert_string_equal(accept, "application/json");
	free(accept);
	th_host_free(&host);
}

/* ---- expires_in --------------------------------------------------------------------------------------- */

/* In seconds; 0: unusable. A NULL shape: the member is missing. */
static const struct shape {
	const char *shape;
	int64_t usable;
} shapes[] = { { "3600", 3600 }, { "\\'3600\\'", 3600 }, { "\\' 3600 \\'", 3600 }, { "null", 0 }, { NULL, 0 },
	{ "0", 0 }, { "-3600", 0 }, { "\\'soon\\'", 0 }, { "true", 0 }, { "\\'\\'", 0 }, { "[3600]", 0 }, { "{}", 0 },
	{ "99999999999999999999", 3653 * (int64_t)86400 } };
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* Whether the bearer tells its own end, and when that is. */
static const struct kind {
	const char *what;
	const char *config;
	int64_t exp; /* seconds from now; 0: it does not tell */
} kinds[] = { { "opaque", "bearer = 'access_token';", 0 }, { "ends sooner", "bearer = 'id_token';", 1800 },
	{ "ends later", "bearer = 'id_token';", 7200 } };
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct row {
	const struct kind *kind;
	const struct shape *shape;
	bool refresh; /* else at the first exchange */
	char *user;
	int grant;
	uint64_t generation;
};

static void script_shape(const struct row *row)
{
	char *member = row->shape->shape != NULL ? th_printf(",\\'expires_in\\':%s", row->shape->shape)
						 : th_printf("%s", "");

	th_control(provider, "{'set':{'id_token_ttl':%lld}}", (long long)(row->kind->exp != 0 ? row->kind->exp : 3600));
	th_script(provider, "token", row->refresh ? "refresh_token" : "authorization_code", 1,
		"{'body':'{\\'access_token\\':\\'{{access_token}}\\',\\'id_token\\':\\'{{id_token}}\\',"
		"\\'refresh_token\\':\\'{{refresh_token}}\\',\\'token_type\\':\\'bearer\\'%s}'}",
		member);
	free(member);
}

/* When the bearer must end if it came at `received`. */
static int64_t wanted_end(const struct row *row, int64_t received, const char *bearer)
{
	const int64_t exp = jwt_time(bearer, "exp") * 1000;
	int64_t end = received + row->shape->usable * 1000;

	if (row->shape->usable == 0 && exp != 0)
		return exp;
	if (row->shape->usable == 0)
		end = received + (row->refresh ? 3600 : 900) * 1000;
	return exp != 0 && exp < end ? exp : end;
}

static void check_row(struct th_host *host, struct row *row)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	const int64_t before = th_clock_wall_ms(host->clock);
	acctlink_error err = { 0 };
	char *what = th_printf(
		"%s, expires_in %s", row->user, row->shape->shape != NULL ? row->shape->shape : "missing");
	char *bearer = NULL;

	script_shape(row);
	if (!row->refresh)
		th_must_link(host, provider, row->user, NULL, NULL);
	th_check(ask(host, row->user, 0, &bearer, &info, &err) == ACCTLINK_OK, "%s: %s", what, th_error_text(&err));
	row->generation = row->refresh ? 2 : 1;
	same(what, info.generation, row->generation);
	th_check((row->kind->exp != 0) == (jwt_time(bearer, "exp") != 0), "%s: another kind of bearer", what);
	th_check(info.expires_at_ms >= wanted_end(row, before, bearer)
			&& info.expires_at_ms <= wanted_end(row, th_clock_wall_ms(host->clock), bearer),
		"%s: it ends %lld ms after the call", what, (long long)(info.expires_at_ms - before));
	free(bearer);
	free(what);
}

static void make_rows(struct row rows[2 * SHAPES], const struct kind *kind, struct th_host *host)
{
	unsigned i;

	for (i = 0; i < 2 * SHAPES; i++) {
		rows[i] = (struct row){ .kind = kind, .shape = &shapes[i / 2], .refresh = i % 2 == 0 };
		rows[i].user = th_printf(
			"%s at the %s %u", kind->what, rows[i].refresh ? "refresh" : "exchange", i / 2);
		if (!rows[i].refresh)
			continue;
		rows[i].grant = th_grant_count(provider);
		th_must_link(host, provider, rows[i].user, NULL, NULL);
	}
}

static void try_kind(const struct kind *kind)
{
	const struct th_config config = { .provider_lines = kind->config };
	struct row rows[2 * SHAPES];
	struct th_host *host;
	unsigned step;
	unsigned i;
	int sent;

	reset_provider(NULL);
	host = th_host_new(provider, &config);
	make_rows(rows, kind, host);
	th_advance(host, provider, HOUR_MS + 1000);
	for (i = 0; i < 2 * SHAPES; i++) {
		if (!rows[i].refresh)
			rows[i].grant = th_grant_count(provider);
		check_row(host, &rows[i]);
	}
	sent = refreshes();
	same(kind->what, sent, SHAPES);
	for (step = 0; step < 20; step++) { /* ten minutes: nobody needs another one */
		th_advance(host, provider, 30000);
		for (i = 0; i < 2 * SHAPES; i++)
			same(rows[i].user, served(host, rows[i].user, 0), rows[i].generation);
	}
	same(kind->what, refreshes(), sent);
	th_host_restart(host);
	th_advance(host, provider, (int64_t)3654 * 24 * HOUR_MS);
	for (i = 0; i < 2 * SHAPES; i++) { /* no shape lost a token */
		char *token = th_grant_current(provider, rows[i].grant);

		same(rows[i].user, served(host, rows[i].user, 0), rows[i].generation + 1);
		th_check(last_token_is(token), "%s: another token was sent", rows[i].user);
		free(token);
		free(rows[i].user);
	}
	same(kind->what, th_max_arrivals(provider), 1);
	th_host_free(&host);
}

static void a_lifetime_of_any_shape_gives_a_bearer_its_end(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < KINDS; i++)
		try_kind(&kinds[i]);
}

static void the_log_tells_which_lifetime_is_taken(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);

	(void)state;
	th_script(provider, "token", NULL, 2, "{'set':{'expires_in':0}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	same("exchange", th_lines_count(host->logs, "default_lifetime is taken"), 1);
	th_must_link(host, provider, "bob", NULL, NULL);
	th_must_link(host, provider, "eve", NULL, NULL);
	th_advance(host, provider, HOUR_MS + 1000);
	th_script(provider, "token", NULL, 1, "{'set':{'expires_in':'soon'}}");
	same("refresh", served(host, "eve", 0), 2);
	same("refresh", th_lines_count(host->logs, "the link's last one is taken"), 1);
	th_host_free(&host);
}

static void a_bearer_that_has_ended_when_it_comes_is_not_served_and_makes_no_loop(void **state)
{
	static const char *const lifetimes[] = { "0", "-3600", "3600", "null" };
	const struct th_config config = { .provider_lines = "bearer = 'id_token';" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
		struct th_host *host;
		int second;

		reset_provider(NULL);
		host = th_host_new(provider, &config);
		th_must_link(host, provider, "ana", NULL, NULL);
		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", -1,
			"{'set':{'expires_in':%s},'id_token':{'claims_in':{'exp':-10}}}", lifetimes[i]);
		for (second = 0; second < 600; second += 4) {
			same(lifetimes[i], denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
			th_advance(host, provider, 4000);
		}
		th_check(refreshes() >= 40 && refreshes() <= 60, "expires_in %s: %d requests in ten minutes",
			lifetimes[i], refreshes());
		same(lifetimes[i], th_max_arrivals(provider), 1);
		th_unscript(provider);
		th_advance(host, provider, MINUTE_MS);
		same(lifetimes[i], served(host, "ana", 0), (uint64_t)refreshes() + 1);
		th_host_free(&host);
	}
}

static void a_bearer_of_five_seconds_is_replaced_when_it_has_ended(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	int64_t began = th_clock_wall_ms(host->clock);
	int64_t most;
	int second;

	(void)state;
	th_control(provider, "{'set':{'access_ttl':5}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	for (second = 0; second < 120; second++) {
		(void)served(host, "ana", 0);
		th_advance(host, provider, 1000);
	}
	/* A fifth of its life before its end at the earliest; real time passes as well. */
	most = (th_clock_wall_ms(host->clock) - began) / 4000 + 1;
	th_check(refreshes() >= 19 && refreshes() <= most, "%d refreshes, %d at most", refreshes(), (int)most);
	same("arrivals", th_max_arrivals(provider), 1);
	th_host_free(&host);
}

/* ---- pauses ------------------------------------------------------------------------------------------------ */

/* HTTP's date, from the server's clock, which is this machine's. */
static char *http_date(int seconds)
{
	const time_t at = time(NULL) + seconds;
	char text[64];
	struct tm parts;

	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &parts));
	return th_printf("%s", text);
}

/* The pause is kept from both sides: not a request before, one after. */
static void keep_pause(const char *what, int status, const char *retry_after, int64_t least_ms, int64_t most_ms)
{
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	struct th_host *host;
	int64_t pause;

	reset_provider(NULL);
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS + 1000);
	th_script(provider, "token", "refresh_token", 1, "{'status':%d,'headers':{'retry-after':%s%s%s},'body':'busy'}",
		status, retry_after != NULL ? "'" : "", retry_after != NULL ? retry_after : "null",
		retry_after != NULL ? "'" : "");
	same(what, denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN);
	seen = look(host, "ana");
	pause = seen.next_refresh_at_ms - th_clock_wall_ms(host->clock);
	th_check(pause >= least_ms && pause <= most_ms, "%s: the pause is %lld ms", what, (long long)pause);
	th_check(err.retry_after_ms > 0 && err.retry_after_ms >= least_ms && err.retry_after_ms <= most_ms + 1000,
		"%s: retry_after_ms is %lld", what, (long long)err.retry_after_ms);
	if (pause > 1000) {
		advance_past(host, seen.next_refresh_at_ms, -700);
		th_host_restart(host);
		same(what, denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN);
		th_check(err.retry_after_ms > 0 && err.retry_after_ms <= 700, "%s: retry_after_ms is %lld at the end",
			what, (long long)err.retry_after_ms);
		same(what, refreshes(), 1);
	}
	advance_past(host, seen.next_refresh_at_ms, 1);
	same(what, served(host, "ana", 0), 2);
	same(what, refreshes(), 2);
	th_host_free(&host);
}

static void a_pause_that_the_provider_asks_for_is_kept(void **state)
{
	char *soon = http_date(120);
	char *far = http_date(100000);
	char *past = http_date(-120);

	(void)state;
	keep_pause("seconds", 503, "30", 29000, 30000);
	keep_pause("seconds with 429", 429, "120", 119000, 120000);
	keep_pause("a date", 503, soon, 117000, 121000);
	keep_pause("a day, capped", 503, "86400", 3599000, 3600000);
	keep_pause("a far date, capped", 429, far, 3599000, 3600000);
	keep_pause("beyond all numbers", 503, "99999999999999999999999", 3599000, 3600000);
	keep_pause("a date that has passed", 503, past, -1000, 2000);
	keep_pause("nonsense", 503, "soon", -1000, 2000);
	keep_pause("negative", 503, "-5", -1000, 2000);
	keep_pause("none", 503, NULL, -1000, 2000);
	free(soon);
	free(far);
	free(past);
}

static void the_back_off_grows_is_spread_and_is_kept(void **state)
{
	struct th_host *host = th_host_new(provider, NULL);
	int64_t ceiling = 2000; /* backoff_base */
	unsigned early = 0;
	unsigned late = 0;
	int n;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS + 1000);
	th_script(provider, "token", "refresh_token", -1, "{'status':503,'body':'busy'}");
	for (n = 1; n <= 30; n++) {
		const int64_t before = th_clock_wall_ms(host->clock);
		acctlink_inspect_result seen;
		int64_t pause;

		same("busy", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
		same("busy", refreshes(), n);
		seen = look(host, "ana");
		same("busy", seen.failures, n);
		pause = seen.next_refresh_at_ms - before;
		th_check(pause > 0 && pause <= ceiling + 1000, "pause %d is %lld ms", n, (long long)pause);
		early += pause < ceiling / 2;
		late += pause > ceiling / 2;
		if (pause > 2000) {
			advance_past(host, seen.next_refresh_at_ms, -1000);
			same("too soon", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
			same("too soon", refreshes(), n);
		}
		advance_past(host, seen.next_refresh_at_ms, 1);
		ceiling = ceiling * 2 < 300000 ? ceiling * 2 : 300000; /* backoff_cap */
	}
	th_check(early > 2 && late > 2, "the pauses are not spread: %u early, %u late", early, late);
	same("one event", events(host, "STALE", "ana"), 1);
	th_unscript(provider);
	same("repaired", served(host, "ana", 0), 2);
	same("repaired", look(host, "ana").failures, 0);
	th_host_free(&host);
}

/* ---- redirects --------------------------------------------------------------------------------------------- */

static const int redirect_statuses[] = { 301, 302, 303, 307, 308 };
enum { STATUSES = 5, TARGETS = 4, REDIRECTS = STATUSES * TARGETS };

struct traps {
	struct th_provider *elsewhere; /* trusted, so that TLS would not save anybody */
	struct th_provider *plain;
	char *targets[TARGETS]; /* without the query */
};

static struct traps traps_new(void)
{
	struct traps traps = { th_provider_start(TH_PRACTICE, NULL), th_provider_start(TH_PRACTICE_PLAIN, NULL),
		{ NULL } };

	traps.targets[0] = th_printf("%s/trap", provider->issuer);
	traps.targets[1] = th_printf("%s/trap", traps.elsewhere->issuer);
	traps.targets[2] = th_printf("%s/trap", traps.plain->issuer);
	traps.targets[3] = th_printf("file:///etc/hostname");
	return traps;
}

static void traps_end(struct traps *traps)
{
	int i;

	for (i = 0; i < TARGETS; i++)
		free(traps->targets[i]);
	th_provider_stop(&traps->elsewhere);
	th_provider_stop(&traps->plain);
}

static int requests_at(struct th_provider *at)
{
	json_object *ledger = th_ledger(at);
	const int count = (int)json_object_array_length(json_object_object_get(ledger, "requests"));

	json_object_put(ledger);
	return count;
}

static void traps_are_silent(const struct traps *traps, const char *what)
{
	same(what, th_count(provider, "other", NULL), 0);
	same(what, requests_at(traps->elsewhere), 0);
	same(what, requests_at(traps->plain), 0);
}

static void set_redirect(const struct traps *traps, const char *endpoint, unsigned i)
{
	th_unscript(provider);
	th_script(provider, endpoint, NULL, -1,
		"{'spend':true,'redirect':{'status':%d,'location':'%s?leak=secret-part'}}",
		redirect_statuses[i % STATUSES], traps->targets[i / STATUSES]);
}

static void check_redirect_error(const struct traps *traps, unsigned i, const acctlink_error *err)
{
	const char *target = traps->targets[i / STATUSES];

	same(target, err->http_status, redirect_statuses[i % STATUSES]);
	th_check(strncmp(target, "file:", 5) == 0 || strstr(err->message, target) != NULL, "%s is not told: %s", target,
		err->message);
	th_check(strstr(err->message, "secret-part") == NULL && strstr(err->where, "secret-part") == NULL,
		"the query is told: %s", err->message);
}

static void link_many(struct th_host *host)
{
	unsigned i;

	for (i = 0; i < REDIRECTS; i++) {
		char *user = user_name(i);

		th_must_link(host, provider, user, NULL, NULL);
		free(user);
	}
	th_advance(host, provider, HOUR_MS + 1000);
}

static void a_redirected_refresh_follows_nothing_and_counts_as_sent(void **state)
{
	struct traps traps = traps_new();
	struct th_host *host = th_host_new(provider, NULL);
	const int first = th_grant_count(provider);
	unsigned i;

	(void)state;
	link_many(host);
	for (i = 0; i < REDIRECTS; i++) {
		acctlink_error err = { 0 };
		char *user = user_name(i);
		char *token = th_grant_current(provider, first + (int)i);

		set_redirect(&traps, "token", i);
		same(user, denied(host, user, &err), ACCTLINK_PROVIDER_DOWN);
		check_redirect_error(&traps, i, &err);
		same(user, th_arrivals(provider, token), 1);
		same(user, look(host, user).claim, ACCTLINK_CLAIM_UNKNOWN);
		state_is(host, user, ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN, 1);
		free(token);
		free(user);
	}
	traps_are_silent(&traps, "refresh");
	th_host_free(&host);
	traps_end(&traps);
}

static void a_redirected_revocation_follows_nothing_and_stays_pending(void **state)
{
	struct traps traps = traps_new();
	struct th_host *host = th_host_new(provider, NULL);
	unsigned i;

	(void)state;
	link_many(host);
	for (i = 0; i < REDIRECTS; i++) {
		acctlink_unlink_result result;
		char *user = user_name(i);

		set_redirect(&traps, "revoke", i);
		same(user, th_unlink(host, user, NULL, &result, NULL), ACCTLINK_OK);
		same(user, result.revocation, ACCTLINK_REVOCATION_PENDING);
		same(user, th_count(provider, "revoke", NULL), i + 1);
		free(user);
	}
	traps_are_silent(&traps, "revocation");
	th_host_free(&host);
	traps_end(&traps);
}

static void redirected_metadata_is_an_error_that_names_the_target(void **state)
{
	struct traps traps = traps_new();
	struct th_host *host = th_host_new(provider, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	unsigned i;

	(void)state;
	for (i = 0; i < REDIRECTS; i++) {
		acctlink_error err = { 0 };

		set_redirect(&traps, "discovery", i);
		th_host_restart(host);
		same("begin", th_begin(host, "ana", NULL, flow, &err), ACCTLINK_BAD_PROVIDER);
		check_redirect_error(&traps, i, &err);
		same("discovery", th_count(provider, "discovery", NULL), i + 1);
	}
	traps_are_silent(&traps, "discovery");
	free(flow);
	th_host_free(&host);
	traps_end(&traps);
}

static void redirected_keys_are_not_fetched_and_the_set_is_kept(void **state)
{
	const struct th_config config = { .provider_lines = "bearer = 'id_token';" };
	struct traps traps = traps_new();
	struct th_host *host = th_host_new(provider, &config);
	unsigned i;

	(void)state;
	link_many(host);
	for (i = 0; i < REDIRECTS; i++) {
		acctlink_error err = { 0 };
		char *user = user_name(i);

		set_redirect(&traps, "jwks", i);
		th_host_restart(host); /* the keys are forgotten */
		same(user, denied(host, user, &err), ACCTLINK_BAD_PROVIDER);
		check_redirect_error(&traps, i, &err);
		same(user, look(host, user).generation, 2);
		free(user);
	}
	traps_are_silent(&traps, "keys");
	th_unscript(provider);
	th_host_restart(host);
	for (i = 0; i < REDIRECTS; i++) {
		char *user = user_name(i);

		same(user, served(host, user, 0), 2);
		free(user);
	}
	same("refreshes", refreshes(), REDIRECTS);
	th_host_free(&host);
	traps_end(&traps);
}

int main(void)
{
	const struct CMUnitTest tests[] = { refresh_test(a_passing_fault_leaves_the_bearer_and_heals_by_itself),
		refresh_test(a_fault_that_outlasts_the_bearer_is_told_and_ends_no_link),
		refresh_test(metadata_that_cannot_be_fetched_costs_no_link),
		refresh_test(invalid_grant_ends_the_link_and_leaves_the_bearer),
		refresh_test(an_hour_of_invalid_client_harms_no_link),
		refresh_test(more_than_twenty_refusals_in_a_row_stop_refreshing),
		refresh_test(refusals_with_a_success_between_them_do_not_stop_refreshing),
		refresh_test(a_readable_set_is_kept_in_whatever_dress),
		refresh_test(an_error_inside_a_200_is_a_failure),
		refresh_test(a_json_error_counts_whatever_its_content_type), refresh_test(json_is_always_asked_for),
		refresh_test(a_lifetime_of_any_shape_gives_a_bearer_its_end),
		refresh_test(the_log_tells_which_lifetime_is_taken),
		refresh_test(a_bearer_that_has_ended_when_it_comes_is_not_served_and_makes_no_loop),
		refresh_test(a_bearer_of_five_seconds_is_replaced_when_it_has_ended),
		refresh_test(a_pause_that_the_provider_asks_for_is_kept),
		refresh_test(the_back_off_grows_is_spread_and_is_kept),
		refresh_test(a_redirected_refresh_follows_nothing_and_counts_as_sent),
		refresh_test(a_redirected_revocation_follows_nothing_and_stays_pending),
		refresh_test(redirected_metadata_is_an_error_that_names_the_target),
		refresh_test(redirected_keys_are_not_fetched_and_the_set_is_kept) };

	return cmocka_run_group_tests_name("answers", tests, start_provider, stop_provider);
}
