/* SPDX-License-Identifier: MIT
 * The script: what happens to single requests. Tests queue entries at the
 * control port; the first that matches a request is taken and used up.
 *
 * AN ENTRY  { endpoint, grant, token, times, do }: treats the next `times`
 *   (1; -1: all) requests at "discovery", "jwks", "auth", "page", "token",
 *   "revoke", "api" or "other". grant is "authorization_code", "refresh_token"
 *   or absent; token is the SHA-256 (hex) of the code or refresh token meant.
 *
 * DO        Without it: the ordinary answer.
 *   status, headers {…}, json (any), body (text; {{access_token}}, {{id_token}},
 *             {{refresh_token}} and {{sent}} are filled in): replace the answer
 *   set       {…}: merged into a successful JSON answer, null deletes; at /auth
 *             into the parameters of the redirect, a list gives duplicates
 *   error, error_description   at /auth: a redirect with that error
 *   spend     whether the code is used up or the refresh token rotated. Default:
 *             yes, unless status >= 300, json, redirect, or a body without
 *             {{refresh_token}} is given
 *   id_token  { claims {…}, claims_in {name: seconds from now}, header {…}
 *             (null deletes in both), alg, sign: "none" | "hs256_pem" |
 *             "hs256_der" | "wrong_key" | "broken", raw: text, suffix: text }
 *   delay_ms, hold: "name"  after the tokens changed, before the answer leaves
 *   hold_before: "name"     before anything is looked at
 *   cut       "before_answer" | "after_headers" | "half_body" | "after_body"
 *             (everything arrives, but the length promised more) |
 *             {"after_bytes": n of the body} | {"at": n of the whole answer};
 *             the connection is then closed without a word: with reset:true by
 *             a TCP reset, with half_close:true on our side only, with
 *             close_notify:true with TLS's own good-bye
 *   stall     { at | after_bytes, ms }: the bytes stop there for a while
 *   drip      { bytes, every_ms }: the body in pieces
 *   redirect  { status, location }
 *   content_type, no_content_type, form (form-encoded), bom, suffix (text), close
 */
#include "practice.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the queue ------------------------------------------------------------------- */

static json_object *queue; /* array of entries */

static bool known(json_object *object, const char *const *words, const char *where, char **why)
{
	if (!json_object_is_type(object, json_type_object)) {
		*why = pp_printf("%s: an object is wanted", where);
		return false;
	}
	json_object_object_foreach(object, name, value)
	{
		size_t i;

		(void)value;
		for (i = 0; words[i] != NULL && strcmp(words[i], name) != 0; i++)
			;
		if (words[i] == NULL) {
			*why = pp_printf("%s: unknown word \"%s\"", where, name);
			return false;
		}
	}
	return true;
}

static bool check_entry(json_object *entry, char **why)
{
	static const char *const entry_words[] = { "endpoint", "grant", "token", "times", "do", NULL };
	static const char *const do_words[] = { "status", "headers", "json", "body", "set", "error",
		"error_description", "spend", "id_token", "delay_ms", "hold", "hold_before", "cut", "reset",
		"half_close", "close_notify", "stall", "drip", "redirect", "content_type", "no_content_type", "form",
		"bom", "suffix", "close", NULL };
	static const char *const id_token_words[] = { "claims", "claims_in", "header", "alg", "sign", "raw", "suffix",
		NULL };
	static const char *const endpoints[] = { "discovery", "jwks", "auth", "page", "token", "revoke", "api", "other",
		NULL };
	json_object *act;
	const char *endpoint;
	size_t i;

	if (!known(entry, entry_words, "queue", why))
		return false;
	act = pp_member(entry, "do");
	if (act != NULL
		&& (!known(act, do_words, "do", why)
			|| (pp_member(act, "id_token") != NULL
				&& !known(pp_member(act, "id_token"), id_token_words, "id_token", why))))
		return false;
	endpoint = pp_text(entry, "endpoint", "");
	for (i = 0; endpoints[i] != NULL && strcmp(endpoints[i], endpoint) != 0; i++)
		;
	if (endpoints[i] == NULL)
		*why = pp_printf("queue: no endpoint \"%s\"", endpoint);
	return endpoints[i] != NULL;
}

