/* SPDX-License-Identifier: MIT
 * Reads the config file and what it includes into one text for libconfig, and
 * remembers where each line came from. libconfig itself would look for
 * includes in the working directory, wrap large integers silently and take a
 * forgotten quote for a text of many lines, so all three are dealt with here.
 */
#include "config/config_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 1024 * 1024 };

/* One file on its way into the text; its parents are those that include it. */
struct scan {
	struct al_source *source;
	const struct scan *parent;
	unsigned file;
	const char *text; /* ended by NUL */
	size_t len;
	size_t at;
	size_t copied; /* what is before is in the source's text */
	unsigned line;
	bool fresh; /* nothing but white space and comments on this line yet */
	acctlink_error *err;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '*';
}

al_rc al_file_open(const char *path, const char *where, int *fd, struct stat *info, acctlink_error *err)
{
	/* NONBLOCK: a FIFO must not hold init up. */
	int opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (opened < 0)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "can't read %s: %s", path, strerror(errno));
	if (fstat(opened, info) != 0 || !S_ISREG(info->st_mode)) {
		(void)close(opened);
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "%s is not a regular file", path);
	}
	*fd = opened;
	return ACCTLINK_OK;
}

al_rc al_file_read(const char *path, const char *where, struct al_buf *to, struct stat *info, acctlink_error *err)
{
	char piece[4096];
	ssize_t got;
	int fd;
	al_rc rc = al_file_open(path, where, &fd, info, err);

	if (rc != ACCTLINK_OK)
		return rc;
	while ((got = read(fd, piece, sizeof(piece))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = al_fail(err, ACCTLINK_BAD_CONFIG, where, "can't read %s: %s", path, strerror(errno));
			break;
		}
		if ((size_t)got > to->max - to->len) {
			rc = al_fail(err, ACCTLINK_BAD_CONFIG, where, "%s is larger than %zu bytes", path, to->max);
			break;
		}
		if (!al_buf_put(to, piece, (size_t)got)) {
			rc = al_fail_memory(err);
			break;
		}
	}
	al_wipe(piece, sizeof(piece));
	(void)close(fd);
	return rc;
}

char *al_path_beside(const char *file, const char *path)
{
	const char *slash = strrchr(file, '/');
	size_t folder = slash == NULL ? 0 : (size_t)(slash - file) + 1;
	size_t size = folder + strlen(path) + 1;
	char *joined;

	if (path[0] == '/')
		return al_dup(path);
	joined = al_new(size);
	if (joined != NULL)
		(void)snprintf(joined, size, "%.*s%s", (int)folder, file, path);
	return joined;
}

/* A host may change its working directory before the next reload. */
static al_rc make_absolute(const char *path, char **out, acctlink_error *err)
{
	char here[PATH_MAX + 1] = "";
	size_t len;

	if (path[0] != '/' && getcwd(here, sizeof(here) - 1) == NULL)
		return al_fail(err, ACCTLINK_BAD_CONFIG, path,
			"the working directory is unknown (%s): give the config's "
			"absolute path",
			strerror(errno));
	len = strlen(here);
	if (len > 1) { /* not "/" itself */
		here[len] = '/';
		here[len + 1] = '\0';
	}
	*out = al_path_beside(here, path);
	return *out == NULL ? al_fail_memory(err) : ACCTLINK_OK;
}

void al_where(char *to, size_t cap, const char *path, unsigned line)
{
	size_t room = cap - sizeof(":4294967295");
	size_t len = strlen(path);

	(void)snprintf(to, cap, "%s:%u", len > room ? path + (len - room) : path, line);
}

static al_rc fault(const struct scan *f, const char *message)
{
	char where[sizeof(f->err->where)];

	al_where(where, sizeof(where), f->source->files[f->file].path, f->line);
	return al_fail(f->err, ACCTLINK_BAD_CONFIG, where, "%s", message);
}

static void begin_span(const struct scan *f)
{
	struct al_source_span *span = &f->source->spans[f->source->span_count++];

	span->line = f->source->line;
	span->file = f->file;
	span->file_line = f->line;
}

static al_rc put(const struct scan *f, const char *text, size_t len)
{
	struct al_source *s = f->source;

	for (size_t i = 0; i < len; i++)
		s->line += text[i] == '\n';
	if (len > s->text.max - s->text.len)
		return fault(f, "the config is larger than 1 MiB");
	return al_buf_put(&s->text, text, len) ? ACCTLINK_OK : al_fail_memory(f->err);
}

/* Puts what was scanned into the text. */
static al_rc flush(struct scan *f)
{
	al_rc rc = put(f, f->text + f->copied, f->at - f->copied);

	f->copied = f->at;
	return rc;
}

