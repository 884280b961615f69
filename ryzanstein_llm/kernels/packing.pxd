from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport rz_ternary

cdef int describe_matrix(rz_ternary *matrix, codes, int64_t rows, int64_t columns, layout) except -1
