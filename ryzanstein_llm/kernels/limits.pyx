# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The limits of the machine, measured with the tier in use, for comparison in benchmarks."""
import time

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t, uint8_t, uint64_t
from ryzanstein_llm.kernels.cpu cimport kernels, rz_kernels
from ryzanstein_llm.kernels.threads cimport team_size

cdef enum:
    SLICE = 1 << 20  # bytes that a thread reads before it takes the next slice


def read_seconds(const uint8_t[::1] memory, int n_threads):
    """Seconds that `n_threads` threads take to read an array once, in order. Its size is a multiple of 1 MiB."""
    cdef const rz_kernels *kernel = kernels()
    cdef int64_t slices = memory.shape[0] // SLICE, i
    cdef int threads = team_size(n_threads)
    cdef uint64_t total = 0
    cdef const uint8_t *start
    if memory.shape[0] == 0 or memory.shape[0] % SLICE or <size_t>&memory[0] % 64:
        raise ValueError(f"{memory.shape[0]} bytes: not a multiple of {SLICE}, or not 64-byte aligned")
    start = &memory[0]
    begin = time.perf_counter()
    with nogil, parallel(num_threads=threads):
        for i in prange(slices, schedule="static"):
            total ^= kernel.read_stream(start + i * SLICE, SLICE)
    seconds = time.perf_counter() - begin
    global _sink
    _sink = total  # so that the compiler cannot leave out any read
    return seconds


def multiply_seconds(int64_t rounds, int n_threads):
    """(seconds, int8 multiply-adds) of `rounds` rounds on each of `n_threads` threads."""
    cdef const rz_kernels *kernel = kernels()
    cdef int threads = team_size(n_threads)
    cdef int64_t _i, total = 0
    begin = time.perf_counter()
    with nogil, parallel(num_threads=threads):
        for _i in prange(threads, schedule="static", chunksize=1):
            total += kernel.multiply_peak(rounds)
    seconds = time.perf_counter() - begin
    global _sink
    _sink = total
    return seconds, rounds * kernel.peak_products * threads


_sink = 0
