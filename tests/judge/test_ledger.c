/* SPDX-License-Identifier: MIT
 * The ledger's file: what was written is there after the provider was killed at
 * any moment. Linked with the practice provider's ledger.c and util.c; the rest
 * of it stands in here. A ledger lives once per process, so each of its lives is
 * a child's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "practice.h"

/* ---- the rest of the provider -------------------------------------------------------- */

static struct pp_grant the_grant = {
	.subject = (char *)"sub-1", .client = (char *)"c", .connector = (char *)"mikomo", .alive = true, .generation = 2
};
static struct pp_token the_tokens[2] = {
	{ .kind = PP_REFRESH, .hash = (char *)"h1", .grant = &the_grant, .issued_by = 0, .spent_at = 5, .spent_by = 1 },
	{ .kind = PP_REFRESH, .hash = (char *)"h2", .grant = &the_grant, .issued_by = 1 }
};

int64_t pp_now_ms(void)
{
	return 1234567890123;
}

const char *pp_base_url(void)
{
	return "https://localhost:1";
}

const char *pp_header(const struct pp_request *req, const char *name)
{
	return pp_text(req->headers, name, NULL);
}

const char *pp_endpoint_name(enum pp_endpoint endpoint)
{
	return endpoint == PP_TOKEN ? "token" : "api";
}

size_t pp_grant_count(void)
{
	return 1;
}

struct pp_grant *pp_grant_at(size_t n)
{
	(void)n;
	the_grant.current = &the_tokens[1];
	return &the_grant;
}

size_t pp_token_count(void)
{
	return 2;
}

struct pp_token *pp_token_at(size_t n)
{
	return &the_tokens[n];
}

/* ---- lives ------------------------------------------------------------------------------ */

static char *path; /* of the test's ledger */

static int new_path(void **state)
{
	char *dir = th_temp_dir();

	(void)state;
	path = th_printf("%s/ledger", dir);
	free(dir);
	return 0;
}

static int free_path(void **state)
{
	(void)state;
	free(path);
	return 0;
}

static void live(int (*life)(void *ctx))
{
	th_join(th_fork(life, NULL), 60000);
}

static void begin(struct pp_request *req, enum pp_endpoint endpoint, const char *body)
{
	*req = (struct pp_request){
		.method = "POST", .path = "/token", .query = "", .endpoint = endpoint, .body = body
	};
	req->params = pp_form_parse(body);
	req->headers = json_object_new_object();
	json_object_object_add(req->headers, "authorization", json_object_new_string("Bearer b1"));
	req->act = json_object_new_object();
	req->rec = pp_ledger_request(req);
}

static void end(struct pp_request *req, const char *outcome)
{
	json_object_object_add(req->rec, "outcome", json_object_new_string(outcome));
	pp_ledger_write(req->rec);
	json_object_put(req->rec);
	json_object_put(req->act);
	json_object_put(req->headers);
	json_object_put(req->params);
}

static void refresh(const char *token)
{
	char *body = th_printf("grant_type=refresh_token&refresh_token=%s", token);
	struct pp_request req;

	begin(&req, PP_TOKEN, body);
	pp_ledger_whole(&req);
	end(&req, "answered");
	free(body);
}

static json_object *page(void)
{
	json_object *frozen = pp_ledger_json();
	json_object *ledger = json_tokener_parse(json_object_to_json_string(frozen));

	json_object_put(frozen);
	th_check(ledger != NULL, "GET /ledger is no JSON");
	return ledger;
}

static bool reads(json_object *object, const char *member, const char *wanted)
{
	return strcmp(pp_text(object, member, ""), wanted) == 0;
}

static json_object *nth(json_object *ledger, size_t i)
{
	return json_object_array_get_idx(pp_member(ledger, "requests"), i);
}

static void count_is(const char *grant, int wanted)
{
	th_check(pp_ledger_count("token", grant) == wanted, "%d whole requests instead of %d",
		pp_ledger_count("token", grant), wanted);
}

