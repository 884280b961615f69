"""One process packs a checkpoint at a time, and the others wait for the file that it writes.

The lock only saves time and memory. Without it, each process packs for itself, and the file that
is written last stays.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["exclusive"]

INTERVAL = 0.02  # seconds between two tries


@contextlib.contextmanager
def exclusive(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock file `path`. The file and its directory are made if needed.

    Yields False if another process still holds it after `patience` seconds. If locks do not work
    (Windows, some network file systems, a read-only directory), yields True at once.
    """
    descriptor = -1
    try:
        held = True
        if fcntl is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor, held = _acquire(path, time.monotonic() + patience)
        yield held
    finally:
        if descriptor >= 0:
            # Closing is not enough: a child forked in the meantime has the same open file.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _acquire(path: Path, deadline: float) -> tuple[int, bool]:
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            held = _try_until(descriptor, deadline)
            # If it was deleted between opening and locking, no other process sees this lock: retry.
            if not held or os.fstat(descriptor).st_nlink:
                return descriptor, held
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_until(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(INTERVAL)
