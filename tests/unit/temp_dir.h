/* SPDX-License-Identifier: MIT
 * A folder for one test under $TMPDIR or /tmp, removed with all that is in it.
 */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { TEMP_DIR_MAX = 160 };

static inline bool make_temp_dir(char path[TEMP_DIR_MAX], const char *name)
{
	const char *base = getenv("TMPDIR");

	(void)snprintf(path, TEMP_DIR_MAX, "%.120s/%.30s.XXXXXX", base == NULL ? "/tmp" : base, name);
	return mkdtemp(path) != NULL;
}

static inline int remove_temp_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void remove_temp_dir(const char *path)
{
	(void)nftw(path, remove_temp_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
