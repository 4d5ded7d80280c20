/* SPDX-License-Identifier: MIT
 * A master that is root, and workers that are not: what root reads at init survives
 * the fork, what root makes belongs to the workers, and what the workers can't read
 * is a clear error that changes nothing. Real users, told by number only: nobody has
 * to add an account. Only root can run these tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "guest.h"

enum { WORKER = 65533, STRANGER = 65532 };

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

/* /TEMP/etc for root: config, key, client secret. /TEMP/var for the worker: the store. */
struct site {
	char *top;
	char *etc;
	char *var;
	char *config;
	char *key;
	char *secret;
	char *store;
	mode_t umask;
	uid_t user;
};

static void give(const char *path, uid_t user, gid_t group, mode_t mode)
{
	th_check(chown(path, user, group) == 0 && chmod(path, mode) == 0, "%s: %s", path, strerror(errno));
}

/* Folders on the way are open to pass, but not to read. */
static void open_way(const char *path)
{
	char *above = folder_of(path);

	while (strcmp(above, "/tmp") != 0 && strrchr(above, '/') != above) {
		struct stat st;
		char *next;

		th_check(stat(above, &st) == 0, "%s: %s", above, strerror(errno));
		if ((st.st_mode & 011) != 011)
			th_check(chmod(above, st.st_mode | 011) == 0, "%s: %s", above, strerror(errno));
		next = folder_of(above);
		free(above);
		above = next;
	}
	free(above);
}

static void write_config(const struct site *site, const char *client_id)
{
	char *text = th_printf(
		"store = {\n\tpath = \"%s\";\n\tkey_file = \"%s\";\n};\nproviders = {\n\ttest = {\n"
		"\t\tprofile = \"oidc\";\n\t\tissuer = \"%s\";\n\t\tclient_id = \"%s\";\n\t\tclient_secret_file = \"%s\";\n"
		"\t\tredirect_uri = \"https://app.example/cb\";\n\t\tca_file = \"%s\";\n\t};\n};\n",
		site->store, site->key, provider->issuer, client_id, site->secret, provider->ca_file);

	th_write_file(site->config, 0600, text);
	free(text);
}

static struct site *site_new(void)
{
	struct site *site = calloc(1, sizeof(*site));
	char *made;
	char *made_key;
	char *text;

	if (geteuid() != 0) {
		print_message("# only root can become another user\n");
		free(site);
		skip();
	}
	th_check(site != NULL, "no memory");
	site->top = th_temp_dir();
	site->etc = th_printf("%s/etc", site->top);
	site->var = th_printf("%s/var", site->top);
	site->config = th_printf("%s/acctlink.conf", site->etc);
	site->key = th_printf("%s/store.key", site->etc);
	site->secret = th_printf("%s/client.secret", site->etc);
	site->store = th_printf("%s/store.db", site->var);
	site->umask = 022;
	site->user = WORKER;
	th_check(mkdir(site->etc, 0700) == 0 && mkdir(site->var, 0700) == 0, "mkdir: %s", strerror(errno));
	made = th_config_write(site->top, provider, NULL); /* for its key */
	made_key = th_printf("%s/store.key", site->top);
	text = th_read_file(made_key);
	th_write_file(site->key, 0600, text);
	th_write_file(site->secret, 0600, "test-secret\n");
	write_config(site, "test-client");
	th_check(unlink(made) == 0 && unlink(made_key) == 0, "unlink");
	give(site->top, 0, 0, 0711);
	give(site->etc, 0, 0, 0700);
	give(site->var, WORKER, WORKER, 0700);
	open_way(site->etc);
	th_check(chmod(provider->ca_file, 0644) == 0, "chmod");
	open_way(provider->ca_file);
	free(text);
	free(made_key);
	free(made);
	return site;
}

static void site_free(struct site **site)
{
	free((*site)->top);
	free((*site)->etc);
	free((*site)->var);
	free((*site)->config);
	free((*site)->key);
	free((*site)->secret);
	free((*site)->store);
	free(*site);
	*site = NULL;
}

static void become(uid_t user)
{
	th_check(setgroups(0, NULL) == 0 && setgid(user) == 0 && setuid(user) == 0 && setuid(0) != 0, "become %u: %s",
		(unsigned)user, strerror(errno));
}

