/* SPDX-License-Identifier: MIT
 * The basics of the test harness: failing, temporary folders, waiting, threads
 * and child processes. The only state is the program's temporary folder.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* cmocka's, if the program is linked with it. */
__attribute__((weak)) void _fail(const char *const file, const int line);

static bool in_child; /* set by th_fork in the child, before anything runs there */

_Noreturn void th_fail_at(const char *file, int line, const char *fmt, ...)
{
	va_list args;
	char text[4096];

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fprintf(stderr, "%s:%d: %s\n", file, line, text);
	/* cmocka jumps to the frame of the test: only possible on its own thread. */
	if (!in_child && getpid() == gettid() && _fail != NULL)
		_fail(file, line);
	fflush(stderr);
	if (in_child)
		_exit(99);
	abort();
}

char *th_vprintf(const char *fmt, va_list args)
{
	char *text = NULL;

	th_check(vasprintf(&text, fmt, args) >= 0, "no memory");
	return text;
}

char *th_printf(const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	text = th_vprintf(fmt, args);
	va_end(args);
	return text;
}

/* ---- files ------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pid_t owner;
	char path[512];
} root = { PTHREAD_MUTEX_INITIALIZER, 0, "" };

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
	(void)info;
	(void)kind;
	(void)at;
	return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

void th_remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_root(void)
{
	if (getpid() == root.owner)
		th_remove_tree(root.path);
}

static void make_root_locked(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root.path, sizeof(root.path), "%s/acctlink-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	th_check(mkdtemp(root.path) != NULL, "mkdtemp %s: %s", root.path, strerror(errno));
	root.owner = getpid();
	th_check(atexit(remove_root) == 0, "atexit");
}

char *th_temp_dir(void)
{
	char *path;

	pthread_mutex_lock(&root.lock);
	if (root.path[0] == '\0')
		make_root_locked();
	pthread_mutex_unlock(&root.lock);
	path = th_printf("%s/XXXXXX", root.path);
	th_check(mkdtemp(path) != NULL, "mkdtemp %s: %s", path, strerror(errno));
	return path;
}

void th_write_file(const char *path, mode_t mode, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	size_t len = strlen(text);

	th_check(fd >= 0, "open %s: %s", path, strerror(errno));
	th_check(fchmod(fd, mode) == 0, "fchmod %s: %s", path, strerror(errno));
	th_check(write(fd, text, len) == (ssize_t)len, "write %s: %s", path, strerror(errno));
	th_check(close(fd) == 0, "close %s: %s", path, strerror(errno));
}

char *th_read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0;

	th_check(file != NULL, "open %s: %s", path, strerror(errno));
	if (getdelim(&text, &cap, '\0', file) < 0) {
		free(text);
		text = th_printf("%s", "");
	}
	fclose(file);
	return text;
}

char *th_source_path(const char *below)
{
	const char *top = getenv("TH_SRCDIR");

	if (top == NULL)
		top = getenv("srcdir");
	return th_printf("%s/%s", top != NULL ? top : ".", below);
}

bool th_full(void)
{
	const char *full = getenv("TH_FULL");

	return full != NULL && strcmp(full, "1") == 0;
}

static uint64_t the_seed;

static void choose_seed(void)
{
	const char *given = getenv("TH_SEED");

	if (given != NULL)
		the_seed = strtoull(given, NULL, 0);
	else
		th_check(getrandom(&the_seed, sizeof(the_seed), 0) == sizeof(the_seed), "getrandom");
	printf("# seed: TH_SEED=%llu\n", (unsigned long long)the_seed);
	fflush(stdout);
}

uint64_t th_seed(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, choose_seed);
	return the_seed;
}

/* ---- waiting, threads, children ---------------------------------------- */

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void nap(void)
{
	const struct timespec two_ms = { 0, 2000000 };

	nanosleep(&two_ms, NULL);
}

void th_wait_until(bool (*condition)(void *ctx), void *ctx, int timeout_ms, const char *what)
{
	const int64_t end = monotonic_ms() + timeout_ms;

	while (!condition(ctx)) {
		th_check(monotonic_ms() < end, "waited %d ms in vain for: %s", timeout_ms, what);
		nap();
	}
}

struct runner {
	pthread_t thread;
	pthread_barrier_t *start;
	void (*run)(void *ctx, unsigned i);
	void *ctx;
	unsigned i;
};

static void *run_one(void *arg)
{
	struct runner *runner = arg;

	pthread_barrier_wait(runner->start);
	runner->run(runner->ctx, runner->i);
	return NULL;
}

void th_parallel(unsigned count, void (*run)(void *ctx, unsigned i), void *ctx)
{
	struct runner *runners = calloc(count, sizeof(*runners));
	pthread_barrier_t start;
	unsigned i;

	th_check(runners != NULL && pthread_barrier_init(&start, NULL, count) == 0, "no memory");
	for (i = 0; i < count; i++) {
		runners[i] = (struct runner){ .start = &start, .run = run, .ctx = ctx, .i = i };
		th_check(pthread_create(&runners[i].thread, NULL, run_one, &runners[i]) == 0, "pthread_create");
	}
	for (i = 0; i < count; i++)
		pthread_join(runners[i].thread, NULL);
	pthread_barrier_destroy(&start);
	free(runners);
}

pid_t th_fork(int (*run)(void *ctx), void *ctx)
{
	const pid_t parent = getpid();
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	th_check(pid >= 0, "fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	in_child = true;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(98);
	_exit(run(ctx));
}

struct child {
	pid_t pid;
	int status;
};

static bool child_ended(void *ctx)
{
	struct child *child = ctx;
	pid_t got = waitpid(child->pid, &child->status, WNOHANG);

	th_check(got >= 0, "waitpid: %s", strerror(errno));
	return got == child->pid;
}

void th_join(pid_t pid, int timeout_ms)
{
	struct child child = { pid, 0 };

	th_wait_until(child_ended, &child, timeout_ms, "the end of a child process");
	th_check(WIFEXITED(child.status), "child %d was ended by signal %d", (int)pid, WTERMSIG(child.status));
	th_check(WEXITSTATUS(child.status) == 0, "child %d exited with %d", (int)pid, WEXITSTATUS(child.status));
}
