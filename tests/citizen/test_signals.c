/* SPDX-License-Identifier: MIT
 * Signals belong to the host: no SIGPIPE reaches it whenever the provider cuts
 * a connection, no call changes its handlers, mask, timers, pending signals or
 * alternate stack, a name server that doesn't answer costs nobody more than
 * his deadline, and calls succeed in a storm of signals. Each host is a process
 * of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "guest.h"

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

static char *fresh_config(const struct th_config *config)
{
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, config);

	free(dir);
	return path;
}

/* ---- each function once, well or badly ------------------------------------------ */

/* Called after each call of the ABI. */
typedef void look_fn(const char *what);

struct consent {
	const char *url;
	char *params;
};

static void *consent(void *ctx)
{
	struct consent *consent = ctx;

	consent->params = th_consent(provider, consent->url);
	return NULL;
}

/* What the test does itself is done on threads that no signal comes to. */
static void quietly(void *(*run)(void *ctx), void *ctx)
{
	pthread_t thread;
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	th_check(pthread_sigmask(SIG_BLOCK, &all, &before) == 0, "sigmask");
	th_check(pthread_create(&thread, NULL, run, ctx) == 0, "pthread_create");
	th_check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0, "sigmask");
	th_check(pthread_join(thread, NULL) == 0, "pthread_join");
}

static void link_with_looks(struct th_host *host, const char *user, look_fn *look)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	struct consent wanted = { .params = NULL };
	acctlink_error err = { 0 };

	th_check(flow != NULL, "no memory");
	th_check(th_begin(host, user, NULL, flow, &err) == ACCTLINK_OK, "begin: %s", th_error_text(&err));
	look("begin");
	wanted.url = flow->url;
	quietly(consent, &wanted);
	th_check(th_callback(host, user, "code=a&state=b", flow->cookie, NULL, &err) == ACCTLINK_FOREIGN_CALLBACK, "%s",
		th_error_text(&err));
	look("an on_callback of nobody");
	th_check(th_callback(host, user, wanted.params, flow->cookie, NULL, &err) == ACCTLINK_OK, "on_callback: %s",
		th_error_text(&err));
	look("on_callback");
	free(wanted.params);
	free(flow);
}

static void read_with_looks(struct th_host *host, const char *user, look_fn *look)
{
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args list_args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };

	th_check(th_inspect(host, user, NULL, &seen, &err) == ACCTLINK_OK && seen.generation == 2, "inspect: %s",
		th_error_text(&err));
	look("inspect");
	list_args.user = th_str(user);
	list.items = &item;
	list.capacity = 1;
	th_check(host->api.list(host->handle, &list_args, &list, &err) == ACCTLINK_OK && list.count == 1, "list: %s",
		th_error_text(&err));
	look("list");
}

/* Only the host's clock moves, by a minute: too little for an id_token to end. */
static void go_round(const char *config_path, const char *user, look_fn *look)
{
	struct th_host *host = th_host_open(config_path, NULL);
	acctlink_error err = { 0 };
	struct th_host *none = NULL;
	char *bearer = NULL;

	look("init");
	th_check(th_host_try("/no/such/config", NULL, &none, &err) == ACCTLINK_BAD_CONFIG, "%s", th_error_text(&err));
	look("a failed init");
	link_with_looks(host, user, look);
	free(th_must_bearer(host, user, NULL, NULL));
	look("get_bearer");
	th_check(th_report(host, user, NULL, 1, &err) == ACCTLINK_OK, "report_rejected: %s", th_error_text(&err));
	look("report_rejected");
	th_clock_advance(host->clock, 60000); /* past the least interval of refreshes */
	free(th_must_bearer(host, user, NULL, NULL));
	look("a refresh");
	read_with_looks(host, user, look);
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "reload: %s", th_error_text(&err));
	look("reload");
	th_check(th_unlink(host, user, NULL, NULL, &err) == ACCTLINK_OK, "unlink: %s", th_error_text(&err));
	look("unlink");
	th_check(th_bearer(host, user, NULL, &bearer, NULL, &err) == ACCTLINK_NOT_LINKED, "%s", th_error_text(&err));
	look("a get_bearer without a link");
	th_host_free(&host);
	look("shutdown");
}

