/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One error: what was being done, what the system answered, what to do next. Functions that can
 * fail return an exit code (status.h), 0 when all went well, and fill in a struct problem. */
#ifndef PROBLEM_H
#define PROBLEM_H

struct problem {
    int code;            /* enum exit_code; 0: no problem */
    int err;             /* errno; 0: not from a system call */
    const char *refused; /* reason in one word when code is EXIT_REFUSED */
    char what[1024];
    char said[384];
    char todo[384];
};

/* Fills in p (unless it holds an earlier problem already) and returns code. `said` may be NULL when
 * err says it. */
int problem_set(struct problem *p, int code, int err, const char *said, const char *todo, const char *what, ...)
    __attribute__((format(printf, 6, 7)));

/* The same for a refusal; returns EXIT_REFUSED. */
int problem_refuse(struct problem *p, const char *reason, const char *said, const char *todo, const char *what, ...)
    __attribute__((format(printf, 5, 6)));

/* "ENOSPC" for ENOSPC; NULL for a number that has no entry here. */
const char *errno_name(int err);

#endif
