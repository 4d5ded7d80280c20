/* SPDX-License-Identifier: MIT
 * What an operator does to links: looks at all of them, imports refresh tokens,
 * pauses a provider, asks it whether config and credentials fit. For a tool's
 * own thread, which may block; only al_links_ready is called by tasks.
 */
#include "link/link_int.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

al_rc al_links_list_all(
	struct al_links *links, const char *after, const struct al_link_visit *visit, acctlink_error *err)
{
	return al_store_list_all(al_vault_store(links->parts.vault), after, visit, err);
}

al_rc al_links_forget_flows(struct al_links *links, acctlink_str user, int64_t *count, acctlink_error *err)
{
	struct al_buf text;
	al_rc rc;

	al_buf_init(&text, 1024);
	rc = al_buf_set(&text, user.data, user.len)
		? al_store_forget_flows(al_vault_store(links->parts.vault), &text, count, err)
		: al_fail_memory(err);
	al_buf_clear(&text);
	return rc;
}

al_rc al_links_note_export(
	struct al_links *links, const struct al_buf *owner_key, int64_t generation, acctlink_error *err)
{
	struct al_record record;
	struct al_audit_row audit;
	struct al_vault_write write = { .kind = AL_AUDIT_INSERT, .audit = &audit };
	al_rc rc;

	al_record_init(&record);
	rc = al_record_read(links, owner_key, NULL, &record, err);
	if (rc == AL_ABSENT)
		rc = al_fail(err, ACCTLINK_NOT_LINKED, NULL, "there is no such link");
	if (rc == ACCTLINK_OK) {
		audit = al_links_audit(&record.row, "exported", "by an operator", al_now(links->parts.clock).wall_ms);
		audit.generation = generation;
		rc = al_vault_commit(links->parts.vault, &write, 1, err);
	}
	al_record_clear(&record);
	return rc;
}

/* ---- import -------------------------------------------------------------------- */

static bool fill_row(struct al_link_row *row, const struct al_import *import, int64_t now)
{
	const struct al_provider_config *config = al_provider_config(import->provider);
	acctlink_str issuer = al_str(config->issuer == NULL ? "" : config->issuer);
	acctlink_str scope = import->scope.len > 0 ? import->scope : al_str(config->scope);

	row->epoch = 1;
	row->generation = 1;
	row->bearer_check = AL_BEARER_MISSING;
	(void)al_link_set_state(row, ACCTLINK_STATE_STALE, ACCTLINK_REASON_NONE); /* until its first refresh */
	row->authorized_at = now;
	row->refresh_end = config->refresh_lifetime_ms > 0 ? al_add_ms(now, config->refresh_lifetime_ms) : 0;
	row->consent_end = config->consent_lifetime_ms > 0 ? al_add_ms(now, config->consent_lifetime_ms) : 0;
	return al_owner_key(&row->owner_key, import->user, al_str(config->name), import->institution)
		&& al_buf_set(&row->user, import->user.data, import->user.len)
		&& al_buf_set(&row->provider, config->name, strlen(config->name))
		&& al_buf_set(&row->institution, import->institution.data, import->institution.len)
		&& al_buf_set(&row->subject, import->subject.data, import->subject.len)
		&& al_buf_set(&row->scope, scope.data, scope.len) && al_buf_set(&row->issuer, issuer.data, issuer.len);
}

static al_rc fill_record(struct al_record *record, const struct al_import *import, int64_t now, acctlink_error *err)
{
	unsigned char id[AL_ID_LEN / 2];
	unsigned char client[32];
	al_rc rc = al_random(id, sizeof(id), err);

	if (rc == ACCTLINK_OK)
		rc = al_provider_fingerprint(import->provider, client, err);
	if (rc != ACCTLINK_OK)
		return rc;
	al_hex(record->row.id, id, sizeof(id));
	record->kept.bearer_kind = al_provider_config(import->provider)->bearer;
	if (!fill_row(&record->row, import, now) || !al_buf_set(&record->row.client, client, sizeof(client))
		|| !al_buf_copy(&record->kept.refresh_token, &import->refresh_token))
		return al_fail_memory(err);
	return ACCTLINK_OK;
}

