"""Markdown tables of machines of different kinds: "" where only one kind was measured."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.history.machines import last_of_each, table_of_machines
from ryzanstein_llm.text_table import number, plural

from .markdown import markdown, times
from .results import Found, Results, row_of

__all__ = ["MACHINE_TABLES"]


def machines(results: Results) -> str:
    """The reports of bench of each CPU, on the most threads that were measured of each."""
    reports = {"": results.bench, **results.other_machines} if results.bench else {}
    if len(reports) < 2:
        return ""
    found = [report for report in reports.values() if report is not None]
    lines = [
        ["CPU", *(report["machine"]["cpu"] for report in found)],
        ["tier", *(report["options"]["settings"][0]["tier"] for report in found)],
        ["threads", *(plural(_threads(report), "thread") for report in found)],
    ]
    for title, kind, size, cell in CELLS:
        rows = [row_of(report, kind, _threads(report), size) for report in found]
        if any(rows):
            lines.append([title, *("" if row is None else cell(row) for row in rows)])
    return markdown([""] * (1 + len(found)), lines)


def by_limits(results: Results) -> str:
    """The six benchmarks on each CPU, in shares of its limits."""
    found = last_of_each(results.history)
    if len(found) < 2:
        return ""
    header, *lines = table_of_machines(found)
    return markdown(header, lines)


def _threads(report: Found) -> int:
    return max(int(setting["threads"]) for setting in report["options"]["settings"])


def _limit(unit: str) -> Callable[[Found], str]:
    return lambda row: f"{number(row['rate']['median'] / 1e9)} {unit}"


def _rate(row: Found) -> str:
    return f"{number(row['rate']['median'])} tokens/s, {row['limit_share']['median']:.2f}"


def _relative(row: Found) -> str:
    return f"{number(row['rate']['median'])} tokens/s, {times(row['relative']['median'])}"


CELLS: tuple[tuple[str, str, int | None, Callable[[Found], str]], ...] = (
    ("streaming read", "read", None, _limit("GB/s")),
    ("int8 multiply-adds", "multiply", None, _limit("GMAC/s")),
    ("decoding after 16 tokens, share of the bandwidth", "decode", 16, _rate),
    ("prompt of 512, share of the int8 peak", "prefill", 512, _rate),
    ("8 sequences, as fast as one", "batch", 8, _relative),
    ("16 sequences, as fast as one", "batch", 16, _relative),
    ("top_p 0.95, as fast as greedy", "sampled", 16, _relative),
)
"""Title, kind and size of a row of bench, and what is shown of it."""

MACHINE_TABLES = {table.__name__: table for table in (machines, by_limits)}
