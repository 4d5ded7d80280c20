/* SPDX-License-Identifier: MIT
 * The vault itself: brings keys, seals and rows together on the way to and
 * from the store. Keys are read at init and never change, so no lock is
 * needed; OpenSSL's algorithms are fetched before a fork and used after.
 */
#include "vault/vault_int.h"

#include <stdlib.h>
#include <string.h>

#define CHECK_NAME "vault_check"

static al_rc read_keys(struct al_vault *vault, char *const *key_files, acctlink_error *err)
{
	for (size_t i = 0; key_files[i] != NULL; i++) {
		struct al_key *key = &vault->keys[i];
		al_rc rc = al_key_read(key_files[i], vault->safe, key, err);

		if (rc != ACCTLINK_OK)
			return rc;
		if (al_vault_key_find(vault, key->id) != NULL) {
			al_buf_clear(&key->secret);
			return al_fail(err, ACCTLINK_BAD_KEY, key_files[i],
				"the key in %s has the id %s, as one before it: "
				"leave one of them out, or give one a name (name:digits)",
				key_files[i], key->id);
		}
		vault->key_count++;
	}
	return ACCTLINK_OK;
}

al_rc al_vault_new(char *const *key_files, struct al_store *store, struct al_vault **out, acctlink_error *err)
{
	struct al_vault *vault;
	size_t count = 0;
	al_rc rc;

	while (key_files != NULL && key_files[count] != NULL)
		count++;
	if (count == 0)
		return al_fail(err, ACCTLINK_BAD_KEY, NULL, "no key file is configured");
	vault = al_new(sizeof(*vault) + count * sizeof(vault->keys[0]));
	if (vault == NULL)
		return al_fail_memory(err);
	vault->store = store;
	vault->safe = al_safe_new(true);
	vault->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	vault->kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	if (vault->safe == NULL)
		rc = al_fail_memory(err);
	else if (vault->cipher == NULL || vault->kdf == NULL)
		rc = al_fail(err, ACCTLINK_INTERNAL, "OpenSSL",
			"OpenSSL offers no AES-256-GCM or no HKDF: check its "
			"configuration");
	else
		rc = read_keys(vault, key_files, err);
	if (rc != ACCTLINK_OK) {
		al_vault_free(&vault);
		return rc;
	}
	*out = vault;
	return ACCTLINK_OK;
}

void al_vault_free(struct al_vault **vault)
{
	struct al_vault *v = *vault;

	*vault = NULL;
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->key_count; i++)
		al_buf_clear(&v->keys[i].secret);
	al_safe_free(&v->safe);
	EVP_CIPHER_free(v->cipher);
	EVP_KDF_free(v->kdf);
	free(v);
}

struct al_store *al_vault_store(struct al_vault *vault)
{
	return vault->store;
}

/* ---- opening ------------------------------------------------------------------- */

static struct al_seal_context link_context(const struct al_link_row *row)
{
	return (struct al_seal_context){ "link", row->id, { row->id, AL_ID_LEN }, row->epoch, row->generation,
		{ al_buf_str(&row->owner_key), al_buf_str(&row->user), al_buf_str(&row->provider),
			al_buf_str(&row->institution), al_buf_str(&row->client) } };
}

/* A flow is sealed once, under a key that is never used again; its epoch and
 * generation are those of the link that came of it. */
static struct al_seal_context flow_context(const struct al_flow_row *row)
{
	return (struct al_seal_context){ "flow", "flow", al_buf_str(&row->state_hash), 0, 0,
		{ al_buf_str(&row->user), al_buf_str(&row->provider), al_buf_str(&row->institution) } };
}

static al_rc open_sealed(const struct al_vault *vault, const char *key_id, const struct al_seal_context *context,
	const struct al_buf *sealed, struct al_buf *plain, acctlink_error *err)
{
	const struct al_key *key = al_vault_key_find(vault, key_id);
	char shown[AL_KEY_ID_MAX + 1];

	if (key != NULL)
		return al_unseal(vault, key, context, sealed, plain, err);
	al_buf_clear(plain);
	al_copy_printable(shown, sizeof(shown), key_id, strlen(key_id));
	return al_fail(err, ACCTLINK_BAD_KEY, context->where,
		"a %s row of the store is sealed under key %s, which isn't "
		"configured: add its key file",
		context->kind, shown);
}

al_rc al_vault_open_link(
	struct al_vault *vault, const struct al_link_row *row, struct al_buf *plain, acctlink_error *err)
{
	struct al_seal_context context = link_context(row);

	return open_sealed(vault, al_buf_text(&row->key_id), &context, &row->sealed, plain, err);
}

al_rc al_vault_get_link(
	struct al_vault *vault, const char *id, struct al_link_row *row, struct al_buf *plain, acctlink_error *err)
{
	al_rc rc = al_store_get_link(vault->store, id, row, err);

	return rc != ACCTLINK_OK || plain == NULL ? rc : al_vault_open_link(vault, row, plain, err);
}

al_rc al_vault_find_link(struct al_vault *vault, const struct al_buf *owner_key, struct al_link_row *row,
	struct al_buf *plain, acctlink_error *err)
{
	al_rc rc = al_store_find_link(vault->store, owner_key, row, err);

	return rc != ACCTLINK_OK || plain == NULL ? rc : al_vault_open_link(vault, row, plain, err);
}

al_rc al_vault_get_flow(struct al_vault *vault, const struct al_buf *state_hash, struct al_flow_row *row,
	struct al_buf *plain, acctlink_error *err)
{
	struct al_seal_context context;
	al_rc rc = al_store_get_flow(vault->store, state_hash, row, err);

