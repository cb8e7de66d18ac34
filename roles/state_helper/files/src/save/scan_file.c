/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/scan_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/paths.h"
#include "save/item_root.h"

enum { MESSAGE_PATH = 600 }; /* bytes of a path that a message shows */

const char *scan_shown(const char *path)
{
    size_t n = strlen(path);
    return n > MESSAGE_PATH ? path + n - MESSAGE_PATH : path;
}

void scan_trouble(struct scan *s, int err, const char *what)
{
    /* These errors mean that an entry was removed or replaced since it was listed: a change, not a
     * failure. */
    enum item_status status = (err == ENOENT && s->depth > 0) || err == ESTALE || err == ELOOP || err == ENXIO ? ITEM_CHANGED : ITEM_FAILED;
    item_mark(s->report, s->item, status, err, "%s %s failed: %s", what, scan_shown(s->path), strerror(err));
}

/* fstat of an open file, and whether it is the root of a mount, in one call. 0 or an errno. */
static int look(int fd, struct stat *st, int *mount)
{
    struct statx x;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) != 0)
        return errno;
    *st = (struct stat){.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor), .st_ino = x.stx_ino, .st_mode = x.stx_mode,
                        .st_nlink = x.stx_nlink, .st_uid = x.stx_uid, .st_gid = x.stx_gid, .st_size = (off_t)x.stx_size,
                        .st_blksize = (blksize_t)x.stx_blksize, .st_blocks = (blkcnt_t)x.stx_blocks,
                        .st_mtim = {x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec},
                        .st_ctim = {x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec}};
    *mount = (x.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    return 0;
}

static int later(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

void scan_check_fresh(struct scan *s, const struct stat *st)
{
    struct timespec now;
    if (!later(&st->st_ctim, &s->start))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!later(&st->st_ctim, &now))
        item_mark(s->report, s->item, ITEM_CHANGED, 0,
                  "%s changed while the item was being copied: stop the programs that write to it first", scan_shown(s->path));
}

void scan_fill_record(struct record *r, const struct stat *st, const char *name)
{
    *r = (struct record){.mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid, .name = name,
                         .name_bytes = (uint16_t)strlen(name), .mtime_s = st->st_mtim.tv_sec,
                         .mtime_ns = (uint32_t)st->st_mtim.tv_nsec};
}

int scan_add_attributes(struct scan *s, struct record *r, int fd, const char *path)
{
    int err = attributes_read(&s->attributes, fd, path);
    if (err == E2BIG)
        item_mark(s->report, s->item, ITEM_FAILED, err,
                  "%s has more than 96 KiB of extended attributes, which is more than an image can hold", scan_shown(s->path));
    else if (err)
        scan_trouble(s, err, "reading the extended attributes of");
    if (s->attributes.left_out)
        report_left_out(s->report, s->path, "extended attribute");
    r->xattrs = s->attributes.bytes;
    r->xattr_bytes = s->attributes.used;
    return err == 0;
}

/* Gives r its link ID. Returns 1 if the caller must write the record, 0 if it was an additional
 * name (already written) or if it failed. */
static int add_link(struct scan *s, struct record *r, const struct stat *st)
{
    int first = 0;
    if (st->st_nlink < 2 || r->name_bytes == 0)
        return 1;
    r->link_id = links_id(&s->links, st->st_dev, st->st_ino, (uint32_t)st->st_nlink, &first);
    if (r->link_id == 0) {
        item_mark(s->report, s->item, ITEM_FAILED, ENOMEM, "out of memory");
        return 0;
    }
    r->flags |= RECORD_LINKED;
    if (first)
        return 1;
    struct record link = {.type = RECORD_LINK, .link_id = r->link_id, .name = r->name, .name_bytes = r->name_bytes};
    feed_record(s->feed, &link, NULL);
    return 0;
}

/* Finds the next run of data at or after *at. Returns 1 and sets *e, or 0 at the end of the
 * file. */