al_rc al_links_import(
	struct al_links *links, const struct al_import *import, char link_id[AL_ID_LEN + 1], acctlink_error *err)
{
	struct al_record record;
	al_rc rc;

	al_record_init(&record);
	rc = fill_record(&record, import, al_now(links->parts.clock).wall_ms, err);
	if (rc == ACCTLINK_OK)
		rc = al_links_commit(links, AL_LINK_INSERT, &record, "imported", "", err);
	if (rc == ACCTLINK_OK) {
		memcpy(link_id, record.row.id, AL_ID_LEN + 1);
		al_links_event(links, ACCTLINK_EVENT_LINKED, &record.row);
	}
	al_record_clear(&record);
	return rc;
}

/* ---- pause ---------------------------------------------------------------------- */

static void pause_name(char *name, size_t cap, const char *provider)
{
	(void)snprintf(name, cap, "paused:%s", provider);
}

al_rc al_links_paused(struct al_links *links, const char *provider, bool *paused, acctlink_error *err)
{
	char name[80];
	struct al_buf value;
	al_rc rc;

	pause_name(name, sizeof(name), provider);
	al_buf_init(&value, 64);
	rc = al_store_get_meta(al_vault_store(links->parts.vault), name, &value, err);
	al_buf_clear(&value);
	*paused = rc == ACCTLINK_OK;
	return rc == AL_ABSENT ? ACCTLINK_OK : rc;
}

al_rc al_links_pause(struct al_links *links, const char *provider, bool pause, acctlink_error *err)
{
	struct al_store *store = al_vault_store(links->parts.vault);
	char name[80];
	struct al_buf value;
	al_rc rc;

	pause_name(name, sizeof(name), provider);
	if (!pause)
		return al_store_drop_meta(store, name, err);
	al_buf_init(&value, 64);
	rc = al_buf_puts(&value, "1") ? al_store_put_meta(store, name, &value, err) : al_fail_memory(err);
	al_buf_clear(&value);
	return rc == AL_CONFLICT ? ACCTLINK_OK : rc; /* it is paused already */
}

al_rc al_links_may_ask(struct al_links *links, struct al_provider *provider, acctlink_error *err)
{
	const char *name = al_provider_config(provider)->name;
	bool paused = false;
	al_rc rc = al_links_paused(links, name, &paused, err);

	if (rc == ACCTLINK_OK && paused)
		rc = al_fail(err, ACCTLINK_PROVIDER_DOWN, name,
			"an operator has paused this provider; acctlinkctl resume %s goes on", name);
	return rc;
}

al_rc al_links_ready(struct al_links *links, struct al_provider *provider, struct al_wait *wait, acctlink_error *err)
{
	al_rc rc = al_links_may_ask(links, provider, err);

	return rc == ACCTLINK_OK ? al_provider_ready(provider, wait, err) : rc;
}

/* ---- probe ------------------------------------------------------------------------ */

/* What the network thread wakes this one by. */
struct latch {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t opened;
	bool open;
	struct al_http_result http;
};

static void latch_open(void *ctx)
{
	struct latch *latch = ctx;

	(void)pthread_mutex_lock(&latch->lock);
	latch->open = true;
	(void)pthread_cond_signal(&latch->opened);
	(void)pthread_mutex_unlock(&latch->lock);
}

/* Each request has its own time-outs, so this one ends. */
static void latch_wait(struct latch *latch)
{
	(void)pthread_mutex_lock(&latch->lock);
	while (!latch->open)
		(void)pthread_cond_wait(&latch->opened, &latch->lock);
	latch->open = false;
	(void)pthread_mutex_unlock(&latch->lock);
}

static void answered(void *ctx, struct al_http_result *result)
{
	struct latch *latch = ctx;

	latch->http = *result;
	memset(result, 0, sizeof(*result));
	latch_open(latch);
}

