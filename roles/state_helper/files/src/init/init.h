/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The /init of the minimal initrd of a kexec jump (hotpmem_jump_initrd: minimal). As process 1,
 * pmem-state loads the modules of the plan, finds the root file system by its UUID, mounts it,
 * starts the restore and the network (early_restore.h, early_network.h), and becomes its init. */
#ifndef INIT_H
#define INIT_H

/* Never returns. On an error it writes a message to the console and reboots the machine through its
 * firmware, whose boot loader starts the stock initrd. argv: the arguments that the kernel gives to
 * init. */
_Noreturn void init_run(char **argv);

#endif
