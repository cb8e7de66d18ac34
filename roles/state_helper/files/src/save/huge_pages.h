/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Huge pages behind the files of a tmpfs. */
#ifndef HUGE_PAGES_H
#define HUGE_PAGES_H

#include <stddef.h>
#include <stdint.h>

int on_tmpfs(int fd);

/* Maps the first bytes of a file for reading, aligned so that a huge page can be mapped as one.
 * Returns NULL on failure. munmap with the same number of bytes undoes it. */
const uint8_t *huge_map(int fd, size_t bytes);

/* Looks at about eight places of a mapped file. Returns 1 if more than half of them have a huge
 * page. */
int huge_pages_in(int fd, const uint8_t *map, uint64_t bytes);

#endif
