/* SPDX-License-Identifier: MIT
 * Hosts for the tests: config files, loading, recording hooks, and the calls
 * that nearly every test makes. Knows nothing of the plugin's inside.
 */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

acctlink_str th_str(const char *text)
{
	const acctlink_str str = { text, text != NULL ? strlen(text) : 0 };

	return str;
}

char *th_error_text(const acctlink_error *err)
{
	return th_printf("%d %s (%s) HTTP %d %s", (int)err->status, err->message, err->where, (int)err->http_status,
		err->provider_code);
}

/* ---- config -------------------------------------------------------------- */

static void write_key(const char *path)
{
	unsigned char key[32];
	char text[66];
	size_t i;

	if (access(path, F_OK) == 0)
		return;
	th_check(getrandom(key, sizeof(key), 0) == sizeof(key), "getrandom");
	for (i = 0; i < sizeof(key); i++)
		snprintf(text + 2 * i, 3, "%02x", key[i]);
	strcat(text, "\n");
	th_write_file(path, 0600, text);
}

/* A libconfig string. */
static char *quoted(const char *text)
{
	char *out = calloc(2, strlen(text) + 2);
	char *to = out;

	th_check(out != NULL, "no memory");
	*to++ = '"';
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			*to++ = '\\';
		*to++ = *text;
	}
	*to = '"';
	return out;
}

static char *setting(const char *name, const char *value)
{
	char *text = value != NULL ? quoted(value) : NULL;
	char *line = text != NULL ? th_printf("\t\t%s = %s;\n", name, text) : th_printf("%s", "");

	free(text);
	return line;
}

static char *lines_of(const char *text)
{
	char *copy = th_printf("%s", text != NULL ? text : "");
	char *at;

	for (at = copy; *at != '\0'; at++) {
		if (*at == '\'')
			*at = '"';
	}
	return copy;
}

static const char *or_default(const char *given, const char *fallback)
{
	return given != NULL ? given : fallback;
}

char *th_config_write(const char *dir, const struct th_provider *provider, const struct th_config *config)
{
	static const struct th_config usual = { NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL };
	const struct th_config *c = config != NULL ? config : &usual;
	const char *secret = or_default(c->client_secret, "test-secret");
	char *part[] = {
		lines_of(c->lines),
		setting("profile", or_default(c->profile, "oidc")),
		setting("issuer", c->issuer != NULL || provider == NULL ? c->issuer : provider->issuer),
		setting("client_id", or_default(c->client_id, "test-client")),
		setting("client_secret", *secret != '\0' ? secret : NULL),
		setting("redirect_uri", or_default(c->redirect_uri, "https://app.example/cb")),
		setting("ca_file", provider != NULL ? provider->ca_file : NULL),
		lines_of(c->provider_lines),
		lines_of(c->more_providers),
	};
	char *path = th_printf("%s/acctlink.conf", dir);
	char *key_path = th_printf("%s/store.key", dir);
	char *text = th_printf("store = {\n\tpath = \"%s/store.db\";\n\tkey_file = \"%s\";\n};\n%s\n"
			       "providers = {\n\ttest = {\n%s%s%s%s%s%s%s\n\t};\n%s\n};\n",
		dir, key_path, part[0], part[1], part[2], part[3], part[4], part[5], part[6], part[7], part[8]);
	size_t i;

	write_key(key_path);
	th_write_file(path, 0600, text);
	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		free(part[i]);
	free(text);
	free(key_path);
	return path;
}

/* ---- hooks ---------------------------------------------------------------- */

static void note_log(void *ctx, int32_t level, const char *message)
{
	struct th_host *host = ctx;
	char *line = th_printf("<%d> %s", (int)level, message);

	th_lines_add(host->logs, line);
	free(line);
}

