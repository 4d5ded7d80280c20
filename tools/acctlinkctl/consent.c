/* SPDX-License-Identifier: MIT
 * acctlinkctl link: one consent from a terminal, as a native application does it
 * (RFC 8252). The tool is both the host and, for the flow's binding, the browser:
 * the cookie that begin makes never leaves it (sections 7.3 and 8). That holds the
 * flow to the person at this terminal: a code that someone else was sent to get, or
 * that was brought to another program, fits no flow here, and PKCE keeps it from
 * being used elsewhere. The callback is wiped as soon as it was handed over.
 */
#include "ctl.h"
#include "loopback.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"

#define PASTE_MAX 65536
#define TERMINAL_LINE_MAX 4095 /* what Linux takes in one line */
#define ONE_CALL_MS 5000
#define PAUSE_MS 1000

struct consent {
	struct ctl *ctl;
	acctlink_str user;
	const char *redirect_uri;
	int64_t end_ms; /* CLOCK_MONOTONIC */
	char cookie[1024];
	acctlink_callback_result result;
};

/* ---- time ---------------------------------------------------------------------- */

static int64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t left_ms(const struct consent *consent)
{
	const int64_t left = consent->end_ms - clock_ms(CLOCK_MONOTONIC);

	return left > 0 ? left : 0;
}

static acctlink_status fail_late(struct consent *consent)
{
	return al_fail(&consent->ctl->err, ACCTLINK_TIMED_OUT, NULL,
		"nobody came back from the provider in time: begin "
		"again, with a longer --timeout if that is needed");
}

/* ---- the redirect URI ------------------------------------------------------------ */

static bool is_loopback(const char *uri)
{
	struct loopback_target target;

	return loopback_read_uri(&target, uri);
}

/* With --paste as well: a browser that can't reach this machine shows where it was sent. */
static const char *first_loopback(char *const *uris)
{
	size_t i;

	for (i = 0; uris[i] != NULL; i++) {
		if (is_loopback(uris[i]))
			return uris[i];
	}
	return uris[0];
}

static acctlink_status choose(struct consent *consent, const struct al_config *config, const char *name)
{
	struct ctl *ctl = consent->ctl;
	const struct al_provider_config *provider = al_config_provider(config, name);

	if (provider == NULL)
		return al_fail(
			&ctl->err, ACCTLINK_UNKNOWN_PROVIDER, config->path, "there is no provider \"%.64s\"", name);
	consent->redirect_uri = ctl->redirect_uri != NULL ? ctl->redirect_uri : first_loopback(provider->redirect_uris);
	if (!is_loopback(consent->redirect_uri))
		ctl->paste = true;
	if (!ctl->paste || provider->response_mode == AL_MODE_QUERY)
		return ACCTLINK_OK;
	return al_fail(&ctl->err, ACCTLINK_BAD_CONFIG, provider->where,
		"%.64s answers with a form (response_mode), of which "
		"no address tells anything: it needs a redirect_uri on a loopback address, and no --paste",
		name);
}

/* ---- the callback ------------------------------------------------------------------- */

static bool may_work_later(acctlink_status status)
{
	return status == ACCTLINK_TIMED_OUT || status == ACCTLINK_PROVIDER_DOWN || status == ACCTLINK_STORE_DOWN;
}

/* The exchange goes on behind a call that timed out, and where the provider or the
 * store was down the code was not spent: the same callback is handed over again. */
static acctlink_status hand_over(struct consent *consent, const char *params, size_t len)
{
	struct ctl *ctl = consent->ctl;
	acctlink_callback_args args = ACCTLINK_CALLBACK_ARGS_INIT;
	acctlink_status status;
	int64_t pause;
	int64_t left;

	args.user = consent->user;
	args.params = (acctlink_str){ params, len };
	args.cookie = al_str(consent->cookie);
	do {
		left = left_ms(consent);
		args.deadline_ms = left < 1 ? 1 : left < ONE_CALL_MS ? (uint32_t)left : ONE_CALL_MS;
		status = acctlink_on_callback(ctl->handle, &args, &consent->result, &ctl->err);
		if (!may_work_later(status))
			break;
		pause = status == ACCTLINK_TIMED_OUT         ? 0
			: ctl->err.retry_after_ms > PAUSE_MS ? ctl->err.retry_after_ms
							     : PAUSE_MS;
		left = left_ms(consent);
		if (pause >= left)
			break;
		if (pause > 0) {
			fprintf(stderr, "acctlinkctl: %s; trying again\n", ctl->err.message);
			poll(NULL, 0, (int)pause);
		}
	} while (left > 0);
	return status;
}

