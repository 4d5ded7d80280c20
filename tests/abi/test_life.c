/* SPDX-License-Identifier: MIT
 * The life of a handle: what init refuses and what it leaves behind then,
 * loading twice, several handles, fork, reload, shutdown.
 * Each test has a folder of its own; those that need a provider share one and
 * tell their links apart by the store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "peek.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS ((int64_t)3600 * 1000)

/* ---- configs without a provider ------------------------------------------------ */

static char *fresh_config(void)
{
	const struct th_config config = { .issuer = "https://login.example" };
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, NULL, &config);

	free(dir);
	return path;
}

static char *beside(const char *config_path, const char *name)
{
	char *dir = folder_of(config_path);
	char *path = th_printf("%s/%s", dir, name);

	free(dir);
	return path;
}

/* Replaces the one place of `from` in a file. */
static void rewrite(const char *path, const char *from, const char *to)
{
	char *text = th_read_file(path);
	char *at = strstr(text, from);
	char *changed;

	th_check(at != NULL && strstr(at + 1, from) == NULL, "'%s' is not in %s just once", from, path);
	changed = th_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	th_write_file(path, 0600, changed);
	free(changed);
	free(text);
}

static int line_of(const char *path, const char *part)
{
	char *text = th_read_file(path);
	const char *end = strstr(text, part);
	int line = 1;

	th_check(end != NULL, "'%s' is not in %s", part, path);
	for (const char *at = text; at < end; at++)
		line += *at == '\n';
	free(text);
	return line;
}

/* init must fail: the status, words of where and message (NULL: any), and that
 * nothing is left open. */
static void refused(const char *config_path, acctlink_status wanted, const char *where, const char *words)
{
	acctlink_error err = { 0 };
	struct th_host *host = NULL;
	size_t descriptors = open_descriptors();
	size_t threads = running_threads();
	acctlink_status rc = th_host_try(config_path, NULL, &host, &err);

	th_check(rc == wanted, "status %d wanted, got %s", (int)wanted, rc == ACCTLINK_OK ? "OK" : th_error_text(&err));
	th_check(err.status == rc && err.message[0] != '\0', "the error is not filled");
	th_check(
		where == NULL || strstr(err.where, where) != NULL, "where '%s' wanted: %s", where, th_error_text(&err));
	th_check(words == NULL || strstr(err.message, words) != NULL, "'%s' wanted: %s", words, th_error_text(&err));
	th_check(open_descriptors() == descriptors, "%zu descriptors, %zu before", open_descriptors(), descriptors);
	th_check(running_threads() == threads, "%zu threads, %zu before", running_threads(), threads);
}

static void taken(const char *config_path)
{
	struct th_host *host = th_host_open(config_path, NULL);

	th_host_free(&host);
}

/* ---- init: the config ------------------------------------------------------------- */

static void a_missing_config_is_an_error_that_names_it(void **unused)
{
	char *path = fresh_config();
	char *missing = beside(path, "no-such.conf");

	(void)unused;
	refused(missing, ACCTLINK_BAD_CONFIG, "no-such.conf", NULL);
	refused("", ACCTLINK_BAD_ARGUMENT, "config_path", NULL);
	free(missing);
	free(path);
}

static void a_config_that_is_a_directory_is_an_error(void **unused)
{
	char *dir = th_temp_dir();

	(void)unused;
	refused(dir, ACCTLINK_BAD_CONFIG, dir, NULL);
	free(dir);
}

/* Every cut before the last brace: an error with file and line, and no store is made. */
static void a_config_cut_off_anywhere_is_an_error_with_file_and_line(void **unused)
{
	char *path = fresh_config();
	char *store = store_of(path);
	char *whole = th_read_file(path);
	size_t end = (size_t)(strrchr(whole, '}') - whole);

	(void)unused;
	for (size_t len = 0; len <= end; len++) {
		char *cut = th_printf("%.*s", (int)len, whole);
		acctlink_error err = { 0 };
		struct th_host *host = NULL;
		const char *colon;

		th_write_file(path, 0600, cut);
		th_check(th_host_try(path, NULL, &host, &err) == ACCTLINK_BAD_CONFIG, "cut at %zu: %s", len,
			th_error_text(&err));
		colon = strrchr(err.where, ':');
		th_check(strncmp(err.where, path, strlen(path)) == 0 && colon == err.where + strlen(path)
				&& strtol(colon + 1, NULL, 10) > 0,
			"cut at %zu: no file:line in '%s' (%s)", len, err.where, err.message);
		free(cut);
	}
	th_check(access(store, F_OK) != 0, "a store was made");
	th_write_file(path, 0600, whole);
	taken(path);
	free(whole);
	free(store);
	free(path);
}

static void an_unknown_key_is_an_error_with_its_line_and_the_nearest_known_key(void **unused)
{
	char *path = fresh_config();
	char *where;

	(void)unused;
	rewrite(path, "client_id =", "clientid =");
	where = th_printf("%s:%d", path, line_of(path, "clientid"));
	refused(path, ACCTLINK_BAD_CONFIG, where, "client_id");
	free(where);
	free(path);
}

static void a_config_with_a_secret_that_others_may_read_is_refused(void **unused)
{
	char *path = fresh_config();

	(void)unused;
	th_check(chmod(path, 0644) == 0, "chmod");
	refused(path, ACCTLINK_BAD_CONFIG, path, NULL);
	th_check(chmod(path, 0600) == 0, "chmod");
	taken(path);
	free(path);
}

/* ---- init: the store ------------------------------------------------------------------ */

static void a_store_of_a_newer_version_is_refused_and_left_alone(void **unused)
{
	char *path = fresh_config();
	char *store = store_of(path);
	char before[4096];
	char after[4096];
	FILE *file;

	(void)unused;
	taken(path);
	for (int i = 0; i < 2; i++) {
		store_sql(path, i == 0 ? "PRAGMA user_version = 2" : "PRAGMA user_version = 2147483647");
		file = fopen(store, "re");
		th_check(file != NULL && fread(before, sizeof(before), 1, file) == 1 && fclose(file) == 0, "read");
		refused(path, ACCTLINK_BAD_STORE, "store.db", "newer");
		file = fopen(store, "re");
		th_check(file != NULL && fread(after, sizeof(after), 1, file) == 1 && fclose(file) == 0, "read");
		th_check(memcmp(before, after, sizeof(before)) == 0, "the store was written");
	}
	store_sql(path, "PRAGMA user_version = 1");
	taken(path);
	free(store);
	free(path);
}

