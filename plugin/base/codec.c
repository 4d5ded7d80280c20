/* SPDX-License-Identifier: MIT
 * Encodings: base64, hex, forms, UTF-8, packed fields, SHA-256. Decoders take
 * hostile bytes; none reads past the length it is given.
 */
#include "base/base.h"

#include <openssl/evp.h>
#include <string.h>

static const char standard_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool put_base64(struct al_buf *to, const unsigned char *in, size_t len, const char *alphabet, bool pad)
{
	for (size_t i = 0; i < len; i += 3) {
		size_t rest = len - i;
		uint32_t bits = (uint32_t)in[i] << 16;
		char quad[4];

		if (rest > 1)
			bits |= (uint32_t)in[i + 1] << 8;
		if (rest > 2)
			bits |= in[i + 2];
		quad[0] = alphabet[bits >> 18 & 63];
		quad[1] = alphabet[bits >> 12 & 63];
		quad[2] = rest > 1 ? alphabet[bits >> 6 & 63] : '=';
		quad[3] = rest > 2 ? alphabet[bits & 63] : '=';
		if (!al_buf_put(to, quad, pad || rest > 2 ? 4 : rest + 1))
			return false;
	}
	return !to->failed;
}

bool al_base64url_put(struct al_buf *to, const void *data, size_t len)
{
	return put_base64(to, data, len, url_alphabet, false);
}

bool al_base64_put(struct al_buf *to, const void *data, size_t len)
{
	return put_base64(to, data, len, standard_alphabet, true);
}

static int base64url_digit(char c)
{
	const char *at = c == '\0' ? NULL : strchr(url_alphabet, c);

	return at == NULL ? -1 : (int)(at - url_alphabet);
}

bool al_base64url_decode(struct al_buf *to, const char *text, size_t len)
{
	uint32_t bits = 0;
	unsigned count = 0;

	if (len % 4 == 1)
		return false;
	for (size_t i = 0; i < len; i++) {
		int digit = base64url_digit(text[i]);

		if (digit < 0)
			return false;
		bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
		count += 6;
		if (count >= 8) {
			unsigned char byte = (unsigned char)(bits >> (count - 8) & 0xff);

			count -= 8;
			if (!al_buf_put(to, &byte, 1))
				return false;
		}
	}
	/* Two encodings of the same bytes would let a token be changed unseen. */
	return (bits & ((1u << count) - 1)) == 0;
}

void al_hex(char *to, const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *in = data;

	for (size_t i = 0; i < len; i++) {
		to[2 * i] = digits[in[i] >> 4];
		to[2 * i + 1] = digits[in[i] & 15];
	}
	to[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool al_hex_decode(struct al_buf *to, const char *text, size_t len)
{
	if (len % 2 != 0)
		return false;
	for (size_t i = 0; i < len; i += 2) {
		int high = hex_digit(text[i]);
		int low = hex_digit(text[i + 1]);
		char byte;

		if (high < 0 || low < 0)
			return false;
		byte = (char)(high << 4 | low);
		if (!al_buf_put(to, &byte, 1))
			return false;
	}
	return true;
}

static bool is_unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'
		|| c == '_' || c == '~';
}

bool al_form_put_encoded(struct al_buf *to, const char *text, size_t len)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		char triplet[3] = { '%', digits[c >> 4], digits[c & 15] };
		bool done;

		if (is_unreserved(text[i]))
			done = al_buf_put(to, text + i, 1);
		else
			done = c == ' ' ? al_buf_put(to, "+", 1) : al_buf_put(to, triplet, 3);
		if (!done)
			return false;
	}
	return !to->failed;
}

bool al_form_put_pair(struct al_buf *to, const char *name, const char *value, size_t len)
{
	if (to->len > 0 && to->data[to->len - 1] != '?')
		(void)al_buf_put(to, "&", 1);
	return al_form_put_encoded(to, name, strlen(name)) && al_buf_put(to, "=", 1)
		&& al_form_put_encoded(to, value, len);
}

bool al_form_decode(struct al_buf *to, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = text[i] == '+' ? ' ' : text[i];

		if (c == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' || !al_buf_put(to, &c, 1))
			return false;
	}
	return true;
}

