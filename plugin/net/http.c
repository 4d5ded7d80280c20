/* SPDX-License-Identifier: MIT
 * HTTP over libcurl. One thread owns the multi handle and every transfer that
 * it was handed; al_http_start only queues under the lock. Completions run on
 * that thread without the lock. A body leaves at most once. Of the secrets in a
 * request only libcurl's copy of the Authorization header can't be wiped from here.
 */
#include "base/thread.h"
#include "net/net_int.h"

#include <dlfcn.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AL_NET_AGENT "acctlink/0.1.0"

/* A connection that the server is about to drop costs the answer of whoever
 * reuses it, so it is not kept for libcurl's two minutes. */
#define IDLE_CONNECTION_S 4L
/* Reading the system's certificates takes 20 ms, so they are kept, but not for
 * libcurl's 24 hours: a replaced file must be seen. */
#define CA_CACHE_S 300L
#define POLL_MS 60000

struct transfer {
	struct transfer *next;  /* in the queue, then among the active */
	struct transfer **link; /* active: what points at this one */
	CURL *easy;
	struct curl_slist *headers;
	struct al_buf body;
	size_t given;    /* of the body, to libcurl */
	bool asked;      /* the body was asked for; a GET was about to be sent */
	bool head_whole; /* of the newest answer, up to its empty line */
	const char *why; /* our own reason, instead of libcurl's words */
	bool (*may_send)(void *ctx);
	void *may_send_ctx;
	void (*done)(void *ctx, struct al_http_result *result);
	void *done_ctx;
	struct al_http_result result;
	char curl_words[CURL_ERROR_SIZE];
};

struct al_net {
	const struct al_log *log;
	const struct al_clock *clock;
	CURLM *multi;            /* made before the thread, then the thread's */
	struct transfer *active; /* the thread's */
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	struct transfer *queue;
	struct transfer **queue_end;
	bool started;
	bool stop;
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_code;
static bool global_openssl; /* as against GnuTLS, with which Debian builds a libcurl as well */

/* One that a host has built in may have an OpenSSL of its own within, whose objects
 * are not those that we know. */
static bool is_shared_libcurl(void)
{
	Dl_info home;

	return dladdr((const void *)(uintptr_t)curl_easy_init, &home) != 0 && strstr(home.dli_fname, "libcurl") != NULL;
}

/* Never undone: the host may use the same libcurl. */
static void global_init(void)
{
	const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);

	global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
	global_openssl = curl->ssl_version != NULL && strncmp(curl->ssl_version, "OpenSSL/3", 9) == 0
		&& is_shared_libcurl();
}

void al_http_result_clear(struct al_http_result *result)
{
	al_buf_clear(&result->body);
	al_wipe(result, sizeof(*result));
}

/* ---- what libcurl asks during a transfer --------------------------------- */

static bool permitted(struct transfer *t)
{
	if (t->may_send == NULL || t->may_send(t->may_send_ctx))
		return true;
	t->why = "not sent: the permission to send had ended";
	return false;
}

/* Runs on a connection that stands, before each attempt of libcurl to send the
 * request. libcurl makes a second one when a reused connection dies, and if no
 * byte of the body was written yet it does so without a rewind. */
static int before_attempt(void *ctx, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	struct transfer *t = ctx;

	(void)remote_ip;
	(void)local_ip;
	(void)remote_port;
	(void)local_port;
	if (t->body.len == 0) {
		t->asked = true;
		return CURL_PREREQFUNC_OK;
	}
	if (!t->asked)
		return CURL_PREREQFUNC_OK;
	t->why = "the connection died before an answer came; not sent again";
	return CURL_PREREQFUNC_ABORT;
}

/* libcurl frees its upload buffer as it is. There the head has been before, with
 * the client's secret, and the body stays: so its last byte goes alone, when the
 * rest has left the buffer. */
