/* SPDX-License-Identifier: MIT
 * Ten thousand links made and refreshed once in one run, by several threads of one
 * host (`check --full`; else a sample of five hundred). Afterwards the bank's books
 * and the store must agree to the token: each link holds its grant's current
 * refresh token, every code and refresh token arrived once, and nothing else came.
 */
#include "akoya.h"

#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <time.h>

#include "judge.h"

enum { FULL = 10000, SAMPLE = 500, THREADS = 8, HASH = 65 };

/* A customer of a bank of their own: Akoya's subject is one per login and bank, and
 * who shares one shares the grant. */
struct customer {
	char user[16];
	char bank[16];
	char bearer[HASH]; /* SHA-256 of the last one */
};

struct town {
	struct th_host *host;
	unsigned count;
	atomic_uint next;
	struct customer *customers;
};

static struct town *town_new(void)
{
	const unsigned count = th_full() ? FULL : SAMPLE;
	struct town *town = calloc(1, sizeof(*town));
	unsigned i;

	th_check(town != NULL, "no memory");
	town->host = host_with(NULL);
	town->count = count;
	town->customers = calloc(count, sizeof(*town->customers));
	th_check(town->customers != NULL, "no memory");
	for (i = 0; i < count; i++) {
		snprintf(town->customers[i].user, sizeof(town->customers[i].user), "user-%05u", i);
		snprintf(town->customers[i].bank, sizeof(town->customers[i].bank), "bank-%05u", i);
	}
	return town;
}

static void town_free(struct town **town)
{
	th_host_free(&(*town)->host);
	free((*town)->customers);
	free(*town);
	*town = NULL;
}

/* The next customer who waits; NULL when all have been served. */
static struct customer *take(struct town *town)
{
	const unsigned i = atomic_fetch_add(&town->next, 1);

	return i < town->count ? &town->customers[i] : NULL;
}

static void in_parallel(struct town *town, const char *what, void (*run)(void *ctx, unsigned i))
{
	struct timespec before;
	struct timespec after;
	double seconds;

	atomic_store(&town->next, 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	th_parallel(THREADS, run, town);
	clock_gettime(CLOCK_MONOTONIC, &after);
	seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	printf("# %u %s in %.1f s, %.0f a second\n", town->count, what, seconds, (double)town->count / seconds);
	fflush(stdout);
}

/* ---- what the threads do ---------------------------------------------------------------- */

static void consent(
	struct town *town, struct th_browser *browser, const struct customer *customer, struct th_flow *flow)
{
	acctlink_callback_result result;
	acctlink_error err = { 0 };
	struct th_answer answer;
	const char *query;

	expect_status(th_begin(town->host, customer->user, customer->bank, flow, &err), ACCTLINK_OK, &err);
	th_check(th_browser_go(browser, "GET", flow->url, NULL, NULL, &answer), "the bank does not answer");
	query = answer.location != NULL ? strchr(answer.location, '?') : NULL;
	th_check(query != NULL, "HTTP %ld without a way back: %.200s", answer.status, answer.body);
	expect_status(
		th_callback(town->host, customer->user, query + 1, flow->cookie, &result, &err), ACCTLINK_OK, &err);
	th_check(result.flags == 0 && result.epoch == 1 && result.generation == 1,
		"%s: flags %d, epoch %llu, generation %llu", customer->user, (int)result.flags,
		(unsigned long long)result.epoch, (unsigned long long)result.generation);
	th_answer_clear(&answer);
}

static void link_customers(void *ctx, unsigned i)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	struct th_flow *flow = calloc(1, sizeof(*flow));
	struct town *town = ctx;
	struct customer *customer;

	(void)i;
	th_check(flow != NULL, "no memory");
	while ((customer = take(town)) != NULL)
		consent(town, browser, customer, flow);
	free(flow);
	th_browser_free(&browser);
}

