/* A ternary matrix as a checkpoint stores it, and what its encodings have in common.
 *
 * Each file beside this one reads one encoding: rz_<encoding>_block gives the 64 codes of a row from a
 * column that is a multiple of 64, rz_<encoding>_scale the scale of the group that a column is in.
 * read.h chooses among them. Data are read byte by byte, so no pointer needs alignment.
 */
#ifndef RZ_SOURCE_H
#define RZ_SOURCE_H

#include <string.h>

#include "ryzanstein/kernels.h"
#include "ryzanstein/target.h"
#include "ryzanstein/widen.h"

/* In the order of kernels/encodings.py. */
enum rz_encoding {
    RZ_ENCODING_HF_PACKED = 0,
    RZ_ENCODING_MASTERS = 1,
    RZ_ENCODING_TERNARY_FLOATS = 2,
    RZ_ENCODING_I2_S = 3,
    RZ_ENCODING_TQ1_0 = 4,
    RZ_ENCODING_TQ2_0 = 5,
    RZ_ENCODING_Q2_0 = 6,
    RZ_ENCODING_PTQ1_0 = 7,
    RZ_ENCODING_MLX2 = 8,
    RZ_ENCODING_STQ1_0 = 9,
    RZ_ENCODING_IQ1_BN = 10,
    RZ_ENCODING_IQ2_BN = 11,
    RZ_ENCODING_I2_S_ARM = 12
};

/* What can be wrong with the data, as bits. */
enum rz_source_problem {
    RZ_PROBLEM_CODE = 1,   /* a code is 3 */
    RZ_PROBLEM_FLOATS = 2, /* a float is neither 0 nor plus or minus the scale of its group */
    RZ_PROBLEM_SCALE = 4,  /* a scale is negative, NaN or infinite */
    RZ_PROBLEM_HALF = 8,   /* a scale is no fp16 number */
    RZ_PROBLEM_BIAS = 16,  /* a bias is not minus its scale */
    RZ_PROBLEM_SCALES = 32 /* there are several scales where one is wanted */
};

typedef struct rz_ternary_source {
    int encoding;
    const uint8_t *data;   /* first byte of row 0 */
    int64_t row_bytes;     /* from a row to the next; not of HF_PACKED */
    const uint8_t *scales; /* MLX2: floats (rows, columns / group_columns), */
    const uint8_t *biases; /* and the like */
    int64_t rows, columns;
    int64_t group_columns; /* columns that have one scale */
    int64_t head_dim;      /* rows of a head whose two halves are interleaved, as llama.cpp stores q and k;
                              0: rows are in their order */
    int float_kind;        /* MASTERS, TERNARY_FLOATS, MLX2 */
    float inverse_scale;   /* MASTERS */
    float scale;           /* HF_PACKED, MASTERS: of the whole matrix */
} rz_ternary_source;

#define RZ_SOURCE_CODES 64
#define RZ_PADDING_CODE 1

/* The stored row that holds output row `row`. Row (half i, place j) of a head is stored at 2*j + i. */
RZ_INLINE int64_t rz_source_row_(const rz_ternary_source *source, int64_t row) {
    if (!source->head_dim) return row;
    const int64_t within = row % source->head_dim, half = source->head_dim / 2;
    return row - within + 2 * (within % half) + within / half;
}

RZ_INLINE float rz_half_at_(const uint8_t *bytes) { return rz_widen_(bytes, 0, RZ_FLOAT_F16); }
RZ_INLINE float rz_float_at_(const uint8_t *bytes) { return rz_widen_(bytes, 0, RZ_FLOAT_F32); }

/* Non-zero if one of 64 codes is 3. */
RZ_INLINE uint32_t rz_invalid_codes_(const uint8_t *codes) {
    uint8_t bad = 0;
    for (int i = 0; i < RZ_SOURCE_CODES; i++) bad |= codes[i] & codes[i] >> 1;
    return bad;
}

/* 64 codes that are in 16 bytes in their order, lowest bits first. Bit pair p of a byte goes to the lowest
 * bits of byte p of a word. */
RZ_INLINE uint32_t rz_codes_in_order_(const uint8_t *bytes, uint8_t *codes) {
    for (int i = 0; i < RZ_SOURCE_CODES / 4; i++) {
        const uint32_t byte = bytes[i];
        const uint32_t word = (byte | byte << 6 | byte << 12 | byte << 18) & 0x03030303u;
        memcpy(codes + 4 * i, &word, 4);
    }
    return rz_invalid_codes_(codes);
}

/* From 32 codes in their order, lowest bits first, to the words of two tiles (kernels.h): in each word, pair p of
 * byte b becomes pair b of byte p. Swaps neighbours, then pairs of neighbours. */
RZ_INLINE uint64_t rz_transposed_pairs_(uint64_t words) {
    uint64_t changed = (words ^ words >> 6) & 0x00cc00cc00cc00ccu;
    words ^= changed ^ changed << 6;
    changed = (words ^ words >> 12) & 0x0000f0f00000f0f0u;
    return words ^ changed ^ changed << 12;
}

/* 64 codes that are in so many bytes, the constant `wide`: each bit pair of them holds neighbours, the first
 * at `shift` and the next `step` further. */
RZ_INLINE uint32_t rz_codes_by_pair_(const uint8_t *bytes, int wide, int shift, int step, uint8_t *codes) {
    for (int p = 0; p < RZ_SOURCE_CODES / wide; p++)
        for (int i = 0; i < wide; i++) codes[wide * p + i] = bytes[i] >> (shift + step * p) & 3;
    return rz_invalid_codes_(codes);
}

/* Digits of bytes that are numbers of base 3, scaled up to a byte (ternary/trits.h): digit n of byte b,
 * counted from the most significant, is the integer part of 3 * frac(b * 3^n / 256). */
typedef struct rz_digit_run {
    uint8_t first, count, digit; /* of so many bytes from `first` on one digit each */
} rz_digit_run;

RZ_INLINE void rz_read_digits_(const uint8_t *bytes, const rz_digit_run *runs, int n_runs, uint8_t *codes) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int r = 0; r < n_runs; r++) {
        const uint8_t *from = bytes + runs[r].first;
        const int count = runs[r].count, factor = power[runs[r].digit];
        for (int i = 0; i < count; i++) codes[i] = (uint8_t)((from[i] * factor & 255) * 3 >> 8);
        codes += count;
    }
}

/* Whether a scale is an fp16 number, and its bits. -0 becomes +0. */
static inline int rz_half_bits(float value, uint16_t *bits) {
    uint32_t word;
    memcpy(&word, &value, 4);
    const uint32_t sign = word >> 16 & 0x8000u, fraction = word & 0x7fffffu;
    const int exponent = (int)(word >> 23 & 255u) - 112; /* as fp16 stores it */
    *bits = 0;
    if (!(word & 0x7fffffffu)) return 1;
    if (exponent >= 31) return 0;
    if (exponent > 0) {
        *bits = (uint16_t)(sign | (uint32_t)exponent << 10 | fraction >> 13);
        return !(fraction & 0x1fffu);
    }
    if (exponent < -9) return 0;
    const int drop = 14 - exponent; /* a subnormal number: 2^-24 times an integer */
    const uint32_t whole = fraction | 0x800000u;
    *bits = (uint16_t)(sign | whole >> drop);
    return !(whole & ((1u << drop) - 1u));
}

#endif
