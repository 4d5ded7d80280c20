/* SPDX-License-Identifier: MIT
 * The head of an answer: its status and the few fields that we use. What comes
 * from outside is bounded and printable afterwards. No lock.
 */
#include "net/net_int.h"

#include <string.h>

/* Of the last answer: neither 1xx nor trailers. */
static const char *header(CURL *easy, const char *name, size_t index)
{
	struct curl_header *found;

	if (curl_easy_header(easy, name, index, CURLH_HEADER, -1, &found) != CURLHE_OK)
		return NULL;
	return found->value;
}

/* Decimal digits, at most 2^31 - 1 (RFC 9111, 1.2.2); -1 if there is none. */
static int64_t read_seconds(const char *text, const char **end)
{
	int64_t seconds = *text >= '0' && *text <= '9' ? 0 : -1;

	for (; *text >= '0' && *text <= '9'; text++) {
		seconds = seconds * 10 + (*text - '0');
		if (seconds > INT32_MAX)
			seconds = INT32_MAX;
	}
	*end = text;
	return seconds;
}

static int64_t read_date_ms(const char *text)
{
	int64_t seconds = text == NULL ? -1 : (int64_t)curl_getdate(text, NULL);

	return seconds < 0 || seconds > INT64_MAX / 1000 ? -1 : seconds * 1000;
}

/* RFC 9110, 10.2.3. A date is taken relative to the server's own Date, so that
 * a clock that differs does not matter. */
static int64_t read_retry_after(const char *text, int64_t date_ms, const struct al_clock *clock)
{
	const char *end;
	int64_t seconds;
	int64_t at;

	if (text == NULL)
		return -1;
	seconds = read_seconds(*text == '-' ? text + 1 : text, &end);
	if (seconds >= 0 && *end == '\0')
		return *text == '-' ? 0 : seconds * 1000;
	at = read_date_ms(text);
	if (at < 0)
		return -1;
	if (date_ms < 0)
		date_ms = al_now(clock).wall_ms;
	return at > date_ms ? at - date_ms : 0;
}

static int64_t read_max_age(const char *text)
{
	static const char name[] = "max-age=";
	int64_t seconds = -1;

	for (; seconds < 0 && *text != '\0'; text += strcspn(text, ",")) {
		text += strspn(text, " \t,");
		if (!curl_strnequal(text, name, sizeof(name) - 1))
			continue;
		text += sizeof(name) - 1;
		seconds = read_seconds(*text == '"' ? text + 1 : text, &text);
	}
	return seconds < 0 ? -1 : seconds * 1000;
}

void al_http_read_head(CURL *easy, const struct al_clock *clock, struct al_http_result *result)
{
	const char *text;
	long status = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	result->status = status >= 200 ? (int)status : 0;
	text = header(easy, "Content-Type", 0);
	if (text != NULL)
		al_copy_printable(result->content_type, sizeof(result->content_type), text, strlen(text));
	text = header(easy, "Location", 0);
	if (text != NULL)
		al_copy_url_safe(result->location, sizeof(result->location), text);
	result->date_ms = read_date_ms(header(easy, "Date", 0));
	result->retry_after_ms = read_retry_after(header(easy, "Retry-After", 0), result->date_ms, clock);
	result->max_age_ms = -1;
	for (size_t i = 0; (text = header(easy, "Cache-Control", i)) != NULL; i++)
		if (result->max_age_ms < 0)
			result->max_age_ms = read_max_age(text);
}
