/* SPDX-License-Identifier: MIT
 * HTTP/2: nghttpx stands before the practice provider and speaks HTTP/2 over TLS
 * to the plugin, plain HTTP/1.1 to the provider. Its access log tells what the
 * plugin spoke and over how many connections; the provider's ledger, what came
 * through. One connection carries many requests here, so its death is the death
 * of all of them: each must still arrive once.
 *
 * Without nghttpx (Debian package nghttp2-proxy) the tests are skipped.
 */
#include "../concurrency/crowd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <spawn.h>

#include <cmocka.h>

#define MINUTE_MS ((int64_t)60 * 1000)
#define HOUR_MS (60 * MINUTE_MS)
/* A refresh ahead of time, whose end the call waits for. */
#define AHEAD_MS (30u * 60 * 1000)

enum { MANY = 64 };

#define same(got, want) \
	do { \
		const long long got_ = (long long)(got); \
		const long long want_ = (long long)(want); \
		th_check(got_ == want_, "%s is %lld, not %lld", #got, got_, want_); \
	} while (0)

/* ---- nghttpx --------------------------------------------------------------------------- */

static struct proxy {
	char *program; /* NULL: there is none */
	struct th_tls tls;
	char *dir;
	char *log; /* one line per request: client's port, request line, status */
	char *errors;
	int port;     /* of the whole program … */
	int listener; /* … and its socket; -1: refused */
	pid_t pid;    /* 0: not running */
	pid_t worker; /* 0: it does its work itself */
} proxy = { .listener = -1 };

static struct th_provider *provider; /* behind the proxy; its issuer is the proxy's URL */

static char *find_program(const char *name)
{
	const char *at = getenv("PATH");

	for (at = at != NULL ? at : "/usr/bin"; *at != '\0'; at += strcspn(at, ":") + (at[strcspn(at, ":")] == ':')) {
		char *path = th_printf("%.*s/%s", (int)strcspn(at, ":"), at, name);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	/* Debian's package puts it where not every user looks. */
	return access("/usr/sbin/nghttpx", X_OK) == 0 ? th_printf("/usr/sbin/nghttpx") : NULL;
}

/* Not blocking, since nghttpx's goodbye begins with an accept of all that wait. */
static bool try_to_listen(void *ctx)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)proxy.port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	socklen_t len = sizeof(at);
	const int on = 1;
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)ctx;
	th_check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0, "socket: %s",
		strerror(errno));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		th_check(errno == EADDRINUSE, "bind: %s", strerror(errno));
		close(fd);
		return false;
	}
	th_check(listen(fd, 1024) == 0 && getsockname(fd, (struct sockaddr *)&at, &len) == 0, "listen: %s",
		strerror(errno));
	proxy.port = ntohs(at.sin_port);
	proxy.listener = fd;
	return true;
}

/* On a free port, and later on that one again. */
static void open_port(void)
{
	th_wait_until(try_to_listen, NULL, 10000, "nghttpx's port");
}

/* Connections are refused from now on, once nghttpx is dead too. */
static void close_port(void)
{
	close(proxy.listener);
	proxy.listener = -1;
}

/* nghttpx takes a listening socket over from its environment, as it does from its
 * predecessor at an upgrade. So it needs no free port of luck, and connections wait
 * rather than fail until it, or its successor, is up. */
static void spawn_proxy(char *const argv[])
{
	char *const environment[] = { (char[]){ "PATH=/usr/bin:/bin" }, (char[]){ "NGHTTPX_ACCEPT_1=tcp,3" }, NULL };
	posix_spawn_file_actions_t actions;
	/* dup2 onto its own number would leave the socket to be closed by exec. */
	const int source = fcntl(proxy.listener, F_DUPFD_CLOEXEC, 10);
	int rc;

	th_check(source >= 0 && posix_spawn_file_actions_init(&actions) == 0
			&& posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0
			&& posix_spawn_file_actions_addopen(
				   &actions, 1, proxy.errors, O_WRONLY | O_CREAT | O_APPEND, 0600)
				== 0
			&& posix_spawn_file_actions_adddup2(&actions, 1, 2) == 0
			&& posix_spawn_file_actions_adddup2(&actions, source, 3) == 0,
		"posix_spawn_file_actions");
	rc = posix_spawn(&proxy.pid, proxy.program, &actions, NULL, argv, environment);
	th_check(rc == 0, "start %s: %s", proxy.program, strerror(rc));
	posix_spawn_file_actions_destroy(&actions);
	close(source);
}

