/* SPDX-License-Identifier: MIT
 * The link room's parts that need neither store nor network: the sealed set as
 * bytes, what a row allows, back-off, held bearers, the gate before a provider.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/link_int.h"

#define NOW INT64_C(1700000000000)
#define HOUR INT64_C(3600000)

static void set_text(struct al_buf *buf, const char *text)
{
	assert_true(al_buf_set(buf, text, strlen(text)));
}

static void assert_text(const struct al_buf *buf, const char *text)
{
	assert_int_equal(buf->len, strlen(text));
	assert_string_equal(al_buf_text(buf), text);
}

/* ---- the sealed set as bytes ---------------------------------------------------- */

static void add_revoke(struct al_kept *kept, const char *text, bool is_access, bool front)
{
	struct al_buf token;

	al_buf_init(&token, AL_TOKEN_MAX);
	set_text(&token, text);
	al_kept_add_revoke(kept, &token, is_access, front);
	assert_int_equal(token.len, 0); /* moved away: one secret, one place */
	al_buf_clear(&token);
}

static void fill_kept(struct al_kept *kept)
{
	al_kept_init(kept);
	set_text(&kept->access_token, "access");
	set_text(&kept->id_token, "id.token.sig");
	assert_true(al_buf_put(&kept->refresh_token, "re\0fresh", 8));
	kept->newest_end = NOW + 1;
	kept->made_by_attempt = 7;
	kept->parent_generation = 4;
	set_text(&kept->old_bearer, "old");
	kept->old_generation = 3;
	set_text(&kept->nonce, "nonce");
	kept->auth_time = 1699999999;
	kept->last_lifetime = HOUR;
	kept->sibling.present = true;
	kept->sibling.attempt = 6;
	set_text(&kept->sibling.refresh_token, "sibling");
	add_revoke(kept, "r1", false, false);
	add_revoke(kept, "r2", true, false);
}

static void pack(const struct al_kept *kept, struct al_buf *plain)
{
	al_buf_init(plain, AL_SEALED_MAX);
	assert_true(al_kept_pack(kept, plain));
}

static al_rc unpack_bytes(struct al_kept *kept, const char *bytes, size_t len, acctlink_error *err)
{
	struct al_buf plain;
	al_rc rc;

	al_buf_init(&plain, AL_SEALED_MAX);
	assert_true(al_buf_put(&plain, bytes, len));
	rc = al_kept_unpack(kept, &plain, err);
	al_buf_clear(&plain);
	return rc;
}

static void what_is_packed_comes_back_whole(void **state)
{
	struct al_kept kept;
	struct al_kept back;
	struct al_buf plain;

	(void)state;
	fill_kept(&kept);
	pack(&kept, &plain);
	fill_kept(&back); /* former contents must not shine through */
	add_revoke(&back, "r3", true, false);
	assert_int_equal(al_kept_unpack(&back, &plain, NULL), ACCTLINK_OK);
	assert_text(&back.access_token, "access");
	assert_text(&back.id_token, "id.token.sig");
	assert_int_equal(back.refresh_token.len, 8);
	assert_memory_equal(back.refresh_token.data, "re\0fresh", 8);
	assert_true(back.newest_end == NOW + 1);
	assert_int_equal(back.made_by_attempt, 7);
	assert_int_equal(back.parent_generation, 4);
	assert_text(&back.old_bearer, "old");
	assert_int_equal(back.old_generation, 3);
	assert_text(&back.nonce, "nonce");
	assert_int_equal(back.auth_time, 1699999999);
	assert_int_equal(back.last_lifetime, HOUR);
	assert_true(back.sibling.present);
	assert_int_equal(back.sibling.attempt, 6);
	assert_text(&back.sibling.refresh_token, "sibling");
	assert_int_equal(back.revoke_count, 2);
	assert_text(&back.revoke[0].token, "r1");
	assert_false(back.revoke[0].is_access);
	assert_text(&back.revoke[1].token, "r2");
	assert_true(back.revoke[1].is_access);
	al_kept_clear(&kept);
	al_kept_clear(&back);
	al_buf_clear(&plain);
}

static void an_empty_set_comes_back_empty(void **state)
{
	struct al_kept kept;
	struct al_kept back;
	struct al_buf plain;

	(void)state;
	al_kept_init(&kept);
	pack(&kept, &plain);
	fill_kept(&back);
	assert_int_equal(al_kept_unpack(&back, &plain, NULL), ACCTLINK_OK);
	assert_int_equal(back.access_token.len + back.id_token.len + back.refresh_token.len + back.old_bearer.len
			+ back.nonce.len + back.sibling.refresh_token.len + back.revoke_count,
		0);
	assert_false(back.sibling.present);
	assert_true(back.newest_end == 0 && back.old_generation == 0);
	al_kept_clear(&back);
	al_buf_clear(&plain);
}

static void a_cut_or_lengthened_set_is_damage_and_never_half_a_set(void **state)
{
	struct al_kept kept;
	struct al_buf plain;
	acctlink_error err;

	(void)state;
	fill_kept(&kept);
	pack(&kept, &plain);
	for (size_t len = 0; len < plain.len; len++) {
		al_error_clear(&err);
		assert_int_equal(unpack_bytes(&kept, plain.data, len, &err), ACCTLINK_BAD_STORE);
		assert_int_equal(err.status, ACCTLINK_BAD_STORE);
	}
	assert_true(al_buf_put(&plain, "\0", 1));
	assert_int_equal(al_kept_unpack(&kept, &plain, &err), ACCTLINK_BAD_STORE);
	al_kept_clear(&kept);
	al_buf_clear(&plain);
}

/* Sealing finds every change; this is the second wall: no crash, no field that
 * is longer than what is there, and what is taken packs to the same length. */
static void damage_at_any_byte_leads_nowhere(void **state)
{
	static const unsigned char masks[] = { 0x01, 0x80, 0xff, 0x10 };
	struct al_kept kept;
	struct al_buf plain;
	struct al_buf again;
	unsigned taken = 0;
	unsigned refused = 0;

	(void)state;
	fill_kept(&kept);
	pack(&kept, &plain);
	al_buf_init(&again, AL_SEALED_MAX);
	for (size_t i = 0; i < plain.len * AL_COUNT(masks); i++) {
		size_t at = i / AL_COUNT(masks);
		char whole = plain.data[at];
		al_rc rc;

		plain.data[at] = (char)(whole ^ (char)masks[i % AL_COUNT(masks)]);
		rc = al_kept_unpack(&kept, &plain, NULL);
		plain.data[at] = whole;
		assert_true(rc == ACCTLINK_OK || rc == ACCTLINK_BAD_STORE);
		taken += rc == ACCTLINK_OK ? 1 : 0;
		refused += rc == ACCTLINK_BAD_STORE ? 1 : 0;
		if (at < 8)
			assert_int_equal(rc, ACCTLINK_BAD_STORE); /* another version */
		if (rc != ACCTLINK_OK)
			continue;
		assert_true(al_kept_pack(&kept, &again));
		assert_int_equal(again.len, plain.len);
		assert_true(kept.revoke_count <= AL_REVOKE_MAX);
	}
	assert_true(taken > 0 && refused > 0);
	al_kept_clear(&kept);
	al_buf_clear(&plain);
	al_buf_clear(&again);
}

static void more_revocations_than_there_is_room_for_are_damage(void **state)
{
	struct al_kept kept;
	struct al_buf plain;

	(void)state;
	al_kept_init(&kept);
	pack(&kept, &plain);
	plain.data[plain.len - 1] = AL_REVOKE_MAX + 1; /* the count comes last */
	for (size_t i = 0; i <= AL_REVOKE_MAX; i++)
		assert_true(al_pack_u64(&plain, 0) && al_pack(&plain, "t", 1));
	assert_int_equal(al_kept_unpack(&kept, &plain, NULL), ACCTLINK_BAD_STORE);
	assert_int_equal(kept.revoke_count, 0);
	al_kept_clear(&kept);
	al_buf_clear(&plain);
}

