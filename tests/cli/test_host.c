/* SPDX-License-Identifier: MIT
 * What acctlinkctl does to a host that runs beside it on the same store: a pause
 * that it obeys, links that were imported, a bearer that was taken out, audit
 * rows that end. The tool is the built program; the host has its own clock.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../abi/peek.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOUR_MS ((int64_t)3600 * 1000)
#define DAY_MS (24 * HOUR_MS)

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

static int renew_provider(void **unused)
{
	(void)unused;
	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'down':false,'reset_ledger':true,'set':{'rotation':'hydra','sub':null,"
		"'clock_offset_ms':0}}");
	return 0;
}

#define host_test(f) cmocka_unit_test_setup(f, renew_provider)

static char *told; /* the file that has what the tool said last */

/* Runs the tool with these words, ended by NULL, and this as its stdin; its exit code. */
static int tool(const struct th_host *host, const char *input, const char *const *words)
{
	const char *build = getenv("TH_BUILDDIR");
	char *program = th_printf("%s/tools/acctlinkctl/acctlinkctl", build != NULL ? build : ".");
	char *dir = th_temp_dir();
	char *in = th_printf("%s/in", dir);
	char *out = th_printf("%s/out", dir);
	const char *args[16] = { program, "-c", host->config_path };
	size_t count = 3;
	int status = 0;
	pid_t pid;

	while (*words != NULL && count < sizeof(args) / sizeof(args[0]) - 1)
		args[count++] = *words++;
	th_write_file(in, 0600, input);
	fflush(stdout);
	pid = fork();
	th_check(pid >= 0, "fork");
	if (pid == 0) {
		const int from = open(in, O_RDONLY);
		const int to = open(out, O_WRONLY | O_CREAT, 0600);

		if (from < 0 || to < 0 || dup2(from, 0) < 0 || dup2(to, 1) < 0)
			_exit(126);
		(void)execv(program, (char *const *)(uintptr_t)args);
		_exit(127);
	}
	th_check(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the tool ended with status %x",
		(unsigned)status);
	free(told);
	told = out;
	free(in);
	free(dir);
	free(program);
	return WEXITSTATUS(status);
}

static char *said(void)
{
	return th_read_file(told);
}

#define run_tool(host, input, ...) tool(host, input, (const char *const[]){ __VA_ARGS__, NULL })

static void expect(const char *what, long long got, long long right)
{
	th_check(got == right, "%s is %lld, not %lld", what, got, right);
}

static struct th_host *host_with_link(void)
{
	struct th_host *host = th_host_new(provider, NULL);

	th_must_link(host, provider, "ana", NULL, NULL);
	return host;
}

static acctlink_status bearer(struct th_host *host, const char *user)
{
	acctlink_error err = { 0 };
	char *text = NULL;
	const acctlink_status rc = th_bearer(host, user, NULL, &text, NULL, &err);

	free(text);
	return rc;
}

/* ---- pause ------------------------------------------------------------------------- */

static void a_paused_provider_is_sent_nothing_and_good_bearers_are_served(void **unused)
{
	struct th_host *host = host_with_link();
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };

	(void)unused;
	th_check(flow != NULL, "no memory");
	expect("pause", run_tool(host, "", "pause", "test"), 0);
	expect("pause, twice", run_tool(host, "", "pause", "test"), 0);
	expect("a good bearer", bearer(host, "ana"), ACCTLINK_OK);
	th_advance(host, provider, HOUR_MS);
	expect("a bearer that ended", bearer(host, "ana"), ACCTLINK_PROVIDER_DOWN);
	expect("a consent", th_begin(host, "bea", NULL, flow, &err), ACCTLINK_PROVIDER_DOWN);
	th_check(strstr(err.message, "paused") != NULL, "%s", err.message);
	expect("refreshes", th_count(provider, "token", "refresh_token"), 0);
	expect("resume", run_tool(host, "", "resume", "test"), 0);
	expect("a bearer", bearer(host, "ana"), ACCTLINK_OK);
	expect("refreshes", th_count(provider, "token", "refresh_token"), 1);
	free(flow);
	th_host_free(&host);
}

