/* Rotary position embedding (Su et al. 2021) that pairs element i with i + head_dim / 2. */
#ifndef RZ_OPS_ROPE_H
#define RZ_OPS_ROPE_H

static void RZ_NAME(rz_rope)(float *x, int64_t n_heads, int64_t head_dim, const float *cosine,
                             const float *sine) {
    const int64_t half = head_dim / 2;
    for (int64_t head = 0; head < n_heads; head++) {
        float *first = x + head * head_dim, *second = first + half;
        for (int64_t i = 0; i < half; i += 16) {
            const int64_t n = half - i;
            const rz_f32x16 a = rz_load_n(first + i, n), b = rz_load_n(second + i, n);
            const rz_f32x16 c = rz_load_n(cosine + i, n), s = rz_load_n(sine + i, n);
            rz_store_n(first + i, rz_sub(rz_mul(a, c), rz_mul(b, s)), n);
            rz_store_n(second + i, rz_add(rz_mul(b, c), rz_mul(a, s)), n);
        }
    }
}

#endif
