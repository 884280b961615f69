/* Ternary products on zmm straight from the packed codes, for one to some dozens of tokens: no
 * opening to bytes, one load of weights and four masks for all tokens of a group, sums in registers.
 *
 * Masking bit pair p leaves codes times 4^p. Each pair has its own sums, brought to one scale at
 * the end by a shift that is exact, since each sum is a multiple of 4^p.
 *
 * Tiles: lanes are rows; vpdpbusd takes four activations of a token broadcast from memory. For one
 * token memory sets the pace, so tiles are read as one stream (two row tiles at a time: 0.42 of
 * the bandwidth). Measured on Zen 5, one thread, as a share of the int8 peak: 4 tokens 0.64, 16
 * tokens 0.79, 32 tokens 0.83; with opened panels 0.30, 0.60, 0.71.
 *
 * Rows: lanes are columns, so a sum is added up across lanes at the end. Two rows share the
 * activations of three tokens. 16 tokens 0.68, with opened panels 0.55.
 */
#ifndef RZ_TERNARY_DIRECT_ZMM_H
#define RZ_TERNARY_DIRECT_ZMM_H

/* Up to so many tokens this way; measured. */
#define RZ_DIRECT_TILES_ 96
#define RZ_DIRECT_ROWS_ 32

/* Adds codes times four neighbouring activations, the same four in each lane. */
RZ_INLINE __m512i rz_dot_four_(__m512i sum, __m512i codes, const int8_t *values) {
#if defined(__GNUC__) && !defined(__clang__)
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*(const int32_t *)values));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, codes, rz_four_(values));
#endif
}

/* Sums of one row tile and one token, by bit pair. */
typedef struct {
    __m512i pair[4];
} rz_pair_sums_;

RZ_INLINE void rz_pairs_clear_(rz_pair_sums_ *sums) {
    RZ_UNROLL
    for (int pair = 0; pair < 4; pair++) sums->pair[pair] = _mm512_setzero_si512();
}

RZ_INLINE void rz_pairs_add_(rz_pair_sums_ *sums, const __m512i *codes, const int8_t *values) {
    RZ_UNROLL
    for (int pair = 0; pair < 4; pair++)
        sums->pair[pair] = rz_dot_four_(sums->pair[pair], codes[pair], values + 4 * pair);
}

/* The four bit pairs at one scale. */
RZ_INLINE __m512i rz_pairs_total_(const rz_pair_sums_ *sums) {
    const __m512i low = _mm512_add_epi32(sums->pair[0], _mm512_srai_epi32(sums->pair[1], 2));
    const __m512i high = _mm512_add_epi32(_mm512_srai_epi32(sums->pair[2], 4), _mm512_srai_epi32(sums->pair[3], 6));
    return _mm512_add_epi32(low, high);
}

RZ_INLINE void rz_pairs_store_(const rz_pair_sums_ *sums, const rz_ternary *w, int64_t tile, const rz_activations *x,
                               int64_t t, float *out, rz_output_mode store) {
    RZ_ALIGNED(64) int32_t rows[16];
    _mm512_store_si512(rows, _mm512_sub_epi32(rz_pairs_total_(sums), _mm512_set1_epi32(x->sums[t])));
    rz_store_rows_(rows, rz_scale_(w, x, t), out + 16 * tile, w->rows - 16 * tile, store);
}

RZ_INLINE void rz_tile_group_(const rz_ternary *w, int64_t tile, const rz_activations *x, int64_t t,
                              int tokens, float *out, int64_t out_stride, rz_output_mode store) {
    const uint8_t *weights = w->codes + tile * w->column_tiles * RZ_TILE_BYTES;
    const int8_t *values = x->codes + t * x->stride;
    const int64_t stride = x->stride;
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    rz_pair_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5;
#define RZ_CLEAR_(k) rz_pairs_clear_(&sums_##k)
#define RZ_ADD_(k) rz_pairs_add_(&sums_##k, codes, values + k * stride)
#define RZ_STORE_(k) rz_pairs_store_(&sums_##k, w, tile, x, t + k, out + (t + k) * out_stride, store)
    RZ_EACH_TOKEN_(tokens, RZ_CLEAR_)
    for (const uint8_t *end = weights + w->column_tiles * RZ_TILE_BYTES; weights < end;
         weights += RZ_TILE_BYTES, values += RZ_TILE_COLUMNS) {
        __m512i codes[4];
        if (t == 0) RZ_PREFETCH(weights, RZ_PREFETCH_BYTES);
        const __m512i packed = _mm512_load_si512(weights);
        RZ_UNROLL
        for (int pair = 0; pair < 4; pair++) codes[pair] = _mm512_and_si512(packed, masks[pair]);
        RZ_EACH_TOKEN_(tokens, RZ_ADD_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_STORE_)
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_STORE_
}

/* One row tile, all tokens. */
RZ_APART void rz_tile_products_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                              int64_t out_stride, rz_output_mode store) {
    int64_t t = 0;
    for (; t + RZ_TOKENS_ <= x->n; t += RZ_TOKENS_)
        rz_tile_group_(w, tile, x, t, RZ_TOKENS_, out, out_stride, store);
    switch (x->n - t) { /* constants, so that sums stay in registers */
    case 5: rz_tile_group_(w, tile, x, t, 5, out, out_stride, store); break;
    case 4: rz_tile_group_(w, tile, x, t, 4, out, out_stride, store); break;
    case 3: rz_tile_group_(w, tile, x, t, 3, out, out_stride, store); break;
    case 2: rz_tile_group_(w, tile, x, t, 2, out, out_stride, store); break;
    case 1: rz_tile_group_(w, tile, x, t, 1, out, out_stride, store); break;
    default: break;
    }
}

