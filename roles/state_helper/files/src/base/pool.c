/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/pool.h"

#include <string.h>

/* Takes one job and does it. The lock is held on entry and on return. */
static void take_one(struct pool *pool, int worker)
{
    void *job = pool->queue[pool->head];
    pool->head = (pool->head + 1) % POOL_QUEUE;
    pool->queued--;
    pool->running++;
    pthread_mutex_unlock(&pool->lock);
    pool->work(pool->context, job, worker);
    pthread_mutex_lock(&pool->lock);
    if (--pool->running == 0 && pool->queued == 0)
        pthread_cond_broadcast(&pool->idle);
}

static void *run(void *argument)
{
    struct pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    int worker = 1;
    while (!pthread_equal(pool->thread[worker], pthread_self()))
        worker++;
    for (;;) {
        while (!pool->queued && !pool->closing)
            pthread_cond_wait(&pool->more, &pool->lock);
        if (!pool->queued)
            break;
        take_one(pool, worker);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void pool_start(struct pool *pool, int threads, const cpu_set_t *cpus, pool_work work, void *context)
{
    memset(pool, 0, sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->work = work;
    pool->context = context;
    if (cpus) /* new threads inherit it; if it fails, they run anywhere */
        (void)sched_setaffinity(0, sizeof *cpus, cpus);
    pthread_mutex_lock(&pool->lock); /* the threads look themselves up in pool->thread, so they wait until it is filled in */
    for (pool->threads = 1; pool->threads < threads; pool->threads++)
        if (pthread_create(&pool->thread[pool->threads], NULL, run, pool) != 0)
            break;
    pthread_mutex_unlock(&pool->lock);
}

void pool_submit(struct pool *pool, void *job)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->threads == 1) {
        pthread_mutex_unlock(&pool->lock);
        pool->work(pool->context, job, 0);
        return;
    }
    while (pool->queued == POOL_QUEUE)
        take_one(pool, 0);
    pool->queue[(pool->head + pool->queued++) % POOL_QUEUE] = job;
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}

void pool_drain(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->queued)
        take_one(pool, 0);
    while (pool->running)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void pool_stop(struct pool *pool)
{
    pool_drain(pool);
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->threads; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->more);
    pthread_cond_destroy(&pool->idle);
}
