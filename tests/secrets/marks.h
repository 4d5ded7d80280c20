/* SPDX-License-Identifier: MIT
 * Secrets that a test planted, and the search for them: for any part of eight
 * characters, in every dress that a program might give it. The marks are kept
 * masked, so that a search through memory never meets the searcher's own copy.
 * Used by one thread. Failures end the running test, as in harness.h.
 */
#ifndef TH_SECRETS_MARKS_H
#define TH_SECRETS_MARKS_H

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { MARK_PART = 8, MARK_MASK = 0xa5, MARK_SLOTS = 1 << 20, MARK_NAMES = 512 };

/* One needle: a window into a masked form. */
struct mark_part {
	const unsigned char *masked; /* of `len` bytes; NULL: a free slot */
	uint32_t len;
	uint16_t name;
	uint16_t form;
};

struct marks {
	struct mark_part *slots; /* open addressing by the first eight bytes */
	size_t used;
	char *names[MARK_NAMES];
	size_t name_count;
	unsigned char **forms; /* what the parts point into */
	size_t form_count;
};

struct mark_found {
	const char *name;
	const char *form;
	size_t at;
};

static const char *const mark_forms[] = { "plain", "percent-encoded", "percent-encoded in lower case",
	"percent-encoded byte by byte", "JSON-escaped", "JSON-escaped with slashes", "hex", "HEX", "UTF-16LE", "base64",
	"base64url", "base64 of percent-encoded", "base64url of percent-encoded" };
enum {
	FORM_PLAIN,
	FORM_PERCENT,
	FORM_PERCENT_LOWER,
	FORM_PERCENT_ALL,
	FORM_JSON,
	FORM_JSON_SLASH,
	FORM_HEX,
	FORM_HEX_UPPER,
	FORM_UTF16,
	FORM_BASE64,
	FORM_BASE64URL,
	FORM_BASE64_OF_PERCENT,
	FORM_BASE64URL_OF_PERCENT
};

static inline struct marks *marks_new(void)
{
	struct marks *marks = calloc(1, sizeof(*marks));

	th_check(marks != NULL, "no memory");
	marks->slots = calloc(MARK_SLOTS, sizeof(*marks->slots));
	th_check(marks->slots != NULL, "no memory");
	return marks;
}

static inline void marks_free(struct marks **marks)
{
	size_t i;

	for (i = 0; i < (*marks)->form_count; i++)
		free((*marks)->forms[i]);
	for (i = 0; i < (*marks)->name_count; i++)
		free((*marks)->names[i]);
	free((*marks)->forms);
	free((*marks)->slots);
	free(*marks);
	*marks = NULL;
}

/* ---- dresses ---------------------------------------------------------------------- */

static inline size_t mark_slot(const unsigned char *first)
{
	uint64_t key;

	memcpy(&key, first, sizeof(key));
	key *= 0x9e3779b97f4a7c15u;
	return (size_t)(key >> 44) & (MARK_SLOTS - 1);
}

/* The slot of a part; first eight bytes unmasked. */
static inline void mark_insert(
	struct marks *marks, const unsigned char *clear, const unsigned char *masked, size_t len, int form)
{
	size_t slot = mark_slot(clear);

	th_check(marks->used < MARK_SLOTS / 2, "too many marks");
	while (marks->slots[slot].masked != NULL) {
		/* The same window of another form or mark: one is enough. */
		if (marks->slots[slot].len == len && memcmp(marks->slots[slot].masked, masked, len) == 0)
			return;
		slot = (slot + 1) & (MARK_SLOTS - 1);
	}
	marks->used++;
	marks->slots[slot] = (struct mark_part){ masked, (uint32_t)len, (uint16_t)(marks->name_count - 1),
		(uint16_t)form };
}

/* All windows of one form. Takes its bytes over and masks them. */
static inline void mark_form(struct marks *marks, int form, unsigned char *bytes, size_t len, size_t window)
{
	unsigned char *clear = malloc(len + 1);
	size_t i;

	th_check(clear != NULL, "no memory");
	memcpy(clear, bytes, len);
	for (i = 0; i < len; i++)
		bytes[i] ^= MARK_MASK;
	marks->forms = realloc(marks->forms, (marks->form_count + 1) * sizeof(*marks->forms));
	th_check(marks->forms != NULL, "no memory");
	marks->forms[marks->form_count++] = bytes;
	for (i = 0; i + window <= len; i++)
		mark_insert(marks, clear + i, bytes + i, window, form);
	explicit_bzero(clear, len);
	free(clear);
}

