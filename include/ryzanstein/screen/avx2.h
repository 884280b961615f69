/* Head screen with vpmaddubsw on ymm. Codes are taken apart into magnitude and sign: a pair is
 * then at most 2*127*127 = 32258 and fits int16, where (c + 128) * a would saturate. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

RZ_INLINE __m256i rz_add_signed_(__m256i sum_i32, __m256i codes, __m256i magnitudes, __m256i four) {
    return rz_add_widened_(sum_i32, _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(four, codes)));
}

#define RZ_SCREEN_TOKENS_ 1 /* of sixteen registers, two planes of one token take enough */
#define RZ_SCREEN_TILES_ 1
#define RZ_SCREEN_FEW_ 1 /* tokens by one tile */

RZ_INLINE void rz_screen_sums_(const uint8_t *tiles, int count, int64_t column_groups, const rz_screen_input *x,
                               int tokens, int32_t coarse[][16], int32_t fine[][16]) {
    (void)tokens; /* always 1 */
    (void)count;
    const __m256i offset = _mm256_set1_epi8((char)0x80); /* exclusive or takes 128 off */
    __m256i a[2], b[2];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) a[half] = b[half] = _mm256_setzero_si256();
    for (int64_t group = 0; group < column_groups; group++) {
        const __m256i four_a = rz_four_(x->coarse + 4 * group), four_b = rz_four_(x->fine + 4 * group);
        RZ_PREFETCH(tiles + 64 * group, RZ_PREFETCH_BYTES);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            const __m256i codes = _mm256_xor_si256(rz_half_(tiles + 64 * group + 32 * half), offset);
            const __m256i magnitudes = _mm256_abs_epi8(codes);
            a[half] = rz_add_signed_(a[half], codes, magnitudes, four_a);
            b[half] = rz_add_signed_(b[half], codes, magnitudes, four_b);
        }
    }
    RZ_UNROLL
    for (int half = 0; half < 2; half++) {
        _mm256_store_si256((__m256i *)coarse[0] + half, a[half]);
        _mm256_store_si256((__m256i *)fine[0] + half, b[half]);
    }
}

#endif
