/* SPDX-License-Identifier: MIT
 * What the example host shows. Plain HTML that works without scripts; every text
 * that came from outside goes through ex_html.
 */
#include "example.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the frame -------------------------------------------------------------------------- */

static void add_html(struct ex_text *page, const char *text)
{
	char *shown = ex_html(text);

	ex_add(page, "%s", shown);
	free(shown);
}

static void open_page(struct ex_text *page, const struct ex_session *session, const char *title)
{
	ex_add(page,
		"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s · Pocketbook</title>"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
		"<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">"
		"<link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n",
		title);
	ex_add(page,
		"<header class=\"top\"><a class=\"name\" href=\"/\"><svg viewBox=\"0 0 32 32\" aria-hidden=\"true\">"
		"<path d=\"M6 9a4 4 0 0 1 4-4h14v4H10a1 1 0 0 0 0 2h16v14a2 2 0 0 1-2 2H10a4 4 0 0 1-4-4zm15 8a2 2 0 1 0 0 4 2 2 0"
		" 0 0 0-4z\"/></svg>Pocketbook</a>");
	if (session->user[0] != '\0') {
		ex_add(page,
			"<form method=\"post\" action=\"/sign-out\"><input type=\"hidden\" name=\"csrf\" value=\"%s\"><span>",
			session->csrf);
		add_html(page, session->user);
		ex_add(page, "</span><button class=\"quiet\">Sign out</button></form>");
	}
	ex_add(page, "</header>\n<main>\n");
}

static char *close_page(struct ex_text *page)
{
	ex_add(page,
		"</main>\n<footer>The example host of acctlink. People, banks and money here are invented.</footer>\n"
		"</body></html>\n");
	return page->text;
}

static void add_flash(struct ex_text *page, const struct ex_flash *flash)
{
	if (flash->title[0] == '\0')
		return;
	ex_add(page, "<section id=\"flash\" class=\"flash %s\" role=\"%s\" data-kind=\"%s\" data-status=\"%d\"><h2>",
		flash->status == 0 ? "ok" : "error", flash->status == 0 ? "status" : "alert",
		flash->status == 0 ? "ok" : "error", (int)flash->status);
	add_html(page, flash->title);
	ex_add(page, "</h2><p>");
	add_html(page, flash->text);
	/* An empty href is the page's own address, which is not written into it: it may have a code. */
	ex_add(page, "</p>%s</section>\n", flash->again ? "<a class=\"button\" href=\"\">Try again</a>" : "");
}

/* ---- times -------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* "in 3 minutes", "2 days ago"; the exact time for those who point at it. */
static void add_time(struct ex_text *page, int64_t at_ms)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
	const int64_t away = at_ms - now_ms();
	const int64_t seconds = (away < 0 ? -away : away) / 1000;
	const time_t at = (time_t)(at_ms / 1000);
	char exact[40] = "";
	struct tm parts;
	size_t unit = 0;
	int64_t count;

	while (unit < 3 && seconds < units[unit].seconds)
		unit++;
	count = seconds / units[unit].seconds;
	if (gmtime_r(&at, &parts) != NULL)
		strftime(exact, sizeof(exact), "%Y-%m-%dT%H:%M:%SZ", &parts);
	ex_add(page, "<time datetime=\"%s\" title=\"%s\">", exact, exact);
	if (seconds < 2)
		ex_add(page, "now");
	else
		ex_add(page, "%s%lld %s%s%s", away > 0 ? "in " : "", (long long)count, units[unit].name,
			count == 1 ? "" : "s", away > 0 ? "" : " ago");
	ex_add(page, "</time>");
}

/* ---- words for states ------------------------------------------------------------------------ */

struct words {
	const char *mark; /* of data-state and the class */
	const char *title;
	const char *text;
};

static struct words words_of(const struct ex_link *link)
{
	static const struct words none = { "none", "Not linked", "Link it to see your accounts here." };
	static const struct words by_state[] = {
		{ "none", "Unknown", "" },
		{ "linked", "Linked", "All is well." },
		{ "stale", "Linked, but not refreshed",
			"Your accounts can still be shown. We keep trying to renew the access." },
		{ "relink-required", "Needs your consent again", "" },
		{ "superseded", "Taken over",
			"Another link of the same bank login has taken this one's place. Link it again to have it here." },
		{ "unlinking", "Being unlinked", "It can't be used any more; the bank still has to confirm." },
	};

