/* SPDX-License-Identifier: MIT
 * The statements of the SQLite store: their text, made from the tables of
 * columns; preparing and running them. No lock; the caller owns the connection.
 */
#include "store/sqlite_int.h"

#define SQL_MAX 8192

/* %n names, %v values, %s and %m settings (of all but the key; of all but key,
 * key_id and sealed), %w names of watched columns, %o the compared change. */
#define BY_ID " WHERE id = ?1 AND change = ?%o"
#define BY_STATE " WHERE state_hash = ?1 AND change = ?%o"
static const struct {
	const struct al_table *table;
	const char *text;
} templates[AL_SQL_STATEMENTS] = { [AL_LINK_INSERT] = { &al_link_table, "INSERT INTO link (%n) VALUES (%v)" },
	[AL_LINK_SWAP] = { &al_link_table, "UPDATE link SET %s" BY_ID },
	/* A seal is bound to epoch and generation: a mark that changed one would lock the set up. */
	[AL_LINK_MARK] = { &al_link_table, "UPDATE link SET %m" BY_ID " AND epoch = ?6 AND generation = ?7" },
	[AL_LINK_DELETE] = { &al_link_table, "DELETE FROM link" BY_ID },
	[AL_FLOW_INSERT] = { &al_flow_table, "INSERT INTO flow (%n) VALUES (%v)" },
	[AL_FLOW_SWAP] = { &al_flow_table, "UPDATE flow SET %s" BY_STATE },
	[AL_FLOW_MARK] = { &al_flow_table, "UPDATE flow SET %m" BY_STATE },
	[AL_FLOW_DELETE] = { &al_flow_table, "DELETE FROM flow" BY_STATE },
	[AL_AUDIT_INSERT] = { NULL,
		"INSERT INTO audit (at, link_id, user, what, epoch, generation, detail)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)" },
	[AL_SQL_BEGIN_WRITE] = { NULL, "BEGIN IMMEDIATE" },
	[AL_SQL_COMMIT_WRITE] = { NULL, "COMMIT" },
	[AL_SQL_ROLL_BACK] = { NULL, "ROLLBACK" },
	[AL_SQL_NEXT_CHANGE] = { NULL, "UPDATE change SET number = number + 1, mark = ?1 RETURNING number" },
	[AL_SQL_GET_CHANGE] = { NULL, "SELECT number, mark FROM change" },
	[AL_SQL_GET_LINK] = { &al_link_table, "SELECT %n FROM link WHERE id = ?1" },
	[AL_SQL_FIND_LINK] = { &al_link_table, "SELECT %n FROM link WHERE owner_key = ?1 AND state <> 5" },
	[AL_SQL_GET_FLOW] = { &al_flow_table, "SELECT %n FROM flow WHERE state_hash = ?1" },
	[AL_SQL_LIST(AL_QUERY_USER)] = { &al_link_table,
		"SELECT %n FROM link"
		" WHERE user = ?1 AND id > ?2 AND state <> 5 ORDER BY id LIMIT ?3" },
	[AL_SQL_LIST(AL_QUERY_ALL)] = { &al_link_table,
		"SELECT %n FROM link"
		" WHERE id > ?1 ORDER BY id LIMIT ?2" },
	[AL_SQL_LIST(AL_QUERY_SUBJECT)] = { &al_link_table,
		"SELECT %n FROM link"
		" WHERE issuer = ?1 AND client = ?2 AND subject = ?3 AND state NOT IN (4, 5) ORDER BY id LIMIT ?4" },
	[AL_SQL_LIST(AL_QUERY_DUE)] = { &al_link_table,
		"SELECT %n FROM link"
		" WHERE due_at > 0 AND due_at <= ?1 ORDER BY due_at LIMIT ?2" },
	[AL_SQL_LIST(AL_QUERY_REVOCATIONS)] = { &al_link_table,
		"SELECT %n FROM link"
		" WHERE revoke_at > 0 AND revoke_at <= ?1 ORDER BY revoke_at LIMIT ?2" },
	[AL_SQL_LIST(AL_QUERY_CHANGED)] = { &al_link_table,
		"SELECT %w FROM link"
		" WHERE change > ?1 ORDER BY change LIMIT ?2" },
	/* Looked up first, so that most consents begin without a second commit. */
	[AL_SQL_SWEEP_NEEDED] = { NULL,
		"SELECT EXISTS (SELECT 1 FROM flow WHERE expires_at < ?1)"
		" OR EXISTS (SELECT 1 FROM flow WHERE user = ?2 AND phase = 0 LIMIT 1 OFFSET ?3)" },
	[AL_SQL_SWEEP_ENDED] = { NULL,
		"DELETE FROM flow WHERE state_hash IN"
		" (SELECT state_hash FROM flow WHERE expires_at < ?1 ORDER BY expires_at LIMIT 1000)" },
	[AL_SQL_SWEEP_SURPLUS] = { NULL,
		"DELETE FROM flow WHERE state_hash IN (SELECT state_hash FROM flow"
		" WHERE user = ?2 AND phase = 0 ORDER BY created_at DESC, state_hash LIMIT -1 OFFSET ?3)" },
	[AL_SQL_FORGET_FLOWS] = { NULL, "DELETE FROM flow WHERE user = ?1" },
	/* The oldest only: the rest of the table is not looked through. One may be of a time when the
	 * clock was ahead. */
	[AL_SQL_AUDIT_NEEDED] = { NULL,
		"SELECT EXISTS (SELECT 1 FROM (SELECT at FROM audit ORDER BY seq LIMIT 1000)"
		" WHERE at < ?1)" },
	[AL_SQL_SWEEP_AUDIT] = { NULL,
		"DELETE FROM audit WHERE at < ?1"
		" AND seq IN (SELECT seq FROM audit ORDER BY seq LIMIT 1000)" },
	[AL_SQL_GET_META] = { NULL, "SELECT value FROM meta WHERE name = ?1" },
	[AL_SQL_PUT_META] = { NULL, "INSERT INTO meta (name, value) VALUES (?1, ?2)" },
	[AL_SQL_DROP_META] = { NULL, "DELETE FROM meta WHERE name = ?1" } };

