/* SPDX-License-Identifier: MIT
 * The judge is judged: each of its rules is broken once in a ledger written by
 * hand, and found; each thing that looks like a breach and is none passes. The
 * stores are real ones, made by a host at a provider.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "judge.h"

#define HOURS(n) (INT64_C(3600) * 1000 * (n))
#define T0 ((int64_t)1700000000000)

/* ---- ledgers by hand ------------------------------------------------------------ */

/* Every ' becomes ". */
static json_object *json_of(const char *fmt, ...) TH_PRINTF(1, 2);
static json_object *json_of(const char *fmt, ...)
{
	va_list args;
	json_object *json;
	char *text;
	char *at;

	va_start(args, fmt);
	text = th_vprintf(fmt, args);
	va_end(args);
	for (at = text; *at != '\0'; at++) {
		if (*at == '\'')
			*at = '"';
	}
	json = json_tokener_parse(text);
	th_check(json != NULL, "no JSON: %s", text);
	free(text);
	return json;
}

static json_object *new_book(void)
{
	return json_of("{'requests':[],'grants':[],'tokens':[],'counts':{},'arrivals':{},'starts':[],'first':0}");
}

static json_object *list_of(json_object *book, const char *name)
{
	return json_object_object_get(book, name);
}

#define add(book, list, ...) json_object_array_add(list_of(book, list), json_of(__VA_ARGS__))

static void set(json_object *object, const char *name, json_object *value)
{
	json_object_object_add(object, name, value);
}

static json_object *request_n(json_object *book, int n)
{
	json_object *list = list_of(book, "requests");
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		json_object *request = json_object_array_get_idx(list, i);

		if (json_object_get_int(json_object_object_get(request, "n")) == n)
			return request;
	}
	th_fail("there is no request %d", n);
}

static void drop_request(json_object *book, int n)
{
	json_object *list = list_of(book, "requests");
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		if (json_object_array_get_idx(list, i) == request_n(book, n)) {
			json_object_array_del_idx(list, i, 1);
			return;
		}
	}
}

static json_object *grant_n(json_object *book, int n)
{
	return json_object_array_get_idx(list_of(book, "grants"), (size_t)n);
}

static void add_grant(json_object *book, int n, const char *who, const char *current, const char *ended_why)
{
	add(book, "grants",
		"{'n':%d,'sub':'sub-%s','client':'test-client','connector':'%s','alive':%s,'ended_why':%s%s%s,"
		"'generation':1,'current':'%s','spent':[]}",
		n, who, who, ended_why == NULL ? "true" : "false", ended_why != NULL ? "'" : "",
		ended_why != NULL ? ended_why : "null", ended_why != NULL ? "'" : "", current);
}

static void add_refresh_token(json_object *book, const char *hash, int grant, int spent_by)
{
	add(book, "tokens", "{'hash':'%s','kind':'refresh','grant':%d,'issued_at':1,'ends_at':0,'issued_by':0%s}", hash,
		grant, spent_by < 0 ? "" : ",'spent_at':1,'spent_by':0");
}

/* what: members of its outcome. */
static void add_request(json_object *book, int n, int64_t at, const char *grant, const char *token, const char *what)
{
	add(book, "requests",
		"{'n':%d,'at':%lld,'ended_at':%lld,'method':'POST','endpoint':'token','grant':'%s','token':'%s',"
		"'client':'test-client','arrived_complete':true,'remote_port':%d,%s}",
		n, (long long)at, (long long)at, grant, token, 40000 + n, what);
}

/* The code is named after the refresh token that it brings. */
static void add_exchange(json_object *book, int n, int64_t at, int grant, const char *refresh_token)
{
	char *what = th_printf(
		"'status':200,'spent':true,'grant_n':%d,'outcome':'answered','carried':{'refresh_token':'%s',"
		"'access_token':'bearer-%s','expires_in':3600}",
		grant, refresh_token, refresh_token);
	char *code = th_printf("code-%s", refresh_token);

	add(book, "tokens", "{'hash':'%s','kind':'code','grant':%d,'issued_by':-1}", code, grant);
	add_request(book, n, at, "authorization_code", code, what);
	free(code);
	free(what);
}

/* how: of the outcome, e.g. "'outcome':'cut'". */
static void add_refresh(json_object *book, int n, int64_t at, const char *sent, const char *brought, const char *how)
{
	char *what = th_printf(
		"'status':200,'spent':true,%s,'carried':{'refresh_token':'%s','access_token':'bearer-%s',"
		"'expires_in':3600}",
		how, brought, brought);

	add_request(book, n, at, "refresh_token", sent, what);
	free(what);
}

static void add_failure(json_object *book, int n, int64_t at, const char *sent, int status, const char *error)
{
	char *what = th_printf("'status':%d,'spent':false,'outcome':'answered','carried':{%s%s%s}", status,
		error != NULL ? "'error':'" : "", error != NULL ? error : "", error != NULL ? "'" : "");

	add_request(book, n, at, "refresh_token", sent, what);
	free(what);
}

