/* SPDX-License-Identifier: MIT
 * The practice provider does what it is told: answers and requests end after
 * exactly the byte that was named, stall and drip; the whole ledger outlives a
 * kill. And the plugin before it: wherever a refresh is cut, in the request, the
 * answer or the TLS stream, nothing is lost and nothing is sent twice without
 * need, as the judge says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "judge.h"

#define MINUTES(n) (INT64_C(60) * 1000 * (n))

/* ---- raw bytes ------------------------------------------------------------------------- */

static int connect_to(int port)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	th_check(fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0, "connect: %s", strerror(errno));
	return fd;
}

static void send_text(int fd, const char *text)
{
	th_check(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text), "send: %s", strerror(errno));
}

/* Reads to the end. error: 0, or the errno that ended it. */
static size_t read_all(int fd, char *buf, size_t cap, int *error)
{
	size_t len = 0;
	ssize_t got;

	while (len < cap && (got = recv(fd, buf + len, cap - len, 0)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		len += (size_t)got;
	}
	*error = len < cap && got < 0 ? errno : 0;
	return len;
}

static const char get_keys[] = "GET /keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/* One answer, as far as it comes. */
static size_t ask(int port, char *buf, size_t cap, int *error)
{
	const int fd = connect_to(port);
	size_t len;

	send_text(fd, get_keys);
	len = read_all(fd, buf, cap, error);
	close(fd);
	return len;
}

/* Dates differ from second to second, nothing else may. */
static void expect_prefix(const char *whole, const char *part, size_t len)
{
	const char *date = strstr(whole, "Date: ");
	const size_t from = date != NULL ? (size_t)(date - whole) : len;
	const size_t to = from + strcspn(whole + from, "\r");

	th_check(memcmp(whole, part, len < from ? len : from) == 0
			&& (len <= to || memcmp(whole + to, part + to, len - to) == 0),
		"the %zu bytes that came are not the answer's first", len);
}

static void an_answer_ends_after_any_byte_that_is_named(void **state)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE_PLAIN, NULL);
	static char whole[65536];
	static char part[65536];
	int error;
	const size_t len = ask(provider->port, whole, sizeof(whole) - 1, &error);
	const char *body = strstr(whole, "\r\n\r\n");
	size_t n;

	(void)state;
	th_check(error == 0 && body != NULL && len > 500, "the whole answer has %zu bytes", len);
	for (n = 0; n < len; n += n < 200 || th_full() ? 1 : 37) {
		th_script(provider, "jwks", NULL, 1, "{'cut':{'at':%zu}}", n);
		assert_int_equal(ask(provider->port, part, sizeof(part), &error), n);
		expect_prefix(whole, part, n);
	}
	body += 4;
	for (n = 0; n < len - (size_t)(body - whole); n += 101) {
		th_script(provider, "jwks", NULL, 1, "{'cut':{'after_bytes':%zu}}", n);
		assert_int_equal(ask(provider->port, part, sizeof(part), &error), (size_t)(body - whole) + n);
	}
	th_script(provider, "jwks", NULL, 1, "{'cut':{'at':100},'reset':true}");
	n = ask(provider->port, part, sizeof(part), &error);
	th_check(error == ECONNRESET && n <= 100, "%zu bytes, then errno %d", n, error);
	th_provider_stop(&provider);
}

static void a_request_is_cut_after_any_byte_and_leaves_no_trace(void **state)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE_PLAIN, NULL);
	static char part[65536];
	int error;
	size_t n;

	(void)state;
	for (n = 0; n < sizeof(get_keys) - 1; n++) {
		th_control(provider, "{'cut_request':{'path':'/keys','after_bytes':%zu}}", n);
		assert_int_equal(ask(provider->port, part, sizeof(part), &error), 0);
	}
	assert_int_equal(th_count(provider, "jwks", NULL), 0);
	th_check(ask(provider->port, part, sizeof(part), &error) > 500, "the next request is not answered");
	assert_int_equal(th_count(provider, "jwks", NULL), 1);
	th_provider_stop(&provider);
}

