/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verb save, and the two that run the same scan without writing: plan and compare. */
#ifndef SAVE_H
#define SAVE_H

#include "image/run.h"

/* Each returns an exit code and fills in run->report. */
int verb_save(struct run *run);
int verb_plan(struct run *run);
int verb_compare(struct run *run);

#endif
