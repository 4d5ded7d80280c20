/* SPDX-License-Identifier: MIT
 * Unlinking and the revocation queue. A link that ends is marked in the store
 * first: from then on it is a tombstone that nothing is served from. Its tokens
 * are revoked (RFC 7009) after an open claim has resolved, newest refresh token
 * first; what fails is tried again until revocation_lifetime is over. The queue
 * is the rows themselves (revoke_at), so it survives restarts.
 */
#include "link/link_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLAIM_POLL_MS = 50, CONFLICT_TRIES = 50, TAKEN_MS = 60 * 1000, UNREADABLE_PAUSE_MS = 60 * 60 * 1000 };

enum revoke_step {
	STEP_MARK, /* only for an unlink: the tombstone */
	STEP_TAKE, /* one process at a time: push revoke_at forward */
	STEP_READY,
	STEP_SEND,
	STEP_READ,
	STEP_NOTE /* write what the provider said */
};

struct revocation {
	struct al_task task;
	struct al_links *links;
	struct al_unlink_call *call; /* NULL: from the queue */
	char link_id[AL_ID_LEN + 1];
	struct al_record record;
	struct al_provider *provider;
	struct al_wait wait;
	struct al_http_result http;
	enum al_revoke_end end;
	int64_t retry_after_ms; /* as the provider asked; -1: it did not */
	bool refused;           /* one of the tokens was refused for good */
	int32_t event;
};

static const struct al_step revoke_steps[6];

/* ---- life ------------------------------------------------------------------- */

static void revocation_ended(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;

	al_record_clear(&job->record);
	al_http_result_clear(&job->http);
	al_provider_unref(&job->provider);
	free(job);
}

static struct revocation *revocation_new(struct al_links *links)
{
	struct revocation *job = al_new(sizeof(*job));

	if (job == NULL)
		return NULL;
	al_task_init(&job->task, links->parts.pool, revoke_steps, revocation_ended);
	job->links = links;
	al_record_init(&job->record);
	return job;
}

/* Tells the caller, if one still waits; the queue goes on without it. */
static void answer_call(struct revocation *job, al_rc rc, int32_t revocation, const acctlink_error *err)
{
	struct al_unlink_call *call = job->call;

	if (call == NULL)
		return;
	job->call = NULL;
	call->revocation = revocation;
	memcpy(call->link_id, job->link_id, sizeof(call->link_id));
	al_call_finish(&call->call, rc, err);
}

static enum al_step_result finish(struct revocation *job, int32_t revocation)
{
	answer_call(job, ACCTLINK_OK, revocation, NULL);
	return AL_STEP_END;
}

static enum al_step_result fail(struct revocation *job, al_rc rc, const acctlink_error *err)
{
	if (job->call == NULL && rc != ACCTLINK_STORE_DOWN)
		al_log(job->links->parts.log, ACCTLINK_LOG_ERROR, "link %s: revocation stopped: %s", job->link_id,
			err->message);
	answer_call(job, rc, 0, err);
	return AL_STEP_END;
}

/* ---- the tombstone ------------------------------------------------------------- */

/* The tokens go to the server that gave them, whatever the section says by now. */
static struct al_provider *provider_of(struct al_links *links, const struct al_link_row *row)
{
	struct al_provider *provider = al_links_provider(links, al_buf_text(&row->provider));
	unsigned char client[32];

	if (provider != NULL
		&& (al_provider_fingerprint(provider, client, NULL) != ACCTLINK_OK || row->client.len != sizeof(client)
			|| !al_equal(al_buf_text(&row->client), client, sizeof(client))))
		al_provider_unref(&provider);
	return provider;
}

/* Where one login has one grant a superseded link's tokens are dead, and revoking
 * them could end the grant that another link holds by now. */
static bool lost_its_grant(struct al_links *links, const struct al_link_row *row)
{
	struct al_provider *provider = row->state == ACCTLINK_STATE_SUPERSEDED ? provider_of(links, row) : NULL;
	bool lost = provider != NULL && al_provider_config(provider)->one_grant_per_user;

	al_provider_unref(&provider);
	return lost;
}

