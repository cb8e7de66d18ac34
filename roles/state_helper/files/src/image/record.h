/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records: one for each file, directory and link of an item, in the order of a walk through the
 * tree. docs/image-format.md */
#ifndef RECORD_H
#define RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum record_type {
    RECORD_END = 0,   /* the rest of this chunk is empty */
    RECORD_DIR = 1,   /* what follows is inside it, until its RECORD_UP */
    RECORD_UP = 2,
    RECORD_FILE = 3,
    RECORD_SYMLINK = 4,
    RECORD_FIFO = 5,
    RECORD_CHAR = 6,
    RECORD_BLOCK = 7,
    RECORD_LINK = 8,    /* another name of an earlier record with the same link id */
    RECORD_EXTENTS = 9, /* more extents of the file before */
};

enum {
    RECORD_LINKED = 1, /* has a link id: RECORD_LINKs may follow */
    RECORD_MORE = 2,   /* a RECORD_EXTENTS follows */
};

enum {
    RECORD_FIXED = 64,
    EXTENT_BYTES = 24,
    MAX_EXTENTS = 64, /* in one record */
    MAX_RECORD = RECORD_FIXED + 256 + MAX_PATH + 1 + MAX_XATTR_BYTES + 64 + MAX_EXTENTS * EXTENT_BYTES,
};

struct extent {
    uint64_t file_offset, length;
    uint64_t data_offset; /* in the item's data */
};

/* A decoded record. The pointers lead into the encoded bytes; strings are not NUL-terminated
 * there. */
struct record {
    uint32_t length; /* encoded, a multiple of 8 */
    uint8_t type, flags;
    uint32_t mode; /* permission bits, 07777 */
    uint32_t uid, gid;
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint64_t size;    /* RECORD_FILE: bytes; RECORD_CHAR, RECORD_BLOCK: major << 32 | minor */
    uint64_t link_id; /* RECORD_LINKED, RECORD_LINK */
    const char *name;
    uint16_t name_bytes; /* 0: the root of the item */
    const char *target;
    uint16_t target_bytes;
    const uint8_t *xattrs; /* each: u16 name bytes, u16 0, u32 value bytes, name, value, zeros to a multiple of 4 */
    uint32_t xattr_bytes;
    const uint8_t *extents; /* EXTENT_BYTES each */
    uint32_t extent_count;
};

/* Encodes r (extents from ext) at `out`, which has MAX_RECORD bytes. Returns the length. */
uint32_t record_encode(uint8_t *out, const struct record *r, const struct extent *ext);

/* Decodes the record at p, which has at most `left` bytes, and checks the bounds of every field.
 * Returns NULL, or what is wrong. */
const char *record_decode(const uint8_t *p, size_t left, struct record *r);

struct extent record_extent(const struct record *r, uint32_t i);

/* Steps through extended attributes. *at starts at 0. Returns 0 after the last. The list was
 * checked by record_decode. */
struct xattr {
    char name[MAX_NAME + 1];
    const uint8_t *value;
    uint32_t value_bytes;
};
int record_xattr(const struct record *r, uint32_t *at, struct xattr *x);

#endif
