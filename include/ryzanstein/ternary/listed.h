/* Products with what a list names, in the tiers with vectors: which runs when. Needs, of either kind,
 * rz_listed_rows_ and rz_listed_columns_, the latter of two bits for one token, and RZ_ROWS_TOGETHER_, the rows a call of the
 * first takes. */

static void rz_ternary_rows(const rz_ternary *w, const int32_t *rows, int64_t count,
                            const rz_activations *x, float *out, int64_t out_stride) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_ROWS;
    for (int64_t i = 0; i < count;) {
        const int together = i + RZ_ROWS_TOGETHER_ <= count ? RZ_ROWS_TOGETHER_ : 1;
        const int64_t ahead = trits ? RZ_TRIT_RUNS_AHEAD_ : RZ_ROWS_AHEAD_;
        const int32_t *later = rz_later_(rows, i, ahead, count - together + 1);
        if (trits) { /* constants, so that sums stay in registers */
            if (together == 1) rz_listed_trit_rows_(w, rows + i, later, 1, x, out, out_stride);
            else rz_listed_trit_rows_(w, rows + i, later, RZ_ROWS_TOGETHER_, x, out, out_stride);
        } else {
            if (together == 1) rz_listed_rows_(w, rows + i, later, 1, x, out, out_stride);
            else rz_listed_rows_(w, rows + i, later, RZ_ROWS_TOGETHER_, x, out, out_stride);
        }
        i += together;
    }
}

static void rz_ternary_columns(const rz_ternary *w, const int32_t *columns, int64_t count,
                               const int8_t *values, int64_t values_stride, int64_t n, int32_t *sums) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_COLUMNS;
#ifdef RZ_BLOCK_COLUMNS_
    if (n > RZ_FEW_TOKENS) {
        rz_columns_of_many_(w, columns, count, values, values_stride, n, sums);
        return;
    }
#endif
    for (int64_t i = 0; i < count; i += RZ_LIST_STEP) {
        const int32_t *later = rz_later_(columns, i, trits ? RZ_TRIT_RUNS_AHEAD_ : RZ_COLUMNS_AHEAD_, count);
        if (trits) {
            rz_listed_trit_columns_(w, columns + i, later, values + i, values_stride, n, sums);
            continue;
        }
        for (int64_t t = 0; t < n; t++)
            rz_listed_columns_(w, columns + i, later, values + t * values_stride + i, rz_line_sums_(w, sums, t, 0));
    }
}
