/* SPDX-License-Identifier: MIT
 * What arrived, and the file that outlives the provider. Everything here is
 * locked by the caller (pp_lock).
 *
 * GET /ledger  ->  {
 *   requests: [ { n, at (ms), method, endpoint, path, grant, token, bearer, client,
 *     auth, authorization, content_type, accept, params (secrets as SHA-256),
 *     remote_port, arrived_complete, status, error, spent, reused, grant_n,
 *     generation, issued: [hashes], answer_sent, closed, ended_at,
 *     carried: what the body of an answer at /token told, scripts and all
 *       { access_token, id_token, refresh_token (hashes), expires_in, access_exp,
 *       id_exp, sub, error, error_description },
 *     scripted: the script changed what it told, odd_dress: or how it was told,
 *     carried_whole: "yes" | "no" | "maybe", if the script cut the answer,
 *     outcome: "pending" | "answered" | "cut" | "gone" } ],
 *   grants: [ { n, sub, client, connector, scope, alive, ended_at, ended_why,
 *     generation, current, spent: [hashes] } ],
 *   tokens: [ { hash, kind: "code" | "refresh" | "access" | "id", grant, generation,
 *     issued_at, ends_at, issued_by, spent_at, spent_by, dead } ],
 *   counts: { endpoint: n }, arrivals: { token: n }, starts: [ { at, n } ],
 *   first (number of the first request that it remembers), base (URL), now }
 *
 * Request numbers go on growing when the ledger is reset, so that issued_by and
 * spent_by always mean the request that they meant. starts: when the provider was
 * started over a ledger that was there, and the number of its next request then;
 * what was pending at that moment is "gone" and has provider_died.
 *
 * The file: one JSON object a line, {"t": table, "k": key, "v": value}, each
 * written by one write(2) at the end, so that a provider that is killed loses
 * nothing that it had answered. At start the last value of each table and key
 * counts; a last line that a kill tore is cut off.
 */
#include "practice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const int plain_json = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;

static void add_text(json_object *object, const char *name, const char *text)
{
	if (text != NULL)
		json_object_object_add(object, name, json_object_new_string(text));
}

static void add_number(json_object *object, const char *name, int64_t number)
{
	json_object_object_add(object, name, json_object_new_int64(number));
}

static void add_flag(json_object *object, const char *name, bool flag)
{
	json_object_object_add(object, name, json_object_new_boolean(flag));
}

static void add_hash(json_object *object, const char *name, const char *secret)
{
	char *hash = pp_sha256_hex(secret);

	add_text(object, name, hash);
	free(hash);
}

/* ---- the file ------------------------------------------------------------------- */

enum { TABLES_MAX = 32 };

struct table {
	char *name;
	json_object *rows; /* key -> value, what was replayed and nobody has fetched yet */
	void (*restore)(const char *key, json_object *value);
};

static struct {
	int fd; /* -1: nothing is kept */
	char *path;
	bool replayed;
	struct table tables[TABLES_MAX];
	size_t table_count;
} journal = { .fd = -1 };

static struct table *find_table(const char *name)
{
	struct table *table;
	size_t i;

	for (i = 0; i < journal.table_count; i++) {
		if (strcmp(journal.tables[i].name, name) == 0)
			return &journal.tables[i];
	}
	if (journal.table_count == TABLES_MAX)
		pp_die("the ledger has more than %d tables", TABLES_MAX);
	table = &journal.tables[journal.table_count++];
	table->name = pp_strdup(name);
	return table;
}

/* In the order in which the keys first came. */
static void hand_out(struct table *table)
{
	json_object *rows = table->rows;

	if (rows == NULL || table->restore == NULL)
		return;
	table->rows = NULL;
	json_object_object_foreach(rows, key, value) table->restore(key, value);
	json_object_put(rows);
}

void pp_journal_restore(const char *table, void (*restore)(const char *key, json_object *value))
{
	struct table *entry = find_table(table);

	entry->restore = restore;
	if (journal.replayed)
		hand_out(entry);
}

