/* SPDX-License-Identifier: MIT
 * All that this host asks of acctlink: start and end, the two halves of a consent,
 * the bearer, the data API's refusal of it, the end of a link. What a host must
 * bring along stands here too: a deadline for each call, buffers of the right size,
 * hooks, and words for each failure.
 *
 * Threads: every function may run on many at once, as in the plugin itself. The
 * ring of events has a lock of its own, since the hook is called from any thread.
 */
#include "example.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Somebody waits in front of a browser: better an answer than a long wait. */
enum { CALL_DEADLINE_MS = 8000 };

static acctlink_str str(const char *text)
{
	return (acctlink_str){ text, strlen(text) };
}

static acctlink_ref ref(const struct ex_host *host, const char *user, const char *institution)
{
	return (acctlink_ref){ .user = str(user), .provider = str(host->provider), .institution = str(institution) };
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return memory;
}

/* ---- hooks ---------------------------------------------------------------------------- */

enum { RING = 1024 };

/* Enough that the newest events of one user are not soon pushed out by others. */
static struct {
	pthread_mutex_t lock;
	size_t count; /* of all that ever came */
	struct {
		char user[65];
		struct ex_event event;
	} entries[RING];
} ring = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* One line for each message; the plugin puts no secrets into them. */
static void on_log(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	fprintf(stderr, "acctlink <%d> %s\n", (int)level, message);
}

static void copy_str(char *to, size_t cap, acctlink_str from)
{
	snprintf(to, cap, "%.*s", (int)from.len, from.len > 0 ? from.data : "");
}

/* Quick, and without a call into the plugin: it may run on one of the plugin's threads. */
static void on_event(void *ctx, const acctlink_event *event)
{
	struct ex_event kept = { .kind = event->kind,
		.state = event->state,
		.reason = event->reason,
		.generation = event->generation,
		.at_ms = event->at_ms };
	size_t at;

	(void)ctx;
	copy_str(kept.institution, sizeof(kept.institution), event->institution);
	pthread_mutex_lock(&ring.lock);
	at = ring.count++ % RING;
	copy_str(ring.entries[at].user, sizeof(ring.entries[at].user), event->user);
	ring.entries[at].event = kept;
	pthread_mutex_unlock(&ring.lock);
}

size_t ex_events(const char *user, struct ex_event *events, size_t max)
{
	size_t found = 0;
	size_t back;

	pthread_mutex_lock(&ring.lock);
	for (back = 1; back <= RING && back <= ring.count && found < max; back++) {
		const size_t at = (ring.count - back) % RING;

		if (strcmp(ring.entries[at].user, user) == 0)
			events[found++] = ring.entries[at].event;
	}
	pthread_mutex_unlock(&ring.lock);
	return found;
}

/* ---- start and end ---------------------------------------------------------------------- */

bool ex_linking_start(struct ex_host *host, acctlink_error *err)
{
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT; /* copied by init */

	if (acctlink_dl_open(host->plugin, &host->api, err->message, sizeof(err->message)) != 0)
		return false;
	hooks.log = on_log;
	hooks.event = on_event;
	args.config_path = str(host->config);
	args.hooks = &hooks;
	if (host->api.init(&args, &host->handle, err) == ACCTLINK_OK)
		return true;
	acctlink_dl_close(&host->api);
	return false;
}

/* No call may be under way any more: the server is stopped before. 0 is the deadline of
 * the config: what was sent to the bank is finished and kept first. */
acctlink_status ex_linking_end(struct ex_host *host, acctlink_error *err)
{
	const acctlink_status status = host->api.shutdown(host->handle, 0, err);

	host->handle = NULL;
	acctlink_dl_close(&host->api);
	return status;
}

/* ---- what is known of a link ---------------------------------------------------------------- */

static void copy_link(const acctlink_inspect_result *from, struct ex_link *link)
{
	link->linked = true;
	link->state = from->state;
	link->reason = from->reason;
	link->claim = from->claim;
	link->epoch = from->epoch;
	link->generation = from->generation;
	link->bearer_expires_at_ms = from->bearer_expires_at_ms;
	link->next_refresh_at_ms = from->next_refresh_at_ms;
	link->authorized_at_ms = from->authorized_at_ms;
	snprintf(link->last_error, sizeof(link->last_error), "%s", from->last_error);
}

acctlink_status ex_look(const struct ex_host *host, const char *user, const char *institution, struct ex_link *link,
	acctlink_error *err)
{
	acctlink_inspect_args args = ACCTLINK_INSPECT_ARGS_INIT;
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_status status;

	memset(link, 0, sizeof(*link));
	args.link = ref(host, user, institution);
	args.deadline_ms = CALL_DEADLINE_MS;
	result.subject = (acctlink_out){ link->subject, sizeof(link->subject), 0 };
	status = host->api.inspect(host->handle, &args, &result, err);
	if (status == ACCTLINK_BUFFER_TOO_SMALL) { /* such a long subject is not shown */
		link->subject[0] = '\0';
		result = (acctlink_inspect_result)ACCTLINK_INSPECT_RESULT_INIT;
		status = host->api.inspect(host->handle, &args, &result, err);
	}
	if (status == ACCTLINK_OK)
		copy_link(&result, link);
	return status == ACCTLINK_NOT_LINKED ? ACCTLINK_OK : status;
}