static void a_callback_during_a_pause_keeps_its_code_for_later(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *params;

	(void)unused;
	th_check(flow != NULL, "no memory");
	expect("begin", th_begin(host, "ana", NULL, flow, &err), ACCTLINK_OK);
	params = th_consent(provider, flow->url);
	expect("pause", run_tool(host, "", "pause", "test"), 0);
	expect("the callback", th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_PROVIDER_DOWN);
	expect("exchanges", th_count(provider, "token", "authorization_code"), 0);
	expect("resume", run_tool(host, "", "resume", "test"), 0);
	expect("again", th_callback(host, "ana", params, flow->cookie, NULL, &err), ACCTLINK_OK);
	expect("exchanges", th_count(provider, "token", "authorization_code"), 1);
	free(params);
	free(flow);
	th_host_free(&host);
}

static bool is_revoked(void *ctx)
{
	(void)ctx;
	return !th_grant_alive(provider, -1);
}

static bool was_put_off(void *ctx)
{
	const struct th_host *host = ctx;

	return store_sql(host->config_path, "SELECT revoke_until FROM link") > th_clock_wall_ms(host->clock);
}

/* revocation_lifetime is three days; what could not be sent is not given up. */
static void a_long_pause_gives_no_revocation_up(void **unused)
{
	struct th_host *host = host_with_link();
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_error err = { 0 };

	(void)unused;
	expect("pause", run_tool(host, "", "pause", "test"), 0);
	expect("unlink", th_unlink(host, "ana", NULL, &result, &err), ACCTLINK_OK);
	expect("revocation", result.revocation, ACCTLINK_REVOCATION_PENDING);
	th_advance(host, provider, 4 * DAY_MS);
	th_host_restart(host);
	expect("a call", bearer(host, "ana"), ACCTLINK_NOT_LINKED); /* starts the turns that take the queue up */
	th_wait_until(was_put_off, host, 30000, "a turn that finds the time over");
	expect("resume", run_tool(host, "", "resume", "test"), 0);
	th_advance(host, provider, HOUR_MS);
	th_wait_until(is_revoked, NULL, 30000, "the revocation");
	expect("given up", (long long)th_lines_count(host->events, "REVOCATION_GIVEN_UP"), 0);
	th_host_free(&host);
}

/* ---- import and export ---------------------------------------------------------------- */

/* The refresh token of the newest grant, as another program would have kept it. */
static char *line_for(const char *user)
{
	char *hash = th_grant_current(provider, -1);
	char *token = th_raw_token(provider, hash);
	char *line = th_printf("{\"user\":\"%s\",\"refresh_token\":\"%s\"}\n", user, token);

	free(token);
	free(hash);
	return line;
}

/* A grant that this store does not know. */
static void grant_elsewhere(void)
{
	struct th_host *other = host_with_link();

	th_host_free(&other);
}

static void an_imported_token_is_sent_once_and_its_link_learns_whose_it_is(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_inspect_result link = ACCTLINK_INSPECT_RESULT_INIT;
	char subject[256] = "";
	acctlink_error err = { 0 };
	char *line;

	(void)unused;
	grant_elsewhere();
	line = line_for("eva");
	expect("import", run_tool(host, line, "import", "test"), 0);
	expect("import, twice", run_tool(host, line, "import", "test"), 0);
	expect("rows", store_sql(host->config_path, "SELECT count(*) FROM link"), 1);
	expect("nothing sent yet", th_count(provider, "token", "refresh_token"), 0);
	free(th_must_bearer(host, "eva", NULL, &info));
	expect("generation", (long long)info.generation, 2);
	expect("refreshes", th_count(provider, "token", "refresh_token"), 1);
	link.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	expect("inspect", th_inspect(host, "eva", NULL, &link, &err), ACCTLINK_OK);
	th_check(subject[0] != '\0' && link.state == ACCTLINK_STATE_LINKED, "subject '%s', state %d", subject,
		link.state);
	expect("audited", store_sql(host->config_path, "SELECT count(*) FROM audit WHERE what = 'imported'"), 1);
	free(line);
	th_host_free(&host);
}

static void lines_that_are_not_whole_import_nothing_else(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *two = th_printf(
		"{\"user\":\"eva\",\"refresh_token\":\"a\"}\r{\"user\":\"eve\",\"refresh_token\":\"b\"}\n");

	(void)unused;
	expect("two objects in a line", run_tool(host, two, "import", "test"), 1);
	expect("rows", store_sql(host->config_path, "SELECT count(*) FROM link"), 0);
	free(two);
	th_host_free(&host);
}

static void a_bearer_that_is_taken_out_leaves_an_audit_row(void **unused)
{
	static const char
		count[] = "SELECT count(*) FROM audit WHERE what = 'exported' AND user = 'ana' AND generation = 1";
	struct th_host *host = host_with_link();

	(void)unused;
	expect("before", store_sql(host->config_path, count), 0);
	expect("bearer", run_tool(host, "", "bearer", "ana", "test"), 0);
	expect("after", store_sql(host->config_path, count), 1);
	th_host_free(&host);
}

