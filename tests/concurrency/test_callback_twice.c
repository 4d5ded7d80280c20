/* SPDX-License-Identifier: MIT
 * One callback that comes more than once at a time, and consents whose process
 * dies, is shut down or loses its caller while the code is exchanged. A code is
 * sent once, whatever happens.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "crowd.h"

enum { PROCESSES = 2, DELIVERIES = 4 };

struct scene {
	struct th_provider *provider;
	struct th_clock *clock;
	char *dir;
	char *path;
	struct worker workers[PROCESSES];
	bool killed;
	struct th_host *host;
};

static void scene_open(struct scene *scene)
{
	unsigned i;

	memset(scene, 0, sizeof(*scene));
	scene->provider = th_provider_start(TH_PRACTICE, NULL);
	scene->clock = th_clock_new();
	scene->dir = th_temp_dir();
	scene->path = th_config_write(scene->dir, scene->provider, NULL);
	for (i = 0; i < PROCESSES; i++)
		worker_start(&scene->workers[i], scene->path, scene->clock);
	scene->host = th_host_open(scene->path, scene->clock);
}

/* The handles end in order first: what they had begun has arrived. No code was sent twice. */
static void scene_close(struct scene *scene)
{
	if (!scene->killed)
		worker_stop(&scene->workers[0]);
	worker_stop(&scene->workers[1]);
	th_host_free(&scene->host);
	assert_int_equal(th_max_arrivals(scene->provider), 1);
	th_clock_free(&scene->clock);
	th_provider_stop(&scene->provider);
	free(scene->path);
	free(scene->dir);
}

static int exchanges(struct scene *scene)
{
	return th_count(scene->provider, "token", "authorization_code");
}

/* What the browser brings back. */
struct delivery {
	char user[64];
	char params[2048];
	char cookie[1024];
	uint32_t deadline_ms;
};

static void consent(struct scene *scene, const char *user, struct delivery *delivery)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;

	assert_non_null(flow);
	th_check(th_begin(scene->host, user, NULL, flow, &err) == ACCTLINK_OK, "begin: %s", err.message);
	params = th_consent(scene->provider, flow->url);
	memset(delivery, 0, sizeof(*delivery));
	snprintf(delivery->user, sizeof(delivery->user), "%s", user);
	snprintf(delivery->params, sizeof(delivery->params), "%s", params);
	snprintf(delivery->cookie, sizeof(delivery->cookie), "%s", flow->cookie);
	free(params);
	free(flow);
}

struct answer {
	acctlink_status rc;
	int64_t took_ms;
	acctlink_callback_result result;
	char message[160];
};

static void deliver(struct th_host *host, const struct delivery *delivery, struct answer *answer)
{
	acctlink_callback_args args = ACCTLINK_CALLBACK_ARGS_INIT;
	acctlink_error err = { 0 };
	int64_t before = crowd_now_ms();

	args.user = th_str(delivery->user);
	args.params = th_str(delivery->params);
	args.cookie = th_str(delivery->cookie);
	args.deadline_ms = delivery->deadline_ms;
	answer->result = (acctlink_callback_result)ACCTLINK_CALLBACK_RESULT_INIT;
	answer->rc = host->api.on_callback(host->handle, &args, &answer->result, &err);
	answer->took_ms = crowd_now_ms() - before;
	snprintf(answer->message, sizeof(answer->message), "%.150s", err.message);
}

/* struct delivery -> struct answer */
static void job_deliver(struct th_host *host, const void *in, void *out)
{
	deliver(host, in, out);
}

static void assert_answer(const struct answer *answer, acctlink_status rc)
{
	th_check(answer->rc == rc, "on_callback returned %d (%s), not %d", (int)answer->rc, answer->message, (int)rc);
}

/* ---- at the same moment ----------------------------------------------------------- */

static atomic_uint *arrived; /* shared by the processes */

struct crowd {
	struct th_host *host;
	const struct delivery *delivery;
	struct answer answers[DELIVERIES];
};

static void deliver_one(void *ctx, unsigned i)
{
	struct crowd *crowd = ctx;

	atomic_fetch_add(arrived, 1);
	deliver(crowd->host, crowd->delivery, &crowd->answers[i]);
}

/* struct delivery -> struct answer[DELIVERIES] */
static void job_deliver_many(struct th_host *host, const void *in, void *out)
{
	struct crowd crowd = { .host = host, .delivery = in };

	th_parallel(DELIVERIES, deliver_one, &crowd);
	memcpy(out, crowd.answers, sizeof(crowd.answers));
}

static bool all_arrived(void *ctx)
{
	(void)ctx;
	return atomic_load(arrived) == PROCESSES * DELIVERIES;
}

