/* SPDX-License-Identifier: MIT
 * Callbacks as hosts get them: repeated, late, out of order, forged, denied,
 * malformed, posted from another site. What is refused sends nothing and uses
 * nothing up: the true callback works afterwards.
 */
#include "steps.h"

#include <ctype.h>
#include <sys/mman.h>

/* ---- once more ----------------------------------------------------------- */

static void same_link(const acctlink_callback_result *again, const acctlink_callback_result *first)
{
	expect_text(again->link_id, first->link_id);
	expect_text(again->provider, "test");
	expect_text(again->institution, first->institution);
	assert_int_equal(again->epoch, first->epoch);
	assert_int_equal(again->generation, first->generation);
	assert_int_equal(again->flags, first->flags | ACCTLINK_CALLBACK_REPEATED);
}

static void a_repeated_callback_gets_the_first_ones_result_without_a_second_exchange(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_callback_result first;
	acctlink_callback_result again;
	acctlink_error err = { 0 };

	expect_status(return_with(consent, host, "ana", &first, &err), ACCTLINK_OK, &err);
	assert_int_equal(first.flags, 0);
	assert_int_equal(strlen(first.link_id), 32);
	assert_int_equal(first.epoch, 1);
	assert_int_equal(first.generation, 1);
	expect_status(return_with(consent, host, "ana", &again, &err), ACCTLINK_OK, &err);
	same_link(&again, &first);
	th_advance(host, provider, MINUTES(10) - 5000);
	expect_status(return_with(consent, host, "ana", &again, &err), ACCTLINK_OK, &err);
	same_link(&again, &first);
	expect_exchanges(provider, 1);
	expect_events(host, "LINKED user=ana provider=test", 1);
	assert_int_equal(th_lines_count(host->events, NULL), 1);
	assert_true(th_grant_alive(provider, -1));
	free(th_must_bearer(host, "ana", NULL, NULL));
	consent_free(&consent);
	th_host_free(&host);
}

