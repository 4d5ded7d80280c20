/* SPDX-License-Identifier: MIT
 * Functions of a host, for test_neighbours.sh, that happen to be named like those of the
 * plugin's libraries and do something else altogether: whoever calls one by mistake is
 * ended. NAMES_JSONC, NAMES_CONFIG, NAMES_SQLITE, NAMES_CURL and NAMES_OPENSSL choose.
 * The host is linked with -rdynamic, so that they come first in every look-up.
 */
#include <stdlib.h>
#include <unistd.h>

#define NAME(name) \
	__attribute__((visibility("default"))) void name(void); \
	__attribute__((visibility("default"))) void name(void) \
	{ \
		(void)!write(2, "the host's own " #name " was called\n", \
			sizeof("the host's own " #name " was called\n") - 1); \
		abort(); \
	}

#ifdef NAMES_JSONC
NAME(json_object_get)
NAME(json_object_put)
NAME(json_object_object_get_ex)
NAME(json_object_get_string)
NAME(json_object_iter_next)
NAME(json_tokener_parse_ex)
#endif
#ifdef NAMES_CONFIG
NAME(config_init)
NAME(config_destroy)
NAME(config_read_string)
#endif
#ifdef NAMES_SQLITE
NAME(sqlite3_open_v2)
NAME(sqlite3_prepare_v2)
NAME(sqlite3_step)
#endif
#ifdef NAMES_CURL
NAME(curl_easy_init)
NAME(curl_multi_init)
NAME(curl_easy_setopt)
#endif
#ifdef NAMES_OPENSSL
NAME(EVP_Digest)
NAME(EVP_CIPHER_fetch)
NAME(EVP_sha256)
NAME(EVP_MD_CTX_new)
#endif
#ifdef NAMES_TLS
NAME(SSL_new)
NAME(SSL_CTX_new)
#endif
