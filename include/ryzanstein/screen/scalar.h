/* Head screen in portable C: sum c*a and sum c*b for the 16 rows of a tile. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#define RZ_SCREEN_TOKENS_ 1
#define RZ_SCREEN_TILES_ 1
#define RZ_SCREEN_FEW_ 1 /* tokens by one tile */

RZ_INLINE void rz_screen_sums_(const uint8_t *tiles, int count, int64_t column_groups, const rz_screen_input *x,
                               int tokens, int32_t coarse_sums[][16], int32_t fine_sums[][16]) {
    int32_t *coarse = coarse_sums[0], *fine = fine_sums[0];
    (void)tokens; /* always 1 */
    (void)count;
    for (int row = 0; row < 16; row++) {
        coarse[row] = -128 * x->coarse_sum;
        fine[row] = -128 * x->fine_sum;
    }
    for (int64_t group = 0; group < column_groups; group++)
        for (int row = 0; row < 16; row++)
            for (int b = 0; b < 4; b++) {
                const int32_t code = tiles[64 * group + 4 * row + b];
                coarse[row] += code * x->coarse[4 * group + b];
                fine[row] += code * x->fine[4 * group + b];
            }
}

#endif