	if (rc != ACCTLINK_OK || plain == NULL)
		return rc;
	context = flow_context(row);
	return open_sealed(vault, al_buf_text(&row->key_id), &context, &row->sealed, plain, err);
}

/* ---- sealing ------------------------------------------------------------------- */

static al_rc seal_into(const struct al_vault *vault, const struct al_seal_context *context, const struct al_buf *plain,
	struct al_buf *key_id, struct al_buf *sealed, acctlink_error *err)
{
	const struct al_key *key = &vault->keys[0];

	if (plain == NULL)
		return al_fail(
			err, ACCTLINK_INTERNAL, context->where, "a %s row without what is to be sealed", context->kind);
	if (!al_buf_set(key_id, key->id, strlen(key->id)))
		return al_fail_memory(err);
	return al_seal(vault, key, context, plain, sealed, err);
}

static al_rc seal_write(const struct al_vault *vault, const struct al_vault_write *write, acctlink_error *err)
{
	struct al_seal_context context;

	switch (write->kind) {
	case AL_LINK_INSERT:
	case AL_LINK_SWAP:
		context = link_context(write->link);
		return seal_into(vault, &context, write->plain, &write->link->key_id, &write->link->sealed, err);
	case AL_FLOW_INSERT:
	case AL_FLOW_SWAP:
		context = flow_context(write->flow);
		return seal_into(vault, &context, write->plain, &write->flow->key_id, &write->flow->sealed, err);
	default: return ACCTLINK_OK;
	}
}

al_rc al_vault_commit(struct al_vault *vault, const struct al_vault_write *writes, size_t count, acctlink_error *err)
{
	struct al_write through[AL_VAULT_WRITES_MAX];

	if (count > AL_VAULT_WRITES_MAX)
		return al_fail(err, ACCTLINK_INTERNAL, "vault", "more than %d rows in one commit", AL_VAULT_WRITES_MAX);
	for (size_t i = 0; i < count; i++) {
		al_rc rc = seal_write(vault, &writes[i], err);

		if (rc != ACCTLINK_OK)
			return rc;
		through[i] = (struct al_write){ writes[i].kind, writes[i].link, writes[i].flow, writes[i].audit };
	}
	return al_store_commit(vault->store, through, count, err);
}

/* ---- the check value ----------------------------------------------------------- */

static const struct al_seal_context check_context = {
	.kind = "check", .where = CHECK_NAME, .row = { CHECK_NAME, sizeof(CHECK_NAME) - 1 }
};

/* Packed: the id of the key, the seal. */
static al_rc make_check(struct al_vault *vault, acctlink_error *err)
{
	const struct al_key *key = &vault->keys[0];
	struct al_buf plain;
	struct al_buf sealed;
	struct al_buf value;
	al_rc rc;

	al_buf_init(&plain, 64);
	al_buf_init(&sealed, 256);
	al_buf_init(&value, 512);
	rc = al_buf_puts(&plain, CHECK_NAME) ? al_seal(vault, key, &check_context, &plain, &sealed, err)
					     : al_fail_memory(err);
	if (rc == ACCTLINK_OK
		&& (!al_pack(&value, key->id, strlen(key->id)) || !al_pack(&value, sealed.data, sealed.len)))
		rc = al_fail_memory(err);
	if (rc == ACCTLINK_OK)
		rc = al_store_put_meta(vault->store, CHECK_NAME, &value, err);
	al_buf_clear(&plain);
	al_buf_clear(&sealed);
	al_buf_clear(&value);
	return rc;
}

static al_rc open_check(const struct al_vault *vault, const struct al_buf *value, acctlink_error *err)
{
	struct al_unpack from = { (const unsigned char *)al_buf_text(value), value->len, 0, false };
	acctlink_str id = al_unpack_field(&from);
	acctlink_str seal = al_unpack_field(&from);
	struct al_buf key_id;
	struct al_buf sealed;
	struct al_buf plain;
	al_rc rc;

	al_buf_init(&key_id, AL_KEY_ID_MAX);
	al_buf_init(&sealed, 256);
	al_buf_init(&plain, 256);
	if (from.failed || !al_buf_set(&key_id, id.data, id.len) || !al_buf_set(&sealed, seal.data, seal.len))
		rc = al_fail(err, ACCTLINK_BAD_STORE, CHECK_NAME, "the store's check value is damaged");
	else
		rc = open_sealed(vault, al_buf_text(&key_id), &check_context, &sealed, &plain, err);
	/* The right id and yet another key: not the store's fault. */
	if (rc == ACCTLINK_BAD_STORE && al_vault_key_find(vault, al_buf_text(&key_id)) != NULL)
		rc = al_fail(err, ACCTLINK_BAD_KEY, CHECK_NAME,
			"the configured key %s is not the one that this store was "
			"sealed with: configure that one",
			al_buf_text(&key_id));
	al_buf_clear(&key_id);
	al_buf_clear(&sealed);
	al_buf_clear(&plain);
	return rc;
}

static al_rc check_or_make(struct al_vault *vault, struct al_buf *value, acctlink_error *err)
{
	al_rc rc = al_store_get_meta(vault->store, CHECK_NAME, value, err);

	if (rc == AL_ABSENT) {
		rc = make_check(vault, err);
		if (rc != AL_CONFLICT)
			return rc;
		/* Another process was quicker: its key counts. */
		rc = al_store_get_meta(vault->store, CHECK_NAME, value, err);
	}
	return rc == ACCTLINK_OK ? open_check(vault, value, err) : rc;
}

al_rc al_vault_check(struct al_vault *vault, acctlink_error *err)
{
	struct al_buf value;
	al_rc rc;

	al_buf_init(&value, 4096);
	rc = check_or_make(vault, &value, err);
	al_buf_clear(&value);
	al_store_rest(vault->store);
	return rc;
}
