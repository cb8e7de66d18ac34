/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/now.h"
#include "init/early_network.h"
#include "init/early_restore.h"
#include "init/init_parse.h"
#include "init/kmsg.h"
#include "init/module.h"

/* The initrd holds these beside /init; minimal_initrd.py of the collection writes them. A line of
 * PLAN is one of `module FILE [PARAMETERS]`, in the order in which the modules are loaded, `root
 * TYPE UUID` (32 hexadecimal digits), and those that early_plan.h describes. */
#define PLAN "/plan"
#define MODULES "/modules"
#define NEW_ROOT "/root"
/* A handoff writes this file if systemd is to begin with it (state_first.py of the collection). */
#define FIRST "hotpmem-first.target"

enum { WAIT_SECONDS = 30, LAST_WORDS_SECONDS = 3 };

/* Reboots through the firmware, whose boot loader starts the stock initrd. */
static _Noreturn void give_up(const char *doing, const char *what)
{
    kmsg("the jump's initrd can't go on: %s %s: %s. Rebooting through the firmware", doing, what, strerror(errno));
    sleep(LAST_WORDS_SECONDS);
    sync();
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

static void must(int ok, const char *doing, const char *what)
{
    if (!ok)
        give_up(doing, what);
}

/* A failure here is not fatal: the module may not be needed to find the root file system. */
static void load_module(char *line)
{
    char *parameters = strchr(line, ' ');
    if (parameters)
        *parameters++ = 0;
    module_load(module_open(line), line, parameters ? parameters : "");
}

/* root TYPE UUID */
static int take_root(const char *line, char type[16], unsigned char uuid[16])
{
    char digits[33];
    if (sscanf(line, "root %15s %32s", type, digits) != 2 || strspn(digits, "0123456789abcdef") != 32)
        return 0;
    for (size_t i = 0; i < 16; i++) {
        char byte[3] = {digits[2 * i], digits[2 * i + 1], 0};
        uuid[i] = (unsigned char)strtoul(byte, NULL, 16);
    }
    return 1;
}

static int holds_root(const char *device, const char *type, const unsigned char uuid[16])
{
    unsigned char bytes[INIT_PROBE_BYTES];
    int fd = open(device, O_RDONLY | O_CLOEXEC), found = 0;
    if (fd < 0)
        return 0;
    found = pread(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes && init_is_root(bytes, type, uuid);
    close(fd);
    return found;
}

/* Returns how many block devices hold the root file system now, and the path of the last. The
 * kernel creates the device nodes (devtmpfs). */
static int look(char path[280], const char *type, const unsigned char uuid[16])
{
    int count = 0;
    DIR *d = opendir("/sys/class/block");
    for (struct dirent *e; d && (e = readdir(d));) {
        char device[280];
        if (e->d_name[0] == '.')
            continue;
        snprintf(device, sizeof device, "/dev/%s", e->d_name);
        for (char *p = device + strlen("/dev/"); (p = strchr(p, '!'));) /* sysfs writes ! for a slash */
            *p = '/';
        if (holds_root(device, type, uuid)) {
            count++;
            memcpy(path, device, sizeof device);
        }
    }
    if (d)
        closedir(d);
    return count;
}

static void find_root(char path[280], const char *type, const unsigned char uuid[16])
{
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t begin = now_ns();
    int count;
    while ((count = look(path, type, uuid)) == 0) {
        errno = ENOENT;
        must(now_ns() - begin < WAIT_SECONDS * 1000000000ull, "finding the root file system", type);
        nanosleep(&pause, NULL);
    }
    errno = EEXIST; /* perhaps one is a copy of the disk; the stock initrd can tell them apart */
    must(count == 1, "choosing among several root file systems with the same UUID", path);
}

/* Reads a small file, and ends it with a NUL byte. */
static void slurp(const char *name, char *text, size_t size)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size) : -1;
    must(n >= 0, "reading", name);
    errno = EFBIG;
    must((size_t)n < size, "reading", name);
    text[n] = 0;
    close(fd);
}

/* The files of the initrd take memory until they are removed. */
static void remove_initrd(void)
{
    DIR *d = opendir(".");
    for (struct dirent *e; d && (e = readdir(d));)
        (void)unlink(e->d_name);
    if (d)
        closedir(d);
    (void)chdir("/");
    (void)rmdir(MODULES);
    (void)unlink(PLAN);
    (void)unlink("/init");
}

/* The arguments of init, and what systemd is to begin with (--unit=, systemd(1)). Only this initrd
 * gives it, so no other boot depends on the file. */
static char **with_first(char **argv)
{
    enum { MOST = 64 }; /* the kernel passes at most 32 (init/main.c) */
    static char *more[MOST + 2], unit[] = "--unit=" FIRST;
    size_t n = 0;
    if (access("/etc/systemd/system/" FIRST, F_OK) != 0)
        return argv;
    for (; n < MOST && argv[n]; n++)
        more[n] = argv[n];
    more[n] = unit;
    return more;
}

void init_run(char **argv)
{
    static char plan[32768], command_line[4096];
    static const char *const systems[][2] = {{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/sys", "sysfs"}};
    static struct init_options options;
    static struct early early;
    char device[280], type[16];
    unsigned char uuid[16];
    int has_root = 0;
    for (size_t i = 0; i < 3; i++)
        must(mount(systems[i][1], systems[i][0], systems[i][1], MS_NOSUID | (i ? MS_NODEV | MS_NOEXEC : 0), NULL) == 0, "mounting",
             systems[i][0]);
    slurp("/proc/cmdline", command_line, sizeof command_line);
    slurp(PLAN, plan, sizeof plan);
    errno = EINVAL;
    must(init_parse(&options, command_line) == 0, "reading", "/proc/cmdline");
    must(chdir(MODULES) == 0, "changing to the directory", MODULES);
    for (char *save = NULL, *line = strtok_r(plan, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "module ", 7) == 0)
            load_module(line + 7);
        else if (!early_take(&early, line))
            has_root |= take_root(line, type, uuid);
    }
    modules_open(&early);
    errno = EINVAL;
    must(has_root, "reading", PLAN);
    find_root(device, type, uuid);
    must(mount(device, NEW_ROOT, type, options.flags, options.data) == 0, "mounting", device);
    for (size_t i = 0; i < 3; i++) {
        char there[32];
        snprintf(there, sizeof there, NEW_ROOT "%s", systems[i][0]);
        if (mount(systems[i][0], there, NULL, MS_MOVE, NULL) != 0) /* its init will mount it */
            must(umount2(systems[i][0], MNT_DETACH) == 0, "unmounting", systems[i][0]);
    }
    remove_initrd();
    must(chdir(NEW_ROOT) == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0,
         "switching to the root file system on", device);
    early_network(&early);
    early_restore(&early);
    argv[0] = options.init;
    execv(options.init, with_first(argv));
    give_up("running", options.init);
}
