/* SPDX-License-Identifier: MIT
 * Builds the config structs: the defaults, over them a provider's profiles,
 * over those its own section; then checks what only fits together or not.
 * Runs wholly on the calling thread; the result never changes.
 */
#include "config/config_int.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_DEPTH = 8, NAME_LEN = 63 };

/* All that is open while the config is read. */
struct load {
	struct al_reader reader;
	struct al_source source;
	config_t file;
	config_t builtin;
	const config_setting_t *root;
};

/* A provider's section and the profiles below it, the nearest first. */
struct layer {
	const config_setting_t *group;
	const struct al_source *source; /* NULL: built in */
};
struct chain {
	struct layer layers[PROFILE_DEPTH + 1];
	size_t count;
	const config_setting_t *environment; /* the setting that names it, or NULL */
};

/* ---- libconfig ------------------------------------------------------------------ */

/* libconfig 1.5 sets the thread's locale to "C" and leaves the thread with the
 * global one; a host may have given its thread another. */
static bool parse(config_t *to, const char *text)
{
	locale_t host = uselocale((locale_t)0);
	int done = config_read_string(to, text);

	(void)uselocale(host);
	return done == CONFIG_TRUE;
}

static al_rc parse_file(struct load *l, acctlink_error *err)
{
	const struct al_source_file *file;
	char where[sizeof(err->where)];
	const char *text;
	unsigned line;

	if (parse(&l->file, al_buf_text(&l->source.text))) {
		l->root = config_root_setting(&l->file);
		return ACCTLINK_OK;
	}
	text = config_error_text(&l->file);
	file = al_source_find(&l->source, (unsigned)config_error_line(&l->file), &line);
	al_where(where, sizeof(where), file->path, line);
	if (text != NULL && strstr(text, "duplicate") != NULL)
		return al_fail(err, ACCTLINK_BAD_CONFIG, where, "%s: this name stands twice in the same group", text);
	return al_fail(err, ACCTLINK_BAD_CONFIG, where,
		"%s: look for a missing \"=\", \";\", quote or closing bracket on this line or before it",
		text == NULL ? "syntax error" : text);
}

static al_rc parse_builtin(struct load *l, acctlink_error *err)
{
	struct al_buf text;
	al_rc rc = ACCTLINK_OK;

	al_buf_init(&text, (size_t)64 * 1024);
	(void)al_key_put_defaults(&text);
	if (!al_buf_puts(&text, al_config_profiles))
		rc = al_fail_memory(err);
	else if (!parse(&l->builtin, al_buf_text(&text)))
		rc = al_fail(err, ACCTLINK_INTERNAL, "built-in profiles", "line %d: %s", config_error_line(&l->builtin),
			config_error_text(&l->builtin));
	al_buf_clear(&text);
	return rc;
}

/* libconfig frees its texts without wiping them, secrets among them. They lie
 * on the heap and are only const in its interface. */
static void wipe_tree(const config_setting_t *at)
{
	if (config_setting_type(at) == CONFIG_TYPE_STRING) {
		char *text = (char *)(uintptr_t)config_setting_get_string(at);

		if (text != NULL)
			al_wipe(text, strlen(text));
	}
	for (int i = 0; config_setting_is_aggregate(at) && i < config_setting_length(at); i++)
		wipe_tree(config_setting_get_elem(at, (unsigned)i));
}

/* ---- sections: groups that follow the table of keys ------------------------------ */

static al_rc refuse_unknown(const struct al_reader *r, unsigned place, const config_setting_t *at)
{
	const char *name = config_setting_name(at);
	const struct al_key *elsewhere = al_key_find(~0U, name);
	const char *near = al_key_nearest(place, name);

	if (elsewhere != NULL)
		return al_refuse(r, at, "unknown key \"%.64s\" in %s: it belongs in %s", name, al_place_name(place),
			al_place_name(elsewhere->places));
	if (near != NULL)
		return al_refuse(
			r, at, "unknown key \"%.64s\" in %s: did you mean \"%s\"?", name, al_place_name(place), near);
	return al_refuse(r, at, "unknown key \"%.64s\" in %s", name, al_place_name(place));
}

al_rc al_section_check(const struct al_reader *r, unsigned place, const config_setting_t *group)
{
	for (unsigned i = 0; i < (unsigned)config_setting_length(group); i++) {
		const config_setting_t *at = config_setting_get_elem(group, i);

		if (al_key_find(place, config_setting_name(at)) == NULL)
			return refuse_unknown(r, place, at);
	}
	return ACCTLINK_OK;
}

