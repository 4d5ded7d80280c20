/* SPDX-License-Identifier: MIT
 * The SQLite store: WAL, synchronous=FULL, every write in one BEGIN IMMEDIATE
 * transaction (a read transaction that turns to writing is refused at once
 * when another wrote in between, whatever the busy time-out). Each process has
 * a few connections of its own, opened at need; one thread uses one at a time.
 * The mutex guards the list of idle ones and is never held across I/O.
 */
#include "store/store_int.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID 0x61636c6e /* "acln" */
#define CONNECTIONS_MAX 8
#define STORES_MAX 16 /* of one process */
#define BUSY_MS 5000
#define SQL_MAX 8192
#define MARK_LEN 16

/* The statements of writes come first and are numbered as their kinds. */
enum statement {
	BEGIN_WRITE = AL_AUDIT_INSERT + 1,
	COMMIT_WRITE,
	ROLL_BACK,
	NEXT_CHANGE,
	GET_CHANGE,
	GET_LINK,
	FIND_LINK,
	GET_FLOW,
	LIST_LINKS, /* and the other queries, in order */
	LIST_LAST = LIST_LINKS + AL_QUERY_CHANGED,
	SWEEP_NEEDED,
	SWEEP_ENDED,
	SWEEP_SURPLUS,
	GET_META,
	PUT_META,
	STATEMENTS
};

/* %n names, %v values, %s and %m settings (of all but the key; of all but key,
 * key_id and sealed), %w names of watched columns, %o the compared change. */
#define BY_ID " WHERE id = ?1 AND change = ?%o"
#define BY_STATE " WHERE state_hash = ?1 AND change = ?%o"
static const struct {
	const struct al_table *table;
	const char *text;
} templates[STATEMENTS] = {
	[AL_LINK_INSERT] = { &al_link_table, "INSERT INTO link (%n) VALUES (%v)" },
	[AL_LINK_SWAP] = { &al_link_table, "UPDATE link SET %s" BY_ID },
	/* A seal is bound to epoch and generation: a mark that changed one would lock the set up. */
	[AL_LINK_MARK] = { &al_link_table, "UPDATE link SET %m" BY_ID
		" AND epoch = ?6 AND generation = ?7" },
	[AL_LINK_DELETE] = { &al_link_table, "DELETE FROM link" BY_ID },
	[AL_FLOW_INSERT] = { &al_flow_table, "INSERT INTO flow (%n) VALUES (%v)" },
	[AL_FLOW_SWAP] = { &al_flow_table, "UPDATE flow SET %s" BY_STATE },
	[AL_FLOW_MARK] = { &al_flow_table, "UPDATE flow SET %m" BY_STATE },
	[AL_FLOW_DELETE] = { &al_flow_table, "DELETE FROM flow" BY_STATE },
	[AL_AUDIT_INSERT] = { NULL, "INSERT INTO audit (at, link_id, user, what, epoch, generation, detail)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)" },
	[BEGIN_WRITE] = { NULL, "BEGIN IMMEDIATE" },
	[COMMIT_WRITE] = { NULL, "COMMIT" },
	[ROLL_BACK] = { NULL, "ROLLBACK" },
	[NEXT_CHANGE] = { NULL, "UPDATE change SET number = number + 1, mark = ?1 RETURNING number" },
	[GET_CHANGE] = { NULL, "SELECT number, mark FROM change" },
	[GET_LINK] = { &al_link_table, "SELECT %n FROM link WHERE id = ?1" },
	[FIND_LINK] = { &al_link_table, "SELECT %n FROM link WHERE owner_key = ?1 AND state <> 5" },
	[GET_FLOW] = { &al_flow_table, "SELECT %n FROM flow WHERE state_hash = ?1" },
	[LIST_LINKS + AL_QUERY_USER] = { &al_link_table, "SELECT %n FROM link"
		" WHERE user = ?1 AND id > ?2 AND state <> 5 ORDER BY id LIMIT ?3" },
	[LIST_LINKS + AL_QUERY_SUBJECT] = { &al_link_table, "SELECT %n FROM link"
		" WHERE issuer = ?1 AND client = ?2 AND subject = ?3 AND state NOT IN (4, 5) ORDER BY id LIMIT ?4" },
	[LIST_LINKS + AL_QUERY_DUE] = { &al_link_table, "SELECT %n FROM link"
		" WHERE due_at > 0 AND due_at <= ?1 ORDER BY due_at LIMIT ?2" },
	[LIST_LINKS + AL_QUERY_REVOCATIONS] = { &al_link_table, "SELECT %n FROM link"
		" WHERE revoke_at > 0 AND revoke_at <= ?1 ORDER BY revoke_at LIMIT ?2" },
	[LIST_LINKS + AL_QUERY_CHANGED] = { &al_link_table, "SELECT %w FROM link"
		" WHERE change > ?1 ORDER BY change LIMIT ?2" },
	/* Looked up first, so that most consents begin without a second commit. */
	[SWEEP_NEEDED] = { NULL, "SELECT EXISTS (SELECT 1 FROM flow WHERE expires_at < ?1)"
		" OR EXISTS (SELECT 1 FROM flow WHERE user = ?2 AND phase = 0 LIMIT 1 OFFSET ?3)" },
	[SWEEP_ENDED] = { NULL, "DELETE FROM flow WHERE state_hash IN"
		" (SELECT state_hash FROM flow WHERE expires_at < ?1 ORDER BY expires_at LIMIT 1000)" },
	[SWEEP_SURPLUS] = { NULL, "DELETE FROM flow WHERE state_hash IN (SELECT state_hash FROM flow"
		" WHERE user = ?2 AND phase = 0 ORDER BY created_at DESC, state_hash LIMIT -1 OFFSET ?3)" },
	[GET_META] = { NULL, "SELECT value FROM meta WHERE name = ?1" },
	[PUT_META] = { NULL, "INSERT INTO meta (name, value) VALUES (?1, ?2)" }
};

