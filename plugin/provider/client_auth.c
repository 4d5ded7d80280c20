/* SPDX-License-Identifier: MIT
 * The client's credentials (RFC 6749, 2.3.1). One configured method per
 * request, never two and never a second try: a refused try may burn the code
 * or the refresh token that went with it. Any thread.
 */
#include "provider/provider_int.h"

#include <string.h>

static void put_id(struct al_buf *body, const struct al_provider_config *config)
{
	(void)al_form_put_pair(body, "client_id", config->client_id, strlen(config->client_id));
}

static bool put_raw(struct al_buf *to, const char *text, size_t len)
{
	return al_buf_put(to, text, len);
}

/* The user:password pair, each half encoded first where the server decodes it. */
static void put_pair(struct al_buf *pair, const struct al_provider_config *config, bool encode)
{
	bool (*put)(struct al_buf *, const char *, size_t) = encode ? al_form_put_encoded : put_raw;

	(void)put(pair, config->client_id, strlen(config->client_id));
	(void)al_buf_puts(pair, ":");
	(void)put(pair, al_buf_text(&config->client_secret), config->client_secret.len);
}

static al_rc put_basic(const struct al_provider_config *config, bool encode, struct al_buf *header, acctlink_error *err)
{
	size_t max = 3 * (strlen(config->client_id) + config->client_secret.len) + 1;
	struct al_buf pair;
	al_rc rc = ACCTLINK_OK;

	/* The first colon ends the user (RFC 7617, 2). */
	if (!encode && strchr(config->client_id, ':') != NULL)
		return al_fail(err, ACCTLINK_BAD_CONFIG, config->where,
			"client_secret_basic_raw can't carry a client_id with a colon: use another method");
	al_buf_init(&pair, max);
	al_buf_clear(header);
	al_buf_init(header, 2 * max + 64);
	put_pair(&pair, config, encode);
	(void)al_buf_puts(header, "Authorization: Basic ");
	(void)al_base64_put(header, al_buf_text(&pair), pair.len);
	if (pair.failed || header->failed)
		rc = al_fail_memory(err);
	al_buf_clear(&pair);
	return rc;
}

al_rc al_client_auth_add(const struct al_provider_config *config, enum al_client_auth method, struct al_buf *body,
	struct al_buf *header, acctlink_error *err)
{
	switch (method) {
	case AL_AUTH_BASIC:
	case AL_AUTH_BASIC_RAW: return put_basic(config, method == AL_AUTH_BASIC, header, err);
	case AL_AUTH_POST:
		put_id(body, config);
		(void)al_form_put_pair(
			body, "client_secret", al_buf_text(&config->client_secret), config->client_secret.len);
		break;
	case AL_AUTH_NONE: put_id(body, config); break;
	}
	return body->failed ? al_fail_memory(err) : ACCTLINK_OK;
}