/* ---- one life ------------------------------------------------------------------------------ */

static int see_a_request(void *ctx)
{
	char *hash = pp_sha256_hex("rt-1");
	struct pp_request req;
	json_object *ledger;
	json_object *rec;

	(void)ctx;
	pp_ledger_init(NULL);
	begin(&req, PP_TOKEN, "grant_type=refresh_token&refresh_token=rt-1&client_secret=s&scope=openid+x&scope=y");
	count_is(NULL, 0);
	pp_ledger_whole(&req);
	count_is(NULL, 1);
	count_is("refresh_token", 1);
	count_is("authorization_code", 0);
	th_check(pp_ledger_arrivals(hash) == 1, "one arrival");
	th_check(strstr(pp_ledger_body(0), "refresh_token=rt-1&") != NULL, "the body");
	th_check(pp_ledger_body(1) == NULL && pp_ledger_body(-1) == NULL, "no other body");
	ledger = page();
	rec = nth(ledger, 0);
	th_check(reads(rec, "token", hash) && reads(rec, "grant", "refresh_token"), "token and grant");
	th_check(strcmp(pp_text(pp_member(rec, "params"), "refresh_token", ""), hash) == 0, "secrets are hashed");
	th_check(json_object_array_length(pp_member(pp_member(rec, "params"), "scope")) == 2,
		"what comes twice is a list");
	th_check(strstr(json_object_to_json_string(pp_member(rec, "params")), "rt-1") == NULL, "no secret in params");
	th_check(pp_number(pp_member(ledger, "counts"), "token", 0) == 1, "counts");
	json_object_put(ledger);
	end(&req, "answered");
	free(hash);
	return 0;
}

static void a_request_is_described_with_hashes(void **state)
{
	(void)state;
	live(see_a_request);
}

static int see_a_twin(void *ctx)
{
	struct pp_request req;
	json_object *ledger;

	(void)ctx;
	pp_ledger_init(NULL);
	begin(&req, PP_TOKEN, "grant_type=refresh_token&refresh_token=rt-1&refresh_token=rt-2");
	pp_ledger_whole(&req);
	ledger = page();
	th_check(pp_text(nth(ledger, 0), "token", NULL) == NULL, "a token that came twice is none");
	th_check(strstr(json_object_to_json_string(ledger), "rt-2") == NULL, "no secret");
	json_object_put(ledger);
	end(&req, "answered");
	return 0;
}

static void a_token_that_came_twice_is_none(void **state)
{
	(void)state;
	live(see_a_twin);
}

static int see_grants(void *ctx)
{
	json_object *ledger;
	json_object *grant;

	(void)ctx;
	pp_ledger_init(NULL);
	ledger = page();
	grant = json_object_array_get_idx(pp_member(ledger, "grants"), 0);
	th_check(strcmp(pp_text(grant, "current", ""), "h2") == 0, "current");
	th_check(strcmp(json_object_get_string(pp_member(grant, "spent")), "[ \"h1\" ]") == 0, "spent");
	th_check(json_object_array_length(pp_member(ledger, "tokens")) == 2, "tokens");
	th_check(strcmp(pp_text(ledger, "base", ""), pp_base_url()) == 0, "base");
	json_object_put(ledger);
	return 0;
}

static void grants_and_tokens_are_shown(void **state)
{
	(void)state;
	live(see_grants);
}

static void answer_told(const char *body, const char *act, const char *member, const char *wanted)
{
	struct pp_answer answer = { .status = 200, .body = pp_strdup(body) };
	struct pp_request req;
	json_object *from;

	begin(&req, PP_TOKEN, "grant_type=refresh_token&refresh_token=rt-1");
	json_object_put(req.act);
	req.act = json_tokener_parse(act);
	pp_ledger_answer(&req, &answer);
	from = pp_member(pp_member(req.rec, "carried"), member) != NULL ? pp_member(req.rec, "carried") : req.rec;
	th_check(strcmp(pp_member(from, member) != NULL ? json_object_get_string(pp_member(from, member)) : "-", wanted)
			== 0,
		"%s after %s %s: %s", member, body, act, json_object_to_json_string(req.rec));
	free(answer.body);
	end(&req, "answered");
}

