/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/feed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/hash.h"
#include "base/le.h"

static void run_stop(struct feed *f, const struct problem *p)
{
    report_problem(&f->run->report, p);
    atomic_store(&f->stop, 1);
}

int feed_over(const struct feed *f) { return atomic_load(&f->stop) || !item_fine(f->item); }

static void does_not_fit(struct feed *f)
{
    struct problem p = {0};
    problem_refuse(&p, "does_not_fit", "it is too small for the items",
                   "Reserve more memory or save fewer items; `pmem-state plan` shows how much is needed.",
                   "Saving to %s (%" PRIu64 " bytes)", f->run->device.path, f->capacity);
    run_stop(f, &p);
}

/* Reserves length bytes of the device. Returns the offset, or 0 if the device is full. */
static uint64_t take_place(struct feed *f, uint64_t length)
{
    uint64_t at = atomic_fetch_add(&f->next, length);
    return fits(at, length, f->capacity) ? at : 0;
}

/* Writes a chunk, and stores its offset and checksum in entry. Returns 0, or the errno of the
 * write, which the caller reports. */
static int store(struct feed *f, const uint8_t *data, uint32_t length, struct chunk *entry)
{
    uint64_t at = take_place(f, length);
    if (!at) {
        does_not_fit(f);
        return 0;
    }
    int err = device_write_sum(&f->run->device, data, length, at, &entry->sum);
    if (err)
        return err;
    entry->offset = at;
    atomic_fetch_add(&f->run->report.stored_bytes, length);
    return 0;
}

static void write_failed(struct feed *f, int err)
{
    struct problem p = {0};
    problem_set(&p, EXIT_SYSTEM, err, NULL, "Check the kernel log (dmesg) for errors of this device.", "Writing the image to %s",
                f->run->device.path);
    run_stop(f, &p);
}

/* For FEED_COMPARE: reports a difference in this chunk. */
static void compare(struct feed *f, int same, const char *where)
{
    struct problem p = {0};
    if (same)
        return;
    problem_refuse(&p, "differs", "the item and the image differ", "Save again to bring the image up to date.",
                   "Comparing item %s with the image, at %s", f->item->name, where);
    run_stop(f, &p);
}

/* Reads one segment into the buffer of its chunk. Fills up with zeros if the file has become
 * shorter. */
static void read_segment(struct feed *f, const struct segment *s, uint8_t *to)
{
    uint32_t done = 0;
    while (done < s->length) {
        ssize_t n = pread(s->source->fd, to + done, s->length - done, (off_t)(s->file_offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            item_mark(&f->run->report, s->source->item, ITEM_FAILED, errno, "reading %s at %" PRIu64 " failed: %s",
                      s->source->path, s->file_offset + done, strerror(errno));
        if (n == 0)
            item_mark(&f->run->report, s->source->item, ITEM_CHANGED, 0,
                      "%s became shorter while it was being copied: stop the programs that write to it first", s->source->path);
        if (n <= 0)
            break;
        done += (uint32_t)n;
    }
    memset(to + done, 0, s->length - done);
}

/* Saves or compares a chunk. Returns 0, or the errno of reading or writing it, which the caller
 * reports. */
static int finish_chunk(struct feed *f, struct feed_job *job, const uint8_t *data)
{
    struct report *r = &f->run->report;
    struct chunk c;
    sigjmp_buf env;
    if (!GUARD_BEGIN(env))
        return EFAULT;
    int zero = all_zero(data, job->length);
    uint64_t sum = f->mode == FEED_COMPARE && !zero ? hash64(data, job->length) : 0;
    GUARD_END();
    int err = f->mode == FEED_SAVE && !zero ? store(f, data, job->length, job->entry) : 0;
    if (err)
        return err;
    atomic_fetch_add(&r->chunks, 1);
    if (zero)
        atomic_fetch_add(&r->zero_chunks, 1);
    if (f->mode == FEED_COMPARE) {
        int known = table_data_chunk(&f->run->table, job->item, job->index, job->length, &c);
        int same = known && (zero ? c.offset == 0 : c.offset != 0 && c.sum == sum);
        compare(f, same, job->segments ? job->segment[0].source->path : job->item->path);
    }
    return 0;
}

/* Returns the address of the chunk in a mapped file, or NULL if its bytes must be gathered. */
static const uint8_t *mapped(const struct feed_job *job)
{
    const struct segment *s = job->segment;
    int whole = job->segments == 1 && !job->has_inline && s->at == 0 && s->length == job->length;
    return whole && s->source->map && s->file_offset % BLOCK == 0 ? s->source->map + s->file_offset : NULL;
}

/* Reads the segments of a chunk into its buffer, zeros between them. */
static const uint8_t *gather(struct feed *f, const struct feed_job *job, uint8_t *buf)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < job->segments; i++) {
        const struct segment *s = &job->segment[i];
        if (!job->has_inline)
            memset(buf + end, 0, s->at - end);
        read_segment(f, s, buf + s->at);
        end = s->at + s->length;
    }
    if (!job->has_inline)
        memset(buf + end, 0, job->length - end);
    return buf;
}

