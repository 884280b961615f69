# cython: language_level=3
"""Memory that compute calls share: quantised activations, scratch for each thread, the cancel flag.

A model has one workspace, because it runs one pass at a time. Buffers grow when needed and are used
again. What they contain is valid only within a call.
"""
import numpy as np

from openmp cimport omp_get_wtime
from ryzanstein_llm.kernels.cpu cimport RZ_ACTIVATIONS_STRIDE, RZ_TABLES_BYTES, RZ_TABLES_TOKENS
from ryzanstein_llm.kernels.threads cimport team_size

from ryzanstein_llm.kernels.packing import aligned_empty

# In the order of the enumeration in workspace.pxd.
OPERATIONS = (
    "other", "norm_quantize", "qkv", "rope_append", "attention", "attention_combine", "o", "gate_up", "gate", "up",
    "down", "head_norm", "head_screen", "head_rescore", "head", "fork")
if len(OPERATIONS) != OPERATION_COUNT:
    raise AssertionError(f"{len(OPERATIONS)} names for {OPERATION_COUNT} operations")


cdef class Workspace:
    """
    Parameters
    ----------
    n_threads : int >= 1
        Number of threads of every parallel region.
    serial_below : int >= 0
        Calls with fewer multiply-adds than this run on the calling thread alone. Starting and
        joining threads takes some microseconds, which is longer than a small product.

    Attributes
    ----------
    cancel_flag : int32 array of shape (1,)
        Each task reads it first. If it is not zero, the remaining tasks do nothing, and the
        results are meaningless.
    kernel_seconds : float
        Time of the calling thread in parallel regions, including its waiting for other threads.
        The rest of wall-clock time is Python, fork and join.
    screen_buffers : object
        Buffers that the screen of the head keeps between calls; see screening.py.
    profiling : bool
        Whether calls add up their time by operation.

    Raises
    ------
    ValueError
        If n_threads is less than 1.
    """

    def __cinit__(self, int n_threads, int64_t serial_below=0):
        if n_threads < 1:
            raise ValueError(f"n_threads must be at least 1, not {n_threads}")
        cdef uint8_t[::1] memory
        self.n_threads = n_threads
        self.serial_below = serial_below
        self._states = aligned_empty(n_threads * sizeof(ThreadState))
        self._states[:] = 0
        memory = self._states
        self.states = <ThreadState *>&memory[0]
        self.use_cancel_flag(np.zeros(1, np.int32))

    def use_cancel_flag(self, flag):
        """Use `flag`, an int32 array of shape (1,), as the cancel flag from the next call on."""
        cdef int[::1] view = flag
        self.cancel_flag = flag
        self.cancel = &view[0]

    @property
    def skipping(self):
        """Counts of skipping.pyx over all calls: (rows read, all rows, columns read, all columns).
        The difference was skipped."""
        cdef int64_t counts[4]
        cdef int thread, i
        counts[:] = [0, 0, 0, 0]
        for thread in range(self.n_threads):
            counts[0] += self.states[thread].rows_read
            counts[1] += self.states[thread].rows_seen
            counts[2] += self.states[thread].columns_read
            counts[3] += self.states[thread].columns_seen
        return tuple(counts[i] for i in range(4))

    @property
    def operations(self):
        """A dict from each of OPERATIONS to (calls, seconds, seconds spent waiting), summed over the steps
        that ran while `profiling` was on and measured by the calling thread. The seconds include the
        waiting. "fork" is the time from the start of a call to its first step."""
        return {name: (self.tallies[i].calls, self.tallies[i].seconds, self.tallies[i].wait)
                for i, name in enumerate(OPERATIONS)}

    @property
    def nbytes(self):
        """Bytes of all buffers."""
        buffers = (self._codes, self._scales, self._sums, self._floats, self._tables, self._scratch, self._states)
        return sum(array.nbytes for array in buffers if array is not None)

    cdef void begin(self) noexcept nogil:
        """Called before the steps of a call, when no thread has sums of a job yet."""
        cdef int thread
        for thread in range(self.n_threads):
            self.states[thread].sums_job = NULL

    cdef void enter(self, int thread) noexcept nogil:
        """Called when a thread begins its part of a parallel region."""
        if thread == 0:
            self._entered = self._mark = omp_get_wtime()

    cdef void leave(self, int thread) noexcept nogil:
        """Called when a thread has ended its part of a parallel region."""
        if thread == 0:
            self.kernel_seconds += omp_get_wtime() - self._entered

    cdef void tally(self, int operation, double worked) noexcept nogil:
        """Called when the calling thread has passed a step, whose last task in this thread ended at
        `worked`."""
        cdef double now = omp_get_wtime()
        cdef Tally *tally = &self.tallies[operation]
        tally.calls += 1
        tally.seconds += now - self._mark
        tally.wait += now - worked
        self._mark, self._last = now, operation

    cdef void tally_ends(self, double start) noexcept nogil:
        """Called after the parallel region of a call that began at `start`. Counts the time before the
        first step, and the wait for other threads after the last one."""
        cdef double joining = omp_get_wtime() - self._mark
        self.tallies[OP_FORK].calls += 1
        self.tallies[OP_FORK].seconds += self._entered - start
        self.tallies[self._last].seconds += joining
        self.tallies[self._last].wait += joining

    cdef int team(self, int64_t work) noexcept nogil:
        """Number of threads for a call with `work` multiply-adds."""
        return team_size(self.n_threads) if work >= self.serial_below else 1

    cdef int reserve(self, int64_t tokens, int64_t columns, int64_t scratch_bytes, int64_t groups=1,
                     bint floats=False) except -1:
        """Make room for `tokens` rows of `columns`, as int8 with `groups` scales each, and as floats too if
        `floats`; and for scratch of every thread."""
        # A buffer and its address are stored together, after nothing can fail any more. A memoryview
        # gives the address without running Python code, so no signal can separate the two.
        cdef int64_t size = tokens * RZ_ACTIVATIONS_STRIDE(columns)
        cdef uint8_t[::1] memory
        if self._codes is None or self._codes.size < size:
            new = aligned_empty(size)
            memory = new
            self._codes, self.codes = new, <int8_t *>&memory[0]
        if self._scales is None or self._scales.size < 4 * tokens * groups:
            new = aligned_empty(4 * tokens * groups)
            memory = new
            self._scales, self.scales = new, <float *>&memory[0]
        if self._sums is None or self._sums.size < 4 * tokens * groups:
            new = aligned_empty(4 * tokens * groups)
            memory = new
            self._sums, self.sums = new, <int32_t *>&memory[0]
        size = 4 * tokens * columns if floats else 0
        if size and (self._floats is None or self._floats.size < size):
            new = aligned_empty(size)
            memory = new
            self._floats, self.floats = new, <float *>&memory[0]
        size = min(tokens, RZ_TABLES_TOKENS) * RZ_TABLES_BYTES(columns)
        if self._tables is None or self._tables.size < size:
            new = aligned_empty(size)  # costs no memory until something is written to it
            memory = new
            self._tables, self.tables = new, &memory[0]
        # one page more, so that threads share no cache lines and no prefetch streams
        scratch_bytes = (scratch_bytes + 4095) // 4096 * 4096 + 4096
        if self._scratch is None or self.scratch_stride < scratch_bytes:
            new = aligned_empty(scratch_bytes * self.n_threads)
            memory = new
            self._scratch, self.scratch, self.scratch_stride = new, &memory[0], scratch_bytes
        return 0

    cdef rz_activations activations(self, int64_t tokens, int64_t columns, int64_t groups) noexcept nogil:
        cdef rz_activations x
        x.codes = self.codes
        x.scales = self.scales
        x.sums = self.sums
        x.tables = self.tables if tokens <= RZ_TABLES_TOKENS else NULL
        x.stride = RZ_ACTIVATIONS_STRIDE(columns)
        x.n = tokens
        x.groups = groups
        return x

    cdef void *thread_scratch(self, int thread) noexcept nogil:
        return self.scratch + thread * self.scratch_stride