/* more: further options. */
static void run_proxy(const char *first_more, const char *second_more)
{
	char *argv[16];
	size_t count = 0;

	argv[count++] = th_printf("%s", proxy.program);
	argv[count++] = th_printf("--conf=/dev/null");
	argv[count++] = th_printf("--no-ocsp");
	argv[count++] = th_printf("--workers=1");
	argv[count++] = th_printf("--frontend=127.0.0.1,%d", proxy.port);
	argv[count++] = th_printf("--backend=127.0.0.1,%d", provider->port);
	argv[count++] = th_printf("--accesslog-file=%s", proxy.log);
	argv[count++] = th_printf("--accesslog-format=$remote_port $request $status");
	argv[count++] = th_printf("--errorlog-file=%s", proxy.errors);
	if (first_more != NULL)
		argv[count++] = th_printf("%s", first_more);
	if (second_more != NULL)
		argv[count++] = th_printf("%s", second_more);
	argv[count++] = th_printf("%s", proxy.tls.key_file);
	argv[count++] = th_printf("%s", proxy.tls.cert_file);
	argv[count] = NULL;
	spawn_proxy(argv);
	while (count > 0)
		free(argv[--count]);
}

/* One process, which the kernel ends with all its connections at once. */
static void start_proxy_with(const char *more)
{
	run_proxy("--single-process", more);
}

static void start_proxy(void)
{
	start_proxy_with(NULL);
}

static bool worker_is_there(void *ctx)
{
	char *path = th_printf("/proc/%d/task/%d/children", (int)proxy.pid, (int)proxy.pid);
	char *children = th_read_file(path);

	(void)ctx;
	proxy.worker = (pid_t)atoi(children);
	free(children);
	free(path);
	return proxy.worker > 0;
}

/* Only a worker process of its own can be asked to say goodbye. */
static void start_proxy_that_says_goodbye(void)
{
	th_write_file(proxy.errors, 0600, "");
	run_proxy(NULL, NULL);
	th_wait_until(worker_is_there, NULL, 10000, "nghttpx's worker process");
}

static void kill_proxy(void)
{
	if (proxy.pid == 0)
		return;
	if (proxy.worker > 0) /* one that has said goodbye does not end with the other */
		th_check(kill(proxy.worker, SIGKILL) == 0, "kill: %s", strerror(errno));
	th_check(kill(proxy.pid, SIGKILL) == 0 && waitpid(proxy.pid, NULL, 0) == proxy.pid, "nghttpx can't be killed");
	proxy.pid = 0;
	proxy.worker = 0;
}

/* ---- its access log ------------------------------------------------------------------------ */

struct spoken {
	int requests; /* whose request line holds `what` */
	int not_http2;
	int connections; /* different ones that they came over */
	int last_port;
};

static struct spoken spoken_of(const char *what)
{
	struct spoken spoken = { 0, 0, 0, 0 };
	int ports[256];
	char *text = th_read_file(proxy.log);
	char *state = NULL;
	char *line;

	for (line = strtok_r(text, "\n", &state); line != NULL; line = strtok_r(NULL, "\n", &state)) {
		const int port = atoi(line);
		int i;

		if (strstr(line, what) == NULL)
			continue;
		spoken.requests++;
		spoken.not_http2 += strstr(line, " HTTP/2 ") == NULL;
		for (i = 0; i < spoken.connections && ports[i] != port; i++)
			;
		th_check(i < 256, "too many connections to count");
		ports[i] = port;
		spoken.connections += i == spoken.connections;
		spoken.last_port = port;
	}
	free(text);
	return spoken;
}

struct expected_log {
	const char *what;
	int requests;
};

static bool log_is_there(void *ctx)
{
	const struct expected_log *wanted = ctx;

	return spoken_of(wanted->what).requests >= wanted->requests;
}

/* A line is written when its answer is out: the client may know before the log. */
static struct spoken expect_http2(const char *what, int requests)
{
	struct expected_log wanted = { what, requests };
	struct spoken spoken;

