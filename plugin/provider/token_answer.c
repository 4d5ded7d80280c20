/* SPDX-License-Identifier: MIT
 * What an answer of the token and revocation endpoints means (RFC 6749, 5;
 * RFC 7009, 2.2): the token set, or the class of the failure. Never quotes a
 * secret. No state and no lock; any thread.
 */
#include "provider/provider_int.h"

#include <stdio.h>
#include <string.h>

#define SCOPE_MAX ((size_t)16 * 1024)
#define TEN_YEARS_S ((int64_t)3653 * 24 * 3600)
#define DESCRIPTION_SHOWN 120

/* ---- what may be shown ------------------------------------------------------ */

struct hidden {
	const struct al_buf *of[4];
};

static struct hidden hidden_of(const struct al_provider_config *config, const struct al_token_request *request)
{
	struct hidden hidden = { { &config->client_secret, NULL, NULL, NULL } };

	if (request->grant == AL_GRANT_REFRESH) {
		hidden.of[1] = request->refresh_token;
	} else {
		hidden.of[1] = request->code;
		hidden.of[2] = request->code_verifier;
	}
	return hidden;
}

static bool may_quote(const char *text, size_t len, const struct hidden *hidden)
{
	return al_may_quote_secret(text, len, hidden->of, AL_COUNT(hidden->of));
}

/* A bounded, printable copy of the provider's words, empty if they could hold
 * a secret anywhere, also beyond what is shown. */
static void scrub(char *to, size_t cap, const char *text, size_t len, const struct hidden *hidden)
{
	to[0] = '\0';
	if (!may_quote(text, len, hidden))
		al_copy_printable(to, cap, text, len);
}

/* ---- the token set ----------------------------------------------------------- */

void al_token_set_init(struct al_token_set *set)
{
	memset(set, 0, sizeof(*set));
	al_buf_init(&set->access_token, AL_TOKEN_MAX);
	al_buf_init(&set->id_token, AL_TOKEN_MAX);
	al_buf_init(&set->refresh_token, AL_TOKEN_MAX);
	al_buf_init(&set->scope, SCOPE_MAX);
	set->expires_in_ms = -1;
	set->refresh_expires_in_ms = -1;
}

void al_token_set_clear(struct al_token_set *set)
{
	al_buf_clear(&set->access_token);
	al_buf_clear(&set->id_token);
	al_buf_clear(&set->refresh_token);
	al_buf_clear(&set->scope);
	set->expires_in_ms = -1;
	set->refresh_expires_in_ms = -1;
}

static void note(struct al_token_answer *answer, const char *fmt, ...) AL_PRINTF(2, 3);
static void note(struct al_token_answer *answer, const char *fmt, ...)
{
	size_t at = strlen(answer->message);
	va_list ap;

	if (at > 0 && at + 3 < sizeof(answer->message)) {
		memcpy(answer->message + at, "; ", 3);
		at += 2;
	}
	va_start(ap, fmt);
	(void)vsnprintf(answer->message + at, sizeof(answer->message) - at, fmt, ap);
	va_end(ap);
}

/* RFC 6749, appendix A: VSCHAR. Anything else could break the host's header. */
static bool is_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

static bool is_absent(struct json_object *reply, const char *name)
{
	struct json_object *member = NULL;

	return !json_object_object_get_ex(reply, name, &member) || member == NULL;
}

/* Absent, null and "" are the same: none came. */
static void read_token(struct json_object *reply, const char *name, struct al_buf *to, struct al_token_answer *answer)
{
	size_t len = 0;
	const char *text = al_json_string(reply, name, &len);

	if (is_absent(reply, name) || (text != NULL && len == 0))
		return;
	if (text == NULL || len > AL_TOKEN_MAX || !is_printable(text, len))
		note(answer, "%s is unusable (not text, not printable or over %zu bytes)", name, AL_TOKEN_MAX);
	else
		(void)al_buf_set(to, text, len); /* read_set asks whether it failed */
}

static bool put_scope_word(struct al_buf *scope, struct json_object *word)
{
	const char *text;
	size_t len;

	if (!json_object_is_type(word, json_type_string))
		return false;
	text = json_object_get_string(word);
	len = (size_t)json_object_get_string_len(word);
	return len == 0
		|| (is_printable(text, len) && (scope->len == 0 || al_buf_put(scope, " ", 1))
			&& al_buf_put(scope, text, len));
}

