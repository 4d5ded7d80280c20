/* SPDX-License-Identifier: MIT
 * The rules, one function each, over the ledger and the links. Where the ledger
 * can't know (a script changed the answer, a process was killed, the ledger was
 * reset) a rule lets both ways pass, and says so under "lost" if it matters.
 */
#include "judge.h"

#include <stdio.h>
#include <string.h>

#include "link/link_int.h"

enum {
	SLACK_MS = 1500, /* clocks are read twice, and JWTs count whole seconds */
	RESEND_MARGIN_MS = 60 * 1000,
	RESEND_PART = 10,
	FUSE_REFUSALS = 20
};

static bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static const char *shown(const char *hash)
{
	static char text[4][13];
	static unsigned next;
	char *to = text[next++ % 4];

	if (hash == NULL || hash[0] == '\0')
		return "none";
	snprintf(to, sizeof(text[0]), "%.12s", hash);
	return to;
}

/* ---- 1: once ------------------------------------------------------------------------ */

/* It brings a refresh token that takes the place of the one sent. */
static bool rotates(const struct jd_request *request)
{
	return request->refresh_token != NULL && !same(request->refresh_token, request->sent);
}

/* Who asked may not know what became of it. */
static bool may_be_unknown(const struct jd_request *request)
{
	if (request->class == JD_UNKNOWN || request->delivered == JD_NO)
		return true;
	return request->delivered == JD_MAYBE && (request->class == JD_ANSWER || request->class == JD_REFUSED);
}

