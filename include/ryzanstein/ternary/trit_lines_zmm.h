/* Trit rows and trit columns on zmm: lines_zmm.h with five weights a byte.
 *
 * No digit is taken out where one token is multiplied: as in trits_zmm.h, let q be a byte and q' what
 * remains of it after its first digit d. Then 256*d = 3*q - q'.
 *
 * Rows: the sum of d*x over a row is (3 * sum q*x - sum q'*x) / 256, two sums for all digits.
 *
 * Columns: digit k of a byte belongs to a row of its own, but q' of digit k is q of digit k + 1. So
 * there are six sums for five rows, Q[k] of the bytes after k digits, and row k gets
 * (3 * Q[k] - Q[k+1]) / 256 at the end.
 *
 * Head-room: vpdpbusd wraps around, so only the differences have to fit; see kernels.h.
 *
 * Several tokens: digits plus 1, 64 times too large, as in trits_zmm.h. The largest sum of a lane is
 * 64*3*128*columns/16, far inside int32.
 */

/* y of `together` listed rows and one token. */
RZ_INLINE void rz_listed_trit_rows_of_token_(const rz_ternary *w, const int32_t *rows, const int32_t *later,
                                             int together, const rz_activations *x, int64_t t, float *out) {
    const int8_t *values = x->codes + t * x->stride;
    const uint8_t *from[RZ_ROWS_TOGETHER_], *next[RZ_ROWS_TOGETHER_];
    __m512i before[RZ_ROWS_TOGETHER_], after[RZ_ROWS_TOGETHER_];
    RZ_UNROLL
    for (int i = 0; i < together; i++) {
        from[i] = rz_run_(w, rows[i]);
        next[i] = rz_run_(w, later[i]);
        before[i] = after[i] = _mm512_setzero_si512();
    }
    for (int64_t offset = 0; offset < w->run_lines * RZ_LINE_BYTES; offset += RZ_LINE_BYTES, values += RZ_LINE_TRITS) {
        __m512i bytes[RZ_ROWS_TOGETHER_];
        RZ_UNROLL
        for (int i = 0; i < together; i++) {
            bytes[i] = _mm512_load_si512(from[i] + offset);
            RZ_PREFETCH(next[i] + offset, 0);
        }
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++) {
            const __m512i some = _mm512_loadu_si512(values + 64 * k);
            RZ_UNROLL
            for (int i = 0; i < together; i++) {
                before[i] = rz_dot_(before[i], bytes[i], some);
                bytes[i] = rz_next_trits_(bytes[i]);
                after[i] = rz_dot_(after[i], bytes[i], some);
            }
        }
    }
    RZ_UNROLL
    for (int i = 0; i < together; i++) {
        const __m512i carried = _mm512_sub_epi32(_mm512_add_epi32(before[i], _mm512_add_epi32(before[i], before[i])), after[i]);
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_srai_epi32(carried, 8)) - x->sums[t];
        out[rows[i]] = (float)sum * rz_scale_(w, x, t);
    }
}

/* Adds RZ_LIST_STEP columns to the sums of `tokens` <= RZ_FEW_TOKENS tokens, a constant. */
RZ_INLINE void rz_listed_columns_of_tokens_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
                                            const int8_t *values, int64_t values_stride, int tokens, int32_t *sums) {
    const uint8_t *from[RZ_LIST_STEP], *next[RZ_LIST_STEP];
    const int64_t lines = rz_column_lines_(w), of_token = lines * RZ_LINE_SUMS;
    __m512i four[RZ_FEW_TOKENS], four_more[RZ_FEW_TOKENS];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) {
        four[t] = rz_four_(values + t * values_stride);
        four_more[t] = rz_four_(values + t * values_stride + 4);
    }
    RZ_UNROLL
    for (int k = 0; k < RZ_LIST_STEP; k++) {
        from[k] = rz_run_(w, columns[k]);
        next[k] = rz_run_(w, later[k]);
    }
    for (int64_t offset = 0; offset < lines * RZ_LINE_BYTES; offset += RZ_LINE_BYTES, sums += RZ_LINE_SUMS) {
        __m512i first[4], second[4];
        RZ_UNROLL
        for (int k = 0; k < RZ_LIST_STEP; k++) RZ_PREFETCH_ONCE(next[k] + offset);
        rz_interleave_(from, offset, first);
        rz_interleave_(from + 4, offset, second);
        RZ_UNROLL
        for (int k = 0; k <= RZ_TRITS; k++)
            RZ_UNROLL
            for (int q = 0; q < 4; q++) {
                RZ_UNROLL
                for (int t = 0; t < tokens; t++) {
                    int32_t *to = sums + t * of_token + 64 * k + 16 * q;
                    const __m512i sum = rz_dot_(_mm512_load_si512(to), first[q], four[t]);
                    _mm512_store_si512(to, rz_dot_(sum, second[q], four_more[t]));
                }
                if (k < RZ_TRITS) {
                    first[q] = rz_next_trits_(first[q]);
                    second[q] = rz_next_trits_(second[q]);
                }
            }
    }
}