static void write_line(const char *line, size_t len)
{
	while (len > 0) {
		const ssize_t done = write(journal.fd, line, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			pp_die("%s: %s", journal.path, strerror(errno));
		line += done;
		len -= (size_t)done;
	}
}

void pp_journal_put(const char *table, const char *key, json_object *value)
{
	json_object *line;
	const char *text;
	char *ended;

	if (journal.fd < 0) {
		json_object_put(value);
		return;
	}
	line = json_object_new_object();
	add_text(line, "t", table);
	add_text(line, "k", key);
	json_object_object_add(line, "v", value);
	text = json_object_to_json_string_ext(line, plain_json);
	ended = pp_printf("%s\n", text);
	write_line(ended, strlen(ended));
	free(ended);
	json_object_put(line);
}

static bool replay_line(const char *text)
{
	json_object *line = json_tokener_parse(text);
	const char *name = pp_text(line, "t", NULL);
	const char *key = pp_text(line, "k", NULL);
	struct table *table;

	if (name == NULL || key == NULL) {
		json_object_put(line);
		return false;
	}
	table = find_table(name);
	if (strcmp(name, "reset") == 0) {
		json_object_put(find_table("request")->rows);
		find_table("request")->rows = NULL;
		json_object_put(find_table("start")->rows);
		find_table("start")->rows = NULL;
	}
	if (table->rows == NULL)
		table->rows = json_object_new_object();
	json_object_object_add(table->rows, key, json_object_get(pp_member(line, "v")));
	json_object_put(line);
	return true;
}

/* True if the file held anything. */
static bool replay(void)
{
	FILE *file = fopen(journal.path, "re");
	char *line = NULL;
	size_t cap = 0;
	off_t whole = 0;
	long number = 0;
	ssize_t len;

	if (file == NULL)
		pp_die("%s: %s", journal.path, strerror(errno));
	while ((len = getline(&line, &cap, file)) > 0 && line[len - 1] == '\n') {
		number++;
		if (!replay_line(line))
			pp_die("%s:%ld: this is no line of a ledger", journal.path, number);
		whole += len;
	}
	if (ferror(file) || ftruncate(journal.fd, whole) != 0)
		pp_die("%s: %s", journal.path, strerror(errno));
	free(line);
	fclose(file);
	return number > 0;
}

static void open_file(const char *path)
{
	journal.path = pp_strdup(path);
	journal.fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (journal.fd < 0)
		pp_die("%s: %s", path, strerror(errno));
	if (flock(journal.fd, LOCK_EX | LOCK_NB) != 0)
		pp_die("%s: another provider is using this ledger (%s)", path, strerror(errno));
	if (fchmod(journal.fd, 0600) != 0) /* it holds every secret of the practice provider */
		pp_die("%s: %s", path, strerror(errno));
}

/* ---- requests ------------------------------------------------------------------------ */

static struct {
	json_object **list;
	char **bodies; /* NULL for those of an earlier run */
	size_t count;
	size_t room;
	int64_t first;         /* number of list[0] */
	json_object *heads;    /* endpoint -> requests whose head arrived */
	json_object *whole;    /* "endpoint" and "endpoint grant" -> whole ones */
	json_object *arrivals; /* token -> whole requests at /token */
	json_object *starts;
} requests;

static void count_one(json_object *counter, const char *name)
{
	json_object_object_add(counter, name, json_object_new_int64(pp_number(counter, name, 0) + 1));
}

static void empty_requests(int64_t first)
{
	json_object **const maps[] = { &requests.heads, &requests.whole, &requests.arrivals };
	size_t i;

	for (i = 0; i < requests.count; i++) {
		json_object_put(requests.list[i]);
		free(requests.bodies[i]);
	}
	for (i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		json_object_put(*maps[i]);
		*maps[i] = json_object_new_object();
	}
	json_object_put(requests.starts);
	requests.starts = json_object_new_array();
	requests.count = 0;
	requests.first = first;
}

static void *grow(void *list, size_t count, size_t size)
{
	void *longer = reallocarray(list, count, size);

	if (longer == NULL)
		pp_die("out of memory");
	return longer;
}

/* Takes rec. */
static void append(json_object *rec)
{
	if (requests.count == requests.room) {
		requests.room = requests.room == 0 ? 256 : requests.room * 2;
		requests.list = grow(requests.list, requests.room, sizeof(requests.list[0]));
		requests.bodies = grow(requests.bodies, requests.room, sizeof(requests.bodies[0]));
	}
	requests.list[requests.count] = rec;
	requests.bodies[requests.count++] = NULL;
}

static void count_head(json_object *rec)
{
	count_one(requests.heads, pp_text(rec, "endpoint", "other"));
}

static void count_whole(json_object *rec)
{
	const char *endpoint = pp_text(rec, "endpoint", "other");
	const char *token = pp_text(rec, "token", NULL);
	char *both = pp_printf("%s %s", endpoint, pp_text(rec, "grant", ""));

	count_one(requests.whole, endpoint);
	count_one(requests.whole, both);
	if (token != NULL && strcmp(endpoint, "token") == 0)
		count_one(requests.arrivals, token);
	free(both);
}

json_object *pp_ledger_request(const struct pp_request *req)
{
	json_object *rec = json_object_new_object();

	add_number(rec, "n", requests.first + (int64_t)requests.count);
	add_number(rec, "at", pp_now_ms());
	add_text(rec, "method", req->method);
	add_text(rec, "endpoint", pp_endpoint_name(req->endpoint));
	add_text(rec, "path", req->path);
	add_text(rec, "authorization", pp_header(req, "authorization"));
	add_text(rec, "content_type", pp_header(req, "content-type"));
	add_text(rec, "accept", pp_header(req, "accept"));
	add_number(rec, "remote_port", req->remote_port);
	add_flag(rec, "arrived_complete", false);
	add_flag(rec, "spent", false);
	add_flag(rec, "reused", false);
	add_text(rec, "outcome", "pending");
	append(rec);
	count_head(rec);
	return json_object_get(rec);
}

static bool is_secret(const char *name)
{
	static const char *const names[] = { "code", "refresh_token", "token", "client_secret", "code_verifier",
		"password" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static json_object *shown(const char *name, json_object *value)
{
	json_object *list;
	char *hash;
	size_t i;

	if (!is_secret(name))
		return pp_copy(value);
	if (json_object_is_type(value, json_type_array)) {
		list = json_object_new_array();
		for (i = 0; i < json_object_array_length(value); i++)
			json_object_array_add(list, shown(name, json_object_array_get_idx(value, i)));
		return list;
	}
	hash = pp_sha256_hex(json_object_get_string(value));
	value = json_object_new_string(hash);
	free(hash);
	return value;
}

/* The code or token that the request is about; none if it came twice. */
static const char *sent_token(json_object *params)
{
	static const char *const names[] = { "code", "refresh_token", "token" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (pp_member(params, names[i]) != NULL)
			return pp_text(params, names[i], NULL);
	}
	return NULL;
}

static void describe(struct pp_request *req)
{
	json_object *params = json_object_new_object();
	const char *authorization = pp_header(req, "authorization");
	const char *token = sent_token(req->params);
	json_object *grant = pp_member(req->params, "grant_type");

	if (grant != NULL)
		json_object_object_add(req->rec, "grant", pp_copy(grant));
	if (token != NULL)
		add_hash(req->rec, "token", token);
	if (req->endpoint == PP_API && authorization != NULL && strncasecmp(authorization, "Bearer ", 7) == 0)
		add_hash(req->rec, "bearer", authorization + 7);
	if (req->params != NULL) {
		json_object_object_foreach(req->params, name, value)
			json_object_object_add(params, name, shown(name, value));
	}
	json_object_object_add(req->rec, "params", params);
}

/* NULL if the ledger was reset since it began. */
static json_object **slot_of(int64_t n)
{
	const int64_t at = n - requests.first;

	return at >= 0 && (size_t)at < requests.count ? &requests.list[at] : NULL;
}

void pp_ledger_whole(struct pp_request *req)
{
	json_object **slot = slot_of(pp_number(req->rec, "n", -1));

	describe(req);
	add_flag(req->rec, "arrived_complete", true);
	if (slot == NULL)
		return;
	requests.bodies[slot - requests.list] = pp_strdup(req->body != NULL ? req->body : "");
	count_whole(req->rec);
	pp_ledger_write(req->rec);
}

void pp_ledger_write(json_object *rec)
{
	const int64_t n = pp_number(rec, "n", -1);
	char key[24];

	if (strcmp(pp_text(rec, "outcome", "pending"), "pending") != 0 && pp_member(rec, "ended_at") == NULL)
		add_number(rec, "ended_at", pp_now_ms());
	if (journal.fd < 0 || slot_of(n) == NULL)
		return;
	snprintf(key, sizeof(key), "%lld", (long long)n);
	pp_journal_put("request", key, json_object_get(rec));
}

void pp_ledger_reset(void)
{
	const int64_t next = requests.first + (int64_t)requests.count;

	empty_requests(next);
	pp_journal_put("reset", "", json_object_new_int64(next));
}

int pp_ledger_count(const char *endpoint, const char *grant)
{
	char *both = grant != NULL ? pp_printf("%s %s", endpoint, grant) : pp_strdup(endpoint);
	const int64_t count = pp_number(requests.whole, both, 0);

	free(both);
	return (int)count;
}

int pp_ledger_arrivals(const char *token_hash)
{
	return (int)pp_number(requests.arrivals, token_hash, 0);
}

const char *pp_ledger_body(int64_t n)
{
	json_object **slot = slot_of(n);

	return slot != NULL ? requests.bodies[slot - requests.list] : NULL;
}

/* ---- what an answer told ------------------------------------------------------------- */

/* Claims of a JWT, unchecked; NULL if it is none. */
static json_object *claims_of(const char *token)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const char *from = strchr(token, '.');
	char *text = pp_calloc(1, strlen(token) + 1);
	json_object *claims;
	const char *digit;
	size_t used = 0;
	uint32_t bits = 0;
	unsigned count = 0;

	for (from = from != NULL ? from + 1 : ""; *from != '\0' && (digit = strchr(digits, *from)) != NULL; from++) {
		bits = (bits << 6) | (uint32_t)(digit - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			text[used++] = (char)((bits >> count) & 0xff);
		}
	}
	claims = json_tokener_parse(text);
	free(text);
	if (json_object_is_type(claims, json_type_object))
		return claims;
	json_object_put(claims);
	return NULL;
}

static void carry_token(json_object *carried, json_object *told, const char *name, const char *exp_name)
{
	const char *token = pp_text(told, name, "");
	json_object *claims = *token != '\0' ? claims_of(token) : NULL;

	if (*token != '\0')
		add_hash(carried, name, token);
	if (exp_name != NULL && pp_member(claims, "exp") != NULL)
		add_number(carried, exp_name, pp_number(claims, "exp", 0));
	if (strcmp(name, "id_token") == 0)
		add_text(carried, "sub", pp_text(claims, "sub", NULL));
	json_object_put(claims);
}

/* JSON, or a form; NULL for what can't be read. */
static json_object *read_told(const struct pp_answer *answer)
{
	const char *text = answer->body != NULL ? answer->body : "";
	json_object *told;

	if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	told = json_tokener_parse(text);
	if (told == NULL && strchr(text, '=') != NULL)
		told = pp_form_parse(text);
	if (json_object_is_type(told, json_type_object))
		return told;
	json_object_put(told);
	return NULL;
}

static bool has_any(json_object *act, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (json_object_object_get_ex(act, *words, NULL))
			return true;
	}
	return false;
}

/* Whether the body reaches the client in spite of the cut. */
static const char *cut_leaves(json_object *cut, int64_t body_len)
{
	if (json_object_is_type(cut, json_type_string))
		return strcmp(json_object_get_string(cut), "after_body") == 0 ? "yes" : "no";
	if (pp_member(cut, "after_bytes") != NULL)
		return pp_number(cut, "after_bytes", 0) >= body_len ? "yes" : "no";
	return pp_number(cut, "at", 0) < body_len ? "no" : "maybe";
}

void pp_ledger_answer(struct pp_request *req, const struct pp_answer *answer)
{
	static const char *const words[] = { "status", "headers", "json", "body", "set", "id_token", "redirect", NULL };
	static const char *const dress[] = { "form", "bom", "suffix", "content_type", "no_content_type", NULL };
	json_object *carried;
	json_object *told;

	if (req->endpoint != PP_TOKEN)
		return;
	carried = json_object_new_object();
	told = read_told(answer);
	carry_token(carried, told, "access_token", "access_exp");
	carry_token(carried, told, "id_token", "id_exp");
	carry_token(carried, told, "refresh_token", NULL);
	if (pp_member(told, "expires_in") != NULL)
		add_number(carried, "expires_in", json_object_get_int64(pp_member(told, "expires_in")));
	add_text(carried, "error", pp_text(told, "error", NULL));
	add_text(carried, "error_description", pp_text(told, "error_description", NULL));
	json_object_object_add(req->rec, "carried", carried);
	if (has_any(req->act, words))
		add_flag(req->rec, "scripted", true);
	if (has_any(req->act, dress))
		add_flag(req->rec, "odd_dress", true);
	if (pp_member(req->act, "cut") != NULL)
		add_text(req->rec, "carried_whole",
			cut_leaves(
				pp_member(req->act, "cut"), answer->body != NULL ? (int64_t)strlen(answer->body) : 0));
	json_object_put(told);
}

/* ---- start ----------------------------------------------------------------------------- */

static void restore_reset(const char *key, json_object *value)
{
	(void)key;
	empty_requests(json_object_get_int64(value));
}

static void restore_start(const char *key, json_object *value)
{
	(void)key;
	json_object_array_add(requests.starts, json_object_get(value));
}

/* Stands for a request that was not written down, since it never became whole. */
static json_object *lost_request(int64_t n)
{
	json_object *rec = json_object_new_object();

	add_number(rec, "n", n);
	add_text(rec, "endpoint", "other");
	add_flag(rec, "arrived_complete", false);
	add_text(rec, "outcome", "gone");
	return rec;
}

/* They come in the order in which they became whole. */
static void restore_request(const char *key, json_object *value)
{
	const int64_t n = strtoll(key, NULL, 10);
	json_object **slot;

	if (n < requests.first || n - requests.first > (int64_t)requests.count + 1000000)
		pp_die("%s: request %s is out of order", journal.path, key);
	while (requests.first + (int64_t)requests.count <= n)
		append(lost_request(requests.first + (int64_t)requests.count));
	slot = slot_of(n);
	json_object_put(*slot);
	*slot = json_object_get(value);
	if (strcmp(pp_text(value, "outcome", ""), "pending") == 0) {
		add_text(value, "outcome", "gone");
		add_flag(value, "provider_died", true);
	}
	count_head(value);
	if (pp_flag(value, "arrived_complete", false))
		count_whole(value);
}

static void note_start(void)
{
	json_object *start = json_object_new_object();
	char key[24];

	add_number(start, "at", pp_now_ms());
	add_number(start, "n", requests.first + (int64_t)requests.count);
	snprintf(key, sizeof(key), "%zu", json_object_array_length(requests.starts));
	pp_journal_put("start", key, json_object_get(start));
	json_object_array_add(requests.starts, start);
}

void pp_ledger_init(const char *path)
{
	bool old = false;
	size_t i;

	empty_requests(0);
	/* In this order: a reset empties what the others fill. */
	pp_journal_restore("reset", restore_reset);
	pp_journal_restore("start", restore_start);
	pp_journal_restore("request", restore_request);
	if (path != NULL) {
		open_file(path);
		old = replay();
	}
	journal.replayed = true;
	for (i = 0; i < journal.table_count; i++)
		hand_out(&journal.tables[i]);
	if (old)
		note_start();
}

/* ---- the page ------------------------------------------------------------------------------ */

static json_object *grant_json(const struct pp_grant *grant)
{
	json_object *json = json_object_new_object();

	add_number(json, "n", grant->n);
	add_text(json, "sub", grant->subject);
	add_text(json, "client", grant->client);
	add_text(json, "connector", grant->connector);
	add_text(json, "scope", grant->scope);
	add_flag(json, "alive", grant->alive);
	if (grant->ended_at != 0)
		add_number(json, "ended_at", grant->ended_at);
	add_text(json, "ended_why", grant->ended_why);
	add_number(json, "generation", grant->generation);
	if (grant->current != NULL)
		add_text(json, "current", grant->current->hash);
	json_object_object_add(json, "spent", json_object_new_array());
	return json;
}

static const char *kind_name(enum pp_kind kind)
{
	switch (kind) {
	case PP_CODE: return "code";
	case PP_REFRESH: return "refresh";
	case PP_ACCESS: return "access";
	default: return "id";
	}
}

static json_object *token_json(const struct pp_token *token)
{
	json_object *json = json_object_new_object();

	add_text(json, "hash", token->hash);
	add_text(json, "kind", kind_name(token->kind));
	if (token->grant != NULL)
		add_number(json, "grant", token->grant->n);
	add_number(json, "generation", token->generation);
	add_number(json, "issued_at", token->issued_at);
	add_number(json, "ends_at", token->ends_at);
	add_number(json, "issued_by", token->issued_by);
	if (token->spent_at != 0) {
		add_number(json, "spent_at", token->spent_at);
		add_number(json, "spent_by", token->spent_by);
	}
	if (token->dead)
		add_flag(json, "dead", true);
	return json;
}

/* The refresh tokens that were rotated away, oldest first. */
static void add_spent(json_object *grants, const struct pp_token *token)
{
	if (token->kind == PP_REFRESH && token->spent_at != 0 && token->grant != NULL && token != token->grant->current)
		json_object_array_add(pp_member(json_object_array_get_idx(grants, (size_t)token->grant->n), "spent"),
			json_object_new_string(token->hash));
}

static void add_grants_and_tokens(json_object *ledger)
{
	json_object *grants = json_object_new_array();
	json_object *tokens = json_object_new_array();
	size_t i;

	for (i = 0; i < pp_grant_count(); i++)
		json_object_array_add(grants, grant_json(pp_grant_at(i)));
	for (i = 0; i < pp_token_count(); i++) {
		json_object_array_add(tokens, token_json(pp_token_at(i)));
		add_spent(grants, pp_token_at(i));
	}
	json_object_object_add(ledger, "grants", grants);
	json_object_object_add(ledger, "tokens", tokens);
}

/* The caller serialises it without the lock, when the requests may be changing:
 * so it is an object that holds its text, made now. Nothing can be looked up in it. */
json_object *pp_ledger_json(void)
{
	json_object *ledger = json_object_new_object();
	json_object *list = json_object_new_array();
	json_object *frozen = json_object_new_object();
	size_t i;

	for (i = 0; i < requests.count; i++)
		json_object_array_add(list, json_object_get(requests.list[i]));
	json_object_object_add(ledger, "requests", list);
	add_grants_and_tokens(ledger);
	json_object_object_add(ledger, "counts", json_object_get(requests.heads));
	json_object_object_add(ledger, "arrivals", json_object_get(requests.arrivals));
	json_object_object_add(ledger, "starts", json_object_get(requests.starts));
	add_number(ledger, "first", requests.first);
	add_text(ledger, "base", pp_base_url());
	add_number(ledger, "now", pp_now_ms());
	json_object_set_serializer(frozen, json_object_userdata_to_json_string,
		pp_strdup(json_object_to_json_string_ext(ledger, plain_json)), json_object_free_userdata);
	json_object_put(ledger);
	return frozen;
}
