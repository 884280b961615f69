/* Bounds of head rows from the integer sums of screen/<tier>.h; see kernels.h. */
#ifndef RZ_OPS_SCREEN_H
#define RZ_OPS_SCREEN_H

static void RZ_NAME(rz_screen)(const rz_screen *head, int64_t tile_begin, int64_t tile_end,
                               const rz_screen_input *x, float *lower, float *upper) {
    const rz_f32x16 s1 = rz_set1(x->coarse_scale), s2 = rz_set1(x->fine_scale), bound = rz_set1(x->bound);
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        RZ_ALIGNED(64) int32_t coarse[16];
        RZ_ALIGNED(64) int32_t fine[16];
        rz_screen_sums_(head->tiles + tile * head->column_groups * 64, head->column_groups, x, coarse, fine);
        const rz_f32x16 d = rz_load(head->scales + 16 * tile);
        const rz_f32x16 y = rz_mul(d, rz_add(rz_mul(s1, rz_load_i32(coarse)), rz_mul(s2, rz_load_i32(fine))));
        const rz_f32x16 margin = rz_mul(d, bound);
        rz_store(lower + 16 * tile, rz_sub(y, margin));
        rz_store(upper + 16 * tile, rz_add(y, margin));
    }
}

#endif
