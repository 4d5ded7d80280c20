/* SPDX-License-Identifier: MIT
 * Which page and which button does what. Pages are got, buttons post a form with a token
 * against forgery, and each button ends in a redirect home with a message for the user.
 * What matters most to whoever copies this is the callback.
 */
#include "example.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct visit {
	const struct ex_host *host;
	const struct ex_request *req;
	struct ex_answer *answer;
	struct ex_session session;                /* user "": not signed in; id "": no session at all */
	const struct ex_institution *institution; /* of routes that need one */
};

/* ---- answers ---------------------------------------------------------------------------- */

void ex_answer_clear(struct ex_answer *answer)
{
	free(answer->body);
	free(answer->policy);
	free(answer->location);
	free(answer->session_cookie);
	free(answer->flow_cookie);
	memset(answer, 0, sizeof(*answer));
}

/* form-action is left out where Link and Renew stand: their answer redirects to the
 * bank, and browsers hold redirects after a form against form-action as well. */
static char *policy(bool leads_to_bank, const char *nonce)
{
	return ex_printf("default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
			 "%s%s%s%s",
		leads_to_bank ? "" : "; form-action 'self'", nonce != NULL ? "; script-src 'nonce-" : "",
		nonce != NULL ? nonce : "", nonce != NULL ? "'" : "");
}

static void show(struct visit *visit, int status, char *page)
{
	visit->answer->status = status;
	visit->answer->body = page;
	visit->answer->type = "text/html; charset=utf-8";
	if (visit->answer->policy == NULL)
		visit->answer->policy = policy(visit->session.user[0] != '\0', NULL);
}

static void show_problem(struct visit *visit, int status, int32_t what, const char *title, const char *text)
{
	struct ex_flash flash = { .status = what };

	snprintf(flash.title, sizeof(flash.title), "%s", title);
	snprintf(flash.text, sizeof(flash.text), "%s", text);
	show(visit, status, ex_page_problem(visit->host, &visit->session, &flash));
}

/* The next page is asked for with GET, and a reload of it repeats nothing. */
static void go(struct visit *visit, const char *where)
{
	visit->answer->status = 303;
	visit->answer->location = ex_printf("%s", where);
}

static void go_home(struct visit *visit, const struct ex_flash *flash)
{
	ex_session_flash(&visit->session, flash);
	go(visit, "/");
}

/* E.g. "Mikomo Bank" "is linked". */
static void go_home_glad(struct visit *visit, const char *whose, const char *what, const char *text)
{
	struct ex_flash flash = { .status = ACCTLINK_OK };

	snprintf(flash.title, sizeof(flash.title), "%s %s", whose, what);
	snprintf(flash.text, sizeof(flash.text), "%s", text);
	go_home(visit, &flash);
}

/* For the operator, who has more to go by than the user: none of it is secret. */
static void note(const struct visit *visit, const acctlink_error *err)
{
	fprintf(stderr, "example: %s %s for %s: %d %s (%s) %s\n", visit->req->method, visit->req->path,
		visit->session.user, (int)err->status, err->message, err->where, err->provider_code);
}

static void go_home_sorry(struct visit *visit, acctlink_status status, const acctlink_error *err)
{
	struct ex_flash flash;

	note(visit, err);
	ex_explain(status, err, &flash);
	go_home(visit, &flash);
}

/* ---- who is there ----------------------------------------------------------------------- */

static void show_home(struct visit *visit)
{
	const struct ex_host *host = visit->host;
	const char *user = visit->session.user;
	struct ex_link links[EX_INSTITUTIONS_MAX];
	struct ex_event events[EX_EVENTS_MAX];
	acctlink_status status = ACCTLINK_OK;
	acctlink_error err = { 0 };
	struct ex_flash flash;
	size_t i;

	for (i = 0; i < host->institution_count && status == ACCTLINK_OK; i++)
		status = ex_look(host, user, host->institutions[i].name, &links[i], &err);
	if (status == ACCTLINK_OK) {
		const size_t count = ex_events(user, events, EX_EVENTS_MAX);

		show(visit, 200, ex_page_home(host, &visit->session, links, events, count));
	} else {
		note(visit, &err);
		ex_explain(status, &err, &flash);
		show_problem(visit, 503, flash.status, flash.title, flash.text);
	}
}

