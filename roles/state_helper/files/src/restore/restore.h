/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verb restore. */
#ifndef RESTORE_H
#define RESTORE_H

#include "image/run.h"

/* Returns an exit code and fills in run->report. */
int verb_restore(struct run *run);

#endif
