/* SPDX-License-Identifier: MIT
 * Makes a new connection ready: WAL, synchronous=FULL, no code of the file's
 * own, and the schema brought up to date. No lock; the caller owns the
 * connection.
 */
#include "store/sqlite_int.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define APPLICATION_ID 0x61636c6e /* "acln" */

/* Many wait for one writer: short naps of uneven length get them through. */
static int wait_busy(void *ctx, int count)
{
	struct al_sqlite_handle *h = ctx;
	int64_t now = al_monotonic_ms();
	unsigned char chance;
	struct timespec nap = { 0, 5000000 };

	if (count == 0)
		h->busy_since = now;
	if (now - h->busy_since >= AL_SQLITE_BUSY_MS)
		return 0;
	if (al_random(&chance, 1, NULL) == ACCTLINK_OK)
		nap.tv_nsec = 1000000 + chance * 35000;
	(void)nanosleep(&nap, NULL);
	return 1;
}

static al_rc run_sql(struct al_sqlite_handle *h, const char *sql, const char *doing, acctlink_error *err)
{
	int code = sqlite3_exec(h->db, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? ACCTLINK_OK : al_sqlite_fail(h, code, doing, err);
}

/* A store may have been tampered with: no triggers, views or functions of its own. */
static al_rc configure(struct al_sqlite_handle *h, acctlink_error *err)
{
	static const int options[][2] = { { SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0 },
		{ SQLITE_DBCONFIG_ENABLE_TRIGGER, 0 }, { SQLITE_DBCONFIG_ENABLE_VIEW, 0 },
		{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 }, { SQLITE_DBCONFIG_DEFENSIVE, 1 } };
	int code = sqlite3_busy_handler(h->db, wait_busy, h);

	for (size_t i = 0; code == SQLITE_OK && i < AL_COUNT(options); i++)
		code = sqlite3_db_config(h->db, options[i][0], options[i][1], NULL);
	if (code != SQLITE_OK)
		return al_sqlite_fail(h, code, "configure", err);
	if (sqlite3_db_readonly(h->db, "main") != 0)
		return al_sqlite_fail(h, SQLITE_READONLY, "write to", err);
	return run_sql(h,
		"PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cell_size_check = ON;"
		"PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;",
		"configure", err);
}

static al_rc read_number(struct al_sqlite_handle *h, const char *sql, int64_t *number, acctlink_error *err)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(h->db, sql, -1, &statement, NULL);
	al_rc rc = ACCTLINK_OK;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*number = sqlite3_column_int64(statement, 0);
	else
		rc = al_sqlite_fail(h, code, "read", err);
	(void)sqlite3_finalize(statement);
	return rc;
}

/* *version: 0 for a new file. Called inside a transaction. */
static al_rc read_version(struct al_sqlite_handle *h, int64_t *version, acctlink_error *err)
{
	const char *path = h->store->base.path;
	int64_t application = 0;
	int64_t tables = 0;
	al_rc rc = read_number(h, "PRAGMA user_version", version, err);

	if (rc == ACCTLINK_OK)
		rc = read_number(h, "PRAGMA application_id", &application, err);
	if (rc == ACCTLINK_OK)
		rc = read_number(h, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (rc != ACCTLINK_OK)
		return rc;
	if (application != APPLICATION_ID && (application != 0 || *version != 0 || tables != 0))
		return al_fail(
			err, ACCTLINK_BAD_STORE, path, "%s is a database, but not acctlink's: name another file", path);
	if (*version > AL_STORE_SCHEMA)
		return al_fail(err, ACCTLINK_BAD_STORE, path,
			"%s was made by a newer acctlink (version %lld, this "
			"one knows up to %d): install that or newer",
			path, (long long)*version, AL_STORE_SCHEMA);
	return ACCTLINK_OK;
}

static al_rc migrate(struct al_sqlite_handle *h, acctlink_error *err)
{
	const struct al_store *store = &h->store->base;
	int64_t version = 0;
	char pragmas[96];
	al_rc rc = run_sql(h, "BEGIN IMMEDIATE", "migrate", err);

	if (rc == ACCTLINK_OK)
		rc = read_version(h, &version, err); /* another process may have been quicker */
	if (rc != ACCTLINK_OK)
		return rc;
	if (version < AL_STORE_SCHEMA)
		al_log(store->log, ACCTLINK_LOG_NOTICE, "store %s: from version %lld to %d", store->path,
			(long long)version, AL_STORE_SCHEMA);
	for (int64_t i = version; rc == ACCTLINK_OK && i < AL_STORE_SCHEMA; i++)
		rc = run_sql(h, al_schema_steps[i], "migrate", err);
	(void)snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
		APPLICATION_ID, AL_STORE_SCHEMA);
	return rc != ACCTLINK_OK ? rc : run_sql(h, pragmas, "migrate", err);
}

/* The change to WAL fails at once when another process makes it, too. */
static al_rc set_wal(struct al_sqlite_handle *h, acctlink_error *err)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(h->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
	const char *mode = NULL;
	al_rc rc = ACCTLINK_OK;
	int tries = 0;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	while ((code & 0xff) == SQLITE_BUSY && wait_busy(h, tries++)) {
		(void)sqlite3_reset(statement);
		code = sqlite3_step(statement);
	}
	if (code == SQLITE_ROW)
		mode = (const char *)sqlite3_column_text(statement, 0);
	if (code != SQLITE_ROW)
		rc = al_sqlite_fail(h, code, "open", err);
	else if (mode == NULL)
		rc = al_fail_memory(err);
	else if (strcmp(mode, "wal") != 0)
		rc = al_fail(err, ACCTLINK_BAD_STORE, h->store->base.path,
			"%s can't have a write-ahead log: it must "
			"be on a local file system",
			h->store->base.path);
	(void)sqlite3_finalize(statement);
	return rc;
}

al_rc al_sqlite_set_up(struct al_sqlite_handle *h, acctlink_error *err)
{
	int64_t version = 0;
	al_rc rc = configure(h, err);

	if (rc == ACCTLINK_OK)
		rc = run_sql(h, "BEGIN", "read", err);
	if (rc == ACCTLINK_OK)
		rc = read_version(h, &version, err);
	if (rc == ACCTLINK_OK)
		rc = run_sql(h, "COMMIT", "read", err);
	if (rc == ACCTLINK_OK)
		rc = set_wal(h, err);
	if (rc == ACCTLINK_OK && version < AL_STORE_SCHEMA)
		rc = migrate(h, err);
	return rc != ACCTLINK_OK ? rc : al_sqlite_prepare(h, err);
}
