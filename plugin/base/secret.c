/* SPDX-License-Identifier: MIT
 * The one buffer type. It is wiped whenever memory is given back, so any text
 * may be a secret. A buffer belongs to one thread at a time.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void al_wipe(void *data, size_t len)
{
	if (data != NULL && len > 0)
		explicit_bzero(data, len);
}

bool al_equal(const void *a, const void *b, size_t len)
{
	const volatile unsigned char *x = a;
	const volatile unsigned char *y = b;
	unsigned char diff = 0;

	for (size_t i = 0; i < len; i++)
		diff = (unsigned char)(diff | (x[i] ^ y[i]));
	return diff == 0;
}

void al_buf_init(struct al_buf *buf, size_t max)
{
	memset(buf, 0, sizeof(*buf));
	buf->max = max;
}

void al_buf_clear(struct al_buf *buf)
{
	if (buf->data != NULL) {
		al_wipe(buf->data, buf->cap);
		free(buf->data);
	}
	al_buf_init(buf, buf->max);
}

/* Makes room for `need` bytes and the NUL. realloc would leave an unwiped copy. */
static bool grow(struct al_buf *buf, size_t need)
{
	size_t cap = buf->cap < 64 ? 64 : buf->cap;
	char *data;

	if (need > buf->max)
		return false;
	if (need < buf->cap)
		return true;
	while (cap <= need)
		cap *= 2;
	if (cap > buf->max + 1)
		cap = buf->max + 1;
	data = malloc(cap);
	if (data == NULL)
		return false;
	if (buf->data != NULL) {
		memcpy(data, buf->data, buf->len);
		al_wipe(buf->data, buf->cap);
		free(buf->data);
	}
	buf->data = data;
	buf->cap = cap;
	return true;
}

bool al_buf_put(struct al_buf *buf, const void *data, size_t len)
{
	if (buf->failed || len > buf->max - buf->len || !grow(buf, buf->len + len)) {
		buf->failed = true;
		return false;
	}
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return true;
}

bool al_buf_puts(struct al_buf *buf, const char *text)
{
	return al_buf_put(buf, text, strlen(text));
}

bool al_buf_printf(struct al_buf *buf, const char *fmt, ...)
{
	va_list ap;
	va_list again;
	int need;
	bool done = false;

	va_start(ap, fmt);
	va_copy(again, ap);
	need = vsnprintf(NULL, 0, fmt, ap);
	if (need >= 0 && !buf->failed && (size_t)need <= buf->max - buf->len
		&& grow(buf, buf->len + (size_t)need)) {
		(void)vsnprintf(buf->data + buf->len, (size_t)need + 1, fmt, again);
		buf->len += (size_t)need;
		done = true;
	}
	buf->failed = buf->failed || !done;
	va_end(again);
	va_end(ap);
	return done;
}

bool al_buf_set(struct al_buf *buf, const void *data, size_t len)
{
	al_buf_clear(buf);
	return al_buf_put(buf, data, len);
}

bool al_buf_copy(struct al_buf *to, const struct al_buf *from)
{
	return al_buf_set(to, al_buf_text(from), from->len);
}

void al_buf_move(struct al_buf *to, struct al_buf *from)
{
	al_buf_clear(to);
	*to = *from;
	al_buf_init(from, from->max);
}

bool al_buf_equal(const struct al_buf *a, const struct al_buf *b)
{
	return a->len == b->len && al_equal(al_buf_text(a), al_buf_text(b), a->len);
}

const char *al_buf_text(const struct al_buf *buf)
{
	return buf->data == NULL ? "" : buf->data;
}

void *al_new(size_t size)
{
	return calloc(1, size);
}

char *al_dup(const char *text)
{
	return al_dup_len(text, strlen(text));
}

char *al_dup_len(const char *text, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return NULL;
	if (len > 0)
		memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

void al_free_text(char **text)
{
	if (*text == NULL)
		return;
	al_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}
