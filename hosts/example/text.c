/* SPDX-License-Identifier: MIT
 * Text of the example host: printing, escaping, forms, random names. Running out of
 * memory ends the program.
 */
#include "example.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { RANDOM_BYTES = 16 };

static EX_PRINTF(1, 0) char *printed(const char *fmt, va_list args)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, args) < 0) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return text;
}

char *ex_printf(const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	text = printed(fmt, args);
	va_end(args);
	return text;
}

static void append(struct ex_text *to, const char *more, size_t len)
{
	char *text = realloc(to->text, to->len + len + 1);

	if (text == NULL) {
		fputs("out of memory\n", stderr);
		abort();
	}
	memcpy(text + to->len, more, len);
	text[to->len + len] = '\0';
	to->text = text;
	to->len += len;
}

void ex_add(struct ex_text *to, const char *fmt, ...)
{
	va_list args;
	char *more;

	va_start(args, fmt);
	more = printed(fmt, args);
	va_end(args);
	append(to, more, strlen(more));
	free(more);
}

/* What stands for a character in HTML; NULL: itself. */
static const char *entity(char c)
{
	switch (c) {
	case '&': return "&amp;";
	case '<': return "&lt;";
	case '>': return "&gt;";
	case '"': return "&quot;";
	case '\'': return "&#39;";
	default: return NULL;
	}
}

char *ex_html(const char *text)
{
	struct ex_text html = { 0 };
	const char *rest = text;

	append(&html, "", 0);
	while (*rest != '\0') {
		const size_t plain = strcspn(rest, "&<>\"'");

		append(&html, rest, plain);
		rest += plain;
		if (*rest != '\0') {
			const char *name = entity(*rest++);

			append(&html, name, strlen(name));
		}
	}
	return html.text;
}

/* ---- forms ---------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* application/x-www-form-urlencoded, in place. What is no %XX, and a NUL, stay as they are. */
void ex_form_decode(char *text)
{
	const char *from = text;
	char *to = text;

	while (*from != '\0') {
		const int high = *from == '%' ? hex_digit(from[1]) : -1;
		const int low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low >= 0 && (high != 0 || low != 0)) {
			*to++ = (char)(high * 16 + low);
			from += 3;
		} else {
			*to++ = *from == '+' ? ' ' : *from;
			from++;
		}
	}
	*to = '\0';
}

char *ex_form_value(const char *form, const char *name)
{
	const char *at = form;

	while (*at != '\0') {
		const size_t len = strcspn(at, "&");
		const size_t name_len = strcspn(at, "=&");
		char *given = ex_printf("%.*s", (int)name_len, at);
		bool is;

		ex_form_decode(given);
		is = strcmp(given, name) == 0;
		free(given);
		if (is) {
			const size_t skip = name_len < len ? name_len + 1 : len;
			char *value = ex_printf("%.*s", (int)(len - skip), at + skip);

			ex_form_decode(value);
			return value;
		}
		at += len + (at[len] == '&');
	}
	return NULL;
}

char *ex_random(void)
{
	unsigned char bytes[RANDOM_BYTES];
	struct ex_text hex = { 0 };
	size_t i;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
		fputs("the system gives no random numbers\n", stderr);
		abort();
	}
	for (i = 0; i < sizeof(bytes); i++)
		ex_add(&hex, "%02x", bytes[i]);
	return hex.text;
}
