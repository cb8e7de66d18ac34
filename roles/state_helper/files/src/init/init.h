/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The /init of the initrd that a jump carries (hotpmem_jump_initrd: minimal): as process 1, pmem-state loads the modules it is told to,
 * finds the root file system by its UUID, mounts it, starts the restore and the network beside it (early.h) and becomes its init. */
#ifndef INIT_H
#define INIT_H

/* Never returns. What can't be done is said on the console, and the machine reboots through its firmware, whose boot loader has the
 * stock initrd. argv: what the kernel gives its init. */
_Noreturn void init_run(char **argv);

#endif
