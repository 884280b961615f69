/* A compiler that accepts this file can build the avx512vnni tier. */
#include <immintrin.h>
#include "ryzanstein/target.h"
RZ_TARGET_BEGIN(RZ_ISA_AVX512VNNI)
__m512i rz_probe(__m512i sum, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sum, a, b); }
RZ_TARGET_END
int main(void) { return 0; }
