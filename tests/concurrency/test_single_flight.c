/* SPDX-License-Identifier: MIT
 * Many callers, one refresh: threads and processes that meet at an expired
 * bearer, callers that come late with old knowledge, callers that give up,
 * a handle that is reloaded or shut down while a refresh is on its way. The
 * provider rotates strictly: a refresh token that arrives twice ends the grant.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "crowd.h"

enum { LIFE_MS = 600 * 1000, THREADS = 64, PROCESSES = 4 };

/* Bearers of ten minutes. The margin in which a good bearer is refreshed is 30 s. */
static struct th_provider *strict_provider(void)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);

	th_control(provider, "{'set':{'access_ttl':600,'rotation':'hydra'}}");
	return provider;
}

static void assert_had(const struct had *had, acctlink_status rc, uint64_t generation)
{
	th_check(had->rc == rc, "get_bearer returned %d (%s), not %d", (int)had->rc, had->message, (int)rc);
	if (rc == ACCTLINK_OK)
		assert_int_equal(had->generation, generation);
}

/* The provider counts every refresh token once, and its grant lives on. */
static void assert_refreshed(struct th_provider *provider, int times)
{
	assert_int_equal(th_count(provider, "token", "refresh_token"), times);
	assert_int_equal(th_max_arrivals(provider), 1);
	assert_true(th_grant_alive(provider, 0));
	assert_int_equal(th_grant_generation(provider, 0), times + 1);
}

static acctlink_inspect_result inspect(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	th_check(th_inspect(host, user, NULL, &result, &err) == ACCTLINK_OK, "inspect: %s", err.message);
	return result;
}

/* ---- threads x processes ------------------------------------------------------ */

struct meeting {
	struct th_host *host;
	const char *user;
	atomic_uint *arrived; /* shared by the processes */
	struct had had[THREADS];
};

static void meet(void *ctx, unsigned i)
{
	struct meeting *meeting = ctx;

	atomic_fetch_add(meeting->arrived, 1);
	get_bearer(meeting->host, &(struct wish){ .user = meeting->user }, &meeting->had[i]);
}

static atomic_uint *arrived;

struct met {
	unsigned different;
	struct had first;
};

static void job_meet(struct th_host *host, const void *in, void *out)
{
	struct meeting meeting = { .host = host, .user = in, .arrived = arrived };
	struct met *met = out;
	unsigned i;

	th_parallel(THREADS, meet, &meeting);
	met->first = meeting.had[0];
	for (i = 0; i < THREADS; i++) {
		if (!same_bearer(&meeting.had[i], &meeting.had[0]))
			met->different++;
		if (meeting.had[i].rc != ACCTLINK_OK)
			met->first = meeting.had[i];
	}
}

static bool all_arrived(void *ctx)
{
	(void)ctx;
	return atomic_load(arrived) == THREADS * PROCESSES;
}

/* The answer comes at once, after 300 ms, or when all callers wait for it. */
static void script_round(struct th_provider *provider, unsigned how)
{
	if (how == 1)
		th_script(provider, "token", "refresh_token", 1, "{'delay_ms':300}");
	if (how == 2)
		th_script(provider, "token", "refresh_token", 1, "{'hold':'round'}");
}

static void meet_once(struct worker *workers, struct th_provider *provider, unsigned how, uint64_t generation)
{
	struct met met[PROCESSES];
	unsigned i;

	atomic_store(arrived, 0);
	script_round(provider, how);
	for (i = 0; i < PROCESSES; i++)
		worker_order(&workers[i], job_meet, "ana", sizeof("ana"));
	if (how == 2) {
		th_wait_held(provider, "round", 1);
		th_wait_until(all_arrived, NULL, CROWD_PATIENCE_MS, "all callers of a round");
		th_release(provider, "round");
	}
	for (i = 0; i < PROCESSES; i++) {
		worker_reply(&workers[i], &met[i], sizeof(met[i]));
		assert_had(&met[i].first, ACCTLINK_OK, generation);
		assert_int_equal(met[i].different, 0);
		assert_true(same_bearer(&met[i].first, &met[0].first));
	}
}

