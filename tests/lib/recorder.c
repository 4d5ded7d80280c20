/* SPDX-License-Identifier: MIT
 * Clocks that tests move, and a list of lines for logs and events. A clock
 * lies in shared memory, so that forked children see it move; lists have a
 * lock and are not shared with children.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct th_clock {
	_Atomic int64_t wall_offset_ms;
	_Atomic int64_t boot_offset_ms;
};

struct th_clock *th_clock_new(void)
{
	struct th_clock *clock = mmap(NULL, sizeof(*clock), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	th_check(clock != MAP_FAILED, "no memory");
	return clock;
}

void th_clock_free(struct th_clock **clock)
{
	if (*clock != NULL)
		munmap(*clock, sizeof(**clock));
	*clock = NULL;
}

void th_clock_advance(struct th_clock *clock, int64_t ms)
{
	atomic_fetch_add(&clock->boot_offset_ms, ms);
	atomic_fetch_add(&clock->wall_offset_ms, ms);
}

void th_clock_shift_wall(struct th_clock *clock, int64_t ms)
{
	atomic_fetch_add(&clock->wall_offset_ms, ms);
}

static int64_t read_clock(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t th_clock_wall_ms(const struct th_clock *clock)
{
	return read_clock(CLOCK_REALTIME) + atomic_load(&clock->wall_offset_ms);
}

int64_t th_clock_boot_ms(const struct th_clock *clock)
{
	return read_clock(CLOCK_BOOTTIME) + atomic_load(&clock->boot_offset_ms);
}

struct th_lines {
	pthread_mutex_t lock;
	size_t count;
	size_t cap;
	char **line;
};

struct th_lines *th_lines_new(void)
{
	struct th_lines *lines = calloc(1, sizeof(*lines));

	th_check(lines != NULL && pthread_mutex_init(&lines->lock, NULL) == 0, "no memory");
	return lines;
}

void th_lines_free(struct th_lines **lines)
{
	size_t i;

	if (*lines == NULL)
		return;
	for (i = 0; i < (*lines)->count; i++)
		free((*lines)->line[i]);
	free((*lines)->line);
	pthread_mutex_destroy(&(*lines)->lock);
	free(*lines);
	*lines = NULL;
}

void th_lines_add(struct th_lines *lines, const char *line)
{
	char *copy = strdup(line);

	pthread_mutex_lock(&lines->lock);
	if (lines->count == lines->cap) {
		lines->cap = lines->cap * 2 + 64;
		lines->line = realloc(lines->line, lines->cap * sizeof(*lines->line));
	}
	th_check(copy != NULL && lines->line != NULL, "no memory");
	lines->line[lines->count++] = copy;
	pthread_mutex_unlock(&lines->lock);
}

size_t th_lines_count(struct th_lines *lines, const char *part)
{
	size_t found = 0;
	size_t i;

	pthread_mutex_lock(&lines->lock);
	for (i = 0; i < lines->count; i++)
		found += part == NULL || strstr(lines->line[i], part) != NULL;
	pthread_mutex_unlock(&lines->lock);
	return found;
}

bool th_lines_contain(struct th_lines *lines, const char *part)
{
	return th_lines_count(lines, part) > 0;
}

char *th_lines_text(struct th_lines *lines)
{
	size_t len = 1;
	size_t i;
	char *text;

	pthread_mutex_lock(&lines->lock);
	for (i = 0; i < lines->count; i++)
		len += strlen(lines->line[i]) + 1;
	text = calloc(1, len);
	th_check(text != NULL, "no memory");
	len = 0;
	for (i = 0; i < lines->count; i++) {
		size_t part = strlen(lines->line[i]);

		memcpy(text + len, lines->line[i], part);
		text[len + part] = '\n';
		len += part + 1;
	}
	pthread_mutex_unlock(&lines->lock);
	return text;
}
