/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "image/record.h"
#include "save/item_root.h"

enum { DEEP_ENOUGH = 64 };

struct walk {
    const _Atomic int *stop;
    walk_visit visit;
    void *context;
};

/* Returns -1 for a mount point: a save leaves it out, and another file system may be slow or
 * hang. */
static int open_below(int dir, const char *name)
{
    int mount = 0;
    if (is_mount_root(dir, name, &mount) != 0 || mount)
        return -1;
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void walk_tree(const struct walk *w, int fd, int depth) /* NOLINT(misc-no-recursion) */
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (struct dirent *entry; !atomic_load(w->stop) && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (entry->d_type == DT_DIR && depth < DEEP_ENOUGH) {
            int sub = open_below(dirfd(d), entry->d_name);
            if (sub >= 0)
                walk_tree(w, sub, depth + 1);
        } else if (entry->d_type == DT_REG) {
            w->visit(w->context, dirfd(d), entry->d_name);
        }
    }
    closedir(d);
}

void walk_item(const struct item *it, const _Atomic int *stop, walk_visit visit, void *context)
{
    struct walk w = {stop, visit, context};
    if (it->kind == RECORD_FILE) {
        visit(context, AT_FDCWD, it->path);
        return;
    }
    int fd = open(it->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        walk_tree(&w, fd, 0);
}
