/* SPDX-License-Identifier: MIT
 * Two things at once, through the ABI: an unlink in another process, a store
 * that is away, locked or holds what can't be opened, a refresh that fails when
 * its link is no longer the same, a shutdown in the middle, answers with too
 * much or too little in them. Each test has a provider and a host of its own.
 */
#include <pthread.h>
#include <unistd.h>

#include "steps.h"

#define same(got, want) \
	do { \
		const long long got_ = (long long)(got); \
		const long long want_ = (long long)(want); \
		th_check(got_ == want_, "line %d: %s is %lld, not %lld", __LINE__, #got, got_, want_); \
	} while (0)

/* ---- a provider and a host, and questions to them ------------------------------------ */

struct bed {
	struct th_provider *provider;
	struct th_host *host;
};

static struct bed bed_new(const struct th_config *config)
{
	struct bed bed;

	bed.provider = th_provider_start(TH_PRACTICE, NULL);
	bed.host = th_host_new(bed.provider, config);
	return bed;
}

static void bed_free(struct bed *bed)
{
	th_host_free(&bed->host);
	th_provider_stop(&bed->provider);
}

static int refreshes(const struct bed *bed)
{
	return th_count(bed->provider, "token", "refresh_token");
}

static int revocations(struct th_provider *provider)
{
	return th_count(provider, "revoke", NULL);
}

static acctlink_status ask(struct th_host *host, const char *user, uint32_t min_ttl_ms, uint32_t deadline_ms,
	acctlink_bearer_info *info, acctlink_error *err)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	char buf[8192];

	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	args.min_ttl_ms = min_ttl_ms;
	args.deadline_ms = deadline_ms;
	return host->api.get_bearer(host->handle, &args, buf, sizeof(buf), info, err);
}

/* The generation that is served at once, though a refresh may have begun. */
static uint64_t served(struct th_host *host, const char *user)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };

	expect_status(ask(host, user, 0, 0, &info, &err), ACCTLINK_OK, &err);
	return info.generation;
}

/* The same, with any refresh that is under way or due now at its end: a caller
 * who asks for more life than is left waits for it. */
static uint64_t settled(struct th_host *host, const char *user)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };

	expect_status(ask(host, user, (uint32_t)MINUTES(30), 0, &info, &err), ACCTLINK_OK, &err);
	return info.generation;
}

static acctlink_error refused(struct th_host *host, const char *user, acctlink_status status)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };

	expect_status(ask(host, user, 0, 0, &info, &err), status, &err);
	return err;
}

static acctlink_inspect_result look(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	expect_status(th_inspect(host, user, NULL, &result, &err), ACCTLINK_OK, &err);
	return result;
}

static void state_is(struct th_host *host, const char *user, int32_t state, int32_t reason, uint64_t generation)
{
	const acctlink_inspect_result seen = look(host, user);

	th_check(seen.state == state && seen.reason == reason && seen.generation == generation,
		"%s: state %d, reason %d, generation %d; wanted %d, %d, %d", user, (int)seen.state, (int)seen.reason,
		(int)seen.generation, (int)state, (int)reason, (int)generation);
}

/* Moves the clocks to where this much of the bearer is left. */
static void leave(const struct bed *bed, int64_t left_ms)
{
	th_advance(bed->host, bed->provider,
		look(bed->host, "ana").bearer_expires_at_ms - th_clock_wall_ms(bed->host->clock) - left_ms);
}

/* ---- callers and files on the side ---------------------------------------------------- */

struct caller {
	struct th_host *host;
	const char *user;
	acctlink_status rc;
	int32_t revocation;
	pthread_t thread;
};

static void *get_bearer(void *ctx)
{
	struct caller *caller = ctx;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	caller->rc = ask(caller->host, caller->user, 0, 0, &info, NULL);
	return NULL;
}

static void *unlink_it(void *ctx)
{
	struct caller *caller = ctx;
	acctlink_unlink_result result;

	caller->rc = th_unlink(caller->host, caller->user, NULL, &result, NULL);
	caller->revocation = result.revocation;
	return NULL;
}

static void call(struct caller *caller, void *(*run)(void *))
{
	th_check(pthread_create(&caller->thread, NULL, run, caller) == 0, "no thread");
}

static void join(struct caller *caller)
{
	th_check(pthread_join(caller->thread, NULL) == 0, "no thread to join");
}

