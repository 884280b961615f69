/* Ternary product with the VEX form of vpdpbusd on ymm (Intel Alder Lake and later,
 * AMD Zen 5): the algorithm of avx512vnni.h with a tile in two registers.
 *
 * Many tokens: 16 rows x 512 columns opened to bytes (8 KiB) by 6 tokens: 12
 * accumulators, 2 of weights and 1 of activations leave one of sixteen free.
 * The intrinsic is spelled _avx_: the plain name may come out EVEX.
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#include "ryzanstein/ternary/epilogue.h"

#define RZ_TOKENS_ 6
#define RZ_STEPS_ (RZ_PANEL_COLUMNS / 4)

RZ_INLINE __m256i rz_four_(const int8_t *values) {
    int32_t word;
    memcpy(&word, values, 4);
    return _mm256_set1_epi32(word);
}
RZ_INLINE __m256i rz_half_(const uint8_t *from) { return _mm256_load_si256((const __m256i *)from); }
RZ_INLINE __m256i rz_some_(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

RZ_INLINE __m256i rz_dot_(__m256i sum, __m256i codes, __m256i values) {
#if defined(__GNUC__) && !defined(__clang__)
    /* GCC 12 copies the destination of the intrinsic to and fro in loops, and spills */
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(values));
    return sum;
#else
    return _mm256_dpbusd_avx_epi32(sum, codes, values);
#endif
}

/* The multiply-add of 32 byte pairs that limits/ times. */
#define rz_dot_step_(sum, a, b) rz_dot_(sum, a, b)

#define RZ_PLANE_SHIFT_(p) (2 * (p))
RZ_INLINE __m256i rz_plane_(__m256i codes, int p) {
    return _mm256_and_si256(codes, _mm256_set1_epi8((char)(3 << 2 * p)));
}
RZ_INLINE __m256i rz_dot_two_(__m256i sums, __m256i a, __m256i x, __m256i b, __m256i y) {
    return rz_dot_(rz_dot_(sums, a, x), b, y);
}

static void rz_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                       rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->column_tiles * RZ_TILE_BYTES;
    const __m256i masks[4] = {_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c),
                              _mm256_set1_epi8(0x30), _mm256_set1_epi8((char)0xc0)};
    __m256i sums[2][4];
    RZ_UNROLL
    for (int half = 0; half < 2; half++)
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) sums[half][pair] = _mm256_setzero_si256();
    for (int64_t c = 0; c < w->column_tiles; c++) {
        RZ_PREFETCH(weights + 64 * c, RZ_PREFETCH_BYTES);
        const __m256i low = rz_half_(weights + 64 * c), high = rz_half_(weights + 64 * c + 32);
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) {
            const __m256i four = rz_four_(x->codes + 16 * c + 4 * pair);
            sums[0][pair] = rz_dot_(sums[0][pair], _mm256_and_si256(low, masks[pair]), four);
            sums[1][pair] = rz_dot_(sums[1][pair], _mm256_and_si256(high, masks[pair]), four);
        }
    }
    RZ_ALIGNED(32) int32_t rows[16];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) {
        const __m256i a = _mm256_add_epi32(sums[half][0], _mm256_srai_epi32(sums[half][1], 2));
        const __m256i b = _mm256_add_epi32(_mm256_srai_epi32(sums[half][2], 4),
                                           _mm256_srai_epi32(sums[half][3], 6));
        _mm256_store_si256((__m256i *)rows + half,
                           _mm256_sub_epi32(_mm256_add_epi32(a, b), _mm256_set1_epi32(x->sums[0])));
    }
    rz_store_rows_(rows, rz_scale_(w, x, 0), out + 16 * tile, w->rows - 16 * tile, store);
}

