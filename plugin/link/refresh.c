/* SPDX-License-Identifier: MIT
 * get_bearer's slow path. All callers of one process that want one link's
 * bearer share a flight: a task that reads the row, and if need be claims,
 * sends, keeps. Between processes the claim in the row decides. Whoever waited
 * reads the row again before it decides anything.
 */
#include "link/link_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEASE_SPARE_MS = 10000, RETRY_STORE_MS = 100, POLL_FIRST_MS = 5, POLL_LAST_MS = 200 };

/* The steps of a flight, in the order of doc/refresh.md. */
enum flight_step {
	STEP_LOOK,  /* read the row, decide */
	STEP_READY, /* the provider's endpoints are known */
	STEP_CLAIM, /* one compare-and-swap: claim, attempt, sent_at */
	STEP_SEND,
	STEP_READ,  /* classify the answer */
	STEP_KEEP,  /* a set: into the store before anyone sees it */
	STEP_SETTLE,/* no set: write down what it means */
	STEP_KEYS,  /* fetch the keys for an unchecked id_token */
	STEP_CHECK
};

struct flight {
	struct al_task task;
	struct al_links *links;
	struct flight *next;             /* flights->lock, as all of this block */
	struct al_bearer_call *waiters;
	bool early;                      /* those who don't insist were served: the held bearer will do */
	int64_t min_ttl_ms;              /* the largest that a waiter asks for */
	struct al_buf owner_key;         /* constant */
	/* the task's own */
	int64_t asked_ttl_ms;            /* the one that was decided with */
	struct al_record record;
	int64_t snapshot;                /* the store's change number before the read */
	struct al_provider *provider;
	struct al_wait wait;
	struct al_token_request request;
	struct al_http_result http;
	struct al_token_answer answer;
	int64_t attempt;
	int64_t epoch;
	int64_t generation;
	int64_t lease_end;               /* boot ms */
	int64_t received_wall;
	int64_t poll_ms;
	bool answered;                   /* an attempt of this flight has ended: err tells how */
	int64_t noted_rejected;          /* before the row was read */
	bool store_trouble;              /* told the log already */
	bool checked;                    /* the keys were fetched once */
	acctlink_error err;
};

struct al_flights {
	pthread_mutex_t lock;
	struct flight *first;
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
			end = al_fail(&why, ACCTLINK_NOT_LINKED, NULL, "this link was ended; another one has taken its place");
		else if (rc != ACCTLINK_OK && err != NULL)
			why = *err;
		if (end == ACCTLINK_OK)
			call->bearer = al_bearer_ref(bearer);
		al_call_finish(&call->call, end, &why);
	}
}

/* It may have been taken out before, by a caller who did not want to wait for it. */
static void take_out_locked(struct al_flights *flights, const struct flight *flight)
{
	struct flight **at = &flights->first;

	while (*at != NULL && *at != flight)
		at = &(*at)->next;
	if (*at != NULL)
		*at = flight->next;
}

static struct flight **find_locked(struct al_flights *flights, const struct al_buf *owner_key)
{
	struct flight **at = &flights->first;

	while (*at != NULL && ((*at)->owner_key.len != owner_key->len
		|| memcmp(al_buf_text(&(*at)->owner_key), al_buf_text(owner_key), owner_key->len) != 0))
		at = &(*at)->next;
	return at;
}

/* Ends the flight, unless a caller came meanwhile who asks for more than was
 * decided with: then the flight looks again. */
static enum al_step_result land(struct flight *flight, al_rc rc, struct al_bearer *bearer, const acctlink_error *err)
{
	struct al_flights *flights = flight->links->flights;
	struct al_bearer_call *waiters = NULL;
	bool again;

