"""What one run measures: checked options, and their defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidParameterError
from ..kernels import cpu
from ..system.threads import choose_threads
from ..validation import check_choice, check_int
from .requests import SAMPLED

__all__ = ["ALL", "NONE", "Plan", "Setting", "make_plan"]

ALL, NONE = "all", "none"
"""Words that stand for every tier that is worth timing, and for no request but greedy ones."""

MAX_POSITIONS = 1 << 20
BATCH_CONTEXT = 16  # positions of each sequence of a batch before it is timed


@dataclass(frozen=True)
class Setting:
    """How a case is run: the tier and the number of threads."""

    tier: str
    threads: int

    def __str__(self) -> str:
        return f"{self.tier}, {self.threads} thread{'' if self.threads == 1 else 's'}"


@dataclass(frozen=True)
class Plan:
    """
    Attributes
    ----------
    settings : tuple of Setting
        Each case runs under all settings, one after the other.
    contexts : tuple of int, or None
        Positions in the cache when decoding begins. None: chosen for the model.
    prefill : tuple of int, or None
        Lengths of prompts. None: chosen for the model.
    batches : tuple of int
        Sequences in one pass.
    sampled : tuple of str
        Names of the requests of `SAMPLED` that are measured beside greedy ones.
    repetitions : int
        Number of recorded rounds. One more round before them is not recorded.
    tokens : int
        Tokens that are timed in one repetition of decoding.
    read_bytes : int
        Size of the array whose reading is timed. Unless quick, it is far larger than any cache.
    limit_seconds : float
        About how long a limit is measured in one repetition.
    start_tokens : int
        Tokens that a fresh process decodes before its memory is measured.
    """

    settings: tuple[Setting, ...]
    contexts: tuple[int, ...] | None
    prefill: tuple[int, ...] | None
    batches: tuple[int, ...]
    sampled: tuple[str, ...]
    repetitions: int
    tokens: int
    read_bytes: int
    limit_seconds: float
    start_tokens: int = 64

    @property
    def fastest(self) -> Setting:
        """The first tier with the most threads, for starts and for everything that is not timed."""
        tier = self.settings[0].tier
        return Setting(tier, max(setting.threads for setting in self.settings))

    def on_threads(self, count: int) -> Plan:
        """The plan with this number of threads in all settings."""
        tiers = dict.fromkeys(setting.tier for setting in self.settings)
        return replace(self, settings=tuple(Setting(tier, count) for tier in tiers))

    def contexts_for(self, context_length: int) -> tuple[int, ...]:
        """Contexts that fit a model together with the tokens that are decoded after them.

        Raises
        ------
        InvalidParameterError
            If a given context does not fit.
        """
        most = context_length - self.tokens - 2
        if self.contexts is None:
            found = tuple(n for n in (16, 1024, context_length - 96) if 0 < n <= most)
            return tuple(sorted(set(found))) or (max(1, most),)
        for context in self.contexts:
            check_int("contexts", context, 1, max(1, most))
        return self.contexts

    def prefill_for(self, context_length: int) -> tuple[int, ...]:
        """Prompt lengths that fit a model. Raises what `contexts_for` raises."""
        if self.prefill is None:
            return tuple(n for n in (32, 128, 512) if n <= context_length) or (context_length,)
        for tokens in self.prefill:
            check_int("prefill", tokens, 1, context_length)
        return self.prefill

    def batches_for(self, context_length: int) -> tuple[int, ...]:
        """Batch sizes; none if the context is too short for the prompts of a batch."""
        return self.batches if BATCH_CONTEXT + self.tokens + 2 <= context_length else ()


def make_plan(
    n_threads: int | Iterable[int] | None,
    tiers: str | Iterable[str] | None = None,
    *,
    contexts: Iterable[int] | None = None,
    prefill: Iterable[int] | None = None,
    batches: Iterable[int] | None = None,
    sampled: str | Iterable[str] | None = None,
    repetitions: int | None = None,
    quick: bool = False,
) -> Plan:
    """Check the options that need no model, and fill in defaults. Without `n_threads` the settings
    have as many as a large model; `Plan.on_threads` puts in what a model has chosen.

    Raises
    ------
    InvalidParameterError
        If an option is out of range.
    """
    threads = (None,) if n_threads is None else _several("n_threads", n_threads)
    counts = [choose_threads(count).count for count in threads]
    return Plan(
        settings=tuple(Setting(tier, count) for tier in _tiers(tiers) for count in counts),
        contexts=_sizes("contexts", contexts, MAX_POSITIONS) or ((16,) if quick else None),
        prefill=_sizes("prefill", prefill, MAX_POSITIONS) or ((32,) if quick else None),
        batches=_sizes("batches", batches, 256) or ((1, 4) if quick else (1, 2, 4, 8, 16)),
        sampled=_sampled(sampled, quick),
        repetitions=(2 if quick else 5)
        if repetitions is None
        else check_int("repetitions", repetitions, 1, 1000),
        tokens=4 if quick else 16,
        read_bytes=32 << 20 if quick else 512 << 20,
        limit_seconds=0.005 if quick else 0.15,
    )


def _tiers(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """`ALL` leaves out the scalar tier, which is there to check the others: a prompt of a large
    model takes it minutes."""
    available = cpu.available_tiers()
    if given is None:
        return (cpu.current_tier(),)
    names = _several("tiers", given)
    if names == (ALL,):
        return tuple(tier for tier in available if tier != "scalar") or ("scalar",)
    return _chosen("tiers", names, available, ALL)


def _sampled(given: str | Iterable[str] | None, quick: bool) -> tuple[str, ...]:
    if given is None:
        return tuple(SAMPLED)[: 1 if quick else None]
    names = _several("sampled", given)
    return () if names == (NONE,) else _chosen("sampled", names, SAMPLED, NONE)


def _chosen(
    name: str, values: tuple[Any, ...], known: Iterable[str], alone: str
) -> tuple[str, ...]:
    """Each of `values` is one of `known`. `alone` could be given too, but beside no other."""
    if alone in values:
        raise InvalidParameterError(f"must be {alone!r} alone, or others", name)
    return tuple(check_choice(name, value, (*known, alone)) for value in values)


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """One or several values as a tuple, in order and without repeats."""
    if isinstance(values, (str, bytes)):
        values = (values,)
    try:
        found = tuple(dict.fromkeys(values))
    except TypeError:
        found = (values,)
    if not found:
        raise InvalidParameterError("must name at least one value", name)
    return found


def _sizes(name: str, values: Iterable[int] | None, most: int) -> tuple[int, ...] | None:
    if values is None:
        return None
    return tuple(check_int(name, value, 1, most) for value in _several(name, values))
