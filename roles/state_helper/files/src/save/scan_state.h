/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The structures that the parts of a scan share: scan.c and scan_file.c. */
#ifndef SCAN_STATE_H
#define SCAN_STATE_H

#include <sys/stat.h>
#include <time.h>

#include "image/attributes.h"
#include "save/feed.h"
#include "save/links.h"

enum { DIRENT_BYTES = 64 * KIB };

/* One directory on the way down. */
struct level {
    int fd;              /* -1: closed for now, to be reopened through ".." */
    uint64_t dev, ino;
    struct stat before;  /* to see whether it changed */
    size_t path_bytes;   /* length of its path */
    size_t first, next, end; /* its subdirectories' names in `pending` */
};

struct scan {
    struct feed *feed;
    struct report *report;
    struct item *item;
    struct links links;
    struct timespec start; /* start of the run: later changes happened during the save */
    struct attributes attributes;
    char dirents[DIRENT_BYTES];
    struct level *level;
    int depth, room;  /* levels in use, allocated */
    char *path;       /* of the entry at hand */
    size_t path_room;
    char *pending;    /* NUL-terminated names, a stack */
    size_t pending_used, pending_room;
};

#endif
