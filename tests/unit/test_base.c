/* SPDX-License-Identifier: MIT
 * The base room: buffers that wipe, encodings that take hostile bytes, packed
 * fields, error texts, clocks, the log. Inputs of decoders lie in exact heap
 * copies, so that a read past the end is seen by the sanitizers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"

/* ---- wiping, seen: the C library's functions are replaced ---------------------- */

static struct {
	size_t count;
	size_t bytes;
} wiped;

static void wipe_and_count(void *at, size_t len)
{
	volatile unsigned char *byte = at;

	for (size_t i = 0; i < len; i++)
		byte[i] = 0;
	wiped.count++;
	wiped.bytes += len;
}

void explicit_bzero(void *at, size_t len)
{
	wipe_and_count(at, len);
}

/* What _FORTIFY_SOURCE makes of it. */
void __explicit_bzero_chk(void *at, size_t len, size_t room);
void __explicit_bzero_chk(void *at, size_t len, size_t room)
{
	assert_true(len <= room);
	wipe_and_count(at, len);
}

/* ---- buffers ------------------------------------------------------------------- */

static void assert_text(const struct al_buf *buf, const char *text)
{
	assert_int_equal(buf->len, strlen(text));
	assert_string_equal(al_buf_text(buf), text);
}

static void an_empty_buffer_reads_as_an_empty_text(void **state)
{
	struct al_buf buf = { 0 };

	(void)state;
	assert_string_equal(al_buf_text(&buf), "");
	assert_true(al_buf_put(&buf, NULL, 0));
	assert_text(&buf, "");
	al_buf_clear(&buf);
	assert_null(buf.data);
	assert_false(al_buf_put(&buf, "x", 1)); /* zeroed: it has no bound yet */
	al_buf_clear(&buf);
}

static void a_buffer_takes_exactly_its_bound_and_not_a_byte_more(void **state)
{
	static const size_t bounds[] = { 1, 63, 64, 65, 127, 128, 4096 };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(bounds); i++) {
		struct al_buf buf;

		al_buf_init(&buf, bounds[i]);
		for (size_t n = 0; n < bounds[i]; n++)
			assert_true(al_buf_put(&buf, "x", 1));
		assert_int_equal(buf.len, bounds[i]);
		assert_int_equal(strlen(al_buf_text(&buf)), bounds[i]);
		assert_true(buf.cap <= bounds[i] + 1);
		assert_false(al_buf_put(&buf, "y", 1));
		assert_int_equal(buf.len, bounds[i]);
		assert_null(strchr(al_buf_text(&buf), 'y'));
		al_buf_clear(&buf);
	}
}

static void a_failed_append_is_remembered_until_the_buffer_is_cleared(void **state)
{
	struct al_buf buf;

	(void)state;
	al_buf_init(&buf, 4);
	assert_true(al_buf_puts(&buf, "ab"));
	assert_false(al_buf_puts(&buf, "cde"));
	assert_true(buf.failed);
	assert_text(&buf, "ab");
	assert_false(al_buf_puts(&buf, "c")); /* it would fit, but what came before is missing */
	assert_false(al_buf_printf(&buf, "%c", 'c'));
	assert_text(&buf, "ab");
	al_buf_clear(&buf);
	assert_false(buf.failed);
	assert_int_equal(buf.max, 4);
	assert_true(al_buf_puts(&buf, "abcd"));
	al_buf_clear(&buf);
}

static void a_length_near_the_end_of_size_t_does_not_wrap(void **state)
{
	struct al_buf buf;

	(void)state;
	al_buf_init(&buf, 100);
	assert_true(al_buf_puts(&buf, "ab"));
	assert_false(al_buf_put(&buf, "x", SIZE_MAX));
	al_buf_clear(&buf);
	assert_true(al_buf_puts(&buf, "ab"));
	assert_false(al_buf_put(&buf, "x", SIZE_MAX - 1));
	assert_text(&buf, "ab");
	al_buf_clear(&buf);
}

static void bytes_with_zeros_are_kept_as_they_are(void **state)
{
	struct al_buf buf;

	(void)state;
	al_buf_init(&buf, 100);
	assert_true(al_buf_put(&buf, "a\0b", 3));
	assert_true(al_buf_put(&buf, "\0", 1));
	assert_int_equal(buf.len, 4);
	assert_memory_equal(buf.data, "a\0b\0", 5);
	al_buf_clear(&buf);
}

static void formatted_text_grows_the_buffer_and_stops_at_its_bound(void **state)
{
	struct al_buf buf;

	(void)state;
	al_buf_init(&buf, 200);
	assert_true(al_buf_printf(&buf, "%s=%d;", "n", 7));
	assert_true(al_buf_printf(&buf, "%0150d", 1));
	assert_int_equal(buf.len, 154);
	assert_memory_equal(buf.data, "n=7;000", 7);
	assert_true(al_buf_printf(&buf, "%s", ""));
	assert_true(al_buf_printf(&buf, "%046d", 2));
	assert_int_equal(buf.len, 200);
	assert_int_equal(strlen(buf.data), 200);
	assert_false(al_buf_printf(&buf, "%d", 3));
	assert_int_equal(buf.len, 200);
	assert_true(buf.failed);
	al_buf_clear(&buf);
}