static void put_columns(struct al_buf *sql, const struct al_table *table, char style)
{
	bool settings = style == 's' || style == 'm';
	size_t end = style == 'm' ? table->count - 2 : table->count;
	const char *comma = "";

	for (size_t i = settings ? 1 : 0; i < end; i++) {
		if (style == 'w' && !table->columns[i].watched)
			continue;
		(void)al_buf_puts(sql, comma);
		comma = ", ";
		if (style != 'v')
			(void)al_buf_puts(sql, table->columns[i].name);
		if (settings)
			(void)al_buf_puts(sql, " = ");
		if (style == 'v' || settings)
			(void)al_buf_printf(sql, "?%zu", i + 1);
	}
}

static al_rc prepare(struct al_sqlite_handle *h, size_t which, struct al_buf *sql, acctlink_error *err)
{
	const struct al_table *table = templates[which].table;
	int code;

	al_buf_clear(sql);
	for (const char *at = templates[which].text; *at != '\0'; at++) {
		if (*at != '%')
			(void)al_buf_put(sql, at, 1);
		else if (*++at == 'o')
			(void)al_buf_printf(sql, "%zu", table->count + 1);
		else
			put_columns(sql, table, *at);
	}
	if (sql->failed)
		return al_fail_memory(err);
	code = sqlite3_prepare_v3(h->db, sql->data, -1, SQLITE_PREPARE_PERSISTENT, &h->statements[which], NULL);
	return code == SQLITE_OK ? ACCTLINK_OK : al_sqlite_fail(h, code, "read", err);
}

al_rc al_sqlite_prepare(struct al_sqlite_handle *h, acctlink_error *err)
{
	struct al_buf sql;
	al_rc rc = ACCTLINK_OK;

	al_buf_init(&sql, SQL_MAX);
	for (size_t i = 0; rc == ACCTLINK_OK && i < AL_SQL_STATEMENTS; i++)
		rc = prepare(h, i, &sql, err);
	al_buf_clear(&sql);
	return rc;
}

int al_sqlite_bind_text(sqlite3_stmt *statement, int at, const char *text, size_t len)
{
	return sqlite3_bind_text64(statement, at, len == 0 ? "" : text, len, SQLITE_STATIC, SQLITE_UTF8);
}

void al_sqlite_finish(sqlite3_stmt *statement)
{
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
}

static bool is_conflict(int code)
{
	return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY;
}

al_rc al_sqlite_run(struct al_sqlite_handle *h, size_t which, int code, const char *doing, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[which];
	al_rc rc = ACCTLINK_OK;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (is_conflict(code))
		rc = AL_CONFLICT;
	else if (code != SQLITE_DONE)
		rc = al_sqlite_fail(h, code, doing, err);
	al_sqlite_finish(statement);
	return rc;
}

al_rc al_sqlite_seek(struct al_sqlite_handle *h, size_t which, int code, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[which];
	al_rc rc = AL_ABSENT;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		return ACCTLINK_OK;
	if (code != SQLITE_DONE)
		rc = al_sqlite_fail(h, code, "read", err);
	al_sqlite_finish(statement);
	return rc;
}
