/* SPDX-License-Identifier: MIT
 * What a link's row allows now: one pure function over the row, the clock and
 * the config, so that every path and every test asks the same question.
 */
#include "link/link_int.h"

#include <inttypes.h>

int64_t al_bearer_generation(const struct al_record *record)
{
	return record->row.bearer_check == AL_BEARER_GOOD ? record->row.generation : record->kept.old_generation;
}

bool al_bearer_usable(const struct al_record *record, int64_t now_wall, int64_t withheld)
{
	const struct al_link_row *row = &record->row;
	int64_t refused = row->rejected_generation > withheld ? row->rejected_generation : withheld;

	if (row->state == ACCTLINK_STATE_SUPERSEDED || row->state == ACCTLINK_STATE_UNLINKING)
		return false;
	return row->bearer_end > now_wall && al_bearer_generation(record) > refused;
}

/* A margin may not eat a short bearer. The one for refreshing takes a fifth of
 * its life at most and the one for resending a tenth, so that between the two a
 * refresh of unknown outcome is not yet repeated. */
enum { REFRESH_PART = 5, RESEND_PART = 10 };

static int64_t bounded_margin(const struct al_link_row *row, int64_t margin, int64_t part)
{
	int64_t most = (row->bearer_end - row->bearer_from) / part;

	if (margin > most)
		margin = most;
	return margin < 0 ? 0 : margin;
}

/* A caller that asks for more may take half. */
int64_t al_margin(const struct al_record *record, const struct al_provider_config *config, int64_t min_ttl_ms)
{
	int64_t half = (record->row.bearer_end - record->row.bearer_from) / 2;
	int64_t margin = bounded_margin(&record->row, config->bearer_margin_ms, REFRESH_PART);

	if (min_ttl_ms > half)
		min_ttl_ms = half;
	return min_ttl_ms > margin ? min_ttl_ms : margin;
}

int64_t al_backoff_ms(const struct al_provider_config *config, int64_t failures)
{
	int64_t ceiling = config->backoff_base_ms;
	uint32_t dice = 0;

	for (int64_t i = 1; i < failures && ceiling < config->backoff_cap_ms; i++)
		ceiling *= 2;
	if (ceiling > config->backoff_cap_ms)
		ceiling = config->backoff_cap_ms;
	if (ceiling < 1 || al_random(&dice, sizeof(dice), NULL) != ACCTLINK_OK)
		return ceiling;
	return 1 + (int64_t)(dice % (uint64_t)ceiling);
}

static const char *reason_text(int64_t reason)
{
	switch (reason) {
	case ACCTLINK_REASON_REVOKED: return "the provider refused the refresh token (revoked or expired)";
	case ACCTLINK_REASON_CONSENT_EXPIRED: return "the consent has expired";
	case ACCTLINK_REASON_ROTATION_LOST:
		return "the answer to an earlier refresh was lost and the provider refuses the old refresh token";
	case ACCTLINK_REASON_SUBJECT_CHANGED: return "the provider answered for another subject";
	case ACCTLINK_REASON_NO_ID_TOKEN: return "the id_token is the bearer and the provider sends none";
	case ACCTLINK_REASON_NO_REFRESH_TOKEN: return "the provider gave no refresh token";
	case ACCTLINK_REASON_ID_TOKEN_UNCHECKED: return "the id_token of the last consent failed its check";
	default: return "another consent took the grant over";
	}
}

static enum al_action fail_relink(const struct al_link_row *row, acctlink_error *err)
{
	(void)al_fail(err, ACCTLINK_RELINK_REQUIRED, NULL, "the user must consent again: %s; begin a new consent",
		reason_text(row->reason));
	return AL_DO_FAIL;
}

static enum al_action fail_later(const struct al_link_row *row, int64_t until, int64_t now, acctlink_error *err)
{
	al_rc rc = row->reason == ACCTLINK_REASON_CLIENT_REFUSED ? ACCTLINK_CLIENT_REFUSED : ACCTLINK_PROVIDER_DOWN;

	(void)al_fail(err, rc, NULL, "the last refresh failed (%s); the next is due in %" PRId64 " ms",
		row->last_error.len > 0 ? al_buf_text(&row->last_error) : "no usable bearer came", until - now);
	if (err != NULL) {
		err->http_status = (int32_t)row->last_http_status;
		err->retry_after_ms = until - now;
		al_copy_printable(err->provider_code, sizeof(err->provider_code), al_buf_text(&row->last_error),
			row->last_error.len);
	}
	return AL_DO_FAIL;
}

static int64_t longest_pause(const struct al_provider_config *config)
{
	int64_t longest = config->retry_after_cap_ms;

	if (config->backoff_cap_ms > longest)
		longest = config->backoff_cap_ms;
	return config->min_refresh_interval_ms > longest ? config->min_refresh_interval_ms : longest;
}