static void bury(struct revocation *job)
{
	struct al_link_row *row = &job->record.row;
	struct al_kept *kept = &job->record.kept;
	int64_t now = al_now(job->links->parts.clock).wall_ms;

	if (lost_its_grant(job->links, row)) {
		al_buf_clear(&kept->access_token);
		al_buf_clear(&kept->refresh_token);
		kept->sibling.present = false;
	}
	job->event = al_link_set_state(row, ACCTLINK_STATE_UNLINKING, ACCTLINK_REASON_NONE);
	al_kept_add_revoke(kept, &kept->access_token, true, true);
	if (kept->sibling.present)
		al_kept_add_revoke(kept, &kept->sibling.refresh_token, false, true);
	kept->sibling.present = false;
	al_kept_add_revoke(kept, &kept->refresh_token, false, true);
	al_buf_clear(&kept->id_token);
	al_buf_clear(&kept->old_bearer);
	row->bearer_end = 0;
	row->due_at = 0;
	row->revoke_at = al_add_ms(now, TAKEN_MS); /* by this job; by the queue if it dies */
	row->revoke_until = al_add_ms(now, job->links->parts.revocation_lifetime_ms);
	row->revoke_tries = 0;
}

static enum al_step_result step_mark(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	struct al_links *links = job->links;
	acctlink_error err = { 0 };
	al_rc rc = AL_CONFLICT;

	for (int tries = 0; rc == AL_CONFLICT && tries < CONFLICT_TRIES; tries++) {
		rc = al_record_read(links, &job->call->owner_key, NULL, &job->record, &err);
		if (rc == AL_ABSENT
			|| (rc == ACCTLINK_OK && job->call->link_id[0] != '\0'
				&& strcmp(job->call->link_id, job->record.row.id) != 0))
			rc = al_fail(&err, ACCTLINK_NOT_LINKED, NULL, "there is no such link");
		if (rc != ACCTLINK_OK)
			return fail(job, rc, &err);
		bury(job);
		rc = al_links_commit(links, AL_LINK_SWAP, &job->record, "unlinked", "", &err);
	}
	if (rc == AL_CONFLICT)
		rc = al_fail(&err, ACCTLINK_STORE_DOWN, "store", "the link kept changing while it was to be ended");
	if (rc != ACCTLINK_OK)
		return fail(job, rc, &err);
	memcpy(job->link_id, job->record.row.id, sizeof(job->link_id));
	al_cache_drop(links->cache, &job->record.row.owner_key, job->record.row.change);
	al_links_event(links, job->event, &job->record.row);
	return al_go(task, STEP_TAKE);
}

/* ---- one token after the other ----------------------------------------------------- */

/* Until then nobody else sends: after the request and a pause. */
static int64_t next_try_at(const struct revocation *job)
{
	int64_t now = al_now(job->links->parts.clock).wall_ms;
	const struct al_provider_config *config;

	if (job->provider == NULL)
		return al_add_ms(now, TAKEN_MS);
	config = al_provider_config(job->provider);
	return al_add_ms(now, config->request_timeout_ms + al_backoff_ms(config, job->record.row.revoke_tries) + 1000);
}
/* Nothing left: a live row only loses its list. A tombstone stays for a day with
 * revoke_until 0, since other processes learn from it to drop their held bearer,
 * and is deleted when it is due again; nobody ever held one of a set that made
 * no link. */
static enum al_step_result close_queue(struct revocation *job, int32_t revocation, int32_t event, const char *what)
{
	struct al_link_row *row = &job->record.row;
	bool tombstone = row->state == ACCTLINK_STATE_UNLINKING;
	bool stays = tombstone && row->generation > 0 && row->revoke_until > 0;
	acctlink_error err = { 0 };
	al_rc rc;

	row->revoke_at = stays ? al_add_ms(al_now(job->links->parts.clock).wall_ms, AL_TOMBSTONE_MS) : 0;
	row->revoke_until = 0;
	while (job->record.kept.revoke_count > 0)
		al_kept_drop_revoke(&job->record.kept, 0);
	rc = al_links_commit(
		job->links, tombstone && !stays ? AL_LINK_DELETE : AL_LINK_SWAP, &job->record, what, "", &err);
	if (rc == AL_CONFLICT)
		return al_go(&job->task, STEP_TAKE); /* a late set came: it is revoked as well */
	if (rc != ACCTLINK_OK)
		return fail(job, rc, &err);
	if (event == ACCTLINK_EVENT_REVOCATION_GIVEN_UP)
		al_log(job->links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s at %s: revocation is given up; revoke the grant at the provider by hand", job->link_id,
			al_buf_text(&row->provider));
	if (event != 0)
		al_links_event(job->links, event, row);
	return finish(job, revocation);
}

