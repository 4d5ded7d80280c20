/* SPDX-License-Identifier: MIT
 * Several processes on one store: a storm of short-lived bearers, processes
 * that are killed with a refresh on its way, links that end while one is on
 * its way, consents that wander between processes, and fork. The provider
 * rotates strictly: a refresh token that arrives twice ends the grant.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include "crowd.h"

enum { LIFE_MS = 600 * 1000, MARGIN_LEFT_MS = 20 * 1000, WORKERS_MAX = 8 };

/* A provider and some processes with handles on one store; all share a clock.
 * The parent's own handle comes last, since it starts threads. */
struct scene {
	struct th_provider *provider;
	struct th_clock *clock;
	char *dir;
	char *path;
	struct worker workers[WORKERS_MAX];
	bool running[WORKERS_MAX];
	unsigned count;
	struct th_host *host;
};

static void add_worker(struct scene *scene)
{
	worker_start(&scene->workers[scene->count], scene->path, scene->clock);
	scene->running[scene->count++] = true;
}

static void scene_begin(struct scene *scene, const struct th_config *config)
{
	memset(scene, 0, sizeof(*scene));
	scene->provider = th_provider_start(TH_PRACTICE, NULL);
	th_control(scene->provider, "{'set':{'access_ttl':600,'rotation':'hydra'}}");
	scene->clock = th_clock_new();
	scene->dir = th_temp_dir();
	scene->path = th_config_write(scene->dir, scene->provider, config);
}

static void scene_open(struct scene *scene, const struct th_config *config, unsigned workers)
{
	scene_begin(scene, config);
	while (scene->count < workers)
		add_worker(scene);
	scene->host = th_host_open(scene->path, scene->clock);
}

static void stop_workers(struct scene *scene)
{
	unsigned i;

	for (i = 0; i < scene->count; i++) {
		if (scene->running[i])
			worker_stop(&scene->workers[i]);
		scene->running[i] = false;
	}
}

static void kill_worker(struct scene *scene, unsigned i)
{
	worker_kill(&scene->workers[i]);
	scene->running[i] = false;
}

/* All handles end in order: what they had on its way has arrived and is kept. */
static void settle(struct scene *scene)
{
	stop_workers(scene);
	th_host_free(&scene->host);
}

static void scene_close(struct scene *scene)
{
	settle(scene);
	th_clock_free(&scene->clock);
	th_provider_stop(&scene->provider);
	free(scene->path);
	free(scene->dir);
}

static void advance(struct scene *scene, int64_t ms)
{
	th_provider_advance(scene->provider, ms);
	th_clock_advance(scene->clock, ms);
}

static int refreshes(struct scene *scene)
{
	return th_count(scene->provider, "token", "refresh_token");
}

static void assert_bearer(struct worker *worker, const char *user, acctlink_status rc, uint64_t generation)
{
	struct had had;

	worker_bearer(worker, user, &had);
	th_check(had.rc == rc, "get_bearer returned %d (%s), not %d", (int)had.rc, had.message, (int)rc);
	if (rc == ACCTLINK_OK)
		assert_int_equal(had.generation, generation);
}

static acctlink_inspect_result inspect(struct worker *worker, const char *user)
{
	struct inspected seen;

	worker_inspect(worker, user, &seen);
	assert_int_equal(seen.rc, ACCTLINK_OK);
	return seen.result;
}

/* ---- the storm ------------------------------------------------------------------- */

enum { STORM_PROCESSES = 8, STORM_THREADS = 16, STORM_LINKS = 20 };

struct storm {
	struct th_host *host;
	int64_t seconds;
	uint64_t seed;
	int64_t end;
	atomic_uint calls;
	atomic_uint failures;
	atomic_uint ended;     /* bearers handed out after their end */
	atomic_uint backwards; /* generations that came after a later one */
	char message[200];     /* of one failure; written by the first thread that fails */
};

static void ask_in_storm(void *ctx, unsigned i)
{
	struct storm *storm = ctx;
	uint64_t newest[STORM_LINKS] = { 0 };
	uint64_t chance = (storm->seed + i * 7919) | 1;

	while (crowd_now_ms() < storm->end) {
		unsigned n = (unsigned)(crowd_random(&chance) >> 33) % STORM_LINKS;
		int64_t asked_at = th_clock_wall_ms(storm->host->clock);
		struct had had;
		char user[16];

		snprintf(user, sizeof(user), "user%u", n);
		get_bearer(storm->host, &(struct wish){ .user = user }, &had);
		atomic_fetch_add(&storm->calls, 1);
		if (had.rc != ACCTLINK_OK && atomic_fetch_add(&storm->failures, 1) == 0)
			snprintf(storm->message, sizeof(storm->message), "%d %s", (int)had.rc, had.message);
		if (had.rc == ACCTLINK_OK && had.expires_at_ms <= asked_at)
			atomic_fetch_add(&storm->ended, 1);
		if (had.rc == ACCTLINK_OK && had.generation < newest[n])
			atomic_fetch_add(&storm->backwards, 1);
		newest[n] = had.generation > newest[n] ? had.generation : newest[n];
		crowd_nap_ms(2 + (long)(crowd_random(&chance) >> 33) % 20);
	}
}

