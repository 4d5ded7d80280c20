/* SPDX-License-Identifier: MIT
 * One callback on its way through the flow room. Seen by callback.c (the
 * exchange and its end) and find.c (what a stranger could have made up) only.
 */
#ifndef AL_CALLBACK_H
#define AL_CALLBACK_H

#include "flow/flow_int.h"

enum al_callback_step {
	STEP_FIND,  /* the flow; state, user, browser; its phase */
	STEP_READY, /* the provider's metadata is known */
	STEP_CLAIM, /* durable before the code leaves; or it ends in the provider's error */
	STEP_SEND,
	STEP_READ,
	STEP_CHECK,  /* the id_token; fetches keys at most once */
	STEP_KEEP,   /* link and flow in one transaction */
	STEP_REVOKE, /* tokens that may not be used: into the queue first */
	STEP_END     /* write the flow's failure */
};

struct al_callback {
	struct al_task task;
	struct al_flows *flows;
	struct al_callback_call *call;
	struct al_callback_params params;
	struct al_flow_row row;
	struct al_flow_secret secret;
	struct al_provider *provider;
	struct al_wait wait;
	struct al_token_request request;
	struct al_http_result http;
	struct al_token_answer answer;
	struct al_id_claims claims;
	enum al_id_verdict verdict;
	int64_t lease_end; /* boot ms */
	int64_t received_wall;
	int64_t poll_ms;
	bool keys_fetched;
	bool store_trouble; /* told the log already */
	al_rc rc;           /* the failure that STEP_END writes */
	acctlink_error err;
};

static inline struct al_links_parts *shared(struct al_callback *callback)
{
	return &callback->flows->parts.shared;
}

static inline int64_t now_wall(struct al_callback *callback)
{
	return al_now(shared(callback)->clock).wall_ms;
}

/* callback.c */
enum al_step_result al_callback_finish(struct al_callback *callback, al_rc rc, const acctlink_error *err);
enum al_step_result al_callback_fail(struct al_callback *callback, al_rc rc, const char *message);

/* find.c */
/* The step that finds the flow and decides what may be done with it. */
enum al_step_result al_callback_find(struct al_task *task);
/* RFC 9207; again once the metadata is known. */
al_rc al_callback_check_iss(struct al_callback *callback, acctlink_error *err) AL_MUST_USE;
/* The provider sent an error: goes on to the flow's end. */
enum al_step_result al_callback_denied(struct al_callback *callback);

#endif
