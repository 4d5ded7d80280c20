/* SPDX-License-Identifier: MIT
 * The HTTP server behind the wire: libmicrohttpd, with a thread for each
 * connection, over sockets that wire.c hands it. One request: its head makes a
 * record in the ledger, its whole body lets the script choose, the endpoint
 * answers, the script changes the answer, the wire gets its orders for the bytes.
 *
 * Lock: pp_lock for each of these steps; none is held while an answer is held
 * back or delayed. A record says "answered" or "cut" before the first byte
 * leaves, since a test may look as soon as it has the answer.
 */
#include "practice.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define BODY_MAX ((size_t)4 * 1024 * 1024)
enum { HEADS_MAX = 512 * 1024, CONNECTIONS_MAX = 8192, STACK = 1024 * 1024, FILLER = 16 };

static struct MHD_Daemon *server;

/* ---- which connection of the server is which wire ----------------------------------------- */

/* From the moment a socket is handed over until the server has begun with it. */
struct newcomer {
	struct newcomer *next;
	struct pp_wire *wire;
	int fd;
};

static pthread_mutex_t newcomers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct newcomer *newcomers;

/* only: NULL for whichever has this number. */
static struct pp_wire *take_newcomer(int fd, const struct pp_wire *only)
{
	struct newcomer **at = &newcomers;
	struct newcomer *found;
	struct pp_wire *wire = NULL;

	pthread_mutex_lock(&newcomers_lock);
	while (*at != NULL && ((*at)->fd != fd || (only != NULL && (*at)->wire != only)))
		at = &(*at)->next;
	found = *at;
	if (found != NULL) {
		wire = found->wire;
		*at = found->next;
	}
	pthread_mutex_unlock(&newcomers_lock);
	free(found);
	return wire;
}

static void add_newcomer(struct pp_wire *wire, int fd)
{
	struct newcomer *one = pp_calloc(1, sizeof(*one));

	one->wire = wire;
	one->fd = fd;
	pthread_mutex_lock(&newcomers_lock);
	one->next = newcomers;
	newcomers = one;
	pthread_mutex_unlock(&newcomers_lock);
}

bool pp_http_adopt(struct pp_wire *wire, int fd, int remote_port)
{
	struct sockaddr_in from = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)remote_port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	/* One that the server closed without having begun with it; its number is in use again. */
	struct pp_wire *stale = take_newcomer(fd, NULL);

	if (stale != NULL)
		pp_wire_release(stale);
	atomic_fetch_add(&wire->references, 1);
	add_newcomer(wire, fd);
	if (MHD_add_connection(server, fd, (struct sockaddr *)&from, sizeof(from)) == MHD_YES)
		return true;
	/* The number may be another's by now. */
	if (take_newcomer(fd, wire) != NULL)
		pp_wire_release(wire);
	return false;
}

static void connection_changed(
	void *ctx, struct MHD_Connection *connection, void **wire, enum MHD_ConnectionNotificationCode how)
{
	const union MHD_ConnectionInfo *info;

	(void)ctx;
	if (how == MHD_CONNECTION_NOTIFY_STARTED) {
		info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		*wire = info != NULL ? take_newcomer(info->connect_fd, NULL) : NULL;
	} else if (*wire != NULL) {
		pp_wire_release(*wire);
		*wire = NULL;
	}
}

static struct pp_wire *wire_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

/* ---- a request arrives ------------------------------------------------------------------------ */

struct call {
	struct pp_request req;
	char *path; /* raw, as it came */
	char *query;
	char *method;
	struct pp_bytes body;
	bool begun;
	bool too_long;
};

/* The first that is heard of a request: its target, before the server has decoded anything. */
static void *begin_call(void *ctx, const char *target, struct MHD_Connection *connection)
{
	struct call *call = pp_calloc(1, sizeof(*call));
	char *mark;

	(void)ctx;
	(void)connection;
	call->path = pp_strdup(target);
	mark = strchr(call->path, '?');
	call->query = pp_strdup(mark != NULL ? mark + 1 : "");
	if (mark != NULL)
		*mark = '\0';
	return call;
}