struct sqlite_store;
struct handle {
	struct sqlite_store *store;
	struct handle *next;
	sqlite3 *db;
	int64_t busy_since;
	sqlite3_stmt *statements[STATEMENTS];
};

struct sqlite_store {
	struct al_store base; /* first member */
	_Atomic pid_t pid;    /* the one process that may use the connections; 0: not used yet */
	dev_t device;         /* of the file that was checked at first */
	ino_t inode;
	pthread_mutex_t lock; /* guards idle and open */
	pthread_cond_t returned;
	struct handle *idle;
	unsigned open;
};

static struct sqlite_store *sqlite_of(struct al_store *store)
{
	return (struct sqlite_store *)store;
}

/* ---- failures ------------------------------------------------------------------ */

static const struct outcome {
	int code; /* primary result code */
	al_rc rc;
	const char *advice;
} outcomes[] = {
	{ SQLITE_CORRUPT, ACCTLINK_BAD_STORE, "restore it from a backup" },
	{ SQLITE_NOTADB, ACCTLINK_BAD_STORE, "restore it from a backup or name another file" },
	{ SQLITE_ERROR, ACCTLINK_BAD_STORE, "its tables are not acctlink's; restore it from a backup" },
	{ SQLITE_CONSTRAINT, ACCTLINK_INTERNAL, "please report this" },
	{ SQLITE_MISMATCH, ACCTLINK_INTERNAL, "please report this" },
	{ SQLITE_MISUSE, ACCTLINK_INTERNAL, "please report this" },
	{ SQLITE_RANGE, ACCTLINK_INTERNAL, "please report this" },
	{ SQLITE_TOOBIG, ACCTLINK_INTERNAL, "please report this" },
	{ SQLITE_BUSY, ACCTLINK_STORE_DOWN, "another process held the store all the time" },
	{ SQLITE_FULL, ACCTLINK_STORE_DOWN, "free space on its disk" },
	{ SQLITE_READONLY, ACCTLINK_STORE_DOWN, "check owner, mode and mount of its folder" },
	{ SQLITE_CANTOPEN, ACCTLINK_STORE_DOWN, "check owner and mode of its folder" },
	{ SQLITE_PERM, ACCTLINK_STORE_DOWN, "check owner and mode of its folder" }
};

static al_rc fail(const struct handle *h, int code, const char *doing, acctlink_error *err)
{
	struct outcome outcome = { code, ACCTLINK_STORE_DOWN, "check its disk" };
	const char *words = sqlite3_errstr(code);

	if ((code & 0xff) == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM)
		return al_fail_memory(err);
	for (size_t i = 0; i < AL_COUNT(outcomes); i++) {
		if (outcomes[i].code == (code & 0xff))
			outcome = outcomes[i];
	}
	if (h->db != NULL && sqlite3_extended_errcode(h->db) == code)
		words = sqlite3_errmsg(h->db);
	return al_fail(err, outcome.rc, h->store->base.path, "can't %s the store %s: %s (SQLite code %d); %s",
		doing, h->store->base.path, words, code, outcome.advice);
}

static bool is_conflict(int code)
{
	return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY;
}

/* ---- one connection ------------------------------------------------------------ */

/* SQLite knows the files that this process has open by device and inode, in a
 * table that fork copies with everything else. A connection opened in a child
 * then believes in locks that only the parent holds, and a WAL that the parent
 * deletes at its end takes the child's commits with it. So what is open is
 * counted with the process that opened it (pid << 32 | count), and a child
 * opens nothing before the inherited connections are gone. Atomic, without a
 * lock: a fork copies both whole. */
static _Atomic uint64_t open_here;
static struct sqlite_store *_Atomic stores[STORES_MAX];

