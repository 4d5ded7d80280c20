/* SPDX-License-Identifier: MIT
 * Decodes one setting each, by the type that the table of keys gives it, with
 * the error at the setting's own line.
 */
#include "config/config_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(enum al_client_auth) == sizeof(int) && sizeof(enum al_bearer_kind) == sizeof(int)
		&& sizeof(enum al_response_mode) == sizeof(int) && sizeof(enum al_shared_subject) == sizeof(int)
		&& sizeof(int32_t) == sizeof(int),
	"choices are stored as int");

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

al_rc(al_refuse)(const struct al_reader *r, const config_setting_t *at, const char *fmt, ...)
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

al_rc al_wrong_type(const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char *wanted)
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
static al_rc check_text(
	const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char *text)
{
	if (text[0] == '\0')
		return al_refuse(r, at, "%s must not be empty", key->name);
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return al_refuse(r, at, "%s must not have control characters in it", key->name);
	return ACCTLINK_OK;
}

al_rc al_value_text(const struct al_reader *r, const struct al_key *key, const config_setting_t *at, const char **text)
{
	if (config_setting_type(at) != CONFIG_TYPE_STRING)
		return al_wrong_type(r, key, at, "text in quotes");
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

/* ---- decoders -------------------------------------------------------------------- */

static al_rc take_text(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	al_rc rc = al_value_text(r, key, at, &text);

	return rc != ACCTLINK_OK ? rc : keep_text(r, field, al_dup(text));
}

static al_rc take_word(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;

	(void)field;
	return al_value_text(r, key, at, &text);
}

static al_rc take_section(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	(void)field;
	return config_setting_is_group(at) ? ACCTLINK_OK : al_wrong_type(r, key, at, "a group in { }");
}

al_rc al_value_path(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	const char *text;
	al_rc rc = al_value_text(r, key, at, &text);

	return rc != ACCTLINK_OK ? rc : keep_text(r, field, path_of(r, at, text));
}

/* Missing certificates should stop init, not the first user. */
static al_rc take_ca_file(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	char where[sizeof(r->err->where)];
	struct stat info;
	int fd;
	al_rc rc = al_value_path(r, key, at, field);

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
	al_rc rc = al_value_text(r, key, at, &text);

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
	al_rc rc = al_value_text(r, key, at, &text);

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
		return al_wrong_type(r, key, at, "text in quotes, or a list of them");
	if (count == 0)
		return al_refuse(r, at, "%s must not be empty", key->name);
	texts = al_new((count + 1) * sizeof(*texts));
	if (texts == NULL)
		return al_fail_memory(r->err);
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		const config_setting_t *one = is_list(at) ? config_setting_get_elem(at, i) : at;
		const char *text;

		rc = al_value_text(r, key, one, &text);
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

static al_rc take_seconds(struct al_reader *r, const struct al_key *key, const config_setting_t *at, void *field)
{
	double seconds;
	int64_t ms;

	if (!is_whole(at) && config_setting_type(at) != CONFIG_TYPE_FLOAT)
		return al_wrong_type(r, key, at, "a number of seconds");
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
		return al_wrong_type(r, key, at, "a whole number");
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
		return al_wrong_type(r, key, at, "true or false");
	*(bool *)field = config_setting_get_bool(at) == CONFIG_TRUE;
	return ACCTLINK_OK;
}

static al_rc read_choice(const struct al_reader *r, const struct al_key *key, const config_setting_t *at, int *value)
{
	char known[256] = "";
	const char *text;
	al_rc rc = al_value_text(r, key, at, &text);

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
	if (al_may_quote_secret(text, strlen(text), NULL, 0)) /* a line mixed up */
		return al_refuse(r, at, "%s must be one of %s", key->name, known);
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
		return al_wrong_type(r, key, at, "a list of groups, ( { error = \"invalid_grant\"; } )");
	count = (unsigned)config_setting_length(at);
	rules = al_new((count + 1) * sizeof(*rules));
	if (rules == NULL)
		return al_fail_memory(r->err);
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		const config_setting_t *one = config_setting_get_elem(at, i);

		if (!config_setting_is_group(one))
			rc = al_wrong_type(r, key, one, "a list of groups, ( { error = \"invalid_grant\"; } )");
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
	[AL_KEY_PATH] = { al_value_path, clear_text },
	[AL_KEY_PATHS] = { take_paths, clear_texts },
	[AL_KEY_CA_FILE] = { take_ca_file, clear_text },
	[AL_KEY_ISSUER] = { take_issuer, clear_text },
	[AL_KEY_ENDPOINT] = { take_endpoint, clear_text },
	[AL_KEY_REDIRECTS] = { take_redirects, clear_texts },
	[AL_KEY_SECRET] = { al_secret_text, clear_secret },
	[AL_KEY_SECRET_FILE] = { al_secret_file, clear_secret },
	[AL_KEY_CREDENTIAL] = { al_secret_credential, clear_secret },
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
