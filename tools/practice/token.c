/* SPDX-License-Identifier: MIT
 * The token and revocation endpoints (RFC 6749, 4.1.3 and 6; RFC 7009), in the
 * manner of Dex, of Hydra or of neither, with the words of an RFC or of Akoya.
 */
#include "practice.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define CLAIMED "Refresh token is invalid or has already been claimed by another client."

/* ---- whose words -------------------------------------------------------------------- */

static bool is_dex(const char *institution)
{
	return strcmp(pp_setting_text(institution, "rotation"), "dex") == 0;
}

static void bad_code(struct pp_answer *answer, const char *institution, const char *why)
{
	if (pp_akoya_words(institution))
		pp_answer_error(answer, 400, "invalid_request", "Invalid or expired code parameter.");
	else
		pp_answer_error(answer, 400, "invalid_grant", why);
}

static void bad_refresh(struct pp_answer *answer, const char *institution)
{
	if (pp_akoya_words(institution))
		pp_answer_error(answer, 400, "invalid_request", CLAIMED);
	else
		pp_answer_error(answer, 400, "invalid_grant", "the refresh token is not valid");
}

/* ---- the ledger's line ---------------------------------------------------------------- */

static void note_text(struct pp_request *req, const char *name, const char *text)
{
	if (text != NULL)
		json_object_object_add(req->rec, name, json_object_new_string(text));
}

static void note_flag(struct pp_request *req, const char *name)
{
	json_object_object_add(req->rec, name, json_object_new_boolean(1));
}

static void note_grant(struct pp_request *req, const struct pp_grant *grant)
{
	json_object_object_add(req->rec, "grant_n", json_object_new_int64(grant->n));
	json_object_object_add(req->rec, "generation", json_object_new_int64(grant->generation));
}

static void note_issued(struct pp_request *req, const struct pp_token *token)
{
	json_object *list = pp_member(req->rec, "issued");

	if (list == NULL) {
		list = json_object_new_array();
		json_object_object_add(req->rec, "issued", list);
	}
	json_object_array_add(list, json_object_new_string(token->hash));
}

static int64_t number_of(const struct pp_request *req)
{
	return pp_number(req->rec, "n", -1);
}

/* ---- client authentication --------------------------------------------------------------- */

/* The two halves of Basic; false if that is none. RFC 6749, 2.3.1 wants them form-encoded. */
static bool read_basic(const char *authorization, bool raw, char **id, char **secret)
{
	unsigned char pair[4096];
	const size_t len = strlen(authorization + 6);
	const char *colon;
	int got;

	if (len == 0 || len > sizeof(pair) || len % 4 != 0)
		return false;
	got = EVP_DecodeBlock(pair, (const unsigned char *)authorization + 6, (int)len);
	if (got <= 0)
		return false;
	got -= authorization[5 + len] == '=' ? (authorization[4 + len] == '=' ? 2 : 1) : 0;
	colon = memchr(pair, ':', (size_t)got);
	if (colon == NULL)
		return false;
	*id = pp_form_decode((const char *)pair, (size_t)(colon - (const char *)pair));
	*secret = pp_form_decode(colon + 1, (size_t)got - (size_t)(colon + 1 - (const char *)pair));
	if (raw) {
		free(*id);
		free(*secret);
		*id = pp_printf("%.*s", (int)(colon - (const char *)pair), (const char *)pair);
		*secret = pp_printf("%.*s", got - (int)(colon + 1 - (const char *)pair), colon + 1);
	}
	return true;
}

/* Whether this client may come in this way with this secret. */
static bool admits(const char *id, const char *secret, const char *used, const char *method)
{
	json_object *clients = pp_setting(NULL, "clients");
	json_object *wanted = NULL;
	const bool any = strcmp(method, "any") == 0;

	if (id == NULL || !json_object_object_get_ex(clients, id, &wanted))
		return false;
	if (wanted == NULL) /* a public client */
		return strcmp(used, "none") == 0;
	if (strncmp(method, "basic", 5) == 0)
		method = "basic";
	if (any ? strcmp(used, "none") == 0 : strcmp(used, method) != 0)
		return false;
	return strcmp(used, "none") == 0 || (secret != NULL && strcmp(json_object_get_string(wanted), secret) == 0);
}

