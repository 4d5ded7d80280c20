/* SPDX-License-Identifier: MIT
 * What only the abi room sees: the handle, and the checks at the border.
 */
#ifndef AL_ABI_INT_H
#define AL_ABI_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "config/config.h"
#include "flow/flow.h"
#include "link/link.h"

/* What one process makes at its first call; a forked child never touches its
 * parent's. */
struct al_runtime {
	struct al_pool *pool;
	struct al_net *net;
	struct al_owner *owner;
	struct al_links *links;
	struct al_flows *flows;
	struct al_calls calls;
	struct al_provider **providers; /* the handle's lock; of its config, ended by NULL */
};

struct acctlink {
	acctlink_hooks hooks; /* constant, as the next four */
	struct al_log log;
	struct al_clock clock;
	bool leaves_queue; /* before the first call only */
	struct al_store *store;
	struct al_vault *vault;
	atomic_uchar *mark;                 /* on a page that fork wipes; set at first use */
	pthread_mutex_t lock;               /* guards config, providers and runtime; held for assignments only */
	pthread_cond_t changed;             /* the runtime is there, or inside fell to 0 */
	struct al_config *config;           /* counted */
	struct al_runtime *_Atomic runtime; /* set once per process */
	atomic_bool used;
	atomic_bool closing;
	atomic_int inside; /* calls that have not returned */
};

/* ---- assembly.c ---------------------------------------------------------------- */
/* Lets a call in: FORKED, SHUT_DOWN, or the runtime could not be made. On OK the
 * caller ends with al_leave. */
al_rc al_enter(struct acctlink *handle, acctlink_error *err) AL_MUST_USE;
void al_leave(struct acctlink *handle);
struct al_runtime *al_handle_runtime(struct acctlink *handle); /* after al_enter */
struct al_config *al_handle_config(struct acctlink *handle);
struct al_provider *al_handle_provider(void *handle, const char *name);

/* ---- libraries.c --------------------------------------------------------------- */
/* INTERNAL if the functions of one library come from several objects. Calls none of them. */
al_rc al_check_libraries(const struct al_log *log, acctlink_error *err) AL_MUST_USE;

/* ---- args.c ---------------------------------------------------------------------- */
/* Copies a sized struct in: missing members are zero, an unknown tail must be. */
al_rc al_take_args(void *copy, size_t known, const void *given, const char *name, acctlink_error *err) AL_MUST_USE;
/* Copies a sized result out: never more than the caller's size. */
void al_give_result(void *to, const void *result, size_t known);
al_rc al_check_user(acctlink_str user, acctlink_error *err) AL_MUST_USE;
al_rc al_check_name(acctlink_str text, const char *what, size_t min, size_t max, acctlink_error *err) AL_MUST_USE;
/* Checks a ref and turns it into an owner key and an optional id. */
al_rc al_take_ref(const acctlink_ref *ref, struct al_buf *owner_key, char link_id[AL_ID_LEN + 1],
	acctlink_error *err) AL_MUST_USE;
/* Empty, or an id as acctlink makes them. */
al_rc al_take_id(acctlink_str id, char to[AL_ID_LEN + 1], acctlink_error *err) AL_MUST_USE;
/* Sets len; the text only if the call has succeeded and it is wanted. */
void al_give_text(acctlink_out *out, const struct al_buf *text, bool success);

#endif
