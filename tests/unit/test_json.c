/* SPDX-License-Identifier: MIT
 * The strict JSON reader: what it takes, what it refuses although json-c would
 * take it, how it reads members, and that it wipes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "provider/provider_int.h"

static struct json_object *parse(const char *text)
{
	return al_json_parse(text, strlen(text), NULL);
}

static void a_strict_object_is_taken_in_each_dress(void **state)
{
	static const char *const texts[] = { "{}", " \t\r\n{ } \r\n", "\xef\xbb\xbf{\"a\":1}",
		"\xef\xbb\xbf \n{\"a\":1}\n", "{\"a\":null,\"b\":true,\"c\":false,\"d\":[],\"e\":{},\"f\":\"\"}",
		"{\"\":0}", "{\"a\":-0}", "{\"a\":-0.0e-0}", "{\"a\":1E400}", "{\"a\":1e+5}", "{\"a\":0.5}",
		"{\"a\":18446744073709551616}", "{\"a\":-99999999999999999999}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\uDE00\"}", "{\"a\":\"\xc3\xa9\xf0\x9f\x98\x80\"}",
		"{ \"a\" : [ 1 , { \"a\" : [ { \"a\" : 2 } ] } ] , \"b\" : 3 }", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}",
		"{\"a\":\"\x7f\"}", "{\"a\":\"\\u0001\"}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		acctlink_error err;
		struct json_object *object = al_json_parse(texts[i], strlen(texts[i]), &err);

		if (object == NULL)
			fail_msg("%s: %s", texts[i], err.message);
		al_json_free(&object);
		assert_null(object);
	}
}

static void what_is_not_strict_json_is_refused(void **state)
{
	static const char *const texts[] = { "", " ", "\xef\xbb\xbf", "[]", "[{}]", "\"a\"", "1", "null", "true",
		"<html>", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{\"a\":[1,]}",
		"{\"a\":[1 2]}", "{\"a\":[}", "{\"a\":[1}}", "{\"a\":1]", "{\"a\" 1}", "{\"a\":}", "{a:1}", "{1:1}",
		"{null:1}", "{'a':1}", "{\"a\":'b'}", "{\"a\":\"b'}", "{\"a\":1}x", "{\"a\":1}{}", "{\"a\":1},", "{}}",
		"{\"a\":NaN}", "{\"a\":-NaN}", "{\"a\":Infinity}", "{\"a\":-Infinity}", "{\"a\":nan}", "{\"a\":TRUE}",
		"{\"a\":True}", "{\"a\":nul}", "{\"a\":nulll}", "{\"a\":truefalse}", "{\"a\":01}", "{\"a\":-01}",
		"{\"a\":00}", "{\"a\":+1}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":1.e3}", "{\"a\":1e}", "{\"a\":1e+}",
		"{\"a\":-}", "{\"a\":--1}", "{\"a\":0x10}", "{\"a\":1_000}", "{\"a\":1/*c*/}", "/*c*/{}", "{}//c",
		"{\"a\":1 //c\n}", "#\n{}", "{\"a\":\"\n\"}", "{\"a\":\"\t\"}", "{\"a\":\"\x1f\"}", "{\"a\n\":1}",
		"{\"a\":\"\\x41\"}", "{\"a\":\"\\'\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\u123g\"}",
		"{\"a\":\"\\U0041\"}", "{\"a\":\"\\", "{\"a\":\"\\\"", "{\"a\":\"\\u", "{\"a\":\"\\u0000\"}",
		"{\"\\u0000\":1}", "{\"a\":\"\\ud83d\"}", "{\"a\":\"\\ude00\"}", "{\"a\":\"\\ud83dx\"}",
		"{\"a\":\"\\ud83d\\n\"}", "{\"a\":\"\\ud83d\\u0041\"}", "{\"a\":\"\\ud83d\\ud83d\"}",
		"{\"a\":\"\\ude00\\ud83d\"}", "{\"a\":\"\\ude00\\ude00\"}", "{\"a\":\"\\ud83d\\uffff\"}",
		"{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xc3\"}",
		"{\"\xff\":1}", "\xff\xfe{\0}", "{\"a\":1}\xff", "\x0b{}", "{}\x0c", "{\"a\":\xc2\xa0 1}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		acctlink_error err;
		struct json_object *object = al_json_parse(texts[i], strlen(texts[i]), &err);

		if (object != NULL)
			fail_msg("taken: %s", texts[i]);
		assert_int_equal(err.status, ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(err.message, "not strict JSON: "));
	}
	assert_null(al_json_parse(NULL, 0, NULL));
}

