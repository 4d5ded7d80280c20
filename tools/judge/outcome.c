/* SPDX-License-Identifier: MIT
 * What each answer meant to who asked: the table of outcomes in doc/refresh.md,
 * written down here a second time, so that the product is not its own judge.
 */
#include "judge.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Any run of white space equals any other. */
static bool begins_like(const char *text, const char *prefix)
{
	while (is_blank(*text))
		text++;
	for (; *prefix != '\0'; prefix++) {
		if (is_blank(*prefix)) {
			if (!is_blank(*text))
				return false;
			while (is_blank(*text))
				text++;
			while (is_blank(prefix[1]))
				prefix++;
		} else if (*text++ != *prefix) {
			return false;
		}
	}
	return true;
}

static bool rule_fits(const struct al_definite_rule *rule, int status, const struct jd_request *request)
{
	if (rule->status != 0 ? status != rule->status : status != 400 && status != 401 && status != 403)
		return false;
	if (strcmp(request->error, rule->error) != 0)
		return false;
	if (rule->description_prefix == NULL)
		return true;
	return request->description != NULL && begins_like(request->description, rule->description_prefix);
}

static bool is_definite(const struct judge *judge, int status, const struct jd_request *request)
{
	/* Without a config: what Dex and everybody else says. */
	static const struct al_definite_rule usual[] = { { 0, (char *)"invalid_grant", NULL },
		{ 0, (char *)"invalid_request", (char *)"Refresh token " }, { 0, NULL, NULL } };
	const struct al_provider_config *config = jd_config_of(judge, request);
	const struct al_definite_rule *rule = config != NULL && config->definite != NULL ? config->definite : usual;

	for (; rule->error != NULL; rule++) {
		if (rule_fits(rule, status, request))
			return true;
	}
	return false;
}

static bool turned_away(int status)
{
	return status == 408 || status == 425 || status == 429 || status == 503;
}

static enum jd_class class_of(const struct judge *judge, const struct jd_request *request)
{
	int status = request->status;

	if (status >= 200 && status < 300 && request->error != NULL)
		status = 400; /* an error in a 200 */
	if (status >= 200 && status < 300)
		return request->refresh_token != NULL || request->access_token != NULL || request->id_token != NULL
			? JD_ANSWER
			: JD_UNKNOWN;
	if (turned_away(status))
		return JD_TURNED_AWAY;
	if (status < 400 || status >= 500)
		return JD_UNKNOWN;
	if (request->error == NULL)
		return JD_TURNED_AWAY; /* a firewall's page */
	if (request->refresh && is_definite(judge, status, request))
		return JD_REFUSED;
	if (strcmp(request->error, "invalid_client") == 0 || strcmp(request->error, "unauthorized_client") == 0)
		return JD_OPERATOR;
	return request->refresh ? JD_OURS : JD_REFUSED;
}

void jd_judge_outcomes(struct judge *judge)
{
	size_t i;

	for (i = 0; i < judge->request_count; i++) {
		struct jd_request *request = &judge->requests[i];

		request->class = class_of(judge, request);
		if (request->class == JD_UNKNOWN && request->delivered == JD_YES)
			request->cause = "nothing that could be used";
		if (judge->killed && request->delivered == JD_YES) {
			request->delivered = JD_MAYBE;
			request->cause = "sent whole; a process was killed";
		}
	}
}

bool jd_may_have_arrived(const struct jd_request *request)
{
	return request->class == JD_ANSWER && request->delivered != JD_NO;
}
