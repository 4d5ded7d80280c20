/* SPDX-License-Identifier: MIT
 * The data API, behind a bearer, in the dress of FDX as Akoya wears it:
 *   /accounts-info/v2/BANK, /accounts/v2/BANK, /balances/v2/BANK,
 *   /transactions/v2/BANK/ACCOUNT[?startTime=&endTime=&offset=&limit=],
 *   /customers/v2/BANK/current
 * and /userinfo or /api ({sub, grant}), and /institutions, open to everyone.
 *
 * A bearer that is no good is answered with 401 {"code":602,…}, whatever is
 * wrong with it. Only accounts that the customer consented to are ever told.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void add_text(json_object *object, const char *name, const char *text)
{
	json_object_object_add(object, name, json_object_new_string(text));
}

static void add_amount(json_object *object, const char *name, int64_t cents)
{
	char *text = pp_bank_amount(cents);

	json_object_object_add(object, name, json_object_new_double_s((double)cents / 100, text));
	free(text);
}

static void add_day(json_object *object, const char *name, int64_t day)
{
	char *text = pp_bank_day(day);
	char *whole = pp_printf("%sT00:00:00Z", text);

	add_text(object, name, whole);
	free(whole);
	free(text);
}

/* Akoya's codes are numbers, where FDX has text. */
static void refuse(struct pp_answer *answer, int status, int code, const char *message)
{
	answer->status = status;
	answer->json = json_object_new_object();
	json_object_object_add(answer->json, "code", json_object_new_int(code));
	add_text(answer->json, "message", message);
}

/* ---- who asks -------------------------------------------------------------------------- */

/* The grant behind the bearer; NULL if it is no good. */
static const struct pp_grant *grant_of(const struct pp_request *req)
{
	const char *authorization = pp_header(req, "authorization");
	const struct pp_token *bearer;

	if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0)
		return NULL;
	bearer = pp_token_find(authorization + 7);
	if (bearer == NULL || (bearer->kind != PP_ACCESS && bearer->kind != PP_ID) || bearer->dead)
		return NULL;
	if (bearer->grant == NULL || !bearer->grant->alive)
		return NULL;
	return bearer->ends_at == 0 || pp_now_ms() < bearer->ends_at ? bearer->grant : NULL;
}

static const char *institution_of(const struct pp_grant *grant)
{
	return grant->connector != NULL && *grant->connector != '\0' ? grant->connector : NULL;
}

static bool consented(const struct pp_grant *grant, const char *id)
{
	size_t i;

	if (grant->accounts == NULL)
		return true;
	for (i = 0; i < json_object_array_length(grant->accounts); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(grant->accounts, i)), id) == 0)
			return true;
	}
	return false;
}

/* The accounts that the app may see. */
static size_t accounts_of(const struct pp_grant *grant, struct pp_account list[PP_ACCOUNTS_MAX])
{
	const size_t all = pp_bank_accounts(institution_of(grant), grant->subject, list);
	size_t count = 0;
	size_t i;

	for (i = 0; i < all; i++) {
		if (consented(grant, list[i].id))
			list[count++] = list[i];
	}
	return count;
}

/* ---- accounts ----------------------------------------------------------------------------- */

static json_object *account_info(const struct pp_account *account)
{
	json_object *json = json_object_new_object();
	json_object *currency = json_object_new_object();
	char *display = pp_printf("xxxx%s", account->number);

	add_text(json, "accountId", account->id);
	add_text(json, "accountType", account->product->type);
	add_text(json, "accountNumberDisplay", display);
	add_text(json, "productName", account->product->name);
	add_text(json, "nickname", account->product->name);
	add_text(json, "status", "OPEN");
	add_text(currency, "currencyCode", "USD");
	json_object_object_add(json, "currency", currency);
	free(display);
	return json;
}

static void add_balances(json_object *json, const struct pp_account *account)
{
	const struct pp_product *product = account->product;
	char *rate = pp_bank_amount(product->rate);

	add_day(json, "balanceAsOf", pp_bank_today());
	switch (product->class) {
	case PP_DEPOSIT:
		add_amount(json, "currentBalance", account->cents);
		add_amount(json, "availableBalance", account->cents);
		json_object_object_add(
			json, "annualPercentageYield", json_object_new_double_s((double)product->rate / 100, rate));
		break;
	case PP_CREDIT:
		add_amount(json, "currentBalance", account->cents);
		add_amount(json, "creditLine", product->limit);
		add_amount(json, "availableCredit", product->limit - account->cents);
		add_amount(json, "minimumPaymentAmount", account->cents < 3500 ? account->cents : 3500);
		json_object_object_add(
			json, "purchasesApr", json_object_new_double_s((double)product->rate / 100, rate));
		break;
	case PP_LOAN:
		add_amount(json, "principalBalance", account->cents);
		add_amount(json, "originalPrincipal", product->limit);
		json_object_object_add(
			json, "interestRate", json_object_new_double_s((double)product->rate / 100, rate));
		break;
	case PP_INVESTMENT:
		add_amount(json, "currentValue", account->cents);
		add_amount(json, "availableCashBalance", account->cents / 20);
		break;
	}
	free(rate);
}

