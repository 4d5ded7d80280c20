/* SPDX-License-Identifier: MIT
 * Akoya's one-use refresh tokens under many hands: threads and processes that ask
 * at the moment of expiry, and a process that is killed before it could send and
 * between the bank's answer and its being kept.
 */
#include "akoya.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* A config that several processes use, with a clock for all of them. */
struct shared {
	char *dir;
	char *config_path;
	struct th_clock *clock;
	atomic_int *calls; /* that began, or ended in vain; all processes see it */
};

static void shared_new(struct shared *shared)
{
	const struct th_config config = { .profile = "akoya", .issuer = issuer, .lines = "poll_interval = 0.05;" };
	struct th_host *host;

	shared->dir = th_temp_dir();
	shared->config_path = th_config_write(shared->dir, provider, &config);
	shared->clock = th_clock_new();
	shared->calls = mmap(NULL, sizeof(atomic_int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	th_check(shared->calls != MAP_FAILED, "mmap");
	host = th_host_open(shared->config_path, shared->clock);
	link_user(host, "ana", NULL);
	th_advance(host, provider, DAY);
	th_host_free(&host); /* no thread is left to be forked */
}

static void shared_free(struct shared *shared)
{
	munmap(shared->calls, sizeof(atomic_int));
	th_clock_free(&shared->clock);
	free(shared->config_path);
	free(shared->dir);
}

/* ---- at the moment of expiry ------------------------------------------------------------------- */

struct asking {
	struct th_host *host;
	atomic_int *calls;
};

static void ask_once(void *ctx, unsigned i)
{
	const struct asking *asking = ctx;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer;

	(void)i;
	atomic_fetch_add(asking->calls, 1);
	bearer = th_must_bearer(asking->host, "ana", "mikomo", &info);
	expect_number(info.generation, 2);
	expect_number(th_userinfo(provider, bearer), 200);
	free(bearer);
}

static int ask_with_two_threads(void *ctx)
{
	const struct shared *shared = ctx;
	struct asking asking = { th_host_open(shared->config_path, shared->clock), shared->calls };

	th_parallel(2, ask_once, &asking);
	th_host_free(&asking.host);
	return 0;
}

static bool all_four_ask(void *ctx)
{
	return atomic_load(((struct shared *)ctx)->calls) == 4;
}

static void two_threads_of_two_processes_that_ask_at_expiry_cost_one_refresh(void **state)
{
	struct shared shared;
	pid_t pids[2];
	size_t i;

	(void)state;
	shared_new(&shared);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'both'}");
	for (i = 0; i < 2; i++)
		pids[i] = th_fork(ask_with_two_threads, &shared);
	th_wait_held(provider, "both", 1);
	th_wait_until(all_four_ask, &shared, 20000, "two threads in each of two processes");
	expect_number(refreshes(), 1);
	th_release(provider, "both");
	for (i = 0; i < 2; i++)
		th_join(pids[i], 30000);
	expect_number(refreshes(), 1);
	expect_number(th_max_arrivals(provider), 1);
	expect_number(th_grant_generation(provider, -1), 2);
	shared_free(&shared);
}

/* ---- killed ----------------------------------------------------------------------------------------- */

/* Somebody else writes: the plugin can neither claim nor keep. */
static sqlite3 *lock_store(const struct shared *shared)
{
	char *path = th_printf("%s/store.db", shared->dir);
	sqlite3 *db = NULL;

	th_check(sqlite3_open(path, &db) == SQLITE_OK, "open %s", path);
	sqlite3_busy_timeout(db, 10000);
	th_check(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK, "lock: %s", sqlite3_errmsg(db));
	free(path);
	return db;
}

static void unlock_store(sqlite3 *db)
{
	th_check(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK && sqlite3_close(db) == SQLITE_OK,
		"unlock");
}

static int ask_and_be_killed(void *ctx)
{
	const struct shared *shared = ctx;
	struct asking asking = { th_host_open(shared->config_path, shared->clock), shared->calls };

	ask_once(&asking, 0);
	return 0;
}

static void kill_it(pid_t pid)
{
	int status = 0;

	th_check(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status)
			&& WTERMSIG(status) == SIGKILL,
		"the child was not killed");
}

