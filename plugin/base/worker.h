/* SPDX-License-Identifier: MIT
 * Worker threads and the tasks they run. A task is a table of steps; one step
 * runs at a time, on any worker; between steps it may be parked until an
 * outside event (an HTTP answer, a timer) resumes it. Steps may block on local
 * disks, never on the network.
 */
#ifndef AL_WORKER_H
#define AL_WORKER_H

#include "base/base.h"

struct al_pool;
struct al_task;

enum al_step_result {
	AL_STEP_GO,   /* run the step that al_go named, now */
	AL_STEP_WAIT, /* park; al_task_resume runs the step that al_wait named */
	AL_STEP_END   /* the task is over: `ended` is called and owns it */
};

struct al_step {
	const char *name;
	enum al_step_result (*run)(struct al_task *task);
};

/* Embedded as first member of a concrete task. Zeroed, then al_task_init. */
struct al_task {
	struct al_pool *pool;
	const struct al_step *steps;
	void (*ended)(struct al_task *task);
	int at;               /* the step to run next; the worker's while running */
	int state;            /* the pool's lock */
	bool woken;           /* the pool's lock: resumed before it was parked */
	int64_t wake_at;      /* the pool's lock: monotonic ms while a timer is set */
	unsigned hurry;       /* the pool's lock: its count when the step began */
	struct al_task *next; /* the pool's lock */
};

al_rc al_pool_new(unsigned threads, struct al_pool **out, acctlink_error *err) AL_MUST_USE;
/* Waits until no task is left or deadline_at (monotonic ms) has passed, then
 * ends the threads and frees the pool. OK, or TIMED_OUT: then tasks are left,
 * the pool goes on as it is, and this may be called again. */
al_rc al_pool_free(struct al_pool **pool, int64_t deadline_at) AL_MUST_USE;
/* Fires the timers that are set now, so that waiting tasks see the end coming. */
void al_pool_hurry(struct al_pool *pool);

void al_task_init(
	struct al_task *task, struct al_pool *pool, const struct al_step *steps, void (*ended)(struct al_task *task));
/* Queues a fresh task at step `first`. */
void al_task_start(struct al_task *task, int first);
/* From any thread, once per WAIT: a resume that comes before the park counts. */
void al_task_resume(struct al_task *task);
/* Called by a step before it returns WAIT: parks with a timer. */
void al_task_set_timer(struct al_task *task, int64_t after_ms);

static inline enum al_step_result al_go(struct al_task *task, int step)
{
	task->at = step;
	return AL_STEP_GO;
}

static inline enum al_step_result al_wait(struct al_task *task, int step)
{
	task->at = step;
	return AL_STEP_WAIT;
}

static inline enum al_step_result al_wait_ms(struct al_task *task, int step, int64_t after_ms)
{
	al_task_set_timer(task, after_ms);
	return al_wait(task, step);
}

#endif
