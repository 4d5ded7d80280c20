/* SPDX-License-Identifier: MIT
 * The one table of known keys: type, range, default and place in the structs.
 * The decoders, the error messages and the check of conf/acctlink.conf all go
 * by it, so a key that isn't here doesn't exist. Constant, hence any thread.
 */
#include "config/config_int.h"

#include <ctype.h>
#include <string.h>

#define OF_CONFIG(field) offsetof(struct al_config, field)
#define OF_PROVIDER(field) offsetof(struct al_provider_config, field)
#define OF_RULE(field) offsetof(struct al_definite_rule, field)
#define SECONDS(n) (INT64_C(1000) * (n))
#define DAYS(n) SECONDS(INT64_C(86400) * (n))
/* All a provider's section can say, a profile can say as well. */
#define IN_PROVIDER (AL_AT_PROVIDER | AL_AT_PROFILE | AL_AT_ENVIRONMENT)

/* clang-format off */
static const struct al_choice log_levels[] = {
	{ "error", ACCTLINK_LOG_ERROR }, { "warning", ACCTLINK_LOG_WARNING }, { "notice", ACCTLINK_LOG_NOTICE },
	{ "info", ACCTLINK_LOG_INFO }, { "debug", ACCTLINK_LOG_DEBUG }, { NULL, 0 }
};
static const struct al_choice auths[] = {
	{ "client_secret_basic", AL_AUTH_BASIC }, { "client_secret_basic_raw", AL_AUTH_BASIC_RAW },
	{ "client_secret_post", AL_AUTH_POST }, { "none", AL_AUTH_NONE }, { NULL, 0 }
};
static const struct al_choice bearers[] = {
	{ "access_token", AL_BEARER_ACCESS_TOKEN }, { "id_token", AL_BEARER_ID_TOKEN }, { NULL, 0 }
};
static const struct al_choice modes[] = {
	{ "query", AL_MODE_QUERY }, { "form_post", AL_MODE_FORM_POST }, { NULL, 0 }
};
static const struct al_choice sharings[] = {
	{ "allow", AL_SUBJECT_ALLOW }, { "move", AL_SUBJECT_MOVE }, { "refuse", AL_SUBJECT_REFUSE }, { NULL, 0 }
};
/* Ed25519 is RFC 9864's name for the one EdDSA that is in use. */
static const struct al_choice algs[] = {
	{ "RS256", AL_ALG_RS256 }, { "PS256", AL_ALG_PS256 }, { "ES256", AL_ALG_ES256 },
	{ "EdDSA", AL_ALG_EDDSA }, { "Ed25519", AL_ALG_EDDSA }, { NULL, 0 }
};

