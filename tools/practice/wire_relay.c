/* SPDX-License-Identifier: MIT
 * The thread of one connection: bytes from the client (through TLS) to the
 * server, one request at a time, and the answer back, piece by piece, each
 * counted before it leaves, so that it can be cut, stopped or slowed anywhere.
 *
 * A piece is handed to the kernel as a whole before the next one is looked at.
 * Lock: pp_lock for a request's record and fault, for a moment.
 */
#include "wire.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	PART = 16 * 1024,       /* a TLS record's most */
	INBOX_MAX = 256 * 1024, /* then the client must wait */
	BYE_MS = 50,            /* for the client's own end, before we say good-bye */
	LINGER_MS = 1000,       /* for the client's end, after ours */
	TAKEN_MS = 1000         /* for bytes to be acknowledged, before a reset throws them away */
};

/* ---- what the ledger is told ---------------------------------------------------------- */

static void say(json_object *rec, const char *name, const char *text)
{
	json_object_object_add(rec, name, json_object_new_string(text));
}

/* The client is gone, or as good as. how: "reset" or "close", or NULL if it wasn't the client's doing. */
static void note_end(struct pp_wire *wire, const char *how)
{
	const char *outcome;

	pp_lock();
	wire->gone = true;
	outcome = pp_text(wire->rec, "outcome", "");
	if (wire->rec != NULL && wire->answered) {
		if (how != NULL) {
			say(wire->rec, "closed", how);
			pp_ledger_write(wire->rec);
		}
	} else if (strcmp(outcome, "pending") == 0 || strcmp(outcome, "answered") == 0) {
		if (strcmp(outcome, "answered") == 0)
			json_object_object_add(wire->rec, "answer_sent", json_object_new_int64(wire->answer.sent));
		say(wire->rec, "outcome", "gone");
		pp_ledger_write(wire->rec);
	}
	pp_unlock();
}

static void forget_record(struct pp_wire *wire)
{
	const struct pp_wire_fault none = PP_WIRE_FAULT_NONE;

	pp_lock();
	wire->fault = none;
	json_object_put(wire->rec);
	wire->rec = NULL;
	pp_unlock();
}

/* ---- ends ------------------------------------------------------------------------------ */

static void close_client(struct pp_wire *wire)
{
	close(wire->client);
	wire->client = -1;
	wire->state = PP_WIRE_CLOSED;
	pp_wire_note_closed(wire);
}

/* Bytes that nobody has read would turn our close into a reset. */
static void close_quietly(struct pp_wire *wire)
{
	char part[PART];

	shutdown(wire->client, SHUT_WR);
	while (recv(wire->client, part, sizeof(part), MSG_DONTWAIT) > 0)
		;
	close_client(wire);
}

