# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One-time work at load: weights into tiles, RoPE tables. Parallel over row tiles."""
import numpy as np

from cython.parallel cimport parallel, prange
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_TILE_BYTES, rz_float_mode_enter, rz_float_mode_leave)
from ryzanstein_llm.kernels.threads cimport team_size

cdef extern from "ryzanstein/pack.h" nogil:
    uint32_t rz_pack_hf_tile(const uint8_t *, int64_t, int64_t, int64_t, uint8_t *)
    double rz_absolute_sum(const void *, int64_t, int)
    void rz_pack_float_tile(const void *, int, int64_t, int64_t, float, int64_t, uint8_t *)
    void rz_pack_screen_tile(const void *, int, int64_t, int64_t, int64_t, uint8_t *, float *)
    void rz_unpack_row(const uint8_t *, int64_t, int64_t, int8_t *)

cdef extern from "ryzanstein/rotary_table.h" nogil:
    void rz_inverse_frequencies(double, int64_t, float *)
    void rz_rotary_rows(const float *, int64_t, int64_t, int64_t, float *, float *)

# Order of enum rz_float_kind; bfloat16 travels as uint16.
FLOAT_KINDS = {"F32": 0, "BF16": 1, "F16": 2}


def aligned_empty(size, align=64):
    """Uninitialised uint8 array of `size` bytes whose address is a multiple of `align`."""
    raw = np.empty(size + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start:start + size]


def tile_shape(rows, columns):
    """(row tiles, column tiles, bytes per tile) of a ternary matrix."""
    return (rows + 15) // 16, (columns + 15) // 16, RZ_TILE_BYTES


def pack_hf(const uint8_t[:, ::1] packed, int64_t rows, int n_threads, allocate=aligned_empty):
    """Tiles from the Hugging Face layout.

    Parameters
    ----------
    packed : uint8 (ceil(rows / 4), columns)
    rows : number of output features
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array

    Returns
    -------
    (tiles, clean) : uint8 array of `tile_shape(rows, columns)`, and whether no code was 3.
    """
    cdef int64_t columns = packed.shape[1], tile
    if packed.shape[0] != (rows + 3) // 4 or columns == 0 or rows == 0:
        raise ValueError(f"packed shape {(packed.shape[0], columns)} does not hold {rows} rows")
    shape = tile_shape(rows, columns)
    tiles = allocate(shape[0] * shape[1] * shape[2]).reshape(shape)
    cdef uint8_t[:, :, ::1] view = tiles
    cdef uint8_t *to = &view[0, 0, 0]
    cdef const uint8_t *source = &packed[0, 0]
    cdef int64_t row_tiles = shape[0]
    cdef int threads = team_size(n_threads)
    cdef uint32_t bad = 0
    with nogil, parallel(num_threads=threads):
        for tile in prange(row_tiles, schedule="static"):
            bad |= rz_pack_hf_tile(source, rows, columns, tile, to)
    return tiles, bad == 0


def pack_float(weights, kind, int n_threads, allocate=aligned_empty):
    """Tiles from float master weights by the absmean rule of BitNet b1.58 (arXiv 2402.17764).

    a = max(mean|W|, 1e-5) over the whole matrix; t = clamp(round_half_even(W / a), -1, 1).

    Parameters
    ----------
    weights : C-contiguous (rows, columns); float32, float16, or bfloat16 bits as uint16
    kind : "F32", "F16" or "BF16"

    Returns
    -------
    (tiles, a) : uint8 array of `tile_shape(rows, columns)`, and the scale as float;
    a is NaN or infinite if a weight is.
    """
    cdef int code = FLOAT_KINDS[kind]
    if weights.ndim != 2 or weights.size == 0 or not weights.flags.c_contiguous:
        raise ValueError(f"master weights of shape {weights.shape} are no contiguous matrix")
    if weights.dtype.itemsize != (4 if kind == "F32" else 2):
        raise ValueError(f"master weights of dtype {weights.dtype} are not {kind}")
    cdef int64_t rows = weights.shape[0], columns = weights.shape[1], tile, row
    cdef int64_t row_bytes = columns * weights.dtype.itemsize
    cdef const uint8_t[::1] source_view = weights.reshape(-1).view(np.uint8)
    cdef const uint8_t *source = &source_view[0]
    shape = tile_shape(rows, columns)
    tiles = allocate(shape[0] * shape[1] * shape[2]).reshape(shape)
    cdef uint8_t[:, :, ::1] view = tiles
    cdef uint8_t *to = &view[0, 0, 0]
    row_sums = np.empty(rows, np.float64)
    cdef double[::1] sums = row_sums
    cdef int threads = team_size(n_threads)
    cdef double total = 0
    cdef float scale, inverse
    cdef unsigned int mode = 0
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        for row in prange(rows, schedule="static"):
            sums[row] = rz_absolute_sum(source + row * row_bytes, columns, code)
        rz_float_mode_leave(mode)
    mode = rz_float_mode_enter()
    for row in range(rows):  # in row order, whatever the threads did
        total += sums[row]
    scale = <float>(total / (<double>rows * <double>columns))
    if scale < 1e-5:
        scale = <float>1e-5
    inverse = <float>1.0 / scale
    rz_float_mode_leave(mode)
    cdef int64_t row_tiles = shape[0]
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        for tile in prange(row_tiles, schedule="static"):
            rz_pack_float_tile(source, code, rows, columns, inverse, tile, to)
        rz_float_mode_leave(mode)
    return tiles, scale


