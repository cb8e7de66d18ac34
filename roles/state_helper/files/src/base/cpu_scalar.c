/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cpu_scalar.h"

#include "base/le.h"

static inline void lane(uint64_t *a, uint64_t *neighbour, const uint8_t *in, const uint8_t *secret)
{
    uint64_t v = get64(in), k = v ^ get64(secret);
    *neighbour += v;
    *a += (uint64_t)(uint32_t)k * (k >> 32);
    __asm__("" : "+r"(*a), "+r"(*neighbour)); /* keeps the compiler from vectorizing this, which the other files do by hand */
}

/* Works in two halves, so that each fits into the registers. */
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
    for (size_t i = 0; i < 8; i++)
        acc[i] = (acc[i] ^ acc[i] >> 47 ^ get64(secret + 8 * i)) * 0x9E3779B1u;
}
