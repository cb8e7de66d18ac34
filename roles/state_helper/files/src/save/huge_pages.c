/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/huge_pages.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/guard.h"
#include "base/status.h"

enum { PLACES = 8 };

int on_tmpfs(int fd)
{
    struct statfs s;
    return fstatfs(fd, &s) == 0 && s.f_type == TMPFS_MAGIC;
}

/* The kernel itself aligns only mappings of a tmpfs that is mounted with huge=. */
const uint8_t *huge_map(int fd, size_t bytes)
{
    char *room = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)room % HUGE_PAGE), used = (bytes + BLOCK - 1) / BLOCK * BLOCK;
    char *map = mmap(room + before, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (map == MAP_FAILED) {
        munmap(room, bytes + HUGE_PAGE);
        return NULL;
    }
    if (before)
        munmap(room, before);
    munmap(map + used, (size_t)(room + bytes + HUGE_PAGE - (map + used)));
    return (const uint8_t *)map;
}

static long faults(void)
{
    struct rusage use;
    return getrusage(RUSAGE_THREAD, &use) == 0 ? use.ru_minflt + use.ru_majflt : 0;
}

/* Touching one byte maps the whole of a huge page, but only some neighbours of a small one. So a
 * second touch, 1 MiB further on, is a fault only with small pages. AddressSanitizer would add its
 * own faults. */
__attribute__((no_sanitize("address"))) static int is_huge(const volatile uint8_t *page)
{
    sigjmp_buf env;
    if (!GUARD_BEGIN(env))
        return 0;
    (void)page[0];
    long before = faults();
    (void)page[MIB];
    int huge = faults() == before;
    GUARD_END();
    return huge;
}

static int is_data(int fd, uint64_t at) { return lseek(fd, (off_t)at, SEEK_DATA) == (off_t)at; }

int huge_pages_in(int fd, const uint8_t *map, uint64_t bytes)
{
    uint64_t pages = bytes / HUGE_PAGE, step = pages > PLACES ? pages / PLACES : 1;
    int looked = 0, huge = 0;
    for (uint64_t at = 0; at < pages * HUGE_PAGE; at += step * HUGE_PAGE)
        if (is_data(fd, at) && is_data(fd, at + MIB)) { /* a touch would fill a hole */
            looked++;
            huge += is_huge(map + at);
        }
    return huge * 2 > looked;
}