/* A key that sets several fields stands before those that set one of them. */
const struct al_key al_config_keys[] = {
	/* the top level */
	{ .name = "allow_readable_secrets", .places = AL_AT_TOP, .type = AL_KEY_BOOL,
	  .offset = OF_CONFIG(allow_readable_secrets), .standard = "false" },
	{ .name = "log_level", .places = AL_AT_TOP, .type = AL_KEY_CHOICE,
	  .offset = OF_CONFIG(log_level), .standard = "\"notice\"", .choices = log_levels },
	{ .name = "call_timeout", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(call_timeout_ms), .standard = "30", .min = 100, .max = SECONDS(3600) },
	{ .name = "shutdown_timeout", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(shutdown_timeout_ms), .standard = "10", .min = 0, .max = SECONDS(3600) },
	{ .name = "flow_lifetime", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(flow_lifetime_ms), .standard = "900", .min = SECONDS(1), .max = DAYS(1) },
	{ .name = "flow_result_lifetime", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(flow_result_lifetime_ms), .standard = "600", .min = SECONDS(1), .max = DAYS(1) },
	{ .name = "flows_per_user", .places = AL_AT_TOP, .type = AL_KEY_COUNT,
	  .offset = OF_CONFIG(flows_per_user), .standard = "20", .min = 1, .max = 1000 },
	{ .name = "poll_interval", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(poll_interval_ms), .standard = "1", .min = 10, .max = SECONDS(3600) },
	{ .name = "revocation_lifetime", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(revocation_lifetime_ms), .standard = "259200", .min = SECONDS(1), .max = DAYS(90) },
	{ .name = "audit_lifetime", .places = AL_AT_TOP, .type = AL_KEY_SECONDS,
	  .offset = OF_CONFIG(audit_lifetime_ms), .standard = "34560000", .min = 0, .max = DAYS(36500) },
	{ .name = "operator_bearer", .places = AL_AT_TOP, .type = AL_KEY_BOOL,
	  .offset = OF_CONFIG(operator_bearer), .standard = "true" },
	{ .name = "worker_threads", .places = AL_AT_TOP, .type = AL_KEY_COUNT,
	  .offset = OF_CONFIG(worker_threads), .standard = "4", .min = 1, .max = 64 },
	{ .name = "held_bearers", .places = AL_AT_TOP, .type = AL_KEY_COUNT,
	  .offset = OF_CONFIG(held_bearers), .standard = "50000", .min = 1, .max = 10000000 },
	{ .name = "store", .places = AL_AT_TOP, .type = AL_KEY_SECTION, .offset = AL_NO_FIELD },
	{ .name = "providers", .places = AL_AT_TOP, .type = AL_KEY_SECTION, .offset = AL_NO_FIELD },
	{ .name = "profiles", .places = AL_AT_TOP, .type = AL_KEY_SECTION, .offset = AL_NO_FIELD },

	/* store = { } */
	{ .name = "path", .places = AL_AT_STORE, .type = AL_KEY_PATH,
	  .offset = OF_CONFIG(store_path), .required = true },
	{ .name = "key_file", .places = AL_AT_STORE, .type = AL_KEY_PATHS,
	  .offset = OF_CONFIG(key_files), .required = true },
	{ .name = "key_files", .places = AL_AT_STORE, .type = AL_KEY_PATHS, .offset = OF_CONFIG(key_files) },

	/* a provider: who it is */
	{ .name = "profile", .places = AL_AT_PROVIDER, .type = AL_KEY_TEXT,
	  .offset = OF_PROVIDER(profile), .standard = "\"oidc\"" },
	{ .name = "base", .places = AL_AT_PROFILE, .type = AL_KEY_WORD,
	  .offset = AL_NO_FIELD, .standard = "\"oidc\"" },
	{ .name = "environment", .places = AL_AT_PROVIDER | AL_AT_PROFILE, .type = AL_KEY_WORD,
	  .offset = AL_NO_FIELD },
	{ .name = "environments", .places = AL_AT_PROFILE, .type = AL_KEY_SECTION, .offset = AL_NO_FIELD },
	{ .name = "issuer", .places = IN_PROVIDER, .type = AL_KEY_ISSUER, .offset = OF_PROVIDER(issuer) },
	{ .name = "discovery", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(discovery), .standard = "true" },
	{ .name = "authorization_endpoint", .places = IN_PROVIDER, .type = AL_KEY_ENDPOINT,
	  .offset = OF_PROVIDER(authorization_endpoint) },
	{ .name = "token_endpoint", .places = IN_PROVIDER, .type = AL_KEY_ENDPOINT,
	  .offset = OF_PROVIDER(token_endpoint) },
	{ .name = "revocation_endpoint", .places = IN_PROVIDER, .type = AL_KEY_ENDPOINT,
	  .offset = OF_PROVIDER(revocation_endpoint) },
	{ .name = "jwks_uri", .places = IN_PROVIDER, .type = AL_KEY_ENDPOINT, .offset = OF_PROVIDER(jwks_uri) },
	{ .name = "ca_file", .places = IN_PROVIDER, .type = AL_KEY_CA_FILE, .offset = OF_PROVIDER(ca_file) },

	/* who we are there */
	{ .name = "client_id", .places = IN_PROVIDER, .type = AL_KEY_TEXT,
	  .offset = OF_PROVIDER(client_id), .required = true },
	{ .name = "client_secret", .places = IN_PROVIDER, .type = AL_KEY_SECRET,
	  .offset = OF_PROVIDER(client_secret) },
	{ .name = "client_secret_file", .places = IN_PROVIDER, .type = AL_KEY_SECRET_FILE,
	  .offset = OF_PROVIDER(client_secret) },
	{ .name = "client_secret_credential", .places = IN_PROVIDER, .type = AL_KEY_CREDENTIAL,
	  .offset = OF_PROVIDER(client_secret) },
	{ .name = "redirect_uri", .places = IN_PROVIDER, .type = AL_KEY_REDIRECTS,
	  .offset = OF_PROVIDER(redirect_uris), .required = true },
	{ .name = "token_endpoint_auth_method", .places = IN_PROVIDER, .type = AL_KEY_ALL_AUTHS,
	  .offset = AL_NO_FIELD, .standard = "\"client_secret_basic\"", .choices = auths },
	{ .name = "exchange_auth", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(exchange_auth), .choices = auths },
	{ .name = "refresh_auth", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(refresh_auth), .choices = auths },
	{ .name = "revoke_auth", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(revoke_auth), .choices = auths },

	/* the consent */
	{ .name = "scope", .places = IN_PROVIDER, .type = AL_KEY_SCOPE,
	  .offset = OF_PROVIDER(scope), .standard = "\"openid offline_access\"" },
	{ .name = "institution_parameter", .places = IN_PROVIDER, .type = AL_KEY_TEXT,
	  .offset = OF_PROVIDER(institution_parameter) },
	{ .name = "institution_required", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(institution_required), .standard = "false" },
	{ .name = "authorize_parameters", .places = IN_PROVIDER, .type = AL_KEY_PAIRS,
	  .offset = OF_PROVIDER(authorize_parameters) },
	{ .name = "response_mode", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(response_mode), .standard = "\"query\"", .choices = modes },
	{ .name = "pkce", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(pkce), .standard = "true" },
	{ .name = "nonce", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(nonce), .standard = "true" },
	{ .name = "max_age", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(max_age_ms), .standard = "0", .min = 0, .max = DAYS(3650) },
	{ .name = "iss_parameter_required", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(iss_parameter_required), .standard = "false" },
	{ .name = "one_grant_per_user", .places = IN_PROVIDER, .type = AL_KEY_BOOL,
	  .offset = OF_PROVIDER(one_grant_per_user), .standard = "false" },
	{ .name = "shared_subject", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(shared_subject), .standard = "\"allow\"", .choices = sharings },

	/* tokens */
	{ .name = "bearer", .places = IN_PROVIDER, .type = AL_KEY_CHOICE,
	  .offset = OF_PROVIDER(bearer), .standard = "\"access_token\"", .choices = bearers },
	{ .name = "bearer_cap", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(bearer_cap_ms), .standard = "0", .min = 0, .max = DAYS(3650) },
	{ .name = "default_lifetime", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(default_lifetime_ms), .standard = "900", .min = SECONDS(1), .max = DAYS(3650) },
	{ .name = "bearer_margin", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(bearer_margin_ms), .standard = "120", .min = 0, .max = DAYS(1) },
	{ .name = "id_token_signed_response_alg", .places = IN_PROVIDER, .type = AL_KEY_ALGS,
	  .offset = OF_PROVIDER(algs), .choices = algs },
	{ .name = "clock_skew", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(clock_skew_ms), .standard = "300", .min = 0, .max = SECONDS(3600) },
	{ .name = "jwks_max_age", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(jwks_max_age_ms), .standard = "3600", .min = SECONDS(1), .max = DAYS(7) },
	{ .name = "jwks_min_interval", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(jwks_min_interval_ms), .standard = "60", .min = 0, .max = DAYS(1) },

	/* refreshing */
	{ .name = "definite_errors", .places = IN_PROVIDER, .type = AL_KEY_RULES,
	  .offset = OF_PROVIDER(definite), .standard = "( { error = \"invalid_grant\"; } )" },
	{ .name = "resend_margin", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(resend_margin_ms), .standard = "60", .min = 0, .max = DAYS(1) },
	{ .name = "reuse_window", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(reuse_window_ms), .standard = "0", .min = 0, .max = DAYS(1) },
	{ .name = "refresh_lifetime", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(refresh_lifetime_ms), .standard = "0", .min = 0, .max = DAYS(3650) },
	{ .name = "consent_lifetime", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(consent_lifetime_ms), .standard = "0", .min = 0, .max = DAYS(3650) },
	{ .name = "min_refresh_interval", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(min_refresh_interval_ms), .standard = "10", .min = 0, .max = DAYS(1) },
	{ .name = "retry_after_cap", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(retry_after_cap_ms), .standard = "3600", .min = SECONDS(1), .max = DAYS(7) },
	{ .name = "backoff_base", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(backoff_base_ms), .standard = "2", .min = 10, .max = SECONDS(3600) },
	{ .name = "backoff_cap", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(backoff_cap_ms), .standard = "300", .min = 10, .max = DAYS(1) },

	/* HTTP */
	{ .name = "connect_timeout", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(connect_timeout_ms), .standard = "10", .min = 100, .max = SECONDS(600) },
	{ .name = "request_timeout", .places = IN_PROVIDER, .type = AL_KEY_SECONDS,
	  .offset = OF_PROVIDER(request_timeout_ms), .standard = "30", .min = 100, .max = SECONDS(600) },

	/* an element of definite_errors */
	{ .name = "error", .places = AL_AT_RULE, .type = AL_KEY_TEXT, .offset = OF_RULE(error), .required = true },
	{ .name = "description_prefix", .places = AL_AT_RULE, .type = AL_KEY_TEXT,
	  .offset = OF_RULE(description_prefix) },
	{ .name = "status", .places = AL_AT_RULE, .type = AL_KEY_COUNT, .offset = OF_RULE(status),
	  .min = 400, .max = 499 },

	{ .name = NULL }
};

