/* SPDX-License-Identifier: MIT
 * A host with libraries of its own, for test_neighbours.sh: does a piece of work with
 * each of them, loads the plugin, links one account and refreshes it once, and does its
 * own work again. Compiled many times: WITH_JSONC, WITH_JANSSON, WITH_CURL, WITH_OPENSSL
 * and WITH_SQLITE say what the host has.
 *
 * usage: neighbour_host PLUGIN CONFIG [deepbind|global] [before=LIBRARY] [after=LIBRARY]
 * Speaks with neighbour_driver.c by lines: it prints "url …" and "linked"; it reads the
 * callback's query and then "later". It exits with 0 if all was right, with 3 if the
 * plugin refused to start.
 */
#include <acctlink_dl.h>

#include <stdlib.h>
#include <time.h>

#ifdef WITH_JSONC
#include <json-c/json.h>
#endif
#ifdef WITH_JANSSON
#include <jansson.h>
#endif
#ifdef WITH_CURL
#include <curl/curl.h>
#endif
#ifdef WITH_OPENSSL
#include <openssl/evp.h>
#endif
#ifdef WITH_SQLITE
#include <sqlite3.h>
#endif

#define HOUR_MS ((int64_t)3600 * 1000)

static int64_t ahead_ms; /* of the system's clocks */

static _Noreturn void give_up(const char *what, const char *why)
{
	(void)fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

/* ---- the host's own work ------------------------------------------------------------- */

#ifdef WITH_JSONC
static void work_with_jsonc(void)
{
	json_object *root = json_tokener_parse("{\"a\":{\"b\":[1,2,42]},\"c\":\"d\"}");
	json_object *b = json_object_object_get(json_object_object_get(root, "a"), "b");
	json_object *held = json_object_get(b); /* counts a reference */

	if (json_object_get_int(json_object_array_get_idx(b, 2)) != 42 || json_object_object_length(root) != 2
		|| json_object_put(root) != 1 || json_object_array_length(held) != 3)
		give_up("json-c", "wrong result");
	json_object_put(held);
}
#endif

#ifdef WITH_JANSSON
static void work_with_jansson(void)
{
	json_error_t error;
	json_t *root = json_loads("{\"a\":{\"b\":[1,2,42]},\"c\":\"d\"}", 0, &error);
	json_t *b = json_object_get(json_object_get(root, "a"), "b"); /* looks a member up */
	void *at = json_object_iter(root);
	int members = 0;

	for (; at != NULL; at = json_object_iter_next(root, at))
		members++;
	if (json_integer_value(json_array_get(b, 2)) != 42 || members != 2)
		give_up("jansson", "wrong result");
	json_decref(root);
}
#endif

#ifdef WITH_CURL
static void work_with_curl(void)
{
	CURL *easy = curl_easy_init();
	char *text = easy != NULL ? curl_easy_escape(easy, "a b", 3) : NULL;

	if (text == NULL || strcmp(text, "a%20b") != 0)
		give_up("curl", "wrong result");
	curl_free(text);
	curl_easy_cleanup(easy);
}
#endif

#ifdef WITH_OPENSSL
static void work_with_openssl(void)
{
	static const unsigned char expected[4] = { 0xba, 0x78, 0x16, 0xbf }; /* FIPS 180-2, B.1 */
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);

	if (md == NULL || EVP_Digest("abc", 3, digest, &len, md, NULL) != 1 || len != 32
		|| memcmp(digest, expected, sizeof(expected)) != 0)
		give_up("OpenSSL", "wrong result");
	EVP_MD_free(md);
}
#endif

#ifdef WITH_SQLITE
static void work_with_sqlite(void)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *sum = NULL;

	if (sqlite3_open(":memory:", &db) != SQLITE_OK
		|| sqlite3_exec(db, "CREATE TABLE t(n); INSERT INTO t VALUES (40), (2)", NULL, NULL, NULL) != SQLITE_OK
		|| sqlite3_prepare_v2(db, "SELECT sum(n) FROM t", -1, &sum, NULL) != SQLITE_OK
		|| sqlite3_step(sum) != SQLITE_ROW || sqlite3_column_int(sum, 0) != 42)
		give_up("SQLite", "wrong result");
	sqlite3_finalize(sum);
	sqlite3_close(db);
}
#endif

static void work(void)
{
#ifdef WITH_JSONC
	work_with_jsonc();
#endif
#ifdef WITH_JANSSON
	work_with_jansson();
#endif
#ifdef WITH_CURL
	work_with_curl();
#endif
#ifdef WITH_OPENSSL
	work_with_openssl();
#endif
#ifdef WITH_SQLITE
	work_with_sqlite();
#endif
}