/* All that is in a folder: of this user, for this user only, and how many files. */
static size_t belongs_to(const char *path, uid_t user)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	size_t count = 0;

	th_check(dir != NULL, "%s: %s", path, strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		char *file = th_printf("%s/%s", path, entry->d_name);
		struct stat st;

		if (strcmp(entry->d_name, "..") == 0) {
			free(file);
			continue;
		}
		th_check(lstat(file, &st) == 0, "%s: %s", file, strerror(errno));
		th_check(st.st_uid == user && st.st_gid == user, "%s belongs to %u:%u", file, (unsigned)st.st_uid,
			(unsigned)st.st_gid);
		th_check((st.st_mode & 07777) == (S_ISDIR(st.st_mode) ? 0700u : 0600u), "%s has mode %04o", file,
			(unsigned)st.st_mode & 07777);
		count += S_ISREG(st.st_mode) ? 1 : 0;
		if (S_ISDIR(st.st_mode) && strcmp(entry->d_name, ".") != 0)
			count += belongs_to(file, user);
		free(file);
	}
	closedir(dir);
	return count;
}

static bool is_there(const struct site *site, const char *suffix)
{
	char *path = th_printf("%s%s", site->store, suffix);
	bool there = access(path, F_OK) == 0;

	free(path);
	return there;
}

/* A worker's whole life in use; files are looked at while the store is open. */
static void work(const struct site *site, struct th_host *host, const char *user)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	th_must_link(host, provider, user, NULL, NULL);
	th_check(th_report(host, user, NULL, 1, NULL) == ACCTLINK_OK, "report_rejected");
	th_advance(host, NULL, 60000); /* past the least interval of refreshes */
	free(th_must_bearer(host, user, NULL, &info));
	th_check(info.generation == 2, "generation %llu", (unsigned long long)info.generation);
	th_check(is_there(site, "-wal") && is_there(site, "-shm"), "the log or its index is not there");
	th_check(belongs_to(site->var, WORKER) >= 4, "database, log, index and owner's file are not all there");
}

/* ---- init as root, use as a worker ----------------------------------------------------------- */

struct worker {
	const struct site *site;
	struct th_host *host;
	const char *user;
};

static int be_worker(void *ctx)
{
	struct worker *worker = ctx;
	struct site *site = (struct site *)worker->site;

	become(site->user);
	th_check(access(site->key, R_OK) != 0 && access(site->secret, R_OK) != 0, "the worker can read root's files");
	work(site, worker->host, worker->user);
	th_host_free(&worker->host);
	return 0;
}

static int be_master(void *ctx)
{
	const struct site *site = ctx;
	struct worker one = { site, NULL, "ana" };
	struct worker two = { site, NULL, "ben" };
	pid_t first;

	(void)umask(site->umask);
	one.host = two.host = th_host_open(site->config, NULL);
	th_check(belongs_to(site->var, WORKER) >= 1, "init made no store");
	first = th_fork(be_worker, &one);
	th_join(first, 60000);
	th_join(th_fork(be_worker, &two), 60000);
	th_check(belongs_to(site->var, WORKER) >= 1, "the store is gone");
	th_check(umask(022) == site->umask, "the umask is another");
	th_host_free(&one.host);
	return 0;
}

static void run_master(mode_t mask)
{
	struct site *site = site_new();

	site->umask = mask;
	th_join(th_fork(be_master, site), 120000);
	site_free(&site);
}

static void what_root_reads_at_init_serves_workers_that_can_t_read_it(void **unused)
{
	(void)unused;
	run_master(022);
}

static void files_are_private_and_the_workers_with_umask_000(void **unused)
{
	(void)unused;
	run_master(000);
}

static void files_are_private_and_the_workers_with_umask_077(void **unused)
{
	(void)unused;
	run_master(077);
}

/* The folder of the store is made by init itself, in a folder of the worker's. */
static void a_folder_that_root_makes_for_the_store_is_the_workers(void **unused)
{
	struct site *site = site_new();
	char *deeper = th_printf("%s/links", site->var);

	(void)unused;
	free(site->store);
	site->store = th_printf("%s/store.db", deeper);
	write_config(site, "test-client");
	th_join(th_fork(be_master, site), 120000);
	free(deeper);
	site_free(&site);
}