static size_t give_body(char *to, size_t size, size_t count, void *ctx)
{
	struct transfer *t = ctx;
	size_t room = size * count;
	size_t len = t->body.len - t->given;

	if (!t->asked && !permitted(t))
		return CURL_READFUNC_ABORT;
	t->asked = true;
	/* libcurl knows the length, so whoever asks for more begins again. */
	if (len == 0)
		return CURL_READFUNC_ABORT;
	if (len > 1)
		len--;
	if (len > room)
		len = room;
	al_wipe(to, room);
	memcpy(to, t->body.data + t->given, len);
	t->given += len;
	return len;
}

static int refuse_rewind(void *ctx, curl_off_t offset, int origin)
{
	struct transfer *t = ctx;

	(void)offset;
	(void)origin;
	t->why = "the connection died before an answer came; not sent again";
	return CURL_SEEKFUNC_FAIL;
}

/* libcurl 7.88 takes a head that breaks off after its status line for a whole answer. */
static size_t watch_head(char *line, size_t size, size_t count, void *ctx)
{
	struct transfer *t = ctx;
	size_t len = size * count;

	if (len > 0 && (line[0] == '\r' || line[0] == '\n'))
		t->head_whole = true;
	else if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		t->head_whole = false;
	return len;
}

static size_t take_body(char *data, size_t size, size_t count, void *ctx)
{
	struct transfer *t = ctx;
	struct al_buf *body = &t->result.body;
	size_t len = size * count;
	size_t room = body->max - body->len;
	size_t taken = len <= room ? len : room;
	bool kept = al_buf_put(body, data, taken);

	/* libcurl has handed this part over and would free it with the tokens in it. */
	al_wipe(data, len);
	if (taken < len) {
		t->result.too_large = true;
		t->why = "the answer is larger than allowed";
		return CURL_WRITEFUNC_ERROR;
	}
	if (!kept) {
		t->why = "out of memory for the answer";
		return CURL_WRITEFUNC_ERROR;
	}
	return len;
}

/* ---- making a transfer --------------------------------------------------- */

static const struct {
	CURLoption option;
	long value;
} fixed_options[] = {
	{ CURLOPT_NOSIGNAL, 1L },
	{ CURLOPT_FOLLOWLOCATION, 0L },
	/* Without it twenty requests open twenty HTTP/2 connections. */
	{ CURLOPT_PIPEWAIT, 1L },
	{ CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S },
	/* Else a transfer that ends waits for its resolver thread: measured, a
	 * silent name server stopped all transfers for 9.7 s. */
	{ CURLOPT_QUICK_EXIT, 1L },
	{ CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
	{ CURLOPT_SSL_VERIFYPEER, 1L },
	{ CURLOPT_SSL_VERIFYHOST, 2L },
	{ CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_S },
	{ CURLOPT_NETRC, CURL_NETRC_IGNORED },
};

/* Else OpenSSL frees its buffer with the tokens of the last answer in it. */
static CURLcode wipe_after_reading(CURL *easy, void *tls, void *ctx)
{
	(void)easy;
	(void)ctx;
	(void)SSL_CTX_set_options(tls, SSL_OP_CLEANSE_PLAINTEXT);
	return CURLE_OK;
}

/* An ended time is the shortest one: libcurl takes 0 for none at all. */
static long curl_ms(int64_t ms)
{
	if (ms < 1)
		return 1;
	return ms > INT32_MAX ? INT32_MAX : (long)ms;
}

#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(t->easy, option, value); \
	} while (0)

static CURLcode set_fixed(struct transfer *t)
{
	CURLcode code = CURLE_OK;

	for (size_t i = 0; i < AL_COUNT(fixed_options); i++)
		SET(fixed_options[i].option, fixed_options[i].value);
	SET(CURLOPT_USERAGENT, AL_NET_AGENT);
	/* The environment of the host must not send tokens another way. */
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_PRIVATE, (void *)t);
	SET(CURLOPT_ERRORBUFFER, t->curl_words);
	SET(CURLOPT_HEADERFUNCTION, watch_head);
	SET(CURLOPT_HEADERDATA, (void *)t);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, (void *)t);
	SET(CURLOPT_PREREQFUNCTION, before_attempt);
	SET(CURLOPT_PREREQDATA, (void *)t);
	if (global_openssl)
		SET(CURLOPT_SSL_CTX_FUNCTION, wipe_after_reading);
	return code;
}