struct storm_order {
	int64_t seconds;
	uint64_t seed;
};

struct storm_report {
	unsigned calls;
	unsigned failures;
	unsigned ended;
	unsigned backwards;
	char message[200];
};

static void job_storm(struct th_host *host, const void *in, void *out)
{
	const struct storm_order *order = in;
	struct storm storm = { .host = host, .seed = order->seed, .end = crowd_now_ms() + order->seconds * 1000 };
	struct storm_report *report = out;

	th_parallel(STORM_THREADS, ask_in_storm, &storm);
	report->calls = atomic_load(&storm.calls);
	report->failures = atomic_load(&storm.failures);
	report->ended = atomic_load(&storm.ended);
	report->backwards = atomic_load(&storm.backwards);
	memcpy(report->message, storm.message, sizeof(report->message));
}

static void blow(struct scene *scene, int64_t seconds)
{
	unsigned i;

	for (i = 0; i < STORM_PROCESSES; i++) {
		const struct storm_order order = { seconds, th_seed() + i * 104729 };

		worker_order(&scene->workers[i], job_storm, &order, sizeof(order));
	}
	crowd_nap_ms(seconds * 1000);
	for (i = 0; i < STORM_PROCESSES; i++) {
		struct storm_report report;

		worker_reply(&scene->workers[i], &report, sizeof(report));
		th_check(report.failures == 0, "%u of %u calls failed; one: %s", report.failures, report.calls,
			report.message);
		assert_int_equal(report.ended, 0);
		assert_int_equal(report.backwards, 0);
		assert_true(report.calls > STORM_THREADS);
	}
}

/* One more refresh sends what the store holds: it must be what the provider calls current. */
static void assert_store_holds_current(struct scene *scene, int n)
{
	char *current = th_grant_current(scene->provider, n);
	uint64_t generation = (uint64_t)th_grant_generation(scene->provider, n);
	char user[16];
	struct had had;

	snprintf(user, sizeof(user), "user%d", n);
	assert_true(th_grant_alive(scene->provider, n));
	assert_int_equal(th_arrivals(scene->provider, current), 0);
	get_bearer(scene->host, &(struct wish){ .user = user }, &had);
	th_check(had.rc == ACCTLINK_OK, "the last refresh of %s: %d %s", user, (int)had.rc, had.message);
	assert_int_equal(had.generation, generation + 1);
	assert_int_equal(th_arrivals(scene->provider, current), 1);
	assert_int_equal(th_userinfo(scene->provider, had.bearer), 200);
	free(current);
}

static void eight_processes_with_bearers_of_two_seconds_send_no_token_twice_and_fail_no_call(void **state)
{
	const int64_t seconds = th_full() ? 300 : 10;
	struct scene scene;
	int n;

	(void)state;
	scene_open(&scene, NULL, STORM_PROCESSES);
	th_control(scene.provider, "{'set':{'access_ttl':2}}");
	for (n = 0; n < STORM_LINKS; n++) {
		char user[16];

		snprintf(user, sizeof(user), "user%d", n);
		th_must_link(scene.host, scene.provider, user, NULL, NULL);
	}
	blow(&scene, seconds);
	stop_workers(&scene); /* what they had on its way is kept */
	assert_int_equal(th_max_arrivals(scene.provider), 1);
	/* Each link was refreshed over and over. */
	assert_true(refreshes(&scene) >= STORM_LINKS * (seconds / 4));
	advance(&scene, 3000);
	th_control(scene.provider, "{'set':{'access_ttl':600}}");
	for (n = 0; n < STORM_LINKS; n++)
		assert_store_holds_current(&scene, n);
	assert_false(th_lines_contain(scene.host->events, "RELINK_REQUIRED"));
	settle(&scene);
	assert_int_equal(th_max_arrivals(scene.provider), 1);
	scene_close(&scene);
}

/* ---- kill -9 with a refresh on its way ---------------------------------------------- */

static const struct th_config late_resend = { .provider_lines = "resend_margin = 5;" };

/* The first worker is killed while the provider holds its request, before or after
 * it rotated. Returns the hash of the token that was sent. */
static char *kill_while_held(struct scene *scene, const char *how)
{
	char *sent;

	th_script(scene->provider, "token", "refresh_token", 1, "{'%s':'request'}", how);
	assert_bearer(&scene->workers[0], "ana", ACCTLINK_OK, 1); /* good still: not held back */
	th_wait_held(scene->provider, "request", 1);
	sent = th_request(scene->provider, "token", 0, "token");
	kill_worker(scene, 0);
	return sent;
}

/* struct user_order -> nothing */
static void job_restart(struct th_host *host, const void *in, void *out)
{
	(void)in;
	(void)out;
	th_host_restart(host);
}

/* Bea's refresh goes the way that a resend of ana's would have gone just before;
 * then the handle ends, and with it whatever it had begun. */
static void let_a_resend_show(struct worker *worker)
{
	struct user_order order = order_for("bea");
	struct had had;

	order.min_ttl_ms = 60000;
	worker_call(worker, job_bearer, &order, sizeof(order), &had, sizeof(had));
	th_check(had.rc == ACCTLINK_OK && had.generation == 2, "bea's bearer: %d %s", (int)had.rc, had.message);
	worker_call(worker, job_restart, NULL, 0, NULL, 0);
}

