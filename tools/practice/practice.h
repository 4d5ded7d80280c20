/* SPDX-License-Identifier: MIT
 * The practice provider: a bank and its authorization server on loopback that
 * behaves like the real thing, faults included, and keeps a ledger of all that
 * it gave and got. For learning and for tests; it tells its secrets to whoever
 * asks at its control port, so it must never serve anyone else.
 *
 * How data flows: wire.c (TLS, bytes, cuts) -> http.c (libmicrohttpd: requests
 * and answers) -> faults.c (what the script wants) -> an endpoint (authorize.c,
 * token.c, metadata.c, accounts.c) -> grants.c, keys.c -> ledger.c (the file).
 * control.c is the second, plain http server for tests.
 *
 * Threads: one per connection. One mutex, pp_lock, guards everything but the
 * wire: settings, script, keys, grants, ledger. "Locked" below: the caller
 * holds it. It is never held while an answer is held back, delayed or sent.
 * Errors: what can't work at start, and running out of memory, ends the program
 * with a message (pp_die); a request never does.
 */
#ifndef PRACTICE_H
#define PRACTICE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>

#define PP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- util.c ------------------------------------------------------------------ */

_Noreturn void pp_die(const char *fmt, ...) PP_PRINTF(1, 2);
char *pp_printf(const char *fmt, ...) PP_PRINTF(1, 2); /* for free() */
void *pp_calloc(size_t count, size_t size);
char *pp_strdup(const char *text);
char *pp_sha256_hex(const char *text);
char *pp_base64url(const unsigned char *bytes, size_t len);
char *pp_random(size_t bytes); /* base64url */
/* application/x-www-form-urlencoded. Decoding never fails: what is no %XX stays as it is. */
char *pp_form_decode(const char *text, size_t len);
char *pp_form_encode(const char *text);
/* "a=1&b=2" -> {"a":"1","b":"2"}; a name that comes twice has an array. */
json_object *pp_form_parse(const char *text);
char *pp_html(const char *text); /* escaped for text and attributes */
/* Members of an object, with a default where absent or null. */
const char *pp_text(json_object *object, const char *name, const char *fallback);
int64_t pp_number(json_object *object, const char *name, int64_t fallback);
bool pp_flag(json_object *object, const char *name, bool fallback);
json_object *pp_member(json_object *object, const char *name); /* borrowed; NULL */
/* Copies the members of `from` into `into`; null deletes. from may be NULL. */
void pp_merge(json_object *into, json_object *from);
json_object *pp_copy(json_object *value); /* deep */

void pp_lock(void);
void pp_unlock(void);

/* ---- settings.c: manners ------------------------------------------------------- */

/* Defaults, changed by `set` at the control port and by --set. Locked. */
void pp_settings_init(void);
bool pp_settings_change(json_object *from, char **why); /* false: *why says the unknown word; for free() */
json_object *pp_settings_all(void);                     /* borrowed */
/* One setting as it holds for an institution: its own habits first. institution
 * may be NULL or unknown: the general ones. Borrowed; NULL for JSON null. */
json_object *pp_setting(const char *institution, const char *name);
const char *pp_setting_text(const char *institution, const char *name); /* NULL for null */
int64_t pp_setting_number(const char *institution, const char *name);
bool pp_setting_flag(const char *institution, const char *name);
bool pp_akoya_words(const char *institution); /* whose words its errors have */
int64_t pp_now_ms(void);                      /* wall clock plus clock_offset_ms */
/* institutions.c: {name: {title, kind, about, tint, users {login: name}, habits {…}}}; borrowed. */
json_object *pp_institutions(void);
const char *pp_base_url(void);  /* https://localhost:PORT, no slash at the end */
const char *pp_front_url(void); /* the same, unless pages have a plain http port of their own */
void pp_set_urls(const char *base, const char *front);
char *pp_issuer(void); /* base + issuer_path */

/* ---- one request and its answer -------------------------------------------------- */

struct pp_wire; /* one client connection */

