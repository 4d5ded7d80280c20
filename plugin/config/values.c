/* SPDX-License-Identifier: MIT
 * Decodes one setting each, by the type that the table of keys gives it, with
 * the error at the setting's own line. Secrets go into al_buf and are never
 * part of a message.
 */
#include "config/config_int.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { SECRET_MAX = 4096 };

_Static_assert(sizeof(enum al_client_auth) == sizeof(int) && sizeof(enum al_bearer_kind) == sizeof(int)
	&& sizeof(enum al_response_mode) == sizeof(int) && sizeof(enum al_shared_subject) == sizeof(int)
	&& sizeof(int32_t) == sizeof(int), "choices are stored as int");

void al_reader_where(const struct al_reader *r, const config_setting_t *at, char *to, size_t cap)
{
	const struct al_source_file *file;
	unsigned line;

	if (r->source == NULL) {
		(void)snprintf(to, cap, "built-in profiles:%u", config_setting_source_line(at));
		return;
	}
	file = al_source_find(r->source, config_setting_source_line(at), &line);
	al_where(to, cap, file->path, line);
}

al_rc al_refuse(const struct al_reader *r, const config_setting_t *at, const char *fmt, ...)
{
	char where[sizeof(r->err->where)];
	char message[sizeof(r->err->message)];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	al_reader_where(r, at, where, sizeof(where));
	return al_fail(r->err, ACCTLINK_BAD_CONFIG, where, "%s", message);
}

/* ---- what a setting may be --------------------------------------------------- */

static const char *type_name(const config_setting_t *at)
{
	switch (config_setting_type(at)) {
	case CONFIG_TYPE_GROUP: return "a group in { }";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64: return "a whole number";
	case CONFIG_TYPE_FLOAT: return "a number with a fraction";
	case CONFIG_TYPE_STRING: return "text in quotes";
	case CONFIG_TYPE_BOOL: return "true or false";
	case CONFIG_TYPE_ARRAY: return "a list in [ ]";
	default: return "a list in ( )";
	}
}

static al_rc wrong_type(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *wanted)
{
	return al_refuse(r, at, "%s must be %s, not %s", key->name, wanted, type_name(at));
}

static bool is_list(const config_setting_t *at)
{
	return config_setting_is_array(at) || config_setting_is_list(at);
}

static bool is_whole(const config_setting_t *at)
{
	return config_setting_type(at) == CONFIG_TYPE_INT || config_setting_type(at) == CONFIG_TYPE_INT64;
}

/* No value of ours has control characters in it; a config gets them by an
 * escape, and they would end up in a URL or a header. */
static al_rc check_text(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *text)
{
	if (text[0] == '\0')
		return al_refuse(r, at, "%s must not be empty", key->name);
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return al_refuse(r, at, "%s must not have control characters in it", key->name);
	return ACCTLINK_OK;
}

static al_rc read_text(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char **text)
{
	if (config_setting_type(at) != CONFIG_TYPE_STRING)
		return wrong_type(r, key, at, "text in quotes");
	*text = config_setting_get_string(at);
	return check_text(r, key, at, *text);
}

static al_rc keep_text(const struct al_reader *r, char **field, char *copy)
{
	if (copy == NULL)
		return al_fail_memory(r->err);
	al_free_text(field);
	*field = copy;
	return ACCTLINK_OK;
}

/* A path starts from the folder of the file that it is written in, since a
 * daemon's working directory is "/". Built-in text has none. */
static char *path_of(const struct al_reader *r, const config_setting_t *at, const char *path)
{
	unsigned line;

	return al_path_beside(al_source_find(r->source, config_setting_source_line(at), &line)->path, path);
}

/* ---- URLs ---------------------------------------------------------------------- */

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool host_is_good(const char *host)
{
	struct in6_addr v6;
	char inner[64];
	size_t len = strlen(host);

	if (host[0] == '[' && len > 2 && len < sizeof(inner) && host[len - 1] == ']') {
		(void)snprintf(inner, sizeof(inner), "%.*s", (int)len - 2, host + 1);
		return inet_pton(AF_INET6, inner, &v6) == 1;
	}
	return len > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len;
}

