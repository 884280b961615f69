"""From the names and the config of a family to those of a GGUF file: the way back of
models/gguf_names.py and models/gguf_config.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConversionError
from ..models.description import Description
from ..models.gguf_architectures import ARCHITECTURES
from ..models.gguf_names import OUTSIDE_LAYERS, PROJECTIONS

__all__ = ["architecture_for", "architecture_keys", "gguf_name"]

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "bitnet": "bitnet-b1.58",
}
OF_1BITLLM = "bitnet"


def architecture_for(description: Description, path: object) -> str:
    """The key of ARCHITECTURES for a model.

    Raises
    ------
    ConversionError
        Files of GGUF have no place for something that the model needs.
    """
    config = description.config
    if description.family not in FAMILIES:
        raise ConversionError(
            f"{path}: family {description.family!r} cannot be written as GGUF; "
            f"supported: {', '.join(map(repr, FAMILIES))}"
        )
    refused = {
        "rope_type": (config.rope.kind, ("default", "linear", "yarn")),
        "norm_offset": (config.norm_offset, (0,)),
        "embedding_multiplier": (config.embedding_multiplier, (1,)),
        "residual_multiplier": (config.residual_multiplier, (1,)),
        "logits_multiplier": (config.logits_multiplier, (1,)),
    }
    for key, (value, allowed) in refused.items():
        if value not in allowed:
            raise ConversionError(f"{path}: {key} {value!r} has no place in a GGUF file")
    norms = ARCHITECTURES[OF_1BITLLM].norms.values()
    if description.family == "bitnet" and description.names.ffn_sub_norm in norms:
        return OF_1BITLLM
    return FAMILIES[description.family]


def gguf_name(name: str, architecture: str) -> str | None:
    """The name in the file of a tensor, such as "model.layers.0.mlp.up_proj.weight"; None if it has
    no place there."""
    full = name if name.startswith(("model.", "lm_head.")) else f"model.{name}"
    for stored, translated in OUTSIDE_LAYERS.items():
        if full == translated:
            return stored
    parts = {**PROJECTIONS, **ARCHITECTURES[architecture].norms}
    parts |= {f"{stored}_norm_in": f"{own}.norm" for stored, own in PROJECTIONS.items()}
    layer, _, tail = full.removeprefix("model.layers.").partition(".")
    stem, _, kind = tail.rpartition(".")
    for stored, own in parts.items():
        if stem == own:
            return f"blk.{layer}.{stored}.{kind}"
    return None


def architecture_keys(description: Description, architecture: str) -> Mapping[str, Any]:
    """The keys that describe the graph, with their prefix."""
    config = description.config
    keys: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "block_count": config.n_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope.theta),
    }
    rope = config.rope
    if rope.kind != "default":
        keys |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": float(rope.factor)}
    if rope.kind == "yarn":
        keys |= {
            "rope.scaling.original_context_length": rope.original_length,
            "rope.scaling.yarn_beta_fast": float(rope.beta_fast),
            "rope.scaling.yarn_beta_slow": float(rope.beta_slow),
        }
    return {f"{architecture}.{key}": value for key, value in keys.items()}
