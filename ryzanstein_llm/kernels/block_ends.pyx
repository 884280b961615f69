# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What some models do after a product: activation of gates that stand alone, and a norm or a factor of
what a block adds to the residual stream. Other models have these inside the step of the product."""
from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport kernels
from ryzanstein_llm.kernels.steps cimport Step, step
from ryzanstein_llm.kernels.workspace cimport Workspace


cdef void activate_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Activated *job = <const Activated *>data
    cdef float *gate = job.gate + task * job.columns
    kernels().activate_gated[job.activation](gate, job.up + task * job.columns, job.columns, gate)


cdef Step activate_step(const Activated *job) noexcept nogil:
    """One task for each token."""
    return step(activate_task, job, job.n)


cdef void add_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil:
    cdef const Added *job = <const Added *>data
    cdef const float *x = job.x + task * job.columns
    cdef float *residual = job.residual + task * job.columns
    cdef float *normed = <float *>workspace.thread_scratch(thread)
    cdef int64_t i
    if job.norm != NULL:
        kernels().rms_norm(x, job.norm, job.eps, job.columns, normed)
        x = normed
    if job.multiplier == 1:
        for i in range(job.columns):
            residual[i] += x[i]
    else:
        for i in range(job.columns):
            residual[i] += job.multiplier * x[i]


cdef Step add_step(const Added *job) noexcept nogil:
    """One task for each token."""
    return step(add_task, job, job.n)


cdef int64_t add_scratch_bytes(const Added *job) noexcept nogil:
    return 4 * job.columns
