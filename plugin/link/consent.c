/* SPDX-License-Identifier: MIT
 * A consent's token set becomes generation 1 of a new link, or the next epoch
 * of one that is there: one transaction with the flow's own row, so that a
 * crash leaves both or neither. Runs on a worker, under the flow room's claim.
 */
#include "link/link_int.h"

#include <string.h>

enum { CONFLICT_TRIES = 20, OTHERS_MAX = 8, SAME_SUBJECT_MAX = 256 };

/* What one commit writes: the link or a tombstone, the flow, and other links
 * that lose their grant. */
struct batch {
	struct al_links *links;
	struct al_consent *consent;
	struct al_record record;
	struct al_record tombstone;
	struct al_link_row others[OTHERS_MAX];
	size_t other_count;
	struct al_buf plain;
	struct al_buf tombstone_plain;
	bool renewed;
	int64_t former_epoch; /* of the link that is renewed */
	int64_t former_generation;
	bool subject_refused;
	int32_t event;
};

static void batch_init(struct batch *batch, struct al_links *links, struct al_consent *consent)
{
	memset(batch, 0, sizeof(*batch));
	batch->links = links;
	batch->consent = consent;
	al_record_init(&batch->record);
	al_record_init(&batch->tombstone);
	for (size_t i = 0; i < OTHERS_MAX; i++)
		al_link_row_init(&batch->others[i]);
	al_buf_init(&batch->plain, AL_SEALED_MAX);
	al_buf_init(&batch->tombstone_plain, AL_SEALED_MAX);
}

static void batch_clear(struct batch *batch)
{
	al_record_clear(&batch->record);
	al_record_clear(&batch->tombstone);
	for (size_t i = 0; i < OTHERS_MAX; i++)
		al_link_row_clear(&batch->others[i]);
	al_buf_clear(&batch->plain);
	al_buf_clear(&batch->tombstone_plain);
}

static bool same_text(const struct al_buf *a, const char *text)
{
	return a->len == strlen(text) && memcmp(al_buf_text(a), text, a->len) == 0;
}

/* ---- other links of the same bank login ------------------------------------------ */

static bool same_bytes(const struct al_buf *a, const struct al_buf *b)
{
	return a->len == b->len && memcmp(al_buf_text(a), al_buf_text(b), a->len) == 0;
}

/* A subject is unique within one bank only: that of another institution is another login. */
static bool collect_other(void *ctx, struct al_link_row *row)
{
	struct batch *batch = ctx;
	const struct al_link_row *own = &batch->record.row;

	if (same_bytes(&row->owner_key, &own->owner_key) || !same_bytes(&row->institution, &own->institution))
		return true;
	if (batch->other_count == OTHERS_MAX)
		return false;
	if (al_link_row_copy(&batch->others[batch->other_count], row))
		batch->other_count++;
	return true;
}

static al_rc find_others(struct batch *batch, acctlink_error *err)
{
	struct al_link_visit visit = { .each = collect_other, .ctx = batch, .limit = SAME_SUBJECT_MAX };
	const struct al_link_row *row = &batch->record.row;

	batch->other_count = 0;
	if (row->subject.len == 0)
		return ACCTLINK_OK;
	return al_store_list_subject(
		al_vault_store(batch->links->parts.vault), &row->issuer, &row->client, &row->subject, &visit, err);
}

/* ---- the link's row ---------------------------------------------------------------- */

static bool fill_new_row(struct batch *batch, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(batch->consent->provider);
	struct al_link_row *row = &batch->record.row;
	unsigned char id[AL_ID_LEN / 2];

	if (al_random(id, sizeof(id), err) != ACCTLINK_OK)
		return false;
	al_hex(row->id, id, sizeof(id));
	return al_owner_key(&row->owner_key, batch->consent->user, al_str(config->name), batch->consent->institution)
		&& al_buf_set(&row->user, batch->consent->user.data, batch->consent->user.len)
		&& al_buf_set(&row->provider, config->name, strlen(config->name))
		&& al_buf_set(&row->institution, batch->consent->institution.data, batch->consent->institution.len);
}

/* While the new id_token can't be checked, a bearer of the former consent that is
 * good goes on being served: it is the same login's, or the link ends at the check. */
