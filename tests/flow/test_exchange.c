/* SPDX-License-Identifier: MIT
 * The one request that exchanges a code: how the client proves itself, what
 * each answer means for the consent, and that whatever happens the code is
 * sent once and to nobody else.
 */
#include "steps.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- client authentication -------------------------------------------------- */

#define ODD_ID "acme app/1"
#define ODD_SECRET "p+q/r:s%t=u v"
#define ODD_BODY "client_id=acme+app%2F1&client_secret=p%2Bq%2Fr%3As%25t%3Du+v"

static void accept_odd_client(struct th_provider *provider, const char *method)
{
	th_control(provider, "{'set':{'clients':{'%s':'%s'},'auth':{'authorization_code':'%s'}}}", ODD_ID, ODD_SECRET,
		method);
}

static struct th_host *odd_client(struct th_provider *provider, const char *lines)
{
	const struct th_config config = { .client_id = ODD_ID, .client_secret = ODD_SECRET, .provider_lines = lines };

	return th_host_new(provider, &config);
}

/* Links with one request, whose Authorization header it returns (or NULL). */
static char *authorization_of_exchange(struct th_provider *provider, const char *lines)
{
	struct th_host *host = odd_client(provider, lines);
	char *header;

	th_must_link(host, provider, "ana", NULL, NULL);
	expect_exchanges(provider, 1);
	header = th_request(provider, "token", 0, "authorization");
	th_host_free(&host);
	return header;
}

static void expect_body_without_credentials(struct th_provider *provider)
{
	char *body = th_request_body(provider, "token", 0);

	expect_no_part(body, "client_id");
	expect_no_part(body, "client_secret");
	free(body);
}

static void basic_credentials_are_form_encoded_first(void **state)
{
	struct th_provider *provider = *state;
	char *header;

	accept_odd_client(provider, "basic");
	header = authorization_of_exchange(provider, NULL);
	expect_text(header, "Basic YWNtZSthcHAlMkYxOnAlMkJxJTJGciUzQXMlMjV0JTNEdSt2");
	expect_body_without_credentials(provider);
	free(header);
}

static void basic_credentials_may_go_raw_to_a_server_that_does_not_decode(void **state)
{
	struct th_provider *provider = *state;
	char *header;

	accept_odd_client(provider, "basic_raw");
	header = authorization_of_exchange(provider, "token_endpoint_auth_method = 'client_secret_basic_raw';");
	expect_text(header, "Basic YWNtZSBhcHAvMTpwK3EvcjpzJXQ9dSB2");
	expect_body_without_credentials(provider);
	free(header);
}

static void credentials_in_the_body_are_percent_encoded_once(void **state)
{
	struct th_provider *provider = *state;
	char *header;
	char *body;

	accept_odd_client(provider, "post");
	header = authorization_of_exchange(provider, "token_endpoint_auth_method = 'client_secret_post';");
	assert_null(header);
	body = th_request_body(provider, "token", 0);
	expect_part(body, "&" ODD_BODY);
	free(body);
}

