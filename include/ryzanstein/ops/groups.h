/* Products of matrices in groups and float activations: slow, and as exact as float32 sums are. */
#ifndef RZ_OPS_GROUPS_H
#define RZ_OPS_GROUPS_H

#include "ryzanstein/ternary/groups.h"

/* weights[column][row]: the -1, 0, 1 of a tile of 16 x 16. */
RZ_INLINE void rz_open_signs_(const uint8_t *from, float weights[16][16]) {
    uint32_t words[16];
    memcpy(words, from, RZ_TILE_BYTES);
    for (int b = 0; b < 4; b++)
        for (int pair = 0; pair < 4; pair++)
            for (int row = 0; row < 16; row++)
                weights[4 * pair + b][row] = (float)((int32_t)(words[row] >> (8 * b + 2 * pair) & 3) - 1);
}

static void RZ_NAME(rz_group_matmul_floats)(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const float *x,
                                            int64_t x_stride, int64_t n, float *out, int64_t out_stride,
                                            rz_output_mode store, void *scratch) {
    const int wide = RZ_GROUP_COLUMNS(w->layout);
    const int64_t groups = RZ_GROUPS(w->columns, wide);
    float (*y)[16] = (float (*)[16])scratch;
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        const uint8_t *stream = rz_group_stream_(w, tile);
        memset(y, 0, (size_t)n * sizeof(*y));
        for (int64_t group = 0; group < groups; group++) {
            const uint8_t *from = rz_group_codes_at_(stream, group, wide);
            const int64_t left = w->columns - group * wide;
            const int count = left < wide ? (int)left : wide;
            const rz_f32x16 scales = rz_load_f16(rz_group_scales_at_(stream, group, wide));
            float weights[128][16];
            for (int c = 0; c < wide / RZ_TILE_COLUMNS; c++) rz_open_signs_(from + RZ_TILE_BYTES * c, weights + 16 * c);
            for (int64_t t = 0; t < n; t++) {
                const float *values = x + t * x_stride + group * wide;
                rz_f32x16 sum = rz_set1(0.0f);
                for (int column = 0; column < count; column++)
                    sum = rz_add(sum, rz_mul(rz_load(weights[column]), rz_set1(values[column])));
                rz_store(y[t], rz_add(rz_load(y[t]), rz_mul(sum, scales)));
            }
        }
        for (int64_t t = 0; t < n; t++)
            rz_store_floats_(rz_load(y[t]), out + t * out_stride + 16 * tile, w->rows - 16 * tile, store);
    }
}

#endif
