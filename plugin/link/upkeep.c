/* SPDX-License-Identifier: MIT
 * The room's own work, one task per process: drops held bearers that another
 * process changed, takes up revocations that are due, sweeps old flows and audit rows. Runs
 * every poll_interval; a failing store is tried again at the next turn.
 */
#include "link/link_int.h"

#include <stdlib.h>

enum { CHANGES_AT_ONCE = 1000, REVOCATIONS_AT_ONCE = 16, SWEEP_EVERY_MS = 60000, SLICE_MS = 1000 };
enum { STEP_TURN };

struct upkeep {
	struct al_task task;
	struct al_links *links;
	int64_t seen;      /* change number up to which held bearers are checked; -1: not yet known */
	int64_t looked_at; /* monotonic ms; of the last look at the changes */
	int64_t swept_at;  /* monotonic ms */
	int64_t next_at;   /* monotonic ms */
	unsigned count;    /* rows of the last visit */
	bool down;         /* told the log already */
};

static bool visit_change(void *ctx, struct al_link_row *row)
{
	struct upkeep *upkeep = ctx;

	al_cache_row_changed(upkeep->links->cache, row);
	upkeep->seen = row->change;
	upkeep->count++;
	return true;
}

/* The newest number is read before the rows: what comes between is seen twice. */
static al_rc follow_changes(struct upkeep *upkeep, acctlink_error *err)
{
	struct al_store *store = al_vault_store(upkeep->links->parts.vault);
	struct al_link_visit visit = { .each = visit_change, .ctx = upkeep, .limit = CHANGES_AT_ONCE };
	int64_t newest = 0;
	int64_t now = al_monotonic_ms();
	al_rc rc = al_store_change(store, &newest, err);

	if (rc != ACCTLINK_OK)
		return rc;
	if (upkeep->seen < 0) /* nothing is held that is older than this process */
		upkeep->seen = newest;
	else if (now - upkeep->looked_at > AL_TOMBSTONE_MS / 2) /* the store was down, or this process stopped */
		al_cache_drop_all(upkeep->links->cache, newest);
	do {
		upkeep->count = 0;
		rc = al_store_list_changed(store, upkeep->seen, &visit, err);
		if (upkeep->count == CHANGES_AT_ONCE) /* the rows of one commit may lie on both pages */
			upkeep->seen--;
	} while (rc == ACCTLINK_OK && upkeep->count == CHANGES_AT_ONCE);
	if (rc != ACCTLINK_OK)
		return rc;
	if (newest > upkeep->seen)
		upkeep->seen = newest;
	al_cache_polled(upkeep->links->cache, upkeep->seen);
	upkeep->looked_at = now;
	return ACCTLINK_OK;
}

static bool visit_revocation(void *ctx, struct al_link_row *row)
{
	struct upkeep *upkeep = ctx;

	al_links_start_revocation(upkeep->links, row->id);
	return true;
}

static al_rc take_revocations(struct upkeep *upkeep, acctlink_error *err)
{
	struct al_link_visit visit = { .each = visit_revocation, .ctx = upkeep, .limit = REVOCATIONS_AT_ONCE };

	return al_store_list_revocations(
		al_vault_store(upkeep->links->parts.vault), al_now(upkeep->links->parts.clock).wall_ms, &visit, err);
}

static al_rc sweep(struct upkeep *upkeep, acctlink_error *err)
{
	const struct al_links_parts *parts = &upkeep->links->parts;
	struct al_store *store = al_vault_store(parts->vault);
	int64_t wall = al_now(parts->clock).wall_ms;
	int64_t now = al_monotonic_ms();
	al_rc rc;

	if (upkeep->swept_at != 0 && now - upkeep->swept_at < SWEEP_EVERY_MS)
		return ACCTLINK_OK;
	upkeep->swept_at = now;
	rc = al_store_sweep_flows(store, wall, NULL, 0, err);
	if (rc == ACCTLINK_OK && parts->audit_lifetime_ms > 0)
		rc = al_store_sweep_audit(store, wall - parts->audit_lifetime_ms, err);
	return rc;
}

static void do_turn(struct upkeep *upkeep)
{
	acctlink_error err = { 0 };
	al_rc rc = follow_changes(upkeep, &err);

	if (rc == ACCTLINK_OK && !upkeep->links->parts.leaves_queue)
		rc = take_revocations(upkeep, &err);
	if (rc == ACCTLINK_OK)
		rc = sweep(upkeep, &err);
	if (rc != ACCTLINK_OK && !upkeep->down)
		al_log(upkeep->links->parts.log, ACCTLINK_LOG_WARNING, "upkeep waits for the store: %s", err.message);
	upkeep->down = rc != ACCTLINK_OK;
}

static enum al_step_result step_turn(struct al_task *task)
{
	struct upkeep *upkeep = (struct upkeep *)task;
	int64_t now = al_monotonic_ms();
	int64_t left;

	if (al_calls_closed(upkeep->links->parts.calls))
		return AL_STEP_END;
	if (now >= upkeep->next_at) {
		do_turn(upkeep);
		upkeep->next_at = al_add_ms(al_monotonic_ms(), upkeep->links->parts.poll_interval_ms);
	}
	left = upkeep->next_at - now; /* in slices, so that shutdown is seen soon */
	return al_wait_ms(task, STEP_TURN, left < SLICE_MS ? left : SLICE_MS);
}

static void upkeep_ended(struct al_task *task)
{
	free(task);
}

al_rc al_links_start_upkeep(struct al_links *links, acctlink_error *err)
{
	static const struct al_step steps[] = { [STEP_TURN] = { "turn", step_turn } };
	struct upkeep *upkeep = al_new(sizeof(*upkeep));

	if (upkeep == NULL)
		return al_fail_memory(err);
	al_task_init(&upkeep->task, links->parts.pool, steps, upkeep_ended);
	upkeep->links = links;
	upkeep->seen = -1;
	al_task_start(&upkeep->task, STEP_TURN);
	return ACCTLINK_OK;
}
