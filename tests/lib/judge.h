/* SPDX-License-Identifier: MIT
 * Has the judge (tools/judge) compare a practice provider's ledger with the
 * stores of those who used it. See harness.h for failures and memory.
 */
#ifndef TH_JUDGE_H
#define TH_JUDGE_H

#include "host.h"

struct th_verdict {
	int exit_code; /* 0: all is well; 1: violations; 2: it could not judge */
	char *text;    /* what it printed */
};
void th_verdict_clear(struct th_verdict *verdict);

/* ledger: a file, or the URL of a control port. config_paths ends with NULL, or
 * is NULL. flags: words of its command line ("--killed=2 --list"), or NULL. */
void th_judge_run(const char *ledger, const char *const *config_paths, const char *flags, struct th_verdict *verdict);

/* Fails the test, with what the judge says, unless all is well. Name all whose
 * links are at the provider; processes that were killed make it "--killed". */
void th_judge(struct th_provider *provider, const char *const *config_paths, const char *flags);
void th_judge_host(struct th_provider *provider, const struct th_host *host);

#endif
