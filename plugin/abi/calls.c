/* SPDX-License-Identifier: MIT
 * The exported calls. Each checks and copies in, hands an operation to its
 * room, waits up to the deadline and copies out. The host's memory is touched
 * on the host's own thread only.
 */
#include "abi/abi_int.h"

#include <string.h>

/* ---- waiting -------------------------------------------------------------------- */

static int64_t deadline_at(const struct al_config *config, uint32_t deadline_ms)
{
	return al_add_ms(al_monotonic_ms(), deadline_ms != 0 ? (int64_t)deadline_ms : config->call_timeout_ms);
}

/* The caller's end of a call that was started: its status, with err filled. */
static al_rc await(struct al_call *call, int64_t until, acctlink_error *err)
{
	if (!al_call_wait(call, until))
		return al_fail(err, ACCTLINK_TIMED_OUT, NULL,
			"the deadline passed; what was sent goes on and is kept, so call again");
	if (call->rc != ACCTLINK_OK && err != NULL)
		*err = call->err;
	return call->rc;
}

static bool set_text(struct al_buf *to, acctlink_str from)
{
	return al_buf_set(to, from.data, from.len);
}

/* ---- begin ------------------------------------------------------------------------- */

static al_rc check_begin(const acctlink_begin_args *args, const acctlink_begin_result *out, acctlink_error *err)
{
	al_rc rc = al_check_user(args->user, err);

	if (rc == ACCTLINK_OK)
		rc = al_check_name(args->provider, "provider", 1, 63, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(args->institution, "institution", 0, 255, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(args->redirect_uri, "redirect_uri", 0, 4096, err);
	if (rc == ACCTLINK_OK)
		rc = al_check_name(args->scope, "scope", 0, 8192, err);
	if (rc == ACCTLINK_OK && (args->flags & ~ACCTLINK_BEGIN_NEW_SUBJECT) != 0)
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "flags", "flags has bits that this version does not know");
	if (rc == ACCTLINK_OK
		&& ((out->url.data == NULL && out->url.cap > 0) || (out->state.data == NULL && out->state.cap > 0)
			|| (out->set_cookie.data == NULL && out->set_cookie.cap > 0)))
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "out", "an output buffer has a size but no data");
	return rc;
}

/* Only a configured redirect URI may be used, and it is used as configured. */
static const char *pick_redirect_uri(const struct al_provider_config *config, acctlink_str wanted)
{
	for (char **at = config->redirect_uris; *at != NULL; at++) {
		if (wanted.len == 0 || al_str_is(wanted, *at))
			return *at;
	}
	return NULL;
}

static al_rc fill_begin(struct acctlink *handle, const struct al_config *limits, const acctlink_begin_args *args,
	const acctlink_begin_result *out, struct al_begin_call *call, acctlink_error *err)
{
	char name[64] = { 0 };
	const struct al_provider_config *config;
	const char *redirect_uri;

	memcpy(name, args->provider.data, args->provider.len);
	call->provider = al_handle_provider(handle, name);
	if (call->provider == NULL)
		return al_fail(
			err, ACCTLINK_UNKNOWN_PROVIDER, "provider", "no provider of this name is in %s", limits->path);
	config = al_provider_config(call->provider);
	redirect_uri = pick_redirect_uri(config, args->redirect_uri);
	if (redirect_uri == NULL)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, config->where, "redirect_uri is not one of the provider's");
	if (config->institution_required && args->institution.len == 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, config->where, "this provider needs an institution (%s)",
			config->institution_parameter == NULL ? "institution" : config->institution_parameter);
	call->limits = (struct al_flow_limits){ limits->flow_lifetime_ms, limits->flow_result_lifetime_ms,
		limits->flows_per_user };
	call->new_subject_ok = (args->flags & ACCTLINK_BEGIN_NEW_SUBJECT) != 0;
	call->url_cap = out->url.cap;
	call->state_cap = out->state.cap;
	call->cookie_cap = out->set_cookie.cap;
	if (!set_text(&call->user, args->user) || !set_text(&call->institution, args->institution)
		|| !set_text(&call->redirect_uri, al_str(redirect_uri))
		|| !set_text(&call->scope, args->scope.len > 0 ? args->scope : al_str(config->scope)))
		return al_fail_memory(err);
	return ACCTLINK_OK;
}

/* Without success only the lengths are told: the texts are those of no flow. */
static void give_begin(
	acctlink_begin_result *to, acctlink_begin_result *out, const struct al_begin_call *call, bool success)
{
	al_give_text(&out->url, &call->url, success);
	al_give_text(&out->state, &call->state, success);
	al_give_text(&out->set_cookie, &call->set_cookie, success);
	if (success)
		out->expires_at_ms = call->expires_at;
	al_give_result(to, out, sizeof(*out));
}