static void hash_of(const char *text, char hex[HASH])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	unsigned i;

	th_check(EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL) == 1 && len == 32, "SHA-256");
	for (i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void refresh_customers(void *ctx, unsigned i)
{
	struct town *town = ctx;
	struct customer *customer;

	(void)i;
	while ((customer = take(town)) != NULL) {
		acctlink_bearer_info info = ACCTLINK_BEARER_INFO_INIT;
		char *bearer = th_must_bearer(town->host, customer->user, customer->bank, &info);

		expect_number(info.generation, 2);
		hash_of(bearer, customer->bearer);
		free(bearer);
	}
}

/* ---- the books ----------------------------------------------------------------------------- */

static const char *text_of(json_object *object, const char *name)
{
	const char *text = json_object_get_string(json_object_object_get(object, name));

	return text != NULL ? text : "";
}

static int64_t number_of(json_object *object, const char *name)
{
	return json_object_get_int64(json_object_object_get(object, name));
}

static bool flag_of(json_object *object, const char *name)
{
	return json_object_get_boolean(json_object_object_get(object, name));
}

struct sums {
	unsigned auth, exchanges, refreshes, keys, others;
};

static void add_request(struct sums *sums, json_object *request)
{
	const char *endpoint = text_of(request, "endpoint");

	th_check(flag_of(request, "arrived_complete") && strcmp(text_of(request, "outcome"), "answered") == 0,
		"a request that is not in order: %s", json_object_to_json_string(request));
	if (strcmp(endpoint, "token") == 0) {
		th_check(
			number_of(request, "status") == 200 && flag_of(request, "spent") && !flag_of(request, "reused"),
			"it was not served: %s", json_object_to_json_string(request));
		if (strcmp(text_of(request, "grant"), "authorization_code") == 0)
			sums->exchanges++;
		else
			sums->refreshes++;
	} else if (strcmp(endpoint, "auth") == 0) {
		sums->auth++;
	} else if (strcmp(endpoint, "jwks") == 0) {
		sums->keys++;
	} else {
		sums->others++;
	}
}

static void expect_requests(json_object *ledger, unsigned count)
{
	json_object *requests = json_object_object_get(ledger, "requests");
	struct sums sums = { 0, 0, 0, 0, 0 };
	size_t i;

	for (i = 0; i < json_object_array_length(requests); i++)
		add_request(&sums, json_object_array_get_idx(requests, i));
	expect_number(sums.auth, count);
	expect_number(sums.exchanges, count);
	expect_number(sums.refreshes, count);
	expect_number(sums.others, 0);
	/* Shared by all who need them at the time: before the day that passed and after it. */
	th_check(sums.keys >= 1 && sums.keys <= 2, "the keys were fetched %u times", sums.keys);
}

static void expect_arrivals(json_object *ledger, unsigned count)
{
	json_object *arrivals = json_object_object_get(ledger, "arrivals");

	expect_number(json_object_object_length(arrivals), 2 * count);
	json_object_object_foreach(arrivals, hash, times)
		th_check(json_object_get_int(times) == 1, "%s arrived %d times", hash, json_object_get_int(times));
}

/* Each customer's grant, found by the bank; those of earlier tests are not alive. */
static void expect_grants(json_object *ledger, const struct town *town, json_object **grants)
{
	json_object *all = json_object_object_get(ledger, "grants");
	unsigned alive = 0;
	unsigned i;
	size_t n;

	for (n = 0; n < json_object_array_length(all); n++) {
		json_object *grant = json_object_array_get_idx(all, n);

		if (!flag_of(grant, "alive"))
			continue;
		alive++;
		th_check(sscanf(text_of(grant, "connector"), "bank-%5u", &i) == 1 && i < town->count
				&& grants[i] == NULL,
			"whose grant is this? %s", json_object_to_json_string(grant));
		grants[i] = grant;
		expect_number(number_of(grant, "generation"), 2);
		expect_number(json_object_array_length(json_object_object_get(grant, "spent")), 1);
	}
	expect_number(alive, town->count);
}

/* Two refresh tokens and two id_tokens of each grant, and of those the customer has the later one. */
static void expect_tokens(json_object *ledger, const struct town *town, json_object **grants)
{
	json_object *tokens = json_object_object_get(ledger, "tokens");
	json_object *by_hash = json_object_new_object();
	unsigned i;
	size_t n;

	th_check(by_hash != NULL, "no memory");
	for (n = 0; n < json_object_array_length(tokens); n++) {
		json_object *token = json_object_array_get_idx(tokens, n);

		json_object_object_add(by_hash, text_of(token, "hash"), json_object_get(token));
	}
	for (i = 0; i < town->count; i++) {
		json_object *bearer = json_object_object_get(by_hash, town->customers[i].bearer);
		json_object *refresh_token = json_object_object_get(by_hash, text_of(grants[i], "current"));

		th_check(bearer != NULL && strcmp(text_of(bearer, "kind"), "id") == 0, "%s has a bearer of nobody",
			town->customers[i].user);
		expect_number(number_of(bearer, "grant"), number_of(grants[i], "n"));
		expect_number(number_of(bearer, "generation"), 2);
		expect_number(number_of(refresh_token, "generation"), 2);
		expect_number(number_of(refresh_token, "spent_at"), 0);
		expect_number(number_of(refresh_token, "issued_by"), number_of(bearer, "issued_by"));
	}
	json_object_put(by_hash);
}

static void expect_books(const struct town *town)
{
	json_object *ledger = th_ledger(provider);
	json_object **grants = calloc(town->count, sizeof(*grants));

	th_check(grants != NULL, "no memory");
	expect_requests(ledger, town->count);
	expect_arrivals(ledger, town->count);
	expect_grants(ledger, town, grants);
	expect_tokens(ledger, town, grants);
	free(grants);
	json_object_put(ledger);
}

/* ---- the store ------------------------------------------------------------------------------- */

static int64_t stored_number(const struct th_host *host, const char *sql)
{
	char *path = th_printf(
		"%.*s/store.db", (int)(strrchr(host->config_path, '/') - host->config_path), host->config_path);
	sqlite3_stmt *statement = NULL;
	sqlite3 *db = NULL;
	int64_t number;

	th_check(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK
			&& sqlite3_busy_timeout(db, 10000) == SQLITE_OK
			&& sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK
			&& sqlite3_step(statement) == SQLITE_ROW,
		"%s: %s", sql, sqlite3_errmsg(db));
	number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	free(path);
	return number;
}

static void expect_store(const struct town *town)
{
	char *in_order = th_printf(
		"SELECT count(*) FROM link WHERE state = %d AND reason = 0 AND epoch = 1"
		" AND generation = 2 AND claim_outcome = 0 AND unknown_sent_at = 0 AND failures = 0 AND rejected_generation = 0"
		" AND 'bank' || substr(user, 5) = institution AND subject = 'sub-' || institution",
		ACCTLINK_STATE_LINKED);

	expect_number(stored_number(town->host, "SELECT count(*) FROM link"), town->count);
	expect_number(stored_number(town->host, in_order), town->count);
	expect_number(stored_number(town->host, "SELECT count(DISTINCT user) FROM link"), town->count);
	free(in_order);
}

static void expect_events(const struct town *town)
{
	expect_number(th_lines_count(town->host->events, "LINKED user="), town->count);
	expect_number(th_lines_count(town->host->events, "REFRESHED user="), town->count);
	expect_number(th_lines_count(town->host->events, NULL), 2 * town->count);
}

/* ---- the judge --------------------------------------------------------------------------------- */

/* A thief of one refresh token, whom the books know: the judge must see that the
 * store is behind them now. */
static void spend_one(void)
{
	struct th_browser *browser = th_browser_new(provider->ca_file);
	char *hash = th_grant_current(provider, -1);
	char *token = th_raw_token(provider, hash);
	char *url = th_printf("%s/token", provider->issuer);
	char *form = th_printf(
		"grant_type=refresh_token&refresh_token=%s&client_id=test-client&client_secret=test-secret", token);
	const char *const headers[] = { "Content-Type: application/x-www-form-urlencoded", NULL };
	struct th_answer answer;

	th_check(th_browser_go(browser, "POST", url, headers, form, &answer), "the bank does not answer");
	expect_number(answer.status, 200);
	th_answer_clear(&answer);
	free(form);
	free(url);
	free(token);
	free(hash);
	th_browser_free(&browser);
}

static void expect_judge_to_see_a_theft(const struct town *town)
{
	const char *const configs[] = { town->host->config_path, NULL };
	struct th_verdict verdict;

	spend_one();
	th_judge_run(provider->control, configs, NULL, &verdict);
	th_check(verdict.exit_code == 1, "the judge overlooks that a link's token is spent (exit code %d): %s",
		verdict.exit_code, verdict.text);
	th_verdict_clear(&verdict);
}

static void ten_thousand_links_and_the_banks_books_agree_to_the_token(void **state)
{
	struct town *town = town_new();

	(void)state;
	in_parallel(town, "links made", link_customers);
	th_advance(town->host, provider, DAY);
	in_parallel(town, "links refreshed", refresh_customers);
	expect_books(town);
	expect_store(town);
	expect_events(town);
	th_judge_host(provider, town->host);
	expect_judge_to_see_a_theft(town);
	town_free(&town);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup(
		ten_thousand_links_and_the_banks_books_agree_to_the_token, be_akoya) };

	return cmocka_run_group_tests_name("ten thousand", tests, start_provider, stop_provider);
}
