/* SPDX-License-Identifier: MIT
 * Where secrets go. Each test plants marked ones - client secret, store key,
 * states, cookies, verifiers, codes, refresh tokens, bearers - takes a path or a
 * failure with the log at its most talkative, and then searches logs, errors,
 * events, the store's files, the command line and the environment for any part
 * of any of them, in every dress. Used by one thread.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"
#include "marks.h"

#define HOUR ((int64_t)3600 * 1000)

/* What a program may tell: the outputs of each call that are no secrets. */
struct world {
	struct th_provider *provider;
	struct th_host *host;
	struct marks *marks;
	struct th_lines *told;
	char *secret;      /* the client's */
	char *secret_json; /* the same inside a JSON text */
	char *dir;
	size_t tokens; /* of the ledger, that are marked already or of a former test */
};

/* ---- making secrets ------------------------------------------------------------------- */

static char *random_text(size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char *text = calloc(1, len + 1);
	size_t i;

	th_check(text != NULL && getrandom(text, len, 0) == (ssize_t)len, "getrandom");
	for (i = 0; i < len; i++)
		text[i] = digits[text[i] & 63];
	return text;
}

static char *json_escaped(const char *text)
{
	size_t len;

	return (char *)mark_json((const unsigned char *)text, strlen(text), false, &len);
}

/* With the characters that each dress changes. */
static char *client_secret(void)
{
	char *head = random_text(14);
	char *tail = random_text(14);
	char *secret = th_printf("%s+/%%=&\"\\ :%s", head, tail);

	free(head);
	free(tail);
	return secret;
}

/* ---- a world ---------------------------------------------------------------------------- */

static char *folder_of(const char *path)
{
	return th_printf("%.*s", (int)(strrchr(path, '/') - path), path);
}

static size_t token_count(struct th_provider *provider)
{
	json_object *ledger = th_ledger(provider);
	const size_t count = json_object_array_length(json_object_object_get(ledger, "tokens"));

	json_object_put(ledger);
	return count;
}

static struct world *world_with(struct th_provider *provider, const char *provider_lines, const char *lines)
{
	struct world *world = calloc(1, sizeof(*world));
	struct th_config config = { .lines = lines, .provider_lines = provider_lines };

	th_check(world != NULL, "no memory");
	world->provider = provider;
	world->secret = client_secret();
	world->secret_json = json_escaped(world->secret);
	world->marks = marks_new();
	world->told = th_lines_new();
	marks_add(world->marks, "client secret", world->secret);
	provider->offset_ms = 0;
	th_control(provider,
		"{'clear':true,'down':false,'reset_ledger':true,'set':{'rotation':'hydra','alg':'RS256',"
		"'auth':null,'discovery':null,'claims':null,'id_token':'always','access_token':true,'clock_offset_ms':0,"
		"'clients':{'test-client':'%s'}}}",
		world->secret_json);
	world->tokens = token_count(provider);
	config.client_secret = world->secret;
	world->host = th_host_new(provider, &config);
	world->dir = folder_of(world->host->config_path);
	marks_add_key(world->marks, world->dir);
	return world;
}

static struct world *world_new(struct th_provider *provider, const char *provider_lines)
{
	return world_with(provider, provider_lines, "log_level = 'debug';");
}

static void note_bytes(struct world *world, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	char *text = calloc(1, len + 1);
	size_t i;

	th_check(text != NULL, "no memory");
	for (i = 0; i < len; i++)
		text[i] = bytes[i] == '\0' || bytes[i] == '\n' ? ' ' : (char)bytes[i];
	th_lines_add(world->told, text);
	free(text);
}

/* The whole struct: a host may well log or keep all of it. */
static acctlink_status told(struct world *world, acctlink_status rc, const acctlink_error *err)
{
	th_check((rc == ACCTLINK_OK) == (err->status == ACCTLINK_OK), "status %d with an error of %d", (int)rc,
		(int)err->status);
	note_bytes(world, err, sizeof(*err));
	return rc;
}

/* ---- collecting ---------------------------------------------------------------------------- */

static void mark_flow(struct world *world, const struct th_flow *flow)
{
	char *nonce = th_param(flow->url, "nonce");

	marks_add(world->marks, "state", flow->state);
	marks_add(world->marks, "browser cookie", strchr(flow->cookie, '=') + 1);
	if (nonce != NULL)
		marks_add(world->marks, "nonce", nonce);
	free(nonce);
}

static void mark_tokens(struct world *world, json_object *ledger)
{
	json_object *tokens = json_object_object_get(ledger, "tokens");
	size_t i;

	for (i = world->tokens; i < json_object_array_length(tokens); i++) {
		json_object *token = json_object_array_get_idx(tokens, i);
		char *raw = th_raw_token(
			world->provider, json_object_get_string(json_object_object_get(token, "hash")));
		char *name = th_printf("%s token", json_object_get_string(json_object_object_get(token, "kind")));

		if (strlen(raw) >= MARK_PART)
			marks_add(world->marks, name, raw);
		free(name);
		free(raw);
	}
	world->tokens = i;
}

static void mark_verifiers(struct world *world, json_object *ledger)
{
	json_object *requests = json_object_object_get(ledger, "requests");
	int back = 0;
	size_t i;

	for (i = 0; i < json_object_array_length(requests); i++) {
		json_object *request = json_object_array_get_idx(requests, i);
		const char *endpoint = json_object_get_string(json_object_object_get(request, "endpoint"));
		char *body;
		char *verifier;

		if (endpoint == NULL || strcmp(endpoint, "token") != 0)
			continue;
		body = th_request_body(world->provider, "token", back++);
		verifier = th_param(body, "code_verifier");
		if (verifier != NULL)
			marks_add(world->marks, "code verifier", verifier);
		free(verifier);
		free(body);
	}
}

