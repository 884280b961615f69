/* From exact integer sums to floats: the same multiplications and additions in every tier. Scales of
 * weights and activations are used here only. */
#ifndef RZ_TERNARY_EPILOGUE_H
#define RZ_TERNARY_EPILOGUE_H

#include "ryzanstein/kernels.h"

/* The value of a product of 1 and 1, for a matrix with one scale. */
RZ_INLINE float rz_scale_(const rz_ternary *w, const rz_activations *x, int64_t t) { return x->scales[t] * w->scale; }

/* y: values of the 16 rows of a tile, of which the matrix has `rows`. */
RZ_INLINE void rz_store_floats_(rz_f32x16 y, float *out, int64_t rows, rz_output_mode store) {
    if (rows >= 16) {
        rz_store(out, store == RZ_STORE_ADD ? rz_add(rz_load(out), y) : y);
        return;
    }
    float lanes[16];
    rz_store(lanes, y);
    for (int64_t i = 0; i < rows; i++) out[i] = store == RZ_STORE_ADD ? out[i] + lanes[i] : lanes[i];
}

/* sums[16]: sum of (code * x - x) for the 16 rows of a tile and one token. */
RZ_INLINE void rz_store_rows_(const int32_t *sums, float scale, float *out, int64_t rows,
                              rz_output_mode store) {
    rz_store_floats_(rz_mul(rz_load_i32(sums), rz_set1(scale)), out, rows, store);
}

RZ_INLINE rz_activations rz_one_token_(const rz_activations *x, int64_t t) {
    /* for matrices with one scale */
    const rz_activations one = {x->codes + t * x->stride, x->scales + t, x->sums + t, NULL, x->stride, 1, 1};
    return one;
}

#endif
