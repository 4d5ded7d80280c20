/* SPDX-License-Identifier: MIT
 * acctlinkctl import: refresh tokens that another program kept become links. One
 * JSON object a line: user, refresh_token, and if need be institution, scope and
 * subject. A line that is bad or whose user is linked already is reported by its
 * number and stops nothing. Tokens are wiped as soon as they are sealed.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/operator.h"

enum { LINE_MAX_LEN = 2 * 1024 * 1024, PROGRESS_EVERY = 1000, HASH_LEN = 32, READ_SIZE = 65536 };

struct import {
	struct ctl *ctl;
	const char *provider;
	json_object *problems;
	int64_t line;
	int64_t imported;
	int64_t existing;
	int64_t failed;
	bool stopped;        /* the error is set */
	unsigned char *seen; /* SHA-256 of the tokens so far: one in two links would be spent twice */
	size_t seen_count;
	size_t seen_cap;
};

static void problem(struct import *import, const char *message)
{
	json_object *to = json_object_new_object();

	import->failed++;
	ctl_put_number(to, "line", import->line);
	ctl_put_text(to, "message", message);
	json_object_array_add(import->problems, to);
}

/* An open table: the hashes are their own hash values, an empty place is all zero. */
static unsigned char *place_of(struct import *import, const unsigned char *hash)
{
	static const unsigned char empty[HASH_LEN];
	size_t at = 0;
	size_t i;

	for (i = 0; i < sizeof(at); i++)
		at = at << 8 | hash[i];
	for (at %= import->seen_cap;; at = (at + 1) % import->seen_cap) {
		unsigned char *place = import->seen + at * HASH_LEN;

		if (memcmp(place, hash, HASH_LEN) == 0 || memcmp(place, empty, HASH_LEN) == 0)
			return place;
	}
}

/* Half of it stays empty. */
static bool grow(struct import *import)
{
	struct import bigger = { .seen_cap = import->seen_cap == 0 ? 1024 : import->seen_cap * 2 };
	size_t i;

	bigger.seen = calloc(bigger.seen_cap, HASH_LEN);
	if (bigger.seen == NULL)
		return false;
	for (i = 0; i < import->seen_cap; i++) {
		const unsigned char *hash = import->seen + i * HASH_LEN;

		memcpy(place_of(&bigger, hash), hash, HASH_LEN);
	}
	free(import->seen);
	import->seen = bigger.seen;
	import->seen_cap = bigger.seen_cap;
	return true;
}

/* False if it was seen before, or can't be remembered. */
static bool is_first(struct import *import, const struct al_buf *token)
{
	unsigned char hash[HASH_LEN];
	unsigned char *place;

	if (al_sha256(al_buf_text(token), token->len, hash, NULL) != ACCTLINK_OK
		|| (import->seen_count * 2 >= import->seen_cap && !grow(import)))
		return false;
	place = place_of(import, hash);
	if (memcmp(place, hash, HASH_LEN) == 0)
		return false;
	memcpy(place, hash, HASH_LEN);
	import->seen_count++;
	return true;
}

static void stop(struct import *import, al_rc rc, const acctlink_error *err)
{
	import->stopped = true;
	import->ctl->err = *err;
	import->ctl->exit_code = ctl_exit_of(rc);
}

/* ---- one line -------------------------------------------------------------------- */

static acctlink_str member(json_object *object, const char *name)
{
	json_object *value = NULL;
	acctlink_str text = { NULL, 0 };

	if (json_object_object_get_ex(object, name, &value) && json_object_is_type(value, json_type_string)) {
		text.data = json_object_get_string(value);
		text.len = (size_t)json_object_get_string_len(value);
	}
	return text;
}

/* A misspelt member would be lost without a word. */
static const char *check_members(json_object *object)
{
	static const char *const known[] = { "user", "refresh_token", "institution", "scope", "subject" };
	size_t i;

	json_object_object_foreach(object, name, value)
	{
		for (i = 0; i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], name) != 0; i++)
			continue;
		if (i == sizeof(known) / sizeof(known[0]))
			return "it has a member that is not known (user, refresh_token, institution, scope, subject)";
		if (!json_object_is_type(value, json_type_string))
			return "a member is not a string";
	}
	return NULL;
}

/* json-c keeps the token in an ordinary string. */
static void wipe_token(json_object *object)
{
	const acctlink_str token = member(object, "refresh_token");

	if (token.data != NULL)
		explicit_bzero((char *)(uintptr_t)token.data, token.len);
}

static void import_object(struct import *import, json_object *object)
{
	struct al_import link = { .user = member(object, "user"),
		.institution = member(object, "institution"),
		.scope = member(object, "scope"),
		.subject = member(object, "subject") };
	const acctlink_str token = member(object, "refresh_token");
	const char *wrong = check_members(object);
	char link_id[AL_ID_LEN + 1];
	acctlink_error err = { 0 };
	al_rc rc;

	al_buf_init(&link.refresh_token, AL_TOKEN_MAX);
	if (wrong != NULL || !al_buf_set(&link.refresh_token, token.data, token.len)) {
		problem(import, wrong != NULL ? wrong : "refresh_token is too long");
	} else if (token.len > 0 && !is_first(import, &link.refresh_token)) {
		problem(import, "an earlier line has the same refresh_token");
	} else {
		rc = al_operator_import(import->ctl->handle, import->provider, &link, link_id, &err);
		if (rc == ACCTLINK_OK)
			import->imported++;
		else if (rc == AL_CONFLICT)
			import->existing++;
		else
			problem(import, err.message);
		/* What no other line could do better: the store, the key. */
		if (rc >= ACCTLINK_TIMED_OUT)
			stop(import, rc, &err);
	}
	al_buf_clear(&link.refresh_token);
}

