from libc.stdint cimport int64_t, uint64_t
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef enum:
    MAX_SEQUENCES = 256

cdef struct Segment:
    int64_t row          # first row of the sequence in this call
    int64_t rows
    int64_t position     # position of its first row
    const uint64_t *table  # addresses of its cache blocks
    int64_t first_task
    int64_t first_partial  # split segments only
    int64_t blocks
    bint split


cdef struct Job:
    float *qkv
    int64_t qkv_stride
    float *out
    int64_t heads
    int64_t kv_heads
    int64_t head_dim
    float scale
    const float *q_norm    # (head_dim,), RMSNorm of each query head; NULL: none
    const float *k_norm    # likewise of each key head
    float eps              # of these norms
    bint rotate_first      # whether RoPE comes before them
    int64_t window         # the last positions that a token sees; 0: all
    int kind
    int64_t element_size
    int64_t layer_offset   # where the layer begins in a block, in bytes
    int64_t v_offset       # counted from there
    int64_t k_scale_offset
    int64_t v_scale_offset
    const float *cosines   # (table rows, head_dim / 2), row = position
    const float *sines
    int count
    Segment *segments      # (count,), owned by the caller
    int64_t tokens_per_tile
    float *partials
    int64_t rows
    int64_t attend_tasks
    int64_t n_partials
    int64_t work

cdef int read_attention(Job *job, Segment *kept, float[:, ::1] qkv, segments, layout, int64_t heads, rotary,
                        float scale, float[:, ::1] out) except -1
cdef int64_t attention_scratch_bytes(const Job *job) noexcept nogil
cdef int64_t partial_floats(const Job *job) noexcept nogil
cdef int use_layer(Job *job, layout, int layer) except -1
cdef int use_rotary(Job *job, rotary) except -1
cdef void attention_steps(const Job *job, Step *steps) noexcept nogil
