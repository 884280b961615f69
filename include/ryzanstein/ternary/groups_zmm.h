/* Products of matrices in groups with vpdpbusd on zmm. Up to some dozens of tokens: straight from the
 * packed codes, as direct_zmm.h does with tiles. A prompt: opened panels, as avx512vnni.h has them. Each
 * group begins with empty integer sums and ends with one float addition a row.
 */
#ifndef RZ_TERNARY_GROUPS_ZMM_H
#define RZ_TERNARY_GROUPS_ZMM_H

#include "ryzanstein/ternary/groups.h"

/* Up to so many tokens straight from the codes; measured. */
#define RZ_DIRECT_GROUPS_(wide) ((wide) == 64 ? 36 : 12)

RZ_INLINE __m512 rz_widen_scales_(const uint16_t *scales) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)scales));
}

/* y and the products of a group: sum of code*x, and the weight scales. */
RZ_INLINE __m512 rz_add_group_(__m512 y, __m512i sum, __m512 scales, const rz_activations *x, int64_t t, int64_t group) {
    const int64_t at = t * x->groups + group;
    const __m512 products = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(x->sums[at])));
    return _mm512_add_ps(y, _mm512_mul_ps(products, _mm512_mul_ps(_mm512_set1_ps(x->scales[at]), scales)));
}

/* One row tile and up to RZ_TOKENS_ tokens from t on. `wide` and `tokens` are constants. */
RZ_INLINE void rz_group_tile_(const rz_ternary *w, int64_t tile, int wide, const rz_activations *x, int64_t t,
                              int tokens, float *out, int64_t out_stride, rz_output_mode store) {
    const uint8_t *stream = rz_group_stream_(w, tile);
    const int64_t stride = x->stride, rows = w->rows - 16 * tile;
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    __m512 y_0, y_1, y_2, y_3, y_4, y_5;
    rz_pair_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5;
#define RZ_BEGIN_(k) y_##k = _mm512_setzero_ps()
#define RZ_CLEAR_(k) rz_pairs_clear_(&sums_##k)
#define RZ_ADD_(k) rz_pairs_add_(&sums_##k, codes, values + k * stride)
#define RZ_CLOSE_(k) y_##k = rz_add_group_(y_##k, rz_pairs_total_(&sums_##k), scales, x, t + k, group)
#define RZ_STORE_(k) rz_store_floats_(y_##k, out + (t + k) * out_stride + 16 * tile, rows, store)
    RZ_EACH_TOKEN_(tokens, RZ_BEGIN_)
    for (int64_t group = 0; group < x->groups; group++) {
        const __m512 scales = rz_widen_scales_(rz_group_scales_at_(stream, group, wide));
        const uint8_t *weights = rz_group_codes_at_(stream, group, wide);
        const int8_t *values = x->codes + t * stride + group * wide;
        RZ_EACH_TOKEN_(tokens, RZ_CLEAR_)
        for (int c = 0; c < wide / RZ_TILE_COLUMNS; c++, weights += RZ_TILE_BYTES, values += RZ_TILE_COLUMNS) {
            __m512i codes[4];
            if (t == 0) RZ_PREFETCH(weights, RZ_PREFETCH_BYTES);
            const __m512i packed = _mm512_load_si512(weights);
    RZ_UNROLL
            for (int pair = 0; pair < 4; pair++) codes[pair] = _mm512_and_si512(packed, masks[pair]);
            RZ_EACH_TOKEN_(tokens, RZ_ADD_)
        }
        RZ_EACH_TOKEN_(tokens, RZ_CLOSE_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_STORE_)
#undef RZ_BEGIN_
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_CLOSE_
#undef RZ_STORE_
}

/* One row tile, all tokens. */
RZ_INLINE void rz_group_tile_tokens_(const rz_ternary *w, int64_t tile, int wide, const rz_activations *x, float *out,
                                     int64_t out_stride, rz_output_mode store) {
    int64_t t = 0;
    for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
        rz_group_tile_(w, tile, wide, x, t, RZ_TOKENS_, out, out_stride, store);
    switch (x->n - t) { /* constants, so that sums stay in registers */
    case 5: rz_group_tile_(w, tile, wide, x, t, 5, out, out_stride, store); break;
    case 4: rz_group_tile_(w, tile, wide, x, t, 4, out, out_stride, store); break;
    case 3: rz_group_tile_(w, tile, wide, x, t, 3, out, out_stride, store); break;
    case 2: rz_group_tile_(w, tile, wide, x, t, 2, out, out_stride, store); break;
    case 1: rz_group_tile_(w, tile, wide, x, t, 1, out, out_stride, store); break;
    default: break;
    }
}
RZ_APART void rz_groups_64_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out, int64_t out_stride,
                            rz_output_mode store) {
    rz_group_tile_tokens_(w, tile, 64, x, out, out_stride, store);
}
RZ_APART void rz_groups_128_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out, int64_t out_stride,
                             rz_output_mode store) {
    rz_group_tile_tokens_(w, tile, 128, x, out, out_stride, store);
}

