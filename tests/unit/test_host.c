/* SPDX-License-Identifier: MIT
 * Who owns a claim, and when an owner counts as dead: with real processes that
 * end, are killed, fork and race.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store_int.h"
#include "temp_dir.h"

#define NOBODY 65534

struct fixture {
	char root[TEMP_DIR_MAX];
	char path[192];   /* the store's */
	char folder[192]; /* of the owners' files */
	struct al_owner *self;
	struct al_buf host;
	acctlink_error err;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || !make_temp_dir(f->root, "al_host"))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	(void)snprintf(f->folder, sizeof(f->folder), "%s/owners", f->root);
	if (al_owner_new(f->path, &f->self, &f->err) != ACCTLINK_OK)
		return -1;
	al_buf_init(&f->host, 160);
	*state = f;
	return al_buf_puts(&f->host, al_owner_host(f->self)) ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	al_owner_free(&f->self);
	al_buf_clear(&f->host);
	remove_temp_dir(f->root);
	free(f);
	return 0;
}

/* In a forked child, where cmocka must not take part. */
#define need(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

static bool has_file(const struct fixture *f, const char *name, struct stat *st)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	return lstat(path, st) == 0;
}

static void make_file(const struct fixture *f, const char *name)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
}

static bool is_dead(struct fixture *f, const char *id, const char *host)
{
	struct al_buf other;
	bool dead;

	al_buf_init(&other, 160);
	assert_true(al_buf_puts(&other, host));
	dead = al_owner_is_dead(f->self, id, &other);
	al_buf_clear(&other);
	return dead;
}

/* A process with an owner of its own. It ends when `gate` is closed; as a
 * forker it first makes a child, which ends at the same sign. */
struct other {
	pid_t pid;
	int gate;
	char id[AL_ID_LEN + 1];
};

static void be_other(struct fixture *f, int gate, int report, bool forks, bool frees)
{
	struct al_owner *owner = NULL;
	char byte;

	need(al_owner_new(f->path, &owner, &f->err) == ACCTLINK_OK);
	if (forks && fork() == 0) {
		al_owner_free(&owner); /* must not remove what is its parent's */
		need(close(report) == 0);
		need(read(gate, &byte, 1) == 0);
		_exit(0);
	}
	need(write(report, al_owner_id(owner), AL_ID_LEN) == AL_ID_LEN && close(report) == 0);
	need(read(gate, &byte, 1) == 0);
	if (frees)
		al_owner_free(&owner);
	/* Not freed, the owner stays reachable from here. */
	_exit(owner != NULL && frees ? 1 : 0);
}

static struct other start_other(struct fixture *f, bool forks, bool frees)
{
	struct other other;
	int gate[2];
	int report[2];

	memset(&other, 0, sizeof(other));
	assert_int_equal(pipe(gate) + pipe(report), 0);
	other.pid = fork();
	if (other.pid == 0) {
		need(close(gate[1]) + close(report[0]) == 0);
		be_other(f, gate[0], report[1], forks, frees);
	}
	assert_int_equal(close(gate[0]) + close(report[1]), 0);
	assert_int_equal(read(report[0], other.id, AL_ID_LEN), AL_ID_LEN);
	assert_int_equal(close(report[0]), 0);
	other.gate = gate[1];
	return other;
}

static void let_end(struct other *other)
{
	int status = -1;

	assert_int_equal(close(other->gate), 0);
	assert_int_equal(waitpid(other->pid, &status, 0), other->pid);
	assert_int_equal(status, 0);
}