/* A string, or a list of strings; what is neither tells nothing. */
static void read_scope(struct json_object *reply, struct al_token_answer *answer)
{
	struct al_buf *scope = &answer->set.scope;
	struct json_object *member = NULL;
	bool good = true;

	if (!json_object_object_get_ex(reply, "scope", &member) || member == NULL)
		return;
	if (json_object_is_type(member, json_type_array)) {
		for (size_t i = 0; good && i < json_object_array_length(member); i++)
			good = put_scope_word(scope, json_object_array_get_idx(member, i));
	} else {
		good = put_scope_word(scope, member);
	}
	if (!good) {
		al_buf_clear(scope);
		note(answer, "scope is unusable");
	}
}

/* More than any lifetime, though still a number. */
static bool is_huge(struct json_object *reply, const char *name)
{
	struct json_object *member = NULL;
	double value;

	if (!json_object_object_get_ex(reply, name, &member)
		|| !(json_object_is_type(member, json_type_int) || json_object_is_type(member, json_type_double)))
		return false;
	value = json_object_get_double(member);
	return value > (double)TEN_YEARS_S;
}

/* Milliseconds; -1 if absent or no lifetime. Zero means "now" to one provider
 * and "for ever" to another, so it means nothing here. */
static int64_t read_lifetime(struct json_object *reply, const char *name, struct al_token_answer *answer)
{
	int64_t seconds = 0;

	if (is_absent(reply, name))
		return -1;
	if (!al_json_int(reply, name, true, &seconds))
		seconds = is_huge(reply, name) ? INT64_MAX : 0;
	if (seconds <= 0) {
		note(answer, "%s is no lifetime and is ignored", name);
		return -1;
	}
	if (seconds > TEN_YEARS_S) {
		note(answer, "%s is taken as ten years", name);
		seconds = TEN_YEARS_S;
	}
	return seconds * 1000;
}

static int64_t read_refresh_lifetime(struct json_object *reply, struct al_token_answer *answer)
{
	static const char *const names[] = { "refresh_token_expires_in", "refresh_expires_in",
		"x_refresh_token_expires_in" };
	int64_t lifetime = -1;

	for (size_t i = 0; lifetime < 0 && i < AL_COUNT(names); i++)
		lifetime = read_lifetime(reply, names[i], answer);
	return lifetime;
}

/* Odd and absent types exist and work, so a type is never a reason to drop a set. */
static void note_token_type(struct json_object *reply, const struct hidden *hidden, struct al_token_answer *answer)
{
	size_t len = 0;
	const char *type = al_json_string(reply, "token_type", &len);
	char shown[40];

	if (type == NULL || len == 0 || al_same_word(type, len, "bearer"))
		return;
	scrub(shown, sizeof(shown), type, len, hidden);
	note(answer, "token_type is not bearer but \"%s\"", shown);
}

/* An exchange must bring the bearer, or else a refresh token that can bring it;
 * of a refresh everything is kept, since it may be all that is left. */
static bool is_set(const struct al_provider_config *config, enum al_grant grant, const struct al_token_set *set)
{
	if (set->refresh_token.len > 0)
		return true;
	if (grant == AL_GRANT_REFRESH)
		return set->access_token.len > 0 || set->id_token.len > 0;
	return config->bearer == AL_BEARER_ID_TOKEN ? set->id_token.len > 0 : set->access_token.len > 0;
}

static void drop_set(struct al_token_answer *answer, const char *code, const char *why)
{
	al_token_set_clear(&answer->set);
	answer->kind = AL_ANSWER_UNKNOWN;
	(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "%s", code);
	note(answer, "HTTP %d, but %s", answer->http_status, why);
}

static void read_set(const struct al_provider_config *config, enum al_grant grant, struct json_object *reply,
	const struct hidden *hidden, struct al_token_answer *answer)
{
	struct al_token_set *set = &answer->set;

	read_token(reply, "access_token", &set->access_token, answer);
	read_token(reply, "id_token", &set->id_token, answer);
	read_token(reply, "refresh_token", &set->refresh_token, answer);
	if (set->access_token.failed || set->id_token.failed || set->refresh_token.failed) {
		drop_set(answer, "no_memory", "out of memory for the tokens");
		return;
	}
	if (!is_set(config, grant, set)) {
		drop_set(answer, "no_token", "the tokens that were asked for did not come");
		return;
	}
	read_scope(reply, answer);
	set->expires_in_ms = read_lifetime(reply, "expires_in", answer);
	set->refresh_expires_in_ms = read_refresh_lifetime(reply, answer);
	note_token_type(reply, hidden, answer);
	answer->kind = AL_ANSWER_SET;
}

/* ---- classes -------------------------------------------------------------------- */

