/* SPDX-License-Identifier: MIT
 * Reads the ledger, from a file or from the control port, into structs with
 * indexes, so that every rule is a walk and none a search.
 */
#include "judge.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/linkhash.h>

void jd_give_up(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fflush(stdout);
	fputs("judge: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

void *jd_new(size_t count, size_t size)
{
	void *memory = calloc(count > 0 ? count : 1, size);

	if (memory == NULL)
		jd_give_up("out of memory");
	return memory;
}

/* ---- indexes -------------------------------------------------------------------- */

void jd_index_new(struct jd_index *index)
{
	index->table = lh_kchar_table_new(1024, NULL);
	if (index->table == NULL)
		jd_give_up("out of memory");
}

static struct lh_entry *entry_of(const struct jd_index *index, const char *key)
{
	return lh_table_lookup_entry(index->table, key);
}

void jd_index_put(struct jd_index *index, const char *key, const void *value)
{
	struct lh_entry *there = entry_of(index, key);
	void *stored = (void *)(uintptr_t)value;

	if (there != NULL)
		lh_entry_set_val(there, stored);
	else if (lh_table_insert(index->table, key, stored) != 0)
		jd_give_up("out of memory");
}

void *jd_index_get(const struct jd_index *index, const char *key)
{
	struct lh_entry *there = key != NULL ? entry_of(index, key) : NULL;

	return there != NULL ? lh_entry_v(there) : NULL;
}

struct jd_token *jd_token(const struct judge *judge, const char *hash)
{
	return jd_index_get(&judge->by_hash, hash);
}

/* ---- members ---------------------------------------------------------------------- */

static json_object *member(json_object *object, const char *name)
{
	json_object *value = NULL;

	return object != NULL && json_object_object_get_ex(object, name, &value) ? value : NULL;
}

static const char *text(json_object *object, const char *name)
{
	json_object *value = member(object, name);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static int64_t number(json_object *object, const char *name, int64_t fallback)
{
	json_object *value = member(object, name);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : fallback;
}

static bool flag(json_object *object, const char *name)
{
	return json_object_get_boolean(member(object, name)) != 0;
}

static json_object *list(const struct judge *judge, const char *name)
{
	json_object *value = member(judge->ledger, name);

	if (!json_object_is_type(value, json_type_array))
		jd_give_up("the ledger has no list \"%s\"", name);
	return value;
}

static bool is(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* ---- groups and grants ---------------------------------------------------------------- */

struct jd_group *jd_group_of(struct judge *judge, const char *sub, const char *client, const char *connector)
{
	static struct jd_index index; /* key -> group */
	char *key = NULL;
	struct jd_group *group;

	if (index.table == NULL)
		jd_index_new(&index);
	if (asprintf(&key, "%zu:%s%zu:%s%s", strlen(sub), sub, strlen(client), client, connector) < 0)
		jd_give_up("out of memory");
	group = jd_index_get(&index, key);
	if (group != NULL) {
		free(key);
		return group;
	}
	group = jd_new(1, sizeof(*group));
	*group = (struct jd_group){ .sub = sub, .client = client, .connector = connector, .next = judge->groups };
	judge->groups = group;
	jd_index_put(&index, key, group);
	return group;
}

static const char *or_empty(const char *value)
{
	return value != NULL ? value : "";
}

static void read_grants(struct judge *judge)
{
	json_object *from = list(judge, "grants");
	size_t i;

	judge->grant_count = json_object_array_length(from);
	judge->grants = jd_new(judge->grant_count, sizeof(*judge->grants));
	for (i = 0; i < judge->grant_count; i++) {
		json_object *one = json_object_array_get_idx(from, i);
		struct jd_grant *grant = &judge->grants[i];

		grant->n = number(one, "n", -1);
		grant->sub = or_empty(text(one, "sub"));
		grant->client = or_empty(text(one, "client"));
		grant->connector = or_empty(text(one, "connector"));
		grant->alive = flag(one, "alive");
		grant->ended_why = text(one, "ended_why");
		grant->current = text(one, "current");
		if (grant->n != (int64_t)i)
			jd_give_up("grant %zu of the ledger has number %lld", i, (long long)grant->n);
		grant->group = jd_group_of(judge, grant->sub, grant->client, grant->connector);
		grant->next_in_group = grant->group->grants;
		grant->group->grants = grant;
	}
}

static struct jd_grant *grant_at(const struct judge *judge, int64_t n)
{
	return n >= 0 && (size_t)n < judge->grant_count ? &judge->grants[n] : NULL;
}

/* ---- tokens ------------------------------------------------------------------------------- */

static enum jd_kind kind_of(const char *name)
{
	static const char *const names[] = { [JD_CODE] = "code", [JD_REFRESH] = "refresh", [JD_ACCESS] = "access" };
	int kind;

	for (kind = JD_CODE; kind < JD_ID && !is(names[kind], name); kind++)
		;
	return (enum jd_kind)kind;
}

static void read_tokens(struct judge *judge)
{
	json_object *from = list(judge, "tokens");
	size_t i;

	judge->token_count = json_object_array_length(from);
	judge->tokens = jd_new(judge->token_count, sizeof(*judge->tokens));
	jd_index_new(&judge->by_hash);
	for (i = 0; i < judge->token_count; i++) {
		json_object *one = json_object_array_get_idx(from, i);
		struct jd_token *token = &judge->tokens[i];

		token->hash = text(one, "hash");
		token->kind = kind_of(text(one, "kind"));
		token->given = true;
		token->grant = grant_at(judge, number(one, "grant", -1));
		token->ends_at = number(one, "ends_at", 0);
		token->spent_by = number(one, "spent_by", -1);
		if (token->hash == NULL)
			jd_give_up("token %zu of the ledger has no hash", i);
		jd_index_put(&judge->by_hash, token->hash, token);
	}
}

/* ---- requests ------------------------------------------------------------------------------ */

/* What the answer told: by its body, or by what the endpoint issued. */
static void read_carried(const struct judge *judge, struct jd_request *request, json_object *rec)
{
	json_object *carried = member(rec, "carried");
	json_object *issued = member(rec, "issued");
	size_t i;

	request->error = text(carried != NULL ? carried : rec, "error");
	request->description = text(carried, "error_description");
	request->access_token = text(carried, "access_token");
	request->id_token = text(carried, "id_token");
	request->refresh_token = text(carried, "refresh_token");
	request->sub = text(carried, "sub");
	request->expires_in_ms = number(carried, "expires_in", 0) * 1000;
	request->access_exp = number(carried, "access_exp", 0);
	request->id_exp = number(carried, "id_exp", 0);
	if (carried != NULL || !json_object_is_type(issued, json_type_array))
		return;
	for (i = 0; i < json_object_array_length(issued); i++) {
		const struct jd_token *token = jd_token(
			judge, json_object_get_string(json_object_array_get_idx(issued, i)));

		if (token != NULL && token->kind == JD_REFRESH)
			request->refresh_token = token->hash;
		else if (token != NULL && token->kind == JD_ACCESS)
			request->access_token = token->hash;
		else if (token != NULL && token->kind == JD_ID)
			request->id_token = token->hash;
	}
}

/* First guess of how far the answer came; outcome.c knows more. */
static void read_outcome(struct jd_request *request, json_object *rec)
{
	const char *outcome = or_empty(text(rec, "outcome"));
	const char *whole = text(rec, "carried_whole");

	request->delivered = JD_NO;
	if (strcmp(outcome, "answered") == 0) {
		request->delivered = is(text(rec, "closed"), "reset") || flag(rec, "odd_dress") ? JD_MAYBE : JD_YES;
		request->cause = flag(rec, "odd_dress") ? "in a dress that may not be understood"
							: "closed by a reset of the client";
	} else if (strcmp(outcome, "cut") == 0) {
		request->cause = "cut";
		if (is(whole, "maybe") || is(whole, "yes"))
			request->delivered = is(whole, "maybe") || flag(rec, "odd_dress") ? JD_MAYBE : JD_YES;
	} else if (strcmp(outcome, "pending") == 0) {
		request->delivered = JD_MAYBE;
		request->cause = "still under way";
	} else {
		request->cause = flag(rec, "provider_died") ? "the provider died" : "the client had gone";
	}
}

static void chain(struct jd_request *request)
{
	struct jd_token *token = request->token;
	struct jd_grant *grant = request->grant;

	if (token != NULL && token->first == NULL)
		token->first = request;
	else if (token != NULL)
		token->last->next_of_token = request;
	if (token != NULL)
		token->last = request;
	if (grant == NULL)
		return;
	if (grant->first == NULL)
		grant->first = request;
	else
		grant->last->next_of_grant = request;
	grant->last = request;
	if (!request->refresh && request->spent)
		grant->opened = request;
}

/* Also for one that the provider never gave out: somebody made it up, or the script did. */
static struct jd_token *token_of(struct judge *judge, const char *hash, bool refresh)
{
	struct jd_token *token = jd_token(judge, hash);

	if (token != NULL)
		return token;
	token = jd_new(1, sizeof(*token));
	*token = (struct jd_token){ .hash = hash, .kind = refresh ? JD_REFRESH : JD_CODE, .spent_by = -1 };
	jd_index_put(&judge->by_hash, hash, token);
	return token;
}

static void read_request(struct judge *judge, json_object *rec)
{
	struct jd_request *request = &judge->requests[judge->request_count++];
	const char *grant = text(rec, "grant");

	request->n = number(rec, "n", -1);
	request->at = number(rec, "at", 0);
	request->ended_at = number(rec, "ended_at", 0);
	request->refresh = is(grant, "refresh_token");
	request->sent = text(rec, "token");
	request->client = text(rec, "client");
	request->status = (int)number(rec, "status", 0);
	request->spent = flag(rec, "spent");
	request->scripted = flag(rec, "scripted");
	request->token = token_of(judge, request->sent, request->refresh);
	request->grant = request->token->grant != NULL ? request->token->grant
						       : grant_at(judge, number(rec, "grant_n", -1));
	if (request->client == NULL && request->grant != NULL)
		request->client = request->grant->client;
	read_carried(judge, request, rec);
	read_outcome(request, rec);
	chain(request);
	if (request->refresh_token != NULL && request->delivered != JD_NO)
		jd_index_put(&judge->carried, request->refresh_token, request);
}

struct jd_time {
	int64_t at;
};

int64_t jd_bearer_refused_at(const struct judge *judge, const char *hash)
{
	const struct jd_time *time = jd_index_get(&judge->refused_bearers, hash);

	return time != NULL ? time->at : INT64_MAX;
}

static void note_refused_bearer(struct judge *judge, json_object *rec)
{
	const char *bearer = text(rec, "bearer");
	struct jd_time *time;

	if (bearer == NULL || number(rec, "status", 0) != 401 || jd_index_get(&judge->refused_bearers, bearer) != NULL)
		return;
	time = jd_new(1, sizeof(*time));
	time->at = number(rec, "at", 0);
	jd_index_put(&judge->refused_bearers, bearer, time);
}

/* A provider that died may not have sent what it had written down: of each
 * connection that was open then, the last answer is uncertain. */
static void doubt_last_answers(struct judge *judge, json_object *recs, int64_t start_n)
{
	bool seen[65536] = { false };
	size_t at = json_object_array_length(recs);
	size_t i = judge->request_count;

	while (at-- > 0) {
		json_object *rec = json_object_array_get_idx(recs, at);
		const int64_t port = number(rec, "remote_port", 0);

		while (i > 0 && judge->requests[i - 1].n > number(rec, "n", 0))
			i--;
		if (number(rec, "n", 0) >= start_n || port < 0 || port > 65535 || seen[port])
			continue;
		seen[port] = true;
		if (i > 0 && judge->requests[i - 1].n == number(rec, "n", 0) && text(rec, "closed") == NULL
			&& judge->requests[i - 1].delivered == JD_YES) {
			judge->requests[i - 1].delivered = JD_MAYBE;
			judge->requests[i - 1].cause = "the provider died soon after";
		}
	}
}

static void read_requests(struct judge *judge)
{
	json_object *recs = list(judge, "requests");
	json_object *starts = member(judge->ledger, "starts");
	const size_t count = json_object_array_length(recs);
	size_t i;

	judge->requests = jd_new(count, sizeof(*judge->requests));
	for (i = 0; i < count; i++) {
		json_object *rec = json_object_array_get_idx(recs, i);
		const char *endpoint = text(rec, "endpoint");
		const char *sent = text(rec, "token");
		const char *grant = text(rec, "grant");

		if (is(endpoint, "api"))
			note_refused_bearer(judge, rec);
		if (!flag(rec, "arrived_complete") || sent == NULL)
			continue;
		if (is(endpoint, "token") || is(endpoint, "revoke"))
			jd_index_put(&judge->presented, sent, rec);
		if (is(endpoint, "token") && (is(grant, "refresh_token") || is(grant, "authorization_code")))
			read_request(judge, rec);
	}
	for (i = 0; starts != NULL && i < json_object_array_length(starts); i++)
		doubt_last_answers(judge, recs, number(json_object_array_get_idx(starts, i), "n", 0));
}

/* ---- where it comes from ------------------------------------------------------------------ */

struct page {
	char *text;
	size_t len;
};

static size_t take(char *data, size_t size, size_t count, void *ctx)
{
	struct page *page = ctx;
	char *longer = realloc(page->text, page->len + size * count + 1);

	if (longer == NULL)
		return 0;
	memcpy(longer + page->len, data, size * count);
	page->len += size * count;
	longer[page->len] = '\0';
	page->text = longer;
	return size * count;
}

static json_object *fetch(const char *url)
{
	const size_t len = strlen(url);
	const char *page_name = len > 7 && strcmp(url + len - 7, "/ledger") == 0 ? "" : "/ledger";
	CURL *curl = curl_easy_init();
	struct page page = { NULL, 0 };
	char *whole = NULL;
	CURLcode rc;
	json_object *json;

	if (curl == NULL || asprintf(&whole, "%s%s", url, page_name) < 0)
		jd_give_up("out of memory");
	curl_easy_setopt(curl, CURLOPT_URL, whole);
	curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &page);
	rc = curl_easy_perform(curl);
	curl_easy_cleanup(curl);
	if (rc != CURLE_OK)
		jd_give_up("%s: %s", whole, curl_easy_strerror(rc));
	json = json_tokener_parse(page.text != NULL ? page.text : "");
	if (json == NULL)
		jd_give_up("%s: this is no JSON", whole);
	free(whole);
	free(page.text);
	return json;
}

void jd_read_ledger(struct judge *judge, const char *source)
{
	if (strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0)
		judge->ledger = fetch(source);
	else
		judge->ledger = json_object_from_file(source);
	if (!json_object_is_type(judge->ledger, json_type_object))
		jd_give_up("%s: this is no ledger", source);
	jd_index_new(&judge->carried);
	jd_index_new(&judge->presented);
	jd_index_new(&judge->kept);
	jd_index_new(&judge->refused_bearers);
	judge->base = text(judge->ledger, "base");
	judge->first = number(judge->ledger, "first", 0);
	read_grants(judge);
	read_tokens(judge);
	read_requests(judge);
}
