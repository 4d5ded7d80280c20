/* SPDX-License-Identifier: MIT
 * Akoya's wire to the letter, as its documents show it, against the practice
 * provider: consent URL, exchange with Basic, refresh and revocation with the
 * credentials in the body, the id_token as bearer, Dex's words for a dead
 * refresh token, and one grant per bank login.
 */
#include "akoya.h"

#include <sqlite3.h>

/* ---- forms, to the letter --------------------------------------------------------- */

/* The names of a query or body in order, joined by spaces. */
static char *names_of(const char *form)
{
	char *names = calloc(1, strlen(form) + 2);

	th_check(names != NULL, "no memory");
	for (const char *at = form; *at != '\0'; at += strcspn(at, "&") + (at[strcspn(at, "&")] == '&' ? 1 : 0)) {
		if (names[0] != '\0')
			strcat(names, " ");
		strncat(names, at, strcspn(at, "=&"));
	}
	return names;
}

static void expect_names(const char *form, const char *wanted)
{
	char *names = names_of(form);

	expect_text(names, wanted);
	free(names);
}

/* NULL: it must be absent. */
static void expect_param(const char *form, const char *name, const char *wanted)
{
	char *value = th_param(form, name);

	if (wanted != NULL)
		expect_text(value, wanted);
	else
		th_check(value == NULL, "%s is sent", name);
	free(value);
}

static void expect_header(const char *endpoint, const char *name, const char *wanted)
{
	char *value = th_request(provider, endpoint, 0, name);

	if (wanted != NULL)
		expect_text(value, wanted);
	else
		th_check(value == NULL, "%s: %s is sent", endpoint, name);
	free(value);
}

static void expect_form_post(const char *endpoint, const char *path, const char *authorization)
{
	expect_header(endpoint, "path", path);
	expect_header(endpoint, "content_type", "application/x-www-form-urlencoded");
	expect_header(endpoint, "accept", "application/json");
	expect_header(endpoint, "authorization", authorization);
}

/* ---- the consent URL ----------------------------------------------------------------- */

static void the_consent_url_is_akoyas(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	char *begin = th_printf("%s/auth?", provider->issuer);
	acctlink_error err = { 0 };
	char *challenge;
	char *nonce;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	th_check(strncmp(flow->url, begin, strlen(begin)) == 0, "the URL is %s", flow->url);
	expect_names(flow->url + strlen(begin),
		"response_type client_id redirect_uri scope state nonce code_challenge "
		"code_challenge_method connector");
	expect_param(flow->url, "connector", "mikomo");
	expect_param(flow->url, "client_id", "test-client");
	expect_param(flow->url, "response_type", "code");
	expect_param(flow->url, "redirect_uri", "https://app.example/cb");
	expect_param(flow->url, "scope", "openid offline_access");
	expect_param(flow->url, "state", flow->state);
	expect_param(flow->url, "code_challenge_method", "S256");
	th_check(strstr(flow->url, "&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&") != NULL
			&& strstr(flow->url, "&scope=openid+offline_access&") != NULL,
		"it is encoded otherwise: %s", flow->url);
	th_check(strlen(flow->state) >= 22, "the state has %zu characters", strlen(flow->state));
	challenge = th_param(flow->url, "code_challenge");
	expect_number(strlen(challenge), 43);
	nonce = th_param(flow->url, "nonce");
	th_check(strlen(nonce) >= 22 && strcmp(nonce, flow->state) != 0, "the nonce is %s", nonce);
	expect_number(th_count(provider, "discovery", NULL), 0); /* Akoya documents none */
	expect_number(th_count(provider, "other", NULL), 0);
	free(challenge);
	free(nonce);
	free(begin);
	free(flow);
	th_host_free(&host);
}

static void the_connector_is_required_and_sent_as_it_is_given(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", NULL, flow, &err), ACCTLINK_BAD_ARGUMENT, &err);
	expect_status(th_begin(host, "ana", "", flow, &err), ACCTLINK_BAD_ARGUMENT, &err);
	expect_number(th_count(provider, "auth", NULL), 0);
	expect_status(th_begin(host, "ana", "Mikomo & Sons/1", flow, &err), ACCTLINK_OK, &err);
	expect_param(flow->url, "connector", "Mikomo & Sons/1");
	th_check(strstr(flow->url, "&connector=Mikomo+%26+Sons%2F1") != NULL, "it is encoded otherwise: %s", flow->url);
	free(flow);
	th_host_free(&host);
}