static void a_token_of_the_largest_size_fits_and_a_longer_one_is_damage(void **state)
{
	struct al_kept kept;
	struct al_kept back;
	struct al_buf plain;
	char *token = malloc(AL_TOKEN_MAX + 1);

	(void)state;
	assert_non_null(token);
	memset(token, 't', AL_TOKEN_MAX + 1);
	al_kept_init(&kept);
	al_kept_init(&back);
	assert_true(al_buf_put(&kept.refresh_token, token, AL_TOKEN_MAX));
	pack(&kept, &plain);
	assert_int_equal(al_kept_unpack(&back, &plain, NULL), ACCTLINK_OK);
	assert_true(al_buf_equal(&back.refresh_token, &kept.refresh_token));
	al_buf_clear(&plain);
	assert_true(al_pack_u64(&plain, 1) && al_pack(&plain, token, AL_TOKEN_MAX + 1));
	assert_int_equal(al_kept_unpack(&back, &plain, NULL), ACCTLINK_BAD_STORE);
	al_kept_clear(&kept);
	al_kept_clear(&back);
	al_buf_clear(&plain);
	free(token);
}

static void assert_revokes(const struct al_kept *kept, const char *shown)
{
	char text[256] = "";

	for (size_t i = 0; i < kept->revoke_count; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s%s", i > 0 ? " " : "",
			kept->revoke[i].is_access ? "@" : "", al_buf_text(&kept->revoke[i].token));
	assert_string_equal(text, shown);
}

static void tokens_to_revoke_stand_in_the_order_that_was_asked_for(void **state)
{
	struct al_kept kept;

	(void)state;
	al_kept_init(&kept);
	add_revoke(&kept, "a", true, true);
	add_revoke(&kept, "r", false, true);
	assert_revokes(&kept, "r @a");
	add_revoke(&kept, "z", true, false);
	add_revoke(&kept, "n", false, true);
	assert_revokes(&kept, "n r @a @z");
	add_revoke(&kept, "", false, true); /* there was none */
	assert_revokes(&kept, "n r @a @z");
	al_kept_drop_revoke(&kept, 1);
	assert_revokes(&kept, "n @a @z");
	al_kept_drop_revoke(&kept, 2);
	al_kept_drop_revoke(&kept, 0);
	assert_revokes(&kept, "@a");
	al_kept_drop_revoke(&kept, 0);
	assert_revokes(&kept, "");
	al_kept_clear(&kept);
}

static void a_full_list_loses_its_oldest_and_takes_the_new(void **state)
{
	struct al_kept kept;
	char name[16];

	(void)state;
	al_kept_init(&kept);
	for (int i = 0; i < AL_REVOKE_MAX + 2; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		add_revoke(&kept, name, false, true);
	}
	assert_revokes(&kept, "17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2");
	add_revoke(&kept, "x", true, false);
	assert_revokes(&kept, "17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 @x");
	al_kept_clear(&kept);
}

static void the_bearer_is_the_token_that_the_config_names(void **state)
{
	struct al_kept kept;

	(void)state;
	fill_kept(&kept);
	assert_text(al_kept_newest_bearer(&kept, AL_BEARER_ID_TOKEN), "id.token.sig");
	assert_text(al_kept_newest_bearer(&kept, AL_BEARER_ACCESS_TOKEN), "access");
	al_buf_clear(&kept.id_token);
	assert_text(al_kept_newest_bearer(&kept, AL_BEARER_ID_TOKEN), ""); /* never the other one */
	al_kept_clear(&kept);
}

static void owner_keys_of_different_owners_differ(void **state)
{
	static const char *const owners[][3] = {
		{ "ana", "akoya", "mikomo" },
		{ "ana", "akoya", "" },
		{ "ana", "akoyam", "ikomo" },
		{ "anaa", "koya", "mikomo" },
		{ "Ana", "akoya", "mikomo" },
		{ "a\xcc\x81na", "akoya", "" },
		{ "\xc3\xa1na", "akoya", "" },
		{ "ana", "", "akoya" },
		{ "", "ana", "akoya" },
		{ "' OR 1=1 --", "akoya", "" },
		{ "%00", "akoya", "" },
	};
	struct al_buf keys[AL_COUNT(owners)];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(owners); i++) {
		assert_true(al_owner_key(&keys[i], al_str(owners[i][0]), al_str(owners[i][1]), al_str(owners[i][2])));
		for (size_t j = 0; j < i; j++)
			assert_false(al_buf_equal(&keys[i], &keys[j]));
	}
	for (size_t i = 0; i < AL_COUNT(owners); i++)
		al_buf_clear(&keys[i]);
}

/* ---- what a row allows --------------------------------------------------------------- */

static const struct word {
	const char *name;
	int64_t value;
} words[] = { { "linked", ACCTLINK_STATE_LINKED }, { "stale", ACCTLINK_STATE_STALE },
	{ "relink", ACCTLINK_STATE_RELINK_REQUIRED }, { "superseded", ACCTLINK_STATE_SUPERSEDED },
	{ "unlinking", ACCTLINK_STATE_UNLINKING }, { "revoked", ACCTLINK_REASON_REVOKED },
	{ "rotation", ACCTLINK_REASON_ROTATION_LOST }, { "expired", ACCTLINK_REASON_CONSENT_EXPIRED },
	{ "subject", ACCTLINK_REASON_SUBJECT_CHANGED }, { "no_id_token", ACCTLINK_REASON_NO_ID_TOKEN },
	{ "no_refresh", ACCTLINK_REASON_NO_REFRESH_TOKEN }, { "client", ACCTLINK_REASON_CLIENT_REFUSED },
	{ "down", ACCTLINK_REASON_PROVIDER_DOWN }, { "unchecked", AL_BEARER_UNCHECKED }, { "bad", AL_BEARER_BAD },
	{ "missing", AL_BEARER_MISSING }, { NULL, 0 } };

/* One question: a row of a link made 10 minutes ago with a bearer of an hour,
 * then changed by words like "left=0 claim=alive"; times are relative to now. */
struct question {
	struct al_record record;
	struct al_provider_config config;
	unsigned char client[32];
	struct al_decide_in in;
};

static void question_init(struct question *q)
{
	struct al_link_row *row = &q->record.row;

	memset(&q->config, 0, sizeof(q->config));
	q->config.where = (char *)"acctlink.conf:7";
	q->config.bearer_margin_ms = 30000;
	q->config.resend_margin_ms = 60000;
	q->config.min_refresh_interval_ms = 10000;
	q->config.backoff_cap_ms = 300000;
	memset(q->client, 'c', sizeof(q->client));
	al_record_init(&q->record);
	row->state = ACCTLINK_STATE_LINKED;
	row->generation = 5;
	row->epoch = 1;
	row->bearer_check = AL_BEARER_GOOD;
	row->bearer_from = NOW - 600000;
	row->bearer_end = NOW + 3000000;
	assert_true(al_buf_put(&row->client, q->client, sizeof(q->client)));
	set_text(&q->record.kept.refresh_token, "rt");
	q->record.kept.newest_end = row->bearer_end;
	q->in = (struct al_decide_in){
		.record = &q->record, .config = &q->config, .client = q->client, .now_wall = NOW
	};
}

static int64_t value_of(const char *text)
{
	for (const struct word *word = words; word->name != NULL; word++)
		if (strcmp(word->name, text) == 0)
			return word->value;
	return strtoll(text, NULL, 10);
}

static void set_claim(struct question *q, const char *text)
{
	q->record.row.claim_outcome = AL_CLAIM_OPEN;
	q->in.claim_alive = strcmp(text, "alive") == 0;
}

