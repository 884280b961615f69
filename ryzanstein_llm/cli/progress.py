"""A progress bar on a terminal's standard error."""

from __future__ import annotations

import os
import time
from typing import TextIO

from .console import terminal_columns

__all__ = ["ProgressBar"]

PATIENCE = 0.3
"""Seconds before the bar appears; shorter work has none."""

INTERVAL = 0.05
"""Seconds between two drawings, at least."""


class ProgressBar:
    """A bar that `update` draws and `close` erases.

    Draws nothing if `stream` is not a terminal, if the terminal cannot erase (TERM=dumb), or if
    everything is done within `PATIENCE`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + PATIENCE
        self._drawn = False

    def update(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps, in any unit; `what` says what is being done."""
        now = time.monotonic()
        if not self._terminal or now < self._next:
            return
        self._next = now + INTERVAL
        self._drawn = True
        width = terminal_columns(self._stream) - 1
        self._stream.write("\r" + render(done, total, what, width) + "\x1b[K")
        self._stream.flush()

    def close(self) -> None:
        """Erase the bar."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def render(done: int, total: int, what: str, width: int) -> str:
    """One line of at most `width` characters: `[#####.....]  50% what`."""
    fraction = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
    length = max(10, min(40, width // 2))
    filled = int(fraction * length)
    return f"[{'#' * filled}{'.' * (length - filled)}] {fraction:4.0%} {what}"[: max(0, width)]
