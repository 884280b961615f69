/* Floats that are ternary already: in each group of columns of a row every weight is -s, 0 or s.
 * s is the largest |w| of the group. Any number of columns.
 *
 * All on the bits of the floats, as integers without their sign: they are in the order of the numbers, with
 * infinity and NaN above all, 0 is 0, and equal numbers have equal bits. */
#ifndef RZ_SOURCE_TERNARY_FLOATS_H
#define RZ_SOURCE_TERNARY_FLOATS_H

#include "ryzanstein/sources/source.h"

/* `size` is a constant in what follows: 2 or 4 bytes of a float. */
RZ_INLINE int32_t rz_stored_bits_(const uint8_t *floats, int64_t i, int size) {
    int16_t half;
    int32_t word;
    if (size == 4)
        memcpy(&word, floats + 4 * i, 4);
    else {
        memcpy(&half, floats + 2 * i, 2);
        word = half; /* the sign is the sign */
    }
    return word;
}
RZ_INLINE int32_t rz_without_sign_(int32_t bits, int size) { return bits & (size == 4 ? 0x7fffffff : 0x7fff); }

/* Of the group that a column is in: where it begins and ends. */
RZ_INLINE int64_t rz_floats_group_(const rz_ternary_source *source, int64_t column, int64_t *end) {
    const int64_t begin = column / source->group_columns * source->group_columns;
    *end = begin + source->group_columns < source->columns ? begin + source->group_columns : source->columns;
    return begin;
}

RZ_INLINE int32_t rz_largest_bits_(const uint8_t *floats, int64_t n, int size) {
    int32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t bits = rz_without_sign_(rz_stored_bits_(floats, i, size), size);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

RZ_INLINE float rz_ternary_floats_scale(const rz_ternary_source *source, int64_t row, int64_t column) {
    const int size = source->float_kind == RZ_FLOAT_F32 ? 4 : 2;
    int64_t end;
    const int64_t begin = rz_floats_group_(source, column, &end);
    const uint8_t *group = source->data + row * source->row_bytes + begin * size;
    const int32_t bits = size == 4 ? rz_largest_bits_(group, end - begin, 4) : rz_largest_bits_(group, end - begin, 2);
    return rz_widen_(&bits, 0, source->float_kind);
}

RZ_INLINE uint32_t rz_floats_codes_(const uint8_t *floats, int n, int32_t largest, int size, uint8_t *codes) {
    int32_t wrong = 0;
    for (int i = 0; i < n; i++) {
        const int32_t bits = rz_stored_bits_(floats, i, size), without = rz_without_sign_(bits, size);
        wrong |= (without != 0) & (without != largest);
        codes[i] = (uint8_t)(without == 0 ? 1 : (bits < 0 ? 0 : 2));
    }
    return wrong ? RZ_PROBLEM_FLOATS : 0;
}

RZ_INLINE uint32_t rz_ternary_floats_block(const rz_ternary_source *source, int64_t row, int64_t column,
                                           uint8_t *codes) {
    const int size = source->float_kind == RZ_FLOAT_F32 ? 4 : 2;
    int64_t end;
    const int64_t begin = rz_floats_group_(source, column, &end);
    const int n = end - column < RZ_SOURCE_CODES ? (int)(end - column) : RZ_SOURCE_CODES;
    const uint8_t *group = source->data + row * source->row_bytes + begin * size, *from = group + (column - begin) * size;
    for (int i = n; i < RZ_SOURCE_CODES; i++) codes[i] = RZ_PADDING_CODE;
    if (size == 4) return rz_floats_codes_(from, n, rz_largest_bits_(group, end - begin, 4), 4, codes);
    return rz_floats_codes_(from, n, rz_largest_bits_(group, end - begin, 2), 2, codes);
}

#endif