static void a_database_of_another_program_is_refused_and_left_alone(void **unused)
{
	char *path = fresh_config();
	char *store = store_of(path);

	(void)unused;
	th_write_file(store, 0600, "");
	store_sql(path, "CREATE TABLE invoice (id INTEGER)");
	refused(path, ACCTLINK_BAD_STORE, "store.db", "not acctlink's");
	th_check(store_sql(path, "SELECT count(*) FROM sqlite_schema") == 1, "tables were made");
	free(store);
	free(path);
}

static void files_that_are_no_database_are_refused_and_left_alone(void **unused)
{
	char *text = th_printf("%2000s", "a letter to the bank");
	const char *const contents[] = { "x", "SQLite format 3", text };
	char *path = fresh_config();
	char *store = store_of(path);

	(void)unused;
	for (size_t i = 0; i < COUNT(contents); i++) {
		char *after;

		th_write_file(store, 0600, contents[i]);
		refused(path, ACCTLINK_BAD_STORE, "store.db", NULL);
		after = th_read_file(store);
		th_check(strcmp(after, contents[i]) == 0, "the file was written");
		free(after);
	}
	free(text);
	free(store);
	free(path);
}

static void a_store_that_is_a_directory_or_in_no_directory_is_refused(void **unused)
{
	char *path = fresh_config();
	char *store = store_of(path);

	(void)unused;
	th_check(mkdir(store, 0700) == 0, "mkdir");
	refused(path, ACCTLINK_BAD_STORE, "store.db", "folder");
	th_check(rmdir(store) == 0, "rmdir");
	rewrite(path, "store.db", "store.key/store.db");
	refused(path, ACCTLINK_BAD_STORE, "store.key", NULL);
	rewrite(path, "store.key/store.db", "no/such/store.db");
	refused(path, ACCTLINK_BAD_STORE, "no/such", NULL);
	free(store);
	free(path);
}

static void a_store_that_others_may_open_or_replace_is_refused(void **unused)
{
	char *path = fresh_config();
	char *store = store_of(path);
	char *dir = folder_of(path);

	(void)unused;
	taken(path);
	th_check(chmod(store, 0640) == 0, "chmod");
	refused(path, ACCTLINK_BAD_STORE, "store.db", "chmod 600");
	th_check(chmod(store, 0600) == 0 && chmod(dir, 0777) == 0, "chmod");
	refused(path, ACCTLINK_BAD_STORE, NULL, "chmod 700");
	th_check(chmod(dir, 0700) == 0, "chmod");
	taken(path);
	free(dir);
	free(store);
	free(path);
}

static void the_store_and_its_folder_are_private_whatever_the_umask(void **unused)
{
	char *path = fresh_config();
	char *dir;
	char *store;
	struct stat st;
	mode_t before;

	(void)unused;
	rewrite(path, "store.db", "deep/store.db");
	dir = beside(path, "deep");
	store = beside(path, "deep/store.db");
	before = umask(0);
	taken(path);
	th_check(umask(before) == 0, "the umask was changed");
	th_check(stat(dir, &st) == 0 && (st.st_mode & 07777) == 0700, "folder %o", st.st_mode & 07777);
	th_check(stat(store, &st) == 0 && (st.st_mode & 07777) == 0600, "store %o", st.st_mode & 07777);
	free(store);
	free(dir);
	free(path);
}

/* ---- init: keys -------------------------------------------------------------------------- */

static void write_key(const char *path, const char *name, char digit)
{
	char text[128];

	snprintf(text, sizeof(text), "%s%064d\n", name, 0);
	memset(strchr(text, '\n') - 64, digit, 64);
	th_write_file(path, 0600, text);
}

static void a_wrong_key_is_refused_and_the_missing_one_named(void **unused)
{
	char *path = fresh_config();
	char *key = beside(path, "store.key");

	(void)unused;
	write_key(key, "spring:", 'a');
	taken(path);
	write_key(key, "summer:", 'b');
	refused(path, ACCTLINK_BAD_KEY, NULL, "spring");
	write_key(key, "spring:", 'b'); /* the right name and another key */
	refused(path, ACCTLINK_BAD_KEY, NULL, "spring");
	write_key(key, "", 'a');
	refused(path, ACCTLINK_BAD_KEY, NULL, "spring");
	write_key(key, "spring:", 'a');
	taken(path);
	free(key);
	free(path);
}

static void a_key_file_that_is_not_one_is_refused(void **unused)
{
	static const char *const bad[] = { "", "\n", "0123", "spring:", ":00", "sp ring:00", "\xff" };
	char *path = fresh_config();
	char *key = beside(path, "store.key");
	char *good = th_read_file(key);
	char *text;

	(void)unused;
	for (size_t i = 0; i < COUNT(bad); i++) {
		th_write_file(key, 0600, bad[i]);
		refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	}
	text = th_printf("%.63sg", good);
	th_write_file(key, 0600, text);
	refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	free(text);
	text = th_printf("%s%s", good, good);
	th_write_file(key, 0600, text);
	refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	free(text);
	th_write_file(key, 0644, good);
	th_check(chmod(key, 0644) == 0, "chmod");
	refused(path, ACCTLINK_BAD_KEY, "store.key", "chmod 600");
	th_check(unlink(key) == 0, "unlink");
	refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	th_check(mkdir(key, 0700) == 0, "mkdir");
	refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	th_check(rmdir(key) == 0 && mkfifo(key, 0600) == 0, "mkfifo");
	refused(path, ACCTLINK_BAD_KEY, "store.key", NULL);
	free(good);
	free(key);
	free(path);
}

/* Root without the right to pass over modes is like any owner. */
static void become_an_ordinary_user(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	memset(data, 0, sizeof(data));
	th_check(syscall(SYS_capset, &header, data) == 0, "capset: %s", strerror(errno));
}

