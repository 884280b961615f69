# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Linear layers as steps: norm and quantisation, ternary products, gated activation, float head.

Each compute function checks its arguments and returns None. Results do not depend on the number of
threads, on the tier, or on how tokens are divided between calls. decoder.pyx joins the same steps to
whole layers.
"""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy
from ryzanstein_llm.kernels.cpu cimport (
    RZ_FEW_TOKENS, RZ_LAYOUT_TABLES, RZ_LINE_BYTES, RZ_LINE_CODES, RZ_LINE_TRITS, RZ_MAX_COLUMNS, RZ_PANEL_TILES,
    RZ_STORE_ADD, RZ_STORE_SET, RZ_TABLES_BYTES, RZ_TERNARY_LAYOUT_VERSION, RZ_TERNARY_SCRATCH_BYTES, RZ_TILE_ROWS,
    RZ_GROUP_COLUMNS, RZ_GROUPS, kernels, rz_output_mode, rz_ternary)
from ryzanstein_llm.kernels.packing cimport describe_matrix
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD, OP_HEAD_NORM, Workspace

from ryzanstein_llm.kernels import packing

MAX_COLUMNS = RZ_MAX_COLUMNS
TERNARY_LAYOUT_VERSION = RZ_TERNARY_LAYOUT_VERSION
ACTIVATIONS = {"relu2": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}
QUANTIZATIONS = {"token": BY_TOKEN, "group": BY_GROUP, "none": NOT_QUANTIZED}

cdef enum:
    HEAD_ROWS = 64   # rows of a float matrix in a task


cdef class TernaryMatrix:
    """A ternary weight matrix in one of the kernels' layouts, with one scale or one for each group of columns.

    Parameters
    ----------
    codes : uint8 array of `packing.storage_shape(rows, columns, layout)`, 64-byte aligned
    rows, columns : int
        Number of output and of input features.
    scale : float > 0
        The value of a weight of +1. 1 for the layouts of groups, whose codes include their scales.
    layout : a key of packing.LAYOUTS or of packing.GROUP_LAYOUTS
        "tiles", "trits" and "tables" for products that need all weights; "rows", "columns", "trit_rows" and
        "trit_columns" if skipping.pyx may skip some rows or columns; "groups64" and "groups128" for a scale for
        each 64 or 128 columns of a row. Every product accepts every layout.
    quantization : a key of QUANTIZATIONS, or None
        What becomes of the input of a product: int8 with one scale a token ("token"), int8 with one scale for
        each group of the matrix ("group"), or float32 as it is ("none"). None: "group" for the layouts of groups,
        "token" for the others, which know no other.

    Raises
    ------
    ValueError
        If `codes` cannot hold such a matrix, or its products cannot have such an input.
    """
    def __cinit__(self, codes, int64_t rows, int64_t columns, float scale=1.0, layout="tiles", quantization=None):
        describe_matrix(&self.matrix, codes, rows, columns, layout)
        grouped = layout in packing.GROUP_LAYOUTS
        if quantization is None:
            quantization = "group" if grouped else "token"
        if quantization not in (QUANTIZATIONS if grouped else ("token",)):
            raise ValueError(f"the input of a matrix in the layout {layout} cannot be quantised by {quantization!r}")
        if grouped and scale != 1:
            raise ValueError(f"a matrix in the layout {layout} has scales of its own, so its scale is 1, not {scale}")
        self.codes, self.layout, self.quantization = codes, layout, quantization
        self.matrix.scale = scale
        self.input_kind = QUANTIZATIONS[quantization]

    @property
    def rows(self):
        """Number of output features."""
        return self.matrix.rows

    @property
    def columns(self):
        """Number of input features."""
        return self.matrix.columns

    @property
    def scale(self):
        """The value of a weight of +1; 1 for the layouts of groups."""
        return self.matrix.scale

    @property
    def nbytes(self):
        """Bytes of the codes."""
        return self.codes.nbytes

    @property
    def read_bytes(self):
        """Bytes that a product with all weights reads: fewer than `nbytes` if there are gaps between columns."""
        if self.layout not in ("columns", "trit_columns"):
            return self.nbytes
        line = RZ_LINE_TRITS if self.layout == "trit_columns" else RZ_LINE_CODES
        return self.codes.shape[0] * ((self.rows + line - 1) // line) * RZ_LINE_BYTES

    def dense(self):
        """The weights as int8 (rows, columns) of -1, 0 and 1, without scales."""
        return packing.unpack(self.codes, self.rows, self.columns, self.layout)

    def look_up(self, const int64_t[::1] rows):
        """Rows of a matrix in a layout of groups as float32 (len(rows), columns): scale times -1, 0 or 1.

        Raises
        ------
        ValueError
            If the matrix has another layout, or a row does not exist.
        """
        out = np.empty((rows.shape[0], self.columns), np.float32)
        packing.ternary_rows_as_floats(self.codes, self.rows, self.columns, self.layout, rows, out)
        return out

    def __repr__(self):
        scale = "" if self.layout in packing.GROUP_LAYOUTS else f"scale {self.scale:.6g}, "
        return f"TernaryMatrix({self.rows} x {self.columns}, {scale}{self.layout})"


cdef int describe_norm(Norm *norm, weights, int64_t columns) except -1:
    """Checks a norm's weights, (columns,) or None, and takes their address. The caller must keep the array."""
    cdef const float[::1] view
    norm.weights = NULL
    if weights is not None:
        view = weights
        if view.shape[0] != columns:
            raise ValueError(f"a norm of {view.shape[0]} weights does not fit {columns} columns")
        norm.weights = &view[0]
    return 0