static bool port_is_good(const char *port)
{
	size_t len = strspn(port, "0123456789");
	long number = len > 0 && len <= 5 ? strtol(port, NULL, 10) : 0;

	return port[len] == '\0' && number > 0 && number <= 65535;
}

/* host or host:port, split in place. */
static const char *authority_fault(char *authority, bool plain)
{
	char *end = authority[0] == '[' ? strchr(authority, ']') : authority;
	char *colon = end == NULL ? NULL : strchr(end, ':');

	if (strchr(authority, '@') != NULL)
		return "must not have a user name or password in it";
	if (colon != NULL) {
		*colon = '\0';
		if (!port_is_good(colon + 1))
			return "has no valid port";
	}
	if (!host_is_good(authority))
		return "has no valid host name";
	if (plain && !is_loopback(authority))
		return "must begin with https:// (http:// is for a loopback address only)";
	return NULL;
}

const char *al_url_fault(const char *url, unsigned flags)
{
	bool plain = strncmp(url, "http://", 7) == 0;
	const char *host = url + (plain ? 7 : 8);
	char authority[300];
	size_t len;

	if (!plain && strncmp(url, "https://", 8) != 0)
		return "must begin with https:// (http:// is for a loopback address only)";
	for (const char *c = url; *c != '\0'; c++)
		if (*c <= 0x20 || *c >= 0x7f || strchr("\"<>\\^`{|}", *c) != NULL)
			return "has a character in it that must be percent-encoded (RFC 3986)";
	if (strchr(url, '#') != NULL)
		return "must not have a fragment (#) in it";
	if ((flags & AL_URL_NO_QUERY) != 0 && strchr(url, '?') != NULL)
		return "must not have a query (?) in it";
	len = strcspn(host, "/?");
	if (len >= sizeof(authority))
		return "has no valid host name";
	(void)snprintf(authority, sizeof(authority), "%.*s", (int)len, host);
	return authority_fault(authority, plain);
}

/* ---- decoders -------------------------------------------------------------------- */

static al_rc take_text(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	al_rc rc = read_text(r, key, at, &text);

	return rc != ACCTLINK_OK ? rc : keep_text(r, field, al_dup(text));
}

static al_rc take_word(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;

	(void)field;
	return read_text(r, key, at, &text);
}

static al_rc take_section(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	(void)field;
	return config_setting_is_group(at) ? ACCTLINK_OK : wrong_type(r, key, at, "a group in { }");
}

static al_rc take_path(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	al_rc rc = read_text(r, key, at, &text);

	return rc != ACCTLINK_OK ? rc : keep_text(r, field, path_of(r, at, text));
}

/* Missing certificates should stop init, not the first user. */
static al_rc take_ca_file(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char where[sizeof(r->err->where)];
	struct stat info;
	int fd;
	al_rc rc = take_path(r, key, at, field);

	if (rc != ACCTLINK_OK)
		return rc;
	al_reader_where(r, at, where, sizeof(where));
	rc = al_file_open(*(char **)field, where, &fd, &info, r->err);
	if (rc == ACCTLINK_OK)
		(void)close(fd);
	return rc;
}

static al_rc take_issuer(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	const char *why;
	al_rc rc = read_text(r, key, at, &text);

	if (rc != ACCTLINK_OK)
		return rc;
	why = al_url_fault(text, AL_URL_NO_QUERY);
	return why != NULL ? al_refuse(r, at, "%s %s", key->name, why) : keep_text(r, field, al_dup(text));
}

/* "{issuer}/token" is completed and checked when the issuer is known. */
static al_rc take_endpoint(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	const char *why;
	al_rc rc = read_text(r, key, at, &text);

	if (rc != ACCTLINK_OK)
		return rc;
	why = strncmp(text, "{issuer}/", 9) == 0 ? NULL : al_url_fault(text, 0);
	return why != NULL ? al_refuse(r, at, "%s %s", key->name, why) : keep_text(r, field, al_dup(text));
}