/* The client's id, for free(), or NULL. A secret that comes twice is one that doesn't fit. */
static char *authenticate(struct pp_request *req, const char *method)
{
	const char *authorization = pp_header(req, "authorization");
	const bool in_body = pp_member(req->params, "client_secret") != NULL;
	const char *used = in_body ? "post" : "none";
	char *id = NULL;
	char *secret = NULL;
	bool good = true;

	if (authorization != NULL && strncmp(authorization, "Basic ", 6) == 0) {
		/* RFC 6749, 2.3: one method per request. */
		if (in_body)
			return NULL;
		good = read_basic(authorization, strcmp(method, "basic_raw") == 0, &id, &secret);
		used = "basic";
	} else {
		id = pp_param(req, "client_id") != NULL ? pp_strdup(pp_param(req, "client_id")) : NULL;
		secret = pp_param(req, "client_secret") != NULL ? pp_strdup(pp_param(req, "client_secret")) : NULL;
	}
	note_text(req, "auth", used);
	note_text(req, "client", id);
	if (!good || !admits(id, secret, used, method)) {
		free(id);
		id = NULL;
	}
	free(secret);
	return id;
}

/* ---- tokens ------------------------------------------------------------------------------------ */

static void put_number(json_object *json, const char *name, int64_t number)
{
	json_object_object_add(json, name, json_object_new_int64(number));
}

static void put_text(json_object *json, const char *name, const char *text)
{
	json_object_object_add(json, name, json_object_new_string(text));
}

static json_object *claims_of(
	const struct pp_grant *grant, const char *alg, const char *access, bool first, json_object *how)
{
	const int64_t now = pp_now_ms() / 1000;
	json_object *claims = json_object_new_object();
	json_object *relative = pp_member(how, "claims_in");
	char *issuer = pp_issuer();
	char *at_hash;

	put_text(claims, "iss", issuer);
	put_text(claims, "sub", grant->subject);
	put_text(claims, "aud", grant->client);
	put_number(claims, "iat", now);
	put_number(claims, "exp", now + pp_setting_number(grant->connector, "id_token_ttl"));
	put_number(claims, "auth_time", grant->auth_time);
	if (grant->nonce != NULL && (first || pp_setting_flag(grant->connector, "refresh_nonce")))
		put_text(claims, "nonce", grant->nonce);
	if (access != NULL) {
		at_hash = pp_at_hash(alg, access);
		put_text(claims, "at_hash", at_hash);
		free(at_hash);
	}
	pp_merge(claims, pp_setting(grant->connector, "claims"));
	pp_merge(claims, pp_member(how, "claims"));
	if (relative != NULL) {
		json_object_object_foreach(relative, name, value)
			put_number(claims, name, now + json_object_get_int64(value));
	}
	free(issuer);
	return claims;
}

/* Base64 grows by 4 for 3 bytes: start a little above, come down to the bound. */
static char *padded(const char *alg, json_object *claims, json_object *how, char *plain, size_t wanted)
{
	size_t pad = wanted > strlen(plain) ? (wanted - strlen(plain)) * 3 / 4 + 3 : 0;

	for (; pad > 0; pad--) {
		char *filler = pp_calloc(1, pad + 1);
		char *token;

		memset(filler, 'x', pad);
		put_text(claims, "pad", filler);
		free(filler);
		token = pp_jwt(alg, claims, how);
		if (strlen(token) <= wanted) {
			free(plain);
			return token;
		}
		free(token);
	}
	return plain;
}

static char *id_token(const struct pp_grant *grant, const char *access, bool first, json_object *how)
{
	const char *raw = pp_text(how, "raw", NULL);
	const char *alg = pp_text(how, "alg", pp_setting_text(grant->connector, "alg"));
	const int64_t wanted = pp_number(pp_setting(NULL, "token_bytes"), "id", 0);
	json_object *claims;
	char *token;

	if (raw != NULL)
		return pp_strdup(raw);
	claims = claims_of(grant, alg, access, first, how);
	token = padded(alg, claims, how, pp_jwt(alg, claims, how), (size_t)wanted);
	json_object_put(claims);
	return token;
}

static int64_t end_of(const struct pp_grant *grant, const char *lifetime)
{
	return pp_now_ms() + pp_setting_number(grant->connector, lifetime) * 1000;
}

