/* SPDX-License-Identifier: MIT
 * What the tests of this suite look at from outside: memory that ends at a
 * page that faults, the store's tables, and what the kernel knows about this
 * process. Fails as harness.h says.
 */
#ifndef TH_PEEK_H
#define TH_PEEK_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sqlite3.h>

#include "host.h"

/* ---- memory at an edge ---------------------------------------------------- */

struct edge {
	unsigned char *at; /* len bytes; the next one faults */
	size_t len;
	void *map;
	size_t mapped;
};

static inline struct edge edge_new(const void *from, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const size_t room = (len + page - 1) / page * page;
	struct edge edge = { .len = len, .mapped = room + page };

	edge.map = mmap(NULL, edge.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	th_check(edge.map != MAP_FAILED, "mmap: %s", strerror(errno));
	th_check(mprotect((char *)edge.map + room, page, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
	edge.at = (unsigned char *)edge.map + room - len;
	if (from != NULL)
		memcpy(edge.at, from, len);
	return edge;
}

static inline void edge_free(struct edge *edge)
{
	munmap(edge->map, edge->mapped);
	edge->at = NULL;
}

/* ---- the store -------------------------------------------------------------- */

static inline char *folder_of(const char *path)
{
	char *folder = th_printf("%s", path);
	char *slash = strrchr(folder, '/');

	th_check(slash != NULL, "%s is in no folder", path);
	*slash = '\0';
	return folder;
}

static inline char *store_of(const char *config_path)
{
	char *dir = folder_of(config_path);
	char *path = th_printf("%s/store.db", dir);

	free(dir);
	return path;
}

/* One number that a statement tells; statements that tell none give 0. */
static inline int64_t store_sql(const char *config_path, const char *sql)
{
	char *path = store_of(config_path);
	sqlite3_stmt *statement = NULL;
	sqlite3 *db = NULL;
	int64_t number = 0;
	int code;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK, "open %s: %s", path,
		sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 10000);
	th_check(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
	code = sqlite3_step(statement);
	th_check(code == SQLITE_ROW || code == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
	if (code == SQLITE_ROW)
		number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	free(path);
	return number;
}

/* ---- the process -------------------------------------------------------------- */

static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t count = 0;

	th_check(dir != NULL, "%s: %s", path, strerror(errno));
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count - 2; /* . and .. */
}

static inline size_t open_descriptors(void)
{
	return count_entries("/proc/self/fd") - 1; /* the one that counts */
}

static inline size_t running_threads(void)
{
	return count_entries("/proc/self/task");
}

#endif