static void an_owner_has_a_random_id_a_host_and_a_private_file(void **state)
{
	struct fixture *f = *state;
	struct al_owner *second = NULL;
	char boot[64] = "";
	struct stat st;
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	assert_non_null(file);
	assert_non_null(fgets(boot, sizeof(boot), file));
	assert_int_equal(fclose(file), 0);
	boot[strcspn(boot, "\n")] = '\0';
	assert_non_null(strchr(al_owner_host(f->self), ':'));
	assert_string_equal(strchr(al_owner_host(f->self), ':') + 1, boot);
	assert_true(al_store_id_valid(al_owner_id(f->self)));
	assert_int_equal(al_owner_new(f->path, &second, &f->err), ACCTLINK_OK);
	assert_string_not_equal(al_owner_id(f->self), al_owner_id(second));
	assert_true(has_file(f, al_owner_id(second), &st));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(has_file(f, ".", &st));
	assert_int_equal(st.st_mode & 07777, 0700);
	al_owner_free(&second);
	assert_null(second);
	al_owner_free(&second);
}

static void files_are_private_whatever_the_umask(void **state)
{
	static const mode_t masks[] = { 000, 077, 0177 };
	struct fixture *f = *state;
	struct stat st;

	for (size_t i = 0; i < AL_COUNT(masks); i++) {
		mode_t old;

		al_owner_free(&f->self);
		assert_int_equal(rmdir(f->folder), 0);
		old = umask(masks[i]);
		assert_int_equal(al_owner_new(f->path, &f->self, &f->err), ACCTLINK_OK);
		assert_int_equal(umask(old), masks[i]);
		assert_true(has_file(f, al_owner_id(f->self), &st));
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_true(has_file(f, ".", &st));
		assert_int_equal(st.st_mode & 07777, 0700);
	}
}

static void owners_that_live_are_not_dead(void **state)
{
	struct fixture *f = *state;
	struct other other = start_other(f, false, false);
	struct al_owner *same_process = NULL;

	assert_int_equal(al_owner_new(f->path, &same_process, &f->err), ACCTLINK_OK);
	assert_false(al_owner_is_dead(f->self, al_owner_id(f->self), &f->host));
	assert_false(al_owner_is_dead(f->self, other.id, &f->host));
	assert_false(al_owner_is_dead(same_process, al_owner_id(f->self), &f->host));
	assert_false(al_owner_is_dead(f->self, al_owner_id(same_process), &f->host));
	/* To have looked does not take anything away. */
	assert_false(al_owner_is_dead(f->self, other.id, &f->host));
	al_owner_free(&same_process);
	let_end(&other);
}

static void an_owner_that_was_killed_is_dead_and_its_file_goes(void **state)
{
	struct fixture *f = *state;
	struct other other = start_other(f, false, false);
	struct stat st;

	assert_int_equal(kill(other.pid, SIGKILL), 0);
	assert_int_equal(waitpid(other.pid, NULL, 0), other.pid);
	assert_int_equal(close(other.gate), 0);
	assert_true(has_file(f, other.id, &st));
	assert_true(al_owner_is_dead(f->self, other.id, &f->host));
	assert_false(has_file(f, other.id, &st));
	assert_true(al_owner_is_dead(f->self, other.id, &f->host));
}

static void an_owner_that_ended_is_dead_with_or_without_goodbye(void **state)
{
	struct fixture *f = *state;

	for (int frees = 0; frees < 2; frees++) {
		struct other other = start_other(f, false, frees == 1);
		struct stat st;

		let_end(&other);
		assert_int_equal(has_file(f, other.id, &st), frees == 0);
		assert_true(al_owner_is_dead(f->self, other.id, &f->host));
	}
}

static void a_child_neither_removes_its_parents_file_nor_frees_its_lock(void **state)
{
	struct fixture *f = *state;
	struct other other = start_other(f, true, false);
	struct stat st;

	assert_true(has_file(f, other.id, &st));
	assert_false(al_owner_is_dead(f->self, other.id, &f->host));
	let_end(&other);
}

