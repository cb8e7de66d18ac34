/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the verbs share while they run. */
#ifndef RUN_H
#define RUN_H

#include "base/device.h"
#include "base/identity.h"
#include "base/options.h"
#include "base/pool.h"
#include "base/progress.h"
#include "image/header.h"
#include "image/report.h"
#include "image/table.h"

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

/* Opens the device named on the command line. */
int run_open(struct run *run, enum device_use use);
/* Loads header and table; sets report.image and image_state. */
int run_load_image(struct run *run);
/* Starts the pool on CPUs near the device, and gives each thread a buffer of one chunk. */
int run_start_pool(struct run *run, struct pool *pool, uint32_t chunk_bytes, pool_work work, void *context);

#endif
