/* SPDX-License-Identifier: MIT
 * Reads every link of a store through the product's own rooms: config, store,
 * vault and the layout of the sealed part. Keeps hashes only.
 */
#include "judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "link/link_int.h"

/* ---- configs --------------------------------------------------------------------- */

enum { CONFIGS_MAX = 64 };
static struct al_config *configs[CONFIGS_MAX]; /* until the program ends */
static size_t config_count;

/* A URL of the ledger's provider. */
static bool is_ours(const struct judge *judge, const char *url)
{
	const size_t len = judge->base != NULL ? strlen(judge->base) : 0;

	return len == 0
		|| (url != NULL && strncmp(url, judge->base, len) == 0 && (url[len] == '\0' || url[len] == '/'));
}

static bool speaks_of(const struct judge *judge, const struct al_provider_config *config)
{
	return is_ours(judge, config->issuer != NULL ? config->issuer : config->token_endpoint);
}

const struct al_provider_config *jd_config_of(const struct judge *judge, const struct jd_request *request)
{
	const char *client = request->client;
	size_t i;
	size_t k;

	if (request->grant != NULL && request->grant->link != NULL && request->grant->link->config != NULL)
		return request->grant->link->config;
	for (i = 0; client != NULL && i < config_count; i++) {
		for (k = 0; k < configs[i]->provider_count; k++) {
			const struct al_provider_config *config = &configs[i]->providers[k];

			if (strcmp(config->client_id, client) == 0 && speaks_of(judge, config))
				return config;
		}
	}
	return NULL;
}

/* ---- one link ---------------------------------------------------------------------- */

static char *copy(const struct al_buf *buf)
{
	char *text = strdup(al_buf_text(buf));

	if (text == NULL)
		jd_give_up("out of memory");
	return text;
}

static void hash(char to[JD_HASH_LEN + 1], const struct al_buf *token)
{
	unsigned char digest[32];

	to[0] = '\0';
	if (token->len == 0)
		return;
	if (al_sha256(al_buf_text(token), token->len, digest, NULL) != ACCTLINK_OK)
		jd_give_up("SHA-256 fails");
	al_hex(to, digest, sizeof(digest));
}

static void hash_tokens(struct jd_link *link, const struct al_kept *kept)
{
	size_t i;

	hash(link->refresh_token, &kept->refresh_token);
	hash(link->sibling, &kept->sibling.refresh_token);
	hash(link->bearer, al_kept_newest_bearer(kept, (enum al_bearer_kind)kept->bearer_kind));
	hash(link->old_bearer, &kept->old_bearer);
	link->revoke_count = kept->revoke_count;
	link->revoke = jd_new(kept->revoke_count, sizeof(*link->revoke));
	for (i = 0; i < kept->revoke_count; i++)
		hash(link->revoke[i], &kept->revoke[i].token);
}

static void fill_link(struct jd_link *link, const struct al_link_row *row, const struct al_kept *kept)
{
	snprintf(link->id, sizeof(link->id), "%s", row->id);
	link->user = copy(&row->user);
	link->provider = copy(&row->provider);
	link->institution = copy(&row->institution);
	link->subject = copy(&row->subject);
	link->state = row->state;
	link->reason = row->reason;
	link->epoch = row->epoch;
	link->generation = row->generation;
	link->unknown_sent_at = al_unknown_sent_at(row);
	link->rejected_generation = row->rejected_generation;
	link->bearer_check = row->bearer_check;
	link->consent_end = row->consent_end;
	hash_tokens(link, kept);
}

/* ---- one store ------------------------------------------------------------------------ */

struct ids {
	char (*list)[AL_ID_LEN + 1];
	size_t count;
	size_t room;
};

static bool add_id(void *ctx, struct al_link_row *row)
{
	struct ids *ids = ctx;

	if (ids->count == ids->room) {
		ids->room = ids->room == 0 ? 64 : ids->room * 2;
		ids->list = realloc(ids->list, ids->room * sizeof(*ids->list));
		if (ids->list == NULL)
			jd_give_up("out of memory");
	}
	memcpy(ids->list[ids->count++], row->id, sizeof(*ids->list));
	return true;
}

/* The issuer of its consent counts, whatever the section says by now. */
static bool is_link_ours(const struct judge *judge, const struct jd_link *link, const struct al_buf *issuer)
{
	if (issuer->len > 0)
		return is_ours(judge, al_buf_text(issuer));
	return link->config == NULL || speaks_of(judge, link->config);
}

/* False if it went away meanwhile, or is another provider's. */
static bool read_link(struct judge *judge, struct al_vault *vault, const struct al_config *config, const char *id,
	struct jd_link *link)
{
	struct al_record record;
	struct al_buf plain;
	acctlink_error err = { 0 };
	al_rc rc;
	bool ours = false;

