/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Estimates how many bytes the items hold, for the percentage of a progress line. A separate
 * thread does it with the lowest priority, so that a save with progress takes no longer than one
 * without. */
#ifndef ESTIMATE_H
#define ESTIMATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/progress.h"
#include "image/report.h"

struct estimate {
    const struct report *report; /* its items; their paths and kinds don't change meanwhile */
    struct progress *progress;   /* gets the total */
    pthread_t thread;
    int running;
    _Atomic int stop;
    _Atomic int tid; /* of the thread while it works, 0 before */
    pthread_mutex_t lock;
    pthread_cond_t ending; /* stop was set */
};

/* If the thread can't be started, the progress lines show no percentage. */
void estimate_start(struct estimate *e, const struct report *r, struct progress *pr);
void estimate_stop(struct estimate *e);

#endif