/* Somebody who is not signed in gets a session too: the form of the sign-in needs its token. */
static void visit_start(struct visit *visit)
{
	if (visit->session.user[0] != '\0') {
		show_home(visit);
		return;
	}
	if (visit->session.id[0] == '\0') {
		ex_session_new("", &visit->session);
		visit->answer->session_cookie = ex_session_cookie(visit->host, &visit->session);
	}
	show(visit, 200, ex_page_sign_in(visit->host, &visit->session));
}

static bool is_user(const char *name)
{
	const size_t len = name != NULL ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

	return len > 0 && len < sizeof(((struct ex_session *)NULL)->user) && name[len] == '\0';
}

static void visit_sign_in(struct visit *visit)
{
	char *user = ex_form_value(visit->req->body, "user");

	if (is_user(user)) {
		ex_session_end(&visit->session);
		ex_session_new(user, &visit->session);
		visit->answer->session_cookie = ex_session_cookie(visit->host, &visit->session);
		go(visit, "/");
	} else {
		show_problem(visit, 400, ACCTLINK_BAD_ARGUMENT, "Nobody has such a name",
			"A name has small letters, digits and hyphens only. Go back and choose one.");
	}
	free(user);
}

static void visit_sign_out(struct visit *visit)
{
	ex_session_end(&visit->session);
	memset(&visit->session, 0, sizeof(visit->session));
	visit->answer->session_cookie = ex_session_cookie(visit->host, &visit->session);
	go(visit, "/");
}

/* ---- a consent ------------------------------------------------------------------------------ */

/* Link and Renew are the same to the plugin: a consent for this user and bank. */
static void visit_link(struct visit *visit)
{
	acctlink_error err = { 0 };
	char *url = NULL;
	char *cookie = NULL;
	const acctlink_status status = ex_begin(
		visit->host, visit->session.user, visit->institution->name, &url, &cookie, &err);

	if (status != ACCTLINK_OK) {
		go_home_sorry(visit, status, &err);
		return;
	}
	go(visit, url);
	visit->answer->flow_cookie = cookie;
	free(url);
}

static void go_home_linked(struct visit *visit, const acctlink_callback_result *result)
{
	const struct ex_institution *institution = ex_institution(visit->host, result->institution);
	const bool renewed = (result->flags & ACCTLINK_CALLBACK_RENEWED) != 0;
	char *text = ex_printf("%s%s%s%s",
		renewed ? "Thank you: we may go on showing your accounts." : "Your accounts can be shown here now.",
		(result->flags & ACCTLINK_CALLBACK_SCOPE_REDUCED) != 0 ? " The bank granted less than was asked for."
								       : "",
		(result->flags & ACCTLINK_CALLBACK_SUPERSEDES) != 0
			? " Another link of the same bank login ended by that."
			: "",
		(result->flags & ACCTLINK_CALLBACK_UNCHECKED) != 0
			? " The bank's answer could not be verified yet; the accounts have to wait for that."
			: "");

	go_home_glad(visit, institution != NULL ? institution->title : "The bank",
		renewed ? "has your consent again" : "is linked", text);
	free(text);
}

/* The consent is not lost: the same callback brings it once the bank answers again, or
 * what was sent has come to its end. So there is no redirect: the browser stays at the
 * callback's address, and a reload asks again. */
static void stay_at_callback(struct visit *visit, acctlink_status status, const acctlink_error *err)
{
	struct ex_flash *flash = &visit->session.flash;
	size_t len;

	note(visit, err);
	ex_explain(status, err, flash);
	flash->again = strcmp(visit->req->method, "GET") == 0;
	len = strlen(flash->text);
	if (!flash->again) /* a link would not post the form */
		snprintf(flash->text + len, sizeof(flash->text) - len, " To try again, reload this page.");
	show_home(visit);
	visit->answer->status = 503;
}

static void finish_consent(struct visit *visit, const char *params)
{
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	const acctlink_status status = ex_callback(
		visit->host, visit->session.user, params, visit->req->cookies, &result, &err);

	if (status == ACCTLINK_OK)
		go_home_linked(visit, &result);
	else if (status / 100 == ACCTLINK_TIMED_OUT / 100) /* time will help, not a new consent */
		stay_at_callback(visit, status, &err);
	else
		go_home_sorry(visit, status, &err);
}

/* The plugin is not asked: the consent waits for whoever began it. */
static void send_away(struct visit *visit)
{
	show_problem(visit, 403, ACCTLINK_FOREIGN_CALLBACK, "Nobody is signed in here",
		"Your bank has sent you back, but this browser is not signed in. Nothing is lost: sign in first, then come back to"
		" this page, or begin again.");
}

