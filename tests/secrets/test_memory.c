/* SPDX-License-Identifier: MIT
 * What stays in memory. A host of its own process, which keeps nothing itself,
 * is told what to do over a pipe; this program plays browser and provider,
 * collects the secrets, and reads the host's writable memory: while it runs,
 * what is held is held apart and out of core dumps, and nothing else is left;
 * after acctlink_shutdown nothing at all is. Two copies are beyond our reach and
 * known: libconfig's of a secret that stands in the config itself, and libcurl's
 * of an Authorization header. Since 8.7 libcurl joins head and body of a request in
 * a buffer that it frees as it is: there, what stands in a request is passed over,
 * and the rest is held to the same. Used by one thread.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <elf.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "marks.h"

#define HOUR ((int64_t)3600 * 1000)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- the host: the other process ---------------------------------------------------------- */

enum { LINE_MAX_BYTES = 65536 };

static struct {
	acctlink_api api;
	acctlink *handle;
	char line[LINE_MAX_BYTES];
	char answer[LINE_MAX_BYTES];
	char a[LINE_MAX_BYTES / 2]; /* outputs of a call */
	char b[4096];
	char c[4096];
	int64_t offset_ms;
	char words[32]; /* that a core dump of this process has */
} host;

static void ignore_log(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	(void)level;
	(void)message;
}

static void tell_time(void *ctx, acctlink_time *now)
{
	struct timespec wall;
	struct timespec boot;

	(void)ctx;
	(void)clock_gettime(CLOCK_REALTIME, &wall);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	now->wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000 + host.offset_ms;
	now->boot_ms = (int64_t)boot.tv_sec * 1000 + boot.tv_nsec / 1000000 + host.offset_ms;
}

static acctlink_status host_init(const char *config)
{
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;

	hooks.log = ignore_log;
	hooks.clock = tell_time;
	args.config_path = th_str(config);
	args.hooks = &hooks;
	return host.api.init(&args, &host.handle, NULL);
}

static acctlink_status host_begin(const char *user)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result out = ACCTLINK_BEGIN_RESULT_INIT;

	args.user = th_str(user);
	args.provider = th_str("test");
	out.url = (acctlink_out){ host.a, sizeof(host.a), 0 };
	out.set_cookie = (acctlink_out){ host.b, sizeof(host.b), 0 };
	return host.api.begin(host.handle, &args, &out, NULL);
}

static acctlink_status host_callback(const char *user, const char *params, const char *cookie)
{
	acctlink_callback_args args = ACCTLINK_CALLBACK_ARGS_INIT;

	args.user = th_str(user);
	args.params = th_str(params);
	args.cookie = th_str(cookie);
	return host.api.on_callback(host.handle, &args, NULL, NULL);
}

static acctlink_status host_bearer(const char *user)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;

	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	return host.api.get_bearer(host.handle, &args, host.c, sizeof(host.c), NULL, NULL);
}

static acctlink_status host_unlink(const char *user)
{
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;

	args.link.user = th_str(user);
	args.link.provider = th_str("test");
	return host.api.unlink(host.handle, &args, NULL, NULL);
}

static acctlink_status obey(char *word[4])
{
	switch (word[0][0]) {
	case 'I': return host_init(word[1]);
	case 'B': return host_begin(word[1]);
	case 'C': return host_callback(word[1], word[2], word[3]);
	case 'G': return host_bearer(word[1]);
	case 'U': return host_unlink(word[1]);
	case 'A': host.offset_ms += strtoll(word[1], NULL, 10); return ACCTLINK_OK;
	case 'S': return host.api.shutdown(host.handle, 0, NULL);
	case 'K': __builtin_trap(); /* no call: the loader would save vector registers on the stack */
	default: _exit(0);
	}
}

