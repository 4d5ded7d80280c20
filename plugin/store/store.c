/* SPDX-License-Identifier: MIT
 * The front of the store room: rows and their bounds, the check of arguments,
 * and the way to the store behind. Nothing is ever cut to fit: what is too
 * long is refused before anything is written. Takes no lock.
 */
#include "store/store_int.h"

#include <string.h>

/* clang-format off */
#define LINK_INT(field) { #field, AL_COLUMN_INT, offsetof(struct al_link_row, field), 0, 0, false }
#define LINK_WATCHED(field) { #field, AL_COLUMN_INT, offsetof(struct al_link_row, field), 0, 0, true }
#define LINK_TEXT(field, min, max) \
	{ #field, AL_COLUMN_TEXT, offsetof(struct al_link_row, field), min, max, false }
/* clang-format on */

static const struct al_column link_columns[] = { { "id", AL_COLUMN_ID, offsetof(struct al_link_row, id), AL_ID_LEN,
							 AL_ID_LEN, true },
	{ "owner_key", AL_COLUMN_BLOB, offsetof(struct al_link_row, owner_key), 1, 4096, true },
	LINK_TEXT(user, 1, 1024), LINK_TEXT(provider, 1, 64), LINK_TEXT(institution, 0, 255), LINK_WATCHED(epoch),
	LINK_WATCHED(generation), LINK_WATCHED(state), LINK_INT(reason), LINK_TEXT(issuer, 0, 2048),
	{ "client", AL_COLUMN_BLOB, offsetof(struct al_link_row, client), 0, 32, false }, LINK_TEXT(subject, 0, 1024),
	{ "claim_owner", AL_COLUMN_ID, offsetof(struct al_link_row, claim_owner), 0, AL_ID_LEN, false },
	LINK_TEXT(claim_host, 0, 160), LINK_INT(claim_attempt), LINK_INT(claim_renewals), LINK_INT(claim_lease_end),
	LINK_INT(claim_sent_at), LINK_INT(claim_outcome), LINK_INT(unknown_sent_at), LINK_TEXT(claim_key_id, 0, 64),
	LINK_WATCHED(rejected_generation), LINK_INT(rejected_at), LINK_INT(due_at), LINK_INT(not_before),
	LINK_INT(failures), LINK_INT(last_http_status), LINK_TEXT(last_error, 0, 64), LINK_INT(bearer_from),
	LINK_INT(bearer_end), LINK_INT(bearer_check), LINK_INT(refresh_end), LINK_INT(consent_end),
	LINK_INT(authorized_at), LINK_TEXT(scope, 0, 8192), LINK_INT(revoke_at), LINK_INT(revoke_until),
	LINK_INT(revoke_tries), LINK_WATCHED(change), LINK_TEXT(key_id, 0, 64),
	{ "sealed", AL_COLUMN_BLOB, offsetof(struct al_link_row, sealed), 0, AL_SEALED_MAX, false } };
const struct al_table al_link_table = { link_columns, AL_COUNT(link_columns), AL_COUNT(link_columns) - 3 };

/* clang-format off */
#define FLOW_INT(field) { #field, AL_COLUMN_INT, offsetof(struct al_flow_row, field), 0, 0, false }
#define FLOW_ID(field) { #field, AL_COLUMN_ID, offsetof(struct al_flow_row, field), 0, AL_ID_LEN, false }
#define FLOW_TEXT(field, min, max) \
	{ #field, AL_COLUMN_TEXT, offsetof(struct al_flow_row, field), min, max, false }
/* clang-format on */

static const struct al_column flow_columns[] = { { "state_hash", AL_COLUMN_BLOB,
							 offsetof(struct al_flow_row, state_hash), 32, 32, false },
	FLOW_TEXT(user, 1, 1024), FLOW_TEXT(provider, 1, 64), FLOW_TEXT(institution, 0, 255), FLOW_INT(phase),
	FLOW_INT(created_at), FLOW_INT(expires_at), FLOW_ID(claim_owner), FLOW_TEXT(claim_host, 0, 160),
	FLOW_INT(claim_lease_end), FLOW_INT(sent_at), FLOW_INT(result), FLOW_INT(result_flags),
	FLOW_TEXT(result_code, 0, 64), FLOW_ID(link_id), FLOW_INT(epoch), FLOW_INT(generation), FLOW_INT(change),
	FLOW_TEXT(key_id, 0, 64),
	{ "sealed", AL_COLUMN_BLOB, offsetof(struct al_flow_row, sealed), 0, AL_SEALED_MAX, false } };
const struct al_table al_flow_table = { flow_columns, AL_COUNT(flow_columns), AL_COUNT(flow_columns) - 3 };

/* ---- rows -------------------------------------------------------------------- */

static void *field(const struct al_column *column, void *row)
{
	return (char *)row + column->offset;
}

static const void *field_const(const struct al_column *column, const void *row)
{
	return (const char *)row + column->offset;
}

static bool is_buf(const struct al_column *column)
{
	return column->kind == AL_COLUMN_TEXT || column->kind == AL_COLUMN_BLOB;
}

int64_t *al_row_change(const struct al_table *table, void *row)
{
	return field(&table->columns[table->change], row);
}

static void init_bounds(const struct al_table *table, void *row)
{
	for (size_t i = 0; i < table->count; i++) {
		if (is_buf(&table->columns[i]))
			al_buf_init(field(&table->columns[i], row), table->columns[i].max);
	}
}

static void clear_bufs(const struct al_table *table, void *row)
{
	for (size_t i = 0; i < table->count; i++) {
		if (is_buf(&table->columns[i]))
			al_buf_clear(field(&table->columns[i], row));
	}
}

void al_link_row_init(struct al_link_row *row)
{
	memset(row, 0, sizeof(*row));
	init_bounds(&al_link_table, row);
}

void al_link_row_clear(struct al_link_row *row)
{
	clear_bufs(&al_link_table, row);
	al_link_row_init(row);
}

void al_flow_row_init(struct al_flow_row *row)
{
	memset(row, 0, sizeof(*row));
	init_bounds(&al_flow_table, row);
}

void al_flow_row_clear(struct al_flow_row *row)
{
	clear_bufs(&al_flow_table, row);
	al_flow_row_init(row);
}

bool al_link_row_copy(struct al_link_row *to, const struct al_link_row *from)
{
	al_link_row_clear(to);
	for (size_t i = 0; i < al_link_table.count; i++) {
		const struct al_column *column = &al_link_table.columns[i];

		if (column->kind == AL_COLUMN_INT)
			memcpy(field(column, to), field_const(column, from), sizeof(int64_t));
		else if (column->kind == AL_COLUMN_ID)
			memcpy(field(column, to), field_const(column, from), AL_ID_LEN + 1);
		else if (!al_buf_copy(field(column, to), field_const(column, from))) {
			al_link_row_clear(to);
			return false;
		}
	}
	return true;
}

/* ---- checks ------------------------------------------------------------------ */

bool al_store_id_valid(const char *id)
{
	for (size_t i = 0; i < AL_ID_LEN; i++) {
		if ((id[i] < '0' || id[i] > '9') && (id[i] < 'a' || id[i] > 'f'))
			return false;
	}
	return id[AL_ID_LEN] == '\0';
}

static al_rc check_column(const struct al_column *column, const void *row, acctlink_error *err)
{
	const char *id = field_const(column, row);
	const struct al_buf *buf = field_const(column, row);

	if (column->kind == AL_COLUMN_INT)
		return ACCTLINK_OK;
	if (column->kind == AL_COLUMN_ID) {
		if (al_store_id_valid(id) || (column->min == 0 && id[0] == '\0'))
			return ACCTLINK_OK;
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, column->name, "%s is not %d hexadecimal digits",
			column->name, AL_ID_LEN);
	}
	/* A buffer that once failed to grow holds less than it was given. */
	if (buf->failed || buf->len > column->max)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, column->name, "%s is longer than %zu bytes", column->name,
			column->max);
	if (buf->len < column->min)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, column->name, "%s is shorter than %zu bytes", column->name,
			column->min);
	return ACCTLINK_OK;
}

