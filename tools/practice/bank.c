/* SPDX-License-Identifier: MIT
 * Invented customers and their money. Nothing is kept: a SHA-256 over the names
 * decides everything, so that a customer finds the same accounts and the same
 * history after any restart.
 */
#include "pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A number that belongs to these texts. */
static uint64_t draw(const char *a, const char *b, int64_t n)
{
	char *text = pp_printf("%zu:%s|%s|%lld", strlen(a), a, b, (long long)n);
	char *hash = pp_sha256_hex(text);
	uint64_t number;

	hash[15] = '\0';
	number = strtoull(hash, NULL, 16);
	free(hash);
	free(text);
	return number;
}

static void draw_id(char id[33], const char *a, const char *b, int64_t n)
{
	char *text = pp_printf("%zu:%s|%s|%lld|id", strlen(a), a, b, (long long)n);
	char *hash = pp_sha256_hex(text);

	snprintf(id, 33, "%.32s", hash);
	free(hash);
	free(text);
}

static int64_t between(uint64_t number, int64_t least, int64_t most)
{
	return least + (int64_t)(number % (uint64_t)(most - least + 1));
}

/* ---- accounts ---------------------------------------------------------------------- */

static const struct pp_product products[] = {
	{ PP_DEPOSIT, "CHECKING", "Everyday Checking", 40000, 640000, 0, 10 },
	{ PP_DEPOSIT, "SAVINGS", "Rainy Day Savings", 150000, 3200000, 0, 385 },
	{ PP_CREDIT, "CREDITCARD", "Travel Card", 8000, 290000, 750000, 1949 },
	{ PP_LOAN, "AUTOLOAN", "Car Loan", 310000, 1740000, 2200000, 629 },
	{ PP_INVESTMENT, "BROKERAGE", "Brokerage", 520000, 8800000, 0, 0 },
};

/* Everyone has the first two; these are the sets of further ones. */
static const int further[][2] = { { 2, -1 }, { 3, -1 }, { 4, -1 }, { 2, 3 }, { 2, 4 }, { 3, 4 } };

static void open_account(struct pp_account *account, const char *institution, const char *subject, int which)
{
	const struct pp_product *product = &products[which];

	account->product = product;
	draw_id(account->id, institution, subject, which);
	snprintf(account->number, sizeof(account->number), "%04d",
		(int)between(draw(account->id, "number", 0), 0, 9999));
	account->cents = between(draw(account->id, "balance", 0), product->least, product->most);
}

size_t pp_bank_accounts(const char *institution, const char *subject, struct pp_account list[PP_ACCOUNTS_MAX])
{
	const char *bank = institution != NULL ? institution : "";
	const int *more = further[draw(bank, subject, -1) % (sizeof(further) / sizeof(further[0]))];
	size_t count = 0;
	size_t i;

	open_account(&list[count++], bank, subject, 0);
	open_account(&list[count++], bank, subject, 1);
	for (i = 0; i < 2; i++) {
		if (more[i] >= 0)
			open_account(&list[count++], bank, subject, more[i]);
	}
	return count;
}

/* ---- transactions -------------------------------------------------------------------- */

struct habit {
	const char *text;
	const char *category;
	int64_t least; /* cents; below zero: it goes out */
	int64_t most;
};

static const struct habit spending[] = {
	{ "Corner Bakery", "Food & Dining", -1890, -340 },
	{ "Greenleaf Market", "Groceries", -14200, -1260 },
	{ "Harbour Transit", "Transport", -640, -275 },
	{ "Northwind Energy", "Utilities", -11800, -4400 },
	{ "Paper Moon Books", "Shopping", -4800, -890 },
	{ "Blue Kettle Cafe", "Food & Dining", -2350, -420 },
	{ "Cedar Street Pharmacy", "Health", -5200, -610 },
	{ "Transfer from a friend", "Transfer", 1000, 12000 },
};
static const struct habit saving[] = {
	{ "Transfer from checking", "Transfer", 5000, 45000 },
	{ "Interest paid", "Interest", 120, 2600 },
	{ "Transfer to checking", "Transfer", -30000, -5000 },
};
static const struct habit repaying[] = { { "Monthly payment, thank you", "Loan Payment", 24900, 38900 } };
static const struct habit investing[] = {
	{ "Bought: Meadow Index Fund", "Buy", 10000, 90000 },
	{ "Dividend: Quarry Holdings", "Dividend", 340, 9800 },
	{ "Sold: Tidewater Bonds", "Sell", -60000, -8000 },
};
static const struct habit pay = { "Lumen Works payroll", "Income", 184000, 342000 };

