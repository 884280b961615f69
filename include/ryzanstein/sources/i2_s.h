/* I2_S of microsoft/BitNet. Codes are in bit pairs 6, 4, 2, 0 of bytes: written on x86, byte p of 32 holds
 * weights p, 32 + p, 64 + p, 96 + p of 128, written on ARM, byte p of 16 holds weights p, 16 + p, 32 + p,
 * 48 + p of 64. No file says where it was written. One float32 scale follows the codes of all rows. Rows are
 * whole blocks. */
#ifndef RZ_SOURCE_I2_S_H
#define RZ_SOURCE_I2_S_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint32_t rz_i2_s_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *block = source->data + row * source->row_bytes + column / 128 * 32;
    return rz_codes_by_pair_(block, 32, column % 128 ? 2 : 6, -2, codes);
}

RZ_INLINE uint32_t rz_i2_s_arm_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    return rz_codes_by_pair_(source->data + row * source->row_bytes + column / 4, 16, 6, -2, codes);
}

RZ_INLINE float rz_i2_s_scale(const rz_ternary_source *source) {
    return rz_float_at_(source->data + source->rows * source->row_bytes);
}

#endif
