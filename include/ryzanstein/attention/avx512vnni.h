/* Integer sums for attention with vpdpbusd on zmm: four queries and two panels are 16 registers of sums. */
#ifndef RZ_ATTENTION_VECTORS_H
#define RZ_ATTENTION_VECTORS_H

#define RZ_VECTOR_LANES_ 16
#define RZ_TILE_MANY_ 4

typedef __m512i rz_vector_;

RZ_INLINE rz_vector_ rz_vector_zero_(void) { return _mm512_setzero_si512(); }
RZ_INLINE rz_vector_ rz_vector_load_(const uint8_t *from) { return _mm512_loadu_si512(from); }
RZ_INLINE rz_vector_ rz_vector_four_(const int8_t *from) { return rz_four_(from); }
RZ_INLINE void rz_vector_store_sums_(int32_t *to, rz_vector_ high, rz_vector_ low) {
    _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_slli_epi32(high, 7), low));
}

#include "ryzanstein/attention/planes.h"

#endif
