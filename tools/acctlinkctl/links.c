/* SPDX-License-Identifier: MIT
 * acctlinkctl list, show, unlink.
 */
#include "ctl.h"

#include <stdio.h>
#include <string.h>

#include "abi/operator.h"

static json_object *listed(const acctlink_list_item *item)
{
	json_object *object = json_object_new_object();

	ctl_put_text(object, "link_id", item->link_id);
	ctl_put_text(object, "provider", item->provider);
	if (item->institution[0] != '\0')
		ctl_put_text(object, "institution", item->institution);
	ctl_put_state(object, item->state, item->reason);
	ctl_put_number(object, "epoch", (int64_t)item->epoch);
	ctl_put_number(object, "generation", (int64_t)item->generation);
	ctl_put_time(object, "bearer_expires_at", item->bearer_expires_at_ms);
	ctl_put_time(object, "authorized_at", item->authorized_at_ms);
	return object;
}

/* What is being unlinked is a link no more, and is told only to those who ask for it. */
static bool wanted(const struct ctl *ctl, const char *provider, int64_t state)
{
	return (ctl->provider == NULL || strcmp(ctl->provider, provider) == 0)
		&& (ctl->state == NULL ? state != ACCTLINK_STATE_UNLINKING : ctl_state_of(ctl->state) == state);
}

static void list_user(struct ctl *ctl, const char *user, json_object *links)
{
	acctlink_list_item items[64];
	acctlink_list_args list = ACCTLINK_LIST_ARGS_INIT;
	acctlink_list_result page = ACCTLINK_LIST_RESULT_INIT;
	uint32_t i;

	list.user = al_str(user);
	list.deadline_ms = ctl_deadline_ms(ctl);
	page.items = items;
	page.capacity = sizeof(items) / sizeof(items[0]);
	do {
		if (!ctl_check(ctl, acctlink_list(ctl->handle, &list, &page, &ctl->err)))
			return;
		for (i = 0; i < page.count; i++) {
			if (wanted(ctl, items[i].provider, items[i].state))
				json_object_array_add(links, listed(&items[i]));
		}
		if (page.count > 0)
			list.after = al_str(items[page.count - 1].link_id);
	} while (page.more != 0);
}

struct all {
	struct ctl *ctl;
	const char *user; /* NULL: any */
	json_object *links;
	char after[AL_ID_LEN + 1];
	unsigned count;
};

static bool add_row(void *ctx, struct al_link_row *row)
{
	struct all *all = ctx;
	acctlink_list_item item = { .state = (int32_t)row->state,
		.reason = (int32_t)row->reason,
		.epoch = (uint64_t)row->epoch,
		.generation = (uint64_t)row->generation,
		.bearer_expires_at_ms = row->bearer_end,
		.authorized_at_ms = row->authorized_at };
	json_object *to;

	all->count++;
	memcpy(all->after, row->id, sizeof(all->after));
	memcpy(item.link_id, row->id, sizeof(row->id));
	snprintf(item.provider, sizeof(item.provider), "%s", al_buf_text(&row->provider));
	snprintf(item.institution, sizeof(item.institution), "%s", al_buf_text(&row->institution));
	if (!wanted(all->ctl, item.provider, item.state)
		|| (all->user != NULL && strcmp(all->user, al_buf_text(&row->user)) != 0))
		return true;
	to = listed(&item);
	ctl_put_buf(to, "user", al_buf_text(&row->user), row->user.len);
	json_object_array_add(all->links, to);
	return true;
}

static void list_all(struct ctl *ctl, const char *user, json_object *links)
{
	struct all all = { .ctl = ctl, .user = user, .links = links };
	const struct al_link_visit visit = { add_row, &all, 256 };

	do {
		all.count = 0;
		if (!ctl_check(ctl, al_operator_list(ctl->handle, all.after, &visit, &ctl->err)))
			return;
	} while (all.count == visit.limit);
}