/* ---- reload in a worker ------------------------------------------------------------------------- */

static void must_be_refused(acctlink_status rc, const acctlink_error *err, acctlink_status wanted, const char *file)
{
	char *text = th_error_text(err);

	th_check(rc == wanted && strstr(text, file) != NULL && strstr(text, "Permission denied") != NULL,
		"%d and %s wanted: %s", (int)wanted, file, rc == ACCTLINK_OK ? "OK" : text);
	free(text);
}

static int reload_in_vain(void *ctx)
{
	struct worker *worker = ctx;
	acctlink_error err = { 0 };

	become(WORKER);
	must_be_refused(
		worker->host->api.reload(worker->host->handle, &err), &err, ACCTLINK_BAD_CONFIG, worker->site->config);
	work(worker->site, worker->host, "ana");
	must_be_refused(
		worker->host->api.reload(worker->host->handle, &err), &err, ACCTLINK_BAD_CONFIG, worker->site->config);
	free(th_must_bearer(worker->host, "ana", NULL, NULL));
	th_must_link(worker->host, provider, "ben", NULL, NULL); /* with the old client */
	th_host_free(&worker->host);
	return 0;
}

static int master_of_a_reloader(void *ctx)
{
	const struct site *site = ctx;
	struct worker worker = { site, th_host_open(site->config, NULL), "ana" };

	write_config(site, "another-client"); /* must not come into force */
	th_join(th_fork(reload_in_vain, &worker), 60000);
	th_host_free(&worker.host);
	return 0;
}

static void a_reload_without_the_right_to_read_the_config_leaves_the_old_one_in_force(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_join(th_fork(master_of_a_reloader, site), 120000);
	site_free(&site);
}

/* The config may be read by the worker, the client secret may not. */
static int reload_without_the_secret(void *ctx)
{
	struct worker *worker = ctx;
	acctlink_error err = { 0 };

	become(WORKER);
	must_be_refused(
		worker->host->api.reload(worker->host->handle, &err), &err, ACCTLINK_BAD_CONFIG, worker->site->secret);
	work(worker->site, worker->host, "ana");
	th_host_free(&worker->host);
	return 0;
}

static int master_with_a_secret(void *ctx)
{
	const struct site *site = ctx;
	struct worker worker = { site, th_host_open(site->config, NULL), "ana" };

	write_config(site, "another-client");
	give(site->config, 0, WORKER, 0640);
	th_join(th_fork(reload_without_the_secret, &worker), 60000);
	th_host_free(&worker.host);
	return 0;
}

static void a_reload_without_the_right_to_read_the_secret_leaves_the_old_one_in_force(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	give(site->etc, 0, WORKER, 0750);
	th_join(th_fork(master_with_a_secret, site), 120000);
	site_free(&site);
}

