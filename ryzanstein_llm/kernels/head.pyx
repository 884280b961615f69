# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The screened head: logits of the likeliest tokens, for three eighths of the bytes of the full head.

1. The screen: approximate logits of all rows from weights of six bits, with a bound of their error.
2. Exact logits of the rows that look best, from the stored floats, by the dot product of the full head.
3. Exact logits of all rows whose upper bound reaches these logits.

So the results equal those of the full head bit for bit. The bound only decides how much work is saved.
"""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_MAX_SCREEN_COLUMNS, RZ_SCREEN_GROUP, RZ_SCREEN_ROWS, kernels, rz_screen, rz_screen_inputs,
    rz_screen_logits)
from ryzanstein_llm.kernels.head_rows cimport NamedRows, named_rows_task
from ryzanstein_llm.kernels.inputs cimport Input, describe_input
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_NORM, OP_HEAD_RESCORE, OP_HEAD_SCREEN, Workspace

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.head_rows import rows_by_token
from ryzanstein_llm.kernels.screening import broadcast, check_packed, excluded_rows, merge, screen_buffers

cdef extern from "ryzanstein/pack_screen.h" nogil:
    void rz_screen_codes(const float *, int64_t, int64_t, int64_t, const rz_screen_inputs *)

MAX_SCREEN_COLUMNS = RZ_MAX_SCREEN_COLUMNS
SCREEN_LAYOUT_VERSION = 2  # of packing.pack_screen; stored screens of another version are not used

cdef float INFINITY = np.inf

cdef enum:
    SCREEN_BLOCKS = 2    # blocks in a task of the screen
    RESCORE_TILES = 64   # tiles of 16 rows in a task of step 3, where most tiles have no candidate


cdef class ScreenedHead:
    """A float head matrix with its screen. It is immutable, so any number of threads may search it at once,
    each with its own workspace.

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`, columns at most MAX_SCREEN_COLUMNS
    kind : "F32", "F16" or "BF16" (the last as uint16)
    n_threads : int
        Number of threads that pack.
    allocate : callable
        From a number of bytes to a 64-byte aligned uint8 array.
    packed : (blocks, stats), optional
        What `packing.pack_screen` returned for the same weights. Without it, the weights are packed.

    Raises
    ------
    ValueError
        If the weights are not a contiguous matrix of `kind`, or `packed` does not fit them.
    """
    cdef readonly object weights, blocks, stats, kind
    cdef readonly bint finite  # whether all weights are finite
    cdef rz_screen screen
    cdef const void *matrix
    cdef int kind_code  # of packing.FLOAT_KINDS
    cdef int64_t rows, columns

    def __init__(self, weights, kind, int n_threads, allocate=packing.aligned_empty, packed=None):
        if weights.shape[1] > RZ_MAX_SCREEN_COLUMNS:
            raise ValueError(f"{weights.shape[1]} columns; at most {RZ_MAX_SCREEN_COLUMNS} can be screened")
        packing.check_floats(weights, kind)
        self.weights, self.kind = weights, kind
        if packed is None:
            packed = packing.pack_screen(weights, kind, n_threads, allocate)
        else:
            check_packed(*packed, weights, kind)
        self.blocks, self.stats = packed
        self.finite = bool((self.stats[0] >= 0).all())
        self.kind_code = packing.FLOAT_KINDS[kind]
        self.matrix = <const void *><size_t>weights.ctypes.data
        self.rows, self.columns = weights.shape
        cdef int64_t padded = RZ_SCREEN_ROWS * self.blocks.shape[0]
        self.screen.blocks = <const uint8_t *><size_t>self.blocks.ctypes.data
        self.screen.scales = <const float *><size_t>self.stats.ctypes.data
        self.screen.errors = self.screen.scales + padded
        self.screen.norms = self.screen.errors + padded
        self.screen.groups = (self.columns + RZ_SCREEN_GROUP - 1) // RZ_SCREEN_GROUP
        self.screen.row_tiles = padded // 16

    @property
    def nbytes(self):
        """Bytes of the screen. A token reads these, and the weights of the rows that are not ruled out."""
        return self.blocks.nbytes + self.stats.nbytes

    def bounds(self, Workspace workspace):
        """(lower, upper) bounds of all logits in the last call with this workspace: float32 (n, rows). For
        tests."""
        buffers = workspace.screen_buffers
        sizes = buffers.sizes
        n = sizes.shape[1]
        logits = buffers.logits.reshape(-1)[:16 * n * self.screen.row_tiles].reshape(-1, n, 16)
        logits = np.ascontiguousarray(logits.transpose(1, 0, 2)).reshape(n, -1)[:, :self.rows]
        margins = self.stats[1] * sizes[0, :, None] + self.stats[2] * sizes[1, :, None]
        return logits - margins[:, :self.rows], logits + margins[:, :self.rows]

    def likeliest(self, const float[:, ::1] hidden, norm, float eps, Workspace workspace, count=1, margin=0.0,
                  also=None, allowed=None):
        """Tokens that can be among the `count` likeliest or within `margin` of the likeliest, with their logits.

        Parameters
        ----------
        hidden : float32 (n, columns)                                             # IN
        norm : float32 (columns,) or None: the final RMSNorm, with eps            # IN
        count : int >= 1, or n of these
        margin : float >= 0, or n of these
            Distance in logits. It adds tokens only if it reaches further than `count`.
        also : n times int64 (m,) in ascending order, or None
            More tokens whose logits are wanted. They do not count among the likeliest.
        allowed : n times bool (rows,) or None
            Only tokens for which this is True can be among the likeliest.

        Returns
        -------
        list of n (ids, logits) : int64 and float32 (m,)
            At least the wanted tokens, in ascending order of ids, with the logits of the full head.

        Raises
        ------
        ValueError
            If shapes do not fit, a count or margin is out of range, or ids are not ascending rows.
        """
        cdef Screening job
        cdef Step steps[8]
        cdef Input source
        cdef float[:, ::1] normed, sizes, best_logits
        cdef float[:, :, ::1] bounds
        cdef float[:, ::1] screened, logits
        cdef int32_t[:, ::1] found, found_counts
        cdef int64_t[:, ::1] best
        cdef int8_t[:, ::1] codes
        cdef int32_t[:, ::1] scales_and_offsets
        cdef int64_t[::1] counts
        cdef float[::1] margins, named_logits
        cdef uint8_t[:, ::1] excluded
        cdef int32_t[::1] named
        cdef int64_t[:, ::1] ranges
        cdef int64_t n = hidden.shape[0], groups = self.screen.groups, tiles = self.screen.row_tiles, i
        cdef int64_t smallest_count, largest_count
        cdef bint valid_margins = True
        counts, margins = broadcast(count, n, np.int64), broadcast(margin, n, np.float32)
        if counts.shape[0] != n or margins.shape[0] != n:
            raise ValueError(f"{counts.shape[0]} counts and {margins.shape[0]} margins do not fit {n} hidden states")
        smallest_count = largest_count = 1
        for i in range(n):
            smallest_count = min(smallest_count, counts[i])
            largest_count = max(largest_count, min(counts[i], self.rows))
            if not margins[i] >= 0:  # also if it is NaN
                valid_margins = False
        if hidden.shape[1] != self.columns:
            raise ValueError(f"hidden states of {hidden.shape[1]} columns do not fit a head of {self.columns} columns")
        if smallest_count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if not valid_margins:
            raise ValueError(f"margin must be at least 0, not {margin}")
        if n == 0:
            return []
        for i in range(n):
            counts[i] = min(counts[i], self.rows)
        describe_input(&source, hidden, norm, eps)
        buffers = screen_buffers(workspace, n, tiles)
        normed = buffers.hidden = np.array(hidden)
        codes = np.empty((n, groups * RZ_SCREEN_GROUP), np.int8)
        scales_and_offsets = np.empty((2 * n, groups), np.int32)
        best, best_logits = np.full((n, largest_count), -1, np.int64), np.empty((n, largest_count), np.float32)
        # zeros, so that a cancelled call finds nothing
        found_counts = np.zeros((n, (tiles + RESCORE_TILES - 1) // RESCORE_TILES), np.int32)
        screened, bounds, sizes = buffers.logits, buffers.bounds, buffers.sizes
        found, logits = buffers.found, buffers.found_logits

        job.screen, job.matrix, job.kind = &self.screen, self.matrix, self.kind_code
        job.x, job.norm, job.eps, job.columns = &normed[0, 0], source.norm, eps, self.columns
        job.n, job.rows, job.largest_count = n, self.rows, largest_count
        job.counts, job.margins = &counts[0], &margins[0]
        job.inputs.codes, job.inputs.scales = &codes[0, 0], <float *>&scales_and_offsets[0, 0]
        job.inputs.offsets = &scales_and_offsets[n, 0]
        job.inputs.size, job.inputs.rest, job.thresholds = &sizes[0, 0], &sizes[1, 0], &sizes[2, 0]
        job.screened.logits = &screened[0, 0]
        job.screened.most_lower, job.screened.most_upper = &bounds[0, 0, 0], &bounds[1, 0, 0]
        job.best, job.best_logits = &best[0, 0], &best_logits[0, 0]
        job.found, job.logits = &found[0, 0], &logits[0, 0]
        job.found_counts, job.parts = &found_counts[0, 0], found_counts.shape[1]

        masks = buffers.excluded = excluded_rows(also, allowed, n, self.rows, 16 * tiles)
        job.excluded, job.mask_stride = NULL, 16 * tiles
        if masks is not None:
            excluded = masks
            job.excluded = &excluded[0, 0]
        range_array = ()
        if also is not None:
            ids, starts, range_array = rows_by_token(also, n)
            named, named_logits, ranges = ids, np.zeros(len(ids), np.float32), range_array
        steps[0] = as_operation(OP_HEAD_NORM, step(codes_task, &job, n))
        steps[1] = as_operation(
            OP_HEAD_SCREEN, step(screen_task, &job, (tiles // 4 + SCREEN_BLOCKS - 1) // SCREEN_BLOCKS))
        steps[2] = as_operation(OP_HEAD_RESCORE, step(exclude_task, &job, n * job.parts if job.excluded != NULL else 0))
        steps[3] = as_operation(OP_HEAD_RESCORE, step(best_task, &job, n))
        steps[4] = as_operation(OP_HEAD_RESCORE, step(best_logit_task, &job, n * largest_count))
        steps[5] = as_operation(OP_HEAD_RESCORE, step(threshold_task, &job, n))
        steps[6] = as_operation(OP_HEAD_RESCORE, step(rescore_task, &job, n * job.parts))
        cdef NamedRows rows = NamedRows(self.matrix, self.kind_code, self.columns, job.x, NULL, NULL, NULL)
        if len(range_array):
            rows.ids, rows.logits, rows.ranges = &named[0], &named_logits[0], &ranges[0, 0]
        steps[7] = as_operation(OP_HEAD_RESCORE, step(named_rows_task, &rows, len(range_array)))
        run_steps(steps, 8, workspace, n * self.rows * self.columns)
        results = [gather(&job, i) for i in range(n)]
        if not len(range_array):
            return results
        return [merge(result, ids[starts[i]:starts[i + 1]], np.asarray(named_logits)[starts[i]:starts[i + 1]])
                for i, result in enumerate(results)]


cdef struct Screening:
    const rz_screen *screen
    const void *matrix     # floats of `kind`
    int kind               # of packing.FLOAT_KINDS
    float *x               # (n, columns), normalised in place
    const float *norm
    float eps
    int64_t columns
    int64_t n
    int64_t rows
    int64_t largest_count
    const int64_t *counts  # (n,)
    const float *margins   # (n,)
    const uint8_t *excluded  # (n, mask_stride): 1 for rows that cannot be among the likeliest; NULL: all can be
    int64_t mask_stride
    rz_screen_inputs inputs
    rz_screen_logits screened
    int64_t *best          # (n, largest_count): rows whose logits are computed first; -1: no row
    float *best_logits     # (n, largest_count)
    float *thresholds      # (n,): a row is ruled out if its upper bound is less
    int64_t parts          # of the rows; a task of the last step has one part and one token
    int32_t *found         # (n, 16 * row_tiles): rows not ruled out; those of a part begin at its first row
    float *logits          # (n, 16 * row_tiles): their logits, at the same places
    int32_t *found_counts  # (n, parts): number of rows not ruled out


cdef bint is_excluded(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    return job.excluded != NULL and job.excluded[token * job.mask_stride + row]


cdef void exclude_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    """Recomputes the largest lower bound of each tile that has excluded rows."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, token = task // job.parts, part = task % job.parts, tile, row
    cdef const uint8_t *excluded = job.excluded + token * job.mask_stride
    cdef const int64_t *words
    cdef float most, lower
    for tile in range(part * RESCORE_TILES, min((part + 1) * RESCORE_TILES, tiles)):
        words = <const int64_t *>(excluded + 16 * tile)
        if not (words[0] | words[1]):
            continue
        most = -INFINITY
        for row in range(16 * tile, min(16 * tile + 16, job.rows)):
            lower = approximate_logit(job, token, row) - error_margin(job, token, row)
            if not excluded[row] and lower > most:
                most = lower
        job.screened.most_lower[token * tiles + tile] = most


cdef void codes_task(const void *data, Workspace workspace, int64_t token, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef float *x = job.x + token * job.columns
    if job.norm != NULL:
        kernels().rms_norm(x, job.norm, job.eps, job.columns, x)
    rz_screen_codes(x, job.columns, job.screen.groups, token, &job.inputs)


cdef void screen_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    kernels().screen(job.screen, task * SCREEN_BLOCKS, min((task + 1) * SCREEN_BLOCKS, job.screen.row_tiles // 4),
                     &job.inputs, job.n, &job.screened)


cdef float error_margin(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    """The distance of the bounds of a row from its approximate logit."""
    return job.screen.errors[row] * job.inputs.size[token] + job.screen.norms[row] * job.inputs.rest[token]


cdef float approximate_logit(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    return job.screened.logits[16 * (row // 16 * job.n + token) + row % 16]


cdef float lower_bound(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    """The lower bound of a row; -infinity if the row is excluded."""
    if is_excluded(job, token, row):
        return -INFINITY
    return approximate_logit(job, token, row) - error_margin(job, token, row)


cdef void best_task(const void *data, Workspace workspace, int64_t token, int thread) noexcept nogil:
    """Finds `count` different rows with large lower bounds: the best row of each of the `count` best tiles. If
    there are few tiles, the best of all rows."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, count = job.counts[token], i, row
    cdef int64_t *best = job.best + token * job.largest_count
    cdef float *lower = job.logits + 16 * token * tiles  # the last step writes its logits here later
    cdef float tile_lower[16]
    if 4 * count > tiles:
        for row in range(job.rows):
            lower[row] = lower_bound(job, token, row)
        largest(lower, job.rows, count, best)
        return
    largest(job.screened.most_lower + token * tiles, tiles, count, best)
    for i in range(count):
        if best[i] >= 0:
            for row in range(16):
                tile_lower[row] = lower_bound(job, token, 16 * best[i] + row)
            row = 16 * best[i]
            largest(tile_lower, min(job.rows - row, <int64_t>16), 1, best + i)
            best[i] = best[i] + row if best[i] >= 0 else -1


cdef void largest(const float *values, int64_t n, int64_t count, int64_t *indices) noexcept nogil:
    """Indices of the `count` largest values above -infinity, in any order. If there are fewer, the rest are -1."""
    cdef int64_t i, at, child
    cdef float least = -INFINITY  # of the values found so far; `indices` is a heap with the least one first
    for i in range(count):
        indices[i] = -1
    for i in range(n):
        if not values[i] > least:
            continue
        at = 0  # i replaces the least one and moves down to its place
        while True:
            child = 2 * at + 1
            if child >= count:
                break
            if child + 1 < count and below(values, indices[child + 1], indices[child]):
                child += 1
            if not below(values, indices[child], i):
                break
            indices[at] = indices[child]
            at = child
        indices[at] = i
        if indices[0] >= 0:
            least = values[indices[0]]


cdef bint below(const float *values, int64_t i, int64_t j) noexcept nogil:
    """Whether index i comes before j in the heap. Unused places (-1) come first."""
    return j >= 0 and (i < 0 or values[i] < values[j])


cdef void best_logit_task(const void *data, Workspace workspace, int64_t i, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef int32_t row
    if job.best[i] >= 0:
        row = <int32_t>job.best[i]
        kernels().dense_rows[job.kind](job.matrix, job.columns, &row, 1, job.x + i // job.largest_count * job.columns,
                                       job.best_logits + i)


cdef void threshold_task(const void *data, Workspace workspace, int64_t token, int thread) noexcept nogil:
    """The threshold is the least of the `count` best logits: that many rows reach it, so a row below it is not
    wanted. No row is ruled out if fewer rows are known or a logit is NaN."""
    cdef const Screening *job = <const Screening *>data
    cdef float threshold = INFINITY, most = -INFINITY, logit, reached
    cdef int64_t i
    for i in range(token * job.largest_count, token * job.largest_count + job.counts[token]):
        logit = job.best_logits[i] if job.best[i] >= 0 else -INFINITY
        if not logit >= threshold:
            threshold = logit if logit == logit else -INFINITY
        if logit > most:
            most = logit
    if job.margins[token] > 0:
        reached = most - job.margins[token]  # may be rounded up, by less than what is subtracted below
        threshold = min(threshold, reached - (reached if reached > 0 else -reached) * <float>1.2e-7)
    job.thresholds[token] = threshold


cdef void rescore_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    """Finds the rows of one part that are not ruled out, and computes their logits."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, token = task // job.parts, part = task % job.parts
    cdef int64_t at = 16 * (token * tiles + part * RESCORE_TILES), tile, row
    cdef float threshold = job.thresholds[token]
    cdef int32_t count = 0
    for tile in range(part * RESCORE_TILES, min((part + 1) * RESCORE_TILES, tiles)):
        if job.screened.most_upper[token * tiles + tile] < threshold:
            continue
        for row in range(16 * tile, min(16 * tile + 16, job.rows)):
            if is_excluded(job, token, row):
                continue
            if not approximate_logit(job, token, row) + error_margin(job, token, row) < threshold:
                job.found[at + count] = <int32_t>row
                count += 1
    kernels().dense_rows[job.kind](job.matrix, job.columns, job.found + at, count, job.x + token * job.columns,
                                   job.logits + at)
    job.found_counts[task] = count


cdef gather(const Screening *job, int64_t token):
    """(ids, logits) of one token."""
    cdef int64_t total = 0, part, at, i, next = 0
    for part in range(job.parts):
        total += job.found_counts[token * job.parts + part]
    ids, values = np.empty(total, np.int64), np.empty(total, np.float32)
    cdef int64_t[::1] ids_view = ids
    cdef float[::1] values_view = values
    for part in range(job.parts):
        at = 16 * (token * job.screen.row_tiles + part * RESCORE_TILES)
        for i in range(job.found_counts[token * job.parts + part]):
            ids_view[next] = job.found[at + i]
            values_view[next] = job.logits[at + i]
            next += 1
    return ids, values
