/* Head screen with tile registers, for batches: a group of 64 columns of 16 rows, unpacked to bytes, is one B tile,
 * and the groups of all tokens are A. Sums go from C to memory and from there to the totals, as floats. */
#ifndef RZ_SCREEN_AMX_H
#define RZ_SCREEN_AMX_H

/* From so many tokens on; below, codes are unpacked in registers. */
#define RZ_SCREEN_TILES_FROM_ 5

/* Adds a group to the totals (tokens, 4, 16) of `tokens` tokens and the rows of one tile. */
RZ_INLINE void rz_screen_add_tile_(const int32_t *sums, rz_f32x16 scales, const rz_screen_group_ *x, int tokens, float *totals) {
    for (int k = 0; k < tokens; k++)
        rz_add_products_(totals + RZ_SCREEN_ROWS * k, sums + 16 * k, x->offsets[k * x->groups], scales, x->scales[k * x->groups]);
}

/* One block for tokens [t, t + n) of `all`, at most 32. Registers have the shape of n tokens, or of 16 and the others. */
RZ_APART void rz_screen_tile_block_(const rz_screen *head, int64_t block, const rz_screen_inputs *x, int64_t t, int n,
                                    int64_t all, const rz_screen_logits *out) {
    RZ_ALIGNED(64)
    uint8_t stacks[4 * RZ_STACK_TILE_BYTES];
    RZ_ALIGNED(64)
    int32_t sums[1024];
    RZ_ALIGNED(64)
    float totals[32 * RZ_SCREEN_ROWS];
    const uint8_t *scales = head->blocks + block * RZ_SCREEN_BLOCK_BYTES(head->groups);
    const uint8_t *codes = scales + RZ_SCREEN_ROWS * head->groups;
    const int64_t stride = RZ_SCREEN_GROUP * head->groups;
    memset(totals, 0, sizeof(float) * RZ_SCREEN_ROWS * (size_t)n);
    for (int64_t group = 0; group < head->groups; group++, scales += RZ_SCREEN_ROWS) {
        const rz_screen_group_ first = rz_screen_group_at_(x, head->groups, group, t);
        RZ_NO_UNROLL
        for (int i = 0; i < 4; i++, codes += RZ_SCREEN_TILE_BYTES) rz_screen_unpack_(codes, stacks + RZ_STACK_TILE_BYTES * i, 64);
        if (n <= 16) {
            rz_clear_sums_();
            rz_multiply_four_stacks_(stacks, RZ_STACK_TILE_BYTES, first.codes, stride, 1);
            rz_store_sums_(sums);
            for (int i = 0; i < 4; i++)
                rz_screen_add_tile_(sums + 256 * i, rz_load_i8((const int8_t *)scales + 16 * i), &first, n, totals + 16 * i);
            continue;
        }
        const rz_screen_group_ second = rz_screen_group_at_(x, head->groups, group, t + 16);
        for (int i = 0; i < 4; i += 2) {
            rz_clear_sums_();
            rz_multiply_two_stacks_(stacks + RZ_STACK_TILE_BYTES * i, RZ_STACK_TILE_BYTES, first.codes, stride, 1);
            rz_store_sums_(sums);
            for (int k = 0; k < 2; k++) {
                const rz_f32x16 of_rows = rz_load_i8((const int8_t *)scales + 16 * (i + k));
                rz_screen_add_tile_(sums + 256 * k, of_rows, &first, 16, totals + 16 * (i + k));
                rz_screen_add_tile_(sums + 512 + 256 * k, of_rows, &second, n - 16, totals + 16 * RZ_SCREEN_ROWS + 16 * (i + k));
            }
        }
    }
    for (int i = 0; i < 4 * n; i++)
        rz_screen_logits_(head, 4 * block + i % 4, rz_load(totals + 16 * i), x, t + i / 4, all, out);
}

static void rz_tile_screen(const rz_screen *head, int64_t begin, int64_t end, const rz_screen_inputs *x, int64_t n,
                           const rz_screen_logits *out) {
    if (n < RZ_SCREEN_TILES_FROM_) {
        rz_base_()->screen(head, begin, end, x, n, out);
        return;
    }
    for (int64_t block = begin; block < end; block++)
        for (int64_t t = 0; t < n; t += 32) {
            const int tokens = (int)(n - t < 32 ? n - t : 32);
            if (block == begin || n > 32) rz_shape_tiles_(tokens < 16 ? tokens : 16, tokens <= 16 ? tokens : tokens - 16);
            rz_screen_tile_block_(head, block, x, t, tokens, n, out);
        }
    rz_tiles_release_();
}

#endif