/* ---- what belongs to the host -------------------------------------------------------- */

enum { TIMERS = 3 };
static const __itimer_which_t timers[TIMERS] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };

struct signals {
	struct sigaction actions[65];
	sigset_t mask;
	sigset_t pending;
	stack_t stack;
	struct itimerval timers[TIMERS];
};

static struct signals at_first;

static void note(struct signals *s)
{
	memset(s, 0, sizeof(*s));
	for (int i = 1; i < 65; i++)
		(void)sigaction(i, NULL, &s->actions[i]); /* the C library's own two can't be asked */
	th_check(pthread_sigmask(SIG_BLOCK, NULL, &s->mask) == 0 && sigpending(&s->pending) == 0, "mask");
	th_check(sigaltstack(NULL, &s->stack) == 0, "sigaltstack: %s", strerror(errno));
	for (size_t i = 0; i < TIMERS; i++)
		th_check(getitimer(timers[i], &s->timers[i]) == 0, "getitimer: %s", strerror(errno));
}

static bool same_set(const sigset_t *a, const sigset_t *b)
{
	for (int i = 1; i < 65; i++) {
		if (sigismember(a, i) != sigismember(b, i))
			return false;
	}
	return true;
}

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags && same_set(&a->sa_mask, &b->sa_mask);
}

/* A timer that nobody touched has run since the start, and no longer. */
static bool same_timer(const struct itimerval *now, const struct itimerval *before)
{
	return now->it_interval.tv_sec == before->it_interval.tv_sec
		&& now->it_interval.tv_usec == before->it_interval.tv_usec
		&& now->it_value.tv_sec <= before->it_value.tv_sec
		&& now->it_value.tv_sec > before->it_value.tv_sec - 600;
}

static void nothing_changed(const char *what)
{
	struct signals now;

	note(&now);
	for (int i = 1; i < 65; i++)
		th_check(same_action(&now.actions[i], &at_first.actions[i]), "%s changed the action of signal %d", what,
			i);
	th_check(same_set(&now.mask, &at_first.mask), "%s changed the mask", what);
	th_check(same_set(&now.pending, &at_first.pending), "%s changed the pending signals", what);
	th_check(now.stack.ss_sp == at_first.stack.ss_sp && now.stack.ss_size == at_first.stack.ss_size
			&& now.stack.ss_flags == at_first.stack.ss_flags,
		"%s changed the alternate stack", what);
	for (size_t i = 0; i < TIMERS; i++)
		th_check(same_timer(&now.timers[i], &at_first.timers[i]), "%s changed timer %d", what, (int)timers[i]);
}

static void never_wanted(int signal_number)
{
	(void)signal_number;
	_exit(97);
}

/* Everything other than usual, so that a reset would be seen; three signals are
 * blocked and wait, SIGPIPE among them. */
static void be_odd(void)
{
	const struct itimerval far = { { 12345, 678 }, { 100000, 0 } };
	static char room[64 * 1024];
	stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };
	struct sigaction action;
	sigset_t blocked;

	memset(&action, 0, sizeof(action));
	action.sa_handler = never_wanted;
	action.sa_flags = SA_ONSTACK | SA_NODEFER;
	sigaddset(&action.sa_mask, SIGUSR2);
	th_check(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0
			&& sigaction(SIGPIPE, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0,
		"sigaction");
	th_check(signal(SIGCHLD, SIG_IGN) != SIG_ERR && signal(SIGTERM, SIG_IGN) != SIG_ERR, "signal");
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGPIPE);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGRTMIN);
	sigaddset(&blocked, SIGWINCH);
	th_check(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0, "sigmask");
	/* To this thread and to the process: both kinds wait in places of their own. */
	th_check(raise(SIGPIPE) == 0 && kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGRTMIN) == 0, "kill");
	th_check(SANITIZED || sigaltstack(&stack, NULL) == 0, "sigaltstack: %s", strerror(errno));
	for (size_t i = 0; i < TIMERS; i++)
		th_check(setitimer(timers[i], &far, NULL) == 0, "setitimer: %s", strerror(errno));
}

