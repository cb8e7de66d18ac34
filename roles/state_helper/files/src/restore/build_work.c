/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/build_work.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "restore/build_file.h"

void build_give_back(struct build *b, struct build_job *job)
{
    pthread_mutex_lock(&b->lock);
    job->next = b->free;
    b->free = job;
    pthread_mutex_unlock(&b->lock);
}

/* What a thread has of one chunk. */
struct loaded {
    uint64_t chunk;
    const uint8_t *data; /* NULL: all zero, or none yet */
    int good;            /* 0: the item is marked */
};

static struct loaded load_chunk(struct build *b, uint64_t chunk, uint8_t *buffer)
{
    struct run *run = b->run;
    struct loaded l = {chunk, NULL, 1};
    struct chunk c;
    uint64_t sum, length = chunk_length(b->item->data_bytes, chunk, run->header.chunk_bytes);
    l.good = table_data_chunk(&run->table, b->item, chunk, length, &c);
    if (!l.good)
        item_mark(&run->report, b->item, ITEM_DAMAGED, 0, "a chunk lies outside the payload");
    if (!l.good || c.offset == 0)
        return l;
    int err = device_view(&run->device, buffer, length, c.offset, &l.data, &sum);
    if (err)
        item_mark(&run->report, b->item, ITEM_DAMAGED, err, "reading chunk %" PRIu64 " at offset %" PRIu64 " failed: %s", chunk,
                  c.offset, strerror(err));
    else if (sum != c.sum)
        item_mark(&run->report, b->item, ITEM_DAMAGED, 0, "the checksum of chunk %" PRIu64 " at offset %" PRIu64 " is wrong", chunk,
                  c.offset);
    l.good = !err && sum == c.sum;
    return l;
}

/* How many segments from s on one call can write: parts of one file, each where the one before
 * ends. Only from a mapping, since a buffer holds one chunk. */
static uint32_t together(const struct build *b, const struct build_segment *s, uint32_t left)
{
    uint32_t n = 1;
    while (b->run->device.map && n < left && s[n].file == s->file && s[n].file_offset == s[n - 1].file_offset + s[n - 1].length)
        n++;
    return n;
}

static void write_segments(struct build *b, const struct build_segment *s, uint32_t n, struct loaded *l, uint8_t *buffer)
{
    struct iovec part[BUILD_SEGMENTS];
    int parts = 0;
    uint64_t at = s->file_offset;
    for (const struct build_segment *end = s + n; s < end; s++) {
        /* An empty file among the files of a chunk has no data, so the chunk stays loaded. */
        if (s->chunk != NO_CHUNK && s->chunk != l->chunk && item_fine(b->item))
            *l = load_chunk(b, s->chunk, buffer);
        if (!item_fine(b->item) || !l->good || build_file_open(b, s->file) != 0)
            return;
        if (l->data && s->length) {
            part[parts++] = (struct iovec){(void *)(uintptr_t)(l->data + s->at), s->length};
        } else { /* a hole */
            build_file_write(b, s->file, part, parts, at);
            parts = 0;
            at = s->file_offset + s->length;
        }
    }
    build_file_write(b, s[-1].file, part, parts, at);
}

void build_work(void *context, void *argument, int worker)
{
    struct build *b = context;
    struct build_job *job = argument;
    struct loaded l = {NO_CHUNK, NULL, 1};
    uint64_t bytes = 0;
    for (uint32_t i = 0, n; i < job->segments; i += n) {
        struct build_segment *s = &job->segment[i];
        n = together(b, s, job->segments - i);
        write_segments(b, s, n, &l, b->run->buffer[worker]);
        for (uint32_t k = 0; k < n; k++) {
            bytes += s[k].length;
            build_file_release(b, s[k].file);
        }
    }
    atomic_fetch_add(&b->run->report.bytes, bytes);
    progress_add(&b->run->progress, bytes);
    build_give_back(b, job);
}
