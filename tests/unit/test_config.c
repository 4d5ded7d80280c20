/* SPDX-License-Identifier: MIT
 * The config room: what a file says and what is wrong with it, to the line.
 * Everything runs from the working directory "/", as in a daemon, on files in a
 * folder of its own.
 */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <ftw.h>

#include <cmocka.h>

#include "config/config_int.h"

#define STORE "store = { path = \"store.db\"; key_file = \"store.key\"; };\n"
#define AKOYA_LINES \
	"profile = \"akoya\";\n" \
	"environment = \"sandbox\";\n" \
	"client_id = \"acme\";\n" \
	"client_secret_file = \"secret\";\n" \
	"redirect_uri = \"https://app.example/cb\";\n"
/* Lines 1 to 4 are the store and the beginning, so that `more` is line 9. */
#define AKOYA(more) STORE "\nproviders = {\nakoya = {\n" AKOYA_LINES more "};\n};\n"
#define OIDC_LINES \
	"issuer = \"https://login.bank.example\";\n" \
	"client_id = \"acme\";\n" \
	"client_secret_file = \"secret\";\n" \
	"redirect_uri = \"https://app.example/cb\";\n"
/* `more` is line 9. */
#define OIDC(more) STORE "\n\nproviders = { bank = {\n" OIDC_LINES more "}; };\n"
/* `lines` begin at line 3. */
#define BANK(lines) STORE "providers = { bank = {\n" lines "}; };\n"

static char folder[] = "/tmp/acctlink-config-XXXXXX";
static char conf_folder[PATH_MAX];
static char log_text[4096];
static unsigned log_count;

static void note(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	assert_int_equal(level, ACCTLINK_LOG_WARNING);
	(void)snprintf(log_text, sizeof(log_text), "%s", message);
	log_count++;
}

static const struct al_log test_log = { note, NULL, ACCTLINK_LOG_DEBUG };

static const char *in_folder(const char *name)
{
	static char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void write_bytes(const char *name, mode_t mode, const char *text, size_t len)
{
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(in_folder(name), mode), 0);
}

static void write_text(const char *name, const char *text)
{
	write_bytes(name, 0644, text, strlen(text));
}

static struct al_config *load(const char *text)
{
	struct al_config *config = NULL;
	acctlink_error err = { .status = 0 };

	write_text("t.conf", text);
	log_count = 0;
	if (al_config_load(in_folder("t.conf"), &test_log, &config, &err) != ACCTLINK_OK)
		fail_msg("%s: %s", err.where, err.message);
	return config;
}

static void expect_error(const char *path, const char *where, const char *message)
{
	struct al_config *config = NULL;
	acctlink_error err = { .status = 0 };
	al_rc rc = al_config_load(path, &test_log, &config, &err);

	if (rc == ACCTLINK_OK)
		fail_msg("loaded, although it should say: %s", message);
	assert_int_equal(rc, ACCTLINK_BAD_CONFIG);
	assert_int_equal(err.status, ACCTLINK_BAD_CONFIG);
	assert_null(config);
	if (strstr(err.message, message) == NULL)
		fail_msg("\"%s\" does not say: %s", err.message, message);
	assert_string_equal(err.where, where);
}

/* The error of t.conf is at this line and says this. */
static void refuse(const char *text, unsigned line, const char *message)
{
	char where[PATH_MAX];

	write_text("t.conf", text);
	(void)snprintf(where, sizeof(where), "%s/t.conf:%u", folder, line);
	expect_error(in_folder("t.conf"), where, message);
}

static void refuse_in(const char *name, unsigned line, const char *message)
{
	char where[PATH_MAX];

	(void)snprintf(where, sizeof(where), "%s/%s:%u", folder, name, line);
	expect_error(in_folder("t.conf"), where, message);
}

/* ---- what a file says -------------------------------------------------------- */

static void an_akoya_section_of_six_lines_is_all_that_akoya_needs(void **state)
{
	struct al_config *config = load(AKOYA(""));
	const struct al_provider_config *p = al_config_provider(config, "akoya");

	(void)state;
	assert_non_null(p);
	assert_null(al_config_provider(config, "ako"));
	assert_int_equal(config->provider_count, 1);
	assert_string_equal(config->path, in_folder("t.conf"));
	assert_string_equal(p->name, "akoya");
	assert_true(strstr(p->where, "/t.conf:4") != NULL);
	assert_string_equal(p->profile, "akoya");
	assert_string_equal(p->issuer, "https://sandbox-idp.ddp.akoya.com/");
	assert_false(p->discovery);
	assert_string_equal(p->authorization_endpoint, "https://sandbox-idp.ddp.akoya.com/auth");
	assert_string_equal(p->token_endpoint, "https://sandbox-idp.ddp.akoya.com/token");
	assert_string_equal(p->revocation_endpoint, "https://sandbox-idp.ddp.akoya.com/revoke");
	assert_string_equal(p->jwks_uri, "https://sandbox-idp.ddp.akoya.com/keys");
	assert_null(p->ca_file);
	assert_string_equal(p->client_id, "acme");
	assert_string_equal(al_buf_text(&p->client_secret), "s3cret");
	assert_int_equal(p->exchange_auth, AL_AUTH_BASIC);
	assert_int_equal(p->refresh_auth, AL_AUTH_POST);
	assert_int_equal(p->revoke_auth, AL_AUTH_POST);
	assert_string_equal(p->redirect_uris[0], "https://app.example/cb");
	assert_null(p->redirect_uris[1]);
	assert_string_equal(p->scope, "openid offline_access");
	assert_string_equal(p->institution_parameter, "connector");
	assert_true(p->institution_required);
	assert_null(p->authorize_parameters);
	assert_int_equal(p->response_mode, AL_MODE_QUERY);
	assert_int_equal(p->bearer, AL_BEARER_ID_TOKEN);
	assert_true(p->id_token_expected);
	assert_true(p->pkce);
	assert_true(p->nonce);
	assert_int_equal(p->algs, 0);
	assert_false(p->iss_parameter_required);
	assert_true(p->one_grant_per_user);
	assert_int_equal(p->shared_subject, AL_SUBJECT_MOVE);
	assert_string_equal(p->definite[0].error, "invalid_grant");
	assert_null(p->definite[0].description_prefix);
	assert_int_equal(p->definite[0].status, 0);
	assert_string_equal(p->definite[1].error, "invalid_request");
	assert_string_equal(p->definite[1].description_prefix, "Refresh token is invalid or has already been claimed");
	assert_string_equal(p->definite[2].error, "invalid_request");
	assert_string_equal(p->definite[2].description_prefix, "Refresh token expired");
	assert_null(p->definite[3].error);
	assert_int_equal(p->bearer_cap_ms, 0);
	assert_int_equal(p->default_lifetime_ms, 900000);
	assert_int_equal(log_count, 0);
	al_config_free(&config);
	assert_null(config);
	al_config_free(&config);
}

static void akoya_production_is_another_word_and_an_issuer_of_its_own_wins(void **state)
{
	struct al_config *config = load(
		BANK("profile = \"akoya\"; environment = \"production\"; client_id = \"a\";\n"
		     "client_secret_file = \"secret\"; redirect_uri = \"https://app.example/cb\";\n"));

	(void)state;
	assert_string_equal(config->providers[0].issuer, "https://idp.ddp.akoya.com/");
	assert_string_equal(config->providers[0].token_endpoint, "https://idp.ddp.akoya.com/token");
	al_config_free(&config);

	config = load(
		AKOYA("issuer = \"https://idp.bank.example\";\ntoken_endpoint = \"https://t.bank.example/t\";\n"));
	assert_string_equal(config->providers[0].issuer, "https://idp.bank.example");
	assert_string_equal(config->providers[0].authorization_endpoint, "https://idp.bank.example/auth");
	assert_string_equal(config->providers[0].token_endpoint, "https://t.bank.example/t");
	al_config_free(&config);

	config = load(BANK("profile = \"akoya\"; issuer = \"http://127.0.0.1:8080/\"; client_id = \"a\";\n"
			   "client_secret_file = \"secret\"; redirect_uri = \"https://app.example/cb\";\n"));
	assert_string_equal(config->providers[0].jwks_uri, "http://127.0.0.1:8080/keys");
	al_config_free(&config);
}

