/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reads the records of an item from the image, one after another, and checks that they make sense
 * together. */
#ifndef READER_H
#define READER_H

#include "image/record.h"
#include "image/run.h"

struct reader {
    struct run *run;
    const struct item *item;
    uint8_t *buffer;       /* one chunk of records, a private copy */
    uint64_t chunk, used, length;
    int depth;             /* directories that are open */
    int started;           /* the root has been read */
    int more;              /* extents have to follow */
    uint64_t data_end;     /* of the extents so far, in the item's data */
    uint64_t file_end, file_size;
    const char *bad;       /* what is wrong, when reader_next returned -1 */
};

void reader_start(struct reader *rd, struct run *run, const struct item *it, uint8_t *buffer);

/* 1: *r is the next record, valid until the next call; 0: the item is complete; -1: damaged,
 * rd->bad says why. */
int reader_next(struct reader *rd, struct record *r);

#endif
