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
#include <time.h>
#include <unistd.h>

#include "base/paths.h"
#include "save/item_root.h"
#include "save/scan_file.h"

enum {
    OPEN_LEVELS = 128,        /* directories that stay open above the current one */
    MAX_PENDING = 12 * MIB,   /* names of directories that are still to be walked */
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

static int same_times(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int remember_directory(struct scan *s, const char *name)
{
    size_t n = strlen(name) + 1;
    if (s->pending_used + n > MAX_PENDING) {
        item_mark(s->report, s->item, ITEM_FAILED, 0, "%s has too many subdirectories: their names take more than 12 MiB",
                  scan_shown(s->path));
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
            scan_trouble(s, errno, "reading the type of");
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
        scan_trouble(s, err, "reading the type of");
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
        scan_trouble(s, errno, "reading the directory");
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
        item_mark(s->report, s->item, ITEM_FAILED, 0, "directories are nested more than %d levels deep at %s", MAX_DEPTH, scan_shown(s->path));
        return 0;
    }
    int fd = err ? -1 : open_quietly(dir, name, O_DIRECTORY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        scan_trouble(s, err ? err : errno, "opening");
        if (fd >= 0)
            close(fd);
        return 0;
    }
    scan_fill_record(&r, &st, record_name);
    r.type = RECORD_DIR;
    scan_check_fresh(s, &st);
    size_t bytes = (size_t)s->room * sizeof *s->level;
    if (!scan_add_attributes(s, &r, fd, NULL) ||
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
            scan_trouble(s, errno, "checking for changes of");
        else if (!same_times(&st, &l->before))
            item_mark(s->report, s->item, ITEM_CHANGED, 0,
                      "the directory %s changed while it was being copied: stop the programs that write to it first", scan_shown(s->path));
        feed_record(s->feed, &r, NULL);
        if (up && up->fd < 0) {
            up->fd = openat(l->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (up->fd < 0 || fstat(up->fd, &st) != 0)
                scan_trouble(s, errno, "reopening the directory above");
            else if (st.st_dev != up->dev || st.st_ino != up->ino)
                item_mark(s->report, s->item, ITEM_CHANGED, 0, "%s was moved while it was being copied", scan_shown(s->path));
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