static void a_public_client_sends_its_id_alone(void **state)
{
	const struct th_config config = { .client_id = "public-client",
		.client_secret = "",
		.provider_lines = "token_endpoint_auth_method = 'none';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	char *body;

	th_must_link(host, provider, "ana", NULL, NULL);
	assert_null(th_request(provider, "token", 0, "authorization"));
	body = th_request_body(provider, "token", 0);
	expect_part(body, "&client_id=public-client");
	expect_no_part(body, "client_secret");
	expect_exchanges(provider, 1);
	free(body);
	th_host_free(&host);
}

static void exchange_and_refresh_may_use_different_methods(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = odd_client(provider, "refresh_auth = 'client_secret_post';");
	acctlink_error err = { 0 };
	char *header;
	char *body;

	th_control(provider,
		"{'set':{'clients':{'%s':'%s'},'auth':{'authorization_code':'basic','refresh_token':'post'}}}", ODD_ID,
		ODD_SECRET);
	th_must_link(host, provider, "ana", NULL, NULL);
	header = th_request(provider, "token", 0, "authorization");
	expect_text(header, "Basic YWNtZSthcHAlMkYxOnAlMkJxJTJGciUzQXMlMjV0JTNEdSt2");
	th_advance(host, provider, MINUTES(2));
	expect_status(th_report(host, "ana", NULL, 1, &err), ACCTLINK_OK, &err);
	free(th_must_bearer(host, "ana", NULL, NULL));
	assert_null(th_request(provider, "token", 0, "authorization"));
	body = th_request_body(provider, "token", 0);
	expect_part(body, "&" ODD_BODY);
	assert_int_equal(th_count(provider, "token", NULL), 2);
	free(body);
	free(header);
	th_host_free(&host);
}

/* Trying another method would cost the code. */
static void a_refused_method_is_not_followed_by_another(void **state)
{
	static const char *const methods[] = { "client_secret_basic", "client_secret_basic_raw", "client_secret_post" };
	static const char *const wanted[] = { "post", "basic", "basic" };
	struct th_provider *provider = *state;
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < 3; i++) {
		char *lines = th_printf("token_endpoint_auth_method = '%s';", methods[i]);
		struct th_host *host = odd_client(provider, lines);
		struct consent *consent;

		th_control(provider, "{'set':{'burn_code_on_401':true}}");
		accept_odd_client(provider, wanted[i]);
		consent = consent_new(host, provider, "ana", NULL);
		expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_CLIENT_REFUSED, &err);
		assert_int_equal(err.http_status, 401);
		expect_text(err.provider_code, "invalid_client");
		expect_part(err.message, "Invalid client credentials.");
		expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_CLIENT_REFUSED, &err);
		expect_text(err.provider_code, "invalid_client");
		expect_exchanges(provider, (int)i + 1);
		assert_int_equal(th_max_arrivals(provider), 1);
		consent_free(&consent);
		th_host_free(&host);
		free(lines);
	}
}

/* ---- redirects ------------------------------------------------------------------ */

/* A port at which a connection would wait to be accepted. */
struct trap {
	int fd;
	int port;
};

static void set_trap(struct trap *trap)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);

	trap->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(trap->fd >= 0);
	assert_int_equal(bind(trap->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(trap->fd, 16), 0);
	assert_int_equal(getsockname(trap->fd, (struct sockaddr *)&at, &len), 0);
	trap->port = ntohs(at.sin_port);
}

static void expect_silence(const struct trap *trap)
{
	struct pollfd ready = { .fd = trap->fd, .events = POLLIN };

	assert_int_equal(poll(&ready, 1, 0), 0);
}

