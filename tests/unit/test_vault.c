/* SPDX-License-Identifier: MIT
 * The vault: keys from files, seals that open for their own row only, and what
 * a wrong key, a swapped or a damaged row looks like.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vault/vault_int.h"
#include "temp_dir.h"

#define NOBODY 65534
#define HEX_1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define ID_1 "280c752a" /* SHA-256 of "acctlink key id" and these bytes, made with another program */
#define HEX_2 "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
#define LINK_ID "00112233445566778899aabbccddeeff"

struct fixture {
	char root[TEMP_DIR_MAX];
	char path[256];
	char files[3][256]; /* of keys */
	struct al_store *store;
	struct al_vault *vault;
	struct al_link_row row;
	struct al_buf plain;
	struct al_buf back;
	acctlink_error err;
};

static bool write_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool good = fd >= 0 && write(fd, text, len) == (ssize_t)len && fchmod(fd, 0600) == 0;

	return close(fd) == 0 && good;
}

static al_rc open_vault(struct fixture *f, const char *first, const char *second)
{
	char *files[] = { f->files[0], second == NULL ? NULL : f->files[1], NULL };

	al_vault_free(&f->vault);
	if (!write_file(files[0], first, strlen(first)))
		return ACCTLINK_INTERNAL;
	if (second != NULL && !write_file(files[1], second, strlen(second)))
		return ACCTLINK_INTERNAL;
	return al_vault_new(files, f->store, &f->vault, &f->err);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char root[sizeof(f->root)];

	if (f == NULL || !make_temp_dir(f->root, "al_vault"))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->root);
	memcpy(root, f->root, sizeof(root));
	for (int i = 0; i < 3; i++)
		(void)snprintf(f->files[i], sizeof(f->files[i]), "%s/key%d", root, i);
	al_link_row_init(&f->row);
	al_buf_init(&f->plain, AL_SEALED_MAX);
	al_buf_init(&f->back, AL_SEALED_MAX);
	*state = f;
	if (al_store_new(f->path, NULL, NULL, &f->store, &f->err) != ACCTLINK_OK)
		return -1;
	return open_vault(f, HEX_1 "\n", NULL) == ACCTLINK_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	al_vault_free(&f->vault);
	al_store_free(&f->store);
	al_link_row_clear(&f->row);
	al_buf_clear(&f->plain);
	al_buf_clear(&f->back);
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

#define need(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

/* Without a leak, for those who count. */
static void end_child(struct fixture *f)
{
	al_vault_free(&f->vault);
	al_store_free(&f->store);
	al_link_row_clear(&f->row);
	al_buf_clear(&f->plain);
	al_buf_clear(&f->back);
	_exit(0);
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

static void make_link(struct al_link_row *row, unsigned seed)
{
	al_link_row_clear(row);
	(void)snprintf(row->id, sizeof(row->id), "%032x", seed);
	assert_true(al_buf_puts(&row->owner_key, row->id) && al_buf_puts(&row->user, "ana")
		&& al_buf_puts(&row->provider, "akoya"));
	row->state = ACCTLINK_STATE_LINKED;
	row->epoch = 1;
	row->generation = 1;
}

static al_rc keep_link(struct fixture *f, enum al_write_kind kind, struct al_link_row *row, const char *text)
{
	struct al_vault_write write = { kind, row, NULL, NULL, &f->plain };

	assert_true(al_buf_set(&f->plain, text, strlen(text)));
	return al_vault_commit(f->vault, &write, 1, &f->err);
}

static al_rc fetch(struct fixture *f, unsigned seed)
{
	char id[AL_ID_LEN + 1];

	(void)snprintf(id, sizeof(id), "%032x", seed);
	return al_vault_get_link(f->vault, id, &f->row, &f->back, &f->err);
}

static void insert(struct fixture *f, unsigned seed, const char *text)
{
	struct al_link_row row;

	al_link_row_init(&row);
	make_link(&row, seed);
	assert_rc(f, ACCTLINK_OK, keep_link(f, AL_LINK_INSERT, &row, text));
	al_link_row_clear(&row);
}

static void from_hex(struct al_buf *to, const char *hex)
{
	al_buf_clear(to);
	for (; *hex != '\0'; hex += 2) {
		unsigned byte = 0;
		char c;

		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		c = (char)byte;
		assert_true(al_buf_put(to, &c, 1));
	}
}

/* ---- seals ---------------------------------------------------------------------------- */

static void what_is_kept_comes_back_equal_to_the_byte(void **state)
{
	static const size_t lengths[] = { 0, 1, 255, 4096, 16384, 65536, 3 * 65536 + 7, AL_SEALED_MAX - AL_SEAL_HEAD };
	struct fixture *f = *state;

	insert(f, 1, "first");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->back), "first");
	assert_string_equal(al_buf_text(&f->row.key_id), ID_1);
	for (size_t i = 0; i < AL_COUNT(lengths); i++) {
		struct al_vault_write write = { AL_LINK_SWAP, &f->row, NULL, NULL, &f->plain };
		char *text = malloc(lengths[i] + 1);

		assert_non_null(text);
		for (size_t j = 0; j < lengths[i]; j++)
			text[j] = (char)(j * 7 >> 2);
		assert_true(al_buf_set(&f->plain, text, lengths[i]));
		free(text);
		f->row.generation++;
		assert_rc(f, ACCTLINK_OK, al_vault_commit(f->vault, &write, 1, &f->err));
		assert_rc(f, ACCTLINK_OK, fetch(f, 1));
		assert_int_equal(f->back.len, lengths[i]);
		assert_true(al_buf_equal(&f->back, &f->plain));
	}
}

