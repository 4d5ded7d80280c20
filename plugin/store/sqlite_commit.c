/* SPDX-License-Identifier: MIT
 * Writing to the SQLite store: every write is one BEGIN IMMEDIATE transaction
 * (a read transaction that turns to writing is refused at once when another
 * wrote in between, whatever the busy time-out), with a change number and a
 * mark that tells whether a commit that failed was kept after all.
 */
#include "store/sqlite_int.h"

#include <string.h>

static al_rc begin_write(struct al_sqlite_handle *h, unsigned char *mark, int64_t *number, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[AL_SQL_NEXT_CHANGE];
	al_rc rc = al_random(mark, AL_SQLITE_MARK_LEN, err);

	if (rc == ACCTLINK_OK)
		rc = al_sqlite_run(h, AL_SQL_BEGIN_WRITE, SQLITE_OK, "write to", err);
	if (rc == ACCTLINK_OK)
		rc = al_sqlite_seek(h, AL_SQL_NEXT_CHANGE,
			sqlite3_bind_blob(statement, 1, mark, AL_SQLITE_MARK_LEN, SQLITE_STATIC), err);
	if (rc == AL_ABSENT)
		return al_sqlite_fail(h, SQLITE_CORRUPT, "find the change number in", err);
	if (rc != ACCTLINK_OK)
		return rc;
	*number = sqlite3_column_int64(statement, 0);
	return al_sqlite_run(h, AL_SQL_NEXT_CHANGE, SQLITE_OK, "write to", err);
}

/* A commit that failed may have been kept: its mark tells. */
static al_rc look_up(struct al_sqlite *s, const unsigned char *mark, int64_t number, al_rc failure, acctlink_error *err)
{
	unsigned char last_mark[AL_SQLITE_MARK_LEN] = { 0 };
	int64_t last = 0;
	al_rc rc = al_sqlite_read_change(s, &last, last_mark, NULL);

	if (rc == ACCTLINK_OK && last == number && memcmp(mark, last_mark, AL_SQLITE_MARK_LEN) == 0) {
		al_error_clear(err);
		return ACCTLINK_OK;
	}
	if (rc == ACCTLINK_OK && last <= number)
		return failure;
	return al_fail(err, ACCTLINK_STORE_DOWN, s->base.path,
		"a commit to the store %s failed and it can't be told "
		"whether it was kept: check its disk",
		s->base.path);
}

typedef al_rc (*write_work)(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err);

/* One transaction. *number is its change number. */
static al_rc write_all(struct al_sqlite *s, write_work work, void *ctx, int64_t *number, acctlink_error *err)
{
	unsigned char mark[AL_SQLITE_MARK_LEN];
	struct al_sqlite_handle *h;
	bool committing;
	al_rc rc = al_sqlite_take(s, &h, err);

	*number = 0;
	if (rc != ACCTLINK_OK)
		return rc;
	rc = begin_write(h, mark, number, err);
	if (rc == ACCTLINK_OK)
		rc = work(h, ctx, *number, err);
	committing = rc == ACCTLINK_OK;
	if (committing)
		rc = al_sqlite_run(h, AL_SQL_COMMIT_WRITE, SQLITE_OK, "commit to", err);
	else if (rc == AL_CONFLICT)
		(void)al_sqlite_run(h, AL_SQL_ROLL_BACK, SQLITE_OK, "roll back", NULL); /* else it is not used again */
	al_sqlite_give(s, h, rc);
	return committing && rc != ACCTLINK_OK ? look_up(s, mark, *number, rc, err) : rc;
}

static al_rc write_row(struct al_sqlite_handle *h, enum al_write_kind kind, const struct al_table *table, void *row,
	int64_t number, acctlink_error *err)
{
	bool insert = kind == AL_LINK_INSERT || kind == AL_FLOW_INSERT;
	bool mark = kind == AL_LINK_MARK || kind == AL_FLOW_MARK;
	bool delete = kind == AL_LINK_DELETE || kind == AL_FLOW_DELETE;
	size_t count = delete ? 1 : mark ? table->count - 2 : table->count;
	sqlite3_stmt *statement = h->statements[kind];
	int code = SQLITE_OK;
	al_rc rc;

	for (size_t i = 0; code == SQLITE_OK && i < count; i++)
		code = al_sqlite_bind_column(statement, (int)i + 1, &table->columns[i], row);
	if (code == SQLITE_OK && !delete)
		code = sqlite3_bind_int64(statement, (int)table->change + 1, number);
	if (code == SQLITE_OK && !insert)
		code = sqlite3_bind_int64(statement, (int)table->count + 1, *al_row_change(table, row));
	rc = al_sqlite_run(h, kind, code, "write to", err);
	return rc == ACCTLINK_OK && sqlite3_changes(h->db) == 0 ? AL_CONFLICT : rc;
}

