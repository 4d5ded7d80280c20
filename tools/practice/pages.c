/* SPDX-License-Identifier: MIT
 * What a person sees on the way to a link: sign-in, for some banks a question
 * more, the choice of accounts, consent. A visit begins at /auth and is kept in
 * memory for a quarter of an hour, bound by a cookie to the browser that began.
 *
 * Each step is a page of its own at /bank/VISIT/STEP; a form is answered with a
 * redirect to the next step, or to its own if something is wrong with it, so that
 * reload and back do what one expects. A form that comes without fields has the
 * usual choice: ana, any answer, all accounts.
 *
 * All of it is called with pp_lock held.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>

enum { VISIT_MS = 15 * 60 * 1000, AGAIN_MS = 5000, VISITS_MAX = 20000, LOGIN_MAX = 64 };

enum step { LOGIN, QUESTION, ACCOUNTS, CONFIRM, ABORT, STEPS };
static const char *const step_names[STEPS] = { "login", "question", "accounts", "confirm", "abort" };

struct visit {
	char *id;
	char *cookie;
	char *institution;   /* NULL: the network has none */
	json_object *params; /* of the authorization request */
	int64_t ends;
	char *tried; /* the login that came with a wrong password; NULL */
	char *login; /* NULL: not signed in */
	char *subject;
	bool answered;         /* the question */
	json_object *accounts; /* ids; NULL: not chosen */
	const char *alert;     /* shown once: what was wrong with the last form; NULL */
	bool over;             /* allowed or denied … */
	int64_t over_at;       /* … then, with this answer */
	struct pp_answer last;
	struct visit *next;
};

static struct lh_table *visits; /* id -> visit */
static struct visit *oldest;
static struct visit *newest;

/* ---- visits ------------------------------------------------------------------------ */

static void forget_choices(struct visit *visit)
{
	free(visit->login);
	free(visit->subject);
	json_object_put(visit->accounts);
	visit->login = visit->subject = NULL;
	visit->accounts = NULL;
	visit->answered = false;
}

static void drop_oldest(void)
{
	struct visit *visit = oldest;

	oldest = visit->next;
	if (oldest == NULL)
		newest = NULL;
	lh_table_delete(visits, visit->id);
	forget_choices(visit);
	pp_answer_clear(&visit->last);
	json_object_put(visit->params);
	free(visit->tried);
	free(visit->institution);
	free(visit->cookie);
	free(visit->id);
	free(visit);
}

static struct visit *new_visit(json_object *params)
{
	struct visit *visit = pp_calloc(1, sizeof(*visit));
	const char *connector = pp_text(params, "connector", NULL);

	if (visits == NULL)
		visits = lh_kchar_table_new(1024, NULL);
	if (visits == NULL)
		pp_die("out of memory");
	while (oldest != NULL && (oldest->ends <= pp_now_ms() || lh_table_length(visits) >= VISITS_MAX))
		drop_oldest();
	visit->id = pp_random(16);
	visit->cookie = pp_random(16);
	visit->institution = connector != NULL && *connector != '\0' ? pp_strdup(connector) : NULL;
	visit->params = pp_copy(params);
	visit->ends = pp_now_ms() + VISIT_MS;
	if (lh_table_insert(visits, visit->id, visit) != 0)
		pp_die("out of memory");
	if (newest != NULL)
		newest->next = visit;
	else
		oldest = visit;
	newest = visit;
	return visit;
}

static struct visit *find_visit(const char *id)
{
	void *found = NULL;

	if (visits == NULL || !lh_table_lookup_ex(visits, id, &found))
		return NULL;
	return ((struct visit *)found)->ends > pp_now_ms() ? found : NULL;
}

/* Several visits may be open in one browser: each has a cookie at its own path. */
static void set_cookie(const struct visit *visit, struct pp_answer *answer)
{
	pp_answer_header(answer, "set-cookie", "visit=%s; Path=/bank/%s; HttpOnly; SameSite=Lax%s", visit->cookie,
		visit->id, strncmp(pp_front_url(), "https:", 6) == 0 ? "; Secure" : "");
}

static bool has_cookie(const struct visit *visit, const struct pp_request *req)
{
	const char *at = pp_header(req, "cookie");
	const size_t len = strlen(visit->cookie);

	while (at != NULL && *at != '\0') {
		at += strspn(at, "; ");
		if (strncmp(at, "visit=", 6) == 0 && strncmp(at + 6, visit->cookie, len) == 0
			&& strcspn(at + 6, "; ") == len)
			return true;
		at += strcspn(at, ";");
	}
	return false;
}