static void give_back(struct feed *f, struct feed_job *job)
{
    pthread_mutex_lock(&f->lock);
    job->next = f->free;
    f->free = job;
    pthread_mutex_unlock(&f->lock);
}

static void work(void *context, void *argument, int worker)
{
    struct feed *f = context;
    struct feed_job *job = argument;
    uint64_t bytes = 0;
    if (!atomic_load(&f->stop) && item_fine(job->item)) {
        const uint8_t *data = mapped(job);
        /* If the mapping can't be read, a read tells why: the file shrank, or its disk failed. */
        if (!data || finish_chunk(f, job, data) != 0) {
            int err = finish_chunk(f, job, gather(f, job, job->has_inline ? job->buffer : f->run->buffer[worker]));
            if (err)
                write_failed(f, err);
        }
    }
    for (uint32_t i = 0; i < job->segments; i++) {
        bytes += job->segment[i].length;
        source_release(&f->run->report, job->segment[i].source);
    }
    atomic_fetch_add(&f->run->report.bytes, bytes);
    atomic_fetch_add(&job->item->bytes, bytes);
    progress_add(&f->run->progress, bytes + job->inline_bytes);
    give_back(f, job);
}

static void submit(struct feed *f, uint32_t length)
{
    struct feed_job *job = f->job;
    f->job = NULL;
    job->length = length;
    pool_submit(&f->pool, job);
}

/* The job of chunk `index` of this item's data. NULL when the run has to stop. */
static struct feed_job *job_for(struct feed *f, uint64_t index)
{
    if (f->job && f->job->index == index)
        return f->job;
    if (f->job)
        submit(f, f->chunk_bytes);
    int err = chunk_list_append(&f->data);
    if (err) {
        does_not_fit(f);
        return NULL;
    }
    pthread_mutex_lock(&f->lock);
    struct feed_job *job = f->free; /* there are more jobs than the queue and the threads can hold */
    f->free = job->next;
    pthread_mutex_unlock(&f->lock);
    job->item = f->item;
    job->index = index;
    job->entry = chunk_list_at(&f->data, f->data.count - 1);
    job->segments = 0;
    job->has_inline = 0;
    job->inline_bytes = 0;
    f->job = job;
    return job;
}

uint64_t feed_place(struct feed *f, uint64_t length)
{
    uint64_t at = round_up(f->data_bytes, 64);
    /* An extent that crosses into another chunk begins on a page, so that restore writes whole
     * pages. */
    if (length > f->chunk_bytes - at % f->chunk_bytes)
        at = round_up(at, BLOCK);
    f->data_bytes = at + length;
    return at;
}