#define ANSWERED "'outcome':'answered'"
#define CUT "'outcome':'cut','carried_whole':'no'"
#define GONE "'outcome':'gone'"

/* One grant, linked at T0, with one refresh token. */
static json_object *book_of_one(void)
{
	json_object *book = new_book();

	add_grant(book, 0, "one", "t2", NULL);
	add_refresh_token(book, "t1", 0, 1);
	add_refresh_token(book, "t2", 0, -1);
	add_exchange(book, 0, T0, 0, "t1");
	return book;
}

/* ---- verdicts ------------------------------------------------------------------------ */

static void judge_book(json_object *book, const char *const *configs, const char *flags, struct th_verdict *verdict)
{
	char *dir = th_temp_dir();
	char *path = th_printf("%s/ledger.json", dir);

	th_write_file(path, 0600, json_object_to_json_string(book));
	th_judge_run(path, configs, flags, verdict);
	json_object_put(book);
	free(path);
	free(dir);
}

/* Takes book. Both parts must be in what the judge prints; NULL: any. */
static void judged(json_object *book, const char *const *configs, const char *flags, int exit_code, const char *part,
	const char *more)
{
	struct th_verdict verdict;

	judge_book(book, configs, flags, &verdict);
	th_check(verdict.exit_code == exit_code, "exit code %d, not %d:\n%s", verdict.exit_code, exit_code,
		verdict.text);
	th_check(part == NULL || strstr(verdict.text, part) != NULL, "\"%s\" is not in:\n%s", part, verdict.text);
	th_check(more == NULL || strstr(verdict.text, more) != NULL, "\"%s\" is not in:\n%s", more, verdict.text);
	th_verdict_clear(&verdict);
}

static void passes(json_object *book)
{
	judged(book, NULL, NULL, 0, "all is well", NULL);
}

static void breaks(json_object *book, const char *rule, const char *words)
{
	judged(book, NULL, NULL, 1, rule, words);
}

/* ---- once -------------------------------------------------------------------------------- */

static void a_chain_of_refreshes_passes(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + HOURS(1), "t1", "t2", ANSWERED);
	add_refresh(book, 2, T0 + HOURS(2), "t2", "t3", ANSWERED);
	passes(book);
}

static void a_code_that_arrives_twice_is_found(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_request(book, 1, T0 + 5, "authorization_code", "code-t1",
		"'status':400,'outcome':'answered','carried':{'error':'invalid_grant'}");
	breaks(book, "VIOLATION once", "code code-t1 arrived again with request 1");
}

static void a_code_is_never_resent_even_after_an_unknown_outcome(void **state)
{
	json_object *book = new_book();

	(void)state;
	add(book, "tokens", "{'hash':'code-x','kind':'code','issued_by':-1}");
	add_request(book, 0, T0, "authorization_code", "code-x", "'status':500,'outcome':'answered','carried':{}");
	add_request(book, 1, T0 + 5, "authorization_code", "code-x", "'status':500,'outcome':'answered','carried':{}");
	breaks(book, "VIOLATION once", "code code-x");
}

/* Anybody can send a browser back with any code. */
static void a_code_that_was_made_up_may_come_as_often_as_it_likes(void **state)
{
	json_object *book = new_book();
	int n;

	(void)state;
	for (n = 0; n < 3; n++)
		add_request(book, n, T0 + n, "authorization_code", "made-up",
			"'status':400,'outcome':'answered','carried':{'error':'invalid_grant'}");
	passes(book);
}

static void a_token_sent_again_after_its_answer_is_found(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + HOURS(1), "t1", "t2", ANSWERED);
	add_failure(book, 2, T0 + HOURS(9), "t1", 400, "invalid_grant");
	breaks(book, "VIOLATION once", "had been answered with a new one");
}

static void a_token_sent_again_after_its_refusal_is_found(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_failure(book, 1, T0 + HOURS(1), "t1", 400, "invalid_grant");
	add_failure(book, 2, T0 + HOURS(9), "t1", 400, "invalid_grant");
	breaks(book, "VIOLATION once", "after its definite refusal");
}

static void a_resend_while_the_bearer_is_good_is_found(void **state)
{
	static const char *const outcomes[] = { CUT, GONE, "'outcome':'answered','closed':'reset'" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
		json_object *book = book_of_one();

		add_refresh(book, 1, T0 + HOURS(1) - 120000, "t1", "t2", outcomes[i]);
		add_failure(book, 2, T0 + HOURS(1) - 70000, "t1", 400, "invalid_grant");
		breaks(book, "VIOLATION once", "while the bearer was good");
	}
}