static void a_nul_byte_is_refused_wherever_it_is(void **state)
{
	static const char inside[] = "{\"a\":\"b\0c\"}";
	static const char behind[] = "{\"a\":1}";

	(void)state;
	assert_null(al_json_parse(inside, sizeof(inside) - 1, NULL));
	assert_null(al_json_parse(behind, sizeof(behind), NULL));
}

static void a_member_that_comes_twice_is_refused_at_any_depth(void **state)
{
	static const char *const texts[] = { "{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2,\"a\":null}",
		"{\"x\":{\"a\":1,\"a\":2}}", "{\"x\":[1,{\"a\":1,\"a\":2}]}",
		"{\"a\":{\"b\":1},\"a\":{\"b\":1,\"c\":2}}", "{\"sub\":1,\"s\\u0075b\":2}", "{\"\\/\":1,\"/\":2}",
		"{\"\":1,\"\":2}", "{\"x\":{\"a\":1,\"a\":2},\"x\":{\"a\":1,\"b\":2,\"c\":3}}" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(texts); i++) {
		acctlink_error err;

		assert_null(al_json_parse(texts[i], strlen(texts[i]), &err));
		assert_non_null(strstr(err.message, "twice"));
	}
}

static void a_text_that_ends_early_is_refused_at_every_byte(void **state)
{
	static const char text[] = "{\"a\":[1.5e3,true,null,\"\\ud83d\\ude00\xc3\xa9\"],\"b\":{\"c\":-1}}";
	char copy[sizeof(text)];

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		memcpy(copy, text, len);
		memset(copy + len, '}', sizeof(copy) - len); /* behind the end: must not be read */
		assert_null(al_json_parse(copy, len, NULL));
	}
}

static void changed_bytes_never_harm(void **state)
{
	static const char text[] = "{\"a\":[1.5e3,true,null,\"\\ud83d\\ude00\xc3\xa9\"],\"b\":{\"c\":-1}}";
	char copy[sizeof(text)];

	(void)state;
	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		for (int c = 0; c < 256; c++) {
			struct json_object *object;

			memcpy(copy, text, sizeof(text));
			copy[at] = (char)c;
			object = al_json_parse(copy, sizeof(text) - 1, NULL);
			al_json_free(&object);
		}
	}
}

static void put_nested(struct al_buf *text, int depth, char open, char close)
{
	al_buf_init(text, 4096);
	al_buf_puts(text, "{\"a\":");
	for (int i = 1; i < depth; i++)
		al_buf_puts(text, open == '[' ? "[" : "{\"a\":");
	al_buf_puts(text, "1");
	for (int i = 1; i < depth; i++)
		al_buf_put(text, &close, 1);
	al_buf_puts(text, "}");
	assert_false(text->failed);
}

static void nesting_is_taken_to_sixteen_levels_and_refused_beyond(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct al_buf text;
		struct json_object *object;
		acctlink_error err;

		put_nested(&text, 16, "[{"[i], "]}"[i]);
		object = al_json_parse(text.data, text.len, NULL);
		assert_non_null(object);
		al_json_free(&object);
		al_buf_clear(&text);
		put_nested(&text, 17, "[{"[i], "]}"[i]);
		assert_null(al_json_parse(text.data, text.len, &err));
		assert_non_null(strstr(err.message, "too deeply"));
		al_buf_clear(&text);
	}
}

static void a_small_text_that_asks_for_a_huge_tree_is_refused(void **state)
{
	struct al_buf text;
	acctlink_error err;

	(void)state;
	al_buf_init(&text, 1 << 20);
	al_buf_puts(&text, "{\"a\":[0");
	for (int i = 0; i < 70000; i++)
		al_buf_puts(&text, ",{}");
	al_buf_puts(&text, "]}");
	assert_null(al_json_parse(text.data, text.len, &err));
	assert_non_null(strstr(err.message, "too many values"));
	al_buf_clear(&text);
}

static void a_string_of_a_mebibyte_is_read_whole(void **state)
{
	struct al_buf text;
	struct json_object *object;
	size_t len = 0;

	(void)state;
	al_buf_init(&text, AL_ANSWER_MAX);
	al_buf_puts(&text, "{\"id_token\":\"");
	for (size_t i = 0; i < AL_TOKEN_MAX / 16; i++)
		al_buf_puts(&text, "abcdefgh\\u0041234");
	al_buf_puts(&text, "\",\"b\":\"c\"}");
	object = al_json_parse(text.data, text.len, NULL);
	assert_non_null(object);
	assert_memory_equal(al_json_string(object, "id_token", &len), "abcdefghA234abcdefghA234", 24);
	assert_int_equal(len, AL_TOKEN_MAX / 16 * 12);
	assert_string_equal(al_json_string(object, "b", NULL), "c");
	al_json_free(&object);
	al_buf_clear(&text);
}