static int prepare_inline(struct feed *f, struct feed_job *job)
{
    if (job->has_inline)
        return 0;
    if (!job->buffer && posix_memalign((void **)&job->buffer, BLOCK, f->chunk_bytes) != 0) {
        struct problem p = {0};
        problem_set(&p, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Copying item %s", f->item->name);
        run_stop(f, &p);
        return ENOMEM;
    }
    memset(job->buffer, 0, f->chunk_bytes);
    job->has_inline = 1;
    return 0;
}

void feed_extent(struct feed *f, struct source *s, const struct extent *e)
{
    if (f->mode == FEED_PLAN)
        return;
    for (uint64_t done = 0; done < e->length && !atomic_load(&f->stop);) {
        uint64_t at = e->data_offset + done, in_chunk = at % f->chunk_bytes;
        uint64_t n = f->chunk_bytes - in_chunk;
        if (n > e->length - done)
            n = e->length - done;
        struct feed_job *job = job_for(f, at / f->chunk_bytes);
        if (!job)
            return;
        struct segment segment = {s, e->file_offset + done, (uint32_t)n, (uint32_t)in_chunk};
        if (e->length <= INLINE_MAX) {
            if (prepare_inline(f, job) != 0)
                return;
            read_segment(f, &segment, job->buffer + in_chunk);
            job->inline_bytes += (uint32_t)n;
            atomic_fetch_add(&f->run->report.bytes, n);
            atomic_fetch_add(&f->item->bytes, n);
        } else {
            atomic_fetch_add(&s->refs, 1);
            job->segment[job->segments++] = segment; /* there is room: see feed_start */
        }
        done += n;
    }
}

static void finish_meta(struct feed *f)
{
    struct chunk c = {0, 0}, there;
    uint32_t length = (uint32_t)round_up(f->meta_used, BLOCK);
    if (f->meta_used == 0 || atomic_load(&f->stop))
        return;
    memset(f->meta_buffer + f->meta_used, 0, length - f->meta_used);
    uint64_t index = f->meta_bytes / f->chunk_bytes;
    f->meta_bytes += f->meta_used;
    f->meta_used = 0;
    if (f->mode == FEED_COMPARE) {
        compare(f, table_meta_chunk(&f->run->table, f->item, index, length, &there) &&
                   there.sum == hash64(f->meta_buffer, length), f->item->path);
        return;
    }
    if (chunk_list_append(&f->meta)) {
        does_not_fit(f);
        return;
    }
    if (f->mode == FEED_SAVE) {
        int err = store(f, f->meta_buffer, length, &c);
        if (err)
            write_failed(f, err);
        *chunk_list_at(&f->meta, f->meta.count - 1) = c;
    } else {
        atomic_fetch_add(&f->next, length);
    }
}

void feed_record(struct feed *f, const struct record *r, const struct extent *ext)
{
    uint32_t n = record_encode(f->record, r, ext);
    if (n > f->chunk_bytes - f->meta_used) {
        /* Records don't cross chunks: the rest of this one stays empty. */
        memset(f->meta_buffer + f->meta_used, 0, f->chunk_bytes - f->meta_used);
        f->meta_used = f->chunk_bytes;
        finish_meta(f);
    }
    memcpy(f->meta_buffer + f->meta_used, f->record, n);
    f->meta_used += n;
}

void feed_begin(struct feed *f, struct item *it)
{
    f->item = it;
    f->meta_bytes = f->data_bytes = 0;
    f->meta_used = 0;
    if (f->mode != FEED_COMPARE) {
        it->meta_first = f->meta.count;
        it->data_first = f->data.count;
    }
}

void feed_end(struct feed *f)
{
    struct item *it = f->item;
    finish_meta(f);
    if (f->job)
        submit(f, (uint32_t)chunk_length(f->data_bytes, f->job->index, f->chunk_bytes));
    if (f->mode == FEED_COMPARE) {
        compare(f, it->meta_bytes == f->meta_bytes && it->data_bytes == f->data_bytes, it->path);
        pool_drain(&f->pool);
        return;
    }
    it->meta_bytes = f->meta_bytes;
    it->data_bytes = f->data_bytes;
    if (f->mode == FEED_PLAN) {
        uint64_t chunks = chunk_count(f->data_bytes, f->chunk_bytes);
        atomic_fetch_add(&f->next, round_up(f->data_bytes, BLOCK));
        for (uint64_t i = 0; i < chunks && !atomic_load(&f->stop); i++)
            if (chunk_list_append(&f->data))
                does_not_fit(f);
    }
}

int feed_start(struct feed *f, struct run *run, enum feed_mode mode, struct problem *p)
{
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    f->run = run;
    f->mode = mode;
    f->capacity = run->report.capacity_bytes;
    f->chunk_bytes = mode == FEED_COMPARE ? run->header.chunk_bytes : chunk_bytes_for(f->capacity);
    /* Only extents longer than INLINE_MAX become segments, and two more may cross into the chunk
     * and out of it. */
    uint32_t max_segments = f->chunk_bytes / INLINE_MAX + 2;
    atomic_store(&f->next, PAYLOAD_START);
    int rc = run_start_pool(run, &f->pool, f->chunk_bytes, work, f);
    f->meta_buffer = run->buffer[MAX_THREADS];
    for (int i = 0; i < POOL_QUEUE + f->pool.threads + 2 && rc == 0; i++) {
        struct feed_job *job = calloc(1, sizeof *job + max_segments * sizeof(struct segment));
        if (!job)
            return problem_set(p, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Allocating memory for the copy");
        give_back(f, job);
    }
    return rc;
}

void feed_stop(struct feed *f)
{
    pool_stop(&f->pool);
    while (f->free) {
        struct feed_job *job = f->free;
        f->free = job->next;
        free(job->buffer);
        free(job);
    }
    chunk_list_free(&f->meta);
    chunk_list_free(&f->data);
    pthread_mutex_destroy(&f->lock);
}