/* ---- the token endpoint ------------------------------------------------------------------ */

static void the_exchange_authenticates_with_basic_only(void **state)
{
	struct th_host *host = host_with(NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;
	char *code;
	char *body;
	char *verifier;

	(void)state;
	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, "ana", "mikomo", flow, &err), ACCTLINK_OK, &err);
	params = th_consent(provider, flow->url);
	expect_status(th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	expect_number(th_count(provider, "token", NULL), 1);
	expect_form_post("token", "/token", "Basic dGVzdC1jbGllbnQ6dGVzdC1zZWNyZXQ=");
	body = th_request_body(provider, "token", 0);
	expect_names(body, "grant_type code redirect_uri code_verifier");
	code = th_param(params, "code");
	expect_param(body, "grant_type", "authorization_code");
	expect_param(body, "code", code);
	expect_param(body, "redirect_uri", "https://app.example/cb");
	verifier = th_param(body, "code_verifier");
	th_check(strlen(verifier) >= 43 && strlen(verifier) <= 128, "the code_verifier has %zu characters",
		strlen(verifier));
	expect_number(th_count(provider, "jwks", NULL), 1);
	expect_header("jwks", "path", "/keys");
	free(verifier);
	free(body);
	free(code);
	free(params);
	free(flow);
	th_host_free(&host);
}

static void the_refresh_has_its_credentials_in_the_body_only(void **state)
{
	struct th_host *host = host_with(NULL);
	char *hash;
	char *token;
	char *wanted;
	char *body;

	(void)state;
	link_user(host, "ana", NULL);
	expect_bearer(host, "ana", 1);
	hash = th_grant_current(provider, -1);
	token = th_raw_token(provider, hash);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 2);
	expect_number(refreshes(), 1);
	expect_form_post("token", "/token", NULL);
	body = th_request_body(provider, "token", 0);
	wanted = th_printf(
		"grant_type=refresh_token&refresh_token=%s&client_id=test-client&client_secret=test-secret", token);
	expect_text(body, wanted);
	expect_number(th_arrivals(provider, hash), 1);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 3); /* with the new refresh token */
	expect_number(refreshes(), 2);
	expect_number(th_max_arrivals(provider), 1);
	free(wanted);
	free(body);
	free(token);
	free(hash);
	th_host_free(&host);
}

static void odd_credentials_are_encoded_once_in_each_place(void **state)
{
	const struct th_config config = { .client_id = "acme app/1", .client_secret = "a~b%:+&c=d" };
	struct th_host *host;
	acctlink_error err = { 0 };
	char *body;

	(void)state;
	th_control(provider, "{'set':{'clients':{'acme app/1':'a~b%%:+&c=d'}}}");
	host = host_with(&config);
	link_user(host, "ana", NULL);
	/* acme+app%2F1:a~b%25%3A%2B%26c%3Dd (RFC 6749, 2.3.1) */
	expect_header("token", "authorization", "Basic YWNtZSthcHAlMkYxOmF+YiUyNSUzQSUyQiUyNmMlM0Rk");
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 2);
	body = th_request_body(provider, "token", 0);
	th_check(strstr(body, "&client_id=acme+app%2F1&client_secret=a~b%25%3A%2B%26c%3Dd") != NULL, "the body is %s",
		body);
	expect_status(th_unlink(host, "ana", "mikomo", NULL, &err), ACCTLINK_OK, &err);
	expect_header("revoke", "status", "200");
	free(body);
	th_host_free(&host);
}