/* An answer may still bring a newer refresh token: that one is to be revoked. */
static enum al_step_result wait_for_claim(struct revocation *job)
{
	if (job->call == NULL || al_calls_closed(job->links->parts.calls))
		return finish(job, ACCTLINK_REVOCATION_PENDING); /* the queue comes back to it */
	return al_wait_ms(&job->task, STEP_TAKE, CLAIM_POLL_MS);
}

/* A row that can't be opened (its key is missing) must not hold up those behind it. */
static enum al_step_result put_off(struct revocation *job, al_rc rc, const acctlink_error *err)
{
	struct al_link_row *row = &job->record.row;

	if (row->revoke_at > 0) {
		row->revoke_at = al_add_ms(al_now(job->links->parts.clock).wall_ms, UNREADABLE_PAUSE_MS);
		if (al_links_commit(job->links, AL_LINK_MARK, &job->record, NULL, NULL, NULL) != ACCTLINK_OK)
			row->revoke_at = 0; /* it comes again at the next turn */
	}
	return fail(job, rc, err);
}

/* Nothing could be sent, so nothing is given up: the time begins anew. */
static bool is_paused(struct revocation *job)
{
	bool paused = false;

	return al_links_paused(job->links, al_buf_text(&job->record.row.provider), &paused, NULL) == ACCTLINK_OK
		&& paused;
}

static enum al_step_result step_take(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	struct al_links *links = job->links;
	struct al_link_row *row = &job->record.row;
	int64_t now = al_now(links->parts.clock).wall_ms;
	acctlink_error err = { 0 };
	al_rc rc = al_record_read(links, NULL, job->link_id, &job->record, &err);

	if (rc == AL_ABSENT)
		return finish(job, ACCTLINK_REVOCATION_CONFIRMED); /* another process was faster */
	if (rc != ACCTLINK_OK)
		return put_off(job, rc, &err);
	if (row->revoke_at == 0)
		return finish(job, ACCTLINK_REVOCATION_NOTHING);
	/* Closed already; or another job of the queue was faster. */
	if (now < row->revoke_at && (row->revoke_until == 0 || job->call == NULL))
		return finish(job, ACCTLINK_REVOCATION_CONFIRMED);
	if (row->state == ACCTLINK_STATE_UNLINKING && row->claim_outcome == AL_CLAIM_OPEN && al_claim_alive(links, row))
		return wait_for_claim(job);
	if (job->record.kept.revoke_count == 0)
		return close_queue(job, ACCTLINK_REVOCATION_NOTHING, 0, "nothing_to_revoke");
	if (job->provider == NULL)
		job->provider = provider_of(links, row);
	if (now > row->revoke_until && is_paused(job))
		row->revoke_until = al_add_ms(now, links->parts.revocation_lifetime_ms);
	if (now > row->revoke_until)
		return close_queue(
			job, ACCTLINK_REVOCATION_REFUSED, ACCTLINK_EVENT_REVOCATION_GIVEN_UP, "revocation_given_up");
	row->revoke_tries++;
	row->revoke_at = next_try_at(job);
	rc = al_links_commit(links, AL_LINK_MARK, &job->record, NULL, NULL, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_TAKE);
	if (rc != ACCTLINK_OK)
		return fail(job, rc, &err);
	return job->provider == NULL ? finish(job, ACCTLINK_REVOCATION_PENDING) : al_go(task, STEP_READY);
}

static void resume(void *ctx)
{
	al_task_resume(ctx);
}

static enum al_step_result step_ready(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	job->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_links_ready(job->links, job->provider, &job->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_SEND);
	job->wait.rc = rc;
	return al_go(task, STEP_SEND);
}

static void http_done(void *ctx, struct al_http_result *result)
{
	struct revocation *job = ctx;

	job->http = *result;
	memset(result, 0, sizeof(*result));
	al_task_resume(&job->task);
}

static enum al_step_result step_send(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	const struct al_revoke_item *item = &job->record.kept.revoke[0];

	job->end = AL_REVOKE_RETRY;
	job->retry_after_ms = -1;
	if (job->wait.rc != ACCTLINK_OK)
		return al_go(task, STEP_NOTE);
	if (!al_provider_can_revoke(job->provider))
		return close_queue(job, ACCTLINK_REVOCATION_UNSUPPORTED, 0, "revocation_unsupported");
	if (al_revoke_start(job->provider, &item->token, item->is_access ? "access_token" : "refresh_token", http_done,
		    job, NULL)
		!= ACCTLINK_OK)
		return al_go(task, STEP_NOTE);
	return al_wait(task, STEP_READ);
}