/* The answer came as a redirect, with a Lax cookie. */
static void visit_callback(struct visit *visit)
{
	if (visit->session.user[0] != '\0')
		finish_consent(visit, visit->req->query);
	else
		send_away(visit);
}

static const char again[] = "&host_again=1";

/* The body without the mark of a form that we posted again; NULL if it has none. */
static char *unmarked(const char *body)
{
	const size_t len = strlen(body);
	const size_t mark = sizeof(again) - 1;

	if (len < mark || strcmp(body + len - mark, again) != 0)
		return NULL;
	return ex_printf("%.*s", (int)(len - mark), body);
}

/* response_mode=form_post: the bank's page posts the answer from the bank's site, and
 * so without our session, whose cookie is Lax. A page of our own posts it once more, and
 * then the session comes along. The mark keeps this from going round for ever. */
static void visit_posted_callback(struct visit *visit)
{
	char *params = unmarked(visit->req->body);

	if (visit->session.user[0] != '\0') {
		finish_consent(visit, params != NULL ? params : visit->req->body);
	} else if (params != NULL) {
		send_away(visit);
	} else {
		char *nonce = ex_random();
		char *marked = ex_printf("%s%s", visit->req->body, again);

		visit->answer->policy = policy(false, nonce);
		show(visit, 200, ex_page_repost(marked, nonce));
		free(marked);
		free(nonce);
	}
	free(params);
}

/* ---- a link ----------------------------------------------------------------------------------- */

static void visit_refresh(struct visit *visit)
{
	const char *user = visit->session.user;
	const char *name = visit->institution->name;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	struct ex_link before;
	acctlink_status status = ex_look(visit->host, user, name, &before, &err);

	if (status == ACCTLINK_OK)
		status = ex_bearer(visit->host, user, name, true, &bearer, &info, &err);
	ex_wipe(&bearer);
	if (status != ACCTLINK_OK) {
		go_home_sorry(visit, status, &err);
	} else if (info.generation > before.generation) {
		go_home_glad(visit, visit->institution->title, "is refreshed",
			"The bank has given a new token set for the old one.");
	} else {
		const struct ex_flash flash = { .status = ACCTLINK_PROVIDER_DOWN,
			.title = "No refresh just now",
			.text = "The bearer at hand is still good, and the bank gave no other." };

		go_home(visit, &flash);
	}
}

static const char *revocation_text(int32_t revocation)
{
	switch (revocation) {
	case ACCTLINK_REVOCATION_CONFIRMED: return "The bank has confirmed that our access is over.";
	case ACCTLINK_REVOCATION_PENDING:
		return "We use it no more. The bank has not confirmed yet; we go on asking it for three days.";
	case ACCTLINK_REVOCATION_UNSUPPORTED:
		return "We use it no more. This bank can't be told; you can end our access in its own settings as well.";
	case ACCTLINK_REVOCATION_REFUSED:
		return "We use it no more. The bank would not take the access back; end it in the bank's own settings as well.";
	default: return "We use it no more, and the bank had nothing to take back.";
	}
}

static void visit_unlink(struct visit *visit)
{
	acctlink_unlink_result result;
	acctlink_error err = { 0 };
	const acctlink_status status = ex_unlink(
		visit->host, visit->session.user, visit->institution->name, &result, &err);

	if (status == ACCTLINK_OK)
		go_home_glad(visit, visit->institution->title, "is unlinked", revocation_text(result.revocation));
	else
		go_home_sorry(visit, status, &err);
}

/* acctlink's failures are told at home, beside the button that helps; those of the data
 * API here. */
static void visit_accounts(struct visit *visit)
{
	struct ex_accounts accounts;
	acctlink_error err = { 0 };
	const acctlink_status status = ex_accounts(
		visit->host, visit->session.user, visit->institution->name, &accounts, &err);

	if (status != ACCTLINK_OK) {
		go_home_sorry(visit, status, &err);
		return;
	}
	if (accounts.json == NULL)
		visit->session.flash = (struct ex_flash){ .status = ACCTLINK_PROVIDER_DOWN,
			.again = true,
			.title = "No accounts just now",
			.text = "Your link is as it was. Try again in a while." };
	show(visit, accounts.json != NULL ? 200 : 502,
		ex_page_accounts(visit->host, &visit->session, visit->institution, &accounts));
	json_object_put(accounts.json);
}

