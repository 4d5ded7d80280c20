/* SPDX-License-Identifier: MIT
 * Unlinking and the revocation queue: what the provider may answer, what is
 * told to the host, and that nothing lives on at the provider in the end. Time
 * is moved, so the queue's pauses pass in an instant.
 */
#include "steps.h"

#include <signal.h>
#include <sys/wait.h>

/* Longer than any pause of the queue: request_timeout, the longest back-off and a second. */
#define PAUSE MINUTES(6)

static const struct th_config quick = { .lines = "poll_interval = 0.05;" };

/* Nothing of an earlier test is alive. */
static int renew(void **state)
{
	th_control(*state, "{'kill_grant':'all'}");
	return renew_provider(state);
}

#define unlink_test(name) cmocka_unit_test_setup(name, renew)

/* ---- what these tests ask ------------------------------------------------------- */

static int revocations(struct th_provider *provider)
{
	return th_count(provider, "revoke", NULL);
}

#define expect_revocations(provider, wanted) \
	th_check(revocations(provider) == (wanted), "%d revocations instead of %d", revocations(provider), wanted)

/* The link is ended with this outcome; its id is the caller's. */
static void unlink_with(struct th_host *host, const char *user, int32_t revocation, char link_id[40])
{
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	expect_status(th_unlink(host, user, NULL, &result, &err), ACCTLINK_OK, &err);
	th_check(result.revocation == revocation, "revocation %d instead of %d", (int)result.revocation,
		(int)revocation);
	if (link_id != NULL)
		memcpy(link_id, result.link_id, sizeof(result.link_id));
	expect_status(th_bearer(host, user, NULL, &bearer, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	th_check(not_linked(host, user, NULL), "the link is still shown");
}

/* The kind and the token of a revocation request, counted from the newest. */
static void expect_revoked(struct th_provider *provider, int back, const char *hint, const char *hash)
{
	char *got_hint = th_request(provider, "revoke", back, "params.token_type_hint");
	char *got_hash = th_request(provider, "revoke", back, "token");

	expect_text(got_hint, hint);
	if (hash != NULL)
		expect_text(got_hash, hash);
	free(got_hint);
	free(got_hash);
}

static void expect_no_grant_alive(struct th_provider *provider)
{
	const int count = th_grant_count(provider);

	for (int n = 0; n < count; n++)
		th_check(!th_grant_alive(provider, n), "grant %d lives on at the provider", n);
}

static uint32_t listed(struct th_host *host, const char *user)
{
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result result = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_item items[4];
	acctlink_error err = { 0 };

	args.user = th_str(user);
	result.items = items;
	result.capacity = 4;
	expect_status(host->api.list(host->handle, &args, &result, &err), ACCTLINK_OK, &err);
	return result.count;
}

/* The queue has come by since everything that was due before now was due: a link
 * of somebody else whose revocation fell due first has been revoked. */
struct marker {
	char link_id[40];
};

static void set_marker(struct marker *marker, struct th_host *host, struct th_provider *provider)
{
	th_must_link(host, provider, "marker", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':503}");
	unlink_with(host, "marker", ACCTLINK_REVOCATION_PENDING, marker->link_id);
}

static void wait_for_marker(struct marker *marker, struct th_host *host)
{
	char *part = th_printf("REVOKED user=marker provider=test institution= link=%s", marker->link_id);

	th_wait_event(host, part, 1);
	free(part);
}

static bool store_is_empty(void *ctx)
{
	return stored_number(ctx, "SELECT count(*) FROM link") == 0;
}

/* ---- answers -------------------------------------------------------------------------- */

static void the_refresh_token_is_revoked_first_and_then_the_access_token(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_callback_result linked;
	char link_id[40];
	char *refresh_token;
	char *bearer;

	th_must_link(host, provider, "ana", NULL, &linked);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	refresh_token = th_grant_current(provider, -1);
	th_check(th_userinfo(provider, bearer) == 200, "the bearer was not good before");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_CONFIRMED, link_id);
	expect_text(link_id, linked.link_id);
	expect_revocations(provider, 2);
	expect_revoked(provider, 1, "refresh_token", refresh_token);
	expect_revoked(provider, 0, "access_token", NULL);
	th_check(th_userinfo(provider, bearer) == 401, "the bearer is still good");
	expect_events(host, "UNLINKED user=ana", 1);
	expect_events(host, "REVOKED user=ana", 1);
	th_check(listed(host, "ana") == 0, "the link is listed");
	expect_no_grant_alive(provider);
	th_advance(host, provider, HOURS(25)); /* other processes have seen it by then */
	th_wait_until(store_is_empty, host, 30000, "the row's end");
	expect_revocations(provider, 2);
	th_host_free(&host);
	free(refresh_token);
	free(bearer);
}

static void the_newest_refresh_token_is_the_one_that_is_revoked(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	char *current;

	th_must_link(host, provider, "ana", NULL, NULL);
	for (int i = 0; i < 2; i++) {
		th_advance(host, provider, HOURS(2));
		free(th_must_bearer(host, "ana", NULL, NULL));
	}
	current = th_grant_current(provider, -1);
	th_check(th_grant_generation(provider, -1) == 3, "no refresh came");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_CONFIRMED, NULL);
	expect_revocations(provider, 2);
	expect_revoked(provider, 1, "refresh_token", current);
	expect_no_grant_alive(provider);
	th_host_free(&host);
	free(current);
}

static void a_provider_that_does_not_know_the_token_has_confirmed_as_well(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, -1, "{'status':200,'body':'','spend':false}");
	th_control(provider, "{'kill_grant':%d}", th_grant_count(provider) - 1);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_CONFIRMED, NULL);
	expect_revocations(provider, 2);
	expect_events(host, "REVOKED user=ana", 1);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void a_revocation_that_was_turned_away_is_tried_again_when_it_is_due(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	struct marker marker;
	char link_id[40];

	set_marker(&marker, host, provider);
	th_advance(host, provider, PAUSE);
	th_must_link(host, provider, "ana", NULL, NULL);
	wait_for_marker(&marker, host);
	set_marker(&marker, host, provider); /* due half a minute from now at the earliest */
	th_advance(host, provider, 20000);
	th_script(provider, "revoke", NULL, 1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, link_id);
	th_control(provider, "{'reset_ledger':true}");
	th_advance(host, provider, 13500); /* the marker is due, the link is not */
	wait_for_marker(&marker, host);
	expect_events(host, "REVOKED user=ana", 0);
	expect_revocations(provider, 2);
	th_check(th_grant_alive(provider, -2), "the grant was revoked too early");
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 4);
	expect_events(host, "UNLINKED user=ana", 1);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void what_is_left_to_revoke_survives_a_restart(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 2, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	th_host_restart(host);
	th_check(not_linked(host, "ana", NULL), "the link is back after the restart");
	th_advance(host, provider, PAUSE);
	th_wait_count(provider, "revoke", NULL, 2);
	th_host_restart(host);
	th_check(not_linked(host, "ana", NULL), "the link is back after the second restart");
	th_check(th_grant_alive(provider, -1), "the provider revoked in spite of 503");
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 4);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