static bool keeps_old_bearer(const struct batch *batch)
{
	const struct al_consent *consent = batch->consent;

	return batch->renewed && consent->verdict == AL_ID_NO_KEY && !consent->new_subject_ok
		&& al_bearer_usable(&batch->record, consent->received_wall, 0);
}

static void drop_old_bearer(struct al_record *record)
{
	al_buf_clear(&record->kept.old_bearer);
	record->row.bearer_check = AL_BEARER_MISSING;
	record->row.bearer_end = 0;
}

/* A new consent stands for itself: else nothing of the former chain is carried over. */
static bool start_epoch(struct batch *batch, acctlink_error *err)
{
	struct al_consent *consent = batch->consent;
	const struct al_provider_config *config = al_provider_config(consent->provider);
	struct al_link_row *row = &batch->record.row;
	struct al_kept *kept = &batch->record.kept;
	const char *issuer = config->issuer == NULL ? "" : config->issuer;
	unsigned char client[32];

	if (!keeps_old_bearer(batch))
		drop_old_bearer(&batch->record);
	al_buf_clear(&kept->refresh_token);
	al_buf_clear(&kept->sibling.refresh_token);
	kept->sibling.present = false;
	kept->parent_generation = 0;
	kept->made_by_attempt = 0;
	kept->last_lifetime = 0;
	kept->auth_time = consent->verdict == AL_ID_GOOD ? consent->claims->auth_time : 0;
	row->state = 0; /* also one that was superseded begins anew */
	row->refresh_end = 0;
	row->epoch++;
	row->authorized_at = consent->received_wall;
	row->consent_end = config->consent_lifetime_ms > 0
		? al_add_ms(consent->received_wall, config->consent_lifetime_ms)
		: 0;
	if (al_provider_fingerprint(consent->provider, client, err) != ACCTLINK_OK)
		return false;
	if (consent->verdict == AL_ID_GOOD || consent->new_subject_ok)
		if (!al_buf_copy(&row->subject, &consent->claims->subject))
			return false;
	return al_buf_set(&kept->nonce, consent->nonce, strlen(consent->nonce))
		&& al_buf_copy(&row->scope, consent->scope_asked) && al_buf_set(&row->issuer, issuer, strlen(issuer))
		&& al_buf_set(&row->client, client, sizeof(client));
}

static al_rc build_link(struct batch *batch, acctlink_error *err)
{
	struct al_consent *consent = batch->consent;
	const struct al_provider_config *config = al_provider_config(consent->provider);
	struct al_record *record = &batch->record;

	if ((!batch->renewed && !fill_new_row(batch, err)) || !start_epoch(batch, err)
		|| !al_keep_take_set(record, config, consent->set, consent->received_wall, consent->verdict,
			batch->links->parts.log))
		return al_fail_memory(err);
	record->row.rejected_generation = 0;
	record->row.failures = 0;
	batch->event = al_keep_judge(record, config, consent->received_wall);
	if (record->kept.refresh_token.len == 0)
		record->row.reason = ACCTLINK_REASON_NO_REFRESH_TOKEN;
	return al_kept_pack(&record->kept, &batch->plain) ? find_others(batch, err) : al_fail_memory(err);
}

/* ---- refused by subject --------------------------------------------------------------- */

static bool other_subject(const struct batch *batch)
{
	const struct al_consent *consent = batch->consent;
	const struct al_buf *known = &batch->record.row.subject;

	return batch->renewed && !consent->new_subject_ok && consent->verdict == AL_ID_GOOD && known->len > 0
		&& !same_text(known, al_buf_text(&consent->claims->subject));
}

/* They lose their grant: by policy, or since the provider keeps one per user. */
static bool supersedes_others(const struct batch *batch)
{
	const struct al_provider_config *config = al_provider_config(batch->consent->provider);

	return batch->other_count > 0 && (config->shared_subject == AL_SUBJECT_MOVE || config->one_grant_per_user);
}

static bool refused_by_policy(const struct batch *batch)
{
	return batch->other_count > 0
		&& al_provider_config(batch->consent->provider)->shared_subject == AL_SUBJECT_REFUSE;
}

