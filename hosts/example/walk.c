/* SPDX-License-Identifier: MIT
 * Drives one whole link through a running example host and practice provider, as
 * a person with a browser would, and prints each step. The browser is the tests'
 * own: libcurl, cookies, forms. Codes are shown masked; it never sees a token.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

struct walk {
	struct th_browser *browser;
	const char *host;
	const char *user;
	const char *institution;
	const char *control; /* NULL: nothing of the ledger is shown */
	bool leave_linked;
	char *at; /* where the browser is */
	struct th_answer page;
};

static int step_number;

static void step(const char *what)
{
	printf("\n%2d. %s\n", ++step_number, what);
}

/* ---- the browser ------------------------------------------------------------------------ */

/* The URL without what is secret in it. */
static void show_url(const char *method, const char *url, long status)
{
	static const char *const secrets[] = { "code", "state", "code_challenge", "nonce" };
	const size_t len = strcspn(url, "?");
	size_t i;

	printf("      %-4s %.*s", method, (int)len, url);
	for (i = 0; i < sizeof(secrets) / sizeof(secrets[0]) && url[len] != '\0'; i++) {
		char *value = th_param(url, secrets[i]);

		if (value != NULL)
			printf(" %s=%.4s…", secrets[i], value);
		free(value);
	}
	printf("  -> HTTP %ld\n", status);
}

static char *absolute(const char *base, const char *target)
{
	const char *host = strstr(base, "://");

	if (strstr(target, "://") != NULL || host == NULL)
		return th_printf("%s", target);
	return th_printf("%.*s%s", (int)((host + 3 - base) + (long)strcspn(host + 3, "/")), base, target);
}

/* One request; redirects are followed and shown. */
static void go(struct walk *walk, const char *method, const char *url, const char *body)
{
	char *next = th_printf("%s", url);
	int hops;

	for (hops = 0; next != NULL; hops++) {
		th_check(hops < 15, "the browser is redirected for ever, now at %s", next);
		th_answer_clear(&walk->page);
		th_check(
			th_browser_go(walk->browser, method, next, NULL, body, &walk->page), "no answer from %s", next);
		show_url(method, next, walk->page.status);
		free(walk->at);
		walk->at = next;
		next = walk->page.location != NULL ? absolute(walk->at, walk->page.location) : NULL;
		method = "GET";
		body = NULL;
	}
	th_check(walk->page.status == 200, "%s answers HTTP %ld: %.300s", walk->at, walk->page.status, walk->page.body);
}

/* Posts a form of the page that is open, with `more` added to its own fields. */
static void submit(struct walk *walk, const char *ends, const char *holds, const char *more)
{
	char *action;
	char *body;
	char *url;
	char *whole;

	th_check(th_form(walk->page.body, ends, holds, &action, &body), "%s has no form for %s", walk->at, ends);
	url = absolute(walk->at, action);
	whole = th_printf("%s%s%s", body, *body != '\0' && *more != '\0' ? "&" : "", more);
	go(walk, "POST", url, whole);
	free(whole);
	free(url);
	free(action);
	free(body);
}

/* ---- what the pages say ----------------------------------------------------------------------- */

/* An attribute of the institution's card. */
static char *card(const struct walk *walk, const char *name)
{
	char *mark = th_printf("data-institution=\"%s\"", walk->institution);
	char *wanted = th_printf("%s=\"", name);
	const char *at = strstr(walk->page.body, mark);
	const char *value;
	char *copy;

	th_check(at != NULL, "%s shows no card for %s", walk->at, walk->institution);
	while (*at != '<')
		at--;
	value = strstr(at, wanted);
	th_check(value != NULL, "the card of %s has no %s", walk->institution, name);
	value += strlen(wanted);
	copy = th_printf("%.*s", (int)strcspn(value, "\""), value);
	free(wanted);
	free(mark);
	return copy;
}

static void expect_card(const struct walk *walk, const char *state, const char *generation, const char *epoch)
{
	char *got_state = card(walk, "data-state");
	char *got_generation = card(walk, "data-generation");
	char *got_epoch = card(walk, "data-epoch");

	printf("      the host says: %s, token set %s of consent %s\n", got_state, got_generation, got_epoch);
	th_check(strcmp(got_state, state) == 0 && strcmp(got_generation, generation) == 0
			&& strcmp(got_epoch, epoch) == 0,
		"expected %s, token set %s of consent %s", state, generation, epoch);
	free(got_state);
	free(got_generation);
	free(got_epoch);
}

/* Text between tags, one line an account. */
static void show_accounts(const struct walk *walk)
{
	const char *at = strstr(walk->page.body, "data-account=");

	th_check(at != NULL, "%s shows no account", walk->at);
	for (; at != NULL; at = strstr(at + 1, "data-account=")) {
		const char *name = strstr(at, "<b>");
		const char *money = strstr(at, "class=\"money\">");

		th_check(name != NULL && money != NULL, "an account without name or balance");
		name += strlen("<b>");
		money += strlen("class=\"money\">");
		printf("      %-24.*s %12.*s\n", (int)strcspn(name, "<"), name, (int)strcspn(money, "<"), money);
	}
}

