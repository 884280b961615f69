"""From samples to figures: rates, their limits, and the share of the limit that was reached.

A share is computed within each round, with the limit that was measured in that round under the same
setting. Median and range are over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from .schedule import Sample
from .traffic import Traffic

__all__ = ["Row", "Spread", "make_rows"]


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest value over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        return cls(median(found), min(found), max(found))


@dataclass(frozen=True)
class Row:
    """One case under one setting.

    Attributes
    ----------
    case, kind, size, tier, threads
        As in `Sample`.
    seconds : Spread
        Time of a token (decode, dense, sampled), a prompt (gemm, prefill) or a pass (batch); for
        limits, of a repetition.
    rate : Spread
        Per second: bytes (read), int8 multiply-adds (multiply), otherwise tokens of all sequences.
    limit : Spread or None
        The tokens per second that the limit allows: bandwidth for decode and dense, int8 peak for
        gemm, prefill and batch. None for the limits themselves, and for sampled: how much of the
        head these read depends on the logits.
    limit_share : Spread or None
        rate / limit. For decode this is MBU.
    outside_kernels : Spread or None
        Share of the time outside parallel regions.
    scaling : Spread or None
        rate / (rate with the fewest threads of the same tier).
    relative : Spread or None
        For decode, sampled and batch: rate / (rate of one greedy sequence at the shortest context).
        For dense: (rate of decode, which skips) / rate.
    traffic : Traffic or None
        For decode and dense: bytes read for a token.
    """

    case: str
    kind: str
    size: int
    tier: str
    threads: int
    seconds: Spread
    rate: Spread
    limit: Spread | None = None
    limit_share: Spread | None = None
    outside_kernels: Spread | None = None
    scaling: Spread | None = None
    relative: Spread | None = None
    traffic: Traffic | None = None


Key = tuple[str, str, int]  # case, tier, threads


def make_rows(
    samples: Iterable[Sample],
    multiply_adds: int,
    traffic: Callable[[Sample], Traffic],
) -> list[Row]:
    """Rows in the order in which cases and settings first appear.

    Parameters
    ----------
    multiply_adds : int
        Ternary multiply-adds of one token.
    traffic : callable (Sample) -> Traffic
        Bytes of one token, for a sample of decode or dense.
    """
    groups: dict[Key, list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.case, sample.tier, sample.threads), []).append(sample)
    return [_row(group, groups, multiply_adds, traffic) for group in groups.values()]


def _row(
    group: list[Sample],
    groups: Mapping[Key, list[Sample]],
    multiply_adds: int,
    traffic: Callable[[Sample], Traffic],
) -> Row:
    first = group[0]
    tier, threads = first.tier, first.threads
    rates = [sample.rate for sample in group]
    limits = cost = scaling = relative = outside = None
    if first.kind in ("decode", "dense"):
        cost = traffic(first)  # all samples compute the same, so they read the same
        limits = [sample.rate / cost.total for sample in groups["read", tier, threads]]
    elif first.kind in ("gemm", "prefill", "batch"):
        limits = [sample.rate / multiply_adds for sample in groups["multiply", tier, threads]]
    least = min(other.threads for other, *_ in groups.values() if other.tier == tier)
    if threads != least:
        scaling = _ratios(rates, groups[first.case, tier, least])
    decodes = [other for other, *_ in groups.values() if other.kind == "decode"]
    if first.kind in ("decode", "sampled", "batch") and decodes:
        shortest = min(decodes, key=lambda sample: sample.size)
        if shortest.case != first.case:
            relative = _ratios(rates, groups[shortest.case, tier, threads])
    if first.kind == "dense":
        skipping = next(name for name, *_ in groups if first.case == f"dense {name}")
        relative = _ratios([s.rate for s in groups[skipping, tier, threads]], group)
    if first.kernel_seconds is not None:
        outside = Spread.of(1 - (s.kernel_seconds or 0) / s.seconds for s in group)
    return Row(
        first.case,
        first.kind,
        first.size,
        tier,
        threads,
        seconds=Spread.of(sample.seconds / _units(sample) for sample in group),
        rate=Spread.of(rates),
        limit=None if limits is None else Spread.of(limits),
        limit_share=None if limits is None else Spread.of(map(_divide, rates, limits)),
        outside_kernels=outside,
        scaling=scaling,
        relative=relative,
        traffic=cost,
    )


def _units(sample: Sample) -> float:
    """Number of tokens, prompts, passes or repetitions in a sample; `Row.seconds` is for one."""
    if sample.kind in ("decode", "dense", "sampled"):
        return sample.amount
    return sample.amount / sample.size if sample.kind == "batch" else 1


def _ratios(rates: list[float], others: list[Sample]) -> Spread:
    return Spread.of(map(_divide, rates, (sample.rate for sample in others)))


def _divide(value: float, by: float) -> float:
    return value / by
