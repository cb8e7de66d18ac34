/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of an image: its items, and the offset and checksum of every chunk.
 * docs/image-format.md */
#ifndef TABLE_H
#define TABLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "image/header.h"
#include "image/layout.h"
#include "image/report.h"

struct chunk {
    uint64_t offset; /* on the device; 0: the chunk is all zero and not stored */
    uint64_t sum;
};

/* A growing list of chunks. One thread appends; others may fill in the entries they were given at
 * the same time. */
struct chunk_list {
    struct chunk *part[MAX_CHUNKS / 4096];
    uint64_t count;
};

int chunk_list_append(struct chunk_list *l); /* 0, or ENOMEM, or ENOSPC at MAX_CHUNKS */
struct chunk *chunk_list_at(struct chunk_list *l, uint64_t i);
void chunk_list_free(struct chunk_list *l);

/* Bytes that chunk `index` of a run of `total` bytes takes on the device: a whole chunk, or the
 * rest rounded up to BLOCK. */
uint64_t chunk_length(uint64_t total, uint64_t index, uint32_t chunk_bytes);
uint64_t chunk_count(uint64_t total, uint32_t chunk_bytes);

/* The chunk size for a device: the smallest whose table stays within MAX_CHUNKS. */
uint32_t chunk_bytes_for(uint64_t device_bytes);

/* A table in memory. */
struct table {
    uint8_t *raw; /* as on the device; owned */
    uint64_t bytes;
    const uint8_t *chunks; /* CHUNK_ENTRY each: meta chunks, then data chunks */
    uint64_t meta_chunks, data_chunks;
    uint64_t end; /* payload ends here: the table's own offset */
};

/* Reads, verifies and parses the table; fills in r->items (status ITEM_PENDING, or
 * ITEM_CHANGED/ITEM_FAILED as stored). */
int table_load(struct device *d, const struct header *h, struct table *t, struct report *r, struct problem *p);

/* Builds the table of the items in r. Returns 0 or ENOMEM. */
int table_build(struct table *t, const struct report *r, struct chunk_list *meta, struct chunk_list *data);
uint64_t table_size(const struct report *r, uint64_t chunks);
void table_free(struct table *t);

/* Reads the entry of one chunk of an item. Returns 0 if the chunk does not lie inside the
 * payload. */
int table_meta_chunk(const struct table *t, const struct item *it, uint64_t index, uint64_t length, struct chunk *c);
int table_data_chunk(const struct table *t, const struct item *it, uint64_t index, uint64_t length, struct chunk *c);

#endif
