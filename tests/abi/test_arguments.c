/* SPDX-License-Identifier: MIT
 * The border of the ABI: every function against NULLs, structs of wrong,
 * shorter and longer size, and strings that are too long, not UTF-8, not there
 * or have a NUL in them. Each function is a `door`; the rules are tested for
 * all doors alike. Structs and strings lie at the end of a page, so that one
 * byte read or written too far ends the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peek.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UNTOUCHED 0xa5

/* ---- what all tests share ----------------------------------------------------- */

static struct th_provider *provider;
static struct th_host *host;
static char *done_params; /* of the callback that made ana's link */
static char *done_cookie;
static int requests; /* whole token requests, after the setup */

static char url[65536];
static char state[128];
static char set_cookie[1024];
static char bearer[8192];
static char subject[256];
static char scope[8192];
static acctlink_list_item items[4];

static int set_up(void **unused)
{
	static struct th_flow flow;

	(void)unused;
	provider = th_provider_start(TH_PRACTICE, NULL);
	host = th_host_new(provider, NULL);
	th_check(th_begin(host, "ana", NULL, &flow, NULL) == ACCTLINK_OK, "begin");
	done_params = th_consent(provider, flow.url);
	done_cookie = th_printf("%s", flow.cookie);
	th_check(th_callback(host, "ana", done_params, done_cookie, NULL, NULL) == ACCTLINK_OK, "callback");
	requests = th_count(provider, "token", NULL);
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	th_host_free(&host);
	th_provider_stop(&provider);
	free(done_params);
	free(done_cookie);
	return 0;
}

/* ---- doors --------------------------------------------------------------------- */

struct door {
	const char *name;
	size_t args_size;
	size_t out_size; /* of the sized output; 0: there is none */
	bool out_required;
	bool same_again; /* the same call has the same results */
	void (*fill)(void *args);
	void (*fill_out)(void *out);
	acctlink_status (*call)(acctlink *handle, const void *args, void *out, acctlink_error *err);
};

static acctlink_ref ref_to(const char *user)
{
	acctlink_ref ref = ACCTLINK_REF_INIT;

	ref.user = th_str(user);
	ref.provider = th_str("test");
	return ref;
}

static void fill_init(void *args)
{
	*(acctlink_init_args *)args = (acctlink_init_args)ACCTLINK_INIT_ARGS_INIT;
	((acctlink_init_args *)args)->config_path = th_str(host->config_path);
}

static acctlink_status call_init(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	acctlink *const before = (acctlink *)&requests; /* an address that no handle has */
	acctlink *made = before;
	acctlink_status rc = host->api.init(args, &made, err);

	(void)handle;
	(void)out;
	if (rc != ACCTLINK_OK)
		th_check(made == before, "a failed init wrote the handle");
	else
		th_check(host->api.shutdown(made, 0, NULL) == ACCTLINK_OK, "shutdown");
	return rc;
}

static void fill_begin(void *args)
{
	acctlink_begin_args *begin = args;

	*begin = (acctlink_begin_args)ACCTLINK_BEGIN_ARGS_INIT;
	begin->user = th_str("ben");
	begin->provider = th_str("test");
}

static void fill_begin_out(void *out)
{
	acctlink_begin_result *result = out;

	*result = (acctlink_begin_result)ACCTLINK_BEGIN_RESULT_INIT;
	result->url = (acctlink_out){ url, sizeof(url), 0 };
	result->state = (acctlink_out){ state, sizeof(state), 0 };
	result->set_cookie = (acctlink_out){ set_cookie, sizeof(set_cookie), 0 };
}

static acctlink_status call_begin(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	return host->api.begin(handle, args, out, err);
}

static void fill_callback(void *args)
{
	acctlink_callback_args *callback = args;

	*callback = (acctlink_callback_args)ACCTLINK_CALLBACK_ARGS_INIT;
	callback->user = th_str("ana");
	callback->params = th_str(done_params);
	callback->cookie = th_str(done_cookie);
}

static void fill_callback_out(void *out)
{
	*(acctlink_callback_result *)out = (acctlink_callback_result)ACCTLINK_CALLBACK_RESULT_INIT;
}

static acctlink_status call_callback(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	return host->api.on_callback(handle, args, out, err);
}

static void fill_bearer(void *args)
{
	*(acctlink_bearer_args *)args = (acctlink_bearer_args)ACCTLINK_BEARER_ARGS_INIT;
	((acctlink_bearer_args *)args)->link = ref_to("ana");
}

static void fill_bearer_out(void *out)
{
	*(acctlink_bearer_info *)out = (acctlink_bearer_info)ACCTLINK_BEARER_INFO_INIT;
}

static acctlink_status call_bearer(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	acctlink_status rc;

	memset(bearer, UNTOUCHED, sizeof(bearer));
	rc = host->api.get_bearer(handle, args, bearer, sizeof(bearer), out, err);
	if (rc != ACCTLINK_OK)
		th_check((unsigned char)bearer[0] == UNTOUCHED, "a failed get_bearer wrote into the buffer");
	return rc;
}

/* The link is made anew each time, since unlinking ends it. */
static void fill_unlink(void *args)
{
	th_must_link(host, provider, "uma", NULL, NULL);
	requests++;
	*(acctlink_unlink_args *)args = (acctlink_unlink_args)ACCTLINK_UNLINK_ARGS_INIT;
	((acctlink_unlink_args *)args)->link = ref_to("uma");
}

static void fill_unlink_out(void *out)
{
	*(acctlink_unlink_result *)out = (acctlink_unlink_result)ACCTLINK_UNLINK_RESULT_INIT;
}

static acctlink_status call_unlink(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	return host->api.unlink(handle, args, out, err);
}

static void fill_inspect(void *args)
{
	*(acctlink_inspect_args *)args = (acctlink_inspect_args)ACCTLINK_INSPECT_ARGS_INIT;
	((acctlink_inspect_args *)args)->link = ref_to("ana");
}

static void fill_inspect_out(void *out)
{
	acctlink_inspect_result *result = out;

	*result = (acctlink_inspect_result)ACCTLINK_INSPECT_RESULT_INIT;
	result->subject = (acctlink_out){ subject, sizeof(subject), 0 };
	result->scope = (acctlink_out){ scope, sizeof(scope), 0 };
}

static acctlink_status call_inspect(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	return host->api.inspect(handle, args, out, err);
}

static void fill_list(void *args)
{
	*(acctlink_list_args *)args = (acctlink_list_args)ACCTLINK_LIST_ARGS_INIT;
	((acctlink_list_args *)args)->user = th_str("ana");
}

static void fill_list_out(void *out)
{
	*(acctlink_list_result *)out = (acctlink_list_result)ACCTLINK_LIST_RESULT_INIT;
	((acctlink_list_result *)out)->items = items;
	((acctlink_list_result *)out)->capacity = COUNT(items);
}

static acctlink_status call_list(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	return host->api.list(handle, args, out, err);
}