	(void)pthread_mutex_lock(&flights->lock);
	again = flight->min_ttl_ms > flight->asked_ttl_ms;
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

/* Those who asked for no more than a good bearer need not wait for the refresh. */
static void serve_early(struct flight *flight, struct al_bearer *bearer)
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
		if (call->min_ttl_ms > 0) {
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
	struct flight *flight = (struct flight *)task;

	al_provider_unref(&flight->provider);
	al_record_clear(&flight->record);
	al_token_answer_clear(&flight->answer);
	al_http_result_clear(&flight->http);
	al_buf_clear(&flight->owner_key);
	free(flight);
}

/* ---- bearers ---------------------------------------------------------------------- */

/* Rereading the row does not prolong what is held, though the wall clock was set back. */
static void keep_boot_end(struct al_cache *cache, const struct al_buf *owner_key, struct al_bearer *bearer)
{
	struct al_bearer *held = al_cache_get(cache, owner_key);

	if (held != NULL && held->generation == bearer->generation && held->end_boot < bearer->end_boot
		&& strcmp(held->link_id, bearer->link_id) == 0)
		bearer->end_boot = held->end_boot;
	al_bearer_unref(&held);
}

static struct al_bearer *make_bearer(struct flight *flight)
{
	const struct al_record *record = &flight->record;
	const struct al_link_row *row = &record->row;
	acctlink_time now = al_now(flight->links->parts.clock);
	struct al_bearer *bearer = al_new(sizeof(*bearer));
	const struct al_buf *text = &record->kept.old_bearer;

	if (bearer == NULL)
		return NULL;
	if (row->bearer_check == AL_BEARER_GOOD)
		text = al_kept_newest_bearer(&record->kept, (enum al_bearer_kind)record->kept.bearer_kind);
	bearer->refs = 1;
	memcpy(bearer->link_id, row->id, sizeof(bearer->link_id));
	bearer->state = (int32_t)row->state;
	bearer->epoch = row->epoch;
	bearer->generation = al_bearer_generation(record);
	bearer->end_wall = row->bearer_end;
	bearer->end_boot = al_add_ms(now.boot_ms, row->bearer_end - now.wall_ms);
	keep_boot_end(flight->links->cache, &flight->owner_key, bearer);
	bearer->fresh_until = row->bearer_end;
	if (flight->provider != NULL)
		bearer->fresh_until -= al_margin(record, al_provider_config(flight->provider), 0);
	al_buf_init(&bearer->text, AL_TOKEN_MAX);
	if (text->len == 0 || !al_buf_copy(&bearer->text, text))
		al_bearer_unref(&bearer);
	return bearer;
}

static enum al_step_result serve(struct flight *flight)
{
	struct al_bearer *bearer = make_bearer(flight);
	enum al_step_result result;
	acctlink_error err = { 0 };

	if (bearer == NULL) {
		(void)al_fail_memory(&err);
		return land(flight, ACCTLINK_NO_MEMORY, NULL, &err);
	}
	al_cache_put(flight->links->cache, &flight->owner_key, bearer, flight->snapshot);
	result = land(flight, ACCTLINK_OK, bearer, NULL);
	al_bearer_unref(&bearer);
	return result;
}

/* What to tell when no bearer can be served: the attempt's own end if this
 * flight made one, else what the row says. */
static enum al_step_result give_up(struct flight *flight, const acctlink_error *err)
{
	if (!flight->answered || err->status == ACCTLINK_RELINK_REQUIRED)
		return land(flight, err->status, NULL, err);
	if (flight->err.retry_after_ms == 0)
		flight->err.retry_after_ms = err->retry_after_ms;
	return land(flight, flight->err.status, NULL, &flight->err);
}

/* The generation up to which none is handed out; a report about one that the row
 * does not have says nothing. */
static int64_t withheld_up_to(const struct flight *flight, int64_t now_boot)
{
	const struct al_link_row *row = &flight->record.row;
	int64_t upto = al_cache_withheld(flight->links->cache, &flight->owner_key, row->id, now_boot);

	if (upto < flight->noted_rejected)
		upto = flight->noted_rejected;
	return upto > row->generation ? 0 : upto;
}

/* Nothing was sent, or all was tried: the bearer if it is good still, else the cause. */
static enum al_step_result serve_or_fail(struct flight *flight, const acctlink_error *err)
{
	acctlink_time now = al_now(flight->links->parts.clock);

