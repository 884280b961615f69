# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Decoder layers in one fork and join: all layers for one token, one at a time for a prompt.

The steps come from linear.pyx, attention.pyx and skipping.pyx. Between two calls there is a join, some
Python and a fork, and the weights have just pushed the data of all three out of the caches. With two
calls a layer, that took 4 % of the time.
"""
import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from ryzanstein_llm.kernels.attention cimport (
    MAX_SEQUENCES, AttentionJob, Segment, attention_scratch_bytes, attention_steps, partial_floats, describe_attention,
    use_layer)
from ryzanstein_llm.kernels.cpu cimport RZ_STORE_ADD, RZ_STORE_SET
from ryzanstein_llm.kernels.inputs cimport (
    Input, Norm, Reservation, describe_norm, include_input, place_input, quantize_step, reserve_inputs, scratch_bytes,
    set_input)
from ryzanstein_llm.kernels.linear cimport (
    Gated, Projections, add_matrix, describe_gated, gated_scratch_bytes, gated_step, gated_work, project_step,
    project_work)
from ryzanstein_llm.kernels.skipping cimport (
    can_skip_columns, can_skip_rows, columns_scratch_bytes, columns_skipping_steps, rows_scratch_bytes,
    rows_skipping_steps)
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix
from ryzanstein_llm.kernels.workspace cimport (
    OP_DOWN, OP_GATE_UP, OP_NORM_QUANTIZE, OP_O, OP_QKV, Workspace)

cdef enum:
    MAX_STEPS = 13  # in a layer


cdef class DecoderLayer:
    """The weights of one layer: attention, then a gated feed-forward block, each with a residual.

        hidden += o @ int8(attention_sub_norm(attention(rope(q, k, v of int8(input_norm(hidden))))))
        hidden += down @ int8(ffn_sub_norm(activation(gate @ a) * (up @ a))), a = int8(post_attention_norm(hidden))

    Parameters
    ----------
    input_norm, post_attention_norm : float32 (hidden,), or None for no norm
    attention_sub_norm, ffn_sub_norm : float32 (heads * head_dim,), (intermediate,), or None
    q, k, v, o, gate, up, down : TernaryMatrix
    activation : a key of linear.ACTIVATIONS
    eps : float
        The epsilon of all norms.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    cdef readonly object input_norm, attention_sub_norm, post_attention_norm, ffn_sub_norm, activation
    cdef readonly TernaryMatrix q, k, v, o, gate, up, down
    cdef readonly float eps
    cdef Norm norms[4]  # their addresses, taken once here and not again for each token

    def __init__(self, input_norm, TernaryMatrix q not None, TernaryMatrix k not None, TernaryMatrix v not None,
                 attention_sub_norm, TernaryMatrix o not None, post_attention_norm, TernaryMatrix gate not None,
                 TernaryMatrix up not None, activation, ffn_sub_norm, TernaryMatrix down not None, float eps):
        self.input_norm, self.attention_sub_norm = input_norm, attention_sub_norm
        self.post_attention_norm, self.ffn_sub_norm = post_attention_norm, ffn_sub_norm
        self.q, self.k, self.v, self.o, self.gate, self.up, self.down = q, k, v, o, gate, up, down
        self.activation, self.eps = activation, eps
        hidden = q.columns
        if not (k.columns == v.columns == o.rows == gate.columns == up.columns == down.rows == hidden
                and k.rows == v.rows and o.columns == q.rows and gate.rows == up.rows == down.columns):
            raise ValueError(f"the shapes of {self.matrices} do not fit together as a layer")
        describe_norm(&self.norms[0], input_norm, hidden)
        describe_norm(&self.norms[1], attention_sub_norm, o.columns)
        describe_norm(&self.norms[2], post_attention_norm, hidden)
        describe_norm(&self.norms[3], ffn_sub_norm, down.columns)

    @property
    def matrices(self):
        """The seven projections: q, k, v, o, gate, up, down."""
        return [self.q, self.k, self.v, self.o, self.gate, self.up, self.down]


cdef struct LayerJob:
    # What the steps of one layer read. It must stay at its address while they run.
    Input attention_input
    Projections qkv_projection
    AttentionJob attention
    Input attended
    Projections o_projection
    Input ffn_input
    Gated gated
    Input ffn_output
    Projections down


cdef int describe_layer(LayerJob *job, DecoderLayer layer, float[:, ::1] hidden, float[:, ::1] qkv,
                        float[:, ::1] attended, float[:, ::1] gated) except -1:
    """Checks the shapes and fills in the job, except for `attention`."""
    cdef int64_t width = qkv.shape[1]
    if layer.q.rows + layer.k.rows + layer.v.rows != width or layer.o.rows != hidden.shape[1]:
        raise ValueError(f"{layer.matrices} do not fit hidden states of shape {(hidden.shape[0], hidden.shape[1])} "
                         f"and qkv of shape {(qkv.shape[0], width)}")
    cdef int64_t n = hidden.shape[0]
    set_input(&job.attention_input, &hidden[0, 0], n, hidden.shape[1], layer.norms[0], layer.eps)
    job.qkv_projection.input = &job.attention_input
    job.qkv_projection.count = 0
    job.qkv_projection.store = RZ_STORE_SET
    add_matrix(&job.qkv_projection, layer.q, &qkv[0, 0], width)
    add_matrix(&job.qkv_projection, layer.k, &qkv[0, 0] + layer.q.matrix.rows, width)
    add_matrix(&job.qkv_projection, layer.v, &qkv[0, 0] + layer.q.matrix.rows + layer.k.matrix.rows, width)
    set_input(&job.attended, &attended[0, 0], n, attended.shape[1], layer.norms[1], layer.eps)
    job.o_projection.input = &job.attended
    job.o_projection.count = 0
    job.o_projection.store = RZ_STORE_ADD
    add_matrix(&job.o_projection, layer.o, &hidden[0, 0], hidden.shape[1])
    set_input(&job.ffn_input, &hidden[0, 0], n, hidden.shape[1], layer.norms[2], layer.eps)
    describe_gated(&job.gated, &job.ffn_input, layer.gate, layer.up, layer.activation, gated)
    set_input(&job.ffn_output, &gated[0, 0], n, gated.shape[1], layer.norms[3], layer.eps)
    job.down.input = &job.ffn_output
    job.down.count = 0
    job.down.store = RZ_STORE_ADD
    add_matrix(&job.down, layer.down, &hidden[0, 0], hidden.shape[1])
    return 0


