# cython: language_level=3, boundscheck=False, wraparound=False
"""The one parallel region of the compute calls: several steps for one fork and join.

A step is a function and a number of tasks that may run in any order, on any thread; the
next step begins when all are done.
"""
from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_float_mode_enter, rz_float_mode_leave
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef extern from *:
    """
    #ifdef _MSC_VER
    #define rz_barrier() __pragma(omp barrier)
    #else
    #define rz_barrier() _Pragma("omp barrier")
    #endif
    """
    void rz_barrier() nogil


cdef Step step(task_function run, const void *job, int64_t tasks) noexcept nogil:
    """A step of `tasks` calls run(job, ...)."""
    cdef Step result
    result.run = run
    result.job = job
    result.tasks = tasks
    return result


cdef void run_steps(const Step *steps, int count, Workspace space, int64_t work) noexcept:
    """Runs steps in order, without the GIL, in the default floating-point environment.

    `work` in multiply-adds decides whether a team is worth it. A set cancel flag turns the
    tasks that have not begun into nothing.
    """
    cdef int threads = space.team(work), s = 0
    cdef int64_t i
    cdef unsigned int mode = 0
    with nogil, parallel(num_threads=threads):
        space.enter(threadid())
        mode = rz_float_mode_enter()
        s = 0  # each thread has its own
        while s < count:
            for i in prange(steps[s].tasks, schedule="dynamic"):
                if not space.cancel[0]:
                    steps[s].run(steps[s].job, space, i, threadid())
            rz_barrier()  # Cython makes a prange of a parallel block `nowait`
            s = s + 1
        rz_float_mode_leave(mode)
        space.leave(threadid())
