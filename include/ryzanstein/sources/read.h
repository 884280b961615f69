/* Codes and scales of a source, whatever its encoding. */
#ifndef RZ_SOURCE_READ_H
#define RZ_SOURCE_READ_H

#include "ryzanstein/sources/hf_packed.h"
#include "ryzanstein/sources/i2_s.h"
#include "ryzanstein/sources/iq1_bn.h"
#include "ryzanstein/sources/iq2_bn.h"
#include "ryzanstein/sources/masters.h"
#include "ryzanstein/sources/mlx2.h"
#include "ryzanstein/sources/ptq1_0.h"
#include "ryzanstein/sources/q2_0.h"
#include "ryzanstein/sources/source.h"
#include "ryzanstein/sources/stq1_0.h"
#include "ryzanstein/sources/ternary_floats.h"
#include "ryzanstein/sources/tq1_0.h"
#include "ryzanstein/sources/tq2_0.h"

/* 64 codes from a column that is a multiple of 64, of a stored row. */
RZ_APART uint32_t rz_source_block_(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    switch (source->encoding) {
    case RZ_ENCODING_TERNARY_FLOATS: return rz_ternary_floats_block(source, row, column, codes);
    case RZ_ENCODING_I2_S: return rz_i2_s_block(source, row, column, codes);
    case RZ_ENCODING_I2_S_ARM: return rz_i2_s_arm_block(source, row, column, codes);
    case RZ_ENCODING_TQ2_0: return rz_tq2_0_block(source, row, column, codes);
    case RZ_ENCODING_Q2_0: return rz_q2_0_block(source, row, column, codes);
    case RZ_ENCODING_MLX2: return rz_mlx2_block(source, row, column, codes);
    case RZ_ENCODING_IQ2_BN: return rz_iq2_bn_block(source, row, column, codes);
    case RZ_ENCODING_TQ1_0: rz_tq1_0_block(source, row, column, codes); break; /* digits are never 3 */
    case RZ_ENCODING_PTQ1_0: rz_ptq1_0_block(source, row, column, codes); break;
    case RZ_ENCODING_STQ1_0: rz_stq1_0_block(source, row, column, codes); break;
    default: rz_iq1_bn_block(source, row, column, codes); break;
    }
    return 0;
}

/* n <= 64 codes of a stored row from any column on: of the two blocks that they may be in. */
RZ_APART uint32_t rz_source_blocks_(const rz_ternary_source *source, int64_t row, int64_t column, int n,
                                    uint8_t *codes) {
    uint8_t both[2 * RZ_SOURCE_CODES];
    const int within = (int)(column % RZ_SOURCE_CODES);
    uint32_t problems = rz_source_block_(source, row, column - within, both);
    if (within + n > RZ_SOURCE_CODES)
        problems |= rz_source_block_(source, row, column - within + RZ_SOURCE_CODES, both + RZ_SOURCE_CODES);
    memcpy(codes, both + within, (size_t)n);
    return problems;
}

/* RZ_SOURCE_CODES codes of output row `row` from any column on; code 1 outside of the matrix. Returns bits
 * of rz_source_problem. */
RZ_INLINE uint32_t rz_source_codes(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const int64_t left = row < source->rows ? source->columns - column : 0;
    const int n = left >= RZ_SOURCE_CODES ? RZ_SOURCE_CODES : (left > 0 ? (int)left : 0);
    uint32_t problems = 0;
    if (source->encoding == RZ_ENCODING_HF_PACKED && n)
        problems = rz_hf_packed_codes(source, row, column, n, codes);
    else if (source->encoding == RZ_ENCODING_MASTERS)
        rz_masters_codes(source, row, column, n, codes);
    else if (n)
        problems = rz_source_blocks_(source, rz_source_row_(source, row), column, n, codes);
    for (int i = n; i < RZ_SOURCE_CODES; i++) codes[i] = RZ_PADDING_CODE;
    return problems;
}

/* The same, from a column that is a multiple of 64, as the words of four tiles (kernels.h): columns 0-3 | columns
 * 4-7 << 2 | columns 8-11 << 4 | columns 12-15 << 6 of each 16. Codes that are bit pairs in their order
 * need not be taken apart for that. */