static int live_with_odd_signals(void *ctx)
{
	be_odd();
	note(&at_first);
	go_round(ctx, "ana", nothing_changed);
	return 0;
}

static void every_call_leaves_handlers_mask_timers_pending_signals_and_stack(void **unused)
{
	char *path = fresh_config(NULL);

	(void)unused;
	th_join(th_fork(live_with_odd_signals, path), 60000);
	free(path);
}

/* ---- SIGPIPE ------------------------------------------------------------------------------ */

/* How the connections of one host end before their time. */
struct cut {
	struct th_provider *own;
	bool blocked;  /* the host blocks SIGPIPE: then none may wait for it either */
	unsigned many; /* byte positions */
};

static void no_pipe_signal_waits(const struct cut *cut)
{
	sigset_t waiting;

	th_check(sigpending(&waiting) == 0, "sigpending");
	th_check(!cut->blocked || sigismember(&waiting, SIGPIPE) == 0, "a SIGPIPE waits for the host");
}

/* Whatever becomes of the call, the host lives on. */
static void ask(struct th_host *host)
{
	char *bearer = NULL;

	(void)th_bearer(host, "ana", NULL, &bearer, NULL, NULL);
	free(bearer);
}

/* Cut while nobody used it, and the next request finds out. */
static void cut_when_idle(struct cut *cut, struct th_host *host)
{
	for (int i = 0; i < 8; i++) {
		th_advance(host, cut->own, HOUR_MS);
		free(th_must_bearer(host, "ana", NULL, NULL));
		th_control(cut->own, "{'close_idle':true}");
	}
	th_advance(host, cut->own, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, NULL));
	no_pipe_signal_waits(cut);
}

/* The provider hears the first bytes of a request and hangs up, in two ways. */
static void cut_in_a_request(struct cut *cut, struct th_host *host)
{
	for (unsigned i = 0; i < cut->many; i++) {
		th_control(cut->own, "{'cut_request':{'path':'/token','after_bytes':%u,'reset':%s,'times':1}}",
			1 + i * 600 / cut->many, i % 2 == 0 ? "true" : "false");
		th_advance(host, cut->own, HOUR_MS);
		ask(host);
		th_control(cut->own, "{'cut_request':null}");
	}
	no_pipe_signal_waits(cut);
}

/* Any byte of a connection's life may be the last that arrives: its handshake, a
 * request, and TLS's own good-bye when the handle ends. */
static void cut_anywhere(struct cut *cut, struct th_host *host)
{
	char *path = th_printf("%s", host->config_path);
	struct th_clock *clock = host->clock;

	for (unsigned i = 0; i < cut->many; i++) {
		struct th_host *other = th_host_open(path, clock);

		th_control(cut->own, "{'cut_tls':{'direction':'in','after_bytes':%u,'reset':%s,'times':100}}",
			100 + i * 3000 / cut->many, i % 2 == 0 ? "true" : "false");
		th_advance(other, cut->own, HOUR_MS);
		ask(other);
		th_host_free(&other);
		th_control(cut->own, "{'cut_tls':null}");
	}
	no_pipe_signal_waits(cut);
	free(path);
}

/* The good-bye is written to a peer that is gone, or that is just going. */
static void cut_during_the_close(struct cut *cut, struct th_host *host)
{
	char *path = th_printf("%s", host->config_path);
	struct th_clock *clock = host->clock;

	for (int i = 0; i < 8; i++) {
		struct th_host *other = th_host_open(path, clock);

		th_advance(other, cut->own, HOUR_MS);
		free(th_must_bearer(other, "ana", NULL, NULL));
		th_provider_down(cut->own, true);
		th_host_free(&other);
		th_provider_down(cut->own, false);
	}
	no_pipe_signal_waits(cut);
	free(path);
}

