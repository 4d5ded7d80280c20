/* SPDX-License-Identifier: MIT
 * The store room on SQLite: rows, compare-and-swap, files, faults, processes.
 * SQLite's own functions are wrapped here, so that each can be made to fail.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/store_int.h"
#include "temp_dir.h"

#define NOBODY 65534

/* ---- SQLite, failing at will ------------------------------------------------------ */

/* Steps of statements that begin with `prefix`: after `skip` of them one
 * returns `code`, without or (late) after having done its work. */
static struct {
	const char *prefix;
	int skip;
	int code;
	bool late;
	void (*meanwhile)(void);
	int fired;
} fault;

static sqlite3 *last_opened;

int sqlite3_step(sqlite3_stmt *statement)
{
	static int (*_Atomic real)(sqlite3_stmt *);
	void *found;
	int code;

	if (real == NULL) {
		found = dlsym(RTLD_NEXT, "sqlite3_step");
		memcpy((void *)&real, &found, sizeof(found));
	}
	if (fault.prefix == NULL || strncmp(sqlite3_sql(statement), fault.prefix, strlen(fault.prefix)) != 0
		|| fault.skip-- > 0)
		return real(statement);
	fault.prefix = NULL;
	fault.fired++;
	if (!fault.late)
		return fault.code;
	code = real(statement);
	if (fault.meanwhile != NULL)
		fault.meanwhile();
	return code == SQLITE_DONE ? fault.code : code;
}

int sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs)
{
	int (*real)(const char *, sqlite3 **, int, const char *);
	void *found = dlsym(RTLD_NEXT, "sqlite3_open_v2");
	int code;

	memcpy(&real, &found, sizeof(found));
	code = real(path, db, flags, vfs);
	last_opened = *db;
	return code;
}

static void set_fault(const char *prefix, int skip, int code)
{
	memset(&fault, 0, sizeof(fault));
	fault.prefix = prefix;
	fault.skip = skip;
	fault.code = code;
}

/* ---- a folder for each test --------------------------------------------------------- */

struct fixture {
	char root[TEMP_DIR_MAX];
	char path[256];
	struct al_store *store;
	acctlink_error err;
};

static int set_up_folder(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || !make_temp_dir(f->root, "al_store"))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/state/store.db", f->root);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	struct fixture *f;

	if (set_up_folder(state) != 0)
		return -1;
	f = *state;
	return al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	set_fault(NULL, 0, 0);
	if (f->store != NULL)
		al_store_free(&f->store);
	remove_temp_dir(f->root);
	free(f);
	return 0;
}

#define assert_rc(f, expected, call) \
	do { \
		al_rc got_ = (call); \
		if (got_ != (expected)) \
			fail_msg("%s: %d instead of %d: %s", #call, got_, (expected), (f)->err.message); \
	} while (0)

/* In a forked child, where cmocka must not take part. */
#define need(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

static void assert_child_good(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Without a leak, for those who count. Rows may be NULL. */
static void end_child(struct fixture *f, struct al_link_row *row, struct al_link_row *other)
{
	if (f->store != NULL)
		al_store_free(&f->store);
	if (row != NULL)
		al_link_row_clear(row);
	if (other != NULL)
		al_link_row_clear(other);
	_exit(0);
}

/* What another program would see and do. */
static int64_t look(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *statement = NULL;
	int64_t value = -1;

	if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_busy_timeout(db, 5000) == SQLITE_OK
		&& sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK
		&& sqlite3_step(statement) == SQLITE_ROW)
		value = sqlite3_column_int64(statement, 0);
	(void)sqlite3_finalize(statement);
	(void)sqlite3_close(db);
	return value;
}

static void tamper(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static mode_t mode_of(const char *path, const char *suffix)
{
	char name[300];
	struct stat st;

	(void)snprintf(name, sizeof(name), "%s%s", path, suffix);
	return stat(name, &st) == 0 ? st.st_mode & 07777 : 0;
}

static uid_t owner_of(const char *path, const char *suffix)
{
	char name[300];
	struct stat st;

	(void)snprintf(name, sizeof(name), "%s%s", path, suffix);
	return stat(name, &st) == 0 ? st.st_uid : (uid_t)-1;
}

static int count_files(const char *folder)
{
	DIR *list = opendir(folder);
	int count = 0;

	if (list == NULL)
		return -1;
	while (readdir(list) != NULL)
		count++;
	(void)closedir(list);
	return count;
}

/* ---- rows --------------------------------------------------------------------------- */

static void *column_of(const struct al_table *table, void *row, const char *name)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strcmp(table->columns[i].name, name) == 0)
			return (char *)row + table->columns[i].offset;
	}
	return NULL;
}

/* Each column differs from every other; texts have the length of their bound, at most `longest`. */
static void fill_row(const struct al_table *table, void *row, unsigned seed, size_t longest)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct al_column *column = &table->columns[i];
		char *at = (char *)row + column->offset;
		size_t len = column->max < longest ? column->max : longest;
		int64_t number = (int64_t)(seed * 1000 + i);
		char *text;

		if (column->kind == AL_COLUMN_INT) {
			memcpy(at, &number, sizeof(number));
			continue;
		}
		if (column->kind == AL_COLUMN_ID) {
			(void)snprintf(at, AL_ID_LEN + 1, "%016x%016x", seed, (unsigned)i);
			continue;
		}
		text = malloc(len);
		assert_non_null(text);
		memset(text, (int)('A' + i), len);
		if (column->kind == AL_COLUMN_BLOB)
			memset(text, 0, len / 2);
		text[0] = (char)seed;
		assert_true(al_buf_set((struct al_buf *)(void *)at, text, len));
		free(text);
	}
}

static void make_link(struct al_link_row *row, unsigned seed)
{
	al_link_row_init(row);
	fill_row(&al_link_table, row, seed, 40);
	row->state = ACCTLINK_STATE_LINKED;
}

static void make_flow(struct al_flow_row *row, unsigned seed)
{
	al_flow_row_init(row);
	fill_row(&al_flow_table, row, seed, 40);
	row->phase = AL_FLOW_PENDING;
}

static void assert_rows_equal(const struct al_table *table, const void *a, const void *b)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct al_column *column = &table->columns[i];
		const char *x = (const char *)a + column->offset;
		const char *y = (const char *)b + column->offset;
		bool equal;

		if (column->kind == AL_COLUMN_INT)
			equal = memcmp(x, y, sizeof(int64_t)) == 0;
		else if (column->kind == AL_COLUMN_ID)
			equal = strcmp(x, y) == 0;
		else
			equal = al_buf_equal(
				(const struct al_buf *)(const void *)x, (const struct al_buf *)(const void *)y);
		if (!equal)
			fail_msg("%s differs", column->name);
	}
}

static al_rc write_link(struct fixture *f, enum al_write_kind kind, struct al_link_row *row)
{
	struct al_write write = { kind, row, NULL, NULL };

	return al_store_commit(f->store, &write, 1, &f->err);
}

static al_rc write_flow(struct fixture *f, enum al_write_kind kind, struct al_flow_row *row)
{
	struct al_write write = { kind, NULL, row, NULL };

	return al_store_commit(f->store, &write, 1, &f->err);
}

static int64_t change_of(struct fixture *f)
{
	int64_t change = -1;

	assert_rc(f, ACCTLINK_OK, al_store_change(f->store, &change, &f->err));
	return change;
}

struct seen {
	char text[512]; /* the first letter of each user, or ids' seeds */
	int count;
	int stop_after;
	struct al_link_row last;
};

static bool see(void *ctx, struct al_link_row *row)
{
	struct seen *seen = ctx;
	unsigned seed = 0;

	(void)sscanf(row->id, "%16x", &seed);
	(void)snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%u ", seed);
	seen->count++;
	al_link_row_clear(&seen->last);
	seen->last = *row;
	al_link_row_init(row);
	return seen->count != seen->stop_after;
}

static struct al_link_visit start(struct seen *seen, unsigned limit)
{
	struct al_link_visit visit = { see, seen, limit };

	al_link_row_clear(&seen->last);
	memset(seen->text, 0, sizeof(seen->text));
	seen->count = 0;
	seen->stop_after = 0;
	return visit;
}

/* ---- round trips -------------------------------------------------------------------- */