static int tell_answers(void *ctx)
{
	char *hash = pp_sha256_hex("rt-2");

	(void)ctx;
	pp_ledger_init(NULL);
	answer_told("{\"refresh_token\":\"rt-2\"}", "{}", "refresh_token", hash);
	answer_told("\xef\xbb\xbf{\"refresh_token\":\"rt-2\"} x", "{\"bom\":true}", "refresh_token", hash);
	answer_told("refresh_token=rt-2&expires_in=5", "{\"form\":true}", "refresh_token", hash);
	answer_told("refresh_token=rt-2&expires_in=5", "{\"form\":true}", "expires_in", "5");
	answer_told("{\"expires_in\":7,\"id_token\":\"a.eyJleHAiOjk5LCJzdWIiOiJtZSJ9.b\"}", "{}", "id_exp", "99");
	answer_told("{\"expires_in\":7,\"id_token\":\"a.eyJleHAiOjk5LCJzdWIiOiJtZSJ9.b\"}", "{}", "sub", "me");
	answer_told("{\"id_token\":\"no JWT\"}", "{}", "sub", "-");
	answer_told("{\"error\":\"invalid_grant\"}", "{}", "error", "invalid_grant");
	answer_told("{\"error\":{\"a\":1}}", "{}", "error", "-");
	answer_told("[1]", "{}", "error", "-");
	answer_told("", "{}", "error", "-");
	answer_told("{}", "{}", "scripted", "-");
	answer_told("{}", "{\"hold\":\"x\",\"delay_ms\":1,\"cut\":\"before_answer\"}", "scripted", "-");
	answer_told("{}", "{\"set\":{}}", "scripted", "true");
	answer_told("{}", "{\"json\":null}", "scripted", "true");
	answer_told("{}", "{\"suffix\":\"x\"}", "odd_dress", "true");
	answer_told("{}", "{\"cut\":\"after_body\"}", "carried_whole", "yes");
	answer_told("{}", "{\"cut\":\"half_body\"}", "carried_whole", "no");
	answer_told("{}", "{\"cut\":{\"after_bytes\":2}}", "carried_whole", "yes");
	answer_told("{}", "{\"cut\":{\"after_bytes\":1}}", "carried_whole", "no");
	answer_told("{}", "{\"cut\":{\"at\":200}}", "carried_whole", "maybe");
	answer_told("{}", "{}", "carried_whole", "-");
	free(hash);
	return 0;
}

static void what_an_answer_told_is_written_down(void **state)
{
	(void)state;
	live(tell_answers);
}

/* ---- several lives ---------------------------------------------------------------------------- */

static int first_life(void *ctx)
{
	struct pp_request late;
	struct pp_request never;
	struct pp_request pending;

	(void)ctx;
	pp_ledger_init(path);
	refresh("rt-0");
	begin(&late, PP_TOKEN, "grant_type=authorization_code&code=c-1");
	begin(&never, PP_TOKEN, "");
	refresh("rt-3");
	pp_ledger_whole(&late);
	end(&late, "cut");
	begin(&pending, PP_TOKEN, "grant_type=refresh_token&refresh_token=rt-4");
	pp_ledger_whole(&pending);
	_exit(0); /* as a kill would: nothing is flushed or closed */
}