static al_rc do_begin(struct acctlink *handle, const acctlink_begin_args *args, acctlink_begin_result *to,
	acctlink_begin_result *out, acctlink_error *err)
{
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_begin_call *call = al_begin_call_new();
	al_rc rc = call == NULL ? al_fail_memory(err) : fill_begin(handle, config, args, out, call, err);

	al_config_free(&config);
	if (rc != ACCTLINK_OK) {
		al_begin_call_free(&call);
		return rc;
	}
	rc = al_flows_begin(al_handle_runtime(handle)->flows, call, err);
	if (rc != ACCTLINK_OK)
		return rc;
	rc = await(&call->call, until, err);
	if (rc == ACCTLINK_OK || rc == ACCTLINK_BUFFER_TOO_SMALL)
		give_begin(to, out, call, rc == ACCTLINK_OK);
	al_call_unref(&call->call);
	return rc;
}

acctlink_status acctlink_begin(
	acctlink *handle, const acctlink_begin_args *given, acctlink_begin_result *to, acctlink_error *err)
{
	acctlink_begin_args args;
	acctlink_begin_result out;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK)
		rc = al_take_args(&out, sizeof(out), to, "out", err);
	if (rc == ACCTLINK_OK)
		rc = check_begin(&args, &out, err);
	if (rc == ACCTLINK_OK)
		rc = do_begin(handle, &args, to, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- on_callback ------------------------------------------------------------------------ */

static al_rc check_raw(acctlink_str text, const char *what, size_t min, acctlink_error *err)
{
	if (text.data == NULL && text.len > 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, what, "%s has a length but no data", what);
	if (text.len < min)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, what, "%s is empty", what);
	if (text.len > AL_PARAMS_MAX)
		return al_fail(err, ACCTLINK_BAD_CALLBACK, what, "%s has %zu bytes; at most %zu are read", what,
			text.len, (size_t)AL_PARAMS_MAX);
	return ACCTLINK_OK;
}

static void give_callback(
	acctlink_callback_result *to, acctlink_callback_result *out, const struct al_callback_call *call)
{
	out->flags = call->end.flags;
	out->epoch = (uint64_t)call->end.epoch;
	out->generation = (uint64_t)call->end.generation;
	memcpy(out->link_id, call->end.link_id, sizeof(call->end.link_id));
	memcpy(out->provider, al_buf_text(&call->provider), call->provider.len + 1);
	memcpy(out->institution, al_buf_text(&call->institution), call->institution.len + 1);
	al_give_result(to, out, sizeof(*out));
}

static al_rc do_callback(struct acctlink *handle, const acctlink_callback_args *args, acctlink_callback_result *to,
	acctlink_callback_result *out, acctlink_error *err)
{
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_callback_call *call = al_callback_call_new();
	al_rc rc;

	if (call != NULL)
		call->limits = (struct al_flow_limits){ config->flow_lifetime_ms, config->flow_result_lifetime_ms,
			config->flows_per_user };
	al_config_free(&config);
	if (call == NULL || !set_text(&call->user, args->user) || !set_text(&call->params, args->params)
		|| !set_text(&call->cookie, args->cookie)) {
		al_callback_call_free(&call);
		return al_fail_memory(err);
	}
	rc = al_flows_callback(al_handle_runtime(handle)->flows, call, err);
	if (rc != ACCTLINK_OK)
		return rc;
	rc = await(&call->call, until, err);
	if (rc == ACCTLINK_OK && to != NULL)
		give_callback(to, out, call);
	al_call_unref(&call->call);
	return rc;
}

