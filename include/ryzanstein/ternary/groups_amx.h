/* Products of matrices in groups by tile registers. A group is one or two B tiles. The sums of a group and 16 tokens
 * go from C to memory, and from there as floats into y, which takes more time than the product: the gain over
 * vpdpbusd is smaller than without groups, by counting instructions about two (not measured).
 */

/* From so many tokens on. */
#define RZ_GROUP_TILES_FROM_ 8

/* y = y + (sum + offset) * scales * scale. Sums of a group are exact as floats. */
RZ_INLINE void rz_add_products_(float *y, const int32_t *sums, int32_t offset, rz_f32x16 scales, float scale) {
    const rz_f32x16 products = rz_add(rz_load_i32(sums), rz_set1((float)offset));
    rz_store(y, rz_add(rz_load(y), rz_mul(products, rz_mul(rz_set1(scale), scales))));
}

/* Opens all groups of `tiles` row tiles. scales: (groups, 4, 16). */
RZ_APART void rz_open_group_stacks_(const rz_ternary *w, int64_t tile, int tiles, int wide, int64_t groups, uint8_t *stacks,
                                    int64_t stride, float *scales) {
    for (int i = 0; i < tiles; i++) {
        const uint8_t *stream = rz_group_stream_(w, tile + i);
        for (int64_t group = 0; group < groups; group++) {
            rz_open_codes_to_(rz_group_codes_at_(stream, group, wide), wide / 16, stacks + i * stride + group * wide * 16);
            rz_store(scales + 64 * group + 16 * i, rz_load_f16(rz_group_scales_at_(stream, group, wide)));
        }
    }
}

/* Up to 16 tokens from t on. y: (4, 16 tokens, 16); sums: C tiles. */
RZ_APART void rz_group_tokens_(const rz_tile_product_ *p, int64_t tile, int tiles, int wide, const uint8_t *stacks,
                               int64_t stride, const float *scales, int64_t t, int tokens, float *y, int32_t *sums) {
    const rz_activations *x = p->x;
    memset(y, 0, 4 * RZ_STACK_TILE_BYTES);
    for (int64_t group = 0; group < x->groups; group++, scales += 64) {
        rz_clear_sums_();
        rz_multiply_four_stacks_(stacks + group * wide * 16, stride, x->codes + t * x->stride + group * wide, x->stride, wide / 64);
        rz_store_sums_(sums);
        for (int i = 0; i < tiles; i++) {
            const rz_f32x16 of_rows = rz_load(scales + 16 * i);
            for (int k = 0; k < tokens; k++) {
                const int64_t at = (t + k) * x->groups + group, to = 256 * i + 16 * k;
                rz_add_products_(y + to, sums + to, -x->sums[at], of_rows, x->scales[at]);
            }
        }
    }
    for (int i = 0; i < tiles; i++)
        for (int k = 0; k < tokens; k++)
            rz_store_floats_(rz_load(y + 256 * i + 16 * k), p->out + (t + k) * p->out_stride + 16 * (tile + i),
                             p->w->rows - 16 * (tile + i), p->store);
}

static void rz_group_tile_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end, const rz_activations *x, float *out,
                                 int64_t out_stride, rz_output_mode store, void *scratch) {
    if (x->n < RZ_GROUP_TILES_FROM_ || w->columns > RZ_STACK_COLUMNS) {
        rz_base_()->group_matmul(w, tile_begin, tile_end, x, out, out_stride, store, scratch);
        return;
    }
    const rz_tile_product_ p = {w, x, out, out_stride, store, {0, 1}};
    const int wide = RZ_GROUP_COLUMNS(w->layout);
    const int64_t stride = RZ_STACK_STRIDE(w->columns), n = x->n;
    int32_t *sums = (int32_t *)scratch;
    float *y = (float *)scratch + 1024, *scales = (float *)scratch + RZ_STACK_SUMS_BYTES / 4;
    uint8_t *stacks = (uint8_t *)scratch + RZ_STACK_SUMS_BYTES + RZ_STACK_SCALES_BYTES(w->columns);
    for (int64_t tile = tile_begin; tile < tile_end; tile += RZ_PANEL_TILES) {
        const int tiles = (int)(tile_end - tile < RZ_PANEL_TILES ? tile_end - tile : RZ_PANEL_TILES);
        rz_open_group_stacks_(w, tile, tiles, wide, x->groups, stacks, stride, scales);
        for (int64_t t = 0; t < n; t += 16) {
            const int tokens = (int)(n - t < 16 ? n - t : 16);
            if (t == 0 || tokens < 16) rz_shape_tiles_(tokens, tokens);
            rz_group_tokens_(&p, tile, tiles, wide, stacks, stride, scales, t, tokens, y, sums);
        }
    }
    rz_tiles_release_();
}