/* Whether text begins with prefix, any run of white space being equal to any
 * other: one provider breaks its known sentence over two lines. */
static bool begins_like(const char *text, const char *prefix)
{
	while (al_is_blank(*text))
		text++;
	while (*prefix != '\0') {
		if (!al_is_blank(*prefix)) {
			if (*text++ != *prefix++)
				return false;
			continue;
		}
		if (!al_is_blank(*text))
			return false;
		while (al_is_blank(*text))
			text++;
		while (al_is_blank(*prefix))
			prefix++;
	}
	return true;
}

static bool is_turned_away(int status)
{
	return status == 408 || status == 425 || status == 429 || status == 503;
}

static bool is_client_refused(const char *error)
{
	return strcmp(error, "invalid_client") == 0 || strcmp(error, "unauthorized_client") == 0;
}

static bool rule_fits(const struct al_definite_rule *rule, int status, const char *error, const char *description)
{
	if (rule->status != 0 ? status != rule->status : status != 400 && status != 401 && status != 403)
		return false;
	return strcmp(error, rule->error) == 0
		&& (rule->description_prefix == NULL || begins_like(description, rule->description_prefix));
}

static bool is_definite(const struct al_provider_config *config, int status, const char *error, const char *description)
{
	const struct al_definite_rule *rule = config->definite;

	for (; rule != NULL && rule->error != NULL; rule++) {
		if (rule_fits(rule, status, error, description))
			return true;
	}
	return false;
}

/* What a failure means; `error` is NULL if the answer holds no OAuth error. The
 * status counts first: servers put any error into a 5xx. */
static enum al_answer_class classify(const struct al_provider_config *config, enum al_grant grant, int status,
	const char *error, const char *description)
{
	if (is_turned_away(status))
		return AL_ANSWER_TURNED_AWAY;
	if (status < 400 || status >= 500)
		return AL_ANSWER_UNKNOWN;
	if (error == NULL)
		return AL_ANSWER_TURNED_AWAY; /* a firewall's or a proxy's page */
	if (grant == AL_GRANT_REFRESH && is_definite(config, status, error, description))
		return AL_ANSWER_REFUSED;
	if (is_client_refused(error))
		return AL_ANSWER_OPERATOR;
	if (grant == AL_GRANT_REFRESH)
		return AL_ANSWER_OURS;
	/* A code is used once whatever the error; only the operator's faults differ. */
	return begins_like(description, "redirect_uri did not match") ? AL_ANSWER_OPERATOR : AL_ANSWER_REFUSED;
}

/* ---- reading an answer ----------------------------------------------------------- */

struct failure {
	const char *error; /* NULL: none in the answer */
	size_t error_len;
	const char *description;
	size_t description_len;
	int status; /* an error inside a 2xx counts as 400 */
};

static bool is_success(int status)
{
	return status >= 200 && status < 300;
}

static struct failure find_failure(struct json_object *reply, int status)
{
	struct failure found = { NULL, 0, "", 0, status };
	const char *description;

	if (reply == NULL)
		return found;
	found.error = al_json_string(reply, "error", &found.error_len);
	if (found.error != NULL && found.error_len == 0)
		found.error = NULL;
	description = al_json_string(reply, "error_description", &found.description_len);
	if (description != NULL)
		found.description = description;
	if (found.error != NULL && is_success(status))
		found.status = 400;
	return found;
}

static void describe_error(const struct failure *failure, const struct hidden *hidden, struct al_token_answer *answer)
{
	char description[DESCRIPTION_SHOWN + 1];

	if (may_quote(failure->error, failure->error_len, hidden))
		(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "withheld");
	else
		al_copy_printable(
			answer->provider_code, sizeof(answer->provider_code), failure->error, failure->error_len);
	note(answer, "HTTP %d, %s", answer->http_status, answer->provider_code);
	scrub(description, sizeof(description), failure->description, failure->description_len, hidden);
	if (description[0] != '\0')
		note(answer, "%s", description);
}

/* A whole URL looks like a token, so its parts are judged. */
static bool url_may_quote(const char *url, const struct hidden *hidden)
{
	size_t len;

	for (; *url != '\0'; url += len + (url[len] != '\0' ? 1 : 0)) {
		len = strcspn(url, "/.:;=");
		if (may_quote(url, len, hidden))
			return true;
	}
	return false;
}

