/* A compiler and an assembler that accept this file (binutils >= 2.34, GCC >= 11, Clang >= 12; Linux) can build
 * the amx tier. */
#include <immintrin.h>
#include "ryzanstein/target.h"
#ifndef __linux__
#error "only Linux is asked for the permission to use tile registers (amx/permission.h)"
#endif
#include "ryzanstein/amx/permission.h"
#include "ryzanstein/amx/tiles.h"
RZ_TARGET_BEGIN(RZ_ISA_AMX)
__m512i rz_probe(__m512i sum, __m512i a, __m512i b, const rz_tile_shapes *shapes, int8_t *tokens) {
    rz_tiles_configure_(shapes);
    rz_tile_clear_(0);
    rz_tile_load_(4, tokens, 64);
    rz_tile_load_(6, tokens, 64);
    rz_tiles_multiply_(0, 4, 6);
    rz_tile_store_(0, tokens, 64);
    rz_tiles_release_();
    return _mm512_dpbusd_epi32(sum, a, b);
}
RZ_TARGET_END
int main(void) { return rz_request_tile_data() + (int)rz_least_signal_stack(); }
