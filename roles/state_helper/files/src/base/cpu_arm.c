/* SPDX-License-Identifier: GPL-3.0-or-later */
/* XXH3 steps and copies for aarch64: NEON is part of every one of them. */
#if defined(__aarch64__)
#include "base/cpu_scalar.h"

#include <arm_neon.h>

static void accumulate_neon(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    uint64x2_t a[4];
    for (int i = 0; i < 4; i++)
        a[i] = vld1q_u64(acc + 2 * i);
    for (size_t s = 0; s < stripes; s++, in += HASH_STRIPE, secret += 8) {
        __builtin_prefetch(in + 1024);
        for (int i = 0; i < 4; i++) {
            uint64x2_t v = vreinterpretq_u64_u8(vld1q_u8(in + 16 * i));
            uint64x2_t k = veorq_u64(v, vreinterpretq_u64_u8(vld1q_u8(secret + 16 * i)));
            a[i] = vaddq_u64(a[i], vextq_u64(v, v, 1));
            a[i] = vmlal_u32(a[i], vmovn_u64(k), vshrn_n_u64(k, 32));
        }
    }
    for (int i = 0; i < 4; i++)
        vst1q_u64(acc + 2 * i, a[i]);
}

static void scramble_neon(uint64_t acc[8], const uint8_t *secret)
{
    const uint32x2_t prime = vdup_n_u32(0x9E3779B1);
    for (int i = 0; i < 4; i++) {
        uint64x2_t v = vld1q_u64(acc + 2 * i);
        v = veorq_u64(v, vshrq_n_u64(v, 47));
        v = veorq_u64(v, vreinterpretq_u64_u8(vld1q_u8(secret + 16 * i)));
        uint64x2_t hi = vshlq_n_u64(vmull_u32(vshrn_n_u64(v, 32), prime), 32);
        vst1q_u64(acc + 2 * i, vmlal_u32(hi, vmovn_u64(v), prime));
    }
}

static void copy_neon(void *dst, const void *src, size_t n)
{
    uint8_t *d = dst;
    const uint8_t *s = src;
    for (size_t i = 0; i < n; i += 64) {
        uint8x16_t a = vld1q_u8(s + i), b = vld1q_u8(s + i + 16), c = vld1q_u8(s + i + 32), e = vld1q_u8(s + i + 48);
        __asm__ volatile("stnp %q1, %q2, [%0]\n\tstnp %q3, %q4, [%0, #32]"
                         :: "r"(d + i), "w"(a), "w"(b), "w"(c), "w"(e) : "memory");
    }
    /* Cleans each cache line right after it is written; the fence comes later. STNP is only a hint,
     * so without cleaning a reset could lose data that is still in a cache. CTR_EL0 gives the size
     * of a line; the architecture allows 16 bytes and more. */
    uint64_t ctr;
    __asm__("mrs %0, ctr_el0" : "=r"(ctr));
    size_t line = (size_t)4 << ((ctr >> 16) & 15);
    for (size_t i = 0; i < n; i += line)
        __asm__ volatile("dc cvac, %0" :: "r"(d + i) : "memory");
}

static void fence(void) { __asm__ volatile("dsb sy" ::: "memory"); }

static const struct cpu_ops scalar = {"scalar", accumulate_scalar, scramble_scalar, copy_neon, fence};
static const struct cpu_ops neon = {"neon", accumulate_neon, scramble_neon, copy_neon, fence};

int cpu_ops_all(const struct cpu_ops *all[8])
{
    all[0] = &scalar;
    all[1] = &neon;
    return 2;
}
#endif