/* All that the provider saw or gave since this world began. */
static void mark_ledger(struct world *world)
{
	json_object *ledger = th_ledger(world->provider);

	mark_tokens(world, ledger);
	mark_verifiers(world, ledger);
	json_object_put(ledger);
}

/* ---- searching ------------------------------------------------------------------------------- */

/* A file, of which the length is not always told (/proc). */
static char *read_whole(const char *path, size_t *len)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = NULL;
	ssize_t got;

	*len = 0;
	if (fd < 0)
		return NULL;
	do {
		data = realloc(data, *len + 65536);
		th_check(data != NULL, "no memory");
		got = read(fd, data + *len, 65536);
		*len += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	(void)close(fd);
	return data;
}

static void search_file(const struct world *world, const char *path)
{
	size_t len;
	char *data = read_whole(path, &len);

	if (data != NULL)
		marks_absent_bytes(world->marks, path, data, len);
	free(data);
}

/* Everything that the plugin wrote; only the config and the key may hold a secret. */
static void search_folder(const struct world *world, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	struct stat info;
	char *below;

	th_check(dir != NULL, "opendir %s", path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "acctlink.conf") == 0
			|| strcmp(entry->d_name, "store.key") == 0)
			continue;
		below = th_printf("%s/%s", path, entry->d_name);
		marks_absent(world->marks, "the name of a file", below);
		if (lstat(below, &info) == 0 && S_ISDIR(info.st_mode))
			search_folder(world, below);
		else if (S_ISREG(info.st_mode))
			search_file(world, below);
		free(below);
	}
	(void)closedir(dir);
}

static void search_lines(const struct world *world, const char *where, struct th_lines *lines)
{
	char *text = th_lines_text(lines);

	marks_absent(world->marks, where, text);
	free(text);
}

static void search_all(struct world *world)
{
	size_t i;

	mark_ledger(world);
	search_lines(world, "a log line", world->host->logs);
	search_lines(world, "an event", world->host->events);
	search_lines(world, "an error or result", world->told);
	search_folder(world, world->dir);
	search_file(world, "/proc/self/cmdline");
	search_file(world, "/proc/self/environ");
	search_file(world, "/proc/self/maps"); /* names of files and mappings */
	for (i = 0; environ[i] != NULL; i++)
		marks_absent(world->marks, "the environment", environ[i]);
}

static void world_end(struct world **world)
{
	struct world *old = *world;

	search_all(old);
	th_host_free(&old->host);
	search_folder(old, old->dir);
	th_lines_free(&old->told);
	marks_free(&old->marks);
	free(old->secret);
	free(old->secret_json);
	free(old->dir);
	free(old);
	*world = NULL;
}

/* ---- steps ------------------------------------------------------------------------------------- */

static acctlink_status begin(struct world *world, const char *user, struct th_flow *flow)
{
	acctlink_error err = { 0 };
	acctlink_status rc = told(world, th_begin(world->host, user, NULL, flow, &err), &err);

	if (rc == ACCTLINK_OK)
		mark_flow(world, flow);
	return rc;
}

static acctlink_status finish(struct world *world, const char *user, const struct th_flow *flow, const char *params)
{
	acctlink_callback_result result = ACCTLINK_CALLBACK_RESULT_INIT;
	acctlink_error err = { 0 };
	acctlink_status rc = told(world, th_callback(world->host, user, params, flow->cookie, &result, &err), &err);

	note_bytes(world, &result, sizeof(result));
	return rc;
}

/* `text` with the secrets that are known by now in place of @SECRET@, @SENT@ and
 * @PART@, ten characters of what is sent. */
static char *filled(const struct world *world, const char *text, const char *sent)
{
	const char *words[] = { "@SECRET@", "@SENT@", "@PART@" };
	char *part = th_printf("%.10s", sent + 4); /* behind a token's "code-" or "rt-" */
	const char *values[] = { world->secret_json, sent, part };
	char *out = th_printf("%s", text);
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char *at;

		while ((at = strstr(out, words[i])) != NULL) {
			char *longer = th_printf("%.*s%s%s", (int)(at - out), out, values[i], at + strlen(words[i]));

			free(out);
			out = longer;
		}
	}
	free(part);
	return out;
}

static acctlink_status link_user(struct world *world, const char *user, const char *fault)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_status rc;
	char *params;
	char *code;
	char *text;

	th_check(flow != NULL, "no memory");
	rc = begin(world, user, flow);
	if (rc == ACCTLINK_OK) {
		params = th_consent(world->provider, flow->url);
		if (fault != NULL) {
			code = th_param(params, "code");
			text = filled(world, fault, code);
			th_script(world->provider, "token", "authorization_code", 1, "%s", text);
			free(text);
			free(code);
		}
		rc = finish(world, user, flow, params);
		free(params);
	}
	free(flow);
	return rc;
}

static acctlink_status ask_bearer(struct world *world, const char *user)
{
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
	acctlink_error err = { 0 };
	char *bearer = NULL;
	acctlink_status rc = told(world, th_bearer(world->host, user, NULL, &bearer, &info, &err), &err);

	note_bytes(world, &info, sizeof(info));
	free(bearer);
	return rc;
}

static void look(struct world *world, const char *user)
{
	acctlink_inspect_result result = ACCTLINK_INSPECT_RESULT_INIT;
	acctlink_error err = { 0 };
	char subject[1024] = "";
	char scope[4096] = "";

	result.subject = (acctlink_out){ subject, sizeof(subject), 0 };
	result.scope = (acctlink_out){ scope, sizeof(scope), 0 };
	(void)told(world, th_inspect(world->host, user, NULL, &result, &err), &err);
	note_bytes(world, &result, sizeof(result));
	note_bytes(world, subject, strlen(subject));
	note_bytes(world, scope, strlen(scope));
}