static bool count_opened(void)
{
	uint64_t self = (uint64_t)(uint32_t)getpid() << 32;
	uint64_t old = atomic_load(&open_here);
	uint64_t next;

	do {
		bool ours = (old & ~(uint64_t)UINT32_MAX) == self;

		if (!ours && (uint32_t)old != 0)
			return false;
		next = ours ? old + 1 : self + 1;
	} while (!atomic_compare_exchange_weak(&open_here, &old, next));
	return true;
}

/* Closing an inherited connection must not touch what the parent uses: without
 * a checkpoint it unmaps and closes in this process only, and the locks are
 * per process anyway. */
static void close_handle(struct handle *h, bool inherited)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		(void)sqlite3_finalize(h->statements[i]);
	if (h->db != NULL && inherited)
		(void)sqlite3_db_config(h->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	(void)sqlite3_close_v2(h->db);
	atomic_fetch_sub(&open_here, 1);
	free(h);
}

/* Many wait for one writer: short naps of uneven length get them through. */
static int wait_busy(void *ctx, int count)
{
	struct handle *h = ctx;
	int64_t now = al_monotonic_ms();
	unsigned char chance;
	struct timespec nap = { 0, 5000000 };

	if (count == 0)
		h->busy_since = now;
	if (now - h->busy_since >= BUSY_MS)
		return 0;
	if (al_random(&chance, 1, NULL) == ACCTLINK_OK)
		nap.tv_nsec = 1000000 + chance * 35000;
	(void)nanosleep(&nap, NULL);
	return 1;
}

static al_rc run_sql(struct handle *h, const char *sql, const char *doing, acctlink_error *err)
{
	int code = sqlite3_exec(h->db, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? ACCTLINK_OK : fail(h, code, doing, err);
}

/* A store may have been tampered with: no triggers, views or functions of its own. */
static al_rc configure(struct handle *h, acctlink_error *err)
{
	static const int options[][2] = {
		{ SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0 },
		{ SQLITE_DBCONFIG_ENABLE_TRIGGER, 0 },
		{ SQLITE_DBCONFIG_ENABLE_VIEW, 0 },
		{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 },
		{ SQLITE_DBCONFIG_DEFENSIVE, 1 }
	};
	int code = sqlite3_busy_handler(h->db, wait_busy, h);

	for (size_t i = 0; code == SQLITE_OK && i < AL_COUNT(options); i++)
		code = sqlite3_db_config(h->db, options[i][0], options[i][1], NULL);
	if (code != SQLITE_OK)
		return fail(h, code, "configure", err);
	if (sqlite3_db_readonly(h->db, "main") != 0)
		return fail(h, SQLITE_READONLY, "write to", err);
	return run_sql(h, "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cell_size_check = ON;"
		"PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;", "configure", err);
}

static al_rc read_number(struct handle *h, const char *sql, int64_t *number, acctlink_error *err)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(h->db, sql, -1, &statement, NULL);
	al_rc rc = ACCTLINK_OK;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*number = sqlite3_column_int64(statement, 0);
	else
		rc = fail(h, code, "read", err);
	(void)sqlite3_finalize(statement);
	return rc;
}

/* *version: 0 for a new file. Called inside a transaction. */
static al_rc read_version(struct handle *h, int64_t *version, acctlink_error *err)
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
		return al_fail(err, ACCTLINK_BAD_STORE, path, "%s is a database, but not acctlink's: name another file",
			path);
	if (*version > AL_STORE_SCHEMA)
		return al_fail(err, ACCTLINK_BAD_STORE, path, "%s was made by a newer acctlink (version %lld, this "
			"one knows up to %d): install that or newer", path, (long long)*version, AL_STORE_SCHEMA);
	return ACCTLINK_OK;
}

static al_rc migrate(struct handle *h, acctlink_error *err)
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
static al_rc set_wal(struct handle *h, acctlink_error *err)
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
		rc = fail(h, code, "open", err);
	else if (mode == NULL)
		rc = al_fail_memory(err);
	else if (strcmp(mode, "wal") != 0)
		rc = al_fail(err, ACCTLINK_BAD_STORE, h->store->base.path, "%s can't have a write-ahead log: it must "
			"be on a local file system", h->store->base.path);
	(void)sqlite3_finalize(statement);
	return rc;
}

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

static al_rc prepare(struct handle *h, size_t which, struct al_buf *sql, acctlink_error *err)
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
	return code == SQLITE_OK ? ACCTLINK_OK : fail(h, code, "read", err);
}

static al_rc set_up(struct handle *h, acctlink_error *err)
{
	int64_t version = 0;
	struct al_buf sql;
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
	al_buf_init(&sql, SQL_MAX);
	for (size_t i = 0; rc == ACCTLINK_OK && i < STATEMENTS; i++)
		rc = prepare(h, i, &sql, err);
	al_buf_clear(&sql);
	return rc;
}

