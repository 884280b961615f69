# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Decoder layers in one fork and join: all layers for one token, one at a time for a prompt.

The steps come from linear.pyx, attention.pyx, skipping.pyx and block_ends.pyx. Between two calls there is
a join, some Python and a fork, and the weights have just pushed the data of all three out of the caches.
With two calls a layer, that took 4 % of the time.
"""
import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from ryzanstein_llm.kernels.attention cimport (
    ATTENTION_STEPS, MAX_SEQUENCES, AttentionJob, Segment, attention_scratch_bytes, attention_steps, partial_floats,
    describe_attention, use_layer, use_rotary)
from ryzanstein_llm.kernels.block_ends cimport Activated, Added, activate_step, add_scratch_bytes, add_step
from ryzanstein_llm.kernels.cpu cimport RZ_STORE_ADD, RZ_STORE_SET, rz_output_mode
from ryzanstein_llm.kernels.decoder_layer cimport DOWN, GATE, K, O, Q, UP, V, DecoderLayer
from ryzanstein_llm.kernels.inputs cimport (
    Input, Norm, Reservation, include_input, place_input, quantize_step, reserve_inputs, scratch_bytes, set_input)
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
    MAX_STEPS = 23  # in a layer


cdef bint have_own_norms(DecoderLayer layer, int first, int end) noexcept nogil:
    """Whether projections that usually share an input have norms of their own."""
    cdef int i
    for i in range(first, end):
        if layer.parts.projection_norms[i].weights != NULL:
            return True
    return False


cdef struct LayerJob:
    # What the steps of one layer read. It must stay at its address while they run.
    Input qkv_inputs[3]
    Projections qkv[3]
    int qkv_parts           # 1 if q, k and v share an input, else 3
    AttentionJob attention
    Input attended
    Projections o
    bint attention_add_step  # whether the product of o is added to the residual stream by a step of its own
    Added attention_added
    Input ffn_inputs[2]
    bint fused              # whether gate, up and activation are one step, `gated`
    Gated gated
    Projections gate_up[2]
    int gate_up_parts
    Activated activated
    Input ffn_output
    Projections down
    bint ffn_add_step
    Added ffn_added


cdef void begin_projection(Projections *job, Input *source, const float *x, int64_t n, int64_t columns, Norm norm,
                           DecoderLayer layer, int which, rz_output_mode store) noexcept nogil:
    """A job without matrices, whose input may have the norm of one projection."""
    set_input(source, x, n, columns, norm, layer.eps)
    source.second_norm = layer.parts.projection_norms[which].weights
    job.input = source
    job.count = 0
    job.store = store


cdef int add_projection(Projections *job, DecoderLayer layer, int which, TernaryMatrix matrix, float *out,
                        int64_t out_stride) except -1:
    add_matrix(job, matrix, out, out_stride)
    job.bias[job.count - 1] = layer.parts.biases[which].weights
    return 0


cdef int describe_output(Projections *job, Input *source, Added *added, const float *x, int64_t columns, Norm norm,
                         Norm output_norm, DecoderLayer layer, int which, TernaryMatrix matrix,
                         float[:, ::1] hidden, float *products) except -1:
    """The product of o or down. It is added to the residual stream, or, if `products` (n, hidden) is given,
    written there and added by `added`."""
    cdef int64_t n = hidden.shape[0], width = hidden.shape[1]
    begin_projection(job, source, x, n, columns, norm, layer, which, RZ_STORE_SET if products != NULL else RZ_STORE_ADD)
    add_projection(job, layer, which, matrix, products if products != NULL else &hidden[0, 0], width)
    added.x, added.residual, added.n, added.columns = products, &hidden[0, 0], n, width
    added.norm, added.eps, added.multiplier = output_norm.weights, layer.eps, layer.residual_multiplier
    return 0


cdef bint needs_add_step(DecoderLayer layer, Norm output_norm, int which) noexcept nogil:
    """Whether something is done to a product before it is added to the residual stream."""
    return output_norm.weights != NULL or layer.parts.biases[which].weights != NULL or layer.residual_multiplier != 1


cdef int describe_qkv(LayerJob *job, DecoderLayer layer, float[:, ::1] hidden, float[:, ::1] qkv) except -1:
    cdef int64_t n = hidden.shape[0], width = qkv.shape[1]
    cdef float *out = &qkv[0, 0]
    cdef int64_t q = layer.q.matrix.rows, k = layer.k.matrix.rows
    cdef int part, last
    if q + k + layer.v.matrix.rows != width or layer.o.matrix.rows != hidden.shape[1]:
        raise ValueError(f"{layer.matrices} do not fit hidden states of shape {(hidden.shape[0], hidden.shape[1])} "
                         f"and qkv of shape {(qkv.shape[0], width)}")
    job.qkv_parts = 3 if have_own_norms(layer, Q, O) else 1
    for part in range(job.qkv_parts):
        begin_projection(&job.qkv[part], &job.qkv_inputs[part], &hidden[0, 0], n, hidden.shape[1],
                         layer.parts.input_norm, layer, Q + part, RZ_STORE_SET)
    last = job.qkv_parts - 1
    add_projection(&job.qkv[0], layer, Q, layer.q, out, width)
    add_projection(&job.qkv[last // 2], layer, K, layer.k, out + q, width)
    add_projection(&job.qkv[last], layer, V, layer.v, out + q + k, width)
    return 0


cdef int describe_gate_up(LayerJob *job, DecoderLayer layer, float[:, ::1] hidden, float[:, ::1] gated,
                          float[:, ::1] up_products) except -1:
    cdef int64_t n = hidden.shape[0], columns = hidden.shape[1]
    cdef int part
    job.fused = not needs_activate_step(layer)
    job.gate_up_parts = 2 if have_own_norms(layer, GATE, DOWN) else 1
    if job.fused:
        set_input(&job.ffn_inputs[0], &hidden[0, 0], n, columns, layer.parts.post_attention_norm, layer.eps)
        return describe_gated(&job.gated, &job.ffn_inputs[0], layer.gate, layer.up, layer.activation, gated)
    if gated.shape[0] != n or gated.shape[1] != layer.gate.rows:
        raise ValueError(f"gated has shape {(gated.shape[0], gated.shape[1])}; {layer.gate!r} needs "
                         f"{(n, layer.gate.rows)}")
    for part in range(job.gate_up_parts):
        begin_projection(&job.gate_up[part], &job.ffn_inputs[part], &hidden[0, 0], n, columns,
                         layer.parts.post_attention_norm, layer, GATE + part, RZ_STORE_SET)
    add_projection(&job.gate_up[0], layer, GATE, layer.gate, &gated[0, 0], gated.shape[1])
    add_projection(&job.gate_up[job.gate_up_parts - 1], layer, UP, layer.up, &up_products[0, 0], up_products.shape[1])
    job.activated.gate, job.activated.up = &gated[0, 0], &up_products[0, 0]
    job.activated.n, job.activated.columns, job.activated.activation = n, gated.shape[1], layer.activation_code
    return 0


cdef bint needs_activate_step(DecoderLayer layer) noexcept nogil:
    """Whether the products of gate and up are activated by a step of its own."""
    return (have_own_norms(layer, GATE, DOWN) or layer.parts.biases[GATE].weights != NULL
            or layer.parts.biases[UP].weights != NULL)


cdef int describe_layer(LayerJob *job, DecoderLayer layer, float[:, ::1] hidden, float[:, ::1] qkv,
                        float[:, ::1] attended, float[:, ::1] gated, float[:, ::1] up_products,
                        float[:, ::1] products) except -1:
    cdef float *into = &products[0, 0]
    describe_qkv(job, layer, hidden, qkv)
    job.attention_add_step = needs_add_step(layer, layer.parts.attention_output_norm, O)
    describe_output(&job.o, &job.attended, &job.attention_added, &attended[0, 0], attended.shape[1],
                    layer.parts.attention_sub_norm, layer.parts.attention_output_norm, layer, O, layer.o, hidden,
                    into if job.attention_add_step else NULL)
    describe_gate_up(job, layer, hidden, gated, up_products)
    job.ffn_add_step = needs_add_step(layer, layer.parts.ffn_output_norm, DOWN)
    describe_output(&job.down, &job.ffn_output, &job.ffn_added, &gated[0, 0], gated.shape[1],
                    layer.parts.ffn_sub_norm, layer.parts.ffn_output_norm, layer, DOWN, layer.down, hidden,
                    into if job.ffn_add_step else NULL)
    return 0


cdef int describe_heads(AttentionJob *job, DecoderLayer layer, layout, int index, rotaries) except -1:
    """What the attention of one layer has of its own."""
    if layer.head_dim not in (0, job.head_dim):
        raise ValueError(f"q_norm and k_norm have {layer.head_dim} weights, but heads have {job.head_dim} elements")
    if layer.rotary >= len(rotaries):
        raise ValueError(f"a layer uses rotary table {layer.rotary}, but there are only {len(rotaries)}")
    use_layer(job, layout, index)
    if layer.rotary:
        use_rotary(job, rotaries[layer.rotary])
    job.q_norm, job.k_norm = layer.parts.q_norm.weights, layer.parts.k_norm.weights
    job.eps, job.rotate_first, job.window = layer.eps, layer.rotate_first, layer.window
    return 0


cdef void include_layer(Reservation *needed, const LayerJob *job) noexcept nogil:
    """Adds what the inputs of a layer need in the workspace."""
    cdef int part
    for part in range(job.qkv_parts):
        include_input(needed, &job.qkv_inputs[part])
    for part in range(job.gate_up_parts):
        include_input(needed, &job.ffn_inputs[part])
    include_input(needed, &job.attended)
    include_input(needed, &job.ffn_output)


cdef int64_t layer_scratch_bytes(const LayerJob *job, int threads) noexcept nogil:
    cdef int64_t most = max(scratch_bytes(&job.qkv_inputs[0]), attention_scratch_bytes(&job.attention))
    most = max(most, max(scratch_bytes(&job.attended), scratch_bytes(&job.ffn_output)))
    most = max(most, max(gated_scratch_bytes(&job.ffn_inputs[0]), add_scratch_bytes(&job.ffn_added)))
    if job.fused and can_skip_rows(&job.gated):
        most = max(most, rows_scratch_bytes(&job.gated, threads))
    if can_skip_columns(&job.down):
        most = max(most, columns_scratch_bytes(&job.down, threads))
    return most


cdef Step *put(Step *steps, int operation, Step what) noexcept nogil:
    """Writes a step, and returns the place of the next one."""
    steps[0] = as_operation(operation, what)
    return steps + 1


cdef Step *put_product(Step *steps, Workspace workspace, int operation, Projections *job) noexcept nogil:
    """The steps that quantise an input and multiply it."""
    place_input(workspace, job.input)
    steps = put(steps, OP_NORM_QUANTIZE, quantize_step(job.input))
    return put(steps, operation, project_step(job, workspace.n_threads))


cdef Step *put_gate_up(Step *steps, Workspace workspace, LayerJob *job) noexcept nogil:
    cdef int part
    cdef Input *source = &job.ffn_inputs[0]
    if not job.fused:
        for part in range(job.gate_up_parts):
            steps = put_product(steps, workspace, OP_GATE_UP, &job.gate_up[part])
        return put(steps, OP_GATE_UP, activate_step(&job.activated))
    place_input(workspace, source)
    steps = put(steps, OP_NORM_QUANTIZE, quantize_step(source))
    if can_skip_rows(&job.gated):
        rows_skipping_steps(&job.gated, workspace.n_threads, steps)
        return steps + 2
    return put(steps, OP_GATE_UP, gated_step(&job.gated, workspace.n_threads))


cdef Step *put_layer(Step *steps, Workspace workspace, LayerJob *job) noexcept nogil:
    """Writes at most MAX_STEPS steps and returns the place after them. Call it after `workspace.reserve`."""
    cdef int part
    for part in range(job.qkv_parts):
        steps = put_product(steps, workspace, OP_QKV, &job.qkv[part])
    attention_steps(&job.attention, steps)
    steps = put_product(steps + ATTENTION_STEPS, workspace, OP_O, &job.o)
    if job.attention_add_step:
        steps = put(steps, OP_O, add_step(&job.attention_added))
    steps = put_gate_up(steps, workspace, job)
    if can_skip_columns(&job.down):
        place_input(workspace, &job.ffn_output)
        steps = put(steps, OP_NORM_QUANTIZE, quantize_step(&job.ffn_output))
        columns_skipping_steps(&job.down, workspace.n_threads, steps)
        steps += 2
    else:
        steps = put_product(steps, workspace, OP_DOWN, &job.down)
    if job.ffn_add_step:
        steps = put(steps, OP_DOWN, add_step(&job.ffn_added))
    return steps


cdef int64_t layer_work(const LayerJob *job) noexcept nogil:
    cdef int64_t work = project_work(&job.o) + project_work(&job.down) + job.attention.work
    cdef int part
    for part in range(job.qkv_parts):
        work += project_work(&job.qkv[part])
    if job.fused:
        return work + gated_work(&job.gated)
    for part in range(job.gate_up_parts):
        work += project_work(&job.gate_up[part])
    return work


def decoder_layers(float[:, ::1] hidden, layers, int first, segments, layout, int64_t heads, rotaries, float scale,
                   float[:, ::1] qkv, float[:, ::1] attended, float[:, ::1] gated, Workspace workspace):
    """Runs consecutive layers over the new rows of one or more sequences.

    Parameters
    ----------
    hidden : float32 (n, hidden), the residual stream                         # IN, OUT
    layers : sequence of DecoderLayer
    first : int
        Index of the first of these layers in the model and in the cache.
    segments, layout, heads, scale
        As in attention.rope_append_attend.
    rotaries : sequence of (cos, sin), float32 (positions, head_dim // 2)
        Layers choose among them.
    qkv : float32 (n, (heads + 2 * kv_heads) * head_dim)                      # scratch
    attended : float32 (n, heads * head_dim)                                  # scratch
    gated : float32 (n, intermediate)                                         # scratch

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    cdef int count = len(layers), i
    cdef int64_t n = hidden.shape[0], scratch = 0, work = 0
    cdef Reservation needed = [0, 0, False]
    cdef Segment segment_storage[MAX_SEQUENCES]
    cdef AttentionJob attention
    cdef LayerJob *jobs
    cdef LayerJob *job
    cdef Step *steps
    cdef Step *end
    cdef DecoderLayer layer
    cdef bint activate_steps = False, add_steps = False
    cdef float[::1] partials
    cdef float[:, ::1] up_products, products
    if n == 0 or count == 0:
        return
    if qkv.shape[0] != n:
        raise ValueError(f"qkv has {qkv.shape[0]} rows, the hidden states have {n}")
    describe_attention(&attention, segment_storage, qkv, segments, layout, heads, rotaries[0], scale, attended)
    partials = np.empty(partial_floats(&attention), np.float32)
    attention.partials = &partials[0]
    for layer in layers:
        activate_steps |= needs_activate_step(layer)
        add_steps |= needs_add_step(layer, layer.parts.attention_output_norm, O)
        add_steps |= needs_add_step(layer, layer.parts.ffn_output_norm, DOWN)
    # memory of parts that many models do not have
    up_products = np.empty((n if activate_steps else 1, gated.shape[1]), np.float32)
    products = np.empty((n if add_steps else 1, hidden.shape[1]), np.float32)
    jobs = <LayerJob *>malloc(count * sizeof(LayerJob))
    steps = <Step *>malloc(count * MAX_STEPS * sizeof(Step))
    try:
        if jobs == NULL or steps == NULL:
            raise MemoryError(f"cannot allocate the steps of {count} layers")
        for i in range(count):
            job = &jobs[i]
            describe_layer(job, layers[i], hidden, qkv, attended, gated, up_products, products)
            job.attention = attention
            describe_heads(&job.attention, layers[i], layout, first + i, rotaries)
            include_layer(&needed, job)
            scratch = max(scratch, layer_scratch_bytes(job, workspace.n_threads))
            work += layer_work(job)
        reserve_inputs(workspace, n, &needed, scratch)
        end = steps
        for i in range(count):
            end = put_layer(end, workspace, &jobs[i])
        run_steps(steps, <int>(end - steps), workspace, work)
    finally:
        free(jobs)
        free(steps)
