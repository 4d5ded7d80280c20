/* SPDX-License-Identifier: MIT
 * Worker threads, the tasks they run, and the calls that hosts wait for: order,
 * resumes that race with parking, timers, the end of a pool, and calls that are
 * finished, awaited, closed and dropped from several threads at once.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/call.h"
#include "base/worker.h"

enum { LONG_MS = 3600 * 1000, PATIENCE_MS = 30000 };

static void nap(void)
{
	const struct timespec one_ms = { 0, 1000000 };

	(void)nanosleep(&one_ms, NULL);
}

static void wait_for(atomic_int *number, int wanted)
{
	int64_t end = al_monotonic_ms() + PATIENCE_MS;

	while (atomic_load(number) < wanted) {
		assert_true(al_monotonic_ms() < end);
		nap();
	}
}

static struct al_pool *pool_of(unsigned threads)
{
	struct al_pool *pool = NULL;

	assert_int_equal(al_pool_new(threads, &pool, NULL), ACCTLINK_OK);
	return pool;
}

static void must_free(struct al_pool **pool)
{
	assert_int_equal(al_pool_free(pool, al_monotonic_ms() + PATIENCE_MS), ACCTLINK_OK);
	assert_null(*pool);
}

/* ---- a task that notes what it does ---------------------------------------------- */

enum { STEP_A, STEP_B, STEP_C };

struct job {
	struct al_task task;
	char trace[64];
	atomic_int traced;
	atomic_int ended;
	int64_t wait_ms;
	int64_t asked_at;
	int64_t came_at;
	atomic_int *order; /* shared: who came when */
	int place;
	atomic_int gate; /* STEP_B holds its worker until it is set */
	sigset_t mask;
};

static void note(struct job *job, char what)
{
	int at = atomic_load(&job->traced);

	job->trace[at] = what;
	atomic_store(&job->traced, at + 1);
}

static void job_ended(struct al_task *task)
{
	struct job *job = (struct job *)task;

	note(job, 'e');
	(void)atomic_fetch_add(&job->ended, 1);
}

static void job_init(struct job *job, struct al_pool *pool, const struct al_step *steps)
{
	memset(job, 0, sizeof(*job));
	al_task_init(&job->task, pool, steps, job_ended);
}

static enum al_step_result note_c_and_end(struct al_task *task)
{
	struct job *job = (struct job *)task;

	note(job, 'c');
	job->came_at = al_monotonic_ms();
	if (job->order != NULL)
		job->place = atomic_fetch_add(job->order, 1);
	return AL_STEP_END;
}

static enum al_step_result go_to_b(struct al_task *task)
{
	note((struct job *)task, 'a');
	return al_go(task, STEP_B);
}

static enum al_step_result go_to_c(struct al_task *task)
{
	note((struct job *)task, 'b');
	return al_go(task, STEP_C);
}

static enum al_step_result wait_for_c(struct al_task *task)
{
	note((struct job *)task, 'b');
	return al_wait(task, STEP_C);
}

static enum al_step_result resume_self_and_wait(struct al_task *task)
{
	note((struct job *)task, 'b');
	al_task_resume(task);
	return al_wait(task, STEP_C);
}

static enum al_step_result set_timer_resume_and_wait(struct al_task *task)
{
	note((struct job *)task, 'b');
	al_task_set_timer(task, LONG_MS);
	al_task_resume(task);
	return al_wait(task, STEP_C);
}

static enum al_step_result wait_some_time(struct al_task *task)
{
	struct job *job = (struct job *)task;

	job->asked_at = al_monotonic_ms();
	note(job, 'b');
	return al_wait_ms(task, STEP_C, job->wait_ms);
}

