/* SPDX-License-Identifier: MIT
 * Metadata (OpenID Connect Discovery 1.0; RFC 8414) and keys (RFC 7517).
 */
#include "practice.h"

#include <stdlib.h>
#include <string.h>

static void put_text(json_object *json, const char *name, const char *text)
{
	json_object_object_add(json, name, json_object_new_string(text));
}

static void put_url(json_object *json, const char *name, const char *base, const char *path)
{
	char *url = pp_printf("%s%s", base, path);

	put_text(json, name, url);
	free(url);
}

static void put_list(json_object *json, const char *name, const char *const *words)
{
	json_object *list = json_object_new_array();

	for (; *words != NULL; words++)
		json_object_array_add(list, json_object_new_string(*words));
	json_object_object_add(json, name, list);
}

void pp_discovery(struct pp_request *req, struct pp_answer *answer)
{
	static const char *const code[] = { "code", NULL };
	static const char *const modes[] = { "query", "form_post", NULL };
	static const char *const subjects[] = { "public", NULL };
	static const char *const challenges[] = { "S256", NULL };
	static const char *const methods[] = { "client_secret_basic", "client_secret_post", "none", NULL };
	json_object *json = json_object_new_object();
	char *issuer = pp_issuer();

	(void)req;
	put_text(json, "issuer", issuer);
	put_url(json, "authorization_endpoint", pp_front_url(), "/auth");
	put_url(json, "token_endpoint", pp_base_url(), "/token");
	put_url(json, "revocation_endpoint", pp_base_url(), "/revoke");
	put_url(json, "userinfo_endpoint", pp_base_url(), "/userinfo");
	put_url(json, "jwks_uri", pp_base_url(), "/jwks");
	put_list(json, "response_types_supported", code);
	put_list(json, "response_modes_supported", modes);
	put_list(json, "subject_types_supported", subjects);
	put_list(json, "code_challenge_methods_supported", challenges);
	put_list(json, "id_token_signing_alg_values_supported", pp_key_algorithms());
	put_list(json, "token_endpoint_auth_methods_supported", methods);
	json_object_object_add(json, "authorization_response_iss_parameter_supported",
		json_object_new_boolean(pp_setting_flag(NULL, "iss_parameter")));
	pp_merge(json, pp_setting(NULL, "discovery"));
	answer->status = 200;
	answer->json = json;
	free(issuer);
}

void pp_jwks(struct pp_request *req, struct pp_answer *answer)
{
	(void)req;
	answer->status = 200;
	answer->json = json_object_new_object();
	json_object_object_add(answer->json, "keys", pp_keys_published(pp_setting_flag(NULL, "jwks_without_kid")));
	if (pp_setting(NULL, "jwks_max_age") != NULL)
		pp_answer_header(
			answer, "cache-control", "max-age=%lld", (long long)pp_setting_number(NULL, "jwks_max_age"));
}
