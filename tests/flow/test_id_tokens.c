/* SPDX-License-Identifier: MIT
 * The id_tokens of refreshes, through the ABI: keys that rotate, clocks that
 * differ, tokens that must not be believed, tokens that don't come. Whatever is
 * wrong with an id_token, the refresh token that came with it is kept.
 */
#include "refresh_util.h"

#include <sys/mman.h>
#include <time.h>

static const struct th_config id_bearer = { .provider_lines = "bearer = 'id_token';", .lines = "log_level = 'debug';" };
static const struct th_config access_bearer = { .lines = "log_level = 'debug';" };

static int key_fetches(void)
{
	return th_count(provider, "jwks", NULL);
}

static void live_for(int seconds)
{
	th_control(provider, "{'set':{'access_ttl':%d,'id_token_ttl':%d}}", seconds, seconds);
}

/* A member of a JWT's header. */
static char *jwt_header(const char *bearer, const char *name)
{
	char *swapped = th_printf(".%s", bearer); /* its header where jwt_claims looks */
	json_object *header = jwt_claims(swapped);
	char *text = th_printf("%s", json_object_get_string(json_object_object_get(header, name)));

	json_object_put(header);
	free(swapped);
	return text;
}

/* ---- keys that rotate -------------------------------------------------------------- */

/* A key that no test before has withdrawn, the only one of its kind. */
static int reset_with_a_key(void **state)
{
	(void)reset_provider(state);
	th_control(provider, "{'rotate_key':{'keep_old':false}}");
	return 0;
}

#define key_test(f) cmocka_unit_test_setup(f, reset_with_a_key)

static void check_rotation(const char *how)
{
	struct th_host *host;

	(void)reset_with_a_key(NULL);
	live_for(600);
	host = th_host_new(provider, &id_bearer);
	th_must_link(host, provider, "ana", NULL, NULL);
	same(how, key_fetches(), 1);
	th_advance(host, provider, 601 * 1000);
	th_control(provider, "{'rotate_key':%s}", how);
	same(how, served(host, "ana", 0), 2);
	same(how, key_fetches(), 2);
	th_advance(host, provider, 601 * 1000);
	same(how, served(host, "ana", 0), 3);
	same(how, key_fetches(), 2);
	same(how, refreshes(), 2);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 3);
	same(how, events(host, "STALE", NULL), 0);
	th_host_free(&host);
}

static void a_new_signing_key_costs_one_fetch(void **state)
{
	(void)state;
	check_rotation("{}");
	check_rotation("{'keep_old':false}");
}

static void a_new_key_under_an_old_name_costs_one_fetch(void **state)
{
	(void)state;
	check_rotation("{'same_kid':true}");
}

static void unknown_key_ids_do_not_drive_fetches(void **state)
{
	const unsigned links = th_full() ? 1000 : 60;
	struct th_host *host = th_host_new(provider, &id_bearer);
	char user[32];
	unsigned i;

	(void)state;
	live_for(600);
	th_must_link(host, provider, "good", NULL, NULL);
	for (i = 0; i < links; i++) {
		snprintf(user, sizeof(user), "user-%u", i);
		th_must_link(host, provider, user, NULL, NULL);
	}
	same("at first", key_fetches(), 1);
	th_advance(host, provider, 601 * 1000);
	for (i = 0; i < links; i++) {
		acctlink_status rc;

		snprintf(user, sizeof(user), "user-%u", i);
		th_script(provider, "token", "refresh_token", 1, "{'id_token':{'header':{'kid':'unknown-%llx'}}}",
			(unsigned long long)th_seed() + i);
		rc = denied(host, user, NULL);
		th_check(rc == ACCTLINK_BAD_PROVIDER || rc == ACCTLINK_PROVIDER_DOWN, "%s: status %d", user, (int)rc);
		same(user, look(host, user).generation, 2);
		if (i == links / 2)
			same("a known key", served(host, "good", 0), 2);
	}
	th_check(key_fetches() <= 3, "%d fetches", key_fetches());
	th_advance(host, provider, 601 * 1000); /* those tokens have ended: their successors are good */
	for (i = 0; i < links; i++) {
		snprintf(user, sizeof(user), "user-%u", i);
		same(user, served(host, user, 0), 3);
		state_is(host, user, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 3);
	}
	th_check(key_fetches() <= 4, "%d fetches", key_fetches());
	same("arrivals", th_max_arrivals(provider), 1);
	th_host_free(&host);
}

