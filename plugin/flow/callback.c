/* SPDX-License-Identifier: MIT
 * Finishes a consent that find.c let through: one process claims the flow,
 * sends the code once, and keeps what comes in one transaction with the flow's
 * result. Later deliveries of the callback get that result.
 */
#include "flow/callback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_STORE_MS = 100, LEASE_SPARE_MS = 10000 };

static void flow_event(struct al_callback *callback, int32_t kind)
{
	struct al_links_parts *parts = shared(callback);
	acctlink_event event = { .size = sizeof(event),
		.kind = kind,
		.user = al_buf_str(&callback->row.user),
		.provider = al_buf_str(&callback->row.provider),
		.institution = al_buf_str(&callback->row.institution),
		.link_id = al_str(callback->row.link_id),
		.epoch = (uint64_t)callback->row.epoch,
		.generation = (uint64_t)callback->row.generation };

	event.at_ms = al_now(parts->clock).wall_ms;
	if (parts->event != NULL)
		parts->event(parts->event_ctx, &event);
}

enum al_step_result al_callback_finish(struct al_callback *callback, al_rc rc, const acctlink_error *err)
{
	struct al_callback_call *call = callback->call;

	if (rc == ACCTLINK_OK
		&& (!al_buf_copy(&call->provider, &callback->row.provider)
			|| !al_buf_copy(&call->institution, &callback->row.institution)))
		rc = ACCTLINK_NO_MEMORY;
	al_call_finish(&call->call, rc, err);
	return AL_STEP_END;
}

enum al_step_result al_callback_fail(struct al_callback *callback, al_rc rc, const char *message)
{
	acctlink_error err = { 0 };

	(void)al_fail(&err, rc, "callback", "%s", message);
	return al_callback_finish(callback, rc, &err);
}

/* ---- ready, claim, send ------------------------------------------------------------------ */

static void set_claim(struct al_callback *callback, bool open)
{
	struct al_flow_row *row = &callback->row;
	const char *host = open ? al_owner_host(shared(callback)->owner) : "";

	(void)snprintf(
		row->claim_owner, sizeof(row->claim_owner), "%s", open ? al_owner_id(shared(callback)->owner) : "");
	(void)al_buf_set(&row->claim_host, host, strlen(host));
	row->claim_lease_end = open ? callback->lease_end : 0;
	row->sent_at = open ? now_wall(callback) : 0;
	row->phase = open ? AL_FLOW_EXCHANGING : AL_FLOW_PENDING;
}

static void resume(void *ctx)
{
	al_task_resume(ctx);
}

static enum al_step_result step_ready(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	callback->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_links_ready(callback->flows->parts.links, callback->provider, &callback->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_CLAIM);
	return rc == ACCTLINK_OK ? al_go(task, STEP_CLAIM) : al_callback_finish(callback, rc, &err);
}

static al_rc mark(struct al_callback *callback, acctlink_error *err)
{
	struct al_vault_write write = { .kind = AL_FLOW_MARK, .flow = &callback->row };

	return al_vault_commit(shared(callback)->vault, &write, 1, err);
}

static enum al_step_result step_claim(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	const struct al_provider_config *config = al_provider_config(callback->provider);
	acctlink_error err = { 0 };
	al_rc rc;

	if (callback->wait.rc != ACCTLINK_OK)
		return al_callback_finish(callback, callback->wait.rc, &callback->wait.err);
	rc = al_callback_check_iss(callback, &err); /* the metadata may have come only now */
	if (rc != ACCTLINK_OK)
		return al_callback_finish(callback, rc, &err);
	if (callback->params.error.len > 0)
		return al_callback_denied(callback);
	rc = al_links_may_ask(callback->flows->parts.links, callback->provider, &err);
	if (rc != ACCTLINK_OK)
		return al_callback_finish(callback, rc, &err);
	callback->lease_end = al_add_ms(
		al_now(shared(callback)->clock).boot_ms, 2 * config->request_timeout_ms + LEASE_SPARE_MS);
	set_claim(callback, true);
	rc = mark(callback, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_FIND);
	return rc == ACCTLINK_OK ? al_go(task, STEP_SEND) : al_callback_finish(callback, rc, &err);
}