enum pp_endpoint { PP_DISCOVERY, PP_JWKS, PP_AUTH, PP_PAGE, PP_TOKEN, PP_REVOKE, PP_API, PP_OTHER };
const char *pp_endpoint_name(enum pp_endpoint endpoint); /* "discovery" … "page" … "other" */
enum pp_endpoint pp_endpoint_of(const char *path);

struct pp_request {
	const char *method;
	const char *path;
	const char *query; /* raw, "" if none */
	enum pp_endpoint endpoint;
	const char *body; /* ended by NUL; "" if none */
	size_t body_len;
	json_object *params;  /* of the body for POST, else of the query */
	json_object *headers; /* names in lower case -> text */
	struct pp_wire *wire;
	int remote_port;
	json_object *rec; /* its line in the ledger; members may be set while locked */
	json_object *act; /* what the script wants of it; never NULL */
	bool spend;       /* whether a code or refresh token is used up by it */
};
const char *pp_param(const struct pp_request *req, const char *name);  /* NULL if absent or given twice */
const char *pp_header(const struct pp_request *req, const char *name); /* NULL */

struct pp_answer {
	int status;
	json_object *json;    /* the answer is this object … */
	char *body;           /* … or this text (NULL: empty) */
	size_t body_len;      /* 0: strlen(body) */
	json_object *headers; /* name -> text, or array of texts; NULL: none */
};
void pp_answer_clear(struct pp_answer *answer);
void pp_answer_header(struct pp_answer *answer, const char *name, const char *fmt, ...) PP_PRINTF(3, 4);
/* {"error":…,"error_description":…}; description may be NULL */
void pp_answer_error(struct pp_answer *answer, int status, const char *error, const char *description);
void pp_answer_html(struct pp_answer *answer, int status, char *page); /* takes page */

/* ---- endpoints: fill the answer; locked ------------------------------------------ */

void pp_discovery(struct pp_request *req, struct pp_answer *answer); /* metadata.c */
void pp_jwks(struct pp_request *req, struct pp_answer *answer);
void pp_authorize(struct pp_request *req, struct pp_answer *answer); /* authorize.c */
void pp_token(struct pp_request *req, struct pp_answer *answer);     /* token.c */
void pp_revoke(struct pp_request *req, struct pp_answer *answer);
void pp_page(struct pp_request *req, struct pp_answer *answer);     /* pages.c: sign-in, accounts, consent */
void pp_accounts(struct pp_request *req, struct pp_answer *answer); /* accounts.c: the data API and userinfo */

/* authorize.c, for pages.c too: what the browser takes back. error NULL: a new
 * code for `subject`, who consented to `accounts` (an array, or NULL: all). */
struct pp_decision {
	const char *subject;
	json_object *accounts;
	const char *error;
	const char *error_description;
};
/* params: of the authorization request. Fills a redirect or a form_post page. */
void pp_authorize_finish(
	struct pp_request *req, json_object *params, const struct pp_decision *decision, struct pp_answer *answer);
/* Whether a list parted by spaces, as scopes are, has this word. */
bool pp_has_word(const char *list, const char *word);
/* True if client_id and redirect_uri are good; else fills the page that says so. */
bool pp_authorize_check(struct pp_request *req, json_object *params, struct pp_answer *answer);
/* pages.c: begins an interaction and fills the sign-in page. */
void pp_page_begin(struct pp_request *req, struct pp_answer *answer);
/* page_draft.c: a plain page that says what is wrong and what to do. */
void pp_page_error(struct pp_answer *answer, int status, const char *title, const char *text);

/* ---- grants.c: codes, grants, tokens. Locked. --------------------------------------- */

