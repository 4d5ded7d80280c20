/* SPDX-License-Identifier: MIT
 * When a provider is not asked at all: our client was refused (one alarm, slow
 * probes, no link harmed), or definite refusals pile up with no success between
 * (a restored provider, a wrong client_id), which must not end every link.
 * Per process; one mutex, held for a few assignments.
 */
#include "link/link_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FUSE_REFUSALS = 20, PROBE_FIRST_MS = 60 * 1000, PROBE_LAST_MS = 60 * 60 * 1000 };

struct gate {
	struct gate *next;
	char provider[64];
	bool client_refused;
	bool blown;
	int64_t closed_until; /* boot ms */
	int64_t pause_ms;     /* the last one; doubles */
	unsigned refusals;    /* definite, in a row, over all links */
};

struct al_gates {
	pthread_mutex_t lock;
	struct gate *first;
};

struct al_gates *al_gates_new(void)
{
	struct al_gates *gates = al_new(sizeof(*gates));

	if (gates != NULL && pthread_mutex_init(&gates->lock, NULL) != 0) {
		free(gates);
		return NULL;
	}
	return gates;
}

void al_gates_free(struct al_gates **gates)
{
	struct gate *next;

	if (*gates == NULL)
		return;
	for (struct gate *gate = (*gates)->first; gate != NULL; gate = next) {
		next = gate->next;
		free(gate);
	}
	(void)pthread_mutex_destroy(&(*gates)->lock);
	free(*gates);
	*gates = NULL;
}

void al_gates_open(struct al_gates *gates)
{
	(void)pthread_mutex_lock(&gates->lock);
	for (struct gate *gate = gates->first; gate != NULL; gate = gate->next) {
		gate->client_refused = false;
		gate->blown = false;
		gate->refusals = 0;
		gate->pause_ms = 0;
		gate->closed_until = 0;
	}
	(void)pthread_mutex_unlock(&gates->lock);
}

/* NULL only if memory ran out: then the gate stays open. */
static struct gate *find_locked(struct al_gates *gates, const char *provider, bool make)
{
	struct gate *gate = gates->first;

	while (gate != NULL && strcmp(gate->provider, provider) != 0)
		gate = gate->next;
	if (gate != NULL || !make)
		return gate;
	gate = al_new(sizeof(*gate));
	if (gate == NULL)
		return NULL;
	al_copy_printable(gate->provider, sizeof(gate->provider), provider, strlen(provider));
	gate->next = gates->first;
	gates->first = gate;
	return gate;
}

/* Shuts the gate; one probe may pass when the pause is over, then it doubles. */
static void pause_locked(struct gate *gate, int64_t now)
{
	gate->pause_ms = gate->pause_ms == 0 ? PROBE_FIRST_MS : gate->pause_ms * 2;
	if (gate->pause_ms > PROBE_LAST_MS)
		gate->pause_ms = PROBE_LAST_MS;
	gate->closed_until = al_add_ms(now, gate->pause_ms);
}

al_rc al_gate_check(struct al_gates *gates, const char *provider, int64_t now, acctlink_error *err)
{
	struct gate *gate;
	struct gate seen = { 0 };

	(void)pthread_mutex_lock(&gates->lock);
	gate = find_locked(gates, provider, false);
	if (gate != NULL && (gate->client_refused || gate->blown)) {
		if (gate->closed_until <= now)
			pause_locked(gate, now); /* this caller is the probe */
		else
			seen = *gate;
	}
	(void)pthread_mutex_unlock(&gates->lock);
	if (seen.closed_until == 0)
		return ACCTLINK_OK;
	if (seen.client_refused)
		(void)al_fail(err, ACCTLINK_CLIENT_REFUSED, provider,
			"the provider refuses our client; check client_id and client_secret (next probe in %" PRId64
			" ms)",
			seen.closed_until - now);
	else
		(void)al_fail(err, ACCTLINK_PROVIDER_DOWN, provider,
			"the provider refused %u refresh tokens in a row; refreshing is stopped so that no more links end (next probe in %" PRId64
			" ms)",
			seen.refusals, seen.closed_until - now);
	if (err != NULL)
		err->retry_after_ms = seen.closed_until - now;
	return seen.client_refused ? ACCTLINK_CLIENT_REFUSED : ACCTLINK_PROVIDER_DOWN;
}

bool al_gate_client_refused(struct al_gates *gates, const char *provider, int64_t now)
{
	struct gate *gate;
	bool first = false;

	(void)pthread_mutex_lock(&gates->lock);
	gate = find_locked(gates, provider, true);
	if (gate != NULL) {
		first = !gate->client_refused;
		if (first)
			pause_locked(gate, now);
		gate->client_refused = true;
	}
	(void)pthread_mutex_unlock(&gates->lock);
	return first;
}

bool al_gate_refused(struct al_gates *gates, const char *provider, int64_t now, bool *alarm)
{
	struct gate *gate;
	bool may_end = true;

	*alarm = false;
	(void)pthread_mutex_lock(&gates->lock);
	gate = find_locked(gates, provider, true);
	if (gate != NULL) {
		gate->client_refused = false; /* a refused token means an accepted client */
		gate->refusals++;
		if (gate->refusals > FUSE_REFUSALS && !gate->blown) {
			gate->blown = true;
			*alarm = true;
			gate->pause_ms = 0;
			pause_locked(gate, now);
		}
		may_end = !gate->blown;
	}
	(void)pthread_mutex_unlock(&gates->lock);
	return may_end;
}

void al_gate_accepted(struct al_gates *gates, const char *provider)
{
	struct gate *gate;

	(void)pthread_mutex_lock(&gates->lock);
	gate = find_locked(gates, provider, false);
	if (gate != NULL) {
		gate->client_refused = false;
		gate->blown = false;
		gate->refusals = 0;
		gate->pause_ms = 0;
		gate->closed_until = 0;
	}
	(void)pthread_mutex_unlock(&gates->lock);
}