static bool may_send(void *ctx)
{
	struct al_callback *callback = ctx;

	return al_add_ms(al_now(shared(callback)->clock).boot_ms,
		       al_provider_config(callback->provider)->request_timeout_ms)
		< callback->lease_end;
}

static void http_done(void *ctx, struct al_http_result *result)
{
	struct al_callback *callback = ctx;

	callback->http = *result;
	memset(result, 0, sizeof(*result));
	callback->received_wall = now_wall(callback);
	al_task_resume(&callback->task);
}

static enum al_step_result step_send(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	acctlink_error err = { 0 };

	callback->request = (struct al_token_request){ .grant = AL_GRANT_CODE,
		.code = &callback->params.code,
		.redirect_uri = al_buf_text(&callback->secret.redirect_uri),
		.code_verifier = &callback->secret.code_verifier,
		.may_send = may_send,
		.may_send_ctx = callback };
	if (al_token_start(callback->provider, &callback->request, http_done, callback, &err) == ACCTLINK_OK)
		return al_wait(task, STEP_READ);
	callback->rc = al_fail(
		&callback->err, ACCTLINK_PROVIDER_DOWN, "callback", "the code was not sent: %s", err.message);
	return al_go(task, STEP_END);
}

/* ---- read ------------------------------------------------------------------------------------ */

static al_rc rc_of_answer(const struct al_token_answer *answer)
{
	switch (answer->kind) {
	case AL_ANSWER_NOT_SENT: return ACCTLINK_PROVIDER_DOWN;
	case AL_ANSWER_OPERATOR:
		return strcmp(answer->provider_code, "invalid_client") == 0
				|| strcmp(answer->provider_code, "unauthorized_client") == 0
			? ACCTLINK_CLIENT_REFUSED
			: ACCTLINK_BAD_CONFIG;
	case AL_ANSWER_OURS: return ACCTLINK_BAD_PROVIDER;
	default: return ACCTLINK_FLOW_FAILED;
	}
}

static enum al_step_result step_read(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	struct al_token_answer *answer = &callback->answer;

	al_token_read(callback->provider, &callback->request, &callback->http, answer);
	al_http_result_clear(&callback->http);
	if (answer->kind == AL_ANSWER_SET) {
		if (answer->message[0] != '\0') /* what was odd about the set */
			al_log(shared(callback)->log, ACCTLINK_LOG_NOTICE, "provider %s: %s",
				al_buf_text(&callback->row.provider), answer->message);
		return al_go(task, STEP_CHECK);
	}
	callback->rc = rc_of_answer(answer);
	al_log(shared(callback)->log, callback->rc >= ACCTLINK_BAD_CONFIG ? ACCTLINK_LOG_ERROR : ACCTLINK_LOG_NOTICE,
		"provider %s: a code was not exchanged: %s", al_buf_text(&callback->row.provider), answer->message);
	(void)al_fail(&callback->err, callback->rc, al_buf_text(&callback->row.provider), "%s%s", answer->message,
		callback->rc == ACCTLINK_FLOW_FAILED ? "; begin a new consent" : "");
	callback->err.http_status = answer->http_status;
	callback->err.retry_after_ms = answer->retry_after_ms > 0 ? answer->retry_after_ms : 0;
	(void)snprintf(callback->err.provider_code, sizeof(callback->err.provider_code), "%s", answer->provider_code);
	return al_go(task, STEP_END);
}

/* ---- check -------------------------------------------------------------------------------------- */

/* A first answer without the bearer, or without the id_token that proves whose
 * it is, makes no link. */
static enum al_step_result refuse_set(struct al_callback *callback, const char *code, const char *message)
{
	callback->rc = al_fail(&callback->err, ACCTLINK_BAD_PROVIDER, al_buf_text(&callback->row.provider),
		"%s; the tokens are revoked", message);
	(void)snprintf(callback->err.provider_code, sizeof(callback->err.provider_code), "%s", code);
	return al_go(&callback->task, STEP_REVOKE);
}

static enum al_step_result fetch_keys(struct al_callback *callback)
{
	acctlink_error err = { 0 };
	al_rc rc;