/* Of a user without a link: nothing changes. */
static void fill_report(void *args)
{
	acctlink_rejected_args *report = args;

	*report = (acctlink_rejected_args)ACCTLINK_REJECTED_ARGS_INIT;
	report->http_status = 401;
	report->link = ref_to("rita");
	report->generation = 1;
	report->code = th_str("602");
}

static acctlink_status call_report(acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	(void)out;
	return host->api.report_rejected(handle, args, err);
}

enum { INIT, BEGIN, CALLBACK, BEARER, UNLINK, INSPECT, LIST, REPORT, DOORS };
static const struct door doors[DOORS] = {
	[INIT] = { "init", sizeof(acctlink_init_args), 0, false, true, fill_init, NULL, call_init },
	[BEGIN] = { "begin", sizeof(acctlink_begin_args), sizeof(acctlink_begin_result), true, false, fill_begin,
		fill_begin_out, call_begin },
	[CALLBACK] = { "on_callback", sizeof(acctlink_callback_args), sizeof(acctlink_callback_result), false, true,
		fill_callback, fill_callback_out, call_callback },
	[BEARER] = { "get_bearer", sizeof(acctlink_bearer_args), sizeof(acctlink_bearer_info), false, true, fill_bearer,
		fill_bearer_out, call_bearer },
	[UNLINK] = { "unlink", sizeof(acctlink_unlink_args), sizeof(acctlink_unlink_result), false, false, fill_unlink,
		fill_unlink_out, call_unlink },
	[INSPECT] = { "inspect", sizeof(acctlink_inspect_args), sizeof(acctlink_inspect_result), true, true,
		fill_inspect, fill_inspect_out, call_inspect },
	[LIST] = { "list", sizeof(acctlink_list_args), sizeof(acctlink_list_result), true, true, fill_list,
		fill_list_out, call_list },
	[REPORT] = { "report_rejected", sizeof(acctlink_rejected_args), 0, false, true, fill_report, NULL,
		call_report },
};

/* Any argument or output struct, filled well. */
union any {
	uint32_t size;
	unsigned char bytes[1024];
	acctlink_init_args init;
	acctlink_begin_args begin;
	acctlink_begin_result begin_out;
	acctlink_callback_args callback;
	acctlink_callback_result callback_out;
	acctlink_bearer_args bearer;
	acctlink_bearer_info bearer_out;
	acctlink_unlink_args unlink;
	acctlink_unlink_result unlink_out;
	acctlink_inspect_args inspect;
	acctlink_inspect_result inspect_out;
	acctlink_list_args list;
	acctlink_list_result list_out;
	acctlink_rejected_args report;
};

static void fill_out(const struct door *door, union any *out)
{
	memset(out, 0, sizeof(*out));
	if (door->fill_out != NULL)
		door->fill_out(out);
}

/* ---- the contract of acctlink_error ---------------------------------------------- */

static bool all_bytes(const void *data, size_t len, unsigned char value)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != value)
			return false;
	}
	return true;
}

static void check_error(const char *what, acctlink_status rc, const acctlink_error *err)
{
	if (rc == ACCTLINK_OK) {
		th_check(all_bytes(err, sizeof(*err), UNTOUCHED), "%s: the error was written on success", what);
		return;
	}
	th_check(err->status == rc, "%s: returned %d, but the error says %d", what, (int)rc, (int)err->status);
	th_check(memchr(err->message, '\0', sizeof(err->message)) != NULL && err->message[0] != '\0', "%s: no message",
		what);
	th_check(memchr(err->where, '\0', sizeof(err->where)) != NULL, "%s: where has no end", what);
	th_check(memchr(err->provider_code, '\0', sizeof(err->provider_code)) != NULL, "%s: code has no end", what);
	th_check(all_bytes(err->reserved, sizeof(err->reserved), 0), "%s: reserved bytes of the error are used", what);
}

/* One call, its error checked, and for a failure the same without an error. */
static acctlink_status go_on(
	const char *what, const struct door *door, acctlink *handle, const void *args, void *out, acctlink_error *err)
{
	acctlink_error own;
	acctlink_error *filled = err != NULL ? err : &own;
	acctlink_status rc;

	memset(filled, UNTOUCHED, sizeof(*filled));
	rc = door->call(handle, args, out, filled);
	check_error(what, rc, filled);
	if (rc != ACCTLINK_OK)
		th_check(door->call(handle, args, out, NULL) == rc, "%s: another status without an error", what);
	return rc;
}

static acctlink_status go(const char *what, const struct door *door, const void *args, void *out, acctlink_error *err)
{
	return go_on(what, door, host->handle, args, out, err);
}

/* BAD_ARGUMENT, with `part` in its place or message, and `out` as it was. */
static void refused(
	const char *what, const struct door *door, const void *args, void *out, size_t out_len, const char *part)
{
	unsigned char *before = malloc(out_len + 1);
	acctlink_error err;
	acctlink_status rc;

	th_check(before != NULL, "no memory");
	if (out != NULL)
		memcpy(before, out, out_len);
	rc = go(what, door, args, out, &err);
	th_check(rc == ACCTLINK_BAD_ARGUMENT, "%s %s: BAD_ARGUMENT wanted, got %s", door->name, what,
		rc == ACCTLINK_OK ? "OK" : th_error_text(&err));
	th_check(strstr(err.where, part) != NULL || strstr(err.message, part) != NULL, "%s %s: '%s' is not named: %s",
		door->name, what, part, th_error_text(&err));
	th_check(err.http_status == 0 && err.retry_after_ms == 0 && err.provider_code[0] == '\0',
		"%s %s: the error speaks of the provider", door->name, what);
	th_check(out == NULL || memcmp(before, out, out_len) == 0, "%s %s: the output was written", door->name, what);
	free(before);
}

static void accepted(const char *what, const struct door *door, const void *args, void *out)
{
	acctlink_error err;
	acctlink_status rc = go(what, door, args, out, &err);

	th_check(rc == ACCTLINK_OK, "%s %s: %s", door->name, what, th_error_text(&err));
}

static void nothing_was_sent(void)
{
	th_check(th_count(provider, "token", NULL) == requests, "%d token requests, expected %d",
		th_count(provider, "token", NULL), requests);
}

static const char *out_name(const struct door *door)
{
	return door == &doors[BEARER] ? "info" : "out";
}

/* ---- NULL -------------------------------------------------------------------------- */

