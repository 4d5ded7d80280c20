/* SPDX-License-Identifier: MIT
 * The shared suite at the practice provider, with its pages and the manners of the
 * certified one, so that both can be held against each other; and what only this
 * one does.
 */
#include "same_flow.h"

static enum th_kind kind_of_provider(void)
{
	return TH_PRACTICE;
}

static void renew(void)
{
	th_control(provider,
		"{'clear':true,'down':false,'set':{'pages':true,'habits':false,'rotation':'hydra',"
		"'reuse_window_ms':0,'one_grant':null,'words':null,'issuer_path':'','sub':null,'scope':null,'claims':null,"
		"'code_ttl':60,'access_ttl':3600,'id_token_ttl':3600,'refresh_ttl':%d,'access_token':true,'id_token':'always',"
		"'refresh_nonce':false,'alg':'RS256','iss_parameter':true,'auth':null,'token_bytes':null,'discovery':null,"
		"'redirect_uris':['https://app.example/cb','https://app.example/cb/','https://app.example/cb?tenant=7',"
		"'https://app.example:8443/cb'],"
		"'clients':{'test-client':'test-secret','post-client':'post-secret','public-client':null,"
		"'odd:id /1':'p+q/r:s%%t=u v&w','rs256-client':'test-secret','ps256-client':'test-secret',"
		"'es256-client':'test-secret','eddsa-client':'test-secret'}}}",
		30 * 86400);
}

static void sign_with(const char *alg)
{
	th_control(provider, "{'set':{'alg':'%s'}}", alg);
}

static void leave_offline_access_out(void)
{
	th_control(provider, "{'set':{'scope':'openid'}}");
}

/* An id_token is a bearer here, as it is at Akoya. */
static long userinfo_of_id_token(void)
{
	return 200;
}

/* RFC 6749, 4.1.2: "SHOULD revoke (when possible) all tokens previously issued". */
static void a_spent_code_that_comes_back_ends_the_grant(void **state)
{
	struct th_host *host = usual_host();
	acctlink_error err = { 0 };
	char *bearer = NULL;

	(void)state;
	spend_code_again(host, "thief");
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	th_advance(host, provider, HOURS(2));
	expect_status(th_bearer(host, "thief", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_number(look(host, "thief").reason, ACCTLINK_REASON_REVOKED);
	th_host_free(&host);
}

static char *subject_of_login(struct th_host *host, const char *user, const char *login)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;

	th_check(flow != NULL, "no memory");
	expect_status(th_begin(host, user, NULL, flow, &err), ACCTLINK_OK, &err);
	params = th_consent_as(provider, flow->url, TH_ACCEPT, login);
	expect_status(th_callback(host, user, params, flow->cookie, NULL, &err), ACCTLINK_OK, &err);
	free(params);
	free(flow);
	return granted_subject();
}

static void a_login_is_a_subject_and_another_login_is_another(void **state)
{
	struct th_host *host = usual_host();
	char *first = subject_of_login(host, "login-1", "ana");
	char *again = subject_of_login(host, "login-2", "ana");
	char *other = subject_of_login(host, "login-3", "ben");

	(void)state;
	expect_text(again, first);
	th_check(strcmp(first, other) != 0, "ana and ben are one subject, %s", first);
	free(first);
	free(again);
	free(other);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = { SAME_TESTS, same_test(a_spent_code_that_comes_back_ends_the_grant),
		same_test(a_login_is_a_subject_and_another_login_is_another) };

	return cmocka_run_group_tests_name("practice", tests, start_provider, stop_provider);
}
