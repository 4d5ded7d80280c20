/* SPDX-License-Identifier: MIT
 * What the bank's own files share: page_*.c and pages.c (what a browser sees),
 * bank.c (invented customers and their money), accounts.c (the data API).
 * Everything here is called with pp_lock held.
 */
#ifndef PRACTICE_PAGES_H
#define PRACTICE_PAGES_H

#include "practice.h"

/* ---- page_draft.c: HTML in the making ------------------------------------------- */

struct pp_draft {
	char *text; /* never NULL after the first call */
	size_t len;
	size_t room;
};
void pp_draft_add(struct pp_draft *draft, const char *text);
/* Fills {name} with the member of that name, escaped, and {=name} with one that is
 * HTML already. A member that is absent or null leaves nothing. */
void pp_draft_fill(struct pp_draft *draft, const char *text, json_object *values);
/* Name and text in turn, ended by NULL; a text that is NULL is left out. */
json_object *pp_values(const char *name, ...) __attribute__((sentinel));

/* Who and what frames a page. */
struct pp_frame {
	const char *institution; /* a name of pp_institutions(), or NULL: the provider itself */
	const char *title;       /* of the window */
	int step;                /* 1 to 3 of sign-in, accounts, consent; 0: none of them */
	bool wide;
};
/* Puts the frame around the draft, which it empties, and sets the headers of every page. */
void pp_page_answer(struct pp_answer *answer, int status, const struct pp_frame *frame, struct pp_draft *main);
/* A bank's emblem as an svg element. */
char *pp_emblem(const char *institution, const char *size);

char *pp_style(void); /* page_style.c: the stylesheet, each bank's tint included */

/* page_start.c */
void pp_page_start(struct pp_request *req, struct pp_answer *answer); /* "/" */
void pp_page_back(struct pp_request *req, struct pp_answer *answer);  /* where trying it out ends */

/* ---- institutions.c -------------------------------------------------------------- */

/* The institution, or NULL if the name is NULL or unknown. Borrowed. */
json_object *pp_institution(const char *name);
const char *pp_institution_title(const char *name); /* never NULL */

/* ---- bank.c ------------------------------------------------------------------------ */

enum pp_account_class { PP_DEPOSIT, PP_CREDIT, PP_LOAN, PP_INVESTMENT };

struct pp_product {
	enum pp_account_class class;
	const char *type; /* FDX's accountType */
	const char *name;
	int64_t least; /* balance, in cents */
	int64_t most;
	int64_t limit; /* of a credit line or loan, in cents */
	int64_t rate;  /* hundredths of a percent a year */
};
struct pp_account {
	char id[33];
	const struct pp_product *product;
	char number[5]; /* its last four digits */
	int64_t cents;
};
enum { PP_ACCOUNTS_MAX = 4 };

/* The same ones each time for an institution (NULL: none) and a subject. Returns how many. */
size_t pp_bank_accounts(const char *institution, const char *subject, struct pp_account list[PP_ACCOUNTS_MAX]);

struct pp_transaction {
	char id[33];
	int64_t day;   /* since 1970 */
	int64_t cents; /* above zero: money or value came in */
	const char *text;
	const char *category;
};
/* What happened to the account on a day; false: nothing. */
bool pp_bank_transaction(const struct pp_account *account, int64_t day, struct pp_transaction *out);

/* A subject in Akoya's manner tells login and institution; others stand for themselves. */
char *pp_bank_subject(const char *institution, const char *login);
char *pp_bank_login(const char *subject);
char *pp_bank_customer(const char *institution, const char *subject); /* a person's name */
char *pp_bank_money(int64_t cents);                                   /* "$1,234.56", for people */
char *pp_bank_amount(int64_t cents);                                  /* "1234.56", for JSON */
char *pp_bank_day(int64_t day);                                       /* "2026-11-25" */
int64_t pp_bank_today(void);

#endif
