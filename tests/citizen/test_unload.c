/* SPDX-License-Identifier: MIT
 * Hosts that load, use, unload, fork and end in all orders, each a process of
 * its own that is linked with nothing but the C library (bare_host.c). Every
 * one must end by itself, with the status it wanted, having said nothing on
 * stderr, where sanitizers would complain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>

#include "guest.h"

enum { ROUNDS = 200, SAMPLE = 8 };

/* One provider and one config with a store. */
struct side {
	struct th_provider *provider;
	char *path;
	int refreshes; /* that are due in this round */
	int before;    /* refreshes before this round */
};

struct world {
	struct side sides[2];
	struct th_clock *clock;
	int64_t offset_ms;
	char *plugin;
	char *program;
	char *stderr_path;
	unsigned round;
	bool valgrind; /* run the hosts of this round under it */
};

static struct world world;

static int open_world(void **unused)
{
	const char *plugin = getenv("ACCTLINK_PLUGIN");
	const char *build = getenv("TH_BUILDDIR");
	char *dir;

	(void)unused;
	if (build == NULL)
		build = ".";
	world.plugin = plugin != NULL ? th_printf("%s", plugin) : th_printf("%s/.libs/acctlink.so", build);
	world.program = th_printf("%s/tests/citizen/bare_host", build);
	world.clock = th_clock_new();
	for (size_t i = 0; i < COUNT(world.sides); i++) {
		dir = th_temp_dir();
		world.sides[i].provider = th_provider_start(TH_PRACTICE, NULL);
		world.sides[i].path = th_config_write(dir, world.sides[i].provider, NULL);
		free(dir);
	}
	dir = th_temp_dir();
	world.stderr_path = th_printf("%s/stderr", dir);
	free(dir);
	return 0;
}

static int close_world(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(world.sides); i++) {
		free(world.sides[i].path);
		th_provider_stop(&world.sides[i].provider);
	}
	free(world.stderr_path);
	free(world.program);
	free(world.plugin);
	th_clock_free(&world.clock);
	return 0;
}

/* ---- one host -------------------------------------------------------------------- */

struct guest {
	const char *way;
	const struct side *second; /* its config for the second handle, or NULL */
	char *users[2];
	int to;      /* its stdin */
	int from;    /* its stdout */
	int ends[2]; /* the host's side of the two */
	pid_t pid;
};

