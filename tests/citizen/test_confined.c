/* SPDX-License-Identifier: MIT
 * Hosts that are confined: small stacks, no new executable memory, no new
 * privileges, few descriptors, little memory, a changed root. What the limits
 * leave room for works; what they don't is a clear error, and works again as
 * soon as there is room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "guest.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1ul
#endif

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

static char *config_for(const struct th_provider *of)
{
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, of, NULL);

	free(dir);
	return path;
}

static char *fresh_config(void)
{
	return config_for(provider);
}

/* Two generations, and an end. */
static void link_refresh_and_end(const char *config_path)
{
	struct th_host *host = th_host_open(config_path, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };

	th_must_link(host, provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 1, "generation %llu", (unsigned long long)info.generation);
	th_advance(host, NULL, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 2, "generation %llu", (unsigned long long)info.generation);
	th_check(th_unlink(host, "ana", NULL, NULL, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_host_free(&host);
}

/* ---- stacks ---------------------------------------------------------------------------- */

#if SANITIZED
#define SMALL_STACK ((size_t)512 * 1024) /* sanitizers multiply the size of frames */
#else
#define SMALL_STACK ((size_t)64 * 1024)
#endif

/* One call, alone on a thread of its own, so that no call before it has grown the stack
 * or loaded what it needs. The harness's own frames stay small: it only copies. */
struct errand {
	struct stay *stay;
	acctlink_status (*call)(struct stay *stay);
	acctlink_status rc;
};

/* All that the calls need, off the stack. */
struct stay {
	acctlink_api api;
	acctlink *handle;
	acctlink_init_args init;
	acctlink_begin_args begin;
	acctlink_begin_result flow;
	acctlink_callback_args callback;
	acctlink_bearer_args bearer;
	acctlink_inspect_args inspect;
	acctlink_inspect_result seen;
	acctlink_list_args list;
	acctlink_list_result listed;
	acctlink_list_item item;
	acctlink_rejected_args report;
	acctlink_unlink_args unlink;
	acctlink_error err;
	char url[8192];
	char cookie[1024];
	char token[16384];
	char subject[512];
	char scope[512];
};

static acctlink_status call_init(struct stay *s)
{
	return s->api.init(&s->init, &s->handle, &s->err);
}
static acctlink_status call_begin(struct stay *s)
{
	return s->api.begin(s->handle, &s->begin, &s->flow, &s->err);
}
static acctlink_status call_callback(struct stay *s)
{
	return s->api.on_callback(s->handle, &s->callback, NULL, &s->err);
}
static acctlink_status call_bearer(struct stay *s)
{
	return s->api.get_bearer(s->handle, &s->bearer, s->token, sizeof(s->token), NULL, &s->err);
}
static acctlink_status call_inspect(struct stay *s)
{
	return s->api.inspect(s->handle, &s->inspect, &s->seen, &s->err);
}
static acctlink_status call_list(struct stay *s)
{
	return s->api.list(s->handle, &s->list, &s->listed, &s->err);
}
static acctlink_status call_reload(struct stay *s)
{
	return s->api.reload(s->handle, &s->err);
}
static acctlink_status call_report(struct stay *s)
{
	return s->api.report_rejected(s->handle, &s->report, &s->err);
}
static acctlink_status call_unlink(struct stay *s)
{
	return s->api.unlink(s->handle, &s->unlink, NULL, &s->err);
}
static acctlink_status call_shutdown(struct stay *s)
{
	return s->api.shutdown(s->handle, 0, &s->err);
}

static void *do_errand(void *ctx)
{
	struct errand *errand = ctx;

	errand->rc = errand->call(errand->stay);
	return NULL;
}

static void on_small_stack(
	struct stay *stay, acctlink_status (*call)(struct stay *stay), acctlink_status wanted, const char *what)
{
	struct errand errand = { stay, call, -1 };
	pthread_attr_t attr;
	pthread_t thread;

	th_check(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, SMALL_STACK) == 0
			&& pthread_create(&thread, &attr, do_errand, &errand) == 0,
		"pthread_create");
	pthread_attr_destroy(&attr);
	pthread_join(thread, NULL);
	th_check(errand.rc == wanted, "%s: %d wanted, %s", what, (int)wanted, th_error_text(&stay->err));
}

static struct stay *stay_new(const char *config_path)
{
	struct stay *s = calloc(1, sizeof(*s));
	const acctlink_ref ana = { th_str("ana"), th_str("test"), th_str(NULL), th_str(NULL) };

	th_check(s != NULL, "no memory");
	th_plugin_load(&s->api);
	s->init = (acctlink_init_args)ACCTLINK_INIT_ARGS_INIT;
	s->init.config_path = th_str(config_path);
	s->begin = (acctlink_begin_args)ACCTLINK_BEGIN_ARGS_INIT;
	s->begin.user = ana.user;
	s->begin.provider = ana.provider;
	s->flow = (acctlink_begin_result)ACCTLINK_BEGIN_RESULT_INIT;
	s->flow.url = (acctlink_out){ s->url, sizeof(s->url), 0 };
	s->flow.set_cookie = (acctlink_out){ s->cookie, sizeof(s->cookie), 0 };
	s->callback = (acctlink_callback_args)ACCTLINK_CALLBACK_ARGS_INIT;
	s->callback.user = ana.user;
	s->bearer = (acctlink_bearer_args)ACCTLINK_BEARER_ARGS_INIT;
	s->bearer.link = ana;
	s->inspect = (acctlink_inspect_args)ACCTLINK_INSPECT_ARGS_INIT;
	s->inspect.link = ana;
	s->seen = (acctlink_inspect_result)ACCTLINK_INSPECT_RESULT_INIT;
	s->seen.subject = (acctlink_out){ s->subject, sizeof(s->subject), 0 };
	s->seen.scope = (acctlink_out){ s->scope, sizeof(s->scope), 0 };
	s->list = (acctlink_list_args)ACCTLINK_LIST_ARGS_INIT;
	s->list.user = ana.user;
	s->listed = (acctlink_list_result)ACCTLINK_LIST_RESULT_INIT;
	s->listed.items = &s->item;
	s->listed.capacity = 1;
	s->report = (acctlink_rejected_args)ACCTLINK_REJECTED_ARGS_INIT;
	s->report.link = ana;
	s->report.generation = 1;
	s->unlink = (acctlink_unlink_args)ACCTLINK_UNLINK_ARGS_INIT;
	s->unlink.link = ana;
	return s;
}

/* Errors are made on the caller's stack too, with their texts and places. */
static int short_errands(void *ctx)
{
	const char *path = ctx;
	struct stay *s = stay_new(path);
	char *text = th_read_file(path);
	char *params;

	s->init.config_path = th_str("/no/such/file");
	on_small_stack(s, call_init, ACCTLINK_BAD_CONFIG, "init without a config");
	s->init.config_path = th_str(path);
	th_write_file(path, 0600, "store = { path = \"/x\"; @include \"y\"\n");
	on_small_stack(s, call_init, ACCTLINK_BAD_CONFIG, "init with a wrong config");
	th_write_file(path, 0600, text);
	on_small_stack(s, call_init, ACCTLINK_OK, "init");
	on_small_stack(s, call_bearer, ACCTLINK_NOT_LINKED, "get_bearer without a link, the first call");
	on_small_stack(s, call_begin, ACCTLINK_OK, "begin, with discovery");
	s->callback.params = th_str("state=&state=");
	on_small_stack(s, call_callback, ACCTLINK_BAD_CALLBACK, "a malformed callback");
	params = th_consent(provider, s->url);
	s->callback.params = th_str(params);
	on_small_stack(s, call_callback, ACCTLINK_FOREIGN_CALLBACK, "a callback without its cookie");
	s->callback.cookie = (acctlink_str){ s->cookie, strcspn(s->cookie, ";") };
	on_small_stack(s, call_callback, ACCTLINK_OK, "on_callback");
	on_small_stack(s, call_bearer, ACCTLINK_OK, "get_bearer");
	on_small_stack(s, call_inspect, ACCTLINK_OK, "inspect");
	on_small_stack(s, call_list, ACCTLINK_OK, "list");
	on_small_stack(s, call_report, ACCTLINK_OK, "report_rejected");
	on_small_stack(s, call_reload, ACCTLINK_OK, "reload");
	th_write_file(path, 0600, "store = {");
	on_small_stack(s, call_reload, ACCTLINK_BAD_CONFIG, "reload of a wrong config");
	on_small_stack(s, call_unlink, ACCTLINK_OK, "unlink");
	on_small_stack(s, call_unlink, ACCTLINK_NOT_LINKED, "a second unlink");
	on_small_stack(s, call_shutdown, ACCTLINK_OK, "shutdown");
	acctlink_dl_close(&s->api);
	free(params);
	free(text);
	free(s);
	return 0;
}

static void each_call_good_or_bad_has_room_on_a_stack_of_64_kib(void **unused)
{
	char *path = fresh_config();

	(void)unused;
	th_join(th_fork(short_errands, path), 60000);
	free(path);
}

/* A host may make the default small for all threads; the plugin's are not the host's. */
static int small_default(void *ctx)
{
	pthread_attr_t attr;

	th_check(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, SMALL_STACK) == 0
			&& pthread_setattr_default_np(&attr) == 0,
		"pthread_setattr_default_np");
	pthread_attr_destroy(&attr);
	link_refresh_and_end(ctx);
	return 0;
}

