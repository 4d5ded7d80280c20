/* SPDX-License-Identifier: MIT
 * ACCTLINK_BEARER_REFRESH: a refresh that a host asks for although the bearer is
 * good. It is one refresh like any other, and takes nothing away.
 */
#include "refresh_util.h"

enum { CALLERS = 32 };

struct order {
	struct th_host *host;
	const char *link_id;
	uint32_t flags;
	acctlink_status status[CALLERS];
	uint64_t generation[CALLERS];
};

static void order_one(void *ctx, unsigned i)
{
	struct order *order = ctx;
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	static _Thread_local char buf[65536];

	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.link_id = th_str(order->link_id);
	args.flags = order->flags;
	order->status[i] = order->host->api.get_bearer(order->host->handle, &args, buf, sizeof(buf), &info, &err);
	order->generation[i] = info.generation;
}

static struct order ordered(struct th_host *host, const char *link_id, uint32_t flags)
{
	struct order order = { .host = host, .link_id = link_id, .flags = flags };

	order_one(&order, 0);
	return order;
}

/* The generation that comes of it. */
static uint64_t asked(struct th_host *host)
{
	const struct order order = ordered(host, NULL, ACCTLINK_BEARER_REFRESH);

	same("status", order.status[0], ACCTLINK_OK);
	return order.generation[0];
}

static struct th_host *host_with_link(const char *provider_lines)
{
	const struct th_config config = { .provider_lines = provider_lines };
	struct th_host *host = th_host_new(provider, &config);

	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, MINUTE_MS); /* past min_refresh_interval */
	return host;
}

static void a_good_bearer_is_replaced_when_the_host_asks_for_it(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	same("before", served(host, "ana", 0), 1);
	same("nothing sent yet", refreshes(), 0);
	same("asked", asked(host), 2);
	same("after", served(host, "ana", 0), 2);
	same("refreshes", refreshes(), 1);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	th_host_free(&host);
}

static void asking_again_too_soon_sends_nothing_and_serves_the_bearer(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	same("asked", asked(host), 2);
	same("too soon", asked(host), 2);
	same("refreshes", refreshes(), 1);
	th_advance(host, provider, 11 * 1000); /* min_refresh_interval is 10 s */
	same("in time", asked(host), 3);
	same("refreshes", refreshes(), 2);
	th_host_free(&host);
}

static void many_who_ask_at_once_get_one_refresh(void **state)
{
	struct th_host *host = host_with_link(NULL);
	struct order order = { .host = host, .flags = ACCTLINK_BEARER_REFRESH };
	unsigned i;

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'delay_ms':300}");
	th_parallel(CALLERS, order_one, &order);
	for (i = 0; i < CALLERS; i++) {
		same("status", order.status[i], ACCTLINK_OK);
		same("generation", order.generation[i], 2);
	}
	same("refreshes", refreshes(), 1);
	th_host_free(&host);
}

static void a_failure_leaves_the_good_bearer(void **state)
{
	struct th_host *host = host_with_link(NULL);

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'status':503,'body':''}");
	same("asked", asked(host), 1);
	same("refreshes", refreshes(), 1);
	state_is(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_PROVIDER_DOWN, 1);
	th_host_free(&host);
}

static void a_token_whose_answer_was_lost_is_not_sent_again_for_the_asking(void **state)
{
	struct th_host *host = host_with_link(NULL);
	char *token = th_grant_current(provider, -1);

	(void)state;
	th_script(provider, "token", "refresh_token", 1, "{'cut':'before_answer'}");
	same("lost", asked(host), 1);
	th_advance(host, provider, 10 * MINUTE_MS); /* any back-off is over, the bearer is good */
	same("asked again", asked(host), 1);
	same("arrivals", th_arrivals(provider, token), 1);
	free(token);
	th_host_free(&host);
}

static void asking_for_a_link_that_ended_leaves_its_successor_alone(void **state)
{
	struct th_host *host = host_with_link(NULL);
	acctlink_inspect_result before = look(host, "ana");
	acctlink_error err = { 0 };
	struct order order;

	(void)state;
	same("unlink", th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_OK);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, MINUTE_MS);
	order = ordered(host, before.link_id, ACCTLINK_BEARER_REFRESH);
	same("the old id", order.status[0], ACCTLINK_NOT_LINKED);
	same("refreshes", refreshes(), 0);
	same("the new link", look(host, "ana").generation, 1);
	th_host_free(&host);
}

static void flags_that_nobody_knows_are_refused(void **state)
{
	struct th_host *host = host_with_link(NULL);
	const struct order order = ordered(host, NULL, 2);

	(void)state;
	same("status", order.status[0], ACCTLINK_BAD_ARGUMENT);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		refresh_test(a_good_bearer_is_replaced_when_the_host_asks_for_it),
		refresh_test(asking_again_too_soon_sends_nothing_and_serves_the_bearer),
		refresh_test(many_who_ask_at_once_get_one_refresh),
		refresh_test(a_failure_leaves_the_good_bearer),
		refresh_test(a_token_whose_answer_was_lost_is_not_sent_again_for_the_asking),
		refresh_test(asking_for_a_link_that_ended_leaves_its_successor_alone),
		refresh_test(flags_that_nobody_knows_are_refused),
	};

	return cmocka_run_group_tests_name("asked for", tests, start_provider, stop_provider);
}
