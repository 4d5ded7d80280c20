/* SPDX-License-Identifier: MIT
 * What goes over the wire to the bytes (consent URL, client authentication,
 * token and revocation requests), and what each kind of answer means.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_net.h"
#include "provider/provider_int.h"

static struct al_definite_rule akoya_rules[] = {
	{ 0, (char *)"invalid_grant", NULL },
	{ 400, (char *)"invalid_request", (char *)"Refresh token is invalid or has already been claimed" },
	{ 0, (char *)"bad_refresh_token", NULL },
	{ 0, NULL, NULL },
};
static struct al_config_pair extra_parameters[] = {
	{ (char *)"access_type", (char *)"offline" },
	{ (char *)"claims", (char *)"{\"id_token\":1}" },
	{ NULL, NULL },
};

struct world {
	struct al_provider_config config;
	struct al_net *net;
	struct al_provider *provider;
	struct al_buf code;
	struct al_buf verifier;
	struct al_buf refresh_token;
	struct al_token_request exchange;
	struct al_token_request refresh;
	int done_calls;
};

static void set_buf(struct al_buf *buf, const char *text)
{
	al_buf_init(buf, AL_TOKEN_MAX);
	assert_true(al_buf_puts(buf, text));
}

static void fill_config(struct al_provider_config *config)
{
	config->name = (char *)"akoya";
	config->where = (char *)"acctlink.conf:7";
	config->issuer = (char *)"https://idp.example/";
	config->authorization_endpoint = (char *)"https://idp.example/auth";
	config->token_endpoint = (char *)"https://idp.example/token";
	config->revocation_endpoint = (char *)"https://idp.example/revoke";
	config->jwks_uri = (char *)"https://idp.example/keys";
	config->client_id = (char *)"acme app/1";
	set_buf(&config->client_secret, "p+q/r:s%t=u v");
	config->exchange_auth = AL_AUTH_BASIC;
	config->refresh_auth = AL_AUTH_POST;
	config->revoke_auth = AL_AUTH_POST;
	config->scope = (char *)"openid offline_access";
	config->institution_parameter = (char *)"connector";
	config->institution_required = true;
	config->bearer = AL_BEARER_ID_TOKEN;
	config->definite = akoya_rules;
	config->retry_after_cap_ms = 3600000;
	config->connect_timeout_ms = 1111;
	config->request_timeout_ms = 2222;
}

static struct world *world_new(void)
{
	struct world *world = al_new(sizeof(*world));

	assert_non_null(world);
	fill_config(&world->config);
	set_buf(&world->code, "code/1+2");
	set_buf(&world->verifier, "verifier-._~");
	set_buf(&world->refresh_token, "refresh+old/1=");
	world->exchange.grant = AL_GRANT_CODE;
	world->exchange.code = &world->code;
	world->exchange.redirect_uri = "https://app.example:8443/cb/?tenant=7&x=%C3%A9";
	world->exchange.code_verifier = &world->verifier;
	world->refresh.grant = AL_GRANT_REFRESH;
	world->refresh.refresh_token = &world->refresh_token;
	world->net = fake_net_new();
	return world;
}

static void open_provider(struct world *world)
{
	assert_int_equal(al_provider_new(&world->config, world->net, NULL, NULL, &world->provider, NULL), ACCTLINK_OK);
}

static struct world *open_world(void)
{
	struct world *world = world_new();

	open_provider(world);
	return world;
}

static void world_free(struct world *world)
{
	al_provider_unref(&world->provider);
	al_buf_clear(&world->config.client_secret);
	al_buf_clear(&world->code);
	al_buf_clear(&world->verifier);
	al_buf_clear(&world->refresh_token);
	fake_net_free(&world->net);
	free(world);
}

/* ---- the consent URL ---------------------------------------------------------- */

static struct al_authorize akoya_authorize(void)
{
	struct al_authorize in = {
		.redirect_uri = "https://app.example/cb?tenant=7",
		.scope = "openid offline_access",
		.state = "state-1_2",
		.nonce = "nonce1",
		.code_challenge = "challenge1",
		.institution = { "mikomo", 6 },
	};

	return in;
}

static void expect_url(struct world *world, const struct al_authorize *in, const char *expected)
{
	struct al_buf url;

	al_buf_init(&url, 4096);
	assert_int_equal(al_authorize_url(world->provider, in, &url, NULL), ACCTLINK_OK);
	assert_string_equal(url.data, expected);
	al_buf_clear(&url);
}

static void the_consent_url_has_every_parameter_in_order(void **state)
{
	struct world *world = open_world();
	struct al_authorize in = akoya_authorize();

	(void)state;
	expect_url(world, &in,
		"https://idp.example/auth?response_type=code&client_id=acme+app%2F1"
		"&redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Ftenant%3D7&scope=openid+offline_access"
		"&state=state-1_2&nonce=nonce1&code_challenge=challenge1&code_challenge_method=S256"
		"&connector=mikomo");
	world->config.response_mode = AL_MODE_FORM_POST;
	world->config.max_age_ms = 90500;
	world->config.authorize_parameters = extra_parameters;
	expect_url(world, &in,
		"https://idp.example/auth?response_type=code&client_id=acme+app%2F1"
		"&redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Ftenant%3D7&scope=openid+offline_access"
		"&state=state-1_2&nonce=nonce1&code_challenge=challenge1&code_challenge_method=S256"
		"&response_mode=form_post&max_age=90&connector=mikomo&access_type=offline"
		"&claims=%7B%22id_token%22%3A1%7D");
	world_free(world);
}

static void what_is_not_given_is_not_sent(void **state)
{
	struct world *world = open_world();
	struct al_authorize in = akoya_authorize();

	(void)state;
	world->config.institution_required = false;
	in.scope = "";
	in.nonce = NULL;
	in.code_challenge = NULL;
	in.institution.len = 0;
	expect_url(world, &in,
		"https://idp.example/auth?response_type=code&client_id=acme+app%2F1"
		"&redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Ftenant%3D7&state=state-1_2");
	world->config.institution_parameter = NULL;
	in.institution.len = 6;
	expect_url(world, &in,
		"https://idp.example/auth?response_type=code&client_id=acme+app%2F1"
		"&redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Ftenant%3D7&state=state-1_2");
	world_free(world);
}

static void a_query_of_the_authorization_endpoint_is_kept(void **state)
{
	static const char *const endpoints[][2] = {
		{ "https://idp.example/auth?tenant=a%20b",
			"https://idp.example/auth?tenant=a%20b&response_type=code&" },
		{ "https://idp.example/auth?", "https://idp.example/auth?response_type=code&" },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(endpoints); i++) {
		struct world *world = world_new();
		struct al_authorize in = akoya_authorize();
		struct al_buf url;

		world->config.authorization_endpoint = (char *)endpoints[i][0];
		open_provider(world);
		al_buf_init(&url, 4096);
		assert_int_equal(al_authorize_url(world->provider, &in, &url, NULL), ACCTLINK_OK);
		assert_memory_equal(url.data, endpoints[i][1], strlen(endpoints[i][1]));
		al_buf_clear(&url);
		world_free(world);
	}
}

static void an_institution_can_not_smuggle_a_parameter(void **state)
{
	struct world *world = open_world();
	struct al_authorize in = akoya_authorize();
	struct al_buf url;

	(void)state;
	in.institution = al_str("a&redirect_uri=https://evil.example#\xc3\xa9");
	al_buf_init(&url, 4096);
	assert_int_equal(al_authorize_url(world->provider, &in, &url, NULL), ACCTLINK_OK);
	assert_non_null(strstr(url.data, "&connector=a%26redirect_uri%3Dhttps%3A%2F%2Fevil.example%23%C3%A9"));
	al_buf_clear(&url);
	world_free(world);
}

