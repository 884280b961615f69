/* IQ2_BN of ik_llama.cpp: a row is its float32 scale, then for each 64 weights 16 bytes; byte j holds weights
 * j, 16 + j, 32 + j, 48 + j in bit pairs 0, 2, 4, 6. */
#ifndef RZ_SOURCE_IQ2_BN_H
#define RZ_SOURCE_IQ2_BN_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint32_t rz_iq2_bn_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    return rz_codes_by_pair_(source->data + row * source->row_bytes + 4 + column / 64 * 16, 16, 0, 2, codes);
}

RZ_INLINE float rz_iq2_bn_scale(const rz_ternary_source *source, int64_t row) {
    return rz_float_at_(source->data + row * source->row_bytes);
}

#endif
