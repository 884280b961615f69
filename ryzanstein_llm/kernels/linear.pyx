# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Linear layers: one fork/join covers norm, quantisation, products and what follows them.

Knows matrices and activations, neither models nor files. Every call checks its
arguments, releases the GIL and returns None; results do not depend on the number
of threads, the tier, or how tokens are split between calls.
"""
import numpy as np

from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_MAX_COLUMNS, RZ_PANEL_TILES, RZ_STORE_ADD, RZ_STORE_SET, RZ_TERNARY_LAYOUT_VERSION,
    RZ_TERNARY_SCRATCH_BYTES, RZ_TILE_ROWS, kernels, rz_activations, rz_float_mode_enter,
    rz_float_mode_leave, rz_kernels, rz_output_mode, rz_ternary)
from ryzanstein_llm.kernels.workspace cimport Workspace

from ryzanstein_llm.kernels import packing

TERNARY_LAYOUT_VERSION = RZ_TERNARY_LAYOUT_VERSION
ACTIVATIONS = {"relu2": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}

cdef enum:
    MAX_MATRICES = 8
    PANEL_ROWS = 64  # RZ_PANEL_TILES * RZ_TILE_ROWS
    HEAD_ROWS = 64   # rows of a float matrix a task takes at a time


cdef class TernaryMatrix:
    """A ternary weight matrix in the kernels' layout, with one scale.

    Parameters
    ----------
    tiles : uint8 array of `packing.tile_shape(rows, columns)`, 64-byte aligned
    rows, columns : int
        Output and input features.
    scale : float > 0
        The value a code of +1 stands for.
    """
    cdef rz_ternary matrix
    cdef readonly object tiles

    def __cinit__(self, tiles, int64_t rows, int64_t columns, float scale):
        if not 1 <= columns <= RZ_MAX_COLUMNS or rows < 1:
            raise ValueError(f"no ternary matrix of {rows} x {columns}")
        if tiles.shape != packing.tile_shape(rows, columns) or tiles.dtype != np.uint8:
            raise ValueError(f"tiles {tiles.dtype}{tiles.shape} do not hold {rows} x {columns}")
        if not tiles.flags.c_contiguous or tiles.ctypes.data % 64:
            raise ValueError("tiles must be contiguous and 64-byte aligned")
        self.tiles = tiles
        self.matrix.tiles = <const uint8_t *><size_t>tiles.ctypes.data
        self.matrix.rows = rows
        self.matrix.columns = columns
        self.matrix.row_tiles = tiles.shape[0]
        self.matrix.column_tiles = tiles.shape[1]
        self.matrix.scale = scale

    @property
    def rows(self):
        """Output features."""
        return self.matrix.rows

    @property
    def columns(self):
        """Input features."""
        return self.matrix.columns

    @property
    def scale(self):
        """The value of +1."""
        return self.matrix.scale

    @property
    def nbytes(self):
        """Bytes of the tiles."""
        return self.tiles.nbytes

    def dense(self):
        """int8 (rows, columns) of -1, 0, 1; without the scale."""
        return packing.unpack(self.tiles, self.rows, self.columns)

    def __repr__(self):
        return f"TernaryMatrix({self.rows} x {self.columns}, scale {self.scale:.6g})"


cdef struct Input:
    # what a call reads: float activations, normalised and quantised in its first loop
    const float *x
    int64_t x_stride
    int64_t n
    int64_t columns
    const float *norm
    float eps
    bint has_norm
    rz_activations quantized


cdef struct Projections:
    Input input
    int count
    const rz_ternary *matrices[MAX_MATRICES]
    float *out[MAX_MATRICES]
    int64_t out_stride[MAX_MATRICES]
    int64_t first_task[MAX_MATRICES + 1]
    rz_output_mode store


cdef void quantize_token(const rz_kernels *kernel, const Input *source, Workspace space, int64_t token,
                         int thread) noexcept nogil:
    cdef const float *x = source.x + token * source.x_stride
    cdef float *normed = <float *>space.thread_scratch(thread)
    if source.has_norm:
        kernel.rms_norm(x, source.norm, source.eps, source.columns, normed)
        x = normed
    kernel.quantize(x, source.columns, source.quantized.stride, space.codes + token * source.quantized.stride,
                    space.scales + token, space.sums + token)


cdef void project_task(const rz_kernels *kernel, const Projections *job, Workspace space, int64_t task,
                       int thread) noexcept nogil:
    cdef int i = 0
    cdef int64_t tile, end
    if space.cancel[0]:
        return
    while task >= job.first_task[i + 1]:
        i += 1
    tile = (task - job.first_task[i]) * RZ_PANEL_TILES
    end = min(tile + RZ_PANEL_TILES, job.matrices[i].row_tiles)
    kernel.ternary_matmul(job.matrices[i], tile, end, &job.input.quantized, job.out[i], job.out_stride[i],
                          job.store, space.thread_scratch(thread))


cdef int read_input(Input *source, x, norm, float eps, Workspace space, int64_t extra_scratch) except -1:
    """Checks x (n, columns) and norm (columns,) or None, and reserves what they need."""
    cdef const float[:, ::1] values = x
    cdef const float[::1] weights
    source.n = values.shape[0]
    source.columns = values.shape[1]
    source.x = &values[0, 0]
    source.x_stride = source.columns
    source.has_norm = norm is not None
    source.norm = NULL
    source.eps = eps
    if norm is not None:
        weights = norm
        if weights.shape[0] != source.columns:
            raise ValueError(f"norm of {weights.shape[0]} weights for {source.columns} columns")
        source.norm = &weights[0]
    space.reserve(source.n, source.columns,
                  max(<int64_t>RZ_TERNARY_SCRATCH_BYTES(source.n) + extra_scratch, 4 * source.columns))
    source.quantized = space.activations(source.n, source.columns)
    return 0


cdef int read_output(Projections *job, int i, float[:, :] out, int64_t rows) except -1:
    """Checks output i and notes where it is."""
    if out.shape[0] != job.input.n or out.shape[1] != rows or (rows > 1 and out.strides[1] != sizeof(float)) \
            or out.strides[0] % <int64_t>sizeof(float):
        raise ValueError(f"output must be {(job.input.n, rows)} with unit stride, not "
                         f"{(out.shape[0], out.shape[1])} with strides {(out.strides[0], out.strides[1])}")
    job.out[i] = &out[0, 0]
    job.out_stride[i] = out.strides[0] // <int64_t>sizeof(float)
    return 0


def norm_project(x, norm, float eps, matrices, outputs, Workspace space, bint accumulate=False):
    """outputs[i] = matrices[i] @ int8(rms_norm(x)), or += for a residual stream.

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,) or None for no norm                             # IN
    eps : the norm's epsilon
    matrices : sequence of 1..8 TernaryMatrix with `columns` columns          # IN
    outputs : sequence of float32 (n, rows) arrays, rows unit-strided         # OUT
    accumulate : add to the outputs instead of setting them

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    """
    cdef Projections job
    cdef TernaryMatrix matrix
    cdef int64_t i, tasks
    cdef unsigned int mode = 0
    cdef const rz_kernels *kernel = kernels()
    if not 1 <= len(matrices) <= MAX_MATRICES or len(outputs) != len(matrices):
        raise ValueError(f"{len(matrices)} matrices and {len(outputs)} outputs")
    if len(x) == 0:
        return
    read_input(&job.input, x, norm, eps, space, 0)
    job.count = len(matrices)
    job.store = RZ_STORE_ADD if accumulate else RZ_STORE_SET
    job.first_task[0] = 0
    for i in range(job.count):
        matrix = matrices[i]
        if matrix.matrix.columns != job.input.columns:
            raise ValueError(f"{matrix!r} does not take {job.input.columns} columns")
        read_output(&job, i, outputs[i], matrix.matrix.rows)
        job.matrices[i] = &matrix.matrix
        job.first_task[i + 1] = job.first_task[i] + (matrix.matrix.row_tiles + RZ_PANEL_TILES - 1) // RZ_PANEL_TILES
    tasks = job.first_task[job.count]
    cdef int64_t n = job.input.n
    cdef int threads = space.team(n * tasks * PANEL_ROWS * job.input.columns)
    with nogil, parallel(num_threads=threads):
        space.enter(threadid())
        mode = rz_float_mode_enter()
        for i in prange(n, schedule="static"):
            quantize_token(kernel, &job.input, space, i, threadid())
        for i in prange(tasks, schedule="dynamic"):
            project_task(kernel, &job, space, i, threadid())
        rz_float_mode_leave(mode)
        space.leave(threadid())


cdef struct Gated:
    Input input
    const rz_ternary *gate
    const rz_ternary *up
    float *out
    int activation


cdef void gated_task(const rz_kernels *kernel, const Gated *job, Workspace space, int64_t task,
                     int thread) noexcept nogil:
    cdef int64_t n = job.input.n, t, rows = job.gate.rows
    cdef int64_t tile = task * RZ_PANEL_TILES, first = tile * RZ_TILE_ROWS
    cdef int64_t end = min(tile + RZ_PANEL_TILES, job.gate.row_tiles), width = min(PANEL_ROWS, rows - first)
    cdef void *scratch = space.thread_scratch(thread)
    cdef float *up = <float *>(<uint8_t *>scratch + RZ_TERNARY_SCRATCH_BYTES(n))
    cdef float *gate
    if space.cancel[0]:
        return
    kernel.ternary_matmul(job.gate, tile, end, &job.input.quantized, job.out, rows, RZ_STORE_SET, scratch)
    # a panel of `up`, whose rows the kernel puts at `first`
    kernel.ternary_matmul(job.up, tile, end, &job.input.quantized, up - first, PANEL_ROWS, RZ_STORE_SET, scratch)
    for t in range(n):
        gate = job.out + t * rows + first
        kernel.activate_gated[job.activation](gate, up + t * PANEL_ROWS, width, gate)


def norm_gated(x, norm, float eps, TernaryMatrix gate, TernaryMatrix up, activation, float[:, ::1] out,
               Workspace space):
    """out = activation(gate @ a) * (up @ a) with a = int8(rms_norm(x)).

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,) or None                                         # IN
    gate, up : TernaryMatrix (rows, columns)                                  # IN
    activation : a key of ACTIVATIONS
    out : float32 (n, rows)                                                   # OUT
    """
    cdef Gated job
    cdef int64_t i, tasks, n
    cdef unsigned int mode = 0
    cdef const rz_kernels *kernel = kernels()
    job.activation = ACTIVATIONS[activation]
    if gate.rows != up.rows or gate.columns != up.columns:
        raise ValueError(f"{gate!r} and {up!r} differ in shape")
    if x.shape[1] != gate.columns or out.shape[0] != x.shape[0] or out.shape[1] != gate.rows:
        raise ValueError(f"{gate!r} does not fit input {x.shape} and output {(out.shape[0], out.shape[1])}")
    if x.shape[0] == 0:
        return
    read_input(&job.input, x, norm, eps, space, 4 * PANEL_ROWS * <int64_t>x.shape[0])
    job.gate = &gate.matrix
    job.up = &up.matrix
    job.out = &out[0, 0]
    n = job.input.n
    tasks = (gate.matrix.row_tiles + RZ_PANEL_TILES - 1) // RZ_PANEL_TILES
    cdef int threads = space.team(2 * n * gate.matrix.rows * gate.matrix.columns)
    with nogil, parallel(num_threads=threads):
        space.enter(threadid())
        mode = rz_float_mode_enter()
        for i in prange(n, schedule="static"):
            quantize_token(kernel, &job.input, space, i, threadid())
        for i in prange(tasks, schedule="dynamic"):
            gated_task(kernel, &job, space, i, threadid())
        rz_float_mode_leave(mode)
        space.leave(threadid())


def norm_dense(x, norm, float eps, weights, kind, float[:, ::1] out, Workspace space):
    """out = rms_norm(x) @ weights.T in floats: the output head.

    Parameters
    ----------
    x : float32 (n, columns), C-contiguous                                    # IN
    norm : float32 (columns,) or None                                         # IN
    weights : C-contiguous (rows, columns) in `kind`                          # IN
    kind : "F32", "F16" or "BF16" (the last as uint16)
    out : float32 (n, rows)                                                   # OUT
    """
    cdef int code = packing.FLOAT_KINDS[kind]
    cdef const rz_kernels *kernel = kernels()
    cdef int64_t n = x.shape[0], columns = x.shape[1], rows = weights.shape[0], i, tasks
    cdef unsigned int mode = 0
    cdef const float[:, ::1] values = x
    cdef const float[::1] gains
    cdef const float *gain = NULL
    cdef const void *matrix = <const void *><size_t>weights.ctypes.data
    if weights.shape[1] != columns or out.shape[0] != n or out.shape[1] != rows or not weights.flags.c_contiguous:
        raise ValueError(f"weights {weights.shape} do not fit input {x.shape}, output {(out.shape[0], out.shape[1])}")
    if weights.dtype.itemsize != (4 if kind == "F32" else 2):
        raise ValueError(f"weights of dtype {weights.dtype} are not {kind}")
    if n == 0:
        return
    if norm is not None:
        gains = norm
        if gains.shape[0] != columns:
            raise ValueError(f"norm of {gains.shape[0]} weights for {columns} columns")
        gain = &gains[0]
    normed = np.empty((n, columns), np.float32) if norm is not None else x
    cdef const float[:, ::1] normed_view = normed
    cdef float *to = <float *>&normed_view[0, 0]
    tasks = (rows + HEAD_ROWS - 1) // HEAD_ROWS
    cdef int threads = space.team(4 * n * rows * columns)  # floats cost more than codes
    with nogil, parallel(num_threads=threads):
        space.enter(threadid())
        mode = rz_float_mode_enter()
        if gain != NULL:
            for i in prange(n, schedule="static"):
                kernel.rms_norm(&values[i, 0], gain, eps, columns, to + i * columns)
        for i in prange(tasks, schedule="dynamic"):
            if not space.cancel[0]:
                kernel.dense_matmul[code](matrix, columns, i * HEAD_ROWS, min((i + 1) * HEAD_ROWS, rows), to, n,
                                          &out[0, 0], rows)
        rz_float_mode_leave(mode)
        space.leave(threadid())
