/* Attention over a block of an int8 cache, in integers: queries and softmax weights become 16-bit codes, products
 * and sums are exact, and one multiplication makes floats of them again (kernels.h).
 *
 * Queries go four at a time, so that what they need stays in the first cache, and panels of the block in the second.
 */
#ifndef RZ_OPS_ATTENTION_INT8_H
#define RZ_OPS_ATTENTION_INT8_H

/* Loops that need all registers. */
RZ_APART void rz_key_sums_(int16_t *q, int64_t queries, const uint8_t *keys, int64_t depth, int64_t count,
                           int32_t *sums) {
    rz_attention_sums_(q, RZ_MAX_HEAD_DIM, queries, keys, 64 * depth, depth, count, sums, RZ_KV_BLOCK, 1);
}
RZ_APART void rz_value_sums_(int16_t *weights, int64_t queries, const uint8_t *values, int64_t depth, int64_t count,
                             int32_t *sums) {
    rz_attention_sums_(weights, RZ_KV_BLOCK, queries, values, 64 * (RZ_KV_BLOCK / 4), depth, count, sums, RZ_MAX_HEAD_DIM, 0);
}

/* The factor that brings |x| <= m to `top`. Below 2^-100 it could overflow, so such a vector counts as zeros. */
RZ_INLINE float rz_code_factor_(float m, float top) { return m > 7.8886e-31f ? top / m : 0.0f; }

/* codes = round_half_even(x * (16256 / max|x|)), zeros up to a multiple of 16; returns the value of code 1, NaN if x
 * is not finite. */
RZ_INLINE float rz_query_codes_(const float *x, int64_t n, int16_t *codes, int32_t *sum) {
    rz_f32x16 most = rz_set1(0.0f), poison = most; /* as in rz_quantize */
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 v = rz_load_n(x + i, n - i);
        most = rz_max(rz_abs(v), most);
        poison = rz_add(poison, rz_sub(v, v));
    }
    const float m = rz_maximum(most);
    const rz_f32x16 factor = rz_set1(rz_code_factor_(m, 16256.0f));
    int32_t total = 0;
    for (int64_t i = 0; i < n; i += 16) rz_store_i16(codes + i, rz_mul(rz_load_n(x + i, n - i), factor));
    for (int64_t i = 0; i < n; i++) total += codes[i];
    *sum = total;
    return m / 16256.0f + rz_sum(poison);
}

/* From the integer sums of a query and all keys to the codes of its weights times value scales, which are zero where
 * it sees nothing and up to `padded`. Returns the value of code 1. */
RZ_INLINE float rz_weight_codes_(const int32_t *sums, int32_t offset, int64_t valid, int64_t hidden, int64_t padded,
                                 float scale, const rz_kv_block *block, int16_t *codes, float *maximum, float *sum) {
    RZ_ALIGNED(64) float scores[RZ_KV_BLOCK];
    const rz_f32x16 none = rz_set1(-INFINITY), zero = rz_set1(0.0f), factor = rz_set1(scale);
    rz_f32x16 most = none, total = zero, poison = zero;
    for (int64_t p = 0; p < valid; p += 16) {
        int32_t lanes[16];
        for (int lane = 0; lane < 16; lane++) lanes[lane] = (int32_t)((uint32_t)sums[p + lane] - (uint32_t)offset);
        rz_f32x16 score = rz_mul(rz_mul(rz_load_i32(lanes), rz_load(block->k_scale + p)), factor);
        if (valid - p < 16) score = rz_keep_first(score, valid - p, none);
        if (p < hidden) score = rz_hide_first_(score, hidden - p);
        rz_store(scores + p, score);
        most = rz_max(most, score);
    }
    *maximum = rz_maximum(most);
    const rz_f32x16 shift = rz_set1(*maximum);
    most = zero;
    for (int64_t p = 0; p < valid; p += 16) {
        rz_f32x16 weight = rz_exp(rz_sub(rz_load(scores + p), shift));
        if (valid - p < 16) weight = rz_keep_first(weight, valid - p, zero);
        total = rz_add(total, weight);
        weight = rz_mul(weight, rz_load(block->v_scale + p));
        if (valid - p < 16) weight = rz_keep_first(weight, valid - p, zero);
        poison = rz_add(poison, rz_sub(weight, weight));
        most = rz_max(weight, most);
        rz_store(scores + p, weight);
    }
    *sum = rz_sum(total);
    const float m = rz_maximum(most);
    const rz_f32x16 to_codes = rz_set1(rz_code_factor_(m, 32767.0f));
    int64_t p = 0;
    for (; p < valid; p += 16) rz_store_i16(codes + p, rz_mul(rz_load(scores + p), to_codes));
    if (p < padded) memset(codes + p, 0, (size_t)(padded - p) * sizeof(int16_t));
    return m / 32767.0f + rz_sum(poison);
}

