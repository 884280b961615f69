"""Aligned plain-text tables and numbers of a sensible length, for reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["aligned", "number", "plural"]


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Cells under each other: the first column to the left, the others to the right. Each line is
    indented by two spaces and ends in a newline."""
    table = [list(line) for line in lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    text = ""
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        text += f"  {'  '.join(cells)}".rstrip() + "\n"
    return text


def number(value: float, digits: int | None = None) -> str:
    """Fixed digits, or about four in all."""
    if digits is None:
        digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:.{digits}f}"


def plural(count: int, noun: str) -> str:
    """As "1 token", "2 tokens"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
