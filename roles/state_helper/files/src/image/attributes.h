/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Extended attributes of one file, including ACLs and capabilities: read for an image, set from
 * one. */
#ifndef ATTRIBUTES_H
#define ATTRIBUTES_H

#include <stdint.h>

#include "image/record.h"

struct attributes {
    uint8_t bytes[MAX_XATTR_BYTES]; /* encoded as record.h says */
    uint32_t used;
    int left_out; /* the file has attributes of other kinds, which an image does not store */
    char list[65536];
};

/* Reads the attributes of an open file (fd >= 0), or of a path without following a link. Returns 0
 * or an errno; E2BIG: more than an image can hold. */
int attributes_read(struct attributes *a, int fd, const char *path);

/* Sets the attributes of a record on an open file, or on a path without following a link. Returns 0
 * or an errno, and the name that failed. */
int attributes_write(const struct record *r, int fd, const char *path, char failed[MAX_NAME + 1]);

#endif
