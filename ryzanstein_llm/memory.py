"""How much memory a model needs, before it is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .engine.blocks import resident_cache_bytes
from .engine.compute import PASS_TOKENS
from .formats import Checkpoint, open_checkpoint
from .interfaces.kv_layout import KV_DTYPES, KVLayout
from .model import DEFAULT_KV_DTYPE
from .models import WEIGHT_FORMATS, DecoderPlan, LoadOptions, plan_model
from .models.gguf_names import translate
from .models.memory import pass_bytes, weight_memory
from .packed_cache import cache_directory
from .system.threads import choose_threads
from .text_table import format_bytes
from .validation import check_bool, check_choice, check_int

__all__ = ["MemoryEstimate", "estimate_memory", "planned_memory"]

MOST_SEQUENCES = 1 << 16

TOKEN_BYTES = 320
"""Memory of a tokenizer for each token. Measured: 293 and 350 bytes of two byte-level vocabularies
of 128,000 tokens, with 128,000 and 280,000 merges."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory that a model takes, in bytes. The interpreter and the libraries come on top.

    Attributes
    ----------
    weights : int
        Ternary weights of the layers, norms and biases.
    embedding : int
        Embedding and output head.
    mapped : int
        The part of `embedding` that is mapped from the checkpoint. The system reads its pages when
        they are needed, and drops them if memory runs short.
    screen : int
        The screen of the output head.
    kv_cache : int
        Keys and values of `sequences` texts of `context_length` tokens. They are kept in blocks of
        256 tokens, and each block takes whole pages, of 2 MiB where the system gives huge pages. A
        model that goes on running keeps those of earlier prompts too, as far as
        `prefix_cache_bytes` allows.
    tokenizer : int
        The vocabulary and its merges.
    workspace : int
        Activations of a pass, scratch memory of each thread, and tables of positions.
    peak_while_loading : int
        The most that loading takes at a time, if no file of packed weights is there yet.
    total : int
        The sum of all parts, when every row of embedding and head has been read. Greedy decoding
        reads few of them.
    """

    weights: int
    embedding: int
    mapped: int
    screen: int
    kv_cache: int
    tokenizer: int
    workspace: int
    peak_while_loading: int
    total: int

    @property
    def needed(self) -> int:
        """The larger one of `total` and `peak_while_loading`."""
        return max(self.total, self.peak_while_loading)

    def __repr__(self) -> str:
        parts = ("weights", "embedding", "screen", "kv_cache", "tokenizer", "workspace")
        shown = ", ".join(f"{part} {format_bytes(getattr(self, part))}" for part in parts)
        return (
            f"MemoryEstimate(total {format_bytes(self.total)}: {shown}; "
            f"{format_bytes(self.peak_while_loading)} while loading)"
        )


def estimate_memory(
    path: str | os.PathLike[str] | None = None,
    *,
    context_length: int | None = None,
    kv_dtype: str | None = None,
    skipping: bool | None = None,
    weight_format: str | None = None,
    packed_cache: bool | str | os.PathLike[str] = True,
    sequences: int = 1,
    n_threads: int | None = None,
) -> MemoryEstimate:
    """How much memory a model takes, without loading it. Of its weights, only what decides the
    layout is read: the scales of one matrix, and a few rows of the embedding.

    Parameters
    ----------
    path, context_length, kv_dtype, skipping, weight_format, packed_cache, n_threads
        As for `BitNetModel`. Of a model whose packed weights are kept in a file, the peak is lower.
    sequences : int
        Texts of `context_length` tokens whose keys and values are kept at the same time.

    Raises
    ------
    CheckpointNotFoundError, FormatError, UnsupportedModelError
        As for `BitNetModel`, as far as it shows without reading all weights.
    InvalidParameterError
        If an argument is out of range.
    """
    kind = DEFAULT_KV_DTYPE if kv_dtype is None else kv_dtype
    check_choice("kv_dtype", kind, KV_DTYPES)
    if weight_format is not None:
        check_choice("weight_format", weight_format, WEIGHT_FORMATS)
    if skipping is not None:
        check_bool("skipping", skipping)
    check_int("sequences", sequences, 1, MOST_SEQUENCES)
    with open_checkpoint(path) as opened:
        checkpoint = translate(opened)
        plan = plan_model(checkpoint, LoadOptions(1, skipping, weight_format))
        directory = cache_directory(packed_cache)
        return planned_memory(
            plan, checkpoint, directory, context_length, kind, sequences, n_threads
        )


def planned_memory(
    plan: DecoderPlan,
    checkpoint: Checkpoint,
    directory: Path | None,
    context_length: int | None = None,
    kv_dtype: str = DEFAULT_KV_DTYPE,
    sequences: int = 1,
    n_threads: int | None = None,
) -> MemoryEstimate:
    """The estimate for a checkpoint that is open already; see `estimate_memory`. `directory` is
    that of packed weights, or None."""
    config = plan.description.config
    limit = config.context_length
    context = check_int(
        "context_length", limit if context_length is None else context_length, 1, limit
    )
    layout = KVLayout(KV_DTYPES[kv_dtype], config.n_layers, config.n_kv_heads, config.head_dim)
    found = weight_memory(plan, checkpoint, directory)
    kv_cache = sequences * resident_cache_bytes(layout, context)
    # of each position cosines and sines, for each kind of layer
    positions = max(context, min(1024, limit))
    tables = 4 * config.head_dim * positions * (1 if config.window is None else 2)
    threads = choose_threads(n_threads).for_model(plan.n_parameters).count
    has_tokenizer = checkpoint.tokenizer_path is not None or (
        "tokenizer.ggml.tokens" in (checkpoint.metadata or {})
    )
    tokenizer = TOKEN_BYTES * config.vocab_size * has_tokenizer
    workspace = tables + pass_bytes(plan, min(PASS_TOKENS, context), threads)
    rest = kv_cache + tokenizer + workspace
    return MemoryEstimate(
        weights=found.weights,
        embedding=found.embedding,
        mapped=found.mapped,
        screen=found.screen,
        kv_cache=kv_cache,
        tokenizer=tokenizer,
        workspace=workspace,
        peak_while_loading=found.peak + tokenizer,
        total=found.weights + found.embedding + found.screen + rest,
    )
