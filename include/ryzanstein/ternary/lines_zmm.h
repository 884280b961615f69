/* Rows and columns layouts on zmm: products that leave out what is not needed, and opening them
 * to the bytes of a panel when all is. Needs rz_dot_ and rz_four_.
 *
 * Rows: four masks of a line meet 4 x 64 neighbouring activations. One sum across lanes a row.
 *
 * Columns: bytes of four columns interleaved (punpck within 128-bit lanes) are 16 lanes of one
 * row and four columns, for each of four registers; masked, they are multiplied by a broadcast of
 * the four activations. Sums of all rows stay in L1; eight columns share one visit to them.
 *
 * Both read whole runs in the order of a list, with the runs to come prefetched: no hardware
 * prefetcher can know which these are.
 */

#define RZ_PLANE_SHIFT_(p) (2 * (p))
#define RZ_TRIT_SUMS_(n) ((n) > RZ_FEW_TOKENS ? RZ_TRIT_SUMS_OF_SHIFTED : RZ_TRIT_SUMS_OF_BYTES)
#define RZ_ROW_TOKENS_ RZ_FEW_TOKENS
#define RZ_COLUMN_TOKENS_ 10 /* measured: pays up to 10 rows, costs from 12 on */
/* Rows of a list that go together: their sums share the activations, and hide each other's latency. */
#define RZ_ROWS_TOGETHER_ 4
#include "ryzanstein/ternary/lines.h"

/* y of `together` listed rows and one token. */
RZ_INLINE void rz_listed_rows_of_token_(const rz_ternary *w, const int32_t *rows, const int32_t *later, int together,
                                        const rz_activations *x, int64_t t, float *out) {
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    const int8_t *values = x->codes + t * x->stride;
    const uint8_t *from[RZ_ROWS_TOGETHER_], *next[RZ_ROWS_TOGETHER_];
    __m512i sums[RZ_ROWS_TOGETHER_][4];
    RZ_UNROLL
    for (int i = 0; i < together; i++) {
        from[i] = rz_run_(w, rows[i]);
        next[i] = rz_run_(w, later[i]);
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) sums[i][pair] = _mm512_setzero_si512();
    }
    for (int64_t offset = 0; offset < w->run_lines * RZ_LINE_BYTES; offset += RZ_LINE_BYTES, values += RZ_LINE_CODES) {
        __m512i some[4];
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) some[pair] = _mm512_loadu_si512(values + 64 * pair);
        RZ_UNROLL
        for (int i = 0; i < together; i++) {
            const __m512i codes = _mm512_load_si512(from[i] + offset);
            RZ_PREFETCH(next[i] + offset, 0);
            RZ_UNROLL
            for (int pair = 0; pair < 4; pair++)
                sums[i][pair] = rz_dot_(sums[i][pair], _mm512_and_si512(codes, masks[pair]), some[pair]);
        }
    }
    RZ_UNROLL
    for (int i = 0; i < together; i++) {
        const __m512i low = _mm512_add_epi32(sums[i][0], _mm512_srai_epi32(sums[i][1], 2));
        const __m512i high = _mm512_add_epi32(_mm512_srai_epi32(sums[i][2], 4), _mm512_srai_epi32(sums[i][3], 6));
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high)) - x->sums[t];
        out[rows[i]] = (float)sum * rz_scale_(w, x, t);
    }
}

RZ_INLINE void rz_listed_rows_(const rz_ternary *w, const int32_t *rows, const int32_t *later, int together,
                               const rz_activations *x, float *out, int64_t out_stride) {
    for (int64_t t = 0; t < x->n; t++)
        rz_listed_rows_of_token_(w, rows, later, together, x, t, out + t * out_stride);
}

/* quarters[q]: lane 4*l + k is byte 16*l + 4*q + k of the four lines. */
RZ_INLINE void rz_interleave_(const uint8_t *const *columns, int64_t offset, __m512i *quarters) {
    const __m512i a = _mm512_load_si512(columns[0] + offset), b = _mm512_load_si512(columns[1] + offset);
    const __m512i c = _mm512_load_si512(columns[2] + offset), d = _mm512_load_si512(columns[3] + offset);
    const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    quarters[0] = _mm512_unpacklo_epi16(ab_low, cd_low);
    quarters[1] = _mm512_unpackhi_epi16(ab_low, cd_low);
    quarters[2] = _mm512_unpacklo_epi16(ab_high, cd_high);
    quarters[3] = _mm512_unpackhi_epi16(ab_high, cd_high);
}

