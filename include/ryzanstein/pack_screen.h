/* Packs the screen of the head (see kernels.h), in portable C: codes, scales and error norms of the float
 * rows when a model is loaded, and those of each hidden state. */
#ifndef RZ_PACK_SCREEN_H
#define RZ_PACK_SCREEN_H

#include <math.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/widen.h"

/* A group of floats from `index` on as float32. If only `left` floats are left, zeros follow. */
RZ_INLINE int rz_widen_group_(const void *weights, int64_t index, int64_t left, int kind, float *values) {
    const int n = left < RZ_SCREEN_GROUP ? (int)left : RZ_SCREEN_GROUP;
    if (kind == RZ_FLOAT_BF16 && n == RZ_SCREEN_GROUP) { /* the common case, in a form that vectorises */
        uint16_t halves[RZ_SCREEN_GROUP];
        uint32_t bits[RZ_SCREEN_GROUP];
        memcpy(halves, (const char *)weights + 2 * index, sizeof halves);
        for (int k = 0; k < RZ_SCREEN_GROUP; k++) bits[k] = (uint32_t)halves[k] << 16;
        memcpy(values, bits, sizeof bits);
        return n;
    }
    for (int k = 0; k < n; k++) values[k] = rz_widen_(weights, index + k, kind);
    for (int k = n; k < RZ_SCREEN_GROUP; k++) values[k] = 0.0f;
    return n;
}

/* Squares of errors might underflow or overflow in a row whose largest weight is outside of these bounds.
 * All codes of such a row are zero, and |e| bounds the whole row. Within the bounds, what underflow loses is
 * far less than what rz_screen_codes allows for roundings. */
#define RZ_SCREEN_LEAST_ 1e-12f
#define RZ_SCREEN_MOST_ 1e15f
/* The least |e|: not zero, so that an infinite size of a hidden state makes the bound infinite. It is more
 * than the norm of 65,536 weights (RZ_MAX_SCREEN_COLUMNS) of 1e-18, which is 256 * 1e-18. */
#define RZ_SCREEN_LEAST_ERROR_ 2.6e-16f

/* Writes the largest |w| of each group of a row, and returns that of the row. NaN counts as the largest. */
RZ_INLINE float rz_screen_largest_(const void *weights, int kind, int64_t first, int64_t columns, float *largest) {
    int32_t row = 0;
    float most;
    for (int64_t i = 0; i < columns; i += RZ_SCREEN_GROUP) {
        float values[RZ_SCREEN_GROUP];
        int32_t bits[RZ_SCREEN_GROUP], group = 0; /* of |w|: as integers they are in the order of the floats, NaN last */
        rz_widen_group_(weights, first + i, columns - i, kind, values);
        memcpy(bits, values, sizeof bits);
        for (int k = 0; k < RZ_SCREEN_GROUP; k++) {
            bits[k] &= 0x7fffffff;
            group = bits[k] > group ? bits[k] : group;
        }
        memcpy(largest + i / RZ_SCREEN_GROUP, &group, 4);
        row = group > row ? group : row;
    }
    memcpy(&most, &row, 4);
    return most;
}

/* Rounds a positive normal number up to eleven significant bits. Its product with a scale of seven bits and a
 * code of six bits is then exact. */
RZ_INLINE float rz_round_up_to_eleven_bits_(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = (bits + 0x1fff) & ~(uint32_t)0x1fff;
    memcpy(&value, &bits, 4);
    return value;
}

/* Packs the 64 codes of a row in a group into the lines of a tile. `to` is byte 4*row of the first line. */
RZ_INLINE void rz_screen_pack_group_(const uint8_t *codes, uint8_t *to) {
    for (int quarter = 0; quarter < 4; quarter++) {
        uint32_t words[4];
        memcpy(words, codes + 16 * quarter, 16);
        words[0] |= (words[3] & 0x03030303u) << 6;
        words[1] |= (words[3] >> 2 & 0x03030303u) << 6;
        words[2] |= (words[3] >> 4 & 0x03030303u) << 6;
        for (int line = 0; line < 3; line++) memcpy(to + 192 * quarter + 64 * line, words + line, 4);
    }
}

