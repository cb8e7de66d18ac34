/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Takes the records and extents that a scan finds, packs them into chunks, and saves, compares or
 * counts each chunk. */
#ifndef FEED_H
#define FEED_H

#include <stdatomic.h>
#include <stdint.h>

#include "image/record.h"
#include "image/run.h"
#include "save/source.h"

enum feed_mode { FEED_SAVE, FEED_COMPARE, FEED_PLAN };

enum { INLINE_MAX = 16 * KIB }; /* files up to this size are read by the scanning thread itself */

struct segment {
    struct source *source;
    uint64_t file_offset;
    uint32_t length, at; /* place in the chunk */
};

/* One chunk of data on its way. */
struct feed_job {
    struct feed_job *next;
    struct item *item;
    uint64_t index;      /* in the item's data */
    struct chunk *entry; /* FEED_SAVE: where to note place and sum */
    uint32_t length;     /* bytes on the device */
    uint32_t segments;
    uint8_t *buffer;     /* holds small files already, zeros elsewhere; used only when has_inline */
    int has_inline;
    uint32_t inline_bytes; /* of small files in buffer, counted in reports already */
    struct segment segment[];
};

struct feed {
    struct run *run;
    enum feed_mode mode;
    struct pool pool;
    pthread_mutex_t lock; /* guards free */
    struct feed_job *free;
    uint32_t chunk_bytes;
    struct chunk_list meta, data;
    _Atomic uint64_t next;  /* device offset of the next chunk */
    uint64_t capacity;      /* device bytes */
    _Atomic int stop;       /* the whole run ends: report.problem says why */
    struct item *item;
    uint8_t *meta_buffer;
    uint32_t meta_used;
    uint64_t meta_bytes, data_bytes; /* of this item, so far */
    struct feed_job *job;
    uint8_t record[MAX_RECORD];
};

int feed_start(struct feed *f, struct run *run, enum feed_mode mode, struct problem *p);
void feed_stop(struct feed *f);

/* For each item: feed_begin, then what the scan finds, then feed_end, also after a failure. */
void feed_begin(struct feed *f, struct item *it);
void feed_end(struct feed *f);

void feed_record(struct feed *f, const struct record *r, const struct extent *ext);
uint64_t feed_place(struct feed *f, uint64_t length); /* where in the data the next extent goes */

/* Submits an extent that feed_place placed. Takes its own references to the source. */
void feed_extent(struct feed *f, struct source *s, const struct extent *e);

/* Returns whether the rest of this item should be skipped. */
int feed_over(const struct feed *f);

#endif
