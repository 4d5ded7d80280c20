/* SPDX-License-Identifier: MIT
 * Builds the rooms and takes them down; the only file that sees them all. init
 * checks everything and starts nothing; threads, connections and the owner id
 * are made by the first call of each process. A page that fork wipes tells a
 * child that the handle is its parent's.
 */
#include "abi/abi_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LAST_GRACE_MS = 6000 /* longer than the store waits for a lock */ };

/* ---- config and providers --------------------------------------------------------- */

struct al_config *al_handle_config(struct acctlink *handle)
{
	struct al_config *config;

	(void)pthread_mutex_lock(&handle->lock);
	config = al_config_ref(handle->config);
	(void)pthread_mutex_unlock(&handle->lock);
	return config;
}

struct al_runtime *al_handle_runtime(struct acctlink *handle)
{
	return atomic_load(&handle->runtime);
}

struct al_provider *al_handle_provider(void *ctx, const char *name)
{
	struct acctlink *handle = ctx;
	struct al_provider *found = NULL;

	(void)pthread_mutex_lock(&handle->lock);
	for (struct al_provider **at = al_handle_runtime(handle)->providers; *at != NULL && found == NULL; at++) {
		if (strcmp(al_provider_config(*at)->name, name) == 0)
			found = al_provider_ref(*at);
	}
	(void)pthread_mutex_unlock(&handle->lock);
	return found;
}

static void free_providers(struct al_provider ***providers)
{
	if (*providers == NULL)
		return;
	for (struct al_provider **at = *providers; *at != NULL; at++)
		al_provider_unref(at);
	free(*providers);
	*providers = NULL;
}

/* net may be NULL: then the providers are only made to see whether they can be. */
static al_rc make_providers(struct acctlink *handle, const struct al_config *config, struct al_net *net,
	struct al_provider ***out, acctlink_error *err)
{
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
	struct al_provider **made = calloc(config->provider_count + 1, sizeof(*made));
	al_rc rc = made == NULL ? al_fail_memory(err) : ACCTLINK_OK;

	for (size_t i = 0; rc == ACCTLINK_OK && i < config->provider_count; i++)
		rc = al_provider_new(&config->providers[i], net, &handle->log, &handle->clock, &made[i], err);
	if (rc != ACCTLINK_OK)
		free_providers(&made);
	*out = made;
	return rc;
}

static al_rc check_providers(struct acctlink *handle, const struct al_config *config, acctlink_error *err)
{
	struct al_provider **made = NULL;
	al_rc rc = make_providers(handle, config, NULL, &made, err);

	free_providers(&made);
	return rc;
}

/* ---- the runtime -------------------------------------------------------------------- */

/* With its pool drained, or never used. */
static void runtime_free(struct al_runtime **runtime)
{
	struct al_runtime *gone = *runtime;

	*runtime = NULL;
	al_net_free(&gone->net);
	al_flows_free(&gone->flows);
	al_links_free(&gone->links);
	free_providers(&gone->providers);
	al_owner_free(&gone->owner);
	al_calls_destroy(&gone->calls);
	free(gone);
}

static al_rc make_rooms(
	struct acctlink *handle, struct al_runtime *runtime, const struct al_config *config, acctlink_error *err)
{
	struct al_links_parts parts = { .pool = runtime->pool,
		.vault = handle->vault,
		.owner = runtime->owner,
		.log = &handle->log,
		.clock = &handle->clock,
		.calls = &runtime->calls,
		.provider = al_handle_provider,
		.provider_ctx = handle,
		.event = handle->hooks.event,
		.event_ctx = handle->hooks.ctx,
		.poll_interval_ms = config->poll_interval_ms,
		.revocation_lifetime_ms = config->revocation_lifetime_ms,
		.audit_lifetime_ms = config->audit_lifetime_ms,
		.leaves_queue = handle->leaves_queue,
		.held_bearers = config->held_bearers };
	struct al_flows_parts flows = { .shared = parts };
	al_rc rc = al_links_new(&parts, &runtime->links, err);

	flows.links = runtime->links;
	if (rc == ACCTLINK_OK)
		rc = al_flows_new(&flows, &runtime->flows, err);
	return rc;
}