cdef void set_input(Input *source, const float *x, int64_t n, int64_t columns, Norm norm, float eps) noexcept nogil:
    source.x = x
    source.n = n
    source.columns = columns
    source.norm = norm.weights
    source.second_norm = NULL
    source.eps = eps
    source.needs_tables = False
    source.kind = BY_TOKEN
    source.group_columns = 0


cdef int describe_input(Input *source, const float[:, ::1] x, norm, float eps) except -1:
    """Checks x, (n, columns), and norm, (columns,) or None. `source.quantized` is set after `workspace.reserve`."""
    cdef Norm weights
    describe_norm(&weights, norm, x.shape[1])
    set_input(source, &x[0, 0], x.shape[0], x.shape[1], weights, eps)
    return 0


cdef int64_t scratch_bytes(const Input *source) noexcept nogil:
    """Bytes of scratch that a thread needs to quantise the input and to multiply it."""
    return max(<int64_t>RZ_TERNARY_SCRATCH_BYTES(source.n), 4 * source.columns)


cdef int64_t input_groups(const Input *source) noexcept nogil:
    """Number of scales that a token of the input has."""
    return RZ_GROUPS(source.columns, source.group_columns) if source.group_columns else 1


cdef int request_input(Input *source, TernaryMatrix matrix, bint first) except -1:
    """Lets quantize_step write what the product with the matrix reads. All matrices of an input read the same."""
    cdef int64_t group_columns = RZ_GROUP_COLUMNS(matrix.matrix.layout)
    if matrix.matrix.columns != source.columns:
        raise ValueError(f"{matrix!r} does not fit an input of {source.columns} columns")
    if first:
        source.kind, source.group_columns = matrix.input_kind, group_columns
    elif source.kind != matrix.input_kind or source.group_columns != group_columns:
        raise ValueError(f"{matrix!r} needs another quantisation of its input than the matrices before it")
    if matrix.matrix.layout == RZ_LAYOUT_TABLES and source.n <= RZ_FEW_TOKENS and kernels().ternary_tables != NULL:
        source.needs_tables = True
    return 0


cdef void quantize_groups(const Input *source, const float *x, int8_t *codes, float *scales, int32_t *sums) noexcept nogil:
    """int8 codes of a token, and a scale and a sum for each group. BY_TOKEN: all scales are that of the token."""
    cdef int64_t group, groups = input_groups(source), wide = source.group_columns, first, i
    cdef int64_t end = source.quantized.stride
    if source.kind == BY_TOKEN:
        kernels().quantize(x, source.columns, end, codes, scales, sums)
        for group in range(groups):
            scales[group] = scales[0]
            sums[group] = 0
            for i in range(group * wide, min((group + 1) * wide, source.columns)):
                sums[group] += codes[i]
        return
    for group in range(groups):
        first = group * wide
        kernels().quantize(x + first, min(wide, source.columns - first), end - first if group + 1 == groups else wide,
                           codes + first, scales + group, sums + group)


cdef void quantize_task(const void *job, Workspace workspace, int64_t token, int thread) noexcept nogil:
    cdef const Input *source = <const Input *>job
    cdef const float *x = source.x + token * source.columns
    cdef float *normed = <float *>workspace.thread_scratch(thread)
    cdef int8_t *codes = workspace.codes + token * source.quantized.stride
    cdef int64_t groups = input_groups(source)
    if source.kind == NOT_QUANTIZED:
        normed = workspace.floats + token * source.columns
    if source.norm != NULL:
        kernels().rms_norm(x, source.norm, source.eps, source.columns, normed)
        x = normed
    if source.second_norm != NULL:
        kernels().rms_norm(x, source.second_norm, source.eps, source.columns, normed)
        x = normed
    if source.kind == NOT_QUANTIZED:
        if x != normed:
            memcpy(normed, x, source.columns * sizeof(float))
        return
    if source.group_columns:
        quantize_groups(source, x, codes, workspace.scales + token * groups, workspace.sums + token * groups)
        return
    kernels().quantize(x, source.columns, source.quantized.stride, codes, workspace.scales + token,
                       workspace.sums + token)
    if source.needs_tables:
        kernels().ternary_tables(codes, source.columns, workspace.tables + token * RZ_TABLES_BYTES(source.columns))


cdef void include_input(Reservation *needed, const Input *source) noexcept nogil:
    needed.columns = max(needed.columns, source.columns)
    needed.groups = max(needed.groups, input_groups(source))
    needed.floats = needed.floats or source.kind == NOT_QUANTIZED


