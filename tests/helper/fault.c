/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For LD_PRELOAD: makes calls on one file fail. The environment says which:
 * FAULT_CALL   pread, pwrite, fsync or openat
 * FAULT_PATH   the last names of the path, such as "src/big"
 * FAULT_AT     the first call that fails, counted from 1; all later calls fail too
 * FAULT_ERRNO  the errno; with 0 the calls do not fail, but take 40 ms longer */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends_with(const char *path, const char *names)
{
    size_t all = strlen(path), end = strlen(names);
    return end <= all && !strcmp(path + all - end, names) && (end == all || path[all - end - 1] == '/');
}

static int fails(const char *call, const char *path)
{
    static _Atomic long count;
    const char *want = getenv("FAULT_CALL"), *names = getenv("FAULT_PATH");
    if (!want || !names || strcmp(want, call) != 0 || !ends_with(path, names))
        return 0;
    if (atomic_fetch_add(&count, 1) + 1 < atol(getenv("FAULT_AT")))
        return 0;
    errno = atoi(getenv("FAULT_ERRNO"));
    if (errno == 0)
        usleep(40000);
    return errno != 0;
}

static int fails_fd(const char *call, int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    return fails(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread(int fd, void *buf, size_t n, off_t at) { return fails_fd("pread", fd) ? -1 : REAL(pread)(fd, buf, n, at); }
ssize_t pwrite(int fd, const void *buf, size_t n, off_t at) { return fails_fd("pwrite", fd) ? -1 : REAL(pwrite)(fd, buf, n, at); }
int fsync(int fd) { return fails_fd("fsync", fd) ? -1 : REAL(fsync)(fd); }

int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    return fails("openat", path) ? -1 : REAL(openat)(dir, path, flags, mode);
}