acctlink_status acctlink_on_callback(
	acctlink *handle, const acctlink_callback_args *given, acctlink_callback_result *to, acctlink_error *err)
{
	acctlink_callback_args args;
	acctlink_callback_result out = ACCTLINK_CALLBACK_RESULT_INIT;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK && to != NULL)
		rc = al_take_args(&out, sizeof(out), to, "out", err);
	if (rc == ACCTLINK_OK)
		rc = al_check_user(args.user, err);
	if (rc == ACCTLINK_OK)
		rc = check_raw(args.params, "params", 1, err);
	if (rc == ACCTLINK_OK)
		rc = check_raw(args.cookie, "cookie", 0, err);
	if (rc == ACCTLINK_OK)
		rc = do_callback(handle, &args, to, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- get_bearer ---------------------------------------------------------------------------- */

struct bearer_out {
	char *buf;
	size_t cap;
	acctlink_bearer_info *to;
	acctlink_bearer_info info;
};

static al_rc give_bearer(struct bearer_out *out, const struct al_bearer *bearer, acctlink_error *err)
{
	bool fits = out->cap > bearer->text.len;

	out->info.state = bearer->state;
	out->info.len = bearer->text.len;
	out->info.epoch = (uint64_t)bearer->epoch;
	out->info.generation = (uint64_t)bearer->generation;
	out->info.expires_at_ms = bearer->end_wall;
	if (out->to != NULL)
		al_give_result(out->to, &out->info, sizeof(out->info));
	if (!fits)
		return al_fail(err, ACCTLINK_BUFFER_TOO_SMALL, "buf", "the bearer needs %zu bytes, its NUL included",
			bearer->text.len + 1);
	memcpy(out->buf, al_buf_text(&bearer->text), bearer->text.len + 1);
	return ACCTLINK_OK;
}

/* Nothing good enough is held: one flight for all. At the deadline, or while
 * provider or store are down, a bearer that is good still is better than none:
 * then err stays as it was. */
static al_rc wait_for_bearer(
	struct al_links *links, struct al_bearer_call *call, int64_t until, struct bearer_out *out, acctlink_error *err)
{
	acctlink_error why = { 0 };
	struct al_bearer *held;
	struct al_buf owner_key;
	char link_id[AL_ID_LEN + 1];
	al_rc rc;

	al_buf_init(&owner_key, call->owner_key.max);
	memcpy(link_id, call->link_id, sizeof(link_id));
	if (!al_buf_copy(&owner_key, &call->owner_key)) {
		al_bearer_call_free(&call);
		return al_fail_memory(err);
	}
	rc = al_links_bearer(links, call, &why);
	if (rc == ACCTLINK_OK) {
		rc = await(&call->call, until, &why);
		if (rc == ACCTLINK_OK)
			rc = give_bearer(out, call->bearer, &why);
		al_call_unref(&call->call);
	}
	if (rc == ACCTLINK_TIMED_OUT || rc == ACCTLINK_PROVIDER_DOWN || rc == ACCTLINK_STORE_DOWN) {
		held = al_links_held(links, &owner_key, link_id, 1);
		if (held != NULL)
			rc = give_bearer(out, held, &why);
		al_bearer_unref(&held);
	}
	if (rc != ACCTLINK_OK && err != NULL)
		*err = why;
	al_buf_clear(&owner_key);
	return rc;
}

static al_rc do_bearer(
	struct acctlink *handle, const acctlink_bearer_args *args, struct bearer_out *out, acctlink_error *err)
{
	struct al_links *links = al_handle_runtime(handle)->links;
	struct al_bearer_call *call = al_bearer_call_new();
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_bearer *held;
	al_rc rc = call == NULL ? al_fail_memory(err) : al_take_ref(&args->link, &call->owner_key, call->link_id, err);

	al_config_free(&config);
	if (rc != ACCTLINK_OK) {
		al_bearer_call_free(&call);
		return rc;
	}
	call->min_ttl_ms = args->min_ttl_ms;
	call->refresh = (args->flags & ACCTLINK_BEARER_REFRESH) != 0;
	held = call->refresh ? NULL : al_links_held(links, &call->owner_key, call->link_id, call->min_ttl_ms);
	if (held == NULL)
		return wait_for_bearer(links, call, until, out, err);
	al_bearer_call_free(&call);
	rc = give_bearer(out, held, err);
	al_bearer_unref(&held);
	return rc;
}

acctlink_status acctlink_get_bearer(acctlink *handle, const acctlink_bearer_args *given, char *buf, size_t cap,
	acctlink_bearer_info *info, acctlink_error *err)
{
	struct bearer_out out = { .buf = buf, .cap = cap, .to = info, .info = ACCTLINK_BEARER_INFO_INIT };
	acctlink_bearer_args args;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK && info != NULL)
		rc = al_take_args(&out.info, sizeof(out.info), info, "info", err);
	if (rc == ACCTLINK_OK && buf == NULL && cap > 0)
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "buf", "buf is NULL but cap is not 0");
	if (rc == ACCTLINK_OK && (args.flags & ~ACCTLINK_BEARER_REFRESH) != 0)
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "flags", "flags has bits that this version does not know");
	if (rc == ACCTLINK_OK)
		rc = do_bearer(handle, &args, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- unlink ------------------------------------------------------------------------------------ */

static al_rc do_unlink(struct acctlink *handle, const acctlink_unlink_args *args, acctlink_unlink_result *to,
	acctlink_unlink_result *out, acctlink_error *err)
{
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_unlink_call *call = al_unlink_call_new();
	al_rc rc = call == NULL ? al_fail_memory(err) : al_take_ref(&args->link, &call->owner_key, call->link_id, err);

	al_config_free(&config);
	if (rc != ACCTLINK_OK) {
		al_unlink_call_free(&call);
		return rc;
	}
	rc = al_links_unlink(al_handle_runtime(handle)->links, call, err);
	if (rc != ACCTLINK_OK)
		return rc;
	rc = await(&call->call, until, err);
	if (rc == ACCTLINK_OK && to != NULL) {
		out->revocation = call->revocation;
		memcpy(out->link_id, call->link_id, sizeof(call->link_id));
		al_give_result(to, out, sizeof(*out));
	}
	al_call_unref(&call->call);
	return rc;
}

acctlink_status acctlink_unlink(
	acctlink *handle, const acctlink_unlink_args *given, acctlink_unlink_result *to, acctlink_error *err)
{
	acctlink_unlink_args args;
	acctlink_unlink_result out = ACCTLINK_UNLINK_RESULT_INIT;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK && to != NULL)
		rc = al_take_args(&out, sizeof(out), to, "out", err);
	if (rc == ACCTLINK_OK)
		rc = do_unlink(handle, &args, to, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- inspect -------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t cap, const struct al_buf *from)
{
	size_t len = from->len < cap ? from->len : cap - 1;

	memcpy(to, al_buf_text(from), len);
	to[len] = '\0';
}

static void describe_row(acctlink_inspect_result *out, const struct al_link_row *row)
{
	out->state = (int32_t)row->state;
	out->reason = (int32_t)row->reason;
	out->claim = row->claim_outcome == AL_CLAIM_OPEN ? ACCTLINK_CLAIM_OPEN
		: row->unknown_sent_at > 0               ? ACCTLINK_CLAIM_UNKNOWN
							 : ACCTLINK_CLAIM_NONE;
	out->epoch = (uint64_t)row->epoch;
	out->generation = (uint64_t)row->generation;
	out->bearer_expires_at_ms = row->bearer_end;
	out->next_refresh_at_ms = row->due_at;
	out->refresh_expires_at_ms = row->refresh_end;
	out->consent_expires_at_ms = row->consent_end;
	out->authorized_at_ms = row->authorized_at;
	out->claimed_at_ms = row->claim_sent_at > 0 ? row->claim_sent_at : row->unknown_sent_at;
	out->claim_attempt = (uint64_t)row->claim_attempt;
	out->last_http_status = (int32_t)row->last_http_status;
	out->failures = (uint32_t)row->failures;
	memcpy(out->link_id, row->id, sizeof(row->id));
	copy_text(out->provider, sizeof(out->provider), &row->provider);
	copy_text(out->institution, sizeof(out->institution), &row->institution);
	copy_text(out->last_error, sizeof(out->last_error), &row->last_error);
}

static bool has_room(const acctlink_out *out, const struct al_buf *text)
{
	return out->data == NULL || out->cap > text->len;
}

static al_rc give_inspect(
	acctlink_inspect_result *to, acctlink_inspect_result *out, const struct al_link_row *row, acctlink_error *err)
{
	bool fits = has_room(&out->subject, &row->subject) && has_room(&out->scope, &row->scope);

	if (fits)
		describe_row(out, row);
	al_give_text(&out->subject, &row->subject, fits);
	al_give_text(&out->scope, &row->scope, fits);
	al_give_result(to, out, sizeof(*out));
	if (fits)
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_BUFFER_TOO_SMALL, "out", "subject needs %zu bytes, scope %zu",
		row->subject.len + 1, row->scope.len + 1);
}

