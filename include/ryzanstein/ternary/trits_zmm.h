/* The trits layout with vpdpbusd on zmm.
 *
 * One token: no digit is taken out. Let q be a byte and q' = 3*q mod 256 what remains of it after its
 * first digit d. Then 256*d = 3*q - q', and the sum of d*x over all columns is
 *
 *   (3 * sum q*x - sum q'*x) / 256
 *
 * with both sums from whole bytes: two additions and two products for 64 weights, no masks or shifts.
 *
 * Several tokens: each digit plus 1 is left in the two upper bits, 64 times too large, and used for
 * all of them. An opened panel costs as much as some dozens of tokens.
 *
 * Head-room: vpdpbusd wraps around, so only the difference has to fit: 256*2*128*columns is less than
 * 2^31 for 1,638 tiles (32,760 columns), after which it is divided. Digits plus 1 times 64 reach
 * 64*3*128*columns, which int32 holds for 4,096 tiles (81,920 columns); longer rows are opened.
 */
#include "ryzanstein/ternary/trits.h"

#define RZ_TRITS_BEFORE_SHIFT_ 1638
/* Measured on Zen 5, one thread: 4 KiB ahead 34 GB/s, 12 KiB 36. */
#define RZ_TRITS_PREFETCH_BYTES_ 12288

RZ_INLINE __m512i rz_next_trits_(__m512i bytes) { return _mm512_add_epi8(bytes, _mm512_add_epi8(bytes, bytes)); }

/* A zero of its own: sums that begin as one and the same GCC 12 copies to and fro in the loop. */
RZ_INLINE __m512i rz_own_zero_(void) {
    __m512i zero = _mm512_setzero_si512();
#if defined(__GNUC__) && !defined(__clang__)
    __asm__("" : "+v"(zero));
#endif
    return zero;
}

/* 256 * sum d*x of `tiles` <= RZ_TRITS_BEFORE_SHIFT_ tiles. */
RZ_APART __m512i rz_trits_carried_(const uint8_t *weights, const int8_t *values, int64_t tiles) {
    __m512i before[RZ_TRITS], after[RZ_TRITS]; /* five each, for the latency of vpdpbusd */
    RZ_UNROLL
    for (int k = 0; k < RZ_TRITS; k++) before[k] = rz_own_zero_(), after[k] = rz_own_zero_();
    const uint8_t *const end = weights + tiles * RZ_TILE_BYTES;
    do {
        RZ_PREFETCH(weights, RZ_TRITS_PREFETCH_BYTES_);
        __m512i bytes = _mm512_load_si512(weights);
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++) {
            const __m512i four = rz_four_(values + 4 * k);
            before[k] = rz_dot_(before[k], bytes, four);
            bytes = rz_next_trits_(bytes);
            after[k] = rz_dot_(after[k], bytes, four);
        }
        weights += RZ_TILE_BYTES;
        values += RZ_TRITS_COLUMNS;
    } while (weights < end);
    __m512i carried = _mm512_setzero_si512();
    RZ_UNROLL
    for (int k = 0; k < RZ_TRITS; k++)
        carried = _mm512_add_epi32(carried, _mm512_sub_epi32(_mm512_add_epi32(before[k], _mm512_add_epi32(before[k], before[k])), after[k]));
    return carried;
}

static void rz_trits_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                             rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->run_lines * RZ_TILE_BYTES;
    __m512i sums = _mm512_set1_epi32(-x->sums[0]);
    for (int64_t c = 0; c < w->run_lines; c += RZ_TRITS_BEFORE_SHIFT_) {
        const int64_t left = w->run_lines - c, tiles = left < RZ_TRITS_BEFORE_SHIFT_ ? left : RZ_TRITS_BEFORE_SHIFT_;
        const __m512i carried = rz_trits_carried_(weights + c * RZ_TILE_BYTES, x->codes + c * RZ_TRITS_COLUMNS, tiles);
        sums = _mm512_add_epi32(sums, _mm512_srai_epi32(carried, 8));
    }
    RZ_ALIGNED(64) int32_t rows[16];
    _mm512_store_si512(rows, sums);
    rz_store_rows_(rows, rz_scale_(w, x, 0), out + 16 * tile, w->rows - 16 * tile, store);
}