static void what_is_too_long_is_refused_before_anything_is_written(void **state)
{
	struct fixture *f = *state;
	struct al_vault_write write = { AL_LINK_INSERT, &f->row, NULL, NULL, &f->plain };

	make_link(&f->row, 1);
	while (f->plain.len < AL_SEALED_MAX - AL_SEAL_HEAD + 1)
		assert_true(al_buf_put(&f->plain, f->root, 1));
	assert_rc(f, ACCTLINK_INTERNAL, al_vault_commit(f->vault, &write, 1, &f->err));
	assert_rc(f, AL_ABSENT, fetch(f, 1));
	al_buf_clear(&f->plain);
	f->plain.failed = true;
	assert_rc(f, ACCTLINK_INTERNAL, al_vault_commit(f->vault, &write, 1, &f->err));
	assert_rc(f, AL_ABSENT, fetch(f, 1));
}

/* Made with another program, so that what an older version sealed still opens. */
static void seals_have_the_form_that_is_promised(void **state)
{
	static const char
		link_seal[] = "02101112131415161718191a1b1c1d1e1f202122232425262728292a2b"
			      "d3e356762396754623d3ea18f964ee698fa40d0529b4ec3243912329445820a0470260b562da78";
	static const char flow_seal[] = "02101112131415161718191a1b1c1d1e1f202122232425262728292a2b"
					"283914e6abfbe4a2d6889fc244c12c3b7a9c8dbd6541";
	struct fixture *f = *state;
	static const char owner_key[] = "\0\0\0\3ana\0\0\0\4bank\0\0\0"; /* and the last NUL */
	struct al_seal_context flow = {
		.kind = "flow", .where = "flow", .bound = { { "ana", 3 }, { "bank", 4 }, { "mikomo", 6 } }
	};

	memcpy(f->row.id, LINK_ID, sizeof(LINK_ID));
	f->row.epoch = 3;
	f->row.generation = 7;
	assert_true(al_buf_set(&f->row.owner_key, owner_key, sizeof(owner_key)) && al_buf_set(&f->row.user, "ana", 3)
		&& al_buf_set(&f->row.provider, "bank", 4)
		&& al_buf_set(&f->row.client, "cccccccccccccccccccccccccccccccc", 32));
	assert_true(al_buf_puts(&f->row.key_id, ID_1));
	from_hex(&f->row.sealed, link_seal);
	assert_rc(f, ACCTLINK_OK, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
	assert_int_equal(f->back.len, 23);
	assert_memory_equal(f->back.data, "a sealed set\0with a NUL", 23);
	from_hex(&f->plain, HEX_1); /* the hash of this state happens to be our key */
	flow.row = (acctlink_str){ f->plain.data, f->plain.len };
	from_hex(&f->row.sealed, flow_seal);
	assert_rc(f, ACCTLINK_OK,
		al_unseal(f->vault, al_vault_key_find(f->vault, ID_1), &flow, &f->row.sealed, &f->back, &f->err));
	assert_string_equal(al_buf_text(&f->back), "a flow");
}

static void two_seals_of_one_set_have_nothing_in_common(void **state)
{
	struct fixture *f = *state;
	struct al_buf first;

	al_buf_init(&first, 1024);
	insert(f, 1, "the same token set");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_true(al_buf_copy(&first, &f->row.sealed));
	assert_rc(f, ACCTLINK_OK, keep_link(f, AL_LINK_SWAP, &f->row, "the same token set"));
	assert_int_equal(first.len, f->row.sealed.len);
	assert_memory_not_equal(first.data + 1, f->row.sealed.data + 1, AL_SEAL_SALT);
	assert_memory_not_equal(first.data + AL_SEAL_HEAD, f->row.sealed.data + AL_SEAL_HEAD, 18);
	al_buf_clear(&first);
}

static bool file_contains(const char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, 1 << 20);
	size_t len = file == NULL || text == NULL ? 0 : fread(text, 1, (1 << 20) - 1, file);
	bool found = len > 0 && memmem(text, len, word, strlen(word)) != NULL;

	if (file != NULL)
		assert_int_equal(fclose(file), 0);
	free(text);
	return found;
}

