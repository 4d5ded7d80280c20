/* SPDX-License-Identifier: MIT
 * What a provider's metadata offers against what the config uses (RFC 8414, 2),
 * in sentences for the operator. Nothing here stops anything: metadata is often
 * incomplete, and the provider's answers tell in the end.
 */
#include "provider/provider_int.h"

#include <stdlib.h>
#include <string.h>

enum { ADVICE_MAX = 4096 };

static struct json_object *list_of(struct json_object *metadata, const char *name)
{
	struct json_object *list = NULL;

	if (!json_object_object_get_ex(metadata, name, &list) || !json_object_is_type(list, json_type_array))
		return NULL;
	return list;
}

bool al_json_list_has(struct json_object *list, const char *word)
{
	const size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < count; i++) {
		struct json_object *item = json_object_array_get_idx(list, i);

		if (json_object_is_type(item, json_type_string) && strcmp(json_object_get_string(item), word) == 0)
			return true;
	}
	return false;
}

static void compare(struct al_buf *advice, struct json_object *metadata, const char *list_name, const char *word,
	const char *used_as)
{
	struct json_object *list = list_of(metadata, list_name);

	if (list != NULL && !al_json_list_has(list, word))
		(void)al_buf_printf(advice, "%s is used as %s, but is not among the %s\n", word, used_as, list_name);
}

static const char *auth_name(enum al_client_auth method)
{
	static const char *const names[] = { "client_secret_basic", "client_secret_basic", "client_secret_post",
		"none" };

	return names[method];
}

static void compare_scope(struct al_buf *advice, struct json_object *metadata, const char *scope)
{
	struct al_buf word;

	al_buf_init(&word, strlen(scope) + 1);
	while (*scope != '\0') {
		size_t span = strcspn(scope, " ");

		if (span > 0 && al_buf_set(&word, scope, span))
			compare(advice, metadata, "scopes_supported", al_buf_text(&word), "a scope");
		scope += span;
		scope += strspn(scope, " ");
	}
	al_buf_clear(&word);
}

/* Basic and unnamed alike: RFC 8414 takes client_secret_basic if there is no list. */
static void compare_auth(struct al_buf *advice, const struct al_provider_config *config, struct json_object *metadata)
{
	static const char list[] = "token_endpoint_auth_methods_supported";

	compare(advice, metadata, list, auth_name(config->exchange_auth), "exchange_auth");
	if (config->refresh_auth != config->exchange_auth)
		compare(advice, metadata, list, auth_name(config->refresh_auth), "refresh_auth");
	compare(advice, metadata, "revocation_endpoint_auth_methods_supported", auth_name(config->revoke_auth),
		"revoke_auth");
}

al_rc al_offer_compare(
	const struct al_provider_config *config, struct json_object *metadata, char **advice, acctlink_error *err)
{
	struct al_buf text;
	al_rc rc = ACCTLINK_OK;

	if (metadata == NULL)
		return ACCTLINK_OK;
	al_buf_init(&text, ADVICE_MAX);
	compare_auth(&text, config, metadata);
	compare(&text, metadata, "grant_types_supported", "authorization_code", "a grant type");
	compare(&text, metadata, "grant_types_supported", "refresh_token", "a grant type");
	compare(&text, metadata, "response_types_supported", "code", "the response type");
	compare(&text, metadata, "response_modes_supported",
		config->response_mode == AL_MODE_FORM_POST ? "form_post" : "query", "response_mode");
	if (config->scope != NULL)
		compare_scope(&text, metadata, config->scope);
	if (text.len > 0) { /* a long list is cut at its bound */
		*advice = al_dup(al_buf_text(&text));
		if (*advice == NULL)
			rc = al_fail_memory(err);
	}
	al_buf_clear(&text);
	return rc;
}

/* ---- facts ------------------------------------------------------------------- */

static bool copy(char **to, const char *from)
{
	*to = from == NULL ? NULL : al_dup(from);
	return from == NULL || *to != NULL;
}

void al_facts_clear(struct al_facts *facts)
{
	free(facts->authorization_endpoint);
	free(facts->token_endpoint);
	free(facts->revocation_endpoint);
	free(facts->jwks_uri);
	free(facts->advice);
	memset(facts, 0, sizeof(*facts));
}

al_rc al_provider_facts(struct al_provider *provider, struct al_facts *facts, acctlink_error *err)
{
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	struct al_jwks *keys;
	bool done;

	memset(facts, 0, sizeof(*facts));
	if (endpoints == NULL)
		return al_fail(err, ACCTLINK_INTERNAL, "facts", "the provider is not ready");
	(void)pthread_mutex_lock(&provider->lock);
	keys = al_jwks_ref(provider->keys);
	(void)pthread_mutex_unlock(&provider->lock);
	facts->keys = keys == NULL ? 0 : al_jwks_count(keys);
	facts->algs = endpoints->algs;
	done = copy(&facts->authorization_endpoint, endpoints->authorization)
		&& copy(&facts->token_endpoint, endpoints->token)
		&& copy(&facts->revocation_endpoint, endpoints->revocation) && copy(&facts->jwks_uri, endpoints->jwks)
		&& copy(&facts->advice, endpoints->advice);
	al_jwks_free(&keys);
	al_endpoints_unref(&endpoints);
	if (done)
		return ACCTLINK_OK;
	al_facts_clear(facts);
	return al_fail_memory(err);
}
