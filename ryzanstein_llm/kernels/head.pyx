# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The screened head: logits of the likeliest tokens, for three eighths of the bytes of the full head.

All rows are screened with weights of six bits and an honest error bound. Exact logits of the rows that
look best are then computed from the stored floats, by the dot product of the full head, and after that
those of all rows whose upper bound reaches these logits. So the results equal those of the full head bit
for bit; the bound only decides how much work is saved.
"""
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_MAX_SCREEN_COLUMNS, RZ_SCREEN_GROUP, RZ_SCREEN_ROWS, kernels, rz_screen, rz_screen_inputs,
    rz_screen_logits)
from ryzanstein_llm.kernels.head_rows cimport NamedRows, named_rows_task
from ryzanstein_llm.kernels.linear cimport Input, read_input
from ryzanstein_llm.kernels.steps cimport Step, of, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_NORM, OP_HEAD_RESCORE, OP_HEAD_SCREEN, Workspace

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.head_rows import rows_by_token
from ryzanstein_llm.kernels.screening import exclusions, merged, one_each, screen_buffers

cdef extern from "ryzanstein/pack_screen.h" nogil:
    void rz_screen_codes(const float *, int64_t, int64_t, int64_t, const rz_screen_inputs *)

MAX_SCREEN_COLUMNS = RZ_MAX_SCREEN_COLUMNS
SCREEN_LAYOUT_VERSION = 2  # of `packing.pack_screen`: stored screens of another version are not used

cdef float INFINITY = np.inf

cdef enum:
    SCREEN_BLOCKS = 2    # blocks in a task of the screen
    RESCORE_TILES = 64   # tiles of 16 rows in a task that looks for rows in question; most tiles have none


def check_packed(blocks, stats, rows, columns):
    """Raises ValueError unless blocks and stats can be those of a screen of (rows, columns)."""
    shapes = packing.screen_shapes(rows, columns)
    for array, dtype, shape in ((blocks, np.uint8, shapes[0]), (stats, np.float32, shapes[1])):
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous or array.ctypes.data % 64:
            raise ValueError(f"{array.dtype}{array.shape} is no aligned {np.dtype(dtype)}{shape} of a screen of "
                             f"{rows} x {columns}")
    if not (stats >= 0).all():  # false for NaN, which comparisons of bounds would let through
        raise ValueError(f"scales and norms of a screen of {rows} x {columns} are negative or NaN")


cdef class ScreenedHead:
    """A float head matrix with its screen. It is immutable, so any number of threads may search it at once,
    each with its own workspace.

    Parameters
    ----------
    weights : C-contiguous (rows, columns) in `kind`, columns at most MAX_SCREEN_COLUMNS
    kind : "F32", "F16" or "BF16" (the last as uint16)
    n_threads : int
        For packing.
    allocate : callable from a number of bytes to a 64-byte aligned uint8 array
    packed : (blocks, stats), optional
        What `packing.pack_screen` returned for the same weights earlier. Then nothing is packed.

    Raises
    ------
    ValueError
        If the weights are not a contiguous matrix of `kind`, or `packed` does not fit them.
    """
    cdef readonly object weights, blocks, stats, kind
    cdef readonly bint finite  # whether all weights are finite
    cdef rz_screen screen
    cdef const void *matrix
    cdef int code
    cdef int64_t rows, columns

    def __init__(self, weights, kind, int n_threads, allocate=packing.aligned_empty, packed=None):
        if weights.shape[1] > RZ_MAX_SCREEN_COLUMNS:
            raise ValueError(f"{weights.shape[1]} columns; at most {RZ_MAX_SCREEN_COLUMNS} can be screened")
        packing.check_floats(weights, kind)
        self.weights, self.kind = weights, kind
        if packed is None:
            packed = packing.pack_screen(weights, kind, n_threads, allocate)
        else:
            check_packed(*packed, *weights.shape)
        self.blocks, self.stats = packed
        self.finite = bool((self.stats[0] >= 0).all())
        self.code = packing.FLOAT_KINDS[kind]
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
        """Bytes of the screen. A token reads these, and the rows that stay in question."""
        return self.blocks.nbytes + self.stats.nbytes

    def bounds(self, Workspace space):
        """(lower, upper) bounds of all logits in the last call with this workspace: float32 (n, rows). For
        tests."""
        held = space.screen_buffers
        sizes = held.sizes
        n = sizes.shape[1]
        logits = held.logits.reshape(-1)[:16 * n * self.screen.row_tiles].reshape(-1, n, 16)
        logits = np.ascontiguousarray(logits.transpose(1, 0, 2)).reshape(n, -1)[:, :self.rows]
        margins = self.stats[1] * sizes[0, :, None] + self.stats[2] * sizes[1, :, None]
        return logits - margins[:, :self.rows], logits + margins[:, :self.rows]

    def likeliest(self, const float[:, ::1] hidden, norm, float eps, Workspace space, count=1, margin=0.0,
                  also=None, allowed=None):
        """Tokens that can be among the `count` likeliest, or within `margin` of the likeliest.

        Parameters
        ----------
        hidden : float32 (n, columns)                                             # IN
        norm : float32 (columns,) or None, with eps: the final RMSNorm            # IN
        count : int >= 1, or n of them
        margin : float >= 0, or n of them
            Distance in logits. It matters only if it reaches further than `count`.
        also : n times int64 (m,), rising ids, or None
            Tokens whose logits are wanted in any case, and that do not count among the likeliest.
        allowed : n times bool (rows,) or None
            Only tokens for which this is True can be among the likeliest.

        Returns
        -------
        list of n (ids, logits) : int64 and float32 (m,)
            At least the wanted tokens, by rising id, with the logits of the full head.
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
        cdef int32_t[:, ::1] words
        cdef int64_t[::1] counts
        cdef float[::1] margins, named_logits
        cdef uint8_t[:, ::1] excluded
        cdef int32_t[::1] named
        cdef int64_t[:, ::1] shares
        cdef int64_t n = hidden.shape[0], groups = self.screen.groups, tiles = self.screen.row_tiles, i
        cdef int64_t least, most
        cdef float narrowest
        counts, margins = one_each(count, n, np.int64), one_each(margin, n, np.float32)
        if counts.shape[0] != n or margins.shape[0] != n:
            raise ValueError(f"counts {count} and margins {margin} for {n} hidden states")
        least, narrowest, most = 1, 0.0, 1
        for i in range(n):
            least, most = min(least, counts[i]), max(most, min(counts[i], self.rows))
            if not margins[i] >= 0:
                narrowest = -1.0
        if hidden.shape[1] != self.columns or least < 1 or narrowest < 0:
            raise ValueError(f"hidden states of {hidden.shape[1]} for {self.columns} columns, count {count}, "
                             f"margin {margin}")
        if n == 0:
            return []
        for i in range(n):
            counts[i] = min(counts[i], self.rows)
        read_input(&source, hidden, norm, eps)
        buffers = screen_buffers(space, n, tiles)
        normed = np.array(hidden)
        codes = np.empty((n, groups * RZ_SCREEN_GROUP), np.int8)
        words = np.empty((2 * n, groups), np.int32)
        best, best_logits = np.full((n, most), -1, np.int64), np.empty((n, most), np.float32)  # -1: no row
        # zeros: a cancelled call finds nothing
        found_counts = np.zeros((n, (tiles + RESCORE_TILES - 1) // RESCORE_TILES), np.int32)
        screened, bounds, sizes = buffers.logits, buffers.bounds, buffers.sizes
        found, logits = buffers.found, buffers.found_logits

        job.screen, job.matrix, job.kind = &self.screen, self.matrix, self.code
        job.x, job.norm, job.eps, job.columns = &normed[0, 0], source.norm, eps, self.columns
        job.n, job.rows, job.most = n, self.rows, most
        job.counts, job.margins = &counts[0], &margins[0]
        job.inputs.codes, job.inputs.scales = &codes[0, 0], <float *>&words[0, 0]
        job.inputs.offsets = &words[n, 0]
        job.inputs.size, job.inputs.rest, job.thresholds = &sizes[0, 0], &sizes[1, 0], &sizes[2, 0]
        job.screened.logits = &screened[0, 0]
        job.screened.most_lower, job.screened.most_upper = &bounds[0, 0, 0], &bounds[1, 0, 0]
        job.best, job.best_logits = &best[0, 0], &best_logits[0, 0]
        job.found, job.logits = &found[0, 0], &logits[0, 0]
        job.found_counts, job.shares = &found_counts[0, 0], found_counts.shape[1]

        masks = exclusions(also, allowed, n, self.rows, 16 * tiles)
        job.excluded, job.mask_stride = NULL, 16 * tiles
        if masks is not None:
            excluded = masks
            job.excluded = &excluded[0, 0]
        share_array = ()
        if also is not None:
            ids, starts, share_array = rows_by_token(also, n)
            named, named_logits, shares = ids, np.zeros(len(ids), np.float32), share_array
        steps[0] = of(OP_HEAD_NORM, step(codes_task, &job, n))
        steps[1] = of(OP_HEAD_SCREEN, step(screen_task, &job, (tiles // 4 + SCREEN_BLOCKS - 1) // SCREEN_BLOCKS))
        steps[2] = of(OP_HEAD_RESCORE, step(exclude_task, &job, n * job.shares if job.excluded != NULL else 0))
        steps[3] = of(OP_HEAD_RESCORE, step(best_task, &job, n))
        steps[4] = of(OP_HEAD_RESCORE, step(best_logit_task, &job, n * most))
        steps[5] = of(OP_HEAD_RESCORE, step(threshold_task, &job, n))
        steps[6] = of(OP_HEAD_RESCORE, step(rescore_task, &job, n * job.shares))
        cdef NamedRows rows = NamedRows(self.matrix, self.code, self.columns, job.x, NULL, NULL, NULL)
        if len(share_array):
            rows.ids, rows.logits, rows.shares = &named[0], &named_logits[0], &shares[0, 0]
        steps[7] = of(OP_HEAD_RESCORE, step(named_rows_task, &rows, len(share_array)))
        run_steps(steps, 8, space, n * self.rows * self.columns)
        results = [gather(&job, i) for i in range(n)]
        if not len(share_array):
            return results
        return [merged(result, ids[starts[i]:starts[i + 1]], np.asarray(named_logits)[starts[i]:starts[i + 1]])
                for i, result in enumerate(results)]


cdef struct Screening:
    const rz_screen *screen
    const void *matrix     # floats of this kind
    int kind
    float *x               # (n, columns), normalised in place
    const float *norm
    float eps
    int64_t columns
    int64_t n
    int64_t rows
    int64_t most           # the largest of counts
    const int64_t *counts  # (n,)
    const float *margins   # (n,)
    const uint8_t *excluded  # (n, mask_stride): 1 for rows that do not count as likeliest; NULL: all rows count
    int64_t mask_stride
    rz_screen_inputs inputs
    rz_screen_logits screened
    int64_t *best          # (n, most): rows whose logits are computed first, or -1
    float *best_logits     # (n, most)
    float *thresholds      # (n,): rows whose upper bound is below are not wanted
    int32_t *found         # (n, 16 * row_tiles): rows in question; those of a task begin at its first row
    float *logits          # (n, 16 * row_tiles): their logits, at the same places
    int32_t *found_counts  # (n, shares): rows in question in each task
    int64_t shares


cdef bint is_excluded(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    return job.excluded != NULL and job.excluded[token * job.mask_stride + row]


cdef void exclude_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil:
    """Computes the largest lower bound of a tile again if rows of it are excluded."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, token = task // job.shares, share = task % job.shares, tile, row
    cdef const uint8_t *excluded = job.excluded + token * job.mask_stride
    cdef const int64_t *words
    cdef float most, lower
    for tile in range(share * RESCORE_TILES, min((share + 1) * RESCORE_TILES, tiles)):
        words = <const int64_t *>(excluded + 16 * tile)
        if not (words[0] | words[1]):
            continue
        most = -INFINITY
        for row in range(16 * tile, min(16 * tile + 16, job.rows)):
            lower = screened_of(job, token, row) - margin_of(job, token, row)
            if not excluded[row] and lower > most:
                most = lower
        job.screened.most_lower[token * tiles + tile] = most


cdef void codes_task(const void *data, Workspace space, int64_t token, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef float *x = job.x + token * job.columns
    if job.norm != NULL:
        kernels().rms_norm(x, job.norm, job.eps, job.columns, x)
    rz_screen_codes(x, job.columns, job.screen.groups, token, &job.inputs)


cdef void screen_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    kernels().screen(job.screen, task * SCREEN_BLOCKS, min((task + 1) * SCREEN_BLOCKS, job.screen.row_tiles // 4),
                     &job.inputs, job.n, &job.screened)


cdef float margin_of(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    """The distance of the bounds of a row from its screened logit."""
    return job.screen.errors[row] * job.inputs.size[token] + job.screen.norms[row] * job.inputs.rest[token]


cdef float screened_of(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    return job.screened.logits[16 * (row // 16 * job.n + token) + row % 16]


cdef float lower_of(const Screening *job, int64_t token, int64_t row) noexcept nogil:
    """The lower bound of a row; -infinity if the row is excluded."""
    return -INFINITY if is_excluded(job, token, row) else screened_of(job, token, row) - margin_of(job, token, row)


cdef void best_task(const void *data, Workspace space, int64_t token, int thread) noexcept nogil:
    """Finds `count` different rows with large lower bounds: the best row of each of the best tiles, or, if
    there are few tiles for that, the best of all rows."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, count = job.counts[token], i, row
    cdef int64_t *best = job.best + token * job.most
    cdef float *lower = job.logits + 16 * token * tiles  # not in use yet
    cdef float tile_lower[16]
    if 4 * count > tiles:
        for row in range(job.rows):
            lower[row] = lower_of(job, token, row)
        largest(lower, job.rows, count, best)
        return
    largest(job.screened.most_lower + token * tiles, tiles, count, best)
    for i in range(count):
        if best[i] >= 0:
            for row in range(16):
                tile_lower[row] = lower_of(job, token, 16 * best[i] + row)
            row = 16 * best[i]
            largest(tile_lower, min(job.rows - row, <int64_t>16), 1, best + i)
            best[i] = best[i] + row if best[i] >= 0 else -1


cdef void largest(const float *values, int64_t n, int64_t count, int64_t *indices) noexcept nogil:
    """Indices of the `count` largest values, in any order. If fewer values are above -infinity, the rest is -1."""
    cdef int64_t i, at, child
    cdef float least = -INFINITY  # the least value found so far; the indices are a heap with the least first
    for i in range(count):
        indices[i] = -1
    for i in range(n):
        if not values[i] > least:
            continue
        at = 0  # i replaces the least one, and sinks
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
    """Whether index i comes before j in the heap. Free places come first."""
    return j >= 0 and (i < 0 or values[i] < values[j])


cdef void best_logit_task(const void *data, Workspace space, int64_t i, int thread) noexcept nogil:
    cdef const Screening *job = <const Screening *>data
    cdef int32_t row
    if job.best[i] >= 0:
        row = <int32_t>job.best[i]
        kernels().dense_rows[job.kind](job.matrix, job.columns, &row, 1, job.x + i // job.most * job.columns,
                                       job.best_logits + i)


cdef void threshold_task(const void *data, Workspace space, int64_t token, int thread) noexcept nogil:
    """The threshold is the least of the best logits, because at least `count` rows have that much or more.
    If fewer rows are known, or a logit is not a number, no row is ruled out."""
    cdef const Screening *job = <const Screening *>data
    cdef float threshold = INFINITY, most = -INFINITY, logit, reached
    cdef int64_t i
    for i in range(token * job.most, token * job.most + job.counts[token]):
        logit = job.best_logits[i] if job.best[i] >= 0 else -INFINITY
        if not logit >= threshold:
            threshold = logit if logit == logit else -INFINITY
        if logit > most:
            most = logit
    if job.margins[token] > 0:
        reached = most - job.margins[token]  # may have been rounded up, by less than is subtracted below
        threshold = min(threshold, reached - (reached if reached > 0 else -reached) * <float>1.2e-7)
    job.thresholds[token] = threshold


cdef void rescore_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil:
    """Looks for rows in question in some tiles, and computes their logits."""
    cdef const Screening *job = <const Screening *>data
    cdef int64_t tiles = job.screen.row_tiles, token = task // job.shares, share = task % job.shares
    cdef int64_t at = 16 * (token * tiles + share * RESCORE_TILES), tile, row
    cdef float threshold = job.thresholds[token]
    cdef int32_t count = 0
    for tile in range(share * RESCORE_TILES, min((share + 1) * RESCORE_TILES, tiles)):
        if job.screened.most_upper[token * tiles + tile] < threshold:
            continue
        for row in range(16 * tile, min(16 * tile + 16, job.rows)):
            if is_excluded(job, token, row):
                continue
            if not screened_of(job, token, row) + margin_of(job, token, row) < threshold:
                job.found[at + count] = <int32_t>row
                count += 1
    kernels().dense_rows[job.kind](job.matrix, job.columns, job.found + at, count, job.x + token * job.columns,
                                   job.logits + at)
    job.found_counts[task] = count


cdef gather(const Screening *job, int64_t token):
    """(ids, logits) of one token."""
    cdef int64_t total = 0, share, at, i, next = 0
    for share in range(job.shares):
        total += job.found_counts[token * job.shares + share]
    ids, values = np.empty(total, np.int64), np.empty(total, np.float32)
    cdef int64_t[::1] ids_view = ids
    cdef float[::1] values_view = values
    for share in range(job.shares):
        at = 16 * (token * job.screen.row_tiles + share * RESCORE_TILES)
        for i in range(job.found_counts[token * job.shares + share]):
            ids_view[next] = job.found[at + i]
            values_view[next] = job.logits[at + i]
            next += 1
    return ids, values
