/* Sizes of stacks, the opened weights of the amx tier; see vectors_zmm.h. */
#ifndef RZ_AMX_STACKS_H
#define RZ_AMX_STACKS_H

#include "ryzanstein/kernels.h"

#define RZ_STACK_TILE_COLUMNS 64 /* of a B tile */
#define RZ_STACK_TILE_BYTES 1024
#define RZ_STACK_TILES(columns) (((columns) + RZ_STACK_TILE_COLUMNS - 1) / RZ_STACK_TILE_COLUMNS)

/* Wider matrices would not fit a cache as a whole, and go another way. */
#define RZ_STACK_COLUMNS 32768

/* From a stack to the next: its tiles, and room for the rest of a packed line of 320 columns. */
#define RZ_STACK_STRIDE(columns) (RZ_STACK_TILES(columns) * RZ_STACK_TILE_BYTES + 16 * RZ_LINE_TRITS)

/* Columns that are opened at a time for few tokens: whole B tiles, whole packed units, within L1. */
#define RZ_STACK_STEP(layout) ((layout) == RZ_LAYOUT_ROWS ? 256 : ((layout) == RZ_LAYOUT_TABLES ? 384 : 320))

/* Scratch: four stacks, their scales if they are in groups, and C tiles of 2 x 16 tokens and four row tiles. */
#define RZ_STACK_SCALES_BYTES(columns) (RZ_PANEL_TILES * RZ_STACK_TILES(columns) * 64)
#define RZ_STACK_SUMS_BYTES (2 * RZ_PANEL_TILES * RZ_STACK_TILE_BYTES)
#define RZ_STACKS_BYTES(columns) \
    (RZ_PANEL_TILES * RZ_STACK_STRIDE(columns) + RZ_STACK_SCALES_BYTES(columns) + RZ_STACK_SUMS_BYTES)

/* What an opened weight is: (code << shift) + (zero - 1 << shift), so a weight of 0 is zero << shift. */
typedef struct {
    int shift, zero;
} rz_code_form_;

#endif
