/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/restore.h"

#include <string.h>
#include <sys/stat.h>

#include "base/paths.h"
#include "base/stop.h"
#include "restore/build.h"
#include "restore/outcome.h"
#include "restore/selection.h"

static int check_identity(struct run *run)
{
    struct report *r = &run->report;
    const struct header *h = &run->header;
    if (run->options->force)
        return 0;
    if (!run->identity.has_machine_id || memcmp(h->machine_id, run->identity.machine_id, sizeof h->machine_id) != 0)
        return problem_refuse(&r->problem, "foreign", "another machine saved it",
                              "Start the services cold, or restore the image with --force.", "Checking the image on %s", run->device.path);
    return 0;
}

/* Marks the items that were restored before. Refuses if no others are left. */
static int check_consumed(struct run *run)
{
    struct report *r = &run->report;
    int left = 0, any = 0;
    for (int i = 0; i < r->item_count; i++) {
        struct item *it = &r->items[i];
        any |= header_consumed(&run->header, i);
        if (!run->options->force && item_fine(it) && header_consumed(&run->header, i))
            item_mark(r, it, ITEM_SKIPPED, 0, "it has already been restored");
        left += atomic_load(&it->status) == ITEM_PENDING;
    }
    if (left || !any)
        return 0;
    return problem_refuse(&r->problem, "consumed", "it has already been restored",
                          "Start the services, or restore the image again with --force.", "Checking the image on %s",
                          run->device.path);
}

static int check_overlap(struct run *run)
{
    struct report *r = &run->report;
    for (int i = 0; i < r->item_count; i++)
        for (int k = 0; k < i; k++)
            if (item_fine(&r->items[i]) && item_fine(&r->items[k]) && paths_overlap(r->items[i].path, r->items[k].path))
                return problem_set(&r->problem, EXIT_USAGE, 0, "the path of one lies inside the path of the other",
                                   "Restore them to different paths.", "Restoring items %s and %s", r->items[k].name, r->items[i].name);
    return 0;
}

/* Whether a later restore could still bring this item back. */
static int can_be_restored(const struct item *it)
{
    return it->status == ITEM_SKIPPED || it->status == ITEM_PENDING || (it->status == ITEM_FAILED && it->err);
}

/* Records in the header which items have been restored. */
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
        rc = select_items(run);
    if (rc == 0)
        rc = check_consumed(run);
    if (rc == 0)
        rc = check_overlap(run);
    if (rc)
        return rc;
    umask(0);
    stop_defer(); /* an item that is in place must be marked as consumed, and reported */
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