static void every_field_of_a_link_comes_back_at_its_full_size(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;

	al_link_row_init(&row);
	al_link_row_init(&back);
	fill_row(&al_link_table, &row, 7, 70000);
	row.due_at = INT64_MAX;
	row.not_before = INT64_MIN;
	assert_int_equal(row.scope.len, 8192);
	assert_int_equal(row.user.len, 1024);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_int_equal(row.change, 1);
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&back);
	assert_rc(f, ACCTLINK_OK, al_store_find_link(f->store, &row.owner_key, &back, &f->err));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&row);
	assert_true(al_link_row_copy(&row, &back));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

static void every_field_of_a_flow_comes_back_at_its_full_size(void **state)
{
	struct fixture *f = *state;
	struct al_flow_row row;
	struct al_flow_row back;

	al_flow_row_init(&row);
	al_flow_row_init(&back);
	fill_row(&al_flow_table, &row, 9, 70000);
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_INSERT, &row));
	assert_rc(f, ACCTLINK_OK, al_store_get_flow(f->store, &row.state_hash, &back, &f->err));
	assert_rows_equal(&al_flow_table, &row, &back);
	row.state_hash.data[3] ^= 1;
	assert_rc(f, AL_ABSENT, al_store_get_flow(f->store, &row.state_hash, &back, &f->err));
	assert_int_equal(back.user.len, 0);
	al_flow_row_clear(&row);
	al_flow_row_clear(&back);
}

static void empty_fields_come_back_empty(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;

	al_link_row_init(&row);
	al_link_row_init(&back);
	memset(row.id, 'f', AL_ID_LEN);
	assert_true(al_buf_puts(&row.owner_key, "k") && al_buf_puts(&row.user, "u") && al_buf_puts(&row.provider, "p"));
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

static void sealed_blobs_of_every_length_come_back_equal_to_the_byte(void **state)
{
	static const size_t lengths[] = { 1, 255, 1024, 2000, 4096, 16384, 65536, 65537, 1 << 20, AL_SEALED_MAX };
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;

	make_link(&row, 1);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	for (size_t i = 0; i < AL_COUNT(lengths); i++) {
		char *blob = malloc(lengths[i]);

		assert_non_null(blob);
		for (size_t j = 0; j < lengths[i]; j++)
			blob[j] = (char)(j * 31 >> 3);
		assert_true(al_buf_set(&row.sealed, blob, lengths[i]));
		free(blob);
		assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
		assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
		assert_int_equal(back.sealed.len, lengths[i]);
		assert_true(al_buf_equal(&row.sealed, &back.sealed));
	}
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

static void users_that_look_alike_are_users_of_their_own(void **state)
{
	static const char *const users[] = { "Ana", "ana", "\xc3\xa1na", "a\xcc\x81na", "' OR 1=1 --", "%00", "../x",
		"ana ", " ana", "%", "_na", "*", "an", "anaa", "\"ana\"", "ana;DROP TABLE link", "NULL", "0", "0.0",
		"1e0" };
	struct fixture *f = *state;
	struct seen seen = { .count = 0 };

	al_link_row_init(&seen.last);
	for (size_t i = 0; i < AL_COUNT(users); i++) {
		struct al_link_row row;

		make_link(&row, (unsigned)i + 1);
		assert_true(al_buf_set(&row.user, users[i], strlen(users[i])));
		assert_true(al_buf_set(&row.owner_key, users[i], strlen(users[i])));
		assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
		al_link_row_clear(&row);
	}
	for (size_t i = 0; i < AL_COUNT(users); i++) {
		struct al_link_visit visit = start(&seen, 100);
		struct al_buf user;

		al_buf_init(&user, 1024);
		assert_true(al_buf_puts(&user, users[i]));
		assert_rc(f, ACCTLINK_OK, al_store_list_user(f->store, &user, "", &visit, &f->err));
		assert_int_equal(seen.count, 1);
		assert_true(al_buf_equal(&seen.last.user, &user));
		assert_rc(f, ACCTLINK_OK, al_store_find_link(f->store, &user, &seen.last, &f->err));
		assert_true(al_buf_equal(&seen.last.user, &user));
		al_buf_clear(&user);
	}
	al_link_row_clear(&seen.last);
}

/* ---- nothing is cut ------------------------------------------------------------------ */

static void what_is_too_long_or_too_short_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	int64_t before = change_of(f);

	for (size_t i = 0; i < al_link_table.count; i++) {
		const struct al_column *column = &al_link_table.columns[i];
		struct al_link_row row;
		struct al_buf *buf;

		if (column->kind != AL_COLUMN_TEXT && column->kind != AL_COLUMN_BLOB)
			continue;
		make_link(&row, 3);
		buf = column_of(&al_link_table, &row, column->name);
		al_buf_clear(buf);
		buf->max = column->max + 1;
		while (buf->len <= column->max)
			assert_true(al_buf_put(buf, f->root, buf->max - buf->len < 32 ? buf->max - buf->len : 32));
		memset(&f->err, 0, sizeof(f->err));
		assert_rc(f, ACCTLINK_BAD_ARGUMENT, write_link(f, AL_LINK_INSERT, &row));
		assert_non_null(strstr(f->err.message, column->name));
		al_buf_clear(buf);
		if (column->min > 0)
			assert_rc(f, ACCTLINK_BAD_ARGUMENT, write_link(f, AL_LINK_INSERT, &row));
		buf->max = 0;
		al_link_row_clear(&row);
	}
	assert_int_equal(change_of(f), before);
}

static void a_buffer_that_failed_to_grow_is_never_written(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	char text[1025];

	memset(text, 'u', sizeof(text));
	make_link(&row, 3);
	assert_true(al_buf_set(&row.user, text, 1024));
	assert_false(al_buf_put(&row.user, text, 1));
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, write_link(f, AL_LINK_INSERT, &row));
	assert_rc(f, AL_ABSENT, al_store_get_link(f->store, row.id, &row, &f->err));
	al_link_row_clear(&row);
}

static void ids_are_checked(void **state)
{
	static const char *const ids[] = { "", "abc", "0123456789ABCDEF0123456789abcdef",
		"../../../../../../../../etc/passwd" };
	struct fixture *f = *state;
	struct al_link_row row;

	for (size_t i = 0; i < AL_COUNT(ids); i++) {
		make_link(&row, 3);
		(void)snprintf(row.id, sizeof(row.id), "%s", ids[i]);
		assert_rc(f, ACCTLINK_BAD_ARGUMENT, write_link(f, AL_LINK_INSERT, &row));
		assert_rc(f, AL_ABSENT, al_store_get_link(f->store, ids[i], &row, &f->err));
		al_link_row_clear(&row);
	}
	make_link(&row, 3);
	(void)snprintf(row.claim_owner, sizeof(row.claim_owner), "x");
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, write_link(f, AL_LINK_INSERT, &row));
	row.claim_owner[0] = '\0';
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	al_link_row_clear(&row);
}

static void incomplete_calls_are_bad_arguments(void **state)
{
	static const enum al_write_kind kinds[] = { AL_LINK_INSERT, AL_LINK_DELETE, AL_FLOW_SWAP, AL_AUDIT_INSERT,
		(enum al_write_kind)99 };
	struct fixture *f = *state;
	struct al_buf empty = { 0 };
	struct al_store *store = NULL;
	struct al_link_row row;

	al_link_row_init(&row);
	for (size_t i = 0; i < AL_COUNT(kinds); i++) {
		struct al_write write = { kinds[i], NULL, NULL, NULL };

		assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_commit(f->store, &write, 1, &f->err));
		assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_commit(f->store, &write, 0, NULL));
	}
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_commit(f->store, NULL, 1, &f->err));
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_get_link(f->store, NULL, &row, &f->err));
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_find_link(f->store, &empty, &row, &f->err));
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_list_due(f->store, 1, NULL, &f->err));
	assert_rc(f, ACCTLINK_BAD_ARGUMENT, al_store_new("", NULL, NULL, &store, &f->err));
	assert_rc(f, ACCTLINK_BAD_STORE, al_store_new("/tmp/", NULL, NULL, &store, &f->err));
	assert_null(store);
}

/* ---- compare and swap ------------------------------------------------------------------ */

