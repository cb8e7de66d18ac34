/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where a restored item goes: beside its place first, then into it by a rename. */
#ifndef PLACE_H
#define PLACE_H

#include <stddef.h>

#include "base/status.h"

struct place {
    const char *path;
    int parent;              /* descriptor of the directory that the item is in */
    char base[MAX_NAME + 1]; /* the item's own name there */
    char temp[MAX_NAME + 1]; /* .hotpmem-BASE.XXXXXXXX */
    char links[MAX_NAME + 1];/* the same with .links: holds one name of each hard-linked file while building */
};

/* Opens the directory above path, making what is missing; removes what a killed restore left there; chooses the temporary
 * names. Returns 0 or an errno; *what says what failed. */
int place_open(struct place *pl, const char *path, const char **what);
void place_close(struct place *pl);

/* Renames the finished item into place and removes what was there. Returns 0 or an errno: then nothing was changed.
 * *left: what was there before could not be removed and lies under the temporary name (an errno, or 0). */
int place_commit(struct place *pl, int *left);

/* Removes what was built so far. */
void place_abandon(struct place *pl);

/* Opens a directory below `dir` by one name: no link, no other file system. -1 and errno when not. */
int open_child_dir(int dir, const char *name);

/* Removes a file or a whole tree; does not enter mount points. Returns 0 or an errno. */
int remove_tree(int dir, const char *name);

#endif
