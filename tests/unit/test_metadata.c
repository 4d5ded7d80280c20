/* SPDX-License-Identifier: MIT
 * Discovery, JWKS and the life of a provider, against a net room that the test
 * plays itself and a clock that it sets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_net.h"
#include "provider/provider_int.h"

#define ISSUER "https://op.example/"
#define THREADS 8

struct world {
	struct al_provider_config config;
	struct al_net *net;
	struct al_log log;
	struct al_clock clock;
	struct al_provider *provider;
	_Atomic int64_t boot_ms;
	char logged[1024];
};

static void read_clock(void *ctx, acctlink_time *now)
{
	struct world *world = ctx;

	now->wall_ms = INT64_C(1790000000000);
	now->boot_ms = world->boot_ms;
}

static void keep_log(void *ctx, int32_t level, const char *message)
{
	struct world *world = ctx;

	(void)level;
	(void)snprintf(world->logged, sizeof(world->logged), "%s", message);
}

static struct world *world_new(void)
{
	struct world *world = al_new(sizeof(*world));

	assert_non_null(world);
	world->config.name = (char *)"bank";
	world->config.where = (char *)"acctlink.conf:3";
	world->config.issuer = (char *)ISSUER;
	world->config.client_id = (char *)"client";
	world->config.discovery = true;
	world->config.id_token_expected = true;
	world->config.pkce = true;
	world->config.connect_timeout_ms = 1111;
	world->config.request_timeout_ms = 2222;
	world->config.retry_after_cap_ms = 60000;
	world->config.jwks_max_age_ms = 3600000;
	world->config.jwks_min_interval_ms = 60000;
	world->log.write = keep_log;
	world->log.ctx = world;
	world->log.max_level = ACCTLINK_LOG_DEBUG;
	world->clock.read = read_clock;
	world->clock.ctx = world;
	world->boot_ms = 1000000;
	world->net = fake_net_new();
	return world;
}

static void open_provider(struct world *world)
{
	assert_int_equal(
		al_provider_new(&world->config, world->net, &world->log, &world->clock, &world->provider, NULL),
		ACCTLINK_OK);
}

static void world_free(struct world *world)
{
	al_provider_unref(&world->provider);
	fake_net_free(&world->net);
	free(world);
}

struct waiter {
	struct al_wait wait;
	atomic_int calls;
};

static void waiter_done(void *ctx)
{
	struct waiter *waiter = ctx;

	atomic_fetch_add(&waiter->calls, 1);
}

static struct waiter new_waiter(void)
{
	struct waiter waiter;

	memset(&waiter, 0, sizeof(waiter));
	waiter.wait.done = waiter_done;
	return waiter;
}

static al_rc ask_ready(struct world *world, struct waiter *waiter, acctlink_error *err)
{
	*waiter = new_waiter();
	waiter->wait.ctx = waiter;
	return al_provider_ready(world->provider, &waiter->wait, err);
}

static al_rc ask_keys(struct world *world, struct waiter *waiter, acctlink_error *err)
{
	*waiter = new_waiter();
	waiter->wait.ctx = waiter;
	return al_provider_fetch_keys(world->provider, &waiter->wait, err);
}

static void deliver_text(struct world *world, size_t at, int status, const char *body)
{
	struct al_http_result result = fake_result(status, "application/json", body, strlen(body));

	fake_deliver(world->net, at, &result);
}

/* The last request gets this answer. */
static void answer(struct world *world, int status, const char *body)
{
	deliver_text(world, world->net->count - 1, status, body);
}

#define GOOD_ENDPOINTS \
	"\"authorization_endpoint\":\"https://op.example/auth\"," \
	"\"token_endpoint\":\"https://op.example/token\"," \
	"\"jwks_uri\":\"https://op.example/jwks\""
#define GOOD_METADATA "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS "}"
/* The public key of RFC 8037, appendix A.2. */
#define ONE_KEY \
	"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k1\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
#define TWO_KEYS \
	"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k1\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}," \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k2\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"

static void make_ready(struct world *world)
{
	struct waiter waiter;

	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, GOOD_METADATA);
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
}

/* ---- discovery ------------------------------------------------------------ */