RZ_APART void rz_listed_trit_columns_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
                                      const int8_t *values, int64_t values_stride, int64_t n, int32_t *sums) {
    switch (n) { /* constants, so that activations stay in registers */
    case 1: rz_listed_columns_of_tokens_(w, columns, later, values, values_stride, 1, sums); break;
    case 2: rz_listed_columns_of_tokens_(w, columns, later, values, values_stride, 2, sums); break;
    default: rz_listed_columns_of_tokens_(w, columns, later, values, values_stride, 3, sums); break;
    }
}

/* Up to so many tokens straight from the codes; measured. */
#define RZ_DIRECT_TRIT_ROWS_ 96

/* Lanes of two rows and one token. */
typedef struct {
    __m512i row[2];
} rz_two_sums_;

RZ_INLINE void rz_two_add_(rz_two_sums_ *sums, const __m512i *digits, const int8_t *values) {
    const __m512i some = _mm512_loadu_si512(values);
    RZ_UNROLL
    for (int i = 0; i < 2; i++) sums->row[i] = rz_dot_(sums->row[i], digits[i], some);
}

/* totals[token]: lanes of two rows and `tokens` tokens, a constant, with digits plus 1. The lines of
 * `next` are asked for meanwhile. */
RZ_INLINE void rz_trit_row_pair_(const uint8_t *const *runs, const uint8_t *const *next, int64_t lines,
                                 const int8_t *values, int64_t stride, int tokens, rz_two_sums_ *totals) {
    const __m512i mask = _mm512_set1_epi8((char)0xc0);
    rz_two_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5, sums_6, sums_7, sums_8, sums_9;
#define RZ_CLEAR_(k) sums_##k.row[0] = sums_##k.row[1] = _mm512_setzero_si512();
#define RZ_ADD_(k) rz_two_add_(&sums_##k, digits, at.third[k / 3] + k % 3 * stride);
#define RZ_TOTAL_(k) \
    RZ_UNROLL        \
    for (int i = 0; i < 2; i++) totals[k].row[i] = _mm512_srai_epi32(sums_##k.row[i], 6);
    RZ_EACH_TRIT_TOKEN_(tokens, RZ_CLEAR_)
    for (int64_t offset = 0; offset < lines * RZ_LINE_BYTES; offset += RZ_LINE_BYTES) {
        __m512i bytes[2];
        RZ_UNROLL
        for (int i = 0; i < 2; i++) {
            RZ_PREFETCH(next[i] + offset, 0);
            bytes[i] = _mm512_load_si512(runs[i] + offset);
        }
        RZ_UNROLL
        for (int p = 0; p < RZ_TRITS; p++, values = rz_address_(values + 64)) {
            const rz_token_values_ at = rz_values_of_tokens_(values, stride);
            __m512i digits[2];
            RZ_UNROLL
            for (int i = 0; i < 2; i++) {
                digits[i] = _mm512_and_si512(rz_first_trits_(bytes[i]), mask);
                bytes[i] = rz_next_trits_(bytes[i]);
            }
            RZ_EACH_TRIT_TOKEN_(tokens, RZ_ADD_)
        }
    }
    RZ_EACH_TRIT_TOKEN_(tokens, RZ_TOTAL_)
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_TOTAL_
}

/* y of two listed rows and several tokens. */
RZ_INLINE void rz_listed_trit_pair_(const rz_ternary *w, const int32_t *rows, const int32_t *later, int tokens,
                                    const rz_activations *x, float *out, int64_t out_stride) {
    const uint8_t *const runs[2] = {rz_run_(w, rows[0]), rz_run_(w, rows[1])};
    const uint8_t *const next[2] = {rz_run_(w, later[0]), rz_run_(w, later[1])};
    rz_two_sums_ totals[RZ_FEW_TOKENS];
    rz_trit_row_pair_(runs, next, w->run_lines, x->codes, x->stride, tokens, totals);
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int i = 0; i < 2; i++) { /* once for the 1, once for the code of a weight of 0 */
            const int32_t sum = _mm512_reduce_add_epi32(totals[t].row[i]) - 2 * x->sums[t];
            out[t * out_stride + rows[i]] = (float)sum * rz_scale_(w, x, t);
        }
}

/* The same of `together` rows, for all tokens. */
RZ_INLINE void rz_listed_trit_rows_(const rz_ternary *w, const int32_t *rows, const int32_t *later, int together,
                                    const rz_activations *x, float *out, int64_t out_stride) {
    if (x->n == 1 || together == 1) {
        for (int64_t t = 0; t < x->n; t++)
            rz_listed_trit_rows_of_token_(w, rows, later, together, x, t, out + t * out_stride);
        return;
    }
    for (int i = 0; i < together; i += 2) {
        if (x->n == 2) rz_listed_trit_pair_(w, rows + i, later + i, 2, x, out, out_stride);
        else rz_listed_trit_pair_(w, rows + i, later + i, 3, x, out, out_stride);
    }
}

