/* SPDX-License-Identifier: MIT
 * The example host as a program: options, start in the right order, one line of JSON on
 * stdout when it is ready ({"port","url"}), and an orderly end on SIGTERM, SIGINT or,
 * with --stdin-ends, when stdin is closed: requests under way are answered, then
 * acctlink keeps what it has sent for. A second signal ends at once.
 */
#include "example.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char usage[] = "usage: example --plugin FILE --config FILE --provider NAME --data-url URL [options]\n"
			    "A small web app that links bank accounts through acctlink. For learning: anyone may\n"
			    "sign in as anybody, and it listens on 127.0.0.1 only.\n"
			    "  --plugin FILE            acctlink.so\n"
			    "  --config FILE            acctlink.conf, with redirect_uri = BASE_URL/callback\n"
			    "  --provider NAME          the section of the config\n"
			    "  --data-url URL           the data API, which has /accounts/v2/INSTITUTION\n"
			    "  --port N                 of this server; 0 is any, without --base-url only (8085)\n"
			    "  --base-url URL           what browsers call this server (http://localhost:PORT)\n"
			    "  --ca-file FILE           PEM; trusted for the data API (the system's authorities)\n"
			    "  --institution NAME=TITLE may be repeated (all that DATA_URL/institutions tells)\n"
			    "  --tls-cert FILE --tls-key FILE\n"
			    "                           PEM; without them it speaks plain http\n"
			    "  --stdin-ends             ends when stdin is closed\n";

struct options {
	const char *cert;
	const char *key;
	int port;
	bool stdin_ends;
};