static inline unsigned char *mark_room(size_t len)
{
	unsigned char *room = calloc(1, len + 1);

	th_check(room != NULL, "no memory");
	return room;
}

/* all: each byte; else those that a form or a URL can't hold. */
static inline unsigned char *mark_percent(
	const unsigned char *data, size_t len, bool all, const char *digits, size_t *out)
{
	unsigned char *to = mark_room(len * 3);
	size_t i;

	*out = 0;
	for (i = 0; i < len; i++) {
		if (!all && (isalnum(data[i]) || strchr("-._~", data[i]) != NULL) && data[i] != '\0') {
			to[(*out)++] = data[i];
			continue;
		}
		to[(*out)++] = '%';
		to[(*out)++] = (unsigned char)digits[data[i] >> 4];
		to[(*out)++] = (unsigned char)digits[data[i] & 15];
	}
	return to;
}

static inline unsigned char *mark_json(const unsigned char *data, size_t len, bool slashes, size_t *out)
{
	unsigned char *to = mark_room(len * 2);
	size_t i;

	*out = 0;
	for (i = 0; i < len; i++) {
		if (data[i] == '"' || data[i] == '\\' || (slashes && data[i] == '/'))
			to[(*out)++] = '\\';
		to[(*out)++] = data[i];
	}
	return to;
}

static inline unsigned char *mark_hex(const unsigned char *data, size_t len, const char *digits)
{
	unsigned char *to = mark_room(len * 2);
	size_t i;

	for (i = 0; i < len; i++) {
		to[2 * i] = (unsigned char)digits[data[i] >> 4];
		to[2 * i + 1] = (unsigned char)digits[data[i] & 15];
	}
	return to;
}

/* The digits that depend on the mark alone, where `before` bytes stand before it. */
static inline unsigned char *mark_base64(
	const unsigned char *data, size_t len, size_t before, const char *last, size_t *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char *to = mark_room(len * 2 + 8);
	size_t bit;

	*out = 0;
	/* The first digit that begins inside the mark. */
	for (bit = before == 0 ? 0 : before == 1 ? 4 : 2; bit + 6 <= len * 8; bit += 6) {
		const unsigned pair = (unsigned)data[bit / 8] << 8 | (bit / 8 + 1 < len ? data[bit / 8 + 1] : 0u);
		const unsigned digit = pair >> (10 - bit % 8) & 63;

		to[(*out)++] = (unsigned char)(digit < 62 ? digits[digit] : last[digit - 62]);
	}
	return to;
}

static inline void mark_base64_forms(struct marks *marks, const unsigned char *data, size_t len, int form)
{
	size_t before;
	size_t out;
	unsigned char *bytes;

	for (before = 0; before < 3; before++) {
		bytes = mark_base64(data, len, before, "+/", &out);
		mark_form(marks, form, bytes, out, 11);
		bytes = mark_base64(data, len, before, "-_", &out);
		mark_form(marks, form + 1, bytes, out, 11);
	}
}

static inline const struct mark_part *mark_at(const struct marks *marks, const unsigned char *data, size_t room);

/* Both ends are there: JWTs begin alike. */
static inline bool mark_known(const struct marks *marks, const unsigned char *data, size_t len)
{
	return mark_at(marks, data, MARK_PART) != NULL && mark_at(marks, data + len - MARK_PART, MARK_PART) != NULL;
}

