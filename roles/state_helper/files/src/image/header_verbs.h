/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verbs that need the header of an image at most: info, invalidate, mark and cycles. */
#ifndef HEADER_VERBS_H
#define HEADER_VERBS_H

#include "image/run.h"

/* Each returns an exit code and fills in run->report. */
int verb_info(struct run *run);
int verb_invalidate(struct run *run);
int verb_mark(struct run *run);   /* adds the mark named on the command line, now, to the image of this boot */
int verb_cycles(struct run *run); /* reads the cycle counter */

#endif
