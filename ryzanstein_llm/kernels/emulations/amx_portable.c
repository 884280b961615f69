/* The amx tier with emulated tile registers in portable C, for tests on any CPU; and the registers themselves, for
 * tests against the manual. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
extern const rz_kernels rz_kernels_scalar;

#define RZ_TIER amx_portable
#define RZ_EMULATED_TILES
#define RZ_NAME(base) RZ_JOIN(base, RZ_TIER)
RZ_INLINE const rz_kernels *rz_base_(void) { return &rz_kernels_scalar; }

#include "ryzanstein/simd/portable.h"
#include "ryzanstein/ternary/scalar.h"
#include "ryzanstein/screen/scalar.h"
#include "ryzanstein/ops/screen.h"
#include "ryzanstein/amx/vectors_portable.h"
#include "ryzanstein/ternary/amx.h"
#include "ryzanstein/screen/amx.h"
#include "ryzanstein/limits/amx.h"

#include "ryzanstein/amx/table.h"

void rz_emulated_configure(const rz_tile_shapes *shapes);
void rz_emulated_release(void);
void rz_emulated_clear(int tile);
void rz_emulated_load(int tile, const void *from, int64_t stride);
void rz_emulated_store(int tile, void *to, int64_t stride);
void rz_emulated_multiply(int c, int a, int b);
void rz_emulated_configure(const rz_tile_shapes *shapes) { rz_tiles_configure_(shapes); }
void rz_emulated_release(void) { rz_tiles_release_(); }
void rz_emulated_clear(int tile) { rz_tile_clear_(tile); }
void rz_emulated_load(int tile, const void *from, int64_t stride) { rz_tile_load_(tile, from, stride); }
void rz_emulated_store(int tile, void *to, int64_t stride) { rz_tile_store_(tile, to, stride); }
void rz_emulated_multiply(int c, int a, int b) { rz_tiles_multiply_(c, a, b); }