static void threads_of_four_processes_that_meet_at_an_expired_bearer_share_one_refresh(void **state)
{
	const unsigned rounds = th_full() ? 1000 : 50;
	struct th_provider *provider = strict_provider();
	struct th_clock *clock = th_clock_new();
	uint64_t chance = th_seed() | 1;
	struct worker workers[PROCESSES];
	struct th_host *host;
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, NULL);
	unsigned i;

	(void)state;
	arrived = crowd_shared(sizeof(*arrived));
	for (i = 0; i < PROCESSES; i++)
		worker_start(&workers[i], path, clock);
	host = th_host_open(path, clock);
	th_must_link(host, provider, "ana", NULL, NULL);
	for (i = 1; i <= rounds; i++) {
		th_advance(host, provider, LIFE_MS + 1000);
		meet_once(workers, provider, (unsigned)(crowd_random(&chance) >> 32) % 3, i + 1);
		assert_int_equal(th_count(provider, "token", "refresh_token"), i);
	}
	assert_int_equal(inspect(host, "ana").state, ACCTLINK_STATE_LINKED);
	assert_int_equal(inspect(host, "ana").generation, rounds + 1);
	for (i = 0; i < PROCESSES; i++)
		worker_stop(&workers[i]);
	th_host_free(&host);
	assert_refreshed(provider, (int)rounds);
	th_clock_free(&clock);
	munmap(arrived, sizeof(*arrived));
	th_provider_stop(&provider);
	free(path);
	free(dir);
}

/* ---- held back with the old state ----------------------------------------------- */

/* A clock that holds one caller: the n-th look at it lasts until the gate is opened.
 * The plugin looks at the clock between all that it reads and decides. */
struct gate {
	struct th_clock *clock;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned looks_left; /* 0: nobody is held */
	bool holding;
	bool open;
};

static void gate_clock(void *ctx, acctlink_time *now)
{
	struct gate *gate = ctx;

	now->wall_ms = th_clock_wall_ms(gate->clock);
	now->boot_ms = th_clock_boot_ms(gate->clock);
	pthread_mutex_lock(&gate->lock);
	if (gate->looks_left > 0 && --gate->looks_left == 0) {
		gate->holding = true;
		while (!gate->open)
			pthread_cond_wait(&gate->changed, &gate->lock);
		gate->holding = false;
	}
	pthread_mutex_unlock(&gate->lock);
}