static const char *wrapper_of(const struct pp_account *account, bool transaction)
{
	static const char *const accounts[] = { "depositAccount", "locAccount", "loanAccount", "investmentAccount" };
	static const char *const transactions[] = { "depositTransaction", "locTransaction", "loanTransaction",
		"investmentTransaction" };

	return (transaction ? transactions : accounts)[account->product->class];
}

static json_object *wrapped(const char *name, json_object *inner)
{
	json_object *outer = json_object_new_object();

	json_object_object_add(outer, name, inner);
	return outer;
}

static void tell_accounts(const struct pp_grant *grant, bool balances, struct pp_answer *answer)
{
	struct pp_account list[PP_ACCOUNTS_MAX];
	const size_t count = accounts_of(grant, list);
	json_object *array = json_object_new_array();
	size_t i;

	for (i = 0; i < count; i++) {
		json_object *json = account_info(&list[i]);

		if (balances)
			add_balances(json, &list[i]);
		json_object_array_add(array, wrapped(wrapper_of(&list[i], false), json));
	}
	answer->status = 200;
	answer->json = wrapped("accounts", array);
}

/* ---- transactions ----------------------------------------------------------------------------- */

static json_object *transaction_json(const struct pp_account *account, const struct pp_transaction *transaction)
{
	json_object *json = json_object_new_object();
	/* On a card or loan, what is owed grows by a debit. */
	const bool debit = transaction->cents < 0;

	add_text(json, "accountId", account->id);
	add_text(json, "transactionId", transaction->id);
	add_day(json, "postedTimestamp", transaction->day);
	add_day(json, "transactionTimestamp", transaction->day);
	add_text(json, "description", transaction->text);
	add_text(json, "category", transaction->category);
	add_text(json, "debitCreditMemo", debit ? "DEBIT" : "CREDIT");
	add_text(json, "status", "POSTED");
	add_amount(json, "amount", debit ? -transaction->cents : transaction->cents);
	return wrapped(wrapper_of(account, true), json);
}

static int64_t number_param(const struct pp_request *req, const char *name, int64_t fallback, int64_t most)
{
	const char *text = pp_param(req, name);
	char *end;
	long long number;

	if (text == NULL)
		return fallback;
	number = strtoll(text, &end, 10);
	return *text == '\0' || *end != '\0' || number < 0 ? fallback : number > most ? most : number;
}

/* True if the day is within startTime and endTime; dates sort as text. */
static bool within(const struct pp_request *req, int64_t day)
{
	const char *start = pp_param(req, "startTime");
	const char *end = pp_param(req, "endTime");
	char *text = pp_bank_day(day);
	const bool is = (start == NULL || strncmp(text, start, 10) >= 0)
		&& (end == NULL || strncmp(text, end, 10) <= 0);

	free(text);
	return is;
}

enum { HISTORY_DAYS = 120, PAGE_MAX = 500 };

static void tell_transactions(const struct pp_request *req, const struct pp_account *account, struct pp_answer *answer)
{
	const int64_t offset = number_param(req, "offset", 0, 1000000);
	const int64_t limit = number_param(req, "limit", 50, PAGE_MAX);
	const int64_t today = pp_bank_today();
	json_object *array = json_object_new_array();
	json_object *page = json_object_new_object();
	int64_t total = 0;
	int64_t day;

	for (day = today; day > today - HISTORY_DAYS; day--) {
		struct pp_transaction transaction;

		if (!within(req, day) || !pp_bank_transaction(account, day, &transaction))
			continue;
		if (total >= offset && total < offset + limit)
			json_object_array_add(array, transaction_json(account, &transaction));
		total++;
	}
	json_object_object_add(page, "totalElements", json_object_new_int64(total));
	if (offset + limit < total)
		json_object_object_add(page, "nextOffset", json_object_new_int64(offset + limit));
	answer->status = 200;
	answer->json = wrapped("transactions", array);
	json_object_object_add(answer->json, "page", page);
}

static void find_and_tell(
	const struct pp_request *req, const struct pp_grant *grant, const char *id, struct pp_answer *answer)
{
	struct pp_account list[PP_ACCOUNTS_MAX];
	const size_t count = accounts_of(grant, list);
	size_t i;

	for (i = 0; i < count && strcmp(list[i].id, id) != 0; i++)
		;
	if (i < count)
		tell_transactions(req, &list[i], answer);
	else
		refuse(answer, 404, 701, "Account not found");
}