static const struct al_step straight[] = { { "a", go_to_b }, { "b", go_to_c }, { "c", note_c_and_end } };
static const struct al_step waiting[] = { { "a", go_to_b }, { "b", wait_for_c }, { "c", note_c_and_end } };
static const struct al_step resuming[] = { { "a", go_to_b }, { "b", resume_self_and_wait }, { "c", note_c_and_end } };
static const struct al_step both[] = { { "a", go_to_b }, { "b", set_timer_resume_and_wait }, { "c", note_c_and_end } };
static const struct al_step timed[] = { { "a", go_to_b }, { "b", wait_some_time }, { "c", note_c_and_end } };

static void a_task_runs_the_steps_that_it_names_and_ends_once(void **state)
{
	struct al_pool *pool = pool_of(2);
	struct job whole;
	struct job last;

	(void)state;
	job_init(&whole, pool, straight);
	job_init(&last, pool, straight);
	al_task_start(&whole.task, STEP_A);
	al_task_start(&last.task, STEP_C);
	must_free(&pool);
	assert_string_equal(whole.trace, "abce");
	assert_string_equal(last.trace, "ce");
}

static void a_waiting_task_goes_on_when_it_is_resumed_and_not_before(void **state)
{
	struct al_pool *pool = pool_of(2);
	struct job job;
	struct job other;

	(void)state;
	job_init(&job, pool, waiting);
	job_init(&other, pool, straight);
	al_task_start(&job.task, STEP_A);
	wait_for(&job.traced, 2);
	al_task_start(&other.task, STEP_A); /* the workers are free meanwhile */
	wait_for(&other.ended, 1);
	assert_int_equal(atomic_load(&job.traced), 2);
	al_task_resume(&job.task);
	must_free(&pool);
	assert_string_equal(job.trace, "abce");
}

static void a_resume_that_comes_before_the_park_counts(void **state)
{
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, resuming);
	al_task_start(&job.task, STEP_A);
	must_free(&pool);
	assert_string_equal(job.trace, "abce");
}

static void an_early_resume_makes_the_timer_void(void **state)
{
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, both);
	al_task_start(&job.task, STEP_A);
	must_free(&pool); /* it would time out if the hour were waited for */
	assert_string_equal(job.trace, "abce");
}

static enum al_step_result wait_and_count(struct al_task *task)
{
	struct job *job = (struct job *)task;

	if (atomic_fetch_add(&job->traced, 1) == 3)
		return AL_STEP_END;
	return al_wait(task, STEP_A);
}

static void count_end(struct al_task *task)
{
	(void)atomic_fetch_add(&((struct job *)task)->ended, 1);
}

static void each_wait_needs_a_resume_of_its_own(void **state)
{
	static const struct al_step steps[] = { { "a", wait_and_count } };
	struct al_pool *pool = pool_of(2);
	struct job job;

	(void)state;
	job_init(&job, pool, steps);
	job.task.ended = count_end;
	al_task_start(&job.task, STEP_A);
	for (int resumes = 0; resumes < 3; resumes++) {
		wait_for(&job.traced, resumes + 1);
		assert_int_equal(al_pool_free(&pool, al_monotonic_ms() + 5), ACCTLINK_TIMED_OUT);
		assert_int_equal(atomic_load(&job.traced), resumes + 1);
		al_task_resume(&job.task);
	}
	must_free(&pool);
	assert_int_equal(atomic_load(&job.traced), 4);
	assert_int_equal(atomic_load(&job.ended), 1);
}

/* ---- resumes that race with parking -------------------------------------------------- */

enum { RACE_ROUNDS = 20000, RACERS = 4 };

struct racer {
	struct al_task task;
	pthread_t thread;
	atomic_int asked; /* how often the step said that it waits */
	atomic_int rounds;
	atomic_int inside; /* more than 1: two workers ran one task */
	atomic_int doubled;
	atomic_int ended;
	int plain; /* unguarded on purpose: steps of one task follow each other */
};

static enum al_step_result ask_and_wait(struct al_task *task)
{
	struct racer *racer = (struct racer *)task;
	int round;

