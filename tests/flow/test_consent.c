/* SPDX-License-Identifier: MIT
 * From the consent URL to the link: what begin gives and refuses, strings that
 * must match to the byte, granted scopes, renewals, other bank logins, one
 * login of two users, plain http on loopback.
 */
#include "steps.h"

/* ---- begin ---------------------------------------------------------------------- */

static char *param_of(const struct th_flow *flow, const char *name, size_t least)
{
	char *value = th_param(flow->url, name);

	th_check(value != NULL && strlen(value) >= least, "%s is \"%s\" in %s", name, value, flow->url);
	return value;
}

static void expect_param(const struct th_flow *flow, const char *name, const char *wanted)
{
	char *value = th_param(flow->url, name);

	th_check(value != NULL && strcmp(value, wanted) == 0, "%s is \"%s\", not \"%s\"", name, value, wanted);
	free(value);
}

/* PREFIXacctlink-16 hex digits=43 characters; REST */
static void expect_cookie(const char *set_cookie, const char *prefix, const char *rest)
{
	const char *at = set_cookie + strlen(prefix);

	expect_part(set_cookie, "acctlink-");
	assert_memory_equal(set_cookie, prefix, strlen(prefix));
	assert_memory_equal(at, "acctlink-", 9);
	at += 9;
	assert_int_equal(strspn(at, "0123456789abcdef"), 16);
	assert_int_equal(at[16], '=');
	at += 17;
	assert_int_equal(strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
	expect_text(at + 43, rest);
}

static void begin_gives_a_consent_url_and_a_cookie_of_its_own(void **state)
{
	const struct th_config config = {
		.provider_lines = "institution_parameter = 'connector'; "
				  "authorize_parameters = { prompt = 'consent'; }; max_age = 300;"
	};
	static const char *const fresh[] = { "state", "nonce", "code_challenge" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	struct th_flow *flow = calloc(2, sizeof(*flow));
	acctlink_error err = { 0 };
	char *start = th_printf("%s/auth?", provider->issuer);
	size_t i;

	assert_non_null(flow);
	expect_status(th_begin(host, "ana", "mi komo&x=y", &flow[0], &err), ACCTLINK_OK, &err);
	expect_status(th_begin(host, "ana", "mi komo&x=y", &flow[1], &err), ACCTLINK_OK, &err);
	assert_memory_equal(flow[0].url, start, strlen(start));
	expect_param(&flow[0], "response_type", "code");
	expect_param(&flow[0], "client_id", "test-client");
	expect_param(&flow[0], "redirect_uri", "https://app.example/cb");
	expect_param(&flow[0], "scope", "openid offline_access");
	expect_param(&flow[0], "state", flow[0].state);
	expect_param(&flow[0], "code_challenge_method", "S256");
	expect_param(&flow[0], "connector", "mi komo&x=y");
	expect_param(&flow[0], "prompt", "consent");
	expect_param(&flow[0], "max_age", "300");
	assert_null(strstr(flow[0].url, "response_mode"));
	assert_null(strstr(flow[0].url, "secret"));
	for (i = 0; i < 3; i++) { /* 256 bits each, as 43 characters */
		char *one = param_of(&flow[0], fresh[i], 43);
		char *other = param_of(&flow[1], fresh[i], 43);

		assert_true(strcmp(one, other) != 0);
		free(one);
		free(other);
	}
	expect_cookie(flow[0].set_cookie, "__Host-", "; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax");
	assert_true(strncmp(flow[0].set_cookie, flow[1].set_cookie, strcspn(flow[0].set_cookie, "=")) != 0);
	expect_no_part(flow[0].set_cookie, flow[0].state);
	assert_int_equal(stored_flows(host), 2);
	free(start);
	free(flow);
	th_host_free(&host);
}

static void pkce_and_nonce_can_be_left_out(void **state)
{
	const struct th_config config = { .provider_lines = "pkce = false; nonce = false;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };
	char *body;

	assert_null(strstr(consent->flow.url, "code_challenge"));
	assert_null(strstr(consent->flow.url, "nonce"));
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	body = th_request_body(provider, "token", 0);
	expect_no_part(body, "code_verifier");
	free(body);
	consent_free(&consent);
	th_host_free(&host);
}

enum { URL, STATE, COOKIE, TEXT_CAP = 4096 };

/* Buffers of the given sizes; 0: not given. All bytes are '#' before. */
static acctlink_status begin_into(
	struct th_host *host, const size_t cap[3], char text[3][TEXT_CAP], size_t len[3], acctlink_error *err)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_out *const outs[3] = { &result.url, &result.state, &result.set_cookie };
	acctlink_status rc;
	size_t i;

	memset(text, '#', 3 * TEXT_CAP);
	for (i = 0; i < 3; i++)
		*outs[i] = (acctlink_out){ cap[i] > 0 ? text[i] : NULL, cap[i], 0 };
	args.user = th_str("ana");
	args.provider = th_str("test");
	rc = host->api.begin(host->handle, &args, &result, err);
	for (i = 0; i < 3; i++)
		len[i] = outs[i]->len;
	if (rc != ACCTLINK_OK)
		assert_int_equal(result.expires_at_ms, 0);
	return rc;
}

static void expect_too_small(struct th_host *host, const size_t cap[3], const size_t need[3])
{
	static char text[3][TEXT_CAP];
	acctlink_error err = { 0 };
	size_t len[3];
	size_t i;

	expect_status(begin_into(host, cap, text, len, &err), ACCTLINK_BUFFER_TOO_SMALL, &err);
	assert_memory_equal(len, need, sizeof(len));
	for (i = 0; i < sizeof(text); i++)
		assert_int_equal(((char *)text)[i], '#');
}

static void expect_room(struct th_host *host, const size_t cap[3], const size_t need[3])
{
	static char text[3][TEXT_CAP];
	acctlink_error err = { 0 };
	size_t len[3];
	size_t i;

	expect_status(begin_into(host, cap, text, len, &err), ACCTLINK_OK, &err);
	assert_memory_equal(len, need, sizeof(len));
	for (i = 0; i < 3; i++) {
		if (cap[i] > 0) {
			assert_int_equal(strnlen(text[i], TEXT_CAP), need[i]);
			assert_int_equal(text[i][need[i] + 1], '#');
		}
	}
}

static void a_buffer_that_is_too_small_stores_nothing_and_tells_all_lengths(void **state)
{
	static const size_t none[3] = { 0, 0, 0 };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	static char text[3][TEXT_CAP];
	acctlink_error err = { 0 };
	size_t need[3];
	size_t i;

	expect_status(begin_into(host, none, text, need, &err), ACCTLINK_BUFFER_TOO_SMALL, &err);
	expect_too_small(host, none, need);
	for (i = 0; i < 3; i++) {
		size_t cap[3] = { need[URL] + 1, need[STATE] + 1, need[COOKIE] + 1 };

		cap[i] = need[i]; /* the NUL has no room */
		expect_too_small(host, cap, need);
		cap[i] = 1;
		expect_too_small(host, cap, need);
	}
	assert_int_equal(stored_flows(host), 0);
	{
		const size_t exact[3] = { need[URL] + 1, need[STATE] + 1, need[COOKIE] + 1 };
		const size_t stateless[3] = { need[URL] + 1, 0, need[COOKIE] + 1 };

		expect_room(host, exact, need);
		expect_room(host, stateless, need);
	}
	assert_int_equal(stored_flows(host), 2);
	th_host_free(&host);
}

struct wrong_begin {
	const char *what;
	acctlink_begin_args args;
	acctlink_status status;
	const char *message;
};

static char too_long[1025 + 1];

static void begin_refuses_what_it_can_not_do_and_stores_nothing(void **state)
{
	const struct wrong_begin wrong[] = {
		{ "no user",
			{ sizeof(acctlink_begin_args), 0, th_str(NULL), th_str("test"), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "user" },
		{ "a user of 1025 bytes",
			{ sizeof(acctlink_begin_args), 0, th_str(too_long), th_str("test"), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "user" },
		{ "no UTF-8",
			{ sizeof(acctlink_begin_args), 0, th_str("an\xe1"), th_str("test"), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "user" },
		{ "no provider",
			{ sizeof(acctlink_begin_args), 0, th_str("ana"), th_str(NULL), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "provider" },
		{ "another provider",
			{ sizeof(acctlink_begin_args), 0, th_str("ana"), th_str("tes"), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_UNKNOWN_PROVIDER, "acctlink.conf" },
		{ "a redirect URI of its own",
			{ sizeof(acctlink_begin_args), 0, th_str("ana"), th_str("test"), th_str("mikomo"),
				th_str("https://app.example/cb/"), th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "redirect_uri" },
		{ "no institution",
			{ sizeof(acctlink_begin_args), 0, th_str("ana"), th_str("test"), th_str(NULL), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "connector" },
		{ "unknown flags",
			{ sizeof(acctlink_begin_args), 2, th_str("ana"), th_str("test"), th_str("mikomo"), th_str(NULL),
				th_str(NULL), 0, 0 },
			ACCTLINK_BAD_ARGUMENT, "flags" },
	};
	const struct th_config config = { .provider_lines = "institution_parameter = 'connector'; "
							    "institution_required = true;" };
	struct th_provider *provider = *state;
	struct th_host *host;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	size_t i;

	assert_non_null(flow);
	memset(too_long, 'u', sizeof(too_long) - 1);
	host = th_host_new(provider, &config);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
		acctlink_error err = { 0 };
		acctlink_status rc;
		char *all;

		result.url = (acctlink_out){ flow->url, sizeof(flow->url), 0 };
		result.set_cookie = (acctlink_out){ flow->set_cookie, sizeof(flow->set_cookie), 0 };
		rc = host->api.begin(host->handle, &wrong[i].args, &result, &err);
		th_check(rc == wrong[i].status, "%s: %d %s", wrong[i].what, (int)rc, th_error_text(&err));
		all = th_printf("%s %s", err.message, err.where);
		expect_part(all, wrong[i].message);
		assert_int_equal(result.url.len, 0);
		free(all);
	}
	assert_int_equal(th_count(provider, "discovery", NULL), 0);
	assert_int_equal(stored_flows(host), 0);
	free(flow);
	th_host_free(&host);
}

static void begin_waits_for_a_provider_that_is_down(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	assert_non_null(flow);
	th_provider_down(provider, true);
	host = th_host_new(provider, NULL); /* init needs no network */
	expect_status(th_begin(host, "ana", NULL, flow, &err), ACCTLINK_PROVIDER_DOWN, &err);
	expect_status(th_begin(host, "ana", NULL, flow, &err), ACCTLINK_PROVIDER_DOWN, &err);
	assert_int_equal(stored_flows(host), 0);
	th_provider_down(provider, false);
	th_advance(host, provider, MINUTES(5));
	th_must_link(host, provider, "ana", NULL, NULL);
	free(flow);
	th_host_free(&host);
}

struct bad_metadata {
	const char *answer;
	acctlink_status status;
	const char *message;
};

static const struct bad_metadata bad_metadata[] = {
	{ "{'status':404,'body':'no such page'}", ACCTLINK_BAD_PROVIDER, "HTTP 404" },
	{ "{'status':503,'body':''}", ACCTLINK_PROVIDER_DOWN, "HTTP 503" },
	{ "{'body':'<html>Welcome</html>'}", ACCTLINK_BAD_PROVIDER, "no JSON" },
	{ "{'set':{'issuer':null}}", ACCTLINK_BAD_PROVIDER, "issuer" },
	{ "{'set':{'issuer':['a']}}", ACCTLINK_BAD_PROVIDER, "issuer" },
	{ "{'set':{'token_endpoint':null}}", ACCTLINK_BAD_PROVIDER, "token_endpoint" },
	{ "{'set':{'token_endpoint':'http://login.bank.example/token?key=CANARY'}}", ACCTLINK_BAD_PROVIDER,
		"token_endpoint" },
	{ "{'set':{'token_endpoint':'http://127.0.0.1:1/token'}}", ACCTLINK_BAD_PROVIDER, "token_endpoint" },
	{ "{'set':{'authorization_endpoint':'http://login.bank.example/auth'}}", ACCTLINK_BAD_PROVIDER,
		"authorization_endpoint" },
	{ "{'set':{'jwks_uri':'file:///etc/passwd'}}", ACCTLINK_BAD_PROVIDER, "jwks_uri" },
	{ "{'set':{'revocation_endpoint':'ftp://login.bank.example/'}}", ACCTLINK_BAD_PROVIDER, "revocation_endpoint" },
	{ "{'set':{'code_challenge_methods_supported':['plain']}}", ACCTLINK_BAD_PROVIDER, "PKCE" },
	{ "{'set':{'id_token_signing_alg_values_supported':['HS256','none']}}", ACCTLINK_BAD_PROVIDER, "RS256" },
};

static void metadata_that_do_not_fit_are_found_out_at_the_first_begin(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	size_t i;

	assert_non_null(flow);
	for (i = 0; i < sizeof(bad_metadata) / sizeof(bad_metadata[0]); i++) {
		acctlink_status rc;

		th_script(provider, "discovery", NULL, 1, "%s", bad_metadata[i].answer);
		rc = th_begin(host, "ana", NULL, flow, &err);
		th_check(rc == bad_metadata[i].status, "%s: %d %s", bad_metadata[i].answer, (int)rc,
			th_error_text(&err));
		expect_part(err.message, bad_metadata[i].message);
		expect_no_part(err.message, "CANARY");
		th_advance(host, provider, 1500);
	}
	assert_int_equal(stored_flows(host), 0);
	expect_status(th_begin(host, "ana", NULL, flow, &err), ACCTLINK_OK, &err);
	free(flow);
	th_host_free(&host);
}

/* ---- to the byte ---------------------------------------------------------------------- */

static const char *const redirect_uris[] = {
	"https://app.example/cb",
	"https://app.example/cb/",
	"https://app.example/cb?tenant=7",
	"https://app.example/cb?tenant=7&x=a%20b+c",
	"https://app.example:8443/cb",
	"https://app.example:443/cb",
	"https://APP.example/CB",
	"https://app.example/r%C3%BCckkehr/%e2%82%ac",
	"https://app.example",
	"http://127.0.0.1:8080/cb",
};

#define REDIRECT_URIS (sizeof(redirect_uris) / sizeof(redirect_uris[0]))

static char *all_redirect_uris(void)
{
	char *list = th_printf("redirect_uri = (");
	size_t i;

	for (i = 0; i < REDIRECT_URIS; i++) {
		char *longer = th_printf("%s%s '%s'", list, i > 0 ? "," : "", redirect_uris[i]);

		free(list);
		list = longer;
	}
	return list;
}

/* A config with all of them, where th_config has room for one. */
static void configure_redirect_uris(struct th_host *host)
{
	char *text = th_read_file(host->config_path);
	char *at = strstr(text, "redirect_uri = ");
	char *list = all_redirect_uris();
	char *changed;
	char *quote;

	for (quote = list; *quote != '\0'; quote++) {
		if (*quote == '\'')
			*quote = '"';
	}
	changed = th_printf("%.*s%s )%s", (int)(at - text), text, list, strchr(at, ';'));
	th_write_file(host->config_path, 0600, changed);
	free(changed);
	free(list);
	free(text);
}

static void the_token_request_repeats_the_redirect_uri_of_the_consent_url(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };
	size_t i;

	configure_redirect_uris(host);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	for (i = 0; i < REDIRECT_URIS; i++) {
		acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
		struct consent *consent = calloc(1, sizeof(*consent));
		char *sent;

		assert_non_null(consent);
		args.user = th_str("ana");
		args.redirect_uri = th_str(redirect_uris[i]);
		expect_status(begin_with(host, &args, &consent->flow, &err), ACCTLINK_OK, &err);
		expect_param(&consent->flow, "redirect_uri", redirect_uris[i]);
		give_consent(consent, provider);
		expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
		sent = th_request(provider, "token", 0, "params.redirect_uri");
		expect_text(sent, redirect_uris[i]);
		free(sent);
		consent_free(&consent);
	}
	th_host_free(&host);
}

static void a_flow_keeps_its_redirect_uri_when_the_config_changes(void **state)
{
	const struct th_config other = { .redirect_uri = "https://new.example/callback" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *old = consent_new(host, provider, "ana", NULL);
	struct consent *older = consent_new(host, provider, "bea", NULL);
	acctlink_error err = { 0 };
	char *sent;

	rewrite_config(host, provider, &other);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(old, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	sent = th_request(provider, "token", 0, "params.redirect_uri");
	expect_text(sent, "https://app.example/cb");
	free(sent);
	th_must_link(host, provider, "cia", NULL, NULL);
	sent = th_request(provider, "token", 0, "params.redirect_uri");
	expect_text(sent, "https://new.example/callback");
	free(sent);
	th_host_restart(host);
	expect_status(return_with(older, host, "bea", NULL, &err), ACCTLINK_OK, &err);
	sent = th_request(provider, "token", 0, "params.redirect_uri");
	expect_text(sent, "https://app.example/cb");
	free(sent);
	consent_free(&older);
	consent_free(&old);
	th_host_free(&host);
}

/* slash: of the provider's issuer; configured: of ours. */
static void try_issuer(struct th_provider *provider, const char *slash, const char *configured)
{
	char *theirs = th_printf("%s%s", provider->issuer, slash);
	char *ours = th_printf("%s%s", provider->issuer, configured);
	const struct th_config config = { .issuer = ours };
	struct th_host *host = th_host_new(provider, &config);
	acctlink_error err = { 0 };
	char *path;

	th_control(provider, "{'set':{'issuer_path':'%s'},'reset_ledger':true}", slash);
	if (strcmp(slash, configured) == 0) {
		th_must_link(host, provider, "ana", NULL, NULL);
	} else {
		char *both[2] = { th_printf("\"%s\"", theirs), th_printf("\"%s\"", ours) };

		expect_status(th_link(host, provider, "ana", NULL, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
		expect_part(err.message, both[0]);
		expect_part(err.message, both[1]);
		expect_part(err.where, "acctlink.conf:");
		free(both[0]);
		free(both[1]);
		assert_int_equal(th_count(provider, "auth", NULL), 0);
	}
	path = th_request(provider, "discovery", 0, "path");
	expect_text(path, "/.well-known/openid-configuration");
	free(path);
	th_host_free(&host);
	free(ours);
	free(theirs);
}

static void issuers_are_compared_to_the_byte_and_a_mismatch_shows_both(void **state)
{
	struct th_provider *provider = *state;

	try_issuer(provider, "", "");
	try_issuer(provider, "/", "/");
	try_issuer(provider, "/", "");
	try_issuer(provider, "", "/");
}

/* ---- scope --------------------------------------------------------------------------------- */

struct grant {
	const char *scope; /* in the answer, as JSON */
	const char *granted;
	bool reduced;
};

static const struct grant grants[] = {
	{ "null", "openid accounts offline_access", false }, /* absent: as asked */
	{ "''", "openid accounts offline_access", false },
	{ "'openid accounts offline_access'", "openid accounts offline_access", false },
	{ "'offline_access openid accounts'", "offline_access openid accounts", false },
	{ "'openid accounts payments offline_access'", "openid accounts payments offline_access", false },
	{ "'openid  accounts   offline_access '", "openid  accounts   offline_access ", false },
	{ "['accounts','offline_access','openid']", "accounts offline_access openid", false },
	{ "'openid accounts'", "openid accounts", true },
	{ "'openid offline_access account'", "openid offline_access account", true },
	{ "'openid offline_access accountss'", "openid offline_access accountss", true },
	{ "'openid offline_access ACCOUNTS'", "openid offline_access ACCOUNTS", true },
	{ "['openid','offline_access']", "openid offline_access", true },
	{ "7", "openid accounts offline_access", false }, /* tells nothing */
	{ "{}", "openid accounts offline_access", false },
};

static void expect_grant(
	struct th_host *host, struct th_provider *provider, const struct grant *grant, const char *user)
{
	struct consent *consent = consent_new(host, provider, user, NULL);
	char *event = th_printf("SCOPE_REDUCED user=%s", user);
	const uint32_t flags = grant->reduced ? ACCTLINK_CALLBACK_SCOPE_REDUCED : 0;
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	char scope[256];

	th_script(provider, "token", NULL, 1, "{'set':{'scope':%s}}", grant->scope);
	expect_status(return_with(consent, host, user, &result, &err), ACCTLINK_OK, &err);
	th_check(result.flags == flags, "scope %s: flags %u", grant->scope, result.flags);
	expect_status(return_with(consent, host, user, &result, &err), ACCTLINK_OK, &err);
	assert_int_equal(result.flags, flags | ACCTLINK_CALLBACK_REPEATED);
	seen.scope = (acctlink_out){ scope, sizeof(scope), 0 };
	expect_status(th_inspect(host, user, NULL, &seen, &err), ACCTLINK_OK, &err);
	expect_text(scope, grant->granted);
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	expect_events(host, event, grant->reduced ? 1 : 0);
	if (grant->reduced) {
		char *whole = th_printf(
			"SCOPE_REDUCED user=%s provider=test institution= link=%s ", user, result.link_id);

		expect_events(host, whole, 1);
		free(whole);
	}
	free(th_must_bearer(host, user, NULL, NULL));
	free(event);
	consent_free(&consent);
}

static void granted_scope_is_a_set_and_less_of_it_is_an_event_not_a_failure(void **state)
{
	const struct th_config config = { .provider_lines = "scope = 'openid accounts offline_access';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	size_t i;

	for (i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
		char *user = th_printf("user-%zu", i);

		expect_grant(host, provider, &grants[i], user);
		free(user);
	}
	th_host_free(&host);
}

static void the_scope_that_the_host_asks_for_is_what_counts(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_callback_result result;
	acctlink_error err = { 0 };

	assert_non_null(consent);
	args.user = th_str("ana");
	args.scope = th_str("openid offline_access payments");
	expect_status(begin_with(host, &args, &consent->flow, &err), ACCTLINK_OK, &err);
	expect_param(&consent->flow, "scope", "openid offline_access payments");
	th_control(provider, "{'set':{'scope':'openid offline_access'}}");
	give_consent(consent, provider);
	expect_status(return_with(consent, host, "ana", &result, &err), ACCTLINK_OK, &err);
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_SCOPE_REDUCED);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_provider_that_gives_no_refresh_token_makes_a_link_that_says_so(void **state)
{
	const struct th_config config = { .provider_lines = "scope = 'openid';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_must_link(host, provider, "ana", NULL, NULL);
	expect_status(th_inspect(host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(seen.reason, ACCTLINK_REASON_NO_REFRESH_TOKEN);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_advance(host, provider, HOURS(2));
	expect_status(th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	assert_int_equal(th_count(provider, "token", NULL), 1);
	th_host_free(&host);
}

/* ---- renewals --------------------------------------------------------------------------------- */

static void a_renewal_keeps_the_link_and_raises_epoch_and_generation(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char *event;
	char *old;
	char *new;

	th_must_link(host, provider, "ana", NULL, &first);
	th_advance(host, provider, MINUTES(1));
	expect_status(th_report(host, "ana", NULL, 1, &err), ACCTLINK_OK, &err);
	old = th_must_bearer(host, "ana", NULL, &info);
	assert_int_equal(info.generation, 2);
	th_must_link(host, provider, "ana", NULL, &second);
	assert_int_equal(second.flags, ACCTLINK_CALLBACK_RENEWED);
	expect_text(second.link_id, first.link_id);
	assert_int_equal(second.epoch, 2);
	assert_int_equal(second.generation, 3);
	new = th_must_bearer(host, "ana", NULL, &info);
	assert_true(strcmp(new, old) != 0);
	assert_int_equal(info.epoch, 2);
	assert_int_equal(info.generation, 3);
	event = th_printf("RENEWED user=ana provider=test institution= link=%s state=%d reason=0 epoch=2 generation=3",
		first.link_id, ACCTLINK_STATE_LINKED);
	expect_events(host, event, 1);
	expect_events(host, "LINKED user=ana", 1);
	assert_int_equal(stored_number(host, "SELECT count(*) FROM link"), 1);
	/* The new chain is the one that is refreshed. */
	th_advance(host, provider, HOURS(2));
	free(th_must_bearer(host, "ana", NULL, &info));
	assert_int_equal(info.generation, 4);
	assert_int_equal(th_grant_generation(provider, -1), 2);
	assert_int_equal(th_max_arrivals(provider), 1);
	free(event);
	free(old);
	free(new);
	th_host_free(&host);
}

static void a_renewal_mends_a_link_that_needed_one(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_must_link(host, provider, "ana", NULL, &first);
	th_control(provider, "{'kill_grant':'all'}");
	th_advance(host, provider, HOURS(2));
	expect_status(th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	th_must_link(host, provider, "ana", NULL, &second);
	expect_text(second.link_id, first.link_id);
	assert_int_equal(second.flags, ACCTLINK_CALLBACK_RENEWED);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
}

static bool newest_grant_dead(void *ctx)
{
	return !th_grant_alive(ctx, -1);
}

static void a_renewal_with_another_bank_login_leaves_the_link_untouched(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	struct consent *consent;
	acctlink_callback_result first;
	acctlink_error err = { 0 };
	char subject[64];
	char *event;
	char *old;
	char *same;

	th_must_link(host, provider, "ana", NULL, &first);
	old = th_must_bearer(host, "ana", NULL, NULL);
	th_control(provider, "{'set':{'sub':'another-login'}}");
	consent = consent_new(host, provider, "ana", NULL);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	expect_part(err.message, "another bank login");
	expect_no_part(err.message, "another-login"); /* a subject is personal */
	th_wait_until(newest_grant_dead, provider, 30000, "the revocation of the other login's tokens");
	assert_true(th_grant_alive(provider, -2));
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	expect_exchanges(provider, 2);

	seen.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	expect_status(th_inspect(host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	expect_text(subject, "sub-1");
	expect_text(seen.link_id, first.link_id);
	assert_int_equal(seen.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(seen.epoch, 1);
	assert_int_equal(seen.generation, 1);
	same = th_must_bearer(host, "ana", NULL, NULL);
	expect_text(same, old);
	event = th_printf(
		"FLOW_FAILED user=ana provider=test institution= link=%s state=0 reason=0 epoch=1 generation=1",
		first.link_id);
	expect_events(host, event, 1);
	expect_events(host, "RENEWED", 0);
	th_advance(host, provider, HOURS(2));
	free(th_must_bearer(host, "ana", NULL, NULL)); /* its own chain lives */
	free(event);
	free(old);
	free(same);
	consent_free(&consent);
	th_host_free(&host);
}

static void another_bank_login_is_taken_where_the_host_allowed_it(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_callback_result first;
	acctlink_callback_result second;
	acctlink_error err = { 0 };
	char subject[64];

	assert_non_null(consent);
	th_must_link(host, provider, "ana", NULL, &first);
	th_control(provider, "{'set':{'sub':'another-login'}}");
	args.user = th_str("ana");
	args.flags = ACCTLINK_BEGIN_NEW_SUBJECT;
	expect_status(begin_with(host, &args, &consent->flow, &err), ACCTLINK_OK, &err);
	give_consent(consent, provider);
	th_host_restart(host); /* the permission belongs to the flow */
	expect_status(return_with(consent, host, "ana", &second, &err), ACCTLINK_OK, &err);
	assert_int_equal(second.flags, ACCTLINK_CALLBACK_RENEWED);
	expect_text(second.link_id, first.link_id);
	seen.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	expect_status(th_inspect(host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	expect_text(subject, "another-login");
	assert_int_equal(seen.generation, 2);
	assert_true(th_grant_alive(provider, -1));
	/* From now on it is the link's own. */
	th_advance(host, provider, HOURS(2));
	free(th_must_bearer(host, "ana", NULL, NULL));
	expect_status(th_link(host, provider, "ana", NULL, NULL, &err), ACCTLINK_OK, &err);
	th_control(provider, "{'set':{'sub':null}}");
	expect_status(th_link(host, provider, "ana", NULL, NULL, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- one bank login of two users ----------------------------------------------------------- */

static void expect_link_state(struct th_host *host, const char *user, const char *institution, int32_t state)
{
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	expect_status(th_inspect(host, user, institution, &seen, &err), ACCTLINK_OK, &err);
	assert_int_equal(seen.state, state);
}

static void two_users_may_share_a_bank_login_where_that_is_allowed(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result result;

	th_must_link(host, provider, "ana", NULL, NULL);
	th_must_link(host, provider, "bea", NULL, &result);
	assert_int_equal(result.flags, 0); /* nobody lost anything */
	th_advance(host, provider, HOURS(2));
	free(th_must_bearer(host, "ana", NULL, NULL));
	free(th_must_bearer(host, "bea", NULL, NULL));
	expect_events(host, "SUPERSEDED", 0);
	th_host_free(&host);
}

/* The newer link has the login; the older hands nothing out, however good. */
static void expect_move(struct th_provider *provider, const char *lines)
{
	const struct th_config config = { .provider_lines = lines };
	struct th_host *host = th_host_new(provider, &config);
	acctlink_callback_result ana;
	acctlink_callback_result bea;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *event;

	th_must_link(host, provider, "ana", NULL, &ana);
	free(th_must_bearer(host, "ana", NULL, NULL)); /* held from now on */
	th_must_link(host, provider, "bea", NULL, &bea);
	assert_int_equal(bea.flags, ACCTLINK_CALLBACK_SUPERSEDES);
	event = th_printf(
		"SUPERSEDED user=ana provider=test institution= link=%s state=%d reason=0 epoch=1 generation=1",
		ana.link_id, ACCTLINK_STATE_SUPERSEDED);
	expect_events(host, event, 1);
	expect_link_state(host, "ana", NULL, ACCTLINK_STATE_SUPERSEDED);
	expect_status(th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	free(th_must_bearer(host, "bea", NULL, NULL));
	/* And back; then a third, which takes it from one only. */
	th_must_link(host, provider, "ana", NULL, &bea);
	assert_int_equal(bea.flags, ACCTLINK_CALLBACK_RENEWED | ACCTLINK_CALLBACK_SUPERSEDES);
	expect_text(bea.link_id, ana.link_id);
	free(th_must_bearer(host, "ana", NULL, NULL));
	expect_status(th_bearer(host, "bea", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	th_must_link(host, provider, "cia", NULL, &bea);
	assert_int_equal(bea.flags, ACCTLINK_CALLBACK_SUPERSEDES);
	expect_events(host, "SUPERSEDED", 3);
	/* Its own renewal supersedes nobody. */
	th_must_link(host, provider, "cia", NULL, &bea);
	assert_int_equal(bea.flags, ACCTLINK_CALLBACK_RENEWED);
	expect_events(host, "SUPERSEDED", 3);
	free(event);
	th_host_free(&host);
}

static void a_bank_login_moves_to_the_newer_link_where_the_config_says_so(void **state)
{
	struct th_provider *provider = *state;

	expect_move(provider, "shared_subject = 'move';");
	/* A provider with one grant per user leaves no choice. */
	th_control(provider, "{'set':{'rotation':'dex'}}");
	expect_move(provider, "one_grant_per_user = true;");
}

static void a_second_users_bank_login_is_refused_where_the_config_says_so(void **state)
{
	const struct th_config config = { .provider_lines = "shared_subject = 'refuse';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	acctlink_callback_result result;
	acctlink_error err = { 0 };

	th_must_link(host, provider, "ana", NULL, NULL);
	expect_status(th_link(host, provider, "bea", NULL, &result, &err), ACCTLINK_SUBJECT_CHANGED, &err);
	expect_part(err.message, "another user has linked this bank login");
	expect_no_part(err.message, "ana");
	th_wait_until(newest_grant_dead, provider, 30000, "the revocation of the refused tokens");
	assert_true(not_linked(host, "bea", NULL));
	expect_events(
		host, "FLOW_FAILED user=bea provider=test institution= link= state=0 reason=0 epoch=0 generation=0", 1);
	assert_true(th_grant_alive(provider, -2));
	th_advance(host, provider, HOURS(2));
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_must_link(host, provider, "ana", NULL, &result); /* her own renewal is none of a second user */
	assert_int_equal(result.flags, ACCTLINK_CALLBACK_RENEWED);
	th_host_free(&host);
}

/* Two banks may number their customers alike: a subject is unique within one only. */
static void the_same_subject_at_another_institution_is_another_login(void **state)
{
	static const char *const policies[] = { "move", "refuse" };
	struct th_provider *provider = *state;
	size_t i;

	th_control(provider, "{'set':{'sub':'customer-1'}}");
	for (i = 0; i < 2; i++) {
		char *lines = th_printf("institution_parameter = 'connector'; shared_subject = '%s';", policies[i]);
		const struct th_config config = { .provider_lines = lines };
		struct th_host *host = th_host_new(provider, &config);
		acctlink_callback_result result;

		th_must_link(host, provider, "ana", "mikomo", NULL);
		th_must_link(host, provider, "bea", "other", &result);
		assert_int_equal(result.flags, 0);
		th_must_link(host, provider, "ana", "other-2", &result);
		assert_int_equal(result.flags, 0);
		expect_link_state(host, "ana", "mikomo", ACCTLINK_STATE_LINKED);
		free(th_must_bearer(host, "ana", "mikomo", NULL));
		free(th_must_bearer(host, "bea", "other", NULL));
		expect_events(host, "SUPERSEDED", 0);
		th_host_free(&host);
		free(lines);
	}
}

struct held_refresh {
	struct th_host *host;
	struct th_provider *provider;
	acctlink_status rc;
};

/* 0 refreshes ana's link; meanwhile 1 links bea. */
static void refresh_and_consent(void *ctx, unsigned i)
{
	struct held_refresh *held = ctx;
	char *bearer = NULL;

	if (i == 0) {
		held->rc = th_bearer(held->host, "ana", NULL, &bearer, NULL, NULL);
		free(bearer);
	} else {
		th_wait_held(held->provider, "refresh", 1);
		th_must_link(held->host, held->provider, "bea", NULL, NULL);
		th_release(held->provider, "refresh");
	}
}

/* The loser's refresh was on its way when the login moved: its answer may not
 * bring the superseded link back. */
static void a_late_refresh_does_not_revive_a_superseded_link(void **state)
{
	const struct th_config config = { .provider_lines = "shared_subject = 'move';" };
	struct th_provider *provider = *state;
	struct held_refresh held = { th_host_new(provider, &config), provider, ACCTLINK_OK };
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_must_link(held.host, provider, "ana", NULL, NULL);
	th_advance(held.host, provider, HOURS(2));
	th_script(provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_parallel(2, refresh_and_consent, &held);
	assert_int_equal(held.rc, ACCTLINK_RELINK_REQUIRED);
	expect_link_state(held.host, "ana", NULL, ACCTLINK_STATE_SUPERSEDED);
	expect_events(held.host, "SUPERSEDED user=ana", 1);
	expect_events(held.host, "HEALED", 0);
	th_host_restart(held.host);
	expect_status(th_bearer(held.host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	free(th_must_bearer(held.host, "bea", NULL, NULL));
	th_host_free(&held.host);
}

/* ---- plain http -------------------------------------------------------------------------------- */

static void plain_http_works_on_loopback(void **state)
{
	const struct th_config config = { .redirect_uri = "http://127.0.0.1:8080/cb" };
	struct th_provider *provider = th_provider_start(TH_PRACTICE_PLAIN, NULL);
	struct th_host *host = th_host_new(provider, &config);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_unlink_result unlinked;
	acctlink_error err = { 0 };
	char *bearer;

	(void)state;
	assert_memory_equal(provider->issuer, "http://", 7);
	/* A browser takes no Secure or __Host- cookie from a plain http page. */
	expect_cookie(consent->flow.set_cookie, "", "; Path=/; Max-Age=900; HttpOnly; SameSite=Lax");
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	th_advance(host, provider, HOURS(2));
	bearer = th_must_bearer(host, "ana", NULL, &info);
	assert_int_equal(info.generation, 2);
	assert_int_equal(th_userinfo(provider, bearer), 200);
	expect_status(th_unlink(host, "ana", NULL, &unlinked, &err), ACCTLINK_OK, &err);
	assert_int_equal(unlinked.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	free(bearer);
	consent_free(&consent);
	th_host_free(&host);
	th_provider_stop(&provider);
}

static void plain_http_elsewhere_is_refused_by_the_config(void **state)
{
	static const struct th_config wrong[] = {
		{ .issuer = "http://login.bank.example" },
		{ .issuer = "http://localhost.evil.example" },
		{ .issuer = "http://0.0.0.0:8080" },
		{ .issuer = "http://192.168.1.1" },
		{ .issuer = "http://[::2]" },
		{ .issuer = "HTTP://login.bank.example" },
		{ .issuer = "ftp://localhost" },
		{ .redirect_uri = "http://app.example/cb" },
		{ .provider_lines = "token_endpoint = 'http://login.bank.example/token';" },
		{ .provider_lines = "jwks_uri = 'http://login.bank.example/keys';" },
		{ .provider_lines = "authorization_endpoint = 'http://login.bank.example/auth';" },
		{ .provider_lines = "revocation_endpoint = 'http://login.bank.example/revoke';" },
	};
	struct th_provider *provider = *state;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char *dir = th_temp_dir();
		char *path = th_config_write(dir, provider, &wrong[i]);
		struct th_host *host = NULL;
		acctlink_error err = { 0 };

		expect_status(th_host_try(path, NULL, &host, &err), ACCTLINK_BAD_CONFIG, &err);
		expect_part(err.where, "acctlink.conf:");
		expect_part(err.message, "https");
		free(path);
		free(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { consent_test(begin_gives_a_consent_url_and_a_cookie_of_its_own),
		consent_test(pkce_and_nonce_can_be_left_out),
		consent_test(a_buffer_that_is_too_small_stores_nothing_and_tells_all_lengths),
		consent_test(begin_refuses_what_it_can_not_do_and_stores_nothing),
		consent_test(begin_waits_for_a_provider_that_is_down),
		consent_test(metadata_that_do_not_fit_are_found_out_at_the_first_begin),
		consent_test(the_token_request_repeats_the_redirect_uri_of_the_consent_url),
		consent_test(a_flow_keeps_its_redirect_uri_when_the_config_changes),
		consent_test(issuers_are_compared_to_the_byte_and_a_mismatch_shows_both),
		consent_test(granted_scope_is_a_set_and_less_of_it_is_an_event_not_a_failure),
		consent_test(the_scope_that_the_host_asks_for_is_what_counts),
		consent_test(a_provider_that_gives_no_refresh_token_makes_a_link_that_says_so),
		consent_test(a_renewal_keeps_the_link_and_raises_epoch_and_generation),
		consent_test(a_renewal_mends_a_link_that_needed_one),
		consent_test(a_renewal_with_another_bank_login_leaves_the_link_untouched),
		consent_test(another_bank_login_is_taken_where_the_host_allowed_it),
		consent_test(two_users_may_share_a_bank_login_where_that_is_allowed),
		consent_test(a_bank_login_moves_to_the_newer_link_where_the_config_says_so),
		consent_test(a_second_users_bank_login_is_refused_where_the_config_says_so),
		consent_test(the_same_subject_at_another_institution_is_another_login),
		consent_test(a_late_refresh_does_not_revive_a_superseded_link),
		consent_test(plain_http_works_on_loopback),
		consent_test(plain_http_elsewhere_is_refused_by_the_config) };

	return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
