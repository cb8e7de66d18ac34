/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/hooks.h"
#include "base/paths.h"
#include "base/stop.h"

enum { BASE_SHOWN = 200, RANDOM_DIGITS = 8 };
static const char prefix[] = ".hotpmem-", links_suffix[] = ".links";

int open_child_dir(int dir, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    long fd = syscall(SYS_openat2, dir, name, &how, sizeof how);
    /* Without openat2 (old kernels, strict seccomp filters), openat of one component without
     * following links is just as safe. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return (int)fd;
}

/* Empties the directory `sub`: unlinks its files, and moves its directories up into `top` under new
 * names, so that any depth needs only two descriptors. */
static int flatten(int top, int sub, unsigned *serial)
{
    int fd = dup(sub), err = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        err = errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    for (struct dirent *e; !err && (errno = 0, e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(sub, e->d_name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            err = errno;
        } else if (unlinkat(sub, e->d_name, AT_REMOVEDIR) != 0) {
            char moved[32];
            if (errno != ENOTEMPTY && errno != EEXIST) {
                err = errno;
                break;
            }
            do
                snprintf(moved, sizeof moved, ".hotpmem-%u", (*serial)++);
            while (syscall(SYS_renameat2, sub, e->d_name, top, moved, RENAME_NOREPLACE) != 0 && errno == EEXIST);
            if (faccessat(top, moved, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
                err = errno;
        }
    }
    err = err ? err : errno;
    closedir(d);
    return err;
}

/* One pass over the directory `top`: whatever it holds is emptied into it and removed. *again: it
 * is not empty yet. */
static int sweep(int top, unsigned *serial, int *again)
{
    int err = 0, fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    *again = 0;
    if (!d) {
        err = errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    for (struct dirent *e; !err && (errno = 0, e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        *again = 1;
        if (unlinkat(top, e->d_name, 0) == 0)
            continue;
        if ((errno != EISDIR && errno != EPERM) || (unlinkat(top, e->d_name, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY && errno != EEXIST)) {
            err = errno;
            break;
        }
        int sub = open_child_dir(top, e->d_name);
        if (sub < 0 && errno == ENOENT) /* removed just above */
            continue;
        err = sub < 0 ? errno : flatten(top, sub, serial);
        if (sub >= 0)
            close(sub);
        if (!err && unlinkat(top, e->d_name, AT_REMOVEDIR) != 0)
            err = errno;
    }
    err = err ? err : errno;
    closedir(d);
    return err;
}

int remove_tree(int dir, const char *name)
{
    unsigned serial = 0;
    int again = 1, err = 0;
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT || unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return errno;
    int top = open_child_dir(dir, name);
    if (top < 0)
        return errno;
    while (again && !err)
        err = sweep(top, &serial, &again);
    close(top);
    if (!err && unlinkat(dir, name, AT_REMOVEDIR) != 0)
        err = errno;
    return err;
}

static int is_ours(const char *name, const char *base)
{
    size_t n = strlen(prefix), b = strlen(base) < BASE_SHOWN ? strlen(base) : BASE_SHOWN;
    if (strncmp(name, prefix, n) != 0 || strncmp(name + n, base, b) != 0 || name[n + b] != '.')
        return 0;
    name += n + b + 1;
    return strspn(name, "0123456789abcdef") == RANDOM_DIGITS &&
           (name[RANDOM_DIGITS] == 0 || strcmp(name + RANDOM_DIGITS, links_suffix) == 0);
}

/* Removes the remains of restores that were killed. */
static int remove_stale(const struct place *pl)
{
    int fd = openat(pl->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return errno;
    for (struct dirent *e; !err && (e = readdir(d));)
        if (is_ours(e->d_name, pl->base))
            err = remove_tree(pl->parent, e->d_name);
    closedir(d);
    return err;
}

static int open_parent(const char *path)
{
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *last = strrchr(path, '/');
    while (fd >= 0 && path < last) {
        char name[MAX_NAME + 1];
        size_t n = strcspn(path + 1, "/");
        memcpy(name, path + 1, n);
        name[n] = 0;
        path += 1 + n;
        /* Links above the item belong to the operator (/var/run), so they are followed. */
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (next < 0 && errno == ENOENT && mkdirat(fd, name, 0755) == 0)
            next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int err = errno;
        close(fd);
        errno = err;
        fd = next;
    }
    return fd;
}

int place_open(struct place *pl, const char *path, const char **what)
{
    uint32_t random;
    struct statx x;
    pl->path = path;
    snprintf(pl->base, sizeof pl->base, "%s", path + parent_length(path) + 1);
    *what = "opening the directory above the item";
    pl->parent = open_parent(path);
    if (pl->parent < 0)
        return errno;
    *what = "a restored item can't replace a mount point, only a directory inside it";
    if (statx(pl->parent, pl->base, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &x) == 0 &&
        (x.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return EBUSY;
    *what = "removing the remains of an earlier restore";
    int err = remove_stale(pl);
    if (err)
        return err;
    *what = "choosing a temporary name";
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return errno;
    snprintf(pl->temp, sizeof pl->temp, "%s%.*s.%08x", prefix, BASE_SHOWN, pl->base, random);
    snprintf(pl->links, sizeof pl->links, "%s%.*s.%08x%s", prefix, BASE_SHOWN, pl->base, random, links_suffix);
    return 0;
}

void place_close(struct place *pl)
{
    if (pl->parent >= 0)
        close(pl->parent);
    pl->parent = -1;
}

/* On a disk, the item must survive a power failure before the image is marked as consumed. */
static int sync_disk(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) == 0 && ((unsigned)fs.f_type == TMPFS_MAGIC || (unsigned)fs.f_type == RAMFS_MAGIC))
        return 0;
    return syncfs(fd) == 0 ? 0 : errno;
}

static int rename_into(const struct place *pl, unsigned flags)
{
    return syscall(SYS_renameat2, pl->parent, pl->temp, pl->parent, pl->base, flags) == 0 ? 0 : errno;
}

int place_commit(struct place *pl, int *left)
{
    *left = remove_tree(pl->parent, pl->links);
    int err = *left ? *left : sync_disk(pl->parent);
    if (err)
        return err;
    kill_point("rename");
    if (stop_signal())
        return EINTR;
    err = rename_into(pl, RENAME_NOREPLACE);
    if (err == EEXIST) {
        err = rename_into(pl, RENAME_EXCHANGE);
        kill_point("exchanged");
        if (err == EINVAL || err == ENOSYS) { /* the file system does not support exchange: remove the old item first */
            err = remove_tree(pl->parent, pl->base);
            if (!err)
                err = rename_into(pl, 0);
        } else if (!err) {
            *left = remove_tree(pl->parent, pl->temp);
        }
    } else if (err == EINVAL || err == ENOSYS) { /* the file system does not support NOREPLACE either */
        err = remove_tree(pl->parent, pl->base);
        if (!err)
            err = rename_into(pl, 0);
    }
    return err ? err : sync_disk(pl->parent);
}

void place_abandon(struct place *pl)
{
    (void)remove_tree(pl->parent, pl->temp); /* the next restore removes what can't be removed now */
    (void)remove_tree(pl->parent, pl->links);
}