	al_record_init(&record);
	al_buf_init(&plain, AL_SEALED_MAX);
	rc = al_vault_get_link(vault, id, &record.row, &plain, &err);
	if (rc == ACCTLINK_OK)
		rc = al_kept_unpack(&record.kept, &plain, &err);
	if (rc != ACCTLINK_OK && rc != AL_ABSENT)
		jd_give_up("link %s: %s", id, err.message);
	if (rc == ACCTLINK_OK) {
		link->config = al_config_provider(config, al_buf_text(&record.row.provider));
		ours = is_link_ours(judge, link, &record.row.issuer);
	}
	if (ours)
		fill_link(link, &record.row, &record.kept);
	al_buf_clear(&plain);
	al_record_clear(&record);
	return ours;
}

static void read_links(
	struct judge *judge, struct al_vault *vault, const struct al_config *config, const struct ids *ids)
{
	size_t i;

	judge->links = reallocarray(judge->links, judge->link_count + ids->count + 1, sizeof(*judge->links));
	if (judge->links == NULL)
		jd_give_up("out of memory");
	for (i = 0; i < ids->count; i++) {
		struct jd_link *link = &judge->links[judge->link_count];

		memset(link, 0, sizeof(*link));
		if (read_link(judge, vault, config, ids->list[i], link))
			judge->link_count++;
	}
}

static void log_line(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	(void)level;
	fprintf(stderr, "judge: %s\n", message);
}

static void read_all(struct judge *judge, const struct al_config *config)
{
	static const struct al_log log = { log_line, NULL, ACCTLINK_LOG_ERROR };
	static const struct al_clock clock = { NULL, NULL };
	struct ids ids = { NULL, 0, 0 };
	const struct al_link_visit visit = { .each = add_id, .ctx = &ids, .limit = 10000000 };
	struct al_store *store = NULL;
	struct al_vault *vault = NULL;
	acctlink_error err = { 0 };

	if (access(config->store_path, F_OK) != 0) { /* opening would make it */
		jd_note("%s: there is no store yet", config->store_path);
		return;
	}
	if (al_store_new(config->store_path, &log, &clock, &store, &err) != ACCTLINK_OK
		|| al_vault_new(config->key_files, store, &vault, &err) != ACCTLINK_OK
		|| al_store_list_changed(store, 0, &visit, &err) != ACCTLINK_OK)
		jd_give_up("%s: %s %s", config->store_path, err.where, err.message);
	read_links(judge, vault, config, &ids);
	al_vault_free(&vault);
	al_store_free(&store);
	free(ids.list);
}

/* Configs may share a store. */
static bool was_read(const char *store_path)
{
	size_t i;

	for (i = 0; i < config_count; i++) {
		if (strcmp(configs[i]->store_path, store_path) == 0)
			return true;
	}
	return false;
}

void jd_read_store(struct judge *judge, const char *config_path)
{
	static const struct al_log log = { log_line, NULL, ACCTLINK_LOG_ERROR };
	struct al_config *config = NULL;
	acctlink_error err = { 0 };

	if (config_count == CONFIGS_MAX)
		jd_give_up("more than %d configs", CONFIGS_MAX);
	if (al_config_load(config_path, &log, &config, &err) != ACCTLINK_OK)
		jd_give_up("%s: %s %s", config_path, err.where, err.message);
	if (!was_read(config->store_path))
		read_all(judge, config);
	configs[config_count++] = config;
	judge->has_stores = true;
}

/* ---- links and grants -------------------------------------------------------------------- */

static struct jd_grant *grant_of(const struct judge *judge, const struct jd_link *link)
{
	const char *const hashes[] = { link->refresh_token, link->bearer, link->old_bearer, link->sibling };
	const struct jd_token *token;
	size_t i;

	for (i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
		token = jd_token(judge, hashes[i]);
		if (token != NULL && token->grant != NULL)
			return token->grant;
	}
	token = link->revoke_count > 0 ? jd_token(judge, link->revoke[0]) : NULL;
	return token != NULL ? token->grant : NULL;
}

/* The institution is no part of a grant where it is not sent. */
static struct jd_group *group_of(struct judge *judge, const struct jd_link *link)
{
	if (link->grant != NULL)
		return link->grant->group;
	if (link->config == NULL)
		return NULL;
	return jd_group_of(judge, link->subject, link->config->client_id,
		link->config->institution_parameter != NULL ? link->institution : "");
}

static bool is_over(const struct jd_link *link)
{
	return link->state == ACCTLINK_STATE_UNLINKING || link->state == ACCTLINK_STATE_SUPERSEDED;
}

static void keep_hash(struct judge *judge, const char *token, struct jd_link *link)
{
	if (token[0] != '\0')
		jd_index_put(&judge->kept, token, link);
}

void jd_place_links(struct judge *judge)
{
	size_t i;
	size_t k;

	for (i = 0; i < judge->link_count; i++) {
		struct jd_link *link = &judge->links[i];
		struct jd_group *group;

		link->grant = grant_of(judge, link);
		group = group_of(judge, link);
		if (link->grant != NULL && (link->grant->link == NULL || is_over(link->grant->link)))
			link->grant->link = link;
		if (group != NULL) {
			link->next_in_group = group->links;
			group->links = link;
		}
		keep_hash(judge, link->refresh_token, link);
		keep_hash(judge, link->sibling, link);
		for (k = 0; k < link->revoke_count; k++)
			keep_hash(judge, link->revoke[k], link);
	}
}