bool pp_script_queue(json_object *entries, char **why)
{
	size_t i;

	if (!json_object_is_type(entries, json_type_array)) {
		*why = pp_strdup("queue: an array is wanted");
		return false;
	}
	if (queue == NULL)
		queue = json_object_new_array();
	for (i = 0; i < json_object_array_length(entries); i++) {
		json_object *entry = json_object_array_get_idx(entries, i);

		if (!check_entry(entry, why))
			return false;
		json_object_array_add(queue, pp_copy(entry));
	}
	return true;
}

void pp_script_clear(const char *endpoint)
{
	size_t i = queue != NULL ? json_object_array_length(queue) : 0;

	while (i-- > 0) {
		if (endpoint == NULL
			|| strcmp(endpoint, pp_text(json_object_array_get_idx(queue, i), "endpoint", "")) == 0)
			json_object_array_del_idx(queue, i, 1);
	}
}

static bool fits(json_object *entry, const char *name, const char *value)
{
	const char *wanted = pp_text(entry, name, NULL);

	return wanted == NULL || (value != NULL && strcmp(wanted, value) == 0);
}

json_object *pp_script_take(const char *endpoint, const char *grant, const char *token_hash)
{
	const size_t count = queue != NULL ? json_object_array_length(queue) : 0;
	json_object *act = NULL;
	size_t i;

	for (i = 0; i < count; i++) {
		json_object *entry = json_object_array_get_idx(queue, i);
		int64_t times;

		if (!fits(entry, "endpoint", endpoint) || !fits(entry, "grant", grant)
			|| !fits(entry, "token", token_hash))
			continue;
		act = pp_copy(pp_member(entry, "do"));
		times = pp_number(entry, "times", 1);
		if (times > 1)
			json_object_object_add(entry, "times", json_object_new_int64(times - 1));
		else if (times >= 0)
			json_object_array_del_idx(queue, i, 1);
		break;
	}
	return act != NULL ? act : json_object_new_object();
}

/* ---- shaping ----------------------------------------------------------------------- */

static void add_text(char **to, size_t *len, const char *text, size_t count)
{
	char *longer = realloc(*to, *len + count + 1);

	if (longer == NULL)
		pp_die("out of memory");
	memcpy(longer + *len, text, count);
	*len += count;
	longer[*len] = '\0';
	*to = longer;
}

/* Form-encodes a flat object. */
static char *form_of(json_object *json)
{
	char *out = pp_strdup("");
	size_t len = 0;

	json_object_object_foreach(json, name, value)
	{
		char *name_coded = pp_form_encode(name);
		char *value_coded = pp_form_encode(value != NULL ? json_object_get_string(value) : "null");
		char *pair = pp_printf("%s%s=%s", len > 0 ? "&" : "", name_coded, value_coded);

		add_text(&out, &len, pair, strlen(pair));
		free(name_coded);
		free(value_coded);
		free(pair);
	}
	return out;
}

/* Fills in {{name}} from the answer that would have been given. */
static char *fill_in(const char *text, json_object *json, const char *sent)
{
	char *out = pp_strdup("");
	size_t len = 0;

	while (*text != '\0') {
		const char *open = strstr(text, "{{");
		const char *end = open != NULL ? strstr(open, "}}") : NULL;
		const char *value;
		char *name;

		if (end == NULL)
			break;
		add_text(&out, &len, text, (size_t)(open - text));
		name = pp_printf("%.*s", (int)(end - open - 2), open + 2);
		value = strcmp(name, "sent") == 0 ? sent : pp_text(json, name, NULL);
		if (value != NULL)
			add_text(&out, &len, value, strlen(value));
		else
			add_text(&out, &len, open, (size_t)(end + 2 - open));
		free(name);
		text = end + 2;
	}
	add_text(&out, &len, text, strlen(text));
	return out;
}

static char *json_text(json_object *json)
{
	return pp_strdup(json != NULL
			? json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
			: "null");
}

