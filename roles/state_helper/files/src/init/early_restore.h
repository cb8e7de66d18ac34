/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The restore after a jump, started beside the init of the root file system. */
#ifndef EARLY_RESTORE_H
#define EARLY_RESTORE_H

#include "init/early_plan.h"

/* Mounts /run and each tmpfs as their units would, which then find them mounted. A new process
 * loads the modules of persistent memory and runs RESTORE --early. Returns at once. It is called
 * with the root file system at /, before anything of it runs. It logs what it can't do, and leaves
 * that to systemd. */
void early_restore(const struct early *e);

#endif
