/* SPDX-License-Identifier: MIT
 * Makes files and folders with the right owner and mode from the start, and
 * takes them all away again if one can't be made.
 */
#ifndef ACCTLINKCTL_MAKING_H
#define ACCTLINKCTL_MAKING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/base.h"

#define MAKING_MAX 64

struct making {
	acctlink_error *err; /* filled by what fails */
	uid_t uid;           /* whose it will be */
	gid_t gid;
	char *made[MAKING_MAX]; /* in order; a folder's path ends in '/' */
	size_t count;
};

/* With the folders on the way to it, which are everyone's to pass and belong to who
 * calls. What is there stays as it is. give: it goes to the owner. */
acctlink_status making_folders(struct making *making, const char *path, mode_t mode, bool give);
/* A new file of the owner with this text; an error if there is one. */
acctlink_status making_file(struct making *making, const char *path, mode_t mode, const char *text, size_t len);
/* Keeps what was made, or removes it. */
void making_end(struct making *making, bool remove_it);

#endif
