from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_activations, rz_output_mode, rz_ternary
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef enum:
    MAX_MATRICES = 8
    PANEL_ROWS = 64  # rows in a task: RZ_PANEL_TILES * RZ_TILE_ROWS

cdef enum:
    # What becomes of the activations of a product; the names are in linear.QUANTIZATIONS.
    BY_TOKEN        # int8, one scale a token
    BY_GROUP        # int8, one scale for each group of the matrix
    NOT_QUANTIZED

cdef class TernaryMatrix:
    cdef rz_ternary matrix
    cdef readonly object codes, layout, quantization
    cdef int input_kind

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

cdef struct Projections:
    # Products of several matrices with one quantised input.
    Input *input
    int count
    const rz_ternary *matrices[MAX_MATRICES]
    float *out[MAX_MATRICES]
    int64_t out_stride[MAX_MATRICES]
    const float *bias[MAX_MATRICES]  # (rows,), added to the product; NULL: none
    int64_t first_task[MAX_MATRICES + 1]
    rz_output_mode store

cdef struct Gated:
    # activation(gate) * up, of one quantised input.
    const Input *input
    const rz_ternary *gate
    const rz_ternary *up
    float *out
    int activation

cdef int describe_norm(Norm *norm, weights, int64_t columns) except -1
cdef void set_input(Input *source, const float *x, int64_t n, int64_t columns, Norm norm, float eps) noexcept nogil
cdef int describe_input(Input *source, const float[:, ::1] x, norm, float eps) except -1
cdef int64_t scratch_bytes(const Input *source) noexcept nogil
cdef void include_input(Reservation *needed, const Input *source) noexcept nogil
cdef void place_input(Workspace workspace, Input *source) noexcept nogil
cdef void multiply(const rz_ternary *matrix, int64_t tile, int64_t end, const Input *source, float *out,
                   int64_t out_stride, rz_output_mode store, void *scratch) noexcept nogil
cdef Step quantize_step(const Input *source) noexcept nogil
cdef int add_matrix(Projections *job, TernaryMatrix matrix, float *out, int64_t out_stride) except -1
cdef Step project_step(const Projections *job) noexcept nogil
cdef int64_t project_work(const Projections *job) noexcept nogil
cdef int describe_gated(Gated *job, Input *source, TernaryMatrix gate, TernaryMatrix up, activation,
                        float[:, ::1] out) except -1
cdef int64_t gated_scratch_bytes(const Input *source) noexcept nogil
cdef Step gated_step(const Gated *job) noexcept nogil
cdef int64_t gated_work(const Gated *job) noexcept nogil
