/* SPDX-License-Identifier: MIT
 * What the programs of this suite share: a practice provider in Akoya's dress, a
 * host whose profile is "akoya", and exact expectations. Each program has one
 * provider for all of its tests; each test begins with it as new.
 */
#ifndef AKOYA_H
#define AKOYA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define MINUTES(n) (INT64_C(60) * 1000 * (n))
#define HOURS(n) MINUTES(INT64_C(60) * (n))
#define DAY HOURS(25) /* past the 86399 seconds of an id_token */

#define CLAIMED "Refresh token is invalid or has already been claimed by another client."

#define expect_status(call, wanted, err) \
	do { \
		acctlink_status got_ = (call); \
		th_check(got_ == (wanted), "%s: %d instead of %d: %s", #call, (int)got_, (int)(wanted), \
			th_error_text(err)); \
	} while (0)

#define expect_number(got, wanted) \
	th_check((long long)(got) == (long long)(wanted), "%s is %lld, not %lld", #got, (long long)(got), \
		(long long)(wanted))

#define expect_text(got, wanted) \
	th_check((got) != NULL && strcmp(got, wanted) == 0, "%s is \"%s\", not \"%s\"", #got, \
		(got) != NULL ? (got) : "", wanted)

static struct th_provider *provider; /* of the program */
static char *issuer;                 /* with the trailing slash that Akoya's has */

static inline int start_provider(void **state)
{
	(void)state;
	provider = th_provider_start(TH_PRACTICE, NULL);
	issuer = th_printf("%s/", provider->issuer);
	return 0;
}

static inline int stop_provider(void **state)
{
	(void)state;
	th_provider_stop(&provider);
	free(issuer);
	return 0;
}

/* As Akoya's identity provider: Dex's words, one grant per login, no access_token,
 * Basic for the exchange only. */
static inline int be_akoya(void **state)
{
	(void)state;
	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'kill_grant':'all','set':{'issuer_path':'/','rotation':'dex','sub':null,"
		"'access_token':false,'id_token':'always','access_ttl':86399,'id_token_ttl':86399,'claims':null,"
		"'clients':null,'token_bytes':null,'clock_offset_ms':0,"
		"'auth':{'authorization_code':'basic','refresh_token':'post','revoke':'post'}}}");
	th_control(provider, "{'reset_ledger':true}");
	return 0;
}

static inline struct th_host *host_with(const struct th_config *given)
{
	struct th_config config = { 0 };

	if (given != NULL)
		config = *given;
	config.profile = "akoya";
	config.issuer = issuer;
	config.lines = "poll_interval = 0.05; log_level = 'debug';";
	return th_host_new(provider, &config);
}

static inline int refreshes(void)
{
	return th_count(provider, "token", "refresh_token");
}

static inline int revocations(void)
{
	return th_count(provider, "revoke", NULL);
}

static inline void link_user(struct th_host *host, const char *user, acctlink_callback_result *result)
{
	th_must_link(host, provider, user, "mikomo", result);
}

static inline acctlink_inspect_result look(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	expect_status(th_inspect(host, user, "mikomo", &result, &err), ACCTLINK_OK, &err);
	return result;
}

static inline void expect_state(struct th_host *host, const char *user, int32_t state, int32_t reason)
{
	const acctlink_inspect_result seen = look(host, user);

	th_check(seen.state == state && seen.reason == reason, "%s: state %d, reason %d; wanted %d, %d", user,
		(int)seen.state, (int)seen.reason, (int)state, (int)reason);
}

/* There is no link, here and now. */
static inline void expect_no_link(struct th_host *host, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	expect_status(th_inspect(host, user, "mikomo", &result, &err), ACCTLINK_NOT_LINKED, &err);
	expect_status(th_bearer(host, user, "mikomo", &bearer, NULL, &err), ACCTLINK_NOT_LINKED, &err);
}

/* The status of get_bearer where none is to be had. */
static inline acctlink_status denied(struct th_host *host, const char *user, acctlink_error *err)
{
	acctlink_error own = { 0 };
	char *bearer = NULL;
	const acctlink_status rc = th_bearer(host, user, "mikomo", &bearer, NULL, err != NULL ? err : &own);

	free(bearer);
	return rc;
}

static inline void expect_bearer(struct th_host *host, const char *user, uint64_t generation)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer = th_must_bearer(host, user, "mikomo", &info);

	expect_number(info.generation, generation);
	expect_number(th_userinfo(provider, bearer), 200);
	free(bearer);
}

/* The HTTP status of a data call; *code is what the bank calls its error, 0 where it tells none. */
static inline long data_call(const char *bearer, int *code)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *url = th_printf("%s/accounts/v2/mikomo", provider->issuer);
	char *authorization = th_printf("Authorization: Bearer %s", bearer);
	const char *const headers[] = { authorization, "x-akoya-interaction-type: user", NULL };
	struct th_answer answer;
	json_object *member = NULL;
	json_object *json;
	long status;

	th_check(th_browser_go(browser, "GET", url, headers, NULL, &answer), "the data API does not answer");
	json = json_tokener_parse(answer.body);
	status = answer.status;
	*code = json_object_object_get_ex(json, "code", &member) ? json_object_get_int(member) : 0;
	json_object_put(json);
	th_answer_clear(&answer);
	free(authorization);
	free(url);
	th_browser_free(&browser);
	return status;
}

/* Neither a log line nor an event tells it. */
static inline void expect_untold(struct th_host *host, const char *what, const char *secret)
{
	th_check(strlen(secret) >= 8, "the %s is too short to be looked for: \"%s\"", what, secret);
	th_check(!th_lines_contain(host->logs, secret), "the log tells the %s", what);
	th_check(!th_lines_contain(host->events, secret), "an event tells the %s", what);
}

#endif