	if (!link->linked)
		return none;
	return by_state[link->state >= 0 && (size_t)link->state < sizeof(by_state) / sizeof(by_state[0]) ? link->state
													 : 0];
}

static const char *reason_text(int32_t reason)
{
	static const char *const texts[] = {
		[ACCTLINK_REASON_NONE] = "",
		[ACCTLINK_REASON_REVOKED] = "The bank has ended our access. Give your consent again to go on.",
		[ACCTLINK_REASON_CONSENT_EXPIRED] = "Your consent has run out. Renew it to go on.",
		[ACCTLINK_REASON_ROTATION_LOST] =
			"A renewal was lost on its way between the bank and us. Please give your consent again.",
		[ACCTLINK_REASON_SUBJECT_CHANGED] =
			"The bank suddenly answered for somebody else. Please give your consent again.",
		[ACCTLINK_REASON_NO_ID_TOKEN] =
			"The bank sent an answer without the proof that we need. Please give your consent again.",
		[ACCTLINK_REASON_NO_REFRESH_TOKEN] = "The bank gave access for a short while only. Renew it to go on.",
		[ACCTLINK_REASON_OUTCOME_UNKNOWN] = "The bank's answer to the last renewal never came.",
		[ACCTLINK_REASON_PROVIDER_DOWN] = "The bank can't be reached at the moment.",
		[ACCTLINK_REASON_CLIENT_REFUSED] =
			"The bank does not accept this app at the moment. Its operator has to mend that.",
		[ACCTLINK_REASON_ID_TOKEN_UNCHECKED] = "The bank's last answer could not be verified yet.",
		[ACCTLINK_REASON_OUR_FAULT] = "The bank says that our last request was malformed.",
	};

	return reason >= 0 && (size_t)reason < sizeof(texts) / sizeof(texts[0]) ? texts[reason] : "";
}

/* ---- cards --------------------------------------------------------------------------------------- */

static void add_fact(struct ex_text *page, const char *name, const char *value)
{
	ex_add(page, "<div><dt>%s</dt><dd>", name);
	add_html(page, value);
	ex_add(page, "</dd></div>");
}

static void add_fact_time(struct ex_text *page, const char *name, int64_t at_ms)
{
	if (at_ms == 0)
		return;
	ex_add(page, "<div><dt>%s</dt><dd>", name);
	add_time(page, at_ms);
	ex_add(page, "</dd></div>");
}

/* Enough of a subject to tell two apart. */
static void add_subject(struct ex_text *page, const char *subject)
{
	char shown[24];

	if (subject[0] == '\0')
		return;
	snprintf(shown, sizeof(shown), strlen(subject) > 14 ? "%.12s…" : "%.14s", subject);
	add_fact(page, "Bank login", shown);
}

static void add_facts(struct ex_text *page, const struct ex_link *link)
{
	char number[48];

	if (!link->linked)
		return;
	ex_add(page, "<dl>");
	snprintf(number, sizeof(number), "%llu, consent %llu", (unsigned long long)link->generation,
		(unsigned long long)link->epoch);
	add_fact(page, "Token set", number);
	if (link->state != ACCTLINK_STATE_RELINK_REQUIRED) { /* nothing is served or refreshed then */
		add_fact_time(page, "Bearer ends", link->bearer_expires_at_ms);
		add_fact_time(page, "Next refresh", link->next_refresh_at_ms);
	}
	add_fact_time(page, "Consent given", link->authorized_at_ms);
	add_subject(page, link->subject);
	if (link->claim != ACCTLINK_CLAIM_NONE)
		add_fact(page, "Refresh", link->claim == ACCTLINK_CLAIM_OPEN ? "on its way" : "sent, outcome unknown");
	if (link->last_error[0] != '\0')
		add_fact(page, "Last error", link->last_error);
	ex_add(page, "</dl>");
}

