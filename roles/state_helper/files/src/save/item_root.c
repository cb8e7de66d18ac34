/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "save/item_root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/compat.h"
#include "image/record.h"

int is_mount_root(int fd, const char *name, int *yes)
{
    struct statx stx;
    if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) != 0)
        return errno;
    *yes = (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    return 0;
}

int item_check_root(struct item *it, struct problem *p)
{
    struct stat st;
    int mount = 0;
    it->kind = RECORD_DIR;
    if (lstat(it->path, &st) != 0)
        return 0;
    if (S_ISREG(st.st_mode))
        it->kind = RECORD_FILE;
    else if (S_ISLNK(st.st_mode))
        return problem_refuse(p, "symlink", "it is a symbolic link", "Name the file or directory that it points to.",
                              "Checking item %s (%s)", it->name, it->path);
    else if (!S_ISDIR(st.st_mode))
        return problem_refuse(p, "not_a_file", "it is not a file or a directory", NULL, "Checking item %s (%s)", it->name,
                              it->path);
    if (is_mount_root(AT_FDCWD, it->path, &mount) == 0 && mount)
        return problem_refuse(p, "mount_point", "it is a mount point, which restore can't replace by renaming a finished item to it",
                              "Save a directory inside it instead.", "Checking item %s (%s)", it->name, it->path);
    return 0;
}

int take_items(struct run *run)
{
    struct report *r = &run->report;
    const struct options *o = run->options;
    int rc = 0;
    r->items = calloc((size_t)o->item_count, sizeof *r->items);
    if (!r->items)
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
    for (int i = 0; i < o->item_count; i++) {
        struct item *it = &r->items[r->item_count++];
        memcpy(it->name, o->items[i].name, sizeof it->name);
        it->path = strdup(o->items[i].path);
        if (!it->path)
            return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
        struct problem bad = {0};
        if (item_check_root(it, &bad) == 0)
            continue;
        item_mark(r, it, ITEM_FAILED, 0, "%s", bad.said);
        if (rc == 0)
            r->problem = bad;
        rc = rc ? rc : bad.code;
    }
    return rc;
}
