/* SPDX-License-Identifier: MIT
 * One line to the host's hook, or to syslog without touching its process-wide
 * ident. Called without a lock held. Callers never pass secrets.
 */
#include "base/base.h"

#include <stdio.h>
#include <syslog.h>

void al_log(const struct al_log *log, int32_t level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (log == NULL || level > log->max_level)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (log->write != NULL)
		log->write(log->ctx, level, line);
	else
		syslog(LOG_AUTHPRIV | level, "acctlink: %s", line);
}