/* The first digit of each byte plus 1, in the two upper bits; what is below is no use. The average
 * with 253 and the average with that are (3*byte + 256) / 4, rounded so that every byte is right. */
RZ_INLINE __m512i rz_first_trits_(__m512i bytes) {
    return _mm512_avg_epu8(bytes, _mm512_avg_epu8(bytes, _mm512_set1_epi8((char)253)));
}

#define RZ_DIRECT_TRITS_ 96
#define RZ_DIRECT_TRITS_LINES_ 4096

/* Sums of one token, several for the latency of vpdpbusd; of few tokens more. */
#define RZ_TRIT_PARTS_(tokens) ((tokens) > 3 ? 2 : RZ_TRITS)
typedef struct {
    __m512i part[RZ_TRITS];
} rz_trit_sums_;

RZ_INLINE void rz_trits_clear_(rz_trit_sums_ *sums) {
    RZ_UNROLL
    for (int k = 0; k < RZ_TRITS; k++) sums->part[k] = _mm512_setzero_si512();
}

RZ_INLINE void rz_trits_add_(rz_trit_sums_ *sums, const __m512i *digits, const int8_t *values, int parts) {
    RZ_UNROLL
    for (int k = 0; k < RZ_TRITS; k++)
        sums->part[k % parts] = rz_dot_four_(sums->part[k % parts], digits[k], values + 4 * k);
}

RZ_INLINE void rz_trits_store_(const rz_trit_sums_ *sums, const rz_ternary *w, int64_t tile, const rz_activations *x,
                               int64_t t, float *out, rz_output_mode store) {
    /* once for the 1, once for the code of a weight of 0 */
    __m512i total = sums->part[0];
    RZ_UNROLL
    for (int k = 1; k < RZ_TRITS; k++) total = _mm512_add_epi32(total, sums->part[k]);
    RZ_ALIGNED(64) int32_t rows[16];
    _mm512_store_si512(rows, _mm512_sub_epi32(_mm512_srai_epi32(total, 6), _mm512_set1_epi32(2 * x->sums[t])));
    rz_store_rows_(rows, rz_scale_(w, x, t), out + 16 * tile, w->rows - 16 * tile, store);
}

/* An address that is not taken apart: GCC 12 would keep one for each of 30 loads, most of them in
 * vector registers. */
RZ_INLINE const int8_t *rz_address_(const int8_t *from) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("" : "+r"(from));
#endif
    return from;
}

/* Up to so many tokens share the digits. Balanced groups: ten and one would take the digits out twice for little. */
#define RZ_TRIT_TOKENS_ 10
#define RZ_EACH_TRIT_TOKEN_(tokens, action) \
    RZ_EACH_TOKEN_(tokens, action)          \
    if (tokens > 6) action(6);              \
    if (tokens > 7) action(7);              \
    if (tokens > 8) action(8);              \
    if (tokens > 9) action(9);

#define RZ_TRIT_CASES_ \
    RZ_CASE_(1) RZ_CASE_(2) RZ_CASE_(3) RZ_CASE_(4) RZ_CASE_(5) RZ_CASE_(6) RZ_CASE_(7) RZ_CASE_(8) RZ_CASE_(9) RZ_CASE_(10)

/* Tokens of the next group of `left` ones. */
RZ_INLINE int64_t rz_trit_tokens_(int64_t left) {
    const int64_t groups = (left + RZ_TRIT_TOKENS_ - 1) / RZ_TRIT_TOKENS_;
    return (left + groups - 1) / groups;
}

/* Where tokens 0, 3, 6 and 9 are; the others are one or two strides further. */
typedef struct {
    const int8_t *third[4];
} rz_token_values_;

RZ_INLINE rz_token_values_ rz_values_of_tokens_(const int8_t *values, int64_t stride) {
    rz_token_values_ at;
    at.third[0] = values;
    RZ_UNROLL
    for (int i = 1; i < 4; i++) at.third[i] = rz_address_(values + 3 * i * stride);
    return at;
}