	th_wait_until(log_is_there, &wanted, 10000, what);
	spoken = spoken_of(what);
	th_check(spoken.requests == requests, "%d requests \"%s\", not %d", spoken.requests, what, requests);
	th_check(spoken.not_http2 == 0, "%d of %d requests \"%s\" are no HTTP/2", spoken.not_http2, requests, what);
	return spoken;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

/* The provider must know the proxy's URL, and the proxy the provider's port. */
static int start_provider(void **state)
{
	char *base;

	(void)state;
	proxy.program = find_program("nghttpx");
	if (proxy.program == NULL)
		return 0;
	proxy.dir = th_temp_dir();
	proxy.log = th_printf("%s/access", proxy.dir);
	proxy.errors = th_printf("%s/errors", proxy.dir);
	th_tls_make(&proxy.tls, proxy.dir);
	open_port();
	base = th_printf("--base-url=https://localhost:%d", proxy.port);
	provider = th_provider_start(TH_PRACTICE_PLAIN, (const char *const[]){ base, NULL });
	provider->ca_file = th_printf("%s", proxy.tls.ca_file);
	free(base);
	return 0;
}

static int stop_provider(void **state)
{
	(void)state;
	if (proxy.program == NULL)
		return 0;
	th_provider_stop(&provider);
	close_port();
	th_tls_clear(&proxy.tls);
	free(proxy.log);
	free(proxy.errors);
	free(proxy.dir);
	free(proxy.program);
	return 0;
}

static int renew(void **state)
{
	(void)state;
	if (proxy.program == NULL)
		return 0;
	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'reset_ledger':true,'set':{'rotation':'hydra','reuse_window_ms':0,"
		"'access_ttl':3600,'id_token_ttl':3600,'clock_offset_ms':0}}");
	th_write_file(proxy.log, 0600, "");
	if (proxy.listener < 0) /* a test failed */
		open_port();
	return 0;
}

static int end_proxy(void **state)
{
	(void)state;
	kill_proxy();
	return 0;
}

static void need_proxy(void)
{
	if (proxy.program != NULL)
		return;
	printf("# nghttpx is not installed (Debian package nghttp2-proxy)\n");
	fflush(stdout);
	skip();
}

/* ---- links ------------------------------------------------------------------------------------ */

struct crowd {
	struct th_host *host;
	unsigned count;
	char users[MANY][16];
	char *tokens[MANY]; /* hashes of the refresh tokens that they have now */
	struct caller callers[MANY];
};

static struct crowd *crowd_of(struct th_host *host, unsigned count)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	unsigned i;

	th_check(crowd != NULL, "no memory");
	crowd->host = host;
	crowd->count = count;
	for (i = 0; i < count; i++) {
		snprintf(crowd->users[i], sizeof(crowd->users[i]), "user-%u", i);
		th_must_link(host, provider, crowd->users[i], NULL, NULL);
		crowd->tokens[i] = th_grant_current(provider, -1);
	}
	return crowd;
}

static void crowd_free(struct crowd **crowd)
{
	unsigned i;

	for (i = 0; i < (*crowd)->count; i++)
		free((*crowd)->tokens[i]);
	free(*crowd);
	*crowd = NULL;
}

/* All ask at once for a bearer with more life than theirs has. */
static void ask_all(struct crowd *crowd)
{
	unsigned i;

	for (i = 0; i < crowd->count; i++)
		caller_start(&crowd->callers[i], crowd->host,
			(struct wish){ .user = crowd->users[i], .min_ttl_ms = AHEAD_MS });
}

static void expect_all(struct crowd *crowd, uint64_t generation)
{
	unsigned i;

	for (i = 0; i < crowd->count; i++) {
		const struct had *had = caller_join(&crowd->callers[i]);

		th_check(had->rc == ACCTLINK_OK, "%s: %d %s", crowd->users[i], (int)had->rc, had->message);
		th_check(had->generation == generation, "%s was served generation %llu", crowd->users[i],
			(unsigned long long)had->generation);
	}
}

static void expect_arrivals(const struct crowd *crowd, int wanted)
{
	json_object *ledger = th_ledger(provider);
	json_object *arrivals = json_object_object_get(ledger, "arrivals");
	unsigned i;

	for (i = 0; i < crowd->count; i++) {
		const int got = json_object_get_int(json_object_object_get(arrivals, crowd->tokens[i]));

		th_check(got == wanted, "the refresh token of %s arrived %d times, not %d", crowd->users[i], got,
			wanted);
	}
	json_object_put(ledger);
}

