/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The CPU's cycle counter: TSC on x86, CNTVCT on aarch64. It keeps running through kexec, while the
 * clocks of the kernel start again. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

struct clock_reading {
    uint64_t cycles;
    int64_t boottime_ns;        /* CLOCK_BOOTTIME at that moment */
    uint64_t cycles_per_second; /* 0: unknown */
    const char *source;         /* where the frequency comes from: "perf", "cntfrq", "measured"; NULL: unknown */
};

/* Reads the counter. Returns 0 on a machine without one. */
uint64_t clock_cycles(void);

/* Reads the counter and the clock at the same moment, as nearly as possible. measure: if neither
 * CPU nor kernel states the frequency, measure it for 50 ms. */
void clock_read(struct clock_reading *c, int measure);

#endif