static void its_own_threads_have_room_when_the_host_s_default_is_64_kib(void **unused)
{
	char *path = fresh_config();

	(void)unused;
	th_join(th_fork(small_default, path), 60000);
	free(path);
}

/* ---- what the kernel refuses ---------------------------------------------------------------- */

static bool maps_writable_code(void)
{
	char *maps = th_read_file("/proc/self/maps");
	bool found = strstr(maps, " rwx") != NULL;

	free(maps);
	return found;
}

enum { NOT_HERE = 77 };

static int without_new_code(void *ctx)
{
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0ul, 0ul, 0ul) != 0)
		return NOT_HERE;
	link_refresh_and_end(ctx);
	th_check(!maps_writable_code(), "memory is writable and executable");
	return 0;
}

/* th_join, but a child may say that the kernel lacks what it needs. */
static bool join_or_skip(pid_t pid)
{
	int status = 0;

	th_check(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	th_check(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NOT_HERE),
		"the child ended with status %#x", (unsigned)status);
	return WEXITSTATUS(status) == 0;
}

static void no_executable_memory_is_ever_wanted(void **unused)
{
	char *path = fresh_config();
	bool done = join_or_skip(th_fork(without_new_code, path));

	(void)unused;
	free(path);
	if (!done) {
		print_message("# this kernel has no PR_SET_MDWE\n");
		skip();
	}
}

