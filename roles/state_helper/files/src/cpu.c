/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The instruction set that is used, and XXH3 steps in plain C, which every CPU can run. */
#include <pthread.h>
#include <string.h>

#include "hash.h"
#include "le.h"
#include "now.h"

static inline void lane(uint64_t *a, uint64_t *neighbour, const uint8_t *in, const uint8_t *secret)
{
    uint64_t v = get64(in), k = v ^ get64(secret);
    *neighbour += v;
    *a += (uint64_t)(uint32_t)k * (k >> 32);
    __asm__("" : "+r"(*a), "+r"(*neighbour)); /* made into vector steps by the compiler, this would have no use */
}

/* In two halves, so that all of one is in registers. */
void accumulate_scalar(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    for (int half = 0; half < 64; half += 32, acc += 4) {
        const uint8_t *v = in + half, *k = secret + half, *end = v + stripes * HASH_STRIPE;
        uint64_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
        for (; v < end; v += HASH_STRIPE, k += 8) {
            lane(&a0, &a1, v, k);
            lane(&a1, &a0, v + 8, k + 8);
            lane(&a2, &a3, v + 16, k + 16);
            lane(&a3, &a2, v + 24, k + 24);
        }
        acc[0] = a0;
        acc[1] = a1;
        acc[2] = a2;
        acc[3] = a3;
    }
}

void scramble_scalar(uint64_t acc[8], const uint8_t *secret)
{
    for (int i = 0; i < 8; i++)
        acc[i] = (acc[i] ^ acc[i] >> 47 ^ get64(secret + 8 * i)) * 0x9E3779B1u;
}

/* ns for a little of what a save does; the best of some, because the first may wait for an interrupt, or for an emulator that has yet
 * to translate it. */
static uint64_t time_of(const struct cpu_ops *ops)
{
    static const uint8_t in[8 * HASH_BLOCK] __attribute__((aligned(64)));
    uint8_t out[sizeof in] __attribute__((aligned(64)));
    uint64_t acc[8] __attribute__((aligned(64))) = {0}, best = UINT64_MAX;
    for (int round = 0; round < 4; round++) {
        uint64_t start = now_ns();
        for (size_t at = 0; at < sizeof in; at += HASH_BLOCK) {
            ops->accumulate(acc, in + at, in, HASH_BLOCK / HASH_STRIPE);
            ops->scramble(acc, in);
            ops->copy(out + at, in + at, HASH_BLOCK);
        }
        ops->fence();
        uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    return best;
}

static const struct cpu_ops *chosen;

/* The widest is not always the best: an emulator runs plain instructions natively and wide ones one by one (docs/performance.md). */
static void choose(void)
{
    const struct cpu_ops *all[8];
    int n = cpu_ops_all(all);
    uint64_t best = 0;
    while (n-- > 0) {
        uint64_t took = time_of(all[n]);
        if (!chosen || took < best - best / 4) {
            chosen = all[n];
            best = took;
        }
    }
}

const struct cpu_ops *cpu_ops(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, choose);
    return chosen;
}