/* Answers that tell nothing, and ends that are no answer. */
static void whatever_does_not_settle_it_is_tried_again(void **state)
{
	static const char *const answers[] = { "{'status':500}", "{'status':502,'body':'<html>bad gateway</html>'}",
		"{'status':503}", "{'status':504}", "{'status':429}", "{'status':408}",
		"{'status':403,'body':'<html>no</html>'}", "{'cut':'before_answer'}",
		"{'body':'{ }','cut':'half_body'}", "{'status':500,'json':{'error':'invalid_request'}}",
		"{'redirect':{'status':307,'location':'https://localhost:1/revoke'}}" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		th_must_link(host, provider, "ana", NULL, NULL);
		th_control(provider, "{'reset_ledger':true}");
		th_script(provider, "revoke", NULL, 1, "%s", answers[i]);
		unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
		expect_revocations(provider, 1);
		th_advance(host, provider, PAUSE);
		th_wait_event(host, "REVOKED user=ana", i + 1);
		expect_revocations(provider, 3);
		expect_no_grant_alive(provider);
	}
	expect_events(host, "UNLINKED user=ana", (int)(sizeof(answers) / sizeof(answers[0])));
	th_host_free(&host);
}

static void the_provider_may_say_when_to_come_back(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	struct marker marker;

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':503,'headers':{'retry-after':'1800'}}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	set_marker(&marker, host, provider);
	th_advance(host, provider, MINUTES(29));
	wait_for_marker(&marker, host);
	expect_events(host, "REVOKED user=ana", 0);
	expect_revocations(provider, 1 + 3);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 1 + 3 + 2);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void a_definite_refusal_is_told_and_not_repeated(void **state)
{
	static const char *const errors[] = { "unsupported_token_type", "invalid_request" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	struct marker marker;

	for (size_t i = 0; i < 2; i++) {
		th_must_link(host, provider, "ana", NULL, NULL);
		th_control(provider, "{'reset_ledger':true}");
		th_script(provider, "revoke", NULL, 2, "{'status':400,'json':{'error':'%s'}}", errors[i]);
		unlink_with(host, "ana", ACCTLINK_REVOCATION_REFUSED, NULL);
		expect_revocations(provider, 2); /* each token was offered */
		expect_revoked(provider, 1, "refresh_token", NULL);
		expect_revoked(provider, 0, "access_token", NULL);
		th_check(th_lines_contain(host->logs, errors[i]), "the log does not tell %s", errors[i]);
		set_marker(&marker, host, provider);
		th_advance(host, provider, HOURS(71));
		wait_for_marker(&marker, host);
		expect_revocations(provider, 5);
	}
	expect_events(host, "UNLINKED user=ana", 2);
	expect_events(host, "REVOKED user=ana", 0);
	expect_events(host, "REVOCATION_GIVEN_UP", 0);
	th_host_free(&host);
}

static void where_only_one_kind_of_token_is_refused_the_other_is_revoked_all_the_same(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':400,'json':{'error':'unsupported_token_type'}}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_REFUSED, NULL);
	expect_revocations(provider, 2);
	expect_no_grant_alive(provider); /* the access token took the grant with it */
	th_host_free(&host);
}

static void a_provider_without_the_endpoint_is_asked_nothing(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host;

	th_control(provider, "{'set':{'discovery':{'revocation_endpoint':null}}}");
	host = th_host_new(provider, &quick);
	th_must_link(host, provider, "ana", NULL, NULL);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_UNSUPPORTED, NULL);
	expect_events(host, "UNLINKED user=ana", 1);
	expect_events(host, "REVOKED user=ana", 0);
	th_advance(host, provider, HOURS(25)); /* other processes have seen it by then */
	th_wait_until(store_is_empty, host, 30000, "the row's end");
	expect_revocations(provider, 0);
	th_check(th_count(provider, "other", NULL) == 0, "something was sent elsewhere");
	th_check(th_grant_alive(provider, -1), "nobody was to end this grant");
	th_host_free(&host);
}

