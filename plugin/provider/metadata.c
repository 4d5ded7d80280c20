/* SPDX-License-Identifier: MIT
 * Where the provider's endpoints and keys are: its metadata (OpenID Connect
 * Discovery 1.0, 4) and its JWKS. One fetch serves all who wait; redirects are
 * not followed; a bad answer never replaces good keys or endpoints. The lock is
 * held for pointer work only, never while waiters are told.
 */
#include "provider/provider_int.h"

#include <stdlib.h>
#include <string.h>

#define DOCUMENT_MAX ((size_t)1024 * 1024)
#define PAUSE_AFTER_FAILURE_MS ((int64_t)1000)
#define METADATA_LIFE_MS ((int64_t)24 * 3600 * 1000)
static const char well_known[] = "/.well-known/openid-configuration";

/* ---- endpoints ------------------------------------------------------- */

struct al_endpoints *al_provider_endpoints(struct al_provider *provider)
{
	struct al_endpoints *endpoints;

	(void)pthread_mutex_lock(&provider->lock);
	endpoints = provider->endpoints;
	if (endpoints != NULL)
		atomic_fetch_add(&endpoints->refs, 1);
	(void)pthread_mutex_unlock(&provider->lock);
	return endpoints;
}

void al_endpoints_unref(struct al_endpoints **endpoints)
{
	struct al_endpoints *gone = *endpoints;

	*endpoints = NULL;
	if (gone == NULL || atomic_fetch_sub(&gone->refs, 1) != 1)
		return;
	free(gone->authorization);
	free(gone->token);
	free(gone->revocation);
	free(gone->jwks);
	free(gone->advice);
	free(gone);
}

bool al_provider_can_revoke(struct al_provider *provider)
{
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	bool can = endpoints != NULL ? endpoints->revocation != NULL : provider->config->revocation_endpoint != NULL;

	al_endpoints_unref(&endpoints);
	return can;
}

bool al_provider_sends_iss(struct al_provider *provider)
{
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	bool sends = endpoints != NULL && endpoints->iss_parameter;

	al_endpoints_unref(&endpoints);
	return sends;
}

/* Metadata may not send our secrets over plain HTTP, unless the issuer itself
 * is a plain one on loopback. */
static al_rc check_discovered(
	const struct al_provider_config *config, const char *name, const char *url, acctlink_error *err)
{
	if (al_url_check(url, name, NULL) != ACCTLINK_OK
		|| (al_url_is_plain(url) && !al_url_is_plain(config->issuer))) {
		char shown[200];

		al_copy_url_safe(shown, sizeof(shown), url);
		return al_fail(err, ACCTLINK_BAD_PROVIDER, config->issuer,
			"the %s of the provider's metadata is no usable https URL: %s", name, shown);
	}
	return ACCTLINK_OK;
}

/* The configured address, else the discovered one. */
static al_rc take_endpoint(const struct al_provider_config *config, const char *configured,
	struct json_object *metadata, const char *name, bool required, char **out, acctlink_error *err)
{
	size_t len = 0;
	const char *url = configured;
	al_rc rc;

	if (url == NULL && metadata != NULL) {
		url = al_json_string(metadata, name, &len);
		rc = url == NULL ? ACCTLINK_OK : check_discovered(config, name, url, err);
		if (rc != ACCTLINK_OK)
			return rc;
	}
	if (url == NULL) {
		if (!required)
			return ACCTLINK_OK;
		if (metadata == NULL)
			return al_fail(err, ACCTLINK_BAD_CONFIG, config->where, "provider %s: %s is missing",
				config->name, name);
		return al_fail(err, ACCTLINK_BAD_PROVIDER, config->issuer,
			"the provider's metadata has no %s: set it in the config", name);
	}
	*out = al_dup(url);
	return *out == NULL ? al_fail_memory(err) : ACCTLINK_OK;
}

