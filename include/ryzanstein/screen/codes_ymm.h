/* Unpacks the six-bit codes of the head screen to bytes, on ymm, half a line at a time. */
#ifndef RZ_SCREEN_CODES_YMM_H
#define RZ_SCREEN_CODES_YMM_H

/* Unpacks the same half of three lines to four times 32 codes. */
RZ_INLINE void rz_screen_codes_(const uint8_t *from, __m256i *codes) {
    const __m256i low_six_bits = _mm256_set1_epi8(0x3f);
    const __m256i a = rz_half_(from), b = rz_half_(from + 64), c = rz_half_(from + 128);
    codes[0] = _mm256_and_si256(a, low_six_bits);
    codes[1] = _mm256_and_si256(b, low_six_bits);
    codes[2] = _mm256_and_si256(c, low_six_bits);
    /* Shifts work on words of 16 bits, and masks drop the bits from the other byte. */
    const __m256i low = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(0x03));
    const __m256i middle = _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(0x0c));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(c, 2), _mm256_set1_epi8(0x30));
    codes[3] = _mm256_or_si256(_mm256_or_si256(low, middle), high);
}

/* Unpacks one group of 16 rows to bytes: 16 lines of four columns, `stride` bytes apart. */
RZ_INLINE void rz_screen_unpack_(const uint8_t *from, uint8_t *to, int64_t stride) {
    for (int quarter = 0; quarter < 4; quarter++, from += 192, to += 4 * stride) {
    RZ_UNROLL
        for (int line = 0; line < 3; line++) RZ_PREFETCH(from + 64 * line, RZ_SCREEN_PREFETCH_BYTES_);
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i codes[4];
            rz_screen_codes_(from + 32 * half, codes);
            RZ_UNROLL
            for (int line = 0; line < 4; line++)
                _mm256_store_si256((__m256i *)(to + line * stride + 32 * half), codes[line]);
        }
    }
}

/* rz_screen_add_group_ with integer sums in two halves. */
RZ_INLINE void rz_screen_add_halves_(float *total, const __m256i *sums, rz_f32x16 scales, const rz_screen_group_ *x, int t) {
    rz_f32x16 floats;
    floats.low = _mm256_cvtepi32_ps(sums[0]);
    floats.high = _mm256_cvtepi32_ps(sums[1]);
    rz_screen_add_group_(total, floats, scales, x, t);
}

#endif