/* Lane i: the sum of the lanes of vectors[i]. */
RZ_INLINE __m512i rz_sum_of_each_(const __m512i *vectors) {
    __m512i s[16];
    RZ_UNROLL
    for (int i = 0; i < 16; i++) s[i] = vectors[i];
    RZ_UNROLL
    for (int i = 0; i < 8; i++) /* of 2i and 2i + 1, by twos */
        s[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2 * i], s[2 * i + 1]), _mm512_unpackhi_epi32(s[2 * i], s[2 * i + 1]));
    RZ_UNROLL
    for (int i = 0; i < 4; i++) /* of 4i to 4i + 3, in each 128-bit lane */
        s[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(s[2 * i], s[2 * i + 1]), _mm512_unpackhi_epi64(s[2 * i], s[2 * i + 1]));
    const __m512i a = _mm512_add_epi32(_mm512_shuffle_i32x4(s[0], s[1], 0x88), _mm512_shuffle_i32x4(s[0], s[1], 0xdd));
    const __m512i b = _mm512_add_epi32(_mm512_shuffle_i32x4(s[2], s[3], 0x88), _mm512_shuffle_i32x4(s[2], s[3], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

#define RZ_ROW_TOKENS_ 3

RZ_INLINE void rz_row_group_(const rz_ternary *w, int64_t tile, const rz_activations *x, int64_t t,
                             int tokens, float *out, int64_t out_stride, rz_output_mode store) {
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    __m512i totals[RZ_ROW_TOKENS_][16];
    for (int row = 0; row < 16; row += 2) {
        const uint8_t *first = rz_run_(w, 16 * tile + row), *second = rz_run_(w, 16 * tile + row + 1);
        const int8_t *values = x->codes + t * x->stride;
        rz_pair_sums_ sums_0, sums_1, sums_2, sums_3, sums_4, sums_5; /* 2k: token k, first row */
#define RZ_CLEAR_(k) rz_pairs_clear_(&sums_##k)
#define RZ_ADD_(k, a, b)                                                                         \
    RZ_UNROLL                                                                                    \
    for (int pair = 0; pair < 4; pair++) {                                                       \
        const __m512i some = _mm512_loadu_si512(values + k * x->stride + 64 * pair);             \
        sums_##a.pair[pair] = rz_dot_(sums_##a.pair[pair], _mm512_and_si512(codes, masks[pair]), some); \
        sums_##b.pair[pair] = rz_dot_(sums_##b.pair[pair], _mm512_and_si512(more, masks[pair]), some);  \
    }
#define RZ_TOTAL_(k, a, b)                     \
    totals[k][row] = rz_pairs_total_(&sums_##a); \
    totals[k][row + 1] = rz_pairs_total_(&sums_##b);
        RZ_EACH_TOKEN_(2 * tokens, RZ_CLEAR_)
        for (int64_t line = 0; line < w->run_lines; line++, values += RZ_LINE_CODES) {
            if (t == 0) {
                RZ_PREFETCH(first + RZ_LINE_BYTES * line, RZ_PREFETCH_BYTES);
                RZ_PREFETCH(second + RZ_LINE_BYTES * line, RZ_PREFETCH_BYTES);
            }
            const __m512i codes = _mm512_load_si512(first + RZ_LINE_BYTES * line);
            const __m512i more = _mm512_load_si512(second + RZ_LINE_BYTES * line);
            RZ_ADD_(0, 0, 1)
            if (tokens > 1) RZ_ADD_(1, 2, 3)
            if (tokens > 2) RZ_ADD_(2, 4, 5)
        }
        RZ_TOTAL_(0, 0, 1)
        if (tokens > 1) { RZ_TOTAL_(1, 2, 3) }
        if (tokens > 2) { RZ_TOTAL_(2, 4, 5) }
#undef RZ_CLEAR_
#undef RZ_ADD_
#undef RZ_TOTAL_
    }
    for (int k = 0; k < tokens; k++) {
        RZ_ALIGNED(64) int32_t rows[16];
        _mm512_store_si512(rows, _mm512_sub_epi32(rz_sum_of_each_(totals[k]), _mm512_set1_epi32(x->sums[t + k])));
        rz_store_rows_(rows, rz_scale_(w, x, t + k), out + (t + k) * out_stride + 16 * tile,
                       w->rows - 16 * tile, store);
    }
}

/* One row tile of rows, all tokens. */
RZ_APART void rz_row_products_(const rz_ternary *w, int64_t tile, const rz_activations *x, float *out,
                             int64_t out_stride, rz_output_mode store) {
    int64_t t = 0;
    for (; t + RZ_ROW_TOKENS_ <= x->n; t += RZ_ROW_TOKENS_)
        rz_row_group_(w, tile, x, t, RZ_ROW_TOKENS_, out, out_stride, store);
    if (x->n - t == 2) rz_row_group_(w, tile, x, t, 2, out, out_stride, store);
    if (x->n - t == 1) rz_row_group_(w, tile, x, t, 1, out, out_stride, store);
}

#endif
