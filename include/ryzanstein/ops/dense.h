/* Float matrix (the head) times float activations. A tile of 4 rows x 1 or 4 tokens reads each row
 * once for all its tokens, and its independent sums hide the latency of additions. */
#ifndef RZ_OPS_DENSE_H
#define RZ_OPS_DENSE_H

RZ_INLINE void rz_dense_tile_(const void *w, int64_t columns, int64_t row, int rows,
                              const float *x, int tokens, float *out, int64_t out_stride,
                              int kind, int64_t ahead) {
    rz_f32x16 sums[4][4];
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int r = 0; r < rows; r++) sums[t][r] = rz_set1(0.0f);
    const int64_t whole = columns & ~(int64_t)15, size = kind == RZ_FLOAT_F32 ? 4 : 2;
    for (int64_t i = 0; i < whole; i += 16) {
        rz_f32x16 row_values[4];
        if (tokens == 1 && i % (kind == RZ_FLOAT_F32 ? 16 : 32) == 0) { /* the rows of the next tile */
            RZ_UNROLL
            for (int r = 0; r < rows; r++)
                RZ_PREFETCH((const char *)w + (row + r) * columns * size + i * size, ahead * columns * size);
        }
        RZ_UNROLL
        for (int r = 0; r < rows; r++) row_values[r] = rz_load_float(w, (row + r) * columns + i, kind);
        RZ_UNROLL
        for (int t = 0; t < tokens; t++) {
            const rz_f32x16 values = rz_load(x + t * columns + i);
            RZ_UNROLL
            for (int r = 0; r < rows; r++)
                sums[t][r] = rz_add(sums[t][r], rz_mul(values, row_values[r]));
        }
    }
    const int64_t rest = columns - whole;
    RZ_UNROLL
    for (int t = 0; t < tokens; t++)
        RZ_UNROLL
        for (int r = 0; r < rows; r++) {
            if (rest)
                sums[t][r] = rz_add(sums[t][r],
                                    rz_mul(rz_load_n(x + t * columns + whole, rest),
                                           rz_load_float_n(w, (row + r) * columns + whole, rest, kind)));
            out[t * out_stride + row + r] = rz_sum(sums[t][r]);
        }
}

RZ_INLINE void rz_dense_matmul_(const void *w, int64_t columns, int64_t row_begin, int64_t row_end,
                                const float *x, int64_t n, float *out, int64_t out_stride,
                                int kind) {
    int64_t row = row_begin;
    for (; row + 4 <= row_end; row += 4) {
        int64_t t = 0;
        for (; t + 4 <= n; t += 4)
            rz_dense_tile_(w, columns, row, 4, x + t * columns, 4, out + t * out_stride, out_stride, kind, 4);
        for (; t < n; t++)
            rz_dense_tile_(w, columns, row, 4, x + t * columns, 1, out + t * out_stride, out_stride, kind, row + 4 < row_end ? 4 : 0);
    }
    for (; row < row_end; row++)
        for (int64_t t = 0; t < n; t++)
            rz_dense_tile_(w, columns, row, 1, x + t * columns, 1, out + t * out_stride, out_stride, kind, 0);
}

/* Rows anywhere in the matrix. Each is prefetched while the one before it is multiplied. */
RZ_INLINE void rz_dense_rows_(const void *w, int64_t columns, const int32_t *rows, int64_t count, const float *x,
                              float *out, int kind) {
    for (int64_t i = 0; i < count; i++)
        rz_dense_tile_(w, columns, rows[i], 1, x, 1, out + i - rows[i], 0, kind,
                       i + 1 < count ? rows[i + 1] - rows[i] : 0);
}

#define RZ_DENSE_(suffix, kind)                                                                    \
    static void RZ_NAME(rz_dense_matmul_##suffix)(const void *w, int64_t columns, int64_t row_begin, \
                                                  int64_t row_end, const float *x, int64_t n,      \
                                                  float *out, int64_t out_stride) {                \
        rz_dense_matmul_(w, columns, row_begin, row_end, x, n, out, out_stride, kind);             \
    }                                                                                              \
    static void RZ_NAME(rz_dense_rows_##suffix)(const void *w, int64_t columns, const int32_t *rows, \
                                                int64_t count, const float *x, float *out) {       \
        rz_dense_rows_(w, columns, rows, count, x, out, kind);                                     \
    }
RZ_DENSE_(f32, RZ_FLOAT_F32)
RZ_DENSE_(bf16, RZ_FLOAT_BF16)
RZ_DENSE_(f16, RZ_FLOAT_F16)

#endif