static bool asks_question(const struct visit *visit)
{
	return pp_text(pp_institution(visit->institution), "question", NULL) != NULL;
}

/* The first step that is not done yet; everything before it may be seen again. */
static enum step open_step(const struct visit *visit)
{
	if (visit->login == NULL)
		return LOGIN;
	if (asks_question(visit) && !visit->answered)
		return QUESTION;
	return visit->accounts == NULL ? ACCOUNTS : CONFIRM;
}

/* ---- showing ------------------------------------------------------------------------- */

static void answer_step(
	struct pp_answer *answer, const struct visit *visit, const char *title, int step, struct pp_draft *main)
{
	const struct pp_frame frame = { visit->institution, title, step, false };

	pp_page_answer(answer, 200, &frame, main);
}

/* host and port of the URL that the browser will go back to */
static char *app_host(const struct visit *visit)
{
	const char *url = pp_text(visit->params, "redirect_uri", "");
	const char *host = strstr(url, "://");

	host = host != NULL ? host + 3 : url;
	return pp_printf("%.*s", (int)strcspn(host, "/?#"), host);
}

/* What every step shows; the alert is used up. */
static json_object *visit_values(struct visit *visit)
{
	char *host = app_host(visit);
	char *alert = visit->alert == NULL
		? NULL
		: pp_printf("<p class=\"alert\" id=\"alert\" role=\"alert\">%s</p>\n", visit->alert);
	json_object *values = pp_values("id", visit->id, "bank", pp_institution_title(visit->institution), "app",
		pp_text(visit->params, "client_id", "An app"), "host", host, "login",
		visit->login != NULL ? visit->login : visit->tried, "alert", alert, "invalid",
		visit->alert != NULL ? " aria-invalid=\"true\" aria-describedby=\"alert\"" : NULL, NULL);

	visit->alert = NULL;
	free(alert);
	free(host);
	return values;
}

static void add_text(json_object *values, const char *name, const char *text)
{
	json_object_object_add(values, name, json_object_new_string(text));
}

static const char login_page[] =
	"<h1>Sign in to {bank}</h1>\n"
	"<p class=\"lead\"><strong>{app}</strong> at <strong>{host}</strong> would like to see your accounts. It never gets "
	"your password.</p>\n"
	"{=alert}"
	"<div class=\"note\"><p>Any password works here. Customers to try: {=customers}. Any other login is a customer "
	"too; the password <code>wrong</code> is refused.</p></div>\n"
	"<form method=\"post\" action=\"/bank/{id}/login\">\n"
	"<div class=\"field\"><label for=\"login\">Login</label>\n"
	"<input id=\"login\" name=\"login\" value=\"{login}\" required maxlength=\"64\" autocomplete=\"off\" "
	"autocapitalize=\"none\" spellcheck=\"false\"{=invalid}></div>\n"
	"<div class=\"field\"><label for=\"password\">Password</label>\n"
	"<input id=\"password\" name=\"password\" type=\"password\" maxlength=\"64\" autocomplete=\"off\" "
	"aria-describedby=\"password-hint\"><p class=\"hint\" id=\"password-hint\">Don&rsquo;t type a real one: this bank "
	"writes everything down.</p></div>\n"
	"<div class=\"acts\"><button class=\"main\">Sign in</button>\n"
	"<button class=\"quiet\" formaction=\"/bank/{id}/abort\" formnovalidate>Cancel</button></div>\n"
	"</form>\n";

static char *customers(const struct visit *visit)
{
	json_object *users = pp_member(pp_institution(visit->institution), "users");
	struct pp_draft list = { NULL, 0, 0 };

	if (users != NULL) {
		json_object_object_foreach(users, login, name)
		{
			json_object *values = pp_values("login", login, NULL);

			(void)name;
			pp_draft_fill(&list, list.len > 0 ? ", <code>{login}</code>" : "<code>{login}</code>", values);
			json_object_put(values);
		}
	}
	return list.text != NULL ? list.text : pp_strdup("<code>ana</code>, <code>ben</code>");
}

static void show_login(struct visit *visit, struct pp_answer *answer)
{
	struct pp_draft main = { NULL, 0, 0 };
	json_object *values = visit_values(visit);
	char *list = customers(visit);

	add_text(values, "customers", list);
	pp_draft_fill(&main, login_page, values);
	free(list);
	json_object_put(values);
	answer_step(answer, visit, "Sign in", 1, &main);
}

