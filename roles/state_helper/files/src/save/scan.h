/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Walks an item's tree and feeds what it finds. Never follows a symbolic link, never crosses a mount point. */
#ifndef SCAN_H
#define SCAN_H

#include "save/feed.h"

struct scan;

struct scan *scan_new(struct feed *f); /* NULL: out of memory */
void scan_free(struct scan *s);

/* Scans one item; trouble ends up in the item's status or stops the feed. */
void scan_item(struct scan *s, struct item *it);

#endif
