"""Gate: where one thread waits for another."""

from __future__ import annotations

import threading

__all__ = ["Gate"]

PATIENCE = 0.25
"""Seconds after which a waiting thread checks by itself, because a thread that was interrupted at
the wrong moment may have failed to wake it."""


class Gate:
    """One thread waits until another opens the gate. It closes again when the thread has passed.

    It is a plain lock. A `threading.Event` has a lock of its own, which Ctrl-C could leave held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """Wait until it is opened, but at most for PATIENCE."""
        self._lock.acquire(timeout=PATIENCE)

    def open(self) -> None:
        """Let the waiting thread pass, or the next thread that waits."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread has opened it at the same moment
                return