static void add_button(struct ex_text *page, const struct ex_session *session, const struct ex_institution *institution,
	const char *action, const char *label, const char *class)
{
	ex_add(page,
		"<form method=\"post\" action=\"/%s\"><input type=\"hidden\" name=\"csrf\" value=\"%s\">"
		"<input type=\"hidden\" name=\"institution\" value=\"",
		action, session->csrf);
	add_html(page, institution->name);
	ex_add(page, "\"><button class=\"%s\">%s<span class=\"unseen\"> ", class, label);
	add_html(page, institution->title);
	ex_add(page, "</span></button></form>");
}

static void add_accounts_link(struct ex_text *page, const struct ex_institution *institution)
{
	ex_add(page, "<a class=\"button main\" href=\"/accounts?institution=");
	add_html(page, institution->name);
	ex_add(page, "\">Accounts<span class=\"unseen\"> at ");
	add_html(page, institution->title);
	ex_add(page, "</span></a>");
}

static void add_actions(struct ex_text *page, const struct ex_session *session,
	const struct ex_institution *institution, const struct ex_link *link)
{
	const bool over = !link->linked || link->state == ACCTLINK_STATE_UNLINKING;
	const bool usable = !over && link->state != ACCTLINK_STATE_SUPERSEDED;

	ex_add(page, "<div class=\"actions\">");
	if (!usable) {
		add_button(page, session, institution, "link", "Link", "main");
	} else if (link->state == ACCTLINK_STATE_RELINK_REQUIRED) {
		add_button(page, session, institution, "renew", "Renew", "main");
	} else {
		add_accounts_link(page, institution);
		add_button(page, session, institution, "renew", "Renew", "");
		add_button(page, session, institution, "refresh", "Refresh", "");
	}
	if (!over)
		add_button(page, session, institution, "unlink", "Unlink", "danger");
	ex_add(page, "</div>");
}

static void add_card(struct ex_text *page, const struct ex_session *session, const struct ex_institution *institution,
	const struct ex_link *link)
{
	const struct words words = words_of(link);
	const char *reason = link->linked ? reason_text(link->reason) : "";

	ex_add(page,
		"<article class=\"card %s\" data-state=\"%s\" data-generation=\"%llu\" data-epoch=\"%llu\" data-institution=\"",
		words.mark, words.mark, (unsigned long long)link->generation, (unsigned long long)link->epoch);
	add_html(page, institution->name);
	ex_add(page, "\"><h2>");
	add_html(page, institution->title);
	ex_add(page, "</h2><p class=\"state\">%s</p><p>%s%s", words.title, words.text,
		*words.text != '\0' && *reason != '\0' ? " " : "");
	add_html(page, reason);
	ex_add(page, "</p>");
	if (!link->linked && institution->about[0] != '\0') {
		ex_add(page, "<p class=\"about\">");
		add_html(page, institution->about);
		ex_add(page, "</p>");
	}
	add_facts(page, link);
	add_actions(page, session, institution, link);
	ex_add(page, "</article>\n");
}

/* ---- events ----------------------------------------------------------------------------------------- */

static const char *event_text(int32_t kind)
{
	static const char *const texts[] = { "", "linked", "consent renewed", "token set refreshed", "refreshing fails",
		"needs a new consent", "healed", "taken over", "unlinked", "revocation confirmed",
		"revocation given up", "consent denied", "consent failed", "less was granted than asked",
		"this app was refused" };

	/* cppcheck-suppress arrayIndexOutOfBoundsCond ; it takes < for <= */
	return kind > 0 && (size_t)kind < sizeof(texts) / sizeof(texts[0]) ? texts[kind] : "something new";
}

