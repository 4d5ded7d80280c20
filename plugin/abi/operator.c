/* SPDX-License-Identifier: MIT
 * The operator's calls: each lets itself in as an exported call does and hands
 * over to its room. Checks what comes from a command line or a file as strictly
 * as the border does what comes from a host.
 */
#include "abi/operator.h"

#include "abi/abi_int.h"

void al_operator_leave_queue(struct acctlink *handle)
{
	handle->leaves_queue = true;
}

struct al_config *al_operator_config(struct acctlink *handle)
{
	return al_handle_config(handle);
}

static al_rc find_provider(
	struct acctlink *handle, const char *name, struct al_provider **provider, acctlink_error *err)
{
	*provider = al_handle_provider(handle, name);
	if (*provider != NULL)
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_UNKNOWN_PROVIDER, "provider", "no provider '%s' is in the config", name);
}

al_rc al_operator_list(
	struct acctlink *handle, const char *after, const struct al_link_visit *visit, acctlink_error *err)
{
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_links_list_all(al_handle_runtime(handle)->links, after, visit, err);
	al_leave(handle);
	return rc;
}

static al_rc check_import(const struct al_import *import, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(import->provider);
	al_rc rc = al_check_user(import->user, err);

	if (rc == ACCTLINK_OK)
		rc = al_check_name(import->institution, "institution", config->institution_required ? 1 : 0, 255, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(import->scope, "scope", 0, 8192, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(import->subject, "subject", 0, 255, err); /* OpenID Connect Core, 2 */
	if (rc == ACCTLINK_OK && import->refresh_token.len == 0)
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "refresh_token", "refresh_token is empty");
	return rc;
}

al_rc al_operator_import(struct acctlink *handle, const char *provider, struct al_import *import,
	char link_id[AL_ID_LEN + 1], acctlink_error *err)
{
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = find_provider(handle, provider, &import->provider, err);
	if (rc == ACCTLINK_OK)
		rc = check_import(import, err);
	if (rc == ACCTLINK_OK)
		rc = al_links_import(al_handle_runtime(handle)->links, import, link_id, err);
	al_provider_unref(&import->provider);
	al_leave(handle);
	return rc;
}

al_rc al_operator_note_export(
	struct acctlink *handle, const acctlink_ref *ref, uint64_t generation, acctlink_error *err)
{
	char link_id[AL_ID_LEN + 1];
	struct al_buf owner_key;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_ref(ref, &owner_key, link_id, err);
	if (rc == ACCTLINK_OK) {
		rc = al_links_note_export(al_handle_runtime(handle)->links, &owner_key, (int64_t)generation, err);
		al_buf_clear(&owner_key);
	}
	al_leave(handle);
	return rc;
}

al_rc al_operator_forget_flows(struct acctlink *handle, acctlink_str user, int64_t *count, acctlink_error *err)
{
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_check_user(user, err);
	if (rc == ACCTLINK_OK)
		rc = al_links_forget_flows(al_handle_runtime(handle)->links, user, count, err);
	al_leave(handle);
	return rc;
}

al_rc al_operator_pause(struct acctlink *handle, const char *provider, bool pause, acctlink_error *err)
{
	struct al_provider *found = NULL;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = find_provider(handle, provider, &found, err);
	if (rc == ACCTLINK_OK)
		rc = al_links_pause(al_handle_runtime(handle)->links, provider, pause, err);
	al_provider_unref(&found);
	al_leave(handle);
	return rc;
}

al_rc al_operator_paused(struct acctlink *handle, const char *provider, bool *paused, acctlink_error *err)
{
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_links_paused(al_handle_runtime(handle)->links, provider, paused, err);
	al_leave(handle);
	return rc;
}

al_rc al_operator_probe(struct acctlink *handle, const char *provider, struct al_probe *probe, acctlink_error *err)
{
	struct al_provider *found = NULL;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = find_provider(handle, provider, &found, err);
	if (rc == ACCTLINK_OK)
		rc = al_links_probe(al_handle_runtime(handle)->links, found, probe, err);
	al_provider_unref(&found);
	al_leave(handle);
	return rc;
}
