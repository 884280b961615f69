/* How fast ymm registers read memory and multiply int8 on this machine. Needs rz_dot_step_(sum,
 * a, b), the tier's multiply-add of 32 pairs of bytes. */
#ifndef RZ_LIMITS_H
#define RZ_LIMITS_H

#define RZ_PEAK_PRODUCTS_ (12 * 32)

static uint64_t rz_read_stream(const uint8_t *from, int64_t bytes) {
    __m256i sums[4];
    RZ_UNROLL
    for (int i = 0; i < 4; i++) sums[i] = _mm256_setzero_si256();
    for (int64_t at = 0; at < bytes; at += 128) {
        RZ_UNROLL
        for (int i = 0; i < 4; i++)
            sums[i] = _mm256_xor_si256(sums[i], _mm256_load_si256((const __m256i *)(from + at + 32 * i)));
    }
    const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
    return (uint64_t)_mm256_extract_epi64(all, 0) ^ (uint64_t)_mm256_extract_epi64(all, 1) ^
           (uint64_t)_mm256_extract_epi64(all, 2) ^ (uint64_t)_mm256_extract_epi64(all, 3);
}

/* With a latency of 4 or 5 cycles and 2 instructions a cycle, twelve independent sums keep the
 * multipliers busy. */
static int64_t rz_multiply_peak(int64_t rounds) {
    __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8((char)(rounds & 1));
    __m256i sums[12];
    RZ_UNROLL
    for (int i = 0; i < 12; i++) sums[i] = _mm256_setzero_si256();
    for (int64_t round = 0; round < rounds; round++) {
        RZ_UNROLL
        for (int i = 0; i < 12; i++) {
            RZ_FORGET_VECTOR(b);
            sums[i] = rz_dot_step_(sums[i], a, b);
        }
    }
    RZ_UNROLL
    for (int i = 1; i < 12; i++) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
    return _mm256_extract_epi64(sums[0], 0);
}

#endif
