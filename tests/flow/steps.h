/* SPDX-License-Identifier: MIT
 * What the tests of consents share: one practice provider per program, as good
 * as new before each test, hosts on it, and a look into the store. Used by one
 * thread. Failures end the running test, as in harness.h.
 */
#ifndef TH_FLOW_STEPS_H
#define TH_FLOW_STEPS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define MINUTES(n) (INT64_C(60) * 1000 * (n))
#define HOURS(n) MINUTES(INT64_C(60) * (n))

/* ---- the provider of the program ---------------------------------------- */

static inline int start_provider(void **state)
{
	*state = th_provider_start(TH_PRACTICE, NULL);
	return 0;
}

static inline int stop_provider(void **state)
{
	struct th_provider *provider = *state;

	th_provider_stop(&provider);
	return 0;
}

/* Every setting as it is at the start, nothing queued, an empty ledger. */
static inline int renew_provider(void **state)
{
	struct th_provider *provider = *state;

	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'down':false,'set':{'issuer_path':'','sub':null,'rotation':'hydra',"
		"'reuse_window_ms':0,'code_ttl':300,'access_ttl':3600,'id_token_ttl':3600,'refresh_ttl':0,"
		"'access_token':true,'id_token':'always','refresh_nonce':false,'alg':'RS256','claims':null,'scope':null,"
		"'iss_parameter':false,'auth':null,'clients':null,'burn_code_on_401':false,'discovery':null,"
		"'jwks_max_age':null,'jwks_without_kid':false,'token_bytes':null,'clock_offset_ms':0},"
		"'reset_ledger':true}");
	return 0;
}

#define consent_test(name) cmocka_unit_test_setup(name, renew_provider)

static inline int exchanges(struct th_provider *provider)
{
	return th_count(provider, "token", "authorization_code");
}

/* ---- expectations --------------------------------------------------------- */

#define expect_status(call, wanted, err) \
	do { \
		acctlink_status got_ = (call); \
		th_check(got_ == (wanted), "%s: %d instead of %d: %s", #call, (int)got_, (int)(wanted), \
			th_error_text(err)); \
	} while (0)

#define expect_part(text, part) th_check(strstr(text, part) != NULL, "\"%s\" is not in: %s", part, text)

#define expect_no_part(text, part) th_check(strstr(text, part) == NULL, "\"%s\" is in: %s", part, text)

#define expect_text(got, wanted) \
	th_check((got) != NULL && strcmp(got, wanted) == 0, "\"%s\" instead of \"%s\"", got, wanted)

/* By counting at the provider. */
#define expect_exchanges(provider, wanted) \
	th_check(exchanges(provider) == (wanted), "%d exchanges instead of %d", exchanges(provider), wanted)

#define expect_events(host, part, wanted) \
	th_check(th_lines_count((host)->events, part) == (wanted), "%zu events \"%s\" instead of %d:\n%s", \
		th_lines_count((host)->events, part), part, wanted, th_lines_text((host)->events))

static inline bool not_linked(struct th_host *host, const char *user, const char *institution)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;

	return th_inspect(host, user, institution, &result, NULL) == ACCTLINK_NOT_LINKED;
}

/* ---- hosts and flows -------------------------------------------------------- */

/* Another config at the place of the host's own. */
static inline void rewrite_config(
	struct th_host *host, const struct th_provider *provider, const struct th_config *config)
{
	char *dir = th_printf("%.*s", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);

	free(th_config_write(dir, provider, config));
	free(dir);
}

static inline acctlink_status begin_with(
	struct th_host *host, acctlink_begin_args *args, struct th_flow *flow, acctlink_error *err)
{
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_status rc;

	args->provider = th_str("test");
	result.url = (acctlink_out){ flow->url, sizeof(flow->url), 0 };
	result.state = (acctlink_out){ flow->state, sizeof(flow->state), 0 };
	result.set_cookie = (acctlink_out){ flow->set_cookie, sizeof(flow->set_cookie), 0 };
	rc = host->api.begin(host->handle, args, &result, err);
	if (rc == ACCTLINK_OK)
		snprintf(flow->cookie, sizeof(flow->cookie), "%.*s", (int)strcspn(flow->set_cookie, ";"),
			flow->set_cookie);
	return rc;
}

/* A flow that was begun, and what the browser brings back from the provider. */
struct consent {
	struct th_flow flow;
	char *params;
};

static inline void begin_consent(
	struct consent *consent, struct th_host *host, const char *user, const char *institution)
{
	acctlink_error err = { 0 };

	consent->params = NULL;
	expect_status(th_begin(host, user, institution, &consent->flow, &err), ACCTLINK_OK, &err);
}

static inline void give_consent(struct consent *consent, struct th_provider *provider)
{
	consent->params = th_consent(provider, consent->flow.url);
}

static inline struct consent *consent_new(
	struct th_host *host, struct th_provider *provider, const char *user, const char *institution)
{
	struct consent *consent = calloc(1, sizeof(*consent));

	th_check(consent != NULL, "no memory");
	begin_consent(consent, host, user, institution);
	give_consent(consent, provider);
	return consent;
}

static inline void consent_free(struct consent **consent)
{
	free((*consent)->params);
	free(*consent);
	*consent = NULL;
}

/* The true callback: the flow's own user, browser and parameters. */
static inline acctlink_status return_with(struct consent *consent, struct th_host *host, const char *user,
	acctlink_callback_result *result, acctlink_error *err)
{
	return th_callback(host, user, consent->params, consent->flow.cookie, result, err);
}

/* ---- the store -------------------------------------------------------------- */

/* One number out of the host's store. */
static inline int64_t stored_number(const struct th_host *host, const char *sql)
{
	char *path = th_printf(
		"%.*s/store.db", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
	sqlite3_stmt *statement = NULL;
	sqlite3 *db = NULL;
	int64_t number;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK
			&& sqlite3_busy_timeout(db, 10000) == SQLITE_OK
			&& sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK
			&& sqlite3_step(statement) == SQLITE_ROW,
		"%s: %s", sql, sqlite3_errmsg(db));
	number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	free(path);
	return number;
}

static inline int64_t stored_flows(const struct th_host *host)
{
	return stored_number(host, "SELECT count(*) FROM flow");
}

#endif