static void no_plain_token_is_in_any_file(void **state)
{
	struct fixture *f = *state;
	char wal[300];

	(void)snprintf(wal, sizeof(wal), "%s-wal", f->path);
	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	insert(f, 1, "canary-refresh-token");
	assert_true(file_contains(wal, "akoya"));
	assert_false(file_contains(wal, "canary"));
	al_store_free(&f->store);
	assert_true(file_contains(f->path, "akoya"));
	assert_false(file_contains(f->path, "canary"));
	assert_rc(f, ACCTLINK_OK, al_store_new(f->path, NULL, NULL, &f->store, &f->err));
}

static void every_changed_or_missing_byte_is_noticed(void **state)
{
	struct fixture *f = *state;
	struct al_buf whole;

	al_buf_init(&whole, 1024);
	insert(f, 1, "set");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_true(al_buf_copy(&whole, &f->row.sealed));
	assert_int_equal(whole.len, AL_SEAL_HEAD + 3);
	for (size_t i = 0; i < whole.len; i++) {
		f->row.sealed.data[i] ^= 4;
		assert_true(al_buf_puts(&f->back, "left over"));
		assert_rc(f, ACCTLINK_BAD_STORE, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
		assert_int_equal(f->back.len, 0);
		assert_true(al_buf_set(&f->row.sealed, whole.data, i));
		assert_rc(f, ACCTLINK_BAD_STORE, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
		assert_true(al_buf_copy(&f->row.sealed, &whole));
	}
	assert_true(al_buf_put(&f->row.sealed, "x", 1));
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
	assert_true(al_buf_copy(&f->row.sealed, &whole));
	assert_rc(f, ACCTLINK_OK, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
	al_buf_clear(&whole);
}

static void a_row_copied_over_another_does_not_open(void **state)
{
	static const char
		copy[] = "UPDATE link SET (sealed, key_id, epoch, generation) ="
			 " (SELECT sealed, key_id, epoch, generation FROM link WHERE id LIKE '%1') WHERE id LIKE '%2'";
	struct fixture *f = *state;

	insert(f, 1, "one");
	insert(f, 2, "two");
	tamper(f->path, copy);
	assert_rc(f, ACCTLINK_BAD_STORE, fetch(f, 2));
	assert_int_equal(f->back.len, 0);
	assert_string_equal(f->err.where, "00000000000000000000000000000002");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->back), "one");
}

/* Who can write the store's file can't hand a link over to another user, provider,
 * institution or client. */
static void a_row_given_to_somebody_else_does_not_open(void **state)
{
	static const char *const changes[] = { "owner_key = x'00'", "user = 'eve'", "provider = 'other'",
		"institution = 'other'", "client = zeroblob(32)" };
	struct fixture *f = *state;
	char sql[200];

	insert(f, 1, "ana's");
	tamper(f->path, "CREATE TABLE saved AS SELECT owner_key, user, provider, institution, client FROM link");
	for (size_t i = 0; i < AL_COUNT(changes); i++) {
		(void)snprintf(sql, sizeof(sql), "UPDATE link SET %s", changes[i]);
		tamper(f->path, sql);
		assert_rc(f, ACCTLINK_BAD_STORE, fetch(f, 1));
		assert_int_equal(f->back.len, 0);
		tamper(f->path,
			"UPDATE link SET (owner_key, user, provider, institution, client) = (SELECT * FROM saved)");
		assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	}
}

static void an_old_seal_put_back_does_not_open(void **state)
{
	struct fixture *f = *state;

	insert(f, 1, "generation 1");
	tamper(f->path, "CREATE TABLE old AS SELECT sealed FROM link");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	f->row.generation++;
	assert_rc(f, ACCTLINK_OK, keep_link(f, AL_LINK_SWAP, &f->row, "generation 2"));
	tamper(f->path,
		"CREATE TABLE new AS SELECT sealed FROM link; UPDATE link SET sealed = (SELECT sealed FROM old)");
	assert_rc(f, ACCTLINK_BAD_STORE, fetch(f, 1));
	tamper(f->path, "UPDATE link SET sealed = (SELECT sealed FROM new)");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->back), "generation 2");
	tamper(f->path, "UPDATE link SET epoch = epoch + 1");
	assert_rc(f, ACCTLINK_BAD_STORE, fetch(f, 1));
}