	if (atomic_fetch_add(&racer->inside, 1) != 0)
		(void)atomic_fetch_add(&racer->doubled, 1);
	racer->plain++;
	round = atomic_fetch_add(&racer->rounds, 1) + 1;
	(void)atomic_fetch_sub(&racer->inside, 1);
	if (round > RACE_ROUNDS)
		return AL_STEP_END;
	atomic_store(&racer->asked, round); /* from here on the resume may come, parked or not */
	return al_wait(task, STEP_A);
}

static void racer_ended(struct al_task *task)
{
	(void)atomic_fetch_add(&((struct racer *)task)->ended, 1);
}

static void *answer(void *arg)
{
	struct racer *racer = arg;

	for (int round = 1; round <= RACE_ROUNDS; round++) {
		while (atomic_load(&racer->asked) < round)
			(void)sched_yield();
		al_task_resume(&racer->task);
	}
	return NULL;
}

static void no_resume_is_lost_and_no_step_runs_twice_however_they_race(void **state)
{
	static const struct al_step steps[] = { { "a", ask_and_wait } };
	struct al_pool *pool = pool_of(3);
	struct racer racers[RACERS];

	(void)state;
	memset(racers, 0, sizeof(racers));
	for (size_t i = 0; i < RACERS; i++) {
		al_task_init(&racers[i].task, pool, steps, racer_ended);
		assert_int_equal(pthread_create(&racers[i].thread, NULL, answer, &racers[i]), 0);
		al_task_start(&racers[i].task, STEP_A);
	}
	for (size_t i = 0; i < RACERS; i++)
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
	must_free(&pool);
	for (size_t i = 0; i < RACERS; i++) {
		assert_int_equal(atomic_load(&racers[i].rounds), RACE_ROUNDS + 1);
		assert_int_equal(racers[i].plain, RACE_ROUNDS + 1);
		assert_int_equal(atomic_load(&racers[i].doubled), 0);
		assert_int_equal(atomic_load(&racers[i].ended), 1);
	}
}

/* ---- timers ------------------------------------------------------------------------------ */

static void a_timer_fires_at_its_time_and_not_before(void **state)
{
	static const int64_t waits[] = { 30, 1, 0, -5, INT64_MIN };
	struct al_pool *pool = pool_of(2);
	struct job jobs[AL_COUNT(waits)];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(waits); i++) {
		job_init(&jobs[i], pool, timed);
		jobs[i].wait_ms = waits[i];
		al_task_start(&jobs[i].task, STEP_A);
	}
	must_free(&pool);
	for (size_t i = 0; i < AL_COUNT(waits); i++) {
		assert_string_equal(jobs[i].trace, "abce");
		assert_true(jobs[i].came_at - jobs[i].asked_at >= (waits[i] > 0 ? waits[i] : 0));
	}
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
	static const int64_t waits[] = { 150, 50, 250, 100, 200 };
	static const int places[] = { 2, 0, 4, 1, 3 };
	struct al_pool *pool = pool_of(1);
	struct job jobs[AL_COUNT(waits)];
	atomic_int order = 0;

	(void)state;
	for (size_t i = 0; i < AL_COUNT(waits); i++) {
		job_init(&jobs[i], pool, timed);
		jobs[i].wait_ms = waits[i];
		jobs[i].order = &order;
		al_task_start(&jobs[i].task, STEP_B);
	}
	must_free(&pool);
	for (size_t i = 0; i < AL_COUNT(waits); i++)
		assert_int_equal(jobs[i].place, places[i]);
}

static void a_short_timer_is_not_held_up_by_a_long_one(void **state)
{
	struct al_pool *pool = pool_of(2);
	struct job slow;
	struct job quick;

	(void)state;
	job_init(&slow, pool, timed);
	job_init(&quick, pool, timed);
	slow.wait_ms = LONG_MS;
	quick.wait_ms = 10;
	al_task_start(&slow.task, STEP_B);
	wait_for(&slow.traced, 1);
	al_task_start(&quick.task, STEP_B);
	wait_for(&quick.ended, 1);
	assert_string_equal(slow.trace, "b");
	al_task_resume(&slow.task); /* parked with a timer: it goes on at once */
	must_free(&pool);
	assert_string_equal(slow.trace, "bce"); /* once: the timer is void */
}