static void setting_copying_and_moving_replace_what_was_there(void **state)
{
	struct al_buf a;
	struct al_buf b;
	const char *data;

	(void)state;
	al_buf_init(&a, 10);
	al_buf_init(&b, 20);
	assert_true(al_buf_set(&a, "one", 3));
	assert_true(al_buf_set(&a, "two", 2));
	assert_text(&a, "tw");
	assert_true(al_buf_copy(&b, &a));
	assert_text(&b, "tw");
	assert_int_equal(b.max, 20);
	assert_ptr_not_equal(a.data, b.data);
	assert_true(al_buf_set(&a, "three", 5));
	data = a.data;
	al_buf_move(&b, &a);
	assert_ptr_equal(b.data, data); /* moved, not copied: one secret, one place */
	assert_text(&b, "three");
	assert_text(&a, "");
	assert_null(a.data);
	assert_int_equal(a.max, 10);
	assert_true(al_buf_puts(&a, "again"));
	assert_true(al_buf_copy(&b, &a));
	assert_false(al_buf_set(&a, "elevenbytes", 11));
	assert_text(&a, ""); /* never a cut text */
	al_buf_clear(&a);
	al_buf_clear(&b);
}

static void copying_an_empty_buffer_leaves_an_empty_one(void **state)
{
	struct al_buf a;
	struct al_buf b;

	(void)state;
	al_buf_init(&a, 10);
	al_buf_init(&b, 10);
	assert_true(al_buf_puts(&b, "old"));
	assert_true(al_buf_copy(&b, &a));
	assert_text(&b, "");
	assert_false(b.failed);
	al_buf_clear(&b);
}

static void every_byte_that_was_held_is_wiped_when_memory_is_given_back(void **state)
{
	struct al_buf buf;
	struct al_buf other;

	(void)state;
	al_buf_init(&buf, 4096);
	al_buf_init(&other, 4096);
	assert_true(al_buf_put(&buf, "secret", 6));
	memset(&wiped, 0, sizeof(wiped));
	for (size_t i = 0; i < 200; i++)
		assert_true(al_buf_put(&buf, "x", 1));
	assert_int_equal(wiped.count, 2); /* 64 and 128 bytes were outgrown */
	assert_int_equal(wiped.bytes, 64 + 128);
	memset(&wiped, 0, sizeof(wiped));
	al_buf_clear(&buf);
	assert_int_equal(wiped.bytes, 256);
	assert_true(al_buf_puts(&buf, "secret"));
	assert_true(al_buf_puts(&other, "older secret"));
	memset(&wiped, 0, sizeof(wiped));
	al_buf_move(&other, &buf);
	assert_int_equal(wiped.bytes, 64); /* the older one */
	memset(&wiped, 0, sizeof(wiped));
	assert_true(al_buf_set(&other, "new", 3));
	assert_int_equal(wiped.bytes, 64);
	al_buf_clear(&other);
}

static void texts_are_wiped_when_they_are_freed(void **state)
{
	char *text = al_dup("secret");
	char *cut = al_dup_len("secret text", 6);

	(void)state;
	assert_string_equal(text, "secret");
	assert_string_equal(cut, "secret");
	memset(&wiped, 0, sizeof(wiped));
	al_free_text(&text);
	assert_null(text);
	assert_int_equal(wiped.bytes, 6);
	al_free_text(&text); /* twice is harmless */
	al_free_text(&cut);
	text = al_dup_len(NULL, 0);
	assert_string_equal(text, "");
	al_free_text(&text);
	al_wipe(NULL, 5);
}

static void fresh_memory_is_zero(void **state)
{
	unsigned char *bytes = al_new(100);

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(bytes[i], 0);
	free(bytes);
}

static void comparing_sees_every_bit_of_every_byte(void **state)
{
	unsigned char a[40];
	unsigned char b[40];
	struct al_buf x;
	struct al_buf y;

	(void)state;
	for (size_t i = 0; i < sizeof(a); i++)
		a[i] = b[i] = (unsigned char)(7 * i);
	assert_true(al_equal(a, b, sizeof(a)));
	assert_true(al_equal(a, b, 0));
	for (size_t i = 0; i < 8 * sizeof(a); i++) {
		b[i / 8] = (unsigned char)(b[i / 8] ^ 1u << i % 8);
		assert_false(al_equal(a, b, sizeof(a)));
		b[i / 8] = a[i / 8];
	}
	al_buf_init(&x, 10);
	al_buf_init(&y, 20);
	assert_true(al_buf_equal(&x, &y));
	assert_true(al_buf_puts(&x, "ab") && al_buf_puts(&y, "abc"));
	assert_false(al_buf_equal(&x, &y)); /* a beginning is not the whole */
	assert_true(al_buf_puts(&x, "c"));
	assert_true(al_buf_equal(&x, &y));
	al_buf_clear(&x);
	al_buf_clear(&y);
}

/* ---- base64 and hex ------------------------------------------------------------ */

static const struct {
	const char *plain;
	const char *padded;
	const char *url;
} base64_vectors[] = { /* RFC 4648, 10 */
	{ "", "", "" }, { "f", "Zg==", "Zg" }, { "fo", "Zm8=", "Zm8" }, { "foo", "Zm9v", "Zm9v" },
	{ "foob", "Zm9vYg==", "Zm9vYg" }, { "fooba", "Zm9vYmE=", "Zm9vYmE" }, { "foobar", "Zm9vYmFy", "Zm9vYmFy" },
	{ "\xfb\xff\xfe", "+//+", "-__-" }
};

/* The input in memory of exactly its size. */
static char *exact(const char *text, size_t len)
{
	char *copy = malloc(len == 0 ? 1 : len);

	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, text, len);
	return copy;
}

static bool decodes(const char *text, size_t len)
{
	char *copy = exact(text, len);
	struct al_buf to;
	bool done;

	al_buf_init(&to, 4096);
	done = al_base64url_decode(&to, copy, len);
	al_buf_clear(&to);
	free(copy);
	return done;
}