/* ---- customers ----------------------------------------------------------------------------------- */

static void tell_customer(const struct pp_grant *grant, struct pp_answer *answer)
{
	char *whole = pp_bank_customer(institution_of(grant), grant->subject);
	char *login = pp_bank_login(grant->subject);
	char *mail = pp_printf("%.40s@customers.example", login);
	const char *space = strchr(whole, ' ');
	char *first = pp_printf("%.*s", (int)(space != NULL ? (size_t)(space - whole) : strlen(whole)), whole);
	json_object *json = json_object_new_object();
	json_object *name = json_object_new_object();
	json_object *mails = json_object_new_array();

	add_text(json, "customerId", grant->subject);
	add_text(name, "first", first);
	add_text(name, "last", space != NULL ? space + 1 : "");
	json_object_object_add(json, "name", name);
	json_object_array_add(mails, json_object_new_string(mail));
	json_object_object_add(json, "email", mails);
	answer->status = 200;
	answer->json = json;
	free(first);
	free(mail);
	free(login);
	free(whole);
}

/* ---- institutions ---------------------------------------------------------------------------------- */

static void tell_institutions(struct pp_answer *answer)
{
	static const char *const shown[] = { "title", "kind", "about", "tint", "users", "habits" };
	json_object *array = json_object_new_array();

	json_object_object_foreach(pp_institutions(), name, institution)
	{
		json_object *json = json_object_new_object();
		size_t i;

		add_text(json, "name", name);
		for (i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
			json_object_object_add(json, shown[i], pp_copy(pp_member(institution, shown[i])));
		json_object_array_add(array, json);
	}
	answer->status = 200;
	answer->json = wrapped("institutions", array);
}

/* ---- requests ---------------------------------------------------------------------------------------- */

enum { PARTS_MAX = 5 };

/* "/accounts/v2/mikomo" -> accounts, v2, mikomo; in place. What is too much makes one part more. */
static size_t split(char *path, char *parts[PARTS_MAX])
{
	size_t count = 0;
	char *save = NULL;
	char *part;

	for (part = strtok_r(path, "/", &save); part != NULL && count < PARTS_MAX; part = strtok_r(NULL, "/", &save))
		parts[count++] = part;
	return count;
}

static bool is(const char *part, const char *name)
{
	return strcmp(part, name) == 0;
}

/* parts: product, version, institution and what follows. Akoya says 403 to a wrong
 * institution or version. */
static void tell(const struct pp_request *req, const struct pp_grant *grant, char *const *parts, size_t count,
	struct pp_answer *answer)
{
	const char *institution = institution_of(grant);

	if (count < 3)
		refuse(answer, 404, 404, "Resource not found");
	else if (!is(parts[1], "v2"))
		refuse(answer, 403, 403, "This version is not supported");
	else if (institution != NULL && !is(parts[2], institution))
		refuse(answer, 403, 403, "The token is not for this provider");
	else if (count == 3 && (is(parts[0], "accounts") || is(parts[0], "balances")))
		tell_accounts(grant, true, answer);
	else if (count == 3 && is(parts[0], "accounts-info"))
		tell_accounts(grant, false, answer);
	else if (count == 4 && is(parts[0], "transactions"))
		find_and_tell(req, grant, parts[3], answer);
	else if (count == 4 && is(parts[0], "customers") && is(parts[3], "current"))
		tell_customer(grant, answer);
	else
		refuse(answer, 404, 404, "Resource not found");
}

static void tell_grant(const struct pp_grant *grant, struct pp_answer *answer)
{
	answer->status = 200;
	answer->json = json_object_new_object();
	add_text(answer->json, "sub", grant->subject);
	json_object_object_add(answer->json, "grant", json_object_new_int64(grant->n));
}

void pp_accounts(struct pp_request *req, struct pp_answer *answer)
{
	char *path = pp_strdup(req->path);
	char *parts[PARTS_MAX];
	const size_t count = split(path, parts);
	const struct pp_grant *grant;

	if (count == 1 && is(parts[0], "institutions"))
		tell_institutions(answer);
	else if ((grant = grant_of(req)) == NULL)
		refuse(answer, 401, 602, "Customer not authorized");
	else if (count == 1 && (is(parts[0], "userinfo") || is(parts[0], "api")))
		tell_grant(grant, answer);
	else if (strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0)
		refuse(answer, 405, 405, "Method not allowed");
	else
		tell(req, grant, parts, count, answer);
	free(path);
}
