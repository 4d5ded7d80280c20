/* SPDX-License-Identifier: MIT
 * Servers load plugins in the master and fork their workers: before the first
 * use, after it with a refresh on its way, and in the middle of a write to the
 * store. All processes of a round share one store and one clock; each refreshes
 * the link of a user of its own, so that the provider's ledger tells whose
 * request came over which connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"

enum { CHILDREN = 4, PARENT = CHILDREN, PROCESSES, ROUNDS = 200, SOCKETS_MAX = 16 };

/* The grants at the provider are numbered in the order of the consents. */
static const char *const users[PROCESSES] = { "child 0", "child 1", "child 2", "child 3", "parent" };

static void skip_with(const char *reason)
{
	printf("# left out: %s\n", reason);
	skip();
}

/* What one process of a round had, in memory that all share. */
struct traces {
	char state[128];
	char challenge[128]; /* of the verifier, which nobody but the provider may see */
	char nonce[128];
	char owner[128]; /* the path of its owner file */
	char sockets[SOCKETS_MAX][128];
	int ports[SOCKETS_MAX];
	unsigned socket_count;
	uint64_t generation;
	atomic_bool done;
};

struct scene {
	struct th_provider *provider;
	struct th_clock *clock;
	struct th_lines *drawn; /* all states, challenges and nonces of all rounds */
	char *path;
	struct traces *traces;             /* PROCESSES of them */
	struct th_host *host;              /* the parent's of this round */
	struct guest_descriptors at_first; /* before the host was made */
	uint64_t generations[PROCESSES];   /* that the links have before the round */
	unsigned round;
	bool in_use;      /* the parent's handle is in use at the fork */
	bool may_compare; /* the kernel lets us compare descriptors of processes */
};

struct child {
	struct scene *scene;
	unsigned n;
};

static void scene_open(struct scene *scene)
{
	/* No look at the store but those that the test makes: the fork falls between them. */
	const struct th_config config = { .lines = "poll_interval = 3600; flows_per_user = 1000;" };
	char *dir = th_temp_dir();
	struct th_host *host;

	memset(scene, 0, sizeof(*scene));
	scene->provider = th_provider_start(TH_PRACTICE, NULL);
	scene->clock = th_clock_new();
	scene->drawn = th_lines_new();
	scene->path = th_config_write(dir, scene->provider, &config);
	scene->traces = mmap(
		NULL, PROCESSES * sizeof(struct traces), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	th_check(scene->traces != MAP_FAILED, "mmap: %s", strerror(errno));
	scene->may_compare = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 1L, 1L) == 0;
	if (!scene->may_compare)
		printf("# kcmp: %s: descriptors of the store are not compared\n", strerror(errno));
	host = th_host_open(scene->path, scene->clock);
	for (size_t i = 0; i < PROCESSES; i++) {
		th_must_link(host, scene->provider, users[i], NULL, NULL);
		scene->generations[i] = 1;
	}
	th_host_free(&host);
	free(dir);
}

static void scene_close(struct scene *scene)
{
	th_check(munmap(scene->traces, PROCESSES * sizeof(struct traces)) == 0, "munmap");
	free(scene->path);
	th_lines_free(&scene->drawn);
	th_clock_free(&scene->clock);
	th_provider_stop(&scene->provider);
}

static void advance(struct scene *scene, int64_t ms)
{
	th_provider_advance(scene->provider, ms);
	th_clock_advance(scene->clock, ms);
}

/* ---- what each process does and leaves --------------------------------------------- */

static void begin_a_consent(struct scene *scene, struct th_host *host, unsigned n)
{
	struct traces *traces = &scene->traces[n];
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *challenge;
	char *nonce;

	th_check(flow != NULL, "no memory");
	th_check(th_begin(host, users[n], NULL, flow, &err) == ACCTLINK_OK, "begin of %s in round %u: %s", users[n],
		scene->round, th_error_text(&err));
	challenge = th_param(flow->url, "code_challenge");
	nonce = th_param(flow->url, "nonce");
	th_check(challenge != NULL && nonce != NULL, "no code_challenge or nonce: %s", flow->url);
	snprintf(traces->state, sizeof(traces->state), "%s", flow->state);
	snprintf(traces->challenge, sizeof(traces->challenge), "%s", challenge);
	snprintf(traces->nonce, sizeof(traces->nonce), "%s", nonce);
	free(nonce);
	free(challenge);
	free(flow);
}

