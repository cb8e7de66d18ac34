/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The CPU's cycle counter, which runs on through kexec when every clock of the kernel starts again: TSC on x86, CNTVCT on aarch64. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

struct clock_reading {
    uint64_t cycles;
    int64_t boottime_ns;        /* CLOCK_BOOTTIME at that moment */
    uint64_t cycles_per_second; /* 0: unknown */
    const char *source;         /* where the frequency comes from: "perf", "cntfrq", "measured"; NULL: unknown */
};

/* 0 on a machine without such a counter. */
uint64_t clock_cycles(void);

/* Counter and clock as close together as it gets. measure: when nobody tells the frequency, take 50 ms to measure it. */
void clock_read(struct clock_reading *c, int measure);

#endif
