/* Sixteen float lanes in one zmm register. portable.h says what each function does. */
#ifndef RZ_SIMD_H
#define RZ_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/target.h"

#define RZ_TILE_QUERIES 4
#define RZ_TILE_VECTORS 4

typedef __m512 rz_f32x16;

RZ_INLINE rz_f32x16 rz_add(rz_f32x16 a, rz_f32x16 b) { return _mm512_add_ps(a, b); }
RZ_INLINE rz_f32x16 rz_sub(rz_f32x16 a, rz_f32x16 b) { return _mm512_sub_ps(a, b); }
RZ_INLINE rz_f32x16 rz_mul(rz_f32x16 a, rz_f32x16 b) { return _mm512_mul_ps(a, b); }
RZ_INLINE rz_f32x16 rz_div(rz_f32x16 a, rz_f32x16 b) { return _mm512_div_ps(a, b); }
RZ_INLINE rz_f32x16 rz_max(rz_f32x16 a, rz_f32x16 b) { return _mm512_max_ps(a, b); }
RZ_INLINE rz_f32x16 rz_min(rz_f32x16 a, rz_f32x16 b) { return _mm512_min_ps(a, b); }
RZ_INLINE rz_f32x16 rz_abs(rz_f32x16 a) { return _mm512_abs_ps(a); }
RZ_INLINE rz_f32x16 rz_set1(float value) { return _mm512_set1_ps(value); }
RZ_INLINE rz_f32x16 rz_load(const float *from) { return _mm512_loadu_ps(from); }
RZ_INLINE void rz_store(float *to, rz_f32x16 a) { _mm512_storeu_ps(to, a); }

RZ_INLINE rz_f32x16 rz_select_less(rz_f32x16 a, rz_f32x16 b, rz_f32x16 x, rz_f32x16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
RZ_INLINE rz_f32x16 rz_keep_first(rz_f32x16 a, int64_t n, rz_f32x16 fill) {
    const __mmask16 mask = n <= 0 ? 0 : (n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1));
    return _mm512_mask_blend_ps(mask, fill, a);
}
RZ_INLINE rz_f32x16 rz_exp2_integer(rz_f32x16 n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

RZ_INLINE rz_f32x16 rz_load_bf16(const uint16_t *from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
RZ_INLINE rz_f32x16 rz_load_f16(const uint16_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
RZ_INLINE rz_f32x16 rz_load_i8(const int8_t *from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
RZ_INLINE rz_f32x16 rz_load_i32(const int32_t *from) {
    return _mm512_cvtepi32_ps(_mm512_loadu_si512(from));
}
RZ_INLINE void rz_store_i8(int8_t *to, rz_f32x16 a) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}
RZ_INLINE void rz_store_i16(int16_t *to, rz_f32x16 a) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a)));
}

RZ_INLINE __m256 rz_high_half_(__m512 a) { return _mm512_extractf32x8_ps(a, 1); }
RZ_INLINE float rz_sum(rz_f32x16 a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), rz_high_half_(a));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
RZ_INLINE float rz_maximum(rz_f32x16 a) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), rz_high_half_(a));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
RZ_INLINE float rz_sqrt_one(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

#endif
