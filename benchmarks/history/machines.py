"""Runs on machines of different kinds beside each other, each by the limits of its own machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ryzanstein_llm.text_table import plural

from .entries import Entry

__all__ = ["last_of_each", "shares", "table_of_machines"]

LIMITS = {
    "reads, GB/s": "limit_bytes_per_second",
    "multiplies, G int8 a second": "limit_multiply_adds_per_second",
}
OF_LIMIT = "of_limit"


def last_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """The last run of each CPU that says its shares of the limits, of the model of the last of
    them all. In the order in which the CPUs first appear."""
    told = sorted((entry for entry in entries if shares(entry)), key=lambda entry: entry.date)
    found = {entry.machine.get("cpu"): entry for entry in told if entry.same_model(told[-1])}
    return list(found.values())


def shares(entry: Entry) -> dict[str, float]:
    """The shares of the limits by what was measured; of numbers of threads, those of the most."""
    found: dict[str, float] = {}
    for figures in _by_threads(entry):
        found |= figures.get(OF_LIMIT, {})
    return found


def table_of_machines(entries: Sequence[Entry]) -> list[list[str]]:
    """Lines of a table: the limits of each machine, and what was reached of them. With two machines
    the last column has the second share over the first, since shares can be compared.

    Parameters
    ----------
    entries : sequence of Entry
        Those of `last_of_each`.
    """
    both = len(entries) == 2
    lines = [["", *map(_name, entries), *(["second / first"] if both else [])]]
    for title, key in LIMITS.items():
        rates = [_limit(entry, key) for entry in entries]
        cells = ["" if rate is None else f"{rate / 1e9:.1f}" for rate in rates]
        lines.append([title, *cells, *([""] if both else [])])
    found = [shares(entry) for entry in entries]
    for what in dict.fromkeys(name for each in found for name in each):
        values = [each.get(what) for each in found]
        line = [f"{what}, of the limit", *("" if v is None else f"{v:.3f}" for v in values)]
        if both:
            first, second = values
            line.append("" if first is None or second is None else f"{second / first:.2f}")
        lines.append(line)
    return lines


def _name(entry: Entry) -> str:
    """Of the machine, with the tier and the most threads of the run."""
    last = _by_threads(entry)[-1]
    threads = plural(last["threads"], "thread")
    return f"{entry.machine.get('cpu')}, {last.get('tier')}, {threads}, {entry.date[:10]}"


def _limit(entry: Entry, key: str) -> float | None:
    found = [figures[key] for figures in _by_threads(entry) if key in figures]
    return found[-1] if found else None


def _by_threads(entry: Entry) -> list[Mapping[str, Any]]:
    """Figures of the benchmarks that say shares, the most threads last."""
    told = (figures for figures in entry.results.values() if OF_LIMIT in figures)
    return sorted(told, key=lambda figures: figures["threads"])