static void an_answer_that_stalls_or_drips_comes_whole(void **state)
{
	static const char *const slow[] = { "{'stall':{'at':40,'ms':150}}", "{'stall':{'after_bytes':300,'ms':150}}",
		"{'drip':{'bytes':400,'every_ms':20}}", "{'delay_ms':150}" };
	struct th_provider *provider = th_provider_start(TH_PRACTICE_PLAIN, NULL);
	static char whole[65536];
	static char part[65536];
	int error;
	const size_t len = ask(provider->port, whole, sizeof(whole), &error);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
		th_script(provider, "jwks", NULL, 1, "%s", slow[i]);
		assert_int_equal(ask(provider->port, part, sizeof(part), &error), len);
		expect_prefix(whole, part, len);
	}
	th_provider_stop(&provider);
}

/* ---- killed ------------------------------------------------------------------------------- */

static void kill_provider(struct th_provider *provider)
{
	int status;

	th_check(kill(provider->pid, SIGKILL) == 0 && waitpid(provider->pid, &status, 0) == provider->pid, "kill");
}

/* What is left of a killed one. */
static void forget_provider(struct th_provider **provider)
{
	close((*provider)->stdin_fd);
	free((*provider)->issuer);
	free((*provider)->control);
	free((*provider)->ca_file);
	free((*provider)->error_file);
	free(*provider);
	*provider = NULL;
}

static void a_killed_provider_goes_on_where_it_was(void **state)
{
	char *dir = th_temp_dir();
	char *ledger = th_printf("--ledger=%s/ledger", dir);
	const char *options[] = { ledger, NULL, NULL };
	struct th_provider *first = th_provider_start(TH_PRACTICE, options);
	char *port = th_printf("--port=%d", first->port);
	struct th_host *host = th_host_new(first, NULL);
	struct th_provider *second;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer;
	int i;

	(void)state;
	th_must_link(host, first, "ana", NULL, NULL);
	th_must_link(host, first, "ben", NULL, NULL);
	for (i = 0; i < 3; i++) {
		th_advance(host, first, MINUTES(61));
		free(th_must_bearer(host, "ana", NULL, NULL));
	}
	kill_provider(first);
	options[1] = port;
	second = th_provider_start(TH_PRACTICE, options);
	second->offset_ms = first->offset_ms;
	th_provider_advance(second, 0);
	assert_int_equal(th_grant_count(second), 2);
	assert_int_equal(th_grant_generation(second, 0), 4);
	assert_int_equal(th_count(second, "token", "refresh_token"), 3);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	assert_int_equal(th_userinfo(second, bearer), 200);
	th_advance(host, second, MINUTES(61));
	free(bearer);
	bearer = th_must_bearer(host, "ana", NULL, &info);
	assert_int_equal(info.generation, 5);
	assert_int_equal(th_userinfo(second, bearer), 200);
	free(th_must_bearer(host, "ben", NULL, &info));
	assert_int_equal(info.generation, 2);
	assert_int_equal(th_max_arrivals(second), 1);
	th_judge_host(second, host);
	free(bearer);
	th_host_free(&host);
	th_provider_stop(&second);
	forget_provider(&first);
	free(port);
	free(ledger);
	free(dir);
}

/* ---- the plugin under cuts ------------------------------------------------------------------ */

/* Has a refresh made ahead of time. Whatever becomes of it, the bearer is good all along. */
static void refresh_under(struct th_host *host, const char *user)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_error err = { 0 };
	static char buf[65536];
	acctlink_status rc;

	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	args.min_ttl_ms = 3599 * 1000;
	rc = host->api.get_bearer(host->handle, &args, buf, sizeof(buf), NULL, &err);
	th_check(rc == ACCTLINK_OK || rc == ACCTLINK_PROVIDER_DOWN, "%s: %s", user, th_error_text(&err));
	free(th_must_bearer(host, user, NULL, NULL));
}