/* Another file in the store's place would be mixed with the write-ahead log
 * of the first: SQLite knows the log by its name only. */
static al_rc check_file(struct sqlite_store *s, acctlink_error *err)
{
	struct stat st;
	al_rc rc = al_store_file_check(s->base.path, &st, err);

	if (rc == ACCTLINK_OK && (st.st_dev != s->device || st.st_ino != s->inode))
		rc = al_fail(err, ACCTLINK_STORE_DOWN, s->base.path, "another file was put in the place of the store %s "
			"while it was in use: put it back, or restart all that use it", s->base.path);
	return rc;
}

/* Closes the idle connections; false if the list is locked: in a child perhaps
 * for ever, by a thread that only the parent has. */
static bool drop_idle(struct sqlite_store *s, bool inherited)
{
	struct handle *list;

	if (pthread_mutex_trylock(&s->lock) != 0)
		return false;
	list = s->idle;
	s->idle = NULL;
	for (struct handle *h = list; h != NULL; h = h->next)
		s->open--;
	(void)pthread_mutex_unlock(&s->lock);
	while (list != NULL) {
		struct handle *next = list->next;

		close_handle(list, inherited);
		list = next;
	}
	return true;
}

static bool is_inherited(struct sqlite_store *s)
{
	pid_t user = atomic_load(&s->pid);

	return user != 0 && user != getpid();
}

static void drop_inherited(void)
{
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct sqlite_store *other = atomic_load(&stores[i]);

		if (other != NULL && is_inherited(other))
			(void)drop_idle(other, true);
	}
}

/* Counts a connection that is about to be opened, once nothing inherited is
 * left. It takes more than one try if another thread is dropping it just now. */
static bool enter_process(void)
{
	const struct timespec nap = { 0, 5000000 };

	for (int tries = 0; !count_opened(); tries++) {
		if (tries == 20)
			return false;
		if (tries > 0)
			(void)nanosleep(&nap, NULL);
		drop_inherited();
	}
	return true;
}

static al_rc open_handle(struct sqlite_store *s, struct handle **out, acctlink_error *err)
{
	/* Not in a cache that a host may have told SQLite to share among connections. */
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE
		| SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
	struct handle *h;
	int code;
	al_rc rc = check_file(s, err);

	if (rc != ACCTLINK_OK)
		return rc;
	h = al_new(sizeof(*h));
	if (h == NULL)
		return al_fail_memory(err);
	h->store = s;
	if (!enter_process()) {
		free(h);
		return al_fail(err, ACCTLINK_FORKED, s->base.path, "this process was forked while a thread was just using a "
			"store, and can't use one: fork before the first use, or fork again");
	}
	code = sqlite3_open_v2(s->base.path, &h->db, flags, NULL);
	rc = code == SQLITE_OK ? set_up(h, err) : fail(h, code, "open", err);
	if (rc != ACCTLINK_OK) {
		close_handle(h, false);
		return rc;
	}
	*out = h;
	return ACCTLINK_OK;
}

/* ---- the pool ------------------------------------------------------------------ */

static void put_back(struct sqlite_store *s, struct handle *h)
{
	(void)pthread_mutex_lock(&s->lock);
	if (h == NULL) {
		s->open--;
	} else {
		h->next = s->idle;
		s->idle = h;
	}
	(void)pthread_cond_signal(&s->returned);
	(void)pthread_mutex_unlock(&s->lock);
}

/* Waits for an idle connection or the right to open one (*h is NULL then). */
static bool get_turn(struct sqlite_store *s, struct handle **h)
{
	struct timespec end;
	bool got = true;
	int waited = clock_gettime(CLOCK_MONOTONIC, &end);

	end.tv_sec += BUSY_MS / 1000;
	(void)pthread_mutex_lock(&s->lock);
	while (waited == 0 && s->idle == NULL && s->open == CONNECTIONS_MAX)
		waited = pthread_cond_timedwait(&s->returned, &s->lock, &end);
	*h = s->idle;
	if (*h != NULL)
		s->idle = (*h)->next;
	else if (s->open < CONNECTIONS_MAX)
		s->open++;
	else
		got = false;
	(void)pthread_mutex_unlock(&s->lock);
	return got;
}

