/* SPDX-License-Identifier: MIT
 * What every suite uses: authorization servers as child processes, a browser
 * without a screen, hosts that load the built plugin, clocks, recorders.
 *
 * Failures: nothing here returns an error. What goes wrong ends the running
 * cmocka test with a message; in a thread or a child made by th_fork, where
 * cmocka can't catch it, it ends that process. So use th_check there, never
 * cmocka's asserts.
 * Threads: all functions may be called from any thread, unless said otherwise.
 * Memory: char * and json_object * that are returned are the caller's, for
 * free() and json_object_put().
 */
#ifndef TH_HARNESS_H
#define TH_HARNESS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <json-c/json.h>

#define TH_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- basics (harness.c) ------------------------------------------------ */

_Noreturn void th_fail_at(const char *file, int line, const char *fmt, ...) TH_PRINTF(3, 4);
#define th_fail(...) th_fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define th_check(condition, ...) \
	do { \
		if (!(condition)) \
			th_fail(__VA_ARGS__); \
	} while (0)

char *th_printf(const char *fmt, ...) TH_PRINTF(1, 2);
char *th_vprintf(const char *fmt, va_list args) TH_PRINTF(1, 0);
/* A fresh folder of mode 0700, removed when the program ends. */
char *th_temp_dir(void);
void th_remove_tree(const char *path);
void th_write_file(const char *path, mode_t mode, const char *text);
char *th_read_file(const char *path);
/* A file below the source tree: $TH_SRCDIR, $srcdir or the working directory. */
char *th_source_path(const char *below);
bool th_full(void);     /* `check --full`: the whole matrix, not a sample */
uint64_t th_seed(void); /* $TH_SEED or chance; printed once as a TAP comment */

/* Polls every 2 ms; fails with `what` after the time-out. */
void th_wait_until(bool (*condition)(void *ctx), void *ctx, int timeout_ms, const char *what);
/* run(ctx, 0) … run(ctx, count - 1) at the same moment, each on its thread; returns when all end. */
void th_parallel(unsigned count, void (*run)(void *ctx, unsigned i), void *ctx);
/* A child process that runs `run` and exits with its value; it dies with its parent. */
pid_t th_fork(int (*run)(void *ctx), void *ctx);
/* Waits for it and fails unless it exited with 0. */
void th_join(pid_t pid, int timeout_ms);

/* ---- clocks and recorders (recorder.c) --------------------------------- */

/* The system's clocks plus an offset, in memory that forked children share. */
struct th_clock;
struct th_clock *th_clock_new(void);
void th_clock_free(struct th_clock **clock);
void th_clock_advance(struct th_clock *clock, int64_t ms);    /* both clocks */
void th_clock_shift_wall(struct th_clock *clock, int64_t ms); /* somebody sets the clock */
int64_t th_clock_wall_ms(const struct th_clock *clock);
int64_t th_clock_boot_ms(const struct th_clock *clock);

/* A growing list of lines. */
struct th_lines;
struct th_lines *th_lines_new(void);
void th_lines_free(struct th_lines **lines);
void th_lines_add(struct th_lines *lines, const char *line);
size_t th_lines_count(struct th_lines *lines, const char *part); /* lines that hold part; NULL: all */
bool th_lines_contain(struct th_lines *lines, const char *part);
char *th_lines_text(struct th_lines *lines); /* all, joined */

/* ---- certificates (tls.c) ---------------------------------------------- */

/* A CA and a certificate for localhost and 127.0.0.1, in PEM files. */
struct th_tls {
	char *ca_file;
	char *cert_file;
	char *key_file;
};
void th_tls_make(struct th_tls *tls, const char *dir);
void th_tls_clear(struct th_tls *tls);

/* ---- providers (provider.c) -------------------------------------------- */

enum th_kind {
	TH_PRACTICE,       /* tools/practice: its words are in control.c, faults.c and settings.c */
	TH_PRACTICE_PLAIN, /* the same over http */
	TH_CERTIFIED       /* tests/servers/certified.mjs: oidc-provider, unmodified */
};

struct th_provider {
	enum th_kind kind;
	int port;
	char *issuer;  /* also the base of all URLs; no slash at the end */
	char *control; /* the base of /control and /ledger, plain http */
	char *ca_file; /* NULL for plain http */
	pid_t pid;
	int stdin_fd;
	char *error_file;  /* what it wrote to stderr */
	int64_t offset_ms; /* of its clock; see th_provider_advance */
};