/* Opens `count` groups of `tiles` row tiles. panel: (steps, tiles, 64) codes; scales: (count, tiles, 16). */
RZ_INLINE void rz_open_groups_(const rz_ternary *w, int64_t tile, int tiles, int wide, int64_t group, int64_t count,
                               uint8_t *panel, float *scales) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    for (int64_t k = 0; k < count; k++)
        for (int i = 0; i < tiles; i++) {
            const uint8_t *stream = rz_group_stream_(w, tile + i), *from = rz_group_codes_at_(stream, group + k, wide);
            uint8_t *to = panel + (k * wide / 4 * tiles + i) * 64;
            _mm512_store_ps(scales + (k * tiles + i) * 16, rz_widen_scales_(rz_group_scales_at_(stream, group + k, wide)));
            for (int c = 0; c < wide / RZ_TILE_COLUMNS; c++, from += RZ_TILE_BYTES, to += 256 * tiles) {
                RZ_PREFETCH(from, RZ_PREFETCH_BYTES);
                const __m512i codes = _mm512_load_si512(from);
                _mm512_store_si512(to, _mm512_and_si512(codes, mask));
                _mm512_store_si512(to + 64 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 2), mask));
                _mm512_store_si512(to + 128 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask));
                _mm512_store_si512(to + 192 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 6), mask));
            }
        }
}

RZ_INLINE void rz_token_clear_(rz_token_sums_ *token, int tiles) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) token->tile[i] = _mm512_setzero_si512();
}
RZ_INLINE void rz_token_close_(const rz_token_sums_ *token, const float *scales, const rz_activations *x, int64_t t,
                               int64_t group, float *sums, int tiles) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++)
        _mm512_store_ps(sums + 16 * i, rz_add_group_(_mm512_load_ps(sums + 16 * i), token->tile[i],
                                                     _mm512_load_ps(scales + 16 * i), x, t, group));
}

/* Up to RZ_TOKENS_ tokens from t on and an opened panel. sums: (tokens, tiles, 16), added to. */
RZ_INLINE void rz_group_panel_tile_(const uint8_t *panel, const float *scales, int tiles, int wide, int64_t group,
                                    int64_t count, const rz_activations *x, int64_t t, int tokens, float *sums) {
    const int64_t stride = x->stride;
    for (int64_t k = 0; k < count; k++, scales += 16 * tiles) {
        const int8_t *values = x->codes + t * stride + (group + k) * wide;
        rz_token_sums_ token_0, token_1, token_2, token_3, token_4, token_5;
#define RZ_CLEAR_(a) rz_token_clear_(&token_##a, tiles)
#define RZ_ADD_(a) rz_token_add_(&token_##a, codes, values + a * stride + 4 * step, tiles)
#define RZ_CLOSE_(a) rz_token_close_(&token_##a, scales, x, t + a, group + k, sums + a * tiles * 16, tiles)
        RZ_EACH_TOKEN_(tokens, RZ_CLEAR_)
        for (int step = 0; step < wide / 4; step++, panel += 64 * tiles) {
            __m512i codes[RZ_PANEL_TILES];
            RZ_UNROLL
            for (int i = 0; i < tiles; i++) codes[i] = _mm512_load_si512(panel + 64 * i);
            RZ_EACH_TOKEN_(tokens, RZ_ADD_)
        }
        RZ_EACH_TOKEN_(tokens, RZ_CLOSE_)
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_CLOSE_
    }
}

