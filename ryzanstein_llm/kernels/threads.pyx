# cython: language_level=3
"""How many OpenMP threads a parallel region may have, and when its workers end.

libgomp keeps a team of workers for each calling thread. fork does not copy these workers, so the
first parallel region of a forked child would wait for them for ever.
"""
import logging
import os

from libc.stdint cimport int64_t
from cpython.pythread cimport PyThread_get_thread_ident
from cython.parallel cimport parallel, prange

from ryzanstein_llm.kernels.stack_size import stack_size

log = logging.getLogger("ryzanstein_llm.kernels.threads")

cdef extern from *:
    """
    #include <omp.h>
    #ifdef _WIN32
    #include <process.h>
    #define rz_process_id() ((long long)_getpid())
    #else
    #include <unistd.h>
    #define rz_process_id() ((long long)getpid())
    #endif
    #if _OPENMP >= 201811 || (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9)
    #define rz_release_team() ((void)omp_pause_resource_all(omp_pause_soft))
    #else
    #define rz_release_team() ((void)0)
    #endif
    #ifdef _MSC_VER
    static __declspec(thread) int rz_team_of_this_thread = 1;
    #else
    static __thread int rz_team_of_this_thread = 1;
    #endif
    """
    int rz_team_of_this_thread  # threads of the team that libgomp keeps for the calling thread
    long long rz_process_id() nogil
    void rz_release_team() nogil

cdef extern from "ryzanstein/spare_threads.h" nogil:
    int rz_spare_threads(int, size_t)

# Of each worker, as OMP_STACKSIZE said when libgomp was loaded; 0: the default of the system.
cdef size_t _stack_bytes = stack_size(os.environ.get("OMP_STACKSIZE") or os.environ.get("GOMP_STACKSIZE"))

# What the last warning said, so that not each of hundreds of matrices says it again while a model is loaded.
cdef int _warned_of = 0

# The process that first started a team; 0 before that.
cdef long long _team_process = 0


cdef int team_size(int wanted) noexcept nogil:
    """`wanted`; fewer if the system refuses so many threads, with a warning; 1 in a child that was forked after
    its parent had started a team."""
    global _team_process, rz_team_of_this_thread
    if wanted <= 1:
        return 1
    if _team_process == 0:
        _team_process = rz_process_id()
    if _team_process != rz_process_id():
        return 1
    rz_team_of_this_thread = granted(wanted)
    return rz_team_of_this_thread


cdef int granted(int wanted) noexcept nogil:
    """How many threads a team of the calling thread can have now, at most `wanted`."""
    cdef int more = wanted - rz_team_of_this_thread
    cdef int spare
    if more <= 0:
        return wanted
    spare = rz_spare_threads(more, _stack_bytes)
    if spare < more:
        # not all, because the rest of the program needs room too
        wanted = rz_team_of_this_thread + spare // 2
        with gil:
            warn_of_refusal(wanted)
    return wanted


cdef void warn_of_refusal(int taken) noexcept:
    global _warned_of
    if taken == _warned_of:
        return
    _warned_of = taken
    log.warning("the system refuses to start more threads (a limit of processes or memory?); going on with %d", taken)


def possible_team(int wanted):
    """The number of threads, at most `wanted`, that the system would start for a team now. Starts none."""
    return 1 if is_serial_after_fork() else granted(wanted)


def is_serial_after_fork():
    """Whether this process was forked from a process that had computed in parallel."""
    return _team_process != 0 and _team_process != rz_process_id()


def release_team():
    """End the OpenMP workers of the calling thread. Its next parallel region starts new ones."""
    global rz_team_of_this_thread
    if not is_serial_after_fork():
        with nogil:
            rz_release_team()
            rz_team_of_this_thread = 1


cdef class Turn:
    """Which thread computes. `with turn as mine:` never waits, and `mine` says whether this thread got the
    turn. It gives the turn back at the end of the block.

    It is compiled, so that no signal comes between taking the turn and the body of the `with`: after Ctrl-C
    the turn is always given back.
    """
    cdef long long _owner  # the thread; 0: none
    cdef int _depth

    def __enter__(self):
        cdef long long thread = PyThread_get_thread_ident()
        if self._owner == 0:
            self._owner, self._depth = thread, 1
            return True
        if self._owner == thread:
            self._depth += 1
        return False

    def __exit__(self, *error):
        if self._owner == <long long>PyThread_get_thread_ident():
            self._depth -= 1
            if self._depth == 0:
                self._owner = 0

    @property
    def taken(self):
        """Whether a thread has the turn."""
        return self._owner != 0

    @property
    def mine(self):
        """Whether the calling thread has the turn."""
        return self._owner == <long long>PyThread_get_thread_ident()


def measure_team(int n_threads):
    """Number of threads that run a region which asks for `n_threads`. For tests."""
    cdef int64_t _i
    cdef int n = team_size(n_threads)
    cdef int64_t members = 0
    with nogil, parallel(num_threads=n):
        for _i in prange(n, schedule="static", chunksize=1):
            members += 1
    return members