static void endless_waits_do_not_wrap_around(void **state)
{
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, timed);
	job.wait_ms = INT64_MAX;
	al_task_start(&job.task, STEP_B);
	wait_for(&job.traced, 1);
	assert_int_equal(al_pool_free(&pool, al_monotonic_ms() + 20), ACCTLINK_TIMED_OUT);
	assert_string_equal(job.trace, "b");
	al_pool_hurry(pool);
	must_free(&pool);
	assert_string_equal(job.trace, "bce");
}

static void hurrying_fires_all_timers_at_once_and_leaves_other_waits_alone(void **state)
{
	struct al_pool *pool = pool_of(2);
	struct job timers[20];
	struct job plain;

	(void)state;
	job_init(&plain, pool, waiting);
	al_task_start(&plain.task, STEP_B);
	wait_for(&plain.traced, 1);
	for (size_t i = 0; i < AL_COUNT(timers); i++) {
		job_init(&timers[i], pool, timed);
		timers[i].wait_ms = LONG_MS;
		al_task_start(&timers[i].task, STEP_B);
		wait_for(&timers[i].traced, 1);
	}
	al_pool_hurry(pool);
	for (size_t i = 0; i < AL_COUNT(timers); i++)
		wait_for(&timers[i].ended, 1);
	assert_string_equal(plain.trace, "b");
	al_task_resume(&plain.task);
	must_free(&pool);
}

static enum al_step_result set_timer_then_dawdle(struct al_task *task)
{
	struct job *job = (struct job *)task;

	al_task_set_timer(task, LONG_MS);
	note(job, 'b');
	wait_for(&job->gate, 1);
	return al_wait(task, STEP_C);
}

static void hurrying_reaches_a_task_that_is_just_about_to_park(void **state)
{
	static const struct al_step steps[] = { { "a", go_to_b }, { "b", set_timer_then_dawdle },
		{ "c", note_c_and_end } };
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, steps);
	al_task_start(&job.task, STEP_B);
	wait_for(&job.traced, 1);
	al_pool_hurry(pool);
	atomic_store(&job.gate, 1);
	must_free(&pool);
	assert_string_equal(job.trace, "bce");
}

static enum al_step_result dawdle_then_set_timer(struct al_task *task)
{
	struct job *job = (struct job *)task;

	note(job, 'b');
	wait_for(&job->gate, 1);
	al_task_set_timer(task, LONG_MS);
	return al_wait(task, STEP_C);
}

static void hurrying_reaches_a_task_whose_step_had_begun_before(void **state)
{
	static const struct al_step steps[] = { { "a", go_to_b }, { "b", dawdle_then_set_timer },
		{ "c", note_c_and_end } };
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, steps);
	al_task_start(&job.task, STEP_B);
	wait_for(&job.traced, 1);
	al_pool_hurry(pool);
	atomic_store(&job.gate, 1);
	must_free(&pool);
	assert_string_equal(job.trace, "bce");
}

static void a_timer_that_is_set_after_the_hurry_is_waited_for(void **state)
{
	struct al_pool *pool = pool_of(1);
	struct job job;

	(void)state;
	job_init(&job, pool, timed);
	job.wait_ms = 40;
	al_pool_hurry(pool);
	al_task_start(&job.task, STEP_B);
	must_free(&pool);
	assert_true(job.came_at - job.asked_at >= 40); /* else retries would spin */
}

/* ---- many ------------------------------------------------------------------------------------ */

enum { MANY = 5000, HOPS = 6 };

struct hopper {
	struct al_task task;
	atomic_int *ended;
	int hops;
};

static enum al_step_result hop(struct al_task *task)
{
	struct hopper *hopper = (struct hopper *)task;

	hopper->hops++;
	if (hopper->hops == HOPS)
		return AL_STEP_END;
	if (hopper->hops % 3 == 1)
		return al_go(task, STEP_A);
	if (hopper->hops % 3 == 2)
		return al_wait_ms(task, STEP_A, hopper->hops % 5);
	al_task_resume(task);
	return al_wait(task, STEP_A);
}

