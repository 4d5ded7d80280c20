/* SPDX-License-Identifier: MIT
 * The store room: durable rows with compare-and-swap. Knows rows (a key, some
 * plain fields, one sealed blob) and nothing of tokens. The front in store.c
 * checks arguments; a table of functions serves SQLite now, others later.
 * Every call may block on the disk; none is made with a lock held by others.
 */
#ifndef AL_STORE_H
#define AL_STORE_H

#include "base/base.h"

#define AL_STORE_SCHEMA 1
#define AL_ID_LEN 32 /* 128 random bits in hex */

/* A blob holds a link's set, a sibling and all that is left to revoke, each of up to 1 MiB. */
#define AL_SEALED_MAX ((size_t)32 * 1024 * 1024)

enum al_claim_outcome { AL_CLAIM_NONE, AL_CLAIM_OPEN };
enum al_bearer_check { AL_BEARER_UNCHECKED, AL_BEARER_GOOD, AL_BEARER_BAD, AL_BEARER_MISSING };

/* One link. Texts are al_buf with their bounds set by al_link_row_init. */
struct al_link_row {
	char id[AL_ID_LEN + 1];
	struct al_buf owner_key; /* user, provider, institution, length-prefixed */
	struct al_buf user;
	struct al_buf provider;
	struct al_buf institution;
	int64_t epoch;
	int64_t generation;
	int64_t state; /* ACCTLINK_STATE_… */
	int64_t reason;
	struct al_buf issuer;
	struct al_buf client; /* fingerprint, 32 bytes */
	struct al_buf subject;
	char claim_owner[AL_ID_LEN + 1];
	struct al_buf claim_host; /* machine and boot id */
	int64_t claim_attempt;    /* only grows */
	int64_t claim_renewals;
	int64_t claim_lease_end; /* boot ms of claim_host */
	int64_t claim_sent_at;   /* wall ms; 0: not sent */
	int64_t claim_outcome;
	int64_t unknown_sent_at; /* wall ms of the first send of this generation whose outcome is unknown; 0 */
	struct al_buf claim_key_id;
	int64_t rejected_generation;
	int64_t rejected_at;
	int64_t due_at;     /* wall ms of the next refresh ahead of time; 0: none */
	int64_t not_before; /* wall ms: back-off */
	int64_t failures;   /* in a row */
	int64_t last_http_status;
	struct al_buf last_error;
	int64_t bearer_from; /* wall ms of receipt */
	int64_t bearer_end;  /* wall ms; 0: none */
	int64_t bearer_check;
	int64_t refresh_end; /* wall ms; 0: unknown */
	int64_t consent_end;
	int64_t authorized_at;
	struct al_buf scope;
	int64_t revoke_at; /* wall ms of the next try; 0: nothing to revoke */
	int64_t revoke_until;
	int64_t revoke_tries;
	int64_t change; /* the store's change number of the last write: compared by swaps */
	struct al_buf key_id;
	struct al_buf sealed;
};
void al_link_row_init(struct al_link_row *row);
void al_link_row_clear(struct al_link_row *row);
bool al_link_row_copy(struct al_link_row *to, const struct al_link_row *from);

enum al_flow_phase { AL_FLOW_PENDING, AL_FLOW_EXCHANGING, AL_FLOW_DONE, AL_FLOW_FAILED };

struct al_flow_row {
	struct al_buf state_hash; /* SHA-256 of state, the key */
	struct al_buf user;
	struct al_buf provider;
	struct al_buf institution;
	int64_t phase;
	int64_t created_at;
	int64_t expires_at; /* swept after */
	char claim_owner[AL_ID_LEN + 1];
	struct al_buf claim_host;
	int64_t claim_lease_end;
	int64_t sent_at; /* 0: the code was not sent */
	int64_t result;  /* acctlink_status of the first callback */
	int64_t result_flags;
	struct al_buf result_code; /* the provider's error code */
	char link_id[AL_ID_LEN + 1];
	int64_t epoch;
	int64_t generation;
	int64_t change;
	struct al_buf key_id;
	struct al_buf sealed;
};
void al_flow_row_init(struct al_flow_row *row);
void al_flow_row_clear(struct al_flow_row *row);

struct al_audit_row {
	int64_t at;
	const char *link_id; /* may be "" */
	acctlink_str user;
	const char *what; /* a fixed word: "linked", "refreshed", … */
	int64_t epoch;
	int64_t generation;
	const char *detail; /* no secrets; may be "" */
};

enum al_write_kind {
	AL_LINK_INSERT, /* CONFLICT if the id, or the owner_key of a link not being unlinked, exists */
	AL_LINK_SWAP,   /* all fields; CONFLICT if the row's change number differs from row->change */
	AL_LINK_MARK,   /* as SWAP, but key_id and sealed stay as they are; CONFLICT as well if
	                 * epoch or generation differ from the row's, since the seal is bound to them */
	AL_LINK_DELETE, /* compares too */
	AL_FLOW_INSERT,
	AL_FLOW_SWAP,
	AL_FLOW_MARK,
	AL_FLOW_DELETE,
	AL_AUDIT_INSERT
};
struct al_write {
	enum al_write_kind kind;
	struct al_link_row *link;
	struct al_flow_row *flow;
	const struct al_audit_row *audit;
};

struct al_store;
struct al_store_ops;

