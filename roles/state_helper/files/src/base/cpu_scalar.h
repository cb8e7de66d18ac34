/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The steps of XXH3 in plain C, which every CPU can run. */
#ifndef CPU_SCALAR_H
#define CPU_SCALAR_H

#include "base/cpu_ops.h"

void accumulate_scalar(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes);
void scramble_scalar(uint64_t acc[8], const uint8_t *secret);

#endif
