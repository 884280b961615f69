from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef extern from "ryzanstein/sources/read.h" nogil:
    enum: RZ_ENCODING_MASTERS

    ctypedef struct rz_ternary_source:
        int encoding
        const uint8_t *data
        int64_t row_bytes
        const uint8_t *scales
        const uint8_t *biases
        int64_t rows
        int64_t columns
        int64_t group_columns
        int64_t head_dim
        int float_kind
        float inverse_scale
        float scale

    double rz_absolute_sum(const void *, int64_t, int)
    uint32_t rz_source_row_problems(const rz_ternary_source *, int64_t, int)
    uint32_t rz_source_row_scale(const rz_ternary_source *, int64_t, float *)


cdef class TernarySource:
    cdef rz_ternary_source source
    cdef readonly str encoding
    cdef object arrays           # what the pointers of source lead to
    cdef object found            # (the common scale or None,) if it was asked for
    cdef const uint8_t *keep(self, array, name, size) except NULL
    cdef uint32_t row_scales(self, float[::1] out, int threads)
