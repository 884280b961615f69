"""What a user waits for: decoding, prompts, and several sequences at once.

Each case leaves everything as it was, so that all its repetitions compute the same, and gives
what it computed, so that they can be compared.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..generation import TokenLoop
from ..engine.kv_cache import KVCache
from ..model import BitNetModel
from ..runner import Float32, new_cancel_flag
from ..sampling import Sampler, SamplingParams
from .plan import BATCH_CONTEXT
from .runner import Counters, MeasuredRunner

__all__ = [
    "Batch",
    "Case",
    "Decode",
    "DenseDecode",
    "Gemm",
    "Measured",
    "Prefill",
    "Sequences",
    "prompt",
]


@dataclass(frozen=True)
class Measured:
    """One repetition.

    Attributes
    ----------
    seconds : float
    amount : int
        What was done in them: bytes, multiply-adds or tokens.
    counters : Counters or None
        What the runner counted meanwhile.
    output : mapping
        What was computed, under names: the same name means the same thing in every
        repetition, setting and case, and must have the same value.
    """

    seconds: float
    amount: int
    counters: Counters | None = None
    output: Mapping[str, object] = field(default_factory=dict)


class Case(Protocol):
    """Something to measure.

    Attributes
    ----------
    name : str
        Unique in a run.
    kind : "read", "multiply", "decode", "dense", "gemm", "prefill" or "batch"
    size : int
        Context, tokens of the prompt, or sequences; 0 where it has none.
    """

    name: str
    kind: str
    size: int

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured: ...


def prompt(model: BitNetModel, length: int, sequence: int = 0) -> list[int]:
    """Arbitrary token ids; those of a shorter length are their beginning."""
    rng = np.random.default_rng(sequence)
    return [int(rng.integers(model.vocab_size)) for _ in range(length)]


def digest(logits: Float32) -> str:
    """Stands for the bits of logits."""
    return hashlib.blake2b(logits.tobytes(), digest_size=16).hexdigest()


class Sequences:
    """Caches that hold the prompts of several sequences; filled once, whoever measures."""

    def __init__(self, model: BitNetModel, context: int) -> None:
        self._model, self.context = model, context
        self._caches: list[KVCache] = []

    def first(self, count: int, runner: MeasuredRunner) -> tuple[list[KVCache], list[list[int]]]:
        """(caches of `context` positions, tokens of which the last is not in the cache yet)."""
        prompts = [prompt(self._model, self.context + 1, i) for i in range(count)]
        for tokens in prompts[len(self._caches) :]:
            cache = self._model.new_cache()
            runner.last_logits(cache, tokens[:-1], new_cancel_flag())
            self._caches.append(cache)
        return self._caches[:count], prompts

    def names(self, sequence: int, tokens: list[int]) -> dict[str, object]:
        """New tokens of a sequence under names that every case shares."""
        return {
            f"context {self.context}, sequence {sequence}, token {i}": token
            for i, token in enumerate(tokens)
        }


class Decode:
    """Greedy tokens of one sequence, one at a time, by the loop that `generate` runs."""

    kind = "decode"

    def __init__(self, sequences: Sequences, tokens: int) -> None:
        self.size = sequences.context
        self.name = f"decode at {self.size}"
        self._sequences, self._tokens = sequences, tokens

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured:
        (cache,), (tokens,) = self._sequences.first(1, runner)
        loop = iter(
            TokenLoop(
                runner,
                cache,
                tokens,
                Sampler(SamplingParams()),
                max_tokens=self._tokens + 1,
                eos_ids=(),
                cancel=new_cancel_flag(),
            )
        )
        new = [next(loop)]  # not timed: wakes the threads, takes a block of cache
        before, start = runner.counters(), time.perf_counter()
        new.extend(loop)
        seconds, counters = time.perf_counter() - start, runner.counters() - before
        cache.truncate(self.size)
        return Measured(seconds, self._tokens, counters, self._sequences.names(0, new))


class DenseDecode:
    """`Decode` on a copy of the weights that is laid out to be read as a whole: what skipping is
    worth, and that it changes no token."""

    kind = "dense"

    def __init__(self, decode: Decode, runners: Mapping[int, MeasuredRunner]) -> None:
        self.size = decode.size
        self.name = f"dense {decode.name}"
        self._decode, self._runners = decode, runners

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured:
        return self._decode.measure(self._runners[n_threads], n_threads)


class Gemm:
    """All projections of a prompt by themselves, quantisation of their inputs included."""

    kind = "gemm"

    def __init__(self, model: BitNetModel, tokens: int) -> None:
        self.size = tokens
        self.name = f"projections of {tokens}"
        self._matrices = [m for layer in model.graph.layers for m in layer.matrices]
        rng = np.random.default_rng(0)
        columns = max(matrix.columns for matrix in self._matrices)
        self._x = rng.standard_normal((tokens, columns), np.float32)

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured:
        widths = {matrix.columns for matrix in self._matrices}
        inputs = {columns: self._x[:, :columns].copy() for columns in widths}
        heights = {matrix.rows for matrix in self._matrices}
        outputs = {rows: np.empty((self.size, rows), np.float32) for rows in heights}
        before, start = runner.counters(), time.perf_counter()
        for matrix in self._matrices:
            runner.project(inputs[matrix.columns], matrix, outputs[matrix.rows])
        seconds, counters = time.perf_counter() - start, runner.counters() - before
        last = outputs[self._matrices[-1].rows]
        return Measured(seconds, self.size, counters, {self.name: digest(last)})


class Prefill:
    """A prompt into an empty cache, up to the logits of its last token."""

    kind = "prefill"

    def __init__(self, model: BitNetModel, tokens: int) -> None:
        self.size = tokens
        self.name = f"prefill of {tokens}"
        self._model, self._ids = model, prompt(model, tokens)

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured:
        before, start = runner.counters(), time.perf_counter()
        logits = runner.last_logits(self._model.new_cache(), self._ids, new_cancel_flag())
        seconds, counters = time.perf_counter() - start, runner.counters() - before
        return Measured(seconds, self.size, counters, {self.name: digest(logits)})


class Batch:
    """Greedy tokens of several sequences, one of each in a pass."""

    kind = "batch"

    def __init__(self, sequences: Sequences, count: int, tokens: int) -> None:
        assert sequences.context == BATCH_CONTEXT
        self.size = count
        self.name = f"{count} sequences"
        self._sequences, self._tokens = sequences, tokens

    def measure(self, runner: MeasuredRunner, n_threads: int) -> Measured:
        caches, prompts = self._sequences.first(self.size, runner)
        ids = [tokens[-1] for tokens in prompts]
        new: list[list[int]] = [[] for _ in ids]

        samplers = [Sampler(SamplingParams()) for _ in ids]

        def step(ids: list[int]) -> list[int]:
            queries = [sampler.query for sampler in samplers]
            found = runner.batch_candidates(caches, ids, new_cancel_flag(), queries)
            chosen = [
                sampler(candidates) for sampler, candidates in zip(samplers, found, strict=True)
            ]
            for tokens, token in zip(new, chosen, strict=True):
                tokens.append(token)
            return chosen

        ids = step(ids)  # not timed, as in Decode
        before, start = runner.counters(), time.perf_counter()
        for _ in range(self._tokens):
            ids = step(ids)
        seconds, counters = time.perf_counter() - start, runner.counters() - before
        for cache in caches:
            cache.truncate(BATCH_CONTEXT)
        output: dict[str, object] = {}
        for index, tokens in enumerate(new):
            output |= self._sequences.names(index, tokens)
        return Measured(seconds, self._tokens * self.size, counters, output)