/* Two keys that say the same thing in two ways, as client_secret and client_secret_file. */
static const struct al_key *rival(const struct al_key *key, unsigned place, const config_setting_t *group)
{
	for (const struct al_key *other = key + 1; other->name != NULL; other++)
		if ((other->places & place) != 0 && other->offset == key->offset && key->offset != AL_NO_FIELD
			&& config_setting_get_member(group, other->name) != NULL)
			return other;
	return NULL;
}

al_rc al_section_take(struct al_reader *r, unsigned place, const config_setting_t *group, void *base)
{
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++) {
		const config_setting_t *at;
		const struct al_key *other;
		al_rc rc;

		if ((key->places & place) == 0)
			continue;
		at = config_setting_get_member(group, key->name);
		if (at == NULL)
			continue;
		other = rival(key, place, group);
		if (other != NULL)
			return al_refuse(r, config_setting_get_member(group, other->name),
				"%s and %s exclude each other: keep one", key->name, other->name);
		rc = al_value_take(r, key, at, base);
		if (rc != ACCTLINK_OK)
			return rc;
	}
	return ACCTLINK_OK;
}

/* Required keys are texts or lists: a pointer that is still NULL. */
al_rc al_section_require(const struct al_reader *r, unsigned place, const config_setting_t *group, const void *base)
{
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++) {
		const char *name = config_setting_name(group);
		const void *value;

		if ((key->places & place) == 0 || !key->required)
			continue;
		memcpy(&value, (const char *)base + key->offset, sizeof(value));
		if (value == NULL)
			return al_refuse(r, group, "%s is missing in %.64s", key->name,
				name != NULL ? name : al_place_name(place));
	}
	return ACCTLINK_OK;
}

void al_section_clear(unsigned place, void *base)
{
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++)
		if ((key->places & place) != 0 && key->offset != AL_NO_FIELD)
			al_value_clear(key, base);
}

/* ---- profiles ----------------------------------------------------------------------- */

