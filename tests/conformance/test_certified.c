/* SPDX-License-Identifier: MIT
 * The shared suite at a certified OpenID provider, unmodified, and what only that
 * one can show.
 */
#include "same_flow.h"

static enum th_kind kind_of_provider(void)
{
	return TH_CERTIFIED;
}

static void renew(void)
{
}

static void sign_with(const char *alg)
{
	(void)alg; /* as each client is registered */
}

static void leave_offline_access_out(void)
{
}

static long userinfo_of_id_token(void)
{
	return 401;
}

/* The code_verifier is looked at first: who has none can't even end the grant by
 * sending a spent code, as RFC 6749, 4.1.2 has it. */
static void a_spent_code_in_the_hands_of_a_thief_does_not_disturb_the_link(void **state)
{
	struct th_host *host = usual_host();

	(void)state;
	spend_code_again(host, "thief");
	th_advance(host, provider, HOURS(2));
	free(accepted_bearer(host, "thief", 2));
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = { SAME_TESTS,
		same_test(a_spent_code_in_the_hands_of_a_thief_does_not_disturb_the_link) };

	return cmocka_run_group_tests_name("certified", tests, start_provider, stop_provider);
}
