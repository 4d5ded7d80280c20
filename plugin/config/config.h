/* SPDX-License-Identifier: MIT
 * The config room: reads the libconfig file once into constant structs that
 * are handed down to the rooms. Nothing here changes after al_config_load;
 * a config is counted, since operations keep the one that they began with.
 */
#ifndef AL_CONFIG_H
#define AL_CONFIG_H

#include <stdatomic.h>

#include "base/base.h"

enum al_client_auth {
	AL_AUTH_BASIC,     /* client_secret_basic, form-encoded first (RFC 6749, 2.3.1) */
	AL_AUTH_BASIC_RAW, /* the same without form-encoding, for servers that don't decode */
	AL_AUTH_POST,      /* client_secret_post */
	AL_AUTH_NONE       /* public client: client_id in the body */
};
enum al_bearer_kind { AL_BEARER_ACCESS_TOKEN, AL_BEARER_ID_TOKEN };
enum al_response_mode { AL_MODE_QUERY, AL_MODE_FORM_POST };
enum al_shared_subject { AL_SUBJECT_ALLOW, AL_SUBJECT_MOVE, AL_SUBJECT_REFUSE };

/* JWS algorithms as bits. */
enum { AL_ALG_RS256 = 1, AL_ALG_PS256 = 2, AL_ALG_ES256 = 4, AL_ALG_EDDSA = 8 };

struct al_config_pair {
	char *name;
	char *value;
};

/* A refresh error that means "this very refresh token is dead". */
struct al_definite_rule {
	int status; /* 0: 400, 401 or 403 */
	char *error;
	char *description_prefix; /* NULL: any; white space runs compare equal */
};

struct al_config;

struct al_provider_config {
	struct al_config *of; /* whom it belongs to: counted by those who keep it */
	char *name;
	char *where;                  /* file:line of the section */
	char *profile;                /* "akoya", "oidc", "oauth2" or one of the file's own */
	char *issuer;                 /* byte for byte; NULL for oauth2 */
	bool discovery;               /* endpoints and keys from the issuer's metadata */
	char *authorization_endpoint; /* the four: NULL if discovered or absent */
	char *token_endpoint;
	char *revocation_endpoint;
	char *jwks_uri;
	char *ca_file; /* NULL: the system's */
	char *client_id;
	struct al_buf client_secret;
	enum al_client_auth exchange_auth;
	enum al_client_auth refresh_auth;
	enum al_client_auth revoke_auth;
	char **redirect_uris;        /* at least one, ended by NULL */
	char *scope;                 /* words parted by spaces; "": none is sent */
	char *institution_parameter; /* "connector"; NULL: the institution is not sent */
	bool institution_required;
	struct al_config_pair *authorize_parameters; /* extra, name NULL ends; may be NULL */
	enum al_response_mode response_mode;
	enum al_bearer_kind bearer;
	bool id_token_expected; /* scope has openid */
	bool pkce;
	bool nonce;
	unsigned algs;               /* AL_ALG_ bits; 0: from metadata, else RS256 */
	bool iss_parameter_required; /* RFC 9207 */
	bool one_grant_per_user;     /* Dex: a second consent kills the first grant */
	enum al_shared_subject shared_subject;
	struct al_definite_rule *definite; /* error NULL ends */
	int64_t clock_skew_ms;             /* 300 s; for checks of tokens just received */
	int64_t max_age_ms;                /* auth_time; 0: not asked */
	int64_t bearer_cap_ms;             /* 0: none; else a bearer is served at most so long */
	int64_t default_lifetime_ms;       /* where the provider tells none */
	int64_t bearer_margin_ms;          /* refresh when less is left */
	int64_t resend_margin_ms;          /* 60 s */
	int64_t reuse_window_ms;           /* 0: none documented */
	int64_t refresh_lifetime_ms;       /* 0: unknown */
	int64_t consent_lifetime_ms;       /* 0: unknown */
	int64_t min_refresh_interval_ms;
	int64_t retry_after_cap_ms;
	int64_t backoff_base_ms;
	int64_t backoff_cap_ms;
	int64_t connect_timeout_ms;
	int64_t request_timeout_ms;
	int64_t jwks_max_age_ms;      /* a withdrawn key is refused within this time */
	int64_t jwks_min_interval_ms; /* between fetches for unknown kids */
};

struct al_config {
	atomic_int refs; /* the only member that changes */
	char *path;
	char *store_path; /* SQLite file */
	char **key_files; /* the first seals; all open; ended by NULL */
	int32_t log_level;
	bool allow_readable_secrets; /* a secret that others can read is a warning only */
	int64_t call_timeout_ms;     /* default deadline of blocking calls */
	int64_t shutdown_timeout_ms;
	int64_t flow_lifetime_ms;        /* 15 minutes */
	int64_t flow_result_lifetime_ms; /* 10 minutes */
	unsigned flows_per_user;
	int64_t poll_interval_ms;       /* 1 s */
	int64_t revocation_lifetime_ms; /* 72 h */
	int64_t audit_lifetime_ms;      /* 400 days; 0: for ever */
	bool operator_bearer;           /* acctlinkctl may take bearers out */
	unsigned worker_threads;
	unsigned held_bearers; /* at most */
	struct al_provider_config *providers;
	size_t provider_count;
	struct al_safe *secrets; /* where the providers' secrets are kept */
};

/* Reads and checks the whole file; the error has file:line and, for an unknown
 * key, the nearest known one. Secret files are read here, and the environment
 * ($CREDENTIALS_DIRECTORY, if a client_secret_credential is named). Relative
 * paths are made absolute, so a later change of directory does no harm. */
al_rc al_config_load(
	const char *path, const struct al_log *log, struct al_config **out, acctlink_error *err) AL_MUST_USE;
struct al_config *al_config_ref(struct al_config *config);
void al_config_free(struct al_config **config); /* drops one reference */
const struct al_provider_config *al_config_provider(const struct al_config *config, const char *name);

#endif