/* ---- the search itself ---------------------------------------------------------------------------- */

static void expect_found(const struct marks *marks, const char *form, const char *text)
{
	struct mark_found found;

	th_check(marks_find(marks, text, strlen(text), 0, &found), "%s is not found in: %s", form, text);
}

static void the_search_finds_a_part_of_a_mark_in_every_dress(void **state)
{
	struct marks *marks = marks_new();
	struct mark_found found;
	static const char wide[] = "\0l\0M\0n\0O\0p\0Q\0r\0S\0t";

	(void)state;
	marks_add(marks, "a secret", "aBcDeFgHiJk/+\"lMnOpQrStUvWxYz0");
	expect_found(marks, "plain", "first eight: aBcDeFgH...");
	expect_found(marks, "the last eight", "...UvWxYz0 vWxYz0 tUvWxYz0");
	expect_found(marks, "percent-encoded", "q=iJk%2F%2B%22lMn");
	expect_found(marks, "percent-encoded, lower", "q=iJk%2f%2b%22lMn");
	expect_found(marks, "JSON", "gHiJk/+\\\"lMnO");
	expect_found(marks, "JSON with slashes", "iJk\\/+\\\"lMnO");
	expect_found(marks, "hex", "..6c4d6e4f70517253..");
	expect_found(marks, "HEX", "..6C4D6E4F70517253..");
	/* base64 of "aBcDeFgHiJklmn", with nothing, one and two bytes before it: */
	marks_add(marks, "another", "kT9vQ2xLw7RzP4");
	expect_found(marks, "base64", "a1Q5dlEyeEx3N1J6UDQ=");
	expect_found(marks, "base64 after one byte", "OmtUOXZRMnhMdzdSelA0");
	expect_found(marks, "base64 after two", "OjprVDl2UTJ4THc3UnpQNA==");
	th_check(marks_find(marks, wide, sizeof(wide), 0, &found), "UTF-16 is not found");
	th_check(!marks_find(marks, "aBcDeFg BcDeFgH iJk/+ kT9vQ2x", 29, 0, &found), "seven characters are found");
	th_check(marks_find(marks, "..............aBcDeFgH", 22, 0, &found) && found.at == 14, "at %zu", found.at);
	marks_free(&marks);
}

/* ---- paths that go well --------------------------------------------------------------------------- */

static void use_a_link(struct world *world)
{
	acctlink_error err = { 0 };
	acctlink_unlink_result gone = ACCTLINK_UNLINK_RESULT_INIT;

	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
	th_check(ask_bearer(world, "ana") == ACCTLINK_OK, "no bearer: %s", th_lines_text(world->told));
	look(world, "ana");
	th_advance(world->host, world->provider, 2 * HOUR);
	th_check(ask_bearer(world, "ana") == ACCTLINK_OK, "no fresh bearer: %s", th_lines_text(world->told));
	th_check(told(world, th_report(world->host, "ana", NULL, 2, &err), &err) == ACCTLINK_OK, "not reported");
	th_advance(world->host, world->provider, HOUR / 60);
	(void)ask_bearer(world, "ana");
	look(world, "ana");
	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not renewed: %s", th_lines_text(world->told));
	search_all(world); /* while the link's tokens are kept */
	th_check(told(world, th_unlink(world->host, "ana", NULL, &gone, &err), &err) == ACCTLINK_OK, "not unlinked");
	note_bytes(world, &gone, sizeof(gone));
	th_check(ask_bearer(world, "ana") == ACCTLINK_NOT_LINKED, "still linked");
}

static void the_life_of_a_link_tells_nothing(void **state)
{
	struct world *world = world_new(*state, NULL);

	use_a_link(world);
	th_check(world->marks->name_count > 15, "only %zu marks were planted", world->marks->name_count);
	th_check(th_lines_count(world->host->logs, NULL) > 3, "the log is not talkative");
	world_end(&world);
}

static void so_does_that_of_one_whose_client_secret_and_code_are_posted(void **state)
{
	struct world *world = world_new(*state, "token_endpoint_auth_method = 'client_secret_post';");

	use_a_link(world);
	world_end(&world);
}

static void so_does_that_of_one_whose_bearer_is_the_id_token(void **state)
{
	struct world *world = world_new(*state, "bearer = 'id_token';");

	use_a_link(world);
	world_end(&world);
}

/* ---- answers that repeat what was sent ---------------------------------------------------------------- */

