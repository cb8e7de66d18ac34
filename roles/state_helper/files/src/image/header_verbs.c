/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/header_verbs.h"

#include <string.h>

#include "base/clock.h"
#include "base/mark_names.h"

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

int verb_mark(struct run *run)
{
    struct report *r = &run->report;
    struct header *h = &run->header;
    uint64_t now = clock_cycles();
    int rc = run_open(run, DEVICE_WRITE);
    if (rc == 0)
        rc = run_load_image(run);
    if (rc)
        return rc;
    if (memcmp(h->boot_id, run->identity.boot_id, sizeof h->boot_id) != 0)
        return problem_refuse(&r->problem, "foreign", "another boot saved it", "Only the boot that saved an image can mark it.",
                              "Marking the image on %s", run->device.path);
    if (!header_set_mark(h, mark_id(run->options->mark), now))
        return problem_refuse(&r->problem, "does_not_fit", "the image already holds as many marks as it can", NULL,
                              "Marking the image on %s", run->device.path);
    h->sequence++;
    return header_store(&run->device, h, &r->problem);
}

int verb_cycles(struct run *run)
{
    clock_read(&run->report.clock, 1);
    if (run->report.clock.cycles_per_second)
        return 0;
    return problem_set(&run->report.problem, EXIT_SYSTEM, 0, "this machine does not have a cycle counter, or its frequency is unknown",
                       NULL, "Reading the cycle counter");
}