static void the_well_known_url_drops_one_slash_of_the_issuer(void **state)
{
	static const char *const rows[][2] = {
		{ "https://op.example/", "https://op.example/.well-known/openid-configuration" },
		{ "https://op.example", "https://op.example/.well-known/openid-configuration" },
		{ "https://op.example/tenant/", "https://op.example/tenant/.well-known/openid-configuration" },
		{ "https://op.example/a//", "https://op.example/a//.well-known/openid-configuration" },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct world *world = world_new();
		struct waiter waiter;

		world->config.issuer = (char *)rows[i][0];
		open_provider(world);
		assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
		assert_string_equal(world->net->requests[0].url, rows[i][1]);
		answer(world, 500, "");
		world_free(world);
	}
}

static void discovery_is_one_bounded_get_with_the_configured_limits(void **state)
{
	struct world *world = world_new();
	struct fake_request *request = &world->net->requests[0];
	struct waiter waiter;

	(void)state;
	world->config.ca_file = (char *)"/etc/bank-ca.pem";
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	assert_int_equal(waiter.calls, 0);
	assert_int_equal(request->body.len, 0);
	assert_string_equal(request->headers[0], "Accept: application/json");
	assert_null(request->headers[1]);
	assert_string_equal(request->ca_file, "/etc/bank-ca.pem");
	assert_int_equal(request->connect_timeout_ms, 1111);
	assert_int_equal(request->timeout_ms, 2222);
	assert_int_equal(request->max_body, 1024 * 1024);
	answer(world, 200, GOOD_METADATA);
	assert_int_equal(waiter.calls, 1);
	world_free(world);
}

static void good_metadata_gives_all_endpoints(void **state)
{
	struct world *world = world_new();
	struct al_endpoints *endpoints;
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_null(al_provider_endpoints(world->provider));
	assert_false(al_provider_can_revoke(world->provider));
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	answer(world, 200,
		"{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ","
		"\"revocation_endpoint\":\"https://op.example/revoke\","
		"\"code_challenge_methods_supported\":[\"plain\",\"S256\"],"
		"\"authorization_response_iss_parameter_supported\":true,"
		"\"id_token_signing_alg_values_supported\":[\"HS256\",\"none\",\"ES256\",7,\"PS256\"]}");
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
	endpoints = al_provider_endpoints(world->provider);
	assert_string_equal(endpoints->authorization, "https://op.example/auth");
	assert_string_equal(endpoints->token, "https://op.example/token");
	assert_string_equal(endpoints->revocation, "https://op.example/revoke");
	assert_string_equal(endpoints->jwks, "https://op.example/jwks");
	assert_int_equal(endpoints->algs, AL_ALG_ES256 | AL_ALG_PS256);
	assert_true(endpoints->iss_parameter);
	assert_true(al_provider_can_revoke(world->provider));
	al_endpoints_unref(&endpoints);
	world_free(world);
}

static void metadata_without_options_means_rs256_and_no_iss_parameter(void **state)
{
	struct world *world = world_new();
	struct al_endpoints *endpoints;

	(void)state;
	open_provider(world);
	make_ready(world);
	endpoints = al_provider_endpoints(world->provider);
	assert_int_equal(endpoints->algs, AL_ALG_RS256);
	assert_false(endpoints->iss_parameter);
	assert_null(endpoints->revocation);
	assert_false(al_provider_can_revoke(world->provider));
	al_endpoints_unref(&endpoints);
	world_free(world);
}

static void configured_endpoints_and_algs_override_the_discovered_ones(void **state)
{
	struct world *world = world_new();
	struct al_endpoints *endpoints;
	struct waiter waiter;

	(void)state;
	world->config.token_endpoint = (char *)"https://other.example/token";
	world->config.revocation_endpoint = (char *)"https://other.example/revoke";
	world->config.algs = AL_ALG_EDDSA;
	open_provider(world);
	assert_true(al_provider_can_revoke(world->provider));
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	answer(world, 200,
		"{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ","
		"\"id_token_signing_alg_values_supported\":[\"RS256\"]}");
	endpoints = al_provider_endpoints(world->provider);
	assert_string_equal(endpoints->token, "https://other.example/token");
	assert_string_equal(endpoints->authorization, "https://op.example/auth");
	assert_string_equal(endpoints->revocation, "https://other.example/revoke");
	assert_int_equal(endpoints->algs, AL_ALG_EDDSA);
	al_endpoints_unref(&endpoints);
	world_free(world);
}