static int files_without_permission(void *ctx)
{
	const char *path = ctx;
	char *key = beside(path, "store.key");
	char *dir = folder_of(path);
	char *store = store_of(path);

	become_an_ordinary_user();
	th_check(chmod(path, 0) == 0, "chmod");
	refused(path, ACCTLINK_BAD_CONFIG, path, NULL);
	th_check(chmod(path, 0600) == 0 && chmod(dir, 0500) == 0, "chmod");
	refused(path, ACCTLINK_BAD_STORE, NULL, "Permission denied");
	th_check(access(store, F_OK) != 0, "a store is there");
	th_check(chmod(dir, 0700) == 0 && chmod(key, 0) == 0, "chmod");
	refused(path, ACCTLINK_BAD_KEY, "store.key", "Permission denied");
	th_check(chmod(key, 0600) == 0, "chmod");
	taken(path);
	/* A store that is there, in a folder where its log can't be made. */
	th_check(chmod(dir, 0500) == 0, "chmod");
	refused(path, ACCTLINK_STORE_DOWN, "store.db", NULL);
	th_check(chmod(dir, 0700) == 0 && chmod(store, 0400) == 0, "chmod");
	refused(path, ACCTLINK_STORE_DOWN, "store.db", NULL);
	th_check(chmod(store, 0) == 0, "chmod");
	refused(path, ACCTLINK_STORE_DOWN, "store.db", NULL);
	th_check(chmod(store, 0600) == 0, "chmod");
	taken(path);
	free(store);
	free(dir);
	free(key);
	return 0;
}

static void files_and_folders_without_permission_are_clear_errors(void **unused)
{
	char *path = fresh_config();

	(void)unused;
	th_join(th_fork(files_without_permission, path), 60000);
	free(path);
}

/* ---- init, use, shutdown ------------------------------------------------------------------- */

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

/* The provider's own clock moves with the first test that moves time; so a test
 * that does that has its own provider. */
static struct th_provider *own_provider(void)
{
	return th_provider_start(TH_PRACTICE, NULL);
}

static void a_handle_that_was_never_used_starts_nothing_and_ends_well(void **unused)
{
	char *path = fresh_config();
	char *owners = beside(path, "owners");
	size_t descriptors = open_descriptors();
	size_t threads = running_threads();
	struct th_host *host = th_host_open(path, NULL);

	(void)unused;
	th_check(open_descriptors() == descriptors, "init left %zu descriptors open, %zu before", open_descriptors(),
		descriptors);
	th_check(running_threads() == threads, "init started a thread");
	th_check(access(owners, F_OK) != 0, "init made an owner");
	th_host_free(&host);
	th_check(open_descriptors() == descriptors && running_threads() == threads, "shutdown left something");
	free(owners);
	free(path);
}

static void init_takes_a_config_path_without_its_nul(void **unused)
{
	char *path = fresh_config();
	struct edge at = edge_new(path, strlen(path));
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink *handle = NULL;
	acctlink_api api;

	(void)unused;
	th_plugin_load(&api);
	args.config_path = (acctlink_str){ (const char *)at.at, at.len };
	th_check(api.init(&args, &handle, NULL) == ACCTLINK_OK && handle != NULL, "init");
	th_check(api.shutdown(handle, 0, NULL) == ACCTLINK_OK, "shutdown");
	acctlink_dl_close(&api);
	edge_free(&at);
	free(path);
}

static int move_on_after_init(void *ctx)
{
	char *dir = folder_of(ctx);
	struct th_host *host;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	rewrite(ctx, dir, ".");
	th_check(chdir(dir) == 0, "chdir");
	host = th_host_open("acctlink.conf", NULL);
	th_check(chdir("/") == 0, "chdir");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	th_check(th_inspect(host, "ana", NULL, &result, &err) == ACCTLINK_NOT_LINKED, "%s", th_error_text(&err));
	th_host_free(&host);
	free(dir);
	return 0;
}

static void relative_paths_start_where_init_was_called(void **unused)
{
	char *path = fresh_config();
	char *dir = folder_of(path);
	char *store = th_printf("path = \"%s/", dir);
	char *owners = beside(path, "owners");

	(void)unused;
	rewrite(path, store, "path = \"");
	th_join(th_fork(move_on_after_init, path), 60000);
	th_check(access(owners, F_OK) == 0, "the store was used elsewhere");
	free(owners);
	free(store);
	free(dir);
	free(path);
}

static void loading_twice_gives_one_plugin_that_outlives_the_first_unloading(void **unused)
{
	acctlink_api one;
	acctlink_api two;
	uint32_t (*version)(void);
	char *path = fresh_config();
	struct th_host *host = th_host_open(path, NULL);

	(void)unused;
	th_plugin_load(&one);
	th_plugin_load(&two);
	th_check(one.library == two.library && one.init == two.init, "two copies were loaded");
	acctlink_dl_close(&one);
	th_check(one.library == NULL && one.init == NULL, "the table is empty after closing");
	th_check(two.abi_version() == ACCTLINK_ABI_VERSION, "version");
	version = two.abi_version;
	acctlink_dl_close(&two);
	/* Threads of a library that is gone would crash: it stays (nodelete). */
	th_host_free(&host);
	th_check(version() == ACCTLINK_ABI_VERSION, "the code is gone");
	free(path);
}

static void a_wrong_path_or_another_library_is_told_apart_by_the_loader(void **unused)
{
	acctlink_api api;
	char why[256];

	(void)unused;
	memset(&api, 0xa5, sizeof(api));
	th_check(acctlink_dl_open("/no/such/acctlink.so", &api, why, sizeof(why)) == -1
			&& strstr(why, "/no/such/acctlink.so") != NULL,
		"%s", why);
	th_check(api.library == NULL && api.init == NULL, "the table is not empty");
	th_check(acctlink_dl_open("libsqlite3.so.0", &api, why, sizeof(why)) == -1
			&& strstr(why, "acctlink_abi_version") != NULL,
		"%s", why);
	th_check(api.library == NULL, "the table is not empty");
}

/* ---- several handles ------------------------------------------------------------------------- */

