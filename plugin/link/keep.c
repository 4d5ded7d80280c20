/* SPDX-License-Identifier: MIT
 * How a token set gets into a row, and what a failed attempt leaves there.
 * Saved by parentage: who may send is the claim's matter, who may save is not.
 * A set is kept even when its id_token fails a check; only its bearer is held
 * back. Every function rereads and repeats when another writer was first.
 */
#include "link/link_int.h"

#include <string.h>

enum { CONFLICT_TRIES = 50 };

/* ---- lifetimes ---------------------------------------------------------------- */

/* When the newest bearer ends: what the provider said, else the JWT's own exp,
 * else the last lifetime of this link, else the configured default; never past
 * exp or the configured cap. */
static int64_t newest_end(struct al_kept *kept, const struct al_provider_config *config, const struct al_token_set *set,
	int64_t received, const struct al_log *log)
{
	int64_t exp = al_jwt_peek_exp(al_kept_newest_bearer(kept, config->bearer));
	int64_t end;

	if (set->expires_in_ms > 0) {
		kept->last_lifetime = set->expires_in_ms;
		end = al_add_ms(received, set->expires_in_ms);
	} else if (exp > 0) {
		end = exp < INT64_MAX / 1000 ? exp * 1000 : INT64_MAX;
	} else {
		end = al_add_ms(received, kept->last_lifetime > 0 ? kept->last_lifetime : config->default_lifetime_ms);
		al_log(log, ACCTLINK_LOG_NOTICE, "provider %s told no usable lifetime; %s is taken", config->name,
			kept->last_lifetime > 0 ? "the link's last one" : "default_lifetime");
	}
	if (exp > 0 && exp <= end / 1000)
		end = exp * 1000;
	if (config->bearer_cap_ms > 0 && end > al_add_ms(received, config->bearer_cap_ms))
		end = al_add_ms(received, config->bearer_cap_ms);
	return end;
}

/* ---- a set becomes the current one ------------------------------------------------ */

static enum al_bearer_check check_of(
	const struct al_kept *kept, const struct al_provider_config *config, enum al_id_verdict verdict)
{
	if (al_kept_newest_bearer(kept, config->bearer)->len == 0)
		return AL_BEARER_MISSING;
	if (kept->id_token.len == 0)
		return AL_BEARER_GOOD;
	return verdict == AL_ID_GOOD ? AL_BEARER_GOOD : verdict == AL_ID_NO_KEY ? AL_BEARER_UNCHECKED : AL_BEARER_BAD;
}

/* The bearer served so far stays servable until the newest one is good. */
static void set_old_bearer_aside(struct al_record *record)
{
	struct al_kept *kept = &record->kept;

	if (record->row.bearer_check != AL_BEARER_GOOD)
		return;
	al_buf_move(&kept->old_bearer, kept->bearer_kind == AL_BEARER_ID_TOKEN ? &kept->id_token : &kept->access_token);
	kept->old_generation = record->row.generation;
}

static void note_failure(struct al_link_row *row, const struct al_provider_config *config, const char *what,
	int64_t now, int64_t wait_ms)
{
	row->failures++;
	row->not_before = al_add_ms(now, wait_ms > 0 ? wait_ms : al_backoff_ms(config, row->failures));
	row->due_at = row->not_before;
	(void)al_buf_set(&row->last_error, what, strlen(what) < 64 ? strlen(what) : 63);
}

