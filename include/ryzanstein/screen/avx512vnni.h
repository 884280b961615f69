/* Head screen with vpdpbusd on zmm: one load serves both planes of up to four tokens. For one
 * token memory sets the pace; for several, eight chains of sums hide the latency. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#define RZ_SCREEN_TOKENS_ 4

RZ_INLINE void rz_screen_sums_(const uint8_t *tiles, int64_t column_groups, const rz_screen_input *x,
                               int tokens, int32_t coarse[][16], int32_t fine[][16]) {
    __m512i a[RZ_SCREEN_TOKENS_], b[RZ_SCREEN_TOKENS_];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) {
        a[t] = _mm512_set1_epi32(-128 * x[t].coarse_sum);
        b[t] = _mm512_set1_epi32(-128 * x[t].fine_sum);
    }
    for (int64_t group = 0; group < column_groups; group++) {
        RZ_PREFETCH(tiles + 64 * group, RZ_PREFETCH_BYTES);
        const __m512i codes = _mm512_load_si512(tiles + 64 * group);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            a[t] = rz_dot_(a[t], codes, rz_four_(x[t].coarse + 4 * group));
            b[t] = rz_dot_(b[t], codes, rz_four_(x[t].fine + 4 * group));
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) {
        _mm512_store_si512(coarse[t], a[t]);
        _mm512_store_si512(fine[t], b[t]);
    }
}

#endif