RZ_INLINE void rz_group_panel_tokens_(const uint8_t *panel, const float *scales, int tiles, int wide, int64_t group,
                                      int64_t count, const rz_activations *x, float *sums) {
    int64_t t = 0;
    for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
        rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, RZ_TOKENS_, sums + t * tiles * 16);
    sums += t * tiles * 16;
    switch (x->n - t) {
    case 5: rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, 5, sums); break;
    case 4: rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, 4, sums); break;
    case 3: rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, 3, sums); break;
    case 2: rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, 2, sums); break;
    case 1: rz_group_panel_tile_(panel, scales, tiles, wide, group, count, x, t, 1, sums); break;
    default: break;
    }
}

/* `tiles` row tiles, all tokens, by opened panels. `tiles` and `wide` are constants. */
RZ_INLINE void rz_group_panel_(const rz_ternary *w, int64_t tile, int tiles, int wide, const rz_activations *x,
                               float *out, int64_t out_stride, rz_output_mode store, void *scratch) {
    uint8_t *panel = (uint8_t *)scratch;
    float *scales = (float *)(panel + 64 * RZ_PANEL_TILES * RZ_STEPS_), *sums = scales + RZ_PANEL_SCALES;
    const int64_t most = RZ_PANEL_COLUMNS / wide;
    memset(sums, 0, (size_t)(x->n * tiles) * 64);
    for (int64_t group = 0; group < x->groups; group += most) {
        const int64_t left = x->groups - group, count = left < most ? left : most;
        rz_open_groups_(w, tile, tiles, wide, group, count, panel, scales);
        rz_group_panel_tokens_(panel, scales, tiles, wide, group, count, x, sums);
    }
    for (int64_t t = 0; t < x->n; t++)
        for (int i = 0; i < tiles; i++)
            rz_store_floats_(_mm512_load_ps(sums + (t * tiles + i) * 16), out + t * out_stride + 16 * (tile + i),
                             w->rows - 16 * (tile + i), store);
}
RZ_APART void rz_group_panel_64_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                                 int64_t out_stride, rz_output_mode store, void *scratch) {
    rz_group_panel_(w, tile, RZ_PANEL_TILES, 64, x, out, out_stride, store, scratch);
}
RZ_APART void rz_group_panel_128_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                                  int64_t out_stride, rz_output_mode store, void *scratch) {
    rz_group_panel_(w, tile, RZ_PANEL_TILES, 128, x, out, out_stride, store, scratch);
}

static void rz_group_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const rz_activations *x,
                            float *out, int64_t out_stride, rz_output_mode store, void *scratch) {
    const int narrow = w->layout == RZ_LAYOUT_GROUPS64;
    int64_t tile = tile_begin;
    if (x->n > RZ_DIRECT_GROUPS_(RZ_GROUP_COLUMNS(w->layout)))
        for (; tile + RZ_PANEL_TILES <= tile_end; tile += RZ_PANEL_TILES)
            (narrow ? rz_group_panel_64_ : rz_group_panel_128_)(w, tile, x, out, out_stride, store, scratch);
    for (; tile < tile_end; tile++) (narrow ? rz_groups_64_ : rz_groups_128_)(w, tile, x, out, out_stride, store);
}

#endif
