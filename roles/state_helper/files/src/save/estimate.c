/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/estimate.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "image/record.h"
#include "save/walk.h"

enum { LEAST_PRIORITY = 19 };

static void add_file(void *sum, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    uint64_t allocated = (uint64_t)st.st_blocks * 512, size = (uint64_t)st.st_size;
    *(uint64_t *)sum += allocated < size ? allocated : size;
}

/* Waits until the first progress line is due: a shorter save needs no estimate. Returns 0 if the
 * save is over. */
static int wait_until_due(struct estimate *e)
{
    struct timespec due;
    clock_gettime(CLOCK_REALTIME, &due);
    due.tv_nsec += PROGRESS_NS;
    due.tv_sec += due.tv_nsec / 1000000000;
    due.tv_nsec %= 1000000000;
    pthread_mutex_lock(&e->lock);
    for (int err = 0; err == 0 && !e->stop;)
        err = pthread_cond_timedwait(&e->ending, &e->lock, &due);
    e->tid = e->stop ? 0 : (int)syscall(SYS_gettid);
    pthread_mutex_unlock(&e->lock);
    return e->tid != 0;
}

static void *look(void *argument)
{
    struct estimate *e = argument;
    uint64_t sum = 0;
    if (!wait_until_due(e))
        return NULL;
    /* On Linux this changes the current thread only. Beside busy threads it gets a hundredth of a
     * CPU. */
    (void)setpriority(PRIO_PROCESS, 0, LEAST_PRIORITY);
    for (int i = 0; i < e->report->item_count && !e->stop; i++)
        walk_item(&e->report->items[i], &e->stop, add_file, &sum);
    if (!e->stop)
        progress_total(e->progress, sum);
    return NULL;
}

void estimate_start(struct estimate *e, const struct report *r, struct progress *pr)
{
    memset(e, 0, sizeof *e);
    e->report = r;
    e->progress = pr;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->ending, NULL);
    uint64_t sum = 0;
    int trees = 0;
    for (int i = 0; i < r->item_count; i++)
        if (r->items[i].kind == RECORD_FILE)
            walk_item(&r->items[i], &e->stop, add_file, &sum);
        else
            trees++;
    if (trees == 0)
        progress_total(pr, sum);
    else
        e->running = pthread_create(&e->thread, NULL, look, e) == 0;
}

void estimate_stop(struct estimate *e)
{
    pthread_mutex_lock(&e->lock);
    e->stop = 1;
    int tid = e->tid;
    pthread_cond_signal(&e->ending);
    pthread_mutex_unlock(&e->lock);
    if (tid) /* it ends at the next directory entry; normal priority lets it get there soon on a busy machine */
        (void)setpriority(PRIO_PROCESS, (id_t)tid, 0);
    if (e->running)
        pthread_join(e->thread, NULL);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->ending);
}
