/* SPDX-License-Identifier: MIT
 * The control port: a plain http server on loopback, apart from the provider's
 * own ports, so that it works while those are down. It tells every secret.
 *
 * POST /control with a JSON object; an unknown word is a 400.
 *   set       {…}: settings, see settings.c; objects are merged, null instead of
 *             an object brings its default back
 *   queue     [ … ]: what happens to the next requests, see faults.c
 *   clear     true, or an endpoint's name: forget queued entries
 *   release   "name": let go what is held under it now
 *   cut_request {path, after_bytes: n of the whole request, reset, times},
 *   cut_tls   {direction: "in"|"out", after_bytes: n of the connection's TLS
 *             bytes, reset, times, skip: connections first},
 *   refuse_connections n, stall_accept {ms, times}: the next connections; null
 *             takes one of these four back
 *   rotate_key   { alg, same_kid, keep_old }: sign with a new key
 *   withdraw_key "kid": no longer in /jwks
 *   kill_grant   number of a grant as in the ledger, or "all"
 *   kill_bearers true: every bearer given out so far is refused by the data API
 *   close_idle   true: close idle connections
 *   down         true: cut and refuse connections; false: listen again
 *   reset_ledger true: forget requests and counts (grants and tokens stay)
 * GET /control/held?name=N  ->  {"held":n}, the requests held now
 *
 * GET /ledger  ->  { requests, grants, tokens, counts, arrivals, now }: ledger.c
 * GET /ledger/arrivals?token=SHA256  ->  {"count":n}, of whole token requests
 * GET /ledger/count?endpoint=E[&grant=G]  ->  {"count":n}, of whole requests
 * GET /ledger/raw?hash=SHA256        ->  the code or token itself, text
 * GET /ledger/body?n=N               ->  the body of request n, text
 */
#include "practice.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX ((size_t)4 * 1024 * 1024)

/* ---- words --------------------------------------------------------------------------- */

static bool kill_grants(json_object *which, char **why)
{
	const bool all = json_object_is_type(which, json_type_string);
	const int64_t n = json_object_get_int64(which);
	size_t i;

	if (!all && (n < 0 || (size_t)n >= pp_grant_count())) {
		*why = pp_printf("kill_grant: no grant %lld", (long long)n);
		return false;
	}
	for (i = all ? 0 : (size_t)n; i < (all ? pp_grant_count() : (size_t)n + 1); i++)
		pp_grant_end(pp_grant_at(i), "killed");
	return true;
}

static void kill_bearers(void)
{
	size_t i;

	for (i = 0; i < pp_token_count(); i++) {
		struct pp_token *token = pp_token_at(i);

		if ((token->kind == PP_ACCESS || token->kind == PP_ID) && !token->dead) {
			token->dead = true;
			pp_token_write(token);
		}
	}
}

/* Words for the state that pp_lock guards. */
static bool change_state(const char *word, json_object *value, char **why)
{
	if (strcmp(word, "set") == 0)
		return pp_settings_change(value, why);
	if (strcmp(word, "queue") == 0)
		return pp_script_queue(value, why);
	if (strcmp(word, "kill_grant") == 0)
		return kill_grants(value, why);
	if (strcmp(word, "clear") == 0)
		pp_script_clear(json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL);
	else if (strcmp(word, "rotate_key") == 0)
		pp_key_rotate(pp_text(value, "alg", pp_setting_text(NULL, "alg")), pp_flag(value, "same_kid", false),
			pp_flag(value, "keep_old", true));
	else if (strcmp(word, "withdraw_key") == 0)
		pp_key_withdraw(json_object_get_string(value));
	else if (strcmp(word, "kill_bearers") == 0)
		kill_bearers();
	else if (strcmp(word, "reset_ledger") == 0)
		pp_ledger_reset();
	else {
		*why = pp_printf("control: unknown word \"%s\"", word);
		return false;
	}
	return true;
}

/* Words for the wire, and those that wake requests: not under pp_lock. */
static bool obey(const char *word, json_object *value, char **why)
{
	static const char *const wire_words[] = { "cut_request", "cut_tls", "refuse_connections", "stall_accept",
		NULL };
	bool done;
	size_t i;

	for (i = 0; wire_words[i] != NULL; i++) {
		if (strcmp(word, wire_words[i]) == 0)
			return pp_wire_arm(word, value, why);
	}
	if (strcmp(word, "release") == 0) {
		pp_release(json_object_get_string(value));
	} else if (strcmp(word, "close_idle") == 0) {
		pp_wire_close_idle();
	} else if (strcmp(word, "down") == 0) {
		pp_listeners_down(json_object_get_boolean(value));
	} else {
		pp_lock();
		done = change_state(word, value, why);
		pp_unlock();
		return done;
	}
	return true;
}

/* *why: what was wrong, or NULL. */
static void control(const char *body, char **why)
{
	json_object *words = json_tokener_parse(body);

	*why = NULL;
	if (!json_object_is_type(words, json_type_object)) {
		*why = pp_strdup("control: a JSON object is wanted");
	} else {
		json_object_object_foreach(words, word, value)
		{
			if (!obey(word, value, why))
				break;
		}
	}
	json_object_put(words);
}

/* ---- pages --------------------------------------------------------------------------- */

