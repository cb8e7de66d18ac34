/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A few threads that work through jobs. The thread that submits jobs works too while the queue is
 * full. */
#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <sched.h>

#include "base/status.h"

enum { POOL_QUEUE = 8 };

/* Work of one job; `worker` is 0 for the thread that owns the pool, then 1, 2, … */
typedef void (*pool_work)(void *context, void *job, int worker);

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t more, idle;
    pool_work work;
    void *context;
    void *queue[POOL_QUEUE];
    int head, queued, running, closing;
    int threads; /* the owner included */
    pthread_t thread[MAX_THREADS];
};

/* Starts threads - 1 threads beside the caller. If some can't be started, the pool works with
 * fewer. cpus: where they may run; NULL: anywhere. */
void pool_start(struct pool *pool, int threads, const cpu_set_t *cpus, pool_work work, void *context);
void pool_submit(struct pool *pool, void *job);
void pool_drain(struct pool *pool); /* returns when every submitted job is done */
void pool_stop(struct pool *pool);  /* drains, then ends the threads */

#endif
