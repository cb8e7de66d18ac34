/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpus.h"
#include "scan.h"

int run_open(struct run *run, enum device_use use)
{
    int rc = device_open(&run->device, run->options->device, use, &run->report.problem);
    run->report.device = &run->device;
    run->report.capacity_bytes = run->device.bytes;
    return rc;
}

int run_load_image(struct run *run)
{
    struct report *r = &run->report;
    int rc = header_load(&run->device, &run->header, &r->problem);
    r->image_state = rc == EXIT_NO_IMAGE ? "none" : rc == EXIT_DAMAGED ? "damaged" : NULL;
    r->content = rc == EXIT_NO_IMAGE ? header_content(&run->device) : NULL;
    if (rc)
        return rc;
    r->image = &run->header;
    rc = table_load(&run->device, &run->header, &run->table, r, &r->problem);
    r->image_state = rc == EXIT_DAMAGED ? "damaged" : run->header.flags & HEADER_CONSUMED ? "consumed" : "valid";
    return rc;
}

int run_start_pool(struct run *run, struct pool *pool, uint32_t chunk_bytes, pool_work work, void *context)
{
    cpu_set_t near;
    int cpus = cpus_near(run->device.fd >= 0 ? run->device.numa_node : -1, &near);
    pool_start(pool, cpus_threads(run->options->threads, cpus), cpus ? &near : NULL, work, context);
    run->report.threads = pool->threads;
    for (int i = 0; i <= MAX_THREADS; i++) {
        if (i >= pool->threads && i != MAX_THREADS)
            continue;
        if (!run->buffer[i] && posix_memalign((void **)&run->buffer[i], BLOCK, chunk_bytes) != 0)
            return problem_set(&run->report.problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Getting ready to copy");
    }
    return 0;
}

int run_take_items(struct run *run)
{
    struct report *r = &run->report;
    const struct options *o = run->options;
    r->items = calloc((size_t)o->item_count, sizeof *r->items);
    if (!r->items)
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
    for (int i = 0; i < o->item_count; i++) {
        struct item *it = &r->items[r->item_count++];
        memcpy(it->name, o->items[i].name, sizeof it->name);
        it->path = strdup(o->items[i].path);
        if (!it->path)
            return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
        int rc = scan_check_root(it, &r->problem);
        if (rc)
            return rc;
    }
    return 0;
}

static const struct option_item *asked_for(const struct run *run, const struct item *it)
{
    for (int i = 0; i < run->options->item_count; i++)
        if (strcmp(run->options->items[i].name, it->name) == 0)
            return &run->options->items[i];
    return NULL;
}

int run_is_selected(const struct run *run, const struct item *it)
{
    return run->options->item_count == 0 || asked_for(run, it);
}

/* Adds an item that was asked for and that the image does not have: the others are restored all the same. */
static int add_missing(struct report *r, const struct option_item *o)
{
    struct item *it = &r->items[r->item_count];
    memcpy(it->name, o->name, sizeof it->name);
    it->path = strdup(o->path ? o->path : "");
    if (!it->path)
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
    r->item_count++;
    item_mark(r, it, ITEM_FAILED, 0, "the image has no such item");
    return 0;
}

int run_select_items(struct run *run)
{
    struct report *r = &run->report;
    int in_image = r->item_count, rc = 0;
    for (int k = 0; k < in_image; k++) {
        const struct option_item *o = asked_for(run, &r->items[k]);
        if (!run_is_selected(run, &r->items[k]))
            item_mark(r, &r->items[k], ITEM_SKIPPED, 0, "%s", "");
        if (o && o->path) {
            free(r->items[k].path);
            r->items[k].path = strdup(o->path);
            if (!r->items[k].path)
                return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
        }
    }
    for (int i = 0; i < run->options->item_count && rc == 0; i++) {
        int found = 0;
        for (int k = 0; k < in_image; k++)
            found |= strcmp(run->options->items[i].name, r->items[k].name) == 0;
        if (!found)
            rc = add_missing(r, &run->options->items[i]);
    }
    if (rc == 0 && run->options->item_count && r->item_count - in_image == run->options->item_count)
        return problem_refuse(&r->problem, "no_such_item", "the image has no such item", "`pmem-state info` lists what it has.",
                              "Looking for item %s", run->options->items[0].name);
    return rc;
}

int verb_info(struct run *run)
{
    int rc = run_open(run, DEVICE_LOOK);
    return rc ? rc : run_load_image(run);
}

int verb_invalidate(struct run *run)
{
    int rc = run_open(run, DEVICE_WRITE);
    if (rc == 0)
        rc = header_invalidate(&run->device, &run->report.problem);
    run->report.image_state = rc ? NULL : "none";
    return rc;
}
