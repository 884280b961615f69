"""The results that PERFORMANCE.md is made from, as they are kept in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.history.entries import FOLDER as HISTORY
from benchmarks.history.entries import Entry, load_entries

__all__ = [
    "FOLDER",
    "ResultError",
    "Results",
    "keep",
    "kind_of",
    "load_results",
    "row_of",
    "rows_of",
]

FOLDER = Path(__file__).resolve().parent.parent / "results"

Found = Mapping[str, Any]

SIX = ("latency", "generation", "threads", "profile", "cache", "correctness")


class ResultError(ValueError):
    """A file is none that this program can use."""


@dataclass(frozen=True)
class Results:
    """
    Attributes
    ----------
    bench : dict or None
        `bench.json`: what `ryzanstein-llm bench --json` wrote, without samples.
    named : dict by name
        `bench-<name>.json`: other tiers, other weights, other machines.
    peers : dict or None
        `peers.json`: of `benchmarks.peers compare --json`.
    history : list of Entry
        Runs of the six benchmarks, oldest first.
    """

    bench: Found | None = None
    named: Mapping[str, Found] = field(default_factory=dict)
    peers: Found | None = None
    history: list[Entry] = field(default_factory=list)

    @property
    def six(self) -> Entry | None:
        """The last run of the six: of the model and the CPU of `bench`, if there is one."""
        wanted = [
            entry
            for entry in self.history
            if self.bench is None
            or (
                entry.parameters == self.bench["model"]["parameters"]
                and entry.machine.get("cpu") == self.bench["machine"]["cpu"]
            )
        ]
        return wanted[-1] if wanted else None

    @property
    def others(self) -> dict[str, Found]:
        """Reports beside `bench`, of the same CPU, by name."""
        return {name: found for name, found in self.named.items() if self._same_cpu(found)}

    @property
    def other_machines(self) -> dict[str, Found]:
        """Reports of the same model on other CPUs, by name."""
        return {
            name: found
            for name, found in self.named.items()
            if self.bench is not None
            and not self._same_cpu(found)
            and found["model"]["parameters"] == self.bench["model"]["parameters"]
        }

    def _same_cpu(self, report: Found) -> bool:
        cpu: str = report["machine"]["cpu"]
        return self.bench is None or cpu == self.bench["machine"]["cpu"]

    def rows(self, kind: str) -> list[Found]:
        """Of `bench`."""
        return [] if self.bench is None else rows_of(self.bench, kind)

    def row(self, kind: str, threads: int, size: int | None = None) -> Found | None:
        """Of `bench`, the first of its kind, threads and size."""
        return None if self.bench is None else row_of(self.bench, kind, threads, size)

    @property
    def threads(self) -> list[int]:
        """Of `bench`, rising."""
        return sorted({int(row["threads"]) for row in self.rows("read")})

    def bandwidths(self, threads: int, report: Found | None = None) -> list[float]:
        """In bytes a second: the lowest and the highest of a report of bench; without `report`, of
        all on this CPU, and what runs of the six measured."""
        reports = [self.bench, *self.others.values()] if report is None else [report]
        found = [
            row["rate"][end]
            for one in reports
            if one is not None
            for row in rows_of(one, "read")
            for end in ("low", "high")
            if row["threads"] == threads
        ]
        if report is None:
            found += [
                figures["limit_bytes_per_second"]
                for entry in self.history
                if self._same_cpu({"machine": entry.machine})
                for figures in entry.results.values()
                if figures.get("threads") == threads and "limit_bytes_per_second" in figures
            ]
        return found

    def scaling_rows(self) -> dict[int, Found]:
        """Of the six: figures by number of threads."""
        found = {}
        for name, figures in ({} if self.six is None else self.six.results).items():
            if name.startswith("test_prefill_and_decode_on["):
                found[int(figures["threads"])] = figures
        return dict(sorted(found.items()))

    def profile(self, kind: str) -> Found | None:
        """Of the six: the phase of "decode" or "prefill" with its operations, and its limits."""
        figures = self.of_six(f"test_profile_of[{kind}]")
        if figures is None:
            return None
        (phase,) = figures["profile"]["phases"]
        return {**phase, **{key: value for key, value in figures.items() if key != "profile"}}

    def of_six(self, name: str) -> Found | None:
        """Figures of one benchmark."""
        return None if self.six is None else self.six.results.get(name)

    def of_demo(self, name: str) -> Found | None:
        """Figures of one benchmark that is of the demo model whatever else was measured: the last
        of all."""
        found = [entry.results[name] for entry in self.history if name in entry.results]
        return found[-1] if found else None

    def criteria(self) -> Iterator[Found]:
        """Of the six, in their order."""
        if self.six is None:
            return
        results = self.six.results.values()
        found = [one for figures in results for one in figures.get("criteria", ())]
        found += self.six.not_shown
        yield from sorted(found, key=lambda one: SIX.index(one["benchmark"]))


def rows_of(report: Found, kind: str) -> list[Found]:
    """Rows of one kind of a report of bench."""
    return [row for row in report["rows"] if row["kind"] == kind]


def row_of(
    report: Found, kind: str, threads: int, size: int | None = None, tier: str | None = None
) -> Found | None:
    """The first of its kind, threads, size and tier of a report of bench."""
    for row in rows_of(report, kind):
        alike = size in (None, row["size"]) and tier in (None, row["tier"])
        if row["threads"] == threads and alike:
            return row
    return None


def load_results(folder: Path = FOLDER, history: Path = HISTORY) -> Results:
    """All there is.

    Raises
    ------
    ResultError
        If a file is not what its name says.
    """
    found: dict[str, Any] = {}
    named = {}
    for path in sorted(folder.glob("*.json")):
        report = _read(path)
        kind = kind_of(report)
        if kind is None or kind != path.stem.partition("-")[0]:
            raise ResultError(f"{path}: its name says {path.stem}, its contents {kind}")
        name = path.stem.partition("-")[2]
        if kind == "bench" and name:
            named[name] = report
        else:
            found[kind] = report
    return Results(found.get("bench"), named, found.get("peers"), load_entries(history))


def keep(path: Path, name: str = "", folder: Path = FOLDER) -> Path:
    """Copies a report of bench or peers to where it is kept, without its samples.

    Raises
    ------
    ResultError
        If it is neither.
    """
    report = _read(path)
    kind = kind_of(report)
    if kind is None:
        raise ResultError(f"{path}: neither of `ryzanstein-llm bench --json` nor of peers")
    kept = {key: value for key, value in report.items() if key != "samples"}
    for start in kept.get("starts", ()):
        start.pop("tokens", None)
    target = folder / f"{kind}{'-' * bool(name)}{name}.json"
    folder.mkdir(exist_ok=True)
    # in its own order: engines of peers begin with this library
    target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return target


def kind_of(report: Any) -> str | None:
    """Whose report it is: "bench", "peers", or None."""
    if not isinstance(report, Mapping) or not {"machine", "model", "rows"} <= report.keys():
        return None
    return "peers" if "engines" in report else "bench" if "starts" in report else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultError(f"{path}: {error}") from None
