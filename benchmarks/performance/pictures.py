"""The pictures there can be: what each shows, in words, and when there is too little to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.history.entries import Entry
from ryzanstein_llm.text_table import plural

from .results import Results

__all__ = ["MISSING", "PICTURES", "Picture", "runs_alike"]

MISSING = "Not measured yet."

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
    lacking : callable (results) -> str
        Why it is not drawn, as a sentence; "" where it is.
    """

    alternative: str
    lacking: Callable[[Results], str]


def runs_alike(results: Results) -> list[Entry]:
    """Runs of the six that can be compared with the last one, oldest first, and that one."""
    six = results.six
    return [entry for entry in results.history if six is not None and entry.comparable(six)]


def _engines(results: Results) -> str:
    rows = [] if results.peers is None else results.peers["rows"]
    return "" if {"decode", "prefill"} <= {row["kind"] for row in rows} else MISSING


def _context(results: Results) -> str:
    return "" if len({row["size"] for row in results.rows("decode")}) > 1 else MISSING


def _operations(results: Results) -> str:
    return "" if results.profile("decode") or results.profile("prefill") else MISSING


def _roofline(results: Results) -> str:
    return "" if all(map(results.rows, ("read", "multiply", "decode"))) else MISSING


def _threads(results: Results) -> str:
    count = len(results.scaling_rows())
    if count >= LEAST_THREADS:
        return ""
    return (
        f"{plural(count, 'number')} of threads: too few for a curve, which takes {LEAST_THREADS}."
        if count
        else MISSING
    )


def _history(results: Results) -> str:
    count = len(runs_alike(results))
    if count >= LEAST_RUNS:
        return ""
    return (
        f"{plural(count, 'run')} of this model on this CPU kept: too few for a curve, which takes "
        f"{LEAST_RUNS}."
        if count
        else MISSING
    )


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
