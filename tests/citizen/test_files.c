/* SPDX-License-Identifier: MIT
 * Files as administrators lay them out, through the plugin's own functions and with
 * a host that works in the root folder, as daemons do: configs in several files,
 * links and modes of config, secret and key, the line break at the end of a secret,
 * and the files beside the store. The reader's finer points are in unit/test_config.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "guest.h"

static struct th_provider *provider;

static int start_provider(void **unused)
{
	(void)unused;
	if (chdir("/") != 0) /* for all tests; paths of the environment are absolute by now */
		return -1;
	provider = th_provider_start(TH_PRACTICE, NULL);
	return 0;
}

static int stop_provider(void **unused)
{
	(void)unused;
	th_provider_stop(&provider);
	return 0;
}

/* ---- a config in several files ------------------------------------------------------------- */

struct site {
	char *dir;
	char *config; /* DIR/acctlink.conf: takes the next in by a relative path */
	char *banks;  /* DIR/conf.d/banks.conf: does so as well */
	char *bank;   /* DIR/conf.d/each/test.conf: the provider, with client_secret_file */
	char *secret; /* DIR/client.secret */
	char *key;    /* DIR/store.key */
};

static char *in(const struct site *site, const char *name)
{
	return th_printf("%s/%s", site->dir, name);
}

static void write_config(const struct site *site, const char *more)
{
	char *text = th_printf(
		"store = {\n\tpath = \"%s/store.db\";\n\tkey_file = \"%s\";\n};\n%s", site->dir, site->key, more);

	th_write_file(site->config, 0600, text);
	free(text);
}

static void write_bank(const struct site *site, const char *secret_line)
{
	char *text = th_printf(
		"test = {\n\tprofile = \"oidc\";\n\tissuer = \"%s\";\n\tclient_id = \"test-client\";\n\t%s\n"
		"\tredirect_uri = \"https://app.example/cb\";\n\tca_file = \"%s\";\n};\n",
		provider->issuer, secret_line, provider->ca_file);

	th_write_file(site->bank, 0600, text);
	free(text);
}

static void write_banks(const struct site *site, const char *include)
{
	char *text = th_printf("# all banks\nproviders = {\n@include \"%s\"\n};\n", include);

	th_write_file(site->banks, 0600, text);
	free(text);
}

static void set_mode(const char *path, mode_t mode)
{
	th_check(chmod(path, mode) == 0, "chmod %s: %s", path, strerror(errno));
}

static struct site *site_new(void)
{
	struct site *site = calloc(1, sizeof(*site));
	char *folder;