static void free_texts(char ***texts)
{
	if (*texts == NULL)
		return;
	for (char **text = *texts; *text != NULL; text++)
		al_free_text(text);
	free(*texts);
	*texts = NULL;
}

/* One text or a list of them, as an array ended by NULL. */
static al_rc read_texts(const struct al_reader *r, const struct al_key *key, const config_setting_t *at, char ***out)
{
	unsigned count = is_list(at) ? (unsigned)config_setting_length(at) : 1;
	char **texts;
	al_rc rc = ACCTLINK_OK;

	if (!is_list(at) && config_setting_type(at) != CONFIG_TYPE_STRING)
		return wrong_type(r, key, at, "text in quotes, or a list of them");
	if (count == 0)
		return al_refuse(r, at, "%s must not be empty", key->name);
	texts = al_new((count + 1) * sizeof(*texts));
	if (texts == NULL)
		return al_fail_memory(r->err);
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		const config_setting_t *one = is_list(at) ? config_setting_get_elem(at, i) : at;
		const char *text;

		rc = read_text(r, key, one, &text);
		if (rc == ACCTLINK_OK)
			rc = keep_text(r, &texts[i], al_dup(text));
	}
	*out = texts;
	if (rc != ACCTLINK_OK)
		free_texts(out);
	return rc;
}

static al_rc take_paths(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char **texts = NULL;
	al_rc rc = read_texts(r, key, at, &texts);

	for (char **text = texts; rc == ACCTLINK_OK && *text != NULL; text++)
		rc = keep_text(r, text, path_of(r, at, *text));
	free_texts(field);
	*(char ***)field = texts;
	return rc;
}

static al_rc take_redirects(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char **texts = NULL;
	al_rc rc = read_texts(r, key, at, &texts);

	for (char **text = texts; rc == ACCTLINK_OK && *text != NULL; text++) {
		const char *why = al_url_fault(*text, 0);

		if (why != NULL)
			rc = al_refuse(r, at, "%s %s", key->name, why);
	}
	free_texts(field);
	*(char ***)field = texts;
	return rc;
}

/* RFC 6749, 3.3: words of printable ASCII without quote and backslash. */
static al_rc take_scope(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	struct al_buf joined;
	char **texts = NULL;
	al_rc rc = ACCTLINK_OK;

	al_buf_init(&joined, 4096);
	/* An empty scope says that none is sent. */
	if (config_setting_type(at) != CONFIG_TYPE_STRING || config_setting_get_string(at)[0] != '\0')
		rc = read_texts(r, key, at, &texts);
	for (char **text = texts; rc == ACCTLINK_OK && texts != NULL && *text != NULL; text++) {
		for (const char *c = *text; *c != '\0' && rc == ACCTLINK_OK; c++)
			if (*c < 0x20 || *c >= 0x7f || *c == '"' || *c == '\\')
				rc = al_refuse(r, at, "%s has a character in it that RFC 6749, 3.3 forbids", key->name);
		(void)al_buf_printf(&joined, "%s%s", joined.len > 0 ? " " : "", *text);
	}
	if (rc == ACCTLINK_OK && joined.failed)
		rc = al_refuse(r, at, "%s is longer than 4096 bytes", key->name);
	if (rc == ACCTLINK_OK)
		rc = keep_text(r, field, al_dup(al_buf_text(&joined)));
	free_texts(&texts);
	al_buf_clear(&joined);
	return rc;
}