static void a_wrong_document_is_refused_with_a_reason(void **state)
{
	static const struct {
		const char *body;
		const char *says;
	} rows[] = {
		{ "{\"issuer\":\"https://op.example\"," GOOD_ENDPOINTS "}",
			"\"https://op.example\", the config \"https://op.example/\"" },
		{ "{\"issuer\":\"https://OP.example/\"," GOOD_ENDPOINTS "}", "\"https://OP.example/\"" },
		{ "{" GOOD_ENDPOINTS "}", "the issuer \"\"" },
		{ "{\"issuer\":7," GOOD_ENDPOINTS "}", "the issuer \"\"" },
		{ "<html></html>", "no JSON object" },
		{ "", "no JSON object" },
		{ "[]", "no JSON object" },
		{ GOOD_METADATA "x", "no JSON object" },
		{ "{\"issuer\":\"" ISSUER
		  "\",\"token_endpoint\":\"https://op.example/t\",\"jwks_uri\":\"https://op.example/j\"}",
			"no authorization_endpoint" },
		{ "{\"issuer\":\"" ISSUER
		  "\",\"authorization_endpoint\":\"https://op.example/a\",\"jwks_uri\":\"https://op.example/j\"}",
			"no token_endpoint" },
		{ "{\"issuer\":\"" ISSUER
		  "\",\"authorization_endpoint\":\"https://op.example/a\",\"token_endpoint\":\"https://op.example/t\"}",
			"no jwks_uri" },
		{ "{\"issuer\":\"" ISSUER "\",\"authorization_endpoint\":\"http://op.example/a\"}",
			"authorization_endpoint" },
		{ "{\"issuer\":\"" ISSUER "\",\"authorization_endpoint\":\"http://127.0.0.1/a\"}",
			"authorization_endpoint" },
		{ "{\"issuer\":\"" ISSUER "\",\"authorization_endpoint\":\"https://user:pw@op.example/a\"}",
			"https://op.example/a" },
		{ "{\"issuer\":\"" ISSUER "\",\"authorization_endpoint\":\"file:///etc/passwd\"}",
			"authorization_endpoint" },
		{ "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ",\"revocation_endpoint\":\"ftp://op.example/r\"}",
			"revocation_endpoint" },
		{ "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ",\"code_challenge_methods_supported\":[\"plain\"]}",
			"pkce = false" },
		{ "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ",\"code_challenge_methods_supported\":[]}", "S256" },
		{ "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS ",\"code_challenge_methods_supported\":\"S256\"}",
			"S256" },
		{ "{\"issuer\":\"" ISSUER "\"," GOOD_ENDPOINTS
		  ",\"id_token_signing_alg_values_supported\":[\"HS256\"]}",
			"none of RS256" },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct world *world = world_new();
		struct waiter waiter;

		open_provider(world);
		assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
		answer(world, 200, rows[i].body);
		assert_int_equal(waiter.calls, 1);
		assert_int_equal(waiter.wait.rc, ACCTLINK_BAD_PROVIDER);
		assert_int_equal(waiter.wait.err.status, ACCTLINK_BAD_PROVIDER);
		if (strstr(waiter.wait.err.message, rows[i].says) == NULL)
			fail_msg("row %zu: %s", i, waiter.wait.err.message);
		assert_null(strstr(waiter.wait.err.message, "user:pw"));
		assert_null(al_provider_endpoints(world->provider));
		world_free(world);
	}
}

static void pkce_and_keys_are_not_asked_of_a_provider_that_goes_without(void **state)
{
	struct world *world = world_new();
	struct waiter waiter;

	(void)state;
	world->config.pkce = false;
	world->config.id_token_expected = false;
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	answer(world, 200,
		"{\"issuer\":\"" ISSUER "\",\"code_challenge_methods_supported\":[\"plain\"],"
		"\"id_token_signing_alg_values_supported\":[\"HS256\"],"
		"\"authorization_endpoint\":\"https://op.example/a\",\"token_endpoint\":\"https://op.example/t\"}");
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
	assert_int_equal(ask_keys(world, &waiter, NULL), ACCTLINK_BAD_PROVIDER);
	world_free(world);
}

