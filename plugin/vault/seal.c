/* SPDX-License-Identifier: MIT
 * Seals and opens: AES-256-GCM under a key that HKDF-SHA256 makes from a
 * master key and a random salt for each seal, so that no number of seals wears
 * a master key out. Knows no rows. Contexts are made per call: any thread. The
 * host's OpenSSL error queue is left as it was found.
 */
#include "vault/vault_int.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

static bool derive(const struct al_vault *vault, const struct al_key *key, const char *kind,
	const unsigned char salt[AL_SEAL_SALT], unsigned char derived[AL_KEY_LEN])
{
	static char digest[] = "SHA256";
	unsigned char copy[AL_SEAL_SALT];
	char info[32];
	int info_len = snprintf(info, sizeof(info), "acctlink seal 2%s", kind);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(vault->kdf);
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key->secret.data, key->secret.len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, copy, sizeof(copy)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, (size_t)info_len),
		OSSL_PARAM_construct_end() };
	bool good = ctx != NULL && info_len > 0 && (size_t)info_len < sizeof(info);

	memcpy(copy, salt, sizeof(copy));
	good = good && EVP_KDF_derive(ctx, derived, AL_KEY_LEN, params) == 1;
	EVP_KDF_CTX_free(ctx);
	return good;
}

/* Additional data: each field with its length, so that no two contexts are alike. */
static bool bind_to(EVP_CIPHER_CTX *ctx, const struct al_key *key, const struct al_seal_context *context)
{
	struct al_buf data;
	int len;
	bool good;

	al_buf_init(&data, 16384);
	good = al_pack(&data, context->kind, strlen(context->kind))
		&& al_pack(&data, context->row.data, context->row.len) && al_pack_u64(&data, (uint64_t)context->epoch)
		&& al_pack_u64(&data, (uint64_t)context->generation) && al_pack(&data, key->id, strlen(key->id));
	for (size_t i = 0; good && i < AL_COUNT(context->bound); i++)
		good = al_pack(&data, context->bound[i].data, context->bound[i].len);
	good = good && EVP_CipherUpdate(ctx, NULL, &len, (const unsigned char *)data.data, (int)data.len) == 1;
	al_buf_clear(&data);
	return good;
}

/* A context that stands before the first byte of text. NULL on failure. */
static EVP_CIPHER_CTX *begin(const struct al_vault *vault, const struct al_key *key,
	const struct al_seal_context *context, const unsigned char *head, int encrypt)
{
	const unsigned char *salt = head + 1;
	unsigned char derived[AL_KEY_LEN];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool good = ctx != NULL && derive(vault, key, context->kind, salt, derived)
		&& EVP_CipherInit_ex2(ctx, vault->cipher, derived, salt + AL_SEAL_SALT, encrypt, NULL) == 1
		&& bind_to(ctx, key, context);

	al_wipe(derived, sizeof(derived));
	if (good)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

/* In place; false if OpenSSL failed or, when opening, the tag is not right. */
static bool pass(EVP_CIPHER_CTX *ctx, unsigned char *text, size_t len)
{
	int done = 0;
	int rest = 0;

	return EVP_CipherUpdate(ctx, text, &done, text, (int)len) == 1
		&& EVP_CipherFinal_ex(ctx, text + done, &rest) == 1 && (size_t)done + (size_t)rest == len;
}

static al_rc seal_in_place(const struct al_vault *vault, const struct al_key *key,
	const struct al_seal_context *context, unsigned char *head, size_t len, acctlink_error *err)
{
	EVP_CIPHER_CTX *ctx;
	bool good;
	al_rc rc = al_random(head + 1, AL_SEAL_SALT + AL_SEAL_NONCE, err);

	if (rc != ACCTLINK_OK)
		return rc;
	head[0] = AL_SEAL_VERSION;
	ctx = begin(vault, key, context, head, 1);
	good = ctx != NULL && pass(ctx, head + AL_SEAL_HEAD, len)
		&& EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AL_SEAL_TAG, head + AL_SEAL_HEAD - AL_SEAL_TAG) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good ? ACCTLINK_OK : al_fail(err, ACCTLINK_INTERNAL, "seal", "OpenSSL could not seal");
}

al_rc al_seal(const struct al_vault *vault, const struct al_key *key, const struct al_seal_context *context,
	const struct al_buf *plain, struct al_buf *sealed, acctlink_error *err)
{
	static const unsigned char room[AL_SEAL_HEAD];
	al_rc rc;

	if (plain->failed || plain->len > AL_SEALED_MAX - AL_SEAL_HEAD)
		return al_fail(err, ACCTLINK_INTERNAL, "seal", "what is to be sealed is too long");
	if (!al_buf_set(sealed, room, sizeof(room)) || !al_buf_put(sealed, al_buf_text(plain), plain->len)) {
		al_buf_clear(sealed);
		return al_fail_memory(err);
	}
	ERR_set_mark();
	rc = seal_in_place(vault, key, context, (unsigned char *)sealed->data, plain->len, err);
	ERR_pop_to_mark();
	if (rc != ACCTLINK_OK)
		al_buf_clear(sealed);
	return rc;
}

static al_rc open_in_place(const struct al_vault *vault, const struct al_key *key,
	const struct al_seal_context *context, const unsigned char *head, struct al_buf *text, acctlink_error *err)
{
	EVP_CIPHER_CTX *ctx = begin(vault, key, context, head, 0);
	unsigned char tag[AL_SEAL_TAG];
	bool ready;
	bool good;

	memcpy(tag, head + AL_SEAL_HEAD - AL_SEAL_TAG, sizeof(tag));
	ready = ctx != NULL && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1;
	good = ready && pass(ctx, (unsigned char *)text->data, text->len);
	EVP_CIPHER_CTX_free(ctx);
	if (!ready)
		return al_fail(err, ACCTLINK_INTERNAL, "seal", "OpenSSL could not open a seal");
	if (good)
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BAD_STORE, context->where,
		"the sealed part of a %s row is damaged or belongs to another row: restore the store from a backup",
		context->kind);
}

al_rc al_unseal(const struct al_vault *vault, const struct al_key *key, const struct al_seal_context *context,
	const struct al_buf *sealed, struct al_buf *plain, acctlink_error *err)
{
	const unsigned char *head = (const unsigned char *)al_buf_text(sealed);
	al_rc rc;

	al_buf_clear(plain);
	if (sealed->len < AL_SEAL_HEAD || head[0] != AL_SEAL_VERSION)
		return al_fail(err, ACCTLINK_BAD_STORE, context->where,
			"the sealed part of a %s row is not in a form that "
			"this acctlink knows",
			context->kind);
	if (!al_buf_set(plain, head + AL_SEAL_HEAD, sealed->len - AL_SEAL_HEAD)) {
		al_buf_clear(plain);
		return al_fail_memory(err);
	}
	ERR_set_mark();
	rc = open_in_place(vault, key, context, head, plain, err);
	ERR_pop_to_mark();
	if (rc != ACCTLINK_OK)
		al_buf_clear(plain);
	return rc;
}
