/* Integer sums for attention with vpdpbusd on ymm: two queries and one panel are 8 of 16 registers. */
#ifndef RZ_ATTENTION_VECTORS_H
#define RZ_ATTENTION_VECTORS_H

#define RZ_VECTOR_LANES_ 8
#define RZ_TILE_MANY_ 2

typedef __m256i rz_vector_;

RZ_INLINE rz_vector_ rz_vector_zero_(void) { return _mm256_setzero_si256(); }
RZ_INLINE rz_vector_ rz_vector_load_(const uint8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
RZ_INLINE rz_vector_ rz_vector_four_(const int8_t *from) { return rz_four_(from); }
RZ_INLINE void rz_vector_store_sums_(int32_t *to, rz_vector_ high, rz_vector_ low) {
    _mm256_storeu_si256((__m256i *)to, _mm256_add_epi32(_mm256_slli_epi32(high, 7), low));
}

#include "ryzanstein/attention/planes.h"

#endif
