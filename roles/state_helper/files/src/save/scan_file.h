/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Feeds single entries of a tree: files, links, fifos and device nodes. s->path is the path of the
 * entry. */
#ifndef SCAN_FILE_H
#define SCAN_FILE_H

#include "save/scan_state.h"

/* Feeds a file, or the item itself if it is a file (record_name ""). */
void scan_file(struct scan *s, int dir, const char *name, const char *record_name);

/* Feeds a symbolic link, a fifo or a device node. */
void scan_special(struct scan *s, int dir, const char *name, const struct stat *st);

/* Starts the record of an entry. */
void scan_fill_record(struct record *r, const struct stat *st, const char *name);

/* Reads the extended attributes into r. Returns 0 after an error, which the item's status shows.
 * path: for an entry that can't be opened (fd -1). */
int scan_add_attributes(struct scan *s, struct record *r, int fd, const char *path);

/* Marks the item as changed if an entry changed between the start of the run and now: the entries
 * read before and after it then don't match. (A time in the future does not count: the clock was
 * set back.) */
void scan_check_fresh(struct scan *s, const struct stat *st);

/* Returns the path for a message, or its end if it is long. */
const char *scan_shown(const char *path);

/* Marks the item after an error of a system call. */
void scan_trouble(struct scan *s, int err, const char *what);

#endif
