/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Compares hash64 and nt_copy of every instruction set with a plain version of the specification.
 * Also compares them with sums of the reference implementation for the same bytes (Python package
 * xxhash 4.1.0, xxh3_64_hexdigest). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/hash.h"
#include "base/le.h"

static const struct { size_t n; uint64_t sum; } known[] = {
    {241, 0xbc424a2c480dd281},  {255, 0x155baa5891f7606f},  {256, 0x2d040b1ab40f0d78},   {1023, 0x3071307bafa2f8f4},
    {1024, 0x1fd15e7d36f5e1bc}, {1025, 0xfe08e5a874d23fd2}, {4088, 0x2e38c042d421c491},  {4096, 0x84d9e7ce664c8217},
    {8193, 0x43996563d710826c}, {65536, 0x32152aa15c5ff65a}, {262144, 0xa681d98cfc9c36a6},
};

static void plain_accumulate(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    for (size_t s = 0; s < stripes; s++, in += 64, secret += 8)
        for (int i = 0; i < 8; i++) {
            uint64_t v = get64(in + 8 * i), k = v ^ get64(secret + 8 * i);
            acc[i ^ 1] += v;
            acc[i] += (k & 0xffffffff) * (k >> 32);
        }
}

static void plain_scramble(uint64_t acc[8], const uint8_t *secret)
{
    for (int i = 0; i < 8; i++)
        acc[i] = (acc[i] ^ acc[i] >> 47 ^ get64(secret + 8 * i)) * 0x9E3779B1u;
}

/* One instruction set, step by step, against the plain steps. */
static int check_ops(const struct cpu_ops *ops, const uint8_t *bytes)
{
    uint64_t a[8] __attribute__((aligned(64))), b[8] __attribute__((aligned(64)));
    const uint8_t *secret = bytes + 5000;
    memcpy(a, bytes, sizeof a);
    memcpy(b, bytes, sizeof b);
    for (size_t at = 0; at < 100000; at += 1001) {
        ops->accumulate(a, bytes + at, secret, at % 17);
        plain_accumulate(b, bytes + at, secret, at % 17);
        ops->scramble(a, secret + at % 128);
        plain_scramble(b, secret + at % 128);
        if (memcmp(a, b, sizeof a) != 0)
            return 0;
    }
    uint8_t *to = aligned_alloc(64, 1 << 18);
    int good = to != NULL;
    for (size_t n = 64; n <= 1 << 18 && good; n = n * 3 / 64 * 64 + 64) {
        memset(to, 0x55, 1 << 18);
        ops->copy(to, bytes + 3, n);
        ops->fence();
        good = memcmp(to, bytes + 3, n) == 0 && (n == 1 << 18 || to[n] == 0x55);
    }
    free(to);
    return good;
}

int main(void)
{
    static uint8_t bytes[1 << 20], zeros[1 << 16];
    const struct cpu_ops *all[8];
    int failed = 0, count = cpu_ops_all(all);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((uint32_t)(i * 2654435761u) >> 13);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        failed |= hash64(bytes, known[i].n) != known[i].sum;
    for (int i = 0; i < count; i++) {
        int good = check_ops(all[i], bytes);
        printf("%s %s\n", all[i]->name, good ? "ok" : "WRONG");
        failed |= !good;
    }
    uint8_t *to = aligned_alloc(64, 1 << 18);
    for (size_t n = 256; n <= 1 << 18 && to; n = n * 3 / 64 * 64) {
        memset(to, 0, 1 << 18);
        failed |= nt_copy_hash(to, bytes + 5, n) != hash64(bytes + 5, n) || memcmp(to, bytes + 5, n) != 0;
    }
    failed |= to == NULL;
    free(to);
    failed |= !all_zero(zeros, sizeof zeros) || all_zero(bytes, 64);
    for (size_t at = 0; at < 4096; at++) {
        zeros[at] = 1;
        failed |= all_zero(zeros, 4096);
        zeros[at] = 0;
    }
    puts(failed ? "FAILED" : "all ok");
    return failed;
}