static void a_null_handle_is_a_bad_argument_of_every_function(void **unused)
{
	acctlink_error err;

	(void)unused;
	for (int i = BEGIN; i < DOORS; i++) {
		union any args;
		union any out;

		doors[i].fill(&args);
		fill_out(&doors[i], &out);
		memset(&err, UNTOUCHED, sizeof(err));
		th_check(go_on("NULL handle", &doors[i], NULL, &args, &out, &err) == ACCTLINK_BAD_ARGUMENT
				&& strcmp(err.where, "handle") == 0,
			"%s", doors[i].name);
		th_check(go_on("all NULL", &doors[i], NULL, NULL, NULL, &err) == ACCTLINK_BAD_ARGUMENT, "%s",
			doors[i].name);
	}
	memset(&err, UNTOUCHED, sizeof(err));
	th_check(host->api.reload(NULL, &err) == ACCTLINK_BAD_ARGUMENT, "reload");
	check_error("reload", ACCTLINK_BAD_ARGUMENT, &err);
	th_check(host->api.reload(NULL, NULL) == ACCTLINK_BAD_ARGUMENT, "reload");
	memset(&err, UNTOUCHED, sizeof(err));
	th_check(host->api.shutdown(NULL, 0, &err) == ACCTLINK_BAD_ARGUMENT, "shutdown");
	check_error("shutdown", ACCTLINK_BAD_ARGUMENT, &err);
	th_check(host->api.shutdown(NULL, 0, NULL) == ACCTLINK_BAD_ARGUMENT, "shutdown");
	nothing_was_sent();
}

static void init_needs_a_place_for_the_handle(void **unused)
{
	acctlink_error err;
	union any args;

	(void)unused;
	fill_init(&args);
	memset(&err, UNTOUCHED, sizeof(err));
	th_check(host->api.init(&args.init, NULL, &err) == ACCTLINK_BAD_ARGUMENT, "init");
	check_error("init", ACCTLINK_BAD_ARGUMENT, &err);
	th_check(host->api.init(&args.init, NULL, NULL) == ACCTLINK_BAD_ARGUMENT, "init");
	th_check(host->api.init(NULL, NULL, NULL) == ACCTLINK_BAD_ARGUMENT, "init");
}

static void null_arguments_and_null_required_outputs_are_bad_arguments(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		union any args;
		union any out;

		door->fill(&args);
		fill_out(door, &out);
		refused("NULL args", door, NULL, door->out_size > 0 ? &out : NULL, door->out_size, "args");
		if (door->out_required)
			refused("NULL out", door, &args, NULL, 0, "out");
		else if (door->out_size > 0)
			accepted("NULL optional out", door, &args, NULL);
	}
	nothing_was_sent();
}

static void a_null_error_is_fine_on_success_as_well(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		union any args;
		union any out;

		doors[i].fill(&args);
		fill_out(&doors[i], &out);
		th_check(doors[i].call(host->handle, &args, doors[i].out_size > 0 ? &out : NULL, NULL) == ACCTLINK_OK,
			"%s", doors[i].name);
	}
	th_check(host->api.reload(host->handle, NULL) == ACCTLINK_OK, "reload");
}

static void success_never_writes_the_error(void **unused)
{
	acctlink_error err;

	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		union any args;
		union any out;

		doors[i].fill(&args);
		fill_out(&doors[i], &out);
		accepted("good arguments", &doors[i], &args, doors[i].out_size > 0 ? &out : NULL);
	}
	memset(&err, UNTOUCHED, sizeof(err));
	check_error("reload", host->api.reload(host->handle, &err), &err);
}

static void a_bearer_that_is_served_at_the_deadline_is_a_success_without_an_error(void **unused)
{
	struct th_provider *slow = th_provider_start(TH_PRACTICE, NULL);
	struct th_host *patient = th_host_new(slow, NULL);
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err;
	union any args;

	(void)unused;
	th_must_link(patient, slow, "ana", NULL, NULL);
	free(th_must_bearer(patient, "ana", NULL, NULL));
	th_advance(patient, slow, 3590 * 1000);
	th_script(slow, "token", "refresh_token", 1, "{'hold':'refresh'}");
	fill_bearer(&args);
	args.bearer.min_ttl_ms = 60 * 1000; /* more than is left: only a refresh brings it */
	args.bearer.deadline_ms = 100;
	memset(&err, UNTOUCHED, sizeof(err));
	th_check(patient->api.get_bearer(patient->handle, &args.bearer, bearer, sizeof(bearer), &info, &err)
			== ACCTLINK_OK,
		"%s", th_error_text(&err));
	check_error("get_bearer", ACCTLINK_OK, &err);
	th_check(info.generation == 1, "generation %llu", (unsigned long long)info.generation);
	th_wait_held(slow, "refresh", 1);
	th_release(slow, "refresh");
	th_wait_event(patient, "REFRESHED", 1);
	th_host_free(&patient);
	th_provider_stop(&slow);
}

/* ---- sizes --------------------------------------------------------------------------- */

static void sizes_that_no_struct_has_are_refused(void **unused)
{
	static const uint32_t sizes[] = { 0, 1, 4, 7, 9, 12, 65535, 65537, 65540, 65544, 0x80000000u, UINT32_MAX };

	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		union any args;
		union any out;

		door->fill(&args);
		fill_out(door, &out);
		for (size_t j = 0; j <= COUNT(sizes); j++) {
			uint32_t size = j < COUNT(sizes) ? sizes[j] : (uint32_t)door->args_size + 4;
			char *what = th_printf("args of size %u", size);
			struct edge at = edge_new(&args, door->args_size);

			memcpy(at.at, &size, sizeof(size));
			refused(what, door, at.at, door->out_size > 0 ? &out : NULL, door->out_size, "args");
			edge_free(&at);
			free(what);
			if (door->out_size == 0)
				continue;
			size = j < COUNT(sizes) ? sizes[j] : (uint32_t)door->out_size + 4;
			what = th_printf("%s of size %u", out_name(door), size);
			at = edge_new(&out, door->out_size);
			memcpy(at.at, &size, sizeof(size));
			refused(what, door, &args, at.at, door->out_size, out_name(door));
			edge_free(&at);
			free(what);
		}
	}
	nothing_was_sent();
}

static void the_size_alone_is_read_before_it_is_believed(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const uint32_t zero = 0;
		struct edge at = edge_new(&zero, sizeof(zero));

		refused("4 bytes of args", &doors[i], at.at, NULL, 0, doors[i].out_required ? "" : "args");
		edge_free(&at);
	}
}

/* The struct with `size` bytes; what is beyond the known ones is zero. */
static struct edge grown(const union any *from, size_t known, uint32_t size)
{
	struct edge at = edge_new(NULL, size);

	memcpy(at.at, from, known);
	memcpy(at.at, &size, sizeof(size));
	return at;
}

static void a_longer_struct_is_taken_if_its_unknown_tail_is_zero(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		const uint32_t args_sizes[] = { (uint32_t)door->args_size + 8, 4096, 65536 };
		const uint32_t out_sizes[] = { (uint32_t)door->out_size + 8, 4096, 65536 };

		for (size_t j = 0; j < COUNT(args_sizes); j++) {
			char *what = th_printf("args of size %u", args_sizes[j]);
			union any args;
			union any out;
			struct edge long_args;
			struct edge long_out;

			door->fill(&args);
			fill_out(door, &out);
			long_args = grown(&args, door->args_size, args_sizes[j]);
			long_out = grown(&out, door->out_size, out_sizes[j]);
			accepted(what, door, long_args.at, door->out_size > 0 ? long_out.at : NULL);
			th_check(door->out_size == 0
					|| all_bytes(long_out.at + door->out_size, long_out.len - door->out_size, 0),
				"%s: what this version doesn't know of the output was written", door->name);
			edge_free(&long_args);
			edge_free(&long_out);
			free(what);
		}
	}
}