static const char question_page
	[] = "<h1>One question more</h1>\n"
	     "<p class=\"lead\">{bank} asks this when someone signs in from a new place. Any answer is right.</p>\n"
	     "{=alert}"
	     "<form method=\"post\" action=\"/bank/{id}/question\">\n"
	     "<div class=\"field\"><label for=\"answer\">{question}</label>\n"
	     "<input id=\"answer\" name=\"answer\" required maxlength=\"100\" autocomplete=\"off\"{=invalid}></div>\n"
	     "<div class=\"acts\"><button class=\"main\">Continue</button>\n"
	     "<button class=\"quiet\" formaction=\"/bank/{id}/abort\" formnovalidate>Cancel</button></div>\n"
	     "</form>\n";

static void show_question(struct visit *visit, struct pp_answer *answer)
{
	struct pp_draft main = { NULL, 0, 0 };
	json_object *values = visit_values(visit);

	add_text(values, "question", pp_text(pp_institution(visit->institution), "question", ""));
	pp_draft_fill(&main, question_page, values);
	json_object_put(values);
	answer_step(answer, visit, "One question more", 1, &main);
}

static json_object *account_values(const struct pp_account *account)
{
	char *money = pp_bank_money(account->cents);
	json_object *values = pp_values("account", account->id, "product", account->product->name, "number",
		account->number, "money", money, NULL);

	free(money);
	return values;
}

static bool contains(json_object *list, const char *text)
{
	size_t i;

	for (i = 0; list != NULL && i < json_object_array_length(list); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(list, i)), text) == 0)
			return true;
	}
	return false;
}

static const char accounts_head[] = "<h1>Choose accounts</h1>\n"
				    "<p class=\"lead\">Which ones may <strong>{app}</strong> see?</p>\n"
				    "{=alert}"
				    "<form method=\"post\" action=\"/bank/{id}/accounts\">\n"
				    "<input type=\"hidden\" name=\"chosen\" value=\"1\">\n"
				    "<fieldset><legend>Accounts of {customer}</legend>\n"
				    "<ul class=\"rows\">\n";
static const char accounts_row[] = "<li><label><input type=\"checkbox\" name=\"account\" value=\"{account}\"{=checked}>"
				   "<span class=\"what\"><b>{product}</b><small>ending in {number}</small></span>"
				   "<span class=\"sum\">{money}</span></label></li>\n";
static const char accounts_foot
	[] = "</ul></fieldset>\n"
	     "<div class=\"acts\"><button class=\"main\">Continue</button>\n"
	     "<button class=\"quiet\" formaction=\"/bank/{id}/abort\">Cancel</button></div>\n"
	     "</form>\n"
	     "<p class=\"hint\">Signed in as {login}. <a href=\"/bank/{id}/login\">Use another login</a></p>\n";

static void show_accounts(struct visit *visit, struct pp_answer *answer)
{
	struct pp_account list[PP_ACCOUNTS_MAX];
	const size_t count = pp_bank_accounts(visit->institution, visit->subject, list);
	char *customer = pp_bank_customer(visit->institution, visit->subject);
	struct pp_draft main = { NULL, 0, 0 };
	json_object *values = visit_values(visit);
	size_t i;

	add_text(values, "customer", customer);
	pp_draft_fill(&main, accounts_head, values);
	for (i = 0; i < count; i++) {
		json_object *row = account_values(&list[i]);

		if (visit->accounts == NULL || contains(visit->accounts, list[i].id))
			add_text(row, "checked", " checked");
		pp_draft_fill(&main, accounts_row, row);
		json_object_put(row);
	}
	pp_draft_fill(&main, accounts_foot, values);
	free(customer);
	json_object_put(values);
	answer_step(answer, visit, "Choose accounts", 2, &main);
}