/* Adds RZ_LIST_STEP columns to the sums of one token. */
RZ_APART void rz_listed_columns_(const rz_ternary *w, const int32_t *columns, const int32_t *later,
                                  const int8_t *values, int32_t *sums) {
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    const uint8_t *from[RZ_LIST_STEP], *next[RZ_LIST_STEP];
    const __m512i four = rz_four_(values), four_more = rz_four_(values + 4);
    RZ_UNROLL
    for (int k = 0; k < RZ_LIST_STEP; k++) {
        from[k] = rz_run_(w, columns[k]);
        next[k] = rz_run_(w, later[k]);
    }
    for (int64_t offset = 0; offset < rz_column_lines_(w) * RZ_LINE_BYTES; offset += RZ_LINE_BYTES, sums += RZ_LINE_SUMS) {
        __m512i first[4], second[4];
        RZ_UNROLL
        for (int k = 0; k < RZ_LIST_STEP; k++) RZ_PREFETCH_ONCE(next[k] + offset);
        rz_interleave_(from, offset, first);
        rz_interleave_(from + 4, offset, second);
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++)
            RZ_UNROLL
            for (int q = 0; q < 4; q++) {
                __m512i sum = _mm512_load_si512(sums + 64 * pair + 16 * q);
                sum = rz_dot_(sum, _mm512_and_si512(first[q], masks[pair]), four);
                sum = rz_dot_(sum, _mm512_and_si512(second[q], masks[pair]), four_more);
                _mm512_store_si512(sums + 64 * pair + 16 * q, sum);
            }
    }
}

/* In place: word c of register r becomes word r of register c. */
RZ_INLINE void rz_transpose_(__m512i *r) {
    __m512i s[16];
    RZ_UNROLL
    for (int i = 0; i < 16; i += 4) {
        const __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        s[i] = _mm512_unpacklo_epi64(a, c);
        s[i + 1] = _mm512_unpackhi_epi64(a, c);
        s[i + 2] = _mm512_unpacklo_epi64(b, d);
        s[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    RZ_UNROLL
    for (int k = 0; k < 4; k++) { /* s[4*g + k]: rows 4g.., words 4*lane + k */
        const __m512i a = _mm512_shuffle_i32x4(s[k], s[4 + k], 0x44), b = _mm512_shuffle_i32x4(s[k], s[4 + k], 0xee);
        const __m512i c = _mm512_shuffle_i32x4(s[8 + k], s[12 + k], 0x44), d = _mm512_shuffle_i32x4(s[8 + k], s[12 + k], 0xee);
        r[k] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[4 + k] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[8 + k] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[12 + k] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* From rows, lines [line, line + lines) of four row tiles: step s of row tile i, four columns as 64 bytes, at
 * panel + i * tile_stride + s * step_stride. */
static void rz_open_rows_(const rz_ternary *w, int64_t tile, int64_t line, int64_t lines, uint8_t *panel,
                          int64_t tile_stride, int64_t step_stride) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    for (int i = 0; i < RZ_PANEL_TILES; i++)
        for (int64_t j = 0; j < lines; j++) {
            __m512i words[16];
            RZ_UNROLL
            for (int row = 0; row < 16; row++) {
                const uint8_t *from = rz_run_(w, 16 * (tile + i) + row) + RZ_LINE_BYTES * (line + j);
                RZ_PREFETCH(from, 2 * RZ_LINE_BYTES); /* the next panel of columns */
                words[row] = _mm512_load_si512(from);
            }
            rz_transpose_(words);
            uint8_t *to = panel + i * tile_stride + 64 * j * step_stride; /* 64 steps a line */
            RZ_UNROLL
            for (int k = 0; k < 16; k++)
                RZ_UNROLL
                for (int pair = 0; pair < 4; pair++)
                    _mm512_store_si512(to + (16 * pair + k) * step_stride,
                                       _mm512_and_si512(_mm512_srli_epi16(words[k], 2 * pair), mask));
        }
}

/* The same from columns: column tiles [c, c + count) of the four row tiles from `tile` on. */
static void rz_open_columns_(const rz_ternary *w, int64_t tile, int64_t c, int64_t count, uint8_t *panel,
                             int64_t tile_stride, int64_t step_stride) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    const rz_tile_place_ place = rz_tile_place(w, tile);
    const __m128i shift = _mm_cvtsi32_si128(2 * place.plane);
    const int64_t offset = RZ_LINE_BYTES * place.line, run = RZ_LINE_BYTES * w->run_lines;
    const uint8_t *columns = rz_run_(w, 16 * c);
    for (int64_t step = 0; step < 4 * count; step++, columns += 4 * run) {
        const uint8_t *four[4] = {columns, columns + run, columns + 2 * run, columns + 3 * run};
        __m512i quarters[4];
        for (int k = 0; k < 4; k++) RZ_PREFETCH(four[k] + offset, 16 * run);
        rz_interleave_(four, offset, quarters);
        RZ_UNROLL
        for (int q = 0; q < 4; q++)
            _mm512_store_si512(panel + q * tile_stride + step * step_stride,
                               _mm512_and_si512(_mm512_srl_epi16(quarters[q], shift), mask));
    }
}