static void token_answer(
	struct pp_request *req, struct pp_grant *grant, bool first, bool repeat, struct pp_answer *answer)
{
	const char *id_manner = pp_setting_text(grant->connector, "id_token");
	const char *scope = pp_setting_text(grant->connector, "scope");
	const struct pp_token *access = NULL;
	char *id;

	answer->status = 200;
	answer->json = json_object_new_object();
	pp_answer_header(answer, "cache-control", "no-store");
	put_text(answer->json, "token_type", "bearer");
	put_number(answer->json, "expires_in", pp_setting_number(grant->connector, "access_ttl"));
	put_text(answer->json, "scope", scope != NULL ? scope : grant->scope);
	if (pp_setting_flag(grant->connector, "access_token")) {
		access = pp_token_new(PP_ACCESS, grant, end_of(grant, "access_ttl"), number_of(req));
		put_text(answer->json, "access_token", access->text);
		note_issued(req, access);
	}
	if (strcmp(id_manner, "always") == 0 || (first && strcmp(id_manner, "first") == 0)) {
		id = id_token(grant, access != NULL ? access->text : NULL, first, pp_member(req->act, "id_token"));
		put_text(answer->json, "id_token", id);
		note_issued(req, pp_token_keep(PP_ID, id, grant, end_of(grant, "id_token_ttl"), number_of(req)));
		free(id);
	}
	if (repeat) {
		put_text(answer->json, "refresh_token", grant->current != NULL ? grant->current->text : "rt-unspent");
		if (grant->current != NULL)
			note_issued(req, grant->current);
	}
}

/* ---- authorization_code ----------------------------------------------------------------------- */

static bool verifier_fits(const char *verifier, const char *challenge)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char *text;
	bool fits;

	if (EVP_Digest(verifier, strlen(verifier), digest, &len, EVP_sha256(), NULL) != 1)
		pp_die("SHA-256 fails");
	text = pp_base64url(digest, len);
	fits = strcmp(text, challenge) == 0;
	free(text);
	return fits;
}

/* True if the code may be exchanged; else the answer says why not. */
static bool code_good(struct pp_request *req, struct pp_token *code, const char *client, struct pp_answer *answer)
{
	const char *verifier = pp_param(req, "code_verifier");
	const char *redirect_uri = pp_param(req, "redirect_uri");
	const char *bank = code != NULL ? code->connector : NULL;

	if (code == NULL || code->kind != PP_CODE || strcmp(code->client, client) != 0) {
		bad_code(answer, bank, "unknown code");
	} else if (code->spent_at != 0) {
		note_flag(req, "reused");
		if (code->grant != NULL && !is_dex(bank)) /* RFC 6749, 4.1.2 */
			pp_grant_end(code->grant, "reuse");
		bad_code(answer, bank, "the code was used before");
	} else if (pp_now_ms() > code->ends_at) {
		bad_code(answer, bank, "the code is expired");
	} else if (redirect_uri == NULL || strcmp(redirect_uri, code->redirect_uri) != 0) {
		pp_answer_error(answer, 400, pp_akoya_words(bank) ? "invalid_request" : "invalid_grant",
			"redirect_uri did not match URI from initial request.");
	} else if (code->challenge == NULL && verifier != NULL) {
		pp_answer_error(answer, 400, "invalid_request", "No PKCE flow started. Cannot check code_verifier.");
	} else if (code->challenge != NULL && !verifier_fits(verifier != NULL ? verifier : "", code->challenge)) {
		pp_answer_error(answer, 400, "invalid_grant", "Invalid code_verifier.");
	} else {
		return true;
	}
	return false;
}

static void spend(struct pp_request *req, struct pp_token *token)
{
	if (token->spent_at == 0) {
		token->spent_at = pp_now_ms();
		token->spent_by = number_of(req);
		pp_token_write(token);
	}
	note_flag(req, "spent");
}

/* For a script that shows a good answer without using the code up: a grant that
 * is dead from the start and stands in no book. */
static void unspent_answer(struct pp_request *req, struct pp_token *code, struct pp_answer *answer)
{
	struct pp_grant nobody = { .n = -1,
		.subject = code->subject,
		.client = code->client,
		.connector = code->connector,
		.scope = code->scope,
		.nonce = code->nonce,
		.auth_time = code->auth_time,
		.generation = 1 };
	size_t i;

	token_answer(req, &nobody, true, true, answer);
	/* The bearers must not point to what ends with this call. */
	for (i = 0; i < pp_token_count(); i++) {
		if (pp_token_at(i)->grant == &nobody)
			pp_token_at(i)->grant = NULL;
	}
}

