/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file that is being read. It is checked for changes and closed with the last reference. */
#ifndef SOURCE_H
#define SOURCE_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>

#include "image/report.h"

struct source {
    int fd;
    _Atomic int refs;
    const uint8_t *map; /* the whole file, or NULL. Access it only under the guard. */
    uint64_t size;
    int64_t mtime_s, ctime_s;
    uint32_t mtime_ns, ctime_ns;
    struct item *item;
    char path[]; /* for messages; may be cut short */
};

/* Opens a file or directory for reading without touching its access time where that is allowed. */
int open_quietly(int dir, const char *name, int flags);

/* Takes over fd, which st describes. direct: the device reads the bytes from the mapping, without a
 * copy through the page cache. Returns NULL if memory is exhausted; fd is then still open. */
struct source *source_new(int fd, const struct stat *st, struct item *it, const char *path, int direct);

void source_release(struct report *r, struct source *s);

#endif
