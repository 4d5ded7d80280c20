/* SPDX-License-Identifier: MIT
 * The one buffer type. It is wiped whenever memory is given back, so any text
 * may be a secret. A buffer belongs to one thread at a time. And safes, apart
 * from the heap, for what is held: their lock guards lists, never I/O.
 */
#include "base/base.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

/* ---- safes ------------------------------------------------------------------- */

/* Blocks are powers of two and go back to the list of their size, so a safe is
 * as large as it ever had to be. */
enum { BLOCK_MIN_BITS = 6, BLOCK_SIZES = 20, CHUNK_BYTES = 64 * 1024 };

struct block {
	struct block *next;
};

struct chunk {
	struct chunk *next;
	size_t size; /* with this head */
	size_t used;
};

struct al_safe {
	pthread_mutex_t lock; /* guards all below */
	struct block *spare[BLOCK_SIZES];
	struct chunk *chunks; /* blocks are cut from the first */
	size_t live;          /* blocks that are in use */
	bool locked;
	bool ended; /* al_safe_free was called */
};

struct al_safe *al_safe_new(bool lock)
{
	struct al_safe *safe = al_new(sizeof(*safe));

	if (safe != NULL && pthread_mutex_init(&safe->lock, NULL) != 0) {
		free(safe);
		return NULL;
	}
	if (safe != NULL)
		safe->locked = lock;
	return safe;
}

static void destroy(struct al_safe *safe)
{
	struct chunk *next;

	for (struct chunk *chunk = safe->chunks; chunk != NULL; chunk = next) {
		next = chunk->next;
		(void)munmap(chunk, chunk->size);
	}
	(void)pthread_mutex_destroy(&safe->lock);
	free(safe);
}

void al_safe_free(struct al_safe **safe)
{
	struct al_safe *old = *safe;
	bool last;

	*safe = NULL;
	if (old == NULL)
		return;
	(void)pthread_mutex_lock(&old->lock);
	old->ended = true;
	last = old->live == 0;
	(void)pthread_mutex_unlock(&old->lock);
	if (last)
		destroy(old);
}

/* Some blocks begin behind a head that takes up one of the smallest. */
static bool add_chunk_locked(struct al_safe *safe, size_t block)
{
	size_t head = (size_t)1 << BLOCK_MIN_BITS;
	size_t size = block + head > CHUNK_BYTES ? block + head : CHUNK_BYTES;
	struct chunk *chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (chunk == MAP_FAILED)
		return false;
	if (madvise(chunk, size, MADV_DONTDUMP) != 0) {
		(void)munmap(chunk, size);
		return false;
	}
	if (safe->locked)
		(void)mlock(chunk, size); /* RLIMIT_MEMLOCK is the operator's choice */
	*chunk = (struct chunk){ .next = safe->chunks, .size = size, .used = head };
	safe->chunks = chunk;
	return true;
}

static unsigned size_index(size_t size)
{
	unsigned index = 0;

	while (((size_t)1 << (BLOCK_MIN_BITS + index)) < size)
		index++;
	return index;
}

static void *take_locked(struct al_safe *safe, unsigned index)
{
	struct block *spare = safe->spare[index];
	size_t block = (size_t)1 << (BLOCK_MIN_BITS + index);
	char *at;

	if (spare != NULL) {
		safe->spare[index] = spare->next;
		return spare;
	}
	if ((safe->chunks == NULL || safe->chunks->size - safe->chunks->used < block) && !add_chunk_locked(safe, block))
		return NULL;
	at = (char *)safe->chunks + safe->chunks->used;
	safe->chunks->used += block;
	return at;
}

static void *safe_take(struct al_safe *safe, size_t size)
{
	unsigned index = size_index(size);
	void *data = NULL;

	if (index >= BLOCK_SIZES)
		return NULL;
	(void)pthread_mutex_lock(&safe->lock);
	data = take_locked(safe, index);
	safe->live += data != NULL ? 1 : 0;
	(void)pthread_mutex_unlock(&safe->lock);
	return data;
}

/* False: the safe had ended and went with its last block. */
static bool safe_give(struct al_safe *safe, void *data, size_t size)
{
	unsigned index = size_index(size);
	struct block *block = data;
	bool last;

	(void)pthread_mutex_lock(&safe->lock);
	block->next = safe->spare[index];
	safe->spare[index] = block;
	last = --safe->live == 0 && safe->ended;
	(void)pthread_mutex_unlock(&safe->lock);
	if (last)
		destroy(safe);
	return !last;
}

/* ---- buffers ------------------------------------------------------------------- */

void al_buf_init_in(struct al_buf *buf, size_t max, struct al_safe *safe)
{
	memset(buf, 0, sizeof(*buf));
	buf->max = max;
	buf->safe = safe;
}

void al_buf_init(struct al_buf *buf, size_t max)
{
	al_buf_init_in(buf, max, NULL);
}

static void give_back(struct al_buf *buf)
{
	if (buf->data == NULL)
		return;
	al_wipe(buf->data, buf->cap);
	if (buf->safe == NULL)
		free(buf->data);
	else if (!safe_give(buf->safe, buf->data, buf->cap))
		buf->safe = NULL;
}

void al_buf_clear(struct al_buf *buf)
{
	give_back(buf);
	al_buf_init_in(buf, buf->max, buf->safe);
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
	data = buf->safe != NULL ? safe_take(buf->safe, cap) : malloc(cap);
	if (data == NULL)
		return false;
	if (buf->data != NULL)
		memcpy(data, buf->data, buf->len);
	give_back(buf);
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
	if (need >= 0 && !buf->failed && (size_t)need <= buf->max - buf->len && grow(buf, buf->len + (size_t)need)) {
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
	al_buf_init_in(from, from->max, from->safe);
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
