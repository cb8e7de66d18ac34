/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/guard.h"

#include <signal.h>
#include <stddef.h>

_Thread_local sigjmp_buf *guard_point;

static void on_sigbus(int sig)
{
    sigjmp_buf *point = guard_point;
    if (point) {
        guard_point = NULL;
        siglongjmp(*point, 1);
    }
    signal(sig, SIG_DFL); /* not from guarded code: the default action kills the process when the instruction runs again */
}

void guard_install(void)
{
    struct sigaction sa = {.sa_handler = on_sigbus, .sa_flags = SA_NODEFER};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGBUS, &sa, NULL);
}
