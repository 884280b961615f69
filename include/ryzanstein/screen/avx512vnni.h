/* Head screen with vpdpbusd on zmm. For one token memory sets the pace, so tiles are read as one
 * stream. For more, two tiles and six tokens share each load: 24 sums, 14 loads for 24 products. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#define RZ_SCREEN_TOKENS_ 6
#define RZ_SCREEN_TILES_ 2
#define RZ_SCREEN_FEW_ 4 /* tokens by one tile */

/* Sums of one token: coarse and fine of each tile. */
typedef struct {
    __m512i coarse[RZ_SCREEN_TILES_], fine[RZ_SCREEN_TILES_];
} rz_screen_sums_of_;

RZ_INLINE void rz_screen_begin_(rz_screen_sums_of_ *sums, const rz_screen_input *x, int tiles) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) {
        sums->coarse[i] = _mm512_set1_epi32(-128 * x->coarse_sum);
        sums->fine[i] = _mm512_set1_epi32(-128 * x->fine_sum);
    }
}
RZ_INLINE void rz_screen_add_(rz_screen_sums_of_ *sums, const __m512i *codes, const rz_screen_input *x, int64_t group,
                              int tiles) {
    const __m512i coarse = rz_four_(x->coarse + 4 * group), fine = rz_four_(x->fine + 4 * group);
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) {
        sums->coarse[i] = rz_dot_(sums->coarse[i], codes[i], coarse);
        sums->fine[i] = rz_dot_(sums->fine[i], codes[i], fine);
    }
}
RZ_INLINE void rz_screen_end_(const rz_screen_sums_of_ *sums, int tiles, int32_t coarse[][16], int32_t fine[][16]) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) {
        _mm512_store_si512(coarse[i], sums->coarse[i]);
        _mm512_store_si512(fine[i], sums->fine[i]);
    }
}

/* coarse, fine: (tokens, tiles, 16) */
RZ_INLINE void rz_screen_sums_(const uint8_t *from, int tiles, int64_t column_groups, const rz_screen_input *x,
                               int tokens, int32_t coarse[][16], int32_t fine[][16]) {
    rz_screen_sums_of_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5;
#define RZ_BEGIN_(t) rz_screen_begin_(&sums_##t, x + t, tiles)
#define RZ_ADD_(t) rz_screen_add_(&sums_##t, codes, x + t, group, tiles)
#define RZ_END_(t) rz_screen_end_(&sums_##t, tiles, coarse + t * tiles, fine + t * tiles)
    RZ_EACH_TOKEN_(tokens, RZ_BEGIN_)
    for (int64_t group = 0; group < column_groups; group++) {
        __m512i codes[RZ_SCREEN_TILES_];
        RZ_UNROLL
        for (int i = 0; i < tiles; i++) {
            RZ_PREFETCH(from + (i * column_groups + group) * 64, RZ_PREFETCH_BYTES);
            codes[i] = _mm512_load_si512(from + (i * column_groups + group) * 64);
        }
        RZ_EACH_TOKEN_(tokens, RZ_ADD_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_END_)
#undef RZ_BEGIN_
#undef RZ_ADD_
#undef RZ_END_
}

#endif
