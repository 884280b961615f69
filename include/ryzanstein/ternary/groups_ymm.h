/* Products of matrices in groups on ymm. Needs, of the tier, for one row tile in two halves:
 * rz_group_codes_sums_ (sum of code*x straight from tiles) and rz_group_panel_sums_ (from opened codes).
 */
#ifndef RZ_TERNARY_GROUPS_YMM_H
#define RZ_TERNARY_GROUPS_YMM_H

#include "ryzanstein/ternary/groups.h"

/* y and the products of a group, for eight rows: sum of code*x, and the weight scales. */
RZ_INLINE __m256 rz_add_group_(__m256 y, __m256i sum, __m256 scales, const rz_activations *x, int64_t at) {
    const __m256 products = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(x->sums[at])));
    return _mm256_add_ps(y, _mm256_mul_ps(products, _mm256_mul_ps(_mm256_set1_ps(x->scales[at]), scales)));
}

RZ_INLINE __m256 rz_widen_scales_(const uint16_t *scales) {
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)scales));
}

/* One row tile and token t. `wide` is a constant. */
RZ_INLINE void rz_group_tile_(const rz_ternary *w, int64_t tile, int wide, const rz_activations *x, int64_t t,
                              float *out, rz_output_mode store) {
    const uint8_t *stream = rz_group_stream_(w, tile);
    rz_f32x16 y = rz_set1(0.0f);
    for (int64_t group = 0; group < x->groups; group++) {
        const uint16_t *scales = rz_group_scales_at_(stream, group, wide);
        const int64_t at = t * x->groups + group;
        __m256i sums[2];
        rz_group_codes_sums_(rz_group_codes_at_(stream, group, wide), wide, x->codes + t * x->stride + group * wide, sums);
        y.low = rz_add_group_(y.low, sums[0], rz_widen_scales_(scales), x, at);
        y.high = rz_add_group_(y.high, sums[1], rz_widen_scales_(scales + 8), x, at);
    }
    rz_store_floats_(y, out + 16 * tile, w->rows - 16 * tile, store);
}

/* Opens `count` groups of a row tile. panel: (steps, 64) codes; scales: (count, 16). */
RZ_INLINE void rz_open_groups_(const rz_ternary *w, int64_t tile, int wide, int64_t group, int64_t count, uint8_t *panel,
                               float *scales) {
    const uint8_t *stream = rz_group_stream_(w, tile);
    for (int64_t k = 0; k < count; k++) {
        rz_open_panel_(rz_group_codes_at_(stream, group + k, wide), wide / RZ_TILE_COLUMNS, panel + 16 * wide * k);
        rz_store(scales + 16 * k, rz_load_f16(rz_group_scales_at_(stream, group + k, wide)));
    }
}

/* Up to RZ_TOKENS_ tokens from t on and an opened panel. sums: (tokens, 16), added to. */
RZ_INLINE void rz_group_panel_tile_(const uint8_t *panel, const float *scales, int wide, int64_t group, int64_t count,
                                    const rz_activations *x, int64_t t, int tokens, float *sums) {
    for (int64_t k = 0; k < count; k++) {
        const int8_t *values = x->codes + t * x->stride + (group + k) * wide;
        __m256i totals[RZ_TOKENS_][2];
        rz_group_panel_sums_(panel + 16 * wide * k, wide / 4, values, x->stride, tokens, totals);
    RZ_UNROLL
        for (int a = 0; a < tokens; a++)
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                float *to = sums + 16 * a + 8 * half;
                _mm256_store_ps(to, rz_add_group_(_mm256_load_ps(to), totals[a][half],
                                                  _mm256_load_ps(scales + 16 * k + 8 * half), x,
                                                  (t + a) * x->groups + group + k));
            }
    }
}

/* One row tile, all tokens, by opened panels. `wide` is a constant. */
RZ_INLINE void rz_group_panel_(const rz_ternary *w, int64_t tile, int wide, const rz_activations *x, float *out,
                               int64_t out_stride, rz_output_mode store, void *scratch) {
    uint8_t *panel = (uint8_t *)scratch;
    float *scales = (float *)(panel + 64 * RZ_STEPS_), *sums = scales + RZ_PANEL_SCALES;
    const int64_t most = RZ_PANEL_COLUMNS / wide;
    memset(sums, 0, (size_t)x->n * 64);
    for (int64_t group = 0; group < x->groups; group += most) {
        const int64_t left = x->groups - group, count = left < most ? left : most;
        int64_t t = 0;
        rz_open_groups_(w, tile, wide, group, count, panel, scales);
        for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
            rz_group_panel_tile_(panel, scales, wide, group, count, x, t, RZ_TOKENS_, sums + 16 * t);
        switch (x->n - t) { /* constants, so that sums stay in registers */
        case 5: rz_group_panel_tile_(panel, scales, wide, group, count, x, t, RZ_TOKENS_ < 5 ? 0 : 5, sums + 16 * t); break;
        case 4: rz_group_panel_tile_(panel, scales, wide, group, count, x, t, 4, sums + 16 * t); break;
        case 3: rz_group_panel_tile_(panel, scales, wide, group, count, x, t, 3, sums + 16 * t); break;
        case 2: rz_group_panel_tile_(panel, scales, wide, group, count, x, t, 2, sums + 16 * t); break;
        case 1: rz_group_panel_tile_(panel, scales, wide, group, count, x, t, 1, sums + 16 * t); break;
        default: break;
        }
    }
    for (int64_t t = 0; t < x->n; t++)
        rz_store_floats_(rz_load(sums + 16 * t), out + t * out_stride + 16 * tile, w->rows - 16 * tile, store);
}

RZ_INLINE void rz_groups_(const rz_ternary *w, int64_t tile, int wide, const rz_activations *x, float *out,
                          int64_t out_stride, rz_output_mode store, void *scratch) {
    if (x->n > RZ_FEW_TOKENS) rz_group_panel_(w, tile, wide, x, out, out_stride, store, scratch);
    else
        for (int64_t t = 0; t < x->n; t++) rz_group_tile_(w, tile, wide, x, t, out + t * out_stride, store);
}
RZ_APART void rz_groups_64_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out, int64_t out_stride,
                            rz_output_mode store, void *scratch) {
    rz_groups_(w, tile, 64, x, out, out_stride, store, scratch);
}
RZ_APART void rz_groups_128_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out, int64_t out_stride,
                             rz_output_mode store, void *scratch) {
    rz_groups_(w, tile, 128, x, out, out_stride, store, scratch);
}

static void rz_group_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const rz_activations *x,
                            float *out, int64_t out_stride, rz_output_mode store, void *scratch) {
    for (int64_t tile = tile_begin; tile < tile_end; tile++)
        (w->layout == RZ_LAYOUT_GROUPS64 ? rz_groups_64_ : rz_groups_128_)(w, tile, x, out, out_stride, store, scratch);
}

#endif