static void hopper_ended(struct al_task *task)
{
	struct hopper *hopper = (struct hopper *)task;

	(void)atomic_fetch_add(hopper->ended, hopper->hops == HOPS ? 1 : 1000000);
	free(hopper); /* the pool must not touch it any more */
}

static const struct al_step hops[] = { { "hop", hop } };

static void start_hopper(struct al_pool *pool, atomic_int *ended)
{
	struct hopper *hopper = al_new(sizeof(*hopper));

	assert_non_null(hopper);
	al_task_init(&hopper->task, pool, hops, hopper_ended);
	hopper->ended = ended;
	al_task_start(&hopper->task, STEP_A);
}

static void thousands_of_tasks_share_a_few_threads(void **state)
{
	struct al_pool *pool = pool_of(4);
	atomic_int ended = 0;

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		start_hopper(pool, &ended);
	must_free(&pool);
	assert_int_equal(atomic_load(&ended), MANY);
}

struct parent {
	struct al_task task;
	atomic_int *ended;
};

static enum al_step_result start_children(struct al_task *task)
{
	for (size_t i = 0; i < 100; i++)
		start_hopper(task->pool, ((struct parent *)task)->ended);
	return AL_STEP_END;
}

static void parent_ended(struct al_task *task)
{
	start_hopper(task->pool, ((struct parent *)task)->ended); /* even from here */
}

static void freeing_waits_for_tasks_that_tasks_start(void **state)
{
	static const struct al_step steps[] = { { "a", start_children } };
	struct al_pool *pool = pool_of(2);
	struct parent parent;
	atomic_int ended = 0;

	(void)state;
	al_task_init(&parent.task, pool, steps, parent_ended);
	parent.ended = &ended;
	al_task_start(&parent.task, STEP_A);
	must_free(&pool);
	assert_int_equal(atomic_load(&ended), 101);
}

/* ---- the end of a pool --------------------------------------------------------------------------- */

static void an_unused_pool_is_freed_at_once_even_past_the_deadline(void **state)
{
	struct al_pool *pool = NULL;

	(void)state;
	assert_int_equal(al_pool_free(&pool, 0), ACCTLINK_OK);
	for (unsigned threads = 1; threads <= 8; threads++) {
		pool = pool_of(threads);
		assert_int_equal(al_pool_free(&pool, 0), ACCTLINK_OK);
		assert_null(pool);
	}
}

static void freeing_gives_up_at_its_deadline_and_may_be_tried_again(void **state)
{
	struct al_pool *pool = pool_of(2);
	int64_t before = al_monotonic_ms();
	struct job job;

	(void)state;
	job_init(&job, pool, waiting);
	al_task_start(&job.task, STEP_A);
	assert_int_equal(al_pool_free(&pool, before + 50), ACCTLINK_TIMED_OUT);
	assert_true(al_monotonic_ms() >= before + 50);
	assert_non_null(pool);
	assert_int_equal(al_pool_free(&pool, 0), ACCTLINK_TIMED_OUT);
	wait_for(&job.traced, 2);
	assert_string_equal(job.trace, "ab");
	al_task_resume(&job.task);
	must_free(&pool);
	assert_string_equal(job.trace, "abce");
}

static enum al_step_result look_at_the_mask(struct al_task *task)
{
	struct job *job = (struct job *)task;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &job->mask);
	return AL_STEP_END;
}

static void workers_block_every_signal_and_the_callers_mask_stays(void **state)
{
	static const struct al_step steps[] = { { "a", look_at_the_mask } };
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM, SIGUSR1, SIGCHLD, SIGSEGV };
	struct al_pool *pool;
	sigset_t before;
	sigset_t after;
	struct job job;

	(void)state;
	(void)pthread_sigmask(SIG_SETMASK, NULL, &before);
	pool = pool_of(1);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int signal = 1; signal < 32; signal++)
		assert_int_equal(sigismember(&before, signal), sigismember(&after, signal));
	job_init(&job, pool, steps);
	al_task_start(&job.task, STEP_A);
	must_free(&pool);
	for (size_t i = 0; i < AL_COUNT(signals); i++)
		assert_int_equal(sigismember(&job.mask, signals[i]), 1);
}

