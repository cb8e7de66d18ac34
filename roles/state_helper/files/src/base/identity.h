/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which machine and boot this is: machine ID, boot ID, kernel release. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <stdint.h>

#include "base/problem.h"

struct identity {
    uint8_t machine_id[16]; /* /etc/machine-id */
    int has_machine_id;     /* 0: this machine does not have an ID */
    uint8_t boot_id[16];    /* /proc/sys/kernel/random/boot_id */
    char kernel[65];        /* uname -r */
};

int identity_read(struct identity *id, struct problem *p);

#endif