/* The case that the head of host.c admits: better waited for than declared dead. */
static void an_owner_whose_child_lives_on_is_in_doubt(void **state)
{
	struct fixture *f = *state;
	int64_t end = al_monotonic_ms() + 10000;
	int hold[2];
	int report[2];
	char id[AL_ID_LEN + 1] = "";
	char byte;
	pid_t pid;

	assert_int_equal(pipe(hold) + pipe(report), 0);
	pid = fork();
	if (pid == 0) {
		struct al_owner *owner = NULL;

		need(close(hold[1]) + close(report[0]) == 0);
		need(al_owner_new(f->path, &owner, &f->err) == ACCTLINK_OK);
		if (fork() == 0) {
			need(read(hold[0], &byte, 1) == 0);
			_exit(0);
		}
		need(write(report[1], al_owner_id(owner), AL_ID_LEN) == AL_ID_LEN);
		_exit(0);
	}
	assert_int_equal(close(hold[0]) + close(report[1]), 0);
	assert_int_equal(read(report[0], id, AL_ID_LEN), AL_ID_LEN);
	assert_int_equal(close(report[0]), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(al_owner_is_dead(f->self, id, &f->host));
	assert_int_equal(close(hold[1]), 0);
	/* Nobody can wait for a grandchild; it drops the lock when it has ended. */
	while (!al_owner_is_dead(f->self, id, &f->host) && al_monotonic_ms() < end)
		(void)poll(NULL, 0, 1);
	assert_true(al_owner_is_dead(f->self, id, &f->host));
}

static void another_boot_of_this_machine_is_dead_and_other_machines_are_in_doubt(void **state)
{
	static const char id[] = "00112233445566778899aabbccddeeff";
	static const char boot[] = "01234567-89ab-cdef-0123-456789abcdef";
	struct fixture *f = *state;
	char machine[64];
	char host[160];
	bool known;

	(void)snprintf(
		machine, sizeof(machine), "%.*s", (int)strcspn(al_owner_host(f->self), ":"), al_owner_host(f->self));
	known = strlen(machine) == 32;
	(void)snprintf(host, sizeof(host), "%s:%s", machine, boot);
	assert_int_equal(is_dead(f, id, host), known);
	assert_false(is_dead(f, al_owner_id(f->self), host));
	(void)snprintf(host, sizeof(host), "%s:%s", "ffffffffffffffffffffffffffffffff", boot);
	assert_false(is_dead(f, id, host));
	(void)snprintf(host, sizeof(host), "none:%s", boot);
	assert_false(is_dead(f, id, host));
	(void)snprintf(host, sizeof(host), "%s:", machine);
	assert_false(is_dead(f, id, host));
	assert_false(is_dead(f, id, machine));
	assert_false(is_dead(f, id, ""));
	assert_false(is_dead(f, id, ":"));
}

static void an_id_that_is_none_is_never_looked_for(void **state)
{
	static const char *const ids[] = { "", "x", "../store.db", "00112233445566778899AABBCCDDEEFF", "." };
	struct fixture *f = *state;
	struct stat st;

	make_file(f, "x");
	make_file(f, "../store.db");
	for (size_t i = 0; i < AL_COUNT(ids); i++)
		assert_false(al_owner_is_dead(f->self, ids[i], &f->host));
	assert_true(has_file(f, "x", &st) && has_file(f, "../store.db", &st));
}

static void a_symbolic_link_or_pipe_in_place_of_a_file_proves_nothing(void **state)
{
	static const char id[] = "00112233445566778899aabbccddeeff";
	static const char id2[] = "10112233445566778899aabbccddeeff";
	struct fixture *f = *state;
	char path[256];
	struct stat st;

	make_file(f, "target");
	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, id);
	assert_int_equal(symlink("target", path), 0);
	assert_false(al_owner_is_dead(f->self, id, &f->host));
	assert_true(has_file(f, id, &st));
	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, id2);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(al_owner_is_dead(f->self, id2, &f->host));
	assert_true(has_file(f, id2, &st));
}

static void a_folder_that_somebody_cleared_proves_nothing(void **state)
{
	struct fixture *f = *state;
	struct other other = start_other(f, false, false);
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, other.id);
	assert_int_equal(unlink(path), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", f->folder, al_owner_id(f->self));
	assert_int_equal(unlink(path), 0);
	assert_false(al_owner_is_dead(f->self, other.id, &f->host));
	let_end(&other);
}

