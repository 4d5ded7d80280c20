/* SPDX-License-Identifier: MIT
 * What begin and callback share: the sealed part of a flow, its cookie, and the
 * reading of a callback's parameters, which are hostile bytes.
 */
#include "flow/flow_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_VERSION = 1 };

al_rc al_flows_new(const struct al_flows_parts *parts, struct al_flows **out, acctlink_error *err)
{
	struct al_flows *flows = al_new(sizeof(*flows));

	if (flows == NULL)
		return al_fail_memory(err);
	flows->parts = *parts;
	*out = flows;
	return ACCTLINK_OK;
}

void al_flows_free(struct al_flows **flows)
{
	free(*flows);
	*flows = NULL;
}

/* ---- the sealed part ------------------------------------------------------------ */

void al_flow_secret_init(struct al_flow_secret *secret)
{
	*secret = (struct al_flow_secret){ 0 };
	al_buf_init(&secret->code_verifier, 128);
	al_buf_init(&secret->nonce, 128);
	al_buf_init(&secret->redirect_uri, 4096);
	al_buf_init(&secret->scope, 8192);
}

void al_flow_secret_clear(struct al_flow_secret *secret)
{
	al_buf_clear(&secret->code_verifier);
	al_buf_clear(&secret->nonce);
	al_buf_clear(&secret->redirect_uri);
	al_buf_clear(&secret->scope);
	al_wipe(secret->binding_hash, sizeof(secret->binding_hash));
	al_flow_secret_init(secret);
}

static bool pack_buf(struct al_buf *plain, const struct al_buf *field)
{
	return al_pack(plain, al_buf_text(field), field->len);
}

bool al_flow_secret_pack(const struct al_flow_secret *secret, struct al_buf *plain)
{
	al_buf_clear(plain);
	return al_pack_u64(plain, SECRET_VERSION) && al_pack(plain, secret->binding_hash, sizeof(secret->binding_hash))
		&& pack_buf(plain, &secret->code_verifier) && pack_buf(plain, &secret->nonce)
		&& pack_buf(plain, &secret->redirect_uri) && pack_buf(plain, &secret->scope)
		&& al_pack(plain, secret->client, sizeof(secret->client))
		&& al_pack_u64(plain, (uint64_t)secret->deadline) && al_pack_u64(plain, secret->new_subject_ok);
}

static void unpack_buf(struct al_unpack *from, struct al_buf *field)
{
	acctlink_str text = al_unpack_field(from);

	if (!al_buf_set(field, text.data, text.len))
		from->failed = true;
}

al_rc al_flow_secret_unpack(struct al_flow_secret *secret, const struct al_buf *plain, acctlink_error *err)
{
	struct al_unpack from = { .data = (const unsigned char *)al_buf_text(plain), .len = plain->len };
	uint64_t version = al_unpack_u64(&from);
	acctlink_str hash = al_unpack_field(&from);
	acctlink_str client;

	al_flow_secret_clear(secret);
	unpack_buf(&from, &secret->code_verifier);
	unpack_buf(&from, &secret->nonce);
	unpack_buf(&from, &secret->redirect_uri);
	unpack_buf(&from, &secret->scope);
	client = al_unpack_field(&from);
	secret->deadline = (int64_t)al_unpack_u64(&from);
	secret->new_subject_ok = al_unpack_u64(&from) != 0;
	if (version != SECRET_VERSION || hash.len != sizeof(secret->binding_hash)
		|| client.len != sizeof(secret->client) || from.failed || from.at != from.len)
		return al_fail(err, ACCTLINK_BAD_STORE, "flow",
			"the flow's row is damaged, or of another version of acctlink");
	memcpy(secret->binding_hash, hash.data, hash.len);
	memcpy(secret->client, client.data, client.len);
	return ACCTLINK_OK;
}

/* ---- the cookie --------------------------------------------------------------------- */

void al_flow_cookie_name(char *to, size_t cap, const struct al_buf *state_hash, bool plain_http)
{
	char digits[17];

	al_hex(digits, al_buf_text(state_hash), 8);
	/* __Host- makes browsers refuse a cookie that a sister domain planted. */
	(void)snprintf(to, cap, "%sacctlink-%s", plain_http ? "" : "__Host-", digits);
}

static bool value_matches(const char *value, size_t len, const unsigned char binding_hash[32])
{
	unsigned char hash[32];

	if (len >= 2 && value[0] == '"' && value[len - 1] == '"') { /* RFC 6265 allows quotes */
		value++;
		len -= 2;
	}
	return al_sha256(value, len, hash, NULL) == ACCTLINK_OK && al_equal(hash, binding_hash, sizeof(hash));
}

