/* SPDX-License-Identifier: MIT
 * What the loopback receiver reads: the redirect URI, and the request that a
 * browser makes of it (RFC 9112). Pure text work: no sockets, no state. What a
 * browser never sends is refused: folded lines, a header that counts twice,
 * bodies in chunks.
 */
#include "loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the redirect URI ------------------------------------------------------- */

/* Browsers leave the default port out, whether the URI has it or not. */
static size_t without_default_port(const char *authority, size_t len)
{
	return len > 3 && strncmp(authority + len - 3, ":80", 3) == 0 ? len - 3 : len;
}

static bool read_port(const char *text, uint16_t *port)
{
	const size_t len = strspn(text, "0123456789");
	const long number = len > 0 && len <= 5 ? strtol(text, NULL, 10) : 0;

	*port = (uint16_t)number;
	return text[len] == '\0' && number > 0 && number <= 65535;
}

static bool read_host(struct loopback_target *target, const char *host)
{
	target->v4_address.s_addr = htonl(INADDR_LOOPBACK);
	target->v6 = strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
	target->v4 = host[0] != '[' && (target->v6 || inet_pton(AF_INET, host, &target->v4_address) == 1);
	return target->v6 || (target->v4 && ntohl(target->v4_address.s_addr) >> 24 == 127);
}

bool loopback_read_uri(struct loopback_target *target, const char *uri)
{
	const char *authority = uri + strlen("http://");
	char host[sizeof(target->authority)];
	size_t len;
	char *colon;

	memset(target, 0, sizeof(*target));
	if (strncmp(uri, "http://", strlen("http://")) != 0)
		return false;
	len = strcspn(authority, "/?#");
	uri = authority + len;
	if (len >= sizeof(host) || strcspn(uri, "?#") >= sizeof(target->path) - 1)
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)len, authority);
	snprintf(target->authority, sizeof(target->authority), "%.*s", (int)without_default_port(host, len), host);
	snprintf(target->path, sizeof(target->path), "%s%.*s", *uri == '/' ? "" : "/", (int)strcspn(uri, "?#"), uri);
	colon = strrchr(host, ':');
	if (colon == NULL || colon[strcspn(colon, "]")] == ']')
		target->port = 80;
	else if (!read_port(colon + 1, &target->port))
		return false;
	else
		*colon = '\0';
	return read_host(target, host);
}

/* ---- one request --------------------------------------------------------------- */

static void take_header(struct loopback_request *request, const char *name, const char *value)
{
	const char **at = strcasecmp(name, "host") == 0   ? &request->host
		: strcasecmp(name, "content-type") == 0   ? &request->type
		: strcasecmp(name, "content-length") == 0 ? &request->length
							  : NULL;

	if (strcasecmp(name, "transfer-encoding") == 0 || (at != NULL && *at != NULL))
		request->bad = true;
	else if (at != NULL)
		*at = value;
}

static void read_header(struct loopback_request *request, char *line)
{
	char *colon = strchr(line, ':');
	char *value;

	if (colon == NULL || colon == line || strcspn(line, " \t") < (size_t)(colon - line)) {
		request->bad = true;
		return;
	}
	*colon = '\0';
	value = colon + 1 + strspn(colon + 1, " \t");
	for (colon = value + strlen(value); colon > value && (colon[-1] == ' ' || colon[-1] == '\t'); colon--)
		colon[-1] = '\0';
	take_header(request, line, value);
}

static void read_first_line(struct loopback_request *request, char *line)
{
	char *version;

	request->method = line;
	request->target = strchr(line, ' ');
	version = request->target == NULL ? NULL : strchr(request->target + 1, ' ');
	if (version == NULL || (strcmp(version, " HTTP/1.1") != 0 && strcmp(version, " HTTP/1.0") != 0)
		|| request->target[1] != '/') {
		request->bad = true;
		return;
	}
	*version = '\0';
	*request->target++ = '\0';
}

/* The length of the body, or -1. */
static long body_length(const struct loopback_request *request)
{
	const char *text = request->length != NULL ? request->length : "0";
	const size_t len = strspn(text, "0123456789");

	return len > 0 && len <= 6 && text[len] == '\0' ? strtol(text, NULL, 10) : -1;
}

bool loopback_read_head(struct loopback_request *request, char *head, size_t len)
{
	char *end;
	long body;

	memset(request, 0, sizeof(*request));
	request->bad = memchr(head, '\0', len) != NULL;
	for (; !request->bad && (end = memmem(head, len, "\r\n", 2)) != NULL; head = end + 2) {
		len -= (size_t)(end + 2 - head);
		*end = '\0';
		if (request->method == NULL)
			read_first_line(request, head);
		else
			read_header(request, head);
	}
	body = request->bad ? -1 : body_length(request);
	request->body_len = body > 0 ? (size_t)body : 0;
	return body >= 0;
}

static bool host_is_ours(const struct loopback_target *ours, const char *host)
{
	const size_t len = host == NULL ? 0 : without_default_port(host, strlen(host));

	return len > 0 && len == strlen(ours->authority) && strncasecmp(host, ours->authority, len) == 0;
}

static bool is_form(const char *type)
{
	static const char form[] = "application/x-www-form-urlencoded";

	return type != NULL && strncasecmp(type, form, sizeof(form) - 1) == 0
		&& strchr("; \t", type[sizeof(form) - 1]) != NULL;
}

const char *loopback_find_params(const struct loopback_target *ours, struct loopback_request *request, const char *body,
	const char **params, size_t *len)
{
	char *query = strchr(request->target, '?');

	if (query != NULL)
		*query++ = '\0';
	/* A page of another site may know our port by a name of its own (DNS rebinding). */
	if (!host_is_ours(ours, request->host))
		return "400 Bad Request";
	if (strcmp(request->target, ours->path) != 0)
		return "404 Not Found";
	if (strcmp(request->method, "POST") == 0) {
		if (!is_form(request->type))
			return "415 Unsupported Media Type";
		*params = body;
		*len = request->body_len;
	} else if (strcmp(request->method, "GET") == 0) {
		*params = query != NULL ? query : "";
		*len = strlen(*params);
	} else {
		return "405 Method Not Allowed";
	}
	return *len > 0 ? NULL : "400 Bad Request";
}