/* ---- rows through the vault ------------------------------------------------------------- */

static void flows_are_sealed_and_stay_open_whatever_becomes_of_them(void **state)
{
	struct fixture *f = *state;
	struct al_flow_row row;
	struct al_flow_row other;
	struct al_vault_write write = { AL_FLOW_INSERT, NULL, &row, NULL, &f->plain };

	al_flow_row_init(&row);
	al_flow_row_init(&other);
	from_hex(&row.state_hash, HEX_2);
	assert_true(al_buf_puts(&row.user, "ana") && al_buf_puts(&row.provider, "akoya"));
	assert_true(al_buf_put(&f->plain, "verifier\0nonce", 14));
	assert_rc(f, ACCTLINK_OK, al_vault_commit(f->vault, &write, 1, &f->err));
	assert_rc(f, ACCTLINK_OK, al_vault_get_flow(f->vault, &row.state_hash, &other, &f->back, &f->err));
	assert_true(al_buf_equal(&f->plain, &f->back));
	/* The result of a flow names the link's epoch and generation. */
	write.kind = AL_FLOW_MARK;
	write.plain = NULL;
	row.phase = AL_FLOW_DONE;
	row.epoch = 4;
	row.generation = 9;
	assert_rc(f, ACCTLINK_OK, al_vault_commit(f->vault, &write, 1, &f->err));
	assert_rc(f, ACCTLINK_OK, al_vault_get_flow(f->vault, &row.state_hash, &other, &f->back, &f->err));
	assert_int_equal(other.generation, 9);
	assert_true(al_buf_equal(&f->plain, &f->back));
	write.kind = AL_FLOW_SWAP;
	write.plain = &f->plain;
	assert_true(al_buf_set(&f->plain, "2", 1));
	assert_rc(f, ACCTLINK_OK, al_vault_commit(f->vault, &write, 1, &f->err));
	assert_rc(f, ACCTLINK_OK, al_vault_get_flow(f->vault, &row.state_hash, &other, &f->back, &f->err));
	assert_string_equal(al_buf_text(&f->back), "2");
	/* A flow's seal is not one of another flow. */
	tamper(f->path, "UPDATE flow SET state_hash = zeroblob(32)");
	memset(row.state_hash.data, 0, 32);
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_get_flow(f->vault, &row.state_hash, &other, &f->back, &f->err));
	assert_rc(f, ACCTLINK_OK, al_vault_get_flow(f->vault, &row.state_hash, &other, NULL, &f->err));
	al_flow_row_clear(&row);
	al_flow_row_clear(&other);
}

