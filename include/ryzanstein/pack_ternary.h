/* From checkpoint weights to the seven layouts of kernels.h, once at load, and back to values for
 * inspection. Portable C.
 *
 * A source is one of the published forms of a ternary matrix; it yields codes. A layout is a place
 * for each code. Packing works in units that threads share out: 16 rows (tiles, trits, both kinds of
 * rows), 64 rows (tables) or 64 columns (both kinds of columns).
 */
#ifndef RZ_PACK_TERNARY_H
#define RZ_PACK_TERNARY_H

#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/ternary/triples.h"
#include "ryzanstein/ternary/trits.h"
#include "ryzanstein/widen.h"

typedef struct rz_ternary_source {
    const uint8_t *packed; /* Hugging Face layout: byte [r, c] of (ceil(rows/4), columns) holds
                              rows r, r + R, r + 2R, r + 3R in bit pairs 0, 2, 4, 6; or NULL */
    const void *floats;    /* (rows, columns) masters: clamp(round_half_even(w * inverse_scale), -1, 1) */
    int float_kind;
    float inverse_scale;
    int64_t rows, columns;
} rz_ternary_source;

/* Sum of |w| over one row, in double, in sixteen lanes by index: float32 sums drift by percents. */
static inline double rz_absolute_sum(const void *row, int64_t columns, int kind) {
    double lanes[16] = {0};
    for (int64_t i = 0; i < columns; i++) {
        const float value = rz_widen_(row, i, kind);
        lanes[i & 15] += value < 0 ? -(double)value : (double)value;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

#define RZ_SOURCE_CODES 64
#define RZ_PADDING_CODE 1

/* RZ_SOURCE_CODES codes of a row from `column` on; code 1 outside the matrix. Returns non-zero if
 * one is 3, which no weight may be. */
RZ_INLINE uint32_t rz_source_codes_(const rz_ternary_source *source, int64_t row, int64_t column,
                                    uint8_t *codes) {
    const int64_t left = row < source->rows ? source->columns - column : 0;
    const int n = left >= RZ_SOURCE_CODES ? RZ_SOURCE_CODES : (left > 0 ? (int)left : 0);
    uint32_t bad = 0;
    if (source->packed && n) {
        const int64_t quarter = (source->rows + 3) / 4;
        const uint8_t *from = source->packed + row % quarter * source->columns + column;
        const int shift = (int)(2 * (row / quarter));
        if (n == RZ_SOURCE_CODES) { /* of constant length, so that it vectorises */
            for (int i = 0; i < RZ_SOURCE_CODES; i++) codes[i] = from[i] >> shift & 3;
        } else {
            for (int i = 0; i < n; i++) codes[i] = from[i] >> shift & 3;
        }
        for (int i = 0; i < n; i++) bad |= codes[i] & codes[i] >> 1;
    } else {
        for (int i = 0; i < n; i++) {
            const float w = rz_widen_(source->floats, row * source->columns + column + i, source->float_kind) *
                            source->inverse_scale;
            codes[i] = (uint8_t)(w > 0.5f ? 2 : (w < -0.5f ? 0 : 1)); /* ties go to the even 0 */
        }
    }
    for (int i = n; i < RZ_SOURCE_CODES; i++) codes[i] = RZ_PADDING_CODE;
    return bad;
}

/* w->codes is const for kernels; packing is where it is written. */
RZ_INLINE uint8_t *rz_writable_(const rz_ternary *w) { return (uint8_t *)w->codes; }

/* Four codes as the bytes of a 32-bit word are the unit of a tile: its row is
 * columns 0-3 | columns 4-7 << 2 | columns 8-11 << 4 | columns 12-15 << 6. */
RZ_INLINE uint32_t rz_pack_tiles_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile) {
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t c = 0; c < w->column_tiles; c += RZ_SOURCE_CODES / 16) {
            uint8_t codes[RZ_SOURCE_CODES];
            bad |= rz_source_codes_(source, row, 16 * c, codes);
            for (int i = 0; i < RZ_SOURCE_CODES / 16 && c + i < w->column_tiles; i++) {
                uint32_t words[4];
                memcpy(words, codes + 16 * i, 16);
                const uint32_t packed = words[0] | words[1] << 2 | words[2] << 4 | words[3] << 6;
                memcpy(rz_writable_(w) + (tile * w->column_tiles + c + i) * RZ_TILE_BYTES + 4 * (row % 16), &packed, 4);
            }
        }
    return bad;
}

/* Adds codes p of a line's bytes to what they hold so far, and finishes the bytes: four bit pairs, or
 * five digits of a number. `trits` is a constant. */