static void change(struct question *q, const char *name, const char *text)
{
	struct al_link_row *row = &q->record.row;
	struct al_kept *kept = &q->record.kept;
	int64_t value = value_of(text);
	const struct {
		const char *name;
		int64_t *field;
		int64_t base;
	} fields[] = { { "state", &row->state, 0 }, { "reason", &row->reason, 0 }, { "check", &row->bearer_check, 0 },
		{ "from", &row->bearer_from, NOW }, { "left", &row->bearer_end, NOW },
		{ "newest", &kept->newest_end, NOW }, { "old", &kept->old_generation, 0 },
		{ "wait", &row->not_before, NOW }, { "sent", &row->claim_sent_at, NOW },
		{ "unknown", &row->unknown_sent_at, NOW }, { "rejected", &row->rejected_generation, 0 },
		{ "withheld", &q->in.withheld, 0 }, { "ttl", &q->in.min_ttl_ms, 0 },
		{ "window", &q->config.reuse_window_ms, 0 }, { "margin", &q->config.bearer_margin_ms, 0 },
		{ "http", &row->last_http_status, 0 }, { "parent", &kept->parent_generation, 0 } };

	if (strcmp(name, "claim") == 0) {
		set_claim(q, text);
	} else if (strcmp(name, "no") == 0 && strcmp(text, "config") == 0) {
		q->in.config = NULL;
	} else if (strcmp(name, "no") == 0 && strcmp(text, "refresh_token") == 0) {
		al_buf_clear(&kept->refresh_token);
	} else if (strcmp(name, "no") == 0 && strcmp(text, "client") == 0) {
		al_buf_clear(&row->client);
	} else if (strcmp(name, "other") == 0) {
		q->client[31] ^= 1;
	} else if (strcmp(name, "error") == 0) {
		set_text(&row->last_error, text);
	} else {
		size_t i = 0;

		while (i < AL_COUNT(fields) && strcmp(fields[i].name, name) != 0)
			i++;
		assert_true(i < AL_COUNT(fields));
		*fields[i].field = fields[i].base + value;
	}
}

static void change_all(struct question *q, const char *changes)
{
	while (*changes != '\0') {
		char name[32];
		char text[32];
		int used = 0;

		assert_int_equal(sscanf(changes, " %31[a-z_]=%31[a-z0-9_-]%n", name, text, &used), 2);
		change(q, name, text);
		changes += used + (int)strspn(changes + used, " ");
	}
}

struct answer {
	const char *changes;
	enum al_action action;
	al_rc rc;         /* of FAIL */
	int64_t retry_ms; /* of FAIL */
};

static void ask(const struct answer *expected)
{
	struct question q;
	acctlink_error err = { 0 };
	enum al_action action;

	question_init(&q);
	change_all(&q, expected->changes);
	action = al_decide(&q.in, &err);
	if (action != expected->action
		|| (action == AL_DO_FAIL && (err.status != expected->rc || err.retry_after_ms != expected->retry_ms)))
		fail_msg("\"%s\": action %d status %d retry %" PRId64 ", not %d %d %" PRId64, expected->changes,
			(int)action, (int)err.status, err.retry_after_ms, (int)expected->action, (int)expected->rc,
			expected->retry_ms);
	if (action == AL_DO_FAIL)
		assert_string_not_equal(err.message, "");
	(void)al_decide(&q.in, NULL); /* the error may be NULL */
	al_record_clear(&q.record);
}

static void ask_all(const struct answer *answers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ask(&answers[i]);
}

