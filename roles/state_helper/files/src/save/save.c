/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/save.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/le.h"
#include "base/mark_names.h"
#include "base/stop.h"
#include "save/estimate.h"
#include "save/feed.h"
#include "save/item_root.h"
#include "save/scan.h"

/* Scans every item into the feed. Returns 0 or the exit code of the problem that stopped it. */
static int scan_all(struct feed *f)
{
    struct report *r = &f->run->report;
    struct scan *s = scan_new(f);
    if (!s)
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Allocating memory for the scan");
    for (int i = 0; i < r->item_count && !atomic_load(&f->stop); i++) {
        feed_begin(f, &r->items[i]);
        scan_item(s, &r->items[i]);
        feed_end(f);
    }
    pool_drain(&f->pool);
    scan_free(s);
    return r->problem.code;
}

static int any_good(const struct report *r)
{
    for (int i = 0; i < r->item_count; i++)
        if (item_fine(&r->items[i]))
            return 1;
    return 0;
}

/* Returns the exit code of a save, from what became of the items. */
static int outcome(struct report *r, enum item_status good)
{
    int bad = 0, changed = 0;
    for (int i = 0; i < r->item_count; i++) {
        struct item *it = &r->items[i];
        if (item_fine(it))
            atomic_store(&it->status, good);
        else
            bad++;
        changed += it->status == ITEM_CHANGED;
    }
    if (bad == 0)
        return EXIT_DONE;
    if (bad < r->item_count || changed)
        return problem_set(&r->problem, EXIT_PARTIAL, 0, "the other items are complete",
                           "See the error of each item. Stop the services that write to the items, and save again.",
                           "%d of %d items could not be copied completely", bad, r->item_count);
    return problem_set(&r->problem, EXIT_SYSTEM, r->items[0].err, r->items[0].error, "See the error of each item.",
                       "No item could be copied");
}

/* Writes the table and flushes it, then the header. Only now does the device hold an image
 * again. */
static int commit(struct feed *f, uint64_t sequence)
{
    struct run *run = f->run;
    struct report *r = &run->report;
    struct header *h = &run->header;
    struct timespec now;
    uint64_t chunks = f->meta.count + f->data.count, bytes = table_size(r, chunks), at = atomic_load(&f->next);
    if (!fits(at, bytes, f->capacity))
        return problem_refuse(&r->problem, "does_not_fit", "it is too small for the items",
                              "Reserve more memory or save fewer items; `pmem-state plan` shows how much is needed.",
                              "Saving the table to %s (%" PRIu64 " bytes)", run->device.path, f->capacity);
    if (table_build(&run->table, r, &f->meta, &f->data))
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Building the table");
    int err = device_write(&run->device, run->table.raw, bytes, at);
    if (!err)
        err = device_flush(&run->device);
    if (err)
        return problem_set(&r->problem, EXIT_SYSTEM, err, NULL, "Check the kernel log (dmesg) for errors of this device.",
                           "Writing the table to %s", run->device.path);
    clock_gettime(CLOCK_REALTIME, &now);
    header_init(h);
    h->sequence = sequence;
    h->chunk_bytes = f->chunk_bytes;
    memcpy(h->machine_id, run->identity.machine_id, sizeof h->machine_id);
    memcpy(h->boot_id, run->identity.boot_id, sizeof h->boot_id);
    memcpy(h->kernel, run->identity.kernel, sizeof h->kernel - 1);
    h->device_bytes = run->device.bytes;
    h->saved_unix_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    h->table_offset = at;
    h->table_bytes = bytes;
    h->table_sum = hash64(run->table.raw, bytes);
    h->item_count = (uint32_t)r->item_count;
    h->meta_chunks = f->meta.count;
    h->data_chunks = f->data.count;
    h->stored_bytes = r->stored_bytes;
    h->zero_chunks = r->zero_chunks;
    for (int i = 0; i < r->item_count; i++)
        if (item_fine(&r->items[i])) {
            h->bytes += r->items[i].bytes;
            h->files += r->items[i].files;
        }
    h->cycles_per_second = run->options->cycles_per_second;
    for (int i = 0; i < run->options->mark_count; i++)
        header_set_mark(h, run->options->marks[i].id, run->options->marks[i].cycles);
    if (h->cycles_per_second)
        header_set_mark(h, mark_id("saved"), clock_cycles());
    stop_defer(); /* the first copy that is written makes the image valid, and the result must say so */
    int rc = header_store(&run->device, h, &r->problem);
    if (rc == 0) {
        r->image = h;
        r->image_state = "valid";
    }
    return rc;
}

/* Refuses if a save would destroy an image that another boot saved and that still waits for its
 * restore. *sequence: that of the new image. */
static int check_old_image(struct run *run, uint64_t *sequence)
{
    struct report *r = &run->report;
    const struct header *h = &run->header;
    int rc = run_load_image(run);
    *sequence = r->image ? h->sequence + 1 : 1;
    if (rc == 0 && !run->options->force && !(h->flags & HEADER_CONSUMED) &&
        memcmp(h->boot_id, run->identity.boot_id, sizeof h->boot_id) != 0)
        return problem_refuse(&r->problem, "unrestored", "it holds an image that another boot saved and that was not restored",
                              "Restore the image with `pmem-state restore`, or give it up and save with --force.", "Saving to %s",
                              run->device.path);
    /* Whatever else is there is replaced: an image of this boot, a consumed one, a damaged one. */
    memset(&r->problem, 0, sizeof r->problem);
    report_drop_items(r);
    table_free(&run->table);
    r->image = NULL;
    r->image_state = r->content = NULL;
    return 0;
}

