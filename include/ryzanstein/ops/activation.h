/* Activation functions of feed-forward blocks. */
#ifndef RZ_OPS_ACTIVATION_H
#define RZ_OPS_ACTIVATION_H

RZ_INLINE rz_f32x16 rz_negate_(rz_f32x16 x) { return rz_sub(rz_set1(0.0f), x); }

RZ_INLINE rz_f32x16 rz_relu2(rz_f32x16 x) {
    const rz_f32x16 positive = rz_max(x, rz_set1(0.0f));
    return rz_mul(positive, positive);
}
/* x * sigmoid(y) */
RZ_INLINE rz_f32x16 rz_times_sigmoid_(rz_f32x16 x, rz_f32x16 y) {
    return rz_div(x, rz_add(rz_set1(1.0f), rz_exp(rz_negate_(y))));
}
RZ_INLINE rz_f32x16 rz_silu(rz_f32x16 x) { return rz_times_sigmoid_(x, x); }

/* x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016), computed as
 * x * sigmoid(2 sqrt(2/pi) (...)), which has no cancellation for negative x. */
RZ_INLINE rz_f32x16 rz_gelu_tanh(rz_f32x16 x) {
    const rz_f32x16 cube = rz_mul(rz_mul(x, x), x);
    const rz_f32x16 inner = rz_add(x, rz_mul(rz_set1(0.044715f), cube));
    return rz_times_sigmoid_(x, rz_mul(rz_set1(1.5957691216f), inner));
}

/* x * erfc(-x / sqrt 2) / 2. erfc(z) for z >= 0 is the Chebyshev fit of Press et al., Numerical
 * Recipes 6.2 (relative error below 1.2e-7, plus that of exp). */
RZ_INLINE rz_f32x16 rz_gelu_erf(rz_f32x16 x) {
    static const float coefficients[10] = {0.17087277f, -0.82215223f, 1.48851587f, -1.13520398f,
                                           0.27886807f, -0.18628806f, 0.09678418f, 0.37409196f,
                                           1.00002368f, -1.26551223f};
    const rz_f32x16 zero = rz_set1(0.0f), one = rz_set1(1.0f), half = rz_set1(0.5f);
    const rz_f32x16 z = rz_mul(rz_abs(x), rz_set1(0.70710678f));
    const rz_f32x16 t = rz_div(one, rz_add(one, rz_mul(half, z)));
    rz_f32x16 p = rz_set1(coefficients[0]);
    for (int i = 1; i < 10; i++) p = rz_add(rz_mul(p, t), rz_set1(coefficients[i]));
    const rz_f32x16 tail = rz_mul(t, rz_exp(rz_sub(p, rz_mul(z, z)))); /* erfc(|x| / sqrt 2) */
    const rz_f32x16 twice_phi = rz_select_less(x, zero, tail, rz_sub(rz_set1(2.0f), tail));
    return rz_mul(rz_mul(half, x), twice_phi);
}

/* Two kernels: `name` alone, and `name` of a gate times `up`, which the macro `product` computes. */
#define RZ_ACTIVATION_(name, product) \
    static void RZ_NAME(name)(const float *x, int64_t n, float *out) { \
        for (int64_t i = 0; i < n; i += 16) \
            rz_store_n(out + i, name(rz_load_n(x + i, n - i)), n - i); \
    } \
    static void RZ_NAME(name##_gated)(const float *gate, const float *up, int64_t n, \
                                      float *out) { \
        for (int64_t i = 0; i < n; i += 16) \
            rz_store_n(out + i, product(name, rz_load_n(gate + i, n - i), rz_load_n(up + i, n - i)), \
                       n - i); \
    }
#define RZ_TIMES_(name, gate, up) rz_mul(name(gate), up)
/* +0 if the gate is not positive, whatever `up` is, so that `up` need not be computed there. */
#define RZ_TIMES_IF_OPEN_(name, gate, up) \
    rz_select_less(gate, rz_set1(1.401298464e-45f), rz_set1(0.0f), rz_mul(name(gate), up))
RZ_ACTIVATION_(rz_relu2, RZ_TIMES_IF_OPEN_)
RZ_ACTIVATION_(rz_silu, RZ_TIMES_)
RZ_ACTIVATION_(rz_gelu_erf, RZ_TIMES_)
RZ_ACTIVATION_(rz_gelu_tanh, RZ_TIMES_)

#endif