static void a_link_is_found_by_its_owner_key(void **state)
{
	struct fixture *f = *state;
	struct al_buf key;

	al_buf_init(&key, 64);
	insert(f, 1, "one");
	assert_true(al_buf_puts(&key, "00000000000000000000000000000001"));
	assert_rc(f, ACCTLINK_OK, al_vault_find_link(f->vault, &key, &f->row, &f->back, &f->err));
	assert_string_equal(al_buf_text(&f->back), "one");
	assert_true(al_buf_set(&key, "k", 1));
	assert_rc(f, AL_ABSENT, al_vault_find_link(f->vault, &key, &f->row, &f->back, &f->err));
	assert_ptr_equal(al_vault_store(f->vault), f->store);
	al_buf_clear(&key);
}

static void marks_conflicts_and_audit_rows_pass_through(void **state)
{
	struct fixture *f = *state;
	struct al_audit_row audit = { 1, "", { "ana", 3 }, "linked", 1, 1, "" };
	struct al_vault_write writes[] = { { AL_LINK_MARK, &f->row, NULL, NULL, NULL },
		{ AL_AUDIT_INSERT, NULL, NULL, &audit, NULL } };

	insert(f, 1, "one");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	f->row.state = ACCTLINK_STATE_STALE;
	assert_rc(f, ACCTLINK_OK, al_vault_commit(f->vault, writes, 2, &f->err));
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_int_equal(f->row.state, ACCTLINK_STATE_STALE);
	assert_string_equal(al_buf_text(&f->back), "one");
	f->row.change--;
	assert_rc(f, AL_CONFLICT, al_vault_commit(f->vault, writes, 2, &f->err));
	assert_rc(f, AL_CONFLICT, keep_link(f, AL_LINK_SWAP, &f->row, "two"));
	writes[0].kind = AL_LINK_SWAP;
	assert_rc(f, ACCTLINK_INTERNAL, al_vault_commit(f->vault, writes, 2, &f->err));
	assert_rc(f, ACCTLINK_INTERNAL, al_vault_commit(f->vault, writes, AL_VAULT_WRITES_MAX + 1, &f->err));
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->back), "one");
}

/* ---- several keys -------------------------------------------------------------------------- */

static void a_key_that_is_not_configured_is_named_and_nothing_changes(void **state)
{
	struct fixture *f = *state;
	int64_t before = 0;
	int64_t after = 0;

	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	insert(f, 1, "one");
	assert_rc(f, ACCTLINK_OK, al_store_change(f->store, &before, &f->err));
	assert_rc(f, ACCTLINK_OK, open_vault(f, HEX_2, NULL));
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_check(f->vault, &f->err));
	assert_non_null(strstr(f->err.message, ID_1));
	assert_rc(f, ACCTLINK_BAD_KEY, fetch(f, 1));
	assert_non_null(strstr(f->err.message, "under key " ID_1 ", which isn't configured"));
	assert_int_equal(f->back.len, 0);
	assert_rc(f, ACCTLINK_OK, al_vault_get_link(f->vault, f->row.id, &f->row, NULL, &f->err));
	assert_rc(f, ACCTLINK_OK, al_store_change(f->store, &after, &f->err));
	assert_int_equal(before, after);
	assert_rc(f, ACCTLINK_OK, open_vault(f, HEX_1, NULL));
	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
}

static void with_the_old_and_the_new_key_all_opens_and_the_first_seals(void **state)
{
	struct fixture *f = *state;

	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	insert(f, 1, "one");
	assert_rc(f, ACCTLINK_OK, open_vault(f, "new-key:" HEX_2, HEX_1));
	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	insert(f, 2, "two");
	assert_rc(f, ACCTLINK_OK, fetch(f, 2));
	assert_string_equal(al_buf_text(&f->row.key_id), "new-key");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->row.key_id), ID_1);
	assert_rc(f, ACCTLINK_OK, keep_link(f, AL_LINK_SWAP, &f->row, "one again"));
	assert_string_equal(al_buf_text(&f->row.key_id), "new-key");
	assert_rc(f, ACCTLINK_OK, open_vault(f, HEX_1, "new-key:" HEX_2));
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_string_equal(al_buf_text(&f->back), "one again");
}