static al_rc runtime_new(struct acctlink *handle, struct al_runtime **out, acctlink_error *err)
{
	struct al_runtime *runtime = al_new(sizeof(*runtime));
	struct al_config *config = al_handle_config(handle);
	al_rc rc = runtime == NULL ? al_fail_memory(err) : al_calls_init(&runtime->calls, err);

	if (rc != ACCTLINK_OK) {
		free(runtime);
		al_config_free(&config);
		return rc;
	}
	rc = al_owner_new(config->store_path, &runtime->owner, err);
	if (rc == ACCTLINK_OK)
		rc = al_net_new(&handle->log, &handle->clock, &runtime->net, err);
	if (rc == ACCTLINK_OK)
		rc = make_providers(handle, config, runtime->net, &runtime->providers, err);
	if (rc == ACCTLINK_OK)
		rc = al_pool_new(config->worker_threads, &runtime->pool, err);
	if (rc == ACCTLINK_OK)
		rc = make_rooms(handle, runtime, config, err);
	if (rc != ACCTLINK_OK) {
		if (al_pool_free(&runtime->pool, 0) == ACCTLINK_OK)
			runtime_free(&runtime);
	}
	al_config_free(&config);
	*out = runtime;
	return rc;
}

static bool is_forked(const struct acctlink *handle)
{
	return atomic_load(&handle->used) && atomic_load(handle->mark) == 0;
}

/* The first call of a process makes the runtime; others wait for it. */
static al_rc start_runtime(struct acctlink *handle, acctlink_error *err)
{
	struct al_runtime *runtime = NULL;
	al_rc rc = runtime_new(handle, &runtime, err);

	(void)pthread_mutex_lock(&handle->lock);
	if (rc == ACCTLINK_OK)
		atomic_store(&handle->runtime, runtime);
	else
		atomic_store(&handle->used, false); /* the next call tries again */
	(void)pthread_cond_broadcast(&handle->changed);
	(void)pthread_mutex_unlock(&handle->lock);
	return rc == ACCTLINK_OK ? al_links_start_upkeep(runtime->links, err) : rc;
}

/* Waits while a first call is making it. NULL: there was none in this process, or
 * it failed. */
static struct al_runtime *settled_runtime(struct acctlink *handle)
{
	(void)pthread_mutex_lock(&handle->lock);
	while (al_handle_runtime(handle) == NULL && atomic_load(&handle->used))
		(void)pthread_cond_wait(&handle->changed, &handle->lock);
	(void)pthread_mutex_unlock(&handle->lock);
	return al_handle_runtime(handle);
}

static al_rc need_runtime(struct acctlink *handle, acctlink_error *err)
{
	atomic_store(handle->mark, 1);
	do {
		bool unused = false;

		if (atomic_compare_exchange_strong(&handle->used, &unused, true))
			return start_runtime(handle, err);
	} while (settled_runtime(handle) == NULL);
	return ACCTLINK_OK;
}

/* ---- in and out ------------------------------------------------------------------------ */

/* For a call that needs no runtime. */
static al_rc enter_quietly(struct acctlink *handle, acctlink_error *err)
{
	if (handle == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "handle", "handle is NULL");
	if (is_forked(handle))
		return al_fail(err, ACCTLINK_FORKED, "handle",
			"the handle was in use in the parent process; call acctlink_init in this one");
	(void)atomic_fetch_add(&handle->inside, 1);
	if (!atomic_load(&handle->closing))
		return ACCTLINK_OK;
	al_leave(handle);
	return al_fail(err, ACCTLINK_SHUT_DOWN, "handle", "the handle is being shut down");
}

al_rc al_enter(struct acctlink *handle, acctlink_error *err)
{
	al_rc rc = enter_quietly(handle, err);

	if (rc != ACCTLINK_OK || al_handle_runtime(handle) != NULL)
		return rc;
	rc = need_runtime(handle, err);
	if (rc != ACCTLINK_OK)
		al_leave(handle);
	return rc;
}

void al_leave(struct acctlink *handle)
{
	(void)pthread_mutex_lock(&handle->lock);
	if (atomic_fetch_sub(&handle->inside, 1) == 1)
		(void)pthread_cond_broadcast(&handle->changed);
	(void)pthread_mutex_unlock(&handle->lock);
}

/* ---- init -------------------------------------------------------------------------------- */

static void handle_free(struct acctlink **handle)
{
	struct acctlink *gone = *handle;

	*handle = NULL;
	al_vault_free(&gone->vault);
	al_store_free(&gone->store);
	al_config_free(&gone->config);
	if (gone->mark != NULL)
		(void)munmap((void *)gone->mark, 4096);
	(void)pthread_cond_destroy(&gone->changed);
	(void)pthread_mutex_destroy(&gone->lock);
	free(gone);
}

static al_rc make_mark(struct acctlink *handle, acctlink_error *err)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return al_fail_memory(err);
	handle->mark = page;
	if (madvise(page, 4096, MADV_WIPEONFORK) != 0)
		return al_fail(err, ACCTLINK_INTERNAL, "madvise",
			"the kernel lacks MADV_WIPEONFORK (Linux 4.14 or later is needed)");
	return ACCTLINK_OK;
}