static void a_missing_institution_and_an_over_long_url_are_refused(void **state)
{
	struct world *world = open_world();
	struct al_authorize in = akoya_authorize();
	struct al_buf url;
	acctlink_error err;

	(void)state;
	al_buf_init(&url, 100);
	assert_int_equal(al_authorize_url(world->provider, &in, &url, &err), ACCTLINK_BAD_ARGUMENT);
	assert_non_null(strstr(err.message, "100 bytes"));
	assert_int_equal(url.len, 0);
	in.institution.len = 0;
	assert_int_equal(al_authorize_url(world->provider, &in, &url, &err), ACCTLINK_BAD_ARGUMENT);
	assert_non_null(strstr(err.message, "akoya needs an institution"));
	al_buf_clear(&url);
	world_free(world);
}

static void nothing_is_built_or_sent_before_the_endpoints_are_known(void **state)
{
	struct world *world = world_new();
	struct al_authorize in = akoya_authorize();
	struct al_buf url;

	(void)state;
	world->config.discovery = true;
	open_provider(world);
	al_buf_init(&url, 4096);
	assert_int_equal(al_authorize_url(world->provider, &in, &url, NULL), ACCTLINK_INTERNAL);
	assert_int_equal(al_token_start(world->provider, &world->exchange, NULL, NULL, NULL), ACCTLINK_INTERNAL);
	assert_int_equal(
		al_revoke_start(world->provider, &world->code, "refresh_token", NULL, NULL, NULL), ACCTLINK_INTERNAL);
	assert_int_equal(world->net->count, 0);
	world_free(world);
}

/* ---- client authentication ------------------------------------------------------- */

static void client_authentication_is_exact_to_the_byte(void **state)
{
	static const struct {
		enum al_client_auth method;
		const char *header;
		const char *body;
	} rows[] = {
		{ AL_AUTH_BASIC, "Authorization: Basic YWNtZSthcHAlMkYxOnAlMkJxJTJGciUzQXMlMjV0JTNEdSt2", "a=b" },
		{ AL_AUTH_BASIC_RAW, "Authorization: Basic YWNtZSBhcHAvMTpwK3EvcjpzJXQ9dSB2", "a=b" },
		{ AL_AUTH_POST, "", "a=b&client_id=acme+app%2F1&client_secret=p%2Bq%2Fr%3As%25t%3Du+v" },
		{ AL_AUTH_NONE, "", "a=b&client_id=acme+app%2F1" },
	};
	struct world *world = world_new();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_buf body;
		struct al_buf header;

		al_buf_init(&body, 1024);
		al_buf_init(&header, 0);
		assert_true(al_buf_puts(&body, "a=b"));
		assert_int_equal(al_client_auth_add(&world->config, rows[i].method, &body, &header, NULL), ACCTLINK_OK);
		assert_string_equal(al_buf_text(&header), rows[i].header);
		assert_string_equal(al_buf_text(&body), rows[i].body);
		al_buf_clear(&body);
		al_buf_clear(&header);
	}
	world_free(world);
}

static void an_unreserved_tilde_in_a_secret_stays_as_it_is(void **state)
{
	struct world *world = world_new();
	struct al_buf body;
	struct al_buf header;

	(void)state;
	world->config.client_id = (char *)"id";
	assert_true(al_buf_set(&world->config.client_secret, "a~b", 3));
	al_buf_init(&body, 1024);
	al_buf_init(&header, 0);
	assert_int_equal(al_client_auth_add(&world->config, AL_AUTH_BASIC, &body, &header, NULL), ACCTLINK_OK);
	assert_string_equal(header.data, "Authorization: Basic aWQ6YX5i");
	assert_int_equal(body.len, 0);
	al_buf_clear(&header);
	world_free(world);
}

static void raw_basic_refuses_a_client_id_with_a_colon(void **state)
{
	struct world *world = world_new();
	struct al_buf body;
	struct al_buf header;
	acctlink_error err;

	(void)state;
	world->config.client_id = (char *)"odd:id";
	al_buf_init(&body, 1024);
	al_buf_init(&header, 0);
	assert_int_equal(
		al_client_auth_add(&world->config, AL_AUTH_BASIC_RAW, &body, &header, &err), ACCTLINK_BAD_CONFIG);
	assert_string_equal(err.where, "acctlink.conf:7");
	assert_int_equal(al_client_auth_add(&world->config, AL_AUTH_BASIC, &body, &header, NULL), ACCTLINK_OK);
	al_buf_clear(&header);
	world_free(world);
}

/* ---- requests ------------------------------------------------------------------------ */

static void count_done(void *ctx, struct al_http_result *result)
{
	struct world *world = ctx;

	(void)result;
	world->done_calls++;
}

static bool always(void *ctx)
{
	(void)ctx;
	return true;
}

static void expect_request(struct world *world, size_t at, const char *url, const char *auth, const char *body)
{
	struct fake_request *request = &world->net->requests[at];

	assert_int_equal(world->net->count, at + 1);
	assert_string_equal(request->url, url);
	assert_string_equal(request->headers[0], "Accept: application/json");
	if (auth == NULL)
		assert_null(request->headers[1]);
	else
		assert_string_equal(request->headers[1], auth);
	assert_null(request->headers[2]);
	assert_string_equal(al_buf_text(&request->body), body);
	assert_int_equal(request->connect_timeout_ms, 1111);
	assert_int_equal(request->timeout_ms, 2222);
	assert_int_equal(request->max_body, AL_ANSWER_MAX);
}

static void akoya_exchanges_with_basic_and_refreshes_and_revokes_in_the_body(void **state)
{
	struct world *world = open_world();
	struct al_http_result result;

	(void)state;
	world->exchange.may_send = always;
	world->exchange.may_send_ctx = &world->code;
	assert_int_equal(al_token_start(world->provider, &world->exchange, count_done, world, NULL), ACCTLINK_OK);
	expect_request(world, 0, "https://idp.example/token",
		"Authorization: Basic YWNtZSthcHAlMkYxOnAlMkJxJTJGciUzQXMlMjV0JTNEdSt2",
		"grant_type=authorization_code&code=code%2F1%2B2"
		"&redirect_uri=https%3A%2F%2Fapp.example%3A8443%2Fcb%2F%3Ftenant%3D7%26x%3D%25C3%25A9"
		"&code_verifier=verifier-._~");
	assert_ptr_equal(world->net->requests[0].may_send, always);
	assert_ptr_equal(world->net->requests[0].may_send_ctx, &world->code);
	assert_int_equal(al_token_start(world->provider, &world->refresh, count_done, world, NULL), ACCTLINK_OK);
	expect_request(world, 1, "https://idp.example/token", NULL,
		"grant_type=refresh_token&refresh_token=refresh%2Bold%2F1%3D"
		"&client_id=acme+app%2F1&client_secret=p%2Bq%2Fr%3As%25t%3Du+v");
	assert_null(world->net->requests[1].may_send);
	assert_int_equal(
		al_revoke_start(world->provider, &world->refresh_token, "refresh_token", count_done, world, NULL),
		ACCTLINK_OK);
	expect_request(world, 2, "https://idp.example/revoke", NULL,
		"token=refresh%2Bold%2F1%3D&token_type_hint=refresh_token"
		"&client_id=acme+app%2F1&client_secret=p%2Bq%2Fr%3As%25t%3Du+v");
	result = fake_result(200, "", "", 0);
	fake_deliver(world->net, 0, &result);
	assert_int_equal(world->done_calls, 1);
	world_free(world);
}

static void without_pkce_no_verifier_is_sent(void **state)
{
	struct world *world = open_world();

	(void)state;
	al_buf_clear(&world->verifier);
	world->config.exchange_auth = AL_AUTH_NONE;
	assert_int_equal(al_token_start(world->provider, &world->exchange, count_done, world, NULL), ACCTLINK_OK);
	expect_request(world, 0, "https://idp.example/token", NULL,
		"grant_type=authorization_code&code=code%2F1%2B2"
		"&redirect_uri=https%3A%2F%2Fapp.example%3A8443%2Fcb%2F%3Ftenant%3D7%26x%3D%25C3%25A9"
		"&client_id=acme+app%2F1");
	world->exchange.code_verifier = NULL;
	assert_int_equal(al_token_start(world->provider, &world->exchange, count_done, world, NULL), ACCTLINK_OK);
	assert_null(strstr(world->net->requests[1].body.data, "code_verifier"));
	world_free(world);
}

