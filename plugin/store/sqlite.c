/* SPDX-License-Identifier: MIT
 * The SQLite store and its connections. Each process has a few of its own,
 * opened at need; one thread uses one at a time. The mutex guards the list of
 * idle ones and is never held across I/O.
 */
#include "store/sqlite_int.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 8
#define STORES_MAX 16 /* of one process */

/* ---- failures ------------------------------------------------------------------ */

static const struct outcome {
	int code; /* primary result code */
	al_rc rc;
	const char *advice;
} outcomes[] = { { SQLITE_CORRUPT, ACCTLINK_BAD_STORE, "restore it from a backup" },
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
	{ SQLITE_PERM, ACCTLINK_STORE_DOWN, "check owner and mode of its folder" } };

al_rc al_sqlite_fail(const struct al_sqlite_handle *h, int code, const char *doing, acctlink_error *err)
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
	return al_fail(err, outcome.rc, h->store->base.path, "can't %s the store %s: %s (SQLite code %d); %s", doing,
		h->store->base.path, words, code, outcome.advice);
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
static struct al_sqlite *_Atomic stores[STORES_MAX];

/* Calls into SQLite under way, counted likewise, from before a connection is taken
 * until it is back in the list. A fork that fell into one may have copied SQLite's
 * own locks as taken: then a child can't even close what it inherited without the
 * risk of waiting for ever. */
static _Atomic uint64_t inside_here;

/* False if a parent process counted and can't count down here. */
static bool count_up(_Atomic uint64_t *word)
{
	uint64_t self = (uint64_t)(uint32_t)getpid() << 32;
	uint64_t old = atomic_load(word);
	uint64_t next;

	do {
		bool ours = (old & ~(uint64_t)UINT32_MAX) == self;

		if (!ours && (uint32_t)old != 0)
			return false;
		next = ours ? old + 1 : self + 1;
	} while (!atomic_compare_exchange_weak(word, &old, next));
	return true;
}

static void count_down(_Atomic uint64_t *word)
{
	(void)atomic_fetch_sub(word, 1);
}

/* So a fork waits for the calls under way, though never long: the host's thread
 * is held for a disk's turn at most. New calls wait for the fork likewise. */
