"""Aligned plain-text tables and numbers of a sensible length, for reports that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["WIDTH", "aligned", "aligned_parts", "fields", "number", "plural"]

WIDTH = 80
"""Columns of a terminal, which reports keep to where values allow."""

INDENT, GAP = "  ", "  "


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Cells under each other: the first column to the left, the others to the right. Each line is
    indented by two spaces and ends in a newline."""
    table = [list(line) for line in lines]
    widths = _widths(table)
    text = ""
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        text += f"{INDENT}{GAP.join(cells)}".rstrip() + "\n"
    return text


def aligned_parts(lines: Iterable[Sequence[str]], keys: int, width: int = WIDTH) -> str:
    """As `aligned`; where that is wider than `width`, several tables with an empty line between
    them, each with as many of the columns as fit.

    Parameters
    ----------
    keys : int
        Columns at the left that say what a line is about, and so stand in each table.
    """
    table = [list(line) for line in lines]
    widths = [len(GAP) + cells for cells in _widths(table)]
    parts: list[list[int]] = [[]]
    room = left = width - sum(widths[:keys])
    for column, needed in enumerate(widths[keys:], keys):
        if needed > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= needed
    return "\n".join(
        aligned([*line[:keys], *(line[column] for column in part)] for line in table)
        for part in parts
    )


def fields(facts: Mapping[str, str], names: int, *, indent: int = 0, width: int = WIDTH) -> str:
    """A line for each name and its value; values wrap at blanks, and go on under themselves.

    Parameters
    ----------
    names : int
        Columns for the names; a blank follows.
    """
    text = ""
    for name, value in facts.items():
        begin = f"{' ' * indent}{name:<{names}} "
        wrapped = textwrap.wrap(
            value,
            width,
            initial_indent=begin,
            subsequent_indent=" " * len(begin),
            break_long_words=False,
            break_on_hyphens=False,
        )
        text += "\n".join(wrapped or [begin.rstrip()]) + "\n"
    return text


def number(value: float, digits: int | None = None) -> str:
    """Fixed digits, or about four in all."""
    if digits is None:
        digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:.{digits}f}"


def plural(count: int, noun: str) -> str:
    """As "1 token", "2 tokens"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]
