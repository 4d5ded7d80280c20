/* SPDX-License-Identifier: MIT
 * A host that is linked with nothing but the C library: the plugin brings curl,
 * OpenSSL, SQLite and all else into the process, and takes them through the
 * end of the host in whatever way the first argument says. test_unload.c starts it.
 *
 * bare_host WAY PLUGIN OFFSET_MS CONFIG USER [CONFIG USER]
 *
 * The clock hook tells the system's time plus the offset. A byte on stdin lets
 * a host go on that has a call waiting. What goes wrong is told on stderr, with
 * exit status 99. A byte on stdout tells that a waiting call was ended.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "acctlink_dl.h"

enum { THREADS = 4 };

#define must(condition, ...) \
	do { \
		if (!(condition)) \
			die(__LINE__, __VA_ARGS__); \
	} while (0)

struct host {
	acctlink_api api;
	acctlink *handle;
	const char *config_path;
	const char *user;
};

static const char *plugin_path;
static int64_t offset_ms;
static struct host first;
static struct host second;

_Noreturn __attribute__((format(printf, 2, 3))) static void die(int line, const char *format, ...)
{
	va_list args;

	(void)fprintf(stderr, "bare_host.c:%d: ", line);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	_exit(99);
}

static int64_t read_ms(clockid_t id)
{
	struct timespec now;

	must(clock_gettime(id, &now) == 0, "clock_gettime");
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell_time(void *ctx, acctlink_time *now)
{
	(void)ctx;
	now->wall_ms = read_ms(CLOCK_REALTIME) + offset_ms;
	now->boot_ms = read_ms(CLOCK_BOOTTIME) + offset_ms;
}

static void log_nothing(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	(void)level;
	(void)message;
}

static acctlink_str str(const char *text)
{
	return (acctlink_str){ text, strlen(text) };
}

/* ---- steps ------------------------------------------------------------------ */

static void load(struct host *host)
{
	char why[512] = "";

	must(acctlink_dl_open(plugin_path, &host->api, why, sizeof(why)) == 0, "load: %s", why);
}

static void init(struct host *host)
{
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_error err;

	hooks.log = log_nothing;
	hooks.clock = tell_time;
	args.config_path = str(host->config_path);
	args.hooks = &hooks;
	must(host->api.init(&args, &host->handle, &err) == ACCTLINK_OK, "init: %s (%s)", err.message, err.where);
}

static acctlink_status ask(struct host *host, uint64_t *generation, acctlink_error *err)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char bearer[4096];
	acctlink_status rc;

	args.link.user = str(host->user);
	args.link.provider = str("test");
	rc = host->api.get_bearer(host->handle, &args, bearer, sizeof(bearer), &info, err);
	if (rc == ACCTLINK_OK)
		must(strlen(bearer) == info.len && info.len > 0, "the bearer has %zu bytes", strlen(bearer));
	*generation = info.generation;
	return rc;
}

static uint64_t must_ask(struct host *host)
{
	acctlink_error err;
	uint64_t generation;

	must(ask(host, &generation, &err) == ACCTLINK_OK, "get_bearer of %s: %s (%s)", host->user, err.message,
		err.where);
	return generation;
}

static void shut_down(struct host *host)
{
	acctlink_error err;

	must(host->api.shutdown(host->handle, 0, &err) == ACCTLINK_OK, "shutdown: %s", err.message);
	host->handle = NULL;
}

static void unload(struct host *host)
{
	acctlink_dl_close(&host->api);
}

static void live(struct host *host)
{
	load(host);
	init(host);
	(void)must_ask(host);
}

static void wait_for_a_byte(void)
{
	char byte;

	must(read(STDIN_FILENO, &byte, 1) == 1, "nobody lets me go on");
}

/* ---- threads that used the plugin and outlive it -------------------------------- */

struct crowd {
	pthread_barrier_t used;
	pthread_barrier_t unloaded;
	pthread_t threads[THREADS];
	uint64_t generations[THREADS];
	struct seat {
		struct crowd *crowd;
		unsigned i;
	} seats[THREADS];
};

static void *use_and_outlive(void *ctx)
{
	const struct seat *seat = ctx;
	struct crowd *crowd = seat->crowd;

	crowd->generations[seat->i] = must_ask(&first);
	(void)pthread_barrier_wait(&crowd->used);
	(void)pthread_barrier_wait(&crowd->unloaded);
	return NULL;
}

static void crowd_use(struct crowd *crowd)
{
	must(pthread_barrier_init(&crowd->used, NULL, THREADS + 1) == 0
			&& pthread_barrier_init(&crowd->unloaded, NULL, THREADS + 1) == 0,
		"barrier");
	for (unsigned i = 0; i < THREADS; i++) {
		crowd->seats[i].crowd = crowd;
		crowd->seats[i].i = i;
		must(pthread_create(&crowd->threads[i], NULL, use_and_outlive, &crowd->seats[i]) == 0,
			"pthread_create");
	}
	(void)pthread_barrier_wait(&crowd->used);
	for (unsigned i = 1; i < THREADS; i++)
		must(crowd->generations[i] == crowd->generations[0], "threads got different generations");
}

