/* SPDX-License-Identifier: MIT
 * What only the net room sees. CURL stays here.
 */
#ifndef AL_NET_INT_H
#define AL_NET_INT_H

#include <curl/curl.h>

#include "net/net.h"

/* ---- http_head.c ------------------------------------------------------------- */
/* Reads the head of the newest answer, on the thread that owns the transfer. */
void al_http_read_head(CURL *easy, const struct al_clock *clock, struct al_http_result *result);

#endif
