/* SPDX-License-Identifier: MIT
 * Worker processes, each with a handle of its own on one store, and calls that
 * wait on a thread. Workers are forked by a program that has no threads (a
 * thread sanitizer demands it), so a test starts them first of all.
 *
 *	worker_start(&worker, config_path, clock);
 *	worker_call(&worker, job, in, in_len, out, out_len);
 *	worker_stop(&worker);
 */
#ifndef TH_CROWD_H
#define TH_CROWD_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

#if defined(__SANITIZE_THREAD__)
#define CROWD_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CROWD_TSAN 1
#endif
#endif
#ifndef CROWD_TSAN
#define CROWD_TSAN 0
#endif

enum { CROWD_BYTES = 24 * 1024, CROWD_PATIENCE_MS = 120000 };

static inline int64_t crowd_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void crowd_nap_ms(long ms)
{
	const struct timespec nap = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&nap, NULL);
}

/* Memory that forked workers share with their parent. */
static inline void *crowd_shared(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	th_check(memory != MAP_FAILED, "no memory");
	return memory;
}

/* xorshift64*; the state must not be 0. */
static inline uint64_t crowd_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u;
}

/* ---- one call and its end -------------------------------------------------- */

struct had {
	acctlink_status rc;
	uint64_t epoch;
	uint64_t generation;
	int64_t expires_at_ms;
	int64_t took_ms;
	char message[160];
	char bearer[256];
};

struct wish {
	const char *user;
	const char *provider; /* NULL: "test" */
	uint32_t min_ttl_ms;
	uint32_t deadline_ms;
};

static inline void get_bearer(struct th_host *host, const struct wish *wish, struct had *had)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	int64_t before = crowd_now_ms();

	memset(had, 0, sizeof(*had));
	args.link.user = th_str(wish->user);
	args.link.provider = th_str(wish->provider != NULL ? wish->provider : "test");
	args.min_ttl_ms = wish->min_ttl_ms;
	args.deadline_ms = wish->deadline_ms;
	had->rc = host->api.get_bearer(host->handle, &args, had->bearer, sizeof(had->bearer), &info, &err);
	had->took_ms = crowd_now_ms() - before;
	had->epoch = info.epoch;
	had->generation = info.generation;
	had->expires_at_ms = info.expires_at_ms;
	if (had->rc != ACCTLINK_OK)
		snprintf(had->message, sizeof(had->message), "%.150s", err.message);
}

static inline bool same_bearer(const struct had *a, const struct had *b)
{
	return a->rc == ACCTLINK_OK && b->rc == ACCTLINK_OK && a->epoch == b->epoch && a->generation == b->generation
		&& strcmp(a->bearer, b->bearer) == 0;
}

/* A get_bearer that waits on a thread. */
struct caller {
	pthread_t thread;
	struct th_host *host;
	struct wish wish;
	struct had had;
	atomic_bool done;
};

static inline void *caller_run(void *arg)
{
	struct caller *caller = arg;

	get_bearer(caller->host, &caller->wish, &caller->had);
	atomic_store(&caller->done, true);
	return NULL;
}

static inline void caller_start(struct caller *caller, struct th_host *host, struct wish wish)
{
	caller->host = host;
	caller->wish = wish;
	atomic_store(&caller->done, false);
	th_check(pthread_create(&caller->thread, NULL, caller_run, caller) == 0, "pthread_create");
}

static inline const struct had *caller_join(struct caller *caller)
{
	pthread_join(caller->thread, NULL);
	return &caller->had;
}

/* ---- workers ------------------------------------------------------------------ */

/* Runs in the worker; `out` is CROWD_BYTES of zeroes. */
typedef void (*worker_job)(struct th_host *host, const void *in, void *out);

struct worker {
	pid_t pid;
	int fd;
	const char *config_path;
	struct th_clock *clock;
};

struct worker_order {
	worker_job job; /* the address is the same after fork; NULL: shut down */
	char in[CROWD_BYTES];
};

static inline void worker_answer(int fd, const void *out)
{
	th_check(send(fd, out, CROWD_BYTES, MSG_NOSIGNAL) == CROWD_BYTES, "send: %s", strerror(errno));
}

static inline int worker_run(void *ctx)
{
	struct worker *worker = ctx;
	struct worker_order *order = calloc(1, sizeof(*order));
	char *out = calloc(1, CROWD_BYTES);
	struct th_host *host = th_host_open(worker->config_path, worker->clock);

	th_check(order != NULL && out != NULL, "no memory");
	worker_answer(worker->fd, out);
	while (recv(worker->fd, order, sizeof(*order), 0) == sizeof(*order) && order->job != NULL) {
		memset(out, 0, CROWD_BYTES);
		order->job(host, order->in, out);
		worker_answer(worker->fd, out);
	}
	th_host_free(&host);
	free(order);
	free(out);
	return 0;
}

