/* SPDX-License-Identifier: MIT
 * The judge: reads the practice provider's ledger and the stores of all who used
 * it, and says whether a token was sent twice, lost or mixed up. It reads the
 * stores through the product's own rooms and writes to none.
 *
 * How data flows: books.c (the ledger) and stores.c (the links) -> outcome.c
 * (what each answer meant to who asked) -> rules.c -> judge.c (lines, exit code).
 * One thread. Everything lives until the program ends; the texts in these structs
 * belong to the ledger's JSON or to the links. Tokens appear as SHA-256 in hex.
 */
#ifndef JUDGE_H
#define JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>

#include "config/config.h"

#define JD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define JD_HASH_LEN 64

enum jd_kind { JD_CODE, JD_REFRESH, JD_ACCESS, JD_ID };

/* What an answer means, by the table in doc/refresh.md. */
enum jd_class { JD_ANSWER, JD_REFUSED, JD_OPERATOR, JD_OURS, JD_TURNED_AWAY, JD_UNKNOWN };
/* Whether it can have reached the process that asked. */
enum jd_delivered { JD_NO, JD_MAYBE, JD_YES };

struct jd_request;
struct jd_grant;

struct jd_token {
	const char *hash;
	enum jd_kind kind;
	bool given;               /* by the provider; else made up */
	struct jd_grant *grant;   /* NULL */
	int64_t ends_at;          /* ms; 0: never */
	int64_t spent_by;         /* -1: not spent */
	struct jd_request *first; /* whole requests at /token that sent it, in order */
	struct jd_request *last;
};

/* Grants, and links, of one user at one client and institution. */
struct jd_group {
	const char *sub;
	const char *client;
	const char *connector;
	struct jd_grant *grants; /* newest first */
	struct jd_link *links;
	struct jd_group *next;
};

struct jd_grant {
	long long n;
	const char *sub;
	const char *client;
	const char *connector;
	bool alive;
	const char *ended_why; /* NULL */
	const char *current;   /* NULL */
	struct jd_group *group;
	struct jd_grant *next_in_group;
	struct jd_request *first; /* whole requests at /token about it, in order */
	struct jd_request *last;
	struct jd_request *opened;  /* the exchange, if the ledger remembers it */
	const struct jd_link *link; /* that holds its tokens; NULL */
};

/* One whole request at /token with a code or refresh token. */
struct jd_request {
	long long n;
	int64_t at;
	int64_t ended_at; /* 0 */
	bool refresh;     /* or a code */
	const char *sent; /* hash */
	struct jd_token *token;
	struct jd_grant *grant; /* NULL */
	const char *client;
	int status;
	bool spent;
	bool scripted;
	/* what its answer told */
	const char *access_token;
	const char *id_token;
	const char *refresh_token;  /* hashes, NULL */
	const char *sub;            /* of the id_token */
	int64_t expires_in_ms;      /* 0 */
	int64_t access_exp, id_exp; /* s; 0 */
	const char *error;
	const char *description;
	/* judged */
	enum jd_class class;
	enum jd_delivered delivered;
	const char *cause; /* why it may not have been delivered */
	struct jd_request *next_of_token;
	struct jd_request *next_of_grant;
};

struct jd_link {
	char id[40];
	char *user;
	char *provider;
	char *institution;
	char *subject;
	const struct al_provider_config *config; /* NULL: no section any more */
	int64_t state, reason, epoch, generation;
	int64_t unknown_sent_at; /* an open claim's included */
	int64_t rejected_generation;
	int64_t bearer_check;
	int64_t consent_end;
	char refresh_token[JD_HASH_LEN + 1]; /* "" : none */
	char sibling[JD_HASH_LEN + 1];
	char bearer[JD_HASH_LEN + 1];
	char old_bearer[JD_HASH_LEN + 1];
	char (*revoke)[JD_HASH_LEN + 1];
	size_t revoke_count;
	struct jd_grant *grant; /* that its tokens come from; NULL */
	struct jd_link *next_in_group;
};

/* hash -> something */
struct jd_index {
	struct lh_table *table;
};

struct judge {
	json_object *ledger;
	struct jd_request *requests;
	size_t request_count;
	struct jd_grant *grants;
	size_t grant_count;
	struct jd_token *tokens;
	size_t token_count;
	struct jd_group *groups;
	struct jd_link *links;
	size_t link_count;
	const char *base; /* of the ledger's provider; NULL */
	int64_t first;    /* number of the first request that the ledger remembers */
	bool has_stores;
	bool killed;     /* processes were killed … */
	long long kills; /* … so many times; -1: not told */
	bool list;
	struct jd_index by_hash;         /* tokens */
	struct jd_index carried;         /* refresh tokens that answers brought -> struct jd_request, the newest */
	struct jd_index presented;       /* what reached /token or /revoke */
	struct jd_index kept;            /* what the stores hold -> struct jd_link */
	struct jd_index refused_bearers; /* answered 401 by the data API -> struct jd_time */
	int violations;
	struct {
		int requests, resent, lost, unsure, checked;
	} counts;
};

/* books.c. All end the program with exit code 2 if they can't. */
void jd_read_ledger(struct judge *judge, const char *source); /* file, or URL of the control port */
_Noreturn void jd_give_up(const char *fmt, ...) JD_PRINTF(1, 2);
void jd_index_new(struct jd_index *index);
void jd_index_put(struct jd_index *index, const char *key, const void *value);
void *jd_index_get(const struct jd_index *index, const char *key); /* key may be NULL */
void *jd_new(size_t count, size_t size);
struct jd_token *jd_token(const struct judge *judge, const char *hash); /* NULL */
struct jd_group *jd_group_of(struct judge *judge, const char *sub, const char *client, const char *connector);
int64_t jd_bearer_refused_at(const struct judge *judge, const char *hash); /* INT64_MAX: never */

/* stores.c */
void jd_read_store(struct judge *judge, const char *config_path);
void jd_place_links(struct judge *judge); /* after the last store: finds their grants */
/* The section of the link that it was for, else one of its client_id; NULL. */
const struct al_provider_config *jd_config_of(const struct judge *judge, const struct jd_request *request);

/* outcome.c: fills class, delivered and cause of each request. */
void jd_judge_outcomes(struct judge *judge);
/* It gave a token set that its client can have taken. */
bool jd_may_have_arrived(const struct jd_request *request);

/* rules.c */
void jd_apply_rules(struct judge *judge);

/* judge.c */
void jd_violation(struct judge *judge, const char *rule, const char *fmt, ...) JD_PRINTF(3, 4);
void jd_note(const char *fmt, ...) JD_PRINTF(1, 2);

#endif
