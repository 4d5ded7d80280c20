/* SPDX-License-Identifier: MIT
 * The provider's manners: settings with their defaults, which `set` at the
 * control port and --set change; a bank's own habits; clock and addresses.
 */
#include "practice.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* json-c reads single quotes where it is not strict. */
static const char defaults_text
	[] = "{"
	     "'issuer_path': ''," /* added to the issuer: '/' or '/tenant' */
	     "'pages': false,"    /* true: /auth shows sign-in, accounts and consent; false: it consents at once */
	     "'habits': false,"   /* true: each bank has its own manners (institutions.c) */
	     "'sub': null,"       /* default: sub-<login_hint or connector or 1>, or the login on the pages */
	     /* hydra: a spent token kills the grant. dex: it is refused with Dex's words, and a second consent of one
	 * user, client and bank ends the first grant. none: never rotated nor repeated. same: repeated, not rotated */
	     "'rotation': 'hydra',"
	     "'one_grant': null,"    /* one grant per user, client and bank; null: as the rotation has it */
	     "'words': null,"        /* of errors: 'akoya' or 'rfc'; null: akoya's where the rotation is dex */
	     "'reuse_window_ms': 0," /* a token spent so recently is accepted once more */
	     "'code_ttl': 300, 'access_ttl': 3600, 'id_token_ttl': 3600," /* seconds */
	     "'refresh_ttl': 0, 'refresh_idle_ttl': 0," /* seconds since issue and since last use; 0: no end */
	     "'access_token': true,"                    /* in the answers */
	     "'id_token': 'always',"                    /* 'first': not on refresh; 'never' */
	     "'refresh_nonce': false,"                  /* repeat the nonce in refreshed id_tokens */
	     "'alg': 'RS256',"                          /* PS256, ES256, EdDSA */
	     "'claims': {},"                            /* merged into every id_token */
	     "'scope': null,"                           /* granted instead of what was asked */
	     "'iss_parameter': false,"                  /* RFC 9207 */
	     /* any, basic, basic_raw (not form-decoded), post, none */
	     "'auth': { 'authorization_code': 'any', 'refresh_token': 'any', 'revoke': 'any' },"
	     "'clients': { 'test-client': 'test-secret', 'public-client': null },"
	     "'redirect_uris': null," /* the registered ones; null: any */
	     "'burn_code_on_401': false,"
	     "'discovery': {},"      /* merged into the metadata, null deletes */
	     "'jwks_max_age': null," /* Cache-Control of /jwks, seconds */
	     "'jwks_without_kid': false,"
	     "'token_bytes': {}," /* access, refresh, id: exact length (id: at most) */
	     "'clock_offset_ms': 0"
	     "}";

static json_object *defaults;
static json_object *settings;
static char *base_url;
static char *front_url;

void pp_settings_init(void)
{
	defaults = json_tokener_parse(defaults_text);
	if (defaults == NULL)
		pp_die("the table of settings is broken");
	settings = pp_copy(defaults);
}

json_object *pp_settings_all(void)
{
	return settings;
}

/* Objects are merged; null brings the default back. */
static void change_one(const char *name, json_object *value)
{
	json_object *old = pp_member(defaults, name);
	json_object *merged;

	if (!json_object_is_type(old, json_type_object)) {
		json_object_object_add(settings, name, pp_copy(value != NULL ? value : old));
	} else if (!json_object_is_type(value, json_type_object)) {
		json_object_object_add(settings, name, pp_copy(old));
	} else {
		merged = pp_copy(pp_member(settings, name));
		json_object_object_foreach(value, inner, inner_value)
			json_object_object_add(merged, inner, pp_copy(inner_value));
		json_object_object_add(settings, name, merged);
	}
}

bool pp_settings_change(json_object *from, char **why)
{
	if (!json_object_is_type(from, json_type_object)) {
		*why = pp_strdup("set: an object is wanted");
		return false;
	}
	json_object_object_foreach(from, word, unused)
	{
		(void)unused;
		if (!json_object_object_get_ex(defaults, word, NULL)) {
			*why = pp_printf("set: unknown word \"%s\"", word);
			return false;
		}
	}
	json_object_object_foreach(from, name, value) change_one(name, value);
	return true;
}

json_object *pp_setting(const char *institution, const char *name)
{
	json_object *habits = institution != NULL && pp_flag(settings, "habits", false)
		? pp_member(pp_member(pp_institutions(), institution), "habits")
		: NULL;
	json_object *value = NULL;

	if (habits != NULL && json_object_object_get_ex(habits, name, &value))
		return value;
	if (!json_object_object_get_ex(settings, name, &value))
		pp_die("there is no setting '%s'", name);
	return value;
}

const char *pp_setting_text(const char *institution, const char *name)
{
	json_object *value = pp_setting(institution, name);

	return value != NULL ? json_object_get_string(value) : NULL;
}

int64_t pp_setting_number(const char *institution, const char *name)
{
	return json_object_get_int64(pp_setting(institution, name));
}

bool pp_setting_flag(const char *institution, const char *name)
{
	return json_object_get_boolean(pp_setting(institution, name));
}

bool pp_akoya_words(const char *institution)
{
	const char *words = pp_setting_text(institution, "words");

	return words != NULL ? strcmp(words, "akoya") == 0
			     : strcmp(pp_setting_text(institution, "rotation"), "dex") == 0;
}

int64_t pp_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + pp_number(settings, "clock_offset_ms", 0);
}

/* ---- addresses ---------------------------------------------------------------------- */

void pp_set_urls(const char *base, const char *front)
{
	free(base_url);
	free(front_url);
	base_url = pp_strdup(base);
	front_url = pp_strdup(front);
}

const char *pp_base_url(void)
{
	return base_url != NULL ? base_url : "";
}

const char *pp_front_url(void)
{
	return front_url != NULL ? front_url : "";
}

char *pp_issuer(void)
{
	return pp_printf("%s%s", pp_base_url(), pp_text(settings, "issuer_path", ""));
}
