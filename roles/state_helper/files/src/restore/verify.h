/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verb verify. */
#ifndef VERIFY_H
#define VERIFY_H

#include "image/run.h"

/* Returns an exit code and fills in run->report. */
int verb_verify(struct run *run);

#endif
