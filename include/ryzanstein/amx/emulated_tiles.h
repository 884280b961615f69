/* The tile registers of AMX in portable C, for tests on CPUs without them.
 *
 * As Intel's manual (SDM vol. 2, LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBSUD) has it,
 * and it stops the process where the CPU would raise #UD or #GP: for shapes that do not fit, one register in
 * two roles, or no configuration. Each thread has registers of its own, as on the CPU.
 */
#ifndef RZ_EMULATED_TILES_H
#define RZ_EMULATED_TILES_H

#include <stdlib.h>
#include <string.h>

#include "ryzanstein/target.h"

typedef struct {
    int rows, row_bytes;
    uint8_t bytes[16][64];
} rz_emulated_tile_;

#ifdef _MSC_VER
static __declspec(thread) struct {
#else
static __thread struct {
#endif
    int palette;
    rz_emulated_tile_ tile[8];
    int64_t products; /* since the thread began */
} rz_emulated_;

/* Forgets the registers. */
RZ_APART void rz_tiles_release_(void) {
    rz_emulated_.palette = 0;
    memset(rz_emulated_.tile, 0, sizeof rz_emulated_.tile);
}

static void rz_fault_unless_(int allowed) {
    if (!allowed) abort();
}

static rz_emulated_tile_ *rz_emulated_tile_at_(int tile) {
    rz_fault_unless_(rz_emulated_.palette == 1 && rz_emulated_.tile[tile].rows > 0);
    return &rz_emulated_.tile[tile];
}

RZ_APART void rz_tiles_configure_(const rz_tile_shapes *shapes) {
    rz_fault_unless_(shapes->palette == 1 && shapes->start_row == 0);
    for (int i = 0; i < 14; i++) rz_fault_unless_(shapes->reserved[i] == 0);
    for (int i = 0; i < 16; i++) {
        rz_fault_unless_(shapes->rows[i] <= 16 && shapes->row_bytes[i] <= 64 && !shapes->rows[i] == !shapes->row_bytes[i]);
        rz_fault_unless_(i < 8 || shapes->rows[i] == 0);
    }
    rz_tiles_release_();
    rz_emulated_.palette = 1;
    for (int i = 0; i < 8; i++) {
        rz_emulated_.tile[i].rows = shapes->rows[i];
        rz_emulated_.tile[i].row_bytes = shapes->row_bytes[i];
    }
}

RZ_APART void rz_tile_clear_(int tile) {
    rz_emulated_tile_ *t = rz_emulated_tile_at_(tile);
    memset(t->bytes, 0, sizeof t->bytes);
}

RZ_APART void rz_tile_load_(int tile, const void *from, int64_t stride) {
    rz_emulated_tile_ *t = rz_emulated_tile_at_(tile);
    memset(t->bytes, 0, sizeof t->bytes);
    for (int row = 0; row < t->rows; row++) memcpy(t->bytes[row], (const uint8_t *)from + row * stride, (size_t)t->row_bytes);
}

RZ_APART void rz_tile_store_(int tile, void *to, int64_t stride) {
    const rz_emulated_tile_ *t = rz_emulated_tile_at_(tile);
    for (int row = 0; row < t->rows; row++) memcpy((uint8_t *)to + row * stride, t->bytes[row], (size_t)t->row_bytes);
}

/* c += a * b, with zeros past the rows and columns of each. */
RZ_APART void rz_emulated_sums_(rz_emulated_tile_ *c, const rz_emulated_tile_ *a, const rz_emulated_tile_ *b) {
    int32_t by_column[64][16]; /* b, column 4*k + j of all its weight rows side by side */
    for (int k = 0; k < b->rows; k++)
        for (int j = 0; j < 4; j++)
            for (int n = 0; n < 16; n++) by_column[4 * k + j][n] = b->bytes[k][4 * n + j];
    for (int m = 0; m < c->rows; m++) {
        uint32_t sums[16]; /* these wrap around */
        memcpy(sums, c->bytes[m], 64);
        for (int column = 0; column < 4 * b->rows; column++) {
            const int32_t x = (int8_t)a->bytes[m][column];
            for (int n = 0; n < 16; n++) sums[n] += (uint32_t)(x * by_column[column][n]);
        }
        memcpy(c->bytes[m], sums, 64);
    }
}

RZ_APART void rz_tiles_multiply_(int c, int a, int b) {
    rz_emulated_tile_ *to = rz_emulated_tile_at_(c);
    const rz_emulated_tile_ *by_row = rz_emulated_tile_at_(a), *by_four = rz_emulated_tile_at_(b);
    rz_fault_unless_(c != a && a != b && c != b);
    rz_fault_unless_(to->row_bytes % 4 == 0 && by_row->row_bytes % 4 == 0 && by_four->row_bytes % 4 == 0);
    rz_fault_unless_(to->rows == by_row->rows && to->row_bytes == by_four->row_bytes && by_row->row_bytes / 4 == by_four->rows);
    rz_emulated_.products++;
    rz_emulated_sums_(to, by_row, by_four);
}

#endif