/* Up to RZ_QUERIES_TOGETHER queries. */
static void rz_attend_together_(const float *q, int64_t q_stride, int64_t queries, const int32_t *valid,
                                const int32_t *hidden, int64_t head_dim, float scale, const rz_kv_block *block,
                                float *partial) {
    RZ_ALIGNED(64) int16_t codes[RZ_QUERIES_TOGETHER][RZ_MAX_HEAD_DIM];
    RZ_ALIGNED(64) int16_t weights[RZ_QUERIES_TOGETHER][RZ_KV_BLOCK];
    RZ_ALIGNED(64) int32_t sums[RZ_QUERIES_TOGETHER * RZ_MAX_HEAD_DIM];
    const int64_t depth = (head_dim + 3) / 4;
    int32_t offsets[RZ_QUERIES_TOGETHER];
    float scales[RZ_QUERIES_TOGETHER];
    int64_t positions = 0;
    for (int64_t i = 0; i < queries; i++) {
        if (valid[i] > positions) positions = valid[i];
        scales[i] = rz_query_codes_(q + i * q_stride, head_dim, codes[i], offsets + i) * scale;
    }
    rz_key_sums_(codes[0], queries, (const uint8_t *)block->k, depth, (positions + 15) / 16, sums);
    positions = (positions + 3) / 4 * 4;
    for (int64_t i = 0; i < queries; i++) {
        float *result = partial + i * (head_dim + 2) + head_dim;
        scales[i] = rz_weight_codes_(sums + i * RZ_KV_BLOCK, 128 * offsets[i], valid[i], hidden ? hidden[i] : 0, positions,
                                     scales[i], block, weights[i], result, result + 1);
    }
    rz_value_sums_(weights[0], queries, (const uint8_t *)block->v, positions / 4, (head_dim + 15) / 16, sums);
    for (int64_t i = 0; i < queries; i++) {
        const rz_f32x16 value = rz_set1(scales[i]);
        for (int64_t d = 0; d < head_dim; d += 16)
            rz_store_n(partial + i * (head_dim + 2) + d, rz_mul(rz_load_i32(sums + i * RZ_MAX_HEAD_DIM + d), value),
                       head_dim - d);
    }
}

static void RZ_NAME(rz_attend_block_i8)(const float *q, int64_t q_stride, int64_t n_queries, const int32_t *valid,
                                        const int32_t *hidden, int64_t head_dim, float scale, const rz_kv_block *block,
                                        float *partial) {
    for (int64_t i = 0; i < n_queries; i += RZ_QUERIES_TOGETHER)
        rz_attend_together_(q + i * q_stride, q_stride, rz_smaller_(n_queries - i, RZ_QUERIES_TOGETHER), valid + i,
                            hidden ? hidden + i : NULL, head_dim, scale, block, partial + i * (head_dim + 2));
}

RZ_INLINE float rz_to_i8_(const float *x, int64_t n, int8_t *codes) {
    rz_f32x16 most = rz_set1(0.0f), poison = most; /* as in rz_quantize */
    for (int64_t i = 0; i < n; i += 16) {
        const rz_f32x16 v = rz_load_n(x + i, n - i);
        most = rz_max(rz_abs(v), most);
        poison = rz_add(poison, rz_sub(v, v));
    }
    const float m = rz_maximum(most);
    const rz_f32x16 factor = rz_set1(rz_code_factor_(m, 127.0f));
    for (int64_t i = 0; i < n; i += 16) rz_store_i8(codes + i, rz_mul(rz_load_n(x + i, n - i), factor));
    return m / 127.0f + rz_sum(poison);
}

static void RZ_NAME(rz_kv_append_i8)(const float *k, const float *v, int64_t head_dim, int64_t slot,
                                     const rz_kv_block *block) {
    const int64_t depth = (head_dim + 3) / 4;
    int8_t codes[RZ_MAX_HEAD_DIM]; /* zeros up to a multiple of 16 */
    uint8_t *key = (uint8_t *)block->k + slot / 16 * 64 * depth + 4 * (slot % 16);
    uint8_t *value = (uint8_t *)block->v + 64 * (slot / 4) + slot % 4;
    block->k_scale[slot] = rz_to_i8_(k, head_dim, codes);
    for (int64_t d = 0; d < 4 * depth; d++) key[64 * (d / 4) + d % 4] = (uint8_t)(codes[d] + 128);
    block->v_scale[slot] = rz_to_i8_(v, head_dim, codes);
    for (int64_t d = 0; d < (head_dim + 15) / 16 * 16; d++)
        value[64 * (RZ_KV_BLOCK / 4) * (d / 16) + 4 * (d % 16)] = (uint8_t)codes[d];
}

#endif
