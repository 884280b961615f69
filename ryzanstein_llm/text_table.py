"""Reports of tables, facts and texts as plain text that fits a terminal, and numbers with a
sensible number of digits."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "WIDTH",
    "Block",
    "Table",
    "aligned",
    "aligned_parts",
    "as_text",
    "beginning",
    "fields",
    "format_bytes",
    "number",
    "plural",
]

WIDTH = 80
"""Columns of a terminal. Reports are no wider, unless a single value is."""

INDENT, GAP = "  ", "  "

NAMES = 14
"""Columns for the names of facts in a report."""


@dataclass(frozen=True)
class Table:
    """A table under its title (none if empty).

    Attributes
    ----------
    lines : sequence of sequences of str
        The first has the names of the columns.
    keys : int
        Columns at the left that say what a line is about.
    """

    title: str
    lines: Sequence[Sequence[str]]
    keys: int = 1


Block = Table | Mapping[str, str] | str
"""A part of a report: a table, facts by name, or a text."""


def as_text(blocks: Iterable[Block], width: int = WIDTH) -> str:
    """The parts with an empty line between them, no wider than `width` unless a single value is.
    Each line ends in a newline."""
    return "\n".join(_part(block, width) for block in blocks)


def _part(block: Block, width: int) -> str:
    if isinstance(block, Table):
        title = f"{block.title}\n" if block.title else ""
        return title + aligned_parts(block.lines, block.keys, width)
    if isinstance(block, str):
        return "".join(f"{_wrapped(line, width)}\n" for line in block.split("\n"))
    return fields(block, NAMES, width=width)


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """A table whose first column is aligned to the left and the others to the right. Each line is
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
    """Like `aligned`. If that is wider than `width`: several tables with an empty line between
    them, each with as many columns as fit.

    Parameters
    ----------
    keys : int
        Columns at the left that say what a line is about. Each table has them.
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
    """A line for each name and its value. Values wrap at blanks, and each of their lines begins in
    the same column.

    Parameters
    ----------
    names : int
        Width of the column of names; a blank follows.
    """
    text = ""
    for name, value in facts.items():
        begin = f"{' ' * indent}{name:<{names}} "
        text += (_wrapped(value, width, begin) or begin.rstrip()) + "\n"
    return text


def _wrapped(text: str, width: int, begin: str = "") -> str:
    """A text after `begin`, broken at blanks only. All its lines begin in the same column."""
    return textwrap.fill(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def number(value: float, digits: int | None = None) -> str:
    """A number with `digits` decimals, or with about four digits in all."""
    if digits is None:
        digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:.{digits}f}"


def beginning(text: str, length: int = 60) -> str:
    """The `repr` of a text, cut off after `length` characters: `'Once upon a time'...`."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}..."


def plural(count: int, noun: str) -> str:
    """Such as "1 token" and "2 tokens"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def format_bytes(count: int) -> str:
    """Decimal units: `5 B`, `1.5 kB`, `3.3 MB`."""
    size, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    unit = units.pop()
    while size >= 999.5 and units:
        size /= 1000
        unit = units.pop()
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
