/* SPDX-License-Identifier: MIT
 * Between wire.c (listeners, who is connected), wire_relay.c (the thread of one
 * connection), wire_tls.c (TLS over bytes in memory) and wire_answer.c (where a
 * request or an answer stands, counted in bytes).
 */
#ifndef PRACTICE_WIRE_H
#define PRACTICE_WIRE_H

#include "practice.h"

#include <stdatomic.h>

struct ssl_ctx_st;
struct ssl_st;

/* ---- wire_answer.c -------------------------------------------------------------- */

struct pp_bytes {
	char *data;
	size_t len;
	size_t room;
};
void pp_bytes_add(struct pp_bytes *bytes, const void *data, size_t len);
void pp_bytes_drop(struct pp_bytes *bytes, size_t len); /* from the front */
void pp_bytes_free(struct pp_bytes *bytes);

/* A request as its bytes go by. */
enum pp_request_at { PP_REQUEST_NONE, PP_REQUEST_HEAD, PP_REQUEST_BODY, PP_REQUEST_WHOLE };
struct pp_request_bytes {
	enum pp_request_at at;
	struct pp_bytes head;
	int64_t left;   /* of the body; -1: the server alone knows where it ends */
	bool head_only; /* HEAD: its answer has no body, whatever its head says */
};
/* How many of the bytes belong to this request; the others are the next one's. */
size_t pp_request_take(struct pp_request_bytes *request, const char *data, size_t len);
void pp_request_end(struct pp_request_bytes *request);
/* The path of a request that begins with these bytes, for free(); NULL: not known
 * yet. *line_ended: it never will be. */
char *pp_request_path(const char *data, size_t len, bool *line_ended);

/* An answer as its bytes go by. Places count from its first byte, or, before
 * that, from the first byte of the interim answers (1xx) in front of it. */
struct pp_answer_bytes {
	struct pp_wire_fault fault;
	struct pp_bytes head;
	int64_t start;     /* where it begins, after interim answers */
	int64_t head_len;  /* -1: not known yet */
	int64_t body_len;  /* -1: not known, it ends with the connection */
	int64_t seen;      /* bytes that the server gave */
	int64_t sent;      /* bytes that the client's socket took */
	int64_t resume_at; /* ms, monotonic: nothing leaves before */
	bool stalled;
};
void pp_answer_begin(struct pp_answer_bytes *answer);
void pp_answer_take(struct pp_answer_bytes *answer, const char *data, size_t len, bool head_only);
bool pp_answer_begun(const struct pp_answer_bytes *answer);
bool pp_answer_complete(const struct pp_answer_bytes *answer);
bool pp_answer_is_cut(const struct pp_answer_bytes *answer); /* all that may leave has left */
/* How many of the bytes that were seen and not sent may leave now. */
int64_t pp_answer_may_leave(struct pp_answer_bytes *answer, int64_t now);
void pp_answer_left(struct pp_answer_bytes *answer, int64_t len, int64_t now);
void pp_answer_free(struct pp_answer_bytes *answer);

/* ---- wire_tls.c ------------------------------------------------------------------ */

struct ssl_ctx_st *pp_tls_context(const char *cert_file, const char *key_file);
struct ssl_st *pp_tls_new(struct ssl_ctx_st *context);
enum pp_tls { PP_TLS_GOES_ON, PP_TLS_BYE, PP_TLS_BROKEN };
/* Takes what came from the client; adds what it said to `plain`, and to `out` what must be sent. */
enum pp_tls pp_tls_read(struct ssl_st *ssl, const char *data, size_t len, struct pp_bytes *plain, struct pp_bytes *out);
bool pp_tls_write(struct ssl_st *ssl, const char *data, size_t len, struct pp_bytes *out);
void pp_tls_bye(struct ssl_st *ssl, struct pp_bytes *out);
void pp_tls_free(struct ssl_st *ssl);

/* ---- one connection ----------------------------------------------------------------- */

/* From the client's side. BYE: one side said that it will send no more, the
 * client's FIN or RST is awaited for a moment. LAST: our last bytes leave.
 * LINGER: our side is closed, the client's not yet. */
enum pp_wire_state { PP_WIRE_OPEN, PP_WIRE_BYE, PP_WIRE_LAST, PP_WIRE_LINGER, PP_WIRE_CLOSED };

/* An end that we bring about. */
struct pp_wire_end {
	bool reset;        /* by a TCP reset */
	bool half_close;   /* and go on reading */
	bool close_notify; /* TLS's own good-bye first */
};

struct pp_wire {
	/* Guarded by the lock of wire.c. */
	struct pp_wire *next, *previous;
	bool closed;       /* the client's socket is */
	bool cut_wanted;   /* by pp_listeners_down */
	bool close_wanted; /* if idle, by pp_wire_close_idle */
	/* Guarded by pp_lock. */
	struct pp_wire_fault fault;
	json_object *rec; /* of the request in progress, or of the last one; NULL */
	/* Anyone's. */
	atomic_bool gone;      /* the client; set while pp_lock is held, together with what rec says of it */
	atomic_int references; /* the relay's and the server's */
	int port;
	int wake; /* eventfd */
	/* The relay's own. */
	int client; /* -1: closed */
	int server;
	struct ssl_st *ssl; /* NULL: plain http */
	enum pp_wire_state state;
	struct pp_wire_end end; /* how LAST ends */
	bool server_ended;      /* it will send no more */
	bool told_server;       /* that the client will send no more */
	bool answered;          /* the last request was, wholly; false before the first */
	int64_t quiet_until;    /* ms, monotonic: nothing is read or sent before */
	int64_t linger_until;   /* ms; 0: for ever */
	/* cut_tls: so many bytes at the client's socket; -1: without end */
	int64_t limit_in, limit_out;
	int64_t in, out;
	bool limit_reset;
	/* cut_request, of the request in progress */
	bool cut_known;    /* whether it is to be cut was decided */
	int64_t cut_after; /* -1: it is not */
	int64_t cut_seen;
	bool cut_reset;
	struct pp_bytes inbox; /* from the client, not passed on */
	struct pp_bytes to_server;
	struct pp_bytes from_server;
	struct pp_bytes to_client;
	int64_t leaving; /* bytes of the answer that to_client stands for */
	struct pp_request_bytes request;
	struct pp_answer_bytes answer;
};

void *pp_wire_relay(void *wire); /* wire_relay.c: the thread */

/* wire.c */
int64_t pp_wire_now(void); /* ms, monotonic */
void pp_wire_forget(struct pp_wire *wire);
void pp_wire_release(struct pp_wire *wire);
void pp_wire_note_closed(struct pp_wire *wire);
/* What others want of this connection. */
void pp_wire_wishes(struct pp_wire *wire, bool *cut, bool *close);
void pp_wire_wish_done(struct pp_wire *wire); /* as to close */
/* True if a request for this path is to be cut; that uses the order up. */
bool pp_wire_cuts_request(const char *path, int64_t *after, bool *reset);

#endif
