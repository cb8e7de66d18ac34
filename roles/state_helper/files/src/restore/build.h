/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Builds one item from its records. Every name is created relative to an open directory, and links
 * are never followed, so that an image can't write outside of the item. */
#ifndef BUILD_H
#define BUILD_H

#include "restore/build_state.h"

int build_start(struct build *b, struct run *run, struct problem *p);
void build_stop(struct build *b);

/* Restores one item to its path; the outcome is the item's status. A signal (base/stop.h) makes it
 * give up an item that is not in place yet. */
void build_item(struct build *b, struct item *it);

#endif