/* A user's name may be any text. */
static void names_do_not_steer_the_terminal(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *text;

	(void)unused;
	th_must_link(host, provider, "a\xc2\x9b[2Jb\xe2\x80\xae\xe2\x80\xac", NULL, NULL);
	expect("list", run_tool(host, "", "list"), 0);
	text = said();
	th_check(strstr(text, "a?[2Jb??") != NULL && strstr(text, "\xc2\x9b") == NULL, "list says: %s", text);
	free(text);
	th_host_free(&host);
}

static void links_that_are_being_unlinked_are_told_to_who_asks(void **unused)
{
	struct th_host *host = host_with_link();
	acctlink_error err = { 0 };
	char *text;

	(void)unused;
	th_script(provider, "revoke", NULL, -1, "{'status':503,'body':''}");
	expect("unlink", th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_OK);
	expect("list", run_tool(host, "", "--json", "list"), 0);
	text = said();
	th_check(strstr(text, "\"ana\"") == NULL, "list says: %s", text);
	free(text);
	expect("list ana", run_tool(host, "", "--json", "list", "ana", "--state", "unlinking"), 0);
	text = said();
	th_check(strstr(text, "\"unlinking\"") != NULL && strstr(text, "\"ana\"") != NULL, "list says: %s", text);
	free(text);
	th_host_free(&host);
}

/* ---- what looking does, and what ends ---------------------------------------------------- */

/* A revocation that waits is the hosts' matter, not that of whoever looks. */
static void looking_sends_nothing(void **unused)
{
	struct th_host *host = host_with_link();
	acctlink_error err = { 0 };
	int sent;

	(void)unused;
	th_script(provider, "revoke", NULL, 1, "{'status':503,'body':''}");
	expect("unlink", th_unlink(host, "ana", NULL, NULL, &err), ACCTLINK_OK);
	sent = th_count(provider, "revoke", NULL);
	expect("shutdown", host->api.shutdown(host->handle, 0, &err), ACCTLINK_OK);
	host->handle = NULL;
	(void)store_sql(host->config_path, "UPDATE link SET revoke_at = 1");
	expect("check", run_tool(host, "", "check"), 0);
	expect("list", run_tool(host, "", "list"), 0);
	expect("revocations", th_count(provider, "revoke", NULL), sent);
	th_host_free(&host);
}

static bool audit_is_gone(void *ctx)
{
	const struct th_host *host = ctx;

	return store_sql(host->config_path, "SELECT count(*) FROM audit WHERE what = 'linked'") == 0;
}

/* One row of a clock that was ahead holds up nothing. */
static void audit_rows_end_after_400_days(void **unused)
{
	struct th_host *host = host_with_link();

	(void)unused;
	(void)store_sql(
		host->config_path, "INSERT INTO audit VALUES (0, 9000000000000000, '', 'ana', 'odd', 0, 0, '')");
	th_advance(host, provider, 399 * DAY_MS);
	th_host_restart(host); /* a process sweeps at its first turn */
	(void)bearer(host, "ana");
	expect("after 399 days", store_sql(host->config_path, "SELECT count(*) FROM audit WHERE what = 'linked'"), 1);
	th_advance(host, provider, 2 * DAY_MS);
	th_host_restart(host);
	(void)bearer(host, "ana");
	th_wait_until(audit_is_gone, host, 30000, "the end of the audit row");
	expect("the odd one", store_sql(host->config_path, "SELECT count(*) FROM audit WHERE what = 'odd'"), 1);
	th_host_free(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		host_test(a_paused_provider_is_sent_nothing_and_good_bearers_are_served),
		host_test(a_callback_during_a_pause_keeps_its_code_for_later),
		host_test(a_long_pause_gives_no_revocation_up),
		host_test(an_imported_token_is_sent_once_and_its_link_learns_whose_it_is),
		host_test(lines_that_are_not_whole_import_nothing_else),
		host_test(a_bearer_that_is_taken_out_leaves_an_audit_row),
		host_test(names_do_not_steer_the_terminal),
		host_test(links_that_are_being_unlinked_are_told_to_who_asks),
		host_test(looking_sends_nothing),
		host_test(audit_rows_end_after_400_days),
	};

	return cmocka_run_group_tests_name("host", tests, start_provider, stop_provider);
}