static const char *event_name(int32_t kind)
{
	static const char *const names[] = { "?", "LINKED", "RENEWED", "REFRESHED", "STALE", "RELINK_REQUIRED",
		"HEALED", "SUPERSEDED", "UNLINKED", "REVOKED", "REVOCATION_GIVEN_UP", "DENIED", "FLOW_FAILED",
		"SCOPE_REDUCED", "CLIENT_REFUSED" };

	return kind > 0 && (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : names[0];
}

static void note_event(void *ctx, const acctlink_event *event)
{
	struct th_host *host = ctx;
	char *line = th_printf("%s user=%.*s provider=%.*s institution=%.*s link=%.*s state=%d reason=%d "
			       "epoch=%llu generation=%llu",
		event_name(event->kind), (int)event->user.len, event->user.data, (int)event->provider.len,
		event->provider.data, (int)event->institution.len, event->institution.data, (int)event->link_id.len,
		event->link_id.data, (int)event->state, (int)event->reason, (unsigned long long)event->epoch,
		(unsigned long long)event->generation);

	th_lines_add(host->events, line);
	free(line);
}

static void read_clock(void *ctx, acctlink_time *now)
{
	const struct th_host *host = ctx;

	now->wall_ms = th_clock_wall_ms(host->clock);
	now->boot_ms = th_clock_boot_ms(host->clock);
}

/* ---- life ----------------------------------------------------------------- */

void th_plugin_load(acctlink_api *api)
{
	const char *given = getenv("ACCTLINK_PLUGIN");
	const char *build = getenv("TH_BUILDDIR");
	char *path = given != NULL ? th_printf("%s", given)
				   : th_printf("%s/.libs/acctlink.so", build != NULL ? build : ".");
	char why[512] = "";

	th_check(acctlink_dl_open(path, api, why, sizeof(why)) == 0, "load %s: %s", path, why);
	free(path);
}

static acctlink_status init(struct th_host *host, acctlink_error *err)
{
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;

	hooks.ctx = host;
	hooks.log = note_log;
	hooks.event = note_event;
	hooks.clock = read_clock;
	args.config_path = th_str(host->config_path);
	args.hooks = &hooks;
	return host->api.init(&args, &host->handle, err);
}

static void discard(struct th_host **host)
{
	if ((*host)->owns_clock)
		th_clock_free(&(*host)->clock);
	th_lines_free(&(*host)->logs);
	th_lines_free(&(*host)->events);
	acctlink_dl_close(&(*host)->api);
	free((*host)->config_path);
	free(*host);
	*host = NULL;
}

acctlink_status th_host_try(const char *config_path, struct th_clock *clock, struct th_host **out, acctlink_error *err)
{
	struct th_host *host = calloc(1, sizeof(*host));
	acctlink_status rc;

	th_check(host != NULL, "no memory");
	th_plugin_load(&host->api);
	host->config_path = th_printf("%s", config_path);
	host->owns_clock = clock == NULL;
	host->clock = clock != NULL ? clock : th_clock_new();
	host->logs = th_lines_new();
	host->events = th_lines_new();
	rc = init(host, err);
	if (rc != ACCTLINK_OK)
		discard(&host);
	*out = host;
	return rc;
}

struct th_host *th_host_open(const char *config_path, struct th_clock *clock)
{
	acctlink_error err = { 0 };
	struct th_host *host;

	th_check(th_host_try(config_path, clock, &host, &err) == ACCTLINK_OK, "init: %s", th_error_text(&err));
	return host;
}

struct th_host *th_host_new(const struct th_provider *provider, const struct th_config *config)
{
	char *dir = th_temp_dir();
	char *path = th_config_write(dir, provider, config);
	struct th_host *host = th_host_open(path, NULL);

	free(path);
	free(dir);
	return host;
}

static void shut_down(struct th_host *host)
{
	acctlink_error err = { 0 };

	if (host->handle == NULL)
		return;
	th_check(host->api.shutdown(host->handle, 0, &err) == ACCTLINK_OK, "shutdown: %s", th_error_text(&err));
	host->handle = NULL;
}

void th_host_free(struct th_host **host)
{
	if (*host == NULL)
		return;
	shut_down(*host);
	discard(host);
}

void th_host_restart(struct th_host *host)
{
	acctlink_error err = { 0 };

	shut_down(host);
	th_check(init(host, &err) == ACCTLINK_OK, "init: %s", th_error_text(&err));
}

void th_advance(struct th_host *host, struct th_provider *provider, int64_t ms)
{
	if (provider != NULL)
		th_provider_advance(provider, ms);
	th_clock_advance(host->clock, ms);
}

struct awaited_event {
	struct th_host *host;
	const char *part;
	size_t count;
};

static bool event_came(void *ctx)
{
	const struct awaited_event *wanted = ctx;

	return th_lines_count(wanted->host->events, wanted->part) >= wanted->count;
}

void th_wait_event(struct th_host *host, const char *part, size_t count)
{
	struct awaited_event wanted = { host, part, count };

	th_wait_until(event_came, &wanted, 30000, part);
}

/* ---- consent ---------------------------------------------------------------- */

acctlink_status th_begin(
	struct th_host *host, const char *user, const char *institution, struct th_flow *flow, acctlink_error *err)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_status rc;

	args.user = th_str(user);
	args.provider = th_str("test");
	args.institution = th_str(institution);
	result.url = (acctlink_out){ flow->url, sizeof(flow->url), 0 };
	result.state = (acctlink_out){ flow->state, sizeof(flow->state), 0 };
	result.set_cookie = (acctlink_out){ flow->set_cookie, sizeof(flow->set_cookie), 0 };
	rc = host->api.begin(host->handle, &args, &result, err);
	if (rc == ACCTLINK_OK)
		snprintf(flow->cookie, sizeof(flow->cookie), "%.*s", (int)strcspn(flow->set_cookie, ";"),
			flow->set_cookie);
	return rc;
}

