/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump reads (init/init_parse.c), checked without a machine. */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "init/early_plan.h"
#include "init/init_parse.h"

static int failed;

static void check(const char *line, int rc, unsigned long flags, const char *data, const char *init)
{
    struct init_options o;
    int got = init_parse(&o, line);
    int good = got == rc && (rc || (o.flags == flags && strcmp(o.data, data) == 0 && strcmp(o.init, init) == 0));
    if (!good)
        printf("WRONG: '%.60s': %d, flags %lx, data '%s', init '%s'\n", line, got, o.flags, o.data, o.init);
    failed |= !good;
}

static void check_root(const char *type, const char *asked, unsigned char last, int wanted)
{
    unsigned char bytes[INIT_PROBE_BYTES] = {0}, uuid[16] = "0123456789abcde";
    if (strcmp(type, "xfs") == 0) {
        memcpy(bytes, "XFSB", 4);
        memcpy(bytes + 32, uuid, 16);
    } else {
        bytes[1024 + 0x38] = 0x53;
        bytes[1024 + 0x39] = 0xef;
        memcpy(bytes + 1024 + 0x68, uuid, 16);
    }
    uuid[15] = last;
    int got = init_is_root(bytes, asked, uuid);
    if (got != wanted)
        printf("WRONG: %s taken for %s: %d\n", type, asked, got);
    failed |= got != wanted;
}

static void check_mount(const char *options, unsigned long flags, const char *data)
{
    struct init_options o = {0};
    int good = init_parse_mount(&o, options) == 0 && o.flags == flags && strcmp(o.data, data) == 0;
    if (!good)
        printf("WRONG: mount options '%s': flags %lx, data '%s'\n", options, o.flags, o.data);
    failed |= !good;
}

static void check_plan(void)
{
    struct early e = {0};
    char lines[][64] = {"root ext4 0", "module a.ko", "restore /sbin/helper", "tmpfs /srv/state size=1G,mode=0700",
                        "interface e1000e eth 0 pci/0", "interface virtio_net", "interface x eth1 "};
    static const int taken[] = {0, 0, 1, 1, 1, 1, 1};
    int good = 1;
    for (int i = 0; i < 7; i++)
        good &= early_take(&e, lines[i]) == taken[i];
    good &= strcmp(e.helper, "/sbin/helper") == 0 && e.mount_count == 1 && !e.incomplete && e.interface_count == 1;
    good &= strcmp(e.mounts[0].directory, "/srv/state") == 0 && strcmp(e.mounts[0].options, "size=1G,mode=0700") == 0;
    good &= strcmp(e.interfaces[0].driver, "e1000e") == 0 && strcmp(e.interfaces[0].name, "eth") == 0 &&
            strcmp(e.interfaces[0].device, "0 pci/0") == 0;
    for (int i = 0; i < EARLY_MOUNTS; i++) {
        static char more[EARLY_MOUNTS][16];
        good &= e.incomplete == 0;
        strcpy(more[i], "tmpfs /x rw");
        early_take(&e, more[i]);
    }
    good &= e.incomplete && e.mount_count == EARLY_MOUNTS;
    char bad[] = "tmpfs /x";
    e = (struct early){0};
    good &= early_take(&e, bad) && e.incomplete;
    char later[][32] = {"later a.ko", "later b.ko x=1 y=2"};
    e = (struct early){0};
    good &= early_take(&e, later[0]) && early_take(&e, later[1]) && e.module_count == 2;
    good &= strcmp(e.modules[0].file, "a.ko") == 0 && strcmp(e.modules[0].parameters, "") == 0 && e.modules[0].fd == -1;
    good &= strcmp(e.modules[1].file, "b.ko") == 0 && strcmp(e.modules[1].parameters, "x=1 y=2") == 0;
    for (int i = 0; i < EARLY_MODULES; i++) {
        static char more[EARLY_MODULES][16];
        strcpy(more[i], "later c.ko");
        good &= early_take(&e, more[i]);
    }
    good &= e.module_count == EARLY_MODULES;
    if (!good)
        puts("WRONG: plan");
    failed |= !good;
}

int main(void)
{
    static char line[4096];
    check("", 0, MS_RDONLY, "", "/sbin/init");
    check("root=/dev/vda ro quiet\n", 0, MS_RDONLY, "", "/sbin/init");
    check("BOOT_IMAGE=/vmlinuz root=UUID=1 rw  console=ttyS0\t", 0, 0, "", "/sbin/init");
    check("rw ro", 0, MS_RDONLY, "", "/sbin/init");
    check("ro rootflags=rw", 0, 0, "", "/sbin/init");
    check("rw rootflags=noatime,data=journal,,nodev,commit=5 init=/bin/busybox", 0, MS_NOATIME | MS_NODEV, "data=journal,commit=5",
          "/bin/busybox");
    check("rw rootflags= init= -- rootflags=x init=/other", 0, 0, "", "/sbin/init");
    check("xrw rww init=", 0, MS_RDONLY, "", "/sbin/init");
    memset(line, 'a', sizeof line - 1);
    check(line, 0, MS_RDONLY, "", "/sbin/init");
    memcpy(line, "init=/", 6);
    check(line, -1, 0, "", "");
    memcpy(line, "rootflags=", 10);
    check(line, -1, 0, "", "");
    check_root("ext4", "ext4", 0, 1);
    check_root("ext4", "ext2", 0, 1);
    check_root("xfs", "xfs", 0, 1);
    check_root("ext4", "ext4", 1, 0);
    check_root("xfs", "xfs", 1, 0);
    check_root("ext4", "xfs", 0, 0);
    check_root("xfs", "ext4", 0, 0);
    check_root("ext4", "btrfs", 0, 0);
    check_mount("rw", 0, "");
    check_mount("size=2G,mode=0750,nosuid,nodev,huge=within_size,noexec", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=2G,mode=0750,huge=within_size");
    check_plan();
    puts(failed ? "FAILED" : "all ok");
    return failed;
}