struct pp_grant {
	int64_t n; /* its number, from 0 */
	char *subject;
	char *client;
	char *connector;
	char *scope;
	char *nonce;           /* NULL: none */
	json_object *accounts; /* NULL: all */
	int64_t auth_time;     /* s */
	bool alive;
	int64_t ended_at;         /* ms; 0 */
	char *ended_why;          /* NULL; "reuse", "revoked", "replaced", "killed", "expired" */
	int64_t generation;       /* of its tokens: +1 at each spend, also where nothing rotates */
	struct pp_token *current; /* its refresh token */
	struct pp_grant *former;  /* of the same user, client and bank; NULL once those before are over */
};

enum pp_kind { PP_CODE, PP_REFRESH, PP_ACCESS, PP_ID };

/* A code, refresh token or bearer that was given out. Never forgotten. */
struct pp_token {
	enum pp_kind kind;
	char *text;
	char *hash;             /* SHA-256, hex: what the ledger shows */
	struct pp_grant *grant; /* of a code: what it was exchanged for, or NULL */
	int64_t generation;     /* of the grant when it was made */
	int64_t issued_at;      /* ms */
	int64_t ends_at;        /* ms; 0: never */
	int64_t issued_by;      /* number of the request; -1 */
	int64_t spent_at;       /* first spend, ms; 0: not */
	int64_t spent_by;
	int64_t used_at; /* last use of a refresh token that was not rotated, ms; 0: none */
	bool dead;       /* a bearer that kill_bearers refused */
	/* of a code */
	char *client, *redirect_uri, *nonce, *scope, *challenge, *connector, *subject;
	json_object *accounts;
	int64_t auth_time;
};
void pp_grants_init(void);
size_t pp_grant_count(void);
struct pp_grant *pp_grant_at(size_t n);
/* By its text or by its SHA-256; NULL if it was never given out. */
struct pp_token *pp_token_find(const char *text);
struct pp_token *pp_token_by_hash(const char *hash);
size_t pp_token_count(void);
struct pp_token *pp_token_at(size_t n); /* in the order of their issue */
/* A fresh random token of the length that token_bytes asks for, kept and written down. */
struct pp_token *pp_token_new(enum pp_kind kind, struct pp_grant *grant, int64_t ends_at, int64_t request);
struct pp_token *pp_token_keep(enum pp_kind kind, const char *text, struct pp_grant *grant, int64_t ends_at,
	int64_t request); /* the same for a text that exists, e.g. an id_token */
/* Opens the grant of a code. one grant per user, client and institution where `rotation` is "dex". */
struct pp_grant *pp_grant_open(struct pp_token *code, int64_t request);
void pp_grant_end(struct pp_grant *grant, const char *why);
/* Writes the changed object to the ledger's file. */
void pp_grant_write(const struct pp_grant *grant);
void pp_token_write(const struct pp_token *token);

/* ---- keys.c: signing keys and JWTs by hand. Locked. ------------------------------------ */

void pp_keys_register(void);                /* before pp_ledger_init */
void pp_keys_init(void);                    /* RS256, PS256, ES256, EdDSA, unless the ledger's file brought them */
const char *const *pp_key_algorithms(void); /* ended by NULL */
void pp_key_rotate(const char *alg, bool same_kid, bool keep_old);
void pp_key_withdraw(const char *kid);
json_object *pp_keys_published(bool without_kid); /* array of public JWKs */
/* how: the words of `id_token` in faults.c; NULL: an ordinary one. For free(). */
char *pp_jwt(const char *alg, json_object *claims, json_object *how);
/* at_hash of an access token (OpenID Connect Core, 3.1.3.6). For free(). */
char *pp_at_hash(const char *alg, const char *access_token);

/* ---- faults.c: the script. Locked, unless said otherwise. -------------------------------- */

bool pp_script_queue(json_object *entries, char **why);
void pp_script_clear(const char *endpoint); /* NULL: all */
/* What the script wants of a request, {} if nothing. A new reference. */
json_object *pp_script_take(const char *endpoint, const char *grant, const char *token_hash);
/* Changes the endpoint's answer into what the script wants. sent: the code or token of the request, or NULL. */
void pp_script_shape(struct pp_answer *answer, json_object *act, const char *sent);
/* Not locked: waits until `name` is released. */
void pp_hold(const char *name);
void pp_release(const char *name); /* takes no pp_lock */
int pp_held(const char *name);

