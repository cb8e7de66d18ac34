/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Visits the files of an item without reading them: for work that may leave some of them out. It
 * goes at most 64 directories deep, never follows a symbolic link, enters no mount point, and
 * passes over what it can't read. */
#ifndef WALK_H
#define WALK_H

#include <stdatomic.h>

#include "image/report.h"

/* dir and name are as for openat(2). The file may have been replaced since it was listed. */
typedef void (*walk_visit)(void *context, int dir, const char *name);

/* Visits each regular file until *stop is set. */
void walk_item(const struct item *it, const _Atomic int *stop, walk_visit visit, void *context);

#endif
