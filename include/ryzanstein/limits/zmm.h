/* How fast zmm registers and VNNI read memory and multiply int8 on this machine. */
#ifndef RZ_LIMITS_H
#define RZ_LIMITS_H

#define RZ_PEAK_PRODUCTS_ (12 * 64)

static uint64_t rz_read_stream(const uint8_t *from, int64_t bytes) {
    __m512i sums[4];
    RZ_UNROLL
    for (int i = 0; i < 4; i++) sums[i] = _mm512_setzero_si512();
    for (int64_t at = 0; at < bytes; at += 256) {
        RZ_UNROLL
        for (int i = 0; i < 4; i++) sums[i] = _mm512_xor_si512(sums[i], _mm512_load_si512(from + at + 64 * i));
    }
    return (uint64_t)_mm512_reduce_add_epi64(
        _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
}

/* With a latency of 4 or 5 cycles and 2 instructions a cycle, twelve independent sums keep the
 * multipliers busy. */
static int64_t rz_multiply_peak(int64_t rounds) {
    const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8((char)(rounds & 1));
    __m512i sums[12];
    RZ_UNROLL
    for (int i = 0; i < 12; i++) sums[i] = _mm512_setzero_si512();
    for (int64_t round = 0; round < rounds; round++) {
        RZ_UNROLL
        for (int i = 0; i < 12; i++) sums[i] = rz_dot_(sums[i], a, b);
    }
    RZ_UNROLL
    for (int i = 1; i < 12; i++) sums[0] = _mm512_xor_si512(sums[0], sums[i]);
    return _mm512_reduce_add_epi32(sums[0]);
}

#endif
