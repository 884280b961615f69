/* Vectors that are not full: missing lanes are loaded as +0 and not stored. */
#ifndef RZ_OPS_TAIL_H
#define RZ_OPS_TAIL_H

RZ_INLINE rz_f32x16 rz_load_n(const float *from, int64_t n) {
    if (n >= 16) return rz_load(from);
    float lanes[16] = {0};
    memcpy(lanes, from, (size_t)n * sizeof(float));
    return rz_load(lanes);
}
RZ_INLINE void rz_store_n(float *to, rz_f32x16 a, int64_t n) {
    if (n >= 16) {
        rz_store(to, a);
        return;
    }
    float lanes[16];
    rz_store(lanes, a);
    memcpy(to, lanes, (size_t)n * sizeof(float));
}
/* Sixteen stored floats as float32. `kind`, an rz_float_kind, is a compile-time constant. */
RZ_INLINE rz_f32x16 rz_load_float(const void *base, int64_t index, int kind) {
    if (kind == RZ_FLOAT_F32) return rz_load((const float *)base + index);
    if (kind == RZ_FLOAT_BF16) return rz_load_bf16((const uint16_t *)base + index);
    return rz_load_f16((const uint16_t *)base + index);
}
RZ_INLINE rz_f32x16 rz_load_float_n(const void *base, int64_t index, int64_t n, int kind) {
    if (n >= 16) return rz_load_float(base, index, kind);
    const size_t size = kind == RZ_FLOAT_F32 ? 4 : 2;
    float lanes[16] = {0}; /* zero bits are +0 in every kind */
    memcpy(lanes, (const char *)base + (size_t)index * size, (size_t)n * size);
    return rz_load_float(lanes, 0, kind);
}

#endif
