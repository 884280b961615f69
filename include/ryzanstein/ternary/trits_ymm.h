/* Opening of the trits layout with AVX2. */
#include "ryzanstein/ternary/trits.h"

/* The first digit of each byte plus 1, in the two upper bits; what is below is no use. The average
 * with 253 and the average with that are (3*byte + 256) / 4, rounded so that every byte is right. */
RZ_INLINE __m256i rz_first_trits_(__m256i bytes) {
    return _mm256_avg_epu8(bytes, _mm256_avg_epu8(bytes, _mm256_set1_epi8((char)253)));
}
/* Bytes whose first digit is the second of these. */
RZ_INLINE __m256i rz_next_trits_(__m256i bytes) { return _mm256_add_epi8(bytes, _mm256_add_epi8(bytes, bytes)); }
/* Digits plus 1 as bytes of 1, 2, 3. */
RZ_INLINE __m256i rz_trits_above_(__m256i bytes) {
    return _mm256_and_si256(_mm256_srli_epi16(rz_first_trits_(bytes), 6), _mm256_set1_epi8(0x03));
}

/* `count` tiles of one row tile as (step, 64) bytes of codes. */
static void rz_open_trits_(const uint8_t *tiles, int64_t count, uint8_t *panel) {
    const __m256i one = _mm256_set1_epi8(1);
    for (int64_t j = 0; j < count; j++, tiles += RZ_TILE_BYTES, panel += 64 * RZ_TRITS) {
        RZ_PREFETCH(tiles, RZ_PREFETCH_BYTES);
    RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i bytes = rz_half_(tiles + 32 * half);
            RZ_UNROLL
            for (int k = 0; k < RZ_TRITS; k++, bytes = rz_next_trits_(bytes))
                _mm256_store_si256((__m256i *)(panel + 64 * k + 32 * half), _mm256_sub_epi8(rz_trits_above_(bytes), one));
        }
    }
}