static bool second_sees_the_unlink(void *ctx)
{
	char *bearer = NULL;
	acctlink_status rc = th_bearer(ctx, "ana", NULL, &bearer, NULL, NULL);

	free(bearer);
	return rc == ACCTLINK_NOT_LINKED;
}

static void two_handles_on_one_store_see_each_other_s_links(void **unused)
{
	const struct th_config quick = { .lines = "poll_interval = 0.1;" };
	struct th_host *one = th_host_new(provider, &quick);
	struct th_host *two = th_host_open(one->config_path, one->clock);
	acctlink_bearer_info seen = ACCTLINK_BEARER_INFO_INIT;
	char *first;
	char *second;

	(void)unused;
	th_check(one->handle != two->handle, "one handle");
	th_must_link(one, provider, "ana", NULL, NULL);
	first = th_must_bearer(one, "ana", NULL, NULL);
	second = th_must_bearer(two, "ana", NULL, &seen);
	th_check(strcmp(first, second) == 0 && seen.generation == 1, "another bearer");
	th_check(th_lines_count(one->events, "LINKED") == 1 && th_lines_count(two->events, NULL) == 0,
		"each handle has its own events");
	th_check(th_unlink(one, "ana", NULL, NULL, NULL) == ACCTLINK_OK, "unlink");
	th_wait_until(second_sees_the_unlink, two, 10000, "the unlink at the other handle");
	th_must_link(two, provider, "ana", NULL, NULL);
	th_host_free(&two);
	/* The end of one leaves the other its connections, locks and threads. */
	free(second);
	second = th_must_bearer(one, "ana", NULL, NULL);
	th_check(strcmp(first, second) != 0, "the bearer of the link that was ended");
	th_must_link(one, provider, "ben", NULL, NULL);
	free(first);
	free(second);
	th_host_free(&one);
}

static void handles_on_different_stores_know_nothing_of_each_other(void **unused)
{
	struct th_host *one = th_host_new(provider, NULL);
	struct th_host *two = th_host_new(provider, NULL);
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;

	(void)unused;
	th_must_link(one, provider, "ana", NULL, NULL);
	th_check(th_inspect(two, "ana", NULL, &result, NULL) == ACCTLINK_NOT_LINKED, "the link is in both stores");
	th_check(th_inspect(one, "ana", NULL, &result, NULL) == ACCTLINK_OK, "the link is in neither");
	th_host_free(&one);
	th_host_free(&two);
}

/* ---- keys of a store in use ---------------------------------------------------------------------- */

static void name_keys(const char *config_path, const char *names)
{
	char *text = th_read_file(config_path);
	char *start = strstr(text, "key_file");
	char *changed;

	th_check(start != NULL, "no key_file");
	changed = th_printf("%.*skey_files = %s;%s", (int)(start - text), text, names, strchr(start, '\n'));
	th_write_file(config_path, 0600, changed);
	free(changed);
	free(text);
}

static void a_second_key_seals_and_the_first_still_opens(void **unused)
{
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, NULL);
	char *path = th_printf("%s", host->config_path);
	char *one = beside(path, "store.key");
	char *two = beside(path, "second.key");
	char *both = th_printf("[ \"%s\", \"%s\" ]", two, one);
	char *old = th_printf("[ \"%s\" ]", one);
	char *new = th_printf("[ \"%s\" ]", two);
	acctlink_error err = { 0 };
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	char *bearer = NULL;
	char *same;

	(void)unused;
	write_key(two, "second:", 'c');
	th_must_link(host, own, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	name_keys(path, both);
	th_host_restart(host);
	same = th_must_bearer(host, "ana", NULL, &info);
	th_check(strcmp(bearer, same) == 0 && info.generation == 1, "what the first key sealed opens");
	th_advance(host, own, HOUR_MS);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 2 && store_sql(path, "SELECT count(*) FROM link WHERE key_id = 'second'") == 1,
		"the second key seals what comes");
	/* Without it the row is closed, and says so; with it again nothing was lost. */
	name_keys(path, old);
	th_host_restart(host);
	free(bearer);
	bearer = NULL;
	th_check(th_bearer(host, "ana", NULL, &bearer, NULL, &err) == ACCTLINK_BAD_KEY
			&& strstr(err.message, "second") != NULL,
		"%s", th_error_text(&err));
	th_check(bearer == NULL && th_count(own, "token", "refresh_token") == 1, "nothing was sent");
	name_keys(path, both);
	th_host_restart(host);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 2, "generation %llu", (unsigned long long)info.generation);
	th_host_free(&host);
	/* The store was made under the first: it can't be left out. */
	name_keys(path, new);
	refused(path, ACCTLINK_BAD_KEY, NULL, "isn't configured");
	free(same);
	free(new);
	free(old);
	free(both);
	free(two);
	free(one);
	free(path);
	th_provider_stop(&own);
}

/* ---- fork ------------------------------------------------------------------------------------------ */

static int use_in_child(void *ctx)
{
	struct th_host *host = ctx;

	th_must_link(host, provider, "child", NULL, NULL);
	free(th_must_bearer(host, "child", NULL, NULL));
	th_host_free(&host);
	return 0;
}

static void init_then_fork_then_first_use_works_in_each_process(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	pid_t children[3];

	(void)unused;
	/* Nor is a reload a first use: servers check their config before they fork. */
	th_check(host->api.reload(host->handle, NULL) == ACCTLINK_OK, "reload");
	for (size_t i = 0; i < COUNT(children); i++)
		children[i] = th_fork(use_in_child, host);
	th_must_link(host, provider, "parent", NULL, NULL);
	for (size_t i = 0; i < COUNT(children); i++)
		th_join(children[i], 60000);
	free(th_must_bearer(host, "child", NULL, NULL));
	free(th_must_bearer(host, "parent", NULL, NULL));
	th_host_free(&host);
}

static void forked(const char *what, acctlink_status rc, const acctlink_error *err)
{
	th_check(rc == ACCTLINK_FORKED && err->status == ACCTLINK_FORKED && err->message[0] != '\0', "%s: %d", what,
		(int)rc);
}

