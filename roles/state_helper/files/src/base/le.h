/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Little-endian loads and stores at any alignment: the byte order of the image on every machine. */
#ifndef LE_H
#define LE_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pmem-state runs on little-endian machines only (x86_64, aarch64)"
#endif

static inline uint16_t get16(const void *p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint32_t get32(const void *p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint64_t get64(const void *p) { uint64_t v; memcpy(&v, p, sizeof v); return v; }
static inline void put16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void put32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void put64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* Rounds up to a power of two; the caller has made sure that it cannot overflow. */
static inline uint64_t round_up(uint64_t v, uint64_t to) { return (v + to - 1) & ~(to - 1); }

/* a + b <= limit, without overflow. */
static inline int fits(uint64_t a, uint64_t b, uint64_t limit) { return a <= limit && b <= limit - a; }

#endif