static void check_withdrawal(const struct th_config *config, const char *provider_age)
{
	struct th_host *host;
	char *bearer;
	char *kid;

	(void)reset_with_a_key(NULL);
	th_control(provider, "{'set':{'jwks_max_age':%s}}", provider_age);
	live_for(300);
	host = th_host_new(provider, config);
	th_must_link(host, provider, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	kid = jwt_header(bearer, "kid");
	th_advance(host, provider, 301 * 1000);
	th_control(provider, "{'withdraw_key':'%s'}", kid);
	same("keys are still in force", served(host, "ana", 0), 2);
	same("keys are still in force", key_fetches(), 1);
	th_advance(host, provider, 301 * 1000);
	th_check(denied(host, "ana", NULL) != ACCTLINK_OK, "a bearer under a withdrawn key was served");
	same("keys have ended", key_fetches(), 2);
	state_is(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED, 3);
	th_control(provider, "{'rotate_key':{}}");
	th_advance(host, provider, 301 * 1000);
	same("a new key", served(host, "ana", 0), 4);
	same("arrivals", th_max_arrivals(provider), 1);
	free(kid);
	free(bearer);
	th_host_free(&host);
}

static void a_withdrawn_key_is_trusted_no_longer_than_its_keys_live(void **state)
{
	const struct th_config by_config = { .provider_lines = "bearer = 'id_token'; jwks_max_age = 600;" };

	(void)state;
	check_withdrawal(&id_bearer, "600");
	check_withdrawal(&by_config, "null");
	check_withdrawal(&by_config, "7200"); /* the provider may shorten it only */
}

/* The refresh brings a token under a new key, while the keys can't be fetched. */
static void check_late_keys(const struct th_config *config, bool is_jwt, int id_token_ttl)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	struct th_host *host;
	char *current;
	char *bearer;
	char *again = NULL;

	(void)reset_with_a_key(NULL);
	th_control(provider, "{'set':{'id_token_ttl':%d}}", id_token_ttl);
	host = th_host_new(provider, config);
	th_must_link(host, provider, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, &info);
	th_check(is_jwt == (jwt_time(bearer, "exp") != 0), "another kind of bearer");
	th_advance(host, provider, 50 * MINUTE_MS);
	th_control(provider, "{'rotate_key':{}}");
	th_script(provider, "jwks", NULL, -1, "{'status':503,'body':'busy'}");
	same("old bearer", ask(host, "ana", AHEAD_MS, &again, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(again, bearer) == 0, "a bearer was served whose id_token was not checked");
	free(again);
	current = th_grant_current(provider, -1);
	same("kept", th_grant_generation(provider, -1), 2);
	seen = look(host, "ana");
	same("kept", seen.generation, 2);
	same("kept", seen.bearer_expires_at_ms, info.expires_at_ms);
	same("kept", seen.state, ACCTLINK_STATE_STALE);
	same("kept", seen.reason, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
	same("one event", events(host, "STALE", "ana"), 1);
	th_host_restart(host);
	th_advance(host, provider, 5 * MINUTE_MS);
	same("old bearer", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, 5 * MINUTE_MS + 1000);
	same("it has ended", denied(host, "ana", &err), ACCTLINK_PROVIDER_DOWN);
	th_check(strstr(err.message, "JWKS") != NULL || strstr(err.message, "keys") != NULL,
		"the error does not tell of the keys: %s", err.message);
	same("no other refresh", refreshes(), 1);
	th_unscript(provider);
	th_advance(host, provider, MINUTE_MS);
	same("the keys are back", served(host, "ana", 0), 2);
	same("no other refresh", refreshes(), 1);
	state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, 2);
	same("one event", events(host, "STALE", "ana"), 1);
	same("one event", events(host, "HEALED", "ana"), 1);
	th_advance(host, provider, HOUR_MS);
	same("next", served(host, "ana", 0), 3);
	th_check(last_token_is(current), "the rotated refresh token was not kept");
	same("arrivals", th_max_arrivals(provider), 1);
	free(current);
	free(bearer);
	th_host_free(&host);
}

static void a_refresh_whose_keys_come_late_is_kept_and_checked_later(void **state)
{
	(void)state;
	check_late_keys(&id_bearer, true, 3600);
	check_late_keys(&access_bearer, false, 3600);
	check_late_keys(&access_bearer, false, 60); /* it was good when it came */
}

static void keys_that_come_back_in_time_replace_the_old_bearer_early(void **state)
{
	struct th_host *host = th_host_new(provider, &id_bearer);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 40 * MINUTE_MS);
	th_control(provider, "{'rotate_key':{}}");
	th_script(provider, "jwks", NULL, 1, "{'status':503,'body':'busy'}");
	same("old", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, MINUTE_MS + 1000);
	same("new", served(host, "ana", AHEAD_MS), 2);
	same("refreshes", refreshes(), 1);
	same("fetches", key_fetches(), 3);
	th_host_free(&host);
}