/* Packs row `row` of the block `to`. stats: d, |e| and |w^|, `stride` floats apart. If a weight is not finite,
 * d is -1. */
static inline void rz_pack_screen_row_(const void *weights, int kind, int64_t first, int64_t columns, int row,
                                       uint8_t *to, float *stats, int64_t stride) {
    const int64_t groups = (columns + RZ_SCREEN_GROUP - 1) / RZ_SCREEN_GROUP;
    uint8_t *scales = to + row;
    uint8_t *lines = to + RZ_SCREEN_ROWS * groups + row / 16 * RZ_SCREEN_TILE_BYTES + row % 16 * 4;
    float largest[RZ_MAX_SCREEN_COLUMNS / RZ_SCREEN_GROUP];
    const float most = rz_screen_largest_(weights, kind, first, columns, largest);
    const int usable = most > RZ_SCREEN_LEAST_ && most < RZ_SCREEN_MOST_;
    /* The largest weight is 31.5 steps. If it rounds to 32, its code is 31 all the same. */
    const float d = usable ? rz_round_up_to_eleven_bits_(most / (31.5f * 127.0f)) : 0.0f;
    float squares[16] = {0}, errors[16] = {0}, square = 0.0f, error = 0.0f;
    for (int64_t g = 0; g < groups; g++) {
        float values[RZ_SCREEN_GROUP];
        uint8_t codes[RZ_SCREEN_GROUP];
        const float steps = usable ? ceilf(largest[g] / (31.5f * d)) : 0.0f;
        const float scale = steps > 127.0f ? 127.0f : steps, step = d * scale;
        const float inverse = scale > 0.0f ? 1.0f / step : 0.0f;
        scales[RZ_SCREEN_ROWS * g] = (uint8_t)scale;
        memset(codes, 32, sizeof codes);
        if (scale > 0.0f) {
            rz_widen_group_(weights, first + RZ_SCREEN_GROUP * g, columns - RZ_SCREEN_GROUP * g, kind, values);
            for (int i = 0; i < RZ_SCREEN_GROUP; i += 16)
                for (int lane = 0; lane < 16; lane++) {
                    const float w = values[i + lane];
                    float code = w * inverse + 12582912.0f; /* 1.5 * 2^23: the integer is in the last bits */
                    uint32_t bits;
                    code = code < 12582943.0f ? code : 12582943.0f;
                    memcpy(&bits, &code, 4);
                    codes[i + lane] = (uint8_t)(bits + 32u);
                    const float e = w - step * (code - 12582912.0f); /* exact except for the last bit */
                    errors[lane] += e * e;
                    squares[lane] += w * w;
                }
        }
        rz_screen_pack_group_(codes, lines + 4 * RZ_SCREEN_TILE_BYTES * g);
    }
    for (int lane = 0; lane < 16; lane++) {
        error += errors[lane];
        square += squares[lane];
    }
    /* columns/16 + 20 roundings of 2^-24, of which the root halves the effect: at most 1.3e-4 */
    error = sqrtf(error) * 1.0003f;
    stats[0] = d;
    stats[stride] = error > RZ_SCREEN_LEAST_ERROR_ ? error : RZ_SCREEN_LEAST_ERROR_;
    stats[2 * stride] = sqrtf(square) * 1.0003f + error; /* |w^| <= |w| + |e| */
    if (usable) return;
    stats[2 * stride] = 0.0f;
    stats[stride] = most < 1e-18f ? RZ_SCREEN_LEAST_ERROR_ : most <= RZ_SCREEN_LEAST_ ? 260.0f * most
                                                                                      : INFINITY;
    if (!(most <= 3.4028235e38f)) stats[0] = -1.0f;
}

