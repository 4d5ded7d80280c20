/* SPDX-License-Identifier: MIT
 * What the files of the SQLite store share: a connection with its statements,
 * the store with its idle connections. sqlite3 stays in these files.
 */
#ifndef AL_SQLITE_INT_H
#define AL_SQLITE_INT_H

#include <pthread.h>
#include <sqlite3.h>

#include "store/store_int.h"

enum { AL_SQLITE_BUSY_MS = 5000, AL_SQLITE_MARK_LEN = 16 };

/* The statements of writes come first and are numbered as their kinds. */
enum al_sqlite_statement {
	AL_SQL_BEGIN_WRITE = AL_AUDIT_INSERT + 1,
	AL_SQL_COMMIT_WRITE,
	AL_SQL_ROLL_BACK,
	AL_SQL_NEXT_CHANGE,
	AL_SQL_GET_CHANGE,
	AL_SQL_GET_LINK,
	AL_SQL_FIND_LINK,
	AL_SQL_GET_FLOW,
	AL_SQL_LIST_LINKS, /* and the other queries, in order */
	AL_SQL_LIST_LAST = AL_SQL_LIST_LINKS + AL_QUERY_CHANGED,
	AL_SQL_SWEEP_NEEDED,
	AL_SQL_SWEEP_ENDED,
	AL_SQL_SWEEP_SURPLUS,
	AL_SQL_FORGET_FLOWS,
	AL_SQL_AUDIT_NEEDED,
	AL_SQL_SWEEP_AUDIT,
	AL_SQL_GET_META,
	AL_SQL_PUT_META,
	AL_SQL_DROP_META,
	AL_SQL_STATEMENTS
};
/* The place of a query's statement in the table. */
#define AL_SQL_LIST(query) ((size_t)AL_SQL_LIST_LINKS + (size_t)(query))

struct al_sqlite;
struct al_sqlite_handle {
	struct al_sqlite *store;
	struct al_sqlite_handle *next;
	sqlite3 *db;
	int64_t busy_since;
	sqlite3_stmt *statements[AL_SQL_STATEMENTS];
};

struct al_sqlite {
	struct al_store base; /* first member */
	_Atomic pid_t pid;    /* the one process that may use the connections; 0: not used yet */
	dev_t device;         /* of the file that was checked at first */
	ino_t inode;
	pthread_mutex_t lock; /* guards idle and open */
	pthread_cond_t returned;
	struct al_sqlite_handle *idle;
	unsigned open;
};

static inline struct al_sqlite *al_sqlite_of(struct al_store *store)
{
	return (struct al_sqlite *)store;
}

/* ---- sqlite.c: connections --------------------------------------------------- */
/* What an SQLite code that was met while `doing` means to the caller. */
al_rc al_sqlite_fail(const struct al_sqlite_handle *h, int code, const char *doing, acctlink_error *err);
/* A connection for this thread alone, until it gives it back with its result. */
al_rc al_sqlite_take(struct al_sqlite *s, struct al_sqlite_handle **out, acctlink_error *err) AL_MUST_USE;
void al_sqlite_give(struct al_sqlite *s, struct al_sqlite_handle *h, al_rc rc);

/* ---- sqlite_setup.c ---------------------------------------------------------- */
/* Makes a connection that was just opened ready: settings, schema, statements. */
al_rc al_sqlite_set_up(struct al_sqlite_handle *h, acctlink_error *err) AL_MUST_USE;

/* ---- sqlite_statements.c ----------------------------------------------------- */
/* Prepares them all on a connection whose schema is up to date. */
al_rc al_sqlite_prepare(struct al_sqlite_handle *h, acctlink_error *err) AL_MUST_USE;
/* Bound text and blobs are not copied. Returns an SQLite code, as all binding does. */
int al_sqlite_bind_text(sqlite3_stmt *statement, int at, const char *text, size_t len);
/* Runs a statement that returns no rows: OK or AL_CONFLICT. `code` is what
 * binding it returned. */
al_rc al_sqlite_run(struct al_sqlite_handle *h, size_t which, int code, const char *doing, acctlink_error *err);
/* Steps to the one row that is wanted: OK (then `al_sqlite_finish` it) or AL_ABSENT. */
al_rc al_sqlite_seek(struct al_sqlite_handle *h, size_t which, int code, acctlink_error *err) AL_MUST_USE;
/* Bindings point at the caller's memory and must not outlive the call. */
void al_sqlite_finish(sqlite3_stmt *statement);

/* ---- sqlite_rows.c: the reading ones of the table of a store ------------------ */
int al_sqlite_bind_column(sqlite3_stmt *statement, int at, const struct al_column *column, const void *row);
/* The number of the last commit and its mark, which may be NULL. */
al_rc al_sqlite_read_change(struct al_sqlite *s, int64_t *number, unsigned char *mark, acctlink_error *err) AL_MUST_USE;
al_rc al_sqlite_get_link(struct al_store *store, const char *id, const struct al_buf *owner_key,
	struct al_link_row *row, acctlink_error *err);
al_rc al_sqlite_get_flow(
	struct al_store *store, const struct al_buf *state_hash, struct al_flow_row *row, acctlink_error *err);
al_rc al_sqlite_list_links(struct al_store *store, const struct al_link_query_args *args,
	const struct al_link_visit *visit, acctlink_error *err);
al_rc al_sqlite_change(struct al_store *store, int64_t *change, acctlink_error *err);
al_rc al_sqlite_get_meta(struct al_store *store, const char *name, struct al_buf *value, acctlink_error *err);

/* ---- sqlite_commit.c: the writing ones ---------------------------------------- */
al_rc al_sqlite_commit(struct al_store *store, struct al_write *writes, size_t count, acctlink_error *err);
al_rc al_sqlite_sweep_flows(
	struct al_store *store, int64_t now, const struct al_buf *user, unsigned keep, acctlink_error *err);
al_rc al_sqlite_forget_flows(struct al_store *store, const struct al_buf *user, int64_t *count, acctlink_error *err);
al_rc al_sqlite_sweep_audit(struct al_store *store, int64_t before, acctlink_error *err);
al_rc al_sqlite_put_meta(struct al_store *store, const char *name, const struct al_buf *value, acctlink_error *err);
al_rc al_sqlite_drop_meta(struct al_store *store, const char *name, acctlink_error *err);

#endif
