/* exp and softmax weights.
 *
 * exp(x) = 2^n * exp(r) with n = round(x / ln 2) and r = x - n ln 2. ln 2 is a sum of two floats,
 * of which n * the first is exact. exp(r) is the polynomial of degree 7 of Cephes expf (Moshier,
 * netlib.org/cephes), in Horner form with separate multiply and add. The error is below 2 ulp where
 * the result is a normal number (tested).
 */
#ifndef RZ_OPS_EXP_H
#define RZ_OPS_EXP_H

RZ_INLINE rz_f32x16 rz_exp(rz_f32x16 x) {
    const rz_f32x16 lowest = rz_set1(-87.33654f), round = rz_set1(12582912.0f); /* 1.5 * 2^23 */
    const rz_f32x16 clamped = rz_max(lowest, rz_min(rz_set1(88.37626f), x));    /* NaN passes */
    const rz_f32x16 n = rz_sub(rz_add(rz_mul(clamped, rz_set1(1.44269504f)), round), round);
    rz_f32x16 r = rz_sub(clamped, rz_mul(n, rz_set1(0.693359375f)));
    r = rz_sub(r, rz_mul(n, rz_set1(-2.12194440e-4f)));
    rz_f32x16 p = rz_set1(1.9875691500e-4f);
    p = rz_add(rz_mul(p, r), rz_set1(1.3981999507e-3f));
    p = rz_add(rz_mul(p, r), rz_set1(8.3334519073e-3f));
    p = rz_add(rz_mul(p, r), rz_set1(4.1665795894e-2f));
    p = rz_add(rz_mul(p, r), rz_set1(1.6666665459e-1f));
    p = rz_add(rz_mul(p, r), rz_set1(5.0000001201e-1f));
    p = rz_add(rz_add(rz_mul(p, rz_mul(r, r)), r), rz_set1(1.0f));
    return rz_select_less(x, lowest, rz_set1(0.0f), rz_mul(p, rz_exp2_integer(n)));
}

static void RZ_NAME(rz_exp)(const float *x, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i += 16) rz_store_n(out + i, rz_exp(rz_load_n(x + i, n - i)), n - i);
}

static float RZ_NAME(rz_softmax_weights)(const float *x, int64_t n, float *out) {
    const rz_f32x16 none = rz_set1(-INFINITY);
    rz_f32x16 most = none;
    for (int64_t i = 0; i < n; i += 16)
        most = rz_max(most, rz_keep_first(rz_load_n(x + i, n - i), n - i, none));
    const rz_f32x16 shift = rz_set1(rz_maximum(most));
    rz_f32x16 sum = rz_set1(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 weight = rz_exp(rz_sub(rz_load_n(x + i, n - i), shift));
        rz_store_n(out + i, weight, n - i);
        sum = rz_add(sum, rz_keep_first(weight, n - i, rz_set1(0.0f)));
    }
    return rz_sum(sum);
}

#endif
