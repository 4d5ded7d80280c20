/* SPDX-License-Identifier: MIT
 * The start page: what this is, which banks there are and how they behave, where
 * an app finds what; and the page where trying a bank out ends.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>

static const char intro[] =
	"<div class=\"text\"><h1>A bank to practise on</h1>\n"
	"<p class=\"lead\">This program plays a network of banks, so that an app can learn to link accounts. All banks, "
	"people and money in it are invented, and it tells its secrets to whoever asks: use it on your own machine only, "
	"and give it no real password.</p>\n"
	"<p>To link an account, begin in your app. To see a bank&rsquo;s pages without an app, choose &ldquo;Try it&rdquo;. "
	"Customers of every bank are <code>ana</code>, <code>ben</code> and <code>chris</code>, with any password.</p></div>\n"
	"<section><h2>Banks and their habits</h2>\n"
	"{=off}"
	"<ul class=\"banks\">\n";
static const char bank
	[] = "<li class=\"bank-{name}\"><h3 class=\"sign\"><span class=\"logo\">{=emblem}</span><span><b>{title}</b>"
	     "<small>{kind}, connector <code>{name}</code></small></span></h3>\n"
	     "<p class=\"about\">{about}</p>\n"
	     "<ul class=\"habits\" aria-label=\"Settings of {title}\">{=habits}</ul>\n"
	     "<a class=\"button quiet\" href=\"{href}\">Try it<span class=\"unseen\">: {title}</span></a></li>\n";
static const char ending[] =
	"</ul></section>\n"
	"<section><h2>Where an app finds what</h2>\n"
	"<table class=\"plain\">\n"
	"<tr><th scope=\"row\">Issuer</th><td><code>{issuer}</code></td></tr>\n"
	"<tr><th scope=\"row\">Consent</th><td><code>{front}/auth</code></td></tr>\n"
	"<tr><th scope=\"row\">Tokens</th><td><code>{base}/token</code>, <code>{base}/revoke</code></td></tr>\n"
	"<tr><th scope=\"row\">Keys</th><td><code>{base}/keys</code></td></tr>\n"
	"<tr><th scope=\"row\">Data</th><td><code>{base}/accounts/v2/mikomo</code>, and <code>accounts-info</code>, "
	"<code>balances</code>, <code>transactions</code>, <code>customers</code></td></tr>\n"
	"<tr><th scope=\"row\">Banks</th><td><a href=\"/institutions\"><code>{base}/institutions</code></a></td></tr>\n"
	"</table></section>\n";

/* Seconds and milliseconds as people say them. */
static char *span_of(int64_t ms)
{
	static const struct {
		int64_t ms;
		const char *name;
	} units[] = { { 3600000, "h" }, { 60000, "min" }, { 1000, "s" } };
	size_t i;

	for (i = 0; i < 3; i++) {
		if (ms >= units[i].ms && ms % units[i].ms == 0)
			return pp_printf("%lld %s", (long long)(ms / units[i].ms), units[i].name);
	}
	return pp_printf("%lld ms", (long long)ms);
}

static void add_habit(struct pp_draft *draft, const char *label, const char *text)
{
	json_object *values = pp_values("label", label, "text", text, NULL);

	pp_draft_fill(draft, "<li>{label}: {text}</li>", values);
	json_object_put(values);
}

static void add_span(struct pp_draft *draft, const char *label, int64_t ms)
{
	char *text = span_of(ms);

	add_habit(draft, label, text);
	free(text);
}

static const char *rotation_words(const char *rotation)
{
	static const char *const words[][2] = { { "dex", "each time, old one refused" },
		{ "hydra", "each time, reuse ends the link" }, { "none", "never" }, { "same", "never, but repeated" } };
	size_t i;

	for (i = 0; i < 4; i++) {
		if (strcmp(words[i][0], rotation) == 0)
			return words[i][1];
	}
	return rotation;
}

