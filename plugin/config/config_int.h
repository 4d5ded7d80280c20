/* SPDX-License-Identifier: MIT
 * What only the config room and its tests see: the text with its includes, the
 * table of keys, the decoders of one value each. All of it runs on the thread
 * that called al_config_load and keeps nothing afterwards.
 */
#ifndef AL_CONFIG_INT_H
#define AL_CONFIG_INT_H

#include <libconfig.h>
#include <sys/stat.h>

#include "config/config.h"

/* ---- source.c: all files as one text, and where each line came from ------- */
enum { AL_SOURCE_FILES = 64, AL_SOURCE_DEPTH = 8 };

struct al_source_file {
	char *path; /* absolute */
	mode_t mode;
	dev_t device;
	ino_t inode;
};
/* From this line of the text on, lines are those of `file`, from file_line on. */
struct al_source_span {
	unsigned line;
	unsigned file;
	unsigned file_line;
};
struct al_source {
	struct al_buf text;
	unsigned line; /* of the text's end, from 1 */
	char last;     /* the last character that was neither space nor comment */
	struct al_source_file files[AL_SOURCE_FILES];
	unsigned file_count;
	struct al_source_span spans[2 * AL_SOURCE_FILES];
	unsigned span_count;
};
/* Reads path and what it includes. Clear it whatever the result. */
al_rc al_source_read(struct al_source *source, const char *path, acctlink_error *err) AL_MUST_USE;
void al_source_clear(struct al_source *source);
/* The file of a line of the text, and the line in that file. */
const struct al_source_file *al_source_find(const struct al_source *source, unsigned line, unsigned *file_line);

/* A regular file, opened for reading; the error is at `where`. */
al_rc al_file_open(const char *path, const char *where, int *fd, struct stat *info, acctlink_error *err) AL_MUST_USE;
/* Appends the whole file, at most to->max bytes. */
al_rc al_file_read(
	const char *path, const char *where, struct al_buf *to, struct stat *info, acctlink_error *err) AL_MUST_USE;
/* file:line; of a path that is too long the end is kept. */
void al_where(char *to, size_t cap, const char *path, unsigned line);
/* path, or path from the folder that holds `file`. NULL: no memory. */
char *al_path_beside(const char *file, const char *path);

/* ---- config_keys.c: every key there is ------------------------------------- */
enum al_key_type {
	AL_KEY_SECTION, /* a group that config.c reads */
	AL_KEY_WORD,    /* a string that config.c reads */
	AL_KEY_TEXT,
	AL_KEY_PATH,
	AL_KEY_PATHS,
	AL_KEY_CA_FILE,
	AL_KEY_ISSUER,
	AL_KEY_ENDPOINT,
	AL_KEY_REDIRECTS,
	AL_KEY_SECRET,
	AL_KEY_SECRET_FILE,
	AL_KEY_CREDENTIAL,
	AL_KEY_SECONDS, /* kept in milliseconds */
	AL_KEY_COUNT,
	AL_KEY_BOOL,
	AL_KEY_CHOICE,
	AL_KEY_ALL_AUTHS, /* a choice for all three grants */
	AL_KEY_ALGS,
	AL_KEY_SCOPE,
	AL_KEY_PAIRS,
	AL_KEY_RULES
};
/* Where a key may stand. */
enum { AL_AT_TOP = 1, AL_AT_STORE = 2, AL_AT_PROVIDER = 4, AL_AT_PROFILE = 8, AL_AT_ENVIRONMENT = 16, AL_AT_RULE = 32 };
struct al_choice {
	const char *name; /* NULL ends */
	int value;
};
#define AL_NO_FIELD ((size_t)-1)
struct al_key {
	const char *name; /* NULL ends the table */
	unsigned places;
	enum al_key_type type;
	size_t offset;        /* into al_config, al_provider_config or al_definite_rule */
	const char *standard; /* the default as one would write it; NULL: none */
	int64_t min;          /* SECONDS: in milliseconds */
	int64_t max;
	const struct al_choice *choices;
	bool required;
};
extern const struct al_key al_config_keys[];
const struct al_key *al_key_find(unsigned places, const char *name);
/* The known name that is near to this one, or NULL. */
const char *al_key_nearest(unsigned places, const char *name);
/* Nearer than any before? Keeps it in *best, whose distance is *least. */
void al_key_nearer(const char *name, const char *known, const char **best, size_t *least);
size_t al_key_reach(const char *name);
const char *al_place_name(unsigned places);
/* The defaults as config text: one group per place. */
bool al_key_put_defaults(struct al_buf *to);

/* ---- profiles.c ------------------------------------------------------------- */
extern const char al_config_profiles[]; /* config text */

/* ---- values.c: one value each ----------------------------------------------- */
struct al_reader {
	const struct al_source *source; /* NULL while built-in text is read */
	const struct al_log *log;
	struct al_config *config;
	acctlink_error *err;
};
/* Where a setting stands, as file:line. */
void al_reader_where(const struct al_reader *r, const config_setting_t *at, char *to, size_t cap);
/* BAD_CONFIG at this setting. Never pass a secret. */
al_rc(al_refuse)(const struct al_reader *r, const config_setting_t *at, const char *fmt, ...) AL_PRINTF(3, 4);
/* Decodes one setting into base + key->offset, replacing what is there. */
al_rc al_value_take(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *base) AL_MUST_USE;
void al_value_clear(const struct al_key *key, void *base);
bool al_parameter_is_ours(const char *name);
al_rc al_wrong_type(
	const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char *wanted);
/* A text that is neither empty nor has control characters in it; the setting's own. */
al_rc al_value_text(
	const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char **text) AL_MUST_USE;
/* Replaces the text that `field` points at. */
al_rc al_value_path(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field) AL_MUST_USE;

/* ---- urls.c ------------------------------------------------------------------- */
/* What is wrong with a URL, in words, or NULL. */
enum { AL_URL_NO_QUERY = 1 };
const char *al_url_fault(const char *url, unsigned flags);

/* ---- secrets.c: decoders into an al_buf --------------------------------------- */
al_rc al_secret_text(
	struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field) AL_MUST_USE;
al_rc al_secret_file(
	struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field) AL_MUST_USE;
al_rc al_secret_credential(
	struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field) AL_MUST_USE;

/* ---- config.c ----------------------------------------------------------------- */
/* Unknown keys are errors; then every known key of the group is decoded. */
al_rc al_section_check(const struct al_reader *r, unsigned place, const config_setting_t *group) AL_MUST_USE;
al_rc al_section_take(struct al_reader *r, unsigned place, const config_setting_t *group, void *base) AL_MUST_USE;
al_rc al_section_require(
	const struct al_reader *r, unsigned place, const config_setting_t *group, const void *base) AL_MUST_USE;
void al_section_clear(unsigned place, void *base);

#endif
