/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which item names, item paths and file names are valid, on the command line as in an image. */
#ifndef PATHS_H
#define PATHS_H

#include <stddef.h>

/* An item name has 1 to 64 of A-Z a-z 0-9 . _ -, and does not begin with a dot or a dash. */
int item_name_ok(const char *name);

/* An item path is absolute, has at least one component and at most MAX_PATH bytes. It has no empty,
 * "." or ".." component, and does not end with a slash. */
int item_path_ok(const char *path);

/* A path component has 1 to 255 bytes, none of them a slash or NUL, and is not "." or "..". */
int component_ok(const char *name, size_t n);

/* Returns whether one path lies inside the other or both are the same. Both are valid item
 * paths. */
int paths_overlap(const char *a, const char *b);

/* Returns the number of bytes before the last slash of a valid item path (0 for "/name"). The name
 * follows the slash. */
size_t parent_length(const char *path);

#endif