/* ---- clocks apart ------------------------------------------------------------------------ */

/* exp is checked with the same tolerance, and the provider counts whole seconds:
 * "just inside" leaves three of them. */
static const struct skew {
	const char *claim;
	int seconds; /* from the provider's clock */
	bool accepted;
} skews[] = { { "iat", 1, true }, { "iat", 30, true }, { "iat", 297, true }, { "iat", 310, false },
	{ "iat", 900, false }, { "nbf", 1, true }, { "nbf", 30, true }, { "nbf", 297, true }, { "nbf", 310, false },
	{ "nbf", 900, false }, { "exp", -1, true }, { "exp", -297, true }, { "exp", -310, false },
	{ "exp", -900, false } };
enum { SKEWS = sizeof(skews) / sizeof(skews[0]) };

static char *skew_user(const struct skew *skew)
{
	return th_printf("%s %+d s", skew->claim, skew->seconds);
}

static void clocks_may_differ_by_the_tolerance_at_a_refresh(void **state)
{
	struct th_host *host = th_host_new(provider, &access_bearer);
	size_t refused = 0;
	size_t i;

	(void)state;
	for (i = 0; i < SKEWS; i++) {
		char *user = skew_user(&skews[i]);

		th_must_link(host, provider, user, NULL, NULL);
		free(user);
	}
	th_advance(host, provider, 45 * MINUTE_MS);
	for (i = 0; i < SKEWS; i++) {
		char *user = skew_user(&skews[i]);

		th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims_in':{'%s':%d}}}", skews[i].claim,
			skews[i].seconds);
		same(user, served(host, user, AHEAD_MS), skews[i].accepted ? 2 : 1);
		state_is(host, user, skews[i].accepted ? ACCTLINK_STATE_LINKED : ACCTLINK_STATE_STALE,
			skews[i].accepted ? ACCTLINK_REASON_NONE : ACCTLINK_REASON_ID_TOKEN_UNCHECKED, 2);
		refused += !skews[i].accepted;
		same(user, th_lines_count(host->logs, "our clock"), refused);
		free(user);
	}
	th_advance(host, provider, 16 * MINUTE_MS);
	for (i = 0; i < SKEWS; i++) { /* no refused token took a refresh token with it */
		char *user = skew_user(&skews[i]);

		same(user, served(host, user, AHEAD_MS), skews[i].accepted ? 2 : 3);
		free(user);
	}
	same("arrivals", th_max_arrivals(provider), 1);
	th_host_free(&host);
}

static void clocks_may_differ_by_the_tolerance_at_the_exchange(void **state)
{
	struct th_host *host = th_host_new(provider, &access_bearer);
	size_t i;

	(void)state;
	for (i = 0; i < SKEWS; i++) {
		char *user = skew_user(&skews[i]);
		acctlink_error err = { 0 };

		th_script(provider, "token", "authorization_code", 1, "{'id_token':{'claims_in':{'%s':%d}}}",
			skews[i].claim, skews[i].seconds);
		same(user, th_link(host, provider, user, NULL, NULL, &err),
			skews[i].accepted ? ACCTLINK_OK : ACCTLINK_BAD_PROVIDER);
		if (!skews[i].accepted)
			th_check(
				strstr(err.message, "our clock") != NULL && strstr(err.message, skews[i].claim) != NULL,
				"%s: the error does not show both times: %s", user, err.message);
		free(user);
	}
	th_host_free(&host);
}

static void the_tolerance_is_configurable(void **state)
{
	const struct th_config strict = { .provider_lines = "clock_skew = 10;" };
	struct th_host *host = th_host_new(provider, &strict);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims_in':{'iat':30}}}");
	same("30 s", served(host, "ana", AHEAD_MS), 1);
	th_advance(host, provider, 8 * MINUTE_MS); /* most of what was left */
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims_in':{'iat':8}}}");
	same("8 s", served(host, "ana", AHEAD_MS), 3);
	th_host_free(&host);
}