static void a_swap_from_an_old_row_is_a_conflict_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row old;
	struct al_link_row back;

	make_link(&row, 1);
	al_link_row_init(&old);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_true(al_link_row_copy(&old, &row));
	row.generation++;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	assert_int_equal(row.change, old.change + 1);
	old.reason = 99;
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_SWAP, &old));
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_MARK, &old));
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_DELETE, &old));
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_INSERT, &old));
	assert_int_equal(old.change, row.change - 1);
	assert_int_equal(change_of(f), row.change);
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&row);
	al_link_row_clear(&old);
	al_link_row_clear(&back);
}

static void a_mark_changes_all_but_the_seal(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row marked;
	struct al_link_row back;

	make_link(&row, 1);
	al_link_row_init(&marked);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	fill_row(&al_link_table, &marked, 2, 50);
	memcpy(marked.id, row.id, sizeof(row.id));
	marked.change = row.change;
	marked.epoch = row.epoch;
	marked.generation = row.generation;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_MARK, &marked));
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_true(al_buf_equal(&back.sealed, &row.sealed) && al_buf_equal(&back.key_id, &row.key_id));
	assert_true(al_buf_copy(&marked.sealed, &row.sealed) && al_buf_copy(&marked.key_id, &row.key_id));
	assert_rows_equal(&al_link_table, &marked, &back);
	al_link_row_clear(&row);
	al_link_row_clear(&marked);
	al_link_row_clear(&back);
}

static void a_mark_that_would_lock_the_token_set_up_is_refused(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	row.generation++;
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_MARK, &row));
	row.generation--;
	row.epoch++;
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_MARK, &row));
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	al_link_row_clear(&row);
}

static void an_owner_key_has_one_link_besides_those_being_unlinked(void **state)
{
	struct fixture *f = *state;
	struct al_link_row first;
	struct al_link_row second;
	struct al_link_row back;

	make_link(&first, 1);
	make_link(&second, 2);
	al_link_row_init(&back);
	assert_true(al_buf_copy(&second.owner_key, &first.owner_key));
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &first));
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_INSERT, &second));
	first.state = ACCTLINK_STATE_UNLINKING;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_MARK, &first));
	assert_rc(f, AL_ABSENT, al_store_find_link(f->store, &first.owner_key, &back, &f->err));
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &second));
	assert_rc(f, ACCTLINK_OK, al_store_find_link(f->store, &first.owner_key, &back, &f->err));
	assert_string_equal(back.id, second.id);
	first.state = ACCTLINK_STATE_LINKED;
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_MARK, &first));
	al_link_row_clear(&first);
	al_link_row_clear(&second);
	al_link_row_clear(&back);
}

static void a_commit_keeps_all_of_its_writes_or_none(void **state)
{
	struct fixture *f = *state;
	struct al_link_row link;
	struct al_flow_row flow;
	struct al_audit_row audit = { 5, "", { "ana", 3 }, "linked", 1, 2, "" };
	struct al_write writes[] = { { AL_FLOW_INSERT, NULL, &flow, NULL }, { AL_AUDIT_INSERT, NULL, NULL, &audit },
		{ AL_LINK_SWAP, &link, NULL, NULL } };

	make_link(&link, 1);
	make_flow(&flow, 1);
	assert_rc(f, AL_CONFLICT, al_store_commit(f->store, writes, 3, &f->err));
	assert_rc(f, AL_ABSENT, al_store_get_flow(f->store, &flow.state_hash, &flow, &f->err));
	assert_int_equal(look(f->path, "SELECT count(*) FROM audit"), 0);
	al_flow_row_clear(&flow);
	make_flow(&flow, 1);
	writes[2].kind = AL_LINK_INSERT;
	assert_rc(f, ACCTLINK_OK, al_store_commit(f->store, writes, 3, &f->err));
	assert_int_equal(flow.change, 1);
	assert_int_equal(link.change, 1);
	assert_int_equal(look(f->path,
				 "SELECT count(*) FROM audit WHERE at = 5 AND user = 'ana' AND what = 'linked'"
				 " AND epoch = 1 AND generation = 2 AND link_id = '' AND detail = ''"),
		1);
	al_link_row_clear(&link);
	al_flow_row_clear(&flow);
}

static void a_deleted_link_is_gone(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;

	make_link(&row, 1);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_DELETE, &row));
	assert_rc(f, AL_ABSENT, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_DELETE, &row));
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

/* ---- lists ------------------------------------------------------------------------------ */

static void insert_links(struct fixture *f, unsigned count)
{
	for (unsigned i = 1; i <= count; i++) {
		struct al_link_row row;

		make_link(&row, i);
		assert_true(al_buf_set(&row.user, i % 2 == 0 ? "even" : "odd", i % 2 == 0 ? 4 : 3));
		assert_true(al_buf_set(&row.subject, "s", 1));
		assert_true(al_buf_set(&row.issuer, "i", 1));
		assert_true(al_buf_set(&row.client, "\0c", 2));
		row.state = i == 3 ? ACCTLINK_STATE_UNLINKING
			: i == 4   ? ACCTLINK_STATE_SUPERSEDED
				   : ACCTLINK_STATE_LINKED;
		row.due_at = i == 5 ? 0 : 100 - (int64_t)i;
		row.revoke_at = i == 3 ? 50 : 0;
		assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
		al_link_row_clear(&row);
	}
}

static void links_of_a_user_are_listed_in_pages_by_id(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { .count = 0 };
	struct al_link_visit visit;
	struct al_buf user;
	char after[AL_ID_LEN + 1] = "";

	al_link_row_init(&seen.last);
	al_buf_init(&user, 64);
	insert_links(f, 9);
	assert_true(al_buf_puts(&user, "odd"));
	visit = start(&seen, 2);
	assert_rc(f, ACCTLINK_OK, al_store_list_user(f->store, &user, after, &visit, &f->err));
	assert_string_equal(seen.text, "1 5 ");
	memcpy(after, seen.last.id, sizeof(after));
	visit = start(&seen, 5);
	assert_rc(f, ACCTLINK_OK, al_store_list_user(f->store, &user, after, &visit, &f->err));
	assert_string_equal(seen.text, "7 9 ");
	assert_int_equal(seen.last.sealed.len, 40);
	visit = start(&seen, 5);
	seen.stop_after = 1;
	assert_rc(f, ACCTLINK_OK, al_store_list_user(f->store, &user, "", &visit, &f->err));
	assert_string_equal(seen.text, "1 ");
	visit = start(&seen, 0);
	assert_rc(f, ACCTLINK_OK, al_store_list_user(f->store, &user, "", &visit, &f->err));
	assert_int_equal(seen.count, 0);
	al_buf_clear(&user);
	al_link_row_clear(&seen.last);
}

static void links_are_listed_by_subject_due_time_and_revocation(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { .count = 0 };
	struct al_link_row model;
	struct al_link_visit visit;

	al_link_row_init(&seen.last);
	al_link_row_init(&model);
	insert_links(f, 6);
	assert_true(al_buf_put(&model.issuer, "i", 1) && al_buf_put(&model.client, "\0c", 2)
		&& al_buf_put(&model.subject, "s", 1));
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK,
		al_store_list_subject(f->store, &model.issuer, &model.client, &model.subject, &visit, &f->err));
	assert_string_equal(seen.text, "1 2 5 6 ");
	assert_true(al_buf_set(&model.client, "\0d", 2));
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK,
		al_store_list_subject(f->store, &model.issuer, &model.client, &model.subject, &visit, &f->err));
	assert_string_equal(seen.text, "");
	visit = start(&seen, 3);
	assert_rc(f, ACCTLINK_OK, al_store_list_due(f->store, 98, &visit, &f->err));
	assert_string_equal(seen.text, "6 4 3 ");
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK, al_store_list_due(f->store, 95, &visit, &f->err));
	assert_string_equal(seen.text, "6 ");
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK, al_store_list_revocations(f->store, 49, &visit, &f->err));
	assert_string_equal(seen.text, "");
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK, al_store_list_revocations(f->store, 50, &visit, &f->err));
	assert_string_equal(seen.text, "3 ");
	al_link_row_clear(&model);
	al_link_row_clear(&seen.last);
}