static al_rc write_audit(struct al_sqlite_handle *h, const struct al_audit_row *row, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[AL_AUDIT_INSERT];
	int code = sqlite3_bind_int64(statement, 1, row->at);

	if (code == SQLITE_OK)
		code = al_sqlite_bind_text(statement, 2, row->link_id, strlen(row->link_id));
	if (code == SQLITE_OK)
		code = al_sqlite_bind_text(statement, 3, row->user.data, row->user.len);
	if (code == SQLITE_OK)
		code = al_sqlite_bind_text(statement, 4, row->what, strlen(row->what));
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 5, row->epoch);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 6, row->generation);
	if (code == SQLITE_OK)
		code = al_sqlite_bind_text(statement, 7, row->detail, strlen(row->detail));
	return al_sqlite_run(h, AL_AUDIT_INSERT, code, "write to", err);
}

struct batch {
	struct al_write *writes;
	size_t count;
};

static al_rc write_batch(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct batch *batch = ctx;
	al_rc rc = ACCTLINK_OK;

	for (size_t i = 0; rc == ACCTLINK_OK && i < batch->count; i++) {
		const struct al_write *write = &batch->writes[i];

		if (write->kind == AL_AUDIT_INSERT)
			rc = write_audit(h, write->audit, err);
		else if (write->kind <= AL_LINK_DELETE)
			rc = write_row(h, write->kind, &al_link_table, write->link, number, err);
		else
			rc = write_row(h, write->kind, &al_flow_table, write->flow, number, err);
	}
	return rc;
}

al_rc al_sqlite_commit(struct al_store *store, struct al_write *writes, size_t count, acctlink_error *err)
{
	struct batch batch = { writes, count };
	int64_t number = 0;
	al_rc rc = write_all(al_sqlite_of(store), write_batch, &batch, &number, err);

	for (size_t i = 0; rc == ACCTLINK_OK && i < count; i++) {
		if (writes[i].kind < AL_LINK_DELETE)
			writes[i].link->change = number;
		else if (writes[i].kind > AL_LINK_DELETE && writes[i].kind < AL_FLOW_DELETE)
			writes[i].flow->change = number;
	}
	return rc;
}

struct sweep {
	int64_t now;
	const struct al_buf *user;
	unsigned keep;
};

/* Unbound, ?2 is NULL and equals no user. */
static int bind_sweep(sqlite3_stmt *statement, const struct sweep *sweep)
{
	int last = sqlite3_bind_parameter_count(statement);
	int code = sqlite3_bind_int64(statement, 1, sweep->now);

	if (code == SQLITE_OK && last >= 2 && sweep->user != NULL)
		code = al_sqlite_bind_text(statement, 2, sweep->user->data, sweep->user->len);
	if (code == SQLITE_OK && last >= 3)
		code = sqlite3_bind_int64(statement, 3, sweep->keep);
	return code;
}

