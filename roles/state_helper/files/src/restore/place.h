/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The place of a restored item: it is built beside its path, then renamed to it. */
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

/* Opens the directory above path, and creates missing directories. Removes the remains of a killed
 * restore. Chooses the temporary names. Returns 0 or an errno; *what says what failed. */
int place_open(struct place *pl, const char *path, const char **what);
void place_close(struct place *pl);

/* Renames the finished item to its path and removes the old content. Returns 0, or an errno if
 * nothing was changed: EINTR if a signal asks for the end (base/stop.h). *left: an errno if the old
 * content could not be removed; it then has the temporary name. */
int place_commit(struct place *pl, int *left);

/* Removes what was built so far. */
void place_abandon(struct place *pl);

/* Opens the directory `name` in `dir`. Does not follow a link or enter another file system. Returns
 * -1 and errno on failure. */
int open_child_dir(int dir, const char *name);

/* Removes a file or a whole tree; does not enter mount points. Returns 0 or an errno. */
int remove_tree(int dir, const char *name);

#endif
