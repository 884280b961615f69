"""Whether a run lost speed against the history, in units of limits that each run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .entries import Entry

__all__ = ["MOST_LOST", "Finding", "compare"]

MOST_LOST = 0.10
# A machine's neighbours change from day to day: a run is held against the median of so many.
LAST = 3

# Tokens for each GB that the machine could have read meanwhile. Not the share of the bandwidth:
# that falls when a token comes to need fewer bytes.
PER_GIGABYTE = {
    "tokens_per_second": "tokens a GB",
    "decode_tokens_per_second": "decoded tokens a GB",
    "batch_tokens_per_second": "tokens of all sequences a GB",
}
# Of prompts, whose ternary products are the same for ever.
PEAK_SHARE = "fraction_of_peak"
# Equal in every run of the same weights, by the determinism contract.
BITS = ("nll", "logits")


@dataclass(frozen=True)
class Finding:
    """One figure against the history.

    Attributes
    ----------
    benchmark, figure : str
    before, now : float or str
        Speed in units of the limit; what stands for bits.
    runs : int
        That `before` is the median of.
    bad : bool
    """

    benchmark: str
    figure: str
    before: float | str
    now: float | str
    runs: int
    bad: bool

    def line(self) -> str:
        """For people."""
        text = f"{'WORSE' if self.bad else 'ok':<5}  {self.benchmark}: {self.figure}"
        if isinstance(self.now, str) or isinstance(self.before, str):
            return f"{text} {'changed' if self.bad else 'as before'}"
        return f"{text} {self.before:.4g} -> {self.now:.4g} ({self.now / self.before - 1:+.1%})"


def compare(run: Entry, history: Sequence[Entry], most_lost: float = MOST_LOST) -> list[Finding]:
    """Each speed that both have, with the same tier and number of threads; and each digest of bits,
    of the same weights.

    Times are never compared. A run that is itself in the history is not compared with itself.
    """
    former = [entry for entry in history if entry.comparable(run) and (entry.name != run.name)]
    findings = []
    for name, figures in run.results.items():
        alike = [
            entry
            for entry in former
            if name in entry.results
            and all(
                entry.results[name].get(key) == figures.get(key)
                for key in ("tier", "threads", "text")
            )
        ]
        now, before = speeds(figures), [speeds(entry.results[name]) for entry in alike]
        for figure, value in now.items():
            values = [old[figure] for old in before if figure in old][-LAST:]
            if values:
                usual = median(values)
                bad = value < (1 - most_lost) * usual
                findings.append(Finding(name, figure, usual, value, len(values), bad))
        for figure in BITS:
            kept = [entry.results[name] for entry in alike if entry.weights == run.weights]
            kept = [old[figure] for old in kept if figure in old]
            if figure in figures and kept:
                same = kept[-1] == figures[figure]
                findings.append(Finding(name, figure, kept[-1], figures[figure], 1, not same))
    return findings


def speeds(figures: Mapping[str, Any]) -> dict[str, float]:
    """By name, those of a benchmark in units of its limits."""
    found = {
        title: 1e9 * figures[rate] / figures["limit_bytes_per_second"]
        for rate, title in PER_GIGABYTE.items()
        if rate in figures and "limit_bytes_per_second" in figures
    }
    if "prefill_tokens_per_second" in figures and PEAK_SHARE in figures:
        found["prompt, share of the peak"] = figures[PEAK_SHARE]
    return found