static void what_changed_since_a_number_is_listed_in_order(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { .count = 0 };
	struct al_link_row row;
	struct al_link_visit visit = start(&seen, 9);

	al_link_row_init(&seen.last);
	al_link_row_init(&row);
	insert_links(f, 4);
	assert_int_equal(change_of(f), 4);
	assert_rc(f, ACCTLINK_OK, al_store_list_changed(f->store, 2, &visit, &f->err));
	assert_string_equal(seen.text, "3 4 ");
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, "00000000000000010000000000000000", &row, &f->err));
	row.state = ACCTLINK_STATE_STALE;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_MARK, &row));
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK, al_store_list_changed(f->store, 3, &visit, &f->err));
	assert_string_equal(seen.text, "4 1 ");
	assert_string_equal(seen.last.id, row.id);
	assert_true(al_buf_equal(&seen.last.owner_key, &row.owner_key));
	assert_int_equal(seen.last.state, ACCTLINK_STATE_STALE);
	assert_int_equal(seen.last.epoch, row.epoch);
	assert_int_equal(seen.last.generation, row.generation);
	assert_int_equal(seen.last.rejected_generation, row.rejected_generation);
	assert_int_equal(seen.last.change, 5);
	assert_int_equal(seen.last.sealed.len, 0);
	visit = start(&seen, 9);
	assert_rc(f, ACCTLINK_OK, al_store_list_changed(f->store, 5, &visit, &f->err));
	assert_int_equal(seen.count, 0);
	al_link_row_clear(&row);
	al_link_row_clear(&seen.last);
}

/* ---- flows and meta ------------------------------------------------------------------------ */

static void a_flow_is_swapped_marked_and_deleted_like_a_link(void **state)
{
	struct fixture *f = *state;
	struct al_flow_row row;
	struct al_flow_row back;

	make_flow(&row, 1);
	al_flow_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_INSERT, &row));
	assert_rc(f, AL_CONFLICT, write_flow(f, AL_FLOW_INSERT, &row));
	row.phase = AL_FLOW_EXCHANGING;
	row.epoch++;
	assert_true(al_buf_set(&row.sealed, "other", 5));
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_MARK, &row));
	assert_rc(f, ACCTLINK_OK, al_store_get_flow(f->store, &row.state_hash, &back, &f->err));
	assert_int_equal(back.phase, AL_FLOW_EXCHANGING);
	assert_int_equal(back.epoch, row.epoch);
	assert_int_equal(back.sealed.len, 40);
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_SWAP, &row));
	assert_rc(f, AL_CONFLICT, write_flow(f, AL_FLOW_SWAP, &back));
	assert_rc(f, AL_CONFLICT, write_flow(f, AL_FLOW_MARK, &back));
	assert_rc(f, AL_CONFLICT, write_flow(f, AL_FLOW_DELETE, &back));
	assert_rc(f, ACCTLINK_OK, al_store_get_flow(f->store, &row.state_hash, &back, &f->err));
	assert_rows_equal(&al_flow_table, &row, &back);
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_DELETE, &back));
	assert_rc(f, AL_ABSENT, al_store_get_flow(f->store, &row.state_hash, &back, &f->err));
	al_flow_row_clear(&row);
	al_flow_row_clear(&back);
}

static void insert_flow(struct fixture *f, unsigned seed, const char *user, int64_t expires_at, int64_t phase)
{
	struct al_flow_row row;

	make_flow(&row, seed);
	assert_true(al_buf_set(&row.user, user, strlen(user)));
	row.created_at = seed;
	row.expires_at = expires_at;
	row.phase = phase;
	assert_rc(f, ACCTLINK_OK, write_flow(f, AL_FLOW_INSERT, &row));
	al_flow_row_clear(&row);
}

static void old_and_surplus_flows_are_swept(void **state)
{
	struct fixture *f = *state;
	struct al_buf user;
	int64_t before;

	al_buf_init(&user, 64);
	assert_true(al_buf_puts(&user, "ana"));
	insert_flow(f, 1, "ana", 100, AL_FLOW_DONE);
	insert_flow(f, 2, "bob", 101, AL_FLOW_PENDING);
	for (unsigned i = 3; i < 8; i++)
		insert_flow(f, i, "ana", 1000, AL_FLOW_PENDING);
	insert_flow(f, 8, "ana", 1000, AL_FLOW_EXCHANGING);
	before = change_of(f);
	assert_rc(f, ACCTLINK_OK, al_store_sweep_flows(f->store, 100, &user, 5, &f->err));
	assert_int_equal(change_of(f), before); /* nothing to do: no commit */
	assert_rc(f, ACCTLINK_OK, al_store_sweep_flows(f->store, 101, NULL, 0, &f->err));
	assert_int_equal(look(f->path, "SELECT count(*) FROM flow"), 7);
	assert_rc(f, ACCTLINK_OK, al_store_sweep_flows(f->store, 101, &user, 2, &f->err));
	assert_int_equal(
		look(f->path, "SELECT group_concat(created_at, '') FROM (SELECT created_at FROM flow ORDER BY 1)"),
		2678);
	assert_rc(f, ACCTLINK_OK, al_store_sweep_flows(f->store, 102, &user, 0, &f->err));
	assert_int_equal(look(f->path, "SELECT group_concat(created_at, '') FROM flow"), 8);
	al_buf_clear(&user);
}

static void a_meta_value_is_put_once(void **state)
{
	struct fixture *f = *state;
	struct al_buf value;
	struct al_buf back;

	al_buf_init(&value, 64);
	al_buf_init(&back, 64);
	assert_rc(f, AL_ABSENT, al_store_get_meta(f->store, "name", &back, &f->err));
	assert_true(al_buf_put(&value, "a\0b", 3));
	assert_rc(f, ACCTLINK_OK, al_store_put_meta(f->store, "name", &value, &f->err));
	assert_rc(f, AL_CONFLICT, al_store_put_meta(f->store, "name", &back, &f->err));
	assert_rc(f, ACCTLINK_OK, al_store_get_meta(f->store, "name", &back, &f->err));
	assert_true(al_buf_equal(&value, &back));
	al_buf_clear(&value);
	al_buf_clear(&back);
}

/* ---- files ------------------------------------------------------------------------------- */

static void folder_and_files_are_private_whatever_the_umask(void **state)
{
	static const mode_t masks[] = { 000, 077, 022, 0177 };
	struct fixture *f = *state;

	for (size_t i = 0; i < AL_COUNT(masks); i++) {
		struct al_link_row row;
		mode_t old = umask(masks[i]);
		char folder[192];

		(void)snprintf(folder, sizeof(folder), "%s/state%zu", f->root, i);
		(void)snprintf(f->path, sizeof(f->path), "%s/store.db", folder);
		make_link(&row, 1);
		assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
		assert_int_equal(count_files(folder), 3); /* the store, . and .. */
		assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
		assert_int_equal(umask(old), masks[i]);
		assert_int_equal(mode_of(folder, ""), 0700);
		assert_int_equal(mode_of(f->path, ""), 0600);
		assert_int_equal(mode_of(f->path, "-wal"), 0600);
		assert_int_equal(mode_of(f->path, "-shm"), 0600);
		al_link_row_clear(&row);
		al_store_free(&f->store);
	}
}

static void making_a_store_leaves_nothing_open(void **state)
{
	struct fixture *f = *state;
	int before = count_files("/proc/self/fd");

	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
	assert_int_equal(count_files("/proc/self/fd"), before);
	assert_int_equal(change_of(f), 0);
	assert_true(count_files("/proc/self/fd") > before);
	for (int fd = 3; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);
		char link[64];
		char target[256] = "";

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (flags >= 0 && readlink(link, target, sizeof(target) - 1) > 0 && strstr(target, f->root) != NULL)
			assert_int_equal(flags & FD_CLOEXEC, FD_CLOEXEC);
	}
	al_store_free(&f->store);
	assert_int_equal(count_files("/proc/self/fd"), before);
}