/* @SENT@ is the code or the refresh token, @SECRET@ the client secret. */
static const struct {
	const char *name;
	const char *act;
} faults[] = {
	{ "a 400 that repeats it in its description",
		"{'status':400,'json':{'error':'invalid_request','error_description':'unknown token @SENT@ of @SECRET@'}}" },
	{ "a definite 400 that repeats it",
		"{'status':400,'json':{'error':'invalid_grant','error_description':'@SENT@'}}" },
	{ "a 400 whose error it is", "{'status':400,'json':{'error':'@SENT@'}}" },
	{ "a 400 whose error has a part of it",
		"{'status':400,'json':{'error':'bad @SENT@','error_uri':'https://x/@SENT@'}}" },
	{ "a 401 that repeats the client secret",
		"{'status':401,'json':{'error':'invalid_client','error_description':'wrong secret @SECRET@'},"
		"'headers':{'www-authenticate':'Basic realm=@SENT@'}}" },
	{ "a 401 whose error is the client secret", "{'status':401,'json':{'error':'@SECRET@'}}" },
	{ "a 500 in HTML",
		"{'status':500,'content_type':'text/html','body':'<h1>Oops</h1><pre>refresh_token=@SENT@&"
		"client_secret=@SECRET@</pre>'}" },
	{ "a 503 with it in its headers",
		"{'status':503,'body':'later','headers':{'retry-after':'@SENT@',"
		"'content-type':'text/@SENT@','date':'@SENT@','cache-control':'max-age=@SENT@','server':'@SECRET@'}}" },
	{ "a redirect with it",
		"{'redirect':{'status':302,'location':'https://bank.example/t/@SENT@?code=@SENT@#@SENT@'}}" },
	{ "a 307 to another path", "{'redirect':{'status':307,'location':'/again/@SENT@;token=@SENT@'}}" },
	{ "a redirect whose user it is",
		"{'redirect':{'status':302,'location':'https://@SENT@:@SENT@@bank.example/'}}" },
	{ "a 200 that is not JSON",
		"{'body':'your tokens: {{access_token}} {{refresh_token}} {{id_token}} for @SENT@'}" },
	{ "a 200 in HTML",
		"{'content_type':'text/html','body':'<script>t={{access_token}}</script>{{refresh_token}}'}" },
	{ "a truncated JSON",
		"{'body':'{\\'access_token\\':\\'{{access_token}}\\',\\'refresh_token\\':\\'{{refresh_token}}'}" },
	{ "a JSON of another shape", "{'body':'[\\'{{access_token}}\\',\\'{{refresh_token}}\\']'}" },
	{ "members of the wrong types",
		"{'body':'{\\'access_token\\':[\\'{{access_token}}\\'],\\'token_type\\':\\'{{access_token}}\\',"
		"\\'expires_in\\':\\'{{refresh_token}}\\',\\'refresh_token\\':{\\'a\\':\\'{{refresh_token}}\\'}}'}" },
	{ "a token type that is a token", "{'set':{'token_type':'@SENT@'}}" },
	{ "a lifetime that is a token", "{'set':{'expires_in':'@SENT@'}}" },
	{ "a token with a line break", "{'set':{'access_token':'@SENT@\\u000a@SECRET@'}}" },
	{ "a success with an error in it",
		"{'body':'{\\'access_token\\':\\'{{access_token}}\\',\\'error\\':\\'{{access_token}}\\',"
		"\\'error_description\\':\\'{{refresh_token}}\\'}'}" },
	{ "a form with an error",
		"{'status':400,'content_type':'application/x-www-form-urlencoded',"
		"'body':'error=@SENT@&error_description=@SENT@'}" },
	{ "a 400 that repeats a part",
		"{'status':400,'json':{'error':'invalid_request','error_description':'unknown: @PART@...'}}" },
	{ "a 400 whose error is a part", "{'status':400,'json':{'error':'Bad-@PART@'}}" },
	{ "a redirect to a part", "{'redirect':{'status':302,'location':'/login/@PART@/'}}" },
	{ "half a body", "{'cut':'half_body'}" },
	{ "no body", "{'cut':'after_headers'}" },
	{ "no answer", "{'cut':'before_answer','reset':true}" },
	{ "an id_token with a broken signature", "{'id_token':{'sign':'broken'}}" },
	{ "an id_token of an odd algorithm", "{'id_token':{'header':{'alg':'@SENT@'}}}" },
	{ "an id_token for another client", "{'id_token':{'claims':{'aud':['@SENT@']}}}" },
	{ "an id_token with another nonce", "{'id_token':{'claims':{'nonce':'@SENT@'}}}" },
	{ "an id_token of another time", "{'id_token':{'claims':{'exp':'@SENT@'}}}" },
	{ "an id_token that is none", "{'id_token':{'raw':'@SENT@.@SENT@.@SENT@'}}" },
};

static void unscript(struct world *world)
{
	th_unscript(world->provider);
}

static void an_answer_to_a_code_that_repeats_secrets_spreads_none(void **state)
{
	struct world *world = world_new(*state, NULL);
	size_t i;

	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char *user = th_printf("user-%zu", i);

		print_message("# %s\n", faults[i].name);
		(void)link_user(world, user, faults[i].act);
		look(world, user);
		(void)ask_bearer(world, user);
		unscript(world);
		search_all(world);
		free(user);
	}
	world_end(&world);
}

static void refresh_with(struct world *world, const char *user, const char *fault)
{
	char *hash = th_grant_current(world->provider, -1);
	char *sent = th_raw_token(world->provider, hash);
	char *text = filled(world, fault, sent);

	th_script(world->provider, "token", "refresh_token", 1, "%s", text);
	th_advance(world->host, world->provider, 2 * HOUR);
	(void)ask_bearer(world, user);
	look(world, user);
	unscript(world);
	th_advance(world->host, world->provider, HOUR);
	(void)ask_bearer(world, user); /* what is due after it */
	look(world, user);
	free(text);
	free(sent);
	free(hash);
}

static void an_answer_to_a_refresh_that_repeats_secrets_spreads_none(void **state)
{
	size_t i;

	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct world *world = world_new(*state, "definite_errors = ( { error = 'invalid_grant'; } );");

		print_message("# %s\n", faults[i].name);
		th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
		refresh_with(world, "ana", faults[i].act);
		world_end(&world);
	}
}