/* The bearer is over, so that this is a refresh. */
static void refresh(struct scene *scene, struct th_host *host, unsigned n)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_check(th_bearer(host, users[n], NULL, &bearer, &info, &err) == ACCTLINK_OK, "bearer of %s in round %u: %s",
		users[n], scene->round, th_error_text(&err));
	free(bearer);
	scene->traces[n].generation = info.generation;
}

/* Descriptors that were not there `before`. */
static void note_descriptors(struct scene *scene, const struct guest_descriptors *before, unsigned n)
{
	struct traces *traces = &scene->traces[n];
	struct guest_descriptors now;

	guest_look(&now);
	for (int fd = 0; fd < GUEST_DESCRIPTORS; fd++) {
		int port;

		if (now.what[fd][0] == '\0' || guest_has(before, now.what[fd]))
			continue;
		if (strstr(now.what[fd], "/owners/") != NULL) {
			th_check(traces->owner[0] == '\0', "%s holds two owner files", users[n]);
			snprintf(traces->owner, sizeof(traces->owner), "%s", now.what[fd]);
		}
		port = guest_port(fd, scene->provider->port);
		if (strncmp(now.what[fd], "socket:", 7) != 0)
			continue;
		th_check(traces->socket_count < SOCKETS_MAX, "%s has more than %d sockets", users[n], SOCKETS_MAX);
		snprintf(traces->sockets[traces->socket_count], sizeof(traces->sockets[0]), "%s", now.what[fd]);
		traces->ports[traces->socket_count++] = port;
	}
}

static bool is_of_the_store(const char *what)
{
	return strstr(what, "/store.db") != NULL;
}

/* Whether a descriptor here and one of the parent are one and the same opening of a file. */
static void no_connection_to_the_store_is_the_parent_s(struct scene *scene, const struct guest_descriptors *before)
{
	struct guest_descriptors now;
	int own = 0;

	if (!scene->may_compare)
		return;
	guest_look(&now);
	for (int mine = 0; mine < GUEST_DESCRIPTORS; mine++) {
		own += is_of_the_store(now.what[mine]);
		for (int its = 0; its < GUEST_DESCRIPTORS && is_of_the_store(now.what[mine]); its++) {
			/* Those of the parent have not changed since the fork. */
			if (is_of_the_store(before->what[its]))
				th_check(syscall(SYS_kcmp, getpid(), getppid(), KCMP_FILE, (long)mine, (long)its) != 0,
					"descriptor %d (%s) is the parent's %d", mine, now.what[mine], its);
		}
	}
	th_check(own > 0, "no connection to the store is open");
}

static void is_forked(const char *what, acctlink_status rc, const acctlink_error *err)
{
	th_check(rc == ACCTLINK_FORKED && err->status == ACCTLINK_FORKED && err->message[0] != '\0', "%s: %d", what,
		(int)rc);
}

static void the_parent_s_handle_is_refused_at_once(struct th_host *host)
{
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args list_args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };
	struct th_flow *flow = calloc(1, sizeof(*flow));
	char *bearer = NULL;
	int64_t began = guest_now_ms();

	th_check(flow != NULL, "no memory");
	list.items = &item;
	list.capacity = 1;
	list_args.user = th_str(users[PARENT]);
	is_forked("get_bearer", th_bearer(host, users[PARENT], NULL, &bearer, NULL, &err), &err);
	is_forked("begin", th_begin(host, users[PARENT], NULL, flow, &err), &err);
	is_forked("on_callback", th_callback(host, users[PARENT], "code=a&state=b", NULL, NULL, &err), &err);
	is_forked("inspect", th_inspect(host, users[PARENT], NULL, &inspect, &err), &err);
	is_forked("list", host->api.list(host->handle, &list_args, &list, &err), &err);
	is_forked("report_rejected", th_report(host, users[PARENT], NULL, 1, &err), &err);
	is_forked("unlink", th_unlink(host, users[PARENT], NULL, NULL, &err), &err);
	is_forked("reload", host->api.reload(host->handle, &err), &err);
	th_check(guest_now_ms() - began < 2000, "eight refusals took %lld ms", (long long)(guest_now_ms() - began));
	free(flow);
}

