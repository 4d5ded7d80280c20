/* SPDX-License-Identifier: MIT
 * What every file of the practice provider uses: text, forms, hashes, JSON
 * members, and the one lock.
 */
#include "practice.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void pp_die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("practice provider: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	_exit(2);
}

/* ---- text ---------------------------------------------------------------------- */

char *pp_printf(const char *fmt, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		pp_die("out of memory");
	va_end(args);
	return text;
}

void *pp_calloc(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		pp_die("out of memory");
	return memory;
}

char *pp_strdup(const char *text)
{
	return pp_printf("%s", text);
}

char *pp_sha256_hex(const char *text)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char *hex = pp_calloc(1, 2 * sizeof(digest) + 1);
	unsigned i;

	if (EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL) != 1)
		pp_die("SHA-256 fails");
	for (i = 0; i < len; i++)
		snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
	return hex;
}

char *pp_base64url(const unsigned char *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char *text = pp_calloc(1, len * 4 / 3 + 4);
	size_t used = 0;
	uint32_t bits = 0;
	unsigned count = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		bits = (bits << 8) | bytes[i];
		for (count += 8; count >= 6; count -= 6)
			text[used++] = digits[(bits >> (count - 6)) & 63];
	}
	if (count > 0)
		text[used] = digits[(bits << (6 - count)) & 63];
	return text;
}

char *pp_random(size_t bytes)
{
	unsigned char *random = pp_calloc(1, bytes + 1);
	char *text;

	if (RAND_bytes(random, (int)bytes) != 1)
		pp_die("no random bytes");
	text = pp_base64url(random, bytes);
	free(random);
	return text;
}

/* ---- forms ----------------------------------------------------------------------- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *pp_form_decode(const char *text, size_t len)
{
	char *out = pp_calloc(1, len + 1);
	size_t used = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (text[i] == '%' && i + 2 < len && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
			out[used++] = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
			i += 2;
		} else {
			out[used++] = text[i] == '+' ? ' ' : text[i];
		}
	}
	return out;
}

char *pp_form_encode(const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._*";
	char *out = pp_calloc(3, strlen(text) + 1);
	char *to = out;

	for (; *text != '\0'; text++) {
		if (strchr(plain, *text) != NULL)
			*to++ = *text;
		else if (*text == ' ')
			*to++ = '+';
		else
			to += snprintf(to, 4, "%%%02X", (unsigned)(unsigned char)*text);
	}
	return out;
}

static void add_value(json_object *params, const char *name, const char *value)
{
	json_object *text = json_object_new_string(value);
	json_object *there = pp_member(params, name);
	json_object *list;

	if (there == NULL) {
		json_object_object_add(params, name, text);
	} else if (json_object_is_type(there, json_type_array)) {
		json_object_array_add(there, text);
	} else {
		list = json_object_new_array();
		json_object_array_add(list, json_object_get(there));
		json_object_array_add(list, text);
		json_object_object_add(params, name, list);
	}
}

json_object *pp_form_parse(const char *text)
{
	json_object *params = json_object_new_object();

	while (*text != '\0') {
		const size_t len = strcspn(text, "&");
		const char *equals = memchr(text, '=', len);
		const size_t name_len = equals != NULL ? (size_t)(equals - text) : len;

		if (len > 0) {
			char *name = pp_form_decode(text, name_len);
			char *value = equals != NULL ? pp_form_decode(equals + 1, len - name_len - 1) : pp_strdup("");

			add_value(params, name, value);
			free(name);
			free(value);
		}
		text += len + (text[len] == '&');
	}
	return params;
}

char *pp_html(const char *text)
{
	char *out = pp_calloc(6, strlen(text) + 1);
	char *to = out;

	for (; *text != '\0'; text++) {
		if (strchr("&<>\"'", *text) != NULL)
			to += sprintf(to, "&#%d;", *text);
		else
			*to++ = *text;
	}
	return out;
}

/* ---- JSON ------------------------------------------------------------------------ */

json_object *pp_member(json_object *object, const char *name)
{
	json_object *value = NULL;

	return object != NULL && json_object_object_get_ex(object, name, &value) ? value : NULL;
}

const char *pp_text(json_object *object, const char *name, const char *fallback)
{
	json_object *value = pp_member(object, name);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : fallback;
}

int64_t pp_number(json_object *object, const char *name, int64_t fallback)
{
	json_object *value = pp_member(object, name);

	return json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double)
		? json_object_get_int64(value)
		: fallback;
}

bool pp_flag(json_object *object, const char *name, bool fallback)
{
	json_object *value = pp_member(object, name);

	return value != NULL ? json_object_get_boolean(value) : fallback;
}

void pp_merge(json_object *into, json_object *from)
{
	if (from == NULL)
		return;
	json_object_object_foreach(from, name, value)
	{
		if (value == NULL)
			json_object_object_del(into, name);
		else
			json_object_object_add(into, name, pp_copy(value));
	}
}

json_object *pp_copy(json_object *value)
{
	json_object *copy = NULL;

	if (value != NULL && json_object_deep_copy(value, &copy, NULL) != 0)
		pp_die("out of memory");
	return copy;
}

/* ---- the lock -------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void pp_lock(void)
{
	pthread_mutex_lock(&lock);
}

void pp_unlock(void)
{
	pthread_mutex_unlock(&lock);
}