static int unacknowledged(const struct pp_wire *wire)
{
	int bytes = 0;

	return ioctl(wire->client, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/* The client's FIN has come. It may have been sent before our last bytes came
 * there: then these were answered with a reset, or nothing acknowledged them. */
static bool missed_something(const struct pp_wire *wire)
{
	socklen_t len = sizeof(int);
	int error = 0;

	return getsockopt(wire->client, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0
		|| unacknowledged(wire) > 0;
}

/* After our own end the client's tells nothing: a good-bye that it doesn't read makes its FIN a reset. */
static void client_ended(struct pp_wire *wire, bool reset)
{
	const bool its_own = wire->state == PP_WIRE_OPEN || wire->state == PP_WIRE_BYE;

	note_end(wire, !its_own ? NULL : reset || missed_something(wire) ? "reset" : "close");
	close_client(wire);
}

/* From here on only what is in to_client is sent. */
static void end_ours(struct pp_wire *wire, struct pp_wire_end end)
{
	if (wire->state != PP_WIRE_OPEN && wire->state != PP_WIRE_BYE)
		return;
	note_end(wire, NULL);
	if (wire->ssl != NULL && (end.close_notify || end.half_close))
		pp_tls_bye(wire->ssl, &wire->to_client);
	wire->end = end;
	wire->state = PP_WIRE_LAST;
}

/* A reset throws away what the other side hasn't taken yet. */
static void wait_until_taken(const struct pp_wire *wire)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int i;

	for (i = 0; i < TAKEN_MS && unacknowledged(wire) > 0; i++)
		nanosleep(&moment, NULL);
}

/* Nothing is left to be sent. */
static void finish(struct pp_wire *wire)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (wire->end.reset) {
		wait_until_taken(wire);
		setsockopt(wire->client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close_client(wire);
		return;
	}
	shutdown(wire->client, SHUT_WR);
	wire->state = PP_WIRE_LINGER;
	wire->linger_until = wire->end.half_close ? 0 : pp_wire_now() + LINGER_MS;
}

static void wait_for_end(struct pp_wire *wire)
{
	wire->state = PP_WIRE_BYE;
	wire->linger_until = pp_wire_now() + BYE_MS;
}

/* ---- requests ---------------------------------------------------------------------------- */

/* False: too little of it is there to know. */
static bool decide_cut(struct pp_wire *wire)
{
	bool line_ended;
	char *path = pp_request_path(wire->inbox.data, wire->inbox.len, &line_ended);

	if (path == NULL && !line_ended)
		return false;
	wire->cut_known = true;
	wire->cut_seen = 0;
	if (path == NULL || !pp_wire_cuts_request(path, &wire->cut_after, &wire->cut_reset))
		wire->cut_after = -1;
	free(path);
	return true;
}

/* One request is passed on at a time; the next one waits until this one is answered. */
static void pass_requests(struct pp_wire *wire)
{
	while (wire->inbox.len > 0 && wire->request.at != PP_REQUEST_WHOLE) {
		size_t part;

		if (wire->answered)
			forget_record(wire);
		wire->answered = false;
		if (!wire->cut_known && !decide_cut(wire))
			return;
		part = pp_request_take(&wire->request, wire->inbox.data, wire->inbox.len);
		if (wire->cut_after < 0)
			pp_bytes_add(&wire->to_server, wire->inbox.data, part);
		pp_bytes_drop(&wire->inbox, part);
		wire->cut_seen += (int64_t)part;
		if (wire->cut_after >= 0
			&& (wire->cut_seen >= wire->cut_after || wire->request.at == PP_REQUEST_WHOLE)) {
			end_ours(wire, (struct pp_wire_end){ .reset = wire->cut_reset });
			return;
		}
	}
}

static void take_from_client(struct pp_wire *wire, const char *data, size_t len)
{
	enum pp_tls tls = PP_TLS_GOES_ON;

	if (wire->ssl != NULL)
		tls = pp_tls_read(wire->ssl, data, len, &wire->inbox, &wire->to_client);
	else
		pp_bytes_add(&wire->inbox, data, len);
	pass_requests(wire);
	if (tls == PP_TLS_BROKEN) {
		end_ours(wire, (struct pp_wire_end){ false, false, false });
	} else if (tls == PP_TLS_BYE && wire->state == PP_WIRE_OPEN) {
		note_end(wire, NULL);
		wait_for_end(wire);
	}
}

static void cut_at_limit(struct pp_wire *wire, size_t to_client)
{
	wire->to_client.len = to_client; /* nothing is said to the last bytes any more */
	end_ours(wire, (struct pp_wire_end){ .reset = wire->limit_reset });
}

static void read_client(struct pp_wire *wire)
{
	const size_t before = wire->to_client.len;
	char part[PART];
	size_t room = sizeof(part);
	ssize_t got;

	if (wire->state == PP_WIRE_OPEN && wire->limit_in >= 0 && wire->limit_in - wire->in < PART)
		room = (size_t)(wire->limit_in - wire->in);
	got = recv(wire->client, part, room, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		client_ended(wire, got < 0);
		return;
	}
	wire->in += got;
	if (wire->state != PP_WIRE_OPEN)
		return;
	take_from_client(wire, part, (size_t)got);
	if (wire->limit_in >= 0 && wire->in >= wire->limit_in)
		cut_at_limit(wire, before);
}

static void write_server(struct pp_wire *wire)
{
	ssize_t done;

	if (wire->to_server.len > 0) {
		done = send(wire->server, wire->to_server.data, wire->to_server.len, MSG_NOSIGNAL);
		if (done > 0)
			pp_bytes_drop(&wire->to_server, (size_t)done);
		else if (errno != EAGAIN && errno != EINTR)
			wire->to_server.len = 0; /* it reads no more */
	}
	if (wire->state != PP_WIRE_OPEN && wire->to_server.len == 0 && !wire->told_server) {
		wire->told_server = true;
		shutdown(wire->server, SHUT_WR);
	}
}

/* ---- answers --------------------------------------------------------------------------------- */

static void take_from_server(struct pp_wire *wire, const char *data, size_t len)
{
	if (!pp_answer_begun(&wire->answer)) {
		pp_lock();
		wire->answer.fault = wire->fault;
		pp_unlock();
	}
	pp_answer_take(&wire->answer, data, len, wire->request.head_only);
	/* An answer ends a request whose end we don't know. */
	if (pp_answer_begun(&wire->answer))
		wire->request.at = PP_REQUEST_WHOLE;
}

static void read_server(struct pp_wire *wire)
{
	char part[PART];
	const ssize_t got = recv(wire->server, part, sizeof(part), 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		wire->server_ended = true;
	} else if (wire->state == PP_WIRE_OPEN) {
		take_from_server(wire, part, (size_t)got);
		pp_bytes_add(&wire->from_server, part, (size_t)got);
	}
}

static void end_answer(struct pp_wire *wire)
{
	pp_answer_begin(&wire->answer);
	pp_request_end(&wire->request);
	wire->cut_known = false;
	wire->cut_after = -1;
	if (wire->from_server.len > 0)
		take_from_server(wire, wire->from_server.data, wire->from_server.len);
	pass_requests(wire);
}

static void cut_answer(struct pp_wire *wire)
{
	const struct pp_wire_fault *fault = &wire->answer.fault;

	end_ours(wire, (struct pp_wire_end){ fault->reset, fault->half_close, fault->close_notify });
}

/* Brings the next piece that may leave under way. */
static void pass_answer(struct pp_wire *wire)
{
	const bool complete = pp_answer_complete(&wire->answer);
	int64_t part;

	if (complete)
		wire->answered = true;
	if (pp_answer_is_cut(&wire->answer)) {
		cut_answer(wire);
		return;
	}
	if (complete) {
		end_answer(wire);
		return;
	}
	part = pp_answer_may_leave(&wire->answer, pp_wire_now());
	part = part < PART ? part : PART;
	if (part == 0 && wire->from_server.len == 0 && wire->server_ended) {
		wire->answered = wire->answered || pp_answer_begun(&wire->answer);
		wait_for_end(wire);
	}
	if (part == 0)
		return;
	if (wire->ssl == NULL)
		pp_bytes_add(&wire->to_client, wire->from_server.data, (size_t)part);
	else if (!pp_tls_write(wire->ssl, wire->from_server.data, (size_t)part, &wire->to_client))
		end_ours(wire, (struct pp_wire_end){ false, false, false });
	wire->leaving = part;
	pp_bytes_drop(&wire->from_server, (size_t)part);
}

/* Of ciphertext only a whole record can be counted. */
static void count_left(struct pp_wire *wire, int64_t done)
{
	const int64_t left = wire->ssl == NULL && done < wire->leaving ? done
		: wire->ssl == NULL || wire->to_client.len == 0        ? wire->leaving
								       : 0;

	if (left > 0)
		pp_answer_left(&wire->answer, left, pp_wire_now());
	wire->leaving -= left;
}

/* True if all of it went out. */
static bool write_client(struct pp_wire *wire)
{
	size_t len = wire->to_client.len;
	ssize_t done;

	if (wire->limit_out >= 0 && (int64_t)len > wire->limit_out - wire->out)
		len = (size_t)(wire->limit_out - wire->out);
	done = send(wire->client, wire->to_client.data, len, MSG_NOSIGNAL);
	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (done < 0) {
		client_ended(wire, true);
		return false;
	}
	wire->out += done;
	pp_bytes_drop(&wire->to_client, (size_t)done);
	count_left(wire, done);
	if (wire->limit_out >= 0 && wire->out >= wire->limit_out)
		cut_at_limit(wire, 0);
	return wire->to_client.len == 0;
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static bool is_quiet(const struct pp_wire *wire)
{
	return wire->state == PP_WIRE_OPEN && pp_wire_now() < wire->quiet_until;
}

static bool reads_client(const struct pp_wire *wire)
{
	return wire->state != PP_WIRE_OPEN
		|| (!is_quiet(wire) && wire->inbox.len < INBOX_MAX && wire->to_server.len < INBOX_MAX);
}

static bool reads_server(const struct pp_wire *wire)
{
	return !wire->server_ended && (wire->state != PP_WIRE_OPEN || wire->from_server.len == 0);
}

static bool writes_client(const struct pp_wire *wire)
{
	return wire->to_client.len > 0 && (wire->state == PP_WIRE_OPEN || wire->state == PP_WIRE_LAST);
}

static int timeout(const struct pp_wire *wire)
{
	const int64_t now = pp_wire_now();
	int64_t at = INT64_MAX;

	if (wire->state == PP_WIRE_OPEN && wire->quiet_until > now)
		at = wire->quiet_until;
	else if (wire->state == PP_WIRE_OPEN && wire->from_server.len > 0 && wire->to_client.len == 0)
		at = wire->answer.resume_at;
	else if (wire->state == PP_WIRE_BYE || (wire->state == PP_WIRE_LINGER && wire->linger_until != 0))
		at = wire->linger_until;
	if (at == INT64_MAX)
		return -1;
	return at <= now ? 0 : at - now < INT_MAX ? (int)(at - now) : INT_MAX;
}

static void watch(const struct pp_wire *wire, struct pollfd fds[3])
{
	const bool takes = reads_server(wire);

	fds[0] = (struct pollfd){ .fd = wire->client, .events = reads_client(wire) ? POLLIN : POLLRDHUP };
	if (writes_client(wire))
		fds[0].events |= POLLOUT;
	/* A socket that was closed there reports that, wanted or not. */
	fds[1] = (struct pollfd){ .fd = takes || wire->to_server.len > 0 ? wire->server : -1,
		.events = takes ? POLLIN : 0 };
	if (wire->to_server.len > 0)
		fds[1].events |= POLLOUT;
	fds[2] = (struct pollfd){ .fd = wire->wake, .events = POLLIN };
}

static void obey(struct pp_wire *wire)
{
	uint64_t count;
	bool cut;
	bool close;

	(void)!read(wire->wake, &count, sizeof(count));
	pp_wire_wishes(wire, &cut, &close);
	if (cut && wire->client >= 0) {
		note_end(wire, NULL);
		close_quietly(wire);
	} else if (close && wire->answered && wire->inbox.len == 0 && wire->request.at == PP_REQUEST_NONE) {
		end_ours(wire, (struct pp_wire_end){ .close_notify = true });
		if (wire->to_client.len == 0 || write_client(wire))
			finish(wire);
	}
	pp_wire_wish_done(wire);
}

static void heed_client(struct pp_wire *wire, short what)
{
	if ((what & (POLLIN | POLLHUP | POLLERR | POLLRDHUP)) == 0)
		return;
	if (reads_client(wire))
		read_client(wire);
	else if ((what & ~POLLIN) != 0)
		client_ended(wire, (what & POLLERR) != 0);
}

/* The client was waited for long enough. */
static void end_waiting(struct pp_wire *wire)
{
	if (wire->linger_until == 0 || pp_wire_now() < wire->linger_until)
		return;
	if (wire->state == PP_WIRE_BYE)
		end_ours(wire, (struct pp_wire_end){ .close_notify = true });
	else if (wire->state == PP_WIRE_LINGER)
		close_quietly(wire);
}

/* Sends what may be sent, until something has to be waited for. */
static void send_on(struct pp_wire *wire)
{
	enum pp_wire_state state;
	int64_t done;

	do {
		state = wire->state;
		done = wire->answer.sent;
		if (state == PP_WIRE_OPEN && wire->to_client.len == 0 && !is_quiet(wire))
			pass_answer(wire);
		if (writes_client(wire) && !write_client(wire))
			break;
		if (wire->state == PP_WIRE_LAST && wire->to_client.len == 0)
			finish(wire);
	} while (wire->state != state || wire->answer.sent != done);
}

static void step(struct pp_wire *wire)
{
	struct pollfd fds[3];

	watch(wire, fds);
	if (poll(fds, 3, timeout(wire)) < 0 && errno != EINTR)
		pp_die("poll: %s", strerror(errno));
	if (wire->client >= 0)
		heed_client(wire, fds[0].revents);
	if ((fds[2].revents & POLLIN) != 0)
		obey(wire);
	end_waiting(wire);
	if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && reads_server(wire))
		read_server(wire);
	send_on(wire);
	write_server(wire);
}

static void relay(struct pp_wire *wire)
{
	if (wire->limit_in == 0)
		end_ours(wire, (struct pp_wire_end){ .reset = wire->limit_reset });
	send_on(wire);
	write_server(wire);
	while (wire->state != PP_WIRE_CLOSED || !wire->server_ended)
		step(wire);
}

void *pp_wire_relay(void *arg)
{
	struct pp_wire *wire = arg;

	relay(wire);
	pp_wire_forget(wire);
	forget_record(wire);
	close(wire->server);
	close(wire->wake);
	if (wire->ssl != NULL)
		pp_tls_free(wire->ssl);
	pp_bytes_free(&wire->inbox);
	pp_bytes_free(&wire->to_server);
	pp_bytes_free(&wire->from_server);
	pp_bytes_free(&wire->to_client);
	pp_request_end(&wire->request);
	pp_answer_free(&wire->answer);
	pp_wire_release(wire);
	return NULL;
}
