/* SPDX-License-Identifier: MIT
 * acctlinkctl check: reads what acctlink_init reads and says what stands there;
 * with --online it asks each provider for its metadata and keys, and its token
 * endpoint to exchange a made-up code, which spends nothing.
 */
#include "ctl.h"

#include <stdlib.h>
#include <string.h>

#include "abi/operator.h"

static const char *part(const char *url, const char *otherwise)
{
	return url != NULL ? url : otherwise;
}

static void put_algs(json_object *to, unsigned algs)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = { { AL_ALG_RS256, "RS256" }, { AL_ALG_PS256, "PS256" }, { AL_ALG_ES256, "ES256" },
		{ AL_ALG_EDDSA, "EdDSA" } };
	char text[64] = "";
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((algs & names[i].bit) == 0)
			continue;
		if (text[0] != '\0')
			strncat(text, " ", sizeof(text) - strlen(text) - 1);
		strncat(text, names[i].name, sizeof(text) - strlen(text) - 1);
	}
	ctl_put_text(to, "id_token_algorithms", text);
}

/* One sentence a line becomes one element each. */
static void put_advice(json_object *to, const char *advice)
{
	json_object *list = json_object_new_array();

	while (advice != NULL && *advice != '\0') {
		const size_t len = strcspn(advice, "\n");

		json_object_array_add(list, json_object_new_string_len(advice, (int)len));
		advice += len;
		advice += *advice == '\n';
	}
	json_object_object_add(to, "advice", list);
}

static void put_end(json_object *to, const char *name, al_rc rc, const acctlink_error *err)
{
	if (rc == ACCTLINK_OK)
		ctl_put_text(to, name, "good");
	else
		json_object_object_add(to, name, ctl_error_object(err));
}

static void put_probe(json_object *to, const struct al_probe *probe, bool keys_wanted)
{
	const struct al_facts *facts = &probe->facts;

	ctl_put_text(to, "authorization_endpoint", facts->authorization_endpoint);
	ctl_put_text(to, "token_endpoint", facts->token_endpoint);
	ctl_put_text(to, "revocation_endpoint", part(facts->revocation_endpoint, "none: tokens can't be revoked"));
	if (keys_wanted) {
		ctl_put_text(to, "jwks_uri", part(facts->jwks_uri, "none"));
		put_end(to, "keys", probe->keys, &probe->keys_err);
		ctl_put_number(to, "key_count", (int64_t)facts->keys);
		put_algs(to, facts->algs);
	}
	put_end(to, "credentials", probe->token, &probe->token_err);
	if (probe->code[0] != '\0')
		ctl_put_text(to, "answer_to_a_made_up_code", probe->code);
	put_advice(to, facts->advice);
}

/* False if anything was not good. */
static bool ask(struct ctl *ctl, const struct al_provider_config *config, json_object *to)
{
	struct al_probe probe;
	acctlink_error err = { 0 };
	const al_rc rc = al_operator_probe(ctl->handle, config->name, &probe, &err);
	bool good;

	if (rc != ACCTLINK_OK) {
		json_object_object_add(to, "metadata", ctl_error_object(&err));
		return false;
	}
	ctl_put_text(to, "metadata", config->discovery && config->issuer != NULL ? "good" : "not used");
	put_probe(to, &probe, config->id_token_expected);
	good = probe.keys == ACCTLINK_OK && probe.token == ACCTLINK_OK;
	al_facts_clear(&probe.facts);
	return good;
}

static bool describe(struct ctl *ctl, const struct al_provider_config *config, json_object *list)
{
	json_object *to = json_object_new_object();
	bool paused = false;

	json_object_array_add(list, to);
	ctl_put_text(to, "name", config->name);
	ctl_put_text(to, "profile", config->profile);
	if (config->issuer != NULL)
		ctl_put_text(to, "issuer", config->issuer);
	ctl_put_text(to, "client_id", config->client_id);
	ctl_put_text(to, "redirect_uri", config->redirect_uris[0]);
	if (!ctl_check(ctl, al_operator_paused(ctl->handle, config->name, &paused, &ctl->err)))
		return false;
	ctl_put_flag(to, "paused", paused);
	if (ctl->online && !ask(ctl, config, to))
		ctl->exit_code = CTL_PARTLY;
	return true;
}

void ctl_check_config(struct ctl *ctl, char **args, int count)
{
	json_object *list = json_object_new_array();
	struct al_config *config;
	bool partly = false;
	size_t i;

	(void)args;
	(void)count;
	json_object_object_add(ctl->out, "config", json_object_new_string(ctl->config_path));
	json_object_object_add(ctl->out, "providers", list);
	if (!ctl_open(ctl))
		return;
	config = al_operator_config(ctl->handle);
	ctl_put_text(ctl->out, "store", config->store_path);
	for (i = 0; i < config->provider_count && describe(ctl, &config->providers[i], list); i++)
		partly = partly || ctl->exit_code == CTL_PARTLY;
	if (partly && ctl->exit_code == CTL_OK)
		ctl->exit_code = CTL_PARTLY;
	al_config_free(&config);
}
