/* SPDX-License-Identifier: MIT
 * One operation that a host waits for. The room that works on it finishes it
 * once; the host's side waits up to its deadline, takes the outputs if the
 * call was finished, and drops its reference. A caller that gives up leaves
 * the work going.
 */
#ifndef AL_CALL_H
#define AL_CALL_H

#include <pthread.h>

#include "base/base.h"

/* The calls of one instance, so that shutdown can end what still waits. */
struct al_calls {
	pthread_mutex_t lock; /* guards all of this and of the calls in the list */
	struct al_call *first;
	bool closed;
	bool abandoned; /* the deadline of the shutdown is over */
};

/* Embedded as first member of a concrete operation, which `release` frees. */
struct al_call {
	struct al_calls *calls;
	pthread_cond_t finished;
	bool done;
	al_rc rc;
	acctlink_error err;
	int refs; /* the caller's and the worker's */
	void (*release)(struct al_call *call);
	struct al_call *next;
	struct al_call *prev;
};

al_rc al_calls_init(struct al_calls *calls, acctlink_error *err) AL_MUST_USE;
void al_calls_destroy(struct al_calls *calls);
/* No call begins from now on; those that wait end with SHUT_DOWN. */
void al_calls_close(struct al_calls *calls);
bool al_calls_closed(struct al_calls *calls);
/* The shutdown waits no longer: what only waits for the store gives up. */
void al_calls_abandon(struct al_calls *calls);
bool al_calls_abandoned(struct al_calls *calls);

/* Two references: the caller's and the worker's. SHUT_DOWN once closed. On
 * failure the call is not registered and the caller releases it itself. */
al_rc al_call_begin(struct al_calls *calls, struct al_call *call, void (*release)(struct al_call *call),
	acctlink_error *err) AL_MUST_USE;
/* The worker's end: sets the result if nobody did and drops its reference.
 * Outputs are written before. err may be NULL for OK. */
void al_call_finish(struct al_call *call, al_rc rc, const acctlink_error *err);
/* Waits until deadline_at (monotonic ms); false: not finished by then. */
bool al_call_wait(struct al_call *call, int64_t deadline_at);
void al_call_unref(struct al_call *call);

#endif