static void a_revocation_that_is_refused_with_the_token_spreads_none(void **state)
{
	static const char *const acts[] = {
		"{'status':400,'json':{'error':'invalid_request','error_description':'no such token: @SENT@, @SECRET@'}}",
		"{'status':400,'json':{'error':'@SENT@'}}",
		"{'status':401,'json':{'error':'invalid_client','error_description':'@SECRET@'}}",
		"{'status':500,'body':'@SENT@'}",
		"{'redirect':{'status':302,'location':'https://bank.example/@SENT@'}}",
		"{'cut':'half_body'}",
	};
	struct world *world = world_new(*state, NULL);
	size_t i;

	for (i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		char *user = th_printf("user-%zu", i);
		acctlink_error err = { 0 };
		char *hash;
		char *sent;
		char *text;

		th_check(link_user(world, user, NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
		hash = th_grant_current(world->provider, -1);
		sent = th_raw_token(world->provider, hash);
		text = filled(world, acts[i], sent);
		th_script(world->provider, "revoke", NULL, -1, "%s", text);
		(void)told(world, th_unlink(world->host, user, NULL, NULL, &err), &err);
		look(world, user);
		unscript(world);
		free(text);
		free(sent);
		free(hash);
		free(user);
	}
	world_end(&world);
}

/* ---- callbacks ---------------------------------------------------------------------------------------- */

static void a_callback_with_garbage_spreads_none(void **state)
{
	/* @CODE@ and @STATE@ as they came. */
	static const char *const params[] = {
		"",
		"@CODE@",
		"code",
		"code=@CODE@",
		"state=@STATE@",
		"code=@CODE@&code=@CODE@&state=@STATE@",
		"code=@CODE@&state=@STATE@&state=@STATE@",
		"code=@CODE@%zz&state=@STATE@",
		"code=@CODE@%00&state=@STATE@",
		"code=@CODE@&state=@STATE@x",
		"code=@CODE@&state=@CODE@",
		"code=@CODE@%0a&state=@STATE@",
		"@STATE@=@CODE@",
		"code=@CODE@&state=@STATE@&error=@CODE@",
		"error=@CODE@&error_description=@STATE@",
		"code=@CODE@&state=@STATE@&iss=https://@CODE@/",
		"code=@CODE@&state=@STATE@&iss=@CODE@&iss=@STATE@",
		"error=@CODE@&state=@STATE@",
		"error=access_denied&error_description=the+code+@CODE@&state=@STATE@",
		"error=server_error&error_description=@CODE@&error_uri=https://x/@CODE@&state=@STATE@",
		"error=access_denied&error_description=state+@STATE@&state=@STATE@",
	};
	struct world *world = world_new(*state, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	size_t i;

	th_check(flow != NULL, "no memory");
	for (i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		char *good;
		char *code;
		char *text = th_printf("%s", params[i]);
		char *at;

		th_check(begin(world, "ana", flow) == ACCTLINK_OK, "no flow");
		good = th_consent(world->provider, flow->url);
		code = th_param(good, "code");
		while ((at = strstr(text, "@CODE@")) != NULL || (at = strstr(text, "@STATE@")) != NULL) {
			const bool is_code = at[1] == 'C';
			char *longer = th_printf("%.*s%s%s", (int)(at - text), text, is_code ? code : flow->state,
				at + (is_code ? 6 : 7));

			free(text);
			text = longer;
		}
		(void)finish(world, "ana", flow, text);
		(void)finish(world, "ben", flow, good); /* another user, */
		(void)finish(world, "ana", flow, text); /* and the same once more */
		free(good);
		free(code);
		free(text);
		mark_ledger(world);
		search_lines(world, params[i], world->told);
		search_lines(world, params[i], world->host->logs);
	}
	free(flow);
	world_end(&world);
}

/* ---- providers that are away or odd ------------------------------------------------------------------- */

/* What each path says while something at the provider is not as it should be. */
static void meet_trouble(struct world *world, const char *endpoint, const char *act)
{
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	char *text = filled(world, act, world->secret);
	char *params = NULL;

	th_check(flow != NULL, "no memory");
	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
	th_check(begin(world, "ben", flow) == ACCTLINK_OK, "no flow");
	params = th_consent(world->provider, flow->url);
	th_host_restart(world->host); /* metadata and keys are fetched again */
	if (endpoint != NULL)
		th_script(world->provider, endpoint, NULL, -1, "%s", text);
	else
		th_provider_down(world->provider, true);
	th_advance(world->host, world->provider, 2 * HOUR);
	(void)ask_bearer(world, "ana");
	(void)begin(world, "ben", flow);
	(void)finish(world, "ben", flow, params);
	look(world, "ana");
	(void)told(world, th_unlink(world->host, "ana", NULL, NULL, &err), &err);
	unscript(world);
	th_provider_down(world->provider, false);
	free(params);
	free(text);
	free(flow);
}

static void a_provider_that_is_down_or_odd_brings_none_out(void **state)
{
	static const struct {
		const char *endpoint;
		const char *act;
	} troubles[] = {
		{ NULL, "" },
		{ "discovery", "{'status':500,'body':'@SECRET@'}" },
		{ "discovery", "{'set':{'token_endpoint':'https://test-client:@PART@@127.0.0.1/token?@PART@'}}" },
		{ "discovery", "{'redirect':{'status':302,'location':'https://x.example/?secret=@SECRET@'}}" },
		{ "jwks", "{'status':500,'body':'@SECRET@'}" },
		{ "jwks", "{'body':'{\\'keys\\':[\\'@SECRET@\\']'}" },
	};
	size_t i;

	for (i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
		struct world *world = world_new(*state, NULL);

		meet_trouble(world, troubles[i].endpoint, troubles[i].act);
		world_end(&world);
	}
}

/* ---- config, secret and key files that are wrong ---------------------------------------------------- */

static void note_log(void *ctx, int32_t level, const char *message)
{
	(void)level;
	th_lines_add(ctx, message);
}

/* init with these files; what it says is collected. */
static acctlink_status try_config(struct world *world, const char *path)
{
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
	acctlink_error err = { 0 };
	acctlink *handle = NULL;
	acctlink_status rc;

	hooks.ctx = world->told;
	hooks.log = note_log;
	args.config_path = th_str(path);
	args.hooks = &hooks;
	rc = told(world, world->host->api.init(&args, &handle, &err), &err);
	if (rc == ACCTLINK_OK)
		th_check(world->host->api.shutdown(handle, 0, NULL) == ACCTLINK_OK, "shutdown");
	return rc;
}

/* The place of the secret, @SECRET@, is wrong in each. */
static const char *const wrong_lines[] = {
	"client_secret = \"@SECRET@;",
	"client_secret = @SECRET@;",
	"client_secret = '@SECRET@';",
	"client_secret \"@SECRET@\";",
	"client_secret = \"@SECRET@\" = 3;",
	"client_secret = \"@SECRET@\" ] ;",
	"client_secret = \"@SECRET@\"; client_secret = \"@SECRET@\";",
	"client_secret = \"@SECRET@\"; client_secret_file = \"/nowhere\";",
	"client_secret = [ \"@SECRET@\" ];",
	"client_secret = ( \"@SECRET@\" );",
	"client_secret = { value = \"@SECRET@\"; };",
	"client_secret = \"\\x01@SECRET@\";",
	"client_secret = \"@SECRET@\n@SECRET@\";",
	"client_sekret = \"@SECRET@\";",
	"secret = \"@SECRET@\"; no such thing",
	"client_secret_file = \"@SECRET@\";",
	"client_secret_credential = \"@SECRET@\";",
	"client_secret = \"@SECRET@\"; token_endpoint_auth_method = \"@SECRET@\";",
	"client_secret = \"@SECRET@\"; token_endpoint = \"https://test-client:@SECRET@@bank.example/token\";",
	"client_secret = \"@SECRET@\"; token_endpoint = \"https://bank.example/token?client_secret=@SECRET@#@SECRET@\";",
	"client_secret = \"@SECRET@\"; connect_timeout = \"@SECRET@\";",
	"client_secret = \"@SECRET@\"; authorize_parameters = { client_secret = \"@SECRET@\"; state = \"@SECRET@\"; };",
	"@include \"@SECRET@",
};

static char *with_secret(const char *text, const char *secret)
{
	char *out = th_printf("%s", text);
	char *at;

	while ((at = strstr(out, "@SECRET@")) != NULL) {
		char *longer = th_printf("%.*s%s%s", (int)(at - out), out, secret, at + 8);

		free(out);
		out = longer;
	}
	return out;
}

static void write_config(const char *path, mode_t mode, const char *dir, const char *key_file, const char *lines)
{
	char *text = th_printf(
		"log_level = \"debug\";\nstore = { path = \"%s/store.db\"; key_file = \"%s\"; };\n"
		"providers = { test = {\n\tprofile = \"oidc\";\n\tissuer = \"https://bank.example\";\n"
		"\tclient_id = \"test-client\";\n\tredirect_uri = \"https://app.example/cb\";\n\t%s\n}; };\n",
		dir, key_file, lines);

	th_write_file(path, mode, text);
	free(text);
}

static void a_config_with_the_secret_in_the_wrong_place_is_refused_without_it(void **state)
{
	struct world *world = world_new(*state, NULL);
	char *dir = th_temp_dir();
	char *path = th_printf("%s/acctlink.conf", dir);
	char *key = th_printf("%s/store.key", world->dir);
	char *secret = random_text(28);
	size_t i;

	marks_add(world->marks, "misplaced secret", secret);
	th_check(setenv("CREDENTIALS_DIRECTORY", dir, 1) == 0, "setenv");
	for (i = 0; i < sizeof(wrong_lines) / sizeof(wrong_lines[0]); i++) {
		char *lines = with_secret(wrong_lines[i], secret);

		write_config(path, 0600, dir, key, lines);
		th_check(try_config(world, path) == ACCTLINK_BAD_CONFIG, "this config is taken: %s", wrong_lines[i]);
		search_lines(world, wrong_lines[i], world->told);
		write_config(world->host->config_path, 0600, world->dir, key, lines);
		(void)world->host->api.reload(world->host->handle, NULL);
		free(lines);
	}
	write_config(path, 0644, dir, key, "client_secret = \"x\";");
	(void)try_config(world, path);
	(void)unsetenv("CREDENTIALS_DIRECTORY");
	free(secret);
	free(key);
	free(path);
	free(dir);
	world_end(&world);
}

static void try_secret_file(struct world *world, const char *dir, mode_t mode, const char *text)
{
	char *path = th_printf("%s/acctlink.conf", dir);
	char *file = th_printf("%s/bank.secret", dir);
	char *key = th_printf("%s/store.key", world->dir);
	char *lines = th_printf("client_secret_file = \"%s\";", file);

	(void)unlink(file);
	th_write_file(file, mode, text);
	write_config(path, 0600, dir, key, lines);
	th_check(try_config(world, path) == ACCTLINK_BAD_CONFIG, "a bad secret file is taken");
	free(lines);
	free(key);
	free(file);
	free(path);
}

static void a_secret_file_that_is_refused_is_not_quoted(void **state)
{
	struct world *world = world_new(*state, NULL);
	char *dir = th_temp_dir();
	char *secret = random_text(20);
	char *pair = th_printf("%s\n%s\n", secret, secret);
	char *tail = th_printf("%s\n\n", secret);
	char *named = th_printf("client_secret = \"%s\t\"", secret);
	char *large = calloc(1, 5000);
	size_t i;

	th_check(large != NULL, "no memory");
	for (i = 0; i + 20 < 5000; i += 20)
		memcpy(large + i, secret, 20);
	marks_add(world->marks, "secret of a file", secret);
	try_secret_file(world, dir, 0644, secret);
	try_secret_file(world, dir, 0600, pair);
	try_secret_file(world, dir, 0600, tail);
	try_secret_file(world, dir, 0600, named);
	try_secret_file(world, dir, 0600, large);
	free(large);
	free(named);
	free(tail);
	free(pair);
	free(secret);
	free(dir);
	world_end(&world);
}

static void a_key_file_that_is_refused_is_not_quoted(void **state)
{
	static const struct {
		const char *format; /* of the key's digits */
		mode_t mode;
	} keys[] = {
		{ "%.63s", 0600 },
		{ "%s0", 0600 },
		{ "%.40s zz", 0600 },
		{ "%s\n%1$s\n", 0600 },
		{ "%s:%1$s", 0600 },
		{ "name:%.32s", 0600 },
		{ "0x%s", 0600 },
		{ "%s", 0644 },
		{ " %s", 0600 },
		{ "\"%s\"", 0600 },
	};
	struct world *world = world_new(*state, NULL);
	char *dir = th_temp_dir();
	char *path = th_printf("%s/acctlink.conf", dir);
	char *file = th_printf("%s/bad.key", dir);
	char *good = th_printf("%s/store.key", world->dir);
	char *hex = th_read_file(good);
	size_t i;

	hex[64] = '\0';
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char text[256];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), keys[i].format, hex);
#pragma GCC diagnostic pop
		(void)unlink(file);
		th_write_file(file, keys[i].mode, text);
		write_config(path, 0600, dir, file, "client_secret = \"x\";");
		th_check(try_config(world, path) == ACCTLINK_BAD_KEY, "a bad key file is taken: %s", keys[i].format);
	}
	/* The key itself where its file should be named. */
	write_config(path, 0600, dir, hex, "client_secret = \"x\";");
	th_check(try_config(world, path) == ACCTLINK_BAD_KEY, "a file that is not there is taken for a key");
	free(hex);
	free(good);
	free(file);
	free(path);
	free(dir);
	world_end(&world);
}

