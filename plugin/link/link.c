/* SPDX-License-Identifier: MIT
 * The room itself, and what only reads or reports: inspect, list,
 * report_rejected. Each runs as a task of one step, so that a slow disk never
 * holds a caller past its deadline.
 */
#include "link/link_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

al_rc al_links_new(const struct al_links_parts *parts, struct al_links **out, acctlink_error *err)
{
	struct al_links *links = al_new(sizeof(*links));
	al_rc rc;

	if (links == NULL)
		return al_fail_memory(err);
	links->parts = *parts;
	rc = al_cache_new(parts->held_bearers, &links->cache, err);
	if (rc == ACCTLINK_OK)
		rc = al_flights_new(&links->flights, err);
	if (rc == ACCTLINK_OK) {
		links->gates = al_gates_new();
		rc = links->gates == NULL ? al_fail_memory(err) : ACCTLINK_OK;
	}
	if (rc != ACCTLINK_OK) {
		al_links_free(&links);
		return rc;
	}
	*out = links;
	return ACCTLINK_OK;
}

void al_links_free(struct al_links **links)
{
	if (*links == NULL)
		return;
	al_gates_free(&(*links)->gates);
	al_flights_free(&(*links)->flights);
	al_cache_free(&(*links)->cache);
	free(*links);
	*links = NULL;
}

void al_links_reconfigured(struct al_links *links)
{
	al_gates_open(links->gates);
}

bool al_owner_key(struct al_buf *key, acctlink_str user, acctlink_str provider, acctlink_str institution)
{
	al_buf_init(key, 4096);
	return al_pack(key, user.data, user.len) && al_pack(key, provider.data, provider.len)
		&& al_pack(key, institution.data, institution.len);
}

struct al_provider *al_links_provider(struct al_links *links, const char *name)
{
	return links->parts.provider(links->parts.provider_ctx, name);
}

/* On one machine a claim ends with its owner, or with its lease: nothing is
 * sent in the last request_timeout of a lease (the fence), so that an answer
 * can't come after it. */
bool al_claim_alive(struct al_links *links, const struct al_link_row *row)
{
	const char *host = al_owner_host(links->parts.owner);
	bool same_boot = al_str_is(al_buf_str(&row->claim_host), host);

	if (same_boot && al_now(links->parts.clock).boot_ms > row->claim_lease_end)
		return false;
	return !al_owner_is_dead(links->parts.owner, row->claim_owner, &row->claim_host);
}

void al_links_event(struct al_links *links, int32_t kind, const struct al_link_row *row)
{
	acctlink_event event = { .size = sizeof(event), .kind = kind };

	al_log(links->parts.log, ACCTLINK_LOG_INFO, "link %s at %s: event %d, state %d, reason %d, generation %lld",
		row->id, al_buf_text(&row->provider), (int)kind, (int)row->state, (int)row->reason,
		(long long)row->generation);
	if (links->parts.event == NULL || kind == 0)
		return;
	event.user = al_buf_str(&row->user);
	event.provider = al_buf_str(&row->provider);
	event.institution = al_buf_str(&row->institution);
	event.link_id = al_str(row->id);
	event.state = (int32_t)row->state;
	event.reason = (int32_t)row->reason;
	event.epoch = (uint64_t)row->epoch;
	event.generation = (uint64_t)row->generation;
	event.at_ms = al_now(links->parts.clock).wall_ms;
	links->parts.event(links->parts.event_ctx, &event);
}

struct al_audit_row al_links_audit(const struct al_link_row *row, const char *what, const char *detail, int64_t at)
{
	struct al_audit_row audit = { .at = at,
		.link_id = row->id,
		.user = al_buf_str(&row->user),
		.what = what,
		.epoch = row->epoch,
		.generation = row->generation,
		.detail = detail };

	return audit;
}

al_rc al_links_commit(struct al_links *links, enum al_write_kind kind, struct al_record *record, const char *what,
	const char *detail, acctlink_error *err)
{
	struct al_audit_row audit = al_links_audit(&record->row, what, detail, al_now(links->parts.clock).wall_ms);
	struct al_buf plain;
	struct al_vault_write writes[2] = { { .kind = kind, .link = &record->row, .plain = &plain },
		{ .kind = AL_AUDIT_INSERT, .audit = &audit } };
	al_rc rc;

	al_buf_init(&plain, AL_SEALED_MAX);
	if ((kind == AL_LINK_INSERT || kind == AL_LINK_SWAP) && !al_kept_pack(&record->kept, &plain))
		rc = al_fail_memory(err);
	else
		rc = al_vault_commit(links->parts.vault, writes, what == NULL ? 1 : 2, err);
	al_buf_clear(&plain);
	return rc;
}

