/* SPDX-License-Identifier: MIT
 * The link room: tokens over time. States, claims, refreshes, revocations and
 * held bearers. Sees rows through the vault and the wire through the provider
 * room; never SQL, curl or JSON.
 */
#ifndef AL_LINK_H
#define AL_LINK_H

#include <stdatomic.h>

#include "base/call.h"
#include "base/worker.h"
#include "provider/provider.h"
#include "vault/vault.h"

struct al_links;

/* What the room is built from; all outlive it. */
struct al_links_parts {
	struct al_pool *pool;
	struct al_vault *vault;
	struct al_owner *owner;
	const struct al_log *log;
	const struct al_clock *clock;
	struct al_calls *calls;
	/* A counted provider of the config in force, NULL if it is not configured. */
	struct al_provider *(*provider)(void *ctx, const char *name);
	void *provider_ctx;
	void (*event)(void *ctx, const acctlink_event *event); /* may be NULL */
	void *event_ctx;
	int64_t poll_interval_ms;
	int64_t revocation_lifetime_ms;
	int64_t audit_lifetime_ms; /* 0: audit rows are kept for ever */
	unsigned held_bearers;
	bool leaves_queue; /* takes up no revocation that another process left: for a tool */
};
al_rc al_links_new(const struct al_links_parts *parts, struct al_links **out, acctlink_error *err) AL_MUST_USE;
/* After the pool has drained. */
void al_links_free(struct al_links **links);

/* Another config is in force: what was refused with the old one is tried again. */
void al_links_reconfigured(struct al_links *links);

/* user, provider and institution as one injective key. */
bool al_owner_key(struct al_buf *key, acctlink_str user, acctlink_str provider, acctlink_str institution);

/* An immutable bearer, counted. */
struct al_bearer {
	atomic_int refs;
	char link_id[AL_ID_LEN + 1];
	int32_t state;
	int64_t epoch;
	int64_t generation;
	int64_t end_wall; /* valid only while both clocks agree */
	int64_t end_boot;
	int64_t fresh_until; /* wall ms: with less than bearer_margin left a refresh is due */
	struct al_buf text;
};
struct al_bearer *al_bearer_ref(struct al_bearer *bearer);
void al_bearer_unref(struct al_bearer **bearer);

/* ---- get_bearer: refresh.c ------------------------------------------------- */
struct al_bearer_call {
	struct al_call call; /* al_call_begin'ed by al_links_bearer */
	struct al_buf owner_key;
	char link_id[AL_ID_LEN + 1]; /* "" : any */
	int64_t min_ttl_ms;          /* 0: the provider's margin */
	bool refresh;                /* a new set is wanted, though the bearer be good */
	struct al_bearer *bearer;    /* set when finished OK */
	struct al_bearer_call *next;
};
/* A held bearer that is good enough, counted; NULL if there is none. No I/O. */
struct al_bearer *al_links_held(
	struct al_links *links, const struct al_buf *owner_key, const char *link_id, int64_t min_ttl_ms);
/* Takes the call (heap, inputs set); on failure it is released. */
al_rc al_links_bearer(struct al_links *links, struct al_bearer_call *call, acctlink_error *err) AL_MUST_USE;
struct al_bearer_call *al_bearer_call_new(void);
void al_bearer_call_free(struct al_bearer_call **call); /* one that was not handed over */

/* ---- a consent's token set: keep.c ------------------------------------------ */
/* Run on a worker by the flow room, which adds its own row to the commit. */
struct al_consent {
	struct al_provider *provider;
	acctlink_str user;
	acctlink_str institution;
	struct al_token_set *set;   /* moved away */
	enum al_id_verdict verdict; /* GOOD, NO_KEY (checked later), BAD; GOOD if no id_token is expected */
	const struct al_id_claims *claims;
	const char *nonce;
	const struct al_buf *scope_asked;
	int64_t received_wall;
	bool new_subject_ok;
	struct al_flow_row *flow; /* swapped in the same transaction; result fields are filled here */
	const struct al_buf *flow_plain;
};
struct al_consent_end {
	al_rc rc;       /* OK, SUBJECT_CHANGED, … as the flow's result */
	bool shared;    /* SUBJECT_CHANGED: since another user has this login */
	uint32_t flags; /* ACCTLINK_CALLBACK_… */
	char link_id[AL_ID_LEN + 1];
	int64_t epoch;
	int64_t generation;
};
/* OK: durable, see end. CONFLICT: the flow row changed; STORE_DOWN: try again. */
al_rc al_links_keep_consent(struct al_links *links, struct al_consent *consent, struct al_consent_end *end,
	acctlink_error *err) AL_MUST_USE;
/* Tokens that nobody will use: into the revocation queue. */
al_rc al_links_revoke_orphan(struct al_links *links, struct al_provider *provider, acctlink_str user,
	acctlink_str institution, const struct al_token_set *set, acctlink_error *err) AL_MUST_USE;