static void crowd_end(struct crowd *crowd)
{
	(void)pthread_barrier_wait(&crowd->unloaded);
	for (unsigned i = 0; i < THREADS; i++)
		must(pthread_join(crowd->threads[i], NULL) == 0, "pthread_join");
	(void)pthread_barrier_destroy(&crowd->used);
	(void)pthread_barrier_destroy(&crowd->unloaded);
}

/* The child lives once more, and ends as processes do. */
static void fork_once(void)
{
	int status = 0;
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		live(&first);
		shut_down(&first);
		unload(&first);
		exit(0);
	}
	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
		"the child ended with wait status %#x", (unsigned)status);
}

static int a_whole_life(void)
{
	static struct crowd crowd;

	load(&first);
	init(&first);
	crowd_use(&crowd);
	shut_down(&first);
	unload(&first);
	crowd_end(&crowd);
	fork_once();
	live(&first);
	exit(0);
}

/* ---- other ends -------------------------------------------------------------------- */

/* The handle is kept in a variable, as a host would that unloads on an error path. */
static int close_without_shutdown(void)
{
	static struct crowd crowd;
	struct host kept;

	load(&first);
	init(&first);
	crowd_use(&crowd);
	kept = first;
	unload(&first);
	crowd_end(&crowd);
	/* Nothing is gone in truth: the handle works, and a new one beside it. */
	(void)must_ask(&kept);
	live(&first);
	shut_down(&first);
	unload(&first);
	return 0;
}

static void *ask_in_vain(void *ctx)
{
	acctlink_error err;
	uint64_t generation;
	acctlink_status rc = ask(&first, &generation, &err);

	must(rc == ACCTLINK_SHUT_DOWN, "the waiting call returned %d: %s", (int)rc, err.message);
	must(write(STDOUT_FILENO, "x", 1) == 1, "nobody listens");
	return ctx;
}

/* The refresh is held by the provider when the byte comes; with a long deadline
 * it is let go when the waiting calls were ended. */
static int shut_down_in_flight(uint32_t deadline_ms, acctlink_status wanted)
{
	pthread_t askers[THREADS];
	acctlink_error err;
	acctlink_status rc;

	load(&first);
	init(&first);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&askers[i], NULL, ask_in_vain, NULL) == 0, "pthread_create");
	wait_for_a_byte();
	rc = first.api.shutdown(first.handle, deadline_ms, &err);
	must(rc == wanted, "shutdown returned %d: %s", (int)rc, err.message);
	unload(&first);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_join(askers[i], NULL) == 0, "pthread_join");
	live(&second);
	shut_down(&second);
	unload(&second);
	return 0;
}

static int cut_off_in_flight(void)
{
	return shut_down_in_flight(100, ACCTLINK_TIMED_OUT);
}

static int finish_in_flight(void)
{
	return shut_down_in_flight(30000, ACCTLINK_OK);
}

/* Two parts of one host that know nothing of each other. */
static int load_twice(void)
{
	struct host other = { .config_path = first.config_path, .user = first.user };
	uint64_t generation;

	live(&first);
	live(&other);
	generation = must_ask(&first);
	must(must_ask(&other) == generation, "two handles on one store differ");
	shut_down(&first);
	unload(&first);
	must(must_ask(&other) == generation, "the other handle works");
	live(&first);
	shut_down(&other);
	unload(&other);
	must(must_ask(&first) == generation, "a third life works");
	shut_down(&first);
	unload(&first);
	return 0;
}

/* Of two configs, with two providers. */
static int two_instances(void)
{
	live(&first);
	live(&second);
	(void)must_ask(&first);
	shut_down(&second);
	unload(&second);
	(void)must_ask(&first);
	live(&second);
	shut_down(&first);
	unload(&first);
	(void)must_ask(&second);
	shut_down(&second);
	unload(&second);
	return 0;
}

static int exit_in_use(void)
{
	live(&first);
	exit(3);
}

static int return_in_use(void)
{
	live(&first);
	return 4;
}

static int quick_exit_in_use(void)
{
	live(&first);
	_exit(5);
}

static void *ask_for_ever(void *ctx)
{
	acctlink_error err;
	uint64_t generation;

	(void)ask(&first, &generation, &err);
	return ctx;
}

/* Threads wait for a bearer that the provider holds back. */
static int exit_while_calls_wait(void)
{
	pthread_t askers[THREADS];

	load(&first);
	init(&first);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&askers[i], NULL, ask_for_ever, NULL) == 0, "pthread_create");
	wait_for_a_byte();
	exit(6);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} ways[] = {
		{ "whole", a_whole_life },
		{ "unclosed", close_without_shutdown },
		{ "cut-off", cut_off_in_flight },
		{ "finish", finish_in_flight },
		{ "twice", load_twice },
		{ "two", two_instances },
		{ "exit", exit_in_use },
		{ "return", return_in_use },
		{ "_exit", quick_exit_in_use },
		{ "waiting", exit_while_calls_wait },
	};

	must(argc == 6 || argc == 8, "%d arguments", argc);
	plugin_path = argv[2];
	offset_ms = strtoll(argv[3], NULL, 10);
	first.config_path = argv[4];
	first.user = argv[5];
	second.config_path = argv[argc == 8 ? 6 : 4];
	second.user = argv[argc == 8 ? 7 : 5];
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(argv[1], ways[i].name) == 0)
			return ways[i].run();
	}
	die(__LINE__, "unknown way %s", argv[1]);
}