RZ_INLINE uint32_t rz_source_tile_words(const rz_ternary_source *source, int64_t row, int64_t column, uint32_t *words) {
    const int in_order = source->encoding == RZ_ENCODING_Q2_0 || source->encoding == RZ_ENCODING_MLX2;
    if (in_order && row < source->rows && column + RZ_SOURCE_CODES <= source->columns) {
        const int64_t stored = rz_source_row_(source, row);
        const uint8_t *from = source->encoding == RZ_ENCODING_Q2_0 ? rz_q2_0_pairs(source, stored, column)
                                                                   : rz_mlx2_pairs(source, stored, column);
        uint64_t pairs[2], bad = 0;
        memcpy(pairs, from, 16);
        for (int i = 0; i < 2; i++) {
            bad |= pairs[i] & pairs[i] >> 1 & 0x5555555555555555u;
            pairs[i] = rz_transposed_pairs_(pairs[i]);
        }
        memcpy(words, pairs, 16);
        return bad != 0;
    }
    uint8_t codes[RZ_SOURCE_CODES];
    const uint32_t problems = rz_source_codes(source, row, column, codes);
    for (int i = 0; i < 4; i++) {
        uint32_t of[4];
        memcpy(of, codes + 16 * i, 16);
        words[i] = of[0] | of[1] << 2 | of[2] << 4 | of[3] << 6;
    }
    return problems;
}

/* The scale of the group of output row `row` that has this column; both are inside the matrix. */
static inline uint32_t rz_source_scale(const rz_ternary_source *source, int64_t row, int64_t column, float *scale) {
    uint32_t problems = 0;
    row = rz_source_row_(source, row);
    switch (source->encoding) {
    case RZ_ENCODING_TERNARY_FLOATS: *scale = rz_ternary_floats_scale(source, row, column); break;
    case RZ_ENCODING_I2_S:
    case RZ_ENCODING_I2_S_ARM: *scale = rz_i2_s_scale(source); break;
    case RZ_ENCODING_TQ1_0: *scale = rz_tq1_0_scale(source, row, column); break;
    case RZ_ENCODING_TQ2_0: *scale = rz_tq2_0_scale(source, row, column); break;
    case RZ_ENCODING_Q2_0: *scale = rz_q2_0_scale(source, row, column); break;
    case RZ_ENCODING_PTQ1_0: *scale = rz_ptq1_0_scale(source, row, column); break;
    case RZ_ENCODING_MLX2: problems = rz_mlx2_scale(source, row, column, scale); break;
    case RZ_ENCODING_STQ1_0: *scale = rz_stq1_0_scale(source, row, column); break;
    case RZ_ENCODING_IQ1_BN: *scale = rz_iq1_bn_scale(source, row); break;
    case RZ_ENCODING_IQ2_BN: *scale = rz_iq2_bn_scale(source, row); break;
    default: *scale = source->scale; break;
    }
    return problems | (*scale >= 0 && *scale <= 3.40282347e38f ? 0u : RZ_PROBLEM_SCALE);
}

/* The problems of an output row, as packing finds them, but those after the first group that has any.
 * `half`: whether scales must be fp16 numbers. */
static inline uint32_t rz_source_row_problems(const rz_ternary_source *source, int64_t row, int half) {
    uint32_t problems = 0;
    for (int64_t column = 0; column < source->columns && !problems; column += source->group_columns) {
        float scale;
        uint16_t bits;
        problems |= rz_source_scale(source, row, column, &scale);
        if (half && !rz_half_bits(scale, &bits)) problems |= RZ_PROBLEM_HALF;
        for (int64_t c = column; c < column + source->group_columns; c += RZ_SOURCE_CODES) {
            uint8_t codes[RZ_SOURCE_CODES];
            problems |= rz_source_codes(source, row, c, codes);
        }
    }
    return problems;
}

/* The scale that all weights of an output row have, or RZ_PROBLEM_SCALES; -1 if any would do. That is
 * so if all groups are zeros with scale 0; beside others, such a group changes no weight either. */
static inline uint32_t rz_source_row_scale(const rz_ternary_source *source, int64_t row, float *of_row) {
    uint32_t problems = 0;
    *of_row = -1;
    for (int64_t column = 0; column < source->columns; column += source->group_columns) {
        float scale;
        int zeros = 1;
        problems |= rz_source_scale(source, row, column, &scale);
        for (int64_t c = column; scale == 0 && c < column + source->group_columns; c += RZ_SOURCE_CODES) {
            uint8_t codes[RZ_SOURCE_CODES];
            problems |= rz_source_codes(source, row, c, codes);
            for (int i = 0; i < RZ_SOURCE_CODES; i++) zeros &= codes[i] == RZ_PADDING_CODE;
        }
        if (scale == 0 && zeros) continue;
        if (*of_row >= 0 && scale != *of_row) problems |= RZ_PROBLEM_SCALES;
        *of_row = scale;
    }
    return problems;
}

#endif
