/* The screen of the head: logits and bounds from the integer sums of screen/<tier>.h. See kernels.h. */
#ifndef RZ_OPS_SCREEN_H
#define RZ_OPS_SCREEN_H

#define RZ_SCREEN_CHUNK_ 24 /* tokens whose sums are kept at a time */

/* Writes the logits of 16 rows for token t of n, and the largest of their bounds. */
RZ_INLINE void rz_screen_logits_(const rz_screen *head, int64_t tile, rz_f32x16 total, const rz_screen_inputs *x, int64_t t,
                                 int64_t n, const rz_screen_logits *out) {
    const int64_t row = 16 * tile, at = t * head->row_tiles + tile;
    const rz_f32x16 y = rz_mul(rz_load(head->scales + row), total);
    const rz_f32x16 margin = rz_add(rz_mul(rz_load(head->errors + row), rz_set1(x->size[t])),
                                    rz_mul(rz_load(head->norms + row), rz_set1(x->rest[t])));
    rz_store(out->logits + 16 * (tile * n + t), y);
    out->most_lower[at] = rz_maximum(rz_sub(y, margin));
    out->most_upper[at] = rz_maximum(rz_add(y, margin));
}

/* One block for few tokens (`tokens` is a constant): codes are unpacked in registers. */
RZ_INLINE void rz_screen_block_(const rz_screen *head, int64_t block, const rz_screen_inputs *x, int tokens,
                                const rz_screen_logits *out) {
    const uint8_t *scales = head->blocks + block * RZ_SCREEN_BLOCK_BYTES(head->groups);
    const uint8_t *codes = scales + RZ_SCREEN_ROWS * head->groups;
    RZ_ALIGNED(64)
    float totals[RZ_SCREEN_ROWS * RZ_SCREEN_FEW_] = {0};
    for (int64_t group = 0; group < head->groups; group++) {
        const rz_screen_group_ group_inputs = rz_screen_group_at_(x, head->groups, group, 0);
        RZ_NO_UNROLL
        for (int i = 0; i < 4; i++, scales += 16, codes += RZ_SCREEN_TILE_BYTES)
            rz_screen_few_(codes, rz_load_i8((const int8_t *)scales), &group_inputs, tokens, totals + 16 * i);
    }
    RZ_NO_UNROLL
    for (int i = 0; i < 4 * tokens; i++)
        rz_screen_logits_(head, 4 * block + i % 4, rz_load(totals + 16 * i), x, i / 4, tokens, out);
}

/* One block for tokens [t, t + n) of `all`, at most a chunk: codes are unpacked once, to bytes. */
static void rz_screen_panel_(const rz_screen *head, int64_t block, const rz_screen_inputs *x, int64_t t, int64_t n,
                             int64_t all, const rz_screen_logits *out) {
    RZ_ALIGNED(64)
    uint8_t panel[RZ_SCREEN_TILES_ * 16 * RZ_SCREEN_GROUP];
    RZ_ALIGNED(64)
    float totals[RZ_SCREEN_CHUNK_ * RZ_SCREEN_ROWS];
    const uint8_t *scales = head->blocks + block * RZ_SCREEN_BLOCK_BYTES(head->groups);
    const uint8_t *codes = scales + RZ_SCREEN_ROWS * head->groups;
    memset(totals, 0, sizeof(float) * RZ_SCREEN_ROWS * (size_t)n);
    for (int64_t group = 0; group < head->groups; group++)
        for (int tile = 0; tile < 4; tile += RZ_SCREEN_TILES_, scales += 16 * RZ_SCREEN_TILES_) {
            RZ_ALIGNED(64)
            float scales_here[16 * RZ_SCREEN_TILES_];
            RZ_NO_UNROLL
            for (int i = 0; i < RZ_SCREEN_TILES_; i++, codes += RZ_SCREEN_TILE_BYTES) {
                rz_store(scales_here + 16 * i, rz_load_i8((const int8_t *)scales + 16 * i));
                rz_screen_unpack_(codes, panel + 64 * i, 64 * RZ_SCREEN_TILES_);
            }
            for (int64_t at = 0; at < n; at += RZ_SCREEN_TOKENS_) {
                const rz_screen_group_ group_inputs = rz_screen_group_at_(x, head->groups, group, t + at);
                float *totals_here = totals + RZ_SCREEN_ROWS * at + 16 * tile;
#define RZ_TOKENS_AT_ONCE_(tokens) rz_screen_many_(panel, scales_here, &group_inputs, tokens, totals_here)
                switch (n - at) { /* constants, so that the sums stay in registers */
#if RZ_SCREEN_TOKENS_ > 4
                case 5: RZ_TOKENS_AT_ONCE_(5); break;
                case 4: RZ_TOKENS_AT_ONCE_(4); break;
#endif
#if RZ_SCREEN_TOKENS_ > 2
                case 3: RZ_TOKENS_AT_ONCE_(3); break;
                case 2: RZ_TOKENS_AT_ONCE_(2); break;
#endif
                case 1: RZ_TOKENS_AT_ONCE_(1); break;
                default: RZ_TOKENS_AT_ONCE_(RZ_SCREEN_TOKENS_); break;
                }
#undef RZ_TOKENS_AT_ONCE_
            }
        }
    for (int64_t i = 0; i < 4 * n; i++)
        rz_screen_logits_(head, 4 * block + i % 4, rz_load(totals + 16 * i), x, t + i / 4, all, out);
}

static void RZ_NAME(rz_screen)(const rz_screen *head, int64_t begin, int64_t end, const rz_screen_inputs *x, int64_t n,
                               const rz_screen_logits *out) {
    for (int64_t block = begin; block < end; block++)
        switch (n <= RZ_SCREEN_FEW_ ? n : 0) { /* constants, so that the sums stay in registers */
        case 1: rz_screen_block_(head, block, x, 1, out); break;
#if RZ_SCREEN_FEW_ > 1
        case 2: rz_screen_block_(head, block, x, 2, out); break;
        case 3: rz_screen_block_(head, block, x, 3, out); break;
        case 4: rz_screen_block_(head, block, x, 4, out); break;
#endif
        default:
            for (int64_t t = 0; t < n; t += RZ_SCREEN_CHUNK_)
                rz_screen_panel_(head, block, x, t, n - t < RZ_SCREEN_CHUNK_ ? n - t : RZ_SCREEN_CHUNK_, n, out);
        }
}

#endif
