/* Q2_0 of llama.cpp (64 weights in 18 bytes), and PQ2_0 of PrismML, which is also their older Q2_0 (128 in
 * 34): the fp16 scale comes first, then codes in their order, lowest bits first. Code 3 stands for +2
 * there, which no ternary weight has. */
#ifndef RZ_SOURCE_Q2_0_H
#define RZ_SOURCE_Q2_0_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_q2_0_at_(const rz_ternary_source *source, int64_t row, int64_t column) {
    const uint8_t *data = source->data + row * source->row_bytes;
    return source->group_columns == 64 ? data + column / 64 * 18 : data + column / 128 * 34; /* no division */
}

RZ_INLINE const uint8_t *rz_q2_0_pairs(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_q2_0_at_(source, row, column) + 2 + (source->group_columns == 64 ? 0 : column % 128 / 4);
}

RZ_INLINE uint32_t rz_q2_0_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    return rz_codes_in_order_(rz_q2_0_pairs(source, row, column), codes);
}

RZ_INLINE float rz_q2_0_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_half_at_(rz_q2_0_at_(source, row, column));
}

#endif
