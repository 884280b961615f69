/* What rows and columns, of both kinds, have in common in all tiers (see kernels.h). Needs
 * RZ_PLANE_SHIFT_(p): how far sums of bit pair p are left unshifted in the tier, and RZ_TRIT_SUMS_(n): what
 * the sums of trit columns are, for n tokens. */
#ifndef RZ_TERNARY_LINES_H
#define RZ_TERNARY_LINES_H

#include "ryzanstein/ternary/epilogue.h"
#include "ryzanstein/ternary/trits.h"

#define RZ_TRIT_SUMS_OF_CODES 0   /* of code*x */
#define RZ_TRIT_SUMS_OF_ABOVE 1   /* of (code + 1)*x */
#define RZ_TRIT_SUMS_OF_BYTES 2   /* of q*x, q a byte less its first 0 to 5 digits: see trit_lines_zmm.h */
#define RZ_TRIT_SUMS_OF_SHIFTED 3 /* of 64*(code + 1)*x */

/* The lines of a row or column. */
RZ_INLINE const uint8_t *rz_run_(const rz_ternary *w, int64_t run) {
    return w->codes + run * w->run_lines * RZ_LINE_BYTES;
}

/* How many runs ahead of its work a list's lines are asked for. Measured on Zen 5, one thread, half of
 * them: without 7 GB/s. Two bits: 23 to 25, and no more with more. Trits: rows 8 ahead 19, 16 to 32 25;
 * columns 16 ahead 22, 24 25, 32 23. */
#define RZ_ROWS_AHEAD_ 8
#define RZ_COLUMNS_AHEAD_ 16
#define RZ_TRIT_RUNS_AHEAD_ 24
RZ_INLINE const int32_t *rz_later_(const int32_t *list, int64_t i, int64_t ahead, int64_t count) {
    const int64_t later = i + (ahead & rz_prefetch_mask);
    return list + (later < count ? later : i);
}

/* The lines of a column that have rows. */
RZ_INLINE int64_t rz_column_lines_(const rz_ternary *w) {
    const int64_t codes = w->layout == RZ_LAYOUT_TRIT_COLUMNS ? RZ_LINE_TRITS : RZ_LINE_CODES;
    return (w->rows + codes - 1) / codes;
}

/* Where row tile `tile` lies in each column; plane: bit pair or digit. */
typedef struct {
    int64_t line;
    int plane, quarter;
} rz_tile_place_;
RZ_INLINE rz_tile_place_ rz_tile_place(const rz_ternary *w, int64_t tile) {
    const int planes = w->layout == RZ_LAYOUT_TRIT_COLUMNS ? RZ_TRITS : 4;
    const rz_tile_place_ place = {tile / (4 * planes), (int)(tile / 4 % planes), (int)(tile % 4)};
    return place;
}

/* Of ternary_columns, for a token and a line; (planes, 64). */
RZ_INLINE int32_t *rz_line_sums_(const rz_ternary *w, int32_t *sums, int64_t t, int64_t line) {
    return sums + (t * rz_column_lines_(w) + line) * RZ_LINE_SUMS;
}

static void rz_ternary_columns_finish(const rz_ternary *w, const int32_t *const *sums, int64_t parts,
                                      const rz_activations *x, int64_t t, int64_t row_begin,
                                      int64_t row_end, float *out, rz_output_mode store) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_COLUMNS, form = RZ_TRIT_SUMS_(x->n);
    for (int64_t row = row_begin; row < row_end; row += 16) {
        const rz_tile_place_ place = rz_tile_place(w, row / 16);
        const int64_t at = (t * rz_column_lines_(w) + place.line) * RZ_LINE_SUMS + 64 * place.plane + 16 * place.quarter;
        uint32_t totals[16] = {0}, after[16] = {0}; /* these wrap around */
        for (int64_t part = 0; part < parts; part++)
            for (int i = 0; i < 16; i++) totals[i] += (uint32_t)sums[part][at + i];
        if (trits && form == RZ_TRIT_SUMS_OF_BYTES)
            for (int64_t part = 0; part < parts; part++)
                for (int i = 0; i < 16; i++) after[i] += (uint32_t)sums[part][at + 64 + i];
        const uint32_t sum = (uint32_t)x->sums[t];
        int32_t y[16];
        for (int i = 0; i < 16; i++) {
            if (!trits) y[i] = ((int32_t)totals[i] >> RZ_PLANE_SHIFT_(place.plane)) - x->sums[t];
            else if (form == RZ_TRIT_SUMS_OF_BYTES) y[i] = (int32_t)(3 * totals[i] - after[i] - 256 * sum) >> 8;
            else if (form == RZ_TRIT_SUMS_OF_SHIFTED) y[i] = ((int32_t)totals[i] >> 6) - 2 * x->sums[t];
            else y[i] = (int32_t)(totals[i] - (form == RZ_TRIT_SUMS_OF_ABOVE ? 2 * sum : sum));
        }
        rz_store_rows_(y, rz_scale_(w, x, t), out + row, row_end - row, store);
    }
}

#endif
