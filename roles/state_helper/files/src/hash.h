/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checksums of the image: XXH3, 64 bits, seed 0, default secret, as its specification says
 * (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md); only inputs longer than 240 bytes. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>

/* The sum of n bytes, n > 240. */
uint64_t hash64(const void *data, size_t n);

/* True when all n bytes are zero. n is a multiple of 64. Stops at the first byte that is not. */
int all_zero(const void *data, size_t n);

/* Copies n bytes (a multiple of 64, dst aligned to 64) past the caches where the CPU can, and makes them reach memory
 * before it returns (store fence; on aarch64 the lines are cleaned to memory too). */
void nt_copy(void *dst, const void *src, size_t n);

/* nt_copy and hash64 in one pass (n a multiple of 64 and more than 240). */
uint64_t nt_copy_hash(void *dst, const void *src, size_t n);

/* One 1024-byte block step of XXH3 for each instruction set. `stripes` <= 16. */
enum { HASH_STRIPE = 64, HASH_BLOCK = 1024, HASH_SECRET = 192 };
struct cpu_ops {
    const char *name;
    void (*accumulate)(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes);
    void (*scramble)(uint64_t acc[8], const uint8_t *secret);
    void (*copy)(void *dst, const void *src, size_t n);
    void (*fence)(void); /* after the last copy */
};
/* In cpu_x86.c or cpu_arm.c: all that this CPU can run, the widest last (at most 8; returns how many). */
int cpu_ops_all(const struct cpu_ops *all[8]);

/* The fastest of them, found out at the first call (some 0.05 ms, under emulation 1 ms). */
const struct cpu_ops *cpu_ops(void);

/* Steps in plain C (cpu.c). */
void accumulate_scalar(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes);
void scramble_scalar(uint64_t acc[8], const uint8_t *secret);

#endif