/* A ca_file stands alone: the system's folder of certificates is switched off.
 * So is it beside the system's own file, which holds the same: libcurl keeps
 * certificates between connections only if they come from a file. */
static CURLcode set_trust(struct transfer *t, const char *ca_file)
{
	char *system_file = NULL;
	CURLcode code = CURLE_OK;

	if (ca_file != NULL)
		SET(CURLOPT_CAINFO, ca_file);
	else
		code = curl_easy_getinfo(t->easy, CURLINFO_CAINFO, &system_file);
	if (ca_file != NULL || system_file != NULL)
		SET(CURLOPT_CAPATH, NULL);
	return code;
}

static CURLcode set_request(struct transfer *t, const struct al_http_request *request)
{
	bool plain = al_url_is_plain(request->url);
	CURLcode code = CURLE_OK;

	SET(CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
	/* With TLS libcurl asks for HTTP/2 by itself. Without, PIPEWAIT would hold
	 * all requests back until the first answer tells the version. */
	if (plain)
		SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_CONNECTTIMEOUT_MS, curl_ms(request->connect_timeout_ms));
	SET(CURLOPT_TIMEOUT_MS, curl_ms(request->timeout_ms));
	SET(CURLOPT_HTTPHEADER, t->headers);
	if (request->body.len == 0)
		return code;
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
	SET(CURLOPT_READFUNCTION, give_body);
	SET(CURLOPT_READDATA, (void *)t);
	SET(CURLOPT_SEEKFUNCTION, refuse_rewind);
	SET(CURLOPT_SEEKDATA, (void *)t);
	return code;
}

static bool add_header(struct transfer *t, const char *line)
{
	struct curl_slist *longer = curl_slist_append(t->headers, line);

	if (longer == NULL)
		return false;
	t->headers = longer;
	return true;
}

static al_rc add_headers(struct transfer *t, const struct al_http_request *request, acctlink_error *err)
{
	const char *type = request->content_type;
	char line[sizeof("Content-Type: ") + 96];
	bool added = true;

	for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
		if (strpbrk(request->headers[i], "\r\n") != NULL)
			return al_fail(
				err, ACCTLINK_INTERNAL, NULL, "a request header holds a line break; nothing was sent");
		added = added && add_header(t, request->headers[i]);
	}
	if (request->body.len > 0) {
		int len = snprintf(line, sizeof(line), "Content-Type: %s",
			type != NULL ? type : "application/x-www-form-urlencoded");

		if (len < 0 || (size_t)len >= sizeof(line))
			return al_fail(err, ACCTLINK_INTERNAL, NULL, "the content type is too long");
		added = added && add_header(t, "Expect:") && add_header(t, line);
	}
	return added ? ACCTLINK_OK : al_fail_memory(err);
}

/* May run on any thread: a handle that was never used holds no connection. */
static void transfer_free(struct transfer *t)
{
	if (t == NULL)
		return;
	curl_easy_cleanup(t->easy);
	for (struct curl_slist *at = t->headers; at != NULL; at = at->next)
		al_wipe(at->data, strlen(at->data));
	curl_slist_free_all(t->headers);
	al_buf_clear(&t->body);
	al_http_result_clear(&t->result);
	free(t);
}

static al_rc transfer_new(const struct al_http_request *request, struct transfer **out, acctlink_error *err)
{
	struct transfer *t = al_new(sizeof(*t));
	CURLcode code;
	al_rc rc;

	if (t == NULL)
		return al_fail_memory(err);
	al_buf_init(&t->result.body, request->max_body);
	t->may_send = request->may_send;
	t->may_send_ctx = request->may_send_ctx;
	t->easy = curl_easy_init();
	rc = t->easy == NULL ? al_fail_memory(err) : add_headers(t, request, err);
	if (rc != ACCTLINK_OK)
		goto failed;
	code = set_fixed(t);
	if (code == CURLE_OK)
		code = set_trust(t, request->ca_file);
	if (code == CURLE_OK)
		code = set_request(t, request);
	if (code != CURLE_OK) {
		rc = al_fail(err, code == CURLE_OUT_OF_MEMORY ? ACCTLINK_NO_MEMORY : ACCTLINK_INTERNAL, "libcurl",
			"a request can't be set up: %s", curl_easy_strerror(code));
		goto failed;
	}
	*out = t;
	return ACCTLINK_OK;
failed:
	transfer_free(t);
	return rc;
}

