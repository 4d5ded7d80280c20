/* SPDX-License-Identifier: MIT
 * What only the provider room and its tests see. json_object stays here.
 */
#ifndef AL_PROVIDER_INT_H
#define AL_PROVIDER_INT_H

#include <json-c/json.h>
#include <pthread.h>
#include <stdatomic.h>

#include "provider/provider.h"

/* ---- json.c: strict reading over json-c ------------------------------------ */
/* Strict JSON, UTF-8 checked, depth 16, no duplicate members, no NUL in
 * strings, an object at the top; a byte-order mark and white space around it
 * are taken. NULL and err otherwise (BAD_PROVIDER or NO_MEMORY). Nothing of
 * the text is quoted in err. */
struct json_object *al_json_parse(const char *text, size_t len, acctlink_error *err);
/* Overwrites all strings that it holds, then frees; a pointer from
 * al_json_string ends here. */
void al_json_free(struct json_object **object);
/* The member as a string; NULL if absent, null or not a string. */
const char *al_json_string(struct json_object *object, const char *name, size_t *len);
/* Integers, integral floats and (if numeric_strings) numeric strings with
 * spaces around; false if absent, unusable or out of the int64 range. */
bool al_json_int(struct json_object *object, const char *name, bool numeric_strings, int64_t *out);

/* ---- jose.c: JWS verification with EVP (RFC 7515, 7517, 7518, 8037) -------- */
struct al_jwk;  /* one public key with kid, use, alg */
struct al_jwks; /* an immutable, counted list */
/* Keys that can't verify an id_token are left out, so that *out may be empty;
 * BAD_PROVIDER if the document is not a JWKS at all. */
al_rc al_jwks_parse(const char *text, size_t len, struct al_jwks **out, acctlink_error *err) AL_MUST_USE;
/* One more reference; NULL for NULL. al_jwks_free drops one. */
struct al_jwks *al_jwks_ref(struct al_jwks *jwks);
void al_jwks_free(struct al_jwks **jwks);
size_t al_jwks_count(const struct al_jwks *jwks);
/* Verifies a compact JWS whose alg must be one of `algs` (AL_ALG_ bits, from
 * config or metadata, never from the token), with a key of fitting kty, crv,
 * use and alg: the one with the header's kid, or each fitting key if the header
 * has none or several share it. OK: payload holds the decoded bytes. AL_ABSENT:
 * no key has the kid, or none fits a token without one. AL_CONFLICT: the key of
 * that name does not fit or does not verify; the key may be new under its old
 * name. BAD_PROVIDER: refused whatever the keys. err->status is BAD_PROVIDER
 * with all three. */
al_rc al_jws_verify(const struct al_jwks *keys, unsigned algs, const struct al_buf *token, struct al_buf *payload,
	acctlink_error *err) AL_MUST_USE;
/* Left half of the hash that fits the token's alg, base64url (at_hash). */
al_rc al_jws_half_hash(
	const struct al_buf *token, const struct al_buf *of, struct al_buf *out, acctlink_error *err) AL_MUST_USE;
/* "RS256 ES256" to bits; unknown names are left out. */
unsigned al_alg_from_name(const char *name);

/* ---- client_auth.c --------------------------------------------------------- */
/* Adds the client's credentials: to the body, or as an Authorization header
 * into `header` (empty if none). */
al_rc al_client_auth_add(const struct al_provider_config *config, enum al_client_auth method, struct al_buf *body,
	struct al_buf *header, acctlink_error *err) AL_MUST_USE;

/* ---- token_reply.c --------------------------------------------------------- */
/* The members of an answer, to be freed with al_json_free; NULL if nothing whole
 * can be read. A JSON object tells by its last brace that it is whole, even if
 * the connection broke after it; a form does not. */
struct json_object *al_reply_parse(const struct al_http_result *result);
/* White space, and the DEL that stands there for a raw line break. */
bool al_is_blank(char c);
/* ASCII only: tolower would ask the host's locale. */
bool al_same_word(const char *text, size_t len, const char *lower);

/* ---- offer.c ----------------------------------------------------------------- */
/* Says what the config uses and the metadata does not offer: NULL if nothing. */
al_rc al_offer_compare(const struct al_provider_config *config, struct json_object *metadata, char **advice,
	acctlink_error *err) AL_MUST_USE;
/* A list of words in a JSON document; false for anything else. */
bool al_json_list_has(struct json_object *list, const char *word);

/* ---- metadata.c ------------------------------------------------------------ */
struct al_endpoints { /* immutable once published */
	char *authorization;
	char *token;
	char *revocation; /* NULL: none */
	char *jwks;       /* NULL: none */
	unsigned algs;    /* what id_tokens may be signed with */
	bool iss_parameter;
	char *advice; /* see al_facts; may be NULL */
	atomic_int refs;
};
struct al_provider {
	const struct al_provider_config *config;
	struct al_config *owner; /* keeps config alive; NULL in tests */
	struct al_net *net;
	const struct al_log *log;
	const struct al_clock *clock;
	atomic_int refs;
	pthread_mutex_t lock; /* guards all below; never held across I/O or callbacks */
	struct al_endpoints *endpoints;
	struct al_jwks *keys;
	int64_t keys_until;             /* boot ms: refetch after */
	int64_t keys_fetched_at;        /* boot ms; 0: never */
	int64_t next_keys_at;           /* boot ms: no new fetch before */
	int64_t endpoints_until;        /* boot ms: metadata is fetched anew after */
	int64_t next_discovery_at;      /* boot ms: no new try before, after a failure */
	acctlink_error discovery_error; /* of that failure */
	struct al_wait *ready_waiters;
	struct al_wait *key_waiters;
	bool discovery_running;
	bool keys_running;
};
/* The endpoints of the config, completed by checked metadata (NULL: none). */
al_rc al_endpoints_make(const struct al_provider_config *config, struct json_object *metadata,
	struct al_endpoints **out, acctlink_error *err) AL_MUST_USE;
/* A counted reference, NULL before al_provider_ready. */
struct al_endpoints *al_provider_endpoints(struct al_provider *provider);
void al_endpoints_unref(struct al_endpoints **endpoints);

#endif
