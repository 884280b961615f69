# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Half a decoder layer in one fork and join: attention, and feed-forward.

The steps are those of linear.pyx and attention.pyx. Between two calls lie a fork, a join and
some Python, whose caches have just been emptied by a stream of weights: at a hundred calls
a token that was 5 % of the time.
"""
import numpy as np

from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.attention cimport (
    Job, attention_scratch_bytes, attention_steps, partial_floats, read_attention)
from ryzanstein_llm.kernels.cpu cimport RZ_STORE_ADD, RZ_STORE_SET
from ryzanstein_llm.kernels.linear cimport (
    Gated, Input, Projections, TernaryMatrix, add_matrix, gated_scratch_bytes, gated_step, gated_work, project_step,
    project_work, quantize_step, read_gated, read_input, scratch_bytes)
from ryzanstein_llm.kernels.skipping cimport (
    can_skip_columns, can_skip_rows, columns_scratch_bytes, columns_skipping_steps, rows_scratch_bytes,
    rows_skipping_steps)
from ryzanstein_llm.kernels.steps cimport Step, run_steps
from ryzanstein_llm.kernels.workspace cimport Workspace


def attention_half(float[:, ::1] hidden, norm, float eps, TernaryMatrix q, TernaryMatrix k, TernaryMatrix v,
                   float[:, ::1] qkv, segments, layout, int layer, int64_t heads, rotary, float scale,
                   float[:, ::1] attended, sub_norm, TernaryMatrix o, Workspace space):
    """hidden += o @ int8(sub_norm(attention(rope(q, k, v of int8(norm(hidden))))))

    Parameters
    ----------
    hidden : float32 (n, columns), the residual stream                        # IN and OUT
    norm, sub_norm : float32 (columns,), (heads * head_dim,), or None for no norm
    q, k, v, o : TernaryMatrix
    qkv : float32 (n, (heads + 2 * kv_heads) * head_dim)                      # scratch
    attended : float32 (n, heads * head_dim)                                  # scratch
    segments, layout, layer, heads, rotary, scale
        As in attention.rope_append_attend.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    cdef Input source, sub_source
    cdef Projections inward, outward
    cdef Job attention
    cdef Step steps[7]
    cdef float[::1] partials
    cdef int64_t width = qkv.shape[1]
    if hidden.shape[0] == 0:
        return
    if q.rows + k.rows + v.rows != width or o.rows != hidden.shape[1] or qkv.shape[0] != hidden.shape[0]:
        raise ValueError(f"{q!r}, {k!r}, {v!r}, {o!r} do not fit hidden {(hidden.shape[0], hidden.shape[1])} "
                         f"and qkv {(qkv.shape[0], width)}")
    read_input(&source, hidden, norm, eps)
    inward.input = &source
    inward.count = 0
    inward.store = RZ_STORE_SET
    add_matrix(&inward, q, &qkv[0, 0], width)
    add_matrix(&inward, k, &qkv[0, 0] + q.matrix.rows, width)
    add_matrix(&inward, v, &qkv[0, 0] + q.matrix.rows + k.matrix.rows, width)
    read_attention(&attention, qkv, segments, layout, layer, heads, rotary, scale, attended)
    read_input(&sub_source, attended, sub_norm, eps)
    outward.input = &sub_source
    outward.count = 0
    outward.store = RZ_STORE_ADD
    add_matrix(&outward, o, &hidden[0, 0], hidden.shape[1])

    space.reserve(source.n, max(source.columns, sub_source.columns),
                  max(max(scratch_bytes(&source), scratch_bytes(&sub_source)), attention_scratch_bytes(&attention)))
    source.quantized = space.activations(source.n, source.columns)
    sub_source.quantized = space.activations(source.n, sub_source.columns)
    partials = np.empty(partial_floats(&attention), np.float32)
    attention.partials = &partials[0]

    steps[0] = quantize_step(&source)
    steps[1] = project_step(&inward)
    attention_steps(&attention, &steps[2])
    steps[5] = quantize_step(&sub_source)
    steps[6] = project_step(&outward)
    run_steps(steps, 7, space, project_work(&inward) + project_work(&outward) + attention.work)


def feed_forward_half(float[:, ::1] hidden, norm, float eps, TernaryMatrix gate, TernaryMatrix up, activation,
                      float[:, ::1] gated, sub_norm, TernaryMatrix down, Workspace space):
    """hidden += down @ int8(sub_norm(activation(gate @ a) * (up @ a))), a = int8(norm(hidden))

    Parameters
    ----------
    hidden : float32 (n, columns), the residual stream                        # IN and OUT
    norm, sub_norm : float32 (columns,), (intermediate,), or None for no norm
    gate, up, down : TernaryMatrix
    activation : a key of linear.ACTIVATIONS
    gated : float32 (n, intermediate)                                         # scratch

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    cdef Input source, sub_source
    cdef Gated inward
    cdef Projections outward
    cdef Step steps[6]
    cdef int64_t scratch
    cdef int count
    if hidden.shape[0] == 0:
        return
    if down.rows != hidden.shape[1]:
        raise ValueError(f"{down!r} does not fit hidden {(hidden.shape[0], hidden.shape[1])}")
    read_input(&source, hidden, norm, eps)
    read_gated(&inward, &source, gate, up, activation, gated)
    read_input(&sub_source, gated, sub_norm, eps)
    outward.input = &sub_source
    outward.count = 0
    outward.store = RZ_STORE_ADD
    add_matrix(&outward, down, &hidden[0, 0], hidden.shape[1])

    scratch = max(gated_scratch_bytes(&source), scratch_bytes(&sub_source))
    if can_skip_rows(&inward):
        scratch = max(scratch, rows_scratch_bytes(&inward, space.n_threads))
    if can_skip_columns(&outward):
        scratch = max(scratch, columns_scratch_bytes(&outward, space.n_threads))
    space.reserve(source.n, max(source.columns, sub_source.columns), scratch)
    source.quantized = space.activations(source.n, source.columns)
    sub_source.quantized = space.activations(source.n, sub_source.columns)

    steps[0] = quantize_step(&source)
    count = 1
    if can_skip_rows(&inward):
        rows_skipping_steps(&inward, space.n_threads, &steps[count])
        count += 2
    else:
        steps[count] = gated_step(&inward)
        count += 1
    steps[count] = quantize_step(&sub_source)
    count += 1
    if can_skip_columns(&outward):
        columns_skipping_steps(&outward, space, &steps[count])
        count += 2
    else:
        steps[count] = project_step(&outward)
        count += 1
    run_steps(steps, count, space, gated_work(&inward) + project_work(&outward))
