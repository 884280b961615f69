# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How fast this machine reads memory and multiplies, with the tier in use: the yardstick of benchmarks."""
import time

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t, uint8_t, uint64_t
from ryzanstein_llm.kernels.cpu cimport kernels, rz_kernels
from ryzanstein_llm.kernels.threads cimport team_size

cdef enum:
    SLICE = 1 << 20  # bytes that a thread reads at a time


def read_seconds(const uint8_t[::1] memory, int n_threads):
    """Seconds that `n_threads` threads take to read an array once, in order.

    Parameters
    ----------
    memory : uint8 array, 64-byte aligned, of a multiple of 1 MiB
    n_threads : int

    Raises
    ------
    ValueError
        If the array is empty, has another size, or is not aligned.
    """
    cdef const rz_kernels *kernel = kernels()
    cdef int64_t slices = memory.shape[0] // SLICE, i
    cdef int threads = team_size(n_threads)
    cdef uint64_t total = 0
    cdef const uint8_t *start
    if memory.shape[0] == 0 or memory.shape[0] % SLICE or <size_t>&memory[0] % 64:
        raise ValueError(f"an array of {memory.shape[0]} bytes is empty, not a multiple of {SLICE} bytes, or not "
                         "64-byte aligned")
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
    """Run `rounds` rounds of multiply-adds of int8 on each of `n_threads` threads. Returns (seconds, number of
    multiply-adds)."""
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
