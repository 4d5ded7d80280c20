/* SPDX-License-Identifier: MIT
 * Codes, grants and tokens: what was given out, to whom, and whether it still
 * counts. Nothing is ever forgotten; each change goes to the ledger's file.
 */
#include "practice.h"

#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	struct pp_grant **list;
	size_t count;
} grants;
static struct {
	struct pp_token **list;
	size_t count;
	struct lh_table *by_text; /* keys are the tokens' own texts */
	struct lh_table *by_hash;
} tokens;
/* "user\nclient\nbank" -> the newest grant, for those who keep one of each */
static struct lh_table *newest;

static void *grow(void *list, size_t count, size_t size)
{
	/* Doubled whenever the count is a power of two. */
	if ((count & (count - 1)) == 0)
		list = reallocarray(list, count > 0 ? 2 * count : 1, size);
	if (list == NULL)
		pp_die("out of memory");
	return list;
}

static void index_token(struct pp_token *token)
{
	if (lh_table_insert(tokens.by_text, token->text, token) != 0
		|| lh_table_insert(tokens.by_hash, token->hash, token) != 0)
		pp_die("out of memory");
}

static void append_token(struct pp_token *token)
{
	tokens.list = grow(tokens.list, tokens.count, sizeof(struct pp_token *));
	tokens.list[tokens.count++] = token;
	index_token(token);
}

static char *owner_of(const struct pp_grant *grant)
{
	return pp_printf("%s\n%s\n%s", grant->subject, grant->client, grant->connector);
}

static void append_grant(struct pp_grant *grant)
{
	grants.list = grow(grants.list, grants.count, sizeof(struct pp_grant *));
	grants.list[grants.count++] = grant;
}

/* ---- looking up ------------------------------------------------------------------------- */

size_t pp_grant_count(void)
{
	return grants.count;
}

struct pp_grant *pp_grant_at(size_t n)
{
	return n < grants.count ? grants.list[n] : NULL;
}

static void *look_up(struct lh_table *table, const char *key)
{
	void *value = NULL;

	return lh_table_lookup_ex(table, key, &value) ? value : NULL;
}

struct pp_token *pp_token_find(const char *text)
{
	return look_up(tokens.by_text, text);
}

struct pp_token *pp_token_by_hash(const char *hash)
{
	return look_up(tokens.by_hash, hash);
}

size_t pp_token_count(void)
{
	return tokens.count;
}

struct pp_token *pp_token_at(size_t n)
{
	return n < tokens.count ? tokens.list[n] : NULL;
}

/* ---- writing down ------------------------------------------------------------------------- */

static void put_text(json_object *json, const char *name, const char *text)
{
	if (text != NULL)
		json_object_object_add(json, name, json_object_new_string(text));
}

static void put_number(json_object *json, const char *name, int64_t number)
{
	json_object_object_add(json, name, json_object_new_int64(number));
}

void pp_grant_write(const struct pp_grant *grant)
{
	json_object *json = json_object_new_object();
	char key[24];

	put_text(json, "sub", grant->subject);
	put_text(json, "client", grant->client);
	put_text(json, "connector", grant->connector);
	put_text(json, "scope", grant->scope);
	put_text(json, "nonce", grant->nonce);
	if (grant->accounts != NULL)
		json_object_object_add(json, "accounts", json_object_get(grant->accounts));
	put_number(json, "auth_time", grant->auth_time);
	json_object_object_add(json, "alive", json_object_new_boolean(grant->alive));
	put_number(json, "ended_at", grant->ended_at);
	put_text(json, "ended_why", grant->ended_why);
	put_number(json, "generation", grant->generation);
	put_text(json, "current", grant->current != NULL ? grant->current->hash : NULL);
	snprintf(key, sizeof(key), "%lld", (long long)grant->n);
	pp_journal_put("grant", key, json);
}

static void put_code(json_object *json, const struct pp_token *code)
{
	put_text(json, "client", code->client);
	put_text(json, "redirect_uri", code->redirect_uri);
	put_text(json, "nonce", code->nonce);
	put_text(json, "scope", code->scope);
	put_text(json, "challenge", code->challenge);
	put_text(json, "connector", code->connector);
	put_text(json, "subject", code->subject);
	if (code->accounts != NULL)
		json_object_object_add(json, "accounts", json_object_get(code->accounts));
	put_number(json, "auth_time", code->auth_time);
}