static const char confirm_page
	[] = "<h1>Allow access?</h1>\n"
	     "<p class=\"lead\"><strong>{app}</strong> will be able to read, but not to pay or change anything.</p>\n"
	     "{=alert}"
	     "<dl class=\"terms\">\n"
	     "<div><dt>Who</dt><dd>{app}, at {host}</dd></div>\n"
	     "<div><dt>Whose accounts</dt><dd>{customer}</dd></div>\n"
	     "<div><dt>Which accounts</dt><dd><ul>{=list}</ul></dd></div>\n"
	     "<div><dt>What</dt><dd>Your name, balances and transactions</dd></div>\n"
	     "<div><dt>How long</dt><dd>{term}</dd></div>\n"
	     "</dl>\n"
	     "<div class=\"acts\"><form method=\"post\" action=\"/bank/{id}/confirm\">"
	     "<input type=\"hidden\" name=\"seen\" value=\"{seen}\"><button class=\"main\">Allow</button></form>\n"
	     "<form method=\"post\" action=\"/bank/{id}/abort\"><button class=\"quiet\">Deny</button></form></div>\n"
	     "<p class=\"hint\"><a href=\"/bank/{id}/accounts\">Choose other accounts</a></p>\n";

/* What this consent is about: a page that another tab made old is shown again, not obeyed. */
static char *mark_of(const struct visit *visit)
{
	char *text = pp_printf("%s %s", visit->subject, json_object_to_json_string(visit->accounts));
	char *hash = pp_sha256_hex(text);

	free(text);
	return hash;
}

static char *chosen_list(const struct visit *visit)
{
	struct pp_account list[PP_ACCOUNTS_MAX];
	const size_t count = pp_bank_accounts(visit->institution, visit->subject, list);
	struct pp_draft html = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < count; i++) {
		json_object *row;

		if (!contains(visit->accounts, list[i].id))
			continue;
		row = account_values(&list[i]);
		pp_draft_fill(&html, "<li>{product}, ending in {number}</li>", row);
		json_object_put(row);
	}
	return html.text != NULL ? html.text : pp_strdup("");
}

static void show_confirm(struct visit *visit, struct pp_answer *answer)
{
	char *customer = pp_bank_customer(visit->institution, visit->subject);
	const bool lasting = strstr(pp_text(visit->params, "scope", ""), "offline_access") != NULL;
	char *seen = mark_of(visit);
	char *list = chosen_list(visit);
	struct pp_draft main = { NULL, 0, 0 };
	json_object *values = visit_values(visit);

	add_text(values, "customer", customer);
	add_text(values, "seen", seen);
	add_text(values, "list", list);
	add_text(values, "term",
		lasting ? "Until you or the app ends it, also while you are away"
			: "This once, until its pass runs out");
	pp_draft_fill(&main, confirm_page, values);
	free(customer);
	free(seen);
	free(list);
	json_object_put(values);
	answer_step(answer, visit, "Allow access", 3, &main);
}

static void show(struct visit *visit, enum step step, struct pp_answer *answer)
{
	switch (step) {
	case LOGIN: show_login(visit, answer); break;
	case QUESTION: show_question(visit, answer); break;
	case ACCOUNTS: show_accounts(visit, answer); break;
	default: show_confirm(visit, answer); break;
	}
}

/* ---- taking ---------------------------------------------------------------------------- */

static void go_to(const struct visit *visit, enum step step, struct pp_answer *answer)
{
	answer->status = 303;
	pp_answer_header(answer, "location", "/bank/%s/%s", visit->id, step_names[step]);
	pp_answer_header(answer, "referrer-policy", "no-referrer");
	pp_answer_header(answer, "cache-control", "no-store");
}

/* The same step again, with a word about what was wrong. */
static void ask_again(struct visit *visit, enum step step, const char *alert, struct pp_answer *answer)
{
	visit->alert = alert;
	go_to(visit, step, answer);
}

/* Without spaces around it and in lower case, as phones like to begin with a capital; NULL: none. */
static char *clean_login(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-+@";
	char *login;
	size_t len;
	size_t i;

	text += strspn(text, " \t");
	len = strlen(text);
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (len == 0 || len > LOGIN_MAX)
		return NULL;
	login = pp_printf("%.*s", (int)len, text);
	for (i = 0; i < len; i++) {
		if (login[i] >= 'A' && login[i] <= 'Z')
			login[i] = (char)(login[i] - 'A' + 'a');
		if (strchr(allowed, login[i]) == NULL) {
			free(login);
			return NULL;
		}
	}
	return login;
}

static void sign_in(struct visit *visit, char *login)
{
	const char *fixed = pp_setting_text(visit->institution, "sub");

	if (visit->login != NULL && strcmp(visit->login, login) == 0) {
		free(login);
		return;
	}
	forget_choices(visit);
	visit->login = login;
	visit->subject = fixed != NULL ? pp_strdup(fixed) : pp_bank_subject(visit->institution, login);
}

