/* TQ2_0 of llama.cpp: 256 weights are 66 bytes. Byte m of each half's 32 holds weights m, 32 + m, 64 + m,
 * 96 + m of that half in bit pairs 0, 2, 4, 6; the fp16 scale comes last. */
#ifndef RZ_SOURCE_TQ2_0_H
#define RZ_SOURCE_TQ2_0_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_tq2_0_at_(const rz_ternary_source *source, int64_t row, int64_t column) {
    return source->data + row * source->row_bytes + column / 256 * 66;
}

RZ_INLINE uint32_t rz_tq2_0_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *half = rz_tq2_0_at_(source, row, column) + column % 256 / 128 * 32;
    return rz_codes_by_pair_(half, 32, column % 128 ? 4 : 0, 2, codes);
}

RZ_INLINE float rz_tq2_0_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_half_at_(rz_tq2_0_at_(source, row, column) + 64);
}

#endif
