/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/build_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/hooks.h"
#include "image/attributes.h"

static void failed(struct build *b, int err, const char *doing, const struct record *r)
{
    item_mark(&b->run->report, b->item, ITEM_FAILED, err, "%s '%.*s' in %s failed: %s", doing, (int)r->name_bytes, r->name,
              b->item->path, strerror(err));
}

/* A copy of a record that outlives the chunk it was read from; bytes has room for name, NUL and
 * attributes. */
static void keep(struct record *to, char *bytes, const struct record *r)
{
    *to = *r;
    memcpy(bytes, r->name, r->name_bytes);
    bytes[r->name_bytes] = 0;
    memcpy(bytes + r->name_bytes + 1, r->xattrs, r->xattr_bytes);
    to->name = bytes;
    to->xattrs = (const uint8_t *)bytes + r->name_bytes + 1;
    to->extents = NULL;
    to->extent_count = 0;
}

/* Sets owner, mode, attributes and time, in this order: a change of the owner drops set-ID bits and
 * capabilities, and an ACL is part of the mode. fd: the open file, or -1 to use name in dir. */
static int set_metadata(const struct build *b, const struct record *r, int fd, int dir, const char *name, int root,
                        const char **doing)
{
    struct timespec times[2] = {{0, UTIME_OMIT}, {r->mtime_s, r->mtime_ns}};
    char path[64 + MAX_NAME], attribute[MAX_NAME + 1];
    int link = r->type == RECORD_SYMLINK;
    *doing = "setting the owner of";
    if (root || r->uid != b->uid || r->gid != b->gid)
        if (fd >= 0 ? fchown(fd, r->uid, r->gid) : fchownat(dir, name, r->uid, r->gid, AT_SYMLINK_NOFOLLOW))
            return errno;
    *doing = "setting the mode of";
    if (!link && (root || r->type != RECORD_FILE || (r->mode & 07000)))
        if (fd >= 0 ? fchmod(fd, r->mode) : fchmodat(dir, name, r->mode, 0))
            return errno;
    *doing = "setting an extended attribute of";
    if (root) { /* the item must not keep an ACL from the directory above */
        (void)fremovexattr(fd, "system.posix_acl_access");
        (void)fremovexattr(fd, "system.posix_acl_default");
    }
    if (r->xattr_bytes) {
        snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name ? name : "");
        int err = attributes_write(r, fd, path, attribute);
        if (err)
            return err;
    }
    *doing = "setting the time of";
    if (fd >= 0 ? futimens(fd, times) : utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW))
        return errno;
    return 0;
}

struct build_file *build_file_new(struct build *b, const struct record *r, struct build_dir *dir, int root)
{
    struct build_file *f = malloc(sizeof *f + r->name_bytes + 1u + r->xattr_bytes);
    if (!f) {
        failed(b, ENOMEM, "creating", r);
        return NULL;
    }
    f->fd = -1;
    atomic_store(&f->refs, 1);
    f->root = root;
    f->dir = dir;
    f->end = 0;
    keep(&f->record, f->bytes, r);
    atomic_fetch_add(&dir->refs, 1);
    return f;
}

int build_file_open(struct build *b, struct build_file *f)
{
    const char *name = f->root ? b->place.temp : f->record.name;
    if (f->fd >= 0)
        return 0;
    kill_point("create");
    f->fd = openat(f->dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->root ? 0600 : f->record.mode & 0777);
    if (f->fd >= 0)
        return 0;
    failed(b, errno, "creating", &f->record);
    return -1;
}

void build_file_write(struct build *b, struct build_file *f, struct iovec *part, int parts, uint64_t at)
{
    if (!parts)
        return; /* nothing is written, so the end stays where it is */
    while (parts) {
        ssize_t n = pwritev(f->fd, part, parts, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            failed(b, n < 0 ? errno : EIO, "writing", &f->record);
            return;
        }
        at += (uint64_t)n;
        for (; parts && (size_t)n >= part->iov_len; part++, parts--)
            n -= (ssize_t)part->iov_len;
        if (parts)
            *part = (struct iovec){(char *)part->iov_base + n, part->iov_len - (size_t)n};
    }
    if (f->end < at) /* one thread only, unless the size was set before */
        f->end = at;
}

uint64_t build_file_span(const struct build_file *f)
{
    struct stat st;
    uint64_t page = fstat(f->fd, &st) == 0 ? (uint64_t)st.st_blksize : 0; /* on a tmpfs with huge pages, their size */
    return page > MIN_CHUNK && page <= MAX_CHUNK ? page : 0;
}

