/* Bounds of head rows from the integer sums of screen/<tier>.h; see kernels.h. */
#ifndef RZ_OPS_SCREEN_H
#define RZ_OPS_SCREEN_H

RZ_INLINE void rz_screen_tiles_(const rz_screen *head, int64_t tile, int tiles, const rz_screen_input *x,
                                int tokens, float *lower, float *upper, int64_t stride) {
    RZ_ALIGNED(64)
    int32_t coarse[RZ_SCREEN_TOKENS_ * RZ_SCREEN_TILES_][16];
    RZ_ALIGNED(64)
    int32_t fine[RZ_SCREEN_TOKENS_ * RZ_SCREEN_TILES_][16];
    rz_screen_sums_(head->tiles + tile * head->column_groups * 64, tiles, head->column_groups, x, tokens, coarse, fine);
    for (int i = 0; i < tiles; i++) {
        const rz_f32x16 d = rz_load(head->scales + 16 * (tile + i));
        for (int t = 0; t < tokens; t++) {
            const int at = t * tiles + i;
            const rz_f32x16 y = rz_mul(d, rz_add(rz_mul(rz_set1(x[t].coarse_scale), rz_load_i32(coarse[at])),
                                                 rz_mul(rz_set1(x[t].fine_scale), rz_load_i32(fine[at]))));
            const rz_f32x16 margin = rz_mul(d, rz_set1(x[t].bound));
            rz_store(lower + t * stride + 16 * (tile + i), rz_sub(y, margin));
            rz_store(upper + t * stride + 16 * (tile + i), rz_add(y, margin));
        }
    }
}

static void RZ_NAME(rz_screen)(const rz_screen *head, int64_t tile_begin, int64_t tile_end,
                               const rz_screen_input *x, int64_t n, float *lower, float *upper,
                               int64_t stride) {
    int64_t tile = tile_begin;
    while (tile < tile_end) {
        /* one stream of memory for one token; constants, so that sums stay in registers */
        const int64_t tiles = n >= RZ_SCREEN_TOKENS_ && tile + RZ_SCREEN_TILES_ <= tile_end ? RZ_SCREEN_TILES_ : 1;
        int64_t t = 0;
        if (tiles == RZ_SCREEN_TILES_)
            for (; t + RZ_SCREEN_TOKENS_ <= n; t += RZ_SCREEN_TOKENS_)
                rz_screen_tiles_(head, tile, RZ_SCREEN_TILES_, x + t, RZ_SCREEN_TOKENS_, lower + t * stride,
                                 upper + t * stride, stride);
        for (int64_t i = 0; i < tiles; i++) {
            int64_t rest = t;
            for (; rest + RZ_SCREEN_FEW_ <= n; rest += RZ_SCREEN_FEW_)
                rz_screen_tiles_(head, tile + i, 1, x + rest, RZ_SCREEN_FEW_, lower + rest * stride,
                                 upper + rest * stride, stride);
            for (; rest < n; rest++)
                rz_screen_tiles_(head, tile + i, 1, x + rest, 1, lower + rest * stride, upper + rest * stride, stride);
        }
        tile += tiles;
    }
}

#endif
