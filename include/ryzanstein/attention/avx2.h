/* Integer sums for attention with vpmaddwd on ymm: bytes are widened to 16 bits, which the codes of queries and
 * weights have anyway, so they need not be split. A pair of products is at most 2 * 255 * 16,256 or 2 * 127 * 32,767.
 * (vpmaddubsw would saturate: 2 * 255 * 127 is more than 32,767.) scalar.h says what the function does.
 */
#ifndef RZ_ATTENTION_H
#define RZ_ATTENTION_H

#define RZ_LINES_AHEAD_ 32

RZ_INLINE __m256i rz_add_pairs_(__m256i sum, __m256i b, __m256i four) {
    const __m256i products = _mm256_madd_epi16(b, four);
#if defined(__GNUC__) && !defined(__clang__)
    /* GCC 12 keeps two copies of an intrinsic's accumulator in loops, and spills */
    __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
#else
    return _mm256_add_epi32(sum, products);
#endif
}

/* One panel and `queries` queries, 1 or 2. A sum is two neighbouring lanes until the end. */
RZ_INLINE void rz_attention_tile_(const int16_t *a, int64_t a_stride, int queries, const uint8_t *panel, int64_t depth,
                                  int32_t *sums, int64_t sums_stride, int of_keys) {
    __m256i totals[2][4];
    RZ_UNROLL
    for (int q = 0; q < queries; q++)
        RZ_UNROLL
        for (int v = 0; v < 4; v++) totals[q][v] = _mm256_setzero_si256();
    for (int64_t i = 0; i < depth; i++) {
        __m256i b[4], four[2];
        RZ_PREFETCH(panel + 64 * i, 64 * RZ_LINES_AHEAD_);
        RZ_UNROLL
        for (int v = 0; v < 4; v++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(panel + 64 * i) + v);
            b[v] = of_keys ? _mm256_cvtepu8_epi16(bytes) : _mm256_cvtepi8_epi16(bytes);
        }
        RZ_UNROLL
        for (int q = 0; q < queries; q++) {
            int64_t word;
            memcpy(&word, a + q * a_stride + 4 * i, 8);
            four[q] = _mm256_set1_epi64x(word);
        }
        RZ_UNROLL
        for (int q = 0; q < queries; q++)
            RZ_UNROLL
            for (int v = 0; v < 4; v++) totals[q][v] = rz_add_pairs_(totals[q][v], b[v], four[q]);
    }
    RZ_UNROLL
    for (int q = 0; q < queries; q++)
        RZ_UNROLL
        for (int half = 0; half < 2; half++) {
            /* `hadd` works within 128-bit halves, so the quadwords are put back in order */
            const __m256i added = _mm256_hadd_epi32(totals[q][2 * half], totals[q][2 * half + 1]);
            _mm256_storeu_si256((__m256i *)(sums + q * sums_stride + 8 * half), _mm256_permute4x64_epi64(added, 0xd8));
        }
}

RZ_INLINE void rz_attention_sums_(const int16_t *a, int64_t a_stride, int64_t queries, const uint8_t *panels,
                              int64_t panel_bytes, int64_t depth, int64_t count, int32_t *sums, int64_t sums_stride,
                              int of_keys) {
    for (int64_t p = 0; p < count; p++) {
        const uint8_t *panel = panels + p * panel_bytes;
        int64_t q = 0;
        for (; q + 2 <= queries; q += 2)
            rz_attention_tile_(a + q * a_stride, a_stride, 2, panel, depth, sums + q * sums_stride + 16 * p, sums_stride,
                           of_keys);
        if (q < queries)
            rz_attention_tile_(a + q * a_stride, a_stride, 1, panel, depth, sums + q * sums_stride + 16 * p, sums_stride,
                           of_keys);
    }
}

#endif