static void a_refresh_token_of_the_greatest_length_is_sent_whole(void **state)
{
	struct world *world = open_world();
	char *token = malloc(AL_TOKEN_MAX);

	(void)state;
	assert_non_null(token);
	memset(token, '/', AL_TOKEN_MAX);
	assert_true(al_buf_set(&world->refresh_token, token, AL_TOKEN_MAX));
	assert_int_equal(al_token_start(world->provider, &world->refresh, count_done, world, NULL), ACCTLINK_OK);
	assert_true(world->net->requests[0].body.len > 3 * AL_TOKEN_MAX);
	free(token);
	world_free(world);
}

static void a_provider_without_revocation_is_not_asked(void **state)
{
	struct world *world = world_new();

	(void)state;
	world->config.revocation_endpoint = NULL;
	open_provider(world);
	assert_false(al_provider_can_revoke(world->provider));
	assert_int_equal(
		al_revoke_start(world->provider, &world->refresh_token, "refresh_token", count_done, world, NULL),
		ACCTLINK_BAD_PROVIDER);
	assert_int_equal(world->net->count, 0);
	world_free(world);
}

static void a_request_that_can_not_start_is_an_error_and_never_done(void **state)
{
	struct world *world = open_world();
	acctlink_error err;

	(void)state;
	world->net->refuse = true;
	assert_int_equal(al_token_start(world->provider, &world->refresh, count_done, world, &err), ACCTLINK_INTERNAL);
	assert_string_equal(err.message, "the fake refuses");
	assert_int_equal(world->done_calls, 0);
	world_free(world);
}

/* ---- the outcome table ------------------------------------------------------------------ */

#define CLAIMED "Refresh token is invalid or has already been claimed by another client."
#define WHOLE "{\"id_token\":\"i\",\"refresh_token\":\"r2\",\"token_type\":\"bearer\",\"expires_in\":86399}"

struct outcome {
	const char *name;
	enum al_grant grant;
	int status;
	const char *body;
	enum al_answer_class kind;
	const char *code;
};

