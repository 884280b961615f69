/* Ternary product with vpdpbusd on zmm: 64 multiply-adds an instruction.
 *
 *   vpdpbusd zmm   sum_i32 += four neighbouring u8 * i8 products    2 a cycle on Zen 5
 *
 * Up to some dozens of tokens: straight from the packed codes, direct_zmm.h. A prompt: 64 rows x
 * 512 columns of codes are opened to bytes (32 KiB, fits L1) and multiplied by 6 tokens at a time:
 * 24 accumulators, 10 loads for 24 products. Opening costs what about 20 tokens cost.
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#include "ryzanstein/ternary/epilogue.h"

#define RZ_TOKENS_ 6
#define RZ_STEPS_ (RZ_PANEL_COLUMNS / 4) /* four columns a step */

RZ_INLINE __m512i rz_four_(const int8_t *values) {
    int32_t word;
    memcpy(&word, values, 4);
    return _mm512_set1_epi32(word);
}

RZ_INLINE __m512i rz_dot_(__m512i sum, __m512i codes, __m512i values) {
#if defined(__GNUC__) && !defined(__clang__)
    /* GCC 12 copies the destination of the intrinsic to and fro in loops, and spills */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(values));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, codes, values);
#endif
}

/* Something for each of the first `tokens` of up to RZ_TOKENS_ tokens, a constant: arrays of so
 * many registers GCC 12 leaves in memory, single names it does not. */
#define RZ_EACH_TOKEN_(tokens, action) \
    if (tokens > 0) action(0); \
    if (tokens > 1) action(1); \
    if (tokens > 2) action(2); \
    if (tokens > 3) action(3); \
    if (tokens > 4) action(4); \
    if (tokens > 5) action(5);

#include "ryzanstein/ternary/lines_zmm.h"
#include "ryzanstein/ternary/tables_ymm.h"

#include "ryzanstein/ternary/direct_zmm.h"
#include "ryzanstein/ternary/trits_zmm.h"
#include "ryzanstein/ternary/trit_lines_zmm.h"

#include "ryzanstein/ternary/block_columns_zmm.h"
#include "ryzanstein/ternary/listed.h"

#include "ryzanstein/ternary/dense.h"

#define RZ_WHOLE_LAYOUT_ RZ_LAYOUT_TRITS

/* panel: (steps, tiles, 64) bytes of codes for `tiles` row tiles, column tiles [c, c + count). */
RZ_INLINE void rz_open_panel_(const rz_ternary *w, int64_t tile, int tiles, int64_t c,
                              int64_t count, uint8_t *panel) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    const int64_t tile_stride = w->column_tiles * RZ_TILE_BYTES;
    const uint8_t *weights = w->codes + tile * tile_stride + c * RZ_TILE_BYTES;
    for (int64_t j = 0; j < count; j++)
    RZ_UNROLL
        for (int i = 0; i < tiles; i++) {
            const uint8_t *from = weights + i * tile_stride + j * RZ_TILE_BYTES;
            RZ_PREFETCH(from, RZ_PREFETCH_BYTES); /* two panels of columns on: matters for few tokens */
            const __m512i codes = _mm512_load_si512(from);
            uint8_t *to = panel + (j * 4 * tiles + i) * 64;
            _mm512_store_si512(to, _mm512_and_si512(codes, mask));
            _mm512_store_si512(to + 64 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 2), mask));
            _mm512_store_si512(to + 128 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask));
            _mm512_store_si512(to + 192 * tiles, _mm512_and_si512(_mm512_srli_epi16(codes, 6), mask));
        }
}

/* Accumulators of one token, and the three things done with them. An array of its own for each
 * token: GCC 12 leaves a two-dimensional one of this size in memory. */
typedef struct { __m512i tile[RZ_PANEL_TILES]; } rz_token_sums_;