static void assert_unknown_and_served(struct scene *scene)
{
	acctlink_inspect_result seen;
	int i;

	for (i = 0; i < 3; i++)
		assert_bearer(&scene->workers[1], "ana", ACCTLINK_OK, 1);
	let_a_resend_show(&scene->workers[1]);
	assert_bearer(&scene->workers[1], "ana", ACCTLINK_OK, 1);
	seen = inspect(&scene->workers[1], "ana");
	assert_int_equal(seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	assert_int_equal(seen.claim_attempt, 1);
	assert_int_equal(seen.generation, 1);
	assert_true(seen.claimed_at_ms > 0);
}

static void the_refresh_of_a_killed_process_is_resent_once_and_only_after_the_bearers_end(void **state)
{
	acctlink_inspect_result seen;
	struct scene scene;
	char *sent;

	(void)state;
	scene_open(&scene, &late_resend, 2);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	th_must_link(scene.host, scene.provider, "bea", NULL, NULL);
	advance(&scene, LIFE_MS - MARGIN_LEFT_MS);
	sent = kill_while_held(&scene, "hold_before"); /* not rotated: a resend is accepted */
	assert_unknown_and_served(&scene);
	assert_int_equal(th_arrivals(scene.provider, sent), 1);
	advance(&scene, MARGIN_LEFT_MS + 1000);
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_OK, 2);
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_OK, 2);
	seen = inspect(&scene.workers[1], "ana");
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(seen.claim, ACCTLINK_CLAIM_NONE);
	assert_int_equal(seen.claim_attempt, 2);
	settle(&scene);
	assert_int_equal(th_arrivals(scene.provider, sent), 2);
	assert_int_equal(refreshes(&scene), 3); /* and bea's */
	assert_true(th_grant_alive(scene.provider, 0));
	free(sent);
	scene_close(&scene);
}

static void a_rotation_lost_with_a_killed_process_is_called_so(void **state)
{
	acctlink_inspect_result seen;
	struct scene scene;
	char *sent;

	(void)state;
	scene_open(&scene, &late_resend, 2);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	th_must_link(scene.host, scene.provider, "bea", NULL, NULL);
	advance(&scene, LIFE_MS - MARGIN_LEFT_MS);
	sent = kill_while_held(&scene, "hold"); /* rotated: a resend is refused */
	assert_unknown_and_served(&scene);
	assert_int_equal(th_arrivals(scene.provider, sent), 1);
	advance(&scene, MARGIN_LEFT_MS + 1000);
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_RELINK_REQUIRED, 0);
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_RELINK_REQUIRED, 0);
	seen = inspect(&scene.workers[1], "ana");
	assert_int_equal(seen.state, ACCTLINK_STATE_RELINK_REQUIRED);
	assert_int_equal(seen.reason, ACCTLINK_REASON_ROTATION_LOST);
	settle(&scene);
	assert_int_equal(th_arrivals(scene.provider, sent), 2);
	assert_int_equal(refreshes(&scene), 3); /* and bea's */
	free(sent);
	scene_close(&scene);
}

/* Without a good bearer the others wait for the claim's owner, and go on when it is dead. */
static void processes_that_wait_for_a_killed_one_take_over_with_one_resend(void **state)
{
	struct user_order order = order_for("ana");
	struct scene scene;
	struct had had[3];
	char *sent;

	(void)state;
	scene_open(&scene, NULL, 3);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	advance(&scene, LIFE_MS + 1000);
	th_script(scene.provider, "token", "refresh_token", 1, "{'hold_before':'request'}");
	worker_order(&scene.workers[0], job_bearer, &order, sizeof(order));
	th_wait_held(scene.provider, "request", 1);
	sent = th_request(scene.provider, "token", 0, "token");
	worker_order(&scene.workers[1], job_bearer, &order, sizeof(order));
	worker_order(&scene.workers[2], job_bearer, &order, sizeof(order));
	/* A call of its own shows that a living owner is waited for. */
	get_bearer(scene.host, &(struct wish){ .user = "ana", .deadline_ms = 300 }, &had[0]);
	assert_int_equal(had[0].rc, ACCTLINK_TIMED_OUT);
	assert_false(worker_has_replied(&scene.workers[1]) || worker_has_replied(&scene.workers[2]));
	assert_int_equal(refreshes(&scene), 1);
	kill_worker(&scene, 0);
	worker_reply(&scene.workers[1], &had[1], sizeof(had[1]));
	worker_reply(&scene.workers[2], &had[2], sizeof(had[2]));
	th_check(had[1].rc == ACCTLINK_OK, "get_bearer: %d %s", (int)had[1].rc, had[1].message);
	assert_int_equal(had[1].generation, 2);
	assert_true(same_bearer(&had[1], &had[2]));
	settle(&scene);
	assert_int_equal(refreshes(&scene), 2);
	assert_int_equal(th_arrivals(scene.provider, sent), 2);
	free(sent);
	scene_close(&scene);
}

/* ---- kill -9 before the body leaves --------------------------------------------------- */