RZ_INLINE void rz_add_to_line_(const uint8_t *codes, int p, int trits, uint8_t *bytes) {
    for (int i = 0; i < RZ_SOURCE_CODES; i++)
        bytes[i] = (uint8_t)(!p ? codes[i] : (trits ? 3 * bytes[i] + codes[i] : bytes[i] | codes[i] << 2 * p));
}
RZ_INLINE void rz_finish_line_(int trits, uint8_t *bytes) {
    if (trits)
        for (int i = 0; i < RZ_SOURCE_CODES; i++) bytes[i] = rz_trits_byte(bytes[i]);
}

RZ_INLINE uint32_t rz_pack_rows_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile, int trits) {
    const int parts = trits ? RZ_TRITS : 4;
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t line = 0; line < w->run_lines; line++) {
            uint8_t codes[RZ_SOURCE_CODES], bytes[RZ_LINE_BYTES];
            for (int p = 0; p < parts; p++) {
                bad |= rz_source_codes_(source, row, 64 * (parts * line + p), codes);
                rz_add_to_line_(codes, p, trits, bytes);
            }
            rz_finish_line_(trits, bytes);
            memcpy(rz_writable_(w) + (row * w->run_lines + line) * RZ_LINE_BYTES, bytes, RZ_LINE_BYTES);
        }
    return bad;
}

/* Which byte of a column's line has rows 64*p + row. */
RZ_INLINE int rz_line_byte_(int row) { return 16 * (row / 4 % 4) + 4 * (row / 16) + row % 4; }

RZ_INLINE uint32_t rz_pack_columns_(const rz_ternary_source *source, const rz_ternary *w, int64_t unit, int trits) {
    const int64_t first = RZ_SOURCE_CODES * unit, end = 16 * w->column_tiles;
    const int parts = trits ? RZ_TRITS : 4;
    uint32_t bad = 0;
    for (int64_t line = 0; line < w->run_lines; line++) {
        uint8_t bytes[64][RZ_SOURCE_CODES]; /* by row, then column */
        for (int row = 0; row < 64; row++) {
            for (int p = 0; p < parts; p++) {
                uint8_t codes[RZ_SOURCE_CODES];
                bad |= rz_source_codes_(source, 64 * (parts * line + p) + row, first, codes);
                rz_add_to_line_(codes, p, trits, bytes[row]);
            }
            rz_finish_line_(trits, bytes[row]);
        }
        for (int i = 0; i < RZ_SOURCE_CODES && first + i < end; i++) {
            uint8_t *to = rz_writable_(w) + ((first + i) * w->run_lines + line) * RZ_LINE_BYTES;
            for (int row = 0; row < 64; row++) to[rz_line_byte_(row)] = bytes[row][i];
        }
    }
    return bad;
}

/* The words of a tile's row are the digits here; no byte of their sum reaches 243. */
RZ_INLINE uint32_t rz_pack_trits_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile) {
    enum { TOGETHER = RZ_SOURCE_CODES / RZ_TRITS_COLUMNS };
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t c = 0; c < w->run_lines; c += TOGETHER) {
            uint8_t codes[RZ_SOURCE_CODES], bytes[4 * TOGETHER];
            bad |= rz_source_codes_(source, row, RZ_TRITS_COLUMNS * c, codes);
            for (int i = 0; i < TOGETHER; i++) {
                uint32_t digits[RZ_TRITS], number = 0;
                memcpy(digits, codes + RZ_TRITS_COLUMNS * i, RZ_TRITS_COLUMNS);
                for (int k = 0; k < RZ_TRITS; k++) number = 3 * number + digits[k];
                memcpy(bytes + 4 * i, &number, 4);
            }
            for (int i = 0; i < 4 * TOGETHER; i++) bytes[i] = rz_trits_byte(bytes[i]);
            for (int i = 0; i < TOGETHER && c + i < w->run_lines; i++)
                memcpy(rz_writable_(w) + (tile * w->run_lines + c + i) * RZ_TILE_BYTES + 4 * (row % 16), bytes + 4 * i, 4);
        }
    return bad;
}

