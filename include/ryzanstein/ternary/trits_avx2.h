/* One token and the trits layout with vpmaddubsw, which saturates: digits are taken out one by one.
 *
 * Head-room: digits plus 1 are at most 3, a pair of products 2*3*128 = 768; a tile has five pairs of
 * a row, 3,840, and int16 takes up eight tiles: 30,720.
 */
#include "ryzanstein/ternary/trits_ymm.h"

#define RZ_TRITS_BEFORE_WIDENING_ 8

RZ_APART void rz_trits_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                               rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->run_lines * RZ_TILE_BYTES;
    const int8_t *values = x->codes;
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t c = 0; c < w->run_lines;) {
        const int64_t left = w->run_lines - c;
        const int64_t end = c + (left < RZ_TRITS_BEFORE_WIDENING_ ? left : RZ_TRITS_BEFORE_WIDENING_);
        __m256i words[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (; c < end; c++, weights += RZ_TILE_BYTES, values += RZ_TRITS_COLUMNS) {
            RZ_PREFETCH(weights, RZ_PREFETCH_BYTES);
    RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                __m256i bytes = rz_half_(weights + 32 * half);
                RZ_UNROLL
                for (int k = 0; k < RZ_TRITS; k++, bytes = rz_next_trits_(bytes))
                    words[half] = rz_add_products_(words[half], rz_trits_above_(bytes), rz_four_(values + 4 * k));
            }
        }
        RZ_UNROLL
        for (int half = 0; half < 2; half++) sums[half] = rz_add_widened_(sums[half], words[half]);
    }
    RZ_ALIGNED(32) int32_t rows[16];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) /* once for the 1, once for the code of a weight of 0 */
        _mm256_store_si256((__m256i *)rows + half, _mm256_sub_epi32(sums[half], _mm256_set1_epi32(2 * x->sums[0])));
    rz_store_rows_(rows, rz_scale_(w, x, 0), out + 16 * tile, w->rows - 16 * tile, store);
}

#define RZ_TRIT_SUMS_(n) RZ_TRIT_SUMS_OF_ABOVE

/* A line is ten pairs: 7,680 in int16. */
RZ_INLINE __m256i rz_trit_row_sums_(const uint8_t *from, const uint8_t *next, int64_t lines, const int8_t *values) {
    __m256i sums = _mm256_setzero_si256();
    for (int64_t line = 0; line < lines; line++, from += RZ_LINE_BYTES, next += RZ_LINE_BYTES) {
        __m256i bytes[2] = {rz_half_(from), rz_half_(from + 32)}, words = _mm256_setzero_si256();
        RZ_PREFETCH(next, 0);
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++, values += 64)
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                words = rz_add_products_(words, rz_trits_above_(bytes[half]), rz_some_(values + 32 * half));
                bytes[half] = rz_next_trits_(bytes[half]);
            }
        sums = rz_add_widened_(sums, words);
    }
    return sums;
}

RZ_INLINE void rz_add_trit_columns_(__m256i *first, __m256i *second, __m256i four, __m256i four_more, __m256i *sums) {
    RZ_UNROLL
    for (int q = 0; q < 4; q++)
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++) {
            __m256i *to = sums + 8 * k + 2 * q;
            _mm256_store_si256(to, rz_dot_two_(_mm256_load_si256(to), rz_trits_above_(first[q]), four,
                                               rz_trits_above_(second[q]), four_more));
            first[q] = rz_next_trits_(first[q]);
            second[q] = rz_next_trits_(second[q]);
        }
}
