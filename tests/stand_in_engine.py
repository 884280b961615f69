"""A stand-in for the engine behind the command line: it records what it was asked for, and says
what it is told to say."""

from __future__ import annotations

import dataclasses

import pytest

import ryzanstein_llm
from ryzanstein_llm import sampling
from ryzanstein_llm.generation import GenerationResult, Timings
from ryzanstein_llm.system.threads import ThreadChoice

CPU = {
    "features": ["avx2", "fma"],
    "tier": "avx2",
    "available_tiers": ["scalar", "avx2"],
    "compiled_tiers": ["scalar", "avx2", "avxvnni"],
}


class FakeStream:
    """What `FakeModel.stream` gives: `pieces` one by one, of which an exception is raised."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)
        self._said = []

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self._pieces)
        if isinstance(piece, BaseException):
            raise piece
        self._said.append(piece)
        return piece

    def close(self):
        pass

    @property
    def result(self):
        return GenerationResult("".join(self._said), [5, 6], "length", 3, 0, Timings(0.5, [0.25]))


class FakeModel:
    """Records how it was made and used; streams `pieces`."""

    pieces = (" there", " was", "", " a cat", ".")
    made = None

    def __init__(
        self, path=None, *, n_threads=None, context_length=None, kv_dtype=None, weight_format=None,
        packed_cache=None, progress=None,
    ):  # fmt: skip
        self.context_length, self.kv_dtype = context_length, kv_dtype
        self.path, self.n_threads, self.closed = path, n_threads, False
        self.weight_format, self.packed_cache = weight_format, packed_cache
        FakeModel.made = self
        progress(1, 2, "repacking")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def stream(self, prompt, *, max_tokens, sampling, stop, **options):
        self.prompt, self.max_tokens, self.sampling, self.stop = prompt, max_tokens, sampling, stop
        self.options = options
        return FakeStream(self.pieces)

    def info(self):
        return {
            "family": "bitnet",
            "path": "/models/cat",
            "n_layers": 6,
            "hidden_size": 256,
            "vocab_size": 4096,
            "context_length": 512,
            "parameters": 5780000,
            "weight_bytes": 3300000,
            "weight_format": "1.6bit",
            "packed_file": None,
            "kv_bytes_per_token": 3096,
            "kv_cache_bytes": 4194304,
            "kv_dtype": "int8",
            "tier": "avx2",
            "threads": ThreadChoice(2, "2 physical cores", 4, 2.5, 2),
            "eos_ids": (1, 7),
            "has_tokenizer": True,
        }


@dataclasses.dataclass(frozen=True)
class FakeSampling(sampling.SamplingParams):
    """SamplingParams, checks and all; of a checkpoint it keeps only what it was given."""

    @classmethod
    def from_checkpoint(cls, model, **overrides):
        assert isinstance(model, FakeModel)
        model.given = overrides
        return cls(**overrides)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Put the stand-in where the command line looks for the engine."""
    monkeypatch.setattr(ryzanstein_llm, "BitNetModel", FakeModel)
    monkeypatch.setattr(ryzanstein_llm, "cpu_info", lambda: CPU)
    monkeypatch.setattr(sampling, "SamplingParams", FakeSampling)
    monkeypatch.delenv("RYZANSTEIN_ISA", raising=False)
    monkeypatch.setattr(FakeModel, "pieces", FakeModel.pieces)
    monkeypatch.setattr(FakeModel, "made", None)
    return FakeModel
