/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/device.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/guard.h"
#include "base/hash.h"
#include "base/hooks.h"
#include "base/status.h"

const char *device_kind_name(enum device_kind kind)
{
    return kind == DEVICE_BLOCK ? "block" : kind == DEVICE_DAX ? "dax" : "file";
}

/* A number in a sysfs file below /sys/dev/{block,char}/MAJ:MIN, or `fallback`. */
static int64_t sysfs_number(const char *class, dev_t dev, const char *attribute, int64_t fallback)
{
    char path[128], text[64];
    snprintf(path, sizeof path, "/sys/dev/%s/%u:%u/%s", class, major(dev), minor(dev), attribute);
    FILE *f = fopen(path, "re");
    if (!f)
        return fallback;
    char *end = text;
    int64_t v = fgets(text, sizeof text, f) ? strtoll(text, &end, 0) : fallback;
    fclose(f);
    return end == text ? fallback : v;
}

static void map_whole(struct device *d, int flags)
{
    void *m = mmap(NULL, d->bytes, PROT_READ | (d->writable ? PROT_WRITE : 0), flags, d->fd, 0);
    d->map = m == MAP_FAILED ? NULL : m;
}

static int open_block(struct device *d, const struct stat *st, enum device_use use, struct problem *p)
{
    /* O_EXCL on a block device makes open fail with EBUSY if the device is mounted or claimed. */
    int flags = (d->writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC | (use == DEVICE_WRITE ? O_EXCL : 0);
    d->kind = DEVICE_BLOCK;
    d->fd = open(d->path, flags);
    if (d->fd < 0 && errno == EBUSY)
        return problem_refuse(p, "in_use", "it is mounted, or another program uses it",
                              "Unmount it, or name the pmem device that is reserved for saved state.", "Opening %s", d->path);
    if (d->fd < 0)
        return problem_set(p, EXIT_SYSTEM, errno, NULL, "Check that the namespace is in raw mode, and that you are root.",
                           "Opening %s", d->path);
    if (ioctl(d->fd, BLKGETSIZE64, &d->bytes) != 0)
        return problem_set(p, EXIT_SYSTEM, errno, NULL, NULL, "Reading the size of %s", d->path);
    d->numa_node = (int)sysfs_number("block", st->st_rdev, "device/numa_node", -1);
    return 0;
}

static int open_dax(struct device *d, const struct stat *st, struct problem *p)
{
    d->kind = DEVICE_DAX;
    int64_t size = sysfs_number("char", st->st_rdev, "size", -1);
    if (size <= 0)
        return problem_set(p, EXIT_USAGE, 0, "it is not a dax device: /sys/dev/char does not show a size for it",
                           "Name a pmem block device, a dax device or a file.", "Opening %s", d->path);
    d->bytes = (uint64_t)size;
    d->numa_node = (int)sysfs_number("char", st->st_rdev, "device/numa_node",
                                     sysfs_number("char", st->st_rdev, "numa_node", -1));
    d->fd = open(d->path, (d->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (d->fd < 0)
        return problem_set(p, EXIT_SYSTEM, errno, NULL,
                           "Check that it is bound to the device_dax driver (not to kmem), and that you are root.", "Opening %s", d->path);
    map_whole(d, MAP_SHARED);
    if (!d->map)
        return problem_set(p, EXIT_SYSTEM, errno, NULL, "Check that the device is in devdax mode.", "Mapping %s (%" PRIu64 " bytes)",
                           d->path, d->bytes);
    return 0;
}

/* A file is mapped if the mapping is DAX, or if it lies in huge pages of a tmpfs that are all
 * allocated (so that a store can't meet a full file system). Otherwise it is read and written, with
 * O_DIRECT where the file system supports it. */
static int open_file(struct device *d, struct problem *p)
{
    struct stat st;
    struct statfs fs;
    d->kind = DEVICE_FILE;
    int flags = (d->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    d->fd = open(d->path, flags | O_DIRECT);
    if (d->fd < 0 && errno == EINVAL)
        d->fd = open(d->path, flags);
    if (d->fd < 0 || fstat(d->fd, &st) != 0 || fstatfs(d->fd, &fs) != 0)
        return problem_set(p, EXIT_SYSTEM, errno, NULL,
                           "A file must exist and have its full size: create it with truncate -s or fallocate -l.", "Opening %s",
                           d->path);
    d->bytes = (uint64_t)st.st_size / BLOCK * BLOCK;
    if (d->bytes == 0)
        return 0;
    map_whole(d, MAP_SHARED_VALIDATE | MAP_SYNC);
    if (!d->map && fs.f_type == TMPFS_MAGIC && st.st_blksize >= HUGE_PAGE && (uint64_t)st.st_blocks * 512 >= d->bytes)
        map_whole(d, MAP_SHARED);
    return 0;
}

/* Takes a lock of the open file description instead of flock. udev holds a flock on a block device
 * while it probes the device (systemd, BLOCK_DEVICE_LOCKING.md), and an early restore runs at that
 * time. */
static int lock(const struct device *d, enum device_use use)
{
    struct flock whole = {.l_type = use == DEVICE_WRITE ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    return fcntl(d->fd, F_OFD_SETLK, &whole);
}

int device_open(struct device *d, const char *path, enum device_use use, struct problem *p)
{
    struct stat st;
    int rc;
    *d = (struct device){.path = path, .fd = -1, .numa_node = -1, .writable = use == DEVICE_WRITE};
    if (stat(path, &st) != 0)
        return problem_set(p, EXIT_SYSTEM, errno, NULL,
                           "Name an existing pmem block device, dax device or file; `ndctl list -N` lists the namespaces.",
                           "Looking up %s", path);
    if (S_ISBLK(st.st_mode))
        rc = open_block(d, &st, use, p);
    else if (S_ISCHR(st.st_mode))
        rc = open_dax(d, &st, p);
    else if (S_ISREG(st.st_mode))
        rc = open_file(d, p);
    else
        rc = problem_set(p, EXIT_USAGE, 0, "it is not a block device, a dax device or a file", NULL, "Opening %s", path);
    if (rc == 0 && use != DEVICE_LOOK && lock(d, use) != 0)
        rc = errno == EAGAIN || errno == EACCES
                 ? problem_refuse(p, "in_use", "another pmem-state is using it", "Wait until that one has finished.", "Locking %s", path)
                 : problem_set(p, EXIT_SYSTEM, errno, NULL, NULL, "Locking %s", path);
    if (rc == 0 && use != DEVICE_LOOK && d->bytes < PAYLOAD_START + 3 * BLOCK)
        rc = problem_refuse(p, "does_not_fit", "it is too small to hold any image", "An image needs more than 2 MiB.",
                            "Checking the size of %s (%" PRIu64 " bytes)", path, d->bytes);
    return rc;
}

void device_close(struct device *d)
{
    if (d->map)
        munmap(d->map, d->bytes);
    if (d->fd >= 0)
        close(d->fd);
    d->map = NULL;
    d->fd = -1;
}

int device_read(struct device *d, void *buf, size_t len, uint64_t off)
{
    if (d->map) {
        sigjmp_buf env;
        if (!GUARD_BEGIN(env))
            return EIO;
        memcpy(buf, d->map + off, len);
        GUARD_END();
        return 0;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(d->fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO; /* 0: the device has shrunk */
        done += (size_t)n;
    }
    return 0;
}

static int write_all(struct device *d, const void *buf, size_t len, uint64_t off)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(d->fd, (const char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        done += (size_t)n;
    }
    return 0;
}

int device_write_sum(struct device *d, const void *buf, size_t len, uint64_t off, uint64_t *sum)
{
    kill_point("write");
    sigjmp_buf env;
    if (!GUARD_BEGIN(env)) /* SIGBUS can come from the device or, if it is mapped too, from the source */
        return EIO;
    *sum = d->map ? nt_copy_hash(d->map + off, buf, len) : hash64(buf, len);
    GUARD_END();
    return d->map ? 0 : write_all(d, buf, len, off);
}

int device_write(struct device *d, const void *buf, size_t len, uint64_t off)
{
    uint64_t unused;
    return device_write_sum(d, buf, len, off, &unused);
}

int device_view(struct device *d, void *buf, size_t len, uint64_t off, const uint8_t **view, uint64_t *sum)
{
    if (!d->map) {
        int err = device_read(d, buf, len, off);
        *view = buf;
        *sum = err ? 0 : hash64(buf, len);
        return err;
    }
    sigjmp_buf env;
    if (!GUARD_BEGIN(env))
        return EIO;
    *view = d->map + off;
    *sum = hash64(*view, len);
    GUARD_END();
    return 0;
}

int device_flush(struct device *d)
{
    kill_point("flush");
    /* A dax device needs no flush: the mapping was written with non-temporal stores and a fence. */
    if (d->kind == DEVICE_DAX)
        return 0;
    return fsync(d->fd) == 0 ? 0 : errno;
}
