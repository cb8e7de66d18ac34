/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/hooks.h"

#ifdef TEST_HOOKS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

static int is(const char *variable, long number)
{
    const char *at = getenv(variable);
    return at && atol(at) == number;
}

void kill_point(const char *where)
{
    static _Atomic long count;
    long number = atomic_fetch_add(&count, 1) + 1;
    (void)where; /* helps in a debugger */
    if (is("PMEM_STATE_KILL_AT", number))
        raise(SIGKILL);
    if (is("PMEM_STATE_STOP_AT", number))
        raise(SIGSTOP);
}

const char *test_override(const char *name) { return getenv(name); }
#else
typedef int hooks_are_for_tests; /* ISO C forbids an empty file */
#endif
