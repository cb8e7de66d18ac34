/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Walks the tree of an item and feeds what it finds. Never follows a symbolic link or crosses a
 * mount point. */
#ifndef SCAN_H
#define SCAN_H

#include "save/feed.h"

struct scan;

struct scan *scan_new(struct feed *f); /* NULL: out of memory */
void scan_free(struct scan *s);

/* Scans one item. An error sets the item's status or stops the feed. */
void scan_item(struct scan *s, struct item *it);

#endif
