/* Float masters by the absmean rule of BitNet b1.58: clamp(round_half_even(w * inverse_scale), -1, 1).
 * Any column and any number of codes. */
#ifndef RZ_SOURCE_MASTERS_H
#define RZ_SOURCE_MASTERS_H

#include "ryzanstein/sources/source.h"

RZ_INLINE void rz_masters_codes(const rz_ternary_source *source, int64_t row, int64_t column, int n, uint8_t *codes) {
    const uint8_t *data = source->data;
    const int64_t first = row * source->columns + column;
    const int kind = source->float_kind;
    const float inverse_scale = source->inverse_scale;
    for (int i = 0; i < n; i++) {
        const float w = rz_widen_(data, first + i, kind) * inverse_scale;
        codes[i] = (uint8_t)(w > 0.5f ? 2 : (w < -0.5f ? 0 : 1)); /* ties go to the even 0 */
    }
}

/* Sum of |w| over one row, in double, in sixteen lanes by index: float32 sums drift by percents. */
static inline double rz_absolute_sum(const void *row, int64_t columns, int kind) {
    double lanes[16] = {0};
    for (int64_t i = 0; i < columns; i++) {
        const float value = rz_widen_(row, i, kind);
        lanes[i & 15] += value < 0 ? -(double)value : (double)value;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

#endif
