/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs pmem-state many times inside this process, in a temporary directory in memory.
 * For mutate.c and fuzz.c. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stddef.h>
#include <stdint.h>

#include "command.h"

enum { IMAGE_BYTES = 3 << 20, ITEMS = 3 };
extern const char *const item_names[ITEMS]; /* "a": a tree, "b": a file, "c": a small file */

struct harness {
    char dir[96]; /* holds device, src/{a,b,c} and out/{a,b,c} */
    char device[128];
    int whole; /* the device has all its pages: on a tmpfs with huge ones it is mapped then, as a dax device is */
    struct command command; /* of the last run */
};

/* Works in a new directory of parent; NULL: of /dev/shm, with small pages. */
void harness_start(struct harness *h, const char *parent);
void harness_end(struct harness *h);

/* Writes the sources of generation 1 or 2 over the old ones. Sizes are divided by `shrink`. */
void harness_sources(struct harness *h, int generation, unsigned shrink);

/* Saves the sources; reads the device into image (IMAGE_BYTES). */
void harness_save(struct harness *h, uint8_t *image);

/* Writes a new device of `bytes` with the headers and the payload of the image up to `used`. */
void harness_device(struct harness *h, const uint8_t *image, size_t used, size_t bytes);

/* Restores all three items below out/. Returns the exit code, and ends the process when anything
 * else appeared or changed. */
int harness_restore(struct harness *h);
int harness_verify(struct harness *h);
void harness_clean(struct harness *h); /* empties out/, frees what the last run left */

/* A digest of everything a copy has to keep. 0: there is nothing. */
uint64_t harness_digest(struct harness *h, const char *where, int item);

/* Says what went wrong and aborts. */
void harness_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
