/* SPDX-License-Identifier: MIT
 * What endpoints need to read a request and to fill an answer.
 */
#include "practice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- endpoints ------------------------------------------------------------------------ */

const char *pp_endpoint_name(enum pp_endpoint endpoint)
{
	static const char *const names[] = { [PP_DISCOVERY] = "discovery",
		[PP_JWKS] = "jwks",
		[PP_AUTH] = "auth",
		[PP_PAGE] = "page",
		[PP_TOKEN] = "token",
		[PP_REVOKE] = "revoke",
		[PP_API] = "api",
		[PP_OTHER] = "other" };

	return names[endpoint];
}

static bool is_data(const char *path)
{
	static const char *const first[] = { "accounts-info", "accounts", "balances", "transactions", "customers",
		"institutions" };
	const size_t len = strcspn(path + 1, "/");
	size_t i;

	for (i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		if (strlen(first[i]) == len && strncmp(path + 1, first[i], len) == 0)
			return true;
	}
	return false;
}

enum pp_endpoint pp_endpoint_of(const char *path)
{
	static const struct {
		const char *path;
		enum pp_endpoint endpoint;
	} known[] = { { "/jwks", PP_JWKS }, { "/keys", PP_JWKS }, { "/auth", PP_AUTH }, { "/token", PP_TOKEN },
		{ "/revoke", PP_REVOKE }, { "/token/revoke", PP_REVOKE }, { "/userinfo", PP_API }, { "/api", PP_API },
		{ "/", PP_PAGE }, { "/style.css", PP_PAGE } };
	size_t i;

	/* An issuer's path stands before it or after it. */
	if (strstr(path, "/.well-known/openid-configuration") != NULL)
		return PP_DISCOVERY;
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].path, path) == 0)
			return known[i].endpoint;
	}
	if (strncmp(path, "/bank/", 6) == 0)
		return PP_PAGE;
	return *path == '/' && is_data(path) ? PP_API : PP_OTHER;
}

/* ---- requests --------------------------------------------------------------------------- */

const char *pp_param(const struct pp_request *req, const char *name)
{
	return pp_text(req->params, name, NULL);
}

const char *pp_header(const struct pp_request *req, const char *name)
{
	return pp_text(req->headers, name, NULL);
}

/* ---- answers ------------------------------------------------------------------------------ */

void pp_answer_clear(struct pp_answer *answer)
{
	json_object_put(answer->json);
	json_object_put(answer->headers);
	free(answer->body);
	*answer = (struct pp_answer){ 0 };
}

void pp_answer_header(struct pp_answer *answer, const char *name, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		pp_die("out of memory");
	va_end(args);
	if (answer->headers == NULL)
		answer->headers = json_object_new_object();
	json_object_object_add(answer->headers, name, json_object_new_string(text));
	free(text);
}

void pp_answer_error(struct pp_answer *answer, int status, const char *error, const char *description)
{
	json_object_put(answer->json);
	free(answer->body);
	answer->body = NULL;
	answer->body_len = 0;
	answer->status = status;
	answer->json = json_object_new_object();
	json_object_object_add(answer->json, "error", json_object_new_string(error));
	if (description != NULL)
		json_object_object_add(answer->json, "error_description", json_object_new_string(description));
}

void pp_answer_html(struct pp_answer *answer, int status, char *page)
{
	json_object_put(answer->json);
	answer->json = NULL;
	free(answer->body);
	answer->body = page;
	answer->body_len = 0;
	answer->status = status;
	pp_answer_header(answer, "content-type", "text/html; charset=utf-8");
}