/* ---- a consent --------------------------------------------------------------------------------- */

static void make_room(acctlink_out *out, size_t cap)
{
	free(out->data);
	*out = (acctlink_out){ allocate(cap), cap, 0 };
}

/* The host answers with a redirect to *url and with *cookie as a Set-Cookie header: it
 * ties the consent to this browser, so that nobody can slip a user another one's bank. */
acctlink_status ex_begin(const struct ex_host *host, const char *user, const char *institution, char **url,
	char **cookie, acctlink_error *err)
{
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result result = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_status status;

	args.user = str(user);
	args.provider = str(host->provider);
	args.institution = str(institution);
	args.deadline_ms = CALL_DEADLINE_MS;
	make_room(&result.url, 2048);
	make_room(&result.set_cookie, 512);
	status = host->api.begin(host->handle, &args, &result, err);
	if (status == ACCTLINK_BUFFER_TOO_SMALL) { /* nothing has begun; the lengths tell what it takes */
		make_room(&result.url, result.url.len + 1);
		make_room(&result.set_cookie, result.set_cookie.len + 1);
		status = host->api.begin(host->handle, &args, &result, err);
	}
	if (status != ACCTLINK_OK) {
		free(result.url.data);
		free(result.set_cookie.data);
		return status;
	}
	*url = result.url.data;
	*cookie = result.set_cookie.data;
	return ACCTLINK_OK;
}

/* params as it came, undecoded: the plugin must see names that come twice. user is who
 * is signed in at this host now, never somebody whom the callback names. */
acctlink_status ex_callback(const struct ex_host *host, const char *user, const char *params, const char *cookie_header,
	acctlink_callback_result *result, acctlink_error *err)
{
	acctlink_callback_args args = ACCTLINK_CALLBACK_ARGS_INIT;

	args.user = str(user);
	args.params = str(params);
	args.cookie = str(cookie_header);
	args.deadline_ms = CALL_DEADLINE_MS;
	*result = (acctlink_callback_result)ACCTLINK_CALLBACK_RESULT_INIT;
	return host->api.on_callback(host->handle, &args, result, err);
}

/* ---- the bearer ------------------------------------------------------------------------------------ */