static void gate_arm(struct gate *gate, unsigned look)
{
	pthread_mutex_lock(&gate->lock);
	gate->looks_left = look;
	gate->open = false;
	pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->looks_left = 0;
	gate->open = true;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static bool gate_holds(struct gate *gate)
{
	bool holding;

	pthread_mutex_lock(&gate->lock);
	holding = gate->holding;
	pthread_mutex_unlock(&gate->lock);
	return holding;
}

struct held_call {
	struct gate *gate;
	struct caller *caller;
};

static bool held_or_done(void *ctx)
{
	struct held_call *call = ctx;

	return gate_holds(call->gate) || atomic_load(&call->caller->done);
}

/* A handle on the same store whose clock is the gate. */
static struct th_host *open_gated(const char *path, struct gate *gate)
{
	struct th_host *host = th_host_open(path, gate->clock);
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_error err = { 0 };

	assert_int_equal(host->api.shutdown(host->handle, 0, NULL), ACCTLINK_OK);
	hooks.ctx = gate;
	hooks.clock = gate_clock;
	args.config_path = th_str(path);
	args.hooks = &hooks;
	th_check(host->api.init(&args, &host->handle, &err) == ACCTLINK_OK, "init: %s", err.message);
	return host;
}

/* Returns false when the call came to its end without so many looks. */
static bool hold_back_at(unsigned look, struct gate *gate, struct th_host *late, struct th_host *quick,
	uint64_t generation, unsigned *before_claim)
{
	static struct caller caller; /* its thread outlives a test that fails, as those below */
	struct held_call call = { gate, &caller };
	struct had had;
	bool held;
	bool claimed;

	gate_arm(gate, look);
	caller_start(&caller, late, (struct wish){ .user = "ana" });
	th_wait_until(held_or_done, &call, CROWD_PATIENCE_MS, "a held call");
	held = gate_holds(gate);
	claimed = inspect(quick, "ana").claim == ACCTLINK_CLAIM_OPEN;
	if (held && !claimed) {
		get_bearer(quick, &(struct wish){ .user = "ana" }, &had);
		assert_had(&had, ACCTLINK_OK, generation);
		(*before_claim)++;
	}
	gate_open(gate);
	assert_had(caller_join(&caller), ACCTLINK_OK, generation);
	if (!held || claimed)
		get_bearer(quick, &(struct wish){ .user = "ana" }, &had);
	assert_true(same_bearer(&had, &caller.had));
	return held;
}

static void a_caller_held_back_with_the_old_state_gets_the_new_bearer_and_sends_nothing(void **state)
{
	static const struct th_config config = { .lines = "poll_interval = 3600;" };
	struct th_provider *provider = strict_provider();
	struct th_host *quick = th_host_new(provider, &config);
	static struct gate gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	struct th_host *late;
	unsigned before_claim = 0;
	unsigned look = 0;
	struct had had;
	bool held;

	(void)state;
	gate.clock = quick->clock;
	late = open_gated(quick->config_path, &gate);
	th_must_link(quick, provider, "ana", NULL, NULL);
	get_bearer(late, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 1);
	do {
		th_advance(quick, provider, LIFE_MS + 1000);
		look++;
		held = hold_back_at(look, &gate, late, quick, look + 1, &before_claim);
		assert_int_equal(th_count(provider, "token", "refresh_token"), look);
	} while (held);
	/* At least: the held bearer is old; no flight is there; the row that was read is old; the claim. */
	assert_true(before_claim >= 4);
	assert_true(look > before_claim + 1);
	th_host_free(&late);
	th_host_free(&quick);
	assert_refreshed(provider, (int)look);
	th_provider_stop(&provider);
}

/* ---- many reports about one bearer ------------------------------------------------ */

enum { REPORTERS = 50, REPORTING_PROCESSES = 2 };

struct reporting {
	struct th_host *host;
	const char *user;
	uint64_t generation;
	struct had had[REPORTERS];
};

/* Half of them report at once; the others when they have seen the new generation. */
static void report_and_get(void *ctx, unsigned i)
{
	struct reporting *reporting = ctx;
	const struct wish wish = { .user = reporting->user };
	struct had *had = &reporting->had[i];
	const int64_t end = crowd_now_ms() + CROWD_PATIENCE_MS;

	if (i % 2 == 1) {
		do
			get_bearer(reporting->host, &wish, had);
		while (had->rc == ACCTLINK_OK && had->generation == reporting->generation && crowd_now_ms() < end);
	}
	th_check(th_report(reporting->host, reporting->user, NULL, reporting->generation, NULL) == ACCTLINK_OK,
		"report");
	get_bearer(reporting->host, &wish, had);
}

struct report_order {
	char user[16];
	uint64_t generation;
};

static void job_report(struct th_host *host, const void *in, void *out)
{
	const struct report_order *order = in;
	struct reporting reporting = { .host = host, .user = order->user, .generation = order->generation };
	struct met *met = out;
	unsigned i;

	th_parallel(REPORTERS, report_and_get, &reporting);
	met->first = reporting.had[0];
	for (i = 0; i < REPORTERS; i++) {
		if (!same_bearer(&reporting.had[i], &reporting.had[0]))
			met->different++;
		if (reporting.had[i].rc != ACCTLINK_OK)
			met->first = reporting.had[i];
	}
}

static void fifty_reports_about_one_generation_early_and_late_make_one_refresh(void **state)
{
	const unsigned rounds = th_full() ? 100 : 10;
	static const struct th_config config = { .lines = "poll_interval = 0.05;" };
	struct th_provider *provider = strict_provider();
	struct th_clock *clock = th_clock_new();
	struct worker workers[REPORTING_PROCESSES];
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, &config);
	struct th_host *host;
	unsigned i;

	(void)state;
	for (i = 0; i < REPORTING_PROCESSES; i++)
		worker_start(&workers[i], path, clock);
	host = th_host_open(path, clock);
	th_must_link(host, provider, "ana", NULL, NULL);
	for (uint64_t generation = 1; generation <= rounds; generation++) {
		const struct report_order order = { "ana", generation };
		struct met met[REPORTING_PROCESSES];

		/* A bearer that is refused within 10 s of its birth waits for a while. */
		th_advance(host, provider, 15 * 1000);
		th_script(provider, "token", "refresh_token", 1, "{'delay_ms':%d}", generation % 2 == 0 ? 100 : 0);
		for (i = 0; i < REPORTING_PROCESSES; i++)
			worker_order(&workers[i], job_report, &order, sizeof(order));
		for (i = 0; i < REPORTING_PROCESSES; i++) {
			worker_reply(&workers[i], &met[i], sizeof(met[i]));
			assert_had(&met[i].first, ACCTLINK_OK, generation + 1);
			assert_int_equal(met[i].different, 0);
			assert_true(same_bearer(&met[i].first, &met[0].first));
		}
		assert_int_equal(th_count(provider, "token", "refresh_token"), generation);
	}
	assert_int_equal(inspect(host, "ana").state, ACCTLINK_STATE_LINKED);
	for (i = 0; i < REPORTING_PROCESSES; i++)
		worker_stop(&workers[i]);
	th_host_free(&host);
	assert_refreshed(provider, (int)rounds);
	th_clock_free(&clock);
	th_provider_stop(&provider);
	free(path);
	free(dir);
}

