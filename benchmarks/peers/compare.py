"""Rounds: each case, with each number of threads, by every engine in turn, then all again.

While one is timed the others are at rest, and whether they are is measured. What was computed is
looked at in every repetition: a peer's logits point where those of this library do, for the same
weights and the same graph; the library's own are the same bits each time, and a short run gives
the bits of the scalar tier.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ryzanstein_llm.errors import BenchError

from .engine import Engine, machine_cpu_seconds, settle
from .protocol import Float32, decode_logits

__all__ = ["LEAST_COSINE", "Case", "Comparison", "Peer", "Sample", "cosine", "measure"]

# Engines quantise activations and the head differently (per token, per 256 values, bfloat16).
# Another activation function or order of weights gives 0.9 and less.
LEAST_COSINE = 0.99
BUSY_SHARE = 0.05  # of one core, by the engines that should rest


@dataclass(frozen=True)
class Case:
    """
    Attributes
    ----------
    kind : "prefill" or "decode"
    ids : tuple of int
        The prompt. Decoding is timed from the token after its next on.
    tokens : int
        Tokens that are timed: those of the prompt, or the decoded ones.
    """

    kind: str
    ids: tuple[int, ...]
    tokens: int

    @property
    def name(self) -> str:
        """For reports: "prefill of 128", "decode at 16"."""
        if self.kind == "prefill":
            return f"prefill of {self.tokens}"
        return f"decode at {len(self.ids) - 1}"


@dataclass(frozen=True)
class Peer:
    """An engine and how its outputs are judged.

    Attributes
    ----------
    reference : Engine or None
        Computes the logits that this one's are compared with, from the same weights and graph.
        None for the library itself, whose outputs have to be equal in all rounds.
    rounds : int or None
        Takes part in so many rounds only.
    """

    engine: Engine
    reference: Engine | None
    rounds: int | None = None


@dataclass(frozen=True)
class Sample:
    """One repetition.

    Attributes
    ----------
    engine, case, kind : str
    threads, round : int
    seconds : float
    tokens : int
    cosine : float or None
        Of the last logits with those of the reference; None where they had to be equal.
    elapsed : float
        Seconds of the whole request, with what is not timed.
    others_busy : float
        CPU seconds that the other engines took meanwhile; 0 where the system does not say.
    strangers_busy : float
        The same for all other programs of the machine: with much of it figures are worth little.
        Counted in hundredths, so that only a sum says something; may be below 0.
    """

    engine: str
    case: str
    kind: str
    threads: int
    round: int
    seconds: float
    tokens: int
    cosine: float | None
    elapsed: float
    others_busy: float
    strangers_busy: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Comparison:
    """What `measure` found.

    Attributes
    ----------
    check : dict
        Of the library against its scalar tier.
    limits : list of dict
        In each round: round, threads, read (bytes/s), multiply (int8 multiply-adds/s).
    samples : list of Sample
        In the order in which they were measured.
    """

    check: Mapping[str, Any]
    limits: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]


def measure(
    peers: Sequence[Peer],
    cases: Sequence[Case],
    threads: Sequence[int],
    rounds: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Measure in turns. The first of `peers` is this library; it measures the limits, too.

    A round before the first, with most threads only, is not recorded. Every second round goes
    through the engines backwards, so that none always follows the same other one.

    Raises
    ------
    BenchError
        If outputs are wrong, an engine fails, or one computes while another is timed.
    """
    ours, *_ = peers
    everyone = _everyone(peers)
    judge = _Judge(max(threads))
    samples: list[Sample] = []
    limits: list[Mapping[str, Any]] = []
    total = _amount(peers, cases, threads, rounds)
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    check = ours.engine.ask("check", threads=list(threads))["check"]
    step("scalar tier")
    for number in range(-1, rounds):
        counts = threads if number >= 0 else (max(threads),)
        present = [peer for peer in peers if peer.rounds is None or number < peer.rounds]
        for count in counts:
            settle(everyone)
            found = ours.engine.ask("limits", threads=count)["limits"]
            if number >= 0:
                limits.append({"round": number, "threads": count, **found})
            step("limits")
        for case in cases:
            for count in counts:
                for peer in present if number % 2 else reversed(present):
                    sample = _sample(peer, case, count, number, everyone, judge)
                    if number >= 0:
                        samples.append(sample)
                    step(f"{case.name}, {peer.engine.name}")
    return Comparison(check, limits, samples)