/* A port that takes connections and says nothing. */
static int black_hole(int *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	th_check(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 16) == 0
			&& getsockname(fd, (struct sockaddr *)&address, &len) == 0,
		"listen: %s", strerror(errno));
	*port = ntohs(address.sin_port);
	return fd;
}

static void wait_for_connection(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	th_check(poll(&ready, 1, CROWD_PATIENCE_MS) == 1, "nobody came to the black hole");
}

static void a_process_killed_before_it_could_send_costs_no_token(void **state)
{
	struct th_config silent = late_resend;
	acctlink_inspect_result seen;
	struct scene scene;
	char *current;
	char *lines;
	int port;
	int fd = black_hole(&port);

	(void)state;
	lines = th_printf("%s token_endpoint = 'https://127.0.0.1:%d/token';", late_resend.provider_lines, port);
	silent.provider_lines = lines;
	scene_begin(&scene, &silent);
	add_worker(&scene);
	free(scene.path);
	scene.path = th_config_write(scene.dir, scene.provider, &late_resend); /* the others reach the provider */
	add_worker(&scene);
	scene.host = th_host_open(scene.path, scene.clock);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	th_must_link(scene.host, scene.provider, "bea", NULL, NULL);
	current = th_grant_current(scene.provider, 0);
	advance(&scene, LIFE_MS - MARGIN_LEFT_MS);
	assert_bearer(&scene.workers[0], "ana", ACCTLINK_OK, 1);
	wait_for_connection(fd); /* the claim is in the store, the body is not asked for */
	kill_worker(&scene, 0);
	/* From the store alone nobody can tell that nothing was sent. */
	assert_unknown_and_served(&scene);
	assert_int_equal(th_arrivals(scene.provider, current), 0);
	advance(&scene, MARGIN_LEFT_MS + 1000);
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_OK, 2);
	seen = inspect(&scene.workers[1], "ana");
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(seen.claim, ACCTLINK_CLAIM_NONE);
	settle(&scene);
	assert_int_equal(th_arrivals(scene.provider, current), 1);
	assert_int_equal(refreshes(&scene), 2); /* and bea's */
	free(current);
	free(lines);
	close(fd);
	scene_close(&scene);
}

/* ---- unlink ----------------------------------------------------------------------------- */

struct unlinked {
	acctlink_status rc;
	acctlink_unlink_result result;
	acctlink_error err;
};

static void unlink_user(struct th_host *host, const char *user, struct unlinked *out)
{
	out->rc = th_unlink(host, user, NULL, &out->result, &out->err);
}

/* struct user_order -> struct unlinked */
static void job_unlink(struct th_host *host, const void *in, void *out)
{
	unlink_user(host, ((const struct user_order *)in)->user, out);
}

struct unlinker {
	struct scene *scene;
	bool same_process;
	struct unlinked out;
};

/* In the process that refreshes, or in another. */
static void *run_unlink(void *arg)
{
	struct unlinker *unlinker = arg;
	struct user_order order = order_for("ana");

	if (unlinker->same_process)
		unlink_user(unlinker->scene->host, "ana", &unlinker->out);
	else
		worker_call(&unlinker->scene->workers[0], job_unlink, &order, sizeof(order), &unlinker->out,
			sizeof(unlinker->out));
	return NULL;
}

static bool seen_unlinked(void *ctx)
{
	struct scene *scene = ctx;
	struct inspected seen;

	worker_inspect(&scene->workers[1], "ana", &seen);
	return seen.rc == ACCTLINK_NOT_LINKED;
}

/* True if this token was among those that were revoked; *place counts from the first. */
static bool was_revoked(struct th_provider *provider, const char *hash, int *place)
{
	int count = th_count(provider, "revoke", NULL);
	bool found = false;
	int i;

	for (i = 0; i < count && !found; i++) {
		char *token = th_request(provider, "revoke", count - 1 - i, "token");

		found = strcmp(token, hash) == 0;
		*place = i;
		free(token);
	}
	return found;
}

static uint32_t count_links(struct th_host *host, const char *user)
{
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result result = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_item items[4];

	args.user = th_str(user);
	result.items = items;
	result.capacity = 4;
	assert_int_equal(host->api.list(host->handle, &args, &result, NULL), ACCTLINK_OK);
	return result.count;
}

