/* SPDX-License-Identifier: MIT
 * What only the store room and its tests see: the table that a store serves.
 */
#ifndef AL_STORE_INT_H
#define AL_STORE_INT_H

#include "store/store.h"

struct al_store {
	const struct al_store_ops *ops;
	const struct al_log *log;
	const struct al_clock *clock;
	char *path;
};

enum al_link_query { AL_QUERY_USER, AL_QUERY_SUBJECT, AL_QUERY_DUE, AL_QUERY_REVOCATIONS, AL_QUERY_CHANGED };
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
	al_rc (*get_link)(struct al_store *, const char *id, const struct al_buf *owner_key,
		struct al_link_row *, acctlink_error *);
	al_rc (*get_flow)(struct al_store *, const struct al_buf *state_hash, struct al_flow_row *,
		acctlink_error *);
	al_rc (*list_links)(struct al_store *, const struct al_link_query_args *,
		const struct al_link_visit *, acctlink_error *);
	al_rc (*change)(struct al_store *, int64_t *, acctlink_error *);
	al_rc (*sweep_flows)(struct al_store *, int64_t now, const struct al_buf *user, unsigned keep,
		acctlink_error *);
	al_rc (*get_meta)(struct al_store *, const char *name, struct al_buf *value, acctlink_error *);
	al_rc (*put_meta)(struct al_store *, const char *name, const struct al_buf *value,
		acctlink_error *);
	al_rc (*commit)(struct al_store *, struct al_write *, size_t, acctlink_error *);
};

al_rc al_sqlite_new(const char *path, const struct al_log *log, const struct al_clock *clock,
	struct al_store **out, acctlink_error *err) AL_MUST_USE;
/* The statements that bring a store from version n to n + 1 (schema.c). */
extern const char *const al_schema_steps[AL_STORE_SCHEMA];

#endif
