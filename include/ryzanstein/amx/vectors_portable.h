/* What vectors_zmm.h has, in portable C: the emulation of the amx tier on CPUs without AVX-512. Needs
 * ternary/scalar.h. */
#ifndef RZ_AMX_VECTORS_H
#define RZ_AMX_VECTORS_H

#include "ryzanstein/amx/stacks.h"

RZ_INLINE rz_code_form_ rz_code_form(rz_layout layout) {
    const rz_code_form_ codes = {0, 1};
    (void)layout;
    return codes;
}

RZ_INLINE rz_f32x16 rz_finished_sums_(const int32_t *sums, rz_code_form_ form, int32_t activations) {
    int32_t rows[16];
    for (int i = 0; i < 16; i++) rows[i] = (sums[i] >> form.shift) - form.zero * activations;
    return rz_load_i32(rows);
}

RZ_APART void rz_codes_to_lines_(int16_t codes[16][16], uint8_t *to) {
    for (int column = 0; column < 16; column++)
        for (int row = 0; row < 16; row++) to[64 * (column / 4) + 4 * row + column % 4] = (uint8_t)codes[column][row];
}

RZ_INLINE void rz_open_codes_to_(const uint8_t *from, int64_t count, uint8_t *to) {
    for (; count; count--, from += RZ_TILE_BYTES, to += 4 * 64) {
        int16_t codes[16][16];
        rz_open_codes_(from, codes);
        rz_codes_to_lines_(codes, to);
    }
}

RZ_APART void rz_open_stacks_(const rz_ternary *w, int64_t tile, int tiles, int64_t column, int64_t columns, uint8_t *to,
                              int64_t stride) {
    const int64_t first = column / 16, last = (column + columns + 15) / 16;
    for (int i = 0; i < tiles; i++)
        for (int64_t c = first; c < last && c < w->column_tiles; c++) {
            int16_t codes[16][16];
            rz_open_tile_(w, tile + i, c, codes);
            rz_codes_to_lines_(codes, to + i * stride + 256 * (c - first));
        }
}

#endif
