"""What is kept of a run: who, when, on what, and each benchmark's figures without raw timings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "Entry", "FormatError", "load_entries", "read_run", "save"]

FOLDER = Path(__file__).resolve().parent

# Of `extra_info`: the same for all benchmarks of a run, and so kept once.
SHARED = ("commit", "machine", "model", "weights", "random_weights", "parameters", "kv_dtype")


class FormatError(ValueError):
    """A file is not what pytest-benchmark or `save` writes."""


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes
    ----------
    date : str
        ISO 8601, when it was measured.
    commit : str or None
    machine : mapping
        The machine card of `ryzanstein_llm.bench`.
    model : str
    weights : str
        Digest of the weight files.
    random_weights : bool
    parameters : int
    kv_dtype : str
    results : mapping from a benchmark's name to its figures
        Its `extra_info`, less what is above.
    not_shown : list of mapping
        Criteria of the benchmarks that were skipped, with the reason.
    """

    date: str
    commit: str | None
    machine: Mapping[str, Any]
    model: str
    weights: str
    random_weights: bool
    parameters: int
    kv_dtype: str
    results: Mapping[str, Mapping[str, Any]]
    not_shown: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its file."""
        day = re.sub(r"\D", "", self.date)[:14]
        model = re.sub(r"[^\w.-]", "-", self.model)
        return f"{day[:8]}-{day[8:]}-{model}-{(self.commit or 'unknown')[:7]}.json"

    def comparable(self, other: Entry) -> bool:
        """Whether shares of limits mean the same in both: model, cache and CPU are the same."""
        return self.same_model(other) and self.machine.get("cpu") == other.machine.get("cpu")

    def same_model(self, other: Entry) -> bool:
        """Whether a token takes the same work in both: shapes, kind of weights and cache."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("parameters", "random_weights", "kv_dtype")
        )


def read_run(path: Path) -> Entry:
    """The entry for a file of `--benchmark-json`, `--benchmark-autosave` or `--benchmark-save`.

    Raises
    ------
    FormatError
        If it is another kind of file, or a run of several models, or lacks what an entry says.
    """
    found = _json(path)
    try:
        benchmarks, date = found["benchmarks"], str(found["datetime"])
        infos = {entry["name"]: dict(entry["extra_info"]) for entry in benchmarks}
    except (KeyError, TypeError):
        raise FormatError(f"{path}: not a file of pytest-benchmark") from None
    infos = {name: info for name, info in infos.items() if "model" in info}
    if not infos:
        raise FormatError(f"{path}: holds no results of the six benchmarks")
    first = next(iter(infos.values()))
    if missing := [key for key in SHARED if key not in first]:
        raise FormatError(f"{path}: {next(iter(infos))}: does not say {', '.join(missing)}")
    for name, info in infos.items():
        for key in SHARED:
            if info.get(key) != first.get(key):
                raise FormatError(
                    f"{path}: {name}: {key} {info.get(key)!r}, not {first.get(key)!r}"
                )
    results = {
        name: {key: value for key, value in info.items() if key not in SHARED}
        for name, info in infos.items()
    }
    skipped = found.get("not_shown", [])
    return Entry(date, *(first[key] for key in SHARED), results=results, not_shown=skipped)


def save(entry: Entry, folder: Path = FOLDER) -> Path:
    """Writes its file; an entry of the same moment is replaced."""
    path = folder / entry.name
    text = json.dumps(_rounded(asdict(entry)), indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def load_entries(folder: Path = FOLDER) -> list[Entry]:
    """All that are kept, oldest first.

    Raises
    ------
    FormatError
        If a file is not one of `save`.
    """
    entries = []
    for path in sorted(folder.glob("*.json")):
        found = _json(path)
        try:
            entries.append(Entry(**found))
        except TypeError:
            raise FormatError(f"{path}: not an entry of the history") from None
    return sorted(entries, key=lambda entry: entry.date)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None


def _rounded(value: Any) -> Any:
    """Floats with six digits: more is noise, and takes room."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_rounded(inner) for inner in value]
    return value
