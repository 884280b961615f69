/* Head screen with vpmaddubsw on ymm. A 16-bit sum can hold four products of a code and an activation, at
 * most 4*63*127 = 32,004, so two lines are added before the sums are widened. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#include "ryzanstein/screen/group.h"

#include "ryzanstein/screen/codes_ymm.h"

#define RZ_SCREEN_FEW_ 1
#define RZ_SCREEN_TOKENS_ 2 /* registers: four of sums, four of codes, and what the products need */
#define RZ_SCREEN_TILES_ 1

RZ_INLINE void rz_screen_few_(const uint8_t *from, rz_f32x16 scales, const rz_screen_group_ *x, int tokens,
                              float *totals) {
    const int8_t *values = x->codes;
    (void)tokens; /* always 1 */
    __m256i half_sums[2];
    half_sums[0] = half_sums[1] = _mm256_set1_epi32(*x->offsets);
    RZ_UNROLL
    for (int quarter = 0; quarter < 4; quarter++, values += 16) {
        RZ_UNROLL
        for (int line = 0; line < 3; line++) RZ_PREFETCH(from + 192 * quarter + 64 * line, RZ_SCREEN_PREFETCH_BYTES_);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i codes[4];
            rz_screen_codes_(from + 192 * quarter + 32 * half, codes);
            RZ_UNROLL
            for (int line = 0; line < 4; line += 2)
                half_sums[half] = rz_dot_two_(half_sums[half], codes[line], rz_four_(values + 4 * line), codes[line + 1],
                                              rz_four_(values + 4 * line + 4));
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
    for (int line = 0; line < 16; line += 2) {
        const uint8_t *lines = panel + 64 * line;
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256i first = rz_four_(x->codes + t * stride + 4 * line);
            const __m256i second = rz_four_(x->codes + t * stride + 4 * line + 4);
            RZ_UNROLL
            for (int half = 0; half < 2; half++)
                halves[t][half] =
                    rz_dot_two_(halves[t][half], rz_half_(lines + 32 * half), first, rz_half_(lines + 64 + 32 * half), second);
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) rz_screen_add_halves_(totals + RZ_SCREEN_ROWS * t, halves[t], rz_load(scales), x, t);
}

#endif
