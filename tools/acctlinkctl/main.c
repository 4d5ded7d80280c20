/* SPDX-License-Identifier: MIT
 * The command line of acctlinkctl: options, the table of commands, exit codes.
 */
#include "ctl.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/operator.h"

/* Letters of the options that have a long name only. */
enum {
	OPT_SHOW = 'A',
	OPT_ONLINE,
	OPT_PASTE,
	OPT_SECRET_STDIN,
	OPT_OWNER,
	OPT_PROFILE,
	OPT_NAME,
	OPT_ISSUER,
	OPT_CLIENT_ID,
	OPT_STORE,
	OPT_REDIRECT_URI,
	OPT_PROVIDER,
	OPT_STATE
};

static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "json", no_argument, NULL, 'j' },
	{ "timeout", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' }, { "show", no_argument, NULL, OPT_SHOW },
	{ "online", no_argument, NULL, OPT_ONLINE }, { "paste", no_argument, NULL, OPT_PASTE },
	{ "secret-stdin", no_argument, NULL, OPT_SECRET_STDIN }, { "owner", required_argument, NULL, OPT_OWNER },
	{ "profile", required_argument, NULL, OPT_PROFILE }, { "name", required_argument, NULL, OPT_NAME },
	{ "issuer", required_argument, NULL, OPT_ISSUER }, { "client-id", required_argument, NULL, OPT_CLIENT_ID },
	{ "store", required_argument, NULL, OPT_STORE }, { "redirect-uri", required_argument, NULL, OPT_REDIRECT_URI },
	{ "provider", required_argument, NULL, OPT_PROVIDER }, { "state", required_argument, NULL, OPT_STATE },
	{ NULL, 0, NULL, 0 } };

#define LINK_ARGS "USER PROVIDER [INSTITUTION]"
static const char for_init[] = { OPT_OWNER, OPT_PROFILE, OPT_NAME, OPT_ISSUER, OPT_CLIENT_ID, OPT_REDIRECT_URI,
	OPT_STORE, OPT_SECRET_STDIN, '\0' };
static const char for_check[] = { OPT_ONLINE, '\0' };
static const char for_link[] = { OPT_PASTE, OPT_REDIRECT_URI, '\0' };
static const char for_list[] = { OPT_PROVIDER, OPT_STATE, '\0' };
static const char for_bearer[] = { OPT_SHOW, '\0' };

static const struct ctl_command commands[] = { { "init", "", "makes a configuration, a key and a store folder", 0, 0,
						       for_init, 30, ctl_init },
	{ "check", "", "says whether config, key and store are good; --online: the providers too", 0, 0, for_check, 30,
		ctl_check_config },
	{ "link", LINK_ARGS, "a consent from this terminal", 2, 3, for_link, 900, ctl_link },
	{ "list", "[USER]", "the links of one user, or all", 0, 1, for_list, 30, ctl_list },
	{ "show", LINK_ARGS, "everything about one link but its secrets", 2, 3, "", 30, ctl_show },
	{ "bearer", LINK_ARGS, "writes the bearer to a pipe or a file", 2, 3, for_bearer, 30, ctl_bearer },
	{ "refresh", LINK_ARGS, "trades the refresh token for a new set now", 2, 3, "", 30, ctl_refresh },
	{ "unlink", LINK_ARGS, "ends a link and revokes its tokens", 2, 3, "", 30, ctl_unlink },
	{ "forget", "USER", "ends all links and consents of a user", 1, 1, "", 300, ctl_forget },
	{ "import", "PROVIDER [FILE]", "makes links of refresh tokens, one JSON object a line", 1, 2, "", 30,
		ctl_import },
	{ "pause", "PROVIDER", "sends a provider nothing any more", 1, 1, "", 30, ctl_pause },
	{ "resume", "PROVIDER", "goes on with a paused one", 1, 1, "", 30, ctl_resume } };
