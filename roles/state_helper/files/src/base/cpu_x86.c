/* SPDX-License-Identifier: GPL-3.0-or-later */
/* XXH3 steps and non-temporal copies for x86_64: plain C and SSE2 on every CPU, AVX2 and AVX-512
 * where CPU and kernel support them. */
#if defined(__x86_64__)
#include "base/cpu_scalar.h"

#include <cpuid.h>
#include <immintrin.h>

#include "base/le.h"

enum { PREFETCH = 1024 }; /* bytes ahead of the hash: measured, docs/measurements.md */

static void accumulate_sse2(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    __m128i *a = (__m128i *)acc;
    for (size_t s = 0; s < stripes; s++, in += HASH_STRIPE, secret += 8)
        for (int i = 0; i < 4; i++) {
            __m128i v = _mm_loadu_si128((const __m128i *)in + i);
            __m128i k = _mm_xor_si128(v, _mm_loadu_si128((const __m128i *)secret + i));
            __m128i p = _mm_mul_epu32(k, _mm_shuffle_epi32(k, 0x31));
            a[i] = _mm_add_epi64(a[i], _mm_add_epi64(p, _mm_shuffle_epi32(v, 0x4e)));
        }
}

static void scramble_sse2(uint64_t acc[8], const uint8_t *secret)
{
    __m128i *a = (__m128i *)acc;
    const __m128i prime = _mm_set1_epi32((int)0x9E3779B1);
    for (int i = 0; i < 4; i++) {
        __m128i v = _mm_xor_si128(a[i], _mm_srli_epi64(a[i], 47));
        v = _mm_xor_si128(v, _mm_loadu_si128((const __m128i *)secret + i));
        __m128i hi = _mm_mul_epu32(_mm_shuffle_epi32(v, 0x31), prime);
        a[i] = _mm_add_epi64(_mm_mul_epu32(v, prime), _mm_slli_epi64(hi, 32));
    }
}

static void copy_sse2(void *dst, const void *src, size_t n)
{
    __m128i *d = dst;
    const __m128i *s = src;
    for (size_t i = 0; i < n / 16; i += 4) {
        __m128i a = _mm_loadu_si128(s + i), b = _mm_loadu_si128(s + i + 1);
        __m128i c = _mm_loadu_si128(s + i + 2), e = _mm_loadu_si128(s + i + 3);
        _mm_stream_si128(d + i, a);
        _mm_stream_si128(d + i + 1, b);
        _mm_stream_si128(d + i + 2, c);
        _mm_stream_si128(d + i + 3, e);
    }
}

__attribute__((target("avx2")))
static void accumulate_avx2(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    __m256i a0 = _mm256_load_si256((__m256i *)acc), a1 = _mm256_load_si256((__m256i *)acc + 1);
    for (size_t s = 0; s < stripes; s++, in += HASH_STRIPE, secret += 8) {
        _mm_prefetch((const char *)in + PREFETCH, _MM_HINT_T0);
        __m256i v0 = _mm256_loadu_si256((const __m256i *)in), v1 = _mm256_loadu_si256((const __m256i *)in + 1);
        __m256i k0 = _mm256_xor_si256(v0, _mm256_loadu_si256((const __m256i *)secret));
        __m256i k1 = _mm256_xor_si256(v1, _mm256_loadu_si256((const __m256i *)secret + 1));
        __m256i p0 = _mm256_mul_epu32(k0, _mm256_shuffle_epi32(k0, 0x31));
        __m256i p1 = _mm256_mul_epu32(k1, _mm256_shuffle_epi32(k1, 0x31));
        a0 = _mm256_add_epi64(a0, _mm256_add_epi64(p0, _mm256_shuffle_epi32(v0, 0x4e)));
        a1 = _mm256_add_epi64(a1, _mm256_add_epi64(p1, _mm256_shuffle_epi32(v1, 0x4e)));
    }
    _mm256_store_si256((__m256i *)acc, a0);
    _mm256_store_si256((__m256i *)acc + 1, a1);
}

__attribute__((target("avx2")))
static void copy_avx2(void *dst, const void *src, size_t n)
{
    __m256i *d = dst;
    const __m256i *s = src;
    for (size_t i = 0; i < n / 32; i += 2) {
        __m256i a = _mm256_loadu_si256(s + i), b = _mm256_loadu_si256(s + i + 1);
        _mm256_stream_si256(d + i, a);
        _mm256_stream_si256(d + i + 1, b);
    }
}

__attribute__((target("avx512f")))
static void accumulate_avx512(uint64_t acc[8], const uint8_t *in, const uint8_t *secret, size_t stripes)
{
    __m512i a = _mm512_load_si512(acc);
    for (size_t s = 0; s < stripes; s++, in += HASH_STRIPE, secret += 8) {
        _mm_prefetch((const char *)in + PREFETCH, _MM_HINT_T0);
        __m512i v = _mm512_loadu_si512(in);
        __m512i k = _mm512_xor_si512(v, _mm512_loadu_si512(secret));
        __m512i p = _mm512_mul_epu32(k, _mm512_srli_epi64(k, 32));
        a = _mm512_add_epi64(a, _mm512_add_epi64(p, _mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0x4e)));
    }
    _mm512_store_si512(acc, a);
}

__attribute__((target("avx512f")))
static void copy_avx512(void *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        _mm512_stream_si512((void *)((char *)dst + i), _mm512_loadu_si512((const char *)src + i));
}

static void copy_scalar(void *dst, const void *src, size_t n)
{
    long long *d = dst;
    const uint8_t *s = src;
    for (size_t i = 0; i < n / 8; i++)
        _mm_stream_si64(d + i, (long long)get64(s + 8 * i));
}

static void fence(void) { _mm_sfence(); }

/* True when the kernel saves the register state that `mask` of XCR0 names. */
static int os_saves(unsigned mask)
{
    unsigned eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (eax & mask) == mask;
}

static const struct cpu_ops scalar = {"scalar", accumulate_scalar, scramble_scalar, copy_scalar, fence};
static const struct cpu_ops sse2 = {"sse2", accumulate_sse2, scramble_sse2, copy_sse2, fence};
static const struct cpu_ops avx2 = {"avx2", accumulate_avx2, scramble_sse2, copy_avx2, fence};
static const struct cpu_ops avx512 = {"avx512", accumulate_avx512, scramble_sse2, copy_avx512, fence};

int cpu_ops_all(const struct cpu_ops *all[8])
{
    unsigned a, b, c, d;
    int n = 0;
    all[n++] = &scalar;
    all[n++] = &sse2;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return n;
    if ((b & bit_AVX2) && os_saves(0x06))
        all[n++] = &avx2;
    if ((b & bit_AVX512F) && os_saves(0xe6))
        all[n++] = &avx512;
    return n;
}
#endif