static void refuse(struct fixture *f, al_rc expected, const char *words)
{
	assert_rc(f, expected, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
	assert_null(f->store);
	if (strstr(f->err.message, words) == NULL || strstr(f->err.where, f->root) == NULL)
		fail_msg("%s: %s", f->err.where, f->err.message);
}

static void write_file(const char *path, const char *text, size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
}

static void a_file_with_the_wrong_mode_or_kind_is_refused(void **state)
{
	struct fixture *f = *state;
	char other[192];

	(void)snprintf(other, sizeof(other), "%s/other.db", f->root);
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	assert_rc(f, ACCTLINK_OK, al_store_new(other, NULL, NULL, &f->store, &f->err));
	al_store_free(&f->store);
	assert_int_equal(symlink("other.db", f->path), 0);
	refuse(f, ACCTLINK_BAD_STORE, "symbolic link");
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(mkdir(f->path, 0700), 0);
	refuse(f, ACCTLINK_BAD_STORE, "folder");
	assert_int_equal(rmdir(f->path), 0);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	refuse(f, ACCTLINK_BAD_STORE, "special file");
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(rename(other, f->path), 0);
	assert_int_equal(chmod(f->path, 0640), 0);
	refuse(f, ACCTLINK_BAD_STORE, "chmod 600");
	assert_int_equal(chmod(f->path, 0604), 0);
	refuse(f, ACCTLINK_BAD_STORE, "chmod 600");
	assert_int_equal(chmod(f->path, 0600), 0);
	assert_int_equal(chmod(f->root, 0770), 0);
	refuse(f, ACCTLINK_BAD_STORE, "chmod 700");
	assert_int_equal(chmod(f->root, 0755), 0);
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
}

static void a_folder_that_is_a_symbolic_link_or_relative_works_from_any_directory(void **state)
{
	struct fixture *f = *state;
	char name[192];
	char before[512];

	assert_non_null(getcwd(before, sizeof(before)));
	(void)snprintf(name, sizeof(name), "%s/real", f->root);
	assert_int_equal(mkdir(name, 0700), 0);
	(void)snprintf(name, sizeof(name), "%s/linked", f->root);
	assert_int_equal(symlink("real", name), 0);
	assert_int_equal(chdir(f->root), 0);
	assert_rc(f, ACCTLINK_OK, al_store_new("linked/store.db", NULL, NULL, &f->store, &f->err));
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(change_of(f), 0);
	al_store_free(&f->store);
	assert_int_equal(chdir(f->root), 0);
	assert_rc(f, ACCTLINK_OK, al_store_new("bare.db", NULL, NULL, &f->store, &f->err));
	assert_int_equal(chdir(before), 0);
	assert_int_equal(change_of(f), 0);
}

static void a_missing_parent_folder_is_named(void **state)
{
	struct fixture *f = *state;

	(void)snprintf(f->path, sizeof(f->path), "%s/no/such/store.db", f->root);
	refuse(f, ACCTLINK_BAD_STORE, "No such file or directory");
	(void)snprintf(f->path, sizeof(f->path), "%s/file/store.db", f->root);
	f->path[strlen(f->path) - strlen("/store.db")] = '\0';
	write_file(f->path, "x", 1, 0600);
	(void)snprintf(f->path + strlen(f->path), 16, "/store.db");
	refuse(f, ACCTLINK_BAD_STORE, "Not a directory");
}

/* As a user without privileges, whoever runs the test. */
static void become_nobody(void)
{
	if (geteuid() == 0)
		need(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void an_unwritable_folder_is_a_clear_error(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	if (geteuid() == 0)
		assert_int_equal(chown(f->root, NOBODY, NOBODY), 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	pid = fork();
	if (pid == 0) {
		become_nobody();
		need(al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_OK);
		need(chmod(f->root, 0500) == 0);
		need(al_store_change(f->store, &(int64_t){ 0 }, &f->err) == ACCTLINK_STORE_DOWN);
		need(strstr(f->err.message, f->path) != NULL && strstr(f->err.message, "check owner") != NULL);
		need(chmod(f->root, 0700) == 0);
		need(al_store_change(f->store, &(int64_t){ 0 }, &f->err) == ACCTLINK_OK);
		al_store_free(&f->store);
		need(unlink(f->path) == 0 && chmod(f->root, 0500) == 0);
		need(al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_BAD_STORE);
		need(strstr(f->err.message, "Permission denied") != NULL);
		need(chmod(f->root, 0700) == 0);
		end_child(f, NULL, NULL);
	}
	assert_child_good(pid);
}

static void another_users_store_is_refused(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
	al_store_free(&f->store);
	assert_int_equal(chmod(f->root, 0755), 0);
	pid = fork();
	if (pid == 0) {
		become_nobody();
		need(al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_BAD_STORE);
		need(strstr(f->err.message, "chown") != NULL);
		end_child(f, NULL, NULL);
	}
	assert_child_good(pid);
	assert_int_equal(chown(f->path, NOBODY, NOBODY), 0);
	refuse(f, ACCTLINK_BAD_STORE, "chown");
}

static void root_leaves_nothing_that_the_service_cannot_use(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	assert_int_equal(chown(f->root, NOBODY, NOBODY), 0);
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
	assert_int_equal(owner_of(f->path, ""), NOBODY);
	assert_int_equal(count_files(f->root), 3);
	make_link(&row, 1);
	pid = fork();
	if (pid == 0) {
		become_nobody();
		need(write_link(f, AL_LINK_INSERT, &row) == ACCTLINK_OK);
		end_child(f, &row, NULL);
	}
	assert_child_good(pid);
	/* An administrator's tool on the live store: its side files must be the service's. */
	row.change = 1;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	assert_int_equal(owner_of(f->path, "-wal"), NOBODY);
	assert_int_equal(owner_of(f->path, "-shm"), NOBODY);
	pid = fork();
	if (pid == 0) {
		struct al_store *own = NULL;

		al_store_free(&f->store);
		become_nobody();
		need(al_store_new(f->path, NULL, NULL, &own, &f->err) == ACCTLINK_OK);
		f->store = own;
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		end_child(f, &row, NULL);
	}
	assert_child_good(pid);
	al_link_row_clear(&row);
}

/* ---- stores that must be refused ------------------------------------------------------------ */

static void a_store_of_a_newer_version_is_refused_and_untouched(void **state)
{
	struct fixture *f = *state;

	al_store_free(&f->store);
	tamper(f->path, "PRAGMA user_version = 2");
	refuse(f, ACCTLINK_BAD_STORE, "newer acctlink");
	assert_int_equal(look(f->path, "PRAGMA user_version"), 2);
	tamper(f->path, "PRAGMA user_version = 1");
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
}

static void a_database_of_another_program_is_refused_and_untouched(void **state)
{
	struct fixture *f = *state;

	al_store_free(&f->store);
	assert_int_equal(unlink(f->path), 0);
	tamper(f->path, "CREATE TABLE t (a)");
	assert_int_equal(chmod(f->path, 0600), 0);
	refuse(f, ACCTLINK_BAD_STORE, "not acctlink's");
	assert_int_equal(look(f->path, "SELECT count(*) FROM sqlite_schema"), 1);
	assert_int_equal(unlink(f->path), 0);
	tamper(f->path, "PRAGMA application_id = 5");
	assert_int_equal(chmod(f->path, 0600), 0);
	refuse(f, ACCTLINK_BAD_STORE, "not acctlink's");
}

static void a_store_without_one_of_its_columns_is_refused(void **state)
{
	struct fixture *f = *state;

	al_store_free(&f->store);
	tamper(f->path, "ALTER TABLE link DROP COLUMN scope");
	refuse(f, ACCTLINK_BAD_STORE, "scope");
}

static void damaged_and_truncated_files_are_refused(void **state)
{
	static const off_t sizes[] = { 1, 99, 100, 511, 4096, 8192, 20480 };
	struct fixture *f = *state;
	char garbage[8192];

	al_store_free(&f->store);
	for (size_t i = 0; i < AL_COUNT(sizes); i++) {
		assert_int_equal(unlink(f->path), 0);
		assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
		al_store_free(&f->store);
		assert_int_equal(truncate(f->path, sizes[i]), 0);
		refuse(f, ACCTLINK_BAD_STORE, f->path);
	}
	memset(garbage, 'g', sizeof(garbage));
	write_file(f->path, garbage, sizeof(garbage), 0600);
	refuse(f, ACCTLINK_BAD_STORE, "not a database");
}

static void a_damaged_row_is_an_error_and_not_a_wrong_row(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	tamper(f->path, "UPDATE link SET claim_owner = 'short'");
	assert_rc(f, ACCTLINK_BAD_STORE, al_store_get_link(f->store, row.id, &row, &f->err));
	assert_non_null(strstr(f->err.message, "claim_owner"));
	assert_string_equal(row.id, "");
	tamper(f->path, "UPDATE link SET claim_owner = '', last_error = printf('%065d', 1)");
	assert_rc(
		f, ACCTLINK_BAD_STORE, al_store_get_link(f->store, "00000000000000010000000000000000", &row, &f->err));
	tamper(f->path, "UPDATE link SET last_error = ''");
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, "00000000000000010000000000000000", &row, &f->err));
	al_link_row_clear(&row);
}

/* ---- connections ----------------------------------------------------------------------------- */

static int64_t pragma(const char *name)
{
	char sql[64];
	sqlite3_stmt *statement = NULL;
	int64_t value = -1;

	(void)snprintf(sql, sizeof(sql), "PRAGMA %s", name);
	assert_int_equal(sqlite3_prepare_v2(last_opened, sql, -1, &statement, NULL), SQLITE_OK);
	if (sqlite3_step(statement) == SQLITE_ROW)
		value = sqlite3_column_int64(statement, 0);
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	return value;
}

static void connections_are_durable_and_closed_to_tricks(void **state)
{
	static const int off[] = { SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, SQLITE_DBCONFIG_ENABLE_TRIGGER,
		SQLITE_DBCONFIG_ENABLE_VIEW };
	struct fixture *f = *state;
	int value = -1;

	assert_int_equal(change_of(f), 0);
	assert_int_equal(pragma("synchronous"), 2);
	assert_int_equal(pragma("secure_delete"), 1);
	assert_int_equal(pragma("cell_size_check"), 1);
	assert_int_equal(pragma("trusted_schema"), 0);
	assert_int_equal(pragma("temp_store"), 2);
	assert_int_equal(pragma("mmap_size"), 0);
	assert_int_equal(pragma("application_id"), 0x61636c6e);
	assert_int_equal(pragma("user_version"), AL_STORE_SCHEMA);
	for (size_t i = 0; i < AL_COUNT(off); i++) {
		assert_int_equal(sqlite3_db_config(last_opened, off[i], -1, &value), SQLITE_OK);
		assert_int_equal(value, 0);
	}
	assert_int_equal(sqlite3_db_config(last_opened, SQLITE_DBCONFIG_DEFENSIVE, -1, &value), SQLITE_OK);
	assert_int_equal(value, 1);
	assert_int_equal(look(f->path, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'"), 1);
}

struct crowd {
	struct al_store *store;
	_Atomic int failed;
};

static void *read_often(void *arg)
{
	struct crowd *crowd = arg;

	for (int i = 0; i < 50; i++) {
		struct al_link_row row;

		al_link_row_init(&row);
		if (al_store_get_link(crowd->store, "00000000000000010000000000000000", &row, NULL) != ACCTLINK_OK
			|| row.sealed.len != 40)
			crowd->failed++;
		al_link_row_clear(&row);
	}
	return NULL;
}

static void more_threads_than_connections_share_them(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd = { f->store, 0 };
	struct al_link_row row;
	pthread_t threads[24];

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, &crowd), 0);
	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(crowd.failed, 0);
	al_link_row_clear(&row);
}

static void a_store_that_is_moved_or_replaced_while_in_use_is_down(void **state)
{
	struct fixture *f = *state;
	struct fixture other = *f;
	struct al_link_row row;
	char aside[256];

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	(void)snprintf(aside, sizeof(aside), "%s/aside.db", f->root);
	(void)snprintf(other.path, sizeof(other.path), "%s/other.db", f->root);
	assert_rc(&other, ACCTLINK_OK, al_store_new(other.path, NULL, NULL, &other.store, &other.err));
	al_store_free(&other.store);
	assert_int_equal(rename(f->path, aside), 0);
	assert_rc(f, ACCTLINK_STORE_DOWN, write_link(f, AL_LINK_SWAP, &row));
	assert_int_equal(mode_of(f->path, ""), 0); /* no empty one is made in its place */
	assert_int_equal(rename(other.path, f->path), 0);
	assert_rc(f, ACCTLINK_STORE_DOWN, write_link(f, AL_LINK_SWAP, &row));
	assert_non_null(strstr(f->err.message, "put it back"));
	assert_int_equal(rename(aside, f->path), 0);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	assert_int_equal(row.change, 2);
	al_link_row_clear(&row);
}

/* ---- faults ------------------------------------------------------------------------------------ */

static void a_store_that_is_busy_for_too_long_is_down_and_recovers(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	sqlite3 *other = NULL;
	int64_t begin = al_monotonic_ms();

	make_link(&row, 1);
	assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_rc(f, ACCTLINK_STORE_DOWN, write_link(f, AL_LINK_INSERT, &row));
	assert_true(al_monotonic_ms() - begin >= 4900 && al_monotonic_ms() - begin < 9000);
	assert_non_null(strstr(f->err.message, f->path));
	assert_non_null(strstr(f->err.message, "locked"));
	assert_int_equal(change_of(f), 0); /* reading goes on meanwhile */
	assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(other), SQLITE_OK);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	al_link_row_clear(&row);
}

static void every_step_of_a_commit_can_fail_and_leaves_the_old_rows(void **state)
{
	static const struct {
		int code;
		al_rc rc;
		const char *words;
	} cases[] = { { SQLITE_IOERR_WRITE, ACCTLINK_STORE_DOWN, "disk I/O error" },
		{ SQLITE_IOERR_FSYNC, ACCTLINK_STORE_DOWN, "disk I/O error" },
		{ SQLITE_FULL, ACCTLINK_STORE_DOWN, "free space" }, { SQLITE_BUSY, ACCTLINK_STORE_DOWN, "locked" },
		{ SQLITE_BUSY_SNAPSHOT, ACCTLINK_STORE_DOWN, "locked" },
		{ SQLITE_READONLY, ACCTLINK_STORE_DOWN, "readonly" },
		{ SQLITE_CANTOPEN, ACCTLINK_STORE_DOWN, "unable to open" },
		{ SQLITE_NOMEM, ACCTLINK_NO_MEMORY, "memory" }, { SQLITE_CORRUPT, ACCTLINK_BAD_STORE, "malformed" },
		{ SQLITE_TOOBIG, ACCTLINK_INTERNAL, "too big" } };
	static const char *const steps[] = { "BEGIN", "UPDATE change", "INSERT INTO audit", "UPDATE link", "COMMIT" };
	struct fixture *f = *state;
	struct al_audit_row audit = { 1, "", { "ana", 3 }, "refreshed", 1, 1, "" };
	struct al_link_row row;
	struct al_link_row back;
	struct al_write writes[] = { { AL_AUDIT_INSERT, NULL, NULL, &audit }, { AL_LINK_SWAP, &row, NULL, NULL } };

	make_link(&row, 1);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	for (size_t i = 0; i < AL_COUNT(cases); i++) {
		for (size_t j = 0; j < AL_COUNT(steps); j++) {
			int64_t before = row.change;

			set_fault(steps[j], 0, cases[i].code);
			row.generation++;
			assert_rc(f, cases[i].rc, al_store_commit(f->store, writes, 2, &f->err));
			assert_int_equal(fault.fired, 1);
			assert_non_null(strstr(f->err.message, cases[i].words));
			assert_int_equal(row.change, before);
			assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
			assert_int_equal(back.change, before);
			assert_int_equal(back.generation, row.generation - 1);
			assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
			assert_int_equal(row.change, before + 1);
		}
	}
	assert_int_equal(look(f->path, "SELECT count(*) FROM audit"), 0);
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

static void every_step_of_reading_and_opening_can_fail(void **state)
{
	static const char *const steps[] = { "SELECT id", "SELECT number", "SELECT value", "SELECT state_hash",
		"SELECT EXISTS" };
	static const char *const opening[] = { "PRAGMA user_version", "PRAGMA application_id", "SELECT count",
		"PRAGMA journal_mode", "BEGIN", "COMMIT", "PRAGMA synchronous" };
	struct fixture *f = *state;
	struct seen seen = { .count = 0 };
	struct al_link_visit visit = start(&seen, 3);
	struct al_flow_row flow;
	struct al_store *second = NULL;
	al_rc got[AL_COUNT(steps)];

	make_flow(&flow, 1);
	insert_links(f, 3);
	for (int skip_steps = 0; skip_steps < 2; skip_steps++) {
		set_fault(steps[0], skip_steps, SQLITE_IOERR_READ);
		assert_rc(f, ACCTLINK_STORE_DOWN, al_store_list_changed(f->store, 0, &visit, &f->err));
		assert_int_equal(seen.count, 0);
	}
	set_fault(steps[1], 0, SQLITE_IOERR_READ);
	got[1] = al_store_change(f->store, &(int64_t){ 0 }, &f->err);
	set_fault(steps[2], 0, SQLITE_IOERR_READ);
	got[2] = al_store_get_meta(f->store, "n", &flow.sealed, &f->err);
	set_fault(steps[3], 0, SQLITE_IOERR_READ);
	got[3] = al_store_get_flow(f->store, &flow.state_hash, &flow, &f->err);
	set_fault(steps[4], 0, SQLITE_IOERR_READ);
	got[4] = al_store_sweep_flows(f->store, 1, NULL, 0, &f->err);
	for (size_t i = 1; i < AL_COUNT(steps); i++)
		assert_int_equal(got[i], ACCTLINK_STORE_DOWN);
	for (size_t i = 0; i < AL_COUNT(opening); i++) {
		set_fault(opening[i], 0, SQLITE_IOERR_READ);
		if (al_store_new(f->path, NULL, NULL, &second, &f->err) == ACCTLINK_OK) {
			assert_int_equal(fault.fired, 0);
			al_store_free(&second);
		}
		assert_null(second);
	}
	al_flow_row_clear(&flow);
	al_link_row_clear(&seen.last);
}

static void a_commit_that_was_kept_though_it_reported_a_failure_is_recognized(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;

	make_link(&row, 1);
	al_link_row_init(&back);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	row.generation = 77;
	set_fault("COMMIT", 0, SQLITE_IOERR_FSYNC);
	fault.late = true;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	assert_int_equal(fault.fired, 1);
	assert_int_equal(row.change, 2);
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_rows_equal(&al_link_table, &row, &back);
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

static struct fixture *meanwhile_fixture;

static void write_meanwhile(void)
{
	struct al_link_row row;

	make_link(&row, 2);
	assert_rc(meanwhile_fixture, ACCTLINK_OK, write_link(meanwhile_fixture, AL_LINK_INSERT, &row));
	al_link_row_clear(&row);
}

static void a_failed_commit_that_others_have_covered_is_not_called_kept(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;

	meanwhile_fixture = f;
	make_link(&row, 1);
	set_fault("COMMIT", 0, SQLITE_IOERR_FSYNC);
	fault.late = true;
	fault.meanwhile = write_meanwhile;
	assert_rc(f, ACCTLINK_STORE_DOWN, write_link(f, AL_LINK_INSERT, &row));
	assert_non_null(strstr(f->err.message, "can't be told"));
	assert_int_equal(change_of(f), 2);
	al_link_row_clear(&row);
}

static void on_a_full_disk_the_old_row_stays(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	struct al_link_row back;
	pid_t pid;

	make_link(&row, 1);
	al_link_row_init(&back);
	pid = fork();
	if (pid == 0) {
		struct rlimit limit = { 128 * 1024, RLIM_INFINITY };

		need(write_link(f, AL_LINK_INSERT, &row) == ACCTLINK_OK);
		need(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
		row.generation++;
		for (size_t i = 0; i < 200000; i++)
			need(al_buf_put(&row.sealed, "x", 1));
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_STORE_DOWN);
		need(strstr(f->err.message, f->path) != NULL && row.change == 1);
		need(al_store_get_link(f->store, row.id, &back, &f->err) == ACCTLINK_OK);
		need(back.generation == row.generation - 1 && back.sealed.len == 40);
		need(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }) == 0);
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		end_child(f, &row, &back);
	}
	assert_child_good(pid);
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &back, &f->err));
	assert_int_equal(back.generation, row.generation + 1);
	assert_int_equal(back.sealed.len, 200040);
	al_link_row_clear(&row);
	al_link_row_clear(&back);
}

