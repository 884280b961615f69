/* Ternary products with the tile registers of AMX: tdpbsud multiplies 16 tokens x 64 columns by 64 columns x 16
 * weight rows, 16,384 multiply-adds in 16 cycles.
 *
 * Activations are A as they lie in memory. Weights are opened to stacks of B tiles (amx/vectors_zmm.h). The time
 * of a product depends on the rows of A alone, so tokens are rows: a tile of weights by few tokens is quick, and
 * below about five tokens vpdpbusd is quicker still.
 *
 * Up to 16 tokens: four row tiles are opened a part at a time, in L1, and multiplied at once. Four C tiles hide
 * the latency of a product.
 *
 * More: four row tiles are opened as a whole, in L2. 32 tokens at a time go through them in parts of 640 columns,
 * so that the activations of a part stay in L1, with sums that are stored and loaded again between parts. Two row
 * tiles and twice 16 tokens are four C tiles: four loads for four products, in an order that lets loads run ahead.
 *
 * Head-room: tdpbsud wraps around, and sums are those of vpdpbusd; see kernels.h and rz_code_form.
 *
 * Thresholds and sizes are of a Xeon with two cores (2.9 TMAC/s with tiles from L1, 2.1 from L2; 0.47 by vpdpbusd).
 */
#ifndef RZ_TERNARY_AMX_H
#define RZ_TERNARY_AMX_H

#include "ryzanstein/amx/tiles.h"
#include "ryzanstein/ternary/epilogue.h"

/* From so many tokens on. Rows cost more to open, and have direct products for fewer tokens. */
#define RZ_TILES_FROM_(layout) ((layout) == RZ_LAYOUT_ROWS || (layout) == RZ_LAYOUT_TRIT_ROWS ? 12 : 5)
#define RZ_TILE_PART_ 10 /* B tiles of 64 columns */

/* Registers 0..3 are C, 4 and 5 are A, 6 and 7 are B. C and A have as many rows as there are tokens: `first` for
 * 0, 1 and 4, and `second` for 2, 3 and 5. */
RZ_INLINE void rz_shape_tiles_(int first, int second) {
    rz_tile_shapes shapes;
    memset(&shapes, 0, sizeof shapes);
    shapes.palette = 1;
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 64;
        shapes.rows[i] = (uint8_t)(i > 5 ? 16 : (i == 2 || i == 3 || i == 5 ? second : first));
    }
    rz_tiles_configure_(&shapes);
}

RZ_INLINE void rz_clear_sums_(void) {
    rz_tile_clear_(0);
    rz_tile_clear_(1);
    rz_tile_clear_(2);
    rz_tile_clear_(3);
}
RZ_INLINE void rz_load_sums_(const int32_t *sums) {
    rz_tile_load_(0, sums, 64);
    rz_tile_load_(1, sums + 256, 64);
    rz_tile_load_(2, sums + 512, 64);
    rz_tile_load_(3, sums + 768, 64);
}
RZ_INLINE void rz_store_sums_(int32_t *sums) {
    rz_tile_store_(0, sums, 64);
    rz_tile_store_(1, sums + 256, 64);
    rz_tile_store_(2, sums + 512, 64);
    rz_tile_store_(3, sums + 768, 64);
}

/* Adds to C up to 16 tokens x four stacks, `count` > 0 B tiles of each. */
RZ_APART void rz_multiply_four_stacks_(const uint8_t *stacks, int64_t stride, const int8_t *a, int64_t a_stride, int64_t count) {
    for (; count; count--, stacks += RZ_STACK_TILE_BYTES, a += 64) {
        rz_tile_load_(4, a, a_stride);
        rz_tile_load_(6, stacks, 64);
        rz_tiles_multiply_(0, 4, 6);
        rz_tile_load_(7, stacks + stride, 64);
        rz_tiles_multiply_(1, 4, 7);
        rz_tile_load_(6, stacks + 2 * stride, 64);
        rz_tiles_multiply_(2, 4, 6);
        rz_tile_load_(7, stacks + 3 * stride, 64);
        rz_tiles_multiply_(3, 4, 7);
    }
}

