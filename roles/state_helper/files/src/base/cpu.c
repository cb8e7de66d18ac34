/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cpu.h"

#include <pthread.h>

#include "base/now.h"

/* Times a small part of the work of a save, in ns. Returns the best of several tries, because an
 * interrupt, or an emulator that translates the code, may slow down the first one. */
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

/* The widest instructions are not always the fastest: an emulator runs plain instructions natively,
 * and emulates wide ones one by one (docs/measurements.md). */
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
