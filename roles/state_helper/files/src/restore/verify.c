/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader.h"
#include "restore/outcome.h"
#include "restore/selection.h"

/* One chunk to verify. */
struct verify_job {
    struct item *item;
    uint64_t index;
};

static void verify_chunk(void *context, void *argument, int worker)
{
    struct run *run = context;
    struct verify_job *job = argument;
    struct report *r = &run->report;
    struct chunk c;
    const uint8_t *view;
    uint64_t sum = 0, length = chunk_length(job->item->data_bytes, job->index, run->header.chunk_bytes);
    if (!table_data_chunk(&run->table, job->item, job->index, length, &c)) {
        item_mark(r, job->item, ITEM_DAMAGED, 0, "a chunk lies outside the payload");
    } else if (c.offset == 0) {
        atomic_fetch_add(&r->zero_chunks, 1);
    } else {
        int err = device_view(&run->device, run->buffer[worker], length, c.offset, &view, &sum);
        if (err || sum != c.sum)
            item_mark(r, job->item, ITEM_DAMAGED, err, "chunk %llu at offset %llu: %s", (unsigned long long)job->index,
                      (unsigned long long)c.offset, err ? strerror(err) : "the checksum is wrong");
        atomic_fetch_add(&r->stored_bytes, length);
    }
    atomic_fetch_add(&r->chunks, 1);
    atomic_fetch_add(&r->bytes, length);
    progress_add(&run->progress, length);
    free(job);
}

static int verify_item(struct run *run, struct pool *pool, struct item *it)
{
    struct reader rd;
    struct record rec;
    int got;
    reader_start(&rd, run, it, run->buffer[MAX_THREADS]);
    while ((got = reader_next(&rd, &rec)) > 0)
        ;
    if (got < 0)
        item_mark(&run->report, it, ITEM_DAMAGED, 0, "%s", rd.bad);
    uint64_t chunks = chunk_count(it->data_bytes, run->header.chunk_bytes);
    for (uint64_t i = 0; i < chunks && item_fine(it); i++) {
        struct verify_job *job = malloc(sizeof *job);
        if (!job)
            return problem_set(&run->report.problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Verifying item %s", it->name);
        *job = (struct verify_job){it, i};
        pool_submit(pool, job);
    }
    pool_drain(pool);
    if (item_fine(it))
        atomic_store(&it->status, ITEM_OK);
    return 0;
}

int verb_verify(struct run *run)
{
    struct report *r = &run->report;
    struct pool pool;
    int rc = run_open(run, DEVICE_READ);
    if (rc == 0)
        rc = run_load_image(run);
    if (rc == 0)
        rc = select_items(run);
    if (rc)
        return rc;
    uint64_t start = now_ns();
    progress_start(&run->progress, run->options->progress, run->options->json, "verify", run->header.bytes);
    rc = run_start_pool(run, &pool, run->header.chunk_bytes, verify_chunk, run);
    for (int i = 0; i < r->item_count && rc == 0; i++)
        if (r->items[i].status == ITEM_PENDING)
            rc = verify_item(run, &pool, &r->items[i]);
    pool_stop(&pool);
    r->seconds = (double)(now_ns() - start) / 1e9;
    progress_end(&run->progress);
    return rc ? rc : outcome(run, ITEM_OK, "verified");
}