static void a_plain_issuer_on_loopback_may_have_plain_endpoints(void **state)
{
	struct world *world = world_new();
	struct waiter waiter;

	(void)state;
	world->config.issuer = (char *)"http://127.0.0.1:8080";
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	assert_string_equal(world->net->requests[0].url, "http://127.0.0.1:8080/.well-known/openid-configuration");
	answer(world, 200,
		"{\"issuer\":\"http://127.0.0.1:8080\","
		"\"authorization_endpoint\":\"http://127.0.0.1:8080/a\","
		"\"token_endpoint\":\"http://[::1]:8080/t\",\"jwks_uri\":\"http://localhost/j\"}");
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
	world_free(world);
}

static void failures_of_the_net_and_of_the_server_are_told_apart(void **state)
{
	static const struct {
		int status;
		al_rc rc;
	} rows[] = {
		{ 408, ACCTLINK_PROVIDER_DOWN },
		{ 425, ACCTLINK_PROVIDER_DOWN },
		{ 429, ACCTLINK_PROVIDER_DOWN },
		{ 500, ACCTLINK_PROVIDER_DOWN },
		{ 502, ACCTLINK_PROVIDER_DOWN },
		{ 503, ACCTLINK_PROVIDER_DOWN },
		{ 204, ACCTLINK_BAD_PROVIDER },
		{ 400, ACCTLINK_BAD_PROVIDER },
		{ 403, ACCTLINK_BAD_PROVIDER },
		{ 404, ACCTLINK_BAD_PROVIDER },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct world *world = world_new();
		struct waiter waiter;

		open_provider(world);
		assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
		answer(world, rows[i].status, GOOD_METADATA);
		assert_int_equal(waiter.wait.rc, rows[i].rc);
		assert_int_equal(waiter.wait.err.http_status, rows[i].status);
		assert_non_null(strstr(world->logged, "bank"));
		world_free(world);
	}
}

static void a_cut_unsent_or_too_large_answer_is_an_error(void **state)
{
	static const struct {
		enum al_http_end end;
		bool too_large;
		al_rc rc;
	} rows[] = {
		{ AL_HTTP_NOT_SENT, false, ACCTLINK_PROVIDER_DOWN },
		{ AL_HTTP_CUT, false, ACCTLINK_PROVIDER_DOWN },
		{ AL_HTTP_CUT, true, ACCTLINK_BAD_PROVIDER },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct world *world = world_new();
		struct al_http_result result = fake_result(200, "", GOOD_METADATA, strlen(GOOD_METADATA));
		struct waiter waiter;

		open_provider(world);
		assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
		result.end = rows[i].end;
		result.too_large = rows[i].too_large;
		(void)snprintf(result.reason, sizeof(result.reason), "no route");
		fake_deliver(world->net, 0, &result);
		assert_int_equal(waiter.wait.rc, rows[i].rc);
		assert_int_equal(strstr(waiter.wait.err.message, "no route") != NULL, !rows[i].too_large);
		world_free(world);
	}
}

static void redirects_of_metadata_and_keys_are_named_and_not_followed(void **state)
{
	static const int statuses[] = { 301, 302, 303, 307, 308 };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(statuses); i++) {
		struct world *world = world_new();
		struct al_http_result result = fake_result(statuses[i], "", "", 0);
		char status[16];
		struct waiter waiter;

		open_provider(world);
		assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
		(void)snprintf(result.location, sizeof(result.location), "http://evil.example/x");
		(void)snprintf(status, sizeof(status), "HTTP %d", statuses[i]);
		fake_deliver(world->net, 0, &result);
		assert_int_equal(waiter.wait.rc, ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(waiter.wait.err.message, "http://evil.example/x"));
		assert_non_null(strstr(waiter.wait.err.message, status));
		world->boot_ms += 1000;
		make_ready(world);
		assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
		result = fake_result(statuses[i], "", "", 0);
		(void)snprintf(result.location, sizeof(result.location), "http://evil.example/y");
		fake_deliver(world->net, 2, &result);
		assert_int_equal(waiter.wait.rc, ACCTLINK_BAD_PROVIDER);
		assert_non_null(strstr(waiter.wait.err.message, "http://evil.example/y"));
		assert_int_equal(world->net->count, 3);
		world_free(world);
	}
}

