/* SPDX-License-Identifier: MIT
 * The life of an al_provider: made with a config snapshot, counted, and told
 * apart from other providers by its fingerprint. Does no I/O. It keeps
 * its config alive; every fetch in flight keeps the provider.
 */
#include "provider/provider_int.h"

#include <stdlib.h>
#include <string.h>

al_rc al_provider_new(const struct al_provider_config *config, struct al_net *net, const struct al_log *log,
	const struct al_clock *clock, struct al_provider **out, acctlink_error *err)
{
	struct al_provider *provider;
	al_rc rc = ACCTLINK_OK;

	if (config->discovery && config->issuer == NULL)
		return al_fail(err, ACCTLINK_BAD_CONFIG, config->where, "provider %s: discovery needs an issuer",
			config->name);
	provider = al_new(sizeof(*provider));
	if (provider == NULL)
		return al_fail_memory(err);
	provider->config = config;
	provider->owner = config->of == NULL ? NULL : al_config_ref(config->of);
	provider->net = net;
	provider->log = log;
	provider->clock = clock;
	atomic_init(&provider->refs, 1);
	if (pthread_mutex_init(&provider->lock, NULL) != 0) {
		al_config_free(&provider->owner);
		free(provider);
		return al_fail(err, ACCTLINK_INTERNAL, config->where, "no mutex could be made");
	}
	if (!config->discovery)
		rc = al_endpoints_make(config, NULL, &provider->endpoints, err);
	if (rc != ACCTLINK_OK) {
		al_provider_unref(&provider);
		return rc;
	}
	*out = provider;
	return ACCTLINK_OK;
}

struct al_provider *al_provider_ref(struct al_provider *provider)
{
	atomic_fetch_add(&provider->refs, 1);
	return provider;
}

void al_provider_unref(struct al_provider **provider)
{
	struct al_provider *gone = *provider;

	*provider = NULL;
	if (gone == NULL || atomic_fetch_sub(&gone->refs, 1) != 1)
		return;
	al_endpoints_unref(&gone->endpoints);
	al_jwks_free(&gone->keys);
	(void)pthread_mutex_destroy(&gone->lock); /* can't fail: nobody is left to hold it */
	al_config_free(&gone->owner);
	free(gone);
}

const struct al_provider_config *al_provider_config(const struct al_provider *provider)
{
	return provider->config;
}

al_rc al_provider_fingerprint(const struct al_provider *provider, unsigned char out[32], acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	/* The kind is packed as well: an issuer may look like a token endpoint. */
	const char *kind = config->issuer != NULL ? "issuer" : "token_endpoint";
	const char *server = config->issuer != NULL ? config->issuer : config->token_endpoint;
	struct al_buf packed;
	al_rc rc;

	al_buf_init(&packed, strlen(kind) + strlen(server) + strlen(config->client_id) + 12);
	(void)al_pack(&packed, kind, strlen(kind));
	(void)al_pack(&packed, server, strlen(server));
	(void)al_pack(&packed, config->client_id, strlen(config->client_id));
	rc = packed.failed ? al_fail_memory(err) : al_sha256(packed.data, packed.len, out, err);
	al_buf_clear(&packed);
	return rc;
}