static void what_a_file_leaves_out_has_its_default(void **state)
{
	struct al_config *config = load(OIDC(""));
	const struct al_provider_config *p = &config->providers[0];

	(void)state;
	assert_string_equal(config->store_path, in_folder("store.db"));
	assert_string_equal(config->key_files[0], in_folder("store.key"));
	assert_null(config->key_files[1]);
	assert_int_equal(config->log_level, ACCTLINK_LOG_NOTICE);
	assert_false(config->allow_readable_secrets);
	assert_int_equal(config->call_timeout_ms, 30000);
	assert_int_equal(config->shutdown_timeout_ms, 10000);
	assert_int_equal(config->flow_lifetime_ms, 900000);
	assert_int_equal(config->flow_result_lifetime_ms, 600000);
	assert_int_equal(config->flows_per_user, 20);
	assert_int_equal(config->poll_interval_ms, 1000);
	assert_int_equal(config->revocation_lifetime_ms, 259200000);
	assert_int_equal(config->worker_threads, 4);
	assert_int_equal(config->held_bearers, 50000);
	assert_string_equal(p->profile, "oidc");
	assert_true(p->discovery);
	assert_null(p->authorization_endpoint);
	assert_null(p->token_endpoint);
	assert_null(p->revocation_endpoint);
	assert_null(p->jwks_uri);
	assert_int_equal(p->exchange_auth, AL_AUTH_BASIC);
	assert_int_equal(p->refresh_auth, AL_AUTH_BASIC);
	assert_int_equal(p->revoke_auth, AL_AUTH_BASIC);
	assert_null(p->institution_parameter);
	assert_false(p->institution_required);
	assert_int_equal(p->bearer, AL_BEARER_ACCESS_TOKEN);
	assert_true(p->id_token_expected);
	assert_true(p->pkce && p->nonce);
	assert_false(p->one_grant_per_user);
	assert_int_equal(p->shared_subject, AL_SUBJECT_ALLOW);
	assert_string_equal(p->definite[0].error, "invalid_grant");
	assert_null(p->definite[1].error);
	assert_int_equal(p->clock_skew_ms, 300000);
	assert_int_equal(p->max_age_ms, 0);
	assert_int_equal(p->bearer_margin_ms, 120000);
	assert_int_equal(p->resend_margin_ms, 60000);
	assert_int_equal(p->reuse_window_ms, 0);
	assert_int_equal(p->refresh_lifetime_ms, 0);
	assert_int_equal(p->consent_lifetime_ms, 0);
	assert_int_equal(p->min_refresh_interval_ms, 10000);
	assert_int_equal(p->retry_after_cap_ms, 3600000);
	assert_int_equal(p->backoff_base_ms, 2000);
	assert_int_equal(p->backoff_cap_ms, 300000);
	assert_int_equal(p->connect_timeout_ms, 10000);
	assert_int_equal(p->request_timeout_ms, 30000);
	assert_int_equal(p->jwks_max_age_ms, 3600000);
	assert_int_equal(p->jwks_min_interval_ms, 60000);
	al_config_free(&config);
}

static void an_oauth2_provider_needs_no_issuer(void **state)
{
	struct al_config *config = load(BANK(
		"profile = \"oauth2\"; client_id = \"a\"; client_secret_file = \"secret\";\n"
		"redirect_uri = \"https://app.example/cb\";\n"
		"authorization_endpoint = \"https://b.example/a?x=1\"; token_endpoint = \"https://b.example/t\";\n"));
	const struct al_provider_config *p = &config->providers[0];

	(void)state;
	assert_null(p->issuer);
	assert_false(p->discovery || p->nonce || p->id_token_expected);
	assert_true(p->pkce);
	assert_string_equal(p->scope, "");
	assert_string_equal(p->authorization_endpoint, "https://b.example/a?x=1");
	al_config_free(&config);
}

static void every_kind_of_value_is_read(void **state)
{
	struct al_config *config = load(
		"log_level = \"debug\"; poll_interval = 0.05; held_bearers = 0x10L;\n"
		"call_timeout = 2.5; shutdown_timeout = 0; worker_threads = 64;\n"
		"store : { path : \"/var/s.db\", key_files : [ \"/k1\", \"k2\" ] }\n"
		"providers = { b = {\n" OIDC_LINES
		"scope = ( \"openid\", \"accounts payments\" ); response_mode = \"form_post\"; pkce = FALSE;\n"
		"id_token_signed_response_alg = [ \"ES256\", \"Ed25519\" ]; bearer = \"id_token\"; max_age = 3600;\n"
		"token_endpoint_auth_method = \"client_secret_basic_raw\"; revoke_auth = \"none\";\n"
		"authorize_parameters = { access_type = \"offline\"; prompt = \"consent\"; };\n"
		"definite_errors = ( { error = \"gone\"; status = 403; description_prefix = \"It \" \"is\"; } );\n"
		"institution_parameter = \"bank\"; shared_subject = \"refuse\"; iss_parameter_required = true;\n"
		"ca_file = \"ca.pem\"; reuse_window = 1800; refresh_lifetime = 31536000;\n"
		"}; };\n");
	const struct al_provider_config *p = &config->providers[0];

	(void)state;
	assert_int_equal(config->log_level, ACCTLINK_LOG_DEBUG);
	assert_int_equal(config->poll_interval_ms, 50);
	assert_int_equal(config->held_bearers, 16);
	assert_int_equal(config->call_timeout_ms, 2500);
	assert_int_equal(config->shutdown_timeout_ms, 0);
	assert_int_equal(config->worker_threads, 64);
	assert_string_equal(config->store_path, "/var/s.db");
	assert_string_equal(config->key_files[0], "/k1");
	assert_string_equal(config->key_files[1], in_folder("k2"));
	assert_null(config->key_files[2]);
	assert_string_equal(p->scope, "openid accounts payments");
	assert_int_equal(p->response_mode, AL_MODE_FORM_POST);
	assert_false(p->pkce);
	assert_int_equal(p->algs, AL_ALG_ES256 | AL_ALG_EDDSA);
	assert_int_equal(p->bearer, AL_BEARER_ID_TOKEN);
	assert_int_equal(p->max_age_ms, 3600000);
	assert_int_equal(p->exchange_auth, AL_AUTH_BASIC_RAW);
	assert_int_equal(p->refresh_auth, AL_AUTH_BASIC_RAW);
	assert_int_equal(p->revoke_auth, AL_AUTH_NONE);
	assert_string_equal(p->authorize_parameters[0].name, "access_type");
	assert_string_equal(p->authorize_parameters[1].value, "consent");
	assert_null(p->authorize_parameters[2].name);
	assert_string_equal(p->definite[0].error, "gone");
	assert_int_equal(p->definite[0].status, 403);
	assert_string_equal(p->definite[0].description_prefix, "It is");
	assert_null(p->definite[1].error);
	assert_string_equal(p->institution_parameter, "bank");
	assert_int_equal(p->shared_subject, AL_SUBJECT_REFUSE);
	assert_true(p->iss_parameter_required);
	assert_string_equal(p->ca_file, in_folder("ca.pem"));
	assert_int_equal(p->reuse_window_ms, 1800000);
	assert_int_equal(p->refresh_lifetime_ms, 31536000000);
	assert_int_equal(log_count, 0);
	al_config_free(&config);
}