static void unlink_while_held(bool same_process)
{
	static struct scene scene; /* threads outlive a test that fails */
	static struct unlinker unlinker;
	static struct caller caller;
	pthread_t thread;
	char *newest;
	int place = -1;

	unlinker = (struct unlinker){ .scene = &scene, .same_process = same_process };
	scene_open(&scene, NULL, 2);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	advance(&scene, LIFE_MS + 1000);
	th_script(scene.provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	caller_start(&caller, scene.host, (struct wish){ .user = "ana", .deadline_ms = CROWD_PATIENCE_MS });
	th_wait_held(scene.provider, "answer", 1);
	assert_int_equal(pthread_create(&thread, NULL, run_unlink, &unlinker), 0);
	th_wait_until(seen_unlinked, &scene, CROWD_PATIENCE_MS, "the unlink in another process");
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_NOT_LINKED, 0);
	/* What is to be revoked is not known before the answer is there. */
	assert_int_equal(th_count(scene.provider, "revoke", NULL), 0);
	th_release(scene.provider, "answer");
	assert_int_equal(caller_join(&caller)->rc, ACCTLINK_NOT_LINKED);
	pthread_join(thread, NULL);
	th_check(unlinker.out.rc == ACCTLINK_OK, "unlink: %d %s", (int)unlinker.out.rc, unlinker.out.err.message);
	assert_int_equal(unlinker.out.result.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	newest = th_grant_current(scene.provider, 0);
	assert_true(was_revoked(scene.provider, newest, &place));
	assert_int_equal(place, 0); /* the set that came late, its refresh token first */
	assert_false(th_grant_alive(scene.provider, 0));
	assert_bearer(&scene.workers[1], "ana", ACCTLINK_NOT_LINKED, 0);
	th_host_restart(scene.host);
	get_bearer(scene.host, &(struct wish){ .user = "ana" }, &caller.had);
	assert_int_equal(caller.had.rc, ACCTLINK_NOT_LINKED);
	assert_int_equal(count_links(scene.host, "ana"), 0);
	settle(&scene);
	assert_int_equal(refreshes(&scene), 1);
	free(newest);
	scene_close(&scene);
}

static void a_refresh_that_ends_after_the_unlink_in_its_process_does_not_bring_the_link_back(void **state)
{
	(void)state;
	unlink_while_held(true);
}

static void a_refresh_that_ends_after_an_unlink_in_another_process_does_not_bring_the_link_back(void **state)
{
	(void)state;
	unlink_while_held(false);
}

static void an_unlink_is_seen_by_another_process_that_holds_the_bearer(void **state)
{
	static const struct th_config config = { .lines = "poll_interval = 0.2;" };
	struct user_order order = order_for("ana");
	struct unlinked unlinked;
	struct scene scene;
	struct had had;
	int64_t start;
	int i;

	(void)state;
	scene_open(&scene, &config, 2);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	for (i = 0; i < 50; i++) /* held from the process's first look at the store on */
		assert_bearer(&scene.workers[1], "ana", ACCTLINK_OK, 1);
	start = crowd_now_ms();
	worker_call(&scene.workers[0], job_unlink, &order, sizeof(order), &unlinked, sizeof(unlinked));
	assert_int_equal(unlinked.rc, ACCTLINK_OK);
	do
		worker_bearer(&scene.workers[1], "ana", &had);
	while (had.rc == ACCTLINK_OK && crowd_now_ms() - start < 10000);
	assert_int_equal(had.rc, ACCTLINK_NOT_LINKED);
	for (i = 0; i < 50; i++)
		assert_bearer(&scene.workers[1], "ana", ACCTLINK_NOT_LINKED, 0);
	scene_close(&scene);
}

/* The process holds a bearer; another one changes the link. Asks until it is not served any more. */
static void assert_seen_within_poll(struct scene *scene, uint64_t old_generation, struct had *had)
{
	const int64_t start = crowd_now_ms();

	do
		worker_bearer(&scene->workers[1], "ana", had);
	while (had->rc == ACCTLINK_OK && had->generation == old_generation && crowd_now_ms() - start < 10000);
	th_check(had->rc == ACCTLINK_OK, "get_bearer: %d %s", (int)had->rc, had->message);
	assert_int_equal(had->generation, old_generation + 1);
}

static void a_renewal_and_a_rejection_are_seen_by_another_process_that_holds_the_bearer(void **state)
{
	static const struct th_config config = { .lines = "poll_interval = 0.2;" };
	acctlink_callback_result renewed;
	struct scene scene;
	struct had had;
	int i;

	(void)state;
	scene_open(&scene, &config, 2);
	th_must_link(scene.host, scene.provider, "ana", NULL, NULL);
	for (i = 0; i < 50; i++)
		assert_bearer(&scene.workers[1], "ana", ACCTLINK_OK, 1);
	th_must_link(scene.host, scene.provider, "ana", NULL, &renewed);
	assert_int_equal(renewed.flags, ACCTLINK_CALLBACK_RENEWED);
	assert_seen_within_poll(&scene, 1, &had);
	assert_int_equal(had.epoch, 2);
	assert_int_equal(refreshes(&scene), 0);
	advance(&scene, 15 * 1000);
	assert_int_equal(th_report(scene.host, "ana", NULL, 2, NULL), ACCTLINK_OK);
	assert_seen_within_poll(&scene, 2, &had);
	settle(&scene);
	assert_int_equal(refreshes(&scene), 1);
	scene_close(&scene);
}

/* ---- consents that wander between processes ------------------------------------------------ */

/* struct user_order -> struct th_flow */
static void job_begin(struct th_host *host, const void *in, void *out)
{
	const struct user_order *order = in;
	acctlink_error err = { 0 };

	th_check(th_begin(host, order->user, order->institution, out, &err) == ACCTLINK_OK, "begin: %s", err.message);
}

struct callback_order {
	char user[64];
	char params[4096];
	char cookie[1024];
};

struct called_back {
	acctlink_status rc;
	acctlink_callback_result result;
};

/* struct callback_order -> struct called_back */
static void job_callback(struct th_host *host, const void *in, void *out)
{
	const struct callback_order *order = in;
	struct called_back *back = out;

	back->rc = th_callback(host, order->user, order->params, order->cookie, &back->result, NULL);
}

static void begin_at(struct worker *worker, const char *institution, struct th_flow *flow)
{
	struct user_order order = order_for("ana");

	snprintf(order.institution, sizeof(order.institution), "%s", institution);
	worker_call(worker, job_begin, &order, sizeof(order), flow, sizeof(*flow));
}

static struct called_back finish_at(struct worker *worker, struct th_provider *provider, const struct th_flow *flow)
{
	struct callback_order order = { .user = "ana" };
	struct called_back back;
	char *params = th_consent(provider, flow->url);

	snprintf(order.params, sizeof(order.params), "%s", params);
	snprintf(order.cookie, sizeof(order.cookie), "%s", flow->cookie);
	worker_call(worker, job_callback, &order, sizeof(order), &back, sizeof(back));
	free(params);
	return back;
}

static const struct th_config with_connector = { .provider_lines = "institution_parameter = 'connector';" };

static void a_consent_begun_in_a_process_that_is_gone_ends_in_a_new_one_after_fourteen_minutes(void **state)
{
	struct called_back back;
	struct th_flow flow;
	struct scene scene;

	(void)state;
	scene_begin(&scene, &with_connector);
	add_worker(&scene);
	add_worker(&scene);
	begin_at(&scene.workers[0], "mikomo", &flow);
	stop_workers(&scene); /* both are restarted */
	add_worker(&scene);
	add_worker(&scene);
	advance(&scene, 14 * 60 * 1000);
	back = finish_at(&scene.workers[3], scene.provider, &flow);
	assert_int_equal(back.rc, ACCTLINK_OK);
	assert_int_equal(back.result.flags, 0);
	assert_string_equal(back.result.institution, "mikomo");
	assert_int_equal(th_count(scene.provider, "token", "authorization_code"), 1);
	scene_close(&scene);
}

static void a_consent_that_comes_to_another_process_after_its_time_sends_no_code(void **state)
{
	struct called_back back;
	struct th_flow flow;
	struct scene scene;

	(void)state;
	scene_open(&scene, &with_connector, 2);
	begin_at(&scene.workers[0], "mikomo", &flow);
	advance(&scene, 15 * 60 * 1000 + 1000);
	back = finish_at(&scene.workers[1], scene.provider, &flow);
	assert_int_equal(back.rc, ACCTLINK_FLOW_EXPIRED);
	assert_int_equal(th_count(scene.provider, "token", NULL), 0);
	begin_at(&scene.workers[1], "mikomo", &flow);
	back = finish_at(&scene.workers[0], scene.provider, &flow);
	assert_int_equal(back.rc, ACCTLINK_OK);
	scene_close(&scene);
}

/* One user, three consents (one institution twice), begun in one process. */
static void finish_in_order(struct scene *scene, const int order[3])
{
	static const char *const institutions[3] = { "mikomo", "other", "mikomo" };
	struct th_flow *flows = calloc(3, sizeof(*flows));
	struct called_back back[3];
	bool linked_before = false;
	int i;

	assert_non_null(flows);
	for (i = 0; i < 3; i++)
		begin_at(&scene->workers[0], institutions[i], &flows[i]);
	for (i = 0; i < 3; i++) {
		bool first = order[i] == 1 || !linked_before;

		back[order[i]] = finish_at(&scene->workers[1], scene->provider, &flows[order[i]]);
		assert_int_equal(back[order[i]].rc, ACCTLINK_OK);
		assert_int_equal(back[order[i]].result.flags, first ? 0 : ACCTLINK_CALLBACK_RENEWED);
		assert_string_equal(back[order[i]].result.institution, institutions[order[i]]);
		linked_before = linked_before || order[i] != 1;
	}
	assert_string_equal(back[0].result.link_id, back[2].result.link_id);
	assert_string_not_equal(back[0].result.link_id, back[1].result.link_id);
	assert_int_equal(count_links(scene->host, "ana"), 2);
	free(flows);
}

static void three_consents_of_one_user_end_in_any_order_in_another_process(void **state)
{
	static const int orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 },
		{ 2, 1, 0 } };
	struct scene scene;
	int i;

	(void)state;
	scene_open(&scene, &with_connector, 2);
	for (i = 0; i < 6; i++) {
		finish_in_order(&scene, orders[i]);
		assert_int_equal(th_count(scene.provider, "token", "authorization_code"), 3 * (i + 1));
		assert_int_equal(th_unlink(scene.host, "ana", "mikomo", NULL, NULL), ACCTLINK_OK);
		assert_int_equal(th_unlink(scene.host, "ana", "other", NULL, NULL), ACCTLINK_OK);
	}
	assert_int_equal(th_max_arrivals(scene.provider), 1);
	scene_close(&scene);
}

