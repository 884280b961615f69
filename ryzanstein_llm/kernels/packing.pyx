# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Work that is done once, when a model is loaded: weights into the kernels' layouts, and RoPE tables."""
import numpy as np

from cython.parallel cimport parallel, prange
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t
from libc.string cimport memset
from ryzanstein_llm.kernels.cpu cimport (
    RZ_COLUMN_STRIDE, RZ_DENSE_TILES, RZ_GROUP_LINES, RZ_LAYOUT_COLUMNS, RZ_LAYOUT_GROUPS64, RZ_LAYOUT_GROUPS128,
    RZ_LAYOUT_ROWS, RZ_LAYOUT_TABLES, RZ_LAYOUT_TILES, RZ_LAYOUT_TRIT_COLUMNS, RZ_LAYOUT_TRIT_ROWS,
    RZ_LAYOUT_TRITS, RZ_LINE_BYTES, RZ_LINE_CODES, RZ_LINE_TRITS, RZ_MAX_COLUMN_RUNS, RZ_MAX_COLUMNS,
    RZ_MAX_SCREEN_COLUMNS, RZ_SCREEN_BLOCK_BYTES, RZ_SCREEN_GROUP, RZ_SCREEN_ROWS, RZ_TABLES_COLUMNS,
    RZ_TILE_BYTES, RZ_TRITS_COLUMNS, kernels, rz_float_mode_enter, rz_float_mode_leave, rz_layout, rz_ternary)
from ryzanstein_llm.kernels.sources cimport (
    RZ_ENCODING_MASTERS, TernarySource, rz_absolute_sum, rz_ternary_source)
from ryzanstein_llm.kernels.threads cimport team_size

from ryzanstein_llm.kernels.encodings import Problem
from ryzanstein_llm.kernels.sources import FLOAT_KINDS

cdef extern from "ryzanstein/pack_ternary.h" nogil:
    enum: RZ_TABLES_TILE_BYTES

    int64_t rz_pack_units(const rz_ternary *)
    uint32_t rz_pack_unit(const rz_ternary_source *, const rz_ternary *, int64_t)
    void rz_unpack_row(const rz_ternary *, int64_t, int8_t *)
    float rz_group_scale(const rz_ternary *, int64_t, int64_t)
    void rz_group_row_floats(const rz_ternary *, int64_t, float *)

cdef extern from "ryzanstein/pack_screen.h" nogil:
    void rz_pack_screen_block(const void *, int, int64_t, int64_t, int64_t, uint8_t *, float *, int64_t)

cdef extern from "ryzanstein/rotary_table.h" nogil:
    void rz_rotary_powers(double, int64_t, float *)
    void rz_rotary_rows(const float *, int64_t, int64_t, int64_t, float, float *, float *)

# With one scale a matrix.
LAYOUTS = {
    "tiles": RZ_LAYOUT_TILES, "rows": RZ_LAYOUT_ROWS, "columns": RZ_LAYOUT_COLUMNS, "trits": RZ_LAYOUT_TRITS,
    "tables": RZ_LAYOUT_TABLES, "trit_rows": RZ_LAYOUT_TRIT_ROWS, "trit_columns": RZ_LAYOUT_TRIT_COLUMNS,
}
# With one scale for each group of columns of a row: how many columns.
GROUP_LAYOUTS = {"groups64": 64, "groups128": 128}
_NUMBERS = {**LAYOUTS, "groups64": RZ_LAYOUT_GROUPS64, "groups128": RZ_LAYOUT_GROUPS128}


def whole_layout():
    """The layout with which the tier in use is fastest if all weights of a matrix are needed."""
    return next(name for name, layout in LAYOUTS.items() if layout == kernels().whole_layout)


def aligned_empty(size, align=64):
    """Uninitialised uint8 array of `size` bytes whose address is a multiple of `align`."""
    raw = np.empty(size + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start:start + size]


def storage_shape(rows, columns, layout="tiles"):
    """Shape of the uint8 array that holds a ternary matrix: (row tiles, column tiles, 64), (padded
    rows, lines, 64), (padded columns, lines, 64), (row tiles, tiles of 20 columns, 64), (64 rows,
    tiles of 24 columns, 320) or (row tiles, lines of a row tile, 64) for groups; see kernels.h."""
    if layout in GROUP_LAYOUTS:
        group = GROUP_LAYOUTS[layout]
        return (rows + 15) // 16, RZ_GROUP_LINES((columns + group - 1) // group, group), RZ_LINE_BYTES
    if layout == "trits":
        return (rows + 15) // 16, RZ_DENSE_TILES(columns, RZ_TRITS_COLUMNS), RZ_TILE_BYTES
    if layout == "tables":
        return (rows + 63) // 64, RZ_DENSE_TILES(columns, RZ_TABLES_COLUMNS), RZ_TABLES_TILE_BYTES
    if layout == "tiles":
        return (rows + 15) // 16, (columns + 15) // 16, RZ_TILE_BYTES
    line = RZ_LINE_TRITS if layout in ("trit_rows", "trit_columns") else RZ_LINE_CODES
    if layout in ("rows", "trit_rows"):
        return (rows + 63) // 64 * 64, (columns + line - 1) // line, RZ_LINE_BYTES
    return (columns + 15) // 16 * 16, RZ_COLUMN_STRIDE((rows + line - 1) // line), RZ_LINE_BYTES


