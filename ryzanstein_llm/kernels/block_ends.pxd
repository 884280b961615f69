from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.steps cimport Step

cdef struct Activated:
    # gate = activation(gate) * up, for gates and ups that were computed apart
    float *gate      # (n, columns)
    const float *up  # (n, columns)
    int64_t n
    int64_t columns
    int activation

cdef struct Added:
    # residual += multiplier * norm(x)
    const float *x    # (n, columns)
    float *residual   # (n, columns)
    int64_t n
    int64_t columns
    const float *norm  # (columns,); NULL: no norm
    float eps
    float multiplier

cdef Step activate_step(const Activated *job) noexcept nogil
cdef Step add_step(const Added *job) noexcept nogil
cdef int64_t add_scratch_bytes(const Added *job) noexcept nogil
