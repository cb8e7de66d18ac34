/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Looks at the path of an item before it is scanned. */
#ifndef ITEM_ROOT_H
#define ITEM_ROOT_H

#include "image/run.h"

/* Whether `name` in the directory `dir` is the root of a mount. Returns 0 or an errno. */
int is_mount_root(int fd, const char *name, int *yes);

/* Checks an item's path without reading it: refuses mount points, symbolic links, and everything
 * else that is neither a file nor a directory. The scan reports a path that does not exist. Sets
 * it->kind. */
int item_check_root(struct item *it, struct problem *p);

/* Fills in report.items from the command line. Checks every item, so that the result names each bad
 * one. */
int take_items(struct run *run);

#endif
