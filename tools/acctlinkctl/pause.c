/* SPDX-License-Identifier: MIT
 * acctlinkctl pause and resume: a provider that is paused is sent nothing by any
 * process on the store; bearers that are good are served on.
 */
#include "ctl.h"

#include "abi/operator.h"

static void set(struct ctl *ctl, const char *provider, bool pause)
{
	if (!ctl_open(ctl) || !ctl_check(ctl, al_operator_pause(ctl->handle, provider, pause, &ctl->err)))
		return;
	ctl_put_text(ctl->out, "provider", provider);
	ctl_put_flag(ctl->out, "paused", pause);
}

void ctl_pause(struct ctl *ctl, char **args, int count)
{
	(void)count;
	set(ctl, args[0], true);
}

void ctl_resume(struct ctl *ctl, char **args, int count)
{
	(void)count;
	set(ctl, args[0], false);
}
