/* SPDX-License-Identifier: MIT
 * Listeners on 127.0.0.1 and who is connected to them: a thread that accepts for
 * each listener, a thread that relays for each connection (wire_relay.c), and
 * what tests order for connections to come (control.c).
 *
 * One lock of its own for the list of connections and the orders. Nothing is
 * locked inside it, and pp_lock may be held or not.
 */
#include "wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 1024, STACK = 256 * 1024 };

struct pp_listener {
	struct pp_listener *next;
	struct ssl_ctx_st *tls; /* NULL: plain http */
	int fd;                 /* while it is down it holds the port, and does not listen */
	int port;
	bool up;
	pthread_t accepts;
};

/* What is to happen to a connection or request to come. */
struct order {
	struct order *next;
	char *word;
	char *path; /* cut_request: NULL for any */
	int64_t after;
	int64_t ms;
	int64_t times; /* -1: without end */
	int64_t skip;
	bool out;
	bool reset;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct pp_wire *wires;
static struct order *orders;
/* Listeners are made at the start, and go up and down one command at a time. */
static pthread_mutex_t listeners_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pp_listener *listeners;

int64_t pp_wire_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- orders ------------------------------------------------------------------------------ */

static bool check_words(const char *where, json_object *value, const char *const *words, char **why)
{
	if (!json_object_is_type(value, json_type_object)) {
		*why = pp_printf("%s: an object is wanted", where);
		return false;
	}
	json_object_object_foreach(value, name, member)
	{
		size_t i;

		(void)member;
		for (i = 0; words[i] != NULL && strcmp(words[i], name) != 0; i++)
			;
		if (words[i] == NULL) {
			*why = pp_printf("%s: unknown word \"%s\"", where, name);
			return false;
		}
	}
	return true;
}

static bool check_order(const char *word, json_object *value, char **why)
{
	static const char *const request[] = { "path", "after_bytes", "reset", "times", NULL };
	static const char *const tls[] = { "direction", "after_bytes", "reset", "times", "skip", NULL };
	static const char *const stall[] = { "ms", "times", NULL };
	const char *direction = pp_text(value, "direction", "");

	if (strcmp(word, "cut_request") == 0)
		return check_words(word, value, request, why);
	if (strcmp(word, "stall_accept") == 0)
		return check_words(word, value, stall, why);
	if (strcmp(word, "refuse_connections") == 0) {
		if (json_object_is_type(value, json_type_int))
			return true;
		*why = pp_printf("%s: a number is wanted", word);
		return false;
	}
	if (!check_words(word, value, tls, why))
		return false;
	if (strcmp(direction, "in") == 0 || strcmp(direction, "out") == 0)
		return true;
	*why = pp_printf("%s: direction is \"in\" or \"out\"", word);
	return false;
}

static void free_order(struct order *order)
{
	free(order->word);
	free(order->path);
	free(order);
}

static void cancel(const char *word)
{
	struct order **at = &orders;

	while (*at != NULL) {
		struct order *order = *at;

		if (strcmp(order->word, word) == 0) {
			*at = order->next;
			free_order(order);
		} else {
			at = &order->next;
		}
	}
}

/* To the end: orders are carried out in the order in which they came. */
static void add_order(struct order *order)
{
	struct order **at = &orders;

	while (*at != NULL)
		at = &(*at)->next;
	*at = order;
}

bool pp_wire_arm(const char *word, json_object *value, char **why)
{
	const bool number = strcmp(word, "refuse_connections") == 0;
	struct order *order;

	if (value == NULL || json_object_is_type(value, json_type_boolean)) {
		pthread_mutex_lock(&lock);
		cancel(word); /* null or false takes it back */
		pthread_mutex_unlock(&lock);
		return true;
	}
	if (!check_order(word, value, why))
		return false;
	order = pp_calloc(1, sizeof(*order));
	order->word = pp_strdup(word);
	order->path = pp_text(value, "path", NULL) != NULL ? pp_strdup(pp_text(value, "path", "")) : NULL;
	order->after = pp_number(value, "after_bytes", 0);
	order->ms = pp_number(value, "ms", 0);
	order->times = number ? json_object_get_int64(value) : pp_number(value, "times", 1);
	order->skip = pp_number(value, "skip", 0);
	order->out = strcmp(pp_text(value, "direction", ""), "out") == 0;
	order->reset = pp_flag(value, "reset", false);
	pthread_mutex_lock(&lock);
	if (number)
		cancel(word);
	if (order->times != 0)
		add_order(order);
	else
		free_order(order);
	pthread_mutex_unlock(&lock);
	return true;
}

/* The order for a connection, or for a request with this path; used up by one. Locked. */
static bool take_order(const char *word, const char *path, struct order *out)
{
	struct order **at;
	struct order *order;

	for (at = &orders; (order = *at) != NULL; at = &order->next) {
		if (strcmp(order->word, word) == 0
			&& (path == NULL || order->path == NULL || strcmp(order->path, path) == 0))
			break;
	}
	if (order == NULL)
		return false;
	if (order->skip > 0) {
		order->skip--;
		return false;
	}
	*out = *order;
	out->word = out->path = NULL;
	if (order->times > 0 && --order->times == 0) {
		*at = order->next;
		free_order(order);
	}
	return true;
}

bool pp_wire_cuts_request(const char *path, int64_t *after, bool *reset)
{
	struct order order = { 0 };
	bool cuts;

	pthread_mutex_lock(&lock);
	cuts = take_order("cut_request", path, &order);
	pthread_mutex_unlock(&lock);
	*after = cuts ? order.after : -1;
	*reset = order.reset;
	return cuts;
}

/* False: it is to be refused. Locked. */
static bool take_connection_orders(struct pp_wire *wire)
{
	struct order order;

	if (take_order("refuse_connections", NULL, &order))
		return false;
	if (take_order("stall_accept", NULL, &order))
		wire->quiet_until = pp_wire_now() + order.ms;
	if (take_order("cut_tls", NULL, &order)) {
		*(order.out ? &wire->limit_out : &wire->limit_in) = order.after;
		wire->limit_reset = order.reset;
	}
	return true;
}

/* ---- connections ---------------------------------------------------------------------------- */

void pp_wire_release(struct pp_wire *wire)
{
	if (atomic_fetch_sub(&wire->references, 1) > 1)
		return;
	pp_lock();
	json_object_put(wire->rec);
	pp_unlock();
	free(wire);
}

void pp_wire_forget(struct pp_wire *wire)
{
	pthread_mutex_lock(&lock);
	if (wire->next != NULL)
		wire->next->previous = wire->previous;
	if (wire->previous != NULL)
		wire->previous->next = wire->next;
	else
		wires = wire->next;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void pp_wire_note_closed(struct pp_wire *wire)
{
	pthread_mutex_lock(&lock);
	wire->closed = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void pp_wire_wishes(struct pp_wire *wire, bool *cut, bool *close_it)
{
	pthread_mutex_lock(&lock);
	*cut = wire->cut_wanted;
	*close_it = wire->close_wanted;
	pthread_mutex_unlock(&lock);
}

void pp_wire_wish_done(struct pp_wire *wire)
{
	pthread_mutex_lock(&lock);
	wire->close_wanted = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wake(struct pp_wire *wire)
{
	const uint64_t one = 1;

	if (write(wire->wake, &one, sizeof(one)) != (ssize_t)sizeof(one))
		pp_die("eventfd: %s", strerror(errno));
}

static bool any_open(void)
{
	struct pp_wire *wire;

	for (wire = wires; wire != NULL; wire = wire->next) {
		if (!wire->closed)
			return true;
	}
	return false;
}

static bool any_wish(void)
{
	struct pp_wire *wire;

	for (wire = wires; wire != NULL; wire = wire->next) {
		if (wire->close_wanted)
			return true;
	}
	return false;
}

static void cut_all(void)
{
	struct pp_wire *wire;

	pthread_mutex_lock(&lock);
	for (wire = wires; wire != NULL; wire = wire->next) {
		wire->cut_wanted = true;
		wake(wire);
	}
	while (any_open())
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

void pp_wire_close_idle(void)
{
	struct pp_wire *wire;

	pthread_mutex_lock(&lock);
	for (wire = wires; wire != NULL; wire = wire->next) {
		wire->close_wanted = !wire->closed;
		wake(wire);
	}
	while (any_wish())
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

void pp_wire_set_fault(struct pp_wire *wire, const struct pp_wire_fault *fault, json_object *rec)
{
	wire->fault = *fault;
	json_object_get(rec);
	json_object_put(wire->rec);
	wire->rec = rec;
}

bool pp_wire_client_gone(struct pp_wire *wire)
{
	return wire->gone;
}

int pp_wire_port(const struct pp_wire *wire)
{
	return wire->port;
}

/* ---- accepting --------------------------------------------------------------------------------- */

static struct pp_wire *new_wire(int client, int port)
{
	const struct pp_wire_fault none = PP_WIRE_FAULT_NONE;
	struct pp_wire *wire = pp_calloc(1, sizeof(*wire));

	wire->references = 1;
	wire->client = client;
	wire->server = -1;
	wire->wake = -1;
	wire->port = port;
	wire->fault = none;
	wire->limit_in = wire->limit_out = wire->cut_after = -1;
	pp_answer_begin(&wire->answer);
	return wire;
}

/* Between the relay and the HTTP server. */
static bool join_server(struct pp_wire *wire)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
		return false;
	wire->server = ends[0];
	wire->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wire->wake < 0) {
		close(ends[1]);
		return false;
	}
	return pp_http_adopt(wire, ends[1], wire->port);
}

static bool start_relay(struct pp_wire *wire)
{
	pthread_attr_t attributes;
	pthread_t thread;
	bool started;

	pthread_mutex_lock(&lock);
	wire->next = wires;
	if (wires != NULL)
		wires->previous = wire;
	wires = wire;
	pthread_mutex_unlock(&lock);
	if (pthread_attr_init(&attributes) != 0)
		pp_die("out of memory");
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK);
	started = pthread_create(&thread, &attributes, pp_wire_relay, wire) == 0;
	pthread_attr_destroy(&attributes);
	if (!started)
		pp_wire_forget(wire);
	return started;
}

static void discard(struct pp_wire *wire)
{
	close(wire->client);
	if (wire->server >= 0)
		close(wire->server);
	if (wire->wake >= 0)
		close(wire->wake);
	if (wire->ssl != NULL)
		pp_tls_free(wire->ssl);
	pp_wire_release(wire);
}

static void serve(struct pp_listener *listener, int client, int port)
{
	struct pp_wire *wire = new_wire(client, port);
	const int on = 1;
	bool wanted;

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	pthread_mutex_lock(&lock);
	wanted = take_connection_orders(wire);
	pthread_mutex_unlock(&lock);
	if (wanted && listener->tls != NULL)
		wire->ssl = pp_tls_new(listener->tls);
	if (!wanted || !join_server(wire) || !start_relay(wire))
		discard(wire);
}

/* Until the socket stops listening. */
static void *accept_all(void *arg)
{
	struct pp_listener *listener = arg;

	for (;;) {
		struct sockaddr_in from = { 0 };
		socklen_t len = sizeof(from);
		const int client = accept4(listener->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			serve(listener, client, ntohs(from.sin_port));
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			const struct timespec moment = { .tv_nsec = 10000000 };

			nanosleep(&moment, NULL); /* connections that end make room */
		} else if (errno == EINVAL || errno == EBADF) {
			return NULL;
		}
	}
}

/* A socket that has the port, and doesn't listen yet. */
static int hold_port(int port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) }
	};
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0
		|| bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
		pp_die("can't have 127.0.0.1:%d: %s", port, strerror(errno));
	return fd;
}