	callback->keys_fetched = true;
	callback->wait = (struct al_wait){ .done = resume, .ctx = &callback->task };
	rc = al_provider_fetch_keys(callback->provider, &callback->wait, &err);
	return rc == AL_PENDING ? al_wait(&callback->task, STEP_CHECK) : al_go(&callback->task, STEP_CHECK);
}

/* OpenID Connect Core, 3.1.3.3: with openid granted there is one. Where nothing
 * but the nonce protects the code, a grant without openid is no excuse. */
static bool owes_id_token(struct al_callback *callback)
{
	const struct al_buf *granted = &callback->answer.set.scope;

	return al_scope_has(&callback->secret.scope, "openid")
		&& (granted->len == 0 || al_scope_has(granted, "openid") || callback->secret.code_verifier.len == 0);
}

static enum al_step_result step_check(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	const struct al_provider_config *config = al_provider_config(callback->provider);
	struct al_token_set *set = &callback->answer.set;
	struct al_id_expect expect = { .nonce = callback->secret.nonce.len > 0 ? al_buf_text(&callback->secret.nonce)
									       : NULL,
		.access_token = &set->access_token };
	acctlink_error err = { 0 };

	if (config->bearer == AL_BEARER_ACCESS_TOKEN && set->access_token.len == 0)
		return refuse_set(callback, "no_access_token", "the provider sent no access_token");
	if (set->id_token.len == 0) {
		if (config->bearer == AL_BEARER_ID_TOKEN)
			return refuse_set(
				callback, "no_id_token", "the provider sent no id_token, which is the bearer");
		if (owes_id_token(callback))
			return refuse_set(
				callback, "no_id_token", "the provider sent no id_token, though openid was asked for");
		callback->verdict = AL_ID_GOOD; /* plain OAuth 2.0: no subject */
		return al_go(task, STEP_KEEP);
	}
	if (!config->id_token_expected && config->issuer == NULL) {
		callback->verdict = AL_ID_GOOD; /* an OAuth 2.0 profile has no rules to check it by */
		al_buf_clear(&set->id_token);
		return al_go(task, STEP_KEEP);
	}
	callback->verdict = al_id_token_check(
		callback->provider, &set->id_token, &expect, callback->received_wall, &callback->claims, &err);
	if (callback->verdict == AL_ID_NO_KEY && !callback->keys_fetched)
		return fetch_keys(callback);
	if (callback->verdict == AL_ID_BAD) {
		al_log(shared(callback)->log, ACCTLINK_LOG_ERROR, "provider %s: an id_token is refused: %s",
			config->name, err.message);
		return refuse_set(callback, "id_token_refused", err.message);
	}
	return al_go(task, STEP_KEEP);
}

/* ---- keep, revoke, end ------------------------------------------------------------------------------ */

/* What was received must not be lost to a store that is down for a while. When
 * the shutdown waits no longer the claim stays open, and the flow ends with it. */
static enum al_step_result keep_trying(struct al_callback *callback, int step, const acctlink_error *err)
{
	if (al_calls_abandoned(shared(callback)->calls)) {
		al_log(shared(callback)->log, ACCTLINK_LOG_ERROR,
			"the end of a consent is lost, since the store did not take it before the shutdown: %s",
			err->message);
		return al_callback_fail(callback, ACCTLINK_SHUT_DOWN, "the handle is being shut down");
	}
	if (!callback->store_trouble)
		al_log(shared(callback)->log, ACCTLINK_LOG_ERROR,
			"the store can't take the end of a consent yet, it is tried again: %s", err->message);
	callback->store_trouble = true;
	return al_wait_ms(&callback->task, step, RETRY_STORE_MS);
}

static void end_row(struct al_callback *callback)
{
	callback->row.expires_at = al_add_ms(now_wall(callback), callback->call->limits.result_lifetime_ms);
	al_buf_clear(&callback->secret.code_verifier);
	al_buf_clear(&callback->secret.nonce);
}

