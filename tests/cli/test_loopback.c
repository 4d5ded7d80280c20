/* SPDX-License-Identifier: MIT
 * The loopback receiver of acctlinkctl link, over real sockets. Everything runs
 * on one thread: a client's bytes wait in the kernel until the receiver looks.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../tools/acctlinkctl/loopback.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PATIENCE_MS 10000
#define A_MOMENT_MS 20 /* where nothing is expected to come */

static int port;
static struct loopback loopback;

/* ---- clients --------------------------------------------------------------- */

static int connect_to(int family)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT
	};
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	if (family == AF_INET)
		assert_int_equal(connect(fd, (const struct sockaddr *)&v4, sizeof(v4)), 0);
	else
		assert_int_equal(connect(fd, (const struct sockaddr *)&v6, sizeof(v6)), 0);
	return fd;
}

static void say_bytes(int fd, const char *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

/* In the text, '@' stands for the receiver's host and port. */
static int ask_bytes(const char *text, size_t len)
{
	const int fd = connect_to(AF_INET);
	char request[4096];
	size_t at = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		assert_true(at < sizeof(request) - 32);
		if (text[i] == '@')
			at += (size_t)snprintf(request + at, 32, "127.0.0.1:%d", port);
		else
			request[at++] = text[i];
	}
	say_bytes(fd, request, at);
	return fd;
}

static int ask(const char *text)
{
	return ask_bytes(text, strlen(text));
}

