/* IQ2_BN of ik_llama.cpp: a row is its float32 scale, then for each 64 weights 16 bytes; byte j holds weights
 * j, 16 + j, 32 + j, 48 + j in bit pairs 0, 2, 4, 6. */
#ifndef RZ_SOURCE_IQ2_BN_H
#define RZ_SOURCE_IQ2_BN_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint32_t rz_iq2_bn_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *block = source->data + row * source->row_bytes + 4 + column / 64 * 16;
    for (int i = 0; i < RZ_SOURCE_CODES; i++) codes[i] = block[i % 16] >> 2 * (i / 16) & 3;
    return rz_invalid_codes_(codes);
}

RZ_INLINE float rz_iq2_bn_scale(const rz_ternary_source *source, int64_t row) {
    return rz_float_at_(source->data + row * source->row_bytes);
}

#endif