static al_rc make_handle(const acctlink_init_args *args, struct acctlink **out, acctlink_error *err)
{
	struct acctlink *handle = al_new(sizeof(*handle));
	pthread_condattr_t monotonic;
	al_rc rc = ACCTLINK_OK;

	if (handle == NULL)
		return al_fail_memory(err);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	if (pthread_mutex_init(&handle->lock, NULL) != 0 || pthread_cond_init(&handle->changed, &monotonic) != 0) {
		free(handle);
		return al_fail_memory(err);
	}
	(void)pthread_condattr_destroy(&monotonic);
	if (args->hooks != NULL)
		rc = al_take_args(&handle->hooks, sizeof(handle->hooks), args->hooks, "hooks", err);
	handle->log = (struct al_log){ handle->hooks.log, handle->hooks.ctx, ACCTLINK_LOG_NOTICE };
	handle->clock = (struct al_clock){ handle->hooks.clock, handle->hooks.ctx };
	if (rc == ACCTLINK_OK)
		rc = make_mark(handle, err);
	if (rc != ACCTLINK_OK)
		handle_free(&handle);
	*out = handle;
	return rc;
}

static al_rc open_rooms(struct acctlink *handle, const char *path, acctlink_error *err)
{
	al_rc rc = al_check_libraries(&handle->log, err);

	if (rc == ACCTLINK_OK)
		rc = al_config_load(path, &handle->log, &handle->config, err);
	if (rc != ACCTLINK_OK)
		return rc;
	handle->log.max_level = handle->config->log_level;
	rc = check_providers(handle, handle->config, err);
	if (rc == ACCTLINK_OK)
		rc = al_store_new(handle->config->store_path, &handle->log, &handle->clock, &handle->store, err);
	if (rc == ACCTLINK_OK)
		rc = al_vault_new(handle->config->key_files, handle->store, &handle->vault, err);
	if (rc == ACCTLINK_OK)
		rc = al_vault_check(handle->vault, err);
	return rc;
}

al_rc acctlink_init(const acctlink_init_args *given, acctlink **out, acctlink_error *err)
{
	acctlink_init_args args;
	struct acctlink *handle = NULL;
	char *path;
	al_rc rc = al_take_args(&args, sizeof(args), given, "args", err);

	if (rc == ACCTLINK_OK && out == NULL)
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "handle", "handle is NULL");
	if (rc == ACCTLINK_OK)
		rc = al_check_name(args.config_path, "config_path", 1, 4095, err);
	if (rc != ACCTLINK_OK)
		return rc;
	path = al_dup_len(args.config_path.data, args.config_path.len);
	rc = path == NULL ? al_fail_memory(err) : make_handle(&args, &handle, err);
	if (rc == ACCTLINK_OK)
		rc = open_rooms(handle, path, err);
	free(path);
	if (rc == ACCTLINK_OK)
		*out = handle;
	else if (handle != NULL)
		handle_free(&handle);
	return rc;
}

uint32_t acctlink_abi_version(void)
{
	return ACCTLINK_ABI_VERSION;
}

/* ---- reload ---------------------------------------------------------------------------------- */

static bool same_files(const struct al_config *a, const struct al_config *b)
{
	size_t i = 0;

	while (a->key_files[i] != NULL && b->key_files[i] != NULL && strcmp(a->key_files[i], b->key_files[i]) == 0)
		i++;
	return a->key_files[i] == NULL && b->key_files[i] == NULL && strcmp(a->store_path, b->store_path) == 0;
}

/* False: a first call came meanwhile, which may have taken the old config. */
static bool swap_config(
	struct acctlink *handle, struct al_runtime *runtime, struct al_config **config, struct al_provider ***providers)
{
	struct al_config *old_config = *config;
	struct al_provider **old_providers = *providers;
	bool settled;

	(void)pthread_mutex_lock(&handle->lock);
	settled = al_handle_runtime(handle) == runtime && (runtime != NULL || !atomic_load(&handle->used));
	if (settled) {
		old_config = handle->config;
		handle->config = *config;
	}
	if (settled && runtime != NULL) {
		old_providers = runtime->providers;
		runtime->providers = *providers;
	}
	(void)pthread_mutex_unlock(&handle->lock);
	*config = old_config;
	*providers = old_providers;
	return settled;
}

/* Without a runtime the providers are only made to see whether they can be: a
 * reload before the fork is no use of the handle. */
