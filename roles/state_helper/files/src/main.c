/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pmem-state: keeps files and directory trees in persistent memory across a reboot. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/stop.h"
#include "command.h"
#include "help.h"
#include "init/init.h"

/* Deep trees, and chunks with many small files, keep a few hundred files open at the same time. */
static void allow_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct command command; /* too big for the stack */
    if (getpid() == 1 && strcmp(argv[0], "/init") == 0) /* the kernel uses this name; process 1 of a container has another one */
        init_run(argv);
    umask(077);
    guard_install();
    stop_install();
    allow_open_files();
    int code = command_run(&command, argc, argv);
    if (code == 0 && command.options.verb == VERB_HELP)
        help_print();
    else if (code == 0 && command.options.verb == VERB_VERSION)
        printf("pmem-state %s (image format %d)\n", PMEM_STATE_VERSION, FORMAT_VERSION);
    else
        report_print(&command.run.report, code, command.options.json);
    command_free(&command);
    /* A result that could not be written counts as an error. */
    return fflush(stdout) == 0 && !ferror(stdout) ? code : EXIT_SYSTEM;
}