void pp_token_write(const struct pp_token *token)
{
	json_object *json = json_object_new_object();

	put_number(json, "kind", token->kind);
	put_text(json, "text", token->text);
	put_number(json, "grant", token->grant != NULL ? token->grant->n : -1);
	put_number(json, "generation", token->generation);
	put_number(json, "issued_at", token->issued_at);
	put_number(json, "ends_at", token->ends_at);
	put_number(json, "issued_by", token->issued_by);
	put_number(json, "spent_at", token->spent_at);
	put_number(json, "spent_by", token->spent_by);
	if (token->used_at != 0)
		put_number(json, "used_at", token->used_at);
	json_object_object_add(json, "dead", json_object_new_boolean(token->dead));
	if (token->kind == PP_CODE)
		put_code(json, token);
	pp_journal_put("token", token->hash, json);
}

/* ---- reading back ----------------------------------------------------------------------------- */

static char *taken_text(json_object *json, const char *name)
{
	const char *text = pp_text(json, name, NULL);

	return text != NULL ? pp_strdup(text) : NULL;
}

static void remember_newest(struct pp_grant *grant)
{
	char *owner = owner_of(grant);

	grant->former = look_up(newest, owner);
	lh_table_delete(newest, owner);
	if (lh_table_insert(newest, owner, grant) != 0)
		pp_die("out of memory");
}

/* Their keys count from 0 in the order in which they were made. */
static void restore_grant(const char *key, json_object *json)
{
	struct pp_grant *grant = pp_calloc(1, sizeof(*grant));

	grant->n = (int64_t)grants.count;
	if (strtoll(key, NULL, 10) != grant->n)
		pp_die("the ledger's file lacks grant %lld", (long long)grant->n);
	grant->subject = pp_strdup(pp_text(json, "sub", ""));
	grant->client = pp_strdup(pp_text(json, "client", ""));
	grant->connector = pp_strdup(pp_text(json, "connector", ""));
	grant->scope = pp_strdup(pp_text(json, "scope", ""));
	grant->nonce = taken_text(json, "nonce");
	grant->accounts = pp_copy(pp_member(json, "accounts"));
	grant->auth_time = pp_number(json, "auth_time", 0);
	grant->alive = pp_flag(json, "alive", false);
	grant->ended_at = pp_number(json, "ended_at", 0);
	grant->ended_why = taken_text(json, "ended_why");
	grant->generation = pp_number(json, "generation", 1);
	append_grant(grant);
	remember_newest(grant);
}

static void restore_code(struct pp_token *code, json_object *json)
{
	code->client = taken_text(json, "client");
	code->redirect_uri = taken_text(json, "redirect_uri");
	code->nonce = taken_text(json, "nonce");
	code->scope = taken_text(json, "scope");
	code->challenge = taken_text(json, "challenge");
	code->connector = taken_text(json, "connector");
	code->subject = taken_text(json, "subject");
	code->accounts = pp_copy(pp_member(json, "accounts"));
	code->auth_time = pp_number(json, "auth_time", 0);
}

static void restore_token(const char *key, json_object *json)
{
	struct pp_token *token = pp_calloc(1, sizeof(*token));
	const int64_t grant = pp_number(json, "grant", -1);

	token->kind = (enum pp_kind)pp_number(json, "kind", PP_CODE);
	token->text = pp_strdup(pp_text(json, "text", ""));
	token->hash = pp_strdup(key);
	token->grant = grant >= 0 ? pp_grant_at((size_t)grant) : NULL;
	token->generation = pp_number(json, "generation", 0);
	token->issued_at = pp_number(json, "issued_at", 0);
	token->ends_at = pp_number(json, "ends_at", 0);
	token->issued_by = pp_number(json, "issued_by", -1);
	token->spent_at = pp_number(json, "spent_at", 0);
	token->spent_by = pp_number(json, "spent_by", -1);
	token->used_at = pp_number(json, "used_at", 0);
	token->dead = pp_flag(json, "dead", false);
	if (token->kind == PP_CODE)
		restore_code(token, json);
	append_token(token);
	if (token->kind != PP_REFRESH || token->grant == NULL)
		return;
	/* The newest refresh token of a grant comes last. A kill may have come before the grant was written again. */
	token->grant->current = token;
	if (token->grant->generation < token->generation)
		token->grant->generation = token->generation;
}

static void free_key(struct lh_entry *entry)
{
	free((void *)(uintptr_t)entry->k);
}

