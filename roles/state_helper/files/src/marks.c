/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "marks.h"

#include <string.h>

#include "clock.h"
#include "run.h"

/* The number of a mark in an image is its place here, from 1 (docs/image-format.md): only ever add at the end. */
static const char *const names[] = {
    "preflight", "units_stopped", "saved", "jump", "kernel_start", "userspace_start", "restored", "units_ready", "hot_added", "stopping",
    "units_starting",
};
enum { NAMES = sizeof names / sizeof *names };

uint32_t mark_id(const char *name)
{
    for (uint32_t i = 0; i < NAMES; i++)
        if (strcmp(name, names[i]) == 0)
            return i + 1;
    return 0;
}

const char *mark_name(uint32_t id)
{
    return id >= 1 && id <= NAMES ? names[id - 1] : NULL;
}

int mark_set(struct header *h, uint32_t id, uint64_t cycles)
{
    uint32_t i = 0;
    while (i < h->mark_count && i < MAX_MARKS && h->marks[i].id != id)
        i++;
    if (i >= MAX_MARKS)
        return 0;
    h->marks[i] = (struct mark){.id = id, .cycles = cycles};
    if (i == h->mark_count)
        h->mark_count++;
    return 1;
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
        return problem_refuse(&r->problem, "foreign", "another boot saved it", "Marks are set by the boot that saved.",
                              "Marking the image on %s", run->device.path);
    if (!mark_set(h, mark_id(run->options->mark), now))
        return problem_refuse(&r->problem, "does_not_fit", "it has no room for another mark", NULL, "Marking the image on %s",
                              run->device.path);
    h->sequence++;
    return header_store(&run->device, h, &r->problem);
}

int verb_cycles(struct run *run)
{
    clock_read(&run->report.clock, 1);
    if (run->report.clock.cycles_per_second)
        return 0;
    return problem_set(&run->report.problem, EXIT_SYSTEM, 0, "this machine has none, or it can't be read", NULL,
                       "Reading the cycle counter");
}
