"""Facts about an open model, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .engine.blocks import resident_cache_bytes
from .engine.engine import Engine
from .interfaces.kv_layout import KVLayout
from .kernels import cpu
from .models import CausalLM
from .notebook import as_html
from .system.threads import ThreadChoice
from .text.tokenizer import Tokenizer
from .text.vocabulary import Vocabulary
from .text_table import plural

__all__ = ["ModelFacts", "facts_for_people", "model_facts", "one_line"]


def model_facts(
    graph: CausalLM,
    vocabulary: Vocabulary,
    layout: KVLayout,
    threads: ThreadChoice,
    context_length: int,
    packed_file: Path | None,
) -> dict[str, Any]:
    """See `BitNetModel.info`."""
    return {
        "family": graph.family,
        "path": vocabulary.path,
        "n_layers": graph.config.n_layers,
        "hidden_size": graph.config.hidden_size,
        "vocab_size": vocabulary.size,
        "context_length": context_length,
        "parameters": graph.n_parameters,
        "weight_bytes": graph.weight_bytes,
        "weight_format": graph.weight_format,
        "packed_file": packed_file,
        "kv_bytes_per_token": layout.bytes_per_position,
        "kv_cache_bytes": resident_cache_bytes(layout, context_length),
        "kv_dtype": layout.kind,
        "tier": cpu.current_tier(),
        "threads": threads,
        "eos_ids": vocabulary.eos_ids,
        "has_tokenizer": vocabulary.tokenizer is not None,
    }


def facts_for_people(info: Mapping[str, Any]) -> dict[str, str]:
    """The same facts in words, with units."""
    mapped = ", mapped from a file" if info["packed_file"] else ""
    return {
        "path": str(info["path"]),
        "family": info["family"],
        "parameters": f"{info['parameters'] / 1e6:,.1f} M",
        "layers": f"{info['n_layers']}, hidden size {info['hidden_size']:,}",
        "context": f"{info['context_length']:,} tokens, "
        f"{info['kv_bytes_per_token'] / 1e3:.1f} kB each ({info['kv_dtype']})",
        "memory": f"{info['weight_bytes'] / 1e6:,.1f} MB of weights "
        f"({info['weight_format']}{mapped})",
        "threads": f"{info['threads'].count}: {info['threads'].reason}",
        "kernels": info["tier"],
    }


def one_line(path: str, facts: Mapping[str, str], n_threads: int) -> str:
    """The most important of these facts."""
    if "state" in facts:
        return f"{path!r}, {facts['state']}"
    memory = facts["memory"].partition(" of ")[0]
    parameters = f"{facts['parameters']} parameters"
    return f"{path!r}, {facts['family']}, {parameters}, {memory}, {plural(n_threads, 'thread')}"


class ModelFacts:
    """The part of `BitNetModel` that only tells what is there."""

    engine: Engine
    vocabulary: Vocabulary
    threads: ThreadChoice
    path: Path
    _layout: KVLayout
    _facts: dict[str, Any]

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding; ids are 0..vocab_size-1."""
        return self.vocabulary.size

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The checkpoint's tokenizer, if it has one."""
        return self.vocabulary.tokenizer

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a text."""
        return self.vocabulary.eos_ids

    @property
    def start_id(self) -> int | None:
        """The token that an empty prompt begins with, or None."""
        return self.vocabulary.start_id

    @property
    def n_threads(self) -> int:
        """Number of threads of every compute call."""
        return self.threads.count

    @property
    def kv_dtype(self) -> str:
        """How keys and values are kept."""
        return self._layout.kind

    def info(self) -> dict[str, Any]:
        """Facts about the model and how it runs: family, path, n_layers, hidden_size, vocab_size,
        context_length, parameters, weight_bytes, weight_format, packed_file (the Path that packed
        weights are mapped from, or None), kv_bytes_per_token, kv_cache_bytes (memory that keys and
        values of context_length tokens take, in whole blocks and pages), kv_dtype, tier, threads (a
        ThreadChoice), eos_ids, has_tokenizer. A closed model gives them too."""
        return {**self._facts, "tier": cpu.current_tier()}

    def _table(self) -> dict[str, str]:
        """Facts in words. For a closed model, only its path."""
        if self.engine.closed:
            return {"path": str(self.path), "state": "closed"}
        return facts_for_people(self.info())

    def __repr__(self) -> str:
        return f"BitNetModel({one_line(str(self.path), self._table(), self.n_threads)})"

    def _repr_html_(self) -> str:
        return as_html("BitNetModel", self._table())
