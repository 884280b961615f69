/* Floats that are ternary already: in each group of columns of a row every weight is -s, 0 or s.
 * s is the largest |w| of the group. Any number of columns. */
#ifndef RZ_SOURCE_TERNARY_FLOATS_H
#define RZ_SOURCE_TERNARY_FLOATS_H

#include "ryzanstein/sources/source.h"

/* NaN if a weight is. */
RZ_INLINE float rz_ternary_floats_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    const int64_t begin = column / source->group_columns * source->group_columns;
    const int64_t end = begin + source->group_columns < source->columns ? begin + source->group_columns
                                                                        : source->columns;
    const uint8_t *of_row = source->data + row * source->row_bytes;
    float scale = 0;
    for (int64_t i = begin; i < end; i++) {
        const float w = rz_widen_(of_row, i, source->float_kind);
        const float size = w < 0 ? -w : w;
        if (!(size <= scale)) scale = size; /* and NaN stays */
        if (size != size) return size;
    }
    return scale;
}

RZ_INLINE uint32_t rz_ternary_floats_block(const rz_ternary_source *source, int64_t row, int64_t column,
                                           uint8_t *codes) {
    const float scale = rz_ternary_floats_scale(source, row, column);
    const int64_t left = source->columns - column;
    const uint8_t *of_row = source->data + row * source->row_bytes;
    int wrong = 0;
    for (int i = 0; i < RZ_SOURCE_CODES; i++) {
        const float w = i < left ? rz_widen_(of_row, column + i, source->float_kind) : 0;
        wrong |= w != 0 && w != scale && w != -scale;
        codes[i] = (uint8_t)(w > 0 ? 2 : (w < 0 ? 0 : 1));
    }
    return wrong ? RZ_PROBLEM_FLOATS : 0;
}

#endif