/* Plain read and write: stdio would keep copies. */
static bool host_read(void)
{
	size_t len = 0;

	while (len + 1 < sizeof(host.line)) {
		if (read(STDIN_FILENO, host.line + len, 1) != 1)
			return false;
		if (host.line[len++] == '\n')
			break;
	}
	host.line[len - 1] = '\0';
	return true;
}

static int host_main(void)
{
	char *word[4];
	char *at;
	size_t i;
	int len;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(host.words, sizeof(host.words), "the %s own words", "host's");
	th_plugin_load(&host.api);
	while (host_read()) {
		at = host.line;
		for (i = 0; i < 4; i++) {
			word[i] = at;
			at += strcspn(at, "\t");
			if (*at != '\0')
				*at++ = '\0';
		}
		len = snprintf(host.answer, sizeof(host.answer), "%d\t", (int)obey(word));
		/* Not through snprintf, which may keep a copy on the stack. */
		memcpy(host.answer + len, host.a, strlen(host.a));
		len += (int)strlen(host.a);
		host.answer[len++] = '\t';
		memcpy(host.answer + len, host.b, strlen(host.b));
		len += (int)strlen(host.b);
		host.answer[len++] = '\n';
		if (write(STDOUT_FILENO, host.answer, (size_t)len) != len)
			break;
		explicit_bzero(host.line, sizeof(host.line));
		explicit_bzero(host.answer, sizeof(host.answer));
		explicit_bzero(host.a, sizeof(host.a));
		explicit_bzero(host.b, sizeof(host.b));
		explicit_bzero(host.c, sizeof(host.c));
	}
	return 0;
}

/* ---- the world: this process --------------------------------------------------------------- */

struct world {
	struct th_provider *provider;
	struct marks *marks; /* of one-time secrets: nobody holds them */
	struct marks *held;  /* client secret, store key, bearers */
	char *dir;
	char *config;
	char *secret;
	pid_t pid;
	int to;
	int from;
	size_t tokens;
};

static char *random_text(size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char *text = calloc(1, len + 1);
	size_t i;

	th_check(text != NULL && getrandom(text, len, 0) == (ssize_t)len, "getrandom");
	for (i = 0; i < len; i++)
		text[i] = digits[text[i] & 63];
	return text;
}

static void start_host(struct world *world)
{
	int down[2];
	int up[2];

	th_check(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0, "pipe2");
	world->pid = fork();
	th_check(world->pid >= 0, "fork");
	if (world->pid == 0) {
		const struct rlimit core = { RLIM_INFINITY, RLIM_INFINITY };

		if (dup2(down[0], STDIN_FILENO) < 0 || dup2(up[1], STDOUT_FILENO) < 0 || chdir(world->dir) != 0)
			_exit(126);
		(void)setrlimit(RLIMIT_CORE, &core);
		(void)execl("/proc/self/exe", "test_memory", "--host", (char *)NULL);
		_exit(127);
	}
	(void)close(down[0]);
	(void)close(up[1]);
	world->to = down[1];
	world->from = up[0];
}

/* Its status; the two texts, if wanted, are the caller's. */
static acctlink_status order(struct world *world, char **a, char **b, const char *fmt, ...) TH_PRINTF(4, 5);
static acctlink_status order(struct world *world, char **a, char **b, const char *fmt, ...)
{
	char answer[LINE_MAX_BYTES];
	size_t len = 0;
	va_list args;
	char *text;
	char *tab;

	va_start(args, fmt);
	text = th_vprintf(fmt, args);
	va_end(args);
	th_check(write(world->to, text, strlen(text)) == (ssize_t)strlen(text) && write(world->to, "\n", 1) == 1,
		"the host is gone");
	do {
		th_check(read(world->from, answer + len, 1) == 1, "the host is gone at: %.1s", text);
	} while (answer[len] != '\n' && ++len + 1 < sizeof(answer));
	answer[len] = '\0';
	tab = strchr(answer, '\t');
	th_check(tab != NULL && strchr(tab + 1, '\t') != NULL, "odd answer");
	if (a != NULL)
		*a = th_printf("%.*s", (int)strcspn(tab + 1, "\t"), tab + 1);
	if (b != NULL)
		*b = th_printf("%s", strchr(tab + 1, '\t') + 1);
	free(text);
	return (acctlink_status)strtol(answer, NULL, 10);
}

