/* From checkpoint weights to the tiles of kernels.h, and from a hidden state to the planes of the
 * head screen. Portable C; all but the last function is used once at load.
 *
 * Four codes as the bytes of one 32-bit word are the unit: a tile's row is
 * columns 0-3 | columns 4-7 << 2 | columns 8-11 << 4 | columns 12-15 << 6.
 */
#ifndef RZ_PACK_H
#define RZ_PACK_H

#include <math.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"

/* codes: 16 bytes in 0..3. Sets *bad to non-zero if any is 3. */
RZ_INLINE uint32_t rz_pack_row_(const uint8_t *codes, uint32_t *bad) {
    uint32_t words[4];
    memcpy(words, codes, 16);
    for (int i = 0; i < 4; i++) *bad |= words[i] & (words[i] >> 1) & 0x01010101u;
    return words[0] | words[1] << 2 | words[2] << 4 | words[3] << 6;
}
#define RZ_PADDING_ROW 0x55555555u /* code 1 in every column */

RZ_INLINE void rz_put_row_(uint8_t *tiles, int64_t column_tiles, int64_t row, int64_t c, uint32_t word) {
    memcpy(tiles + ((row / 16) * column_tiles + c) * RZ_TILE_BYTES + 4 * (row % 16), &word, 4);
}

/* One row tile from the Hugging Face layout: byte [r, c] of (ceil(rows/4), columns) holds rows
 * r, r + R, r + 2R, r + 3R in bit pairs 0, 2, 4, 6. Returns non-zero if a code 3 was met. */
static inline uint32_t rz_pack_hf_tile(const uint8_t *packed, int64_t rows, int64_t columns, int64_t tile,
                                uint8_t *tiles) {
    const int64_t quarter = (rows + 3) / 4, column_tiles = (columns + 15) / 16;
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++) {
        if (row >= rows) {
            for (int64_t c = 0; c < column_tiles; c++) rz_put_row_(tiles, column_tiles, row, c, RZ_PADDING_ROW);
            continue;
        }
        const uint8_t *from = packed + (row % quarter) * columns;
        const int shift = (int)(2 * (row / quarter));
        for (int64_t c = 0; c < column_tiles; c++) {
            const int64_t left = columns - 16 * c;
            uint8_t codes[16];
            if (left >= 16) {
                uint64_t words[2];
                memcpy(words, from + 16 * c, 16);
                words[0] = words[0] >> shift & 0x0303030303030303u;
                words[1] = words[1] >> shift & 0x0303030303030303u;
                memcpy(codes, words, 16);
            } else {
                for (int i = 0; i < 16; i++)
                    codes[i] = i < left ? (uint8_t)(from[16 * c + i] >> shift & 3) : 1;
            }
            rz_put_row_(tiles, column_tiles, row, c, rz_pack_row_(codes, &bad));
        }
    }
    return bad;
}