typedef al_rc (*ask)(struct al_provider *provider, struct al_wait *wait, acctlink_error *err);

static al_rc ask_and_wait(struct latch *latch, ask start, struct al_provider *provider, acctlink_error *err)
{
	struct al_wait wait = { .done = latch_open, .ctx = latch };
	al_rc rc = start(provider, &wait, err);

	if (rc != AL_PENDING)
		return rc;
	latch_wait(latch);
	if (wait.rc != ACCTLINK_OK && err != NULL)
		*err = wait.err;
	return wait.rc;
}

/* The one answer that proves anything: this client, and not this code. */
static void judge_answer(const struct al_token_answer *answer, const char *name, struct al_probe *probe)
{
	acctlink_error *err = &probe->token_err;

	probe->http_status = answer->http_status;
	(void)snprintf(probe->code, sizeof(probe->code), "%s", answer->provider_code);
	switch (answer->kind) {
	case AL_ANSWER_REFUSED:
	case AL_ANSWER_OURS: /* some say invalid_request to a code that they never gave */
		probe->token = ACCTLINK_OK;
		break;
	case AL_ANSWER_OPERATOR:
		probe->token = al_fail(err, ACCTLINK_CLIENT_REFUSED, name, "%s", answer->message);
		break;
	case AL_ANSWER_SET:
		probe->token = al_fail(err, ACCTLINK_BAD_PROVIDER, name, "a made-up code was exchanged for tokens");
		break;
	default: probe->token = al_fail(err, ACCTLINK_PROVIDER_DOWN, name, "%s", answer->message); break;
	}
}

static al_rc make_up(struct al_buf *text, acctlink_error *err)
{
	unsigned char bytes[32];
	al_rc rc = al_random(bytes, sizeof(bytes), err);

	if (rc == ACCTLINK_OK && !al_base64url_put(text, bytes, sizeof(bytes)))
		rc = al_fail_memory(err);
	return rc;
}

static al_rc probe_token(struct latch *latch, struct al_provider *provider, struct al_probe *probe, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(provider);
	struct al_token_answer answer = { 0 };
	struct al_buf code;
	struct al_buf verifier;
	struct al_token_request request = { .grant = AL_GRANT_CODE,
		.code = &code,
		.redirect_uri = config->redirect_uris[0],
		.code_verifier = &verifier };
	al_rc rc;

	al_buf_init(&code, 64);
	al_buf_init(&verifier, 64);
	al_token_set_init(&answer.set);
	rc = make_up(&code, err);
	if (rc == ACCTLINK_OK && config->pkce)
		rc = make_up(&verifier, err);
	if (rc == ACCTLINK_OK)
		rc = al_token_start(provider, &request, answered, latch, err);
	if (rc == ACCTLINK_OK) {
		latch_wait(latch);
		al_token_read(provider, &request, &latch->http, &answer);
		al_http_result_clear(&latch->http);
		judge_answer(&answer, config->name, probe);
	}
	al_token_answer_clear(&answer);
	al_buf_clear(&code);
	al_buf_clear(&verifier);
	return rc;
}

al_rc al_links_probe(struct al_links *links, struct al_provider *provider, struct al_probe *probe, acctlink_error *err)
{
	struct latch latch = { .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };
	al_rc rc = al_links_may_ask(links, provider, err);

	memset(probe, 0, sizeof(*probe));
	if (rc == ACCTLINK_OK)
		rc = ask_and_wait(&latch, al_provider_ready, provider, err);
	if (rc != ACCTLINK_OK)
		return rc;
	if (al_provider_config(provider)->id_token_expected)
		probe->keys = ask_and_wait(&latch, al_provider_fetch_keys, provider, &probe->keys_err);
	rc = probe_token(&latch, provider, probe, err);
	return rc == ACCTLINK_OK ? al_provider_facts(provider, &probe->facts, err) : rc;
}