enum { POSTED = 0, BASIC = 1, BY_VALUE = 2 };

/* By default the secret comes from a file and is posted. */
static struct world *world_new(int how)
{
	struct world *world = calloc(1, sizeof(*world));
	struct th_config config = { .lines = "log_level = 'debug';" };
	char *file;
	char *lines;

	th_check(world != NULL, "no memory");
	world->provider = th_provider_start(TH_PRACTICE, NULL);
	world->marks = marks_new();
	world->held = marks_new();
	world->secret = random_text(32);
	th_control(world->provider, "{'set':{'clients':{'test-client':'%s'}}}", world->secret);
	marks_add(world->held, "client secret", world->secret);
	world->dir = th_temp_dir();
	file = th_printf("%s/bank.secret", world->dir);
	th_write_file(file, 0600, world->secret);
	lines = th_printf("token_endpoint_auth_method = 'client_secret_%s';\n%s%s%s", how == BASIC ? "basic" : "post",
		how == BY_VALUE ? "#" : "client_secret_file = '", file, how == BY_VALUE ? "" : "';");
	config.client_secret = how == BY_VALUE ? world->secret : "";
	config.provider_lines = lines;
	world->config = th_config_write(world->dir, world->provider, &config);
	free(lines);
	free(file);
	marks_add_key(world->held, world->dir);
	start_host(world);
	th_check(order(world, NULL, NULL, "I\t%s", world->config) == ACCTLINK_OK, "init");
	return world;
}

static void world_end(struct world **world)
{
	struct world *old = *world;

	(void)close(old->to);
	(void)close(old->from);
	if (old->pid > 0)
		(void)waitpid(old->pid, NULL, 0);
	th_provider_stop(&old->provider);
	marks_free(&old->marks);
	marks_free(&old->held);
	free(old->secret);
	free(old->config);
	free(old->dir);
	free(old);
	*world = NULL;
}

static void advance(struct world *world, int64_t ms)
{
	th_provider_advance(world->provider, ms);
	(void)order(world, NULL, NULL, "A\t%lld", (long long)ms);
}

/* Returns what on_callback did. */
static acctlink_status link_user(struct world *world, const char *user)
{
	char *url;
	char *cookie;
	char *params;
	char *nonce;
	char *state;
	acctlink_status rc;

	th_check(order(world, &url, &cookie, "B\t%s", user) == ACCTLINK_OK, "begin");
	cookie[strcspn(cookie, ";")] = '\0';
	nonce = th_param(url, "nonce");
	state = th_param(url, "state");
	marks_add(world->marks, "nonce", nonce);
	marks_add(world->marks, "state", state);
	marks_add(world->marks, "browser cookie", strchr(cookie, '=') + 1);
	params = th_consent(world->provider, url);
	rc = order(world, NULL, NULL, "C\t%s\t%s\t%s", user, params, cookie);
	free(params);
	free(state);
	free(nonce);
	free(cookie);
	free(url);
	return rc;
}

/* What the provider gave and saw: access tokens may be held, the rest not. Of an
 * id_token its signature: parts of its claims stand elsewhere as well. */