RZ_INLINE uint32_t rz_pack_tables_(const rz_ternary_source *source, const rz_ternary *w, int64_t unit) {
    enum { TOGETHER = RZ_SOURCE_CODES / RZ_TABLES_COLUMNS };
    uint8_t *tiles = rz_writable_(w) + unit * w->run_lines * RZ_TABLES_TILE_BYTES;
    uint32_t bad = 0;
    memset(tiles, 0, (size_t)(w->run_lines * RZ_TABLES_TILE_BYTES));
    for (int row = 0; row < RZ_TABLES_ROWS; row++)
        for (int64_t c = 0; c < w->run_lines; c += TOGETHER) {
            uint8_t codes[RZ_SOURCE_CODES];
            bad |= rz_source_codes_(source, RZ_TABLES_ROWS * unit + row, RZ_TABLES_COLUMNS * c, codes);
            for (int i = 0; i < TOGETHER && c + i < w->run_lines; i++) {
                uint8_t *to = tiles + (c + i) * RZ_TABLES_TILE_BYTES;
                const uint8_t *of = codes + RZ_TABLES_COLUMNS * i;
                int signs = 0;
                for (int k = 0; k < RZ_TABLES_TRIPLES; k++, of += RZ_TRIPLE) {
                    const int v = of[0] + 3 * of[1] + 9 * of[2] - 13, negative = v < 0;
                    to[rz_triple_byte(row, k)] |= (uint8_t)((negative ? -v : v) << rz_triple_shift(row));
                    signs |= negative << rz_triple_sign_bit(k);
                }
                to[RZ_TABLES_SIGNS + row] = (uint8_t)signs;
            }
        }
    return bad;
}

/* How many units a matrix has. */
static inline int64_t rz_pack_units(const rz_ternary *w) {
    switch (w->layout) {
    case RZ_LAYOUT_COLUMNS:
    case RZ_LAYOUT_TRIT_COLUMNS: return (w->column_tiles + 3) / 4;
    case RZ_LAYOUT_TABLES: return w->row_tiles / 4;
    default: return w->row_tiles;
    }
}

/* Packs one unit. Returns non-zero if a code 3 was met. */
static inline uint32_t rz_pack_unit(const rz_ternary_source *source, const rz_ternary *w, int64_t unit) {
    switch (w->layout) {
    case RZ_LAYOUT_ROWS: return rz_pack_rows_(source, w, unit, 0);
    case RZ_LAYOUT_TRIT_ROWS: return rz_pack_rows_(source, w, unit, 1);
    case RZ_LAYOUT_COLUMNS: return rz_pack_columns_(source, w, unit, 0);
    case RZ_LAYOUT_TRIT_COLUMNS: return rz_pack_columns_(source, w, unit, 1);
    case RZ_LAYOUT_TRITS: return rz_pack_trits_(source, w, unit);
    case RZ_LAYOUT_TABLES: return rz_pack_tables_(source, w, unit);
    default: return rz_pack_tiles_(source, w, unit);
    }
}

/* The code of one weight. */
static inline int rz_code_at(const rz_ternary *w, int64_t row, int64_t column) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_ROWS || w->layout == RZ_LAYOUT_TRIT_COLUMNS;
    const int line_codes = trits ? RZ_LINE_TRITS : RZ_LINE_CODES;
    int64_t byte;
    int part; /* bit pair or digit */
    if (w->layout == RZ_LAYOUT_TRITS) {
        const int within = (int)(column % RZ_TRITS_COLUMNS);
        byte = ((row / 16) * w->run_lines + column / RZ_TRITS_COLUMNS) * RZ_TILE_BYTES + 4 * (row % 16) + within % 4;
        return rz_trit(w->codes[byte], within / 4);
    }
    if (w->layout == RZ_LAYOUT_TABLES) {
        const int within = (int)(column % RZ_TABLES_COLUMNS);
        byte = ((row / RZ_TABLES_ROWS) * w->run_lines + column / RZ_TABLES_COLUMNS) * RZ_TABLES_TILE_BYTES;
        return rz_triple_code(w->codes + byte, (int)(row % RZ_TABLES_ROWS), within / RZ_TRIPLE, within % RZ_TRIPLE);
    }
    if (w->layout == RZ_LAYOUT_TILES) {
        const int within = (int)(column % 16);
        byte = ((row / 16) * w->column_tiles + column / 16) * RZ_TILE_BYTES + 4 * (row % 16) + within % 4;
        part = within / 4;
    } else if (w->layout == RZ_LAYOUT_ROWS || w->layout == RZ_LAYOUT_TRIT_ROWS) {
        byte = (row * w->run_lines + column / line_codes) * RZ_LINE_BYTES + column % 64;
        part = (int)(column % line_codes / 64);
    } else {
        byte = (column * w->run_lines + row / line_codes) * RZ_LINE_BYTES + rz_line_byte_((int)(row % 64));
        part = (int)(row % line_codes / 64);
    }
    return trits ? rz_trit(w->codes[byte], part) : w->codes[byte] >> 2 * part & 3;
}

/* Back to -1, 0, 1. */
static inline void rz_unpack_row(const rz_ternary *w, int64_t row, int8_t *out) {
    for (int64_t column = 0; column < w->columns; column++)
        out[column] = (int8_t)(rz_code_at(w, row, column) - 1);
}

#endif
