/* Hugging Face's packing of BitNet: byte [r, c] of (R, columns), R = ceil(rows / 4), holds rows r, r + R,
 * r + 2R, r + 3R of column c in bit pairs 0, 2, 4, 6. The scale is a tensor of its own.
 * Any column and any number of codes, because this is how most models come. */
#ifndef RZ_SOURCE_HF_PACKED_H
#define RZ_SOURCE_HF_PACKED_H

#include "ryzanstein/sources/source.h"

RZ_INLINE uint32_t rz_hf_packed_codes(const rz_ternary_source *source, int64_t row, int64_t column, int n,
                                      uint8_t *codes) {
    const int64_t quarter = (source->rows + 3) / 4;
    const uint8_t *from = source->data + row % quarter * source->columns + column;
    const int shift = (int)(2 * (row / quarter));
    if (n == RZ_SOURCE_CODES) { /* of constant length, so that it vectorises */
        for (int i = 0; i < RZ_SOURCE_CODES; i++) codes[i] = from[i] >> shift & 3;
        return rz_invalid_codes_(codes);
    }
    uint32_t bad = 0;
    for (int i = 0; i < n; i++) {
        codes[i] = from[i] >> shift & 3;
        bad |= codes[i] & codes[i] >> 1;
    }
    return bad;
}

#endif
