/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/mark_names.h"

#include <stddef.h>
#include <string.h>

/* The number of a mark in an image is its place here, from 1 (docs/image-format.md): only ever add
 * at the end. */
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