static bool name_is_good(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= NAME_LEN && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static const config_setting_t *group_in(const config_setting_t *group, const char *name)
{
	return group == NULL ? NULL : config_setting_get_member(group, name);
}

static const config_setting_t *builtin_profiles(const struct load *l)
{
	return group_in(config_root_setting(&l->builtin), "profiles");
}

static al_rc check_environments(const struct al_reader *r, const config_setting_t *profile)
{
	const config_setting_t *all = group_in(profile, "environments");
	al_rc rc = ACCTLINK_OK;

	if (all == NULL)
		return ACCTLINK_OK;
	if (!config_setting_is_group(all))
		return al_refuse(r, all, "environments must be a group in { }");
	for (unsigned i = 0; rc == ACCTLINK_OK && i < (unsigned)config_setting_length(all); i++) {
		const config_setting_t *one = config_setting_get_elem(all, i);

		if (!config_setting_is_group(one))
			return al_refuse(r, one, "an environment must be a group in { }");
		rc = al_section_check(r, AL_AT_ENVIRONMENT, one);
	}
	return rc;
}

/* Also those that no provider uses: a mistake there should show now. */
static al_rc check_profiles(const struct load *l)
{
	const struct al_reader *r = &l->reader;
	const config_setting_t *all = group_in(l->root, "profiles");
	al_rc rc = ACCTLINK_OK;

	for (unsigned i = 0; rc == ACCTLINK_OK && all != NULL && i < (unsigned)config_setting_length(all); i++) {
		const config_setting_t *one = config_setting_get_elem(all, i);
		const char *name = config_setting_name(one);

		if (!config_setting_is_group(one))
			return al_refuse(r, one, "profile \"%.64s\" must be a group in { }", name);
		if (group_in(builtin_profiles(l), name) != NULL)
			return al_refuse(r, one,
				"profile \"%.64s\" is built in: choose another name, with base = \"%.64s\"", name,
				name);
		rc = al_section_check(r, AL_AT_PROFILE, one);
		if (rc == ACCTLINK_OK)
			rc = check_environments(r, one);
	}
	return rc;
}

static al_rc unknown_profile(struct load *l, const config_setting_t *at, const char *name)
{
	const config_setting_t *groups[] = { builtin_profiles(l), group_in(l->root, "profiles") };
	const char *best = NULL;
	size_t least = al_key_reach(name);

	for (size_t g = 0; g < AL_COUNT(groups); g++)
		for (unsigned i = 0; groups[g] != NULL && i < (unsigned)config_setting_length(groups[g]); i++)
			al_key_nearer(name, config_setting_name(config_setting_get_elem(groups[g], i)), &best, &least);
	if (best != NULL)
		return al_refuse(&l->reader, at, "unknown profile \"%.64s\": did you mean \"%.64s\"?", name, best);
	return al_refuse(&l->reader, at, "unknown profile \"%.64s\": akoya, oidc and oauth2 are built in", name);
}

/* Adds the profile that a layer stands on; `key` is "profile" or "base". */
static al_rc add_layer(struct load *l, struct chain *chain, const char *key)
{
	const struct layer *above = &chain->layers[chain->count - 1];
	struct layer *below = &chain->layers[chain->count];
	const config_setting_t *named = group_in(above->group, key);
	const char *name = "oidc";

	if (named != NULL && config_setting_type(named) != CONFIG_TYPE_STRING)
		return al_refuse(&l->reader, named, "%s must be text in quotes", key);
	if (named != NULL)
		name = config_setting_get_string(named);
	if (chain->count > PROFILE_DEPTH)
		return al_refuse(&l->reader, above->group,
			"profiles stand on each other in a circle, or deeper than %d", PROFILE_DEPTH);
	below->source = NULL;
	below->group = group_in(builtin_profiles(l), name);
	if (below->group == NULL) {
		below->source = &l->source;
		below->group = group_in(group_in(l->root, "profiles"), name);
	}
	if (below->group == NULL)
		return unknown_profile(l, named, name);
	chain->count++;
	return ACCTLINK_OK;
}

static al_rc build_chain(struct load *l, const config_setting_t *section, struct chain *chain)
{
	al_rc rc;

	memset(chain, 0, sizeof(*chain));
	chain->layers[0].group = section;
	chain->layers[0].source = &l->source;
	chain->count = 1;
	rc = add_layer(l, chain, "profile");
	while (rc == ACCTLINK_OK && chain->layers[chain->count - 1].source != NULL)
		rc = add_layer(l, chain, "base");
	for (size_t i = 0; rc == ACCTLINK_OK && chain->environment == NULL && i < chain->count; i++)
		chain->environment = group_in(chain->layers[i].group, "environment");
	if (rc == ACCTLINK_OK && chain->environment != NULL
		&& config_setting_type(chain->environment) != CONFIG_TYPE_STRING)
		rc = al_refuse(&l->reader, chain->environment, "environment must be text in quotes");
	return rc;
}

/* "sandbox", "production": what the profiles of this chain know. */
static void list_environments(const struct chain *chain, char *to, size_t cap)
{
	to[0] = '\0';
	for (size_t i = 0; i < chain->count; i++) {
		const config_setting_t *all = group_in(chain->layers[i].group, "environments");

		for (unsigned j = 0; all != NULL && j < (unsigned)config_setting_length(all); j++) {
			size_t len = strlen(to);

			(void)snprintf(to + len, cap - len, "%s\"%.64s\"", len > 0 ? ", " : "",
				config_setting_name(config_setting_get_elem(all, j)));
		}
	}
}

/* From the ground up; each profile is followed by its part for the environment. */
static al_rc apply_profiles(struct load *l, const struct chain *chain, struct al_provider_config *provider)
{
	const char *wanted = chain->environment == NULL ? NULL : config_setting_get_string(chain->environment);
	struct al_reader *r = &l->reader;
	bool found = wanted == NULL;
	char known[200];
	al_rc rc = ACCTLINK_OK;

	for (size_t i = chain->count - 1; i > 0 && rc == ACCTLINK_OK; i--) {
		const config_setting_t *part = NULL;

		r->source = chain->layers[i].source;
		rc = al_section_take(r, AL_AT_PROFILE, chain->layers[i].group, provider);
		if (wanted != NULL)
			part = group_in(group_in(chain->layers[i].group, "environments"), wanted);
		if (rc == ACCTLINK_OK && part != NULL)
			rc = al_section_take(r, AL_AT_ENVIRONMENT, part, provider);
		found = found || part != NULL;
	}
	r->source = &l->source;
	if (rc != ACCTLINK_OK || found)
		return rc;
	list_environments(chain, known, sizeof(known));
	return al_refuse(r, chain->environment, "unknown environment \"%.64s\": the profile has %s", wanted,
		known[0] == '\0' ? "none" : known);
}

/* ---- what must fit together ------------------------------------------------------------ */

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	while (*words != '\0') {
		size_t here = strcspn(words, " ");

		if (here == len && memcmp(words, word, len) == 0)
			return true;
		words += here + strspn(words + here, " ");
	}
	return false;
}