static void a_longer_struct_is_refused_if_its_tail_says_something(void **unused)
{
	static const uint32_t sizes[] = { 8, 64, 0 }; /* more than known; 0: 64 KiB */

	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		union any args;
		union any out;

		door->fill(&args);
		fill_out(door, &out);
		for (size_t j = 0; j < 2 * COUNT(sizes); j++) {
			uint32_t more = sizes[j / 2];
			uint32_t size = more == 0 ? 65536 : (uint32_t)door->args_size + more;
			struct edge at = grown(&args, door->args_size, size);

			at.at[j % 2 == 0 ? door->args_size : size - 1] = 1;
			refused("args with an unknown member", door, at.at, door->out_size > 0 ? &out : NULL,
				door->out_size, "args");
			edge_free(&at);
			if (door->out_size == 0)
				continue;
			size = more == 0 ? 65536 : (uint32_t)door->out_size + more;
			at = grown(&out, door->out_size, size);
			at.at[j % 2 == 0 ? door->out_size : size - 1] = 0x80;
			refused("an output with an unknown member", door, &args, at.at, size, out_name(door));
			edge_free(&at);
		}
	}
	nothing_was_sent();
}

static void a_shorter_argument_struct_gets_defaults(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		unsigned good = 0;

		for (uint32_t size = 8; size <= door->args_size; size += 8) {
			union any args;
			union any zeroed;
			union any out;
			struct edge at;
			acctlink_status wanted;
			acctlink_status rc;

			door->fill(&args);
			memset(&zeroed, 0, sizeof(zeroed));
			memcpy(&zeroed, &args, size);
			zeroed.size = (uint32_t)door->args_size;
			fill_out(door, &out);
			wanted = go("zeroed args", door, &zeroed, door->out_size > 0 ? &out : NULL, NULL);
			if (door == &doors[UNLINK])
				door->fill(&args);
			fill_out(door, &out);
			at = edge_new(&args, size);
			memcpy(at.at, &size, sizeof(size));
			rc = go("short args", door, at.at, door->out_size > 0 ? &out : NULL, NULL);
			th_check(rc == wanted, "%s with %u bytes of args: %d, but %d with zeros", door->name, size,
				(int)rc, (int)wanted);
			good += rc == ACCTLINK_OK;
			edge_free(&at);
		}
		th_check(good > 0, "%s: no short struct was good", door->name);
	}
}

/* The page behind the struct faults, so what is written there ends the test. */
static void of_a_shorter_output_no_more_than_its_size_is_written(void **unused)
{
	(void)unused;
	for (int i = 0; i < DOORS; i++) {
		const struct door *door = &doors[i];
		union any args;
		union any full;

		if (door->out_size == 0)
			continue;
		door->fill(&args);
		fill_out(door, &full);
		accepted("a whole output", door, &args, &full);
		for (uint32_t size = 8; size <= door->out_size; size += 8) {
			union any zeroed;
			union any out;
			struct edge at;
			acctlink_status wanted;
			acctlink_status rc;

			fill_out(door, &out);
			memset(&zeroed, 0, sizeof(zeroed));
			memcpy(&zeroed, &out, size);
			zeroed.size = (uint32_t)door->out_size;
			if (door == &doors[UNLINK])
				door->fill(&args);
			wanted = go("a zeroed output", door, &args, &zeroed, NULL);
			at = edge_new(&out, size);
			memcpy(at.at, &size, sizeof(size));
			if (door == &doors[UNLINK])
				door->fill(&args);
			rc = go("a short output", door, &args, at.at, NULL);
			th_check(rc == wanted, "%s with %u bytes of output: %d, but %d with zeros", door->name, size,
				(int)rc, (int)wanted);
			if (rc == ACCTLINK_OK && door->same_again)
				th_check(memcmp(at.at + 4, zeroed.bytes + 4, size - 4) == 0,
					"%s: other results in %u bytes", door->name, size);
			th_check(memcmp(at.at, &size, sizeof(size)) == 0, "%s: size was written", door->name);
			edge_free(&at);
		}
	}
}

/* ---- strings in ------------------------------------------------------------------------ */

enum kind { TEXT, ID, RAW };
struct field {
	int door;
	const char *name;
	size_t offset;
	enum kind kind;
	size_t max;
	bool required;
	acctlink_status longest; /* what a string of `max` bytes ends in */
	const char *words;       /* of the error then; NULL: any */
};

#define REF(door, type, at_end) \
	{ door, "user", offsetof(type, link.user), TEXT, 1024, true, at_end, NULL }, \
		{ door, "provider", offsetof(type, link.provider), TEXT, 63, true, at_end, NULL }, \
		{ door, "institution", offsetof(type, link.institution), TEXT, 255, false, at_end, NULL }, \
	{ \
		door, "link_id", offsetof(type, link.link_id), ID, 32, false, at_end, NULL \
	}

static const struct field fields[] = {
	{ INIT, "config_path", offsetof(acctlink_init_args, config_path), TEXT, 4095, true, ACCTLINK_BAD_CONFIG, NULL },
	{ BEGIN, "user", offsetof(acctlink_begin_args, user), TEXT, 1024, true, ACCTLINK_OK, NULL },
	{ BEGIN, "provider", offsetof(acctlink_begin_args, provider), TEXT, 63, true, ACCTLINK_UNKNOWN_PROVIDER, NULL },
	{ BEGIN, "institution", offsetof(acctlink_begin_args, institution), TEXT, 255, false, ACCTLINK_OK, NULL },
	{ BEGIN, "redirect_uri", offsetof(acctlink_begin_args, redirect_uri), TEXT, 4096, false, ACCTLINK_BAD_ARGUMENT,
		"not one of the provider's" },
	{ BEGIN, "scope", offsetof(acctlink_begin_args, scope), TEXT, 8192, false, ACCTLINK_OK, NULL },
	{ CALLBACK, "user", offsetof(acctlink_callback_args, user), TEXT, 1024, true, ACCTLINK_FOREIGN_CALLBACK, NULL },
	{ CALLBACK, "params", offsetof(acctlink_callback_args, params), RAW, 65536, true, ACCTLINK_BAD_CALLBACK,
		"'state' is missing" },
	{ CALLBACK, "cookie", offsetof(acctlink_callback_args, cookie), RAW, 65536, false, ACCTLINK_FOREIGN_CALLBACK,
		NULL },
	REF(BEARER, acctlink_bearer_args, ACCTLINK_NOT_LINKED),
	REF(UNLINK, acctlink_unlink_args, ACCTLINK_NOT_LINKED),
	REF(INSPECT, acctlink_inspect_args, ACCTLINK_NOT_LINKED),
	{ LIST, "user", offsetof(acctlink_list_args, user), TEXT, 1024, true, ACCTLINK_OK, NULL },
	{ LIST, "link_id", offsetof(acctlink_list_args, after), ID, 32, false, ACCTLINK_OK, NULL },
	REF(REPORT, acctlink_rejected_args, ACCTLINK_OK),
	{ REPORT, "code", offsetof(acctlink_rejected_args, code), TEXT, 63, false, ACCTLINK_OK, NULL },
};