static void take_login(struct visit *visit, const struct pp_request *req, struct pp_answer *answer)
{
	const char *given = pp_param(req, "login");
	const char *password = pp_param(req, "password");
	char *login = clean_login(given != NULL ? given : "ana");

	if (login == NULL) {
		ask_again(visit, LOGIN, "Type your login: up to 64 letters, digits, and any of . _ - + @", answer);
	} else if (password != NULL && strcmp(password, "wrong") == 0) {
		free(visit->tried);
		visit->tried = login;
		ask_again(visit, LOGIN, "Login and password don\xe2\x80\x99t fit. Try again with another password.",
			answer);
	} else {
		sign_in(visit, login);
		go_to(visit, asks_question(visit) ? QUESTION : ACCOUNTS, answer);
	}
}

static void take_question(struct visit *visit, const struct pp_request *req, struct pp_answer *answer)
{
	const char *given = pp_param(req, "answer");

	if (given != NULL && given[strspn(given, " \t")] == '\0') {
		ask_again(visit, QUESTION, "Type an answer. Any answer is right.", answer);
		return;
	}
	visit->answered = true;
	go_to(visit, ACCOUNTS, answer);
}

static bool is_ticked(json_object *ticked, const char *id)
{
	if (json_object_is_type(ticked, json_type_array))
		return contains(ticked, id);
	return ticked != NULL && strcmp(json_object_get_string(ticked), id) == 0;
}

static void take_accounts(struct visit *visit, const struct pp_request *req, struct pp_answer *answer)
{
	struct pp_account list[PP_ACCOUNTS_MAX];
	const size_t count = pp_bank_accounts(visit->institution, visit->subject, list);
	json_object *ticked = pp_member(req->params, "account");
	const bool all = ticked == NULL && pp_param(req, "chosen") == NULL;
	json_object *accounts = json_object_new_array();
	size_t i;

	for (i = 0; i < count; i++) {
		if (all || is_ticked(ticked, list[i].id))
			json_object_array_add(accounts, json_object_new_string(list[i].id));
	}
	if (json_object_array_length(accounts) == 0) {
		json_object_put(accounts);
		ask_again(visit, ACCOUNTS, "Tick at least one account, or cancel.", answer);
		return;
	}
	json_object_put(visit->accounts);
	visit->accounts = accounts;
	go_to(visit, CONFIRM, answer);
}

static void copy_answer(struct pp_answer *to, const struct pp_answer *from)
{
	to->status = from->status;
	to->body = from->body != NULL ? pp_strdup(from->body) : NULL;
	to->headers = pp_copy(from->headers);
}

static void finish(
	struct visit *visit, struct pp_request *req, const struct pp_decision *decision, struct pp_answer *answer)
{
	visit->over = true;
	visit->over_at = pp_now_ms();
	pp_authorize_finish(req, visit->params, decision, answer);
	pp_answer_header(answer, "referrer-policy", "no-referrer");
	pp_answer_header(answer, "cache-control", "no-store");
	copy_answer(&visit->last, answer);
	forget_choices(visit);
}

static void take_confirm(struct visit *visit, struct pp_request *req, struct pp_answer *answer)
{
	const struct pp_decision allowed = { visit->subject, visit->accounts, NULL, NULL };
	const char *seen = pp_param(req, "seen");
	char *mark = mark_of(visit);

	if (seen != NULL && strcmp(seen, mark) != 0)
		ask_again(visit, CONFIRM, "Your choice was changed in another tab. Please look at it again.", answer);
	else
		finish(visit, req, &allowed, answer);
	free(mark);
}

static void take(struct visit *visit, enum step step, struct pp_request *req, struct pp_answer *answer)
{
	static const struct pp_decision denied = { NULL, NULL, "access_denied", "The user declined." };

	switch (step) {
	case LOGIN: take_login(visit, req, answer); break;
	case QUESTION: take_question(visit, req, answer); break;
	case ACCOUNTS: take_accounts(visit, req, answer); break;
	case CONFIRM: take_confirm(visit, req, answer); break;
	default: finish(visit, req, &denied, answer); break;
	}
}

/* ---- requests ---------------------------------------------------------------------------- */

void pp_page_begin(struct pp_request *req, struct pp_answer *answer)
{
	struct visit *visit = new_visit(req->params);

	show_login(visit, answer);
	set_cookie(visit, answer);
}

static enum step step_of(const char *name)
{
	enum step step;

	for (step = LOGIN; step < STEPS; step++) {
		if (strcmp(name, step_names[step]) == 0)
			break;
	}
	return step;
}

