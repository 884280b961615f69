/* Listed columns and several tokens on zmm.
 *
 * rz_open_columns_ and rz_open_trit_columns_ open four row tiles, which are one bit pair or digit of each byte,
 * so a whole product reads the matrix four or five times. Here a task has some columns and all rows, as for few
 * tokens, and leaves out columns that no token needs.
 *
 * A line of a block of columns is interleaved once (8 KiB, fits L1). Then each quarter of it is multiplied by up to
 * four tokens at a time: sums of all bit pairs or digits of a byte are in registers, 20 of them, and share the
 * activations. Sums of all rows stay in L2; a block of columns shares one visit to them.
 *
 * Codes are times 4^pair, digits plus 1 and times 64; lines.h takes that out of the sums at the end.
 * Head-room: 64*3*128*columns, up to 87,381 columns.
 */
#define RZ_BLOCK_COLUMNS_ 128
#define RZ_BLOCK_STEPS_ (RZ_BLOCK_COLUMNS_ / 4)
#define RZ_BLOCK_TOKENS_ 4

/* Sums of one token, by bit pair or digit. */
typedef struct {
    __m512i plane[RZ_TRITS];
} rz_byte_sums_;

RZ_INLINE void rz_planes_load_(rz_byte_sums_ *token, const int32_t *sums, int planes) {
    RZ_UNROLL
    for (int p = 0; p < RZ_TRITS; p++)
        if (p < planes) token->plane[p] = _mm512_load_si512(sums + 64 * p);
}
RZ_INLINE void rz_planes_add_(rz_byte_sums_ *token, const __m512i *codes, const int8_t *values, int planes) {
    const __m512i four = rz_four_(values);
    RZ_UNROLL
    for (int p = 0; p < RZ_TRITS; p++)
        if (p < planes) token->plane[p] = rz_dot_(token->plane[p], codes[p], four);
}
RZ_INLINE void rz_planes_store_(const rz_byte_sums_ *token, int32_t *sums, int planes) {
    RZ_UNROLL
    for (int p = 0; p < RZ_TRITS; p++)
        if (p < planes) _mm512_store_si512(sums + 64 * p, token->plane[p]);
}

/* Adds `steps` vectors of 16 rows x four columns to the sums of `tokens` tokens, a constant. */
RZ_INLINE void rz_planes_tile_(const uint8_t *quarter, int64_t steps, const int8_t *values, int64_t stride, int tokens,
                               int planes, int32_t *sums, int64_t sums_stride) {
    const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
                              _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
    rz_byte_sums_ token_0, token_1, token_2, token_3, token_4, token_5;
#define RZ_LOAD_(t) rz_planes_load_(&token_##t, sums + t * sums_stride, planes)
#define RZ_ADD_(t) rz_planes_add_(&token_##t, codes, values + t * stride, planes)
#define RZ_STORE_(t) rz_planes_store_(&token_##t, sums + t * sums_stride, planes)
    RZ_EACH_TOKEN_(tokens, RZ_LOAD_)
    for (const uint8_t *end = quarter + 64 * steps; quarter < end; quarter += 64, values += 4) {
        __m512i codes[RZ_TRITS], bytes = _mm512_load_si512(quarter);
        RZ_UNROLL
        for (int p = 0; p < RZ_TRITS; p++) {
            if (planes == 4) codes[p] = _mm512_and_si512(bytes, masks[p & 3]);
            else codes[p] = _mm512_and_si512(rz_first_trits_(bytes), masks[3]);
            bytes = planes == 4 ? bytes : rz_next_trits_(bytes);
        }
        RZ_EACH_TOKEN_(tokens, RZ_ADD_)
    }
    RZ_EACH_TOKEN_(tokens, RZ_STORE_)
#undef RZ_LOAD_
#undef RZ_ADD_
#undef RZ_STORE_
}

/* Adds `steps` times four columns, at most RZ_BLOCK_STEPS_, to the sums of all tokens. */
RZ_INLINE void rz_block_columns_(const rz_ternary *w, const int32_t *columns, const int32_t *later, int64_t steps,
                                 const int8_t *values, int64_t values_stride, int64_t n, int planes, int32_t *sums) {
    RZ_ALIGNED(64) uint8_t quarters[4][RZ_BLOCK_STEPS_ * 64];
    const int64_t lines = rz_column_lines_(w), of_token = lines * RZ_LINE_SUMS;
    for (int64_t line = 0; line < lines; line++) {
        const int64_t offset = RZ_LINE_BYTES * line;
        for (int64_t step = 0; step < steps; step++) {
            const uint8_t *four[4];
            __m512i here[4];
            RZ_UNROLL
            for (int k = 0; k < 4; k++) {
                four[k] = rz_run_(w, columns[4 * step + k]);
                RZ_PREFETCH(rz_run_(w, later[4 * step + k]) + offset, 0);
            }
            rz_interleave_(four, offset, here);
            RZ_UNROLL
            for (int q = 0; q < 4; q++) _mm512_store_si512(quarters[q] + 64 * step, here[q]);
        }
        for (int q = 0; q < 4; q++) {
            int32_t *to = sums + RZ_LINE_SUMS * line + 16 * q;
            const int8_t *from = values;
            int64_t left = n;
            for (; left >= RZ_BLOCK_TOKENS_; left -= RZ_BLOCK_TOKENS_, from += RZ_BLOCK_TOKENS_ * values_stride, to += RZ_BLOCK_TOKENS_ * of_token)
                rz_planes_tile_(quarters[q], steps, from, values_stride, RZ_BLOCK_TOKENS_, planes, to, of_token);
            switch (left) { /* constants, so that sums stay in registers */
            case 3: rz_planes_tile_(quarters[q], steps, from, values_stride, 3, planes, to, of_token); break;
            case 2: rz_planes_tile_(quarters[q], steps, from, values_stride, 2, planes, to, of_token); break;
            case 1: rz_planes_tile_(quarters[q], steps, from, values_stride, 1, planes, to, of_token); break;
            default: break;
            }
        }
    }
}

RZ_APART void rz_columns_of_many_(const rz_ternary *w, const int32_t *columns, int64_t count, const int8_t *values,
                                  int64_t values_stride, int64_t n, int32_t *sums) {
    for (int64_t i = 0; i < count; i += RZ_BLOCK_COLUMNS_) {
        const int64_t left = count - i, steps = (left < RZ_BLOCK_COLUMNS_ ? left : RZ_BLOCK_COLUMNS_) / 4;
        const int32_t *later = columns + (left >= 2 * RZ_BLOCK_COLUMNS_ ? i + (RZ_BLOCK_COLUMNS_ & rz_prefetch_mask) : i);
        if (w->layout == RZ_LAYOUT_TRIT_COLUMNS)
            rz_block_columns_(w, columns + i, later, steps, values + i, values_stride, n, RZ_TRITS, sums);
        else
            rz_block_columns_(w, columns + i, later, steps, values + i, values_stride, n, 4, sums);
    }
}
