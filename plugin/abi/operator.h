/* SPDX-License-Identifier: MIT
 * What acctlinkctl does beyond the public ABI, on a handle of acctlink_init. The
 * tool links the rooms statically; nothing here is exported by the plugin. All
 * calls block, on the store or the network, and any thread may make them.
 */
#ifndef AL_OPERATOR_H
#define AL_OPERATOR_H

#include "config/config.h"
#include "link/link.h"

/* Before the first call: this process takes up no revocations of the queue, so that
 * looking sends nothing. */
void al_operator_leave_queue(struct acctlink *handle);
/* The config in force, counted: al_config_free it. */
struct al_config *al_operator_config(struct acctlink *handle);
al_rc al_operator_list(
	struct acctlink *handle, const char *after, const struct al_link_visit *visit, acctlink_error *err) AL_MUST_USE;
/* As al_links_import; import->provider is set here. UNKNOWN_PROVIDER. */
al_rc al_operator_import(struct acctlink *handle, const char *provider, struct al_import *import,
	char link_id[AL_ID_LEN + 1], acctlink_error *err) AL_MUST_USE;
al_rc al_operator_note_export(
	struct acctlink *handle, const acctlink_ref *ref, uint64_t generation, acctlink_error *err) AL_MUST_USE;
al_rc al_operator_forget_flows(
	struct acctlink *handle, acctlink_str user, int64_t *count, acctlink_error *err) AL_MUST_USE;
al_rc al_operator_pause(struct acctlink *handle, const char *provider, bool pause, acctlink_error *err) AL_MUST_USE;
al_rc al_operator_paused(struct acctlink *handle, const char *provider, bool *paused, acctlink_error *err) AL_MUST_USE;
al_rc al_operator_probe(
	struct acctlink *handle, const char *provider, struct al_probe *probe, acctlink_error *err) AL_MUST_USE;

#endif