/* Adds to C twice up to 16 tokens x two stacks. The first loads of a round stand before the last product of the
 * round before. */
RZ_APART void rz_multiply_two_stacks_(const uint8_t *stacks, int64_t stride, const int8_t *a, int64_t a_stride, int64_t count) {
    const int8_t *later = a + 16 * a_stride;
    rz_tile_load_(4, a, a_stride);
    rz_tile_load_(6, stacks, 64);
    for (int64_t i = 1; i < count; i++) {
        rz_tiles_multiply_(0, 4, 6);
        rz_tile_load_(5, later, a_stride);
        rz_tiles_multiply_(2, 5, 6);
        rz_tile_load_(7, stacks + stride, 64);
        rz_tiles_multiply_(1, 4, 7);
        stacks += RZ_STACK_TILE_BYTES;
        a += 64;
        later += 64;
        rz_tile_load_(4, a, a_stride);
        rz_tile_load_(6, stacks, 64);
        rz_tiles_multiply_(3, 5, 7);
    }
    rz_tiles_multiply_(0, 4, 6);
    rz_tile_load_(5, later, a_stride);
    rz_tiles_multiply_(2, 5, 6);
    rz_tile_load_(7, stacks + stride, 64);
    rz_tiles_multiply_(1, 4, 7);
    rz_tiles_multiply_(3, 5, 7);
}

/* A product in progress. */
typedef struct {
    const rz_ternary *w;
    const rz_activations *x;
    float *out;
    int64_t out_stride;
    rz_output_mode store;
    rz_code_form_ form;
} rz_tile_product_;

/* Writes the floats of a C tile: up to 16 tokens from t on, and row tile `tile`. */
RZ_INLINE void rz_finish_tile_(const rz_tile_product_ *p, const int32_t *sums, int64_t tile, int64_t t, int tokens) {
    for (int i = 0; i < tokens; i++)
        rz_store_floats_(rz_mul(rz_finished_sums_(sums + 16 * i, p->form, p->x->sums[t + i]), rz_set1(rz_scale_(p->w, p->x, t + i))),
                         p->out + (t + i) * p->out_stride + 16 * tile, p->w->rows - 16 * tile, p->store);
}

/* Up to 16 tokens in all. */
RZ_APART void rz_few_tokens_(const rz_tile_product_ *p, int64_t tile, int tiles, uint8_t *stacks, int32_t *sums) {
    const int64_t step = RZ_STACK_STEP(p->w->layout), stride = RZ_STACK_STRIDE(step), columns = p->w->columns;
    const int tokens = (int)p->x->n;
    rz_clear_sums_();
    for (int64_t column = 0; column < columns; column += step) {
        const int64_t left = columns - column;
        rz_open_stacks_(p->w, tile, tiles, column, step, stacks, stride);
        rz_multiply_four_stacks_(stacks, stride, p->x->codes + column, p->x->stride, RZ_STACK_TILES(left < step ? left : step));
    }
    rz_store_sums_(sums);
    for (int i = 0; i < tiles; i++) rz_finish_tile_(p, sums + 256 * i, tile + i, 0, tokens);
}

/* Up to 32 tokens from t on, more than 16, and opened stacks. Two row tiles share 1,024 sums: those of the first 16
 * tokens, then of the others. */
