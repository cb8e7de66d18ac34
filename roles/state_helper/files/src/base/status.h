/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Exit codes, and the limits that every other file refers to. */
#ifndef STATUS_H
#define STATUS_H

#define PMEM_STATE_VERSION "0.1.0"

enum exit_code {
    EXIT_DONE = 0,    /* everything asked for was done */
    EXIT_USAGE = 1,   /* the command line or the item list is wrong */
    EXIT_SYSTEM = 2,  /* the system refused something: I/O, memory, permission */
    EXIT_NO_IMAGE = 3,
    EXIT_DAMAGED = 4, /* the image, or every item asked for, is damaged */
    EXIT_REFUSED = 5, /* foreign, consumed, unrestored, does not fit, in use, differs, mount point */
    EXIT_PARTIAL = 6, /* some items done, some not */
};

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    BLOCK = 4096,             /* alignment of everything on the device, bytes */
    HUGE_PAGE = 2 * MIB,
    PAYLOAD_START = 2 * MIB,  /* first payload byte on the device */
    MAX_ITEMS = 256,
    MAX_ITEM_NAME = 64,       /* bytes */
    MAX_NAME = 255,           /* bytes of one path component (Linux NAME_MAX) */
    MAX_PATH = 4095,          /* bytes of an item path or a symlink target */
    MAX_DEPTH = 16384,        /* directories inside one another */
    MAX_XATTR_BYTES = 96 * KIB, /* names and values of one file together: a record must fit in one chunk */
    MAX_THREADS = 64,
};

#endif