/* The last child waits for the exchange that its parent has on its way. */
static void share_the_parent_s_refresh(struct scene *scene, struct th_host *host)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_check(th_bearer(host, users[PARENT], NULL, &bearer, &info, &err) == ACCTLINK_OK,
		"the parent's bearer in round %u: %s", scene->round, th_error_text(&err));
	th_check(info.generation == scene->generations[PARENT] + 2, "the child got generation %llu",
		(unsigned long long)info.generation);
	free(bearer);
}

/* With a handle of its own, or the one made before the fork that nobody used. */
static int live_as_child(void *ctx)
{
	const struct child *child = ctx;
	struct scene *scene = child->scene;
	struct guest_descriptors *before = calloc(1, sizeof(*before));
	struct th_host *host = scene->host;
	acctlink_error err = { 0 };

	th_check(before != NULL, "no memory");
	guest_look(before);
	if (scene->in_use) {
		the_parent_s_handle_is_refused_at_once(scene->host);
		host = th_host_open(scene->path, scene->clock);
	}
	/* Each of the two is the first call of some. */
	if ((scene->round + child->n) % 2 == 0)
		begin_a_consent(scene, host, child->n);
	refresh(scene, host, child->n);
	if ((scene->round + child->n) % 2 == 1)
		begin_a_consent(scene, host, child->n);
	note_descriptors(scene, before, child->n);
	no_connection_to_the_store_is_the_parent_s(scene, before);
	atomic_store(&scene->traces[child->n].done, true);
	if (scene->in_use && child->n == CHILDREN - 1)
		share_the_parent_s_refresh(scene, host);
	/* Some workers end in order, some just end. */
	if ((scene->round / 2 + child->n) % 2 == 0) {
		if (scene->in_use)
			is_forked("shutdown", scene->host->api.shutdown(scene->host->handle, 0, &err), &err);
		th_check(host->api.shutdown(host->handle, 0, &err) == ACCTLINK_OK, "shutdown: %s", th_error_text(&err));
	}
	free(before);
	return 0;
}

/* ---- what must hold of a round --------------------------------------------------------- */

static void are_new(struct scene *scene, const char *drawn)
{
	th_check(drawn[0] != '\0' && !th_lines_contain(scene->drawn, drawn), "drawn twice: %s", drawn);
	th_lines_add(scene->drawn, drawn);
}

static void the_processes_have_nothing_in_common(struct scene *scene)
{
	struct th_lines *had = th_lines_new();

	for (unsigned i = 0; i < PROCESSES; i++) {
		const struct traces *traces = &scene->traces[i];

		are_new(scene, traces->state);
		are_new(scene, traces->challenge);
		are_new(scene, traces->nonce);
		th_check(traces->owner[0] != '\0' && !th_lines_contain(had, traces->owner),
			"%s has the owner file '%s'", users[i], traces->owner);
		th_lines_add(had, traces->owner);
		for (unsigned j = 0; j < traces->socket_count; j++) {
			th_check(!th_lines_contain(had, traces->sockets[j]), "%s has another's %s", users[i],
				traces->sockets[j]);
			th_lines_add(had, traces->sockets[j]);
		}
	}
	th_lines_free(&had);
}

static bool has_port(const struct traces *traces, int port)
{
	for (unsigned i = 0; i < traces->socket_count; i++) {
		if (traces->ports[i] == port)
			return true;
	}
	return false;
}