bool al_flow_cookie_matches(acctlink_str cookie, const char *name, const unsigned char binding_hash[32])
{
	size_t name_len = strlen(name);
	size_t at = 0;
	bool found = false;

	while (at < cookie.len) {
		const char *start;
		const char *end;
		size_t len;

		while (at < cookie.len && (cookie.data[at] == ' ' || cookie.data[at] == '\t' || cookie.data[at] == ';'))
			at++;
		start = cookie.data + at;
		end = memchr(start, ';', cookie.len - at);
		len = end == NULL ? cookie.len - at : (size_t)(end - start);
		at += len;
		while (len > 0 && (start[len - 1] == ' ' || start[len - 1] == '\t'))
			len--;
		if (len > name_len && start[name_len] == '=' && memcmp(start, name, name_len) == 0)
			found = value_matches(start + name_len + 1, len - name_len - 1, binding_hash) || found;
	}
	return found;
}

/* ---- a callback's parameters ------------------------------------------------------------ */

void al_callback_params_init(struct al_callback_params *params)
{
	*params = (struct al_callback_params){ 0 };
	al_buf_init(&params->code, 16384);
	al_buf_init(&params->state, 512);
	al_buf_init(&params->error, 128);
	al_buf_init(&params->error_description, 2048);
	al_buf_init(&params->iss, 2048);
}

void al_callback_params_clear(struct al_callback_params *params)
{
	al_buf_clear(&params->code);
	al_buf_clear(&params->state);
	al_buf_clear(&params->error);
	al_buf_clear(&params->error_description);
	al_buf_clear(&params->iss);
	al_callback_params_init(params);
}

struct known {
	const char *name;
	struct al_buf *value;
	bool optional;
	bool seen;
};

/* RFC 6749, A.11: a code is printable ASCII. */
static bool is_vschar(const struct al_buf *text)
{
	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] < 0x20 || text->data[i] > 0x7e)
			return false;
	}
	return true;
}

static al_rc take_parameter(struct known *known, acctlink_str value, acctlink_error *err)
{
	if (known->seen)
		return al_fail(
			err, ACCTLINK_BAD_CALLBACK, "callback", "the parameter '%s' came more than once", known->name);
	known->seen = true;
	if (al_form_decode(known->value, value.data, value.len))
		return ACCTLINK_OK;
	if (known->optional) /* a text for people must not hide what happened */
		al_buf_clear(known->value);
	else
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback",
			"the parameter '%s' is too long or not properly encoded", known->name);
	return ACCTLINK_OK;
}

static al_rc check_parameters(const struct al_callback_params *params, acctlink_error *err)
{
	if (params->state.len == 0)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback", "the parameter 'state' is missing or empty");
	if (params->code.len > 0 && params->error.len > 0)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback", "both 'code' and 'error' came");
	if (params->code.len == 0 && params->error.len == 0)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback", "neither 'code' nor 'error' came");
	if (!is_vschar(&params->code) || !is_vschar(&params->error))
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback", "'code' or 'error' is not printable ASCII");
	return ACCTLINK_OK;
}

al_rc al_callback_params_parse(struct al_callback_params *params, acctlink_str raw, acctlink_error *err)
{
	struct known known[] = { { "code", &params->code, false, false }, { "state", &params->state, false, false },
		{ "error", &params->error, false, false },
		{ "error_description", &params->error_description, true, false },
		{ "iss", &params->iss, false, false } };
	acctlink_str name;
	acctlink_str value;
	size_t at = 0;

	while (al_form_next(raw.data, raw.len, &at, &name, &value)) {
		for (size_t i = 0; i < AL_COUNT(known); i++) {
			al_rc rc;

			if (!al_str_is(name, known[i].name))
				continue;
			rc = take_parameter(&known[i], value, err);
			if (rc != ACCTLINK_OK)
				return rc;
		}
	}
	params->has_iss = known[4].seen;
	/* An empty code beside an error is ambiguous as well. */
	if (known[0].seen && known[2].seen)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, "callback", "both 'code' and 'error' came");
	return check_parameters(params, err);
}

/* ---- scope --------------------------------------------------------------------------------- */

static bool has_word(const struct al_buf *list, const char *word, size_t len)
{
	const char *text = al_buf_text(list);

	while (*text != '\0') {
		size_t span;

		text += strspn(text, " ");
		span = strcspn(text, " ");
		if (span == len && memcmp(text, word, len) == 0)
			return true;
		text += span;
	}
	return false;
}

bool al_scope_has(const struct al_buf *scope, const char *word)
{
	return has_word(scope, word, strlen(word));
}

bool al_scope_reduced(const struct al_buf *asked, const struct al_buf *granted)
{
	const char *text = al_buf_text(asked);

	if (granted->len == 0) /* RFC 6749, 5.1: absent means as asked */
		return false;
	while (*text != '\0') {
		size_t span;

		text += strspn(text, " ");
		span = strcspn(text, " ");
		if (span > 0 && !has_word(granted, text, span))
			return true;
		text += span;
	}
	return false;
}
