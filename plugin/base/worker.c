/* SPDX-License-Identifier: MIT
 * A fixed set of threads that run tasks. One mutex guards the queue, the timers
 * and each task's state; it is never held while a step runs. A task belongs to
 * the worker that runs it; between steps to the pool.
 */
#include "base/thread.h"
#include "base/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum task_state { TASK_FRESH, TASK_QUEUED, TASK_RUNNING, TASK_PARKED };

struct al_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;    /* a task is queued, a timer is set, or the end */
	pthread_cond_t drained; /* tasks fell to 0 */
	struct al_task *head;   /* queue */
	struct al_task **tail;
	struct al_task *timers; /* parked tasks with a timer, soonest first */
	size_t tasks;           /* started and not ended */
	unsigned hurries;
	bool stop;
	unsigned count;
	pthread_t threads[];
};

static void enqueue_locked(struct al_pool *pool, struct al_task *task)
{
	task->state = TASK_QUEUED;
	task->next = NULL;
	*pool->tail = task;
	pool->tail = &task->next;
	(void)pthread_cond_signal(&pool->work);
}

static struct al_task *dequeue_locked(struct al_pool *pool)
{
	struct al_task *task = pool->head;

	if (task == NULL)
		return NULL;
	pool->head = task->next;
	if (pool->head == NULL)
		pool->tail = &pool->head;
	return task;
}

static void add_timer_locked(struct al_pool *pool, struct al_task *task)
{
	struct al_task **at = &pool->timers;

	while (*at != NULL && (*at)->wake_at <= task->wake_at)
		at = &(*at)->next;
	task->next = *at;
	*at = task;
	(void)pthread_cond_signal(&pool->work);
}

static void drop_timer_locked(struct al_pool *pool, struct al_task *task)
{
	struct al_task **at = &pool->timers;

	while (*at != NULL && *at != task)
		at = &(*at)->next;
	if (*at == task)
		*at = task->next;
	task->wake_at = 0;
}

static void fire_timers_locked(struct al_pool *pool)
{
	int64_t now = al_monotonic_ms();

	while (pool->timers != NULL && pool->timers->wake_at <= now) {
		struct al_task *task = pool->timers;

		pool->timers = task->next;
		task->wake_at = 0;
		enqueue_locked(pool, task);
	}
}

static void wait_locked(struct al_pool *pool)
{
	struct timespec until;

	if (pool->timers == NULL) {
		(void)pthread_cond_wait(&pool->work, &pool->lock);
		return;
	}
	until.tv_sec = (time_t)(pool->timers->wake_at / 1000);
	until.tv_nsec = (long)(pool->timers->wake_at % 1000) * 1000000;
	(void)pthread_cond_timedwait(&pool->work, &pool->lock, &until);
}

/* Parks a task that returned WAIT, unless it was resumed meanwhile, or timers were
 * hurried since its step began: it may not have seen the end that was coming. */
static void park_locked(struct al_pool *pool, struct al_task *task)
{
	if (task->woken || (task->wake_at != 0 && task->hurry != pool->hurries)) {
		task->woken = false;
		task->wake_at = 0;
		enqueue_locked(pool, task);
		return;
	}
	task->state = TASK_PARKED;
	if (task->wake_at != 0)
		add_timer_locked(pool, task);
}

static void run_task(struct al_pool *pool, struct al_task *task)
{
	enum al_step_result result;

	do
		result = task->steps[task->at].run(task);
	while (result == AL_STEP_GO);
	if (result == AL_STEP_END) {
		task->ended(task); /* the task may be gone now */
		(void)pthread_mutex_lock(&pool->lock);
		pool->tasks--;
		if (pool->tasks == 0)
			(void)pthread_cond_broadcast(&pool->drained);
		return;
	}
	(void)pthread_mutex_lock(&pool->lock);
	park_locked(pool, task);
}

