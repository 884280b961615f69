"""Where a thread waits for another."""

from __future__ import annotations

import threading

__all__ = ["Gate"]

PATIENCE = 0.25
"""Seconds after which a waiting thread looks for itself: a thread that was interrupted at the
wrong moment may have failed to wake it."""


class Gate:
    """Where one thread waits until another opens it; it closes behind the thread.

    A plain lock and no `threading.Event`, whose own lock Ctrl-C could leave held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """Until it is opened, or for PATIENCE."""
        self._lock.acquire(timeout=PATIENCE)

    def open(self) -> None:
        """Let the thread through that waits, or the next one that will."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread was quicker
                return
