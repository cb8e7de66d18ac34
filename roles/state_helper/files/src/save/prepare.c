/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/prepare.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/now.h"
#include "save/huge_pages.h"
#include "save/item_root.h"
#include "save/source.h"
#include "save/walk.h"

enum { NO_ROOM = 16 }; /* failures in a row for lack of a free huge page, each after the kernel has tried to make one */

struct prepare {
    struct report *report;
    struct item *item;
    dev_t device;      /* of the item: a single file may be a mount point too */
    uint64_t deadline; /* now_ns(), 0: none */
    int no_room;
    _Atomic int stop;
};

static void stop(struct prepare *p, const char *why)
{
    p->report->stopped = why;
    atomic_store(&p->stop, 1);
}

/* Linux 6.1 says that it failed when it has made the huge page of a mapping that nobody has touched
 * (retract_page_tables in mm/khugepaged.c). Asked again, it finds the huge page. */
static int made_huge(const uint8_t *page)
{
    void *at = (void *)(uintptr_t)page;
    return madvise(at, HUGE_PAGE, MADV_COLLAPSE) == 0 || (errno != ENOMEM && madvise(at, HUGE_PAGE, MADV_COLLAPSE) == 0);
}

/* One huge page. The kernel copies the small pages into it, and programs that use one of them wait
 * for that long. It fails where a page is pinned or being written; this changes nothing. */
static void collapse(struct prepare *p, const uint8_t *page)
{
    p->report->bytes += HUGE_PAGE;
    p->item->bytes += HUGE_PAGE;
    if (made_huge(page)) {
        p->report->huge_bytes += HUGE_PAGE;
        p->no_room = 0;
    } else if (errno == ENOMEM && ++p->no_room == NO_ROOM) {
        stop(p, "memory");
    }
}

/* Returns 1 if there is no hole in the huge page at this offset of a file. *data_end: 0 at the
 * first call; remembers where the next hole begins. The offsets must ascend. */
static int without_holes(int fd, uint64_t at, uint64_t *data_end)
{
    if (at + HUGE_PAGE <= *data_end)
        return 1;
    if (lseek(fd, (off_t)at, SEEK_DATA) != (off_t)at)
        return 0;
    off_t hole = lseek(fd, (off_t)at, SEEK_HOLE);
    *data_end = hole > 0 ? (uint64_t)hole : 0;
    return at + HUGE_PAGE <= *data_end;
}

static int time_is_over(struct prepare *p)
{
    if (!p->deadline || now_ns() < p->deadline)
        return 0;
    stop(p, "time");
    return 1;
}

static void prepare_file(void *context, int dir, const char *name)
{
    struct prepare *p = context;
    struct stat st;
    int fd = time_is_over(p) ? -1 : open_quietly(dir, name, 0);
    if (fd < 0)
        return;
    int useful = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == p->device && st.st_size >= HUGE_PAGE && on_tmpfs(fd);
    uint64_t size = useful ? (uint64_t)st.st_size : 0, data_end = 0;
    const uint8_t *map = useful ? huge_map(fd, size) : NULL;
    if (map) {
        p->item->files++;
        for (uint64_t at = 0; at + HUGE_PAGE <= size && !atomic_load(&p->stop); at += HUGE_PAGE) {
            if (!time_is_over(p) && without_holes(fd, at, &data_end)) /* the kernel would fill them */
                collapse(p, map + at);
        }
        munmap((void *)(uintptr_t)map, size);
    }
    close(fd);
}

int verb_prepare(struct run *run)
{
    struct report *r = &run->report;
    struct prepare p = {.report = r};
    struct stat st;
    uint64_t start = now_ns();
    int rc = take_items(run);
    if (rc)
        return rc;
    if (madvise((void *)(uintptr_t)HUGE_PAGE, 0, MADV_COLLAPSE) != 0) /* no bytes: asks whether the kernel knows it */
        return problem_refuse(&r->problem, "unsupported", "the kernel lacks MADV_COLLAPSE, which Linux 6.1 and later have", NULL,
                              "Moving files into huge pages");
    p.deadline = run->options->seconds > 0 ? start + (uint64_t)(run->options->seconds * 1e9) : 0;
    for (int i = 0; i < r->item_count && !atomic_load(&p.stop); i++) {
        p.item = &r->items[i];
        if (lstat(p.item->path, &st) != 0)
            continue;
        p.device = st.st_dev;
        walk_item(p.item, &p.stop, prepare_file, &p);
        p.item->status = ITEM_OK;
    }
    r->has_huge = 1;
    r->seconds = (double)(now_ns() - start) / 1e9;
    return 0;
}
