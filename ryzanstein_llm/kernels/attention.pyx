# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Rotary embedding, cache append and attention of one layer, in one fork and join.

Several sequences may share a call. Each has its own rows and its own table of cache blocks. A sequence may
branch: segments with the table of the one before them overwrite what that left at the same positions.
kernels.h fixes the arithmetic of each query, so only the division into tasks depends on the call.
"""
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from ryzanstein_llm.kernels.cpu cimport (
    RZ_KV_BLOCK, RZ_MAX_HEAD_DIM, RZ_MAX_QUERIES, kernels, rz_kv_block)
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_ATTENTION, OP_COMBINE, OP_ROPE_APPEND, Workspace

KV_KINDS = {"float32": 0, "bfloat16": 1, "int8": 2}
BLOCK_POSITIONS = RZ_KV_BLOCK
MAX_HEAD_DIM = RZ_MAX_HEAD_DIM

cdef enum:
    # A segment with at most this many rows (decoding) is split: each cache block is a task.
    SPLIT_ROWS = 4


cdef void locate_block(const AttentionJob *job, const Segment *segment, int64_t block, int64_t kv_head,
                       rz_kv_block *result) noexcept nogil:
    cdef uint8_t *base = <uint8_t *><size_t>segment.table[block] + job.layer_offset
    cdef int64_t plane = kv_head * RZ_KV_BLOCK
    result.k = base + kv_head * job.k_head_bytes
    result.v = base + job.v_offset + kv_head * job.v_head_bytes
    result.k_scale = <float *>(base + job.k_scale_offset) + plane
    result.v_scale = <float *>(base + job.v_scale_offset) + plane


cdef const Segment *segment_of_row(const AttentionJob *job, int64_t row) noexcept nogil:
    cdef int i = 0
    while row >= job.segments[i].row + job.segments[i].rows:
        i += 1
    return &job.segments[i]


cdef void turn_heads(const AttentionJob *job, float *heads, int64_t count, const float *norm,
                     int64_t position) noexcept nogil:
    """RoPE, and the norm of each head before or after it, in place."""
    cdef int64_t i, hd = job.head_dim, at = position * (hd // 2)
    if norm != NULL and not job.rotate_first:
        for i in range(count):
            kernels().rms_norm(heads + i * hd, norm, job.eps, hd, heads + i * hd)
    kernels().rope(heads, count, hd, job.cosines + at, job.sines + at)
    if norm != NULL and job.rotate_first:
        for i in range(count):
            kernels().rms_norm(heads + i * hd, norm, job.eps, hd, heads + i * hd)


cdef int64_t first_seen(const AttentionJob *job, int64_t position) noexcept nogil:
    """The first position that a token sees."""
    return max(0, position + 1 - job.window) if job.window else 0


cdef void append_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const AttentionJob *job = <const AttentionJob *>data
    cdef int64_t row = task // job.kv_heads
    cdef const Segment *segment = segment_of_row(job, row)
    if not segment.branch:  # its turn comes in branch_task
        append_row(job, segment, row, task % job.kv_heads)


cdef void append_row(const AttentionJob *job, const Segment *segment, int64_t row, int64_t kv_head) noexcept nogil:
    """Norms and rotates the queries and the key of one token and KV head, and stores key and value."""
    cdef int64_t position = segment.position + row - segment.row
    cdef int64_t group = job.heads // job.kv_heads
    cdef float *q = job.qkv + row * job.qkv_stride
    cdef float *k = q + (job.heads + kv_head) * job.head_dim
    cdef float *v = k + job.kv_heads * job.head_dim
    cdef rz_kv_block block
    turn_heads(job, q + kv_head * group * job.head_dim, group, job.q_norm, position)
    turn_heads(job, k, 1, job.k_norm, position)
    locate_block(job, segment, position // RZ_KV_BLOCK, kv_head, &block)
    kernels().kv_append[job.kind](k, v, job.head_dim, position % RZ_KV_BLOCK, &block)


cdef void attend_tile(const AttentionJob *job, const Segment *segment, int64_t kv_head,
                      int64_t first_token, int64_t tokens, int64_t first_head, int64_t heads,
                      int64_t block_begin, int64_t block_end, float *running, float *scratch) noexcept nogil:
    """Attention of the queries (token, head) of one KV head over the blocks [block_begin, block_end).
    Writes the results to `running`: (tokens * heads, head_dim + 2)."""
    cdef int64_t queries = tokens * heads, hd = job.head_dim, stride = hd + 2, b, i, end, t, h, seen, begin
    cdef int32_t valid[RZ_MAX_QUERIES]
    cdef int32_t hidden[RZ_MAX_QUERIES]  # positions of the block that come before a window
    cdef bint begun[RZ_MAX_QUERIES]      # whether `running` holds something of a token
    cdef float *q = scratch                       # (queries, head_dim)
    cdef float *partial = q + queries * hd        # (queries, head_dim + 2)
    cdef rz_kv_block block
    cdef int64_t group = job.heads // job.kv_heads
    for t in range(tokens):
        begun[t] = False
        memcpy(q + t * heads * hd,
               job.qkv + (segment.row + first_token + t) * job.qkv_stride + (kv_head * group + first_head) * hd,
               heads * hd * sizeof(float))
    for b in range(block_begin, block_end):
        # The first tokens may see nothing of the last block, and the last tokens nothing of the first block,
        # because of a window: skip their queries.
        i, end = 0, queries
        for t in range(tokens):
            seen = segment.position + first_token + t + 1 - b * RZ_KV_BLOCK
            begin = first_seen(job, segment.position + first_token + t) - b * RZ_KV_BLOCK
            if seen <= 0:
                i += heads
                continue
            if begin >= RZ_KV_BLOCK:
                end -= heads
                continue
            for h in range(heads):
                valid[t * heads + h] = <int32_t>min(seen, RZ_KV_BLOCK)
                hidden[t * heads + h] = <int32_t>max(begin, 0)
        if i >= end:
            continue
        locate_block(job, segment, b, kv_head, &block)
        kernels().attend_block[job.kind](q + i * hd, hd, end - i, valid + i, hidden + i if job.window else NULL, hd,
                                         job.scale, &block, partial)
        for t in range(i // heads, end // heads):
            for h in range(t * heads, (t + 1) * heads):
                if begun[t]:
                    kernels().attend_combine(running + h * stride, partial + (h - i) * stride, hd)
                else:
                    memcpy(running + h * stride, partial + (h - i) * stride, stride * sizeof(float))
            begun[t] = True


cdef void attend_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const AttentionJob *job = <const AttentionJob *>data
    cdef int s = 0
    cdef const Segment *segment
    cdef int64_t hd = job.head_dim, stride = hd + 2, group = job.heads // job.kv_heads
    cdef int64_t kv_head, token, block, i, chunk, heads, chunks
    cdef float *scratch = <float *>workspace.thread_scratch(thread)
    cdef float *running = scratch + RZ_MAX_QUERIES * (2 * hd + 2)
    while s + 1 < job.count and task >= job.segments[s + 1].first_task:
        s += 1
    segment = &job.segments[s]
    task -= segment.first_task
    # a large group of heads is divided into chunks of at most RZ_MAX_QUERIES heads
    chunks = (group + RZ_MAX_QUERIES - 1) // RZ_MAX_QUERIES
    chunk = task % chunks * RZ_MAX_QUERIES
    heads = min(RZ_MAX_QUERIES, group - chunk)
    task = task // chunks
    kv_head = task % job.kv_heads
    task = task // job.kv_heads
    if segment.split:
        token = task // segment.blocks
        block = task % segment.blocks
        if block * RZ_KV_BLOCK > segment.position + token:
            return  # the row comes before this block
        if (block + 1) * RZ_KV_BLOCK <= first_seen(job, segment.position + token):
            return  # the row's window begins after this block
        # partials (row, head, block, head_dim + 2); finish_task combines them in block order
        attend_tile(job, segment, kv_head, token, 1, chunk, heads, block, block + 1, running, scratch)
        for i in range(heads):
            memcpy(job.partials + (segment.first_partial
                                   + ((token * job.heads + kv_head * group + chunk + i) * segment.blocks + block))
                   * stride, running + i * stride, stride * sizeof(float))
        return
    attend_whole(job, segment, kv_head, task * job.tokens_per_tile, chunk, heads, scratch)


cdef void attend_whole(const AttentionJob *job, const Segment *segment, int64_t kv_head, int64_t token,
                       int64_t first_head, int64_t heads, float *scratch) noexcept nogil:
    """Attention of a tile of tokens, and of some heads of one KV head, over all blocks."""
    cdef int64_t hd = job.head_dim, stride = hd + 2, group = job.heads // job.kv_heads, i
    cdef int64_t tokens = min(job.tokens_per_tile, segment.rows - token)
    cdef float *running = scratch + RZ_MAX_QUERIES * (2 * hd + 2)
    attend_tile(job, segment, kv_head, token, tokens, first_head, heads,
                first_seen(job, segment.position + token) // RZ_KV_BLOCK,
                (segment.position + token + tokens - 1) // RZ_KV_BLOCK + 1, running, scratch)
    for i in range(tokens * heads):
        kernels().attend_finish(running + i * stride, hd,
                                job.out + ((segment.row + token + i // heads) * job.heads
                                           + kv_head * group + first_head + i % heads) * hd)


cdef void branch_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    """All branches of one sequence, one after the other, for one KV head: no head sees what others store."""
    cdef const AttentionJob *job = <const AttentionJob *>data
    cdef int64_t kv_head = task % job.kv_heads, group = job.heads // job.kv_heads, row, tile, chunk
    cdef float *scratch = <float *>workspace.thread_scratch(thread)
    cdef const Segment *segment
    cdef int s = 1
    while job.segments[s].first_branch_task != task - kv_head:
        s += 1
    while s < job.count and job.segments[s].branch:
        segment = &job.segments[s]
        for row in range(segment.row, segment.row + segment.rows):
            append_row(job, segment, row, kv_head)
        for tile in range((segment.rows + job.tokens_per_tile - 1) // job.tokens_per_tile):
            for chunk in range((group + RZ_MAX_QUERIES - 1) // RZ_MAX_QUERIES):
                attend_whole(job, segment, kv_head, tile * job.tokens_per_tile, chunk * RZ_MAX_QUERIES,
                             min(RZ_MAX_QUERIES, group - chunk * RZ_MAX_QUERIES), scratch)
        s += 1


cdef void finish_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    """Combines the blocks of one (row, head) of a split segment, in block order."""
    cdef const AttentionJob *job = <const AttentionJob *>data
    cdef int64_t row = task // job.heads, head = task % job.heads, hd = job.head_dim, stride = hd + 2, b, first
    cdef const Segment *segment = segment_of_row(job, row)
    cdef int64_t token = row - segment.row
    cdef float *running
    if not segment.split:
        return
    first = first_seen(job, segment.position + token) // RZ_KV_BLOCK
    running = job.partials + (segment.first_partial + (token * job.heads + head) * segment.blocks + first) * stride
    for b in range(1, (segment.position + token) // RZ_KV_BLOCK + 1 - first):
        kernels().attend_combine(running, running + b * stride, hd)
    kernels().attend_finish(running, hd, job.out + (row * job.heads + head) * hd)


cdef int describe_attention(AttentionJob *job, Segment *segment_storage, float[:, ::1] qkv, segments, layout,
                            int64_t heads, rotary, float scale, float[:, ::1] out) except -1:
    """Checks the arguments of rope_append_attend and fills in the job. `segment_storage` has room for
    MAX_SEQUENCES segments. The caller sets `job.partials`, and the layer with `use_layer`."""
    cdef int64_t n = qkv.shape[0], tasks = 0, branch_tasks = 0, partials = 0, row = 0, group, chunks, work = 0
    cdef int s
    cdef bint branched = False  # whether the segment before is a branch
    cdef const uint64_t[::1] table
    job.heads = heads
    job.kv_heads = layout.kv_heads
    job.head_dim = layout.head_dim
    if job.kv_heads < 1:
        raise ValueError(f"the number of KV heads is {job.kv_heads}; it must be at least 1")
    if not 1 <= job.head_dim <= RZ_MAX_HEAD_DIM or job.head_dim % 2:
        raise ValueError(f"head_dim {job.head_dim} must be even and between 2 and {MAX_HEAD_DIM}")
    if heads % job.kv_heads or qkv.shape[1] != (heads + 2 * job.kv_heads) * job.head_dim:
        raise ValueError(f"qkv of width {qkv.shape[1]} does not fit {heads} heads and {job.kv_heads} KV heads of "
                         f"{job.head_dim}")
    if out.shape[0] != n or out.shape[1] != heads * job.head_dim:
        raise ValueError(f"the output has shape {(out.shape[0], out.shape[1])}; {n} rows of {heads} heads of "
                         f"{job.head_dim} need {(n, heads * job.head_dim)}")
    if not 1 <= len(segments) <= MAX_SEQUENCES:
        raise ValueError(f"a call takes 1 to {MAX_SEQUENCES} sequences, not {len(segments)}")
    group = heads // job.kv_heads
    chunks = (group + RZ_MAX_QUERIES - 1) // RZ_MAX_QUERIES
    job.tokens_per_tile = max(1, RZ_MAX_QUERIES // group)
    job.qkv = &qkv[0, 0]
    job.qkv_stride = qkv.shape[1]
    job.out = &out[0, 0]
    job.scale = scale
    job.q_norm = job.k_norm = NULL
    job.eps = 0
    job.rotate_first = False
    job.window = 0
    job.kind = KV_KINDS[layout.kind]
    job.k_head_bytes = layout.k_head_bytes
    job.v_head_bytes = layout.v_head_bytes
    job.v_offset = layout.v_offset
    job.k_scale_offset = layout.k_scale_offset
    job.v_scale_offset = layout.v_scale_offset
    job.count = len(segments)
    job.segments = segment_storage
    job.rows = n
    for s in range(job.count):
        rows, position, table = segments[s]
        job.segments[s].row = row
        job.segments[s].rows = rows
        job.segments[s].position = position
        job.segments[s].table = &table[0]
        job.segments[s].blocks = (position + rows - 1) // RZ_KV_BLOCK + 1
        if rows < 1 or position < 0 or table.shape[0] < job.segments[s].blocks:
            raise ValueError(f"a segment of {rows} rows at position {position} does not fit {table.shape[0]} cache "
                             f"blocks of {RZ_KV_BLOCK} positions")
        job.segments[s].first_task = tasks
        job.segments[s].branch = s > 0 and job.segments[s].table == job.segments[s - 1].table
        job.segments[s].first_branch_task = -1
        if job.segments[s].branch and not branched:
            job.segments[s].first_branch_task = branch_tasks
            branch_tasks += job.kv_heads
        branched = job.segments[s].branch
        job.segments[s].split = rows <= SPLIT_ROWS and not branched
        if branched:
            pass  # attended to in branch_task
        elif job.segments[s].split:
            job.segments[s].first_partial = partials
            partials += rows * heads * job.segments[s].blocks
            tasks += rows * job.segments[s].blocks * job.kv_heads * chunks
        else:
            tasks += (rows + job.tokens_per_tile - 1) // job.tokens_per_tile * job.kv_heads * chunks
        row += rows
        # a multiply-add of floats costs more than one of int8 codes: it counts as four
        work += 8 * rows * (position + rows) * heads * job.head_dim
    if row != n:
        raise ValueError(f"the segments have {row} rows together, qkv has {n}")
    job.attend_tasks, job.branch_tasks = tasks, branch_tasks
    job.n_partials = partials
    job.work = work
    use_rotary(job, rotary)
    return 0


cdef int use_rotary(AttentionJob *job, rotary) except -1:
    """Checks and sets the cosines and sines of the job, whose segments are known."""
    cdef const float[:, ::1] cosines = rotary[0], sines = rotary[1]
    cdef int64_t last = 0
    cdef int s
    if cosines.shape[1] != job.head_dim // 2 \
            or (sines.shape[0], sines.shape[1]) != (cosines.shape[0], cosines.shape[1]):
        raise ValueError(f"rotary tables of shapes {(cosines.shape[0], cosines.shape[1])} and "
                         f"{(sines.shape[0], sines.shape[1])} do not fit head_dim {job.head_dim}: both need the "
                         f"same shape, with {job.head_dim // 2} columns")
    for s in range(job.count):
        last = max(last, job.segments[s].position + job.segments[s].rows - 1)
    if last >= cosines.shape[0]:
        raise ValueError(f"position {last} is beyond the rotary table, which ends at {cosines.shape[0] - 1}")
    job.cosines = &cosines[0, 0]
    job.sines = &sines[0, 0]
    return 0


cdef int use_layer(AttentionJob *job, layout, int layer) except -1:
    """Sets the layer of the job, which decides what part of each cache block it uses."""
    if not 0 <= layer < layout.layers:
        raise ValueError(f"layer {layer} is not one of 0 to {layout.layers - 1}")
    job.layer_offset = layer * layout.layer_bytes
    return 0


cdef int64_t attention_scratch_bytes(const AttentionJob *job) noexcept nogil:
    return 4 * RZ_MAX_QUERIES * (3 * job.head_dim + 4)


cdef int64_t partial_floats(const AttentionJob *job) noexcept nogil:
    """Number of floats at `partials`: what split segments need, and at least 1."""
    return max(1, job.n_partials * (job.head_dim + 2))


cdef void attention_steps(const AttentionJob *job, Step *steps) noexcept nogil:
    """ATTENTION_STEPS steps: rotate and append, attend, combine the blocks of split segments, then branches."""
    steps[0] = as_operation(OP_ROPE_APPEND, step(append_task, job, job.rows * job.kv_heads))
    steps[1] = as_operation(OP_ATTENTION, step(attend_task, job, job.attend_tasks))
    steps[2] = as_operation(OP_COMBINE, step(finish_task, job, job.rows * job.heads if job.n_partials else 0))
    steps[3] = as_operation(OP_ATTENTION, step(branch_task, job, job.branch_tasks))


def rope_append_attend(float[:, ::1] qkv, segments, layout, int layer, int64_t heads, rotary, float scale,
                       float[:, ::1] out, Workspace workspace):
    """Attention of one layer for the new rows of one or more sequences.

    Parameters
    ----------
    qkv : float32 (n, (heads + 2 * kv_heads) * head_dim)                      # IN, rotated in place
        For each row the queries, keys and values, one head after another.
    segments : sequence of (rows, position, block_table)
        One for each sequence, in the order of the rows of qkv: the number of new rows, the position of
        the first, and a uint64 array with the addresses of the blocks up to that of the last row. With the
        same array as the segment before it, a segment is a branch: it is computed after that one, overwrites
        its positions, and sees what all of them left before its own rows.
    layout : KVLayout
        The place of K, V and scales of a layer in a block; see interfaces/kv_layout.py.
    layer : int
        Index of the layer in the cache.
    heads : int
        Number of query heads, a multiple of layout.kv_heads.
    rotary : (cos, sin), float32 (positions, head_dim // 2)
    scale : float
        Factor of q.k, usually head_dim ** -0.5.
    out : float32 (n, heads * head_dim)                                       # OUT

    Raises
    ------
    ValueError
        If shapes do not fit, or a position is beyond the blocks or the rotary table.
    """
    cdef AttentionJob job
    cdef Segment segment_storage[MAX_SEQUENCES]
    cdef Step steps[ATTENTION_STEPS]
    cdef float[::1] partials
    describe_attention(&job, segment_storage, qkv, segments, layout, heads, rotary, scale, out)
    use_layer(&job, layout, layer)
    workspace.reserve(1, 1, attention_scratch_bytes(&job))
    partials = np.empty(partial_floats(&job), np.float32)
    job.partials = &partials[0]
    attention_steps(&job, steps)
    run_steps(steps, ATTENTION_STEPS, workspace, job.work)