static al_rc do_inspect(struct acctlink *handle, const acctlink_inspect_args *args, acctlink_inspect_result *to,
	acctlink_inspect_result *out, acctlink_error *err)
{
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_inspect_call *call = al_inspect_call_new();
	al_rc rc = call == NULL ? al_fail_memory(err) : al_take_ref(&args->link, &call->owner_key, call->link_id, err);

	al_config_free(&config);
	if (rc != ACCTLINK_OK) {
		al_inspect_call_free(&call);
		return rc;
	}
	rc = al_links_inspect(al_handle_runtime(handle)->links, call, err);
	if (rc != ACCTLINK_OK)
		return rc;
	rc = await(&call->call, until, err);
	if (rc == ACCTLINK_OK)
		rc = give_inspect(to, out, &call->row, err);
	al_call_unref(&call->call);
	return rc;
}

acctlink_status acctlink_inspect(
	acctlink *handle, const acctlink_inspect_args *given, acctlink_inspect_result *to, acctlink_error *err)
{
	acctlink_inspect_args args;
	acctlink_inspect_result out;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK)
		rc = al_take_args(&out, sizeof(out), to, "out", err);
	if (rc == ACCTLINK_OK
		&& ((out.subject.data == NULL && out.subject.cap > 0) || (out.scope.data == NULL && out.scope.cap > 0)))
		rc = al_fail(err, ACCTLINK_BAD_ARGUMENT, "out", "an output buffer has a size but no data");
	if (rc == ACCTLINK_OK)
		rc = do_inspect(handle, &args, to, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- list --------------------------------------------------------------------------------------------- */

static al_rc check_list(const acctlink_list_args *args, const acctlink_list_result *out, acctlink_error *err)
{
	if (out->items == NULL || out->capacity == 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "out", "items is NULL or capacity is 0");
	if (out->stride == 0 || out->stride > 65536 || out->stride % 8 != 0)
		return al_fail(err, ACCTLINK_BAD_ARGUMENT, "out",
			"stride must be sizeof(acctlink_list_item), a multiple of 8");
	return al_check_user(args->user, err);
}

static void give_list(acctlink_list_result *to, acctlink_list_result *out, const struct al_list_call *call)
{
	size_t width = out->stride < sizeof(acctlink_list_item) ? out->stride : sizeof(acctlink_list_item);

	for (unsigned i = 0; i < call->count; i++) {
		unsigned char *at = (unsigned char *)out->items + (size_t)i * out->stride;

		memset(at, 0, out->stride);
		memcpy(at, &call->items[i], width);
	}
	out->count = call->count;
	out->more = call->more;
	al_give_result(to, out, sizeof(*out));
}

static al_rc do_list(struct acctlink *handle, const acctlink_list_args *args, acctlink_list_result *to,
	acctlink_list_result *out, acctlink_error *err)
{
	struct al_config *config = al_handle_config(handle);
	int64_t until = deadline_at(config, args->deadline_ms);
	struct al_list_call *call = al_list_call_new(out->capacity);
	al_rc rc = call == NULL || !set_text(&call->user, args->user) ? al_fail_memory(err)
								      : al_take_id(args->after, call->after, err);

	al_config_free(&config);
	if (rc != ACCTLINK_OK) {
		al_list_call_free(&call);
		return rc;
	}
	rc = al_links_list(al_handle_runtime(handle)->links, call, err);
	if (rc != ACCTLINK_OK)
		return rc;
	rc = await(&call->call, until, err);
	if (rc == ACCTLINK_OK)
		give_list(to, out, call);
	al_call_unref(&call->call);
	return rc;
}

acctlink_status acctlink_list(
	acctlink *handle, const acctlink_list_args *given, acctlink_list_result *to, acctlink_error *err)
{
	acctlink_list_args args;
	acctlink_list_result out;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK)
		rc = al_take_args(&out, sizeof(out), to, "out", err);
	if (rc == ACCTLINK_OK)
		rc = check_list(&args, &out, err);
	if (rc == ACCTLINK_OK)
		rc = do_list(handle, &args, to, &out, err);
	al_leave(handle);
	return rc;
}