static al_rc skip_block_comment(struct scan *f)
{
	const char *end = strstr(f->text + f->at + 2, "*/");

	if (end == NULL)
		return fault(f, "the comment that begins here has no end: */ is missing");
	for (; f->text + f->at < end + 2; f->at++)
		if (f->text[f->at] == '\n') {
			f->line++;
			f->fresh = true;
		}
	return ACCTLINK_OK;
}

static al_rc skip_string(struct scan *f)
{
	size_t at = f->at + 1;

	if (f->source->last == '\0' || strchr("=:,([\"", f->source->last) == NULL)
		return fault(f, "text in quotes can't stand here: is a \"=\" missing before it?");
	while (at < f->len && f->text[at] != '"' && f->text[at] != '\n')
		at += f->text[at] == '\\' && f->text[at + 1] != '\n' ? 2 : 1;
	if (at >= f->len || f->text[at] != '"')
		return fault(f, "the text that begins on this line has no closing quote");
	f->at = at + 1;
	f->source->last = '"';
	return ACCTLINK_OK;
}

/* Decimal or hexadecimal digits, bounded; false if the value passes INT32_MAX. */
static bool read_digits(struct scan *f, const char *digits, unsigned base)
{
	uint64_t value = 0;
	const char *found;

	while (f->text[f->at] != '\0' && (found = strchr(digits, f->text[f->at])) != NULL) {
		unsigned digit = (unsigned)(found - digits);

		value = value * base + (digit >= 16 ? digit - 6 : digit);
		if (value > INT32_MAX)
			return false;
		f->at++;
	}
	return true;
}

/* libconfig 1.5 makes 705032704 of 5000000000 and -1 of 0xFFFFFFFF; what a
 * leading zero means differs between its versions. */
static al_rc check_number(struct scan *f)
{
	const char *number = f->text + f->at;
	size_t whole = strspn(number, "0123456789");
	bool fits;

	f->source->last = '0';
	if (number[whole] == '.' || number[whole] == 'e' || number[whole] == 'E') {
		f->at += whole + strspn(number + whole, "0123456789.eE+-");
		return is_letter(f->text[f->at]) ? fault(f, "this is neither a number nor text in quotes")
						 : ACCTLINK_OK;
	}
	if (number[0] == '0' && (number[1] == 'x' || number[1] == 'X')) {
		f->at += 2;
		fits = read_digits(f, "0123456789abcdefABCDEF", 16);
	} else {
		if (number[0] == '0' && whole > 1)
			return fault(f, "a number must not begin with a zero");
		fits = read_digits(f, "0123456789", 10);
	}
	if (!fits)
		return fault(f, "this number is too large: 2147483647 is the largest");
	f->at += strspn(f->text + f->at, "L");
	if (is_letter(f->text[f->at]))
		return fault(
			f, "a letter follows a number: write plain numbers (times in seconds), and text in quotes");
	return ACCTLINK_OK;
}

static al_rc read_one(struct al_source *source, const char *path, const struct scan *parent, acctlink_error *err);

/* The included text takes the directive's place; the rest of its line follows. */
static al_rc include(struct scan *f)
{
	static const char word[] = "@include";
	const char *at = f->text + f->at + sizeof(word) - 1;
	size_t len;
	char *name = NULL;
	char *path = NULL;
	al_rc rc;

	if (!f->fresh || strncmp(f->text + f->at, word, sizeof(word) - 1) != 0)
		return fault(f, "\"@\" only begins @include \"FILE\", on a line of its own");
	at += strspn(at, " \t");
	len = *at == '"' ? strcspn(at + 1, "\"\n") : 0;
	if (len == 0 || at[1 + len] != '"')
		return fault(f, "@include needs the name of a file in quotes");
	rc = flush(f);
	if (rc != ACCTLINK_OK)
		return rc;
	name = al_dup_len(at + 1, len);
	path = name == NULL ? NULL : al_path_beside(f->source->files[f->file].path, name);
	rc = path == NULL ? al_fail_memory(f->err) : read_one(f->source, path, f, f->err);
	al_free_text(&name);
	al_free_text(&path);
	if (rc == ACCTLINK_OK)
		rc = put(f, "\n", 1);
	if (rc != ACCTLINK_OK)
		return rc;
	f->at = f->copied = (size_t)(at + 1 + len + 1 - f->text);
	begin_span(f);
	return ACCTLINK_OK;
}