RZ_INLINE float rz_widen_(const void *values, int64_t index, int kind) {
    if (kind == RZ_FLOAT_F32) {
        float value;
        memcpy(&value, (const char *)values + 4 * index, 4);
        return value;
    }
    uint16_t half;
    memcpy(&half, (const char *)values + 2 * index, 2);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    if (kind == RZ_FLOAT_F16) {
        const uint32_t sign = bits & 0x80000000u, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
        if (exponent == 0) {
            value = (float)fraction * 5.9604644775390625e-8f; /* 2^-24 */
            memcpy(&bits, &value, 4);
        } else {
            bits = (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13;
        }
        bits |= sign;
    }
    memcpy(&value, &bits, 4);
    return value;
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

/* One row tile from float weights: t = clamp(round_half_even(w * inverse_scale), -1, 1). */
static inline void rz_pack_float_tile(const void *weights, int kind, int64_t rows, int64_t columns, float inverse_scale,
                               int64_t tile, uint8_t *tiles) {
    const int64_t column_tiles = (columns + 15) / 16;
    uint32_t bad = 0;
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++)
        for (int64_t c = 0; c < column_tiles; c++) {
            uint8_t codes[16];
            for (int i = 0; i < 16; i++) {
                const int64_t column = 16 * c + i;
                const float w = row < rows && column < columns
                                    ? rz_widen_(weights, row * columns + column, kind) * inverse_scale : 0.0f;
                codes[i] = (uint8_t)(w > 0.5f ? 2 : w < -0.5f ? 0 : 1); /* ties go to the even 0 */
            }
            rz_put_row_(tiles, column_tiles, row, c, rz_pack_row_(codes, &bad));
        }
}

#define RZ_PACK_CHUNK 64
/* Up to RZ_PACK_CHUNK floats from `index` on, zeros after the last; returns how many. */
RZ_INLINE int rz_widen_chunk_(const void *weights, int64_t index, int64_t left, int kind, float *chunk) {
    const int n = left < RZ_PACK_CHUNK ? (int)left : RZ_PACK_CHUNK;
    if (kind == RZ_FLOAT_BF16 && n == RZ_PACK_CHUNK) { /* the common case, which vectorises */
        uint16_t halves[RZ_PACK_CHUNK];
        uint32_t bits[RZ_PACK_CHUNK];
        memcpy(halves, (const char *)weights + 2 * index, sizeof halves);
        for (int k = 0; k < RZ_PACK_CHUNK; k++) bits[k] = (uint32_t)halves[k] << 16;
        memcpy(chunk, bits, sizeof bits);
        return n;
    }
    for (int k = 0; k < n; k++) chunk[k] = rz_widen_(weights, index + k, kind);
    for (int k = n; k < RZ_PACK_CHUNK; k++) chunk[k] = 0.0f;
    return n;
}

/* Codes and scales of one row tile of the head screen (see kernels.h) from float rows. */
static inline void rz_pack_screen_tile(const void *weights, int kind, int64_t rows, int64_t columns,
                                       int64_t tile, uint8_t *tiles, float *scales) {
    const int64_t groups = (columns + 3) / 4;
    uint8_t *to = tiles + tile * groups * 64;
    float chunk[RZ_PACK_CHUNK];
    memset(to, 128, (size_t)(groups * 64));
    for (int64_t row = 16 * tile; row < 16 * (tile + 1); row++) {
        float most;
        int32_t largest = 0;
        for (int64_t i = 0; row < rows && i < columns; i += RZ_PACK_CHUNK) {
            rz_widen_chunk_(weights, row * columns + i, columns - i, kind, chunk);
            int32_t bits[RZ_PACK_CHUNK]; /* of |w|: they order as the floats do, NaN last */
            memcpy(bits, chunk, sizeof bits);
            for (int k = 0; k < RZ_PACK_CHUNK; k++) {
                bits[k] &= 0x7fffffff;
                largest = bits[k] > largest ? bits[k] : largest;
            }
        }
        memcpy(&most, &largest, 4);
        scales[row] = most / 127.0f;
        if (most == 0.0f) continue; /* exact */
        if (!(most > 1e-20f && most < 1e20f)) {
            /* Rounding to codes might overflow or underflow: codes of zero, and a scale that makes
             * the bound cover the whole row. NaN is for the caller to refuse. */
            scales[row] = most <= 1e-20f ? 1e-18f : most <= 3.4e38f ? INFINITY : NAN;
            continue;
        }
        const float inverse = 127.0f / most;
        for (int64_t i = 0; i < columns; i += RZ_PACK_CHUNK) {
            const int n = rz_widen_chunk_(weights, row * columns + i, columns - i, kind, chunk);
            uint8_t codes[RZ_PACK_CHUNK];
            for (int k = 0; k < RZ_PACK_CHUNK; k++) {
                const float rounded = chunk[k] * inverse + 12582912.0f; /* 1.5 * 2^23: the code is */
                uint32_t bits;                                          /* in the last bits */
                memcpy(&bits, &rounded, 4);
                codes[k] = (uint8_t)(bits + 128u);
            }
            for (int k = 0; k < n; k += 4) /* past n: 0, which is code 128 */
                memcpy(to + ((i + k) / 4) * 64 + 4 * (row % 16), codes + k, 4);
        }
    }
}

/* The two planes of a hidden state, and the bound that makes the screen honest. */
static inline void rz_screen_planes(const float *x, int64_t columns, int64_t padded, int8_t *coarse,
                                    int8_t *fine, rz_screen_input *input) {
    double norm1 = 0.0;
    float most = 0.0f;
    for (int64_t i = 0; i < columns; i++) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        most = size > most ? size : most;
        norm1 += (double)size;
    }
    const int usable = norm1 == 0.0 || (most > 1e-10f && norm1 < 1e15); /* false for NaN */
    const float s1 = usable && norm1 != 0.0 ? most / 127.0f : 1.0f, s2 = s1 / 254.0f;
    input->coarse_sum = input->fine_sum = 0;
    for (int64_t i = 0; i < padded; i++) {
        const float value = usable && i < columns ? x[i] : 0.0f, scaled = value / s1;
        const int a = (int)(scaled < 0 ? scaled - 0.5f : scaled + 0.5f);
        const float rest = (value - s1 * (float)a) / s2;
        const int b = (int)(rest < 0 ? rest - 0.5f : rest + 0.5f);
        coarse[i] = (int8_t)a;
        fine[i] = (int8_t)(b > 127 ? 127 : b < -127 ? -127 : b);
        input->coarse_sum += coarse[i];
        input->fine_sum += fine[i];
    }
    input->coarse = coarse;
    input->fine = fine;
    input->coarse_scale = s1;
    input->fine_scale = s2;
    /* In units of the row scale d, each term rounded up:
     *   weights  |w - d c| <= d/2                           0.5 |x|_1
     *   planes   |rest| <= s2/2, |c| <= 127                 0.5 * 127 columns s2
     *   the float dot of the full head and of this sum: columns/16 + 20 roundings of 2^-24,
     *            of at most 127 |x|_1 and of 127 s1 * 127 columns
     * The factors leave 2 % for the roundings of these sums themselves. */
    const double n = (double)columns;
    input->bound = (float)(0.51 * norm1 + 0.51 * 127.0 * n * (double)s2 +
                           (n / 16.0 + 20.0) * 6.0e-8 * 127.0 * norm1 +
                           6.0e-7 * 127.0 * 127.0 * n * (double)s1);
    if (!usable) input->bound = INFINITY;
}

/* Back to -1, 0, 1: for tests and inspection. */
static inline void rz_unpack_row(const uint8_t *tiles, int64_t columns, int64_t row, int8_t *out) {
    const int64_t column_tiles = (columns + 15) / 16;
    for (int64_t column = 0; column < columns; column++) {
        const uint8_t *tile = tiles + ((row / 16) * column_tiles + column / 16) * RZ_TILE_BYTES;
        const int within = (int)(column % 16);
        out[column] = (int8_t)((tile[4 * (row % 16) + within % 4] >> (2 * (within / 4)) & 3) - 1);
    }
}

#endif