static int second_life(void *ctx)
{
	json_object *ledger;

	(void)ctx;
	pp_ledger_init(path);
	count_is("refresh_token", 3);
	count_is("authorization_code", 1);
	refresh("rt-5");
	ledger = page();
	th_check(
		json_object_array_length(pp_member(ledger, "requests")) == 6, "%s", json_object_to_json_string(ledger));
	th_check(reads(nth(ledger, 1), "outcome", "cut") && pp_number(nth(ledger, 1), "n", -1) == 1, "late");
	th_check(reads(nth(ledger, 2), "outcome", "gone") && !pp_flag(nth(ledger, 2), "arrived_complete", true),
		"what never became whole keeps its number");
	th_check(reads(nth(ledger, 4), "outcome", "gone") && pp_flag(nth(ledger, 4), "provider_died", false),
		"what was pending");
	th_check(pp_number(nth(ledger, 5), "n", -1) == 5, "numbers go on");
	th_check(pp_number(json_object_array_get_idx(pp_member(ledger, "starts"), 0), "n", -1) == 5,
		"the start is noted");
	json_object_put(ledger);
	return 0;
}

static void a_second_life_knows_the_first(void **state)
{
	struct stat info;

	(void)state;
	live(first_life);
	live(second_life);
	th_check(stat(path, &info) == 0 && (info.st_mode & 07777) == 0600, "mode %o", (unsigned)info.st_mode);
}

static int reset_in_between(void *ctx)
{
	json_object *ledger;

	(void)ctx;
	pp_ledger_init(path);
	refresh("rt-0");
	refresh("rt-1");
	pp_ledger_reset();
	count_is(NULL, 0);
	refresh("rt-2");
	ledger = page();
	th_check(pp_number(nth(ledger, 0), "n", -1) == 2 && pp_number(ledger, "first", -1) == 2, "numbers go on");
	json_object_put(ledger);
	return 0;
}

static int after_the_reset(void *ctx)
{
	json_object *ledger;

	(void)ctx;
	pp_ledger_init(path);
	count_is(NULL, 1);
	ledger = page();
	th_check(json_object_array_length(pp_member(ledger, "requests")) == 1 && pp_number(ledger, "first", -1) == 2,
		"%s", json_object_to_json_string(ledger));
	json_object_put(ledger);
	return 0;
}

static void a_reset_is_remembered(void **state)
{
	(void)state;
	live(reset_in_between);
	live(after_the_reset);
}

static char restored[256];

static void note_row(const char *key, json_object *value)
{
	const size_t len = strlen(restored);

	snprintf(restored + len, sizeof(restored) - len, "%s=%s ", key, json_object_get_string(value));
}

static int write_rows(void *ctx)
{
	(void)ctx;
	pp_ledger_init(path);
	pp_journal_put("grant", "0", json_object_new_int(1));
	pp_journal_put("grant", "1", json_object_new_int(1));
	pp_journal_put("grant", "0", json_object_new_int(2));
	pp_journal_put("odd \"key\"\n", "\n", json_object_new_string("a\nb"));
	return 0;
}

static int read_rows(void *ctx)
{
	(void)ctx;
	pp_journal_restore("grant", note_row);
	pp_ledger_init(path);
	th_check(strcmp(restored, "0=2 1=1 ") == 0, "%s", restored);
	pp_journal_restore("odd \"key\"\n", note_row); /* who comes late gets it at once */
	th_check(strcmp(restored, "0=2 1=1 \n=a\nb ") == 0, "%s", restored);
	return 0;
}

static void the_newest_of_each_key_is_restored_in_the_order_of_their_making(void **state)
{
	(void)state;
	live(write_rows);
	live(read_rows);
}

/* Cuts the file at every byte: a life begins there with every whole line, and goes on. */
static int live_on(void *ctx)
{
	(void)ctx;
	pp_ledger_init(path);
	refresh("rt-9");
	return 0;
}

