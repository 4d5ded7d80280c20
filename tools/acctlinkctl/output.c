/* SPDX-License-Identifier: MIT
 * How acctlinkctl writes what it found: one JSON object, or its members as lines
 * of text. Both come from the same object, so they never differ.
 */
#include "ctl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const states[] = { "unknown", "linked", "stale", "relink_required", "superseded", "unlinking" };
static const char *const reasons[] = { "none", "revoked", "consent_expired", "rotation_lost", "subject_changed",
	"no_id_token", "no_refresh_token", "outcome_unknown", "provider_down", "client_refused", "id_token_unchecked",
	"our_fault" };

static const char *name_of(const char *const *names, size_t count, int32_t number)
{
	return number >= 0 && (size_t)number < count ? names[number] : "unknown";
}

void ctl_put_text(json_object *object, const char *name, const char *text)
{
	json_object_object_add(object, name, json_object_new_string(text));
}

void ctl_put_number(json_object *object, const char *name, int64_t number)
{
	json_object_object_add(object, name, json_object_new_int64(number));
}

void ctl_put_time(json_object *object, const char *name, int64_t at_ms)
{
	const time_t seconds = (time_t)(at_ms / 1000);
	char text[32];
	struct tm parts;

	if (at_ms != 0 && gmtime_r(&seconds, &parts) != NULL
		&& strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) > 0)
		ctl_put_text(object, name, text);
}

void ctl_put_state(json_object *object, int32_t state, int32_t reason)
{
	ctl_put_text(object, "state", name_of(states, sizeof(states) / sizeof(states[0]), state));
	if (reason != ACCTLINK_REASON_NONE)
		ctl_put_text(object, "reason", name_of(reasons, sizeof(reasons) / sizeof(reasons[0]), reason));
}

int32_t ctl_state_of(const char *name)
{
	size_t i;

	for (i = 1; i < sizeof(states) / sizeof(states[0]); i++) {
		if (strcmp(states[i], name) == 0)
			return (int32_t)i;
	}
	return -1;
}

const char *ctl_revocation_name(int32_t revocation)
{
	static const char *const names[] = { "unknown", "confirmed", "pending", "unsupported", "refused",
		"nothing_to_revoke" };

	return name_of(names, sizeof(names) / sizeof(names[0]), revocation);
}

void ctl_put_flag(json_object *object, const char *name, bool flag)
{
	json_object_object_add(object, name, json_object_new_boolean(flag));
}

void ctl_put_buf(json_object *object, const char *name, const char *data, size_t len)
{
	json_object_object_add(object, name, json_object_new_string_len(data, (int)len));
}

/* ---- text -------------------------------------------------------------------------- */

/* How many bytes of this text steer a terminal: a control character of ASCII or of
 * UTF-8 (U+0080 to U+009F), or one that turns the direction of writing. */
static size_t steering(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	if (c[0] < 0x20 || c[0] == 0x7f)
		return 1;
	if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
		return 2;
	if (c[0] == 0xe2
		&& ((c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) || (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9)))
		return 3;
	return 0;
}

/* A user's or a provider's text must not steer the operator's terminal. */
static void print_value(json_object *value)
{
	const char *text = json_object_get_string(value);

	while (text != NULL && *text != '\0') {
		const size_t len = steering(text);

		putchar(len > 0 ? '?' : *text);
		text += len > 0 ? len : 1;
	}
	putchar('\n');
}

static void print_object(json_object *object, int depth);

static void print_member(const char *name, json_object *value, int depth)
{
	size_t i;

	if (json_object_is_type(value, json_type_array)) {
		for (i = 0; i < json_object_array_length(value); i++) {
			json_object *item = json_object_array_get_idx(value, i);

			if (!json_object_is_type(item, json_type_object)) {
				print_member(name, item, depth);
				continue;
			}
			if (i > 0)
				putchar('\n');
			print_object(item, depth);
		}
		return;
	}
	printf("%*s%-*s ", depth, "", 18 - depth, name);
	if (json_object_is_type(value, json_type_object)) {
		putchar('\n');
		print_object(value, depth + 2);
	} else {
		print_value(value);
	}
}

static void print_object(json_object *object, int depth)
{
	json_object_object_foreach(object, name, value) print_member(name, value, depth);
}

void ctl_print(const struct ctl *ctl)
{
	if (ctl->json)
		puts(json_object_to_json_string_ext(
			ctl->out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_object(ctl->out, 0);
}

static const char *status_name(acctlink_status status)
{
	static const struct {
		acctlink_status status;
		const char *name;
	} names[] = { { ACCTLINK_BAD_ARGUMENT, "BAD_ARGUMENT" }, { ACCTLINK_BUFFER_TOO_SMALL, "BUFFER_TOO_SMALL" },
		{ ACCTLINK_UNKNOWN_PROVIDER, "UNKNOWN_PROVIDER" }, { ACCTLINK_BAD_CALLBACK, "BAD_CALLBACK" },
		{ ACCTLINK_FOREIGN_CALLBACK, "FOREIGN_CALLBACK" }, { ACCTLINK_FORKED, "FORKED" },
		{ ACCTLINK_SHUT_DOWN, "SHUT_DOWN" }, { ACCTLINK_NOT_LINKED, "NOT_LINKED" },
		{ ACCTLINK_RELINK_REQUIRED, "RELINK_REQUIRED" }, { ACCTLINK_DENIED, "DENIED" },
		{ ACCTLINK_FLOW_EXPIRED, "FLOW_EXPIRED" }, { ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
		{ ACCTLINK_SUBJECT_CHANGED, "SUBJECT_CHANGED" }, { ACCTLINK_TIMED_OUT, "TIMED_OUT" },
		{ ACCTLINK_PROVIDER_DOWN, "PROVIDER_DOWN" }, { ACCTLINK_STORE_DOWN, "STORE_DOWN" },
		{ ACCTLINK_BAD_CONFIG, "BAD_CONFIG" }, { ACCTLINK_CLIENT_REFUSED, "CLIENT_REFUSED" },
		{ ACCTLINK_BAD_KEY, "BAD_KEY" }, { ACCTLINK_BAD_STORE, "BAD_STORE" },
		{ ACCTLINK_BAD_PROVIDER, "BAD_PROVIDER" }, { ACCTLINK_INTERNAL, "INTERNAL" },
		{ ACCTLINK_NO_MEMORY, "NO_MEMORY" } };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].status == status)
			return names[i].name;
	}
	return "COMMAND_FAILED"; /* the tool's own: the command line, a file, a terminal */
}

json_object *ctl_error_object(const acctlink_error *err)
{
	json_object *error = json_object_new_object();

	ctl_put_text(error, "status", status_name(err->status));
	ctl_put_number(error, "code", err->status);
	ctl_put_text(error, "message", err->message);
	ctl_put_text(error, "where", err->where);
	if (err->http_status != 0)
		ctl_put_number(error, "http_status", err->http_status);
	if (err->provider_code[0] != '\0')
		ctl_put_text(error, "provider_code", err->provider_code);
	if (err->retry_after_ms != 0)
		ctl_put_number(error, "retry_after_ms", err->retry_after_ms);
	return error;
}

static void print_error_json(const acctlink_error *err)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "error", ctl_error_object(err));
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

void ctl_print_error(const struct ctl *ctl)
{
	if (ctl->json)
		print_error_json(&ctl->err);
	else
		fprintf(stderr, "acctlinkctl: %s%s%s\n", ctl->err.where, ctl->err.where[0] != '\0' ? ": " : "",
			ctl->err.message);
}