/* Any bytes, at least eight of them, that nobody can guess. Twice is once. */
static inline void marks_add_bytes(struct marks *marks, const char *name, const void *from, size_t len)
{
	const unsigned char *data = from;
	unsigned char *bytes;
	unsigned char *wide;
	size_t out;
	size_t i;

	th_check(len >= MARK_PART, "%s is too short for a mark", name);
	if (mark_known(marks, data, len))
		return;
	th_check(marks->name_count < MARK_NAMES, "too many marks");
	marks->names[marks->name_count++] = th_printf("%s", name);
	bytes = mark_room(len);
	memcpy(bytes, data, len);
	mark_form(marks, FORM_PLAIN, bytes, len, MARK_PART);
	bytes = mark_percent(data, len, true, "0123456789ABCDEF", &out);
	mark_form(marks, FORM_PERCENT_ALL, bytes, out, 3 * MARK_PART);
	bytes = mark_percent(data, len, false, "0123456789abcdef", &out);
	mark_form(marks, FORM_PERCENT_LOWER, bytes, out, 12);
	bytes = mark_percent(data, len, false, "0123456789ABCDEF", &out);
	mark_base64_forms(marks, bytes, out, FORM_BASE64_OF_PERCENT);
	mark_form(marks, FORM_PERCENT, bytes, out, 12);
	bytes = mark_json(data, len, false, &out);
	mark_form(marks, FORM_JSON, bytes, out, 12);
	bytes = mark_json(data, len, true, &out);
	mark_form(marks, FORM_JSON_SLASH, bytes, out, 12);
	mark_form(marks, FORM_HEX, mark_hex(data, len, "0123456789abcdef"), 2 * len, 2 * MARK_PART);
	mark_form(marks, FORM_HEX_UPPER, mark_hex(data, len, "0123456789ABCDEF"), 2 * len, 2 * MARK_PART);
	wide = mark_room(2 * len);
	for (i = 0; i < len; i++)
		wide[2 * i] = data[i];
	mark_form(marks, FORM_UTF16, wide, 2 * len, 2 * MARK_PART);
	mark_base64_forms(marks, data, len, FORM_BASE64);
}

static inline void marks_add(struct marks *marks, const char *name, const char *text)
{
	marks_add_bytes(marks, name, text, strlen(text));
}

/* ---- the search --------------------------------------------------------------------- */

static inline const struct mark_part *mark_at(const struct marks *marks, const unsigned char *data, size_t room)
{
	size_t slot = mark_slot(data);
	size_t i;

	for (; marks->slots[slot].masked != NULL; slot = (slot + 1) & (MARK_SLOTS - 1)) {
		const struct mark_part *part = &marks->slots[slot];

		if (part->len > room)
			continue;
		for (i = 0; i < part->len && (data[i] ^ MARK_MASK) == part->masked[i]; i++)
			;
		if (i == part->len)
			return part;
	}
	return NULL;
}

/* The first mark at or after `from`. */
static inline bool marks_find(
	const struct marks *marks, const void *data, size_t len, size_t from, struct mark_found *found)
{
	const unsigned char *bytes = data;
	const struct mark_part *part;
	size_t at;

	for (at = from; at + MARK_PART <= len; at++) {
		part = mark_at(marks, bytes + at, len - at);
		if (part == NULL)
			continue;
		*found = (struct mark_found){ marks->names[part->name], mark_forms[part->form], at };
		return true;
	}
	return false;
}

/* Fails and tells which mark, in which dress, and what stands before it. */
static inline void marks_absent_bytes(const struct marks *marks, const char *where, const void *data, size_t len)
{
	struct mark_found found;
	size_t before;

	if (!marks_find(marks, data, len, 0, &found))
		return;
	before = found.at < 120 ? found.at : 120;
	th_fail("%s: the %s stands there, %s, at byte %zu, after: %.*s", where, found.name, found.form, found.at,
		(int)before, (const char *)data + found.at - before);
}

static inline void marks_absent(const struct marks *marks, const char *where, const char *text)
{
	marks_absent_bytes(marks, where, text, strlen(text));
}

/* The key that th_config_write has made in this folder. */
static inline void marks_add_key(struct marks *marks, const char *dir)
{
	char *path = th_printf("%s/store.key", dir);
	char *hex = th_read_file(path);
	unsigned char key[32];
	size_t i;

	for (i = 0; i < sizeof(key); i++)
		th_check(sscanf(hex + 2 * i, "%2hhx", &key[i]) == 1, "the key file %s", path);
	marks_add_bytes(marks, "store key", key, sizeof(key));
	free(hex);
	free(path);
}

#endif
