/* SPDX-License-Identifier: MIT
 * Akoya's consent and code exchange where they go wrong: pages from which nobody
 * comes back, callbacks that can't be trusted, and the token endpoint's own words
 * for each fault of a request. The faults are real: the practice provider is sent
 * what causes them, wherever a request can cause them at all.
 */
#include "akoya.h"

#define CODE_REFUSED "Invalid or expired code parameter."
#define CANARY "CANARY-0123456789-secret"

/* One consent under way. */
struct consent {
	struct th_flow flow;
	char *params;
};

static struct consent *consent_at(struct th_host *host, const char *user)
{
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_error err = { 0 };

	th_check(consent != NULL, "no memory");
	expect_status(th_begin(host, user, "mikomo", &consent->flow, &err), ACCTLINK_OK, &err);
	consent->params = th_consent(provider, consent->flow.url);
	return consent;
}

static void consent_free(struct consent **consent)
{
	free((*consent)->params);
	free(*consent);
	*consent = NULL;
}

/* ---- pages from which nobody comes back --------------------------------------------------- */

/* What a browser sees there. */
static void expect_page(const char *url, long status, const char *text)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	struct th_answer answer;

	th_check(th_browser_go(browser, "GET", url, NULL, NULL, &answer), "the bank does not answer");
	expect_number(answer.status, status);
	th_check(answer.location == NULL, "the browser is sent back to %s", answer.location);
	th_check(strstr(answer.body, text) != NULL, "\"%s\" is not on the page: %.300s", text, answer.body);
	th_answer_clear(&answer);
	th_browser_free(&browser);
}

static int be_akoya_with_pages(void **state)
{
	be_akoya(state);
	th_control(provider, "{'set':{'pages':true,'habits':true,'redirect_uris':['https://app.example/cb']}}");
	return 0;
}

static int forget_pages(void **state)
{
	(void)state;
	th_control(provider, "{'set':{'pages':false,'habits':false,'redirect_uris':null}}");
	return 0;
}

static void a_connector_that_akoya_does_not_know_brings_nobody_back_and_the_flow_expires(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "no-such-bank", flow, &err), ACCTLINK_OK, &err);
	expect_page(flow->url, 400, "Invalid ConnectorID");
	th_advance(host, provider, MINUTES(16));
	params = th_printf("code=fogeqqbz2xi23hvgvlu4ka2kq&state=%s", flow->state);
	expect_status(th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	expect_number(th_count(provider, "token", NULL), 0);
	/* It can be begun again at once. */
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_page(flow->url, 200, "<form");
	free(params);
	free(flow);
	th_host_free(&host);
}

/* The consent URL of a host whose section is wrong in one way. */
static void expect_wrong(const struct th_config *config, const char *text)
{
	struct th_host *host = host_with(config);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_page(flow->url, 400, text);
	expect_no_link(host, "ana");
	free(flow);
	th_host_free(&host);
}

static void a_client_or_redirect_uri_that_akoya_does_not_know_ends_on_its_own_page(void **state)
{
	const struct th_config client = { .client_id = "somebody-else" };
	const struct th_config redirect_uri = { .redirect_uri = "https://app.example/other" };

	(void)state;
	expect_wrong(&client, "Invalid client_id");
	expect_wrong(&redirect_uri, "redirect_uri");
	expect_number(th_count(provider, "token", NULL), 0);
}

static void expect_bad_config(struct th_config *config, const char *text)
{
	char *dir = th_temp_dir();
	struct th_host *host = NULL;
	acctlink_error err = { 0 };
	char *path;

	config->profile = "akoya";
	config->issuer = issuer;
	path = th_config_write(dir, provider, config);
	expect_status(th_host_try(path, NULL, &host, &err), ACCTLINK_BAD_CONFIG, &err);
	th_check(strstr(err.message, text) != NULL, "%s is not named: %s", text, err.message);
	th_check(strstr(err.where, "acctlink.conf:") != NULL, "no file and line: %s", err.where);
	free(path);
	free(dir);
}