static void a_good_bearer_is_served_until_little_is_left(void **state)
{
	static const struct answer answers[] = {
		{ "", AL_DO_SERVE, 0, 0 },
		{ "left=30001", AL_DO_SERVE, 0, 0 },
		{ "left=30000", AL_DO_REFRESH, 0, 0 },
		{ "left=1", AL_DO_REFRESH, 0, 0 },
		{ "left=0", AL_DO_REFRESH, 0, 0 },
		{ "left=-1", AL_DO_REFRESH, 0, 0 },
		{ "left=-999999999", AL_DO_REFRESH, 0, 0 },
		{ "left=1 margin=0", AL_DO_SERVE, 0, 0 },
		/* a short life: a fifth of it at most is the margin */
		{ "from=-48000 left=12001", AL_DO_SERVE, 0, 0 },
		{ "from=-48000 left=12000", AL_DO_REFRESH, 0, 0 },
		/* the state says how it is, not what may be served */
		{ "state=stale reason=down", AL_DO_SERVE, 0, 0 },
		{ "state=stale reason=client", AL_DO_SERVE, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_caller_may_ask_for_more_but_not_for_more_than_half_a_life(void **state)
{
	static const struct answer answers[] = {
		{ "ttl=2999999", AL_DO_SERVE, 0, 0 },
		{ "left=1200000 ttl=1000000", AL_DO_SERVE, 0, 0 }, /* 20 minutes of 30: 15 may be asked for */
		{ "from=-1800000 left=1800001 ttl=3600000", AL_DO_SERVE, 0, 0 },
		{ "from=-1800000 left=1800000 ttl=3600000", AL_DO_REFRESH, 0, 0 },
		{ "from=-1800000 left=1800000 ttl=1799999", AL_DO_SERVE, 0, 0 },
		{ "left=30000 ttl=1", AL_DO_REFRESH, 0, 0 }, /* never less than the margin */
		{ "left=600000 ttl=599999", AL_DO_SERVE, 0, 0 },
		{ "left=600000 ttl=600000", AL_DO_REFRESH, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void an_open_claim_is_waited_for_only_without_a_good_bearer(void **state)
{
	static const struct answer answers[] = {
		{ "claim=alive sent=-1000", AL_DO_SERVE, 0, 0 },
		{ "claim=alive sent=-1000 left=1000", AL_DO_SERVE, 0, 0 },
		{ "claim=alive sent=-1000 left=0", AL_DO_WAIT, 0, 0 },
		{ "claim=alive sent=-1000 rejected=5", AL_DO_WAIT, 0, 0 },
		{ "claim=alive sent=-1000 left=0 wait=100000", AL_DO_WAIT, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_send_of_unknown_outcome_is_repeated_only_when_needed(void **state)
{
	static const struct answer answers[] = {
		/* wanted by the caller, not needed */
		{ "unknown=-1000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "unknown=-1000 left=60000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "unknown=-1000 left=59999 ttl=600000", AL_DO_REFRESH, 0, 0 },
		{ "unknown=-1000 left=0", AL_DO_REFRESH, 0, 0 },
		{ "unknown=-1000 rejected=5", AL_DO_REFRESH, 0, 0 },
		/* the owner died after the send */
		{ "claim=dead sent=-1000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "claim=dead sent=-1000 left=0", AL_DO_REFRESH, 0, 0 },
		/* it died before: nothing is unknown */
		{ "claim=dead left=600000 ttl=600000 unknown=-1700000000000 sent=-1700000000000", AL_DO_REFRESH, 0, 0 },
		/* an earlier doubt outlives a later claim that sent nothing */
		{ "claim=dead sent=-1700000000000 unknown=-1000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		/* a short bearer's need begins in its last tenth, after its refresh margin */
		{ "unknown=-1000 from=-54000 left=6000", AL_DO_SERVE, 0, 0 },
		{ "unknown=-1000 from=-54001 left=5999", AL_DO_REFRESH, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void within_the_documented_reuse_window_it_is_repeated_at_once(void **state)
{
	static const struct answer answers[] = {
		{ "window=30000 unknown=-29999 left=600000 ttl=600000", AL_DO_REFRESH, 0, 0 },
		{ "window=30000 unknown=-30000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "window=30000 claim=dead sent=-29999 left=600000 ttl=600000", AL_DO_REFRESH, 0, 0 },
		{ "window=30000 unknown=-29999", AL_DO_SERVE, 0, 0 }, /* nobody wants one */
		/* the provider counts from the first send */
		{ "window=30000 unknown=-31000 claim=dead sent=-1000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "window=30000 unknown=1000 left=600000 ttl=600000", AL_DO_SERVE, 0, 0 }, /* set back */
		{ "window=30000 unknown=-29999 left=600000 ttl=600000 wait=1", AL_DO_SERVE, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_rejected_bearer_is_not_served_again(void **state)
{
	static const struct answer answers[] = {
		{ "rejected=5", AL_DO_REFRESH, 0, 0 },
		{ "withheld=5", AL_DO_REFRESH, 0, 0 },
		{ "rejected=4 withheld=4", AL_DO_SERVE, 0, 0 },
		{ "rejected=4 withheld=5", AL_DO_REFRESH, 0, 0 },
		{ "rejected=5 withheld=4", AL_DO_REFRESH, 0, 0 },
		{ "rejected=5 no=refresh_token reason=no_refresh", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		/* the bearer set aside is of generation 4 */
		{ "check=bad old=4 rejected=4", AL_DO_REFRESH, 0, 0 },
		{ "check=bad old=4 rejected=3", AL_DO_SERVE, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_least_interval_and_the_back_off_rule_out_loops(void **state)
{
	static const struct answer answers[] = {
		{ "rejected=5 from=-5000", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 5000 },
		{ "rejected=5 from=-10000", AL_DO_REFRESH, 0, 0 },
		{ "rejected=5 from=-9999", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 1 },
		/* a bearer that lived its short life is no loop, a rejected one may be */
		{ "from=-2000 left=0", AL_DO_REFRESH, 0, 0 },
		{ "from=-2000 left=3000 rejected=5", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 8000 },
		{ "from=-2800 left=700 rejected=4", AL_DO_REFRESH, 0, 0 },
		{ "from=-1800 left=1700 ttl=1700", AL_DO_SERVE, 0, 0 },
		/* back-off */
		{ "left=0 wait=7000", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 7000 },
		{ "left=0 wait=1", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 1 },
		{ "left=0 wait=0", AL_DO_REFRESH, 0, 0 },
		{ "left=1000 wait=7000", AL_DO_SERVE, 0, 0 },
		{ "left=0 wait=7000 state=stale reason=client", AL_DO_FAIL, ACCTLINK_CLIENT_REFUSED, 7000 },
		{ "left=0 wait=7000 state=stale reason=down error=http_503 http=503", AL_DO_FAIL,
			ACCTLINK_PROVIDER_DOWN, 7000 },
		/* no pause is so long: the wall clock was set back since it was written */
		{ "left=0 wait=300000", AL_DO_FAIL, ACCTLINK_PROVIDER_DOWN, 300000 },
		{ "left=0 wait=300001", AL_DO_REFRESH, 0, 0 },
		{ "rejected=5 from=3600000 left=7200000", AL_DO_REFRESH, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_link_that_needs_a_new_consent_serves_what_is_good_and_sends_nothing(void **state)
{
	static const struct answer answers[] = {
		{ "state=relink reason=revoked", AL_DO_SERVE, 0, 0 },
		{ "state=relink reason=revoked left=1", AL_DO_SERVE, 0, 0 },
		{ "state=relink reason=revoked left=600000 ttl=600000", AL_DO_SERVE, 0, 0 },
		{ "state=relink reason=revoked left=0", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=rotation left=0", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=expired left=0", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=subject left=0", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=revoked rejected=5", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=revoked left=0 no=config", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=relink reason=revoked left=0 check=unchecked old=4", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		/* a later answer may bring the id_token: this one is still tried, at its pace */
		{ "state=relink reason=no_id_token check=missing left=-1700000000000", AL_DO_REFRESH, 0, 0 },
		{ "state=relink reason=no_id_token check=missing left=-1700000000000 wait=5000", AL_DO_FAIL,
			ACCTLINK_RELINK_REQUIRED, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void an_unchecked_id_token_is_checked_before_anything_is_sent(void **state)
{
	static const struct answer answers[] = {
		{ "check=unchecked old=4 left=20000 newest=3000000", AL_DO_CHECK, 0, 0 },
		{ "check=unchecked left=-1700000000000 newest=3000000", AL_DO_CHECK, 0, 0 },
		{ "check=unchecked old=4 newest=3000000", AL_DO_CHECK, 0, 0 },
		/* it has ended by now: a new one is needed, unless it shows whose the consent was */
		{ "check=unchecked old=4 left=20000 newest=0 parent=4", AL_DO_REFRESH, 0, 0 },
		{ "check=unchecked old=4 left=20000 newest=0 parent=0", AL_DO_CHECK, 0, 0 },
		{ "check=bad old=4 left=20000 newest=3000000", AL_DO_REFRESH, 0, 0 },
		{ "check=missing old=4 left=20000", AL_DO_REFRESH, 0, 0 },
		{ "check=unchecked old=4 left=20000 newest=3000000 no=config", AL_DO_SERVE, 0, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void a_refresh_token_goes_to_no_other_client_and_to_no_unknown_provider(void **state)
{
	static const struct answer answers[] = {
		{ "other=client", AL_DO_SERVE, 0, 0 },
		{ "other=client left=1000", AL_DO_SERVE, 0, 0 },
		{ "other=client left=0", AL_DO_FAIL, ACCTLINK_BAD_CONFIG, 0 },
		{ "no=client left=0", AL_DO_FAIL, ACCTLINK_BAD_CONFIG, 0 },
		{ "no=config", AL_DO_SERVE, 0, 0 },
		{ "no=config left=1", AL_DO_SERVE, 0, 0 },
		{ "no=config left=0", AL_DO_FAIL, ACCTLINK_UNKNOWN_PROVIDER, 0 },
		{ "no=config left=0 claim=alive sent=-1", AL_DO_FAIL, ACCTLINK_UNKNOWN_PROVIDER, 0 },
		{ "no=refresh_token", AL_DO_SERVE, 0, 0 },
		{ "no=refresh_token left=1000", AL_DO_SERVE, 0, 0 },
		{ "no=refresh_token left=0 reason=no_refresh", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void ended_and_superseded_links_serve_nothing_at_all(void **state)
{
	static const struct answer answers[] = {
		{ "state=unlinking", AL_DO_FAIL, ACCTLINK_NOT_LINKED, 0 },
		{ "state=unlinking no=config", AL_DO_FAIL, ACCTLINK_NOT_LINKED, 0 },
		{ "state=unlinking claim=alive sent=-1 left=0", AL_DO_FAIL, ACCTLINK_NOT_LINKED, 0 },
		{ "state=superseded", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=superseded left=0", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
		{ "state=superseded no=config", AL_DO_FAIL, ACCTLINK_RELINK_REQUIRED, 0 },
	};

	(void)state;
	ask_all(answers, AL_COUNT(answers));
}

static void the_error_tells_what_failed_last(void **state)
{
	struct question q;
	acctlink_error err = { 0 };

	(void)state;
	question_init(&q);
	change_all(&q, "left=0 wait=7000 state=stale reason=down error=http_503 http=503");
	assert_int_equal(al_decide(&q.in, &err), AL_DO_FAIL);
	assert_int_equal(err.http_status, 503);
	assert_string_equal(err.provider_code, "http_503");
	assert_non_null(strstr(err.message, "http_503"));
	change_all(&q, "other=client wait=0");
	assert_int_equal(al_decide(&q.in, &err), AL_DO_FAIL);
	assert_string_equal(err.where, "acctlink.conf:7");
	change_all(&q, "state=relink reason=no_id_token no=refresh_token");
	assert_int_equal(al_decide(&q.in, &err), AL_DO_FAIL);
	assert_non_null(strstr(err.message, "id_token"));
	al_record_clear(&q.record);
}

/* Over all that a row may hold: what must never come out. */
static void no_row_at_all_leads_to_a_forbidden_action(void **state)
{
	static const char *const states[] = { "state=linked", "state=stale reason=down", "state=relink reason=revoked",
		"state=relink reason=no_id_token", "state=superseded", "state=unlinking" };
	static const char *const checks[] = { "", "check=unchecked old=4", "check=bad old=4", "check=missing old=4" };
	static const char *const lefts[] = { "", "left=1000", "left=0", "left=-5000" };
	static const char *const claims[] = { "", "claim=alive sent=-10", "claim=dead sent=-10", "unknown=-10" };
	static const char *const rejects[] = { "", "rejected=5", "withheld=5", "rejected=4" };
	static const char *const others[] = { "", "no=config", "no=refresh_token", "other=client", "wait=5000",
		"ttl=9999999" };
	const size_t all = AL_COUNT(states) * AL_COUNT(checks) * AL_COUNT(lefts) * AL_COUNT(claims) * AL_COUNT(rejects)
		* AL_COUNT(others);

	(void)state;
	for (size_t i = 0; i < all; i++) {
		const char *parts[] = { states[i % 6], checks[i / 6 % 4], lefts[i / 24 % 4], claims[i / 96 % 4],
			rejects[i / 384 % 4], others[i / 1536] };
		struct question q;
		acctlink_error err = { 0 };
		enum al_action action;
		bool usable;

		question_init(&q);
		for (size_t j = 0; j < AL_COUNT(parts); j++)
			change_all(&q, parts[j]);
		usable = al_bearer_usable(&q.record, NOW, q.in.withheld);
		action = al_decide(&q.in, &err);
		if ((action == AL_DO_SERVE) != usable && action != AL_DO_REFRESH && action != AL_DO_CHECK)
			fail_msg("case %zu: action %d, usable %d", i, (int)action, usable);
		if (action == AL_DO_REFRESH) {
			assert_true(
				q.in.config != NULL && q.record.kept.refresh_token.len > 0 && parts[5] != others[3]);
			assert_true(q.record.row.not_before <= NOW);
			assert_false(q.record.row.claim_outcome == AL_CLAIM_OPEN && q.in.claim_alive);
			assert_true(i % 6 != 2 && i % 6 != 4 && i % 6 != 5);
		}
		if (action == AL_DO_SERVE)
			assert_true(i % 6 != 4 && i % 6 != 5);
		if (action == AL_DO_WAIT)
			assert_true(q.in.claim_alive && !usable);
		assert_int_equal(action == AL_DO_FAIL, err.status != 0);
		al_record_clear(&q.record);
	}
}

static void the_margin_stays_between_nothing_and_half_a_life(void **state)
{
	static const int64_t lives[] = { -5000, 0, 1, 4, 5, 1000, 149999, 150000, HOUR, INT64_MAX - NOW };
	static const int64_t asked[] = { 0, 1, 30000, HOUR, UINT32_MAX };
	struct question q;

	(void)state;
	question_init(&q);
	for (size_t i = 0; i < AL_COUNT(lives) * AL_COUNT(asked); i++) {
		int64_t life = lives[i % AL_COUNT(lives)];
		int64_t margin;

		q.record.row.bearer_from = NOW;
		q.record.row.bearer_end = NOW + life;
		margin = al_margin(&q.record, &q.config, asked[i / AL_COUNT(lives)]);
		assert_true(margin >= 0 && margin <= (life < 0 ? 0 : life / 2));
	}
	assert_int_equal(al_margin(&q.record, &q.config, 0), 30000);
	q.record.row.bearer_end = NOW + 100000;
	assert_int_equal(al_margin(&q.record, &q.config, 0), 20000);
	assert_int_equal(al_margin(&q.record, &q.config, 35000), 35000);
	assert_int_equal(al_margin(&q.record, &q.config, 90000), 50000);
	q.record.row.bearer_end = 0; /* none is held */
	assert_int_equal(al_margin(&q.record, &q.config, 90000), 0);
	al_record_clear(&q.record);
}

static void back_off_doubles_up_to_its_cap_and_is_spread_over_all_of_it(void **state)
{
	const struct al_provider_config config = { .backoff_base_ms = 2000, .backoff_cap_ms = 300000 };
	const struct al_provider_config odd = { .backoff_base_ms = 5000, .backoff_cap_ms = 1000 };
	static const int64_t failures[] = { 0, 1, 2, 3, 8, 9, 60, 1000000, INT64_MAX };
	static const int64_t ceilings[] = { 2000, 2000, 4000, 8000, 256000, 300000, 300000, 300000, 300000 };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(failures); i++) {
		int64_t low = INT64_MAX;
		int64_t high = 0;

		for (int draw = 0; draw < 2000; draw++) {
			int64_t wait = al_backoff_ms(&config, failures[i]);

			assert_true(wait >= 1 && wait <= ceilings[i]);
			low = wait < low ? wait : low;
			high = wait > high ? wait : high;
		}
		/* 2,000 draws leave the outer twentieth empty once in 10^44 times. */
		assert_true(low <= ceilings[i] / 20 && high >= ceilings[i] - ceilings[i] / 20);
	}
	for (int draw = 0; draw < 100; draw++)
		assert_in_range(al_backoff_ms(&odd, 3), 1, 1000);
}

static void each_change_of_state_is_one_event_and_none_is_none(void **state)
{
	static const struct {
		int64_t from;
		int64_t from_reason;
		int64_t to;
		int64_t to_reason;
		int32_t event;
	} changes[] = {
		{ 0, 0, ACCTLINK_STATE_LINKED, 0, ACCTLINK_EVENT_LINKED },
		{ ACCTLINK_STATE_LINKED, 0, ACCTLINK_STATE_LINKED, 0, 0 },
		{ ACCTLINK_STATE_LINKED, 0, ACCTLINK_STATE_STALE, 8, ACCTLINK_EVENT_STALE },
		{ ACCTLINK_STATE_STALE, 8, ACCTLINK_STATE_STALE, 7, 0 },
		{ ACCTLINK_STATE_STALE, 8, ACCTLINK_STATE_LINKED, 0, ACCTLINK_EVENT_HEALED },
		{ ACCTLINK_STATE_STALE, 8, ACCTLINK_STATE_RELINK_REQUIRED, 1, ACCTLINK_EVENT_RELINK_REQUIRED },
		{ ACCTLINK_STATE_RELINK_REQUIRED, 1, ACCTLINK_STATE_RELINK_REQUIRED, 1, 0 },
		{ ACCTLINK_STATE_RELINK_REQUIRED, 5, ACCTLINK_STATE_RELINK_REQUIRED, 1,
			ACCTLINK_EVENT_RELINK_REQUIRED },
		{ ACCTLINK_STATE_RELINK_REQUIRED, 1, ACCTLINK_STATE_LINKED, 0, ACCTLINK_EVENT_HEALED },
		{ ACCTLINK_STATE_LINKED, 0, ACCTLINK_STATE_SUPERSEDED, 0, ACCTLINK_EVENT_SUPERSEDED },
		{ ACCTLINK_STATE_SUPERSEDED, 0, ACCTLINK_STATE_UNLINKING, 0, ACCTLINK_EVENT_UNLINKED },
		{ ACCTLINK_STATE_LINKED, 0, ACCTLINK_STATE_UNLINKING, 0, ACCTLINK_EVENT_UNLINKED },
		{ ACCTLINK_STATE_UNLINKING, 0, ACCTLINK_STATE_UNLINKING, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < AL_COUNT(changes); i++) {
		struct al_link_row row = { .state = changes[i].from, .reason = changes[i].from_reason };

		assert_int_equal(al_link_set_state(&row, changes[i].to, changes[i].to_reason), changes[i].event);
		assert_int_equal(row.state, changes[i].to);
		assert_int_equal(row.reason, changes[i].to_reason);
	}
}

static void nothing_but_a_new_consent_or_the_end_changes_a_superseded_link(void **state)
{
	static const int64_t states[] = { ACCTLINK_STATE_LINKED, ACCTLINK_STATE_STALE, ACCTLINK_STATE_RELINK_REQUIRED };

	(void)state;
	for (size_t i = 0; i < AL_COUNT(states); i++) {
		struct al_link_row row = { .state = ACCTLINK_STATE_SUPERSEDED };

		assert_int_equal(al_link_set_state(&row, states[i], ACCTLINK_REASON_REVOKED), 0);
		assert_int_equal(row.state, ACCTLINK_STATE_SUPERSEDED);
		assert_int_equal(row.reason, ACCTLINK_REASON_NONE);
	}
}

/* ---- held bearers ---------------------------------------------------------------------------- */

static struct al_cache *cache_of(unsigned max)
{
	struct al_cache *cache = NULL;

	assert_int_equal(al_cache_new(max, &cache, NULL), ACCTLINK_OK);
	al_cache_polled(cache, 0);
	return cache;
}

static struct al_buf key_of(const char *user)
{
	struct al_buf key;

	assert_true(al_owner_key(&key, al_str(user), al_str("test"), al_str("")));
	return key;
}

static void put(struct al_cache *cache, const struct al_buf *key, int64_t generation, int64_t at)
{
	struct al_bearer *bearer = al_new(sizeof(*bearer));

	assert_non_null(bearer);
	bearer->refs = 1;
	bearer->state = ACCTLINK_STATE_LINKED;
	bearer->epoch = 1;
	bearer->generation = generation;
	bearer->end_boot = HOUR;
	memcpy(bearer->link_id, "link", 5);
	al_buf_init(&bearer->text, 100);
	assert_true(al_buf_printf(&bearer->text, "bearer %" PRId64, generation));
	al_cache_put(cache, key, bearer, at);
	al_bearer_unref(&bearer);
	assert_null(bearer);
}

/* The generation that is held; 0: none. */
static int64_t held(struct al_cache *cache, const struct al_buf *key)
{
	struct al_bearer *bearer = al_cache_get(cache, key);
	int64_t generation = bearer == NULL ? 0 : bearer->generation;

	al_bearer_unref(&bearer);
	return generation;
}

static void nothing_is_held_before_the_first_look_at_the_stores_changes(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_cache *cache = NULL;

	(void)state;
	assert_int_equal(al_cache_new(10, &cache, NULL), ACCTLINK_OK);
	put(cache, &key, 1, 100);
	assert_int_equal(held(cache, &key), 0);
	al_cache_polled(cache, 50);
	put(cache, &key, 1, 49);
	assert_int_equal(held(cache, &key), 0);
	put(cache, &key, 1, 50);
	assert_int_equal(held(cache, &key), 1);
	al_cache_free(&cache);
	assert_null(cache);
	al_cache_free(&cache);
	al_buf_clear(&key);
}

static void a_bearer_outlives_the_cache_while_somebody_reads_it(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_cache *cache = cache_of(10);
	struct al_bearer *bearer;
	struct al_bearer *again;

	(void)state;
	put(cache, &key, 1, 1);
	bearer = al_cache_get(cache, &key);
	again = al_bearer_ref(bearer);
	put(cache, &key, 2, 2);
	assert_int_equal(held(cache, &key), 2);
	assert_text(&bearer->text, "bearer 1");
	al_cache_free(&cache);
	al_bearer_unref(&bearer);
	assert_text(&again->text, "bearer 1");
	al_bearer_unref(&again);
	al_bearer_unref(&again);
	assert_null(al_bearer_ref(NULL));
	al_buf_clear(&key);
}

static void what_was_read_before_a_drop_is_not_held_after_it(void **state)
{
	struct al_buf ana = key_of("ana");
	struct al_buf ben = key_of("ben");
	struct al_cache *cache = cache_of(10);

	(void)state;
	put(cache, &ana, 1, 5);
	put(cache, &ben, 1, 5);
	al_cache_drop(cache, &ana, 7);
	assert_int_equal(held(cache, &ana), 0);
	assert_int_equal(held(cache, &ben), 1);
	put(cache, &ana, 1, 6); /* somebody had read the row just before */
	assert_int_equal(held(cache, &ana), 0);
	put(cache, &ana, 2, 7);
	assert_int_equal(held(cache, &ana), 2);
	al_cache_drop(cache, &ana, 3); /* an older drop drops, but lowers nothing */
	assert_int_equal(held(cache, &ana), 0);
	put(cache, &ana, 2, 6);
	assert_int_equal(held(cache, &ana), 0);
	al_cache_polled(cache, 9);
	al_cache_polled(cache, 4);
	put(cache, &ana, 2, 8);
	assert_int_equal(held(cache, &ana), 0);
	put(cache, &ana, 2, 9);
	assert_int_equal(held(cache, &ana), 2);
	al_cache_drop(cache, &ben, 9);
	al_cache_drop(cache, &ben, 9);
	al_cache_free(&cache);
	al_buf_clear(&ana);
	al_buf_clear(&ben);
}

static void a_row_that_others_changed_drops_what_no_longer_agrees(void **state)
{
	static const struct {
		const char *id;
		int64_t state;
		int64_t epoch;
		int64_t generation;
		int64_t rejected;
		int64_t held;
	} rows[] = {
		{ "link", ACCTLINK_STATE_LINKED, 1, 3, 0, 3 },
		{ "link", ACCTLINK_STATE_STALE, 1, 3, 2, 3 },
		{ "link", ACCTLINK_STATE_RELINK_REQUIRED, 1, 3, 0, 3 }, /* served while good */
		{ "link", ACCTLINK_STATE_LINKED, 1, 4, 0, 0 },
		{ "link", ACCTLINK_STATE_LINKED, 2, 3, 0, 0 },
		{ "link", ACCTLINK_STATE_LINKED, 1, 3, 3, 0 },
		{ "link", ACCTLINK_STATE_UNLINKING, 1, 3, 0, 0 },
		{ "link", ACCTLINK_STATE_SUPERSEDED, 1, 3, 0, 0 },
		/* the tombstone of a former link of the same owner */
		{ "gone", ACCTLINK_STATE_UNLINKING, 1, 3, 0, 3 },
	};
	struct al_buf key = key_of("ana");
	struct al_cache *cache = cache_of(10);

	(void)state;
	for (size_t i = 0; i < AL_COUNT(rows); i++) {
		struct al_link_row row;

		put(cache, &key, 3, 1);
		al_link_row_init(&row);
		memcpy(row.id, rows[i].id, 5);
		row.state = rows[i].state;
		row.epoch = rows[i].epoch;
		row.generation = rows[i].generation;
		row.rejected_generation = rows[i].rejected;
		assert_true(al_buf_copy(&row.owner_key, &key));
		al_cache_row_changed(cache, &row);
		assert_int_equal(held(cache, &key), rows[i].held);
		al_link_row_clear(&row);
	}
	al_cache_free(&cache);
	al_buf_clear(&key);
}

static void what_was_read_before_another_process_changed_a_row_is_not_held(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_cache *cache = cache_of(10);
	struct al_link_row row;

	(void)state;
	al_link_row_init(&row);
	memcpy(row.id, "link", 5);
	row.state = ACCTLINK_STATE_UNLINKING;
	row.change = 8;
	assert_true(al_buf_copy(&row.owner_key, &key));
	al_cache_row_changed(cache, &row); /* nothing is held, but somebody may have read the row */
	put(cache, &key, 3, 7);
	assert_int_equal(held(cache, &key), 0);
	put(cache, &key, 3, 8);
	assert_int_equal(held(cache, &key), 3);
	al_link_row_clear(&row);
	al_cache_free(&cache);
	al_buf_clear(&key);
}

static void whoever_missed_changes_drops_all_but_the_noted_rejections(void **state)
{
	struct al_buf keys[40];
	struct al_cache *cache = cache_of(100);
	char name[16];

	(void)state;
	for (size_t i = 0; i < AL_COUNT(keys); i++) {
		(void)snprintf(name, sizeof(name), "user%zu", i);
		keys[i] = key_of(name);
		put(cache, &keys[i], 3, 5);
	}
	assert_true(al_cache_note_rejected(cache, &keys[7], "", 3));
	put(cache, &keys[7], 4, 5);
	al_cache_drop_all(cache, 9);
	for (size_t i = 0; i < AL_COUNT(keys); i++) {
		assert_int_equal(held(cache, &keys[i]), 0);
		assert_int_equal(al_cache_withheld(cache, &keys[i], NULL, 0), i == 7 ? 3 : 0);
		put(cache, &keys[i], 5, 8);
		assert_int_equal(held(cache, &keys[i]), 0);
		put(cache, &keys[i], 5, 9);
		assert_int_equal(held(cache, &keys[i]), 5);
	}
	al_cache_free(&cache);
	for (size_t i = 0; i < AL_COUNT(keys); i++)
		al_buf_clear(&keys[i]);
}

static void a_rejected_generation_is_noted_once_and_not_held_again(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_cache *cache = cache_of(10);

	(void)state;
	put(cache, &key, 3, 1);
	assert_false(al_cache_note_rejected(cache, &key, "", 2)); /* an older one */
	assert_false(al_cache_note_rejected(cache, &key, "other", 3));
	assert_int_equal(held(cache, &key), 3);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 0);
	assert_true(al_cache_note_rejected(cache, &key, "link", 3));
	assert_false(al_cache_note_rejected(cache, &key, "link", 3)); /* many count once */
	assert_false(al_cache_note_rejected(cache, &key, "", 2));
	assert_int_equal(held(cache, &key), 0);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 3);
	put(cache, &key, 3, 2);
	assert_int_equal(held(cache, &key), 0);
	put(cache, &key, 4, 2);
	assert_int_equal(held(cache, &key), 4);
	al_cache_forget_rejected(cache, &key, 2); /* another's note */
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 3);
	al_cache_forget_rejected(cache, &key, 3);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 0);
	assert_int_equal(held(cache, &key), 4);
	al_cache_free(&cache);
	al_buf_clear(&key);
}

static void a_note_survives_a_drop_and_leaves_nothing_when_it_is_forgotten(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_cache *cache = cache_of(10);

	(void)state;
	assert_true(al_cache_note_rejected(cache, &key, "", 3)); /* nothing is held */
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 3);
	al_cache_drop(cache, &key, 1);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, 0), 3);
	put(cache, &key, 3, 1);
	assert_int_equal(held(cache, &key), 0);
	al_cache_forget_rejected(cache, &key, 3);
	al_cache_forget_rejected(cache, &key, 3);
	put(cache, &key, 3, 1);
	assert_int_equal(held(cache, &key), 3);
	al_cache_free(&cache);
	al_buf_clear(&key);
}

static void a_held_bearer_that_has_ended_by_the_boot_clock_is_withheld(void **state)
{
	struct al_buf key = key_of("ana");
	struct al_buf other = key_of("ben");
	struct al_cache *cache = cache_of(10);

	(void)state;
	put(cache, &key, 3, 1);
	assert_int_equal(al_cache_withheld(cache, &key, "link", HOUR - 1), 0);
	assert_int_equal(al_cache_withheld(cache, &key, "link", HOUR), 3);
	assert_int_equal(al_cache_withheld(cache, &key, "another", HOUR), 0);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, HOUR), 0); /* refusals only */
	assert_int_equal(al_cache_withheld(cache, &other, "link", HOUR), 0);
	assert_true(al_cache_note_rejected(cache, &key, "", 3));
	put(cache, &key, 4, 1);
	assert_int_equal(al_cache_withheld(cache, &key, "link", HOUR - 1), 3);
	assert_int_equal(al_cache_withheld(cache, &key, NULL, HOUR), 3);
	assert_int_equal(al_cache_withheld(cache, &key, "link", HOUR), 4);
	al_cache_free(&cache);
	al_buf_clear(&key);
	al_buf_clear(&other);
}

static void no_more_is_held_than_allowed_and_the_used_ones_stay_longest(void **state)
{
	enum { MAX = 100, USERS = 1000 };
	struct al_cache *cache = cache_of(MAX);
	struct al_buf keys[USERS];
	char name[16];
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < USERS; i++) {
		(void)snprintf(name, sizeof(name), "user%zu", i);
		keys[i] = key_of(name);
	}
	for (size_t i = 0; i < USERS; i++) {
		put(cache, &keys[i], 1, 1);
		assert_int_equal(held(cache, &keys[0]), 1); /* in use all the time: never evicted */
	}
	for (size_t i = 0; i < USERS; i++)
		count += held(cache, &keys[i]) == 1 ? 1 : 0;
	assert_true(count <= MAX && count > MAX / 2);
	al_cache_free(&cache);
	for (size_t i = 0; i < USERS; i++)
		al_buf_clear(&keys[i]);
}

static void a_noted_rejection_is_not_pushed_out_by_other_users(void **state)
{
	struct al_buf ana = key_of("ana");
	struct al_cache *cache = cache_of(4);
	char name[16];

	(void)state;
	assert_true(al_cache_note_rejected(cache, &ana, "", 3));
	for (int i = 0; i < 100; i++) {
		struct al_buf key;

		(void)snprintf(name, sizeof(name), "user%d", i);
		key = key_of(name);
		put(cache, &key, 1, 1);
		al_buf_clear(&key);
	}
	assert_int_equal(al_cache_withheld(cache, &ana, NULL, 0), 3);
	al_cache_free(&cache);
	al_buf_clear(&ana);
}

struct crowd {
	struct al_cache *cache;
	struct al_buf keys[8];
	int64_t change;
};

static void *use_cache(void *arg)
{
	struct crowd *crowd = arg;

	for (int64_t i = 1; i <= 3000; i++) {
		struct al_buf *key = &crowd->keys[i % 8];
		struct al_bearer *bearer = al_cache_get(crowd->cache, key);

		if (bearer != NULL)
			assert_int_equal(bearer->text.len, strlen(al_buf_text(&bearer->text)));
		al_bearer_unref(&bearer);
		put(crowd->cache, key, i, i);
		if (i % 7 == 0)
			al_cache_drop(crowd->cache, key, i);
		if (i % 11 == 0 && al_cache_note_rejected(crowd->cache, key, "", i))
			al_cache_forget_rejected(crowd->cache, key, i);
		if (i % 13 == 0)
			al_cache_polled(crowd->cache, i);
	}
	return NULL;
}

static void many_threads_may_use_the_held_bearers_at_once(void **state)
{
	static const char *const users[] = { "a", "b", "c", "d", "e", "f", "g", "h" };
	struct crowd crowd = { .cache = cache_of(4) };
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < 8; i++)
		crowd.keys[i] = key_of(users[i]);
	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_cache, &crowd), 0);
	for (size_t i = 0; i < AL_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	al_cache_free(&crowd.cache);
	for (size_t i = 0; i < 8; i++)
		al_buf_clear(&crowd.keys[i]);
}

/* ---- the gate ------------------------------------------------------------------------------------ */

enum { FIRST_PAUSE = 60000, LAST_PAUSE = 3600000 };

static struct al_gates *open_gates(void)
{
	struct al_gates *gates = al_gates_new();

	assert_non_null(gates);
	assert_int_equal(al_gate_check(gates, "a", 0, NULL), ACCTLINK_OK);
	return gates;
}

static void a_refused_client_is_one_alarm_and_slow_probes(void **state)
{
	struct al_gates *gates = open_gates();
	acctlink_error err = { 0 };
	int64_t now = 1000;
	int64_t pause = FIRST_PAUSE;

	(void)state;
	assert_true(al_gate_client_refused(gates, "a", now));
	assert_false(al_gate_client_refused(gates, "a", now));
	for (int probe = 0; probe < 12; probe++) {
		assert_int_equal(al_gate_check(gates, "a", now + 1, &err), ACCTLINK_CLIENT_REFUSED);
		assert_int_equal(err.status, ACCTLINK_CLIENT_REFUSED);
		assert_int_equal(err.retry_after_ms, pause - 1);
		assert_string_equal(err.where, "a");
		assert_int_equal(al_gate_check(gates, "a", now + pause - 1, NULL), ACCTLINK_CLIENT_REFUSED);
		now += pause;
		assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_OK); /* one may try */
		assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_CLIENT_REFUSED);
		assert_false(al_gate_client_refused(gates, "a", now));
		pause = pause * 2 < LAST_PAUSE ? pause * 2 : LAST_PAUSE;
	}
	assert_int_equal(al_gate_check(gates, "b", now, &err), ACCTLINK_OK);
	al_gate_accepted(gates, "a");
	assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_OK);
	assert_true(al_gate_client_refused(gates, "a", now)); /* a new alarm, from the first pause */
	assert_int_equal(al_gate_check(gates, "a", now + FIRST_PAUSE, &err), ACCTLINK_OK);
	al_gates_free(&gates);
	assert_null(gates);
	al_gates_free(&gates);
}

/* May this refusal end its link? The alarm goes with the first that may not. */
static bool refused(struct al_gates *gates, const char *provider, int64_t now)
{
	bool alarm;

	return al_gate_refused(gates, provider, now, &alarm);
}

static void a_refused_token_shows_that_the_client_is_accepted(void **state)
{
	struct al_gates *gates = open_gates();

	(void)state;
	assert_true(al_gate_client_refused(gates, "a", 0));
	assert_true(refused(gates, "a", 1));
	assert_int_equal(al_gate_check(gates, "a", 1, NULL), ACCTLINK_OK);
	assert_true(al_gate_client_refused(gates, "a", 2));
	al_gates_free(&gates);
}

static void more_than_twenty_refusals_in_a_row_end_no_more_links(void **state)
{
	struct al_gates *gates = open_gates();
	acctlink_error err = { 0 };
	int64_t now = 5000;
	bool alarm = false;

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_OK);
		assert_true(refused(gates, "a", now));
	}
	assert_false(al_gate_refused(gates, "a", now, &alarm));
	assert_true(alarm);
	assert_int_equal(al_gate_check(gates, "a", now + 1, &err), ACCTLINK_PROVIDER_DOWN);
	assert_int_equal(err.retry_after_ms, FIRST_PAUSE - 1);
	assert_non_null(strstr(err.message, "21"));
	assert_int_equal(al_gate_check(gates, "b", now, &err), ACCTLINK_OK);
	assert_true(refused(gates, "b", now));
	now += FIRST_PAUSE;
	assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_OK);
	assert_false(al_gate_refused(gates, "a", now, &alarm)); /* the probe's link is not ended either */
	assert_false(alarm);                                    /* one is enough */
	assert_int_equal(al_gate_check(gates, "a", now + 2 * FIRST_PAUSE - 1, &err), ACCTLINK_PROVIDER_DOWN);
	al_gate_accepted(gates, "a");
	assert_int_equal(al_gate_check(gates, "a", now, &err), ACCTLINK_OK);
	for (int i = 0; i < 20; i++)
		assert_true(refused(gates, "a", now));
	assert_false(refused(gates, "a", now));
	al_gates_free(&gates);
}

static void refusals_with_a_success_between_are_ordinary_life(void **state)
{
	struct al_gates *gates = open_gates();

	(void)state;
	al_gate_accepted(gates, "never seen");
	for (int i = 0; i < 500; i++) {
		assert_true(refused(gates, "a", i));
		if (i % 20 == 19)
			al_gate_accepted(gates, "a");
		assert_int_equal(al_gate_check(gates, "a", i, NULL), ACCTLINK_OK);
	}
	al_gates_free(&gates);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_packed_comes_back_whole),
		cmocka_unit_test(an_empty_set_comes_back_empty),
		cmocka_unit_test(a_cut_or_lengthened_set_is_damage_and_never_half_a_set),
		cmocka_unit_test(damage_at_any_byte_leads_nowhere),
		cmocka_unit_test(more_revocations_than_there_is_room_for_are_damage),
		cmocka_unit_test(a_token_of_the_largest_size_fits_and_a_longer_one_is_damage),
		cmocka_unit_test(tokens_to_revoke_stand_in_the_order_that_was_asked_for),
		cmocka_unit_test(a_full_list_loses_its_oldest_and_takes_the_new),
		cmocka_unit_test(the_bearer_is_the_token_that_the_config_names),
		cmocka_unit_test(owner_keys_of_different_owners_differ),
		cmocka_unit_test(a_good_bearer_is_served_until_little_is_left),
		cmocka_unit_test(a_caller_may_ask_for_more_but_not_for_more_than_half_a_life),
		cmocka_unit_test(an_open_claim_is_waited_for_only_without_a_good_bearer),
		cmocka_unit_test(a_send_of_unknown_outcome_is_repeated_only_when_needed),
		cmocka_unit_test(within_the_documented_reuse_window_it_is_repeated_at_once),
		cmocka_unit_test(a_rejected_bearer_is_not_served_again),
		cmocka_unit_test(a_least_interval_and_the_back_off_rule_out_loops),
		cmocka_unit_test(a_link_that_needs_a_new_consent_serves_what_is_good_and_sends_nothing),
		cmocka_unit_test(an_unchecked_id_token_is_checked_before_anything_is_sent),
		cmocka_unit_test(a_refresh_token_goes_to_no_other_client_and_to_no_unknown_provider),
		cmocka_unit_test(ended_and_superseded_links_serve_nothing_at_all),
		cmocka_unit_test(the_error_tells_what_failed_last),
		cmocka_unit_test(no_row_at_all_leads_to_a_forbidden_action),
		cmocka_unit_test(the_margin_stays_between_nothing_and_half_a_life),
		cmocka_unit_test(back_off_doubles_up_to_its_cap_and_is_spread_over_all_of_it),
		cmocka_unit_test(each_change_of_state_is_one_event_and_none_is_none),
		cmocka_unit_test(nothing_but_a_new_consent_or_the_end_changes_a_superseded_link),
		cmocka_unit_test(nothing_is_held_before_the_first_look_at_the_stores_changes),
		cmocka_unit_test(a_bearer_outlives_the_cache_while_somebody_reads_it),
		cmocka_unit_test(what_was_read_before_a_drop_is_not_held_after_it),
		cmocka_unit_test(a_row_that_others_changed_drops_what_no_longer_agrees),
		cmocka_unit_test(what_was_read_before_another_process_changed_a_row_is_not_held),
		cmocka_unit_test(whoever_missed_changes_drops_all_but_the_noted_rejections),
		cmocka_unit_test(a_rejected_generation_is_noted_once_and_not_held_again),
		cmocka_unit_test(a_note_survives_a_drop_and_leaves_nothing_when_it_is_forgotten),
		cmocka_unit_test(a_held_bearer_that_has_ended_by_the_boot_clock_is_withheld),
		cmocka_unit_test(no_more_is_held_than_allowed_and_the_used_ones_stay_longest),
		cmocka_unit_test(a_noted_rejection_is_not_pushed_out_by_other_users),
		cmocka_unit_test(many_threads_may_use_the_held_bearers_at_once),
		cmocka_unit_test(a_refused_client_is_one_alarm_and_slow_probes),
		cmocka_unit_test(a_refused_token_shows_that_the_client_is_accepted),
		cmocka_unit_test(more_than_twenty_refusals_in_a_row_end_no_more_links),
		cmocka_unit_test(refusals_with_a_success_between_are_ordinary_life) };

	return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