static void a_late_report_from_a_process_that_never_saw_the_new_bearer_changes_nothing(void **state)
{
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, NULL);
	struct th_host *other = th_host_open(host->config_path, host->clock);
	struct had newest;
	struct had had;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, LIFE_MS + 1000);
	get_bearer(host, &(struct wish){ .user = "ana" }, &newest);
	assert_had(&newest, ACCTLINK_OK, 2);
	th_advance(host, provider, 60 * 1000); /* a rejected bearer would be refreshed at once */
	assert_int_equal(th_report(other, "ana", NULL, 1, NULL), ACCTLINK_OK);
	get_bearer(other, &(struct wish){ .user = "ana" }, &had);
	assert_true(same_bearer(&had, &newest));
	th_host_restart(other); /* the report was written, or not, before the handle ended */
	get_bearer(other, &(struct wish){ .user = "ana" }, &had);
	assert_true(same_bearer(&had, &newest));
	th_host_free(&other);
	th_host_free(&host);
	assert_refreshed(provider, 1);
	th_provider_stop(&provider);
}

/* ---- callers that stop waiting ------------------------------------------------------ */

/* The machine may be slow: a call that ends late by more than this did not look at its deadline. */
enum { LATE_MS = 10000 };

static void a_caller_that_stops_waiting_does_not_stop_the_exchange(void **state)
{
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, NULL);
	struct had had;
	struct had next;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, LIFE_MS + 1000);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	get_bearer(host, &(struct wish){ .user = "ana", .deadline_ms = 200 }, &had);
	assert_had(&had, ACCTLINK_TIMED_OUT, 0);
	assert_in_range(had.took_ms, 200, LATE_MS);
	th_wait_held(provider, "answer", 1);
	assert_int_equal(inspect(host, "ana").claim, ACCTLINK_CLAIM_OPEN);
	/* A second one joins the exchange that is on its way, and gives up as well. */
	get_bearer(host, &(struct wish){ .user = "ana", .deadline_ms = 200 }, &had);
	assert_had(&had, ACCTLINK_TIMED_OUT, 0);
	th_release(provider, "answer");
	th_wait_event(host, "REFRESHED", 1);
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	get_bearer(host, &(struct wish){ .user = "ana" }, &next);
	assert_true(same_bearer(&had, &next));
	assert_int_equal(th_userinfo(provider, had.bearer), 200);
	th_host_free(&host);
	assert_refreshed(provider, 1);
	th_provider_stop(&provider);
}