static void redirect_uris_and_issuers_are_kept_to_the_byte(void **state)
{
	static const char *const uris[] = { "https://app.example/cb", "https://app.example/cb/",
		"https://app.example/cb?tenant=7", "https://app.example:8443/cb", "https://app.example/r%C3%BCck",
		"http://localhost:3000/cb", "http://127.0.0.1/cb", "http://[::1]:8080/cb", "https://[2001:db8::1]/cb",
		"https://APP.example" };
	char text[2048];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(uris); i++) {
		struct al_config *config;

		(void)snprintf(text, sizeof(text),
			BANK("issuer = \"https://b.example%s\"; client_id = \"a\";\n"
			     "client_secret_file = \"secret\"; redirect_uri = [ \"https://x.example/\", \"%s\" ];\n"),
			i % 2 == 0 ? "/" : "", uris[i]);
		config = load(text);
		assert_string_equal(config->providers[0].redirect_uris[1], uris[i]);
		assert_string_equal(
			config->providers[0].issuer, i % 2 == 0 ? "https://b.example/" : "https://b.example");
		al_config_free(&config);
	}
}

static void a_profile_of_ones_own_stands_on_another(void **state)
{
	struct al_config *config = load(STORE
		"profiles = {\n"
		"all = { base = \"akoya\"; client_id = \"all\"; scope = \"openid\"; bearer_cap = 900;\n"
		"	environments = { dev = { issuer = \"http://localhost:1/\"; client_id = \"dev\"; }; }; };\n"
		"ours = { base = \"all\"; scope = \"openid x\"; redirect_uri = \"https://app.example/cb\";\n"
		"	client_secret_file = \"secret\"; };\n"
		"};\n"
		"providers = { a = { profile = \"ours\"; environment = \"dev\"; };\n"
		"b = { profile = \"ours\"; environment = \"production\"; scope = \"openid y\"; refresh_auth = \"none\"; }; };\n");
	const struct al_provider_config *a = al_config_provider(config, "a");
	const struct al_provider_config *b = al_config_provider(config, "b");

	(void)state;
	assert_string_equal(a->profile, "ours");
	assert_string_equal(a->issuer, "http://localhost:1/");
	assert_string_equal(a->token_endpoint, "http://localhost:1/token");
	assert_string_equal(a->client_id, "dev");
	assert_string_equal(a->scope, "openid x");
	assert_int_equal(a->bearer_cap_ms, 900000);
	assert_int_equal(a->refresh_auth, AL_AUTH_POST);
	assert_int_equal(a->bearer, AL_BEARER_ID_TOKEN);
	assert_string_equal(b->issuer, "https://idp.ddp.akoya.com/");
	assert_string_equal(b->client_id, "all");
	assert_string_equal(b->scope, "openid y");
	assert_int_equal(b->refresh_auth, AL_AUTH_NONE);
	assert_string_equal(al_buf_text(&b->client_secret), "s3cret");
	al_config_free(&config);
}

/* ---- the files in conf/ -------------------------------------------------------- */

static char *read_conf(const char *name, size_t room)
{
	char path[PATH_MAX + 64];
	char *text = calloc(1, room);
	FILE *file;
	size_t len;

	assert_non_null(text);
	(void)snprintf(path, sizeof(path), "%s/%s", conf_folder, name);
	file = fopen(path, "r");
	if (file == NULL)
		fail_msg("%s can't be read; run with srcdir set to the top of the source", path);
	len = fread(text, 1, room - 1, file);
	assert_true(len > 0 && len < room - 1);
	assert_int_equal(fclose(file), 0);
	return text;
}

/* The file as installed, with its folder replaced by the test's own. */
static char *relocated(const char *text)
{
	static const char from[] = "/etc/acctlink/";
	char *out = calloc(1, strlen(text) * 4);
	char *at = out;

	assert_non_null(out);
	while (*text != '\0') {
		if (strncmp(text, from, strlen(from)) == 0) {
			at += sprintf(at, "%s/", folder);
			text += strlen(from);
		} else {
			*at++ = *text++;
		}
	}
	return out;
}

static bool same_texts(char **a, char **b)
{
	size_t i = 0;

	while (a[i] != NULL && b[i] != NULL && strcmp(a[i], b[i]) == 0)
		i++;
	return a[i] == NULL && b[i] == NULL;
}

static bool same_value(const struct al_key *key, const void *a, const void *b)
{
	size_t offset = key->offset == AL_NO_FIELD ? 0 : key->offset;
	const void *x = (const char *)a + offset;
	const void *y = (const char *)b + offset;
	char *const *text_x = x;
	char *const *text_y = y;

	switch (key->type) {
	case AL_KEY_SECTION:
	case AL_KEY_WORD:
	case AL_KEY_ALL_AUTHS: return true;
	case AL_KEY_SECONDS: return memcmp(x, y, sizeof(int64_t)) == 0;
	case AL_KEY_COUNT:
	case AL_KEY_CHOICE:
	case AL_KEY_ALGS: return memcmp(x, y, sizeof(int)) == 0;
	case AL_KEY_BOOL: return *(const bool *)x == *(const bool *)y;
	case AL_KEY_PATHS:
	case AL_KEY_REDIRECTS: return same_texts(*(char **const *)x, *(char **const *)y);
	case AL_KEY_SECRET:
	case AL_KEY_SECRET_FILE:
	case AL_KEY_CREDENTIAL: return al_buf_equal(x, y);
	case AL_KEY_PAIRS: return (*text_x == NULL) == (*text_y == NULL);
	case AL_KEY_RULES:
		return strcmp((*(struct al_definite_rule *const *)x)->error,
			       (*(struct al_definite_rule *const *)y)->error)
			== 0;
	default: return *text_x == NULL || *text_y == NULL ? *text_x == *text_y : strcmp(*text_x, *text_y) == 0;
	}
}

static void every_key_is_in_the_reference_file(void **state)
{
	char *text = read_conf("acctlink.conf", 65536);

	(void)state;
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++) {
		char setting[128];
		const char *at = text;
		bool found = false;

		(void)snprintf(
			setting, sizeof(setting), "%s = %s", key->name, key->standard == NULL ? "" : key->standard);
		while (!found && (at = strstr(at, setting)) != NULL) {
			found = at > text && (at[-1] == '\n' || at[-1] == '\t' || at[-1] == ' ' || at[-1] == '#');
			at++;
		}
		if (!found)
			fail_msg("conf/acctlink.conf lacks: %s", setting);
	}
	free(text);
}

static void the_reference_file_loads_and_its_comments_are_the_defaults(void **state)
{
	char *text = read_conf("acctlink.conf", 65536);
	char *plain = relocated(text);
	char *open = relocated(text);
	struct al_config *config = load(plain);
	struct al_config *spelt_out;
	unsigned opened = 0;

	(void)state;
	/* Uncomment every line that names a default. */
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++) {
		char setting[128];
		char *at = open;

		if (key->standard == NULL)
			continue;
		(void)snprintf(setting, sizeof(setting), "#%s = %s;\n", key->name, key->standard);
		at = strstr(open, setting);
		if (at != NULL) {
			*at = ' ';
			opened++;
		}
	}
	assert_true(opened > 30);
	spelt_out = load(open);
	for (const struct al_key *key = al_config_keys; key->name != NULL; key++) {
		bool same = true;

		if (key->places & (AL_AT_TOP | AL_AT_STORE))
			same = same_value(key, config, spelt_out);
		else if (key->places & AL_AT_PROVIDER)
			same = same_value(key, &config->providers[0], &spelt_out->providers[0]);
		if (!same)
			fail_msg("%s is not its default", key->name);
	}
	al_config_free(&spelt_out);
	al_config_free(&config);
	free(open);
	free(plain);
	free(text);
}

static void the_short_files_load(void **state)
{
	static const char *const names[] = { "akoya-sandbox.conf", "akoya-production.conf", "oidc.conf" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(names); i++) {
		char *text = read_conf(names[i], 65536);
		char *plain = relocated(text);
		struct al_config *config = load(plain);

		assert_int_equal(config->provider_count, 1);
		assert_string_equal(config->store_path, "/var/lib/acctlink/store.db");
		al_config_free(&config);
		free(plain);
		free(text);
	}
}

/* ---- what is wrong, where, and what to do ------------------------------------------ */

