/* SPDX-License-Identifier: MIT
 * acctlink_dl.h - loads the plugin in one call. Header only: include it, link
 * with -ldl where the C library wants that, and call acctlink_dl_open once.
 * Needs no other part of acctlink at build time than acctlink.h.
 */
#ifndef ACCTLINK_DL_H
#define ACCTLINK_DL_H

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "acctlink.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The plugin's functions by the names of acctlink.h, without the prefix. */
typedef struct acctlink_api {
	void *library;
	uint32_t (*abi_version)(void);
	acctlink_status (*init)(const acctlink_init_args *, acctlink **, acctlink_error *);
	acctlink_status (*reload)(acctlink *, acctlink_error *);
	acctlink_status (*shutdown)(acctlink *, uint32_t, acctlink_error *);
	acctlink_status (*begin)(acctlink *, const acctlink_begin_args *, acctlink_begin_result *, acctlink_error *);
	acctlink_status (*on_callback)(
		acctlink *, const acctlink_callback_args *, acctlink_callback_result *, acctlink_error *);
	acctlink_status (*get_bearer)(
		acctlink *, const acctlink_bearer_args *, char *, size_t, acctlink_bearer_info *, acctlink_error *);
	acctlink_status (*unlink)(acctlink *, const acctlink_unlink_args *, acctlink_unlink_result *, acctlink_error *);
	acctlink_status (*inspect)(
		acctlink *, const acctlink_inspect_args *, acctlink_inspect_result *, acctlink_error *);
	acctlink_status (*list)(acctlink *, const acctlink_list_args *, acctlink_list_result *, acctlink_error *);
	acctlink_status (*report_rejected)(acctlink *, const acctlink_rejected_args *, acctlink_error *);
} acctlink_api;

/* A function pointer can't be converted from void * in ISO C; its bytes can. */
static inline int acctlink_dl_symbol(void *library, const char *name, void *to, char *why, size_t why_cap)
{
	void *symbol = dlsym(library, name);

	if (symbol == NULL) {
		(void)snprintf(why, why_cap, "the plugin has no %s: %s", name, dlerror());
		return -1;
	}
	memcpy(to, &symbol, sizeof(symbol));
	return 0;
}

/**
 * Loads the plugin (RTLD_NOW | RTLD_LOCAL), checks its ABI version and resolves
 * every function.
 *
 * path       of acctlink.so; an absolute path is best.
 * api        the caller's; all zero on failure.
 * why        the caller's; filled with the cause on failure. why_cap > 0.
 * Returns    0, or -1.
 * Threads    any; does file I/O.
 */
static inline int acctlink_dl_open(const char *path, acctlink_api *api, char *why, size_t why_cap)
{
	acctlink_api a;
	uint32_t version;
	int failed;

	memset(&a, 0, sizeof(a));
	memset(api, 0, sizeof(*api));
	why[0] = '\0';
	a.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (a.library == NULL) {
		(void)snprintf(why, why_cap, "%s", dlerror());
		return -1;
	}
	failed = acctlink_dl_symbol(a.library, "acctlink_abi_version", &a.abi_version, why, why_cap);
	if (!failed) {
		version = a.abi_version();
		if (version >> 16 != ACCTLINK_ABI_MAJOR) {
			(void)snprintf(why, why_cap, "%s has ABI version %u, this program needs %u", path,
				(unsigned)(version >> 16), ACCTLINK_ABI_MAJOR);
			failed = -1;
		}
	}
	if (failed || acctlink_dl_symbol(a.library, "acctlink_init", &a.init, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_reload", &a.reload, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_shutdown", &a.shutdown, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_begin", &a.begin, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_on_callback", &a.on_callback, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_get_bearer", &a.get_bearer, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_unlink", &a.unlink, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_inspect", &a.inspect, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_list", &a.list, why, why_cap)
		|| acctlink_dl_symbol(a.library, "acctlink_report_rejected", &a.report_rejected, why, why_cap)) {
		(void)dlclose(a.library);
		return -1;
	}
	*api = a;
	return 0;
}

/** Unloads what acctlink_dl_open loaded, after acctlink_shutdown. */
static inline void acctlink_dl_close(acctlink_api *api)
{
	if (api->library != NULL)
		(void)dlclose(api->library);
	memset(api, 0, sizeof(*api));
}

#ifdef __cplusplus
}
#endif
#endif
