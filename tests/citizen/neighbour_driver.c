/* SPDX-License-Identifier: MIT
 * Plays provider and browser for one host of test_neighbours.sh.
 * usage: neighbour_driver HOST [ARGUMENT…]: runs HOST PLUGIN CONFIG ARGUMENT…, answers
 * its lines (see neighbour_host.c) and exits with its value, or with 128 and the number
 * of the signal that ended it. A host that was right must have reached the provider.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

struct child {
	pid_t pid;
	FILE *to;
	FILE *from;
};

static void run_host(struct child *child, char **argv)
{
	int to[2], from[2];

	th_check(pipe(to) == 0 && pipe(from) == 0, "pipe");
	child->pid = fork();
	th_check(child->pid >= 0, "fork");
	if (child->pid == 0) {
		if (dup2(to[0], 0) < 0 || dup2(from[1], 1) < 0 || close(to[1]) != 0 || close(from[0]) != 0)
			_exit(126);
		execv(argv[0], argv);
		_exit(127);
	}
	th_check(close(to[0]) == 0 && close(from[1]) == 0, "close");
	child->to = fdopen(to[1], "w");
	child->from = fdopen(from[0], "r");
	th_check(child->to != NULL && child->from != NULL, "fdopen");
}

static void say(const struct child *child, const char *line)
{
	th_check(fprintf(child->to, "%s\n", line) > 0 && fflush(child->to) == 0, "the host does not listen");
}

static int talk(const struct child *child, struct th_provider *provider)
{
	static char line[16384];
	int status;

	while (fgets(line, sizeof(line), child->from) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "url ", 4) == 0) {
			char *query = th_consent(provider, line + 4);

			say(child, query);
			free(query);
		} else if (strcmp(line, "linked") == 0) {
			th_provider_advance(provider, (int64_t)3600 * 1000);
			say(child, "later");
		}
	}
	th_check(waitpid(child->pid, &status, 0) == child->pid, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct th_provider *provider = th_provider_start(TH_PRACTICE, NULL);
	const char *plugin = getenv("ACCTLINK_PLUGIN");
	struct child child;
	char **host_argv = calloc((size_t)argc + 3, sizeof(*host_argv));
	char *dir = th_temp_dir();
	char *config = th_config_write(dir, provider, NULL);
	int rc;

	th_check(argc >= 2 && plugin != NULL && host_argv != NULL, "usage: neighbour_driver HOST [ARGUMENT…]");
	host_argv[0] = argv[1];
	th_check((host_argv[1] = strdup(plugin)) != NULL, "no memory");
	host_argv[2] = config;
	for (int i = 2; i < argc; i++)
		host_argv[i + 1] = argv[i];
	run_host(&child, host_argv);
	rc = talk(&child, provider);
	th_check(rc != 0
			|| (th_count(provider, "token", "authorization_code") == 1
				&& th_count(provider, "token", "refresh_token") == 1),
		"the provider saw no code or no refresh");
	fclose(child.to);
	fclose(child.from);
	th_provider_stop(&provider);
	free(host_argv[1]);
	free(host_argv);
	free(config);
	free(dir);
	return rc;
}