static int become_a_host(void *ctx)
{
	const struct guest *guest = ctx;
	char *offset = th_printf("%lld", (long long)world.offset_ms);
	const char *argv[24];
	size_t count = 0;
	int log = open(world.stderr_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	th_check(log >= 0 && dup2(guest->ends[0], STDIN_FILENO) >= 0 && dup2(guest->ends[1], STDOUT_FILENO) >= 0
			&& dup2(log, STDERR_FILENO) >= 0,
		"dup2: %s", strerror(errno));
	if (world.valgrind) {
		argv[count++] = "valgrind";
		argv[count++] = "-q";
		argv[count++] = "--error-exitcode=97";
		argv[count++] = "--leak-check=full";
		argv[count++] = "--errors-for-leak-kinds=definite";
		argv[count++] = "--show-leak-kinds=definite";
	}
	argv[count++] = world.program;
	argv[count++] = guest->way;
	argv[count++] = world.plugin;
	argv[count++] = offset;
	argv[count++] = world.sides[0].path;
	argv[count++] = guest->users[0];
	if (guest->second != NULL) {
		argv[count++] = guest->second->path;
		argv[count++] = guest->users[1];
	}
	argv[count] = NULL;
	(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
	th_fail("%s: %s", argv[0], strerror(errno));
}

/* A fresh user whose bearer is over when the host asks for it. */
static char *link_somebody(struct side *side)
{
	char *user = th_printf("user %u", world.round);
	struct th_host *host = th_host_open(side->path, world.clock);

	if (th_bearer(host, user, NULL, &(char *){ NULL }, NULL, NULL) != ACCTLINK_NOT_LINKED)
		th_fail("%s is linked already", user);
	th_must_link(host, side->provider, user, NULL, NULL);
	th_host_free(&host);
	return user;
}

static void start(struct guest *guest, const char *way, struct side *second)
{
	int in[2];
	int out[2];

	memset(guest, 0, sizeof(*guest));
	guest->way = way;
	guest->second = second;
	world.round++;
	guest->users[0] = link_somebody(&world.sides[0]);
	if (second == &world.sides[0])
		world.round++;
	if (second != NULL)
		guest->users[1] = link_somebody(second);
	for (size_t i = 0; i < COUNT(world.sides); i++) {
		th_provider_advance(world.sides[i].provider, HOUR_MS);
		world.sides[i].before = th_count(world.sides[i].provider, "token", "refresh_token");
		world.sides[i].refreshes = i == 0 || second == &world.sides[i] ? 1 : 0;
	}
	if (second == &world.sides[0])
		world.sides[0].refreshes++;
	th_clock_advance(world.clock, HOUR_MS);
	world.offset_ms += HOUR_MS;
	th_check(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
	guest->to = in[1];
	guest->from = out[0];
	guest->ends[0] = in[0];
	guest->ends[1] = out[1];
	guest->pid = th_fork(become_a_host, guest);
	close(in[0]);
	close(out[1]);
}

static bool has_ended(void *ctx)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	th_check(waitid(P_PID, (id_t) * (const pid_t *)ctx, &info, WEXITED | WNOHANG | WNOWAIT) == 0, "waitid: %s",
		strerror(errno));
	return info.si_pid != 0;
}

/* By itself, with this status, saying nothing, after just the refreshes that were due. */
static void end(struct guest *guest, int wanted)
{
	char *said;
	int status = 0;

	th_wait_until(has_ended, &guest->pid, 60000, "the end of a host");
	th_check(waitpid(guest->pid, &status, 0) == guest->pid, "waitpid: %s", strerror(errno));
	said = th_read_file(world.stderr_path);
	th_check(!WIFSIGNALED(status), "round %u, %s: ended by signal %d: %s", world.round, guest->way,
		WTERMSIG(status), said);
	th_check(WEXITSTATUS(status) == wanted, "round %u, %s: exit status %d, not %d: %s", world.round, guest->way,
		WEXITSTATUS(status), wanted, said);
	th_check(said[0] == '\0', "round %u, %s: it said: %s", world.round, guest->way, said);
	for (size_t i = 0; i < COUNT(world.sides); i++) {
		int count = th_count(world.sides[i].provider, "token", "refresh_token") - world.sides[i].before;

		th_check(count == world.sides[i].refreshes, "round %u, %s: %d refreshes at provider %zu, not %d",
			world.round, guest->way, count, i, world.sides[i].refreshes);
	}
	free(said);
	for (size_t i = 0; i < 2; i++)
		free(guest->users[i]);
	close(guest->to);
	close(guest->from);
}

static bool valgrind_is_here(void)
{
	return !SANITIZED && th_full() && system("command -v valgrind >/dev/null 2>&1") == 0;
}

/* All rounds, then one under valgrind in a full run. */
static void repeat(void (*round)(void))
{
	const unsigned rounds = guest_rounds(ROUNDS, SAMPLE);

	world.valgrind = false;
	for (unsigned i = 0; i < rounds; i++)
		round();
	if (!valgrind_is_here())
		return;
	world.valgrind = true;
	round();
}

static void simply(const char *way, struct side *second, int status)
{
	struct guest guest;

	start(&guest, way, second);
	end(&guest, status);
}

/* ---- the ways --------------------------------------------------------------------- */

static void whole(void)
{
	simply("whole", NULL, 0);
}

static void threads_that_used_it_end_after_it_was_unloaded_and_a_second_life_works(void **unused)
{
	(void)unused;
	repeat(whole);
}

static void unclosed(void)
{
	simply("unclosed", NULL, 0);
}

static void unloading_without_a_shutdown_harms_nobody(void **unused)
{
	(void)unused;
	repeat(unclosed);
}

static void hear(const struct guest *guest, unsigned count)
{
	char byte;

	for (unsigned i = 0; i < count; i++)
		th_check(read(guest->from, &byte, 1) == 1, "%s ended early", guest->way);
}

/* Starts a host whose refresh the provider holds, and lets it go on. */
static void start_held(struct guest *guest, const char *way, struct side *second)
{
	th_script(world.sides[0].provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	start(guest, way, second);
	th_wait_held(world.sides[0].provider, "refresh", 1);
	th_check(write(guest->to, "x", 1) == 1, "write: %s", strerror(errno));
}

static void cut_off(void)
{
	struct guest guest;

	start_held(&guest, "cut-off", &world.sides[0]);
	end(&guest, 0);
	th_release(world.sides[0].provider, "refresh");
}

static void unloading_after_a_shutdown_that_cut_a_refresh_off_is_clean(void **unused)
{
	(void)unused;
	repeat(cut_off);
}

static void finish(void)
{
	struct guest guest;

	start_held(&guest, "finish", &world.sides[0]);
	hear(&guest, 4);
	th_release(world.sides[0].provider, "refresh");
	end(&guest, 0);
}

static void unloading_after_a_shutdown_that_let_a_refresh_end_is_clean(void **unused)
{
	(void)unused;
	repeat(finish);
}

static void twice(void)
{
	simply("twice", NULL, 0);
}

static void of_two_that_loaded_it_one_may_unload(void **unused)
{
	(void)unused;
	repeat(twice);
}

static void two(void)
{
	simply("two", &world.sides[1], 0);
}

static void two_instances_with_two_providers_live_and_end_apart(void **unused)
{
	(void)unused;
	repeat(two);
}

static void exits(void)
{
	simply("exit", NULL, 3);
	simply("return", NULL, 4);
	simply("_exit", NULL, 5);
}

static void a_process_may_exit_without_a_shutdown(void **unused)
{
	(void)unused;
	repeat(exits);
}

static void waiting(void)
{
	struct guest guest;

	start_held(&guest, "waiting", NULL);
	end(&guest, 6);
	th_release(world.sides[0].provider, "refresh");
}

static void a_process_may_exit_while_calls_wait(void **unused)
{
	(void)unused;
	repeat(waiting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_that_used_it_end_after_it_was_unloaded_and_a_second_life_works),
		cmocka_unit_test(unloading_without_a_shutdown_harms_nobody),
		cmocka_unit_test(unloading_after_a_shutdown_that_cut_a_refresh_off_is_clean),
		cmocka_unit_test(unloading_after_a_shutdown_that_let_a_refresh_end_is_clean),
		cmocka_unit_test(of_two_that_loaded_it_one_may_unload),
		cmocka_unit_test(two_instances_with_two_providers_live_and_end_apart),
		cmocka_unit_test(a_process_may_exit_without_a_shutdown),
		cmocka_unit_test(a_process_may_exit_while_calls_wait),
	};

	return cmocka_run_group_tests_name("unload", tests, open_world, close_world);
}