static void a_store_that_another_key_sealed_is_refused_without_either(void **state)
{
	struct world *world = world_new(*state, NULL);
	char *dir = th_temp_dir();
	char *path = th_printf("%s/acctlink.conf", dir);
	char *file = th_printf("%s/other.key", dir);
	char *hex = random_text(64);
	size_t i;

	for (i = 0; i < 64; i++)
		hex[i] = "0123456789abcdef"[hex[i] & 15];
	marks_add(world->marks, "another key", hex);
	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
	th_write_file(file, 0600, hex);
	write_config(path, 0600, world->dir, file, "client_secret = \"x\";");
	th_check(try_config(world, path) == ACCTLINK_BAD_KEY, "a store of another key is taken");
	free(hex);
	free(file);
	free(path);
	free(dir);
	world_end(&world);
}

/* ---- a store in trouble ------------------------------------------------------------------------------- */

/* No file can grow in this process. */
static void fill_disk(bool full)
{
	struct rlimit limit;

	th_check(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && getrlimit(RLIMIT_FSIZE, &limit) == 0, "getrlimit");
	limit.rlim_cur = full ? 0 : limit.rlim_max;
	th_check(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

static void a_full_disk_brings_none_out(void **state)
{
	struct world *world = world_with(*state, NULL, "log_level = 'debug'; call_timeout = 2; shutdown_timeout = 2;");
	struct th_flow *flow = calloc(1, sizeof(*flow));
	acctlink_error err = { 0 };
	acctlink_status rc[3];
	char *params;

	th_check(flow != NULL, "no memory");
	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
	th_check(begin(world, "ben", flow) == ACCTLINK_OK, "no flow");
	params = th_consent(world->provider, flow->url);
	th_advance(world->host, world->provider, 2 * HOUR);
	fill_disk(true);
	rc[0] = told(world, th_unlink(world->host, "ana", NULL, NULL, &err), &err);
	rc[1] = ask_bearer(world, "ana");
	rc[2] = finish(world, "ben", flow, params);
	fill_disk(false);
	th_check(rc[0] != ACCTLINK_OK && rc[1] != ACCTLINK_OK && rc[2] != ACCTLINK_OK,
		"the disk is not full: %d, %d, %d", (int)rc[0], (int)rc[1], (int)rc[2]);
	free(params);
	free(flow);
	world_end(&world);
}

static void run_sql(const struct world *world, const char *sql)
{
	char *path = th_printf("%s/store.db", world->dir);
	sqlite3 *db = NULL;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK
			&& sqlite3_busy_timeout(db, 10000) == SQLITE_OK
			&& sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK,
		"%s: %s", sql, sqlite3_errmsg(db));
	(void)sqlite3_close(db);
	free(path);
}

static void a_seal_that_does_not_open_brings_none_out(void **state)
{
	struct world *world = world_new(*state, NULL);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	char *params;

	th_check(flow != NULL, "no memory");
	th_check(link_user(world, "ana", NULL) == ACCTLINK_OK, "not linked: %s", th_lines_text(world->told));
	th_check(begin(world, "ben", flow) == ACCTLINK_OK, "no flow");
	params = th_consent(world->provider, flow->url);
	run_sql(world,
		"UPDATE link SET sealed = CAST(sealed || x'00' AS BLOB);"
		" UPDATE flow SET sealed = CAST(substr(sealed, 1, 60) AS BLOB)");
	th_host_restart(world->host);
	th_check(ask_bearer(world, "ana") != ACCTLINK_OK, "a broken seal opens");
	th_check(finish(world, "ben", flow, params) != ACCTLINK_OK, "a broken seal opens");
	look(world, "ana");
	free(params);
	free(flow);
	world_end(&world);
}

/* ---- a host without hooks --------------------------------------------------------------------------------- */

/* Ours comes before the one of libc for the plugin as well. */
static struct th_lines *system_log;

static void note_system_log(const char *format, va_list args) TH_PRINTF(1, 0);
static void note_system_log(const char *format, va_list args)
{
	char *line;

	if (system_log == NULL)
		return;
	line = th_vprintf(format, args);
	th_lines_add(system_log, line);
	free(line);
}

#define EXPORTED __attribute__((visibility("default"), format(printf, 2, 3)))
EXPORTED void syslog(int priority, const char *format, ...);
EXPORTED void syslog(int priority, const char *format, ...)
{
	va_list args;

	(void)priority;
	va_start(args, format);
	note_system_log(format, args);
	va_end(args);
}

/* What _FORTIFY_SOURCE makes of it. */
__attribute__((visibility("default"), format(printf, 3, 4))) void __syslog_chk(
	int priority, int flag, const char *format, ...);
__attribute__((visibility("default"), format(printf, 3, 4))) void __syslog_chk(
	int priority, int flag, const char *format, ...)
{
	va_list args;

	(void)priority;
	(void)flag;
	va_start(args, format);
	note_system_log(format, args);
	va_end(args);
}

/* Both streams of this process go to the file; returns copies of them for restore. */
static void redirect(const char *path, int saved[2])
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)fflush(NULL);
	saved[0] = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	saved[1] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	th_check(fd >= 0 && saved[0] >= 0 && saved[1] >= 0 && dup2(fd, STDOUT_FILENO) >= 0
			&& dup2(fd, STDERR_FILENO) >= 0,
		"%s: %s", path, strerror(errno));
	(void)close(fd);
}