/* ---- the thread ---------------------------------------------------------- */

static void attach(struct al_net *net, struct transfer *t)
{
	t->next = net->active;
	t->link = &net->active;
	if (t->next != NULL)
		t->next->link = &t->next;
	net->active = t;
}

static void detach(struct transfer *t)
{
	*t->link = t->next;
	if (t->next != NULL)
		t->next->link = t->link;
}

/* A REFUSED_STREAM of HTTP/2 is CUT as well: libcurl answers it with an attempt
 * to send again, which is stopped, and then reports it like a dead connection. */
static void finish(struct al_net *net, struct transfer *t, CURLcode code)
{
	struct al_http_result *result = &t->result;
	const char *why = t->why;

	detach(t);
	al_http_read_head(t->easy, net->clock, result);
	if (code == CURLE_OK && t->head_whole && result->status != 0)
		result->end = AL_HTTP_ANSWER;
	else
		result->end = t->asked ? AL_HTTP_CUT : AL_HTTP_NOT_SENT;
	result->timed_out = code == CURLE_OPERATION_TIMEDOUT;
	if (why == NULL && code == CURLE_OK && result->end != AL_HTTP_ANSWER)
		why = "the answer broke off in its head";
	if (why == NULL)
		why = t->curl_words[0] != '\0' ? t->curl_words : curl_easy_strerror(code);
	al_copy_printable(result->reason, sizeof(result->reason), why, strlen(why));
	(void)curl_multi_remove_handle(net->multi, t->easy);
	t->done(t->done_ctx, result);
	transfer_free(t);
}

static void begin(struct al_net *net, struct transfer *t)
{
	CURLMcode code;

	if (t->body.len == 0 && !permitted(t)) {
		finish(net, t, CURLE_ABORTED_BY_CALLBACK);
		return;
	}
	code = curl_multi_add_handle(net->multi, t->easy);
	if (code != CURLM_OK) {
		t->why = curl_multi_strerror(code);
		finish(net, t, CURLE_FAILED_INIT);
	}
}

/* False at the end; then what was queued is active and never begins. */
static bool take_requests(struct al_net *net)
{
	struct transfer *next;
	struct transfer *t;
	bool stop;

	(void)pthread_mutex_lock(&net->lock);
	t = net->queue;
	net->queue = NULL;
	net->queue_end = &net->queue;
	stop = net->stop;
	(void)pthread_mutex_unlock(&net->lock);
	for (; t != NULL; t = next) {
		next = t->next;
		attach(net, t);
		if (!stop)
			begin(net, t);
	}
	return !stop;
}

static void collect(struct al_net *net)
{
	CURLMsg *message;
	struct transfer *t;
	char *private;
	int left;

	while ((message = curl_multi_info_read(net->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE
			|| curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private) != CURLE_OK)
			continue;
		t = (struct transfer *)(void *)private;
		finish(net, t, message->data.result);
	}
}

static void end_all(struct al_net *net, const char *why)
{
	while (net->active != NULL) {
		net->active->why = why;
		finish(net, net->active, CURLE_ABORTED_BY_CALLBACK);
	}
}

/* libcurl can't drive its transfers (no memory, no descriptors): nobody may
 * wait for an answer that can't come, and the thread must not spin. */
static void give_up(struct al_net *net, CURLMcode code)
{
	al_log(net->log, ACCTLINK_LOG_ERROR, "net: libcurl can't go on, all transfers end: %s",
		curl_multi_strerror(code));
	end_all(net, curl_multi_strerror(code));
	(void)poll(NULL, 0, 1000);
}

/* All use of a connection stays on this thread, closing included: a TLS goodbye
 * to a peer that is gone raises SIGPIPE, which is blocked here and ends with
 * the thread. */
