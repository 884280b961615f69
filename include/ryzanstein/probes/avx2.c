/* A compiler that accepts this file can build the avx2 tier. */
#include <immintrin.h>
#include "ryzanstein/target.h"
RZ_TARGET_BEGIN(RZ_ISA_AVX2)
__m256 rz_probe(__m256i a, __m256i b, __m128i half) {
    return _mm256_add_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), a)),
                         _mm256_cvtph_ps(half));
}
RZ_TARGET_END
int main(void) { return 0; }
