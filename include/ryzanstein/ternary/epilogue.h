/* From exact integer sums to floats: the same two multiplications in every tier. */
#ifndef RZ_TERNARY_EPILOGUE_H
#define RZ_TERNARY_EPILOGUE_H

#include "ryzanstein/kernels.h"

/* sums[16]: sum of (code * x - x) for the 16 rows of a tile and one token. */
RZ_INLINE void rz_store_rows_(const int32_t *sums, float scale, float *out, int64_t rows,
                              rz_output_mode store) {
    const rz_f32x16 y = rz_mul(rz_load_i32(sums), rz_set1(scale));
    if (rows >= 16) {
        rz_store(out, store == RZ_STORE_ADD ? rz_add(rz_load(out), y) : y);
        return;
    }
    float lanes[16];
    rz_store(lanes, y);
    for (int64_t i = 0; i < rows; i++) out[i] = store == RZ_STORE_ADD ? out[i] + lanes[i] : lanes[i];
}

RZ_INLINE rz_activations rz_one_token_(const rz_activations *x, int64_t t) {
    const rz_activations one = {x->codes + t * x->stride, x->scales + t, x->sums + t, NULL, x->stride, 1};
    return one;
}

#endif
