/* SPDX-License-Identifier: MIT
 * Starts a consent: makes state, nonce, PKCE verifier and the browser binding,
 * seals them into the store and builds the consent URL. Nothing is stored
 * before all that can fail without the store has succeeded.
 */
#include "flow/flow_int.h"

#include <stdlib.h>
#include <string.h>

enum { RANDOM_BYTES = 32, TEXT_MAX = 64, KEEP_EXPIRED_MS = 24 * 60 * 60 * 1000 };
enum begin_step { STEP_READY, STEP_MAKE };

struct begin {
	struct al_task task;
	struct al_flows *flows;
	struct al_begin_call *call;
	struct al_wait wait;
	struct al_flow_secret secret;
	struct al_flow_row row;
	char state[TEXT_MAX];
	char binding[TEXT_MAX];
};

static void resume(void *ctx)
{
	al_task_resume(ctx);
}

static enum al_step_result finish(struct begin *begin, al_rc rc, const acctlink_error *err)
{
	al_call_finish(&begin->call->call, rc, err);
	return AL_STEP_END;
}

static enum al_step_result step_ready(struct al_task *task)
{
	struct begin *begin = (struct begin *)task;
	acctlink_error err = { 0 };
	al_rc rc;

	begin->wait = (struct al_wait){ .done = resume, .ctx = task };
	rc = al_links_ready(begin->flows->parts.links, begin->call->provider, &begin->wait, &err);
	if (rc == AL_PENDING)
		return al_wait(task, STEP_MAKE);
	return rc == ACCTLINK_OK ? al_go(task, STEP_MAKE) : finish(begin, rc, &err);
}

/* RFC 7636, 4.2: BASE64URL(SHA256(code_verifier)). */
static al_rc make_challenge(const struct al_buf *verifier, struct al_buf *challenge, acctlink_error *err)
{
	unsigned char hash[32];
	al_rc rc = al_sha256(al_buf_text(verifier), verifier->len, hash, err);

	if (rc == ACCTLINK_OK && !al_base64url_put(challenge, hash, sizeof(hash)))
		rc = al_fail_memory(err);
	return rc;
}

static al_rc make_text(struct al_buf *to, acctlink_error *err)
{
	char text[TEXT_MAX];
	al_rc rc = al_random_text(text, sizeof(text), RANDOM_BYTES, err);

	if (rc == ACCTLINK_OK && !al_buf_set(to, text, strlen(text)))
		rc = al_fail_memory(err);
	al_wipe(text, sizeof(text));
	return rc;
}

static al_rc make_secrets(struct begin *begin, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(begin->call->provider);
	struct al_flow_secret *secret = &begin->secret;
	unsigned char hash[32];
	al_rc rc = al_random_text(begin->state, sizeof(begin->state), RANDOM_BYTES, err);

	if (rc == ACCTLINK_OK)
		rc = al_random_text(begin->binding, sizeof(begin->binding), RANDOM_BYTES, err);
	if (rc == ACCTLINK_OK)
		rc = al_sha256(begin->binding, strlen(begin->binding), secret->binding_hash, err);
	if (rc == ACCTLINK_OK && config->pkce)
		rc = make_text(&secret->code_verifier, err);
	if (rc == ACCTLINK_OK && config->nonce)
		rc = make_text(&secret->nonce, err);
	if (rc == ACCTLINK_OK)
		rc = al_provider_fingerprint(begin->call->provider, secret->client, err);
	if (rc == ACCTLINK_OK)
		rc = al_sha256(begin->state, strlen(begin->state), hash, err);
	if (rc == ACCTLINK_OK
		&& (!al_buf_set(&begin->row.state_hash, hash, sizeof(hash))
			|| !al_buf_copy(&secret->redirect_uri, &begin->call->redirect_uri)
			|| !al_buf_copy(&secret->scope, &begin->call->scope)))
		rc = al_fail_memory(err);
	return rc;
}

static al_rc make_url(struct begin *begin, acctlink_error *err)
{
	struct al_begin_call *call = begin->call;
	struct al_buf challenge;
	struct al_authorize in = { .redirect_uri = al_buf_text(&call->redirect_uri),
		.scope = al_buf_text(&call->scope),
		.state = begin->state,
		.nonce = begin->secret.nonce.len > 0 ? al_buf_text(&begin->secret.nonce) : NULL,
		.institution = al_buf_str(&call->institution) };
	al_rc rc = ACCTLINK_OK;

	al_buf_init(&challenge, TEXT_MAX);
	if (begin->secret.code_verifier.len > 0) {
		rc = make_challenge(&begin->secret.code_verifier, &challenge, err);
		in.code_challenge = al_buf_text(&challenge);
	}
	if (rc == ACCTLINK_OK)
		rc = al_authorize_url(call->provider, &in, &call->url, err);
	al_buf_clear(&challenge);
	return rc;
}

/* A form_post comes from the provider's site: only SameSite=None brings the
 * cookie along. A redirect is a top-level GET, for which Lax is enough. */
static bool make_cookie(struct begin *begin)
{
	struct al_begin_call *call = begin->call;
	bool plain = al_url_is_plain(al_buf_text(&call->redirect_uri));
	bool post = al_provider_config(call->provider)->response_mode == AL_MODE_FORM_POST;
	char name[64];

	al_flow_cookie_name(name, sizeof(name), &begin->row.state_hash, plain);
	return al_buf_puts(&call->state, begin->state)
		&& al_buf_printf(&call->set_cookie, "%s=%s; Path=/; Max-Age=%lld; HttpOnly%s; SameSite=%s", name,
			begin->binding, (long long)(call->limits.lifetime_ms / 1000), plain && !post ? "" : "; Secure",
			post ? "None" : "Lax");
}