static const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static void usage(FILE *to)
{
	size_t i;

	fputs("usage: acctlinkctl [options] COMMAND [arguments]\n\n", to);
	for (i = 0; i < command_count; i++)
		fprintf(to, "  %-8s %-28s %s\n", commands[i].name, commands[i].arguments, commands[i].about);
	fputs("\n"
	      "  -c, --config FILE   the configuration ($ACCTLINK_CONFIG, else " ACCTLINK_CONFIG_PATH ")\n"
	      "  -j, --json          answers and errors as one JSON object\n"
	      "  -t, --timeout N     seconds that the command may take\n"
	      "  -h, --help          this\n"
	      "  -V, --version\n\n"
	      "init    --owner USER --profile akoya|oidc|oauth2 --name NAME --issuer URL --client-id ID\n"
	      "        --redirect-uri URI --store DIR --secret-stdin\n"
	      "check   --online\n"
	      "link    --redirect-uri URI --paste\n"
	      "list    --provider NAME --state STATE\n"
	      "bearer  --show          write it to a terminal as well\n\n"
	      "exit status: 0 done, 1 done in part, 2 the command line, 3 the user must act,\n"
	      "4 try again later, 5 the operator must act, 6 a fault of acctlink\n",
		to);
}

/* ---- what commands share ---------------------------------------------------------- */

acctlink_ref ctl_ref(char **args, int count)
{
	acctlink_ref ref = ACCTLINK_REF_INIT;

	ref.user = al_str(args[0]);
	ref.provider = al_str(args[1]);
	if (count > 2)
		ref.institution = al_str(args[2]);
	return ref;
}

uint32_t ctl_deadline_ms(const struct ctl *ctl)
{
	return (uint32_t)ctl->deadline_s * 1000;
}

void ctl_fail(struct ctl *ctl, int exit_code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(ctl->err.message, sizeof(ctl->err.message), fmt, args);
	va_end(args);
	ctl->exit_code = exit_code;
}

int ctl_exit_of(acctlink_status status)
{
	static const int by_group[] = { CTL_OK, CTL_USAGE, CTL_USER, CTL_LATER, CTL_OPERATOR, CTL_FAULT };

	return status >= 0 && status < 600 ? by_group[status / 100] : CTL_FAULT;
}

bool ctl_check(struct ctl *ctl, acctlink_status status)
{
	ctl->exit_code = ctl_exit_of(status);
	return status == ACCTLINK_OK;
}

/* Warnings and worse; the rest is for hosts' logs. */
static void log_line(void *ctx, int32_t level, const char *message)
{
	(void)ctx;
	if (level <= ACCTLINK_LOG_WARNING)
		fprintf(stderr, "acctlinkctl: %s\n", message);
}

bool ctl_open(struct ctl *ctl)
{
	acctlink_hooks hooks = ACCTLINK_HOOKS_INIT;
	acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;

	hooks.log = log_line;
	args.hooks = &hooks;
	args.config_path = al_str(ctl->config_path);
	if (!ctl_check(ctl, acctlink_init(&args, &ctl->handle, &ctl->err)))
		return false;
	al_operator_leave_queue(ctl->handle);
	return true;
}

/* What was sent must be kept, and what is half made undone: until end(). */
void ctl_hold_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* ---- the command line ---------------------------------------------------------------- */

static int number_of(const char *text)
{
	char *end;
	const long number = strtol(text, &end, 10);

	return *text != '\0' && *end == '\0' && number > 0 && number <= 86400 ? (int)number : -1;
}

/* The options that only some commands take. */
static bool read_own(struct ctl *ctl, int letter)
{
	switch (letter) {
	case OPT_SHOW: ctl->show = true; break;
	case OPT_ONLINE: ctl->online = true; break;
	case OPT_PASTE: ctl->paste = true; break;
	case OPT_SECRET_STDIN: ctl->secret_stdin = true; break;
	case OPT_OWNER: ctl->owner = optarg; break;
	case OPT_PROFILE: ctl->profile = optarg; break;
	case OPT_NAME: ctl->name = optarg; break;
	case OPT_ISSUER: ctl->issuer = optarg; break;
	case OPT_CLIENT_ID: ctl->client_id = optarg; break;
	case OPT_STORE: ctl->store = optarg; break;
	case OPT_REDIRECT_URI: ctl->redirect_uri = optarg; break;
	case OPT_PROVIDER: ctl->provider = optarg; break;
	case OPT_STATE: ctl->state = optarg; break;
	default: return false;
	}
	return true;
}

