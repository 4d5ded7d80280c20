/* SPDX-License-Identifier: MIT
 * Rows of the SQLite store: columns bound and read, links and flows found and
 * listed. What is read is checked against the table of columns, since a store
 * may be damaged. A caller's row is replaced as a whole.
 */
#include "store/sqlite_int.h"

#include <stdlib.h>
#include <string.h>

int al_sqlite_bind_column(sqlite3_stmt *statement, int at, const struct al_column *column, const void *row)
{
	const void *field = (const char *)row + column->offset;
	const struct al_buf *buf = field;
	int64_t number;

	switch (column->kind) {
	case AL_COLUMN_INT: memcpy(&number, field, sizeof(number)); return sqlite3_bind_int64(statement, at, number);
	case AL_COLUMN_ID: return al_sqlite_bind_text(statement, at, field, strlen(field));
	case AL_COLUMN_TEXT: return al_sqlite_bind_text(statement, at, buf->data, buf->len);
	default: return sqlite3_bind_blob64(statement, at, al_buf_text(buf), buf->len, SQLITE_STATIC);
	}
}

static al_rc damaged(const struct al_sqlite_handle *h, const struct al_column *column, acctlink_error *err)
{
	return al_fail(err, ACCTLINK_BAD_STORE, h->store->base.path,
		"a row's %s in the store %s is damaged: restore it "
		"from a backup",
		column->name, h->store->base.path);
}

static al_rc read_column(const struct al_sqlite_handle *h, sqlite3_stmt *statement, int at,
	const struct al_column *column, void *row, acctlink_error *err)
{
	static const int types[] = { SQLITE_INTEGER, SQLITE_TEXT, SQLITE_TEXT, SQLITE_BLOB };
	void *field = (char *)row + column->offset;
	const void *data;
	size_t len;
	int64_t number;

	if (sqlite3_column_type(statement, at) != types[column->kind])
		return damaged(h, column, err);
	if (column->kind == AL_COLUMN_INT) {
		number = sqlite3_column_int64(statement, at);
		memcpy(field, &number, sizeof(number));
		return ACCTLINK_OK;
	}
	data = sqlite3_column_blob(statement, at);
	len = (size_t)sqlite3_column_bytes(statement, at);
	if (data == NULL && len > 0)
		return al_fail_memory(err);
	if (len < column->min || len > column->max || (column->kind == AL_COLUMN_ID && len > 0 && len < AL_ID_LEN))
		return damaged(h, column, err);
	if (column->kind == AL_COLUMN_ID) {
		if (len > 0)
			memcpy(field, data, len);
		((char *)field)[len] = '\0';
		return ACCTLINK_OK;
	}
	if (len > ((const struct al_buf *)field)->max)
		return damaged(h, column, err);
	return al_buf_set(field, data, len) ? ACCTLINK_OK : al_fail_memory(err);
}

static al_rc read_row(const struct al_sqlite_handle *h, sqlite3_stmt *statement, const struct al_table *table,
	bool watched_only, void *row, acctlink_error *err)
{
	int at = 0;

	for (size_t i = 0; i < table->count; i++) {
		al_rc rc;

		if (watched_only && !table->columns[i].watched)
			continue;
		rc = read_column(h, statement, at++, &table->columns[i], row, err);
		if (rc != ACCTLINK_OK)
			return rc;
	}
	return ACCTLINK_OK;
}

/* ---- reading --------------------------------------------------------------------- */

/* The id or key that is asked for may be the row's own, so it is replaced last. */
al_rc al_sqlite_get_link(struct al_store *store, const char *id, const struct al_buf *owner_key,
	struct al_link_row *row, acctlink_error *err)
{
	size_t which = id != NULL ? AL_SQL_GET_LINK : AL_SQL_FIND_LINK;
	struct al_link_row found;
	struct al_sqlite_handle *h;
	sqlite3_stmt *statement;
	int code;
	al_rc rc = al_sqlite_take(al_sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK) {
		al_link_row_clear(row);
		return rc;
	}
	al_link_row_init(&found);
	statement = h->statements[which];
	code = id != NULL ? al_sqlite_bind_text(statement, 1, id, strlen(id))
			  : sqlite3_bind_blob64(statement, 1, al_buf_text(owner_key), owner_key->len, SQLITE_STATIC);
	rc = al_sqlite_seek(h, which, code, err);
	if (rc == ACCTLINK_OK) {
		rc = read_row(h, statement, &al_link_table, false, &found, err);
		al_sqlite_finish(statement);
	}
	al_sqlite_give(al_sqlite_of(store), h, rc);
	if (rc != ACCTLINK_OK)
		al_link_row_clear(&found);
	al_link_row_clear(row);
	*row = found;
	return rc;
}

al_rc al_sqlite_get_flow(
	struct al_store *store, const struct al_buf *state_hash, struct al_flow_row *row, acctlink_error *err)
{
	struct al_flow_row found;
	struct al_sqlite_handle *h;
	sqlite3_stmt *statement;
	al_rc rc = al_sqlite_take(al_sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK) {
		al_flow_row_clear(row);
		return rc;
	}
	al_flow_row_init(&found);
	statement = h->statements[AL_SQL_GET_FLOW];
	rc = al_sqlite_seek(h, AL_SQL_GET_FLOW,
		sqlite3_bind_blob64(statement, 1, al_buf_text(state_hash), state_hash->len, SQLITE_STATIC), err);
	if (rc == ACCTLINK_OK) {
		rc = read_row(h, statement, &al_flow_table, false, &found, err);
		al_sqlite_finish(statement);
	}
	al_sqlite_give(al_sqlite_of(store), h, rc);
	if (rc != ACCTLINK_OK)
		al_flow_row_clear(&found);
	al_flow_row_clear(row);
	*row = found;
	return rc;
}

