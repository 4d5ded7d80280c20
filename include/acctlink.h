/* SPDX-License-Identifier: MIT
 *
 * acctlink.h - the plugin ABI of acctlink, version 1.
 *
 * Conventions that hold for every function:
 *
 * Loading    A host dlopens acctlink.so and resolves these names with dlsym
 *            (acctlink_dl.h does both in one call). Nothing else is exported.
 * NULL       A NULL handle, argument struct or required output is
 *            BAD_ARGUMENT, never a crash. acctlink_error may always be NULL.
 * Strings    In: acctlink_str, pointer and length, copied before the call
 *            returns; {NULL, 0} means "not given". Identifiers are UTF-8
 *            without NUL. Out: acctlink_out, the caller's buffer; the text is
 *            ended by NUL and len tells its length without it. If cap is not
 *            larger than len the call is BUFFER_TOO_SMALL and nothing was
 *            consumed. No memory passes the border: there is nothing to free.
 * Structs    Those with a member `size` set it to sizeof before the call (the
 *            macros *_INIT do). Every other zero means the default. A longer
 *            struct from a newer host is taken if its unknown tail is zero;
 *            a shorter one gets defaults. Of an output struct at most `size`
 *            bytes are written. A size of 0, above 64 KiB or not a multiple
 *            of 8 is refused.
 * Time       Absolute times are Unix milliseconds and end in _at_ms; lengths
 *            end in _ms. A deadline is measured from the call; 0 takes the
 *            configured default (call_timeout).
 * Status     0 is success; the hundreds tell who must act (see below).
 *            Outputs are written on success only, unless said otherwise;
 *            the error on failure only, and never with a secret in it.
 * Threads    Any function may be called from any thread at any time between
 *            acctlink_init and acctlink_shutdown. None may be called from a
 *            signal handler. Calls block only where it is said, and never
 *            past their deadline. Hooks are called without a lock held; a
 *            hook must not call back into the same handle.
 * Fork       init, then fork, then first use in each child works. In a child
 *            of a process that had already used the handle every call returns
 *            FORKED; the child makes a handle of its own.
 */
#ifndef ACCTLINK_H
#define ACCTLINK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/** Major version in the upper 16 bits, minor in the lower. Another major is
 *  another ABI; a minor only adds. */
#define ACCTLINK_ABI_MAJOR 1u
#define ACCTLINK_ABI_MINOR 0u
#define ACCTLINK_ABI_VERSION ((ACCTLINK_ABI_MAJOR << 16) | ACCTLINK_ABI_MINOR)

typedef struct acctlink acctlink;
typedef int32_t acctlink_status;

enum {
	ACCTLINK_OK = 0,

	/* 1xx: the caller must act */
	ACCTLINK_BAD_ARGUMENT = 100,     /* err->message names the argument */
	ACCTLINK_BUFFER_TOO_SMALL = 101, /* a len tells the need; nothing was consumed */
	ACCTLINK_UNKNOWN_PROVIDER = 102, /* no such section in the config file */
	ACCTLINK_BAD_CALLBACK = 103,     /* malformed or ambiguous callback; nothing was sent */
	ACCTLINK_FOREIGN_CALLBACK = 104, /* unknown state, another browser or another user */
	ACCTLINK_FORKED = 105,           /* the handle belongs to the parent process */
	ACCTLINK_SHUT_DOWN = 106,        /* the handle is being shut down */

	/* 2xx: the end user must act */
	ACCTLINK_NOT_LINKED = 200,      /* no such link: begin a consent */
	ACCTLINK_RELINK_REQUIRED = 201, /* the link needs a new consent */
	ACCTLINK_DENIED = 202,          /* the user or the provider said no */
	ACCTLINK_FLOW_EXPIRED = 203,    /* the callback came too late: begin again */
	ACCTLINK_FLOW_FAILED = 204,     /* the consent could not be completed: begin again */
	ACCTLINK_SUBJECT_CHANGED = 205, /* renewed with another bank login; the link is untouched */

	/* 3xx: time; the same call may work later (err->retry_after_ms) */
	ACCTLINK_TIMED_OUT = 300,     /* the deadline passed; what was sent goes on and is kept */
	ACCTLINK_PROVIDER_DOWN = 301, /* the provider can't be reached or turned us away */
	ACCTLINK_STORE_DOWN = 302,    /* the store can't be read or written */