/* ---- fork ------------------------------------------------------------------------------------ */

enum { CHILDREN = 4, FLOWS = 10, SECRETS = 3, SECRET_BYTES = 128 };

/* What must never be drawn twice; in shared memory, a row per process. */
struct drawn {
	char text[CHILDREN + 1][FLOWS][SECRETS][SECRET_BYTES];
};

struct heir {
	struct th_host *host; /* made before the fork, never used */
	struct th_provider *provider;
	struct drawn *drawn;
	int number;
};

static void draw(struct heir *heir, int i)
{
	static const char *const names[SECRETS] = { "state", "code_challenge", "nonce" };
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char user[16];
	int j;

	th_check(flow != NULL, "no memory");
	snprintf(user, sizeof(user), "heir%d", heir->number);
	th_check(th_begin(heir->host, user, NULL, flow, &err) == ACCTLINK_OK, "begin: %s", err.message);
	for (j = 0; j < SECRETS; j++) {
		char *value = th_param(flow->url, names[j]);

		th_check(value != NULL && strlen(value) >= 22, "%s is missing or short", names[j]);
		snprintf(heir->drawn->text[heir->number][i][j], SECRET_BYTES, "%s", value);
		free(value);
	}
	free(flow);
}

/* The whole life of a link, on the handle that was inherited unused. */
static int live_as_heir(void *ctx)
{
	struct heir *heir = ctx;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char user[16];
	char *bearer;
	int i;

	snprintf(user, sizeof(user), "heir%d", heir->number);
	for (i = 0; i < FLOWS; i++)
		draw(heir, i);
	th_must_link(heir->host, heir->provider, user, NULL, NULL);
	bearer = th_must_bearer(heir->host, user, NULL, &info);
	th_check(th_userinfo(heir->provider, bearer) == 200, "userinfo");
	free(bearer);
	th_check(th_report(heir->host, user, NULL, info.generation, NULL) == ACCTLINK_OK, "report");
	bearer = th_must_bearer(heir->host, user, NULL, &info);
	th_check(info.generation == 2, "generation %d", (int)info.generation);
	free(bearer);
	th_check(th_unlink(heir->host, user, NULL, NULL, NULL) == ACCTLINK_OK, "unlink");
	th_host_free(&heir->host);
	return 0;
}