static void a_bearer_that_is_still_good_is_served_while_the_provider_holds_the_answer(void **state)
{
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, NULL);
	struct had had;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, LIFE_MS - 20 * 1000);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 1);
	th_wait_held(provider, "answer", 1);
	/* A caller that wants more life in it waits, and gets what there is at its deadline. */
	get_bearer(host, &(struct wish){ .user = "ana", .min_ttl_ms = 60000, .deadline_ms = 200 }, &had);
	assert_had(&had, ACCTLINK_OK, 1);
	assert_in_range(had.took_ms, 200, LATE_MS);
	th_release(provider, "answer");
	get_bearer(host, &(struct wish){ .user = "ana", .min_ttl_ms = 60000 }, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	th_host_free(&host);
	assert_refreshed(provider, 1);
	th_provider_stop(&provider);
}

/* ---- a slow provider and its neighbours ------------------------------------------------ */

enum { MANY = 500, CALLS = 500 };

static int compare_ms(const void *a, const void *b)
{
	const int64_t *x = a;
	const int64_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The median of calls that find their bearer held. */
static int64_t median_call_ms(struct th_host *host, const struct wish *wish, uint64_t generation)
{
	int64_t took[CALLS];
	struct had had;
	size_t i;

	for (i = 0; i < CALLS; i++) {
		get_bearer(host, wish, &had);
		assert_had(&had, ACCTLINK_OK, generation);
		took[i] = had.took_ms;
	}
	qsort(took, CALLS, sizeof(took[0]), compare_ms);
	return took[CALLS / 2];
}

static void link_other(struct th_host *host, struct th_provider *other, const char *user)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_error err = { 0 };
	char url[2048];
	char set_cookie[512];
	char *params;

	args.user = th_str(user);
	args.provider = th_str("other");
	result.url = (acctlink_out){ url, sizeof(url), 0 };
	result.set_cookie = (acctlink_out){ set_cookie, sizeof(set_cookie), 0 };
	th_check(host->api.begin(host->handle, &args, &result, &err) == ACCTLINK_OK, "begin: %s", err.message);
	set_cookie[strcspn(set_cookie, ";")] = '\0';
	params = th_consent(other, url);
	th_check(th_callback(host, user, params, set_cookie, NULL, &err) == ACCTLINK_OK, "callback: %s", err.message);
	free(params);
}

static struct th_host *host_of_two_providers(struct th_provider *slow, struct th_provider *other)
{
	struct th_config config = { .profile = NULL };
	struct th_host *host;
	char *section = th_printf("other = { issuer = '%s'; ca_file = '%s'; client_id = 'test-client';"
				  " client_secret = 'test-secret'; redirect_uri = 'https://app.example/cb'; };",
		other->issuer, other->ca_file);

	config.more_providers = section;
	host = th_host_new(slow, &config);
	free(section);
	return host;
}

