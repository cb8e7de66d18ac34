/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump does beside the start of the root file system's init: that runs on one CPU, and the others have nothing to do. */
#ifndef EARLY_PLAN_H
#define EARLY_PLAN_H

enum { EARLY_MOUNTS = 16, EARLY_INTERFACES = 16 };

struct early {
    const char *helper;                  /* NULL: nothing to restore here */
    struct { const char *directory, *options; } mounts[EARLY_MOUNTS];
    int mount_count;
    int incomplete;                      /* a mount that could not be noted: nothing is restored here either */
    struct { const char *driver, *name, *device; } interfaces[EARLY_INTERFACES]; /* device: below /sys/devices */
    int interface_count;
};

/* A line of the plan: `tmpfs DIRECTORY OPTIONS`, `restore HELPER` or `interface DRIVER NAME DEVICE`; it is cut up and kept. 0 when it is
 * another one. */
int early_take(struct early *e, char *line);

#endif
