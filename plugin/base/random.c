/* SPDX-License-Identifier: MIT
 * Random bytes straight from the kernel: no state that a fork could copy.
 */
#include "base/base.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

al_rc al_random(void *to, size_t len, acctlink_error *err)
{
	unsigned char *at = to;

	while (len > 0) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return al_fail(err, ACCTLINK_INTERNAL, "getrandom", "the kernel gave no random bytes: %s",
				strerror(errno));
		at += got;
		len -= (size_t)got;
	}
	return ACCTLINK_OK;
}

al_rc al_random_text(char *to, size_t cap, size_t len, acctlink_error *err)
{
	unsigned char raw[64];
	struct al_buf text;
	al_rc rc;

	if (len > sizeof(raw))
		return al_fail(err, ACCTLINK_INTERNAL, NULL, "too many random bytes asked for");
	al_buf_init(&text, cap);
	rc = al_random(raw, len, err);
	if (rc == ACCTLINK_OK && (!al_base64url_put(&text, raw, len) || text.len >= cap))
		rc = al_fail_memory(err);
	if (rc == ACCTLINK_OK)
		memcpy(to, text.data, text.len + 1);
	al_wipe(raw, sizeof(raw));
	al_buf_clear(&text);
	return rc;
}
