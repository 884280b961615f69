/* The tables layout of kernels.h in portable C: three weights as a number of 4 bits and a sign.
 *
 * Weights w0, w1, w2 of -1, 0, 1 make v = w0 + 3*w1 + 9*w2 in -13..13. What they add to a product
 * with activations x0, x1, x2 changes its sign with v, so a table of 14 entries for |v| serves: few
 * enough for a byte shuffle.
 */
#ifndef RZ_TERNARY_TRIPLES_H
#define RZ_TERNARY_TRIPLES_H

#include "ryzanstein/kernels.h"

#define RZ_TRIPLE 3              /* weights of a lookup */
#define RZ_TABLES_TRIPLES 8      /* of a row in a tile */
#define RZ_TABLES_ROWS 64        /* of a tile */
#define RZ_TABLES_SIGNS 256      /* offset of the signs in a tile */
#define RZ_TABLES_TILE_BYTES 320 /* 64 * 8 * 5 bits */

/* Where in its tile the index of a triple is: low or high half of a byte. */
static inline int rz_triple_byte(int row, int triple) { return 32 * triple + row % 32; }
static inline int rz_triple_shift(int row) { return 4 * (row / 32); }
/* Which bit of byte RZ_TABLES_SIGNS + row is its sign. */
static inline int rz_triple_sign_bit(int triple) { return 7 - triple; }

/* The code of column 3 * triple + k of a row in its tile. */
static inline int rz_triple_code(const uint8_t *tile, int row, int triple, int k) {
    const int size = tile[rz_triple_byte(row, triple)] >> rz_triple_shift(row) & 15;
    const int negative = tile[RZ_TABLES_SIGNS + row] >> rz_triple_sign_bit(triple) & 1;
    int digits = 13 + (negative ? -size : size);
    for (; k; k--) digits /= 3;
    return digits % 3;
}

#endif