static void another_key_under_the_same_name_is_a_wrong_key(void **state)
{
	struct fixture *f = *state;

	assert_rc(f, ACCTLINK_OK, open_vault(f, "main:" HEX_1, NULL));
	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	insert(f, 1, "one");
	assert_rc(f, ACCTLINK_OK, open_vault(f, "main:" HEX_2, NULL));
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_check(f->vault, &f->err));
	assert_non_null(strstr(f->err.message, "main"));
	assert_rc(f, ACCTLINK_BAD_STORE, fetch(f, 1));
}

static void a_damaged_check_value_is_the_stores_fault(void **state)
{
	struct fixture *f = *state;

	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	tamper(f->path, "UPDATE meta SET value = substr(value, 1, 3)");
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_check(f->vault, &f->err));
	tamper(f->path, "UPDATE meta SET value = x''");
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_check(f->vault, &f->err));
	tamper(f->path, "UPDATE meta SET value = zeroblob(5000)");
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_check(f->vault, &f->err));
}

static void many_processes_may_check_a_new_store_at_once(void **state)
{
	struct fixture *f = *state;
	pid_t pids[6];

	for (size_t i = 0; i < AL_COUNT(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			need(al_vault_check(f->vault, &f->err) == ACCTLINK_OK);
			make_link(&f->row, (unsigned)i + 1);
			need(keep_link(f, AL_LINK_INSERT, &f->row, "made in a child") == ACCTLINK_OK);
			end_child(f);
		}
	}
	for (size_t i = 0; i < AL_COUNT(pids); i++) {
		int status = -1;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
	assert_rc(f, ACCTLINK_OK, fetch(f, 6));
	assert_string_equal(al_buf_text(&f->back), "made in a child");
}

static void after_its_check_the_store_may_be_used_first_by_a_child(void **state)
{
	struct fixture *f = *state;
	int status = -1;
	pid_t pid;

	for (int round = 0; round < 2; round++) { /* making the check value, then opening it */
		assert_rc(f, ACCTLINK_OK, al_vault_check(f->vault, &f->err));
		pid = fork();
		if (pid == 0) {
			make_link(&f->row, (unsigned)round + 1);
			need(keep_link(f, AL_LINK_INSERT, &f->row, "made in a child") == ACCTLINK_OK);
			end_child(f);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_rc(f, ACCTLINK_OK, fetch(f, (unsigned)round + 1));
	}
}

/* ---- key files ------------------------------------------------------------------------------- */

static void key_files_are_read_in_all_their_forms(void **state)
{
	static const struct {
		const char *text;
		const char *id;
	} forms[] = { { HEX_1, ID_1 }, { HEX_1 "\n", ID_1 }, { HEX_1 "\r\n", ID_1 },
		{ "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", ID_1 }, { "a:" HEX_1 "\n", "a" },
		{ "Key_2026-11_abcdefghijklmnopqrst:" HEX_1, "Key_2026-11_abcdefghijklmnopqrst" } };
	struct fixture *f = *state;

	insert(f, 1, "one");
	tamper(f->path, "CREATE TABLE seal AS SELECT * FROM link");
	for (size_t i = 0; i < AL_COUNT(forms); i++) {
		assert_rc(f, ACCTLINK_OK, open_vault(f, forms[i].text, NULL));
		assert_string_equal(f->vault->keys[0].id, forms[i].id);
		assert_int_equal(f->vault->keys[0].secret.len, AL_KEY_LEN);
		for (int j = 0; j < AL_KEY_LEN; j++)
			assert_int_equal(f->vault->keys[0].secret.data[j], j);
	}
}

static void key_files_in_any_other_form_are_refused_without_repeating_them(void **state)
{
	static const char *const forms[] = { "", "\n", "0", ":" HEX_1, "a b:" HEX_1, "k:", "k:k:" HEX_1, HEX_1 "0",
		HEX_1 " ", " " HEX_1, HEX_1 "\n\n", HEX_1 "\n" HEX_2 "\n", "0x" HEX_1, "k:" HEX_1 "\t", "k\n:" HEX_1,
		"g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1",
		"Key_2026-11_abcdefghijklmnopqrstu:" HEX_1 };
	struct fixture *f = *state;
	char text[400];

	for (size_t i = 0; i < AL_COUNT(forms); i++) {
		assert_rc(f, ACCTLINK_BAD_KEY, open_vault(f, forms[i], NULL));
		assert_null(f->vault);
		assert_string_equal(f->err.where, f->files[0]);
		assert_non_null(strstr(f->err.message, "head -c 32 /dev/urandom"));
		assert_null(strstr(f->err.message, "08090a0b"));
	}
	memset(text, '0', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_rc(f, ACCTLINK_BAD_KEY, open_vault(f, text, NULL));
	assert_non_null(strstr(f->err.message, "too long"));
	assert_true(write_file(f->files[0], "k\0:" HEX_1, 67));
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new((char *[]){ f->files[0], NULL }, f->store, &f->vault, &f->err));
}

static void no_key_and_two_keys_of_one_id_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_rc(f, ACCTLINK_BAD_KEY, open_vault(f, HEX_1, HEX_1));
	assert_non_null(strstr(f->err.message, ID_1));
	assert_rc(f, ACCTLINK_BAD_KEY, open_vault(f, "a:" HEX_1, "a:" HEX_2));
	assert_null(f->vault);
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new(NULL, f->store, &f->vault, &f->err));
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new((char *[]){ NULL }, f->store, &f->vault, &f->err));
}

