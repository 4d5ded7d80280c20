/* SPDX-License-Identifier: MIT
 * Runs the judge as a child process and reads its verdict. Keeps no state.
 */
#include "judge.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { WORDS_MAX = 256 };

struct words {
	char *list[WORDS_MAX + 1];
	size_t count;
};

static void add_word(struct words *words, const char *word)
{
	th_check(words->count < WORDS_MAX, "too many arguments for the judge");
	words->list[words->count++] = th_printf("%s", word);
}

static void add_program(struct words *words)
{
	const char *given = getenv("ACCTLINK_JUDGE");
	const char *top = getenv("TH_BUILDDIR");
	char *path = given != NULL ? th_printf("%s", given)
				   : th_printf("%s/tools/judge/judge", top != NULL ? top : ".");

	th_check(access(path, X_OK) == 0, "there is no judge at %s", path);
	add_word(words, path);
	free(path);
}

static void add_flags(struct words *words, const char *flags)
{
	char *copy = th_printf("%s", flags != NULL ? flags : "");
	char *state = NULL;
	char *word;

	for (word = strtok_r(copy, " ", &state); word != NULL; word = strtok_r(NULL, " ", &state))
		add_word(words, word);
	free(copy);
}

static char *read_all(int fd)
{
	char *text = calloc(1, 1);
	size_t len = 0;

	for (;;) {
		ssize_t got;

		text = realloc(text, len + 65536 + 1);
		th_check(text != NULL, "no memory");
		got = read(fd, text + len, 65536);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
	return text;
}

/* stdout and stderr together. */
static pid_t spawn(struct words *words, int *out_fd)
{
	posix_spawn_file_actions_t actions;
	int out[2];
	pid_t pid;
	int rc;

	th_check(pipe2(out, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
	th_check(posix_spawn_file_actions_init(&actions) == 0
			&& posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0
			&& posix_spawn_file_actions_adddup2(&actions, out[1], 1) == 0
			&& posix_spawn_file_actions_adddup2(&actions, out[1], 2) == 0,
		"posix_spawn_file_actions");
	rc = posix_spawn(&pid, words->list[0], &actions, NULL, words->list, environ);
	th_check(rc == 0, "start %s: %s", words->list[0], strerror(rc));
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	*out_fd = out[0];
	return pid;
}

void th_judge_run(const char *ledger, const char *const *config_paths, const char *flags, struct th_verdict *verdict)
{
	struct words words = { .count = 0 };
	int status;
	pid_t pid;
	size_t i;
	int fd;

	add_program(&words);
	add_word(&words, "--ledger");
	add_word(&words, ledger);
	for (i = 0; config_paths != NULL && config_paths[i] != NULL; i++) {
		add_word(&words, "--config");
		add_word(&words, config_paths[i]);
	}
	add_flags(&words, flags);
	pid = spawn(&words, &fd);
	verdict->text = read_all(fd);
	close(fd);
	while (waitpid(pid, &status, 0) < 0)
		th_check(errno == EINTR, "waitpid: %s", strerror(errno));
	th_check(WIFEXITED(status), "the judge was ended by signal %d: %s", WTERMSIG(status), verdict->text);
	verdict->exit_code = WEXITSTATUS(status);
	for (i = 0; i < words.count; i++)
		free(words.list[i]);
}

void th_verdict_clear(struct th_verdict *verdict)
{
	free(verdict->text);
	verdict->text = NULL;
}

void th_judge(struct th_provider *provider, const char *const *config_paths, const char *flags)
{
	struct th_verdict verdict;

	th_judge_run(provider->control, config_paths, flags, &verdict);
	th_check(verdict.exit_code == 0, "the judge says:\n%s", verdict.text);
	th_verdict_clear(&verdict);
}

void th_judge_host(struct th_provider *provider, const struct th_host *host)
{
	const char *const configs[] = { host->config_path, NULL };

	th_judge(provider, configs, NULL);
}
