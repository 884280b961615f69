/* How fast tile registers multiply int8 on this machine, without loads: six independent sums hide the latency of
 * 52 cycles. */
#ifndef RZ_LIMITS_AMX_H
#define RZ_LIMITS_AMX_H

#define RZ_TILE_PEAK_PRODUCTS_ (6 * 16 * 16 * 64)

static int64_t rz_tile_multiply_peak(int64_t rounds) {
    RZ_ALIGNED(64)
    int32_t values[256];
    rz_tile_shapes shapes;
    memset(values, (int)(rounds & 1), sizeof values);
    memset(&shapes, 0, sizeof shapes);
    shapes.palette = 1;
    for (int i = 0; i < 8; i++) shapes.row_bytes[i] = 64, shapes.rows[i] = 16;
    rz_tiles_configure_(&shapes);
    rz_tile_load_(6, values, 64);
    rz_tile_load_(7, values, 64);
    rz_clear_sums_();
    rz_tile_clear_(4);
    rz_tile_clear_(5);
    for (int64_t round = 0; round < rounds; round++) {
        rz_tiles_multiply_(0, 6, 7);
        rz_tiles_multiply_(1, 6, 7);
        rz_tiles_multiply_(2, 6, 7);
        rz_tiles_multiply_(3, 6, 7);
        rz_tiles_multiply_(4, 6, 7);
        rz_tiles_multiply_(5, 6, 7);
    }
    rz_tile_store_(5, values, 64);
    rz_tiles_release_();
    return values[0];
}

#endif