/* Opens nothing yet but checks: creates folder (0700) and file (0600) if
 * missing, migrates, refuses a newer version or a wrong owner or mode, closes.
 * As root on another user's store it makes the file for that user and opens
 * nothing. FORKED: this process was forked while another thread was just using
 * a store; SQLite can't work in such a child. */
al_rc al_store_new(const char *path, const struct al_log *log, const struct al_clock *clock, struct al_store **out,
	acctlink_error *err) AL_MUST_USE;
/* Closes this process's connections. In a forked child the parent's files and
 * locks stay untouched. */
void al_store_free(struct al_store **store);
/* For init, after first uses of the store and while nobody else uses it: closes
 * the connections, so that a child may be the first to use the store. */
void al_store_rest(struct al_store *store);

/* OK; AL_ABSENT; STORE_DOWN, BAD_STORE, NO_MEMORY; FORKED, in a child of the
 * process that used the store. The row must be initialised; its former
 * contents are replaced, or cleared unless OK. id and owner_key may be its own. */
al_rc al_store_get_link(
	struct al_store *store, const char *id, struct al_link_row *row, acctlink_error *err) AL_MUST_USE;
/* The one link of the owner key that is not being unlinked. */
al_rc al_store_find_link(struct al_store *store, const struct al_buf *owner_key, struct al_link_row *row,
	acctlink_error *err) AL_MUST_USE;
al_rc al_store_get_flow(struct al_store *store, const struct al_buf *state_hash, struct al_flow_row *row,
	acctlink_error *err) AL_MUST_USE;

/* Rows are handed to `each` one by one, after the statement has ended; each
 * returns false to stop. `row` is the callee's to move out of. */
struct al_link_visit {
	bool (*each)(void *ctx, struct al_link_row *row);
	void *ctx;
	unsigned limit; /* rows at most */
};
/* By user, id > after ("" from the start), in order of id, not UNLINKING. */
al_rc al_store_list_user(struct al_store *store, const struct al_buf *user, const char *after,
	const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* Of all users and in any state: id > after, in order of id. */
al_rc al_store_list_all(
	struct al_store *store, const char *after, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* Same issuer, client and subject, not UNLINKING and not SUPERSEDED. */
al_rc al_store_list_subject(struct al_store *store, const struct al_buf *issuer, const struct al_buf *client,
	const struct al_buf *subject, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* 0 < due_at <= until, earliest first. */
al_rc al_store_list_due(
	struct al_store *store, int64_t until, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* 0 < revoke_at <= until, earliest first. */
al_rc al_store_list_revocations(
	struct al_store *store, int64_t until, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* change > since, in order; only id, owner_key, state, epoch, generation,
 * rejected_generation and change are set. */
al_rc al_store_list_changed(
	struct al_store *store, int64_t since, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* The store's newest change number. */
al_rc al_store_change(struct al_store *store, int64_t *change, acctlink_error *err) AL_MUST_USE;
/* Deletes flows whose expires_at is before `now`, and the user's oldest
 * pending ones beyond `keep` (user may be NULL: none). At most 1,000 that
 * have ended a call; no commit if there is nothing to delete. */
al_rc al_store_sweep_flows(
	struct al_store *store, int64_t now, const struct al_buf *user, unsigned keep, acctlink_error *err) AL_MUST_USE;

/* Deletes all flows of a user, whatever their phase; *count tells how many. */
al_rc al_store_forget_flows(
	struct al_store *store, const struct al_buf *user, int64_t *count, acctlink_error *err) AL_MUST_USE;
/* Deletes audit rows of before `before`, at most 1,000 a call; no commit if the oldest are younger. */
al_rc al_store_sweep_audit(struct al_store *store, int64_t before, acctlink_error *err) AL_MUST_USE;

/* Small named values of the store itself (the vault's check value, what an
 * operator has paused). get: OK or AL_ABSENT. put: CONFLICT if the name exists.
 * drop: OK, also if there is none. */
al_rc al_store_get_meta(
	struct al_store *store, const char *name, struct al_buf *value, acctlink_error *err) AL_MUST_USE;
al_rc al_store_put_meta(
	struct al_store *store, const char *name, const struct al_buf *value, acctlink_error *err) AL_MUST_USE;
al_rc al_store_drop_meta(struct al_store *store, const char *name, acctlink_error *err) AL_MUST_USE;

/* All or nothing, durable when it returns OK (then each written row's change
 * is the new one). CONFLICT: a compare failed, nothing was written. If a commit
 * fails with an unknown outcome it is looked up, not repeated. STORE_DOWN: not
 * kept as far as can be seen; if the machine stops before the next commit, a
 * commit whose sync failed may yet turn up, whole. */
al_rc al_store_commit(struct al_store *store, struct al_write *writes, size_t count, acctlink_error *err) AL_MUST_USE;

/* ---- host.c: who owns a claim ---------------------------------------------- */
/* One per process and instance: a random id and a file beside the store that
 * the owner keeps locked (OFD lock) while it lives. */
struct al_owner;
al_rc al_owner_new(const char *store_path, struct al_owner **out, acctlink_error *err) AL_MUST_USE;
void al_owner_free(struct al_owner **owner); /* unlocks and removes the file */
const char *al_owner_id(const struct al_owner *owner);
const char *al_owner_host(const struct al_owner *owner); /* machine-id and boot id */
/* True if the claim's owner certainly lives no more: another boot, its file
 * unlocked or gone. False for ourselves and when in doubt. */
bool al_owner_is_dead(const struct al_owner *self, const char *id, const struct al_buf *host);

#endif
