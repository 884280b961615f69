/* PTQ1_0 of PrismML: 128 weights are 28 bytes, five digits in each of the first 24, four in the next two,
 * then the fp16 scale. */
#ifndef RZ_SOURCE_PTQ1_0_H
#define RZ_SOURCE_PTQ1_0_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_ptq1_0_at_(const rz_ternary_source *source, int64_t row, int64_t column) {
    return source->data + row * source->row_bytes + column / 128 * 28;
}

RZ_INLINE void rz_ptq1_0_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    static const rz_digit_run runs[] = {{0, 16, 0}, {0, 16, 1}, {0, 16, 2}, {0, 16, 3}, /* 0 */
                                        {0, 16, 4},
                                        {16, 8, 0},
                                        {16, 8, 1},
                                        {16, 8, 2}, /* 64 */
                                        {16, 8, 3},
                                        {16, 8, 4},
                                        {24, 2, 0},
                                        {24, 2, 1},
                                        {24, 2, 2},
                                        {24, 2, 3}};
    const uint8_t *from = rz_ptq1_0_at_(source, row, column);
    if (column % 128)
        rz_read_digits_(from, runs + 4, sizeof runs / sizeof runs[0] - 4, codes);
    else
        rz_read_digits_(from, runs, 4, codes);
}

RZ_INLINE float rz_ptq1_0_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_half_at_(rz_ptq1_0_at_(source, row, column) + 26);
}

#endif
