from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_activations, rz_output_mode, rz_ternary
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef struct Norm:
    const float *weights  # (columns,); NULL: no norm

cdef struct Input:
    # Float activations (n, columns), which a step normalises and quantises.
    const float *x
    int64_t n
    int64_t columns
    const float *norm  # NULL: no norm
    const float *second_norm  # of one projection alone, after the other one; NULL: none
    float eps
    bint needs_tables  # whether the product with one of the matrices reads tables of its sums
    int kind  # BY_TOKEN, ...
    int64_t group_columns  # of the groups of the matrices; 0: they have one scale
    rz_activations quantized  # in the workspace; set by place_input
    const float *floats  # (n, columns) in the workspace, for NOT_QUANTIZED

cdef struct Reservation:
    # what several inputs of one pass need at most in the workspace
    int64_t columns
    int64_t groups
    bint floats

cdef int describe_norm(Norm *norm, weights, int64_t columns) except -1
cdef void set_input(Input *source, const float *x, int64_t n, int64_t columns, Norm norm, float eps) noexcept nogil
cdef int describe_input(Input *source, const float[:, ::1] x, norm, float eps) except -1
cdef int64_t scratch_bytes(const Input *source) noexcept nogil
cdef void include_input(Reservation *needed, const Input *source) noexcept nogil
cdef void place_input(Workspace workspace, Input *source) noexcept nogil
cdef void multiply(const rz_ternary *matrix, int64_t tile, int64_t end, const Input *source, float *out,
                   int64_t out_stride, rz_output_mode store, void *scratch) noexcept nogil
cdef Input tokens_of(const Input *source, int64_t first, int64_t end) noexcept nogil
cdef Input tokens_of(const Input *source, int64_t first, int64_t end) noexcept nogil
cdef int request_input(Input *source, TernaryMatrix matrix, bint first) except -1
cdef int reserve_inputs(Workspace workspace, int64_t tokens, const Reservation *needed, int64_t scratch) except -1
cdef Step quantize_step(const Input *source) noexcept nogil