static void *work(void *arg)
{
	struct al_pool *pool = arg;

	(void)pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct al_task *task;

		fire_timers_locked(pool);
		task = dequeue_locked(pool);
		if (task != NULL) {
			task->state = TASK_RUNNING;
			task->hurry = pool->hurries;
			(void)pthread_mutex_unlock(&pool->lock);
			run_task(pool, task); /* comes back with the lock */
		} else if (pool->stop) {
			break;
		} else {
			wait_locked(pool);
		}
	}
	(void)pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void join_and_free(struct al_pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	(void)pthread_cond_broadcast(&pool->work);
	(void)pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->count; i++)
		(void)pthread_join(pool->threads[i], NULL);
	(void)pthread_cond_destroy(&pool->drained);
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static int init_locks(struct al_pool *pool)
{
	pthread_condattr_t monotonic;
	int failed = pthread_condattr_init(&monotonic);

	if (failed != 0)
		return failed;
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	failed = pthread_mutex_init(&pool->lock, NULL);
	if (failed == 0)
		failed = pthread_cond_init(&pool->work, &monotonic);
	if (failed == 0)
		failed = pthread_cond_init(&pool->drained, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	return failed;
}

al_rc al_pool_new(unsigned threads, struct al_pool **out, acctlink_error *err)
{
	struct al_pool *pool = al_new(sizeof(*pool) + threads * sizeof(pool->threads[0]));
	int failed;

	if (pool == NULL)
		return al_fail_memory(err);
	failed = init_locks(pool);
	if (failed != 0) {
		free(pool);
		return al_fail(err, ACCTLINK_NO_MEMORY, "threads", "can't make locks: %s", strerror(failed));
	}
	pool->tail = &pool->head;
	while (pool->count < threads) {
		failed = al_thread_start(&pool->threads[pool->count], work, pool);
		if (failed != 0) {
			join_and_free(pool);
			return al_fail(
				err, ACCTLINK_NO_MEMORY, "threads", "can't start a thread: %s", strerror(failed));
		}
		pool->count++;
	}
	*out = pool;
	return ACCTLINK_OK;
}

void al_pool_hurry(struct al_pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	pool->hurries++;
	while (pool->timers != NULL) {
		struct al_task *task = pool->timers;

		pool->timers = task->next;
		task->wake_at = 0;
		enqueue_locked(pool, task);
	}
	(void)pthread_mutex_unlock(&pool->lock);
}

al_rc al_pool_free(struct al_pool **pool, int64_t deadline_at)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_at / 1000),
		.tv_nsec = (long)(deadline_at % 1000) * 1000000 };
	int failed = 0;
	bool left;

	if (*pool == NULL)
		return ACCTLINK_OK;
	(void)pthread_mutex_lock(&(*pool)->lock);
	while ((*pool)->tasks > 0 && failed == 0)
		failed = pthread_cond_timedwait(&(*pool)->drained, &(*pool)->lock, &until);
	left = (*pool)->tasks > 0;
	(void)pthread_mutex_unlock(&(*pool)->lock);
	if (left)
		return ACCTLINK_TIMED_OUT;
	join_and_free(*pool);
	*pool = NULL;
	return ACCTLINK_OK;
}

void al_task_init(
	struct al_task *task, struct al_pool *pool, const struct al_step *steps, void (*ended)(struct al_task *task))
{
	memset(task, 0, sizeof(*task));
	task->pool = pool;
	task->steps = steps;
	task->ended = ended;
}

void al_task_start(struct al_task *task, int first)
{
	struct al_pool *pool = task->pool;

	(void)pthread_mutex_lock(&pool->lock);
	task->at = first;
	pool->tasks++;
	enqueue_locked(pool, task);
	(void)pthread_mutex_unlock(&pool->lock);
}

void al_task_resume(struct al_task *task)
{
	struct al_pool *pool = task->pool;

	(void)pthread_mutex_lock(&pool->lock);
	if (task->state == TASK_PARKED) {
		if (task->wake_at != 0)
			drop_timer_locked(pool, task);
		enqueue_locked(pool, task);
	} else {
		task->woken = true;
	}
	(void)pthread_mutex_unlock(&pool->lock);
}

void al_task_set_timer(struct al_task *task, int64_t after_ms)
{
	struct al_pool *pool = task->pool;

	(void)pthread_mutex_lock(&pool->lock);
	task->wake_at = al_add_ms(al_monotonic_ms(), after_ms < 1 ? 1 : after_ms);
	(void)pthread_mutex_unlock(&pool->lock);
}
