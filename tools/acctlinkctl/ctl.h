/* SPDX-License-Identifier: MIT
 * acctlinkctl, the operator's tool. It works through the public ABI wherever that
 * can do the work, and through abi/operator.h for the rest, so that it obeys the
 * same rules as a host: claims, gates, one send for each refresh token. One
 * thread, one command, then it ends.
 */
#ifndef ACCTLINKCTL_H
#define ACCTLINKCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>

#include "acctlink.h"

/* Exit codes, by who must act; they are part of the interface. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_PARTLY = 1,   /* some of many: import, forget, check --online */
	CTL_USAGE = 2,    /* the command line, or a file that it names */
	CTL_USER = 3,     /* the end user: not linked, must consent again */
	CTL_LATER = 4,    /* nobody: the provider or the store is down, try again */
	CTL_OPERATOR = 5, /* config, key, store, client registration */
	CTL_FAULT = 6     /* acctlink itself */
};

struct ctl {
	/* options; a command takes those that its table entry names */
	const char *config_path;
	bool json;
	bool show;         /* bearer: even to a terminal */
	bool online;       /* check */
	bool paste;        /* link */
	bool secret_stdin; /* init */
	int deadline_s;    /* 0: the command's own default */
	const char *owner; /* init, as the next five */
	const char *profile;
	const char *name;
	const char *issuer;
	const char *client_id;
	const char *store;
	const char *redirect_uri; /* init, link */
	const char *provider;     /* list */
	const char *state;        /* list */

	acctlink *handle; /* made by ctl_open */
	json_object *out; /* what the command found; printed at the end */
	acctlink_error err;
	int exit_code;
};

struct ctl_command {
	const char *name;
	const char *arguments;
	const char *about;
	int least; /* arguments */
	int most;
	const char *options; /* its own, by their letters in main.c */
	int deadline_s;      /* default */
	void (*run)(struct ctl *ctl, char **args, int count);
};

/* ---- main.c -------------------------------------------------------------------- */
/* True if acctlink_init succeeded; else the exit code and error are set. */
bool ctl_open(struct ctl *ctl);
/* From here on Ctrl-C and its kin wait for the end of the program. */
void ctl_hold_signals(void);
/* Sets the exit code by the status; true for OK. */
bool ctl_check(struct ctl *ctl, acctlink_status status);
void ctl_fail(struct ctl *ctl, int exit_code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The exit code that a status stands for. */
int ctl_exit_of(acctlink_status status);
uint32_t ctl_deadline_ms(const struct ctl *ctl);
/* USER PROVIDER [INSTITUTION] */
acctlink_ref ctl_ref(char **args, int count);

/* ---- output.c -------------------------------------------------------------------- */
void ctl_put_text(json_object *object, const char *name, const char *text);
void ctl_put_number(json_object *object, const char *name, int64_t number);
/* Unix milliseconds as ISO 8601 in UTC; left out if 0. */
void ctl_put_time(json_object *object, const char *name, int64_t at_ms);
void ctl_put_flag(json_object *object, const char *name, bool flag);
void ctl_put_buf(json_object *object, const char *name, const char *data, size_t len);
void ctl_put_state(json_object *object, int32_t state, int32_t reason);
const char *ctl_revocation_name(int32_t revocation);
/* The number of a state's name, -1 if there is none. */
int32_t ctl_state_of(const char *name);
/* An error as an object: status, code, message, where and what the provider said. */
json_object *ctl_error_object(const acctlink_error *err);
void ctl_print(const struct ctl *ctl);
void ctl_print_error(const struct ctl *ctl);

/* ---- the commands ------------------------------------------------------------------- */
void ctl_list(struct ctl *ctl, char **args, int count); /* links.c */
void ctl_show(struct ctl *ctl, char **args, int count);
void ctl_unlink(struct ctl *ctl, char **args, int count);
void ctl_bearer(struct ctl *ctl, char **args, int count); /* bearer.c */
void ctl_refresh(struct ctl *ctl, char **args, int count);
void ctl_check_config(struct ctl *ctl, char **args, int count); /* check.c */
void ctl_import(struct ctl *ctl, char **args, int count);       /* import.c */
void ctl_forget(struct ctl *ctl, char **args, int count);       /* forget.c */
void ctl_pause(struct ctl *ctl, char **args, int count);        /* pause.c */
void ctl_resume(struct ctl *ctl, char **args, int count);
void ctl_init(struct ctl *ctl, char **args, int count); /* init.c */
void ctl_link(struct ctl *ctl, char **args, int count); /* consent.c */

#endif
