/* SPDX-License-Identifier: MIT
 * The border: structs that grow, strings from strangers, texts into the
 * caller's buffers. Nothing here keeps a pointer of the caller.
 */
#include "abi/abi_int.h"

#include <inttypes.h>
#include <string.h>

enum { STRUCT_MAX = 65536 };

static bool tail_is_zero(const unsigned char *bytes, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

al_rc al_take_args(void *copy, size_t known, const void *given, const char *name, acctlink_error *err)
{
	uint32_t size;

	memset(copy, 0, known);
	if (given == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, name, "%s is NULL", name);
	memcpy(&size, given, sizeof(size));
	if (size == 0 || size > STRUCT_MAX || size % 8 != 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, name,
			"%s: size is %" PRIu32 "; set it to sizeof, a multiple of 8 up to 65536", name, size);
	if (size > known && !tail_is_zero(given, known, size))
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, name,
			"%s has members that this version of acctlink does not know", name);
	memcpy(copy, given, size < known ? size : known);
	return ACCTLINK_OK;
}

void al_give_result(void *to, const void *result, size_t known)
{
	uint32_t size;

	memcpy(&size, to, sizeof(size));
	memcpy((unsigned char *)to + sizeof(size), (const unsigned char *)result + sizeof(size),
		(size < known ? size : known) - sizeof(size));
}

al_rc al_check_name(acctlink_str text, const char *what, size_t min, size_t max, acctlink_error *err)
{
	if (text.data == NULL && text.len > 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, what, "%s has a length but no data", what);
	if (text.len < min || text.len > max)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, what, "%s has %zu bytes; %zu to %zu are allowed", what,
			text.len, min, max);
	if (!al_utf8_valid(text.data, text.len))
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, what, "%s is not valid UTF-8, or has a NUL in it", what);
	return ACCTLINK_OK;
}

al_rc al_check_user(acctlink_str user, acctlink_error *err)
{
	return al_check_name(user, "user", 1, 1024, err);
}

al_rc al_take_id(acctlink_str id, char to[AL_ID_LEN + 1], acctlink_error *err)
{
	to[0] = '\0';
	if (id.len == 0)
		return ACCTLINK_OK;
	if (id.len != AL_ID_LEN || id.data == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "link_id", "a link id has %d hex digits", AL_ID_LEN);
	for (size_t i = 0; i < id.len; i++) {
		if (!((id.data[i] >= '0' && id.data[i] <= '9') || (id.data[i] >= 'a' && id.data[i] <= 'f')))
			return al_fail(err, ACCTLINK_BAD_ARGUMENT, "link_id", "a link id has %d hex digits", AL_ID_LEN);
	}
	memcpy(to, id.data, AL_ID_LEN);
	to[AL_ID_LEN] = '\0';
	return ACCTLINK_OK;
}

al_rc al_take_ref(const acctlink_ref *ref, struct al_buf *owner_key, char link_id[AL_ID_LEN + 1], acctlink_error *err)
{
	al_rc rc = al_check_user(ref->user, err);

	if (rc == ACCTLINK_OK)
		rc = al_check_name(ref->provider, "provider", 1, 63, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(ref->institution, "institution", 0, 255, err);
	if (rc == ACCTLINK_OK)
		rc = al_take_id(ref->link_id, link_id, err);
	if (rc == ACCTLINK_OK && !al_owner_key(owner_key, ref->user, ref->provider, ref->institution))
		rc = al_fail_memory(err);
	return rc;
}

void al_give_text(acctlink_out *out, const struct al_buf *text, bool success)
{
	out->len = text->len;
	if (success && out->data != NULL && out->cap > text->len)
		memcpy(out->data, al_buf_text(text), text->len + 1);
}
