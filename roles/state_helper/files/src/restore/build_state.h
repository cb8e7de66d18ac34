/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The structures that the parts of a restore share: build.c, build_file.c and build_work.c. */
#ifndef BUILD_STATE_H
#define BUILD_STATE_H

#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "image/record.h"
#include "image/run.h"
#include "restore/place.h"

/* A directory that is being filled. Its owner, mode, attributes and times are set when the last
 * user is done. */
struct build_dir {
    int fd; /* -1: closed for now, to be reopened through ".." */
    _Atomic int refs;
    uint64_t dev, ino;
    int bare; /* the directory above the item: its owner, mode and times stay unchanged */
    int root;
    struct record record;
    char bytes[]; /* name and attributes of the record */
};

/* A file that is being filled. */
struct build_file {
    int fd; /* -1: not made yet */
    _Atomic int refs;
    int root;
    struct build_dir *dir;
    uint64_t end; /* end of the written part, or of the file if its size is already set */
    struct record record;
    char bytes[];
};

struct build_segment {
    struct build_file *file;
    uint64_t file_offset;
    uint64_t chunk;      /* in the item's data, or NO_CHUNK */
    uint32_t length, at; /* place in the chunk; length 0: only the file is to be made */
};

/* A file of several chunks that waits for its turn. */
struct build_big {
    struct build_file *file;
    struct extent rest;
    uint64_t span; /* bytes of the file's pages, written by one call each; 0: a chunk at a time */
};

enum { BUILD_SEGMENTS = 256, BUILD_JOB_BYTES = 256 * KIB, BUILD_BIGS = 8 };
#define NO_CHUNK UINT64_MAX

struct build_job {
    struct build_job *next;
    uint64_t chunk; /* the only one that its segments lie in, or NO_CHUNK: no chunk, or those of one span */
    uint32_t segments;
    uint32_t bytes; /* memory that its files take */
    struct build_segment segment[BUILD_SEGMENTS];
};

struct build {
    struct run *run;
    struct pool pool;
    uid_t uid; /* of this process: new files have them already */
    gid_t gid;
    pthread_mutex_t lock; /* guards free */
    struct build_job *free;
    struct item *item;
    struct place place;
    struct build_dir **level;
    int depth, room;
    int links; /* descriptor of the directory of link names, -1: not needed yet */
    struct build_job *job;
    struct build_file *file; /* more extents of this file may follow */
    struct build_big big[BUILD_BIGS]; /* written in turn: two threads in one file wait for each other (inode lock) */
    int bigs, turn;
};

#endif
