/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/build.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/hooks.h"
#include "base/stop.h"
#include "image/reader.h"
#include "restore/build_file.h"
#include "restore/build_work.h"

enum { OPEN_LEVELS = 128 };

static void damaged(struct build *b, const char *why)
{
    item_mark(&b->run->report, b->item, ITEM_DAMAGED, 0, "%s", why);
}

/* Gives up the item if a signal asks for the end. */
static void check_stop(struct build *b)
{
    const char *name = stop_signal();
    if (name)
        item_mark(&b->run->report, b->item, ITEM_FAILED, EINTR, "%s stopped the restore before this item was in place", name);
}

static void submit(struct build *b)
{
    struct build_job *job = b->job;
    b->job = NULL;
    check_stop(b);
    if (job)
        pool_submit(&b->pool, job);
}

/* Returns the job for `segments` segments of a chunk. bytes: memory of the file that comes with
 * them; 0 if the file is already in the job. */
static struct build_job *job_for(struct build *b, uint64_t chunk, uint32_t segments, uint32_t bytes)
{
    struct build_job *job = b->job;
    int other_chunk = job && job->chunk != NO_CHUNK && chunk != NO_CHUNK && job->chunk != chunk;
    if (job && (other_chunk || job->segments + segments > BUILD_SEGMENTS || (bytes && job->bytes + bytes > BUILD_JOB_BYTES)))
        submit(b);
    if (!b->job) {
        pthread_mutex_lock(&b->lock);
        b->job = b->free; /* there are more jobs than the queue and the threads can hold */
        b->free = b->job->next;
        pthread_mutex_unlock(&b->lock);
        b->job->chunk = NO_CHUNK;
        b->job->segments = 0;
        b->job->bytes = 0;
    }
    if (chunk != NO_CHUNK)
        b->job->chunk = chunk;
    b->job->bytes += bytes;
    return b->job;
}

static void add_segment(struct build_job *job, struct build_segment s)
{
    atomic_fetch_add(&s.file->refs, 1);
    job->segment[job->segments++] = s;
}

/* Takes the next piece off the extent: the part in its first chunk, and at most `most` bytes. */
static struct build_segment next_piece(const struct build *b, struct build_file *f, struct extent *e, uint64_t most)
{
    uint64_t size = b->run->header.chunk_bytes, in_chunk = e->data_offset % size, n = size - in_chunk;
    n = n < most ? n : most;
    n = n < e->length ? n : e->length;
    struct build_segment s = {f, e->file_offset, e->data_offset / size, (uint32_t)n, (uint32_t)in_chunk};
    *e = (struct extent){e->file_offset + n, e->length - n, e->data_offset + n};
    return s;
}

static void add_piece(struct build *b, struct build_file *f, struct extent *e)
{
    struct build_segment s = next_piece(b, f, e, e->length);
    add_segment(job_for(b, s.chunk, 1, 0), s);
}

/* Adds one huge page of a file as a separate job. If one call writes the whole page, the kernel
 * does not clear it first (docs/measurements.md). */
static void add_span(struct build *b, struct build_big *big)
{
    uint64_t left = big->span - big->rest.file_offset % big->span;
    submit(b);
    while (left && big->rest.length) {
        struct build_segment s = next_piece(b, big->file, &big->rest, left);
        add_segment(job_for(b, NO_CHUNK, 1, 0), s);
        left -= s.length;
    }
    submit(b);
}

static void add_extents(struct build *b, struct build_file *f, const struct record *r)
{
    for (uint32_t i = 0; i < r->extent_count; i++) {
        struct extent e = record_extent(r, i);
        while (e.length && item_fine(b->item))
            add_piece(b, f, &e);
    }
}

/* Adds pieces of the big files in turn, until no more than `keep` of them are left. */
static void add_bigs(struct build *b, int keep)
{
    while (b->bigs > keep) {
        struct build_big *big = &b->big[b->turn++ % b->bigs];
        if (item_fine(b->item) && big->span)
            add_span(b, big);
        else if (item_fine(b->item))
            add_piece(b, big->file, &big->rest);
        if (big->rest.length == 0 || !item_fine(b->item)) {
            build_file_release(b, big->file);
            *big = b->big[--b->bigs];
        }
    }
}