static void one_fetch_serves_all_who_wait(void **state)
{
	struct world *world = world_new();
	struct waiter waiters[5];

	(void)state;
	open_provider(world);
	for (size_t i = 0; i < AL_COUNT(waiters); i++)
		assert_int_equal(ask_ready(world, &waiters[i], NULL), AL_PENDING);
	assert_int_equal(world->net->count, 1);
	answer(world, 200, GOOD_METADATA);
	for (size_t i = 0; i < AL_COUNT(waiters); i++) {
		assert_int_equal(waiters[i].calls, 1);
		assert_int_equal(waiters[i].wait.rc, ACCTLINK_OK);
	}
	assert_int_equal(ask_ready(world, &waiters[0], NULL), ACCTLINK_OK);
	assert_int_equal(waiters[0].calls, 0);
	assert_int_equal(world->net->count, 1);
	world_free(world);
}

static void a_failed_discovery_is_not_repeated_for_a_second(void **state)
{
	struct world *world = world_new();
	struct al_http_result result = fake_result(503, "", "", 0);
	struct waiter waiter;
	acctlink_error err;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	result.retry_after_ms = 100000;
	fake_deliver(world->net, 0, &result);
	assert_int_equal(waiter.wait.rc, ACCTLINK_PROVIDER_DOWN);
	assert_int_equal(waiter.wait.err.retry_after_ms, 60000);
	world->boot_ms += 999;
	assert_int_equal(ask_ready(world, &waiter, &err), ACCTLINK_PROVIDER_DOWN);
	assert_int_equal(waiter.calls, 0);
	assert_int_equal(err.http_status, 503);
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_PROVIDER_DOWN);
	assert_int_equal(world->net->count, 1);
	world->boot_ms += 1;
	make_ready(world);
	assert_int_equal(world->net->count, 2);
	world_free(world);
}

static void endpoints_are_looked_up_anew_after_a_day_without_anyone_waiting(void **state)
{
	struct world *world = world_new();
	struct al_endpoints *old;
	struct al_endpoints *now;
	struct waiter waiter;

	(void)state;
	open_provider(world);
	make_ready(world);
	old = al_provider_endpoints(world->provider);
	world->boot_ms += INT64_C(24) * 3600 * 1000 - 1;
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_int_equal(world->net->count, 1);
	world->boot_ms += 1;
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_int_equal(world->net->count, 2);
	answer(world, 500, "");
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_int_equal(world->net->count, 2);
	now = al_provider_endpoints(world->provider);
	assert_ptr_equal(now, old);
	al_endpoints_unref(&now);
	world->boot_ms += 1000;
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_int_equal(world->net->count, 3);
	answer(world, 200,
		"{\"issuer\":\"" ISSUER "\",\"authorization_endpoint\":\"https://op.example/new\","
		"\"token_endpoint\":\"https://op.example/t\",\"jwks_uri\":\"https://op.example/j\"}");
	now = al_provider_endpoints(world->provider);
	assert_string_equal(now->authorization, "https://op.example/new");
	assert_string_equal(old->authorization, "https://op.example/auth");
	assert_int_equal(waiter.calls, 0);
	al_endpoints_unref(&now);
	al_endpoints_unref(&old);
	world_free(world);
}

static void a_fetch_that_can_not_be_started_is_an_error_of_the_call(void **state)
{
	struct world *world = world_new();
	struct waiter waiter;
	acctlink_error err;

	(void)state;
	open_provider(world);
	world->net->refuse = true;
	assert_int_equal(ask_ready(world, &waiter, &err), ACCTLINK_INTERNAL);
	assert_string_equal(err.message, "the fake refuses");
	assert_int_equal(waiter.calls, 0);
	world->net->refuse = false;
	world->boot_ms += 1000;
	make_ready(world);
	world->net->refuse = true;
	assert_int_equal(ask_keys(world, &waiter, &err), ACCTLINK_INTERNAL);
	assert_int_equal(waiter.calls, 0);
	world->boot_ms += INT64_C(24) * 3600 * 1000;
	assert_int_equal(ask_ready(world, &waiter, &err), ACCTLINK_OK);
	world->net->refuse = false;
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, ONE_KEY);
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
	world_free(world);
}

