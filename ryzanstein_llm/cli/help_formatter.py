"""Help as wide as the terminal, down to `LEAST_COLUMNS`; click's own is never narrower than 50."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import click

__all__ = ["HelpContext"]

MOST_COLUMNS, LEAST_COLUMNS = 80, 40
MARGIN = 2  # at the right, as click leaves it
LEAST_TEXT = 24  # columns for explanations beside the names


class HelpFormatter(click.HelpFormatter):
    """In a narrow terminal, explanations stand below the names."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        columns = min(shutil.get_terminal_size().columns, max_width or MOST_COLUMNS)
        super().__init__(indent_increment, width or max(columns, LEAST_COLUMNS) - MARGIN)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        rows = list(rows)
        names_width = min(max(len(names) for names, _ in rows), col_max) + col_spacing
        if self.width - self.current_indent - names_width >= LEAST_TEXT:
            super().write_dl(rows, col_max, col_spacing)
            return
        for names, text in rows:
            self.write(f"{'':>{self.current_indent}}{names.rstrip()}\n")
            if text:
                with self.indentation(), self.indentation():
                    self.write_text(text)


class HelpContext(click.Context):
    """The context of all commands."""

    formatter_class = HelpFormatter
