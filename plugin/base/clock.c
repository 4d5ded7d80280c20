/* SPDX-License-Identifier: MIT
 * Time is a table: tests replace it through the host's clock hook. Waiting uses
 * CLOCK_MONOTONIC and is never replaced.
 */
#include "base/base.h"

#include <time.h>

static int64_t read_ms(clockid_t id)
{
	struct timespec ts = { 0, 0 };

	(void)clock_gettime(id, &ts); /* can't fail for these ids on Linux */
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

acctlink_time al_now(const struct al_clock *clock)
{
	acctlink_time now = { 0, 0 };

	if (clock != NULL && clock->read != NULL) {
		clock->read(clock->ctx, &now);
		return now;
	}
	now.wall_ms = read_ms(CLOCK_REALTIME);
	now.boot_ms = read_ms(CLOCK_BOOTTIME);
	return now;
}

int64_t al_monotonic_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

int64_t al_add_ms(int64_t a, int64_t b)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return a > 0 ? INT64_MAX : INT64_MIN;
	return sum;
}
