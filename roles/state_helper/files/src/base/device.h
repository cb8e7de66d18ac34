/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The device that holds an image: a pmem block device (O_DIRECT), a dax character device (mmap) or
 * a file. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/problem.h"

enum device_kind { DEVICE_BLOCK, DEVICE_DAX, DEVICE_FILE };
enum device_use {
    DEVICE_LOOK,  /* read the header; always allowed */
    DEVICE_READ,  /* read the payload; refused while another process writes */
    DEVICE_WRITE, /* write; refused while another process reads or writes */
};

struct device {
    const char *path;
    enum device_kind kind;
    int fd;
    int writable;
    uint64_t bytes;
    uint8_t *map;  /* the whole device; NULL: use pread and pwrite */
    int numa_node; /* -1: unknown */
};

int device_open(struct device *d, const char *path, enum device_use use, struct problem *p);
void device_close(struct device *d);
const char *device_kind_name(enum device_kind kind);

/* Reads or writes len bytes at off. off, len and the address of buf are multiples of BLOCK; the
 * caller has checked that the range lies inside the device. Returns 0 or an errno. */
int device_read(struct device *d, void *buf, size_t len, uint64_t off);
int device_write(struct device *d, const void *buf, size_t len, uint64_t off);

/* The same, and returns the checksum of the written bytes in *sum. */
int device_write_sum(struct device *d, const void *buf, size_t len, uint64_t off, uint64_t *sum);

/* Makes the range readable at *view (in the mapping, or in buf) and computes its checksum. Returns
 * 0 or an errno. */
int device_view(struct device *d, void *buf, size_t len, uint64_t off, const uint8_t **view, uint64_t *sum);

/* Makes everything written so far survive a reset. Returns 0 or an errno. */
int device_flush(struct device *d);

#endif