static int use_of_the_parent_s_handle(void *ctx)
{
	struct th_host *host = ctx;
	static struct th_flow flow;
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args list_args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	acctlink_error err = { 0 };
	char *bearer = NULL;

	list.items = &item;
	list.capacity = 1;
	list_args.user = th_str("ana");
	forked("begin", th_begin(host, "ana", NULL, &flow, &err), &err);
	forked("on_callback", th_callback(host, "ana", "code=a&state=b", NULL, NULL, &err), &err);
	forked("get_bearer", th_bearer(host, "ana", NULL, &bearer, NULL, &err), &err);
	forked("unlink", th_unlink(host, "ana", NULL, NULL, &err), &err);
	forked("inspect", th_inspect(host, "ana", NULL, &inspect, &err), &err);
	forked("list", host->api.list(host->handle, &list_args, &list, &err), &err);
	forked("report_rejected", th_report(host, "ana", NULL, 1, &err), &err);
	forked("reload", host->api.reload(host->handle, &err), &err);
	forked("shutdown", host->api.shutdown(host->handle, 0, &err), &err);
	return 0;
}

static int handle_of_its_own(void *ctx)
{
	struct th_host *inherited = ctx;
	struct th_host *own;

	(void)use_of_the_parent_s_handle(inherited);
	own = th_host_open(inherited->config_path, inherited->clock);
	free(th_must_bearer(own, "ana", NULL, NULL));
	th_must_link(own, provider, "child", NULL, NULL);
	th_host_free(&own);
	return 0;
}

static int handle_beside_the_inherited_one(void *ctx)
{
	struct th_host *inherited = ctx;
	struct th_host *own = th_host_open(inherited->config_path, inherited->clock);

	free(th_must_bearer(own, "ana", NULL, NULL));
	th_must_link(own, provider, "second child", NULL, NULL);
	th_host_free(&own);
	return 0;
}

/* A process that was forked from one with threads. */
#ifdef __SANITIZE_THREAD__
#define THREADS_AFTER_FORK 0
#else
#define THREADS_AFTER_FORK 1
#endif

static void in_a_child_of_a_used_handle_every_call_is_forked_and_the_parent_goes_on(void **unused)
{
	int (*const lives[])(void *) = { handle_of_its_own, handle_beside_the_inherited_one };
	struct th_host *host = th_host_new(provider, NULL);
	char *owners;
	char *before;
	char *after;
	size_t files;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	before = th_must_bearer(host, "ana", NULL, NULL);
	owners = beside(host->config_path, "owners");
	files = count_entries(owners);
	th_join(th_fork(use_of_the_parent_s_handle, host), 60000);
	if (!THREADS_AFTER_FORK)
		printf("# handles in the children are left out: ThreadSanitizer allows no threads there\n");
	for (size_t i = 0; THREADS_AFTER_FORK && i < COUNT(lives); i++)
		th_join(th_fork(lives[i], host), 60000);
	th_check(count_entries(owners) == files, "the parent's owner file is gone");
	after = th_must_bearer(host, "ana", NULL, NULL);
	th_check(strcmp(before, after) == 0, "another bearer");
	if (THREADS_AFTER_FORK) {
		free(th_must_bearer(host, "child", NULL, NULL));
		free(th_must_bearer(host, "second child", NULL, NULL));
	}
	th_must_link(host, provider, "parent", NULL, NULL);
	free(after);
	free(before);
	free(owners);
	th_host_free(&host);
}

