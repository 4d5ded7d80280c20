/* SPDX-License-Identifier: MIT
 * The body of an answer as members, whatever its dress: JSON, JSON with broken
 * characters, a form. Tolerant in dress and strict in bounds, since it may be
 * the only copy of a rotated token. No state and no lock; any thread.
 */
#include "provider/provider_int.h"

#include <string.h>

#define FORM_PAIRS_MAX 256

bool al_same_word(const char *text, size_t len, const char *lower)
{
	for (size_t i = 0; i < len; i++) {
		char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];

		if (lower[i] == '\0' || c != lower[i])
			return false;
	}
	return lower[len] == '\0';
}

bool al_is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x7f;
}

/* Raw control characters and Latin-1 in a string are no JSON, but the rest may
 * be a token set or a definite refusal. They become DEL, which no token holds. */
static void mend(char *text, size_t len)
{
	bool inside = false;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (inside && (c < 0x20 || c >= 0x80))
			text[i] = 0x7f;
		else if (inside && c == '\\')
			i++;
		else if (c == '"')
			inside = !inside;
	}
}

static struct json_object *parse_json(const struct al_buf *body)
{
	struct json_object *reply = al_json_parse(al_buf_text(body), body->len, NULL);
	struct al_buf copy;

	if (reply != NULL || body->len == 0)
		return reply;
	al_buf_init(&copy, body->len);
	if (al_buf_copy(&copy, body)) {
		mend(copy.data, copy.len);
		reply = al_json_parse(copy.data, copy.len, NULL);
	}
	al_buf_clear(&copy);
	return reply;
}

/* False for a broken or a second member of one name: ambiguous. */
static bool add_pair(struct json_object *reply, acctlink_str name, acctlink_str value)
{
	struct json_object *text = NULL;
	struct al_buf key;
	struct al_buf data;
	bool added = false;

	al_buf_init(&key, 256);
	al_buf_init(&data, AL_ANSWER_MAX);
	if (al_form_decode(&key, name.data, name.len) && al_form_decode(&data, value.data, value.len)
		&& !json_object_object_get_ex(reply, al_buf_text(&key), NULL))
		text = json_object_new_string_len(al_buf_text(&data), (int)data.len);
	if (text != NULL) {
		added = json_object_object_add(reply, al_buf_text(&key), text) == 0;
		if (!added)
			json_object_put(text);
	}
	al_buf_clear(&key);
	al_buf_clear(&data);
	return added;
}

static bool has_known_member(struct json_object *reply)
{
	static const char *const known[] = { "access_token", "id_token", "refresh_token", "error" };

	for (size_t i = 0; i < AL_COUNT(known); i++) {
		if (json_object_object_get_ex(reply, known[i], NULL))
			return true;
	}
	return false;
}

/* NULL if it is no form of ours: any text without '=' reads as a form as well. */
static struct json_object *parse_form(const struct al_buf *body)
{
	struct json_object *reply = json_object_new_object();
	size_t len = body->len;
	acctlink_str value;
	acctlink_str name;
	size_t count = 0;
	size_t at = 0;

	while (len > 0 && al_is_blank(body->data[len - 1]))
		len--;
	while (reply != NULL && al_form_next(al_buf_text(body), len, &at, &name, &value)) {
		if (++count > FORM_PAIRS_MAX || !add_pair(reply, name, value))
			al_json_free(&reply);
	}
	if (reply != NULL && !has_known_member(reply))
		al_json_free(&reply);
	return reply;
}

/* A form may come as such, as plain text or without a type. */
static bool may_be_form(const struct al_http_result *result)
{
	size_t len = strcspn(result->content_type, "; \t");

	return len == 0 || al_same_word(result->content_type, len, "text/plain")
		|| al_same_word(result->content_type, len, "application/x-www-form-urlencoded");
}

struct json_object *al_reply_parse(const struct al_http_result *result)
{
	struct json_object *reply = parse_json(&result->body);

	if (reply == NULL && result->end == AL_HTTP_ANSWER && may_be_form(result))
		reply = parse_form(&result->body);
	return reply;
}