static void the_revocation_has_the_hint_and_the_credentials_in_the_body(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_unlink_result ended;
	acctlink_error err = { 0 };
	char *hash;
	char *token;
	char *wanted;
	char *body;

	(void)state;
	link_user(host, "ana", NULL);
	hash = th_grant_current(provider, -1);
	token = th_raw_token(provider, hash);
	expect_status(th_unlink(host, "ana", "mikomo", &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED); /* 200 with an empty body */
	expect_number(revocations(), 1);                                /* there is no access token */
	expect_form_post("revoke", "/revoke", NULL);
	body = th_request_body(provider, "revoke", 0);
	wanted = th_printf(
		"token=%s&token_type_hint=refresh_token&client_id=test-client&client_secret=test-secret", token);
	expect_text(body, wanted);
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	expect_status(denied(host, "ana", &err), ACCTLINK_NOT_LINKED, &err);
	free(wanted);
	free(body);
	free(token);
	free(hash);
	th_host_free(&host);
}

/* ---- the bearer ---------------------------------------------------------------------------- */

static void the_bearer_is_the_id_token_to_the_byte(void **state)
{
	struct th_host *host = host_with(NULL);
	char *bearers[3];

	(void)state;
	th_control(provider,
		"{'set':{'claims':{'aud':['test-client'],'jti':'j','sid':'s','rat':1,'email':'mikomo_1',"
		"'email_verified':true,'grant_id':'g-1','recipientId':'r','connectorId':'mikomo','products':['accounts'],"
		"'accounts':['1','2','3']}}}");
	link_user(host, "ana", NULL);
	for (uint64_t i = 0; i < 3; i++) {
		acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

		if (i > 0)
			th_advance(host, provider, DAY);
		bearers[i] = th_must_bearer(host, "ana", "mikomo", &info);
		expect_number(info.generation, i + 1);
		expect_number(info.len, strlen(bearers[i]));
		/* The server gave out nothing but id_tokens, and knows them to the byte. */
		expect_number(th_userinfo(provider, bearers[i]), 200);
	}
	th_check(strcmp(bearers[0], bearers[1]) != 0 && strcmp(bearers[1], bearers[2]) != 0,
		"a refresh brought no new one");
	expect_number(th_userinfo(provider, bearers[0]), 401);
	for (size_t i = 0; i < 3; i++)
		free(bearers[i]);
	th_host_free(&host);
}

static void an_access_token_that_comes_along_is_not_handed_out(void **state)
{
	struct th_host *host = host_with(NULL);
	char *bearer;
	size_t dots = 0;

	(void)state;
	th_control(provider, "{'set':{'access_token':true}}");
	link_user(host, "ana", NULL);
	for (int i = 0; i < 2; i++) {
		dots = 0;
		bearer = th_must_bearer(host, "ana", "mikomo", NULL);
		for (const char *at = bearer; *at != '\0'; at++)
			dots += *at == '.' ? 1 : 0;
		expect_number(dots, 2); /* a JWT; the access tokens of this server are none */
		expect_number(th_userinfo(provider, bearer), 200);
		free(bearer);
		th_advance(host, provider, DAY);
	}
	th_host_free(&host);
}

static void an_id_token_with_thousands_of_accounts_passes_whole(void **state)
{
	struct th_host *host = host_with(NULL);
	char *bearer;

	(void)state;
	th_control(provider, "{'set':{'token_bytes':{'id':200000}}}");
	link_user(host, "ana", NULL);
	bearer = th_must_bearer(host, "ana", "mikomo", NULL);
	expect_number(strlen(bearer), 200000);
	free(bearer);
	th_control(provider, "{'set':{'token_bytes':{'id':15000}}}"); /* as much as this server reads of a header */
	th_advance(host, provider, DAY);
	bearer = th_must_bearer(host, "ana", "mikomo", NULL);
	expect_number(strlen(bearer), 15000);
	expect_number(th_userinfo(provider, bearer), 200);
	free(bearer);
	th_host_free(&host);
}

static void a_refresh_without_an_id_token_leaves_no_bearer_but_keeps_the_tokens(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };

	(void)state;
	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "{'set':{'id_token':null}}");
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	th_check(strstr(err.message, "id_token") != NULL, "the error does not name the id_token: %s", err.message);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_NO_ID_TOKEN);
	th_advance(host, provider, MINUTES(5));
	expect_bearer(host, "ana", 3); /* the rotated refresh token was kept */
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(th_max_arrivals(provider), 1);
	th_host_free(&host);
}

/* ---- what a refresh may be answered --------------------------------------------------------- */

