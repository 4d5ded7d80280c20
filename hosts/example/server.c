/* SPDX-License-Identifier: MIT
 * The HTTP server: libmicrohttpd with a thread for each connection, which may block in
 * the plugin. Hands whole requests to routes.c and sends what comes back, with the
 * headers that every page has. Knows nothing of users or banks.
 *
 * It listens on loopback only, since anyone may sign in as anybody.
 */
#include "example.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* While a request comes in, a client may be silent for IDLE_S; while it is answered,
 * nothing is heard of it, so the answer must be ready before ANSWER_S. */
enum { IDLE_S = 15, ANSWER_S = 90, DRAIN_S = 40, CONNECTIONS_MAX = 400, STACK = 1024 * 1024, BACKLOG = 128 };
#define BODY_MAX ((size_t)64 * 1024)
#define SWALLOW_MAX ((size_t)1024 * 1024) /* of a body that is too long, before the line is cut */
#define HEAD_MAX ((size_t)64 * 1024)

/* One request as it comes in. */
struct call {
	char *path;  /* raw */
	char *query; /* raw */
	struct ex_text body;
	struct ex_text cookies;
	size_t came; /* of the body */
	bool begun;
	bool too_long;
	bool no_text; /* a NUL in the body */
	bool counted; /* in busy */
};

static struct MHD_Daemon *server;
static char own_url[64];

/* Requests that are being answered; the end waits for them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static unsigned busy;
static bool ending;

/* ---- a request comes in ------------------------------------------------------------------ */

/* The first that is heard of it: its target, before anything is decoded. */
static void *begin_call(void *ctx, const char *target, struct MHD_Connection *connection)
{
	struct call *call = calloc(1, sizeof(*call));
	const size_t len = strcspn(target, "?");

	(void)ctx;
	(void)connection;
	if (call == NULL)
		return NULL;
	call->path = ex_printf("%.*s", (int)len, target);
	call->query = ex_printf("%s", target[len] == '?' ? target + len + 1 : "");
	return call;
}

/* What comes in several lines is one, RFC 6265, 5.4 and RFC 9113, 8.2.3. */
static enum MHD_Result add_cookies(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct ex_text *cookies = ctx;

	(void)kind;
	if (strcasecmp(name, "Cookie") == 0 && value != NULL)
		ex_add(cookies, "%s%s", cookies->len > 0 ? "; " : "", value);
	return MHD_YES;
}

/* False: enough of it. A body that is a bit too long is read to its end, since many a
 * client hears no answer before that. */
static bool take_part(struct call *call, const char *data, size_t len)
{
	call->came += len;
	if (call->too_long || len > BODY_MAX - call->body.len)
		call->too_long = true;
	else if (memchr(data, '\0', len) != NULL)
		call->no_text = true;
	else
		ex_add(&call->body, "%.*s", (int)len, data);
	return call->came <= SWALLOW_MAX;
}

/* False: the program is ending. */
static bool begin_answer(struct call *call)
{
	pthread_mutex_lock(&lock);
	call->counted = !ending;
	if (call->counted)
		busy++;
	pthread_mutex_unlock(&lock);
	return call->counted;
}

static void end_call(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
	struct call *call = *state;

	(void)ctx;
	(void)how;
	if (call == NULL)
		return;
	*state = NULL;
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)IDLE_S);
	if (call->counted) {
		pthread_mutex_lock(&lock);
		busy--;
		pthread_cond_broadcast(&idle);
		pthread_mutex_unlock(&lock);
	}
	ex_wipe(&call->body.text); /* may hold a code */
	ex_wipe(&call->cookies.text);
	ex_wipe(&call->query);
	free(call->path);
	free(call);
}

/* ---- and is answered ------------------------------------------------------------------------ */

static bool add_header(struct MHD_Response *response, const char *name, const char *value)
{
	return value == NULL || MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct MHD_Response *response, const struct ex_answer *answer)
{
	return add_header(response, "Content-Type", answer->type)
		&& add_header(response, "Content-Security-Policy", answer->policy)
		&& add_header(response, "Location", answer->location)
		&& add_header(response, "Set-Cookie", answer->session_cookie)
		&& add_header(response, "Set-Cookie", answer->flow_cookie)
		/* The callback's address holds a code: it is kept nowhere and told to nobody. */
		&& add_header(response, "Cache-Control", "no-store")
		&& add_header(response, "Referrer-Policy", "no-referrer")
		&& add_header(response, "X-Content-Type-Options", "nosniff");
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, const struct ex_answer *answer)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		answer->body != NULL ? strlen(answer->body) : 0, answer->body, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result queued = MHD_NO;

	if (response == NULL)
		return MHD_NO;
	if (add_headers(response, answer))
		queued = MHD_queue_response(connection, (unsigned)answer->status, response);
	MHD_destroy_response(response);
	return queued;
}

static enum MHD_Result send_plain(struct MHD_Connection *connection, int status, const char *text)
{
	struct ex_answer answer = {
		.status = status, .type = "text/plain; charset=utf-8", .body = ex_printf("%s", text)
	};
	const enum MHD_Result queued = send_answer(connection, &answer);

