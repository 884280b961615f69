/* Sixteen float lanes in two ymm registers. portable.h says what each function does. */
#ifndef RZ_SIMD_H
#define RZ_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "ryzanstein/target.h"

#define RZ_TILE_QUERIES 2
#define RZ_TILE_VECTORS 2

typedef struct {
    __m256 low, high;
} rz_f32x16;

RZ_INLINE rz_f32x16 rz_pair_(__m256 low, __m256 high) {
    const rz_f32x16 a = {low, high};
    return a;
}
#define RZ_EACH_HALF_(name, intrinsic) \
    RZ_INLINE rz_f32x16 name(rz_f32x16 a, rz_f32x16 b) { \
        return rz_pair_(intrinsic(a.low, b.low), intrinsic(a.high, b.high)); \
    }
RZ_EACH_HALF_(rz_add, _mm256_add_ps)
RZ_EACH_HALF_(rz_sub, _mm256_sub_ps)
RZ_EACH_HALF_(rz_mul, _mm256_mul_ps)
RZ_EACH_HALF_(rz_div, _mm256_div_ps)
RZ_EACH_HALF_(rz_max, _mm256_max_ps)
RZ_EACH_HALF_(rz_min, _mm256_min_ps)

RZ_INLINE rz_f32x16 rz_set1(float value) {
    const __m256 a = _mm256_set1_ps(value);
    return rz_pair_(a, a);
}
RZ_INLINE rz_f32x16 rz_load(const float *from) {
    return rz_pair_(_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8));
}
RZ_INLINE void rz_store(float *to, rz_f32x16 a) {
    _mm256_storeu_ps(to, a.low);
    _mm256_storeu_ps(to + 8, a.high);
}
RZ_INLINE rz_f32x16 rz_abs(rz_f32x16 a) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return rz_pair_(_mm256_and_ps(a.low, mask), _mm256_and_ps(a.high, mask));
}
RZ_INLINE rz_f32x16 rz_select_less(rz_f32x16 a, rz_f32x16 b, rz_f32x16 x, rz_f32x16 y) {
    return rz_pair_(_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
                    _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)));
}
RZ_INLINE rz_f32x16 rz_keep_first(rz_f32x16 a, int64_t n, rz_f32x16 fill) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i count = _mm256_set1_epi32(n < 0 ? 0 : (n > 16 ? 16 : (int)n));
    const __m256i low = _mm256_cmpgt_epi32(count, lanes);
    const __m256i high = _mm256_cmpgt_epi32(count, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));
    return rz_pair_(_mm256_blendv_ps(fill.low, a.low, _mm256_castsi256_ps(low)),
                    _mm256_blendv_ps(fill.high, a.high, _mm256_castsi256_ps(high)));
}
RZ_INLINE __m256 rz_exp2_integer_(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
RZ_INLINE rz_f32x16 rz_exp2_integer(rz_f32x16 n) {
    return rz_pair_(rz_exp2_integer_(n.low), rz_exp2_integer_(n.high));
}

RZ_INLINE __m256 rz_bf16_to_f32_(const uint16_t *from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
RZ_INLINE rz_f32x16 rz_load_bf16(const uint16_t *from) {
    return rz_pair_(rz_bf16_to_f32_(from), rz_bf16_to_f32_(from + 8));
}
RZ_INLINE rz_f32x16 rz_load_f16(const uint16_t *from) {
    return rz_pair_(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 8))));
}
RZ_INLINE rz_f32x16 rz_load_i8(const int8_t *from) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    return rz_pair_(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))));
}
RZ_INLINE rz_f32x16 rz_load_i32(const int32_t *from) {
    return rz_pair_(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)from)),
                    _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(from + 8))));
}
RZ_INLINE __m256i rz_to_i16_(rz_f32x16 a) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high));
    /* `packs` works within 128-bit halves, so the quadwords are put back in order */
    return _mm256_permute4x64_epi64(words, 0xd8);
}
RZ_INLINE void rz_store_i16(int16_t *to, rz_f32x16 a) { _mm256_storeu_si256((__m256i *)to, rz_to_i16_(a)); }
RZ_INLINE void rz_store_i8(int8_t *to, rz_f32x16 a) {
    const __m256i ordered = rz_to_i16_(a);
    _mm_storeu_si128((__m128i *)to, _mm_packs_epi16(_mm256_castsi256_si128(ordered),
                                                    _mm256_extracti128_si256(ordered, 1)));
}

RZ_INLINE float rz_sum(rz_f32x16 a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
RZ_INLINE float rz_maximum(rz_f32x16 a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
RZ_INLINE float rz_sqrt_one(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

#endif