static void exchange(struct pp_request *req, const char *client, struct pp_answer *answer)
{
	const char *text = pp_param(req, "code");
	struct pp_token *code = text != NULL ? pp_token_find(text) : NULL;

	if (!code_good(req, code, client, answer))
		return;
	if (!req->spend) {
		unspent_answer(req, code, answer);
		return;
	}
	code->grant = pp_grant_open(code, number_of(req));
	spend(req, code);
	note_grant(req, code->grant);
	token_answer(req, code->grant, true, pp_has_word(code->scope, "offline_access"), answer);
}

/* ---- refresh_token -------------------------------------------------------------------------------- */

/* The refresh token that was current before this one; NULL. */
static bool is_last_spent(const struct pp_token *token)
{
	return token->generation + 1 == token->grant->current->generation;
}

/* A token that is not the current one: whether it is taken once more. */
static bool reuse_allowed(const struct pp_token *token)
{
	const char *bank = token->grant->connector;
	const int64_t window = pp_setting_number(bank, "reuse_window_ms");

	return window > 0 && pp_now_ms() - token->spent_at <= window && (!is_dex(bank) || is_last_spent(token));
}

static bool expired(const struct pp_token *token)
{
	const char *bank = token->grant->connector;
	const int64_t life = pp_setting_number(bank, "refresh_ttl") * 1000;
	const int64_t idle = pp_setting_number(bank, "refresh_idle_ttl") * 1000;
	const int64_t used_at = token->used_at > 0 ? token->used_at : token->issued_at;
	const int64_t now = pp_now_ms();

	return (life > 0 && now - token->issued_at > life) || (idle > 0 && now - used_at > idle);
}

static void rotate(struct pp_request *req, struct pp_grant *grant)
{
	const char *rotation = pp_setting_text(grant->connector, "rotation");
	struct pp_token *old = grant->current;

	grant->generation++;
	if (strcmp(rotation, "none") == 0 || strcmp(rotation, "same") == 0) {
		note_flag(req, "spent");
		old->used_at = pp_now_ms();
		pp_token_write(old);
	} else {
		spend(req, old);
		grant->current = pp_token_new(PP_REFRESH, grant, 0, number_of(req));
	}
	pp_grant_write(grant);
}

/* False: the answer is there. */
static bool refresh_good(struct pp_request *req, struct pp_token *token, const char *client, struct pp_answer *answer)
{
	struct pp_grant *grant = token != NULL && token->kind == PP_REFRESH ? token->grant : NULL;
	const char *bank = grant != NULL ? grant->connector : NULL;

	if (grant != NULL && strcmp(grant->client, client) == 0)
		note_grant(req, grant);
	if (grant == NULL || strcmp(grant->client, client) != 0 || !grant->alive) {
		bad_refresh(answer, bank);
		return false;
	}
	if (expired(grant->current)) {
		pp_grant_end(grant, "expired");
		if (pp_akoya_words(bank))
			pp_answer_error(answer, 400, "invalid_request", "Refresh token expired.");
		else
			bad_refresh(answer, bank);
		return false;
	}
	if (token != grant->current) {
		note_flag(req, "reused");
		if (!reuse_allowed(token)) {
			if (!is_dex(bank))
				pp_grant_end(grant, "reuse");
			bad_refresh(answer, bank);
			return false;
		}
	}
	return true;
}

static void refresh(struct pp_request *req, const char *client, struct pp_answer *answer)
{
	const char *text = pp_param(req, "refresh_token");
	struct pp_token *token = text != NULL ? pp_token_find(text) : NULL;
	struct pp_grant *grant;

	if (pp_member(req->params, "refresh_token") == NULL || (text != NULL && *text == '\0')) {
		pp_answer_error(answer, 400, "invalid_request", "No refresh token in request.");
		return;
	}
	if (!refresh_good(req, token, client, answer))
		return;
	grant = token->grant;
	/* Dex repeats what it gave before. */
	if (req->spend && (token == grant->current || !is_dex(grant->connector)))
		rotate(req, grant);
	note_grant(req, grant);
	token_answer(req, grant, false, strcmp(pp_setting_text(grant->connector, "rotation"), "none") != 0, answer);
}