static void an_unknown_key_is_an_error_with_the_nearest_known_one(void **state)
{
	(void)state;
	refuse(OIDC("scopes = \"openid\";\n"), 9,
		"unknown key \"scopes\" in a provider's section: did you mean \"scope\"?");
	refuse(OIDC("\nClient-Id = \"x\";\n"), 10, "did you mean \"client_id\"?");
	refuse(OIDC("zzzzzzzz = 1;\n"), 9, "unknown key \"zzzzzzzz\" in a provider's section");
	refuse(STORE "log_lvl = 1;\n", 2,
		"unknown key \"log_lvl\" in the top level of the file: did you mean \"log_level\"?");
	refuse("store = { path = \"x\"; keyfile = \"y\"; };\n", 1, "did you mean \"key_file\"?");
	refuse(STORE "client_id = \"x\";\n", 2, "it belongs in a provider's section");
	refuse(OIDC("path = \"x\";\n"), 9, "it belongs in store = { }");
	refuse(OIDC("base = \"oidc\";\n"), 9, "it belongs in a profile");
	refuse(OIDC("definite_errors = (\n{ error = \"x\";\nprefix = \"y\"; } );\n"), 11,
		"unknown key \"prefix\" in an element of definite_errors");
	refuse(STORE "profiles = {\nmine = { isuer = \"x\"; }; };\n", 3, "did you mean \"issuer\"?");
	refuse(STORE "profiles = { mine = {\nenvironments = { e = {\nbase = \"x\"; }; }; }; };\n", 4,
		"unknown key \"base\" in an environment of a profile");
}

static void a_value_of_the_wrong_type_is_an_error(void **state)
{
	static const struct {
		const char *line;
		const char *message;
	} cases[] = {
		{ "scope = 7;\n", "scope must be text in quotes, or a list of them, not a whole number" },
		{ "scope = ( 7 );\n", "scope must be text in quotes, not a whole number" },
		{ "pkce = 1;\n", "pkce must be true or false, not a whole number" },
		{ "pkce = \"true\";\n", "pkce must be true or false, not text in quotes" },
		{ "clock_skew = \"300\";\n", "clock_skew must be a number of seconds, not text in quotes" },
		{ "clock_skew = true;\n", "clock_skew must be a number of seconds, not true or false" },
		{ "institution_parameter = ( \"a\" );\n",
			"institution_parameter must be text in quotes, not a list in ( )" },
		{ "ca_file = [ \"a\" ];\n", "ca_file must be text in quotes, not a list in [ ]" },
		{ "bearer = 1.5;\n", "bearer must be text in quotes, not a number with a fraction" },
		{ "id_token_signed_response_alg = 256;\n", "must be text in quotes" },
		{ "authorize_parameters = ( \"a\" );\n", "authorize_parameters must be a group in { }" },
		{ "authorize_parameters = { a = 1; };\n", "a must be text in quotes, not a whole number" },
		{ "definite_errors = { error = \"x\"; };\n", "definite_errors must be a list of groups" },
		{ "definite_errors = ( \"invalid_grant\" );\n", "definite_errors must be a list of groups" },
		{ "definite_errors = ( { error = \"x\"; status = 400.0; } );\n", "status must be a whole number" },
		{ "definite_errors = ( { description_prefix = \"x\"; } );\n",
			"error is missing in an element of definite_errors" },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(cases); i++) {
		char text[1024];

		(void)snprintf(text, sizeof(text), OIDC("%s"), cases[i].line);
		refuse(text, 9, cases[i].message);
	}
	refuse(BANK("client_id = 7;\n"), 3, "client_id must be text in quotes, not a whole number");
	refuse("store = 1;\n", 1, "store must be a group in { }");
	refuse(STORE "providers = ( );\n", 2, "providers must be a group in { }");
	refuse(STORE "providers = { bank = \"x\"; };\n", 2, "provider \"bank\" must be a group in { }");
	refuse(STORE "profiles = { mine = 1; };\n", 2, "profile \"mine\" must be a group in { }");
	refuse(STORE "profiles = { mine = { environments = 1; }; };\n", 2, "environments must be a group in { }");
	refuse(STORE "profiles = { mine = { environments = { e = 1; }; }; };\n", 2, "must be a group in { }");
	refuse(OIDC("profile = 1;\n"), 9, "profile must be text in quotes");
	refuse(OIDC("environment = 1;\n"), 9, "environment must be text in quotes");
}

static void a_value_out_of_its_range_is_an_error(void **state)
{
	(void)state;
	refuse(OIDC("clock_skew = 3601;\n"), 9, "clock_skew must be from 0 to 3600 seconds, not 3601");
	refuse(OIDC("clock_skew = -1;\n"), 9, "clock_skew must be from 0 to 3600 seconds, not -1");
	refuse(OIDC("request_timeout = 0.05;\n"), 9, "request_timeout must be from 0.1 to 600 seconds, not 0.05");
	refuse(OIDC("max_age = 1.0e300;\n"), 9, "max_age must be from 0 to 315360000 seconds");
	refuse(STORE "worker_threads = 0;\n", 2, "worker_threads must be from 1 to 64, not 0");
	refuse(STORE "worker_threads = 65;\n", 2, "worker_threads must be from 1 to 64, not 65");
	refuse(STORE "log_level = \"verbose\";\n", 2,
		"log_level must be one of \"error\", \"warning\", \"notice\", \"info\", \"debug\", not \"verbose\"");
	refuse(OIDC("exchange_auth = \"basic\";\n"), 9, "exchange_auth must be one of \"client_secret_basic\"");
	refuse(OIDC("id_token_signed_response_alg = \"HS256\";\n"), 9, "must be one of \"RS256\"");
	refuse(OIDC("id_token_signed_response_alg = [ \"RS256\", \"none\" ];\n"), 9, "not \"none\"");
	refuse(OIDC("id_token_signed_response_alg = [ ];\n"), 9, "must not be empty");
	refuse(OIDC("definite_errors = ( { error = \"x\"; status = 500; } );\n"), 9, "status must be from 400 to 499");
	refuse(OIDC("institution_parameter = \"\";\n"), 9, "institution_parameter must not be empty");
	refuse(OIDC("institution_parameter = \"a\\nb\";\n"), 9, "control characters");
	refuse(OIDC("scope = \"a \\\" b\";\n"), 9, "RFC 6749, 3.3");
}

static void integers_that_libconfig_would_wrap_are_errors(void **state)
{
	struct al_config *config;

	(void)state;
	refuse(OIDC("clock_skew = 5000000000;\n"), 9, "too large: 2147483647 is the largest");
	refuse(OIDC("clock_skew =\n2147483648;\n"), 10, "too large");
	refuse(OIDC("clock_skew = 4294967396L;\n"), 9, "too large");
	refuse(OIDC("clock_skew = 18446744073709551916;\n"), 9, "too large");
	refuse(OIDC("clock_skew = 0xFFFFFFFF;\n"), 9, "too large");
	refuse(OIDC("clock_skew = 2147483647;\n"), 9, "clock_skew must be from 0 to 3600 seconds");
	refuse(OIDC("clock_skew = 010;\n"), 9, "must not begin with a zero");
	refuse(OIDC("clock_skew = 30s;\n"), 9, "write plain numbers (times in seconds)");
	refuse(OIDC("clock_skew = 1.5s;\n"), 9, "neither a number nor text");
	config = load("# 5000000000\n// 5000000000\n/* 5000000000\n */\n" STORE
		      "providers = { bank-5000000000 = {\n" OIDC_LINES "scope = \"openid 5000000000\";\n}; };\n");
	assert_string_equal(config->providers[0].name, "bank-5000000000");
	assert_string_equal(config->providers[0].scope, "openid 5000000000");
	al_config_free(&config);
}

