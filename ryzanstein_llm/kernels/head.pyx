# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The output head when only the likeliest tokens matter: the same logits at half the bytes.

All rows are screened with int8 weights and an honest error bound; those that can still be
among the wanted ones are computed from the stored floats, by the dot product of the full
head. So what is returned equals the full head bit for bit; the bound decides only how much
work is saved.
"""
import numpy as np

from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_MAX_SCREEN_COLUMNS, kernels, rz_float_mode_enter, rz_float_mode_leave, rz_kernels, rz_screen,
    rz_screen_input)
from ryzanstein_llm.kernels.workspace cimport Workspace

from ryzanstein_llm.kernels import packing

cdef extern from "ryzanstein/pack.h" nogil:
    void rz_screen_planes(const float *, int64_t, int64_t, int8_t *, int8_t *, rz_screen_input *)

MAX_SCREEN_COLUMNS = RZ_MAX_SCREEN_COLUMNS

cdef enum:
    TASK_TILES = 8


cdef class ScreenedHead:
    """A float head matrix with its int8 screen.

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`, columns at most MAX_SCREEN_COLUMNS
    kind : "F32", "F16" or "BF16" (the last as uint16)
    n_threads : int
        For packing.
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array
    """
    cdef readonly object weights, tiles, scales, kind
    cdef rz_screen screen
    cdef const void *matrix
    cdef int code
    cdef int64_t rows, columns, row_tiles
    cdef object _lower, _upper, _coarse, _fine

    def __init__(self, weights, kind, int n_threads, allocate=packing.aligned_empty):
        if weights.shape[1] > RZ_MAX_SCREEN_COLUMNS:
            raise ValueError(f"{weights.shape[1]} columns; at most {RZ_MAX_SCREEN_COLUMNS} can be screened")
        self.weights, self.kind = weights, kind
        self.tiles, self.scales = packing.pack_screen(weights, kind, n_threads, allocate)
        self.code = packing.FLOAT_KINDS[kind]
        self.matrix = <const void *><size_t>weights.ctypes.data
        self.rows, self.columns = weights.shape
        self.row_tiles = self.tiles.shape[0]
        self.screen.tiles = <const uint8_t *><size_t>self.tiles.ctypes.data
        self.screen.scales = <const float *><size_t>self.scales.ctypes.data
        self.screen.column_groups = self.tiles.shape[1]
        self._lower = np.empty(16 * self.row_tiles, np.float32)
        self._upper = np.empty(16 * self.row_tiles, np.float32)
        self._coarse = np.empty(4 * self.screen.column_groups, np.int8)
        self._fine = np.empty(4 * self.screen.column_groups, np.int8)

    @property
    def nbytes(self):
        """Bytes of the screen: what a token reads besides the rows that stay in question."""
        return self.tiles.nbytes + self.scales.nbytes

    @property
    def bounds(self):
        """(lower, upper) bounds of all logits of the last call: float32 (rows,). For tests."""
        return self._lower[:self.rows], self._upper[:self.rows]

    def likeliest(self, const float[::1] hidden, norm, float eps, Workspace space, int64_t count=1,
                  float margin=0.0):
        """The tokens that can be among the `count` likeliest, or within `margin` of the likeliest.

        Parameters
        ----------
        hidden : float32 (columns,)                                               # IN
        norm : float32 (columns,) or None, with eps: the final RMSNorm            # IN
        count : int >= 1
        margin : float >= 0
            In logits; counts only where it reaches further than `count`.

        Returns
        -------
        (ids, logits) : int64 and float32 (n,)
            At least the wanted tokens, by rising id, with the logits of the full head.
        """
        cdef const rz_kernels *kernel = kernels()
        cdef float[::1] lower = self._lower, upper = self._upper
        cdef int8_t[::1] coarse = self._coarse, fine = self._fine
        cdef const float[::1] gains
        cdef rz_screen_input planes
        cdef int64_t tasks = (self.row_tiles + TASK_TILES - 1) // TASK_TILES, i, n
        cdef unsigned int mode = 0
        if hidden.shape[0] != self.columns or count < 1 or not margin >= 0:
            raise ValueError(f"hidden state of {hidden.shape[0]} for {self.columns} columns, count {count}, "
                             f"margin {margin}")
        normed = np.array(hidden)
        cdef float[::1] x = normed
        cdef int threads = space.team(self.rows * self.columns)
        mode = rz_float_mode_enter()
        if norm is not None:
            gains = norm
            if gains.shape[0] != self.columns:
                raise ValueError(f"norm of {gains.shape[0]} weights for {self.columns} columns")
            kernel.rms_norm(&x[0], &gains[0], eps, self.columns, &x[0])
        rz_screen_planes(&x[0], self.columns, coarse.shape[0], &coarse[0], &fine[0], &planes)
        rz_float_mode_leave(mode)
        with nogil, parallel(num_threads=threads):
            space.enter(threadid())
            mode = rz_float_mode_enter()
            for i in prange(tasks, schedule="dynamic"):
                if not space.cancel[0]:
                    kernel.screen(&self.screen, i * TASK_TILES, min((i + 1) * TASK_TILES, self.row_tiles), &planes,
                                  &lower[0], &upper[0])
            rz_float_mode_leave(mode)
            space.leave(threadid())
        ids = candidates(self._lower[:self.rows], self._upper[:self.rows], count, margin)
        n = len(ids)
        result = np.empty(n, np.float32)
        cdef const int64_t[::1] rows = ids
        cdef float[::1] out = result
        threads = space.team(n * self.columns * 4)
        with nogil, parallel(num_threads=threads):
            space.enter(threadid())
            mode = rz_float_mode_enter()
            for i in prange(n, schedule="static"):
                # row r of a call lands at out[r]: shift so that it lands at out[i]
                kernel.dense_matmul[self.code](self.matrix, self.columns, rows[i], rows[i] + 1, &x[0], 1,
                                               &out[0] + i - rows[i], self.rows)
            rz_float_mode_leave(mode)
            space.leave(threadid())
        return ids, result


def candidates(lower, upper, count, margin):
    """Indices whose upper bound reaches the `count`-th largest lower bound, or `margin` below the
    largest: int64, rising. Where a bound is not finite, all of them: the full head decides."""
    most = lower.max()
    if not np.isfinite(most):
        return np.arange(len(lower))
    threshold = most
    if 1 < count:
        threshold = np.partition(lower, -count)[-count] if count < len(lower) else -np.inf
    if margin > 0:
        # rounded down: the sum itself may round up
        threshold = min(threshold, np.nextafter(most - np.float32(margin), np.float32(-np.inf)))
    return np.flatnonzero(~(upper < threshold))