def cosine(a: Float32, b: Float32) -> float:
    """Of the angle between two vectors; 0 if one has no direction."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and x.any() and y.any()):
        return 0.0
    return float(x @ y) / float(np.linalg.norm(x) * np.linalg.norm(y))


def _sample(
    peer: Peer, case: Case, threads: int, number: int, everyone: Sequence[Engine], judge: _Judge
) -> Sample:
    engine = peer.engine
    settle(everyone)
    before, machine = _cpu_seconds(everyone), machine_cpu_seconds()
    request: dict[str, Any] = {"ids": list(case.ids), "threads": threads}
    if case.kind == "decode":
        request["tokens"] = case.tokens
    start = time.perf_counter()
    answer = engine.ask(case.kind, **request)
    elapsed = time.perf_counter() - start
    after, machine_after = _cpu_seconds(everyone), machine_cpu_seconds()
    took = {other: after[other] - before[other] for other in everyone}
    busy = sum(took[other] for other in everyone if other is not engine)
    strangers = 0.0
    if machine is not None and machine_after is not None:
        strangers = machine_after - machine - sum(took.values())
    if busy > BUSY_SHARE * elapsed + 0.02:  # two ticks of the clock that counts it
        raise BenchError(
            f"{case.name}, {engine.name}: other engines computed for {busy:.2f} of {elapsed:.2f} s"
        )
    return Sample(
        engine.name,
        case.name,
        case.kind,
        threads,
        number,
        answer["seconds"],
        case.tokens,
        judge.look(peer, case, threads, answer),
        elapsed,
        busy,
        strangers,
    )


def _cpu_seconds(engines: Sequence[Engine]) -> dict[Engine, float]:
    return {engine: engine.cpu_seconds() or 0.0 for engine in engines}


class _Judge:
    """Whether what was timed was computed, and rightly."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._first: dict[tuple[str, str], Any] = {}
        self._references: dict[tuple[Engine, tuple[int, ...]], Float32] = {}

    def look(self, peer: Peer, case: Case, threads: int, answer: Mapping[str, Any]) -> float | None:
        where = f"{case.name}, {peer.engine.name}, threads: {threads}"
        ids = list(case.ids)
        if case.kind == "decode":
            if len(answer["ids"]) != case.tokens + 1:
                raise BenchError(f"{where}: {len(answer['ids'])} tokens, not {case.tokens + 1}")
            ids += answer["ids"][:-1]
        if peer.reference is None:
            text = answer["logits"] or ""
            found = answer.get("ids"), hashlib.blake2b(text.encode()).digest()
            if self._first.setdefault((peer.engine.name, case.name), found) != found:
                raise BenchError(f"{where}: output differs from an earlier one")
            return None
        logits = decode_logits(answer["logits"])
        # by value: bfloat16 logits often have two largest
        if case.kind == "decode" and logits[answer["ids"][-1]] != logits.max():
            raise BenchError(f"{where}: the last token is not the likeliest")
        closeness = cosine(logits, self._reference(peer.reference, ids))
        if closeness < LEAST_COSINE:
            raise BenchError(
                f"{where}: cosine of the last logits with {peer.reference.name} is "
                f"{closeness:.4f}, less than {LEAST_COSINE}"
            )
        return closeness

    def _reference(self, engine: Engine, ids: list[int]) -> Float32:
        key = engine, tuple(ids)
        if key not in self._references:
            answer = engine.ask("prefill", ids=ids, threads=self._threads)
            self._references[key] = decode_logits(answer["logits"])
        return self._references[key]


def _everyone(peers: Sequence[Peer]) -> list[Engine]:
    engines = [peer.engine for peer in peers]
    engines += [peer.reference for peer in peers if peer.reference is not None]
    return list(dict.fromkeys(engines))


def _amount(
    peers: Sequence[Peer], cases: Sequence[Case], threads: Sequence[int], rounds: int
) -> int:
    """Steps of a whole run."""
    turns = sum(1 + len(threads) * (rounds if p.rounds is None else p.rounds) for p in peers)
    return 1 + 1 + rounds * len(threads) + turns * len(cases)
