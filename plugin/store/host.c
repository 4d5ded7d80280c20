/* SPDX-License-Identifier: MIT
 * Who owns a claim, and whether the owner still lives. An owner keeps an OFD
 * lock on a file of its own beside the store; the kernel drops it when the
 * process ends, however that happens. A child that goes on after a fork holds
 * the lock, too: then the dead owner is only noticed when its lease ends.
 */
#include "store/store_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MACHINE_LEN 32 /* hex digits */
#define BOOT_LEN 36    /* a UUID */

struct al_owner {
	char id[AL_ID_LEN + 1];
	char host[MACHINE_LEN + 1 + BOOT_LEN + 1]; /* machine id or "none", ':', boot id */
	int folder;
	int file;
	pid_t pid;
};

/* The first len bytes of a small file, false if it has less. */
static bool read_start(const char *path, char *to, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t at = 0;

	if (fd < 0)
		return false;
	while (at < len) {
		ssize_t got = read(fd, to + at, len - at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		at += (size_t)got;
	}
	(void)close(fd);
	to[at] = '\0';
	return at == len;
}

static al_rc name_host(char *to, size_t cap, acctlink_error *err)
{
	static const char boot_path[] = "/proc/sys/kernel/random/boot_id";
	char machine[MACHINE_LEN + 1];
	char boot[BOOT_LEN + 1];

	if (!read_start("/etc/machine-id", machine, MACHINE_LEN) || strspn(machine, "0123456789abcdef") != MACHINE_LEN)
		(void)snprintf(machine, sizeof(machine), "none");
	if (!read_start(boot_path, boot, BOOT_LEN) || strspn(boot, "0123456789abcdef-") != BOOT_LEN)
		return al_fail(err, ACCTLINK_STORE_DOWN, boot_path,
			"the kernel's boot id can't be read, without which no "
			"refresh can be claimed: mount /proc");
	(void)snprintf(to, cap, "%s:%s", machine, boot);
	return ACCTLINK_OK;
}

/* 0, or -1 with errno: EAGAIN if another holds it. */
static int lock_file(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* True if the file of this id is gone, or nobody holds it: then it is removed
 * while we hold it, so that nobody can take it in between. */
static bool remove_if_dead(int folder, const char *id)
{
	int fd = openat(folder, id, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool dead;

	if (fd < 0)
		return errno == ENOENT;
	dead = lock_file(fd) == 0;
	if (dead)
		(void)unlinkat(folder, id, 0);
	(void)close(fd);
	return dead;
}

/* Files of owners that were killed would pile up. */
static void sweep(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (list == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	while ((entry = readdir(list)) != NULL) {
		if (al_store_id_valid(entry->d_name))
			(void)remove_if_dead(folder, entry->d_name);
	}
	(void)closedir(list);
}

/* CONFLICT: a sweep by another process came between making and locking. */
static al_rc make_file(struct al_owner *owner, const char *path, acctlink_error *err)
{
	unsigned char raw[AL_ID_LEN / 2];
	struct stat st;
	al_rc rc = al_random(raw, sizeof(raw), err);

	if (rc != ACCTLINK_OK)
		return rc;
	al_hex(owner->id, raw, sizeof(raw));
	rc = al_file_make(owner->folder, owner->id, path, &owner->file, err);
	if (rc != ACCTLINK_OK)
		return rc;
	if (lock_file(owner->file) == 0 && fstat(owner->file, &st) == 0 && st.st_nlink == 1)
		return ACCTLINK_OK;
	(void)unlinkat(owner->folder, owner->id, 0);
	(void)close(owner->file);
	owner->file = -1;
	return AL_CONFLICT;
}

static al_rc open_folder(struct al_owner *owner, const char *store_path, char **path, acctlink_error *err)
{
	char *folder = al_path_folder(store_path);
	size_t size;
	al_rc rc;

	if (folder == NULL)
		return al_fail_memory(err);
	size = strlen(folder) + sizeof("/owners");
	*path = al_new(size);
	if (*path != NULL)
		(void)snprintf(*path, size, "%s/owners", folder);
	rc = *path == NULL ? al_fail_memory(err) : al_folder_open(*path, &owner->folder, err);
	al_free_text(&folder);
	return rc;
}

al_rc al_owner_new(const char *store_path, struct al_owner **out, acctlink_error *err)
{
	struct al_owner *owner = al_new(sizeof(*owner));
	char *path = NULL;
	al_rc rc;

	if (owner == NULL)
		return al_fail_memory(err);
	owner->folder = -1;
	owner->file = -1;
	owner->pid = getpid();
	rc = name_host(owner->host, sizeof(owner->host), err);
	if (rc == ACCTLINK_OK)
		rc = open_folder(owner, store_path, &path, err);
	if (rc == ACCTLINK_OK) {
		sweep(owner->folder);
		rc = AL_CONFLICT;
	}
	for (int tries = 0; rc == AL_CONFLICT && tries < 8; tries++)
		rc = make_file(owner, path, err);
	if (rc == AL_CONFLICT)
		rc = al_fail(err, ACCTLINK_STORE_DOWN, path,
			"can't lock a file in this folder: it must be on a local "
			"file system");
	al_free_text(&path);
	if (rc != ACCTLINK_OK) {
		al_owner_free(&owner);
		return rc;
	}
	*out = owner;
	return ACCTLINK_OK;
}

void al_owner_free(struct al_owner **owner)
{
	struct al_owner *o = *owner;

	*owner = NULL;
	if (o == NULL)
		return;
	/* A child must not remove what is still its parent's. */
	if (o->file >= 0 && o->pid == getpid())
		(void)unlinkat(o->folder, o->id, 0);
	if (o->file >= 0)
		(void)close(o->file);
	if (o->folder >= 0)
		(void)close(o->folder);
	free(o);
}

const char *al_owner_id(const struct al_owner *owner)
{
	return owner->id;
}

const char *al_owner_host(const struct al_owner *owner)
{
	return owner->host;
}

/* The same machine after a reboot. Machines without an id can't be told apart. */
static bool is_earlier_boot(const char *self, const char *other)
{
	const char *colon = strchr(self, ':');
	size_t len = (size_t)(colon - self) + 1;

	return len == MACHINE_LEN + 1 && strncmp(self, other, len) == 0 && strlen(other) == len + BOOT_LEN;
}

bool al_owner_is_dead(const struct al_owner *self, const char *id, const struct al_buf *host)
{
	const char *other = al_buf_text(host);
	struct stat st;

	if (!al_store_id_valid(id) || strcmp(id, self->id) == 0)
		return false;
	if (strcmp(other, self->host) != 0)
		return is_earlier_boot(self->host, other);
	/* If our own file is gone, somebody cleared the folder and theirs proves nothing. */
	return fstatat(self->folder, self->id, &st, AT_SYMLINK_NOFOLLOW) == 0 && remove_if_dead(self->folder, id);
}
