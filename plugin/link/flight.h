/* SPDX-License-Identifier: MIT
 * A flight: one task per link and process that gets a bearer for all who ask.
 * Seen by flights.c (callers, delivery) and refresh.c (its steps) only.
 */
#ifndef AL_FLIGHT_H
#define AL_FLIGHT_H

#include "link/link_int.h"

/* The steps of a flight, in the order of doc/refresh.md. */
enum al_flight_step {
	STEP_LOOK,  /* read the row, decide */
	STEP_READY, /* the provider's endpoints are known */
	STEP_CLAIM, /* one compare-and-swap: claim, attempt, sent_at */
	STEP_SEND,
	STEP_READ,   /* classify the answer */
	STEP_KEEP,   /* a set: into the store before anyone sees it */
	STEP_SETTLE, /* no set: write down what it means */
	STEP_KEYS,   /* fetch the keys for an unchecked id_token */
	STEP_CHECK
};

struct al_flight {
	struct al_task task;
	struct al_links *links;
	struct al_flight *next; /* flights->lock, as all of this block */
	struct al_bearer_call *waiters;
	bool early;              /* those who don't insist were served: the held bearer will do */
	int64_t min_ttl_ms;      /* the largest that a waiter asks for */
	bool refresh;            /* a waiter wants a new set, though the bearer is good */
	struct al_buf owner_key; /* constant */
	/* the task's own */
	int64_t asked_ttl_ms; /* the one that was decided with */
	bool asked_refresh;
	int64_t from_generation; /* that a new set is to replace; 0: not yet read */
	struct al_record record;
	int64_t snapshot; /* the store's change number before the read */
	struct al_provider *provider;
	struct al_wait wait;
	struct al_token_request request;
	struct al_http_result http;
	struct al_token_answer answer;
	int64_t attempt;
	int64_t epoch;
	int64_t generation;
	int64_t lease_end; /* boot ms */
	int64_t received_wall;
	int64_t poll_ms;
	bool answered;          /* an attempt of this flight has ended: err tells how */
	int64_t noted_rejected; /* before the row was read */
	bool store_trouble;     /* told the log already */
	bool checked;           /* the keys were fetched once */
	acctlink_error err;
};

/* refresh.c */
extern const struct al_step al_flight_steps[];

/* flights.c */
/* Takes over what callers ask for by now. */
void al_flight_asked(struct al_flight *flight);
/* A caller who asks for a refresh means the link with this id, or whichever there is. */
bool al_flight_is_meant(struct al_flight *flight, const char *link_id);
/* Ends the flight with a bearer or an error for all who wait, unless a caller
 * came meanwhile who asks for more than was decided with: then it looks again. */
enum al_step_result al_flight_land(
	struct al_flight *flight, al_rc rc, struct al_bearer *bearer, const acctlink_error *err);
/* Those who asked for no more than a good bearer need not wait for the refresh. */
void al_flight_serve_early(struct al_flight *flight, struct al_bearer *bearer);

#endif
