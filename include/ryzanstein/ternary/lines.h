/* What the rows and columns layouts have in common in all tiers (see kernels.h). Needs
 * RZ_PLANE_SHIFT_(p): how far sums of bit pair p are left unshifted in the tier. */
#ifndef RZ_TERNARY_LINES_H
#define RZ_TERNARY_LINES_H

#include "ryzanstein/ternary/epilogue.h"

/* The lines of a row or column. */
RZ_INLINE const uint8_t *rz_run_(const rz_ternary *w, int64_t run) {
    return w->codes + run * w->run_lines * RZ_LINE_BYTES;
}

/* Entries of a list that go together, and how far ahead of them lines are asked for. Measured on
 * Zen 5, one thread, half of the rows: 1 row at a time 21 GB/s, 4 rows 23-24; without prefetch 7. */
#define RZ_ROWS_TOGETHER_ 4
#define RZ_RUNS_AHEAD_ 8
RZ_INLINE const int32_t *rz_later_(const int32_t *list, int64_t i, int64_t ahead, int64_t count) {
    return list + (i + ahead < count ? i + ahead : i);
}

/* Where row tile `tile` of the columns layout lies in each column. */
typedef struct { int64_t line; int plane, quarter; } rz_tile_place_;
RZ_INLINE rz_tile_place_ rz_tile_place(int64_t tile) {
    const rz_tile_place_ place = {tile / 16, (int)(tile / 4 % 4), (int)(tile % 4)};
    return place;
}

static void rz_ternary_columns_finish(const rz_ternary *w, const int32_t *const *sums, int64_t parts,
                                      const rz_activations *x, int64_t t, int64_t row_begin,
                                      int64_t row_end, float *out, rz_output_mode store) {
    for (int64_t row = row_begin; row < row_end; row += 16) {
        const int shift = RZ_PLANE_SHIFT_((int)(row / 64 % 4));
        const int64_t at = t * RZ_LINE_CODES * w->run_lines + row;
        int32_t totals[16] = {0};
        for (int64_t part = 0; part < parts; part++)
            for (int i = 0; i < 16; i++) totals[i] += sums[part][at + i];
        for (int i = 0; i < 16; i++) totals[i] = (totals[i] >> shift) - x->sums[t];
        rz_store_rows_(totals, x->scales[t] * w->scale, out + row, row_end - row, store);
    }
}

#endif
