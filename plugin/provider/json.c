/* SPDX-License-Identifier: MIT
 * Reads strict JSON (RFC 8259) into json-c's objects. json-c's own parser is
 * not used: even when strict it takes duplicate members (the last wins), single
 * quotes, NaN, raw control characters and lone surrogates, it leaves copies of
 * each string in memory that it frees, and 0.16 crashes when memory runs out.
 * Never quotes the text in an error. No state; an object belongs to one thread
 * at a time.
 */
#include "provider/provider_int.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* A small text can ask for much memory: an empty object takes 2 bytes there
 * and about 900 here. */
enum { DEPTH_MAX = 16, VALUES_MAX = 65536, NUMBER_MAX = 128 };

struct reader {
	const char *text;
	size_t len;
	size_t at;
	unsigned depth;
	size_t values;
	const char *why; /* set by the first failure */
	bool no_memory;
};

static bool read_value(struct reader *r, struct json_object **out);

static bool stop(struct reader *r, const char *why)
{
	r->why = why;
	return false;
}

static bool stop_for_memory(struct reader *r)
{
	r->no_memory = true;
	return stop(r, "out of memory");
}

static int peek(const struct reader *r)
{
	return r->at < r->len ? (unsigned char)r->text[r->at] : -1;
}

static bool take(struct reader *r, char c)
{
	if (peek(r) != c)
		return false;
	r->at++;
	return true;
}

static bool take_word(struct reader *r, const char *word)
{
	size_t len = strlen(word);

	if (r->len - r->at < len || memcmp(r->text + r->at, word, len) != 0)
		return false;
	r->at += len;
	return true;
}

static void skip_space(struct reader *r)
{
	while (take(r, ' ') || take(r, '\t') || take(r, '\n') || take(r, '\r'))
		;
}

/* ---- strings --------------------------------------------------------------- */

/* Four hexadecimal digits, -1 if they are none. */
static int read_unit(struct reader *r)
{
	int unit = 0;

	for (int i = 0; i < 4; i++) {
		int c = peek(r);

		if (c >= '0' && c <= '9')
			unit = unit * 16 + c - '0';
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			unit = unit * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
		r->at++;
	}
	return unit;
}

static bool put_utf8(struct al_buf *out, int point)
{
	static const int ends[] = { 0x80, 0x800, 0x10000, 0x110000 };
	static const int leads[] = { 0, 0xc0, 0xe0, 0xf0 };
	char bytes[4];
	size_t len = 0;

	while (point >= ends[len])
		len++;
	for (size_t i = len; i > 0; i--) {
		bytes[i] = (char)(0x80 | (point & 0x3f));
		point >>= 6;
	}
	bytes[0] = (char)(leads[len] | point);
	return al_buf_put(out, bytes, len + 1);
}

static bool read_unicode_escape(struct reader *r, struct al_buf *out)
{
	int high = read_unit(r);
	int low;

	if (high < 0)
		return stop(r, "a broken \\u escape");
	if (high == 0)
		return stop(r, "a NUL in a string");
	if ((high & 0xf800) != 0xd800)
		return put_utf8(out, high) || stop_for_memory(r);
	low = high < 0xdc00 && take_word(r, "\\u") ? read_unit(r) : -1;
	if (low < 0xdc00 || low > 0xdfff)
		return stop(r, "half a surrogate pair");
	return put_utf8(out, 0x10000 + (high - 0xd800) * 0x400 + low - 0xdc00) || stop_for_memory(r);
}

