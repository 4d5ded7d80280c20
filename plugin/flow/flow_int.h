/* SPDX-License-Identifier: MIT
 * What only the flow room and its tests see.
 */
#ifndef AL_FLOW_INT_H
#define AL_FLOW_INT_H

#include "flow/flow.h"

struct al_flows {
	struct al_flows_parts parts; /* constant */
};

/* The sealed part of a flow. */
struct al_flow_secret {
	unsigned char binding_hash[32]; /* SHA-256 of the cookie's value */
	struct al_buf code_verifier;
	struct al_buf nonce;
	struct al_buf redirect_uri;
	struct al_buf scope;
	unsigned char client[32]; /* fingerprint of the issuer and client that were asked */
	int64_t deadline;         /* wall ms: later callbacks have expired */
	bool new_subject_ok;
};
void al_flow_secret_init(struct al_flow_secret *secret);
void al_flow_secret_clear(struct al_flow_secret *secret);
bool al_flow_secret_pack(const struct al_flow_secret *secret, struct al_buf *plain);
al_rc al_flow_secret_unpack(struct al_flow_secret *secret, const struct al_buf *plain, acctlink_error *err) AL_MUST_USE;

/* The cookie's name, from the hash of the state: one per flow. */
void al_flow_cookie_name(char *to, size_t cap, const struct al_buf *state_hash, bool plain_http);
/* True if the Cookie header has a cookie of that name whose value hashes to
 * binding_hash. Constant time in the value. */
bool al_flow_cookie_matches(acctlink_str cookie, const char *name, const unsigned char binding_hash[32]);

/* What a callback brought, decoded. */
struct al_callback_params {
	struct al_buf code;
	struct al_buf state;
	struct al_buf error;
	struct al_buf error_description;
	struct al_buf iss;
	bool has_iss;
};
void al_callback_params_init(struct al_callback_params *params);
void al_callback_params_clear(struct al_callback_params *params);
/* BAD_CALLBACK for anything malformed or ambiguous. */
al_rc al_callback_params_parse(struct al_callback_params *params, acctlink_str raw, acctlink_error *err) AL_MUST_USE;
bool al_scope_has(const struct al_buf *scope, const char *word);
/* True if `granted` lacks a scope that was asked for. */
bool al_scope_reduced(const struct al_buf *asked, const struct al_buf *granted);

#endif