static enum al_step_result step_read(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	struct al_token_answer detail = { 0 };

	al_token_set_init(&detail.set);
	job->end = al_revoke_read(job->provider, &job->record.kept.revoke[0].token, &job->http, &detail);
	job->retry_after_ms = detail.retry_after_ms;
	al_http_result_clear(&job->http);
	if (job->end == AL_REVOKE_REFUSED || job->end == AL_REVOKE_OPERATOR)
		al_log(job->links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s at %s: the provider refused a revocation: %s", job->link_id,
			al_buf_text(&job->record.row.provider), detail.message);
	al_token_answer_clear(&detail);
	return al_go(task, STEP_NOTE);
}

/* The row is due again as step_take left it, or when the provider says (RFC 7009, 2.2.1). */
static enum al_step_result come_back(struct revocation *job)
{
	struct al_link_row *row = &job->record.row;
	int64_t asked = al_add_ms(al_now(job->links->parts.clock).wall_ms, job->retry_after_ms);

	if (row->revoke_at < asked) {
		row->revoke_at = asked;
		if (al_links_commit(job->links, AL_LINK_MARK, &job->record, NULL, NULL, NULL) != ACCTLINK_OK)
			row->revoke_at = 0; /* then it is due as it was */
	}
	return finish(job, ACCTLINK_REVOCATION_PENDING);
}

static enum al_step_result step_note(struct al_task *task)
{
	struct revocation *job = (struct revocation *)task;
	struct al_kept *kept = &job->record.kept;
	acctlink_error err = { 0 };
	al_rc rc;

	if (job->end == AL_REVOKE_RETRY || job->end == AL_REVOKE_OPERATOR)
		return come_back(job);
	job->refused = job->refused || job->end == AL_REVOKE_REFUSED;
	al_kept_drop_revoke(kept, 0);
	if (kept->revoke_count == 0)
		return job->refused
			? close_queue(job, ACCTLINK_REVOCATION_REFUSED, 0, "revocation_refused")
			: close_queue(job, ACCTLINK_REVOCATION_CONFIRMED, ACCTLINK_EVENT_REVOKED, "revoked");
	job->record.row.revoke_at = next_try_at(job);
	rc = al_links_commit(job->links, AL_LINK_SWAP, &job->record, NULL, NULL, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_TAKE); /* the token is revoked twice: harmless (RFC 7009, 2.2) */
	return rc == ACCTLINK_OK ? al_go(task, STEP_READY) : fail(job, rc, &err);
}

static const struct al_step revoke_steps[6] = { [STEP_MARK] = { "mark", step_mark },
	[STEP_TAKE] = { "take", step_take },
	[STEP_READY] = { "ready", step_ready },
	[STEP_SEND] = { "send", step_send },
	[STEP_READ] = { "read", step_read },
	[STEP_NOTE] = { "note", step_note } };

/* ---- entrances ------------------------------------------------------------------------ */

void al_links_start_revocation(struct al_links *links, const char *link_id)
{
	struct revocation *job = revocation_new(links);

	if (job == NULL)
		return; /* the queue comes back to it */
	(void)snprintf(job->link_id, sizeof(job->link_id), "%s", link_id);
	al_task_start(&job->task, STEP_TAKE);
}

static void release_unlink(struct al_call *base)
{
	struct al_unlink_call *call = (struct al_unlink_call *)base;

	al_buf_clear(&call->owner_key);
	free(call);
}

void al_unlink_call_free(struct al_unlink_call **call)
{
	if (*call != NULL)
		release_unlink(&(*call)->call);
	*call = NULL;
}

struct al_unlink_call *al_unlink_call_new(void)
{
	return al_new(sizeof(struct al_unlink_call));
}

al_rc al_links_unlink(struct al_links *links, struct al_unlink_call *call, acctlink_error *err)
{
	struct revocation *job = revocation_new(links);
	al_rc rc = job == NULL ? al_fail_memory(err)
			       : al_call_begin(links->parts.calls, &call->call, release_unlink, err);

	if (rc != ACCTLINK_OK) {
		if (job != NULL)
			revocation_ended(&job->task);
		release_unlink(&call->call);
		return rc;
	}
	job->call = call;
	al_task_start(&job->task, STEP_MARK);
	return ACCTLINK_OK;
}