static void set_body(struct pp_answer *answer, char *body, const char *type)
{
	free(answer->body);
	answer->body = body;
	answer->body_len = 0;
	if (type != NULL)
		pp_answer_header(answer, "content-type", "%s", type);
}

/* The body of the endpoint's own answer, in the dress that is asked for. */
static void shape_own(struct pp_answer *answer, json_object *act)
{
	const bool form = pp_flag(act, "form", false);

	if (answer->json == NULL)
		return;
	if (answer->status == 200)
		pp_merge(answer->json, pp_member(act, "set"));
	set_body(answer, form ? form_of(answer->json) : json_text(answer->json),
		form ? "application/x-www-form-urlencoded" : "application/json");
}

static void shape_replaced(struct pp_answer *answer, json_object *act, const char *sent)
{
	json_object *redirect = pp_member(act, "redirect");
	const char *body = pp_text(act, "body", NULL);

	if (json_object_object_get_ex(act, "json", NULL))
		set_body(answer, json_text(pp_member(act, "json")), "application/json");
	if (body != NULL)
		set_body(answer, fill_in(body, answer->json, sent), NULL);
	answer->status = (int)pp_number(act, "status", answer->status);
	if (redirect != NULL) {
		pp_answer_header(answer, "location", "%s", pp_text(redirect, "location", ""));
		set_body(answer, pp_strdup(""), NULL);
		answer->status = (int)pp_number(redirect, "status", 302);
	}
}

void pp_script_shape(struct pp_answer *answer, json_object *act, const char *sent)
{
	const char *type = pp_text(act, "content_type", NULL);
	char *whole;

	shape_own(answer, act);
	shape_replaced(answer, act, sent);
	if (answer->headers == NULL)
		answer->headers = json_object_new_object();
	if (type != NULL)
		pp_answer_header(answer, "content-type", "%s", type);
	if (pp_flag(act, "no_content_type", false))
		json_object_object_del(answer->headers, "content-type");
	if (pp_flag(act, "close", false))
		pp_answer_header(answer, "connection", "close");
	pp_merge(answer->headers, pp_member(act, "headers"));
	if (pp_flag(act, "bom", false) || pp_text(act, "suffix", NULL) != NULL) {
		whole = pp_printf("%s%s%s", pp_flag(act, "bom", false) ? "\xef\xbb\xbf" : "",
			answer->body != NULL ? answer->body : "", pp_text(act, "suffix", ""));
		set_body(answer, whole, NULL);
	}
}

/* ---- holding ------------------------------------------------------------------------- */

/* Their own lock: requests wait here, and pp_lock is never held for long. */
static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hold_changed = PTHREAD_COND_INITIALIZER;
struct hold {
	char *name;
	int waiting;
	uint64_t releases;
	struct hold *next;
};
static struct hold *holds;

static struct hold *hold_named(const char *name)
{
	struct hold *hold;

	for (hold = holds; hold != NULL; hold = hold->next) {
		if (strcmp(hold->name, name) == 0)
			return hold;
	}
	hold = pp_calloc(1, sizeof(*hold));
	hold->name = pp_strdup(name);
	hold->next = holds;
	holds = hold;
	return hold;
}

void pp_hold(const char *name)
{
	struct hold *hold;
	uint64_t before;

	pthread_mutex_lock(&hold_lock);
	hold = hold_named(name);
	before = hold->releases;
	hold->waiting++;
	while (hold->releases == before)
		pthread_cond_wait(&hold_changed, &hold_lock);
	pthread_mutex_unlock(&hold_lock);
}

void pp_release(const char *name)
{
	struct hold *hold;

	pthread_mutex_lock(&hold_lock);
	hold = hold_named(name);
	hold->releases++;
	hold->waiting = 0;
	pthread_cond_broadcast(&hold_changed);
	pthread_mutex_unlock(&hold_lock);
}

int pp_held(const char *name)
{
	int held;

	pthread_mutex_lock(&hold_lock);
	held = hold_named(name)->waiting;
	pthread_mutex_unlock(&hold_lock);
	return held;
}
