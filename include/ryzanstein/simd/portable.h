/* Sixteen float lanes in portable C, for the scalar tier and for CPUs other than x86.
 *
 * The three files of this folder have the same functions, and ops/ is written once with them. Each
 * function is exactly one IEEE operation per lane, so all tiers give the same bits.
 */
#ifndef RZ_SIMD_H
#define RZ_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/target.h"

/* The register tile of ops/attention.h: queries x vectors of sums. */
#define RZ_TILE_QUERIES 1
#define RZ_TILE_VECTORS 1

#if defined(__GNUC__) || defined(__clang__)
typedef float rz_f32x16 __attribute__((vector_size(64), aligned(16)));
typedef int32_t rz_i32x16 __attribute__((vector_size(64), aligned(16)));
#define RZ_LANE(a, i) ((a)[i])
#define RZ_EACH_LANE_(name, operator) \
    RZ_INLINE rz_f32x16 name(rz_f32x16 a, rz_f32x16 b) { return a operator b; }
#else /* MSVC; not run here */
typedef struct {
    float lane[16];
} rz_f32x16;
#define RZ_LANE(a, i) ((a).lane[i])
#define RZ_EACH_LANE_(name, operator) \
    RZ_INLINE rz_f32x16 name(rz_f32x16 a, rz_f32x16 b) { \
        for (int i = 0; i < 16; i++) a.lane[i] = a.lane[i] operator b.lane[i]; \
        return a; \
    }
#endif

RZ_EACH_LANE_(rz_add, +)
RZ_EACH_LANE_(rz_sub, -)
RZ_EACH_LANE_(rz_mul, *)
RZ_EACH_LANE_(rz_div, /)

RZ_INLINE rz_f32x16 rz_set1(float value) {
    rz_f32x16 a;
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = value;
    return a;
}
RZ_INLINE rz_f32x16 rz_load(const float *from) {
    rz_f32x16 a;
    memcpy(&a, from, 64);
    return a;
}
RZ_INLINE void rz_store(float *to, rz_f32x16 a) { memcpy(to, &a, 64); }

/* a > b ? a : b, as MAXPS does it: b if one of them is NaN. */
RZ_INLINE rz_f32x16 rz_max(rz_f32x16 a, rz_f32x16 b) {
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = RZ_LANE(a, i) > RZ_LANE(b, i) ? RZ_LANE(a, i) : RZ_LANE(b, i);
    return a;
}
RZ_INLINE rz_f32x16 rz_min(rz_f32x16 a, rz_f32x16 b) {
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = RZ_LANE(a, i) < RZ_LANE(b, i) ? RZ_LANE(a, i) : RZ_LANE(b, i);
    return a;
}
RZ_INLINE rz_f32x16 rz_abs(rz_f32x16 a) {
    uint32_t bits[16];
    memcpy(bits, &a, 64);
    for (int i = 0; i < 16; i++) bits[i] &= 0x7fffffffu;
    memcpy(&a, bits, 64);
    return a;
}
/* a < b ? x : y, per lane. */
RZ_INLINE rz_f32x16 rz_select_less(rz_f32x16 a, rz_f32x16 b, rz_f32x16 x, rz_f32x16 y) {
    for (int i = 0; i < 16; i++) RZ_LANE(x, i) = RZ_LANE(a, i) < RZ_LANE(b, i) ? RZ_LANE(x, i) : RZ_LANE(y, i);
    return x;
}
/* The first n lanes of a, and `fill` in the others. n may be negative or more than 16. */
RZ_INLINE rz_f32x16 rz_keep_first(rz_f32x16 a, int64_t n, rz_f32x16 fill) {
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = i < n ? RZ_LANE(a, i) : RZ_LANE(fill, i);
    return a;
}
/* 2^n for lanes that hold integers in -126..127. */
RZ_INLINE rz_f32x16 rz_exp2_integer(rz_f32x16 n) {
    uint32_t bits[16];
    for (int i = 0; i < 16; i++) {
        /* NaN becomes the least integer, as with the conversion instructions; C leaves it undefined */
        const int32_t integer = RZ_LANE(n, i) == RZ_LANE(n, i) ? (int32_t)RZ_LANE(n, i) : INT32_MIN;
        bits[i] = ((uint32_t)integer + 127u) << 23;
    }
    memcpy(&n, bits, 64);
    return n;
}

RZ_INLINE rz_f32x16 rz_load_bf16(const uint16_t *from) {
    uint32_t bits[16];
    rz_f32x16 a;
    for (int i = 0; i < 16; i++) bits[i] = (uint32_t)from[i] << 16;
    memcpy(&a, bits, 64);
    return a;
}
RZ_INLINE rz_f32x16 rz_load_i8(const int8_t *from) {
    rz_f32x16 a;
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = (float)from[i];
    return a;
}
RZ_INLINE rz_f32x16 rz_load_i32(const int32_t *from) {
    rz_f32x16 a;
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = (float)from[i];
    return a;
}
/* Exact, also for subnormal numbers, which become normal. */
RZ_INLINE float rz_f16_to_f32_(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 0) {
        value = (float)fraction * 5.9604644775390625e-8f; /* 2^-24 */
        memcpy(&bits, &value, 4);
    } else if (exponent == 31) {
        bits = 0x7f800000u | (fraction << 13) | (fraction ? 0x400000u : 0u);
    } else {
        bits = ((exponent + 112u) << 23) | (fraction << 13);
    }
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}
RZ_INLINE rz_f32x16 rz_load_f16(const uint16_t *from) {
    rz_f32x16 a;
    for (int i = 0; i < 16; i++) RZ_LANE(a, i) = rz_f16_to_f32_(from[i]);
    return a;
}
/* Rounds half to even, limits to -128..127, and stores as int8. |a| must be at most 2^22. */
RZ_INLINE void rz_store_i8(int8_t *to, rz_f32x16 a) {
    for (int i = 0; i < 16; i++) {
        const float rounded = (RZ_LANE(a, i) + 12582912.0f) - 12582912.0f; /* 1.5 * 2^23 */
        /* NaN becomes -128, as with the conversion instructions */
        to[i] = (int8_t)(rounded > 127.0f ? 127.0f : (rounded > -128.0f ? rounded : -128.0f));
    }
}
/* The same with int16 and -32768..32767. */
RZ_INLINE void rz_store_i16(int16_t *to, rz_f32x16 a) {
    for (int i = 0; i < 16; i++) {
        const float rounded = (RZ_LANE(a, i) + 12582912.0f) - 12582912.0f;
        to[i] = (int16_t)(rounded > 32767.0f ? 32767.0f : (rounded > -32768.0f ? rounded : -32768.0f));
    }
}

/* The sum of all lanes, in a fixed order: lane l + lane l+8, then l+4, l+2, l+1. */
RZ_INLINE float rz_sum(rz_f32x16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) RZ_LANE(a, i) = RZ_LANE(a, i) + RZ_LANE(a, i + half);
    return RZ_LANE(a, 0);
}
/* The maximum in the same order, which matters for NaN and for zeros of both signs. */
RZ_INLINE float rz_maximum(rz_f32x16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            RZ_LANE(a, i) = RZ_LANE(a, i) > RZ_LANE(a, i + half) ? RZ_LANE(a, i) : RZ_LANE(a, i + half);
    return RZ_LANE(a, 0);
}
RZ_INLINE float rz_sqrt_one(float x) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_sqrtf(x); /* with -fno-math-errno this is the instruction, not libm */
#else
    return sqrtf(x);
#endif
}

#endif