/* ---- processes --------------------------------------------------------------------------------- */

static void count_up(struct fixture *f, int rounds)
{
	struct al_link_row row;

	al_link_row_init(&row);
	while (rounds > 0) {
		al_rc rc;

		need(al_store_get_link(f->store, "00000000000000010000000000000000", &row, &f->err) == ACCTLINK_OK);
		row.generation++;
		rc = write_link(f, AL_LINK_SWAP, &row);
		need(rc == ACCTLINK_OK || rc == AL_CONFLICT);
		rounds -= rc == ACCTLINK_OK ? 1 : 0;
	}
	al_link_row_clear(&row);
}

static void *count_up_thread(void *arg)
{
	struct fixture mine = *(struct fixture *)arg;

	count_up(&mine, 25);
	return NULL;
}

static void swaps_of_many_threads_and_processes_never_lose_one(void **state)
{
	struct fixture *f = *state;
	struct fixture maker = *f;
	struct al_link_row row;
	pid_t pids[4];

	make_link(&row, 1);
	row.generation = 0;
	maker.store = NULL;
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &maker.store, &f->err));
	assert_rc(f, ACCTLINK_OK, write_link(&maker, AL_LINK_INSERT, &row));
	al_store_free(&maker.store);
	for (size_t i = 0; i < AL_COUNT(pids); i++) {
		pids[i] = fork(); /* f->store was made before, and is used first in the children */
		if (pids[i] == 0) {
			pthread_t threads[3];

			for (size_t j = 0; j < AL_COUNT(threads); j++)
				need(pthread_create(&threads[j], NULL, count_up_thread, f) == 0);
			for (size_t j = 0; j < AL_COUNT(threads); j++)
				need(pthread_join(threads[j], NULL) == 0);
			end_child(f, &row, NULL);
		}
	}
	for (size_t i = 0; i < AL_COUNT(pids); i++)
		assert_child_good(pids[i]);
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &row, &f->err));
	assert_int_equal(row.generation, 4 * 3 * 25);
	assert_int_equal(row.change, 4 * 3 * 25 + 1);
	al_link_row_clear(&row);
}