static void assert_all_different(const struct drawn *drawn)
{
	const char(*all)[SECRETS][SECRET_BYTES] = &drawn->text[0][0];
	int i;
	int j;
	int k;

	for (i = 0; i < (CHILDREN + 1) * FLOWS; i++) {
		for (j = 0; j < i; j++) {
			for (k = 0; k < SECRETS; k++)
				assert_string_not_equal(all[i][k], all[j][k]);
		}
	}
}

static void a_handle_made_before_the_fork_works_in_every_child_and_no_two_draw_the_same(void **state)
{
	static const struct th_config config = { .provider_lines = "min_refresh_interval = 0;" };
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, &config);
	struct drawn *drawn = crowd_shared(sizeof(*drawn));
	struct heir heirs[CHILDREN + 1];
	pid_t pids[CHILDREN];
	int i;

	(void)state;
	for (i = 0; i <= CHILDREN; i++)
		heirs[i] = (struct heir){ .host = host, .provider = provider, .drawn = drawn, .number = i };
	for (i = 0; i < CHILDREN; i++)
		pids[i] = th_fork(live_as_heir, &heirs[i]);
	/* The parent's first use comes after the fork, too. */
	assert_int_equal(live_as_heir(&heirs[CHILDREN]), 0);
	for (i = 0; i < CHILDREN; i++)
		th_join(pids[i], CROWD_PATIENCE_MS);
	assert_all_different(drawn);
	assert_int_equal(th_max_arrivals(provider), 1);
	assert_int_equal(th_count(provider, "token", "refresh_token"), CHILDREN + 1);
	munmap(drawn, sizeof(*drawn));
	th_provider_stop(&provider);
}

static void assert_forked(acctlink_status rc, const acctlink_error *err, const char *what)
{
	th_check(rc == ACCTLINK_FORKED, "%s returned %d in the child", what, (int)rc);
	th_check(err->status == ACCTLINK_FORKED && err->message[0] != '\0', "%s filled no error", what);
}

static void every_call_tells_of_the_fork(struct th_host *host)
{
	acctlink_callback_result back;
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_args list_args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };
	struct th_flow *flow = calloc(1, sizeof(*flow));
	char *bearer = NULL;

	th_check(flow != NULL, "no memory");
	assert_forked(th_begin(host, "ana", NULL, flow, &err), &err, "begin");
	assert_forked(th_callback(host, "ana", "code=x&state=y", "a=b", &back, &err), &err, "on_callback");
	assert_forked(th_bearer(host, "ana", NULL, &bearer, NULL, &err), &err, "get_bearer");
	assert_forked(th_unlink(host, "ana", NULL, NULL, &err), &err, "unlink");
	assert_forked(th_inspect(host, "ana", NULL, &seen, &err), &err, "inspect");
	list_args.user = th_str("ana");
	list.items = &item;
	list.capacity = 1;
	assert_forked(host->api.list(host->handle, &list_args, &list, &err), &err, "list");
	assert_forked(th_report(host, "ana", NULL, 1, &err), &err, "report_rejected");
	assert_forked(host->api.reload(host->handle, &err), &err, "reload");
	assert_forked(host->api.shutdown(host->handle, 0, &err), &err, "shutdown");
	free(flow);
}

struct orphan {
	struct th_host *host; /* the parent's, in use */
	bool shut_down_first;
	int answered[2]; /* a pipe: the child has seen that the claim is alive */
};