static al_rc build_refusal(struct batch *batch, acctlink_error *err)
{
	struct al_consent *consent = batch->consent;

	batch->subject_refused = true;
	batch->other_count = 0;
	if (!al_keep_make_tombstone(batch->links, consent->provider, consent->user, consent->institution, consent->set,
		    &batch->tombstone, err)
		|| !al_kept_pack(&batch->tombstone.kept, &batch->tombstone_plain))
		return al_fail_memory(err);
	return ACCTLINK_OK;
}

/* ---- the commit --------------------------------------------------------------------------- */

static uint32_t result_flags(const struct batch *batch)
{
	uint32_t flags = batch->renewed ? ACCTLINK_CALLBACK_RENEWED : 0;

	if (batch->record.row.bearer_check != AL_BEARER_GOOD)
		flags |= ACCTLINK_CALLBACK_UNCHECKED;
	if (supersedes_others(batch))
		flags |= ACCTLINK_CALLBACK_SUPERSEDES;
	return flags;
}

static void fill_flow(struct batch *batch, struct al_consent_end *end)
{
	struct al_flow_row *flow = batch->consent->flow;
	const struct al_link_row *row = &batch->record.row;

	end->shared = batch->subject_refused && !other_subject(batch);
	end->rc = batch->subject_refused ? ACCTLINK_SUBJECT_CHANGED : ACCTLINK_OK;
	end->flags = batch->subject_refused ? 0 : result_flags(batch) | end->flags;
	if (batch->subject_refused && !batch->renewed)
		end->link_id[0] = '\0'; /* no link came to be */
	else
		memcpy(end->link_id, row->id, sizeof(end->link_id));
	end->epoch = batch->subject_refused ? batch->former_epoch : row->epoch;
	end->generation = batch->subject_refused ? batch->former_generation : row->generation;
	flow->phase = batch->subject_refused ? AL_FLOW_FAILED : AL_FLOW_DONE;
	flow->result = end->rc;
	flow->result_flags = (int64_t)end->flags;
	memcpy(flow->link_id, end->link_id, sizeof(flow->link_id));
	flow->epoch = end->epoch;
	flow->generation = end->generation;
}

static al_rc commit(struct batch *batch, acctlink_error *err)
{
	int64_t now = batch->consent->received_wall;
	struct al_audit_row audit = al_links_audit(&batch->record.row,
		batch->subject_refused   ? "subject_changed"
			: batch->renewed ? "renewed"
					 : "linked",
		"", now);
	struct al_audit_row lost[OTHERS_MAX];
	struct al_vault_write writes[3 + 2 * OTHERS_MAX] = {
		{ .kind = AL_FLOW_SWAP, .flow = batch->consent->flow, .plain = batch->consent->flow_plain },
		{ .kind = AL_AUDIT_INSERT, .audit = &audit },
		{ .kind = batch->renewed ? AL_LINK_SWAP : AL_LINK_INSERT,
			.link = &batch->record.row,
			.plain = &batch->plain }
	};
	size_t count = 3;

	if (batch->subject_refused) {
		writes[2].kind = AL_LINK_INSERT;
		writes[2].link = &batch->tombstone.row;
		writes[2].plain = &batch->tombstone_plain;
	}
	for (size_t i = 0; supersedes_others(batch) && i < batch->other_count; i++) {
		(void)al_link_set_state(&batch->others[i], ACCTLINK_STATE_SUPERSEDED, ACCTLINK_REASON_NONE);
		batch->others[i].due_at = 0;
		lost[i] = al_links_audit(&batch->others[i], "superseded", "", now);
		writes[count++] = (struct al_vault_write){ .kind = AL_LINK_MARK, .link = &batch->others[i] };
		writes[count++] = (struct al_vault_write){ .kind = AL_AUDIT_INSERT, .audit = &lost[i] };
	}
	return al_vault_commit(batch->links->parts.vault, writes, count, err);
}

