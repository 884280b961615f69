"""The cases that are measured: decoding, prompts, and several sequences at once.

Each case leaves everything as it was, so that all repetitions compute the same. It returns its
outputs, so that they can be compared.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..engine.compute import Float32, new_cancel_flag
from ..engine.sequence import Sequence
from ..model import BitNetModel
from ..sampling import Sampler, SamplingParams
from .measured_engine import Counters, MeasuredEngine
from .plan import BATCH_CONTEXT

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
        Bytes, multiply-adds or tokens in this time.
    counters : Counters or None
        What the engine counted in this time.
    output : mapping
        The outputs by name. The same name must have the same value in every repetition,
        setting and case.
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
        Is unique in a run.
    kind : "read", "multiply", "decode", "dense", "gemm", "prefill" or "batch"
    size : int
        Context, tokens of the prompt, or number of sequences; 0 if it has none.
    """

    name: str
    kind: str
    size: int

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured: ...


def prompt(model: BitNetModel, length: int, sequence: int = 0) -> list[int]:
    """Arbitrary token ids. A shorter prompt is the beginning of a longer one."""
    rng = np.random.default_rng(sequence)
    return [int(rng.integers(model.vocab_size)) for _ in range(length)]


def digest(logits: Float32) -> str:
    """A digest of the bits of logits."""
    return hashlib.blake2b(logits.tobytes(), digest_size=16).hexdigest()


class Sequences:
    """Prompts of several sequences, whose keys and values are kept between repetitions."""

    def __init__(self, model: BitNetModel, context: int) -> None:
        self._model, self.context = model, context

    def first(self, count: int, tokens: int, engine: MeasuredEngine) -> list[Sequence]:
        """New sequences with a prompt of `context` + 1 positions and their first token. That token
        is not measured, because it wakes the threads and copies blocks."""
        prompts = [prompt(self._model, self.context + 1, i) for i in range(count)]
        sequences = [
            engine.sequence(
                ids, Sampler(SamplingParams()), max_tokens=tokens + 1, listener=FirstToken()
            )
            for ids in prompts
        ]
        engine.advance(*sequences, to_end=False)
        return sequences

    def names(self, sequence: int, tokens: list[int]) -> dict[str, object]:
        """New tokens of a sequence, under names that are the same in every case."""
        return {
            f"context {self.context}, sequence {sequence}, token {i}": token
            for i, token in enumerate(tokens)
        }

    def measure(self, count: int, tokens: int, engine: MeasuredEngine) -> Measured:
        """Greedy tokens of `count` sequences, one of each in a pass, by the engine that `generate`
        uses."""
        sequences = self.first(count, tokens, engine)
        before, start = engine.counters(), time.perf_counter()
        engine.advance(*sequences, to_end=True)
        seconds, counters = time.perf_counter() - start, engine.counters() - before
        output: dict[str, object] = {}
        for index, sequence in enumerate(sequences):
            if sequence.error is not None:
                raise sequence.error
            output |= self.names(index, sequence.tokens[sequence.prompt_tokens :])
            engine.leave(sequence)
        return Measured(seconds, count * tokens, counters, output)


class FirstToken:
    """A listener that lets `advance` with `to_end=False` return after the first token."""

    def __init__(self) -> None:
        self.unread = False

    def add_token(self, token: int) -> bool:
        """See `engine.sequence.Listener`."""
        self.unread = True
        return False

    def replace_tokens(self, tokens: list[int]) -> bool:
        """See `engine.sequence.Listener`."""
        return False


class Decode:
    """Greedy tokens of one sequence."""

    kind = "decode"

    def __init__(self, sequences: Sequences, tokens: int) -> None:
        self.size = sequences.context
        self.name = f"decode at {self.size}"
        self._sequences, self._tokens = sequences, tokens

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        return self._sequences.measure(1, self._tokens, engine)


class DenseDecode:
    """`Decode` on a copy of the weights that is read as a whole. Shows how much skipping gains, and
    that it changes no token."""

    kind = "dense"

    def __init__(self, decode: Decode, engines: Mapping[int, MeasuredEngine]) -> None:
        self.size = decode.size
        self.name = f"dense {decode.name}"
        self._decode, self._engines = decode, engines

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        return self._decode.measure(self._engines[n_threads], n_threads)


class Gemm:
    """Only the projections of a prompt, including the quantisation of their inputs."""

    kind = "gemm"

    def __init__(self, model: BitNetModel, tokens: int) -> None:
        self.size = tokens
        self.name = f"projections of {tokens}"
        self._matrices = [m for layer in model.graph.layers for m in layer.matrices]
        rng = np.random.default_rng(0)
        columns = max(matrix.columns for matrix in self._matrices)
        self._x = rng.standard_normal((tokens, columns), np.float32)

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        widths = {matrix.columns for matrix in self._matrices}
        inputs = {columns: self._x[:, :columns].copy() for columns in widths}
        heights = {matrix.rows for matrix in self._matrices}
        outputs = {rows: np.empty((self.size, rows), np.float32) for rows in heights}
        before, start = engine.counters(), time.perf_counter()
        for matrix in self._matrices:
            engine.project(inputs[matrix.columns], matrix, outputs[matrix.rows])
        seconds, counters = time.perf_counter() - start, engine.counters() - before
        last = outputs[self._matrices[-1].rows]
        return Measured(seconds, self.size, counters, {self.name: digest(last)})


class Prefill:
    """A prompt in an empty cache, up to the logits of its last token."""

    kind = "prefill"

    def __init__(self, model: BitNetModel, tokens: int) -> None:
        self.size = tokens
        self.name = f"prefill of {tokens}"
        self._model, self._ids = model, prompt(model, tokens)

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        before, start = engine.counters(), time.perf_counter()
        logits = engine.last_logits(self._model.new_cache(), self._ids, new_cancel_flag())
        seconds, counters = time.perf_counter() - start, engine.counters() - before
        return Measured(seconds, self.size, counters, {self.name: digest(logits)})


class Batch:
    """Greedy tokens of several sequences, one of each in a pass."""

    kind = "batch"

    def __init__(self, sequences: Sequences, count: int, tokens: int) -> None:
        assert sequences.context == BATCH_CONTEXT
        self.size = count
        self.name = f"{count} sequences"
        self._sequences, self._tokens = sequences, tokens

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        return self._sequences.measure(self.size, self._tokens, engine)
