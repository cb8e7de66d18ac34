/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pmem-state: keeps files and directory trees in persistent memory across a reboot. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/guard.h"
#include "command.h"
#include "help.h"
#include "init/init.h"

/* Deep trees and packed chunks of small files keep a few hundred files open at a time. */
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
    static struct command command; /* big, and there is one */
    if (getpid() == 1 && strcmp(argv[0], "/init") == 0) /* the kernel calls it so; process 1 of a container has another name */
        init_run(argv);
    umask(077);
    guard_install();
    allow_open_files();
    int code = command_run(&command, argc, argv);
    if (code == 0 && command.options.verb == VERB_HELP)
        help_print();
    else if (code == 0 && command.options.verb == VERB_VERSION)
        printf("pmem-state %s (image format %d)\n", PMEM_STATE_VERSION, FORMAT_VERSION);
    else
        report_print(&command.run.report, code, command.options.json);
    command_free(&command);
    /* A result that did not get through is no result. */
    return fflush(stdout) == 0 && !ferror(stdout) ? code : EXIT_SYSTEM;
}
