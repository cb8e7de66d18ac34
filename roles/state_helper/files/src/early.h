/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump does beside the start of the root file system's init: that runs on one CPU, and the others have nothing to do. */
#ifndef EARLY_H
#define EARLY_H

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

/* Both return at once, with the root file system at / and nothing of it started. What can't be done is said, and left to systemd. */

/* Loads the drivers of the interfaces in a process of its own, and gives these their names. */
void early_network(const struct early *e);

/* Mounts /run and each tmpfs as their units would, which then find them mounted, and starts RESTORE --early in a process of its own. */
void early_restore(const struct early *e);

#endif