/* ---- what needs nobody ---------------------------------------------------------------------------- */

static void visit_style(struct visit *visit)
{
	visit->answer->status = 200;
	visit->answer->type = "text/css; charset=utf-8";
	visit->answer->body = ex_printf("%s", ex_style);
}

static void visit_health(struct visit *visit)
{
	visit->answer->status = 200;
	visit->answer->type = "text/plain; charset=utf-8";
	visit->answer->body = ex_printf("ok\n");
}

/* ---- routes ---------------------------------------------------------------------------------------- */

enum needs { NOBODY = 0, FORM = 1, USER = 2, INSTITUTION = 4 };

static const struct route {
	const char *method;
	const char *path;
	void (*visit)(struct visit *visit);
	unsigned needs;
} routes[] = {
	{ "GET", "/", visit_start, NOBODY },
	{ "POST", "/sign-in", visit_sign_in, FORM },
	{ "POST", "/sign-out", visit_sign_out, FORM },
	{ "POST", "/link", visit_link, FORM | USER | INSTITUTION },
	{ "POST", "/renew", visit_link, FORM | USER | INSTITUTION },
	{ "GET", "/callback", visit_callback, NOBODY },
	{ "POST", "/callback", visit_posted_callback, NOBODY },
	{ "GET", "/accounts", visit_accounts, USER | INSTITUTION },
	{ "POST", "/refresh", visit_refresh, FORM | USER | INSTITUTION },
	{ "POST", "/unlink", visit_unlink, FORM | USER | INSTITUTION },
	{ "GET", "/style.css", visit_style, NOBODY },
	{ "GET", "/healthz", visit_health, NOBODY },
};

static const struct route *find_route(const struct ex_request *req)
{
	const char *method = strcmp(req->method, "HEAD") == 0 ? "GET" : req->method;
	size_t i;

	for (i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(routes[i].path, req->path) == 0 && strcmp(routes[i].method, method) == 0)
			return &routes[i];
	}
	return NULL;
}

/* Whether the form is one of ours for this session; in a time that tells nothing. */
static bool has_token(const struct visit *visit)
{
	char *given = ex_form_value(visit->req->body, "csrf");
	const char *wanted = visit->session.csrf;
	const size_t len = strlen(wanted);
	unsigned char differs = len == 0 || given == NULL || strlen(given) != len;
	size_t i;

	for (i = 0; given != NULL && given[i] != '\0' && i < len; i++)
		differs = (unsigned char)(differs | (given[i] ^ wanted[i]));
	ex_wipe(&given);
	return differs == 0;
}

static const struct ex_institution *institution_of(const struct visit *visit)
{
	const bool posted = strcmp(visit->req->method, "POST") == 0;
	char *name = ex_form_value(posted ? visit->req->body : visit->req->query, "institution");
	const struct ex_institution *institution = name != NULL ? ex_institution(visit->host, name) : NULL;

	free(name);
	return institution;
}

static void follow(struct visit *visit, const struct route *route)
{
	if ((route->needs & FORM) != 0 && !has_token(visit)) {
		show_problem(visit, 403, ACCTLINK_BAD_ARGUMENT, "This form is not valid any more",
			"It came from another site, or you have signed in or out since. Go back to the start and try again.");
		return;
	}
	if ((route->needs & USER) != 0 && visit->session.user[0] == '\0') {
		go(visit, "/");
		return;
	}
	if ((route->needs & INSTITUTION) != 0) {
		visit->institution = institution_of(visit);
		if (visit->institution == NULL) {
			show_problem(visit, 404, ACCTLINK_BAD_ARGUMENT, "There is no such bank",
				"Choose one on the start page.");
			return;
		}
	}
	route->visit(visit);
}

void ex_visit(const struct ex_host *host, const struct ex_request *req, struct ex_answer *answer)
{
	struct visit visit = { .host = host, .req = req, .answer = answer };
	const struct route *route = find_route(req);
	/* The message is shown once, on the start page. */
	const bool take_flash = route == &routes[0] && strcmp(req->method, "GET") == 0;

	(void)ex_session_find(host, req->cookies, take_flash, &visit.session);
	if (route != NULL)
		follow(&visit, route);
	else
		show_problem(&visit, 404, ACCTLINK_BAD_ARGUMENT, "There is no such page",
			"Choose another one on the start page.");
	explicit_bzero(&visit.session, sizeof(visit.session));
}
