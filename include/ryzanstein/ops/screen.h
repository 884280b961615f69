/* Bounds of head rows from the integer sums of screen/<tier>.h; see kernels.h. */
#ifndef RZ_OPS_SCREEN_H
#define RZ_OPS_SCREEN_H

RZ_INLINE void rz_screen_tile_(const rz_screen *head, int64_t tile, const rz_screen_input *x, int tokens,
                               float *lower, float *upper, int64_t stride) {
    RZ_ALIGNED(64) int32_t coarse[RZ_SCREEN_TOKENS_][16];
    RZ_ALIGNED(64) int32_t fine[RZ_SCREEN_TOKENS_][16];
    rz_screen_sums_(head->tiles + tile * head->column_groups * 64, head->column_groups, x, tokens, coarse, fine);
    const rz_f32x16 d = rz_load(head->scales + 16 * tile);
    for (int t = 0; t < tokens; t++) {
        const rz_f32x16 y = rz_mul(d, rz_add(rz_mul(rz_set1(x[t].coarse_scale), rz_load_i32(coarse[t])),
                                             rz_mul(rz_set1(x[t].fine_scale), rz_load_i32(fine[t]))));
        const rz_f32x16 margin = rz_mul(d, rz_set1(x[t].bound));
        rz_store(lower + t * stride + 16 * tile, rz_sub(y, margin));
        rz_store(upper + t * stride + 16 * tile, rz_add(y, margin));
    }
}

static void RZ_NAME(rz_screen)(const rz_screen *head, int64_t tile_begin, int64_t tile_end,
                               const rz_screen_input *x, int64_t n, float *lower, float *upper,
                               int64_t stride) {
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        int64_t t = 0;
        for (; t + RZ_SCREEN_TOKENS_ <= n; t += RZ_SCREEN_TOKENS_)
            rz_screen_tile_(head, tile, x + t, RZ_SCREEN_TOKENS_, lower + t * stride, upper + t * stride, stride);
        for (; t < n; t++) rz_screen_tile_(head, tile, x + t, 1, lower + t * stride, upper + t * stride, stride);
    }
}

#endif
