/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Progress for people (one line that is rewritten) and for machines (JSON lines). */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/now.h"

enum { PROGRESS_NS = 200000000 }; /* between two lines, and before the first */

struct progress {
    int enabled, json;
    const char *phase;      /* the verb */
    _Atomic uint64_t total; /* bytes expected; 0: unknown */
    uint64_t start_ns;
    _Atomic uint64_t done;
    _Atomic uint64_t next_ns; /* not before */
};

/* total: 0 when it is not known yet. */
void progress_start(struct progress *pr, int enabled, int json, const char *phase, uint64_t total);

void progress_total(struct progress *pr, uint64_t total); /* any thread */

/* Adds bytes; prints at most five times a second. Any thread. */
void progress_add(struct progress *pr, uint64_t bytes);
void progress_end(struct progress *pr);

#endif