static void a_fetch_in_flight_holds_the_provider(void **state)
{
	struct world *world = world_new();
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), AL_PENDING);
	al_provider_unref(&world->provider);
	assert_null(world->provider);
	answer(world, 200, GOOD_METADATA);
	assert_int_equal(waiter.calls, 1);
	assert_int_equal(waiter.wait.rc, ACCTLINK_OK);
	world_free(world);
}

struct racer {
	pthread_t thread;
	struct world *world;
	struct waiter waiter;
	al_rc rc;
};

static void *race_ready(void *ctx)
{
	struct racer *racer = ctx;

	racer->waiter.wait.ctx = &racer->waiter;
	racer->rc = al_provider_ready(racer->world->provider, &racer->waiter.wait, NULL);
	return NULL;
}

static void threads_that_race_for_discovery_share_one_fetch(void **state)
{
	struct world *world = world_new();
	struct racer racers[THREADS];

	(void)state;
	open_provider(world);
	for (size_t i = 0; i < THREADS; i++) {
		racers[i].world = world;
		racers[i].waiter = new_waiter();
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race_ready, &racers[i]), 0);
	}
	while (fake_net_count(world->net) == 0)
		sched_yield();
	/* Some threads may ask before the answer, some after it. */
	answer(world, 200, GOOD_METADATA);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
	for (size_t i = 0; i < THREADS; i++) {
		if (racers[i].rc == AL_PENDING)
			assert_int_equal(racers[i].waiter.calls, 1);
		else
			assert_int_equal(racers[i].rc, ACCTLINK_OK);
	}
	assert_int_equal(fake_net_count(world->net), 1);
	world_free(world);
}

/* ---- a config without discovery ---------------------------------------------- */

static struct world *fixed_world(void)
{
	struct world *world = world_new();

	world->config.discovery = false;
	world->config.authorization_endpoint = (char *)"https://idp.example/auth";
	world->config.token_endpoint = (char *)"https://idp.example/token";
	world->config.jwks_uri = (char *)"https://idp.example/keys";
	return world;
}

static void configured_endpoints_are_ready_at_once_and_for_ever(void **state)
{
	struct world *world = fixed_world();
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	world->boot_ms += INT64_C(90) * 24 * 3600 * 1000;
	assert_int_equal(ask_ready(world, &waiter, NULL), ACCTLINK_OK);
	assert_false(al_provider_can_revoke(world->provider));
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	assert_int_equal(world->net->count, 1);
	assert_string_equal(world->net->requests[0].url, "https://idp.example/keys");
	answer(world, 200, ONE_KEY);
	world_free(world);
}

static void missing_endpoints_and_issuers_are_errors_of_the_config(void **state)
{
	struct al_provider *provider = NULL;
	acctlink_error err;

	(void)state;
	for (int missing = 0; missing < 4; missing++) {
		struct world *world = fixed_world();

		if (missing == 0)
			world->config.authorization_endpoint = NULL;
		else if (missing == 1)
			world->config.token_endpoint = NULL;
		else if (missing == 2)
			world->config.jwks_uri = NULL;
		world->config.discovery = missing == 3;
		if (missing == 3)
			world->config.issuer = NULL;
		assert_int_equal(
			al_provider_new(&world->config, world->net, &world->log, &world->clock, &provider, &err),
			ACCTLINK_BAD_CONFIG);
		assert_string_equal(err.where, "acctlink.conf:3");
		assert_null(provider);
		world_free(world);
	}
}

/* ---- keys --------------------------------------------------------------------- */

static size_t key_count(struct world *world)
{
	size_t count;

	pthread_mutex_lock(&world->provider->lock);
	count = world->provider->keys == NULL ? 0 : al_jwks_count(world->provider->keys);
	pthread_mutex_unlock(&world->provider->lock);
	return count;
}

static void keys_before_discovery_are_refused(void **state)
{
	struct world *world = world_new();
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_keys(world, &waiter, NULL), ACCTLINK_BAD_PROVIDER);
	assert_int_equal(world->net->count, 0);
	world_free(world);
}