/* panel: (steps, 64) bytes of codes of one row tile. */
static void rz_open_panel_(const uint8_t *tiles, int64_t count, uint8_t *panel) {
    const __m256i mask = _mm256_set1_epi8(0x03);
    for (int64_t j = 0; j < count; j++)
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            const __m256i codes = rz_half_(tiles + 64 * j + 32 * half);
            __m256i *to = (__m256i *)(panel + 256 * j + 32 * half);
            _mm256_store_si256(to, _mm256_and_si256(codes, mask));
            _mm256_store_si256(to + 2, _mm256_and_si256(_mm256_srli_epi16(codes, 2), mask));
            _mm256_store_si256(to + 4, _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask));
            _mm256_store_si256(to + 6, _mm256_and_si256(_mm256_srli_epi16(codes, 6), mask));
        }
}

RZ_INLINE void rz_panel_tile_(const uint8_t *panel, int64_t steps, const int8_t *values,
                              int64_t stride, int tokens, int32_t *sums) {
    __m256i *memory = (__m256i *)sums;
    __m256i totals[RZ_TOKENS_][2];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int half = 0; half < 2; half++) totals[t][half] = _mm256_load_si256(memory + 2 * t + half);
    for (int64_t step = 0; step < steps; step++) {
        const __m256i low = rz_half_(panel + 64 * step), high = rz_half_(panel + 64 * step + 32);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256i four = rz_four_(values + t * stride + 4 * step);
            totals[t][0] = rz_dot_(totals[t][0], low, four);
            totals[t][1] = rz_dot_(totals[t][1], high, four);
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int half = 0; half < 2; half++) _mm256_store_si256(memory + 2 * t + half, totals[t][half]);
}

/* Sums of code*x over a group of `wide` columns, a constant, for both halves of a tile. */
RZ_INLINE void rz_group_codes_sums_(const uint8_t *weights, int wide, const int8_t *values, __m256i *totals) {
    __m256i sums[2][4];
    RZ_UNROLL
    for (int half = 0; half < 2; half++)
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) sums[half][pair] = _mm256_setzero_si256();
    for (int c = 0; c < wide / RZ_TILE_COLUMNS; c++) {
        RZ_PREFETCH(weights + 64 * c, RZ_PREFETCH_BYTES);
        const __m256i low = rz_half_(weights + 64 * c), high = rz_half_(weights + 64 * c + 32);
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) {
            const __m256i four = rz_four_(values + 16 * c + 4 * pair);
            sums[0][pair] = rz_dot_(sums[0][pair], rz_plane_(low, pair), four);
            sums[1][pair] = rz_dot_(sums[1][pair], rz_plane_(high, pair), four);
        }
    }
    RZ_UNROLL
    for (int half = 0; half < 2; half++)
        totals[half] = _mm256_add_epi32(_mm256_add_epi32(sums[half][0], _mm256_srai_epi32(sums[half][1], 2)),
                                        _mm256_add_epi32(_mm256_srai_epi32(sums[half][2], 4), _mm256_srai_epi32(sums[half][3], 6)));
}

/* The same from opened codes, for `tokens` tokens. */
RZ_INLINE void rz_group_panel_sums_(const uint8_t *panel, int steps, const int8_t *values, int64_t stride, int tokens,
                                    __m256i (*totals)[2]) {
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) totals[t][0] = totals[t][1] = _mm256_setzero_si256();
    for (int step = 0; step < steps; step++) {
        const __m256i low = rz_half_(panel + 64 * step), high = rz_half_(panel + 64 * step + 32);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256i four = rz_four_(values + t * stride + 4 * step);
            totals[t][0] = rz_dot_(totals[t][0], low, four);
            totals[t][1] = rz_dot_(totals[t][1], high, four);
        }
    }
}

#include "ryzanstein/ternary/trits_avxvnni.h"

#include "ryzanstein/ternary/panel_ymm.h"

#define RZ_WHOLE_LAYOUT_ RZ_LAYOUT_TILES

#include "ryzanstein/ternary/groups_ymm.h"

#endif