static al_rc keep_secret(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *secret, size_t len, struct al_buf *field)
{
	if (len == 0)
		return al_refuse(r, at, "%s: the secret is empty", key->name);
	if (len > SECRET_MAX)
		return al_refuse(r, at, "%s: the secret is longer than %d bytes", key->name, SECRET_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)secret[i] < 0x20 || secret[i] == 0x7f)
			return al_refuse(r, at, "%s: the secret has a line break or control character in it", key->name);
	al_buf_clear(field);
	al_buf_init(field, SECRET_MAX);
	return al_buf_put(field, secret, len) ? ACCTLINK_OK : al_fail_memory(r->err);
}

static al_rc check_mode(const struct al_reader *r, const struct al_key *key, const config_setting_t *at,
	const char *path, mode_t mode)
{
	char where[sizeof(r->err->where)];
	unsigned bits = (unsigned)mode & 07777;

	if ((bits & 077) == 0)
		return ACCTLINK_OK;
	if (!r->config->allow_readable_secrets)
		return al_refuse(r, at, "%s: %s holds a secret and has mode %04o: chmod 600 it%s", key->name, path, bits,
			key->type == AL_KEY_SECRET ? ", or use client_secret_file" : "");
	al_reader_where(r, at, where, sizeof(where));
	al_log(r->log, ACCTLINK_LOG_WARNING, "%s: %s holds a secret and has mode %04o (allow_readable_secrets is set)",
		where, path, bits);
	return ACCTLINK_OK;
}