static void keys_are_fetched_once_for_all_and_then_at_most_once_per_interval(void **state)
{
	struct world *world = world_new();
	struct waiter waiters[3];
	acctlink_error err;

	(void)state;
	open_provider(world);
	make_ready(world);
	for (size_t i = 0; i < AL_COUNT(waiters); i++)
		assert_int_equal(ask_keys(world, &waiters[i], NULL), AL_PENDING);
	assert_int_equal(world->net->count, 2);
	assert_string_equal(world->net->requests[1].url, "https://op.example/jwks");
	answer(world, 200, ONE_KEY);
	for (size_t i = 0; i < AL_COUNT(waiters); i++) {
		assert_int_equal(waiters[i].calls, 1);
		assert_int_equal(waiters[i].wait.rc, ACCTLINK_OK);
	}
	assert_int_equal(key_count(world), 1);
	assert_int_equal(world->provider->keys_fetched_at, world->boot_ms);
	world->boot_ms += 20000;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(ask_keys(world, &waiters[0], &err), ACCTLINK_PROVIDER_DOWN);
		assert_int_equal(err.retry_after_ms, 40000);
	}
	assert_int_equal(world->net->count, 2);
	assert_int_equal(waiters[0].calls, 0);
	world->boot_ms += 40000;
	assert_int_equal(ask_keys(world, &waiters[0], NULL), AL_PENDING);
	answer(world, 200, TWO_KEYS);
	assert_int_equal(key_count(world), 2);
	world_free(world);
}

static void the_shorter_of_max_age_and_config_ends_the_keys(void **state)
{
	static const struct {
		int64_t max_age_ms;
		int64_t life_ms;
	} rows[] = {
		{ -1, 3600000 },
		{ 0, 3600000 },
		{ 600000, 600000 },
		{ 7200000, 3600000 },
		{ INT64_MAX, 3600000 },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct world *world = fixed_world();
		struct al_http_result result = fake_result(200, "", ONE_KEY, strlen(ONE_KEY));
		struct waiter waiter;

		open_provider(world);
		assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
		result.max_age_ms = rows[i].max_age_ms;
		fake_deliver(world->net, 0, &result);
		assert_int_equal(world->provider->keys_until, world->boot_ms + rows[i].life_ms);
		world_free(world);
	}
}

static void keys_that_ended_before_the_interval_may_be_fetched(void **state)
{
	struct world *world = fixed_world();
	struct al_http_result result = fake_result(200, "", ONE_KEY, strlen(ONE_KEY));
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	result.max_age_ms = 5000;
	fake_deliver(world->net, 0, &result);
	world->boot_ms += 4999;
	assert_int_equal(ask_keys(world, &waiter, NULL), ACCTLINK_PROVIDER_DOWN);
	world->boot_ms += 1;
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, ONE_KEY);
	world_free(world);
}

static void a_bad_answer_never_replaces_good_keys_and_is_retried_after_a_second(void **state)
{
	static const struct {
		int status;
		const char *body;
		al_rc rc;
	} rows[] = {
		{ 503, "", ACCTLINK_PROVIDER_DOWN },
		{ 404, "<html>", ACCTLINK_BAD_PROVIDER },
		{ 200, "<html>", ACCTLINK_BAD_PROVIDER },
		{ 200, "", ACCTLINK_BAD_PROVIDER },
		{ 200, "{\"keys\":[]}", ACCTLINK_BAD_PROVIDER },
		{ 200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", ACCTLINK_BAD_PROVIDER },
		{ 200, "{}", ACCTLINK_BAD_PROVIDER },
	};
	struct world *world = fixed_world();
	struct waiter waiter;
	int64_t fetched_at;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, TWO_KEYS);
	fetched_at = world->boot_ms;
	world->boot_ms += 60000;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
		answer(world, rows[i].status, rows[i].body);
		assert_int_equal(waiter.wait.rc, rows[i].rc);
		assert_int_equal(key_count(world), 2);
		assert_int_equal(world->provider->keys_fetched_at, fetched_at);
		assert_int_equal(world->provider->keys_until, fetched_at + 3600000);
		world->boot_ms += 999;
		assert_int_equal(ask_keys(world, &waiter, NULL), ACCTLINK_PROVIDER_DOWN);
		world->boot_ms += 1;
	}
	world_free(world);
}

static void keys_in_use_outlive_their_replacement(void **state)
{
	struct world *world = fixed_world();
	struct al_jwks *held;
	struct waiter waiter;

	(void)state;
	open_provider(world);
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, ONE_KEY);
	held = al_jwks_ref(world->provider->keys);
	world->boot_ms += 60000;
	assert_int_equal(ask_keys(world, &waiter, NULL), AL_PENDING);
	answer(world, 200, TWO_KEYS);
	assert_int_equal(al_jwks_count(held), 1);
	assert_int_equal(key_count(world), 2);
	al_jwks_free(&held);
	world_free(world);
}

