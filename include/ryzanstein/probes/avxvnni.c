/* A compiler that accepts this file (GCC >= 11, Clang >= 12) can build the avxvnni tier. */
#include <immintrin.h>
#include "ryzanstein/target.h"
RZ_TARGET_BEGIN(RZ_ISA_AVXVNNI)
__m256i rz_probe(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
RZ_TARGET_END
int main(void) { return 0; }
