/* SPDX-License-Identifier: MIT
 * Hosts for the tests: programs that load the built plugin as a stranger would,
 * with dlopen, and record what its hooks are told. See harness.h for failures,
 * threads and memory.
 *
 *	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
 *	struct th_host *host = th_host_new(provider, NULL);
 *
 *	th_must_link(host, provider, "ana", NULL, NULL);
 *	th_advance(host, provider, 3600 * 1000);
 *	bearer = th_must_bearer(host, "ana", NULL, NULL);
 */
#ifndef TH_HOST_H
#define TH_HOST_H

#include "harness.h"

#include "acctlink.h"
#include "acctlink_dl.h"

/* What stands in the config file; all may be NULL. In the three with lines
 * every ' becomes ", as in th_control. */
struct th_config {
	const char *profile;        /* "oidc" */
	const char *issuer;         /* the provider's */
	const char *client_id;      /* "test-client" */
	const char *client_secret;  /* "test-secret"; "": none at all */
	const char *redirect_uri;   /* "https://app.example/cb" */
	const char *provider_lines; /* more lines of the section: "refresh_auth = 'client_secret_post';" */
	const char *lines;          /* more lines of the file */
	const char *more_providers; /* further sections, whole: "other = { … };" */
};

/* Writes DIR/acctlink.conf with one provider, `test`, and DIR/store.key (if it
 * is not there yet); the store will be DIR/store.db. Returns the config's path. */
char *th_config_write(const char *dir, const struct th_provider *provider, const struct th_config *config);

struct th_host {
	acctlink_api api; /* host->api.begin(host->handle, …) */
	acctlink *handle;
	char *config_path;
	struct th_clock *clock;
	bool owns_clock;
	struct th_lines *logs;
	/* One line per event: "REFRESHED user=ana provider=test institution=mikomo
	 * link=… state=linked reason=0 epoch=1 generation=2" */
	struct th_lines *events;
};

/* $ACCTLINK_PLUGIN, else .libs/acctlink.so of $TH_BUILDDIR or the working directory. */
void th_plugin_load(acctlink_api *api);
/* A config in a fresh folder (config may be NULL), the plugin, a handle. */
struct th_host *th_host_new(const struct th_provider *provider, const struct th_config *config);
/* Another handle on a config: in the same process, or in a child of th_fork.
 * clock NULL: one of its own. Fails unless init succeeds. */
struct th_host *th_host_open(const char *config_path, struct th_clock *clock);
/* The same, but init may fail: returns its status; *out is NULL then. */
acctlink_status th_host_try(const char *config_path, struct th_clock *clock, struct th_host **out, acctlink_error *err);
/* Shuts down, and fails unless that is OK. A handle that is NULL was ended by the test. */
void th_host_free(struct th_host **host);
/* Shut down and init again on the same config, as a restart of the process would. */
void th_host_restart(struct th_host *host);
/* Moves the clocks of both; provider may be NULL. */
void th_advance(struct th_host *host, struct th_provider *provider, int64_t ms);
void th_wait_event(struct th_host *host, const char *part, size_t count);

/* One consent, step by step. */
struct th_flow {
	char url[16384];
	char state[128];
	char set_cookie[1024];
	char cookie[1024]; /* what the browser sends back: NAME=VALUE */
};
acctlink_status th_begin(
	struct th_host *host, const char *user, const char *institution, struct th_flow *flow, acctlink_error *err);
acctlink_status th_callback(struct th_host *host, const char *user, const char *params, const char *cookie,
	acctlink_callback_result *result, acctlink_error *err);
/* All steps; result and err may be NULL. */
acctlink_status th_link(struct th_host *host, struct th_provider *provider, const char *user, const char *institution,
	acctlink_callback_result *result, acctlink_error *err);
void th_must_link(struct th_host *host, struct th_provider *provider, const char *user, const char *institution,
	acctlink_callback_result *result);

/* *bearer is set on success only; info and err may be NULL. */
acctlink_status th_bearer(struct th_host *host, const char *user, const char *institution, char **bearer,
	acctlink_bearer_info *info, acctlink_error *err);
char *th_must_bearer(struct th_host *host, const char *user, const char *institution, acctlink_bearer_info *info);
/* result is the caller's ACCTLINK_INSPECT_RESULT_INIT, with buffers if wanted. */
acctlink_status th_inspect(struct th_host *host, const char *user, const char *institution,
	acctlink_inspect_result *result, acctlink_error *err);
acctlink_status th_unlink(struct th_host *host, const char *user, const char *institution,
	acctlink_unlink_result *result, acctlink_error *err);
acctlink_status th_report(
	struct th_host *host, const char *user, const char *institution, uint64_t generation, acctlink_error *err);

acctlink_str th_str(const char *text); /* NULL: not given */
/* Status, message, place and the provider's part of an error, for th_check. */
char *th_error_text(const acctlink_error *err);

#endif
