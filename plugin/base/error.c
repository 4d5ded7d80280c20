/* SPDX-License-Identifier: MIT
 * Fills the caller's error. Text from outside enters only through the bounded
 * copies below; nothing here allocates or locks.
 */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

void al_error_clear(acctlink_error *err)
{
	if (err != NULL)
		memset(err, 0, sizeof(*err));
}

al_rc al_fail(acctlink_error *err, al_rc rc, const char *where, const char *fmt, ...)
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

al_rc al_fail_memory(acctlink_error *err)
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
