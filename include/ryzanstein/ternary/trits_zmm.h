/* The trits layout with vpdpbusd on zmm.
 *
 * One token: no digit is taken out. Let q be a byte and q' = 3*q mod 256 what remains of it after its
 * first digit d. Then 256*d = 3*q - q', and the sum of d*x over all columns is
 *
 *   (3 * sum q*x - sum q'*x) / 256
 *
 * with both sums from whole bytes: two additions and two products for 64 weights, no masks or shifts.
 *
 * Head-room: vpdpbusd wraps around, so only the difference has to fit: 256*2*128*columns is less than
 * 2^31 for 1,638 tiles (32,760 columns), after which it is divided.
 */
#include "ryzanstein/ternary/trits.h"

#define RZ_TRITS_BEFORE_SHIFT_ 1638
/* Measured on Zen 5, one thread: 4 KiB ahead 34 GB/s, 12 KiB 36. */
#define RZ_TRITS_PREFETCH_BYTES_ 12288

RZ_INLINE __m512i rz_next_trits_(__m512i bytes) { return _mm512_add_epi8(bytes, _mm512_add_epi8(bytes, bytes)); }

static void rz_trits_matvec_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                             rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->run_lines * RZ_TILE_BYTES;
    const int8_t *values = x->codes;
    __m512i sums = _mm512_set1_epi32(-x->sums[0]);
    for (int64_t c = 0; c < w->run_lines;) {
        const int64_t left = w->run_lines - c;
        const int64_t end = c + (left < RZ_TRITS_BEFORE_SHIFT_ ? left : RZ_TRITS_BEFORE_SHIFT_);
        __m512i before[RZ_TRITS], after[RZ_TRITS];
    RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++) before[k] = after[k] = _mm512_setzero_si512();
        for (; c < end; c++, weights += RZ_TILE_BYTES, values += RZ_TRITS_COLUMNS) {
            RZ_PREFETCH(weights, RZ_TRITS_PREFETCH_BYTES_);
            __m512i bytes = _mm512_load_si512(weights);
            RZ_UNROLL
            for (int k = 0; k < RZ_TRITS; k++) {
                const __m512i four = rz_four_(values + 4 * k);
                before[k] = rz_dot_(before[k], bytes, four);
                bytes = rz_next_trits_(bytes);
                after[k] = rz_dot_(after[k], bytes, four);
            }
        }
        __m512i carried = _mm512_setzero_si512();
        RZ_UNROLL
        for (int k = 0; k < RZ_TRITS; k++)
            carried = _mm512_add_epi32(carried, _mm512_sub_epi32(_mm512_add_epi32(before[k], _mm512_add_epi32(before[k], before[k])), after[k]));
        sums = _mm512_add_epi32(sums, _mm512_srai_epi32(carried, 8));
    }
    RZ_ALIGNED(64) int32_t rows[16];
    _mm512_store_si512(rows, sums);
    rz_store_rows_(rows, x->scales[0] * w->scale, out + 16 * tile, w->rows - 16 * tile, store);
}

/* The panel of rz_open_panel_ from `count` trit tiles, c the first. The first digit of a byte plus 1
 * is in the upper bits of (3*byte + 256) / 4, which two averages round so that every byte is right. */
RZ_INLINE void rz_open_trits_(const rz_ternary *w, int64_t tile, int tiles, int64_t c, int64_t count,
                              uint8_t *panel) {
    const __m512i mask = _mm512_set1_epi8(0x03), one = _mm512_set1_epi8(1), above = _mm512_set1_epi8((char)253);
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
                const __m512i first = _mm512_avg_epu8(bytes, _mm512_avg_epu8(bytes, above));
                const __m512i digits = _mm512_and_si512(_mm512_srli_epi16(first, 6), mask);
                _mm512_store_si512(to + 64 * tiles * k, _mm512_sub_epi8(digits, one));
            }
        }
    }
}