static void expect_state(struct th_host *host, const char *user, int32_t state, int32_t reason, int32_t claim)
{
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	th_check(th_inspect(host, user, NULL, &seen, &err) == ACCTLINK_OK, "%s: %s", user, th_error_text(&err));
	th_check(seen.state == state && seen.reason == reason && seen.claim == claim,
		"%s: state %d, reason %d, claim %d; wanted %d, %d, %d (last error %s)", user, (int)seen.state,
		(int)seen.reason, (int)seen.claim, (int)state, (int)reason, (int)claim, seen.last_error);
}

static void expect_states(const struct crowd *crowd, int32_t state, int32_t reason, int32_t claim)
{
	unsigned i;

	for (i = 0; i < crowd->count; i++)
		expect_state(crowd->host, crowd->users[i], state, reason, claim);
}

static int refreshes(void)
{
	return th_count(provider, "token", "refresh_token");
}

static void get(struct th_host *host, const char *user, uint32_t min_ttl_ms, struct had *had)
{
	get_bearer(host, &(struct wish){ .user = user, .min_ttl_ms = min_ttl_ms }, had);
	th_check(had->rc == ACCTLINK_OK, "%s: %d %s", user, (int)had->rc, had->message);
}

/* ---- in peace ------------------------------------------------------------------------------------ */

static void all_requests_of_a_links_life_are_http_2(void **state)
{
	acctlink_unlink_result ended;
	acctlink_error err = { 0 };
	struct th_host *host;
	struct had had;

	(void)state;
	need_proxy();
	start_proxy();
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, HOUR_MS + MINUTE_MS);
	get(host, "ana", 0, &had);
	same(had.generation, 2);
	same(th_userinfo(provider, had.bearer), 200);
	th_check(th_unlink(host, "ana", NULL, &ended, &err) == ACCTLINK_OK, "unlink: %s", th_error_text(&err));
	same(ended.revocation, ACCTLINK_REVOCATION_CONFIRMED);
	th_check(!th_grant_alive(provider, -1), "the grant lives on");
	expect_http2("GET /.well-known/openid-configuration", 1);
	expect_http2("GET /jwks", th_count(provider, "jwks", NULL));
	expect_http2("POST /token", 2);
	expect_http2("POST /revoke", 2); /* refresh token and access token */
	same(th_count(provider, "token", NULL), 2);
	same(th_max_arrivals(provider), 1);
	th_host_free(&host);
}

static void sixty_four_links_are_refreshed_at_once_over_one_connection(void **state)
{
	struct crowd *crowd;
	struct th_host *host;

	(void)state;
	need_proxy();
	start_proxy();
	host = th_host_new(provider, NULL);
	crowd = crowd_of(host, MANY);
	kill_proxy(); /* with no connection there each could make one of its own */
	start_proxy();
	th_advance(host, provider, 50 * MINUTE_MS);
	th_write_file(proxy.log, 0600, "");
	th_script(provider, "token", "refresh_token", MANY, "{'hold':'all'}");
	ask_all(crowd);
	th_wait_held(provider, "all", MANY); /* they are under way together */
	th_release(provider, "all");
	expect_all(crowd, 2);
	same(expect_http2("POST /token", MANY).connections, 1);
	same(refreshes(), MANY);
	expect_arrivals(crowd, 1);
	expect_states(crowd, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, ACCTLINK_CLAIM_NONE);
	crowd_free(&crowd);
	th_host_free(&host);
}

/* The server's limit is known only when its settings have come; what went over it
 * is refused, and that is taken for an unknown outcome, though nothing arrived. */
static void streams_that_the_server_refuses_cost_no_token(void **state)
{
	const char *few = "--frontend-http2-max-concurrent-streams=4";
	struct crowd *crowd;
	struct th_host *host;
	unsigned i;

	(void)state;
	need_proxy();
	start_proxy_with(few);
	host = th_host_new(provider, NULL);
	crowd = crowd_of(host, MANY / 2);
	kill_proxy(); /* the next connection is a new one */
	start_proxy_with(few);
	th_advance(host, provider, 50 * MINUTE_MS);
	ask_all(crowd);
	for (i = 0; i < crowd->count; i++)
		same(caller_join(&crowd->callers[i])->rc, ACCTLINK_OK); /* the old bearer or a new one */
	th_advance(host, provider, 30 * MINUTE_MS);
	for (i = 0; i < crowd->count; i++) {
		struct had had;

		get(host, crowd->users[i], 0, &had);
		same(had.generation, 2);
	}
	expect_arrivals(crowd, 1);
	same(refreshes(), MANY / 2);
	expect_states(crowd, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, ACCTLINK_CLAIM_NONE);
	crowd_free(&crowd);
	th_host_free(&host);
}

