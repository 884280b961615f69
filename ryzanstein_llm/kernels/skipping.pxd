from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.linear cimport Gated, Projections
from ryzanstein_llm.kernels.steps cimport Step

cdef bint can_skip_rows(const Gated *job) noexcept nogil
cdef int64_t rows_scratch_bytes(const Gated *job, int threads) noexcept nogil
cdef void rows_skipping_steps(const Gated *job, int threads, Step *steps) noexcept nogil

cdef bint can_skip_columns(const Projections *job) noexcept nogil
cdef int64_t columns_scratch_bytes(const Projections *job, int threads) noexcept nogil
cdef void columns_skipping_steps(const Projections *job, int threads, Step *steps) noexcept nogil
