/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/paths.h"

#include <string.h>

#include "base/status.h"

int item_name_ok(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= MAX_ITEM_NAME && name[n] == 0 && name[0] != '.' && name[0] != '-';
}

int component_ok(const char *name, size_t n)
{
    if (n == 0 || n > MAX_NAME || memchr(name, '/', n) || memchr(name, 0, n))
        return 0;
    return !(name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')));
}

int item_path_ok(const char *path)
{
    if (path[0] != '/' || strlen(path) > MAX_PATH)
        return 0;
    while (*path) {
        size_t n = strcspn(path + 1, "/");
        if (!component_ok(path + 1, n))
            return 0;
        path += 1 + n;
    }
    return 1;
}

int paths_overlap(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), n = la < lb ? la : lb;
    if (strncmp(a, b, n) != 0)
        return 0;
    return la == lb || (la < lb ? b : a)[n] == '/';
}

size_t parent_length(const char *path) { return (size_t)(strrchr(path, '/') - path); }
