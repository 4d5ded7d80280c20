/* SPDX-License-Identifier: MIT
 * What only the vault room and its tests see: keys, and the form of a seal.
 */
#ifndef AL_VAULT_INT_H
#define AL_VAULT_INT_H

#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "vault/vault.h"

#define AL_KEY_LEN 32
#define AL_KEY_ID_MAX 32

struct al_key {
	char id[AL_KEY_ID_MAX + 1];
	struct al_buf secret; /* AL_KEY_LEN bytes, in the vault's safe */
};

struct al_vault {
	struct al_store *store;
	EVP_CIPHER *cipher; /* fetched once; contexts are made per call, so any thread may seal */
	EVP_KDF *kdf;
	struct al_safe *safe;
	size_t key_count;
	struct al_key keys[];
};

/* ---- keys.c: reading them ---------------------------------------------------- */
al_rc al_key_read(const char *path, struct al_safe *safe, struct al_key *key, acctlink_error *err) AL_MUST_USE;
/* NULL if there is none of this id. */
const struct al_key *al_vault_key_find(const struct al_vault *vault, const char *id);

/* ---- seal.c: version, salt, nonce, tag, then the ciphertext -------------------- */
#define AL_SEAL_VERSION 2
#define AL_SEAL_SALT 16
#define AL_SEAL_NONCE 12
#define AL_SEAL_TAG 16
#define AL_SEAL_HEAD (1 + AL_SEAL_SALT + AL_SEAL_NONCE + AL_SEAL_TAG)

/* What a seal is bound to: it opens for nothing else. */
struct al_seal_context {
	const char *kind;  /* "link", "flow", "check" */
	const char *where; /* for errors */
	acctlink_str row;
	int64_t epoch;
	int64_t generation;
	/* Whose it is: who can write the store's columns can't give a row to somebody else. */
	acctlink_str bound[5];
};
al_rc al_seal(const struct al_vault *vault, const struct al_key *key, const struct al_seal_context *context,
	const struct al_buf *plain, struct al_buf *sealed, acctlink_error *err) AL_MUST_USE;
/* BAD_STORE: damaged, or sealed for another row. plain is wiped on failure. */
al_rc al_unseal(const struct al_vault *vault, const struct al_key *key, const struct al_seal_context *context,
	const struct al_buf *sealed, struct al_buf *plain, acctlink_error *err) AL_MUST_USE;

#endif