/* Else commits would go to a file that was moved or deleted. */
static bool has_moved(struct handle *h)
{
	int moved = 0;

	return sqlite3_file_control(h->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved != 0;
}

static al_rc take(struct sqlite_store *s, struct handle **out, acctlink_error *err)
{
	pid_t user = 0;
	pid_t self = getpid();
	struct handle *h;
	al_rc rc = ACCTLINK_OK;

	/* Before the lock, which another thread may have held at the fork. */
	if (!atomic_compare_exchange_strong(&s->pid, &user, self) && user != self)
		return al_fail(err, ACCTLINK_FORKED, s->base.path, "the store's connections belong to the parent process");
	if (!get_turn(s, &h))
		return al_fail(err, ACCTLINK_STORE_DOWN, s->base.path, "all %d connections to the store %s were busy for "
			"%d s", CONNECTIONS_MAX, s->base.path, BUSY_MS / 1000);
	if (h != NULL && has_moved(h)) {
		close_handle(h, false);
		h = NULL;
	}
	if (h == NULL)
		rc = open_handle(s, &h, err);
	if (rc != ACCTLINK_OK)
		put_back(s, NULL);
	else
		*out = h;
	return rc;
}

/* A connection that failed, or is still in a transaction, is not used again. */
static void give(struct sqlite_store *s, struct handle *h, al_rc rc)
{
	bool good = rc == ACCTLINK_OK || rc == AL_ABSENT || rc == AL_CONFLICT;

	if (!good || sqlite3_get_autocommit(h->db) == 0) {
		close_handle(h, false);
		h = NULL;
	}
	put_back(s, h);
}

static void sqlite_close(struct al_store *store)
{
	struct sqlite_store *s = sqlite_of(store);
	bool inherited = is_inherited(s);

	(void)drop_idle(s, inherited);
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct sqlite_store *self = s;

		(void)atomic_compare_exchange_strong(&stores[i], &self, NULL);
	}
	if (!inherited) {
		(void)pthread_cond_destroy(&s->returned);
		(void)pthread_mutex_destroy(&s->lock);
	}
	al_free_text(&s->base.path);
	free(s);
}

static void sqlite_rest(struct al_store *store)
{
	struct sqlite_store *s = sqlite_of(store);

	if (!is_inherited(s) && drop_idle(s, false) && s->open == 0)
		atomic_store(&s->pid, 0);
}

/* So that a child can find what it inherited. Beyond the last slot it can't,
 * and is refused. */
static void register_store(struct sqlite_store *s)
{
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct sqlite_store *none = NULL;

		if (atomic_compare_exchange_strong(&stores[i], &none, s))
			return;
	}
}

/* ---- binding and reading --------------------------------------------------------- */

static int bind_text(sqlite3_stmt *statement, int at, const char *text, size_t len)
{
	return sqlite3_bind_text64(statement, at, len == 0 ? "" : text, len, SQLITE_STATIC, SQLITE_UTF8);
}

static int bind_column(sqlite3_stmt *statement, int at, const struct al_column *column, const void *row)
{
	const void *field = (const char *)row + column->offset;
	const struct al_buf *buf = field;
	int64_t number;

	switch (column->kind) {
	case AL_COLUMN_INT:
		memcpy(&number, field, sizeof(number));
		return sqlite3_bind_int64(statement, at, number);
	case AL_COLUMN_ID:
		return bind_text(statement, at, field, strlen(field));
	case AL_COLUMN_TEXT:
		return bind_text(statement, at, buf->data, buf->len);
	default:
		return sqlite3_bind_blob64(statement, at, al_buf_text(buf), buf->len, SQLITE_STATIC);
	}
}

/* Bindings point at the caller's memory and must not outlive the call. */
static void finish(sqlite3_stmt *statement)
{
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
}

static al_rc damaged(const struct handle *h, const struct al_column *column, acctlink_error *err)
{
	return al_fail(err, ACCTLINK_BAD_STORE, h->store->base.path, "a row's %s in the store %s is damaged: restore it "
		"from a backup", column->name, h->store->base.path);
}