/* "{issuer}/token": the issuer without its trailing slash, then the rest. */
static al_rc complete_url(
	const struct al_reader *r, const config_setting_t *section, const char *name, const char *issuer, char **url)
{
	const char *rest;
	const char *why;
	size_t len;
	size_t size;
	char *whole;

	if (*url == NULL || strncmp(*url, "{issuer}/", 9) != 0)
		return ACCTLINK_OK;
	rest = *url + 8;
	len = strlen(issuer);
	if (issuer[len - 1] == '/')
		len--;
	size = len + strlen(rest) + 1;
	whole = al_new(size);
	if (whole == NULL)
		return al_fail_memory(r->err);
	(void)snprintf(whole, size, "%.*s%s", (int)len, issuer, rest);
	al_free_text(url);
	*url = whole;
	why = al_url_fault(whole, 0);
	return why == NULL ? ACCTLINK_OK : al_refuse(r, section, "%s %s", name, why);
}

static bool is_template(const char *url)
{
	return url != NULL && url[0] == '{';
}

static al_rc check_issuer(const struct al_reader *r, const config_setting_t *section, const struct chain *chain,
	const struct al_provider_config *p)
{
	char known[200];

	if (p->issuer != NULL)
		return ACCTLINK_OK;
	list_environments(chain, known, sizeof(known));
	if (known[0] != '\0')
		return al_refuse(r, section, "environment is missing: one of %s (or an issuer of its own)", known);
	if (p->discovery)
		return al_refuse(r, section,
			"issuer is missing: discovery starts there (or set discovery = false and "
			"give the endpoints)");
	if (p->id_token_expected)
		return al_refuse(
			r, section, "issuer is missing: scope has openid in it, and id_tokens are checked against it");
	if (p->iss_parameter_required)
		return al_refuse(r, section, "issuer is missing: iss_parameter_required compares with it");
	if (is_template(p->authorization_endpoint) || is_template(p->token_endpoint)
		|| is_template(p->revocation_endpoint) || is_template(p->jwks_uri))
		return al_refuse(r, section, "issuer is missing: an endpoint of the profile begins with {issuer}");
	return ACCTLINK_OK;
}

static al_rc check_endpoints(const struct al_reader *r, const config_setting_t *section, struct al_provider_config *p)
{
	const struct {
		const char *name;
		char **url;
		bool needed;
	} ends[] = {
		{ "authorization_endpoint", &p->authorization_endpoint, true },
		{ "token_endpoint", &p->token_endpoint, true },
		{ "revocation_endpoint", &p->revocation_endpoint, false },
		{ "jwks_uri", &p->jwks_uri, p->id_token_expected },
	};

	for (size_t i = 0; i < AL_COUNT(ends); i++) {
		al_rc rc = complete_url(r, section, ends[i].name, p->issuer, ends[i].url);

		if (rc != ACCTLINK_OK)
			return rc;
		if (ends[i].needed && *ends[i].url == NULL && !p->discovery)
			return al_refuse(
				r, section, "%s is missing: there is no discovery to find it by", ends[i].name);
	}
	return ACCTLINK_OK;
}

static al_rc check_client_auth(
	const struct al_reader *r, const config_setting_t *section, const struct al_provider_config *p)
{
	bool needed = p->exchange_auth != AL_AUTH_NONE || p->refresh_auth != AL_AUTH_NONE
		|| p->revoke_auth != AL_AUTH_NONE;

	if (needed && p->client_secret.len == 0)
		return al_refuse(r, section,
			"client_secret_file is missing (or client_secret, client_secret_credential; "
			"or token_endpoint_auth_method = \"none\" for a public client)");
	if (!needed && p->client_secret.len > 0)
		al_log(r->log, ACCTLINK_LOG_WARNING, "%s: the client secret is not used: every auth method is \"none\"",
			p->where);
	return ACCTLINK_OK;
}

