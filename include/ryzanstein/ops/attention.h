/* Attention over one cache block of 256 positions of floats, in the order that kernels.h fixes.
 *
 * Both products work on register tiles of RZ_TILE_QUERIES queries x RZ_TILE_VECTORS vectors. For
 * q.k the lanes of a vector are positions: K is stored transposed, so a score needs no sum across
 * lanes. For the weighted values the lanes are head dimensions. The size of the tile decides how
 * often K and V are read, but not the order of additions within a result.
 */
#ifndef RZ_OPS_ATTENTION_H
#define RZ_OPS_ATTENTION_H

#define RZ_SCORE_POSITIONS (16 * RZ_TILE_VECTORS) /* divides 256 in every tier */

RZ_INLINE rz_f32x16 rz_load_kv_(const void *base, int64_t index, int kind) {
    if (kind == RZ_KV_F32) return rz_load((const float *)base + index);
    return rz_load_bf16((const uint16_t *)base + index);
}
RZ_INLINE rz_f32x16 rz_load_kv_n_(const void *base, int64_t index, int64_t n, int kind) {
    if (n >= 16) return rz_load_kv_(base, index, kind);
    const size_t size = kind == RZ_KV_F32 ? 4 : 2;
    float lanes[16] = {0};
    memcpy(lanes, (const char *)base + (size_t)index * size, (size_t)n * size);
    return rz_load_kv_(lanes, 0, kind);
}
/* In rows. A tile reads only part of each row, which no hardware prefetcher predicts. */
#define RZ_KV_AHEAD 16
RZ_INLINE void rz_prefetch_kv_(const void *base, int64_t index, int kind) {
    const int size = kind == RZ_KV_F32 ? 4 : 2;
    const char *from = (const char *)base + index * size;
    for (int at = 0; at < RZ_SCORE_POSITIONS * size; at += 64) RZ_PREFETCH(from + at, 0);
}
RZ_INLINE int64_t rz_smaller_(int64_t a, int64_t b) { return a < b ? a : b; }

/* scores[query][position] = sum over d of q[d] * k[d][position] */
RZ_INLINE void rz_scores_(const float *q, int64_t q_stride, int64_t n_queries, int64_t positions,
                          int64_t head_dim, const void *k, float (*scores)[RZ_KV_BLOCK], int kind) {
    for (int64_t query = 0; query < n_queries; query += RZ_TILE_QUERIES) {
        const float *rows[RZ_TILE_QUERIES];
        int64_t index[RZ_TILE_QUERIES]; /* a tile that is not full repeats its last query */
        RZ_UNROLL
        for (int i = 0; i < RZ_TILE_QUERIES; i++) {
            index[i] = rz_smaller_(query + i, n_queries - 1);
            rows[i] = q + index[i] * q_stride;
        }
        for (int64_t position = 0; position < positions; position += RZ_SCORE_POSITIONS) {
            rz_f32x16 sums[RZ_TILE_QUERIES][RZ_TILE_VECTORS];
            RZ_UNROLL
            for (int i = 0; i < RZ_TILE_QUERIES; i++)
                RZ_UNROLL
                for (int v = 0; v < RZ_TILE_VECTORS; v++) sums[i][v] = rz_set1(0.0f);
            for (int64_t d = 0; d < head_dim; d++) {
                rz_f32x16 keys[RZ_TILE_VECTORS];
                rz_prefetch_kv_(k, (d + (RZ_KV_AHEAD & rz_prefetch_mask)) * RZ_KV_BLOCK + position, kind);
                RZ_UNROLL
                for (int v = 0; v < RZ_TILE_VECTORS; v++)
                    keys[v] = rz_load_kv_(k, d * RZ_KV_BLOCK + position + 16 * v, kind);
                RZ_UNROLL
                for (int i = 0; i < RZ_TILE_QUERIES; i++) {
                    const rz_f32x16 element = rz_set1(rows[i][d]);
                    RZ_UNROLL
                    for (int v = 0; v < RZ_TILE_VECTORS; v++)
                        sums[i][v] = rz_add(sums[i][v], rz_mul(element, keys[v]));
                }
            }
            RZ_UNROLL
            for (int i = 0; i < RZ_TILE_QUERIES; i++)
                RZ_UNROLL
                for (int v = 0; v < RZ_TILE_VECTORS; v++)
                    rz_store(&scores[index[i]][position + 16 * v], sums[i][v]);
        }
    }
}

/* x with -infinity in the first n lanes. */
RZ_INLINE rz_f32x16 rz_hide_first_(rz_f32x16 x, int64_t n) {
    float lanes[16];
    rz_store(lanes, x);
    for (int64_t lane = 0; lane < n && lane < 16; lane++) lanes[lane] = -INFINITY;
    return rz_load(lanes);
}