static void many_processes_may_make_the_same_store_at_once(void **state)
{
	struct fixture *f = *state;

	for (int round = 0; round < 10; round++) {
		pid_t pids[6];
		int gate[2];
		char byte;

		(void)snprintf(f->path, sizeof(f->path), "%s/state%d/store.db", f->root, round);
		assert_int_equal(pipe(gate), 0);
		for (size_t i = 0; i < AL_COUNT(pids); i++) {
			pids[i] = fork();
			if (pids[i] == 0) {
				struct al_link_row row;

				(void)close(gate[1]);
				need(read(gate[0], &byte, 1) == 0);
				need(al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_OK);
				make_link(&row, (unsigned)i + 1);
				need(write_link(f, AL_LINK_INSERT, &row) == ACCTLINK_OK);
				end_child(f, &row, NULL);
			}
		}
		assert_int_equal(close(gate[0]) + close(gate[1]), 0);
		for (size_t i = 0; i < AL_COUNT(pids); i++)
			assert_child_good(pids[i]);
		assert_int_equal(look(f->path, "SELECT count(*) FROM link"), 6);
	}
}

static void write_pairs_for_ever(struct fixture *f, int report)
{
	struct al_link_row rows[2];
	struct al_write writes[2] = { { AL_LINK_SWAP, &rows[0], NULL, NULL }, { AL_LINK_SWAP, &rows[1], NULL, NULL } };
	char ids[2][AL_ID_LEN + 1] = { "00000000000000010000000000000000", "00000000000000020000000000000000" };

	for (;;) {
		for (size_t i = 0; i < 2; i++) {
			al_link_row_init(&rows[i]);
			need(al_store_get_link(f->store, ids[i], &rows[i], &f->err) == ACCTLINK_OK);
			rows[i].generation++;
			while (rows[i].sealed.len < 9000)
				need(al_buf_put(&rows[i].sealed, "0123456789", 10));
		}
		need(al_store_commit(f->store, writes, 2, &f->err) == ACCTLINK_OK);
		need(write(report, &rows[0].generation, sizeof(rows[0].generation)) == sizeof(rows[0].generation));
		al_link_row_clear(&rows[0]);
		al_link_row_clear(&rows[1]);
	}
}

