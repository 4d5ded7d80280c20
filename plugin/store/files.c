/* SPDX-License-Identifier: MIT
 * Folders and files with the right owner and mode, whatever the umask, which
 * is the host's and stays as it is. What root makes goes to the owner of the
 * folder it is in, so that a service finds nothing that it can't use. The
 * store's file is never opened here once others can see it: closing it would
 * drop the locks that SQLite holds on it in this process (POSIX locks).
 */
#include "store/store_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *al_path_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return al_dup(".");
	return slash == path ? al_dup("/") : al_dup_len(path, (size_t)(slash - path));
}

/* Names, owners and modes are for the operator to mend; the rest may pass. */
static al_rc fail(acctlink_error *err, const char *path, const char *doing, int cause)
{
	al_rc rc;

	switch (cause) {
	case ENOMEM: return al_fail_memory(err);
	case ENOSPC:
	case EDQUOT:
	case EIO:
	case EMFILE:
	case ENFILE: rc = ACCTLINK_STORE_DOWN; break;
	default: rc = ACCTLINK_BAD_STORE; break;
	}
	return al_fail(err, rc, path,
		"can't %s: %s; the store's folder must exist or be creatable, and "
		"belong to the user that this process runs as",
		doing, strerror(cause));
}

/* 0, or -1 with errno. */
static int give_to_owner(int fd, int folder)
{
	struct stat st;

	if (geteuid() != 0)
		return 0;
	if (fstat(folder, &st) != 0)
		return -1;
	return st.st_uid == 0 ? 0 : fchown(fd, st.st_uid, st.st_gid);
}

static int finish_folder(int fd)
{
	int above;
	int rc;

	if (fchmod(fd, 0700) != 0)
		return -1;
	above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (above < 0)
		return -1;
	rc = give_to_owner(fd, above);
	(void)close(above);
	return rc;
}

static al_rc check_folder(int fd, const char *path, acctlink_error *err)
{
	uid_t self = geteuid();
	struct stat st;

	if (fstat(fd, &st) != 0)
		return fail(err, path, "look at the folder", errno);
	if (self != 0 && st.st_uid != self)
		return al_fail(err, ACCTLINK_BAD_STORE, path,
			"the folder belongs to user %lu, but this process "
			"runs as user %lu: chown it",
			(unsigned long)st.st_uid, (unsigned long)self);
	if ((st.st_mode & 022) != 0)
		return al_fail(err, ACCTLINK_BAD_STORE, path,
			"other users may write in the folder (mode %04o): "
			"chmod 700 it",
			(unsigned)(st.st_mode & 07777));
	return ACCTLINK_OK;
}

al_rc al_folder_open(const char *path, int *fd, acctlink_error *err)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int folder = open(path, flags);
	bool made = false;
	al_rc rc;

	if (folder < 0 && errno == ENOENT) {
		made = mkdir(path, 0700) == 0;
		if (!made && errno != EEXIST)
			return fail(err, path, "make the folder", errno);
		folder = open(path, flags);
	}
	if (folder < 0)
		return fail(err, path, "open the folder", errno);
	if (made && finish_folder(folder) != 0)
		rc = fail(err, path, "set owner and mode of the folder", errno);
	else
		rc = check_folder(folder, path, err);
	if (rc != ACCTLINK_OK) {
		(void)close(folder);
		return rc;
	}
	*fd = folder;
	return ACCTLINK_OK;
}

al_rc al_file_make(int folder, const char *name, const char *path, int *fd, acctlink_error *err)
{
	int file = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int cause;

	if (file < 0)
		return fail(err, path, "make the file", errno);
	if (fchmod(file, 0600) == 0 && give_to_owner(file, folder) == 0) {
		*fd = file;
		return ACCTLINK_OK;
	}
	cause = errno;
	(void)unlinkat(folder, name, 0);
	(void)close(file);
	return fail(err, path, "set owner and mode of the file", cause);
}

