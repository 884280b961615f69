/* From checkpoint weights to the layouts of kernels.h, once at load, and back to values for inspection
 * and for embeddings. Portable C.
 *
 * A source (sources/) is a matrix in one of the published encodings; it yields codes and scales. A layout
 * is a place for each code. Packing works in units that threads share out: 16 rows (tiles, trits, groups,
 * both kinds of rows), 64 rows (tables) or 64 columns (both kinds of columns).
 */
#ifndef RZ_PACK_TERNARY_H
#define RZ_PACK_TERNARY_H

#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/sources/read.h"
#include "ryzanstein/ternary/triples.h"
#include "ryzanstein/ternary/trits.h"

/* w->codes is const for kernels; packing is where it is written. */
RZ_INLINE uint8_t *rz_writable_(const rz_ternary *w) { return (uint8_t *)w->codes; }

RZ_INLINE uint32_t rz_pack_tiles_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile) {
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t c = 0; c < w->column_tiles; c += RZ_SOURCE_CODES / 16) {
            uint32_t words[RZ_SOURCE_CODES / 16];
            bad |= rz_source_tile_words(source, row, 16 * c, words);
            for (int i = 0; i < RZ_SOURCE_CODES / 16 && c + i < w->column_tiles; i++)
                memcpy(rz_writable_(w) + (tile * w->column_tiles + c + i) * RZ_TILE_BYTES + 4 * (row % 16), words + i, 4);
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
                bad |= rz_source_codes(source, row, 64 * (parts * line + p), codes);
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
                bad |= rz_source_codes(source, 64 * (parts * line + p) + row, first, codes);
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

/* The words of a tile's row are the digits here; no byte of their sum reaches 243. Sixteen tiles are a whole
 * number of calls of the source, and long enough for the loops to vectorise. */
RZ_INLINE uint32_t rz_pack_trits_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile) {
    enum { TOGETHER = 16,
           COLUMNS = TOGETHER * RZ_TRITS_COLUMNS };
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t c = 0; c < w->run_lines; c += TOGETHER) {
            uint8_t codes[COLUMNS], bytes[4 * TOGETHER];
            for (int i = 0; i < COLUMNS; i += RZ_SOURCE_CODES)
                bad |= rz_source_codes(source, row, RZ_TRITS_COLUMNS * c + i, codes + i);
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
            bad |= rz_source_codes(source, RZ_TABLES_ROWS * unit + row, RZ_TABLES_COLUMNS * c, codes);
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

/* Groups: where a group's codes of a row tile begin, and its scales of 16 rows. */
RZ_INLINE int64_t rz_group_pair_(const rz_ternary *w, int64_t tile, int64_t group) {
    return (tile * w->run_lines + group / 2 * RZ_GROUP_PAIR_LINES(RZ_GROUP_COLUMNS(w->layout))) * RZ_LINE_BYTES;
}
RZ_INLINE int64_t rz_group_codes_(const rz_ternary *w, int64_t tile, int64_t group) {
    return rz_group_pair_(w, tile, group) + RZ_LINE_BYTES * (1 + group % 2 * (RZ_GROUP_COLUMNS(w->layout) / 16));
}
RZ_INLINE int64_t rz_group_scales_(const rz_ternary *w, int64_t tile, int64_t group) {
    return rz_group_pair_(w, tile, group) + group % 2 * 32;
}

RZ_INLINE uint32_t rz_pack_groups_(const rz_ternary_source *source, const rz_ternary *w, int64_t tile) {
    const int64_t wide = RZ_GROUP_COLUMNS(w->layout);
    uint32_t problems = 0;
    for (int64_t group = 0; group * wide < w->columns; group++) {
        if (group % 2 == 0) memset(rz_writable_(w) + rz_group_pair_(w, tile, group), 0, RZ_LINE_BYTES);
        for (int row = 0; row < 16; row++) {
            uint8_t *to = rz_writable_(w) + rz_group_codes_(w, tile, group) + 4 * row;
            for (int64_t c = 0; c < wide; c += RZ_SOURCE_CODES) {
                uint32_t words[RZ_SOURCE_CODES / 16];
                problems |= rz_source_tile_words(source, 16 * tile + row, group * wide + c, words);
                for (int64_t i = 0; i < RZ_SOURCE_CODES / 16; i++)
                    memcpy(to + (c / 16 + i) * RZ_TILE_BYTES, words + i, 4);
            }
            float scale;
            uint16_t half;
            if (16 * tile + row >= w->rows) continue;
            problems |= rz_source_scale(source, 16 * tile + row, group * wide, &scale);
            if (!rz_half_bits(scale, &half)) problems |= RZ_PROBLEM_HALF;
            memcpy(rz_writable_(w) + rz_group_scales_(w, tile, group) + 2 * row, &half, 2);
        }
    }
    return problems;
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

/* Packs one unit. Returns bits of rz_source_problem. */
static inline uint32_t rz_pack_unit(const rz_ternary_source *source, const rz_ternary *w, int64_t unit) {
    switch (w->layout) {
    case RZ_LAYOUT_ROWS: return rz_pack_rows_(source, w, unit, 0);
    case RZ_LAYOUT_TRIT_ROWS: return rz_pack_rows_(source, w, unit, 1);
    case RZ_LAYOUT_COLUMNS: return rz_pack_columns_(source, w, unit, 0);
    case RZ_LAYOUT_TRIT_COLUMNS: return rz_pack_columns_(source, w, unit, 1);
    case RZ_LAYOUT_TRITS: return rz_pack_trits_(source, w, unit);
    case RZ_LAYOUT_TABLES: return rz_pack_tables_(source, w, unit);
    case RZ_LAYOUT_GROUPS64:
    case RZ_LAYOUT_GROUPS128: return rz_pack_groups_(source, w, unit);
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
    if (w->layout == RZ_LAYOUT_TILES || RZ_GROUP_COLUMNS(w->layout)) {
        const int64_t wide = RZ_GROUP_COLUMNS(w->layout);
        const int within = (int)(column % 16);
        byte = wide ? rz_group_codes_(w, row / 16, column / wide) + column % wide / 16 * RZ_TILE_BYTES
                    : ((row / 16) * w->column_tiles + column / 16) * RZ_TILE_BYTES;
        byte += 4 * (row % 16) + within % 4;
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

/* The scale of a group of a row of a matrix in groups. */
static inline float rz_group_scale(const rz_ternary *w, int64_t row, int64_t group) {
    return rz_half_at_(w->codes + rz_group_scales_(w, row / 16, group) + 2 * (row % 16));
}

/* A row of a matrix in groups as floats. */
static inline void rz_group_row_floats(const rz_ternary *w, int64_t row, float *out) {
    const int64_t wide = RZ_GROUP_COLUMNS(w->layout);
    for (int64_t begin = 0; begin < w->columns; begin += wide) {
        const float scale = rz_group_scale(w, row, begin / wide);
        const uint8_t *from = w->codes + rz_group_codes_(w, row / 16, begin / wide) + 4 * (row % 16);
        const int64_t n = w->columns - begin < wide ? w->columns - begin : wide;
        for (int64_t i = 0; i < n; i++) {
            const int code = from[i / 16 * RZ_TILE_BYTES + i % 4] >> 2 * (i % 16 / 4) & 3;
            out[begin + i] = scale * (float)(code - 1);
        }
    }
}

/* Back to -1, 0, 1. */
static inline void rz_unpack_row(const rz_ternary *w, int64_t row, int8_t *out) {
    for (int64_t column = 0; column < w->columns; column++)
        out[column] = (int8_t)(rz_code_at(w, row, column) - 1);
}

#endif