static const struct outcome outcomes[] = {
	/* sets */
	{ "a whole set", AL_GRANT_REFRESH, 200, WHOLE, AL_ANSWER_SET, "" },
	{ "a whole set at the exchange", AL_GRANT_CODE, 200, WHOLE, AL_ANSWER_SET, "" },
	{ "created", AL_GRANT_REFRESH, 201, WHOLE, AL_ANSWER_SET, "" },
	{ "no id_token on refresh", AL_GRANT_REFRESH, 200, "{\"access_token\":\"a\",\"refresh_token\":\"r2\"}",
		AL_ANSWER_SET, "" },
	{ "only a refresh token", AL_GRANT_REFRESH, 200, "{\"refresh_token\":\"r2\"}", AL_ANSWER_SET, "" },
	{ "only an access token", AL_GRANT_REFRESH, 200, "{\"access_token\":\"a\"}", AL_ANSWER_SET, "" },
	{ "exchange, bearer missing, refresh token there", AL_GRANT_CODE, 200,
		"{\"access_token\":\"a\",\"refresh_token\":\"r\"}", AL_ANSWER_SET, "" },
	{ "null and empty error", AL_GRANT_REFRESH, 200,
		"{\"id_token\":\"i\",\"error\":null,\"error_description\":\"\"}", AL_ANSWER_SET, "" },
	{ "empty error", AL_GRANT_REFRESH, 200, "{\"id_token\":\"i\",\"error\":\"\"}", AL_ANSWER_SET, "" },
	/* 200 without a whole set */
	{ "exchange without bearer and refresh token", AL_GRANT_CODE, 200, "{\"access_token\":\"a\"}",
		AL_ANSWER_UNKNOWN, "no_token" },
	{ "empty object", AL_GRANT_REFRESH, 200, "{}", AL_ANSWER_UNKNOWN, "no_token" },
	{ "empty tokens", AL_GRANT_REFRESH, 200, "{\"access_token\":\"\",\"refresh_token\":null}", AL_ANSWER_UNKNOWN,
		"no_token" },
	{ "tokens of a wrong type", AL_GRANT_REFRESH, 200, "{\"access_token\":7,\"refresh_token\":[\"r\"]}",
		AL_ANSWER_UNKNOWN, "no_token" },
	{ "a list of errors", AL_GRANT_REFRESH, 200, "{\"errors\":[{\"errorType\":\"invalid_grant\"}]}",
		AL_ANSWER_UNKNOWN, "no_token" },
	{ "empty body", AL_GRANT_REFRESH, 200, "", AL_ANSWER_UNKNOWN, "empty_answer" },
	{ "blank body", AL_GRANT_REFRESH, 200, " \r\n", AL_ANSWER_UNKNOWN, "empty_answer" },
	{ "no content", AL_GRANT_REFRESH, 204, "", AL_ANSWER_UNKNOWN, "empty_answer" },
	{ "truncated JSON", AL_GRANT_REFRESH, 200, "{\"id_token\":\"i\",\"refresh_tok", AL_ANSWER_UNKNOWN, "not_json" },
	{ "HTML", AL_GRANT_REFRESH, 200, "<html>ok</html>", AL_ANSWER_UNKNOWN, "not_json" },
	{ "a list", AL_GRANT_REFRESH, 200, "[\"access_token\"]", AL_ANSWER_UNKNOWN, "not_json" },
	{ "two refresh tokens", AL_GRANT_REFRESH, 200, "{\"refresh_token\":\"a\",\"refresh_token\":\"b\"}",
		AL_ANSWER_UNKNOWN, "not_json" },
	{ "two objects", AL_GRANT_REFRESH, 200, WHOLE "{}", AL_ANSWER_UNKNOWN, "not_json" },
	/* definite refusals of a refresh */
	{ "invalid_grant 400", AL_GRANT_REFRESH, 400, "{\"error\":\"invalid_grant\"}", AL_ANSWER_REFUSED,
		"invalid_grant" },
	{ "invalid_grant 401", AL_GRANT_REFRESH, 401, "{\"error\":\"invalid_grant\"}", AL_ANSWER_REFUSED,
		"invalid_grant" },
	{ "invalid_grant 403", AL_GRANT_REFRESH, 403,
		"{\"error\":\"invalid_grant\",\"error_description\":\"Unknown or invalid refresh token.\"}",
		AL_ANSWER_REFUSED, "invalid_grant" },
	{ "invalid_grant 404", AL_GRANT_REFRESH, 404, "{\"error\":\"invalid_grant\"}", AL_ANSWER_OURS,
		"invalid_grant" },
	{ "claimed", AL_GRANT_REFRESH, 400, "{\"error\":\"invalid_request\",\"error_description\":\"" CLAIMED "\"}",
		AL_ANSWER_REFUSED, "invalid_request" },
	{ "claimed without full stop", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Refresh token is invalid or has already been claimed by another client\"}",
		AL_ANSWER_REFUSED, "invalid_request" },
	{ "claimed over two lines", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Refresh token is invalid or has\\nalready been  claimed by another client.\"}",
		AL_ANSWER_REFUSED, "invalid_request" },
	{ "claimed over two raw lines", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Refresh token is invalid or has already\r\nbeen claimed by another client.\"}",
		AL_ANSWER_REFUSED, "invalid_request" },
	{ "claimed after a line break", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"\\n " CLAIMED "\"}", AL_ANSWER_REFUSED,
		"invalid_request" },
	{ "claimed, with a word run together", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Refresh tokenis invalid or has already been claimed\"}",
		AL_ANSWER_OURS, "invalid_request" },
	{ "claimed, but 401", AL_GRANT_REFRESH, 401,
		"{\"error\":\"invalid_request\",\"error_description\":\"" CLAIMED "\"}", AL_ANSWER_OURS,
		"invalid_request" },
	{ "an error in a 200", AL_GRANT_REFRESH, 200, "{\"error\":\"bad_refresh_token\",\"error_description\":\"x\"}",
		AL_ANSWER_REFUSED, "bad_refresh_token" },
	{ "claimed in a 200", AL_GRANT_REFRESH, 200,
		"{\"error\":\"invalid_request\",\"error_description\":\"" CLAIMED "\"}", AL_ANSWER_REFUSED,
		"invalid_request" },
	/* ours */
	{ "no refresh token in request", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"No refresh token in request.\"}",
		AL_ANSWER_OURS, "invalid_request" },
	{ "invalid_request without words", AL_GRANT_REFRESH, 400, "{\"error\":\"invalid_request\"}", AL_ANSWER_OURS,
		"invalid_request" },
	{ "claimed, cut short", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Refresh token is invalid or has alr\"}",
		AL_ANSWER_OURS, "invalid_request" },
	{ "unsupported grant", AL_GRANT_REFRESH, 400, "{\"error\":\"unsupported_grant_type\"}", AL_ANSWER_OURS,
		"unsupported_grant_type" },
	{ "tokens beside an error", AL_GRANT_REFRESH, 200,
		"{\"access_token\":\"error: no such user\",\"refresh_token\":\"\",\"expires_in\":0,\"error\":\"error: no such user\"}",
		AL_ANSWER_OURS, "error: no such user" },
	/* the operator's */
	{ "invalid_client", AL_GRANT_REFRESH, 401,
		"{\"error\":\"invalid_client\",\"error_description\":\"Invalid client credentials.\"}",
		AL_ANSWER_OPERATOR, "invalid_client" },
	{ "invalid_client 400", AL_GRANT_REFRESH, 400, "{\"error\":\"invalid_client\"}", AL_ANSWER_OPERATOR,
		"invalid_client" },
	{ "unauthorized_client", AL_GRANT_REFRESH, 400, "{\"error\":\"unauthorized_client\"}", AL_ANSWER_OPERATOR,
		"unauthorized_client" },
	{ "invalid_client at the exchange", AL_GRANT_CODE, 401, "{\"error\":\"invalid_client\"}", AL_ANSWER_OPERATOR,
		"invalid_client" },
	{ "redirect_uri differs", AL_GRANT_CODE, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"redirect_uri did not match URI from initial request.\"}",
		AL_ANSWER_OPERATOR, "invalid_request" },
	{ "redirect_uri on a refresh", AL_GRANT_REFRESH, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"redirect_uri did not match\"}", AL_ANSWER_OURS,
		"invalid_request" },
	/* a code */
	{ "bad code", AL_GRANT_CODE, 400, "{\"error\":\"invalid_grant\"}", AL_ANSWER_REFUSED, "invalid_grant" },
	{ "bad code at Akoya", AL_GRANT_CODE, 400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Invalid or expired code parameter.\"}",
		AL_ANSWER_REFUSED, "invalid_request" },
	{ "bad grant at Akoya", AL_GRANT_CODE, 400, "{\"error\":\"invalid_grant\",\"error_description\":null}",
		AL_ANSWER_REFUSED, "invalid_grant" },
	{ "bad code in a 200", AL_GRANT_CODE, 200, "{\"error\":\"bad_verification_code\"}", AL_ANSWER_REFUSED,
		"bad_verification_code" },
	{ "code 404 with an error", AL_GRANT_CODE, 404, "{\"error\":\"Not Found\"}", AL_ANSWER_REFUSED, "Not Found" },
	{ "code 500", AL_GRANT_CODE, 500, "{\"error\":\"server_error\"}", AL_ANSWER_UNKNOWN, "server_error" },
	{ "code 503", AL_GRANT_CODE, 503, "", AL_ANSWER_TURNED_AWAY, "http_503" },
	/* turned away */
	{ "408", AL_GRANT_REFRESH, 408, "", AL_ANSWER_TURNED_AWAY, "http_408" },
	{ "425", AL_GRANT_REFRESH, 425, "", AL_ANSWER_TURNED_AWAY, "http_425" },
	{ "429", AL_GRANT_REFRESH, 429, "{\"message\":\"slow down\"}", AL_ANSWER_TURNED_AWAY, "http_429" },
	{ "429 invalid_grant", AL_GRANT_REFRESH, 429, "{\"error\":\"invalid_grant\"}", AL_ANSWER_TURNED_AWAY,
		"invalid_grant" },
	{ "503 page", AL_GRANT_REFRESH, 503, "<html>Tuesday</html>", AL_ANSWER_TURNED_AWAY, "http_503" },
	{ "503 invalid_client", AL_GRANT_REFRESH, 503, "{\"error\":\"invalid_client\"}", AL_ANSWER_TURNED_AWAY,
		"invalid_client" },
	{ "a firewall's 403", AL_GRANT_REFRESH, 403, "<html>blocked</html>", AL_ANSWER_TURNED_AWAY, "http_403" },
	{ "a bare 401", AL_GRANT_REFRESH, 401, "", AL_ANSWER_TURNED_AWAY, "http_401" },
	{ "a 403 with JSON of its own", AL_GRANT_REFRESH, 403, "{\"error\":{\"code\":403}}", AL_ANSWER_TURNED_AWAY,
		"http_403" },
	{ "404 page", AL_GRANT_REFRESH, 404, "<html>not found</html>", AL_ANSWER_TURNED_AWAY, "http_404" },
	{ "400 page", AL_GRANT_REFRESH, 400, "<html>bad</html>", AL_ANSWER_TURNED_AWAY, "http_400" },
	{ "407", AL_GRANT_REFRESH, 407, "", AL_ANSWER_TURNED_AWAY, "http_407" },
	/* unknown */
	{ "500 invalid_request", AL_GRANT_REFRESH, 500, "{\"error\":\"invalid_request\"}", AL_ANSWER_UNKNOWN,
		"invalid_request" },
	{ "500 claimed", AL_GRANT_REFRESH, 500, "{\"error\":\"invalid_request\",\"error_description\":\"" CLAIMED "\"}",
		AL_ANSWER_UNKNOWN, "invalid_request" },
	{ "500 invalid_grant", AL_GRANT_REFRESH, 500, "{\"error\":\"invalid_grant\"}", AL_ANSWER_UNKNOWN,
		"invalid_grant" },
	{ "502 page", AL_GRANT_REFRESH, 502, "<html>bad gateway</html>", AL_ANSWER_UNKNOWN, "http_502" },
	{ "504", AL_GRANT_REFRESH, 504, "", AL_ANSWER_UNKNOWN, "http_504" },
	{ "599", AL_GRANT_REFRESH, 599, "", AL_ANSWER_UNKNOWN, "http_599" },
	{ "302", AL_GRANT_REFRESH, 302, "", AL_ANSWER_UNKNOWN, "http_302" },
	{ "308 invalid_grant", AL_GRANT_REFRESH, 308, "{\"error\":\"invalid_grant\"}", AL_ANSWER_UNKNOWN,
		"invalid_grant" },
	{ "a set in a 500", AL_GRANT_REFRESH, 500, WHOLE, AL_ANSWER_UNKNOWN, "http_500" },
};