static size_t list_length(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* json-c would write any other type out as text. */
static const char *list_word(struct json_object *list, size_t at)
{
	struct json_object *item = json_object_array_get_idx(list, at);

	return json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
}

static unsigned list_algs(struct json_object *list)
{
	unsigned algs = 0;

	for (size_t i = 0; i < list_length(list); i++)
		algs |= al_alg_from_name(list_word(list, i));
	return algs;
}

static al_rc take_algs(const struct al_provider_config *config, struct json_object *metadata,
	struct al_endpoints *endpoints, acctlink_error *err)
{
	struct json_object *list = NULL;

	endpoints->algs = config->algs != 0 ? config->algs : AL_ALG_RS256;
	if (config->algs != 0 || metadata == NULL
		|| !json_object_object_get_ex(metadata, "id_token_signing_alg_values_supported", &list))
		return ACCTLINK_OK;
	endpoints->algs = list_algs(list);
	if (endpoints->algs == 0 && config->id_token_expected)
		return al_fail(err, ACCTLINK_BAD_PROVIDER, config->issuer,
			"the provider signs id_tokens with none of RS256, PS256, ES256, EdDSA");
	return ACCTLINK_OK;
}

static al_rc check_pkce(const struct al_provider_config *config, struct json_object *metadata, acctlink_error *err)
{
	struct json_object *list = NULL;

	if (!config->pkce || metadata == NULL
		|| !json_object_object_get_ex(metadata, "code_challenge_methods_supported", &list)
		|| al_json_list_has(list, "S256"))
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BAD_PROVIDER, config->issuer,
		"the provider's metadata does not offer PKCE with S256: set pkce = false to go without");
}

static bool metadata_flag(struct json_object *metadata, const char *name)
{
	struct json_object *flag = NULL;

	return metadata != NULL && json_object_object_get_ex(metadata, name, &flag)
		&& json_object_is_type(flag, json_type_boolean) && json_object_get_boolean(flag);
}

static al_rc fill_endpoints(const struct al_provider_config *config, struct json_object *metadata,
	struct al_endpoints *endpoints, acctlink_error *err)
{
	al_rc rc;

	endpoints->iss_parameter = metadata_flag(metadata, "authorization_response_iss_parameter_supported");
	rc = take_endpoint(config, config->authorization_endpoint, metadata, "authorization_endpoint", true,
		&endpoints->authorization, err);
	if (rc == ACCTLINK_OK)
		rc = take_endpoint(
			config, config->token_endpoint, metadata, "token_endpoint", true, &endpoints->token, err);
	if (rc == ACCTLINK_OK)
		rc = take_endpoint(config, config->revocation_endpoint, metadata, "revocation_endpoint", false,
			&endpoints->revocation, err);
	if (rc == ACCTLINK_OK)
		rc = take_endpoint(config, config->jwks_uri, metadata, "jwks_uri", config->id_token_expected,
			&endpoints->jwks, err);
	if (rc == ACCTLINK_OK)
		rc = take_algs(config, metadata, endpoints, err);
	if (rc == ACCTLINK_OK)
		rc = check_pkce(config, metadata, err);
	return rc == ACCTLINK_OK ? al_offer_compare(config, metadata, &endpoints->advice, err) : rc;
}

al_rc al_endpoints_make(const struct al_provider_config *config, struct json_object *metadata,
	struct al_endpoints **out, acctlink_error *err)
{
	struct al_endpoints *endpoints = al_new(sizeof(*endpoints));
	al_rc rc;

	if (endpoints == NULL)
		return al_fail_memory(err);
	atomic_init(&endpoints->refs, 1);
	rc = fill_endpoints(config, metadata, endpoints, err);
	if (rc == ACCTLINK_OK)
		*out = endpoints;
	else
		al_endpoints_unref(&endpoints);
	return rc;
}

/* ---- fetching a document ---------------------------------------------- */