static char *habits_of(json_object *institution)
{
	json_object *habits = pp_member(institution, "habits");
	const int64_t window = pp_number(habits, "reuse_window_ms", 0);
	const int64_t idle = pp_number(habits, "refresh_idle_ttl", 0);
	const int64_t bearer = pp_number(habits, "id_token_ttl", 3600);
	struct pp_draft draft = { NULL, 0, 0 };

	add_span(&draft, "Bearer", (bearer == 86399 ? 86400 : bearer) * 1000);
	add_habit(&draft, "Rotation", rotation_words(pp_text(habits, "rotation", "")));
	if (window > 0)
		add_span(&draft, "Grace", window);
	if (idle > 0)
		add_span(&draft, "Idle at most", idle * 1000);
	if (pp_text(institution, "question", NULL) != NULL)
		add_habit(&draft, "Sign-in", "asks a question");
	return draft.text;
}

/* A consent URL as an app would make it, for the first client that is registered. */
static char *try_url(const char *institution)
{
	json_object *clients = pp_setting(NULL, "clients");
	const char *client = "";
	char *back = pp_printf("%s/bank/back", pp_front_url());
	char *back_coded = pp_form_encode(back);
	char *client_coded;
	char *url;

	if (json_object_is_type(clients, json_type_object)) {
		json_object_object_foreach(clients, name, secret)
		{
			(void)secret;
			client = name;
			break;
		}
	}
	client_coded = pp_form_encode(client);
	url = pp_printf("/auth?client_id=%s&connector=%s&redirect_uri=%s&response_type=code&scope=openid+offline_access"
			"&state=only-trying",
		client_coded, institution, back_coded);
	free(client_coded);
	free(back_coded);
	free(back);
	return url;
}

static void add_bank(struct pp_draft *main, const char *name, json_object *institution)
{
	char *emblem = pp_emblem(name, "26");
	char *habits = habits_of(institution);
	char *href = try_url(name);
	json_object *values = pp_values("name", name, "title", pp_text(institution, "title", name), "kind",
		pp_text(institution, "kind", "bank"), "about", pp_text(institution, "about", ""), "emblem", emblem,
		"habits", habits, "href", href, NULL);

	pp_draft_fill(main, bank, values);
	json_object_put(values);
	free(href);
	free(habits);
	free(emblem);
}

void pp_page_start(struct pp_request *req, struct pp_answer *answer)
{
	const struct pp_frame frame = { NULL, "Start", 0, true };
	char *issuer = pp_issuer();
	json_object *values = pp_values("issuer", issuer, "base", pp_base_url(), "front", pp_front_url(), "off",
		pp_setting_flag(NULL, "habits")
			? NULL
			: "<p class=\"note\">Habits are switched off: all banks behave as the "
			  "general settings say. Start with <code>--set '{\"habits\":true}'</code>, or set it at the control port.</p>\n",
		NULL);
	struct pp_draft main = { NULL, 0, 0 };

	(void)req;
	pp_draft_fill(&main, intro, values);
	json_object_object_foreach(pp_institutions(), name, institution) add_bank(&main, name, institution);
	pp_draft_fill(&main, ending, values);
	json_object_put(values);
	free(issuer);
	pp_page_answer(answer, 200, &frame, &main);
}

/* ---- the end of a try ----------------------------------------------------------------- */

static void add_param(struct pp_draft *main, const char *name, const char *text)
{
	json_object *values = pp_values("name", name, "text", text, NULL);

	pp_draft_fill(
		main, "<tr><th scope=\"row\"><code>{name}</code></th><td><code>{text}</code></td></tr>\n", values);
	json_object_put(values);
}

void pp_page_back(struct pp_request *req, struct pp_answer *answer)
{
	const struct pp_frame frame = { NULL, "Back at the app", 0, true };
	struct pp_draft main = { NULL, 0, 0 };

	pp_draft_add(&main,
		"<div class=\"text\"><h1>Here the app would take over</h1>\n<p class=\"lead\">The bank sent your "
		"browser back, and with it this for the app:</p>\n<table class=\"plain\">\n");
	if (req->params == NULL || json_object_object_length(req->params) == 0)
		pp_draft_add(&main, "<tr><td>nothing</td></tr>\n");
	if (req->params != NULL) {
		json_object_object_foreach(req->params, name, value)
			add_param(&main, name, json_object_get_string(value));
	}
	pp_draft_add(
		&main, "</table>\n<p class=\"acts\"><a class=\"button main\" href=\"/\">To the banks</a></p></div>\n");
	pp_page_answer(answer, 200, &frame, &main);
}
