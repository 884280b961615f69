from libc.stdint cimport int32_t, int64_t
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef struct NamedRows:
    const void *matrix     # floats of this kind
    int kind
    int64_t columns
    const float *x         # (n, columns), normalised
    const int32_t *ids
    float *logits
    const int64_t *shares  # (tasks, 3): hidden state, where its ids begin and end

cdef void named_rows_task(const void *data, Workspace space, int64_t task, int thread) noexcept nogil