static void base64_agrees_with_the_standards_examples(void **state)
{
	struct al_buf to;

	(void)state;
	al_buf_init(&to, 100);
	for (size_t i = 0; i < AL_COUNT(base64_vectors); i++) {
		const char *plain = base64_vectors[i].plain;

		assert_true(al_base64_put(&to, plain, strlen(plain)));
		assert_text(&to, base64_vectors[i].padded);
		al_buf_clear(&to);
		assert_true(al_base64url_put(&to, plain, strlen(plain)));
		assert_text(&to, base64_vectors[i].url);
		al_buf_clear(&to);
		assert_true(al_base64url_decode(&to, base64_vectors[i].url, strlen(base64_vectors[i].url)));
		assert_text(&to, plain);
		al_buf_clear(&to);
	}
}

static void base64url_brings_back_every_byte_at_every_length(void **state)
{
	unsigned char in[300];
	struct al_buf text;
	struct al_buf back;

	(void)state;
	al_buf_init(&text, 1000);
	al_buf_init(&back, 1000);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)(i * 151 + 3);
	for (size_t len = 0; len <= sizeof(in); len++) {
		assert_true(al_base64url_put(&text, in, len));
		assert_int_equal(text.len, (len * 4 + 2) / 3);
		assert_true(al_base64url_decode(&back, al_buf_text(&text), text.len));
		assert_int_equal(back.len, len);
		assert_memory_equal(al_buf_text(&back), in, len);
		al_buf_clear(&text);
		al_buf_clear(&back);
	}
}

static void base64url_in_any_other_spelling_is_refused(void **state)
{
	(void)state;
	assert_false(decodes("Zg==", 4));
	assert_false(decodes("Zm8=", 4));
	assert_false(decodes("Z", 1));
	assert_false(decodes("Zm9vY", 5));
	assert_false(decodes("Zm9 ", 4));
	assert_false(decodes("Zm9v\n", 5));
	assert_false(decodes("Zm9v\n\n\n\n", 8));
	assert_false(decodes("Zm\09", 4));
	assert_false(decodes("+//+", 4));
	assert_false(decodes("Zm9\xc3", 4));
	assert_false(decodes("====", 4));
}

static void one_token_has_one_spelling(void **state)
{
	/* The last digit of "Zg" stands for 2 bits, of "Zm8" for 4: the others must be 0. */
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned two = 0;
	unsigned three = 0;

	(void)state;
	for (size_t i = 0; i < 64; i++) {
		char text[3] = { 'Z', 'm', digits[i] };

		three += decodes(text, 3) ? 1 : 0;
		text[1] = digits[i];
		two += decodes(text, 2) ? 1 : 0;
	}
	assert_int_equal(two, 4);
	assert_int_equal(three, 16);
}

static void an_encoding_over_the_bound_fails(void **state)
{
	struct al_buf to;

	(void)state;
	al_buf_init(&to, 7);
	assert_false(al_base64_put(&to, "foobar", 6));
	assert_true(to.failed);
	al_buf_clear(&to);
	assert_false(al_base64url_decode(&to, "Zm9vYmFyZm9v", 12));
	al_buf_clear(&to);
	assert_false(al_form_put_encoded(&to, "/////", 5));
	al_buf_clear(&to);
}

static void hex_is_lower_case_and_ended_by_a_zero(void **state)
{
	char text[11];

	(void)state;
	memset(text, 'x', sizeof(text));
	al_hex(text, "\x00\x7f\x80\xff\x0a", 5);
	assert_string_equal(text, "007f80ff0a");
	al_hex(text, "", 0);
	assert_string_equal(text, "");
}

static void sha256_agrees_with_known_digests(void **state)
{
	unsigned char out[32];
	char text[65];

	(void)state;
	assert_int_equal(al_sha256("abc", 3, out, NULL), ACCTLINK_OK);
	al_hex(text, out, 32);
	assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(al_sha256("", 0, out, NULL), ACCTLINK_OK);
	al_hex(text, out, 32);
	assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* ---- forms ----------------------------------------------------------------------- */

static void form_encoding_leaves_only_the_unreserved_alone(void **state)
{
	struct al_buf to;
	struct al_buf back;

	(void)state;
	al_buf_init(&to, 4096);
	al_buf_init(&back, 4096);
	assert_true(al_form_put_encoded(&to, "aZ09-._~ +/?&=%\xc3\xa9\n", 18));
	assert_text(&to, "aZ09-._~+%2B%2F%3F%26%3D%25%C3%A9%0A");
	for (int c = 1; c < 256; c++) {
		char one = (char)c;

		al_buf_clear(&to);
		assert_true(al_form_put_encoded(&to, &one, 1));
		assert_true(al_form_decode(&back, al_buf_text(&to), to.len));
		assert_int_equal(back.len, 1);
		assert_int_equal(back.data[0], one);
		al_buf_clear(&back);
	}
	al_buf_clear(&to);
}

static void pairs_are_joined_with_one_ampersand(void **state)
{
	struct al_buf to;

	(void)state;
	al_buf_init(&to, 4096);
	assert_true(al_form_put_pair(&to, "a b", "1&2", 3));
	assert_text(&to, "a+b=1%262");
	assert_true(al_form_put_pair(&to, "c", "", 0));
	assert_text(&to, "a+b=1%262&c=");
	al_buf_clear(&to);
	assert_true(al_buf_puts(&to, "https://h/p?"));
	assert_true(al_form_put_pair(&to, "c", "d", 1));
	assert_text(&to, "https://h/p?c=d");
	al_buf_clear(&to);
	assert_true(al_buf_puts(&to, "https://h/p?x=y"));
	assert_true(al_form_put_pair(&to, "c", "d", 1));
	assert_text(&to, "https://h/p?x=y&c=d");
	al_buf_clear(&to);
}

static bool form_decodes(const char *text, size_t len, const char *to)
{
	char *copy = exact(text, len);
	struct al_buf got;
	bool done;

	al_buf_init(&got, 100);
	done = al_form_decode(&got, copy, len);
	if (done)
		assert_text(&got, to);
	al_buf_clear(&got);
	free(copy);
	return done;
}

static void form_decoding_takes_plus_and_triplets_in_both_cases(void **state)
{
	(void)state;
	assert_true(form_decodes("", 0, ""));
	assert_true(form_decodes("a+b", 3, "a b"));
	assert_true(form_decodes("%2b%2B%20", 9, "++ "));
	assert_true(form_decodes("%c3%A9", 6, "\xc3\xa9"));
	assert_true(form_decodes("a=b&c", 5, "a=b&c"));
}

static void broken_triplets_and_zeros_are_refused(void **state)
{
	static const char *const broken[] = { "%", "a%", "%2", "a%2", "%2g", "%g2", "%%20", "%-1", "% 1", "%+1", "%00",
		"a%00b", "%0" };
	char long_text[102];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(broken); i++)
		assert_false(form_decodes(broken[i], strlen(broken[i]), ""));
	assert_false(form_decodes("a\0b", 3, ""));
	memset(long_text, 'x', sizeof(long_text));
	assert_false(form_decodes(long_text, 101, "")); /* over the bound: refused, not cut */
}