static void files_of_the_dead_are_swept_and_no_others(void **state)
{
	static const char dead[] = "00112233445566778899aabbccddeeff";
	struct fixture *f = *state;
	struct other other = start_other(f, false, false);
	struct al_owner *second = NULL;
	struct stat st;

	make_file(f, dead);
	make_file(f, "README");
	assert_int_equal(al_owner_new(f->path, &second, &f->err), ACCTLINK_OK);
	assert_false(has_file(f, dead, &st));
	assert_true(has_file(f, "README", &st));
	assert_true(has_file(f, other.id, &st));
	assert_true(has_file(f, al_owner_id(f->self), &st));
	al_owner_free(&second);
	let_end(&other);
}

static void owners_that_come_and_go_at_once_do_not_disturb_each_other(void **state)
{
	struct fixture *f = *state;
	pid_t pids[4];

	for (size_t i = 0; i < AL_COUNT(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct al_owner *owners[100] = { NULL };
			struct stat st;

			for (size_t j = 0; j < AL_COUNT(owners); j++) {
				need(al_owner_new(f->path, &owners[j], &f->err) == ACCTLINK_OK);
				need(has_file(f, al_owner_id(owners[j]), &st));
				need(!al_owner_is_dead(owners[j], al_owner_id(f->self), &f->host));
				if (j >= 10)
					al_owner_free(&owners[j - 10]);
			}
			for (size_t j = 0; j < AL_COUNT(owners); j++) {
				need(owners[j] == NULL || has_file(f, al_owner_id(owners[j]), &st));
				al_owner_free(&owners[j]);
			}
			_exit(0);
		}
	}
	for (size_t i = 0; i < AL_COUNT(pids); i++) {
		int status = -1;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
}

static void a_folder_that_cannot_be_used_is_a_clear_error(void **state)
{
	struct fixture *f = *state;
	struct al_owner *owner = NULL;
	char path[256];

	assert_int_equal(chmod(f->folder, 0777), 0);
	assert_int_equal(al_owner_new(f->path, &owner, &f->err), ACCTLINK_BAD_STORE);
	assert_non_null(strstr(f->err.where, f->folder));
	assert_non_null(strstr(f->err.message, "chmod 700"));
	assert_int_equal(chmod(f->folder, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/missing/store.db", f->root);
	assert_int_equal(al_owner_new(path, &owner, &f->err), ACCTLINK_BAD_STORE);
	assert_null(owner);
}

static void what_root_makes_belongs_to_the_folders_owner(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	if (geteuid() != 0)
		skip();
	al_owner_free(&f->self);
	assert_int_equal(rmdir(f->folder), 0);
	assert_int_equal(chown(f->root, NOBODY, NOBODY), 0);
	assert_int_equal(al_owner_new(f->path, &f->self, &f->err), ACCTLINK_OK);
	assert_true(has_file(f, ".", &st));
	assert_int_equal(st.st_uid, NOBODY);
	assert_true(has_file(f, al_owner_id(f->self), &st));
	assert_int_equal(st.st_uid, NOBODY);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = { TEST(an_owner_has_a_random_id_a_host_and_a_private_file),
		TEST(files_are_private_whatever_the_umask), TEST(owners_that_live_are_not_dead),
		TEST(an_owner_that_was_killed_is_dead_and_its_file_goes),
		TEST(an_owner_that_ended_is_dead_with_or_without_goodbye),
		TEST(a_child_neither_removes_its_parents_file_nor_frees_its_lock),
		TEST(an_owner_whose_child_lives_on_is_in_doubt),
		TEST(another_boot_of_this_machine_is_dead_and_other_machines_are_in_doubt),
		TEST(an_id_that_is_none_is_never_looked_for),
		TEST(a_symbolic_link_or_pipe_in_place_of_a_file_proves_nothing),
		TEST(a_folder_that_somebody_cleared_proves_nothing), TEST(files_of_the_dead_are_swept_and_no_others),
		TEST(owners_that_come_and_go_at_once_do_not_disturb_each_other),
		TEST(a_folder_that_cannot_be_used_is_a_clear_error),
		TEST(what_root_makes_belongs_to_the_folders_owner) };

	return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