/* The end of a worker shows as an end of file, hence never a wait in vain. */
static inline void worker_reply(struct worker *worker, void *to, size_t len)
{
	struct pollfd ready = { .fd = worker->fd, .events = POLLIN };
	char *out = malloc(CROWD_BYTES);

	th_check(out != NULL, "no memory");
	th_check(poll(&ready, 1, CROWD_PATIENCE_MS) == 1, "a worker process does not answer");
	th_check(recv(worker->fd, out, CROWD_BYTES, 0) == CROWD_BYTES, "worker process %d ended", (int)worker->pid);
	if (to != NULL)
		memcpy(to, out, len);
	free(out);
}

static inline bool worker_has_replied(const struct worker *worker)
{
	struct pollfd ready = { .fd = worker->fd, .events = POLLIN };

	return poll(&ready, 1, 0) == 1;
}

/* The worker has its handle, still unused, when this returns. */
static inline void worker_start(struct worker *worker, const char *config_path, struct th_clock *clock)
{
	int pair[2];

	th_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "socketpair: %s", strerror(errno));
	worker->config_path = config_path;
	worker->clock = clock;
	worker->fd = pair[1];
	worker->pid = th_fork(worker_run, worker);
	worker->fd = pair[0];
	close(pair[1]);
	worker_reply(worker, NULL, 0);
}

static inline void worker_order(struct worker *worker, worker_job job, const void *in, size_t len)
{
	struct worker_order *order = calloc(1, sizeof(*order));

	th_check(order != NULL && len <= CROWD_BYTES, "no memory");
	order->job = job;
	if (in != NULL)
		memcpy(order->in, in, len);
	th_check(send(worker->fd, order, sizeof(*order), MSG_NOSIGNAL) == sizeof(*order), "send: %s", strerror(errno));
	free(order);
}

static inline void worker_call(
	struct worker *worker, worker_job job, const void *in, size_t in_len, void *out, size_t out_len)
{
	worker_order(worker, job, in, in_len);
	worker_reply(worker, out, out_len);
}

/* As a process ends in order. */
static inline void worker_stop(struct worker *worker)
{
	worker_order(worker, NULL, NULL, 0);
	th_join(worker->pid, CROWD_PATIENCE_MS);
	close(worker->fd);
}

/* As a process ends in the field: no word, nothing written down. */
static inline void worker_kill(struct worker *worker)
{
	int status = 0;

	th_check(kill(worker->pid, SIGKILL) == 0, "kill: %s", strerror(errno));
	th_check(waitpid(worker->pid, &status, 0) == worker->pid && WIFSIGNALED(status), "the worker was not killed");
	close(worker->fd);
}

/* ---- jobs that several programs order ------------------------------------------ */

struct user_order {
	char user[64];
	char institution[64];
	uint32_t min_ttl_ms;
	uint32_t deadline_ms;
};

static inline struct user_order order_for(const char *user)
{
	struct user_order order = { .user = "" };

	snprintf(order.user, sizeof(order.user), "%s", user);
	return order;
}

/* struct user_order -> struct had */
static inline void job_bearer(struct th_host *host, const void *in, void *out)
{
	const struct user_order *order = in;

	get_bearer(host, &(struct wish){ order->user, NULL, order->min_ttl_ms, order->deadline_ms }, out);
}

static inline void worker_bearer(struct worker *worker, const char *user, struct had *had)
{
	struct user_order order = order_for(user);

	worker_call(worker, job_bearer, &order, sizeof(order), had, sizeof(*had));
}

struct inspected {
	acctlink_status rc;
	acctlink_inspect_result result;
};

/* struct user_order -> struct inspected */
static inline void job_inspect(struct th_host *host, const void *in, void *out)
{
	const struct user_order *order = in;
	struct inspected *inspected = out;

	inspected->result = (acctlink_inspect_result)ACCTLINK_INSPECT_RESULT_INIT;
	inspected->rc = th_inspect(
		host, order->user, order->institution[0] != '\0' ? order->institution : NULL, &inspected->result, NULL);
}

static inline void worker_inspect(struct worker *worker, const char *user, struct inspected *inspected)
{
	struct user_order order = order_for(user);

	worker_call(worker, job_inspect, &order, sizeof(order), inspected, sizeof(*inspected));
}

#endif
