/* Trit rows and trit columns on ymm, where a line is two registers. Needs of the tier RZ_TRIT_SUMS_,
 * rz_trit_row_sums_(from, next, lines, values): lanes whose sum is that of a row, in that form but
 * never 256 times too large, and rz_add_trit_columns_(first, second, four, four_more, sums): adds the
 * interleaved halves of a line of eight columns. */

/* How often sums of codes have sum x in them: once for the code of a weight of 0. */
#define RZ_TRIT_OFFSETS_ (RZ_TRIT_SUMS_(1) == RZ_TRIT_SUMS_OF_ABOVE ? 2 : 1)

/* y of a listed row. */
RZ_INLINE void rz_listed_trit_rows_(const rz_ternary *w, const int32_t *row, const int32_t *later, int together,
                                    const rz_activations *x, float *out, int64_t out_stride) {
    const uint8_t *from = rz_run_(w, *row), *next = rz_run_(w, *later);
    (void)together;
    for (int64_t t = 0; t < x->n; t++) {
        const __m256i lanes = rz_trit_row_sums_(from, next, w->run_lines, x->codes + t * x->stride);
        const int32_t sum = rz_sum_lanes_(lanes) - RZ_TRIT_OFFSETS_ * x->sums[t];
        out[t * out_stride + *row] = (float)sum * rz_scale_(w, x, t);
    }
}

/* Adds RZ_LIST_STEP columns to the sums of one token. */
RZ_INLINE void rz_listed_columns_of_token_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
                                           const int8_t *values, int32_t *sums) {
    const uint8_t *from[RZ_LIST_STEP], *next[RZ_LIST_STEP];
    const __m256i four = rz_four_(values), four_more = rz_four_(values + 4);
    RZ_UNROLL
    for (int k = 0; k < RZ_LIST_STEP; k++) {
        from[k] = rz_run_(w, columns[k]);
        next[k] = rz_run_(w, later[k]);
    }
    for (int64_t offset = 0; offset < rz_column_lines_(w) * RZ_LINE_BYTES; offset += 32) { /* half lines */
        __m256i first[4], second[4];
        RZ_UNROLL
        for (int k = 0; k < RZ_LIST_STEP; k++) RZ_PREFETCH_ONCE(next[k] + offset);
        rz_interleave_(from, offset, first);
        rz_interleave_(from + 4, offset, second);
        rz_add_trit_columns_(first, second, four, four_more,
                             (__m256i *)(sums + offset / RZ_LINE_BYTES * RZ_LINE_SUMS + offset % RZ_LINE_BYTES / 4));
    }
}

RZ_INLINE void rz_listed_trit_columns_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
                                       const int8_t *values, int64_t values_stride, int64_t n, int32_t *sums) {
    for (int64_t t = 0; t < n; t++)
        rz_listed_columns_of_token_(w, columns, later, values + t * values_stride, rz_line_sums_(w, sums, t, 0));
}

#define RZ_TRIT_LINE_STEPS_ (RZ_LINE_TRITS / 4)

RZ_INLINE __m256i rz_trit_codes_(__m256i bytes) {
    return _mm256_sub_epi8(rz_trits_above_(bytes), _mm256_set1_epi8(1));
}

/* As rz_open_rows_ and rz_open_columns_. */
static void rz_open_trit_rows_(const rz_ternary *w, int64_t tile, int64_t line, uint8_t *panel) {
    for (int i = 0; i < RZ_PANEL_TILES; i++)
        for (int eight = 0; eight < 2; eight++)    /* of the tile's rows */
            for (int half = 0; half < 2; half++) { /* of the line */
                __m256i words[8];
                RZ_UNROLL
                for (int row = 0; row < 8; row++)
                    words[row] = rz_half_(rz_run_(w, 16 * (tile + i) + 8 * eight + row) +
                                          RZ_LINE_BYTES * line + 32 * half);
                rz_transpose_(words);
                uint8_t *to = panel + (RZ_TRIT_LINE_STEPS_ * i + 8 * half) * 64 + 32 * eight;
                RZ_UNROLL
                for (int k = 0; k < 8; k++)
                    RZ_UNROLL
                    for (int p = 0; p < RZ_TRITS; p++, words[k] = rz_next_trits_(words[k]))
                        _mm256_store_si256((__m256i *)(to + (16 * p + k) * 64), rz_trit_codes_(words[k]));
            }
}

static void rz_open_trit_columns_(const rz_ternary *w, int64_t tile, int64_t c, int64_t count, uint8_t *panel) {
    const rz_tile_place_ place = rz_tile_place(w, tile);
    const int64_t offset = RZ_LINE_BYTES * place.line, run = RZ_LINE_BYTES * w->run_lines;
    const uint8_t *columns = rz_run_(w, 16 * c);
    for (int64_t step = 0; step < 4 * count; step++, columns += 4 * run) {
        const uint8_t *four[4] = {columns, columns + run, columns + 2 * run, columns + 3 * run};
        for (int k = 0; k < 4; k++) RZ_PREFETCH(four[k] + offset, 16 * run);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i quarters[4];
            rz_interleave_(four, offset + 32 * half, quarters);
            for (int k = 0; k < place.plane; k++)
                RZ_UNROLL
                for (int q = 0; q < 4; q++) quarters[q] = rz_next_trits_(quarters[q]);
            RZ_UNROLL
            for (int q = 0; q < 4; q++)
                _mm256_store_si256((__m256i *)(panel + (RZ_TRIT_LINE_STEPS_ * q + step) * 64 + 32 * half),
                                   rz_trit_codes_(quarters[q]));
        }
    }
}