void ctl_list(struct ctl *ctl, char **args, int count)
{
	json_object *links = json_object_new_array();

	json_object_object_add(ctl->out, "links", links);
	if (ctl->state != NULL && ctl_state_of(ctl->state) < 0) {
		ctl_fail(ctl, CTL_USAGE, "--state wants linked, stale, relink_required, superseded or unlinking");
		return;
	}
	if (!ctl_open(ctl))
		return;
	/* The ABI lists no link that is being unlinked. */
	if (count > 0 && (ctl->state == NULL || ctl_state_of(ctl->state) != ACCTLINK_STATE_UNLINKING))
		list_user(ctl, args[0], links);
	else
		list_all(ctl, count > 0 ? args[0] : NULL, links);
}

static void put_claim(json_object *out, const acctlink_inspect_result *link)
{
	if (link->claim == ACCTLINK_CLAIM_NONE)
		return;
	ctl_put_text(out, "claim", link->claim == ACCTLINK_CLAIM_OPEN ? "open" : "outcome_unknown");
	ctl_put_time(out, "claimed_at", link->claimed_at_ms);
	ctl_put_number(out, "claim_attempt", (int64_t)link->claim_attempt);
}

static void put_link(json_object *out, const acctlink_inspect_result *link)
{
	ctl_put_text(out, "link_id", link->link_id);
	ctl_put_text(out, "provider", link->provider);
	if (link->institution[0] != '\0')
		ctl_put_text(out, "institution", link->institution);
	ctl_put_state(out, link->state, link->reason);
	ctl_put_number(out, "epoch", (int64_t)link->epoch);
	ctl_put_number(out, "generation", (int64_t)link->generation);
	ctl_put_text(out, "subject", link->subject.data);
	ctl_put_text(out, "scope", link->scope.data);
	ctl_put_time(out, "authorized_at", link->authorized_at_ms);
	ctl_put_time(out, "bearer_expires_at", link->bearer_expires_at_ms);
	ctl_put_time(out, "next_refresh_at", link->next_refresh_at_ms);
	ctl_put_time(out, "refresh_expires_at", link->refresh_expires_at_ms);
	ctl_put_time(out, "consent_expires_at", link->consent_expires_at_ms);
	put_claim(out, link);
	if (link->failures > 0)
		ctl_put_number(out, "failures", link->failures);
	if (link->last_error[0] != '\0')
		ctl_put_text(out, "last_error", link->last_error);
	if (link->last_http_status != 0)
		ctl_put_number(out, "last_http_status", link->last_http_status);
}

void ctl_show(struct ctl *ctl, char **args, int count)
{
	char subject[4096] = "";
	char scope[16384] = "";
	acctlink_inspect_args inspect = ACCTLINK_INSPECT_ARGS_INIT;
	acctlink_inspect_result link = ACCTLINK_INSPECT_RESULT_INIT;

	inspect.link = ctl_ref(args, count);
	inspect.deadline_ms = ctl_deadline_ms(ctl);
	link.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	link.scope = (acctlink_out){ scope, sizeof(scope), 0 };
	if (ctl_open(ctl) && ctl_check(ctl, acctlink_inspect(ctl->handle, &inspect, &link, &ctl->err)))
		put_link(ctl->out, &link);
}

void ctl_unlink(struct ctl *ctl, char **args, int count)
{
	acctlink_unlink_args unlink = ACCTLINK_UNLINK_ARGS_INIT;
	acctlink_unlink_result result = ACCTLINK_UNLINK_RESULT_INIT;

	unlink.link = ctl_ref(args, count);
	unlink.deadline_ms = ctl_deadline_ms(ctl);
	if (!ctl_open(ctl) || !ctl_check(ctl, acctlink_unlink(ctl->handle, &unlink, &result, &ctl->err)))
		return;
	ctl_put_text(ctl->out, "link_id", result.link_id);
	ctl_put_text(ctl->out, "revocation", ctl_revocation_name(result.revocation));
}
