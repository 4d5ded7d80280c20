/* SPDX-License-Identifier: MIT
 * Who waits for a bearer, and how it reaches them. All callers of one process
 * that want one link's bearer share a flight; one mutex guards the list of
 * flights and their waiters, and is never held while a caller is told.
 */
#include "link/flight.h"

#include <stdlib.h>
#include <string.h>

struct al_flights {
	pthread_mutex_t lock;
	struct al_flight *first;
};

al_rc al_flights_new(struct al_flights **out, acctlink_error *err)
{
	struct al_flights *flights = al_new(sizeof(*flights));

	if (flights == NULL || pthread_mutex_init(&flights->lock, NULL) != 0) {
		free(flights);
		return al_fail_memory(err);
	}
	*out = flights;
	return ACCTLINK_OK;
}

void al_flights_free(struct al_flights **flights)
{
	if (*flights == NULL)
		return;
	(void)pthread_mutex_destroy(&(*flights)->lock);
	free(*flights);
	*flights = NULL;
}

/* ---- delivery ------------------------------------------------------------------ */

static void deliver(struct al_bearer_call *waiters, al_rc rc, struct al_bearer *bearer, const acctlink_error *err)
{
	struct al_bearer_call *next;

	for (struct al_bearer_call *call = waiters; call != NULL; call = next) {
		acctlink_error why = { 0 };
		al_rc end = rc;

		next = call->next;
		if (rc == ACCTLINK_OK && call->link_id[0] != '\0' && strcmp(call->link_id, bearer->link_id) != 0)
			end = al_fail(&why, ACCTLINK_NOT_LINKED, NULL,
				"this link was ended; another one has taken its place");
		else if (rc != ACCTLINK_OK && err != NULL)
			why = *err;
		if (end == ACCTLINK_OK)
			call->bearer = al_bearer_ref(bearer);
		al_call_finish(&call->call, end, &why);
	}
}

/* It may have been taken out before, by a caller who did not want to wait for it. */
static void take_out_locked(struct al_flights *flights, const struct al_flight *flight)
{
	struct al_flight **at = &flights->first;

	while (*at != NULL && *at != flight)
		at = &(*at)->next;
	if (*at != NULL)
		*at = flight->next;
}

static struct al_flight **find_locked(struct al_flights *flights, const struct al_buf *owner_key)
{
	struct al_flight **at = &flights->first;

	while (*at != NULL
		&& ((*at)->owner_key.len != owner_key->len
			|| memcmp(al_buf_text(&(*at)->owner_key), al_buf_text(owner_key), owner_key->len) != 0))
		at = &(*at)->next;
	return at;
}

enum al_step_result al_flight_land(
	struct al_flight *flight, al_rc rc, struct al_bearer *bearer, const acctlink_error *err)
{
	struct al_flights *flights = flight->links->flights;
	struct al_bearer_call *waiters = NULL;
	bool again;

	(void)pthread_mutex_lock(&flights->lock);
	again = flight->min_ttl_ms > flight->asked_ttl_ms || (flight->refresh && !flight->asked_refresh);
	if (!again) {
		waiters = flight->waiters;
		flight->waiters = NULL;
		take_out_locked(flights, flight);
	}
	(void)pthread_mutex_unlock(&flights->lock);
	if (again)
		return al_go(&flight->task, STEP_LOOK);
	deliver(waiters, rc, bearer, err);
	return AL_STEP_END;
}

/* A bearer that is merely good does not do for this caller. */
static bool insists(const struct al_bearer_call *call)
{
	return call->min_ttl_ms > 0 || call->refresh;
}

void al_flight_serve_early(struct al_flight *flight, struct al_bearer *bearer)
{
	struct al_flights *flights = flight->links->flights;
	struct al_bearer_call **at;
	struct al_bearer_call *ready = NULL;
	struct al_bearer_call *call;

	(void)pthread_mutex_lock(&flights->lock);
	flight->early = true;
	at = &flight->waiters;
	while (*at != NULL) {
		call = *at;
		if (insists(call)) {
			at = &call->next;
			continue;
		}
		*at = call->next;
		call->next = ready;
		ready = call;
	}
	(void)pthread_mutex_unlock(&flights->lock);
	deliver(ready, ACCTLINK_OK, bearer, NULL);
}

static void flight_ended(struct al_task *task)
{
	struct al_flight *flight = (struct al_flight *)task;

	al_provider_unref(&flight->provider);
	al_record_clear(&flight->record);
	al_token_answer_clear(&flight->answer);
	al_http_result_clear(&flight->http);
	al_buf_clear(&flight->owner_key);
	free(flight);
}

void al_flight_asked(struct al_flight *flight)
{
	struct al_flights *flights = flight->links->flights;

	(void)pthread_mutex_lock(&flights->lock);
	flight->asked_ttl_ms = flight->min_ttl_ms;
	flight->asked_refresh = flight->refresh;
	(void)pthread_mutex_unlock(&flights->lock);
}

