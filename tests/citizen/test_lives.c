/* SPDX-License-Identifier: MIT
 * A thousand lives of the plugin in one process: loading, init, a refresh over
 * the network, shutdown, unloading. Descriptors, threads, mappings and memory
 * are the same after the last life as after the tenth.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <malloc.h>

#include "guest.h"

enum { LIVES = 1000, UNDER_A_CHECKER = 50, WARM = 10 };

/* malloc counts the blocks that a thread's cache keeps as used, and makes arenas
 * as threads happen to meet: without both, what is used is the same to the byte. */
static const char exact_malloc[] = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1";

/* Pages are touched at other places, as stacks and the heap happen to lie. A page
 * forgotten in each life would be nearly four times as much. */
enum { RESIDENT_SLACK = 1024 * 1024 };

struct footprint {
	size_t descriptors;
	size_t threads;
	size_t mappings;
	size_t mapped;   /* bytes, but the heap, which malloc grows and trims as it likes */
	size_t used;     /* bytes that malloc gave out, in all arenas */
	size_t resident; /* bytes */
};

static void read_maps(struct footprint *found)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[1024];

	th_check(maps != NULL, "/proc/self/maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from;
		unsigned long to;

		th_check(sscanf(line, "%lx-%lx", &from, &to) == 2, "a line of maps: %s", line);
		if (strstr(line, "[heap]") != NULL)
			continue;
		found->mappings++;
		found->mapped += to - from;
	}
	fclose(maps);
}

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t pages = 0;

	th_check(file != NULL && fscanf(file, "%*u %zu", &pages) == 1, "/proc/self/statm");
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static struct footprint look(void)
{
	struct footprint found = { .descriptors = open_descriptors(), .threads = running_threads() };

	read_maps(&found);
	found.used = mallinfo2().uordblks + mallinfo2().hblkhd;
	found.resident = resident_bytes();
	return found;
}

static struct th_provider *provider;
static struct th_clock *the_clock;
static char *config_path;

static int start(void **unused)
{
	char *dir;

	(void)unused;
	provider = th_provider_start(TH_PRACTICE, NULL);
	the_clock = th_clock_new();
	dir = th_temp_dir();
	config_path = th_config_write(dir, provider, NULL);
	free(dir);
	return 0;
}

static int stop(void **unused)
{
	(void)unused;
	free(config_path);
	th_clock_free(&the_clock);
	th_provider_stop(&provider);
	return 0;
}

/* Each life refreshes, and finds what the one before it stored. */
static void one_life(uint64_t generation)
{
	struct th_host *host = th_host_open(config_path, the_clock);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	th_advance(host, provider, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == generation, "generation %" PRIu64 ", not %" PRIu64, info.generation, generation);
	th_host_free(&host);
}

static void same(const char *what, size_t now, size_t before)
{
	th_check(now == before, "%zu %s, %zu after the tenth life", now, what, before);
}

static void tell(const char *when, const struct footprint *f)
{
	printf("# %s: %zu descriptors, %zu threads, %zu mappings of %zu KiB, %zu bytes of heap, %zu KiB resident\n",
		when, f->descriptors, f->threads, f->mappings, f->mapped / 1024, f->used, f->resident / 1024);
}

/* Sanitizers and valgrind have memory of their own in the process. */
static bool has_its_own_memory(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return !SANITIZED && (preload == NULL || strstr(preload, "vgpreload") == NULL);
}

static void a_thousand_lives_leave_no_more_behind_than_ten(void **unused)
{
	const unsigned lives = has_its_own_memory() || th_full() ? LIVES : UNDER_A_CHECKER;
	struct th_host *host = th_host_open(config_path, the_clock);
	struct footprint before;
	struct footprint now;
	uint64_t generation = 1;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_host_free(&host);
	for (unsigned i = 0; i < WARM; i++)
		one_life(++generation);
	before = look();
	for (unsigned i = WARM; i < lives; i++)
		one_life(++generation);
	now = look();
	tell("after ten lives", &before);
	tell("after the last", &now);
	th_check(th_max_arrivals(provider) == 1, "a refresh token arrived twice");
	same("descriptors", now.descriptors, before.descriptors);
	same("threads", now.threads, before.threads);
	if (!has_its_own_memory()) {
		printf("# %u lives; memory is left out: the checker has its own in this process\n", lives);
		return;
	}
	same("mappings", now.mappings, before.mappings);
	same("bytes mapped", now.mapped, before.mapped);
	same("bytes of heap", now.used, before.used);
	th_check(now.resident <= before.resident + RESIDENT_SLACK, "%zu bytes resident, %zu after the tenth life",
		now.resident, before.resident);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_lives_leave_no_more_behind_than_ten),
	};
	const char *tunables = getenv("GLIBC_TUNABLES");

	(void)argc;
	/* malloc reads them when a program starts. */
	if (has_its_own_memory() && (tunables == NULL || strcmp(tunables, exact_malloc) != 0)) {
		if (setenv("GLIBC_TUNABLES", exact_malloc, 1) == 0)
			(void)execv("/proc/self/exe", argv);
		perror("exec");
		return 1;
	}
	return cmocka_run_group_tests_name("lives", tests, start, stop);
}
