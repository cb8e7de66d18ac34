/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which item names, item paths and file names are acceptable, whoever wrote them. */
#ifndef PATHS_H
#define PATHS_H

#include <stddef.h>

/* 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot or a dash. */
int item_name_ok(const char *name);

/* Absolute, at least one component, no empty, "." or ".." component, no slash at the end, at most MAX_PATH bytes. */
int item_path_ok(const char *path);

/* One path component of n bytes: not empty, not "." or "..", no slash, no NUL, at most 255 bytes. */
int component_ok(const char *name, size_t n);

/* Whether one path lies inside the other or is the same. Both item_path_ok. */
int paths_overlap(const char *a, const char *b);

/* Bytes of the path before its last slash (0 for "/name"), the name follows the slash. item_path_ok. */
size_t parent_length(const char *path);

#endif