cdef int describe_matrix(rz_ternary *matrix, codes, int64_t rows, int64_t columns, layout) except -1:
    """Checks that `codes` can hold the matrix, and fills in everything but the scale."""
    most = RZ_MAX_COLUMN_RUNS if layout in ("columns", "trit_columns") else RZ_MAX_COLUMNS
    if not 1 <= columns <= most or rows < 1:
        raise ValueError(f"no ternary matrix of {rows} x {columns} as {layout}")
    if codes.shape != storage_shape(rows, columns, layout) or codes.dtype != np.uint8:
        raise ValueError(f"codes {codes.dtype}{codes.shape} do not hold {rows} x {columns} as {layout}")
    if not codes.flags.c_contiguous or codes.ctypes.data % 64:
        raise ValueError("codes must be contiguous and 64-byte aligned")
    matrix.layout = <rz_layout><int>_NUMBERS[layout]
    matrix.codes = <const uint8_t *><size_t>codes.ctypes.data
    matrix.rows = rows
    matrix.columns = columns
    exact = layout in ("tiles", "trits") or layout in GROUP_LAYOUTS
    matrix.row_tiles = (rows + 15) // 16 if exact else (rows + 63) // 64 * 4
    matrix.column_tiles = (columns + 15) // 16
    matrix.run_lines = 0 if layout == "tiles" else codes.shape[1]
    return 0


cdef pack(const rz_ternary_source *source, layout, int threads, allocate):
    """Packs a source. Returns (codes, problem) as `pack_source` does."""
    cdef rz_ternary matrix
    cdef int64_t units, unit
    cdef uint32_t bad = 0
    cdef unsigned int mode = 0
    shape = storage_shape(source.rows, source.columns, layout)
    codes = allocate(shape[0] * shape[1] * shape[2]).reshape(shape)
    describe_matrix(&matrix, codes, source.rows, source.columns, layout)
    units = rz_pack_units(&matrix)
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        # other threads may be writing to a file meanwhile, so that threads are not equally quick
        for unit in prange(units, schedule="dynamic", chunksize=8):
            bad |= rz_pack_unit(source, &matrix, unit)
        rz_float_mode_leave(mode)
    return codes, Problem.first(bad)


def pack_source(TernarySource source, int n_threads, allocate=aligned_empty, layout="tiles"):
    """A ternary matrix from any of the published encodings.

    Parameters
    ----------
    source : TernarySource
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array
    layout : a key of LAYOUTS, if `source.common_scale()` is not None, or of GROUP_LAYOUTS

    Returns
    -------
    (codes, problem) : uint8 array of `storage_shape(rows, columns, layout)`, and None or a Problem, with which
        the codes are worth nothing

    Raises
    ------
    ValueError
        The source has more scales than the layout has places for.
    """
    group = GROUP_LAYOUTS.get(layout)
    if group is None and source.common_scale(n_threads) is None:
        raise ValueError(f"{source} has no common scale, which {layout} needs")
    if group is not None and source.group % group and source.group < source.columns:
        raise ValueError(f"{source} has a scale for each {source.group} columns, too many for {layout}")
    return pack(&source.source, layout, team_size(n_threads), allocate)


def pack_hf(const uint8_t[:, ::1] packed, int64_t rows, int n_threads, allocate=aligned_empty, layout="tiles"):
    """A ternary matrix from the Hugging Face form, without its scale.

    Parameters
    ----------
    packed : uint8 (ceil(rows / 4), columns)
    rows : number of output features
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array
    layout : a key of LAYOUTS

    Returns
    -------
    (codes, clean) : uint8 array of `storage_shape(rows, columns, layout)`, and True unless a code was 3
    """
    if packed.shape[0] != (rows + 3) // 4 or packed.shape[1] == 0 or rows == 0:
        raise ValueError(f"packed shape {(packed.shape[0], packed.shape[1])} does not hold {rows} rows")
    cdef TernarySource source = TernarySource("hf_packed", np.asarray(packed), rows, packed.shape[1])
    if layout not in LAYOUTS:
        raise ValueError(f"{layout} needs scales")
    codes, problem = pack(&source.source, layout, team_size(n_threads), allocate)
    return codes, problem is None