static void visit_step(struct visit *visit, enum step step, struct pp_request *req, struct pp_answer *answer)
{
	const enum step open = open_step(visit);
	const bool post = strcmp(req->method, "POST") == 0;

	if (step == QUESTION && !asks_question(visit))
		go_to(visit, open, answer);
	else if (post && step == ABORT)
		take(visit, step, req, answer);
	else if (step > open)
		go_to(visit, open, answer);
	else if (post)
		take(visit, step, req, answer);
	else
		show(visit, step, answer);
}

/* The browser forgets the answer to the first click for that to the second. */
static bool is_double_click(const struct visit *visit, enum step step, const struct pp_request *req)
{
	return visit->over && (step == CONFIRM || step == ABORT) && strcmp(req->method, "POST") == 0
		&& pp_now_ms() - visit->over_at < AGAIN_MS;
}

/* at: what follows "/bank/" */
static void bank_page(struct pp_request *req, const char *at, struct pp_answer *answer)
{
	char *id = pp_printf("%.*s", (int)strcspn(at, "/"), at);
	struct visit *visit = find_visit(id);
	const enum step step = at[strlen(id)] == '/' ? step_of(at + strlen(id) + 1) : STEPS;

	free(id);
	if (visit == NULL)
		pp_page_error(answer, 404, "This sign-in has ended",
			"It was open for more than 15 minutes, or the bank was "
			"started anew. Go back to the app that you came from, and begin again there.");
	else if (!has_cookie(visit, req))
		pp_page_error(answer, 403, "This sign-in belongs to another browser",
			"A sign-in goes on only where it began, "
			"and needs cookies. Go back to the app, and begin again there in this browser.");
	else if (is_double_click(visit, step, req))
		copy_answer(answer, &visit->last);
	else if (visit->over)
		pp_page_error(answer, 410, "You have answered already",
			"This sign-in is over, and the app knows your answer. "
			"To change it, go back to the app.");
	else if (step == STEPS)
		pp_page_error(answer, 404, "There is no such page", "Go back to the app that you came from.");
	else
		visit_step(visit, step, req, answer);
}

static void icon(const char *file, struct pp_answer *answer)
{
	char *name = pp_printf("%.*s", (int)strcspn(file, "."), file);
	json_object *institution = pp_institution(name);
	char *emblem = pp_emblem(name, "36");

	/* A nested svg element needs a place; everything else it brings along. */
	answer->body = pp_printf(
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 48 48\"><rect width=\"48\" "
		"height=\"48\" rx=\"12\" fill=\"%s\"/><g color=\"#fff\" transform=\"translate(6 6)\">%s</g></svg>",
		pp_text(institution, "tint", "#2d3a52"), emblem);
	answer->status = 200;
	pp_answer_header(answer, "content-type", "image/svg+xml");
	pp_answer_header(answer, "cache-control", "max-age=3600");
	pp_answer_header(answer, "x-content-type-options", "nosniff");
	free(emblem);
	free(name);
}

static void stylesheet(struct pp_answer *answer)
{
	answer->status = 200;
	answer->body = pp_style();
	pp_answer_header(answer, "content-type", "text/css; charset=utf-8");
	pp_answer_header(answer, "cache-control", "max-age=60");
	pp_answer_header(answer, "x-content-type-options", "nosniff");
}

void pp_page(struct pp_request *req, struct pp_answer *answer)
{
	static const char *const methods[] = { "GET", "HEAD", "POST" };
	size_t i;

	for (i = 0; i < 3 && strcmp(req->method, methods[i]) != 0; i++)
		;
	if (i == 3) {
		pp_page_error(
			answer, 405, "This doesn\xe2\x80\x99t work here", "A page can be looked at, or its form sent.");
		pp_answer_header(answer, "allow", "GET, HEAD, POST");
	} else if (strcmp(req->path, "/") == 0) {
		pp_page_start(req, answer);
	} else if (strcmp(req->path, "/style.css") == 0) {
		stylesheet(answer);
	} else if (strcmp(req->path, "/bank/back") == 0) {
		pp_page_back(req, answer);
	} else if (strncmp(req->path, "/bank/icon/", 11) == 0) {
		icon(req->path + 11, answer);
	} else if (strncmp(req->path, "/bank/", 6) == 0) {
		bank_page(req, req->path + 6, answer);
	} else {
		pp_page_error(answer, 404, "There is no such page", "The start page lists the banks that there are.");
	}
}
