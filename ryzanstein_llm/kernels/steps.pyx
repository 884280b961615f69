# cython: language_level=3, boundscheck=False, wraparound=False
"""The only parallel region of compute calls: many steps in one fork and join.

A step is a function and a number of tasks, which may run in any order and on any thread. The
next step begins when all of them are done. Each thread has a share of neighbouring tasks, and takes
tasks from the shares of others when it has finished (team.h).
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
    void rz_share_set(int64_t *, int64_t, int64_t)
    int64_t rz_share_first(int64_t *)
    int64_t rz_share_last(int64_t *)


cdef Step step(task_function run, const void *job, int64_t tasks) noexcept nogil:
    """A step that calls run(job, ...) `tasks` times."""
    cdef Step result
    result.run = run
    result.job = job
    result.tasks = tasks
    result.operation = OP_OTHER
    return result


cdef Step as_operation(int operation, Step step) noexcept nogil:
    """The same step, counted as an operation in profiles."""
    step.operation = operation
    return step


cdef int next_step(const Step *steps, int s, int count) noexcept nogil:
    """The first step from `s` on that has tasks; `count` if none has."""
    while s < count and steps[s].tasks == 0:
        s += 1
    return s


cdef void set_share(Workspace workspace, int turn, int64_t tasks, int thread, int threads) noexcept nogil:
    rz_share_set(&workspace.states[thread].shares[turn], tasks * thread // threads, tasks * (thread + 1) // threads)


cdef int64_t next_task(Workspace workspace, int turn, int thread, int threads) noexcept nogil:
    """A task of the step that no thread has taken yet; -1 if there is none."""
    cdef int64_t task = rz_share_first(&workspace.states[thread].shares[turn])
    cdef int other = 1
    while task < 0 and other < threads:
        task = rz_share_last(&workspace.states[(thread + other) % threads].shares[turn])
        other += 1
    return task


cdef void run_all(Step *steps, int count, Workspace workspace, rz_barrier *barrier) noexcept nogil:
    """One thread's part of all steps. Shares of two steps exist at a time: each thread sets its share of
    the next step before the barrier, so all of them are there when the step begins."""
    cdef int thread = threadid(), threads = omp_get_num_threads(), turn = 0
    cdef int s = next_step(steps, 0, count), after
    cdef int64_t task
    cdef bint profiled = thread == 0 and workspace.profiling
    cdef double worked = 0
    if s == count:
        return
    set_share(workspace, 0, steps[s].tasks, thread, threads)
    rz_barrier_wait(barrier, threads)
    while s < count:
        task = next_task(workspace, turn, thread, threads)
        while task >= 0:
            if not workspace.cancel[0]:
                steps[s].run(steps[s].job, workspace, task, thread)
            task = next_task(workspace, turn, thread, threads)
        if profiled:
            worked = omp_get_wtime()
        after = next_step(steps, s + 1, count)
        turn = 1 - turn
        if after < count:
            set_share(workspace, turn, steps[after].tasks, thread, threads)
            rz_barrier_wait(barrier, threads)
        if profiled:
            workspace.tally(steps[s].operation, worked)
        s = after


cdef void run_steps(Step *steps, int count, Workspace workspace, int64_t work) noexcept:
    """Runs steps in order, without the GIL, in the default floating-point environment.

    `work`, in multiply-adds, decides whether several threads are worth starting. Once the cancel
    flag is set, tasks that have not started do nothing.
    """
    cdef int threads = workspace.team(work)
    cdef unsigned int mode = 0
    cdef double started = omp_get_wtime() if workspace.profiling else 0
    cdef rz_barrier barrier
    rz_barrier_init(&barrier)
    workspace.begin()
    with nogil, parallel(num_threads=threads):
        workspace.enter(threadid())
        mode = rz_float_mode_enter()
        run_all(steps, count, workspace, &barrier)
        rz_float_mode_leave(mode)
        workspace.leave(threadid())
    if workspace.profiling:
        workspace.tally_ends(started)