	th_check(site != NULL, "no memory");
	site->dir = th_temp_dir();
	site->config = in(site, "acctlink.conf");
	site->banks = in(site, "conf.d/banks.conf");
	site->bank = in(site, "conf.d/each/test.conf");
	site->secret = in(site, "client.secret");
	site->key = in(site, "store.key");
	folder = in(site, "conf.d");
	th_check(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
	free(folder);
	folder = in(site, "conf.d/each");
	th_check(mkdir(folder, 0755) == 0, "mkdir: %s", strerror(errno));
	free(folder);
	free(th_config_write(site->dir, provider, NULL)); /* makes the key */
	write_config(site, "@include \"conf.d/banks.conf\"\n");
	write_banks(site, "each/test.conf");
	write_bank(site, "client_secret_file = \"../../client.secret\";");
	th_write_file(site->secret, 0600, "test-secret");
	return site;
}

static void site_free(struct site **site)
{
	free((*site)->dir);
	free((*site)->config);
	free((*site)->banks);
	free((*site)->bank);
	free((*site)->secret);
	free((*site)->key);
	free(*site);
	*site = NULL;
}

static int link_once(void *ctx)
{
	const struct site *site = ctx;
	struct th_host *host = th_host_open(site->config, NULL);

	th_must_link(host, provider, "ana", NULL, NULL);
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	return 0;
}

/* The whole config serves: the provider takes the client by its secret. */
static void works(struct site *site)
{
	th_join(th_fork(link_once, site), 60000);
}

/* place: the file, or the file and the line, in `where`; words in the message. */
static void refused(const struct site *site, acctlink_status wanted, const char *place, const char *words)
{
	acctlink_error err = { 0 };
	struct th_host *host = NULL;
	acctlink_status rc = th_host_try(site->config, NULL, &host, &err);
	char *text = th_error_text(&err);

	th_check(rc == wanted, "%d wanted: %s", (int)wanted, rc == ACCTLINK_OK ? "OK" : text);
	th_check(strstr(err.where, place) != NULL, "'%s' wanted: %s", place, text);
	th_check(strstr(err.message, words) != NULL, "'%s' wanted: %s", words, text);
	th_check(strstr(text, "test-secret") == NULL, "the secret is in the error: %s", text);
	free(text);
}

/* ---- includes ------------------------------------------------------------------------------- */

static void relative_includes_start_from_the_including_file(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	works(site);
	site_free(&site);
}

static void absolute_includes_are_taken_as_they_are(void **unused)
{
	struct site *site = site_new();
	char *line = th_printf("@include \"%s\"\n", site->banks);

	(void)unused;
	write_config(site, line);
	write_banks(site, site->bank);
	works(site);
	free(line);
	site_free(&site);
}

/* The folder of the file that was named, not of the one that the link leads to. */
static void a_config_that_is_a_link_includes_from_where_it_was_named(void **unused)
{
	struct site *site = site_new();
	char *real = in(site, "conf.d/real.conf");

	(void)unused;
	th_check(rename(site->config, real) == 0 && symlink("conf.d/real.conf", site->config) == 0, "symlink: %s",
		strerror(errno));
	works(site);
	site_free(&site);
	free(real);
}

static void includes_that_are_missing_or_no_file_are_errors_with_file_and_line(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	write_banks(site, "each/other.conf");
	refused(site, ACCTLINK_BAD_CONFIG, "conf.d/banks.conf:3", "each/other.conf: No such file");
	write_banks(site, "each");
	refused(site, ACCTLINK_BAD_CONFIG, "conf.d/banks.conf:3", "not a regular file");
	write_config(site, "\n@include \"conf.d/none.conf\"\n");
	refused(site, ACCTLINK_BAD_CONFIG, "acctlink.conf:6", "none.conf: No such file");
	site_free(&site);
}

static void includes_that_loop_are_errors_with_file_and_line(void **unused)
{
	struct site *site = site_new();
	char *loop = in(site, "conf.d/each/test.conf");

	(void)unused;
	th_write_file(loop, 0600, "\n@include \"../banks.conf\"\n");
	refused(site, ACCTLINK_BAD_CONFIG, "test.conf:2", "includes itself");
	free(loop);
	site_free(&site);
}

static void a_mistake_in_an_included_file_is_told_with_its_file_and_line(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	write_bank(site, "client_secret_fil = \"x\";");
	refused(site, ACCTLINK_BAD_CONFIG, "conf.d/each/test.conf:5", "client_secret_file");
	site_free(&site);
}

static int reload_elsewhere(void *ctx)
{
	struct site *site = ctx;
	struct th_host *host = th_host_open(site->config, NULL);
	acctlink_error err = { 0 };

	th_check(chdir("/usr") == 0, "chdir");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	write_banks(site, "each/none.conf");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_BAD_CONFIG
			&& strstr(err.where, "banks.conf:3") != NULL,
		"%s", th_error_text(&err));
	th_must_link(host, provider, "ana", NULL, NULL);
	write_banks(site, "each/test.conf");
	th_check(host->api.reload(host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	free(th_must_bearer(host, "ana", NULL, NULL));
	th_host_free(&host);
	return 0;
}

static void a_reload_finds_the_includes_wherever_the_host_works_by_then(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_join(th_fork(reload_elsewhere, site), 60000);
	site_free(&site);
}

/* ---- modes and links --------------------------------------------------------------------------- */

static const mode_t open_modes[] = { 0644, 0640, 0604, 0660 };

static void a_config_without_secrets_may_be_read_by_all(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	for (size_t i = 0; i < COUNT(open_modes); i++) {
		set_mode(site->config, open_modes[i]);
		set_mode(site->banks, open_modes[i]);
		set_mode(site->bank, open_modes[i]);
		works(site);
	}
	site_free(&site);
}

static void a_secret_in_an_included_file_wants_that_file_private(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	write_bank(site, "client_secret = \"test-secret\";");
	set_mode(site->config, 0644);
	set_mode(site->banks, 0644);
	works(site);
	for (size_t i = 0; i < COUNT(open_modes); i++) {
		set_mode(site->bank, open_modes[i]);
		refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "chmod 600");
	}
	site_free(&site);
}

static void a_secret_file_that_others_may_read_is_refused(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	for (size_t i = 0; i < COUNT(open_modes); i++) {
		set_mode(site->secret, open_modes[i]);
		refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "chmod 600");
	}
	set_mode(site->secret, 0400);
	works(site);
	site_free(&site);
}

static int take_readable(void *ctx)
{
	struct site *site = ctx;
	struct th_host *host = th_host_open(site->config, NULL);

	th_check(th_lines_contain(host->logs, "client.secret holds a secret and has mode 0640"),
		"nothing is logged: %s", th_lines_text(host->logs));
	th_must_link(host, provider, "ana", NULL, NULL);
	th_host_free(&host);
	return 0;
}

