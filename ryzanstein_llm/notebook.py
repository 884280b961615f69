"""What notebooks show: reports as HTML, and text that grows in place.

Colours and fonts are those of the page, so that dark and light notebooks are both readable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape

from .errors import NotebookError
from .text_table import Block, Table

__all__ = ["as_html", "show_growing"]

INTERVAL = 1 / 15
"""Seconds between two updates of a text, at least."""


def as_html(title: str, *blocks: Block) -> str:
    """A title (left out if empty) and the parts of a report under it. All texts are escaped."""
    heading = [f"<div><b>{escape(title)}</b></div>"] if title else []
    parts = "".join([*heading, *map(_part, blocks)])
    return f'<div style="overflow-x:auto">{parts}</div>'


def _part(block: Block) -> str:
    if isinstance(block, str):
        style = "white-space:pre-wrap;overflow-wrap:anywhere"
        return f'<div style="{style}">{escape(block)}</div>'
    if isinstance(block, Table):
        header, *lines = block.lines
        rows = _row("th", header) + "".join(_row("td", line) for line in lines)
        title = f"<div>{escape(block.title)}</div>" if block.title else ""
        return title + _table(rows)
    return _table("".join(_row("td", pair, numbers=False) for pair in block.items()))


def _table(rows: str) -> str:
    return f'<table style="margin:0 0 0.5em 0;width:auto">{rows}</table>'


def _row(tag: str, cells: Sequence[str], numbers: bool = True) -> str:
    """A row of a table. The first cell is a name; the others are texts, or numbers, which are
    aligned to the right."""
    left = "text-align:left"
    others = "text-align:right;white-space:nowrap" if numbers else left
    styles = [left, *[others] * (len(cells) - 1)]
    row = (
        f'<{tag} style="{style}">{escape(cell)}</{tag}>'
        for cell, style in zip(cells, styles, strict=True)
    )
    return f"<tr>{''.join(row)}</tr>"


def show_growing(pieces: Iterable[str]) -> None:
    """Show a text in the output of the running cell while its pieces come. If an error ends them,
    the text up to there is shown.

    Raises
    ------
    NotebookError
        Outside IPython.
    """
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    if shell is None:
        raise NotebookError(
            "display() shows text in Jupyter and IPython (pip install ipykernel), but this program "
            "runs in neither; iterate over the stream instead"
        )
    live = hasattr(shell, "kernel")  # a terminal cannot change what it has shown
    text, handle, shown = "", None, -INTERVAL

    def show() -> None:
        nonlocal handle
        bundle = {"text/plain": text, "text/html": as_html("", text)}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    try:
        for piece in pieces:
            text += piece
            now = time.monotonic()
            if live and now - shown >= INTERVAL:
                shown = now
                show()
    finally:
        show()