	/* 4xx: the operator must act */
	ACCTLINK_BAD_CONFIG = 400,     /* the config file; err->where has file:line */
	ACCTLINK_CLIENT_REFUSED = 401, /* the provider refused our client (RFC 6749, 5.2) */
	ACCTLINK_BAD_KEY = 402,        /* the store key is missing, wrong or unreadable */
	ACCTLINK_BAD_STORE = 403,      /* newer version, damaged, wrong owner or mode */
	ACCTLINK_BAD_PROVIDER = 404,   /* metadata, keys or id_token don't fit the config */

	/* 5xx: acctlink must act */
	ACCTLINK_INTERNAL = 500,
	ACCTLINK_NO_MEMORY = 501
};

/** A string in. {NULL, 0}: not given. */
typedef struct acctlink_str {
	const char *data;
	size_t len;
} acctlink_str;

/** A string out: data and cap are the caller's, len is set. {NULL, 0, 0}: not wanted. */
typedef struct acctlink_out {
	char *data;
	size_t cap;
	size_t len;
} acctlink_out;

/** What failed, where, and what to do. The caller's; frozen, hence no size. */
typedef struct acctlink_error {
	acctlink_status status;
	int32_t http_status;    /* of the provider's answer, 0 if none */
	int64_t retry_after_ms; /* when a retry makes sense, 0 if unknown */
	char provider_code[64]; /* the provider's own error code, e.g. "invalid_grant" */
	char where[256];        /* file:line, URL without query, or the step */
	char message[512];
	uint64_t reserved[8];
} acctlink_error;

/* ---- hooks ---------------------------------------------------------- */

enum {
	ACCTLINK_LOG_ERROR = 3, /* the numbers are syslog's */
	ACCTLINK_LOG_WARNING = 4,
	ACCTLINK_LOG_NOTICE = 5,
	ACCTLINK_LOG_INFO = 6,
	ACCTLINK_LOG_DEBUG = 7
};

enum {
	ACCTLINK_EVENT_LINKED = 1,
	ACCTLINK_EVENT_RENEWED = 2, /* a new consent under an existing link */
	ACCTLINK_EVENT_REFRESHED = 3,
	ACCTLINK_EVENT_STALE = 4,
	ACCTLINK_EVENT_RELINK_REQUIRED = 5,
	ACCTLINK_EVENT_HEALED = 6, /* back to linked without a user */
	ACCTLINK_EVENT_SUPERSEDED = 7,
	ACCTLINK_EVENT_UNLINKED = 8,
	ACCTLINK_EVENT_REVOKED = 9, /* the provider confirmed */
	ACCTLINK_EVENT_REVOCATION_GIVEN_UP = 10,
	ACCTLINK_EVENT_DENIED = 11, /* a consent ended in a denial */
	ACCTLINK_EVENT_FLOW_FAILED = 12,
	ACCTLINK_EVENT_SCOPE_REDUCED = 13,
	ACCTLINK_EVENT_CLIENT_REFUSED = 14 /* one per provider until it is accepted again */
};

/** Link states. */
enum {
	ACCTLINK_STATE_LINKED = 1,
	ACCTLINK_STATE_STALE = 2,
	ACCTLINK_STATE_RELINK_REQUIRED = 3,
	ACCTLINK_STATE_SUPERSEDED = 4,
	ACCTLINK_STATE_UNLINKING = 5
};

/** Why a link is not simply linked. */
enum {
	ACCTLINK_REASON_NONE = 0,
	ACCTLINK_REASON_REVOKED = 1, /* the provider refused the refresh token */
	ACCTLINK_REASON_CONSENT_EXPIRED = 2,
	ACCTLINK_REASON_ROTATION_LOST = 3, /* refused after a send of unknown outcome */
	ACCTLINK_REASON_SUBJECT_CHANGED = 4,
	ACCTLINK_REASON_NO_ID_TOKEN = 5,      /* the id_token is the bearer and none came */
	ACCTLINK_REASON_NO_REFRESH_TOKEN = 6, /* the provider never gave one */
	ACCTLINK_REASON_OUTCOME_UNKNOWN = 7,  /* a refresh was sent, its answer never came */
	ACCTLINK_REASON_PROVIDER_DOWN = 8,
	ACCTLINK_REASON_CLIENT_REFUSED = 9,
	ACCTLINK_REASON_ID_TOKEN_UNCHECKED = 10, /* kept, but its check failed or is due */
	ACCTLINK_REASON_OUR_FAULT = 11           /* the provider calls our request malformed */
};