/* ---- unlink.c --------------------------------------------------------------- */
struct al_unlink_call {
	struct al_call call;
	struct al_buf owner_key;
	char link_id[AL_ID_LEN + 1]; /* in: wanted or ""; out: the link's */
	int32_t revocation;          /* ACCTLINK_REVOCATION_… */
};
struct al_unlink_call *al_unlink_call_new(void);
void al_unlink_call_free(struct al_unlink_call **call);
al_rc al_links_unlink(struct al_links *links, struct al_unlink_call *call, acctlink_error *err) AL_MUST_USE;

/* ---- link.c: reading and reporting ------------------------------------------ */
struct al_inspect_call {
	struct al_call call;
	struct al_buf owner_key;
	char link_id[AL_ID_LEN + 1];
	struct al_link_row row; /* without its sealed part */
};
struct al_inspect_call *al_inspect_call_new(void);
void al_inspect_call_free(struct al_inspect_call **call);
al_rc al_links_inspect(struct al_links *links, struct al_inspect_call *call, acctlink_error *err) AL_MUST_USE;

#define AL_LIST_PAGE_MAX 256u
struct al_list_call {
	struct al_call call;
	struct al_buf user;
	char after[AL_ID_LEN + 1];
	unsigned limit;            /* 1 to AL_LIST_PAGE_MAX */
	acctlink_list_item *items; /* limit of them */
	unsigned count;
	bool more;
};
struct al_list_call *al_list_call_new(unsigned limit);
void al_list_call_free(struct al_list_call **call);
al_rc al_links_list(struct al_links *links, struct al_list_call *call, acctlink_error *err) AL_MUST_USE;

struct al_rejected {
	struct al_buf owner_key;
	char link_id[AL_ID_LEN + 1];
	int64_t generation;
	int32_t http_status;
	char code[64];
};
/* Takes effect in this process at once and is queued for the store. */
al_rc al_links_report_rejected(
	struct al_links *links, const struct al_rejected *report, acctlink_error *err) AL_MUST_USE;

/* ---- operate.c: what an operator does ------------------------------------------ */
/* These block on the store, and al_links_probe on the network: for a tool's own
 * thread, never for a worker. */
al_rc al_links_list_all(
	struct al_links *links, const char *after, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* A refresh token that another program kept becomes a link without a bearer: the
 * first al_links_bearer refreshes it. CONFLICT: the user has this link already. */
struct al_import {
	struct al_provider *provider;
	acctlink_str user;
	acctlink_str institution;
	acctlink_str scope;   /* empty: as configured */
	acctlink_str subject; /* empty: the first id_token tells */
	struct al_buf refresh_token;
};
al_rc al_links_import(struct al_links *links, const struct al_import *import, char link_id[AL_ID_LEN + 1],
	acctlink_error *err) AL_MUST_USE;
/* One audit row about a link that changes nothing: a bearer was taken out. */
al_rc al_links_note_export(
	struct al_links *links, const struct al_buf *owner_key, int64_t generation, acctlink_error *err) AL_MUST_USE;
al_rc al_links_forget_flows(struct al_links *links, acctlink_str user, int64_t *count, acctlink_error *err) AL_MUST_USE;
/* While a provider is paused no process sends it anything; kept in the store. */
al_rc al_links_pause(struct al_links *links, const char *provider, bool pause, acctlink_error *err) AL_MUST_USE;
al_rc al_links_paused(struct al_links *links, const char *provider, bool *paused, acctlink_error *err) AL_MUST_USE;
/* OK, or PROVIDER_DOWN if it is paused. Asked before anything is prepared, and again when that
 * has taken its time. */
al_rc al_links_may_ask(struct al_links *links, struct al_provider *provider, acctlink_error *err) AL_MUST_USE;
/* al_provider_ready, if al_links_may_ask. */
al_rc al_links_ready(
	struct al_links *links, struct al_provider *provider, struct al_wait *wait, acctlink_error *err) AL_MUST_USE;
/* Asks the provider for its metadata and keys, and its token endpoint to exchange
 * a made-up code, which proves the client's credentials and spends nothing. */
struct al_probe {
	struct al_facts facts; /* al_facts_clear */
	al_rc keys;            /* of the JWKS; OK also if none is needed */
	acctlink_error keys_err;
	al_rc token; /* OK: the client was accepted and the code refused */
	acctlink_error token_err;
	int http_status; /* of the token endpoint's answer */
	char code[64];   /* and its error code */
};
al_rc al_links_probe(
	struct al_links *links, struct al_provider *provider, struct al_probe *probe, acctlink_error *err) AL_MUST_USE;

/* ---- upkeep.c ---------------------------------------------------------------- */
/* Starts the room's own tasks: changes made by others, revocations, old flows. */
al_rc al_links_start_upkeep(struct al_links *links, acctlink_error *err) AL_MUST_USE;

#endif
