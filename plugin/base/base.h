/* SPDX-License-Identifier: MIT
 * The base room: errors, log, clocks, chance, buffers and codecs. Used by all
 * rooms, uses none. Everything here is safe to call from any thread; a single
 * object (al_buf) belongs to one thread at a time.
 */
#ifndef AL_BASE_H
#define AL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>

#include "acctlink.h"

/* The status of the public header is used inside as well. */
typedef acctlink_status al_rc;
#define AL_MUST_USE __attribute__((warn_unused_result))
#define AL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define AL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Inside only, never returned to a host. */
enum { AL_PENDING = 1, AL_CONFLICT = 2, AL_ABSENT = 3 };

struct al_buf;

/* ---- error.c --------------------------------------------------------- */
/* Fills *err (may be NULL) and returns rc, so that a failing function ends
 * with `return al_fail(…)`. where may be NULL. Never pass a secret. */
al_rc al_fail(acctlink_error *err, al_rc rc, const char *where, const char *fmt, ...) AL_PRINTF(4, 5);
al_rc al_fail_memory(acctlink_error *err);
void al_error_clear(acctlink_error *err);
/* Copies printable ASCII only, at most cap - 1 bytes: for text from outside. */
void al_copy_printable(char *to, size_t cap, const char *from, size_t len);
/* True if a text from outside may quote a secret: one of these (NULL is skipped),
 * whole or a part of it, or anything that looks like a token. */
bool al_may_quote_secret(const char *text, size_t len, const struct al_buf *const *secrets, size_t count);
/* scheme, host, port and path of a URL, without user, query and fragment. */
void al_copy_url_safe(char *to, size_t cap, const char *url);
const char *al_status_name(al_rc rc);

/* ---- log.c ----------------------------------------------------------- */
struct al_log {
	void (*write)(void *ctx, int32_t level, const char *message); /* NULL: syslog */
	void *ctx;
	int32_t max_level;
};
void al_log(const struct al_log *log, int32_t level, const char *fmt, ...) AL_PRINTF(3, 4);

/* ---- clock.c --------------------------------------------------------- */
struct al_clock {
	void (*read)(void *ctx, acctlink_time *now); /* NULL: the system's clocks */
	void *ctx;
};
acctlink_time al_now(const struct al_clock *clock);
/* CLOCK_MONOTONIC in milliseconds; for waiting only, never replaced by tests. */
int64_t al_monotonic_ms(void);
/* a + b without overflow, for times and lengths from outside. */
int64_t al_add_ms(int64_t a, int64_t b);

/* ---- random.c -------------------------------------------------------- */
/* getrandom(2); has no state, so it is safe after fork. */
al_rc al_random(void *to, size_t len, acctlink_error *err) AL_MUST_USE;
/* len random bytes as base64url text; to holds at least len * 4 / 3 + 3. */
al_rc al_random_text(char *to, size_t cap, size_t len, acctlink_error *err) AL_MUST_USE;

/* ---- secret.c: the one buffer type ----------------------------------- */
/* Grows up to max, always ended by a NUL that len does not count, wiped when
 * it grows, is cleared or freed. A zeroed al_buf is empty with max 0; give it
 * its bound with al_buf_init. */
struct al_buf {
	char *data;
	size_t len;
	size_t cap;
	size_t max;
	struct al_safe *safe; /* NULL: the heap */
	bool failed;          /* an append failed: over max, or no memory */
};
void al_buf_init(struct al_buf *buf, size_t max);
void al_buf_clear(struct al_buf *buf); /* wipes and frees; keeps max and safe */
bool al_buf_put(struct al_buf *buf, const void *data, size_t len);
bool al_buf_puts(struct al_buf *buf, const char *text);
bool al_buf_printf(struct al_buf *buf, const char *fmt, ...) AL_PRINTF(2, 3);
/* Replaces the contents. */
bool al_buf_set(struct al_buf *buf, const void *data, size_t len);
bool al_buf_copy(struct al_buf *to, const struct al_buf *from);
void al_buf_move(struct al_buf *to, struct al_buf *from);          /* the safe of `from` comes along */
bool al_buf_equal(const struct al_buf *a, const struct al_buf *b); /* constant time */
const char *al_buf_text(const struct al_buf *buf);                 /* "" when empty */
/* Memory for what is held for long: core dumps leave it out, and if `lock` it is
 * not swapped out as far as the limits allow. Has a lock of its own. It lasts
 * until al_safe_free was called and its last buffer was cleared. */
struct al_safe;
struct al_safe *al_safe_new(bool lock); /* NULL: no memory */
void al_safe_free(struct al_safe **safe);
void al_buf_init_in(struct al_buf *buf, size_t max, struct al_safe *safe);
void al_wipe(void *data, size_t len);
/* Constant time in len. */
bool al_equal(const void *a, const void *b, size_t len);
/* calloc and strdup with wiping ends. al_free_text wipes and frees. */
void *al_new(size_t size);
char *al_dup(const char *text);
char *al_dup_len(const char *text, size_t len);
void al_free_text(char **text);

/* ---- codec.c --------------------------------------------------------- */
/* Canonical, unpadded base64url (RFC 4648, 5): decoding refuses padding,
 * white space and loose trailing bits. */
bool al_base64url_put(struct al_buf *to, const void *data, size_t len);
bool al_base64url_decode(struct al_buf *to, const char *text, size_t len);
bool al_base64_put(struct al_buf *to, const void *data, size_t len); /* padded, for Basic */
void al_hex(char *to, const void *data, size_t len);                 /* 2 * len + 1 bytes */
bool al_hex_decode(struct al_buf *to, const char *text, size_t len); /* of either case */
/* application/x-www-form-urlencoded: space becomes '+', upper-case triplets. */
bool al_form_put_encoded(struct al_buf *to, const char *text, size_t len);
/* name=value, with '&' before it unless the buffer is empty or ends in '?'. */
bool al_form_put_pair(struct al_buf *to, const char *name, const char *value, size_t len);
/* Decodes '+' and %XX; false for a broken triplet or a NUL. */
bool al_form_decode(struct al_buf *to, const char *text, size_t len);
/* Steps through name=value pairs; *at starts at 0. False at the end. Raw, undecoded. */
bool al_form_next(const char *text, size_t len, size_t *at, acctlink_str *name, acctlink_str *value);
bool al_utf8_valid(const char *text, size_t len); /* strict, no NUL */
al_rc al_sha256(const void *data, size_t len, unsigned char out[32], acctlink_error *err) AL_MUST_USE;

/* Length-prefixed fields, for sealed blobs and keys that must be injective. */
bool al_pack_u64(struct al_buf *to, uint64_t value);
bool al_pack(struct al_buf *to, const void *data, size_t len); /* u32 length, bytes */
struct al_unpack {
	const unsigned char *data;
	size_t len;
	size_t at;
	bool failed;
};
uint64_t al_unpack_u64(struct al_unpack *from);
acctlink_str al_unpack_field(struct al_unpack *from);

static inline acctlink_str al_str(const char *text)
{
	size_t len = 0;
	acctlink_str out;

	while (text != NULL && text[len] != '\0')
		len++;
	out.data = text;
	out.len = len;
	return out;
}
static inline acctlink_str al_buf_str(const struct al_buf *buf)
{
	acctlink_str str = { al_buf_text(buf), buf->len };

	return str;
}
bool al_str_is(acctlink_str a, const char *text); /* plain compare, not for secrets */

#endif
