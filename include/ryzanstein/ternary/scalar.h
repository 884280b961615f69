/* Ternary product in portable C.
 *
 * A tile is opened once into 16 columns x 16 rows of codes and used for every token;
 * 16 products of at most 2*128 stay far inside int16 before they are widened.
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#define RZ_PLANE_SHIFT_(p) 0 /* codes are shifted down before they are multiplied */
#define RZ_TRIT_SUMS_(n) RZ_TRIT_SUMS_OF_CODES
#define RZ_ROW_TOKENS_ RZ_FEW_TOKENS
#define RZ_COLUMN_TOKENS_ RZ_FEW_TOKENS
#include "ryzanstein/ternary/lines.h"
#include "ryzanstein/ternary/triples.h"
#include "ryzanstein/ternary/trits.h"

/* codes[column][row] of the 16 x 16 weights of 64 bytes of the layouts tiles and groups. */
RZ_INLINE void rz_open_codes_(const uint8_t *from, int16_t codes[16][16]) {
    for (int row = 0; row < 16; row++)
        for (int b = 0; b < 4; b++)
            for (int pair = 0; pair < 4; pair++)
                codes[4 * pair + b][row] = (int16_t)((from[4 * row + b] >> (2 * pair)) & 3);
}

/* codes[column][row] of the 16 x 16 weights that are tile (tile, c). */
RZ_INLINE void rz_open_tile_(const rz_ternary *w, int64_t tile, int64_t c, int16_t codes[16][16]) {
    if (w->layout == RZ_LAYOUT_TILES) {
        rz_open_codes_(w->codes + (tile * w->column_tiles + c) * RZ_TILE_BYTES, codes);
    } else if (w->layout == RZ_LAYOUT_TRIT_ROWS) {
        for (int column = 0; column < 16; column++) {
            const int64_t line = (16 * c + column) / RZ_LINE_TRITS, within = (16 * c + column) % RZ_LINE_TRITS;
            for (int row = 0; row < 16; row++) {
                const uint8_t *from = rz_run_(w, 16 * tile + row) + RZ_LINE_BYTES * line;
                codes[column][row] = (int16_t)rz_trit(from[within % 64], (int)(within / 64));
            }
        }
    } else if (w->layout == RZ_LAYOUT_ROWS) {
        const int64_t at = RZ_LINE_BYTES * (c / 16) + 16 * (c % 4);
        const int shift = (int)(2 * (c / 4 % 4));
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 16; column++)
                codes[column][row] = (int16_t)(rz_run_(w, 16 * tile + row)[at + column] >> shift & 3);
    } else if (w->layout == RZ_LAYOUT_TRITS) {
        for (int column = 0; column < 16; column++) {
            const int64_t line = (16 * c + column) / RZ_TRITS_COLUMNS;
            const int within = (int)((16 * c + column) % RZ_TRITS_COLUMNS);
            const uint8_t *from = w->codes + (tile * w->run_lines + line) * RZ_TILE_BYTES + within % 4;
            for (int row = 0; row < 16; row++) codes[column][row] = (int16_t)rz_trit(from[4 * row], within / 4);
        }
    } else if (w->layout == RZ_LAYOUT_TABLES) {
        for (int column = 0; column < 16; column++) {
            const int64_t line = (16 * c + column) / RZ_TABLES_COLUMNS;
            const int within = (int)((16 * c + column) % RZ_TABLES_COLUMNS), first = (int)(16 * tile % RZ_TABLES_ROWS);
            const uint8_t *from = w->codes + (tile / 4 * w->run_lines + line) * RZ_TABLES_TILE_BYTES;
            for (int row = 0; row < 16; row++)
                codes[column][row] = (int16_t)rz_triple_code(from, first + row, within / RZ_TRIPLE, within % RZ_TRIPLE);
        }
    } else {
        const rz_tile_place_ place = rz_tile_place(w, tile);
        for (int column = 0; column < 16; column++) {
            const uint8_t *from = rz_run_(w, 16 * c + column) + RZ_LINE_BYTES * place.line + 4 * place.quarter;
            for (int row = 0; row < 16; row++) {
                const uint8_t byte = from[16 * (row / 4) + row % 4];
                codes[column][row] = (int16_t)(w->layout == RZ_LAYOUT_COLUMNS ? byte >> 2 * place.plane & 3 : rz_trit(byte, place.plane));
            }
        }
    }
}

#define rz_ternary_tables NULL
#define RZ_WHOLE_LAYOUT_ RZ_LAYOUT_TILES

