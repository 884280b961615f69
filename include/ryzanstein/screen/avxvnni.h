/* Head screen with vpdpbusd on ymm: a line of a tile is two registers. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#include "ryzanstein/screen/group.h"

#include "ryzanstein/screen/codes_ymm.h"

#define RZ_SCREEN_FEW_ 1
#define RZ_SCREEN_TOKENS_ 4 /* registers: eight of sums, two of codes, one of activations */
#define RZ_SCREEN_TILES_ 1

RZ_INLINE void rz_screen_few_(const uint8_t *from, rz_f32x16 scales, const rz_screen_group_ *x, int tokens,
                              float *totals) {
    const int8_t *values = x->codes;
    (void)tokens; /* always 1 */
    __m256i half_sums[2];
    half_sums[0] = half_sums[1] = _mm256_set1_epi32(*x->offsets);
    RZ_UNROLL
    for (int quarter = 0; quarter < 4; quarter++) {
        RZ_UNROLL
        for (int line = 0; line < 3; line++) RZ_PREFETCH(from + 192 * quarter + 64 * line, RZ_SCREEN_PREFETCH_BYTES_);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i codes[4];
            rz_screen_codes_(from + 192 * quarter + 32 * half, codes);
            RZ_UNROLL
            for (int line = 0; line < 4; line++)
                half_sums[half] = rz_dot_(half_sums[half], codes[line], rz_four_(values + 16 * quarter + 4 * line));
        }
    }
    rz_screen_add_halves_(totals, half_sums, scales, x, 0);
}

RZ_INLINE void rz_screen_many_(const uint8_t *panel, const float *scales, const rz_screen_group_ *x, int tokens,
                               float *totals) {
    const int64_t stride = RZ_SCREEN_GROUP * x->groups;
    __m256i halves[RZ_SCREEN_TOKENS_][2];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) halves[t][0] = halves[t][1] = _mm256_set1_epi32(x->offsets[t * x->groups]);
    for (int line = 0; line < 16; line++) {
        const __m256i low = rz_half_(panel + 64 * line), high = rz_half_(panel + 64 * line + 32);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256i activations = rz_four_(x->codes + t * stride + 4 * line);
            halves[t][0] = rz_dot_(halves[t][0], low, activations);
            halves[t][1] = rz_dot_(halves[t][1], high, activations);
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) rz_screen_add_halves_(totals + RZ_SCREEN_ROWS * t, halves[t], rz_load(scales), x, t);
}

#endif
