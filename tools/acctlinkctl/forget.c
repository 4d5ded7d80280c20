/* SPDX-License-Identifier: MIT
 * acctlinkctl forget: ends every link of a user, which revokes their tokens, and
 * deletes the user's consents under way. What the provider did not confirm is
 * told; the plugin's queue goes on with it.
 */
#include "ctl.h"

#include <string.h>

#include "abi/operator.h"

static bool forget_one(struct ctl *ctl, const acctlink_str user, const acctlink_list_item *item, json_object *list)
{
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_status status;
	json_object *to = json_object_new_object();

	args.link.user = user;
	args.link.provider = al_str(item->provider);
	args.link.institution = al_str(item->institution);
	args.link.link_id = al_str(item->link_id);
	args.deadline_ms = ctl_deadline_ms(ctl);
	status = acctlink_unlink(ctl->handle, &args, &result, &err);
	if (status == ACCTLINK_NOT_LINKED) { /* somebody else was faster */
		json_object_put(to);
		return true;
	}
	json_object_array_add(list, to);
	ctl_put_text(to, "link_id", item->link_id);
	ctl_put_text(to, "provider", item->provider);
	if (item->institution[0] != '\0')
		ctl_put_text(to, "institution", item->institution);
	if (status == ACCTLINK_OK)
		ctl_put_text(to, "revocation", ctl_revocation_name(result.revocation));
	else
		json_object_object_add(to, "error", ctl_error_object(&err));
	return status == ACCTLINK_OK;
}

/* Page after page from the start, since what was unlinked is not listed again;
 * links that can't be ended are passed by. */
static bool forget_links(struct ctl *ctl, acctlink_str user, json_object *list, bool *all)
{
	acctlink_list_item items[64];
	acctlink_list_args args = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result page = ACCTLINK_LIST_RESULT_INIT;
	uint32_t i;

	args.user = user;
	args.deadline_ms = ctl_deadline_ms(ctl);
	page.items = items;
	page.capacity = sizeof(items) / sizeof(items[0]);
	do {
		if (!ctl_check(ctl, acctlink_list(ctl->handle, &args, &page, &ctl->err)))
			return false;
		for (i = 0; i < page.count; i++)
			*all = forget_one(ctl, user, &items[i], list) && *all;
		if (page.count > 0)
			args.after = al_str(items[page.count - 1].link_id);
	} while (page.more != 0);
	return true;
}

/* The consents go first: one that ended in between would make a new link. */
void ctl_forget(struct ctl *ctl, char **args, int count)
{
	const acctlink_str user = al_str(args[0]);
	json_object *list = json_object_new_array();
	int64_t flows = 0;
	bool all = true;

	(void)count;
	json_object_object_add(ctl->out, "links", list);
	if (!ctl_open(ctl) || !ctl_check(ctl, al_operator_forget_flows(ctl->handle, user, &flows, &ctl->err))
		|| !forget_links(ctl, user, list, &all))
		return;
	ctl_put_number(ctl->out, "consents_deleted", flows);
	if (!all)
		ctl->exit_code = CTL_PARTLY;
}