static void expect_no_step(struct th_host *host, struct th_provider *provider, const char *user, int status,
	const char *target, const char *shown)
{
	struct consent *consent = consent_new(host, provider, user, NULL);
	char *status_text = th_printf("HTTP %d", status);
	const int before = exchanges(provider);
	acctlink_error err = { 0 };

	th_script(provider, "token", NULL, 1, "{'redirect':{'status':%d,'location':'%s?code=CANARY#CANARY'}}", status,
		target);
	expect_status(return_with(consent, host, user, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	assert_int_equal(err.http_status, status);
	expect_part(err.message, status_text);
	expect_part(err.message, shown);
	expect_no_part(err.message, "CANARY");
	expect_status(return_with(consent, host, user, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	assert_int_equal(exchanges(provider), before + 1);
	assert_true(not_linked(host, user, NULL));
	free(status_text);
	consent_free(&consent);
}

static void a_redirected_exchange_is_followed_nowhere(void **state)
{
	static const int statuses[] = { 301, 302, 303, 307, 308 };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct trap trap;
	char *targets[4];
	size_t i;

	set_trap(&trap);
	targets[0] = th_printf("%s/elsewhere", provider->issuer);
	targets[1] = th_printf("https://localhost:%d/token", trap.port);
	targets[2] = th_printf("http://127.0.0.1:%d/token", trap.port);
	targets[3] = th_printf("file:///etc/passwd");
	for (i = 0; i < 20; i++) {
		char *user = th_printf("user-%zu", i);

		expect_no_step(host, provider, user, statuses[i / 4], targets[i % 4], targets[i % 4]);
		expect_silence(&trap);
		free(user);
	}
	assert_int_equal(th_count(provider, "other", NULL), 0);
	expect_exchanges(provider, 20);
	assert_int_equal(th_max_arrivals(provider), 1);
	for (i = 0; i < 4; i++)
		free(targets[i]);
	close(trap.fd);
	th_host_free(&host);
}

/* ---- what the answers mean --------------------------------------------------------- */

struct outcome {
	const char *what;
	const char *answer; /* what the provider does */
	acctlink_status status;
	int http_status;
	const char *code;
	const char *message;
	int64_t retry_after_ms;
};

static const struct outcome outcomes[] = {
	/* definite: this code is dead */
	{ "invalid_grant alone", "{'status':400,'json':{'error':'invalid_grant'}}", ACCTLINK_FLOW_FAILED, 400,
		"invalid_grant", "begin a new consent", 0 },
	{ "a code that Dex does not know",
		"{'status':400,'json':{'error':'invalid_request',"
		"'error_description':'Invalid or expired code parameter.'}}",
		ACCTLINK_FLOW_FAILED, 400, "invalid_request", "Invalid or expired code parameter.", 0 },
	{ "403 with invalid_grant", "{'status':403,'json':{'error':'invalid_grant'}}", ACCTLINK_FLOW_FAILED, 403,
		"invalid_grant", "begin a new consent", 0 },
	{ "an error of its own", "{'status':400,'json':{'error':'account_locked'}}", ACCTLINK_FLOW_FAILED, 400,
		"account_locked", "begin a new consent", 0 },
	{ "an error in a 200",
		"{'json':{'error':'bad_verification_code','error_description':'The code is incorrect.'}}",
		ACCTLINK_FLOW_FAILED, 200, "bad_verification_code", "The code is incorrect.", 0 },
	{ "an error beside tokens", "{'json':{'error':'invalid_grant','access_token':'error: no','id_token':''}}",
		ACCTLINK_FLOW_FAILED, 200, "invalid_grant", "begin a new consent", 0 },
	/* the operator's */
	{ "another redirect_uri, at Dex",
		"{'status':400,'json':{'error':'invalid_request',"
		"'error_description':'redirect_uri did not match URI from initial request.'}}",
		ACCTLINK_BAD_CONFIG, 400, "invalid_request", "redirect_uri did not match", 0 },
	{ "another redirect_uri, elsewhere",
		"{'status':400,'json':{'error':'invalid_grant',"
		"'error_description':'redirect_uri did not match URI from initial request.'}}",
		ACCTLINK_BAD_CONFIG, 400, "invalid_grant", "redirect_uri did not match", 0 },
	{ "invalid_client",
		"{'status':401,'json':{'error':'invalid_client',"
		"'error_description':'Invalid client credentials.'}}",
		ACCTLINK_CLIENT_REFUSED, 401, "invalid_client", "Invalid client credentials.", 0 },
	{ "unauthorized_client", "{'status':400,'json':{'error':'unauthorized_client'}}", ACCTLINK_CLIENT_REFUSED, 400,
		"unauthorized_client", "unauthorized_client", 0 },
	/* turned away; the code has been seen all the same */
	{ "503", "{'status':503,'body':'busy','headers':{'retry-after':'30'}}", ACCTLINK_FLOW_FAILED, 503, "http_503",
		"HTTP 503", 30000 },
	{ "429", "{'status':429,'json':{'error':'slow_down'}}", ACCTLINK_FLOW_FAILED, 429, "slow_down", "HTTP 429", 0 },
	{ "a firewall's page", "{'status':403,'body':'<html>Request blocked</html>','content_type':'text/html'}",
		ACCTLINK_FLOW_FAILED, 403, "http_403", "without an OAuth error", 0 },
	{ "401 without a body", "{'status':401,'body':''}", ACCTLINK_FLOW_FAILED, 401, "http_401", "HTTP 401", 0 },
	/* unknown */
	{ "500, as Dex says for an expired code", "{'status':500,'json':{'error':'server_error'}}",
		ACCTLINK_FLOW_FAILED, 500, "server_error", "HTTP 500", 0 },
	{ "502 with a page", "{'status':502,'body':'<html>Bad gateway</html>','content_type':'text/html'}",
		ACCTLINK_FLOW_FAILED, 502, "http_502", "HTTP 502", 0 },
	{ "504", "{'status':504,'body':''}", ACCTLINK_FLOW_FAILED, 504, "http_504", "HTTP 504", 0 },
	{ "an empty 200", "{'body':''}", ACCTLINK_FLOW_FAILED, 200, "empty_answer", "can't be read", 0 },
	{ "a page with 200", "{'body':'<html>Sign in</html>','content_type':'text/html'}", ACCTLINK_FLOW_FAILED, 200,
		"not_json", "can't be read", 0 },
	{ "a 200 without tokens", "{'json':{'token_type':'bearer'}}", ACCTLINK_FLOW_FAILED, 200, "no_token",
		"did not come", 0 },
	{ "cut before the answer", "{'cut':'before_answer'}", ACCTLINK_FLOW_FAILED, 0, "cut", "no whole answer came",
		0 },
	{ "reset before the answer", "{'cut':'before_answer','reset':true}", ACCTLINK_FLOW_FAILED, 0, "cut",
		"no whole answer came", 0 },
	{ "cut after the headers", "{'cut':'after_headers'}", ACCTLINK_FLOW_FAILED, 200, "cut", "no whole answer came",
		0 },
	{ "cut inside the tokens", "{'cut':'half_body'}", ACCTLINK_FLOW_FAILED, 200, "cut", "no whole answer came", 0 },
};

static void expect_code_unspoken(const struct consent *consent, const char *text)
{
	char *code = th_param(consent->params, "code");

	expect_no_part(text, code);
	expect_no_part(text, consent->flow.state);
	free(code);
}

static void check_outcome(
	struct th_host *host, struct th_provider *provider, const struct outcome *outcome, const char *user)
{
	struct consent *consent = consent_new(host, provider, user, NULL);
	char *event = th_printf(
		"FLOW_FAILED user=%s provider=test institution= link= state=0 reason=0 epoch=0 generation=0", user);
	acctlink_error err = { 0 };
	acctlink_status rc;

	th_script(provider, "token", NULL, 1, "%s", outcome->answer);
	rc = return_with(consent, host, user, NULL, &err);
	th_check(rc == outcome->status && err.http_status == outcome->http_status
			&& strcmp(err.provider_code, outcome->code) == 0
			&& err.retry_after_ms == outcome->retry_after_ms,
		"%s: %d %s, retry after %lld", outcome->what, (int)rc, th_error_text(&err),
		(long long)err.retry_after_ms);
	expect_part(err.message, outcome->message);
	expect_code_unspoken(consent, err.message);
	rc = return_with(consent, host, user, NULL, &err);
	th_check(rc == outcome->status && strcmp(err.provider_code, outcome->code) == 0, "%s, repeated: %d %s",
		outcome->what, (int)rc, th_error_text(&err));
	expect_events(host, event, 1);
	assert_true(not_linked(host, user, NULL));
	consent_free(&consent);
	free(event);
}

static void each_answer_to_an_exchange_has_its_meaning_and_is_final(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	const size_t count = sizeof(outcomes) / sizeof(outcomes[0]);
	size_t i;

	for (i = 0; i < count; i++) {
		char *user = th_printf("user-%zu", i);

		check_outcome(host, provider, &outcomes[i], user);
		free(user);
	}
	expect_exchanges(provider, (int)count);
	assert_int_equal(th_max_arrivals(provider), 1);
	assert_int_equal(th_lines_count(host->events, NULL), count);
	assert_int_equal(stored_number(host, "SELECT count(*) FROM link"), 0);
	th_host_free(&host);
}

static void a_wrong_and_an_expired_code_end_the_consent(void **state)
{
	static const char *const families[] = { "strict", "dex" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct consent *wrong = consent_new(host, provider, "ana", NULL);
		struct consent *old = consent_new(host, provider, "ana", NULL);
		char *params = th_printf("code=never-given&state=%s", wrong->flow.state);

		th_control(provider, "{'set':{'rotation':'%s'}}", families[i]);
		expect_status(
			th_callback(host, "ana", params, wrong->flow.cookie, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		/* The flow ended with it. */
		expect_status(return_with(wrong, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		th_advance(host, provider, MINUTES(6)); /* the code lives five minutes */
		expect_status(return_with(old, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		assert_int_equal(err.http_status, 400);
		expect_text(err.provider_code, i == 0 ? "invalid_grant" : "invalid_request");
		free(params);
		consent_free(&wrong);
		consent_free(&old);
	}
	expect_exchanges(provider, 4);
	assert_true(not_linked(host, "ana", NULL));
	th_host_free(&host);
}

static void a_set_that_came_whole_counts_though_the_connection_was_cut_after_it(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);

	th_script(provider, "token", NULL, 1, "{'cut':'after_body'}");
	th_must_link(host, provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, NULL));
	expect_exchanges(provider, 1);
	th_host_free(&host);
}

/* The provider has the code and may have used it: it is never sent again. */
static void a_code_of_unknown_outcome_is_never_resent(void **state)
{
	static const char *const answers[] = { "{'cut':'before_answer'}", "{'cut':'before_answer','spend':false}",
		"{'hold':'late'}" };
	const struct th_config config = { .provider_lines = "connect_timeout = 0.3; request_timeout = 0.3;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < 3; i++) {
		struct consent *consent = consent_new(host, provider, "ana", NULL);
		int again;

		th_script(provider, "token", NULL, 1, "%s", answers[i]);
		expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		expect_text(err.provider_code, i == 2 ? "timeout" : "cut");
		for (again = 0; again < 3; again++)
			expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		th_host_restart(host);
		expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
		expect_exchanges(provider, (int)i + 1);
		consent_free(&consent);
	}
	th_release(provider, "late");
	assert_int_equal(th_max_arrivals(provider), 1);
	assert_true(not_linked(host, "ana", NULL));
	th_host_free(&host);
}

/* ---- not sent ------------------------------------------------------------------------- */

static void a_code_that_was_not_sent_may_be_brought_again(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	int again;

	th_provider_down(provider, true);
	for (again = 0; again < 3; again++) {
		expect_status(return_with(consent, host, "ana", &result, &err), ACCTLINK_PROVIDER_DOWN, &err);
		expect_text(err.provider_code, "not_sent");
		expect_text(result.link_id, "");
	}
	assert_int_equal(th_lines_count(host->events, NULL), 0);
	th_provider_down(provider, false);
	expect_exchanges(provider, 0);
	expect_status(return_with(consent, host, "ana", &result, &err), ACCTLINK_OK, &err);
	assert_int_equal(result.flags, 0);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_code_that_was_not_sent_outlives_a_restart(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };

	th_provider_down(provider, true);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_PROVIDER_DOWN, &err);
	th_host_restart(host); /* now even the metadata is out of reach */
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_PROVIDER_DOWN, &err);
	th_provider_down(provider, false);
	th_advance(host, provider, 1500); /* a failed look-up is not repeated for a second */
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- who is asked ------------------------------------------------------------------------ */

/* A code belongs to the server and the client that it was given for. */
static void a_code_is_not_sent_to_a_server_or_for_a_client_that_was_configured_later(void **state)
{
	struct th_provider *provider = *state;
	struct th_provider *other = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, NULL);
	const struct th_config other_client = { .client_id = "public-client" };
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };

	rewrite_config(host, other, NULL);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	expect_part(err.message, "issuer or client_id was changed");
	rewrite_config(host, provider, &other_client);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	assert_int_equal(th_count(other, "token", NULL), 0);
	expect_exchanges(provider, 0);
	rewrite_config(host, provider, NULL); /* the mistake is undone: nothing was used up */
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
	th_provider_stop(&other);
}

/* ---- secrets -------------------------------------------------------------------------------- */

#define CANARY "c4n4ry-Secret~0f.the+client"

static void expect_no_canary(const char *text)
{
	expect_no_part(text, "c4n4ry");
	expect_no_part(text, "Secret~0f");
	expect_no_part(text, "client_secret=");
	expect_no_part(text, "Basic ");
}

/* A provider that repeats in its error what it was sent. */
static void a_refused_secret_is_neither_logged_nor_told(void **state)
{
	static const char *const methods[] = { "client_secret_basic", "client_secret_post" };
	static const char *const answers[] = {
		"{'status':401,'json':{'error':'invalid_client','error_description':'wrong secret " CANARY
		" for test-client'}}",
		"{'status':401,'json':{'error':'" CANARY "'}}",
		"{'status':401,'body':'" CANARY "'}",
	};
	struct th_provider *provider = *state;
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < 6; i++) {
		char *lines = th_printf("token_endpoint_auth_method = '%s';", methods[i % 2]);
		const struct th_config config = {
			.client_secret = CANARY, .lines = "log_level = 'debug';", .provider_lines = lines
		};
		struct th_host *host = th_host_new(provider, &config);
		struct consent *consent = consent_new(host, provider, "ana", NULL);
		acctlink_status rc;
		char *text;

		th_script(provider, "token", NULL, 1, "%s", answers[i / 2]);
		rc = return_with(consent, host, "ana", NULL, &err);
		th_check(rc == (i / 2 == 0 ? ACCTLINK_CLIENT_REFUSED : ACCTLINK_FLOW_FAILED), "%d %s", (int)rc,
			th_error_text(&err));
		expect_no_canary(err.message);
		expect_no_canary(err.where);
		expect_no_canary(err.provider_code);
		text = th_lines_text(host->logs);
		expect_no_canary(text);
		expect_code_unspoken(consent, text);
		free(text);
		text = th_lines_text(host->events);
		expect_no_canary(text);
		free(text);
		assert_int_equal(stored_number(host, "SELECT count(*) FROM audit WHERE detail LIKE '%c4n4ry%'"), 0);
		assert_int_equal(stored_number(host, "SELECT count(*) FROM flow WHERE result_code LIKE '%c4n4ry%'"), 0);
		consent_free(&consent);
		th_host_free(&host);
		free(lines);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { consent_test(basic_credentials_are_form_encoded_first),
		consent_test(basic_credentials_may_go_raw_to_a_server_that_does_not_decode),
		consent_test(credentials_in_the_body_are_percent_encoded_once),
		consent_test(a_public_client_sends_its_id_alone),
		consent_test(exchange_and_refresh_may_use_different_methods),
		consent_test(a_refused_method_is_not_followed_by_another),
		consent_test(a_redirected_exchange_is_followed_nowhere),
		consent_test(each_answer_to_an_exchange_has_its_meaning_and_is_final),
		consent_test(a_wrong_and_an_expired_code_end_the_consent),
		consent_test(a_set_that_came_whole_counts_though_the_connection_was_cut_after_it),
		consent_test(a_code_of_unknown_outcome_is_never_resent),
		consent_test(a_code_that_was_not_sent_may_be_brought_again),
		consent_test(a_code_that_was_not_sent_outlives_a_restart),
		consent_test(a_code_is_not_sent_to_a_server_or_for_a_client_that_was_configured_later),
		consent_test(a_refused_secret_is_neither_logged_nor_told) };

	return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