/* The whole answer, up to the end of the connection; closes it. */
static const char *answer_to(int fd)
{
	static char text[8192];
	size_t len = 0;
	ssize_t got;

	while ((got = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
		len += (size_t)got;
	assert_int_equal(got, 0);
	text[len] = '\0';
	close(fd);
	return text;
}

static void assert_answer(int fd, const char *status)
{
	char wanted[64];
	const char *text = answer_to(fd);

	snprintf(wanted, sizeof(wanted), "HTTP/1.1 %s", status);
	if (strncmp(text, wanted, strlen(wanted)) != 0)
		fail_msg("the answer is not %s but: %s", status, text);
}

static void assert_params(const char *wanted)
{
	assert_int_equal(loopback_wait(&loopback, PATIENCE_MS), LOOPBACK_CALLBACK);
	assert_int_equal(loopback.params_len, strlen(wanted));
	assert_memory_equal(loopback.params, wanted, strlen(wanted));
}

static void assert_a_callback_still_comes_through(void)
{
	const int fd = ask("GET /callback?code=fine&state=s HTTP/1.1\r\nHost: @\r\n\r\n");

	assert_params("code=fine&state=s");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
}

/* ---- receivers ---------------------------------------------------------------- */

/* A port that was free a moment ago. */
static int free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void open_at(const char *host)
{
	char uri[128];
	int tries;

	for (tries = 0; tries < 20; tries++) {
		port = free_port();
		snprintf(uri, sizeof(uri), "http://%s:%d/callback", host, port);
		if (loopback_open(&loopback, uri))
			return;
		loopback_close(&loopback);
	}
	fail_msg("can't listen on any port of %s: %s", host, strerror(errno));
}

static int open_receiver(void **state)
{
	(void)state;
	open_at("127.0.0.1");
	return 0;
}

static int close_receiver(void **state)
{
	(void)state;
	loopback_close(&loopback);
	return 0;
}

static bool machine_has_ipv6(void)
{
	const struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}

/* ---- the callback ---------------------------------------------------------------- */

static void a_get_is_the_callback_and_its_page_waits_for_the_result(void **state)
{
	const int fd = ask("GET /callback?code=a%20b&state=xyz&iss=https%3A%2F%2Fbank.example HTTP/1.1\r\nHost: @\r\n"
			   "Accept: */*\r\n\r\n");
	const char *answer;
	char byte;

	(void)state;
	assert_params("code=a%20b&state=xyz&iss=https%3A%2F%2Fbank.example");
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	loopback_answer(&loopback, true, "The account is linked. You can close this window.");
	answer = answer_to(fd);
	assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(answer, "<p>The account is linked. You can close this window.</p>"));
	assert_non_null(strstr(answer, "\r\nCache-Control: no-store\r\n"));
	assert_non_null(strstr(answer, "\r\nReferrer-Policy: no-referrer\r\n"));
	assert_null(strstr(answer, "xyz"));
}

static void the_told_length_of_the_page_is_its_length(void **state)
{
	const int fd = ask("GET /callback?code=1 HTTP/1.0\r\nhost:\t@ \r\n\r\n");
	const char *answer;
	const char *length;

	(void)state;
	assert_params("code=1");
	loopback_answer(&loopback, true, "Done.");
	answer = answer_to(fd);
	length = strstr(answer, "Content-Length: ");
	assert_non_null(length);
	assert_int_equal(strtol(length + strlen("Content-Length: "), NULL, 10), strlen(strstr(answer, "\r\n\r\n") + 4));
}

static void a_form_post_may_come_in_pieces(void **state)
{
	const char *const pieces[] = { "POST /callback HT", "TP/1.1\r\nHost: 127.0.0.1:", NULL /* the port */,
		"\r\nContent-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8\r\nContent-Length: 15\r\n\r", "\n",
		"code=c&state=" };
	const int fd = connect_to(AF_INET);
	char digits[16];
	size_t i;

	(void)state;
	snprintf(digits, sizeof(digits), "%d", port);
	for (i = 0; i < COUNT(pieces); i++) {
		say(fd, pieces[i] != NULL ? pieces[i] : digits);
		assert_int_equal(loopback_wait(&loopback, A_MOMENT_MS), LOOPBACK_TIMED_OUT);
	}
	say(fd, "42");
	assert_params("code=c&state=42");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
}

static void a_post_is_its_body_and_never_its_query(void **state)
{
	const int fd = ask("POST /callback?code=forged HTTP/1.1\r\nHost: @\r\nContent-Length: 6\r\n"
			   "Content-Type: application/x-www-form-urlencoded\r\n\r\ncode=b and more");

	(void)state;
	assert_params("code=b");
	loopback_answer(&loopback, false, "The bank said no.");
	assert_answer(fd, "400");
}

static void the_code_is_wiped_once_it_is_answered(void **state)
{
	static const char zeros[LOOPBACK_REQUEST_MAX];
	const int fd = ask("GET /callback?code=secret HTTP/1.1\r\nHost: @\r\n\r\n");
	const char *request;

	(void)state;
	assert_params("code=secret");
	request = loopback.waiting->request;
	loopback_answer(&loopback, true, "Done.");
	assert_null(loopback.params);
	assert_int_equal(loopback.params_len, 0);
	assert_memory_equal(request, zeros, sizeof(zeros));
	assert_answer(fd, "200");
}

static void another_callback_can_follow_one_that_failed(void **state)
{
	const int fd = ask("GET /callback?code=1&state=foreign HTTP/1.1\r\nHost: @\r\n\r\n");

	(void)state;
	assert_params("code=1&state=foreign");
	loopback_answer(&loopback, false, "This is not the consent that was begun here.");
	assert_answer(fd, "400");
	assert_a_callback_still_comes_through();
}

static void a_browser_that_goes_away_before_the_answer_does_no_harm(void **state)
{
	const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	const int fd = ask("GET /callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n");

	(void)state;
	assert_params("code=1");
	/* Closed first and reset then, it is EPIPE, whose signal would end the program. */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(fd);
	loopback_answer(&loopback, true, "Done.");
	assert_a_callback_still_comes_through();
}

static void nothing_that_comes_is_a_time_out(void **state)
{
	(void)state;
	assert_int_equal(loopback_wait(&loopback, A_MOMENT_MS), LOOPBACK_TIMED_OUT);
	assert_int_equal(loopback_wait(&loopback, 0), LOOPBACK_TIMED_OUT);
	assert_int_equal(loopback_wait(&loopback, -1), LOOPBACK_TIMED_OUT);
}

/* ---- what is not the callback -------------------------------------------------------- */

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

static void everything_else_gets_a_short_answer_and_the_callback_still_comes(void **state)
{
	static const struct {
		const char *request;
		const char *status;
	} all[] = { { "GET /favicon.ico HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "GET / HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "GET /callback/?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "GET /Callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "GET /x/../callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "GET //callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "404" },
		{ "HEAD /callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "405" },
		{ "OPTIONS /callback HTTP/1.1\r\nHost: @\r\n\r\n", "405" },
		{ "get /callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "405" },
		/* nothing to hand on */
		{ "GET /callback HTTP/1.1\r\nHost: @\r\n\r\n", "400" },
		{ "GET /callback? HTTP/1.1\r\nHost: @\r\n\r\n", "400" },
		{ "POST /callback?code=1 HTTP/1.1\r\nHost: @\r\n" FORM "\r\n", "400" },
		/* another name for this machine */
		{ "GET /callback?code=1 HTTP/1.1\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost:\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: @.evil.example\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: @\r\nHOST: evil.example\r\n\r\n", "400" },
		/* forms */
		{ "POST /callback HTTP/1.1\r\nHost: @\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\ncode=1",
			"415" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\nContent-Length: 6\r\n\r\ncode=1", "415" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\nContent-Type: application/x-www-form-urlencodedx\r\n"
		  "Content-Length: 6\r\n\r\ncode=1",
			"415" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM
		  "Transfer-Encoding: chunked\r\n\r\n6\r\ncode=1\r\n0\r\n\r\n",
			"400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: 6\r\nContent-Length: 6\r\n\r\ncode=1",
			"400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: -6\r\n\r\ncode=1", "400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: +6\r\n\r\ncode=1", "400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: 6, 6\r\n\r\ncode=1", "400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length:\r\n\r\ncode=1", "400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: 99999999999999999999\r\n\r\ncode=1",
			"400" },
		{ "POST /callback HTTP/1.1\r\nHost: @\r\n" FORM "Content-Length: 65536\r\n\r\ncode=1", "413" },
		/* not HTTP as browsers speak it */
		{ "\r\n\r\n", "400" }, { "GET\r\n\r\n", "400" }, { "GET /callback?code=1\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/2.0\r\nHost: @\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1 x\r\nHost: @\r\n\r\n", "400" },
		{ "GET http://@/callback?code=1 HTTP/1.1\r\nHost: @\r\n\r\n", "400" },
		{ "GET  HTTP/1.1\r\nHost: @\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: @\r\nfolded\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost: @\r\n folded: 1\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\nHost : @\r\n\r\n", "400" },
		{ "GET /callback?code=1 HTTP/1.1\r\n: @\r\n\r\n", "400" }, { "\x16\x03\x01\x02 TLS\r\n\r\n", "400" } };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(all); i++) {
		const int fd = ask(all[i].request);

		print_message("# %zu: %s\n", i, all[i].status);
		assert_a_callback_still_comes_through();
		assert_answer(fd, all[i].status);
	}
}

static void a_nul_in_the_head_is_refused(void **state)
{
	static const char request[] = "GET /callback?code=1 HTTP/1.1\r\nHost: @\r\nA: b\0c\r\n\r\n";
	const int fd = ask_bytes(request, sizeof(request) - 1);

	(void)state;
	assert_a_callback_still_comes_through();
	assert_answer(fd, "400");
}

/* ---- sizes and numbers ------------------------------------------------------------------ */

/* A request for the callback whose head has so many bytes. */
static char *head_of(size_t size)
{
	char *text = malloc(size + 1);
	size_t len;

	assert_non_null(text);
	len = (size_t)snprintf(text, size, "GET /callback?code=long HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nCookie: ", port);
	memset(text + len, 'c', size - len);
	memcpy(text + size - 4, "\r\n\r\n", 5);
	return text;
}

static void a_request_of_64_kib_is_read(void **state)
{
	char *text = head_of(LOOPBACK_REQUEST_MAX);
	const int fd = connect_to(AF_INET);

	(void)state;
	say(fd, text);
	free(text);
	assert_params("code=long");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
}

static void a_longer_head_is_refused_and_its_answer_arrives(void **state)
{
	char *text = head_of(LOOPBACK_REQUEST_MAX + 1);
	const int fd = connect_to(AF_INET);

	(void)state;
	say(fd, text);
	free(text);
	assert_a_callback_still_comes_through();
	/* The byte that is over is read as well, or the answer would be lost by a reset. */
	assert_int_equal(loopback_wait(&loopback, A_MOMENT_MS), LOOPBACK_TIMED_OUT);
	assert_answer(fd, "431");
}

static void idle_connections_of_a_browser_hold_nothing_up(void **state)
{
	int idle[LOOPBACK_CONNECTIONS - 1];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(idle); i++)
		idle[i] = connect_to(AF_INET);
	assert_a_callback_still_comes_through();
	for (i = 0; i < COUNT(idle); i++)
		close(idle[i]);
}

static void beyond_eight_connections_the_oldest_is_given_up(void **state)
{
	int idle[3 * LOOPBACK_CONNECTIONS];
	size_t i;
	char byte;

	(void)state;
	for (i = 0; i < COUNT(idle); i++) {
		idle[i] = connect_to(AF_INET);
		assert_int_equal(loopback_wait(&loopback, 1), LOOPBACK_TIMED_OUT);
	}
	assert_a_callback_still_comes_through();
	assert_int_equal(recv(idle[0], &byte, 1, 0), 0);
	assert_int_equal(recv(idle[COUNT(idle) - 1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	for (i = 0; i < COUNT(idle); i++)
		close(idle[i]);
}

static void an_idle_connection_may_still_bring_the_callback(void **state)
{
	const int early = connect_to(AF_INET);
	char request[128];

	(void)state;
	assert_a_callback_still_comes_through();
	snprintf(request, sizeof(request), "GET /callback?code=early HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", port);
	say(early, request);
	assert_params("code=early");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(early, "200");
}

/* ---- addresses ---------------------------------------------------------------------------- */

static void localhost_is_listened_for_on_both_of_its_addresses(void **state)
{
	char request[128];
	int fd;

	(void)state;
	if (!machine_has_ipv6()) {
		print_message("# this machine has no IPv6\n");
		skip();
	}
	open_at("localhost");
	snprintf(request, sizeof(request), "GET /callback?code=1 HTTP/1.1\r\nHost: LocalHost:%d\r\n\r\n", port);
	fd = connect_to(AF_INET);
	say(fd, request);
	assert_params("code=1");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
	fd = connect_to(AF_INET6);
	say(fd, request);
	assert_params("code=1");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
	loopback_close(&loopback);
}

static void the_ipv6_loopback_works_alone(void **state)
{
	char request[128];
	int fd;

	(void)state;
	if (!machine_has_ipv6()) {
		print_message("# this machine has no IPv6\n");
		skip();
	}
	open_at("[::1]");
	assert_int_equal(loopback.listeners[0], -1);
	snprintf(request, sizeof(request), "GET /callback?code=6 HTTP/1.1\r\nHost: [::1]:%d\r\n\r\n", port);
	fd = connect_to(AF_INET6);
	say(fd, request);
	assert_params("code=6");
	loopback_answer(&loopback, true, "Done.");
	assert_answer(fd, "200");
	loopback_close(&loopback);
}

static void only_loopback_addresses_are_listened_on(void **state)
{
	struct sockaddr_in address = { .sin_family = 0 };
	socklen_t len = sizeof(address);

	(void)state;
	assert_int_equal(getsockname(loopback.listeners[0], (struct sockaddr *)&address, &len), 0);
	assert_int_equal(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(loopback.listeners[1], -1);
}

static void a_port_that_another_process_has_is_an_error(void **state)
{
	struct loopback other;
	char uri[64];

	(void)state;
	snprintf(uri, sizeof(uri), "http://localhost:%d/callback", port);
	assert_false(loopback_open(&other, uri));
	assert_int_equal(errno, EADDRINUSE);
	loopback_close(&other);
}

static void localhost_is_refused_if_only_one_of_its_addresses_is_free(void **state)
{
	struct loopback other;
	char uri[64];

	(void)state;
	if (!machine_has_ipv6()) {
		print_message("# this machine has no IPv6\n");
		skip();
	}
	open_at("[::1]");
	snprintf(uri, sizeof(uri), "http://localhost:%d/callback", port);
	assert_false(loopback_open(&other, uri));
	assert_int_equal(errno, EADDRINUSE);
	loopback_close(&other);
	loopback_close(&loopback);
}

static void other_uris_do_not_suit(void **state)
{
	static const char *const all[] = { "", "http://", "http:///callback", "https://127.0.0.1:8080/callback",
		"http://127.0.0.1.evil.example:8080/", "http://127.0.0.1@evil.example:8080/",
		"http://10.0.0.1:8080/callback", "http://0.0.0.0:8080/callback", "http://[::]:8080/callback",
		"http://[::1:8080/callback", "http://127.0.0.1:/callback", "http://127.0.0.1:0/callback",
		"http://127.0.0.1:65536/callback", "http://127.0.0.1:80x/callback",
		"http://127.0.0.1:99999999999/callback", "http://localhost.example:80/", "http://bank.example/callback",
		"com.example.app:/callback", "http://127.1:8080/callback" };
	struct loopback refused;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(all); i++) {
		print_message("# %s\n", all[i]);
		assert_false(loopback_open(&refused, all[i]));
		assert_int_equal(errno, EINVAL);
		loopback_close(&refused);
	}
}

static void a_uri_too_long_for_us_does_not_suit(void **state)
{
	struct loopback_target target;
	char uri[8192] = "http://127.0.0.1:8080/";

	(void)state;
	memset(uri + strlen(uri), 'p', 4000);
	assert_false(loopback_read_uri(&target, uri));
	memset(uri + strlen("http://"), '1', 4000);
	assert_false(loopback_read_uri(&target, uri));
}

static void uris_are_taken_apart(void **state)
{
	static const struct {
		const char *uri;
		const char *authority;
		const char *path;
		int port;
		bool v4, v6;
	} all[] = { { "http://127.0.0.1:8080/a/b", "127.0.0.1:8080", "/a/b", 8080, true, false },
		{ "http://127.8.9.1:1/", "127.8.9.1:1", "/", 1, true, false },
		{ "http://localhost:65535?x=/1", "localhost:65535", "/", 65535, true, true },
		{ "http://localhost", "localhost", "/", 80, true, true },
		{ "http://localhost:80/cb?x=1", "localhost", "/cb", 80, true, true },
		{ "http://[::1]/cb", "[::1]", "/cb", 80, false, true },
		{ "http://[::1]:80/cb", "[::1]", "/cb", 80, false, true },
		{ "http://[::1]:8080/cb", "[::1]:8080", "/cb", 8080, false, true } };
	struct loopback_target target;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(all); i++) {
		print_message("# %s\n", all[i].uri);
		assert_true(loopback_read_uri(&target, all[i].uri));
		assert_string_equal(target.authority, all[i].authority);
		assert_string_equal(target.path, all[i].path);
		assert_int_equal(target.port, all[i].port);
		assert_int_equal(target.v4, all[i].v4);
		assert_int_equal(target.v6, all[i].v6);
	}
}

static void the_default_port_may_be_left_out_of_the_host_header(void **state)
{
	static const char *const hosts[] = { "localhost", "localhost:80" };
	struct loopback_target target;
	struct loopback_request request;
	const char *params;
	char head[128];
	size_t len;
	size_t i;

	(void)state;
	assert_true(loopback_read_uri(&target, "http://localhost/callback"));
	for (i = 0; i < COUNT(hosts); i++) {
		len = (size_t)snprintf(head, sizeof(head), "GET /callback?code=1 HTTP/1.1\r\nHost: %s\r\n", hosts[i]);
		assert_true(loopback_read_head(&request, head, len));
		assert_null(loopback_find_params(&target, &request, "", &params, &len));
		assert_string_equal(params, "code=1");
	}
}

#define WITH_RECEIVER(test) cmocka_unit_test_setup_teardown(test, open_receiver, close_receiver)

int main(void)
{
	const struct CMUnitTest tests[] = { WITH_RECEIVER(a_get_is_the_callback_and_its_page_waits_for_the_result),
		WITH_RECEIVER(the_told_length_of_the_page_is_its_length), WITH_RECEIVER(a_form_post_may_come_in_pieces),
		WITH_RECEIVER(a_post_is_its_body_and_never_its_query),
		WITH_RECEIVER(the_code_is_wiped_once_it_is_answered),
		WITH_RECEIVER(another_callback_can_follow_one_that_failed),
		WITH_RECEIVER(a_browser_that_goes_away_before_the_answer_does_no_harm),
		WITH_RECEIVER(nothing_that_comes_is_a_time_out),
		WITH_RECEIVER(everything_else_gets_a_short_answer_and_the_callback_still_comes),
		WITH_RECEIVER(a_nul_in_the_head_is_refused), WITH_RECEIVER(a_request_of_64_kib_is_read),
		WITH_RECEIVER(a_longer_head_is_refused_and_its_answer_arrives),
		WITH_RECEIVER(idle_connections_of_a_browser_hold_nothing_up),
		WITH_RECEIVER(beyond_eight_connections_the_oldest_is_given_up),
		WITH_RECEIVER(an_idle_connection_may_still_bring_the_callback),
		cmocka_unit_test(localhost_is_listened_for_on_both_of_its_addresses),
		cmocka_unit_test(the_ipv6_loopback_works_alone), WITH_RECEIVER(only_loopback_addresses_are_listened_on),
		WITH_RECEIVER(a_port_that_another_process_has_is_an_error),
		cmocka_unit_test(localhost_is_refused_if_only_one_of_its_addresses_is_free),
		cmocka_unit_test(other_uris_do_not_suit), cmocka_unit_test(a_uri_too_long_for_us_does_not_suit),
		cmocka_unit_test(uris_are_taken_apart),
		cmocka_unit_test(the_default_port_may_be_left_out_of_the_host_header) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