static void what_is_required_is_named_if_it_is_missing(void **state)
{
	(void)state;
	refuse("", 1, "store is missing: add store = {");
	refuse("store = { key_file = \"k\"; };\n", 1, "path is missing in store");
	refuse("\nstore = { path = \"k\"; };\n", 2, "key_file is missing in store");
	refuse(STORE, 1, "there is no provider: add providers = {");
	refuse(STORE "providers = { };\n", 2, "there is no provider");
	refuse(BANK("issuer = \"https://b.example\"; redirect_uri = \"https://a.example/\";\n"), 2,
		"client_id is missing in bank");
	refuse(BANK("issuer = \"https://b.example\"; client_id = \"a\";\n"), 2, "redirect_uri is missing in bank");
	refuse(BANK("issuer = \"https://b.example\"; client_id = \"a\"; redirect_uri = \"https://a.example/\";\n"), 2,
		"client_secret_file is missing");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\";\n"), 2,
		"issuer is missing: discovery starts there");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\"; discovery = false;\n"), 2,
		"issuer is missing: scope has openid");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\"; profile = \"oauth2\";\n"), 2,
		"authorization_endpoint is missing");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\"; profile = \"oauth2\";\n"
		    "authorization_endpoint = \"https://b.example/a\";\n"),
		2, "token_endpoint is missing");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\"; profile = \"oauth2\";\n"
		    "authorization_endpoint = \"https://b.example/a\"; token_endpoint = \"{issuer}/t\";\n"),
		2, "begins with {issuer}");
	refuse(BANK("client_id = \"a\"; redirect_uri = \"https://a.example/\"; profile = \"oauth2\";\n"
		    "iss_parameter_required = true;\n"),
		2, "iss_parameter_required compares with it");
	refuse(OIDC("discovery = false; authorization_endpoint = \"{issuer}/a\"; token_endpoint = \"{issuer}/t\";\n"),
		4, "jwks_uri is missing");
	refuse(BANK("profile = \"akoya\"; client_id = \"a\"; redirect_uri = \"https://a.example/\";\n"), 2,
		"environment is missing: one of \"sandbox\", \"production\" (or an issuer of its own)");
}

static void contradictions_are_errors(void **state)
{
	(void)state;
	refuse(OIDC("client_secret_credential = \"x\";\n"), 9,
		"client_secret_file and client_secret_credential exclude each other");
	refuse("store = { path = \"p\"; key_file = \"a\";\nkey_files = [ \"b\" ]; };\n", 2,
		"key_file and key_files exclude each other");
	refuse(OIDC("bearer = \"id_token\"; scope = \"accounts openidx\";\n"), 4, "needs openid in scope");
	refuse(OIDC("institution_required = true;\n"), 4, "institution_required needs institution_parameter");
	refuse(OIDC("authorize_parameters = { prompt = \"x\";\nstate = \"y\"; };\n"), 10,
		"state is a parameter that acctlink sends itself");
	refuse(AKOYA("authorize_parameters = { connector = \"x\"; };\n"), 4, "connector in authorize_parameters");
	refuse(OIDC("institution_parameter = \"state\";\n"), 4,
		"institution_parameter: state is a parameter that acctlink sends itself");
	refuse(OIDC("backoff_base = 301;\n"), 4, "backoff_base is larger than backoff_cap");
	refuse(OIDC("connect_timeout = 31;\n"), 4, "connect_timeout is larger than request_timeout");
	refuse(OIDC("client_id = \"twice\";\n"), 9, "this name stands twice");
	refuse(STORE "providers = { bank = { };\nbank = { }; };\n", 3, "this name stands twice");
	refuse(STORE "providers = { Bank = { }; };\n", 2, "a provider's name has 1 to 63 of a-z");
	refuse(STORE "providers = { "
		     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = { }; };\n",
		2, "a provider's name has");
}

static void profiles_and_environments_must_exist(void **state)
{
	(void)state;
	refuse(OIDC("profile = \"akoia\";\n"), 9, "unknown profile \"akoia\": did you mean \"akoya\"?");
	refuse(OIDC("profile = \"mybnk\";\n") "profiles = { mybank = { }; };\n", 9, "did you mean \"mybank\"?");
	refuse(OIDC("profile = \"something\";\n"), 9, "akoya, oidc and oauth2 are built in");
	refuse(OIDC("profile = \"\";\n"), 9, "unknown profile");
	refuse(OIDC("environment = \"live\";\n"), 9, "unknown environment \"live\": the profile has none");
	refuse(AKOYA("") "providers2 = 1;\n", 12, "did you mean \"providers\"?");
	refuse(BANK("profile = \"akoya\";\nenvironment = \"sandbx\";\n"), 4,
		"unknown environment \"sandbx\": the profile has \"sandbox\", \"production\"");
	refuse(STORE "profiles = { oidc = { }; };\n", 2, "profile \"oidc\" is built in");
	refuse(STORE "profiles = { a = { base = \"b\"; }; b = { base = \"a\"; }; };\n"
		     "providers = { x = { profile = \"a\"; }; };\n",
		2, "in a circle");
	refuse(STORE "profiles = { a = { base = 7; }; };\nproviders = { x = { profile = \"a\"; }; };\n", 2,
		"base must be text in quotes");
	refuse(STORE "profiles = { a = {\nbase = \"oauth\"; }; };\nproviders = { x = { profile = \"a\"; }; };\n", 3,
		"unknown profile \"oauth\": did you mean \"oauth2\"?");
}

static void urls_must_be_safe_and_exact(void **state)
{
	static const struct {
		const char *url;
		const char *message;
	} cases[] = {
		{ "http://b.example/", "must begin with https://" },
		{ "http://127.0.0.1.b.example/", "must begin with https://" },
		{ "http://127.1/", "must begin with https://" },
		{ "http://128.0.0.1/", "must begin with https://" },
		{ "http://localhost.b.example/", "must begin with https://" },
		{ "http://[::2]/", "must begin with https://" },
		{ "http://localhost@b.example/", "user name" },
		{ "https://me:pass@b.example/", "user name" },
		{ "https://b.example/#x", "fragment" },
		{ "https://", "no valid host" },
		{ "https:///x", "no valid host" },
		{ "https://b_ex!ample/", "no valid host" },
		{ "https://[::1/", "no valid host" },
		{ "https://[b]/", "no valid host" },
		{ "https://b.example:/", "no valid port" },
		{ "https://b.example:0/", "no valid port" },
		{ "https://b.example:65536/", "no valid port" },
		{ "https://b.example:80x/", "no valid port" },
		{ "https://b.example/r\xC3\xBC"
		  "ck",
			"percent-encoded" },
		{ "https://b.example/a b", "percent-encoded" },
		{ "https://b.example\\\\@c.example/", "percent-encoded" },
		{ "ftp://b.example/", "must begin with https://" },
		{ "com.example.app:/cb", "must begin with https://" },
		{ "b.example", "must begin with https://" },
		{ "", "must not be empty" },
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(cases); i++) {
		(void)snprintf(text, sizeof(text), BANK("redirect_uri = \"%s\";\n"), cases[i].url);
		refuse(text, 3, cases[i].message);
		(void)snprintf(text, sizeof(text), BANK("issuer = \"%s\";\n"), cases[i].url);
		refuse(text, 3, cases[i].message);
		(void)snprintf(text, sizeof(text), BANK("token_endpoint = \"%s\";\n"), cases[i].url);
		refuse(text, 3, cases[i].message);
	}
	refuse(BANK("issuer = \"https://b.example/?x\";\n"), 3, "query");
	refuse(BANK("redirect_uri = [ \"https://a.example/\",\n\"http://a.example/\" ];\n"), 3,
		"redirect_uri must begin");
	refuse(BANK("redirect_uri = [ ];\n"), 3, "redirect_uri must not be empty");
	refuse(OIDC("token_endpoint = \"{issuer}/t#x\";\n"), 4, "token_endpoint must not have a fragment");
	refuse(OIDC("token_endpoint = \"{issuer}t\";\n"), 9, "token_endpoint must begin");
}

