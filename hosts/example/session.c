/* SPDX-License-Identifier: MIT
 * Who is signed in, in memory: a random id in a cookie names a session, which holds the
 * user, the token against forged forms and one message for the next page. Anyone may
 * sign in as anybody here; a real host has its own sign-in, and needs no more than this
 * of it: the signed-in user's name, and the Cookie header as it came.
 *
 * Lock: one for the table. Callers get copies.
 */
#include "example.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SESSIONS_MAX = 2000, IDLE_S = 8 * 3600 };

struct kept {
	struct ex_session session; /* id "": free */
	int64_t used_at;           /* s */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept table[SESSIONS_MAX];

static int64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec;
}

static bool is_free(const struct kept *kept)
{
	return kept->session.id[0] == '\0' || now_s() - kept->used_at > IDLE_S;
}

static struct kept *find_locked(const char *id, size_t len)
{
	size_t i;

	if (len != sizeof(table[0].session.id) - 1)
		return NULL;
	for (i = 0; i < SESSIONS_MAX; i++) {
		if (!is_free(&table[i]) && memcmp(table[i].session.id, id, len) == 0)
			return &table[i];
	}
	return NULL;
}

/* Whom a newcomer may push out first: nobody, then who never signed in, then who was
 * away longest. So a flood of first visits signs no one out before the table is full
 * of people. */
static bool goes_before(const struct kept *one, const struct kept *other)
{
	if (is_free(one) || is_free(other))
		return is_free(one) && !is_free(other);
	if ((one->session.user[0] == '\0') != (other->session.user[0] == '\0'))
		return one->session.user[0] == '\0';
	return one->used_at < other->used_at;
}

static struct kept *room_locked(void)
{
	struct kept *room = &table[0];
	size_t i;

	for (i = 1; i < SESSIONS_MAX; i++) {
		if (goes_before(&table[i], room))
			room = &table[i];
	}
	return room;
}

static void random_text(char *to, size_t cap)
{
	char *text = ex_random();

	snprintf(to, cap, "%s", text);
	ex_wipe(&text);
}

/* Always a new id: one that was known before the sign-in is worth nothing after it. */
void ex_session_new(const char *user, struct ex_session *session)
{
	struct kept *room;

	memset(session, 0, sizeof(*session));
	random_text(session->id, sizeof(session->id));
	random_text(session->csrf, sizeof(session->csrf));
	snprintf(session->user, sizeof(session->user), "%s", user);
	pthread_mutex_lock(&lock);
	room = room_locked();
	room->session = *session;
	room->used_at = now_s();
	pthread_mutex_unlock(&lock);
}

void ex_session_end(const struct ex_session *session)
{
	struct kept *kept;

	pthread_mutex_lock(&lock);
	kept = find_locked(session->id, strlen(session->id));
	if (kept != NULL)
		explicit_bzero(kept, sizeof(*kept));
	pthread_mutex_unlock(&lock);
}

void ex_session_flash(const struct ex_session *session, const struct ex_flash *flash)
{
	struct kept *kept;

	pthread_mutex_lock(&lock);
	kept = find_locked(session->id, strlen(session->id));
	if (kept != NULL)
		kept->session.flash = *flash;
	pthread_mutex_unlock(&lock);
}

/* ---- cookies ---------------------------------------------------------------------------- */

static bool is_https(const struct ex_host *host)
{
	return strncmp(host->base_url, "https:", 6) == 0;
}

/* With this prefix a browser takes the cookie from this very host over https only: no
 * neighbour can plant a session of his own. */
static const char *cookie_name(const struct ex_host *host)
{
	return is_https(host) ? "__Host-pocketbook" : "pocketbook";
}

static bool take(const char *id, size_t len, bool take_flash, struct ex_session *session)
{
	struct kept *kept;

	pthread_mutex_lock(&lock);
	kept = find_locked(id, len);
	if (kept != NULL) {
		*session = kept->session;
		kept->used_at = now_s();
		if (take_flash)
			memset(&kept->session.flash, 0, sizeof(kept->session.flash));
	}
	pthread_mutex_unlock(&lock);
	return kept != NULL;
}

/* Cookies of one name may come twice; the first that is a session counts. */
bool ex_session_find(const struct ex_host *host, const char *cookie_header, bool take_flash, struct ex_session *session)
{
	const char *name = cookie_name(host);
	const size_t name_len = strlen(name);
	const char *at = cookie_header;

	memset(session, 0, sizeof(*session));
	while (*at != '\0') {
		size_t len;

		at += strspn(at, " ;");
		len = strcspn(at, ";");
		if (len > name_len && memcmp(at, name, name_len) == 0 && at[name_len] == '='
			&& take(at + name_len + 1, len - name_len - 1, take_flash, session))
			return true;
		at += len;
	}
	return false;
}

/* Lax, so that the bank's redirect back brings it along; a form that comes from another
 * site does not. */
char *ex_session_cookie(const struct ex_host *host, const struct ex_session *session)
{
	return ex_printf("%s=%s; Path=/; HttpOnly; SameSite=Lax%s%s", cookie_name(host), session->id,
		is_https(host) ? "; Secure" : "", session->id[0] == '\0' ? "; Max-Age=0" : "");
}