static void assert_pairs(const char *text, const char *shown)
{
	size_t len = strlen(text);
	char *copy = exact(text, len);
	struct al_buf seen;
	acctlink_str name;
	acctlink_str value;
	size_t at = 0;

	al_buf_init(&seen, 1000);
	while (al_form_next(copy, len, &at, &name, &value)) {
		assert_true(at <= len);
		assert_true(al_buf_printf(&seen, "[%.*s|%.*s]", (int)name.len, name.data, (int)value.len, value.data));
	}
	assert_text(&seen, shown);
	assert_false(al_form_next(copy, len, &at, &name, &value)); /* the end is the end */
	al_buf_clear(&seen);
	free(copy);
}

static void a_form_is_split_at_ampersands_and_at_the_first_equals_sign(void **state)
{
	(void)state;
	assert_pairs("", "");
	assert_pairs("&", "");
	assert_pairs("&&&", "");
	assert_pairs("a=1", "[a|1]");
	assert_pairs("a=1&b=2", "[a|1][b|2]");
	assert_pairs("&a=1&&b=2&", "[a|1][b|2]");
	assert_pairs("a", "[a|]");
	assert_pairs("a&b", "[a|][b|]");
	assert_pairs("a=", "[a|]");
	assert_pairs("=1", "[|1]");
	assert_pairs("=", "[|]");
	assert_pairs("a=b=c&d==", "[a|b=c][d|=]");
	assert_pairs("a=1;b=2", "[a|1;b=2]");      /* a semicolon parts nothing */
	assert_pairs("a=%26&a=+", "[a|%26][a|+]"); /* raw, and duplicates are shown */
}

/* ---- UTF-8 ------------------------------------------------------------------------- */