static void syntax_errors_tell_the_line_of_the_mistake(void **state)
{
	(void)state;
	refuse(OIDC("scope = \"openid;\n") "# \" \"\n", 9, "has no closing quote");
	refuse(OIDC("scope = \"openid"), 9, "has no closing quote");
	refuse(OIDC("scope = \"openid\\\n\";\n"), 9, "has no closing quote");
	refuse(OIDC("scope = \"openid\\"), 9, "has no closing quote");
	refuse(OIDC("scope \"openid\";\n"), 9, "is a \"=\" missing");
	refuse(OIDC("/* scope\n\n"), 9, "*/ is missing");
	refuse(OIDC("scope = = 3;\n"), 9, "syntax error: look for a missing");
	refuse(OIDC("scope = ( 1, 2;\n"), 9, "syntax error");
	refuse(OIDC("x @y;\n"), 9, "\"@\" only begins @include");
	refuse(STORE "providers = {\n", 3, "syntax error");
	write_bytes("t.conf", 0644, "# \n# \0\n", 7);
	refuse_in("t.conf", 2, "not UTF-8");
	refuse("# \n\n# \xff\n", 3, "not UTF-8");
	refuse("# \xEF\xBB\xBF\n" STORE "\xEF\xBB\xBF", 3, "syntax error");
	{
		struct al_config *config = load("\xEF\xBB\xBF" OIDC(""));

		al_config_free(&config);
	}
}

static void deep_nesting_is_an_error_and_no_crash(void **state)
{
	size_t depth = 200000;
	char *text = calloc(1, depth + 16);

	(void)state;
	assert_non_null(text);
	memcpy(text, "a = ", 4);
	memset(text + 4, '(', depth);
	refuse(text, 1, "");
	free(text);
}

/* ---- files --------------------------------------------------------------------------- */

static void includes_start_from_the_including_file(void **state)
{
	struct al_config *config;

	(void)state;
	assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
	assert_int_equal(mkdir(in_folder("sub/deep"), 0700), 0);
	write_text("sub/one.conf", "providers = {\n\t@include \"deep/two.conf\" # more\n};\n");
	write_text("sub/deep/two.conf", "bank = {\n@include \"../../lines.conf\"\n};");
	write_text("lines.conf", OIDC_LINES "ca_file = \"ca.pem\";");
	config = load(STORE "@include \"sub/one.conf\"\nlog_level = \"info\";\n");
	assert_string_equal(config->providers[0].client_id, "acme");
	assert_string_equal(config->providers[0].ca_file + strlen(config->providers[0].ca_file) - 6, "ca.pem");
	assert_int_equal(config->log_level, ACCTLINK_LOG_INFO);
	al_config_free(&config);

	/* The lines are counted through all of them. */
	write_text("lines.conf", OIDC_LINES "\nscopes = 1;");
	refuse_in("sub/deep/../../lines.conf", 6, "did you mean \"scope\"?");
	write_text("lines.conf", OIDC_LINES);
	write_text("sub/one.conf", "providers = {\n\t@include \"deep/two.conf\" # more\n\n}; \"\n");
	refuse_in("sub/one.conf", 4, "is a \"=\" missing");
	write_text("sub/one.conf", "providers = {\n\t@include \"deep/two.conf\"\n}; /*\n*/ @include \"gone.conf\"\n");
	refuse_in("sub/one.conf", 4, "gone.conf: No such file");
	write_text("sub/one.conf", "providers = {\n@include \"deep/two.conf\"\n};\n");
	write_text("lines.conf", OIDC_LINES "max_age = 5000000000;\n");
	refuse_in("sub/deep/../../lines.conf", 5, "too large");
	write_text("lines.conf", OIDC_LINES "};\n");
	refuse_in("sub/one.conf", 3, "syntax error");
	write_text("lines.conf", OIDC_LINES);
	refuse(STORE "@include \"sub/one.conf\"\n\nlog_levl = 1;\n", 4, "did you mean \"log_level\"?");
	refuse(STORE "@include \"sub/one.conf\" log_levl = 1;\n", 2, "did you mean \"log_level\"?");
}

static void an_absolute_include_is_taken_as_it_is(void **state)
{
	char text[PATH_MAX + 1024];
	struct al_config *config;

	(void)state;
	write_text("rest.conf", "providers = { bank = {\n" OIDC_LINES "}; };\n");
	(void)snprintf(text, sizeof(text), STORE "@include \"%s\"\n", in_folder("rest.conf"));
	config = load(text);
	al_config_free(&config);
}

static void an_include_that_fails_is_an_error_at_its_line(void **state)
{
	char many[4096] = "";

	(void)state;
	refuse(STORE "\n  @include \"none.conf\"\n", 3, "none.conf: No such file or directory");
	refuse("\n@include \".\"\n", 2, "is not a regular file");
	refuse("\n@include none.conf\n", 2, "@include needs the name of a file in quotes");
	refuse("\n@include \"\"\n", 2, "@include needs the name");
	refuse("\n@include \"none.conf\n\"", 2, "@include needs the name");
	refuse("\n@includes \"none.conf\"\n", 2, "@include needs the name");
	refuse("\na = 1; @include \"none.conf\"\n", 2, "on a line of its own");
	refuse("\n@include \"t.conf\"\n", 2, "t.conf includes itself");
	write_text("a.conf", "#\n\n@include \"b.conf\"\n");
	write_text("b.conf", "@include \"./t.conf\"\n");
	write_text("t.conf", "@include \"a.conf\"\n");
	refuse_in("b.conf", 1, "t.conf includes itself");
	write_text("b.conf", "/* open");
	refuse_in("b.conf", 1, "*/ is missing");
	for (int i = 0; i < 70; i++)
		strcat(many, "@include \"empty.conf\"\n");
	write_text("empty.conf", "");
	refuse(many, 64, "more than 63 files");
	for (char name = 'c'; name != 'm'; name++) {
		char text[64];
		char file[] = "x.conf";

		file[0] = name;
		(void)snprintf(text, sizeof(text), "@include \"%c.conf\"\n", name + 1);
		write_text(file, text);
	}
	write_text("t.conf", "@include \"c.conf\"\n");
	refuse_in("j.conf", 1, "nested deeper than 8");
}

static void includes_in_comments_and_texts_are_none(void **state)
{
	struct al_config *config = load("# @include \"none\"\n/*\n@include \"none\"\n*/\n//\n" OIDC(
		"institution_parameter = \"@include\"\n\"none\";\n"));

	(void)state;
	assert_string_equal(config->providers[0].institution_parameter, "@includenone");
	al_config_free(&config);
}

static void a_missing_or_odd_file_is_an_error_with_its_path(void **state)
{
	char path[PATH_MAX];
	char *large = calloc(1, 2 * 1024 * 1024);
	struct al_config *config;
	char target[PATH_MAX];

	(void)state;
	assert_non_null(large);
	expect_error("/nowhere/acctlink.conf", "/nowhere/acctlink.conf", "No such file or directory");
	expect_error(folder, folder, "is not a regular file");
	(void)snprintf(path, sizeof(path), "%s", in_folder("fifo"));
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_error(path, path, "is not a regular file");
	memset(large, '\n', 2 * 1024 * 1024 - 1);
	write_text("t.conf", large);
	free(large);
	expect_error(in_folder("t.conf"), in_folder("t.conf"), "larger than 1048576 bytes");
	/* A symbolic link is followed. */
	write_text("t.conf", OIDC(""));
	(void)snprintf(target, sizeof(target), "%s", in_folder("t.conf"));
	(void)snprintf(path, sizeof(path), "%s", in_folder("link.conf"));
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(al_config_load(path, &test_log, &config, NULL), ACCTLINK_OK);
	al_config_free(&config);
	/* The error may be NULL. */
	assert_int_equal(al_config_load("/nowhere", &test_log, &config, NULL), ACCTLINK_BAD_CONFIG);
	if (geteuid() != 0) {
		assert_int_equal(chmod(target, 0), 0);
		expect_error(target, target, "Permission denied");
	}
}

static void a_relative_path_is_made_absolute_for_the_next_reload(void **state)
{
	struct al_config *config;

	(void)state;
	write_text("t.conf", OIDC(""));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(al_config_load("t.conf", &test_log, &config, NULL), ACCTLINK_OK);
	assert_int_equal(chdir("/"), 0);
	assert_string_equal(config->path, in_folder("t.conf"));
	assert_string_equal(config->store_path, in_folder("store.db"));
	al_config_free(&config);
	expect_error("nowhere.conf", "/nowhere.conf", "can't read /nowhere.conf");
}