/* What happens on that day; NULL: nothing. */
static const struct habit *habit_of(const struct pp_account *account, int64_t day, uint64_t number)
{
	const uint64_t chance = number % 100;
	const uint64_t pick = number / 100;

	switch (account->product->class) {
	case PP_LOAN: return day % 30 == 4 ? &repaying[0] : NULL;
	case PP_INVESTMENT: return chance < 12 ? &investing[pick % 3] : NULL;
	case PP_CREDIT: return chance < 45 ? &spending[pick % 7] : NULL;
	case PP_DEPOSIT: break;
	}
	if (strcmp(account->product->type, "SAVINGS") == 0)
		return chance < 9 ? &saving[pick % 3] : NULL;
	if (day % 14 == 3)
		return &pay;
	return chance < 60 ? &spending[pick % 8] : NULL;
}

bool pp_bank_transaction(const struct pp_account *account, int64_t day, struct pp_transaction *out)
{
	const struct habit *habit = habit_of(account, day, draw(account->id, "day", day));

	if (habit == NULL)
		return false;
	draw_id(out->id, account->id, "transaction", day);
	out->day = day;
	out->cents = between(draw(account->id, "amount", day), habit->least, habit->most);
	out->text = habit->text;
	out->category = habit->category;
	return true;
}

/* ---- people --------------------------------------------------------------------------- */

/* base64url of the protocol buffer { 1: login, 2: institution } (dex's internal.IDTokenSubject). */
char *pp_bank_subject(const char *institution, const char *login)
{
	const char *bank = institution != NULL ? institution : "";
	/* Lengths of one byte are enough for what is real; the rest is cut. */
	const size_t login_len = strnlen(login, 127);
	const size_t bank_len = strnlen(bank, 127);
	unsigned char *bytes = pp_calloc(1, login_len + bank_len + 8);
	size_t used = 0;
	char *subject;

	bytes[used++] = 0x0a;
	bytes[used++] = (unsigned char)login_len;
	memcpy(bytes + used, login, login_len);
	used += login_len;
	bytes[used++] = 0x12;
	bytes[used++] = (unsigned char)bank_len;
	memcpy(bytes + used, bank, bank_len);
	subject = pp_base64url(bytes, used + bank_len);
	free(bytes);
	return subject;
}

static int digit_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* The bytes of a base64url text; *len is (size_t)-1 if it is none. */
static unsigned char *decode(const char *text, size_t *len)
{
	unsigned char *bytes = pp_calloc(1, strlen(text) + 1);
	uint32_t bits = 0;
	unsigned count = 0;

	for (*len = 0; *text != '\0'; text++) {
		const int digit = digit_of(*text);

		if (digit < 0) {
			*len = (size_t)-1;
			break;
		}
		bits = (bits << 6) | (uint32_t)digit;
		count += 6;
		if (count >= 8) {
			count -= 8;
			bytes[(*len)++] = (unsigned char)(bits >> count);
		}
	}
	return bytes;
}

char *pp_bank_login(const char *subject)
{
	size_t len;
	unsigned char *bytes = decode(subject, &len);
	char *login = NULL;

	if (len != (size_t)-1 && len >= 4 && bytes[0] == 0x0a && bytes[1] < 128 && len > (size_t)bytes[1] + 3
		&& bytes[2 + bytes[1]] == 0x12 && len == (size_t)bytes[1] + 4 + bytes[3 + bytes[1]])
		login = pp_printf("%.*s", (int)bytes[1], (const char *)bytes + 2);
	free(bytes);
	return login != NULL ? login : pp_strdup(subject);
}

char *pp_bank_customer(const char *institution, const char *subject)
{
	char *login = pp_bank_login(subject);
	const char *known = pp_text(pp_member(pp_institution(institution), "users"), login, NULL);
	char *name;

	if (known != NULL) {
		name = pp_strdup(known);
		free(login);
		return name;
	}
	if (*login >= 'a' && *login <= 'z')
		*login = (char)(*login - 'a' + 'A');
	return login;
}

/* ---- for people and for JSON ------------------------------------------------------------ */

char *pp_bank_amount(int64_t cents)
{
	const int64_t size = cents < 0 ? -cents : cents;

	return pp_printf("%s%lld.%02lld", cents < 0 ? "-" : "", (long long)(size / 100), (long long)(size % 100));
}

char *pp_bank_money(int64_t cents)
{
	const int64_t size = cents < 0 ? -cents : cents;
	const long long whole = size / 100;
	const char *sign = cents < 0 ? "-" : "";

	if (whole >= 1000000)
		return pp_printf("%s$%lld,%03lld,%03lld.%02lld", sign, whole / 1000000, whole / 1000 % 1000,
			whole % 1000, (long long)(size % 100));
	if (whole >= 1000)
		return pp_printf("%s$%lld,%03lld.%02lld", sign, whole / 1000, whole % 1000, (long long)(size % 100));
	return pp_printf("%s$%lld.%02lld", sign, whole, (long long)(size % 100));
}

char *pp_bank_day(int64_t day)
{
	const time_t at = (time_t)(day * 86400);
	char text[32];
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d", &tm) == 0)
		return pp_strdup("1970-01-01");
	return pp_strdup(text);
}

int64_t pp_bank_today(void)
{
	return pp_now_ms() / 86400000;
}
