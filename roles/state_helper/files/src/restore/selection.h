/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which items of an image the command line asks for: for restore and verify. */
#ifndef SELECTION_H
#define SELECTION_H

#include "image/run.h"

/* Marks items as skipped that the command line does not name, and sets the paths that it gives.
 * Adds names that the image does not contain behind the image's items, as failed. Refuses if the
 * image contains none of the named items. */
int select_items(struct run *run);

int is_selected(const struct run *run, const struct item *it);

#endif
