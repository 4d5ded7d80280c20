/* SPDX-License-Identifier: MIT
 * Decides whether a URL may be used at all: https anywhere, http to loopback
 * only. Reads the host with libcurl's own parser, so that what is judged here
 * is what libcurl will connect to. Never resolves a name; keeps nothing.
 */
#include "net/net.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <string.h>

/* After "scheme://", or NULL. libcurl alone would take https:///x and make x the host. */
static const char *authority(const char *url)
{
	const char *colon = strchr(url, ':');

	if (colon == NULL || strncmp(colon, "://", 3) != 0 || colon[3] == '/')
		return NULL;
	return colon + 3;
}

static bool is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;
	char inside[INET6_ADDRSTRLEN];
	size_t len = strlen(host);

	if (curl_strequal(host, "localhost"))
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (len < 2 || host[0] != '[' || len - 2 >= sizeof(inside))
		return false;
	memcpy(inside, host + 1, len - 2);
	inside[len - 2] = '\0';
	return inet_pton(AF_INET6, inside, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* What is wrong with the text before libcurl looks at it, or NULL. */
static const char *flaw_of_text(const char *url)
{
	const char *host = authority(url);

	for (const char *at = url; *at != '\0'; at++)
		if (*at <= ' ' || *at >= 0x7f)
			return "holds a space, a control character or a byte that is not ASCII: percent-encode it";
	if (!curl_strnequal(url, "https:", 6) && !curl_strnequal(url, "http:", 5))
		return "is not an https URL";
	if (host == NULL)
		return "must have exactly two slashes and a host after its scheme";
	if (strchr(url, '#') != NULL)
		return "has a fragment: remove the '#' and what follows";
	if (memchr(host, '@', strcspn(host, "/?")) != NULL)
		return "has a user part before its host: remove it";
	return NULL;
}

bool al_url_is_plain(const char *url)
{
	CURLU *parts = curl_url();
	char *host = NULL;
	bool plain = false;

	if (parts != NULL && curl_strnequal(url, "http:", 5)
		&& curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK
		&& curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK)
		plain = is_loopback(host);
	curl_free(host);
	curl_url_cleanup(parts);
	return plain;
}

static al_rc check_parts(const char *url, const char *where, const char *shown, acctlink_error *err)
{
	CURLU *parts = curl_url();
	CURLUcode code;

	if (parts == NULL)
		return al_fail_memory(err);
	code = curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	curl_url_cleanup(parts);
	if (code == CURLUE_OUT_OF_MEMORY)
		return al_fail_memory(err);
	if (code != CURLUE_OK)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "the URL %s can't be used: %s", shown,
			curl_url_strerror(code));
	if (curl_strnequal(url, "http:", 5) && !al_url_is_plain(url))
		return al_fail(err, ACCTLINK_BAD_CONFIG, where,
			"the URL %s is not https; http is for 127.0.0.1, [::1] and localhost only", shown);
	return ACCTLINK_OK;
}

al_rc al_url_check(const char *url, const char *where, acctlink_error *err)
{
	const char *flaw = flaw_of_text(url);
	char shown[192];

	al_copy_url_safe(shown, sizeof(shown), url);
	if (where == NULL)
		where = shown;
	if (flaw != NULL)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "the URL %s %s", shown, flaw);
	return check_parts(url, where, shown, err);
}
