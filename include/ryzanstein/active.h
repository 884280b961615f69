/* Lists of the weights that a product needs: rows whose gate is not <= 0, and columns whose activation
 * is not zero. Portable C without branches on the data, because the data are random.
 *
 * relu2(gate) * up is zero if gate <= 0, whatever `up` is, and an activation of zero adds nothing to
 * a sum. So leaving these weights out changes no result. A gate of NaN is listed, because NaN has to
 * reach the result.
 */
#ifndef RZ_ACTIVE_H
#define RZ_ACTIVE_H

#include <string.h>

#include "ryzanstein/kernels.h"

/* Lists the rows of [begin, end) for which some token's gate is not <= 0, and returns their number.
 * gates: (n, stride) floats. */
static inline int64_t rz_active_rows(const float *gates, int64_t stride, int64_t n, int64_t begin,
                                     int64_t end, int32_t *rows) {
    int64_t count = 0;
    for (int64_t row = begin; row < end; row++) {
        int open = 0;
        for (int64_t t = 0; t < n; t++) open |= !(gates[t * stride + row] <= 0.0f);
        rows[count] = (int32_t)row;
        count += open;
    }
    return count;
}

/* Lists the columns of [begin, end) for which some token's code is not 0, with the codes of all tokens as
 * values (n, values_stride), and returns their number. Columns with codes of 0 fill up both lists to a
 * multiple of RZ_LIST_STEP and are not counted. Both need room for end - begin + RZ_LIST_STEP. */
static inline int64_t rz_active_columns(const rz_activations *x, int64_t begin, int64_t end,
                                        int32_t *columns, int8_t *values, int64_t values_stride) {
    int64_t count = 0;
    for (int64_t column = begin; column < end; column++) {
        int any = 0;
        for (int64_t t = 0; t < x->n; t++) {
            const int8_t code = x->codes[t * x->stride + column];
            values[t * values_stride + count] = code;
            any |= code;
        }
        columns[count] = (int32_t)column;
        count += any != 0;
    }
    for (int64_t k = count; k % RZ_LIST_STEP; k++) {
        columns[k] = (int32_t)begin;
        for (int64_t t = 0; t < x->n; t++) values[t * values_stride + k] = 0;
    }
    return count;
}

#endif
