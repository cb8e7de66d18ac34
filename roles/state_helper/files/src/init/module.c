/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/module.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init/kmsg.h"

int module_open(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        kmsg("opening the module %s failed: %s", file, strerror(errno));
    return fd;
}

void module_load(int fd, const char *file, const char *parameters)
{
    if (fd < 0)
        return;
    if (syscall(SYS_finit_module, fd, parameters, 0) != 0 && errno != EEXIST)
        kmsg("loading the module %s failed: %s", file, strerror(errno));
    close(fd);
}

void modules_open(struct early *e)
{
    for (int i = 0; i < e->module_count; i++)
        e->modules[i].fd = module_open(e->modules[i].file);
}

void modules_load(const struct early *e)
{
    for (int i = 0; i < e->module_count; i++)
        module_load(e->modules[i].fd, e->modules[i].file, e->modules[i].parameters);
}