/** One change of state. Strings live for the call only. */
typedef struct acctlink_event {
	uint32_t size;
	int32_t kind; /* ACCTLINK_EVENT_… */
	acctlink_str user;
	acctlink_str provider;
	acctlink_str institution;
	acctlink_str link_id; /* empty for a flow that made no link */
	int32_t state;
	int32_t reason;
	uint64_t epoch;
	uint64_t generation;
	int64_t at_ms;
} acctlink_event;

typedef struct acctlink_time {
	int64_t wall_ms; /* Unix time */
	int64_t boot_ms; /* monotonic, counting suspend (CLOCK_BOOTTIME) */
} acctlink_time;

/** Functions of the host, all optional, with one context. log and event run
 *  on a thread of the plugin or on the calling thread and should be quick.
 *  clock replaces the clocks in tests; it must be thread-safe. */
typedef struct acctlink_hooks {
	uint32_t size;
	uint32_t reserved;
	void *ctx;
	void (*log)(void *ctx, int32_t level, const char *message);
	void (*event)(void *ctx, const acctlink_event *event);
	void (*clock)(void *ctx, acctlink_time *now);
} acctlink_hooks;
/* clang-format off */
#define ACCTLINK_HOOKS_INIT { sizeof(acctlink_hooks), 0, NULL, NULL, NULL, NULL }
/* clang-format on */

/* ---- life ------------------------------------------------------------ */

/**
 * The ABI version of the loaded plugin: major << 16 | minor. A host refuses a
 * plugin whose major differs from ACCTLINK_ABI_MAJOR. Threads: any. Never blocks.
 */
uint32_t acctlink_abi_version(void);

typedef struct acctlink_init_args {
	uint32_t size;
	uint32_t reserved;
	acctlink_str config_path;    /* libconfig file; required */
	const acctlink_hooks *hooks; /* may be NULL; copied */
} acctlink_init_args;
/* clang-format off */
#define ACCTLINK_INIT_ARGS_INIT { sizeof(acctlink_init_args), 0, { NULL, 0 }, NULL }
/* clang-format on */

/**
 * Reads the config, the secrets and the store key, and checks the store (it is
 * created or migrated if need be, then closed again). Starts no thread and
 * opens no connection: that happens at first use, in the process that uses it.
 *
 * handle     set on success; the caller ends it with acctlink_shutdown.
 * Returns    OK; BAD_ARGUMENT; FORKED (this process was forked while a thread
 *            was using a store: it can't use one); BAD_CONFIG, BAD_KEY,
 *            BAD_STORE; STORE_DOWN; NO_MEMORY, INTERNAL.
 * Threads    any; several handles may live in one process. Blocks for local
 *            files only, never for the network.
 */
acctlink_status acctlink_init(const acctlink_init_args *args, acctlink **handle, acctlink_error *err);

/**
 * Reads the config file again, all or nothing. Operations under way keep the
 * config that they began with. Store and key paths must not change. A provider
 * that is gone leaves its links readable but sends nothing. log_level,
 * worker_threads, poll_interval, held_bearers and revocation_lifetime are taken
 * once, by init or the first call.
 *
 * Returns    OK; BAD_CONFIG (the old config stays in force); BAD_ARGUMENT,
 *            FORKED, SHUT_DOWN; INTERNAL, NO_MEMORY.
 * Threads    any. Blocks for local files only.
 */
acctlink_status acctlink_reload(acctlink *handle, acctlink_error *err);

/**
 * Ends the handle: no call may begin after this one. Exchanges in flight are
 * finished and kept, up to the deadline; calls that still wait return
 * SHUT_DOWN. Keys are wiped. The handle is gone whatever is returned.
 *
 * deadline_ms  0: the configured default (shutdown_timeout).
 * Returns    OK; TIMED_OUT (an exchange was cut off; the store knows that its
 *            outcome is open); FORKED (the parent's threads were left alone);
 *            BAD_ARGUMENT.
 * Threads    any, once. Blocks up to the deadline.
 */