static al_rc keep(struct al_callback *callback, bool reduced, acctlink_error *err)
{
	struct al_buf nonce;
	struct al_buf plain;
	struct al_consent consent = { .provider = callback->provider,
		.user = al_buf_str(&callback->row.user),
		.institution = al_buf_str(&callback->row.institution),
		.set = &callback->answer.set,
		.verdict = callback->verdict,
		.claims = &callback->claims,
		.scope_asked = &callback->secret.scope,
		.received_wall = callback->received_wall,
		.new_subject_ok = callback->secret.new_subject_ok,
		.flow = &callback->row,
		.flow_plain = &plain };
	al_rc rc;

	al_buf_init(&nonce, callback->secret.nonce.max);
	al_buf_init(&plain, AL_SEALED_MAX);
	callback->call->end.flags = reduced ? ACCTLINK_CALLBACK_SCOPE_REDUCED : 0;
	if (!al_buf_copy(&nonce, &callback->secret.nonce)) {
		rc = al_fail_memory(err);
	} else {
		consent.nonce = al_buf_text(&nonce);
		callback->row.expires_at = al_add_ms(now_wall(callback), callback->call->limits.result_lifetime_ms);
		rc = al_flow_secret_pack(&callback->secret, &plain)
			? al_links_keep_consent(callback->flows->parts.links, &consent, &callback->call->end, err)
			: al_fail_memory(err);
	}
	al_buf_clear(&nonce);
	al_buf_clear(&plain);
	return rc;
}

static enum al_step_result step_keep(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	bool reduced = al_scope_reduced(&callback->secret.scope, &callback->answer.set.scope);
	acctlink_error err = { 0 };
	al_rc rc = keep(callback, reduced, &err);

	if (rc == AL_CONFLICT) { /* the flow was taken for dead: its result stands, the tokens go */
		callback->rc = AL_CONFLICT;
		return al_go(task, STEP_REVOKE);
	}
	if (rc != ACCTLINK_OK)
		return keep_trying(callback, STEP_KEEP, &err);
	if (callback->call->end.rc != ACCTLINK_OK) {
		flow_event(callback, ACCTLINK_EVENT_FLOW_FAILED);
		return al_callback_fail(callback, callback->call->end.rc,
			callback->call->end.shared
				? "another user has linked this bank login, and shared_subject = \"refuse\"; the new tokens are revoked"
				: "the consent was given with another bank login; the link is as it was and the new tokens are revoked");
	}
	if (reduced)
		flow_event(callback, ACCTLINK_EVENT_SCOPE_REDUCED);
	return al_callback_finish(callback, ACCTLINK_OK, NULL);
}

static enum al_step_result step_revoke(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	acctlink_error err = { 0 };
	al_rc rc = al_links_revoke_orphan(callback->flows->parts.links, callback->provider,
		al_buf_str(&callback->row.user), al_buf_str(&callback->row.institution), &callback->answer.set, &err);

	if (rc != ACCTLINK_OK)
		return keep_trying(callback, STEP_REVOKE, &err);
	return al_go(task, callback->rc == AL_CONFLICT ? STEP_FIND : STEP_END);
}

static al_rc write_end(struct al_callback *callback, acctlink_error *err)
{
	struct al_flow_row *row = &callback->row;
	struct al_audit_row audit = { .at = now_wall(callback),
		.link_id = "",
		.user = al_buf_str(&row->user),
		.what = callback->rc == ACCTLINK_DENIED ? "denied" : "flow_failed",
		.detail = callback->err.provider_code };
	struct al_buf plain;
	struct al_vault_write writes[2] = { { .kind = AL_FLOW_SWAP, .flow = row, .plain = &plain },
		{ .kind = AL_AUDIT_INSERT, .audit = &audit } };
	al_rc rc;

	al_buf_init(&plain, AL_SEALED_MAX);
	end_row(callback);
	row->phase = AL_FLOW_FAILED;
	row->result = callback->rc;
	if (!al_buf_set(&row->result_code, callback->err.provider_code, strlen(callback->err.provider_code))
		|| !al_flow_secret_pack(&callback->secret, &plain))
		rc = al_fail_memory(err);
	else
		rc = al_vault_commit(shared(callback)->vault, writes, 2, err);
	al_buf_clear(&plain);
	return rc;
}

/* The code never left: the flow is as it was, and the callback may come again. */
static enum al_step_result release_flow(struct al_callback *callback)
{
	acctlink_error err = { 0 };
	al_rc rc;

