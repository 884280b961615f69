from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_activations, rz_output_mode, rz_ternary
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef enum:
    MAX_MATRICES = 8
    PANEL_ROWS = 64  # RZ_PANEL_TILES * RZ_TILE_ROWS: rows in a task

cdef class TernaryMatrix:
    cdef rz_ternary matrix
    cdef readonly object codes, layout

cdef struct Norm:
    const float *weights  # (columns,); NULL: no norm

cdef struct Input:
    # float activations (n, columns) that a step normalises and quantises
    const float *x
    int64_t n
    int64_t columns
    const float *norm  # NULL: no norm
    const float *second_norm  # after it, if the projection has one of its own; NULL: none
    float eps
    bint looked_up  # whether a matrix needs tables of it
    rz_activations quantized  # valid once the workspace is reserved

cdef struct Projections:
    # matrices that share a quantised input
    Input *input
    int count
    const rz_ternary *matrices[MAX_MATRICES]
    float *out[MAX_MATRICES]
    int64_t out_stride[MAX_MATRICES]
    const float *bias[MAX_MATRICES]  # (rows,), added to the product; NULL: none
    int64_t first_task[MAX_MATRICES + 1]
    rz_output_mode store

cdef struct Gated:
    # activation(gate) * up
    const Input *input
    const rz_ternary *gate
    const rz_ternary *up
    float *out
    int activation

cdef int read_norm(Norm *norm, weights, int64_t columns) except -1
cdef void set_input(Input *source, const float *x, int64_t n, int64_t columns, Norm norm, float eps) noexcept nogil
cdef int read_input(Input *source, const float[:, ::1] x, norm, float eps) except -1
cdef int64_t scratch_bytes(const Input *source) noexcept nogil
cdef Step quantize_step(const Input *source) noexcept nogil
cdef int add_matrix(Projections *job, TernaryMatrix matrix, float *out, int64_t out_stride) except -1
cdef Step project_step(const Projections *job) noexcept nogil
cdef int64_t project_work(const Projections *job) noexcept nogil
cdef int read_gated(Gated *job, Input *source, TernaryMatrix gate, TernaryMatrix up, activation,
                    float[:, ::1] out) except -1
cdef int64_t gated_scratch_bytes(const Input *source) noexcept nogil
cdef Step gated_step(const Gated *job) noexcept nogil
cdef int64_t gated_work(const Gated *job) noexcept nogil