def check_floats(weights, kind):
    """Raises ValueError unless weights are a C-contiguous matrix of `kind` that is not empty."""
    if weights.ndim != 2 or weights.size == 0 or not weights.flags.c_contiguous:
        raise ValueError(f"weights of shape {weights.shape} are no contiguous matrix")
    if weights.dtype.itemsize != (4 if kind == "F32" else 2):
        raise ValueError(f"weights of dtype {weights.dtype} are not {kind}")


def pack_float(weights, kind, int n_threads, allocate=aligned_empty, layout="tiles"):
    """A ternary matrix from float masters by the absmean rule of BitNet b1.58 (arXiv 2402.17764).

    a = max(mean|W|, 1e-5) over the whole matrix; t = clamp(round_half_even(W / a), -1, 1).

    Parameters
    ----------
    weights : C-contiguous (rows, columns); float32, float16, or bfloat16 bits as uint16
    kind : "F32", "F16" or "BF16"
    allocate, layout
        As for `pack_hf`.

    Returns
    -------
    (codes, a) : uint8 array of `storage_shape(rows, columns, layout)`, and the scale as float, which is
    NaN or infinite if a weight is.
    """
    cdef rz_ternary_source source
    cdef int code = FLOAT_KINDS[kind]
    check_floats(weights, kind)
    if layout not in LAYOUTS:
        raise ValueError(f"{layout} needs scales")
    cdef int64_t rows = weights.shape[0], columns = weights.shape[1], row
    cdef int64_t row_bytes = columns * weights.dtype.itemsize
    cdef const uint8_t[::1] bytes_view = weights.reshape(-1).view(np.uint8)
    cdef const uint8_t *first = &bytes_view[0]
    row_sums = np.empty(rows, np.float64)
    cdef double[::1] sums = row_sums
    cdef int threads = team_size(n_threads)
    cdef double total = 0
    cdef float scale
    cdef unsigned int mode = 0
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        for row in prange(rows, schedule="static"):
            sums[row] = rz_absolute_sum(first + row * row_bytes, columns, code)
        rz_float_mode_leave(mode)
    mode = rz_float_mode_enter()
    for row in range(rows):  # in the order of rows, however the threads shared them
        total += sums[row]
    scale = <float>(total / (<double>rows * <double>columns))
    if scale < 1e-5:
        scale = <float>1e-5
    memset(&source, 0, sizeof(source))
    source.inverse_scale = <float>1.0 / scale
    source.scale = scale
    rz_float_mode_leave(mode)
    source.encoding = RZ_ENCODING_MASTERS
    source.data = first
    source.float_kind = code
    source.rows = rows
    source.columns = columns
    codes, _ = pack(&source, layout, threads, allocate)
    return codes, scale


def screen_shapes(rows, columns):
    """Shapes of the arrays of `pack_screen`: (blocks of 64 rows, their bytes), (3, 64 * blocks)."""
    blocks = (rows + RZ_SCREEN_ROWS - 1) // RZ_SCREEN_ROWS
    groups = (columns + RZ_SCREEN_GROUP - 1) // RZ_SCREEN_GROUP
    return (blocks, RZ_SCREEN_BLOCK_BYTES(groups)), (3, RZ_SCREEN_ROWS * blocks)


def pack_screen(weights, kind, int n_threads, allocate=aligned_empty):
    """Six-bit codes of a float matrix and the norms of their errors, for the screen of the head (kernels.h).

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`, columns at most RZ_MAX_SCREEN_COLUMNS
    kind : "F32", "F16" or "BF16"

    Returns
    -------
    (blocks, stats) : 64-byte aligned arrays of `screen_shapes(rows, columns)`
        uint8 codes and scales; float32: for each row its scale d, the norm of its error, and the norm of the
        values that its codes stand for. d is -1 if a weight of the row is not finite.
    """
    cdef int code = FLOAT_KINDS[kind]
    cdef int64_t rows = weights.shape[0], columns = weights.shape[1], block, count
    check_floats(weights, kind)
    if not 1 <= columns <= RZ_MAX_SCREEN_COLUMNS:
        raise ValueError(f"{columns} columns; at most {RZ_MAX_SCREEN_COLUMNS} can be screened")
    cdef const uint8_t[::1] source_view = weights.reshape(-1).view(np.uint8)
    cdef const uint8_t *source = &source_view[0]
    shape, stats_shape = screen_shapes(rows, columns)
    count = shape[0]
    blocks = allocate(shape[0] * shape[1]).reshape(shape)
    stats = aligned_empty(4 * stats_shape[0] * stats_shape[1]).view(np.float32).reshape(stats_shape)
    cdef uint8_t[:, ::1] blocks_view = blocks
    cdef float[:, ::1] stats_view = stats
    cdef int threads = team_size(n_threads)
    cdef unsigned int mode = 0
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        for block in prange(count, schedule="dynamic", chunksize=8):
            rz_pack_screen_block(source, code, rows, columns, block, &blocks_view[0, 0], &stats_view[0, 0],
                                 RZ_SCREEN_ROWS * count)
        rz_float_mode_leave(mode)
    return blocks, stats