/* ---- wire.c: connections, TLS, bytes -------------------------------------------------------- */

/* What happens to the bytes of one answer; zero and -1 mean nothing. */
struct pp_wire_fault {
	int64_t cut_head;   /* after so many bytes of the whole answer, head included; -1 */
	int64_t cut_body;   /* after so many bytes of the body; -1 */
	int64_t stall_head; /* as the two above: the bytes stop there for stall_ms, then go on */
	int64_t stall_body;
	int64_t stall_ms;
	int64_t drip_bytes; /* the body in pieces of so many bytes … */
	int64_t drip_ms;    /* … with so much time between */
	bool reset;         /* a cut is a TCP reset */
	bool half_close;    /* a cut ends our side only: close_notify and FIN, while we go on reading */
	bool close_notify;  /* a cut says close_notify first, so TLS sees a whole end */
};
/* clang-format off */
#define PP_WIRE_FAULT_NONE { -1, -1, -1, -1, 0, 0, 0, false, false, false }
/* clang-format on */

/* A listener on 127.0.0.1; port 0: any. cert NULL: plain http. Returns the port. */
struct pp_listener;
int pp_listen(int port, const char *cert_file, const char *key_file, struct pp_listener **out);
/* Down: idle and busy connections are cut, new ones refused. Up again at the same port. */
void pp_listeners_down(bool down);
void pp_wire_close_idle(void); /* connections between two requests */
/* For http.c, on the connection's thread, before it queues an answer. Locked. */
void pp_wire_set_fault(struct pp_wire *wire, const struct pp_wire_fault *fault, json_object *rec);
bool pp_wire_client_gone(struct pp_wire *wire);
int pp_wire_port(const struct pp_wire *wire); /* the client's */
/* control words cut_request and cut_tls: see control.c. */
bool pp_wire_arm(const char *word, json_object *value, char **why);

/* ---- http.c: the server behind the wire ------------------------------------------------------- */

void pp_http_start(void);
void pp_http_stop(void);
/* Hands a connected socket (our end of a socketpair) of this client to the server; it is closed there. */
bool pp_http_adopt(struct pp_wire *wire, int fd, int remote_port);

/* ---- ledger.c: requests, and the file of everything -------------------------------------------- */

/* Opens or makes the file (mode 0600) and replays it; NULL: nothing is kept on disk. */
void pp_ledger_init(const char *path);
/* A request whose head arrived; a new reference. Locked. */
json_object *pp_ledger_request(const struct pp_request *req);
/* It is whole: params are shown with secrets as SHA-256. Sets rec's grant and token. Locked. */
void pp_ledger_whole(struct pp_request *req);
/* After pp_script_shape: what the answer of a token request tells its client goes into rec. Locked. */
void pp_ledger_answer(struct pp_request *req, const struct pp_answer *answer);
void pp_ledger_write(json_object *rec); /* its newest version goes to the file. Locked. */
void pp_ledger_reset(void);             /* forgets requests and counts, not grants and tokens. Locked. */
json_object *pp_ledger_json(void);      /* GET /ledger; a new reference. Locked. */
int pp_ledger_count(const char *endpoint, const char *grant); /* whole requests. Locked. */
int pp_ledger_arrivals(const char *token_hash);               /* whole token requests. Locked. */
const char *pp_ledger_body(int64_t n);                        /* NULL. Locked. */
/* One line of the file: the newest of each table and key counts. Locked. Takes value. */
void pp_journal_put(const char *table, const char *key, json_object *value);
/* Who restores a table registers before pp_ledger_init. value is borrowed. */
void pp_journal_restore(const char *table, void (*restore)(const char *key, json_object *value));

/* ---- control.c ------------------------------------------------------------------------------------ */

int pp_control_start(int port); /* 127.0.0.1, plain http; returns the port */
void pp_control_stop(void);

#endif
