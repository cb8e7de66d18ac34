/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the threads of a restore do: check a chunk's sum, and write its bytes to the files. */
#ifndef BUILD_WORK_H
#define BUILD_WORK_H

#include "restore/build_state.h"

void build_work(void *context, void *argument, int worker);
void build_give_back(struct build *b, struct build_job *job);

#endif
