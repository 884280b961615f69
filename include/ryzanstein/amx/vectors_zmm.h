/* What surrounds products by tile registers, on zmm: packed weights to B tiles, and sums to floats. Needs
 * ternary/avx512vnni.h. vectors_portable.h has the same in portable C, for the emulation.
 *
 * A stack is a row tile that is opened: each line of 64 bytes has four columns of its 16 rows, so 16 lines are
 * a B tile of 64 columns, and the tiles of a row stand one below the other.
 */
#ifndef RZ_AMX_VECTORS_H
#define RZ_AMX_VECTORS_H

#include "ryzanstein/amx/stacks.h"

/* Weights of the layout of trits are left as digits plus 1, 64 times too large: opening them takes two
 * operations a line less. 64 * 3 * 127 * RZ_STACK_COLUMNS is far inside int32. */
RZ_INLINE rz_code_form_ rz_code_form(rz_layout layout) {
    const rz_code_form_ trits = {6, 2}, codes = {0, 1};
    return layout == RZ_LAYOUT_TRITS ? trits : codes;
}

/* Sums of 16 rows and one token as floats: sum of (code - 1) * x. */
RZ_INLINE rz_f32x16 rz_finished_sums_(const int32_t *sums, rz_code_form_ form, int32_t activations) {
    const __m512i codes = _mm512_srai_epi32(_mm512_load_si512(sums), (unsigned)form.shift);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(form.zero * activations)));
}

/* `count` tiles of 16 columns, two bits a weight. */
RZ_INLINE void rz_open_codes_to_(const uint8_t *from, int64_t count, uint8_t *to) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    for (; count; count--, from += RZ_TILE_BYTES, to += 4 * 64) {
        RZ_PREFETCH(from, RZ_PREFETCH_BYTES);
        const __m512i codes = _mm512_load_si512(from);
        _mm512_store_si512(to, _mm512_and_si512(codes, mask));
        _mm512_store_si512(to + 64, _mm512_and_si512(_mm512_srli_epi16(codes, 2), mask));
        _mm512_store_si512(to + 128, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask));
        _mm512_store_si512(to + 192, _mm512_and_si512(_mm512_srli_epi16(codes, 6), mask));
    }
}

/* `count` tiles of 20 columns, five weights a byte. */
RZ_INLINE void rz_open_digits_to_(const uint8_t *from, int64_t count, uint8_t *to) {
    const __m512i mask = _mm512_set1_epi8((char)0xc0);
    for (; count; count--, from += RZ_TILE_BYTES, to += RZ_TRITS * 64) {
        RZ_PREFETCH(from, RZ_PREFETCH_BYTES);
        __m512i bytes = _mm512_load_si512(from);
    RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++, bytes = rz_next_trits_(bytes))
            _mm512_store_si512(to + 64 * k, _mm512_and_si512(rz_first_trits_(bytes), mask));
    }
}

/* Opens columns [column, column + columns) of `tiles` <= 4 row tiles, of which the matrix may have fewer; both
 * are multiples of RZ_STACK_STEP(layout), or `columns` is all. Row tile i goes to `to + i * stride`. */
RZ_APART void rz_open_stacks_(const rz_ternary *w, int64_t tile, int tiles, int64_t column, int64_t columns, uint8_t *to,
                              int64_t stride) {
    const int64_t end = column + columns < w->columns ? column + columns : w->columns;
    const int64_t c = column / 16, count = (end + 15) / 16 - c;
    int64_t line = column / RZ_LINE_TRITS;
    switch (w->layout) {
    case RZ_LAYOUT_TILES:
        for (int i = 0; i < tiles; i++)
            rz_open_codes_to_(w->codes + ((tile + i) * w->column_tiles + c) * RZ_TILE_BYTES, count, to + i * stride);
        break;
    case RZ_LAYOUT_TRITS:
        for (int i = 0; i < tiles; i++) {
            const uint8_t *row_tile = w->codes + (tile + i) * w->run_lines * RZ_TILE_BYTES;
            rz_open_digits_to_(row_tile + column / RZ_TRITS_COLUMNS * RZ_TILE_BYTES, RZ_DENSE_TILES(end - column, RZ_TRITS_COLUMNS),
                               to + i * stride);
        }
        break;
    case RZ_LAYOUT_TABLES:
        rz_open_tables_(w, tile, column / RZ_TABLES_COLUMNS, RZ_DENSE_TILES(end - column, RZ_TABLES_COLUMNS), to, stride, 64);
        break;
    case RZ_LAYOUT_ROWS:
        rz_open_rows_(w, tile, column / RZ_LINE_CODES, (end - column + RZ_LINE_CODES - 1) / RZ_LINE_CODES, to, stride, 64);
        break;
    case RZ_LAYOUT_TRIT_ROWS:
        for (; line * RZ_LINE_TRITS < end; line++)
            rz_open_trit_rows_(w, tile, line, to + 16 * (line * RZ_LINE_TRITS - column), stride, 64);
        break;
    case RZ_LAYOUT_COLUMNS: rz_open_columns_(w, tile, c, count, to, stride, 64); break;
    case RZ_LAYOUT_TRIT_COLUMNS: rz_open_trit_columns_(w, tile, c, count, to, stride, 64); break;
    default: break; /* groups have kernels of their own */
    }
}

#endif
