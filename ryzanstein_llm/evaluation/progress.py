"""Progress of work that is done in parts."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["TOGETHER", "Progress", "part_of"]

TOGETHER = 256
"""Prompts of one call of the library. Results are reported after each call."""

Progress = Callable[[int, int, str], None]


def part_of(progress: Progress | None, start: int, total: int, what: str) -> Progress | None:
    """For a part that begins when `start` of `total` are done: a callable that reports the
    whole."""
    if progress is None:
        return None
    return lambda done, _, __: progress(start + done, total, what)
