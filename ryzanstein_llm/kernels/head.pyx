# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The output head when only the likeliest tokens matter: the same logits at half the bytes.

All rows are screened with int8 weights and an honest error bound; those that can still be
among the wanted ones are computed from the stored floats, by the dot product of the full
head. So what is returned equals the full head bit for bit; the bound decides only how much
work is saved.
"""
import numpy as np

from libc.stdint cimport int8_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_MAX_SCREEN_COLUMNS, kernels, rz_screen, rz_screen_input)
from ryzanstein_llm.kernels.linear cimport Input, read_input
from ryzanstein_llm.kernels.steps cimport Step, of, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_NORM, OP_HEAD_RESCORE, OP_HEAD_SCREEN, Workspace

from ryzanstein_llm.kernels import packing

cdef extern from "ryzanstein/pack_screen.h" nogil:
    void rz_screen_planes(const float *, int64_t, int64_t, int8_t *, int8_t *, rz_screen_input *)

MAX_SCREEN_COLUMNS = RZ_MAX_SCREEN_COLUMNS
SCREEN_LAYOUT_VERSION = 1  # of `packing.pack_screen`: stored screens of another version are not used

cdef enum:
    TASK_TILES = 8


def check_packed(tiles, scales, rows, columns):
    """Raises ValueError unless tiles and scales are those of a screen of (rows, columns)."""
    row_tiles = (rows + 15) // 16
    for array, dtype, shape in ((tiles, np.uint8, (row_tiles, (columns + 3) // 4, 64)),
                                (scales, np.float32, (16 * row_tiles,))):
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous or array.ctypes.data % 64:
            raise ValueError(f"{array.dtype}{array.shape} is no aligned {np.dtype(dtype)}{shape} of a screen of "
                             f"{rows} x {columns}")


cdef class ScreenedHead:
    """A float head matrix with its int8 screen.

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`, columns at most MAX_SCREEN_COLUMNS
    kind : "F32", "F16" or "BF16" (the last as uint16)
    n_threads : int
        For packing.
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array
    packed : (tiles, scales), optional
        What `packing.pack_screen` made of the same weights before: nothing is packed then.

    Raises
    ------
    ValueError
        If `packed` does not fit the weights.
    """
    cdef readonly object weights, tiles, scales, kind
    cdef readonly bint finite  # whether all weights are
    cdef rz_screen screen
    cdef const void *matrix
    cdef int code
    cdef int64_t rows, columns, row_tiles
    cdef object _lower, _upper, _most

    def __init__(self, weights, kind, int n_threads, allocate=packing.aligned_empty, packed=None):
        if weights.shape[1] > RZ_MAX_SCREEN_COLUMNS:
            raise ValueError(f"{weights.shape[1]} columns; at most {RZ_MAX_SCREEN_COLUMNS} can be screened")
        self.weights, self.kind = weights, kind
        if packed is None:
            packed = packing.pack_screen(weights, kind, n_threads, allocate)
        else:
            check_packed(*packed, *weights.shape)
        self.tiles, self.scales = packed
        self.finite = not np.isnan(self.scales).any()
        self.code = packing.FLOAT_KINDS[kind]
        self.matrix = <const void *><size_t>weights.ctypes.data
        self.rows, self.columns = weights.shape
        self.row_tiles = self.tiles.shape[0]
        self.screen.tiles = <const uint8_t *><size_t>self.tiles.ctypes.data
        self.screen.scales = <const float *><size_t>self.scales.ctypes.data
        self.screen.column_groups = self.tiles.shape[1]

    @property
    def nbytes(self):
        """Bytes of the screen: what a token reads besides the rows that stay in question."""
        return self.tiles.nbytes + self.scales.nbytes

    @property
    def bounds(self):
        """(lower, upper) bounds of all logits of the last call: float32 (n, rows). For tests."""
        return self._lower[:, :self.rows], self._upper[:, :self.rows]

    def likeliest(self, const float[:, ::1] hidden, norm, float eps, Workspace space, int64_t count=1,
                  float margin=0.0):
        """The tokens that can be among the `count` likeliest, or within `margin` of the likeliest.

        Parameters
        ----------
        hidden : float32 (n, columns)                                             # IN
        norm : float32 (columns,) or None, with eps: the final RMSNorm            # IN
        count : int >= 1
        margin : float >= 0
            In logits; counts only where it reaches further than `count`.

        Returns
        -------
        list of n (ids, logits) : int64 and float32 (m,)
            At least the wanted tokens, by rising id, with the logits of the full head.
        """
        cdef Screening job
        cdef Rescoring rescoring
        cdef Step steps[2]
        cdef Input source
        cdef float[:, ::1] normed, lower, upper
        cdef float[:, :, ::1] most
        cdef int8_t[:, ::1] planes
        cdef const int64_t[::1] rows
        cdef float[::1] logits
        cdef int64_t n = hidden.shape[0], padded = 4 * self.screen.column_groups, i
        if hidden.shape[1] != self.columns or count < 1 or not margin >= 0:
            raise ValueError(f"hidden states of {hidden.shape[1]} for {self.columns} columns, count {count}, "
                             f"margin {margin}")
        if n == 0:
            return []
        read_input(&source, hidden, norm, eps)
        normed = np.array(hidden)
        planes = np.empty((n, 2 * padded), np.int8)
        inputs = np.empty(n * sizeof(rz_screen_input), np.uint8)
        cdef uint8_t[::1] inputs_view = inputs
        self._reserve(n)
        lower, upper, most = self._lower, self._upper, self._most
        job.screen = &self.screen
        job.x, job.norm, job.eps, job.n, job.columns = &normed[0, 0], source.norm, eps, n, self.columns
        job.planes, job.padded, job.row_tiles = &planes[0, 0], padded, self.row_tiles
        job.rows = self.rows
        job.inputs = <rz_screen_input *>&inputs_view[0]
        job.lower, job.upper, job.most = &lower[0, 0], &upper[0, 0], &most[0, 0, 0]
        steps[0] = of(OP_HEAD_NORM, step(planes_task, &job, n))
        steps[1] = of(OP_HEAD_SCREEN, step(screen_task, &job, (self.row_tiles + TASK_TILES - 1) // TASK_TILES))
        run_steps(steps, 2, space, n * self.rows * self.columns)

        found = []
        for i in range(n):
            ids = self._candidates(i, count, margin)
            result = np.empty(len(ids), np.float32)
            rows, logits = ids, result
            rescoring.matrix, rescoring.kind, rescoring.columns = self.matrix, self.code, self.columns
            rescoring.rows, rescoring.x, rescoring.out = &rows[0], &normed[i, 0], &logits[0]
            steps[0] = of(OP_HEAD_RESCORE, step(rescore_task, &rescoring, len(ids)))
            run_steps(steps, 1, space, 4 * len(ids) * self.columns)
            found.append((ids, result))
        return found

    def _reserve(self, n):
        """Room for the bounds of n hidden states, kept: a megabyte of new pages a token costs."""
        if self._lower is None or len(self._lower) < n:
            tasks = (self.row_tiles + TASK_TILES - 1) // TASK_TILES
            lower = np.empty((n, 16 * self.row_tiles), np.float32)
            upper = np.empty((n, 16 * self.row_tiles), np.float32)
            most = np.empty((n, tasks, 2), np.float32)
            self._lower, self._upper, self._most = lower, upper, most

    def _candidates(self, int64_t i, int64_t count, float margin):
        """Rows whose upper bound reaches the `count`-th largest lower bound, or `margin` below the
        largest: int64, rising. Where a bound is not finite, all of them: the full head decides."""
        cdef const float[::1] upper = self._upper[i]
        cdef const float[:, ::1] most = self._most[i]
        cdef int64_t task, row, end
        cdef float threshold
        largest = self._most[i, :, 0].max()
        if not np.isfinite(largest):
            return np.arange(self.rows)
        lowest = largest
        if count > 1:
            lower = self._lower[i, :self.rows]
            lowest = np.partition(lower, -count)[-count] if count < self.rows else np.float32(-np.inf)
        if margin > 0:
            # rounded down: the difference itself may round up
            lowest = min(lowest, np.nextafter(largest - np.float32(margin), np.float32(-np.inf)))
        threshold = lowest
        ids = []
        for task in range(most.shape[0]):
            if most[task, 1] < threshold:  # false for NaN: such rows are looked at
                continue
            end = min((task + 1) * TASK_TILES * 16, self.rows)
            for row in range(task * TASK_TILES * 16, end):
                if not upper[row] < threshold:
                    ids.append(row)
        return np.array(ids, np.int64)


cdef struct Screening:
    const rz_screen *screen
    float *x               # (n, columns), normalised in place
    const float *norm
    float eps
    int64_t n
    int64_t columns
    int8_t *planes         # (n, 2, padded)
    int64_t padded
    rz_screen_input *inputs
    float *lower           # (n, 16 * row_tiles)
    float *upper
    float *most            # (n, tasks, 2): largest lower and upper bound of a task's rows
    int64_t row_tiles
    int64_t rows


cdef void planes_task(const void *data, Workspace space, int64_t token, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef float *x = job.x + token * job.columns
    cdef int8_t *coarse = job.planes + 2 * token * job.padded
    if job.norm != NULL:
        kernels().rms_norm(x, job.norm, job.eps, job.columns, x)
    rz_screen_planes(x, job.columns, job.padded, coarse, coarse + job.padded, job.inputs + token)


cdef void screen_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef int64_t t, row, first
    cdef float *most
    cdef const float *lower
    cdef const float *upper
    kernels().screen(job.screen, task * TASK_TILES, min((task + 1) * TASK_TILES, job.row_tiles), job.inputs, job.n,
                     job.lower, job.upper, 16 * job.row_tiles)
    for t in range(job.n):
        most = job.most + 2 * (t * ((job.row_tiles + TASK_TILES - 1) // TASK_TILES) + task)
        lower = job.lower + 16 * t * job.row_tiles
        upper = job.upper + 16 * t * job.row_tiles
        first = task * TASK_TILES * 16
        most[0], most[1] = lower[first], upper[first]
        for row in range(first + 1, min(first + TASK_TILES * 16, job.rows)):
            if most[0] == most[0] and not lower[row] <= most[0]:  # a NaN comes in, and stays
                most[0] = lower[row]
            if most[1] == most[1] and not upper[row] <= most[1]:
                most[1] = upper[row]


cdef struct Rescoring:
    const void *matrix
    int kind
    int64_t columns
    const int64_t *rows
    const float *x
    float *out


cdef void rescore_task(const void *data, Workspace space, int64_t i, int thread) noexcept nogil:
    cdef const Rescoring *job = <const Rescoring *>data
    cdef int64_t row = job.rows[i]
    # row r of a call lands at out[r]: shift so that it lands at out[i]
    kernels().dense_matmul[job.kind](job.matrix, job.columns, row, row + 1, job.x, 1, job.out + i - row, 0)