	if (al_bearer_usable(&flight->record, now.wall_ms, withheld_up_to(flight, now.boot_ms)))
		return serve(flight);
	return land(flight, err->status, NULL, err);
}

/* ---- look --------------------------------------------------------------------------- */

static void read_decide_in(struct flight *flight, struct al_decide_in *in, unsigned char client[32])
{
	struct al_links *links = flight->links;
	struct al_link_row *row = &flight->record.row;
	acctlink_time now = al_now(links->parts.clock);

	if (flight->provider == NULL)
		flight->provider = al_links_provider(links, al_buf_text(&row->provider));
	*in = (struct al_decide_in){ .record = &flight->record, .client = client, .now_wall = now.wall_ms,
		.min_ttl_ms = flight->asked_ttl_ms,
		.withheld = withheld_up_to(flight, now.boot_ms) };
	if (flight->provider != NULL && al_provider_fingerprint(flight->provider, client, NULL) == ACCTLINK_OK)
		in->config = al_provider_config(flight->provider);
	in->claim_alive = row->claim_outcome == AL_CLAIM_OPEN && al_claim_alive(links, row);
}

static enum al_step_result wait_for_other(struct flight *flight)
{
	acctlink_error err = { 0 };

	if (al_calls_closed(flight->links->parts.calls)) {
		(void)al_fail(&err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return land(flight, ACCTLINK_SHUT_DOWN, NULL, &err);
	}
	flight->poll_ms = flight->poll_ms == 0 ? POLL_FIRST_MS : flight->poll_ms * 2;
	if (flight->poll_ms > POLL_LAST_MS)
		flight->poll_ms = POLL_LAST_MS;
	return al_wait_ms(&flight->task, STEP_LOOK, flight->poll_ms);
}

/* A bearer that is good is not held back by a refresh that has just begun. Those
 * who come later get the held one, which an unlink or a new consent drops. */
static void publish_early(struct flight *flight, int64_t now_wall, int64_t withheld)
{
	struct al_bearer *bearer;

	if (!al_bearer_usable(&flight->record, now_wall, withheld))
		return;
	bearer = make_bearer(flight);
	if (bearer == NULL)
		return;
	al_cache_put(flight->links->cache, &flight->owner_key, bearer, flight->snapshot);
	serve_early(flight, bearer);
	al_bearer_unref(&bearer);
}

static enum al_step_result begin_refresh(struct flight *flight, const struct al_decide_in *in)
{
	struct al_links *links = flight->links;
	const struct al_link_row *row = &flight->record.row;
	acctlink_error err = { 0 };