	set_claim(callback, false);
	rc = mark(callback, &err);
	if (rc != ACCTLINK_OK && rc != AL_CONFLICT)
		return keep_trying(callback, STEP_END, &err);
	return al_callback_finish(callback, callback->rc, &callback->err);
}

static enum al_step_result step_end(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	if (callback->rc == ACCTLINK_PROVIDER_DOWN)
		return release_flow(callback);
	rc = write_end(callback, &err);
	if (rc == AL_CONFLICT)
		return al_go(task, STEP_FIND);
	if (rc != ACCTLINK_OK)
		return keep_trying(callback, STEP_END, &err);
	flow_event(callback, callback->rc == ACCTLINK_DENIED ? ACCTLINK_EVENT_DENIED : ACCTLINK_EVENT_FLOW_FAILED);
	return al_callback_finish(callback, callback->rc, &callback->err);
}

static const struct al_step callback_steps[] = { [STEP_FIND] = { "find", al_callback_find },
	[STEP_READY] = { "ready", step_ready },
	[STEP_CLAIM] = { "claim", step_claim },
	[STEP_SEND] = { "send", step_send },
	[STEP_READ] = { "read", step_read },
	[STEP_CHECK] = { "check", step_check },
	[STEP_KEEP] = { "keep", step_keep },
	[STEP_REVOKE] = { "revoke", step_revoke },
	[STEP_END] = { "end", step_end } };

/* ---- life ------------------------------------------------------------------------------------------------ */

static void callback_ended(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;

	al_callback_params_clear(&callback->params);
	al_flow_row_clear(&callback->row);
	al_flow_secret_clear(&callback->secret);
	al_http_result_clear(&callback->http);
	al_token_answer_clear(&callback->answer);
	al_id_claims_clear(&callback->claims);
	al_provider_unref(&callback->provider);
	free(callback);
}

static void release_callback(struct al_call *base)
{
	struct al_callback_call *call = (struct al_callback_call *)base;

	al_buf_clear(&call->user);
	al_buf_clear(&call->params);
	al_buf_clear(&call->cookie);
	al_buf_clear(&call->provider);
	al_buf_clear(&call->institution);
	free(call);
}

void al_callback_call_free(struct al_callback_call **call)
{
	if (*call != NULL)
		release_callback(&(*call)->call);
	*call = NULL;
}

struct al_callback_call *al_callback_call_new(void)
{
	struct al_callback_call *call = al_new(sizeof(*call));

	if (call == NULL)
		return NULL;
	al_buf_init(&call->user, 1024);
	al_buf_init(&call->params, AL_PARAMS_MAX);
	al_buf_init(&call->cookie, AL_PARAMS_MAX);
	al_buf_init(&call->provider, 64);
	al_buf_init(&call->institution, 255);
	return call;
}

static struct al_callback *callback_new(struct al_flows *flows, struct al_callback_call *call)
{
	struct al_callback *callback = al_new(sizeof(*callback));

	if (callback == NULL)
		return NULL;
	al_task_init(&callback->task, flows->parts.shared.pool, callback_steps, callback_ended);
	callback->flows = flows;
	callback->call = call;
	al_callback_params_init(&callback->params);
	al_flow_row_init(&callback->row);
	al_flow_secret_init(&callback->secret);
	al_token_set_init(&callback->answer.set);
	al_id_claims_init(&callback->claims);
	return callback;
}

al_rc al_flows_callback(struct al_flows *flows, struct al_callback_call *call, acctlink_error *err)
{
	struct al_callback *callback = callback_new(flows, call);
	al_rc rc = callback == NULL ? al_fail_memory(err)
				    : al_callback_params_parse(&callback->params, al_buf_str(&call->params), err);

	if (rc == ACCTLINK_OK)
		rc = al_call_begin(flows->parts.shared.calls, &call->call, release_callback, err);
	if (rc != ACCTLINK_OK) {
		if (callback != NULL)
			callback_ended(&callback->task);
		release_callback(&call->call);
		return rc;
	}
	al_task_start(&callback->task, STEP_FIND);
	return ACCTLINK_OK;
}
