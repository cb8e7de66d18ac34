/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the verbs share while they run. */
#ifndef RUN_H
#define RUN_H

#include "device.h"
#include "header.h"
#include "identity.h"
#include "options.h"
#include "pool.h"
#include "progress.h"
#include "report.h"
#include "table.h"

struct run {
    const struct options *options;
    struct report report;
    struct device device;
    struct identity identity;
    struct header header;
    struct table table;
    struct progress progress;
    uint8_t *buffer[MAX_THREADS + 1]; /* one chunk for each thread and one for records, aligned to BLOCK */
};

/* One verb each: returns an exit code, fills in run->report. */
int verb_save(struct run *run);
int verb_restore(struct run *run);
int verb_plan(struct run *run);
int verb_compare(struct run *run);
int verb_verify(struct run *run);
int verb_info(struct run *run);
int verb_invalidate(struct run *run);

/* Opens the device named on the command line. */
int run_open(struct run *run, enum device_use use);
/* Loads header and table; sets report.image and image_state. */
int run_load_image(struct run *run);
/* Starts the pool near the device and gives each thread a buffer of one chunk. */
int run_start_pool(struct run *run, struct pool *pool, uint32_t chunk_bytes, pool_work work, void *context);
/* Fills in report.items from the command line, for save, plan and compare. */
int run_take_items(struct run *run);
/* Marks items that were not asked for as skipped. Adds those that the image does not have, as failed, behind the image's own;
 * refuses when it has none of them. */
int run_select_items(struct run *run);
int run_is_selected(const struct run *run, const struct item *it);

#endif