static int live_beside_the_parent(void *ctx)
{
	struct orphan *orphan = ctx;
	struct th_host *own;
	struct had had;

	if (orphan->shut_down_first)
		every_call_tells_of_the_fork(orphan->host);
	own = th_host_open(orphan->host->config_path, orphan->host->clock);
	get_bearer(own, &(struct wish){ .user = "bea" }, &had);
	th_check(had.rc == ACCTLINK_OK && had.generation == 1, "the child's bearer: %d %s", (int)had.rc, had.message);
	/* The parent's refresh is on its way: waited for, not repeated. */
	get_bearer(own, &(struct wish){ .user = "ana", .deadline_ms = 300 }, &had);
	th_check(had.rc == ACCTLINK_TIMED_OUT, "the held bearer: %d %s", (int)had.rc, had.message);
	th_check(write(orphan->answered[1], "", 1) == 1, "write: %s", strerror(errno));
	get_bearer(own, &(struct wish){ .user = "ana" }, &had);
	th_check(had.rc == ACCTLINK_OK && had.generation == 2, "the refreshed bearer: %d %s", (int)had.rc, had.message);
	if (!orphan->shut_down_first)
		every_call_tells_of_the_fork(orphan->host);
	th_host_free(&own);
	return 0;
}

/* Forks while a refresh is on its way. The child tries its inherited handle before
 * or after it makes one of its own. */
static void fork_in_use(bool shut_down_first)
{
	static const struct th_config config = { .lines = "poll_interval = 3600;" };
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, &config);
	struct orphan orphan = { .host = host, .shut_down_first = shut_down_first };
	static struct caller caller; /* its thread outlives a test that fails */
	struct had had;
	pid_t pid;
	char one;

	th_control(provider, "{'set':{'access_ttl':600}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, LIFE_MS + 1000);
	th_must_link(host, provider, "bea", NULL, NULL);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	caller_start(&caller, host, (struct wish){ .user = "ana", .deadline_ms = CROWD_PATIENCE_MS });
	th_wait_held(provider, "answer", 1);
	assert_int_equal(pipe(orphan.answered), 0);
	pid = th_fork(live_beside_the_parent, &orphan);
	close(orphan.answered[1]);
	th_check(read(orphan.answered[0], &one, 1) == 1, "the child ended");
	th_release(provider, "answer");
	assert_int_equal(caller_join(&caller)->rc, ACCTLINK_OK);
	assert_int_equal(caller.had.generation, 2);
	th_join(pid, CROWD_PATIENCE_MS);
	/* The child's end took nothing from the parent. */
	th_advance(host, provider, LIFE_MS + 1000);
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_int_equal(had.rc, ACCTLINK_OK);
	assert_int_equal(had.generation, 3);
	th_host_free(&host);
	assert_int_equal(th_count(provider, "token", "refresh_token"), 2);
	assert_int_equal(th_max_arrivals(provider), 1);
	close(orphan.answered[0]);
	th_provider_stop(&provider);
}

static void a_child_of_a_used_handle_is_told_so_by_every_call_and_makes_its_own(void **state)
{
	(void)state;
	if (CROWD_TSAN) {
		printf("# a thread sanitizer allows no threads in a child of a process that has threads\n");
		skip();
	}
	fork_in_use(true);
}

static void a_child_of_a_used_handle_may_make_its_own_before_it_ends_the_inherited_one(void **state)
{
	(void)state;
	if (CROWD_TSAN) {
		printf("# a thread sanitizer allows no threads in a child of a process that has threads\n");
		skip();
	}
	fork_in_use(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eight_processes_with_bearers_of_two_seconds_send_no_token_twice_and_fail_no_call),
		cmocka_unit_test(the_refresh_of_a_killed_process_is_resent_once_and_only_after_the_bearers_end),
		cmocka_unit_test(a_rotation_lost_with_a_killed_process_is_called_so),
		cmocka_unit_test(processes_that_wait_for_a_killed_one_take_over_with_one_resend),
		cmocka_unit_test(a_process_killed_before_it_could_send_costs_no_token),
		cmocka_unit_test(a_refresh_that_ends_after_the_unlink_in_its_process_does_not_bring_the_link_back),
		cmocka_unit_test(a_refresh_that_ends_after_an_unlink_in_another_process_does_not_bring_the_link_back),
		cmocka_unit_test(an_unlink_is_seen_by_another_process_that_holds_the_bearer),
		cmocka_unit_test(a_renewal_and_a_rejection_are_seen_by_another_process_that_holds_the_bearer),
		cmocka_unit_test(a_consent_begun_in_a_process_that_is_gone_ends_in_a_new_one_after_fourteen_minutes),
		cmocka_unit_test(a_consent_that_comes_to_another_process_after_its_time_sends_no_code),
		cmocka_unit_test(three_consents_of_one_user_end_in_any_order_in_another_process),
		cmocka_unit_test(a_handle_made_before_the_fork_works_in_every_child_and_no_two_draw_the_same),
		cmocka_unit_test(a_child_of_a_used_handle_is_told_so_by_every_call_and_makes_its_own),
		cmocka_unit_test(a_child_of_a_used_handle_may_make_its_own_before_it_ends_the_inherited_one),
	};

	return cmocka_run_group_tests_name("processes", tests, NULL, NULL);
}