static void put_field(const struct field *field, union any *args, const void *data, size_t len)
{
	const acctlink_str text = { data, len };

	memcpy(args->bytes + field->offset, &text, sizeof(text));
}

static void text_is_refused(const struct field *field, const char *what, const void *data, size_t len)
{
	const struct door *door = &doors[field->door];
	char *said = th_printf("%s %s", field->name, what);
	struct edge at = edge_new(data, data != NULL ? len : 0);
	union any args;
	union any out;

	if (door == &doors[UNLINK]) { /* its link need not be there */
		memset(&args, 0, sizeof(args));
		args.unlink = (acctlink_unlink_args)ACCTLINK_UNLINK_ARGS_INIT;
		args.unlink.link = ref_to("ana");
	} else {
		door->fill(&args);
	}
	fill_out(door, &out);
	put_field(field, &args, data != NULL ? at.at : NULL, len);
	refused(said, door, &args, door->out_size > 0 ? &out : NULL, door->out_size, field->name);
	edge_free(&at);
	free(said);
}

static char *repeated(char letter, size_t len)
{
	char *text = malloc(len + 1);

	th_check(text != NULL, "no memory");
	memset(text, letter, len);
	text[len] = '\0';
	return text;
}

static void strings_that_are_longer_than_allowed_are_refused(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		char *text = repeated('a', fields[i].max + 1);

		if (fields[i].kind != RAW)
			text_is_refused(&fields[i], "one byte too long", text, fields[i].max + 1);
		free(text);
		text = repeated('a', 1 << 20);
		if (fields[i].kind != RAW)
			text_is_refused(&fields[i], "of a mebibyte", text, 1 << 20);
		free(text);
		text_is_refused(&fields[i], "without data", NULL, 5);
		text_is_refused(&fields[i], "without data", NULL, SIZE_MAX);
	}
	nothing_was_sent();
}

static void strings_as_long_as_allowed_are_taken_and_read_no_further(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		const struct field *field = &fields[i];
		const struct door *door = &doors[field->door];
		char *text = repeated('a', field->max);
		struct edge at = edge_new(text, field->max);
		acctlink_error err;
		acctlink_status rc;
		union any args;
		union any out;

		door->fill(&args);
		fill_out(door, &out);
		put_field(field, &args, at.at, at.len);
		rc = go(field->name, door, &args, door->out_size > 0 ? &out : NULL, &err);
		th_check(rc == field->longest && (field->words == NULL || strstr(err.message, field->words) != NULL),
			"%s %s of %zu bytes: %d wanted, got %s", door->name, field->name, field->max,
			(int)field->longest, rc == ACCTLINK_OK ? "OK" : th_error_text(&err));
		edge_free(&at);
		free(text);
	}
	nothing_was_sent();
}

static void strings_that_are_not_utf_8_or_have_a_nul_are_refused(void **unused)
{
	static const struct {
		const char *what;
		const char *text;
		size_t len;
	} bad[] = {
		{ "with a NUL", "an\0a", 4 },
		{ "that is a NUL", "", 1 },
		{ "with a NUL at its end", "ana", 4 },
		{ "with a lone continuation", "an\x80", 3 },
		{ "with an unfinished sequence", "an\xe2\x82", 4 },
		{ "with an overlong slash", "\xc0\xaf", 2 },
		{ "with an overlong NUL", "\xc0\x80", 2 },
		{ "with a surrogate", "\xed\xa0\x80", 3 },
		{ "beyond U+10FFFF", "\xf4\x90\x80\x80", 4 },
		{ "with a byte that UTF-8 never has", "\xff", 1 },
		{ "in Latin-1", "Ren\xe9", 4 },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		for (size_t j = 0; fields[i].kind == TEXT && j < COUNT(bad); j++)
			text_is_refused(&fields[i], bad[j].what, bad[j].text, bad[j].len);
	}
	nothing_was_sent();
}

static void strings_beyond_ascii_are_taken_byte_for_byte(void **unused)
{
	static const char *const users[] = { "Ren\xc3\xa9", "Rene\xcc\x81", "\xe7\x8e\x8b", "\xf0\x9f\x8f\xa6", " ana",
		"ana " };
	acctlink_list_result found = ACCTLINK_LIST_RESULT_INIT;

	(void)unused;
	th_must_link(host, provider, users[0], NULL, NULL);
	requests++;
	for (size_t i = 0; i < COUNT(users); i++) {
		union any args;

		fill_list(&args);
		args.list.user = th_str(users[i]);
		found.items = items;
		found.capacity = COUNT(items);
		accepted("a user beyond ASCII", &doors[LIST], &args, &found);
		th_check(found.count == (i == 0), "%s has %u links", users[i], found.count);
	}
}

static void required_strings_must_be_given(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		if (!fields[i].required || fields[i].kind == RAW)
			continue;
		text_is_refused(&fields[i], "that is not given", NULL, 0);
		text_is_refused(&fields[i], "that is empty", "x", 0);
	}
	nothing_was_sent();
}

static void optional_strings_may_be_empty_with_or_without_data(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		const struct door *door = &doors[fields[i].door];
		bool cookie = fields[i].door == CALLBACK;

		for (int j = 0; !fields[i].required && j < 2; j++) {
			union any args;
			union any out;
			acctlink_status rc;

			door->fill(&args);
			fill_out(door, &out);
			put_field(&fields[i], &args, j == 0 ? NULL : "x", 0);
			rc = go(fields[i].name, door, &args, door->out_size > 0 ? &out : NULL, NULL);
			th_check(rc == (cookie ? ACCTLINK_FOREIGN_CALLBACK : ACCTLINK_OK), "%s %s: %d", door->name,
				fields[i].name, (int)rc);
		}
	}
}

static void a_link_id_is_32_lower_case_hex_digits(void **unused)
{
	static const char *const bad[] = { "0", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdef0",
		"0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcdeg",
		"0123456789abcdef 123456789abcdef",
		("\xc3\xa9"
		 "23456789abcdef0123456789abcdef") };

	(void)unused;
	for (size_t i = 0; i < COUNT(fields); i++) {
		if (fields[i].kind != ID)
			continue;
		for (size_t j = 0; j < COUNT(bad); j++)
			text_is_refused(&fields[i], bad[j], bad[j], strlen(bad[j]));
		text_is_refused(&fields[i], "with a NUL",
			"0123456789abcdef\0"
			"123456789abcdef",
			32);
		text_is_refused(&fields[i], "without data", NULL, 32);
	}
}

