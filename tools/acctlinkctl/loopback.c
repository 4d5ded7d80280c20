/* SPDX-License-Identifier: MIT
 * The receiver of one callback on a loopback address. Browsers open connections
 * ahead and leave them idle, and ask for an icon: so all that are open are
 * polled together, and whatever is not the callback gets a short answer.
 * One thread; the code in a request is wiped as soon as it is answered.
 */
#include "loopback.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- connections ------------------------------------------------------------- */

static int listen_at(const struct sockaddr *address, socklen_t len)
{
	const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;
	int cause;

	if (fd < 0)
		return -1;
	/* For what the last run left in TIME_WAIT; two listeners are still refused. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0
		&& (address->sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0)
		&& bind(fd, address, len) == 0 && listen(fd, LOOPBACK_CONNECTIONS) == 0)
		return fd;
	cause = errno;
	close(fd);
	errno = cause;
	return -1;
}

static bool listen_on(struct loopback *loopback)
{
	const struct loopback_target *target = &loopback->target;
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_port = htons(target->port), .sin_addr = target->v4_address
	};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(target->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT
	};

	if (target->v4)
		loopback->listeners[0] = listen_at((const struct sockaddr *)&v4, sizeof(v4));
	if (target->v4 && loopback->listeners[0] < 0)
		return false;
	if (target->v6)
		loopback->listeners[1] = listen_at((const struct sockaddr *)&v6, sizeof(v6));
	/* A machine without IPv6 has localhost all the same. If another process has the
	 * port there, the browser might bring the code to that one. */
	return !target->v6 || loopback->listeners[1] >= 0
		|| (target->v4 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL));
}

static void drop(struct loopback_connection *connection)
{
	if (connection->fd >= 0)
		close(connection->fd);
	if (connection->request != NULL)
		explicit_bzero(connection->request, LOOPBACK_REQUEST_MAX);
	free(connection->request);
	*connection = (struct loopback_connection){ .fd = -1 };
}

bool loopback_open(struct loopback *loopback, const char *redirect_uri)
{
	int i;

	memset(loopback, 0, sizeof(*loopback));
	for (i = 0; i < LOOPBACK_LISTENERS; i++)
		loopback->listeners[i] = -1;
	for (i = 0; i < LOOPBACK_CONNECTIONS; i++)
		loopback->connections[i].fd = -1;
	if (!loopback_read_uri(&loopback->target, redirect_uri)) {
		errno = EINVAL;
		return false;
	}
	return listen_on(loopback);
}

void loopback_close(struct loopback *loopback)
{
	int i;

	for (i = 0; i < LOOPBACK_LISTENERS; i++) {
		if (loopback->listeners[i] >= 0)
			close(loopback->listeners[i]);
		loopback->listeners[i] = -1;
	}
	for (i = 0; i < LOOPBACK_CONNECTIONS; i++)
		drop(&loopback->connections[i]);
	loopback->waiting = NULL;
	loopback->params = NULL;
	loopback->params_len = 0;
}

/* A free place, or that of the connection that came first. */
static struct loopback_connection *place(struct loopback *loopback)
{
	struct loopback_connection *oldest = &loopback->connections[0];
	int i;

	for (i = 0; i < LOOPBACK_CONNECTIONS; i++) {
		struct loopback_connection *one = &loopback->connections[i];

		if (one->fd < 0)
			return one;
		if (one->order < oldest->order)
			oldest = one;
	}
	drop(oldest);
	return oldest;
}

/* False if no connection can be taken any more. */
static bool take_connection(struct loopback *loopback, int listener)
{
	const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct loopback_connection *connection;

	if (fd < 0) /* unless we are out of something, it has gone again */
		return errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS;
	connection = place(loopback);
	connection->fd = fd;
	connection->order = ++loopback->accepted;
	return true;
}

/* A page fits the socket's buffer, so one send is all. What the browser still sends
 * is read and thrown away: closing over it would reset the connection and lose the page. */
static void answer(struct loopback_connection *connection, const char *status, const char *sentence)
{
	char page[1024];
	char text[1536];
	const int page_len = snprintf(page, sizeof(page),
		"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		"<title>acctlink</title></head>\n<body><p>%.700s</p></body></html>\n",
		sentence);
	const int len = snprintf(text, sizeof(text),
		"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\n"
		"Content-Length: %d\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
		"Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n"
		"Connection: close\r\n\r\n%s",
		status, page_len, page);

	if (connection->request != NULL)
		explicit_bzero(connection->request, LOOPBACK_REQUEST_MAX);
	connection->len = 0;
	connection->answered = true;
	if (send(connection->fd, text, (size_t)len, MSG_NOSIGNAL) != len || shutdown(connection->fd, SHUT_WR) != 0)
		drop(connection);
}

