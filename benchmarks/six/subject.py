"""The model that is measured, and what is written beside each of its figures."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.bench.limits import MultiplyLimit, ReadLimit
from ryzanstein_llm.bench.machine import machine_card
from ryzanstein_llm.bench.measured_engine import MeasuredEngine
from ryzanstein_llm.bench.plan import Setting
from ryzanstein_llm.bench.traffic import bytes_per_token
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.profiling import Limits
from ryzanstein_llm.profiling.costs import projection_multiply_adds
from ryzanstein_llm.sampling import Sampler, SamplingParams
from ryzanstein_llm.testing import make_checkpoint, preset_config

from .roofline import roofline

__all__ = ["REFERENCE", "Subject", "open_subject"]

REFERENCE = "bitnet-b1.58-2B-4T"


@dataclass(eq=False)
class Subject:
    """
    Attributes
    ----------
    model : BitNetModel
    name : str
    path : Path or None
        To open it again, in another process; None for the demo model.
    weights : str
        Digest of the weight files.
    random_weights : bool
    """

    model: BitNetModel
    name: str
    path: Path | None
    weights: str
    random_weights: bool
    _card: dict[str, Any] = field(default_factory=machine_card)  # as it was when the run began
    _engines: dict[int, MeasuredEngine] = field(default_factory=dict)
    _limit_cases: tuple[ReadLimit, MultiplyLimit] | None = None

    @property
    def reference(self) -> bool:
        """Whether it has the shapes of 2B-4T, for which the criteria are meant."""
        config, found = preset_config(REFERENCE), self.model.config
        shapes = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
        return [config[name] for name in shapes] == [
            found.hidden_size,
            found.intermediate_size,
            found.n_layers,
            found.vocab_size,
        ]

    @property
    def small(self) -> bool:
        """Whether a token takes milliseconds even by the scalar tier."""
        return projection_multiply_adds(self.model.graph) < 50e6

    @property
    def setting(self) -> Setting:
        """The tier in use, and the model's threads."""
        return Setting(cpu.current_tier(), self.model.n_threads)

    def engine(self, n_threads: int | None = None) -> MeasuredEngine:
        """An engine over the model's weights with this number of threads."""
        threads = self.model.n_threads if n_threads is None else n_threads
        if threads not in self._engines:
            self._engines[threads] = MeasuredEngine(self.model.engine, threads)
        return self._engines[threads]

    def limits(self, n_threads: int | None = None) -> Limits:
        """What the machine can do now. The array is kept: making it is most of the work."""
        threads = self.model.n_threads if n_threads is None else n_threads
        cases = self.limit_cases()
        read, multiply = (case.measure(None, threads) for case in cases)
        return Limits(read.amount / read.seconds, multiply.amount / multiply.seconds)

    def limit_cases(self) -> tuple[ReadLimit, MultiplyLimit]:
        """Both limits as cases of `bench`."""
        if self._limit_cases is None:
            seconds = 0.02 if self.small else 0.15
            size = (128 if self.small else 512) << 20
            self._limit_cases = (ReadLimit(size, seconds), MultiplyLimit(seconds))
        return self._limit_cases

    def bytes_of_token(self, ids: Sequence[int]) -> float:
        """Bytes that one more greedy token after `ids` reads: weights, head and cache."""
        engine = self.engine()
        for _ in range(2):  # the second time, all but the last token is there already
            before = engine.counters()
            sequence = engine.sequence(list(ids), Sampler(SamplingParams()), max_tokens=1)
            engine.advance(sequence, to_end=True)
            engine.leave(sequence)
            counted = engine.counters() - before
        return bytes_per_token(
            self.model.graph, engine.store.layout, len(ids), counted.head_rows, counted.densities
        ).total

    def roofline(self, ids: Sequence[int], sequences: int = 1) -> Callable[[Limits], float]:
        """Tokens a second that limits allow for one more token after `ids` of each of so many
        sequences, greedy, whose weights are read once."""
        cache = (sequences - 1) * len(ids) * self.model.info()["kv_bytes_per_token"]
        nbytes = self.bytes_of_token(ids) + cache
        products = projection_multiply_adds(self.model.graph)
        return lambda limits: roofline(limits, sequences, nbytes, products)

    def facts(self, **more: Any) -> dict[str, Any]:
        """For `extra_info`: what ran and on what, and what else is known."""
        card = self._card
        return {
            "model": self.name,
            "weights": self.weights,
            "random_weights": self.random_weights,
            "parameters": self.model.info()["parameters"],
            "kv_dtype": self.model.kv_dtype,
            "tier": cpu.current_tier(),
            "threads": self.model.n_threads,
            "commit": card["commit"],
            "machine": card,
            **more,
        }


@contextlib.contextmanager
def open_subject(
    path: str | os.PathLike[str] | None, preset: str | None, n_threads: int | None
) -> Iterator[Subject]:
    """A checkpoint, the demo model, or random weights in the shapes of a preset, which are removed
    afterwards.

    The demo model runs on one thread unless told otherwise: its token takes a tenth of a
    millisecond, less than a thread waits for a CPU that another program has.
    """
    if path is None and preset is None and n_threads is None:
        n_threads = 1
    with contextlib.ExitStack() as stack:
        if preset is not None:
            folder = tempfile.TemporaryDirectory(prefix="ryzanstein-six-")
            path = make_checkpoint(stack.enter_context(folder), preset)
        found = None if path is None else Path(path).resolve()
        cached: bool = preset is None  # nothing is kept of weights that are thrown away
        model = stack.enter_context(BitNetModel(found, n_threads=n_threads, packed_cache=cached))
        name = preset or ("demo" if found is None else found.name)
        with open_checkpoint(found) as checkpoint:
            weights = checkpoint.content_digest()
        yield Subject(model, name, found, weights, preset is not None)
