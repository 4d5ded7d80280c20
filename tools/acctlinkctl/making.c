/* SPDX-License-Identifier: MIT
 * Makes files and folders for acctlinkctl init: never over what is there, never
 * readable by others before they should be, whatever the umask. One thread.
 */
#include "making.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static acctlink_status fail(struct making *making, const char *path, const char *doing)
{
	return al_fail(making->err, ACCTLINK_BAD_CONFIG, path, "can't %s: %s", doing, strerror(errno));
}

/* Before it is used: what was made can always be removed. */
static acctlink_status note_made(struct making *making, const char *path, bool folder)
{
	char *note = NULL;

	if (making->count < MAKING_MAX && asprintf(&note, "%s%s", path, folder ? "/" : "") >= 0) {
		making->made[making->count++] = note;
		return ACCTLINK_OK;
	}
	(void)(folder ? rmdir(path) : unlink(path));
	return al_fail_memory(making->err);
}

void making_end(struct making *making, bool remove_it)
{
	while (making->count > 0) {
		char *path = making->made[--making->count];
		const bool folder = path[strlen(path) - 1] == '/';

		if (remove_it && (folder ? rmdir(path) : unlink(path)) != 0)
			fprintf(stderr, "acctlinkctl: %s was made and can't be removed: %s\n", path, strerror(errno));
		free(path);
	}
}

/* The entry of a file or folder is on disk only once the folder above it is. */
static acctlink_status sync_above(struct making *making, const char *path)
{
	char above[PATH_MAX];
	size_t len = strlen(path);
	acctlink_status status = ACCTLINK_OK;
	int fd;

	while (len > 0 && path[len - 1] == '/')
		len--;
	while (len > 0 && path[len - 1] != '/')
		len--;
	snprintf(above, sizeof(above), "%.*s", len > 0 ? (int)len : 1, len > 0 ? path : ".");
	fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		status = fail(making, above, "sync the folder");
	if (fd >= 0)
		close(fd);
	return status;
}

/* Born closed to others, hence opened up, if at all, once all is in it. */
static acctlink_status finish(struct making *making, int fd, const char *path, mode_t mode, bool give)
{
	if (give && (making->uid != geteuid() || making->gid != getegid()) && fchown(fd, making->uid, making->gid) != 0)
		return fail(making, path, "give it to its owner");
	if (fchmod(fd, mode) != 0 || fsync(fd) != 0)
		return fail(making, path, "finish it");
	return sync_above(making, path);
}

static acctlink_status make_folder(struct making *making, const char *path, mode_t mode, bool give)
{
	acctlink_status status;
	int fd;

	if (mkdir(path, 0700) != 0)
		return fail(making, path, "make the folder");
	status = note_made(making, path, true);
	if (status != ACCTLINK_OK)
		return status;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail(making, path, "open the folder");
	status = finish(making, fd, path, mode, give);
	close(fd);
	return status;
}

/* The folders on the way are everyone's to pass, and stay with who calls. */
acctlink_status making_folders(struct making *making, const char *path, mode_t mode, bool give)
{
	acctlink_status status = ACCTLINK_OK;
	char part[PATH_MAX];
	struct stat st;
	size_t len = 0;
	size_t last = strlen(path);

	while (last > 0 && path[last - 1] == '/')
		last--;
	while (status == ACCTLINK_OK && len < last) {
		len += strspn(path + len, "/");
		len += strcspn(path + len, "/");
		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		if (stat(part, &st) == 0)
			continue;
		if (errno != ENOENT)
			return fail(making, part, "look at it");
		status = make_folder(making, part, len >= last ? mode : 0755, give && len >= last);
	}
	return status;
}

static acctlink_status write_all(struct making *making, int fd, const char *path, const char *text, size_t len)
{
	while (len > 0) {
		const ssize_t put = write(fd, text, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return fail(making, path, "write it");
		text += put;
		len -= (size_t)put;
	}
	return ACCTLINK_OK;
}

acctlink_status making_file(struct making *making, const char *path, mode_t mode, const char *text, size_t len)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	acctlink_status status;

	if (fd < 0)
		return fail(making, path, "make it");
	status = note_made(making, path, false);
	if (status == ACCTLINK_OK)
		status = write_all(making, fd, path, text, len);
	if (status == ACCTLINK_OK)
		status = finish(making, fd, path, mode, true);
	if (close(fd) != 0 && status == ACCTLINK_OK)
		status = fail(making, path, "close it");
	return status;
}
