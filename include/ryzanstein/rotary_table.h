/* Cosines and sines for RoPE, without libm, whose bits differ between versions and CPUs.
 *
 * All steps are in double, in one fixed order, with an error of about 1e-15. At the end they are
 * rounded to float, correctly except for rare near-ties.
 */
#ifndef RZ_ROTARY_TABLE_H
#define RZ_ROTARY_TABLE_H

#include <stdint.h>
#include <string.h>

/* ln x for x > 0: x = m 2^k with m in [sqrt 1/2, sqrt 2), and ln m = 2 atanh((m-1)/(m+1)). */
static inline double rz_log_(double x) {
    uint64_t bits;
    if (!(x > 0.0 && x < 1e308)) return x; /* infinity and NaN stay as they are */
    memcpy(&bits, &x, 8);
    int64_t k = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        k += 1;
    }
    const double f = (m - 1.0) / (m + 1.0), square = f * f;
    double sum = 1.0 / 25.0;
    for (int n = 23; n >= 1; n -= 2) sum = sum * square + 1.0 / n;
    return 2.0 * f * sum + (double)k * 0.69314718055994531;
}

/* e^x for |x| < 700: 2^n times the Taylor series of e^(x - n ln 2). */
static inline double rz_exp_(double x) {
    const double scaled = x * 1.4426950408889634;
    const int64_t n = (int64_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    const double r = (x - (double)n * 6.93147180369123816490e-01) - (double)n * 1.90821492927058770002e-10;
    double sum = 1.0;
    for (int term = 17; term >= 1; term--) sum = sum * (r / term) + 1.0;
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return sum * power;
}

/* cos x and sin x for 0 <= x < 2^20, by Cody-Waite reduction with the three parts of pi/2 of fdlibm. */
static inline void rz_cos_sin_(double x, double *cosine, double *sine) {
    const int64_t k = (int64_t)(x * 0.63661977236758134 + 0.5);
    double r = x - (double)k * 1.57079632673412561417e+00; /* 33 bits: the product is exact */
    r -= (double)k * 6.07710050630396597660e-11;
    r -= (double)k * 2.02226624879595063154e-21;
    const double square = r * r;
    double c = 1.0, s = 1.0;
    for (int n = 18; n >= 2; n -= 2) c = 1.0 - c * (square / (n * (n - 1)));
    for (int n = 19; n >= 3; n -= 2) s = 1.0 - s * (square / (n * (n - 1)));
    s *= r;
    switch (k & 3) {
    case 0:
        *cosine = c;
        *sine = s;
        break;
    case 1:
        *cosine = -s;
        *sine = c;
        break;
    case 2:
        *cosine = -c;
        *sine = -s;
        break;
    default:
        *cosine = s;
        *sine = -c;
        break;
    }
}

/* powers[i] = theta^(2i/head_dim) in the float steps of transformers: the exponent and the power are
 * each rounded to float. */
static inline void rz_rotary_powers(double theta, int64_t head_dim, float *powers) {
    for (int64_t i = 0; i < head_dim / 2; i++) {
        const float exponent = (float)(2 * i) / (float)head_dim;
        powers[i] = (float)rz_exp_((double)exponent * rz_log_(theta));
    }
}

/* Writes cosines and sines (end - begin, half) for positions [begin, end), times a factor. */
static inline void rz_rotary_rows(const float *inverse_frequencies, int64_t half, int64_t begin, int64_t end,
                                  float factor, float *cosines, float *sines) {
    for (int64_t position = begin; position < end; position++)
        for (int64_t i = 0; i < half; i++) {
            double c, s;
            const float angle = (float)position * inverse_frequencies[i];
            rz_cos_sin_((double)angle, &c, &s);
            cosines[(position - begin) * half + i] = (float)c * factor;
            sines[(position - begin) * half + i] = (float)s * factor;
        }
}

#endif