static void a_resend_when_the_bearer_ends_passes(void **state)
{
	static const int64_t left_ms[] = { 59000, 1000, 0, -HOURS(10) };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(left_ms) / sizeof(left_ms[0]); i++) {
		json_object *book = book_of_one();

		add_refresh(book, 1, T0 + HOURS(1) - 120000, "t1", "t2", CUT);
		add_refresh(book, 2, T0 + HOURS(1) - left_ms[i], "t1", "t3", ANSWERED);
		judged(book, NULL, NULL, 0, "lost: the spend of request 1, grant 0 (sub-one): cut", "all is well");
	}
}

static void a_short_bearer_leaves_a_tenth_of_its_life_for_a_resend(void **state)
{
	int64_t at;

	(void)state;
	for (at = 260000; at <= 275000; at += 15000) { /* of 300 s */
		json_object *book = book_of_one();

		set(json_object_object_get(request_n(book, 0), "carried"), "expires_in", json_object_new_int(300));
		add_refresh(book, 1, T0 + 240000, "t1", "t2", CUT);
		add_refresh(book, 2, T0 + at, "t1", "t3", ANSWERED);
		judged(book, NULL, NULL, at == 260000 ? 1 : 0,
			at == 260000 ? "while the bearer was good" : "all is well", NULL);
	}
}

static void a_resend_after_the_data_api_refused_the_bearer_passes(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + 1000, "t1", "t2", GONE);
	add(book, "requests",
		"{'n':2,'at':%lld,'endpoint':'api','bearer':'bearer-t1','status':401,'arrived_complete':true}",
		(long long)T0 + 60000);
	add_refresh(book, 3, T0 + 61000, "t1", "t3", ANSWERED);
	passes(book);
}

static void an_api_that_refuses_another_bearer_is_no_reason(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + 1000, "t1", "t2", GONE);
	add(book, "requests",
		"{'n':2,'at':%lld,'endpoint':'api','bearer':'bearer-t0','status':401,'arrived_complete':true}",
		(long long)T0 + 60000);
	add_refresh(book, 3, T0 + 61000, "t1", "t3", ANSWERED);
	breaks(book, "VIOLATION once", "while the bearer was good");
}

static void what_was_turned_away_may_come_again_at_once(void **state)
{
	static const struct {
		int status;
		const char *error;
	} answers[] = { { 503, NULL }, { 429, "invalid_grant" }, { 408, NULL }, { 425, NULL }, { 403, NULL },
		{ 401, "invalid_client" }, { 400, "unsupported_grant_type" } };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		json_object *book = book_of_one();

		add_failure(book, 1, T0 + 1000, "t1", answers[i].status, answers[i].error);
		add_refresh(book, 2, T0 + 3000, "t1", "t2", ANSWERED);
		passes(book);
	}
}

static void what_was_turned_away_after_an_unknown_outcome_still_waits(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + HOURS(1) - 5000, "t1", "t2", CUT);
	add_failure(book, 2, T0 + HOURS(1) - 4000, "t1", 503, NULL);
	add_refresh(book, 3, T0 + HOURS(1) - 3000, "t1", "t3", ANSWERED);
	passes(book);
	book = book_of_one();
	add_failure(book, 1, T0 + 1000, "t1", 502, NULL);
	add_failure(book, 2, T0 + HOURS(1), "t1", 503, NULL);
	add_refresh(book, 3, T0 + HOURS(1) + 1000, "t1", "t3", ANSWERED);
	passes(book);
	book = book_of_one();
	add_failure(book, 1, T0 + 1000, "t1", 503, NULL);
	add_failure(book, 2, T0 + 2000, "t1", 502, NULL);
	add_refresh(book, 3, T0 + 9000, "t1", "t3", ANSWERED);
	breaks(book, "VIOLATION once", "request 3 sent token t1 again");
}

static void two_sends_at_the_same_time_are_found(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_failure(book, 1, T0 + 1000, "t1", 503, NULL);
	set(request_n(book, 1), "ended_at", json_object_new_int64(T0 + 5000));
	add_failure(book, 2, T0 + 3000, "t1", 503, NULL);
	breaks(book, "VIOLATION once", "at the same time");
}

static void a_token_that_is_never_rotated_may_come_at_every_refresh(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	set(grant_n(book, 0), "current", json_object_new_string("t1"));
	add_refresh(book, 1, T0 + 1000, "t1", "t1", ANSWERED);
	add_request(book, 2, T0 + 2000, "refresh_token", "t1",
		"'status':200,'spent':true,'outcome':'answered','carried':{'access_token':'b2','expires_in':3600}");
	add_refresh(book, 3, T0 + 3000, "t1", "t1", ANSWERED);
	passes(book);
}

