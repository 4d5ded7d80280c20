/* SPDX-License-Identifier: MIT
 * acctlinkctl bearer and refresh. The bearer is the only secret that this tool
 * ever writes, and only to stdout.
 */
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/operator.h"

/* A refresh may come in between and make the bearer longer than was told. */
#define TRIES 3

struct bearer {
	char *text;
	size_t cap;
	acctlink_bearer_info info;
};

static void wipe(struct bearer *bearer)
{
	if (bearer->text != NULL)
		explicit_bzero(bearer->text, bearer->cap);
	free(bearer->text);
	bearer->text = NULL;
	bearer->cap = 0;
}

static bool get(struct ctl *ctl, const acctlink_bearer_args *args, struct bearer *bearer)
{
	acctlink_status status = ACCTLINK_BUFFER_TOO_SMALL;
	size_t wanted = 8192;
	int tries;

	ctl_hold_signals();
	bearer->info = (acctlink_bearer_info)ACCTLINK_BEARER_INFO_INIT;
	for (tries = 0; tries < TRIES && status == ACCTLINK_BUFFER_TOO_SMALL; tries++) {
		wipe(bearer);
		bearer->text = malloc(wanted);
		if (bearer->text == NULL) {
			ctl_fail(ctl, CTL_FAULT, "out of memory");
			return false;
		}
		bearer->cap = wanted;
		status = acctlink_get_bearer(ctl->handle, args, bearer->text, bearer->cap, &bearer->info, &ctl->err);
		wanted = bearer->info.len + 1;
	}
	return ctl_check(ctl, status);
}

static bool write_all(const char *text, size_t len)
{
	while (len > 0) {
		const ssize_t put = write(STDOUT_FILENO, text, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		text += put;
		len -= (size_t)put;
	}
	return true;
}

static void put_bearer(struct ctl *ctl, struct bearer *bearer)
{
	bearer->text[bearer->info.len] = '\n';
	if (!write_all(bearer->text, bearer->info.len + 1))
		ctl_fail(ctl, CTL_FAULT, "the bearer can't be written: %s", strerror(errno));
}

static bool may_export(struct ctl *ctl)
{
	struct al_config *config = al_operator_config(ctl->handle);
	const bool may = config->operator_bearer;

	al_config_free(&config);
	if (!may)
		ctl_fail(ctl, CTL_OPERATOR, "operator_bearer = false in %s forbids this", ctl->config_path);
	return may;
}

/* The audit row comes first: no bearer leaves without one. */
void ctl_bearer(struct ctl *ctl, char **args, int count)
{
	acctlink_bearer_args want = ACCTLINK_BEARER_ARGS_INIT;
	struct bearer bearer = { 0 };

	if (isatty(STDOUT_FILENO) && !ctl->show) {
		ctl_fail(ctl, CTL_USAGE, "a bearer is a secret: send it to a pipe or a file, or say --show");
		return;
	}
	want.link = ctl_ref(args, count);
	want.deadline_ms = ctl_deadline_ms(ctl);
	if (ctl_open(ctl) && may_export(ctl) && get(ctl, &want, &bearer)
		&& ctl_check(
			ctl, al_operator_note_export(ctl->handle, &want.link, bearer.info.generation, &ctl->err))) {
		if (ctl->json) {
			ctl_put_text(ctl->out, "bearer", bearer.text);
			ctl_put_time(ctl->out, "expires_at", bearer.info.expires_at_ms);
			ctl_put_number(ctl->out, "generation", (int64_t)bearer.info.generation);
		} else {
			put_bearer(ctl, &bearer);
		}
	}
	wipe(&bearer);
}

/* The bearer was served as it was: the row tells why. */
static void explain(struct ctl *ctl, const acctlink_ref *link)
{
	acctlink_inspect_args args = ACCTLINK_INSPECT_ARGS_INIT;
	acctlink_inspect_result row = ACCTLINK_INSPECT_RESULT_INIT;

	args.link = *link;
	args.deadline_ms = ctl_deadline_ms(ctl);
	if (!ctl_check(ctl, acctlink_inspect(ctl->handle, &args, &row, &ctl->err)))
		return;
	ctl->err.status = row.state == ACCTLINK_STATE_RELINK_REQUIRED || row.reason == ACCTLINK_REASON_NO_REFRESH_TOKEN
		? ACCTLINK_RELINK_REQUIRED
		: row.reason == ACCTLINK_REASON_CLIENT_REFUSED ? ACCTLINK_CLIENT_REFUSED
							       : ACCTLINK_PROVIDER_DOWN;
	ctl->err.http_status = row.last_http_status;
	if (row.claim == ACCTLINK_CLAIM_UNKNOWN)
		ctl_fail(ctl, CTL_LATER,
			"the outcome of an earlier refresh is not known: the token is sent again when the bearer, "
			"which is good, has ended");
	else if (row.failures > 0)
		ctl_fail(ctl, ctl_exit_of(ctl->err.status),
			"the refresh failed (%s); the bearer is good and is served on", row.last_error);
	else if (ctl->err.status == ACCTLINK_RELINK_REQUIRED)
		ctl_fail(ctl, CTL_USER, "there is no refresh token any more; the bearer is served until it ends");
	else
		ctl_fail(ctl, CTL_LATER,
			"nothing was sent: the provider is paused or closed for now, another refresh is under way, "
			"or the last one is younger than min_refresh_interval");
}

void ctl_refresh(struct ctl *ctl, char **args, int count)
{
	acctlink_bearer_args want = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_inspect_args look = ACCTLINK_INSPECT_ARGS_INIT;
	acctlink_inspect_result before = ACCTLINK_INSPECT_RESULT_INIT;
	struct bearer after = { 0 };

	want.link = look.link = ctl_ref(args, count);
	want.deadline_ms = look.deadline_ms = ctl_deadline_ms(ctl);
	want.flags = ACCTLINK_BEARER_REFRESH;
	if (!ctl_open(ctl) || !ctl_check(ctl, acctlink_inspect(ctl->handle, &look, &before, &ctl->err))
		|| !get(ctl, &want, &after)) {
		wipe(&after);
		return;
	}
	ctl_put_number(ctl->out, "generation_before", (int64_t)before.generation);
	ctl_put_number(ctl->out, "generation", (int64_t)after.info.generation);
	ctl_put_time(ctl->out, "bearer_expires_at", after.info.expires_at_ms);
	if (after.info.generation <= before.generation)
		explain(ctl, &want.link);
	wipe(&after);
}