static al_rc check_room(const struct al_begin_call *call, acctlink_error *err)
{
	if (call->url_cap > call->url.len && call->cookie_cap > call->set_cookie.len
		&& (call->state_cap == 0 || call->state_cap > call->state.len))
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BUFFER_TOO_SMALL, NULL, "url needs %zu bytes, state %zu, set_cookie %zu",
		call->url.len + 1, call->state.len + 1, call->set_cookie.len + 1);
}

static bool fill_row(struct begin *begin)
{
	struct al_begin_call *call = begin->call;
	const char *provider = al_provider_config(call->provider)->name;
	struct al_flow_row *row = &begin->row;

	row->phase = AL_FLOW_PENDING;
	row->created_at = al_now(begin->flows->parts.shared.clock).wall_ms;
	begin->secret.deadline = al_add_ms(row->created_at, call->limits.lifetime_ms);
	begin->secret.new_subject_ok = call->new_subject_ok;
	call->expires_at = begin->secret.deadline;
	/* Kept for a day, so that a late callback can be told what happened. */
	row->expires_at = al_add_ms(begin->secret.deadline, KEEP_EXPIRED_MS);
	return al_buf_copy(&row->user, &call->user) && al_buf_set(&row->provider, provider, strlen(provider))
		&& al_buf_copy(&row->institution, &call->institution);
}

static al_rc store_flow(struct begin *begin, acctlink_error *err)
{
	struct al_vault *vault = begin->flows->parts.shared.vault;
	struct al_buf plain;
	struct al_vault_write write = { .kind = AL_FLOW_INSERT, .flow = &begin->row, .plain = &plain };
	al_rc rc;

	al_buf_init(&plain, AL_SEALED_MAX);
	if (!fill_row(begin) || !al_flow_secret_pack(&begin->secret, &plain))
		rc = al_fail_memory(err);
	else
		rc = al_vault_commit(vault, &write, 1, err);
	al_buf_clear(&plain);
	if (rc == ACCTLINK_OK) /* one user can't pile up flows: the oldest pending ones go */
		rc = al_store_sweep_flows(al_vault_store(vault), begin->row.created_at, &begin->call->user,
			begin->call->limits.per_user, err);
	if (rc == AL_CONFLICT)
		rc = al_fail(err, ACCTLINK_INTERNAL, NULL, "two flows drew the same state");
	return rc;
}

static enum al_step_result step_make(struct al_task *task)
{
	struct begin *begin = (struct begin *)task;
	acctlink_error err = begin->wait.err;
	al_rc rc = begin->wait.rc;

	if (rc == ACCTLINK_OK)
		rc = make_secrets(begin, &err);
	if (rc == ACCTLINK_OK)
		rc = make_url(begin, &err);
	if (rc == ACCTLINK_OK && !make_cookie(begin))
		rc = al_fail_memory(&err);
	if (rc == ACCTLINK_OK)
		rc = check_room(begin->call, &err);
	if (rc == ACCTLINK_OK)
		rc = store_flow(begin, &err);
	return finish(begin, rc, &err);
}

static void begin_ended(struct al_task *task)
{
	struct begin *begin = (struct begin *)task;

	al_flow_secret_clear(&begin->secret);
	al_flow_row_clear(&begin->row);
	al_wipe(begin->state, sizeof(begin->state));
	al_wipe(begin->binding, sizeof(begin->binding));
	free(begin);
}

static void release_begin(struct al_call *base)
{
	struct al_begin_call *call = (struct al_begin_call *)base;

	al_provider_unref(&call->provider);
	al_buf_clear(&call->user);
	al_buf_clear(&call->institution);
	al_buf_clear(&call->redirect_uri);
	al_buf_clear(&call->scope);
	al_buf_clear(&call->url);
	al_buf_clear(&call->state);
	al_buf_clear(&call->set_cookie);
	free(call);
}

void al_begin_call_free(struct al_begin_call **call)
{
	if (*call != NULL)
		release_begin(&(*call)->call);
	*call = NULL;
}

struct al_begin_call *al_begin_call_new(void)
{
	struct al_begin_call *call = al_new(sizeof(*call));

	if (call == NULL)
		return NULL;
	al_buf_init(&call->user, 1024);
	al_buf_init(&call->institution, 255);
	al_buf_init(&call->redirect_uri, 4096);
	al_buf_init(&call->scope, 8192);
	al_buf_init(&call->url, 65536);
	al_buf_init(&call->state, TEXT_MAX);
	al_buf_init(&call->set_cookie, 1024);
	return call;
}

al_rc al_flows_begin(struct al_flows *flows, struct al_begin_call *call, acctlink_error *err)
{
	static const struct al_step steps[] = {
		[STEP_READY] = { "ready", step_ready }, [STEP_MAKE] = { "make", step_make }
	};
	struct begin *begin = al_new(sizeof(*begin));
	al_rc rc = begin == NULL ? al_fail_memory(err)
				 : al_call_begin(flows->parts.shared.calls, &call->call, release_begin, err);

	if (rc != ACCTLINK_OK) {
		free(begin);
		release_begin(&call->call);
		return rc;
	}
	al_task_init(&begin->task, flows->parts.shared.pool, steps, begin_ended);
	begin->flows = flows;
	begin->call = call;
	al_flow_secret_init(&begin->secret);
	al_flow_row_init(&begin->row);
	al_task_start(&begin->task, STEP_READY);
	return ACCTLINK_OK;
}