/* Unicode's definition, by decoding: another way than the code's own. */
static bool reference_utf8(const unsigned char *in, size_t len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	for (size_t at = 0; at < len;) {
		size_t need = in[at] < 0x80 ? 1
			: in[at] >> 5 == 6  ? 2
			: in[at] >> 4 == 14 ? 3
			: in[at] >> 3 == 30 ? 4
					    : 0;
		uint32_t point = need == 1 ? in[at] : need == 0 ? 0 : in[at] & (0x7fu >> need);

		if (need == 0 || need > len - at)
			return false;
		for (size_t i = 1; i < need; i++) {
			if (in[at + i] >> 6 != 2)
				return false;
			point = point << 6 | (in[at + i] & 0x3fu);
		}
		if (point == 0 || point < least[need] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
			return false;
		at += need;
	}
	return true;
}

static void check_utf8(const unsigned char *bytes, size_t len)
{
	char *copy = exact((const char *)bytes, len);

	if (al_utf8_valid(copy, len) != reference_utf8(bytes, len))
		fail_msg("%zu bytes %02x %02x … are judged wrongly", len, bytes[0], len > 1 ? bytes[1] : 0);
	free(copy);
}

static void utf8_is_judged_right_at_every_border(void **state)
{
	static const unsigned char edges[] = { 0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff };
	unsigned char bytes[5];

	(void)state;
	for (unsigned lead = 0; lead < 256; lead++) {
		bytes[0] = (unsigned char)lead;
		check_utf8(bytes, 1);
		for (unsigned second = 0; second < 256; second++) {
			bytes[1] = (unsigned char)second;
			check_utf8(bytes, 2);
		}
		for (size_t i = 0; i < 11 * 11 * 11; i++) {
			bytes[1] = edges[i % 11];
			bytes[2] = edges[i / 11 % 11];
			bytes[3] = edges[i / 121];
			bytes[4] = 'x';
			check_utf8(bytes, 3);
			check_utf8(bytes, 4);
			check_utf8(bytes, 5);
		}
	}
}

static void utf8_examples_come_out_as_they_should(void **state)
{
	(void)state;
	assert_true(al_utf8_valid("", 0));
	assert_true(al_utf8_valid("Ana \xc3\xa1 \xe2\x82\xac \xf0\x9f\x8f\xa6", 15));
	assert_false(al_utf8_valid("a\0b", 3));
	assert_false(al_utf8_valid("\xc0\xaf", 2));         /* '/' in two bytes */
	assert_false(al_utf8_valid("\xed\xa0\x80", 3));     /* a surrogate */
	assert_false(al_utf8_valid("\xf4\x90\x80\x80", 4)); /* past U+10FFFF */
	assert_true(al_utf8_valid("\xf4\x8f\xbf\xbf", 4));
	assert_false(al_utf8_valid("\xe2\x82", 2)); /* cut */
}

/* ---- packed fields -------------------------------------------------------------------- */

static struct al_unpack reader_of(const struct al_buf *packed)
{
	struct al_unpack from = { .data = (const unsigned char *)al_buf_text(packed), .len = packed->len };

	return from;
}

static void packed_fields_come_back_in_order(void **state)
{
	struct al_unpack from;
	struct al_buf to;
	acctlink_str field;

	(void)state;
	al_buf_init(&to, 1000);
	assert_true(al_pack_u64(&to, UINT64_MAX) && al_pack(&to, "a\0b", 3) && al_pack(&to, NULL, 0)
		&& al_pack_u64(&to, 0x0102030405060708u));
	assert_int_equal(to.len, 8 + 7 + 4 + 8);
	assert_memory_equal(to.data + 8, "\0\0\0\3a\0b\0\0\0\0\1\2\3\4\5\6\7\10", 19);
	from = reader_of(&to);
	assert_true(al_unpack_u64(&from) == UINT64_MAX);
	field = al_unpack_field(&from);
	assert_int_equal(field.len, 3);
	assert_memory_equal(field.data, "a\0b", 3);
	field = al_unpack_field(&from);
	assert_int_equal(field.len, 0);
	assert_true(al_unpack_u64(&from) == 0x0102030405060708u);
	assert_false(from.failed);
	assert_int_equal(from.at, from.len);
	al_buf_clear(&to);
}

static void packing_is_injective(void **state)
{
	struct al_buf a;
	struct al_buf b;

	(void)state;
	al_buf_init(&a, 100);
	al_buf_init(&b, 100);
	assert_true(al_pack(&a, "ab", 2) && al_pack(&a, "c", 1));
	assert_true(al_pack(&b, "a", 1) && al_pack(&b, "bc", 2));
	assert_false(al_buf_equal(&a, &b));
	al_buf_clear(&a);
	al_buf_clear(&b);
}

static void a_packed_text_cut_anywhere_is_noticed_and_never_overrun(void **state)
{
	struct al_buf to;

	(void)state;
	al_buf_init(&to, 1000);
	assert_true(al_pack_u64(&to, 7) && al_pack(&to, "token", 5) && al_pack_u64(&to, 9));
	for (size_t len = 0; len < to.len; len++) {
		char *copy = exact(al_buf_text(&to), len);
		struct al_unpack from = { .data = (const unsigned char *)copy, .len = len };

		(void)al_unpack_u64(&from);
		(void)al_unpack_field(&from);
		assert_true(al_unpack_u64(&from) == 0);
		assert_true(from.failed);
		assert_true(al_unpack_u64(&from) == 0); /* once failed, always failed */
		assert_int_equal(al_unpack_field(&from).len, 0);
		assert_true(from.at <= len);
		free(copy);
	}
	al_buf_clear(&to);
}

static void a_length_that_lies_does_not_lead_outside(void **state)
{
	static const unsigned char lies[][8] = { { 0xff, 0xff, 0xff, 0xff, 'a', 'b', 'c', 'd' },
		{ 0x80, 0, 0, 0, 'a', 'b', 'c', 'd' }, { 0, 0, 0, 5, 'a', 'b', 'c', 'd' } };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(lies); i++) {
		char *copy = exact((const char *)lies[i], 8);
		struct al_unpack from = { .data = (const unsigned char *)copy, .len = 8 };

		assert_int_equal(al_unpack_field(&from).len, 0);
		assert_true(from.failed);
		free(copy);
	}
}

static void packing_over_the_bound_fails(void **state)
{
	struct al_buf to;

	(void)state;
	al_buf_init(&to, 11);
	assert_true(al_pack_u64(&to, 1));
	assert_false(al_pack(&to, "", 0));
	assert_true(to.failed);
	al_buf_clear(&to);
	assert_false(al_pack(&to, "x", (size_t)UINT32_MAX + 1));
	assert_true(to.failed);
	al_buf_clear(&to);
}

static void texts_become_strings_and_are_compared_whole(void **state)
{
	(void)state;
	assert_null(al_str(NULL).data);
	assert_int_equal(al_str(NULL).len, 0);
	assert_int_equal(al_str("abc").len, 3);
	assert_true(al_str_is(al_str("abc"), "abc"));
	assert_false(al_str_is(al_str("abcd"), "abc"));
	assert_false(al_str_is(al_str("ab"), "abc"));
	assert_true(al_str_is(al_str(NULL), ""));
	assert_false(al_str_is((acctlink_str){ "ab\0", 3 }, "ab"));
}

/* ---- what may be shown ------------------------------------------------------------------ */

