"""A report as tables and facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..text_table import Block, Table, number, plural
from .figures import Row, Spread
from .requests import SAMPLED
from .start import Start

__all__ = ["blocks"]

Column = tuple[str, Callable[[Row], str]]

KEYS = ("tier", "threads", "request", "context", "tokens", "sequences")
"""Names of the columns that say what a row is about."""


class Report(Protocol):
    """The parts of a `BenchReport` that are shown."""

    @property
    def machine(self) -> dict[str, Any]: ...
    @property
    def model(self) -> dict[str, Any]: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def check(self) -> dict[str, Any] | None: ...
    @property
    def rows(self) -> Sequence[Row]: ...
    @property
    def starts(self) -> Sequence[Start]: ...
    @property
    def load_seconds(self) -> Spread: ...
    @property
    def load_seconds_without_tokenizer(self) -> Spread: ...
    @property
    def mapped_load_seconds(self) -> Spread | None: ...
    @property
    def mapped_load_seconds_without_tokenizer(self) -> Spread | None: ...


def blocks(report: Report) -> list[Block]:
    """The whole report."""
    contexts = report.options["contexts"]
    found = [
        _heading(report),
        _rows("streaming read", report, "read", [("GB/s", _scaled("rate", 1e-9))]),
        _rows("int8 multiply-adds", report, "multiply", [("GMAC/s", _scaled("rate", 1e-9))]),
        _rows(
            "decode, one sequence, greedy",
            report,
            "decode",
            [
                ("context", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("ms/token", _median("seconds", 1e3)),
                ("MB/token", _megabytes),
                ("limit", _median("limit")),
                ("MBU", _percent("limit_share")),
                ("outside", _median_percent("outside_kernels")),
                ("up", _density("rows")),
                ("down", _density("columns")),
                (f"x at {contexts[0]}", _times("relative")),
                ("scaling", _times("scaling")),
            ],
        ),
        _rows(
            "the same, nothing skipped",
            report,
            "dense",
            [
                ("context", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("ms/token", _median("seconds", 1e3)),
                ("MB/token", _megabytes),
                ("limit", _median("limit")),
                ("MBU", _percent("limit_share")),
                ("outside", _median_percent("outside_kernels")),
                ("skipping x", _times("relative")),
                ("scaling", _times("scaling")),
            ],
        ),
        _rows(
            "decode, one sequence, sampled or with changed logits",
            report,
            "sampled",
            [
                ("request", _request),
                ("context", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("ms/token", _median("seconds", 1e3)),
                ("x greedy", _times("relative")),
                ("outside", _median_percent("outside_kernels")),
                ("scaling", _times("scaling")),
            ],
        ),
        _rows(
            "ternary projections alone",
            report,
            "gemm",
            [
                ("tokens", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("of int8 peak", _percent("limit_share")),
                ("scaling", _times("scaling")),
            ],
        ),
        _rows(
            "prefill, last logits only",
            report,
            "prefill",
            [
                ("tokens", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("ms", _median("seconds", 1e3)),
                ("limit", _median("limit")),
                ("of int8 peak", _percent("limit_share")),
                ("outside", _median_percent("outside_kernels")),
                ("scaling", _times("scaling")),
            ],
        ),
        _rows(
            "decode, several sequences in one pass, greedy",
            report,
            "batch",
            [
                ("sequences", lambda row: str(row.size)),
                ("tokens/s", _scaled("rate")),
                ("ms/pass", _median("seconds", 1e3)),
                ("limit", _median("limit")),
                ("of int8 peak", _percent("limit_share")),
                ("outside", _median_percent("outside_kernels")),
                ("x one", _times("relative")),
                ("scaling", _times("scaling")),
            ],
        ),
        _starting(report),
        _legend(report),
    ]
    return [block for block in found if block is not None]


def _heading(report: Report) -> dict[str, str]:
    machine, model, options = report.machine, report.model, report.options
    weights = f"{model['parameters']:,} parameters"
    if model["random_weights"]:
        weights += ", random weights"
    if model["sparse_gates"] is not None:
        weights += f", {model['sparse_gates']:.0%} of gates positive"
    cores = f"{machine['cores_allowed']} CPUs allowed, {machine['physical_cores']} cores"
    if machine["cpu_quota"] is not None:
        cores += f", quota {machine['cpu_quota']:.2f}"
    if machine["ram_bytes"] is not None:
        cores += f", {machine['ram_bytes'] / 1e9:.1f} GB of memory"
    library = f"{machine['version']}, commit {machine['commit'] or 'unknown'}"
    outputs = "equal in all repetitions and settings"
    if report.check is None:
        outputs += ", not compared with the scalar tier"
    else:
        tokens = plural(len(report.check["tokens"]), "token")
        outputs += f"; {tokens} and the last logits equal to the scalar tier's"
    facts = {
        "model": f"{model['name']}: {model['family']}, {weights}, {model['weight_format']} format, "
        f"{model['kv_dtype']} cache",
        "weights": f"{model['weight_bytes'] / 1e6:.1f} MB"
        f"{', mapped from a file of packed weights' if model['mapped_weights'] else ''}, "
        f"{model['multiply_adds'] / 1e6:.1f} M ternary multiply-adds a token",
        "cpu": machine["cpu"],
        "cores": cores,
        "features": ", ".join(machine["features"]),
        "system": f"{machine['os']}, Python {machine['python']}, NumPy {machine['numpy']}",
        "library": f"{library}, {machine['compiler'] or 'compiler unknown'}",
        "outputs": outputs,
    }
    if options["quick"]:
        facts["quick"] = "too short to say anything about this machine"
    return facts


def _starting(report: Report) -> dict[str, str]:
    facts = _start_of(
        "load", "packing its weights", report, False,
        report.load_seconds, report.load_seconds_without_tokenizer,
    )  # fmt: skip
    if report.mapped_load_seconds and report.mapped_load_seconds_without_tokenizer:
        facts |= _start_of(
            "mapped load", "mapping packed weights", report, True,
            report.mapped_load_seconds, report.mapped_load_seconds_without_tokenizer,
        )  # fmt: skip
    return facts


def _start_of(
    name: str, how: str, report: Report, mapped: bool, load: Spread, without_tokenizer: Spread
) -> dict[str, str]:
    """Lines about starts of one kind: those that map packed weights, or those that pack them."""
    starts = [start for start in report.starts if start.mapped is mapped]
    facts = {
        name: f"{_spread(load, digits=2)} s in a fresh process {how}, "
        f"{_spread(without_tokenizer, digits=2)} s without the tokenizer"
    }
    peaks = [start.peak_bytes for start in starts if start.peak_bytes is not None]
    prefix = "mapped " if mapped else ""
    if peaks:
        facts[f"{prefix}peak"] = f"{max(peaks) / 1e6:.0f} MB of memory, loading included"
    last = starts[-1]
    if last.memory is not None:
        facts[f"{prefix}memory"] = (
            f"{last.memory['private'] / 1e6:.0f} MB private, {last.memory['mapped'] / 1e6:.0f} MB "
            f"mapped from files, after {plural(len(last.tokens), 'token')}"
        )
    return facts


def _legend(report: Report) -> dict[str, str]:
    repetitions = plural(report.options["repetitions"], "interleaved repetition")
    legend = {
        "figures": f"median (least..most) of {repetitions}",
        "limit": "tokens/s that streaming reads allow for one sequence, and int8 multiply-adds for "
        "the rest; MBU and shares are of the limit in the same round",
        "outside": "share of the time outside the kernels",
        "x at, x one": "times the rate of one greedy sequence at the shortest context",
        "scaling": "times the rate with the fewest threads",
    }
    if report.options["sampled"]:
        legend["x greedy"] = "times the rate of greedy decoding at the same context"
        titles = (f"{name}: {SAMPLED[name].title}" for name in report.options["sampled"])
        legend["requests"] = "; ".join(titles)
    if any(row.kind == "dense" for row in report.rows):
        legend["up, down"] = "share of these weights that was read; the rest was skipped"
        legend["skipping x"] = "times the rate without skipping"
    return legend


def _rows(title: str, report: Report, kind: str, columns: Sequence[Column]) -> Table | None:
    rows = [row for row in report.rows if row.kind == kind]
    if not rows:
        return None
    columns = [("tier", lambda row: row.tier), ("threads", lambda row: str(row.threads)), *columns]
    lines = [[name for name, _ in columns], *([cell(row) for _, cell in columns] for row in rows)]
    kept = [column for column in zip(*lines, strict=True) if any(column[1:])]
    keys = sum(column[0] in KEYS for column in kept)
    return Table(title, list(zip(*kept, strict=True)), keys)


def _scaled(attribute: str, factor: float = 1) -> Callable[[Row], str]:
    return lambda row: _spread(getattr(row, attribute), factor)


def _median(attribute: str, factor: float = 1) -> Callable[[Row], str]:
    return lambda row: number(getattr(row, attribute).median * factor)


def _percent(attribute: str) -> Callable[[Row], str]:
    return lambda row: _spread(getattr(row, attribute), 100, digits=1) + "%"


def _median_percent(attribute: str) -> Callable[[Row], str]:
    return lambda row: f"{100 * getattr(row, attribute).median:.1f}%"


def _times(attribute: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        found: Any = getattr(row, attribute)
        return "" if found is None else f"{found.median:.2f}"

    return cell


def _request(row: Row) -> str:
    """The name of a request that is not simply greedy."""
    return row.case.partition(" ")[0]


def _megabytes(row: Row) -> str:
    return "" if row.traffic is None else f"{row.traffic.total / 1e6:.1f}"


def _density(attribute: str) -> Callable[[Row], str]:
    """The share of the rows of `up` or of the columns of `down` that was read."""

    def cell(row: Row) -> str:
        found = None if row.traffic is None else getattr(row.traffic.densities, attribute)
        return "" if found is None else f"{found:.1%}"

    return cell


def _spread(spread: Spread, factor: float = 1, digits: int | None = None) -> str:
    low, middle, high = (
        number(value * factor, digits) for value in (spread.low, spread.median, spread.high)
    )
    return f"{middle} ({low}..{high})"