static _Noreturn EX_PRINTF(1, 2) void die(const char *fmt, ...)
{
	va_list args;

	fputs("example: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

const struct ex_institution *ex_institution(const struct ex_host *host, const char *name)
{
	size_t i;

	for (i = 0; i < host->institution_count; i++) {
		if (strcmp(host->institutions[i].name, name) == 0)
			return &host->institutions[i];
	}
	return NULL;
}

/* ---- options -------------------------------------------------------------------------- */

static int port_of(const char *text)
{
	char *end;
	const long port = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || port < 0 || port > 65535)
		die("'%s' is no port", text);
	return (int)port;
}

/* scheme://host[:port], with nothing behind it: the pages' links begin at the root. */
static const char *origin_of(const char *text)
{
	const size_t scheme = strncmp(text, "https://", 8) == 0 ? 8 : strncmp(text, "http://", 7) == 0 ? 7 : 0;
	const size_t len = strspn(
		text + scheme, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]");

	if (scheme == 0 || len == 0 || text[scheme + len] != '\0')
		die("--base-url %s: https://HOST or https://HOST:PORT is wanted, without a slash at the end", text);
	return text;
}

static void add_institution(struct ex_host *host, const char *text)
{
	const char *title = strchr(text, '=');
	struct ex_institution *one = &host->institutions[host->institution_count];

	if (title == NULL || title == text || title[1] == '\0')
		die("--institution %s: NAME=TITLE is wanted", text);
	if (host->institution_count == EX_INSTITUTIONS_MAX)
		die("more than %d institutions", EX_INSTITUTIONS_MAX);
	one->name = ex_printf("%.*s", (int)(title - text), text);
	one->title = ex_printf("%s", title + 1);
	one->about = ex_printf("%s", "");
	host->institution_count++;
}

static void wrong_usage(void)
{
	fputs(usage, stderr);
	exit(2);
}

static void read_options(int argc, char **argv, struct ex_host *host, struct options *options)
{
	static const struct option names[] = { { "plugin", required_argument, NULL, 'l' },
		{ "config", required_argument, NULL, 'f' }, { "provider", required_argument, NULL, 'v' },
		{ "port", required_argument, NULL, 'p' }, { "base-url", required_argument, NULL, 'b' },
		{ "data-url", required_argument, NULL, 'd' }, { "ca-file", required_argument, NULL, 'a' },
		{ "institution", required_argument, NULL, 'i' }, { "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'k' }, { "stdin-ends", no_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int word;

	while ((word = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (word) {
		case 'l': host->plugin = optarg; break;
		case 'f': host->config = optarg; break;
		case 'v': host->provider = optarg; break;
		case 'p': options->port = port_of(optarg); break;
		case 'b': host->base_url = origin_of(optarg); break;
		case 'd': host->data_url = optarg; break;
		case 'a': host->ca_file = optarg; break;
		case 'i': add_institution(host, optarg); break;
		case 'c': options->cert = optarg; break;
		case 'k': options->key = optarg; break;
		case 'e': options->stdin_ends = true; break;
		case 'h': fputs(usage, stdout); exit(0);
		default: wrong_usage();
		}
	}
	if (optind < argc || host->plugin == NULL || host->config == NULL || host->provider == NULL
		|| host->data_url == NULL || (options->cert == NULL) != (options->key == NULL))
		wrong_usage();
	if (options->port == 0 && host->base_url != NULL)
		die("--port 0 and --base-url don't go together: no browser could find this server");
}

/* ---- start, wait, end ------------------------------------------------------------------- */

/* Before any thread is made, so that all of them have these blocked. */
static int block_signals(sigset_t *ends)
{
	int fd;

	sigemptyset(ends);
	sigaddset(ends, SIGTERM);
	sigaddset(ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, ends, NULL);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		die("SIGPIPE: %s", strerror(errno));
	fd = signalfd(-1, ends, SFD_CLOEXEC);
	if (fd < 0)
		die("signalfd: %s", strerror(errno));
	return fd;
}

static int start(struct ex_host *host, const struct options *options)
{
	acctlink_error err = { 0 };
	char problem[512];
	int port;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		die("libcurl does not start");
	if (host->institution_count == 0 && !ex_fetch_institutions(host, problem, sizeof(problem)))
		die("%s", problem);
	if (!ex_linking_start(host, &err))
		die("acctlink does not start: %s%s%s", err.where, err.where[0] != '\0' ? ": " : "", err.message);
	port = ex_server_start(host, options->port, options->cert, options->key);
	if (port == 0) {
		(void)ex_linking_end(host, &err);
		exit(1);
	}
	return port;
}

/* True when it is time to end. */
static bool stdin_closed(void)
{
	char bytes[64];
	ssize_t got;

	do
		got = read(0, bytes, sizeof(bytes));
	while (got < 0 && errno == EINTR);
	return got <= 0;
}

static void wait_for_end(int signals, bool stdin_ends)
{
	struct pollfd fds[2] = { { .fd = signals, .events = POLLIN }, { .fd = stdin_ends ? 0 : -1, .events = POLLIN } };
	struct signalfd_siginfo info;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if ((fds[0].revents & POLLIN) != 0 && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
			return;
		if (fds[1].revents != 0 && stdin_closed())
			return;
	}
}

/* The server first: whoever is in a call of acctlink gets its answer. */
static int end(struct ex_host *host)
{
	acctlink_error err = { 0 };
	acctlink_status status;

	ex_server_stop();
	status = ex_linking_end(host, &err);
	if (status != ACCTLINK_OK)
		fprintf(stderr, "example: acctlink did not end in order: %d %s\n", (int)status, err.message);
	for (size_t i = 0; i < host->institution_count; i++) {
		free(host->institutions[i].name);
		free(host->institutions[i].title);
		free(host->institutions[i].about);
	}
	curl_global_cleanup();
	return status == ACCTLINK_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct ex_host host;
	struct options options = { .port = 8085 };
	sigset_t ends;
	int signals;
	int port;

	read_options(argc, argv, &host, &options);
	signals = block_signals(&ends);
	port = start(&host, &options);
	printf("{\"port\":%d,\"url\":\"%s\"}\n", port, host.base_url);
	fflush(stdout);
	wait_for_end(signals, options.stdin_ends);
	close(signals);
	pthread_sigmask(SIG_UNBLOCK, &ends, NULL); /* a second one need not wait */
	return end(&host);
}