/* One object and nothing behind it. */
static json_object *parse(const char *line, size_t len)
{
	struct json_tokener *tokener = json_tokener_new();
	json_object *object = NULL;
	size_t end;

	if (tokener == NULL)
		return NULL;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	object = json_tokener_parse_ex(tokener, line, (int)len + 1); /* with the NUL, which ends it */
	end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	if (object != NULL && end < len && line[end + strspn(line + end, " \t\r")] != '\0') {
		json_object_put(object);
		object = NULL;
	}
	return object;
}

static void import_line(struct import *import, const char *line, size_t len)
{
	json_object *object = memchr(line, '\0', len) == NULL ? parse(line, len) : NULL;

	if (!json_object_is_type(object, json_type_object)) {
		problem(import, "it is not one JSON object");
	} else {
		import_object(import, object);
		wipe_token(object);
	}
	json_object_put(object);
}

/* ---- the file ----------------------------------------------------------------------- */

static void show_progress(const struct import *import, bool last)
{
	if (!last && import->line % PROGRESS_EVERY != 0)
		return;
	fprintf(stderr, "acctlinkctl: %lld lines: %lld imported, %lld there already, %lld failed\n",
		(long long)import->line, (long long)import->imported, (long long)import->existing,
		(long long)import->failed);
}

/* getline may leave copies behind as it grows, so the room is taken at once. False:
 * the end. *len is LINE_MAX_LEN for a line that is too long, whose rest is skipped. */
static bool read_line(FILE *from, char *line, size_t *len)
{
	int byte = getc(from);

	*len = 0;
	if (byte == EOF)
		return false;
	for (; byte != EOF && byte != '\n'; byte = getc(from)) {
		if (*len < LINE_MAX_LEN)
			line[(*len)++] = (char)byte;
	}
	return true;
}

static void take_line(struct import *import, char *line, size_t len)
{
	import->line++;
	if (len == LINE_MAX_LEN) {
		problem(import, "it is longer than 2 MiB");
		return;
	}
	line[len] = '\0';
	if (len > 0 && strspn(line, " \t\r") < len)
		import_line(import, line, len);
}

static bool import_lines(struct import *import, FILE *from)
{
	char *line = malloc(LINE_MAX_LEN + 1);
	size_t len;

	if (line == NULL) {
		ctl_fail(import->ctl, CTL_FAULT, "out of memory");
		return false;
	}
	while (!import->stopped && read_line(from, line, &len)) {
		take_line(import, line, len);
		show_progress(import, false);
	}
	explicit_bzero(line, LINE_MAX_LEN + 1);
	free(line);
	if (!import->stopped && ferror(from)) {
		ctl_fail(import->ctl, CTL_USAGE, "the file can't be read: %s", strerror(errno));
		return false;
	}
	return !import->stopped;
}

/* NULL: the error is set. A file of refresh tokens that others can read is not taken. */
static FILE *open_file(struct ctl *ctl, const char *path)
{
	struct stat st;
	FILE *file = NULL;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) != 0)
		ctl_fail(ctl, CTL_USAGE, "%s: %s", path, strerror(errno));
	else if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
		ctl_fail(ctl, CTL_USAGE, "%s holds secrets and others may open it: chmod 600 it", path);
	else if ((file = fdopen(fd, "r")) == NULL)
		ctl_fail(ctl, CTL_FAULT, "%s: %s", path, strerror(errno));
	if (file == NULL && fd >= 0)
		close(fd);
	return file;
}

static void run(struct import *import, FILE *from)
{
	struct ctl *ctl = import->ctl;
	char *buffer = malloc(READ_SIZE); /* stdio's own would not be wiped */
	bool good;

	if (buffer == NULL || setvbuf(from, buffer, _IOFBF, READ_SIZE) != 0) {
		ctl_fail(ctl, CTL_FAULT, "out of memory");
		free(buffer);
		return;
	}
	good = import_lines(import, from);
	setvbuf(from, NULL, _IONBF, 0);
	explicit_bzero(buffer, READ_SIZE);
	free(buffer);
	show_progress(import, true);
	ctl_put_number(ctl->out, "imported", import->imported);
	ctl_put_number(ctl->out, "existing", import->existing);
	ctl_put_number(ctl->out, "failed", import->failed);
	if (good && import->failed > 0)
		ctl->exit_code = CTL_PARTLY;
}

void ctl_import(struct ctl *ctl, char **args, int count)
{
	struct import import = { .ctl = ctl, .provider = args[0], .problems = json_object_new_array() };
	const bool from_stdin = count < 2 || strcmp(args[1], "-") == 0;
	FILE *from = from_stdin ? stdin : open_file(ctl, args[1]);

	json_object_object_add(ctl->out, "problems", import.problems);
	if (from != NULL && ctl_open(ctl)) {
		struct al_config *config = al_operator_config(ctl->handle);

		if (al_config_provider(config, import.provider) == NULL)
			ctl_fail(ctl, CTL_USAGE, "no provider '%s' is in %s", import.provider, ctl->config_path);
		else
			run(&import, from);
		al_config_free(&config);
	}
	if (from != NULL && !from_stdin)
		fclose(from);
	free(import.seen);
}
