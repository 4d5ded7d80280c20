/* SPDX-License-Identifier: MIT
 * The net room: HTTP over libcurl on one thread of its own. Knows curl and
 * nothing of OAuth. A request is sent at most once: no redirects, no replay on
 * a reused connection that died, no early data, no Expect: 100.
 */
#ifndef AL_NET_H
#define AL_NET_H

#include "base/base.h"

struct al_net;

struct al_http_request {
	const char *url;            /* https, or http to a loopback address */
	const char *ca_file;        /* NULL: the system's */
	const char *const *headers; /* "Name: value", ended by NULL; may hold credentials */
	struct al_buf body;         /* POST if len > 0, else GET; moved away by al_http_start */
	const char *content_type;   /* of the body; NULL: form-urlencoded */
	int64_t connect_timeout_ms;
	int64_t timeout_ms; /* of the whole exchange */
	size_t max_body;    /* of the answer; more is cut off and reported */
	/* Asked on the net thread just before the first byte of the body leaves
	 * (for a GET: just before it starts). false: not sent. May be NULL. */
	bool (*may_send)(void *ctx);
	void *may_send_ctx;
};

enum al_http_end {
	AL_HTTP_NOT_SENT, /* the body was never asked for, or may_send refused, or REFUSED_STREAM */
	AL_HTTP_ANSWER,   /* a whole answer */
	AL_HTTP_CUT       /* sent, but the answer is missing or not whole (see body_truncated) */
};

struct al_http_result {
	enum al_http_end end;
	int status;         /* also set with CUT if the status line came */
	struct al_buf body; /* what came of it, wiped with the result */
	bool too_large;     /* cut by max_body */
	char content_type[96];
	char location[256];     /* of a redirect that was not followed: no user, query, fragment */
	int64_t retry_after_ms; /* Retry-After in either form, -1 if absent or nonsense */
	int64_t max_age_ms;     /* Cache-Control: max-age, -1 if absent */
	int64_t date_ms;        /* Date, -1 if absent */
	bool timed_out;
	char reason[160]; /* for people: curl's words, no secrets */
};
void al_http_result_clear(struct al_http_result *result);

/* Checks a URL that is going to be used: https, or http if the host is
 * 127.0.0.0/8, [::1] or localhost; no user part, no fragment. */
al_rc al_url_check(const char *url, const char *where, acctlink_error *err) AL_MUST_USE;
/* True if http:// to loopback. */
bool al_url_is_plain(const char *url);

/* No thread yet: it starts with the first request. */
al_rc al_net_new(
	const struct al_log *log, const struct al_clock *clock, struct al_net **out, acctlink_error *err) AL_MUST_USE;
/* Runs `done` exactly once on the net thread if it returns OK; done owns
 * nothing and must be quick and not block: it moves what it wants out of the
 * result. headers and url are copied. */
al_rc al_http_start(struct al_net *net, struct al_http_request *request,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err) AL_MUST_USE;
/* Ends every transfer now (each `done` runs with NOT_SENT or CUT) and joins the
 * thread. From then on al_http_start says SHUT_DOWN. By one thread only. */
void al_net_stop(struct al_net *net);
/* Stops if need be, and frees. No al_http_start may run meanwhile or after. */
void al_net_free(struct al_net **net);

#endif