static void a_key_file_that_others_may_read_is_refused(void **state)
{
	static const mode_t modes[] = { 0644, 0640, 0604, 0620, 0666, 0601 };
	struct fixture *f = *state;
	char *linked[] = { f->files[2], NULL };

	assert_int_equal(symlink("key0", f->files[2]), 0);
	al_vault_free(&f->vault);
	assert_rc(f, ACCTLINK_OK, al_vault_new(linked, f->store, &f->vault, &f->err));
	for (size_t i = 0; i < AL_COUNT(modes); i++) {
		al_vault_free(&f->vault);
		assert_int_equal(chmod(f->files[0], modes[i]), 0);
		assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new(linked, f->store, &f->vault, &f->err));
		assert_non_null(strstr(f->err.message, "chmod 600"));
	}
	assert_int_equal(chmod(f->files[0], 0400), 0);
	assert_rc(f, ACCTLINK_OK, al_vault_new(linked, f->store, &f->vault, &f->err));
}

static void what_is_not_a_plain_file_is_refused_at_once(void **state)
{
	struct fixture *f = *state;
	char *files[] = { f->files[2], NULL };

	al_vault_free(&f->vault);
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new(files, f->store, &f->vault, &f->err));
	assert_non_null(strstr(f->err.message, "No such file"));
	assert_int_equal(mkfifo(f->files[2], 0600), 0);
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new(files, f->store, &f->vault, &f->err));
	assert_int_equal(unlink(f->files[2]), 0);
	assert_int_equal(mkdir(f->files[2], 0700), 0);
	assert_rc(f, ACCTLINK_BAD_KEY, al_vault_new(files, f->store, &f->vault, &f->err));
	assert_non_null(strstr(f->err.message, "not a plain file"));
}