/* ---- calls ------------------------------------------------------------------------------------------ */

struct op {
	struct al_call call;
	atomic_int *released;
	int output;
};

static void release_op(struct al_call *call)
{
	struct op *op = (struct op *)call;

	(void)atomic_fetch_add(op->released, 1);
	free(op);
}

static struct op *begin_op(struct al_calls *calls, atomic_int *released)
{
	struct op *op = al_new(sizeof(*op));

	assert_non_null(op);
	assert_int_equal(al_call_begin(calls, &op->call, release_op, NULL), ACCTLINK_OK);
	op->released = released;
	return op;
}

static void open_calls(struct al_calls *calls)
{
	assert_int_equal(al_calls_init(calls, NULL), ACCTLINK_OK);
	assert_false(al_calls_closed(calls));
}

static void end_calls(struct al_calls *calls)
{
	assert_null(calls->first);
	al_calls_destroy(calls);
}

static void a_finished_call_gives_its_result_to_the_one_who_waits(void **state)
{
	acctlink_error err = { 0 };
	atomic_int released = 0;
	struct al_calls calls;
	struct op *op;

	(void)state;
	open_calls(&calls);
	op = begin_op(&calls, &released);
	op->output = 42;
	(void)al_fail(&err, ACCTLINK_DENIED, "step", "no");
	al_call_finish(&op->call, ACCTLINK_DENIED, &err);
	assert_true(al_call_wait(&op->call, 0)); /* done already: the deadline does not matter */
	assert_int_equal(op->call.rc, ACCTLINK_DENIED);
	assert_string_equal(op->call.err.message, "no");
	assert_int_equal(op->output, 42);
	assert_int_equal(atomic_load(&released), 0);
	al_call_unref(&op->call);
	assert_int_equal(atomic_load(&released), 1);
	end_calls(&calls);
}

static void success_carries_no_error_and_a_failure_may_lack_one(void **state)
{
	acctlink_error err = { 0 };
	atomic_int released = 0;
	struct al_calls calls;
	struct op *op;

	(void)state;
	open_calls(&calls);
	(void)al_fail(&err, ACCTLINK_DENIED, "step", "left over");
	op = begin_op(&calls, &released);
	al_call_finish(&op->call, ACCTLINK_OK, &err);
	assert_true(al_call_wait(&op->call, 0));
	assert_int_equal(op->call.rc, ACCTLINK_OK);
	assert_string_equal(op->call.err.message, "");
	al_call_unref(&op->call);
	op = begin_op(&calls, &released);
	al_call_finish(&op->call, ACCTLINK_NO_MEMORY, NULL);
	assert_true(al_call_wait(&op->call, 0));
	assert_int_equal(op->call.rc, ACCTLINK_NO_MEMORY);
	al_call_unref(&op->call);
	assert_int_equal(atomic_load(&released), 2);
	end_calls(&calls);
}

static void a_caller_that_gives_up_leaves_the_work_going(void **state)
{
	int64_t before = al_monotonic_ms();
	atomic_int released = 0;
	struct al_calls calls;
	struct op *op;

	(void)state;
	open_calls(&calls);
	op = begin_op(&calls, &released);
	assert_false(al_call_wait(&op->call, before + 30));
	assert_true(al_monotonic_ms() >= before + 30);
	assert_false(al_call_wait(&op->call, before - 1000));
	al_call_unref(&op->call);
	assert_int_equal(atomic_load(&released), 0); /* the worker's reference keeps it */
	op->output = 1;
	al_call_finish(&op->call, ACCTLINK_OK, NULL);
	assert_int_equal(atomic_load(&released), 1);
	end_calls(&calls);
}