acctlink_status acctlink_shutdown(acctlink *handle, uint32_t deadline_ms, acctlink_error *err);

/* ---- consent --------------------------------------------------------- */

typedef struct acctlink_begin_args {
	uint32_t size;
	uint32_t flags;            /* ACCTLINK_BEGIN_… */
	acctlink_str user;         /* the signed-in user, 1 to 1024 bytes; required */
	acctlink_str provider;     /* section of the config; required */
	acctlink_str institution;  /* e.g. Akoya's connector "mikomo"; up to 255 bytes */
	acctlink_str redirect_uri; /* one of the configured ones; default: the first */
	acctlink_str scope;        /* default: the configured scope */
	uint32_t deadline_ms;
	uint32_t reserved;
} acctlink_begin_args;
/* clang-format off */
#define ACCTLINK_BEGIN_ARGS_INIT { sizeof(acctlink_begin_args), 0, { NULL, 0 }, { NULL, 0 }, \
	{ NULL, 0 }, { NULL, 0 }, { NULL, 0 }, 0, 0 }
/* clang-format on */

/** Renewing may replace the link's subject (another bank login). */
#define ACCTLINK_BEGIN_NEW_SUBJECT 1u

typedef struct acctlink_begin_result {
	uint32_t size;
	uint32_t reserved;
	acctlink_out url;        /* send the browser here */
	acctlink_out state;      /* the flow's state parameter */
	acctlink_out set_cookie; /* the whole value of one Set-Cookie header */
	int64_t expires_at_ms;   /* the callback must come before */
} acctlink_begin_result;
/* clang-format off */
#define ACCTLINK_BEGIN_RESULT_INIT { sizeof(acctlink_begin_result), 0, { NULL, 0, 0 }, \
	{ NULL, 0, 0 }, { NULL, 0, 0 }, 0 }
/* clang-format on */

/**
 * Starts one consent (RFC 6749, 4.1.1; PKCE S256, RFC 7636; OpenID Connect
 * nonce) and stores its flow, so that any process on the store can finish it.
 * The host sends set_cookie with its redirect to url: it binds the flow to the
 * browser. Each flow has a cookie name of its own, so several may be open.
 *
 * out        url and set_cookie are required, state is optional. 2 KiB, 64 and
 *            512 bytes are enough for usual configs.
 * Returns    OK; BAD_ARGUMENT, BUFFER_TOO_SMALL (all three len are set),
 *            UNKNOWN_PROVIDER; TIMED_OUT, PROVIDER_DOWN (discovery),
 *            STORE_DOWN; BAD_STORE, BAD_PROVIDER; FORKED, SHUT_DOWN;
 *            INTERNAL, NO_MEMORY.
 * Threads    any. Blocks up to the deadline, for the store and, the first
 *            time, for the provider's metadata.
 */
acctlink_status acctlink_begin(
	acctlink *handle, const acctlink_begin_args *args, acctlink_begin_result *out, acctlink_error *err);

typedef struct acctlink_callback_args {
	uint32_t size;
	uint32_t reserved;
	acctlink_str user;   /* the user now signed in at the host; required */
	acctlink_str params; /* raw query string (without '?') or raw form body, up to 64 KiB; required */
	acctlink_str cookie; /* the request's Cookie header, up to 64 KiB */
	uint32_t deadline_ms;
	uint32_t reserved2;
} acctlink_callback_args;
/* clang-format off */
#define ACCTLINK_CALLBACK_ARGS_INIT { sizeof(acctlink_callback_args), 0, { NULL, 0 }, \
	{ NULL, 0 }, { NULL, 0 }, 0, 0 }
/* clang-format on */

#define ACCTLINK_CALLBACK_RENEWED 1u       /* an existing link got a new consent */
#define ACCTLINK_CALLBACK_REPEATED 2u      /* this callback had been handled before */
#define ACCTLINK_CALLBACK_SCOPE_REDUCED 4u /* less was granted than asked */
#define ACCTLINK_CALLBACK_SUPERSEDES 8u    /* another link with this bank login lost its grant */
#define ACCTLINK_CALLBACK_UNCHECKED 16u    /* tokens kept; the id_token is not usable yet */