static void tell(struct batch *batch)
{
	struct al_links *links = batch->links;

	if (batch->subject_refused) {
		al_links_start_revocation(links, batch->tombstone.row.id);
		return;
	}
	al_cache_drop(links->cache, &batch->record.row.owner_key, batch->record.row.change);
	al_links_event(links, batch->renewed ? ACCTLINK_EVENT_RENEWED : ACCTLINK_EVENT_LINKED, &batch->record.row);
	if (batch->event != 0 && batch->event != ACCTLINK_EVENT_LINKED && batch->event != ACCTLINK_EVENT_HEALED)
		al_links_event(links, batch->event, &batch->record.row);
	for (size_t i = 0; i < batch->other_count; i++) {
		if (batch->others[i].state != ACCTLINK_STATE_SUPERSEDED)
			continue;
		al_cache_drop(links->cache, &batch->others[i].owner_key, batch->others[i].change);
		al_links_event(links, ACCTLINK_EVENT_SUPERSEDED, &batch->others[i]);
	}
}

/* The flow row is compared in the same commit: did it, or only the link, move? */
static al_rc flow_unchanged(struct al_links *links, const struct al_flow_row *flow, acctlink_error *err)
{
	struct al_flow_row now;
	al_rc rc;

	al_flow_row_init(&now);
	rc = al_vault_get_flow(links->parts.vault, &flow->state_hash, &now, NULL, err);
	if (rc == AL_ABSENT || (rc == ACCTLINK_OK && now.change != flow->change))
		rc = AL_CONFLICT;
	al_flow_row_clear(&now);
	return rc;
}

/* A link whose tokens can't be opened any more (its key is gone) is not lost for
 * that: they are what the new consent replaces. */
static al_rc read_former(
	struct al_links *links, const struct al_buf *owner_key, struct al_record *record, acctlink_error *err)
{
	al_rc rc = al_record_read(links, owner_key, NULL, record, err);

	if ((rc != ACCTLINK_BAD_KEY && rc != ACCTLINK_BAD_STORE) || record->row.id[0] == '\0')
		return rc;
	al_log(links->parts.log, ACCTLINK_LOG_WARNING, "link %s has a new consent; its former tokens can't be read: %s",
		record->row.id, err->message);
	al_kept_clear(&record->kept);
	record->row.bearer_check = AL_BEARER_MISSING;
	return ACCTLINK_OK;
}

static al_rc try_once(
	struct al_links *links, struct al_consent *consent, struct al_consent_end *end, acctlink_error *err)
{
	struct al_buf owner_key;
	struct batch batch;
	al_rc rc;

	batch_init(&batch, links, consent);
	if (!al_owner_key(&owner_key, consent->user, al_str(al_provider_config(consent->provider)->name),
		    consent->institution)) {
		rc = al_fail_memory(err);
		goto out;
	}
	rc = read_former(links, &owner_key, &batch.record, err);
	batch.renewed = rc == ACCTLINK_OK;
	batch.former_epoch = batch.record.row.epoch;
	batch.former_generation = batch.record.row.generation;
	if (rc != ACCTLINK_OK && rc != AL_ABSENT)
		goto out;
	if (other_subject(&batch)) {
		rc = build_refusal(&batch, err);
	} else {
		rc = build_link(&batch, err);
		if (rc == ACCTLINK_OK && refused_by_policy(&batch))
			rc = build_refusal(&batch, err);
	}
	if (rc != ACCTLINK_OK)
		goto out;
	fill_flow(&batch, end);
	rc = commit(&batch, err);
	if (rc == ACCTLINK_OK)
		tell(&batch);
out:
	al_buf_clear(&owner_key);
	batch_clear(&batch);
	return rc;
}

al_rc al_links_keep_consent(
	struct al_links *links, struct al_consent *consent, struct al_consent_end *end, acctlink_error *err)
{
	al_rc rc = AL_CONFLICT;
	uint32_t given = end->flags;

	for (int tries = 0; rc == AL_CONFLICT && tries < CONFLICT_TRIES; tries++) {
		end->flags = given;
		rc = try_once(links, consent, end, err);
		if (rc != AL_CONFLICT)
			return rc;
		rc = flow_unchanged(links, consent->flow, err);
		if (rc != ACCTLINK_OK)
			return rc;
		rc = AL_CONFLICT;
	}
	return al_fail(err, ACCTLINK_STORE_DOWN, "store", "the row kept changing while a consent was to be saved");
}
