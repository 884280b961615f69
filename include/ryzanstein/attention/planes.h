/* Integer sums for attention with vpdpbusd, which multiplies unsigned by signed bytes. So the 16-bit codes of
 * queries and weights are split into two planes of bytes, a = 128 * high + low, each with sums of its own. Planes
 * of queries are signed (high -127..127, low -64..63), to be multiplied by the unsigned bytes of keys; planes of
 * weights are unsigned (0..255, 0..127). scalar.h says what rz_attention_sums_ does.
 *
 * A tier defines before: its vectors of bytes, RZ_VECTOR_LANES_ (32-bit lanes), RZ_TILE_MANY_ (queries that go
 * together, with two vectors), rz_vector_, rz_vector_load_, rz_vector_four_ (four bytes in all lanes), rz_dot_,
 * rz_vector_zero_, and rz_vector_store_sums_ (128 * high + low).
 */
#ifndef RZ_ATTENTION_H
#define RZ_ATTENTION_H

#define RZ_PLANE_BYTES_ (RZ_MAX_HEAD_DIM + 64) /* were it a power of two, planes would share sets of the cache */
#define RZ_PANEL_VECTORS_ (16 / RZ_VECTOR_LANES_)

RZ_INLINE void rz_split_codes_(const int16_t *a, int64_t count, int8_t *high, int8_t *low, int of_keys) {
    const int16_t least = of_keys ? -64 : 0; /* of the low plane */
    for (int64_t i = 0; i < count; i++) {
        const int16_t raised = (int16_t)(a[i] - least);
        high[i] = (int8_t)(raised >> 7);
        low[i] = (int8_t)((raised & 127) + least);
    }
}

/* `queries` queries and `wide` vectors of lanes, both constant. */
RZ_INLINE void rz_attention_tile_(int8_t (*planes)[RZ_PLANE_BYTES_], int queries, const uint8_t *panels, int wide,
                                  int64_t panel_bytes, int64_t depth, int32_t *sums, int64_t sums_stride, int of_keys) {
    rz_vector_ totals[2 * RZ_TILE_MANY_][4];
    RZ_UNROLL
    for (int row = 0; row < 2 * queries; row++)
        RZ_UNROLL
        for (int v = 0; v < wide; v++) totals[row][v] = rz_vector_zero_();
    for (int64_t i = 0; i < depth; i++) {
        rz_vector_ b[4];
        RZ_UNROLL
        for (int v = 0; v < wide; v++) {
            const uint8_t *line = panels + v / RZ_PANEL_VECTORS_ * panel_bytes + 64 * i;
            if (v % RZ_PANEL_VECTORS_ == 0) /* what the next tile reads */
                RZ_PREFETCH(line, wide / RZ_PANEL_VECTORS_ * panel_bytes);
            b[v] = rz_vector_load_(line + v % RZ_PANEL_VECTORS_ * (4 * RZ_VECTOR_LANES_));
        }
        RZ_UNROLL
        for (int row = 0; row < 2 * queries; row++) {
            const rz_vector_ four = rz_vector_four_(planes[row] + 4 * i);
            RZ_UNROLL
            for (int v = 0; v < wide; v++)
                totals[row][v] = of_keys ? rz_dot_(totals[row][v], b[v], four) : rz_dot_(totals[row][v], four, b[v]);
        }
    }
    RZ_UNROLL
    for (int q = 0; q < queries; q++)
        RZ_UNROLL
        for (int v = 0; v < wide; v++)
            rz_vector_store_sums_(sums + q * sums_stride + RZ_VECTOR_LANES_ * v, totals[2 * q][v], totals[2 * q + 1][v]);
}

RZ_INLINE void rz_attention_sums_(const int16_t *a, int64_t a_stride, int64_t queries, const uint8_t *panels,
                              int64_t panel_bytes, int64_t depth, int64_t count, int32_t *sums, int64_t sums_stride,
                              int of_keys) {
    RZ_ALIGNED(64) int8_t planes[2 * RZ_QUERIES_TOGETHER][RZ_PLANE_BYTES_];
    for (int64_t q = 0; q < queries; q++) rz_split_codes_(a + q * a_stride, 4 * depth, planes[2 * q], planes[2 * q + 1], of_keys);
    for (int64_t p = 0; p < count;) {
        const uint8_t *from = panels + p * panel_bytes;
        int32_t *to = sums + 16 * p;
        int64_t q = 0;
        if (p + 4 / RZ_PANEL_VECTORS_ <= count) {
            for (; q + RZ_TILE_MANY_ <= queries; q += RZ_TILE_MANY_)
                for (int pair = 0; pair < 2; pair++)
                    rz_attention_tile_(planes + 2 * q, RZ_TILE_MANY_, from + pair * (2 / RZ_PANEL_VECTORS_) * panel_bytes, 2,
                                   panel_bytes, depth, to + q * sums_stride + pair * 2 * RZ_VECTOR_LANES_, sums_stride,
                                   of_keys);
            for (; q < queries; q++)
                rz_attention_tile_(planes + 2 * q, 1, from, 4, panel_bytes, depth, to + q * sums_stride, sums_stride, of_keys);
            p += 4 / RZ_PANEL_VECTORS_;
        } else {
            for (; q + RZ_TILE_MANY_ <= queries; q += RZ_TILE_MANY_)
                rz_attention_tile_(planes + 2 * q, RZ_TILE_MANY_, from, RZ_PANEL_VECTORS_, panel_bytes, depth,
                               to + q * sums_stride, sums_stride, of_keys);
            for (; q < queries; q++)
                rz_attention_tile_(planes + 2 * q, 1, from, RZ_PANEL_VECTORS_, panel_bytes, depth, to + q * sums_stride,
                               sums_stride, of_keys);
            p++;
        }
    }
}

#endif