/* What was given of them, by letter, is noted in `given`. */
static bool read_options(struct ctl *ctl, int argc, char **argv, char *given, size_t cap)
{
	size_t count = 0;
	int letter;

	while ((letter = getopt_long(argc, argv, "c:jt:hV", options, NULL)) != -1) {
		switch (letter) {
		case 'c': ctl->config_path = optarg; break;
		case 'j': ctl->json = true; break;
		case 't':
			ctl->deadline_s = number_of(optarg);
			if (ctl->deadline_s > 0)
				break;
			ctl_fail(ctl, CTL_USAGE, "--timeout wants whole seconds, 1 to 86400");
			return false;
		case 'h': usage(stdout); exit(CTL_OK);
		case 'V': puts("acctlinkctl " ACCTLINK_VERSION); exit(CTL_OK);
		default:
			if (!read_own(ctl, letter)) {
				ctl_fail(ctl, CTL_USAGE, "--help lists the options");
				return false;
			}
			if (count + 1 < cap)
				given[count++] = (char)letter;
		}
	}
	return true;
}

static const struct ctl_command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < command_count; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static const char *long_name(char letter)
{
	size_t i = 0;

	while (options[i].val != letter)
		i++;
	return options[i].name;
}

static const struct ctl_command *read_command(struct ctl *ctl, int argc, char **argv, const char *given)
{
	const struct ctl_command *command = find_command(argv[optind]);
	const int count = argc - optind - 1;

	if (command == NULL) {
		ctl_fail(ctl, CTL_USAGE, "there is no command '%s' (--help lists them)", argv[optind]);
		return NULL;
	}
	if (count < command->least || count > command->most) {
		ctl_fail(ctl, CTL_USAGE, "usage: acctlinkctl %s %s", command->name, command->arguments);
		return NULL;
	}
	given += strspn(given, command->options);
	if (*given != '\0') {
		ctl_fail(ctl, CTL_USAGE, "%s does not take --%s", command->name, long_name(*given));
		return NULL;
	}
	if (ctl->deadline_s == 0)
		ctl->deadline_s = command->deadline_s;
	return command;
}

static void run(struct ctl *ctl, int argc, char **argv)
{
	char given[64] = "";
	const struct ctl_command *command = NULL;

	if (read_options(ctl, argc, argv, given, sizeof(given))) {
		if (optind == argc)
			ctl_fail(ctl, CTL_USAGE, "a command is missing (--help lists them)");
		else
			command = read_command(ctl, argc, argv, given);
	}
	if (command != NULL)
		command->run(ctl, argv + optind + 1, argc - optind - 1);
}

/* An answer that is still to come is waited for as long as its request may take. */
static uint32_t longest_request_ms(struct ctl *ctl)
{
	struct al_config *config = al_operator_config(ctl->handle);
	int64_t longest = config->shutdown_timeout_ms;
	size_t i;

	for (i = 0; i < config->provider_count; i++) {
		if (longest < config->providers[i].request_timeout_ms + 5000)
			longest = config->providers[i].request_timeout_ms + 5000;
	}
	al_config_free(&config);
	return (uint32_t)longest;
}

static void end(struct ctl *ctl)
{
	acctlink_error err = { 0 };

	if (ctl->handle != NULL && acctlink_shutdown(ctl->handle, longest_request_ms(ctl), &err) != ACCTLINK_OK)
		fprintf(stderr, "acctlinkctl: %s\n", err.message);
}

int main(int argc, char **argv)
{
	const char *from_environment = getenv("ACCTLINK_CONFIG");
	struct ctl ctl = { .config_path = from_environment != NULL ? from_environment : ACCTLINK_CONFIG_PATH };

	ctl.out = json_object_new_object();
	if (ctl.out == NULL)
		return CTL_FAULT;
	run(&ctl, argc, argv);
	end(&ctl);
	if (ctl.exit_code == CTL_OK || ctl.exit_code == CTL_PARTLY)
		ctl_print(&ctl);
	else
		ctl_print_error(&ctl);
	json_object_put(ctl.out);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("acctlinkctl: stdout");
		return CTL_FAULT;
	}
	return ctl.exit_code;
}
