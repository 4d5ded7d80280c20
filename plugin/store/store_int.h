/* SPDX-License-Identifier: MIT
 * What only the store room and its tests see: the table that a store serves,
 * the columns of its rows, and the making of files with the right owner.
 */
#ifndef AL_STORE_INT_H
#define AL_STORE_INT_H

#include <sys/stat.h>

#include "store/store.h"

struct al_store {
	const struct al_store_ops *ops;
	const struct al_log *log;
	const struct al_clock *clock;
	char *path;
};

enum al_link_query {
	AL_QUERY_USER,
	AL_QUERY_ALL,
	AL_QUERY_SUBJECT,
	AL_QUERY_DUE,
	AL_QUERY_REVOCATIONS,
	AL_QUERY_CHANGED
};
struct al_link_query_args {
	enum al_link_query query;
	const struct al_buf *user;
	const char *after;
	const struct al_buf *issuer;
	const struct al_buf *client;
	const struct al_buf *subject;
	int64_t bound; /* until, or since */
};

struct al_store_ops {
	void (*close)(struct al_store *store);
	void (*rest)(struct al_store *store);
	al_rc (*get_link)(struct al_store *, const char *id, const struct al_buf *owner_key, struct al_link_row *,
		acctlink_error *);
	al_rc (*get_flow)(struct al_store *, const struct al_buf *state_hash, struct al_flow_row *, acctlink_error *);
	al_rc (*list_links)(
		struct al_store *, const struct al_link_query_args *, const struct al_link_visit *, acctlink_error *);
	al_rc (*change)(struct al_store *, int64_t *, acctlink_error *);
	al_rc (*sweep_flows)(
		struct al_store *, int64_t now, const struct al_buf *user, unsigned keep, acctlink_error *);
	al_rc (*forget_flows)(struct al_store *, const struct al_buf *user, int64_t *count, acctlink_error *);
	al_rc (*sweep_audit)(struct al_store *, int64_t before, acctlink_error *);
	al_rc (*get_meta)(struct al_store *, const char *name, struct al_buf *value, acctlink_error *);
	al_rc (*put_meta)(struct al_store *, const char *name, const struct al_buf *value, acctlink_error *);
	al_rc (*drop_meta)(struct al_store *, const char *name, acctlink_error *);
	al_rc (*commit)(struct al_store *, struct al_write *, size_t, acctlink_error *);
};

/* ---- store.c: how a row is laid out, said once ------------------------------- */
enum al_column_kind { AL_COLUMN_INT, AL_COLUMN_ID, AL_COLUMN_TEXT, AL_COLUMN_BLOB };
struct al_column {
	const char *name;
	enum al_column_kind kind;
	size_t offset;
	size_t min; /* of ids, texts and blobs, in bytes */
	size_t max;
	bool watched; /* what al_store_list_changed reads */
};
/* The key is the first column, key_id and sealed are the last two. */
struct al_table {
	const struct al_column *columns;
	size_t count;
	size_t change; /* index of the change number */
};
extern const struct al_table al_link_table;
extern const struct al_table al_flow_table;
int64_t *al_row_change(const struct al_table *table, void *row);
bool al_store_id_valid(const char *id); /* AL_ID_LEN lower-case hex digits */

/* ---- files.c ----------------------------------------------------------------- */
/* The part of a path before its last '/'; al_free_text it. NULL: no memory. */
char *al_path_folder(const char *path);
/* Opens a folder, made 0700 if it is missing; BAD_STORE if it is another
 * user's or others may write in it. */
al_rc al_folder_open(const char *path, int *fd, acctlink_error *err) AL_MUST_USE;
/* Makes a new file of mode 0600; as root it is given to the folder's owner. */
al_rc al_file_make(int folder, const char *name, const char *path, int *fd, acctlink_error *err) AL_MUST_USE;
/* Makes the store's file unless it is there, and sets *real to its path
 * without symbolic links, to be freed with al_free_text. */
al_rc al_store_file_make(const char *path, char **real, acctlink_error *err) AL_MUST_USE;
/* BAD_STORE unless it is a plain file of the right owner that nobody else can
 * read. Root may look after another user's, if file and folder agree. */
al_rc al_store_file_check(const char *real, struct stat *st, acctlink_error *err) AL_MUST_USE;

/* ---- sqlite.c, schema.c ------------------------------------------------------ */
al_rc al_sqlite_new(const char *path, const struct al_log *log, const struct al_clock *clock, struct al_store **out,
	acctlink_error *err) AL_MUST_USE;
/* The statements that bring a store from version n to n + 1 (schema.c). */
extern const char *const al_schema_steps[AL_STORE_SCHEMA];

#endif