static void each_answer_has_one_class(void **state)
{
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(outcomes); i++) {
		const struct outcome *row = &outcomes[i];
		struct al_http_result result = fake_result(
			row->status, "application/json", row->body, strlen(row->body));
		struct al_token_answer answer;

		al_token_read(world->provider, row->grant == AL_GRANT_CODE ? &world->exchange : &world->refresh,
			&result, &answer);
		if (answer.kind != row->kind || strcmp(answer.provider_code, row->code) != 0)
			fail_msg("%s: class %d, code %s, %s", row->name, (int)answer.kind, answer.provider_code,
				answer.message);
		assert_int_equal(answer.http_status, row->status);
		if (answer.kind != AL_ANSWER_SET) {
			assert_int_equal(answer.set.access_token.len, 0);
			assert_int_equal(answer.set.refresh_token.len, 0);
			assert_int_not_equal(answer.message[0], '\0');
		}
		al_token_answer_clear(&answer);
		al_http_result_clear(&result);
	}
	world_free(world);
}

static void an_exchange_needs_the_configured_bearer_or_a_refresh_token(void **state)
{
	static const struct {
		enum al_bearer_kind bearer;
		const char *body;
		enum al_answer_class kind;
	} rows[] = {
		{ AL_BEARER_ID_TOKEN, "{\"id_token\":\"i\"}", AL_ANSWER_SET },
		{ AL_BEARER_ID_TOKEN, "{\"access_token\":\"a\"}", AL_ANSWER_UNKNOWN },
		{ AL_BEARER_ACCESS_TOKEN, "{\"access_token\":\"a\"}", AL_ANSWER_SET },
		{ AL_BEARER_ACCESS_TOKEN, "{\"id_token\":\"i\"}", AL_ANSWER_UNKNOWN },
		{ AL_BEARER_ACCESS_TOKEN, "{\"id_token\":\"i\",\"refresh_token\":\"r\"}", AL_ANSWER_SET },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_http_result result = fake_result(200, "", rows[i].body, strlen(rows[i].body));
		struct al_token_answer answer;

		world->config.bearer = rows[i].bearer;
		al_token_read(world->provider, &world->exchange, &result, &answer);
		assert_int_equal(answer.kind, rows[i].kind);
		al_token_answer_clear(&answer);
		al_http_result_clear(&result);
	}
	world_free(world);
}

static struct al_token_answer read_end(
	struct world *world, enum al_http_end end, int status, const char *body, bool timed_out, bool too_large)
{
	struct al_http_result result = fake_result(status, "application/json", body, strlen(body));
	struct al_token_answer answer;

	result.end = end;
	result.timed_out = timed_out;
	result.too_large = too_large;
	(void)snprintf(result.reason, sizeof(result.reason), "words of the net");
	al_token_read(world->provider, &world->refresh, &result, &answer);
	al_http_result_clear(&result);
	return answer;
}