/* The earliest time of the next refresh: back-off, and a least interval that
 * rules out loops. A bearer that just lived its short life is no loop. */
static int64_t next_refresh_at(const struct al_link_row *row, const struct al_provider_config *config, int64_t now)
{
	int64_t interval = config->min_refresh_interval_ms;
	int64_t life = row->bearer_end - row->bearer_from;
	int64_t at;

	if (row->rejected_generation < row->generation && life > 0 && life < interval)
		interval = life - bounded_margin(row, config->bearer_margin_ms, REFRESH_PART);
	/* What lies further ahead than any pause was written before the wall clock was set back. */
	at = row->bearer_from > now ? now : al_add_ms(row->bearer_from, interval);
	if (row->not_before > al_add_ms(now, longest_pause(config)))
		return at;
	return at > row->not_before ? at : row->not_before;
}

/* A claim that is still open here belongs to a dead owner: what it sent, if
 * anything, has an unknown outcome. */
int64_t al_unknown_sent_at(const struct al_link_row *row)
{
	if (row->unknown_sent_at == 0 && row->claim_outcome == AL_CLAIM_OPEN)
		return row->claim_sent_at;
	return row->unknown_sent_at; /* the first: from there the provider counts its reuse window */
}

/* An attempt of unknown outcome may be repeated only when the bearer is needed,
 * or inside the reuse window that the provider documents. */
static bool may_resend(const struct al_decide_in *in, bool usable)
{
	const struct al_link_row *row = &in->record->row;
	int64_t sent_at = al_unknown_sent_at(row);

	if (!usable || row->bearer_end - in->now_wall < bounded_margin(row, in->config->resend_margin_ms, RESEND_PART))
		return true;
	return in->now_wall >= sent_at && in->now_wall < al_add_ms(sent_at, in->config->reuse_window_ms);
}

static bool is_final(const struct al_link_row *row)
{
	return row->state == ACCTLINK_STATE_RELINK_REQUIRED && row->reason != ACCTLINK_REASON_NO_ID_TOKEN;
}

/* The refresh that is wanted: may it go out now? Falls back to serving. */
static enum al_action decide_refresh(const struct al_decide_in *in, bool usable, acctlink_error *err)
{
	const struct al_link_row *row = &in->record->row;
	int64_t at;

	if (in->record->kept.refresh_token.len == 0)
		return usable ? AL_DO_SERVE : fail_relink(row, err);
	if (row->client.len != 32 || !al_equal(al_buf_text(&row->client), in->client, 32)) {
		if (usable)
			return AL_DO_SERVE;
		(void)al_fail(err, ACCTLINK_BAD_CONFIG, in->config->where,
			"this link was made with another issuer or client_id; its refresh token is not sent to this one");
		return AL_DO_FAIL;
	}
	if (row->claim_outcome == AL_CLAIM_OPEN && in->claim_alive)
		return usable ? AL_DO_SERVE : AL_DO_WAIT;
	if (al_unknown_sent_at(row) > 0 && !may_resend(in, usable))
		return AL_DO_SERVE;
	at = next_refresh_at(row, in->config, in->now_wall);
	if (at <= in->now_wall)
		return AL_DO_REFRESH;
	if (usable)
		return AL_DO_SERVE;
	/* Without an id_token: it may still come, but only a consent is sure to help. */
	return row->state == ACCTLINK_STATE_RELINK_REQUIRED ? fail_relink(row, err)
							    : fail_later(row, at, in->now_wall, err);
}

enum al_action al_decide(const struct al_decide_in *in, acctlink_error *err)
{
	const struct al_link_row *row = &in->record->row;
	bool usable = al_bearer_usable(in->record, in->now_wall, in->withheld);

	if (row->state == ACCTLINK_STATE_UNLINKING) {
		(void)al_fail(err, ACCTLINK_NOT_LINKED, NULL, "the link was ended; begin a new consent");
		return AL_DO_FAIL;
	}
	if (row->state == ACCTLINK_STATE_SUPERSEDED || (is_final(row) && !usable))
		return fail_relink(row, err);
	if (in->config == NULL) {
		if (usable)
			return AL_DO_SERVE;
		(void)al_fail(err, ACCTLINK_UNKNOWN_PROVIDER, NULL, "provider '%s' is not in the config",
			al_buf_text(&row->provider));
		return AL_DO_FAIL;
	}
	if (usable && is_final(row))
		return AL_DO_SERVE;
	/* Nothing is built on a consent's own id_token before it was checked, however late. */
	if (row->bearer_check == AL_BEARER_UNCHECKED
		&& (in->record->kept.newest_end > in->now_wall || in->record->kept.parent_generation == 0))
		return AL_DO_CHECK;
	if (usable && !in->insist && row->bearer_end - in->now_wall > al_margin(in->record, in->config, in->min_ttl_ms))
		return AL_DO_SERVE;
	return decide_refresh(in, usable, err);
}