RZ_INLINE void rz_trit_group_(const rz_ternary *w, int64_t tile, const rz_activations *x, int64_t t,
                              int tokens, float *out, int64_t out_stride, rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->run_lines * RZ_TILE_BYTES;
    const int8_t *values = x->codes + t * x->stride;
    const int64_t stride = x->stride;
    const __m512i mask = _mm512_set1_epi8((char)0xc0);
    rz_trit_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5, sums_6, sums_7, sums_8, sums_9;
#define RZ_CLEAR_(k) rz_trits_clear_(&sums_##k)
#define RZ_ADD_(k) rz_trits_add_(&sums_##k, digits, at.third[k / 3] + k % 3 * stride, RZ_TRIT_PARTS_(tokens))
#define RZ_STORE_(k) rz_trits_store_(&sums_##k, w, tile, x, t + k, out + (t + k) * out_stride, store)
    RZ_EACH_TRIT_TOKEN_(tokens, RZ_CLEAR_)
    for (const uint8_t *end = weights + w->run_lines * RZ_TILE_BYTES; weights < end;
         weights += RZ_TILE_BYTES, values = rz_address_(values + RZ_TRITS_COLUMNS)) {
        __m512i digits[RZ_TRITS];
        if (t == 0) RZ_PREFETCH(weights, RZ_PREFETCH_BYTES);
        __m512i bytes = _mm512_load_si512(weights);
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++, bytes = rz_next_trits_(bytes))
            digits[k] = _mm512_and_si512(rz_first_trits_(bytes), mask);
        const rz_token_values_ at = rz_values_of_tokens_(values, stride);
        RZ_EACH_TRIT_TOKEN_(tokens, RZ_ADD_)
    }
    RZ_EACH_TRIT_TOKEN_(tokens, RZ_STORE_)
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_STORE_
}

RZ_INLINE int rz_trits_have_products_(const rz_ternary *w, const rz_activations *x) {
    return w->layout == RZ_LAYOUT_TRITS && x->n > 1 && x->n <= RZ_DIRECT_TRITS_ &&
           w->run_lines <= RZ_DIRECT_TRITS_LINES_;
}

/* One row tile, all tokens. */
RZ_APART void rz_trits_products_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                               int64_t out_stride, rz_output_mode store) {
    for (int64_t t = 0, tokens; t < x->n; t += tokens) {
        tokens = rz_trit_tokens_(x->n - t);
        switch (tokens) { /* constants, so that sums stay in registers */
#define RZ_CASE_(k) case k: rz_trit_group_(w, tile, x, t, k, out, out_stride, store); break;
            RZ_TRIT_CASES_
#undef RZ_CASE_
        }
    }
}

/* The panel of rz_open_panel_ from `count` trit tiles, c the first. */
RZ_INLINE void rz_open_trits_(const rz_ternary *w, int64_t tile, int tiles, int64_t c, int64_t count,
                              uint8_t *panel) {
    const __m512i mask = _mm512_set1_epi8(0x03), one = _mm512_set1_epi8(1);
    const int64_t tile_stride = w->run_lines * RZ_TILE_BYTES;
    const uint8_t *weights = w->codes + tile * tile_stride + c * RZ_TILE_BYTES;
    for (int64_t j = 0; j < count; j++) {
        RZ_UNROLL
        for (int i = 0; i < tiles; i++) {
            const uint8_t *from = weights + i * tile_stride + j * RZ_TILE_BYTES;
            RZ_PREFETCH(from, RZ_PREFETCH_BYTES);
            __m512i bytes = _mm512_load_si512(from);
            uint8_t *to = panel + (j * RZ_TRITS * tiles + i) * 64;
            RZ_UNROLL
            for (int k = 0; k < RZ_TRITS; k++, bytes = rz_next_trits_(bytes)) {
                const __m512i digits = _mm512_and_si512(_mm512_srli_epi16(rz_first_trits_(bytes), 6), mask);
                _mm512_store_si512(to + 64 * tiles * k, _mm512_sub_epi8(digits, one));
            }
        }
    }
}