static int live_with_cuts(void *ctx)
{
	const struct th_config config = { .provider_lines = "backoff_base = 0.01; backoff_cap = 0.01;" };
	struct cut *cut = ctx;
	struct th_host *host;
	sigset_t mask;

	sigemptyset(&mask);
	if (cut->blocked)
		sigaddset(&mask, SIGPIPE);
	th_check(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0 && signal(SIGPIPE, SIG_DFL) != SIG_ERR, "signal");
	host = th_host_new(cut->own, &config);
	th_must_link(host, cut->own, "ana", NULL, NULL);
	cut_when_idle(cut, host);
	cut_in_a_request(cut, host);
	cut_during_the_close(cut, host);
	cut_anywhere(cut, host);
	th_advance(host, cut->own, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	return 0;
}

static void hang_up_on(bool blocked)
{
	struct cut cut = { th_provider_start(TH_PRACTICE, NULL), blocked, guest_rounds(100, SANITIZED ? 10 : 25) };

	/* A cut request may be sent again without ending the grant. */
	th_control(cut.own, "{'set':{'rotation':'none'}}");
	th_join(th_fork(live_with_cuts, &cut), 200000);
	th_provider_stop(&cut.own);
}

static void a_provider_that_hangs_up_at_any_time_kills_no_host_with_the_default_action(void **unused)
{
	(void)unused;
	hang_up_on(false);
}

static void a_host_that_blocks_sigpipe_finds_none_waiting(void **unused)
{
	(void)unused;
	hang_up_on(true);
}

/* ---- a name server that doesn't answer ------------------------------------------------------ */

enum { ASKERS = 8, PATIENCE_MS = 1000, NO_NAMESPACE = 77 };

static atomic_int alarms;

static void count_alarm(int signal_number)
{
	(void)signal_number;
	(void)atomic_fetch_add(&alarms, 1);
}

static bool raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up;

	if (fd < 0)
		return false;
	request.ifr_flags = IFF_UP;
	up = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return up;
}

/* A network of its own whose name server listens and says nothing. */
static bool enter_a_silent_network(const char *resolv_conf)
{
	const struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(53), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	int server;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
		|| mount(resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0 || !raise_loopback())
		return false;
	server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return server >= 0 && bind(server, (const struct sockaddr *)&at, sizeof(at)) == 0;
}

static void ask_in_silence(void *ctx, unsigned i)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	struct th_host *host = ctx;
	acctlink_error err = { 0 };
	char *user = th_printf("user %u", i);
	char url[1024];
	char cookie[1024];
	int64_t began = guest_now_ms();
	acctlink_status rc;

	args.user = th_str(user);
	args.provider = th_str("test");
	args.deadline_ms = PATIENCE_MS;
	result.url = (acctlink_out){ url, sizeof(url), 0 };
	result.set_cookie = (acctlink_out){ cookie, sizeof(cookie), 0 };
	rc = host->api.begin(host->handle, &args, &result, &err);
	th_check(rc == ACCTLINK_TIMED_OUT, "begin: %s", th_error_text(&err));
	th_check(guest_now_ms() - began < 3 * PATIENCE_MS, "%lld ms for a deadline of %d",
		(long long)(guest_now_ms() - began), PATIENCE_MS);
	free(user);
}

static int live_without_names(void *ctx)
{
	const char *const *paths = ctx;
	struct th_host *host;
	int64_t began;

	if (!enter_a_silent_network(paths[0]))
		return NO_NAMESPACE;
	th_check(signal(SIGALRM, count_alarm) != SIG_ERR, "signal");
	note(&at_first);
	host = th_host_open(paths[1], NULL);
	th_parallel(ASKERS, ask_in_silence, host);
	nothing_changed("a name that can't be found");
	began = guest_now_ms();
	(void)host->api.shutdown(host->handle, PATIENCE_MS, NULL);
	host->handle = NULL;
	th_check(guest_now_ms() - began < 8000, "shutdown took %lld ms", (long long)(guest_now_ms() - began));
	th_check(atomic_load(&alarms) == 0, "%d alarms", atomic_load(&alarms));
	nothing_changed("shutdown");
	th_host_free(&host);
	return 0;
}