/* sum code*x of a row. */
RZ_INLINE int32_t rz_row_sum_(const rz_ternary *w, const uint8_t *from, const int8_t *values) {
    int32_t sum = 0;
    for (int64_t line = 0; line < w->run_lines; line++, from += RZ_LINE_BYTES, values += RZ_LINE_CODES)
        for (int p = 0; p < 4; p++)
            for (int k = 0; k < 64; k++) sum += (from[k] >> 2 * p & 3) * values[64 * p + k];
    return sum;
}

RZ_INLINE int32_t rz_trit_row_sum_(const rz_ternary *w, const uint8_t *from, const int8_t *values) {
    int32_t sum = 0;
    for (int64_t line = 0; line < w->run_lines; line++, from += RZ_LINE_BYTES) {
        uint8_t bytes[RZ_LINE_BYTES];
        memcpy(bytes, from, RZ_LINE_BYTES);
        for (int p = 0; p < RZ_TRITS; p++, values += 64)
            for (int k = 0; k < 64; k++) {
                sum += (bytes[k] * 3 >> 8) * values[k];
                bytes[k] = (uint8_t)(bytes[k] * 3);
            }
    }
    return sum;
}

static void rz_ternary_rows(const rz_ternary *w, const int32_t *rows, int64_t count,
                            const rz_activations *x, float *out, int64_t out_stride) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t t = 0; t < x->n; t++) {
            const uint8_t *from = rz_run_(w, rows[i]);
            const int8_t *values = x->codes + t * x->stride;
            const int32_t sum = w->layout == RZ_LAYOUT_ROWS ? rz_row_sum_(w, from, values) : rz_trit_row_sum_(w, from, values);
            out[t * out_stride + rows[i]] = (float)(sum - x->sums[t]) * rz_scale_(w, x, t);
        }
}

static void rz_ternary_columns(const rz_ternary *w, const int32_t *columns, int64_t count,
                               const int8_t *values, int64_t values_stride, int64_t n, int32_t *sums) {
    const int trits = w->layout == RZ_LAYOUT_TRIT_COLUMNS, parts = trits ? RZ_TRITS : 4;
    for (int64_t i = 0; i < count; i++)
        for (int64_t line = 0; line < rz_column_lines_(w); line++) {
            const uint8_t *from = rz_run_(w, columns[i]) + RZ_LINE_BYTES * line;
            int32_t codes[RZ_LINE_TRITS];
            for (int row = 0; row < 64; row++) {
                uint8_t byte = from[16 * (row / 4 % 4) + 4 * (row / 16) + row % 4];
                for (int p = 0; p < parts; p++) {
                    codes[64 * p + row] = trits ? byte * 3 >> 8 : byte & 3;
                    byte = (uint8_t)(trits ? byte * 3 : byte >> 2);
                }
            }
            for (int64_t t = 0; t < n; t++) {
                int32_t *to = rz_line_sums_(w, sums, t, line);
                const int32_t value = values[t * values_stride + i];
                for (int row = 0; row < 64 * parts; row++) to[row] += codes[row] * value;
            }
        }
}

static void rz_ternary_matmul(const rz_ternary *w, int64_t tile_begin, int64_t tile_end,
                              const rz_activations *x, float *out, int64_t out_stride,
                              rz_output_mode store, void *scratch) {
    int32_t (*sums)[16] = (int32_t (*)[16])scratch;
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        for (int64_t t = 0; t < x->n; t++)
            for (int row = 0; row < 16; row++) sums[t][row] = -x->sums[t];
        for (int64_t c = 0; c < w->column_tiles; c++) {
            int16_t codes[16][16];
            rz_open_tile_(w, tile, c, codes);
            for (int64_t t = 0; t < x->n; t++) {
                const int8_t *values = x->codes + t * x->stride + 16 * c;
                int16_t partial[16] = {0};
                for (int column = 0; column < 16; column++)
                    for (int row = 0; row < 16; row++)
                        partial[row] = (int16_t)(partial[row] + codes[column][row] * values[column]);
                for (int row = 0; row < 16; row++) sums[t][row] += partial[row];
            }
        }
        for (int64_t t = 0; t < x->n; t++)
            rz_store_rows_(sums[t], rz_scale_(w, x, t), out + t * out_stride + 16 * tile,
                           w->rows - 16 * tile, store);
    }
}

#include "ryzanstein/ternary/groups_scalar.h"

#endif