/* A name that comes twice has its values in one, RFC 9110, 5.2; cookies: RFC 6265, 5.4. */
static enum MHD_Result add_header(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	char *lower = pp_strdup(name);
	const char *before;
	char *both;
	char *c;

	(void)kind;
	for (c = lower; *c != '\0'; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	}
	before = pp_text(ctx, lower, NULL);
	both = before == NULL
		? pp_strdup(value != NULL ? value : "")
		: pp_printf("%s%s%s", before, strcmp(lower, "cookie") == 0 ? "; " : ", ", value != NULL ? value : "");
	json_object_object_add(ctx, lower, json_object_new_string(both));
	free(both);
	free(lower);
	return MHD_YES;
}

/* The client may have gone before its request was known here. */
static void check_gone(struct pp_request *req)
{
	const char *outcome = pp_text(req->rec, "outcome", "");

	if (!pp_wire_client_gone(req->wire) || strcmp(outcome, "gone") == 0)
		return;
	if (strcmp(outcome, "pending") != 0)
		json_object_object_add(req->rec, "answer_sent", json_object_new_int(0));
	json_object_object_add(req->rec, "outcome", json_object_new_string("gone"));
}

static void begin_request(struct call *call, struct MHD_Connection *connection, const char *method)
{
	const struct pp_wire_fault none = PP_WIRE_FAULT_NONE;
	struct pp_request *req = &call->req;

	call->begun = true;
	call->method = pp_strdup(method);
	req->method = call->method;
	req->path = call->path;
	req->query = call->query;
	req->endpoint = pp_endpoint_of(call->path);
	req->wire = wire_of(connection);
	req->remote_port = pp_wire_port(req->wire);
	req->headers = json_object_new_object();
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, req->headers);
	pp_lock();
	req->rec = pp_ledger_request(req);
	pp_wire_set_fault(req->wire, &none, req->rec);
	check_gone(req);
	pp_unlock();
}

static void take_part(struct call *call, const char *data, size_t len)
{
	if (len > BODY_MAX - call->body.len)
		call->too_long = true;
	else
		pp_bytes_add(&call->body, data, len);
}

/* ---- and is answered ------------------------------------------------------------------------------ */

/* Locked. */
static void take_whole(struct call *call)
{
	struct pp_request *req = &call->req;

	pp_bytes_add(&call->body, "", 1);
	req->body = call->body.data;
	req->body_len = call->body.len - 1;
	req->params = pp_form_parse(strcmp(req->method, "POST") == 0 ? req->body : req->query);
	pp_ledger_whole(req);
	req->act = pp_script_take(
		pp_endpoint_name(req->endpoint), pp_text(req->rec, "grant", NULL), pp_text(req->rec, "token", NULL));
}

static void visit_other(struct pp_request *req, struct pp_answer *answer)
{
	(void)req;
	answer->status = 404;
	answer->body = pp_strdup("no such page");
}

static void visit(struct pp_request *req, struct pp_answer *answer)
{
	static void (*const endpoints[])(struct pp_request *, struct pp_answer *) = { [PP_DISCOVERY] = pp_discovery,
		[PP_JWKS] = pp_jwks,
		[PP_AUTH] = pp_authorize,
		[PP_PAGE] = pp_page,
		[PP_TOKEN] = pp_token,
		[PP_REVOKE] = pp_revoke,
		[PP_API] = pp_accounts,
		[PP_OTHER] = visit_other };

	endpoints[req->endpoint](req, answer);
}

/* The code or token that the request is about; NULL: none, or it came twice. */
static const char *sent_token(const struct pp_request *req)
{
	static const char *const names[] = { "code", "refresh_token", "token" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (pp_member(req->params, names[i]) != NULL)
			return pp_param(req, names[i]);
	}
	return NULL;
}

/* Whether the script has an answer of its own that tells no new refresh token. */
static bool is_replaced(json_object *act)
{
	const char *body = pp_text(act, "body", NULL);

	return json_object_object_get_ex(act, "json", NULL) || pp_member(act, "redirect") != NULL
		|| pp_number(act, "status", 0) >= 300 || (body != NULL && strstr(body, "{{refresh_token}}") == NULL);
}

static void note_error(struct pp_request *req, json_object *own)
{
	json_object *told = pp_member(req->act, "json");
	json_object *error = pp_member(told != NULL ? told : own, "error");

	if (error != NULL)
		json_object_object_add(req->rec, "error", pp_copy(error));
}

