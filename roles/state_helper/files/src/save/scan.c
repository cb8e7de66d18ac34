/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/paths.h"
#include "image/attributes.h"
#include "save/item_root.h"
#include "save/links.h"

enum {
    DIRENT_BYTES = 64 * KIB,
    OPEN_LEVELS = 128,        /* directories that stay open above the current one */
    MAX_PENDING = 12 * MIB,   /* names of directories that are still to be walked */
    MESSAGE_PATH = 600,       /* bytes of a path that a message shows */
};

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

struct scan *scan_new(struct feed *f)
{
    struct scan *s = calloc(1, sizeof *s);
    if (s) {
        s->feed = f;
        s->report = &f->run->report;
        clock_gettime(CLOCK_REALTIME, &s->start);
    }
    return s;
}

void scan_free(struct scan *s)
{
    if (!s)
        return;
    free(s->level);
    free(s->path);
    free(s->pending);
    free(s);
}

/* Returns the path for a message, or its end if it is long. */
static const char *shown(const char *path)
{
    size_t n = strlen(path);
    return n > MESSAGE_PATH ? path + n - MESSAGE_PATH : path;
}

static void trouble(struct scan *s, int err, const char *what)
{
    /* These errors mean that an entry was removed or replaced since it was listed: a change, not a
     * failure. */
    enum item_status status = (err == ENOENT && s->depth > 0) || err == ESTALE || err == ELOOP || err == ENXIO ? ITEM_CHANGED : ITEM_FAILED;
    item_mark(s->report, s->item, status, err, "%s %s failed: %s", what, shown(s->path), strerror(err));
}

static int grow(void **p, size_t *room, size_t need)
{
    if (need <= *room)
        return 1;
    size_t n = *room ? *room : 4096;
    while (n < need)
        n *= 2;
    void *q = realloc(*p, n);
    if (!q)
        return 0;
    *p = q;
    *room = n;
    return 1;
}

