"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown", "times"]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; "" without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines])


def times(value: float, digits: int = 2) -> str:
    """As "2.00 x", with the right sign."""
    return f"{value:.{digits}f} \N{MULTIPLICATION SIGN}"