static void text_from_outside_is_made_printable_and_bounded(void **state)
{
	char to[8];

	(void)state;
	memset(to, 'x', sizeof(to));
	al_copy_printable(to, sizeof(to), "a\nb\x1b[\xc3\x7f~zz", 10);
	assert_string_equal(to, "a?b?[??");
	al_copy_printable(to, 1, "abc", 3);
	assert_string_equal(to, "");
	to[0] = 'y';
	al_copy_printable(to, 0, "abc", 3);
	assert_int_equal(to[0], 'y');
	al_copy_printable(to, sizeof(to), "a\0b", 3);
	assert_string_equal(to, "a?b");
	al_copy_printable(to, sizeof(to), NULL, 0);
	assert_string_equal(to, "");
}

static void assert_shown(const char *url, const char *shown)
{
	char to[64];

	al_copy_url_safe(to, sizeof(to), url);
	assert_string_equal(to, shown);
}

static void a_url_is_shown_without_user_query_and_fragment(void **state)
{
	(void)state;
	assert_shown("https://idp.example:8443/token", "https://idp.example:8443/token");
	assert_shown("https://idp.example/cb?code=SECRET&state=S", "https://idp.example/cb");
	assert_shown("https://idp.example?code=SECRET", "https://idp.example");
	assert_shown("https://idp.example/cb#id_token=SECRET", "https://idp.example/cb");
	assert_shown("https://id:SECRET@idp.example/cb?x", "https://idp.example/cb");
	assert_shown("https://a@b:SECRET@idp.example/cb", "https://idp.example/cb");
	assert_shown("https://idp.example/@ana/cb", "https://idp.example/@ana/cb");
	assert_shown("https://idp.example?x=a@SECRET", "https://idp.example");
	assert_shown("https://idp.example#a@SECRET", "https://idp.example");
	assert_shown("https://[::1]:1/x\n", "https://[::1]:1/x?");
	assert_shown("", "");
	assert_shown("://", "://");
	assert_shown("file:///etc/passwd", "file:///etc/passwd");
}

static void a_relative_url_is_shown_without_its_query_too(void **state)
{
	(void)state;
	assert_shown("/cb?code=SECRET", "/cb");
	assert_shown("idp.example/cb?code=SECRET", "idp.example/cb");
	assert_shown("/login?code=SECRET&next=https://app.example/", "/login");
	assert_shown("/login#SECRET://app.example/", "/login");
	assert_shown("//id:SECRET@idp.example/cb", "//idp.example/cb");
	assert_shown("id:SECRET@idp.example/cb", "idp.example/cb");
}

static void a_long_url_is_cut_and_ended(void **state)
{
	char to[20];

	(void)state;
	memset(to, 'x', sizeof(to));
	al_copy_url_safe(to, sizeof(to), "https://idp.example/a/very/long/path");
	assert_string_equal(to, "https://idp.example");
	al_copy_url_safe(to, 5, "https://idp.example/");
	assert_string_equal(to, "http");
	al_copy_url_safe(to, 1, "https://idp.example/");
	assert_string_equal(to, "");
	to[0] = 'y';
	al_copy_url_safe(to, 0, "https://idp.example/");
	assert_int_equal(to[0], 'y');
}

static void a_failure_fills_the_whole_error_anew(void **state)
{
	acctlink_error err;

	(void)state;
	memset(&err, 0x55, sizeof(err));
	assert_int_equal(al_fail(&err, ACCTLINK_BAD_CONFIG, "a.conf:3", "no %s in %d", "key", 7), ACCTLINK_BAD_CONFIG);
	assert_int_equal(err.status, ACCTLINK_BAD_CONFIG);
	assert_string_equal(err.where, "a.conf:3");
	assert_string_equal(err.message, "no key in 7");
	assert_string_equal(err.provider_code, "");
	assert_int_equal(err.http_status, 0);
	assert_int_equal(err.retry_after_ms, 0);
	for (size_t i = 0; i < AL_COUNT(err.reserved); i++)
		assert_int_equal(err.reserved[i], 0);
	assert_int_equal(al_fail(&err, ACCTLINK_INTERNAL, NULL, "x"), ACCTLINK_INTERNAL);
	assert_string_equal(err.where, "");
	assert_int_equal(al_fail(NULL, ACCTLINK_INTERNAL, "x", "y"), ACCTLINK_INTERNAL);
	assert_int_equal(al_fail_memory(&err), ACCTLINK_NO_MEMORY);
	assert_int_equal(err.status, ACCTLINK_NO_MEMORY);
	al_error_clear(&err);
	assert_int_equal(err.status, 0);
	assert_string_equal(err.message, "");
	al_error_clear(NULL);
}

static void a_long_message_is_cut_and_ended(void **state)
{
	acctlink_error err;
	char text[2000];

	(void)state;
	memset(text, 'm', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	(void)al_fail(&err, ACCTLINK_INTERNAL, text, "%s", text);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	assert_int_equal(strlen(err.where), sizeof(err.where) - 1);
}

static void every_status_has_a_name_of_its_own(void **state)
{
	static const al_rc known[] = { 0, 100, 101, 102, 103, 104, 105, 106, 200, 201, 202, 203, 204, 205, 300, 301,
		302, 400, 401, 402, 403, 404, 500, 501 };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(known); i++) {
		assert_string_not_equal(al_status_name(known[i]), "UNKNOWN");
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(al_status_name(known[i]), al_status_name(known[j]));
	}
	assert_string_equal(al_status_name(999), "UNKNOWN");
	assert_string_equal(al_status_name(-1), "UNKNOWN");
}

/* ---- clock, chance, log ------------------------------------------------------------------- */

static void read_fixed(void *ctx, acctlink_time *now)
{
	*now = *(acctlink_time *)ctx;
}