static void the_bearer_that_counts_is_the_last_that_came(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_request(book, 1, T0 + HOURS(1), "refresh_token", "t1",
		"'status':200,'spent':true,'outcome':'answered','carried':{'access_token':'b2','expires_in':7200}");
	add_refresh(book, 2, T0 + HOURS(2), "t1", "t1", CUT);
	add_refresh(book, 3, T0 + HOURS(2) + 10000, "t1", "t1", ANSWERED);
	breaks(book, "VIOLATION once", "while the bearer was good");
}

static void a_pile_of_refusals_stops_refreshing_so_tokens_come_again(void **state)
{
	json_object *book = new_book();
	int i;

	(void)state;
	for (i = 0; i < 21; i++) {
		char *token = th_printf("t%d", i);

		add_failure(book, i, T0 + i, token, 400, "invalid_grant");
		free(token);
	}
	add_failure(book, 21, T0 + HOURS(1), "t20", 400, "invalid_grant");
	passes(book);
}

static void the_script_may_change_what_a_bearer_is_worth(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	set(request_n(book, 0), "scripted", json_object_new_boolean(1));
	add_refresh(book, 1, T0 + 1000, "t1", "t2", CUT);
	add_refresh(book, 2, T0 + 2000, "t1", "t3", ANSWERED);
	passes(book);
}

static void an_answer_cut_after_its_whole_body_has_arrived(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + HOURS(1), "t1", "t2", "'outcome':'cut','carried_whole':'yes'");
	add_failure(book, 2, T0 + HOURS(3), "t1", 400, "invalid_grant");
	breaks(book, "VIOLATION once", "had been answered with a new one");
}

static void what_a_provider_answered_just_before_it_died_is_unsure(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_refresh(book, 1, T0 + HOURS(1), "t1", "t2", ANSWERED);
	add(book, "starts", "{'n':2,'at':%lld}", (long long)T0 + HOURS(2));
	add_refresh(book, 2, T0 + HOURS(3), "t1", "t3", ANSWERED);
	passes(book);
	book = book_of_one();
	add_refresh(book, 1, T0 + HOURS(1), "t1", "t2", "'outcome':'answered','closed':'close'");
	add(book, "starts", "{'n':2,'at':%lld}", (long long)T0 + HOURS(2));
	add_refresh(book, 2, T0 + HOURS(3), "t1", "t3", ANSWERED);
	breaks(book, "VIOLATION once", "had been answered");
}

static void a_spend_that_answers_500_is_listed_as_lost(void **state)
{
	json_object *book = book_of_one();

	(void)state;
	add_request(book, 1, T0 + 1000, "refresh_token", "t1",
		"'status':500,'spent':true,'outcome':'answered','carried':{}");
	judged(book, NULL, NULL, 0, "lost: the spend of request 1", "HTTP 500");
}

/* ---- real stores ----------------------------------------------------------------------------- */

/* Users, each at an institution of the same name, of one host:
 *   ana   refreshed once
 *   ben   a refresh was answered, and the answer lost
 *   cora  the provider ended the grant, and refused the refresh token
 *   dan   as ben; then the bearer ended and the resend was refused
 *   eva   unlinked
 *   fay   consented twice */
enum who { ANA, BEN, CORA, DAN, EVA, FAY, FAY_AGAIN, EVERYBODY };
static const char *const names[] = { "ana", "ben", "cora", "dan", "eva", "fay", "fay" };

static struct world {
	struct th_provider *provider;
	struct th_host *host;
	const char *configs[2];
	char *first[EVERYBODY];  /* hash of the refresh token of the consent */
	char *second[EVERYBODY]; /* of the one after, if the provider made one */
	char *bearer;            /* of ana */
} world;

static char *sha256_of(const char *text)
{
	unsigned char digest[32];
	char *hex = calloc(1, 65);
	size_t i;

	th_check(hex != NULL && EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) == 1, "SHA-256");
	for (i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return hex;
}

static void link_one(enum who who)
{
	th_must_link(world.host, world.provider, names[who], names[who], NULL);
	world.first[who] = th_grant_current(world.provider, (int)who);
}

/* Each asks once, when all bearers have ended; how: for th_script, or NULL. */
static acctlink_status ask(enum who who, const char *how, char **bearer)
{
	if (how != NULL)
		th_script(world.provider, "token", "refresh_token", 1, "%s", how);
	return th_bearer(world.host, names[who], names[who], bearer, NULL, NULL);
}