/* The end: usable, or in need of a consent because the bank took a rotation that never arrived. */
static void expect_settled(struct th_host *host, struct th_provider *provider, const char *user)
{
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_status rc = ACCTLINK_PROVIDER_DOWN;
	char *bearer = NULL;
	int tries;

	/* A cut that was armed for a connection may yet meet the next refresh, which then backs off. */
	for (tries = 0; tries < 3 && rc == ACCTLINK_PROVIDER_DOWN; tries++) {
		th_advance(host, provider, MINUTES(10));
		rc = th_bearer(host, user, NULL, &bearer, NULL, &err);
	}
	th_check(rc == ACCTLINK_OK || rc == ACCTLINK_RELINK_REQUIRED, "%s: %s", user, th_error_text(&err));
	th_check(th_inspect(host, user, NULL, &seen, &err) == ACCTLINK_OK, "%s: %s", user, th_error_text(&err));
	th_check(seen.state == (rc == ACCTLINK_OK ? ACCTLINK_STATE_LINKED : ACCTLINK_STATE_RELINK_REQUIRED),
		"%s: state %d", user, (int)seen.state);
	th_check(rc == ACCTLINK_OK || seen.reason == ACCTLINK_REASON_ROTATION_LOST, "%s: reason %d", user,
		(int)seen.reason);
	free(bearer);
}

/* Runs one refresh under each cut; `how` makes the control words of the i-th, false: no more. */
static void cut_everywhere(bool (*how)(size_t i, char *words, size_t cap))
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(provider, NULL);
	char words[256];
	size_t i;

	/* Refreshes well all along: refusals in a row would stop refreshing altogether. */
	th_must_link(host, provider, "calm", NULL, NULL);
	for (i = 0; how(i, words, sizeof(words)); i++) {
		char *user = th_printf("user%zu", i);

		th_must_link(host, provider, user, NULL, NULL);
		th_advance(
			host, provider, MINUTES(31)); /* in the second half of its life it may be replaced on demand */
		th_control(provider, "{'close_idle':true}");
		th_control(provider, "%s", words);
		refresh_under(host, user);
		/* A cut that the refresh did not reach must not wait for the next one. */
		th_control(provider, "{'clear':true,'cut_tls':null,'cut_request':null,'down':true}");
		th_control(provider, "{'down':false}");
		th_advance(host, provider, MINUTES(61));
		free(th_must_bearer(host, "calm", NULL, NULL));
		expect_settled(host, provider, user);
		free(user);
	}
	th_judge_host(provider, host);
	th_host_free(&host);
	th_provider_stop(&provider);
}

static bool answer_cut(size_t i, char *words, size_t cap)
{
	const size_t at = i * (th_full() ? 1 : 97);

	snprintf(words, cap, "{'queue':[{'endpoint':'token','grant':'refresh_token','do':{'cut':{'at':%zu}%s}}]}", at,
		i % 2 == 0 ? ",'reset':true" : "");
	return at < 1400;
}

static bool request_cut(size_t i, char *words, size_t cap)
{
	const size_t at = i * (th_full() ? 1 : 29);

	snprintf(words, cap, "{'cut_request':{'path':'/token','after_bytes':%zu%s}}", at,
		i % 2 == 0 ? ",'reset':true" : "");
	return at < 330;
}

static bool tls_cut(size_t i, char *words, size_t cap)
{
	const size_t at = (i / 2) * (th_full() ? 7 : 211);

	snprintf(words, cap, "{'cut_tls':{'direction':'%s','after_bytes':%zu}}", i % 2 == 0 ? "in" : "out", at);
	return at < 3000;
}

static void an_answer_cut_anywhere_loses_nothing_that_arrived(void **state)
{
	(void)state;
	cut_everywhere(answer_cut);
}

static void a_request_cut_anywhere_costs_no_token(void **state)
{
	(void)state;
	cut_everywhere(request_cut);
}

static void a_tls_stream_cut_anywhere_is_no_different(void **state)
{
	(void)state;
	cut_everywhere(tls_cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(an_answer_ends_after_any_byte_that_is_named),
		cmocka_unit_test(a_request_is_cut_after_any_byte_and_leaves_no_trace),
		cmocka_unit_test(an_answer_that_stalls_or_drips_comes_whole),
		cmocka_unit_test(a_killed_provider_goes_on_where_it_was),
		cmocka_unit_test(an_answer_cut_anywhere_loses_nothing_that_arrived),
		cmocka_unit_test(a_request_cut_anywhere_costs_no_token),
		cmocka_unit_test(a_tls_stream_cut_anywhere_is_no_different) };

	return cmocka_run_group_tests_name("practice provider", tests, NULL, NULL);
}