static void add_events(struct ex_text *page, const struct ex_host *host, const struct ex_event *events, size_t count)
{
	size_t i;

	if (count == 0)
		return;
	ex_add(page, "<section class=\"events\"><h2>What happened</h2><ol>");
	for (i = 0; i < count; i++) {
		const struct ex_institution *institution = ex_institution(host, events[i].institution);

		ex_add(page, "<li>");
		add_time(page, events[i].at_ms);
		ex_add(page, "<span><b>");
		add_html(page, institution != NULL ? institution->title : events[i].institution);
		ex_add(page, "</b> %s", event_text(events[i].kind));
		if (events[i].generation > 0)
			ex_add(page, " (set %llu)", (unsigned long long)events[i].generation);
		ex_add(page, "</span></li>");
	}
	ex_add(page, "</ol></section>\n");
}

/* ---- pages -------------------------------------------------------------------------------------------- */

char *ex_page_sign_in(const struct ex_host *host, const struct ex_session *session)
{
	static const char *const users[] = { "ana", "ben", "chris" };
	struct ex_text page = { 0 };
	size_t i;

	(void)host;
	open_page(&page, session, "Who are you?");
	add_flash(&page, &session->flash);
	ex_add(&page,
		"<section class=\"welcome\"><h1>Who are you?</h1><p>This app shows your bank accounts in one place. It never"
		" sees a bank password: you sign in at your bank, and acctlink keeps what the bank gives back.</p>"
		"<form method=\"post\" action=\"/sign-in\"><input type=\"hidden\" name=\"csrf\" value=\"%s\"><div class=\"people\">",
		session->csrf);
	for (i = 0; i < sizeof(users) / sizeof(users[0]); i++)
		ex_add(&page, "<button name=\"user\" value=\"%s\"><i aria-hidden=\"true\">%c</i>%s</button>", users[i],
			users[i][0] - 'a' + 'A', users[i]);
	ex_add(&page, "</div></form></section>\n");
	return close_page(&page);
}

char *ex_page_home(const struct ex_host *host, const struct ex_session *session, const struct ex_link *links,
	const struct ex_event *events, size_t event_count)
{
	struct ex_text page = { 0 };
	size_t i;

	open_page(&page, session, "Your banks");
	add_flash(&page, &session->flash);
	ex_add(&page, "<h1>Your banks</h1>\n<div class=\"cards\">\n");
	for (i = 0; i < host->institution_count; i++)
		add_card(&page, session, &host->institutions[i], &links[i]);
	ex_add(&page, "</div>\n");
	add_events(&page, host, events, event_count);
	return close_page(&page);
}

/* ---- accounts ---------------------------------------------------------------------------------------------- */

static json_object *member(json_object *object, const char *name)
{
	json_object *value = NULL;

	return json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, name, &value) ? value
														: NULL;
}

