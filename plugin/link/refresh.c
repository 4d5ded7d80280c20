/* SPDX-License-Identifier: MIT
 * The steps of a flight, get_bearer's slow path: read the row, and if need be
 * claim, send, keep. Between processes the claim in the row decides. Whoever
 * waited reads the row again before it decides anything. Each step has the
 * flight to itself, but for the block that flights.c guards.
 */
#include "link/flight.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LEASE_SPARE_MS = 10000, RETRY_STORE_MS = 100, POLL_FIRST_MS = 5, POLL_LAST_MS = 200 };

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

static struct al_bearer *make_bearer(struct al_flight *flight)
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
	al_buf_init_in(&bearer->text, AL_TOKEN_MAX, al_cache_safe(flight->links->cache));
	if (text->len == 0 || !al_buf_copy(&bearer->text, text))
		al_bearer_unref(&bearer);
	return bearer;
}

static enum al_step_result serve(struct al_flight *flight)
{
	struct al_bearer *bearer = make_bearer(flight);
	enum al_step_result result;
	acctlink_error err = { 0 };

	if (bearer == NULL) {
		(void)al_fail_memory(&err);
		return al_flight_land(flight, ACCTLINK_NO_MEMORY, NULL, &err);
	}
	al_cache_put(flight->links->cache, &flight->owner_key, bearer, flight->snapshot);
	result = al_flight_land(flight, ACCTLINK_OK, bearer, NULL);
	al_bearer_unref(&bearer);
	return result;
}

/* What to tell when no bearer can be served: the attempt's own end if this
 * flight made one, else what the row says. */
static enum al_step_result give_up(struct al_flight *flight, const acctlink_error *err)
{
	if (!flight->answered || err->status == ACCTLINK_RELINK_REQUIRED)
		return al_flight_land(flight, err->status, NULL, err);
	if (flight->err.retry_after_ms == 0)
		flight->err.retry_after_ms = err->retry_after_ms;
	return al_flight_land(flight, flight->err.status, NULL, &flight->err);
}

/* The generation up to which none is handed out; a report about one that the row
 * does not have says nothing. */
static int64_t withheld_up_to(const struct al_flight *flight, int64_t now_boot)
{
	const struct al_link_row *row = &flight->record.row;
	int64_t upto = al_cache_withheld(flight->links->cache, &flight->owner_key, row->id, now_boot);

	if (upto < flight->noted_rejected)
		upto = flight->noted_rejected;
	return upto > row->generation ? 0 : upto;
}

/* Nothing was sent, or all was tried: the bearer if it is good still, else the cause. */
static enum al_step_result serve_or_fail(struct al_flight *flight, const acctlink_error *err)
{
	acctlink_time now = al_now(flight->links->parts.clock);

	if (al_bearer_usable(&flight->record, now.wall_ms, withheld_up_to(flight, now.boot_ms)))
		return serve(flight);
	return al_flight_land(flight, err->status, NULL, err);
}

/* ---- look --------------------------------------------------------------------------- */

/* Only the set that was there when the caller asked is replaced: whoever brought
 * another one meanwhile has done what was asked for. */
static bool insists(struct al_flight *flight)
{
	if (!flight->asked_refresh || !al_flight_is_meant(flight, flight->record.row.id))
		return false;
	if (flight->from_generation == 0)
		flight->from_generation = flight->record.row.generation;
	return flight->record.row.generation == flight->from_generation;
}

static void read_decide_in(struct al_flight *flight, struct al_decide_in *in, unsigned char client[32])
{
	struct al_links *links = flight->links;
	struct al_link_row *row = &flight->record.row;
	acctlink_time now = al_now(links->parts.clock);

	if (flight->provider == NULL)
		flight->provider = al_links_provider(links, al_buf_text(&row->provider));
	*in = (struct al_decide_in){ .record = &flight->record,
		.client = client,
		.now_wall = now.wall_ms,
		.min_ttl_ms = flight->asked_ttl_ms,
		.insist = insists(flight),
		.withheld = withheld_up_to(flight, now.boot_ms) };
	if (flight->provider != NULL && al_provider_fingerprint(flight->provider, client, NULL) == ACCTLINK_OK)
		in->config = al_provider_config(flight->provider);
	in->claim_alive = row->claim_outcome == AL_CLAIM_OPEN && al_claim_alive(links, row);
}

static enum al_step_result wait_for_other(struct al_flight *flight)
{
	acctlink_error err = { 0 };