bool al_flight_is_meant(struct al_flight *flight, const char *link_id)
{
	struct al_flights *flights = flight->links->flights;
	bool meant = false;

	(void)pthread_mutex_lock(&flights->lock);
	for (const struct al_bearer_call *call = flight->waiters; call != NULL && !meant; call = call->next)
		meant = call->refresh && (call->link_id[0] == '\0' || strcmp(call->link_id, link_id) == 0);
	(void)pthread_mutex_unlock(&flights->lock);
	return meant;
}

/* ---- callers -------------------------------------------------------------------------------------- */

static void release_call(struct al_call *base)
{
	struct al_bearer_call *call = (struct al_bearer_call *)base;

	al_bearer_unref(&call->bearer);
	al_buf_clear(&call->owner_key);
	free(call);
}

void al_bearer_call_free(struct al_bearer_call **call)
{
	if (*call != NULL)
		release_call(&(*call)->call);
	*call = NULL;
}

struct al_bearer_call *al_bearer_call_new(void)
{
	return al_new(sizeof(struct al_bearer_call));
}

struct al_bearer *al_links_held(
	struct al_links *links, const struct al_buf *owner_key, const char *link_id, int64_t min_ttl_ms)
{
	struct al_bearer *bearer = al_cache_get(links->cache, owner_key);
	acctlink_time now;

	if (bearer == NULL)
		return NULL;
	now = al_now(links->parts.clock);
	if (now.wall_ms >= bearer->end_wall || now.boot_ms >= bearer->end_boot
		|| (min_ttl_ms == 0 ? now.wall_ms >= bearer->fresh_until : bearer->end_wall - now.wall_ms < min_ttl_ms)
		|| (link_id[0] != '\0' && strcmp(link_id, bearer->link_id) != 0))
		al_bearer_unref(&bearer);
	return bearer;
}

static struct al_flight *flight_new(struct al_links *links, const struct al_buf *owner_key)
{
	struct al_flight *flight = al_new(sizeof(*flight));

	if (flight == NULL)
		return NULL;
	al_task_init(&flight->task, links->parts.pool, al_flight_steps, flight_ended);
	flight->links = links;
	al_record_init(&flight->record);
	al_token_set_init(&flight->answer.set);
	al_buf_init(&flight->owner_key, owner_key->max);
	if (!al_buf_copy(&flight->owner_key, owner_key)) {
		free(flight);
		return NULL;
	}
	return flight;
}

/* Joins a flight, or makes `fresh` the flight to join. True: the caller need not
 * wait, what is held will do. */
static bool join_locked(
	struct al_flights *flights, struct al_flight **fresh, struct al_bearer_call *call, bool held, bool *started)
{
	struct al_flight **at = find_locked(flights, &call->owner_key);
	struct al_flight *flight = *at;

	*started = false;
	if (flight != NULL && flight->early && !insists(call)) {
		if (held)
			return true;
		/* What it served is not held any more: another look tells what has
		 * become of the link, without waiting for that refresh. */
		*at = flight->next;
		flight = NULL;
	}
	if (flight == NULL) {
		*started = true;
		flight = *fresh;
		*fresh = NULL;
		flight->next = flights->first;
		flights->first = flight;
	}
	if (call->min_ttl_ms > flight->min_ttl_ms)
		flight->min_ttl_ms = call->min_ttl_ms;
	flight->refresh = flight->refresh || call->refresh;
	call->next = flight->waiters;
	flight->waiters = call;
	return false;
}

al_rc al_links_bearer(struct al_links *links, struct al_bearer_call *call, acctlink_error *err)
{
	struct al_flight *fresh = flight_new(links, &call->owner_key);
	struct al_bearer *held = NULL;
	struct al_flight *flight = fresh;
	bool started;
	bool early;
	al_rc rc = fresh == NULL ? al_fail_memory(err) : ACCTLINK_OK;

	if (rc == ACCTLINK_OK)
		rc = al_call_begin(links->parts.calls, &call->call, release_call, err);
	if (rc != ACCTLINK_OK) {
		if (fresh != NULL)
			flight_ended(&fresh->task);
		release_call(&call->call);
		return rc;
	}
	if (!insists(call))
		held = al_links_held(links, &call->owner_key, call->link_id, 1);
	(void)pthread_mutex_lock(&links->flights->lock);
	early = join_locked(links->flights, &fresh, call, held != NULL, &started);
	(void)pthread_mutex_unlock(&links->flights->lock);
	if (started)
		al_task_start(&flight->task, STEP_LOOK);
	else
		flight_ended(&fresh->task);
	if (early) {
		call->next = NULL;
		deliver(call, ACCTLINK_OK, held, NULL);
	}
	al_bearer_unref(&held);
	return ACCTLINK_OK;
}