static void five_hundred_callers_of_a_slow_provider_share_one_refresh_and_delay_nobody_else(void **state)
{
	struct th_provider *slow = strict_provider();
	struct th_provider *other = strict_provider();
	struct th_host *host = host_of_two_providers(slow, other);
	struct caller *callers = calloc(MANY, sizeof(*callers));
	const struct wish on_other = { .user = "ana", .provider = "other", .deadline_ms = 20000 };
	struct had had;
	unsigned i;

	(void)state;
	assert_non_null(callers);
	th_must_link(host, slow, "ana", NULL, NULL);
	link_other(host, other, "ana");
	th_provider_advance(other, LIFE_MS + 1000);
	th_advance(host, slow, LIFE_MS + 1000);
	th_must_link(host, slow, "eve", NULL, NULL); /* a fresh bearer of the slow one */
	th_script(slow, "token", "refresh_token", -1, "{'hold':'answer'}");
	for (i = 0; i < MANY; i++)
		caller_start(&callers[i], host, (struct wish){ .user = "ana", .deadline_ms = CROWD_PATIENCE_MS });
	th_wait_held(slow, "answer", 1);
	/* The neighbour refreshes and serves; so does the slow one what is held of it. */
	get_bearer(host, &on_other, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	assert_in_range(median_call_ms(host, &on_other, 2), 0, 5);
	assert_in_range(median_call_ms(host, &(struct wish){ .user = "eve", .deadline_ms = 20000 }, 1), 0, 5);
	for (i = 0; i < MANY; i++)
		assert_false(atomic_load(&callers[i].done));
	th_release(slow, "answer");
	for (i = 0; i < MANY; i++) {
		assert_had(caller_join(&callers[i]), ACCTLINK_OK, 2);
		assert_true(same_bearer(&callers[i].had, &callers[0].had));
	}
	free(callers);
	th_host_free(&host);
	assert_refreshed(slow, 1);
	assert_refreshed(other, 1);
	th_provider_stop(&slow);
	th_provider_stop(&other);
}

/* ---- reload ------------------------------------------------------------------------------- */

enum { LOADERS = 8, RELOADS = 100 };

struct load {
	struct th_host *host;
	atomic_bool stop;
	atomic_uint served;
};

static void keep_asking(void *ctx, unsigned i)
{
	struct load *load = ctx;
	uint64_t newest = 0;
	struct had had;

	(void)i;
	while (!atomic_load(&load->stop)) {
		get_bearer(load->host, &(struct wish){ .user = "ana" }, &had);
		th_check(had.rc == ACCTLINK_OK, "get_bearer while reloading: %d %s", (int)had.rc, had.message);
		th_check(had.generation >= newest, "generation %d after %d", (int)had.generation, (int)newest);
		newest = had.generation;
		atomic_fetch_add(&load->served, 1);
		crowd_nap_ms(1);
	}
}

static void *run_load(void *ctx)
{
	th_parallel(LOADERS, keep_asking, ctx);
	return NULL;
}

static bool has_served(void *ctx)
{
	struct load *load = ctx;

	return atomic_load(&load->served) >= LOADERS;
}

static void reload_under_load_fails_no_call_and_doubles_no_refresh(void **state)
{
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, NULL);
	static struct load load;
	acctlink_error err = { 0 };
	pthread_t thread;
	int i;

	(void)state;
	load.host = host;
	th_control(provider, "{'set':{'access_ttl':200}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	assert_int_equal(pthread_create(&thread, NULL, run_load, &load), 0);
	for (i = 0; i < RELOADS; i++) {
		if (i % 4 == 0) /* so that some reloads meet a refresh */
			th_advance(host, provider, 201 * 1000);
		th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "reload: %s", err.message);
		atomic_store(&load.served, 0);
		th_wait_until(has_served, &load, CROWD_PATIENCE_MS, "calls between two reloads");
	}
	atomic_store(&load.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(inspect(host, "ana").generation, RELOADS / 4 + 1);
	th_host_free(&host);
	assert_refreshed(provider, RELOADS / 4);
	th_provider_stop(&provider);
}

/* ---- shutdown -------------------------------------------------------------------------------- */

struct ending {
	struct th_host *host;
	uint32_t deadline_ms;
	acctlink_status rc;
	acctlink_error err;
	atomic_bool done;
};

static void *end_host(void *arg)
{
	struct ending *ending = arg;

	ending->rc = ending->host->api.shutdown(ending->host->handle, ending->deadline_ms, &ending->err);
	atomic_store(&ending->done, true);
	return NULL;
}

enum { WAITERS = 16 };

static void shutdown_finishes_the_exchange_in_flight_and_sends_waiting_callers_away(void **state)
{
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, NULL);
	static struct ending ending = { .deadline_ms = CROWD_PATIENCE_MS };
	static struct caller callers[WAITERS];
	struct had had;
	pthread_t thread;
	int i;

	(void)state;
	ending.host = host;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, LIFE_MS + 1000);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	for (i = 0; i < WAITERS; i++)
		caller_start(&callers[i], host, (struct wish){ .user = "ana", .deadline_ms = CROWD_PATIENCE_MS });
	th_wait_held(provider, "answer", 1);
	assert_int_equal(pthread_create(&thread, NULL, end_host, &ending), 0);
	/* The provider still holds its answer: nobody waits for it but the shutdown. */
	for (i = 0; i < WAITERS; i++)
		assert_had(caller_join(&callers[i]), ACCTLINK_SHUT_DOWN, 0);
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_SHUT_DOWN, 0);
	assert_false(atomic_load(&ending.done));
	th_release(provider, "answer");
	pthread_join(thread, NULL);
	th_check(ending.rc == ACCTLINK_OK, "shutdown: %d %s", (int)ending.rc, ending.err.message);
	host->handle = NULL;
	th_host_restart(host);
	assert_int_equal(inspect(host, "ana").claim, ACCTLINK_CLAIM_NONE);
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	assert_int_equal(th_userinfo(provider, had.bearer), 200);
	th_host_free(&host);
	assert_refreshed(provider, 1);
	th_provider_stop(&provider);
}