int32_t al_keep_judge(struct al_record *record, const struct al_provider_config *config, int64_t now)
{
	struct al_link_row *row = &record->row;
	bool old_good = record->kept.old_bearer.len > 0 && row->bearer_end > now;
	int64_t pause = config->min_refresh_interval_ms;

	if (row->bearer_check == AL_BEARER_GOOD) {
		row->bearer_end = record->kept.newest_end;
		al_buf_clear(&record->kept.old_bearer);
		record->kept.old_generation = 0;
		row->failures = 0;
		row->not_before = 0;
		al_buf_clear(&row->last_error);
		row->last_http_status = 0;
		row->due_at = row->bearer_end - al_margin(record, config, 0);
		if (row->bearer_end <= now) /* dead on arrival: no loop */
			note_failure(row, config, "bearer_already_ended", now, pause);
		return al_link_set_state(row, ACCTLINK_STATE_LINKED, ACCTLINK_REASON_NONE);
	}
	if (record->kept.old_bearer.len == 0)
		row->bearer_end = 0;
	if (row->bearer_check == AL_BEARER_UNCHECKED && row->state != 0
		&& (record->kept.newest_end > now || record->kept.parent_generation == 0)) {
		/* The keys are fetched next (see al_decide): no news for anybody unless that fails. */
		(void)al_buf_set(&row->last_error, "id_token_unchecked", 18);
		return 0;
	}
	if (row->bearer_check == AL_BEARER_MISSING && config->bearer == AL_BEARER_ID_TOKEN) {
		note_failure(row, config, "no_id_token", now, pause);
		return al_link_set_state(row, old_good ? ACCTLINK_STATE_STALE : ACCTLINK_STATE_RELINK_REQUIRED,
			ACCTLINK_REASON_NO_ID_TOKEN);
	}
	note_failure(row, config,
		row->bearer_check == AL_BEARER_MISSING       ? "no_access_token"
			: row->bearer_check == AL_BEARER_BAD ? "id_token_refused"
							     : "id_token_unchecked",
		now, pause);
	return al_link_set_state(row, ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
}

static void clear_claim(struct al_link_row *row)
{
	row->claim_outcome = AL_CLAIM_NONE;
	row->claim_owner[0] = '\0';
	row->claim_sent_at = 0;
	row->claim_lease_end = 0;
}

static void set_refresh_end(struct al_link_row *row, const struct al_provider_config *config,
	const struct al_token_set *set, int64_t received)
{
	int64_t life = set->refresh_expires_in_ms > 0 ? set->refresh_expires_in_ms : config->refresh_lifetime_ms;

	if (set->refresh_token.len > 0 || row->refresh_end == 0)
		row->refresh_end = life > 0 ? al_add_ms(received, life) : 0;
}

bool al_keep_take_set(struct al_record *record, const struct al_provider_config *config, const struct al_token_set *set,
	int64_t received, enum al_id_verdict verdict, const struct al_log *log)
{
	struct al_kept *kept = &record->kept;
	bool done = true;

	set_old_bearer_aside(record);
	kept->bearer_kind = config->bearer;
	if (set->refresh_token.len > 0) /* none came: the old one stays good (RFC 6749, 6) */
		done = al_buf_copy(&kept->refresh_token, &set->refresh_token);
	done = done && al_buf_copy(&kept->access_token, &set->access_token)
		&& al_buf_copy(&kept->id_token, &set->id_token);
	if (set->scope.len > record->row.scope.max) /* no reason to lose the tokens */
		al_log(log, ACCTLINK_LOG_WARNING, "provider %s granted a scope of %zu bytes; that known before is kept",
			config->name, set->scope.len);
	else if (set->scope.len > 0)
		done = done && al_buf_copy(&record->row.scope, &set->scope);
	kept->newest_end = newest_end(kept, config, set, received, log);
	set_refresh_end(&record->row, config, set, received);
	clear_claim(&record->row);
	record->row.unknown_sent_at = 0;
	record->row.generation++;
	record->row.bearer_from = received;
	record->row.bearer_check = check_of(kept, config, verdict);
	return done;
}

static enum al_id_verdict check_newest(struct al_provider *provider, const struct al_record *record,
	const struct al_buf *id_token, const struct al_buf *access_token, bool refreshed, int64_t now,
	struct al_id_claims *claims, acctlink_error *err)
{
	struct al_id_expect expect = { .refreshed = refreshed,
		.nonce = record->kept.nonce.len > 0 ? al_buf_text(&record->kept.nonce) : NULL,
		.subject = record->row.subject.len > 0 ? al_buf_text(&record->row.subject) : NULL,
		.auth_time = refreshed ? record->kept.auth_time : 0,
		.access_token = access_token };

	if (id_token->len == 0)
		return AL_ID_GOOD;
	return al_id_token_check(provider, id_token, &expect, now, claims, err);
}

/* ---- sets that will not be used ------------------------------------------------------ */

static bool queue_tokens(struct al_links *links, struct al_record *record, const struct al_buf *refresh_token,
	const struct al_buf *access_token)
{
	int64_t now = al_now(links->parts.clock).wall_ms;
	struct al_buf copy;
	bool done;

	al_buf_init(&copy, AL_TOKEN_MAX);
	done = al_buf_copy(&copy, access_token);
	al_kept_add_revoke(&record->kept, &copy, true, true);
	done = done && al_buf_copy(&copy, refresh_token);
	al_kept_add_revoke(&record->kept, &copy, false, true); /* the refresh token goes first */
	al_buf_clear(&copy);
	record->row.revoke_at = now;
	record->row.revoke_until = al_add_ms(now, links->parts.revocation_lifetime_ms);
	record->row.revoke_tries = 0;
	return done;
}

bool al_keep_make_tombstone(struct al_links *links, struct al_provider *provider, acctlink_str user,
	acctlink_str institution, const struct al_token_set *set, struct al_record *record, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(provider);
	struct al_link_row *row = &record->row;
	unsigned char id[AL_ID_LEN / 2];
	unsigned char client[32];

	if (al_random(id, sizeof(id), err) != ACCTLINK_OK
		|| al_provider_fingerprint(provider, client, err) != ACCTLINK_OK)
		return false;
	al_hex(row->id, id, sizeof(id));
	row->state = ACCTLINK_STATE_UNLINKING;
	row->epoch = 1;
	return al_owner_key(&row->owner_key, user, al_str(config->name), institution)
		&& al_buf_set(&row->user, user.data, user.len)
		&& al_buf_set(&row->provider, config->name, strlen(config->name))
		&& al_buf_set(&row->institution, institution.data, institution.len)
		&& al_buf_set(&row->client, client, sizeof(client))
		&& queue_tokens(links, record, &set->refresh_token, &set->access_token);
}

al_rc al_links_revoke_orphan(struct al_links *links, struct al_provider *provider, acctlink_str user,
	acctlink_str institution, const struct al_token_set *set, acctlink_error *err)
{
	struct al_record record;
	al_rc rc;

	al_record_init(&record);
	if (!al_keep_make_tombstone(links, provider, user, institution, set, &record, err))
		rc = al_fail_memory(err);
	else
		rc = al_links_commit(links, AL_LINK_INSERT, &record, "orphan", "a token set without a link", err);
	if (rc == ACCTLINK_OK)
		al_links_start_revocation(links, record.row.id);
	al_record_clear(&record);
	return rc;
}

static al_rc orphan_of_row(
	struct al_links *links, const struct al_link_row *row, struct al_arrival *arrival, acctlink_error *err)
{
	acctlink_str user = al_buf_str(&row->user);
	acctlink_str institution = al_buf_str(&row->institution);

	return al_links_revoke_orphan(links, arrival->provider, user, institution, arrival->set, err);
}

/* ---- refreshed sets --------------------------------------------------------------------- */

/* False: out of memory. A set without a refresh token leaves nothing to try. */
static bool make_sibling(struct al_kept *kept, const struct al_buf *refresh_token, int64_t attempt)
{
	if (refresh_token->len == 0)
		return true;
	kept->sibling.present = al_buf_copy(&kept->sibling.refresh_token, refresh_token);
	kept->sibling.attempt = attempt;
	return kept->sibling.present;
}

static void drop_sibling(struct al_kept *kept)
{
	al_buf_clear(&kept->sibling.refresh_token);
	kept->sibling.present = false;
	kept->sibling.attempt = 0;
}

/* The provider answered for somebody else, or a consent's id_token is not to be
 * believed: never handed out, kept sealed, then revoked. The bearer that is good
 * stays good. */
static al_rc keep_to_revoke(struct al_links *links, struct al_record *record, const struct al_buf *refresh_token,
	const struct al_buf *access_token, int64_t reason, acctlink_error *err)
{
	int32_t event = al_link_set_state(&record->row, ACCTLINK_STATE_RELINK_REQUIRED, reason);
	al_rc rc;

	clear_claim(&record->row);
	if (!queue_tokens(links, record, refresh_token, access_token))
		return al_fail_memory(err);
	rc = al_links_commit(links, AL_LINK_SWAP, record,
		reason == ACCTLINK_REASON_SUBJECT_CHANGED ? "subject_changed" : "id_token_refused", "", err);
	if (rc == ACCTLINK_OK) {
		al_links_event(links, event, &record->row);
		al_links_start_revocation(links, record->row.id);
	}
	return rc;
}

/* An imported link does not know whose it is until its first id_token. */
static bool learn_subject(struct al_record *record, const struct al_id_claims *claims)
{
	record->kept.auth_time = claims->auth_time;
	return al_buf_copy(&record->row.subject, &claims->subject);
}

static al_rc keep_current(struct al_links *links, struct al_record *record, const struct al_arrival *arrival,
	enum al_keep_end *end, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(arrival->provider);
	const struct al_token_set *set = arrival->set;
	acctlink_error why = { 0 };
	struct al_id_claims claims;
	enum al_id_verdict verdict;
	int32_t event;
	al_rc rc;

	al_id_claims_init(&claims);
	/* As at the consent: an OAuth 2.0 profile has no rules to check one by. */
	if (!config->id_token_expected && config->issuer == NULL)
		al_buf_clear(&arrival->set->id_token);
	verdict = check_newest(arrival->provider, record, &set->id_token, &set->access_token, true,
		arrival->received_wall, &claims, &why);
	if (verdict == AL_ID_OTHER_SUBJECT) {
		rc = keep_to_revoke(
			links, record, &set->refresh_token, &set->access_token, ACCTLINK_REASON_SUBJECT_CHANGED, err);
		*end = AL_KEPT_TO_REVOKE;
		goto out;
	}
	if (verdict == AL_ID_BAD)
		al_log(links->parts.log, ACCTLINK_LOG_ERROR, "link %s: the refreshed id_token is refused: %s",
			record->row.id, why.message);
	if (!al_keep_take_set(record, config, set, arrival->received_wall, verdict, links->parts.log)) {
		rc = al_fail_memory(err);
		goto out;
	}
	if (verdict == AL_ID_GOOD && record->row.subject.len == 0 && !learn_subject(record, &claims)) {
		rc = al_fail_memory(err);
		goto out;
	}
	record->kept.parent_generation = arrival->generation;
	record->kept.made_by_attempt = arrival->attempt;
	event = al_keep_judge(record, config, arrival->received_wall);
	rc = al_links_commit(links, AL_LINK_SWAP, record, "refreshed", "", err);
	if (rc == ACCTLINK_OK) {
		*end = AL_KEPT;
		al_links_event(links, ACCTLINK_EVENT_REFRESHED, &record->row);
		if (event != 0)
			al_links_event(links, event, &record->row);
	}
out:
	al_id_claims_clear(&claims);
	return rc;
}

/* Another set of the same parent is there: the later attempt wins, the other
 * stays sealed until the winner has refreshed once. */
static al_rc keep_beside(struct al_links *links, struct al_record *record, const struct al_arrival *arrival,
	enum al_keep_end *end, acctlink_error *err)
{
	if (arrival->attempt > record->kept.made_by_attempt) {
		if (!make_sibling(&record->kept, &record->kept.refresh_token, record->kept.made_by_attempt))
			return al_fail_memory(err);
		return keep_current(links, record, arrival, end, err);
	}
	if (arrival->attempt == record->kept.made_by_attempt) {
		*end = AL_KEPT; /* our own commit, looked up */
		return ACCTLINK_OK;
	}
	*end = AL_KEPT_SIBLING;
	if (!make_sibling(&record->kept, &arrival->set->refresh_token, arrival->attempt))
		return al_fail_memory(err);
	return al_links_commit(links, AL_LINK_SWAP, record, "sibling", "", err);
}

/* The unlinking that waits for the claim takes it up, or else the queue, when the
 * row is due as before. */
static al_rc keep_on_tombstone(
	struct al_links *links, struct al_record *record, const struct al_arrival *arrival, acctlink_error *err)
{
	struct al_link_row *row = &record->row;
	int64_t taken_until = row->revoke_until > 0 ? row->revoke_at : 0;

	clear_claim(row);
	if (!queue_tokens(links, record, &arrival->set->refresh_token, &arrival->set->access_token))
		return al_fail_memory(err);
	if (row->revoke_at < taken_until)
		row->revoke_at = taken_until;
	return al_links_commit(links, AL_LINK_SWAP, record, "late_set", "arrived after the unlink", err);
}

static al_rc keep_by_parentage(struct al_links *links, struct al_record *record, struct al_arrival *arrival,
	enum al_keep_end *end, acctlink_error *err)
{
	struct al_link_row *row = &record->row;

	*end = AL_KEPT_NOT;
	if (row->epoch != arrival->epoch)
		/* Where one user has one grant, revoking would take the new consent's tokens. */
		return al_provider_config(arrival->provider)->one_grant_per_user
			? ACCTLINK_OK
			: orphan_of_row(links, row, arrival, err);
	if (row->state == ACCTLINK_STATE_UNLINKING) {
		*end = AL_KEPT_TO_REVOKE;
		return keep_on_tombstone(links, record, arrival, err);
	}
	if (row->generation == arrival->generation) {
		drop_sibling(&record->kept);
		return keep_current(links, record, arrival, end, err);
	}
	if (record->kept.parent_generation == arrival->generation)
		return keep_beside(links, record, arrival, end, err);
	al_log(links->parts.log, ACCTLINK_LOG_WARNING,
		"link %s: a set of generation %lld came when generation %lld had been refreshed already; it is dropped",
		row->id, (long long)arrival->generation, (long long)row->generation);
	return ACCTLINK_OK;
}

al_rc al_keep_refreshed(struct al_links *links, const char *link_id, struct al_arrival *arrival, enum al_keep_end *end,
	acctlink_error *err)
{
	struct al_record record;
	al_rc rc = AL_CONFLICT;

	al_record_init(&record);
	for (int tries = 0; rc == AL_CONFLICT && tries < CONFLICT_TRIES; tries++) {
		rc = al_record_read(links, NULL, link_id, &record, err);
		if (rc == ACCTLINK_OK)
			rc = keep_by_parentage(links, &record, arrival, end, err);
	}
	if (rc == AL_CONFLICT)
		rc = al_fail(err, ACCTLINK_STORE_DOWN, "store", "the row kept changing while a set was to be saved");
	al_record_clear(&record);
	return rc;
}

/* The keys were asked for in vain: now that is news. `err` keeps telling why. */
static al_rc note_unchecked(struct al_links *links, struct al_record *record, acctlink_error *err)
{
	struct al_link_row *row = &record->row;
	acctlink_error why = { 0 };
	int32_t event;
	al_rc rc;

	if (row->state == ACCTLINK_STATE_STALE && row->reason == ACCTLINK_REASON_ID_TOKEN_UNCHECKED)
		return ACCTLINK_OK;
	event = al_link_set_state(row, ACCTLINK_STATE_STALE, ACCTLINK_REASON_ID_TOKEN_UNCHECKED);
	rc = al_links_commit(links, AL_LINK_MARK, record, "id_token_unchecked", "", &why);
	if (rc == ACCTLINK_OK && event != 0)
		al_links_event(links, event, row);
	if (rc != ACCTLINK_OK && err != NULL)
		*err = why;
	return rc;
}

al_rc al_keep_checked(struct al_links *links, struct al_provider *provider, struct al_record *record,
	enum al_id_verdict *verdict, acctlink_error *err)
{
	const struct al_provider_config *config = al_provider_config(provider);
	struct al_kept *kept = &record->kept;
	int64_t now = al_now(links->parts.clock).wall_ms;
	bool refreshed = kept->parent_generation != 0;
	struct al_id_claims claims;
	int32_t event;
	al_rc rc = ACCTLINK_OK;

	al_id_claims_init(&claims);
	/* As of its arrival: that the keys were late is no fault of the token. */
	*verdict = check_newest(provider, record, &kept->id_token, &kept->access_token, refreshed,
		record->row.bearer_from, &claims, err);
	if (*verdict == AL_ID_NO_KEY) {
		rc = note_unchecked(links, record, err);
		goto out;
	}
	if (*verdict == AL_ID_BAD)
		al_log(links->parts.log, ACCTLINK_LOG_ERROR,
			"link %s: the id_token that waited for its check is refused: %s", record->row.id,
			err == NULL ? "" : err->message);
	record->row.bearer_check = check_of(kept, config, *verdict);
	if (*verdict == AL_ID_OTHER_SUBJECT || (*verdict == AL_ID_BAD && !refreshed)) {
		rc = keep_to_revoke(links, record, &kept->refresh_token, &kept->access_token,
			*verdict == AL_ID_BAD ? ACCTLINK_REASON_ID_TOKEN_UNCHECKED : ACCTLINK_REASON_SUBJECT_CHANGED,
			err);
		goto out;
	}
	if (*verdict == AL_ID_GOOD && record->row.subject.len == 0) {
		kept->auth_time = claims.auth_time;
		if (!al_buf_copy(&record->row.subject, &claims.subject)) {
			rc = al_fail_memory(err);
			goto out;
		}
	}
	event = al_keep_judge(record, config, now);
	rc = al_links_commit(
		links, AL_LINK_SWAP, record, *verdict == AL_ID_GOOD ? "id_token_checked" : "id_token_refused", "", err);
	if (rc == ACCTLINK_OK && event != 0)
		al_links_event(links, event, &record->row);
out:
	al_id_claims_clear(&claims);
	return rc;
}

/* ---- failed attempts ----------------------------------------------------------------------- */

struct settling {
	bool swap;    /* the sealed part changed as well */
	bool counted; /* by the fuse: once, however often the row has to be reread */
	bool may_end;
};

static bool may_end_link(
	struct al_links *links, const struct al_provider_config *config, acctlink_time now, struct settling *how)
{
	bool alarm;

	if (how->counted)
		return how->may_end;
	how->counted = true;
	how->may_end = al_gate_refused(links->gates, config->name, now.boot_ms, &alarm);
	if (alarm)
		al_log(links->parts.log, ACCTLINK_LOG_ERROR,
			"provider %s refuses one refresh token after the other: "
			"refreshing is stopped, so that no more links end; was it restored, or is client_id wrong?",
			config->name);
	return how->may_end;
}

/* A definite refusal of the very token sent. */
static int32_t settle_refused(struct al_links *links, struct al_record *record, const struct al_provider_config *config,
	acctlink_time now, struct settling *how)
{
	struct al_link_row *row = &record->row;

	if (record->kept.sibling.present) { /* the other set of the same parent may be the live one */
		al_buf_move(&record->kept.refresh_token, &record->kept.sibling.refresh_token);
		drop_sibling(&record->kept);
		how->swap = true;
		note_failure(row, config, "sibling_tried", now.wall_ms, 1);
		return 0;
	}
	note_failure(row, config, "refused", now.wall_ms, 0);
	if (!may_end_link(links, config, now, how))
		return al_link_set_state(row, ACCTLINK_STATE_STALE, ACCTLINK_REASON_PROVIDER_DOWN);
	row->due_at = 0;
	return al_link_set_state(row, ACCTLINK_STATE_RELINK_REQUIRED,
		row->unknown_sent_at > 0                                          ? ACCTLINK_REASON_ROTATION_LOST
			: row->consent_end > 0 && row->consent_end <= now.wall_ms ? ACCTLINK_REASON_CONSENT_EXPIRED
										  : ACCTLINK_REASON_REVOKED);
}

static int32_t settle(struct al_links *links, struct al_record *record, const struct al_provider_config *config,
	const struct al_token_answer *answer, struct settling *how)
{
	acctlink_time now = al_now(links->parts.clock);
	struct al_link_row *row = &record->row;
	int64_t sent_at = row->claim_sent_at;
	int64_t reason = ACCTLINK_REASON_PROVIDER_DOWN;
	int32_t event;

	row->last_http_status = answer->http_status;
	if (answer->kind == AL_ANSWER_UNKNOWN && row->unknown_sent_at == 0)
		row->unknown_sent_at = sent_at;
	if (answer->kind == AL_ANSWER_REFUSED) {
		event = settle_refused(links, record, config, now, how);
	} else {
		if (answer->kind == AL_ANSWER_OPERATOR)
			reason = ACCTLINK_REASON_CLIENT_REFUSED;
		else if (answer->kind == AL_ANSWER_OURS)
			reason = ACCTLINK_REASON_OUR_FAULT;
		else if (row->unknown_sent_at > 0)
			reason = ACCTLINK_REASON_OUTCOME_UNKNOWN;
		note_failure(row, config, "", now.wall_ms, 0);
		if (answer->retry_after_ms > 0 && row->not_before < al_add_ms(now.wall_ms, answer->retry_after_ms))
			row->not_before = al_add_ms(now.wall_ms, answer->retry_after_ms);
		row->due_at = row->not_before;
		event = row->state == ACCTLINK_STATE_RELINK_REQUIRED
			? 0
			: al_link_set_state(row, ACCTLINK_STATE_STALE, reason);
	}
	(void)al_buf_set(&row->last_error, answer->provider_code, strlen(answer->provider_code));
	clear_claim(row);
	return event;
}

static const char *class_name(enum al_answer_class kind)
{
	static const char *const names[] = { "not_sent", "set", "refused", "client_refused", "our_fault", "turned_away",
		"outcome_unknown" };

	return names[kind];
}

static void alarm_operator(struct al_links *links, const struct al_link_row *row, const struct al_token_answer *answer)
{
	if (answer->kind != AL_ANSWER_OPERATOR
		|| !al_gate_client_refused(
			links->gates, al_buf_text(&row->provider), al_now(links->parts.clock).boot_ms))
		return;
	al_log(links->parts.log, ACCTLINK_LOG_ERROR,
		"provider %s refuses our client (HTTP %d %s): check client_id and client_secret; no link is harmed",
		al_buf_text(&row->provider), answer->http_status, answer->provider_code);
	al_links_event(links, ACCTLINK_EVENT_CLIENT_REFUSED, row);
}

al_rc al_keep_failure(struct al_links *links, const char *link_id, struct al_provider *provider, int64_t epoch,
	int64_t generation, int64_t attempt, const struct al_token_answer *answer, acctlink_error *err)
{
	struct settling how = { 0 };
	struct al_record record;
	al_rc rc = AL_CONFLICT;

	al_record_init(&record);
	for (int tries = 0; rc == AL_CONFLICT && tries < CONFLICT_TRIES; tries++) {
		int32_t event;

		how.swap = false;
		rc = al_record_read(links, NULL, link_id, &record, err);
		if (rc != ACCTLINK_OK)
			break;
		if (record.row.epoch != epoch || record.row.generation != generation
			|| record.row.claim_attempt != attempt || record.row.claim_outcome != AL_CLAIM_OPEN)
			break; /* the row moved on: the failure speaks of the past */
		if (record.row.state == ACCTLINK_STATE_UNLINKING) {
			clear_claim(&record.row); /* lets the revocation go on */
			event = 0;
		} else {
			event = settle(links, &record, al_provider_config(provider), answer, &how);
		}
		rc = al_links_commit(links, how.swap ? AL_LINK_SWAP : AL_LINK_MARK, &record, class_name(answer->kind),
			answer->provider_code, err);
		if (rc != ACCTLINK_OK)
			continue;
		if (event != 0)
			al_links_event(links, event, &record.row);
		alarm_operator(links, &record.row, answer);
	}
	if (rc == AL_CONFLICT)
		rc = al_fail(
			err, ACCTLINK_STORE_DOWN, "store", "the row kept changing while a failure was to be noted");
	al_record_clear(&record);
	return rc == AL_ABSENT ? ACCTLINK_OK : rc;
}
