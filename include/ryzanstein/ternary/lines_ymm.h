/* lines_zmm.h for ymm, where a line is two registers. Needs rz_half_, rz_four_,
 * RZ_PLANE_SHIFT_(p), rz_plane_(codes, p): codes of bit pair p times 2^RZ_PLANE_SHIFT_(p), and
 * rz_dot_two_(sums, a, x, b, y): sums += a . x + b . y in fours. Trit rows and trit columns:
 * trit_lines_ymm.h. */
#include "ryzanstein/ternary/lines.h"

RZ_INLINE int32_t rz_sum_lanes_(__m256i a) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

/* Opening panels of rows and columns costs as much as several tokens. */
#define RZ_ROW_TOKENS_ 16
#define RZ_COLUMN_TOKENS_ 5

/* Rows of a list that go together: the sixteen registers hold the sums of one. */
#define RZ_ROWS_TOGETHER_ 1

/* y of a listed row and one token. */
RZ_INLINE void rz_listed_row_(const rz_ternary *w, const int32_t *row, const int32_t *later, const rz_activations *x,
                              int64_t t, float *out) {
    const uint8_t *from = rz_run_(w, *row), *next = rz_run_(w, *later);
    const int8_t *values = x->codes + t * x->stride;
    __m256i sums[4];
    RZ_UNROLL
    for (int p = 0; p < 4; p++) sums[p] = _mm256_setzero_si256();
    for (int64_t line = 0; line < w->run_lines; line++, from += RZ_LINE_BYTES, next += RZ_LINE_BYTES, values += RZ_LINE_CODES) {
        const __m256i low = rz_half_(from), high = rz_half_(from + 32);
        RZ_PREFETCH(next, 0);
        RZ_UNROLL
        for (int p = 0; p < 4; p++)
            sums[p] = rz_dot_two_(sums[p], rz_plane_(low, p), rz_some_(values + 64 * p),
                                  rz_plane_(high, p), rz_some_(values + 64 * p + 32));
    }
    __m256i total = sums[0];
    RZ_UNROLL
    for (int p = 1; p < 4; p++)
        total = _mm256_add_epi32(total, _mm256_srai_epi32(sums[p], RZ_PLANE_SHIFT_(p)));
    out[*row] = (float)(rz_sum_lanes_(total) - x->sums[t]) * rz_scale_(w, x, t);
}

RZ_INLINE void rz_listed_rows_(const rz_ternary *w, const int32_t *rows, const int32_t *later, int together,
                               const rz_activations *x, float *out, int64_t out_stride) {
    (void)together;
    for (int64_t t = 0; t < x->n; t++) rz_listed_row_(w, rows, later, x, t, out + t * out_stride);
}

/* quarters[q]: lane 4*l + k is byte 16*l + 4*q + k of the four half lines. */
RZ_INLINE void rz_interleave_(const uint8_t *const *columns, int64_t offset, __m256i *quarters) {
    const __m256i a = rz_half_(columns[0] + offset), b = rz_half_(columns[1] + offset);
    const __m256i c = rz_half_(columns[2] + offset), d = rz_half_(columns[3] + offset);
    const __m256i ab_low = _mm256_unpacklo_epi8(a, b), ab_high = _mm256_unpackhi_epi8(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi8(c, d), cd_high = _mm256_unpackhi_epi8(c, d);
    quarters[0] = _mm256_unpacklo_epi16(ab_low, cd_low);
    quarters[1] = _mm256_unpackhi_epi16(ab_low, cd_low);
    quarters[2] = _mm256_unpacklo_epi16(ab_high, cd_high);
    quarters[3] = _mm256_unpackhi_epi16(ab_high, cd_high);
}

/* Adds RZ_LIST_STEP columns to the sums of one token. */
RZ_INLINE void rz_listed_columns_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
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
        __m256i *to = (__m256i *)(sums + offset / RZ_LINE_BYTES * RZ_LINE_SUMS + offset % RZ_LINE_BYTES / 4);
        RZ_UNROLL
        for (int k = 0; k < RZ_LIST_STEP; k++) RZ_PREFETCH_ONCE(next[k] + offset);
        rz_interleave_(from, offset, first);
        rz_interleave_(from + 4, offset, second);
        RZ_UNROLL
        for (int q = 0; q < 4; q++)
            RZ_UNROLL
            for (int p = 0; p < 4; p++)
                _mm256_store_si256(to + 8 * p + 2 * q,
                                   rz_dot_two_(_mm256_load_si256(to + 8 * p + 2 * q),
                                               rz_plane_(first[q], p), four,
                                               rz_plane_(second[q], p), four_more));
    }
}