static void live_through_it(void)
{
	char *bearer = NULL;
	int i;

	for (i = 0; i < EVERYBODY; i++)
		link_one((enum who)i);
	th_check(th_unlink(world.host, "eva", "eva", NULL, NULL) == ACCTLINK_OK, "unlink");
	th_control(world.provider, "{'kill_grant':%d}", CORA);
	th_advance(world.host, world.provider, HOURS(1) + 1000);
	th_check(ask(ANA, NULL, &bearer) == ACCTLINK_OK, "ana's bearer");
	world.bearer = sha256_of(bearer);
	free(bearer);
	th_check(ask(BEN, "{'cut':'before_answer'}", &bearer) == ACCTLINK_PROVIDER_DOWN, "ben's bearer");
	th_check(ask(CORA, NULL, &bearer) == ACCTLINK_RELINK_REQUIRED, "cora's bearer");
	th_check(ask(DAN, "{'cut':'before_answer'}", &bearer) == ACCTLINK_PROVIDER_DOWN, "dan's bearer");
	for (i = 0; i < EVERYBODY; i++)
		world.second[i] = th_grant_current(world.provider, i);
	th_advance(world.host, world.provider, HOURS(1));
	th_check(ask(DAN, NULL, &bearer) == ACCTLINK_RELINK_REQUIRED, "dan's resend");
}

static int make_world(void **state)
{
	static const struct th_config config = { .provider_lines = "institution_parameter = 'connector';" };

	(void)state;
	world.provider = th_provider_start(TH_PRACTICE, NULL);
	world.host = th_host_new(world.provider, &config);
	world.configs[0] = world.host->config_path;
	live_through_it();
	return 0;
}

static int end_world(void **state)
{
	int i;

	(void)state;
	th_host_free(&world.host);
	th_provider_stop(&world.provider);
	for (i = 0; i < EVERYBODY; i++) {
		free(world.first[i]);
		free(world.second[i]);
	}
	free(world.bearer);
	return 0;
}

/* What the provider saw, by hand. Requests 0 to 6 are the consents. */
enum { ANA_REFRESH = 7, BEN_LOST, CORA_REFUSED, DAN_LOST, DAN_REFUSED, NEXT };

static json_object *book_of_world(void)
{
	static const char *const ended[] = { NULL, NULL, "killed", "reuse", "revoked", NULL, NULL };
	json_object *book = new_book();
	const int64_t later = T0 + HOURS(1) + 1000;
	int i;

	for (i = 0; i < EVERYBODY; i++) {
		add_grant(book, i, names[i], world.second[i], ended[i]);
		add_refresh_token(book, world.first[i], i, strcmp(world.first[i], world.second[i]) != 0 ? 1 : -1);
		if (strcmp(world.first[i], world.second[i]) != 0)
			add_refresh_token(book, world.second[i], i, -1);
		add_exchange(book, i, T0 + i, i, world.first[i]);
	}
	add(book, "tokens", "{'hash':'%s','kind':'access','grant':0,'ends_at':%lld,'issued_by':7}", world.bearer,
		(long long)later + HOURS(1));
	add_refresh(book, ANA_REFRESH, later, world.first[ANA], world.second[ANA], ANSWERED);
	add_refresh(book, BEN_LOST, later, world.first[BEN], world.second[BEN], CUT);
	add_failure(book, CORA_REFUSED, later, world.first[CORA], 400, "invalid_grant");
	add_refresh(book, DAN_LOST, later, world.first[DAN], world.second[DAN], CUT);
	add_failure(book, DAN_REFUSED, later + HOURS(1), world.first[DAN], 400, "invalid_grant");
	return book;
}

static void broken(json_object *book, const char *rule, const char *words)
{
	judged(book, world.configs, NULL, 1, rule, words);
}

static void fits(json_object *book)
{
	judged(book, world.configs, NULL, 0, "all is well", NULL);
}

static json_object *current_of(json_object *book, enum who who, const char *token)
{
	set(grant_n(book, (int)who), "current", json_object_new_string(token));
	return book;
}

static void every_way_a_link_can_end_passes(void **state)
{
	char *lost = th_printf("lost: the spend of request %d, grant %d (sub-ben): cut", BEN_LOST, BEN);

	(void)state;
	judged(book_of_world(), world.configs, "--list", 0, lost, "6 links; 2 answers lost, 0 unsure: all is well");
	free(lost);
}

static void a_generation_without_a_request_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	drop_request(book, ANA_REFRESH);
	broken(book, "VIOLATION counted: sub-ana at \"ana\": 1 accepted requests", "but 2 generations were kept");
}

static void an_answer_that_was_not_kept_is_found(void **state)
{
	json_object *book = current_of(book_of_world(), ANA, "a3");

	(void)state;
	add_refresh_token(book, "a3", ANA, -1);
	add_refresh(book, NEXT, T0 + HOURS(3), world.second[ANA], "a3", ANSWERED);
	broken(book, "VIOLATION counted: sub-ana at \"ana\": 3 accepted requests", "VIOLATION kept: refresh token a3");
}

static void an_old_token_in_the_store_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	set(request_n(book, BEN_LOST), "outcome", json_object_new_string("answered"));
	broken(book, "VIOLATION current", "and no answer was lost");
}