/* Turns the scores of one query into softmax weights before the division, zero before `hidden` and from
 * `valid` on.
 * Also returns the maximum of the scores and the sum of the weights. */
RZ_INLINE void rz_weights_(float *scores, int64_t valid, int64_t hidden, float scale, float *maximum, float *sum) {
    const rz_f32x16 none = rz_set1(-INFINITY), zero = rz_set1(0.0f), factor = rz_set1(scale);
    rz_f32x16 most = none, total = zero;
    for (int64_t p = 0; p < valid; p += 16) {
        rz_f32x16 score = rz_keep_first(rz_mul(rz_load(scores + p), factor), valid - p, none);
        if (p < hidden) score = rz_hide_first_(score, hidden - p);
        rz_store(scores + p, score);
        most = rz_max(most, score);
    }
    *maximum = rz_maximum(most);
    const rz_f32x16 shift = rz_set1(*maximum);
    for (int64_t p = 0; p < valid; p += 16) {
        const rz_f32x16 weight = rz_keep_first(rz_exp(rz_sub(rz_load(scores + p), shift)), valid - p, zero);
        total = rz_add(total, weight);
        rz_store(scores + p, weight);
    }
    *sum = rz_sum(total);
}

/* out += sum over positions [begin, end) of weight * v[position], vectors [d, d + 16*vectors). */
RZ_INLINE void rz_values_tile_(const float *const *weights, float *const *out, int queries,
                               int64_t begin, int64_t end, const void *v, int64_t head_dim,
                               int64_t d, int vectors, int kind) {
    rz_f32x16 sums[RZ_TILE_QUERIES][RZ_TILE_VECTORS];
    RZ_UNROLL
    for (int i = 0; i < queries; i++)
        RZ_UNROLL
        for (int j = 0; j < vectors; j++) sums[i][j] = rz_load(out[i] + d + 16 * j);
    for (int64_t p = begin; p < end; p++) {
        rz_f32x16 values[RZ_TILE_VECTORS];
        rz_prefetch_kv_(v, (p + (RZ_KV_AHEAD & rz_prefetch_mask)) * head_dim + d, kind);
        RZ_UNROLL
        for (int j = 0; j < vectors; j++) values[j] = rz_load_kv_(v, p * head_dim + d + 16 * j, kind);
        RZ_UNROLL
        for (int i = 0; i < queries; i++) {
            const rz_f32x16 weight = rz_set1(weights[i][p]);
            RZ_UNROLL
            for (int j = 0; j < vectors; j++) sums[i][j] = rz_add(sums[i][j], rz_mul(weight, values[j]));
        }
    }
    RZ_UNROLL
    for (int i = 0; i < queries; i++)
        RZ_UNROLL
        for (int j = 0; j < vectors; j++) rz_store(out[i] + d + 16 * j, sums[i][j]);
}

RZ_INLINE void rz_values_(const float *const *weights, float *const *out, int queries,
                          int64_t begin, int64_t end, const void *v, int64_t head_dim, int kind) {
    int64_t d = 0;
    for (; d + 16 * RZ_TILE_VECTORS <= head_dim; d += 16 * RZ_TILE_VECTORS)
        rz_values_tile_(weights, out, queries, begin, end, v, head_dim, d, RZ_TILE_VECTORS, kind);
    for (; d + 16 <= head_dim; d += 16)
        rz_values_tile_(weights, out, queries, begin, end, v, head_dim, d, 1, kind);
    if (d < head_dim)
        RZ_UNROLL
        for (int i = 0; i < queries; i++) {
            rz_f32x16 sum = rz_load_n(out[i] + d, head_dim - d);
            for (int64_t p = begin; p < end; p++)
                sum = rz_add(sum, rz_mul(rz_set1(weights[i][p]),
                                         rz_load_kv_n_(v, p * head_dim + d, head_dim - d, kind)));
            rz_store_n(out[i] + d, sum, head_dim - d);
        }
}