enum { FORK_WAITS_MS = 200 };
static atomic_int forking;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void nap_ms(void)
{
	const struct timespec nap = { 0, 1000000 };
	int before;

	/* A host's fork must not become a point where its thread is cancelled. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	(void)nanosleep(&nap, NULL);
	(void)pthread_setcancelstate(before, NULL);
}

static void before_fork(void)
{
	uint64_t self = (uint64_t)(uint32_t)getpid() << 32;

	(void)atomic_fetch_add(&forking, 1);
	for (int i = 0; i < FORK_WAITS_MS; i++) {
		uint64_t inside = atomic_load(&inside_here);

		if ((uint32_t)inside == 0 || (inside & ~(uint64_t)UINT32_MAX) != self)
			return;
		nap_ms();
	}
}

static void after_fork(void)
{
	(void)atomic_fetch_sub(&forking, 1);
}

/* Other threads that were forking as well are not in the child. */
static void after_fork_in_child(void)
{
	atomic_store(&forking, 0);
}

/* The plugin is never unloaded (nodelete), so the handlers stay where they are. */
static void watch_forks(void)
{
	(void)pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

/* Counted first and looked at then, as a fork does it the other way round. */
static bool enter_sqlite(void)
{
	for (int i = 0; i < FORK_WAITS_MS; i++) {
		if (atomic_load(&forking) != 0) {
			nap_ms();
			continue;
		}
		if (!count_up(&inside_here))
			return false;
		if (atomic_load(&forking) == 0)
			return true;
		count_down(&inside_here);
	}
	return count_up(&inside_here);
}

static al_rc fail_forked(const struct al_sqlite *s, acctlink_error *err)
{
	return al_fail(err, ACCTLINK_FORKED, s->base.path,
		"this process was forked while a thread was just using a store, and can't use one: "
		"fork before the first use, or fork again");
}

/* Closing an inherited connection must not touch what the parent uses: without
 * a checkpoint it unmaps and closes in this process only, and the locks are
 * per process anyway. */
static void close_handle(struct al_sqlite_handle *h, bool inherited)
{
	for (size_t i = 0; i < AL_SQL_STATEMENTS; i++)
		(void)sqlite3_finalize(h->statements[i]);
	if (h->db != NULL && inherited)
		(void)sqlite3_db_config(h->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	(void)sqlite3_close_v2(h->db);
	count_down(&open_here);
	free(h);
}

/* Another file in the store's place would be mixed with the write-ahead log
 * of the first: SQLite knows the log by its name only. */
static al_rc check_file(struct al_sqlite *s, acctlink_error *err)
{
	struct stat st;
	al_rc rc = al_store_file_check(s->base.path, &st, err);

	if (rc == ACCTLINK_OK && (st.st_dev != s->device || st.st_ino != s->inode))
		rc = al_fail(err, ACCTLINK_STORE_DOWN, s->base.path,
			"another file was put in the place of the store %s "
			"while it was in use: put it back, or restart all that use it",
			s->base.path);
	return rc;
}

/* Closes the idle connections; false if the list is locked: in a child perhaps
 * for ever, by a thread that only the parent has. */
static bool drop_idle(struct al_sqlite *s, bool inherited)
{
	struct al_sqlite_handle *list;

	if (!count_up(&inside_here))
		return false;
	if (pthread_mutex_trylock(&s->lock) != 0) {
		count_down(&inside_here);
		return false;
	}
	list = s->idle;
	s->idle = NULL;
	for (struct al_sqlite_handle *h = list; h != NULL; h = h->next)
		s->open--;
	(void)pthread_mutex_unlock(&s->lock);
	while (list != NULL) {
		struct al_sqlite_handle *next = list->next;

		close_handle(list, inherited);
		list = next;
	}
	count_down(&inside_here);
	return true;
}

static bool is_inherited(struct al_sqlite *s)
{
	pid_t user = atomic_load(&s->pid);

	return user != 0 && user != getpid();
}

static void drop_inherited(void)
{
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct al_sqlite *other = atomic_load(&stores[i]);

		if (other != NULL && is_inherited(other))
			(void)drop_idle(other, true);
	}
}

/* Counts a connection that is about to be opened, once nothing inherited is
 * left. It takes more than one try if another thread is dropping it just now. */
static bool enter_process(void)
{
	const struct timespec nap = { 0, 5000000 };

	for (int tries = 0; !count_up(&open_here); tries++) {
		if (tries == 20)
			return false;
		if (tries > 0)
			(void)nanosleep(&nap, NULL);
		drop_inherited();
	}
	return true;
}

static al_rc open_handle(struct al_sqlite *s, struct al_sqlite_handle **out, acctlink_error *err)
{
	/* Not in a cache that a host may have told SQLite to share among connections. */
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW
		| SQLITE_OPEN_EXRESCODE;
	struct al_sqlite_handle *h;
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
		return fail_forked(s, err);
	}
	code = sqlite3_open_v2(s->base.path, &h->db, flags, NULL);
	rc = code == SQLITE_OK ? al_sqlite_set_up(h, err) : al_sqlite_fail(h, code, "open", err);
	if (rc != ACCTLINK_OK) {
		close_handle(h, false);
		return rc;
	}
	*out = h;
	return ACCTLINK_OK;
}

/* ---- the pool ------------------------------------------------------------------ */

static void put_back(struct al_sqlite *s, struct al_sqlite_handle *h)
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
static bool get_turn(struct al_sqlite *s, struct al_sqlite_handle **h)
{
	struct timespec end;
	bool got = true;
	int waited = clock_gettime(CLOCK_MONOTONIC, &end);

	end.tv_sec += AL_SQLITE_BUSY_MS / 1000;
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
static bool has_moved(struct al_sqlite_handle *h)
{
	int moved = 0;

	return sqlite3_file_control(h->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved != 0;
}

al_rc al_sqlite_take(struct al_sqlite *s, struct al_sqlite_handle **out, acctlink_error *err)
{
	pid_t user = 0;
	pid_t self = getpid();
	struct al_sqlite_handle *h;
	al_rc rc = ACCTLINK_OK;

	/* Before the lock, which another thread may have held at the fork. */
	if (!atomic_compare_exchange_strong(&s->pid, &user, self) && user != self)
		return al_fail(
			err, ACCTLINK_FORKED, s->base.path, "the store's connections belong to the parent process");
	if (!enter_sqlite())
		return fail_forked(s, err);
	if (!get_turn(s, &h)) {
		count_down(&inside_here);
		return al_fail(err, ACCTLINK_STORE_DOWN, s->base.path,
			"all %d connections to the store %s were busy for %d s", CONNECTIONS_MAX, s->base.path,
			AL_SQLITE_BUSY_MS / 1000);
	}
	if (h != NULL && has_moved(h)) {
		close_handle(h, false);
		h = NULL;
	}
	if (h == NULL)
		rc = open_handle(s, &h, err);
	if (rc == ACCTLINK_OK) {
		*out = h;
		return rc;
	}
	put_back(s, NULL);
	count_down(&inside_here);
	return rc;
}

/* A connection that failed, or is still in a transaction, is not used again. */
void al_sqlite_give(struct al_sqlite *s, struct al_sqlite_handle *h, al_rc rc)
{
	bool good = rc == ACCTLINK_OK || rc == AL_ABSENT || rc == AL_CONFLICT;

	if (!good || sqlite3_get_autocommit(h->db) == 0) {
		close_handle(h, false);
		h = NULL;
	}
	put_back(s, h);
	count_down(&inside_here);
}

static void sqlite_close(struct al_store *store)
{
	struct al_sqlite *s = al_sqlite_of(store);
	bool inherited = is_inherited(s);

	(void)drop_idle(s, inherited);
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct al_sqlite *self = s;

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
	struct al_sqlite *s = al_sqlite_of(store);

	if (!is_inherited(s) && drop_idle(s, false) && s->open == 0)
		atomic_store(&s->pid, 0);
}

/* So that a child can find what it inherited. Beyond the last slot it can't,
 * and is refused. */
static void register_store(struct al_sqlite *s)
{
	for (size_t i = 0; i < STORES_MAX; i++) {
		struct al_sqlite *none = NULL;

		if (atomic_compare_exchange_strong(&stores[i], &none, s))
			return;
	}
}

/* ---- making it --------------------------------------------------------------------- */

static const struct al_store_ops ops = { sqlite_close, sqlite_rest, al_sqlite_get_link, al_sqlite_get_flow,
	al_sqlite_list_links, al_sqlite_change, al_sqlite_sweep_flows, al_sqlite_forget_flows, al_sqlite_sweep_audit,
	al_sqlite_get_meta, al_sqlite_put_meta, al_sqlite_drop_meta, al_sqlite_commit };

static bool init_pool(struct al_sqlite *s)
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
static al_rc check_store(struct al_sqlite *s, const char *path, acctlink_error *err)
{
	struct al_sqlite_handle *h;
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
	if (!enter_sqlite())
		return fail_forked(s, err);
	rc = open_handle(s, &h, err);
	if (rc == ACCTLINK_OK)
		close_handle(h, false);
	count_down(&inside_here);
	return rc;
}

al_rc al_sqlite_new(const char *path, const struct al_log *log, const struct al_clock *clock, struct al_store **out,
	acctlink_error *err)
{
	struct al_sqlite *s;
	al_rc rc;

	if (sqlite3_threadsafe() == 0)
		return al_fail(
			err, ACCTLINK_INTERNAL, "SQLite", "this SQLite was built without threads: install another");
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
	(void)pthread_once(&watch_once, watch_forks);
	register_store(s);
	rc = check_store(s, path, err);
	if (rc != ACCTLINK_OK) {
		sqlite_close(&s->base);
		return rc;
	}
	*out = &s->base;
	return ACCTLINK_OK;
}
