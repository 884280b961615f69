/* MLX's affine quantisation with two bits: w = scale * code + bias, ternary if bias = -scale. Codes are in
 * their order in 32-bit words, lowest bits first; scales and biases are float tensors of their own. */
#ifndef RZ_SOURCE_MLX2_H
#define RZ_SOURCE_MLX2_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_mlx2_pairs(const rz_ternary_source *source, int64_t row, int64_t column) {
    return source->data + row * source->row_bytes + column / 4;
}

RZ_INLINE uint32_t rz_mlx2_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    return rz_codes_in_order_(rz_mlx2_pairs(source, row, column), codes);
}

RZ_INLINE uint32_t rz_mlx2_scale(const rz_ternary_source *source, int64_t row, int64_t column, float *scale) {
    const int64_t group = row * (source->columns / source->group_columns) + column / source->group_columns;
    *scale = rz_widen_(source->scales, group, source->float_kind);
    return rz_widen_(source->biases, group, source->float_kind) != -*scale ? RZ_PROBLEM_BIAS : 0;
}

#endif