RZ_INLINE void rz_attend_block_(const float *q, int64_t q_stride, int64_t n_queries,
                                const int32_t *valid, const int32_t *hidden, int64_t head_dim,
                                float scale, const rz_kv_block *block, float *partial, int kind) {
    RZ_ALIGNED(64) float scores[RZ_MAX_QUERIES][RZ_KV_BLOCK];
    const int64_t stride = head_dim + 2;
    int64_t most_valid = 0;
    for (int64_t i = 0; i < n_queries; i++)
        if (valid[i] > most_valid) most_valid = valid[i];
    rz_scores_(q, q_stride, n_queries, most_valid, head_dim, block->k, scores, kind);
    for (int64_t i = 0; i < n_queries; i++) {
        float *result = partial + i * stride;
        memset(result, 0, (size_t)head_dim * sizeof(float));
        rz_weights_(scores[i], valid[i], hidden ? hidden[i] : 0, scale, result + head_dim, result + head_dim + 1);
    }
    int64_t first = 0;
    for (; first + RZ_TILE_QUERIES <= n_queries; first += RZ_TILE_QUERIES) {
        const float *weights[RZ_TILE_QUERIES];
        float *out[RZ_TILE_QUERIES];
        int64_t common = RZ_KV_BLOCK;
        RZ_UNROLL
        for (int i = 0; i < RZ_TILE_QUERIES; i++) {
            weights[i] = scores[first + i];
            out[i] = partial + (first + i) * stride;
            common = rz_smaller_(common, valid[first + i]);
        }
        rz_values_(weights, out, RZ_TILE_QUERIES, 0, common, block->v, head_dim, kind);
        /* the positions that only the later queries of the tile may see: no query reads others */
        RZ_UNROLL
        for (int i = 0; i < RZ_TILE_QUERIES; i++)
            rz_values_(weights + i, out + i, 1, common, valid[first + i], block->v, head_dim, kind);
    }
    for (; first < n_queries; first++) {
        const float *weights = scores[first];
        float *out = partial + first * stride;
        rz_values_(&weights, &out, 1, 0, valid[first], block->v, head_dim, kind);
    }
}

static void RZ_NAME(rz_attend_combine)(float *running, const float *partial, int64_t head_dim) {
    const float old_maximum = running[head_dim], new_maximum = partial[head_dim];
    const float maximum = old_maximum > new_maximum ? old_maximum : new_maximum;
    float factors[16] = {old_maximum - maximum, new_maximum - maximum};
    rz_store(factors, rz_exp(rz_load(factors)));
    const rz_f32x16 a = rz_set1(factors[0]), b = rz_set1(factors[1]);
    for (int64_t d = 0; d < head_dim; d += 16) {
        const int64_t n = head_dim - d;
        rz_store_n(running + d, rz_add(rz_mul(rz_load_n(running + d, n), a),
                                       rz_mul(rz_load_n(partial + d, n), b)), n);
    }
    running[head_dim] = maximum;
    running[head_dim + 1] = running[head_dim + 1] * factors[0] + partial[head_dim + 1] * factors[1];
}

static void RZ_NAME(rz_attend_finish)(const float *running, int64_t head_dim, float *out) {
    const rz_f32x16 reciprocal = rz_set1(1.0f / running[head_dim + 1]);
    for (int64_t d = 0; d < head_dim; d += 16)
        rz_store_n(out + d, rz_mul(rz_load_n(running + d, head_dim - d), reciprocal), head_dim - d);
}

RZ_INLINE uint16_t rz_to_bf16_(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); /* NaN */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
RZ_INLINE void rz_kv_append_(const float *k, const float *v, int64_t head_dim, int64_t slot,
                             const rz_kv_block *block, int kind) {
    if (kind == RZ_KV_F32) {
        float *keys = (float *)block->k + slot;
        for (int64_t d = 0; d < head_dim; d++) keys[d * RZ_KV_BLOCK] = k[d];
        memcpy((float *)block->v + slot * head_dim, v, (size_t)head_dim * sizeof(float));
    } else {
        uint16_t *keys = (uint16_t *)block->k + slot, *values = (uint16_t *)block->v + slot * head_dim;
        for (int64_t d = 0; d < head_dim; d++) keys[d * RZ_KV_BLOCK] = rz_to_bf16_(k[d]);
        for (int64_t d = 0; d < head_dim; d++) values[d] = rz_to_bf16_(v[d]);
    }
}

#define RZ_ATTENTION_(suffix, kind)                                                               \
    static void RZ_NAME(rz_attend_block_##suffix)(                                                \
        const float *q, int64_t q_stride, int64_t n_queries, const int32_t *valid,                \
        const int32_t *hidden, int64_t head_dim, float scale, const rz_kv_block *block,           \
        float *partial) {                                                                         \
        rz_attend_block_(q, q_stride, n_queries, valid, hidden, head_dim, scale, block, partial,  \
                         kind);                                                                   \
    }                                                                                             \
    static void RZ_NAME(rz_kv_append_##suffix)(const float *k, const float *v, int64_t head_dim,  \
                                               int64_t slot, const rz_kv_block *block) {          \
        rz_kv_append_(k, v, head_dim, slot, block, kind);                                         \
    }
RZ_ATTENTION_(f32, RZ_KV_F32)
RZ_ATTENTION_(bf16, RZ_KV_BF16)

#endif
