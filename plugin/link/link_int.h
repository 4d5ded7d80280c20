/* SPDX-License-Identifier: MIT
 * What only the link room and its tests see.
 */
#ifndef AL_LINK_INT_H
#define AL_LINK_INT_H

#include "link/link.h"

/* ---- set.c: the sealed part of a link --------------------------------------- */
#define AL_REVOKE_MAX 16

struct al_sibling { /* a set with the same parent as the current one */
	bool present;
	int64_t attempt;
	struct al_buf refresh_token;
};
struct al_revoke_item {
	bool is_access; /* token_type_hint */
	struct al_buf token;
};
struct al_kept {
	struct al_buf access_token; /* of the newest set */
	struct al_buf id_token;
	int64_t bearer_kind;         /* which of the two is the bearer, as configured when they came */
	struct al_buf refresh_token; /* the newest that came; carried over if none came */
	int64_t newest_end;          /* wall ms, by expires_in and caps, before the id_token's exp */
	int64_t made_by_attempt;     /* of the claim that brought the newest set */
	int64_t parent_generation;
	struct al_buf old_bearer; /* served while the newest set has no good bearer */
	int64_t old_generation;
	struct al_buf nonce;   /* of the consent */
	int64_t auth_time;     /* of the first id_token, seconds */
	int64_t last_lifetime; /* ms that expires_in last told; 0: never */
	struct al_sibling sibling;
	struct al_revoke_item revoke[AL_REVOKE_MAX];
	size_t revoke_count;
};
void al_kept_init(struct al_kept *kept);
void al_kept_clear(struct al_kept *kept);
bool al_kept_pack(const struct al_kept *kept, struct al_buf *plain);
al_rc al_kept_unpack(struct al_kept *kept, const struct al_buf *plain, acctlink_error *err) AL_MUST_USE;
/* Puts a token at the front (newest first) or end of what is left to revoke; a
 * full list drops its oldest. The token is moved away. */
void al_kept_add_revoke(struct al_kept *kept, struct al_buf *token, bool is_access, bool front);
void al_kept_drop_revoke(struct al_kept *kept, size_t index);
const struct al_buf *al_kept_newest_bearer(const struct al_kept *kept, enum al_bearer_kind kind);

/* One row with its opened blob. */
struct al_record {
	struct al_link_row row;
	struct al_kept kept;
};
void al_record_init(struct al_record *record);
void al_record_clear(struct al_record *record);
/* By owner key, or by id if owner_key is NULL. ABSENT or an error. */
al_rc al_record_read(struct al_links *links, const struct al_buf *owner_key, const char *id, struct al_record *record,
	acctlink_error *err) AL_MUST_USE;

/* ---- decide.c: what a row allows, a pure function ---------------------------- */
enum al_action {
	AL_DO_SERVE, /* the bearer is good enough */
	AL_DO_CHECK, /* the newest id_token waits for its check */
	AL_DO_REFRESH,
	AL_DO_WAIT, /* another owner's claim is open */
	AL_DO_FAIL  /* rc and err tell why */
};
struct al_decide_in {
	const struct al_record *record;
	const struct al_provider_config *config; /* NULL: the provider is not configured */
	const unsigned char *client;             /* fingerprint of the config in force */
	int64_t now_wall;
	int64_t min_ttl_ms;
	bool insist;      /* a new set is wanted, though the bearer be good */
	int64_t withheld; /* al_cache_withheld */
	bool claim_alive; /* the open claim's owner may still answer */
};
enum al_action al_decide(const struct al_decide_in *in, acctlink_error *err);
/* A bearer of the row that may be handed out at all. */
bool al_bearer_usable(const struct al_record *record, int64_t now_wall, int64_t withheld);
/* The generation that the servable bearer belongs to. */
int64_t al_bearer_generation(const struct al_record *record);
/* When a refresh of this generation was sent whose outcome nobody knows; 0: none. */
int64_t al_unknown_sent_at(const struct al_link_row *row);
int64_t al_margin(const struct al_record *record, const struct al_provider_config *config, int64_t min_ttl_ms);
/* Full-jitter back-off after `failures` failures in a row. */
int64_t al_backoff_ms(const struct al_provider_config *config, int64_t failures);

/* ---- bearer_cache.c ----------------------------------------------------------- */
struct al_cache;
al_rc al_cache_new(unsigned max, struct al_cache **out, acctlink_error *err) AL_MUST_USE;
void al_cache_free(struct al_cache **cache);
/* Where the texts of held bearers are kept. */
struct al_safe *al_cache_safe(const struct al_cache *cache);
struct al_bearer *al_cache_get(struct al_cache *cache, const struct al_buf *owner_key);
/* `change` is a change number of the store at which the bearer was known to be
 * current; a put that is older than a drop, or than what the poller has gone
 * through, is not taken. */
void al_cache_put(struct al_cache *cache, const struct al_buf *owner_key, struct al_bearer *bearer, int64_t change);
void al_cache_drop(struct al_cache *cache, const struct al_buf *owner_key, int64_t change);
/* Another process wrote this row: drops the bearer if the row no longer agrees. */
void al_cache_row_changed(struct al_cache *cache, const struct al_link_row *row);
void al_cache_polled(struct al_cache *cache, int64_t change);
/* Changes up to this one may have been missed. */
void al_cache_drop_all(struct al_cache *cache, int64_t change);
/* How long a tombstone stays in the store at least, so that each process sees it
 * among the changes; one that did not look for so long drops all it holds. */