cdef int64_t layer_scratch_bytes(const LayerJob *job, int threads) noexcept nogil:
    cdef int64_t most = max(scratch_bytes(&job.attention_input), attention_scratch_bytes(&job.attention))
    most = max(most, max(scratch_bytes(&job.attended), gated_scratch_bytes(&job.ffn_input)))
    most = max(most, scratch_bytes(&job.ffn_output))
    if can_skip_rows(&job.gated):
        most = max(most, rows_scratch_bytes(&job.gated, threads))
    if can_skip_columns(&job.down):
        most = max(most, columns_scratch_bytes(&job.down, threads))
    return most


cdef int layer_steps(LayerJob *job, Workspace workspace, Step *steps) noexcept nogil:
    """Writes at most MAX_STEPS steps and returns their number. Call it after `workspace.reserve`."""
    cdef int count = 7
    place_input(workspace, &job.attention_input)
    place_input(workspace, &job.attended)
    place_input(workspace, &job.ffn_input)
    place_input(workspace, &job.ffn_output)
    steps[0] = as_operation(OP_NORM_QUANTIZE, quantize_step(&job.attention_input))
    steps[1] = as_operation(OP_QKV, project_step(&job.qkv_projection))
    attention_steps(&job.attention, &steps[2])
    steps[5] = as_operation(OP_NORM_QUANTIZE, quantize_step(&job.attended))
    steps[6] = as_operation(OP_O, project_step(&job.o_projection))
    steps[count] = as_operation(OP_NORM_QUANTIZE, quantize_step(&job.ffn_input))
    count += 1
    if can_skip_rows(&job.gated):
        rows_skipping_steps(&job.gated, workspace.n_threads, &steps[count])
        count += 2
    else:
        steps[count] = as_operation(OP_GATE_UP, gated_step(&job.gated))
        count += 1
    steps[count] = as_operation(OP_NORM_QUANTIZE, quantize_step(&job.ffn_output))
    count += 1
    if can_skip_columns(&job.down):
        columns_skipping_steps(&job.down, workspace.n_threads, &steps[count])
        count += 2
    else:
        steps[count] = as_operation(OP_DOWN, project_step(&job.down))
        count += 1
    return count


def decoder_layers(float[:, ::1] hidden, layers, int first, segments, layout, int64_t heads, rotary, float scale,
                   float[:, ::1] qkv, float[:, ::1] attended, float[:, ::1] gated, Workspace workspace):
    """Runs consecutive layers over the new rows of one or more sequences.

    Parameters
    ----------
    hidden : float32 (n, hidden), the residual stream                         # IN, OUT
    layers : sequence of DecoderLayer
    first : int
        Index of the first of these layers in the model and in the cache.
    segments, layout, heads, rotary, scale
        As in attention.rope_append_attend.
    qkv : float32 (n, (heads + 2 * kv_heads) * head_dim)                      # scratch
    attended : float32 (n, heads * head_dim)                                  # scratch
    gated : float32 (n, intermediate)                                         # scratch

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    cdef int count = len(layers), i, step_count = 0
    cdef int64_t n = hidden.shape[0], scratch = 0, work = 0
    cdef Reservation needed = [0, 0, False]
    cdef Segment segment_storage[MAX_SEQUENCES]
    cdef AttentionJob attention
    cdef LayerJob *jobs
    cdef LayerJob *job
    cdef Step *steps
    cdef float[::1] partials
    if n == 0 or count == 0:
        return
    if qkv.shape[0] != n:
        raise ValueError(f"qkv has {qkv.shape[0]} rows, the hidden states have {n}")
    describe_attention(&attention, segment_storage, qkv, segments, layout, heads, rotary, scale, attended)
    partials = np.empty(partial_floats(&attention), np.float32)
    attention.partials = &partials[0]
    jobs = <LayerJob *>malloc(count * sizeof(LayerJob))
    steps = <Step *>malloc(count * MAX_STEPS * sizeof(Step))
    try:
        if jobs == NULL or steps == NULL:
            raise MemoryError(f"cannot allocate the steps of {count} layers")
        for i in range(count):
            job = &jobs[i]
            describe_layer(job, layers[i], hidden, qkv, attended, gated)
            job.attention = attention
            use_layer(&job.attention, layout, first + i)
            include_input(&needed, &job.attention_input)
            include_input(&needed, &job.attended)
            include_input(&needed, &job.ffn_input)
            include_input(&needed, &job.ffn_output)
            scratch = max(scratch, layer_scratch_bytes(job, workspace.n_threads))
            work += project_work(&job.qkv_projection) + project_work(&job.o_projection) + attention.work
            work += gated_work(&job.gated) + project_work(&job.down)
        reserve_inputs(workspace, n, &needed, scratch)
        for i in range(count):
            step_count += layer_steps(&jobs[i], workspace, &steps[step_count])
        run_steps(steps, step_count, workspace, work)
    finally:
        free(jobs)
        free(steps)