static void two_large_files_are_too_large_together(void **state)
{
	char *large = calloc(1, 800001);

	(void)state;
	assert_non_null(large);
	memset(large, '\n', 800000);
	write_text("large.conf", large);
	write_text("t.conf", "@include \"large.conf\"\n@include \"large.conf\"\n");
	refuse_in("large.conf", 800001, "larger than 1 MiB");
	free(large);
}

static void a_path_too_long_for_the_error_keeps_its_line(void **state)
{
	char where[32];

	(void)state;
	al_where(where, sizeof(where), "/a/very/long/path/to/some/acctlink.conf", 4294967295U);
	assert_int_equal(strlen(where), sizeof(where) - 1);
	assert_string_equal(where + strlen(where) - 16, ".conf:4294967295");
	al_where(where, sizeof(where), "/a.conf", 7);
	assert_string_equal(where, "/a.conf:7");
}

/* ---- secrets --------------------------------------------------------------------------- */

static void a_secret_file_must_be_private_and_its_line_break_is_dropped(void **state)
{
	static const struct {
		const char *text;
		const char *secret;
	} good[] = { { "x", "x" }, { "x\n", "x" }, { "x\r\n", "x" }, { " p+q/r:s%t=u v~ ", " p+q/r:s%t=u v~ " },
		{ "\xC3\xBC\n", "\xC3\xBC" } };
	static const mode_t modes[] = { 0600, 0400, 0700 };
	static const mode_t bad_modes[] = { 0644, 0640, 0604, 0620, 0610, 0601 };
	struct al_config *config;

	(void)state;
	for (size_t i = 0; i < AL_COUNT(good); i++) {
		write_bytes("secret", modes[i % AL_COUNT(modes)], good[i].text, strlen(good[i].text));
		config = load(OIDC(""));
		assert_string_equal(al_buf_text(&config->providers[0].client_secret), good[i].secret);
		al_config_free(&config);
	}
	for (size_t i = 0; i < AL_COUNT(bad_modes); i++) {
		char message[128];

		write_bytes("secret", bad_modes[i], "x", 1);
		(void)snprintf(message, sizeof(message), "holds a secret and has mode %04o: chmod 600 it",
			(unsigned)bad_modes[i]);
		refuse(OIDC(""), 7, message);
	}
	config = load("allow_readable_secrets = true;\n" OIDC(""));
	assert_int_equal(log_count, 1);
	assert_non_null(strstr(log_text, "/secret holds a secret and has mode 0601 (allow_readable_secrets is set)"));
	al_config_free(&config);
	write_bytes("secret", 0600, "", 0);
	refuse(OIDC(""), 7, "the secret is empty");
	write_bytes("secret", 0600, "\n", 1);
	refuse(OIDC(""), 7, "the secret is empty");
	write_bytes("secret", 0600, "a\n\n", 3);
	refuse(OIDC(""), 7, "line break");
	write_bytes("secret", 0600, "a\0b", 3);
	refuse(OIDC(""), 7, "control character");
	assert_int_equal(unlink(in_folder("secret")), 0);
	refuse(OIDC(""), 7, "/secret: No such file or directory");
	assert_int_equal(mkdir(in_folder("secret"), 0700), 0);
	refuse(OIDC(""), 7, "/secret is not a regular file");
	assert_int_equal(rmdir(in_folder("secret")), 0);
	write_bytes("secret", 0600, "s3cret\n", 7);
}

static void a_secret_may_be_as_long_as_4096_bytes(void **state)
{
	char text[5000];
	struct al_config *config;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[4096] = '\n';
	write_bytes("secret", 0600, text, 4097);
	config = load(OIDC(""));
	assert_int_equal(config->providers[0].client_secret.len, 4096);
	al_config_free(&config);
	text[4096] = 'x';
	write_bytes("secret", 0600, text, 4097);
	refuse(OIDC(""), 7, "longer than 4096 bytes");
	write_bytes("secret", 0600, text, 5000);
	refuse(OIDC(""), 7, "larger than");
	write_bytes("secret", 0600, "s3cret\n", 7);
}

#define BY_VALUE \
	"issuer = \"https://b.example\"; client_id = \"a\"; redirect_uri = \"https://app.example/\";\n" \
	"client_secret = \"canary-7f\";\n"

static void a_secret_by_value_needs_a_private_file(void **state)
{
	struct al_config *config = NULL;

	(void)state;
	refuse(BANK(BY_VALUE), 4, "has mode 0644: chmod 600 it, or use client_secret_file");
	write_bytes("t.conf", 0640, BANK(BY_VALUE), strlen(BANK(BY_VALUE)));
	refuse_in("t.conf", 4, "has mode 0640");
	write_bytes("t.conf", 0600, BANK(BY_VALUE), strlen(BANK(BY_VALUE)));
	assert_int_equal(al_config_load(in_folder("t.conf"), &test_log, &config, NULL), ACCTLINK_OK);
	assert_string_equal(al_buf_text(&config->providers[0].client_secret), "canary-7f");
	al_config_free(&config);
	/* What counts is the file that holds it, not the one that includes that. */
	write_bytes("private.conf", 0600, BY_VALUE, strlen(BY_VALUE));
	config = load(BANK("@include \"private.conf\"\n"));
	al_config_free(&config);
	write_bytes("private.conf", 0644, BY_VALUE, strlen(BY_VALUE));
	write_bytes("t.conf", 0600, BANK("@include \"private.conf\"\n"), strlen(BANK("@include \"private.conf\"\n")));
	refuse_in("private.conf", 2, "private.conf holds a secret and has mode 0644");
	config = load("allow_readable_secrets = true;\n" BANK(BY_VALUE));
	assert_int_equal(log_count, 1);
	assert_null(strstr(log_text, "canary"));
	al_config_free(&config);
	refuse(BANK("client_secret = 7;\n"), 3, "client_secret must be text in quotes");
	write_bytes("t.conf", 0600, BANK("client_secret = \"\";\n"), strlen(BANK("client_secret = \"\";\n")));
	refuse_in("t.conf", 3, "the secret is empty");
}

static void a_systemd_credential_is_read_by_name(void **state)
{
	static const char text[] = BANK(
		"issuer = \"https://b.example\"; client_id = \"a\";\n"
		"redirect_uri = \"https://app.example/\";\nclient_secret_credential = \"bank\";\n");
	struct al_config *config;

	(void)state;
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	refuse(text, 5, "$CREDENTIALS_DIRECTORY is not set");
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
	refuse(text, 5, "/bank: No such file");
	/* systemd grants access by an ACL, which shows as group bits. */
	write_bytes("bank", 0440, "by-systemd", 10);
	config = load(text);
	assert_string_equal(al_buf_text(&config->providers[0].client_secret), "by-systemd");
	al_config_free(&config);
	refuse(BANK("client_secret_credential = \"../bank\";\n"), 3,
		"is a name, as in LoadCredential=NAME, not a path");
	refuse(BANK("client_secret_credential = \"..\";\n"), 3, "not a path");
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}

static void a_public_client_needs_no_secret_and_is_told_of_a_useless_one(void **state)
{
	struct al_config *config = load(
		BANK("issuer = \"https://b.example\"; client_id = \"a\";\n"
		     "redirect_uri = \"https://app.example/\"; token_endpoint_auth_method = \"none\";\n"));

	(void)state;
	assert_int_equal(config->providers[0].client_secret.len, 0);
	assert_int_equal(log_count, 0);
	al_config_free(&config);
	config = load(OIDC("token_endpoint_auth_method = \"none\";\n"));
	assert_int_equal(log_count, 1);
	assert_non_null(strstr(log_text, "the client secret is not used"));
	al_config_free(&config);
	config = load(OIDC("pkce = false; nonce = false;\n"));
	assert_int_equal(log_count, 1);
	assert_non_null(strstr(log_text, "neither pkce nor nonce"));
	al_config_free(&config);
}