static int end_unused(void *ctx)
{
	struct th_host *host = ctx;
	acctlink_error err = { 0 };

	th_check(host->api.shutdown(host->handle, 0, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	return 0;
}

static void shutdown_in_a_child_of_an_unused_handle_is_good_and_leaves_the_parent_s(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);

	(void)unused;
	th_join(th_fork(end_unused, host), 60000);
	th_must_link(host, provider, "ana", NULL, NULL);
	th_host_free(&host);
}

/* ---- reload -------------------------------------------------------------------------------------------- */

static acctlink_status reload(struct th_host *host, acctlink_error *err)
{
	memset(err, 0, sizeof(*err));
	return host->api.reload(host->handle, err);
}

static void must_reload(struct th_host *host)
{
	acctlink_error err;

	th_check(reload(host, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
}

static char *redirect_uri_of(struct th_host *host)
{
	static struct th_flow flow;
	acctlink_error err = { 0 };

	th_check(th_begin(host, "ben", NULL, &flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	return th_param(flow.url, "redirect_uri");
}

static void a_good_reload_holds_for_the_next_call(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *uri = redirect_uri_of(host);

	(void)unused;
	th_check(strcmp(uri, "https://app.example/cb") == 0, "%s", uri);
	free(uri);
	rewrite(host->config_path, "https://app.example/cb", "https://app.example/two");
	must_reload(host);
	uri = redirect_uri_of(host);
	th_check(strcmp(uri, "https://app.example/two") == 0, "%s", uri);
	free(uri);
	th_must_link(host, provider, "ana", NULL, NULL);
	must_reload(host);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
}

static void a_bad_reload_leaves_the_old_config_in_force(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *whole = th_read_file(host->config_path);
	acctlink_error err;
	char *uri;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	rewrite(host->config_path, "https://app.example/cb", "https://app.example/two\";\n\tno_such_key = \"x");
	th_check(reload(host, &err) == ACCTLINK_BAD_CONFIG && strstr(err.where, "acctlink.conf:") != NULL
			&& strstr(err.message, "no_such_key") != NULL,
		"%s", th_error_text(&err));
	th_check(host->api.reload(host->handle, NULL) == ACCTLINK_BAD_CONFIG, "without an error");
	for (size_t len = 0; len < strlen(whole) - 4; len += 37) {
		char *cut = th_printf("%.*s", (int)len, whole);

		th_write_file(host->config_path, 0600, cut);
		th_check(reload(host, &err) == ACCTLINK_BAD_CONFIG, "cut at %zu: %s", len, th_error_text(&err));
		free(cut);
	}
	th_check(
		unlink(host->config_path) == 0 && reload(host, &err) == ACCTLINK_BAD_CONFIG, "%s", th_error_text(&err));
	uri = redirect_uri_of(host);
	th_check(strcmp(uri, "https://app.example/cb") == 0, "%s", uri);
	free(uri);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_write_file(host->config_path, 0600, whole);
	must_reload(host);
	free(th_must_bearer(host, "ana", NULL, NULL));
	free(whole);
	th_host_free(&host);
}

static void store_and_key_paths_must_not_change_on_reload(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);
	char *other = beside(host->config_path, "other.db");
	char *key = beside(host->config_path, "other.key");
	acctlink_error err;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	rewrite(host->config_path, "store.db", "other.db");
	th_check(reload(host, &err) == ACCTLINK_BAD_CONFIG && strstr(err.message, "restart") != NULL, "%s",
		th_error_text(&err));
	th_check(access(other, F_OK) != 0, "another store was made");
	rewrite(host->config_path, "other.db", "store.db");
	write_key(key, "", 'd');
	rewrite(host->config_path, "store.key", "other.key");
	th_check(reload(host, &err) == ACCTLINK_BAD_CONFIG && strstr(err.message, "restart") != NULL, "%s",
		th_error_text(&err));
	rewrite(host->config_path, "other.key", "store.key");
	must_reload(host);
	free(th_must_bearer(host, "ana", NULL, NULL));
	free(key);
	free(other);
	th_host_free(&host);
}

static void check_readable(struct th_host *host, const char *bearer)
{
	acctlink_inspect_result inspect = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_list_result list = ACCTLINK_LIST_RESULT_INIT;
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_item item;
	char *served;

	th_check(th_inspect(host, "ana", NULL, &inspect, NULL) == ACCTLINK_OK && inspect.state == ACCTLINK_STATE_LINKED
			&& strcmp(inspect.provider, "test") == 0,
		"inspect");
	args.user = th_str("ana");
	list.items = &item;
	list.capacity = 1;
	th_check(host->api.list(host->handle, &args, &list, NULL) == ACCTLINK_OK && list.count == 1
			&& strcmp(item.link_id, inspect.link_id) == 0,
		"list");
	served = th_must_bearer(host, "ana", NULL, NULL);
	th_check(strcmp(served, bearer) == 0, "another bearer is served");
	free(served);
}

static void links_of_a_provider_that_is_gone_stay_readable_and_send_nothing(void **unused)
{
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, NULL);
	static struct th_flow flow;
	acctlink_error err = { 0 };
	char *bearer;
	char *none = NULL;

	(void)unused;
	th_must_link(host, own, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	rewrite(host->config_path, "\ttest = {", "\tother = {");
	must_reload(host);
	check_readable(host, bearer);
	th_check(th_begin(host, "ana", NULL, &flow, &err) == ACCTLINK_UNKNOWN_PROVIDER, "%s", th_error_text(&err));
	th_host_restart(host); /* now nothing is held */
	check_readable(host, bearer);
	th_advance(host, own, HOUR_MS);
	th_check(th_bearer(host, "ana", NULL, &none, NULL, &err) == ACCTLINK_UNKNOWN_PROVIDER
			&& strstr(err.message, "test") != NULL,
		"%s", th_error_text(&err));
	th_check(none == NULL && th_count(own, "token", "refresh_token") == 0, "a refresh was sent");
	/* With the provider back all is as before. */
	rewrite(host->config_path, "\tother = {", "\ttest = {");
	must_reload(host);
	none = th_must_bearer(host, "ana", NULL, NULL);
	th_check(strcmp(none, bearer) != 0 && th_count(own, "token", "refresh_token") == 1, "one refresh");
	free(none);
	free(bearer);
	th_host_free(&host);
	th_provider_stop(&own);
}

/* The id_token is the bearer here; the access token would be refused by the bank. */
static void a_provider_that_is_gone_never_turns_one_token_into_another(void **unused)
{
	const struct th_config akoya_like = { .provider_lines = "bearer = 'id_token';" };
	struct th_host *host = th_host_new(provider, &akoya_like);
	char *bearer;

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	bearer = th_must_bearer(host, "ana", NULL, NULL);
	th_check(strncmp(bearer, "ey", 2) == 0, "the bearer is no id_token: %.8s", bearer);
	rewrite(host->config_path, "\ttest = {", "\tother = {");
	must_reload(host);
	check_readable(host, bearer);
	th_host_restart(host);
	check_readable(host, bearer);
	free(bearer);
	th_host_free(&host);
}

static void a_consent_of_a_provider_that_is_gone_waits_until_it_is_back(void **unused)
{
	static struct th_flow flow;
	struct th_host *host = th_host_new(provider, NULL);
	acctlink_callback_result result = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_error err = { 0 };
	int sent = th_count(provider, "token", NULL);
	char *params;

	(void)unused;
	th_check(th_begin(host, "ana", NULL, &flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	params = th_consent(provider, flow.url);
	rewrite(host->config_path, "\ttest = {", "\tother = {");
	must_reload(host);
	for (int i = 0; i < 2; i++)
		th_check(th_callback(host, "ana", params, flow.cookie, &result, &err) == ACCTLINK_UNKNOWN_PROVIDER,
			"%s", th_error_text(&err));
	th_check(th_count(provider, "token", NULL) == sent, "the code was sent");
	rewrite(host->config_path, "\tother = {", "\ttest = {");
	must_reload(host);
	th_check(th_callback(host, "ana", params, flow.cookie, &result, &err) == ACCTLINK_OK && result.flags == 0, "%s",
		th_error_text(&err));
	th_check(th_count(provider, "token", NULL) == sent + 1, "one exchange");
	free(params);
	th_host_free(&host);
}

static bool nothing_left_to_revoke(void *ctx)
{
	return store_sql(((struct th_host *)ctx)->config_path, "SELECT count(*) FROM link WHERE revoke_until > 0") == 0;
}

static void a_link_of_a_provider_that_is_gone_is_revoked_when_it_is_back(void **unused)
{
	const struct th_config quick = { .lines = "poll_interval = 0.1;" };
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, &quick);
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_error err = { 0 };

	(void)unused;
	th_must_link(host, own, "ana", NULL, NULL);
	rewrite(host->config_path, "\ttest = {", "\tother = {");
	must_reload(host);
	th_check(th_unlink(host, "ana", NULL, &result, &err) == ACCTLINK_OK
			&& result.revocation == ACCTLINK_REVOCATION_PENDING,
		"%s", th_error_text(&err));
	th_check(th_count(own, "revoke", NULL) == 0 && th_grant_alive(own, 0), "a revocation was sent");
	rewrite(host->config_path, "\tother = {", "\ttest = {");
	must_reload(host);
	th_advance(host, own, HOUR_MS);
	th_wait_until(nothing_left_to_revoke, host, 20000, "the revocation");
	th_check(!th_grant_alive(own, 0), "the grant lives");
	th_host_free(&host);
	th_provider_stop(&own);
}

static void *ask_for_the_bearer(void *ctx)
{
	free(th_must_bearer(ctx, "ana", NULL, NULL));
	return NULL;
}

static void a_refresh_under_way_keeps_the_config_that_it_began_with(void **unused)
{
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, NULL);
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	pthread_t asker;

	(void)unused;
	th_must_link(host, own, "ana", NULL, NULL);
	th_advance(host, own, HOUR_MS);
	th_script(own, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_check(pthread_create(&asker, NULL, ask_for_the_bearer, host) == 0, "pthread_create");
	th_wait_held(own, "refresh", 1);
	rewrite(host->config_path, "\ttest = {", "\tother = {");
	must_reload(host);
	must_reload(host);
	th_release(own, "refresh");
	pthread_join(asker, NULL);
	th_check(th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_OK && result.generation == 2,
		"generation %llu", (unsigned long long)result.generation);
	th_host_free(&host);
	th_provider_stop(&own);
}

static void reload_or_work(void *ctx, unsigned i)
{
	struct th_host *host = ctx;
	static _Thread_local struct th_flow flow;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };

	for (int round = 0; round < 25; round++) {
		if (i % 4 == 0)
			must_reload(host);
		else if (i % 4 == 1)
			th_check(th_begin(host, "ben", NULL, &flow, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
		else if (i % 4 == 2)
			free(th_must_bearer(host, "ana", NULL, NULL));
		else
			th_check(
				th_inspect(host, "ana", NULL, &result, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	}
}

static void reloads_beside_calls_disturb_nobody(void **unused)
{
	struct th_host *host = th_host_new(provider, NULL);

	(void)unused;
	th_must_link(host, provider, "ana", NULL, NULL);
	th_parallel(8, reload_or_work, host);
	th_host_free(&host);
}

/* ---- shutdown --------------------------------------------------------------------------------------------- */

struct late_call {
	struct th_host *host;
	struct th_provider *provider;
	acctlink_status rc;
	char *bearer;
	atomic_bool returned;
};

static void *call_late(void *ctx)
{
	struct late_call *call = ctx;

	call->rc = th_bearer(call->host, "ana", NULL, &call->bearer, NULL, NULL);
	atomic_store(&call->returned, true);
	return NULL;
}

static bool claim_is_open(void *ctx)
{
	return store_sql(((struct th_host *)ctx)->config_path, "SELECT claim_outcome FROM link") == 1;
}

/* A refresh that the provider holds back, with one caller who waits for it. */
static pthread_t hold_a_refresh(struct th_host *host, struct th_provider *own, struct late_call *call)
{
	pthread_t asker;

	memset(call, 0, sizeof(*call));
	call->host = host;
	call->provider = own;
	th_must_link(host, own, "ana", NULL, NULL);
	th_advance(host, own, HOUR_MS);
	th_script(own, "token", "refresh_token", 1, "{'hold':'refresh'}");
	th_check(pthread_create(&asker, NULL, call_late, call) == 0, "pthread_create");
	th_wait_held(own, "refresh", 1);
	th_wait_until(claim_is_open, host, 10000, "the claim");
	return asker;
}

static bool has_returned(void *ctx)
{
	return atomic_load(&((struct late_call *)ctx)->returned);
}

/* The waiting call returns as soon as the shutdown has begun. */
static void *release_later(void *ctx)
{
	struct late_call *call = ctx;

	th_wait_until(has_returned, call, 20000, "the end of the waiting call");
	th_release(call->provider, "refresh");
	return NULL;
}

static void shutdown_finishes_and_keeps_an_exchange_that_was_sent(void **unused)
{
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	struct late_call call;
	pthread_t asker = hold_a_refresh(host, own, &call);
	pthread_t helper;

	(void)unused;
	th_check(pthread_create(&helper, NULL, release_later, &call) == 0, "pthread_create");
	th_check(host->api.shutdown(host->handle, 20000, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	host->handle = NULL;
	pthread_join(asker, NULL);
	pthread_join(helper, NULL);
	th_check(call.rc == ACCTLINK_SHUT_DOWN && call.bearer == NULL, "the waiting call: %d", (int)call.rc);
	th_host_restart(host);
	free(th_must_bearer(host, "ana", NULL, &info));
	th_check(info.generation == 2 && th_count(own, "token", "refresh_token") == 1,
		"generation %llu after %d refreshes", (unsigned long long)info.generation,
		th_count(own, "token", "refresh_token"));
	th_host_free(&host);
	th_provider_stop(&own);
}

static void an_exchange_cut_off_at_the_deadline_is_told_and_known_to_the_store(void **unused)
{
	struct th_provider *own = own_provider();
	struct th_host *host = th_host_new(own, NULL);
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	struct late_call call;
	size_t threads = running_threads();
	pthread_t asker = hold_a_refresh(host, own, &call);

	(void)unused;
	th_check(host->api.shutdown(host->handle, 200, &err) == ACCTLINK_TIMED_OUT && err.status == ACCTLINK_TIMED_OUT,
		"%s", th_error_text(&err));
	host->handle = NULL;
	pthread_join(asker, NULL);
	th_check(call.rc == ACCTLINK_SHUT_DOWN, "the waiting call: %d", (int)call.rc);
	th_check(running_threads() == threads, "%zu threads are left, %zu before", running_threads(), threads);
	th_release(own, "refresh");
	th_host_restart(host);
	th_check(th_inspect(host, "ana", NULL, &result, NULL) == ACCTLINK_OK && result.generation == 1
			&& result.claim == ACCTLINK_CLAIM_UNKNOWN,
		"generation %llu, claim %d", (unsigned long long)result.generation, (int)result.claim);
	th_host_free(&host);
	th_provider_stop(&own);
}

static void first_call(void *ctx, unsigned i)
{
	struct th_host *host = ctx;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_status rc = th_inspect(host, "ana", NULL, &result, NULL);

	(void)i;
	th_check(rc == ACCTLINK_NOT_LINKED, "%d", (int)rc);
}

static void many_first_calls_at_once_make_one_runtime(void **unused)
{
	char *path = fresh_config();
	char *owners = beside(path, "owners");

	(void)unused;
	for (int round = 0; round < 10; round++) {
		struct th_host *host = th_host_open(path, NULL);

		th_parallel(16, first_call, host);
		th_check(count_entries(owners) == 1, "%zu owners", count_entries(owners));
		th_host_free(&host);
		th_check(count_entries(owners) == 0, "%zu owners after the end", count_entries(owners));
	}
	free(owners);
	free(path);
}

struct opening {
	struct th_host *host;
	pthread_barrier_t start;
	acctlink_status rc;
};

enum { DEAD_OWNERS = 1000 };

/* Makes the first use slow: the folder of owners is swept before. */
static void many_dead_owners(const char *path)
{
	char *owners = beside(path, "owners");

	th_check(mkdir(owners, 0700) == 0, "mkdir");
	for (int i = 0; i < DEAD_OWNERS; i++) {
		char *file = th_printf("%s/%032x", owners, i);

		th_write_file(file, 0600, "");
		free(file);
	}
	free(owners);
}

static bool sweep_has_begun(void *ctx)
{
	char *owners = beside(ctx, "owners");
	size_t left = count_entries(owners);

	free(owners);
	return left < DEAD_OWNERS;
}

static void *make_the_first_call(void *ctx)
{
	struct opening *opening = ctx;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;

	opening->rc = th_inspect(opening->host, "ana", NULL, &result, NULL);
	return NULL;
}

static void shutdown_waits_for_a_first_call_that_is_still_starting(void **unused)
{
	char *path = fresh_config();
	struct opening opening = { .host = th_host_open(path, NULL) };
	acctlink_error err = { 0 };
	pthread_t caller;

	(void)unused;
	many_dead_owners(path);
	th_check(pthread_create(&caller, NULL, make_the_first_call, &opening) == 0, "pthread_create");
	th_wait_until(sweep_has_begun, path, 10000, "the first call");
	th_check(opening.host->api.shutdown(opening.host->handle, 0, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	opening.host->handle = NULL;
	pthread_join(caller, NULL);
	th_check(opening.rc == ACCTLINK_SHUT_DOWN || opening.rc == ACCTLINK_NOT_LINKED, "%d", (int)opening.rc);
	th_host_free(&opening.host);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_config_is_an_error_that_names_it),
		cmocka_unit_test(a_config_that_is_a_directory_is_an_error),
		cmocka_unit_test(a_config_cut_off_anywhere_is_an_error_with_file_and_line),
		cmocka_unit_test(an_unknown_key_is_an_error_with_its_line_and_the_nearest_known_key),
		cmocka_unit_test(a_config_with_a_secret_that_others_may_read_is_refused),
		cmocka_unit_test(a_store_of_a_newer_version_is_refused_and_left_alone),
		cmocka_unit_test(a_database_of_another_program_is_refused_and_left_alone),
		cmocka_unit_test(files_that_are_no_database_are_refused_and_left_alone),
		cmocka_unit_test(a_store_that_is_a_directory_or_in_no_directory_is_refused),
		cmocka_unit_test(a_store_that_others_may_open_or_replace_is_refused),
		cmocka_unit_test(the_store_and_its_folder_are_private_whatever_the_umask),
		cmocka_unit_test(a_wrong_key_is_refused_and_the_missing_one_named),
		cmocka_unit_test(a_key_file_that_is_not_one_is_refused),
		cmocka_unit_test(files_and_folders_without_permission_are_clear_errors),
		cmocka_unit_test(a_handle_that_was_never_used_starts_nothing_and_ends_well),
		cmocka_unit_test(init_takes_a_config_path_without_its_nul),
		cmocka_unit_test(relative_paths_start_where_init_was_called),
		cmocka_unit_test(loading_twice_gives_one_plugin_that_outlives_the_first_unloading),
		cmocka_unit_test(a_wrong_path_or_another_library_is_told_apart_by_the_loader),
		cmocka_unit_test(two_handles_on_one_store_see_each_other_s_links),
		cmocka_unit_test(handles_on_different_stores_know_nothing_of_each_other),
		cmocka_unit_test(a_second_key_seals_and_the_first_still_opens),
		cmocka_unit_test(init_then_fork_then_first_use_works_in_each_process),
		cmocka_unit_test(in_a_child_of_a_used_handle_every_call_is_forked_and_the_parent_goes_on),
		cmocka_unit_test(shutdown_in_a_child_of_an_unused_handle_is_good_and_leaves_the_parent_s),
		cmocka_unit_test(a_good_reload_holds_for_the_next_call),
		cmocka_unit_test(a_bad_reload_leaves_the_old_config_in_force),
		cmocka_unit_test(store_and_key_paths_must_not_change_on_reload),
		cmocka_unit_test(links_of_a_provider_that_is_gone_stay_readable_and_send_nothing),
		cmocka_unit_test(a_provider_that_is_gone_never_turns_one_token_into_another),
		cmocka_unit_test(a_consent_of_a_provider_that_is_gone_waits_until_it_is_back),
		cmocka_unit_test(a_link_of_a_provider_that_is_gone_is_revoked_when_it_is_back),
		cmocka_unit_test(a_refresh_under_way_keeps_the_config_that_it_began_with),
		cmocka_unit_test(reloads_beside_calls_disturb_nobody),
		cmocka_unit_test(shutdown_finishes_and_keeps_an_exchange_that_was_sent),
		cmocka_unit_test(an_exchange_cut_off_at_the_deadline_is_told_and_known_to_the_store),
		cmocka_unit_test(many_first_calls_at_once_make_one_runtime),
		cmocka_unit_test(shutdown_waits_for_a_first_call_that_is_still_starting),
	};

	return cmocka_run_group_tests_name("life", tests, start_provider, stop_provider);
}