static void restore(const int saved[2])
{
	(void)fflush(NULL);
	(void)dup2(saved[0], STDOUT_FILENO);
	(void)dup2(saved[1], STDERR_FILENO);
	(void)close(saved[0]);
	(void)close(saved[1]);
}

static void init_without_hooks(struct world *world)
{
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;

	th_check(world->host->api.shutdown(world->host->handle, 0, NULL) == ACCTLINK_OK, "shutdown");
	args.config_path = th_str(world->host->config_path);
	th_check(world->host->api.init(&args, &world->host->handle, NULL) == ACCTLINK_OK, "init");
}

static void a_host_without_hooks_tells_none_to_its_streams_or_syslog(void **state)
{
	struct world *world = world_new(*state, NULL);
	char *path = th_printf("%s/streams", world->dir);
	acctlink_status rc[4];
	acctlink_error err = { 0 };
	int saved[2];

	system_log = th_lines_new();
	init_without_hooks(world);
	redirect(path, saved);
	rc[0] = link_user(world, "ana", NULL);
	rc[1] = link_user(world, "ben", faults[0].act);
	rc[2] = ask_bearer(world, "ana");
	rc[3] = told(world, th_unlink(world->host, "ana", NULL, NULL, &err), &err);
	restore(saved);
	th_check(rc[0] == ACCTLINK_OK && rc[1] != ACCTLINK_OK && rc[2] == ACCTLINK_OK && rc[3] == ACCTLINK_OK,
		"%d %d %d %d: %s", (int)rc[0], (int)rc[1], (int)rc[2], (int)rc[3], th_lines_text(world->told));
	mark_ledger(world);
	th_check(th_lines_contain(system_log, "a code was not exchanged"), "syslog was told nothing of it");
	search_lines(world, "syslog", system_log);
	search_file(world, path);
	world_end(&world); /* ends with the host's folder, streams included */
	th_lines_free(&system_log);
	free(path);
}

