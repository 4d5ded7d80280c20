/* SPDX-License-Identifier: MIT
 * Client secrets: from the config itself, from a file, from systemd. They go
 * into al_buf and are never part of a message; what others may read is refused.
 */
#include "config/config_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECRET_MAX = 4096 };

static al_rc keep_secret(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *secret, size_t len, struct al_buf *field)
{
	if (len == 0)
		return al_refuse(r, at, "%s: the secret is empty", key->name);
	if (len > SECRET_MAX)
		return al_refuse(r, at, "%s: the secret is longer than %d bytes", key->name, SECRET_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)secret[i] < 0x20 || secret[i] == 0x7f)
			return al_refuse(
				r, at, "%s: the secret has a line break or control character in it", key->name);
	al_buf_clear(field);
	al_buf_init_in(field, SECRET_MAX, r->config->secrets);
	return al_buf_put(field, secret, len) ? ACCTLINK_OK : al_fail_memory(r->err);
}

static al_rc check_mode(
	const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char *path, mode_t mode)
{
	char where[sizeof(r->err->where)];
	unsigned bits = (unsigned)mode & 07777;

	if ((bits & 077) == 0)
		return ACCTLINK_OK;
	if (!r->config->allow_readable_secrets)
		return al_refuse(r, at, "%s: %s holds a secret and has mode %04o: chmod 600 it%s", key->name, path,
			bits, key->type == AL_KEY_SECRET ? ", or use client_secret_file" : "");
	al_reader_where(r, at, where, sizeof(where));
	al_log(r->log, ACCTLINK_LOG_WARNING, "%s: %s holds a secret and has mode %04o (allow_readable_secrets is set)",
		where, path, bits);
	return ACCTLINK_OK;
}

al_rc al_secret_text(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const struct al_source_file *file;
	const char *secret;
	unsigned line;
	al_rc rc;

	if (config_setting_type(at) != CONFIG_TYPE_STRING)
		return al_wrong_type(r, key, at, "text in quotes");
	file = al_source_find(r->source, config_setting_source_line(at), &line);
	rc = check_mode(r, key, at, file->path, file->mode);
	if (rc != ACCTLINK_OK)
		return rc;
	secret = config_setting_get_string(at);
	return keep_secret(r, key, at, secret, strlen(secret), field);
}

/* The file's text without one line break at its end. */
static al_rc read_secret_file(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *path, bool guarded, struct al_buf *field)
{
	char where[sizeof(r->err->where)];
	struct al_buf text;
	struct stat info;
	size_t len;
	al_rc rc;

	al_buf_init(&text, SECRET_MAX + 2);
	al_reader_where(r, at, where, sizeof(where));
	rc = al_file_read(path, where, &text, &info, r->err);
	if (rc == ACCTLINK_OK && guarded)
		rc = check_mode(r, key, at, path, info.st_mode);
	if (rc == ACCTLINK_OK) {
		len = text.len;
		if (len > 0 && text.data[len - 1] == '\n')
			len--;
		if (len < text.len && len > 0 && text.data[len - 1] == '\r')
			len--;
		rc = keep_secret(r, key, at, al_buf_text(&text), len, field);
	}
	al_buf_clear(&text);
	return rc;
}

/* Somebody wrote the secret where its file should be named. */
static bool is_secret_itself(const char *name, const char *path)
{
	return strchr(name, '/') == NULL && al_may_quote_secret(name, strlen(name), NULL, 0) && access(path, F_OK) != 0;
}

al_rc al_secret_file(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char *path = NULL;
	al_rc rc = al_value_path(r, key, at, &path);

	if (rc == ACCTLINK_OK && is_secret_itself(config_setting_get_string(at), path))
		rc = al_refuse(r, at,
			"%s: there is no such file, and its name, which is not shown, looks like the secret "
			"itself",
			key->name);
	if (rc == ACCTLINK_OK)
		rc = read_secret_file(r, key, at, path, true, field);
	al_free_text(&path);
	return rc;
}

/* systemd's LoadCredential=. Its access is an ACL, which shows as group bits of
 * the mode, so the mode is not ours to judge. */
al_rc al_secret_credential(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	const char *name;
	char path[4096];
	int len;
	al_rc rc = al_value_text(r, key, at, &name);

	if (rc != ACCTLINK_OK)
		return rc;
	if (strchr(name, '/') != NULL || name[0] == '.')
		return al_refuse(r, at, "%s is a name, as in LoadCredential=NAME, not a path", key->name);
	if (folder == NULL || folder[0] != '/')
		return al_refuse(r, at,
			"%s: $CREDENTIALS_DIRECTORY is not set: start the host by systemd with "
			"LoadCredential=, or use client_secret_file",
			key->name);
	len = snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (len < 0 || (size_t)len >= sizeof(path))
		return al_refuse(r, at, "%s: the path of the credential is too long", key->name);
	if (is_secret_itself(name, path))
		return al_refuse(r, at,
			"%s: there is no such file in $CREDENTIALS_DIRECTORY, and its name, which is not "
			"shown, looks like the secret itself",
			key->name);
	return read_secret_file(r, key, at, path, false, field);
}
