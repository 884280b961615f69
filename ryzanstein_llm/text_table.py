"""Reports of tables, facts and texts, as plain text; numbers of a sensible length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Block", "Table", "aligned", "as_text", "beginning", "number", "plural"]


@dataclass(frozen=True)
class Table:
    """A table under its title. The first line has the names of the columns."""

    title: str
    lines: Sequence[Sequence[str]]


Block = Table | Mapping[str, str] | str
"""A part of a report: a table, facts by name, or a text."""


def as_text(blocks: Iterable[Block]) -> str:
    """The parts with an empty line between them; lines end in a newline."""
    return "\n".join(_part(block) for block in blocks)


def _part(block: Block) -> str:
    if isinstance(block, Table):
        return f"{block.title}\n{aligned(block.lines)}"
    if isinstance(block, str):
        return f"{block}\n"
    return "".join(f"{name:<14} {value}\n" for name, value in block.items())


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


def beginning(text: str, length: int = 60) -> str:
    """Its `repr`, with dots after so many characters: `'Once upon a time'...`."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}..."


def plural(count: int, noun: str) -> str:
    """As "1 token", "2 tokens"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