static int start_provider(void **state)
{
	*state = th_provider_start(TH_PRACTICE, NULL);
	return 0;
}

static int stop_provider(void **state)
{
	struct th_provider *provider = *state;

	th_provider_stop(&provider);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_search_finds_a_part_of_a_mark_in_every_dress),
		cmocka_unit_test(the_life_of_a_link_tells_nothing),
		cmocka_unit_test(so_does_that_of_one_whose_client_secret_and_code_are_posted),
		cmocka_unit_test(so_does_that_of_one_whose_bearer_is_the_id_token),
		cmocka_unit_test(an_answer_to_a_code_that_repeats_secrets_spreads_none),
		cmocka_unit_test(an_answer_to_a_refresh_that_repeats_secrets_spreads_none),
		cmocka_unit_test(a_revocation_that_is_refused_with_the_token_spreads_none),
		cmocka_unit_test(a_callback_with_garbage_spreads_none),
		cmocka_unit_test(a_provider_that_is_down_or_odd_brings_none_out),
		cmocka_unit_test(a_config_with_the_secret_in_the_wrong_place_is_refused_without_it),
		cmocka_unit_test(a_secret_file_that_is_refused_is_not_quoted),
		cmocka_unit_test(a_key_file_that_is_refused_is_not_quoted),
		cmocka_unit_test(a_store_that_another_key_sealed_is_refused_without_either),
		cmocka_unit_test(a_full_disk_brings_none_out),
		cmocka_unit_test(a_seal_that_does_not_open_brings_none_out),
		cmocka_unit_test(a_host_without_hooks_tells_none_to_its_streams_or_syslog),
	};

	return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
