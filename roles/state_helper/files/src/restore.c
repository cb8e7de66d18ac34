/* SPDX-License-Identifier: GPL-3.0-or-later */
/* restore and verify. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "build.h"
#include "paths.h"
#include "reader.h"

/* Counts of the items that were asked for, by what became of them. */
struct tally {
    int wanted, good, damaged, failed, unsaved;
};

static struct tally count(const struct run *run, enum item_status good)
{
    const struct report *r = &run->report;
    struct tally t = {0};
    for (int i = 0; i < r->item_count; i++) {
        int s = r->items[i].status;
        if (s == ITEM_SKIPPED && !(run->options->item_count && run_is_selected(run, &r->items[i])))
            continue;
        t.wanted++;
        t.good += s == (int)good;
        t.damaged += s == ITEM_DAMAGED;
        t.failed += s == ITEM_FAILED && r->items[i].err;
        t.unsaved += s == ITEM_CHANGED || (s == ITEM_FAILED && !r->items[i].err);
    }
    return t;
}

static const char *first_error(const struct report *r)
{
    for (int i = 0; i < r->item_count; i++)
        if (r->items[i].error[0])
            return r->items[i].error;
    return NULL;
}

static int outcome(struct run *run, enum item_status good, const char *verb)
{
    struct report *r = &run->report;
    struct tally t = count(run, good);
    if (t.good == t.wanted)
        return EXIT_DONE;
    if (t.good)
        return problem_set(&r->problem, EXIT_PARTIAL, 0, "the others are good", "See the items; start what is missing cold.",
                           "%d of %d items could not be %s", t.wanted - t.good, t.wanted, verb);
    if (t.failed)
        return problem_set(&r->problem, EXIT_SYSTEM, 0, first_error(r), "See the items.", "No item could be %s", verb);
    if (t.damaged)
        return problem_set(&r->problem, EXIT_DAMAGED, 0, first_error(r), "Start the services cold; the next save replaces the image.",
                           "No item could be %s", verb);
    return problem_refuse(&r->problem, t.unsaved ? "changed" : "consumed", first_error(r), "Start the services cold.",
                          "No item could be %s", verb);
}

static int check_identity(struct run *run)
{
    struct report *r = &run->report;
    const struct header *h = &run->header;
    if (run->options->force)
        return 0;
    if (!run->identity.has_machine_id || memcmp(h->machine_id, run->identity.machine_id, sizeof h->machine_id) != 0)
        return problem_refuse(&r->problem, "foreign", "another machine saved it",
                              "Start the services cold; --force restores it all the same.", "Looking at the image on %s", run->device.path);
    return 0;
}

/* Marks the items that were restored before; refuses when there is nothing else. */
static int check_consumed(struct run *run)
{
    struct report *r = &run->report;
    int left = 0, any = 0;
    for (int i = 0; i < r->item_count; i++) {
        struct item *it = &r->items[i];
        any |= header_consumed(&run->header, i);
        if (!run->options->force && item_fine(it) && header_consumed(&run->header, i))
            item_mark(r, it, ITEM_SKIPPED, 0, "it was restored already");
        left += atomic_load(&it->status) == ITEM_PENDING;
    }
    if (left || !any)
        return 0;
    return problem_refuse(&r->problem, "consumed", "it was restored already",
                          "Nothing to do, or start the services cold; --force restores it once more.", "Looking at the image on %s",
                          run->device.path);
}

static int check_overlap(struct run *run)
{
    struct report *r = &run->report;
    for (int i = 0; i < r->item_count; i++)
        for (int k = 0; k < i; k++)
            if (item_fine(&r->items[i]) && item_fine(&r->items[k]) && paths_overlap(r->items[i].path, r->items[k].path))
                return problem_set(&r->problem, EXIT_USAGE, 0, "one lies inside the other", "Restore them one by one to other places.",
                                   "Restoring items %s and %s", r->items[k].name, r->items[i].name);
    return 0;
}

/* Whether a later restore could still bring this item back. */
static int can_be_restored(const struct item *it)
{
    return it->status == ITEM_SKIPPED || it->status == ITEM_PENDING || (it->status == ITEM_FAILED && it->err);
}

/* Notes in the header which items are in place now. */
static int mark_consumed(struct run *run)
{
    struct report *r = &run->report;
    struct header *h = &run->header;
    int restored = 0, left = 0;
    for (int i = 0; i < r->item_count; i++) {
        if (r->items[i].status == ITEM_RESTORED) {
            h->consumed[i / 8] |= (uint8_t)(1 << i % 8);
            restored = 1;
        }
        left += !header_consumed(h, i) && can_be_restored(&r->items[i]);
    }
    if (!restored)
        return 0;
    if (!left)
        h->flags |= HEADER_CONSUMED;
    memcpy(h->consumed_boot_id, run->identity.boot_id, sizeof h->consumed_boot_id);
    h->sequence++;
    int rc = header_store(&run->device, h, &r->problem);
    r->image_state = h->flags & HEADER_CONSUMED ? "consumed" : "valid";
    return rc;
}

int verb_restore(struct run *run)
{
    struct report *r = &run->report;
    struct build b;
    int rc = run_open(run, DEVICE_WRITE);
    if (rc == 0)
        rc = run_load_image(run);
    if (rc == 0)
        rc = check_identity(run);
    if (rc == 0)
        rc = run_select_items(run);
    if (rc == 0)
        rc = check_consumed(run);
    if (rc == 0)
        rc = check_overlap(run);
    if (rc)
        return rc;
    umask(0);
    uint64_t start = now_ns(), total = 0;
    for (int i = 0; i < r->item_count; i++)
        total += r->items[i].status == ITEM_PENDING ? r->items[i].bytes : 0;
    progress_start(&run->progress, run->options->progress, run->options->json, "restore", total);
    rc = build_start(&b, run, &r->problem);
    for (int i = 0; i < r->item_count && rc == 0; i++)
        if (r->items[i].status == ITEM_PENDING)
            build_item(&b, &r->items[i]);
    build_stop(&b);
    if (rc == 0)
        rc = mark_consumed(run);
    clock_read(&r->clock, 0);
    r->seconds = (double)(now_ns() - start) / 1e9;
    progress_end(&run->progress);
    return rc ? rc : outcome(run, ITEM_RESTORED, "restored");
}

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
        rc = run_select_items(run);
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
