"""One process packs a checkpoint at a time; the others wait for the file it writes.

Nothing depends on it but time and memory: without locks each process packs for itself, and the
last file to be written stays.
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
    """Hold the lock file `path`; it is made where needed, and so is its directory.

    Yields False if another process still holds it after `patience` seconds. Where locks do not
    work (Windows, some network file systems, a read-only directory), yields True at once.
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
            # Unlocked, not only closed: a child forked meanwhile has the same open file.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _acquire(path: Path, deadline: float) -> tuple[int, bool]:
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            held = _try_until(descriptor, deadline)
            # Deleted between opening and locking: then the lock is on nothing anybody else sees.
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