/* ---- requests ---------------------------------------------------------------- */

/* True if this is the callback, whole. */
static bool handle(struct loopback *loopback, struct loopback_connection *connection)
{
	struct loopback_request *request = &connection->head;
	char *blank;
	const char *status;

	if (connection->body == NULL) {
		blank = memmem(connection->request, connection->len, "\r\n\r\n", 4);
		if (blank == NULL && connection->len == LOOPBACK_REQUEST_MAX)
			answer(connection, "431 Request Header Fields Too Large", "That request is too long.");
		if (blank == NULL)
			return false;
		connection->body = blank + 4;
		if (!loopback_read_head(request, connection->request, (size_t)(blank + 2 - connection->request))) {
			answer(connection, "400 Bad Request", "That request can't be read.");
			return false;
		}
	}
	if (request->body_len > LOOPBACK_REQUEST_MAX - (size_t)(connection->body - connection->request)) {
		answer(connection, "413 Content Too Large", "That request is too long.");
		return false;
	}
	if (connection->len - (size_t)(connection->body - connection->request) < request->body_len)
		return false;
	status = loopback_find_params(
		&loopback->target, request, connection->body, &loopback->params, &loopback->params_len);
	if (status != NULL) {
		answer(connection, status, "This address only takes the answer of the consent that was just begun.");
		return false;
	}
	loopback->waiting = connection;
	return true;
}

static bool receive(struct loopback *loopback, struct loopback_connection *connection)
{
	ssize_t got;

	if (connection->request == NULL)
		connection->request = calloc(1, LOOPBACK_REQUEST_MAX + 1);
	if (connection->request == NULL) {
		drop(connection);
		return false;
	}
	if (connection->answered)
		connection->len = 0;
	got = recv(connection->fd, connection->request + connection->len, LOOPBACK_REQUEST_MAX - connection->len, 0);
	if (got > 0) {
		connection->len += (size_t)got;
		return !connection->answered && handle(loopback, connection);
	}
	if (got == 0 || (errno != EAGAIN && errno != EINTR))
		drop(connection);
	return false;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Lists connections first, in the order of their places, then listeners. */
static void list_all(const struct loopback *loopback, struct pollfd *fds)
{
	int i;

	for (i = 0; i < LOOPBACK_CONNECTIONS; i++)
		fds[i] = (struct pollfd){ .fd = loopback->connections[i].fd, .events = POLLIN };
	for (i = 0; i < LOOPBACK_LISTENERS; i++)
		fds[LOOPBACK_CONNECTIONS + i] = (struct pollfd){ .fd = loopback->listeners[i], .events = POLLIN };
}

enum loopback_result loopback_wait(struct loopback *loopback, int timeout_ms)
{
	struct pollfd fds[LOOPBACK_CONNECTIONS + LOOPBACK_LISTENERS];
	const int64_t end = now_ms() + timeout_ms;
	int64_t left;
	int i;

	while ((left = end - now_ms()) > 0) {
		list_all(loopback, fds);
		if (poll(fds, LOOPBACK_CONNECTIONS + LOOPBACK_LISTENERS, (int)left) < 0 && errno != EINTR)
			return LOOPBACK_BROKEN;
		for (i = 0; i < LOOPBACK_CONNECTIONS; i++) {
			if (fds[i].revents != 0 && receive(loopback, &loopback->connections[i]))
				return LOOPBACK_CALLBACK;
		}
		for (; i < LOOPBACK_CONNECTIONS + LOOPBACK_LISTENERS; i++) {
			if (fds[i].revents != 0 && !take_connection(loopback, fds[i].fd))
				return LOOPBACK_BROKEN;
		}
	}
	return LOOPBACK_TIMED_OUT;
}

void loopback_answer(struct loopback *loopback, bool good, const char *sentence)
{
	if (loopback->waiting != NULL)
		answer(loopback->waiting, good ? "200 OK" : "400 Bad Request", sentence);
	loopback->waiting = NULL;
	loopback->params = NULL;
	loopback->params_len = 0;
}
