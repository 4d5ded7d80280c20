/* SPDX-License-Identifier: MIT
 * The practice provider as a program: options, start, one line of JSON on
 * stdout when it is ready ({"port","issuer","front","control"}), end on SIGTERM,
 * SIGINT or, with --stdin-ends, when stdin is closed, so that a dead test never
 * leaves it behind.
 */
#include "practice.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char usage[] = "usage: practice [options]\n"
			    "A bank and its authorization server on loopback, for learning and for tests.\n"
			    "  --tls-cert FILE --tls-key FILE  PEM; without them it speaks plain http\n"
			    "  --port N          of the provider (any)\n"
			    "  --front-port N    the pages for browsers on a plain http port of their own (0: any),\n"
			    "                    so that no browser is asked to trust the certificate\n"
			    "  --control-port N  of the control and ledger server (any)\n"
			    "  --base-url URL    what the provider calls itself, when something stands before it\n"
			    "  --ledger FILE     keeps everything in FILE, and goes on from there after a restart\n"
			    "  --set JSON        settings (tools/practice/settings.c), as at the control port\n"
			    "  --stdin-ends      ends when stdin is closed\n";

struct options {
	const char *cert;
	const char *key;
	const char *base;
	const char *ledger;
	json_object *set;
	int port;
	int front_port; /* -1: none */
	int control_port;
	bool stdin_ends;
};

static int port_of(const char *text)
{
	char *end;
	const long port = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || port < 0 || port > 65535)
		pp_die("'%s' is no port", text);
	return (int)port;
}

static void read_options(int argc, char **argv, struct options *options)
{
	static const struct option names[] = { { "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'k' }, { "port", required_argument, NULL, 'p' },
		{ "front-port", required_argument, NULL, 'f' }, { "control-port", required_argument, NULL, 'o' },
		{ "base-url", required_argument, NULL, 'b' }, { "ledger", required_argument, NULL, 'l' },
		{ "set", required_argument, NULL, 's' }, { "stdin-ends", no_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int word;

	while ((word = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (word) {
		case 'c': options->cert = optarg; break;
		case 'k': options->key = optarg; break;
		case 'b': options->base = optarg; break;
		case 'l': options->ledger = optarg; break;
		case 'p': options->port = port_of(optarg); break;
		case 'f': options->front_port = port_of(optarg); break;
		case 'o': options->control_port = port_of(optarg); break;
		case 'e': options->stdin_ends = true; break;
		case 's':
			options->set = json_tokener_parse(optarg);
			if (!json_object_is_type(options->set, json_type_object))
				pp_die("--set: a JSON object is wanted");
			break;
		case 'h': fputs(usage, stdout); exit(0);
		default: fputs(usage, stderr); exit(2);
		}
	}
	if (optind < argc || (options->cert == NULL) != (options->key == NULL)) {
		fputs(usage, stderr);
		exit(2);
	}
}

/* State first, then the ports that can change it. */
static void open_books(const struct options *options)
{
	char *why = NULL;

	pp_settings_init();
	pp_grants_init();
	pp_keys_register();
	pp_ledger_init(options->ledger);
	pp_lock();
	pp_keys_init();
	if (options->set != NULL && !pp_settings_change(options->set, &why))
		pp_die("--set: %s", why);
	pp_unlock();
}

static void open_doors(const struct options *options)
{
	struct pp_listener *main_listener;
	struct pp_listener *front_listener;
	const char *scheme = options->cert != NULL ? "https" : "http";
	const int control = pp_control_start(options->control_port);
	const int port = pp_listen(options->port, options->cert, options->key, &main_listener);
	char *base = options->base != NULL ? pp_strdup(options->base) : pp_printf("%s://localhost:%d", scheme, port);
	char *front = options->front_port < 0
		? pp_strdup(base)
		: pp_printf("http://localhost:%d", pp_listen(options->front_port, NULL, NULL, &front_listener));

	pp_lock();
	pp_set_urls(base, front);
	pp_unlock();
	printf("{\"port\":%d,\"issuer\":\"%s\",\"front\":\"%s\",\"control\":\"http://127.0.0.1:%d\"}\n", port, base,
		front, control);
	fflush(stdout);
	free(base);
	free(front);
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

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			pp_die("poll: %s", strerror(errno));
		if ((fds[0].revents & POLLIN) != 0 || (fds[1].revents != 0 && stdin_closed()))
			return;
	}
}

int main(int argc, char **argv)
{
	struct options options = { .front_port = -1 };
	sigset_t ends;
	int signals;

	read_options(argc, argv, &options);
	/* Before any thread is made, so that all of them have these blocked. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGPIPE);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	sigdelset(&ends, SIGPIPE);
	signals = signalfd(-1, &ends, SFD_CLOEXEC);
	if (signals < 0)
		pp_die("signalfd: %s", strerror(errno));
	open_books(&options);
	pp_http_start();
	open_doors(&options);
	wait_for_end(signals, options.stdin_ends);
	/* The ledger's lines are written; threads that hold requests need not end first. */
	json_object_put(options.set);
	_exit(0);
}