static void our_own_wrong_secret_keeps_the_tokens_until_it_is_mended(void **state)
{
	struct th_config wrong = quick;
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_error err = { 0 };

	th_must_link(host, provider, "ana", NULL, NULL);
	wrong.client_secret = "canary-wrong-secret";
	rewrite_config(host, provider, &wrong);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL); /* 401 invalid_client */
	th_script(provider, "revoke", NULL, 1, "{'status':401,'json':{'error':'unauthorized_client'}}");
	th_advance(host, provider, PAUSE);
	th_wait_count(provider, "revoke", NULL, 2);
	th_check(th_grant_alive(provider, -1), "a refused client revoked the grant");
	rewrite_config(host, provider, &quick);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 4);
	th_check(th_lines_contain(host->logs, "invalid_client"), "the log does not tell the cause");
	th_check(th_lines_contain(host->logs, "unauthorized_client"), "the log does not tell the second cause");
	th_check(!th_lines_contain(host->logs, "canary-wrong-secret"), "the log tells the secret");
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void an_unreachable_provider_delays_the_revocation_but_not_the_unlinking(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_must_link(host, provider, "ben", NULL, NULL);
	th_provider_down(provider, true);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	th_host_restart(host); /* now not even the metadata is known */
	unlink_with(host, "ben", ACCTLINK_REVOCATION_PENDING, NULL);
	expect_revocations(provider, 0);
	th_provider_down(provider, false);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	th_wait_event(host, "REVOKED user=ben", 1);
	expect_revocations(provider, 4);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void a_provider_that_left_the_config_is_asked_when_it_comes_back(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	char *text = th_read_file(host->config_path);
	char *other = th_printf("%s", text);

	th_must_link(host, provider, "ana", NULL, NULL);
	memcpy(strstr(other, "\ttest = {"), "\tgone", 5);
	th_write_file(host->config_path, 0600, other);
	th_host_restart(host);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	expect_revocations(provider, 0);
	th_write_file(host->config_path, 0600, text);
	th_host_restart(host);
	th_check(not_linked(host, "ana", NULL), "the link is back");
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 2);
	expect_no_grant_alive(provider);
	th_host_free(&host);
	free(text);
	free(other);
}

