/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Extended attributes (ACLs and capabilities among them) of one file: read for an image, set from one. */
#ifndef ATTRIBUTES_H
#define ATTRIBUTES_H

#include <stdint.h>

#include "image/record.h"

struct attributes {
    uint8_t bytes[MAX_XATTR_BYTES]; /* encoded as record.h says */
    uint32_t used;
    int left_out; /* there are attributes of other kinds, which have no place in an image */
    char list[65536];
};

/* Reads the attributes of an open file (fd >= 0) or of a path that is not followed. Returns 0 or an errno; E2BIG: more than
 * an image can hold. */
int attributes_read(struct attributes *a, int fd, const char *path);

/* Sets those of a record on an open file or a path that is not followed. Returns 0 or an errno, and the name that failed. */
int attributes_write(const struct record *r, int fd, const char *path, char failed[MAX_NAME + 1]);

#endif