static void a_repeated_callback_gets_the_first_ones_result_after_a_restart(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_callback_result first;
	acctlink_callback_result again;
	acctlink_error err = { 0 };

	expect_status(return_with(consent, host, "ana", &first, &err), ACCTLINK_OK, &err);
	th_host_restart(host);
	th_provider_down(provider, true); /* the answer needs no provider */
	expect_status(return_with(consent, host, "ana", &again, &err), ACCTLINK_OK, &err);
	th_provider_down(provider, false);
	same_link(&again, &first);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_failed_exchange_is_not_repeated_by_a_repeated_callback(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };

	th_script(provider, "token", NULL, 1, "{'status':503,'body':'busy'}");
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	assert_int_equal(err.http_status, 503);
	expect_part(err.message, "begin a new consent");
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	expect_part(err.message, "begin a new one");
	th_host_restart(host);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	expect_exchanges(provider, 1);
	expect_events(host, "FLOW_FAILED user=ana", 1);
	assert_true(not_linked(host, "ana", NULL));
	th_must_link(host, provider, "ana", NULL, NULL);
	expect_exchanges(provider, 2);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_repeated_callback_changes_nothing_of_a_link_that_moved_on(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_callback_result first;
	acctlink_callback_result again;
	acctlink_error err = { 0 };

	expect_status(return_with(consent, host, "ana", &first, &err), ACCTLINK_OK, &err);
	th_advance(host, provider, MINUTES(9));
	expect_status(th_report(host, "ana", NULL, 1, &err), ACCTLINK_OK, &err);
	free(th_must_bearer(host, "ana", NULL, &info));
	assert_int_equal(info.generation, 2);
	expect_status(return_with(consent, host, "ana", &again, &err), ACCTLINK_OK, &err);
	same_link(&again, &first);
	free(th_must_bearer(host, "ana", NULL, &info));
	assert_int_equal(info.generation, 2);
	expect_status(th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", &again, &err), ACCTLINK_OK, &err);
	same_link(&again, &first);
	assert_true(not_linked(host, "ana", NULL));
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_finished_consents_result_is_told_to_nobody_else(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_callback_result result;
	acctlink_error err = { 0 };

	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "bea", &result, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_status(th_callback(host, "ana", consent->params, NULL, &result, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_text(result.link_id, "");
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- several, slow, late -------------------------------------------------- */

static const char connector[] = "institution_parameter = 'connector';";

/* Two for one bank, one for another, finished in the given order. */
static void finish_in_order(struct th_host *host, struct th_provider *provider, const unsigned order[3])
{
	static const char *const banks[3] = { "mikomo", "mikomo", "other" };
	char *user = th_printf("user-%u%u%u", order[0], order[1], order[2]);
	acctlink_callback_result result[3];
	struct consent *consents[3];
	acctlink_error err = { 0 };
	unsigned first;
	unsigned i;

	for (i = 0; i < 3; i++)
		consents[i] = consent_new(host, provider, user, banks[i]);
	for (i = 0; i < 3; i++)
		expect_status(return_with(consents[order[i]], host, user, &result[order[i]], &err), ACCTLINK_OK, &err);
	first = order[0] < 2 ? order[0] : order[1] < 2 ? order[1] : order[2];
	assert_int_equal(result[first].flags, 0);
	assert_int_equal(result[first].generation, 1);
	assert_int_equal(result[1 - first].flags, ACCTLINK_CALLBACK_RENEWED);
	assert_int_equal(result[1 - first].epoch, 2);
	assert_int_equal(result[1 - first].generation, 2);
	expect_text(result[1 - first].link_id, result[first].link_id);
	assert_int_equal(result[2].flags, 0);
	expect_text(result[2].institution, "other");
	assert_true(strcmp(result[2].link_id, result[0].link_id) != 0);
	for (i = 0; i < 3; i++)
		consent_free(&consents[i]);
	free(user);
}

static void three_consents_of_one_user_end_well_in_every_order(void **state)
{
	static const unsigned orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 },
		{ 2, 1, 0 } };
	const struct th_config config = { .provider_lines = connector };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	size_t i;

	for (i = 0; i < 6; i++)
		finish_in_order(host, provider, orders[i]);
	expect_exchanges(provider, 18);
	expect_events(host, "LINKED", 12);
	expect_events(host, "RENEWED", 6);
	assert_int_equal(stored_number(host, "SELECT count(*) FROM link"), 12);
	th_host_free(&host);
}

/* One flow that processes hand on, in memory that they share. */
struct relay {
	char config_path[512];
	struct th_clock *clock;
	struct th_flow flow;
	char params[4096];
	acctlink_callback_result result;
};

static int begin_in_child(void *ctx)
{
	struct relay *relay = ctx;
	struct th_host *host = th_host_open(relay->config_path, relay->clock);
	acctlink_error err = { 0 };

	expect_status(th_begin(host, "ana", NULL, &relay->flow, &err), ACCTLINK_OK, &err);
	th_host_free(&host);
	return 0;
}

static int finish_in_child(void *ctx)
{
	struct relay *relay = ctx;
	struct th_host *host = th_host_open(relay->config_path, relay->clock);
	acctlink_error err = { 0 };

	expect_status(
		th_callback(host, "ana", relay->params, relay->flow.cookie, &relay->result, &err), ACCTLINK_OK, &err);
	expect_events(host, "LINKED user=ana", 1);
	th_host_free(&host);
	return 0;
}

static void a_consent_begun_in_one_process_ends_in_another_after_fourteen_minutes(void **state)
{
	struct th_provider *provider = *state;
	struct relay *relay = mmap(NULL, sizeof(*relay), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, NULL);
	struct th_host *host;
	char *params;

	assert_true(relay != MAP_FAILED);
	snprintf(relay->config_path, sizeof(relay->config_path), "%s", path);
	relay->clock = th_clock_new();
	th_join(th_fork(begin_in_child, relay), 30000);
	th_clock_advance(relay->clock, MINUTES(14));
	th_provider_advance(provider, MINUTES(14));
	params = th_consent(provider, relay->flow.url);
	snprintf(relay->params, sizeof(relay->params), "%s", params);
	th_join(th_fork(finish_in_child, relay), 30000);
	assert_int_equal(relay->result.flags, 0);
	expect_exchanges(provider, 1);
	host = th_host_open(path, relay->clock);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	th_clock_free(&relay->clock);
	munmap(relay, sizeof(*relay));
	free(params);
	free(path);
	free(dir);
}

static void a_late_callback_is_told_so_and_sends_nothing(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *late = calloc(1, sizeof(*late));
	struct consent *timely = calloc(1, sizeof(*timely));
	acctlink_error err = { 0 };

	assert_true(late != NULL && timely != NULL);
	begin_consent(late, host, "ana", NULL);
	th_advance(host, provider, MINUTES(5));
	begin_consent(timely, host, "ana", NULL);
	th_advance(host, provider, MINUTES(10));
	give_consent(late, provider);
	give_consent(timely, provider);
	expect_status(return_with(late, host, "bea", NULL, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_status(return_with(late, host, "ana", NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	expect_part(err.message, "too late");
	th_host_restart(host);
	expect_status(return_with(late, host, "ana", NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	expect_exchanges(provider, 0);
	expect_status(return_with(timely, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_status(return_with(late, host, "ana", NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	expect_exchanges(provider, 1);
	consent_free(&late);
	consent_free(&timely);
	th_host_free(&host);
}

static void the_last_second_of_a_consent_counts(void **state)
{
	const struct th_config config = { .lines = "flow_lifetime = 60;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	struct consent *consent = calloc(1, sizeof(*consent));
	const int64_t before = th_clock_wall_ms(host->clock);
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_error err = { 0 };

	assert_non_null(consent);
	args.user = th_str("ana");
	args.provider = th_str("test");
	result.url = (acctlink_out){ consent->flow.url, sizeof(consent->flow.url), 0 };
	result.set_cookie = (acctlink_out){ consent->flow.set_cookie, sizeof(consent->flow.set_cookie), 0 };
	expect_status(host->api.begin(host->handle, &args, &result, &err), ACCTLINK_OK, &err);
	assert_in_range(result.expires_at_ms, before + 60000, th_clock_wall_ms(host->clock) + 60000);
	expect_part(consent->flow.set_cookie, "; Max-Age=60;");
	snprintf(consent->flow.cookie, sizeof(consent->flow.cookie), "%.*s",
		(int)strcspn(consent->flow.set_cookie, ";"), consent->flow.set_cookie);
	give_consent(consent, provider);
	th_advance(host, provider, result.expires_at_ms - th_clock_wall_ms(host->clock) - 1000);
	th_provider_down(provider, true); /* not late, only not sent */
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_PROVIDER_DOWN, &err);
	th_provider_down(provider, false);
	th_advance(host, provider, result.expires_at_ms - th_clock_wall_ms(host->clock));
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	expect_exchanges(provider, 0);
	consent_free(&consent);
	th_host_free(&host);
}

static bool no_flows(void *ctx)
{
	return stored_flows(ctx) == 0;
}

static void old_flows_are_swept_from_the_store(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *finished = consent_new(host, provider, "ana", NULL);
	struct consent *abandoned = consent_new(host, provider, "bea", NULL);
	acctlink_error err = { 0 };

	expect_status(return_with(finished, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	assert_int_equal(stored_flows(host), 2);
	th_advance(host, provider, MINUTES(11));
	th_host_restart(host);
	expect_status(th_begin(host, "cia", NULL, &finished->flow, &err), ACCTLINK_OK, &err);
	assert_int_equal(stored_flows(host), 2); /* a result is kept for ten minutes */
	th_advance(host, provider, HOURS(24));
	expect_status(return_with(abandoned, host, "bea", NULL, &err), ACCTLINK_FLOW_EXPIRED, &err);
	th_advance(host, provider, HOURS(2));
	th_host_restart(host);
	expect_status(return_with(abandoned, host, "nobody", NULL, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	th_wait_until(no_flows, host, 30000, "the sweep of old flows"); /* by upkeep, without a begin */
	expect_status(return_with(abandoned, host, "bea", NULL, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_exchanges(provider, 1);
	consent_free(&finished);
	consent_free(&abandoned);
	th_host_free(&host);
}

static void one_user_can_not_pile_up_flows(void **state)
{
	const unsigned count = th_full() ? 10000 : 200;
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *other = consent_new(host, provider, "bea", NULL);
	struct consent *first = consent_new(host, provider, "ana", NULL);
	struct consent *kept[2] = { NULL, NULL };
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	unsigned i;

	assert_non_null(flow);
	for (i = 0; i < count; i++) {
		if (i == count - 15) /* two of one millisecond have no order */
			kept[0] = consent_new(host, provider, "ana", NULL);
		else if (i == count - 1)
			kept[1] = consent_new(host, provider, "ana", NULL);
		else
			expect_status(th_begin(host, "ana", NULL, flow, &err), ACCTLINK_OK, &err);
	}
	assert_int_equal(stored_number(host, "SELECT count(*) FROM flow WHERE user = 'ana'"), 20);
	assert_int_equal(stored_flows(host), 21);
	expect_status(return_with(first, host, "ana", NULL, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_exchanges(provider, 0);
	expect_status(return_with(kept[0], host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_status(return_with(kept[1], host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_status(return_with(other, host, "bea", NULL, &err), ACCTLINK_OK, &err);
	consent_free(&other);
	consent_free(&first);
	consent_free(&kept[0]);
	consent_free(&kept[1]);
	free(flow);
	th_host_free(&host);
}

static void a_flow_of_a_provider_that_is_gone_waits_for_its_return(void **state)
{
	const struct th_config other = {
		.more_providers = "other = { issuer = 'https://login.bank.example'; "
				  "client_id = 'x'; client_secret = 'y'; redirect_uri = 'https://app.example/cb'; };"
	};
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	char *text = th_read_file(host->config_path);
	char *gone = th_printf("%s", text);
	acctlink_error err = { 0 };

	memcpy(strstr(gone, "\ttest = {"), "\tgone = {", 9);
	th_write_file(host->config_path, 0600, gone);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_UNKNOWN_PROVIDER, &err);
	expect_exchanges(provider, 0);
	rewrite_config(host, provider, &other);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	free(gone);
	free(text);
	th_host_free(&host);
}

/* ---- somebody else's ---------------------------------------------------------- */

static void expect_foreign(struct th_host *host, const char *user, const char *params, const char *cookie)
{
	acctlink_callback_result result;
	acctlink_error err = { 0 };

	expect_status(th_callback(host, user, params, cookie, &result, &err), ACCTLINK_FOREIGN_CALLBACK, &err);
	expect_text(err.message, "no consent of this user and browser is waiting for this callback");
	expect_text(result.link_id, "");
}

/* params with its state changed in the character `at`. */
static char *with_other_state(const char *params, size_t at)
{
	char *copy = th_printf("%s", params);
	char *digit = strstr(copy, "state=") + strlen("state=") + at;

	*digit = *digit == 'A' ? 'B' : 'A';
	return copy;
}

static void try_other_states(struct th_host *host, const struct consent *true_one)
{
	const size_t len = strlen(true_one->flow.state);
	const size_t at[] = { 0, 1, len / 2, len - 1 };
	char *short_state;
	size_t i;

	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		char *params = with_other_state(true_one->params, at[i]);

		expect_foreign(host, "ana", params, true_one->flow.cookie);
		free(params);
	}
	short_state = th_printf("code=x&state=%.*s", (int)len - 1, true_one->flow.state);
	expect_foreign(host, "ana", short_state, true_one->flow.cookie);
	expect_foreign(host, "ana", "code=x&state=never-existed", true_one->flow.cookie);
	free(short_state);
}

/* Cookies that are not the flow's own value. */
static void try_other_cookies(struct th_host *host, const struct consent *true_one, const struct consent *old)
{
	const char *name_end = strchr(true_one->flow.cookie, '=') + 1;
	const int name_len = (int)(name_end - true_one->flow.cookie);
	const char *true_value = name_end;
	const char *old_value = strchr(old->flow.cookie, '=') + 1;
	char *cookies[] = {
		th_printf("%.*s", name_len, true_one->flow.cookie), /* an empty value */
		th_printf("%.*s%s", name_len, true_one->flow.cookie, old_value),
		th_printf("%.*s%.*s", name_len, true_one->flow.cookie, (int)strlen(true_value) - 1, true_value),
		th_printf("%.*s%sA", name_len, true_one->flow.cookie, true_value),
		th_printf("%.*s", name_len - 1, true_one->flow.cookie), /* no '=' */
		th_printf("x%s", true_one->flow.cookie),
		th_printf("other=%s", true_value),
		th_printf("%s", old->flow.cookie),
		th_printf("; ;;  ; =; ="),
		th_printf("%s", ""),
	};
	size_t i;

	for (i = 0; i < sizeof(cookies) / sizeof(cookies[0]); i++) {
		expect_foreign(host, "ana", true_one->params, cookies[i]);
		free(cookies[i]);
	}
	expect_foreign(host, "ana", true_one->params, NULL);
}

static void forged_and_foreign_callbacks_send_nothing_and_use_nothing_up(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *old = consent_new(host, provider, "ana", NULL); /* begun and left */
	struct consent *bea = consent_new(host, provider, "bea", NULL);
	struct consent *ana = consent_new(host, provider, "ana", NULL);
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	char *header;

	try_other_states(host, ana);
	try_other_cookies(host, ana, old);
	expect_foreign(host, "ana", ana->params, bea->flow.cookie);
	expect_foreign(host, "bea", ana->params, ana->flow.cookie); /* her browser, another sign-in */
	expect_foreign(host, "bea", ana->params, bea->flow.cookie);
	expect_foreign(host, "ana", bea->params, bea->flow.cookie);
	expect_foreign(host, "Ana", ana->params, ana->flow.cookie);
	expect_foreign(host, "an", ana->params, ana->flow.cookie);
	expect_exchanges(provider, 0);
	assert_int_equal(th_lines_count(host->events, NULL), 0);

	header = th_printf("theme=dark; %s;%s ; lang=en", old->flow.cookie, ana->flow.cookie);
	expect_status(th_callback(host, "ana", ana->params, header, &result, &err), ACCTLINK_OK, &err);
	assert_int_equal(result.flags, 0);
	expect_status(return_with(bea, host, "bea", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 2);
	free(header);
	consent_free(&ana);
	consent_free(&bea);
	consent_free(&old);
	th_host_free(&host);
}

/* An attacker's account must not end in a victim's profile, nor the reverse. */
static void an_attackers_consent_is_not_finished_by_a_victims_browser(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *attacker = consent_new(host, provider, "mallory", NULL);
	struct consent *victim = consent_new(host, provider, "ana", NULL);
	char *code = th_param(attacker->params, "code");
	char *injected = th_printf("code=%s&state=%s", code, victim->flow.state);
	acctlink_error err = { 0 };

	expect_foreign(host, "ana", attacker->params, victim->flow.cookie);
	expect_foreign(host, "ana", attacker->params, NULL);
	expect_exchanges(provider, 0);
	/* The right flow with an injected code: PKCE stops it at the provider. */
	expect_status(th_callback(host, "ana", injected, victim->flow.cookie, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	assert_true(not_linked(host, "ana", NULL));
	expect_exchanges(provider, 1);
	free(injected);
	free(code);
	consent_free(&attacker);
	consent_free(&victim);
	th_host_free(&host);
}

/* Without PKCE the nonce must do it. */
static void an_injected_code_is_stopped_by_the_nonce_where_there_is_no_pkce(void **state)
{
	const struct th_config config = { .provider_lines = "pkce = false;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	struct consent *attacker = consent_new(host, provider, "mallory", NULL);
	struct consent *victim = consent_new(host, provider, "ana", NULL);
	char *code = th_param(attacker->params, "code");
	char *injected = th_printf("code=%s&state=%s", code, victim->flow.state);
	acctlink_error err = { 0 };

	assert_null(strstr(victim->flow.url, "code_challenge"));
	expect_status(th_callback(host, "ana", injected, victim->flow.cookie, NULL, &err), ACCTLINK_BAD_PROVIDER, &err);
	expect_part(err.message, "nonce");
	assert_true(not_linked(host, "ana", NULL));
	free(injected);
	free(code);
	consent_free(&attacker);
	consent_free(&victim);
	th_host_free(&host);
}

static void a_strangers_denial_does_not_end_a_consent(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	char *denial = th_printf("error=access_denied&state=%s", consent->flow.state);
	acctlink_error err = { 0 };

	expect_foreign(host, "ana", denial, NULL);
	expect_foreign(host, "bea", denial, consent->flow.cookie);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	free(denial);
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- the user or the provider says no ------------------------------------------- */

struct denial {
	const char *error;
	acctlink_status status;
	const char *event;
};

/* RFC 6749, 4.1.2.1; OpenID Connect Core, 3.1.2.6. */
static const struct denial denials[] = {
	{ "access_denied", ACCTLINK_DENIED, "DENIED" },
	{ "consent_required", ACCTLINK_DENIED, "DENIED" },
	{ "login_required", ACCTLINK_DENIED, "DENIED" },
	{ "interaction_required", ACCTLINK_DENIED, "DENIED" },
	{ "account_selection_required", ACCTLINK_DENIED, "DENIED" },
	{ "server_error", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "temporarily_unavailable", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "invalid_request", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "invalid_scope", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "unauthorized_client", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "unsupported_response_type", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
	{ "something_new", ACCTLINK_FLOW_FAILED, "FLOW_FAILED" },
};

static void expect_denial(
	struct th_host *host, struct th_provider *provider, const struct denial *denial, const char *user)
{
	struct consent *consent = calloc(1, sizeof(*consent));
	char *event = th_printf("%s user=%s provider=test institution= link= state=0 reason=0 epoch=0 generation=0",
		denial->event, user);
	acctlink_error err = { 0 };
	char *code_too;

	assert_non_null(consent);
	begin_consent(consent, host, user, NULL);
	th_script(
		provider, "auth", NULL, 1, "{'error':'%s','error_description':'In words of the bank.'}", denial->error);
	give_consent(consent, provider);
	assert_null(strstr(consent->params, "code="));
	expect_status(return_with(consent, host, user, NULL, &err), denial->status, &err);
	expect_text(err.provider_code, denial->error);
	expect_part(err.message, "In words of the bank.");
	expect_status(return_with(consent, host, user, NULL, &err), denial->status, &err);
	expect_text(err.provider_code, denial->error);
	/* It ended: a code that comes after all is not sent. */
	code_too = th_printf("code=x&state=%s", consent->flow.state);
	expect_status(th_callback(host, user, code_too, consent->flow.cookie, NULL, &err), denial->status, &err);
	expect_events(host, event, 1);
	assert_true(not_linked(host, user, NULL));
	free(code_too);
	free(event);
	consent_free(&consent);
}

static void a_denial_is_an_outcome_of_its_own_and_ends_the_flow(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	const size_t count = sizeof(denials) / sizeof(denials[0]);
	size_t i;

	for (i = 0; i < count; i++) {
		char *user = th_printf("user-%zu", i);

		expect_denial(host, provider, &denials[i], user);
		free(user);
	}
	assert_int_equal(th_lines_count(host->events, NULL), count);
	expect_exchanges(provider, 0);
	assert_int_equal(stored_number(host, "SELECT count(*) FROM audit WHERE what = 'denied'"), 5);
	assert_int_equal(stored_number(host, "SELECT count(*) FROM audit WHERE what = 'flow_failed'"), count - 5);
	th_host_free(&host);
}

static void a_denial_survives_a_restart_and_a_provider_that_is_down(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_error err = { 0 };

	assert_non_null(consent);
	begin_consent(consent, host, "ana", NULL);
	th_script(provider, "auth", NULL, 1, "{'error':'access_denied'}");
	give_consent(consent, provider);
	th_provider_down(provider, true);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_DENIED, &err);
	th_host_restart(host);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_DENIED, &err);
	expect_text(err.provider_code, "access_denied");
	th_provider_down(provider, false);
	expect_events(host, "DENIED", 1);
	consent_free(&consent);
	th_host_free(&host);
}

/* Akoya's own words, form-encoded and with the raw characters that were seen. */
static void the_providers_description_is_decoded_and_bounded(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = calloc(1, sizeof(*consent));
	char *filler = calloc(1, 1901);
	acctlink_error err = { 0 };
	char *params;

	assert_true(consent != NULL && filler != NULL);
	begin_consent(consent, host, "ana", NULL);
	params = th_printf("error=invalid_scope&error_description=Missing+required+scope(s)+[\"openid\"].&state=%s",
		consent->flow.state);
	expect_status(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	expect_part(err.message, "invalid_scope: Missing required scope(s) [\"openid\"].");
	free(params);

	for (size_t i = 0; i < 1900; i++)
		filler[i] = i % 8 == 7 ? '+' : 'w';
	begin_consent(consent, host, "ana", NULL);
	params = th_printf("error=access_denied&error_description=%s%%0d%%0aX&state=%s", filler, consent->flow.state);
	expect_status(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err), ACCTLINK_DENIED, &err);
	assert_in_range(strlen(err.message), 50, 400);
	for (const char *at = err.message; *at != '\0'; at++)
		assert_true(isprint((unsigned char)*at));
	free(params);
	free(filler);
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- ambiguous and malformed ------------------------------------------------------- */

/* %C is the true code, %S the true state. */
static const char *const malformed[] = {
	"code=%C",
	"code=%C&state=",
	"state=%S",
	"code=&state=%S",
	"error=&state=%S",
	"error=access_denied",
	"error=access_denied&state=",
	"code=%C&error=access_denied&state=%S",
	"code=&error=access_denied&state=%S",
	"error=&code=%C&state=%S",
	"code=%C&code=%C&state=%S",
	"code=%C&state=%S&code=other",
	"code=%C&state=%S&state=%S",
	"state=other&code=%C&state=%S",
	"error=access_denied&error=access_denied&state=%S",
	"error=access_denied&error_description=a&error_description=b&state=%S",
	"code=%C&state=%S&iss=https%%3A%%2F%%2Fa.example&iss=https%%3A%%2F%%2Fb.example",
	"code=%C%%&state=%S",
	"code=%C%%4&state=%S",
	"code=%C%%zz&state=%S",
	"code=%C%%u0041&state=%S",
	"code=%C%%00&state=%S",
	"code=%C&state=%S%%",
	"code=%C&state=%S%%00",
	"code=%C%%0a&state=%S",
	"code=%C%%c3%%a4&state=%S",
	"error=access%%0adenied&state=%S",
	"code=%C&state=%S&iss=%%f",
	"&",
	"=",
	"&&=&&",
	"?code=%C&state=%S",
	"code%%3D%C&state=%S",
};

static char *fill_in(const char *pattern, const char *code, const char *state)
{
	char *out = calloc(1, strlen(pattern) + 2 * (strlen(code) + strlen(state)) + 64);
	char *to = out;

	assert_non_null(out);
	for (; *pattern != '\0'; pattern++) {
		if (pattern[0] == '%' && strchr("CS%", pattern[1]) != NULL) {
			pattern++;
			to = stpcpy(to, *pattern == 'C' ? code : *pattern == 'S' ? state : "%");
		} else {
			*to++ = *pattern;
		}
	}
	return out;
}

static void malformed_and_ambiguous_callbacks_are_refused_before_anything_is_sent(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	char *code = th_param(consent->params, "code");
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		char *params = fill_in(malformed[i], code, consent->flow.state);
		acctlink_status rc = th_callback(host, "ana", params, consent->flow.cookie, NULL, &err);

		th_check(rc == ACCTLINK_BAD_CALLBACK, "%s: %s", malformed[i], th_error_text(&err));
		expect_no_part(err.message, code);
		expect_no_part(err.message, consent->flow.state);
		free(params);
	}
	expect_status(th_callback(host, "ana", "", consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	expect_exchanges(provider, 0);
	assert_int_equal(th_lines_count(host->events, NULL), 0);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	free(code);
	consent_free(&consent);
	th_host_free(&host);
}

struct length {
	const char *before;
	size_t len;
	const char *after;
	acctlink_status status;
};

static const struct length lengths[] = {
	{ "state=%S&code=", 16384, "", ACCTLINK_FLOW_FAILED }, /* sent, and no code of the provider's */
	{ "state=%S&code=", 16385, "", ACCTLINK_BAD_CALLBACK },
	{ "code=%C&state=", 512, "", ACCTLINK_FOREIGN_CALLBACK }, { "code=%C&state=", 513, "", ACCTLINK_BAD_CALLBACK },
	{ "state=%S&error=", 129, "", ACCTLINK_BAD_CALLBACK },
	/* a text for people, too long or broken, must not hide what happened */
	{ "state=%S&error=access_denied&error_description=", 2049, "", ACCTLINK_DENIED },
	{ "state=%S&error=access_denied&error_description=%%4", 1, "", ACCTLINK_DENIED },
	{ "state=%S&code=%C&iss=", 2049, "", ACCTLINK_BAD_CALLBACK },
	{ "state=%S&x=", 65536, "&code=%C", ACCTLINK_BAD_CALLBACK },
	{ "state=%S&x=", 1000000, "&code=%C", ACCTLINK_BAD_CALLBACK },
	{ "state=%S&x=", 60000, "&code=%C", ACCTLINK_OK }, /* what is not ours may be long */
};

static void over_long_parameters_are_refused_within_stated_bounds(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_error err = { 0 };
	size_t i;

	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct consent *consent = consent_new(host, provider, "ana", NULL);
		char *filler = calloc(1, lengths[i].len + 1);
		char *code = th_param(consent->params, "code");
		char *pattern;
		char *params;
		acctlink_status rc;

		assert_non_null(filler);
		memset(filler, 'y', lengths[i].len);
		pattern = th_printf("%s%s%s", lengths[i].before, filler, lengths[i].after);
		params = fill_in(pattern, code, consent->flow.state);
		rc = th_callback(host, "ana", params, consent->flow.cookie, NULL, &err);
		th_check(rc == lengths[i].status, "%s with %zu bytes: %d %s", lengths[i].before, lengths[i].len,
			(int)rc, th_error_text(&err));
		if (rc == ACCTLINK_BAD_CALLBACK)
			expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
		free(params);
		free(pattern);
		free(code);
		free(filler);
		consent_free(&consent);
	}
	th_host_free(&host);
}

static void an_over_long_cookie_header_is_refused(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	char *filler = calloc(1, 65537);
	acctlink_error err = { 0 };
	char *cookies;

	assert_non_null(filler);
	memset(filler, 'y', 65536);
	cookies = th_printf("x=%s; %s", filler, consent->flow.cookie);
	expect_status(th_callback(host, "ana", consent->params, cookies, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	free(cookies);
	cookies = th_printf("x=%.*s; %s", 60000, filler, consent->flow.cookie);
	expect_status(th_callback(host, "ana", consent->params, cookies, NULL, &err), ACCTLINK_OK, &err);
	free(cookies);
	free(filler);
	consent_free(&consent);
	th_host_free(&host);
}

static void parameters_of_others_are_ignored(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	char *params = th_printf("&tenant=7&session_state=%%zz&CODE=no&%s&&session_state=2&flag&=", consent->params);
	acctlink_error err = { 0 };

	expect_status(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	free(params);
	consent_free(&consent);
	th_host_free(&host);
}

/* A code may hold any printable ASCII (RFC 6749, A.11). */
static void a_code_is_decoded_once_and_encoded_once(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_error err = { 0 };
	char *body;

	assert_non_null(consent);
	begin_consent(consent, host, "ana", NULL);
	th_script(provider, "auth", NULL, 1, "{'set':{'code':'a+b c/%%25&=~%%2B'}}");
	give_consent(consent, provider);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_FLOW_FAILED, &err);
	body = th_request_body(provider, "token", 0);
	expect_part(body, "grant_type=authorization_code&code=a%2Bb+c%2F%2525%26%3D~%252B&redirect_uri=");
	free(body);
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- form_post --------------------------------------------------------------------- */

static void a_form_posted_from_another_site_ends_the_consent(void **state)
{
	const struct th_config config = { .provider_lines = "response_mode = 'form_post';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };
	char *mode = th_param(consent->flow.url, "response_mode");

	expect_text(mode, "form_post");
	/* Only such a cookie is sent along with a form that comes from another site. */
	expect_part(consent->flow.set_cookie, "; SameSite=None");
	expect_part(consent->flow.set_cookie, "; Secure");
	expect_status(th_callback(host, "ana", "", consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	expect_foreign(host, "ana", consent->params, NULL);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	free(mode);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_denial_may_be_posted(void **state)
{
	const struct th_config config = { .provider_lines = "response_mode = 'form_post';" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, &config);
	struct consent *consent = calloc(1, sizeof(*consent));
	acctlink_error err = { 0 };

	assert_non_null(consent);
	begin_consent(consent, host, "ana", NULL);
	th_script(provider, "auth", NULL, 1, "{'error':'access_denied','error_description':'No & thanks = bye'}");
	give_consent(consent, provider);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_DENIED, &err);
	expect_part(err.message, "No & thanks = bye");
	consent_free(&consent);
	th_host_free(&host);
}

/* ---- iss (RFC 9207) ------------------------------------------------------------------- */

/* params without its iss, and with another in its place if given. */
static char *with_iss(const char *params, const char *iss)
{
	const char *at = strstr(params, "&iss=");
	const char *rest = at != NULL ? at + 1 + strcspn(at + 1, "&") : "";
	const int len = at != NULL ? (int)(at - params) : (int)strlen(params);

	return iss == NULL ? th_printf("%.*s%s", len, params, rest)
			   : th_printf("%.*s%s&iss=%s", len, params, rest, iss);
}

static void expect_iss_refused(struct th_host *host, const struct consent *consent, const char *iss)
{
	char *params = with_iss(consent->params, iss);
	acctlink_error err = { 0 };

	expect_status(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	expect_part(err.message, "'iss'");
	free(params);
}

static void an_answer_of_another_issuer_is_refused(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent;
	acctlink_error err = { 0 };

	th_control(provider, "{'set':{'iss_parameter':true}}");
	consent = consent_new(host, provider, "ana", NULL);
	expect_part(consent->params, "&iss=");
	expect_iss_refused(host, consent, NULL); /* the metadata promises it */
	expect_iss_refused(host, consent, "");
	expect_iss_refused(host, consent, "https%3A%2F%2Fevil.example");
	expect_iss_refused(host, consent, "HTTPS%3A%2F%2Flocalhost");
	th_host_restart(host); /* now the metadata is not at hand */
	expect_iss_refused(host, consent, NULL);
	expect_exchanges(provider, 0);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	expect_exchanges(provider, 1);
	consent_free(&consent);
	th_host_free(&host);
}

static void a_denial_of_another_issuer_does_not_end_the_consent(void **state)
{
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent;
	acctlink_error err = { 0 };
	char *without;
	char *wrong;

	th_control(provider, "{'set':{'iss_parameter':true}}");
	consent = consent_new(host, provider, "ana", NULL);
	without = th_printf("error=access_denied&state=%s", consent->flow.state);
	wrong = th_printf("%s&iss=https%%3A%%2F%%2Fevil.example", without);
	expect_status(th_callback(host, "ana", without, consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	expect_status(th_callback(host, "ana", wrong, consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	th_host_restart(host);
	expect_status(th_callback(host, "ana", without, consent->flow.cookie, NULL, &err), ACCTLINK_BAD_CALLBACK, &err);
	expect_status(return_with(consent, host, "ana", NULL, &err), ACCTLINK_OK, &err);
	free(wrong);
	free(without);
	consent_free(&consent);
	th_host_free(&host);
}

static void iss_is_checked_where_it_was_not_promised_and_demanded_where_the_config_says_so(void **state)
{
	const struct th_config demanding = { .provider_lines = "iss_parameter_required = true;" };
	struct th_provider *provider = *state;
	struct th_host *host = th_host_new(provider, NULL);
	struct consent *consent = consent_new(host, provider, "ana", NULL);
	acctlink_error err = { 0 };
	char *params;

	assert_null(strstr(consent->params, "iss="));
	expect_iss_refused(host, consent, "https%3A%2F%2Fevil.example");
	rewrite_config(host, provider, &demanding);
	expect_status(host->api.reload(host->handle, &err), ACCTLINK_OK, &err);
	expect_iss_refused(host, consent, NULL);
	expect_exchanges(provider, 0);
	params = with_iss(consent->params, provider->issuer); /* ':' and '/' may be raw */
	expect_status(th_callback(host, "ana", params, consent->flow.cookie, NULL, &err), ACCTLINK_OK, &err);
	free(params);
	consent_free(&consent);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		consent_test(a_repeated_callback_gets_the_first_ones_result_without_a_second_exchange),
		consent_test(a_repeated_callback_gets_the_first_ones_result_after_a_restart),
		consent_test(a_failed_exchange_is_not_repeated_by_a_repeated_callback),
		consent_test(a_repeated_callback_changes_nothing_of_a_link_that_moved_on),
		consent_test(a_finished_consents_result_is_told_to_nobody_else),
		consent_test(three_consents_of_one_user_end_well_in_every_order),
		consent_test(a_consent_begun_in_one_process_ends_in_another_after_fourteen_minutes),
		consent_test(a_late_callback_is_told_so_and_sends_nothing),
		consent_test(the_last_second_of_a_consent_counts), consent_test(old_flows_are_swept_from_the_store),
		consent_test(one_user_can_not_pile_up_flows),
		consent_test(a_flow_of_a_provider_that_is_gone_waits_for_its_return),
		consent_test(forged_and_foreign_callbacks_send_nothing_and_use_nothing_up),
		consent_test(an_attackers_consent_is_not_finished_by_a_victims_browser),
		consent_test(an_injected_code_is_stopped_by_the_nonce_where_there_is_no_pkce),
		consent_test(a_strangers_denial_does_not_end_a_consent),
		consent_test(a_denial_is_an_outcome_of_its_own_and_ends_the_flow),
		consent_test(a_denial_survives_a_restart_and_a_provider_that_is_down),
		consent_test(the_providers_description_is_decoded_and_bounded),
		consent_test(malformed_and_ambiguous_callbacks_are_refused_before_anything_is_sent),
		consent_test(over_long_parameters_are_refused_within_stated_bounds),
		consent_test(an_over_long_cookie_header_is_refused), consent_test(parameters_of_others_are_ignored),
		consent_test(a_code_is_decoded_once_and_encoded_once),
		consent_test(a_form_posted_from_another_site_ends_the_consent), consent_test(a_denial_may_be_posted),
		consent_test(an_answer_of_another_issuer_is_refused),
		consent_test(a_denial_of_another_issuer_does_not_end_the_consent),
		consent_test(iss_is_checked_where_it_was_not_promised_and_demanded_where_the_config_says_so)
	};

	return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