static al_rc check_together(
	const struct al_reader *r, const config_setting_t *section, const struct al_provider_config *p)
{
	if (p->bearer == AL_BEARER_ID_TOKEN && !p->id_token_expected)
		return al_refuse(r, section, "bearer = \"id_token\" needs openid in scope");
	if (p->institution_required && p->institution_parameter == NULL)
		return al_refuse(r, section, "institution_required needs institution_parameter");
	if (p->institution_parameter != NULL && al_parameter_is_ours(p->institution_parameter))
		return al_refuse(r, section, "institution_parameter: %.64s is a parameter that acctlink sends itself",
			p->institution_parameter);
	for (const struct al_config_pair *pair = p->authorize_parameters; pair != NULL && pair->name != NULL; pair++)
		if (p->institution_parameter != NULL && strcmp(pair->name, p->institution_parameter) == 0)
			return al_refuse(
				r, section, "%.64s in authorize_parameters is the institution_parameter", pair->name);
	if (p->backoff_base_ms > p->backoff_cap_ms)
		return al_refuse(r, section, "backoff_base is larger than backoff_cap");
	if (p->connect_timeout_ms > p->request_timeout_ms)
		return al_refuse(r, section, "connect_timeout is larger than request_timeout");
	/* RFC 9700, 2.1.1: one of the two is what stops an injected code. */
	if (!p->pkce && !(p->nonce && p->id_token_expected))
		al_log(r->log, ACCTLINK_LOG_WARNING, "%s: neither pkce nor nonce protects the code", p->where);
	return ACCTLINK_OK;
}

/* ---- providers ------------------------------------------------------------------------- */

static al_rc name_provider(const struct al_reader *r, const config_setting_t *section, struct al_provider_config *p)
{
	char where[sizeof(r->err->where)];
	const char *name = config_setting_name(section);

	if (!config_setting_is_group(section))
		return al_refuse(r, section, "provider \"%.64s\" must be a group in { }", name);
	if (!name_is_good(name))
		return al_refuse(r, section, "a provider's name has 1 to %d of a-z, 0-9, _ and -: \"%.64s\" has not",
			NAME_LEN, name);
	al_reader_where(r, section, where, sizeof(where));
	p->name = al_dup(name);
	p->where = al_dup(where);
	return p->name == NULL || p->where == NULL ? al_fail_memory(r->err) : ACCTLINK_OK;
}

static al_rc apply_defaults(struct load *l, unsigned place, const char *group, void *base)
{
	struct al_reader *r = &l->reader;
	al_rc rc;

	r->source = NULL;
	rc = al_section_take(r, place, group_in(config_root_setting(&l->builtin), group), base);
	r->source = &l->source;
	return rc;
}

static al_rc finish_provider(const struct al_reader *r, const config_setting_t *section, const struct chain *chain,
	struct al_provider_config *p)
{
	al_rc rc = al_section_require(r, AL_AT_PROVIDER, section, p);

	if (rc != ACCTLINK_OK)
		return rc;
	p->id_token_expected = has_word(p->scope, "openid");
	rc = check_issuer(r, section, chain, p);
	if (rc == ACCTLINK_OK)
		rc = check_endpoints(r, section, p);
	if (rc == ACCTLINK_OK)
		rc = check_client_auth(r, section, p);
	if (rc == ACCTLINK_OK)
		rc = check_together(r, section, p);
	return rc;
}

static al_rc read_provider(struct load *l, const config_setting_t *section, struct al_provider_config *p)
{
	struct al_reader *r = &l->reader;
	struct chain chain;
	al_rc rc = name_provider(r, section, p);

	if (rc == ACCTLINK_OK)
		rc = al_section_check(r, AL_AT_PROVIDER, section);
	if (rc == ACCTLINK_OK)
		rc = build_chain(l, section, &chain);
	if (rc == ACCTLINK_OK)
		rc = apply_defaults(l, AL_AT_PROVIDER, "provider", p);
	if (rc == ACCTLINK_OK)
		rc = apply_profiles(l, &chain, p);
	if (rc == ACCTLINK_OK)
		rc = al_section_take(r, AL_AT_PROVIDER, section, p);
	if (rc == ACCTLINK_OK)
		rc = finish_provider(r, section, &chain, p);
	return rc;
}