static char *beside_config(const struct th_host *host, const char *name)
{
	return th_printf(
		"%.*s/%s", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path, name);
}

static void move_store(const struct th_host *host, const char *from, const char *to)
{
	char *old = beside_config(host, from);
	char *new = beside_config(host, to);

	th_check(rename(old, new) == 0, "can't move the store from %s to %s", from, to);
	free(old);
	free(new);
}

static void take_store_away(const struct th_host *host)
{
	move_store(host, "store.db", "away.db");
}

static void bring_store_back(const struct th_host *host)
{
	move_store(host, "away.db", "store.db");
}

static sqlite3 *open_store(const struct th_host *host)
{
	char *path = beside_config(host, "store.db");
	sqlite3 *db = NULL;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK
			&& sqlite3_busy_timeout(db, 10000) == SQLITE_OK,
		"can't open %s", path);
	free(path);
	return db;
}

static void run_sql(sqlite3 *db, const char *sql)
{
	th_check(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

/* Held in memory: served without the store. */
static bool is_held(void *ctx)
{
	struct th_host *host = ctx;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_status rc;

	(void)served(host, "ana");
	take_store_away(host);
	rc = ask(host, "ana", 0, 0, &info, NULL);
	bring_store_back(host);
	return rc == ACCTLINK_OK;
}

static void wait_until_held(struct th_host *host)
{
	th_wait_until(is_held, host, 30000, "the bearer to be held");
}

struct log_part {
	struct th_host *host;
	const char *part;
};

static bool was_logged(void *ctx)
{
	const struct log_part *wanted = ctx;

	return th_lines_contain(wanted->host->logs, wanted->part);
}

static void wait_for_log(struct th_host *host, const char *part)
{
	struct log_part wanted = { host, part };

	th_wait_until(was_logged, &wanted, 30000, part);
}

/* ---- another process unlinks ------------------------------------------------------------- */

static bool is_not_linked(void *ctx)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	return ask(ctx, "ana", 0, 0, &info, NULL) == ACCTLINK_NOT_LINKED;
}

/* Its revocation is confirmed before this process looks for changes: nothing but
 * the tombstone can tell of it then. */
static void a_bearer_held_here_is_dropped_though_another_handle_unlinked_and_revoked_in_between(void **state)
{
	struct bed bed = bed_new(NULL);
	struct th_host *other = th_host_open(bed.host->config_path, bed.host->clock);
	acctlink_unlink_result result;
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	wait_until_held(bed.host);
	expect_status(th_unlink(other, "ana", NULL, &result, &err), ACCTLINK_OK, &err);
	same(result.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	th_wait_until(is_not_linked, bed.host, 10000, "the held bearer to be dropped"); /* poll_interval is 1 s */
	th_check(not_linked(bed.host, "ana", NULL), "the link is still shown");
	same(refreshes(&bed), 0);
	same(revocations(bed.provider), 2);
	th_host_free(&other);
	bed_free(&bed);
}

/* A caller who comes while the refresh runs may get the held bearer at once; not
 * any more when the link has ended meanwhile. */
static void a_good_bearer_is_not_served_during_a_refresh_once_the_link_was_unlinked(void **state)
{
	struct bed bed = bed_new(NULL);
	struct caller leaver = { .host = bed.host, .user = "ana" };

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	leave(&bed, 100000);
	th_script(bed.provider, "token", "refresh_token", 1, "{'hold_before':'refresh'}");
	same(served(bed.host, "ana"), 1);
	th_wait_held(bed.provider, "refresh", 1);
	same(served(bed.host, "ana"), 1);
	call(&leaver, unlink_it);
	th_wait_event(bed.host, "UNLINKED user=ana", 1);
	(void)refused(bed.host, "ana", ACCTLINK_NOT_LINKED);
	(void)refused(bed.host, "ana", ACCTLINK_NOT_LINKED);
	th_release(bed.provider, "refresh");
	join(&leaver);
	same(leaver.rc, ACCTLINK_OK);
	same(leaver.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	(void)refused(bed.host, "ana", ACCTLINK_NOT_LINKED);
	same(refreshes(&bed), 1);
	th_check(!th_grant_alive(bed.provider, -1), "the grant lives on at the provider");
	expect_events(bed.host, "REFRESHED", 0);
	bed_free(&bed);
}

/* ---- the margins ---------------------------------------------------------------------------- */

/* Seconds of a bearer that are left: with `quiet` no refresh is due yet, with
 * `due` one is sent, with `wait` it is not repeated, with `needed` it is, once. */
struct margins {
	int life;
	int quiet;
	int due;
	int wait;
	int needed;
};

static void lose_one_refresh(const struct margins *left)
{
	struct bed bed = bed_new(NULL);
	acctlink_inspect_result seen;
	char *token;

	th_control(bed.provider, "{'set':{'access_ttl':%d,'id_token_ttl':%d,'reuse_window_ms':86400000}}", left->life,
		left->life);
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	token = th_grant_current(bed.provider, -1);
	leave(&bed, left->quiet * 1000);
	same(served(bed.host, "ana"), 1);
	same(refreshes(&bed), 0);
	leave(&bed, left->due * 1000);
	th_script(bed.provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same(served(bed.host, "ana"), 1);
	th_wait_event(bed.host, "STALE user=ana", 1);
	state_is(bed.host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN, 1);
	leave(&bed, left->wait * 1000); /* after any back-off */
	same(served(bed.host, "ana"), 1);
	same(settled(bed.host, "ana"), 1);
	seen = look(bed.host, "ana");
	same(seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	same(seen.claim_attempt, 1);
	same(seen.failures, 1);
	expect_text(seen.last_error, "cut");
	same(th_arrivals(bed.provider, token), 1);
	leave(&bed, left->needed * 1000);
	same(settled(bed.host, "ana"), 2);
	same(served(bed.host, "ana"), 2);
	same(settled(bed.host, "ana"), 2);
	same(th_arrivals(bed.provider, token), 2);
	same(refreshes(&bed), 2);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	same(look(bed.host, "ana").claim, ACCTLINK_CLAIM_NONE);
	expect_events(bed.host, "STALE user=ana", 1);
	expect_events(bed.host, "HEALED user=ana", 1);
	free(token);
	bed_free(&bed);
}

static void a_refresh_of_unknown_outcome_is_repeated_once_when_less_than_the_resend_margin_is_left(void **state)
{
	static const struct margins left = { 3600, 140, 100, 75, 55 };

	(void)state;
	lose_one_refresh(&left);
}

/* Of 400 s: 80 and 40. */
static void of_a_shorter_bearer_the_margins_take_a_fifth_and_a_tenth(void **state)
{
	static const struct margins left = { 400, 105, 75, 55, 30 };

	(void)state;
	lose_one_refresh(&left);
}

/* ---- odd answers ---------------------------------------------------------------------------- */

static void a_refresh_with_more_scope_than_can_be_kept_is_kept_all_the_same(void **state)
{
	const struct th_config config = { .lines = "call_timeout = 10; shutdown_timeout = 2;" };
	struct bed bed = bed_new(&config);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char scope[9001];
	char before[256];
	char after[256];

	(void)state;
	memset(scope, 'a', sizeof(scope) - 1);
	scope[sizeof(scope) - 1] = '\0';
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	seen.scope = (acctlink_out){ before, sizeof(before), 0 };
	expect_status(th_inspect(bed.host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	th_advance(bed.host, bed.provider, HOURS(2));
	th_script(bed.provider, "token", "refresh_token", 1, "{'set':{'scope':'%s'}}", scope);
	same(served(bed.host, "ana"), 2);
	same(served(bed.host, "ana"), 2);
	same(refreshes(&bed), 1);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	seen.scope = (acctlink_out){ after, sizeof(after), 0 };
	expect_status(th_inspect(bed.host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	same(seen.failures, 0);
	same(seen.claim, ACCTLINK_CLAIM_NONE);
	expect_text(after, before);
	same(th_lines_count(bed.host->logs, "granted a scope of 9000 bytes"), 1);
	th_host_restart(bed.host);
	same(served(bed.host, "ana"), 2);
	bed_free(&bed);
}

/* The section of a plain OAuth 2.0 server: endpoints, no issuer. */
static struct th_host *plain_oauth2_host(const struct th_provider *provider)
{
	char *lines = th_printf("authorization_endpoint = '%s/auth'; token_endpoint = '%s/token'; "
				"scope = 'accounts offline_access';",
		provider->issuer, provider->issuer);
	const struct th_config config = { .profile = "oauth2", .provider_lines = lines };
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, &config);
	char *text = th_read_file(path);
	char *issuer = strstr(text, "issuer = ");
	struct th_host *host;

	th_check(issuer != NULL, "no issuer to leave out");
	memset(issuer, ' ', strcspn(issuer, "\n"));
	th_write_file(path, 0600, text);
	host = th_host_open(path, NULL);
	free(text);
	free(path);
	free(dir);
	free(lines);
	return host;
}

static void without_an_issuer_an_id_token_that_comes_unasked_is_not_judged(void **state)
{
	static const char *const scripts[] = { "{}", "{'id_token':{'sign':'broken'}}",
		"{'id_token':{'claims':{'sub':'somebody-else','iss':'https://other.example'}}}",
		"{'set':{'id_token':'no.jwt.atall'}}" };
	struct bed bed;
	uint64_t generation;

	(void)state;
	bed.provider = th_provider_start(TH_PRACTICE, NULL);
	bed.host = plain_oauth2_host(bed.provider);
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	same(served(bed.host, "ana"), 1);
	for (generation = 2; generation < 2 + sizeof(scripts) / sizeof(scripts[0]); generation++) {
		acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
		char *bearer;

		th_advance(bed.host, bed.provider, HOURS(2));
		th_script(bed.provider, "token", "refresh_token", 1, "%s", scripts[generation - 2]);
		bearer = th_must_bearer(bed.host, "ana", NULL, &info);
		same(info.generation, generation);
		same(th_userinfo(bed.provider, bearer), 200);
		state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, generation);
		same(refreshes(&bed), generation - 1);
		free(bearer);
	}
	expect_events(bed.host, "RELINK_REQUIRED", 0);
	expect_events(bed.host, "STALE", 0);
	bed_free(&bed);
}

static void a_link_without_a_refresh_token_says_so_and_ends_with_its_bearer(void **state)
{
	struct bed bed = bed_new(NULL);
	acctlink_callback_result result;
	acctlink_error err;

	(void)state;
	th_script(bed.provider, "token", NULL, 1, "{'set':{'refresh_token':null}}");
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	same(served(bed.host, "ana"), 1);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NO_REFRESH_TOKEN, 1);
	leave(&bed, 30000);
	same(served(bed.host, "ana"), 1);
	same(settled(bed.host, "ana"), 1);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NO_REFRESH_TOKEN, 1);
	expect_events(bed.host, "RELINK_REQUIRED", 0);
	leave(&bed, -1000);
	err = refused(bed.host, "ana", ACCTLINK_RELINK_REQUIRED);
	expect_part(err.message, "gave no refresh token");
	(void)refused(bed.host, "ana", ACCTLINK_RELINK_REQUIRED);
	state_is(bed.host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_NO_REFRESH_TOKEN, 1);
	expect_events(bed.host, "RELINK_REQUIRED user=ana", 1);
	same(refreshes(&bed), 0);
	th_must_link(bed.host, bed.provider, "ana", NULL, &result);
	same(result.flags, ACCTLINK_CALLBACK_RENEWED);
	same(served(bed.host, "ana"), 2);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	bed_free(&bed);
}

/* RFC 7009 has no such answer, but servers put what they got into what they say. */
static void a_token_that_the_provider_quotes_when_it_refuses_to_revoke_is_not_logged(void **state)
{
	struct bed bed = bed_new(NULL);
	acctlink_unlink_result result;
	acctlink_error err = { 0 };
	char *hash;
	char *refresh_token;
	char *access_token;

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	hash = th_grant_current(bed.provider, -1);
	refresh_token = th_raw_token(bed.provider, hash);
	access_token = th_must_bearer(bed.host, "ana", NULL, NULL);
	th_script(bed.provider, "revoke", NULL, -1,
		"{'status':400,'content_type':'application/json',"
		"'body':'{\\'error\\':\\'{{sent}}\\',\\'error_description\\':\\'unknown token {{sent}}\\'}'}");
	expect_status(th_unlink(bed.host, "ana", NULL, &result, &err), ACCTLINK_OK, &err);
	same(result.revocation, ACCTLINK_REVOCATION_REFUSED);
	same(revocations(bed.provider), 2);
	same(th_lines_count(bed.host->logs, "the provider refused a revocation"), 2);
	th_check(!th_lines_contain(bed.host->logs, refresh_token), "the refresh token is in the log");
	th_check(!th_lines_contain(bed.host->logs, access_token), "the access token is in the log");
	free(hash);
	free(refresh_token);
	free(access_token);
	bed_free(&bed);
}

/* ---- a link that is no longer the same -------------------------------------------------- */

static bool no_claim_is_open(void *ctx)
{
	return look(ctx, "ana").claim != ACCTLINK_CLAIM_OPEN;
}

static void a_refresh_that_fails_late_does_not_revive_a_superseded_link(void **state)
{
	static const char *const failures[] = { "'status':503,'body':''", "'cut':'before_answer'",
		"'status':400,'json':{'error':'invalid_grant'}", "'status':401,'json':{'error':'invalid_client'}" };
	const struct th_config config = { .provider_lines = "shared_subject = 'move';" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		struct bed bed = bed_new(&config);

		th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
		leave(&bed, 100000);
		th_script(bed.provider, "token", "refresh_token", 1, "{'hold_before':'refresh',%s}", failures[i]);
		same(served(bed.host, "ana"), 1);
		th_wait_held(bed.provider, "refresh", 1);
		th_must_link(bed.host, bed.provider, "bob", NULL, NULL);
		same(look(bed.host, "ana").claim, ACCTLINK_CLAIM_OPEN);
		state_is(bed.host, "ana", ACCTLINK_STATE_SUPERSEDED, ACCTLINK_REASON_NONE, 1);
		(void)refused(bed.host, "ana", ACCTLINK_RELINK_REQUIRED);
		th_release(bed.provider, "refresh");
		th_wait_until(no_claim_is_open, bed.host, 30000, "the end of the refresh");
		same(look(bed.host, "ana").state, ACCTLINK_STATE_SUPERSEDED);
		same(look(bed.host, "ana").failures, 1);
		(void)refused(bed.host, "ana", ACCTLINK_RELINK_REQUIRED);
		th_advance(bed.host, bed.provider, MINUTES(10));
		(void)refused(bed.host, "ana", ACCTLINK_RELINK_REQUIRED);
		same(refreshes(&bed), 1);
		same(served(bed.host, "bob"), 1);
		expect_events(bed.host, "SUPERSEDED user=ana", 1);
		expect_events(bed.host, "STALE user=ana", 0);
		expect_events(bed.host, "RELINK_REQUIRED user=ana", 0);
		expect_events(bed.host, "HEALED user=ana", 0);
		bed_free(&bed);
	}
}

static void tokens_are_not_revoked_at_another_issuer_that_the_section_names_by_now(void **state)
{
	struct bed bed = bed_new(NULL);
	struct th_provider *other = th_provider_start(TH_PRACTICE, NULL);
	acctlink_unlink_result result;
	acctlink_error err = { 0 };

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	rewrite_config(bed.host, other, NULL);
	th_host_restart(bed.host);
	expect_status(th_unlink(bed.host, "ana", NULL, &result, &err), ACCTLINK_OK, &err);
	same(result.revocation, ACCTLINK_REVOCATION_PENDING);
	same(revocations(other), 0);
	th_check(th_grant_alive(bed.provider, -1), "the grant is dead already");
	rewrite_config(bed.host, bed.provider, NULL);
	th_host_restart(bed.host);
	th_advance(bed.host, bed.provider, HOURS(2));
	th_must_link(bed.host, bed.provider, "bob", NULL, NULL); /* the first call sets the queue going */
	th_wait_event(bed.host, "REVOKED user=ana", 1);
	th_check(!th_grant_alive(bed.provider, 0), "the grant lives on at the provider");
	same(revocations(bed.provider), 2);
	same(revocations(other), 0);
	bed_free(&bed);
	th_provider_stop(&other);
}

/* ---- the store -------------------------------------------------------------------------------- */

static void a_new_consent_mends_a_link_whose_store_key_is_gone(void **state)
{
	const struct th_config config = { .lines = "call_timeout = 10; shutdown_timeout = 2;" };
	struct bed bed = bed_new(&config);
	acctlink_callback_result result;
	acctlink_error err;
	sqlite3 *db;

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	db = open_store(bed.host);
	run_sql(db, "UPDATE link SET key_id = 'gone'");
	same(sqlite3_changes(db), 1);
	sqlite3_close(db);
	th_host_restart(bed.host);
	err = refused(bed.host, "ana", ACCTLINK_BAD_KEY);
	expect_part(err.message, "key gone");
	th_must_link(bed.host, bed.provider, "ana", NULL, &result);
	same(result.flags, ACCTLINK_CALLBACK_RENEWED);
	same(result.epoch, 2);
	same(result.generation, 2);
	same(th_lines_count(bed.host->logs, "its former tokens can't be read"), 1);
	same(served(bed.host, "ana"), 2);
	same(stored_number(bed.host, "SELECT count(*) FROM link"), 1);
	th_host_restart(bed.host);
	same(served(bed.host, "ana"), 2);
	th_advance(bed.host, bed.provider, HOURS(2));
	same(served(bed.host, "ana"), 3);
	bed_free(&bed);
}

static void a_held_bearer_inside_its_margin_is_served_while_the_store_is_away(void **state)
{
	struct bed bed = bed_new(NULL);
	char *held;
	char *got;

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	held = th_must_bearer(bed.host, "ana", NULL, NULL);
	wait_until_held(bed.host);
	leave(&bed, 100000);
	take_store_away(bed.host);
	got = th_must_bearer(bed.host, "ana", NULL, NULL);
	expect_text(got, held);
	free(got);
	same(refreshes(&bed), 0);
	bring_store_back(bed.host);
	got = th_must_bearer(bed.host, "ana", NULL, NULL);
	expect_text(got, held);
	free(got);
	th_wait_event(bed.host, "REFRESHED user=ana", 1);
	same(settled(bed.host, "ana"), 2);
	same(refreshes(&bed), 1);
	free(held);
	bed_free(&bed);
}

static void a_held_bearer_that_has_ended_is_not_served_while_the_store_is_away(void **state)
{
	struct bed bed = bed_new(NULL);

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	wait_until_held(bed.host);
	leave(&bed, -1000);
	take_store_away(bed.host);
	(void)refused(bed.host, "ana", ACCTLINK_STORE_DOWN);
	bring_store_back(bed.host);
	same(served(bed.host, "ana"), 2);
	same(refreshes(&bed), 1);
	bed_free(&bed);
}

/* ---- shutdown in the middle --------------------------------------------------------------------- */

/* Well after a deadline of 1 s, and before a shutdown that can't end its work gives up. */
#define SOON_MS 6000

static void a_shutdown_does_not_wait_for_a_store_that_is_away(void **state)
{
	struct bed bed = bed_new(NULL);
	struct caller caller = { .host = bed.host, .user = "ana" };
	acctlink_error err = { 0 };
	acctlink_inspect_result seen;
	int64_t begun;

	(void)state;
	th_control(bed.provider, "{'set':{'reuse_window_ms':86400000}}");
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	th_advance(bed.host, bed.provider, HOURS(2));
	th_script(bed.provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	call(&caller, get_bearer);
	th_wait_held(bed.provider, "refresh", 1);
	take_store_away(bed.host);
	th_release(bed.provider, "refresh");
	wait_for_log(bed.host, "the store can't take the end of a refresh yet");
	begun = th_clock_boot_ms(bed.host->clock);
	expect_status(bed.host->api.shutdown(bed.host->handle, 1000, &err), ACCTLINK_TIMED_OUT, &err);
	bed.host->handle = NULL;
	th_check(th_clock_boot_ms(bed.host->clock) - begun < SOON_MS, "the shutdown took %d ms",
		(int)(th_clock_boot_ms(bed.host->clock) - begun));
	join(&caller);
	same(caller.rc, ACCTLINK_SHUT_DOWN);
	same(th_lines_count(bed.host->logs, "the end of a refresh is lost"), 1);
	bring_store_back(bed.host);
	th_host_restart(bed.host);
	seen = look(bed.host, "ana");
	same(seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	same(seen.generation, 1);
	same(served(bed.host, "ana"), 2);
	same(refreshes(&bed), 2);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	bed_free(&bed);
}

struct ending {
	struct th_host *host;
	acctlink_status rc;
	int64_t deadline_at; /* or later; by the boot clock of the host */
	pthread_t thread;
};

static void *shut_down(void *ctx)
{
	struct ending *ending = ctx;

	ending->rc = ending->host->api.shutdown(ending->host->handle, 500, NULL);
	return NULL;
}

static bool deadline_passed(void *ctx)
{
	const struct ending *ending = ctx;

	return th_clock_boot_ms(ending->host->clock) > ending->deadline_at;
}

/* The claim gets into the store after all, when the network is already cut: the
 * refresh is not sent any more, and the claim is given up. */
static void a_claim_that_the_store_takes_after_the_shutdowns_deadline_sends_nothing(void **state)
{
	struct bed bed = bed_new(NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	struct ending ending = { .host = bed.host };
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	sqlite3 *db;

	(void)state;
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	th_advance(bed.host, bed.provider, HOURS(2));
	db = open_store(bed.host);
	run_sql(db, "BEGIN IMMEDIATE");
	expect_status(ask(bed.host, "ana", 0, 500, &info, &err), ACCTLINK_TIMED_OUT, &err);
	ending.deadline_at = th_clock_boot_ms(bed.host->clock) + 1500;
	th_check(pthread_create(&ending.thread, NULL, shut_down, &ending) == 0, "no thread");
	th_wait_until(deadline_passed, &ending, 10000, "the deadline of the shutdown");
	run_sql(db, "ROLLBACK");
	sqlite3_close(db);
	th_check(pthread_join(ending.thread, NULL) == 0, "no thread to join");
	bed.host->handle = NULL;
	same(ending.rc, ACCTLINK_TIMED_OUT);
	same(refreshes(&bed), 0);
	th_host_restart(bed.host);
	seen = look(bed.host, "ana");
	same(seen.claim, ACCTLINK_CLAIM_NONE);
	same(seen.claim_attempt, 1);
	th_advance(bed.host, bed.provider, MINUTES(10));
	same(served(bed.host, "ana"), 2);
	same(refreshes(&bed), 1);
	state_is(bed.host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	bed_free(&bed);
}

/* ---- fork ------------------------------------------------------------------------------------------ */

/* In the child the handle is as good as new. */
static int use_in_child(void *ctx)
{
	struct bed *bed = ctx;

	(void)refused(bed->host, "cleo", ACCTLINK_NOT_LINKED);
	th_must_link(bed->host, bed->provider, "cleo", NULL, NULL);
	same(served(bed->host, "cleo"), 1);
	th_host_free(&bed->host);
	return 0;
}

static void reload(struct th_host *host)
{
	acctlink_error err = { 0 };

	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
}

static void a_handle_that_was_only_reloaded_works_in_children_and_in_the_parent(void **state)
{
	struct bed bed = bed_new(NULL);

	(void)state;
	reload(bed.host);
	th_join(th_fork(use_in_child, &bed), 60000);
	reload(bed.host);
	th_must_link(bed.host, bed.provider, "ana", NULL, NULL);
	reload(bed.host);
	same(served(bed.host, "ana"), 1);
	same(served(bed.host, "cleo"), 1); /* the child's link, from the store */
	bed_free(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bearer_held_here_is_dropped_though_another_handle_unlinked_and_revoked_in_between),
		cmocka_unit_test(a_good_bearer_is_not_served_during_a_refresh_once_the_link_was_unlinked),
		cmocka_unit_test(
			a_refresh_of_unknown_outcome_is_repeated_once_when_less_than_the_resend_margin_is_left),
		cmocka_unit_test(of_a_shorter_bearer_the_margins_take_a_fifth_and_a_tenth),
		cmocka_unit_test(a_refresh_with_more_scope_than_can_be_kept_is_kept_all_the_same),
		cmocka_unit_test(without_an_issuer_an_id_token_that_comes_unasked_is_not_judged),
		cmocka_unit_test(a_link_without_a_refresh_token_says_so_and_ends_with_its_bearer),
		cmocka_unit_test(a_token_that_the_provider_quotes_when_it_refuses_to_revoke_is_not_logged),
		cmocka_unit_test(a_refresh_that_fails_late_does_not_revive_a_superseded_link),
		cmocka_unit_test(tokens_are_not_revoked_at_another_issuer_that_the_section_names_by_now),
		cmocka_unit_test(a_new_consent_mends_a_link_whose_store_key_is_gone),
		cmocka_unit_test(a_held_bearer_inside_its_margin_is_served_while_the_store_is_away),
		cmocka_unit_test(a_held_bearer_that_has_ended_is_not_served_while_the_store_is_away),
		cmocka_unit_test(a_shutdown_does_not_wait_for_a_store_that_is_away),
		cmocka_unit_test(a_claim_that_the_store_takes_after_the_shutdowns_deadline_sends_nothing),
		cmocka_unit_test(a_handle_that_was_only_reloaded_works_in_children_and_in_the_parent)
	};

	return cmocka_run_group_tests_name("hazards", tests, NULL, NULL);
}