static int count_lines(const char *text)
{
	int count = 0;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

static void a_line_that_a_kill_tore_is_cut_off(void **state)
{
	const size_t step = th_full() ? 1 : 29;
	char *whole;
	char *text;
	size_t at;

	(void)state;
	live(first_life);
	whole = th_read_file(path);
	for (at = strlen(whole) - 1; at > step; at -= step) {
		char *part = th_printf("%.*s", (int)at, whole);

		th_write_file(path, 0600, part);
		live(live_on);
		text = th_read_file(path);
		/* the start, if anything was there, and a request that arrives and is answered */
		th_check(count_lines(text) == count_lines(part) + 2 + (count_lines(part) > 0), "cut at %zu: %s", at,
			text);
		th_check(strncmp(text, part, (size_t)(strrchr(part, '\n') != NULL ? strrchr(part, '\n') - part + 1 : 0))
				== 0,
			"cut at %zu", at);
		free(text);
		free(part);
	}
	free(whole);
}

static int exit_code_of(int (*life)(void *ctx))
{
	pid_t pid = th_fork(life, NULL);
	int status;

	th_check(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the end of a child");
	return WEXITSTATUS(status);
}

static void a_broken_line_in_the_middle_is_an_error(void **state)
{
	(void)state;
	th_write_file(
		path, 0600, "{\"t\":\"grant\",\"k\":\"0\",\"v\":1}\nrubbish\n{\"t\":\"grant\",\"k\":\"1\",\"v\":1}\n");
	th_check(exit_code_of(live_on) == 2, "it was taken");
}

static int stay_alive(void *ctx)
{
	const int *ready = ctx;

	pp_ledger_init(path);
	th_check(write(ready[1], "x", 1) == 1, "write");
	for (unsigned i = 0;; i++) {
		char token[32];

		snprintf(token, sizeof(token), "rt-%u", i);
		refresh(token);
		if (i % 16 == 0)
			th_check(write(ready[1], "x", 1) == 1, "write");
	}
}

static void a_ledger_in_use_is_refused(void **state)
{
	int ready[2];
	char byte;
	pid_t pid;

	(void)state;
	th_check(pipe2(ready, O_CLOEXEC) == 0, "pipe");
	pid = th_fork(stay_alive, ready);
	th_check(read(ready[0], &byte, 1) == 1, "the first life");
	th_check(exit_code_of(live_on) == 2, "two lives at once");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	live(live_on);
}

static int told; /* requests that the killed life had told us about */

static int at_least_as_told(void *ctx)
{
	(void)ctx;
	pp_ledger_init(path);
	th_check(pp_ledger_count("token", NULL) >= told, "%d requests were told, %d are there", told,
		pp_ledger_count("token", NULL));
	return 0;
}

static void what_was_answered_survives_a_kill_at_any_moment(void **state)
{
	const int rounds = th_full() ? 200 : 10;
	int i;

	(void)state;
	for (i = 0; i < rounds; i++) {
		int ready[2];
		char byte;
		pid_t pid;
		int seen = 0;

		unlink(path);
		th_check(pipe2(ready, O_CLOEXEC) == 0, "pipe");
		pid = th_fork(stay_alive, ready);
		while (seen < 2 + i && read(ready[0], &byte, 1) == 1)
			seen++;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(ready[1]);
		while (read(ready[0], &byte, 1) == 1)
			seen++;
		close(ready[0]);
		told = (seen - 2) * 16 + 1;
		live(at_least_as_told);
	}
}

#define ledger_test(name) cmocka_unit_test_setup_teardown(name, new_path, free_path)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ledger_test(a_request_is_described_with_hashes),
		ledger_test(a_token_that_came_twice_is_none),
		ledger_test(grants_and_tokens_are_shown),
		ledger_test(what_an_answer_told_is_written_down),
		ledger_test(a_second_life_knows_the_first),
		ledger_test(a_reset_is_remembered),
		ledger_test(the_newest_of_each_key_is_restored_in_the_order_of_their_making),
		ledger_test(a_line_that_a_kill_tore_is_cut_off),
		ledger_test(a_broken_line_in_the_middle_is_an_error),
		ledger_test(a_ledger_in_use_is_refused),
		ledger_test(what_was_answered_survives_a_kill_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
