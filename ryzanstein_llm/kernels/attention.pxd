from libc.stdint cimport int64_t, uint64_t
from ryzanstein_llm.kernels.steps cimport Step
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef enum:
    MAX_SEQUENCES = 256
    ATTENTION_STEPS = 4

cdef struct Segment:
    # the new rows of one sequence
    int64_t row            # the first one, in this call
    int64_t rows
    int64_t position       # of the first row, in the sequence
    const uint64_t *table  # addresses of the cache blocks
    int64_t blocks         # number of cache blocks up to the last row
    bint split             # whether each cache block is a task of its own
    int64_t first_task
    int64_t first_partial  # only if split
    bint branch            # whether it overwrites what the segment before it left, in the same blocks
    int64_t first_branch_task  # of the first branch of a sequence; -1 for others


cdef struct AttentionJob:
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
    int64_t window         # how many of the last positions a token sees; 0: all
    int kind
    int64_t k_head_bytes   # of a KV head in a block
    int64_t v_head_bytes
    int64_t layer_offset   # where the layer begins in a block, in bytes
    int64_t v_offset       # these three count from the beginning of the layer
    int64_t k_scale_offset
    int64_t v_scale_offset
    const float *cosines   # (positions, head_dim / 2)
    const float *sines
    int count              # number of segments
    Segment *segments      # memory of the caller
    int64_t tokens_per_tile
    float *partials        # results of split segments, one for each block; see partial_floats
    int64_t rows
    int64_t attend_tasks
    int64_t branch_tasks   # KV heads of all sequences that branch
    int64_t n_partials
    int64_t work           # in int8 multiply-adds that take as long

cdef int describe_attention(AttentionJob *job, Segment *segment_storage, float[:, ::1] qkv, segments, layout,
                            int64_t heads, rotary, float scale, float[:, ::1] out) except -1
cdef int64_t attention_scratch_bytes(const AttentionJob *job) noexcept nogil
cdef int64_t partial_floats(const AttentionJob *job) noexcept nogil
cdef int use_layer(AttentionJob *job, layout, int layer) except -1
cdef int use_rotary(AttentionJob *job, rotary) except -1
cdef void attention_steps(const AttentionJob *job, Step *steps) noexcept nogil