RZ_APART void rz_thirty_two_tokens_(const rz_tile_product_ *p, int64_t tile, int tiles, const uint8_t *stacks, int64_t stride,
                                    int64_t t, int second, int32_t *sums) {
    const int64_t count = RZ_STACK_TILES(p->w->columns), a_stride = p->x->stride;
    const int8_t *a = p->x->codes + t * a_stride;
    for (int64_t k = 0; k < count; k += RZ_TILE_PART_) {
        const int64_t left = count - k, part = left < RZ_TILE_PART_ ? left : RZ_TILE_PART_;
        for (int i = 0; i < tiles; i += 2) {
            if (k) rz_load_sums_(sums + 512 * i);
            else rz_clear_sums_();
            rz_multiply_two_stacks_(stacks + i * stride + k * RZ_STACK_TILE_BYTES, stride, a + 64 * k, a_stride, part);
            rz_store_sums_(sums + 512 * i);
        }
    }
    for (int i = 0; i < tiles; i++) {
        const int32_t *of_tile = sums + 512 * (i & ~1) + 256 * (i & 1);
        rz_finish_tile_(p, of_tile, tile + i, t, 16);
        rz_finish_tile_(p, of_tile + 512, tile + i, t + 16, second);
    }
}

/* More than 16 tokens. */
RZ_APART void rz_many_tokens_(const rz_tile_product_ *p, int64_t tile, int tiles, uint8_t *stacks, int32_t *sums) {
    const int64_t stride = RZ_STACK_STRIDE(p->w->columns), n = p->x->n;
    rz_open_stacks_(p->w, tile, tiles, 0, p->w->columns, stacks, stride);
    rz_shape_tiles_(16, 16);
    for (int64_t t = 0; t < n; t += 32) {
        const int left = (int)(n - t < 32 ? n - t : 32);
        if (left <= 16) {
            rz_shape_tiles_(left, left);
            rz_clear_sums_();
            rz_multiply_four_stacks_(stacks, stride, p->x->codes + t * p->x->stride, p->x->stride, RZ_STACK_TILES(p->w->columns));
            rz_store_sums_(sums);
            for (int i = 0; i < tiles; i++) rz_finish_tile_(p, sums + 256 * i, tile + i, t, left);
        } else {
            if (left < 32) rz_shape_tiles_(16, left - 16);
            rz_thirty_two_tokens_(p, tile, tiles, stacks, stride, t, left - 16, sums);
        }
    }
}

/* Bytes for either way, or as much as another tier needs. */
static int64_t rz_stacks_scratch(int64_t columns, int64_t n) {
    const int64_t others = (int64_t)RZ_TERNARY_SCRATCH_BYTES(n);
    const int64_t most = columns < RZ_STACK_COLUMNS ? columns : RZ_STACK_COLUMNS;
    const int64_t few = RZ_STACKS_BYTES(384), own = RZ_STACKS_BYTES(most);
    return own > others && own > few ? own : (few > others ? few : others);
}

static void rz_tile_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const rz_activations *x, float *out,
                           int64_t out_stride, rz_output_mode store, void *scratch) {
    if (x->n < RZ_TILES_FROM_(w->layout) || w->columns > RZ_STACK_COLUMNS) {
        rz_base_()->ternary_matmul(w, tile_begin, tile_end, x, out, out_stride, store, scratch);
        return;
    }
    const rz_tile_product_ p = {w, x, out, out_stride, store, rz_code_form(w->layout)};
    int32_t *sums = (int32_t *)scratch;
    uint8_t *stacks = (uint8_t *)scratch + RZ_STACK_SUMS_BYTES;
    if (x->n <= 16) rz_shape_tiles_((int)x->n, (int)x->n);
    for (int64_t tile = tile_begin; tile < tile_end; tile += RZ_PANEL_TILES) {
        const int tiles = (int)(tile_end - tile < RZ_PANEL_TILES ? tile_end - tile : RZ_PANEL_TILES);
        if (x->n <= 16) rz_few_tokens_(&p, tile, tiles, stacks, sums);
        else rz_many_tokens_(&p, tile, tiles, stacks, sums);
    }
    rz_tiles_release_(); /* so that threads are switched quickly, and signal frames stay small */
}

#include "ryzanstein/ternary/groups_amx.h"

#endif
