/* SPDX-License-Identifier: MIT
 * The example host: a small server that links its users' bank accounts through
 * acctlink. What an integrator reads first is linking.c: every call of the
 * plugin is there. Then routes.c: which page and button does what, the callback
 * above all. The rest is any web server: main.c (options, start, end), server.c
 * (libmicrohttpd), session.c (who is signed in), data_api.c (a call with the
 * bearer), pages.c, page_style.c, text.c.
 *
 * Threads: each request runs on a thread of libmicrohttpd's and may block for a
 * few seconds in the plugin or in libcurl. Sessions have a lock of their own;
 * everything else is constant after start, or belongs to one request.
 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>

#include "acctlink.h"
#include "acctlink_dl.h"

#define EX_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define EX_INSTITUTIONS_MAX 64
#define EX_EVENTS_MAX 20

struct ex_institution {
	char *name;  /* what acctlink and the provider call it */
	char *title; /* what people call it */
	char *about; /* may be "" */
};

/* Constant after start. */
struct ex_host {
	acctlink_api api;
	acctlink *handle;
	const char *plugin;
	const char *config;
	const char *provider;
	const char *base_url; /* our own, without a slash at the end */
	const char *data_url; /* the data API */
	const char *ca_file;  /* NULL: the system's */
	struct ex_institution institutions[EX_INSTITUTIONS_MAX];
	size_t institution_count;
};
const struct ex_institution *ex_institution(const struct ex_host *host, const char *name); /* NULL */

/* ---- text (text.c) ------------------------------------------------------------- */

char *ex_printf(const char *fmt, ...) EX_PRINTF(1, 2);   /* for free(); ends the program without memory */
char *ex_html(const char *text);                         /* escaped for text and attributes */
void ex_form_decode(char *text);                         /* a name or value of a form, in place */
char *ex_form_value(const char *form, const char *name); /* decoded; NULL if absent */
char *ex_random(void);                                   /* 128 bits, hex */
/* Text that grows. */
struct ex_text {
	char *text;
	size_t len;
};
void ex_add(struct ex_text *to, const char *fmt, ...) EX_PRINTF(2, 3);

/* ---- sessions (session.c) ---------------------------------------------------------- */

struct ex_flash {
	int32_t status; /* 0: good news */
	bool again;     /* the very address of the page may be asked for once more */
	char title[160];
	char text[700];
};
/* A copy of what is kept for one browser; its user is "" before sign-in. */
struct ex_session {
	char id[33];
	char user[65];
	char csrf[33];
	struct ex_flash flash; /* title "": none */
};
/* From the Cookie header; false if there is none that we know. Takes the flash out if take_flash. */
bool ex_session_find(
	const struct ex_host *host, const char *cookie_header, bool take_flash, struct ex_session *session);
void ex_session_new(const char *user, struct ex_session *session);
void ex_session_end(const struct ex_session *session);
void ex_session_flash(const struct ex_session *session, const struct ex_flash *flash);
/* The whole Set-Cookie value: SameSite=Lax, HttpOnly, Secure for an https base_url. With
 * an id of "" it takes the cookie away. */
char *ex_session_cookie(const struct ex_host *host, const struct ex_session *session);

/* ---- linking (linking.c): every call of acctlink -------------------------------------- */

/* One institution of one user, as the home page shows it. */
struct ex_link {
	bool linked;   /* false: nothing below is set */
	int32_t state; /* ACCTLINK_STATE_… */
	int32_t reason;
	int32_t claim;
	uint64_t epoch;
	uint64_t generation;
	int64_t bearer_expires_at_ms;
	int64_t next_refresh_at_ms;
	int64_t authorized_at_ms;
	char subject[256];
	char last_error[64];
};
struct ex_event {
	int32_t kind; /* ACCTLINK_EVENT_… */
	int32_t state;
	int32_t reason;
	uint64_t generation;
	int64_t at_ms;
	char institution[256];
};
bool ex_linking_start(struct ex_host *host, acctlink_error *err); /* dlopen, init, hooks */
acctlink_status ex_linking_end(struct ex_host *host, acctlink_error *err);
acctlink_status ex_look(const struct ex_host *host, const char *user, const char *institution, struct ex_link *link,
	acctlink_error *err);