/* Keys are read by init only: a reload asks for the same paths, and no more. */
static int reload_without_the_key(void *ctx)
{
	struct worker *worker = ctx;
	acctlink_error err = { 0 };

	become(WORKER);
	th_check(access(worker->site->key, R_OK) != 0, "the worker can read the key");
	th_check(worker->host->api.reload(worker->host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	work(worker->site, worker->host, "ana");
	th_check(worker->host->api.reload(worker->host->handle, &err) == ACCTLINK_OK, "%s", th_error_text(&err));
	free(th_must_bearer(worker->host, "ana", NULL, NULL));
	th_host_free(&worker->host);
	return 0;
}

static int master_with_a_key(void *ctx)
{
	const struct site *site = ctx;
	struct worker worker = { site, th_host_open(site->config, NULL), "ana" };

	th_join(th_fork(reload_without_the_key, &worker), 60000);
	th_host_free(&worker.host);
	return 0;
}

/* The usual way: /etc/x is 0750 root:worker, the config 0640, the secret the worker's own. */
static void a_reload_needs_no_key(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	give(site->etc, 0, WORKER, 0750);
	give(site->config, 0, WORKER, 0640);
	give(site->secret, WORKER, WORKER, 0600);
	th_join(th_fork(master_with_a_key, site), 120000);
	site_free(&site);
}

/* ---- a second start --------------------------------------------------------------------------- */

static int hold_and_wait(void *ctx)
{
	struct worker *worker = ctx;

	become(WORKER);
	work(worker->site, worker->host, worker->user);
	for (int i = 0; i < 20; i++) { /* while its parent starts again */
		th_must_link(worker->host, provider, "eva", NULL, NULL);
		th_check(th_unlink(worker->host, "eva", NULL, NULL, NULL) == ACCTLINK_OK, "unlink");
	}
	th_host_free(&worker->host);
	return 0;
}

/* The store stays open in a worker while root starts again and uses it as well. */
static int start_twice(void *ctx)
{
	const struct site *site = ctx;
	struct worker worker = { site, th_host_open(site->config, NULL), "ana" };
	struct worker again = { site, NULL, "ben" };
	struct th_host *as_root;
	pid_t pid;

	pid = th_fork(hold_and_wait, &worker);
	again.host = th_host_open(site->config, NULL);
	th_join(th_fork(be_worker, &again), 60000);
	as_root = th_host_open(site->config, NULL);
	th_must_link(as_root, provider, "cleo", NULL, NULL);
	(void)belongs_to(site->var, WORKER);
	th_join(pid, 60000);
	th_must_link(as_root, provider, "dora", NULL, NULL);
	th_check(belongs_to(site->var, WORKER) >= 4, "database, log, index and owner's file are not all there");
	th_host_free(&as_root);
	(void)belongs_to(site->var, WORKER);
	again.user = "finn";
	th_join(th_fork(be_worker, &again), 60000);
	th_host_free(&again.host);
	th_host_free(&worker.host);
	return 0;
}

static void root_that_starts_again_and_works_on_the_live_store_leaves_it_to_the_worker(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_join(th_fork(start_twice, site), 120000);
	site_free(&site);
}

/* ---- the wrong user -------------------------------------------------------------------------------- */

static int be_stranger(void *ctx)
{
	struct worker *worker = ctx;
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	acctlink_status rc;

	th_check(flow != NULL, "no memory");
	become(STRANGER);
	rc = th_begin(worker->host, "ana", NULL, flow, &err);
	th_check(rc == ACCTLINK_BAD_STORE || rc == ACCTLINK_STORE_DOWN, "begin of a stranger: %s",
		rc == ACCTLINK_OK ? "OK" : th_error_text(&err));
	th_check(strstr(err.message, "user") != NULL || strstr(err.message, "owner") != NULL
			|| strstr(err.message, "Permission denied") != NULL,
		"no word of owners: %s", th_error_text(&err));
	free(flow);
	return 0;
}

static int master_of_a_stranger(void *ctx)
{
	const struct site *site = ctx;
	struct worker worker = { site, th_host_open(site->config, NULL), "ana" };

	th_join(th_fork(be_stranger, &worker), 60000);
	th_join(th_fork(be_worker, &worker), 60000);
	th_host_free(&worker.host);
	return 0;
}

static void a_worker_that_is_another_user_than_the_store_s_is_a_clear_error(void **unused)
{
	struct site *site = site_new();

	(void)unused;
	th_join(th_fork(master_of_a_stranger, site), 120000);
	site_free(&site);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(what_root_reads_at_init_serves_workers_that_can_t_read_it),
		cmocka_unit_test(files_are_private_and_the_workers_with_umask_000),
		cmocka_unit_test(files_are_private_and_the_workers_with_umask_077),
		cmocka_unit_test(a_folder_that_root_makes_for_the_store_is_the_workers),
		cmocka_unit_test(a_reload_without_the_right_to_read_the_config_leaves_the_old_one_in_force),
		cmocka_unit_test(a_reload_without_the_right_to_read_the_secret_leaves_the_old_one_in_force),
		cmocka_unit_test(a_reload_needs_no_key),
		cmocka_unit_test(root_that_starts_again_and_works_on_the_live_store_leaves_it_to_the_worker),
		cmocka_unit_test(a_worker_that_is_another_user_than_the_store_s_is_a_clear_error) };

	return cmocka_run_group_tests_name("citizen/privileges", tests, start_provider, stop_provider);
}
