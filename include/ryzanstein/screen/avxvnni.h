/* Head screen with vpdpbusd on ymm, a tile in two registers. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#define RZ_SCREEN_TOKENS_ 1 /* of sixteen registers, two planes of one token take enough */
#define RZ_SCREEN_TILES_ 1
#define RZ_SCREEN_FEW_ 1 /* tokens by one tile */

RZ_INLINE void rz_screen_sums_(const uint8_t *tiles, int count, int64_t column_groups, const rz_screen_input *x,
                               int tokens, int32_t coarse[][16], int32_t fine[][16]) {
    (void)tokens; /* always 1 */
    (void)count;
    __m256i a[2], b[2];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) {
        a[half] = _mm256_set1_epi32(-128 * x->coarse_sum);
        b[half] = _mm256_set1_epi32(-128 * x->fine_sum);
    }
    for (int64_t group = 0; group < column_groups; group++) {
        const __m256i four_a = rz_four_(x->coarse + 4 * group), four_b = rz_four_(x->fine + 4 * group);
        RZ_PREFETCH(tiles + 64 * group, RZ_PREFETCH_BYTES);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            const __m256i codes = rz_half_(tiles + 64 * group + 32 * half);
            a[half] = rz_dot_(a[half], codes, four_a);
            b[half] = rz_dot_(b[half], codes, four_b);
        }
    }
    RZ_UNROLL
    for (int half = 0; half < 2; half++) {
        _mm256_store_si256((__m256i *)coarse[0] + half, a[half]);
        _mm256_store_si256((__m256i *)fine[0] + half, b[half]);
    }
}

#endif