/* Begins a consent. url and cookie: for free(). */
acctlink_status ex_begin(const struct ex_host *host, const char *user, const char *institution, char **url,
	char **cookie, acctlink_error *err);
acctlink_status ex_callback(const struct ex_host *host, const char *user, const char *params, const char *cookie_header,
	acctlink_callback_result *result, acctlink_error *err);
/* fresh: a new one, even if the one at hand is good. *bearer for ex_wipe(). */
acctlink_status ex_bearer(const struct ex_host *host, const char *user, const char *institution, bool fresh,
	char **bearer, acctlink_bearer_info *info, acctlink_error *err);
void ex_rejected(const struct ex_host *host, const char *user, const char *institution, uint64_t generation,
	int http_status, const char *code);
acctlink_status ex_unlink(const struct ex_host *host, const char *user, const char *institution,
	acctlink_unlink_result *result, acctlink_error *err);
void ex_wipe(char **secret);
/* The newest events of a user, newest first; returns how many. */
size_t ex_events(const char *user, struct ex_event *events, size_t max);
/* What a failure means for the person in front of the browser, and what to do. */
void ex_explain(acctlink_status status, const acctlink_error *err, struct ex_flash *flash);

/* ---- the data API (data_api.c) ------------------------------------------------------------ */

struct ex_accounts {
	long http_status;          /* 0: no answer */
	json_object *json;         /* the API's accounts, or NULL; json_object_put */
	acctlink_bearer_info info; /* of the bearer that was used */
	bool repeated;             /* the first bearer was refused and a fresh one was not */
	char problem[256];         /* what to say if json is NULL; "" if a status of acctlink says it */
};
/* Gets a bearer, asks, and asks once more with a fresh one after a 401. */
acctlink_status ex_accounts(const struct ex_host *host, const char *user, const char *institution,
	struct ex_accounts *accounts, acctlink_error *err);
/* GET {data_url}/institutions, where no --institution was given. False: *problem says why. */
bool ex_fetch_institutions(struct ex_host *host, char *problem, size_t cap);

/* ---- pages (pages.c, page_style.c): each returns HTML for free() ------------------------------ */

extern const char ex_style[];
char *ex_page_sign_in(const struct ex_host *host, const struct ex_session *session);
/* links: one for each institution, in their order. */
char *ex_page_home(const struct ex_host *host, const struct ex_session *session, const struct ex_link *links,
	const struct ex_event *events, size_t event_count);
char *ex_page_accounts(const struct ex_host *host, const struct ex_session *session,
	const struct ex_institution *institution, const struct ex_accounts *accounts);
/* A problem that has no page of its own. */
char *ex_page_problem(const struct ex_host *host, const struct ex_session *session, const struct ex_flash *flash);
/* form_post from another site brings no SameSite=Lax cookie: this page posts the same
 * fields again from our own origin. nonce is that of the page's Content-Security-Policy. */
char *ex_page_repost(const char *form_body, const char *nonce);

/* ---- routes (routes.c) ------------------------------------------------------------------------- */

struct ex_request {
	const char *method;
	const char *path;
	const char *query;   /* raw, "" if none */
	const char *body;    /* raw, "" if none; without NUL */
	const char *cookies; /* the Cookie header, "" if none */
};
struct ex_answer {
	int status;
	char *body;       /* NULL: empty */
	const char *type; /* of the body */
	char *policy;     /* Content-Security-Policy */
	char *location;
	char *session_cookie; /* Set-Cookie */
	char *flow_cookie;    /* Set-Cookie, the plugin's */
};
void ex_visit(const struct ex_host *host, const struct ex_request *req, struct ex_answer *answer);
void ex_answer_clear(struct ex_answer *answer);

/* ---- the server (server.c) ---------------------------------------------------------------------- */

/* On loopback only. port 0: any; cert NULL: plain http. A base_url of NULL becomes that
 * of localhost. Returns the port, or 0 after a message on stderr. */
int ex_server_start(struct ex_host *host, int port, const char *cert_file, const char *key_file);
void ex_server_stop(void); /* waits for requests under way */

#endif