static void raw_callbacks_are_bounded_and_needed(void **unused)
{
	char *text = repeated('a', 65537);
	acctlink_error err;
	union any args;

	(void)unused;
	fill_callback(&args);
	args.callback.params = (acctlink_str){ text, 65537 };
	th_check(go("params", &doors[CALLBACK], &args, NULL, &err) == ACCTLINK_BAD_CALLBACK
			&& strcmp(err.where, "params") == 0,
		"%s", th_error_text(&err));
	args.callback.params = (acctlink_str){ NULL, 0 };
	th_check(go("params", &doors[CALLBACK], &args, NULL, &err) == ACCTLINK_BAD_CALLBACK
			&& strcmp(err.where, "params") == 0,
		"%s", th_error_text(&err));
	fill_callback(&args);
	args.callback.cookie = (acctlink_str){ text, 65537 };
	th_check(go("cookie", &doors[CALLBACK], &args, NULL, &err) == ACCTLINK_BAD_CALLBACK
			&& strcmp(err.where, "cookie") == 0,
		"%s", th_error_text(&err));
	/* Bytes of any kind in a cookie are somebody else's cookie. */
	args.callback.cookie = (acctlink_str){ "\0\xff=;;\0", 6 };
	th_check(go("cookie", &doors[CALLBACK], &args, NULL, &err) == ACCTLINK_FOREIGN_CALLBACK, "%s",
		th_error_text(&err));
	free(text);
	nothing_was_sent();
}

/* ---- strings out -------------------------------------------------------------------------- */

static void an_output_with_room_but_no_place_is_refused(void **unused)
{
	(void)unused;
	for (int i = 0; i < 3; i++) {
		union any args;
		union any out;
		acctlink_out *const begin[] = { &out.begin_out.url, &out.begin_out.state, &out.begin_out.set_cookie };
		acctlink_out *const inspect[] = { &out.inspect_out.subject, &out.inspect_out.scope };

		fill_begin(&args);
		fill_out(&doors[BEGIN], &out);
		begin[i]->data = NULL;
		refused("NULL with room", &doors[BEGIN], &args, &out, sizeof(out.begin_out), "out");
		if (i == 2)
			continue;
		fill_inspect(&args);
		fill_out(&doors[INSPECT], &out);
		inspect[i]->data = NULL;
		refused("NULL with room", &doors[INSPECT], &args, &out, sizeof(out.inspect_out), "out");
	}
}

static void get_bearer_refuses_a_null_buffer_that_has_room(void **unused)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	union any args;

	(void)unused;
	fill_bearer(&args);
	th_check(host->api.get_bearer(host->handle, &args.bearer, NULL, 1, &info, &err) == ACCTLINK_BAD_ARGUMENT
			&& strcmp(err.where, "buf") == 0,
		"%s", th_error_text(&err));
	th_check(info.len == 0 && info.generation == 0, "info was written");
}

static void a_small_bearer_buffer_stays_untouched_and_the_need_is_told(void **unused)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_bearer_info asked = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	union any args;
	size_t len;

	(void)unused;
	fill_bearer(&args);
	th_check(host->api.get_bearer(host->handle, &args.bearer, bearer, sizeof(bearer), &info, &err) == ACCTLINK_OK,
		"%s", th_error_text(&err));
	len = (size_t)info.len;
	th_check(len > 0 && strlen(bearer) == len, "len %zu", len);
	for (size_t cap = 0; cap <= len; cap += cap == 0 ? 1 : len - 1) {
		struct edge at = edge_new(NULL, cap);

		memset(at.at, UNTOUCHED, cap);
		memset(&err, UNTOUCHED, sizeof(err));
		asked = (acctlink_bearer_info)ACCTLINK_BEARER_INFO_INIT;
		th_check(host->api.get_bearer(
				 host->handle, &args.bearer, cap == 0 ? NULL : (char *)at.at, cap, &asked, &err)
				== ACCTLINK_BUFFER_TOO_SMALL,
			"cap %zu", cap);
		check_error("get_bearer", ACCTLINK_BUFFER_TOO_SMALL, &err);
		th_check(all_bytes(at.at, cap, UNTOUCHED), "cap %zu: the buffer was written", cap);
		th_check(memcmp(&asked, &info, sizeof(info)) == 0, "cap %zu: info differs", cap);
		edge_free(&at);
	}
	th_check(host->api.get_bearer(host->handle, &args.bearer, NULL, 0, NULL, NULL) == ACCTLINK_BUFFER_TOO_SMALL,
		"without info");
	struct edge at = edge_new(NULL, len + 1);
	th_check(host->api.get_bearer(host->handle, &args.bearer, (char *)at.at, len + 1, NULL, NULL) == ACCTLINK_OK
			&& strcmp((char *)at.at, bearer) == 0,
		"a buffer that just fits");
	edge_free(&at);
	nothing_was_sent();
}

static void a_begin_without_room_tells_all_lengths_and_leaves_no_flow(void **unused)
{
	int64_t flows = store_sql(host->config_path, "SELECT count(*) FROM flow");
	acctlink_begin_result full;
	union any args;

	(void)unused;
	fill_begin(&args);
	args.begin.user = th_str("flo"); /* the oldest of too many flows would be swept */
	fill_begin_out(&full);
	accepted("begin", &doors[BEGIN], &args, &full);
	th_check(store_sql(host->config_path, "SELECT count(*) FROM flow") == flows + 1, "one flow more");
	for (int i = 0; i < 3; i++) {
		union any out;
		acctlink_out *const one[] = { &out.begin_out.url, &out.begin_out.state, &out.begin_out.set_cookie };

		for (int asking = 0; asking < 2; asking++) {
			acctlink_error err;

			fill_out(&doors[BEGIN], &out);
			memset(url, UNTOUCHED, sizeof(url));
			memset(state, UNTOUCHED, sizeof(state));
			memset(set_cookie, UNTOUCHED, sizeof(set_cookie));
			one[i]->cap = i == 0 ? full.url.len : i == 1 ? full.state.len : full.set_cookie.len;
			if (asking) { /* no buffer at all: only the need is wanted */
				out.begin_out.url = (acctlink_out){ NULL, 0, 0 };
				out.begin_out.state = (acctlink_out){ NULL, 0, 0 };
				out.begin_out.set_cookie = (acctlink_out){ NULL, 0, 0 };
			}
			th_check(go("begin", &doors[BEGIN], &args, &out, &err) == ACCTLINK_BUFFER_TOO_SMALL, "%s",
				th_error_text(&err));
			th_check(out.begin_out.url.len == full.url.len && out.begin_out.state.len == full.state.len
					&& out.begin_out.set_cookie.len == full.set_cookie.len,
				"lengths %zu %zu %zu", out.begin_out.url.len, out.begin_out.state.len,
				out.begin_out.set_cookie.len);
			th_check(out.begin_out.expires_at_ms == 0, "expires_at_ms was written");
			th_check(all_bytes(url, sizeof(url), UNTOUCHED) && all_bytes(state, sizeof(state), UNTOUCHED)
					&& all_bytes(set_cookie, sizeof(set_cookie), UNTOUCHED),
				"a text of no flow was written");
		}
	}
	th_check(store_sql(host->config_path, "SELECT count(*) FROM flow") == flows + 1, "a flow was stored");
}