static bool is_passing(int status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

/* OK if a document came; what is in it is judged elsewhere. */
static al_rc check_arrival(const struct al_provider_config *config, const char *what, const char *where,
	const struct al_http_result *result, acctlink_error *err)
{
	int status = result->status;
	al_rc rc;

	if (result->too_large)
		rc = al_fail(err, ACCTLINK_BAD_PROVIDER, where, "the %s is larger than %zu bytes", what, DOCUMENT_MAX);
	else if (result->end != AL_HTTP_ANSWER)
		rc = al_fail(
			err, ACCTLINK_PROVIDER_DOWN, where, "the %s could not be fetched: %s", what, result->reason);
	else if (status == 200)
		return ACCTLINK_OK;
	else if (status >= 300 && status < 400)
		rc = al_fail(err, ACCTLINK_BAD_PROVIDER, where,
			"HTTP %d: the %s is redirected to %s, "
			"which is not followed: correct its address in the config",
			status, what, result->location);
	else
		rc = al_fail(err, is_passing(status) ? ACCTLINK_PROVIDER_DOWN : ACCTLINK_BAD_PROVIDER, where,
			"HTTP %d in place of the %s", status, what);
	if (err != NULL) {
		err->http_status = status;
		if (result->retry_after_ms > 0)
			err->retry_after_ms = result->retry_after_ms < config->retry_after_cap_ms
				? result->retry_after_ms
				: config->retry_after_cap_ms;
	}
	return rc;
}

/* The transfer holds a reference, which `done` gives back. */
static al_rc start_get(struct al_provider *provider, const char *url,
	void (*done)(void *ctx, struct al_http_result *result), acctlink_error *err)
{
	static const char *const headers[] = { "Accept: application/json", NULL };
	const struct al_provider_config *config = provider->config;
	struct al_provider *held = al_provider_ref(provider);
	struct al_http_request request;
	al_rc rc;

	memset(&request, 0, sizeof(request));
	request.url = url;
	request.ca_file = config->ca_file;
	request.headers = headers;
	request.connect_timeout_ms = config->connect_timeout_ms;
	request.timeout_ms = config->request_timeout_ms;
	request.max_body = DOCUMENT_MAX;
	rc = al_http_start(provider->net, &request, done, held, err);
	if (rc != ACCTLINK_OK)
		al_provider_unref(&held);
	return rc;
}

/* ---- waiters ------------------------------------------------------------ */

static void add_waiter_locked(struct al_wait **list, struct al_wait *wait)
{
	while (*list != NULL)
		list = &(*list)->next;
	wait->next = NULL;
	*list = wait;
}

/* `own` is the caller's wait, who learns of the failure by its return value. */
static struct al_wait *take_waiters_locked(struct al_wait **list, const struct al_wait *own)
{
	struct al_wait *all = *list;

	*list = NULL;
	for (struct al_wait **at = &all; *at != NULL; at = &(*at)->next) {
		if (*at == own) {
			*at = own->next;
			break;
		}
	}
	return all;
}

static void tell_waiters(struct al_wait *wait, al_rc rc, const acctlink_error *err)
{
	while (wait != NULL) {
		struct al_wait *next = wait->next; /* done may free it */

		wait->rc = rc;
		wait->err = *err;
		wait->done(wait->ctx);
		wait = next;
	}
}

static void log_failure(struct al_provider *provider, const acctlink_error *err)
{
	al_log(provider->log, ACCTLINK_LOG_WARNING, "provider %s: %s (%s)", provider->config->name, err->message,
		err->where);
}

/* ---- discovery ------------------------------------------------------------ */

/* OpenID Connect Discovery, 4.1: one slash at the end of the issuer is dropped
 * for this URL, and nowhere else. */
static char *metadata_url(const char *issuer)
{
	size_t len = strlen(issuer);
	char *url;

	if (len > 0 && issuer[len - 1] == '/')
		len--;
	url = malloc(len + sizeof(well_known));
	if (url == NULL)
		return NULL;
	memcpy(url, issuer, len);
	memcpy(url + len, well_known, sizeof(well_known));
	return url;
}

static al_rc check_issuer(const struct al_provider_config *config, struct json_object *metadata, acctlink_error *err)
{
	size_t len = 0;
	const char *issuer = al_json_string(metadata, "issuer", &len);
	char shown[200];

	if (issuer != NULL && strcmp(issuer, config->issuer) == 0)
		return ACCTLINK_OK;
	al_copy_printable(shown, sizeof(shown), issuer == NULL ? "" : issuer, len);
	return al_fail(err, ACCTLINK_BAD_PROVIDER, config->where,
		"the metadata of provider %s names "
		"the issuer \"%s\", the config \"%s\": they must be equal to the byte",
		config->name, shown, config->issuer);
}

static al_rc read_metadata(struct al_provider *provider, const struct al_http_result *result, struct al_endpoints **out,
	acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	struct json_object *metadata;
	al_rc rc;

	rc = check_arrival(config, "provider's metadata", config->issuer, result, err);
	if (rc != ACCTLINK_OK)
		return rc;
	metadata = al_json_parse(al_buf_text(&result->body), result->body.len, NULL);
	if (metadata == NULL)
		return al_fail(err, ACCTLINK_BAD_PROVIDER, config->issuer,
			"the provider's metadata is no JSON object: is this the right issuer?");
	rc = check_issuer(config, metadata, err);
	if (rc == ACCTLINK_OK)
		rc = al_endpoints_make(config, metadata, out, err);
	al_json_free(&metadata);
	return rc;
}

static void end_discovery(struct al_provider *provider, struct al_endpoints *fresh, al_rc rc, const acctlink_error *err,
	const struct al_wait *own)
{
	int64_t now = al_now(provider->clock).boot_ms;
	struct al_endpoints *old = NULL;
	struct al_wait *waiters;

	(void)pthread_mutex_lock(&provider->lock);
	provider->discovery_running = false;
	if (rc == ACCTLINK_OK) {
		old = provider->endpoints;
		provider->endpoints = fresh;
		provider->endpoints_until = al_add_ms(now, METADATA_LIFE_MS);
	} else {
		provider->next_discovery_at = al_add_ms(now, PAUSE_AFTER_FAILURE_MS);
		provider->discovery_error = *err;
	}
	waiters = take_waiters_locked(&provider->ready_waiters, own);
	(void)pthread_mutex_unlock(&provider->lock);
	al_endpoints_unref(&old);
	if (rc != ACCTLINK_OK)
		log_failure(provider, err);
	tell_waiters(waiters, rc, err);
}

static void discovery_done(void *ctx, struct al_http_result *result)
{
	struct al_provider *provider = ctx;
	struct al_endpoints *fresh = NULL;
	acctlink_error err;
	al_rc rc;

	al_error_clear(&err);
	rc = read_metadata(provider, result, &fresh, &err);
	end_discovery(provider, fresh, rc, &err, NULL);
	al_provider_unref(&provider);
}

static al_rc start_discovery(struct al_provider *provider, const struct al_wait *own, acctlink_error *err)
{
	char *url = metadata_url(provider->config->issuer);
	acctlink_error why;
	al_rc rc;

	al_error_clear(&why);
	rc = url == NULL ? al_fail_memory(&why) : start_get(provider, url, discovery_done, &why);
	free(url);
	if (rc == ACCTLINK_OK)
		return rc;
	end_discovery(provider, NULL, rc, &why, own);
	if (err != NULL)
		*err = why;
	return rc;
}

/* Whether the known endpoints should be looked up anew, behind the callers' backs. */
static bool is_stale_locked(const struct al_provider *provider, int64_t now)
{
	return provider->config->discovery && !provider->discovery_running && now >= provider->endpoints_until
		&& now >= provider->next_discovery_at;
}

static al_rc join_discovery_locked(
	struct al_provider *provider, struct al_wait *wait, int64_t now, bool *start, acctlink_error *err)
{
	if (!provider->discovery_running && now < provider->next_discovery_at) {
		if (err != NULL)
			*err = provider->discovery_error;
		return provider->discovery_error.status;
	}
	add_waiter_locked(&provider->ready_waiters, wait);
	*start = !provider->discovery_running;
	return AL_PENDING;
}

al_rc al_provider_ready(struct al_provider *provider, struct al_wait *wait, acctlink_error *err)
{
	int64_t now = al_now(provider->clock).boot_ms;
	bool start = false;
	al_rc started;
	al_rc rc = ACCTLINK_OK;

	(void)pthread_mutex_lock(&provider->lock);
	if (provider->endpoints == NULL)
		rc = join_discovery_locked(provider, wait, now, &start, err);
	else
		start = is_stale_locked(provider, now);
	provider->discovery_running = provider->discovery_running || start;
	(void)pthread_mutex_unlock(&provider->lock);
	if (!start)
		return rc;
	/* A failed look-up leaves known endpoints in force. */
	started = start_discovery(provider, rc == AL_PENDING ? wait : NULL, rc == AL_PENDING ? err : NULL);
	return started != ACCTLINK_OK && rc == AL_PENDING ? started : rc;
}

/* ---- keys ------------------------------------------------------------------ */

static al_rc read_keys(
	struct al_provider *provider, const struct al_http_result *result, struct al_jwks **out, acctlink_error *err)
{
	const struct al_provider_config *config = provider->config;
	struct al_jwks *keys = NULL;
	al_rc rc;

	rc = check_arrival(config, "JWKS", config->where, result, err);
	if (rc == ACCTLINK_OK)
		rc = al_jwks_parse(al_buf_text(&result->body), result->body.len, &keys, err);
	if (rc == ACCTLINK_OK && al_jwks_count(keys) == 0) {
		al_jwks_free(&keys);
		rc = al_fail(err, ACCTLINK_BAD_PROVIDER, config->where, "the JWKS of provider %s has no usable key",
			config->name);
	}
	*out = keys;
	return rc;
}

static void keep_keys_locked(struct al_provider *provider, int64_t now, int64_t max_age_ms)
{
	const struct al_provider_config *config = provider->config;
	int64_t life = config->jwks_max_age_ms;

	if (max_age_ms > 0 && max_age_ms < life)
		life = max_age_ms;
	provider->keys_fetched_at = now;
	provider->keys_until = al_add_ms(now, life);
	/* Keys that have ended may be fetched at once, whatever the interval. */
	provider->next_keys_at = al_add_ms(
		now, config->jwks_min_interval_ms < life ? config->jwks_min_interval_ms : life);
}

/* fresh: NULL after a failure, which leaves the keys at hand as they are. */
static void end_keys(struct al_provider *provider, struct al_jwks *fresh, int64_t max_age_ms, al_rc rc,
	const acctlink_error *err, const struct al_wait *own)
{
	int64_t now = al_now(provider->clock).boot_ms;
	struct al_jwks *old = NULL;
	struct al_wait *waiters;

	(void)pthread_mutex_lock(&provider->lock);
	provider->keys_running = false;
	if (fresh != NULL) {
		old = provider->keys;
		provider->keys = fresh;
		keep_keys_locked(provider, now, max_age_ms);
	} else {
		provider->next_keys_at = al_add_ms(now, PAUSE_AFTER_FAILURE_MS);
	}
	waiters = take_waiters_locked(&provider->key_waiters, own);
	(void)pthread_mutex_unlock(&provider->lock);
	al_jwks_free(&old);
	if (rc != ACCTLINK_OK)
		log_failure(provider, err);
	tell_waiters(waiters, rc, err);
}

static void keys_done(void *ctx, struct al_http_result *result)
{
	struct al_provider *provider = ctx;
	struct al_jwks *fresh = NULL;
	acctlink_error err;
	al_rc rc;

	al_error_clear(&err);
	rc = read_keys(provider, result, &fresh, &err);
	end_keys(provider, fresh, result->max_age_ms, rc, &err, NULL);
	al_provider_unref(&provider);
}

static al_rc start_keys(struct al_provider *provider, const char *url, const struct al_wait *own, acctlink_error *err)
{
	acctlink_error why;
	al_rc rc;

	al_error_clear(&why);
	rc = start_get(provider, url, keys_done, &why);
	if (rc == ACCTLINK_OK)
		return AL_PENDING;
	end_keys(provider, NULL, -1, rc, &why, own);
	if (err != NULL)
		*err = why;
	return rc;
}

static al_rc too_soon(const struct al_provider *provider, int64_t wait_ms, acctlink_error *err)
{
	al_rc rc = al_fail(err, ACCTLINK_PROVIDER_DOWN, provider->config->where,
		"the keys of provider %s were asked for a short while ago and are not asked for again yet",
		provider->config->name);

	if (err != NULL)
		err->retry_after_ms = wait_ms;
	return rc;
}

al_rc al_provider_fetch_keys(struct al_provider *provider, struct al_wait *wait, acctlink_error *err)
{
	int64_t now = al_now(provider->clock).boot_ms;
	struct al_endpoints *endpoints = al_provider_endpoints(provider);
	int64_t pause_ms = 0;
	bool start = false;
	al_rc rc = AL_PENDING;

	if (endpoints == NULL || endpoints->jwks == NULL) {
		al_endpoints_unref(&endpoints);
		return al_fail(err, ACCTLINK_BAD_PROVIDER, provider->config->where,
			"provider %s has no jwks_uri: id_tokens can't be checked", provider->config->name);
	}
	(void)pthread_mutex_lock(&provider->lock);
	if (!provider->keys_running && now < provider->next_keys_at) {
		pause_ms = provider->next_keys_at - now;
	} else {
		add_waiter_locked(&provider->key_waiters, wait);
		start = !provider->keys_running;
		provider->keys_running = true;
	}
	(void)pthread_mutex_unlock(&provider->lock);
	if (pause_ms > 0)
		rc = too_soon(provider, pause_ms, err);
	else if (start)
		rc = start_keys(provider, endpoints->jwks, wait, err);
	al_endpoints_unref(&endpoints);
	return rc;
}
