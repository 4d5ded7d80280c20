/* SPDX-License-Identifier: MIT
 * acctlinkctl init: a configuration, a key and a store folder to start from. All of
 * it is made or none: what stands there already is an error before anything is
 * made, and what a failure leaves half done is removed. Nothing is ever
 * overwritten, and no secret is readable by others at any moment.
 */
#include "ctl.h"
#include "making.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "config/config.h"

#define SECRET_MAX 4096
#define NAME_MAX_LEN 63
#define KEY_LEN 32

struct init_profile {
	const char *name;
	const char *about;
	const char *issuer; /* to be changed; NULL: the environment names it */
	const char *hint;   /* beside it */
	const char *keys;   /* that only this profile needs */
};

static const struct init_profile profiles[] = { { "akoya", "Akoya", NULL, "", "" },
	{ "oidc", "an OpenID provider with discovery", "https://login.bank.example",
		"yours, byte for byte as in its metadata", "" },
	{ "oauth2", "a provider that has OAuth 2.0 but no OpenID Connect", "https://login.bank.example", "yours",
		"\t\t# From the provider's documentation; {issuer} stands for the text above.\n"
		"\t\tauthorization_endpoint = \"{issuer}/authorize\";\n"
		"\t\ttoken_endpoint = \"{issuer}/token\";\n" } };

struct init {
	struct ctl *ctl;
	const struct init_profile *profile;
	const char *name;
	const char *state_folder;
	char folder[PATH_MAX]; /* of the config */
	char config[PATH_MAX];
	char key[PATH_MAX];
	char secret[PATH_MAX];
	char store[PATH_MAX]; /* of the folder as given, then as it really is */
	struct al_buf secret_text;
	struct making making;
};

/* ---- failures ------------------------------------------------------------------------ */

static acctlink_status fail_file(struct init *init, const char *path, const char *doing)
{
	return al_fail(&init->ctl->err, ACCTLINK_BAD_CONFIG, path, "can't %s: %s", doing, strerror(errno));
}

static acctlink_status refuse(struct init *init, const char *option, const char *why)
{
	return al_fail(&init->ctl->err, ACCTLINK_BAD_ARGUMENT, option, "%s", why);
}

/* ---- what was asked for ----------------------------------------------------------------- */

static acctlink_status find_profile(struct init *init)
{
	const char *name = init->ctl->profile != NULL ? init->ctl->profile : "akoya";
	size_t i;

	for (i = 0; i < AL_COUNT(profiles); i++) {
		if (strcmp(profiles[i].name, name) == 0) {
			init->profile = &profiles[i];
			return ACCTLINK_OK;
		}
	}
	return refuse(init, "--profile", "there is akoya, oidc and oauth2");
}

