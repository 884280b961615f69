"""What must hold for one input."""

from __future__ import annotations

import pickle
import resource
import signal
import time
from collections.abc import Callable
from types import FrameType

from ryzanstein_llm.errors import RyzansteinError

__all__ = ["FindingError", "check"]

SECONDS = 5.0  # of CPU for one input
MEMORY = 512 << 10  # KiB that one input may add to the peak


class FindingError(Exception):
    """An input that does what none may do. `__cause__` is the exception, if there was one."""


class _HangError(BaseException):
    """Not an Exception, so that nobody takes it for an error of a library."""


def check(read: Callable[[bytes], object], data: bytes) -> str:
    """Run a reader on one input.

    Returns
    -------
    str
        "accepted", or the name of the error.

    Raises
    ------
    FindingError
    """
    former = signal.signal(signal.SIGVTALRM, _stop)
    peak, begin = _peak(), time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)
    try:
        read(data)
        outcome = "accepted"
    except RyzansteinError as error:
        outcome = type(error).__name__
        _check_pickled(error)
    except _HangError as error:
        raise FindingError(f"takes more than {2 * SECONDS} seconds of CPU") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        raise FindingError(f"raises {type(error).__name__}: {str(error)[:300]}") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)
    used = time.process_time() - begin
    if used > SECONDS:
        raise FindingError(f"takes {used:.1f} seconds of CPU")
    if _peak() - peak > MEMORY:
        raise FindingError(f"takes {(_peak() - peak) >> 10} MiB of memory")
    return outcome


def _check_pickled(error: RyzansteinError) -> None:
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception as problem:
        raise FindingError(f"{type(error).__name__} cannot be pickled") from problem
    if type(copied) is not type(error) or str(copied) != str(error):
        raise FindingError(f"{error!r} becomes {copied!r} when it is pickled")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _stop(number: int, frame: FrameType | None) -> None:
    raise _HangError
