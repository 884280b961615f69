/* Ternary product with vpmaddubsw on ymm: AVX2 without VNNI.
 *
 *   vpmaddubsw  i16 = u8*i8 + u8*i8, saturating
 *   vpmaddwd    i32 = i16*1 + i16*1, to widen
 *
 * Head-room: a pair of products of unshifted codes (<= 2) is at most 2*2*128 = 512, of
 * codes one bit pair up (<= 8) 2048. int16 holds 63 of the former, 15 of the latter.
 * One token: pairs 0 and 2 share one int16 accumulator, pairs 1 and 3 another (after
 * one shift by four bits); widened every 4 tiles: 8*512 = 4096 and 8*2048 = 16384.
 * Many tokens: opened codes, widened every 32 steps: 32*512 = 16384.
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#include "ryzanstein/ternary/epilogue.h"

#define RZ_TOKENS_ 4
#define RZ_STEPS_ (RZ_PANEL_COLUMNS / 4)
#define RZ_TILES_BEFORE_WIDENING_ 4
#define RZ_STEPS_BEFORE_WIDENING_ 32

RZ_INLINE __m256i rz_four_(const int8_t *values) {
    int32_t word;
    memcpy(&word, values, 4);
    return _mm256_set1_epi32(word);
}
RZ_INLINE __m256i rz_half_(const uint8_t *from) { return _mm256_load_si256((const __m256i *)from); }
RZ_INLINE __m256i rz_some_(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
RZ_INLINE __m256i rz_add_products_(__m256i sum_i16, __m256i codes, __m256i four) {
    const __m256i products = _mm256_maddubs_epi16(codes, four);
#if defined(__GNUC__) && !defined(__clang__)
    /* GCC 12 keeps two copies of an intrinsic's accumulator in loops, and spills */
    __asm__("vpaddw %1, %0, %0" : "+x"(sum_i16) : "x"(products));
    return sum_i16;
#else
    return _mm256_add_epi16(sum_i16, products);
#endif
}
/* The multiply-add of 32 byte pairs that limits/ times. */
#define rz_dot_step_(sum, a, b) rz_add_products_(sum, a, b)
RZ_INLINE __m256i rz_add_widened_(__m256i sum_i32, __m256i sum_i16) {
    return _mm256_add_epi32(sum_i32, _mm256_madd_epi16(sum_i16, _mm256_set1_epi16(1)));
}

/* Bit pairs 2 and 3 are shifted down: 16-bit sums have no room for codes times 16 or 64. Then two
 * pairs of products are at most 2 * 2048. */
#define RZ_PLANE_SHIFT_(p) (2 * ((p) % 2))
RZ_INLINE __m256i rz_plane_(__m256i codes, int p) {
    return _mm256_and_si256(p < 2 ? codes : _mm256_srli_epi16(codes, 4), _mm256_set1_epi8(p % 2 ? 0x0c : 0x03));
}
RZ_INLINE __m256i rz_dot_two_(__m256i sums, __m256i a, __m256i x, __m256i b, __m256i y) {
    return rz_add_widened_(sums, _mm256_add_epi16(_mm256_maddubs_epi16(a, x), _mm256_maddubs_epi16(b, y)));
}

static void rz_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                       rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->column_tiles * RZ_TILE_BYTES;
    const __m256i mask = _mm256_set1_epi8(0x03), mask_up = _mm256_set1_epi8(0x0c);
    __m256i sums[2], sums_up[2]; /* by half of the tile; _up: four times too large */
    RZ_UNROLL
    for (int half = 0; half < 2; half++) sums[half] = sums_up[half] = _mm256_setzero_si256();
    for (int64_t c = 0; c < w->column_tiles;) {
        const int64_t end = c + RZ_TILES_BEFORE_WIDENING_ < w->column_tiles
                                ? c + RZ_TILES_BEFORE_WIDENING_ : w->column_tiles;
        __m256i words[2], words_up[2];
        RZ_UNROLL
        for (int half = 0; half < 2; half++) words[half] = words_up[half] = _mm256_setzero_si256();
        for (; c < end; c++) {
            const int8_t *values = x->codes + 16 * c;
            RZ_PREFETCH(weights + 64 * c, RZ_PREFETCH_BYTES);
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                const __m256i codes = rz_half_(weights + 64 * c + 32 * half);
                const __m256i shifted = _mm256_srli_epi16(codes, 4);
                words[half] = rz_add_products_(words[half], _mm256_and_si256(codes, mask), rz_four_(values));
                words_up[half] = rz_add_products_(words_up[half], _mm256_and_si256(codes, mask_up), rz_four_(values + 4));
                words[half] = rz_add_products_(words[half], _mm256_and_si256(shifted, mask), rz_four_(values + 8));
                words_up[half] = rz_add_products_(words_up[half], _mm256_and_si256(shifted, mask_up), rz_four_(values + 12));
            }
        }
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            sums[half] = rz_add_widened_(sums[half], words[half]);
            sums_up[half] = rz_add_widened_(sums_up[half], words_up[half]);
        }
    }
    RZ_ALIGNED(32) int32_t rows[16];
    RZ_UNROLL
    for (int half = 0; half < 2; half++)
        _mm256_store_si256((__m256i *)rows + half,
                           _mm256_sub_epi32(_mm256_add_epi32(sums[half], _mm256_srai_epi32(sums_up[half], 2)),
                                            _mm256_set1_epi32(x->sums[0])));
    rz_store_rows_(rows, rz_scale_(w, x, 0), out + 16 * tile, w->rows - 16 * tile, store);
}

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
    for (int64_t step = 0; step < steps;) {
        const int64_t end = step + RZ_STEPS_BEFORE_WIDENING_ < steps ? step + RZ_STEPS_BEFORE_WIDENING_ : steps;
        __m256i words[RZ_TOKENS_][2];
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) words[t][0] = words[t][1] = _mm256_setzero_si256();
        for (; step < end; step++) {
            const __m256i low = rz_half_(panel + 64 * step), high = rz_half_(panel + 64 * step + 32);
            RZ_UNROLL
            for (int t = 0; t < tokens; t++) {
                const __m256i four = rz_four_(values + t * stride + 4 * step);
                words[t][0] = rz_add_products_(words[t][0], low, four);
                words[t][1] = rz_add_products_(words[t][1], high, four);
            }
        }
        RZ_UNROLL
        for (int t = 0; t < tokens; t++)
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                __m256i *to = memory + 2 * t + half;
                _mm256_store_si256(to, rz_add_widened_(_mm256_load_si256(to), words[t][half]));
            }
    }
}