static void a_store_that_does_not_know_of_its_lost_answer_is_found(void **state)
{
	json_object *book = current_of(book_of_world(), ANA, "a3");

	(void)state;
	add_refresh_token(book, "a3", ANA, -1);
	add_refresh(book, NEXT, T0 + HOURS(3), world.second[ANA], "a3", GONE);
	broken(book, "VIOLATION current", "does not know that a refresh of it has an unknown outcome");
}

static void a_token_from_nowhere_is_found(void **state)
{
	json_object *book = book_of_world();
	json_object *tokens = list_of(book, "tokens");
	size_t i;

	(void)state;
	drop_request(book, ANA_REFRESH);
	for (i = json_object_array_length(tokens); i-- > 0;) {
		const char *hash = json_object_get_string(
			json_object_object_get(json_object_array_get_idx(tokens, i), "hash"));

		if (strcmp(hash, world.second[ANA]) == 0)
			json_object_array_del_idx(tokens, i, 1);
	}
	broken(book, "VIOLATION current", "which the provider never gave out");
}

static void a_link_that_ignores_a_refusal_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	add_failure(book, NEXT, T0 + HOURS(3), world.second[ANA], 400, "invalid_grant");
	broken(book, "VIOLATION current", "was refused for good");
}

static void a_lost_answer_that_a_new_consent_replaced_passes(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	/* fay's first refresh token is nowhere any more, and that is her second consent's doing. */
	fits(json_object_get(book));
	set(grant_n(book, FAY_AGAIN), "connector", json_object_new_string("elsewhere"));
	broken(book, "VIOLATION kept: refresh token", "is in no store and was never used");
}

static void a_relink_without_a_refusal_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	drop_request(book, CORA_REFUSED);
	broken(book, "VIOLATION ends", "for the reason \"revoked\"");
}

static void a_relink_after_a_refusal_without_cause_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	set(grant_n(book, CORA), "alive", json_object_new_boolean(1));
	broken(book, "VIOLATION ends", "for the reason \"revoked\"");
}

static void a_rotation_lost_without_a_lost_answer_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	drop_request(book, DAN_LOST);
	broken(book, "VIOLATION ends", "for the reason \"rotation lost\"");
}

static void a_link_of_another_subject_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	set(grant_n(book, ANA), "sub", json_object_new_string("sub-mallory"));
	broken(book, "VIOLATION owner", "but its token is sub-mallory's");
}

static void a_link_of_another_institution_is_found(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	set(grant_n(book, ANA), "connector", json_object_new_string("elsewhere"));
	broken(book, "VIOLATION owner", "but its token is of \"elsewhere\"");
}

static void a_bearer_of_another_user_is_found(void **state)
{
	json_object *book = book_of_world();
	json_object *tokens = list_of(book, "tokens");

	(void)state;
	set(json_object_array_get_idx(tokens, json_object_array_length(tokens) - 1), "grant", json_object_new_int(BEN));
	broken(book, "VIOLATION owner", "holds a bearer of grant 1, which is sub-ben's");
}

/* The store of another host, which is a copy. */
static char *copied_config(void)
{
	const size_t len = (size_t)(strrchr(world.host->config_path, '/') - world.host->config_path);
	char *dir = th_temp_dir();
	char *command = th_printf("cp -p %.*s/store.* %s", (int)len, world.host->config_path, dir);
	char *text = th_read_file(world.host->config_path);
	char *path = th_printf("%s/acctlink.conf", dir);
	char *at;

	th_check(system(command) == 0, "%s", command);
	th_check(strlen(dir) == len, "temporary folders have names of different lengths");
	while ((at = memmem(text, strlen(text), world.host->config_path, len)) != NULL)
		memcpy(at, dir, len);
	th_write_file(path, 0600, text);
	free(text);
	free(command);
	free(dir);
	return path;
}

static void two_links_with_one_refresh_token_are_found(void **state)
{
	char *copy = copied_config();
	const char *const both[] = { world.configs[0], copy, NULL };

	(void)state;
	judged(book_of_world(), both, NULL, 1, "VIOLATION owner", "hold the same refresh token");
	free(copy);
}

static void configs_that_share_a_store_are_one(void **state)
{
	const char *const twice[] = { world.configs[0], world.configs[0], NULL };

	(void)state;
	judged(book_of_world(), twice, NULL, 0, "6 links", "all is well");
}

static void an_answer_may_die_with_its_process(void **state)
{
	json_object *book = book_of_world();
	char *lost = th_printf("lost: the answer of request %d", BEN_LOST);

	(void)state;
	set(request_n(book, BEN_LOST), "outcome", json_object_new_string("answered"));
	judged(json_object_get(book), world.configs, "--killed", 0, lost, "all is well");
	judged(json_object_get(book), world.configs, "--killed=1", 0, lost, "all is well");
	judged(book, world.configs, "--killed=0", 1, lost, "1 answers were lost by 0 kills");
	free(lost);
}

