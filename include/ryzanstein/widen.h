/* A float of a checkpoint (float32, bfloat16 or float16) as float32, exactly. Portable C. */
#ifndef RZ_WIDEN_H
#define RZ_WIDEN_H

#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

RZ_INLINE float rz_widen_(const void *values, int64_t index, int kind) {
    if (kind == RZ_FLOAT_F32) {
        float value;
        memcpy(&value, (const char *)values + 4 * index, 4);
        return value;
    }
    uint16_t half;
    memcpy(&half, (const char *)values + 2 * index, 2);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    if (kind == RZ_FLOAT_F16) {
        const uint32_t sign = bits & 0x80000000u, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
        if (exponent == 0) {
            value = (float)fraction * 5.9604644775390625e-8f; /* 2^-24 */
            memcpy(&bits, &value, 4);
        } else {
            bits = (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13;
        }
        bits |= sign;
    }
    memcpy(&value, &bits, 4);
    return value;
}

#endif
