/* SPDX-License-Identifier: MIT
 * The flow room: one consent from the URL to the callback. Flows live in the
 * store, sealed, so that any process can finish them. Knows consent; leaves
 * the wire to the provider room and the tokens to the link room.
 */
#ifndef AL_FLOW_H
#define AL_FLOW_H

#include "link/link.h"

struct al_flows;

struct al_flow_limits { /* of the config that the operation began with */
	int64_t lifetime_ms;
	int64_t result_lifetime_ms;
	unsigned per_user;
};

struct al_flows_parts {
	struct al_links *links;
	struct al_links_parts shared; /* pool, vault, owner, log, clock, calls, provider, event */
};
al_rc al_flows_new(const struct al_flows_parts *parts, struct al_flows **out, acctlink_error *err) AL_MUST_USE;
void al_flows_free(struct al_flows **flows);

/* begin.c. Inputs are set by the caller; the call is taken, as in link.h. */
struct al_begin_call {
	struct al_call call;
	struct al_provider *provider; /* counted */
	struct al_flow_limits limits;
	struct al_buf user;
	struct al_buf institution;
	struct al_buf redirect_uri; /* one of the configured ones */
	struct al_buf scope;
	bool new_subject_ok;
	size_t url_cap;   /* the caller's buffers: nothing is stored if one is too small */
	size_t state_cap; /* 0: not wanted */
	size_t cookie_cap;
	/* outputs */
	struct al_buf url;
	struct al_buf state;
	struct al_buf set_cookie;
	int64_t expires_at;
};
struct al_begin_call *al_begin_call_new(void);
void al_begin_call_free(struct al_begin_call **call); /* one that was not handed over */
al_rc al_flows_begin(struct al_flows *flows, struct al_begin_call *call, acctlink_error *err) AL_MUST_USE;

/* callback.c */
#define AL_PARAMS_MAX ((size_t)64 * 1024)
struct al_callback_call {
	struct al_call call;
	struct al_flow_limits limits;
	struct al_buf user;
	struct al_buf params;
	struct al_buf cookie;
	/* outputs */
	struct al_consent_end end;
	struct al_buf provider;
	struct al_buf institution;
};
struct al_callback_call *al_callback_call_new(void);
void al_callback_call_free(struct al_callback_call **call);
al_rc al_flows_callback(struct al_flows *flows, struct al_callback_call *call, acctlink_error *err) AL_MUST_USE;

#endif
