/* SPDX-License-Identifier: MIT
 * Fills the caller's error. Text from outside enters only through the bounded
 * copies below; nothing here allocates or locks.
 */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

enum { TOKEN_LIKE_RUN = 24, SECRET_PART = 8, QUOTED_MAX = 4096 };

void al_error_clear(acctlink_error *err)
{
	if (err != NULL)
		memset(err, 0, sizeof(*err));
}

al_rc(al_fail)(acctlink_error *err, al_rc rc, const char *where, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return rc;
	al_error_clear(err);
	err->status = rc;
	if (where != NULL)
		(void)snprintf(err->where, sizeof(err->where), "%s", where);
	va_start(ap, fmt);
	(void)vsnprintf(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	return rc;
}

al_rc(al_fail_memory)(acctlink_error *err)
{
	return al_fail(err, ACCTLINK_NO_MEMORY, NULL, "out of memory");
}

void al_copy_printable(char *to, size_t cap, const char *from, size_t len)
{
	size_t at = 0;

	if (cap == 0)
		return;
	for (size_t i = 0; i < len && at + 1 < cap; i++) {
		char c = from[i];

		to[at++] = c >= 0x20 && c < 0x7f ? c : '?';
	}
	to[at] = '\0';
}

/* ---- what may be quoted ----------------------------------------------------- */

static bool is_token_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
		|| (c != '\0' && strchr("_.~+/=-", c) != NULL);
}

static bool looks_like_token(const char *text, size_t len)
{
	size_t run = 0;

	for (size_t i = 0; i < len; i++) {
		run = is_token_char(text[i]) ? run + 1 : 0;
		if (run >= TOKEN_LIKE_RUN)
			return true;
	}
	return false;
}

/* Some of the registered error codes are longer than TOKEN_LIKE_RUN; no token
 * consists of small letters and underscores alone. */
static bool is_plain_word(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == ' ' || (is_token_char(text[i]) && (text[i] < 'a' || text[i] > 'z') && text[i] != '_'))
			return false;
	}
	return true;
}

/* Providers cut what they quote, so a part counts. Not of an error code, though:
 * a secret may be made of such words. */
static bool quotes(const char *text, size_t len, const struct al_buf *secret)
{
	size_t part = is_plain_word(text, len) || secret->len < SECRET_PART ? secret->len : SECRET_PART;

	for (size_t i = 0; part > 0 && i + part <= secret->len; i++) {
		if (memmem(text, len, secret->data + i, part) != NULL)
			return true;
	}
	return false;
}

bool al_may_quote_secret(const char *text, size_t len, const struct al_buf *const *secrets, size_t count)
{
	if (len > QUOTED_MAX)
		return true;
	for (size_t i = 0; i < count; i++) {
		if (secrets[i] != NULL && quotes(text, len, secrets[i]))
			return true;
	}
	return looks_like_token(text, len) && !is_plain_word(text, len);
}

void al_copy_url_safe(char *to, size_t cap, const char *url)
{
	const char *host = url + strcspn(url, ":/?#"); /* a query may hold "://" as well */
	size_t scheme_len;
	size_t len;
	const char *at;

	if (cap == 0)
		return;
	to[0] = '\0';
	host = strncmp(host, "://", 3) == 0 ? host + 3 : strncmp(url, "//", 2) == 0 ? url + 2 : url;
	scheme_len = (size_t)(host - url);
	len = strcspn(host, "?#");
	/* The user part ends at the last '@' before the path. */
	at = memrchr(host, '@', strcspn(host, "/?#"));
	if (at != NULL) {
		len -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	al_copy_printable(to, cap, url, scheme_len);
	al_copy_printable(to + strlen(to), cap - strlen(to), host, len);
}

const char *al_status_name(al_rc rc)
{
	switch (rc) {
	case ACCTLINK_OK: return "OK";
	case ACCTLINK_BAD_ARGUMENT: return "BAD_ARGUMENT";
	case ACCTLINK_BUFFER_TOO_SMALL: return "BUFFER_TOO_SMALL";
	case ACCTLINK_UNKNOWN_PROVIDER: return "UNKNOWN_PROVIDER";
	case ACCTLINK_BAD_CALLBACK: return "BAD_CALLBACK";
	case ACCTLINK_FOREIGN_CALLBACK: return "FOREIGN_CALLBACK";
	case ACCTLINK_FORKED: return "FORKED";
	case ACCTLINK_SHUT_DOWN: return "SHUT_DOWN";
	case ACCTLINK_NOT_LINKED: return "NOT_LINKED";
	case ACCTLINK_RELINK_REQUIRED: return "RELINK_REQUIRED";
	case ACCTLINK_DENIED: return "DENIED";
	case ACCTLINK_FLOW_EXPIRED: return "FLOW_EXPIRED";
	case ACCTLINK_FLOW_FAILED: return "FLOW_FAILED";
	case ACCTLINK_SUBJECT_CHANGED: return "SUBJECT_CHANGED";
	case ACCTLINK_TIMED_OUT: return "TIMED_OUT";
	case ACCTLINK_PROVIDER_DOWN: return "PROVIDER_DOWN";
	case ACCTLINK_STORE_DOWN: return "STORE_DOWN";
	case ACCTLINK_BAD_CONFIG: return "BAD_CONFIG";
	case ACCTLINK_CLIENT_REFUSED: return "CLIENT_REFUSED";
	case ACCTLINK_BAD_KEY: return "BAD_KEY";
	case ACCTLINK_BAD_STORE: return "BAD_STORE";
	case ACCTLINK_BAD_PROVIDER: return "BAD_PROVIDER";
	case ACCTLINK_INTERNAL: return "INTERNAL";
	case ACCTLINK_NO_MEMORY: return "NO_MEMORY";
	default: return "UNKNOWN";
	}
}
