/* SPDX-License-Identifier: MIT
 * The built-in profiles, as config text: what one could write in `profiles`
 * oneself, and read by the same code. What a profile doesn't name is the
 * default of config_keys.c. "{issuer}" stands for the issuer without its
 * trailing slash.
 */
#include "config/config_int.h"

/* clang-format off */
const char al_config_profiles[] =
	"profiles = {\n"

	/* Any OpenID provider: the defaults are made for it. */
	"oidc = { };\n"

	/* No id_token, no metadata: a token endpoint and nothing else to go by. */
	"oauth2 = {\n"
	"	discovery = false;\n"
	"	nonce = false;\n"
	"	scope = \"\";\n"
	"};\n"

	/* Akoya: the bearer is the id_token; Basic for the exchange, but the body
	 * for refresh and revocation; a dead refresh token is invalid_request with
	 * Dex's words (matched by their beginning, since full stops and line breaks
	 * vary); a second consent of one bank login ends the first grant. PKCE and
	 * nonce aren't documented there, but Dex and Hydra both know them. */
	"akoya = {\n"
	"	discovery = false;\n"
	"	authorization_endpoint = \"{issuer}/auth\";\n"
	"	token_endpoint = \"{issuer}/token\";\n"
	"	revocation_endpoint = \"{issuer}/revoke\";\n"
	"	jwks_uri = \"{issuer}/keys\";\n"
	"	bearer = \"id_token\";\n"
	"	exchange_auth = \"client_secret_basic\";\n"
	"	refresh_auth = \"client_secret_post\";\n"
	"	revoke_auth = \"client_secret_post\";\n"
	"	institution_parameter = \"connector\";\n"
	"	institution_required = true;\n"
	"	one_grant_per_user = true;\n"
	"	shared_subject = \"move\";\n"
	"	definite_errors = (\n"
	"		{ error = \"invalid_grant\"; },\n"
	"		{ error = \"invalid_request\";\n"
	"		  description_prefix = \"Refresh token is invalid or has already been claimed\"; },\n"
	"		{ error = \"invalid_request\"; description_prefix = \"Refresh token expired\"; }\n"
	"	);\n"
	"	environments = {\n"
	"		sandbox = { issuer = \"https://sandbox-idp.ddp.akoya.com/\"; };\n"
	"		production = { issuer = \"https://idp.ddp.akoya.com/\"; };\n"
	"	};\n"
	"};\n"

	"};\n";
/* clang-format on */
