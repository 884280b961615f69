/* I2_S of microsoft/BitNet, in the order of x86: 128 weights are 32 bytes, and byte p holds weights p,
 * 32 + p, 64 + p, 96 + p in bit pairs 6, 4, 2, 0. One float32 scale follows the codes of all rows.
 * Rows are whole blocks. */
#ifndef RZ_SOURCE_I2_S_H
#define RZ_SOURCE_I2_S_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint32_t rz_i2_s_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *from = source->data + row * source->row_bytes + column / 128 * 32;
    const int shift = column % 128 ? 2 : 6;
    for (int i = 0; i < 32; i++) {
        codes[i] = from[i] >> shift & 3;
        codes[32 + i] = from[i] >> (shift - 2) & 3;
    }
    return rz_invalid_codes_(codes);
}

RZ_INLINE float rz_i2_s_scale(const rz_ternary_source *source) {
    return rz_float_at_(source->data + source->rows * source->row_bytes);
}

#endif