static json_object *count_json(const char *name, int count)
{
	json_object *json = json_object_new_object();

	json_object_object_add(json, name, json_object_new_int(count));
	return json;
}

static void text_answer(struct pp_answer *answer, const char *text)
{
	answer->status = text != NULL ? 200 : 404;
	answer->body = pp_strdup(text != NULL ? text : "");
	pp_answer_header(answer, "content-type", "text/plain");
}

static void raw_token(struct pp_answer *answer, const char *hash)
{
	const struct pp_token *token = hash != NULL ? pp_token_by_hash(hash) : NULL;

	text_answer(answer, token != NULL ? token->text : NULL);
}

/* Locked. */
static void ledger_page(const char *path, json_object *query, struct pp_answer *answer)
{
	if (strcmp(path, "/ledger") == 0) {
		answer->json = pp_ledger_json();
	} else if (strcmp(path, "/ledger/arrivals") == 0) {
		answer->json = count_json("count", pp_ledger_arrivals(pp_text(query, "token", "")));
	} else if (strcmp(path, "/ledger/count") == 0) {
		answer->json = count_json(
			"count", pp_ledger_count(pp_text(query, "endpoint", ""), pp_text(query, "grant", NULL)));
	} else if (strcmp(path, "/ledger/raw") == 0) {
		raw_token(answer, pp_text(query, "hash", NULL));
	} else if (strcmp(path, "/ledger/body") == 0) {
		text_answer(answer, pp_ledger_body(strtoll(pp_text(query, "n", "-1"), NULL, 10)));
	} else {
		answer->status = 404;
		answer->json = json_object_new_object();
		json_object_object_add(answer->json, "error", json_object_new_string("no such page"));
	}
}

static void control_page(const char *body, struct pp_answer *answer)
{
	char *why;

	control(body, &why);
	answer->status = why == NULL ? 200 : 400;
	answer->json = json_object_new_object();
	if (why == NULL)
		json_object_object_add(answer->json, "ok", json_object_new_boolean(1));
	else
		json_object_object_add(answer->json, "error", json_object_new_string(why));
	free(why);
}

static void administer(const char *path, json_object *query, const char *body, struct pp_answer *answer)
{
	answer->status = 200;
	if (strcmp(path, "/control") == 0) {
		control_page(body, answer);
	} else if (strcmp(path, "/control/held") == 0) {
		answer->json = count_json("held", pp_held(pp_text(query, "name", "")));
	} else {
		pp_lock();
		ledger_page(path, query, answer);
		pp_unlock();
	}
}

/* ---- libmicrohttpd --------------------------------------------------------------------- */

struct call {
	char *body;
	size_t len;
	bool too_long;
};

static enum MHD_Result add_query(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	json_object_object_add(ctx, name, json_object_new_string(value != NULL ? value : ""));
	return MHD_YES;
}

static enum MHD_Result reply(struct MHD_Connection *connection, struct pp_answer *answer)
{
	const char *text = answer->json != NULL
		? json_object_to_json_string_ext(answer->json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		: answer->body != NULL ? answer->body
				       : "";
	struct MHD_Response *response = MHD_create_response_from_buffer(
		strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result queued;

	if (response == NULL)
		return MHD_NO;
	if (MHD_add_response_header(response, "content-type", answer->json != NULL ? "application/json" : "text/plain")
		!= MHD_YES)
		pp_die("out of memory");
	queued = MHD_queue_response(connection, (unsigned)answer->status, response);
	MHD_destroy_response(response);
	return queued;
}

static enum MHD_Result take_part(struct call *call, const char *data, size_t *size)
{
	char *longer = call->len + *size < BODY_MAX ? realloc(call->body, call->len + *size + 1) : NULL;

	if (longer == NULL)
		return MHD_NO;
	memcpy(longer + call->len, data, *size);
	call->len += *size;
	longer[call->len] = '\0';
	call->body = longer;
	*size = 0;
	return MHD_YES;
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
	const char *version, const char *data, size_t *size, void **state)
{
	struct call *call = *state;
	struct pp_answer answer = { 0 };
	json_object *query;
	enum MHD_Result queued;

	(void)ctx;
	(void)method;
	(void)version;
	if (call == NULL) {
		*state = pp_calloc(1, sizeof(*call));
		return MHD_YES;
	}
	if (*size > 0)
		return take_part(call, data, size);
	query = json_object_new_object();
	MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_query, query);
	administer(path, query, call->body != NULL ? call->body : "", &answer);
	queued = reply(connection, &answer);
	pp_answer_clear(&answer);
	json_object_put(query);
	return queued;
}

static void forget(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
	struct call *call = *state;

	(void)ctx;
	(void)connection;
	(void)how;
	if (call != NULL)
		free(call->body);
	free(call);
	*state = NULL;
}

static struct MHD_Daemon *server;

int pp_control_start(int port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	const union MHD_DaemonInfo *info;

	server = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_THREAD_PER_CONNECTION,
		(uint16_t)port, NULL, NULL, handle, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at,
		MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
	info = server != NULL ? MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT) : NULL;
	if (info == NULL)
		pp_die("can't listen on 127.0.0.1:%d for control", port);
	return info->port;
}

void pp_control_stop(void)
{
	if (server != NULL)
		MHD_stop_daemon(server);
	server = NULL;
}
