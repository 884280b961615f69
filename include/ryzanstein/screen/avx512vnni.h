/* Head screen with vpdpbusd on zmm. With few tokens, memory sets the pace: 192 bytes are read for 4
 * products a token and 9 operations that unpack codes. With more, four tiles and six tokens share each
 * load: 10 loads for 24 products, with 24 sums in registers. */
#ifndef RZ_SCREEN_H
#define RZ_SCREEN_H

#include "ryzanstein/screen/group.h"

#define RZ_SCREEN_FEW_ 4
#define RZ_SCREEN_TOKENS_ 6
#define RZ_SCREEN_TILES_ 4

/* Unpacks three lines to four lines of 64 codes of one byte. */
RZ_INLINE void rz_screen_codes_(const uint8_t *from, __m512i *codes) {
    const __m512i low_six_bits = _mm512_set1_epi8(0x3f);
    RZ_UNROLL
    for (int i = 0; i < 3; i++) RZ_PREFETCH(from + 64 * i, RZ_SCREEN_PREFETCH_BYTES_);
    /* not an array: GCC 12 would leave it in memory */
    const __m512i a = _mm512_load_si512(from), b = _mm512_load_si512(from + 64), c = _mm512_load_si512(from + 128);
    codes[0] = _mm512_and_si512(a, low_six_bits);
    codes[1] = _mm512_and_si512(b, low_six_bits);
    codes[2] = _mm512_and_si512(c, low_six_bits);
    /* Shifts work on words of 16 bits, and the selection drops the bits from the other byte. 0xca is x ? y : z. */
    const __m512i four_bits = _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x03), _mm512_srli_epi16(a, 6),
                                                  _mm512_srli_epi16(b, 4), 0xca);
    const __m512i all_bits = _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x0f), four_bits, _mm512_srli_epi16(c, 2), 0xca);
    codes[3] = _mm512_and_si512(all_bits, low_six_bits);
}

/* Unpacks one group of 16 rows to bytes: 16 lines of four columns, `stride` bytes apart. */
RZ_INLINE void rz_screen_unpack_(const uint8_t *from, uint8_t *to, int64_t stride) {
    RZ_UNROLL
    for (int quarter = 0; quarter < 4; quarter++) {
        __m512i codes[4];
        rz_screen_codes_(from + 192 * quarter, codes);
        RZ_UNROLL
        for (int line = 0; line < 4; line++) _mm512_store_si512(to + (4 * quarter + line) * stride, codes[line]);
    }
}

/* The sums of one token. Each token has its own array; see RZ_EACH_TOKEN_. */
typedef struct {
    __m512i tile[RZ_SCREEN_TILES_];
} rz_screen_sums_;

RZ_INLINE void rz_screen_begin_(rz_screen_sums_ *sums, int32_t offset) {
    RZ_UNROLL
    for (int i = 0; i < RZ_SCREEN_TILES_; i++) sums->tile[i] = _mm512_set1_epi32(offset);
}
RZ_INLINE void rz_screen_add_(rz_screen_sums_ *sums, const __m512i *codes, const int8_t *values) {
    const __m512i activations = rz_four_(values);
    RZ_UNROLL
    for (int i = 0; i < RZ_SCREEN_TILES_; i++) sums->tile[i] = rz_dot_(sums->tile[i], codes[i], activations);
}
RZ_INLINE void rz_screen_end_(const rz_screen_sums_ *sums, const float *scales, const rz_screen_group_ *x,
                              int t, float *totals) {
    RZ_UNROLL
    for (int i = 0; i < RZ_SCREEN_TILES_; i++)
        rz_screen_add_group_(totals + RZ_SCREEN_ROWS * t + 16 * i, _mm512_cvtepi32_ps(sums->tile[i]), rz_load(scales + 16 * i), x, t);
}
#define RZ_BEGIN_(t) rz_screen_begin_(&sums_##t, x->offsets[t * x->groups]);
#define RZ_ADD_TO_(t) rz_screen_add_(&sums_##t, codes, x->codes + RZ_SCREEN_GROUP * t * x->groups + 4 * line);
#define RZ_END_(t) rz_screen_end_(&sums_##t, scales, x, t, totals);

/* panel: (16 lines, 4 tiles, 64); scales: (4, 16); totals: (tokens, 4, 16) */
RZ_INLINE void rz_screen_many_(const uint8_t *panel, const float *scales, const rz_screen_group_ *x, int tokens,
                               float *totals) {
    rz_screen_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5;
    RZ_EACH_TOKEN_(tokens, RZ_BEGIN_)
    for (int line = 0; line < 16; line++) {
        __m512i codes[RZ_SCREEN_TILES_];
        RZ_UNROLL
        for (int i = 0; i < RZ_SCREEN_TILES_; i++) codes[i] = _mm512_load_si512(panel + 64 * (line * RZ_SCREEN_TILES_ + i));
        RZ_EACH_TOKEN_(tokens, RZ_ADD_TO_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_END_)
}
#undef RZ_BEGIN_
#undef RZ_ADD_TO_
#undef RZ_END_

/* The same for one packed tile. Even and odd lines have separate sums, so that the chains of additions are
 * short. */
RZ_INLINE void rz_screen_few_(const uint8_t *from, rz_f32x16 scales, const rz_screen_group_ *x, int tokens,
                              float *totals) {
    __m512i even[RZ_SCREEN_FEW_], odd[RZ_SCREEN_FEW_];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) {
        even[t] = _mm512_set1_epi32(x->offsets[t * x->groups]);
        odd[t] = _mm512_setzero_si512();
    }
    RZ_UNROLL
    for (int quarter = 0; quarter < 4; quarter++) {
        __m512i codes[4];
        rz_screen_codes_(from + 192 * quarter, codes);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const int8_t *values = x->codes + RZ_SCREEN_GROUP * t * x->groups + 16 * quarter;
            even[t] = rz_dot_(even[t], codes[0], rz_four_(values));
            odd[t] = rz_dot_(odd[t], codes[1], rz_four_(values + 4));
            even[t] = rz_dot_(even[t], codes[2], rz_four_(values + 8));
            odd[t] = rz_dot_(odd[t], codes[3], rz_four_(values + 12));
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        rz_screen_add_group_(totals + RZ_SCREEN_ROWS * t, _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t])), scales, x, t);
}

#endif
