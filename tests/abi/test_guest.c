/* SPDX-License-Identifier: MIT
 * The plugin as a guest in somebody's process: what it leaves alone (signals,
 * umask, folder, locale, environment, OpenSSL's error queue), small stacks,
 * hooks that take their time, and what list and inspect tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>

#include "peek.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS ((int64_t)3600 * 1000)

extern char **environ;

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

/* ---- each function once ------------------------------------------------------------ */

struct tour {
	struct th_provider *provider;
	char *config_path;
	void (*between)(struct tour *tour, const char *what); /* after each call; may be NULL */
};

static void stop_at(struct tour *tour, const char *what)
{
	if (tour->between != NULL)
		tour->between(tour, what);
}

static void rewrite_config(const char *path, const char *text)
{
	th_write_file(path, 0600, text);
}

struct consent {
	struct th_provider *provider;
	const char *url;
	char *params;
};

static void *consent(void *ctx)
{
	struct consent *consent = ctx;

	consent->params = th_consent(consent->provider, consent->url);
	return NULL;
}

/* On another thread, since the browser is a guest of this one as well. */
static char *consent_elsewhere(struct th_provider *at, const char *url)
{
	struct consent wanted = { at, url, NULL };
	pthread_t thread;

	th_check(pthread_create(&thread, NULL, consent, &wanted) == 0, "pthread_create");
	pthread_join(thread, NULL);
	return wanted.params;
}

/* All functions, well and badly, over the network and the store. Other threads
 * of the tour's process may run at the same time. */