/* ---- report_rejected -------------------------------------------------------------------------------------- */

static al_rc do_report(struct acctlink *handle, const acctlink_rejected_args *args, acctlink_error *err)
{
	struct al_rejected report = { .generation = (int64_t)args->generation, .http_status = args->http_status };
	al_rc rc = al_check_name(args->code, "code", 0, sizeof(report.code) - 1, err);

	if (rc == ACCTLINK_OK && (args->generation == 0 || args->generation > INT64_MAX))
		rc = al_fail(
			err, ACCTLINK_BAD_ARGUMENT, "generation", "generation must be the one that get_bearer told");
	if (rc == ACCTLINK_OK)
		rc = al_take_ref(&args->link, &report.owner_key, report.link_id, err);
	if (rc != ACCTLINK_OK)
		return rc;
	al_copy_printable(report.code, sizeof(report.code), args->code.data, args->code.len);
	rc = al_links_report_rejected(al_handle_runtime(handle)->links, &report, err);
	al_buf_clear(&report.owner_key);
	return rc;
}

acctlink_status acctlink_report_rejected(acctlink *handle, const acctlink_rejected_args *given, acctlink_error *err)
{
	acctlink_rejected_args args;
	al_rc rc = al_enter(handle, err);

	if (rc != ACCTLINK_OK)
		return rc;
	rc = al_take_args(&args, sizeof(args), given, "args", err);
	if (rc == ACCTLINK_OK)
		rc = do_report(handle, &args, err);
	al_leave(handle);
	return rc;
}
