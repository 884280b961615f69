/* Ternary product in portable C.
 *
 * A tile is opened once into 16 columns x 16 rows of codes and used for every token;
 * 16 products of at most 2*128 stay far inside int16 before they are widened.
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#include "ryzanstein/ternary/epilogue.h"

RZ_INLINE void rz_open_tile_(const uint8_t *tile, int16_t codes[16][16]) {
    for (int row = 0; row < 16; row++)
        for (int b = 0; b < 4; b++)
            for (int pair = 0; pair < 4; pair++)
                codes[4 * pair + b][row] = (int16_t)((tile[4 * row + b] >> (2 * pair)) & 3);
}

static void rz_ternary_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                              const rz_activations *x, float *out, int64_t out_stride,
                              rz_output_mode store, void *scratch) {
    int32_t(*sums)[16] = (int32_t(*)[16])scratch;
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        for (int64_t t = 0; t < x->n; t++)
            for (int row = 0; row < 16; row++) sums[t][row] = -x->sums[t];
        for (int64_t c = 0; c < w->column_tiles; c++) {
            int16_t codes[16][16];
            rz_open_tile_(w->tiles + (tile * w->column_tiles + c) * RZ_TILE_BYTES, codes);
            for (int64_t t = 0; t < x->n; t++) {
                const int8_t *values = x->codes + t * x->stride + 16 * c;
                int16_t partial[16] = {0};
                for (int column = 0; column < 16; column++)
                    for (int row = 0; row < 16; row++)
                        partial[row] = (int16_t)(partial[row] + codes[column][row] * values[column]);
                for (int row = 0; row < 16; row++) sums[t][row] += partial[row];
            }
        }
        for (int64_t t = 0; t < x->n; t++)
            rz_store_rows_(sums[t], x->scales[t] * w->scale, out + t * out_stride + 16 * tile,
                           w->rows - 16 * tile, store);
    }
}

#endif
