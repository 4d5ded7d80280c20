/* SPDX-License-Identifier: MIT
 * What clang-tidy can't see from one file; test_linters.sh includes it before each file of
 * the plugin, no compiler reads it. The functions stand in parentheses where a
 * declaration follows, so that the macros leave them alone.
 */
#ifndef ACCTLINK_ANALYZER_H
#define ACCTLINK_ANALYZER_H

#include "base/base.h"

#include <string.h>

/* They hand back the status that they are given: nothing goes on after a failure. */
#define al_fail(err, status, ...) ((void)al_fail(err, status, __VA_ARGS__), (status))
#define al_fail_memory(err) ((void)al_fail_memory(err), ACCTLINK_NO_MEMORY)
#define al_refuse(reader, at, ...) ((void)al_refuse(reader, at, __VA_ARGS__), ACCTLINK_BAD_CONFIG)

/* Its buffer is the thread's own since glibc 2.32. */
const char *analyzer_strerror(int number);
#define strerror(number) analyzer_strerror(number)

#endif