static void an_answer_over_the_bound_is_refused(void **state)
{
	struct al_buf text;

	(void)state;
	al_buf_init(&text, AL_ANSWER_MAX + 1);
	al_buf_puts(&text, "{}");
	while (text.len < AL_ANSWER_MAX + 1)
		al_buf_puts(&text, " ");
	assert_null(al_json_parse(text.data, text.len, NULL));
	al_buf_clear(&text);
}

static void escapes_become_the_characters_that_they_mean(void **state)
{
	static const char
		text[] = "{\"s\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t|\\u0001\\u007F\\u0080\\u07ff\\u0800\\u20AC\\uffff"
			 "\\ud800\\udc00\\uD83D\\uDE00\\udbff\\udfff|\xc3\xa9\"}";
	struct json_object *object = parse(text);

	(void)state;
	assert_non_null(object);
	assert_string_equal(al_json_string(object, "s", NULL),
		"\"\\/\b\f\n\r\t|\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80"
		"\xe2\x82\xac\xef\xbf\xbf\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf|\xc3\xa9");
	al_json_free(&object);
}

static void a_name_is_found_however_it_was_escaped(void **state)
{
	struct json_object *object = parse("{\"s\\u0075b\":\"a\",\"\":\"b\"}");

	(void)state;
	assert_string_equal(al_json_string(object, "sub", NULL), "a");
	assert_string_equal(al_json_string(object, "", NULL), "b");
	al_json_free(&object);
}

static void a_number_may_have_128_characters(void **state)
{
	(void)state;
	for (size_t len = 128; len <= 129; len++) {
		struct al_buf text;
		struct json_object *object;
		int64_t value = 0;

		al_buf_init(&text, 256);
		al_buf_puts(&text, "{\"n\":7.");
		while (text.len < len + 5)
			al_buf_puts(&text, "0");
		al_buf_puts(&text, "}");
		object = al_json_parse(al_buf_text(&text), text.len, NULL);
		assert_int_equal(object != NULL, len == 128);
		assert_int_equal(al_json_int(object, "n", false, &value), len == 128);
		assert_int_equal(value, len == 128 ? 7 : 0);
		al_json_free(&object);
		al_buf_clear(&text);
	}
}

static void only_strings_are_read_as_strings(void **state)
{
	struct json_object *object = parse(
		"{\"s\":\"x\\ny\",\"e\":\"\",\"n\":null,\"i\":1,\"a\":[\"b\"],\"o\":{},\"t\":true}");
	static const char *const others[] = { "n", "i", "a", "o", "t", "missing", "S" };
	size_t len = 99;

	(void)state;
	assert_non_null(object);
	assert_string_equal(al_json_string(object, "s", &len), "x\ny");
	assert_int_equal(len, 3);
	assert_string_equal(al_json_string(object, "e", &len), "");
	assert_int_equal(len, 0);
	for (size_t i = 0; i < AL_COUNT(others); i++)
		assert_null(al_json_string(object, others[i], &len));
	al_json_free(&object);
}

struct number {
	const char *text;
	bool good;         /* without numeric strings */
	bool good_as_text; /* with them */
	int64_t value;
};

