/* SPDX-License-Identifier: MIT
 * The store in trouble: a disk that is full before a send and after an answer,
 * a store that is removed, replaced or damaged under a running handle. Whatever
 * happens, nothing is sent that could not be kept, and nothing is lost that was
 * received.
 *
 * A disk is made full in two ways: by the limit on file sizes (any write fails
 * with EFBIG), and by a small file system of its own (ENOSPC), where the kernel
 * lets us mount one. Both run in a child process, which they would spoil.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "peek.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS ((int64_t)3600 * 1000)

/* ---- full disks -------------------------------------------------------------- */

struct disk {
	struct th_provider *provider;
	char *folder; /* where the store is */
	void (*prepare)(struct disk *disk);
	void (*fill)(struct disk *disk, bool full);
};

static void prepare_limit(struct disk *disk)
{
	(void)disk;
	th_check(signal(SIGXFSZ, SIG_IGN) != SIG_ERR, "signal");
}

static void fill_limit(struct disk *disk, bool full)
{
	struct rlimit limit;

	(void)disk;
	th_check(getrlimit(RLIMIT_FSIZE, &limit) == 0, "getrlimit");
	limit.rlim_cur = full ? 0 : limit.rlim_max;
	th_check(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

/* True if this process now has a file system of one mebibyte at `folder`. */
static bool mount_small(const char *folder)
{
	const uid_t uid = getuid();
	const gid_t gid = getgid();
	char line[64];
	FILE *map;

	if (unshare(CLONE_NEWNS) != 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			return false;
		map = fopen("/proc/self/setgroups", "we");
		if (map == NULL || fputs("deny", map) < 0 || fclose(map) != 0)
			return false;
		snprintf(line, sizeof(line), "%u %u 1", (unsigned)uid, (unsigned)uid);
		map = fopen("/proc/self/uid_map", "we");
		if (map == NULL || fputs(line, map) < 0 || fclose(map) != 0)
			return false;
		snprintf(line, sizeof(line), "%u %u 1", (unsigned)gid, (unsigned)gid);
		map = fopen("/proc/self/gid_map", "we");
		if (map == NULL || fputs(line, map) < 0 || fclose(map) != 0)
			return false;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
		&& mount("small", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0700") == 0;
}

static bool can_mount(void)
{
	char *folder = th_temp_dir();
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(mount_small(folder) ? 0 : 1);
	th_check(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
	free(folder);
	return status == 0;
}

static void prepare_mount(struct disk *disk)
{
	th_check(mount_small(disk->folder), "mount: %s", strerror(errno));
}

/* Writes until not one byte more goes in, or removes what was written. */
static void fill_mount(struct disk *disk, bool full)
{
	char *path = th_printf("%s/filler", disk->folder);
	static char block[4096];
	int fd;

	if (full) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		th_check(fd >= 0, "open %s: %s", path, strerror(errno));
		while (write(fd, block, sizeof(block)) > 0 || write(fd, block, 1) > 0)
			continue;
		th_check(errno == ENOSPC, "%s", strerror(errno));
		close(fd);
	} else {
		th_check(unlink(path) == 0, "unlink %s: %s", path, strerror(errno));
	}
	free(path);
}

static const struct disk limited = { .prepare = prepare_limit, .fill = fill_limit };
static const struct disk mounted = { .prepare = prepare_mount, .fill = fill_mount };

/* A handle on a store on that disk; in the child. */
static struct th_host *host_on(struct disk *disk)
{
	char *path;
	struct th_host *host;

	disk->prepare(disk);
	path = th_config_write(disk->folder, disk->provider, NULL);
	host = th_host_open(path, NULL);
	free(path);
	return host;
}

/* Runs a scenario in a child, on one of the disks. */
static void on_disk(const struct disk *kind, int (*scenario)(void *ctx))
{
	struct disk disk = *kind;

	if (kind == &mounted && !can_mount()) {
		printf("# no file system can be mounted here (not root, and no user namespaces)\n");
		skip();
	}
	disk.provider = th_provider_start(TH_PRACTICE, NULL);
	disk.folder = th_temp_dir();
	th_join(th_fork(scenario, &disk), 100000);
	th_provider_stop(&disk.provider);
	free(disk.folder);
}

static void down(const char *what, acctlink_status rc, const acctlink_error *err)
{
	th_check(rc == ACCTLINK_STORE_DOWN && err->status == rc && err->where[0] == '/', "%s: %d %s", what, (int)rc,
		th_error_text(err));
}

/* A connection that failed is closed; the last one takes the write-ahead log with
 * it, which is room again. So the disk is filled anew before each call. */
#define DOWN_WHEN_FULL(disk, what, call) \
	do { \
		(disk)->fill((disk), true); \
		down(what, call, &err); \
	} while (0)

static int refreshes(struct disk *disk)
{
	return th_count(disk->provider, "token", "refresh_token");
}

static int a_refresh_that_could_not_be_kept_is_not_sent(void *ctx)
{
	struct disk *disk = ctx;
	struct th_host *host = host_on(disk);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	char *first;

	th_must_link(host, disk->provider, "ana", NULL, NULL);
	first = th_must_bearer(host, "ana", NULL, NULL);
	/* A refresh is due, the bearer is good still: it is served, nothing is sent. */
	th_advance(host, disk->provider, HOUR_MS - 10000);
	disk->fill(disk, true);
	bearer = th_must_bearer(host, "ana", NULL, &info);
	th_check(strcmp(bearer, first) == 0 && info.generation == 1, "another bearer");
	free(bearer);
	bearer = NULL;
	/* The bearer has ended. */
	th_advance(host, disk->provider, 20000);
	for (int i = 0; i < 3; i++) {
		acctlink_status rc;

		disk->fill(disk, true);
		rc = th_bearer(host, "ana", NULL, &bearer, &info, &err);
		if (rc == ACCTLINK_OK) { /* a connection that closed just then made room: what was sent is kept */
			th_check(info.generation == 2 && refreshes(disk) == 1, "%d refreshes", refreshes(disk));
			disk->fill(disk, false);
			goto end;
		}
		down("get_bearer", rc, &err);
	}
	th_check(bearer == NULL && refreshes(disk) == 0, "%d refreshes were sent that could not be kept",
		refreshes(disk));
	disk->fill(disk, false);
	th_check(th_inspect(host, "ana", NULL, &result, &err) == ACCTLINK_OK && result.generation == 1
			&& result.state == ACCTLINK_STATE_LINKED && result.claim == ACCTLINK_CLAIM_NONE
			&& result.failures == 0,
		"state %d, claim %d", (int)result.state, (int)result.claim);
	bearer = th_must_bearer(host, "ana", NULL, &info);
	th_check(info.generation == 2 && refreshes(disk) == 1 && strcmp(bearer, first) != 0, "generation %llu",
		(unsigned long long)info.generation);
end:
	free(bearer);
	free(first);
	th_host_free(&host);
	return 0;
}

struct waiter {
	struct th_host *host;
	acctlink_status rc;
	char *bearer;
};

static void *wait_for_bearer(void *ctx)
{
	struct waiter *waiter = ctx;

	waiter->rc = th_bearer(waiter->host, "ana", NULL, &waiter->bearer, NULL, NULL);
	return NULL;
}

struct line_in_log {
	struct th_host *host;
	const char *part;
};

static bool was_logged(void *ctx)
{
	const struct line_in_log *line = ctx;

	return th_lines_contain(line->host->logs, line->part);
}

static void wait_for_log(struct th_host *host, const char *part)
{
	struct line_in_log line = { host, part };

	th_wait_until(was_logged, &line, 20000, part);
}

static int a_refreshed_set_is_kept_as_soon_as_there_is_room(void *ctx)
{
	struct disk *disk = ctx;
	struct th_host *host = host_on(disk);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	struct waiter waiter = { .host = host };
	pthread_t thread;

	th_must_link(host, disk->provider, "ana", NULL, NULL);
	th_advance(host, disk->provider, HOUR_MS);
	th_script(disk->provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_check(pthread_create(&thread, NULL, wait_for_bearer, &waiter) == 0, "pthread_create");
	th_wait_held(disk->provider, "refresh", 1);
	disk->fill(disk, true);
	th_release(disk->provider, "refresh");
	wait_for_log(host, "can't take the end of a refresh yet");
	/* Kept before seen: nobody has it. If the store can be read, it tells of the claim. */
	if (th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_OK)
		th_check(result.generation == 1 && result.claim == ACCTLINK_CLAIM_OPEN, "generation %llu, claim %d",
			(unsigned long long)result.generation, (int)result.claim);
	th_check(th_lines_count(host->events, "REFRESHED") == 0, "told before it was kept");
	disk->fill(disk, false);
	pthread_join(thread, NULL);
	th_check(waiter.rc == ACCTLINK_OK && waiter.bearer != NULL, "the waiting call: %d", (int)waiter.rc);
	th_check(refreshes(disk) == 1, "%d refreshes", refreshes(disk));
	th_check(th_lines_count(host->logs, "can't take the end of a refresh yet") == 1, "the log is flooded");
	/* What was kept is what the provider calls current: the next refresh is accepted. */
	th_advance(host, disk->provider, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 3 && refreshes(disk) == 2 && th_grant_alive(disk->provider, 0)
			&& th_max_arrivals(disk->provider) == 1,
		"generation %llu", (unsigned long long)info.generation);
	free(waiter.bearer);
	th_host_free(&host);
	return 0;
}

static int a_failed_refresh_is_noted_as_soon_as_there_is_room(void *ctx)
{
	struct disk *disk = ctx;
	struct th_host *host = host_on(disk);
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	struct waiter waiter = { .host = host };
	pthread_t thread;

	th_must_link(host, disk->provider, "ana", NULL, NULL);
	th_advance(host, disk->provider, HOUR_MS);
	th_script(disk->provider, "token", "refresh_token", 1,
		"{'status':503,'json':{'error':'temporarily_unavailable'},'hold':'refresh'}");
	th_check(pthread_create(&thread, NULL, wait_for_bearer, &waiter) == 0, "pthread_create");
	th_wait_held(disk->provider, "refresh", 1);
	disk->fill(disk, true);
	th_release(disk->provider, "refresh");
	wait_for_log(host, "can't take the end of a refresh yet");
	disk->fill(disk, false);
	pthread_join(thread, NULL);
	th_check(waiter.rc == ACCTLINK_PROVIDER_DOWN && waiter.bearer == NULL, "the waiting call: %d", (int)waiter.rc);
	th_check(th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_OK && result.state == ACCTLINK_STATE_STALE
			&& result.failures == 1 && result.last_http_status == 503 && result.claim == ACCTLINK_CLAIM_NONE
			&& refreshes(disk) == 1,
		"state %d, %u failures, HTTP %d", (int)result.state, result.failures, (int)result.last_http_status);
	th_host_free(&host);
	return 0;
}

static int a_code_that_could_not_be_kept_is_not_sent(void *ctx)
{
	static struct th_flow flow;
	static struct th_flow none;
	struct disk *disk = ctx;
	struct th_host *host = host_on(disk);
	acctlink_callback_result result = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_error err = { 0 };
	char *params;

	th_check(th_begin(host, "ana", NULL, &flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	params = th_consent(disk->provider, flow.url);
	disk->fill(disk, true);
	for (int i = 0; i < 3; i++) {
		DOWN_WHEN_FULL(disk, "begin", th_begin(host, "ben", NULL, &none, &err));
		th_check(none.url[0] == '\0' && none.set_cookie[0] == '\0', "an URL of a flow that is not stored");
		DOWN_WHEN_FULL(disk, "on_callback", th_callback(host, "ana", params, flow.cookie, &result, &err));
	}
	th_check(th_count(disk->provider, "token", NULL) == 0, "the code was sent");
	disk->fill(disk, false);
	/* The same callback, once there is room. */
	th_check(th_callback(host, "ana", params, flow.cookie, &result, &err) == ACCTLINK_OK && result.generation == 1
			&& result.flags == 0,
		"%s", th_error_text(&err));
	th_check(th_count(disk->provider, "token", NULL) == 1, "%d exchanges", th_count(disk->provider, "token", NULL));
	free(th_must_bearer(host, "ana", NULL, NULL));
	free(params);
	th_host_free(&host);
	return 0;
}

struct consent {
	struct th_host *host;
	struct th_flow flow;
	char *params;
	acctlink_status rc;
	acctlink_callback_result result;
};

static void *call_back(void *ctx)
{
	struct consent *consent = ctx;

	consent->rc = th_callback(consent->host, "ana", consent->params, consent->flow.cookie, &consent->result, NULL);
	return NULL;
}

static int a_consent_is_kept_as_soon_as_there_is_room(void *ctx)
{
	static struct consent consent;
	struct disk *disk = ctx;
	acctlink_callback_result again = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	pthread_t thread;

	consent.host = host_on(disk);
	th_check(th_begin(consent.host, "ana", NULL, &consent.flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	consent.params = th_consent(disk->provider, consent.flow.url);
	th_script(disk->provider, "token", "authorization_code", 1, "{'hold':'exchange'}");
	th_check(pthread_create(&thread, NULL, call_back, &consent) == 0, "pthread_create");
	th_wait_held(disk->provider, "exchange", 1);
	disk->fill(disk, true);
	th_release(disk->provider, "exchange");
	wait_for_log(consent.host, "can't take the end of a consent yet");
	th_check(th_lines_count(consent.host->events, "LINKED") == 0, "told before it was kept");
	disk->fill(disk, false);
	pthread_join(thread, NULL);
	th_check(consent.rc == ACCTLINK_OK && consent.result.generation == 1 && consent.result.epoch == 1,
		"the waiting call: %d", (int)consent.rc);
	th_check(th_callback(consent.host, "ana", consent.params, consent.flow.cookie, &again, &err) == ACCTLINK_OK
			&& (again.flags & ACCTLINK_CALLBACK_REPEATED) != 0
			&& strcmp(again.link_id, consent.result.link_id) == 0,
		"%s", th_error_text(&err));
	th_check(th_count(disk->provider, "token", NULL) == 1, "%d exchanges", th_count(disk->provider, "token", NULL));
	th_advance(consent.host, disk->provider, HOUR_MS);
	free(th_must_bearer(consent.host, "ana", NULL, &info));
	th_check(info.generation == 2, "what was kept can be refreshed");
	free(consent.params);
	th_host_free(&consent.host);
	return 0;
}

static int an_unlink_that_could_not_be_kept_ends_nothing(void *ctx)
{
	struct disk *disk = ctx;
	struct th_host *host = host_on(disk);
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_must_link(host, disk->provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, NULL));
	for (int i = 0; i < 3; i++)
		DOWN_WHEN_FULL(disk, "unlink", th_unlink(host, "ana", NULL, &result, &err));
	th_check(th_count(disk->provider, "revoke", NULL) == 0 && th_grant_alive(disk->provider, 0),
		"tokens of a link that is not ended were revoked");
	disk->fill(disk, false);
	free(th_must_bearer(host, "ana", NULL, NULL));
	/* A report holds at once in this process, and is written when there is room. */
	th_advance(host, disk->provider, 60000);
	disk->fill(disk, true);
	th_check(th_report(host, "ana", NULL, 1, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	for (int i = 0; i < 3; i++)
		DOWN_WHEN_FULL(disk, "get_bearer", th_bearer(host, "ana", NULL, &bearer, NULL, &err));
	th_check(bearer == NULL && refreshes(disk) == 0, "a refused bearer, or a refresh that can't be kept");
	disk->fill(disk, false);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 2 && refreshes(disk) == 1, "generation %llu", (unsigned long long)info.generation);
	th_check(th_unlink(host, "ana", NULL, &result, &err) == ACCTLINK_OK
			&& result.revocation == ACCTLINK_REVOCATION_CONFIRMED && !th_grant_alive(disk->provider, 0),
		"%s", th_error_text(&err));
	th_host_free(&host);
	return 0;
}

static int init_is_a_clear_error_and_good_once_there_is_room(void *ctx)
{
	struct disk *disk = ctx;
	struct th_host *host = NULL;
	acctlink_error err = { 0 };
	char *path;
	acctlink_status rc;

	disk->prepare(disk);
	path = th_config_write(disk->folder, disk->provider, NULL);
	disk->fill(disk, true);
	rc = th_host_try(path, NULL, &host, &err);
	th_check(rc == ACCTLINK_STORE_DOWN, "%s", th_error_text(&err));
	disk->fill(disk, false);
	host = th_host_open(path, NULL);
	th_must_link(host, disk->provider, "ana", NULL, NULL);
	th_host_free(&host);
	/* A store that is there, in a disk that is full. */
	disk->fill(disk, true);
	rc = th_host_try(path, NULL, &host, &err);
	th_check(rc == ACCTLINK_STORE_DOWN || rc == ACCTLINK_OK, "%s", th_error_text(&err));
	if (rc == ACCTLINK_OK)
		th_host_free(&host);
	disk->fill(disk, false);
	host = th_host_open(path, NULL);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	free(path);
	return 0;
}

/* Room for so many pages and no more: init fails wherever it gets to, and never
 * leaves something that a later init can't use. */
static int init_with_little_room(void *ctx)
{
	struct disk *disk = ctx;
	char *path;
	char *store = th_printf("%s/store.db", disk->folder);
	int good = 0;
	int bad = 0;

	disk->prepare(disk);
	path = th_config_write(disk->folder, disk->provider, NULL);
	for (int pages = 0; pages < 60; pages += pages < 20 ? 1 : 4) {
		char *filler = th_printf("%s/filler", disk->folder);
		struct th_host *host = NULL;
		acctlink_error err = { 0 };
		acctlink_status rc;
		struct stat st;

		disk->fill(disk, true);
		th_check(stat(filler, &st) == 0 && truncate(filler, st.st_size - pages * 4096) == 0, "truncate");
		rc = th_host_try(path, NULL, &host, &err);
		th_check(rc == ACCTLINK_OK || rc == ACCTLINK_STORE_DOWN, "with %d pages: %s", pages,
			th_error_text(&err));
		if (rc == ACCTLINK_OK) {
			acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;

			rc = th_inspect(host, "ana", NULL, &result, &err);
			th_check(rc == ACCTLINK_NOT_LINKED || rc == ACCTLINK_STORE_DOWN, "with %d pages: %s", pages,
				th_error_text(&err));
			th_host_free(&host);
			good++;
		} else {
			bad++;
		}
		disk->fill(disk, false);
		host = th_host_open(path, NULL);
		th_host_free(&host);
		th_check(unlink(store) == 0, "unlink");
		free(filler);
	}
	th_check(good > 0 && bad > 0, "%d good, %d bad: the room was never just too little", good, bad);
	free(store);
	free(path);
	return 0;
}

#define ON_BOTH_DISKS(scenario) \
	static void scenario##_under_a_limit(void **unused) \
	{ \
		(void)unused; \
		on_disk(&limited, scenario); \
	} \
	static void scenario##_on_a_full_file_system(void **unused) \
	{ \
		(void)unused; \
		on_disk(&mounted, scenario); \
	}

ON_BOTH_DISKS(a_refresh_that_could_not_be_kept_is_not_sent)
ON_BOTH_DISKS(a_refreshed_set_is_kept_as_soon_as_there_is_room)
ON_BOTH_DISKS(a_failed_refresh_is_noted_as_soon_as_there_is_room)
ON_BOTH_DISKS(a_code_that_could_not_be_kept_is_not_sent)
ON_BOTH_DISKS(a_consent_is_kept_as_soon_as_there_is_room)
ON_BOTH_DISKS(an_unlink_that_could_not_be_kept_ends_nothing)
ON_BOTH_DISKS(init_is_a_clear_error_and_good_once_there_is_room)

static void init_with_little_room_fails_clearly_and_leaves_nothing_half_made(void **unused)
{
	(void)unused;
	on_disk(&mounted, init_with_little_room);
}

/* ---- removed, replaced, damaged ------------------------------------------------------ */

static struct th_provider *provider;

static int start_provider(void **unused)
{
	(void)unused;
	provider = th_provider_start(TH_PRACTICE, NULL);
	return 0;
}

static int stop_provider(void **unused)
{
	(void)unused;
	th_provider_stop(&provider);
	return 0;
}

static const char *const store_files[] = { "store.db", "store.db-wal", "store.db-shm" };

static void move_files(const char *from, const char *to)
{
	for (size_t i = 0; i < COUNT(store_files); i++) {
		char *old = th_printf("%s/%s", from, store_files[i]);
		char *new = th_printf("%s/%s", to, store_files[i]);

		th_check(rename(old, new) == 0 || (i > 0 && errno == ENOENT), "rename %s: %s", old, strerror(errno));
		free(old);
		free(new);
	}
}

static void all_down(struct th_host *host, const char *words)
{
	static struct th_flow flow;
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	args.user = th_str("ana");
	list.items = &item;
	list.capacity = 1;
	down("begin", th_begin(host, "ana", NULL, &flow, &err), &err);
	th_check(strstr(err.message, words) != NULL, "'%s' wanted: %s", words, err.message);
	down("on_callback", th_callback(host, "ana", "code=a&state=b", NULL, NULL, &err), &err);
	down("get_bearer", th_bearer(host, "ben", NULL, &bearer, NULL, &err), &err);
	down("unlink", th_unlink(host, "ana", NULL, NULL, &err), &err);
	down("inspect", th_inspect(host, "ana", NULL, &inspect, &err), &err);
	down("list", host->api.list(host->handle, &args, &list, &err), &err);
	th_check(th_report(host, "ben", NULL, 1, &err) == ACCTLINK_OK, "a report only queues");
}

struct moved {
	struct th_host *host;
	char *dir;
	char *away;
};

/* Bearers are held once the first look at the store's changes is over. Leaves the
 * files away when the bearer is served without them. */
static bool served_without_store(void *ctx)
{
	struct moved *moved = ctx;
	char *bearer = NULL;

	free(th_must_bearer(moved->host, "ana", NULL, NULL));
	move_files(moved->dir, moved->away);
	if (th_bearer(moved->host, "ana", NULL, &bearer, NULL, NULL) == ACCTLINK_OK) {
		free(bearer);
		return true;
	}
	move_files(moved->away, moved->dir);
	return false;
}

static void a_store_that_was_removed_is_a_clear_error_and_comes_back(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	struct moved moved = { host, folder_of(host->config_path), th_temp_dir() };
	int sent;
	char *first;
	char *second;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	first = th_must_bearer(host, "ana", NULL, NULL);
	sent = th_count(provider, "token", NULL);
	th_wait_until(served_without_store, &moved, 10000, "a bearer that is held");
	all_down(host, "can't look at the store");
	second = th_must_bearer(host, "ana", NULL, NULL); /* what is held needs no store */
	th_check(strcmp(first, second) == 0 && th_count(provider, "token", NULL) == sent, "another bearer");
	free(second);
	move_files(moved.away, moved.dir);
	th_must_link(host, provider, "ben", NULL, NULL);
	th_host_restart(host);
	second = th_must_bearer(host, "ana", NULL, NULL);
	th_check(strcmp(first, second) == 0, "another bearer");
	free(second);
	free(first);
	th_host_free(&host);
	free(moved.away);
	free(moved.dir);
}

static void a_store_that_was_replaced_is_a_clear_error_and_stays_unmixed(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	struct th_host *other = th_host_new(provider, NULL);
	char *other_dir = folder_of(other->config_path);
	char *dir = folder_of(host->config_path);
	char *away = th_temp_dir();
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	char *other_config = th_printf("%s", other->config_path);

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_must_link(other, provider, "olga", NULL, NULL);
	th_host_free(&other);
	move_files(dir, away);
	move_files(other_dir, dir);
	all_down(host, "another file was put in the place");
	move_files(dir, other_dir);
	move_files(away, dir);
	th_check(th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_OK
			&& th_inspect(host, "olga", NULL, &result, NULL) == ACCTLINK_NOT_LINKED,
		"the first store is mixed");
	th_host_free(&host);
	host = th_host_open(other_config, NULL);
	th_check(th_inspect(host, "olga", NULL, &result, NULL) == ACCTLINK_OK
			&& th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_NOT_LINKED,
		"the second store is mixed");
	th_host_free(&host);
	free(other_config);
	free(away);
	free(dir);
	free(other_dir);
}

static void a_store_whose_folder_is_gone_is_a_clear_error(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *dir = folder_of(host->config_path);

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_remove_tree(dir);
	all_down(host, "can't look at");
	th_host_free(&host);
	free(dir);
}

static void overwrite(const char *path, off_t from, size_t len, uint64_t seed)
{
	unsigned char *noise = malloc(len);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	th_check(fd >= 0 && noise != NULL, "open %s: %s", path, strerror(errno));
	for (size_t i = 0; i < len; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		noise[i] = (unsigned char)(seed >> 56);
	}
	th_check(pwrite(fd, noise, len, from) == (ssize_t)len, "write %s: %s", path, strerror(errno));
	close(fd);
	free(noise);
}

static size_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* A damaged index can hide a row; all else must be told as it is. */
static void told_as_damage(const char *what, acctlink_status rc, const acctlink_error *err, bool may_work)
{
	bool clear = rc == ACCTLINK_BAD_STORE || rc == ACCTLINK_STORE_DOWN;

	if (may_work)
		clear = clear || rc == ACCTLINK_OK || rc == ACCTLINK_NOT_LINKED || rc == ACCTLINK_BAD_KEY
			|| rc == ACCTLINK_FOREIGN_CALLBACK || rc == ACCTLINK_UNKNOWN_PROVIDER
			|| rc == ACCTLINK_TIMED_OUT;
	th_check(clear, "%s: %s", what, rc == ACCTLINK_OK ? "OK" : th_error_text(err));
	th_check(rc == ACCTLINK_OK || (err->status == rc && err->message[0] != '\0'), "%s: no words", what);
}

static void use_all(struct th_host *host, bool may_work)
{
	static struct th_flow flow;
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item[8];
	acctlink_error err = { 0 };
	char *bearer = NULL;

	args.user = th_str("ana");
	list.items = item;
	list.capacity = COUNT(item);
	told_as_damage("inspect", th_inspect(host, "ana", NULL, &inspect, &err), &err, may_work);
	told_as_damage("list", host->api.list(host->handle, &args, &list, &err), &err, may_work);
	told_as_damage("get_bearer", th_bearer(host, "ben", NULL, &bearer, NULL, &err), &err, may_work);
	told_as_damage("begin", th_begin(host, "ana", NULL, &flow, &err), &err, may_work);
	told_as_damage("on_callback", th_callback(host, "ana", "code=a&state=b", NULL, NULL, &err), &err, may_work);
	told_as_damage("unlink", th_unlink(host, "ana", NULL, NULL, &err), &err, may_work);
	free(bearer);
}

static void shut_down_anyhow(struct th_host *host)
{
	acctlink_status rc = host->api.shutdown(host->handle, 2000, NULL);

	th_check(rc == ACCTLINK_OK || rc == ACCTLINK_TIMED_OUT, "shutdown: %d", (int)rc);
	host->handle = NULL;
}

static void a_store_overwritten_as_a_whole_is_called_damaged(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *store = store_of(host->config_path);
	char *wal = th_printf("%s-wal", store);
	acctlink_error err = { 0 };
	struct th_host *again = NULL;
	int sent;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_must_link(host, provider, "ben", NULL, NULL);
	th_host_restart(host); /* so that all of it is in the file itself */
	th_check(th_lines_count(host->events, NULL) == 2, "events");
	sent = th_count(provider, "token", NULL);
	overwrite(store, 0, size_of(store), 1);
	use_all(host, false);
	th_check(th_count(provider, "token", NULL) == sent && th_count(provider, "revoke", NULL) == 0,
		"something was sent");
	shut_down_anyhow(host);
	th_host_free(&host);
	host = th_host_new(provider, NULL);
	th_check(th_host_try(host->config_path, NULL, &again, &err) == ACCTLINK_OK, "another store is unharmed");
	th_host_free(&again);
	th_host_free(&host);
	free(wal);
	free(store);
}

static void a_damaged_store_is_refused_by_init(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *path = th_printf("%s", host->config_path);
	char *store = store_of(path);
	acctlink_error err = { 0 };
	struct th_host *none = NULL;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_host_free(&host);
	overwrite(store, 0, size_of(store), 2);
	th_check(th_host_try(path, NULL, &none, &err) == ACCTLINK_BAD_STORE && strstr(err.message, "backup") != NULL,
		"%s", th_error_text(&err));
	th_check(truncate(store, 300) == 0, "truncate");
	th_check(th_host_try(path, NULL, &none, &err) == ACCTLINK_BAD_STORE && strstr(err.message, "cut off") != NULL,
		"%s", th_error_text(&err));
	free(store);
	free(path);
}

/* Noise over random parts of the store or its log while the handle is in use. */
static void damage_anywhere_is_an_error_and_never_a_crash(void **unused)
{
	const int rounds = th_full() ? 300 : 30;
	uint64_t seed = th_seed();

	(void)unused;
	for (int round = 0; round < rounds; round++) {
		struct th_host *host = th_host_new(provider, NULL);
		char *store = store_of(host->config_path);
		char *wal = th_printf("%s-wal", store);
		const char *victim;
		size_t len;
		size_t at;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		th_must_link(host, provider, "ana", NULL, NULL);
		th_must_link(host, provider, "ben", NULL, NULL);
		if (round % 3 == 0)
			th_host_restart(host);
		victim = round % 2 == 0 || size_of(wal) == 0 ? store : wal;
		len = 1 + (size_t)(seed >> 40) % 8192;
		at = (size_t)(seed >> 20) % (size_of(victim) + 1);
		if (at + len > size_of(victim))
			len = size_of(victim) - at;
		overwrite(victim, (off_t)at, len, seed);
		use_all(host, true);
		shut_down_anyhow(host);
		th_host_free(&host);
		free(wal);
		free(store);
	}
}

static void a_seal_that_was_tampered_with_opens_nothing(void **unused)
{
	static const char *const tampering[] = {
		"UPDATE link SET sealed = zeroblob(200) WHERE user = 'ana'",
		"UPDATE link SET sealed = x'' WHERE user = 'ana'",
		"UPDATE link SET sealed = (SELECT sealed FROM link WHERE user = 'ben') WHERE user = 'ana'",
		"UPDATE link SET generation = 2 WHERE user = 'ana'",
		"UPDATE link SET epoch = 2 WHERE user = 'ana'",
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(tampering); i++) {
		struct th_host *host = th_host_new(provider, NULL);
		acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
		acctlink_error err = { 0 };
		char *bearer = NULL;
		int sent;

		th_must_link(host, provider, "ana", NULL, NULL);
		th_must_link(host, provider, "ben", NULL, NULL);
		sent = th_count(provider, "token", NULL);
		store_sql(host->config_path, tampering[i]);
		th_host_restart(host);
		th_check(th_bearer(host, "ana", NULL, &bearer, NULL, &err) == ACCTLINK_BAD_STORE && bearer == NULL,
			"%s: %s", tampering[i], th_error_text(&err));
		th_check(th_inspect(host, "ana", NULL, &result, &err) == ACCTLINK_OK, "inspect needs no seal: %s",
			th_error_text(&err));
		free(th_must_bearer(host, "ben", NULL, NULL));
		th_check(th_count(provider, "token", NULL) == sent, "something was sent");
		th_host_free(&host);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refresh_that_could_not_be_kept_is_not_sent_under_a_limit),
		cmocka_unit_test(a_refresh_that_could_not_be_kept_is_not_sent_on_a_full_file_system),
		cmocka_unit_test(a_refreshed_set_is_kept_as_soon_as_there_is_room_under_a_limit),
		cmocka_unit_test(a_refreshed_set_is_kept_as_soon_as_there_is_room_on_a_full_file_system),
		cmocka_unit_test(a_failed_refresh_is_noted_as_soon_as_there_is_room_under_a_limit),
		cmocka_unit_test(a_failed_refresh_is_noted_as_soon_as_there_is_room_on_a_full_file_system),
		cmocka_unit_test(a_code_that_could_not_be_kept_is_not_sent_under_a_limit),
		cmocka_unit_test(a_code_that_could_not_be_kept_is_not_sent_on_a_full_file_system),
		cmocka_unit_test(a_consent_is_kept_as_soon_as_there_is_room_under_a_limit),
		cmocka_unit_test(a_consent_is_kept_as_soon_as_there_is_room_on_a_full_file_system),
		cmocka_unit_test(an_unlink_that_could_not_be_kept_ends_nothing_under_a_limit),
		cmocka_unit_test(an_unlink_that_could_not_be_kept_ends_nothing_on_a_full_file_system),
		cmocka_unit_test(init_is_a_clear_error_and_good_once_there_is_room_under_a_limit),
		cmocka_unit_test(init_is_a_clear_error_and_good_once_there_is_room_on_a_full_file_system),
		cmocka_unit_test(init_with_little_room_fails_clearly_and_leaves_nothing_half_made),
		cmocka_unit_test(a_store_that_was_removed_is_a_clear_error_and_comes_back),
		cmocka_unit_test(a_store_that_was_replaced_is_a_clear_error_and_stays_unmixed),
		cmocka_unit_test(a_store_whose_folder_is_gone_is_a_clear_error),
		cmocka_unit_test(a_store_overwritten_as_a_whole_is_called_damaged),
		cmocka_unit_test(a_damaged_store_is_refused_by_init),
		cmocka_unit_test(damage_anywhere_is_an_error_and_never_a_crash),
		cmocka_unit_test(a_seal_that_was_tampered_with_opens_nothing),
	};

	return cmocka_run_group_tests_name("disk", tests, start_provider, stop_provider);
}
