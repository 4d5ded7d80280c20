/* SPDX-License-Identifier: MIT
 * The main job on real input, told step by step: a host dlopens the plugin,
 * links an account at a certified OpenID provider over TLS, gets the bearer,
 * refreshes it, unlinks. The provider and the browser are those of the tests.
 * Tokens are shown masked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

static int step_number;

static void step(const char *what)
{
	printf("\n%2d. %s\n", ++step_number, what);
}

static void mask(const char *what, const char *secret)
{
	printf("      %-13s %.4s… (%zu bytes)\n", what, secret, strlen(secret));
}

static void show_params(const char *params)
{
	char *code = th_param(params, "code");
	char *state = th_param(params, "state");
	char *iss = th_param(params, "iss");

	printf("      https://app.example/cb?…\n");
	mask("code", code);
	mask("state", state);
	if (iss != NULL)
		printf("      %-13s %s\n", "iss", iss);
	free(code);
	free(state);
	free(iss);
}

static char *show_bearer(struct th_host *host, struct th_provider *provider, acctlink_bearer_info *info)
{
	char *bearer = th_must_bearer(host, "alice", NULL, info);
	long status = th_userinfo(provider, bearer);

	mask("bearer", bearer);
	printf("      %-13s %" PRIu64 "\n", "generation", info->generation);
	printf("      %-13s HTTP %ld: %s\n", "userinfo", status, status == 200 ? "the provider takes it" : "REFUSED");
	th_check(status == 200, "the provider's userinfo refused the bearer");
	return bearer;
}

static void show_link(struct th_host *host)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	char subject[256];
	char scope[256];

	result.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	result.scope = (acctlink_out){ scope, sizeof(scope), 0 };
	th_check(th_inspect(host, "alice", NULL, &result, NULL) == ACCTLINK_OK, "inspect failed");
	printf("      %-13s %s\n", "state", result.state == ACCTLINK_STATE_LINKED ? "linked" : "not linked");
	printf("      %-13s %s\n      %-13s %s\n", "subject", subject, "scope", scope);
	printf("      %-13s epoch %" PRIu64 ", generation %" PRIu64 "\n", "set", result.epoch, result.generation);
}

static void do_link(struct th_host *host, struct th_provider *provider)
{
	acctlink_callback_result result = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_error err = { 0 };
	struct th_flow flow;
	char *params;

	step("acctlink_begin: the consent URL, and a cookie that binds the flow to the browser");
	th_check(th_begin(host, "alice", NULL, &flow, &err) == ACCTLINK_OK, "%s", err.message);
	printf("      %s\n", flow.url);
	step("The browser opens it; the user signs in and consents; the callback comes back");
	params = th_consent(provider, flow.url);
	show_params(params);
	step("acctlink_on_callback: the code is exchanged, the id_token checked, the set kept sealed");
	th_check(th_callback(host, "alice", params, flow.cookie, &result, &err) == ACCTLINK_OK, "%s", err.message);
	printf("      %-13s %s\n", "link", result.link_id);
	show_link(host);
	free(params);
}

static void do_unlink(struct th_host *host, struct th_provider *provider, const char *bearer)
{
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_status status;
	char *none = NULL;

	step("acctlink_unlink: unusable at once, then revoked at the provider");
	th_check(th_unlink(host, "alice", NULL, &result, &err) == ACCTLINK_OK, "%s", err.message);
	printf("      %-13s %s\n", "revocation",
		result.revocation == ACCTLINK_REVOCATION_CONFIRMED ? "confirmed by the provider" : "pending");
	status = th_bearer(host, "alice", NULL, &none, NULL, &err);
	printf("      %-13s status %d: %s\n", "get_bearer", (int)status, err.message);
	printf("      %-13s HTTP %ld for the last bearer\n", "userinfo", th_userinfo(provider, bearer));
	th_check(status == ACCTLINK_NOT_LINKED, "the link is still usable");
}

int main(void)
{
	/* OpenID Connect Core, 11: offline_access is granted with prompt=consent. */
	const struct th_config config = { .provider_lines = "authorize_parameters = { prompt = 'consent'; };" };
	struct th_provider *provider;
	struct th_host *host;
	acctlink_bearer_info first = ACCTLINK_BEARER_INFO_INIT;
	acctlink_bearer_info second = ACCTLINK_BEARER_INFO_INIT;
	char *bearer;
	char *next;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	step("A certified OpenID provider (oidc-provider, unmodified) starts, with TLS");
	provider = th_provider_start(TH_CERTIFIED, NULL);
	printf("      %s\n", provider->issuer);
	step("A host loads acctlink.so with dlopen and calls acctlink_init");
	host = th_host_new(provider, &config);
	printf("      %-13s %u.%u\n", "ABI", host->api.abi_version() >> 16, host->api.abi_version() & 0xffff);
	do_link(host, provider);
	step("acctlink_get_bearer: what the host sends to the data API");
	bearer = show_bearer(host, provider, &first);
	step("The clocks move on by a day and an hour; the bearer has ended; acctlink_get_bearer refreshes it");
	th_advance(host, provider, (int64_t)25 * 3600 * 1000);
	next = show_bearer(host, provider, &second);
	th_check(second.generation == first.generation + 1 && strcmp(bearer, next) != 0, "no new bearer came");
	show_link(host);
	do_unlink(host, provider, next);
	free(bearer);
	free(next);
	th_host_free(&host);
	th_provider_stop(&provider);
	printf("\nAll of it worked.\n");
	return 0;
}
