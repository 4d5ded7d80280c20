/* SPDX-License-Identifier: MIT
 * Whether a URL of the config may be used: https, or http to a loopback
 * address. Looks nothing up and keeps nothing.
 */
#include "config/config_int.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool host_is_good(const char *host)
{
	struct in6_addr v6;
	char inner[64];
	size_t len = strlen(host);

	if (host[0] == '[' && len > 2 && len < sizeof(inner) && host[len - 1] == ']') {
		(void)snprintf(inner, sizeof(inner), "%.*s", (int)len - 2, host + 1);
		return inet_pton(AF_INET6, inner, &v6) == 1;
	}
	return len > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len;
}

static bool port_is_good(const char *port)
{
	size_t len = strspn(port, "0123456789");
	long number = len > 0 && len <= 5 ? strtol(port, NULL, 10) : 0;

	return port[len] == '\0' && number > 0 && number <= 65535;
}

/* host or host:port, split in place. */
static const char *authority_fault(char *authority, bool plain)
{
	char *end = authority[0] == '[' ? strchr(authority, ']') : authority;
	char *colon = end == NULL ? NULL : strchr(end, ':');

	if (strchr(authority, '@') != NULL)
		return "must not have a user name or password in it";
	if (colon != NULL) {
		*colon = '\0';
		if (!port_is_good(colon + 1))
			return "has no valid port";
	}
	if (!host_is_good(authority))
		return "has no valid host name";
	if (plain && !is_loopback(authority))
		return "must begin with https:// (http:// is for a loopback address only)";
	return NULL;
}

const char *al_url_fault(const char *url, unsigned flags)
{
	bool plain = strncmp(url, "http://", 7) == 0;
	const char *host = url + (plain ? 7 : 8);
	char authority[300];
	size_t len;

	if (!plain && strncmp(url, "https://", 8) != 0)
		return "must begin with https:// (http:// is for a loopback address only)";
	for (const char *c = url; *c != '\0'; c++)
		if (*c <= 0x20 || *c >= 0x7f || strchr("\"<>\\^`{|}", *c) != NULL)
			return "has a character in it that must be percent-encoded (RFC 3986)";
	if (strchr(url, '#') != NULL)
		return "must not have a fragment (#) in it";
	if ((flags & AL_URL_NO_QUERY) != 0 && strchr(url, '?') != NULL)
		return "must not have a query (?) in it";
	len = strcspn(host, "/?");
	if (len >= sizeof(authority))
		return "has no valid host name";
	(void)snprintf(authority, sizeof(authority), "%.*s", (int)len, host);
	return authority_fault(authority, plain);
}