static al_rc put_in_force(struct acctlink *handle, struct al_config **config, acctlink_error *err)
{
	struct al_provider **providers = NULL;
	struct al_runtime *runtime;
	al_rc rc;

	do {
		free_providers(&providers);
		runtime = settled_runtime(handle);
		rc = make_providers(handle, *config, runtime == NULL ? NULL : runtime->net, &providers, err);
	} while (rc == ACCTLINK_OK && !swap_config(handle, runtime, config, &providers));
	if (rc == ACCTLINK_OK && runtime != NULL)
		al_links_reconfigured(runtime->links);
	free_providers(&providers);
	return rc;
}

acctlink_status acctlink_reload(acctlink *handle, acctlink_error *err)
{
	struct al_config *before;
	struct al_config *config = NULL;
	al_rc rc = enter_quietly(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	before = al_handle_config(handle);
	rc = al_config_load(before->path, &handle->log, &config, err);
	if (rc == ACCTLINK_OK && !same_files(before, config))
		rc = al_fail(err, ACCTLINK_BAD_CONFIG, before->path,
			"store and key paths can't change on reload; restart instead");
	if (rc == ACCTLINK_OK)
		rc = put_in_force(handle, &config, err);
	al_config_free(&config);
	al_config_free(&before);
	al_leave(handle);
	return rc;
}

/* ---- shutdown ---------------------------------------------------------------------------------- */

/* Calls that wait were told SHUT_DOWN and are on their way out. */
static void wait_until_outside(struct acctlink *handle)
{
	(void)pthread_mutex_lock(&handle->lock);
	while (atomic_load(&handle->inside) > 0)
		(void)pthread_cond_wait(&handle->changed, &handle->lock);
	(void)pthread_mutex_unlock(&handle->lock);
}

/* A first call may be making the runtime just now: then it is taken down when it
 * is there, or the call has failed and left. NULL: there is none. */
static struct al_runtime *last_runtime(struct acctlink *handle)
{
	(void)pthread_mutex_lock(&handle->lock);
	while (al_handle_runtime(handle) == NULL && atomic_load(&handle->inside) > 0)
		(void)pthread_cond_wait(&handle->changed, &handle->lock);
	(void)pthread_mutex_unlock(&handle->lock);
	return al_handle_runtime(handle);
}

/* Exchanges in flight end by themselves until the deadline; then the network is
 * cut, which makes them write down that their outcome is open. */
static al_rc stop_runtime(struct acctlink *handle, int64_t deadline_at)
{
	struct al_runtime *runtime = last_runtime(handle);
	al_rc rc;

	if (runtime == NULL)
		return ACCTLINK_OK;
	al_calls_close(&runtime->calls);
	wait_until_outside(handle);
	al_pool_hurry(runtime->pool);
	rc = al_pool_free(&runtime->pool, deadline_at);
	if (rc == ACCTLINK_OK) {
		atomic_store(&handle->runtime, NULL);
		runtime_free(&runtime);
		return ACCTLINK_OK;
	}
	al_calls_abandon(&runtime->calls);
	al_net_stop(runtime->net); /* tasks that go on may still ask for a request */
	al_pool_hurry(runtime->pool);
	if (al_pool_free(&runtime->pool, al_monotonic_ms() + LAST_GRACE_MS) == ACCTLINK_OK) {
		atomic_store(&handle->runtime, NULL);
		runtime_free(&runtime);
	}
	return rc;
}

acctlink_status acctlink_shutdown(acctlink *handle, uint32_t deadline_ms, acctlink_error *err)
{
	struct al_config *config;
	int64_t deadline_at;
	al_rc rc;

	if (handle == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "handle", "handle is NULL");
	if (is_forked(handle)) {
		/* The parent's threads may hold any lock: only the keys are taken care of. */
		al_vault_free(&handle->vault);
		return al_fail(err, ACCTLINK_FORKED, "handle",
			"the handle was in use in the parent process; its keys are wiped here");
	}
	config = al_handle_config(handle); /* a reload may be swapping it */
	deadline_at = al_add_ms(
		al_monotonic_ms(), deadline_ms != 0 ? (int64_t)deadline_ms : config->shutdown_timeout_ms);
	al_config_free(&config);
	atomic_store(&handle->closing, true);
	rc = stop_runtime(handle, deadline_at);
	if (al_handle_runtime(handle) != NULL) {
		/* A thread hangs in the store: what it uses must stay. */
		return al_fail(err, ACCTLINK_TIMED_OUT, "shutdown",
			"the store did not answer; memory of the handle is left to it");
	}
	handle_free(&handle);
	if (rc != ACCTLINK_OK)
		return al_fail(err, ACCTLINK_TIMED_OUT, "shutdown",
			"an exchange was cut off at the deadline; the store knows that its outcome is open");
	return ACCTLINK_OK;
}