/* 50 minutes old links whose requests have all arrived, and are held there. */
static struct crowd *crowd_under_way(struct th_host *host, unsigned count)
{
	struct crowd *crowd = crowd_of(host, count);

	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", (int)count, "{'hold':'all'}");
	ask_all(crowd);
	th_wait_held(provider, "all", (int)count);
	return crowd;
}

/* ---- the backend fails ----------------------------------------------------------------------------- */

/* The provider has rotated, and then its connection to the proxy is reset. The
 * proxy makes a 502 of it, or has to break the stream off. */
static const struct loss {
	const char *what;
	const char *script;
	const char *last_error;
	int http_status; /* 0: whether the head came before the end of its stream is chance */
} losses[] = {
	{ "before the answer", "{'cut':'before_answer','reset':true}", "http_502", 502 },
	{ "after the head", "{'cut':'after_headers','reset':true}", "cut", 0 },
	{ "in the middle of the body", "{'cut':'half_body','reset':true}", "cut", 0 },
};

static void lose_by(const struct loss *loss)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_inspect_result seen = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	struct had before;
	struct had had;
	char *token;

	th_must_link(host, provider, "ana", NULL, NULL);
	token = th_grant_current(provider, -1);
	get(host, "ana", 0, &before);
	th_advance(host, provider, 50 * MINUTE_MS);
	th_script(provider, "token", "refresh_token", 1, "%s", loss->script);
	get(host, "ana", AHEAD_MS, &had);
	th_check(same_bearer(&had, &before), "%s: another bearer was served", loss->what);
	same(th_arrivals(provider, token), 1);
	expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_CLAIM_UNKNOWN);
	th_check(th_inspect(host, "ana", NULL, &seen, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(strcmp(seen.last_error, loss->last_error) == 0
			&& (loss->http_status == 0 || seen.last_http_status == loss->http_status),
		"%s: last error %s, HTTP %d", loss->what, seen.last_error, (int)seen.last_http_status);

	th_advance(host, provider, 5 * MINUTE_MS); /* the bearer is good still: the token is left alone */
	get(host, "ana", AHEAD_MS, &had);
	th_check(same_bearer(&had, &before), "%s: another bearer was served", loss->what);
	same(th_arrivals(provider, token), 1);

	th_advance(host, provider, 6 * MINUTE_MS); /* now it has ended */
	th_control(provider, "{'set':{'reuse_window_ms':%lld}}", (long long)HOUR_MS);
	get(host, "ana", 0, &had);
	same(had.generation, 2);
	same(th_arrivals(provider, token), 2);
	same(th_userinfo(provider, had.bearer), 200);
	th_control(provider, "{'set':{'reuse_window_ms':0}}");
	free(token);
	th_host_free(&host);
}

static void a_backend_that_dies_with_the_request_gets_it_once_until_it_is_needed(void **state)
{
	size_t i;

	(void)state;
	need_proxy();
	start_proxy();
	for (i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		renew(state);
		lose_by(&losses[i]);
		expect_http2("POST /token", 3);
	}
}

/* ---- the proxy ends ------------------------------------------------------------------------------------- */

static bool goodbye_begun(void *ctx)
{
	char *text = th_read_file(proxy.errors);
	const bool begun = strstr(text, "Graceful shutdown signal received") != NULL;

	(void)ctx;
	free(text);
	return begun;
}

/* GOAWAY on every connection, while what is under way goes on. */
static void ask_proxy_to_end(void)
{
	th_check(kill(proxy.pid, SIGQUIT) == 0, "kill: %s", strerror(errno));
	th_wait_until(goodbye_begun, NULL, 10000, "nghttpx's goodbye");
}

static bool proxy_ended(void *ctx)
{
	int status = 0;

	(void)ctx;
	return waitpid(proxy.pid, &status, WNOHANG) == proxy.pid && WIFEXITED(status);
}

/* By itself: every connection is closed. */
static void wait_for_proxys_end(void)
{
	th_wait_until(proxy_ended, NULL, 10000, "nghttpx's end");
	proxy.pid = 0;
	proxy.worker = 0;
}

/* Users whose links are refreshed one after the other until one of these requests
 * has taken another connection. */
struct late {
	struct th_host *host;
	unsigned next;
	int old_port;
};

enum { LATE = 48 };

static void late_user(char *user, size_t cap, unsigned i)
{
	snprintf(user, cap, "late-%u", i);
}

static bool another_connection_is_taken(void *ctx)
{
	struct late *late = ctx;
	char user[16];
	struct had had;

	th_check(late->next < LATE, "all requests went over the connection that was said goodbye to");
	late_user(user, sizeof(user), late->next++);
	get(late->host, user, AHEAD_MS, &had);
	same(had.generation, 2);
	return expect_http2("POST /token", (int)late->next).last_port != late->old_port;
}

/* As at an upgrade of a front: the successor takes over, the predecessor says
 * goodbye with eight answers still due. */
static void requests_under_way_at_a_goaway_are_answered_and_the_next_take_another_connection(void **state)
{
	struct late late = { NULL, 0, 0 };
	struct proxy predecessor;
	struct crowd *crowd;
	struct th_host *host;
	char user[16];
	unsigned i;

	(void)state;
	need_proxy();
	start_proxy_that_says_goodbye();
	host = th_host_new(provider, NULL);
	for (i = 0; i < LATE; i++) {
		late_user(user, sizeof(user), i);
		th_must_link(host, provider, user, NULL, NULL);
	}
	crowd = crowd_under_way(host, 8);
	late.host = host;
	late.old_port = expect_http2("POST /token", LATE + 8).last_port;
	th_write_file(proxy.log, 0600, "");
	ask_proxy_to_end();
	predecessor = proxy;
	start_proxy();
	th_wait_until(another_connection_is_taken, &late, 10000, "another connection");
	th_release(provider, "all");
	expect_all(crowd, 2);
	kill_proxy();
	proxy.pid = predecessor.pid;
	proxy.worker = predecessor.worker;
	wait_for_proxys_end();
	expect_arrivals(crowd, 1);
	same(th_max_arrivals(provider), 1);
	same(refreshes(), 8 + (int)late.next);
	expect_states(crowd, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, ACCTLINK_CLAIM_NONE);
	crowd_free(&crowd);
	th_host_free(&host);
}

static void a_goaway_on_an_idle_connection_costs_nothing(void **state)
{
	struct th_host *host;
	struct had had;

	(void)state;
	need_proxy();
	start_proxy_that_says_goodbye();
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "ana", NULL, NULL);
	ask_proxy_to_end();
	wait_for_proxys_end();
	start_proxy();
	th_advance(host, provider, HOUR_MS + MINUTE_MS);
	get(host, "ana", 0, &had);
	same(had.generation, 2);
	same(refreshes(), 1);
	same(th_max_arrivals(provider), 1);
	expect_state(host, "ana", ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, ACCTLINK_CLAIM_NONE);
	th_host_free(&host);
}