int32_t al_link_set_state(struct al_link_row *row, int64_t state, int64_t reason)
{
	bool changed = row->state != state || (state == ACCTLINK_STATE_RELINK_REQUIRED && row->reason != reason);
	int64_t before = row->state;

	/* Its grant is another link's: what an old refresh brings or fails to bring changes
	 * nothing, only a new consent does. */
	if (before == ACCTLINK_STATE_SUPERSEDED && state != ACCTLINK_STATE_UNLINKING)
		return 0;
	row->state = state;
	row->reason = reason;
	if (!changed)
		return 0;
	switch (state) {
	case ACCTLINK_STATE_LINKED: return before == 0 ? ACCTLINK_EVENT_LINKED : ACCTLINK_EVENT_HEALED;
	case ACCTLINK_STATE_STALE: return ACCTLINK_EVENT_STALE;
	case ACCTLINK_STATE_RELINK_REQUIRED: return ACCTLINK_EVENT_RELINK_REQUIRED;
	case ACCTLINK_STATE_SUPERSEDED: return ACCTLINK_EVENT_SUPERSEDED;
	default: return ACCTLINK_EVENT_UNLINKED;
	}
}

/* ---- tasks of one step ------------------------------------------------------ */

struct simple_task {
	struct al_task task;
	struct al_links *links;
	void *subject;
};

static void simple_ended(struct al_task *task)
{
	free(task);
}

static al_rc start_simple(struct al_links *links, const struct al_step *steps, void *subject, acctlink_error *err)
{
	struct simple_task *task = al_new(sizeof(*task));

	if (task == NULL)
		return al_fail_memory(err);
	al_task_init(&task->task, links->parts.pool, steps, simple_ended);
	task->links = links;
	task->subject = subject;
	al_task_start(&task->task, 0);
	return ACCTLINK_OK;
}

/* ---- inspect ------------------------------------------------------------------ */

static void release_inspect(struct al_call *call)
{
	struct al_inspect_call *inspect = (struct al_inspect_call *)call;

	al_buf_clear(&inspect->owner_key);
	al_link_row_clear(&inspect->row);
	free(inspect);
}

void al_inspect_call_free(struct al_inspect_call **call)
{
	if (*call != NULL)
		release_inspect(&(*call)->call);
	*call = NULL;
}

struct al_inspect_call *al_inspect_call_new(void)
{
	struct al_inspect_call *call = al_new(sizeof(*call));

	if (call != NULL)
		al_link_row_init(&call->row);
	return call;
}

static al_rc not_linked(acctlink_error *err)
{
	return al_fail(err, ACCTLINK_NOT_LINKED, NULL, "there is no such link; begin a consent");
}

/* An open claim whose owner is dead is what the next refresh will take it for. */
static void show_dead_claim(struct al_links *links, struct al_link_row *row)
{
	if (row->claim_outcome != AL_CLAIM_OPEN || al_claim_alive(links, row))
		return;
	row->unknown_sent_at = al_unknown_sent_at(row);
	row->claim_outcome = AL_CLAIM_NONE;
}

static enum al_step_result step_inspect(struct al_task *base)
{
	struct simple_task *task = (struct simple_task *)base;
	struct al_inspect_call *call = task->subject;
	acctlink_error err = { 0 };
	al_rc rc = al_vault_find_link(task->links->parts.vault, &call->owner_key, &call->row, NULL, &err);

	if (rc == AL_ABSENT
		|| (rc == ACCTLINK_OK && call->link_id[0] != '\0' && strcmp(call->link_id, call->row.id) != 0))
		rc = not_linked(&err);
	if (rc == ACCTLINK_OK)
		show_dead_claim(task->links, &call->row);
	al_call_finish(&call->call, rc, &err);
	return AL_STEP_END;
}

/* Begins a call and starts its task; cleans up if either fails. */
static al_rc begin_call(struct al_links *links, struct al_call *call, void (*release)(struct al_call *),
	const struct al_step *steps, acctlink_error *err)
{
	al_rc rc = al_call_begin(links->parts.calls, call, release, err);

	if (rc != ACCTLINK_OK) {
		release(call);
		return rc;
	}
	rc = start_simple(links, steps, call, err);
	if (rc != ACCTLINK_OK) {
		al_call_finish(call, rc, err);
		al_call_unref(call);
	}
	return rc;
}

al_rc al_links_inspect(struct al_links *links, struct al_inspect_call *call, acctlink_error *err)
{
	static const struct al_step steps[] = { { "inspect", step_inspect } };

	return begin_call(links, &call->call, release_inspect, steps, err);
}

/* ---- list ------------------------------------------------------------------------ */

static void release_list(struct al_call *call)
{
	struct al_list_call *list = (struct al_list_call *)call;

	al_buf_clear(&list->user);
	free(list->items);
	free(list);
}

void al_list_call_free(struct al_list_call **call)
{
	if (*call != NULL)
		release_list(&(*call)->call);
	*call = NULL;
}

struct al_list_call *al_list_call_new(unsigned limit)
{
	struct al_list_call *call = al_new(sizeof(*call));

	if (call == NULL)
		return NULL;
	call->limit = limit < AL_LIST_PAGE_MAX ? limit : AL_LIST_PAGE_MAX;
	call->items = calloc(call->limit, sizeof(*call->items));
	al_buf_init(&call->user, 1024);
	if (call->items == NULL) {
		free(call);
		return NULL;
	}
	return call;
}

