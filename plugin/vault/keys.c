/* SPDX-License-Identifier: MIT
 * Reads the store's keys from their files. A key leaves this file only inside
 * its al_buf; what was read is wiped. No locks; files are read at init only.
 */
#include "vault/vault_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX 256
#define HOW_TO "make one with: head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' > FILE; chmod 600 FILE"

static al_rc check_file(int fd, const char *path, acctlink_error *err)
{
	uid_t self = geteuid();
	struct stat st;

	if (fstat(fd, &st) != 0)
		return al_fail(err, ACCTLINK_BAD_KEY, path, "can't look at the key file %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return al_fail(err, ACCTLINK_BAD_KEY, path, "the key file %s is not a plain file: " HOW_TO, path);
	/* Root reads the key of the service that it starts, whose own it is. */
	if (self != 0 && st.st_uid != self && st.st_uid != 0)
		return al_fail(err, ACCTLINK_BAD_KEY, path,
			"the key file %s belongs to user %lu, it must be root or user "
			"%lu: chown it",
			path, (unsigned long)st.st_uid, (unsigned long)self);
	if ((st.st_mode & 077) != 0)
		return al_fail(err, ACCTLINK_BAD_KEY, path,
			"other users may open the key file %s (mode %04o): chmod 600 "
			"it, and make a new key if one may have read it",
			path, (unsigned)(st.st_mode & 07777));
	return ACCTLINK_OK;
}

static al_rc read_all(int fd, const char *path, struct al_buf *text, acctlink_error *err)
{
	char part[FILE_MAX];
	ssize_t got = 1;
	al_rc rc = ACCTLINK_OK;

	while (rc == ACCTLINK_OK && got > 0) {
		got = read(fd, part, sizeof(part));
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			rc = al_fail(
				err, ACCTLINK_BAD_KEY, path, "can't read the key file %s: %s", path, strerror(errno));
		else if (!al_buf_put(text, part, (size_t)got))
			rc = al_fail(err, ACCTLINK_BAD_KEY, path, "the key file %s is too long: " HOW_TO, path);
	}
	al_wipe(part, sizeof(part));
	return rc;
}

/* Somebody wrote the key where its file should be named. */
static bool is_key_itself(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;

	return strlen(name) >= AL_KEY_LEN && strspn(name, "0123456789abcdefABCDEF") == strlen(name);
}

static al_rc load(const char *path, struct al_buf *text, acctlink_error *err)
{
	/* Non-blocking, so that a pipe in its place can't hang us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	al_rc rc;

	if (fd < 0 && is_key_itself(path))
		return al_fail(err, ACCTLINK_BAD_KEY, "key_file",
			"there is no such key file, and its name, which is not shown, "
			"looks like a key: " HOW_TO);
	if (fd < 0)
		return al_fail(
			err, ACCTLINK_BAD_KEY, path, "can't open the key file %s: %s; " HOW_TO, path, strerror(errno));
	rc = check_file(fd, path, err);
	if (rc == ACCTLINK_OK)
		rc = read_all(fd, path, text, err);
	(void)close(fd);
	return rc;
}

static bool decode_id(const char *text, size_t len, char id[AL_KEY_ID_MAX + 1])
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

	if (len == 0 || len > AL_KEY_ID_MAX || strspn(text, allowed) != len)
		return false;
	memcpy(id, text, len);
	id[len] = '\0';
	return true;
}

/* Tells keys apart without telling anything about them. */
static al_rc derive_id(struct al_key *key, acctlink_error *err)
{
	unsigned char hash[32];
	struct al_buf text;
	al_rc rc;

	al_buf_init(&text, 64);
	(void)al_buf_puts(&text, "acctlink key id");
	if (!al_buf_put(&text, key->secret.data, key->secret.len))
		rc = al_fail_memory(err);
	else
		rc = al_sha256(text.data, text.len, hash, err);
	if (rc == ACCTLINK_OK)
		al_hex(key->id, hash, 4);
	al_buf_clear(&text);
	return rc;
}

/* "hex" or "id:hex". */
static al_rc parse(const struct al_buf *text, const char *path, struct al_key *key, acctlink_error *err)
{
	const char *start = al_buf_text(text);
	const char *colon = memchr(start, ':', text->len);
	size_t len = text->len;
	bool good = true;

	if (len > 0 && start[len - 1] == '\n')
		len--;
	if (len > 0 && start[len - 1] == '\r')
		len--;
	if (colon != NULL) {
		good = decode_id(start, (size_t)(colon - start), key->id);
		len -= good ? (size_t)(colon + 1 - start) : 0;
		start = colon + 1;
	}
	if (!good || len != (size_t)2 * AL_KEY_LEN || !al_hex_decode(&key->secret, start, len))
		return al_fail(err, ACCTLINK_BAD_KEY, path,
			"the key file %s must hold %d hexadecimal digits, or a name, a "
			"colon and these digits: " HOW_TO,
			path, 2 * AL_KEY_LEN);
	return colon == NULL ? derive_id(key, err) : ACCTLINK_OK;
}

al_rc al_key_read(const char *path, struct al_safe *safe, struct al_key *key, acctlink_error *err)
{
	struct al_buf text;
	al_rc rc;

	memset(key, 0, sizeof(*key));
	al_buf_init_in(&key->secret, AL_KEY_LEN, safe);
	al_buf_init(&text, FILE_MAX);
	rc = load(path, &text, err);
	if (rc == ACCTLINK_OK)
		rc = parse(&text, path, key, err);
	al_buf_clear(&text);
	if (rc != ACCTLINK_OK)
		al_buf_clear(&key->secret);
	return rc;
}

const struct al_key *al_vault_key_find(const struct al_vault *vault, const char *id)
{
	for (size_t i = 0; i < vault->key_count; i++) {
		if (strcmp(vault->keys[i].id, id) == 0)
			return &vault->keys[i];
	}
	return NULL;
}
