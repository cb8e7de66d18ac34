/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump does while the init of the root file system starts: that uses one CPU,
 * and the others are idle. */
#ifndef EARLY_PLAN_H
#define EARLY_PLAN_H

enum { EARLY_MOUNTS = 16, EARLY_INTERFACES = 16, EARLY_MODULES = 16 };

struct early {
    const char *helper;                  /* NULL: the early restore has nothing to do */
    struct { const char *directory, *options; } mounts[EARLY_MOUNTS];
    int mount_count;
    int incomplete;                      /* a mount is missing from the list, so nothing is restored early */
    struct { const char *driver, *name, *device; } interfaces[EARLY_INTERFACES]; /* device: below /sys/devices */
    int interface_count;
    struct { const char *file, *parameters; int fd; } modules[EARLY_MODULES]; /* for the restore */
    int module_count;
};

/* Takes a line of the plan: `tmpfs DIRECTORY OPTIONS`, `restore HELPER`, `interface DRIVER NAME
 * DEVICE` or `later FILE [PARAMETERS]`, a module. Cuts the line into words and keeps pointers to
 * them. Returns 0 for any other line. */
int early_take(struct early *e, char *line);

#endif
