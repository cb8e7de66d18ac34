/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Turns a SIGBUS on mapped memory (a poisoned page, a file that shrank) into an error in the thread
 * that accessed the memory. */
#ifndef GUARD_H
#define GUARD_H

#include <setjmp.h>

extern _Thread_local sigjmp_buf *guard_point;

void guard_install(void); /* once, before threads start */

/* if (GUARD_BEGIN(env)) { access memory; GUARD_END(); } else { the access failed: EIO } */
#define GUARD_BEGIN(env) (guard_point = &(env), sigsetjmp(env, 0) == 0)
#define GUARD_END() (guard_point = 0)

#endif