static void begin_writes_texts_into_buffers_that_just_fit_and_no_further(void **unused)
{
	acctlink_begin_result out;
	struct edge at[3];
	union any args;

	(void)unused;
	fill_begin(&args);
	fill_begin_out(&out);
	accepted("begin", &doors[BEGIN], &args, &out);
	at[0] = edge_new(NULL, out.url.len + 1);
	at[1] = edge_new(NULL, out.state.len + 1);
	at[2] = edge_new(NULL, out.set_cookie.len + 1);
	out.url = (acctlink_out){ (char *)at[0].at, at[0].len, 0 };
	out.state = (acctlink_out){ (char *)at[1].at, at[1].len, 0 };
	out.set_cookie = (acctlink_out){ (char *)at[2].at, at[2].len, 0 };
	accepted("begin", &doors[BEGIN], &args, &out);
	th_check(strlen(out.url.data) == out.url.len && strlen(out.state.data) == out.state.len
			&& strlen(out.set_cookie.data) == out.set_cookie.len,
		"lengths");
	th_check(strstr(out.url.data, out.state.data) != NULL, "the URL has the state");
	out.state = (acctlink_out){ NULL, 0, 0 };
	accepted("begin without state", &doors[BEGIN], &args, &out);
	th_check(out.state.len == at[1].len - 1, "the length of a state that is not wanted");
	for (int i = 0; i < 3; i++)
		edge_free(&at[i]);
}

static void an_inspect_without_room_tells_both_lengths_and_writes_nothing_else(void **unused)
{
	acctlink_inspect_result full;
	union any args;

	(void)unused;
	fill_inspect(&args);
	fill_inspect_out(&full);
	accepted("inspect", &doors[INSPECT], &args, &full);
	th_check(full.subject.len == strlen(subject) && full.scope.len == strlen(scope) && full.scope.len > 0,
		"lengths");
	for (int i = 0; i < 2; i++) {
		acctlink_inspect_result before;
		acctlink_error err;
		union any out;

		fill_out(&doors[INSPECT], &out);
		if (i == 0)
			out.inspect_out.subject.cap = full.subject.len;
		else
			out.inspect_out.scope.cap = full.scope.len;
		memset(subject, UNTOUCHED, sizeof(subject));
		memset(scope, UNTOUCHED, sizeof(scope));
		before = out.inspect_out;
		th_check(go("inspect", &doors[INSPECT], &args, &out, &err) == ACCTLINK_BUFFER_TOO_SMALL, "%s",
			th_error_text(&err));
		th_check(out.inspect_out.subject.len == full.subject.len && out.inspect_out.scope.len == full.scope.len,
			"lengths");
		before.subject.len = full.subject.len;
		before.scope.len = full.scope.len;
		th_check(memcmp(&before, &out.inspect_out, sizeof(before)) == 0, "more than the lengths was written");
		th_check(all_bytes(subject, sizeof(subject), UNTOUCHED) && all_bytes(scope, sizeof(scope), UNTOUCHED),
			"a text was written");
	}
}

static void inspect_texts_that_are_not_wanted_are_only_measured(void **unused)
{
	acctlink_inspect_result full;
	acctlink_inspect_result out = ACCTLINK_INSPECT_RESULT_INIT;
	union any args;

	(void)unused;
	fill_inspect(&args);
	fill_inspect_out(&full);
	accepted("inspect", &doors[INSPECT], &args, &full);
	accepted("inspect", &doors[INSPECT], &args, &out);
	th_check(out.subject.data == NULL && out.subject.len == full.subject.len && out.scope.len == full.scope.len,
		"lengths");
	th_check(strcmp(out.link_id, full.link_id) == 0, "the rest is there");
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void a_list_needs_items_a_capacity_and_a_sound_stride(void **unused)
{
	static const uint32_t strides[] = { 0, 4, 7, 12, 65544, UINT32_MAX };
	union any args;
	union any out;

	(void)unused;
	fill_list(&args);
	fill_out(&doors[LIST], &out);
	out.list_out.items = NULL;
	refused("NULL items", &doors[LIST], &args, &out, sizeof(out.list_out), "items");
	fill_out(&doors[LIST], &out);
	out.list_out.capacity = 0;
	refused("no capacity", &doors[LIST], &args, &out, sizeof(out.list_out), "capacity");
	for (size_t i = 0; i < COUNT(strides); i++) {
		fill_out(&doors[LIST], &out);
		out.list_out.stride = strides[i];
		memset(items, UNTOUCHED, sizeof(items));
		refused("stride", &doors[LIST], &args, &out, sizeof(out.list_out), "stride");
		th_check(all_bytes(items, sizeof(items), UNTOUCHED), "items were written");
	}
	memset(items, 0, sizeof(items));
}

static void flags_that_this_version_does_not_know_are_refused(void **unused)
{
	union any args;
	union any out;

	(void)unused;
	for (unsigned bit = 1; bit < 32; bit++) {
		fill_begin(&args);
		fill_out(&doors[BEGIN], &out);
		args.begin.flags = 1u << bit | ACCTLINK_BEGIN_NEW_SUBJECT;
		refused("flags", &doors[BEGIN], &args, &out, sizeof(out.begin_out), "flags");
	}
	args.begin.flags = ACCTLINK_BEGIN_NEW_SUBJECT;
	accepted("flags", &doors[BEGIN], &args, &out);
}

static void a_report_needs_a_generation_that_can_exist(void **unused)
{
	static const uint64_t bad[] = { 0, (uint64_t)INT64_MAX + 1, UINT64_MAX };
	union any args;

	(void)unused;
	fill_report(&args);
	for (size_t i = 0; i < COUNT(bad); i++) {
		args.report.generation = bad[i];
		refused("generation", &doors[REPORT], &args, NULL, 0, "generation");
	}
	args.report.generation = INT64_MAX;
	args.report.http_status = INT32_MIN;
	accepted("the largest generation", &doors[REPORT], &args, NULL);
}

static void the_longest_deadline_is_no_overflow(void **unused)
{
	union any args;
	union any out;

	(void)unused;
	fill_begin(&args);
	args.begin.deadline_ms = UINT32_MAX;
	fill_out(&doors[BEGIN], &out);
	accepted("begin", &doors[BEGIN], &args, &out);
	fill_callback(&args);
	args.callback.deadline_ms = UINT32_MAX;
	accepted("on_callback", &doors[CALLBACK], &args, NULL);
	fill_bearer(&args);
	args.bearer.deadline_ms = UINT32_MAX;
	accepted("get_bearer", &doors[BEARER], &args, NULL);
	fill_unlink(&args);
	args.unlink.deadline_ms = UINT32_MAX;
	accepted("unlink", &doors[UNLINK], &args, NULL);
	fill_inspect(&args);
	args.inspect.deadline_ms = UINT32_MAX;
	fill_out(&doors[INSPECT], &out);
	accepted("inspect", &doors[INSPECT], &args, &out);
	fill_list(&args);
	args.list.deadline_ms = UINT32_MAX;
	fill_out(&doors[LIST], &out);
	accepted("list", &doors[LIST], &args, &out);
}

static void a_min_ttl_beyond_the_bearer_s_life_still_gets_a_bearer(void **unused)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	union any args;

	(void)unused;
	fill_bearer(&args);
	args.bearer.min_ttl_ms = UINT32_MAX;
	accepted("get_bearer", &doors[BEARER], &args, &info);
	th_check(info.generation == 1, "generation %llu: it has most of its life left",
		(unsigned long long)info.generation);
	nothing_was_sent();
}