static acctlink_status check_name(struct init *init)
{
	const size_t len = strlen(init->name);

	if (init->name[0] >= 'a' && init->name[0] <= 'z' && len <= NAME_MAX_LEN
		&& strspn(init->name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len)
		return ACCTLINK_OK;
	return refuse(
		init, "--name", "a provider's name begins with a letter and has a-z, 0-9, _ and - in it, 63 at most");
}

static acctlink_status check_value(struct init *init, const char *option, const char *value)
{
	const char *c;

	if (value == NULL)
		return ACCTLINK_OK;
	if (*value == '\0')
		return refuse(init, option, "is empty");
	for (c = value; *c != '\0'; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return refuse(init, option, "has a control character in it");
	}
	return al_utf8_valid(value, strlen(value)) ? ACCTLINK_OK : refuse(init, option, "is not UTF-8");
}

static acctlink_status check_values(struct init *init)
{
	const struct ctl *ctl = init->ctl;
	acctlink_status status = check_name(init);

	if (status == ACCTLINK_OK)
		status = check_value(init, "--issuer", ctl->issuer);
	if (status == ACCTLINK_OK)
		status = check_value(init, "--client-id", ctl->client_id);
	if (status == ACCTLINK_OK)
		status = check_value(init, "--redirect-uri", ctl->redirect_uri);
	if (status == ACCTLINK_OK)
		status = check_value(init, "--store", init->state_folder);
	if (status == ACCTLINK_OK)
		status = check_value(init, "--config", ctl->config_path);
	return status;
}

static acctlink_status find_owner(struct init *init)
{
	const char *name = init->ctl->owner;
	struct passwd entry;
	struct passwd *found = NULL;
	char text[16384];
	int cause;

	init->making.uid = geteuid();
	init->making.gid = getegid();
	if (name == NULL)
		return ACCTLINK_OK;
	cause = getpwnam_r(name, &entry, text, sizeof(text), &found);
	if (found == NULL)
		return al_fail(&init->ctl->err, ACCTLINK_BAD_ARGUMENT, "--owner", "there is no user \"%.64s\"%s%s",
			name, cause != 0 ? ": " : "", cause != 0 ? strerror(cause) : "");
	if (geteuid() != 0 && entry.pw_uid != geteuid())
		return refuse(init, "--owner", "only root can make files for another user: call this as root");
	init->making.uid = entry.pw_uid;
	init->making.gid = entry.pw_gid;
	return ACCTLINK_OK;
}

static bool fill_path(char *to, const char *folder, const char *name, const char *ending)
{
	const bool slash = folder[0] != '\0' && folder[strlen(folder) - 1] != '/';
	const int len = snprintf(to, PATH_MAX, "%s%s%s%s", folder, slash ? "/" : "", name, ending);

	return len > 0 && len < PATH_MAX;
}

static acctlink_status fill_paths(struct init *init)
{
	const char *config = init->ctl->config_path;
	const char *slash = strrchr(config, '/');
	const size_t folder_len = slash == NULL ? 0 : (size_t)(slash + 1 - config);

	if (config[folder_len] == '\0' || folder_len >= PATH_MAX)
		return refuse(init, "--config", "this must be the name of a file");
	memcpy(init->folder, config, folder_len);
	init->folder[folder_len] = '\0';
	if (!fill_path(init->config, "", config, "") || !fill_path(init->key, init->folder, "store.key", "")
		|| !fill_path(init->secret, init->folder, init->name, ".secret")
		|| !fill_path(init->store, "", init->state_folder, ""))
		return refuse(init, "--config", "this path, or that of the store, is too long");
	return ACCTLINK_OK;
}

/* ---- the client secret --------------------------------------------------------------------- */

/* A terminal shows nothing while the secret is typed. Ctrl-C ends the line instead of the
 * program, which puts the terminal right before it fails over that character. */
static bool hide(struct termios *before)
{
	struct termios hidden;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, before) != 0)
		return false;
	hidden = *before;
	hidden.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	hidden.c_cc[VEOL] = before->c_cc[VINTR];
	fprintf(stderr, "The client secret (it is not shown): ");
	return tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0;
}

static acctlink_status read_to_end(struct init *init, bool one_line)
{
	struct al_buf *text = &init->secret_text;
	char part[512];
	ssize_t got;
	bool good = true;

	do {
		got = read(STDIN_FILENO, part, sizeof(part));
		good = got <= 0 || al_buf_put(text, part, (size_t)got);
	} while (good && (got > 0 ? !one_line || text->data[text->len - 1] != '\n' : got < 0 && errno == EINTR));
	al_wipe(part, sizeof(part));
	if (got < 0)
		return fail_file(init, "stdin", "read the secret");
	return good ? ACCTLINK_OK : refuse(init, "stdin", "the secret is longer than 4096 bytes");
}

