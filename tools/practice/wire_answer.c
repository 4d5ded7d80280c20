/* SPDX-License-Identifier: MIT
 * Where a request or an answer stands, counted in bytes: enough of HTTP/1.1 to
 * know where heads and bodies end and which bytes of an answer a fault lets
 * through. Touches no socket and waits for nothing.
 */
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* More than any head of ours; a longer one is passed on without being understood. */
#define HEAD_MAX ((size_t)256 * 1024)
#define LINE_MAX_LEN ((size_t)64 * 1024)

/* ---- bytes ------------------------------------------------------------------------- */

void pp_bytes_add(struct pp_bytes *bytes, const void *data, size_t len)
{
	if (len > bytes->room - bytes->len) {
		const size_t room = (bytes->len + len) * 2;
		char *longer = realloc(bytes->data, room);

		if (longer == NULL)
			pp_die("out of memory");
		bytes->data = longer;
		bytes->room = room;
	}
	if (len > 0)
		memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
}

void pp_bytes_drop(struct pp_bytes *bytes, size_t len)
{
	if (len == 0)
		return;
	memmove(bytes->data, bytes->data + len, bytes->len - len);
	bytes->len -= len;
}

void pp_bytes_free(struct pp_bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct pp_bytes){ 0 };
}

/* ---- heads ---------------------------------------------------------------------------- */

/* Length of the head that data begins with, its empty line included; 0: it goes on. */
static size_t head_length(const struct pp_bytes *head)
{
	size_t i;

	for (i = 0; i < head->len; i++) {
		if (head->data[i] != '\n')
			continue;
		if (i + 1 < head->len && head->data[i + 1] == '\n')
			return i + 2;
		if (i + 2 < head->len && head->data[i + 1] == '\r' && head->data[i + 2] == '\n')
			return i + 3;
	}
	return 0;
}

/* The value of a field in a whole head, not ended by NUL but by CR or LF; NULL: not there. */
static const char *field(const struct pp_bytes *head, const char *name)
{
	const size_t name_len = strlen(name);
	size_t i;

	for (i = 0; i + name_len + 2 < head->len; i++) {
		if (head->data[i] == '\n' && strncasecmp(head->data + i + 1, name, name_len) == 0
			&& head->data[i + 1 + name_len] == ':')
			return head->data + i + 2 + name_len;
	}
	return NULL;
}

/* The number in a Content-Length; -1: there is none. A whole head ends with LF, which ends the number. */
static int64_t content_length(const struct pp_bytes *head)
{
	const char *text = field(head, "content-length");
	int64_t length = 0;

	if (text == NULL)
		return -1;
	text += strspn(text, " \t");
	for (; *text >= '0' && *text <= '9'; text++) {
		if (length > INT64_MAX / 16)
			return -1;
		length = length * 10 + (*text - '0');
	}
	return length;
}

/* ---- requests --------------------------------------------------------------------------- */

/* What follows the head that was found. */
static void request_body(struct pp_request_bytes *request)
{
	const int64_t length = content_length(&request->head);

	request->left = field(&request->head, "transfer-encoding") != NULL ? -1 : length < 0 ? 0 : length;
	request->at = request->left == 0 ? PP_REQUEST_WHOLE : PP_REQUEST_BODY;
	request->head_only = request->head.len > 5 && memcmp(request->head.data, "HEAD ", 5) == 0;
}

static size_t take_head(struct pp_request_bytes *request, const char *data, size_t len)
{
	const size_t before = request->head.len;
	size_t end;

	/* Empty lines before a request are skipped, RFC 9112, 2.2. */
	if (before == 0 && (*data == '\r' || *data == '\n'))
		return 1;
	request->at = PP_REQUEST_HEAD;
	pp_bytes_add(&request->head, data, len);
	end = head_length(&request->head);
	if (end == 0) {
		if (request->head.len > HEAD_MAX) {
			request->left = -1;
			request->at = PP_REQUEST_BODY;
		}
		return len;
	}
	request->head.len = end;
	request_body(request);
	return end - before;
}

size_t pp_request_take(struct pp_request_bytes *request, const char *data, size_t len)
{
	size_t taken = 0;

	while (taken < len && (request->at == PP_REQUEST_NONE || request->at == PP_REQUEST_HEAD))
		taken += take_head(request, data + taken, len - taken);
	if (request->at == PP_REQUEST_BODY && request->left < 0)
		return len;
	if (request->at == PP_REQUEST_BODY) {
		const size_t rest = len - taken;
		const size_t part = (uint64_t)request->left < rest ? (size_t)request->left : rest;

		request->left -= (int64_t)part;
		taken += part;
		if (request->left == 0)
			request->at = PP_REQUEST_WHOLE;
	}
	return taken;
}

void pp_request_end(struct pp_request_bytes *request)
{
	pp_bytes_free(&request->head);
	*request = (struct pp_request_bytes){ 0 };
}

