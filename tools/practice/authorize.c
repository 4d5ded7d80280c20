/* SPDX-License-Identifier: MIT
 * The authorization endpoint (RFC 6749, 4.1.1): checks the request, has the
 * pages ask the user or consents at once, and sends the browser back.
 */
#include "practice.h"

#include <stdlib.h>
#include <string.h>

/* ---- the request -------------------------------------------------------------------------- */

/* Akoya's own words, on a page: the browser is not sent back to a stranger. Takes text. */
static bool refuse_page(struct pp_answer *answer, char *text)
{
	pp_page_error(answer, 400, "This request can't be served", text);
	free(text);
	return false;
}

static bool registered(const char *redirect_uri)
{
	json_object *list = pp_setting(NULL, "redirect_uris");
	size_t i;

	if (redirect_uri == NULL || *redirect_uri == '\0')
		return false;
	if (list == NULL)
		return true;
	for (i = 0; i < json_object_array_length(list); i++) {
		json_object *one = json_object_array_get_idx(list, i);

		if (json_object_is_type(one, json_type_string)
			&& strcmp(json_object_get_string(one), redirect_uri) == 0)
			return true;
	}
	return false;
}

bool pp_authorize_check(struct pp_request *req, json_object *params, struct pp_answer *answer)
{
	const char *client = pp_text(params, "client_id", "");
	const char *redirect_uri = pp_text(params, "redirect_uri", NULL);
	const char *connector = pp_text(params, "connector", "");

	(void)req;
	if (!json_object_object_get_ex(pp_setting(NULL, "clients"), client, NULL))
		return refuse_page(answer, pp_printf("Invalid client_id (\"%s\").", client));
	if (!registered(redirect_uri))
		return refuse_page(answer,
			pp_printf("Unregistered redirect_uri (\"%s\").", redirect_uri != NULL ? redirect_uri : ""));
	if (pp_setting_flag(NULL, "habits") && pp_member(pp_institutions(), connector) == NULL)
		return refuse_page(answer, pp_strdup("Invalid ConnectorID"));
	return true;
}

bool pp_has_word(const char *list, const char *word)
{
	const size_t len = strlen(word);

	while (*list != '\0') {
		const size_t next = strcspn(list, " ");

		if (next == len && strncmp(list, word, len) == 0)
			return true;
		list += next + (list[next] == ' ');
	}
	return false;
}

/* What the redirect says is wrong with the request; NULL if nothing is. Only
 * where banks have their habits: tests without them send what they like. */
static const char *fault_of(json_object *params, const char **description)
{
	if (!pp_setting_flag(NULL, "habits"))
		return NULL;
	if (strcmp(pp_text(params, "response_type", ""), "code") != 0) {
		*description = "Invalid response type";
		return "invalid_request";
	}
	if (pp_akoya_words(pp_text(params, "connector", "")) && !pp_has_word(pp_text(params, "scope", ""), "openid")) {
		*description = "Missing required scope(s) [\"openid\"].";
		return "invalid_scope";
	}
	return NULL;
}

static char *subject_of(json_object *params)
{
	const char *fixed = pp_setting_text(NULL, "sub");
	const char *hint = pp_text(params, "login_hint", pp_text(params, "connector", "1"));

	return fixed != NULL ? pp_strdup(fixed) : pp_printf("sub-%s", hint);
}

void pp_authorize(struct pp_request *req, struct pp_answer *answer)
{
	struct pp_decision decision = { 0 };
	char *subject;

	if (!pp_authorize_check(req, req->params, answer))
		return;
	decision.error = fault_of(req->params, &decision.error_description);
	if (pp_text(req->act, "error", NULL) != NULL) {
		decision.error = pp_text(req->act, "error", NULL);
		decision.error_description = pp_text(req->act, "error_description", NULL);
	}
	if (decision.error == NULL && pp_setting_flag(NULL, "pages")) {
		pp_page_begin(req, answer);
		return;
	}
	subject = subject_of(req->params);
	decision.subject = subject;
	pp_authorize_finish(req, req->params, &decision, answer);
	free(subject);
}

/* ---- the way back ----------------------------------------------------------------------------- */

static char *taken(json_object *params, const char *name)
{
	const char *text = pp_text(params, name, NULL);

	return text != NULL ? pp_strdup(text) : NULL;
}

