/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpus.h"

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
            return problem_set(&run->report.problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Allocating memory for the copy");
    }
    return 0;
}