RZ_INLINE void rz_token_load_(rz_token_sums_ *token, const int32_t *sums, int tiles) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) token->tile[i] = _mm512_load_si512(sums + 16 * i);
}
RZ_INLINE void rz_token_add_(rz_token_sums_ *token, const __m512i *codes, const int8_t *values, int tiles) {
    const __m512i four = rz_four_(values);
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) token->tile[i] = rz_dot_(token->tile[i], codes[i], four);
}
RZ_INLINE void rz_token_store_(const rz_token_sums_ *token, int32_t *sums, int tiles) {
    RZ_UNROLL
    for (int i = 0; i < tiles; i++) _mm512_store_si512(sums + 16 * i, token->tile[i]);
}

/* sums: (tokens, tiles, 16) int32, added to. */
RZ_INLINE void rz_panel_tile_(const uint8_t *panel, int tiles, int64_t steps, const int8_t *values,
                              int64_t stride, int tokens, int32_t *sums) {
    rz_token_sums_ token_0, token_1, token_2, token_3, token_4, token_5;
#define RZ_LOAD_(t) rz_token_load_(&token_##t, sums + t * tiles * 16, tiles)
#define RZ_ADD_(t) rz_token_add_(&token_##t, codes, values + t * stride + 4 * step, tiles)
#define RZ_STORE_(t) rz_token_store_(&token_##t, sums + t * tiles * 16, tiles)
    RZ_EACH_TOKEN_(tokens, RZ_LOAD_)
    for (int64_t step = 0; step < steps; step++) {
        __m512i codes[RZ_PANEL_TILES];
        RZ_UNROLL
        for (int i = 0; i < tiles; i++) codes[i] = _mm512_load_si512(panel + (step * tiles + i) * 64);
        RZ_EACH_TOKEN_(tokens, RZ_ADD_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_STORE_)
#undef RZ_LOAD_
#undef RZ_ADD_
#undef RZ_STORE_
}

RZ_INLINE void rz_panel_tokens_(const uint8_t *panel, int tiles, int64_t steps, const int8_t *values,
                                const rz_activations *x, int32_t *sums) {
    int64_t t = 0;
    for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
        rz_panel_tile_(panel, tiles, steps, values + t * x->stride, x->stride, RZ_TOKENS_,
                       sums + t * tiles * 16);
    values += t * x->stride;
    sums += t * tiles * 16;
    switch (x->n - t) { /* constants, so that accumulators stay in registers */
    case 5: rz_panel_tile_(panel, tiles, steps, values, x->stride, 5, sums); break;
    case 4: rz_panel_tile_(panel, tiles, steps, values, x->stride, 4, sums); break;
    case 3: rz_panel_tile_(panel, tiles, steps, values, x->stride, 3, sums); break;
    case 2: rz_panel_tile_(panel, tiles, steps, values, x->stride, 2, sums); break;
    case 1: rz_panel_tile_(panel, tiles, steps, values, x->stride, 1, sums); break;
    default: break;
    }
}

RZ_INLINE void rz_panel_(const rz_ternary *w, int64_t tile, int tiles, const rz_activations *x,
                         float *out, int64_t out_stride, rz_output_mode store, void *scratch) {
    uint8_t *panel = (uint8_t *)scratch;
    int32_t *sums = (int32_t *)(panel + 64 * RZ_PANEL_TILES * RZ_STEPS_);
    for (int64_t t = 0; t < x->n; t++)
        RZ_UNROLL
        for (int i = 0; i < tiles; i++)
            _mm512_store_si512(sums + (t * tiles + i) * 16, _mm512_set1_epi32(-x->sums[t]));
    const int dense = w->layout == RZ_LAYOUT_TRITS || w->layout == RZ_LAYOUT_TABLES;
    const int64_t wide = w->layout == RZ_LAYOUT_TRIT_ROWS ? RZ_LINE_TRITS : dense ? RZ_PANEL_DENSE_COLUMNS : RZ_PANEL_COLUMNS;
    const int64_t most = wide / 16, step_stride = 64 * RZ_PANEL_TILES;
    for (int64_t c = 0; c < w->column_tiles; c += most) {
        const int64_t left = w->column_tiles - c, count = left < most ? left : most;
        switch (w->layout) {
        case RZ_LAYOUT_TILES: rz_open_panel_(w, tile, tiles, c, count, panel); break;
        case RZ_LAYOUT_ROWS: rz_open_rows_(w, tile, c / 16, (count + 15) / 16, panel, 64, step_stride); break;
        case RZ_LAYOUT_COLUMNS: rz_open_columns_(w, tile, c, count, panel, 64, step_stride); break;
        case RZ_LAYOUT_TRIT_ROWS: rz_open_trit_rows_(w, tile, 16 * c / RZ_LINE_TRITS, panel, 64, step_stride); break;
        case RZ_LAYOUT_TRIT_COLUMNS: rz_open_trit_columns_(w, tile, c, count, panel, 64, step_stride); break;
        case RZ_LAYOUT_TRITS:
            rz_open_trits_(w, tile, tiles, 16 * c / RZ_TRITS_COLUMNS, RZ_DENSE_TILES(16 * count, RZ_TRITS_COLUMNS), panel);
            break;
        case RZ_LAYOUT_TABLES:
            rz_open_tables_(w, tile, 16 * c / RZ_TABLES_COLUMNS, RZ_DENSE_TILES(16 * count, RZ_TABLES_COLUMNS), panel,
                            64, step_stride);
            break;
        default: break; /* groups have kernels of their own */
        }
        rz_panel_tokens_(panel, tiles, 4 * count, x->codes + 16 * c, x, sums);
    }
    for (int64_t t = 0; t < x->n; t++)
        RZ_UNROLL
        for (int i = 0; i < tiles; i++)
            rz_store_rows_(sums + (t * tiles + i) * 16, rz_scale_(w, x, t),
                           out + t * out_stride + 16 * (tile + i), w->rows - 16 * (tile + i), store);
}

static void rz_ternary_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                              const rz_activations *x, float *out, int64_t out_stride,
                              rz_output_mode store, void *scratch) {
    int64_t tile = tile_begin;
    if (w->layout == RZ_LAYOUT_TILES && x->n <= RZ_DIRECT_TILES_) {
        for (; tile < tile_end; tile++) rz_tile_products_(w, tile, x, out, out_stride, store);
        return;
    }
    if (w->layout == RZ_LAYOUT_ROWS && x->n <= RZ_DIRECT_ROWS_) {
        for (; tile < tile_end; tile++) rz_row_products_(w, tile, x, out, out_stride, store);
        return;
    }
    if (w->layout == RZ_LAYOUT_TRIT_ROWS && x->n <= RZ_DIRECT_TRIT_ROWS_) {
        for (; tile < tile_end; tile++) rz_trit_row_products_(w, tile, x, out, out_stride, store);
        return;
    }
    if (rz_trits_have_products_(w, x)) {
        for (; tile < tile_end; tile++) rz_trits_products_(w, tile, x, out, out_stride, store);
        return;
    }
    if (rz_dense_directly_(w, x)) {
        rz_dense_products_(w, tile_begin, tile_end, x, out, out_stride, store);
        return;
    }
    /* lines and tables have codes of four row tiles, and memory for all: then w->row_tiles is a
     * multiple of four */
    const int apart = w->layout == RZ_LAYOUT_TILES || w->layout == RZ_LAYOUT_TRITS;
    const int64_t last = apart ? tile_end - RZ_PANEL_TILES : tile_end - 1;
    for (; tile <= last; tile += RZ_PANEL_TILES)
        rz_panel_(w, tile, RZ_PANEL_TILES, x, out, out_stride, store, scratch);
    for (; tile < tile_end; tile++) rz_panel_(w, tile, 1, x, out, out_stride, store, scratch);
}

#include "ryzanstein/ternary/groups_zmm.h"

#endif
