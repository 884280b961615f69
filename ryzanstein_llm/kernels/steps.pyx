# cython: language_level=3, boundscheck=False, wraparound=False
"""The only parallel region of compute calls: many steps in one fork and join.

A step is a function and a number of tasks, which may run in any order and on any thread. The
next step begins when all of them are done.
"""
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t
from openmp cimport omp_get_num_threads, omp_get_wtime
from ryzanstein_llm.kernels.cpu cimport rz_float_mode_enter, rz_float_mode_leave
from ryzanstein_llm.kernels.workspace cimport OP_OTHER, Workspace

cdef extern from "ryzanstein/team.h" nogil:
    ctypedef struct rz_barrier:
        pass
    void rz_barrier_init(rz_barrier *)
    void rz_barrier_wait(rz_barrier *, int)
    int64_t rz_next_task(int64_t *)


cdef Step step(task_function run, const void *job, int64_t tasks) noexcept nogil:
    """A step that calls run(job, ...) `tasks` times."""
    cdef Step result
    result.run = run
    result.job = job
    result.tasks = tasks
    result.next = 0
    result.operation = OP_OTHER
    return result


cdef Step as_operation(int operation, Step step) noexcept nogil:
    """The same step, counted as an operation in profiles."""
    step.operation = operation
    return step


cdef void run_all(Step *steps, int count, Workspace space, rz_barrier *barrier) noexcept nogil:
    """One thread's share of all steps."""
    cdef int s, thread = threadid(), threads = omp_get_num_threads()
    cdef int64_t task
    cdef bint profiled = thread == 0 and space.profiling
    cdef double worked = 0
    for s in range(count):
        if steps[s].tasks == 0:
            continue  # all threads skip it, so no barrier is needed
        task = rz_next_task(&steps[s].next)
        while task < steps[s].tasks:
            if not space.cancel[0]:
                steps[s].run(steps[s].job, space, task, thread)
            task = rz_next_task(&steps[s].next)
        if profiled:
            worked = omp_get_wtime()
        if s + 1 < count:
            rz_barrier_wait(barrier, threads)
        if profiled:
            space.tally(steps[s].operation, worked)


cdef void run_steps(Step *steps, int count, Workspace space, int64_t work) noexcept:
    """Runs steps in order, without the GIL, in the default floating-point environment.

    `work`, in multiply-adds, decides whether several threads are worth starting. Once the cancel
    flag is set, tasks that have not begun do nothing.
    """
    cdef int threads = space.team(work)
    cdef unsigned int mode = 0
    cdef double begun = omp_get_wtime() if space.profiling else 0
    cdef rz_barrier barrier
    rz_barrier_init(&barrier)
    space.begin()
    with nogil, parallel(num_threads=threads):
        space.enter(threadid())
        mode = rz_float_mode_enter()
        run_all(steps, count, space, &barrier)
        rz_float_mode_leave(mode)
        space.leave(threadid())
    if space.profiling:
        space.tally_ends(begun)