static void what_is_cut_is_unknown_unless_the_object_is_whole(void **state)
{
	static const struct {
		enum al_http_end end;
		int status;
		const char *body;
		bool timed_out;
		bool too_large;
		enum al_answer_class kind;
		const char *code;
	} rows[] = {
		{ AL_HTTP_NOT_SENT, 0, "", false, false, AL_ANSWER_NOT_SENT, "not_sent" },
		{ AL_HTTP_NOT_SENT, 0, "", true, false, AL_ANSWER_NOT_SENT, "not_sent" },
		{ AL_HTTP_CUT, 0, "", false, false, AL_ANSWER_UNKNOWN, "cut" },
		{ AL_HTTP_CUT, 0, "", true, false, AL_ANSWER_UNKNOWN, "timeout" },
		{ AL_HTTP_CUT, 200, "", false, false, AL_ANSWER_UNKNOWN, "cut" },
		{ AL_HTTP_CUT, 200, "{\"id_token\":\"i\",\"refresh_token\":\"r2\"", false, false, AL_ANSWER_UNKNOWN,
			"cut" },
		{ AL_HTTP_CUT, 200, "{\"id_token\":\"i\",\"refresh_tok", true, false, AL_ANSWER_UNKNOWN, "timeout" },
		{ AL_HTTP_CUT, 200, "{\"id_token\":\"", false, true, AL_ANSWER_UNKNOWN, "too_large" },
		{ AL_HTTP_CUT, 200, WHOLE, false, false, AL_ANSWER_SET, "" },
		{ AL_HTTP_CUT, 200, WHOLE "\r\n", true, false, AL_ANSWER_SET, "" },
		{ AL_HTTP_CUT, 200, "{}", false, false, AL_ANSWER_UNKNOWN, "no_token" },
		{ AL_HTTP_CUT, 400, "{\"error\":\"invalid_grant\"}", false, false, AL_ANSWER_REFUSED, "invalid_grant" },
		{ AL_HTTP_CUT, 400, "{\"error\":\"invalid_gr", false, false, AL_ANSWER_UNKNOWN, "cut" },
		{ AL_HTTP_CUT, 400, "{\"message\":\"x\"}", false, false, AL_ANSWER_UNKNOWN, "cut" },
		{ AL_HTTP_CUT, 503, "<htm", false, false, AL_ANSWER_UNKNOWN, "cut" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer = read_end(
			world, rows[i].end, rows[i].status, rows[i].body, rows[i].timed_out, rows[i].too_large);

		if (answer.kind != rows[i].kind || strcmp(answer.provider_code, rows[i].code) != 0)
			fail_msg("row %zu: class %d, code %s", i, (int)answer.kind, answer.provider_code);
		if (strcmp(rows[i].code, "cut") == 0 || strcmp(rows[i].code, "not_sent") == 0)
			assert_non_null(strstr(answer.message, "words of the net"));
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void a_cut_form_is_not_taken_since_its_last_token_may_be_half(void **state)
{
	static const char form[] = "access_token=aa&refresh_token=rr";
	struct world *world = open_world();
	struct al_http_result result = fake_result(200, "application/x-www-form-urlencoded", form, strlen(form));
	struct al_token_answer answer;

	(void)state;
	result.end = AL_HTTP_CUT;
	al_token_read(world->provider, &world->refresh, &result, &answer);
	assert_int_equal(answer.kind, AL_ANSWER_UNKNOWN);
	assert_string_equal(answer.provider_code, "cut");
	al_token_answer_clear(&answer);
	al_http_result_clear(&result);
	world_free(world);
}

static void a_redirect_is_unknown_and_named(void **state)
{
	static const int statuses[] = { 301, 302, 303, 307, 308 };
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(statuses); i++) {
		struct al_http_result result = fake_result(statuses[i], "text/html", "", 0);
		struct al_token_answer answer;
		char status[16];

		(void)snprintf(result.location, sizeof(result.location), "http://evil.example/token");
		(void)snprintf(status, sizeof(status), "HTTP %d", statuses[i]);
		al_token_read(world->provider, &world->refresh, &result, &answer);
		assert_int_equal(answer.kind, AL_ANSWER_UNKNOWN);
		assert_non_null(strstr(answer.message, "http://evil.example/token"));
		assert_non_null(strstr(answer.message, status));
		al_token_answer_clear(&answer);
	}
	assert_int_equal(world->net->count, 0);
	world_free(world);
}

static void retry_after_is_capped(void **state)
{
	static const int64_t rows[][2] = { { -1, -1 }, { 0, 0 }, { 5000, 5000 }, { INT64_MAX, 3600000 } };
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_http_result result = fake_result(429, "", "", 0);
		struct al_token_answer answer;

		result.retry_after_ms = rows[i][0];
		al_token_read(world->provider, &world->refresh, &result, &answer);
		assert_int_equal(answer.retry_after_ms, rows[i][1]);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void without_rules_no_refresh_error_is_definite(void **state)
{
	struct world *world = open_world();
	struct al_token_answer answer;

	(void)state;
	world->config.definite = NULL;
	answer = read_end(world, AL_HTTP_ANSWER, 400, "{\"error\":\"invalid_grant\"}", false, false);
	assert_int_equal(answer.kind, AL_ANSWER_OURS);
	al_token_answer_clear(&answer);
	world_free(world);
}

/* ---- the dress of an answer -------------------------------------------------------------- */

static void read_dressed(
	struct world *world, const char *type, const char *body, size_t len, struct al_token_answer *answer)
{
	struct al_http_result result = fake_result(200, type, body, len);

	al_token_read(world->provider, &world->refresh, &result, answer);
	al_http_result_clear(&result);
}

static void a_good_set_is_read_in_every_dress(void **state)
{
	static const char plain[] = "{\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}";
	static const struct {
		const char *type;
		const char *body;
	} rows[] = {
		{ "application/json", plain },
		{ "application/json;charset=UTF-8", plain },
		{ "text/plain; charset=utf-8", plain },
		{ "text/html", plain },
		{ "", plain },
		{ "application/x-www-form-urlencoded", plain },
		{ "application/json",
			"\xef\xbb\xbf{\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}" },
		{ "application/json", "{\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}\n" },
		{ "application/json",
			"\r\n  {\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}\r\n\r\n" },
		{ "application/json",
			"{\"name\":\"Jos\xe9\",\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}" },
		{ "application/json",
			"{\"name\":\"two\nlines\",\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}" },
		{ "application/json",
			"{\"a\\\"b\":\"\\\\\xe9\",\"access_token\":\"aa\",\"refresh_token\":\"rr\",\"expires_in\":3600}" },
		{ "application/x-www-form-urlencoded", "access_token=aa&expires_in=3600&refresh_token=rr" },
		{ "Application/X-WWW-Form-Urlencoded; charset=utf-8",
			"access_token=aa&expires_in=3600&refresh_token=rr" },
		{ "text/plain", "access_token=a%61&expires_in=+3600+&refresh_token=rr\r\n" },
		{ "", "access_token=aa&expires_in=3600&refresh_token=rr&token_type=bearer" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer;

		read_dressed(world, rows[i].type, rows[i].body, strlen(rows[i].body), &answer);
		if (answer.kind != AL_ANSWER_SET)
			fail_msg("row %zu: %s, %s", i, answer.provider_code, answer.message);
		assert_string_equal(answer.set.access_token.data, "aa");
		assert_string_equal(answer.set.refresh_token.data, "rr");
		assert_int_equal(answer.set.expires_in_ms, 3600000);
		assert_int_equal(answer.set.id_token.len, 0);
		assert_string_equal(answer.message, "");
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void what_is_no_form_is_not_read_as_one(void **state)
{
	static const struct {
		const char *type;
		const char *body;
		const char *code;
	} rows[] = {
		{ "text/html", "access_token=aa&refresh_token=rr", "not_json" },
		{ "application/json", "access_token=aa&refresh_token=rr", "not_json" },
		{ "text/plain", "OK", "not_json" },
		{ "text/plain", "a=b&c=d", "not_json" },
		{ "application/x-www-form-urlencoded", "", "empty_answer" },
		{ "application/x-www-form-urlencoded", "refresh_token=a&refresh_token=b", "not_json" },
		{ "application/x-www-form-urlencoded", "refresh_token=a%0", "not_json" },
		{ "application/x-www-form-urlencoded", "refresh_token=a%00b", "not_json" },
		{ "application/x-www-form-urlencoded", "access_token=&refresh_token", "no_token" },
		{ "application/x-www-form-urlencoded", "refresh_token=%0d%0aX", "no_token" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer;

		read_dressed(world, rows[i].type, rows[i].body, strlen(rows[i].body), &answer);
		if (answer.kind != AL_ANSWER_UNKNOWN || strcmp(answer.provider_code, rows[i].code) != 0)
			fail_msg("row %zu: class %d, %s", i, (int)answer.kind, answer.provider_code);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void a_form_of_a_million_pairs_is_given_up_early(void **state)
{
	struct world *world = open_world();
	size_t len = AL_ANSWER_MAX;
	char *body = malloc(len);
	struct al_token_answer answer;

	(void)state;
	assert_non_null(body);
	for (size_t i = 0; i < len; i++)
		body[i] = i % 5 == 0 ? '&' : (char)('a' + i / 5 % 26);
	read_dressed(world, "text/plain", body, len, &answer);
	assert_string_equal(answer.provider_code, "not_json");
	al_token_answer_clear(&answer);
	free(body);
	world_free(world);
}

static void errors_are_found_in_every_dress(void **state)
{
	static const char *const rows[][2] = {
		{ "text/plain", "{\"error\":\"invalid_grant\"}" },
		{ "text/plain", "error=invalid_grant&error_description=The+token+is+gone" },
		{ "", "{\"error\":\"invalid_grant\",\"error_description\":\"ung\xfcltig\"}" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_http_result result = fake_result(400, rows[i][0], rows[i][1], strlen(rows[i][1]));
		struct al_token_answer answer;

		al_token_read(world->provider, &world->refresh, &result, &answer);
		assert_int_equal(answer.kind, AL_ANSWER_REFUSED);
		assert_string_equal(answer.provider_code, "invalid_grant");
		al_token_answer_clear(&answer);
		al_http_result_clear(&result);
	}
	world_free(world);
}

/* ---- members ------------------------------------------------------------------------------- */

static struct al_token_answer read_members(struct world *world, const char *members)
{
	char body[1024];

	(void)snprintf(body, sizeof(body), "{\"access_token\":\"aa\"%s}", members);
	return read_end(world, AL_HTTP_ANSWER, 200, body, false, false);
}

static void an_absent_refresh_token_is_empty_and_a_new_one_is_taken(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ ",\"refresh_token\":null", "" },
		{ ",\"refresh_token\":\"\"", "" },
		{ ",\"refresh_token\":\"refresh+old/1=\"", "refresh+old/1=" },
		{ ",\"refresh_token\":\"new\"", "new" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer = read_members(world, rows[i][0]);

		assert_int_equal(answer.kind, AL_ANSWER_SET);
		assert_string_equal(al_buf_text(&answer.set.refresh_token), rows[i][1]);
		assert_string_equal(answer.message, "");
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void expires_in_is_read_in_all_its_shapes(void **state)
{
	static const struct {
		const char *shape;
		int64_t ms;
		bool noted;
	} rows[] = {
		{ "3600", 3600000, false },
		{ "86399.0", 86399000, false },
		{ "3.6e3", 3600000, false },
		{ "\"3600\"", 3600000, false },
		{ "\" 3600 \"", 3600000, false },
		{ "1", 1000, false },
		{ "315619200", INT64_C(315619200000), false },
		{ "315619201", INT64_C(315619200000), true },
		{ "9223372036854775807", INT64_C(315619200000), true },
		{ "99999999999999999999999", INT64_C(315619200000), true },
		{ "1e30", INT64_C(315619200000), true },
		{ "1e999", INT64_C(315619200000), true },
		{ "\"9223372036854775807\"", INT64_C(315619200000), true },
		{ "null", -1, false },
		{ "0", -1, true },
		{ "-3600", -1, true },
		{ "\"0\"", -1, true },
		{ "\"-5\"", -1, true },
		{ "\"soon\"", -1, true },
		{ "\"\"", -1, true },
		{ "true", -1, true },
		{ "\"3600x\"", -1, true },
		{ "\"36 00\"", -1, true },
		{ "3599.5", -1, true },
		{ "-1e30", -1, true },
		{ "[3600]", -1, true },
		{ "{}", -1, true },
		{ "false", -1, true },
	};
	static const char *const names[] = { "expires_in", "refresh_token_expires_in", "refresh_expires_in",
		"x_refresh_token_expires_in" };
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows) * AL_COUNT(names); i++) {
		size_t row = i / AL_COUNT(names);
		const char *name = names[i % AL_COUNT(names)];
		struct al_token_answer answer;
		char members[128];
		int64_t got;

		(void)snprintf(members, sizeof(members), ",\"%s\":%s", name, rows[row].shape);
		answer = read_members(world, members);
		assert_int_equal(answer.kind, AL_ANSWER_SET);
		got = name == names[0] ? answer.set.expires_in_ms : answer.set.refresh_expires_in_ms;
		if (got != rows[row].ms || (strstr(answer.message, name) != NULL) != rows[row].noted)
			fail_msg("%s %s: %lld, %s", name, rows[row].shape, (long long)got, answer.message);
		assert_int_equal(name == names[0] ? answer.set.refresh_expires_in_ms : answer.set.expires_in_ms, -1);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void scope_is_text_or_a_list_of_words(void **state)
{
	static const struct {
		const char *member;
		const char *scope;
		bool noted;
	} rows[] = {
		{ "", "", false },
		{ ",\"scope\":null", "", false },
		{ ",\"scope\":\"\"", "", false },
		{ ",\"scope\":\"offline_access openid\"", "offline_access openid", false },
		{ ",\"scope\":[\"openid\",\"\",\"offline_access\"]", "openid offline_access", false },
		{ ",\"scope\":[]", "", false },
		{ ",\"scope\":[\"openid\",7]", "", true },
		{ ",\"scope\":[\"openid\",null]", "", true },
		{ ",\"scope\":{\"a\":1}", "", true },
		{ ",\"scope\":true", "", true },
		{ ",\"scope\":\"a\\nb\"", "", true },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer = read_members(world, rows[i].member);

		assert_int_equal(answer.kind, AL_ANSWER_SET);
		assert_string_equal(al_buf_text(&answer.set.scope), rows[i].scope);
		assert_int_equal(strstr(answer.message, "scope") != NULL, rows[i].noted);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void an_odd_token_type_is_noted_and_never_a_reason_to_drop_a_set(void **state)
{
	static const char *const rows[][2] = {
		{ ",\"token_type\":\"bearer\"", "" },
		{ ",\"token_type\":\"BeArEr\"", "" },
		{ ",\"token_type\":null", "" },
		{ ",\"token_type\":\"\"", "" },
		{ ",\"token_type\":7", "" },
		{ ",\"token_type\":\"mac\"", "token_type is not bearer but \"mac\"" },
		{ ",\"token_type\":\"bearers\"", "token_type is not bearer but \"bearers\"" },
		{ ",\"token_type\":\"User Access Token\"", "token_type is not bearer but \"User Access Token\"" },
		{ ",\"token_type\":\"refresh+old/1=\"", "token_type is not bearer but \"\"" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer = read_members(world, rows[i][0]);

		assert_int_equal(answer.kind, AL_ANSWER_SET);
		assert_string_equal(answer.message, rows[i][1]);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void tokens_of_any_length_up_to_the_limit_come_back_equal(void **state)
{
	static const size_t sizes[] = { 1, 255, 4096, 16384, 65536, AL_TOKEN_MAX };
	struct world *world = open_world();
	char *token = malloc(AL_TOKEN_MAX + 2);
	struct al_buf body;

	(void)state;
	assert_non_null(token);
	al_buf_init(&body, AL_ANSWER_MAX);
	for (size_t i = 0; i < AL_COUNT(sizes); i++) {
		struct al_token_answer answer;

		for (size_t at = 0; at < sizes[i]; at++)
			token[at] = (char)('!' + at % 90 + (at % 90 > 0) + (at % 90 > 57));
		token[sizes[i]] = '\0';
		al_buf_clear(&body);
		assert_true(al_buf_printf(&body,
			"{\"access_token\":\"%s\",\"refresh_token\":\"%s\",\"id_token\":\"%s\"}", token, token, token));
		read_dressed(world, "application/json", body.data, body.len, &answer);
		assert_int_equal(answer.kind, AL_ANSWER_SET);
		assert_int_equal(answer.set.refresh_token.len, sizes[i]);
		assert_memory_equal(answer.set.refresh_token.data, token, sizes[i]);
		assert_memory_equal(answer.set.access_token.data, token, sizes[i]);
		assert_memory_equal(answer.set.id_token.data, token, sizes[i]);
		al_token_answer_clear(&answer);
	}
	al_buf_clear(&body);
	free(token);
	world_free(world);
}

static void a_token_over_the_limit_or_not_printable_is_left_out_and_noted(void **state)
{
	static const char *const bad[] = { "a\\nb", "a\\r\\nX-Evil: 1", "\\u00e9", "\\u007f", "caf\xe9" };
	struct world *world = open_world();
	struct al_token_answer answer;
	struct al_buf body;

	(void)state;
	al_buf_init(&body, AL_ANSWER_MAX);
	for (size_t i = 0; i <= AL_COUNT(bad); i++) {
		al_buf_clear(&body);
		assert_true(al_buf_puts(&body, "{\"access_token\":\"aa\",\"refresh_token\":\""));
		for (size_t at = 0; i == AL_COUNT(bad) && at <= AL_TOKEN_MAX; at++)
			assert_true(al_buf_put(&body, "r", 1));
		assert_true(al_buf_puts(&body, i == AL_COUNT(bad) ? "" : bad[i]) && al_buf_puts(&body, "\"}"));
		read_dressed(world, "application/json", body.data, body.len, &answer);
		assert_int_equal(answer.kind, AL_ANSWER_SET);
		assert_int_equal(answer.set.refresh_token.len, 0);
		assert_non_null(strstr(answer.message, "refresh_token is unusable"));
		al_token_answer_clear(&answer);
	}
	al_buf_clear(&body);
	world_free(world);
}

/* ---- what may be shown ------------------------------------------------------------------------ */

static void descriptions_are_shown_scrubbed(void **state)
{
	static const struct {
		const char *description;
		const char *message;
	} rows[] = {
		{ "The token is gone.", "HTTP 400, invalid_grant; The token is gone." },
		{ "two\\nlines \\u00e9", "HTTP 400, invalid_grant; two?lines ??" },
		{ "token refresh+old/1= is gone", "HTTP 400, invalid_grant" },
		{ "client p+q/r:s%t=u v is unknown", "HTTP 400, invalid_grant" },
		{ "token abcdefghijklmnopqrstuvwx is gone", "HTTP 400, invalid_grant" },
		{ "token abcdefghijklmnopqrstuvw is gone",
			"HTTP 400, invalid_grant; token abcdefghijklmnopqrstuvw is gone" },
		{ "", "HTTP 400, invalid_grant" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_token_answer answer;
		char body[512];

		(void)snprintf(body, sizeof(body), "{\"error\":\"invalid_grant\",\"error_description\":\"%s\"}",
			rows[i].description);
		answer = read_end(world, AL_HTTP_ANSWER, 400, body, false, false);
		assert_string_equal(answer.message, rows[i].message);
		al_token_answer_clear(&answer);
	}
	world_free(world);
}

static void a_long_description_is_cut_and_a_secret_at_its_far_end_drops_it(void **state)
{
	struct world *world = open_world();
	struct al_token_answer answer;
	char words[301];
	char body[512];

	(void)state;
	for (size_t i = 0; i < 300; i++)
		words[i] = i % 5 == 4 ? ' ' : 'w';
	words[300] = '\0';
	(void)snprintf(body, sizeof(body), "{\"error\":\"x\",\"error_description\":\"%s\"}", words);
	answer = read_end(world, AL_HTTP_ANSWER, 400, body, false, false);
	assert_int_equal(strlen(answer.message), strlen("HTTP 400, x; ") + 120);
	al_token_answer_clear(&answer);
	(void)snprintf(body, sizeof(body), "{\"error\":\"x\",\"error_description\":\"%srefresh+old/1=\"}", words);
	answer = read_end(world, AL_HTTP_ANSWER, 400, body, false, false);
	assert_string_equal(answer.message, "HTTP 400, x");
	al_token_answer_clear(&answer);
	world_free(world);
}

static void an_error_that_echoes_code_or_verifier_is_withheld(void **state)
{
	static const char *const bodies[] = {
		"{\"error\":\"bad code/1+2\",\"error_description\":\"code/1+2 is bad\"}",
		"{\"error\":\"verifier-._~\",\"error_description\":\"verifier-._~ is bad\"}",
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(bodies); i++) {
		struct al_http_result result = fake_result(400, "", bodies[i], strlen(bodies[i]));
		struct al_token_answer answer;

		al_token_read(world->provider, &world->exchange, &result, &answer);
		assert_string_equal(answer.provider_code, "withheld");
		assert_string_equal(answer.message, "HTTP 400, withheld");
		assert_int_equal(answer.kind, AL_ANSWER_REFUSED);
		al_token_answer_clear(&answer);
		al_http_result_clear(&result);
	}
	world_free(world);
}

static void an_over_long_error_code_is_cut_to_printable_text(void **state)
{
	struct world *world = open_world();
	struct al_token_answer answer;
	char error[201];
	char body[256];

	(void)state;
	memset(error, 'e', 200);
	error[200] = '\0';
	memcpy(error, "\xc3\xa9", 2);
	(void)snprintf(body, sizeof(body), "{\"error\":\"%s\"}", error);
	answer = read_end(world, AL_HTTP_ANSWER, 400, body, false, false);
	assert_int_equal(strlen(answer.provider_code), 63);
	assert_memory_equal(answer.provider_code, "??ee", 4);
	assert_int_equal(answer.kind, AL_ANSWER_OURS);
	al_token_answer_clear(&answer);
	world_free(world);
}

/* ---- revocation ----------------------------------------------------------------------------------- */

static void each_answer_to_a_revocation_has_one_end(void **state)
{
	static const struct {
		enum al_http_end end;
		int status;
		const char *body;
		enum al_revoke_end is;
		const char *code;
	} rows[] = {
		{ AL_HTTP_ANSWER, 200, "", AL_REVOKE_CONFIRMED, "" },
		{ AL_HTTP_ANSWER, 200, "ok", AL_REVOKE_CONFIRMED, "" },
		{ AL_HTTP_ANSWER, 200, "{}", AL_REVOKE_CONFIRMED, "" },
		{ AL_HTTP_ANSWER, 204, "", AL_REVOKE_CONFIRMED, "" },
		{ AL_HTTP_ANSWER, 400, "{\"error\":\"invalid_request\"}", AL_REVOKE_REFUSED, "invalid_request" },
		{ AL_HTTP_ANSWER, 400, "{\"error\":\"unsupported_token_type\"}", AL_REVOKE_REFUSED,
			"unsupported_token_type" },
		{ AL_HTTP_ANSWER, 200, "{\"error\":\"invalid_request\"}", AL_REVOKE_REFUSED, "invalid_request" },
		{ AL_HTTP_ANSWER, 401, "{\"error\":\"unauthorized_client\"}", AL_REVOKE_OPERATOR,
			"unauthorized_client" },
		{ AL_HTTP_ANSWER, 401, "{\"error\":\"invalid_client\"}", AL_REVOKE_OPERATOR, "invalid_client" },
		{ AL_HTTP_ANSWER, 408, "", AL_REVOKE_RETRY, "http_408" },
		{ AL_HTTP_ANSWER, 425, "", AL_REVOKE_RETRY, "http_425" },
		{ AL_HTTP_ANSWER, 429, "{\"error\":\"invalid_request\"}", AL_REVOKE_RETRY, "invalid_request" },
		{ AL_HTTP_ANSWER, 500, "{\"error\":\"invalid_request\"}", AL_REVOKE_RETRY, "invalid_request" },
		{ AL_HTTP_ANSWER, 503, "", AL_REVOKE_RETRY, "http_503" },
		{ AL_HTTP_ANSWER, 403, "<html>blocked</html>", AL_REVOKE_RETRY, "http_403" },
		{ AL_HTTP_ANSWER, 302, "", AL_REVOKE_RETRY, "http_302" },
		{ AL_HTTP_NOT_SENT, 0, "", AL_REVOKE_RETRY, "not_sent" },
		{ AL_HTTP_CUT, 0, "", AL_REVOKE_RETRY, "cut" },
		{ AL_HTTP_CUT, 200, "", AL_REVOKE_RETRY, "cut" },
	};
	struct world *world = open_world();

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_http_result result = fake_result(rows[i].status, "", rows[i].body, strlen(rows[i].body));
		struct al_token_answer detail;

		result.end = rows[i].end;
		if (al_revoke_read(world->provider, NULL, &result, &detail) != rows[i].is
			|| strcmp(detail.provider_code, rows[i].code) != 0)
			fail_msg("row %zu: %s", i, detail.provider_code);
		assert_int_equal(detail.http_status, rows[i].status);
		assert_int_equal(detail.message[0] == '\0', rows[i].is == AL_REVOKE_CONFIRMED);
		al_token_answer_clear(&detail);
		al_http_result_clear(&result);
	}
	world_free(world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_consent_url_has_every_parameter_in_order),
		cmocka_unit_test(what_is_not_given_is_not_sent),
		cmocka_unit_test(a_query_of_the_authorization_endpoint_is_kept),
		cmocka_unit_test(an_institution_can_not_smuggle_a_parameter),
		cmocka_unit_test(a_missing_institution_and_an_over_long_url_are_refused),
		cmocka_unit_test(nothing_is_built_or_sent_before_the_endpoints_are_known),
		cmocka_unit_test(client_authentication_is_exact_to_the_byte),
		cmocka_unit_test(an_unreserved_tilde_in_a_secret_stays_as_it_is),
		cmocka_unit_test(raw_basic_refuses_a_client_id_with_a_colon),
		cmocka_unit_test(akoya_exchanges_with_basic_and_refreshes_and_revokes_in_the_body),
		cmocka_unit_test(without_pkce_no_verifier_is_sent),
		cmocka_unit_test(a_refresh_token_of_the_greatest_length_is_sent_whole),
		cmocka_unit_test(a_provider_without_revocation_is_not_asked),
		cmocka_unit_test(a_request_that_can_not_start_is_an_error_and_never_done),
		cmocka_unit_test(each_answer_has_one_class),
		cmocka_unit_test(an_exchange_needs_the_configured_bearer_or_a_refresh_token),
		cmocka_unit_test(what_is_cut_is_unknown_unless_the_object_is_whole),
		cmocka_unit_test(a_cut_form_is_not_taken_since_its_last_token_may_be_half),
		cmocka_unit_test(a_redirect_is_unknown_and_named),
		cmocka_unit_test(retry_after_is_capped),
		cmocka_unit_test(without_rules_no_refresh_error_is_definite),
		cmocka_unit_test(a_good_set_is_read_in_every_dress),
		cmocka_unit_test(what_is_no_form_is_not_read_as_one),
		cmocka_unit_test(a_form_of_a_million_pairs_is_given_up_early),
		cmocka_unit_test(errors_are_found_in_every_dress),
		cmocka_unit_test(an_absent_refresh_token_is_empty_and_a_new_one_is_taken),
		cmocka_unit_test(expires_in_is_read_in_all_its_shapes),
		cmocka_unit_test(scope_is_text_or_a_list_of_words),
		cmocka_unit_test(an_odd_token_type_is_noted_and_never_a_reason_to_drop_a_set),
		cmocka_unit_test(tokens_of_any_length_up_to_the_limit_come_back_equal),
		cmocka_unit_test(a_token_over_the_limit_or_not_printable_is_left_out_and_noted),
		cmocka_unit_test(descriptions_are_shown_scrubbed),
		cmocka_unit_test(a_long_description_is_cut_and_a_secret_at_its_far_end_drops_it),
		cmocka_unit_test(an_error_that_echoes_code_or_verifier_is_withheld),
		cmocka_unit_test(an_over_long_error_code_is_cut_to_printable_text),
		cmocka_unit_test(each_answer_to_a_revocation_has_one_end),
	};

	return cmocka_run_group_tests_name("provider wire", tests, NULL, NULL);
}
