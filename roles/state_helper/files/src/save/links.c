/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/links.h"

#include <stdlib.h>

static uint64_t slot_of(const struct links *l, uint64_t dev, uint64_t ino)
{
    uint64_t i = (ino * 0x9E3779B97F4A7C15ull ^ dev * 0xC2B2AE3D27D4EB4Full) >> 20;
    for (i &= l->slots - 1; l->slot[i].id; i = (i + 1) & (l->slots - 1))
        if (l->slot[i].ino == ino && l->slot[i].dev == dev)
            break;
    return i;
}

static int grow(struct links *l)
{
    struct links bigger = {.slots = l->slots ? l->slots * 2 : 1024};
    bigger.slot = calloc(bigger.slots, sizeof *bigger.slot);
    if (!bigger.slot)
        return 0;
    /* Drops inodes whose names have all been seen. */
    for (uint64_t i = 0; i < l->slots; i++)
        if (l->slot[i].id && l->slot[i].left) {
            bigger.slot[slot_of(&bigger, l->slot[i].dev, l->slot[i].ino)] = l->slot[i];
            bigger.used++;
        }
    free(l->slot);
    bigger.next_id = l->next_id;
    *l = bigger;
    return 1;
}

uint64_t links_id(struct links *l, uint64_t dev, uint64_t ino, uint32_t nlink, int *first)
{
    if (l->used * 2 >= l->slots && !grow(l))
        return 0;
    struct link_entry *e = &l->slot[slot_of(l, dev, ino)];
    *first = e->id == 0;
    if (*first) {
        *e = (struct link_entry){dev, ino, ++l->next_id, nlink};
        l->used++;
    }
    if (e->left)
        e->left--;
    return e->id;
}

void links_clear(struct links *l)
{
    free(l->slot);
    *l = (struct links){0};
}
