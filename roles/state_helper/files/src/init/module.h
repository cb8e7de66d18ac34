/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The modules of the initrd. */
#ifndef MODULE_H
#define MODULE_H

#include "init/early_plan.h"

/* Opens a module file. Returns -1 after an error, which it logs. No error here is fatal: the module
 * may not be needed. */
int module_open(const char *file);

/* Loads the module that is open at fd, unless that is -1, and closes it. Logs an error. */
void module_load(int fd, const char *file, const char *parameters);

/* Opens the modules that are loaded beside the init of the root file system, because the files of
 * the initrd are removed before. */
void modules_open(struct early *e);

/* Loads them, in the order of the plan. */
void modules_load(const struct early *e);

#endif