static void go_round(struct tour *tour)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	struct th_host *host = th_host_open(tour->config_path, NULL);
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args list_args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };
	char *text = th_read_file(tour->config_path);
	struct th_host *none;
	char *bearer = NULL;
	char *params;

	th_check(flow != NULL, "no memory");
	stop_at(tour, "init");
	th_check(th_host_try("/no/such/config", NULL, &none, &err) == ACCTLINK_BAD_CONFIG, "%s", th_error_text(&err));
	stop_at(tour, "a failed init");
	th_check(host->api.abi_version() == ACCTLINK_ABI_VERSION, "version");
	stop_at(tour, "abi_version");
	th_check(th_begin(host, "ana", NULL, flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	stop_at(tour, "begin");
	params = consent_elsewhere(tour->provider, flow->url);
	th_check(th_callback(host, "ben", params, flow->cookie, NULL, &err) == ACCTLINK_FOREIGN_CALLBACK, "%s",
		th_error_text(&err));
	stop_at(tour, "a foreign on_callback");
	th_check(th_callback(host, "ana", params, flow->cookie, NULL, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	stop_at(tour, "on_callback");
	free(th_must_bearer(host, "ana", NULL, NULL));
	stop_at(tour, "get_bearer");
	th_check(th_report(host, "ana", NULL, 1, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	stop_at(tour, "report_rejected");
	th_clock_advance(host->clock, 60000); /* past the least interval of refreshes */
	free(th_must_bearer(host, "ana", NULL, NULL));
	stop_at(tour, "a refresh");
	th_check(th_inspect(host, "ana", NULL, &inspect, &err) == ACCTLINK_OK && inspect.generation == 2, "%s",
		th_error_text(&err));
	stop_at(tour, "inspect");
	list_args.user = th_str("ana");
	list.items = &item;
	list.capacity = 1;
	th_check(host->api.list(host->handle, &list_args, &list, &err) == ACCTLINK_OK && list.count == 1, "%s",
		th_error_text(&err));
	stop_at(tour, "list");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	stop_at(tour, "reload");
	rewrite_config(tour->config_path, "store = {");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_BAD_CONFIG, "%s", th_error_text(&err));
	rewrite_config(tour->config_path, text);
	stop_at(tour, "a failed reload");
	th_check(th_unlink(host, "ana", NULL, NULL, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	stop_at(tour, "unlink");
	th_check(th_bearer(host, "ana", NULL, &bearer, NULL, &err) == ACCTLINK_NOT_LINKED, "%s", th_error_text(&err));
	stop_at(tour, "a get_bearer without a link");
	th_host_free(&host);
	stop_at(tour, "shutdown");
	free(params);
	free(text);
	free(flow);
}

static char *fresh_config(const struct th_config *config)
{
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, config);

	free(dir);
	return path;
}

/* ---- what belongs to the process ------------------------------------------------------- */

/* All that a guest could change behind its host's back, as bytes. */
struct belongings {
	sigset_t mask;
	struct sigaction actions[65];
	mode_t umask;
	char folder[PATH_MAX];
	char locale[1024];
	locale_t thread_locale;
	uint64_t environment; /* a hash of names and values */
	char **environ_at;
	unsigned long openssl_error;
	struct rlimit limits[RLIM_NLIMITS];
	int nice;
};

static mode_t read_umask(void)
{
	char *status = th_read_file("/proc/self/status");
	const char *at = strstr(status, "\nUmask:");
	mode_t mask;

	th_check(at != NULL, "no Umask in /proc/self/status");
	mask = (mode_t)strtoul(at + 7, NULL, 8);
	free(status);
	return mask;
}

static uint64_t hash_environment(void)
{
	uint64_t hash = 14695981039346656037u;

	for (char **at = environ; *at != NULL; at++) {
		for (const char *c = *at; *c != '\0'; c++)
			hash = (hash ^ (unsigned char)*c) * 1099511628211u;
		hash = (hash ^ 0xff) * 1099511628211u;
	}
	return hash;
}

static void look(struct belongings *b)
{
	memset(b, 0, sizeof(*b));
	th_check(pthread_sigmask(SIG_BLOCK, NULL, &b->mask) == 0, "sigmask");
	for (int i = 1; i < 65; i++)
		(void)sigaction(i, NULL, &b->actions[i]);
	b->umask = read_umask();
	th_check(getcwd(b->folder, sizeof(b->folder)) != NULL, "getcwd");
	snprintf(b->locale, sizeof(b->locale), "%s", setlocale(LC_ALL, NULL));
	b->thread_locale = uselocale((locale_t)0);
	b->environment = hash_environment();
	b->environ_at = environ;
	b->openssl_error = ERR_peek_last_error();
	for (int i = 0; i < RLIM_NLIMITS; i++)
		(void)getrlimit((__rlimit_resource_t)i, &b->limits[i]);
	b->nice = getpriority(PRIO_PROCESS, 0);
}

/* Member by member: the C library leaves bytes of a sigset_t unset. */
static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
	for (int i = 1; i < 65; i++) {
		if (sigismember(&a->sa_mask, i) != sigismember(&b->sa_mask, i))
			return false;
	}
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags;
}

static struct belongings at_first;

static void nothing_changed(struct tour *tour, const char *what)
{
	struct belongings now;

	(void)tour;
	look(&now);
	th_check(memcmp(&now.mask, &at_first.mask, sizeof(now.mask)) == 0, "%s changed the signal mask", what);
	for (int i = 1; i < 65; i++)
		th_check(same_action(&now.actions[i], &at_first.actions[i]), "%s changed the action of signal %d", what,
			i);
	th_check(now.umask == at_first.umask, "%s changed the umask", what);
	th_check(strcmp(now.folder, at_first.folder) == 0, "%s changed the working folder", what);
	th_check(strcmp(now.locale, at_first.locale) == 0 && now.thread_locale == at_first.thread_locale,
		"%s changed the locale", what);
	th_check(now.environment == at_first.environment && now.environ_at == at_first.environ_at,
		"%s changed the environment", what);
	th_check(now.openssl_error == at_first.openssl_error, "%s changed OpenSSL's error queue", what);
	th_check(memcmp(now.limits, at_first.limits, sizeof(now.limits)) == 0 && now.nice == at_first.nice,
		"%s changed a limit", what);
}

static void on_signal(int number)
{
	(void)number;
}

/* A host with everything other than usual, so that a reset would be seen. */
static int odd_host(void *ctx)
{
	struct tour tour = { .provider = provider, .config_path = ctx, .between = nothing_changed };
	struct sigaction action;
	sigset_t blocked;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_signal;
	action.sa_flags = SA_RESTART | SA_NODEFER;
	sigaddset(&action.sa_mask, SIGUSR2);
	th_check(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0, "sigaction");
	th_check(signal(SIGPIPE, SIG_DFL) != SIG_ERR && signal(SIGCHLD, SIG_IGN) != SIG_ERR, "signal");
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGWINCH);
	sigaddset(&blocked, SIGTERM);
	th_check(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0, "sigmask");
	(void)umask(027);
	th_check(chdir("/usr") == 0, "chdir");
	if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL)
		th_check(setlocale(LC_ALL, "C.UTF-8") != NULL, "setlocale");
	th_check(setenv("ACCTLINK_TEST", "odd", 1) == 0 && unsetenv("HOME") == 0, "setenv");
	ERR_raise(ERR_LIB_USER, 42);
	look(&at_first);
	go_round(&tour);
	return 0;
}

static void every_call_leaves_the_process_as_it_was(void **unused)
{
	const struct th_config fractions = { .lines = "poll_interval = 0.25;" };
	char *path = fresh_config(&fractions);

	(void)unused;
	th_join(th_fork(odd_host, path), 60000);
	free(path);
}

#ifdef __SANITIZE_THREAD__
enum { SANITIZERS_OWN_SIGNAL = SIGSYS }; /* its background thread leaves that one open */
#else
enum { SANITIZERS_OWN_SIGNAL = 0 };
#endif

/* The kernel's own view: threads of the plugin take no signal of the host. */
static void its_threads_block_every_signal(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	DIR *tasks;
	struct dirent *entry;
	int seen = 0;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	tasks = opendir("/proc/self/task");
	th_check(tasks != NULL, "/proc/self/task");
	while ((entry = readdir(tasks)) != NULL) {
		char *path = th_printf("/proc/self/task/%s/status", entry->d_name);
		char *status;
		const char *at;
		uint64_t blocked;

		if (entry->d_name[0] != '.' && strtol(entry->d_name, NULL, 10) != (long)getpid()) {
			status = th_read_file(path);
			at = strstr(status, "SigBlk:");
			th_check(at != NULL, "no SigBlk in %s", path);
			blocked = strtoull(at + 7, NULL, 16);
			for (int number = 1; number <= 64; number++) {
				bool free_to_come = number == SIGKILL || number == SIGSTOP
					|| number == SANITIZERS_OWN_SIGNAL || (number >= 32 && number < SIGRTMIN);

				th_check(free_to_come || (blocked >> (number - 1) & 1) != 0,
					"thread %s does not block signal %d", entry->d_name, number);
			}
			free(status);
			seen++;
		}
		free(path);
	}
	closedir(tasks);
	th_check(seen >= 2, "%d threads were seen", seen);
	th_host_free(&host);
}

/* ---- SIGPIPE ------------------------------------------------------------------------------- */

static int talk_to_the_dead(void *ctx)
{
	struct th_provider *own = ctx;
	const struct th_config config = { .provider_lines = "backoff_base = 0.01; backoff_cap = 0.01;" };
	struct th_host *host;
	sigset_t none;

	sigemptyset(&none);
	th_check(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0 && signal(SIGPIPE, SIG_DFL) != SIG_ERR, "signal");
	host = th_host_new(own, &config);
	for (int i = 0; i < 8; i++) {
		static const char *const ends[] = { "{'cut':'before_answer','reset':true}",
			"{'cut':'half_body','reset':true}", "{'cut':'after_headers'}", "{'status':500}" };
		char *bearer = NULL;

		th_must_link(host, own, "ana", NULL, NULL);
		th_script(own, "token", "refresh_token", 1, "%s", ends[i % 4]);
		th_advance(host, own, HOUR_MS);
		(void)th_bearer(host, "ana", NULL, &bearer, NULL, NULL);
		free(bearer);
		th_control(own, "{'close_idle':true}");
		th_check(th_unlink(host, "ana", NULL, NULL, NULL) == ACCTLINK_OK, "unlink");
		th_must_link(host, own, "ben", NULL, NULL);
		th_provider_down(own, true); /* connections are cut; the goodbye goes nowhere */
		th_advance(host, NULL, HOUR_MS);
		bearer = NULL;
		(void)th_bearer(host, "ben", NULL, &bearer, NULL, NULL);
		free(bearer);
		th_provider_down(own, false);
		th_provider_advance(own, HOUR_MS);
	}
	th_host_free(&host);
	return 0;
}

static void no_sigpipe_reaches_a_host_with_the_default_action(void **unused)
{
	struct th_provider *own = th_provider_start(TH_PRACTICE, NULL);

	(void)unused;
	th_join(th_fork(talk_to_the_dead, own), 100000);
	th_provider_stop(&own);
}

/* ---- a small stack -------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMALL_STACK (512 * 1024) /* sanitizers multiply the size of frames */
#else
#define SMALL_STACK (64 * 1024)
#endif

/* The calls that run on the host's thread, without the harness's own frames. */
struct small {
	acctlink_api api;
	acctlink_init_args init;
	acctlink_begin_args begin;
	acctlink_begin_result begin_out;
	acctlink_callback_args callback;
	acctlink_callback_result callback_out;
	acctlink_bearer_args bearer;
	acctlink_bearer_info info;
	acctlink_inspect_args inspect;
	acctlink_inspect_result inspect_out;
	acctlink_list_args list;
	acctlink_list_result list_out;
	acctlink_list_item items[2];
	acctlink_rejected_args report;
	acctlink_unlink_args unlink;
	acctlink_unlink_result unlink_out;
	acctlink_error err;
	acctlink *handle;
	char url[8192];
	char cookie[1024];
	char buf[8192];
	char *params;
	sem_t begun;
	sem_t consented;
	acctlink_status rc[10];
};

static void *live_on_a_small_stack(void *ctx)
{
	struct small *s = ctx;

	s->rc[0] = s->api.init(&s->init, &s->handle, &s->err);
	s->rc[1] = s->api.begin(s->handle, &s->begin, &s->begin_out, &s->err);
	sem_post(&s->begun);
	sem_wait(&s->consented);
	s->rc[2] = s->api.on_callback(s->handle, &s->callback, &s->callback_out, &s->err);
	s->rc[3] = s->api.get_bearer(s->handle, &s->bearer, s->buf, sizeof(s->buf), &s->info, &s->err);
	s->rc[4] = s->api.inspect(s->handle, &s->inspect, &s->inspect_out, &s->err);
	s->rc[5] = s->api.list(s->handle, &s->list, &s->list_out, &s->err);
	s->rc[6] = s->api.reload(s->handle, &s->err);
	s->rc[7] = s->api.report_rejected(s->handle, &s->report, &s->err);
	s->rc[8] = s->api.unlink(s->handle, &s->unlink, &s->unlink_out, &s->err);
	s->rc[9] = s->api.shutdown(s->handle, 0, &s->err);
	return NULL;
}

static void fill_small(struct small *s, const char *config_path)
{
	const acctlink_ref ana = { th_str("ana"), th_str("test"), th_str(NULL), th_str(NULL) };

	s->init = (acctlink_init_args)ACCTLINK_INIT_ARGS_INIT;
	s->init.config_path = th_str(config_path);
	s->begin = (acctlink_begin_args)ACCTLINK_BEGIN_ARGS_INIT;
	s->begin.user = ana.user;
	s->begin.provider = ana.provider;
	s->begin_out = (acctlink_begin_result)ACCTLINK_BEGIN_RESULT_INIT;
	s->begin_out.url = (acctlink_out){ s->url, sizeof(s->url), 0 };
	s->begin_out.set_cookie = (acctlink_out){ s->cookie, sizeof(s->cookie), 0 };
	s->callback = (acctlink_callback_args)ACCTLINK_CALLBACK_ARGS_INIT;
	s->callback.user = ana.user;
	s->callback_out = (acctlink_callback_result)ACCTLINK_CALLBACK_RESULT_INIT;
	s->bearer = (acctlink_bearer_args)ACCTLINK_BEARER_ARGS_INIT;
	s->bearer.link = ana;
	s->info = (acctlink_bearer_info)ACCTLINK_BEARER_INFO_INIT;
	s->inspect = (acctlink_inspect_args)ACCTLINK_INSPECT_ARGS_INIT;
	s->inspect.link = ana;
	s->inspect_out = (acctlink_inspect_result)ACCTLINK_INSPECT_RESULT_INIT;
	s->list = (acctlink_list_args)ACCTLINK_LIST_ARGS_INIT;
	s->list.user = ana.user;
	s->list_out = (acctlink_list_result)ACCTLINK_LIST_RESULT_INIT;
	s->list_out.items = s->items;
	s->list_out.capacity = COUNT(s->items);
	s->report = (acctlink_rejected_args)ACCTLINK_REJECTED_ARGS_INIT;
	s->report.link = ana;
	s->report.generation = 1;
	s->unlink = (acctlink_unlink_args)ACCTLINK_UNLINK_ARGS_INIT;
	s->unlink.link = ana;
	s->unlink_out = (acctlink_unlink_result)ACCTLINK_UNLINK_RESULT_INIT;
}

static void all_calls_work_on_a_stack_of_64_kib(void **unused)
{
	struct small *s = calloc(1, sizeof(*s));
	char *path = fresh_config(NULL);
	pthread_attr_t attr;
	pthread_t thread;

	(void)unused;
	th_check(s != NULL && sem_init(&s->begun, 0, 0) == 0 && sem_init(&s->consented, 0, 0) == 0, "no memory");
	th_plugin_load(&s->api);
	fill_small(s, path);
	th_check(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, SMALL_STACK) == 0
			&& pthread_create(&thread, &attr, live_on_a_small_stack, s) == 0,
		"pthread_create");
	pthread_attr_destroy(&attr);
	sem_wait(&s->begun);
	th_check(s->rc[0] == ACCTLINK_OK && s->rc[1] == ACCTLINK_OK, "init %d, begin %d: %s", (int)s->rc[0],
		(int)s->rc[1], th_error_text(&s->err));
	s->params = th_consent(provider, s->url);
	s->callback.params = th_str(s->params);
	s->callback.cookie = (acctlink_str){ s->cookie, strcspn(s->cookie, ";") };
	sem_post(&s->consented);
	pthread_join(thread, NULL);
	for (size_t i = 0; i < COUNT(s->rc); i++)
		th_check(s->rc[i] == ACCTLINK_OK, "call %zu: %d", i, (int)s->rc[i]);
	th_check(s->list_out.count == 1 && s->info.generation == 1, "results");
	acctlink_dl_close(&s->api);
	sem_destroy(&s->begun);
	sem_destroy(&s->consented);
	free(s->params);
	free(path);
	free(s);
}

/* ---- hooks ------------------------------------------------------------------------------------- */

/* A host whose hooks stop at a gate: whoever holds a lock while a hook runs would
 * stop all others there as well. */
struct gated {
	acctlink_api api;
	acctlink *handle;
	char *config_path;
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool shut;            /* the gate; the lock guards it */
	unsigned stopped;     /* hooks that wait there */
	const char *log_part; /* of the line that stops; NULL: none */
	int32_t event;        /* that stops; 0: none */
	pthread_t clock_of;   /* the thread whose clock reading stops */
	bool clock_stops;
	atomic_uint logs;
	atomic_uint events;
	atomic_uint readings;
};

static void wait_at_gate(struct gated *gated)
{
	pthread_mutex_lock(&gated->lock);
	gated->stopped++;
	while (gated->shut)
		pthread_cond_wait(&gated->opened, &gated->lock);
	gated->stopped--;
	pthread_mutex_unlock(&gated->lock);
}

static void open_gate(struct gated *gated)
{
	pthread_mutex_lock(&gated->lock);
	gated->shut = false;
	pthread_cond_broadcast(&gated->opened);
	pthread_mutex_unlock(&gated->lock);
}

static bool someone_waits(void *ctx)
{
	struct gated *gated = ctx;
	bool waits;

	pthread_mutex_lock(&gated->lock);
	waits = gated->stopped > 0;
	pthread_mutex_unlock(&gated->lock);
	return waits;
}

static bool is_shut(struct gated *gated)
{
	bool shut;

	pthread_mutex_lock(&gated->lock);
	shut = gated->shut;
	pthread_mutex_unlock(&gated->lock);
	return shut;
}

static void gated_log(void *ctx, int32_t level, const char *message)
{
	struct gated *gated = ctx;

	th_check(level >= ACCTLINK_LOG_ERROR && level <= ACCTLINK_LOG_DEBUG && message[0] != '\0', "level %d",
		(int)level);
	atomic_fetch_add(&gated->logs, 1);
	if (gated->log_part != NULL && strstr(message, gated->log_part) != NULL)
		wait_at_gate(gated);
}

static void gated_event(void *ctx, const acctlink_event *event)
{
	struct gated *gated = ctx;

	th_check(event->size == sizeof(*event) && event->at_ms > 0 && event->user.len > 0,
		"an event without its members");
	atomic_fetch_add(&gated->events, 1);
	if (event->kind == gated->event && is_shut(gated))
		wait_at_gate(gated);
}

static void gated_clock(void *ctx, acctlink_time *now)
{
	struct gated *gated = ctx;
	struct timespec wall;
	struct timespec boot;

	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	now->wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
	now->boot_ms = (int64_t)boot.tv_sec * 1000 + boot.tv_nsec / 1000000;
	atomic_fetch_add(&gated->readings, 1);
	if (is_shut(gated) && gated->clock_stops && pthread_equal(pthread_self(), gated->clock_of))
		wait_at_gate(gated);
}

static void gated_open(struct gated *gated, const char *lines)
{
	const struct th_config config = { .lines = lines };
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_error err = { 0 };

	memset(gated, 0, sizeof(*gated));
	th_check(pthread_mutex_init(&gated->lock, NULL) == 0 && pthread_cond_init(&gated->opened, NULL) == 0, "locks");
	th_plugin_load(&gated->api);
	gated->config_path = fresh_config(&config);
	hooks.ctx = gated;
	hooks.log = gated_log;
	hooks.event = gated_event;
	hooks.clock = gated_clock;
	args.config_path = th_str(gated->config_path);
	args.hooks = &hooks;
	th_check(gated->api.init(&args, &gated->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	memset(&hooks, 0xa5, sizeof(hooks)); /* copied, as it is said */
}

static void gated_close(struct gated *gated)
{
	th_check(gated->api.shutdown(gated->handle, 0, NULL) == ACCTLINK_OK, "shutdown");
	acctlink_dl_close(&gated->api);
	pthread_mutex_destroy(&gated->lock);
	pthread_cond_destroy(&gated->opened);
	free(gated->config_path);
}

/* The harness's calls go through a th_host. */
static struct th_host as_host(const struct gated *gated)
{
	struct th_host host;

	memset(&host, 0, sizeof(host));
	host.api = gated->api;
	host.handle = gated->handle;
	host.config_path = gated->config_path;
	return host;
}

struct background {
	struct gated *gated;
	char *user;
	atomic_bool done;
};

static void *link_in_background(void *ctx)
{
	struct background *background = ctx;
	struct th_host host = as_host(background->gated);

	th_must_link(&host, provider, background->user, NULL, NULL);
	atomic_store(&background->done, true);
	return NULL;
}

/* While a hook stands still: every function, for somebody else's link. */
static void others_go_on(struct gated *gated)
{
	struct th_host host = as_host(gated);
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };

	th_check(someone_waits(gated), "nobody waits at the gate");
	th_must_link(&host, provider, "olga", NULL, NULL);
	free(th_must_bearer(&host, "olga", NULL, NULL));
	th_check(th_inspect(&host, "olga", NULL, &inspect, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	args.user = th_str("olga");
	list.items = &item;
	list.capacity = 1;
	th_check(host.api.list(host.handle, &args, &list, &err) == ACCTLINK_OK && list.count == 1, "%s",
		th_error_text(&err));
	th_check(host.api.reload(host.handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(th_report(&host, "olga", NULL, 1, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(th_unlink(&host, "olga", NULL, NULL, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(someone_waits(gated), "the gate was opened too soon");
}

static void an_event_hook_that_takes_its_time_stops_nobody_else(void **unused)
{
	struct gated gated;
	struct background background = { .gated = &gated, .user = "ana" };
	pthread_t thread;

	(void)unused;
	gated_open(&gated, NULL);
	gated.event = ACCTLINK_EVENT_LINKED;
	gated.shut = true;
	th_check(pthread_create(&thread, NULL, link_in_background, &background) == 0, "pthread_create");
	th_wait_until(someone_waits, &gated, 20000, "the event");
	gated.event = 0;
	others_go_on(&gated);
	open_gate(&gated);
	pthread_join(thread, NULL);
	th_check(atomic_load(&gated.events) >= 2 && atomic_load(&gated.readings) > 0, "the hooks were not called");
	gated_close(&gated);
}

static void a_log_hook_that_takes_its_time_stops_nobody_else(void **unused)
{
	struct gated gated;
	struct background background = { .gated = &gated, .user = "ana" };
	pthread_t thread;

	(void)unused;
	gated_open(&gated, "log_level = 'debug';");
	gated.log_part = "event 1,"; /* the line of ana's LINKED */
	gated.shut = true;
	th_check(pthread_create(&thread, NULL, link_in_background, &background) == 0, "pthread_create");
	th_wait_until(someone_waits, &gated, 20000, "the line");
	gated.log_part = NULL;
	others_go_on(&gated);
	open_gate(&gated);
	pthread_join(thread, NULL);
	th_check(atomic_load(&gated.logs) >= 2, "the hook was not called");
	gated_close(&gated);
}

/* Bearers are held after the first look at the store: then get_bearer reads the
 * clock on the caller's thread. */
static void *ask_until_stopped(void *ctx)
{
	struct background *background = ctx;
	struct th_host host = as_host(background->gated);

	pthread_mutex_lock(&background->gated->lock);
	background->gated->clock_of = pthread_self();
	background->gated->clock_stops = true;
	background->gated->shut = true;
	pthread_mutex_unlock(&background->gated->lock);
	while (is_shut(background->gated))
		free(th_must_bearer(&host, "ana", NULL, NULL));
	return NULL;
}

static void a_clock_hook_that_takes_its_time_stops_nobody_else(void **unused)
{
	struct gated gated;
	struct background background = { .gated = &gated };
	struct th_host host;
	pthread_t thread;

	(void)unused;
	gated_open(&gated, NULL);
	host = as_host(&gated);
	th_must_link(&host, provider, "ana", NULL, NULL);
	th_check(pthread_create(&thread, NULL, ask_until_stopped, &background) == 0, "pthread_create");
	th_wait_until(someone_waits, &gated, 20000, "the clock");
	others_go_on(&gated);
	open_gate(&gated);
	pthread_join(thread, NULL);
	gated_close(&gated);
}

static void a_host_without_hooks_gets_syslog_real_time_and_no_events(void **unused)
{
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	struct th_host host;
	int64_t now = (int64_t)time(NULL) * 1000;

	(void)unused;
	memset(&host, 0, sizeof(host));
	th_plugin_load(&host.api);
	host.config_path = fresh_config(NULL);
	args.config_path = th_str(host.config_path);
	th_check(host.api.init(&args, &host.handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_must_link(&host, provider, "ana", NULL, NULL);
	th_check(th_inspect(&host, "ana", NULL, &inspect, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(inspect.authorized_at_ms >= now - 1000 && inspect.authorized_at_ms < now + 60000,
		"authorized at %" PRId64, inspect.authorized_at_ms);
	th_check(host.api.shutdown(host.handle, 0, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	acctlink_dl_close(&host.api);
	free(host.config_path);
}

/* ---- list ---------------------------------------------------------------------------------------- */

/* One page into `stride`-sized items; the rest of the array stays as it is. */
static acctlink_list_result page(
	struct th_host *host, const char *user, const char *after, void *items, uint32_t capacity, uint32_t stride)
{
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result result = ACCTLINK_LIST_RESULT_INIT;
	acctlink_error err = { 0 };

	args.user = th_str(user);
	args.after = th_str(after);
	result.items = items;
	result.capacity = capacity;
	result.stride = stride;
	th_check(host->api.list(host->handle, &args, &result, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	return result;
}

static void link_many(struct th_host *host, const char *user, int count)
{
	for (int i = 0; i < count; i++) {
		char *institution = th_printf("bank-%03d", i);

		th_must_link(host, provider, user, institution, NULL);
		free(institution);
	}
}

static void a_user_without_links_has_an_empty_list(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_list_item items[2];
	acctlink_list_result result;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	memset(items, 0xa5, sizeof(items));
	result = page(host, "an", NULL, items, COUNT(items), sizeof(items[0]));
	th_check(result.count == 0 && result.more == 0, "%u links", result.count);
	for (size_t i = 0; i < sizeof(items); i++)
		th_check(((unsigned char *)items)[i] == 0xa5, "an item was written");
	th_host_free(&host);
}

static void one_link_is_listed_with_its_members(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result linked = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_item item;
	acctlink_list_result result;

	(void)unused;
	th_must_link(host, provider, "ana", "mikomo", &linked);
	th_must_link(host, provider, "ben", "mikomo", NULL);
	th_check(th_inspect(host, "ana", "mikomo", &inspect, NULL) == ACCTLINK_OK, "inspect");
	result = page(host, "ana", NULL, &item, 1, sizeof(item));
	th_check(result.count == 1 && result.more == 0, "%u links, more %u", result.count, result.more);
	assert_string_equal(item.link_id, linked.link_id);
	assert_string_equal(item.provider, "test");
	assert_string_equal(item.institution, "mikomo");
	assert_int_equal(item.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(item.reason, ACCTLINK_REASON_NONE);
	assert_int_equal(item.epoch, 1);
	assert_int_equal(item.generation, 1);
	assert_int_equal(item.bearer_expires_at_ms, inspect.bearer_expires_at_ms);
	assert_int_equal(item.authorized_at_ms, inspect.authorized_at_ms);
	th_check(th_unlink(host, "ana", "mikomo", NULL, NULL) == ACCTLINK_OK, "unlink");
	result = page(host, "ana", NULL, &item, 1, sizeof(item));
	th_check(result.count == 0 && result.more == 0, "a link that was ended is listed");
	th_host_free(&host);
}

static void pages_follow_each_other_by_the_id_of_the_last_item(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_list_item all[4];
	acctlink_list_item item;
	acctlink_list_result result;

	(void)unused;
	link_many(host, "ana", 2);
	th_must_link(host, provider, "ben", NULL, NULL);
	result = page(host, "ana", NULL, all, COUNT(all), sizeof(all[0]));
	th_check(result.count == 2 && result.more == 0 && strcmp(all[0].link_id, all[1].link_id) < 0, "%u links",
		result.count);
	result = page(host, "ana", NULL, all, 2, sizeof(all[0]));
	th_check(result.count == 2 && result.more == 0, "a page that is just full has no other after it");
	result = page(host, "ana", NULL, &item, 1, sizeof(item));
	th_check(result.count == 1 && result.more == 1 && memcmp(&item, &all[0], sizeof(item)) == 0, "the first page");
	result = page(host, "ana", item.link_id, &item, 1, sizeof(item));
	th_check(result.count == 1 && result.more == 0 && memcmp(&item, &all[1], sizeof(item)) == 0, "the second page");
	result = page(host, "ana", all[1].link_id, &item, 1, sizeof(item));
	th_check(result.count == 0 && result.more == 0, "after the last");
	/* The cursor need not be a link that is there still. */
	result = page(host, "ana", "00000000000000000000000000000000", all, 2, sizeof(all[0]));
	th_check(result.count == 2, "%u after the smallest id", result.count);
	result = page(host, "ana", "ffffffffffffffffffffffffffffffff", all, 2, sizeof(all[0]));
	th_check(result.count == 0, "%u after the largest id", result.count);
	th_host_free(&host);
}

static void a_stride_smaller_or_larger_than_the_item_is_kept_to(void **unused)
{
	static const uint32_t strides[] = { 8, 24, 40, 80, 144, sizeof(acctlink_list_item) - 8,
		sizeof(acctlink_list_item) + 8, 1024, 65536 };
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_list_item all[2];

	(void)unused;
	link_many(host, "ana", 2);
	th_check(page(host, "ana", NULL, all, 2, sizeof(all[0])).count == 2, "both");
	for (size_t i = 0; i < COUNT(strides); i++) {
		size_t stride = strides[i];
		size_t known = stride < sizeof(all[0]) ? stride : sizeof(all[0]);
		struct edge at = edge_new(NULL, 2 * stride);

		memset(at.at, 0xa5, at.len);
		th_check(page(host, "ana", NULL, at.at, 2, strides[i]).count == 2, "both");
		for (size_t j = 0; j < 2; j++) {
			th_check(memcmp(at.at + j * stride, &all[j], known) == 0, "stride %zu: item %zu differs",
				stride, j);
			for (size_t k = known; k < stride; k++)
				th_check(at.at[j * stride + k] == 0,
					"stride %zu: what this version doesn't know is not zero", stride);
		}
		edge_free(&at);
	}
	th_host_free(&host);
}

static void two_hundred_and_fifty_seven_links_come_in_pages_of_256_at_most(void **unused)
{
	enum { LINKS = 257, ROOM = 300 };
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_list_item *all = calloc(ROOM, sizeof(*all));
	acctlink_list_item *paged = calloc(ROOM, sizeof(*paged));
	acctlink_list_result result;
	unsigned got = 0;

	(void)unused;
	th_check(all != NULL && paged != NULL, "no memory");
	link_many(host, "ana", LINKS);
	result = page(host, "ana", NULL, all, ROOM, sizeof(all[0]));
	th_check(result.count == 256 && result.more == 1, "%u links, more %u", result.count, result.more);
	result = page(host, "ana", all[255].link_id, all + 256, ROOM - 256, sizeof(all[0]));
	th_check(result.count == 1 && result.more == 0, "%u links, more %u", result.count, result.more);
	for (unsigned i = 1; i < LINKS; i++)
		th_check(strcmp(all[i - 1].link_id, all[i].link_id) < 0, "out of order, or twice");
	/* Other page sizes bring the same. */
	do {
		result = page(
			host, "ana", got == 0 ? NULL : paged[got - 1].link_id, paged + got, 100, sizeof(paged[0]));
		got += result.count;
	} while (result.more == 1);
	th_check(got == LINKS && memcmp(all, paged, LINKS * sizeof(all[0])) == 0, "%u links in pages of 100", got);
	/* The largest capacity that can be told is no overflow. */
	result = page(host, "ana", NULL, all, UINT32_MAX, sizeof(all[0]));
	th_check(result.count == 256 && result.more == 1, "%u links, more %u", result.count, result.more);
	free(paged);
	free(all);
	th_host_free(&host);
}

/* ---- inspect --------------------------------------------------------------------------------------- */

struct texts {
	char subject[128];
	char scope[128];
};

static acctlink_inspect_result inspect_now(struct th_host *host, struct texts *texts)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	result.subject = (acctlink_out){ texts->subject, sizeof(texts->subject), 0 };
	result.scope = (acctlink_out){ texts->scope, sizeof(texts->scope), 0 };
	th_check(th_inspect(host, "ana", "mikomo", &result, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	return result;
}

static void between(const char *what, int64_t low, int64_t value, int64_t high)
{
	th_check(value >= low && value <= high, "%s is %" PRId64 ", not from %" PRId64 " to %" PRId64, what, value, low,
		high);
}

static void inspect_tells_all_of_a_fresh_and_a_refreshed_link(void **unused)
{
	const struct th_config config = { .provider_lines = "refresh_lifetime = 86400; consent_lifetime = 7776000;"
							    " bearer_margin = 30;" };
	struct th_provider *own = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(own, &config);
	acctlink_callback_result linked = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_inspect_result result;
	struct texts texts;
	int64_t before = th_clock_wall_ms(host->clock);
	int64_t after;
	int64_t authorized;

	(void)unused;
	th_must_link(host, own, "ana", "mikomo", &linked);
	after = th_clock_wall_ms(host->clock);
	result = inspect_now(host, &texts);
	assert_int_equal(result.state, ACCTLINK_STATE_LINKED);
	assert_int_equal(result.reason, ACCTLINK_REASON_NONE);
	assert_int_equal(result.claim, ACCTLINK_CLAIM_NONE);
	assert_int_equal(result.epoch, 1);
	assert_int_equal(result.generation, 1);
	between("the bearer's end", before + HOUR_MS, result.bearer_expires_at_ms, after + HOUR_MS);
	assert_int_equal(result.next_refresh_at_ms, result.bearer_expires_at_ms - 30000);
	between("the refresh token's end", before + 24 * HOUR_MS, result.refresh_expires_at_ms, after + 24 * HOUR_MS);
	between("the consent's end", before + 90 * 24 * HOUR_MS, result.consent_expires_at_ms,
		after + 90 * 24 * HOUR_MS);
	between("the consent", before, result.authorized_at_ms, after);
	authorized = result.authorized_at_ms;
	assert_int_equal(result.claimed_at_ms, 0);
	assert_int_equal(result.claim_attempt, 0);
	assert_int_equal(result.last_http_status, 0);
	assert_int_equal(result.failures, 0);
	assert_string_equal(result.link_id, linked.link_id);
	assert_string_equal(result.provider, "test");
	assert_string_equal(result.institution, "mikomo");
	assert_string_equal(result.last_error, "");
	assert_string_equal(texts.subject, "sub-1");
	assert_string_equal(texts.scope, "openid offline_access");
	th_advance(host, own, HOUR_MS);
	before = th_clock_wall_ms(host->clock);
	free(th_must_bearer(host, "ana", "mikomo", NULL));
	after = th_clock_wall_ms(host->clock);
	result = inspect_now(host, &texts);
	assert_int_equal(result.generation, 2);
	assert_int_equal(result.epoch, 1);
	assert_int_equal(result.claim, ACCTLINK_CLAIM_NONE);
	assert_int_equal(result.claim_attempt, 1);
	assert_int_equal(result.claimed_at_ms, 0);
	assert_int_equal(result.authorized_at_ms, authorized);
	between("the bearer's end", before + HOUR_MS, result.bearer_expires_at_ms, after + HOUR_MS);
	between("the refresh token's end", before + 24 * HOUR_MS, result.refresh_expires_at_ms, after + 24 * HOUR_MS);
	assert_string_equal(result.link_id, linked.link_id);
	assert_string_equal(texts.subject, "sub-1");
	th_host_free(&host);
	th_provider_stop(&own);
}

static void *ask_for_mikomo(void *ctx)
{
	struct th_host *host = ctx;
	char *bearer = NULL;

	(void)th_bearer(host, "ana", "mikomo", &bearer, NULL, NULL);
	free(bearer);
	return NULL;
}

static void inspect_tells_of_an_open_claim_and_of_an_unknown_outcome(void **unused)
{
	struct th_provider *own = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(own, NULL);
	acctlink_inspect_result result;
	struct texts texts;
	int64_t before;
	int64_t after;
	pthread_t asker;

	(void)unused;
	th_must_link(host, own, "ana", "mikomo", NULL);
	th_advance(host, own, HOUR_MS - 20000); /* the margin has come, the bearer is good */
	th_script(own, "token", "refresh_token", 1, "{'hold':'refresh','cut':'half_body'}");
	before = th_clock_wall_ms(host->clock);
	th_check(pthread_create(&asker, NULL, ask_for_mikomo, host) == 0, "pthread_create");
	th_wait_held(own, "refresh", 1);
	after = th_clock_wall_ms(host->clock);
	result = inspect_now(host, &texts);
	assert_int_equal(result.claim, ACCTLINK_CLAIM_OPEN);
	assert_int_equal(result.claim_attempt, 1);
	between("the claim", before, result.claimed_at_ms, after);
	assert_int_equal(result.state, ACCTLINK_STATE_LINKED);
	th_release(own, "refresh");
	pthread_join(asker, NULL);
	th_wait_event(host, "STALE", 1);
	result = inspect_now(host, &texts);
	assert_int_equal(result.claim, ACCTLINK_CLAIM_UNKNOWN);
	between("the send", before, result.claimed_at_ms, after);
	assert_int_equal(result.state, ACCTLINK_STATE_STALE);
	assert_int_equal(result.reason, ACCTLINK_REASON_OUTCOME_UNKNOWN);
	assert_int_equal(result.generation, 1);
	assert_int_equal(result.failures, 1);
	assert_string_not_equal(result.last_error, "");
	th_check(result.next_refresh_at_ms >= before, "no next refresh");
	th_host_free(&host);
	th_provider_stop(&own);
}

static void inspect_tells_of_the_last_failure_and_why_a_new_consent_is_needed(void **unused)
{
	struct th_provider *own = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *host = th_host_new(own, NULL);
	acctlink_inspect_result result;
	struct texts texts;
	int64_t before;
	char *none = NULL;

	(void)unused;
	th_must_link(host, own, "ana", "mikomo", NULL);
	th_advance(host, own, HOUR_MS);
	th_script(own, "token", "refresh_token", 1,
		"{'status':503,'json':{'error':'temporarily_unavailable'},'headers':{'retry-after':'120'}}");
	before = th_clock_wall_ms(host->clock);
	th_check(th_bearer(host, "ana", "mikomo", &none, NULL, NULL) == ACCTLINK_PROVIDER_DOWN, "a bearer");
	result = inspect_now(host, &texts);
	assert_int_equal(result.state, ACCTLINK_STATE_STALE);
	assert_int_equal(result.reason, ACCTLINK_REASON_PROVIDER_DOWN);
	assert_int_equal(result.claim, ACCTLINK_CLAIM_NONE);
	assert_int_equal(result.claimed_at_ms, 0);
	assert_int_equal(result.last_http_status, 503);
	assert_int_equal(result.failures, 1);
	assert_string_equal(result.last_error, "temporarily_unavailable");
	between("the next refresh", before + 120000, result.next_refresh_at_ms, th_clock_wall_ms(host->clock) + 120000);
	th_advance(host, own, 300000);
	th_control(own, "{'kill_grant':'all'}");
	th_check(th_bearer(host, "ana", "mikomo", &none, NULL, NULL) == ACCTLINK_RELINK_REQUIRED, "a bearer");
	result = inspect_now(host, &texts);
	assert_int_equal(result.state, ACCTLINK_STATE_RELINK_REQUIRED);
	assert_int_equal(result.reason, ACCTLINK_REASON_REVOKED);
	assert_int_equal(result.last_http_status, 400);
	assert_int_equal(result.failures, 2);
	assert_string_equal(result.last_error, "invalid_grant");
	assert_int_equal(result.next_refresh_at_ms, 0);
	assert_int_equal(result.generation, 1);
	th_host_free(&host);
	th_provider_stop(&own);
}

static void inspect_by_another_link_s_id_is_not_linked(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result linked = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_inspect_args args = ACCTLINK_INSPECT_ARGS_INIT;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	(void)unused;
	th_must_link(host, provider, "ana", "mikomo", &linked);
	args.link.user = th_str("ana");
	args.link.provider = th_str("test");
	args.link.institution = th_str("mikomo");
	args.link.link_id = th_str(linked.link_id);
	th_check(host->api.inspect(host->handle, &args, &result, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	args.link.link_id = th_str("00000000000000000000000000000000");
	th_check(host->api.inspect(host->handle, &args, &result, &err) == ACCTLINK_NOT_LINKED, "another id");
	args.link.link_id = th_str(linked.link_id);
	args.link.institution = th_str(NULL);
	th_check(host->api.inspect(host->handle, &args, &result, &err) == ACCTLINK_NOT_LINKED,
		"without its institution");
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_leaves_the_process_as_it_was),
		cmocka_unit_test(no_sigpipe_reaches_a_host_with_the_default_action),
		cmocka_unit_test(its_threads_block_every_signal),
		cmocka_unit_test(all_calls_work_on_a_stack_of_64_kib),
		cmocka_unit_test(an_event_hook_that_takes_its_time_stops_nobody_else),
		cmocka_unit_test(a_log_hook_that_takes_its_time_stops_nobody_else),
		cmocka_unit_test(a_clock_hook_that_takes_its_time_stops_nobody_else),
		cmocka_unit_test(a_host_without_hooks_gets_syslog_real_time_and_no_events),
		cmocka_unit_test(a_user_without_links_has_an_empty_list),
		cmocka_unit_test(one_link_is_listed_with_its_members),
		cmocka_unit_test(pages_follow_each_other_by_the_id_of_the_last_item),
		cmocka_unit_test(a_stride_smaller_or_larger_than_the_item_is_kept_to),
		cmocka_unit_test(two_hundred_and_fifty_seven_links_come_in_pages_of_256_at_most),
		cmocka_unit_test(inspect_tells_all_of_a_fresh_and_a_refreshed_link),
		cmocka_unit_test(inspect_tells_of_an_open_claim_and_of_an_unknown_outcome),
		cmocka_unit_test(inspect_tells_of_the_last_failure_and_why_a_new_consent_is_needed),
		cmocka_unit_test(inspect_by_another_link_s_id_is_not_linked),
	};

	return cmocka_run_group_tests_name("guest", tests, start_provider, stop_provider);
}
