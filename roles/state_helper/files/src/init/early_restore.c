/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/early_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "init/init_parse.h"
#include "init/kmsg.h"
#include "init/module.h"

#define RESTORE "/usr/local/lib/hotpmem/restore" /* roles/node_agent/files/restore.sh */

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif

static int mount_all(const struct early *e)
{
    /* The same options as systemd's (src/shared/mount-setup.c), which keeps a /run that is mounted
     * already. */
    if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=0755,size=20%,nr_inodes=800k") != 0) {
        kmsg("mounting /run failed: %s", strerror(errno));
        return -1;
    }
    for (int i = 0; i < e->mount_count; i++) {
        struct init_options options = {0};
        if (init_parse_mount(&options, e->mounts[i].options) != 0 ||
            mount("tmpfs", e->mounts[i].directory, "tmpfs", options.flags, options.data) != 0) {
            kmsg("mounting %s failed: %s", e->mounts[i].directory, strerror(errno));
            return -1;
        }
    }
    return 0;
}

/* Keeps the same capabilities as hotpmem-restore.service: those that reading an image needs. */
static void drop_capabilities(void)
{
    static const unsigned char kept[] = {
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,   CAP_FSETID,       CAP_SETFCAP,
        CAP_MKNOD, CAP_SYS_ADMIN,    CAP_LINUX_IMMUTABLE, CAP_SYS_NICE, CAP_SYS_RESOURCE, CAP_PERFMON,
    };
    for (unsigned c = 0; c < 64; c++)
        if (!memchr(kept, (int)c, sizeof kept))
            (void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0); /* EINVAL: this kernel does not know the capability */
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void early_restore(const struct early *e)
{
    pid_t pid = -1;
    if (e->helper && !e->incomplete && mount_all(e) == 0) {
        pid = fork();
        if (pid < 0)
            kmsg("starting the restore failed: %s", strerror(errno));
    }
    if (pid < 0)
        modules_load(e); /* the unit will restore, and waits for the device */
    if (pid != 0)
        return;
    static char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    char *const argv[] = {RESTORE, "--early", (char *)e->helper, NULL};
    setsid(); /* a separate process group, which can be ended as a whole */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    modules_load(e);
    drop_capabilities();
    execve(RESTORE, argv, environment);
    kmsg("running %s failed: %s", RESTORE, strerror(errno));
    _exit(127);
}
