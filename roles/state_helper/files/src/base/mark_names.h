/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The names of the phase marks, and the numbers that stand for them in an image. */
#ifndef MARK_NAMES_H
#define MARK_NAMES_H

#include <stdint.h>

/* The number of a mark, or 0 for an unknown name. */
uint32_t mark_id(const char *name);

/* The name of a mark, or NULL for an unknown number. */
const char *mark_name(uint32_t id);

#endif