/* Packs one block of rows. `blocks` holds all blocks; stats (3, stride): d, |e| and |w^| of all rows. */
static inline void rz_pack_screen_block(const void *weights, int kind, int64_t rows, int64_t columns, int64_t block,
                                        uint8_t *blocks, float *stats, int64_t stride) {
    const int64_t groups = (columns + RZ_SCREEN_GROUP - 1) / RZ_SCREEN_GROUP;
    const int64_t first = RZ_SCREEN_ROWS * block, end = first + RZ_SCREEN_ROWS;
    uint8_t *to = blocks + block * RZ_SCREEN_BLOCK_BYTES(groups);
    if (end > rows) memset(to, 0, (size_t)RZ_SCREEN_BLOCK_BYTES(groups));
    for (int64_t row = first; row < end; row++) {
        if (row < rows) {
            rz_pack_screen_row_(weights, kind, row * columns, columns, (int)(row - first), to, stats + row, stride);
        } else { /* past the end: an infinite error, so never the largest lower bound */
            stats[row] = stats[2 * stride + row] = 0.0f;
            stats[stride + row] = INFINITY;
        }
    }
}

/* Writes the codes, scales and norms of hidden state t, x (columns,). */
static inline void rz_screen_codes(const float *x, int64_t columns, int64_t groups, int64_t t, const rz_screen_inputs *to) {
    double lanes[8] = {0}, rests[8] = {0}, size = 0.0, rest = 0.0;
    float most = 0.0f;
    for (int64_t i = 0; i < columns; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        most = magnitude > most ? magnitude : most;
        lanes[i % 8] += (double)x[i] * (double)x[i];
    }
    for (int i = 0; i < 8; i++) size += lanes[i];
    size = sqrt(size);
    const int usable = size == 0.0 || (most > 1e-10f && size < 1e15); /* false for NaN */
    for (int64_t g = 0; g < groups; g++) {
        const int64_t first = RZ_SCREEN_GROUP * g, left = columns - first;
        int8_t *codes = to->codes + RZ_SCREEN_GROUP * (t * groups + g);
        float values[RZ_SCREEN_GROUP] = {0}, largest = 0.0f;
        int32_t sum = 0;
        if (usable) memcpy(values, x + first, sizeof(float) * (size_t)(left < RZ_SCREEN_GROUP ? left : RZ_SCREEN_GROUP));
        for (int k = 0; k < RZ_SCREEN_GROUP; k++) {
            const float magnitude = values[k] < 0 ? -values[k] : values[k];
            largest = magnitude > largest ? magnitude : largest;
        }
        /* a group with only tiny values belongs to |r|, so that no product of scales underflows */
        const float scale = largest > 1e-9f * most ? largest / 127.0f : 0.0f;
        const float inverse = scale > 0.0f ? 127.0f / largest : 0.0f;
        for (int k = 0; k < RZ_SCREEN_GROUP; k++) {
            /* 1.5 * 2^23 leaves the integer in the last bits, without branches, which would depend on the
             * random signs of activations */
            const float rounded = values[k] * inverse + 12582912.0f;
            int32_t bits;
            memcpy(&bits, &rounded, 4);
            codes[k] = (int8_t)(bits - 0x4b400000);
            sum += codes[k];
            const double r = (double)values[k] - (double)scale * (double)codes[k];
            rests[k % 8] += r * r;
        }
        to->scales[t * groups + g] = scale;
        to->offsets[t * groups + g] = -32 * sum;
    }
    for (int i = 0; i < 8; i++) rest += rests[i];
    rest = sqrt(rest);
    /* Allows for roundings of 2^-24 in float sums: of at most |w||x| <= (|w^| + |e|) |x| in the dot product
     * of the full head, and of at most |w^| (|x| + |r|) in the approximation. Even the smallest allowance
     * (40 roundings, a weight of 1e-12, an x of 1e-10) is more than all underflows. The last factors allow
     * for the roundings of norms, margin and bounds themselves. */
    const double roundings = ((double)columns / 16.0 + (double)groups + 40.0) * 6.0e-8;
    to->size[t] = usable ? (float)(size * (1.0 + roundings) * 1.000001 + 1e-30) : INFINITY;
    to->rest[t] = usable ? (float)((rest + roundings * (size + rest)) * 1.000001) : 0.0f;
}

#endif