static void *run(void *ctx)
{
	struct al_net *net = ctx;
	int running;

	while (take_requests(net)) {
		CURLMcode code = curl_multi_perform(net->multi, &running);

		collect(net);
		if (code == CURLM_OK)
			code = curl_multi_poll(net->multi, NULL, 0, POLL_MS, NULL);
		if (code != CURLM_OK)
			give_up(net, code);
	}
	end_all(net, "ended by the shutdown");
	(void)curl_multi_cleanup(net->multi);
	return NULL;
}

static al_rc start_thread_locked(struct al_net *net, acctlink_error *err)
{
	int failed;

	if (net->started)
		return ACCTLINK_OK;
	net->multi = curl_multi_init();
	if (net->multi == NULL)
		return al_fail_memory(err);
	/* Without descriptors libcurl makes one that nothing can wake: requests would lie there. */
	if (curl_multi_wakeup(net->multi) != CURLM_OK) {
		(void)curl_multi_cleanup(net->multi);
		net->multi = NULL;
		return al_fail(
			err, ACCTLINK_INTERNAL, "libcurl", "libcurl can't be woken up; raise the limit of open files");
	}
	failed = al_thread_start(&net->thread, run, net);
	if (failed != 0) {
		(void)curl_multi_cleanup(net->multi);
		net->multi = NULL;
		return al_fail(err, ACCTLINK_INTERNAL, "pthread_create",
			"the network thread can't be started: error %d; raise the limit of threads", failed);
	}
	net->started = true;
	return ACCTLINK_OK;
}

/* ---- the room's door ----------------------------------------------------- */

al_rc al_net_new(const struct al_log *log, const struct al_clock *clock, struct al_net **out, acctlink_error *err)
{
	struct al_net *net;

	if (pthread_once(&global_once, global_init) != 0 || global_code != CURLE_OK)
		return al_fail(err, ACCTLINK_INTERNAL, "libcurl", "curl_global_init failed: %s",
			curl_easy_strerror(global_code));
	net = al_new(sizeof(*net));
	if (net == NULL)
		return al_fail_memory(err);
	if (pthread_mutex_init(&net->lock, NULL) != 0) {
		free(net);
		return al_fail_memory(err);
	}
	net->log = log;
	net->clock = clock;
	net->queue_end = &net->queue;
	*out = net;
	return ACCTLINK_OK;
}

al_rc al_http_start(struct al_net *net, struct al_http_request *request,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err)
{
	struct transfer *t = NULL;
	al_rc rc = al_url_check(request->url, NULL, err);

	if (rc == ACCTLINK_OK)
		rc = transfer_new(request, &t, err);
	if (rc != ACCTLINK_OK)
		return rc;
	t->done = done;
	t->done_ctx = ctx;
	(void)pthread_mutex_lock(&net->lock);
	rc = net->stop ? al_fail(err, ACCTLINK_SHUT_DOWN, NULL, "the network is shut down; nothing was sent")
		       : start_thread_locked(net, err);
	if (rc == ACCTLINK_OK) {
		al_buf_move(&t->body, &request->body);
		*net->queue_end = t;
		net->queue_end = &t->next;
		/* Under the lock, since the thread frees the multi as soon as it
		 * sees `stop`; it is one write that never blocks. */
		(void)curl_multi_wakeup(net->multi);
	}
	(void)pthread_mutex_unlock(&net->lock);
	if (rc != ACCTLINK_OK)
		transfer_free(t);
	return rc;
}

void al_net_stop(struct al_net *net)
{
	bool join;

	(void)pthread_mutex_lock(&net->lock);
	join = net->started && !net->stop;
	net->stop = true;
	if (join)
		(void)curl_multi_wakeup(net->multi);
	(void)pthread_mutex_unlock(&net->lock);
	if (join)
		(void)pthread_join(net->thread, NULL);
}

void al_net_free(struct al_net **net)
{
	struct al_net *old = *net;

	*net = NULL;
	if (old == NULL)
		return;
	al_net_stop(old);
	(void)pthread_mutex_destroy(&old->lock);
	free(old);
}
