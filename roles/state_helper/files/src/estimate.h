/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How many bytes the items hold, for the percent of a progress line: quick, and no more than that. */
#ifndef ESTIMATE_H
#define ESTIMATE_H

#include <stdint.h>

#include "report.h"

uint64_t estimate_items(const struct report *r);

#endif