static void a_claimed_token_ends_the_link_in_each_of_its_wordings(void **state)
{
	static const char *const answers[] = {
		"{'status':400,'json':{'error':'invalid_request','error_description':'" CLAIMED "'}}",
		"{'status':400,'json':{'error':'invalid_request','error_description':"
		"'Refresh token is invalid or has already been claimed by another client'}}",
		"{'status':400,'json':{'error':'invalid_request','error_description':"
		"'Refresh token is invalid or has already\\nbeen claimed by another client.'}}",
		/* a raw line break is no JSON, but it is in the documents */
		"{'status':400,'content_type':'application/json','body':'{\\\"error\\\":\\\"invalid_request\\\","
		"\\\"error_description\\\":\\\"Refresh token is invalid or has\\n already been claimed by another client.\\\"}'}",
		"{'status':400,'json':{'error':'invalid_request','error_description':"
		"'  Refresh token  is invalid or has already been claimed'}}",
		"{'status':400,'content_type':'text/plain','body':'{\\\"error\\\":\\\"invalid_request\\\","
		"\\\"error_description\\\":\\\"" CLAIMED "\\\"}'}",
		"{'status':400,'json':{'error':'invalid_grant','error_description':'" CLAIMED "'}}",
		"{'status':400,'json':{'error':'invalid_grant'}}",
		"{'status':400,'json':{'error':'invalid_request','error_description':'Refresh token expired.'}}",
	};
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		char *user = th_printf("user%zu", i);
		int before;

		th_must_link(host, provider, user, "mikomo", NULL);
		th_advance(host, provider, DAY);
		before = refreshes();
		th_script(provider, "token", "refresh_token", 1, "%s", answers[i]);
		expect_status(denied(host, user, &err), ACCTLINK_RELINK_REQUIRED, &err);
		expect_state(host, user, ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_REVOKED);
		th_advance(host, provider, HOURS(3));
		expect_status(denied(host, user, &err), ACCTLINK_RELINK_REQUIRED, &err);
		expect_number(refreshes() - before, 1); /* no more refreshes */
		expect_number(th_lines_count(host->events, "RELINK_REQUIRED user="), i + 1);
		free(user);
	}
	th_host_free(&host);
}

/* What a refresh is answered, and what becomes of it. */
struct fault {
	const char *answer;
	acctlink_status rc;
	int32_t reason;
	int32_t http_status;
	const char *code;
	int32_t claim; /* ACCTLINK_CLAIM_UNKNOWN where the bank may have spent the token */
};

/* The fault is told, the link stays, and the same token is sent again when its time has come. */
static void expect_link_kept(const struct fault *fault)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };
	char *hash;

	be_akoya(NULL);
	link_user(host, "ana", NULL);
	hash = th_grant_current(provider, -1);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "%s", fault->answer);
	expect_status(denied(host, "ana", &err), fault->rc, &err);
	expect_number(err.http_status, fault->http_status);
	expect_text(err.provider_code, fault->code);
	expect_state(host, "ana", ACCTLINK_STATE_STALE, fault->reason);
	expect_number(look(host, "ana").claim, fault->claim);
	expect_number(refreshes(), 1);
	th_advance(host, provider, HOURS(2));
	expect_bearer(host, "ana", 2);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(refreshes(), 2);
	expect_number(th_arrivals(provider, hash), 2); /* the same token: it had not been spent */
	expect_number(th_lines_count(host->events, "STALE user=ana"), 1);
	expect_number(th_lines_count(host->events, "HEALED user=ana"), 1);
	expect_number(th_lines_count(host->events, "RELINK_REQUIRED"), 0);
	free(hash);
	th_host_free(&host);
}

static void a_request_that_akoya_calls_malformed_is_our_own_fault_and_keeps_the_link(void **state)
{
	static const char *const answers[] = {
		"{'status':400,'json':{'error':'invalid_request','error_description':'No refresh token in request.'}}",
		"{'status':400,'json':{'error':'invalid_request','error_description':'missing parameter refresh_token'}}",
		"{'status':400,'json':{'error':'invalid_request'}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct fault fault = { answers[i], ACCTLINK_BAD_PROVIDER, ACCTLINK_REASON_OUR_FAULT, 400,
			"invalid_request", ACCTLINK_CLAIM_NONE };

		expect_link_kept(&fault);
	}
}

