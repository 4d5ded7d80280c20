/* SPDX-License-Identifier: MIT
 * A browser without a screen, on libcurl's easy interface: keeps cookies,
 * follows redirects one by one, fills the certified server's forms and stops
 * where the provider sends it back to the application.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

struct th_browser {
	CURL *curl;
	char *ca_file;
	char error[CURL_ERROR_SIZE];
};

void th_answer_clear(struct th_answer *answer)
{
	free(answer->body);
	free(answer->location);
	free(answer->content_type);
	memset(answer, 0, sizeof(*answer));
}

static void init_curl(void)
{
	th_check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, "curl_global_init");
}

struct th_browser *th_browser_new(const char *ca_file)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct th_browser *browser = calloc(1, sizeof(*browser));

	pthread_once(&once, init_curl);
	th_check(browser != NULL, "no memory");
	browser->curl = curl_easy_init();
	th_check(browser->curl != NULL, "curl_easy_init");
	if (ca_file != NULL)
		browser->ca_file = th_printf("%s", ca_file);
	th_check(curl_easy_setopt(browser->curl, CURLOPT_COOKIEFILE, "") == CURLE_OK, "cookies");
	return browser;
}

void th_browser_free(struct th_browser **browser)
{
	if (*browser == NULL)
		return;
	curl_easy_cleanup((*browser)->curl);
	free((*browser)->ca_file);
	free(*browser);
	*browser = NULL;
}

static size_t take_body(char *data, size_t size, size_t count, void *ctx)
{
	struct th_answer *answer = ctx;
	const size_t len = size * count;
	char *bigger = realloc(answer->body, answer->len + len + 1);

	th_check(bigger != NULL, "no memory");
	memcpy(bigger + answer->len, data, len);
	answer->body = bigger;
	answer->len += len;
	answer->body[answer->len] = '\0';
	return len;
}

/* A write to a dead TLS connection raises SIGPIPE. libcurl's own cure changes
 * the whole process, which would hide that fault in the plugin. */
static CURLcode perform_without_sigpipe(CURL *curl)
{
	const struct timespec at_once = { 0, 0 };
	sigset_t pipe;
	sigset_t old;
	CURLcode rc;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	rc = curl_easy_perform(curl);
	sigtimedwait(&pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static void read_info(CURL *curl, struct th_answer *answer)
{
	const char *location = NULL;
	const char *type = NULL;

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
	curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &location);
	curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
	answer->location = location != NULL ? th_printf("%s", location) : NULL;
	answer->content_type = type != NULL ? th_printf("%s", type) : NULL;
	if (answer->body == NULL)
		answer->body = th_printf("%s", "");
}

bool th_browser_go(struct th_browser *browser, const char *method, const char *url, const char *const *headers,
	const char *body, struct th_answer *answer)
{
	CURL *curl = browser->curl;
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	CURLcode rc;

	memset(answer, 0, sizeof(*answer));
	for (; headers != NULL && *headers != NULL; headers++)
		list = curl_slist_append(list, *headers);
	th_check(list != NULL, "no memory");
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, browser->error);
	curl_easy_setopt(curl, CURLOPT_CAINFO, browser->ca_file);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
	if (body != NULL) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, -1L);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	} else {
		curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	rc = perform_without_sigpipe(curl);
	curl_slist_free_all(list);
	read_info(curl, answer);
	return rc == CURLE_OK;
}

/* ---- parameters and forms ----------------------------------------------- */

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c != '\0' ? strchr(digits, c | 0x20) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

static char *form_decode(const char *text, size_t len)
{
	char *out = calloc(1, len + 1);
	size_t used = 0;
	size_t i;

	th_check(out != NULL, "no memory");
	for (i = 0; i < len; i++) {
		if (text[i] == '%' && i + 2 < len && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
			out[used++] = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
			i += 2;
		} else {
			out[used++] = text[i] == '+' ? ' ' : text[i];
		}
	}
	return out;
}

char *th_param(const char *url, const char *name)
{
	const char *at = strchr(url, '?');
	const size_t name_len = strlen(name);

	for (at = at != NULL ? at + 1 : url; *at != '\0';) {
		const size_t len = strcspn(at, "&#");

		if (len > name_len && strncmp(at, name, name_len) == 0 && at[name_len] == '=')
			return form_decode(at + name_len + 1, len - name_len - 1);
		at += len;
		if (*at != '&')
			break;
		at++;
	}
	return NULL;
}

/* Undoes &#60; &#x3c; &lt; &gt; &amp; &quot; in place. */
static void unescape_html(char *text)
{
	static const struct {
		const char *name;
		char c;
	} names[] = { { "&lt;", '<' }, { "&gt;", '>' }, { "&amp;", '&' }, { "&quot;", '"' } };
	char *to = text;

	while (*text != '\0') {
		char *end = NULL;
		size_t i;

		if (strncmp(text, "&#", 2) == 0) {
			const long c = text[2] == 'x' ? strtol(text + 3, &end, 16) : strtol(text + 2, &end, 10);

			if (*end == ';' && c > 0 && c < 128) {
				*to++ = (char)c;
				text = end + 1;
				continue;
			}
		}
		for (i = 0; i < 4 && strncmp(text, names[i].name, strlen(names[i].name)) != 0; i++)
			;
		*to++ = i < 4 ? names[i].c : *text;
		text += i < 4 ? strlen(names[i].name) : 1;
	}
	*to = '\0';
}

