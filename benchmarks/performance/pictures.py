"""The pictures there can be: what each shows, in words, and when there is too little to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.history.entries import Entry

from .results import Results

__all__ = ["PICTURES", "Picture", "runs_alike"]

# Two points are a line whatever they are: fewer numbers than these are better read in the table.
LEAST_THREADS = 3
LEAST_RUNS = 4


@dataclass(frozen=True)
class Picture:
    """
    Attributes
    ----------
    alternative : str
        What it shows, for those who do not see it.
    enough : callable (results) -> bool
        Whether it is drawn.
    """

    alternative: str
    enough: Callable[[Results], bool]


def runs_alike(results: Results) -> list[Entry]:
    """Runs of the six that can be compared with the last one, oldest first, and that one."""
    six = results.six
    return [entry for entry in results.history if six is not None and entry.comparable(six)]


def _engines(results: Results) -> bool:
    rows = [] if results.peers is None else results.peers["rows"]
    return {"decode", "prefill"} <= {row["kind"] for row in rows}


def _context(results: Results) -> bool:
    return len({row["size"] for row in results.rows("decode")}) > 1


def _operations(results: Results) -> bool:
    return any(map(results.profile, ("decode", "prefill")))


def _roofline(results: Results) -> bool:
    return all(map(results.rows, ("read", "multiply", "decode")))


def _threads(results: Results) -> bool:
    return len(results.scaling_rows()) >= LEAST_THREADS


def _history(results: Results) -> bool:
    return len(runs_alike(results)) >= LEAST_RUNS


PICTURES = {
    "engines": Picture(
        "Tokens a second of this library and of others, decoding and over a prompt", _engines
    ),
    "context": Picture(
        "Decoded tokens a second over the length of the context, and the limit by bandwidth",
        _context,
    ),
    "operations": Picture("Time of each operation", _operations),
    "roofline": Picture(
        "Multiply-adds a second over multiply-adds a byte, below the limits of the machine",
        _roofline,
    ),
    "threads": Picture("Speed over the number of threads, with the ideal line", _threads),
    "history": Picture("Speed by the limits of each run, over the runs that are kept", _history),
}