	if (al_calls_closed(flight->links->parts.calls)) {
		(void)al_fail(&err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return al_flight_land(flight, ACCTLINK_SHUT_DOWN, NULL, &err);
	}
	flight->poll_ms = flight->poll_ms == 0 ? POLL_FIRST_MS : flight->poll_ms * 2;
	if (flight->poll_ms > POLL_LAST_MS)
		flight->poll_ms = POLL_LAST_MS;
	return al_wait_ms(&flight->task, STEP_LOOK, flight->poll_ms);
}

/* A bearer that is good is not held back by a refresh that has just begun. Those
 * who come later get the held one, which an unlink or a new consent drops. */
static void publish_early(struct al_flight *flight, int64_t now_wall, int64_t withheld)
{
	struct al_bearer *bearer;

	if (!al_bearer_usable(&flight->record, now_wall, withheld))
		return;
	bearer = make_bearer(flight);
	if (bearer == NULL)
		return;
	al_cache_put(flight->links->cache, &flight->owner_key, bearer, flight->snapshot);
	al_flight_serve_early(flight, bearer);
	al_bearer_unref(&bearer);
}

static enum al_step_result begin_refresh(struct al_flight *flight, const struct al_decide_in *in)
{
	struct al_links *links = flight->links;
	const struct al_link_row *row = &flight->record.row;
	acctlink_error err = { 0 };

	/* One attempt a flight, unless another writer brought a new set meanwhile. */
	if (flight->answered && row->epoch == flight->epoch && row->generation == flight->generation)
		return serve_or_fail(flight, &flight->err);
	if (al_gate_check(links->gates, al_buf_text(&row->provider), al_now(links->parts.clock).boot_ms, &err)
		!= ACCTLINK_OK)
		return serve_or_fail(flight, &err);
	publish_early(flight, in->now_wall, in->withheld);
	return al_go(&flight->task, STEP_READY);
}

/* A link without a refresh token ends with its bearer: the row says so, and the
 * host is told once. Another writer's news go first. */
static void note_end(struct al_flight *flight)
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
	struct al_flight *flight = (struct al_flight *)task;
	struct al_links *links = flight->links;
	unsigned char client[32] = { 0 };
	struct al_decide_in in;
	acctlink_error err = { 0 };
	al_rc rc;

