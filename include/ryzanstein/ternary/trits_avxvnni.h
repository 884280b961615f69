/* trits_zmm.h for ymm, where a tile is two registers. */
#include "ryzanstein/ternary/trits_ymm.h"

#define RZ_TRITS_BEFORE_SHIFT_ 1638

RZ_INLINE __m256i rz_sum_three_(const __m256i *sums) {
    return _mm256_add_epi32(sums[0], _mm256_add_epi32(sums[1], sums[2]));
}

RZ_APART void rz_trits_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                               rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->run_lines * RZ_TILE_BYTES;
    const int8_t *values = x->codes;
    __m256i sums[2] = {_mm256_set1_epi32(-x->sums[0]), _mm256_set1_epi32(-x->sums[0])};
    for (int64_t c = 0; c < w->run_lines;) {
        const int64_t left = w->run_lines - c;
        const int64_t end = c + (left < RZ_TRITS_BEFORE_SHIFT_ ? left : RZ_TRITS_BEFORE_SHIFT_);
        __m256i before[2][3], after[2][3]; /* three each, for the latency of vpdpbusd */
    RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            before[half][0] = before[half][1] = before[half][2] = _mm256_setzero_si256();
            after[half][0] = after[half][1] = after[half][2] = _mm256_setzero_si256();
        }
        for (; c < end; c++, weights += RZ_TILE_BYTES, values += RZ_TRITS_COLUMNS) {
            RZ_PREFETCH(weights, RZ_PREFETCH_BYTES);
            __m256i bytes[2] = {rz_half_(weights), rz_half_(weights + 32)};
            RZ_UNROLL
            for (int k = 0; k < RZ_TRITS; k++) {
                const __m256i four = rz_four_(values + 4 * k);
                RZ_UNROLL
                for (int half = 0; half < 2; half++) {
                    before[half][k % 3] = rz_dot_(before[half][k % 3], bytes[half], four);
                    bytes[half] = rz_next_trits_(bytes[half]);
                    after[half][k % 3] = rz_dot_(after[half][k % 3], bytes[half], four);
                }
            }
        }
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            const __m256i once = rz_sum_three_(before[half]);
            const __m256i carried = _mm256_sub_epi32(_mm256_add_epi32(once, _mm256_add_epi32(once, once)),
                                                     rz_sum_three_(after[half]));
            sums[half] = _mm256_add_epi32(sums[half], _mm256_srai_epi32(carried, 8));
        }
    }
    RZ_ALIGNED(32) int32_t rows[16];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) _mm256_store_si256((__m256i *)rows + half, sums[half]);
    rz_store_rows_(rows, rz_scale_(w, x, 0), out + 16 * tile, w->rows - 16 * tile, store);
}

#define RZ_TRIT_SUMS_(n) RZ_TRIT_SUMS_OF_BYTES

/* trit_lines_zmm.h has the algebra. */
RZ_INLINE __m256i rz_trit_row_sums_(const uint8_t *from, const uint8_t *next, int64_t lines, const int8_t *values) {
    __m256i before[2][2], after[2][2]; /* two each, for the latency of vpdpbusd */
    RZ_UNROLL
    for (int half = 0; half < 2; half++)
        before[half][0] = before[half][1] = after[half][0] = after[half][1] = _mm256_setzero_si256();
    for (int64_t line = 0; line < lines; line++, from += RZ_LINE_BYTES, next += RZ_LINE_BYTES) {
        __m256i bytes[2] = {rz_half_(from), rz_half_(from + 32)};
        RZ_PREFETCH(next, 0);
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++, values += 64)
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                const __m256i some = rz_some_(values + 32 * half);
                before[half][k % 2] = rz_dot_(before[half][k % 2], bytes[half], some);
                bytes[half] = rz_next_trits_(bytes[half]);
                after[half][k % 2] = rz_dot_(after[half][k % 2], bytes[half], some);
            }
    }
    const __m256i once = _mm256_add_epi32(_mm256_add_epi32(before[0][0], before[0][1]), _mm256_add_epi32(before[1][0], before[1][1]));
    const __m256i less = _mm256_add_epi32(_mm256_add_epi32(after[0][0], after[0][1]), _mm256_add_epi32(after[1][0], after[1][1]));
    return _mm256_srai_epi32(_mm256_sub_epi32(_mm256_add_epi32(once, _mm256_add_epi32(once, once)), less), 8);
}

RZ_INLINE void rz_add_trit_columns_(__m256i *first, __m256i *second, __m256i four, __m256i four_more, __m256i *sums) {
    RZ_UNROLL
    for (int q = 0; q < 4; q++)
        RZ_UNROLL
        for (int k = 0; k <= RZ_TRITS; k++) {
            __m256i *to = sums + 8 * k + 2 * q;
            _mm256_store_si256(to, rz_dot_two_(_mm256_load_si256(to), first[q], four, second[q], four_more));
            first[q] = rz_next_trits_(first[q]);
            second[q] = rz_next_trits_(second[q]);
        }
}