static void what_was_before_a_reset_of_the_ledger_is_not_judged(void **state)
{
	json_object *book = book_of_world();

	(void)state;
	set(book, "requests", json_object_new_array());
	set(book, "first", json_object_new_int(100));
	fits(book);
}

static void a_documented_reuse_window_allows_one_resend_at_once(void **state)
{
	static const struct th_config config = { .provider_lines = "reuse_window = 30;" };
	struct th_host *host = th_host_new(world.provider, &config);
	const char *const configs[] = { host->config_path, NULL };
	struct th_verdict verdict;
	int64_t after;

	(void)state;
	for (after = 20000; after <= 40000; after += 20000) {
		json_object *book = book_of_one();

		add_refresh(book, 1, T0 + 1000, "t1", "t2", CUT);
		add_refresh(book, 2, T0 + 1000 + after, "t1", "t3", ANSWERED);
		judge_book(book, configs, NULL, &verdict);
		/* The store is empty, so other rules are broken anyway. */
		th_check((strstr(verdict.text, "VIOLATION once") != NULL) == (after > 30000), "%d ms after: %s",
			(int)after, verdict.text);
		th_verdict_clear(&verdict);
	}
	th_host_free(&host);
}

static void links_of_another_provider_are_left_alone(void **state)
{
	json_object *book = new_book();

	(void)state;
	set(book, "base", json_object_new_string("https://localhost:1"));
	judged(book, world.configs, NULL, 0, "0 links", "all is well");
	book = book_of_world();
	set(book, "base", json_object_new_string(world.provider->issuer));
	judged(book, world.configs, NULL, 0, "6 links", "all is well");
}

/* Nothing but the token tells whose grant is whose. */
static void users_of_one_subject_are_told_apart(void **state)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, NULL);
	const char *const configs[] = { host->config_path, NULL };
	json_object *book = new_book();
	char *gil;
	char *hal;

	(void)state;
	th_must_link(host, provider, "gil", NULL, NULL);
	gil = th_grant_current(provider, -1);
	th_must_link(host, provider, "hal", NULL, NULL);
	hal = th_grant_current(provider, -1);
	add_grant(book, 0, "1", gil, NULL);
	add_grant(book, 1, "1", hal, NULL);
	set(grant_n(book, 0), "connector", json_object_new_string(""));
	set(grant_n(book, 1), "connector", json_object_new_string(""));
	add_refresh_token(book, gil, 0, -1);
	add_refresh_token(book, hal, 1, -1);
	add_exchange(book, 0, T0, 0, gil);
	add_exchange(book, 1, T0, 1, hal);
	judged(json_object_get(book), configs, "--list", 0, "counted: sub-1 at : 2 accepted, 2 generations kept",
		"2 links; 0 answers lost");
	add_refresh_token(book, "t3", 0, -1);
	set(grant_n(book, 0), "current", json_object_new_string("t3"));
	add_refresh(book, 2, T0 + HOURS(2), gil, "t3", ANSWERED);
	judged(book, configs, NULL, 1, "VIOLATION counted: sub-1 at \"\": 3 accepted",
		"VIOLATION kept: refresh token t3");
	free(hal);
	free(gil);
	th_host_free(&host);
	th_provider_stop(&provider);
}

/* ---- the provider's own ledger ------------------------------------------------------------------ */

static void the_judge_agrees_with_what_really_happened(void **state)
{
	(void)state;
	th_judge_host(world.provider, world.host);
}

static void a_thief_who_uses_a_stolen_token_is_found(void **state)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	const char *configs[] = { NULL, NULL };
	struct th_browser *browser;
	struct th_verdict verdict;
	struct th_answer answer;
	struct th_host *host;
	char *hash;
	char *token;
	char *body;
	char *url;

	(void)state;
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "zoe", NULL, NULL);
	hash = th_grant_current(provider, -1);
	token = th_raw_token(provider, hash);
	body = th_printf(
		"grant_type=refresh_token&client_id=test-client&client_secret=test-secret&refresh_token=%s", token);
	url = th_printf("%s/token", provider->issuer);
	browser = th_browser_new(provider->ca_file);
	th_check(th_browser_go(browser, "POST", url, NULL, body, &answer) && answer.status == 200,
		"the thief's refresh");
	configs[0] = host->config_path;
	th_judge_run(provider->control, configs, NULL, &verdict);
	th_check(verdict.exit_code == 1 && strstr(verdict.text, "VIOLATION current") != NULL
			&& strstr(verdict.text, "VIOLATION kept") != NULL,
		"exit code %d:\n%s", verdict.exit_code, verdict.text);
	th_verdict_clear(&verdict);
	th_answer_clear(&answer);
	th_browser_free(&browser);
	th_host_free(&host);
	th_provider_stop(&provider);
	free(url);
	free(body);
	free(token);
	free(hash);
}