static void mark_ledger(struct world *world)
{
	json_object *ledger = th_ledger(world->provider);
	json_object *tokens = json_object_object_get(ledger, "tokens");
	json_object *requests = json_object_object_get(ledger, "requests");
	int back = 0;
	size_t i;

	for (i = world->tokens; i < json_object_array_length(tokens); i++) {
		json_object *token = json_object_array_get_idx(tokens, i);
		const char *kind = json_object_get_string(json_object_object_get(token, "kind"));
		char *raw = th_raw_token(
			world->provider, json_object_get_string(json_object_object_get(token, "hash")));
		char *name = th_printf("%s token", kind);

		marks_add(strcmp(kind, "access") == 0 ? world->held : world->marks, name,
			strcmp(kind, "id") == 0 ? strrchr(raw, '.') + 1 : raw);
		free(name);
		free(raw);
	}
	world->tokens = i;
	for (i = 0; i < json_object_array_length(requests); i++) {
		const char *endpoint = json_object_get_string(
			json_object_object_get(json_object_array_get_idx(requests, i), "endpoint"));
		char *body = endpoint != NULL && strcmp(endpoint, "token") == 0
			? th_request_body(world->provider, "token", back++)
			: NULL;
		char *verifier = body != NULL ? th_param(body, "code_verifier") : NULL;

		if (verifier != NULL)
			marks_add(world->marks, "code verifier", verifier);
		free(verifier);
		free(body);
	}
	json_object_put(ledger);
}

/* ---- reading memory ----------------------------------------------------------------------------- */

struct region {
	unsigned long start;
	unsigned long end;
	bool writable;
	bool dumped; /* into a core file */
	char name[128];
};

/* The regions of a process, from smaps; ended by one of length 0. */
static struct region *regions_of(pid_t pid)
{
	char *path = th_printf("/proc/%d/smaps", (int)pid);
	FILE *file = fopen(path, "re");
	struct region *all = NULL;
	size_t count = 0;
	char line[512];

	th_check(file != NULL, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL) {
		struct region r = { 0, 0, false, true, "" };
		char mode[8];

		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %127[^\n]", &r.start, &r.end, mode, r.name) >= 3) {
			r.writable = mode[1] == 'w';
			all = realloc(all, (count + 2) * sizeof(*all));
			th_check(all != NULL, "no memory");
			all[count++] = r;
		} else if (count > 0 && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " dd") != NULL) {
			all[count - 1].dumped = false;
		}
	}
	th_check(count > 0, "%s is empty", path);
	memset(&all[count], 0, sizeof(all[count]));
	(void)fclose(file);
	free(path);
	return all;
}

/* The copies of marked secrets in a piece of memory, one after the other. */
struct walk {
	const struct marks *marks;
	const unsigned char *data;
	size_t len;
	size_t at;
	size_t last;
	const char *name;
};

static bool curl_joins(void)
{
	return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080700;
}

/* What libcurl's own request looks like just before a secret of it. */
static bool is_sent_by_curl(const unsigned char *data, size_t at)
{
	static const char *const before[] = {
		"token=", "code=", "client_secret=", "code_verifier=", "Authorization: Basic "
	};
	const size_t from = at < 64 ? 0 : at - 64;
	bool found = false;
	size_t i;

	if (!curl_joins())
		return false;
	for (i = 0; i < sizeof(before) / sizeof(before[0]); i++)
		found = found || memmem(data + from, at - from, before[i], strlen(before[i])) != NULL;
	return found;
}

/* All the parts of one copy are one find. */
static bool next_copy(struct walk *walk, struct mark_found *found)
{
	while (walk->at < walk->len && marks_find(walk->marks, walk->data, walk->len, walk->at, found)) {
		const bool another = walk->name != found->name || found->at > walk->last + MARK_PART;

		walk->name = found->name;
		walk->last = found->at;
		walk->at = found->at + 1;
		if (another && !is_sent_by_curl(walk->data, found->at))
			return true;
	}
	return false;
}

struct finds {
	size_t count;  /* copies that were found */
	size_t dumped; /* of these, in regions that a core dump has */
	struct th_lines *lines;
};

static void note_find(
	struct finds *finds, const struct region *r, const struct mark_found *found, const unsigned char *data)
{
	const size_t from = found->at < 48 ? 0 : found->at - 48;
	char before[49];
	char *line;
	size_t i;