/* The value of an attribute of the tag that begins at tag; NULL if absent. */
static char *attribute(const char *tag, const char *name)
{
	char *wanted = th_printf(" %s=\"", name);
	const char *end = strchr(tag, '>');
	const char *at = strstr(tag, wanted);
	char *value = NULL;

	if (at != NULL && end != NULL && at < end) {
		at += strlen(wanted);
		value = th_printf("%.*s", (int)strcspn(at, "\""), at);
		unescape_html(value);
	}
	free(wanted);
	return value;
}

static char *escape(const char *text)
{
	char *coded = curl_easy_escape(NULL, text, 0);
	char *copy;

	th_check(coded != NULL, "no memory");
	copy = th_printf("%s", coded);
	curl_free(coded);
	return copy;
}

static bool ends_with(const char *text, const char *end)
{
	const size_t len = strlen(text);
	const size_t end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* The inputs of a form as a browser would post them: hidden ones, and boxes as if ticked. */
static char *form_body(const char *html)
{
	const char *end = strstr(html, "</form>");
	char *body = th_printf("%s", "");
	const char *at;

	for (at = strstr(html, "<input"); at != NULL && (end == NULL || at < end); at = strstr(at + 1, "<input")) {
		char *name = attribute(at, "name");
		char *value = attribute(at, "value");
		char *name_coded = escape(name != NULL ? name : "");
		char *value_coded = escape(value != NULL ? value : "");
		char *longer = th_printf("%s%s%s=%s", body, *body != '\0' ? "&" : "", name_coded, value_coded);

		free(name);
		free(value);
		free(name_coded);
		free(value_coded);
		free(body);
		body = longer;
	}
	return body;
}

bool th_form(const char *html, const char *ends, const char *holds, char **action, char **body)
{
	const char *at;

	for (at = strstr(html, "<form"); at != NULL; at = strstr(at + 1, "<form")) {
		const char *end = strstr(at, "</form>");
		const char *held = holds != NULL ? strstr(at, holds) : NULL;
		char *target = attribute(at, "action");

		if (target != NULL && ends_with(target, ends) && (holds == NULL || (held != NULL && held < end))) {
			*action = target;
			*body = form_body(at);
			return true;
		}
		free(target);
	}
	return false;
}

/* ---- consent ------------------------------------------------------------ */

static bool at_provider(const struct th_provider *provider, const char *url)
{
	const size_t len = strlen(provider->issuer);

	return url[0] == '/' || (strncmp(url, provider->issuer, len) == 0 && strchr("/?", url[len]) != NULL);
}

/* What to post to the form of a page of the provider. */
static void fill_form(const struct th_provider *provider, const char *html, enum th_choice choice, const char *login,
	char **url, char **body)
{
	const char *form = strstr(html, "<form");
	char *action = form != NULL ? attribute(form, "action") : NULL;

	th_check(action != NULL, "the provider shows a page without a form: %.500s", html);
	*body = th_printf("%s", "");
	if (ends_with(action, "/login")) {
		char *coded = escape(login != NULL ? login : "alice");

		free(*body);
		*body = th_printf("login=%s", coded);
		free(coded);
	} else if (ends_with(action, "/confirm") && choice == TH_DENY) {
		strcpy(strrchr(action, '/'), "/abort");
	}
	*url = th_printf("%s%s", action[0] == '/' ? provider->issuer : "", action);
	free(action);
}

/* True when the browser was sent to the application: *params is what it brings. */
static bool reached_application(const struct th_provider *provider, const struct th_answer *answer, char **params)
{
	const char *form = strstr(answer->body, "<form");
	char *action = form != NULL ? attribute(form, "action") : NULL;
	const char *query;

	if (answer->location != NULL && !at_provider(provider, answer->location)) {
		query = strchr(answer->location, '?');
		*params = th_printf("%s", query != NULL ? query + 1 : "");
	} else if (answer->location == NULL && action != NULL && !at_provider(provider, action)) {
		*params = form_body(answer->body);
	}
	free(action);
	return *params != NULL;
}

char *th_consent_as(const struct th_provider *provider, const char *url, enum th_choice choice, const char *login)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *at = th_printf("%s", url);
	char *body = NULL;
	char *params = NULL;
	int steps;

	for (steps = 0; params == NULL; steps++) {
		struct th_answer answer;
		const bool whole = th_browser_go(browser, body != NULL ? "POST" : "GET", at, NULL, body, &answer);

		th_check(whole, "browser: %s: %s", at, browser->error);
		th_check(steps < 20, "browser: redirected for ever, now at %s", at);
		free(body);
		body = NULL;
		if (!reached_application(provider, &answer, &params)) {
			free(at);
			if (answer.location != NULL) {
				at = th_printf("%s", answer.location);
			} else {
				th_check(answer.status == 200, "browser: HTTP %ld: %.500s", answer.status, answer.body);
				fill_form(provider, answer.body, choice, login, &at, &body);
			}
		}
		th_answer_clear(&answer);
	}
	free(at);
	th_browser_free(&browser);
	return params;
}

char *th_consent(const struct th_provider *provider, const char *url)
{
	return th_consent_as(provider, url, TH_ACCEPT, NULL);
}

long th_userinfo(const struct th_provider *provider, const char *bearer)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *url = th_printf("%s/%s", provider->issuer, provider->kind == TH_CERTIFIED ? "me" : "userinfo");
	char *authorization = th_printf("Authorization: Bearer %s", bearer);
	const char *const headers[] = { authorization, NULL };
	struct th_answer answer;
	long status;

	th_check(th_browser_go(browser, "GET", url, headers, NULL, &answer), "userinfo: %s", browser->error);
	status = answer.status;
	th_answer_clear(&answer);
	free(authorization);
	free(url);
	th_browser_free(&browser);
	return status;
}