/* clang-format on */

const struct al_key *al_key_find(unsigned places, const char *name)
{
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++)
		if ((key->places & places) != 0 && strcmp(key->name, name) == 0)
			return key;
	return NULL;
}

enum { NAME_MAX_LEN = 63 };

/* Levenshtein's distance, without regard to case; both at most NAME_MAX_LEN long. */
static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_MAX_LEN + 1];
	size_t width = strlen(b);

	for (size_t j = 0; j <= width; j++)
		row[j] = j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < width; j++) {
			bool same = tolower((unsigned char)a[i]) == tolower((unsigned char)b[j]);
			size_t best = diagonal + (same ? 0 : 1);

			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (diagonal + 1 < best)
				best = diagonal + 1;
			row[j + 1] = best;
		}
	}
	return row[width];
}

/* A third of the letters may be wrong; beyond that a hint misleads. */
size_t al_key_reach(const char *name)
{
	return strlen(name) / 3 + 2;
}

void al_key_nearer(const char *name, const char *known, const char **best, size_t *least)
{
	size_t far;

	if (strlen(name) > NAME_MAX_LEN || strlen(known) > NAME_MAX_LEN)
		return;
	far = distance(name, known);
	if (far < *least) {
		*least = far;
		*best = known;
	}
}

const char *al_key_nearest(unsigned places, const char *name)
{
	const char *best = NULL;
	size_t least = al_key_reach(name);

	for (const struct al_key *key = al_config_keys; key->name != NULL; key++)
		if ((key->places & places) != 0)
			al_key_nearer(name, key->name, &best, &least);
	return best;
}

const char *al_place_name(unsigned places)
{
	if (places & AL_AT_TOP)
		return "the top level of the file";
	if (places & AL_AT_STORE)
		return "store = { }";
	if (places & AL_AT_PROVIDER)
		return "a provider's section";
	if (places & AL_AT_PROFILE)
		return "a profile";
	if (places & AL_AT_ENVIRONMENT)
		return "an environment of a profile";
	return "an element of definite_errors";
}

bool al_key_put_defaults(struct al_buf *to)
{
	static const struct {
		const char *name;
		unsigned place;
	} groups[] = { { "top", AL_AT_TOP }, { "provider", AL_AT_PROVIDER } };

	for (size_t i = 0; i < AL_COUNT(groups); i++) {
		(void)al_buf_printf(to, "%s = {\n", groups[i].name);
		for (const struct al_key *key = al_config_keys; key->name != NULL; key++)
			if ((key->places & groups[i].place) != 0 && key->standard != NULL)
				(void)al_buf_printf(to, "%s = %s;\n", key->name, key->standard);
		(void)al_buf_puts(to, "};\n");
	}
	return !to->failed;
}