static void a_secret_file_that_others_may_read_can_be_allowed_and_is_logged(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	write_config(site, "allow_readable_secrets = true;\n@include \"conf.d/banks.conf\"\n");
	set_mode(site->secret, 0640);
	th_join(th_fork(take_readable, site), 60000);
	/* The key has no such way out. */
	set_mode(site->key, 0640);
	refused(site, ACCTLINK_BAD_KEY, "store.key", "chmod 600");
	site_free(&site);
}

static void a_key_that_others_may_read_is_refused(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	for (size_t i = 0; i < COUNT(open_modes); i++) {
		set_mode(site->key, open_modes[i]);
		refused(site, ACCTLINK_BAD_KEY, "store.key", "chmod 600");
	}
	set_mode(site->key, 0400);
	works(site);
	site_free(&site);
}

/* Links are followed, as those of Kubernetes and of certificates are: what counts is the
 * file at their end. */
static void secrets_and_keys_may_be_links_and_the_file_at_their_end_counts(void **unused)
{
	struct site *site = site_new();
	char *real_secret = in(site, "conf.d/s1");
	char *real_key = in(site, "conf.d/k1");

	(void)unused;
	th_check(rename(site->secret, real_secret) == 0 && symlink("conf.d/s1", site->secret) == 0
			&& rename(site->key, real_key) == 0 && symlink("conf.d/k1", site->key) == 0,
		"symlink: %s", strerror(errno));
	works(site);
	set_mode(real_secret, 0644);
	refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "chmod 600");
	set_mode(real_secret, 0600);
	set_mode(real_key, 0644);
	refused(site, ACCTLINK_BAD_KEY, "store.key", "chmod 600");
	set_mode(real_key, 0600);
	th_check(unlink(real_secret) == 0, "unlink");
	refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "No such file");
	free(real_key);
	free(real_secret);
	site_free(&site);
}

static void a_folder_in_the_place_of_a_file_is_an_error(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_check(unlink(site->secret) == 0 && mkdir(site->secret, 0700) == 0, "mkdir: %s", strerror(errno));
	refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "not a regular file");
	th_check(rmdir(site->secret) == 0, "rmdir");
	th_write_file(site->secret, 0600, "test-secret");
	th_check(unlink(site->key) == 0 && mkdir(site->key, 0700) == 0, "mkdir: %s", strerror(errno));
	refused(site, ACCTLINK_BAD_KEY, "store.key", "not a plain file");
	th_check(unlink(site->config) == 0 && mkdir(site->config, 0700) == 0, "mkdir: %s", strerror(errno));
	refused(site, ACCTLINK_BAD_CONFIG, "acctlink.conf", "");
	site_free(&site);
}

/* ---- line breaks ----------------------------------------------------------------------------- */

static void one_line_break_at_the_end_of_a_secret_is_no_part_of_it(void **unused)
{
	static const char *const same[] = { "test-secret", "test-secret\n", "test-secret\r\n" };
	static const char *const broken[] = { "test-secret\n\n", "\ntest-secret", "test-\nsecret" };
	struct site *site = site_new();

	(void)unused;
	for (size_t i = 0; i < COUNT(same); i++) {
		th_write_file(site->secret, 0600, same[i]);
		works(site);
	}
	for (size_t i = 0; i < COUNT(broken); i++) {
		th_write_file(site->secret, 0600, broken[i]);
		refused(site, ACCTLINK_BAD_CONFIG, "test.conf:5", "line break");
	}
	site_free(&site);
}

static int be_refused_by_the_bank(void *ctx)
{
	struct site *site = ctx;
	struct th_host *host = th_host_open(site->config, NULL);
	acctlink_error err = { 0 };
	acctlink_status rc = th_link(host, provider, "ana", NULL, NULL, &err);

	th_check(rc == ACCTLINK_CLIENT_REFUSED, "%s", rc == ACCTLINK_OK ? "OK" : th_error_text(&err));
	th_host_free(&host);
	return 0;
}

/* What is not a line break belongs to it: were blanks dropped, this would be good. */
static void blanks_at_the_end_of_a_secret_belong_to_it(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_write_file(site->secret, 0600, "test-secret \n");
	th_join(th_fork(be_refused_by_the_bank, site), 60000);
	site_free(&site);
}

/* ---- beside the store ------------------------------------------------------------------------- */