static al_rc read_column(const struct handle *h, sqlite3_stmt *statement, int at,
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

static al_rc read_row(const struct handle *h, sqlite3_stmt *statement, const struct al_table *table,
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

/* Runs a statement that returns no rows. `code` is what binding it returned. */
static al_rc run(struct handle *h, size_t which, int code, const char *doing, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[which];
	al_rc rc = ACCTLINK_OK;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (is_conflict(code))
		rc = AL_CONFLICT;
	else if (code != SQLITE_DONE)
		rc = fail(h, code, doing, err);
	finish(statement);
	return rc;
}

/* Steps to the one row that is wanted: OK (then `finish` it) or AL_ABSENT. */
static al_rc seek(struct handle *h, size_t which, int code, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[which];
	al_rc rc = AL_ABSENT;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		return ACCTLINK_OK;
	if (code != SQLITE_DONE)
		rc = fail(h, code, "read", err);
	finish(statement);
	return rc;
}

/* ---- reading --------------------------------------------------------------------- */

/* The id or key that is asked for may be the row's own, so it is replaced last. */
static al_rc sqlite_get_link(struct al_store *store, const char *id, const struct al_buf *owner_key,
	struct al_link_row *row, acctlink_error *err)
{
	size_t which = id != NULL ? GET_LINK : FIND_LINK;
	struct al_link_row found;
	struct handle *h;
	sqlite3_stmt *statement;
	int code;
	al_rc rc = take(sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK) {
		al_link_row_clear(row);
		return rc;
	}
	al_link_row_init(&found);
	statement = h->statements[which];
	code = id != NULL ? bind_text(statement, 1, id, strlen(id))
		: sqlite3_bind_blob64(statement, 1, al_buf_text(owner_key), owner_key->len, SQLITE_STATIC);
	rc = seek(h, which, code, err);
	if (rc == ACCTLINK_OK) {
		rc = read_row(h, statement, &al_link_table, false, &found, err);
		finish(statement);
	}
	give(sqlite_of(store), h, rc);
	if (rc != ACCTLINK_OK)
		al_link_row_clear(&found);
	al_link_row_clear(row);
	*row = found;
	return rc;
}

static al_rc sqlite_get_flow(struct al_store *store, const struct al_buf *state_hash,
	struct al_flow_row *row, acctlink_error *err)
{
	struct al_flow_row found;
	struct handle *h;
	sqlite3_stmt *statement;
	al_rc rc = take(sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK) {
		al_flow_row_clear(row);
		return rc;
	}
	al_flow_row_init(&found);
	statement = h->statements[GET_FLOW];
	rc = seek(h, GET_FLOW, sqlite3_bind_blob64(statement, 1, al_buf_text(state_hash), state_hash->len,
		SQLITE_STATIC), err);
	if (rc == ACCTLINK_OK) {
		rc = read_row(h, statement, &al_flow_table, false, &found, err);
		finish(statement);
	}
	give(sqlite_of(store), h, rc);
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
		code = bind_text(statement, 1, args->user->data, args->user->len);
		if (code == SQLITE_OK)
			code = bind_text(statement, 2, args->after, strlen(args->after));
		break;
	case AL_QUERY_SUBJECT:
		code = bind_text(statement, 1, args->issuer->data, args->issuer->len);
		if (code == SQLITE_OK)
			code = sqlite3_bind_blob64(statement, 2, al_buf_text(args->client), args->client->len,
				SQLITE_STATIC);
		if (code == SQLITE_OK)
			code = bind_text(statement, 3, args->subject->data, args->subject->len);
		break;
	default:
		code = sqlite3_bind_int64(statement, 1, args->bound);
		break;
	}
	return code != SQLITE_OK ? code : sqlite3_bind_int64(statement, last, limit);
}

struct found {
	struct found *next;
	struct al_link_row row;
};

static al_rc collect(struct handle *h, sqlite3_stmt *statement, bool watched_only, struct found **list,
	acctlink_error *err)
{
	for (;;) {
		int code = sqlite3_step(statement);
		al_rc rc;

		if (code == SQLITE_DONE)
			return ACCTLINK_OK;
		if (code != SQLITE_ROW)
			return fail(h, code, "read", err);
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

static al_rc sqlite_list_links(struct al_store *store, const struct al_link_query_args *args,
	const struct al_link_visit *visit, acctlink_error *err)
{
	size_t which = LIST_LINKS + args->query;
	struct found *list = NULL;
	struct handle *h;
	bool more;
	int code;
	al_rc rc = take(sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	code = bind_query(h->statements[which], args, visit->limit);
	if (code == SQLITE_OK)
		rc = collect(h, h->statements[which], args->query == AL_QUERY_CHANGED, &list, err);
	else
		rc = fail(h, code, "read", err);
	finish(h->statements[which]);
	give(sqlite_of(store), h, rc);
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

/* mark may be NULL. */
static al_rc read_change(struct sqlite_store *s, int64_t *number, unsigned char *mark, acctlink_error *err)
{
	struct handle *h;
	sqlite3_stmt *statement;
	al_rc rc = take(s, &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[GET_CHANGE];
	rc = seek(h, GET_CHANGE, SQLITE_OK, err);
	if (rc == AL_ABSENT)
		rc = fail(h, SQLITE_CORRUPT, "find the change number in", err);
	else if (rc == ACCTLINK_OK) {
		*number = sqlite3_column_int64(statement, 0);
		if (mark != NULL && sqlite3_column_bytes(statement, 1) == MARK_LEN)
			memcpy(mark, sqlite3_column_blob(statement, 1), MARK_LEN);
		finish(statement);
	}
	give(s, h, rc);
	return rc;
}

static al_rc sqlite_change(struct al_store *store, int64_t *change, acctlink_error *err)
{
	return read_change(sqlite_of(store), change, NULL, err);
}

static al_rc sqlite_get_meta(struct al_store *store, const char *name, struct al_buf *value,
	acctlink_error *err)
{
	static const struct al_column column = { "value", AL_COLUMN_BLOB, 0, 0, AL_SEALED_MAX, false };
	struct handle *h;
	sqlite3_stmt *statement;
	al_rc rc = take(sqlite_of(store), &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[GET_META];
	rc = seek(h, GET_META, bind_text(statement, 1, name, strlen(name)), err);
	if (rc == ACCTLINK_OK) {
		rc = read_column(h, statement, 0, &column, value, err);
		finish(statement);
	}
	give(sqlite_of(store), h, rc);
	return rc;
}

/* ---- writing --------------------------------------------------------------------- */

static al_rc begin_write(struct handle *h, unsigned char *mark, int64_t *number, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[NEXT_CHANGE];
	al_rc rc = al_random(mark, MARK_LEN, err);

	if (rc == ACCTLINK_OK)
		rc = run(h, BEGIN_WRITE, SQLITE_OK, "write to", err);
	if (rc == ACCTLINK_OK)
		rc = seek(h, NEXT_CHANGE, sqlite3_bind_blob(statement, 1, mark, MARK_LEN, SQLITE_STATIC), err);
	if (rc == AL_ABSENT)
		return fail(h, SQLITE_CORRUPT, "find the change number in", err);
	if (rc != ACCTLINK_OK)
		return rc;
	*number = sqlite3_column_int64(statement, 0);
	return run(h, NEXT_CHANGE, SQLITE_OK, "write to", err);
}

/* A commit that failed may have been kept: its mark tells. */
static al_rc look_up(struct sqlite_store *s, const unsigned char *mark, int64_t number, al_rc failure,
	acctlink_error *err)
{
	unsigned char last_mark[MARK_LEN] = { 0 };
	int64_t last = 0;
	al_rc rc = read_change(s, &last, last_mark, NULL);

	if (rc == ACCTLINK_OK && last == number && memcmp(mark, last_mark, MARK_LEN) == 0) {
		al_error_clear(err);
		return ACCTLINK_OK;
	}
	if (rc == ACCTLINK_OK && last <= number)
		return failure;
	return al_fail(err, ACCTLINK_STORE_DOWN, s->base.path, "a commit to the store %s failed and it can't be told "
		"whether it was kept: check its disk", s->base.path);
}

typedef al_rc (*write_work)(struct handle *h, void *ctx, int64_t number, acctlink_error *err);

/* One transaction. *number is its change number. */
static al_rc write_all(struct sqlite_store *s, write_work work, void *ctx, int64_t *number, acctlink_error *err)
{
	unsigned char mark[MARK_LEN];
	struct handle *h;
	bool committing;
	al_rc rc = take(s, &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = begin_write(h, mark, number, err);
	if (rc == ACCTLINK_OK)
		rc = work(h, ctx, *number, err);
	committing = rc == ACCTLINK_OK;
	if (committing)
		rc = run(h, COMMIT_WRITE, SQLITE_OK, "commit to", err);
	else if (rc == AL_CONFLICT)
		(void)run(h, ROLL_BACK, SQLITE_OK, "roll back", NULL); /* else it is not used again */
	give(s, h, rc);
	return committing && rc != ACCTLINK_OK ? look_up(s, mark, *number, rc, err) : rc;
}

static al_rc write_row(struct handle *h, enum al_write_kind kind, const struct al_table *table, void *row,
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
		code = bind_column(statement, (int)i + 1, &table->columns[i], row);
	if (code == SQLITE_OK && !delete)
		code = sqlite3_bind_int64(statement, (int)table->change + 1, number);
	if (code == SQLITE_OK && !insert)
		code = sqlite3_bind_int64(statement, (int)table->count + 1, *al_row_change(table, row));
	rc = run(h, kind, code, "write to", err);
	return rc == ACCTLINK_OK && sqlite3_changes(h->db) == 0 ? AL_CONFLICT : rc;
}

static al_rc write_audit(struct handle *h, const struct al_audit_row *row, acctlink_error *err)
{
	sqlite3_stmt *statement = h->statements[AL_AUDIT_INSERT];
	int code = sqlite3_bind_int64(statement, 1, row->at);

	if (code == SQLITE_OK)
		code = bind_text(statement, 2, row->link_id, strlen(row->link_id));
	if (code == SQLITE_OK)
		code = bind_text(statement, 3, row->user.data, row->user.len);
	if (code == SQLITE_OK)
		code = bind_text(statement, 4, row->what, strlen(row->what));
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 5, row->epoch);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(statement, 6, row->generation);
	if (code == SQLITE_OK)
		code = bind_text(statement, 7, row->detail, strlen(row->detail));
	return run(h, AL_AUDIT_INSERT, code, "write to", err);
}

struct batch {
	struct al_write *writes;
	size_t count;
};

static al_rc write_batch(struct handle *h, void *ctx, int64_t number, acctlink_error *err)
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

static al_rc sqlite_commit(struct al_store *store, struct al_write *writes, size_t count, acctlink_error *err)
{
	struct batch batch = { writes, count };
	int64_t number = 0;
	al_rc rc = write_all(sqlite_of(store), write_batch, &batch, &number, err);

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
		code = bind_text(statement, 2, sweep->user->data, sweep->user->len);
	if (code == SQLITE_OK && last >= 3)
		code = sqlite3_bind_int64(statement, 3, sweep->keep);
	return code;
}

static al_rc sweep_needed(struct sqlite_store *s, const struct sweep *sweep, bool *needed, acctlink_error *err)
{
	struct handle *h;
	sqlite3_stmt *statement;
	al_rc rc = take(s, &h, err);

	if (rc != ACCTLINK_OK)
		return rc;
	statement = h->statements[SWEEP_NEEDED];
	rc = seek(h, SWEEP_NEEDED, bind_sweep(statement, sweep), err);
	if (rc == ACCTLINK_OK) {
		*needed = sqlite3_column_int(statement, 0) != 0;
		finish(statement);
	}
	give(s, h, rc);
	return rc;
}

static al_rc sweep_all(struct handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct sweep *sweep = ctx;
	al_rc rc = run(h, SWEEP_ENDED, bind_sweep(h->statements[SWEEP_ENDED], sweep), "write to", err);

	(void)number;
	if (rc == ACCTLINK_OK)
		rc = run(h, SWEEP_SURPLUS, bind_sweep(h->statements[SWEEP_SURPLUS], sweep), "write to", err);
	return rc;
}

static al_rc sqlite_sweep_flows(struct al_store *store, int64_t now, const struct al_buf *user,
	unsigned keep, acctlink_error *err)
{
	struct sweep sweep = { now, user, keep };
	bool needed = false;
	int64_t number;
	al_rc rc = sweep_needed(sqlite_of(store), &sweep, &needed, err);

	if (rc != ACCTLINK_OK || !needed)
		return rc;
	return write_all(sqlite_of(store), sweep_all, &sweep, &number, err);
}

struct meta {
	const char *name;
	const struct al_buf *value;
};

static al_rc write_meta(struct handle *h, void *ctx, int64_t number, acctlink_error *err)
{
	const struct meta *meta = ctx;
	sqlite3_stmt *statement = h->statements[PUT_META];
	int code = bind_text(statement, 1, meta->name, strlen(meta->name));

	(void)number;
	if (code == SQLITE_OK)
		code = sqlite3_bind_blob64(statement, 2, al_buf_text(meta->value), meta->value->len, SQLITE_STATIC);
	return run(h, PUT_META, code, "write to", err);
}

static al_rc sqlite_put_meta(struct al_store *store, const char *name, const struct al_buf *value,
	acctlink_error *err)
{
	struct meta meta = { name, value };
	int64_t number;

	return write_all(sqlite_of(store), write_meta, &meta, &number, err);
}

/* ---- making it --------------------------------------------------------------------- */

static const struct al_store_ops ops = {
	sqlite_close, sqlite_rest, sqlite_get_link, sqlite_get_flow, sqlite_list_links, sqlite_change, sqlite_sweep_flows,
	sqlite_get_meta, sqlite_put_meta, sqlite_commit
};

static bool init_pool(struct sqlite_store *s)
{
	pthread_condattr_t attr;
	bool good;

	if (pthread_condattr_init(&attr) != 0)
		return false;
	good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&s->returned, &attr) == 0;
	(void)pthread_condattr_destroy(&attr);
	return good && pthread_mutex_init(&s->lock, NULL) == 0;
}

/* Opens and closes a connection, so that nothing is open when the host forks.
 * As root on another user's store it only looks: opening could leave files. */
static al_rc check_store(struct sqlite_store *s, const char *path, acctlink_error *err)
{
	struct handle *h;
	struct stat st;
	al_rc rc = al_store_file_make(path, &s->base.path, err);

	if (rc == ACCTLINK_OK)
		rc = al_store_file_check(s->base.path, &st, err);
	if (rc != ACCTLINK_OK)
		return rc;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	if (st.st_uid != geteuid())
		return ACCTLINK_OK;
	rc = open_handle(s, &h, err);
	if (rc == ACCTLINK_OK)
		close_handle(h, false);
	return rc;
}

al_rc al_sqlite_new(const char *path, const struct al_log *log, const struct al_clock *clock,
	struct al_store **out, acctlink_error *err)
{
	struct sqlite_store *s;
	al_rc rc;

	if (sqlite3_threadsafe() == 0)
		return al_fail(err, ACCTLINK_INTERNAL, "SQLite", "this SQLite was built without threads: install another");
	s = al_new(sizeof(*s));
	if (s == NULL)
		return al_fail_memory(err);
	s->base.ops = &ops;
	s->base.log = log;
	s->base.clock = clock;
	if (!init_pool(s)) {
		free(s);
		return al_fail_memory(err);
	}
	register_store(s);
	rc = check_store(s, path, err);
	if (rc != ACCTLINK_OK) {
		sqlite_close(&s->base);
		return rc;
	}
	*out = &s->base;
	return ACCTLINK_OK;
}