static void limit(int what, rlim_t value)
{
	const struct rlimit both = { value, value };

	th_check(setrlimit((__rlimit_resource_t)what, &both) == 0, "setrlimit: %s", strerror(errno));
}

static int as_a_hardened_service(void *ctx)
{
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_MEMLOCK, 0);
	limit(RLIMIT_MSGQUEUE, 0);
	limit(RLIMIT_RTPRIO, 0);
	th_check(prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) == 0 && prctl(PR_SET_DUMPABLE, 0ul, 0ul, 0ul, 0ul) == 0,
		"prctl: %s", strerror(errno));
	link_refresh_and_end(ctx);
	return 0;
}

static void no_new_privileges_no_core_and_no_locked_memory_are_no_hindrance(void **unused)
{
	char *path = fresh_config();

	(void)unused;
	th_join(th_fork(as_a_hardened_service, path), 60000);
	free(path);
}

/* ---- few descriptors, little memory -------------------------------------------------------- */

/* One limit that holds during the plugin's calls only: the browser needs room too. */
struct squeeze {
	struct th_provider *provider;
	char *config_path;
	__rlimit_resource_t what;
	rlim_t (*used)(void);
	rlim_t more; /* than what is used when the plugin is loaded */
	rlim_t room; /* their sum */
	rlim_t usual;
	bool spoils; /* what is not made at its first time is never made in this process */
};

