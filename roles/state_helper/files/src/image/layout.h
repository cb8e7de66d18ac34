/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes and limits that the header and the table of an image share. docs/image-format.md */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "base/status.h"

enum {
    MIN_CHUNK = 256 * KIB,
    MAX_CHUNK = 4 * MIB,
    MAX_CHUNKS = 1 << 19,
    CHUNK_ENTRY = 16, /* u64 offset (0: all zero), u64 sum */
    ITEM_ENTRY = 64,  /* fixed part; name and path follow, padded to 8 */
    MAX_TABLE = MAX_CHUNKS * CHUNK_ENTRY + MAX_ITEMS * (ITEM_ENTRY + MAX_ITEM_NAME + MAX_PATH + 8) / BLOCK * BLOCK + BLOCK,
};

#endif
