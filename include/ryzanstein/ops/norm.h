/* RMSNorm (Zhang & Sennrich 2019), LayerNorm (Ba et al. 2016), and int8 quantisation of the
 * activations of a token (BitNet b1.58: absmax, round half to even). */
#ifndef RZ_OPS_NORM_H
#define RZ_OPS_NORM_H

static void RZ_NAME(rz_rms_norm)(const float *x, const float *weight, float eps, int64_t n,
                                 float *out) {
    rz_f32x16 squares = rz_set1(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 v = rz_load_n(x + i, n - i);
        squares = rz_add(squares, rz_mul(v, v));
    }
    const rz_f32x16 r = rz_set1(1.0f / rz_sqrt_one(rz_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        rz_f32x16 v = rz_mul(rz_load_n(x + i, n - i), r);
        if (weight) v = rz_mul(v, rz_load_n(weight + i, n - i));
        rz_store_n(out + i, v, n - i);
    }
}

static void RZ_NAME(rz_layer_norm)(const float *x, const float *weight, const float *bias,
                                   float eps, int64_t n, float *out) {
    const rz_f32x16 zero = rz_set1(0.0f);
    rz_f32x16 sum = zero, squares = zero;
    for (int64_t i = 0; i < n; i += 16) sum = rz_add(sum, rz_load_n(x + i, n - i));
    const rz_f32x16 mean = rz_set1(rz_sum(sum) / (float)n);
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 d = rz_keep_first(rz_sub(rz_load_n(x + i, n - i), mean), n - i, zero);
        squares = rz_add(squares, rz_mul(d, d));
    }
    const rz_f32x16 r = rz_set1(1.0f / rz_sqrt_one(rz_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        rz_f32x16 v = rz_mul(rz_sub(rz_load_n(x + i, n - i), mean), r);
        if (weight) v = rz_mul(v, rz_load_n(weight + i, n - i));
        if (bias) v = rz_add(v, rz_load_n(bias + i, n - i));
        rz_store_n(out + i, v, n - i);
    }
}

static void RZ_NAME(rz_quantize)(const float *x, int64_t n, int64_t padded, int8_t *codes,
                                 float *scale, int32_t *sum) {
    rz_f32x16 most = rz_set1(1e-5f);  /* the least scale of BitNet: no division by zero */
    rz_f32x16 poison = rz_set1(0.0f); /* 0 if all values are finite, else NaN */
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 v = rz_load_n(x + i, n - i);
        most = rz_max(rz_abs(v), most);
        poison = rz_add(poison, rz_sub(v, v));
    }
    const float m = rz_maximum(most);
    const rz_f32x16 factor = rz_set1(127.0f / m);
    int32_t total = 0;
    int64_t i = 0;
    for (; i < n; i += 16) {
        int8_t rounded[16];
        rz_store_i8(rounded, rz_mul(rz_load_n(x + i, n - i), factor));
        for (int lane = 0; lane < 16; lane++) total += rounded[lane]; /* missing lanes are 0 */
        const int64_t room = padded - i;
        memcpy(codes + i, rounded, (size_t)(room < 16 ? room : 16));
    }
    if (i < padded) memset(codes + i, 0, (size_t)(padded - i));
    *scale = m / 127.0f + rz_sum(poison);
    *sum = total;
}

#endif
