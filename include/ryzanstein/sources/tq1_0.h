/* TQ1_0 of llama.cpp: 256 weights are 54 bytes, five digits in each of the first 48, four in the next
 * four, then the fp16 scale. */
#ifndef RZ_SOURCE_TQ1_0_H
#define RZ_SOURCE_TQ1_0_H

#include "ryzanstein/sources/source.h"

RZ_INLINE const uint8_t *rz_tq1_0_at_(const rz_ternary_source *source, int64_t row, int64_t column) {
    return source->data + row * source->row_bytes + column / 256 * 54;
}

RZ_INLINE void rz_tq1_0_block(const rz_ternary_source *source, int64_t row, int64_t column, uint8_t *codes) {
    static const rz_digit_run runs[] = {
        {0, 32, 0}, {0, 32, 1}, /* 0 */
        {0, 32, 2},
        {0, 32, 3}, /* 64 */
        {0, 32, 4},
        {32, 16, 0},
        {32, 16, 1}, /* 128 */
        {32, 16, 2},
        {32, 16, 3},
        {32, 16, 4},
        {48, 4, 0},
        {48, 4, 1},
        {48, 4, 2},
        {48, 4, 3}}; /* 192 */
    static const uint8_t first[] = {0, 2, 4, 7, sizeof runs / sizeof runs[0]};
    const int quarter = (int)(column % 256 / 64);
    rz_read_digits_(rz_tq1_0_at_(source, row, column), runs + first[quarter], first[quarter + 1] - first[quarter],
                    codes);
}

RZ_INLINE float rz_tq1_0_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    return rz_half_at_(rz_tq1_0_at_(source, row, column) + 52);
}

#endif