/* path = the level's path + "/" + name */
static int set_path(struct scan *s, size_t base, const char *name)
{
    size_t n = strlen(name);
    if (!grow((void **)&s->path, &s->path_room, base + n + 2)) {
        item_mark(s->report, s->item, ITEM_FAILED, ENOMEM, "out of memory");
        return 0;
    }
    s->path[base] = '/';
    memcpy(s->path + base + 1, name, n + 1);
    return 1;
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

static int same_times(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int later(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* Marks the item as changed if an entry changed between the start of the run and now: the entries
 * read before and after it then don't match. (A time in the future does not count: the clock was
 * set back.) */
static void check_fresh(struct scan *s, const struct stat *st)
{
    struct timespec now;
    if (!later(&st->st_ctim, &s->start))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!later(&st->st_ctim, &now))
        item_mark(s->report, s->item, ITEM_CHANGED, 0,
                  "%s changed while the item was being copied: stop the programs that write to it first", shown(s->path));
}

static void fill_record(struct record *r, const struct stat *st, const char *name)
{
    *r = (struct record){.mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid, .name = name,
                         .name_bytes = (uint16_t)strlen(name), .mtime_s = st->st_mtim.tv_sec,
                         .mtime_ns = (uint32_t)st->st_mtim.tv_nsec};
}

/* Reads the extended attributes into r. Returns 0 after an error, which the item's status shows. */
static int add_attributes(struct scan *s, struct record *r, int fd, const char *path)
{
    int err = attributes_read(&s->attributes, fd, path);
    if (err == E2BIG)
        item_mark(s->report, s->item, ITEM_FAILED, err,
                  "%s has more than 96 KiB of extended attributes, which is more than an image can hold", shown(s->path));
    else if (err)
        trouble(s, err, "reading the extended attributes of");
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

static void scan_file(struct scan *s, int dir, const char *name, const char *record_name)
{
    struct stat st = {0};
    struct record r;
    const char *path = shown(s->path);
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
            trouble(s, err, "opening");
        if (fd >= 0)
            close(fd);
        return;
    }
    fill_record(&r, &st, record_name);
    check_fresh(s, &st);
    if (!S_ISREG(st.st_mode))
        item_mark(s->report, s->item, ITEM_CHANGED, 0, "%s was replaced by something that is not a file while it was being copied", path);
    else if (add_link(s, &r, &st) && add_attributes(s, &r, fd, NULL))
        feed_file(s, &r, src, (uint64_t)st.st_blocks * 512 < src->size);
    source_release(s->report, src);
}

/* Symbolic links, fifos and device nodes. */
static void scan_special(struct scan *s, int dir, const char *name, const struct stat *st)
{
    char target[MAX_PATH + 1], by_fd[64 + MAX_NAME];
    struct record r;
    fill_record(&r, st, name);
    check_fresh(s, st);
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dir, name, target, sizeof target);
        if (n <= 0 || n > MAX_PATH) {
            trouble(s, n < 0 ? errno : ENAMETOOLONG, "reading the symbolic link");
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
    if (add_link(s, &r, st) && add_attributes(s, &r, -1, by_fd))
        feed_record(s->feed, &r, NULL);
}

static int remember_directory(struct scan *s, const char *name)
{
    size_t n = strlen(name) + 1;
    if (s->pending_used + n > MAX_PENDING) {
        item_mark(s->report, s->item, ITEM_FAILED, 0, "%s has too many subdirectories: their names take more than 12 MiB",
                  shown(s->path));
        return 0;
    }
    if (!grow((void **)&s->pending, &s->pending_room, s->pending_used + n)) {
        item_mark(s->report, s->item, ITEM_FAILED, ENOMEM, "out of memory");
        return 0;
    }
    memcpy(s->pending + s->pending_used, name, n);
    s->pending_used += n;
    return 1;
}

static void scan_entry(struct scan *s, int dir, const char *name, int type)
{
    struct stat st;
    int mount = 0, err = 0;
    if (type == DT_UNKNOWN || (type != DT_REG && type != DT_DIR)) {
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            trouble(s, errno, "reading the type of");
            return;
        }
        type = IFTODT(st.st_mode);
    }
    if (type == DT_DIR) {
        remember_directory(s, name);
        return;
    }
    s->item->files++;
    if (type != DT_REG && type != DT_LNK) /* files are checked when they are open; a link can't be a mount point */
        err = is_mount_root(dir, name, &mount);
    if (type == DT_SOCK)
        report_left_out(s->report, s->path, "socket");
    else if (err)
        trouble(s, err, "reading the type of");
    else if (mount)
        report_left_out(s->report, s->path, "mount point");
    else if (type == DT_REG)
        scan_file(s, dir, name, name);
    else
        scan_special(s, dir, name, &st);
}

