/* The tile registers of AMX, by instructions of our own.
 *
 * Eight registers of up to 16 rows x 64 bytes. rz_tiles_multiply_(C, A, B) is tdpbsud: C holds int32, A int8
 * and B uint8, and C[m][n] += sum over k and j of A[m][4*k + j] * B[k][4*n + j], wrapping around. So B wants
 * four neighbouring columns of a weight row side by side, which is how the tiers with vpdpbusd open weights.
 *
 * No intrinsics: those of GCC 12 name 8 of the 64 bytes of a configuration as read, and no memory at all for
 * tileloadd, so stores before them may be dropped or moved. Here each says that it may touch all memory.
 * The numbers of registers are constants, because they are part of the instruction.
 *
 * emulated_tiles.h has the same in portable C.
 */
#ifndef RZ_TILES_H
#define RZ_TILES_H

#include <stdint.h>

/* What ldtilecfg reads. Registers with 0 rows must not be used. */
typedef struct rz_tile_shapes {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* of 8 registers; the others stay 0 */
    uint8_t rows[16];
} rz_tile_shapes;

#ifndef RZ_EMULATED_TILES
#define rz_tiles_configure_(shapes) __asm__ volatile("ldtilecfg %0" : : "m"(*(shapes)) : "memory")
#define rz_tiles_release_() __asm__ volatile("tilerelease" : : : "memory")
#define rz_tile_clear_(tile) __asm__ volatile("tilezero %%tmm" #tile : : : "memory")
#define rz_tile_load_(tile, from, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"((const void *)(from)), "r"((int64_t)(stride)) : "memory")
#define rz_tile_store_(tile, to, stride) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"((void *)(to)), "r"((int64_t)(stride)) : "memory")
#define rz_tiles_multiply_(c, a, b) \
    __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory") /* AT&T: from right to left */
#else
#include "ryzanstein/amx/emulated_tiles.h"
#endif

#endif
