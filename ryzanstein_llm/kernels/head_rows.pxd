from libc.stdint cimport int32_t, int64_t
from ryzanstein_llm.kernels.workspace cimport Workspace

cdef struct NamedRows:
    const void *matrix     # floats of `kind`
    int kind               # of packing.FLOAT_KINDS
    int64_t columns
    const float *x         # (n, columns), normalised
    const int32_t *ids
    float *logits
    const int64_t *ranges  # (tasks, 3): hidden state, where the ids of the task begin and end

cdef void named_rows_task(const void *data, Workspace workspace, int64_t task, int thread) noexcept nogil
