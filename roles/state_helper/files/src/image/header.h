/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The header of an image. The structure has the same bytes as the device (little endian):
 * docs/image-format.md. */
#ifndef HEADER_H
#define HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/device.h"
#include "base/problem.h"
#include "base/status.h"

enum { FORMAT_VERSION = 1, HEADER_COPIES = 2, MAX_MARKS = 32 };
enum { HEADER_CONSUMED = 1 }; /* flags: every item that can be restored has been */

struct mark {
    uint32_t id;
    uint32_t zero;
    uint64_t cycles;
};

struct header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes; /* 4096 */
    uint64_t sequence;     /* higher is newer */
    uint32_t flags;
    uint32_t chunk_bytes;  /* power of two, 256 KiB to 4 MiB */
    uint8_t machine_id[16];
    uint8_t boot_id[16];          /* of the boot that saved */
    uint8_t consumed_boot_id[16]; /* of the boot that last restored an item */
    char kernel[64];              /* of the boot that saved; NUL-padded */
    uint64_t device_bytes;
    int64_t saved_unix_ns;
    uint64_t table_offset, table_bytes, table_sum;
    uint32_t item_count;
    uint32_t zero0;
    uint64_t meta_chunks, data_chunks; /* entries in the table */
    uint64_t bytes, files;             /* of the items that can be restored: logical bytes, entries */
    uint64_t stored_bytes;             /* payload bytes */
    uint64_t zero_chunks;
    uint8_t consumed[MAX_ITEMS / 8]; /* bit i: item i has been restored */
    uint64_t cycles_per_second;      /* 0: unknown */
    uint32_t mark_count;
    uint32_t zero1;
    struct mark marks[MAX_MARKS];
    uint8_t zero2[4096 - 8 - 800];
    uint64_t sum; /* hash64 of all bytes before it */
};
_Static_assert(sizeof(struct header) == 4096, "a header copy is one 4 KiB block");
_Static_assert(offsetof(struct header, sum) == 4088, "the sum covers everything before it");

/* Reads both copies, and fills in h from the valid one with the highest sequence. Returns 0,
 * EXIT_NO_IMAGE, EXIT_DAMAGED or EXIT_SYSTEM; p says why. The numbers in h are checked against the
 * device. */
int header_load(struct device *d, struct header *h, struct problem *p);

/* Tells what is on a device without an image. "zeros": both header copies and the start of the
 * payload are zero, which is not so after any save that finished. "other": anything else. NULL: it
 * can't be read. */
const char *header_content(struct device *d);

/* Zeroes both copies and flushes. The device then does not hold an image. */
int header_invalidate(struct device *d, struct problem *p);

/* Computes the checksum of h and writes both copies, flushing after each. */
int header_store(struct device *d, struct header *h, struct problem *p);

void header_init(struct header *h);
int header_consumed(const struct header *h, int item); /* 0 for an item that the image does not contain */
int header_any_consumed(const struct header *h);

/* Sets a mark, and replaces an earlier one with the same number. Returns 0 if the header is
 * full. */
int header_set_mark(struct header *h, uint32_t id, uint64_t cycles);

char *hex_id(char out[33], const uint8_t id[16]);   /* 32 digits, as /etc/machine-id */
char *hex_uuid(char out[37], const uint8_t id[16]); /* with dashes, as /proc/sys/kernel/random/boot_id */

#endif