char *pp_request_path(const char *data, size_t len, bool *line_ended)
{
	const char *end = data + len;
	const char *from;
	const char *to;

	while (data < end && (*data == '\r' || *data == '\n'))
		data++;
	*line_ended = memchr(data, '\n', (size_t)(end - data)) != NULL || len > LINE_MAX_LEN;
	from = memchr(data, ' ', (size_t)(end - data));
	if (from == NULL)
		return NULL;
	from++;
	for (to = from; to < end && *to != ' ' && *to != '?' && *to != '\r' && *to != '\n'; to++)
		;
	return to < end ? pp_printf("%.*s", (int)(to - from), from) : NULL;
}

/* ---- answers ------------------------------------------------------------------------------ */

void pp_answer_begin(struct pp_answer_bytes *answer)
{
	pp_bytes_free(&answer->head);
	*answer = (struct pp_answer_bytes){ .fault = PP_WIRE_FAULT_NONE, .head_len = -1, .body_len = -1 };
}

void pp_answer_free(struct pp_answer_bytes *answer)
{
	pp_bytes_free(&answer->head);
}

/* The status in "HTTP/1.1 200 …"; 0: this is no such line. */
static int status_of(const struct pp_bytes *head)
{
	if (head->len < 13 || head->data[8] != ' ' || head->data[9] < '1' || head->data[9] > '9')
		return 0;
	return (head->data[9] - '0') * 100 + (head->data[10] - '0') * 10 + (head->data[11] - '0');
}

void pp_answer_take(struct pp_answer_bytes *answer, const char *data, size_t len, bool head_only)
{
	size_t end;

	answer->seen += (int64_t)len;
	if (answer->head_len >= 0)
		return;
	pp_bytes_add(&answer->head, data, len);
	while ((end = head_length(&answer->head)) > 0) {
		const size_t surplus = answer->head.len - end;
		const int status = status_of(&answer->head);

		answer->head.len = end; /* its fields only are looked at */
		if (status < 100 || status >= 200) {
			answer->head_len = (int64_t)end;
			answer->body_len = head_only || status == 204 || status == 304 ? 0
										       : content_length(&answer->head);
			return;
		}
		answer->start += (int64_t)end;
		answer->head.len += surplus;
		pp_bytes_drop(&answer->head, end);
	}
}

/* Not counting interim answers: these tell nothing about the request's end. */
bool pp_answer_begun(const struct pp_answer_bytes *answer)
{
	return answer->head_len >= 0;
}

bool pp_answer_complete(const struct pp_answer_bytes *answer)
{
	return answer->head_len >= 0 && answer->body_len >= 0
		&& answer->sent >= answer->start + answer->head_len + answer->body_len;
}

/* The first of two places in the answer, one counted from its start and one from
 * its body's start; INT64_MAX: neither is set, or the body's start isn't known. */
static int64_t first_place(const struct pp_answer_bytes *answer, int64_t of_answer, int64_t of_body)
{
	int64_t place = INT64_MAX;

	if (of_answer >= 0 && of_answer < INT64_MAX / 2)
		place = answer->start + of_answer;
	if (of_body >= 0 && of_body < INT64_MAX / 2 && answer->head_len >= 0
		&& answer->start + answer->head_len + of_body < place)
		place = answer->start + answer->head_len + of_body;
	return place;
}

static int64_t cut_place(const struct pp_answer_bytes *answer)
{
	return first_place(answer, answer->fault.cut_head, answer->fault.cut_body);
}

bool pp_answer_is_cut(const struct pp_answer_bytes *answer)
{
	if (answer->sent >= cut_place(answer))
		return true;
	/* The cut lies behind the end. */
	return pp_answer_complete(answer) && (answer->fault.cut_head >= 0 || answer->fault.cut_body >= 0);
}

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t pp_answer_may_leave(struct pp_answer_bytes *answer, int64_t now)
{
	const int64_t stall = first_place(answer, answer->fault.stall_head, answer->fault.stall_body);
	const int64_t body = answer->start + answer->head_len;
	int64_t to = min(answer->seen, cut_place(answer));

	if (!answer->stalled && answer->sent >= stall) {
		answer->stalled = true;
		answer->resume_at = now + answer->fault.stall_ms;
	}
	if (now < answer->resume_at)
		return 0;
	if (!answer->stalled)
		to = min(to, stall);
	if (answer->fault.drip_bytes > 0 && answer->head_len >= 0)
		to = min(to, answer->sent < body ? body : answer->sent + answer->fault.drip_bytes);
	return to > answer->sent ? to - answer->sent : 0;
}

void pp_answer_left(struct pp_answer_bytes *answer, int64_t len, int64_t now)
{
	const bool drips = answer->fault.drip_bytes > 0 && answer->head_len >= 0
		&& answer->sent >= answer->start + answer->head_len;

	answer->sent += len;
	if (drips)
		answer->resume_at = now + answer->fault.drip_ms;
}