	ex_answer_clear(&answer);
	return queued;
}

static enum MHD_Result respond(
	const struct ex_host *host, struct call *call, struct MHD_Connection *connection, const char *method)
{
	const struct ex_request req = { .method = method,
		.path = call->path,
		.query = call->query,
		.body = call->body.text != NULL ? call->body.text : "",
		.cookies = call->cookies.text != NULL ? call->cookies.text : "" };
	struct ex_answer answer = { 0 };
	enum MHD_Result queued;

	if (!begin_answer(call))
		return send_plain(connection, 503, "This app is just being restarted.\n");
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)ANSWER_S);
	ex_visit(host, &req, &answer);
	queued = send_answer(connection, &answer);
	ex_answer_clear(&answer);
	return queued;
}

/* Called for the head, for each part of the body, and at the end. */
static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
	const char *version, const char *data, size_t *size, void **state)
{
	struct call *call = *state;

	(void)path;
	(void)version;
	if (call == NULL)
		return MHD_NO;
	if (!call->begun) {
		call->begun = true;
		(void)MHD_get_connection_values(connection, MHD_HEADER_KIND, add_cookies, &call->cookies);
		return MHD_YES;
	}
	if (*size > 0) {
		const bool go_on = take_part(call, data, *size);

		*size = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	if (call->too_long)
		return send_plain(connection, 413, "That is too long.\n");
	if (call->no_text)
		return send_plain(connection, 400, "That is no form.\n");
	return respond(ctx, call, connection, method);
}

/* ---- start and end ------------------------------------------------------------------------------ */

static size_t decode_nothing(void *ctx, struct MHD_Connection *connection, char *text)
{
	(void)ctx;
	(void)connection;
	return strlen(text);
}

/* A listening socket, and its port; -1. */
static int listen_on(int *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	socklen_t len = sizeof(address);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int yes = 1;

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0
		&& bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, BACKLOG) == 0
		&& getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
		*port = ntohs(address.sin_port);
		return fd;
	}
	fprintf(stderr, "example: can't listen on 127.0.0.1:%d: %s\n", *port, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The text of a PEM file for free(); NULL after a message. */
static char *read_file(const char *path)
{
	struct ex_text text = { 0 };
	char part[4096];
	FILE *file = fopen(path, "re");
	size_t got;

	do {
		got = file != NULL ? fread(part, 1, sizeof(part), file) : 0;
		if (got > 0)
			ex_add(&text, "%.*s", (int)got, part);
	} while (got == sizeof(part));
	if (file == NULL || ferror(file) || text.text == NULL) {
		fprintf(stderr, "example: can't read %s: %s\n", path, file == NULL ? strerror(errno) : "no text in it");
		ex_wipe(&text.text);
	}
	if (file != NULL)
		fclose(file);
	explicit_bzero(part, sizeof(part));
	return text.text;
}

static struct MHD_Daemon *start(struct ex_host *host, int fd, const char *cert, const char *key)
{
	struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)cert },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key }, { MHD_OPTION_END, 0, NULL } };
	const unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL
		| MHD_USE_ITC | (cert != NULL ? (unsigned)MHD_USE_TLS : 0);

	if (cert == NULL)
		tls[0].option = MHD_OPTION_END;
	return MHD_start_daemon(flags, 0, NULL, NULL, handle, host, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
		MHD_OPTION_URI_LOG_CALLBACK, begin_call, NULL, MHD_OPTION_UNESCAPE_CALLBACK, decode_nothing, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, end_call, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_MAX,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

int ex_server_start(struct ex_host *host, int port, const char *cert_file, const char *key_file)
{
	char *cert = cert_file != NULL ? read_file(cert_file) : NULL;
	char *key = key_file != NULL ? read_file(key_file) : NULL;
	int fd = -1;

	if ((cert_file == NULL || cert != NULL) && (key_file == NULL || key != NULL))
		fd = listen_on(&port);
	if (fd >= 0 && host->base_url == NULL) { /* before the first request can ask for it */
		snprintf(own_url, sizeof(own_url), "%s://localhost:%d", cert != NULL ? "https" : "http", port);
		host->base_url = own_url;
	}
	if (fd >= 0) {
		server = start(host, fd, cert, key);
		if (server == NULL)
			fprintf(stderr, "example: the HTTP server does not start\n");
	}
	free(cert);
	ex_wipe(&key);
	return server != NULL ? port : 0;
}

/* What is under way is answered first: an answer to the bank's callback that is lost
 * looks to the user like a link that failed. */
static void drain(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DRAIN_S;
	pthread_mutex_lock(&lock);
	ending = true;
	while (busy > 0 && pthread_cond_timedwait(&idle, &lock, &until) == 0)
		;
	pthread_mutex_unlock(&lock);
}

void ex_server_stop(void)
{
	const MHD_socket fd = MHD_quiesce_daemon(server); /* no new connections */

	drain();
	MHD_stop_daemon(server);
	if (fd != MHD_INVALID_SOCKET)
		close(fd);
	server = NULL;
}
