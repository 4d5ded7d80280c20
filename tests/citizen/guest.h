/* SPDX-License-Identifier: MIT
 * What the tests of this suite share: descriptors of a process with what they
 * are, and the sanitizers and checkers that a test must know of. Fails as
 * harness.h says.
 */
#ifndef TH_GUEST_H
#define TH_GUEST_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "../abi/peek.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS ((int64_t)3600 * 1000)

/* A process that was forked from one with threads may have none under TSan. */
#ifdef __SANITIZE_THREAD__
#define THREADS_AFTER_FORK 0
#else
#define THREADS_AFTER_FORK 1
#endif

/* Sanitizers keep freed memory and map memory of their own as they go. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Before gcc 14 ASan's allocator does not hold its locks over a fork: a child
 * forked while another thread allocates may hang in its first malloc. */
#if defined(__SANITIZE_ADDRESS__) && defined(__GNUC__) && __GNUC__ < 14
#define FORK_AMID_MALLOC 0
#else
#define FORK_AMID_MALLOC 1
#endif

static inline int64_t guest_now_ms(void)
{
	struct timespec now;

	th_check(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "clock_gettime");
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void guest_nap_us(unsigned us)
{
	struct timespec left = { us / 1000000, (long)(us % 1000000) * 1000 };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* xorshift64*: the same numbers for the same seed, which is never 0. */
static inline uint64_t guest_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u;
}

/* The rounds that an issue asks for, or a sample of them. */
static inline unsigned guest_rounds(unsigned whole, unsigned sample)
{
	return th_full() ? whole : sample;
}

/* ---- descriptors ------------------------------------------------------------- */

enum { GUEST_DESCRIPTORS = 256 };

/* Index: the number. What /proc tells of it: a path, or "socket:[inode]". */
struct guest_descriptors {
	char what[GUEST_DESCRIPTORS][128];
};

static inline void guest_look(struct guest_descriptors *found)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;

	th_check(dir != NULL, "/proc/self/fd: %s", strerror(errno));
	memset(found, 0, sizeof(*found));
	while ((entry = readdir(dir)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);
		ssize_t len;

		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		th_check(fd < GUEST_DESCRIPTORS, "descriptor %d is open", fd);
		len = readlinkat(dirfd(dir), entry->d_name, found->what[fd], sizeof(found->what[fd]) - 1);
		th_check(len > 0, "descriptor %d: %s", fd, strerror(errno));
	}
	closedir(dir);
}

static inline bool guest_has(const struct guest_descriptors *in, const char *what)
{
	for (size_t i = 0; i < GUEST_DESCRIPTORS; i++) {
		if (strcmp(in->what[i], what) == 0)
			return true;
	}
	return false;
}

/* The local port of a TCP socket that is connected to this port of loopback, else 0. */
static inline int guest_port(int fd, int to)
{
	struct sockaddr_in address;
	socklen_t len = sizeof(address);

	if (getpeername(fd, (struct sockaddr *)&address, &len) != 0 || address.sin_family != AF_INET
		|| ntohs(address.sin_port) != to)
		return 0;
	len = sizeof(address);
	th_check(getsockname(fd, (struct sockaddr *)&address, &len) == 0, "getsockname: %s", strerror(errno));
	return ntohs(address.sin_port);
}

#endif
