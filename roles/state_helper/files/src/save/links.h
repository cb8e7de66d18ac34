/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remembers files that have several names, by device and inode, while a tree is scanned. */
#ifndef LINKS_H
#define LINKS_H

#include <stdint.h>

struct links {
    struct link_entry { uint64_t dev, ino, id; uint32_t left; } *slot;
    uint64_t slots, used, next_id;
};

/* The id of this inode, a new one (*first = 1) when it has not been seen. nlink: how many names it
 * has. 0: out of memory. */
uint64_t links_id(struct links *l, uint64_t dev, uint64_t ino, uint32_t nlink, int *first);
void links_clear(struct links *l);

#endif