def pack_screen(weights, kind, int n_threads, allocate=aligned_empty):
    """int8 codes and row scales of a float matrix, for the head screen.

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`
    kind : "F32", "F16" or "BF16"

    Returns
    -------
    (tiles, scales) : uint8 (row tiles, ceil(columns / 4), 64), float32 (16 * row tiles,)
    """
    cdef int code = FLOAT_KINDS[kind]
    cdef int64_t rows = weights.shape[0], columns = weights.shape[1], tile
    cdef int64_t row_tiles = (rows + 15) // 16, groups = (columns + 3) // 4
    if not weights.flags.c_contiguous or weights.dtype.itemsize != (4 if kind == "F32" else 2):
        raise ValueError(f"weights of dtype {weights.dtype}, shape {weights.shape} are no contiguous {kind} matrix")
    cdef const uint8_t[::1] source_view = weights.reshape(-1).view(np.uint8)
    cdef const uint8_t *source = &source_view[0]
    tiles = allocate(row_tiles * groups * 64).reshape(row_tiles, groups, 64)
    scales = np.empty(16 * row_tiles, np.float32)
    cdef uint8_t[:, :, ::1] tiles_view = tiles
    cdef float[::1] scales_view = scales
    cdef int threads = team_size(n_threads)
    cdef unsigned int mode = 0
    with nogil, parallel(num_threads=threads):
        mode = rz_float_mode_enter()
        for tile in prange(row_tiles, schedule="static"):
            rz_pack_screen_tile(source, code, rows, columns, tile, &tiles_view[0, 0, 0], &scales_view[0])
        rz_float_mode_leave(mode)
    return tiles, scales


def unpack(const uint8_t[:, :, ::1] tiles, int64_t rows, int64_t columns):
    """The ternary values of tiles: int8 (rows, columns) of -1, 0, 1."""
    if (tiles.shape[0], tiles.shape[1], tiles.shape[2]) != tile_shape(rows, columns):
        raise ValueError(f"tiles {(tiles.shape[0], tiles.shape[1], tiles.shape[2])} do not hold {rows} x {columns}")
    values = np.empty((rows, columns), np.int8)
    cdef int8_t[:, ::1] view = values
    cdef int64_t row
    for row in range(rows):
        rz_unpack_row(&tiles[0, 0, 0], columns, row, &view[row, 0])
    return values


def rotary_table(double theta, int64_t head_dim, int64_t begin, int64_t end):
    """Cosines and sines for RoPE at positions [begin, end).

    angle = position * theta^(-2i / head_dim), in the float32 steps of transformers' models.

    Returns
    -------
    (cos, sin) : float32 arrays of shape (end - begin, head_dim // 2)
    """
    cdef int64_t half = head_dim // 2
    frequencies = np.empty(half, np.float32)
    cosines = np.empty((end - begin, half), np.float32)
    sines = np.empty((end - begin, half), np.float32)
    cdef float[::1] f = frequencies
    cdef float[:, ::1] c = cosines, s = sines
    cdef unsigned int mode = 0
    if end <= begin:
        return cosines, sines
    with nogil:
        mode = rz_float_mode_enter()
        rz_inverse_frequencies(theta, head_dim, &f[0])
        rz_rotary_rows(&f[0], half, begin, end, &c[0, 0], &s[0, 0])
        rz_float_mode_leave(mode)
    return cosines, sines