bool al_form_next(const char *text, size_t len, size_t *at, acctlink_str *name, acctlink_str *value)
{
	const char *start;
	const char *end;
	const char *equals;

	while (*at < len && text[*at] == '&')
		(*at)++;
	if (*at >= len)
		return false;
	start = text + *at;
	end = memchr(start, '&', len - *at);
	if (end == NULL)
		end = text + len;
	equals = memchr(start, '=', (size_t)(end - start));
	name->data = start;
	name->len = (size_t)((equals == NULL ? end : equals) - start);
	value->data = equals == NULL ? end : equals + 1;
	value->len = (size_t)(end - value->data);
	*at = (size_t)(end - text);
	return true;
}

/* Length of the well-formed sequence at the start of in, 0 if there is none. */
static size_t utf8_sequence(const unsigned char *in, size_t len)
{
	static const unsigned char first[][3] = { /* lead, lowest and highest second byte */
		{ 0xe0, 0xa0, 0xbf }, { 0xed, 0x80, 0x9f }, { 0xf0, 0x90, 0xbf }, { 0xf4, 0x80, 0x8f }
	};
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t need;

	if (in[0] > 0 && in[0] < 0x80)
		return 1;
	if (in[0] < 0xc2 || in[0] > 0xf4)
		return 0;
	need = in[0] < 0xe0 ? 2 : in[0] < 0xf0 ? 3 : 4;
	if (len < need)
		return 0;
	for (size_t i = 0; i < AL_COUNT(first); i++) {
		if (first[i][0] == in[0]) {
			low = first[i][1];
			high = first[i][2];
		}
	}
	if (in[1] < low || in[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++) {
		if ((in[i] & 0xc0) != 0x80)
			return 0;
	}
	return need;
}

bool al_utf8_valid(const char *text, size_t len)
{
	size_t at = 0;

	while (at < len) {
		size_t step = utf8_sequence((const unsigned char *)text + at, len - at);

		if (step == 0)
			return false;
		at += step;
	}
	return true;
}

al_rc al_sha256(const void *data, size_t len, unsigned char out[32], acctlink_error *err)
{
	unsigned int got = 0;

	if (EVP_Digest(data, len, out, &got, EVP_sha256(), NULL) != 1 || got != 32)
		return al_fail(err, ACCTLINK_INTERNAL, "SHA-256", "OpenSSL could not hash");
	return ACCTLINK_OK;
}

bool al_pack_u64(struct al_buf *to, uint64_t value)
{
	unsigned char raw[8];

	for (size_t i = 0; i < sizeof(raw); i++)
		raw[i] = (unsigned char)(value >> (56 - 8 * i) & 0xff);
	return al_buf_put(to, raw, sizeof(raw));
}

bool al_pack(struct al_buf *to, const void *data, size_t len)
{
	unsigned char raw[4];

	if (len > UINT32_MAX) {
		to->failed = true;
		return false;
	}
	for (size_t i = 0; i < sizeof(raw); i++)
		raw[i] = (unsigned char)(len >> (24 - 8 * i) & 0xff);
	return al_buf_put(to, raw, sizeof(raw)) && al_buf_put(to, data, len);
}

static const unsigned char *take(struct al_unpack *from, size_t len)
{
	const unsigned char *at = from->data + from->at;

	if (from->failed || len > from->len - from->at) {
		from->failed = true;
		return NULL;
	}
	from->at += len;
	return at;
}

uint64_t al_unpack_u64(struct al_unpack *from)
{
	const unsigned char *raw = take(from, 8);
	uint64_t value = 0;

	for (size_t i = 0; raw != NULL && i < 8; i++)
		value = value << 8 | raw[i];
	return value;
}

acctlink_str al_unpack_field(struct al_unpack *from)
{
	const unsigned char *raw = take(from, 4);
	acctlink_str field = { "", 0 };
	size_t len = 0;

	for (size_t i = 0; raw != NULL && i < 4; i++)
		len = len << 8 | raw[i];
	raw = raw == NULL ? NULL : take(from, len);
	if (raw != NULL) {
		field.data = (const char *)raw;
		field.len = len;
	}
	return field;
}

bool al_str_is(acctlink_str a, const char *text)
{
	return a.len == strlen(text) && (a.len == 0 || memcmp(a.data, text, a.len) == 0);
}