/* They were sent over a connection that died. Whoever wants to send again can. */
static void expect_unknown_and_resent_when_needed(struct crowd *crowd)
{
	struct th_host *host = crowd->host;

	expect_all(crowd, 1);
	th_release(provider, "all");
	expect_states(crowd, ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_CLAIM_UNKNOWN);
	expect_arrivals(crowd, 1);

	th_advance(host, provider, 5 * MINUTE_MS); /* not needed yet */
	ask_all(crowd);
	expect_all(crowd, 1);
	expect_arrivals(crowd, 1);

	th_advance(host, provider, 6 * MINUTE_MS);
	th_control(provider, "{'set':{'reuse_window_ms':%lld}}", (long long)HOUR_MS);
	ask_all(crowd);
	expect_all(crowd, 2);
	expect_arrivals(crowd, 2);
	expect_states(crowd, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE, ACCTLINK_CLAIM_NONE);
}

static void a_proxy_that_is_killed_in_mid_request_leaves_every_outcome_unknown_and_sends_nothing_twice(void **state)
{
	struct crowd *crowd;
	struct th_host *host;

	(void)state;
	need_proxy();
	start_proxy();
	host = th_host_new(provider, NULL);
	crowd = crowd_under_way(host, 16);
	kill_proxy();
	start_proxy();
	expect_unknown_and_resent_when_needed(crowd);
	same(refreshes(), 32);
	same(th_lines_count(host->events, "RELINK_REQUIRED"), 0);
	crowd_free(&crowd);
	th_host_free(&host);
}

