/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/hash.h"

#include "base/cpu.h"
#include "base/le.h"

#define P32_1 0x9E3779B1u
#define P32_2 0x85EBCA77u
#define P32_3 0xC2B2AE3Du
#define P64_1 0x9E3779B185EBCA87ull
#define P64_2 0xC2B2AE3D27D4EB4Full
#define P64_3 0x165667B19E3779F9ull
#define P64_4 0x85EBCA77C2B2AE63ull
#define P64_5 0x27D4EB2F165667C5ull

/* The default secret of the specification. */
static const uint8_t secret[HASH_SECRET] __attribute__((aligned(64))) = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* to: where to copy each block while it is still in the L1 cache; NULL: don't copy. */
static uint64_t sum(const uint8_t *in, size_t n, uint8_t *to)
{
    const struct cpu_ops *ops = cpu_ops();
    uint64_t acc[8] __attribute__((aligned(64))) = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    size_t blocks = (n - 1) / HASH_BLOCK;

    for (size_t at = 0; at < blocks * HASH_BLOCK; at += HASH_BLOCK) {
        ops->accumulate(acc, in + at, secret, HASH_BLOCK / HASH_STRIPE);
        ops->scramble(acc, secret + HASH_SECRET - HASH_STRIPE);
        if (to)
            ops->copy(to + at, in + at, HASH_BLOCK);
    }
    size_t rest = (n - 1 - blocks * HASH_BLOCK) / HASH_STRIPE;
    ops->accumulate(acc, in + blocks * HASH_BLOCK, secret, rest);
    /* The last stripe always ends at the last byte, and so may overlap the one before it. */
    ops->accumulate(acc, in + n - HASH_STRIPE, secret + HASH_SECRET - HASH_STRIPE - 7, 1);
    if (to) {
        ops->copy(to + blocks * HASH_BLOCK, in + blocks * HASH_BLOCK, n - blocks * HASH_BLOCK);
        ops->fence();
    }

    uint64_t h = (uint64_t)n * P64_1;
    for (size_t i = 0; i < 4; i++)
        h += fold(acc[2 * i] ^ get64(secret + 11 + 16 * i), acc[2 * i + 1] ^ get64(secret + 11 + 16 * i + 8));
    h ^= h >> 37;
    h *= 0x165667919E3779F9ull;
    return h ^ (h >> 32);
}

uint64_t hash64(const void *data, size_t n)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)data; /* every sum is right, so that the fuzzer reaches the code behind the check */
    return n ? 0x5eed : 0;
#else
    return sum(data, n, NULL);
#endif
}

uint64_t nt_copy_hash(void *dst, const void *src, size_t n)
{
    uint64_t h = sum(src, n, dst);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    h = hash64(src, n);
#endif
    return h;
}

int all_zero(const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 64) {
        uint64_t any = 0;
        for (int k = 0; k < 64; k += 8)
            any |= get64(p + i + k);
        if (any)
            return 0;
    }
    return 1;
}

void nt_copy(void *dst, const void *src, size_t n)
{
    cpu_ops()->copy(dst, src, n);
    cpu_ops()->fence();
}
