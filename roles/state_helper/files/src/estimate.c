/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "estimate.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

enum { DEEP_ENOUGH = 64 };

static uint64_t file_bytes(const struct stat *st)
{
    uint64_t allocated = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
    return allocated < size ? allocated : size;
}

static uint64_t tree_bytes(int fd, int depth)
{
    uint64_t sum = 0;
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return 0;
    }
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (e->d_type == DT_DIR && depth < DEEP_ENOUGH) {
            int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub >= 0)
                sum += tree_bytes(sub, depth + 1);
        } else if (e->d_type == DT_REG && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            sum += file_bytes(&st);
        }
    }
    closedir(d);
    return sum;
}

uint64_t estimate_items(const struct report *r)
{
    uint64_t sum = 0;
    for (int i = 0; i < r->item_count; i++) {
        struct stat st;
        if (r->items[i].kind == RECORD_FILE) {
            sum += lstat(r->items[i].path, &st) == 0 ? file_bytes(&st) : 0;
        } else {
            int fd = open(r->items[i].path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            sum += fd >= 0 ? tree_bytes(fd, 0) : 0;
        }
    }
    return sum;
}
