# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the screen knows of the rows that a search left out: how many reach how far, and more of their logits.

After ScreenedHead.likeliest (head.pyx) the workspace holds an upper bound of every logit. Rows are sorted into
steps by how far their bound is below a reference: in step 0 it reaches the reference, in step k > 0 it is less than
k / STEPS_PER_UNIT and not less than (k - 1) / STEPS_PER_UNIT temperatures below, and the last step has all others.
Drawing a token needs the sum of exp(logit / temperature) over all of them, and counts bound it.
"""
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport kernels
from ryzanstein_llm.kernels.steps cimport Step, as_operation, run_steps, step
from ryzanstein_llm.kernels.workspace cimport OP_HEAD_RESCORE, Workspace

from ryzanstein_llm.kernels import packing

cdef enum:
    COUNT_TILES = 256   # tiles of 16 rows in a task that counts
    SCORE_TILES = 64    # in a task that computes logits
    LAST = 511
    PER_UNIT = 8

STEPS = LAST + 1
STEPS_PER_UNIT = PER_UNIT


cdef struct Rest:
    const float *logits    # screened ones, (row_tiles, n, 16)
    const float *most_upper  # (row_tiles,) of this token
    const float *errors    # |e| and
    const float *norms     # |w^| of each row
    float size             # |x| and
    float remainder        # |r| of the hidden state; see kernels.h
    const uint8_t *excluded  # (rows,); NULL: none
    int64_t n, token, rows, row_tiles
    float reference
    float scale            # STEPS_PER_UNIT / temperature
    int32_t *counts        # (tasks, STEPS)
    int32_t first, last    # rows of steps from first to last are wanted
    const void *matrix
    int kind
    int64_t columns
    const float *x
    int32_t *found         # (16 * row_tiles,): those of a task begin at its first row
    float *found_logits
    int32_t *found_counts  # (tasks,)


cdef class HeadRest:
    """The rows that the last search with this workspace left out for one hidden state. It is valid until the next
    search.

    Parameters
    ----------
    head : ScreenedHead
    workspace : Workspace
    token : int
        Which hidden state of the search.
    temperature : float > 0

    Attributes
    ----------
    reference : float
        Every row whose upper bound reaches it was found by the search.
    """
    cdef Rest job
    cdef Workspace workspace
    cdef object arrays  # what `job` points to
    cdef readonly float reference

    def __init__(self, head, Workspace workspace, int64_t token, float temperature):
        buffers = workspace.screen_buffers
        cdef float[:, ::1] logits = buffers.logits, sizes = buffers.sizes, found_logits = buffers.found_logits
        cdef float[:, :, ::1] bounds = buffers.bounds
        cdef const float[:, ::1] stats = head.stats
        cdef float[:, ::1] hidden = buffers.hidden
        cdef int32_t[:, ::1] found = buffers.found
        cdef const uint8_t[:, ::1] excluded
        self.workspace = workspace
        self.arrays = (buffers, buffers.sizes, buffers.hidden, buffers.excluded, head)
        self.reference = sizes[2, token]
        self.job.n, self.job.token, self.job.rows = hidden.shape[0], token, head.weights.shape[0]
        self.job.row_tiles, self.job.columns = buffers.row_tiles, hidden.shape[1]
        self.job.logits, self.job.most_upper = &logits[0, 0], &bounds[1, 0, 0] + token * self.job.row_tiles
        self.job.errors, self.job.norms = &stats[1, 0], &stats[2, 0]
        self.job.size, self.job.remainder = sizes[0, token], sizes[1, token]
        self.job.excluded = NULL
        if buffers.excluded is not None:
            excluded = buffers.excluded
            self.job.excluded = &excluded[token, 0]
        self.job.reference, self.job.scale = self.reference, PER_UNIT / temperature
        self.job.matrix, self.job.kind = <const void *><size_t>head.weights.ctypes.data, packing.FLOAT_KINDS[head.kind]
        self.job.x = &hidden[token, 0]
        self.job.found, self.job.found_logits = &found[0, 0], &found_logits[0, 0]

    def counts(self):
        """The number of rows in each step: int64 (STEPS,)."""
        cdef Step steps[1]
        cdef int64_t tasks = (self.job.row_tiles + COUNT_TILES - 1) // COUNT_TILES
        cdef int32_t[:, ::1] counted = np.zeros((tasks, STEPS), np.int32)
        self.job.counts = &counted[0, 0]
        steps[0] = as_operation(OP_HEAD_RESCORE, step(count_task, &self.job, tasks))
        run_steps(steps, 1, self.workspace, self.job.rows * 16)
        return np.asarray(counted).sum(axis=0, dtype=np.int64)

    def rows(self, int32_t first, int32_t last):
        """The rows in the steps from `first` to `last`: (ids, logits), int64 and float32, in ascending order of
        ids, with the logits of the full head."""
        cdef Step steps[1]
        cdef int64_t tasks = (self.job.row_tiles + SCORE_TILES - 1) // SCORE_TILES, task, at, total = 0, next = 0, i
        cdef int32_t[::1] found_counts = np.zeros(tasks, np.int32)  # zeros, so that a cancelled call finds nothing
        self.job.first, self.job.last, self.job.found_counts = first, last, &found_counts[0]
        steps[0] = as_operation(OP_HEAD_RESCORE, step(score_task, &self.job, tasks))
        run_steps(steps, 1, self.workspace, self.job.rows * self.job.columns)
        for task in range(tasks):
            total += found_counts[task]
        ids, logits = np.empty(total, np.int64), np.empty(total, np.float32)
        cdef int64_t[::1] all_ids = ids
        cdef float[::1] all_logits = logits
        for task in range(tasks):
            at = 16 * SCORE_TILES * task
            for i in range(found_counts[task]):
                all_ids[next], all_logits[next] = self.job.found[at + i], self.job.found_logits[at + i]
                next += 1
        return ids, logits


cdef inline int32_t step_of(float reference, float scale, float upper) noexcept nogil:
    """The step of a row with this upper bound; 0 for NaN. It does not fall as the bound falls."""
    cdef float below = (reference - upper) * scale
    cdef float most = below if below < LAST - 1 else LAST - 1
    cdef int32_t steps = <int32_t>(most if most > 0 else 0)
    return 1 + steps if upper < reference else 0


cdef void steps_of_tile(const Rest *job, int64_t tile, int32_t *steps) noexcept nogil:
    """The steps of 16 rows, in a loop that the compiler vectorises. Bounds are those of ScreenedHead.bounds; past
    the end they are infinite."""
    cdef const float *logits = job.logits + 16 * (tile * job.n + job.token)
    cdef const float *errors = job.errors + 16 * tile
    cdef const float *norms = job.norms + 16 * tile
    cdef float size = job.size, remainder = job.remainder, reference = job.reference, scale = job.scale
    cdef int i
    for i in range(16):
        steps[i] = step_of(reference, scale, logits[i] + (errors[i] * size + norms[i] * remainder))


cdef void count_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Rest *job = <const Rest *>data
    cdef int32_t *counts = job.counts + task * (LAST + 1)
    cdef const uint8_t *excluded = job.excluded
    cdef int64_t tile, row
    cdef int32_t steps[16]
    for tile in range(COUNT_TILES * task, min(COUNT_TILES * (task + 1), job.row_tiles)):
        steps_of_tile(job, tile, steps)
        for row in range(min(<int64_t>16, job.rows - 16 * tile)):
            if excluded == NULL or not excluded[16 * tile + row]:
                counts[steps[row]] += 1


cdef void score_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Rest *job = <const Rest *>data
    cdef const uint8_t *excluded = job.excluded
    cdef int64_t tile, row, at = 16 * SCORE_TILES * task
    cdef int32_t count = 0
    cdef int32_t steps[16]
    for tile in range(SCORE_TILES * task, min(SCORE_TILES * (task + 1), job.row_tiles)):
        if step_of(job.reference, job.scale, job.most_upper[tile]) > job.last:
            continue
        steps_of_tile(job, tile, steps)
        for row in range(min(<int64_t>16, job.rows - 16 * tile)):
            if job.first <= steps[row] <= job.last and (excluded == NULL or not excluded[16 * tile + row]):
                job.found[at + count] = <int32_t>(16 * tile + row)
                count += 1
    kernels().dense_rows[job.kind](job.matrix, job.columns, job.found + at, count, job.x, job.found_logits + at)
    job.found_counts[task] = count