typedef struct acctlink_callback_result {
	uint32_t size;
	uint32_t flags; /* ACCTLINK_CALLBACK_… */
	uint64_t epoch;
	uint64_t generation;
	char link_id[40];
	char provider[64];
	char institution[256];
} acctlink_callback_result;
/* clang-format off */
#define ACCTLINK_CALLBACK_RESULT_INIT { sizeof(acctlink_callback_result), 0, 0, 0, "", "", "" }
/* clang-format on */

/**
 * Finishes one consent: matches state, browser and user, exchanges the code
 * (RFC 6749, 4.1.3), checks the id_token (OpenID Connect Core, 3.1.3.7) and
 * keeps the token set. A wrong browser or user never uses a flow up. A
 * repeated callback gets the first one's result for ten minutes.
 *
 * out        may be NULL.
 * Returns    OK; BAD_ARGUMENT, BAD_CALLBACK, FOREIGN_CALLBACK,
 *            UNKNOWN_PROVIDER (gone from the config since begin); DENIED,
 *            FLOW_EXPIRED, FLOW_FAILED, SUBJECT_CHANGED; TIMED_OUT (the
 *            exchange goes on; call again with the same callback to learn its
 *            result), PROVIDER_DOWN (the code was not sent; call again),
 *            STORE_DOWN; BAD_CONFIG, CLIENT_REFUSED, BAD_KEY, BAD_STORE,
 *            BAD_PROVIDER; FORKED, SHUT_DOWN; INTERNAL, NO_MEMORY.
 * Threads    any. Blocks up to the deadline.
 */
acctlink_status acctlink_on_callback(
	acctlink *handle, const acctlink_callback_args *args, acctlink_callback_result *out, acctlink_error *err);

/* ---- links ----------------------------------------------------------- */

/** Names one link of one user. user and provider are required; institution if
 *  the link has one. link_id is optional: if given, only the link with this id
 *  counts, so that a later link of the same user is never taken for it. */
typedef struct acctlink_ref {
	acctlink_str user;
	acctlink_str provider;
	acctlink_str institution;
	acctlink_str link_id;
} acctlink_ref;
/* clang-format off */
#define ACCTLINK_REF_INIT { { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 } }
/* clang-format on */

typedef struct acctlink_bearer_args {
	uint32_t size;
	uint32_t flags; /* ACCTLINK_BEARER_… */
	acctlink_ref link;
	uint32_t min_ttl_ms; /* refresh first if less is left, but at half a bearer's life at the
	                         earliest; 0: the provider's bearer_margin */
	uint32_t deadline_ms;
} acctlink_bearer_args;
/* clang-format off */
#define ACCTLINK_BEARER_ARGS_INIT { sizeof(acctlink_bearer_args), 0, ACCTLINK_REF_INIT, 0, 0 }
/* clang-format on */

/** Refresh first, though the bearer is good. It is served as it is where that
 *  can't be: within min_refresh_interval of the last one, while an earlier
 *  outcome is unknown, or if it fails. info->generation tells which. */
#define ACCTLINK_BEARER_REFRESH 1u

typedef struct acctlink_bearer_info {
	uint32_t size;
	int32_t state; /* ACCTLINK_STATE_… */
	uint64_t len;  /* of the bearer, without NUL */
	uint64_t epoch;
	uint64_t generation;   /* give this to acctlink_report_rejected */
	int64_t expires_at_ms; /* the bearer is not served after */
} acctlink_bearer_info;
/* clang-format off */
#define ACCTLINK_BEARER_INFO_INIT { sizeof(acctlink_bearer_info), 0, 0, 0, 0, 0 }
/* clang-format on */

/**
 * Copies the current bearer of one link into the caller's buffer.
 *
 * A bearer that is held and good is copied without I/O. Otherwise one refresh
 * (RFC 6749, 6) runs for all callers, threads and processes, and this call
 * waits for it. A bearer that is still good is served when refreshing fails.
 *
 * buf, cap   the caller's; the bytes written include the final NUL. buf may be
 *            NULL if cap is 0, to ask for the length.
 * info       may be NULL; set on success and on BUFFER_TOO_SMALL.
 * Returns    OK; BUFFER_TOO_SMALL (info->len tells the need), BAD_ARGUMENT,
 *            UNKNOWN_PROVIDER; NOT_LINKED, RELINK_REQUIRED; TIMED_OUT,
 *            PROVIDER_DOWN, STORE_DOWN; BAD_CONFIG, CLIENT_REFUSED, BAD_KEY,
 *            BAD_STORE, BAD_PROVIDER;
 *            FORKED, SHUT_DOWN; INTERNAL, NO_MEMORY.
 * Threads    any. Blocks up to the deadline, only if nothing good is held.
 */
