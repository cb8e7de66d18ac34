/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checksums of the image: XXH3, 64 bits, seed 0, default secret, as its specification says
 * (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md); only inputs longer than 240
 * bytes. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>

/* Returns the checksum of n bytes, n > 240. */
uint64_t hash64(const void *data, size_t n);

/* Returns whether all n bytes are zero. n is a multiple of 64. Stops at the first byte that
 * differs. */
int all_zero(const void *data, size_t n);

/* Copies n bytes (a multiple of 64, dst aligned to 64) past the caches where the CPU can, and makes
 * them reach memory before it returns (store fence; on aarch64 the lines are cleaned to memory
 * too). */
void nt_copy(void *dst, const void *src, size_t n);

/* nt_copy and hash64 in one pass (n a multiple of 64 and more than 240). */
uint64_t nt_copy_hash(void *dst, const void *src, size_t n);

#endif