static al_rc take_secret(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const struct al_source_file *file;
	const char *secret;
	unsigned line;
	al_rc rc;

	if (config_setting_type(at) != CONFIG_TYPE_STRING)
		return wrong_type(r, key, at, "text in quotes");
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

static al_rc take_secret_file(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char *path = NULL;
	al_rc rc = take_path(r, key, at, &path);

	if (rc == ACCTLINK_OK)
		rc = read_secret_file(r, key, at, path, true, field);
	al_free_text(&path);
	return rc;
}

/* systemd's LoadCredential=. Its access is an ACL, which shows as group bits of
 * the mode, so the mode is not ours to judge. */
static al_rc take_credential(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	const char *name;
	char path[4096];
	int len;
	al_rc rc = read_text(r, key, at, &name);

	if (rc != ACCTLINK_OK)
		return rc;
	if (strchr(name, '/') != NULL || name[0] == '.')
		return al_refuse(r, at, "%s is a name, as in LoadCredential=NAME, not a path", key->name);
	if (folder == NULL || folder[0] != '/')
		return al_refuse(r, at, "%s: $CREDENTIALS_DIRECTORY is not set: start the host by systemd with "
			"LoadCredential=, or use client_secret_file", key->name);
	len = snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (len < 0 || (size_t)len >= sizeof(path))
		return al_refuse(r, at, "%s: the path of the credential is too long", key->name);
	return read_secret_file(r, key, at, path, false, field);
}

static al_rc take_seconds(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	double seconds;
	int64_t ms;

	if (!is_whole(at) && config_setting_type(at) != CONFIG_TYPE_FLOAT)
		return wrong_type(r, key, at, "a number of seconds");
	seconds = is_whole(at) ? (double)config_setting_get_int64(at) : config_setting_get_float(at);
	if (!(seconds * 1000 >= (double)key->min && seconds * 1000 <= (double)key->max))
		return al_refuse(r, at, "%s must be from %g to %.10g seconds, not %.10g", key->name,
			(double)key->min / 1000, (double)key->max / 1000, seconds);
	ms = (int64_t)(seconds * 1000 + 0.5);
	memcpy(field, &ms, sizeof(ms));
	return ACCTLINK_OK;
}

static al_rc take_count(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	long long number;
	int value;

	if (!is_whole(at))
		return wrong_type(r, key, at, "a whole number");
	number = config_setting_get_int64(at);
	if (number < key->min || number > key->max)
		return al_refuse(r, at, "%s must be from %lld to %lld, not %lld", key->name, (long long)key->min,
			(long long)key->max, number);
	value = (int)number;
	memcpy(field, &value, sizeof(value));
	return ACCTLINK_OK;
}

static al_rc take_bool(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	if (config_setting_type(at) != CONFIG_TYPE_BOOL)
		return wrong_type(r, key, at, "true or false");
	*(bool *)field = config_setting_get_bool(at) == CONFIG_TRUE;
	return ACCTLINK_OK;
}

static al_rc read_choice(const struct al_reader *r, const struct al_key *key, const config_setting_t *at, int *value)
{
	char known[256] = "";
	const char *text;
	al_rc rc = read_text(r, key, at, &text);

	if (rc != ACCTLINK_OK)
		return rc;
	for (const struct al_choice *c = key->choices; c->name != NULL; c++) {
		size_t len = strlen(known);

		if (strcmp(c->name, text) == 0) {
			*value = c->value;
			return ACCTLINK_OK;
		}
		(void)snprintf(known + len, sizeof(known) - len, "%s\"%s\"", len > 0 ? ", " : "", c->name);
	}
	return al_refuse(r, at, "%s must be one of %s, not \"%.64s\"", key->name, known, text);
}

static al_rc take_choice(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	int value;
	al_rc rc = read_choice(r, key, at, &value);

	if (rc == ACCTLINK_OK)
		memcpy(field, &value, sizeof(value));
	return rc;
}

static al_rc take_all_auths(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *base)
{
	struct al_provider_config *provider = base;
	int value;
	al_rc rc = read_choice(r, key, at, &value);

	if (rc == ACCTLINK_OK)
		provider->exchange_auth = provider->refresh_auth = provider->revoke_auth = (enum al_client_auth)value;
	return rc;
}

static al_rc take_algs(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	unsigned bits = 0;
	al_rc rc = ACCTLINK_OK;
	int value;

	if (is_list(at) && config_setting_length(at) == 0)
		return al_refuse(r, at, "%s must not be empty", key->name);
	for (unsigned i = 0; rc == ACCTLINK_OK && i < (is_list(at) ? (unsigned)config_setting_length(at) : 1); i++) {
		rc = read_choice(r, key, is_list(at) ? config_setting_get_elem(at, i) : at, &value);
		if (rc == ACCTLINK_OK)
			bits |= (unsigned)value;
	}
	if (rc == ACCTLINK_OK)
		memcpy(field, &bits, sizeof(bits));
	return rc;
}

static void free_pairs(struct al_config_pair **pairs)
{
	if (*pairs == NULL)
		return;
	for (struct al_config_pair *pair = *pairs; pair->name != NULL; pair++) {
		al_free_text(&pair->name);
		al_free_text(&pair->value);
	}
	free(*pairs);
	*pairs = NULL;
}

/* We send these ourselves; a second one would make the request ambiguous. */
bool al_parameter_is_ours(const char *name)
{
	static const char *const ours[] = { "response_type", "client_id", "redirect_uri", "scope", "state", "nonce",
		"code_challenge", "code_challenge_method", "response_mode", "max_age" };

	for (size_t i = 0; i < AL_COUNT(ours); i++)
		if (strcmp(ours[i], name) == 0)
			return true;
	return false;
}

static al_rc take_pairs(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	struct al_config_pair *pairs;
	al_rc rc = take_section(r, key, at, field);
	unsigned count;

	if (rc != ACCTLINK_OK)
		return rc;
	count = (unsigned)config_setting_length(at);
	pairs = al_new((count + 1) * sizeof(*pairs));
	if (pairs == NULL)
		return al_fail_memory(r->err);
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		const config_setting_t *one = config_setting_get_elem(at, i);
		const struct al_key named = { .name = config_setting_name(one) };

		if (al_parameter_is_ours(named.name))
			rc = al_refuse(r, one, "%s is a parameter that acctlink sends itself", named.name);
		else
			rc = keep_text(r, &pairs[i].name, al_dup(named.name));
		if (rc == ACCTLINK_OK)
			rc = take_text(r, &named, one, &pairs[i].value);
	}
	free_pairs(field);
	*(struct al_config_pair **)field = pairs;
	return rc;
}