static bool came_astray(acctlink_status status)
{
	return status == ACCTLINK_FOREIGN_CALLBACK || status == ACCTLINK_BAD_CALLBACK;
}

/* ---- by a loopback address ------------------------------------------------------------ */

/* Another page may call our port at any time; that ends nothing. */
static acctlink_status receive(struct consent *consent, struct loopback *loopback)
{
	struct ctl *ctl = consent->ctl;
	enum loopback_result came;
	acctlink_status status;

	while ((came = loopback_wait(loopback, (int)left_ms(consent))) == LOOPBACK_CALLBACK) {
		status = hand_over(consent, loopback->params, loopback->params_len);
		loopback_answer(loopback, status == ACCTLINK_OK,
			status == ACCTLINK_OK
				? "The account is linked. You can close this window."
				: "The account was not linked; the terminal says why. You can close this window.");
		if (!came_astray(status))
			return status;
		fprintf(stderr, "acctlinkctl: a callback was refused: %s\n", ctl->err.message);
	}
	return came == LOOPBACK_TIMED_OUT
		? fail_late(consent)
		: al_fail(&ctl->err, ACCTLINK_INTERNAL, NULL, "can't wait for the browser: %s", strerror(errno));
}

static acctlink_status listen_for(struct consent *consent, struct loopback *loopback)
{
	if (loopback_open(loopback, consent->redirect_uri))
		return ACCTLINK_OK;
	return al_fail(&consent->ctl->err, ACCTLINK_BAD_CONFIG, consent->redirect_uri,
		"can't listen there: %s; end the "
		"program that has this port, or use --paste",
		strerror(errno));
}

/* ---- by hand ----------------------------------------------------------------------------- */

/* One byte: what follows the line is another's. 0: the end, -1: none in time, or errno. */
static ssize_t read_byte(const struct consent *consent, char *byte)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int ready;

	do {
		errno = 0;
		ready = poll(&in, 1, (int)left_ms(consent));
	} while (ready < 0 && errno == EINTR);
	return ready > 0 ? read(STDIN_FILENO, byte, 1) : -1;
}

/* One line of stdin, without its end; -1 as above. */
static ssize_t read_line(const struct consent *consent, char *line)
{
	size_t len = 0;
	ssize_t got = 1;

	while (len < PASTE_MAX && got > 0 && (len == 0 || line[len - 1] != '\n')) {
		got = read_byte(consent, line + len);
		if (got < 0)
			return -1;
		len += (size_t)got;
	}
	while (len > 0 && strchr(" \t\r\n", line[len - 1]) != NULL)
		len--;
	line[len] = '\0';
	return (ssize_t)len;
}

/* What follows '?', up to a fragment; the whole line if that is the query itself. */
static acctlink_str find_query(char *line)
{
	char *from;

	line += strspn(line, " \t");
	from = strchr(line, '?');
	line[strcspn(line, "#")] = '\0';
	if (from != NULL && from < line + strlen(line))
		return al_str(strchr(from, '=') != NULL ? from + 1 : "");
	return al_str(strstr(line, "://") == NULL && strchr(line, '=') != NULL ? line : "");
}

static acctlink_status paste(struct consent *consent, char *line)
{
	struct ctl *ctl = consent->ctl;
	const bool terminal = isatty(STDIN_FILENO);
	const ssize_t len = read_line(consent, line);
	acctlink_str query;

	if (len < 0 && errno == 0)
		return fail_late(consent);
	if (len < 0)
		return al_fail(
			&ctl->err, ACCTLINK_BAD_ARGUMENT, "stdin", "can't read the address: %s", strerror(errno));
	if (len >= PASTE_MAX || (terminal && len >= TERMINAL_LINE_MAX))
		return al_fail(&ctl->err, ACCTLINK_BAD_ARGUMENT, "stdin", "%s",
			terminal ? "the terminal cut that address off: "
				   "put it into a file, then link again with --paste < FILE"
				 : "that address is too long");
	query = find_query(line);
	if (query.len == 0)
		return al_fail(&ctl->err, ACCTLINK_BAD_CALLBACK, "stdin",
			"this is not an address that the provider sent the "
			"browser to: it must have a '?' and what comes after it");
	return hand_over(consent, query.data, query.len);
}

