/* The part of avx2.h and avxvnni.h that is alike: which rows and tokens when.
 * Needs rz_matvec_, rz_trits_matvec_, rz_open_panel_, rz_panel_tile_, RZ_TOKENS_ (<= 6), RZ_STEPS_,
 * and what lines_ymm.h needs. */
#include "ryzanstein/ternary/lines_ymm.h"
#include "ryzanstein/ternary/trit_lines_ymm.h"

#include "ryzanstein/ternary/listed.h"
#include "ryzanstein/ternary/tables_ymm.h"

#include "ryzanstein/ternary/dense.h"

static void rz_panel_tokens_(const uint8_t *panel, int64_t steps, const int8_t *values,
                             const rz_activations *x, int32_t *sums) {
    int64_t t = 0;
    for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
        rz_panel_tile_(panel, steps, values + t * x->stride, x->stride, RZ_TOKENS_, sums + t * 16);
    values += t * x->stride;
    sums += t * 16;
    switch (x->n - t) { /* constants, so that accumulators stay in registers */
    case 5: rz_panel_tile_(panel, steps, values, x->stride, RZ_TOKENS_ < 5 ? 0 : 5, sums); break;
    case 4: rz_panel_tile_(panel, steps, values, x->stride, 4, sums); break;
    case 3: rz_panel_tile_(panel, steps, values, x->stride, 3, sums); break;
    case 2: rz_panel_tile_(panel, steps, values, x->stride, 2, sums); break;
    case 1: rz_panel_tile_(panel, steps, values, x->stride, 1, sums); break;
    default: break;
    }
}

/* One row tile of tiles, opened as (step, 64) bytes. */
RZ_INLINE void rz_panel_of_tiles_(const rz_ternary *w, int64_t tile, const rz_activations *x,
                                  uint8_t *panel, int32_t *sums) {
    for (int64_t c = 0; c < w->column_tiles; c += RZ_STEPS_ / 4) {
        const int64_t left = w->column_tiles - c, count = left < RZ_STEPS_ / 4 ? left : RZ_STEPS_ / 4;
        rz_open_panel_(w->codes + (tile * w->column_tiles + c) * RZ_TILE_BYTES, count, panel);
        rz_panel_tokens_(panel, 4 * count, x->codes + 16 * c, x, sums);
    }
}

/* One row tile of trits, opened likewise. */
RZ_INLINE void rz_panel_of_trits_(const rz_ternary *w, int64_t tile, const rz_activations *x,
                                  uint8_t *panel, int32_t *sums) {
    const int64_t most = RZ_PANEL_DENSE_COLUMNS / RZ_TRITS_COLUMNS;
    for (int64_t c = 0; c < w->run_lines; c += most) {
        const int64_t left = w->run_lines - c, count = left < most ? left : most;
        rz_open_trits_(w->codes + (tile * w->run_lines + c) * RZ_TILE_BYTES, count, panel);
        rz_panel_tokens_(panel, RZ_TRITS * count, x->codes + RZ_TRITS_COLUMNS * c, x, sums);
    }
}

/* Four row tiles of tables, which share their tiles. sums: (tiles, n, 16). */
static void rz_panel_of_tables_(const rz_ternary *w, int64_t tile, const rz_activations *x,
                                uint8_t *panel, int32_t *sums) {
    const int64_t most = RZ_PANEL_DENSE_COLUMNS / RZ_TABLES_COLUMNS, tile_stride = 64 * RZ_STEPS_;
    for (int64_t c = 0; c < w->run_lines; c += most) {
        const int64_t left = w->run_lines - c, count = left < most ? left : most;
        rz_open_tables_(w, tile, c, count, panel, tile_stride, 64);
        for (int i = 0; i < RZ_PANEL_TILES; i++)
            rz_panel_tokens_(panel + tile_stride * i, RZ_TABLES_COLUMNS / 4 * count, x->codes + RZ_TABLES_COLUMNS * c, x,
                             sums + 16 * x->n * i);
    }
}

/* Four row tiles of rows or columns, of either kind, since a line has codes of all four. sums:
 * (tiles, n, 16). */
static void rz_panel_of_lines_(const rz_ternary *w, int64_t tile, const rz_activations *x,
                               uint8_t *panel, int32_t *sums) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_ROWS || w->layout == RZ_LAYOUT_TRIT_COLUMNS;
    const int64_t steps = trits ? RZ_TRIT_LINE_STEPS_ : RZ_LINE_STEPS_, most = steps / 4;
    for (int64_t c = 0; c < w->column_tiles; c += most) {
        const int64_t left = w->column_tiles - c, count = left < most ? left : most;
        switch (w->layout) {
        case RZ_LAYOUT_ROWS: rz_open_rows_(w, tile, c / most, panel); break;
        case RZ_LAYOUT_TRIT_ROWS: rz_open_trit_rows_(w, tile, c / most, panel); break;
        case RZ_LAYOUT_TRIT_COLUMNS: rz_open_trit_columns_(w, tile, c, count, panel); break;
        default: rz_open_columns_(w, tile, c, count, panel);
        }
        for (int i = 0; i < RZ_PANEL_TILES; i++)
            rz_panel_tokens_(panel + 64 * steps * i, 4 * count, x->codes + 16 * c, x,
                             sums + 16 * x->n * i);
    }
}

static void rz_ternary_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                              const rz_activations *x, float *out, int64_t out_stride,
                              rz_output_mode store, void *scratch) {
    uint8_t *panel = (uint8_t *)scratch;
    int32_t *sums = (int32_t *)(panel + RZ_PANEL_TILES * 64 * RZ_STEPS_);
    const int tiles = w->layout == RZ_LAYOUT_TILES || w->layout == RZ_LAYOUT_TRITS ? 1 : RZ_PANEL_TILES;
    if (rz_dense_directly_(w, x)) {
        rz_dense_products_(w, tile_begin, tile_end, x, out, out_stride, store);
        return;
    }
    for (int64_t tile = tile_begin; tile < tile_end; tile += tiles) {
        if (x->n <= RZ_FEW_TOKENS && w->layout == RZ_LAYOUT_TILES) {
            for (int64_t t = 0; t < x->n; t++) {
                const rz_activations one = rz_one_token_(x, t);
                rz_matvec_(w, tile, &one, out + t * out_stride, store);
            }
            continue;
        }
        for (int i = 0; i < tiles; i++)
            for (int64_t t = 0; t < x->n; t++)
                for (int row = 0; row < 16; row++) sums[16 * (i * x->n + t) + row] = -x->sums[t];
        switch (w->layout) {
        case RZ_LAYOUT_TILES: rz_panel_of_tiles_(w, tile, x, panel, sums); break;
        case RZ_LAYOUT_TRITS: rz_panel_of_trits_(w, tile, x, panel, sums); break;
        case RZ_LAYOUT_TABLES: rz_panel_of_tables_(w, tile, x, panel, sums); break;
        default: rz_panel_of_lines_(w, tile, x, panel, sums);
        }
        for (int i = 0; i < tiles; i++)
            for (int64_t t = 0; t < x->n; t++)
                rz_store_rows_(sums + 16 * (i * x->n + t), rz_scale_(w, x, t),
                               out + t * out_stride + 16 * (tile + i), w->rows - 16 * (tile + i), store);
    }
}