	for (i = 0; from + i < found->at; i++)
		before[i] = data[from + i] >= 0x20 && data[from + i] < 0x7f ? (char)data[from + i] : '.';
	before[i] = '\0';
	line = th_printf("%s, %s, at %lx in %s%s, after \"%s\"", found->name, found->form, r->start + found->at,
		r->name[0] != '\0' ? r->name : "anonymous memory", r->dumped ? "" : " (not dumped)", before);
	th_lines_add(finds->lines, line);
	free(line);
	finds->count++;
	finds->dumped += r->dumped ? 1 : 0;
}

static void search_region(const struct marks *marks, int mem, const struct region *r, struct finds *finds)
{
	const size_t size = r->end - r->start;
	unsigned char *data = malloc(size);
	struct walk walk = { .marks = marks, .data = data };
	struct mark_found found;
	ssize_t got;

	th_check(data != NULL, "no memory for %zu bytes", size);
	got = pread(mem, data, size, (off_t)r->start);
	walk.len = got > 0 ? (size_t)got : 0;
	while (next_copy(&walk, &found))
		note_find(finds, r, &found, data);
	free(data);
}

static struct finds search_memory(const struct world *world, const struct marks *marks)
{
	struct region *all = regions_of(world->pid);
	char *path = th_printf("/proc/%d/mem", (int)world->pid);
	const int mem = open(path, O_RDONLY | O_CLOEXEC);
	struct finds finds = { 0, 0, th_lines_new() };
	size_t i;

	th_check(mem >= 0, "%s: %s", path, strerror(errno));
	for (i = 0; all[i].end != 0; i++) {
		if (all[i].writable)
			search_region(marks, mem, &all[i], &finds);
	}
	(void)close(mem);
	free(path);
	free(all);
	return finds;
}

static bool can_look(void)
{
	char *path = th_printf("/proc/%d/smaps", (int)getpid());
	const bool can = access(path, R_OK) == 0 && access("/proc/self/mem", R_OK) == 0;

	free(path);
	if (SANITIZED)
		print_message("# skipped: a sanitizer keeps what is freed\n");
	else if (!can)
		print_message("# skipped: /proc tells nothing of memory here\n");
	return can && !SANITIZED;
}

/* Nothing is left but copies of a kind that is known and in such a line. */
static void expect_only(const struct world *world, const struct marks *marks, const char *when, const char *known)
{
	struct finds finds = search_memory(world, marks);
	const size_t excused = known != NULL ? th_lines_count(finds.lines, known) : 0;

	th_check(finds.count == excused, "%s %zu copies are left:\n%s", when, finds.count - excused,
		th_lines_text(finds.lines));
	th_lines_free(&finds.lines);
}

static void expect_nothing(const struct world *world, const char *when)
{
	expect_only(world, world->marks, when, NULL);
	expect_only(world, world->held, when, NULL);
}