static const char *text_of(json_object *object, const char *name)
{
	json_object *value = member(object, name);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

/* FDX wraps each account in an object that names its kind: {"depositAccount": {…}}. */
static json_object *unwrapped(json_object *account)
{
	json_object *inner = account;

	if (json_object_is_type(account, json_type_object) && json_object_object_length(account) == 1) {
		json_object_object_foreach(account, name, value)
		{
			(void)name;
			inner = value;
		}
	}
	return inner;
}

static json_object *balance_of(json_object *account)
{
	static const char *const names[] = { "currentBalance", "principalBalance", "currentValue", "balance" };
	json_object *balance = NULL;
	size_t i;

	for (i = 0; balance == NULL && i < sizeof(names) / sizeof(names[0]); i++)
		balance = member(account, names[i]);
	return balance;
}

static const char *name_of(json_object *account)
{
	static const char *const names[] = { "nickname", "productName", "accountType" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (text_of(account, names[i])[0] != '\0')
			return text_of(account, names[i]);
	}
	return "Account";
}

/* "-1,234.50 USD" */
static void add_money(struct ex_text *page, double amount, const char *currency)
{
	char digits[400];
	const char *at = digits;
	size_t left;

	snprintf(digits, sizeof(digits), "%.2f", amount);
	if (*at == '-')
		ex_add(page, "%c", *at++);
	for (left = strcspn(at, "."); left > 0; left--)
		ex_add(page, "%c%s", *at++, left > 1 && left % 3 == 1 ? "," : "");
	ex_add(page, "%s ", at);
	add_html(page, currency);
}

static void add_account(struct ex_text *page, json_object *account)
{
	json_object *balance = balance_of(account);
	const char *number = text_of(account, "accountNumberDisplay");

	ex_add(page, "<li data-account=\"");
	add_html(page, text_of(account, "accountId"));
	ex_add(page, "\"><span><b>");
	add_html(page, name_of(account));
	ex_add(page, "</b><small>");
	add_html(page, number);
	ex_add(page, "</small></span><span class=\"money\">");
	if (balance != NULL)
		add_money(page, json_object_get_double(balance), text_of(member(account, "currency"), "currencyCode"));
	else
		ex_add(page, "–");
	ex_add(page, "</span></li>");
}

static void add_account_list(struct ex_text *page, json_object *json)
{
	json_object *list = json_object_is_type(json, json_type_array) ? json : member(json, "accounts");
	const size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	size_t i;

	if (count == 0)
		ex_add(page, "<p>The bank shows no account under this consent.</p>");
	ex_add(page, "<ul class=\"accounts\">");
	for (i = 0; i < count; i++)
		add_account(page, unwrapped(json_object_array_get_idx(list, i)));
	ex_add(page, "</ul>");
}

char *ex_page_accounts(const struct ex_host *host, const struct ex_session *session,
	const struct ex_institution *institution, const struct ex_accounts *accounts)
{
	struct ex_text page = { 0 };

	(void)host;
	open_page(&page, session, "Accounts");
	add_flash(&page, &session->flash);
	ex_add(&page, "<p><a href=\"/\">All banks</a></p><h1>");
	add_html(&page, institution->title);
	ex_add(&page, "</h1>\n");
	if (accounts->json != NULL) {
		add_account_list(&page, accounts->json);
	} else {
		ex_add(&page, "<p>");
		add_html(&page, accounts->problem);
		ex_add(&page, "</p>");
	}
	ex_add(&page, "<p class=\"about\">Fetched with the bearer of token set %llu, which ends ",
		(unsigned long long)accounts->info.generation);
	add_time(&page, accounts->info.expires_at_ms);
	ex_add(&page, ".%s</p>\n",
		accounts->repeated ? " The bank had refused the one before, so a fresh one was fetched." : "");
	return close_page(&page);
}

char *ex_page_problem(const struct ex_host *host, const struct ex_session *session, const struct ex_flash *flash)
{
	struct ex_text page = { 0 };

	(void)host;
	open_page(&page, session, "Not possible");
	ex_add(&page, "<h1>That did not work</h1>\n");
	add_flash(&page, flash);
	ex_add(&page, "<p><a class=\"button main\" href=\"/\">Back to the start</a></p>\n");
	return close_page(&page);
}

/* One pair of a form as a hidden field, so that a browser posts it again as it was. */
static void add_field(struct ex_text *page, const char *pair, size_t len)
{
	const size_t name_len = strcspn(pair, "=&");
	const size_t skip = name_len < len ? name_len + 1 : len;
	char *name = ex_printf("%.*s", (int)name_len, pair);
	char *value = ex_printf("%.*s", (int)(len - skip), pair + skip);

	ex_form_decode(name);
	ex_form_decode(value);
	ex_add(page, "<input type=\"hidden\" name=\"");
	add_html(page, name);
	ex_add(page, "\" value=\"");
	add_html(page, value);
	ex_add(page, "\">");
	ex_wipe(&value); /* may be a code */
	free(name);
}

char *ex_page_repost(const char *form_body, const char *nonce)
{
	static const struct ex_session nobody;
	struct ex_text page = { 0 };
	const char *at = form_body;

	open_page(&page, &nobody, "One moment");
	ex_add(&page,
		"<h1>One moment</h1><p>The bank has sent you back.</p><form id=\"again\" method=\"post\" action=\"/callback\">");
	while (*at != '\0') {
		const size_t len = strcspn(at, "&");

		add_field(&page, at, len);
		at += len + (at[len] == '&');
	}
	ex_add(&page,
		"<button class=\"main\">Continue</button></form><script nonce=\"%s\">document.getElementById('again')"
		".submit()</script>\n",
		nonce);
	return close_page(&page);
}
