/* SPDX-License-Identifier: MIT
 * The consent URL (RFC 6749, 4.1.1; RFC 7636, 4.3; OpenID Connect Core,
 * 3.1.2.1). Only builds text; the browser carries it. Any thread.
 */
#include "provider/provider_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void put(struct al_buf *url, const char *name, const char *value)
{
	if (value != NULL && value[0] != '\0')
		(void)al_form_put_pair(url, name, value, strlen(value));
}

static void put_endpoint(struct al_buf *url, const char *endpoint)
{
	(void)al_buf_puts(url, endpoint);
	/* RFC 6749, 3.1: a query of the endpoint itself is kept. */
	if (strchr(endpoint, '?') == NULL)
		(void)al_buf_puts(url, "?");
}

static void put_max_age(struct al_buf *url, int64_t max_age_ms)
{
	char seconds[24];

	(void)snprintf(seconds, sizeof(seconds), "%" PRId64, max_age_ms / 1000);
	put(url, "max_age", seconds);
}

static void put_parameters(struct al_buf *url, const struct al_provider_config *config, const struct al_authorize *in)
{
	const struct al_config_pair *extra = config->authorize_parameters;

	put(url, "response_type", "code");
	put(url, "client_id", config->client_id);
	put(url, "redirect_uri", in->redirect_uri);
	put(url, "scope", in->scope);
	put(url, "state", in->state);
	put(url, "nonce", in->nonce);
	put(url, "code_challenge", in->code_challenge);
	put(url, "code_challenge_method", in->code_challenge == NULL ? NULL : "S256");
	if (config->response_mode == AL_MODE_FORM_POST)
		put(url, "response_mode", "form_post");
	if (config->max_age_ms > 0)
		put_max_age(url, config->max_age_ms);
	if (config->institution_parameter != NULL && in->institution.len > 0)
		(void)al_form_put_pair(url, config->institution_parameter, in->institution.data, in->institution.len);
	for (; extra != NULL && extra->name != NULL; extra++)
		(void)al_form_put_pair(url, extra->name, extra->value, strlen(extra->value));
}

al_rc al_authorize_url(
	struct al_provider *provider, const struct al_authorize *in, struct al_buf *url, acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	struct al_endpoints *endpoints;

	if (config->institution_required && in->institution.len == 0)
		return al_fail(
			err, ACCTLINK_BAD_ARGUMENT, config->where, "provider %s needs an institution", config->name);
	endpoints = al_provider_endpoints(provider);
	if (endpoints == NULL)
		return al_fail(err, ACCTLINK_INTERNAL, config->where, "provider %s: its endpoints are not known yet",
			config->name);
	al_buf_clear(url);
	put_endpoint(url, endpoints->authorization);
	put_parameters(url, config, in);
	al_endpoints_unref(&endpoints);
	if (url->failed) {
		size_t max = url->max;

		al_buf_clear(url);
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, config->where,
			"the consent URL is longer than %zu bytes: shorten scope or redirect_uri", max);
	}
	return ACCTLINK_OK;
}