static void an_empty_client_or_redirect_uri_is_refused_in_the_config(void **state)
{
	struct th_config client = { .client_id = "" };
	struct th_config redirect_uri = { .redirect_uri = "" };

	(void)state;
	expect_bad_config(&client, "client_id");
	expect_bad_config(&redirect_uri, "redirect_uri");
}

/* ---- callbacks ---------------------------------------------------------------------------------- */

static void expect_untrusted(struct th_host *host, const struct consent *consent, char *params, acctlink_status wanted)
{
	acctlink_error err = { 0 };

	th_check(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err) == wanted, "%s: %s", params,
		th_error_text(&err));
	free(params);
}

static void callbacks_that_can_not_be_trusted_send_nothing(void **state)
{
	struct th_host *host = host_with(NULL);
	struct consent *consent = consent_at(host, "ana");
	struct consent *eve = consent_at(host, "eve");
	char *code = th_param(consent->params, "code");
	const char *own = consent->flow.state;
	acctlink_error err = { 0 };

	(void)state;
	expect_untrusted(host, consent, th_printf("code=%s", code), ACCTLINK_BAD_CALLBACK);
	expect_untrusted(host, consent, th_printf("code=%s&state=", code), ACCTLINK_BAD_CALLBACK);
	expect_untrusted(host, consent, th_printf("code=%s&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", code),
		ACCTLINK_FOREIGN_CALLBACK);
	expect_untrusted(
		host, consent, th_printf("code=%s&error=access_denied&state=%s", code, own), ACCTLINK_BAD_CALLBACK);
	expect_untrusted(host, consent, th_printf("code=%s&code=x&state=%s", code, own), ACCTLINK_BAD_CALLBACK);
	expect_untrusted(host, consent, th_printf("code=%s&state=%s&state=%s", code, own, own), ACCTLINK_BAD_CALLBACK);
	/* Another session's: ana's browser with eve's state, eve's browser with ana's. */
	expect_untrusted(host, consent, th_printf("%s", eve->params), ACCTLINK_FOREIGN_CALLBACK);
	expect_status(th_callback(host, "eve", consent->params, eve->flow.cookie, NULL, &err),
		ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_number(th_count(provider, "token", NULL), 0);
	expect_no_link(host, "ana");
	/* None of that used the flow up; and a replay is told the first result, without a second exchange. */
	expect_status(th_callback(host, "ana", consent->params, consent->flow.cookie, NULL, &err), ACCTLINK_OK, &err);
	expect_status(th_callback(host, "ana", consent->params, consent->flow.cookie, NULL, &err), ACCTLINK_OK, &err);
	expect_number(th_count(provider, "token", NULL), 1);
	free(code);
	consent_free(&eve);
	consent_free(&consent);
	th_host_free(&host);
}

/* Where Akoya sends a browser whose consent URL was put together wrongly: the query of the redirect. */
static char *sent_back(const char *url, const char *right, const char *wrong)
{
	const char *at = strstr(url, right);
	struct th_browser *browser = th_browser_new(provider->ca_file);
	struct th_answer answer;
	char *altered;
	char *query;

	th_check(at != NULL, "%s is not in %s", right, url);
	altered = th_printf("%.*s%s%s", (int)(at - url), url, wrong, at + strlen(right));
	th_check(th_browser_go(browser, "GET", altered, NULL, NULL, &answer), "the bank does not answer");
	th_check(answer.location != NULL && strchr(answer.location, '?') != NULL, "HTTP %ld without a way back",
		answer.status);
	query = th_printf("%s", strchr(answer.location, '?') + 1);
	th_answer_clear(&answer);
	free(altered);
	th_browser_free(&browser);
	return query;
}

/* An error that the browser brings: typed, told, counted, and nothing comes of it. Takes params. */
static void expect_flow_failed(
	struct th_host *host, const struct th_flow *flow, char *params, const char *code, const char *text)
{
	const size_t before = th_lines_count(host->events, "FLOW_FAILED user=ana");
	acctlink_error err = { 0 };

	expect_status(th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	expect_text(err.provider_code, code);
	th_check(strstr(err.message, text) != NULL, "\"%s\" is not told: %s", text, err.message);
	expect_number(th_lines_count(host->events, "FLOW_FAILED user=ana"), before + 1);
	expect_number(th_count(provider, "token", NULL), 0);
	expect_no_link(host, "ana");
	free(params);
}

static void an_invalid_request_that_comes_back_is_told_and_stores_nothing(void **state)
{
	static const char words[] = "invalid_request: Invalid response type";
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	char *longest = malloc(2001);
	acctlink_error err = { 0 };

	(void)state;
	th_check(flow != NULL && longest != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_flow_failed(host, flow, sent_back(flow->url, "response_type=code", "response_type=token"),
		"invalid_request", words);
	/* As the documents print it; and as much of it as fits into an error. A word of 24
	 * letters would be taken for a token. */
	for (size_t i = 0; i < 2000; i++)
		longest[i] = i % 10 == 9 ? '+' : 'w';
	longest[2000] = '\0';
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_flow_failed(host, flow,
		th_printf("error=invalid_request&error_description=Invalid+response+type+%s&state=%s", longest,
			flow->state),
		"invalid_request", words);
	free(longest);
	free(flow);
	th_host_free(&host);
}

static void an_invalid_scope_that_comes_back_is_told_and_stores_nothing(void **state)
{
	static const char words[] = "invalid_scope: Missing required scope(s) [\"openid\"].";
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_flow_failed(host, flow, sent_back(flow->url, "scope=openid+", "scope="), "invalid_scope", words);
	/* With the raw characters that the documents show. */
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	expect_flow_failed(host, flow,
		th_printf("error=invalid_scope&error_description="
			  "Missing+required+scope(s)+[\"openid\"].&state=%s",
			flow->state),
		"invalid_scope", words);
	free(flow);
	th_host_free(&host);
}

static void a_user_who_says_no_is_no_fault(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;

	(void)state;
	th_check(flow != NULL, "no memory");
	th_script(provider, "auth", NULL, 1, "{'error':'access_denied'}");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_DENIED, &err);
	expect_text(err.provider_code, "access_denied");
	expect_number(th_lines_count(host->events, "DENIED user=ana"), 1);
	expect_number(th_lines_count(host->events, "FLOW_FAILED"), 0);
	expect_number(th_count(provider, "token", NULL), 0);
	expect_no_link(host, "ana");
	free(params);
	free(flow);
	th_host_free(&host);
}

static void akoyas_passing_trouble_means_begin_again(void **state)
{
	static const char *const errors[] = { "server_error", "temporarily_unavailable" };
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	size_t i;

	(void)state;
	th_check(flow != NULL, "no memory");
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		acctlink_error err = { 0 };
		char *params;

		th_script(provider, "auth", NULL, 1, "{'error':'%s'}", errors[i]);
		expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
		params = th_consent(provider, flow->url);
		expect_flow_failed(host, flow, params, errors[i], errors[i]);
	}
	link_user(host, "ana", NULL);
	expect_bearer(host, "ana", 1);
	free(flow);
	th_host_free(&host);
}

/* ---- the exchange -------------------------------------------------------------------------------- */

/* The consent ends so; a repeated callback is told the same and sends nothing more. Takes consent. */
static void expect_end(struct th_host *host, struct consent *consent, acctlink_status wanted, int http_status,
	const char *code, const char *text)
{
	char *sent = th_param(consent->params, "code");
	acctlink_error err = { 0 };

	expect_status(th_callback(host, "ana", consent->params, consent->flow.cookie, NULL, &err), wanted, &err);
	expect_number(err.http_status, http_status);
	expect_text(err.provider_code, code);
	th_check(strstr(err.message, text) != NULL, "\"%s\" is not told: %s", text, err.message);
	th_check(strstr(err.message, CANARY) == NULL && strstr(err.message, sent) == NULL, "a secret is told: %s",
		err.message);
	expect_untold(host, "code", sent);
	expect_status(th_callback(host, "ana", consent->params, consent->flow.cookie, NULL, &err), wanted, &err);
	expect_text(err.provider_code, code);
	expect_number(th_count(provider, "token", NULL), 1);
	expect_no_link(host, "ana");
	free(sent);
	consent_free(&consent);
}

static void an_expired_code_ends_the_consent_without_a_retry(void **state)
{
	struct th_host *host = host_with(NULL);
	struct consent *consent = consent_at(host, "ana");

	(void)state;
	th_advance(host, provider, MINUTES(5) + 1000); /* a code lives five minutes, a flow fifteen */
	expect_end(host, consent, ACCTLINK_FLOW_FAILED, 400, "invalid_request", CODE_REFUSED);
	th_host_free(&host);
}

static void a_wrong_code_ends_the_consent_without_a_retry(void **state)
{
	struct th_host *host = host_with(NULL);
	struct consent *consent = consent_at(host, "ana");

	(void)state;
	free(consent->params);
	consent->params = th_printf("code=fogeqqbz2xi23hvgvlu4ka2kq&state=%s", consent->flow.state);
	expect_end(host, consent, ACCTLINK_FLOW_FAILED, 400, "invalid_request", CODE_REFUSED);
	th_host_free(&host);
}

static void a_redirect_uri_that_differs_at_the_exchange_is_the_operators_fault(void **state)
{
	struct th_host *host = host_with(NULL);
	struct consent *consent = consent_at(host, "ana");

	(void)state;
	th_script(provider, "token", "authorization_code", 1,
		"{'status':400,'json':{'error':'invalid_request',"
		"'error_description':'redirect_uri did not match URI from initial request.'}}");
	expect_end(host, consent, ACCTLINK_BAD_CONFIG, 400, "invalid_request", "redirect_uri did not match");
	th_host_free(&host);
}

static void invalid_grant_without_a_description_ends_the_consent(void **state)
{
	struct th_host *host = host_with(NULL);
	struct consent *consent = consent_at(host, "ana");

	(void)state;
	th_script(provider, "token", "authorization_code", 1, "{'status':400,'json':{'error':'invalid_grant'}}");
	expect_end(host, consent, ACCTLINK_FLOW_FAILED, 400, "invalid_grant", "begin a new consent");
	th_host_free(&host);
}

static void a_wrong_client_secret_is_the_operators_fault_and_is_not_told(void **state)
{
	const struct th_config wrong = { .client_secret = CANARY };
	struct th_host *host = host_with(&wrong);
	struct consent *consent = consent_at(host, "ana");

	(void)state;
	expect_end(host, consent, ACCTLINK_CLIENT_REFUSED, 401, "invalid_client", "Invalid client credentials.");
	expect_number(th_lines_count(host->events, "FLOW_FAILED user=ana"), 1);
	expect_untold(host, "client secret", CANARY);
	expect_untold(host, "Basic header", "dGVzdC1jbGllbnQ6Q0FOQVJZ"); /* test-client:CANARY */
	th_host_free(&host);
}

#define akoya_test(f) cmocka_unit_test_setup(f, be_akoya)
#define page_test(f) cmocka_unit_test_setup_teardown(f, be_akoya_with_pages, forget_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		page_test(a_connector_that_akoya_does_not_know_brings_nobody_back_and_the_flow_expires),
		page_test(a_client_or_redirect_uri_that_akoya_does_not_know_ends_on_its_own_page),
		akoya_test(an_empty_client_or_redirect_uri_is_refused_in_the_config),
		akoya_test(callbacks_that_can_not_be_trusted_send_nothing),
		page_test(an_invalid_request_that_comes_back_is_told_and_stores_nothing),
		page_test(an_invalid_scope_that_comes_back_is_told_and_stores_nothing),
		akoya_test(a_user_who_says_no_is_no_fault), akoya_test(akoyas_passing_trouble_means_begin_again),
		akoya_test(an_expired_code_ends_the_consent_without_a_retry),
		akoya_test(a_wrong_code_ends_the_consent_without_a_retry),
		akoya_test(a_redirect_uri_that_differs_at_the_exchange_is_the_operators_fault),
		akoya_test(invalid_grant_without_a_description_ends_the_consent),
		akoya_test(a_wrong_client_secret_is_the_operators_fault_and_is_not_told)
	};

	return cmocka_run_group_tests_name("akoya consent", tests, start_provider, stop_provider);
}