static void describe(const struct failure *failure, const struct al_http_result *result, const struct hidden *hidden,
	struct al_token_answer *answer)
{
	if (failure->error != NULL) {
		describe_error(failure, hidden, answer);
	} else {
		(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "http_%d", result->status);
		note(answer, "HTTP %d without an OAuth error", result->status);
	}
	if (result->location[0] != '\0')
		note(answer, "the redirect to %s was not followed",
			url_may_quote(result->location, hidden) ? "another address" : result->location);
}

/* Sent, and nothing whole came back. */
static void describe_cut(const struct al_http_result *result, struct al_token_answer *answer)
{
	const char *code = result->timed_out ? "timeout" : result->too_large ? "too_large" : "cut";

	answer->kind = AL_ANSWER_UNKNOWN;
	(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "%s", code);
	note(answer, "no whole answer came: %s", result->reason);
}

static void describe_unreadable(const struct al_http_result *result, struct al_token_answer *answer)
{
	size_t blank = 0;

	while (blank < result->body.len && al_is_blank(result->body.data[blank]))
		blank++;
	answer->kind = AL_ANSWER_UNKNOWN;
	(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "%s",
		blank == result->body.len ? "empty_answer" : "not_json");
	note(answer, "HTTP %d with a body that can't be read", result->status);
}

static void init_answer(
	const struct al_provider_config *config, const struct al_http_result *result, struct al_token_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	al_token_set_init(&answer->set);
	answer->http_status = result->status;
	answer->retry_after_ms = result->retry_after_ms > config->retry_after_cap_ms ? config->retry_after_cap_ms
										     : result->retry_after_ms;
}

static void describe_not_sent(const struct al_http_result *result, struct al_token_answer *answer)
{
	answer->kind = AL_ANSWER_NOT_SENT;
	(void)snprintf(answer->provider_code, sizeof(answer->provider_code), "not_sent");
	note(answer, "not sent: %s", result->reason);
}

void al_token_read(struct al_provider *provider, const struct al_token_request *request, struct al_http_result *result,
	struct al_token_answer *answer)
{
	const struct al_provider_config *config = provider->config;
	struct hidden hidden = hidden_of(config, request);
	struct json_object *reply;
	struct failure failure;

	init_answer(config, result, answer);
	if (result->end == AL_HTTP_NOT_SENT) {
		describe_not_sent(result, answer);
		return;
	}
	reply = al_reply_parse(result);
	failure = find_failure(reply, result->status);
	if (failure.error == NULL && result->end != AL_HTTP_ANSWER && !(reply != NULL && is_success(result->status))) {
		describe_cut(result, answer);
	} else if (failure.error != NULL || !is_success(result->status)) {
		answer->kind = classify(config, request->grant, failure.status, failure.error, failure.description);
		describe(&failure, result, &hidden, answer);
	} else if (reply == NULL) {
		describe_unreadable(result, answer);
	} else {
		read_set(config, request->grant, reply, &hidden, answer);
	}
	al_json_free(&reply);
}

void al_token_answer_clear(struct al_token_answer *answer)
{
	al_token_set_clear(&answer->set);
}

/* RFC 7009, 2.2: a 2xx confirms, whatever its body; the error in a 200 is an
 * oddity of the same servers as at the token endpoint. */
static enum al_revoke_end judge_revoke(const struct al_http_result *result, const struct failure *failure)
{
	if (result->end != AL_HTTP_ANSWER)
		return AL_REVOKE_RETRY;
	if (failure->error == NULL)
		return is_success(result->status) ? AL_REVOKE_CONFIRMED : AL_REVOKE_RETRY;
	if (is_turned_away(failure->status) || failure->status < 400 || failure->status >= 500)
		return AL_REVOKE_RETRY;
	return is_client_refused(failure->error) ? AL_REVOKE_OPERATOR : AL_REVOKE_REFUSED;
}

enum al_revoke_end al_revoke_read(struct al_provider *provider, const struct al_buf *token,
	struct al_http_result *result, struct al_token_answer *detail)
{
	struct hidden hidden = { { &provider->config->client_secret, token, NULL, NULL } };
	struct json_object *reply = NULL;
	struct failure failure;
	enum al_revoke_end end;

	init_answer(provider->config, result, detail);
	if (result->end == AL_HTTP_ANSWER)
		reply = al_reply_parse(result);
	failure = find_failure(reply, result->status);
	end = judge_revoke(result, &failure);
	if (result->end == AL_HTTP_NOT_SENT)
		describe_not_sent(result, detail);
	else if (result->end == AL_HTTP_CUT)
		describe_cut(result, detail);
	else if (end != AL_REVOKE_CONFIRMED)
		describe(&failure, result, &hidden, detail);
	al_json_free(&reply);
	return end;
}
