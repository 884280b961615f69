from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_output_mode, rz_ternary
from ryzanstein_llm.kernels.inputs cimport Input
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix

cdef enum:
    MAX_MATRICES = 8
    PANEL_ROWS = 64  # rows in a task: RZ_PANEL_TILES * RZ_TILE_ROWS

cdef struct Projections:
    # Products of several matrices with one quantised input.
    Input *input
    int count
    const rz_ternary *matrices[MAX_MATRICES]
    float *out[MAX_MATRICES]
    int64_t out_stride[MAX_MATRICES]
    const float *bias[MAX_MATRICES]  # (rows,), added to the product; NULL: none
    int64_t first_panel[MAX_MATRICES + 1]
    int64_t blocks  # of tokens, each a task for every panel
    rz_output_mode store

cdef struct Gated:
    # activation(gate) * up, of one quantised input.
    const Input *input
    const rz_ternary *gate
    const rz_ternary *up
    float *out
    int activation
    int64_t blocks  # of tokens, each a task for every panel

cdef int add_matrix(Projections *job, TernaryMatrix matrix, float *out, int64_t out_stride) except -1
cdef Step project_step(Projections *job, int threads) noexcept nogil
cdef int64_t project_work(const Projections *job) noexcept nogil
cdef int describe_gated(Gated *job, Input *source, TernaryMatrix gate, TernaryMatrix up, activation,
                        float[:, ::1] out) except -1
cdef int64_t gated_scratch_bytes(const Input *source) noexcept nogil
cdef Step gated_step(Gated *job, int threads) noexcept nogil
cdef int64_t gated_work(const Gated *job) noexcept nogil