acctlink_status acctlink_get_bearer(acctlink *handle, const acctlink_bearer_args *args, char *buf, size_t cap,
	acctlink_bearer_info *info, acctlink_error *err);

typedef struct acctlink_unlink_args {
	uint32_t size;
	uint32_t deadline_ms;
	acctlink_ref link;
} acctlink_unlink_args;
/* clang-format off */
#define ACCTLINK_UNLINK_ARGS_INIT { sizeof(acctlink_unlink_args), 0, ACCTLINK_REF_INIT }
/* clang-format on */

/** What the provider said about the revocation. */
enum {
	ACCTLINK_REVOCATION_CONFIRMED = 1,
	ACCTLINK_REVOCATION_PENDING = 2,     /* will be tried again, for 72 hours */
	ACCTLINK_REVOCATION_UNSUPPORTED = 3, /* the provider has no endpoint for it */
	ACCTLINK_REVOCATION_REFUSED = 4,     /* the provider refused; see the log */
	ACCTLINK_REVOCATION_NOTHING = 5      /* there was no token to revoke */
};

typedef struct acctlink_unlink_result {
	uint32_t size;
	int32_t revocation; /* ACCTLINK_REVOCATION_… */
	char link_id[40];
} acctlink_unlink_result;
/* clang-format off */
#define ACCTLINK_UNLINK_RESULT_INIT { sizeof(acctlink_unlink_result), 0, "" }
/* clang-format on */

/**
 * Ends a link. It is unusable in the store at once, in every process within
 * the configured poll interval; then its tokens are revoked (RFC 7009), the
 * newest refresh token first, by a queue that survives restarts.
 *
 * out        may be NULL.
 * Returns    OK (see out->revocation for the provider's side); BAD_ARGUMENT;
 *            NOT_LINKED; TIMED_OUT (unlinked if the store took it; look with
 *            acctlink_inspect), STORE_DOWN; BAD_KEY, BAD_STORE; FORKED,
 *            SHUT_DOWN;
 *            INTERNAL, NO_MEMORY.
 * Threads    any. Blocks up to the deadline.
 */
acctlink_status acctlink_unlink(
	acctlink *handle, const acctlink_unlink_args *args, acctlink_unlink_result *out, acctlink_error *err);

typedef struct acctlink_inspect_args {
	uint32_t size;
	uint32_t deadline_ms;
	acctlink_ref link;
} acctlink_inspect_args;
/* clang-format off */
#define ACCTLINK_INSPECT_ARGS_INIT { sizeof(acctlink_inspect_args), 0, ACCTLINK_REF_INIT }
/* clang-format on */

/** The open or last claim of a refresh. */
enum {
	ACCTLINK_CLAIM_NONE = 0,
	ACCTLINK_CLAIM_OPEN = 1,   /* one refresh is on its way */
	ACCTLINK_CLAIM_UNKNOWN = 2 /* one was sent and its outcome is not known */
};

typedef struct acctlink_inspect_result {
	uint32_t size;
	int32_t state;  /* ACCTLINK_STATE_… */
	int32_t reason; /* ACCTLINK_REASON_… */
	int32_t claim;  /* ACCTLINK_CLAIM_… */
	uint64_t epoch;
	uint64_t generation;
	int64_t bearer_expires_at_ms;  /* of the bearer that is kept, good or not; 0: none */
	int64_t next_refresh_at_ms;    /* when one is due ahead of time; 0: none is planned */
	int64_t refresh_expires_at_ms; /* of the refresh token; 0: unknown */
	int64_t consent_expires_at_ms; /* 0: unknown */
	int64_t authorized_at_ms;      /* the last consent */
	int64_t claimed_at_ms;         /* of the claim, 0 if none */
	uint64_t claim_attempt;
	int32_t last_http_status; /* of the last failure, 0 if none */
	uint32_t failures;        /* in a row */
	char link_id[40];
	char provider[64];
	char institution[256];
	char last_error[64]; /* the provider's code, or ours */
	acctlink_out subject;
	acctlink_out scope; /* as granted */
} acctlink_inspect_result;
/* clang-format off */
#define ACCTLINK_INSPECT_RESULT_INIT { sizeof(acctlink_inspect_result), 0, 0, 0, 0, 0, 0, 0, 0, \
	0, 0, 0, 0, 0, 0, "", "", "", "", { NULL, 0, 0 }, { NULL, 0, 0 } }
