/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The steps of a checksum and of a copy, for each instruction set. */
#ifndef CPU_OPS_H
#define CPU_OPS_H

#include <stddef.h>
#include <stdint.h>

/* One 1024-byte block step of XXH3 for each instruction set. `stripes` <= 16. */
enum { HASH_STRIPE = 64, HASH_BLOCK = 1024, HASH_SECRET = 192 };
struct cpu_ops {
    const char *name;
    void (*accumulate)(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes);
    void (*scramble)(uint64_t acc[8], const uint8_t *secret);
    void (*copy)(void *dst, const void *src, size_t n);
    void (*fence)(void); /* after the last copy */
};
/* Lists the instruction sets that this CPU can run, the widest last. Returns how many (at most 8).
 * Defined in cpu_x86.c or cpu_arm.c. */
int cpu_ops_all(const struct cpu_ops *all[8]);

#endif