/* Locked. */
static void make_answer(struct pp_request *req, struct pp_answer *answer)
{
	const bool replaced = is_replaced(req->act);

	req->spend = pp_flag(req->act, "spend", !replaced);
	answer->status = 200;
	if (!replaced || req->spend || strstr(pp_text(req->act, "body", ""), "{{") != NULL)
		visit(req, answer);
	note_error(req, answer->json);
	pp_script_shape(answer, req->act, sent_token(req));
	json_object_object_add(req->rec, "status", json_object_new_int(answer->status));
	pp_ledger_answer(req, answer);
}

static void wait_ms(int64_t ms)
{
	struct timespec left = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static size_t length_of(const struct pp_answer *answer)
{
	if (answer->body == NULL)
		return 0;
	return answer->body_len > 0 ? answer->body_len : strlen(answer->body);
}

static void plan_cut(json_object *cut, int64_t body_len, struct pp_wire_fault *fault)
{
	const char *where = json_object_is_type(cut, json_type_string) ? json_object_get_string(cut) : NULL;

	if (cut == NULL)
		return;
	if (where == NULL) {
		fault->cut_head = pp_number(cut, "at", -1);
		fault->cut_body = pp_number(cut, "after_bytes", -1);
	} else if (strcmp(where, "after_headers") == 0) {
		fault->cut_body = 0;
	} else if (strcmp(where, "half_body") == 0) {
		fault->cut_body = body_len / 2;
	} else if (strcmp(where, "after_body") == 0) {
		fault->cut_body = body_len;
	} else {
		fault->cut_head = 0; /* before_answer */
	}
}

static void plan_fault(json_object *act, int64_t body_len, struct pp_wire_fault *fault)
{
	json_object *stall = pp_member(act, "stall");
	json_object *drip = pp_member(act, "drip");

	plan_cut(pp_member(act, "cut"), body_len, fault);
	fault->reset = pp_flag(act, "reset", false);
	fault->half_close = pp_flag(act, "half_close", false);
	fault->close_notify = pp_flag(act, "close_notify", false);
	fault->stall_head = pp_number(stall, "at", -1);
	fault->stall_body = pp_number(stall, "after_bytes", -1);
	fault->stall_ms = pp_number(stall, "ms", 0);
	fault->drip_bytes = pp_number(drip, "bytes", 0);
	fault->drip_ms = pp_number(drip, "every_ms", 0);
}

/* False: nobody is there to be answered. Locked. */
static bool release_answer(struct pp_request *req, const struct pp_answer *answer)
{
	struct pp_wire_fault fault = PP_WIRE_FAULT_NONE;
	bool gone = strcmp(pp_text(req->rec, "outcome", ""), "gone") == 0;

	if (!gone) {
		plan_fault(req->act, (int64_t)length_of(answer), &fault);
		json_object_object_add(req->rec, "outcome",
			json_object_new_string(pp_member(req->act, "cut") != NULL ? "cut" : "answered"));
		pp_wire_set_fault(req->wire, &fault, req->rec);
		check_gone(req);
		gone = pp_wire_client_gone(req->wire);
	}
	pp_ledger_write(req->rec);
	return !gone;
}

/* Headers that the server must set itself, such as the length, can't be added: it says no, and all is well. */
static void add_headers(struct MHD_Response *response, json_object *headers)
{
	if (headers == NULL)
		return;
	json_object_object_foreach(headers, name, value)
	{
		const size_t count = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 1;
		size_t i;

		for (i = 0; i < count; i++) {
			json_object *one = json_object_is_type(value, json_type_array)
				? json_object_array_get_idx(value, i)
				: value;

			(void)MHD_add_response_header(response, name, json_object_get_string(one));
		}
	}
}

static enum MHD_Result queue_answer(struct MHD_Connection *connection, const struct pp_answer *answer, size_t filler)
{
	const size_t len = length_of(answer);
	char *body = pp_calloc(1, len + filler + 1);
	struct MHD_Response *response;
	enum MHD_Result queued;

	if (len > 0)
		memcpy(body, answer->body, len);
	memset(body + len, ' ', filler);
	response = MHD_create_response_from_buffer(len + filler, body, MHD_RESPMEM_MUST_FREE);
	if (response == NULL)
		pp_die("out of memory");
	add_headers(response, answer->headers);
	queued = MHD_queue_response(connection, (unsigned)answer->status, response);
	MHD_destroy_response(response);
	return queued;
}

static enum MHD_Result refuse_length(struct call *call, struct MHD_Connection *connection)
{
	struct pp_answer answer = { .status = 413, .body = pp_strdup("too long") };
	enum MHD_Result queued;

	pp_lock();
	json_object_object_add(call->req.rec, "status", json_object_new_int(answer.status));
	json_object_object_add(call->req.rec, "outcome", json_object_new_string("answered"));
	pp_ledger_write(call->req.rec);
	pp_unlock();
	queued = queue_answer(connection, &answer, 0);
	pp_answer_clear(&answer);
	return queued;
}

static enum MHD_Result respond(struct call *call, struct MHD_Connection *connection)
{
	struct pp_request *req = &call->req;
	struct pp_answer answer = { 0 };
	enum MHD_Result queued = MHD_NO;
	bool there;

	pp_lock();
	take_whole(call);
	pp_unlock();
	if (pp_text(req->act, "hold_before", NULL) != NULL)
		pp_hold(pp_text(req->act, "hold_before", ""));
	pp_lock();
	make_answer(req, &answer);
	pp_unlock();
	wait_ms(pp_number(req->act, "delay_ms", 0));
	if (pp_text(req->act, "hold", NULL) != NULL)
		pp_hold(pp_text(req->act, "hold", ""));
	pp_lock();
	there = release_answer(req, &answer);
	pp_unlock();
	/* More is promised than comes. */
	if (there)
		queued = queue_answer(
			connection, &answer, strcmp(pp_text(req->act, "cut", ""), "after_body") == 0 ? FILLER : 0);
	pp_answer_clear(&answer);
	return queued;
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
	const char *version, const char *data, size_t *size, void **state)
{
	struct call *call = *state;

	(void)ctx;
	(void)path;
	(void)version;
	if (call == NULL || wire_of(connection) == NULL)
		return MHD_NO;
	if (!call->begun) {
		begin_request(call, connection, method);
		return MHD_YES;
	}
	if (*size > 0) {
		take_part(call, data, *size);
		*size = 0;
		return MHD_YES;
	}
	return call->too_long ? refuse_length(call, connection) : respond(call, connection);
}

static void end_call(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
	struct call *call = *state;

	(void)ctx;
	(void)connection;
	(void)how;
	if (call == NULL)
		return;
	*state = NULL;
	pp_lock();
	if (call->req.rec != NULL && strcmp(pp_text(call->req.rec, "outcome", ""), "pending") == 0) {
		json_object_object_add(call->req.rec, "outcome", json_object_new_string("gone"));
		pp_ledger_write(call->req.rec);
	}
	json_object_put(call->req.rec);
	pp_unlock();
	json_object_put(call->req.act);
	json_object_put(call->req.params);
	json_object_put(call->req.headers);
	pp_bytes_free(&call->body);
	free(call->path);
	free(call->query);
	free(call->method);
	free(call);
}

/* ---- start ------------------------------------------------------------------------------------------ */

/* Leaves everything as it came. */
static size_t decode_nothing(void *ctx, struct MHD_Connection *connection, char *text)
{
	(void)ctx;
	(void)connection;
	return strlen(text);
}

/* Each connection takes four descriptors. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void pp_http_start(void)
{
	raise_limit();
	/* No log: TCP's options fail on a socketpair, and that does no harm. */
	server = MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | MHD_USE_THREAD_PER_CONNECTION
			| MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC,
		0, NULL, NULL, handle, NULL, MHD_OPTION_URI_LOG_CALLBACK, begin_call, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, decode_nothing, NULL, MHD_OPTION_NOTIFY_COMPLETED, end_call, NULL,
		MHD_OPTION_NOTIFY_CONNECTION, connection_changed, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)HEADS_MAX, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_THREAD_STACK_SIZE,
		(size_t)STACK, MHD_OPTION_END);
	if (server == NULL)
		pp_die("the HTTP server doesn't start");
}

void pp_http_stop(void)
{
	if (server != NULL)
		MHD_stop_daemon(server);
	server = NULL;
}