/* ---- the plugin's -------------------------------------------------------------------- */

static int64_t read_ms(clockid_t id)
{
	struct timespec now;

	if (clock_gettime(id, &now) != 0)
		give_up("clock_gettime", "failed");
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + ahead_ms;
}

static void read_clock(void *ctx, acctlink_time *now)
{
	(void)ctx;
	now->wall_ms = read_ms(CLOCK_REALTIME);
	now->boot_ms = read_ms(CLOCK_BOOTTIME);
}

static acctlink_str str(const char *text)
{
	const acctlink_str it = { text, strlen(text) };

	return it;
}

static void must(acctlink_status rc, const char *what, const acctlink_error *err)
{
	if (rc == ACCTLINK_OK)
		return;
	(void)fprintf(stderr, "%s: %d %s: %s\n", what, (int)rc, err->where, err->message);
	exit(strcmp(what, "init") == 0 ? 3 : 1);
}

static void read_line(char *line, int cap)
{
	if (fgets(line, cap, stdin) == NULL)
		give_up("driver", "gone");
	line[strcspn(line, "\r\n")] = '\0';
}

static void link_and_refresh(const acctlink_api *api, const char *config)
{
	static char url[8192], cookie[1024], line[8192], bearer[2][16384];
	acctlink *handle = NULL;
	acctlink_error err = { 0 };
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args init = ACCTLINK_INIT_ARGS_INIT;
	acctlink_begin_args begin = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result flow = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_callback_args callback = ACCTLINK_CALLBACK_ARGS_INIT;
	acctlink_bearer_args get = ACCTLINK_BEARER_ARGS_INIT;
	acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;

	hooks.clock = read_clock;
	init.config_path = str(config);
	init.hooks = &hooks;
	begin.user = callback.user = get.link.user = str("ana");
	begin.provider = get.link.provider = str("test");
	flow.url = (acctlink_out){ url, sizeof(url), 0 };
	flow.set_cookie = (acctlink_out){ cookie, sizeof(cookie), 0 };
	must(api->init(&init, &handle, &err), "init", &err);
	work();
	must(api->begin(handle, &begin, &flow, &err), "begin", &err);
	(void)printf("url %s\n", url);
	read_line(line, sizeof(line));
	callback.params = str(line);
	callback.cookie = (acctlink_str){ cookie, strcspn(cookie, ";") };
	must(api->on_callback(handle, &callback, NULL, &err), "on_callback", &err);
	must(api->get_bearer(handle, &get, bearer[0], sizeof(bearer[0]), &info, &err), "get_bearer", &err);
	if (info.generation != 1)
		give_up("get_bearer", "not the first generation");
	work();
	(void)puts("linked");
	read_line(line, sizeof(line));
	ahead_ms += HOUR_MS;
	must(api->get_bearer(handle, &get, bearer[1], sizeof(bearer[1]), &info, &err), "a refresh", &err);
	if (info.generation != 2 || strcmp(bearer[0], bearer[1]) == 0)
		give_up("a refresh", "the bearer is the old one");
	work();
	must(api->shutdown(handle, 0, &err), "shutdown", &err);
}

static void load_library(const char *name)
{
	if (dlopen(name, RTLD_NOW | RTLD_GLOBAL) == NULL)
		give_up(name, dlerror());
}

/* A host of its own way to load: all libraries of the plugin become global, or come first. */
static void load_plugin(const char *path, const char *how, acctlink_api *api)
{
	char why[512];

	if (strcmp(how, "global") == 0 && dlopen(path, RTLD_NOW | RTLD_GLOBAL) == NULL)
		give_up("dlopen", dlerror());
	if (strcmp(how, "deepbind") == 0 && dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) == NULL)
		give_up("dlopen", dlerror());
	if (acctlink_dl_open(path, api, why, sizeof(why)) != 0)
		give_up("acctlink_dl_open", why);
}

int main(int argc, char **argv)
{
	acctlink_api api;
	const char *how = "";
	int i;

	if (argc < 3)
		give_up("usage", "neighbour_host PLUGIN CONFIG [deepbind|global] [before=LIBRARY] [after=LIBRARY]");
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	work();
	for (i = 3; i < argc; i++) {
		if (strncmp(argv[i], "before=", 7) == 0)
			load_library(argv[i] + 7);
		else if (strncmp(argv[i], "after=", 6) != 0)
			how = argv[i];
	}
	load_plugin(argv[1], how, &api);
	for (i = 3; i < argc; i++) {
		if (strncmp(argv[i], "after=", 6) == 0)
			load_library(argv[i] + 6);
	}
	work();
	link_and_refresh(&api, argv[2]);
	acctlink_dl_close(&api);
	work();
	return 0;
}