/* Sums of code*x over a group of `wide` columns, a constant, for both halves of a tile. Sums of 16 bits hold
 * 64 columns: two bit pairs are at most 8 * 512 and 8 * 2048. */
RZ_INLINE void rz_group_codes_sums_(const uint8_t *weights, int wide, const int8_t *values, __m256i *totals) {
    __m256i sums[2], sums_up[2];
    RZ_UNROLL
    for (int half = 0; half < 2; half++) sums[half] = sums_up[half] = _mm256_setzero_si256();
    for (int first = 0; first < wide / RZ_TILE_COLUMNS; first += RZ_TILES_BEFORE_WIDENING_) {
        __m256i words[2], words_up[2];
        RZ_UNROLL
        for (int half = 0; half < 2; half++) words[half] = words_up[half] = _mm256_setzero_si256();
        for (int c = first; c < first + RZ_TILES_BEFORE_WIDENING_; c++) {
            const int8_t *four = values + 16 * c;
            RZ_PREFETCH(weights + 64 * c, RZ_PREFETCH_BYTES);
            RZ_UNROLL
            for (int half = 0; half < 2; half++) {
                const __m256i codes = rz_half_(weights + 64 * c + 32 * half);
                words[half] = rz_add_products_(words[half], rz_plane_(codes, 0), rz_four_(four));
                words_up[half] = rz_add_products_(words_up[half], rz_plane_(codes, 1), rz_four_(four + 4));
                words[half] = rz_add_products_(words[half], rz_plane_(codes, 2), rz_four_(four + 8));
                words_up[half] = rz_add_products_(words_up[half], rz_plane_(codes, 3), rz_four_(four + 12));
            }
        }
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            sums[half] = rz_add_widened_(sums[half], words[half]);
            sums_up[half] = rz_add_widened_(sums_up[half], words_up[half]);
        }
    }
    RZ_UNROLL
    for (int half = 0; half < 2; half++) totals[half] = _mm256_add_epi32(sums[half], _mm256_srai_epi32(sums_up[half], 2));
}

/* The same from opened codes, for `tokens` tokens: at most 32 steps, so that 16 bits hold the sums. */
RZ_INLINE void rz_group_panel_sums_(const uint8_t *panel, int steps, const int8_t *values, int64_t stride, int tokens,
                                    __m256i (*totals)[2]) {
    __m256i words[RZ_TOKENS_][2];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++) words[t][0] = words[t][1] = _mm256_setzero_si256();
    for (int step = 0; step < steps; step++) {
        const __m256i low = rz_half_(panel + 64 * step), high = rz_half_(panel + 64 * step + 32);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256i four = rz_four_(values + t * stride + 4 * step);
            words[t][0] = rz_add_products_(words[t][0], low, four);
            words[t][1] = rz_add_products_(words[t][1], high, four);
        }
    }
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int half = 0; half < 2; half++) totals[t][half] = rz_add_widened_(_mm256_setzero_si256(), words[t][half]);
}

#include "ryzanstein/ternary/trits_avx2.h"

#include "ryzanstein/ternary/panel_ymm.h"

#define RZ_WHOLE_LAYOUT_ RZ_LAYOUT_TABLES

#include "ryzanstein/ternary/groups_ymm.h"

#endif