/* ---- hooks ------------------------------------------------------------------------------------ */

static void no_log(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	(void)level;
	(void)message;
}

static void hooks_follow_the_same_rules_of_size(void **unused)
{
	static const uint32_t bad[] = { 0, 7, 12, 65544, UINT32_MAX };
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	union any args;
	struct edge at;

	(void)unused;
	hooks.log = no_log;
	fill_init(&args);
	for (size_t i = 0; i < COUNT(bad); i++) {
		at = edge_new(&hooks, sizeof(hooks));
		memcpy(at.at, &bad[i], sizeof(bad[i]));
		args.init.hooks = (void *)at.at;
		refused("hooks", &doors[INIT], &args, NULL, 0, "hooks");
		edge_free(&at);
	}
	for (uint32_t size = 8; size <= sizeof(hooks); size += 8) {
		at = edge_new(&hooks, size);
		memcpy(at.at, &size, sizeof(size));
		args.init.hooks = (void *)at.at;
		accepted("short hooks", &doors[INIT], &args, NULL);
		edge_free(&at);
	}
	for (int said = 0; said < 2; said++) {
		const uint32_t size = sizeof(hooks) + 16;

		at = edge_new(NULL, size);
		memcpy(at.at, &hooks, sizeof(hooks));
		memcpy(at.at, &size, sizeof(size));
		at.at[size - 1] = (unsigned char)said;
		args.init.hooks = (void *)at.at;
		if (said)
			refused("a hook that nobody knows", &doors[INIT], &args, NULL, 0, "hooks");
		else
			accepted("longer hooks", &doors[INIT], &args, NULL);
		edge_free(&at);
	}
}

/* ---- afterwards --------------------------------------------------------------------------------- */

static void refused_calls_leave_the_link_as_it_was(void **unused)
{
	acctlink_inspect_result before = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_inspect_result after = ACCTLINK_INSPECT_RESULT_INIT;
	union any out;

	(void)unused;
	th_check(th_inspect(host, "ana", NULL, &before, NULL) == ACCTLINK_OK, "inspect");
	for (int i = BEGIN; i < DOORS; i++) {
		fill_out(&doors[i], &out);
		th_check(doors[i].call(host->handle, NULL, &out, NULL) == ACCTLINK_BAD_ARGUMENT, "%s", doors[i].name);
	}
	th_check(th_inspect(host, "ana", NULL, &after, NULL) == ACCTLINK_OK, "inspect");
	th_check(memcmp(&before, &after, sizeof(before)) == 0, "the link changed");
	th_check(after.state == ACCTLINK_STATE_LINKED && after.generation == 1 && after.epoch == 1, "state");
	nothing_was_sent();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_null_handle_is_a_bad_argument_of_every_function),
		cmocka_unit_test(init_needs_a_place_for_the_handle),
		cmocka_unit_test(null_arguments_and_null_required_outputs_are_bad_arguments),
		cmocka_unit_test(a_null_error_is_fine_on_success_as_well),
		cmocka_unit_test(success_never_writes_the_error),
		cmocka_unit_test(a_bearer_that_is_served_at_the_deadline_is_a_success_without_an_error),
		cmocka_unit_test(sizes_that_no_struct_has_are_refused),
		cmocka_unit_test(the_size_alone_is_read_before_it_is_believed),
		cmocka_unit_test(a_longer_struct_is_taken_if_its_unknown_tail_is_zero),
		cmocka_unit_test(a_longer_struct_is_refused_if_its_tail_says_something),
		cmocka_unit_test(a_shorter_argument_struct_gets_defaults),
		cmocka_unit_test(of_a_shorter_output_no_more_than_its_size_is_written),
		cmocka_unit_test(strings_that_are_longer_than_allowed_are_refused),
		cmocka_unit_test(strings_as_long_as_allowed_are_taken_and_read_no_further),
		cmocka_unit_test(strings_that_are_not_utf_8_or_have_a_nul_are_refused),
		cmocka_unit_test(strings_beyond_ascii_are_taken_byte_for_byte),
		cmocka_unit_test(required_strings_must_be_given),
		cmocka_unit_test(optional_strings_may_be_empty_with_or_without_data),
		cmocka_unit_test(a_link_id_is_32_lower_case_hex_digits),
		cmocka_unit_test(raw_callbacks_are_bounded_and_needed),
		cmocka_unit_test(an_output_with_room_but_no_place_is_refused),
		cmocka_unit_test(get_bearer_refuses_a_null_buffer_that_has_room),
		cmocka_unit_test(a_small_bearer_buffer_stays_untouched_and_the_need_is_told),
		cmocka_unit_test(a_begin_without_room_tells_all_lengths_and_leaves_no_flow),
		cmocka_unit_test(begin_writes_texts_into_buffers_that_just_fit_and_no_further),
		cmocka_unit_test(an_inspect_without_room_tells_both_lengths_and_writes_nothing_else),
		cmocka_unit_test(inspect_texts_that_are_not_wanted_are_only_measured),
		cmocka_unit_test(a_list_needs_items_a_capacity_and_a_sound_stride),
		cmocka_unit_test(flags_that_this_version_does_not_know_are_refused),
		cmocka_unit_test(a_report_needs_a_generation_that_can_exist),
		cmocka_unit_test(the_longest_deadline_is_no_overflow),
		cmocka_unit_test(a_min_ttl_beyond_the_bearer_s_life_still_gets_a_bearer),
		cmocka_unit_test(hooks_follow_the_same_rules_of_size),
		cmocka_unit_test(refused_calls_leave_the_link_as_it_was),
	};

	return cmocka_run_group_tests_name("arguments", tests, set_up, tear_down);
}