/* Whether something lies in a socket of the proxy that it has not read. */
static bool proxy_has_mail(void *ctx)
{
	char *table = th_read_file("/proc/net/tcp");
	char *state = NULL;
	bool mail = false;
	char *line;

	(void)ctx;
	for (line = strtok_r(table, "\n", &state); line != NULL; line = strtok_r(NULL, "\n", &state)) {
		unsigned port;
		unsigned tcp_state;
		unsigned long unread;

		/* "0: 0100007F:1F90 0100007F:C350 01 00000000:00000041 …" */
		if (sscanf(line, "%*d: %*x:%x %*x:%*x %x %*x:%lx", &port, &tcp_state, &unread) == 3)
			mail = mail || ((int)port == proxy.port && tcp_state == 1 && unread > 0);
	}
	free(table);
	return mail;
}

/* A process that dies with unread mail has its connections reset. libcurl takes that
 * for a reused connection that was dead before, and sends all requests again by itself. */
static void a_connection_that_is_reset_in_mid_request_sends_nothing_twice(void **state)
{
	struct crowd *crowd;
	struct caller late;
	struct th_host *host;
	struct had had;
	char *token;

	(void)state;
	need_proxy();
	start_proxy();
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "late", NULL, NULL);
	token = th_grant_current(provider, -1);
	crowd = crowd_under_way(host, 16);
	th_check(kill(proxy.pid, SIGSTOP) == 0, "kill: %s", strerror(errno));
	caller_start(&late, host, (struct wish){ .user = "late", .min_ttl_ms = AHEAD_MS });
	th_wait_until(proxy_has_mail, NULL, 10000, "a request that nghttpx does not read");
	kill_proxy();
	start_proxy();
	same(caller_join(&late)->rc, ACCTLINK_OK);
	same(th_arrivals(provider, token), 0); /* sent, for all that the plugin can know */
	expect_state(host, "late", ACCTLINK_STATE_STALE, ACCTLINK_REASON_OUTCOME_UNKNOWN, ACCTLINK_CLAIM_UNKNOWN);
	expect_unknown_and_resent_when_needed(crowd);
	get(host, "late", 0, &had);
	same(had.generation, 2);
	same(th_arrivals(provider, token), 1);
	free(token);
	crowd_free(&crowd);
	th_host_free(&host);
}

/* The connection is dead before anything could be sent over it. */
static void a_proxy_that_is_away_is_asked_again_later(void **state)
{
	struct th_host *host;
	struct had had;

	(void)state;
	need_proxy();
	start_proxy();
	host = th_host_new(provider, NULL);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_advance(host, provider, 50 * MINUTE_MS);
	close_port();
	kill_proxy();
	get(host, "ana", AHEAD_MS, &had);
	same(had.generation, 1);
	same(refreshes(), 0);
	expect_state(host, "ana", ACCTLINK_STATE_STALE, ACCTLINK_REASON_PROVIDER_DOWN, ACCTLINK_CLAIM_NONE);
	open_port();
	start_proxy();
	th_advance(host, provider, 5 * MINUTE_MS);
	get(host, "ana", AHEAD_MS, &had);
	same(had.generation, 2);
	same(refreshes(), 1);
	th_host_free(&host);
}

#define http2_test(f) cmocka_unit_test_setup_teardown(f, renew, end_proxy)

int main(void)
{
	const struct CMUnitTest tests[] = { http2_test(all_requests_of_a_links_life_are_http_2),
		http2_test(sixty_four_links_are_refreshed_at_once_over_one_connection),
		http2_test(streams_that_the_server_refuses_cost_no_token),
		http2_test(a_backend_that_dies_with_the_request_gets_it_once_until_it_is_needed),
		http2_test(requests_under_way_at_a_goaway_are_answered_and_the_next_take_another_connection),
		http2_test(a_goaway_on_an_idle_connection_costs_nothing),
		http2_test(a_proxy_that_is_killed_in_mid_request_leaves_every_outcome_unknown_and_sends_nothing_twice),
		http2_test(a_connection_that_is_reset_in_mid_request_sends_nothing_twice),
		http2_test(a_proxy_that_is_away_is_asked_again_later) };

	return cmocka_run_group_tests_name("http2", tests, start_provider, stop_provider);
}
