/* SPDX-License-Identifier: MIT
 * Calls that a host waits for. One mutex per instance guards all calls; it is
 * held for a few assignments only.
 */
#include "base/call.h"

#include <string.h>
#include <time.h>

al_rc al_calls_init(struct al_calls *calls, acctlink_error *err)
{
	calls->first = NULL;
	calls->closed = false;
	calls->abandoned = false;
	if (pthread_mutex_init(&calls->lock, NULL) != 0)
		return al_fail_memory(err);
	return ACCTLINK_OK;
}

void al_calls_destroy(struct al_calls *calls)
{
	(void)pthread_mutex_destroy(&calls->lock);
}

void al_calls_close(struct al_calls *calls)
{
	(void)pthread_mutex_lock(&calls->lock);
	calls->closed = true;
	for (struct al_call *call = calls->first; call != NULL; call = call->next) {
		if (call->done)
			continue;
		call->done = true;
		call->rc = al_fail(&call->err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		(void)pthread_cond_broadcast(&call->finished);
	}
	(void)pthread_mutex_unlock(&calls->lock);
}

bool al_calls_closed(struct al_calls *calls)
{
	bool closed;

	(void)pthread_mutex_lock(&calls->lock);
	closed = calls->closed;
	(void)pthread_mutex_unlock(&calls->lock);
	return closed;
}

void al_calls_abandon(struct al_calls *calls)
{
	(void)pthread_mutex_lock(&calls->lock);
	calls->abandoned = true;
	(void)pthread_mutex_unlock(&calls->lock);
}

bool al_calls_abandoned(struct al_calls *calls)
{
	bool abandoned;

	(void)pthread_mutex_lock(&calls->lock);
	abandoned = calls->abandoned;
	(void)pthread_mutex_unlock(&calls->lock);
	return abandoned;
}

static int init_condition(pthread_cond_t *cond)
{
	pthread_condattr_t monotonic;
	int failed = pthread_condattr_init(&monotonic);

	if (failed != 0)
		return failed;
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	failed = pthread_cond_init(cond, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	return failed;
}

al_rc al_call_begin(
	struct al_calls *calls, struct al_call *call, void (*release)(struct al_call *call), acctlink_error *err)
{
	bool closed;

	memset(call, 0, sizeof(*call));
	if (init_condition(&call->finished) != 0)
		return al_fail_memory(err);
	call->calls = calls;
	call->release = release;
	call->refs = 2;
	(void)pthread_mutex_lock(&calls->lock);
	closed = calls->closed;
	if (!closed) {
		call->next = calls->first;
		if (call->next != NULL)
			call->next->prev = call;
		calls->first = call;
	}
	(void)pthread_mutex_unlock(&calls->lock);
	if (!closed)
		return ACCTLINK_OK;
	(void)pthread_cond_destroy(&call->finished);
	return al_fail(err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
}

/* True if this was the last reference; the call is out of the list then. */
static bool drop_locked(struct al_call *call)
{
	call->refs--;
	if (call->refs > 0)
		return false;
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		call->calls->first = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	return true;
}

void al_call_finish(struct al_call *call, al_rc rc, const acctlink_error *err)
{
	struct al_calls *calls = call->calls;
	bool last;

	(void)pthread_mutex_lock(&calls->lock);
	if (!call->done) {
		call->done = true;
		call->rc = rc;
		if (rc != ACCTLINK_OK && err != NULL)
			call->err = *err;
		else if (rc != ACCTLINK_OK)
			(void)al_fail(&call->err, rc, NULL, "%s", al_status_name(rc));
		(void)pthread_cond_broadcast(&call->finished);
	}
	last = drop_locked(call);
	(void)pthread_mutex_unlock(&calls->lock);
	if (last) {
		(void)pthread_cond_destroy(&call->finished);
		call->release(call);
	}
}

bool al_call_wait(struct al_call *call, int64_t deadline_at)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_at / 1000),
		.tv_nsec = (long)(deadline_at % 1000) * 1000000 };
	int failed = 0;
	bool done;

	(void)pthread_mutex_lock(&call->calls->lock);
	while (!call->done && failed == 0)
		failed = pthread_cond_timedwait(&call->finished, &call->calls->lock, &until);
	done = call->done;
	(void)pthread_mutex_unlock(&call->calls->lock);
	return done;
}

void al_call_unref(struct al_call *call)
{
	struct al_calls *calls = call->calls;
	bool last;

	(void)pthread_mutex_lock(&calls->lock);
	last = drop_locked(call);
	(void)pthread_mutex_unlock(&calls->lock);
	if (last) {
		(void)pthread_cond_destroy(&call->finished);
		call->release(call);
	}
}