static bool answered(void *ctx)
{
	char *outcome = th_request(ctx, "token", 0, "outcome");
	const bool is = strcmp(outcome, "answered") == 0;

	free(outcome);
	return is;
}

static void a_process_killed_between_the_answer_and_its_keeping_serves_no_stale_bearer_afterwards(void **state)
{
	struct shared shared;
	struct th_host *host;
	acctlink_error err = { 0 };
	char *sent;
	sqlite3 *db;
	pid_t pid;

	(void)state;
	shared_new(&shared);
	sent = th_grant_current(provider, -1);
	th_script(provider, "token", "refresh_token", 1, "{'hold':'answer'}");
	pid = th_fork(ask_and_be_killed, &shared);
	th_wait_held(provider, "answer", 1);
	db = lock_store(&shared);
	th_release(provider, "answer");
	th_wait_until(answered, provider, 10000, "the bank's answer");
	kill_it(pid);
	unlock_store(db);
	host = th_host_open(shared.config_path, shared.clock);
	expect_number(look(host, "ana").claim, ACCTLINK_CLAIM_UNKNOWN);
	/* The bearer has ended, so the token is sent once more; it is spent, and that is called by its name. */
	expect_status(denied(host, "ana", &err), ACCTLINK_RELINK_REQUIRED, &err);
	expect_state(host, "ana", ACCTLINK_STATE_RELINK_REQUIRED, ACCTLINK_REASON_ROTATION_LOST);
	expect_number(th_arrivals(provider, sent), 2);
	link_user(host, "ana", NULL);
	expect_bearer(host, "ana", 2);
	th_host_free(&host);
	free(sent);
	shared_free(&shared);
}

/* Asks again and again while the store lets nobody write. */
static int ask_in_vain(void *ctx)
{
	const struct shared *shared = ctx;
	struct th_host *host = th_host_open(shared->config_path, shared->clock);
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	char buf[16];

	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.institution = th_str("mikomo");
	args.deadline_ms = 200;
	for (;;) {
		th_check(host->api.get_bearer(host->handle, &args, buf, sizeof(buf), NULL, NULL) != ACCTLINK_OK,
			"a bearer");
		atomic_fetch_add(shared->calls, 1);
	}
	return 0;
}

static bool tried_in_vain(void *ctx)
{
	return atomic_load(((struct shared *)ctx)->calls) >= 3;
}

static void a_process_killed_before_it_could_send_costs_nothing(void **state)
{
	struct shared shared;
	struct th_host *host;
	sqlite3 *db;
	pid_t pid;

	(void)state;
	shared_new(&shared);
	db = lock_store(&shared);
	pid = th_fork(ask_in_vain, &shared);
	th_wait_until(tried_in_vain, &shared, 20000, "calls that the store turned away");
	expect_number(refreshes(), 0);
	kill_it(pid);
	unlock_store(db);
	host = th_host_open(shared.config_path, shared.clock);
	expect_bearer(host, "ana", 2);
	expect_number(refreshes(), 1);
	expect_number(th_max_arrivals(provider), 1);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	th_host_free(&host);
	shared_free(&shared);
}

#define akoya_test(f) cmocka_unit_test_setup(f, be_akoya)

int main(void)
{
	const struct CMUnitTest tests[] = { akoya_test(
						    two_threads_of_two_processes_that_ask_at_expiry_cost_one_refresh),
		akoya_test(a_process_killed_between_the_answer_and_its_keeping_serves_no_stale_bearer_afterwards),
		akoya_test(a_process_killed_before_it_could_send_costs_nothing) };

	return cmocka_run_group_tests_name("akoya together", tests, start_provider, stop_provider);
}