/* ---- the end of patience ----------------------------------------------------------------- */

static void after_three_days_the_revocation_is_given_up_with_an_event(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	char link_id[40];

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, -1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, link_id);
	for (int day = 1; day <= 3; day++) {
		th_advance(host, provider, HOURS(23) + MINUTES(50));
		th_wait_count(provider, "revoke", NULL, 1 + day);
	}
	expect_events(host, "REVOCATION_GIVEN_UP", 0);
	th_advance(host, provider, MINUTES(31));
	th_wait_event(host, "REVOCATION_GIVEN_UP user=ana", 1);
	expect_revocations(provider, 4);
	th_check(th_lines_contain(host->logs, link_id), "the log does not name the link");
	th_advance(host, provider, HOURS(25)); /* other processes have seen it by then */
	th_wait_until(store_is_empty, host, 30000, "the row's end");
	expect_events(host, "REVOCATION_GIVEN_UP", 1);
	expect_events(host, "REVOKED user=ana", 0);
	expect_revocations(provider, 4);
	th_host_free(&host);
}

static void how_long_it_is_tried_can_be_configured(void **state)
{
	const struct th_config config = { .lines = "poll_interval = 0.05; revocation_lifetime = 600;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, -1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	th_advance(host, provider, MINUTES(10) - 1000);
	th_wait_count(provider, "revoke", NULL, 2);
	expect_events(host, "REVOCATION_GIVEN_UP", 0);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOCATION_GIVEN_UP user=ana", 1);
	expect_revocations(provider, 2);
	th_host_free(&host);
}

/* ---- again and again ------------------------------------------------------------------------ */

static void unlinking_twice_finds_no_link_the_second_time(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_error err = { 0 };

	expect_status(th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	expect_status(th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	expect_revocations(provider, 1);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_status(th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	expect_revocations(provider, 3);
	expect_events(host, "UNLINKED user=ana", 1);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static acctlink_status unlink_exactly(struct th_host *host, const char *link_id, acctlink_error *err)
{
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;

	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.link_id = th_str(link_id);
	return host->api.unlink(host->handle, &args, NULL, err);
}

static void a_new_link_has_a_new_id_and_the_old_ones_revocation_goes_on(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_callback_result again;
	acctlink_error err = { 0 };
	char link_id[40];
	char *bearer;

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, link_id);
	th_must_link(host, provider, "ana", NULL, &again);
	th_check(strcmp(link_id, again.link_id) != 0, "the id was used again");
	th_check(again.epoch == 1 && again.generation == 1, "the new link begins at epoch %llu, generation %llu",
		(unsigned long long)again.epoch, (unsigned long long)again.generation);
	th_check((again.flags & ACCTLINK_CALLBACK_RENEWED) == 0, "it counts as renewed");
	th_check(listed(host, "ana") == 1, "one link is to be listed");
	expect_status(unlink_exactly(host, link_id, &err), ACCTLINK_NOT_LINKED, &err); /* never the later one */
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	th_check(!th_grant_alive(provider, -2) && th_grant_alive(provider, -1), "the wrong grant was revoked");
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	th_check(th_userinfo(provider, bearer) == 200, "the new link's bearer is dead");
	expect_status(unlink_exactly(host, again.link_id, &err), ACCTLINK_OK, &err);
	expect_events(host, "REVOKED user=ana", 2);
	expect_no_grant_alive(provider);
	th_host_free(&host);
	free(bearer);
}

static void many_links_of_one_user_may_wait_for_their_revocation_at_once(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);

	th_provider_down(provider, false);
	for (int i = 0; i < 5; i++) {
		th_must_link(host, provider, "ana", NULL, NULL);
		th_script(provider, "revoke", NULL, 1, "{'status':503}");
		unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	}
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 5);
	expect_revocations(provider, 5 + 10);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void a_link_that_needs_a_new_consent_can_be_unlinked(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char *refused;
	char *bearer = NULL;

	th_must_link(host, provider, "ana", NULL, NULL);
	refused = th_grant_current(provider, -1);
	th_control(provider, "{'kill_grant':'all'}");
	th_advance(host, provider, HOURS(2));
	expect_status(th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_status(th_inspect(host, "ana", NULL, &seen, &err), ACCTLINK_OK, &err);
	th_check(seen.state == ACCTLINK_STATE_RELINK_REQUIRED && seen.reason == ACCTLINK_REASON_REVOKED,
		"state %d, reason %d", (int)seen.state, (int)seen.reason);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_CONFIRMED, NULL);
	expect_revocations(provider, 2); /* the refusal may have been wrong: it is revoked all the same */
	expect_revoked(provider, 1, "refresh_token", refused);
	expect_no_grant_alive(provider);
	th_host_free(&host);
	free(refused);
}

static void a_link_without_a_refresh_token_has_only_its_access_token_revoked(void **state)
{
	struct th_config config = quick;
	struct th_provider *provider = *state;
	struct th_host *host;

	config.provider_lines = "scope = 'openid';";
	host = th_host_new(provider, &config);
	th_must_link(host, provider, "ana", NULL, NULL);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_CONFIRMED, NULL);
	expect_revocations(provider, 1);
	expect_revoked(provider, 0, "access_token", NULL);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

static void without_any_token_there_is_nothing_to_revoke(void **state)
{
	struct th_config config = quick;
	struct th_provider *provider = *state;
	struct th_host *host;

	th_control(provider, "{'set':{'access_token':false}}");
	config.provider_lines = "scope = 'openid'; bearer = 'id_token';";
	host = th_host_new(provider, &config);
	th_must_link(host, provider, "ana", NULL, NULL);
	unlink_with(host, "ana", ACCTLINK_REVOCATION_NOTHING, NULL);
	expect_revocations(provider, 0);
	expect_events(host, "UNLINKED user=ana", 1);
	expect_events(host, "REVOKED user=ana", 0);
	th_host_free(&host);
}

/* ---- while the provider thinks ----------------------------------------------------------------- */

static void a_caller_who_does_not_wait_leaves_the_revocation_going(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_must_link(host, provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_script(provider, "revoke", NULL, 1, "{'hold_before':'thinking'}");
	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.deadline_ms = 300;
	expect_status(host->api.unlink(host->handle, &args, NULL, &err), ACCTLINK_TIMED_OUT, &err);
	th_wait_held(provider, "thinking", 1);
	expect_status(th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_NOT_LINKED, &err);
	th_check(not_linked(host, "ana", NULL), "the link is still shown");
	expect_events(host, "UNLINKED user=ana", 1);
	expect_events(host, "REVOKED user=ana", 0);
	th_release(provider, "thinking");
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 2);
	expect_no_grant_alive(provider);
	th_host_free(&host);
}

/* A call that gives up soon: its work goes on. */
static acctlink_status bearer_within(struct th_host *host, const char *user, uint32_t deadline_ms)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	char buf[4096];

	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	args.deadline_ms = deadline_ms;
	return host->api.get_bearer(host->handle, &args, buf, sizeof(buf), NULL, NULL);
}

static void a_set_that_arrives_after_the_unlinking_is_revoked_as_well(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;
	acctlink_error err = { 0 };
	char *spent;
	char *newest;

	th_must_link(host, provider, "ana", NULL, NULL);
	spent = th_grant_current(provider, -1);
	th_advance(host, provider, HOURS(2));
	th_script(provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_check(bearer_within(host, "ana", 200) == ACCTLINK_TIMED_OUT, "the call did not give up");
	th_wait_held(provider, "refresh", 1);
	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.deadline_ms = 300;
	expect_status(host->api.unlink(host->handle, &args, NULL, &err), ACCTLINK_TIMED_OUT, &err);
	th_check(not_linked(host, "ana", NULL), "the link is still shown");
	expect_revocations(provider, 0); /* a newer refresh token may be on its way */
	newest = th_grant_current(provider, -1);
	th_release(provider, "refresh");
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 4);
	expect_revoked(provider, 3, "refresh_token", newest);
	expect_revoked(provider, 2, "access_token", NULL);
	expect_revoked(provider, 1, "refresh_token", spent);
	expect_revoked(provider, 0, "access_token", NULL);
	expect_events(host, "REFRESHED", 0);
	expect_events(host, "UNLINKED user=ana", 1);
	th_check(not_linked(host, "ana", NULL), "the link is back");
	expect_no_grant_alive(provider);
	th_host_free(&host);
	free(spent);
	free(newest);
}

static bool both_are_revoked(void *ctx)
{
	struct th_host **hosts = ctx;

	return th_lines_count(hosts[0]->events, "REVOKED user=") + th_lines_count(hosts[1]->events, "REVOKED user=")
		>= 2;
}

static void the_queue_of_one_process_does_not_repeat_what_another_is_sending(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &quick);
	struct th_host *other = th_host_open(host->config_path, host->clock);
	struct th_host *hosts[] = { host, other };
	struct marker marker;

	th_must_link(host, provider, "ana", NULL, NULL);
	th_script(provider, "revoke", NULL, 1, "{'status':503}");
	unlink_with(host, "ana", ACCTLINK_REVOCATION_PENDING, NULL);
	set_marker(&marker, host, provider);
	th_check(not_linked(other, "ana", NULL), "the other handle still shows the link"); /* now it works as well */
	th_control(provider, "{'reset_ledger':true}");
	th_advance(host, provider, PAUSE);
	th_wait_until(both_are_revoked, hosts, 30000, "both revocations");
	expect_revocations(provider, 4);
	expect_no_grant_alive(provider);
	th_host_free(&other);
	th_host_free(&host);
	expect_revocations(provider, 4);
}

/* ---- a crash in the middle ---------------------------------------------------------------------- */

struct crash {
	struct th_provider *provider;
	char *config_path;
	struct th_clock *clock;
};

static int link_and_unlink(void *ctx)
{
	struct crash *crash = ctx;
	struct th_host *host = th_host_open(crash->config_path, crash->clock);

	th_must_link(host, crash->provider, "ana", NULL, NULL);
	(void)th_unlink(host, "ana", NULL, NULL, NULL); /* it is killed in here */
	return 1;
}

/* Killed while the provider holds the revocation, before or after it took effect. */
static void crash_while(struct th_provider *provider, const char *held)
{
	char *dir = th_temp_dir();
	struct crash crash = { provider, th_config_write(dir, provider, &quick), th_clock_new() };
	struct th_host *host;
	pid_t pid;
	int status;

	th_control(provider, "{'reset_ledger':true}");
	th_script(provider, "revoke", NULL, 1, "{'%s':'crash'}", held);
	pid = th_fork(link_and_unlink, &crash);
	th_wait_held(provider, "crash", 1);
	th_check(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid, "kill");
	th_release(provider, "crash");
	host = th_host_open(crash.config_path, crash.clock);
	th_check(not_linked(host, "ana", NULL), "%s: the link is back after the crash", held);
	th_advance(host, provider, PAUSE);
	th_wait_event(host, "REVOKED user=ana", 1);
	expect_revocations(provider, 3); /* the one that was cut short, and both tokens */
	expect_no_grant_alive(provider);
	th_host_free(&host);
	th_clock_free(&crash.clock);
	free(crash.config_path);
	free(dir);
}

static void a_crash_between_revocation_and_its_note_is_made_up_for(void **state)
{
	crash_while(*state, "hold");
}

static void a_crash_before_the_revocation_took_effect_is_made_up_for(void **state)
{
	crash_while(*state, "hold_before");
}

int main(void)
{
	const struct CMUnitTest tests[] = { /* Those that fork come first: no thread of ours is running yet. */
		unlink_test(a_crash_between_revocation_and_its_note_is_made_up_for),
		unlink_test(a_crash_before_the_revocation_took_effect_is_made_up_for),
		unlink_test(the_refresh_token_is_revoked_first_and_then_the_access_token),
		unlink_test(the_newest_refresh_token_is_the_one_that_is_revoked),
		unlink_test(a_provider_that_does_not_know_the_token_has_confirmed_as_well),
		unlink_test(a_revocation_that_was_turned_away_is_tried_again_when_it_is_due),
		unlink_test(what_is_left_to_revoke_survives_a_restart),
		unlink_test(whatever_does_not_settle_it_is_tried_again),
		unlink_test(the_provider_may_say_when_to_come_back),
		unlink_test(a_definite_refusal_is_told_and_not_repeated),
		unlink_test(where_only_one_kind_of_token_is_refused_the_other_is_revoked_all_the_same),
		unlink_test(a_provider_without_the_endpoint_is_asked_nothing),
		unlink_test(our_own_wrong_secret_keeps_the_tokens_until_it_is_mended),
		unlink_test(an_unreachable_provider_delays_the_revocation_but_not_the_unlinking),
		unlink_test(a_provider_that_left_the_config_is_asked_when_it_comes_back),
		unlink_test(after_three_days_the_revocation_is_given_up_with_an_event),
		unlink_test(how_long_it_is_tried_can_be_configured),
		unlink_test(unlinking_twice_finds_no_link_the_second_time),
		unlink_test(a_new_link_has_a_new_id_and_the_old_ones_revocation_goes_on),
		unlink_test(many_links_of_one_user_may_wait_for_their_revocation_at_once),
		unlink_test(a_link_that_needs_a_new_consent_can_be_unlinked),
		unlink_test(a_link_without_a_refresh_token_has_only_its_access_token_revoked),
		unlink_test(without_any_token_there_is_nothing_to_revoke),
		unlink_test(a_caller_who_does_not_wait_leaves_the_revocation_going),
		unlink_test(a_set_that_arrives_after_the_unlinking_is_revoked_as_well),
		unlink_test(the_queue_of_one_process_does_not_repeat_what_another_is_sending)
	};

	return cmocka_run_group_tests_name("unlink", tests, start_provider, stop_provider);
}