/* One row tile and `tokens` tokens, a constant. */
RZ_INLINE void rz_trit_row_group_(const rz_ternary *w, int64_t tile, const rz_activations *x, int64_t t,
                                  int tokens, float *out, int64_t out_stride, rz_output_mode store) {
    const int64_t ahead = t == 0 ? RZ_PREFETCH_BYTES & rz_prefetch_mask : 0;
    __m512i totals[RZ_TRIT_TOKENS_][16];
    for (int row = 0; row < 16; row += 2) {
        const uint8_t *const runs[2] = {rz_run_(w, 16 * tile + row), rz_run_(w, 16 * tile + row + 1)};
        const uint8_t *const next[2] = {runs[0] + ahead, runs[1] + ahead};
        rz_two_sums_ two[RZ_TRIT_TOKENS_];
        rz_trit_row_pair_(runs, next, w->run_lines, x->codes + t * x->stride, x->stride, tokens, two);
        RZ_UNROLL
        for (int k = 0; k < tokens; k++)
            RZ_UNROLL
            for (int i = 0; i < 2; i++) totals[k][row + i] = two[k].row[i];
    }
    for (int k = 0; k < tokens; k++) { /* once for the 1, once for the code of a weight of 0 */
        RZ_ALIGNED(64) int32_t rows[16];
        _mm512_store_si512(rows, _mm512_sub_epi32(rz_sum_of_each_(totals[k]), _mm512_set1_epi32(2 * x->sums[t + k])));
        rz_store_rows_(rows, rz_scale_(w, x, t + k), out + (t + k) * out_stride + 16 * tile,
                       w->rows - 16 * tile, store);
    }
}

/* One row tile of trit rows, all tokens. */
RZ_APART void rz_trit_row_products_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                                  int64_t out_stride, rz_output_mode store) {
    for (int64_t t = 0, tokens; t < x->n; t += tokens) {
        tokens = rz_trit_tokens_(x->n - t);
        switch (tokens) { /* constants, so that sums stay in registers */
#define RZ_CASE_(k) case k: rz_trit_row_group_(w, tile, x, t, k, out, out_stride, store); break;
            RZ_TRIT_CASES_
#undef RZ_CASE_
        }
    }
}

/* Bytes of digits to bytes of codes. */
RZ_INLINE __m512i rz_trit_codes_(__m512i bytes) {
    const __m512i above = _mm512_and_si512(_mm512_srli_epi16(rz_first_trits_(bytes), 6), _mm512_set1_epi8(0x03));
    return _mm512_sub_epi8(above, _mm512_set1_epi8(1));
}

/* As rz_open_rows_, from a line of four row tiles of trit rows. */
static void rz_open_trit_rows_(const rz_ternary *w, int64_t tile, int64_t line, uint8_t *panel, int64_t tile_stride,
                               int64_t step_stride) {
    for (int i = 0; i < RZ_PANEL_TILES; i++) {
        __m512i words[16];
        RZ_UNROLL
        for (int row = 0; row < 16; row++) {
            const uint8_t *from = rz_run_(w, 16 * (tile + i) + row) + RZ_LINE_BYTES * line;
            RZ_PREFETCH(from, RZ_LINE_BYTES); /* the next panel of columns */
            words[row] = _mm512_load_si512(from);
        }
        rz_transpose_(words);
        RZ_UNROLL
        for (int k = 0; k < 16; k++)
            RZ_UNROLL
            for (int p = 0; p < RZ_TRITS; p++, words[k] = rz_next_trits_(words[k]))
                _mm512_store_si512(panel + i * tile_stride + (16 * p + k) * step_stride, rz_trit_codes_(words[k]));
    }
}

/* The same from trit columns: column tiles [c, c + count). */
static void rz_open_trit_columns_(const rz_ternary *w, int64_t tile, int64_t c, int64_t count, uint8_t *panel,
                                  int64_t tile_stride, int64_t step_stride) {
    const rz_tile_place_ place = rz_tile_place(w, tile);
    const int64_t offset = RZ_LINE_BYTES * place.line, run = RZ_LINE_BYTES * w->run_lines;
    const uint8_t *columns = rz_run_(w, 16 * c);
    for (int64_t step = 0; step < 4 * count; step++, columns += 4 * run) {
        const uint8_t *four[4] = {columns, columns + run, columns + 2 * run, columns + 3 * run};
        __m512i quarters[4];
        for (int k = 0; k < 4; k++) RZ_PREFETCH(four[k] + offset, 16 * run);
        rz_interleave_(four, offset, quarters);
        for (int k = 0; k < place.plane; k++)
            RZ_UNROLL
            for (int q = 0; q < 4; q++) quarters[q] = rz_next_trits_(quarters[q]);
        RZ_UNROLL
        for (int q = 0; q < 4; q++)
            _mm512_store_si512(panel + q * tile_stride + step * step_stride, rz_trit_codes_(quarters[q]));
    }
}
