/* SPDX-License-Identifier: MIT
 * Calls of the data API with a bearer, over libcurl. Shows the one pattern that every
 * such call needs: a bearer that is refused with 401 is reported with its generation,
 * and the call is made once more with a fresh one; a second refusal is an answer.
 *
 * Each call has a handle of its own and is bounded in time and size. The bearer goes to
 * the data API only: no redirect is followed, no proxy is asked, and it is wiped here.
 */
#include "example.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX ((size_t)1024 * 1024)
enum { CONNECT_MS = 4000, CALL_MS = 8000 };

struct reply {
	long status; /* 0: none */
	struct ex_text body;
	char trouble[CURL_ERROR_SIZE]; /* if there is none */
};

static size_t take_part(char *data, size_t size, size_t count, void *ctx)
{
	struct reply *reply = ctx;
	const size_t len = size * count;

	if (len > BODY_MAX - reply->body.len || memchr(data, '\0', len) != NULL)
		return 0; /* curl gives up */
	ex_add(&reply->body, "%.*s", (int)len, data);
	return len;
}

static bool set_up(CURL *curl, const struct ex_host *host, const char *url, const char *bearer, struct reply *reply)
{
	CURLcode rc = curl_easy_setopt(curl, CURLOPT_URL, url);

	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_PROXY, "");
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)CALL_MS);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reply->trouble);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_part);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
	if (rc == CURLE_OK && host->ca_file != NULL)
		rc = curl_easy_setopt(curl, CURLOPT_CAINFO, host->ca_file);
	if (rc == CURLE_OK && bearer != NULL)
		rc = curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
	if (rc == CURLE_OK && bearer != NULL)
		rc = curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, bearer);
	return rc == CURLE_OK;
}

/* bearer NULL: without one. */
static void fetch(const struct ex_host *host, const char *url, const char *bearer, struct reply *reply)
{
	CURL *curl = curl_easy_init();
	CURLcode rc = CURLE_FAILED_INIT;

	memset(reply, 0, sizeof(*reply));
	if (curl != NULL && set_up(curl, host, url, bearer, reply))
		rc = curl_easy_perform(curl);
	if (rc == CURLE_OK)
		(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
	else if (reply->trouble[0] == '\0')
		snprintf(reply->trouble, sizeof(reply->trouble), "%s", curl_easy_strerror(rc));
	curl_easy_cleanup(curl);
}

/* The body as JSON; NULL if it is none. */
static json_object *parse(const struct reply *reply)
{
	return reply->body.text != NULL ? json_tokener_parse(reply->body.text) : NULL;
}

static json_object *member(json_object *object, const char *name)
{
	json_object *value = NULL;

	return json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, name, &value) ? value
														: NULL;
}

/* ---- accounts ------------------------------------------------------------------------------ */

static char *accounts_url(const struct ex_host *host, const char *institution)
{
	char *name = curl_easy_escape(NULL, institution, 0);
	char *url = ex_printf("%s/accounts/v2/%s", host->data_url, name != NULL ? name : "");

	curl_free(name);
	return url;
}

/* The data API's own code, e.g. {"code": 602}. */
static void report(const struct ex_host *host, const char *user, const char *institution,
	const struct ex_accounts *accounts, const struct reply *reply)
{
	json_object *json = parse(reply);
	json_object *code = member(json, "code");
	char text[64]; /* 63 is the most that the plugin takes */

	snprintf(text, sizeof(text), "%s", code != NULL ? json_object_get_string(code) : "");
	ex_rejected(host, user, institution, accounts->info.generation, (int)reply->status, text);
	json_object_put(json);
}

static acctlink_status ask(const struct ex_host *host, const char *user, const char *institution, const char *url,
	struct ex_accounts *accounts, struct reply *reply, acctlink_error *err)
{
	char *bearer = NULL;
	const acctlink_status status = ex_bearer(host, user, institution, false, &bearer, &accounts->info, err);

	if (status != ACCTLINK_OK)
		return status;
	fetch(host, url, bearer, reply);
	ex_wipe(&bearer);
	accounts->http_status = reply->status;
	if (reply->status == 401)
		report(host, user, institution, accounts, reply);
	return ACCTLINK_OK;
}

static void read_accounts(const struct reply *reply, struct ex_accounts *accounts)
{
	json_object *json = reply->status == 200 ? parse(reply) : NULL;

	if (json_object_is_type(member(json, "accounts"), json_type_array)) {
		accounts->json = json;
		return;
	}
	json_object_put(json);
	if (reply->status == 0) {
		snprintf(accounts->problem, sizeof(accounts->problem), "The bank does not answer.");
		fprintf(stderr, "example: no answer from the data API: %s\n", reply->trouble);
	} else if (reply->status == 401) {
		snprintf(accounts->problem, sizeof(accounts->problem),
			"The bank refuses our access, and a fresh one as well.");
	} else if (reply->status == 200) {
		snprintf(accounts->problem, sizeof(accounts->problem), "The bank's answer can't be read.");
	} else {
		snprintf(accounts->problem, sizeof(accounts->problem),
			"The bank does not show the accounts (HTTP %ld).", reply->status);
	}
}

acctlink_status ex_accounts(const struct ex_host *host, const char *user, const char *institution,
	struct ex_accounts *accounts, acctlink_error *err)
{
	struct reply reply = { 0 };
	char *url = accounts_url(host, institution);
	acctlink_status status;

	memset(accounts, 0, sizeof(*accounts));
	status = ask(host, user, institution, url, accounts, &reply, err);
	if (status == ACCTLINK_OK && reply.status == 401) {
		free(reply.body.text);
		memset(&reply, 0, sizeof(reply));
		status = ask(host, user, institution, url, accounts, &reply, err);
		accounts->repeated = status == ACCTLINK_OK && reply.status != 401;
	}
	if (status == ACCTLINK_OK)
		read_accounts(&reply, accounts);
	free(reply.body.text);
	free(url);
	return status;
}

/* ---- institutions ------------------------------------------------------------------------------ */

static char *text_of(json_object *object, const char *name)
{
	json_object *value = member(object, name);

	return ex_printf("%s", json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "");
}

static void add_institution(struct ex_host *host, json_object *json)
{
	struct ex_institution *one = &host->institutions[host->institution_count];

	one->name = text_of(json, "name");
	one->title = text_of(json, "title");
	one->about = text_of(json, "about");
	if (one->name[0] != '\0' && one->title[0] != '\0') {
		host->institution_count++;
		return;
	}
	free(one->name);
	free(one->title);
	free(one->about);
	memset(one, 0, sizeof(*one));
}

bool ex_fetch_institutions(struct ex_host *host, char *problem, size_t cap)
{
	char *url = ex_printf("%s/institutions", host->data_url);
	struct reply reply;
	json_object *json;
	json_object *list;
	size_t i;

	fetch(host, url, NULL, &reply);
	json = reply.status == 200 ? parse(&reply) : NULL;
	list = member(json, "institutions");
	for (i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list)
		&& host->institution_count < EX_INSTITUTIONS_MAX;
		i++)
		add_institution(host, json_object_array_get_idx(list, i));
	if (host->institution_count == 0)
		snprintf(problem, cap, "%s names no institutions: %s (HTTP %ld)", url,
			reply.status == 0 ? reply.trouble : "a list was expected", reply.status);
	json_object_put(json);
	free(reply.body.text);
	free(url);
	return host->institution_count > 0;
}