void ex_wipe(char **secret)
{
	if (*secret != NULL)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

/* Usually a copy from memory; if the bearer is over, one refresh for all who ask. */
static acctlink_status get_bearer(
	const struct ex_host *host, acctlink_ref link, char **bearer, acctlink_bearer_info *info, acctlink_error *err)
{
	acctlink_bearer_args args = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_status status = ACCTLINK_BUFFER_TOO_SMALL;
	size_t cap = 4096;
	int tries;

	args.link = link;
	args.deadline_ms = CALL_DEADLINE_MS;
	/* A refresh between two tries may bring a longer one. */
	for (tries = 0; tries < 3; tries++) {
		*bearer = allocate(cap);
		*info = (acctlink_bearer_info)ACCTLINK_BEARER_INFO_INIT;
		status = host->api.get_bearer(host->handle, &args, *bearer, cap, info, err);
		if (status == ACCTLINK_OK)
			return ACCTLINK_OK;
		free(*bearer); /* nothing was written */
		*bearer = NULL;
		if (status != ACCTLINK_BUFFER_TOO_SMALL)
			return status;
		cap = (size_t)info->len + 1;
	}
	return status;
}

/* For the button "Refresh" only. Refreshing is the plugin's business, and a host that
 * wants a bearer of some length says so with min_ttl_ms. That never trades in a bearer
 * in the first half of its life, which the button shall, so this one is called refused.
 * It is not served again after that, even if no refresh may go out for some seconds
 * (min_refresh_interval); hence it is not done to a link whose refreshing fails. */
static acctlink_status give_up_bearer(const struct ex_host *host, const char *user, const char *institution,
	const acctlink_bearer_info *info, acctlink_error *err)
{
	struct ex_link link;
	const acctlink_status status = ex_look(host, user, institution, &link, err);

	if (status == ACCTLINK_OK && link.linked && link.state == ACCTLINK_STATE_LINKED
		&& link.generation == info->generation)
		ex_rejected(host, user, institution, info->generation, 0, "refresh_button");
	return status;
}

acctlink_status ex_bearer(const struct ex_host *host, const char *user, const char *institution, bool fresh,
	char **bearer, acctlink_bearer_info *info, acctlink_error *err)
{
	const acctlink_ref link = ref(host, user, institution);
	acctlink_status status = get_bearer(host, link, bearer, info, err);

	if (status != ACCTLINK_OK || !fresh)
		return status;
	ex_wipe(bearer);
	status = give_up_bearer(host, user, institution, info, err);
	return status == ACCTLINK_OK ? get_bearer(host, link, bearer, info, err) : status;
}

/* The data API refused this very bearer. Names the generation, so that many threads that
 * were refused at the same time cause one refresh, and none of a newer bearer. */
void ex_rejected(const struct ex_host *host, const char *user, const char *institution, uint64_t generation,
	int http_status, const char *code)
{
	acctlink_rejected_args args = ACCTLINK_REJECTED_ARGS_INIT;
	acctlink_error err = { 0 };

	args.link = ref(host, user, institution);
	args.generation = generation;
	args.http_status = http_status;
	args.code = str(code);
	if (host->api.report_rejected(host->handle, &args, &err) != ACCTLINK_OK)
		fprintf(stderr, "example: a refused bearer was not reported: %s\n", err.message);
}

/* ---- the end of a link --------------------------------------------------------------------------------- */

acctlink_status ex_unlink(const struct ex_host *host, const char *user, const char *institution,
	acctlink_unlink_result *result, acctlink_error *err)
{
	acctlink_unlink_args args = ACCTLINK_UNLINK_ARGS_INIT;

	args.link = ref(host, user, institution);
	args.deadline_ms = CALL_DEADLINE_MS;
	*result = (acctlink_unlink_result)ACCTLINK_UNLINK_RESULT_INIT;
	return host->api.unlink(host->handle, &args, result, err);
}

/* ---- failures in words --------------------------------------------------------------------------------- */

struct words {
	acctlink_status status;
	const char *title;
	const char *text;
};

static const struct words table[] = {
	{ ACCTLINK_BAD_ARGUMENT, "That request was not right", "Go back to your banks and try again from there." },
	{ ACCTLINK_UNKNOWN_PROVIDER, "This bank is not offered any more",
		"Nothing was changed. Choose another bank, or ask whoever runs this app." },
	{ ACCTLINK_BAD_CALLBACK, "The answer of the bank makes no sense",
		"It is damaged or not complete, and nothing was linked. Begin again with Link." },
	{ ACCTLINK_FOREIGN_CALLBACK, "This consent belongs to another browser or another person",
		"Nothing was linked here. Finish it in the browser where it began, signed in as the same person, or begin again"
		" with Link." },
	{ ACCTLINK_SHUT_DOWN, "This app is just being restarted", "Try again in a minute." },
	{ ACCTLINK_NOT_LINKED, "This bank is not linked", "Link it to see your accounts here." },
	{ ACCTLINK_RELINK_REQUIRED, "The bank wants your consent again",
		"Our access has ended. Give your consent again with Renew; your accounts are shown after that." },
	{ ACCTLINK_DENIED, "No consent was given",
		"You or the bank said no, and nothing was changed. If that was not what you wanted, begin again." },
	{ ACCTLINK_FLOW_EXPIRED, "That took too long",
		"The consent has run out, and nothing was changed. Begin again." },
	{ ACCTLINK_FLOW_FAILED, "The consent could not be completed", "Nothing was changed. Begin again." },
	{ ACCTLINK_SUBJECT_CHANGED, "That was another bank login",
		"Your link is as it was. Renew it with the login that you linked it with, or unlink it first to link another." },
	{ ACCTLINK_TIMED_OUT, "The bank takes its time",
		"It has not answered yet, but what was sent goes on and is kept. Reload this page in a while to see what came." },
	{ ACCTLINK_PROVIDER_DOWN, "The bank is not available just now", "Nothing is lost. Try again in a while." },
	{ ACCTLINK_STORE_DOWN, "Our own memory is not at hand just now",
		"That is our fault, and nothing is lost. Try again in"
		" a while." },
	{ ACCTLINK_CLIENT_REFUSED, "The bank does not accept this app at the moment",
		"You can do nothing about it; whoever runs this app finds the cause in its log." },
	{ ACCTLINK_BAD_PROVIDER, "The bank's answer could not be trusted",
		"For your safety nothing of it is used. Whoever runs this app finds the cause in its log." },
};

/* For what has no line of its own, as in a newer plugin: the hundreds tell who must act. */
static const struct words groups[] = {
	{ 200, "Something is left for you to do", "Begin again with Link." },
	{ 300, "That is not possible just now", "Try again in a while." },
	{ 400, "This app is not set up right",
		"You can do nothing about it; whoever runs this app finds the cause in its log." },
	{ 500, "Something is wrong in this app",
		"That is our fault. Try again; if it stays, tell whoever runs this app." },
};

static const struct words *find_words(acctlink_status status)
{
	const struct words *words = &groups[3];
	size_t i;

	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (groups[i].status == status / 100 * 100)
			words = &groups[i];
	}
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].status == status)
			words = &table[i];
	}
	return words;
}

void ex_explain(acctlink_status status, const acctlink_error *err, struct ex_flash *flash)
{
	const struct words *words = find_words(status);
	const long long wait_s = (long long)((err->retry_after_ms + 999) / 1000);

	memset(flash, 0, sizeof(*flash));
	flash->status = status;
	snprintf(flash->title, sizeof(flash->title), "%s", words->title);
	if (wait_s > 0)
		snprintf(flash->text, sizeof(flash->text), "%s It may work in %lld second%s.", words->text, wait_s,
			wait_s == 1 ? "" : "s");
	else
		snprintf(flash->text, sizeof(flash->text), "%s", words->text);
}