static bool read_escape(struct reader *r, struct al_buf *out)
{
	static const char names[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	int c = peek(r);
	const char *name = c <= 0 ? NULL : strchr(names, c);

	if (take(r, 'u'))
		return read_unicode_escape(r, out);
	if (name == NULL)
		return stop(r, "an unknown escape");
	r->at++;
	return al_buf_put(out, meanings + (name - names), 1) || stop_for_memory(r);
}

/* Decoded, into an empty buffer. */
static bool read_string(struct reader *r, struct al_buf *out)
{
	if (!take(r, '"'))
		return stop(r, "a string in double quotes is missing");
	for (;;) {
		size_t start = r->at;

		while (peek(r) >= 0x20 && peek(r) != '"' && peek(r) != '\\')
			r->at++;
		if (!al_buf_put(out, r->text + start, r->at - start))
			return stop_for_memory(r);
		if (take(r, '"'))
			return true;
		if (!take(r, '\\'))
			return stop(r, peek(r) < 0 ? "a string has no end" : "a raw control character in a string");
		if (!read_escape(r, out))
			return false;
	}
}

static bool read_string_value(struct reader *r, struct json_object **out)
{
	struct al_buf text;
	bool good;

	al_buf_init(&text, AL_ANSWER_MAX);
	good = read_string(r, &text);
	if (good) {
		*out = json_object_new_string_len(al_buf_text(&text), (int)text.len);
		good = *out != NULL || stop_for_memory(r);
	}
	al_buf_clear(&text);
	return good;
}

/* ---- numbers and words ----------------------------------------------------- */

static bool take_digits(struct reader *r)
{
	size_t start = r->at;

	while (peek(r) >= '0' && peek(r) <= '9')
		r->at++;
	return r->at > start;
}

static bool take_fraction_and_exponent(struct reader *r)
{
	if (take(r, '.') && !take_digits(r))
		return false;
	if (!take(r, 'e') && !take(r, 'E'))
		return true;
	if (!take(r, '+'))
		(void)take(r, '-');
	return take_digits(r);
}

/* Decimal digits with or without a minus; false beyond int64 (and for its minimum). */
static bool parse_int(const char *digits, size_t len, int64_t *out)
{
	bool minus = len > 0 && digits[0] == '-';
	int64_t number = 0;

	for (size_t i = minus; i < len; i++) {
		if (__builtin_mul_overflow(number, 10, &number)
			|| __builtin_add_overflow(number, digits[i] - '0', &number))
			return false;
	}
	*out = minus ? -number : number;
	return true;
}

/* The host may have set a locale whose decimal sign is a comma. */
static bool parse_double(const char *text, double *out)
{
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);

	if (plain == (locale_t)0)
		return false;
	*out = strtod_l(text, NULL, plain);
	freelocale(plain);
	return true;
}

static bool read_number(struct reader *r, struct json_object **out)
{
	size_t start = r->at;
	size_t whole_end;
	char text[NUMBER_MAX + 1];
	int64_t whole;
	double number;

	(void)take(r, '-');
	if (!take(r, '0') && !take_digits(r))
		return stop(r, "neither a value nor a number");
	whole_end = r->at;
	if (!take_fraction_and_exponent(r))
		return stop(r, "a broken number");
	if (r->at - start > NUMBER_MAX)
		return stop(r, "a number is too long");
	memcpy(text, r->text + start, r->at - start);
	text[r->at - start] = '\0';
	/* What does not fit int64 stays what it is, a large number. */
	if (r->at == whole_end && parse_int(text, r->at - start, &whole))
		*out = json_object_new_int64(whole);
	else if (parse_double(text, &number))
		*out = json_object_new_double(number);
	return *out != NULL || stop_for_memory(r);
}

static bool read_boolean(struct reader *r, struct json_object **out)
{
	bool value = take_word(r, "true");

	if (!value && !take_word(r, "false"))
		return stop(r, "an unknown word");
	*out = json_object_new_boolean(value);
	return *out != NULL || stop_for_memory(r);
}

/* ---- objects and arrays ---------------------------------------------------- */

static bool read_item(struct reader *r, struct json_object *array)
{
	struct json_object *value;

	if (!read_value(r, &value))
		return false;
	if (json_object_array_add(array, value) == 0)
		return true;
	al_json_free(&value);
	return stop_for_memory(r);
}

static bool read_named_value(struct reader *r, struct json_object *object, const char *name)
{
	struct json_object *value;

	if (json_object_object_get_ex(object, name, NULL))
		return stop(r, "an object has a member twice");
	skip_space(r);
	if (!take(r, ':'))
		return stop(r, "a colon is missing");
	if (!read_value(r, &value))
		return false;
	if (json_object_object_add(object, name, value) == 0)
		return true;
	al_json_free(&value);
	return stop_for_memory(r);
}

static bool read_member(struct reader *r, struct json_object *object)
{
	struct al_buf name;
	bool good;

	al_buf_init(&name, AL_ANSWER_MAX);
	skip_space(r);
	good = read_string(r, &name) && read_named_value(r, object, al_buf_text(&name));
	al_buf_clear(&name);
	return good;
}

