"""What a checkpoint holds and how it would run, without loading it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from .formats import Checkpoint, open_checkpoint
from .memory import planned_memory
from .models import DecoderPlan, LoadOptions, plan_model
from .models.gguf_names import translate
from .models.projections import FLOAT_DTYPES
from .packed_cache import cache_directory
from .system.memory import machine_memory

__all__ = ["inspect_checkpoint"]


def inspect_checkpoint(
    path: str | os.PathLike[str] | None = None,
    *,
    context_length: int | None = None,
    kv_dtype: str | None = None,
    weight_format: str | None = None,
) -> dict[str, Any]:
    """Facts about a checkpoint, from its config and its header.

    Parameters
    ----------
    path, context_length, kv_dtype, weight_format
        As for `estimate_memory`.

    Returns
    -------
    dict
        path (a Path), family, tensors (the number of tensors by type, the commonest first), weights
        (how ternary weights are stored), activations ("token": int8 with a scale for each token;
        "group64" or "group128": with one for each group), layout (that of most matrices in memory),
        tied_head, parameters, context_length, has_tokenizer, has_chat_template, memory (a
        MemoryEstimate), machine_memory (bytes, or None if unknown).

    Raises
    ------
    As `estimate_memory`.
    """
    options = LoadOptions(1, None, weight_format)
    with open_checkpoint(path) as opened:
        checkpoint = translate(opened)
        plan = plan_model(checkpoint, options)
        memory = planned_memory(
            plan, checkpoint, cache_directory(), context_length, kv_dtype or "bfloat16"
        )
        config = plan.description.config
        types = Counter(checkpoint.info(name).dtype for name in checkpoint.names)
        per_group = f"group{plan.group_layout.removeprefix('groups')}" if plan.group_layout else ""
        return {
            "path": Path(checkpoint.path),
            "family": plan.description.family,
            "tensors": dict(types.most_common()),
            "weights": _weights(plan, checkpoint),
            "activations": "token" if plan.activations == "token" else per_group,
            "layout": next(iter(plan.layers[0].matrices.values())).layout,
            "tied_head": plan.head is None,
            "parameters": plan.n_parameters,
            "context_length": config.context_length,
            "has_tokenizer": _has_tokenizer(checkpoint),
            "has_chat_template": checkpoint.chat_template is not None,
            "memory": memory,
            "machine_memory": machine_memory(),
        }


def _has_tokenizer(checkpoint: Checkpoint) -> bool:
    if checkpoint.metadata is None:
        return checkpoint.tokenizer_path is not None
    return bool(checkpoint.metadata.get("tokenizer.ggml.model", "none") != "none")


def _weights(plan: DecoderPlan, checkpoint: Checkpoint) -> str:
    """The rule that makes numbers of what is stored."""
    quantization = plan.description.config.quantization
    dtype = checkpoint.info(plan.layers[0].matrices["q"].name).dtype
    if dtype == "U8":
        return "packed, " + (
            "divided by weight_scale" if quantization.divides else "multiplied by weight_scale"
        )
    if dtype == "U32":
        return f"MLX with two bits and a scale for each {quantization.mlx_group} columns"
    if dtype not in FLOAT_DTYPES:
        return f"{dtype}, ternary as stored"
    return f"{dtype}, " + (
        "masters made ternary by absmean" if plan.absmean else "ternary as stored"
    )