static int number(json_object *request, const char *member)
{
	return json_object_get_int(json_object_object_get(request, member));
}

/* Every request came over a connection of one process, every refresh over one of
 * the process whose user it was for, and every exchange ended with its answer. */
static void each_connection_carried_one_process_s_requests(struct scene *scene)
{
	json_object *ledger = th_ledger(scene->provider);
	json_object *requests = json_object_object_get(ledger, "requests");
	unsigned refreshed[PROCESSES] = { 0 };

	for (size_t i = 0; i < json_object_array_length(requests); i++) {
		json_object *request = json_object_array_get_idx(requests, i);
		const char *endpoint = json_object_get_string(json_object_object_get(request, "endpoint"));
		const char *outcome = json_object_get_string(json_object_object_get(request, "outcome"));
		int port = number(request, "remote_port");
		unsigned owners = 0;

		for (size_t p = 0; p < PROCESSES; p++)
			owners += has_port(&scene->traces[p], port);
		th_check(owners == 1, "round %u: a request at %s came over port %d, which %u processes have",
			scene->round, endpoint, port, owners);
		th_check(strcmp(outcome, "answered") == 0, "round %u: %s was %s", scene->round, endpoint, outcome);
		if (strcmp(endpoint, "token") == 0) {
			int grant = number(request, "grant_n");

			th_check(grant >= 0 && grant < PROCESSES, "grant %d", grant);
			refreshed[grant]++;
			th_check(has_port(&scene->traces[grant], port),
				"round %u: the refresh of %s came over port %d of another", scene->round, users[grant],
				port);
		}
	}
	for (unsigned p = 0; p < PROCESSES; p++)
		th_check(refreshed[p] == 1, "round %u: %u refreshes of %s", scene->round, refreshed[p], users[p]);
	th_check(th_max_arrivals(scene->provider) == 1, "a refresh token arrived twice");
	json_object_put(ledger);
}

/* Somebody holds it: the parent, since the children are gone. */
static void owner_file_is_still_locked(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	th_check(fd >= 0, "the parent's owner file %s: %s", path, strerror(errno));
	th_check(fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK, "the parent's owner file isn't locked");
	close(fd);
}

static bool children_are_done(void *ctx)
{
	struct scene *scene = ctx;

	for (size_t i = 0; i < CHILDREN; i++) {
		if (!atomic_load(&scene->traces[i].done))
			return false;
	}
	return true;
}

static void *refresh_in_parent(void *ctx)
{
	struct scene *scene = ctx;

	refresh(scene, scene->host, PARENT);
	return NULL;
}