static al_rc check_row(const struct al_table *table, const void *row, bool key_only, acctlink_error *err)
{
	size_t count = key_only ? 1 : table->count;

	if (row == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "store", "a write without its row");
	for (size_t i = 0; i < count; i++) {
		al_rc rc = check_column(&table->columns[i], row, err);

		if (rc != ACCTLINK_OK)
			return rc;
	}
	return ACCTLINK_OK;
}

static al_rc check_write(const struct al_write *write, acctlink_error *err)
{
	switch (write->kind) {
	case AL_LINK_INSERT:
	case AL_LINK_SWAP:
	case AL_LINK_MARK:
	case AL_LINK_DELETE: return check_row(&al_link_table, write->link, write->kind == AL_LINK_DELETE, err);
	case AL_FLOW_INSERT:
	case AL_FLOW_SWAP:
	case AL_FLOW_MARK:
	case AL_FLOW_DELETE: return check_row(&al_flow_table, write->flow, write->kind == AL_FLOW_DELETE, err);
	case AL_AUDIT_INSERT:
		if (write->audit != NULL && write->audit->link_id != NULL && write->audit->what != NULL
			&& write->audit->detail != NULL)
			return ACCTLINK_OK;
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "store", "an audit row without its texts");
	default: return al_fail(err, ACCTLINK_BAD_ARGUMENT, "store", "no such kind of write");
	}
}

