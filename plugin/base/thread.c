/* SPDX-License-Identifier: MIT
 * Starts threads: with a stack of their own size, and with all signals blocked,
 * which are for the host's threads alone. The caller's mask is put back.
 */
#include "base/thread.h"

#include <signal.h>

#define STACK_BYTES ((size_t)512 * 1024)

int al_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all;
	sigset_t before;
	int failed = pthread_attr_init(&attr);

	if (failed != 0)
		return failed;
	(void)sigfillset(&all);
	failed = pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (failed == 0)
		failed = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (failed == 0) {
		failed = pthread_create(thread, &attr, run, arg);
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	(void)pthread_attr_destroy(&attr);
	return failed;
}