static int bind_query(sqlite3_stmt *statement, const struct al_link_query_args *args, unsigned limit)
{
	int code = SQLITE_OK;
	int last = sqlite3_bind_parameter_count(statement);

	switch (args->query) {
	case AL_QUERY_USER:
		code = al_sqlite_bind_text(statement, 1, args->user->data, args->user->len);
		if (code == SQLITE_OK)
			code = al_sqlite_bind_text(statement, 2, args->after, strlen(args->after));
		break;
	case AL_QUERY_ALL: code = al_sqlite_bind_text(statement, 1, args->after, strlen(args->after)); break;
	case AL_QUERY_SUBJECT:
		code = al_sqlite_bind_text(statement, 1, args->issuer->data, args->issuer->len);
		if (code == SQLITE_OK)
			code = sqlite3_bind_blob64(
				statement, 2, al_buf_text(args->client), args->client->len, SQLITE_STATIC);
		if (code == SQLITE_OK)
			code = al_sqlite_bind_text(statement, 3, args->subject->data, args->subject->len);
		break;
	default: code = sqlite3_bind_int64(statement, 1, args->bound); break;
	}
	return code != SQLITE_OK ? code : sqlite3_bind_int64(statement, last, limit);
}

struct found {
	struct found *next;
	struct al_link_row row;
};

static al_rc collect(struct al_sqlite_handle *h, sqlite3_stmt *statement, bool watched_only, struct found **list,
	acctlink_error *err)
{
	for (;;) {
		int code = sqlite3_step(statement);
		al_rc rc;

		if (code == SQLITE_DONE)
			return ACCTLINK_OK;
		if (code != SQLITE_ROW)
			return al_sqlite_fail(h, code, "read", err);
		*list = al_new(sizeof(**list));
		if (*list == NULL)
			return al_fail_memory(err);
		al_link_row_init(&(*list)->row);
		rc = read_row(h, statement, &al_link_table, watched_only, &(*list)->row, err);
		if (rc != ACCTLINK_OK)
			return rc;
		list = &(*list)->next;
	}
}

al_rc al_sqlite_list_links(struct al_store *store, const struct al_link_query_args *args,
	const struct al_link_visit *visit, acctlink_error *err)
{
	size_t which = AL_SQL_LIST(args->query);
	struct found *list = NULL;
	struct al_sqlite_handle *h;
	bool more;
	int code;
	al_rc rc = al_sqlite_take(al_sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	code = bind_query(h->statements[which], args, visit->limit);
	if (code == SQLITE_OK)
		rc = collect(h, h->statements[which], args->query == AL_QUERY_CHANGED, &list, err);
	else
		rc = al_sqlite_fail(h, code, "read", err);
	al_sqlite_finish(h->statements[which]);
	al_sqlite_give(al_sqlite_of(store), h, rc);
	more = rc == ACCTLINK_OK;
	while (list != NULL) {
		struct found *next = list->next;

		more = more && visit->each(visit->ctx, &list->row);
		al_link_row_clear(&list->row);
		free(list);
		list = next;
	}
	return rc;
}

al_rc al_sqlite_read_change(struct al_sqlite *s, int64_t *number, unsigned char *mark, acctlink_error *err)
{
	struct al_sqlite_handle *h;
	sqlite3_stmt *statement;
	al_rc rc = al_sqlite_take(s, &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[AL_SQL_GET_CHANGE];
	rc = al_sqlite_seek(h, AL_SQL_GET_CHANGE, SQLITE_OK, err);
	if (rc == AL_ABSENT)
		rc = al_sqlite_fail(h, SQLITE_CORRUPT, "find the change number in", err);
	else if (rc == ACCTLINK_OK) {
		*number = sqlite3_column_int64(statement, 0);
		if (mark != NULL && sqlite3_column_bytes(statement, 1) == AL_SQLITE_MARK_LEN)
			memcpy(mark, sqlite3_column_blob(statement, 1), AL_SQLITE_MARK_LEN);
		al_sqlite_finish(statement);
	}
	al_sqlite_give(s, h, rc);
	return rc;
}

al_rc al_sqlite_change(struct al_store *store, int64_t *change, acctlink_error *err)
{
	return al_sqlite_read_change(al_sqlite_of(store), change, NULL, err);
}

al_rc al_sqlite_get_meta(struct al_store *store, const char *name, struct al_buf *value, acctlink_error *err)
{
	static const struct al_column column = { "value", AL_COLUMN_BLOB, 0, 0, AL_SEALED_MAX, false };
	struct al_sqlite_handle *h;
	sqlite3_stmt *statement;
	al_rc rc = al_sqlite_take(al_sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[AL_SQL_GET_META];
	rc = al_sqlite_seek(h, AL_SQL_GET_META, al_sqlite_bind_text(statement, 1, name, strlen(name)), err);
	if (rc == ACCTLINK_OK) {
		rc = read_column(h, statement, 0, &column, value, err);
		al_sqlite_finish(statement);
	}
	al_sqlite_give(al_sqlite_of(store), h, rc);
	return rc;
}