static void free_rules(struct al_definite_rule **rules)
{
	if (*rules == NULL)
		return;
	for (struct al_definite_rule *rule = *rules; rule->error != NULL; rule++)
		al_section_clear(AL_AT_RULE, rule);
	free(*rules);
	*rules = NULL;
}

static al_rc take_rules(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	struct al_definite_rule *rules;
	al_rc rc = ACCTLINK_OK;
	unsigned count;

	if (!config_setting_is_list(at))
		return wrong_type(r, key, at, "a list of groups, ( { error = \"invalid_grant\"; } )");
	count = (unsigned)config_setting_length(at);
	rules = al_new((count + 1) * sizeof(*rules));
	if (rules == NULL)
		return al_fail_memory(r->err);
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		const config_setting_t *one = config_setting_get_elem(at, i);

		if (!config_setting_is_group(one))
			rc = wrong_type(r, key, one, "a list of groups, ( { error = \"invalid_grant\"; } )");
		if (rc == ACCTLINK_OK)
			rc = al_section_check(r, AL_AT_RULE, one);
		if (rc == ACCTLINK_OK)
			rc = al_section_take(r, AL_AT_RULE, one, &rules[i]);
		if (rc == ACCTLINK_OK)
			rc = al_section_require(r, AL_AT_RULE, one, &rules[i]);
		if (rc != ACCTLINK_OK) /* without an error it would look like the end */
			al_section_clear(AL_AT_RULE, &rules[i]);
	}
	free_rules(field);
	*(struct al_definite_rule **)field = rules;
	return rc;
}

/* ---- by type ---------------------------------------------------------------------- */

static void clear_text(void *field)
{
	al_free_text(field);
}

static void clear_texts(void *field)
{
	free_texts(field);
}

static void clear_secret(void *field)
{
	al_buf_clear(field);
}

static void clear_pairs(void *field)
{
	free_pairs(field);
}

static void clear_rules(void *field)
{
	free_rules(field);
}

static const struct {
	al_rc (*take)(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field);
	void (*clear)(void *field);
} kinds[] = {
	[AL_KEY_SECTION] = { take_section, NULL },
	[AL_KEY_WORD] = { take_word, NULL },
	[AL_KEY_TEXT] = { take_text, clear_text },
	[AL_KEY_PATH] = { take_path, clear_text },
	[AL_KEY_PATHS] = { take_paths, clear_texts },
	[AL_KEY_CA_FILE] = { take_ca_file, clear_text },
	[AL_KEY_ISSUER] = { take_issuer, clear_text },
	[AL_KEY_ENDPOINT] = { take_endpoint, clear_text },
	[AL_KEY_REDIRECTS] = { take_redirects, clear_texts },
	[AL_KEY_SECRET] = { take_secret, clear_secret },
	[AL_KEY_SECRET_FILE] = { take_secret_file, clear_secret },
	[AL_KEY_CREDENTIAL] = { take_credential, clear_secret },
	[AL_KEY_SECONDS] = { take_seconds, NULL },
	[AL_KEY_COUNT] = { take_count, NULL },
	[AL_KEY_BOOL] = { take_bool, NULL },
	[AL_KEY_CHOICE] = { take_choice, NULL },
	[AL_KEY_ALL_AUTHS] = { take_all_auths, NULL },
	[AL_KEY_ALGS] = { take_algs, NULL },
	[AL_KEY_SCOPE] = { take_scope, clear_text },
	[AL_KEY_PAIRS] = { take_pairs, clear_pairs },
	[AL_KEY_RULES] = { take_rules, clear_rules },
};

al_rc al_value_take(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *base)
{
	void *field = key->offset == AL_NO_FIELD ? base : (char *)base + key->offset;

	return kinds[key->type].take(r, key, at, field);
}

void al_value_clear(const struct al_key *key, void *base)
{
	if (kinds[key->type].clear != NULL)
		kinds[key->type].clear((char *)base + key->offset);
}