#define AL_TOMBSTONE_MS (INT64_C(24) * 60 * 60 * 1000)
/* A report of the data API: the held bearer goes, the generation is noted. */
bool al_cache_note_rejected(
	struct al_cache *cache, const struct al_buf *owner_key, const char *link_id, int64_t generation);
/* Generations up to this one are not handed out, whatever the row says: the data
 * API refused it, or the link's held bearer has ended by BOOTTIME (link_id NULL:
 * refusals only). */
int64_t al_cache_withheld(
	struct al_cache *cache, const struct al_buf *owner_key, const char *link_id, int64_t now_boot);
void al_cache_forget_rejected(struct al_cache *cache, const struct al_buf *owner_key, int64_t generation);

/* ---- gate.c: when a provider is not asked at all ------------------------------- */
struct al_gates;
struct al_gates *al_gates_new(void);
void al_gates_free(struct al_gates **gates);
/* All as new: the config may have been mended. */
void al_gates_open(struct al_gates *gates);
/* OK, or CLIENT_REFUSED / PROVIDER_DOWN with err filled and a retry time. */
al_rc al_gate_check(struct al_gates *gates, const char *provider, int64_t now_boot, acctlink_error *err) AL_MUST_USE;
/* Tells how a refresh ended. True: this is the first of its kind, raise the alarm. */
bool al_gate_client_refused(struct al_gates *gates, const char *provider, int64_t now_boot);
/* False: too many definite refusals in a row, this one must not end a link; *alarm
 * tells whether it is the first of these. */
bool al_gate_refused(struct al_gates *gates, const char *provider, int64_t now_boot, bool *alarm);
void al_gate_accepted(struct al_gates *gates, const char *provider);

/* ---- refresh.c ------------------------------------------------------------------ */
struct al_flights;
al_rc al_flights_new(struct al_flights **out, acctlink_error *err) AL_MUST_USE;
void al_flights_free(struct al_flights **flights);

/* ---- keep.c ---------------------------------------------------------------------- */
/* What a refresh brought, on its way into the row. */
struct al_arrival {
	struct al_provider *provider;
	struct al_token_set *set;
	int64_t epoch; /* the parent's */
	int64_t generation;
	int64_t attempt;
	int64_t received_wall;
};
enum al_keep_end {
	AL_KEPT,           /* it is the current set */
	AL_KEPT_SIBLING,   /* a later attempt had won */
	AL_KEPT_TO_REVOKE, /* unlinked, or the subject changed */
	AL_KEPT_NOT        /* an older epoch's: dropped or queued for revocation */
};
/* Copies the set in as generation + 1. The set itself stays whole, since a
 * conflict repeats this on a fresh row. False: out of memory. */
bool al_keep_take_set(struct al_record *record, const struct al_provider_config *config, const struct al_token_set *set,
	int64_t received, enum al_id_verdict verdict, const struct al_log *log);
/* State, reason and times by what the newest bearer is worth; the event, or 0. */
int32_t al_keep_judge(struct al_record *record, const struct al_provider_config *config, int64_t now);
/* A row that is only there to have its tokens revoked. False: err is filled, or out of memory. */
bool al_keep_make_tombstone(struct al_links *links, struct al_provider *provider, acctlink_str user,
	acctlink_str institution, const struct al_token_set *set, struct al_record *record, acctlink_error *err);
/* Saves by parentage; retries conflicts itself. STORE_DOWN: nothing was saved. */
al_rc al_keep_refreshed(struct al_links *links, const char *link_id, struct al_arrival *arrival, enum al_keep_end *end,
	acctlink_error *err) AL_MUST_USE;
/* Checks the newest id_token again, now that keys may be there. */
al_rc al_keep_checked(struct al_links *links, struct al_provider *provider, struct al_record *record,
	enum al_id_verdict *verdict, acctlink_error *err) AL_MUST_USE;
/* Writes what a failed attempt means; retries conflicts itself. */
al_rc al_keep_failure(struct al_links *links, const char *link_id, struct al_provider *provider, int64_t epoch,
	int64_t generation, int64_t attempt, const struct al_token_answer *answer, acctlink_error *err) AL_MUST_USE;

/* ---- link.c ------------------------------------------------------------------------ */
struct al_links {
	struct al_links_parts parts; /* constant */
	struct al_cache *cache;      /* own lock */
	struct al_flights *flights;  /* own lock */
	struct al_gates *gates;      /* own lock */
};
struct al_provider *al_links_provider(struct al_links *links, const char *name);
/* After the commit of the change. */
void al_links_event(struct al_links *links, int32_t kind, const struct al_link_row *row);
struct al_audit_row al_links_audit(const struct al_link_row *row, const char *what, const char *detail, int64_t at);
/* Commits the row (INSERT, SWAP with kept, or MARK) with one audit row. */
al_rc al_links_commit(struct al_links *links, enum al_write_kind kind, struct al_record *record, const char *what,
	const char *detail, acctlink_error *err) AL_MUST_USE;
bool al_claim_alive(struct al_links *links, const struct al_link_row *row);
/* A change of state with the event that belongs to it, 0 if there is none. */
int32_t al_link_set_state(struct al_link_row *row, int64_t state, int64_t reason);

/* ---- unlink.c ------------------------------------------------------------------------ */
void al_links_start_revocation(struct al_links *links, const char *link_id);

#endif
