/* Products of matrices in groups in portable C. */
#ifndef RZ_TERNARY_GROUPS_SCALAR_H
#define RZ_TERNARY_GROUPS_SCALAR_H

#include "ryzanstein/ternary/groups.h"

static void rz_group_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const rz_activations *x,
                            float *out, int64_t out_stride, rz_output_mode store, void *scratch) {
    const int wide = RZ_GROUP_COLUMNS(w->layout);
    float (*y)[16] = (float (*)[16])scratch;
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        const uint8_t *stream = rz_group_stream_(w, tile);
        memset(y, 0, (size_t)x->n * sizeof(*y));
        for (int64_t group = 0; group < x->groups; group++) {
            const uint8_t *from = rz_group_codes_at_(stream, group, wide);
            int16_t codes[128][16];
            float scales[16];
            for (int c = 0; c < wide / RZ_TILE_COLUMNS; c++) rz_open_codes_(from + RZ_TILE_BYTES * c, codes + 16 * c);
            rz_store(scales, rz_load_f16(rz_group_scales_at_(stream, group, wide)));
            for (int64_t t = 0; t < x->n; t++) {
                const int8_t *values = x->codes + t * x->stride + group * wide;
                const int64_t at = t * x->groups + group;
                int32_t sums[16];
                for (int row = 0; row < 16; row++) sums[row] = -x->sums[at];
                for (int column = 0; column < wide; column++)
                    for (int row = 0; row < 16; row++) sums[row] += codes[column][row] * values[column];
                for (int row = 0; row < 16; row++)
                    y[t][row] = y[t][row] + (float)sums[row] * (x->scales[at] * scales[row]);
            }
        }
        for (int64_t t = 0; t < x->n; t++)
            rz_store_floats_(rz_load(y[t]), out + t * out_stride + 16 * tile, w->rows - 16 * tile, store);
    }
}

#endif