/* The newest answer before `before` that the refresh token came with, or that was got with it. */
static const struct jd_request *last_set(const struct judge *judge, const struct jd_request *before)
{
	const struct jd_request *newest = jd_index_get(&judge->carried, before->sent);
	const struct jd_request *request = before->grant != NULL ? before->grant->first : NULL;

	if (newest != NULL && newest->n >= before->n)
		newest = NULL;
	for (; request != NULL && request->n < before->n; request = request->next_of_grant) {
		if (jd_may_have_arrived(request) && !rotates(request) && same(request->sent, before->sent))
			newest = request;
	}
	return newest;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When the bearer of that answer ends; 0: it told none that lasts. */
static int64_t bearer_end(const struct judge *judge, const struct jd_request *set, const char **bearer)
{
	const struct al_provider_config *config = jd_config_of(judge, set);
	const bool by_id = config != NULL ? config->bearer == AL_BEARER_ID_TOKEN : set->access_token == NULL;
	const int64_t exp = by_id ? set->id_exp : set->access_exp;
	const struct jd_token *token;
	int64_t end = INT64_MAX;

	*bearer = by_id ? set->id_token : set->access_token;
	token = jd_token(judge, *bearer);
	if (token != NULL && token->ends_at > 0)
		end = token->ends_at;
	if (set->expires_in_ms > 0)
		end = least(end, set->at + set->expires_in_ms);
	if (exp > 0)
		end = least(end, exp * 1000);
	if (config != NULL && config->bearer_cap_ms > 0)
		end = least(end, set->at + config->bearer_cap_ms);
	if (config != NULL && end == INT64_MAX)
		end = set->at + config->default_lifetime_ms;
	return *bearer != NULL ? end : 0;
}

/* The data API's refusal may have been reported without asking it, and a bearer may
 * wait for its check: the links know. */
static bool link_says_needed(const struct jd_request *request)
{
	const struct jd_link *link = request->grant != NULL ? request->grant->link : NULL;

	if (link == NULL)
		return false;
	return link->rejected_generation > 0
		|| (link->bearer_check != AL_BEARER_GOOD && same(link->refresh_token, request->sent));
}

static bool in_reuse_window(const struct judge *judge, const struct jd_request *request, int64_t unknown_at)
{
	const struct al_provider_config *config = jd_config_of(judge, request);

	return config != NULL && config->reuse_window_ms > 0
		&& request->at <= unknown_at + config->reuse_window_ms + SLACK_MS;
}

static bool needed(const struct judge *judge, const struct jd_request *request, int64_t unknown_at)
{
	const struct jd_request *set = last_set(judge, request);
	const struct al_provider_config *config = jd_config_of(judge, request);
	int64_t margin = config != NULL ? config->resend_margin_ms : RESEND_MARGIN_MS;
	const char *bearer;
	int64_t end;

	if (in_reuse_window(judge, request, unknown_at) || link_says_needed(request))
		return true;
	if (set == NULL || set->scripted)
		return true; /* the ledger can't tell how good that bearer was */
	end = bearer_end(judge, set, &bearer);
	if (end == 0 || jd_bearer_refused_at(judge, bearer) <= request->at)
		return true;
	margin = least(margin, (end - set->at) / RESEND_PART);
	return request->at + SLACK_MS >= end - margin;
}

/* Definite refusals of that client's tokens in a row, up to this request. */
static int refusals_before(const struct judge *judge, const struct jd_request *request)
{
	int count = 0;
	size_t i;

	for (i = 0; i < judge->request_count && judge->requests[i].n < request->n; i++) {
		const struct jd_request *one = &judge->requests[i];

		if (!one->refresh || !same(one->client, request->client))
			continue;
		if (one->class == JD_REFUSED && one->delivered != JD_NO)
			count++;
		else if (one->class == JD_ANSWER && one->delivered == JD_YES)
			count = 0;
	}
	return count;
}

/* Of two arrivals of one refresh token: was the second all right? unknown_at is
 * when the first of unknown outcome came, 0 if there is none. */
static void check_again(
	struct judge *judge, const struct jd_request *before, const struct jd_request *again, int64_t *unknown_at)
{
	const bool heard = before->delivered == JD_YES;

	if (heard && before->ended_at > again->at)
		jd_violation(judge, "once", "requests %lld and %lld sent token %s at the same time", before->n,
			again->n, shown(again->sent));
	if (jd_may_have_arrived(before) && !rotates(before)) {
		*unknown_at = 0; /* the token stays good: this is the next refresh */
		return;
	}
	judge->counts.resent++;
	if (judge->list)
		jd_note("sent again: token %s, request %lld after %lld (HTTP %d, %s)", shown(again->sent), again->n,
			before->n, before->status, before->cause != NULL ? before->cause : "answered");
	if (heard && before->class == JD_ANSWER)
		jd_violation(judge, "once",
			"request %lld sent token %s again, although request %lld had been answered with a new one",
			again->n, shown(again->sent), before->n);
	else if (heard && before->class == JD_REFUSED && refusals_before(judge, again) <= FUSE_REFUSALS)
		jd_violation(judge, "once",
			"request %lld sent token %s again after its definite refusal (request %lld)", again->n,
			shown(again->sent), before->n);
	if (may_be_unknown(before) && *unknown_at == 0)
		*unknown_at = before->at;
	if (*unknown_at != 0 && !needed(judge, again, *unknown_at))
		jd_violation(judge, "once",
			"request %lld sent token %s again after an unknown outcome (request %lld, %s), while the bearer was good",
			again->n, shown(again->sent), before->n,
			before->cause != NULL ? before->cause : "refused for now");
}

static void check_once(struct judge *judge)
{
	size_t i;

	for (i = 0; i < judge->request_count; i++) {
		const struct jd_request *request = &judge->requests[i];
		const struct jd_request *again;
		int64_t unknown_at = 0;

		if (request->token->first != request)
			continue;
		judge->counts.checked++;
		for (; (again = request->next_of_token) != NULL; request = again) {
			if (again->refresh)
				check_again(judge, request, again, &unknown_at);
			else if (request->token->given)
				jd_violation(judge, "once", "code %s arrived again with request %lld (first with %lld)",
					shown(again->sent), again->n, request->n);
		}
	}
}

/* ---- what may be set aside -------------------------------------------------------------- */

/* A link lives on it, so that its newest refresh token has to be there. */
static bool is_held(const struct jd_grant *grant)
{
	return grant->link != NULL && grant->link->state != ACCTLINK_STATE_UNLINKING
		&& grant->link->state != ACCTLINK_STATE_SUPERSEDED;
}

static bool has_newer_consent(const struct jd_grant *grant)
{
	return grant->group->grants != grant;
}

/* As somebody else at the bank: then the new grant is of another group. */
static bool has_moved_on(const struct judge *judge, const struct jd_request *request)
{
	size_t i;

	for (i = 0; i < judge->link_count; i++) {
		const struct jd_link *link = &judge->links[i];

		if (link->epoch > 1 && link->grant != NULL && link->grant->group != request->grant->group
			&& same(link->grant->connector, request->grant->connector) && link->grant->opened != NULL
			&& link->grant->opened->n > request->n)
			return true;
	}
	return false;
}

/* Another answer to the same token can have come: one of the two is a sibling. */
static bool has_sibling(const struct jd_request *request)
{
	const struct jd_request *other;

	for (other = request->token->first; other != NULL; other = other->next_of_token) {
		if (other != request && jd_may_have_arrived(other) && rotates(other))
			return true;
	}
	return false;
}

static bool ended_by(const struct jd_grant *grant, const char *why)
{
	return !grant->alive && same(grant->ended_why, why);
}

/* A link of the user there was ended; its tokens are revoked, where the provider does that. */
static bool was_unlinked(const struct jd_group *group)
{
	const struct jd_link *link = group->links;

	while (link != NULL && link->state != ACCTLINK_STATE_UNLINKING && link->state != ACCTLINK_STATE_SUPERSEDED)
		link = link->next_in_group;
	return link != NULL;
}

/* Answers that need not have become a generation, though they came whole. Of
 * grants that no link lives on the rule "kept" takes care. */
static bool may_be_set_aside(const struct jd_request *request)
{
	const struct jd_link *link = request->grant->link;

	if (request->scripted || has_sibling(request) || !is_held(request->grant))
		return true;
	return request->sub != NULL && link->subject[0] != '\0' && strcmp(request->sub, link->subject) != 0;
}

/* ---- 2: counted --------------------------------------------------------------------------- */

struct tally {
	long long accepted; /* tokens changed, or a set was told */
	long long lost;     /* no answer can have reached the machine */
	long long unsure;
	long long aside; /* arrived, need not have been kept */
	long long exchanges;
};

static void count_request(struct judge *judge, const struct jd_request *request, struct tally *tally)
{
	const bool told = request->class == JD_ANSWER;

	if (!told && !request->spent)
		return;
	tally->accepted++;
	if (!request->refresh)
		tally->exchanges++;
	if (!jd_may_have_arrived(request)) {
		tally->lost++;
		judge->counts.lost++;
		jd_note("lost: the %s of request %lld, grant %lld (%s): %s, HTTP %d",
			request->refresh ? "spend" : "consent", request->n, request->grant->n, request->grant->sub,
			request->cause != NULL ? request->cause : "no token set in the answer", request->status);
	} else if (request->delivered == JD_MAYBE) {
		tally->unsure++;
		judge->counts.unsure++;
	} else if (may_be_set_aside(request)) {
		tally->aside++;
	}
}

static void check_group(struct judge *judge, const struct jd_group *group)
{
	const struct jd_grant *grant;
	const struct jd_request *request;
	const struct jd_link *link;
	struct tally tally = { 0, 0, 0, 0, 0 };
	bool whole = group->links != NULL;
	long long kept = 0;
	long long epochs = 0;

	for (grant = group->grants; grant != NULL; grant = grant->next_in_group) {
		for (request = grant->first; request != NULL; request = request->next_of_grant)
			count_request(judge, request, &tally);
	}
	for (link = group->links; link != NULL; link = link->next_in_group) {
		kept += link->generation;
		epochs += link->epoch;
		whole = whole && link->grant != NULL && link->grant->opened != NULL;
	}
	if (!whole || epochs > tally.exchanges)
		return; /* nothing to compare with, or part of it lies before the ledger's reset */
	if (judge->list)
		jd_note("counted: %s at %s: %lld accepted, %lld generations kept, %lld lost, %lld unsure, %lld set aside",
			group->sub, group->connector, tally.accepted, kept, tally.lost, tally.unsure, tally.aside);
	if (kept > tally.accepted - tally.lost || kept < tally.accepted - tally.lost - tally.unsure - tally.aside)
		jd_violation(judge, "counted",
			"%s at \"%s\": %lld accepted requests, of which %lld never reached the machine, %lld may not have "
			"and %lld need not be kept; but %lld generations were kept",
			group->sub, group->connector, tally.accepted, tally.lost, tally.unsure, tally.aside, kept);
}

static void check_counted(struct judge *judge)
{
	const struct jd_group *group;

	for (group = judge->groups; group != NULL; group = group->next)
		check_group(judge, group);
}

/* ---- 3: current ------------------------------------------------------------------------------ */

static bool is_usable(const struct jd_link *link)
{
	return link->state == ACCTLINK_STATE_LINKED || link->state == ACCTLINK_STATE_STALE;
}

/* A request with the link's own token whose answer may not have come. */
static const struct jd_request *lost_spend(const struct jd_token *token)
{
	const struct jd_request *request;

	for (request = token->first; request != NULL; request = request->next_of_token) {
		if (request->spent && (!jd_may_have_arrived(request) || request->delivered == JD_MAYBE))
			return request;
	}
	return NULL;
}

static const struct jd_request *refusal_of(const struct jd_token *token)
{
	const struct jd_request *request;
	const struct jd_request *found = NULL;

	for (request = token->first; request != NULL; request = request->next_of_token) {
		if (request->class == JD_REFUSED && request->delivered != JD_NO)
			found = request;
	}
	return found;
}

static void check_held_token(struct judge *judge, const struct jd_link *link, const struct jd_token *token)
{
	const struct jd_request *lost = lost_spend(token);
	const struct jd_request *refusal = refusal_of(token);
	const bool before_ledger = token->spent_by >= 0 && token->spent_by < judge->first;

	if (refusal != NULL && refusal->delivered == JD_YES && refusals_before(judge, refusal) + 1 <= FUSE_REFUSALS)
		jd_violation(judge, "current",
			"link %s (%s) is usable, though its token %s was refused for good (request %lld)", link->id,
			link->user, shown(token->hash), refusal->n);
	if (token->grant == NULL || same(token->grant->current, token->hash))
		return;
	if (lost == NULL && !before_ledger)
		jd_violation(judge, "current",
			"link %s (%s) holds token %s of grant %lld, whose current one is %s, and no answer was lost",
			link->id, link->user, shown(token->hash), token->grant->n, shown(token->grant->current));
	else if (link->unknown_sent_at == 0 && (lost == NULL || may_be_unknown(lost)))
		jd_violation(judge, "current",
			"link %s (%s) holds token %s, whose spend was lost, and does not know that a refresh of it has an "
			"unknown outcome",
			link->id, link->user, shown(token->hash));
}

static void check_current(struct judge *judge)
{
	size_t i;

	for (i = 0; i < judge->link_count; i++) {
		const struct jd_link *link = &judge->links[i];
		const struct jd_token *token = jd_token(judge, link->refresh_token);

		if (!is_usable(link) || link->refresh_token[0] == '\0')
			continue;
		if (token != NULL)
			check_held_token(judge, link, token);
		else if (jd_index_get(&judge->carried, link->refresh_token) == NULL && judge->first == 0)
			jd_violation(judge, "current",
				"link %s (%s) holds refresh token %s, which the provider never gave out", link->id,
				link->user, shown(link->refresh_token));
	}
}

/* ---- 4: kept ----------------------------------------------------------------------------------- */

/* It is in a store, or was used, or something newer has taken its place. */
static bool is_accounted_for(const struct judge *judge, const struct jd_request *request)
{
	const struct jd_grant *grant = request->grant;

	if (jd_index_get(&judge->kept, request->refresh_token) != NULL
		|| jd_index_get(&judge->presented, request->refresh_token) != NULL)
		return true;
	if (grant == NULL || has_sibling(request))
		return true;
	if (is_held(grant))
		return false;
	if (has_newer_consent(grant) || was_unlinked(grant->group) || has_moved_on(judge, request))
		return true;
	/* Ended by anybody but ourselves, sending an old token since the new one was lost. */
	return !grant->alive && !ended_by(grant, "reuse");
}

static void check_kept(struct judge *judge)
{
	long long died = 0;
	size_t i;

	for (i = 0; i < judge->request_count; i++) {
		const struct jd_request *request = &judge->requests[i];

		if (!jd_may_have_arrived(request) || !rotates(request) || is_accounted_for(judge, request))
			continue;
		if (request->delivered == JD_YES) {
			jd_violation(judge, "kept",
				"refresh token %s, which request %lld was answered with (grant %lld), is in no store and was never "
				"used",
				shown(request->refresh_token), request->n, request->grant->n);
			continue;
		}
		jd_note("lost: the answer of request %lld, grant %lld (%s): %s", request->n, request->grant->n,
			request->grant->sub, request->cause);
		judge->counts.lost++;
		died += judge->killed && request->class == JD_ANSWER;
	}
	if (judge->kills >= 0 && died > judge->kills)
		jd_violation(judge, "kept", "%lld answers were lost by %lld kills", died, judge->kills);
}

/* ---- 5: ends ------------------------------------------------------------------------------------- */

static bool any_of_link(const struct jd_link *link, bool (*fits)(const struct jd_link *, const struct jd_request *))
{
	const struct jd_request *request = link->grant != NULL ? link->grant->first : NULL;

	for (; request != NULL; request = request->next_of_grant) {
		if (fits(link, request))
			return true;
	}
	return false;
}

static bool told_other_subject(const struct jd_link *link, const struct jd_request *request)
{
	const bool other = request->sub != NULL && strcmp(request->sub, link->subject) != 0;

	return jd_may_have_arrived(request) && (other || request->scripted);
}

static bool told_no_id_token(const struct jd_link *link, const struct jd_request *request)
{
	(void)link;
	return jd_may_have_arrived(request) && request->id_token == NULL;
}

static bool told_no_refresh_token(const struct jd_link *link, const struct jd_request *request)
{
	(void)link;
	return jd_may_have_arrived(request) && request->refresh_token == NULL;
}

static bool told_id_token(const struct jd_link *link, const struct jd_request *request)
{
	(void)link;
	return jd_may_have_arrived(request) && request->id_token != NULL;
}

static bool was_unknown_before(const struct jd_token *token, const struct jd_request *refusal)
{
	const struct jd_request *request;

	for (request = token->first; request != refusal; request = request->next_of_token) {
		if (may_be_unknown(request))
			return true;
	}
	return false;
}

/* The provider had a reason of its own to refuse it. */
static bool was_dead(const struct jd_token *token, const struct jd_request *refusal)
{
	return refusal->scripted || token->grant == NULL || !token->grant->alive
		|| !same(token->grant->current, token->hash)
		|| (token->ends_at > 0 && token->ends_at <= refusal->at + SLACK_MS);
}

static bool refusal_confirmed(const struct judge *judge, const struct jd_link *link)
{
	const struct jd_token *token = jd_token(judge, link->refresh_token);
	const struct jd_request *refusal = token != NULL ? refusal_of(token) : NULL;

	if (refusal == NULL || !was_dead(token, refusal))
		return false;
	if (link->reason == ACCTLINK_REASON_ROTATION_LOST)
		return was_unknown_before(token, refusal);
	if (link->reason == ACCTLINK_REASON_CONSENT_EXPIRED)
		return link->consent_end > 0 && link->consent_end <= refusal->at + SLACK_MS;
	return judge->killed || !was_unknown_before(token, refusal);
}

static bool relink_confirmed(const struct judge *judge, const struct jd_link *link)
{
	switch (link->reason) {
	case ACCTLINK_REASON_REVOKED:
	case ACCTLINK_REASON_ROTATION_LOST:
	case ACCTLINK_REASON_CONSENT_EXPIRED: return refusal_confirmed(judge, link);
	case ACCTLINK_REASON_SUBJECT_CHANGED: return any_of_link(link, told_other_subject);
	case ACCTLINK_REASON_NO_ID_TOKEN: return any_of_link(link, told_no_id_token);
	case ACCTLINK_REASON_NO_REFRESH_TOKEN:
		return link->refresh_token[0] == '\0' && any_of_link(link, told_no_refresh_token);
	case ACCTLINK_REASON_ID_TOKEN_UNCHECKED: return any_of_link(link, told_id_token);
	default: return false;
	}
}

static const char *reason_name(int64_t reason)
{
	static const char *const names[] = { "none", "revoked", "consent expired", "rotation lost", "subject changed",
		"no id_token", "no refresh token", "outcome unknown", "provider down", "client refused",
		"id_token unchecked", "our fault" };

	return reason >= 0 && (size_t)reason < sizeof(names) / sizeof(names[0]) ? names[reason] : "?";
}

/* Something took its grant over. */
static bool superseded_confirmed(const struct jd_link *link)
{
	return link->grant == NULL || has_newer_consent(link->grant) || !link->grant->alive
		|| link->grant->group->links != link || link->next_in_group != NULL;
}

static bool end_confirmed(const struct judge *judge, const struct jd_link *link)
{
	if (link->state == ACCTLINK_STATE_SUPERSEDED)
		return superseded_confirmed(link);
	return link->state == ACCTLINK_STATE_RELINK_REQUIRED && relink_confirmed(judge, link);
}

static void check_ends(struct judge *judge)
{
	size_t i;

	for (i = 0; i < judge->link_count; i++) {
		const struct jd_link *link = &judge->links[i];

		if (is_usable(link) || link->state == ACCTLINK_STATE_UNLINKING)
			continue;
		if (link->grant != NULL && link->grant->opened == NULL && judge->first > 0)
			continue; /* its story began before the ledger's reset */
		if (!end_confirmed(judge, link))
			jd_violation(judge, "ends",
				"link %s (%s) is in state %d for the reason \"%s\", which the ledger does not confirm",
				link->id, link->user, (int)link->state, reason_name(link->reason));
	}
}

/* ---- 6: owner -------------------------------------------------------------------------------------- */

static void check_bearer_owner(struct judge *judge, const struct jd_link *link, const char *bearer)
{
	const struct jd_token *token = jd_token(judge, bearer);

	if (token == NULL || token->grant == NULL || link->grant == NULL || token->grant->group == link->grant->group)
		return;
	jd_violation(judge, "owner", "link %s (%s, %s) holds a bearer of grant %lld, which is %s's at \"%s\"", link->id,
		link->user, link->subject, token->grant->n, token->grant->sub, token->grant->connector);
}

/* What the provider calls the user: by id_token if a test gave it claims of its own. */
static const char *subject_of(const struct judge *judge, const struct jd_link *link)
{
	const struct jd_request *told = jd_index_get(&judge->carried, link->refresh_token);

	return told != NULL && told->sub != NULL ? told->sub : link->grant->sub;
}

static void check_owner(struct judge *judge)
{
	size_t i;

	for (i = 0; i < judge->link_count; i++) {
		struct jd_link *link = &judge->links[i];
		const struct jd_link *holder = jd_index_get(&judge->kept, link->refresh_token);

		if (link->grant == NULL || link->state == ACCTLINK_STATE_UNLINKING
			|| link->reason
				== ACCTLINK_REASON_SUBJECT_CHANGED) /* another's set is kept to be revoked, never used */
			continue;
		/* Of a set that waits for its check nothing is handed out. */
		if (link->bearer_check == AL_BEARER_GOOD && link->subject[0] != '\0'
			&& strcmp(link->subject, subject_of(judge, link)) != 0
			&& strcmp(link->subject, link->grant->sub) != 0)
			jd_violation(judge, "owner", "link %s (%s) is of subject %s, but its token is %s's", link->id,
				link->user, link->subject, link->grant->sub);
		if (link->grant->connector[0] != '\0' && strcmp(link->institution, link->grant->connector) != 0)
			jd_violation(judge, "owner", "link %s (%s) is at \"%s\", but its token is of \"%s\"", link->id,
				link->user, link->institution, link->grant->connector);
		if (holder != NULL && holder != link)
			jd_violation(judge, "owner", "links %s (%s) and %s (%s) hold the same refresh token", link->id,
				link->user, holder->id, holder->user);
		check_bearer_owner(judge, link, link->bearer);
		check_bearer_owner(judge, link, link->old_bearer);
	}
}

/* ---- all --------------------------------------------------------------------------------------------- */

static const struct rule {
	void (*check)(struct judge *judge);
	bool of_stores;
} rules[] = {
	{ check_once, false },    /* a code or refresh token arrives once, and again only if that was needed */
	{ check_counted, false }, /* accepted requests = generations kept + answers that never came; lists these */
	{ check_current, true },  /* a usable link holds the current refresh token, or the parent of a lost one */
	{ check_kept, true },     /* nothing that arrived is lost */
	{ check_ends, true },     /* every link is usable, or must be renewed for a reason that the ledger confirms */
	{ check_owner, true }     /* no link holds another user's tokens */
};

void jd_apply_rules(struct judge *judge)
{
	size_t i;

	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (judge->has_stores || !rules[i].of_stores)
			rules[i].check(judge);
	}
}