int verb_save(struct run *run)
{
    struct report *r = &run->report;
    struct feed feed;
    struct estimate estimate;
    uint64_t sequence;
    int rc = run_open(run, DEVICE_WRITE);
    if (rc == 0)
        rc = check_old_image(run, &sequence);
    if (rc == 0)
        rc = take_items(run);
    if (rc)
        return rc;
    if (!run->identity.has_machine_id && !run->options->force)
        return problem_refuse(&r->problem, "no_machine_id", "/etc/machine-id does not exist, or does not contain an ID",
                              "Run systemd-machine-id-setup, or both save and restore with --force.",
                              "Identifying this machine");
    uint64_t start = now_ns();
    rc = header_invalidate(&run->device, &r->problem);
    r->image_state = "none";
    if (rc)
        return rc;
    progress_start(&run->progress, run->options->progress, run->options->json, "save", 0);
    if (run->options->progress)
        estimate_start(&estimate, r, &run->progress);
    rc = feed_start(&feed, run, FEED_SAVE, &r->problem);
    if (rc == 0)
        rc = scan_all(&feed);
    if (rc == 0 && any_good(r))
        rc = commit(&feed, sequence);
    feed_stop(&feed);
    if (run->options->progress)
        estimate_stop(&estimate);
    r->seconds = (double)(now_ns() - start) / 1e9;
    progress_end(&run->progress);
    return rc ? rc : outcome(r, ITEM_SAVED);
}

int verb_plan(struct run *run)
{
    struct report *r = &run->report;
    struct feed feed;
    int rc = take_items(run);
    if (rc == 0 && run->options->device)
        rc = run_open(run, DEVICE_LOOK);
    if (rc)
        return rc;
    r->capacity_bytes = run->options->device ? run->device.bytes : run->options->capacity / BLOCK * BLOCK;
    r->live = 1;
    uint64_t start = now_ns();
    rc = feed_start(&feed, run, FEED_PLAN, &r->problem);
    if (rc == 0)
        rc = scan_all(&feed);
    r->needed_bytes = feed.next + table_size(r, feed.meta.count + feed.data.count);
    r->has_needed = 1;
    feed_stop(&feed);
    r->seconds = (double)(now_ns() - start) / 1e9;
    if (rc)
        return rc;
    if (r->needed_bytes > r->capacity_bytes)
        return problem_refuse(&r->problem, "does_not_fit", "the items are too big", "Reserve more memory or save fewer items.",
                              "Fitting %d items of %" PRIu64 " bytes into %" PRIu64 " bytes", r->item_count, r->needed_bytes,
                              r->capacity_bytes);
    return outcome(r, ITEM_OK);
}

/* Matches the items of the command line with those of the image: same names in the same order, same
 * paths. */
static int match_items(struct run *run)
{
    struct report *r = &run->report;
    const struct options *o = run->options;
    if (o->item_count != r->item_count)
        return problem_refuse(&r->problem, "differs", "the image holds a different number of items", "Save again.",
                              "Comparing %d items with the image's %d", o->item_count, r->item_count);
    for (int i = 0; i < r->item_count; i++) {
        struct item *it = &r->items[i];
        if (strcmp(it->name, o->items[i].name) != 0 || strcmp(it->path, o->items[i].path) != 0)
            return problem_refuse(&r->problem, "differs", "the image holds a different item in its place", "Save again.",
                                  "Comparing item %s (%s)", o->items[i].name, o->items[i].path);
        if (!item_fine(it))
            return problem_refuse(&r->problem, "differs", it->error, "Save again.", "Comparing item %s", it->name);
        uint32_t kind = it->kind;
        int rc = item_check_root(it, &r->problem);
        if (rc)
            return rc;
        if (it->kind != kind)
            return problem_refuse(&r->problem, "differs", "a file has become a directory, or a directory has become a file", "Save again.",
                                  "Comparing item %s", it->name);
        it->bytes = it->files = 0;
    }
    return 0;
}

int verb_compare(struct run *run)
{
    struct report *r = &run->report;
    struct feed feed;
    int rc = run_open(run, DEVICE_READ);
    if (rc == 0)
        rc = run_load_image(run);
    if (rc == 0)
        rc = match_items(run);
    if (rc)
        return rc;
    uint64_t start = now_ns();
    rc = feed_start(&feed, run, FEED_COMPARE, &r->problem);
    if (rc == 0)
        rc = scan_all(&feed);
    feed_stop(&feed);
    r->seconds = (double)(now_ns() - start) / 1e9;
    if (rc)
        return rc;
    for (int i = 0; i < r->item_count; i++)
        if (!item_fine(&r->items[i]))
            return problem_refuse(&r->problem, "differs", r->items[i].error, "Save again.", "Comparing item %s with the image",
                                  r->items[i].name);
    return outcome(r, ITEM_OK);
}
