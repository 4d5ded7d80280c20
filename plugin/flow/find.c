/* SPDX-License-Identifier: MIT
 * Finds the flow that a callback belongs to and checks everything that a
 * stranger could have made up. Nothing is used up here: a wrong state, browser
 * or user leaves the flow as it is.
 */
#include "flow/callback.h"

#include <string.h>

enum { POLL_FIRST_MS = 5, POLL_LAST_MS = 200 };

static al_rc read_flow(struct al_callback *callback, acctlink_error *err)
{
	struct al_buf plain;
	struct al_buf hash_text;
	unsigned char hash[32];
	al_rc rc = al_sha256(al_buf_text(&callback->params.state), callback->params.state.len, hash, err);

	al_buf_init(&plain, AL_SEALED_MAX);
	al_buf_init(&hash_text, sizeof(hash));
	if (rc == ACCTLINK_OK && !al_buf_set(&hash_text, hash, sizeof(hash)))
		rc = al_fail_memory(err);
	if (rc == ACCTLINK_OK)
		rc = al_vault_get_flow(shared(callback)->vault, &hash_text, &callback->row, &plain, err);
	if (rc == ACCTLINK_OK)
		rc = al_flow_secret_unpack(&callback->secret, &plain, err);
	al_buf_clear(&hash_text);
	al_buf_clear(&plain);
	return rc;
}

/* Another user or browser gets the same answer as an unknown state. */
static bool is_ours(struct al_callback *callback)
{
	char name[64];
	bool same_user = al_buf_equal(&callback->row.user, &callback->call->user);

	al_flow_cookie_name(name, sizeof(name), &callback->row.state_hash,
		al_url_is_plain(al_buf_text(&callback->secret.redirect_uri)));
	return al_flow_cookie_matches(al_buf_str(&callback->call->cookie), name, callback->secret.binding_hash)
		&& same_user;
}

/* RFC 9207: the answer must come from the server that was asked. */
al_rc al_callback_check_iss(struct al_callback *callback, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(callback->provider);

	if (!callback->params.has_iss) {
		if (!config->iss_parameter_required && !al_provider_sends_iss(callback->provider))
			return ACCTLINK_OK;
		return al_fail(err, ACCTLINK_BAD_CALLBACK, config->where,
			"the parameter 'iss' is missing, which this provider sends (RFC 9207)");
	}
	if (config->issuer == NULL || al_str_is(al_buf_str(&callback->params.iss), config->issuer))
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BAD_CALLBACK, config->where,
		"the parameter 'iss' names another server than issuer = %s", config->issuer);
}

static enum al_step_result repeat_result(struct al_callback *callback)
{
	struct al_callback_call *call = callback->call;
	const struct al_flow_row *row = &callback->row;
	acctlink_error err = { 0 };

	call->end.flags = (uint32_t)row->result_flags | ACCTLINK_CALLBACK_REPEATED;
	memcpy(call->end.link_id, row->link_id, sizeof(call->end.link_id));
	call->end.epoch = row->epoch;
	call->end.generation = row->generation;
	if (row->result == ACCTLINK_OK)
		return al_callback_finish(callback, ACCTLINK_OK, NULL);
	(void)al_fail(&err, (al_rc)row->result, "callback", "this consent had ended before (%s%s%s); begin a new one",
		al_status_name((al_rc)row->result), row->result_code.len > 0 ? ": " : "",
		al_buf_text(&row->result_code));
	al_copy_printable(
		err.provider_code, sizeof(err.provider_code), al_buf_text(&row->result_code), row->result_code.len);
	return al_callback_finish(callback, (al_rc)row->result, &err);
}

static bool claim_alive(struct al_callback *callback)
{
	const struct al_flow_row *row = &callback->row;
	const struct al_owner *owner = shared(callback)->owner;

	if (al_str_is(al_buf_str(&row->claim_host), al_owner_host(owner))
		&& al_now(shared(callback)->clock).boot_ms > row->claim_lease_end)
		return false;
	return !al_owner_is_dead(owner, row->claim_owner, &row->claim_host);
}

static enum al_step_result exchanging(struct al_callback *callback)
{
	if (!claim_alive(callback)) {
		/* Sent or not, nobody knows: a code is never resent. */
		callback->rc = al_fail(&callback->err, ACCTLINK_FLOW_FAILED, "callback",
			"the process that exchanged the code died; begin a new consent");
		return al_go(&callback->task, STEP_END);
	}
	if (al_calls_closed(shared(callback)->calls))
		return al_callback_fail(callback, ACCTLINK_SHUT_DOWN, "the handle is being shut down");
	callback->poll_ms = callback->poll_ms == 0 ? POLL_FIRST_MS : callback->poll_ms * 2;
	if (callback->poll_ms > POLL_LAST_MS)
		callback->poll_ms = POLL_LAST_MS;
	return al_wait_ms(&callback->task, STEP_FIND, callback->poll_ms);
}

