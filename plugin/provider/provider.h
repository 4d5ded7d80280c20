/* SPDX-License-Identifier: MIT
 * The provider room: one authorization server as the config describes it, its
 * metadata, keys, endpoints and oddities. Knows the wire; never sees links or
 * stores. JSON stays inside. An al_provider belongs to one config snapshot and
 * is counted, since operations keep the snapshot that they began with.
 */
#ifndef AL_PROVIDER_H
#define AL_PROVIDER_H

#include "config/config.h"
#include "net/net.h"

struct al_provider;

al_rc al_provider_new(const struct al_provider_config *config, struct al_net *net, const struct al_log *log,
	const struct al_clock *clock, struct al_provider **out, acctlink_error *err) AL_MUST_USE;
struct al_provider *al_provider_ref(struct al_provider *provider);
void al_provider_unref(struct al_provider **provider);
const struct al_provider_config *al_provider_config(const struct al_provider *provider);
/* Issuer (or token endpoint), client_id: who a stored refresh token belongs to. */
al_rc al_provider_fingerprint(
	const struct al_provider *provider, unsigned char out[32], acctlink_error *err) AL_MUST_USE;

/* ---- metadata.c: discovery (RFC 8414, OpenID Connect Discovery) and JWKS --- */
/* The waiter's own, untouched until done ran. done runs once, after AL_PENDING
 * only: on the net thread, or on the thread of a later caller who could not
 * start the fetch that this one had joined. It must not block. */
struct al_wait {
	void (*done)(void *ctx);
	void *ctx;
	al_rc rc; /* set before done */
	acctlink_error err;
	struct al_wait *next; /* the provider's lock */
};
/* Makes sure that the endpoints are known: OK at once; AL_PENDING, then
 * wait->done; or an error (PROVIDER_DOWN, BAD_PROVIDER). One fetch serves all
 * waiters; a failed one is not repeated for a second, whoever asks gets its
 * error. Once a day known endpoints are looked up anew without anyone waiting. */
al_rc al_provider_ready(struct al_provider *provider, struct al_wait *wait, acctlink_error *err) AL_MUST_USE;
/* Fetches the JWKS since the key for an id_token was missing: AL_PENDING, then
 * wait->done; or an error. While the keys at hand are valid at most one fetch
 * per jwks_min_interval (a second after a failed one), else PROVIDER_DOWN at
 * once with retry_after_ms. Check the token again even then: another caller's
 * fetch may have ended since it was checked. */
al_rc al_provider_fetch_keys(struct al_provider *provider, struct al_wait *wait, acctlink_error *err) AL_MUST_USE;
bool al_provider_can_revoke(struct al_provider *provider);
/* The metadata says that answers carry iss (RFC 9207). False before al_provider_ready. */
bool al_provider_sends_iss(struct al_provider *provider);

/* What an operator's check shows of a provider that is ready. */
struct al_facts {
	char *authorization_endpoint;
	char *token_endpoint;
	char *revocation_endpoint; /* NULL: none */
	char *jwks_uri;            /* NULL: none */
	size_t keys;               /* at hand, that can verify an id_token */
	unsigned algs;             /* AL_ALG_ bits that are accepted */
	char *advice; /* what the config uses and the metadata does not offer: a sentence a line; may be NULL */
};
al_rc al_provider_facts(struct al_provider *provider, struct al_facts *facts, acctlink_error *err) AL_MUST_USE;
void al_facts_clear(struct al_facts *facts);

/* ---- authorize.c: the consent URL (RFC 6749, 4.1.1) ------------------------ */
struct al_authorize {
	const char *redirect_uri;
	const char *scope;
	const char *state;
	const char *nonce;          /* NULL: not sent */
	const char *code_challenge; /* S256; NULL: not sent */
	acctlink_str institution;
};
/* After al_provider_ready. url is the caller's, initialized: its max bounds it. */
al_rc al_authorize_url(struct al_provider *provider, const struct al_authorize *in, struct al_buf *url,
	acctlink_error *err) AL_MUST_USE;

/* ---- token_endpoint.c ------------------------------------------------------ */
/* A token may be 1 MiB at most; a whole answer 4 MiB. */
#define AL_TOKEN_MAX ((size_t)1024 * 1024)
#define AL_ANSWER_MAX ((size_t)4 * 1024 * 1024)

struct al_token_set {
	struct al_buf access_token;
	struct al_buf id_token;
	struct al_buf refresh_token;   /* empty: none came, keep the old one */
	struct al_buf scope;           /* empty: as asked */
	int64_t expires_in_ms;         /* -1: absent or unusable */
	int64_t refresh_expires_in_ms; /* refresh_token_expires_in and its kin; -1 */
};
void al_token_set_init(struct al_token_set *set);
void al_token_set_clear(struct al_token_set *set);

