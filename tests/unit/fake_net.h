/* SPDX-License-Identifier: MIT
 * The net room as tests of the rooms above it want it: it records each request
 * and hands over the answer that the test makes up. One per test program.
 */
#ifndef FAKE_NET_H
#define FAKE_NET_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"

#define FAKE_REQUESTS 64
#define FAKE_HEADERS 4

struct fake_request {
	char *url;
	char *ca_file;
	char *headers[FAKE_HEADERS];
	struct al_buf body;
	int64_t connect_timeout_ms;
	int64_t timeout_ms;
	size_t max_body;
	bool (*may_send)(void *ctx);
	void *may_send_ctx;
	void (*done)(void *ctx, struct al_http_result *result);
	void *ctx;
};
struct al_net {
	pthread_mutex_t lock;
	struct fake_request requests[FAKE_REQUESTS];
	size_t count;
	bool refuse; /* al_http_start fails */
};

static inline struct al_net *fake_net_new(void)
{
	struct al_net *net = al_new(sizeof(*net));

	if (net == NULL || pthread_mutex_init(&net->lock, NULL) != 0)
		abort();
	return net;
}

static inline void fake_net_free(struct al_net **net)
{
	for (size_t i = 0; i < (*net)->count; i++) {
		struct fake_request *request = &(*net)->requests[i];

		al_free_text(&request->url);
		al_free_text(&request->ca_file);
		for (size_t h = 0; h < FAKE_HEADERS; h++)
			al_free_text(&request->headers[h]);
		al_buf_clear(&request->body);
	}
	pthread_mutex_destroy(&(*net)->lock);
	free(*net);
	*net = NULL;
}

static inline size_t fake_net_count(struct al_net *net)
{
	size_t count;

	pthread_mutex_lock(&net->lock);
	count = net->count;
	pthread_mutex_unlock(&net->lock);
	return count;
}

al_rc al_http_start(struct al_net *net, struct al_http_request *request,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err)
{
	struct fake_request *kept;

	pthread_mutex_lock(&net->lock);
	if (net->refuse || net->count == FAKE_REQUESTS) {
		pthread_mutex_unlock(&net->lock);
		return al_fail(err, ACCTLINK_INTERNAL, request->url, "the fake refuses");
	}
	kept = &net->requests[net->count];
	kept->url = al_dup(request->url);
	kept->ca_file = request->ca_file == NULL ? NULL : al_dup(request->ca_file);
	for (size_t h = 0; request->headers != NULL && request->headers[h] != NULL; h++) {
		if (h == FAKE_HEADERS)
			abort();
		kept->headers[h] = al_dup(request->headers[h]);
	}
	al_buf_move(&kept->body, &request->body);
	kept->connect_timeout_ms = request->connect_timeout_ms;
	kept->timeout_ms = request->timeout_ms;
	kept->max_body = request->max_body;
	kept->may_send = request->may_send;
	kept->may_send_ctx = request->may_send_ctx;
	kept->done = done;
	kept->ctx = ctx;
	net->count++;
	pthread_mutex_unlock(&net->lock);
	return ACCTLINK_OK;
}

void al_http_result_clear(struct al_http_result *result)
{
	al_buf_clear(&result->body);
}

/* A whole answer; change what the test needs otherwise. */
static inline struct al_http_result fake_result(int status, const char *type, const char *body, size_t len)
{
	struct al_http_result result;

	memset(&result, 0, sizeof(result));
	result.end = AL_HTTP_ANSWER;
	result.status = status;
	al_buf_init(&result.body, (size_t)8 * 1024 * 1024);
	if (len > 0 && !al_buf_put(&result.body, body, len))
		abort();
	(void)snprintf(result.content_type, sizeof(result.content_type), "%s", type);
	result.retry_after_ms = -1;
	result.max_age_ms = -1;
	result.date_ms = -1;
	return result;
}

/* Hands the answer to the request's `done` and wipes it, as the net room does. */
static inline void fake_deliver(struct al_net *net, size_t at, struct al_http_result *result)
{
	struct fake_request *request = &net->requests[at];

	request->done(request->ctx, result);
	al_http_result_clear(result);
}

#endif
