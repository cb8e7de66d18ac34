/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restoring the state while the root file system's init starts: it runs on one CPU, and the others have nothing to do. */
#ifndef EARLY_H
#define EARLY_H

enum { EARLY_MOUNTS = 16 };

struct early {
    const char *helper;                  /* NULL: nothing to restore here */
    struct { const char *directory, *options; } mounts[EARLY_MOUNTS];
    int count;
    int incomplete;                      /* a mount that could not be noted: nothing is restored here either */
};

/* A line of the plan: `tmpfs DIRECTORY OPTIONS` or `restore HELPER`; the line is cut up and kept. 0 when it is another one. */
int early_take(struct early *e, char *line);

/* With the root file system at / and nothing of it started: mounts /run and each tmpfs as their units would, which then find them
 * mounted, and starts RESTORE --early in a process of its own. What can't be done is said, and left to hotpmem-restore.service. */
void early_start(const struct early *e);

#endif