static void set_soft(const struct squeeze *squeeze, rlim_t value)
{
	struct rlimit both;

	th_check(getrlimit(squeeze->what, &both) == 0, "getrlimit");
	both.rlim_cur = value;
	th_check(setrlimit(squeeze->what, &both) == 0, "setrlimit: %s", strerror(errno));
}

/* A failure in words, that tells of the moment or of this machine. A process that is spoilt
 * may take an answer for a bad one: json-c and OpenSSL don't always say that they had no
 * memory to look at it. */
static void bearable(const struct squeeze *squeeze, const char *what, acctlink_status rc, const acctlink_error *err)
{
	const bool misjudged = squeeze->spoils && (rc == ACCTLINK_FLOW_FAILED || rc == ACCTLINK_BAD_PROVIDER);

	th_check(rc == ACCTLINK_OK || (err->status == rc && err->message[0] != '\0'), "%s: %d without words", what,
		(int)rc);
	switch (rc) {
	case ACCTLINK_OK:
	case ACCTLINK_PROVIDER_DOWN:
	case ACCTLINK_STORE_DOWN:
	case ACCTLINK_TIMED_OUT:
	case ACCTLINK_NO_MEMORY:
	case ACCTLINK_INTERNAL:
	case ACCTLINK_BAD_CONFIG:
	case ACCTLINK_BAD_KEY: return;
	default: th_check(misjudged, "%s: %s", what, th_error_text(err));
	}
}

static int64_t ahead_ms;

static void read_ahead(void *ctx, acctlink_time *now)
{
	struct timespec wall;
	struct timespec boot;

	(void)ctx;
	(void)clock_gettime(CLOCK_REALTIME, &wall);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	now->wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000 + ahead_ms;
	now->boot_ms = (int64_t)boot.tv_sec * 1000 + boot.tv_nsec / 1000000 + ahead_ms;
}

static void say_nothing(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	(void)level;
	(void)message;
}

static void pass_time(const struct squeeze *squeeze, int64_t ms)
{
	ahead_ms += ms;
	th_provider_advance(squeeze->provider, ms);
}

/* In need the call may fail; then some time passes, for failures that are remembered for
 * a while, and with room it must be good, unless the process is spoilt. Nothing of the
 * test's own is allocated in need. */
static bool in_need(
	const struct squeeze *squeeze, struct stay *s, acctlink_status (*call)(struct stay *s), const char *what)
{
	acctlink_status rc;

	set_soft(squeeze, squeeze->room);
	rc = call(s);
	set_soft(squeeze, squeeze->usual);
	bearable(squeeze, what, rc, &s->err);
	if (rc == ACCTLINK_OK)
		return true;
	pass_time(squeeze, 60000);
	rc = call(s);
	bearable(squeeze, what, rc, &s->err);
	th_check(rc == ACCTLINK_OK || squeeze->spoils, "%s with room: %s", what, th_error_text(&s->err));
	return rc == ACCTLINK_OK;
}