static void shutdown_that_cuts_an_exchange_off_leaves_its_outcome_open_in_the_store(void **state)
{
	static const struct th_config config = { .provider_lines = "resend_margin = 5;" };
	struct th_provider *provider = strict_provider();
	struct th_host *host = th_host_new(provider, &config);
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	struct had had;
	char *sent;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_must_link(host, provider, "bea", NULL, NULL);
	th_advance(host, provider, LIFE_MS - 20 * 1000);
	/* The provider has read the request and does nothing: nothing is rotated there. */
	th_script(provider, "token", "refresh_token", 1, "{'hold_before':'silence'}");
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 1);
	th_wait_held(provider, "silence", 1);
	sent = th_request(provider, "token", 0, "token");
	assert_int_equal(host->api.shutdown(host->handle, 300, &err), ACCTLINK_TIMED_OUT);
	assert_int_equal(err.status, ACCTLINK_TIMED_OUT);
	host->handle = NULL;
	th_host_restart(host);
	seen = inspect(host, "ana");
	assert_int_equal(seen.claim, ACCTLINK_CLAIM_UNKNOWN);
	assert_int_equal(seen.state, ACCTLINK_STATE_STALE);
	assert_int_equal(seen.reason, ACCTLINK_REASON_OUTCOME_UNKNOWN);
	assert_int_equal(seen.generation, 1);
	/* While the bearer is good nothing is resent; bea's refresh, begun later, is done when
	 * one would have been seen. */
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 1);
	get_bearer(host, &(struct wish){ .user = "bea", .min_ttl_ms = 60000 }, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	th_host_restart(host);
	assert_int_equal(th_arrivals(provider, sent), 1);
	th_advance(host, provider, 21 * 1000);
	get_bearer(host, &(struct wish){ .user = "ana" }, &had);
	assert_had(&had, ACCTLINK_OK, 2);
	seen = inspect(host, "ana");
	assert_int_equal(seen.claim, ACCTLINK_CLAIM_NONE);
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	th_host_free(&host);
	assert_int_equal(th_arrivals(provider, sent), 2);
	assert_int_equal(th_count(provider, "token", "refresh_token"), 3);
	free(sent);
	th_provider_stop(&provider);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_of_four_processes_that_meet_at_an_expired_bearer_share_one_refresh),
		cmocka_unit_test(a_caller_held_back_with_the_old_state_gets_the_new_bearer_and_sends_nothing),
		cmocka_unit_test(fifty_reports_about_one_generation_early_and_late_make_one_refresh),
		cmocka_unit_test(a_late_report_from_a_process_that_never_saw_the_new_bearer_changes_nothing),
		cmocka_unit_test(a_caller_that_stops_waiting_does_not_stop_the_exchange),
		cmocka_unit_test(a_bearer_that_is_still_good_is_served_while_the_provider_holds_the_answer),
		cmocka_unit_test(five_hundred_callers_of_a_slow_provider_share_one_refresh_and_delay_nobody_else),
		cmocka_unit_test(reload_under_load_fails_no_call_and_doubles_no_refresh),
		cmocka_unit_test(shutdown_finishes_the_exchange_in_flight_and_sends_waiting_callers_away),
		cmocka_unit_test(shutdown_that_cuts_an_exchange_off_leaves_its_outcome_open_in_the_store),
	};

	return cmocka_run_group_tests_name("single flight", tests, NULL, NULL);
}
