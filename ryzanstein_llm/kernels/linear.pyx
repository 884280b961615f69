# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Linear layers as steps: norm and quantisation, ternary products, gated activation, float head.

Each compute function checks its arguments and returns None. Results do not depend on the number of
threads, on the tier, or on how tokens are divided between calls. decoder.pyx joins the same steps to
whole layers.
"""
import numpy as np

from libc.stdint cimport int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_PANEL_TILES, RZ_STORE_ADD, RZ_STORE_SET, RZ_TILE_ROWS, kernels, rz_ternary)
from ryzanstein_llm.kernels.inputs cimport (
    Input, Reservation, describe_input, include_input, multiply, place_input, quantize_step, request_input,
    reserve_inputs, scratch_bytes, tokens_of)
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.ternary_matrix cimport TernaryMatrix
from ryzanstein_llm.kernels.workspace cimport OP_HEAD, OP_HEAD_NORM, OP_OTHER, Workspace

from ryzanstein_llm.kernels import packing

ACTIVATIONS = {"relu2": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}

cdef enum:
    HEAD_ROWS = 64   # rows of a float matrix in a task
    TASKS = 4        # for each thread, at least, where there are enough tokens
    BLOCK = 128      # tokens of a task, at least: opening a panel must not take longer than multiplying it


cdef int64_t panels(const rz_ternary *matrix) noexcept nogil:
    return (matrix.row_tiles + RZ_PANEL_TILES - 1) // RZ_PANEL_TILES


cdef int add_matrix(Projections *job, TernaryMatrix matrix, float *out, int64_t out_stride) except -1:
    """Adds a product to a job whose `input` is described and whose `count` began at 0."""
    cdef int i = job.count
    if i == MAX_MATRICES:
        raise ValueError(f"a call takes at most {MAX_MATRICES} matrices")
    request_input(job.input, matrix, i == 0)
    job.matrices[i] = &matrix.matrix
    job.out[i] = out
    job.out_stride[i] = out_stride
    job.bias[i] = NULL
    if i == 0:
        job.first_panel[0] = 0
    job.first_panel[i + 1] = job.first_panel[i] + panels(&matrix.matrix)
    job.count = i + 1
    return 0


cdef int64_t token_blocks(int64_t panels, int64_t tokens, int threads) noexcept nogil:
    """Blocks of tokens into which a step is divided, so that many threads have equal shares of few panels."""
    return max(1, min(tokens // BLOCK, (TASKS * threads + panels - 1) // panels)) if threads > 1 else 1


cdef void add_bias(const float *bias, int64_t first, int64_t end, float *out, int64_t out_stride,
                   int64_t n) noexcept nogil:
    """Adds the bias to rows [first, end) of a product that was stored with RZ_STORE_SET."""
    cdef int64_t t, row
    for t in range(n):
        for row in range(first, end):
            out[t * out_stride + row] += bias[row]


cdef void project_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Projections *job = <const Projections *>data
    cdef const Input *source = job.input
    cdef int i = 0
    cdef int64_t panel = task // job.blocks, block = task % job.blocks, tile, end
    cdef int64_t first = source.n * block // job.blocks
    cdef float *out
    cdef Input part
    while panel >= job.first_panel[i + 1]:
        i += 1
    tile = (panel - job.first_panel[i]) * RZ_PANEL_TILES
    end = min(tile + RZ_PANEL_TILES, job.matrices[i].row_tiles)
    out = job.out[i] + first * job.out_stride[i]
    if job.blocks > 1:
        part = tokens_of(source, first, source.n * (block + 1) // job.blocks)
        source = &part
    multiply(job.matrices[i], tile, end, source, out, job.out_stride[i], job.store, workspace.thread_scratch(thread))
    if job.bias[i] != NULL:
        add_bias(job.bias[i], tile * RZ_TILE_ROWS, min(end * RZ_TILE_ROWS, job.matrices[i].rows), out,
                 job.out_stride[i], source.n)


cdef Step project_step(Projections *job, int threads) noexcept nogil:
    """A task for each panel of rows of each matrix, and each block of tokens."""
    job.blocks = token_blocks(job.first_panel[job.count], job.input.n, threads)
    return step(project_task, job, job.first_panel[job.count] * job.blocks)


cdef int64_t project_work(const Projections *job) noexcept nogil:
    return job.first_panel[job.count] * PANEL_ROWS * job.input.columns * job.input.n


cdef int describe_gated(Gated *job, Input *source, TernaryMatrix gate, TernaryMatrix up, activation,
                        float[:, ::1] out) except -1:
    """Checks the shapes and fills in the job."""
    job.activation = ACTIVATIONS[activation]
    job.input = source
    if gate.rows != up.rows or gate.columns != up.columns:
        raise ValueError(f"{gate!r} and {up!r} differ in shape")
    if source.columns != gate.columns or out.shape[0] != source.n or out.shape[1] != gate.rows:
        raise ValueError(f"{gate!r} does not fit an input of shape {(source.n, source.columns)} and an output of "
                         f"shape {(out.shape[0], out.shape[1])}")
    request_input(source, gate, True)
    request_input(source, up, False)
    job.gate = &gate.matrix
    job.up = &up.matrix
    job.out = &out[0, 0]
    return 0


cdef int64_t gated_scratch_bytes(const Input *source) noexcept nogil:
    """Bytes of scratch of a thread: `scratch_bytes`, and a panel of `up` for each token."""
    return scratch_bytes(source) + 4 * PANEL_ROWS * source.n


cdef void gated_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Gated *job = <const Gated *>data
    cdef const Input *source = job.input
    cdef int64_t block = task % job.blocks, token = source.n * block // job.blocks, t, rows = job.gate.rows
    cdef int64_t tile = task // job.blocks * RZ_PANEL_TILES, first = tile * RZ_TILE_ROWS
    cdef int64_t end = min(tile + RZ_PANEL_TILES, job.gate.row_tiles), width = min(PANEL_ROWS, rows - first)
    cdef void *scratch = workspace.thread_scratch(thread)
    cdef float *up = <float *>(<uint8_t *>scratch + kernels().product_scratch(source.columns, source.n))
    cdef float *out = job.out + token * rows
    cdef float *gate
    cdef Input part
    if job.blocks > 1:
        part = tokens_of(source, token, source.n * (block + 1) // job.blocks)
        source = &part
    multiply(job.gate, tile, end, source, out, rows, RZ_STORE_SET, scratch)
    # the kernel writes rows from `first` on, and `up` holds only one panel
    multiply(job.up, tile, end, source, up - first, PANEL_ROWS, RZ_STORE_SET, scratch)
    for t in range(source.n):
        gate = out + t * rows + first
        kernels().activate_gated[job.activation](gate, up + t * PANEL_ROWS, width, gate)


cdef Step gated_step(Gated *job, int threads) noexcept nogil:
    """A task for each panel of rows of gate and up, and each block of tokens."""
    job.blocks = token_blocks(panels(job.gate), job.input.n, threads)
    return step(gated_task, job, panels(job.gate) * job.blocks)


cdef int64_t gated_work(const Gated *job) noexcept nogil:
    return 2 * job.gate.rows * job.gate.columns * job.input.n


def norm_project(const float[:, ::1] x, norm, float eps, matrices, outputs, Workspace workspace, bint accumulate=False,
                 bint head=False):
    """outputs[i] = matrices[i] @ int8(rms_norm(x)), or += for a residual stream.

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,), or None for no norm                            # IN
    eps : float
        The norm's epsilon.
    matrices : sequence of 1..8 TernaryMatrix with `columns` columns          # IN
    outputs : sequence of float32 (n, rows), each row contiguous              # OUT
    accumulate : bool
        Add to the outputs instead of setting them.
    head : bool
        Whether profiles count this as the output head.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    """
    cdef Input source
    cdef Reservation needed = [0, 0, False]
    cdef Projections job
    cdef Step steps[2]
    cdef float[:, :] out
    cdef int64_t i, size = sizeof(float)
    if not 1 <= len(matrices) <= MAX_MATRICES or len(outputs) != len(matrices):
        raise ValueError(f"{len(matrices)} matrices and {len(outputs)} outputs do not fit a call, which takes 1 to "
                         f"{MAX_MATRICES} matrices with one output each")
    if x.shape[0] == 0:
        return
    describe_input(&source, x, norm, eps)
    job.input = &source
    job.count = 0
    job.store = RZ_STORE_ADD if accumulate else RZ_STORE_SET
    for i in range(len(matrices)):
        out = outputs[i]
        rows = matrices[i].rows
        if out.shape[0] != source.n or out.shape[1] != rows or (rows > 1 and out.strides[1] != size) \
                or out.strides[0] % size:
            raise ValueError(f"the output of {matrices[i]!r} must have shape {(source.n, rows)} and rows of unit "
                             f"stride, not shape {(out.shape[0], out.shape[1])} and strides of "
                             f"{(out.strides[0], out.strides[1])} bytes")
        add_matrix(&job, matrices[i], &out[0, 0], out.strides[0] // size)
    include_input(&needed, &source)
    reserve_inputs(workspace, source.n, &needed, scratch_bytes(&source))
    place_input(workspace, &source)
    steps[0] = as_operation(OP_HEAD_NORM if head else OP_OTHER, quantize_step(&source))
    steps[1] = as_operation(OP_HEAD if head else OP_OTHER, project_step(&job, workspace.n_threads))
    run_steps(steps, 2, workspace, project_work(&job))


def norm_gated(const float[:, ::1] x, norm, float eps, TernaryMatrix gate, TernaryMatrix up, activation,
               float[:, ::1] out, Workspace workspace):
    """out = activation(gate @ a) * (up @ a) with a = int8(rms_norm(x)).

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,) or None                                         # IN
    gate, up : TernaryMatrix (rows, columns)                                  # IN
    activation : a key of ACTIVATIONS
    out : float32 (n, rows)                                                   # OUT

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    """
    cdef Input source
    cdef Reservation needed = [0, 0, False]
    cdef Gated job
    cdef Step steps[2]
    if x.shape[0] == 0:
        return
    describe_input(&source, x, norm, eps)
    describe_gated(&job, &source, gate, up, activation, out)
    include_input(&needed, &source)
    reserve_inputs(workspace, source.n, &needed, gated_scratch_bytes(&source))
    place_input(workspace, &source)
    steps[0] = quantize_step(&source)
    steps[1] = gated_step(&job, workspace.n_threads)
    run_steps(steps, 2, workspace, gated_work(&job))


def layer_scratch(int64_t hidden, int64_t widest, int64_t tokens):
    """Bytes of scratch of a thread for the products of a layer with `tokens` rows, in the current tier: the gated one
    of `hidden` columns, or that of `widest`. Attention may need more for a few rows."""
    cdef Input source
    source.columns, source.n = hidden, tokens
    gated = gated_scratch_bytes(&source)
    source.columns = widest
    return max(gated, scratch_bytes(&source))


cdef struct DenseJob:
    Input input
    const void *matrix
    int kind
    int64_t rows
    float *normed
    float *out


cdef void dense_norm_task(const void *data, Workspace workspace, int64_t token, int thread) noexcept nogil:
    cdef const DenseJob *job = <const DenseJob *>data
    cdef int64_t at = token * job.input.columns
    kernels().rms_norm(job.input.x + at, job.input.norm, job.input.eps, job.input.columns, job.normed + at)


cdef void dense_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const DenseJob *job = <const DenseJob *>data
    cdef const float *x = job.input.x if job.input.norm == NULL else job.normed
    kernels().dense_matmul[job.kind](job.matrix, job.input.columns, task * HEAD_ROWS,
                                     min((task + 1) * HEAD_ROWS, job.rows), x, job.input.n, job.out, job.rows)


def norm_dense(const float[:, ::1] x, norm, float eps, weights, kind, float[:, ::1] out, Workspace workspace):
    """out = rms_norm(x) @ weights.T in floats: the output head.

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,) or None                                         # IN
    weights : C-contiguous (rows, columns) in `kind`                          # IN
    kind : "F32", "F16" or "BF16" (the last as uint16)
    out : float32 (n, rows)                                                   # OUT

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    """
    cdef DenseJob job
    cdef Step steps[2]
    cdef float[:, ::1] normed
    job.kind = packing.FLOAT_KINDS[kind]
    job.rows = weights.shape[0]
    if weights.shape[1] != x.shape[1] or out.shape[0] != x.shape[0] or out.shape[1] != job.rows \
            or not weights.flags.c_contiguous:
        raise ValueError(f"weights of shape {weights.shape} do not fit an input of shape {(x.shape[0], x.shape[1])} "
                         f"and an output of shape {(out.shape[0], out.shape[1])}, or are not C-contiguous")
    if weights.dtype.itemsize != (4 if kind == "F32" else 2):
        raise ValueError(f"weights of dtype {weights.dtype} are not {kind}")
    if x.shape[0] == 0:
        return
    describe_input(&job.input, x, norm, eps)
    normed = np.empty((x.shape[0], x.shape[1]), np.float32)
    job.normed = &normed[0, 0]
    job.matrix = <const void *><size_t>weights.ctypes.data
    job.out = &out[0, 0]
    steps[0] = as_operation(OP_HEAD_NORM, step(dense_norm_task, &job, job.input.n if norm is not None else 0))
    steps[1] = as_operation(OP_HEAD, step(dense_task, &job, (job.rows + HEAD_ROWS - 1) // HEAD_ROWS))
    run_steps(steps, 2, workspace, 4 * job.input.n * job.rows * job.input.columns)  # floats cost more than codes