acctlink_status th_callback(struct th_host *host, const char *user, const char *params, const char *cookie,
	acctlink_callback_result *result, acctlink_error *err)
{
	acctlink_callback_args args = ACCTLINK_CALLBACK_ARGS_INIT;

	args.user = th_str(user);
	args.params = th_str(params);
	args.cookie = th_str(cookie);
	if (result != NULL)
		*result = (acctlink_callback_result)ACCTLINK_CALLBACK_RESULT_INIT;
	return host->api.on_callback(host->handle, &args, result, err);
}

acctlink_status th_link(struct th_host *host, struct th_provider *provider, const char *user, const char *institution,
	acctlink_callback_result *result, acctlink_error *err)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_status rc;
	char *params;

	th_check(flow != NULL, "no memory");
	rc = th_begin(host, user, institution, flow, err);
	if (rc == ACCTLINK_OK) {
		params = th_consent(provider, flow->url);
		rc = th_callback(host, user, params, flow->cookie, result, err);
		free(params);
	}
	free(flow);
	return rc;
}

void th_must_link(struct th_host *host, struct th_provider *provider, const char *user, const char *institution,
	acctlink_callback_result *result)
{
	acctlink_error err = { 0 };

	th_check(th_link(host, provider, user, institution, result, &err) == ACCTLINK_OK, "link %s: %s", user,
		th_error_text(&err));
}

/* ---- links -------------------------------------------------------------------- */

static acctlink_ref ref_to(const char *user, const char *institution)
{
	acctlink_ref ref = ACCTLINK_REF_INIT;

	ref.user = th_str(user);
	ref.provider = th_str("test");
	ref.institution = th_str(institution);
	return ref;
}

acctlink_status th_bearer(struct th_host *host, const char *user, const char *institution, char **bearer,
	acctlink_bearer_info *info, acctlink_error *err)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info own = ACCTLINK_BEARER_INFO_INIT;
	size_t cap = 4096;
	char *buf = NULL;
	acctlink_status rc;

	args.link = ref_to(user, institution);
	do {
		free(buf);
		buf = malloc(cap);
		th_check(buf != NULL, "no memory");
		rc = host->api.get_bearer(host->handle, &args, buf, cap, &own, err);
		cap = (size_t)own.len + 1;
	} while (rc == ACCTLINK_BUFFER_TOO_SMALL);
	if (info != NULL && rc == ACCTLINK_OK)
		*info = own;
	if (rc == ACCTLINK_OK)
		*bearer = buf;
	else
		free(buf);
	return rc;
}

char *th_must_bearer(struct th_host *host, const char *user, const char *institution, acctlink_bearer_info *info)
{
	acctlink_error err = { 0 };
	char *bearer = NULL;

	th_check(th_bearer(host, user, institution, &bearer, info, &err) == ACCTLINK_OK, "bearer of %s: %s", user,
		th_error_text(&err));
	return bearer;
}

acctlink_status th_inspect(struct th_host *host, const char *user, const char *institution,
	acctlink_inspect_result *result, acctlink_error *err)
{
	acctlink_inspect_args args = ACCTLINK_INSPECT_ARGS_INIT;

	args.link = ref_to(user, institution);
	return host->api.inspect(host->handle, &args, result, err);
}

acctlink_status th_unlink(struct th_host *host, const char *user, const char *institution,
	acctlink_unlink_result *result, acctlink_error *err)
{
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;

	args.link = ref_to(user, institution);
	if (result != NULL)
		*result = (acctlink_unlink_result)ACCTLINK_UNLINK_RESULT_INIT;
	return host->api.unlink(host->handle, &args, result, err);
}

acctlink_status th_report(
	struct th_host *host, const char *user, const char *institution, uint64_t generation, acctlink_error *err)
{
	acctlink_rejected_args args = ACCTLINK_REJECTED_ARGS_INIT;

	args.link = ref_to(user, institution);
	args.http_status = 401;
	args.generation = generation;
	args.code = th_str("602");
	return host->api.report_rejected(host->handle, &args, err);
}
