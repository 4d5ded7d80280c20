/* SPDX-License-Identifier: MIT
 * Receives one callback on the loopback redirect URI of a native application
 * (RFC 8252, 7.3). Listens on loopback addresses only. Not a web server: it
 * knows one path, holds a few connections, and closes each after its answer.
 * One thread; keeps nothing outside its struct.
 */
#ifndef ACCTLINKCTL_LOOPBACK_H
#define ACCTLINKCTL_LOOPBACK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOPBACK_LISTENERS 2 /* localhost has two addresses */
#define LOOPBACK_CONNECTIONS 8
#define LOOPBACK_REQUEST_MAX 65536 /* head and body */

/* ---- loopback_request.c: text ------------------------------------------------- */

struct loopback_target {
	char authority[300]; /* as in the Host header, but without ":80" */
	char path[2048];
	bool v4;
	bool v6;
	struct in_addr v4_address;
	uint16_t port;
};

/* Its pointers are into the request's text. */
struct loopback_request {
	const char *method;
	char *target;
	const char *host;
	const char *type;
	const char *length;
	size_t body_len;
	bool bad;
};

/* False unless it is http://127.x.x.x:PORT/…, http://localhost:PORT/… or http://[::1]:PORT/…. */
bool loopback_read_uri(struct loopback_target *target, const char *uri);
/* Changes the head in place; it ends with the line break of its last line. False: malformed. */
bool loopback_read_head(struct loopback_request *request, char *head, size_t len);
/* Once, for a whole request: NULL if it is the callback, else the status to answer with. */
const char *loopback_find_params(const struct loopback_target *ours, struct loopback_request *request, const char *body,
	const char **params, size_t *len);

/* ---- loopback.c: sockets ------------------------------------------------------- */

struct loopback_connection {
	int fd;        /* -1: free */
	bool answered; /* what still comes is thrown away */
	unsigned long order;
	char *request; /* once something came */
	size_t len;
	struct loopback_request head; /* once body is set */
	char *body;
};

struct loopback {
	int listeners[LOOPBACK_LISTENERS]; /* -1: none */
	struct loopback_connection connections[LOOPBACK_CONNECTIONS];
	unsigned long accepted;
	struct loopback_target target;
	struct loopback_connection *waiting; /* the callback's, until it is answered */
	const char *params;                  /* of that callback: the raw query or form body */
	size_t params_len;
};

enum loopback_result {
	LOOPBACK_CALLBACK, /* params are there until loopback_answer */
	LOOPBACK_TIMED_OUT,
	LOOPBACK_BROKEN /* errno tells why */
};

/* False if it can't listen there: errno is EINVAL for a URI that does not suit, else
 * the system's. loopback_close is right after either result. */
bool loopback_open(struct loopback *loopback, const char *redirect_uri);
/* Answers everything but the callback itself. May be called again after loopback_answer. */
enum loopback_result loopback_wait(struct loopback *loopback, int timeout_ms);
/* Answers the callback with a page that says this sentence (plain HTML text); wipes params. */
void loopback_answer(struct loopback *loopback, bool good, const char *sentence);
void loopback_close(struct loopback *loopback);

#endif