static void a_silent_name_server_costs_no_more_than_the_deadline_and_no_signal(void **unused)
{
	const struct th_config config = { .issuer = "https://bank.example:8443" };
	char *dir = th_temp_dir();
	char *paths[] = { th_printf("%s/resolv.conf", dir), fresh_config(&config) };
	int status = 0;
	pid_t pid;

	(void)unused;
	th_write_file(paths[0], 0644, "nameserver 127.0.0.1\noptions timeout:20 attempts:3\n");
	pid = th_fork(live_without_names, paths);
	th_check(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the host ended with wait status %#x",
		(unsigned)status);
	for (size_t i = 0; i < COUNT(paths); i++)
		free(paths[i]);
	free(dir);
	if (WEXITSTATUS(status) == NO_NAMESPACE) {
		printf("# left out: only root outside a chroot can give a process its own network and resolv.conf\n");
		skip();
	}
	th_check(WEXITSTATUS(status) == 0, "the host exited with %d", WEXITSTATUS(status));
}

/* ---- a storm ------------------------------------------------------------------------------------ */

enum { STORM_THREADS = 4 };

static atomic_uint caught[3];
static const int stormy[3] = { SIGALRM, SIGCHLD, SIGUSR1 };

static void count_signal(int number)
{
	for (size_t i = 0; i < COUNT(stormy); i++) {
		if (stormy[i] == number)
			(void)atomic_fetch_add(&caught[i], 1);
	}
}

/* Until the host is gone. */
static void send_signals(pid_t host, uint64_t chance)
{
	while (kill(host, stormy[1 + guest_random(&chance) % 2]) == 0)
		guest_nap_us(50 + (unsigned)(guest_random(&chance) % 400));
	_exit(0);
}

struct storm {
	const char *config_path;
	unsigned rounds;
};

static void nothing(const char *what)
{
	(void)what;
}

static void live_in_the_storm(void *ctx, unsigned i)
{
	const struct storm *storm = ctx;

	for (unsigned round = 0; round < storm->rounds; round++) {
		char *user = th_printf("user %u %u", i, round);

		go_round(storm->config_path, user, nothing);
		free(user);
	}
}

static int live_in_storm(void *ctx)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action;
	sigset_t none;
	pid_t host = getpid();
	pid_t sender;

	memset(&action, 0, sizeof(action));
	action.sa_handler = count_signal; /* without SA_RESTART */
	for (size_t i = 0; i < COUNT(stormy); i++)
		th_check(sigaction(stormy[i], &action, NULL) == 0, "sigaction");
	sigemptyset(&none);
	th_check(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0, "sigmask");
	sender = fork();
	th_check(sender >= 0, "fork: %s", strerror(errno));
	if (sender == 0)
		send_signals(host, th_seed() | 1);
	th_check(setitimer(ITIMER_REAL, &often, NULL) == 0, "setitimer: %s", strerror(errno));
	th_parallel(STORM_THREADS, live_in_the_storm, ctx);
	th_check(setitimer(ITIMER_REAL, &never, NULL) == 0, "setitimer: %s", strerror(errno));
	th_check(kill(sender, SIGKILL) == 0, "kill: %s", strerror(errno));
	while (waitpid(sender, NULL, 0) < 0)
		th_check(errno == EINTR, "waitpid: %s", strerror(errno));
	printf("# caught: %u SIGALRM, %u SIGCHLD, %u SIGUSR1\n", atomic_load(&caught[0]), atomic_load(&caught[1]),
		atomic_load(&caught[2]));
	fflush(stdout);
	for (size_t i = 0; i < COUNT(stormy); i++)
		th_check(
			atomic_load(&caught[i]) >= 50, "%u of signal %d: no storm", atomic_load(&caught[i]), stormy[i]);
	return 0;
}

static void all_calls_succeed_in_a_storm_of_signals(void **unused)
{
	char *path = fresh_config(NULL);
	struct storm storm = { path, guest_rounds(50, SANITIZED ? 3 : 10) };

	(void)unused;
	(void)th_seed();
	th_join(th_fork(live_in_storm, &storm), 300000);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_leaves_handlers_mask_timers_pending_signals_and_stack),
		cmocka_unit_test(a_provider_that_hangs_up_at_any_time_kills_no_host_with_the_default_action),
		cmocka_unit_test(a_host_that_blocks_sigpipe_finds_none_waiting),
		cmocka_unit_test(a_silent_name_server_costs_no_more_than_the_deadline_and_no_signal),
		cmocka_unit_test(all_calls_succeed_in_a_storm_of_signals),
	};

	return cmocka_run_group_tests_name("signals", tests, start_provider, stop_provider);
}