/* Asks first, so that nothing is committed when there is nothing to delete. */
static al_rc is_needed(struct al_sqlite *s, size_t which, const struct sweep *sweep, bool *needed, acctlink_error *err)
{
	struct al_sqlite_handle *h;
	sqlite3_stmt *statement;
	al_rc rc = al_sqlite_take(s, &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[which];
	rc = al_sqlite_seek(h, which, bind_sweep(statement, sweep), err);
	if (rc == ACCTLINK_OK) {
		*needed = sqlite3_column_int(statement, 0) != 0;
		al_sqlite_finish(statement);
	}
	al_sqlite_give(s, h, rc);
	return rc == AL_ABSENT ? ACCTLINK_OK : rc;
}

static al_rc sweep_all(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct sweep *sweep = ctx;
	al_rc rc = al_sqlite_run(
		h, AL_SQL_SWEEP_ENDED, bind_sweep(h->statements[AL_SQL_SWEEP_ENDED], sweep), "write to", err);

	(void)number;
	if (rc == ACCTLINK_OK)
		rc = al_sqlite_run(h, AL_SQL_SWEEP_SURPLUS, bind_sweep(h->statements[AL_SQL_SWEEP_SURPLUS], sweep),
			"write to", err);
	return rc;
}

al_rc al_sqlite_sweep_flows(
	struct al_store *store, int64_t now, const struct al_buf *user, unsigned keep, acctlink_error *err)
{
	struct sweep sweep = { now, user, keep };
	bool needed = false;
	int64_t number;
	al_rc rc = is_needed(al_sqlite_of(store), AL_SQL_SWEEP_NEEDED, &sweep, &needed, err);

	if (rc != ACCTLINK_OK || !needed)
		return rc;
	return write_all(al_sqlite_of(store), sweep_all, &sweep, &number, err);
}

static al_rc delete_audit(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	(void)number;
	return al_sqlite_run(
		h, AL_SQL_SWEEP_AUDIT, bind_sweep(h->statements[AL_SQL_SWEEP_AUDIT], ctx), "write to", err);
}

al_rc al_sqlite_sweep_audit(struct al_store *store, int64_t before, acctlink_error *err)
{
	struct sweep sweep = { .now = before };
	bool needed = false;
	int64_t number;
	al_rc rc = is_needed(al_sqlite_of(store), AL_SQL_AUDIT_NEEDED, &sweep, &needed, err);

	if (rc != ACCTLINK_OK || !needed)
		return rc;
	return write_all(al_sqlite_of(store), delete_audit, &sweep, &number, err);
}

struct forgotten {
	const struct al_buf *user;
	int64_t count;
};

static al_rc delete_flows(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	struct forgotten *forgotten = ctx;
	int code = al_sqlite_bind_text(
		h->statements[AL_SQL_FORGET_FLOWS], 1, forgotten->user->data, forgotten->user->len);
	al_rc rc = al_sqlite_run(h, AL_SQL_FORGET_FLOWS, code, "write to", err);

	(void)number;
	forgotten->count = sqlite3_changes(h->db);
	return rc;
}

al_rc al_sqlite_forget_flows(struct al_store *store, const struct al_buf *user, int64_t *count, acctlink_error *err)
{
	struct forgotten forgotten = { .user = user };
	int64_t number;
	al_rc rc = write_all(al_sqlite_of(store), delete_flows, &forgotten, &number, err);

	*count = rc == ACCTLINK_OK ? forgotten.count : 0;
	return rc;
}

struct meta {
	const char *name;
	const struct al_buf *value;
};

static al_rc write_meta(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct meta *meta = ctx;
	sqlite3_stmt *statement = h->statements[AL_SQL_PUT_META];
	int code = al_sqlite_bind_text(statement, 1, meta->name, strlen(meta->name));

	(void)number;
	if (code == SQLITE_OK)
		code = sqlite3_bind_blob64(statement, 2, al_buf_text(meta->value), meta->value->len, SQLITE_STATIC);
	return al_sqlite_run(h, AL_SQL_PUT_META, code, "write to", err);
}

al_rc al_sqlite_put_meta(struct al_store *store, const char *name, const struct al_buf *value, acctlink_error *err)
{
	struct meta meta = { name, value };
	int64_t number;

	return write_all(al_sqlite_of(store), write_meta, &meta, &number, err);
}

static al_rc delete_meta(struct al_sqlite_handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct meta *meta = ctx;
	int code = al_sqlite_bind_text(h->statements[AL_SQL_DROP_META], 1, meta->name, strlen(meta->name));

	(void)number;
	return al_sqlite_run(h, AL_SQL_DROP_META, code, "write to", err);
}

al_rc al_sqlite_drop_meta(struct al_store *store, const char *name, acctlink_error *err)
{
	struct meta meta = { name, NULL };
	int64_t number;

	return write_all(al_sqlite_of(store), delete_meta, &meta, &number, err);
}