static bool list_one(void *ctx, struct al_link_row *row)
{
	struct al_list_call *call = ctx;
	acctlink_list_item *item;

	if (call->count == call->limit) {
		call->more = true;
		return false;
	}
	item = &call->items[call->count++];
	item->state = (int32_t)row->state;
	item->reason = (int32_t)row->reason;
	item->epoch = (uint64_t)row->epoch;
	item->generation = (uint64_t)row->generation;
	item->bearer_expires_at_ms = row->bearer_end;
	item->authorized_at_ms = row->authorized_at;
	memcpy(item->link_id, row->id, sizeof(row->id));
	memcpy(item->provider, al_buf_text(&row->provider), row->provider.len + 1);
	memcpy(item->institution, al_buf_text(&row->institution), row->institution.len + 1);
	return true;
}

static enum al_step_result step_list(struct al_task *base)
{
	struct simple_task *task = (struct simple_task *)base;
	struct al_list_call *call = task->subject;
	struct al_link_visit visit = { .each = list_one, .ctx = call, .limit = call->limit + 1 };
	acctlink_error err = { 0 };
	al_rc rc = al_store_list_user(al_vault_store(task->links->parts.vault), &call->user, call->after, &visit, &err);

	al_call_finish(&call->call, rc, &err);
	return AL_STEP_END;
}

al_rc al_links_list(struct al_links *links, struct al_list_call *call, acctlink_error *err)
{
	static const struct al_step steps[] = { { "list", step_list } };

	return begin_call(links, &call->call, release_list, steps, err);
}

/* ---- report_rejected --------------------------------------------------------------- */

enum { REPORT_WRITE };

struct report_task {
	struct al_task task;
	struct al_links *links;
	struct al_rejected report;
	int tries;
};

static void report_ended(struct al_task *base)
{
	struct report_task *task = (struct report_task *)base;

	al_buf_clear(&task->report.owner_key);
	free(task);
}

static al_rc write_report(struct report_task *task, acctlink_error *err)
{
	struct al_record record;
	char detail[96];
	al_rc rc;

	al_record_init(&record);
	rc = al_record_read(task->links, &task->report.owner_key, NULL, &record, err);
	if (rc != ACCTLINK_OK)
		goto out;
	if ((task->report.link_id[0] != '\0' && strcmp(task->report.link_id, record.row.id) != 0)
		|| task->report.generation != al_bearer_generation(&record)
		|| task->report.generation <= record.row.rejected_generation)
		goto out; /* of another link, or of an older generation: changes nothing */
	record.row.rejected_generation = task->report.generation;
	record.row.rejected_at = al_now(task->links->parts.clock).wall_ms;
	(void)snprintf(detail, sizeof(detail), "http %d code %s", task->report.http_status, task->report.code);
	rc = al_links_commit(task->links, AL_LINK_MARK, &record, "rejected", detail, err);
	/* A flight that read the row before must not hold that bearer again. */
	if (rc == ACCTLINK_OK)
		al_cache_drop(task->links->cache, &record.row.owner_key, record.row.change);
out:
	al_record_clear(&record);
	return rc;
}

static enum al_step_result step_report(struct al_task *base)
{
	struct report_task *task = (struct report_task *)base;
	acctlink_error err = { 0 };
	al_rc rc = write_report(task, &err);

	task->tries++;
	if (rc == AL_CONFLICT)
		return al_go(base, REPORT_WRITE);
	if (rc == ACCTLINK_STORE_DOWN && !al_calls_closed(task->links->parts.calls)) {
		if (task->tries == 1)
			al_log(task->links->parts.log, ACCTLINK_LOG_WARNING,
				"a rejected bearer can't be noted in the store yet: %s", err.message);
		return al_wait_ms(base, REPORT_WRITE, 1000);
	}
	if (rc != ACCTLINK_OK && rc != AL_ABSENT)
		al_log(task->links->parts.log, ACCTLINK_LOG_ERROR, "a rejected bearer could not be noted: %s",
			err.message);
	al_cache_forget_rejected(task->links->cache, &task->report.owner_key, task->report.generation);
	return AL_STEP_END;
}

al_rc al_links_report_rejected(struct al_links *links, const struct al_rejected *report, acctlink_error *err)
{
	static const struct al_step steps[] = { { "report", step_report } };
	struct report_task *task;

	if (!al_cache_note_rejected(links->cache, &report->owner_key, report->link_id, report->generation))
		return ACCTLINK_OK; /* known already, or about an older generation */
	task = al_new(sizeof(*task));
	if (task == NULL)
		return al_fail_memory(err);
	al_task_init(&task->task, links->parts.pool, steps, report_ended);
	task->links = links;
	task->report = *report;
	al_buf_init(&task->report.owner_key, report->owner_key.max);
	if (!al_buf_copy(&task->report.owner_key, &report->owner_key)) {
		free(task);
		return al_fail_memory(err);
	}
	al_task_start(&task->task, REPORT_WRITE);
	return ACCTLINK_OK;
}
