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
from ..errors import BenchError
from ..interfaces.head_query import Candidates
from ..model import BitNetModel
from .measured_engine import Counters, MeasuredEngine
from .plan import BATCH_CONTEXT
from .requests import GREEDY, SAMPLED, Request

__all__ = [
    "Batch",
    "Case",
    "Decode",
    "DenseDecode",
    "Gemm",
    "Measured",
    "Prefill",
    "Sampled",
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
    kind : "read", "multiply", "decode", "dense", "sampled", "gemm", "prefill" or "batch"
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

    def first(
        self, count: int, tokens: int, engine: MeasuredEngine, request: Request
    ) -> list[Sequence]:
        """New sequences with a prompt of `context` + 1 positions and their first token. That token
        is not measured, because it wakes the threads and copies blocks."""
        prompts = [prompt(self._model, self.context + 1, i) for i in range(count)]
        sequences = [
            engine.sequence(ids, request.sampler(), max_tokens=tokens + 1, listener=FirstToken())
            for ids in prompts
        ]
        engine.advance(*sequences, to_end=False)
        return sequences

    def names(self, sequence: int, tokens: list[int], request: Request) -> dict[str, object]:
        """New tokens of a sequence, under names that are the same in every case that has to give
        the same tokens."""
        which = "" if request.greedy else f"{request.title}, "
        return {
            f"{which}context {self.context}, sequence {sequence}, token {i}": token
            for i, token in enumerate(tokens)
        }

    def measure(
        self, count: int, tokens: int, engine: MeasuredEngine, request: Request = GREEDY
    ) -> Measured:
        """Tokens of `count` sequences, one of each in a pass, by the engine of `generate`."""
        sequences = self.first(count, tokens, engine, request)
        before, start = engine.counters(), time.perf_counter()
        engine.advance(*sequences, to_end=True)
        seconds, counters = time.perf_counter() - start, engine.counters() - before
        output: dict[str, object] = {}
        for index, sequence in enumerate(sequences):
            if sequence.error is not None:
                raise sequence.error
            new = sequence.tokens[sequence.prompt_tokens :]
            output |= self.names(index, new, request)
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


class Sampled:
    """Tokens of one sequence that is not simply greedy: one of `requests.SAMPLED`."""

    kind = "sampled"

    def __init__(self, model: BitNetModel, sequences: Sequences, request: str, tokens: int) -> None:
        self.size = sequences.context
        self.name = f"{request} at {self.size}"
        self._model, self._sequences, self._tokens = model, sequences, tokens
        self._request, self._checked = SAMPLED[request], False

    def measure(self, engine: MeasuredEngine, n_threads: int) -> Measured:
        """The tokens of the first call are compared with those that all logits give. Later ones
        have the same names."""
        measured = self._sequences.measure(1, self._tokens, engine, self._request)
        if not self._checked:
            self._compare(measured.output, engine)
            self._checked = True
        return measured

    def _compare(self, output: Mapping[str, object], engine: MeasuredEngine) -> None:
        ids = prompt(self._model, self.size + 1)
        pending, begin = ids.copy(), len(ids)
        cache, sampler = self._model.new_cache(), self._request.sampler()
        for index, (name, token) in enumerate(output.items()):
            logits = engine.last_logits(cache, pending, new_cancel_flag())
            sampler.query(ids, begin)
            chosen = sampler.choose(Candidates(None, logits), index)
            if token != chosen:
                raise BenchError(
                    f"output differs: {name}: {token!r} in {self.name}, {chosen!r} by the logits "
                    "of the whole vocabulary"
                )
            pending = [chosen]
            ids += pending


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
