from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from ryzanstein_llm.kernels.cpu cimport rz_activations

cdef struct ThreadState:
    # The state of a thread in a call, and its counts over all calls. One cache line long.
    const void *sums_job  # the job whose sums are in the thread's scratch; see skipping.pyx
    int64_t rows_read
    int64_t rows_seen
    int64_t columns_read
    int64_t columns_seen
    int64_t shares[2]  # its tasks of the step that runs and of the next one, see team.h
    int64_t unused[1]

cdef enum:
    # The operation of a step, for profiles. workspace.OPERATIONS has the names.
    OP_OTHER
    OP_NORM_QUANTIZE
    OP_QKV
    OP_ROPE_APPEND
    OP_ATTENTION
    OP_COMBINE
    OP_O
    OP_GATE_UP
    OP_GATE
    OP_UP
    OP_DOWN
    OP_HEAD_NORM
    OP_HEAD_SCREEN
    OP_HEAD_RESCORE
    OP_HEAD
    OP_FORK
    OPERATION_COUNT

cdef struct Tally:
    # Sums of one operation, measured by the calling thread. `seconds` includes `wait`.
    int64_t calls
    double seconds
    double wait

cdef class Workspace:
    cdef readonly int n_threads
    cdef readonly int64_t serial_below
    cdef object _codes, _scales, _sums, _floats, _tables, _scratch, _states
    cdef int8_t *codes
    cdef float *scales
    cdef int32_t *sums
    cdef float *floats
    cdef uint8_t *tables
    cdef uint8_t *scratch
    cdef int64_t scratch_stride
    cdef ThreadState *states
    cdef readonly object cancel_flag
    cdef const int *cancel
    cdef public object screen_buffers
    cdef public double kernel_seconds
    cdef double _entered
    cdef public bint profiling
    cdef Tally tallies[OPERATION_COUNT]
    cdef int _last
    cdef double _mark
    cdef void begin(self) noexcept nogil
    cdef void enter(self, int thread) noexcept nogil
    cdef void leave(self, int thread) noexcept nogil
    cdef void tally(self, int operation, double worked) noexcept nogil
    cdef void tally_ends(self, double start) noexcept nogil
    cdef int team(self, int64_t work) noexcept nogil
    cdef int reserve(self, int64_t tokens, int64_t columns, int64_t scratch_bytes, int64_t groups=*,
                     bint floats=*) except -1
    cdef rz_activations activations(self, int64_t tokens, int64_t columns, int64_t groups) noexcept nogil
    cdef void *thread_scratch(self, int thread) noexcept nogil
