/* IQ1_BN of ik_llama.cpp: a row is its fp16 scale, then for each 64 weights 13 bytes. Bytes 3i..3i+2 have
 * five digits each of weights 16i..16i+14, least significant first, byte 12 has weights 16i + 15. */
#ifndef RZ_SOURCE_IQ1_BN_H
#define RZ_SOURCE_IQ1_BN_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint8_t rz_iq1_bn_digit_(uint8_t byte, int digit) {
    static const uint8_t power[5] = {81, 27, 9, 3, 1};
    const int part = byte * power[digit] & 255;
    return (uint8_t)((part + (part >> 1)) >> 7);
}

RZ_INLINE void rz_iq1_bn_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *block = source->data + row * source->row_bytes + 2 + column / 64 * 13;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 15; j++) codes[16 * i + j] = rz_iq1_bn_digit_(block[3 * i + j / 5], j % 5);
        codes[16 * i + 15] = rz_iq1_bn_digit_(block[12], i);
    }
}

RZ_INLINE float rz_iq1_bn_scale(const rz_ternary_source *source, int64_t row) {
    return rz_half_at_(source->data + row * source->row_bytes);
}

#endif