static unsigned private_files(const char *dir)
{
	static const char *const names[] = { "store.db", "store.db-wal", "store.db-shm" };
	unsigned count = 0;

	for (size_t i = 0; i < COUNT(names); i++) {
		char *path = th_printf("%s/%s", dir, names[i]);
		struct stat st;

		if (lstat(path, &st) == 0) {
			th_check((st.st_mode & 07777) == 0600 && st.st_uid == geteuid(), "%s has mode %04o", path,
				(unsigned)st.st_mode & 07777);
			count++;
		}
		free(path);
	}
	return count;
}

static void check_owners(const char *dir)
{
	char *owners = th_printf("%s/owners", dir);
	DIR *open_dir = opendir(owners);
	const struct dirent *entry;
	struct stat st;
	unsigned count = 0;

	th_check(open_dir != NULL && stat(owners, &st) == 0 && (st.st_mode & 07777) == 0700, "owners: %s",
		strerror(errno));
	while ((entry = readdir(open_dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		th_check(fstatat(dirfd(open_dir), entry->d_name, &st, 0) == 0 && (st.st_mode & 07777) == 0600,
			"%s has mode %04o", entry->d_name, (unsigned)st.st_mode & 07777);
		count++;
	}
	closedir(open_dir);
	th_check(count >= 1, "no owner has a file");
	free(owners);
}

struct umask_case {
	struct site *site;
	mode_t mask;
	bool is_killed;
};

static int live_with_umask(void *ctx)
{
	struct umask_case *c = ctx;
	struct th_host *host;
	mode_t before;

	(void)umask(c->mask);
	host = th_host_open(c->site->config, NULL);
	th_check(private_files(c->site->dir) >= 1, "init made no store");
	th_must_link(host, provider, "ana", NULL, NULL);
	th_check(private_files(c->site->dir) == 3, "database, log and index are not all there");
	check_owners(c->site->dir);
	before = umask(c->mask);
	th_check(before == c->mask, "the umask is %04o", (unsigned)before);
	if (c->is_killed)
		(void)raise(SIGKILL);
	th_host_free(&host);
	th_check(private_files(c->site->dir) >= 1, "the store is gone");
	return 0;
}

static void files_beside_the_store_are_private_with_every_umask(void **unused)
{
	static const mode_t masks[] = { 000, 022, 077, 0177 };

	(void)unused;
	for (size_t i = 0; i < COUNT(masks); i++) {
		struct umask_case c = { site_new(), masks[i], false };

		th_join(th_fork(live_with_umask, &c), 60000);
		site_free(&c.site);
	}
}

/* What a killed process leaves is found private, and used, by the next one. */
static void what_a_killed_process_leaves_is_private_and_serves_the_next(void **unused)
{
	struct umask_case c = { site_new(), 0, true };
	int status = 0;
	pid_t pid = th_fork(live_with_umask, &c);

	(void)unused;
	th_check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x",
		(unsigned)status);
	th_check(private_files(c.site->dir) == 3, "log and index are gone with the process");
	c.is_killed = false;
	c.mask = 077;
	th_join(th_fork(live_with_umask, &c), 60000);
	site_free(&c.site);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(relative_includes_start_from_the_including_file),
		cmocka_unit_test(absolute_includes_are_taken_as_they_are),
		cmocka_unit_test(a_config_that_is_a_link_includes_from_where_it_was_named),
		cmocka_unit_test(includes_that_are_missing_or_no_file_are_errors_with_file_and_line),
		cmocka_unit_test(includes_that_loop_are_errors_with_file_and_line),
		cmocka_unit_test(a_mistake_in_an_included_file_is_told_with_its_file_and_line),
		cmocka_unit_test(a_reload_finds_the_includes_wherever_the_host_works_by_then),
		cmocka_unit_test(a_config_without_secrets_may_be_read_by_all),
		cmocka_unit_test(a_secret_in_an_included_file_wants_that_file_private),
		cmocka_unit_test(a_secret_file_that_others_may_read_is_refused),
		cmocka_unit_test(a_secret_file_that_others_may_read_can_be_allowed_and_is_logged),
		cmocka_unit_test(a_key_that_others_may_read_is_refused),
		cmocka_unit_test(secrets_and_keys_may_be_links_and_the_file_at_their_end_counts),
		cmocka_unit_test(a_folder_in_the_place_of_a_file_is_an_error),
		cmocka_unit_test(one_line_break_at_the_end_of_a_secret_is_no_part_of_it),
		cmocka_unit_test(blanks_at_the_end_of_a_secret_belong_to_it),
		cmocka_unit_test(files_beside_the_store_are_private_with_every_umask),
		cmocka_unit_test(what_a_killed_process_leaves_is_private_and_serves_the_next) };

	return cmocka_run_group_tests_name("citizen/files", tests, start_provider, stop_provider);
}