void pp_grants_init(void)
{
	tokens.by_text = lh_kchar_table_new(1024, NULL);
	tokens.by_hash = lh_kchar_table_new(1024, NULL);
	newest = lh_kchar_table_new(256, free_key);
	if (tokens.by_text == NULL || tokens.by_hash == NULL || newest == NULL)
		pp_die("out of memory");
	pp_journal_restore("grant", restore_grant);
	pp_journal_restore("token", restore_token);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

struct pp_token *pp_token_keep(
	enum pp_kind kind, const char *text, struct pp_grant *grant, int64_t ends_at, int64_t request)
{
	struct pp_token *token = pp_token_find(text);
	const bool fresh = token == NULL;

	/* A scripted id_token may be the same text twice. */
	if (fresh) {
		token = pp_calloc(1, sizeof(*token));
		token->text = pp_strdup(text);
		token->hash = pp_sha256_hex(text);
	}
	token->kind = kind;
	token->grant = grant;
	token->generation = grant != NULL ? grant->generation : 0;
	token->issued_at = pp_now_ms();
	token->ends_at = ends_at;
	token->issued_by = request;
	token->dead = false;
	token->spent_by = -1;
	if (fresh)
		append_token(token);
	if (kind != PP_CODE) /* a code is written when the rest of it is there */
		pp_token_write(token);
	return token;
}

static char *random_text(enum pp_kind kind)
{
	static const char *const prefixes[] = {
		[PP_CODE] = "code", [PP_REFRESH] = "rt", [PP_ACCESS] = "at", [PP_ID] = "id"
	};
	static const char *const names[] = {
		[PP_CODE] = "code", [PP_REFRESH] = "refresh", [PP_ACCESS] = "access", [PP_ID] = "id"
	};
	const int64_t bytes = pp_number(pp_setting(NULL, "token_bytes"), names[kind], 0);
	char *random = pp_random(bytes > 0 ? (size_t)bytes : 24);
	char *text;

	if (bytes > 0) {
		random[bytes] = '\0';
		return random;
	}
	text = pp_printf("%s-%s", prefixes[kind], random);
	free(random);
	return text;
}

struct pp_token *pp_token_new(enum pp_kind kind, struct pp_grant *grant, int64_t ends_at, int64_t request)
{
	char *text = random_text(kind);
	struct pp_token *token;

	/* One byte of length leaves few to choose from. */
	while (pp_token_find(text) != NULL) {
		free(text);
		text = random_text(kind);
	}
	token = pp_token_keep(kind, text, grant, ends_at, request);
	free(text);
	return token;
}

/* ---- grants ------------------------------------------------------------------------------------ */

static bool one_grant(const char *institution)
{
	json_object *wanted = pp_setting(institution, "one_grant");

	return wanted != NULL ? json_object_get_boolean(wanted)
			      : strcmp(pp_setting_text(institution, "rotation"), "dex") == 0;
}

/* There may be several, from a time when the bank allowed it. */
static void replace_former(struct pp_grant *grant)
{
	struct pp_grant *former;

	for (former = grant->former; former != NULL; former = former->former)
		pp_grant_end(former, "replaced");
	grant->former = NULL;
}

struct pp_grant *pp_grant_open(struct pp_token *code, int64_t request)
{
	struct pp_grant *grant = pp_calloc(1, sizeof(*grant));

	grant->n = (int64_t)grants.count;
	grant->subject = pp_strdup(code->subject);
	grant->client = pp_strdup(code->client);
	grant->connector = pp_strdup(code->connector);
	grant->scope = pp_strdup(code->scope);
	grant->nonce = code->nonce != NULL ? pp_strdup(code->nonce) : NULL;
	grant->accounts = pp_copy(code->accounts);
	grant->auth_time = code->auth_time;
	grant->alive = true;
	grant->generation = 1;
	append_grant(grant);
	remember_newest(grant);
	if (one_grant(grant->connector))
		replace_former(grant);
	pp_grant_write(grant);
	grant->current = pp_token_new(PP_REFRESH, grant, 0, request);
	pp_grant_write(grant);
	return grant;
}

void pp_grant_end(struct pp_grant *grant, const char *why)
{
	if (!grant->alive)
		return;
	grant->alive = false;
	grant->ended_at = pp_now_ms();
	grant->ended_why = pp_strdup(why);
	pp_grant_write(grant);
}