static void a_writer_that_is_killed_leaves_a_whole_store(void **state)
{
	struct fixture *f = *state;
	struct al_link_row rows[2];

	for (unsigned i = 0; i < 2; i++) {
		make_link(&rows[i], i + 1);
		rows[i].generation = 0;
		assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &rows[i]));
	}
	al_store_free(&f->store);
	for (int round = 0; round < 10; round++) {
		int64_t reported = 0;
		int pipe_fds[2];
		pid_t pid;

		assert_int_equal(pipe(pipe_fds), 0);
		pid = fork();
		if (pid == 0) {
			need(al_store_new(f->path, NULL, NULL, &f->store, &f->err) == ACCTLINK_OK);
			write_pairs_for_ever(f, pipe_fds[1]);
		}
		assert_int_equal(close(pipe_fds[1]), 0);
		for (int i = 0; i <= round; i++)
			assert_int_equal(read(pipe_fds[0], &reported, sizeof(reported)), sizeof(reported));
		assert_int_equal(kill(pid, SIGKILL), 0);
		while (read(pipe_fds[0], &reported, sizeof(reported)) == sizeof(reported))
			;
		assert_int_equal(close(pipe_fds[0]), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
		for (size_t i = 0; i < 2; i++)
			assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, rows[i].id, &rows[i], &f->err));
		assert_true(rows[0].generation >= reported); /* what was reported as kept is there */
		assert_int_equal(rows[0].generation, rows[1].generation);
		assert_int_equal(
			look(f->path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
		al_store_free(&f->store);
	}
	al_link_row_clear(&rows[0]);
	al_link_row_clear(&rows[1]);
}

static void a_child_never_uses_its_parents_connections(void **state)
{
	struct fixture *f = *state;
	struct al_store *own = NULL;
	struct al_link_row row;
	pid_t pid;

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	pid = fork();
	if (pid == 0) {
		need(al_store_change(f->store, &(int64_t){ 0 }, &f->err) == ACCTLINK_FORKED);
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_FORKED);
		need(al_store_new(f->path, NULL, NULL, &own, &f->err) == ACCTLINK_OK);
		al_store_free(&f->store);
		need(f->store == NULL);
		f->store = own;
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		end_child(f, &row, NULL);
	}
	assert_child_good(pid);
	assert_rc(f, AL_CONFLICT, write_link(f, AL_LINK_SWAP, &row));
	row.change++;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	al_link_row_clear(&row);
}

static void fork_meanwhile(void)
{
	struct fixture *f = meanwhile_fixture;
	struct al_store *own = NULL;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		need(al_store_new(f->path, NULL, NULL, &own, &f->err) == ACCTLINK_FORKED);
		need(own == NULL && strstr(f->err.message, "just using") != NULL);
		(void)raise(SIGKILL); /* what was in use at the fork is lost, and valgrind would complain */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void a_child_made_in_the_middle_of_a_commit_is_refused(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;

	meanwhile_fixture = f;
	make_link(&row, 1);
	set_fault("COMMIT", 0, SQLITE_DONE);
	fault.late = true;
	fault.meanwhile = fork_meanwhile;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_int_equal(fault.fired, 1);
	al_link_row_clear(&row);
}

static void a_store_at_rest_may_be_used_first_by_a_child(void **state)
{
	struct fixture *f = *state;
	int before = count_files("/proc/self/fd");
	struct al_link_row row;
	pid_t pid;

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	al_store_rest(f->store);
	assert_int_equal(count_files("/proc/self/fd"), before);
	pid = fork();
	if (pid == 0) {
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		end_child(f, &row, NULL);
	}
	assert_child_good(pid);
	row.change++;
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_SWAP, &row));
	al_link_row_clear(&row);
}

/* SQLite alone loses what the child commits here: the parent, which believes
 * to be the last user, deletes the write-ahead log under it. */
static void what_a_child_commits_survives_the_end_of_its_parents_store(void **state)
{
	struct fixture *f = *state;
	struct al_link_row row;
	int to_child[2];
	int to_parent[2];
	char byte = 'x';
	pid_t pid;

	make_link(&row, 1);
	assert_rc(f, ACCTLINK_OK, write_link(f, AL_LINK_INSERT, &row));
	assert_int_equal(pipe(to_child) + pipe(to_parent), 0);
	pid = fork();
	if (pid == 0) {
		struct al_store *own = NULL;

		need(al_store_new(f->path, NULL, NULL, &own, &f->err) == ACCTLINK_OK);
		al_store_free(&f->store);
		f->store = own;
		row.generation = 50;
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		need(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
		row.generation = 51;
		need(write_link(f, AL_LINK_SWAP, &row) == ACCTLINK_OK);
		end_child(f, &row, NULL);
	}
	assert_int_equal(close(to_child[0]) + close(to_parent[1]), 0);
	assert_int_equal(read(to_parent[0], &byte, 1), 1);
	al_store_free(&f->store);
	assert_int_equal(write(to_child[1], &byte, 1), 1);
	assert_child_good(pid);
	assert_int_equal(close(to_child[1]) + close(to_parent[0]), 0);
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
	assert_rc(f, ACCTLINK_OK, al_store_get_link(f->store, row.id, &row, &f->err));
	assert_int_equal(row.generation, 51);
	al_link_row_clear(&row);
}

int main(void)
{
#define MADE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define BARE(test) cmocka_unit_test_setup_teardown(test, set_up_folder, tear_down)
	const struct CMUnitTest tests[] = { MADE(every_field_of_a_link_comes_back_at_its_full_size),
		MADE(every_field_of_a_flow_comes_back_at_its_full_size), MADE(empty_fields_come_back_empty),
		MADE(sealed_blobs_of_every_length_come_back_equal_to_the_byte),
		MADE(users_that_look_alike_are_users_of_their_own),
		MADE(what_is_too_long_or_too_short_is_refused_by_name),
		MADE(a_buffer_that_failed_to_grow_is_never_written), MADE(ids_are_checked),
		MADE(incomplete_calls_are_bad_arguments),
		MADE(a_swap_from_an_old_row_is_a_conflict_and_changes_nothing), MADE(a_mark_changes_all_but_the_seal),
		MADE(a_mark_that_would_lock_the_token_set_up_is_refused),
		MADE(an_owner_key_has_one_link_besides_those_being_unlinked),
		MADE(a_commit_keeps_all_of_its_writes_or_none), MADE(a_deleted_link_is_gone),
		MADE(links_of_a_user_are_listed_in_pages_by_id),
		MADE(links_are_listed_by_subject_due_time_and_revocation),
		MADE(what_changed_since_a_number_is_listed_in_order),
		MADE(a_flow_is_swapped_marked_and_deleted_like_a_link), MADE(old_and_surplus_flows_are_swept),
		MADE(a_meta_value_is_put_once), BARE(folder_and_files_are_private_whatever_the_umask),
		BARE(making_a_store_leaves_nothing_open), BARE(a_file_with_the_wrong_mode_or_kind_is_refused),
		BARE(a_folder_that_is_a_symbolic_link_or_relative_works_from_any_directory),
		BARE(a_missing_parent_folder_is_named), BARE(an_unwritable_folder_is_a_clear_error),
		BARE(another_users_store_is_refused), BARE(root_leaves_nothing_that_the_service_cannot_use),
		MADE(a_store_of_a_newer_version_is_refused_and_untouched),
		MADE(a_database_of_another_program_is_refused_and_untouched),
		MADE(a_store_without_one_of_its_columns_is_refused), MADE(damaged_and_truncated_files_are_refused),
		MADE(a_damaged_row_is_an_error_and_not_a_wrong_row), MADE(connections_are_durable_and_closed_to_tricks),
		MADE(more_threads_than_connections_share_them),
		MADE(a_store_that_is_moved_or_replaced_while_in_use_is_down),
		MADE(a_store_that_is_busy_for_too_long_is_down_and_recovers),
		MADE(every_step_of_a_commit_can_fail_and_leaves_the_old_rows),
		MADE(every_step_of_reading_and_opening_can_fail),
		MADE(a_commit_that_was_kept_though_it_reported_a_failure_is_recognized),
		MADE(a_failed_commit_that_others_have_covered_is_not_called_kept),
		MADE(on_a_full_disk_the_old_row_stays), MADE(swaps_of_many_threads_and_processes_never_lose_one),
		BARE(many_processes_may_make_the_same_store_at_once),
		MADE(a_writer_that_is_killed_leaves_a_whole_store), MADE(a_child_never_uses_its_parents_connections),
		MADE(a_child_made_in_the_middle_of_a_commit_is_refused),
		MADE(a_store_at_rest_may_be_used_first_by_a_child),
		MADE(what_a_child_commits_survives_the_end_of_its_parents_store) };

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