/* All end well with one link; all but one are told that it had been handled. */
static void assert_one_did_the_work(const struct answer answers[PROCESSES * DELIVERIES])
{
	int first = 0;
	int i;

	for (i = 0; i < PROCESSES * DELIVERIES; i++) {
		assert_answer(&answers[i], ACCTLINK_OK);
		assert_string_equal(answers[i].result.link_id, answers[0].result.link_id);
		assert_int_equal(strlen(answers[i].result.link_id), 32);
		assert_int_equal(answers[i].result.epoch, 1);
		assert_int_equal(answers[i].result.generation, 1);
		assert_string_equal(answers[i].result.provider, "test");
		assert_int_equal(answers[i].result.flags & ~ACCTLINK_CALLBACK_REPEATED, 0);
		first += answers[i].result.flags == 0;
	}
	assert_int_equal(first, 1);
}

/* The exchange is answered at once, after 50 ms, or when all deliveries are there. */
static void deliver_at_once(struct scene *scene, const char *user, unsigned how)
{
	struct answer answers[PROCESSES * DELIVERIES];
	struct delivery delivery;
	unsigned i;

	consent(scene, user, &delivery);
	atomic_store(arrived, 0);
	if (how == 1)
		th_script(scene->provider, "token", "authorization_code", 1, "{'delay_ms':50}");
	if (how == 2)
		th_script(scene->provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	for (i = 0; i < PROCESSES; i++)
		worker_order(&scene->workers[i], job_deliver_many, &delivery, sizeof(delivery));
	if (how == 2) {
		th_wait_held(scene->provider, "exchange", 1);
		th_wait_until(all_arrived, NULL, CROWD_PATIENCE_MS, "all deliveries of a round");
		th_release(scene->provider, "exchange");
	}
	for (i = 0; i < PROCESSES; i++)
		worker_reply(&scene->workers[i], &answers[i * DELIVERIES], DELIVERIES * sizeof(answers[0]));
	assert_one_did_the_work(answers);
}

static void a_callback_that_comes_to_two_processes_at_once_is_exchanged_once_and_ends_well_for_all(void **state)
{
	const unsigned rounds = th_full() ? 500 : 100;
	uint64_t chance = th_seed() | 1;
	struct scene scene;
	unsigned i;

	(void)state;
	arrived = crowd_shared(sizeof(*arrived));
	scene_open(&scene);
	for (i = 1; i <= rounds; i++) {
		char user[16];

		snprintf(user, sizeof(user), "user%u", i);
		deliver_at_once(&scene, user, (unsigned)(crowd_random(&chance) >> 32) % 3);
		assert_int_equal(exchanges(&scene), i);
	}
	assert_int_equal(th_grant_count(scene.provider), rounds);
	assert_int_equal(th_count(scene.provider, "revoke", NULL), 0);
	scene_close(&scene);
	munmap(arrived, sizeof(*arrived));
}

/* ---- kill -9 while the code is exchanged --------------------------------------------- */

static void hold_exchange_at_first_worker(struct scene *scene, struct delivery *delivery)
{
	consent(scene, "ana", delivery);
	th_script(scene->provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	worker_order(&scene->workers[0], job_deliver, delivery, sizeof(*delivery));
	th_wait_held(scene->provider, "exchange", 1);
}

static void kill_first_worker(struct scene *scene)
{
	worker_kill(&scene->workers[0]);
	scene->killed = true;
}

static void assert_over_and_a_new_consent_works(struct scene *scene, const struct delivery *delivery)
{
	struct delivery next;
	struct answer answer;
	int i;

	for (i = 0; i < 3; i++) {
		worker_call(&scene->workers[1], job_deliver, delivery, sizeof(*delivery), &answer, sizeof(answer));
		assert_answer(&answer, ACCTLINK_FLOW_FAILED);
	}
	assert_int_equal(exchanges(scene), 1); /* the code is never resent */
	consent(scene, "ana", &next);
	worker_call(&scene->workers[1], job_deliver, &next, sizeof(next), &answer, sizeof(answer));
	assert_answer(&answer, ACCTLINK_OK);
	assert_int_equal(answer.result.flags, 0);
	assert_int_equal(exchanges(scene), 2);
}

static void a_code_whose_process_was_killed_is_not_resent_by_another(void **state)
{
	struct delivery delivery;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	hold_exchange_at_first_worker(&scene, &delivery);
	kill_first_worker(&scene);
	assert_over_and_a_new_consent_works(&scene, &delivery);
	scene_close(&scene);
}

static void a_delivery_that_waits_for_a_killed_process_is_told_to_begin_again(void **state)
{
	struct delivery delivery;
	struct answer answer;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	hold_exchange_at_first_worker(&scene, &delivery);
	worker_order(&scene.workers[1], job_deliver, &delivery, sizeof(delivery));
	/* One of our own shows that a living process is waited for. */
	delivery.deadline_ms = 300;
	deliver(scene.host, &delivery, &answer);
	assert_answer(&answer, ACCTLINK_TIMED_OUT);
	assert_false(worker_has_replied(&scene.workers[1]));
	kill_first_worker(&scene);
	worker_reply(&scene.workers[1], &answer, sizeof(answer));
	assert_answer(&answer, ACCTLINK_FLOW_FAILED);
	delivery.deadline_ms = 0;
	assert_over_and_a_new_consent_works(&scene, &delivery);
	scene_close(&scene);
}

/* ---- callers and handles that end first ------------------------------------------------ */

static void a_caller_that_stops_waiting_learns_the_result_by_the_same_callback(void **state)
{
	struct delivery delivery;
	struct answer answer;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	consent(&scene, "ana", &delivery);
	th_script(scene.provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	delivery.deadline_ms = 200;
	deliver(scene.host, &delivery, &answer);
	assert_answer(&answer, ACCTLINK_TIMED_OUT);
	assert_in_range(answer.took_ms, 200, 10000);
	th_wait_held(scene.provider, "exchange", 1);
	th_release(scene.provider, "exchange");
	delivery.deadline_ms = 0;
	deliver(scene.host, &delivery, &answer);
	assert_answer(&answer, ACCTLINK_OK);
	assert_int_equal(answer.result.flags, ACCTLINK_CALLBACK_REPEATED);
	assert_int_equal(exchanges(&scene), 1);
	th_wait_event(scene.host, "LINKED", 1);
	assert_int_equal(th_lines_count(scene.host->events, "LINKED"), 1);
	scene_close(&scene);
}

struct deliverer {
	struct th_host *host;
	const struct delivery *delivery;
	struct answer answer;
};

static void *run_deliver(void *arg)
{
	struct deliverer *deliverer = arg;

	deliver(deliverer->host, deliverer->delivery, &deliverer->answer);
	return NULL;
}

struct ending {
	struct th_host *host;
	uint32_t deadline_ms;
	acctlink_status rc;
	atomic_bool done;
};

static void *run_shutdown(void *arg)
{
	struct ending *ending = arg;

	ending->rc = ending->host->api.shutdown(ending->host->handle, ending->deadline_ms, NULL);
	atomic_store(&ending->done, true);
	return NULL;
}

static void shutdown_finishes_a_code_exchange_that_is_under_way(void **state)
{
	static struct delivery delivery;
	struct answer answer;
	struct scene scene;
	static struct deliverer deliverer; /* threads outlive a test that fails */
	static struct ending ending = { .deadline_ms = CROWD_PATIENCE_MS };
	pthread_t waiting;
	pthread_t shutting;

	(void)state;
	scene_open(&scene);
	deliverer.host = ending.host = scene.host;
	deliverer.delivery = &delivery;
	consent(&scene, "ana", &delivery);
	th_script(scene.provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	assert_int_equal(pthread_create(&waiting, NULL, run_deliver, &deliverer), 0);
	th_wait_held(scene.provider, "exchange", 1);
	assert_int_equal(pthread_create(&shutting, NULL, run_shutdown, &ending), 0);
	pthread_join(waiting, NULL);
	assert_answer(&deliverer.answer, ACCTLINK_SHUT_DOWN);
	assert_false(atomic_load(&ending.done));
	th_release(scene.provider, "exchange");
	pthread_join(shutting, NULL);
	assert_int_equal(ending.rc, ACCTLINK_OK);
	scene.host->handle = NULL;
	th_host_restart(scene.host);
	deliver(scene.host, &delivery, &answer);
	assert_answer(&answer, ACCTLINK_OK);
	assert_int_equal(answer.result.flags, ACCTLINK_CALLBACK_REPEATED);
	assert_int_equal(exchanges(&scene), 1);
	scene_close(&scene);
}

static void shutdown_that_cuts_a_code_exchange_off_ends_the_flow_for_good(void **state)
{
	static struct delivery delivery;
	static struct deliverer deliverer = { .delivery = &delivery };
	struct scene scene;
	pthread_t waiting;

	(void)state;
	scene_open(&scene);
	deliverer.host = scene.host;
	consent(&scene, "ana", &delivery);
	th_script(scene.provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	assert_int_equal(pthread_create(&waiting, NULL, run_deliver, &deliverer), 0);
	th_wait_held(scene.provider, "exchange", 1);
	assert_int_equal(scene.host->api.shutdown(scene.host->handle, 300, NULL), ACCTLINK_TIMED_OUT);
	pthread_join(waiting, NULL);
	assert_answer(&deliverer.answer, ACCTLINK_SHUT_DOWN);
	scene.host->handle = NULL;
	th_host_restart(scene.host);
	assert_over_and_a_new_consent_works(&scene, &delivery);
	scene_close(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_callback_that_comes_to_two_processes_at_once_is_exchanged_once_and_ends_well_for_all),
		cmocka_unit_test(a_code_whose_process_was_killed_is_not_resent_by_another),
		cmocka_unit_test(a_delivery_that_waits_for_a_killed_process_is_told_to_begin_again),
		cmocka_unit_test(a_caller_that_stops_waiting_learns_the_result_by_the_same_callback),
		cmocka_unit_test(shutdown_finishes_a_code_exchange_that_is_under_way),
		cmocka_unit_test(shutdown_that_cuts_a_code_exchange_off_ends_the_flow_for_good),
	};

	return cmocka_run_group_tests_name("callback twice", tests, NULL, NULL);
}