/* Whether all the data of a file is in one chunk, so that one job can make the whole file. */
static int in_one_chunk(const struct record *r, uint64_t size, uint64_t *chunk)
{
    *chunk = NO_CHUNK;
    if (r->flags & (RECORD_MORE | RECORD_LINKED))
        return 0;
    if (r->extent_count == 0)
        return 1;
    struct extent first = record_extent(r, 0), last = record_extent(r, r->extent_count - 1);
    *chunk = first.data_offset / size;
    return (last.data_offset + last.length - 1) / size == *chunk;
}

static void make_file(struct build *b, const struct record *r, struct build_dir *dir, int root)
{
    uint64_t chunk;
    struct build_file *f = build_file_new(b, r, dir, root);
    if (!f)
        return;
    uint32_t bytes = (uint32_t)sizeof *f + r->name_bytes + r->xattr_bytes;
    if (in_one_chunk(r, b->run->header.chunk_bytes, &chunk)) {
        /* Made by the thread that has its data. All its segments stay in one job. */
        job_for(b, chunk, r->extent_count + 1, bytes);
        if (r->extent_count == 0)
            add_segment(job_for(b, NO_CHUNK, 1, 0), (struct build_segment){f, 0, NO_CHUNK, 0, 0});
    } else if (build_file_open(b, f) == 0) {
        /* Several threads will write to it: made here, with its full size. */
        build_file_size(b, f);
        if (r->flags & RECORD_LINKED)
            build_link_first(b, r, dir);
        /* Only files of more than a chunk wait for their turn. The parts of a smaller file come
         * with its two chunks. */
        if (r->extent_count == 1 && !(r->flags & RECORD_MORE) && r->size > b->run->header.chunk_bytes) {
            int most = b->pool.threads < BUILD_BIGS ? b->pool.threads : BUILD_BIGS;
            add_bigs(b, most - 1);
            b->big[b->bigs++] = (struct build_big){f, record_extent(r, 0), b->run->device.map ? build_file_span(f) : 0};
            return;
        }
    }
    add_extents(b, f, r);
    if (r->flags & RECORD_MORE)
        b->file = f;
    else
        build_file_release(b, f);
}

static void drain(struct build *b)
{
    add_bigs(b, 0);
    submit(b);
    pool_drain(&b->pool);
}

static int push(struct build *b, struct build_dir *d)
{
    if (b->depth == b->room) {
        int room = b->room ? b->room * 2 : 64;
        struct build_dir **bigger = realloc(b->level, (size_t)room * sizeof *bigger); /* NOLINT(bugprone-sizeof-expression) */
        if (!bigger) {
            item_mark(&b->run->report, b->item, ITEM_FAILED, ENOMEM, "out of memory");
            return 0;
        }
        b->level = bigger;
        b->room = room;
    }
    /* Directories far above are closed until they are needed again. Level 0 is the directory that
     * contains the item. */
    if (b->depth > OPEN_LEVELS) {
        struct build_dir *far = b->level[b->depth - OPEN_LEVELS];
        if (far->fd >= 0 && atomic_load(&far->refs) > 1)
            drain(b);
        if (far->fd >= 0)
            close(far->fd);
        far->fd = -1;
    }
    b->level[b->depth++] = d;
    return 1;
}