static void the_tolerance_never_prolongs_a_bearer(void **state)
{
	struct th_host *host = th_host_new(provider, &id_bearer);
	acctlink_inspect_result seen;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	seen = look(host, "ana");
	th_provider_down(provider, true);
	advance_past(host, seen.bearer_expires_at_ms, -2000);
	same("its last seconds", served(host, "ana", 0), 1);
	advance_past(host, seen.bearer_expires_at_ms, 0);
	same("its end", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	th_provider_down(provider, false);
	th_advance(host, provider, MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims_in':{'exp':-1}}}");
	same("ended when it came", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
	same("ended when it came", look(host, "ana").generation, 2);
	th_advance(host, provider, MINUTE_MS);
	same("the next", served(host, "ana", 0), 3);
	th_host_free(&host);
}

/* ---- time zones ----------------------------------------------------------------------------- */

struct zones {
	const char *config_path;
	const char *zone;
	struct th_clock *clock;
	int64_t *ends_at; /* shared: as the first process saw it */
	int64_t *due_at;
	uint64_t wanted; /* generation */
};

static struct th_host *open_in_zone(const struct zones *zones)
{
	th_check(setenv("TZ", zones->zone, 1) == 0, "setenv");
	tzset();
	return th_host_open(zones->config_path, zones->clock);
}

static int link_in_zone(void *ctx)
{
	const struct zones *zones = ctx;
	struct th_host *host = open_in_zone(zones);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	th_must_link(host, provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, &info));
	*zones->ends_at = info.expires_at_ms;
	*zones->due_at = look(host, "ana").next_refresh_at_ms;
	th_host_free(&host);
	return 0;
}

static int read_in_zone(void *ctx)
{
	const struct zones *zones = ctx;
	struct th_host *host = open_in_zone(zones);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	same(zones->zone, look(host, "ana").bearer_expires_at_ms, *zones->ends_at);
	same(zones->zone, look(host, "ana").next_refresh_at_ms, *zones->due_at);
	free(th_must_bearer(host, "ana", NULL, &info));
	same(zones->zone, info.expires_at_ms, *zones->ends_at);
	same(zones->zone, info.generation, zones->wanted);
	same(zones->zone, look(host, "ana").claim, ACCTLINK_CLAIM_NONE);
	th_host_free(&host);
	return 0;
}

static int ask_in_zone(void *ctx)
{
	const struct zones *zones = ctx;
	struct th_host *host = open_in_zone(zones);

	same(zones->zone, served(host, "ana", 0), zones->wanted);
	th_wait_count(provider, "token", "refresh_token", 1);
	th_host_free(&host); /* lets the refresh end */
	return 0;
}

static void in_zone(const char *zone, int (*run)(void *ctx), struct zones *zones)
{
	zones->zone = zone;
	th_join(th_fork(run, zones), 60000);
}

static void advance_both(struct zones *zones, int64_t ms)
{
	th_clock_advance(zones->clock, ms);
	th_provider_advance(provider, ms);
}

/* 2027-03-14 05:30 UTC: half past one becomes three in Newfoundland. */
static void stored_times_mean_the_same_instant_in_every_time_zone(void **state)
{
	static const char *const west = "America/St_Johns";
	static const char *const east = "Pacific/Auckland";
	int64_t *shared = mmap(NULL, 2 * sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, &id_bearer);
	struct zones zones = {
		.config_path = path, .clock = th_clock_new(), .ends_at = shared, .due_at = shared + 1, .wanted = 1
	};

	(void)state;
	th_check(shared != MAP_FAILED, "mmap");
	advance_both(&zones, INT64_C(1805000400000) - th_clock_wall_ms(zones.clock));
	in_zone(west, link_in_zone, &zones);
	in_zone(east, read_in_zone, &zones);
	advance_both(&zones, *zones.ends_at - 35000 - th_clock_wall_ms(zones.clock));
	in_zone(east, read_in_zone, &zones); /* 35 s left: not due */
	in_zone(west, read_in_zone, &zones);
	same("not due", refreshes(), 0);
	advance_both(&zones, *zones.ends_at - 25000 - th_clock_wall_ms(zones.clock));
	in_zone(east, ask_in_zone, &zones); /* 25 s left: served, and replaced behind its back */
	same("due", refreshes(), 1);
	zones.wanted = 2;
	in_zone(west, ask_in_zone, &zones);
	same("due", refreshes(), 1);
	th_clock_free(&zones.clock);
	munmap(shared, 2 * sizeof(*shared));
	free(path);
	free(dir);
}

/* ---- id_tokens that must not be believed --------------------------------------------------------- */

static const struct forged {
	const char *what;
	const char *script; /* of id_token */
} forgeries[] = { { "another issuer", "{'claims':{'iss':'https://evil.example'}}" },
	{ "the issuer with a slash", "{'claims':{'iss':'{{issuer}}/'}}" }, { "no issuer", "{'claims':{'iss':null}}" },
	{ "another issuer and another subject", "{'claims':{'iss':'https://evil.example','sub':'eve'}}" },
	{ "no subject", "{'claims':{'sub':null}}" }, { "an empty subject", "{'claims':{'sub':''}}" },
	{ "a subject that is a number", "{'claims':{'sub':7}}" }, { "no audience", "{'claims':{'aud':null}}" },
	{ "another audience", "{'claims':{'aud':'sister-client'}}" },
	{ "an audience that only begins with ours", "{'claims':{'aud':'test-client,sister-client'}}" },
	{ "audiences without us", "{'claims':{'aud':['sister-client','test']}}" },
	{ "audiences with us, for another party",
		"{'claims':{'aud':['test-client','sister-client'],'azp':'sister-client'}}" },
	{ "audiences with us, for nobody", "{'claims':{'aud':['test-client','sister-client']}}" },
	{ "our audience, for another party", "{'claims':{'azp':'sister-client'}}" },
	{ "an empty list of audiences", "{'claims':{'aud':[]}}" },
	{ "another nonce", "{'claims':{'nonce':'another'}}" },
	{ "another time of sign-in", "{'claims_in':{'auth_time':-77777}}" },
	{ "another access_token", "{'claims':{'at_hash':'AAAAAAAAAAAAAAAAAAAAAA'}}" },
	{ "no expiry", "{'claims':{'exp':null}}" }, { "alg none", "{'sign':'none'}" },
	{ "alg None", "{'sign':'none','header':{'alg':'None'}}" }, { "no alg", "{'header':{'alg':null}}" },
	{ "HS256 over the PEM of the public key", "{'sign':'hs256_pem'}" },
	{ "HS256 over the DER of the public key", "{'sign':'hs256_der'}" },
	{ "the key of somebody else", "{'sign':'wrong_key'}" }, { "one bit of the signature", "{'sign':'broken'}" },
	{ "an extra part", "{'suffix':'.AAAA'}" }, { "a signature that is cut", "{'suffix':'A'}" },
	{ "no JWT", "{'raw':'opaque'}" } };

static char *with_issuer(const char *script)
{
	static const char mark[] = "{{issuer}}";
	const char *at = strstr(script, mark);

	return at == NULL ? th_printf("%s", script)
			  : th_printf("%.*s%s%s", (int)(at - script), script, provider->issuer, at + strlen(mark));
}

static void check_forgery(struct th_host *host, const struct forged *forged, size_t number)
{
	char *user = th_printf("user-%zu", number);
	char *script = with_issuer(forged->script);
	acctlink_inspect_result seen;
	char *bearer;
	char *again = NULL;
	char *current;

	th_must_link(host, provider, user, NULL, NULL);
	bearer = th_must_bearer(host, user, NULL, NULL);
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "{'id_token':%s}", script);
	same(forged->what, ask(host, user, AHEAD_MS, &again, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(again, bearer) == 0, "%s: its bearer was handed out", forged->what);
	free(again);
	current = th_grant_current(provider, -1);
	seen = look(host, user);
	same(forged->what, seen.state, ACCTLINK_STATE_STALE);
	same(forged->what, seen.reason, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
	same(forged->what, seen.generation, 2);
	th_check(strcmp(seen.last_error, "id_token_refused") == 0, "%s: last_error is %s", forged->what,
		seen.last_error);
	same(forged->what, events(host, "STALE", user), 1);
	same(forged->what, th_lines_count(host->logs, "is refused: "), number + 1);
	th_advance(host, provider, 8 * MINUTE_MS); /* most of what was left */
	same(forged->what, served(host, user, AHEAD_MS), 3);
	th_check(last_token_is(current), "%s: the rotated refresh token was not kept", forged->what);
	same(forged->what, events(host, "HEALED", user), 1);
	same(forged->what, events(host, "RELINK_REQUIRED", NULL), 0);
	free(current);
	free(script);
	free(bearer);
	free(user);
}

static void a_forged_id_token_is_never_handed_out_and_the_next_one_heals(void **state)
{
	const struct th_config *configs[] = { &id_bearer, &access_bearer };
	size_t c;
	size_t i;

	(void)state;
	for (c = 0; c < 2; c++) {
		struct th_host *host;

		(void)reset_with_a_key(NULL);
		host = th_host_new(provider, configs[c]);
		for (i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++)
			check_forgery(host, &forgeries[i], i);
		same("arrivals", th_max_arrivals(provider), 1);
		th_host_free(&host);
	}
}

static void id_tokens_in_every_allowed_form_are_taken(void **state)
{
	static const struct forged allowed[] = { { "a list of us", "{'claims':{'aud':['test-client']}}" },
		{ "a list with us, for us", "{'claims':{'aud':['sister-client','test-client'],'azp':'test-client'}}" },
		{ "our audience, for us", "{'claims':{'azp':'test-client'}}" },
		{ "no at_hash", "{'claims':{'at_hash':null}}" },
		{ "no time of sign-in", "{'claims':{'auth_time':null}}" }, { "no key id", "{'header':{'kid':null}}" },
		{ "PS256", "{'alg':'PS256'}" }, { "ES256", "{'alg':'ES256'}" }, { "EdDSA", "{'alg':'EdDSA'}" },
		{ "more claims", "{'claims':{'x':{'y':[1,null]},'amr':['pwd']}}" } };
	struct th_host *host = th_host_new(provider, &id_bearer);
	size_t i;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	for (i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", 1, "{'id_token':%s}", allowed[i].script);
		same(allowed[i].what, served(host, "ana", 0), i + 2);
	}
	same("refused", th_lines_count(host->logs, "is refused"), 0);
	th_control(provider, "{'set':{'refresh_nonce':true}}");
	th_advance(host, provider, HOUR_MS + 1000);
	same("with the first one's nonce", served(host, "ana", 0), i + 2);
	th_host_free(&host);
}

static void check_subject_change(const struct th_config *config)
{
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	struct th_host *host;
	char *bearer;
	char *again = NULL;
	char *current;
	char *revoked;
	int step;

	(void)reset_with_a_key(NULL);
	host = th_host_new(provider, config);
	th_must_link(host, provider, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	seen = look(host, "ana");
	th_advance(host, provider, 45 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", -1, "{'id_token':{'claims':{'sub':'eve'}}}");
	for (step = 0; step < 8; step++) {
		same("old bearer", ask(host, "ana", AHEAD_MS, &again, NULL, NULL), ACCTLINK_OK);
		th_check(strcmp(again, bearer) == 0, "the other subject's bearer was handed out");
		free(again);
		th_advance(host, provider, MINUTE_MS);
		if (step == 3)
			th_host_restart(host);
	}
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_SUBJECT_CHANGED, 1);
	same("one refresh", refreshes(), 1);
	current = th_grant_current(provider, -1);
	th_wait_count(provider, "revoke", NULL, 2); /* the refresh token first, then the access token */
	revoked = th_request(provider, "revoke", 1, "token");
	th_check(strcmp(revoked, current) == 0, "another token was revoked first");
	same("revoked", th_grant_alive(provider, -1), false);
	advance_past(host, seen.bearer_expires_at_ms, 1);
	same("ended", denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED);
	th_check(strstr(err.message, "subject") != NULL, "the error does not tell of the subject: %s", err.message);
	th_advance(host, provider, HOUR_MS);
	same("ended", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	same("one event", events(host, "RELINK_REQUIRED", "ana"), 1);
	same("one refresh", refreshes(), 1);
	free(revoked);
	free(current);
	free(bearer);
	th_host_free(&host);
}

static void another_subject_at_a_refresh_ends_the_link_and_is_revoked(void **state)
{
	(void)state;
	check_subject_change(&id_bearer);
	check_subject_change(&access_bearer);
}

static void another_subject_is_noticed_also_when_the_keys_come_late(void **state)
{
	struct th_host *host = th_host_new(provider, &id_bearer);

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 45 * MINUTE_MS);
	th_control(provider, "{'rotate_key':{}}");
	th_script(provider, "jwks", NULL, 1, "{'status':503,'body':'busy'}");
	th_script(provider, "token", "refresh_token", 1, "{'id_token':{'claims':{'sub':'eve'}}}");
	same("unchecked", served(host, "ana", AHEAD_MS), 1);
	same("unchecked", look(host, "ana").generation, 2);
	th_advance(host, provider, MINUTE_MS + 1000);
	same("checked", served(host, "ana", AHEAD_MS), 1);
	state_is(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_SUBJECT_CHANGED, 2);
	th_wait_count(provider, "revoke", NULL, 2);
	same("revoked", th_grant_alive(provider, -1), false);
	th_advance(host, provider, 15 * MINUTE_MS);
	same("ended", denied(host, "ana", NULL), ACCTLINK_RELINK_REQUIRED);
	same("one event", events(host, "RELINK_REQUIRED", "ana"), 1);
	th_host_free(&host);
}

/* ---- id_tokens that don't come --------------------------------------------------------------------- */

static void an_access_token_as_bearer_needs_no_id_token_at_a_refresh(void **state)
{
	struct th_host *host = th_host_new(provider, &access_bearer);
	uint64_t generation;
	char *bearer;

	(void)state;
	th_control(provider, "{'set':{'id_token':'first'}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	for (generation = 2; generation <= 4; generation++) {
		th_advance(host, provider, HOUR_MS + 1000);
		bearer = th_must_bearer(host, "ana", NULL, NULL);
		th_check(
			jwt_time(bearer, "exp") == 0 && th_userinfo(provider, bearer) == 200, "another kind of bearer");
		free(bearer);
		state_is(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, generation);
	}
	same("arrivals", th_max_arrivals(provider), 1);
	th_host_free(&host);
}

static void a_missing_id_token_is_not_replaced_by_the_access_token(void **state)
{
	struct th_host *host = th_host_new(provider, &id_bearer);
	acctlink_inspect_result seen;
	acctlink_error err = { 0 };
	char *bearer;
	char *again = NULL;
	char *current;

	(void)state;
	th_control(provider, "{'set':{'id_token':'first'}}");
	th_must_link(host, provider, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	seen = look(host, "ana");
	th_advance(host, provider, 55 * MINUTE_MS);
	same("good", ask(host, "ana", AHEAD_MS, &again, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(again, bearer) == 0, "another bearer was served");
	free(again);
	state_is(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_NO_ID_TOKEN, 2);
	same("good", look(host, "ana").bearer_expires_at_ms, seen.bearer_expires_at_ms);
	current = th_grant_current(provider, -1);
	th_host_restart(host);
	advance_past(host, seen.bearer_expires_at_ms, -2000);
	same("to its end", ask(host, "ana", 0, &again, NULL, NULL), ACCTLINK_OK);
	th_check(strcmp(again, bearer) == 0, "another bearer was served");
	free(again);
	advance_past(host, seen.bearer_expires_at_ms, 1000);
	same("ended", denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED);
	th_check(strstr(err.message, "id_token") != NULL, "the error does not name the id_token: %s", err.message);
	same("ended", look(host, "ana").reason, ACCTLINK_REASON_NO_ID_TOKEN);
	same("ended", look(host, "ana").state, ACCTLINK_STATE_RELINK_REQUIRED);
	same("one event", events(host, "RELINK_REQUIRED", "ana"), 1);
	same("arrivals", th_max_arrivals(provider), 1);
	th_check(th_grant_alive(provider, -1), "the grant is dead");
	th_control(provider, "{'set':{'id_token':'always'}}");
	th_advance(host, provider, MINUTE_MS);
	same("it comes again", ask(host, "ana", 0, &again, NULL, NULL), ACCTLINK_OK);
	th_check(jwt_time(again, "exp") != 0 && th_userinfo(provider, again) == 200, "another kind of bearer");
	free(again);
	same("healed", look(host, "ana").state, ACCTLINK_STATE_LINKED);
	same("healed", events(host, "HEALED", "ana"), 1);
	same("arrivals", th_max_arrivals(provider), 1);
	free(current);
	free(bearer);
	th_host_free(&host);
}

/* ---- access tokens that are JWTs ---------------------------------------------------------------------- */

static void an_access_token_that_tells_its_end_is_not_served_after_it(void **state)
{
	static const struct {
		const char *expires_in;
		int exp;
		int wanted; /* seconds */
	} rows[] = { { "3600", 600, 600 }, { "null", 600, 600 }, { "0", 600, 600 }, { "3600", 7200, 3600 } };
	struct th_host *host = th_host_new(provider, &access_bearer);
	size_t i;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
		char *bearer = NULL;
		int64_t now;

		th_advance(host, provider, 2 * HOUR_MS);
		now = th_clock_wall_ms(host->clock);
		th_script(provider, "token", "refresh_token", 1,
			"{'id_token':{'claims_in':{'exp':%d}},"
			"'body':'{\\'access_token\\':\\'{{id_token}}\\',\\'refresh_token\\':\\'{{refresh_token}}\\',"
			"\\'expires_in\\':%s}'}",
			rows[i].exp, rows[i].expires_in);
		same("served", ask(host, "ana", 0, &bearer, &info, NULL), ACCTLINK_OK);
		th_check(jwt_time(bearer, "exp") != 0, "no JWT was served");
		if (rows[i].wanted == rows[i].exp)
			same(rows[i].expires_in, info.expires_at_ms, jwt_time(bearer, "exp") * 1000);
		else
			th_check(info.expires_at_ms >= now + rows[i].wanted * 1000
					&& info.expires_at_ms <= th_clock_wall_ms(host->clock) + rows[i].wanted * 1000,
				"it ends at another time");
		free(bearer);
		th_provider_down(provider, true);
		advance_past(host, info.expires_at_ms, -2000);
		same("its last seconds", served(host, "ana", 0), i + 2);
		advance_past(host, info.expires_at_ms, 0);
		same("its end", denied(host, "ana", NULL), ACCTLINK_PROVIDER_DOWN);
		th_provider_down(provider, false);
	}
	th_host_free(&host);
}

static void an_access_token_with_dots_is_no_jwt(void **state)
{
	static const char *const tokens[] = { "a.b.c", "...", "eyJhbGciOiJub25lIn0.W10.", "eyJ.eyJleHAiOiJzb29uIn0.x" };
	struct th_host *host = th_host_new(provider, &access_bearer);
	size_t i;

	(void)state;
	th_must_link(host, provider, "ana", NULL, NULL);
	for (i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
		acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
		char *bearer = NULL;

		th_advance(host, provider, HOUR_MS + 1000);
		th_script(provider, "token", "refresh_token", 1, "{'set':{'access_token':'%s','id_token':null}}",
			tokens[i]);
		same(tokens[i], ask(host, "ana", 0, &bearer, &info, NULL), ACCTLINK_OK);
		assert_string_equal(bearer, tokens[i]);
		th_check(info.expires_at_ms - th_clock_wall_ms(host->clock) > 3590 * 1000,
			"%s: its end was read from it", tokens[i]);
		free(bearer);
	}
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = { key_test(a_new_signing_key_costs_one_fetch),
		key_test(a_new_key_under_an_old_name_costs_one_fetch), key_test(unknown_key_ids_do_not_drive_fetches),
		key_test(a_withdrawn_key_is_trusted_no_longer_than_its_keys_live),
		key_test(a_refresh_whose_keys_come_late_is_kept_and_checked_later),
		key_test(keys_that_come_back_in_time_replace_the_old_bearer_early),
		key_test(clocks_may_differ_by_the_tolerance_at_a_refresh),
		key_test(clocks_may_differ_by_the_tolerance_at_the_exchange), key_test(the_tolerance_is_configurable),
		key_test(the_tolerance_never_prolongs_a_bearer),
		key_test(stored_times_mean_the_same_instant_in_every_time_zone),
		key_test(a_forged_id_token_is_never_handed_out_and_the_next_one_heals),
		key_test(id_tokens_in_every_allowed_form_are_taken),
		key_test(another_subject_at_a_refresh_ends_the_link_and_is_revoked),
		key_test(another_subject_is_noticed_also_when_the_keys_come_late),
		key_test(an_access_token_as_bearer_needs_no_id_token_at_a_refresh),
		key_test(a_missing_id_token_is_not_replaced_by_the_access_token),
		key_test(an_access_token_that_tells_its_end_is_not_served_after_it),
		key_test(an_access_token_with_dots_is_no_jwt) };

	return cmocka_run_group_tests_name("id_tokens", tests, start_provider, stop_provider);
}
