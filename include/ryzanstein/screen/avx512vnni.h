/* Head screen with vpdpbusd on zmm: one load serves both planes, memory sets the pace. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

static void rz_screen_sums_(const uint8_t *tiles, int64_t column_groups, const rz_screen_input *x,
                            int32_t coarse[16], int32_t fine[16]) {
    __m512i a = _mm512_set1_epi32(-128 * x->coarse_sum), b = _mm512_set1_epi32(-128 * x->fine_sum);
    for (int64_t group = 0; group < column_groups; group++) {
        RZ_PREFETCH(tiles + 64 * group + RZ_PREFETCH_BYTES);
        const __m512i codes = _mm512_load_si512(tiles + 64 * group);
        a = rz_dot_(a, codes, rz_four_(x->coarse + 4 * group));
        b = rz_dot_(b, codes, rz_four_(x->fine + 4 * group));
    }
    _mm512_store_si512(coarse, a);
    _mm512_store_si512(fine, b);
}

#endif
