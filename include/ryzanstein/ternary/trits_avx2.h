/* One token and the trits layout with vpmaddubsw, which saturates: digits are taken out one by one.
 *
 * Head-room: digits plus 1 are at most 3, a pair of products 2*3*128 = 768; a tile has five pairs of
 * a row, 3,840, and int16 takes up eight tiles: 30,720.
 */
#include "ryzanstein/ternary/trits_ymm.h"

#define RZ_TRITS_BEFORE_WIDENING_ 8

static void rz_trits_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
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
    rz_store_rows_(rows, x->scales[0] * w->scale, out + 16 * tile, w->rows - 16 * tile, store);
}
