"""From samples to rates and ratios, as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ryzanstein_llm.bench import Spread

from .compare import Comparison, Sample

__all__ = ["Report", "Row", "make_rows"]


@dataclass(frozen=True)
class Row:
    """One case by one engine with one number of threads.

    Attributes
    ----------
    engine, case, kind, threads
        As in `Sample`.
    rate : Spread
        Tokens per second.
    ahead : Spread or None
        Rate of this library / this rate, taken within each round; None in its own rows.
    cosine : float or None
        The least of all rounds.
    """

    engine: str
    case: str
    kind: str
    threads: int
    rate: Spread
    ahead: Spread | None
    cosine: float | None


def make_rows(samples: Iterable[Sample], engines: Sequence[str]) -> list[Row]:
    """Rows by case and threads, in the order in which they first came, then by engine.

    Parameters
    ----------
    engines : sequence of str
        In the order of the rows; the others are compared with the first.
    """
    ours, *_ = engines
    groups: dict[tuple[str, int], dict[str, list[Sample]]] = {}
    for sample in samples:
        group = groups.setdefault((sample.case, sample.threads), {})
        group.setdefault(sample.engine, []).append(sample)
    rows = []
    for group in groups.values():
        own = {sample.round: sample.rate for sample in group[ours]}
        for engine in sorted(group, key=engines.index):
            found = group[engine]
            cosines = [sample.cosine for sample in found if sample.cosine is not None]
            ahead = [own[sample.round] / sample.rate for sample in found]
            rows.append(
                Row(
                    engine,
                    found[0].case,
                    found[0].kind,
                    found[0].threads,
                    Spread.of(sample.rate for sample in found),
                    None if engine == ours else Spread.of(ahead),
                    min(cosines) if cosines else None,
                )
            )
    return rows


@dataclass(frozen=True)
class Report:
    """
    Attributes
    ----------
    date : str
        The day of the run, ISO 8601.
    machine : mapping
        `ryzanstein_llm.bench`'s machine card.
    model : mapping
        Name and shapes.
    options : mapping
    engines : mapping
        What each engine says of itself, by name; the first is this library.
    comparison : Comparison
    """

    date: str
    machine: Mapping[str, Any]
    model: Mapping[str, Any]
    options: Mapping[str, Any]
    engines: Mapping[str, Mapping[str, Any]]
    comparison: Comparison

    @property
    def rows(self) -> list[Row]:
        """See `make_rows`."""
        return make_rows(self.comparison.samples, list(self.engines))

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "date": self.date,
            "machine": dict(self.machine),
            "model": dict(self.model),
            "options": dict(self.options),
            "engines": {name: dict(about) for name, about in self.engines.items()},
            "check": dict(self.comparison.check),
            "limits": [dict(limit) for limit in self.comparison.limits],
            "rows": [asdict(row) for row in self.rows],
            "samples": [asdict(sample) for sample in self.comparison.samples],
        }

    def text(self) -> str:
        """Facts, then a table; lines end in a newline."""
        facts = {
            "model": f"{self.model['name']}",
            "cpu": f"{self.machine['cpu']}, {self.machine['cores_allowed']} CPUs allowed",
            "limits": "; ".join(self._limits()),
        }
        for name, about in self.engines.items():
            versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
            facts[name] = f"{versions}; {about['model']}"
        width = max(map(len, facts))
        lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
        return "\n".join([*lines, "", *_table(self.rows), "", *self._notes()]) + "\n"

    def _limits(self) -> list[str]:
        by_threads: dict[int, list[Mapping[str, Any]]] = {}
        for limit in self.comparison.limits:
            by_threads.setdefault(limit["threads"], []).append(limit)
        return [
            f"{threads} thread{'' if threads == 1 else 's'} "
            f"{median(limit['read'] for limit in found) / 1e9:.1f} GB/s, "
            f"{median(limit['multiply'] for limit in found) / 1e9:.0f} GMAC/s"
            for threads, found in by_threads.items()
        ]

    def _notes(self) -> list[str]:
        rounds = len({sample.round for sample in self.comparison.samples})
        elapsed = sum(sample.elapsed for sample in self.comparison.samples)
        busy = sum(sample.others_busy for sample in self.comparison.samples) / elapsed
        strangers = sum(sample.strangers_busy for sample in self.comparison.samples) / elapsed
        tokens = len(self.comparison.check["tokens"])
        return [
            f"median (least..most) of {rounds} interleaved round{'' if rounds == 1 else 's'}; "
            "ours is: how many times as fast, within a round",
            "cosine: least one of last logits with ryzanstein_llm's, same weights and graph",
            f"ryzanstein_llm: equal outputs in all rounds; {tokens} tokens and the last logits "
            "equal to the scalar tier's",
            f"meanwhile resting engines took {busy:.1%} of a core, other programs {strangers:.0%}",
        ]


def _table(rows: Sequence[Row]) -> list[str]:
    table = [["case", "threads", "engine", "tokens/s", "ours is", "cosine"]]
    for row in rows:
        table.append(
            [
                row.case,
                str(row.threads),
                row.engine,
                _spread(row.rate, 1),
                "" if row.ahead is None else _spread(row.ahead, 2) + " x",
                "" if row.cosine is None else f"{row.cosine:.4f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}..{spread.high:.{digits}f})"