static void a_service_reads_its_own_key_and_roots_but_no_others(void **state)
{
	struct fixture *f = *state;
	char *files[] = { f->files[0], NULL };
	int status = -1;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	al_vault_free(&f->vault);
	assert_int_equal(chmod(f->root, 0755), 0);
	assert_int_equal(chown(f->files[0], NOBODY, NOBODY), 0);
	assert_rc(f, ACCTLINK_OK, al_vault_new(files, f->store, &f->vault, &f->err)); /* root starts the service */
	pid = fork();
	if (pid == 0) {
		al_vault_free(&f->vault);
		need(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
		need(al_vault_new(files, f->store, &f->vault, &f->err) == ACCTLINK_OK);
		end_child(f);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	pid = fork();
	if (pid == 0) {
		al_vault_free(&f->vault);
		need(setresgid(NOBODY - 1, NOBODY - 1, NOBODY - 1) == 0
			&& setresuid(NOBODY - 1, NOBODY - 1, NOBODY - 1) == 0);
		need(al_vault_new(files, f->store, &f->vault, &f->err) == ACCTLINK_BAD_KEY);
		need(strstr(f->err.message, "Permission denied") != NULL);
		end_child(f);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- the host's process ------------------------------------------------------------------------ */

static void the_hosts_openssl_errors_are_left_alone(void **state)
{
	struct fixture *f = *state;
	unsigned long before;

	insert(f, 1, "one");
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	ERR_clear_error();
	ERR_raise(ERR_LIB_USER, 77);
	before = ERR_peek_error();
	f->row.sealed.data[AL_SEAL_HEAD] ^= 1;
	assert_rc(f, ACCTLINK_BAD_STORE, al_vault_open_link(f->vault, &f->row, &f->back, &f->err));
	assert_rc(f, ACCTLINK_OK, fetch(f, 1));
	assert_int_equal(ERR_peek_error(), before);
	assert_int_equal(ERR_peek_last_error(), before);
	ERR_clear_error();
}

struct crowd {
	const struct al_vault *vault;
	_Atomic int failed;
};

static void *seal_often(void *arg)
{
	struct crowd *crowd = arg;
	struct al_seal_context context = {
		.kind = "link", .where = "link", .row = { LINK_ID, AL_ID_LEN }, .epoch = 1, .generation = 1
	};
	struct al_buf plain;
	struct al_buf sealed;
	struct al_buf back;

	al_buf_init(&plain, 4096);
	al_buf_init(&sealed, 8192);
	al_buf_init(&back, 8192);
	for (int i = 0; i < 200; i++) {
		const struct al_key *key = &crowd->vault->keys[0];

		if (!al_buf_puts(&plain, "0123456789")
			|| al_seal(crowd->vault, key, &context, &plain, &sealed, NULL) != ACCTLINK_OK
			|| al_unseal(crowd->vault, key, &context, &sealed, &back, NULL) != ACCTLINK_OK
			|| !al_buf_equal(&plain, &back))
			crowd->failed++;
	}
	al_buf_clear(&plain);
	al_buf_clear(&sealed);
	al_buf_clear(&back);
	return NULL;
}

static void many_threads_seal_and_open_at_once(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd = { f->vault, 0 };
	pthread_t threads[8];

	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_often, &crowd), 0);
	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(crowd.failed, 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = { TEST(what_is_kept_comes_back_equal_to_the_byte),
		TEST(what_is_too_long_is_refused_before_anything_is_written),
		TEST(seals_have_the_form_that_is_promised), TEST(two_seals_of_one_set_have_nothing_in_common),
		TEST(no_plain_token_is_in_any_file), TEST(every_changed_or_missing_byte_is_noticed),
		TEST(a_row_copied_over_another_does_not_open), TEST(a_row_given_to_somebody_else_does_not_open),
		TEST(an_old_seal_put_back_does_not_open), TEST(flows_are_sealed_and_stay_open_whatever_becomes_of_them),
		TEST(a_link_is_found_by_its_owner_key), TEST(marks_conflicts_and_audit_rows_pass_through),
		TEST(a_key_that_is_not_configured_is_named_and_nothing_changes),
		TEST(with_the_old_and_the_new_key_all_opens_and_the_first_seals),
		TEST(another_key_under_the_same_name_is_a_wrong_key), TEST(a_damaged_check_value_is_the_stores_fault),
		TEST(many_processes_may_check_a_new_store_at_once),
		TEST(after_its_check_the_store_may_be_used_first_by_a_child),
		TEST(key_files_are_read_in_all_their_forms),
		TEST(key_files_in_any_other_form_are_refused_without_repeating_them),
		TEST(no_key_and_two_keys_of_one_id_are_refused), TEST(a_key_file_that_others_may_read_is_refused),
		TEST(what_is_not_a_plain_file_is_refused_at_once),
		TEST(a_service_reads_its_own_key_and_roots_but_no_others),
		TEST(the_hosts_openssl_errors_are_left_alone), TEST(many_threads_seal_and_open_at_once) };

	return cmocka_run_group_tests_name("vault", tests, NULL, NULL);
}