enum al_grant { AL_GRANT_CODE, AL_GRANT_REFRESH };

struct al_token_request {
	enum al_grant grant;
	const struct al_buf *code;          /* AL_GRANT_CODE */
	const char *redirect_uri;           /* AL_GRANT_CODE: the flow's own, byte for byte */
	const struct al_buf *code_verifier; /* AL_GRANT_CODE; empty: no PKCE */
	const struct al_buf *refresh_token; /* AL_GRANT_REFRESH */
	bool (*may_send)(void *ctx);
	void *may_send_ctx;
};
/* After al_provider_ready. Copies what it needs; done runs once on the net
 * thread if OK is returned, and moves the result out to al_token_read later. */
al_rc al_token_start(struct al_provider *provider, const struct al_token_request *request,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err) AL_MUST_USE;

/* What an attempt ended in: the rows of doc/refresh.md. */
enum al_answer_class {
	AL_ANSWER_NOT_SENT,
	AL_ANSWER_SET,         /* keep it */
	AL_ANSWER_REFUSED,     /* definite: this token or code is dead */
	AL_ANSWER_OPERATOR,    /* invalid_client, unauthorized_client */
	AL_ANSWER_OURS,        /* another OAuth error: config or code is at fault */
	AL_ANSWER_TURNED_AWAY, /* 408, 425, 429, 503, a firewall's page */
	AL_ANSWER_UNKNOWN      /* sent, outcome not known */
};
struct al_token_answer {
	enum al_answer_class kind;
	struct al_token_set set; /* with AL_ANSWER_SET */
	int http_status;
	char provider_code[64]; /* the OAuth error, or our word for it */
	int64_t retry_after_ms; /* capped; -1 if none */
	char message[256];      /* for people; no secrets: text of the provider is not quoted
	                              beyond code and a bounded, scrubbed description */
};
/* Classifies and parses. Never fails: what can't be read is a class as well. */
void al_token_read(struct al_provider *provider, const struct al_token_request *request, struct al_http_result *result,
	struct al_token_answer *answer);
void al_token_answer_clear(struct al_token_answer *answer);

/* RFC 7009. token_type_hint is refresh_token or access_token. */
al_rc al_revoke_start(struct al_provider *provider, const struct al_buf *token, const char *hint,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err) AL_MUST_USE;
enum al_revoke_end {
	AL_REVOKE_CONFIRMED, /* 2xx */
	AL_REVOKE_REFUSED,   /* 4xx that a retry won't change (unsupported_token_type, invalid_request) */
	AL_REVOKE_OPERATOR,  /* invalid_client, unauthorized_client: retry slowly, alarm */
	AL_REVOKE_RETRY      /* not sent, cut, 408, 425, 429, 5xx */
};
/* Of *detail only http_status, provider_code, retry_after_ms and message are
 * set; clear it all the same. token, which was sent (or NULL), is never in them. */
enum al_revoke_end al_revoke_read(struct al_provider *provider, const struct al_buf *token,
	struct al_http_result *result, struct al_token_answer *detail);

/* ---- id_token.c: OpenID Connect Core 3.1.3.7 and 12.2 ---------------------- */
struct al_id_expect {
	bool refreshed;                    /* 12.2 instead of 3.1.3.7 */
	const char *nonce;                 /* the flow's; NULL if none was sent */
	const char *subject;               /* refreshed, or renewing: must be equal; NULL: any */
	int64_t auth_time;                 /* refreshed: of the first, seconds; 0: unknown */
	const struct al_buf *access_token; /* for at_hash; empty: not checked */
};
enum al_id_verdict {
	AL_ID_GOOD,
	AL_ID_NO_KEY,        /* no key at hand fits: al_provider_fetch_keys, then again */
	AL_ID_OTHER_SUBJECT, /* all else is good */
	AL_ID_BAD            /* err says which rule and both values */
};
struct al_id_claims {
	struct al_buf subject;
	int64_t expires_at; /* Unix seconds */
	int64_t issued_at;
	int64_t auth_time; /* 0: absent */
};
void al_id_claims_init(struct al_id_claims *claims);
void al_id_claims_clear(struct al_id_claims *claims);
/* claims are set for GOOD and OTHER_SUBJECT. wall_ms: now. Does no I/O. */
enum al_id_verdict al_id_token_check(struct al_provider *provider, const struct al_buf *token,
	const struct al_id_expect *expect, int64_t wall_ms, struct al_id_claims *claims, acctlink_error *err);
/* exp of any JWT, unchecked, in seconds; 0 if it is no JWT or has none. Only
 * ever used to shorten a bearer's life. */
int64_t al_jwt_peek_exp(const struct al_buf *token);

#endif