static al_rc scan_token(struct scan *f)
{
	const char *c = f->text + f->at;

	if (*c == '\n') {
		f->line++;
		f->fresh = true;
		f->at++;
	} else if (*c == ' ' || *c == '\t' || *c == '\r' || *c == '\f') {
		f->at++;
	} else if (*c == '#' || (c[0] == '/' && c[1] == '/')) {
		f->at += strcspn(c, "\n");
	} else if (c[0] == '/' && c[1] == '*') {
		return skip_block_comment(f);
	} else if (*c == '@') {
		return include(f);
	} else {
		f->fresh = false;
		if (*c == '"')
			return skip_string(f);
		if (is_digit(*c))
			return check_number(f);
		while (is_letter(*c)
			&& (is_letter(f->text[f->at + 1]) || is_digit(f->text[f->at + 1]) || f->text[f->at + 1] == '-'))
			f->at++;
		if (*c == '.') /* .5 */
			f->at += strspn(c + 1, "0123456789eE");
		f->source->last = *c;
		f->at++;
	}
	return ACCTLINK_OK;
}

/* NUL would end the text for libconfig; other bytes must be UTF-8. */
static al_rc check_bytes(struct scan *f)
{
	size_t at = 0;

	for (f->line = 1; at < f->len; f->line++) {
		const char *end = memchr(f->text + at, '\n', f->len - at);
		size_t len = end == NULL ? f->len - at : (size_t)(end - (f->text + at));

		if (!al_utf8_valid(f->text + at, len))
			return fault(f, "this line is not UTF-8 text");
		at += len + 1;
	}
	f->line = 1;
	return ACCTLINK_OK;
}

static al_rc scan_file(struct scan *f)
{
	al_rc rc = check_bytes(f);

	if (rc != ACCTLINK_OK)
		return rc;
	if (strncmp(f->text, "\xEF\xBB\xBF", 3) == 0) /* some editors' byte-order mark */
		f->at = f->copied = 3;
	begin_span(f);
	while (rc == ACCTLINK_OK && f->at < f->len)
		rc = scan_token(f);
	return rc == ACCTLINK_OK ? flush(f) : rc;
}

static al_rc add_file(struct scan *f, const char *path, const struct stat *info, const char *where)
{
	struct al_source *s = f->source;
	struct al_source_file *file = &s->files[s->file_count];

	for (const struct scan *p = f->parent; p != NULL; p = p->parent)
		if (s->files[p->file].device == info->st_dev && s->files[p->file].inode == info->st_ino)
			return al_fail(f->err, ACCTLINK_BAD_CONFIG, where, "%s includes itself", path);
	file->path = al_dup(path);
	if (file->path == NULL)
		return al_fail_memory(f->err);
	file->mode = info->st_mode;
	file->device = info->st_dev;
	file->inode = info->st_ino;
	f->file = s->file_count++;
	return ACCTLINK_OK;
}

static al_rc read_one(struct al_source *source, const char *path, const struct scan *parent, acctlink_error *err)
{
	struct scan f = { .source = source, .parent = parent, .line = 1, .fresh = true, .err = err };
	char where[sizeof(err->where)];
	struct al_buf text;
	struct stat info;
	unsigned depth = 0;
	al_rc rc;

	al_buf_init(&text, TEXT_MAX);
	(void)snprintf(where, sizeof(where), "%s", path);
	if (parent != NULL)
		al_where(where, sizeof(where), source->files[parent->file].path, parent->line);
	for (const struct scan *p = parent; p != NULL; p = p->parent)
		depth++;
	if (depth > AL_SOURCE_DEPTH)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "includes are nested deeper than %d", AL_SOURCE_DEPTH);
	if (source->file_count == AL_SOURCE_FILES)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "more than %d files are included", AL_SOURCE_FILES - 1);
	rc = al_file_read(path, where, &text, &info, err);
	if (rc == ACCTLINK_OK)
		rc = add_file(&f, path, &info, where);
	if (rc == ACCTLINK_OK) {
		f.text = al_buf_text(&text);
		f.len = text.len;
		rc = scan_file(&f);
	}
	al_buf_clear(&text);
	return rc;
}

al_rc al_source_read(struct al_source *source, const char *path, acctlink_error *err)
{
	char *start = NULL;
	al_rc rc;

	memset(source, 0, sizeof(*source));
	al_buf_init(&source->text, TEXT_MAX);
	source->line = 1;
	rc = make_absolute(path, &start, err);
	if (rc == ACCTLINK_OK)
		rc = read_one(source, start, NULL, err);
	al_free_text(&start);
	return rc;
}

void al_source_clear(struct al_source *source)
{
	for (unsigned i = 0; i < source->file_count; i++)
		al_free_text(&source->files[i].path);
	al_buf_clear(&source->text);
	memset(source, 0, sizeof(*source));
}

const struct al_source_file *al_source_find(const struct al_source *source, unsigned line, unsigned *file_line)
{
	const struct al_source_span *span = &source->spans[0];

	for (unsigned i = 0; i < source->span_count && source->spans[i].line <= line; i++)
		span = &source->spans[i];
	*file_line = line < span->line ? span->file_line : span->file_line + (line - span->line);
	return &source->files[span->file];
}