/* ---- when it can't judge ---------------------------------------------------------------------------- */

static void what_can_not_be_judged_is_told_by_the_exit_code(void **state)
{
	static const char *const no_config[] = { "/nowhere/acctlink.conf", NULL };
	struct th_verdict verdict;
	json_object *book = new_book();

	(void)state;
	th_judge_run("/nowhere/ledger.json", NULL, NULL, &verdict);
	th_check(verdict.exit_code == 2, "no ledger: %d %s", verdict.exit_code, verdict.text);
	th_verdict_clear(&verdict);
	th_judge_run("http://127.0.0.1:1", NULL, NULL, &verdict);
	th_check(verdict.exit_code == 2, "no control port: %d %s", verdict.exit_code, verdict.text);
	th_verdict_clear(&verdict);
	judged(json_object_get(book), no_config, NULL, 2, "/nowhere/acctlink.conf", NULL);
	judged(json_object_get(book), NULL, "--what", 2, NULL, NULL);
	json_object_object_del(book, "tokens");
	judged(book, NULL, NULL, 2, "the ledger has no list \"tokens\"", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_of_refreshes_passes),
		cmocka_unit_test(a_code_that_arrives_twice_is_found),
		cmocka_unit_test(a_code_is_never_resent_even_after_an_unknown_outcome),
		cmocka_unit_test(a_code_that_was_made_up_may_come_as_often_as_it_likes),
		cmocka_unit_test(a_token_sent_again_after_its_answer_is_found),
		cmocka_unit_test(a_token_sent_again_after_its_refusal_is_found),
		cmocka_unit_test(a_resend_while_the_bearer_is_good_is_found),
		cmocka_unit_test(a_resend_when_the_bearer_ends_passes),
		cmocka_unit_test(a_short_bearer_leaves_a_tenth_of_its_life_for_a_resend),
		cmocka_unit_test(a_resend_after_the_data_api_refused_the_bearer_passes),
		cmocka_unit_test(an_api_that_refuses_another_bearer_is_no_reason),
		cmocka_unit_test(what_was_turned_away_may_come_again_at_once),
		cmocka_unit_test(what_was_turned_away_after_an_unknown_outcome_still_waits),
		cmocka_unit_test(two_sends_at_the_same_time_are_found),
		cmocka_unit_test(a_token_that_is_never_rotated_may_come_at_every_refresh),
		cmocka_unit_test(the_bearer_that_counts_is_the_last_that_came),
		cmocka_unit_test(a_pile_of_refusals_stops_refreshing_so_tokens_come_again),
		cmocka_unit_test(the_script_may_change_what_a_bearer_is_worth),
		cmocka_unit_test(an_answer_cut_after_its_whole_body_has_arrived),
		cmocka_unit_test(what_a_provider_answered_just_before_it_died_is_unsure),
		cmocka_unit_test(a_spend_that_answers_500_is_listed_as_lost),
		cmocka_unit_test(every_way_a_link_can_end_passes),
		cmocka_unit_test(a_generation_without_a_request_is_found),
		cmocka_unit_test(an_answer_that_was_not_kept_is_found),
		cmocka_unit_test(an_old_token_in_the_store_is_found),
		cmocka_unit_test(a_store_that_does_not_know_of_its_lost_answer_is_found),
		cmocka_unit_test(a_token_from_nowhere_is_found),
		cmocka_unit_test(a_link_that_ignores_a_refusal_is_found),
		cmocka_unit_test(a_lost_answer_that_a_new_consent_replaced_passes),
		cmocka_unit_test(a_relink_without_a_refusal_is_found),
		cmocka_unit_test(a_relink_after_a_refusal_without_cause_is_found),
		cmocka_unit_test(a_rotation_lost_without_a_lost_answer_is_found),
		cmocka_unit_test(a_link_of_another_subject_is_found),
		cmocka_unit_test(a_link_of_another_institution_is_found),
		cmocka_unit_test(a_bearer_of_another_user_is_found),
		cmocka_unit_test(two_links_with_one_refresh_token_are_found),
		cmocka_unit_test(configs_that_share_a_store_are_one),
		cmocka_unit_test(an_answer_may_die_with_its_process),
		cmocka_unit_test(what_was_before_a_reset_of_the_ledger_is_not_judged),
		cmocka_unit_test(a_documented_reuse_window_allows_one_resend_at_once),
		cmocka_unit_test(links_of_another_provider_are_left_alone),
		cmocka_unit_test(users_of_one_subject_are_told_apart),
		cmocka_unit_test(the_judge_agrees_with_what_really_happened),
		cmocka_unit_test(a_thief_who_uses_a_stolen_token_is_found),
		cmocka_unit_test(what_can_not_be_judged_is_told_by_the_exit_code),
	};

	return cmocka_run_group_tests(tests, make_world, end_world);
}