static const char *new_code(struct pp_request *req, json_object *params, const struct pp_decision *decision)
{
	const char *connector = pp_text(params, "connector", "");
	const int64_t ends = pp_now_ms() + pp_setting_number(connector, "code_ttl") * 1000;
	struct pp_token *code = pp_token_new(PP_CODE, NULL, ends, pp_number(req->rec, "n", -1));

	code->client = taken(params, "client_id");
	code->redirect_uri = taken(params, "redirect_uri");
	code->nonce = taken(params, "nonce");
	code->challenge = taken(params, "code_challenge");
	code->scope = pp_strdup(pp_text(params, "scope", ""));
	code->connector = pp_strdup(connector);
	code->subject = pp_strdup(decision->subject);
	code->accounts = pp_copy(decision->accounts);
	code->auth_time = pp_now_ms() / 1000;
	pp_token_write(code);
	return code->text;
}

static json_object *response_params(struct pp_request *req, json_object *params, const struct pp_decision *decision)
{
	json_object *response = json_object_new_object();
	char *issuer = pp_issuer();

	if (decision->error == NULL) {
		json_object_object_add(response, "code", json_object_new_string(new_code(req, params, decision)));
	} else {
		json_object_object_add(response, "error", json_object_new_string(decision->error));
		if (decision->error_description != NULL)
			json_object_object_add(
				response, "error_description", json_object_new_string(decision->error_description));
	}
	/* Akoya writes it even if none was sent. */
	json_object_object_add(response, "state", json_object_new_string(pp_text(params, "state", "")));
	if (pp_setting_flag(NULL, "iss_parameter"))
		json_object_object_add(response, "iss", json_object_new_string(issuer));
	pp_merge(response, pp_member(req->act, "set"));
	free(issuer);
	return response;
}

struct pairs {
	char *text;
	bool html;
};

static void add_pair(struct pairs *pairs, const char *name, json_object *member)
{
	const char *value = member != NULL ? json_object_get_string(member) : "null";
	char *shown_name = pairs->html ? pp_html(name) : pp_form_encode(name);
	char *shown_value = pairs->html ? pp_html(value) : pp_form_encode(value);
	char *longer = pairs->html
		? pp_printf("%s<input type=\"hidden\" name=\"%s\" value=\"%s\"/>", pairs->text, shown_name, shown_value)
		: pp_printf("%s%s%s=%s", pairs->text, *pairs->text != '\0' ? "&" : "", shown_name, shown_value);

	free(shown_name);
	free(shown_value);
	free(pairs->text);
	pairs->text = longer;
}

/* As a query or as hidden inputs; a list gives the name several times. */
static char *pairs_of(json_object *response, bool html)
{
	struct pairs pairs = { pp_strdup(""), html };

	json_object_object_foreach(response, name, value)
	{
		size_t i;

		if (!json_object_is_type(value, json_type_array)) {
			add_pair(&pairs, name, value);
			continue;
		}
		for (i = 0; i < json_object_array_length(value); i++)
			add_pair(&pairs, name, json_object_array_get_idx(value, i));
	}
	return pairs.text;
}

/* OAuth 2.0 Form Post Response Mode. The button is for browsers without scripts. */
static char *form_page(const char *action, json_object *response)
{
	char *inputs = pairs_of(response, true);
	char *shown = pp_html(action);
	char *page = pp_printf(
		"<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Back to the app</title>"
		"<link rel=\"icon\" href=\"data:,\">"
		"</head><body onload=\"document.forms[0].submit()\"><form method=\"post\" action=\"%s\">%s"
		"<noscript><button>Continue</button></noscript></form></body></html>",
		shown, inputs);

	free(inputs);
	free(shown);
	return page;
}

void pp_authorize_finish(
	struct pp_request *req, json_object *params, const struct pp_decision *decision, struct pp_answer *answer)
{
	const char *back = pp_text(params, "redirect_uri", "");
	json_object *response = response_params(req, params, decision);
	char *query;

	if (strcmp(pp_text(params, "response_mode", ""), "form_post") == 0) {
		pp_answer_html(answer, 200, form_page(back, response));
	} else {
		query = pairs_of(response, false);
		answer->status = 303;
		pp_answer_header(answer, "location", "%s%s%s", back, strchr(back, '?') != NULL ? "&" : "?", query);
		free(query);
	}
	pp_answer_header(answer, "cache-control", "no-store");
	pp_answer_header(answer, "referrer-policy", "no-referrer");
	json_object_put(response);
}