static int next_data(const struct source *src, int sparse, uint64_t at, struct extent *e)
{
    if (at >= src->size)
        return 0;
    *e = (struct extent){at, src->size - at, 0};
    if (!sparse)
        return 1;
    off_t data = lseek(src->fd, (off_t)at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return 0;
    off_t hole = data < 0 ? -1 : lseek(src->fd, data, SEEK_HOLE);
    if (data < 0 || hole <= data || (uint64_t)data >= src->size)
        return 1; /* the file system does not report holes, or the file just changed: read all of it */
    e->file_offset = (uint64_t)data;
    e->length = ((uint64_t)hole < src->size ? (uint64_t)hole : src->size) - (uint64_t)data;
    return 1;
}

/* Writes the records of an open file and hands over its data. */
static void feed_file(struct scan *s, struct record *r, struct source *src, int sparse)
{
    struct extent ext[MAX_EXTENTS], e;
    uint64_t at = 0;
    int more = next_data(src, sparse, 0, &e);
    r->type = RECORD_FILE;
    r->size = src->size;
    do {
        uint32_t n = 0;
        while (more && n < MAX_EXTENTS) {
            e.data_offset = feed_place(s->feed, e.length);
            ext[n++] = e;
            at = e.file_offset + e.length;
            more = next_data(src, sparse, at, &e);
        }
        r->extent_count = n;
        r->flags = (uint8_t)((r->flags & ~RECORD_MORE) | (more ? RECORD_MORE : 0));
        feed_record(s->feed, r, ext);
        for (uint32_t i = 0; i < n; i++)
            feed_extent(s->feed, src, &ext[i]);
        *r = (struct record){.type = RECORD_EXTENTS};
    } while (more && !feed_over(s->feed));
}

void scan_file(struct scan *s, int dir, const char *name, const char *record_name)
{
    struct stat st = {0};
    struct record r;
    const char *path = scan_shown(s->path);
    struct source *src = NULL;
    int mount = 0, fd = open_quietly(dir, name, 0);
    int err = fd < 0 ? errno : look(fd, &st, &mount);
    if (!err && !mount) {
        src = source_new(fd, &st, s->item, path, s->feed->mode == FEED_SAVE && !s->feed->run->device.map);
        err = src ? 0 : ENOMEM;
    }
    if (!src) {
        if (mount)
            report_left_out(s->report, s->path, "mount point");
        else
            scan_trouble(s, err, "opening");
        if (fd >= 0)
            close(fd);
        return;
    }
    scan_fill_record(&r, &st, record_name);
    scan_check_fresh(s, &st);
    if (!S_ISREG(st.st_mode))
        item_mark(s->report, s->item, ITEM_CHANGED, 0, "%s was replaced by something that is not a file while it was being copied", path);
    else if (add_link(s, &r, &st) && scan_add_attributes(s, &r, fd, NULL))
        feed_file(s, &r, src, (uint64_t)st.st_blocks * 512 < src->size);
    source_release(s->report, src);
}

void scan_special(struct scan *s, int dir, const char *name, const struct stat *st)
{
    char target[MAX_PATH + 1], by_fd[64 + MAX_NAME];
    struct record r;
    scan_fill_record(&r, st, name);
    scan_check_fresh(s, st);
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dir, name, target, sizeof target);
        if (n <= 0 || n > MAX_PATH) {
            scan_trouble(s, n < 0 ? errno : ENAMETOOLONG, "reading the symbolic link");
            return;
        }
        r.type = RECORD_SYMLINK;
        r.target = target;
        r.target_bytes = (uint16_t)n;
    } else {
        r.type = S_ISFIFO(st->st_mode) ? RECORD_FIFO : S_ISCHR(st->st_mode) ? RECORD_CHAR : RECORD_BLOCK;
        r.size = S_ISFIFO(st->st_mode) ? 0 : (uint64_t)major(st->st_rdev) << 32 | minor(st->st_rdev);
    }
    /* The attributes of these can't be read by descriptor. The path through /proc does not follow
     * the last name. */
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d/%s", dir, name);
    if (add_link(s, &r, st) && scan_add_attributes(s, &r, -1, by_fd))
        feed_record(s->feed, &r, NULL);
}
