"""The results of a run, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..notebook import as_html
from ..text_table import as_text, plural
from .figures import Row, Spread
from .schedule import Sample
from .start import Start
from .text import blocks

__all__ = ["BenchReport"]

LOADS = (
    "load_seconds",
    "load_seconds_without_tokenizer",
    "mapped_load_seconds",
    "mapped_load_seconds_without_tokenizer",
)


@dataclass(frozen=True, repr=False)
class BenchReport:
    """
    Attributes
    ----------
    machine : dict
        The machine card: cpu, cores_allowed, physical_cores, cpu_quota, features, ram_bytes, os,
        python, numpy, version, commit, compiler. Values that are not known are None.
    model : dict
        name, family, parameters, weight_bytes, mapped_weights (whether this process mapped them
        from a file of packed weights), multiply_adds (ternary ones of a token), vocab_size,
        context_length, kv_dtype, weight_format, kv_bytes_per_token, random_weights, sparse_gates.
    options : dict
        settings, contexts, prefill, batches, sampled, repetitions, tokens, read_bytes,
        start_tokens, quick.
    check : dict or None
        The outputs that were equal to those of the scalar tier in every setting; None if they were
        not compared.
    rows : list of Row
        Limits and cases under each setting, as medians and ranges.
    samples : list of Sample
        All repetitions, in the order in which they were measured.
    starts : list of Start
        Load time and memory of fresh processes. Each round has one that packs the weights and, if
        the model has a file of packed weights, one that maps it.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    options: dict[str, Any]
    check: dict[str, Any] | None
    rows: Sequence[Row]
    samples: Sequence[Sample]
    starts: Sequence[Start]

    def row(self, case: str, tier: str | None = None, threads: int | None = None) -> Row:
        """The row of a case such as `"decode at 16"`: the first one, unless a setting is given.

        Raises
        ------
        KeyError
            If there is no such row.
        """
        for row in self.rows:
            if row.case == case and tier in (None, row.tier) and threads in (None, row.threads):
                return row
        raise KeyError(f"no row for {case!r}, tier {tier!r}, threads {threads!r}")

    @property
    def load_seconds(self) -> Spread:
        """Time to open the model, including its tokenizer, in a fresh process that packs its
        weights."""
        return Spread.of(start.load_seconds for start in self._starts(mapped=False))

    @property
    def load_seconds_without_tokenizer(self) -> Spread:
        """`load_seconds` without the time of the tokenizer."""
        return _without_tokenizer(self._starts(mapped=False))

    @property
    def mapped_load_seconds(self) -> Spread | None:
        """Time to open the model in a fresh process that maps packed weights. None if the model
        keeps none."""
        starts = self._starts(mapped=True)
        return Spread.of(start.load_seconds for start in starts) if starts else None

    @property
    def mapped_load_seconds_without_tokenizer(self) -> Spread | None:
        """`mapped_load_seconds` without the time of the tokenizer."""
        starts = self._starts(mapped=True)
        return _without_tokenizer(starts) if starts else None

    def _starts(self, mapped: bool) -> list[Start]:
        return [start for start in self.starts if start.mapped is mapped]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has. `traffic` also has its `total`."""
        loads = {name: getattr(self, name) for name in LOADS}
        rows = []
        for row in self.rows:
            rows.append(asdict(row))
            if row.traffic is not None:
                rows[-1]["traffic"]["total"] = row.traffic.total
        return {
            "machine": self.machine,
            "model": self.model,
            "options": self.options,
            "check": self.check,
            "rows": rows,
            **{name: spread and asdict(spread) for name, spread in loads.items()},
            "samples": [asdict(sample) for sample in self.samples],
            "starts": [asdict(start) for start in self.starts],
        }

    def text(self) -> str:
        """The report as tables with units."""
        return as_text(blocks(self))

    def __repr__(self) -> str:
        counts = [
            plural(len(self.rows), "row"),
            plural(len(self.options["settings"]), "setting"),
            plural(self.options["repetitions"], "repetition"),
        ]
        return f"BenchReport({self.model['name']!r}, {', '.join(counts)})"

    def _repr_html_(self) -> str:
        return as_html(repr(self), *blocks(self))


def _without_tokenizer(starts: Sequence[Start]) -> Spread:
    return Spread.of(start.load_seconds - start.tokenizer_seconds for start in starts)