/* The file is made under another name and closed before it can be seen. */
static al_rc make_if_missing(int folder, const char *name, const char *path, acctlink_error *err)
{
	char new_name[48] = ".new-";
	struct stat st;
	al_rc rc;
	int fd;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return ACCTLINK_OK;
	if (errno != ENOENT)
		return fail(err, path, "look at the file", errno);
	rc = al_random_text(new_name + 5, sizeof(new_name) - 5, 16, err);
	if (rc == ACCTLINK_OK)
		rc = al_file_make(folder, new_name, path, &fd, err);
	if (rc != ACCTLINK_OK)
		return rc;
	(void)close(fd);
	if (linkat(folder, new_name, folder, name, 0) != 0 && errno != EEXIST)
		rc = fail(err, path, "make the file", errno);
	if (unlinkat(folder, new_name, 0) != 0 && rc == ACCTLINK_OK)
		rc = fail(err, path, "make the file", errno);
	return rc;
}

static al_rc resolve(const char *folder, const char *name, char **real, acctlink_error *err)
{
	char *base = realpath(folder, NULL);
	size_t size;

	if (base == NULL)
		return fail(err, folder, "resolve the folder's name", errno);
	size = strlen(base) + strlen(name) + 2;
	*real = al_new(size);
	if (*real != NULL)
		(void)snprintf(*real, size, "%s/%s", strcmp(base, "/") == 0 ? "" : base, name);
	free(base);
	return *real == NULL ? al_fail_memory(err) : ACCTLINK_OK;
}

al_rc al_store_file_make(const char *path, char **real, acctlink_error *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;
	char *folder;
	al_rc rc;
	int fd;

	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return al_fail(err, ACCTLINK_BAD_STORE, path, "the store's path must name a file");
	folder = al_path_folder(path);
	if (folder == NULL)
		return al_fail_memory(err);
	rc = al_folder_open(folder, &fd, err);
	if (rc == ACCTLINK_OK) {
		rc = make_if_missing(fd, name, path, err);
		(void)close(fd);
	}
	if (rc == ACCTLINK_OK)
		rc = resolve(folder, name, real, err);
	al_free_text(&folder);
	return rc;
}

static al_rc expected_owner(const char *real, uid_t *owner, acctlink_error *err)
{
	struct stat st;
	char *folder;
	al_rc rc = ACCTLINK_OK;

	*owner = geteuid();
	if (*owner != 0)
		return ACCTLINK_OK;
	folder = al_path_folder(real);
	if (folder == NULL)
		return al_fail_memory(err);
	if (stat(folder, &st) == 0)
		*owner = st.st_uid;
	else
		rc = al_fail(err, ACCTLINK_STORE_DOWN, folder, "can't look at the folder: %s", strerror(errno));
	al_free_text(&folder);
	return rc;
}

al_rc al_store_file_check(const char *real, struct stat *st, acctlink_error *err)
{
	uid_t owner;
	al_rc rc = expected_owner(real, &owner, err);

	if (rc != ACCTLINK_OK)
		return rc;
	if (lstat(real, st) != 0)
		return al_fail(err, ACCTLINK_STORE_DOWN, real, "can't look at the store %s: %s", real, strerror(errno));
	if (!S_ISREG(st->st_mode))
		return al_fail(err, ACCTLINK_BAD_STORE, real, "the store %s is a %s: name the file itself", real,
			S_ISLNK(st->st_mode)           ? "symbolic link"
				: S_ISDIR(st->st_mode) ? "folder"
						       : "special file");
	if (st->st_uid != owner)
		return al_fail(err, ACCTLINK_BAD_STORE, real,
			"the store %s belongs to user %lu, it must be user %lu: "
			"chown it",
			real, (unsigned long)st->st_uid, (unsigned long)owner);
	if ((st->st_mode & 077) != 0)
		return al_fail(err, ACCTLINK_BAD_STORE, real,
			"other users may open the store %s (mode %04o): chmod 600 it", real,
			(unsigned)(st->st_mode & 07777));
	/* SQLite takes such a stump for a new database. */
	if (st->st_size > 0 && st->st_size < 512)
		return al_fail(
			err, ACCTLINK_BAD_STORE, real, "the store %s was cut off: restore it from a backup", real);
	return ACCTLINK_OK;
}