static acctlink_status check_secret(struct init *init)
{
	struct al_buf *text = &init->secret_text;
	size_t len = text->len;
	size_t i;

	if (len > 0 && text->data[len - 1] == '\n')
		len--;
	if (len < text->len && len > 0 && text->data[len - 1] == '\r')
		len--;
	if (len == 0)
		return refuse(init, "stdin", "the secret is empty");
	for (i = 0; i < len; i++) {
		if ((unsigned char)text->data[i] < 0x20 || text->data[i] == 0x7f)
			return refuse(init, "stdin", "the secret has a line break or control character in it");
	}
	return len <= SECRET_MAX ? ACCTLINK_OK : refuse(init, "stdin", "the secret is longer than 4096 bytes");
}

static acctlink_status read_secret(struct init *init)
{
	struct termios before;
	acctlink_status status;
	bool hidden;

	if (!init->ctl->secret_stdin)
		return ACCTLINK_OK;
	hidden = hide(&before);
	status = read_to_end(init, hidden);
	if (hidden) {
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	return status == ACCTLINK_OK ? check_secret(init) : status;
}

/* ---- what stands there ------------------------------------------------------------------------ */

static acctlink_status must_be_absent(struct init *init, const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		return al_fail(
			&init->ctl->err, ACCTLINK_BAD_CONFIG, path, "this exists already; nothing was made or changed");
	return errno == ENOENT || errno == ENOTDIR ? ACCTLINK_OK : fail_file(init, path, "look at it");
}

/* A folder that is there stays as it is, so it must be right. */
static acctlink_status check_store(struct init *init)
{
	struct stat st;
	char file[PATH_MAX];

	if (lstat(init->store, &st) != 0)
		return errno == ENOENT ? ACCTLINK_OK : fail_file(init, init->store, "look at it");
	if (!S_ISDIR(st.st_mode))
		return al_fail(&init->ctl->err, ACCTLINK_BAD_STORE, init->store, "this is not a folder");
	if (st.st_uid != init->making.uid || (st.st_mode & 077) != 0)
		return al_fail(&init->ctl->err, ACCTLINK_BAD_STORE, init->store,
			"this folder belongs to user %lu and has mode "
			"%04o; it must belong to user %lu and have mode 0700",
			(unsigned long)st.st_uid, (unsigned)(st.st_mode & 07777), (unsigned long)init->making.uid);
	/* It was sealed with another key than the one that would be made. */
	return fill_path(file, init->store, "store.db", "") ? must_be_absent(init, file)
							    : refuse(init, "--store", "this path is too long");
}

static acctlink_status check_place(struct init *init)
{
	acctlink_status status = must_be_absent(init, init->config);

	if (status == ACCTLINK_OK)
		status = must_be_absent(init, init->key);
	if (status == ACCTLINK_OK)
		status = must_be_absent(init, init->secret);
	if (status == ACCTLINK_OK)
		status = check_store(init);
	return status;
}

/* ---- making it ------------------------------------------------------------------------------------ */

static acctlink_status make_key(struct init *init)
{
	unsigned char key[KEY_LEN];
	char text[2 * KEY_LEN + 2];
	acctlink_status status = al_random(key, sizeof(key), &init->ctl->err);

	if (status == ACCTLINK_OK) {
		al_hex(text, key, sizeof(key));
		text[2 * KEY_LEN] = '\n';
		status = making_file(&init->making, init->key, 0600, text, 2 * KEY_LEN + 1);
	}
	al_wipe(key, sizeof(key));
	al_wipe(text, sizeof(text));
	return status;
}

/* ---- the configuration ------------------------------------------------------------------------------- */

/* As libconfig reads it back. */
static void put_quoted(struct al_buf *to, const char *value)
{
	const char *c;

	al_buf_puts(to, "\"");
	for (c = value; *c != '\0'; c++)
		al_buf_printf(to, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", *c);
	al_buf_puts(to, "\"");
}

static void put_key(struct al_buf *to, const char *key, const char *value, const char *comment)
{
	al_buf_printf(to, "\t\t%s = ", key);
	put_quoted(to, value);
	al_buf_printf(to, ";%s%s\n", comment[0] != '\0' ? " # " : "", comment);
}

static const char *given_or(const char *given, const char *stand_in)
{
	return given != NULL ? given : stand_in;
}

static void put_provider(const struct init *init, struct al_buf *to)
{
	const struct ctl *ctl = init->ctl;
	const char *issuer = given_or(ctl->issuer, init->profile->issuer);
	char secret[NAME_MAX_LEN + 8];

	snprintf(secret, sizeof(secret), "%s.secret", init->name);
	al_buf_printf(to, "\t%s = {\n", init->name);
	put_key(to, "profile", init->profile->name, "");
	if (issuer != NULL)
		put_key(to, "issuer", issuer, ctl->issuer != NULL ? "" : init->profile->hint);
	else
		put_key(to, "environment", "sandbox", "or \"production\"");
	al_buf_puts(to, init->profile->keys);
	put_key(to, "client_id", given_or(ctl->client_id, "YOUR-CLIENT-ID"), "");
	put_key(to, "client_secret_file", secret, "the secret alone, mode 0600");
	if (ctl->redirect_uri == NULL)
		al_buf_puts(to,
			"\n\t\t# Exactly as registered. \"acctlinkctl link\" can receive what comes to a loopback\n"
			"\t\t# address, such as http://127.0.0.1:8400/callback.\n");
	put_key(to, "redirect_uri", given_or(ctl->redirect_uri, "https://app.example/callback"), "");
	al_buf_puts(to, "\t};\n");
}

static acctlink_status make_config(struct init *init)
{
	acctlink_status status;
	struct al_buf text;
	char path[PATH_MAX];

	if (!fill_path(path, init->store, "store.db", ""))
		return refuse(init, "--store", "this path is too long");
	al_buf_init(&text, 65536);
	al_buf_printf(&text,
		"# acctlink for %s. All other keys: acctlink.conf(5).\n"
		"# Relative paths start from the folder of this file.\n\nstore = {\n\tpath = ",
		init->profile->about);
	put_quoted(&text, path);
	al_buf_puts(&text,
		";\n\n\t# Keep a copy of the key: without it the links are lost.\n\tkey_file = \"store.key\";\n};\n\n"
		"providers = {\n");
	put_provider(init, &text);
	al_buf_puts(&text, "};\n");
	status = text.failed ? refuse(init, NULL, "the values are too long")
			     : making_file(&init->making, init->config, 0644, text.data, text.len);
	al_buf_clear(&text);
	return status;
}

static acctlink_status make_secret(struct init *init)
{
	static const char stand_in[] = "none yet\n"; /* for the trial, until empty_secret */
	const struct al_buf *text = &init->secret_text;

	return init->ctl->secret_stdin ? making_file(&init->making, init->secret, 0600, text->data, text->len)
				       : making_file(&init->making, init->secret, 0600, stand_in, sizeof(stand_in) - 1);
}

/* An empty file is an error that names it, until the secret is in it. */
static acctlink_status empty_secret(struct init *init)
{
	const int fd = open(init->secret, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	acctlink_status status = ACCTLINK_OK;

	if (fd < 0 || fsync(fd) != 0)
		status = fail_file(init, init->secret, "empty it");
	if (fd >= 0)
		close(fd);
	return status;
}

/* Reads it as a host would. The file is gone afterwards if this fails, so it is not named. */
static acctlink_status try_config(struct init *init)
{
	static const struct al_log quiet = { NULL, NULL, -1 };
	acctlink_error *err = &init->ctl->err;
	struct al_config *config = NULL;
	acctlink_error why = { 0 };

	if (al_config_load(init->config, &quiet, &config, &why) != ACCTLINK_OK)
		return al_fail(
			err, ACCTLINK_BAD_ARGUMENT, "init", "these values make no good configuration: %s", why.message);
	al_config_free(&config);
	return init->ctl->secret_stdin ? ACCTLINK_OK : empty_secret(init);
}

static acctlink_status resolve_store(struct init *init)
{
	char *real = realpath(init->store, NULL);
	acctlink_status status = ACCTLINK_OK;

	if (real == NULL)
		return fail_file(init, init->store, "resolve it");
	if (!fill_path(init->store, "", real, ""))
		status = refuse(init, "--store", "this path is too long");
	free(real);
	return status == ACCTLINK_OK ? check_value(init, "--store", init->store) : status;
}

static acctlink_status make_all(struct init *init)
{
	acctlink_status status = making_folders(&init->making, init->folder, 0755, false);

	if (status == ACCTLINK_OK)
		status = making_folders(&init->making, init->store, 0700, true);
	if (status == ACCTLINK_OK)
		status = resolve_store(init);
	if (status == ACCTLINK_OK)
		status = check_store(init); /* again: of "NEW/." the first part was made, not the last */
	if (status == ACCTLINK_OK)
		status = make_key(init);
	if (status == ACCTLINK_OK)
		status = make_secret(init);
	if (status == ACCTLINK_OK)
		status = make_config(init);
	if (status == ACCTLINK_OK)
		status = try_config(init);
	return status;
}

/* ---- the command ------------------------------------------------------------------------------------------ */

static acctlink_status look(struct init *init)
{
	acctlink_status status = find_profile(init);

	if (status != ACCTLINK_OK)
		return status;
	init->name = given_or(init->ctl->name, init->profile->name);
	init->state_folder = given_or(init->ctl->store, ACCTLINK_STATE_DIR);
	status = check_values(init);
	if (status == ACCTLINK_OK)
		status = find_owner(init);
	if (status == ACCTLINK_OK)
		status = fill_paths(init);
	if (status == ACCTLINK_OK)
		status = check_place(init);
	return status == ACCTLINK_OK ? read_secret(init) : status;
}

static void put_missing(struct al_buf *to, bool given, const char *key)
{
	if (!given)
		al_buf_printf(to, "%s%s", to->len > 0 ? ", " : "put ", key);
}

static void put_next(const struct init *init)
{
	const struct ctl *ctl = init->ctl;
	struct al_buf next;

	al_buf_init(&next, 4 * PATH_MAX);
	put_missing(&next, ctl->issuer != NULL || init->profile->issuer == NULL, "issuer");
	put_missing(&next, ctl->client_id != NULL, "client_id");
	put_missing(&next, ctl->redirect_uri != NULL, "redirect_uri");
	if (next.len > 0)
		al_buf_printf(&next, " into %s, ", init->config);
	if (!ctl->secret_stdin)
		al_buf_printf(&next, "put the client secret into %s, ", init->secret);
	al_buf_printf(&next, "%srun acctlinkctl --config %s check --online", next.len > 0 ? "then " : "", init->config);
	ctl_put_text(ctl->out, "next", al_buf_text(&next));
	al_buf_clear(&next);
}

void ctl_init(struct ctl *ctl, char **args, int count)
{
	struct init *init = al_new(sizeof(*init));
	acctlink_status status;

	(void)args;
	(void)count;
	if (init == NULL) {
		(void)ctl_check(ctl, al_fail_memory(&ctl->err));
		return;
	}
	umask(077); /* this process does nothing else */
	init->ctl = ctl;
	init->making.err = &ctl->err;
	al_buf_init(&init->secret_text, SECRET_MAX + 2);
	status = look(init);
	if (status == ACCTLINK_OK) {
		ctl_hold_signals();
		status = make_all(init);
	}
	making_end(&init->making, status != ACCTLINK_OK);
	if (ctl_check(ctl, status)) {
		ctl_put_text(ctl->out, "config", init->config);
		ctl_put_text(ctl->out, "key", init->key);
		ctl_put_text(ctl->out, "secret", init->secret);
		ctl_put_text(ctl->out, "store", init->store);
		put_next(init);
	}
	al_buf_clear(&init->secret_text);
	free(init);
}