static void the_clock_is_the_hosts_if_it_has_one(void **state)
{
	acctlink_time fixed = { 1234, 5678 };
	struct al_clock clock = { read_fixed, &fixed };
	struct al_clock none = { NULL, NULL };
	int64_t real = (int64_t)time(NULL) * 1000;

	(void)state;
	assert_int_equal(al_now(&clock).wall_ms, 1234);
	assert_int_equal(al_now(&clock).boot_ms, 5678);
	assert_in_range(al_now(&none).wall_ms, real - 2000, real + 60000);
	assert_in_range(al_now(NULL).wall_ms, real - 2000, real + 60000);
	assert_true(al_now(NULL).boot_ms > 0);
	assert_true(al_monotonic_ms() <= al_monotonic_ms());
}

static void adding_times_stops_at_the_ends(void **state)
{
	(void)state;
	assert_true(al_add_ms(2, 3) == 5);
	assert_true(al_add_ms(INT64_MAX, 1) == INT64_MAX);
	assert_true(al_add_ms(1, INT64_MAX) == INT64_MAX);
	assert_true(al_add_ms(INT64_MAX, INT64_MAX) == INT64_MAX);
	assert_true(al_add_ms(INT64_MIN, -1) == INT64_MIN);
	assert_true(al_add_ms(INT64_MIN, INT64_MIN) == INT64_MIN);
	assert_true(al_add_ms(INT64_MIN, INT64_MAX) == -1);
}

static void chance_gives_other_texts_each_time_and_keeps_within_bounds(void **state)
{
	char texts[200][30];
	acctlink_error err;
	char raw[32] = "";
	char zeros[32] = "";

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		assert_int_equal(al_random_text(texts[i], sizeof(texts[i]), 16, &err), ACCTLINK_OK);
		assert_int_equal(strlen(texts[i]), 22);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(texts[i], texts[j]);
	}
	assert_int_equal(al_random_text(texts[0], 23, 16, &err), ACCTLINK_OK);
	assert_int_not_equal(al_random_text(texts[0], 22, 16, &err), ACCTLINK_OK);
	assert_int_equal(al_random_text(texts[0], sizeof(texts[0]), 65, &err), ACCTLINK_INTERNAL);
	assert_int_equal(al_random(raw, sizeof(raw), &err), ACCTLINK_OK);
	assert_memory_not_equal(raw, zeros, sizeof(raw));
	assert_int_equal(al_random(raw, 0, &err), ACCTLINK_OK);
}

struct heard {
	int count;
	int32_t level;
	char line[2048];
};

static void hear(void *ctx, int32_t level, const char *message)
{
	struct heard *heard = ctx;

	heard->count++;
	heard->level = level;
	(void)snprintf(heard->line, sizeof(heard->line), "%s", message);
}