def unpack(codes, int64_t rows, int64_t columns, layout="tiles"):
    """The ternary values of a packed matrix: int8 (rows, columns) of -1, 0, 1."""
    cdef rz_ternary matrix
    cdef int64_t row
    describe_matrix(&matrix, codes, rows, columns, layout)
    values = np.empty((rows, columns), np.int8)
    cdef int8_t[:, ::1] view = values
    for row in range(rows):
        rz_unpack_row(&matrix, row, &view[row, 0])
    return values


def unpack_scales(codes, int64_t rows, int64_t columns, layout):
    """The scales of a packed matrix in one of GROUP_LAYOUTS: float32 (rows, groups of columns)."""
    cdef rz_ternary matrix
    cdef int64_t row, group
    describe_matrix(&matrix, codes, rows, columns, layout)
    wide = GROUP_LAYOUTS[layout]
    scales = np.empty((rows, (columns + wide - 1) // wide), np.float32)
    cdef float[:, ::1] view = scales
    for row in range(rows):
        for group in range(view.shape[1]):
            view[row, group] = rz_group_scale(&matrix, row, group)
    return scales


def ternary_rows_as_floats(codes, int64_t rows, int64_t columns, layout, const int64_t[::1] ids, float[:, ::1] out):
    """Rows of a packed matrix in one of GROUP_LAYOUTS as floats: float(scale) * (code - 1). For embeddings.

    Parameters
    ----------
    codes : uint8 array of `storage_shape(rows, columns, layout)`
    ids : int64 (n,), each in [0, rows)
    out : float32 (n, columns), written

    Raises
    ------
    ValueError
        An id is out of range, or `out` has another shape.
    """
    cdef rz_ternary matrix
    cdef int64_t i
    cdef unsigned int mode = 0
    describe_matrix(&matrix, codes, rows, columns, layout)
    if layout not in GROUP_LAYOUTS:
        raise ValueError(f"{layout} has no scales of groups")
    if out.shape[0] != ids.shape[0] or out.shape[1] != columns:
        raise ValueError(f"out of shape {(out.shape[0], out.shape[1])} for {ids.shape[0]} rows of {columns}")
    for i in range(ids.shape[0]):
        if not 0 <= ids[i] < rows:
            raise ValueError(f"row {ids[i]} of {rows}")
    with nogil:
        mode = rz_float_mode_enter()
        for i in range(ids.shape[0]):
            rz_group_row_floats(&matrix, ids[i], &out[i, 0])
        rz_float_mode_leave(mode)


def rotary_powers(double theta, int64_t head_dim):
    """theta^(2i / head_dim), whose reciprocals are the frequencies of RoPE, in the float32 steps of
    transformers: float32 (head_dim // 2,)."""
    powers = np.empty(head_dim // 2, np.float32)
    cdef float[::1] out = powers
    cdef unsigned int mode = rz_float_mode_enter()
    rz_rotary_powers(theta, head_dim, &out[0])
    rz_float_mode_leave(mode)
    return powers


def rotary_table(const float[::1] inverse_frequencies, int64_t begin, int64_t end, float factor=1.0):
    """Cosines and sines for RoPE at positions [begin, end).

    angle = position * inverse frequency, in float32. Both tables are multiplied by the factor.

    Parameters
    ----------
    inverse_frequencies : float32 (head_dim // 2,), in radians a position; angles below 2^20

    Returns
    -------
    (cos, sin) : float32 arrays of shape (end - begin, head_dim // 2)
    """
    cdef int64_t half = inverse_frequencies.shape[0]
    cosines = np.empty((end - begin, half), np.float32)
    sines = np.empty((end - begin, half), np.float32)
    cdef float[:, ::1] c = cosines, s = sines
    cdef unsigned int mode = 0
    if end <= begin:
        return cosines, sines
    with nogil:
        mode = rz_float_mode_enter()
        rz_rotary_rows(&inverse_frequencies[0], half, begin, end, factor, &c[0, 0], &s[0, 0])
        rz_float_mode_leave(mode)
    return cosines, sines