/* clang-format on */

/**
 * Tells everything about one link but its secrets.
 *
 * out        subject and scope are optional.
 * Returns    OK; BUFFER_TOO_SMALL (both len set), BAD_ARGUMENT; NOT_LINKED;
 *            TIMED_OUT, STORE_DOWN; BAD_STORE; FORKED, SHUT_DOWN; INTERNAL,
 *            NO_MEMORY.
 * Threads    any. Blocks up to the deadline, for the store.
 */
acctlink_status acctlink_inspect(
	acctlink *handle, const acctlink_inspect_args *args, acctlink_inspect_result *out, acctlink_error *err);

typedef struct acctlink_list_args {
	uint32_t size;
	uint32_t deadline_ms;
	acctlink_str user;  /* required */
	acctlink_str after; /* link_id of the last item of the page before */
} acctlink_list_args;
/* clang-format off */
#define ACCTLINK_LIST_ARGS_INIT { sizeof(acctlink_list_args), 0, { NULL, 0 }, { NULL, 0 } }
/* clang-format on */

typedef struct acctlink_list_item {
	int32_t state;
	int32_t reason;
	uint64_t epoch;
	uint64_t generation;
	int64_t bearer_expires_at_ms;
	int64_t authorized_at_ms;
	char link_id[40];
	char provider[64];
	char institution[256];
} acctlink_list_item;

typedef struct acctlink_list_result {
	uint32_t size;
	uint32_t stride;           /* sizeof(acctlink_list_item) as the host knows it */
	acctlink_list_item *items; /* the caller's array */
	uint32_t capacity;         /* of the array, in items; 1 or more */
	uint32_t count;            /* set */
	uint32_t more;             /* set: 1 if another page follows */
	uint32_t reserved;
} acctlink_list_result;
/* clang-format off */
#define ACCTLINK_LIST_RESULT_INIT { sizeof(acctlink_list_result), sizeof(acctlink_list_item), \
	NULL, 0, 0, 0, 0 }
/* clang-format on */

/**
 * Lists the links of one user, a page of at most 256 at a time, in the order of
 * their ids.
 * Links that are being unlinked are not listed.
 *
 * Returns    OK; BAD_ARGUMENT; TIMED_OUT, STORE_DOWN; BAD_STORE; FORKED,
 *            SHUT_DOWN; INTERNAL, NO_MEMORY.
 * Threads    any. Blocks up to the deadline, for the store.
 */
acctlink_status acctlink_list(
	acctlink *handle, const acctlink_list_args *args, acctlink_list_result *out, acctlink_error *err);

typedef struct acctlink_rejected_args {
	uint32_t size;
	int32_t http_status; /* what the data API answered, e.g. 401 */
	acctlink_ref link;
	uint64_t generation; /* of the bearer that was sent */
	acctlink_str code;   /* the data API's own code, e.g. "602"; up to 63 bytes */
} acctlink_rejected_args;
/* clang-format off */
#define ACCTLINK_REJECTED_ARGS_INIT { sizeof(acctlink_rejected_args), 0, ACCTLINK_REF_INIT, 0, \
	{ NULL, 0 } }
/* clang-format on */

/**
 * Tells that the data API refused the bearer of this generation (RFC 6750,
 * invalid_token; Akoya: 401 with code 602). That bearer is not handed out
 * again and the next acctlink_get_bearer refreshes. A report about an older
 * generation changes nothing; many about one generation count once.
 *
 * Returns    OK (queued); BAD_ARGUMENT; FORKED, SHUT_DOWN;
 *            NO_MEMORY.
 * Threads    any. Never blocks.
 */
acctlink_status acctlink_report_rejected(acctlink *handle, const acctlink_rejected_args *args, acctlink_error *err);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