void build_file_size(struct build *b, struct build_file *f)
{
    if (f->end < f->record.size && ftruncate(f->fd, (off_t)f->record.size) != 0)
        failed(b, errno, "setting the size of", &f->record);
    f->end = f->record.size;
}

void build_file_release(struct build *b, struct build_file *f)
{
    const char *doing;
    if (atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    if (f->fd >= 0) {
        if (item_fine(b->item)) {
            build_file_size(b, f);
            int err = set_metadata(b, &f->record, f->fd, -1, NULL, f->root, &doing);
            if (err)
                failed(b, err, doing, &f->record);
        }
        close(f->fd);
    }
    build_dir_release(b, f->dir);
    free(f);
}

struct build_dir *build_dir_new(struct build *b, const struct record *r, int fd, int root)
{
    static const struct record none = {.name = "", .xattrs = (const uint8_t *)""};
    const struct record *record = r ? r : &none;
    struct stat st;
    struct build_dir *d = malloc(sizeof *d + record->name_bytes + 1u + record->xattr_bytes);
    if (!d || fstat(fd, &st) != 0) {
        failed(b, d ? errno : ENOMEM, "creating", record);
        free(d);
        close(fd);
        return NULL;
    }
    d->fd = fd;
    atomic_store(&d->refs, 1);
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    d->bare = r == NULL;
    d->root = root;
    keep(&d->record, d->bytes, record);
    return d;
}

void build_dir_release(struct build *b, struct build_dir *d)
{
    const char *doing;
    if (atomic_fetch_sub(&d->refs, 1) != 1)
        return;
    if (d->fd >= 0 && !d->bare && item_fine(b->item)) {
        int err = set_metadata(b, &d->record, d->fd, -1, NULL, d->root, &doing);
        if (err)
            failed(b, err, doing, &d->record);
    }
    if (d->fd >= 0)
        close(d->fd);
    free(d);
}

void build_special(struct build *b, const struct record *r, struct build_dir *dir)
{
    char name[MAX_NAME + 1], target[MAX_PATH + 1];
    const char *doing = "creating";
    int rc;
    memcpy(name, r->name, r->name_bytes);
    name[r->name_bytes] = 0;
    kill_point("create");
    if (r->type == RECORD_SYMLINK) {
        memcpy(target, r->target, r->target_bytes);
        target[r->target_bytes] = 0;
        rc = symlinkat(target, dir->fd, name);
    } else {
        mode_t type = r->type == RECORD_FIFO ? S_IFIFO : r->type == RECORD_CHAR ? S_IFCHR : S_IFBLK;
        rc = mknodat(dir->fd, name, type | 0600, makedev((unsigned)(r->size >> 32), (unsigned)r->size));
    }
    int err = rc ? errno : set_metadata(b, r, -1, dir->fd, name, 0, &doing);
    if (err)
        failed(b, err, doing, r);
}

/* The name of a hard-linked file in the directory of links. */
static void link_name(char out[32], const struct record *r) { snprintf(out, 32, "%016" PRIx64, r->link_id); }

void build_link_first(struct build *b, const struct record *r, struct build_dir *dir)
{
    char name[MAX_NAME + 1], id[32];
    memcpy(name, r->name, r->name_bytes);
    name[r->name_bytes] = 0;
    link_name(id, r);
    if (b->links < 0) {
        if (mkdirat(b->place.parent, b->place.links, 0700) == 0)
            b->links = open_child_dir(b->place.parent, b->place.links);
        if (b->links < 0) {
            failed(b, errno, "creating the directory of hard links for", r);
            return;
        }
    }
    if (linkat(dir->fd, name, b->links, id, 0) != 0)
        failed(b, errno, "creating the hard link", r);
}

void build_link(struct build *b, const struct record *r, struct build_dir *dir)
{
    char name[MAX_NAME + 1], id[32];
    memcpy(name, r->name, r->name_bytes);
    name[r->name_bytes] = 0;
    link_name(id, r);
    if (b->links < 0)
        item_mark(&b->run->report, b->item, ITEM_DAMAGED, 0, "'%s' is a hard link to a file that the image does not contain", name);
    else if (linkat(b->links, id, dir->fd, name, 0) != 0)
        failed(b, errno, "creating the hard link", r);
}