	al_flight_asked(flight);
	/* A report is forgotten when the row has it: asked in this order, it is seen here or there. */
	flight->noted_rejected = al_cache_withheld(links->cache, &flight->owner_key, NULL, 0);
	rc = al_store_change(al_vault_store(links->parts.vault), &flight->snapshot, &err);
	if (rc == ACCTLINK_OK)
		rc = al_record_read(links, &flight->owner_key, NULL, &flight->record, &err);
	if (rc == AL_ABSENT)
		rc = al_fail(&err, ACCTLINK_NOT_LINKED, NULL, "there is no such link; begin a consent");
	if (rc != ACCTLINK_OK)
		return al_flight_land(flight, rc, NULL, &err);
	read_decide_in(flight, &in, client);
	switch (al_decide(&in, &err)) {
	case AL_DO_SERVE: return serve(flight);
	case AL_DO_WAIT: return wait_for_other(flight);
	case AL_DO_CHECK:
		publish_early(flight, in.now_wall, in.withheld);
		return al_go(task, flight->checked ? STEP_CHECK : STEP_KEYS);
	case AL_DO_REFRESH: return begin_refresh(flight, &in);
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
static enum al_step_result look_again(struct al_flight *flight, const acctlink_error *err)
{
	flight->err = *err;
	flight->answered = true;
	flight->epoch = flight->record.row.epoch;
	flight->generation = flight->record.row.generation;
	return al_go(&flight->task, STEP_LOOK);
}

static enum al_step_result step_ready(struct al_task *task)
{
	struct al_flight *flight = (struct al_flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	flight->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_links_ready(flight->links, flight->provider, &flight->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_CLAIM);
	return rc == ACCTLINK_OK ? al_go(task, STEP_CLAIM) : serve_or_fail(flight, &err);
}

static void fill_claim(struct al_flight *flight)
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
	struct al_flight *flight = (struct al_flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	if (flight->wait.rc != ACCTLINK_OK)
		return look_again(flight, &flight->wait.err);
	if (al_calls_closed(flight->links->parts.calls)) {
		(void)al_fail(&err, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return look_again(flight, &err);
	}
	rc = al_links_may_ask(flight->links, flight->provider, &err);
	if (rc != ACCTLINK_OK)
		return look_again(flight, &err);
	fill_claim(flight);
	rc = al_links_commit(flight->links, AL_LINK_MARK, &flight->record, NULL, NULL, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_LOOK);
	return rc == ACCTLINK_OK ? al_go(task, STEP_SEND) : look_again(flight, &err);
}

/* The fence: just before the body leaves, the lease must cover the whole request. */
static bool may_send(void *ctx)
{
	const struct al_flight *flight = ctx;

	return al_add_ms(al_now(flight->links->parts.clock).boot_ms,
		       al_provider_config(flight->provider)->request_timeout_ms)
		< flight->lease_end;
}

static void http_done(void *ctx, struct al_http_result *result)
{
	struct al_flight *flight = ctx;

	flight->http = *result;
	memset(result, 0, sizeof(*result));
	flight->received_wall = al_now(flight->links->parts.clock).wall_ms;
	al_task_resume(&flight->task);
}

static enum al_step_result step_send(struct al_task *task)
{
	struct al_flight *flight = (struct al_flight *)task;
	acctlink_error err = { 0 };

	flight->request = (struct al_token_request){ .grant = AL_GRANT_REFRESH,
		.refresh_token = &flight->record.kept.refresh_token,
		.may_send = may_send,
		.may_send_ctx = flight };
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
	struct al_flight *flight = (struct al_flight *)task;

	al_token_read(flight->provider, &flight->request, &flight->http, &flight->answer);
	al_http_result_clear(&flight->http);
	al_log(flight->links->parts.log, ACCTLINK_LOG_DEBUG,
		"link %s: refresh attempt %" PRId64 " of generation %" PRId64 " ended: class %d, HTTP %d",
		flight->record.row.id, flight->attempt, flight->generation, (int)flight->answer.kind,
		flight->answer.http_status);
	if (flight->answer.kind == AL_ANSWER_SET && flight->answer.message[0] != '\0') /* what was odd about the set */
		al_log(flight->links->parts.log, ACCTLINK_LOG_NOTICE, "link %s: %s", flight->record.row.id,
			flight->answer.message);
	return al_go(task, flight->answer.kind == AL_ANSWER_SET ? STEP_KEEP : STEP_SETTLE);
}

/* The store can't take what must not be lost: try until it does, or until the
 * shutdown waits no longer. Then the claim stays open, and its outcome unknown. */
static enum al_step_result keep_trying(struct al_flight *flight, int step, const acctlink_error *err)
{
	acctlink_error why = { 0 };

	if (al_calls_abandoned(flight->links->parts.calls)) {
		al_log(flight->links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s: the end of a refresh is lost, since the store did not take it before the shutdown: %s",
			flight->record.row.id, err->message);
		(void)al_fail(&why, ACCTLINK_SHUT_DOWN, NULL, "the handle is being shut down");
		return al_flight_land(flight, ACCTLINK_SHUT_DOWN, NULL, &why);
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
	struct al_flight *flight = (struct al_flight *)task;
	struct al_links *links = flight->links;
	const struct al_link_row *row = &flight->record.row;
	struct al_arrival arrival = { .provider = flight->provider,
		.set = &flight->answer.set,
		.epoch = flight->epoch,
		.generation = flight->generation,
		.attempt = flight->attempt,
		.received_wall = flight->received_wall };
	acctlink_str user = al_buf_str(&row->user);
	acctlink_str institution = al_buf_str(&row->institution);
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

static void describe_answer(struct al_flight *flight)
{
	const struct al_token_answer *answer = &flight->answer;
	al_rc rc = answer->kind == AL_ANSWER_OPERATOR ? ACCTLINK_CLIENT_REFUSED
		: answer->kind == AL_ANSWER_OURS      ? ACCTLINK_BAD_PROVIDER
						      : ACCTLINK_PROVIDER_DOWN;

	(void)al_fail(
		&flight->err, rc, al_buf_text(&flight->record.row.provider), "the refresh failed: %s", answer->message);
	flight->err.http_status = answer->http_status;
	flight->err.retry_after_ms = answer->retry_after_ms > 0 ? answer->retry_after_ms : 0;
	(void)snprintf(flight->err.provider_code, sizeof(flight->err.provider_code), "%s", answer->provider_code);
	flight->answered = true;
}

static enum al_step_result step_settle(struct al_task *task)
{
	struct al_flight *flight = (struct al_flight *)task;
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
	struct al_flight *flight = (struct al_flight *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	flight->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_links_ready(flight->links, flight->provider, &flight->wait, &err);
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
	struct al_flight *flight = (struct al_flight *)task;
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

const struct al_step al_flight_steps[] = { [STEP_LOOK] = { "look", step_look },
	[STEP_READY] = { "ready", step_ready },
	[STEP_CLAIM] = { "claim", step_claim },
	[STEP_SEND] = { "send", step_send },
	[STEP_READ] = { "read", step_read },
	[STEP_KEEP] = { "keep", step_keep },
	[STEP_SETTLE] = { "settle", step_settle },
	[STEP_KEYS] = { "keys", step_keys },
	[STEP_CHECK] = { "check", step_check } };