/* ---- the endpoints ------------------------------------------------------------------------------------ */

/* The bank that a request is about, as far as its code or token tells. */
static const char *bank_of(struct pp_request *req)
{
	static const char *const names[] = { "code", "refresh_token", "token" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *text = pp_param(req, names[i]);
		const struct pp_token *token = text != NULL ? pp_token_find(text) : NULL;

		if (token != NULL)
			return token->kind == PP_CODE  ? token->connector
				: token->grant != NULL ? token->grant->connector
						       : NULL;
	}
	return NULL;
}

static void refuse_client(struct pp_request *req, struct pp_answer *answer)
{
	const char *text = pp_param(req, "code");
	struct pp_token *code = text != NULL ? pp_token_find(text) : NULL;

	if (pp_setting_flag(NULL, "burn_code_on_401") && code != NULL && code->kind == PP_CODE && code->spent_at == 0) {
		code->spent_at = pp_now_ms();
		code->spent_by = number_of(req);
		pp_token_write(code);
	}
	pp_answer_error(answer, 401, "invalid_client", "Invalid client credentials.");
	if (strcmp(pp_text(req->rec, "auth", ""), "basic") == 0)
		pp_answer_header(answer, "www-authenticate", "Basic realm=\"token\"");
}

void pp_token(struct pp_request *req, struct pp_answer *answer)
{
	const char *grant = pp_param(req, "grant_type");
	const char *bank = bank_of(req);
	char *client;

	if (strcmp(req->method, "POST") != 0) {
		pp_answer_error(answer, 400, "invalid_request", "method not allowed");
		return;
	}
	if (grant == NULL || (strcmp(grant, "authorization_code") != 0 && strcmp(grant, "refresh_token") != 0)) {
		pp_answer_error(answer, 400, pp_akoya_words(bank) ? "invalid_grant" : "unsupported_grant_type", NULL);
		return;
	}
	client = authenticate(req, pp_text(pp_setting(bank, "auth"), grant, "any"));
	if (client == NULL)
		refuse_client(req, answer);
	else if (strcmp(grant, "refresh_token") == 0)
		refresh(req, client, answer);
	else
		exchange(req, client, answer);
	free(client);
}

static void revoke_token(struct pp_request *req, const char *client, const char *bank, struct pp_answer *answer)
{
	const char *text = pp_param(req, "token");
	struct pp_token *token = text != NULL ? pp_token_find(text) : NULL;
	struct pp_grant *grant = token != NULL && token->kind != PP_CODE ? token->grant : NULL;

	if (grant == NULL || strcmp(grant->client, client) != 0) {
		/* RFC 7009, 2.2 answers 200; Akoya doesn't. */
		if (pp_akoya_words(bank))
			pp_answer_error(answer, 400, "invalid_request", NULL);
		else
			answer->status = 200;
		return;
	}
	note_grant(req, grant);
	if (req->spend)
		pp_grant_end(grant, "revoked");
	answer->status = 200;
}

/* Akoya tells what is missing from what is wrong. */
static bool lacks_credentials(const struct pp_request *req)
{
	const char *used = pp_text(req->rec, "auth", "");

	return strcmp(used, "none") == 0 || (strcmp(used, "post") == 0 && pp_text(req->rec, "client", NULL) == NULL);
}

void pp_revoke(struct pp_request *req, struct pp_answer *answer)
{
	const char *bank = bank_of(req);
	const char *hint = pp_param(req, "token_type_hint");
	char *client = authenticate(req, pp_text(pp_setting(bank, "auth"), "revoke", "any"));

	if (client == NULL && pp_akoya_words(bank) && lacks_credentials(req))
		pp_answer_error(answer, 400, "invalid_request", NULL);
	else if (client == NULL)
		pp_answer_error(answer, 401, pp_akoya_words(bank) ? "unauthorized_client" : "invalid_client", NULL);
	else if (pp_akoya_words(bank) && (hint == NULL || strcmp(hint, "refresh_token") != 0))
		pp_answer_error(answer, 400, "unsupported_token_type", NULL);
	else
		revoke_token(req, client, bank, answer);
	free(client);
}