	/* One attempt a flight, unless another writer brought a new set meanwhile. */
	if (flight->answered && row->epoch == flight->epoch && row->generation == flight->generation)
		return serve_or_fail(flight, &flight->err);
	if (al_gate_check(links->gates, al_buf_text(&row->provider), al_now(links->parts.clock).boot_ms,
			&err) != ACCTLINK_OK)
		return serve_or_fail(flight, &err);
	publish_early(flight, in->now_wall, in->withheld);
	return al_go(&flight->task, STEP_READY);
}

/* A link without a refresh token ends with its bearer: the row says so, and the
 * host is told once. Another writer's news go first. */
static void note_end(struct flight *flight)
{
	struct al_link_row *row = &flight->record.row;
	int32_t event;

	if ((row->state != ACCTLINK_STATE_LINKED && row->state != ACCTLINK_STATE_STALE)
		|| al_bearer_usable(&flight->record, al_now(flight->links->parts.clock).wall_ms, 0))
		return;
	event = al_link_set_state(row, ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_NO_REFRESH_TOKEN);
	if (al_links_commit(flight->links, AL_LINK_MARK, &flight->record, "ended", "", NULL) == ACCTLINK_OK)
		al_links_event(flight->links, event, row);
}

static enum al_step_result step_look(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	struct al_links *links = flight->links;
	unsigned char client[32] = { 0 };
	struct al_decide_in in;
	acctlink_error err = { 0 };
	al_rc rc;

	(void)pthread_mutex_lock(&links->flights->lock);
	flight->asked_ttl_ms = flight->min_ttl_ms;
	(void)pthread_mutex_unlock(&links->flights->lock);
	/* A report is forgotten when the row has it: asked in this order, it is seen here or there. */
	flight->noted_rejected = al_cache_withheld(links->cache, &flight->owner_key, NULL, 0);
	rc = al_store_change(al_vault_store(links->parts.vault), &flight->snapshot, &err);
	if (rc == ACCTLINK_OK)
		rc = al_record_read(links, &flight->owner_key, NULL, &flight->record, &err);
	if (rc == AL_ABSENT)
		rc = al_fail(&err, ACCTLINK_NOT_LINKED, NULL, "there is no such link; begin a consent");
	if (rc != ACCTLINK_OK)
		return land(flight, rc, NULL, &err);
	read_decide_in(flight, &in, client);
	switch (al_decide(&in, &err)) {
	case AL_DO_SERVE:
		return serve(flight);
	case AL_DO_WAIT:
		return wait_for_other(flight);
	case AL_DO_CHECK:
		publish_early(flight, in.now_wall, in.withheld);
		return al_go(task, flight->checked ? STEP_CHECK : STEP_KEYS);
	case AL_DO_REFRESH:
		return begin_refresh(flight, &in);
	default:
		if (err.status == ACCTLINK_RELINK_REQUIRED)
			note_end(flight);
		return give_up(flight, &err);
	}
}

/* ---- ready, claim, send ------------------------------------------------------------------ */

static void resume(void *ctx)
{
	al_task_resume(ctx);
}

/* This attempt is over before it began; the row, which may have changed while it
 * was prepared, tells what can be served. */
static enum al_step_result look_again(struct flight *flight, const acctlink_error *err)
{
	flight->err = *err;
	flight->answered = true;
	flight->epoch = flight->record.row.epoch;
	flight->generation = flight->record.row.generation;
	return al_go(&flight->task, STEP_LOOK);
}

static enum al_step_result step_ready(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	flight->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_provider_ready(flight->provider, &flight->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_CLAIM);
	return rc == ACCTLINK_OK ? al_go(task, STEP_CLAIM) : serve_or_fail(flight, &err);
}

static void fill_claim(struct flight *flight)
{
	struct al_links *links = flight->links;
	struct al_link_row *row = &flight->record.row;
	const struct al_provider_config *config = al_provider_config(flight->provider);
	acctlink_time now = al_now(links->parts.clock);
	const char *host = al_owner_host(links->parts.owner);

	row->unknown_sent_at = al_unknown_sent_at(row); /* of a dead owner's claim */
	(void)snprintf(row->claim_owner, sizeof(row->claim_owner), "%s", al_owner_id(links->parts.owner));
	(void)al_buf_set(&row->claim_host, host, strlen(host));
	(void)al_buf_copy(&row->claim_key_id, &row->key_id);
	row->claim_attempt++;
	row->claim_renewals = 0;
	row->claim_outcome = AL_CLAIM_OPEN;
	row->claim_sent_at = now.wall_ms;
	/* Covers the request twice: once until it leaves, once until its answer is kept. */
	row->claim_lease_end = al_add_ms(now.boot_ms, 2 * config->request_timeout_ms + LEASE_SPARE_MS);
	flight->attempt = row->claim_attempt;
	flight->epoch = row->epoch;
	flight->generation = row->generation;
	flight->lease_end = row->claim_lease_end;
}

/* Durable before sent: claim, attempt and time are in the store when the body leaves. */
static enum al_step_result step_claim(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	if (flight->wait.rc != ACCTLINK_OK)
		return look_again(flight, &flight->wait.err);
	if (al_calls_closed(flight->links->parts.calls)) {
		(void)al_fail(&err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return look_again(flight, &err);
	}
	fill_claim(flight);
	rc = al_links_commit(flight->links, AL_LINK_MARK, &flight->record, NULL, NULL, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_LOOK);
	return rc == ACCTLINK_OK ? al_go(task, STEP_SEND) : look_again(flight, &err);
}

/* The fence: just before the body leaves, the lease must cover the whole request. */
static bool may_send(void *ctx)
{
	const struct flight *flight = ctx;

	return al_add_ms(al_now(flight->links->parts.clock).boot_ms,
		al_provider_config(flight->provider)->request_timeout_ms) < flight->lease_end;
}

static void http_done(void *ctx, struct al_http_result *result)
{
	struct flight *flight = ctx;

	flight->http = *result;
	memset(result, 0, sizeof(*result));
	flight->received_wall = al_now(flight->links->parts.clock).wall_ms;
	al_task_resume(&flight->task);
}

static enum al_step_result step_send(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	acctlink_error err = { 0 };

	flight->request = (struct al_token_request){ .grant = AL_GRANT_REFRESH,
		.refresh_token = &flight->record.kept.refresh_token, .may_send = may_send, .may_send_ctx = flight };
	if (al_token_start(flight->provider, &flight->request, http_done, flight, &err) == ACCTLINK_OK)
		return al_wait(task, STEP_READ);
	flight->answer.kind = AL_ANSWER_NOT_SENT;
	(void)snprintf(flight->answer.provider_code, sizeof(flight->answer.provider_code), "not_sent");
	(void)snprintf(flight->answer.message, sizeof(flight->answer.message), "%.200s", err.message);
	return al_go(task, STEP_SETTLE);
}

/* ---- read, keep, settle -------------------------------------------------------------------- */

static enum al_step_result step_read(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;

	al_token_read(flight->provider, &flight->request, &flight->http, &flight->answer);
	al_http_result_clear(&flight->http);
	al_log(flight->links->parts.log, ACCTLINK_LOG_DEBUG, "link %s: refresh attempt %" PRId64 " of generation %" PRId64
		" ended: class %d, HTTP %d", flight->record.row.id, flight->attempt, flight->generation,
		(int)flight->answer.kind, flight->answer.http_status);
	if (flight->answer.kind == AL_ANSWER_SET && flight->answer.message[0] != '\0') /* what was odd about the set */
		al_log(flight->links->parts.log, ACCTLINK_LOG_NOTICE, "link %s: %s", flight->record.row.id,
			flight->answer.message);
	return al_go(task, flight->answer.kind == AL_ANSWER_SET ? STEP_KEEP : STEP_SETTLE);
}

/* The store can't take what must not be lost: try until it does, or until the
 * shutdown waits no longer. Then the claim stays open, and its outcome unknown. */
static enum al_step_result keep_trying(struct flight *flight, int step, const acctlink_error *err)
{
	acctlink_error why = { 0 };

	if (al_calls_abandoned(flight->links->parts.calls)) {
		al_log(flight->links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s: the end of a refresh is lost, since the store did not take it before the shutdown: %s",
			flight->record.row.id, err->message);
		(void)al_fail(&why, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return land(flight, ACCTLINK_SHUT_DOWN, NULL, &why);
	}
	if (!flight->store_trouble)
		al_log(flight->links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s: the store can't take the end of a refresh yet, it is tried again: %s",
			flight->record.row.id, err->message);
	flight->store_trouble = true;
	return al_wait_ms(&flight->task, step, RETRY_STORE_MS);
}

static enum al_step_result step_keep(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	struct al_links *links = flight->links;
	const struct al_link_row *row = &flight->record.row;
	struct al_arrival arrival = { .provider = flight->provider, .set = &flight->answer.set,
		.epoch = flight->epoch, .generation = flight->generation, .attempt = flight->attempt,
		.received_wall = flight->received_wall };
	acctlink_str user = { al_buf_text(&row->user), row->user.len };
	acctlink_str institution = { al_buf_text(&row->institution), row->institution.len };
	acctlink_error err = { 0 };
	enum al_keep_end end = AL_KEPT_NOT;
	al_rc rc = al_keep_refreshed(links, row->id, &arrival, &end, &err);

	if (rc == AL_ABSENT)
		rc = al_links_revoke_orphan(links, flight->provider, user, institution, &flight->answer.set, &err);
	if (rc != ACCTLINK_OK)
		return keep_trying(flight, STEP_KEEP, &err);
	al_gate_accepted(links->gates, al_buf_text(&row->provider));
	al_token_answer_clear(&flight->answer);
	return al_go(task, STEP_LOOK);
}

static void describe_answer(struct flight *flight)
{
	const struct al_token_answer *answer = &flight->answer;
	al_rc rc = answer->kind == AL_ANSWER_OPERATOR ? ACCTLINK_CLIENT_REFUSED
		: answer->kind == AL_ANSWER_OURS ? ACCTLINK_BAD_PROVIDER : ACCTLINK_PROVIDER_DOWN;

	(void)al_fail(&flight->err, rc, al_buf_text(&flight->record.row.provider), "the refresh failed: %s",
		answer->message);
	flight->err.http_status = answer->http_status;
	flight->err.retry_after_ms = answer->retry_after_ms > 0 ? answer->retry_after_ms : 0;
	(void)snprintf(flight->err.provider_code, sizeof(flight->err.provider_code), "%s", answer->provider_code);
	flight->answered = true;
}

static enum al_step_result step_settle(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	acctlink_error err = { 0 };
	al_rc rc = al_keep_failure(flight->links, flight->record.row.id, flight->provider, flight->epoch,
		flight->generation, flight->attempt, &flight->answer, &err);

	if (rc != ACCTLINK_OK)
		return keep_trying(flight, STEP_SETTLE, &err);
	describe_answer(flight);
	al_token_answer_clear(&flight->answer);
	return al_go(task, STEP_LOOK);
}

/* ---- an id_token whose key was missing -------------------------------------------------------- */

static enum al_step_result step_keys(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	flight->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_provider_ready(flight->provider, &flight->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_KEYS);
	flight->checked = true;
	if (rc == ACCTLINK_OK)
		rc = al_provider_fetch_keys(flight->provider, &flight->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_LOOK); /* the row may have changed meanwhile */
	flight->wait.rc = rc;
	flight->wait.err = err;
	return al_go(task, STEP_LOOK);
}

static enum al_step_result step_check(struct al_task *task)
{
	struct flight *flight = (struct flight *)task;
	enum al_id_verdict verdict = AL_ID_NO_KEY;
	acctlink_error err = { 0 };
	al_rc rc = al_keep_checked(flight->links, flight->provider, &flight->record, &verdict, &err);

	if (rc == AL_CONFLICT)
		return al_go(task, STEP_LOOK);
	if (rc != ACCTLINK_OK)
		return serve_or_fail(flight, &err);
	if (verdict == AL_ID_NO_KEY)
		return serve_or_fail(flight, flight->wait.rc != ACCTLINK_OK ? &flight->wait.err : &err);
	return al_go(task, STEP_LOOK);
}

static const struct al_step flight_steps[] = {
	[STEP_LOOK] = { "look", step_look },
	[STEP_READY] = { "ready", step_ready },
	[STEP_CLAIM] = { "claim", step_claim },
	[STEP_SEND] = { "send", step_send },
	[STEP_READ] = { "read", step_read },
	[STEP_KEEP] = { "keep", step_keep },
	[STEP_SETTLE] = { "settle", step_settle },
	[STEP_KEYS] = { "keys", step_keys },
	[STEP_CHECK] = { "check", step_check }
};

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

struct al_bearer *al_links_held(struct al_links *links, const struct al_buf *owner_key, const char *link_id,
	int64_t min_ttl_ms)
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

static struct flight *flight_new(struct al_links *links, const struct al_buf *owner_key)
{
	struct flight *flight = al_new(sizeof(*flight));

	if (flight == NULL)
		return NULL;
	al_task_init(&flight->task, links->parts.pool, flight_steps, flight_ended);
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
static bool join_locked(struct al_flights *flights, struct flight **fresh, struct al_bearer_call *call, bool held,
	bool *started)
{
	struct flight **at = find_locked(flights, &call->owner_key);
	struct flight *flight = *at;

	*started = false;
	if (flight != NULL && flight->early && call->min_ttl_ms == 0) {
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
	call->next = flight->waiters;
	flight->waiters = call;
	return false;
}

al_rc al_links_bearer(struct al_links *links, struct al_bearer_call *call, acctlink_error *err)
{
	struct flight *fresh = flight_new(links, &call->owner_key);
	struct al_bearer *held = NULL;
	struct flight *flight = fresh;
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
	if (call->min_ttl_ms == 0)
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