static void closing_ends_those_that_wait_and_no_late_result_changes_that(void **state)
{
	acctlink_error err = { 0 };
	atomic_int released = 0;
	struct al_calls calls;
	struct op *waiting_op;
	struct op *done_op;
	struct op *late_op = al_new(sizeof(*late_op));

	(void)state;
	open_calls(&calls);
	waiting_op = begin_op(&calls, &released);
	done_op = begin_op(&calls, &released);
	al_call_finish(&done_op->call, ACCTLINK_OK, NULL);
	al_calls_close(&calls);
	assert_true(al_calls_closed(&calls));
	assert_true(al_call_wait(&waiting_op->call, 0));
	assert_int_equal(waiting_op->call.rc, ACCTLINK_SHUT_DOWN);
	assert_int_equal(waiting_op->call.err.status, ACCTLINK_SHUT_DOWN);
	assert_int_equal(done_op->call.rc, ACCTLINK_OK);
	assert_int_equal(al_call_begin(&calls, &late_op->call, release_op, &err), ACCTLINK_SHUT_DOWN);
	assert_int_equal(err.status, ACCTLINK_SHUT_DOWN);
	free(late_op); /* it was not registered */
	al_call_finish(&waiting_op->call, ACCTLINK_OK, NULL);
	assert_int_equal(waiting_op->call.rc, ACCTLINK_SHUT_DOWN);
	al_call_unref(&waiting_op->call);
	al_call_unref(&done_op->call);
	assert_int_equal(atomic_load(&released), 2);
	al_calls_close(&calls); /* twice is harmless */
	end_calls(&calls);
}

static void calls_leave_the_list_in_any_order(void **state)
{
	static const size_t order[] = { 3, 0, 7, 1, 6, 2, 5, 4 };
	atomic_int released = 0;
	struct al_calls calls;
	struct op *ops[AL_COUNT(order)];

	(void)state;
	open_calls(&calls);
	for (size_t i = 0; i < AL_COUNT(order); i++)
		ops[i] = begin_op(&calls, &released);
	for (size_t i = 0; i < AL_COUNT(order); i++) {
		size_t linked = 0;

		al_call_finish(&ops[order[i]]->call, ACCTLINK_OK, NULL);
		al_call_unref(&ops[order[i]]->call);
		for (struct al_call *call = calls.first; call != NULL; call = call->next) {
			assert_true(call->next == NULL || call->next->prev == call);
			linked++;
		}
		assert_int_equal(linked, AL_COUNT(order) - i - 1);
		assert_int_equal(atomic_load(&released), i + 1);
	}
	end_calls(&calls);
}

/* ---- calls that race --------------------------------------------------------------------------------- */

enum { CALL_ROUNDS = 300, CALLERS = 4 };

struct worked_call {
	struct al_task task;
	struct op *op;
};

static enum al_step_result finish_op(struct al_task *task)
{
	struct op *op = ((struct worked_call *)task)->op;

	op->output = 7; /* outputs are written before */
	al_call_finish(&op->call, ACCTLINK_OK, NULL);
	return AL_STEP_END;
}

static void free_task(struct al_task *task)
{
	free(task);
}

struct call_race {
	struct al_calls calls;
	struct al_pool *pool;
	atomic_int released;
	atomic_int begun;
	atomic_int finished;
	atomic_int shut_down;
	atomic_int gave_up;
	atomic_int wrong;
};

static bool one_call(struct call_race *race, int64_t wait_ms)
{
	static const struct al_step steps[] = { { "finish", finish_op } };
	struct worked_call *work = al_new(sizeof(*work));
	struct op *op = al_new(sizeof(*op));

	if (al_call_begin(&race->calls, &op->call, release_op, NULL) != ACCTLINK_OK) {
		free(op);
		free(work);
		return false;
	}
	op->released = &race->released;
	(void)atomic_fetch_add(&race->begun, 1);
	al_task_init(&work->task, race->pool, steps, free_task);
	work->op = op;
	al_task_start(&work->task, 0);
	if (!al_call_wait(&op->call, al_monotonic_ms() + wait_ms))
		(void)atomic_fetch_add(&race->gave_up, 1);
	else if (op->call.rc == ACCTLINK_SHUT_DOWN)
		(void)atomic_fetch_add(&race->shut_down, 1);
	else
		(void)atomic_fetch_add(op->output == 7 ? &race->finished : &race->wrong, 1);
	al_call_unref(&op->call);
	return true;
}