/* ---- the command ------------------------------------------------------------------------------ */

/* The user's part is on stderr, so that stdout has the bare address, or one JSON object. */
static void show(const struct consent *consent, const char *url)
{
	FILE *to = consent->ctl->json ? stderr : stdout;

	fflush(stdout);
	fprintf(stderr, "Open this address in a browser and consent there:\n");
	fprintf(to, "%s\n", url);
	fflush(to);
	if (consent->ctl->paste)
		fprintf(stderr, "Then paste the address that the browser was sent to (even if it shows an error):\n");
}

static acctlink_status begin(struct consent *consent, const acctlink_ref *link)
{
	static char url[65537];
	struct ctl *ctl = consent->ctl;
	acctlink_begin_args args = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result begun = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_status status;
	int64_t flow_end;

	args.user = link->user;
	args.provider = link->provider;
	args.institution = link->institution;
	args.redirect_uri = al_str(consent->redirect_uri);
	args.deadline_ms = (uint32_t)left_ms(consent);
	begun.url = (acctlink_out){ url, sizeof(url), 0 };
	begun.set_cookie = (acctlink_out){ consent->cookie, sizeof(consent->cookie), 0 };
	status = acctlink_begin(ctl->handle, &args, &begun, &ctl->err);
	if (status != ACCTLINK_OK)
		return status;
	consent->cookie[strcspn(consent->cookie, ";")] = '\0';
	flow_end = clock_ms(CLOCK_MONOTONIC) + begun.expires_at_ms - clock_ms(CLOCK_REALTIME);
	if (flow_end < consent->end_ms)
		consent->end_ms = flow_end;
	show(consent, url);
	return ACCTLINK_OK;
}

static void put_result(json_object *out, const acctlink_callback_result *result)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} flags[] = { { ACCTLINK_CALLBACK_RENEWED, "renewed" }, { ACCTLINK_CALLBACK_SCOPE_REDUCED, "scope_reduced" },
		{ ACCTLINK_CALLBACK_SUPERSEDES, "superseded" }, { ACCTLINK_CALLBACK_UNCHECKED, "unchecked" } };
	size_t i;

	ctl_put_text(out, "link_id", result->link_id);
	ctl_put_text(out, "provider", result->provider);
	if (result->institution[0] != '\0')
		ctl_put_text(out, "institution", result->institution);
	ctl_put_number(out, "epoch", (int64_t)result->epoch);
	ctl_put_number(out, "generation", (int64_t)result->generation);
	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if ((result->flags & flags[i].flag) != 0)
			ctl_put_flag(out, flags[i].name, true);
	}
}

static acctlink_status run(struct consent *consent, const acctlink_ref *link)
{
	static char line[PASTE_MAX + 1];
	struct ctl *ctl = consent->ctl;
	struct loopback loopback;
	acctlink_status status = ACCTLINK_OK;

	if (ctl->paste) {
		status = begin(consent, link);
		if (status == ACCTLINK_OK)
			status = paste(consent, line);
		explicit_bzero(line, sizeof(line));
		return status;
	}
	/* Before begin: a flow that nobody can finish is never begun. */
	status = listen_for(consent, &loopback);
	if (status == ACCTLINK_OK)
		status = begin(consent, link);
	if (status == ACCTLINK_OK)
		status = receive(consent, &loopback);
	loopback_close(&loopback);
	return status;
}

void ctl_link(struct ctl *ctl, char **args, int count)
{
	static const struct al_log quiet = { NULL, NULL, -1 }; /* init says the same things */
	const acctlink_ref link = ctl_ref(args, count);
	struct consent consent = { .ctl = ctl,
		.user = link.user,
		.result = ACCTLINK_CALLBACK_RESULT_INIT,
		.end_ms = clock_ms(CLOCK_MONOTONIC) + (int64_t)ctl->deadline_s * 1000 };
	struct al_config *config = NULL;

	if (!ctl_check(ctl, al_config_load(ctl->config_path, &quiet, &config, &ctl->err)))
		return;
	if (ctl_check(ctl, choose(&consent, config, args[1])) && ctl_open(ctl) && ctl_check(ctl, run(&consent, &link)))
		put_result(ctl->out, &consent.result);
	explicit_bzero(consent.cookie, sizeof(consent.cookie));
	al_config_free(&config);
}
