/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/attributes.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/le.h"

static int wanted(const char *name)
{
    static const char *const spaces[] = {"user.", "trusted.", "security.", "system.posix_acl_"};
    for (int i = 0; i < 4; i++)
        if (strncmp(name, spaces[i], strlen(spaces[i])) == 0 && name[strlen(spaces[i])])
            return 1;
    return 0;
}

/* Appends one attribute. 0 or an errno. */
static int append(struct attributes *a, int fd, const char *path, const char *name)
{
    uint32_t n = (uint32_t)strlen(name);
    uint32_t room = MAX_XATTR_BYTES - a->used;
    if (room < 8 + n + 4)
        return E2BIG;
    uint8_t *e = a->bytes + a->used, *value = e + 8 + n;
    size_t left = room - 8 - n - 3;
    /* With a size of 0 the call would return only the length, so `left` is at least 1. */
    ssize_t got = fd >= 0 ? fgetxattr(fd, name, value, left) : lgetxattr(path, name, value, left);
    if (got < 0)
        return errno == ERANGE ? E2BIG : errno;
    memset(e, 0, 8);
    put16(e, (uint16_t)n);
    put32(e + 4, (uint32_t)got);
    memcpy(e + 8, name, n); /* NOLINT(bugprone-not-null-terminated-result): its length stands before it */
    uint32_t total = 8 + n + (uint32_t)got, padded = (total + 3) & ~3u;
    memset(e + total, 0, padded - total);
    a->used += padded;
    return 0;
}

int attributes_read(struct attributes *a, int fd, const char *path)
{
    a->used = 0;
    a->left_out = 0;
    ssize_t n = fd >= 0 ? flistxattr(fd, a->list, sizeof a->list) : llistxattr(path, a->list, sizeof a->list);
    if (n < 0)
        return errno == ENOTSUP ? 0 : errno;
    for (const char *name = a->list; name < a->list + n; name += strlen(name) + 1) {
        if (!wanted(name)) {
            a->left_out = 1;
            continue;
        }
        int err = append(a, fd, path, name);
        if (err && err != ENODATA) /* removed since it was listed; the scan detects the change by the ctime */
            return err;
    }
    return 0;
}

int attributes_write(const struct record *r, int fd, const char *path, char failed[MAX_NAME + 1])
{
    struct xattr x;
    uint32_t at = 0;
    while (record_xattr(r, &at, &x)) {
        int rc = fd >= 0 ? fsetxattr(fd, x.name, x.value, x.value_bytes, 0) : lsetxattr(path, x.name, x.value, x.value_bytes, 0);
        if (rc != 0) {
            memcpy(failed, x.name, sizeof x.name);
            return errno;
        }
    }
    return 0;
}
