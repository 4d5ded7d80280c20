/* SPDX-License-Identifier: MIT
 * Akoya's signing keys: which id_tokens are believed and which never are. Each
 * row is a refresh; what is not believed is not served, and its refresh token is
 * kept all the same.
 */
#include "akoya.h"

static struct th_host *linked_and_expired(void)
{
	struct th_host *host = host_with(NULL);

	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	return host;
}

static int key_fetches(void)
{
	return th_count(provider, "jwks", NULL);
}

static int be_akoya_with_keys(void **state)
{
	be_akoya(state);
	th_control(provider, "{'set':{'jwks_without_kid':false},'rotate_key':{'keep_old':false}}");
	return 0;
}

static void a_key_that_is_new_in_the_key_set_is_fetched_and_believed(void **state)
{
	struct th_host *host = linked_and_expired();

	(void)state;
	expect_number(key_fetches(), 1);
	th_control(provider, "{'rotate_key':{'keep_old':true}}");
	expect_bearer(host, "ana", 2);
	expect_number(refreshes(), 1);
	expect_number(key_fetches(), 2);
	expect_bearer(host, "ana", 2);
	expect_number(key_fetches(), 2);
	th_host_free(&host);
}

static void an_id_token_without_a_kid_is_believed(void **state)
{
	struct th_host *host = linked_and_expired();

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'header':{'kid':null}}}");
	expect_bearer(host, "ana", 2);
	th_host_free(&host);
}

static void keys_without_a_kid_are_all_tried(void **state)
{
	struct th_host *host;

	(void)state;
	th_control(provider, "{'set':{'jwks_without_kid':true}}");
	th_script(provider, "token", NULL, -1, "{'id_token':{'header':{'kid':null}}}");
	host = linked_and_expired();
	expect_bearer(host, "ana", 2);
	th_host_free(&host);
}

/* The key set as it is, but every key under one and the same kid. */
static char *keys_under_one_kid(void)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *url = th_printf("%s/keys", provider->issuer);
	struct th_answer answer;
	json_object *set;
	json_object *keys;
	char *text;
	size_t i;

	th_check(th_browser_go(browser, "GET", url, NULL, NULL, &answer), "no key set");
	set = json_tokener_parse(answer.body);
	keys = json_object_object_get(set, "keys");
	for (i = 0; i < json_object_array_length(keys); i++)
		json_object_object_add(json_object_array_get_idx(keys, i), "kid", json_object_new_string("one"));
	th_check(json_object_array_length(keys) > 1, "there is one key only");
	text = th_printf(
		"%s", json_object_to_json_string_ext(set, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(set);
	th_answer_clear(&answer);
	free(url);
	th_browser_free(&browser);
	return text;
}

static void keys_that_share_a_kid_are_told_apart(void **state)
{
	char *keys = keys_under_one_kid();
	struct th_host *host;

	(void)state;
	th_script(provider, "jwks", NULL, -1, "{'json':%s}", keys);
	th_script(provider, "token", NULL, -1, "{'id_token':{'header':{'kid':'one'}}}");
	host = linked_and_expired();
	expect_bearer(host, "ana", 2);
	th_host_free(&host);
	free(keys);
}

static void no_algorithm_but_the_configured_one_is_believed(void **state)
{
	static const char *const forged[] = { "{'id_token':{'sign':'none'}}",
		"{'id_token':{'sign':'none','header':{'alg':'None'}}}", "{'id_token':{'sign':'hs256_pem'}}",
		"{'id_token':{'sign':'hs256_der'}}", "{'id_token':{'sign':'wrong_key'}}" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		struct th_host *host;
		acctlink_error err = { 0 };

		be_akoya_with_keys(NULL);
		host = linked_and_expired();
		th_script(provider, "token", "refresh_token", 1, "%s", forged[i]);
		printf("# %s\n", forged[i]); /* which one it was, if something fails */
		expect_status(denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN, &err);
		expect_text(err.provider_code, "id_token_refused");
		th_check(err.retry_after_ms > 0, "nobody is told when the next refresh is due");
		expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
		expect_number(th_grant_generation(provider, -1), 2);
		th_advance(host, provider, HOURS(1));
		expect_bearer(host, "ana", 3);
		expect_number(th_max_arrivals(provider), 1);
		th_host_free(&host);
	}
}

#define key_test(f) cmocka_unit_test_setup(f, be_akoya_with_keys)

int main(void)
{
	const struct CMUnitTest tests[] = { key_test(a_key_that_is_new_in_the_key_set_is_fetched_and_believed),
		key_test(an_id_token_without_a_kid_is_believed), key_test(keys_without_a_kid_are_all_tried),
		key_test(keys_that_share_a_kid_are_told_apart),
		key_test(no_algorithm_but_the_configured_one_is_believed) };

	return cmocka_run_group_tests_name("akoya keys", tests, start_provider, stop_provider);
}