/* ---- identity ------------------------------------------------------------------- */

static void fingerprint_of(struct world *world, const char *issuer, const char *token_endpoint, const char *client_id,
	unsigned char out[32])
{
	struct al_provider *provider = NULL;

	world->config.issuer = (char *)issuer;
	world->config.token_endpoint = (char *)token_endpoint;
	world->config.client_id = (char *)client_id;
	assert_int_equal(
		al_provider_new(&world->config, world->net, &world->log, &world->clock, &provider, NULL), ACCTLINK_OK);
	assert_ptr_equal(al_provider_config(provider), &world->config);
	assert_int_equal(al_provider_fingerprint(provider, out, NULL), ACCTLINK_OK);
	al_provider_unref(&provider);
}

static void the_fingerprint_tells_servers_and_clients_apart(void **state)
{
	static const char *const rows[][3] = {
		{ "https://a.example", "https://a.example/t", "c" },
		{ "https://a.example/", "https://a.example/t", "c" },
		{ "https://a.example", "https://a.example/t", "d" },
		{ "https://a.examplec", "https://a.example/t", "" },
		{ NULL, "https://a.example", "c" },
		{ NULL, "https://a.example/t", "c" },
	};
	struct world *world = fixed_world();
	unsigned char prints[AL_COUNT(rows)][32];
	unsigned char again[32];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		fingerprint_of(world, rows[i][0], rows[i][1], rows[i][2], prints[i]);
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(prints[i], prints[j], 32);
	}
	/* A moved token endpoint of the same issuer is the same server. */
	fingerprint_of(world, rows[0][0], "https://b.example/t", rows[0][2], again);
	assert_memory_equal(again, prints[0], 32);
	world_free(world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_well_known_url_drops_one_slash_of_the_issuer),
		cmocka_unit_test(discovery_is_one_bounded_get_with_the_configured_limits),
		cmocka_unit_test(good_metadata_gives_all_endpoints),
		cmocka_unit_test(metadata_without_options_means_rs256_and_no_iss_parameter),
		cmocka_unit_test(configured_endpoints_and_algs_override_the_discovered_ones),
		cmocka_unit_test(a_wrong_document_is_refused_with_a_reason),
		cmocka_unit_test(pkce_and_keys_are_not_asked_of_a_provider_that_goes_without),
		cmocka_unit_test(a_plain_issuer_on_loopback_may_have_plain_endpoints),
		cmocka_unit_test(failures_of_the_net_and_of_the_server_are_told_apart),
		cmocka_unit_test(a_cut_unsent_or_too_large_answer_is_an_error),
		cmocka_unit_test(redirects_of_metadata_and_keys_are_named_and_not_followed),
		cmocka_unit_test(one_fetch_serves_all_who_wait),
		cmocka_unit_test(a_failed_discovery_is_not_repeated_for_a_second),
		cmocka_unit_test(endpoints_are_looked_up_anew_after_a_day_without_anyone_waiting),
		cmocka_unit_test(a_fetch_that_can_not_be_started_is_an_error_of_the_call),
		cmocka_unit_test(a_fetch_in_flight_holds_the_provider),
		cmocka_unit_test(threads_that_race_for_discovery_share_one_fetch),
		cmocka_unit_test(configured_endpoints_are_ready_at_once_and_for_ever),
		cmocka_unit_test(missing_endpoints_and_issuers_are_errors_of_the_config),
		cmocka_unit_test(keys_before_discovery_are_refused),
		cmocka_unit_test(keys_are_fetched_once_for_all_and_then_at_most_once_per_interval),
		cmocka_unit_test(the_shorter_of_max_age_and_config_ends_the_keys),
		cmocka_unit_test(keys_that_ended_before_the_interval_may_be_fetched),
		cmocka_unit_test(a_bad_answer_never_replaces_good_keys_and_is_retried_after_a_second),
		cmocka_unit_test(keys_in_use_outlive_their_replacement),
		cmocka_unit_test(the_fingerprint_tells_servers_and_clients_apart),
	};

	return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
