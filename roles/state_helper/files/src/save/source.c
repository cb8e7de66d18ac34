/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "save/huge_pages.h"

int open_quietly(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(dir, name, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return fd;
}

/* Mapping a file saves a copy by the kernel, but needs page tables. That is faster with huge pages
 * and slower with small ones, unless the device is written from the mapping too
 * (docs/measurements.md). A tmpfs that gives its files huge pages shows them as its block size. On
 * any other tmpfs, a file may have got them later (verb prepare). */
static const uint8_t *map_source(int fd, const struct stat *st, int direct)
{
    int known = st->st_blksize >= HUGE_PAGE || direct;
    if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size < HUGE_PAGE || (!known && !on_tmpfs(fd)))
        return NULL;
    const uint8_t *m = huge_map(fd, (size_t)st->st_size);
    if (m && !known && !huge_pages_in(fd, m, (uint64_t)st->st_size)) {
        munmap((void *)(uintptr_t)m, (size_t)st->st_size);
        return NULL;
    }
    return m;
}

struct source *source_new(int fd, const struct stat *st, struct item *it, const char *path, int direct)
{
    size_t path_bytes = strlen(path) + 1;
    struct source *s = malloc(sizeof *s + path_bytes);
    if (!s)
        return NULL;
    s->fd = fd;
    atomic_store(&s->refs, 1);
    s->map = map_source(fd, st, direct);
    s->size = (uint64_t)st->st_size;
    s->mtime_s = st->st_mtim.tv_sec;
    s->mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
    s->ctime_s = st->st_ctim.tv_sec;
    s->ctime_ns = (uint32_t)st->st_ctim.tv_nsec;
    s->item = it;
    memcpy(s->path, path, path_bytes);
    return s;
}

void source_release(struct report *r, struct source *s)
{
    struct stat st;
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    if (fstat(s->fd, &st) != 0)
        item_mark(r, s->item, ITEM_FAILED, errno, "checking %s for changes failed: %s", s->path, strerror(errno));
    else if ((uint64_t)st.st_size != s->size || st.st_mtim.tv_sec != s->mtime_s || st.st_ctim.tv_sec != s->ctime_s ||
             (uint32_t)st.st_mtim.tv_nsec != s->mtime_ns || (uint32_t)st.st_ctim.tv_nsec != s->ctime_ns)
        item_mark(r, s->item, ITEM_CHANGED, 0, "%s changed while it was being copied: stop the programs that write to it first", s->path);
    if (s->map)
        munmap((void *)(uintptr_t)s->map, s->size);
    close(s->fd);
    free(s);
}