/* In place: word c of register r becomes word r of register c. */
RZ_INLINE void rz_transpose_(__m256i *r) {
    __m256i s[8];
    RZ_UNROLL
    for (int i = 0; i < 8; i += 4) {
        const __m256i a = _mm256_unpacklo_epi32(r[i], r[i + 1]), b = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        const __m256i c = _mm256_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm256_unpackhi_epi32(r[i + 2], r[i + 3]);
        s[i] = _mm256_unpacklo_epi64(a, c);
        s[i + 1] = _mm256_unpackhi_epi64(a, c);
        s[i + 2] = _mm256_unpacklo_epi64(b, d);
        s[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    RZ_UNROLL
    for (int k = 0; k < 4; k++) {
        r[k] = _mm256_permute2x128_si256(s[k], s[4 + k], 0x20);
        r[4 + k] = _mm256_permute2x128_si256(s[k], s[4 + k], 0x31);
    }
}

/* Panels of four row tiles x one line of columns, as (tile, step, 64) bytes: 16 KiB, or 20. */
#define RZ_LINE_STEPS_ (RZ_LINE_CODES / 4)

static void rz_open_rows_(const rz_ternary *w, int64_t tile, int64_t line, uint8_t *panel) {
    const __m256i mask = _mm256_set1_epi8(0x03);
    for (int i = 0; i < RZ_PANEL_TILES; i++)
        for (int eight = 0; eight < 2; eight++)    /* of the tile's rows */
            for (int half = 0; half < 2; half++) { /* of the line */
                __m256i words[8];
                RZ_UNROLL
                for (int row = 0; row < 8; row++)
                    words[row] = rz_half_(rz_run_(w, 16 * (tile + i) + 8 * eight + row) +
                                          RZ_LINE_BYTES * line + 32 * half);
                rz_transpose_(words);
                uint8_t *to = panel + (RZ_LINE_STEPS_ * i + 8 * half) * 64 + 32 * eight;
                RZ_UNROLL
                for (int k = 0; k < 8; k++)
                    RZ_UNROLL
                    for (int p = 0; p < 4; p++)
                        _mm256_store_si256((__m256i *)(to + (16 * p + k) * 64),
                                           _mm256_and_si256(_mm256_srli_epi16(words[k], 2 * p), mask));
            }
}

static void rz_open_columns_(const rz_ternary *w, int64_t tile, int64_t c, int64_t count, uint8_t *panel) {
    const __m256i mask = _mm256_set1_epi8(0x03);
    const rz_tile_place_ place = rz_tile_place(w, tile);
    const __m128i shift = _mm_cvtsi32_si128(2 * place.plane);
    const int64_t offset = RZ_LINE_BYTES * place.line, run = RZ_LINE_BYTES * w->run_lines;
    const uint8_t *columns = rz_run_(w, 16 * c);
    for (int64_t step = 0; step < 4 * count; step++, columns += 4 * run) {
        const uint8_t *four[4] = {columns, columns + run, columns + 2 * run, columns + 3 * run};
        for (int k = 0; k < 4; k++) RZ_PREFETCH(four[k] + offset, 16 * run);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i quarters[4];
            rz_interleave_(four, offset + 32 * half, quarters);
            RZ_UNROLL
            for (int q = 0; q < 4; q++)
                _mm256_store_si256((__m256i *)(panel + (RZ_LINE_STEPS_ * q + step) * 64 + 32 * half),
                                   _mm256_and_si256(_mm256_srl_epi16(quarters[q], shift), mask));
        }
    }
}