static void make_dir(struct build *b, const struct record *r)
{
    struct build_dir *up = b->level[b->depth - 1];
    char name[MAX_NAME + 1];
    int root = b->depth == 1;
    memcpy(name, r->name, r->name_bytes);
    name[r->name_bytes] = 0;
    const char *made = root ? b->place.temp : name;
    kill_point("create");
    int fd = mkdirat(up->fd, made, 0700) == 0 ? open_child_dir(up->fd, made) : -1, made_well = fd >= 0;
    if (made_well && root) { /* otherwise everything inside would inherit a default ACL, or the group of a set-group-ID directory */
        (void)fremovexattr(fd, "system.posix_acl_default");
        made_well = fchown(fd, b->uid, b->gid) == 0 && fchmod(fd, 0700) == 0;
    }
    if (!made_well) {
        item_mark(&b->run->report, b->item, ITEM_FAILED, errno, "creating the directory '%s' in %s failed: %s", name, b->item->path,
                  strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    struct build_dir *d = build_dir_new(b, r, fd, root);
    if (d && !push(b, d))
        build_dir_release(b, d);
}

static void go_up(struct build *b)
{
    struct build_dir *d = b->level[--b->depth], *up = b->level[b->depth - 1];
    struct stat st;
    if (up->fd < 0 && item_fine(b->item)) {
        up->fd = openat(d->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up->fd < 0 || fstat(up->fd, &st) != 0 || st.st_dev != up->dev || st.st_ino != up->ino)
            item_mark(&b->run->report, b->item, ITEM_FAILED, 0, "a directory of %s was moved while the item was being restored",
                      b->item->path);
    }
    build_dir_release(b, d);
}

static void one_record(struct build *b, const struct record *r)
{
    struct build_dir *dir = b->level[b->depth - 1];
    switch (r->type) {
    case RECORD_DIR:
        make_dir(b, r);
        break;
    case RECORD_UP:
        go_up(b);
        break;
    case RECORD_FILE:
        make_file(b, r, dir, b->depth == 1);
        break;
    case RECORD_EXTENTS:
        add_extents(b, b->file, r);
        if (!(r->flags & RECORD_MORE)) {
            build_file_release(b, b->file);
            b->file = NULL;
        }
        break;
    case RECORD_LINK:
        build_link(b, r, dir);
        break;
    default:
        build_special(b, r, dir);
        if (r->flags & RECORD_LINKED)
            build_link_first(b, r, dir);
    }
    b->item->files += r->type != RECORD_UP && r->type != RECORD_EXTENTS;
}

static void read_records(struct build *b)
{
    struct reader rd;
    struct record r;
    int got = 0;
    reader_start(&rd, b->run, b->item, b->run->buffer[MAX_THREADS]);
    while (check_stop(b), item_fine(b->item) && (got = reader_next(&rd, &r)) > 0)
        one_record(b, &r);
    if (got < 0)
        damaged(b, rd.bad);
}

/* Counts each chunk once, however many jobs read it. */
static void count_chunks(struct run *run, const struct item *it)
{
    struct report *r = &run->report;
    struct chunk c;
    uint64_t chunks = chunk_count(it->data_bytes, run->header.chunk_bytes);
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t length = chunk_length(it->data_bytes, i, run->header.chunk_bytes);
        if (!table_data_chunk(&run->table, it, i, length, &c))
            continue; /* the item is marked damaged already */
        r->chunks++;
        *(c.offset ? &r->stored_bytes : &r->zero_chunks) += c.offset ? length : 1;
    }
}

void build_item(struct build *b, struct item *it)
{
    const char *what;
    int left = 0;
    b->item = it;
    it->files = 0;
    b->depth = 0;
    b->links = -1;
    b->file = NULL;
    b->bigs = b->turn = 0;
    check_stop(b);
    if (!item_fine(it))
        return;
    int err = place_open(&b->place, it->path, &what);
    if (err) {
        item_mark(&b->run->report, it, ITEM_FAILED, err, "%s (%s): %s", what, it->path, strerror(err));
        place_close(&b->place);
        return;
    }
    struct build_dir *above = build_dir_new(b, NULL, dup(b->place.parent), 0);
    if (above && push(b, above))
        read_records(b);
    if (b->file)
        build_file_release(b, b->file);
    drain(b);
    count_chunks(b->run, it);
    while (b->depth > 0) /* the directory above the item, and directories that a failure left open */
        build_dir_release(b, b->level[--b->depth]);
    if (b->links >= 0)
        close(b->links);
    if (item_fine(it)) {
        err = place_commit(&b->place, &left);
        if (err == EINTR)
            check_stop(b);
        if (err)
            item_mark(&b->run->report, it, ITEM_FAILED, err, "renaming the finished item to %s failed: %s", it->path, strerror(err));
    }
    if (item_fine(it)) {
        atomic_store(&it->status, ITEM_RESTORED);
        if (left)
            report_left_out(&b->run->report, b->place.temp, "the old content could not be removed");
    } else {
        place_abandon(&b->place);
    }
    place_close(&b->place);
}

int build_start(struct build *b, struct run *run, struct problem *p)
{
    memset(b, 0, sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    b->run = run;
    b->uid = geteuid();
    b->gid = getegid();
    b->place.parent = -1;
    int rc = run_start_pool(run, &b->pool, run->header.chunk_bytes, build_work, b);
    for (int i = 0; i < POOL_QUEUE + b->pool.threads + 2 && rc == 0; i++) {
        struct build_job *job = malloc(sizeof *job);
        if (!job)
            return problem_set(p, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Allocating memory for the copy");
        build_give_back(b, job);
    }
    return rc;
}

void build_stop(struct build *b)
{
    pool_stop(&b->pool);
    while (b->free) {
        struct build_job *job = b->free;
        b->free = job->next;
        free(job);
    }
    free(b->level);
    pthread_mutex_destroy(&b->lock);
}