cdef void place_input(Workspace workspace, Input *source) noexcept nogil:
    """Sets `source.quantized` to its place in the workspace, after all reservations."""
    source.quantized = workspace.activations(source.n, source.columns, input_groups(source))
    source.floats = workspace.floats


cdef void multiply(const rz_ternary *matrix, int64_t tile, int64_t end, const Input *source, float *out,
                   int64_t out_stride, rz_output_mode store, void *scratch) noexcept nogil:
    """Rows of the row tiles [tile, end) of a product with a quantised input."""
    if source.group_columns == 0:
        kernels().ternary_matmul(matrix, tile, end, &source.quantized, out, out_stride, store, scratch)
    elif source.kind == NOT_QUANTIZED:
        kernels().group_matmul_floats(matrix, tile, end, source.floats, source.columns, source.n, out, out_stride,
                                      store, scratch)
    else:
        kernels().group_matmul(matrix, tile, end, &source.quantized, out, out_stride, store, scratch)


cdef Step quantize_step(const Input *source) noexcept nogil:
    """One task for each token: normalises it, and writes int8 codes and tables to the workspace."""
    return step(quantize_task, source, source.n)


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
        job.first_task[0] = 0
    job.first_task[i + 1] = job.first_task[i] + panels(&matrix.matrix)
    job.count = i + 1
    return 0


cdef void add_bias(const Projections *job, int i, int64_t first, int64_t end) noexcept nogil:
    """Adds the bias to rows [first, end) of a product that was stored with RZ_STORE_SET."""
    cdef int64_t t, row
    cdef float *out
    for t in range(job.input.n):
        out = job.out[i] + t * job.out_stride[i]
        for row in range(first, end):
            out[row] += job.bias[i][row]


cdef void project_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Projections *job = <const Projections *>data
    cdef int i = 0
    cdef int64_t tile, end
    while task >= job.first_task[i + 1]:
        i += 1
    tile = (task - job.first_task[i]) * RZ_PANEL_TILES
    end = min(tile + RZ_PANEL_TILES, job.matrices[i].row_tiles)
    multiply(job.matrices[i], tile, end, job.input, job.out[i], job.out_stride[i], job.store,
             workspace.thread_scratch(thread))
    if job.bias[i] != NULL:
        add_bias(job, i, tile * RZ_TILE_ROWS, min(end * RZ_TILE_ROWS, job.matrices[i].rows))


cdef Step project_step(const Projections *job) noexcept nogil:
    """One task for each panel of rows of each matrix."""
    return step(project_task, job, job.first_task[job.count])


cdef int64_t project_work(const Projections *job) noexcept nogil:
    return job.first_task[job.count] * PANEL_ROWS * job.input.columns * job.input.n


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
    cdef int64_t n = job.input.n, t, rows = job.gate.rows
    cdef int64_t tile = task * RZ_PANEL_TILES, first = tile * RZ_TILE_ROWS
    cdef int64_t end = min(tile + RZ_PANEL_TILES, job.gate.row_tiles), width = min(PANEL_ROWS, rows - first)
    cdef void *scratch = workspace.thread_scratch(thread)
    cdef float *up = <float *>(<uint8_t *>scratch + RZ_TERNARY_SCRATCH_BYTES(n))
    cdef float *gate
    multiply(job.gate, tile, end, job.input, job.out, rows, RZ_STORE_SET, scratch)
    # the kernel writes rows from `first` on, and `up` holds only one panel
    multiply(job.up, tile, end, job.input, up - first, PANEL_ROWS, RZ_STORE_SET, scratch)
    for t in range(n):
        gate = job.out + t * rows + first
        kernels().activate_gated[job.activation](gate, up + t * PANEL_ROWS, width, gate)


cdef Step gated_step(const Gated *job) noexcept nogil:
    """One task for each panel of rows of gate and up."""
    return step(gated_task, job, panels(job.gate))


cdef int64_t gated_work(const Gated *job) noexcept nogil:
    return 2 * job.gate.rows * job.gate.columns * job.input.n


def norm_project(const float[:, ::1] x, norm, float eps, matrices, outputs, Workspace workspace, bint accumulate=False):
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

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    """
    cdef Input source
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
    workspace.reserve(source.n, source.columns, scratch_bytes(&source), input_groups(&source),
                      source.kind == NOT_QUANTIZED)
    place_input(workspace, &source)
    steps[0] = quantize_step(&source)
    steps[1] = project_step(&job)
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
    cdef Gated job
    cdef Step steps[2]
    if x.shape[0] == 0:
        return
    describe_input(&source, x, norm, eps)
    describe_gated(&job, &source, gate, up, activation, out)
    workspace.reserve(source.n, source.columns, gated_scratch_bytes(&source), input_groups(&source),
                      source.kind == NOT_QUANTIZED)
    place_input(workspace, &source)
    steps[0] = quantize_step(&source)
    steps[1] = gated_step(&job)
    run_steps(steps, 2, workspace, gated_work(&job))


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
