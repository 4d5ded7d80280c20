/* SPDX-License-Identifier: MIT
 * What is sent to the token and revocation endpoints (RFC 6749, 4.1.3 and 6;
 * RFC 7009). Never sends twice. No state and no lock; any thread.
 */
#include "provider/provider_int.h"

#include <string.h>

#define REQUEST_MAX (3 * AL_TOKEN_MAX + (size_t)256 * 1024)

/* One POST of `body` with the client's credentials. */
static al_rc post_form(struct al_provider *provider, const char *url, enum al_client_auth auth, struct al_buf *body,
	struct al_http_request *request, void (*done)(void *ctx, struct al_http_result *result), void *ctx,
	acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	const char *headers[] = { "Accept: application/json", NULL, NULL };
	struct al_buf header;
	al_rc rc;

	al_buf_init(&header, 0);
	rc = al_client_auth_add(config, auth, body, &header, err);
	if (rc == ACCTLINK_OK && body->failed)
		rc = al_fail_memory(err);
	if (rc != ACCTLINK_OK)
		goto out;
	if (header.len > 0)
		headers[1] = header.data;
	request->url = url;
	request->ca_file = config->ca_file;
	/* cppcheck-suppress autoVariables ; al_http_start copies them */
	request->headers = headers;
	request->connect_timeout_ms = config->connect_timeout_ms;
	request->timeout_ms = config->request_timeout_ms;
	request->max_body = AL_ANSWER_MAX;
	al_buf_move(&request->body, body);
	rc = al_http_start(provider->net, request, done, ctx, err);
	al_buf_clear(&request->body);
out:
	al_buf_clear(&header);
	return rc;
}

static void put(struct al_buf *body, const char *name, const char *value, size_t len)
{
	(void)al_form_put_pair(body, name, value, len);
}

static void put_buf(struct al_buf *body, const char *name, const struct al_buf *value)
{
	put(body, name, al_buf_text(value), value->len);
}

static void put_grant(struct al_buf *body, const struct al_token_request *request)
{
	if (request->grant == AL_GRANT_REFRESH) {
		put(body, "grant_type", "refresh_token", strlen("refresh_token"));
		put_buf(body, "refresh_token", request->refresh_token);
		return;
	}
	put(body, "grant_type", "authorization_code", strlen("authorization_code"));
	put_buf(body, "code", request->code);
	put(body, "redirect_uri", request->redirect_uri, strlen(request->redirect_uri));
	if (request->code_verifier != NULL && request->code_verifier->len > 0)
		put_buf(body, "code_verifier", request->code_verifier);
}

static al_rc not_ready(const struct al_provider *provider, acctlink_error *err)
{
	return al_fail(err, ACCTLINK_INTERNAL, provider->config->where, "provider %s: its endpoints are not known yet",
		provider->config->name);
}

al_rc al_token_start(struct al_provider *provider, const struct al_token_request *request,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	struct al_http_request http;
	struct al_buf body;
	al_rc rc;

	if (endpoints == NULL)
		return not_ready(provider, err);
	memset(&http, 0, sizeof(http));
	http.may_send = request->may_send;
	http.may_send_ctx = request->may_send_ctx;
	al_buf_init(&body, REQUEST_MAX);
	put_grant(&body, request);
	rc = post_form(provider, endpoints->token,
		request->grant == AL_GRANT_REFRESH ? config->refresh_auth : config->exchange_auth, &body, &http, done,
		ctx, err);
	al_buf_clear(&body);
	al_endpoints_unref(&endpoints);
	return rc;
}

al_rc al_revoke_start(struct al_provider *provider, const struct al_buf *token, const char *hint,
	void (*done)(void *ctx, struct al_http_result *result), void *ctx, acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	struct al_http_request http;
	struct al_buf body;
	al_rc rc;

	if (endpoints == NULL)
		return not_ready(provider, err);
	if (endpoints->revocation == NULL) {
		al_endpoints_unref(&endpoints);
		return al_fail(err, ACCTLINK_BAD_PROVIDER, config->where, "provider %s has no revocation endpoint",
			config->name);
	}
	memset(&http, 0, sizeof(http));
	al_buf_init(&body, REQUEST_MAX);
	put_buf(&body, "token", token);
	put(&body, "token_type_hint", hint, strlen(hint));
	rc = post_form(provider, endpoints->revocation, config->revoke_auth, &body, &http, done, ctx, err);
	al_buf_clear(&body);
	al_endpoints_unref(&endpoints);
	return rc;
}