static al_rc need(bool given, const char *name, acctlink_error *err)
{
	return given ? ACCTLINK_OK : al_fail(err, ACCTLINK_BAD_ARGUMENT, "store", "%s is missing", name);
}

/* ---- the way through --------------------------------------------------------- */

al_rc al_store_new(const char *path, const struct al_log *log, const struct al_clock *clock, struct al_store **out,
	acctlink_error *err)
{
	al_rc rc = need(path != NULL && path[0] != '\0', "the store's path", err);

	return rc != ACCTLINK_OK ? rc : al_sqlite_new(path, log, clock, out, err);
}

void al_store_free(struct al_store **store)
{
	if (*store != NULL)
		(*store)->ops->close(*store);
	*store = NULL;
}

void al_store_rest(struct al_store *store)
{
	store->ops->rest(store);
}

al_rc al_store_get_link(struct al_store *store, const char *id, struct al_link_row *row, acctlink_error *err)
{
	al_rc rc = need(id != NULL, "the link's id", err);

	return rc != ACCTLINK_OK ? rc : store->ops->get_link(store, id, NULL, row, err);
}

al_rc al_store_find_link(
	struct al_store *store, const struct al_buf *owner_key, struct al_link_row *row, acctlink_error *err)
{
	al_rc rc = need(owner_key != NULL && owner_key->len > 0, "the owner key", err);

	return rc != ACCTLINK_OK ? rc : store->ops->get_link(store, NULL, owner_key, row, err);
}

al_rc al_store_get_flow(
	struct al_store *store, const struct al_buf *state_hash, struct al_flow_row *row, acctlink_error *err)
{
	al_rc rc = need(state_hash != NULL && state_hash->len > 0, "the hash of state", err);

	return rc != ACCTLINK_OK ? rc : store->ops->get_flow(store, state_hash, row, err);
}

static al_rc list(struct al_store *store, const struct al_link_query_args *args, const struct al_link_visit *visit,
	acctlink_error *err)
{
	al_rc rc = need(visit != NULL && visit->each != NULL, "the visitor", err);

	return rc != ACCTLINK_OK ? rc : store->ops->list_links(store, args, visit, err);
}