static void *call_often(void *arg)
{
	struct call_race *race = arg;

	for (int i = 0; one_call(race, i % 3 == 0 ? 0 : PATIENCE_MS); i++)
		;
	return NULL;
}

static void every_call_is_released_once_however_finish_wait_and_close_race(void **state)
{
	(void)state;
	for (int round = 0; round < CALL_ROUNDS / 10; round++) {
		struct call_race race = { .pool = pool_of(2) };
		pthread_t callers[CALLERS];

		open_calls(&race.calls);
		for (size_t i = 0; i < CALLERS; i++)
			assert_int_equal(pthread_create(&callers[i], NULL, call_often, &race), 0);
		wait_for(&race.begun, 20 + 10 * round);
		al_calls_close(&race.calls);
		for (size_t i = 0; i < CALLERS; i++)
			assert_int_equal(pthread_join(callers[i], NULL), 0);
		must_free(&race.pool);
		assert_int_equal(atomic_load(&race.released), atomic_load(&race.begun));
		assert_int_equal(
			atomic_load(&race.finished) + atomic_load(&race.shut_down) + atomic_load(&race.gave_up),
			atomic_load(&race.begun));
		assert_int_equal(atomic_load(&race.wrong), 0);
		end_calls(&race.calls);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_task_runs_the_steps_that_it_names_and_ends_once),
		cmocka_unit_test(a_waiting_task_goes_on_when_it_is_resumed_and_not_before),
		cmocka_unit_test(a_resume_that_comes_before_the_park_counts),
		cmocka_unit_test(an_early_resume_makes_the_timer_void),
		cmocka_unit_test(each_wait_needs_a_resume_of_its_own),
		cmocka_unit_test(no_resume_is_lost_and_no_step_runs_twice_however_they_race),
		cmocka_unit_test(a_timer_fires_at_its_time_and_not_before),
		cmocka_unit_test(timers_fire_in_the_order_of_their_times),
		cmocka_unit_test(a_short_timer_is_not_held_up_by_a_long_one),
		cmocka_unit_test(endless_waits_do_not_wrap_around),
		cmocka_unit_test(hurrying_fires_all_timers_at_once_and_leaves_other_waits_alone),
		cmocka_unit_test(hurrying_reaches_a_task_that_is_just_about_to_park),
		cmocka_unit_test(hurrying_reaches_a_task_whose_step_had_begun_before),
		cmocka_unit_test(a_timer_that_is_set_after_the_hurry_is_waited_for),
		cmocka_unit_test(thousands_of_tasks_share_a_few_threads),
		cmocka_unit_test(freeing_waits_for_tasks_that_tasks_start),
		cmocka_unit_test(an_unused_pool_is_freed_at_once_even_past_the_deadline),
		cmocka_unit_test(freeing_gives_up_at_its_deadline_and_may_be_tried_again),
		cmocka_unit_test(workers_block_every_signal_and_the_callers_mask_stays),
		cmocka_unit_test(a_finished_call_gives_its_result_to_the_one_who_waits),
		cmocka_unit_test(success_carries_no_error_and_a_failure_may_lack_one),
		cmocka_unit_test(a_caller_that_gives_up_leaves_the_work_going),
		cmocka_unit_test(closing_ends_those_that_wait_and_no_late_result_changes_that),
		cmocka_unit_test(calls_leave_the_list_in_any_order),
		cmocka_unit_test(every_call_is_released_once_however_finish_wait_and_close_race) };

	return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