/* RFC 6749, 4.1.2.1 and OpenID Connect Core, 3.1.2.6. */
enum al_step_result al_callback_denied(struct al_callback *callback)
{
	static const char *const denials[] = { "access_denied", "consent_required", "login_required",
		"interaction_required", "account_selection_required" };
	const struct al_callback_params *params = &callback->params;
	const struct al_buf *const secrets[] = { &params->code, &params->state, &callback->secret.code_verifier,
		&callback->secret.nonce, &al_provider_config(callback->provider)->client_secret };
	const struct al_buf *words = &params->error_description;
	const char *code = al_buf_text(&params->error);
	char text[200] = "";
	bool denied = false;

	for (size_t i = 0; i < AL_COUNT(denials); i++)
		denied = denied || strcmp(code, denials[i]) == 0;
	/* Anybody can write a callback's parameters. */
	if (al_may_quote_secret(code, params->error.len, secrets, AL_COUNT(secrets)))
		code = "withheld";
	if (!al_may_quote_secret(al_buf_text(words), words->len, secrets, AL_COUNT(secrets)))
		al_copy_printable(text, sizeof(text), al_buf_text(words), words->len);
	callback->rc = al_fail(&callback->err, denied ? ACCTLINK_DENIED : ACCTLINK_FLOW_FAILED, "callback",
		"the provider ended the consent: %s%s%s", code, text[0] != '\0' ? ": " : "", text);
	al_copy_printable(callback->err.provider_code, sizeof(callback->err.provider_code), code, strlen(code));
	return al_go(&callback->task, STEP_END);
}

/* A code goes to the server that gave it, whatever the config says by now (RFC 9700, 4.4). */
static bool same_client(struct al_callback *callback)
{
	unsigned char client[32];

	return al_provider_fingerprint(callback->provider, client, NULL) == ACCTLINK_OK
		&& al_equal(client, callback->secret.client, sizeof(client));
}

static enum al_step_result pending(struct al_callback *callback)
{
	acctlink_error err = { 0 };
	al_rc rc;

	if (now_wall(callback) >= callback->secret.deadline)
		return al_callback_fail(
			callback, ACCTLINK_FLOW_EXPIRED, "the callback came too late; begin a new consent");
	if (!same_client(callback))
		return al_callback_fail(callback, ACCTLINK_FLOW_FAILED,
			"the provider's issuer or client_id was changed in the config meanwhile; begin a new consent");
	rc = al_callback_check_iss(callback, &err);
	if (rc != ACCTLINK_OK)
		return al_callback_finish(callback, rc, &err);
	return al_go(&callback->task, STEP_READY);
}

enum al_step_result al_callback_find(struct al_task *task)
{
	struct al_callback *callback = (struct al_callback *)task;
	acctlink_error err = { 0 };
	al_rc rc = read_flow(callback, &err);

	if (rc == AL_ABSENT)
		return al_callback_fail(callback, ACCTLINK_FOREIGN_CALLBACK,
			"no consent of this user and browser is waiting for this callback");
	if (rc != ACCTLINK_OK)
		return al_callback_finish(callback, rc, &err);
	if (!is_ours(callback)) {
		al_log(shared(callback)->log, ACCTLINK_LOG_WARNING,
			"provider %s: a callback came from another browser or for another user; it is refused",
			al_buf_text(&callback->row.provider));
		return al_callback_fail(callback, ACCTLINK_FOREIGN_CALLBACK,
			"no consent of this user and browser is waiting for this callback");
	}
	if (callback->row.phase == AL_FLOW_DONE || callback->row.phase == AL_FLOW_FAILED)
		return repeat_result(callback);
	if (callback->provider == NULL)
		callback->provider = shared(callback)->provider(
			shared(callback)->provider_ctx, al_buf_text(&callback->row.provider));
	if (callback->provider == NULL)
		return al_callback_fail(callback, ACCTLINK_UNKNOWN_PROVIDER,
			"the provider of this consent is not in the config any more");
	return callback->row.phase == AL_FLOW_EXCHANGING ? exchanging(callback) : pending(callback);
}
