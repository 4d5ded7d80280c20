/* SPDX-License-Identifier: MIT
 * The sealed part of a link as a struct and as bytes. Everything in here is a
 * secret and lives in wiped buffers.
 */
#include "link/link_int.h"

enum { KEPT_VERSION = 1 };

void al_kept_init(struct al_kept *kept)
{
	struct al_buf *texts[] = { &kept->access_token, &kept->id_token, &kept->refresh_token, &kept->old_bearer,
		&kept->sibling.refresh_token };

	*kept = (struct al_kept){ 0 };
	for (size_t i = 0; i < AL_COUNT(texts); i++)
		al_buf_init(texts[i], AL_TOKEN_MAX);
	al_buf_init(&kept->nonce, 128);
	for (size_t i = 0; i < AL_REVOKE_MAX; i++)
		al_buf_init(&kept->revoke[i].token, AL_TOKEN_MAX);
}

void al_kept_clear(struct al_kept *kept)
{
	al_buf_clear(&kept->access_token);
	al_buf_clear(&kept->id_token);
	al_buf_clear(&kept->refresh_token);
	al_buf_clear(&kept->old_bearer);
	al_buf_clear(&kept->nonce);
	al_buf_clear(&kept->sibling.refresh_token);
	for (size_t i = 0; i < AL_REVOKE_MAX; i++)
		al_buf_clear(&kept->revoke[i].token);
	al_kept_init(kept);
}

static bool pack_buf(struct al_buf *plain, const struct al_buf *field)
{
	return al_pack(plain, al_buf_text(field), field->len);
}

static bool pack_int(struct al_buf *plain, int64_t value)
{
	return al_pack_u64(plain, (uint64_t)value);
}

bool al_kept_pack(const struct al_kept *kept, struct al_buf *plain)
{
	al_buf_clear(plain);
	(void)pack_int(plain, KEPT_VERSION);
	(void)pack_buf(plain, &kept->access_token);
	(void)pack_buf(plain, &kept->id_token);
	(void)pack_int(plain, kept->bearer_kind);
	(void)pack_buf(plain, &kept->refresh_token);
	(void)pack_int(plain, kept->newest_end);
	(void)pack_int(plain, kept->made_by_attempt);
	(void)pack_int(plain, kept->parent_generation);
	(void)pack_buf(plain, &kept->old_bearer);
	(void)pack_int(plain, kept->old_generation);
	(void)pack_buf(plain, &kept->nonce);
	(void)pack_int(plain, kept->auth_time);
	(void)pack_int(plain, kept->last_lifetime);
	(void)pack_int(plain, kept->sibling.present);
	(void)pack_int(plain, kept->sibling.attempt);
	(void)pack_buf(plain, &kept->sibling.refresh_token);
	(void)pack_int(plain, (int64_t)kept->revoke_count);
	for (size_t i = 0; i < kept->revoke_count; i++) {
		(void)pack_int(plain, kept->revoke[i].is_access);
		(void)pack_buf(plain, &kept->revoke[i].token);
	}
	return !plain->failed;
}

static void unpack_buf(struct al_unpack *from, struct al_buf *field)
{
	acctlink_str text = al_unpack_field(from);

	if (!al_buf_set(field, text.data, text.len))
		from->failed = true;
}

static int64_t unpack_int(struct al_unpack *from)
{
	return (int64_t)al_unpack_u64(from);
}

static void unpack_revoke(struct al_unpack *from, struct al_kept *kept)
{
	uint64_t count = al_unpack_u64(from);

	if (count > AL_REVOKE_MAX) {
		from->failed = true;
		return;
	}
	for (size_t i = 0; i < count; i++) {
		kept->revoke[i].is_access = unpack_int(from) != 0;
		unpack_buf(from, &kept->revoke[i].token);
	}
	kept->revoke_count = (size_t)count;
}

al_rc al_kept_unpack(struct al_kept *kept, const struct al_buf *plain, acctlink_error *err)
{
	struct al_unpack from = { .data = (const unsigned char *)al_buf_text(plain), .len = plain->len };

	al_kept_clear(kept);
	if (unpack_int(&from) != KEPT_VERSION)
		return al_fail(
			err, ACCTLINK_BAD_STORE, "sealed row", "the row was written by another version of acctlink");
	unpack_buf(&from, &kept->access_token);
	unpack_buf(&from, &kept->id_token);
	kept->bearer_kind = unpack_int(&from);
	unpack_buf(&from, &kept->refresh_token);
	kept->newest_end = unpack_int(&from);
	kept->made_by_attempt = unpack_int(&from);
	kept->parent_generation = unpack_int(&from);
	unpack_buf(&from, &kept->old_bearer);
	kept->old_generation = unpack_int(&from);
	unpack_buf(&from, &kept->nonce);
	kept->auth_time = unpack_int(&from);
	kept->last_lifetime = unpack_int(&from);
	kept->sibling.present = unpack_int(&from) != 0;
	kept->sibling.attempt = unpack_int(&from);
	unpack_buf(&from, &kept->sibling.refresh_token);
	unpack_revoke(&from, kept);
	if (from.failed || from.at != from.len)
		return al_fail(err, ACCTLINK_BAD_STORE, "sealed row", "the row is damaged, or memory ran out");
	return ACCTLINK_OK;
}

void al_kept_drop_revoke(struct al_kept *kept, size_t index)
{
	al_buf_clear(&kept->revoke[index].token);
	for (size_t i = index; i + 1 < kept->revoke_count && i + 1 < AL_REVOKE_MAX; i++) {
		kept->revoke[i].is_access = kept->revoke[i + 1].is_access;
		al_buf_move(&kept->revoke[i].token, &kept->revoke[i + 1].token);
	}
	kept->revoke_count--;
}

void al_kept_add_revoke(struct al_kept *kept, struct al_buf *token, bool is_access, bool front)
{
	size_t at;

	if (token->len == 0)
		return;
	if (kept->revoke_count == AL_REVOKE_MAX)
		al_kept_drop_revoke(kept, AL_REVOKE_MAX - 1);
	at = kept->revoke_count;
	for (; front && at > 0; at--) {
		kept->revoke[at].is_access = kept->revoke[at - 1].is_access;
		al_buf_move(&kept->revoke[at].token, &kept->revoke[at - 1].token);
	}
	kept->revoke[at].is_access = is_access;
	al_buf_move(&kept->revoke[at].token, token);
	kept->revoke_count++;
}

const struct al_buf *al_kept_newest_bearer(const struct al_kept *kept, enum al_bearer_kind kind)
{
	return kind == AL_BEARER_ID_TOKEN ? &kept->id_token : &kept->access_token;
}

void al_record_init(struct al_record *record)
{
	al_link_row_init(&record->row);
	al_kept_init(&record->kept);
}

void al_record_clear(struct al_record *record)
{
	al_link_row_clear(&record->row);
	al_kept_clear(&record->kept);
}

al_rc al_record_read(struct al_links *links, const struct al_buf *owner_key, const char *id, struct al_record *record,
	acctlink_error *err)
{
	struct al_vault *vault = links->parts.vault;
	struct al_buf plain;
	al_rc rc;

	al_buf_init(&plain, AL_SEALED_MAX);
	rc = owner_key != NULL ? al_vault_find_link(vault, owner_key, &record->row, &plain, err)
			       : al_vault_get_link(vault, id, &record->row, &plain, err);
	if (rc == ACCTLINK_OK)
		rc = al_kept_unpack(&record->kept, &plain, err);
	al_buf_clear(&plain);
	return rc;
}