static void go_up(struct pp_listener *listener)
{
	if (listen(listener->fd, BACKLOG) != 0)
		pp_die("can't listen on 127.0.0.1:%d: %s", listener->port, strerror(errno));
	if (pthread_create(&listener->accepts, NULL, accept_all, listener) != 0)
		pp_die("no thread can be started");
	listener->up = true;
}

/* The port stays ours: connections to it are refused, and nobody else gets it. */
static void go_down(struct pp_listener *listener)
{
	shutdown(listener->fd, SHUT_RDWR);
	pthread_join(listener->accepts, NULL);
	close(listener->fd);
	listener->fd = hold_port(listener->port);
	listener->up = false;
}

int pp_listen(int port, const char *cert_file, const char *key_file, struct pp_listener **out)
{
	struct pp_listener *listener = pp_calloc(1, sizeof(*listener));
	struct sockaddr_in at = { 0 };
	socklen_t len = sizeof(at);

	listener->tls = cert_file != NULL ? pp_tls_context(cert_file, key_file) : NULL;
	listener->fd = hold_port(port);
	if (getsockname(listener->fd, (struct sockaddr *)&at, &len) != 0)
		pp_die("getsockname: %s", strerror(errno));
	listener->port = ntohs(at.sin_port);
	pthread_mutex_lock(&listeners_lock);
	go_up(listener);
	listener->next = listeners;
	listeners = listener;
	pthread_mutex_unlock(&listeners_lock);
	*out = listener;
	return listener->port;
}

void pp_listeners_down(bool down)
{
	struct pp_listener *listener;

	pthread_mutex_lock(&listeners_lock);
	for (listener = listeners; listener != NULL; listener = listener->next) {
		if (down && listener->up)
			go_down(listener);
		else if (!down && !listener->up)
			go_up(listener);
	}
	if (down)
		cut_all();
	pthread_mutex_unlock(&listeners_lock);
}
