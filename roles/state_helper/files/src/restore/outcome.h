/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The exit code of a restore or a verify, and the error behind it, from what became of the
 * items. */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "image/run.h"

/* good: the status of an item that went well. verb: the word for messages ("restored"). */
int outcome(struct run *run, enum item_status good, const char *verb);

#endif
