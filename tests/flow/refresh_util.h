/* SPDX-License-Identifier: MIT
 * What the tests of refreshing share: one practice provider per program, put
 * back to its defaults before each test, and the questions that each test asks.
 * The functions fail the running test; see harness.h for threads and memory.
 */
#ifndef REFRESH_UTIL_H
#define REFRESH_UTIL_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host.h"

#define HOUR_MS ((int64_t)3600 * 1000)
#define MINUTE_MS ((int64_t)60 * 1000)
/* Asks for more life than a bearer of an hour has in its second half: a refresh
 * ahead of time, whose end the call waits for. */
#define AHEAD_MS (30u * 60 * 1000)

#define same(label, got, want) \
	do { \
		const long long got_ = (long long)(got); \
		const long long want_ = (long long)(want); \
		th_check(got_ == want_, "%s: %s is %lld, not %lld", label, #got, got_, want_); \
	} while (0)

static struct th_provider *provider; /* of the program, see start_provider */

static inline int start_provider(void **state)
{
	(void)state;
	provider = th_provider_start(TH_PRACTICE, NULL);
	return 0;
}

static inline int stop_provider(void **state)
{
	(void)state;
	th_provider_stop(&provider);
	return 0;
}

/* Before each test. Grants stay; -1 is the newest. */
static inline int reset_provider(void **state)
{
	(void)state;
	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'down':false,'reset_ledger':true,'set':{'issuer_path':'','sub':null,"
		"'rotation':'hydra','reuse_window_ms':0,'code_ttl':300,'access_ttl':3600,'id_token_ttl':3600,"
		"'refresh_ttl':0,'access_token':true,'id_token':'always','refresh_nonce':false,'alg':'RS256',"
		"'claims':null,'scope':null,'auth':null,'clients':null,'discovery':null,'jwks_max_age':null,"
		"'token_bytes':null,'clock_offset_ms':0}}");
	return 0;
}

#define refresh_test(f) cmocka_unit_test_setup(f, reset_provider)

/* get_bearer with all its arguments; the bearer is the caller's. */
static inline acctlink_status ask_at(struct th_host *host, const char *user, const char *institution,
	uint32_t min_ttl_ms, uint32_t deadline_ms, char **bearer, acctlink_bearer_info *info, acctlink_error *err)
{
	const size_t cap = 256 * 1024;
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info own = ACCTLINK_BEARER_INFO_INIT;
	acctlink_status rc;
	char *buf = malloc(cap);

	th_check(buf != NULL, "no memory");
	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	args.link.institution = th_str(institution);
	args.min_ttl_ms = min_ttl_ms;
	args.deadline_ms = deadline_ms;
	rc = host->api.get_bearer(host->handle, &args, buf, cap, &own, err);
	if (info != NULL && rc == ACCTLINK_OK)
		*info = own;
	if (rc == ACCTLINK_OK && bearer != NULL)
		*bearer = buf;
	else
		free(buf);
	return rc;
}

static inline acctlink_status ask(struct th_host *host, const char *user, uint32_t min_ttl_ms, char **bearer,
	acctlink_bearer_info *info, acctlink_error *err)
{
	return ask_at(host, user, NULL, min_ttl_ms, 0, bearer, info, err);
}

/* The generation of the bearer that is served; fails if there is none. */
static inline uint64_t served(struct th_host *host, const char *user, uint32_t min_ttl_ms)
{
	const int64_t before = th_clock_wall_ms(host->clock);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };

	th_check(ask(host, user, min_ttl_ms, NULL, &info, &err) == ACCTLINK_OK, "bearer of %s: %s", user,
		th_error_text(&err));
	th_check(info.expires_at_ms > before, "%s was served a bearer that had ended", user);
	return info.generation;
}

/* The status when none can be served; *err tells more. */
static inline acctlink_status denied(struct th_host *host, const char *user, acctlink_error *err)
{
	acctlink_error own = { 0 };

	return ask(host, user, 0, NULL, NULL, err != NULL ? err : &own);
}

static inline acctlink_inspect_result look_at(struct th_host *host, const char *user, const char *institution)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	th_check(th_inspect(host, user, institution, &result, &err) == ACCTLINK_OK, "inspect %s: %s", user,
		th_error_text(&err));
	return result;
}

static inline acctlink_inspect_result look(struct th_host *host, const char *user)
{
	return look_at(host, user, NULL);
}

static inline void state_is(struct th_host *host, const char *user, int32_t state, int32_t reason, uint64_t generation)
{
	const acctlink_inspect_result result = look(host, user);

	th_check(result.state == state && result.reason == reason && result.generation == generation,
		"%s: state %d, reason %d, generation %" PRIu64 "; wanted %d, %d, %" PRIu64, user, (int)result.state,
		(int)result.reason, result.generation, (int)state, (int)reason, generation);
}

static inline int refreshes(void)
{
	return th_count(provider, "token", "refresh_token");
}

/* Events of one kind for one user, or for all; not for LINKED, which ends UNLINKED too. */
static inline size_t events(struct th_host *host, const char *kind, const char *user)
{
	char *part = user != NULL ? th_printf("%s user=%s provider", kind, user) : th_printf("%s user=", kind);
	const size_t count = th_lines_count(host->events, part);

	free(part);
	return count;
}

/* Moves both clocks to `ms` after the end of what inspect calls the bearer's end. */
static inline void advance_past(struct th_host *host, int64_t at_ms, int64_t ms)
{
	const int64_t left = at_ms - th_clock_wall_ms(host->clock);

	th_advance(host, provider, (left > 0 ? left : 0) + ms);
}

static inline char *folder_of(const struct th_host *host)
{
	return th_printf("%.*s", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
}

/* Writes the config anew and has the host reload it. */
static inline void reconfigure(struct th_host *host, const struct th_provider *at, const struct th_config *config)
{
	char *dir = folder_of(host);
	char *path = th_config_write(dir, at, config);
	acctlink_error err = { 0 };

	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "reload: %s", th_error_text(&err));
	free(path);
	free(dir);
}

/* A claim of a JWT, with its signature unchecked; NULL if the bearer is no JWT. */
static inline json_object *jwt_claims(const char *bearer)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const char *from = strchr(bearer, '.');
	json_object *claims;
	unsigned bits = 0;
	size_t count = 0;
	size_t len = 0;
	char *text;

	if (from == NULL)
		return NULL;
	text = calloc(1, strlen(from));
	th_check(text != NULL, "no memory");
	for (from++; *from != '\0' && *from != '.'; from++) {
		const char *digit = strchr(digits, *from);

		th_check(digit != NULL, "the bearer's payload is no base64url");
		bits = bits << 6 | (unsigned)(digit - digits);
		if (++count % 4 != 1)
			text[len++] = (char)(bits >> (6 - 2 * ((count - 1) % 4)) & 0xff);
	}
	claims = json_tokener_parse(text);
	free(text);
	return claims;
}

static inline int64_t jwt_time(const char *bearer, const char *name)
{
	json_object *claims = jwt_claims(bearer);
	const int64_t at = claims != NULL ? json_object_get_int64(json_object_object_get(claims, name)) : 0;

	json_object_put(claims);
	return at;
}

/* The hash of the token that newest reached the token endpoint. */
static inline bool last_token_is(const char *hash)
{
	char *token = th_request(provider, "token", 0, "token");
	const bool equal = token != NULL && strcmp(token, hash) == 0;

	free(token);
	return equal;
}

#endif
