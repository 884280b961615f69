from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.workspace cimport Workspace

ctypedef void (*task_function)(const void *job, Workspace workspace, int64_t task, int thread) noexcept nogil

cdef struct Step:
    task_function run
    const void *job
    int64_t tasks  # at most RZ_MAX_TASKS of team.h
    int operation  # one of workspace.pxd; OP_OTHER unless `as_operation` has set another

cdef Step step(task_function run, const void *job, int64_t tasks) noexcept nogil
cdef Step as_operation(int operation, Step step) noexcept nogil
cdef void run_steps(Step *steps, int count, Workspace workspace, int64_t work) noexcept
