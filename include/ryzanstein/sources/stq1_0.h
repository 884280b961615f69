/* STQ1_0 of Tencent AngelSlim ("Sherry"): 256 weights are 42 bytes. Of each four weights one is zero; a slot
 * of four bits says which, and the signs of the other two against the first. 32 bytes of slots, low half
 * first, eight bytes of signs of the first, lowest bit first, then the fp16 scale.
 * The four weights of slot g are g % 16 + 16 * p of 64, p = 0..3. */
#ifndef RZ_SOURCE_STQ1_0_H
#define RZ_SOURCE_STQ1_0_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_stq1_0_at_(const rz_ternary_source *source, int64_t row, int64_t column) {
    return source->data + row * source->row_bytes + column / 256 * 42;
}

RZ_INLINE void rz_stq1_0_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    const uint8_t *block = rz_stq1_0_at_(source, row, column);
    const int quarter = (int)(column % 256 / 64);
    for (int i = 0; i < 16; i++) {
        const int slot = block[8 * quarter + i / 2] >> 4 * (i % 2) & 15;
        const int sign = block[32 + 2 * quarter + i / 8] >> i % 8 & 1;
        const int negative = (slot & 1) << 1 | (slot & 2) << 1; /* bit k: of the k-th weight that is not zero */
        for (int p = 0, k = 0; p < 4; p++) {
            const int zero = p == slot >> 2;
            codes[i + 16 * p] = (uint8_t)(zero ? 1 : ((negative >> k & 1) ^ sign ? 0 : 2));
            k += !zero;
        }
    }
}

RZ_INLINE float rz_stq1_0_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_half_at_(rz_stq1_0_at_(source, row, column) + 40);
}

#endif
