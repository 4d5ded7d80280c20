/* SPDX-License-Identifier: MIT
 * The vault room: keys, and sealing of what the store keeps. AES-256-GCM under
 * a key derived per seal (HKDF-SHA256 with a random salt); additional data is
 * kind, row key, epoch, generation (both 0 for a flow, which is sealed once),
 * key id, user, provider, institution and client, so that a row copied over
 * another or given to somebody else does not open. Rooms above
 * reach the store through here only: no plain token set ever gets past this
 * point. Knows keys and nothing of SQL.
 */
#ifndef AL_VAULT_H
#define AL_VAULT_H

#include "store/store.h"

struct al_vault;

/* Reads the key files (mode 0600, own or root's; 32 bytes as 64 hex digits
 * with a newline, or "key_id:hex"). The first seals, all open. */
al_rc al_vault_new(
	char *const *key_files, struct al_store *store, struct al_vault **out, acctlink_error *err) AL_MUST_USE;
/* Wipes the keys. Does not free the store. */
void al_vault_free(struct al_vault **vault);
/* Checks that the store's sealed check value opens with one of our keys, and
 * makes it on a new store: BAD_KEY names the key id that is missing. For init:
 * the store is at rest afterwards. */
al_rc al_vault_check(struct al_vault *vault, acctlink_error *err) AL_MUST_USE;

/* As al_store_get_link and kin; plain gets the opened blob (wipe it). plain may
 * be NULL: the blob stays sealed and unread. BAD_KEY names the key id. */
al_rc al_vault_get_link(struct al_vault *vault, const char *id, struct al_link_row *row, struct al_buf *plain,
	acctlink_error *err) AL_MUST_USE;
al_rc al_vault_find_link(struct al_vault *vault, const struct al_buf *owner_key, struct al_link_row *row,
	struct al_buf *plain, acctlink_error *err) AL_MUST_USE;
al_rc al_vault_get_flow(struct al_vault *vault, const struct al_buf *state_hash, struct al_flow_row *row,
	struct al_buf *plain, acctlink_error *err) AL_MUST_USE;
/* Opens a row that a visit delivered. */
al_rc al_vault_open_link(
	struct al_vault *vault, const struct al_link_row *row, struct al_buf *plain, acctlink_error *err) AL_MUST_USE;
/* For lists, sweeps and change numbers, which hold no secrets. */
struct al_store *al_vault_store(struct al_vault *vault);

/* Seals `plain` into the row of an INSERT or SWAP, then al_store_commit. */
struct al_vault_write {
	enum al_write_kind kind;
	struct al_link_row *link;
	struct al_flow_row *flow;
	const struct al_audit_row *audit;
	const struct al_buf *plain; /* of INSERT and SWAP */
};
#define AL_VAULT_WRITES_MAX 32
al_rc al_vault_commit(
	struct al_vault *vault, const struct al_vault_write *writes, size_t count, acctlink_error *err) AL_MUST_USE;

#endif
