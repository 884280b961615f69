"""Facts about an open model, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .interfaces.kv_layout import KVLayout
from .kernels import cpu
from .models import CausalLM
from .system.threads import ThreadChoice
from .text.vocabulary import Vocabulary
from .text_table import plural

__all__ = ["facts_for_people", "model_facts", "one_line"]


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
