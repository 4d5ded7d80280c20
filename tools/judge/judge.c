/* SPDX-License-Identifier: MIT
 * The judge as a program. Prints one line for each violation and each answer that
 * was lost, and a summary. Exit code 0: all is well; 1: violations; 2: it could
 * not judge.
 */
#include "judge.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "usage: judge --ledger FILE|URL [--config acctlink.conf]… [--killed[=N]] [--list]\n"
			    "Compares the practice provider's ledger with the stores of those who used it.\n"
			    "  --ledger FILE|URL  the JSON of GET /ledger, or the control port's URL\n"
			    "  --config FILE      an acctlink.conf; its store is read with its keys. All who used\n"
			    "                     the provider should be named; without any, only arrivals are judged\n"
			    "  --killed[=N]       processes were killed (N times): an answer that was sent whole\n"
			    "                     may have died with its process\n"
			    "  --list             also what is in order: tokens sent again, counts of each user\n";

void jd_violation(struct judge *judge, const char *rule, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("VIOLATION %s: ", rule);
	vprintf(fmt, args);
	putchar('\n');
	va_end(args);
	judge->violations++;
}

void jd_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprintf(fmt, args);
	putchar('\n');
	va_end(args);
}

static long long kills_of(const char *text)
{
	char *end;
	const long long kills = strtoll(text, &end, 10);

	if (*text == '\0' || *end != '\0' || kills < 0)
		jd_give_up("--killed=%s: a number is wanted", text);
	return kills;
}

struct options {
	const char *ledger;
	const char **configs;
	size_t config_count;
};

static void read_options(int argc, char **argv, struct judge *judge, struct options *options)
{
	static const struct option names[] = { { "ledger", required_argument, NULL, 'l' },
		{ "config", required_argument, NULL, 'c' }, { "killed", optional_argument, NULL, 'k' },
		{ "list", no_argument, NULL, 'a' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int word;

	options->configs = jd_new((size_t)argc, sizeof(*options->configs));
	while ((word = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (word) {
		case 'l': options->ledger = optarg; break;
		case 'c': options->configs[options->config_count++] = optarg; break;
		case 'a': judge->list = true; break;
		case 'k':
			judge->killed = true;
			judge->kills = optarg != NULL ? kills_of(optarg) : -1;
			break;
		case 'h': fputs(usage, stdout); exit(0);
		default: fputs(usage, stderr); exit(2);
		}
	}
	if (optind < argc || options->ledger == NULL) {
		fputs(usage, stderr);
		exit(2);
	}
}

static const char *s(size_t count)
{
	return count == 1 ? "" : "s";
}

static void sum_up(const struct judge *judge)
{
	printf("judged %zu request%s, %d token%s sent (%d again), %zu grant%s, %zu link%s; %d answer%s lost, %d unsure: ",
		judge->request_count, s(judge->request_count), judge->counts.checked, s((size_t)judge->counts.checked),
		judge->counts.resent, judge->grant_count, s(judge->grant_count), judge->link_count,
		s(judge->link_count), judge->counts.lost, s((size_t)judge->counts.lost), judge->counts.unsure);
	if (judge->violations == 0)
		printf("all is well\n");
	else
		printf("%d violation%s\n", judge->violations, s((size_t)judge->violations));
}

int main(int argc, char **argv)
{
	static struct judge judge = { .kills = -1 };
	struct options options = { NULL, NULL, 0 };
	size_t i;

	read_options(argc, argv, &judge, &options);
	jd_read_ledger(&judge, options.ledger);
	for (i = 0; i < options.config_count; i++)
		jd_read_store(&judge, options.configs[i]);
	jd_place_links(&judge);
	jd_judge_outcomes(&judge);
	jd_apply_rules(&judge);
	sum_up(&judge);
	free(options.configs);
	return judge.violations == 0 ? 0 : 1;
}