static json_object *ledger(const struct walk *walk)
{
	struct th_browser *browser = th_browser_new(NULL);
	char *url = th_printf("%s/ledger", walk->control);
	struct th_answer answer;
	json_object *json;

	th_check(th_browser_go(browser, "GET", url, NULL, NULL, &answer), "the ledger does not answer");
	json = json_tokener_parse(answer.body);
	th_check(json != NULL, "the ledger is no JSON");
	th_answer_clear(&answer);
	free(url);
	th_browser_free(&browser);
	return json;
}

/* What the bank has in its books. */
static void show_ledger(const struct walk *walk)
{
	json_object *json = walk->control != NULL ? ledger(walk) : NULL;
	json_object *grants = json_object_object_get(json, "grants");
	size_t alive = 0;
	int most = 0;
	size_t i;

	if (json == NULL)
		return;
	for (i = 0; i < json_object_array_length(grants); i++)
		alive += json_object_get_boolean(json_object_object_get(json_object_array_get_idx(grants, i), "alive"))
			? 1
			: 0;
	json_object_object_foreach(json_object_object_get(json, "arrivals"), hash, count)
	{
		(void)hash;
		if (json_object_get_int(count) > most)
			most = json_object_get_int(count);
	}
	printf("      the bank's ledger: %zu grant%s, %zu alive; no code or refresh token arrived more than %s\n",
		json_object_array_length(grants), json_object_array_length(grants) == 1 ? "" : "s", alive,
		most == 1           ? "once"
			: most == 0 ? "never"
				    : "twice");
	th_check(most <= 1, "a token arrived %d times", most);
	json_object_put(json);
}

/* ---- the steps ------------------------------------------------------------------------------------ */

static void consent(struct walk *walk)
{
	char *login = th_printf("login=%s&password=anything", walk->user);

	step("The bank asks who it is");
	submit(walk, "/login", NULL, login);
	if (strstr(walk->page.body, "/question\"") != NULL)
		submit(walk, "/question", NULL, "answer=the+lake");
	step("The user chooses accounts");
	submit(walk, "/accounts", NULL, "");
	step("The user consents; the bank sends the browser back with a code, the plugin exchanges it");
	submit(walk, "/confirm", NULL, "");
	free(login);
}

static void accounts(struct walk *walk)
{
	char *url = th_printf("%s/accounts?institution=%s", walk->host, walk->institution);

	go(walk, "GET", url, NULL);
	show_accounts(walk);
	free(url);
}

static void press(struct walk *walk, const char *action)
{
	char *holds = th_printf("value=\"%s\"", walk->institution);

	go(walk, "GET", walk->host, NULL);
	submit(walk, action, holds, "");
	free(holds);
}

static void walk_all(struct walk *walk)
{
	char *user = th_printf("user=%s", walk->user);

	step("A user signs in at the host");
	go(walk, "GET", walk->host, NULL);
	submit(walk, "/sign-in", NULL, user);
	step("The user wants to link a bank; the plugin makes the consent URL, the browser goes there");
	press(walk, "/link");
	consent(walk);
	expect_card(walk, "linked", "1", "1");
	show_ledger(walk);
	step("Accounts, fetched with the bearer");
	accounts(walk);
	step("A refresh now: the refresh token is traded for a new set");
	press(walk, "/refresh");
	expect_card(walk, "linked", "2", "1");
	show_ledger(walk);
	step("The user renews the consent");
	press(walk, "/renew");
	consent(walk);
	expect_card(walk, "linked", "3", "2");
	step("Accounts again, under the new consent");
	accounts(walk);
	if (!walk->leave_linked) {
		step("The user unlinks; the plugin revokes the token");
		press(walk, "/unlink");
		expect_card(walk, "none", "0", "0");
		show_ledger(walk);
	}
	printf("\nDone.\n");
	free(user);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: walk --url HOST_URL [--ca-file PEM] [--user NAME] [--institution NAME] [--control URL]"
		" [--leave-linked]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "url", required_argument, NULL, 'u' },
		{ "ca-file", required_argument, NULL, 'a' }, { "user", required_argument, NULL, 'n' },
		{ "institution", required_argument, NULL, 'i' }, { "control", required_argument, NULL, 'c' },
		{ "leave-linked", no_argument, NULL, 'l' }, { NULL, 0, NULL, 0 } };
	struct walk walk = { .user = "ana", .institution = "mikomo" };
	const char *ca_file = NULL;
	int word;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((word = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (word) {
		case 'u': walk.host = optarg; break;
		case 'a': ca_file = optarg; break;
		case 'n': walk.user = optarg; break;
		case 'i': walk.institution = optarg; break;
		case 'c': walk.control = optarg; break;
		case 'l': walk.leave_linked = true; break;
		default: usage();
		}
	}
	if (walk.host == NULL || optind < argc)
		usage();
	walk.browser = th_browser_new(ca_file);
	walk_all(&walk);
	th_answer_clear(&walk.page);
	free(walk.at);
	th_browser_free(&walk.browser);
	return 0;
}