static void numbers_are_read_exactly_or_not_at_all(void **state)
{
	static const struct number numbers[] = { { "0", true, true, 0 }, { "-0", true, true, 0 },
		{ "86399", true, true, 86399 }, { "-1", true, true, -1 }, { "86399.0", true, true, 86399 },
		{ "8.6399e4", true, true, 86399 }, { "1e3", true, true, 1000 }, { "-0.0", true, true, 0 },
		{ "9223372036854775807", true, true, INT64_MAX }, { "-9223372036854775807", true, true, -INT64_MAX },
		{ "9223372036854774784.0", true, true, INT64_C(9223372036854774784) },
		{ "9223372036854775808", false, false, 0 }, { "18446744073709551615", false, false, 0 },
		{ "18446744073709551616", false, false, 0 }, { "99999999999999999999999", false, false, 0 },
		{ "-9223372036854775809", false, false, 0 }, { "-99999999999999999999", false, false, 0 },
		{ "9223372036854775808.0", false, false, 0 }, { "1e30", false, false, 0 }, { "-1e30", false, false, 0 },
		{ "1e400", false, false, 0 }, { "0.5", false, false, 0 }, { "3600.25", false, false, 0 },
		{ "1e-1", false, false, 0 }, { "true", false, false, 0 }, { "null", false, false, 0 },
		{ "[3600]", false, false, 0 }, { "{}", false, false, 0 }, { "\"86399\"", false, true, 86399 },
		{ "\" 3600 \"", false, true, 3600 }, { "\"\\t3600\\n\"", false, true, 3600 },
		{ "\"-5\"", false, true, -5 }, { "\"9223372036854775807\"", false, true, INT64_MAX },
		{ "\"9223372036854775808\"", false, false, 0 }, { "\"99999999999999999999999\"", false, false, 0 },
		{ "\"3600x\"", false, false, 0 }, { "\"36 00\"", false, false, 0 }, { "\"\"", false, false, 0 },
		{ "\" \"", false, false, 0 }, { "\"-\"", false, false, 0 }, { "\"- 1\"", false, false, 0 },
		{ "\"+1\"", false, false, 0 }, { "\"0x10\"", false, false, 0 }, { "\"1e3\"", false, false, 0 },
		{ "\"3600.0\"", false, false, 0 } };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(numbers); i++) {
		char text[64];
		struct json_object *object;
		int64_t plain = 77;
		int64_t tolerant = 77;

		(void)snprintf(text, sizeof(text), "{\"n\":%s}", numbers[i].text);
		object = parse(text);
		assert_non_null(object);
		if (al_json_int(object, "n", false, &plain) != numbers[i].good
			|| al_json_int(object, "n", true, &tolerant) != numbers[i].good_as_text)
			fail_msg("%s", text);
		assert_int_equal(plain, numbers[i].good ? numbers[i].value : 77);
		assert_int_equal(tolerant, numbers[i].good_as_text ? numbers[i].value : 77);
		assert_false(al_json_int(object, "m", true, &plain));
		al_json_free(&object);
	}
}

static void strings_are_overwritten_before_they_are_freed(void **state)
{
	static const char zeros[64];
	struct json_object *object = parse(
		"{\"a\":{\"b\":[\"short\",\"a refresh token of forty bytes, give or take\"]}}");
	struct json_object *list = NULL;
	struct json_object *kept[2];

	(void)state;
	assert_true(json_object_object_get_ex(object, "a", &list));
	assert_true(json_object_object_get_ex(list, "b", &list));
	for (size_t i = 0; i < 2; i++)
		kept[i] = json_object_get(json_object_array_get_idx(list, i));
	al_json_free(&object);
	for (size_t i = 0; i < 2; i++) {
		size_t len = (size_t)json_object_get_string_len(kept[i]);

		assert_int_equal(len, i == 0 ? 5 : 44);
		assert_memory_equal(json_object_get_string(kept[i]), zeros, len);
		assert_int_equal(json_object_put(kept[i]), 1);
	}
}

static void an_error_tells_the_place_and_never_the_text(void **state)
{
	static const char text[] = "{\"refresh_token\":\"s3cret\", oops";
	acctlink_error err;

	(void)state;
	assert_null(al_json_parse(text, sizeof(text) - 1, &err));
	assert_string_equal(err.message, "not strict JSON: a string in double quotes is missing (byte 27)");
}

static void freeing_nothing_is_harmless(void **state)
{
	struct json_object *object = NULL;

	(void)state;
	al_json_free(&object);
	assert_null(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_strict_object_is_taken_in_each_dress),
		cmocka_unit_test(what_is_not_strict_json_is_refused),
		cmocka_unit_test(a_nul_byte_is_refused_wherever_it_is),
		cmocka_unit_test(a_member_that_comes_twice_is_refused_at_any_depth),
		cmocka_unit_test(a_text_that_ends_early_is_refused_at_every_byte),
		cmocka_unit_test(changed_bytes_never_harm),
		cmocka_unit_test(nesting_is_taken_to_sixteen_levels_and_refused_beyond),
		cmocka_unit_test(a_small_text_that_asks_for_a_huge_tree_is_refused),
		cmocka_unit_test(a_string_of_a_mebibyte_is_read_whole),
		cmocka_unit_test(an_answer_over_the_bound_is_refused),
		cmocka_unit_test(escapes_become_the_characters_that_they_mean),
		cmocka_unit_test(a_name_is_found_however_it_was_escaped),
		cmocka_unit_test(a_number_may_have_128_characters),
		cmocka_unit_test(only_strings_are_read_as_strings),
		cmocka_unit_test(numbers_are_read_exactly_or_not_at_all),
		cmocka_unit_test(strings_are_overwritten_before_they_are_freed),
		cmocka_unit_test(an_error_tells_the_place_and_never_the_text),
		cmocka_unit_test(freeing_nothing_is_harmless),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