/* The parent's handle is used, and its exchange is held by the provider. */
static pthread_t use_in_parent(struct scene *scene)
{
	pthread_t asker;

	refresh(scene, scene->host, PARENT);
	advance(scene, HOUR_MS);
	th_control(scene->provider, "{'reset_ledger':true}");
	th_script(scene->provider, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_check(pthread_create(&asker, NULL, refresh_in_parent, scene) == 0, "pthread_create");
	th_wait_held(scene->provider, "refresh", 1);
	note_descriptors(scene, &scene->at_first, PARENT);
	return asker;
}

static void fork_and_work(struct scene *scene)
{
	struct child children[CHILDREN];
	pid_t pids[CHILDREN];
	pthread_t asker = 0;

	if (scene->in_use)
		asker = use_in_parent(scene);
	for (unsigned i = 0; i < CHILDREN; i++) {
		children[i] = (struct child){ scene, i };
		pids[i] = th_fork(live_as_child, &children[i]);
	}
	if (!scene->in_use) {
		refresh(scene, scene->host, PARENT);
		note_descriptors(scene, &scene->at_first, PARENT);
	}
	th_wait_until(children_are_done, scene, 60000, "the children's work");
	if (scene->in_use) {
		th_release(scene->provider, "refresh");
		th_check(pthread_join(asker, NULL) == 0, "pthread_join");
	}
	begin_a_consent(scene, scene->host, PARENT);
	for (unsigned i = 0; i < CHILDREN; i++)
		th_join(pids[i], 60000);
}

/* What the children wrote is in the store, and the parent sees it. */
static void every_refresh_was_kept(struct scene *scene)
{
	for (unsigned i = 0; i < PROCESSES; i++) {
		acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
		acctlink_error err = { 0 };

		scene->generations[i] += i == PARENT && scene->in_use ? 2 : 1;
		th_check(scene->traces[i].generation == scene->generations[i], "%s got generation %llu, not %llu",
			users[i], (unsigned long long)scene->traces[i].generation,
			(unsigned long long)scene->generations[i]);
		th_check(
			th_inspect(scene->host, users[i], NULL, &seen, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
		th_check(seen.generation == scene->generations[i] && seen.claim == ACCTLINK_CLAIM_NONE,
			"the store has generation %llu of %s, claim %d", (unsigned long long)seen.generation, users[i],
			(int)seen.claim);
	}
}

static void one_round(struct scene *scene)
{
	memset(scene->traces, 0, PROCESSES * sizeof(struct traces));
	guest_look(&scene->at_first);
	scene->host = th_host_open(scene->path, scene->clock);
	advance(scene, HOUR_MS);
	th_control(scene->provider, "{'reset_ledger':true}");
	fork_and_work(scene);
	the_processes_have_nothing_in_common(scene);
	each_connection_carried_one_process_s_requests(scene);
	every_refresh_was_kept(scene);
	owner_file_is_still_locked(scene->traces[PARENT].owner);
	th_host_free(&scene->host);
}

static void go_through_rounds(bool in_use)
{
	const unsigned rounds = guest_rounds(ROUNDS, SANITIZED ? 10 : 50);
	struct scene scene;

	if (!THREADS_AFTER_FORK)
		skip_with("ThreadSanitizer allows no threads in a process that was forked from one with threads");
	scene_open(&scene);
	scene.in_use = in_use;
	for (scene.round = 0; scene.round < rounds; scene.round++)
		one_round(&scene);
	scene_close(&scene);
}

static void children_forked_while_a_refresh_is_on_its_way_share_nothing_with_the_parent(void **unused)
{
	(void)unused;
	go_through_rounds(true);
}

static void children_forked_before_the_first_use_share_nothing(void **unused)
{
	(void)unused;
	go_through_rounds(false);
}

/* ---- in the middle of a write ------------------------------------------------------------- */

enum outcome { UNTOLD, WORKED, REFUSED };

/* In memory that parent and children share. */
struct writing {
	atomic_uint begun;
	atomic_int outcome; /* of the newest child */
	atomic_bool stop;
};

struct busy {
	struct th_host *host;
	struct writing *writing;
	uint64_t chance;
};

/* Each begin is a commit; the users differ, so that no flow makes room for another. */
static void *write_all_the_time(void *ctx)
{
	struct busy *busy = ctx;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	th_check(flow != NULL, "no memory");
	while (!atomic_load(&busy->writing->stop)) {
		unsigned n = atomic_fetch_add(&busy->writing->begun, 1);
		char user[32];

		snprintf(user, sizeof(user), "busy %u", n);
		th_check(th_begin(busy->host, user, NULL, flow, &err) == ACCTLINK_OK, "begin: %s", th_error_text(&err));
		guest_nap_us((unsigned)(guest_random(&busy->chance) % 1000));
	}
	free(flow);
	return NULL;
}

/* Refused only by init, at once and in words: a thread that is gone was just
 * using the store. */
static int live_amid_writes(void *ctx)
{
	const struct busy *busy = ctx;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	struct th_host *own = NULL;
	acctlink_error err = { 0 };
	acctlink_status rc;

	th_check(flow != NULL, "no memory");
	is_forked("begin", th_begin(busy->host, "child", NULL, flow, &err), &err);
	rc = th_host_try(busy->host->config_path, busy->host->clock, &own, &err);
	if (rc != ACCTLINK_OK) {
		is_forked("init", rc, &err);
		th_check(strstr(err.message, "fork") != NULL, "%s", th_error_text(&err));
		atomic_store(&busy->writing->outcome, REFUSED);
		return 0;
	}
	th_check(th_begin(own, "child", NULL, flow, &err) == ACCTLINK_OK, "begin: %s", th_error_text(&err));
	(void)atomic_fetch_add(&busy->writing->begun, 1);
	free(th_must_bearer(own, "ana", NULL, NULL));
	th_host_free(&own);
	free(flow);
	atomic_store(&busy->writing->outcome, WORKED);
	return 0;
}

static bool all_threads_have_worked(void *ctx)
{
	const struct busy *busy = ctx;

	return atomic_load(&busy->writing->begun) >= 200;
}

static void a_fork_amid_writes_harms_neither_the_store_nor_the_child(void **unused)
{
	const struct th_config config = { .lines = "flows_per_user = 1000; poll_interval = 0.01;" };
	const unsigned rounds = guest_rounds(ROUNDS, 60);
	struct th_provider *own = NULL;
	static struct busy busy; /* the thread outlives a test that fails */
	uint64_t instants = (th_seed() ^ 0x9e3779b97f4a7c15u) | 1;
	unsigned count[REFUSED + 1] = { 0 };
	pthread_t writer;

	(void)unused;
	if (!THREADS_AFTER_FORK || !FORK_AMID_MALLOC)
		skip_with("the sanitizer's own locks don't survive a fork beside a busy thread");
	busy.chance = th_seed() | 1;
	own = th_provider_start(TH_PRACTICE, NULL);
	busy.host = th_host_new(own, &config);
	busy.writing = mmap(NULL, sizeof(*busy.writing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	th_check(busy.writing != MAP_FAILED, "mmap: %s", strerror(errno));
	th_must_link(busy.host, own, "ana", NULL, NULL);
	th_check(store_sql(busy.host->config_path, "SELECT count(*) FROM flow") == 1, "the flow of the link");
	th_check(pthread_create(&writer, NULL, write_all_the_time, &busy) == 0, "pthread_create");
	/* The first step that a thread takes in OpenSSL is under a lock of that library's,
	 * which the plugin can't keep a fork out of; so all threads have been there. */
	th_wait_until(all_threads_have_worked, &busy, 30000, "the first writes");
	for (unsigned round = 0; round < rounds; round++) {
		guest_nap_us((unsigned)(guest_random(&instants) % 3000));
		atomic_store(&busy.writing->outcome, UNTOLD);
		th_join(th_fork(live_amid_writes, &busy), 60000);
		count[atomic_load(&busy.writing->outcome)]++;
	}
	atomic_store(&busy.writing->stop, true);
	th_check(pthread_join(writer, NULL) == 0, "pthread_join");
	printf("# %u forks at random instants: %u children worked, %u were refused\n", rounds, count[WORKED],
		count[REFUSED]);
	th_check(count[UNTOLD] == 0 && count[WORKED] > 0, "%u worked, %u told nothing", count[WORKED], count[UNTOLD]);
	th_check(store_sql(busy.host->config_path,
			 "SELECT count(*) FROM pragma_integrity_check"
			 " WHERE integrity_check <> 'ok'")
			== 0,
		"the store is damaged");
	th_check(store_sql(busy.host->config_path, "SELECT count(*) FROM flow")
			== 1 + (int64_t)atomic_load(&busy.writing->begun),
		"a commit is lost");
	free(th_must_bearer(busy.host, "ana", NULL, NULL));
	th_check(munmap(busy.writing, sizeof(*busy.writing)) == 0, "munmap");
	th_host_free(&busy.host);
	th_provider_stop(&own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(children_forked_while_a_refresh_is_on_its_way_share_nothing_with_the_parent),
		cmocka_unit_test(children_forked_before_the_first_use_share_nothing),
		cmocka_unit_test(a_fork_amid_writes_harms_neither_the_store_nor_the_child),
	};

	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