/* Once each, and where no core dump looks. */
static void expect_held_apart(const struct world *world, const char *when, size_t copies)
{
	struct finds finds = search_memory(world, world->held);

	th_check(finds.dumped == 0, "%s %zu copies would be in a core dump:\n%s", when, finds.dumped,
		th_lines_text(finds.lines));
	th_check(finds.count == copies, "%s there are %zu copies, not %zu:\n%s", when, finds.count, copies,
		th_lines_text(finds.lines));
	th_lines_free(&finds.lines);
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void use(struct world *world)
{
	th_check(link_user(world, "ana") == ACCTLINK_OK, "link");
	th_check(order(world, NULL, NULL, "G\tana") == ACCTLINK_OK, "bearer");
	advance(world, 2 * HOUR);
	th_check(order(world, NULL, NULL, "G\tana") == ACCTLINK_OK, "refreshed bearer");
	th_check(link_user(world, "ben") == ACCTLINK_OK, "link");
	th_check(order(world, NULL, NULL, "U\tben") == ACCTLINK_OK, "unlink");
}

static void shut_down(struct world *world)
{
	mark_ledger(world);
	th_check(order(world, NULL, NULL, "S") == ACCTLINK_OK, "shutdown");
}

static void nothing_is_left_after_the_shutdown(void **state)
{
	struct world *world;

	(void)state;
	if (!can_look())
		skip();
	world = world_new(POSTED);
	use(world);
	shut_down(world);
	expect_nothing(world, "after the shutdown");
	world_end(&world);
}

static void of_an_authorization_header_only_libcurls_copy_is_left(void **state)
{
	struct world *world;

	(void)state;
	if (!can_look())
		skip();
	world = world_new(BASIC);
	use(world);
	shut_down(world);
	expect_only(world, world->marks, "after the shutdown", NULL);
	expect_only(world, world->held, "after the shutdown", "client secret, base64");
	world_end(&world);
}

static void of_a_secret_in_the_config_only_libconfigs_copy_is_left(void **state)
{
	struct world *world;

	(void)state;
	if (!can_look())
		skip();
	world = world_new(BY_VALUE);
	use(world);
	shut_down(world);
	expect_only(world, world->marks, "after the shutdown", NULL);
	expect_only(world, world->held, "after the shutdown", "client secret, plain, at");
	world_end(&world);
}

static void while_it_runs_what_is_held_is_held_once_and_not_dumped(void **state)
{
	struct world *world;

	(void)state;
	if (!can_look())
		skip();
	world = world_new(POSTED);
	expect_held_apart(world, "after init", 2); /* the key and the client secret */
	use(world);
	mark_ledger(world);
	expect_held_apart(world, "after a refresh", 3); /* and one bearer, the newest */
	expect_only(world, world->marks, "after a refresh", NULL);
	world_end(&world);
}

static void nothing_is_left_of_failures(void **state)
{
	static const char *const acts[] = {
		"{'status':400,'json':{'error':'invalid_request','error_description':'odd token {{sent}}'}}",
		"{'status':400,'body':'{\\'error\\':\\'{{sent}}\\',\\'error_description\\':\\'{{sent}}\\'}'}",
		"{'status':500,'body':'<html>{{sent}}</html>'}",
		"{'body':'no JSON: {{access_token}} {{refresh_token}} {{id_token}} {{sent}}'}",
		"{'body':'{\\'access_token\\':\\'{{access_token}}\\',\\'refresh_token\\':\\'{{refresh_token}}'}",
		"{'body':'{\\'access_token\\':[\\'{{access_token}}\\'],\\'refresh_token\\':{\\'a\\':\\'{{refresh_token}}\\'}}'}",
		"{'form':true}",
		"{'cut':'half_body'}",
		"{'cut':'after_body','reset':true}",
		"{'id_token':{'sign':'broken'}}",
	};
	struct world *world;
	size_t i;

	(void)state;
	if (!can_look())
		skip();
	/* Of so many requests some are overwritten in part, and a rest says not what it was. */
	if (curl_joins()) {
		print_message("# skipped: libcurl 8.7 and later leave requests in freed memory\n");
		skip();
	}
	world = world_new(POSTED);
	for (i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		th_script(world->provider, "token", "authorization_code", 1, "%s", acts[i]);
		(void)link_user(world, "ana");
		th_unscript(world->provider);
		th_check(link_user(world, "ben") == ACCTLINK_OK, "link");
		th_script(world->provider, "token", "refresh_token", 1, "%s", acts[i]);
		advance(world, 2 * HOUR);
		(void)order(world, NULL, NULL, "G\tben");
		th_unscript(world->provider);
	}
	shut_down(world);
	expect_nothing(world, "after failures and the shutdown");
	world_end(&world);
}

/* ---- a core dump ---------------------------------------------------------------------------------------- */

/* The file that this kernel writes into the working directory, or why none. */
static const char *core_name(void)
{
	char *pattern = access("/proc/sys/kernel/core_pattern", R_OK) == 0
		? th_read_file("/proc/sys/kernel/core_pattern")
		: th_printf("%s", "|unknown");
	struct rlimit limit;
	const char *name = strcmp(pattern, "core\n") == 0 ? "core" : NULL;

	if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_max != RLIM_INFINITY)
		name = NULL;
	if (name == NULL)
		print_message("# skipped: core dumps go elsewhere or are limited: %s", pattern);
	free(pattern);
	return name;
}