/* The layout that getdents64 gives (man 2 getdents). */
struct linux_dirent64 {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Feeds everything in the directory of the top level; remembers its subdirectories. */
static void scan_directory(struct scan *s)
{
    struct level *l = &s->level[s->depth - 1];
    long n;
    while ((n = syscall(SYS_getdents64, l->fd, s->dirents, sizeof s->dirents)) > 0)
        for (long at = 0; at < n && !feed_over(s->feed);) {
            const struct linux_dirent64 *d = (const void *)(s->dirents + at);
            at += d->length;
            if (component_ok(d->name, strlen(d->name)) && set_path(s, l->path_bytes, d->name))
                scan_entry(s, l->fd, d->name, d->type);
        }
    if (n < 0) {
        s->path[l->path_bytes] = 0;
        trouble(s, errno, "reading the directory");
    }
    l->end = s->pending_used;
}

/* Opens a directory, writes its record, and makes it the top level. Returns 0 if it was not
 * entered. */
static int enter(struct scan *s, int dir, const char *name, const char *record_name)
{
    struct record r;
    struct stat st;
    int mount = 0, err = is_mount_root(dir, name, &mount);
    if (mount) {
        report_left_out(s->report, s->path, "mount point");
        return 0;
    }
    if (s->depth == MAX_DEPTH) {
        item_mark(s->report, s->item, ITEM_FAILED, 0, "directories are nested more than %d levels deep at %s", MAX_DEPTH, shown(s->path));
        return 0;
    }
    int fd = err ? -1 : open_quietly(dir, name, O_DIRECTORY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        trouble(s, err ? err : errno, "opening");
        if (fd >= 0)
            close(fd);
        return 0;
    }
    fill_record(&r, &st, record_name);
    r.type = RECORD_DIR;
    check_fresh(s, &st);
    size_t bytes = (size_t)s->room * sizeof *s->level;
    if (!add_attributes(s, &r, fd, NULL) ||
        !grow((void **)&s->level, &bytes, ((size_t)s->depth + 1) * sizeof *s->level)) {
        item_mark(s->report, s->item, ITEM_FAILED, ENOMEM, "out of memory");
        close(fd);
        return 0;
    }
    s->room = (int)(bytes / sizeof *s->level);
    s->item->files++;
    feed_record(s->feed, &r, NULL);
    if (s->depth >= OPEN_LEVELS && s->level[s->depth - OPEN_LEVELS].fd >= 0) {
        close(s->level[s->depth - OPEN_LEVELS].fd);
        s->level[s->depth - OPEN_LEVELS].fd = -1;
    }
    s->level[s->depth++] = (struct level){.fd = fd, .dev = st.st_dev, .ino = st.st_ino, .before = st,
                                          .path_bytes = strlen(s->path), .first = s->pending_used,
                                          .next = s->pending_used, .end = s->pending_used};
    return 1;
}

/* Leaves the top level; reopens the one above when it had been closed. */
static void leave(struct scan *s)
{
    struct level *l = &s->level[s->depth - 1], *up = s->depth > 1 ? l - 1 : NULL;
    struct record r = {.type = RECORD_UP};
    struct stat st;
    s->path[l->path_bytes] = 0;
    if (!feed_over(s->feed)) {
        if (fstat(l->fd, &st) != 0)
            trouble(s, errno, "checking for changes of");
        else if (!same_times(&st, &l->before))
            item_mark(s->report, s->item, ITEM_CHANGED, 0,
                      "the directory %s changed while it was being copied: stop the programs that write to it first", shown(s->path));
        feed_record(s->feed, &r, NULL);
        if (up && up->fd < 0) {
            up->fd = openat(l->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (up->fd < 0 || fstat(up->fd, &st) != 0)
                trouble(s, errno, "reopening the directory above");
            else if (st.st_dev != up->dev || st.st_ino != up->ino)
                item_mark(s->report, s->item, ITEM_CHANGED, 0, "%s was moved while it was being copied", shown(s->path));
        }
    }
    if (l->fd >= 0)
        close(l->fd);
    s->pending_used = l->first;
    s->depth--;
}

static void scan_tree(struct scan *s)
{
    if (!enter(s, AT_FDCWD, s->item->path, ""))
        return;
    scan_directory(s);
    while (s->depth > 0) {
        struct level *l = &s->level[s->depth - 1];
        if (feed_over(s->feed) || l->next == l->end) {
            leave(s);
            continue;
        }
        /* Copies the name out of the stack, because enter may move the stack. */
        char name[MAX_NAME + 1];
        snprintf(name, sizeof name, "%s", s->pending + l->next);
        l->next += strlen(name) + 1;
        if (set_path(s, l->path_bytes, name) && enter(s, l->fd, name, name))
            scan_directory(s);
    }
}

void scan_item(struct scan *s, struct item *it)
{
    s->item = it;
    s->depth = 0;
    s->pending_used = 0;
    size_t path_bytes = strlen(it->path) + 1;
    if (!grow((void **)&s->path, &s->path_room, path_bytes)) {
        item_mark(s->report, it, ITEM_FAILED, ENOMEM, "out of memory");
        return;
    }
    memcpy(s->path, it->path, path_bytes);
    if (it->kind == RECORD_FILE) {
        it->files = 1;
        scan_file(s, AT_FDCWD, it->path, "");
    } else {
        scan_tree(s);
    }
    links_clear(&s->links);
}
