/* SPDX-License-Identifier: MIT
 * Threads of our own, which the host must not notice.
 */
#ifndef AL_THREAD_H
#define AL_THREAD_H

#include <pthread.h>

#include "base/base.h"

/* Starts a thread that blocks all signals. 0, or the error number. */
int al_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) AL_MUST_USE;

#endif
