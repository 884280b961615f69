"""What one run measures: checked options, and what they default to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidParameterError
from ..kernels import cpu
from ..system.threads import choose_threads
from ..validation import check_choice, check_int

__all__ = ["Plan", "Setting", "make_plan"]

MAX_POSITIONS = 1 << 20
BATCH_CONTEXT = 16  # positions each sequence of a batch has before it is timed


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
        Each case is run under each, next to each other.
    contexts : tuple of int, or None for what suits the model
        Positions in the cache when decoding begins.
    prefill : tuple of int, or None
        Lengths of prompts.
    batches : tuple of int
        Sequences in one pass.
    repetitions : int
        Recorded rounds; one more goes before them, unrecorded.
    tokens : int
        Tokens timed in one repetition of decoding.
    read_bytes : int
        Size of the array whose reading is timed; far above any cache unless quick.
    limit_seconds : float
        About how long a limit is measured in one repetition.
    start_tokens : int
        Tokens a fresh process decodes before its memory is looked at.
    """

    settings: tuple[Setting, ...]
    contexts: tuple[int, ...] | None
    prefill: tuple[int, ...] | None
    batches: tuple[int, ...]
    repetitions: int
    tokens: int
    read_bytes: int
    limit_seconds: float
    start_tokens: int = 64

    @property
    def fastest(self) -> Setting:
        """The first tier with most threads: for what is not timed, and for starting."""
        tier = self.settings[0].tier
        return Setting(tier, max(setting.threads for setting in self.settings))

    def contexts_for(self, context_length: int) -> tuple[int, ...]:
        """Contexts that fit a model, with the tokens decoded after them.

        Raises
        ------
        InvalidParameterError
            If one that was asked for does not fit, or none does.
        """
        most = context_length - self.tokens - 2
        if self.contexts is None:
            found = tuple(n for n in (16, 1024, context_length - 96) if 0 < n <= most)
            return tuple(sorted(set(found))) or (max(1, most),)
        for context in self.contexts:
            check_int("contexts", context, 1, max(1, most))
        return self.contexts

    def prefill_for(self, context_length: int) -> tuple[int, ...]:
        """Prompt lengths that fit a model. Errors as `contexts_for`."""
        if self.prefill is None:
            return tuple(n for n in (32, 128, 512) if n <= context_length) or (context_length,)
        for tokens in self.prefill:
            check_int("prefill", tokens, 1, context_length)
        return self.prefill

    def batches_for(self, context_length: int) -> tuple[int, ...]:
        """Batch sizes; none where the context is too short for a batch's prompts."""
        return self.batches if BATCH_CONTEXT + self.tokens + 2 <= context_length else ()


def make_plan(
    n_threads: int | Iterable[int] | None,
    tiers: str | Iterable[str] | None,
    contexts: Iterable[int] | None,
    prefill: Iterable[int] | None,
    batches: Iterable[int] | None,
    repetitions: int | None,
    quick: bool,
) -> Plan:
    """Check the options that need no model, and fill in defaults.

    Raises
    ------
    InvalidParameterError
        If one is out of range.
    """
    threads = (None,) if n_threads is None else _several("n_threads", n_threads)
    counts = [choose_threads(count).count for count in threads]
    available = cpu.available_tiers()
    names = (cpu.current_tier(),) if tiers is None else _several("tiers", tiers)
    chosen = [check_choice("tiers", name, available) for name in names]
    return Plan(
        settings=tuple(Setting(tier, count) for tier in chosen for count in counts),
        contexts=_sizes("contexts", contexts, MAX_POSITIONS) or ((16,) if quick else None),
        prefill=_sizes("prefill", prefill, MAX_POSITIONS) or ((32,) if quick else None),
        batches=_sizes("batches", batches, 256) or ((1, 4) if quick else (1, 2, 4, 8, 16)),
        repetitions=(2 if quick else 5)
        if repetitions is None
        else check_int("repetitions", repetitions, 1, 1000),
        tokens=4 if quick else 16,
        read_bytes=32 << 20 if quick else 512 << 20,
        limit_seconds=0.005 if quick else 0.15,
    )


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """One value, or each of several, without repeats and in order."""
    if isinstance(values, (str, bytes)):
        values = (values,)
    try:
        found = tuple(dict.fromkeys(values))
    except TypeError:
        found = (values,)
    if not found:
        raise InvalidParameterError(f"{name} must name at least one value")
    return found


def _sizes(name: str, values: Iterable[int] | None, most: int) -> tuple[int, ...] | None:
    if values is None:
        return None
    return tuple(check_int(name, value, 1, most) for value in _several(name, values))
