/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/early_plan.h"

#include <string.h>

/* Cuts off the next word of a line. Returns NULL if no word follows, or nothing follows the
 * word. */
static char *cut(char **rest)
{
    char *word = *rest, *space = strchr(word, ' ');
    if (!space || space == word || !space[1])
        return NULL;
    *space = 0;
    *rest = space + 1;
    return word;
}

int early_take(struct early *e, char *line)
{
    static const char restore[] = "restore ", tmpfs[] = "tmpfs ", interface[] = "interface ", later[] = "later ";
    if (strncmp(line, restore, strlen(restore)) == 0) {
        e->helper = line + strlen(restore);
        return 1;
    }
    if (strncmp(line, tmpfs, strlen(tmpfs)) == 0) {
        char *rest = line + strlen(tmpfs), *directory = cut(&rest);
        if (directory && e->mount_count < EARLY_MOUNTS) {
            e->mounts[e->mount_count].directory = directory;
            e->mounts[e->mount_count++].options = rest;
        } else {
            e->incomplete = 1;
        }
        return 1;
    }
    if (strncmp(line, later, strlen(later)) == 0) {
        char *file = line + strlen(later), *space = strchr(file, ' ');
        if (e->module_count < EARLY_MODULES) {
            e->modules[e->module_count].file = file;
            e->modules[e->module_count].fd = -1;
            e->modules[e->module_count++].parameters = space ? space + 1 : "";
        }
        if (space)
            *space = 0;
        return 1;
    }
    if (strncmp(line, interface, strlen(interface)) != 0)
        return 0;
    char *rest = line + strlen(interface), *driver = cut(&rest), *name = driver ? cut(&rest) : NULL;
    if (name && e->interface_count < EARLY_INTERFACES) {
        e->interfaces[e->interface_count].driver = driver;
        e->interfaces[e->interface_count].name = name;
        e->interfaces[e->interface_count++].device = rest;
    }
    return 1;
}