static al_rc read_providers(struct load *l)
{
	struct al_config *config = l->reader.config;
	const config_setting_t *all = group_in(l->root, "providers");
	al_rc rc = ACCTLINK_OK;
	unsigned count = all == NULL ? 0 : (unsigned)config_setting_length(all);

	if (count == 0)
		return al_refuse(&l->reader, all == NULL ? l->root : all,
			"there is no provider: add providers = { NAME = { profile = ...; client_id = ...; ... }; };");
	config->providers = al_new(count * sizeof(*config->providers));
	if (config->providers == NULL)
		return al_fail_memory(l->reader.err);
	config->provider_count = count;
	for (unsigned i = 0; i < count && rc == ACCTLINK_OK; i++) {
		config->providers[i].of = config;
		rc = read_provider(l, config_setting_get_elem(all, i), &config->providers[i]);
	}
	return rc;
}

/* ---- the whole -------------------------------------------------------------------------- */

static al_rc read_store(struct load *l)
{
	struct al_reader *r = &l->reader;
	const config_setting_t *store = group_in(l->root, "store");
	al_rc rc;

	if (store == NULL)
		return al_refuse(r, l->root, "store is missing: add store = { path = \"...\"; key_file = \"...\"; };");
	rc = al_section_check(r, AL_AT_STORE, store);
	if (rc == ACCTLINK_OK)
		rc = al_section_take(r, AL_AT_STORE, store, r->config);
	if (rc == ACCTLINK_OK)
		rc = al_section_require(r, AL_AT_STORE, store, r->config);
	return rc;
}

static al_rc read_all(struct load *l)
{
	struct al_reader *r = &l->reader;
	al_rc rc = apply_defaults(l, AL_AT_TOP, "top", r->config);

	if (rc == ACCTLINK_OK)
		rc = al_section_check(r, AL_AT_TOP, l->root);
	if (rc == ACCTLINK_OK)
		rc = al_section_take(r, AL_AT_TOP, l->root, r->config);
	if (rc == ACCTLINK_OK)
		rc = read_store(l);
	if (rc == ACCTLINK_OK)
		rc = check_profiles(l);
	if (rc == ACCTLINK_OK)
		rc = read_providers(l);
	return rc;
}

al_rc al_config_load(const char *path, const struct al_log *log, struct al_config **out, acctlink_error *err)
{
	struct load *l = al_new(sizeof(*l));
	struct al_config *config = al_new(sizeof(*config));
	struct al_safe *secrets = al_safe_new(true);
	al_rc rc;

	if (l == NULL || config == NULL || secrets == NULL) {
		free(l);
		free(config);
		al_safe_free(&secrets);
		return al_fail_memory(err);
	}
	config->secrets = secrets;
	atomic_init(&config->refs, 1);
	config_init(&l->file);
	config_init(&l->builtin);
	l->reader = (struct al_reader){ .source = &l->source, .log = log, .config = config, .err = err };
	rc = al_source_read(&l->source, path, err);
	if (rc == ACCTLINK_OK)
		config->path = al_dup(l->source.files[0].path);
	if (rc == ACCTLINK_OK && config->path == NULL)
		rc = al_fail_memory(err);
	if (rc == ACCTLINK_OK)
		rc = parse_builtin(l, err);
	if (rc == ACCTLINK_OK)
		rc = parse_file(l, err);
	if (rc == ACCTLINK_OK)
		rc = read_all(l);
	wipe_tree(config_root_setting(&l->file));
	config_destroy(&l->file);
	config_destroy(&l->builtin);
	al_source_clear(&l->source);
	free(l);
	if (rc != ACCTLINK_OK)
		al_config_free(&config);
	else
		*out = config;
	return rc;
}

struct al_config *al_config_ref(struct al_config *config)
{
	(void)atomic_fetch_add(&config->refs, 1);
	return config;
}

void al_config_free(struct al_config **config)
{
	struct al_config *c = *config;

	*config = NULL;
	if (c == NULL || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	for (size_t i = 0; i < c->provider_count; i++) {
		al_section_clear(AL_AT_PROVIDER, &c->providers[i]);
		al_free_text(&c->providers[i].name);
		al_free_text(&c->providers[i].where);
	}
	free(c->providers);
	al_safe_free(&c->secrets);
	al_section_clear(AL_AT_TOP, c);
	al_section_clear(AL_AT_STORE, c);
	al_free_text(&c->path);
	free(c);
}

const struct al_provider_config *al_config_provider(const struct al_config *config, const char *name)
{
	for (size_t i = 0; i < config->provider_count; i++)
		if (strcmp(config->providers[i].name, name) == 0)
			return &config->providers[i];
	return NULL;
}