al_rc al_store_list_user(struct al_store *store, const struct al_buf *user, const char *after,
	const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = { .query = AL_QUERY_USER, .user = user, .after = after };
	al_rc rc = need(user != NULL && user->len > 0 && after != NULL, "the user", err);

	return rc != ACCTLINK_OK ? rc : list(store, &args, visit, err);
}

al_rc al_store_list_all(
	struct al_store *store, const char *after, const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = { .query = AL_QUERY_ALL, .after = after };
	al_rc rc = need(after != NULL, "the id to begin after", err);

	return rc != ACCTLINK_OK ? rc : list(store, &args, visit, err);
}

al_rc al_store_list_subject(struct al_store *store, const struct al_buf *issuer, const struct al_buf *client,
	const struct al_buf *subject, const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = {
		.query = AL_QUERY_SUBJECT, .issuer = issuer, .client = client, .subject = subject
	};
	al_rc rc = need(issuer != NULL && client != NULL && subject != NULL, "the subject", err);

	return rc != ACCTLINK_OK ? rc : list(store, &args, visit, err);
}

al_rc al_store_list_due(struct al_store *store, int64_t until, const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = { .query = AL_QUERY_DUE, .bound = until };

	return list(store, &args, visit, err);
}

al_rc al_store_list_revocations(
	struct al_store *store, int64_t until, const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = { .query = AL_QUERY_REVOCATIONS, .bound = until };

	return list(store, &args, visit, err);
}

al_rc al_store_list_changed(
	struct al_store *store, int64_t since, const struct al_link_visit *visit, acctlink_error *err)
{
	struct al_link_query_args args = { .query = AL_QUERY_CHANGED, .bound = since };

	return list(store, &args, visit, err);
}

al_rc al_store_change(struct al_store *store, int64_t *change, acctlink_error *err)
{
	return store->ops->change(store, change, err);
}

al_rc al_store_sweep_flows(
	struct al_store *store, int64_t now, const struct al_buf *user, unsigned keep, acctlink_error *err)
{
	return store->ops->sweep_flows(store, now, user, keep, err);
}

al_rc al_store_forget_flows(struct al_store *store, const struct al_buf *user, int64_t *count, acctlink_error *err)
{
	al_rc rc = need(user != NULL && user->len > 0, "the user", err);

	return rc != ACCTLINK_OK ? rc : store->ops->forget_flows(store, user, count, err);
}

al_rc al_store_sweep_audit(struct al_store *store, int64_t before, acctlink_error *err)
{
	return store->ops->sweep_audit(store, before, err);
}

al_rc al_store_get_meta(struct al_store *store, const char *name, struct al_buf *value, acctlink_error *err)
{
	al_rc rc = need(name != NULL && value != NULL, "the name", err);

	return rc != ACCTLINK_OK ? rc : store->ops->get_meta(store, name, value, err);
}

al_rc al_store_put_meta(struct al_store *store, const char *name, const struct al_buf *value, acctlink_error *err)
{
	al_rc rc = need(name != NULL && value != NULL && !value->failed, "the value", err);

	return rc != ACCTLINK_OK ? rc : store->ops->put_meta(store, name, value, err);
}

al_rc al_store_drop_meta(struct al_store *store, const char *name, acctlink_error *err)
{
	al_rc rc = need(name != NULL, "the name", err);

	return rc != ACCTLINK_OK ? rc : store->ops->drop_meta(store, name, err);
}

al_rc al_store_commit(struct al_store *store, struct al_write *writes, size_t count, acctlink_error *err)
{
	al_rc rc = need(writes != NULL && count > 0, "the list of writes", err);

	for (size_t i = 0; rc == ACCTLINK_OK && i < count; i++)
		rc = check_write(&writes[i], err);
	return rc != ACCTLINK_OK ? rc : store->ops->commit(store, writes, count, err);
}