static void no_error_repeats_a_secret(void **state)
{
	static const char *const lines[] = { "client_secret = \"canary-7f\"; scopes = 1;\n",
		"client_secret = [ \"canary-7f\" ];\n", "client_secret = \"canary-7f;\n",
		"client_secret \"canary-7f\";\n", "client_secret = \"canary-7f\\n\";\n",
		"client_secret = \"canary-7f\"; client_secret = \"canary-7f\";\n",
		"issuer = \"https://canary-7f:canary-7f@b.example/\";\n", "client_secret = canary-7f;\n" };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(lines); i++) {
		struct al_config *config = NULL;
		acctlink_error err = { .status = 0 };
		char text[1024];

		(void)snprintf(text, sizeof(text), BANK("%s"), lines[i]);
		write_bytes("t.conf", 0600, text, strlen(text));
		assert_int_equal(al_config_load(in_folder("t.conf"), &test_log, &config, &err), ACCTLINK_BAD_CONFIG);
		assert_null(strstr(err.message, "canary"));
		assert_null(strstr(err.where, "canary"));
	}
}

/* ---- hostile input ------------------------------------------------------------------------ */

static const char whole[] = "@include \"empty.conf\"\n" AKOYA(
	"definite_errors = ( { error = \"x\"; description_prefix = \"y\"; } ); // z\n"
	"authorize_parameters = { a = \"b\"; }; /* c */ scope = [ \"openid\", \"d\" ];\n") "profiles = { p = { base = \"oidc\"; environments = { e = { max_age = 0x10; }; }; }; };\n";

/* Loads and, if that works, checks that no provider is half there. */
static void load_damaged(const char *text, size_t len)
{
	struct al_config *config = NULL;
	acctlink_error err = { .status = 0 };
	al_rc rc;

	write_bytes("t.conf", 0600, text, len);
	rc = al_config_load(in_folder("t.conf"), &test_log, &config, &err);
	if (rc != ACCTLINK_OK) {
		assert_int_equal(rc, ACCTLINK_BAD_CONFIG);
		assert_null(config);
		assert_true(strncmp(err.where, folder, strlen(folder)) == 0);
		assert_true(err.message[0] != '\0');
		return;
	}
	assert_true(config->provider_count > 0 && config->store_path != NULL && config->key_files[0] != NULL);
	for (size_t i = 0; i < config->provider_count; i++) {
		const struct al_provider_config *p = &config->providers[i];

		assert_true(p->issuer != NULL && p->token_endpoint != NULL && p->client_id[0] != '\0');
		assert_true(p->client_secret.len > 0 && p->redirect_uris[0] != NULL && p->definite != NULL);
	}
	al_config_free(&config);
}

static void a_truncated_config_is_an_error_with_file_and_line(void **state)
{
	(void)state;
	write_text("empty.conf", "");
	for (size_t len = 0; len < sizeof(whole); len++)
		load_damaged(whole, len);
	/* Cut inside the provider it never loads. */
	for (size_t len = 0; len < sizeof("@include \"empty.conf\"\n" AKOYA("")) - 4; len++) {
		struct al_config *config = NULL;

		write_bytes("t.conf", 0600, whole, len);
		assert_int_equal(al_config_load(in_folder("t.conf"), &test_log, &config, NULL), ACCTLINK_BAD_CONFIG);
	}
}

static void a_config_with_any_byte_replaced_never_crashes(void **state)
{
	static const char bytes[] = "\"{}()[];=@/*#0xL.\\\n\t a_\xff";
	char text[sizeof(whole)];

	(void)state;
	for (size_t at = 0; at + 1 < sizeof(whole); at++) {
		memcpy(text, whole, sizeof(whole));
		text[at] = bytes[at % (sizeof(bytes) - 1)];
		load_damaged(text, sizeof(whole) - 1);
	}
}

static void the_host_s_locale_is_left_alone(void **state)
{
	locale_t own = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
	struct al_config *config;

	(void)state;
	assert_true(own != (locale_t)0);
	assert_true(uselocale(own) == LC_GLOBAL_LOCALE);
	config = load(OIDC(""));
	assert_true(uselocale((locale_t)0) == own);
	refuse(OIDC("a = = 1;\n"), 9, "syntax error");
	assert_true(uselocale((locale_t)0) == own);
	(void)uselocale(LC_GLOBAL_LOCALE);
	freelocale(own);
	al_config_free(&config);
}

/* ---- the folder --------------------------------------------------------------------------- */

static int make_folder(void **state)
{
	const char *source = getenv("srcdir");
	char path[PATH_MAX];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/conf", source == NULL ? "." : source);
	if (realpath(path, conf_folder) == NULL || mkdtemp(folder) == NULL || chdir("/") != 0)
		return -1;
	write_bytes("secret", 0600, "s3cret\n", 7);
	write_bytes("bank.secret", 0600, "s3cret\n", 7);
	write_bytes("akoya.secret", 0600, "s3cret\n", 7);
	write_text("ca.pem", "");
	return 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
	(void)info;
	(void)type;
	(void)place;
	return remove(path);
}

static int remove_folder(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_akoya_section_of_six_lines_is_all_that_akoya_needs),
		cmocka_unit_test(akoya_production_is_another_word_and_an_issuer_of_its_own_wins),
		cmocka_unit_test(what_a_file_leaves_out_has_its_default),
		cmocka_unit_test(an_oauth2_provider_needs_no_issuer),
		cmocka_unit_test(every_kind_of_value_is_read),
		cmocka_unit_test(redirect_uris_and_issuers_are_kept_to_the_byte),
		cmocka_unit_test(a_profile_of_ones_own_stands_on_another),
		cmocka_unit_test(every_key_is_in_the_reference_file),
		cmocka_unit_test(the_reference_file_loads_and_its_comments_are_the_defaults),
		cmocka_unit_test(the_short_files_load),
		cmocka_unit_test(an_unknown_key_is_an_error_with_the_nearest_known_one),
		cmocka_unit_test(a_value_of_the_wrong_type_is_an_error),
		cmocka_unit_test(a_value_out_of_its_range_is_an_error),
		cmocka_unit_test(integers_that_libconfig_would_wrap_are_errors),
		cmocka_unit_test(what_is_required_is_named_if_it_is_missing),
		cmocka_unit_test(contradictions_are_errors),
		cmocka_unit_test(profiles_and_environments_must_exist),
		cmocka_unit_test(urls_must_be_safe_and_exact),
		cmocka_unit_test(syntax_errors_tell_the_line_of_the_mistake),
		cmocka_unit_test(deep_nesting_is_an_error_and_no_crash),
		cmocka_unit_test(includes_start_from_the_including_file),
		cmocka_unit_test(an_absolute_include_is_taken_as_it_is),
		cmocka_unit_test(an_include_that_fails_is_an_error_at_its_line),
		cmocka_unit_test(includes_in_comments_and_texts_are_none),
		cmocka_unit_test(a_missing_or_odd_file_is_an_error_with_its_path),
		cmocka_unit_test(a_relative_path_is_made_absolute_for_the_next_reload),
		cmocka_unit_test(two_large_files_are_too_large_together),
		cmocka_unit_test(a_path_too_long_for_the_error_keeps_its_line),
		cmocka_unit_test(a_secret_file_must_be_private_and_its_line_break_is_dropped),
		cmocka_unit_test(a_secret_may_be_as_long_as_4096_bytes),
		cmocka_unit_test(a_secret_by_value_needs_a_private_file),
		cmocka_unit_test(a_systemd_credential_is_read_by_name),
		cmocka_unit_test(a_public_client_needs_no_secret_and_is_told_of_a_useless_one),
		cmocka_unit_test(no_error_repeats_a_secret),
		cmocka_unit_test(a_truncated_config_is_an_error_with_file_and_line),
		cmocka_unit_test(a_config_with_any_byte_replaced_never_crashes),
		cmocka_unit_test(the_host_s_locale_is_left_alone),
	};

	return cmocka_run_group_tests_name("config", tests, make_folder, remove_folder);
}
