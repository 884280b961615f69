/* The int8 screen of the head: codes and scales of float rows, once at load, and the two planes of
 * a hidden state with the bound that makes the screen honest (see kernels.h). Portable C. */
#ifndef RZ_PACK_SCREEN_H
#define RZ_PACK_SCREEN_H

#include <math.h>
#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/widen.h"

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
            scales[row] = most <= 1e-20f ? 1e-18f : most <= 3.4e38f ? INFINITY
                                                                    : NAN;
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

/* round(values * scale) of RZ_PACK_CHUNK values, as int8: 1.5 * 2^23 leaves the integer in the last
 * bits. Without branches, which the signs of activations would make guesses of. */
RZ_INLINE void rz_round_chunk_(const float *values, float scale, int8_t *codes) {
    for (int k = 0; k < RZ_PACK_CHUNK; k++) {
        const float rounded = values[k] * scale + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &rounded, 4);
        codes[k] = (int8_t)(bits - 0x4b400000);
    }
}

/* The two planes of a hidden state, and the bound that makes the screen honest. */
static inline void rz_screen_planes(const float *x, int64_t columns, int64_t padded, int8_t *coarse,
                                    int8_t *fine, rz_screen_input *input) {
    double lanes[8] = {0}, norm1 = 0.0;
    float most = 0.0f;
    for (int64_t i = 0; i < columns; i++) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        most = size > most ? size : most;
        lanes[i % 8] += (double)size;
    }
    for (int i = 0; i < 8; i++) norm1 += lanes[i];
    const int usable = norm1 == 0.0 || (most > 1e-10f && norm1 < 1e15); /* false for NaN */
    const float s1 = usable && norm1 != 0.0 ? most / 127.0f : 1.0f, s2 = s1 / 254.0f;
    const float inverse1 = 1.0f / s1, inverse2 = 1.0f / s2;
    input->coarse_sum = input->fine_sum = 0;
    for (int64_t i = 0; i < padded; i += RZ_PACK_CHUNK) {
        const int64_t left = columns - i < RZ_PACK_CHUNK ? columns - i : RZ_PACK_CHUNK;
        const int64_t room = padded - i < RZ_PACK_CHUNK ? padded - i : RZ_PACK_CHUNK;
        float chunk[RZ_PACK_CHUNK] = {0};
        int8_t a[RZ_PACK_CHUNK], b[RZ_PACK_CHUNK];
        if (usable && left > 0) memcpy(chunk, x + i, (size_t)left * sizeof(float));
        rz_round_chunk_(chunk, inverse1, a);
        for (int k = 0; k < RZ_PACK_CHUNK; k++) {
            /* within half a step of s1 = 254 s2, but for roundings: kept within a code's range */
            const float rest = chunk[k] - s1 * (float)a[k], largest = 127.0f * s2;
            chunk[k] = rest > largest ? largest : rest < -largest ? -largest
                                                                  : rest;
        }
        rz_round_chunk_(chunk, inverse2, b);
        for (int k = 0; k < RZ_PACK_CHUNK; k++) {
            input->coarse_sum += a[k];
            input->fine_sum += b[k];
        }
        memcpy(coarse + i, a, (size_t)room);
        memcpy(fine + i, b, (size_t)room);
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

#endif