static bool read_items(
	struct reader *r, char close, struct json_object *into, bool (*read_one)(struct reader *, struct json_object *))
{
	if (into == NULL)
		return stop_for_memory(r);
	if (++r->depth > DEPTH_MAX)
		return stop(r, "nested too deeply");
	r->at++;
	skip_space(r);
	if (!take(r, close)) {
		do {
			if (!read_one(r, into))
				return false;
			skip_space(r);
		} while (take(r, ','));
		if (!take(r, close))
			return stop(r, "a comma or a closing bracket is missing");
	}
	r->depth--;
	return true;
}

/* json-c holds null as NULL. Nothing is left in *out after a failure. */
static bool read_value(struct reader *r, struct json_object **out)
{
	bool good;

	*out = NULL;
	skip_space(r);
	if (++r->values > VALUES_MAX)
		return stop(r, "too many values");
	switch (peek(r)) {
	case '{':
		*out = json_object_new_object();
		good = read_items(r, '}', *out, read_member);
		break;
	case '[':
		*out = json_object_new_array();
		good = read_items(r, ']', *out, read_item);
		break;
	case '"': good = read_string_value(r, out); break;
	case 't':
	case 'f': good = read_boolean(r, out); break;
	case 'n': good = take_word(r, "null") || stop(r, "an unknown word"); break;
	default: good = read_number(r, out);
	}
	if (!good)
		al_json_free(out);
	return good;
}

static bool read_text(struct reader *r, struct json_object **out)
{
	if (r->len > AL_ANSWER_MAX)
		return stop(r, "too long");
	if (!al_utf8_valid(r->text, r->len))
		return stop(r, "not UTF-8, or a NUL");
	(void)take_word(r, "\xef\xbb\xbf");
	skip_space(r);
	if (peek(r) != '{')
		return stop(r, "no object at the top");
	if (!read_value(r, out))
		return false;
	skip_space(r);
	return r->at == r->len || stop(r, "text after the object");
}

struct json_object *al_json_parse(const char *text, size_t len, acctlink_error *err)
{
	struct reader reader = { .text = text, .len = len };
	struct json_object *object = NULL;

	if (read_text(&reader, &object))
		return object;
	if (reader.no_memory)
		(void)al_fail_memory(err);
	else
		(void)al_fail(
			err, ACCTLINK_BAD_PROVIDER, NULL, "not strict JSON: %s (byte %zu)", reader.why, reader.at);
	al_json_free(&object);
	return NULL;
}

/* The const of json-c's accessor is no promise about the memory, which is the
 * object's own. */
static void wipe_strings(struct json_object *value)
{
	struct lh_entry *entry;

	switch (json_object_get_type(value)) {
	case json_type_object: lh_foreach(json_object_get_object(value), entry) wipe_strings(lh_entry_v(entry)); break;
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(value); i++)
			wipe_strings(json_object_array_get_idx(value, i));
		break;
	case json_type_string:
		al_wipe((char *)json_object_get_string(value), (size_t)json_object_get_string_len(value));
		break;
	default: break;
	}
}

void al_json_free(struct json_object **object)
{
	wipe_strings(*object);
	(void)json_object_put(*object);
	*object = NULL;
}

/* ---- reading members ------------------------------------------------------- */

const char *al_json_string(struct json_object *object, const char *name, size_t *len)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, json_type_string))
		return NULL;
	if (len != NULL)
		*len = (size_t)json_object_get_string_len(value);
	return json_object_get_string(value);
}

static bool int_from_double(double number, int64_t *out)
{
	/* 2^63 as a double; a NaN fails both comparisons. cppcheck can't read such numbers. */
	/* cppcheck-suppress incorrectLogicOperator */
	if (!(number > -0x1p63 && number < 0x1p63) || (double)(int64_t)number != number)
		return false;
	*out = (int64_t)number;
	return true;
}

static bool int_from_text(const char *text, int64_t *out)
{
	static const char spaces[] = " \t\r\n";
	size_t minus;
	size_t digits;

	text += strspn(text, spaces);
	minus = *text == '-';
	digits = strspn(text + minus, "0123456789");
	if (digits == 0 || text[minus + digits + strspn(text + minus + digits, spaces)] != '\0')
		return false;
	return parse_int(text, minus + digits, out);
}

bool al_json_int(struct json_object *object, const char *name, bool numeric_strings, int64_t *out)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(object, name, &value))
		return false;
	switch (json_object_get_type(value)) {
	case json_type_int: *out = json_object_get_int64(value); return true;
	case json_type_double: return int_from_double(json_object_get_double(value), out);
	case json_type_string: return numeric_strings && int_from_text(json_object_get_string(value), out);
	default: return false;
	}
}
