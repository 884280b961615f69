"""The limits: streaming reads from memory, and int8 multiply-adds in registers."""

from __future__ import annotations

from ..kernels.limits import multiply_seconds, read_seconds
from ..models.arena import Arena
from ..profiling import Limits
from ..validation import check_float, check_int
from .cases import Measured
from .measured_engine import MeasuredEngine

__all__ = ["MultiplyLimit", "ReadLimit", "measure_limits"]


def measure_limits(n_threads: int, *, read_bytes: int = 512 << 20, seconds: float = 0.15) -> Limits:
    """Measure both limits of this machine now, with the tier in use.

    Parameters
    ----------
    n_threads : int in 1..1024
    read_bytes : int in 2 ** 20..2 ** 40, a multiple of 4096
        Size of the array that is read. It must be far larger than the CPU's caches; otherwise their
        speed is measured.
    seconds : float in (0, 3600]
        About how long each limit is measured.

    Raises
    ------
    InvalidParameterError
        If an argument is out of range.
    """
    check_int("n_threads", n_threads, 1, 1024)
    check_int("read_bytes", read_bytes, 1 << 20, 1 << 40)
    check_float("seconds", seconds, 0, 3600, above_low=True)
    read = ReadLimit(read_bytes, seconds).measure(None, n_threads)
    multiply = MultiplyLimit(seconds).measure(None, n_threads)
    return Limits(read.amount / read.seconds, multiply.amount / multiply.seconds)


class ReadLimit:
    """Reads a large array in order; `amount` is bytes."""

    name, kind, size = "read", "read", 0

    def __init__(self, nbytes: int, seconds: float) -> None:
        self._memory = Arena().allocate(nbytes)  # on huge pages, like weights
        # unwritten pages would all be the same page of zeros, which fits into a cache
        self._memory.fill(1)
        self._seconds = seconds

    def measure(self, engine: MeasuredEngine | None, n_threads: int) -> Measured:
        once = read_seconds(self._memory, n_threads)  # not counted: wakes the threads
        times = max(1, round(self._seconds / once))
        total = sum(read_seconds(self._memory, n_threads) for _ in range(times))
        return Measured(total, times * self._memory.nbytes)


class MultiplyLimit:
    """Multiplies and adds without touching memory; `amount` is int8 multiply-adds."""

    name, kind, size = "multiply", "multiply", 0

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def measure(self, engine: MeasuredEngine | None, n_threads: int) -> Measured:
        rounds = 1000
        # on one thread, because on a busy machine threads mostly wait for each other at first
        while (once := multiply_seconds(rounds, 1)[0]) < 0.1 * self._seconds:
            rounds *= 2
        multiply_seconds(rounds, n_threads)  # not counted: wakes the threads
        return Measured(*multiply_seconds(int(rounds * self._seconds / once) + 1, n_threads))