/* given, ended by NULL, or NULL itself: "--option=value" for the practice provider,
 * "NAME=value" for the environment of the certified one. */
struct th_provider *th_provider_start(enum th_kind kind, const char *const *given);
void th_provider_stop(struct th_provider **provider);
void th_provider_advance(struct th_provider *provider, int64_t ms); /* its clock */

/* POST /control. Every ' becomes ", so that JSON is readable in C:
 * th_control(p, "{'set':{'rotation':'dex','code_ttl':%d}}", 5); */
void th_control(struct th_provider *provider, const char *fmt, ...) TH_PRINTF(2, 3);
/* Queues one entry: th_script(p, "token", "refresh_token", 1, "{'cut':'half_body'}");
 * grant NULL: any; times -1: from now on. */
void th_script(struct th_provider *provider, const char *endpoint, const char *grant, int times, const char *fmt, ...)
	TH_PRINTF(5, 6);
void th_unscript(struct th_provider *provider);                 /* forgets what is queued */
void th_provider_down(struct th_provider *provider, bool down); /* connections are refused */
/* Waits until `count` requests are held under `name`. */
void th_wait_held(struct th_provider *provider, const char *name, int count);
void th_release(struct th_provider *provider, const char *name);

json_object *th_ledger(struct th_provider *provider);
/* Whole requests that arrived; grant NULL: any. Both servers: endpoint "token". */
int th_count(struct th_provider *provider, const char *endpoint, const char *grant);
void th_wait_count(struct th_provider *provider, const char *endpoint, const char *grant, int count);
int th_arrivals(struct th_provider *provider, const char *token_hash);
int th_max_arrivals(struct th_provider *provider); /* over all codes and refresh tokens */
/* One member of the newest request at an endpoint, as text; NULL if absent.
 * "params.redirect_uri" looks inside; `back` 0 is the newest, 1 the one before. */
char *th_request(struct th_provider *provider, const char *endpoint, int back, const char *member);
char *th_request_body(struct th_provider *provider, const char *endpoint, int back);
/* Grants in the order of their consents; a negative n counts from the newest (-1). */
int th_grant_count(struct th_provider *provider);
bool th_grant_alive(struct th_provider *provider, int n);
int th_grant_generation(struct th_provider *provider, int n);
char *th_grant_current(struct th_provider *provider, int n);        /* hash of its refresh token */
char *th_raw_token(struct th_provider *provider, const char *hash); /* the token itself */

/* ---- HTTP and the browser (browser.c) ----------------------------------- */

struct th_answer {
	long status;
	size_t len;
	char *body;         /* ended by NUL */
	char *location;     /* absolute, or NULL */
	char *content_type; /* or NULL */
};
void th_answer_clear(struct th_answer *answer);

/* Remembers cookies and idle connections; belongs to one thread at a time. */
struct th_browser;
struct th_browser *th_browser_new(const char *ca_file);
void th_browser_free(struct th_browser **browser);
/* One request, no redirect followed. headers: "Name: value", ended by NULL, or
 * NULL; body NULL: none. False if no whole answer came. */
bool th_browser_go(struct th_browser *browser, const char *method, const char *url, const char *const *headers,
	const char *body, struct th_answer *answer);

/* The first form of a page whose action ends so and that holds this text (NULL:
 * any): where it is posted to and its inputs, form-encoded. False if there is none. */
bool th_form(const char *html, const char *ends, const char *holds, char **action, char **body);

enum th_choice { TH_ACCEPT, TH_DENY };
/* Opens the consent URL, signs in as `login` (NULL: "alice"; the practice
 * server asks nobody), consents or not, and returns the raw parameters that
 * reach redirect_uri: the query or the form body. */
char *th_consent_as(const struct th_provider *provider, const char *url, enum th_choice choice, const char *login);
char *th_consent(const struct th_provider *provider, const char *url);
/* The value of one parameter of a URL or a query, form-decoded; NULL if absent. */
char *th_param(const char *url, const char *name);
/* GET of the userinfo endpoint with this bearer: the HTTP status. */
long th_userinfo(const struct th_provider *provider, const char *bearer);

#endif