static void a_500_that_says_invalid_request_is_a_passing_fault_and_keeps_the_link(void **state)
{
	static const char *const answers[] = {
		"{'status':500,'json':{'error':'invalid_request'}}",
		"{'status':500,'json':{'error':'invalid_request','error_description':'" CLAIMED "'}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct fault fault = { answers[i], ACCTLINK_PROVIDER_DOWN, ACCTLINK_REASON_OUTCOME_UNKNOWN, 500,
			"invalid_request", ACCTLINK_CLAIM_UNKNOWN };

		expect_link_kept(&fault);
	}
}

static void an_answer_from_before_the_token_endpoint_keeps_the_link(void **state)
{
	static const struct fault faults[] = {
		{ "{'status':503,'body':''}", ACCTLINK_PROVIDER_DOWN, ACCTLINK_REASON_PROVIDER_DOWN, 503, "http_503",
			ACCTLINK_CLAIM_NONE },
		{ "{'status':403,'content_type':'text/html','body':'<html>challenge</html>'}", ACCTLINK_PROVIDER_DOWN,
			ACCTLINK_REASON_PROVIDER_DOWN, 403, "http_403", ACCTLINK_CLAIM_NONE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		expect_link_kept(&faults[i]);
}

/* The secret was changed at Akoya and not here. */
static void a_refused_client_keeps_every_link_and_is_asked_for_none_of_them(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_error err = { 0 };
	char *hash;

	(void)state;
	link_user(host, "ana", NULL);
	hash = th_grant_current(provider, -1);
	th_control(provider, "{'set':{'sub':'another-login'}}");
	link_user(host, "ben", NULL);
	th_advance(host, provider, DAY);
	th_control(provider, "{'set':{'clients':{'test-client':'another secret'}}}");
	expect_status(denied(host, "ana", &err), ACCTLINK_CLIENT_REFUSED, &err);
	expect_number(err.http_status, 401);
	expect_text(err.provider_code, "invalid_client");
	expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_CLIENT_REFUSED);
	/* It is the client that is wrong, so nobody's link would fare better. */
	expect_status(denied(host, "ben", &err), ACCTLINK_CLIENT_REFUSED, &err);
	expect_status(denied(host, "ana", &err), ACCTLINK_CLIENT_REFUSED, &err);
	expect_number(refreshes(), 1);
	expect_number(th_lines_count(host->events, "CLIENT_REFUSED"), 1);
	expect_untold(host, "client secret", "test-secret");
	th_control(provider, "{'set':{'clients':null}}");
	th_advance(host, provider, HOURS(2));
	expect_bearer(host, "ana", 2);
	expect_bearer(host, "ben", 2);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_state(host, "ben", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(th_arrivals(provider, hash), 2); /* the refused one and the good one */
	expect_number(th_lines_count(host->events, "RELINK_REQUIRED"), 0);
	free(hash);
	th_host_free(&host);
}

/* ---- what a revocation may be answered --------------------------------------------------------- */

static struct th_host *linked_with_a_bearer(void)
{
	struct th_host *host = host_with(NULL);

	be_akoya(NULL);
	link_user(host, "ana", NULL);
	expect_bearer(host, "ana", 1);
	return host;
}

/* Whatever the bank says: one request with the hint, and the link is gone here, also after a restart. */
static void expect_unlinked(struct th_host *host, int32_t revocation, const char *told)
{
	acctlink_unlink_result ended;
	acctlink_error err = { 0 };
	char *body;

	expect_status(th_unlink(host, "ana", "mikomo", &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, revocation);
	expect_number(revocations(), 1);
	body = th_request_body(provider, "revoke", 0);
	expect_param(body, "token_type_hint", "refresh_token");
	expect_no_link(host, "ana");
	expect_number(th_lines_count(host->events, "UNLINKED user=ana"), 1);
	th_check(th_lines_contain(host->logs, told), "%s is not in the log", told);
	th_host_restart(host);
	expect_no_link(host, "ana");
	free(body);
}

/* One number that the store tells; 0 if it tells none. */
static int stored(const struct th_host *host, const char *sql)
{
	char *path = th_printf(
		"%.*s/store.db", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
	sqlite3_stmt *statement = NULL;
	sqlite3 *db = NULL;
	int number = 0;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK, "open %s", path);
	sqlite3_busy_timeout(db, 10000);
	th_check(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
	if (sqlite3_step(statement) == SQLITE_ROW)
		number = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	free(path);
	return number;
}

static bool no_link_is_stored(void *ctx)
{
	return stored(ctx, "SELECT count(*) FROM link") == 0;
}

/* A definite refusal: the tokens go at once, the row that tells other processes of it after a day, and
 * nothing more is asked. */
static void expect_wiped(struct th_host *host, int32_t revocation, const char *told)
{
	static const char sealed[] = "SELECT length(sealed) FROM link";
	char *bearer = th_must_bearer(host, "ana", "mikomo", NULL);
	const int before = stored(host, sealed);

	expect_unlinked(host, revocation, told);
	th_check(before - stored(host, sealed) > (int)strlen(bearer),
		"%d bytes were sealed, %d still are; the bearer has %zu", before, stored(host, sealed), strlen(bearer));
	th_advance(host, provider, DAY);
	th_wait_until(no_link_is_stored, host, 20000, "the row's end");
	expect_number(revocations(), 1);
	expect_number(th_lines_count(host->events, "REVOKED user=ana"), 0);
	free(bearer);
}

static void a_revocation_that_akoya_calls_incomplete_is_reported_and_the_link_is_wiped(void **state)
{
	struct th_host *host = linked_with_a_bearer();

	(void)state;
	/* a field or the secret is missing, or the token is not ours */
	th_script(provider, "revoke", NULL, 1, "{'status':400,'json':{'error':'invalid_request'}}");
	expect_wiped(host, ACCTLINK_REVOCATION_REFUSED, "invalid_request");
	th_host_free(&host);
}

static void a_revocation_with_a_wrong_secret_is_reported_and_made_up_for_when_it_is_mended(void **state)
{
	struct th_host *host = linked_with_a_bearer();

	(void)state;
	th_control(provider, "{'set':{'clients':{'test-client':'another secret'}}}");
	expect_unlinked(host, ACCTLINK_REVOCATION_PENDING, "unauthorized_client");
	expect_header("revoke", "status", "401");
	expect_untold(host, "client secret", "test-secret");
	th_check(th_grant_alive(provider, -1), "a refused client ended the grant");
	th_control(provider, "{'set':{'clients':null}}");
	th_advance(host, provider, MINUTES(6));
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_number(revocations(), 2);
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	th_advance(host, provider, DAY);
	th_wait_until(no_link_is_stored, host, 20000, "the row's end");
	th_host_free(&host);
}

static void a_revocation_whose_hint_is_refused_is_reported_and_the_link_is_wiped(void **state)
{
	struct th_host *host = linked_with_a_bearer();

	(void)state;
	th_script(provider, "revoke", NULL, 1, "{'status':400,'json':{'error':'unsupported_token_type'}}");
	expect_wiped(host, ACCTLINK_REVOCATION_REFUSED, "unsupported_token_type");
	th_host_free(&host);
}

/* ---- the data API says 602 ------------------------------------------------------------------------ */

static void a_602_after_the_customer_revoked_asks_for_a_new_consent(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer;

	(void)state;
	link_user(host, "ana", NULL);
	th_advance(host, provider, MINUTES(1));
	th_control(provider, "{'kill_grant':%d}", th_grant_count(provider) - 1);
	bearer = th_must_bearer(host, "ana", "mikomo", &info);
	expect_number(th_userinfo(provider, bearer), 401); /* 602, Customer not authorized */
	expect_status(th_report(host, "ana", "mikomo", info.generation, &err), ACCTLINK_OK, &err);
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(refreshes(), 1);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_REVOKED);
	expect_number(th_lines_count(host->events, "RELINK_REQUIRED user=ana"), 1);
	free(bearer);
	th_host_free(&host);
}

static void a_602_for_an_early_end_is_cured_by_one_refresh(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer;

	(void)state;
	link_user(host, "ana", NULL);
	th_advance(host, provider, MINUTES(1));
	th_control(provider, "{'kill_bearers':true}");
	bearer = th_must_bearer(host, "ana", "mikomo", &info);
	expect_number(th_userinfo(provider, bearer), 401);
	expect_status(th_report(host, "ana", "mikomo", info.generation, &err), ACCTLINK_OK, &err);
	expect_bearer(host, "ana", 2);
	expect_status(th_report(host, "ana", "mikomo", info.generation, &err), ACCTLINK_OK, &err); /* an older one */
	expect_bearer(host, "ana", 2);
	expect_number(refreshes(), 1);
	free(bearer);
	th_host_free(&host);
}

/* ---- one bank login ---------------------------------------------------------------------------------- */

static void a_second_user_with_the_same_login_takes_the_grant_over(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char *hash;

	(void)state;
	link_user(host, "ana", &first);
	hash = th_grant_current(provider, -1);
	expect_bearer(host, "ana", 1);
	link_user(host, "ben", &second); /* the bank's subject is the same */
	th_check((second.flags & ACCTLINK_CALLBACK_SUPERSEDES) != 0, "the host is not told");
	expect_number(th_lines_count(host->events, "SUPERSEDED user=ana"), 1);
	expect_number(th_lines_count(host->events, "SUPERSEDED"), 1);
	expect_state(host, "ana", ACCTLINK_STATE_SUPERSEDED, ACCTLINK_REASON_NONE);
	/* Neither the bearer that ana's link holds nor ben's: nobody consented to that. */
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_bearer(host, "ben", 1);
	th_advance(host, provider, DAY);
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_bearer(host, "ben", 2);
	expect_number(th_arrivals(provider, hash), 0); /* the dead token was never sent */
	expect_number(revocations(), 0);               /* that could end ben's grant */
	free(hash);
	th_host_free(&host);
}

static void the_first_user_may_take_it_back_under_the_same_link(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_callback_result first;
	acctlink_callback_result back;
	acctlink_error err = { 0 };

	(void)state;
	link_user(host, "ana", &first);
	link_user(host, "ben", NULL);
	link_user(host, "ana", &back);
	expect_text(back.link_id, first.link_id);
	expect_number(back.epoch, 2);
	expect_number(back.flags, ACCTLINK_CALLBACK_RENEWED | ACCTLINK_CALLBACK_SUPERSEDES);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_state(host, "ben", ACCTLINK_STATE_SUPERSEDED, ACCTLINK_REASON_NONE);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 3);
	expect_status(denied(host, "ben", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(th_lines_count(host->events, "SUPERSEDED user=ben"), 1);
	expect_number(revocations(), 0);
	th_host_free(&host);
}

static void unlinking_the_superseded_link_leaves_the_others_grant_alone(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_unlink_result ended;
	acctlink_error err = { 0 };

	(void)state;
	link_user(host, "ana", NULL);
	link_user(host, "ben", NULL);
	expect_status(th_unlink(host, "ana", "mikomo", &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, ACCTLINK_REVOCATION_NOTHING);
	expect_status(denied(host, "ana", &err), ACCTLINK_NOT_LINKED, &err);
	expect_number(revocations(), 0);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ben", 2);
	expect_status(th_unlink(host, "ben", "mikomo", &ended, &err), ACCTLINK_OK, &err);
	expect_number(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	expect_number(revocations(), 1);
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	th_host_free(&host);
}

static void the_policy_may_refuse_a_second_user(void **state)
{
	const struct th_config config = { .provider_lines = "shared_subject = 'refuse';" };
	struct th_host *host = host_with(&config);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	(void)state;
	link_user(host, "ana", NULL);
	expect_status(th_link(host, provider, "ben", "mikomo", NULL, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	expect_status(th_inspect(host, "ben", "mikomo", &seen, &err), ACCTLINK_NOT_LINKED, &err);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	expect_number(th_lines_count(host->events, "SUPERSEDED"), 0);
	th_host_free(&host);
}

static void one_users_logins_at_two_banks_stand_apart(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char *bearer;

	(void)state;
	th_must_link(host, provider, "ana", "mikomo", &first);
	th_must_link(host, provider, "ana", "capital", &second);
	th_check(strcmp(first.link_id, second.link_id) != 0, "both banks share a link");
	expect_text(second.institution, "capital");
	expect_number(second.flags, 0);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 2);
	bearer = th_must_bearer(host, "ana", "capital", NULL);
	expect_number(th_userinfo(provider, bearer), 200);
	expect_status(th_unlink(host, "ana", "mikomo", NULL, &err), ACCTLINK_OK, &err);
	expect_number(th_userinfo(provider, bearer), 200);
	free(bearer);
	th_host_free(&host);
}

static void a_renewed_consent_revokes_nothing_and_goes_on_under_its_link(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_callback_result first;
	acctlink_callback_result again;

	(void)state;
	link_user(host, "ana", &first);
	link_user(host, "ana", &again);
	expect_text(again.link_id, first.link_id);
	expect_number(again.epoch, 2);
	expect_number(again.generation, 2);
	expect_number(again.flags, ACCTLINK_CALLBACK_RENEWED);
	expect_number(th_lines_count(host->events, "SUPERSEDED"), 0);
	expect_bearer(host, "ana", 2);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 3);
	expect_number(revocations(), 0);
	th_host_free(&host);
}

static void a_late_answer_of_the_former_consent_is_dropped_and_not_revoked(void **state)
{
	struct th_host *host = host_with(NULL);
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_callback_result again;
	char buf[16];

	(void)state;
	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'late'}");
	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.institution = th_str("mikomo");
	args.deadline_ms = 200;
	expect_number(host->api.get_bearer(host->handle, &args, buf, sizeof(buf), NULL, NULL), ACCTLINK_TIMED_OUT);
	th_wait_held(provider, "late", 1);
	link_user(host, "ana", &again);
	expect_number(again.generation, 2);
	th_release(provider, "late");
	th_host_restart(host); /* it waits for the exchange */
	expect_bearer(host, "ana", 2);
	expect_number(th_lines_count(host->events, "REFRESHED"), 0);
	th_advance(host, provider, DAY);
	expect_bearer(host, "ana", 3);
	expect_number(revocations(), 0); /* it would have ended the new consent as well */
	th_host_free(&host);
}

#define akoya_test(name) cmocka_unit_test_setup(name, be_akoya)

int main(void)
{
	const struct CMUnitTest tests[] = { akoya_test(the_consent_url_is_akoyas),
		akoya_test(the_connector_is_required_and_sent_as_it_is_given),
		akoya_test(the_exchange_authenticates_with_basic_only),
		akoya_test(the_refresh_has_its_credentials_in_the_body_only),
		akoya_test(odd_credentials_are_encoded_once_in_each_place),
		akoya_test(the_revocation_has_the_hint_and_the_credentials_in_the_body),
		akoya_test(the_bearer_is_the_id_token_to_the_byte),
		akoya_test(an_access_token_that_comes_along_is_not_handed_out),
		akoya_test(an_id_token_with_thousands_of_accounts_passes_whole),
		akoya_test(a_refresh_without_an_id_token_leaves_no_bearer_but_keeps_the_tokens),
		akoya_test(a_claimed_token_ends_the_link_in_each_of_its_wordings),
		akoya_test(a_refused_client_keeps_every_link_and_is_asked_for_none_of_them),
		akoya_test(a_request_that_akoya_calls_malformed_is_our_own_fault_and_keeps_the_link),
		akoya_test(a_500_that_says_invalid_request_is_a_passing_fault_and_keeps_the_link),
		akoya_test(an_answer_from_before_the_token_endpoint_keeps_the_link),
		akoya_test(a_revocation_that_akoya_calls_incomplete_is_reported_and_the_link_is_wiped),
		akoya_test(a_revocation_with_a_wrong_secret_is_reported_and_made_up_for_when_it_is_mended),
		akoya_test(a_revocation_whose_hint_is_refused_is_reported_and_the_link_is_wiped),
		akoya_test(a_602_after_the_customer_revoked_asks_for_a_new_consent),
		akoya_test(a_602_for_an_early_end_is_cured_by_one_refresh),
		akoya_test(a_second_user_with_the_same_login_takes_the_grant_over),
		akoya_test(the_first_user_may_take_it_back_under_the_same_link),
		akoya_test(unlinking_the_superseded_link_leaves_the_others_grant_alone),
		akoya_test(the_policy_may_refuse_a_second_user), akoya_test(one_users_logins_at_two_banks_stand_apart),
		akoya_test(a_renewed_consent_revokes_nothing_and_goes_on_under_its_link),
		akoya_test(a_late_answer_of_the_former_consent_is_dropped_and_not_revoked) };

	return cmocka_run_group_tests_name("akoya wire", tests, start_provider, stop_provider);
}
