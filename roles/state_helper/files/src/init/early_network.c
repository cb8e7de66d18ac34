/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/early_network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/kmsg.h"

#define MODPROBE "/sbin/modprobe"

/* Finds the interface of a device. Returns 0 unless the device has exactly one. */
static int interface_of(const char *device, char name[IFNAMSIZ])
{
    char path[512];
    int count = 0;
    if ((size_t)snprintf(path, sizeof path, "/sys/devices/%s/net", device) >= sizeof path)
        return 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t bytes = strlen(e->d_name) + 1;
        if (e->d_name[0] != '.' && bytes <= IFNAMSIZ) {
            count++;
            memcpy(name, e->d_name, bytes);
        }
    }
    if (d)
        closedir(d);
    return count == 1;
}

/* Returns whether the interface still has the name that the kernel gave it, and is not in use.
 * (udev may have been faster.) */
static int may_be_named(int fd, const struct ifreq *r)
{
    char path[64], kind[8] = "";
    struct ifreq flags = *r;
    snprintf(path, sizeof path, "/sys/class/net/%.15s/name_assign_type", r->ifr_name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file >= 0 ? read(file, kind, sizeof kind - 1) : -1;
    if (file >= 0)
        close(file);
    /* NET_NAME_RENAMED: include/uapi/linux/netdevice.h */
    return n > 0 && strtol(kind, NULL, 10) != 4 && ioctl(fd, SIOCGIFFLAGS, &flags) == 0 && !(flags.ifr_flags & IFF_UP);
}

static void name_interfaces(const struct early *e)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; fd >= 0 && i < e->interface_count; i++) {
        struct ifreq r = {0};
        size_t bytes = strlen(e->interfaces[i].name) + 1;
        if (bytes > IFNAMSIZ || !interface_of(e->interfaces[i].device, r.ifr_name) ||
            strcmp(r.ifr_name, e->interfaces[i].name) == 0 || !may_be_named(fd, &r))
            continue;
        memcpy(r.ifr_newname, e->interfaces[i].name, bytes);
        if (ioctl(fd, SIOCSIFNAME, &r) != 0) /* udev will rename it */
            kmsg("renaming the interface %s to %s failed: %s", r.ifr_name, r.ifr_newname, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
}

void early_network(const struct early *e)
{
    if (e->interface_count == 0 || fork() != 0)
        return;
    /* These drivers are not in the initrd: they may need firmware, which is in the root file
     * system. */
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[EARLY_INTERFACES + 4] = {MODPROBE, "-a", "-q"}, *environment[] = {NULL};
        for (int i = 0, n = 3; i < e->interface_count; i++)
            argv[n++] = (char *)e->interfaces[i].driver;
        execve(MODPROBE, argv, environment);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
    name_interfaces(e);
    _exit(0);
}