static void the_log_tells_the_host_what_is_important_enough(void **state)
{
	struct heard heard = { 0 };
	struct al_log log = { hear, &heard, ACCTLINK_LOG_NOTICE };
	char text[3000];

	(void)state;
	al_log(&log, ACCTLINK_LOG_NOTICE, "link %d: %s", 7, "kept");
	assert_int_equal(heard.count, 1);
	assert_int_equal(heard.level, ACCTLINK_LOG_NOTICE);
	assert_string_equal(heard.line, "link 7: kept");
	al_log(&log, ACCTLINK_LOG_INFO, "not so important");
	assert_int_equal(heard.count, 1);
	al_log(NULL, ACCTLINK_LOG_ERROR, "nobody listens");
	memset(text, 'l', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	al_log(&log, ACCTLINK_LOG_ERROR, "%s", text);
	assert_int_equal(heard.count, 2);
	assert_int_equal(strlen(heard.line), 1023);
}

/* ---- what may be quoted, and safes ------------------------------------------------- */

static bool quotes(const char *text, const char *secret)
{
	struct al_buf buf;
	const struct al_buf *secrets[2] = { NULL, &buf };
	bool found;

	al_buf_init(&buf, 100);
	assert_true(al_buf_puts(&buf, secret));
	found = al_may_quote_secret(text, strlen(text), secrets, 2);
	al_buf_clear(&buf);
	return found;
}

static void a_text_that_quotes_a_secret_or_a_part_of_it_is_noticed(void **state)
{
	char *large = calloc(1, 5001);

	(void)state;
	assert_true(quotes("unknown token aB3-dE5_gH7", "aB3-dE5_gH7"));
	assert_true(quotes("unknown token B3-dE5_g...", "aB3-dE5_gH7"));
	assert_false(quotes("unknown token B3-dE5_...", "aB3-dE5_gH7"));
	assert_true(quotes("it is pw1!", "pw1!"));
	assert_false(quotes("it is pw1", "pw1!"));
	assert_true(quotes("a stranger's token abcdefghijklmnopqrstuvwX", "x"));
	assert_false(quotes("a stranger's token abcdefghijklmnopqrstuvW", "!"));
	assert_false(quotes("invalid_client", "invalid_client_2"));
	assert_true(quotes("invalid_client", "invalid"));
	assert_false(quotes("unsupported_response_mode_of_this_client", "!"));
	assert_false(quotes("", "aB3-dE5_gH7"));
	assert_false(quotes("anything", ""));
	assert_non_null(large);
	memset(large, ' ', 5000);
	assert_true(quotes(large, "!")); /* too long to look at */
	free(large);
	assert_false(al_may_quote_secret("fine", 4, NULL, 0));
}

static void a_safe_keeps_buffers_apart_and_uses_wiped_blocks_again(void **state)
{
	struct al_safe *safe = al_safe_new(true);
	struct al_buf buf[40];
	const char *first;

	(void)state;
	assert_non_null(safe);
	al_buf_init_in(&buf[0], 1000, safe);
	assert_true(al_buf_puts(&buf[0], "secret"));
	first = buf[0].data;
	al_buf_clear(&buf[0]);
	for (size_t i = 0; i < 40; i++) {
		al_buf_init_in(&buf[i], (size_t)1 << 20, safe);
		for (size_t part = 0; part < i * 100; part++) /* 140 kB at most: larger than a chunk */
			assert_true(al_buf_put(&buf[i], "0123456789abcdef0123456789abcdef0123", 36));
		assert_true(al_buf_puts(&buf[i], "end"));
	}
	assert_ptr_equal(buf[0].data, first);
	for (size_t i = 0; i < 40; i++) {
		assert_int_equal(buf[i].len, i * 3600 + 3);
		assert_string_equal(buf[i].data + buf[i].len - 3, "end");
		for (size_t at = 0; at < i * 3600; at += 36)
			assert_memory_equal(buf[i].data + at, "0123456789abcdef0123456789abcdef0123", 36);
	}
	al_safe_free(&safe); /* lasts until the buffers are cleared */
	assert_null(safe);
	for (size_t i = 0; i < 40; i++)
		al_buf_clear(&buf[i]);
	al_safe_free(&safe);
}

static void what_is_moved_out_of_a_safe_stays_in_it(void **state)
{
	struct al_safe *safe = al_safe_new(false);
	struct al_buf from;
	struct al_buf to;

	(void)state;
	al_buf_init_in(&from, 100, safe);
	al_buf_init(&to, 100);
	assert_true(al_buf_puts(&from, "secret") && al_buf_puts(&to, "former"));
	al_buf_move(&to, &from);
	assert_string_equal(al_buf_text(&to), "secret");
	assert_true(al_buf_puts(&from, "again"));
	al_buf_clear(&from);
	al_buf_clear(&to);
	al_safe_free(&safe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_buffer_reads_as_an_empty_text),
		cmocka_unit_test(a_buffer_takes_exactly_its_bound_and_not_a_byte_more),
		cmocka_unit_test(a_failed_append_is_remembered_until_the_buffer_is_cleared),
		cmocka_unit_test(a_length_near_the_end_of_size_t_does_not_wrap),
		cmocka_unit_test(bytes_with_zeros_are_kept_as_they_are),
		cmocka_unit_test(formatted_text_grows_the_buffer_and_stops_at_its_bound),
		cmocka_unit_test(setting_copying_and_moving_replace_what_was_there),
		cmocka_unit_test(copying_an_empty_buffer_leaves_an_empty_one),
		cmocka_unit_test(every_byte_that_was_held_is_wiped_when_memory_is_given_back),
		cmocka_unit_test(texts_are_wiped_when_they_are_freed),
		cmocka_unit_test(fresh_memory_is_zero),
		cmocka_unit_test(comparing_sees_every_bit_of_every_byte),
		cmocka_unit_test(base64_agrees_with_the_standards_examples),
		cmocka_unit_test(base64url_brings_back_every_byte_at_every_length),
		cmocka_unit_test(base64url_in_any_other_spelling_is_refused),
		cmocka_unit_test(one_token_has_one_spelling),
		cmocka_unit_test(an_encoding_over_the_bound_fails),
		cmocka_unit_test(hex_is_lower_case_and_ended_by_a_zero),
		cmocka_unit_test(sha256_agrees_with_known_digests),
		cmocka_unit_test(form_encoding_leaves_only_the_unreserved_alone),
		cmocka_unit_test(pairs_are_joined_with_one_ampersand),
		cmocka_unit_test(form_decoding_takes_plus_and_triplets_in_both_cases),
		cmocka_unit_test(broken_triplets_and_zeros_are_refused),
		cmocka_unit_test(a_form_is_split_at_ampersands_and_at_the_first_equals_sign),
		cmocka_unit_test(utf8_is_judged_right_at_every_border),
		cmocka_unit_test(utf8_examples_come_out_as_they_should),
		cmocka_unit_test(packed_fields_come_back_in_order),
		cmocka_unit_test(packing_is_injective),
		cmocka_unit_test(a_packed_text_cut_anywhere_is_noticed_and_never_overrun),
		cmocka_unit_test(a_length_that_lies_does_not_lead_outside),
		cmocka_unit_test(packing_over_the_bound_fails),
		cmocka_unit_test(texts_become_strings_and_are_compared_whole),
		cmocka_unit_test(text_from_outside_is_made_printable_and_bounded),
		cmocka_unit_test(a_url_is_shown_without_user_query_and_fragment),
		cmocka_unit_test(a_relative_url_is_shown_without_its_query_too),
		cmocka_unit_test(a_long_url_is_cut_and_ended),
		cmocka_unit_test(a_failure_fills_the_whole_error_anew),
		cmocka_unit_test(a_long_message_is_cut_and_ended),
		cmocka_unit_test(every_status_has_a_name_of_its_own),
		cmocka_unit_test(the_clock_is_the_hosts_if_it_has_one),
		cmocka_unit_test(adding_times_stops_at_the_ends),
		cmocka_unit_test(chance_gives_other_texts_each_time_and_keeps_within_bounds),
		cmocka_unit_test(the_log_tells_the_host_what_is_important_enough),
		cmocka_unit_test(a_text_that_quotes_a_secret_or_a_part_of_it_is_noticed),
		cmocka_unit_test(a_safe_keeps_buffers_apart_and_uses_wiped_blocks_again),
		cmocka_unit_test(what_is_moved_out_of_a_safe_stays_in_it),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