static char *find_core(const struct world *world, const char *name)
{
	char *path = th_printf("%s/%s", world->dir, name);

	if (access(path, R_OK) == 0)
		return path;
	free(path);
	return th_printf("%s/%s.%d", world->dir, name, (int)world->pid);
}

static void search_segment(const struct world *world, int fd, const ElfW(Phdr) * segment, bool *alive)
{
	unsigned char *data = malloc((size_t)segment->p_filesz + 1);
	const size_t len = (size_t)segment->p_filesz;
	struct mark_found found;

	th_check(data != NULL && pread(fd, data, len, (off_t)segment->p_offset) == (ssize_t)len,
		"the core dump is short");
	for (size_t i = 0; i < 2; i++) {
		struct walk walk = { .marks = i == 0 ? world->held : world->marks, .data = data, .len = len };

		th_check(!next_copy(&walk, &found), "the core dump holds the %s, %s", found.name, found.form);
	}
	*alive = *alive || memmem(data, len, "the host's own words", 20) != NULL;
	free(data);
}

/* Memory only: the notes before it hold the registers of each thread, of which
 * those for vectors keep up to 64 bytes of what was copied last. */
static void search_core(const struct world *world, const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ElfW(Phdr) segment;
	ElfW(Ehdr) head;
	bool alive = false;
	size_t i;

	th_check(fd >= 0 && pread(fd, &head, sizeof(head), 0) == sizeof(head) && head.e_type == ET_CORE,
		"%s: no core dump", path);
	for (i = 0; i < head.e_phnum; i++) {
		th_check(pread(fd, &segment, sizeof(segment), (off_t)(head.e_phoff + i * sizeof(segment)))
				== sizeof(segment),
			"the core dump is short");
		if (segment.p_type == PT_LOAD && segment.p_filesz > 0)
			search_segment(world, fd, &segment, &alive);
	}
	th_check(alive, "the core dump is not that of the host, or the search is blind");
	(void)close(fd);
}

static void a_core_dump_has_nothing_in_it(void **state)
{
	const char *name = core_name();
	struct world *world;
	int status = 0;
	char *path;

	(void)state;
	if (name == NULL || !can_look())
		skip();
	world = world_new(POSTED);
	use(world);
	mark_ledger(world);
	th_check(write(world->to, "K\n", 2) == 2, "the host is gone");
	th_check(waitpid(world->pid, &status, 0) == world->pid && WIFSIGNALED(status), "the host lives");
	path = find_core(world, name);
	world->pid = 0;
	if (WCOREDUMP(status))
		search_core(world, path);
	else
		print_message("# skipped: the kernel wrote no core dump\n");
	free(path);
	world_end(&world);
	if (!WCOREDUMP(status))
		skip();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left_after_the_shutdown),
		cmocka_unit_test(of_an_authorization_header_only_libcurls_copy_is_left),
		cmocka_unit_test(of_a_secret_in_the_config_only_libconfigs_copy_is_left),
		cmocka_unit_test(while_it_runs_what_is_held_is_held_once_and_not_dumped),
		cmocka_unit_test(nothing_is_left_of_failures),
		cmocka_unit_test(a_core_dump_has_nothing_in_it),
	};

	if (argc == 2 && strcmp(argv[1], "--host") == 0)
		return host_main();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