static int live_in_need(void *ctx)
{
	struct squeeze *squeeze = ctx;
	struct stay *s = stay_new(squeeze->config_path);
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	bool good;

	hooks.clock = read_ahead;
	hooks.log = say_nothing;
	s->init.hooks = &hooks;
	squeeze->room = squeeze->used() + squeeze->more;
	good = in_need(squeeze, s, call_init, "init") && in_need(squeeze, s, call_begin, "begin");
	if (good) {
		char *params = th_consent(squeeze->provider, s->url);

		s->callback.params = th_str(params);
		s->callback.cookie = (acctlink_str){ s->cookie, strcspn(s->cookie, ";") };
		good = in_need(squeeze, s, call_callback, "on_callback");
		free(params);
	}
	if (good) {
		pass_time(squeeze, HOUR_MS);
		good = in_need(squeeze, s, call_bearer, "get_bearer") && call_inspect(s) == ACCTLINK_OK;
		th_check(!good || s->seen.generation >= 2, "generation %llu", (unsigned long long)s->seen.generation);
	}
	th_check(s->handle == NULL || call_shutdown(s) == ACCTLINK_OK, "shutdown: %s", th_error_text(&s->err));
	acctlink_dl_close(&s->api);
	free(s);
	return 0;
}

static int live_after(void *ctx)
{
	const struct squeeze *squeeze = ctx;
	struct th_host *host = th_host_open(squeeze->config_path, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	th_advance(host, squeeze->provider, 3 * HOUR_MS);
	th_must_link(host, squeeze->provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_advance(host, squeeze->provider, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation >= 2, "generation %llu", (unsigned long long)info.generation);
	th_host_free(&host);
	return 0;
}

static void squeeze_by(struct squeeze *squeeze, rlim_t more)
{
	squeeze->provider = th_provider_start(TH_PRACTICE, NULL); /* its clock moves */
	squeeze->config_path = config_for(squeeze->provider);
	squeeze->more = more;
	th_join(th_fork(live_in_need, squeeze), 100000);
	th_join(th_fork(live_after, squeeze), 60000);
	free(squeeze->config_path);
	th_provider_stop(&squeeze->provider);
}

/* Leaves no gap below the highest descriptor. */
static rlim_t used_descriptors(void)
{
	int highest = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			highest = fd;
	}
	do {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		th_check(fd >= 0, "open: %s", strerror(errno));
	} while (fd < highest);
	close(fd);
	return (rlim_t)highest + 1;
}

static void few_descriptors_are_clear_errors_and_pass(void **unused)
{
	struct squeeze squeeze = { .what = RLIMIT_NOFILE, .used = used_descriptors, .usual = 1024 };

	(void)unused;
	for (rlim_t more = 0; more <= 24; more += th_full() ? 1 : 4)
		squeeze_by(&squeeze, more);
}

static rlim_t address_space(void)
{
	char *text = th_read_file("/proc/self/statm");
	rlim_t pages = strtoul(text, NULL, 10);

	free(text);
	return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void little_memory_is_a_clear_error_and_spoils_no_store(void **unused)
{
	/* OpenSSL tries some of its parts once only. */
	struct squeeze squeeze = { .what = RLIMIT_AS, .used = address_space, .usual = RLIM_INFINITY, .spoils = true };

	(void)unused;
	if (SANITIZED) {
		print_message("# a sanitizer maps terabytes\n");
		skip();
	}
	for (rlim_t kib = 64; kib <= 128 * 1024; kib = th_full() ? kib * 5 / 4 : kib * 4)
		squeeze_by(&squeeze, kib * 1024);
}

/* ---- a changed root ------------------------------------------------------------------------- */

/* Outside a store is made in DIR/s; then its folder moves into the jail, where it has the
 * same name, as a mount would do. */
struct jail {
	char *dir;
	char *root;          /* DIR/jail */
	char *config_path;   /* outside: only init reads it */
	const char *without; /* what is left out of it */
	acctlink_status begins;
	acctlink_status finishes; /* on_callback and the refresh */
	const char *says;         /* a word of the error */
};

static void make_folders(const char *root, const char *path)
{
	char *all = th_printf("%s%s", root, path);

	for (char *at = all + strlen(root) + 1; *at != '\0'; at++) {
		if (*at == '/') {
			*at = '\0';
			th_check(mkdir(all, 0755) == 0 || errno == EEXIST, "mkdir %s: %s", all, strerror(errno));
			*at = '/';
		}
	}
	free(all);
}

static void take_along(const struct jail *jail, const char *path)
{
	char *to = th_printf("%s%s", jail->root, path);
	char *text;

	if (access(path, R_OK) == 0 && (jail->without == NULL || strcmp(jail->without, path) != 0)) {
		text = th_read_file(path);
		make_folders(jail->root, path);
		th_write_file(to, 0644, text);
		th_check(chmod(to, 0644) == 0, "chmod");
		free(text);
	}
	free(to);
}

static void furnish(struct jail *jail)
{
	static const char *const furniture[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
		"/proc/sys/kernel/random/boot_id" };
	char *store = th_printf("%s/s", jail->dir);
	char *text;
	char *at;
	char *changed;

	jail->root = th_printf("%s/jail", jail->dir);
	th_check(mkdir(jail->root, 0755) == 0 && mkdir(store, 0700) == 0, "mkdir: %s", strerror(errno));
	jail->config_path = th_config_write(jail->dir, provider, NULL);
	text = th_read_file(jail->config_path);
	at = strstr(text, "/store.db");
	th_check(at != NULL, "no store in the config");
	changed = th_printf("%.*s/s%s", (int)(at - text), text, at);
	th_write_file(jail->config_path, 0600, changed);
	for (size_t i = 0; i < COUNT(furniture); i++)
		take_along(jail, furniture[i]);
	take_along(jail, provider->ca_file);
	make_folders(jail->root, store);
	free(changed);
	free(text);
	free(store);
}

static void move_in(const struct jail *jail)
{
	char *store = th_printf("%s/s", jail->dir);
	char *to = th_printf("%s%s", jail->root, store);

	th_check((jail->without != NULL && strcmp(jail->without, "store") == 0) || rename(store, to) == 0, "rename: %s",
		strerror(errno));
	th_check(chroot(jail->root) == 0 && chdir("/") == 0, "chroot: %s", strerror(errno));
	free(to);
	free(store);
}

/* The browser stays outside: it runs as a child that keeps the root. */
struct errand_outside {
	int url[2];
	int params[2];
};

static int walk_outside(void *ctx)
{
	const struct errand_outside *errand = ctx;
	static char url[8192];
	size_t len = 0;
	ssize_t got;
	char *params;

	close(errand->url[1]);
	while ((got = read(errand->url[0], url + len, sizeof(url) - 1 - len)) > 0)
		len += (size_t)got;
	if (len == 0)
		return 0;
	params = th_consent(provider, url);
	th_check(write(errand->params[1], params, strlen(params)) == (ssize_t)strlen(params), "write");
	free(params);
	return 0;
}

static void expect(
	const char *what, acctlink_status rc, acctlink_status wanted, const char *says, const acctlink_error *err)
{
	char *text = th_error_text(err);

	th_check(rc == wanted, "%s: %d wanted: %s", what, (int)wanted, rc == ACCTLINK_OK ? "OK" : text);
	th_check(rc == ACCTLINK_OK || says == NULL || strstr(text, says) != NULL, "%s: '%s' wanted: %s", what, says,
		text);
	free(text);
}

static int live_in_jail(void *ctx)
{
	const struct jail *jail = ctx;
	struct errand_outside errand;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	struct th_host *host = th_host_open(jail->config_path, NULL);
	static char params[8192];
	acctlink_error err = { 0 };
	acctlink_status rc;
	char *bearer = NULL;
	size_t len = 0;
	ssize_t got;
	pid_t browser;

	th_check(flow != NULL && pipe2(errand.url, O_CLOEXEC) == 0 && pipe2(errand.params, O_CLOEXEC) == 0, "pipe2");
	browser = th_fork(walk_outside, &errand);
	close(errand.url[0]);
	close(errand.params[1]);
	move_in(jail);
	rc = th_begin(host, "ana", NULL, flow, &err);
	expect("begin", rc, jail->begins, jail->says, &err);
	if (rc == ACCTLINK_OK)
		th_check(write(errand.url[1], flow->url, strlen(flow->url)) == (ssize_t)strlen(flow->url), "write");
	close(errand.url[1]);
	while ((got = read(errand.params[0], params + len, sizeof(params) - 1 - len)) > 0)
		len += (size_t)got;
	th_join(browser, 30000);
	if (rc == ACCTLINK_OK) {
		expect("on_callback", th_callback(host, "ana", params, flow->cookie, NULL, &err), jail->finishes,
			jail->says, &err);
		th_advance(host, NULL, HOUR_MS);
		if (jail->finishes == ACCTLINK_OK)
			expect("get_bearer", th_bearer(host, "ana", NULL, &bearer, NULL, &err), ACCTLINK_OK, NULL,
				&err);
		free(bearer);
		/* The config stayed outside: the old one stays in force. */
		expect("reload", host->api.reload(host->handle, &err), ACCTLINK_BAD_CONFIG, jail->config_path, &err);
		th_check(th_begin(host, "ben", NULL, flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	}
	th_host_free(&host);
	free(flow);
	return 0;
}

static void in_jail(const char *without, acctlink_status begins, acctlink_status finishes, const char *says)
{
	struct jail jail = {
		.dir = th_temp_dir(), .without = without, .begins = begins, .finishes = finishes, .says = says
	};

	if (geteuid() != 0) {
		free(jail.dir);
		print_message("# only root may change the root\n");
		skip();
	}
	furnish(&jail);
	th_join(th_fork(live_in_jail, &jail), 60000);
	free(jail.root);
	free(jail.config_path);
	free(jail.dir);
}

static void a_root_that_is_changed_after_init_needs_store_certificates_and_names(void **unused)
{
	(void)unused;
	in_jail(NULL, ACCTLINK_OK, ACCTLINK_OK, NULL);
}

static void a_new_root_without_the_store_is_a_clear_error(void **unused)
{
	(void)unused;
	in_jail("store", ACCTLINK_BAD_STORE, ACCTLINK_OK, "folder");
}

static void a_new_root_without_the_certificates_is_a_clear_error(void **unused)
{
	(void)unused;
	in_jail(provider->ca_file, ACCTLINK_PROVIDER_DOWN, ACCTLINK_OK, provider->ca_file);
}

static void a_new_root_without_the_boot_id_is_a_clear_error(void **unused)
{
	(void)unused;
	in_jail("/proc/sys/kernel/random/boot_id", ACCTLINK_STORE_DOWN, ACCTLINK_OK, "boot_id");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_call_good_or_bad_has_room_on_a_stack_of_64_kib),
		cmocka_unit_test(its_own_threads_have_room_when_the_host_s_default_is_64_kib),
		cmocka_unit_test(no_executable_memory_is_ever_wanted),
		cmocka_unit_test(no_new_privileges_no_core_and_no_locked_memory_are_no_hindrance),
		cmocka_unit_test(few_descriptors_are_clear_errors_and_pass),
		cmocka_unit_test(little_memory_is_a_clear_error_and_spoils_no_store),
		cmocka_unit_test(a_root_that_is_changed_after_init_needs_store_certificates_and_names),
		cmocka_unit_test(a_new_root_without_the_store_is_a_clear_error),
		cmocka_unit_test(a_new_root_without_the_certificates_is_a_clear_error),
		cmocka_unit_test(a_new_root_without_the_boot_id_is_a_clear_error) };

	return cmocka_run_group_tests_name("citizen/confined", tests, start_provider, stop_provider);
}
