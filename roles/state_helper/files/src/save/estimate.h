/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How many bytes the items hold, for the percent of a progress line: quick, and no more than that. A thread of its own looks, and
 * only when there is time left over, so that a save with progress takes no longer than one without. */
#ifndef ESTIMATE_H
#define ESTIMATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/progress.h"
#include "image/report.h"

struct estimate {
    const struct report *report; /* paths and kinds of its items; they stay as they are meanwhile */
    struct progress *progress;   /* is told the total */
    pthread_t thread;
    int running;
    _Atomic int stop;
    _Atomic int tid; /* of the thread while it works, 0 before */
    pthread_mutex_t lock;
    pthread_cond_t ending; /* stop was set */
};

/* Being unable to start a thread is no reason to stop: there is no percent then. */
void estimate_start(struct estimate *e, const struct report *r, struct progress *pr);
void estimate_stop(struct estimate *e);

#endif
