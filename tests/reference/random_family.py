"""Tiny random checkpoints of every family, with the names that released ones have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import Tensor, to_bfloat16
from .random_checkpoint import NONZERO, write_checkpoint
from .ternary import pack_rows

# What is special about each family: architecture, keys, and tensors beside the usual ones.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu"},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "head_dim": 32},
    "hunyuan_v1_dense": {
        "architectures": ["HunYuanDenseV1ForCausalLM"],
        "hidden_act": "silu",
        "head_dim": 40,
    },
    "gemma3_text": {
        "architectures": ["Gemma3TextModel"],
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 32,
        "query_pre_attn_scalar": 48,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
    },
    "bitnet": {  # 1bitLLM's
        "architectures": ["BitnetForCausalLM"],
        "hidden_act": "silu",
        "weight_bits": 1,
        "input_bits": 8,
    },
}


def family_config(model_type: str, **changes: Any) -> dict[str, Any]:
    """A `config.json` of a tiny model of a family; `changes` replace or add keys, None removes."""
    config: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": 160,
        "intermediate_size": 200,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 131,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": [1, 2],
    }
    config |= {**FAMILIES[model_type], **changes}
    return {key: value for key, value in config.items() if value is not None}


def family_tensors(
    config: dict[str, Any],
    form: str,
    seed: int,
    *,
    projection_norms: bool = False,
    prefix: str = "model.",
    ternary_embedding: bool = False,
) -> dict[str, Tensor]:
    """All tensors by their published names; floats are float32 that bfloat16 and float16 hold.

    form : how projections are stored
        "packed", "master", or already ternary with a scale for each "tensor", "row", or "group64",
        "group128", "group256".
    ternary_embedding : whether embedding and head are stored in that form, too
    """
    generator = np.random.default_rng(seed)
    family, hidden, ffn = config["model_type"], config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    linear_class = config.get("quantization_config", {}).get("linear_class")
    tensors: dict[str, Tensor] = {}

    def floats(values: Tensor) -> Tensor:
        bits = to_bfloat16(values).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(values.shape)

    def norm(name: str, width: int, centre: float | None = None) -> None:
        middle = (0.0 if family == "gemma3_text" else 1.0) if centre is None else centre
        tensors[f"{name}.weight"] = floats(generator.normal(middle, 0.2, width))

    def linear(name: str, rows: int, columns: int, bias: bool = False) -> None:
        multiplier = generator.uniform(0.5, 2.0) / np.sqrt(NONZERO * columns)
        t = generator.choice([-1, 0, 1], (rows, columns), p=[NONZERO / 2, 1 - NONZERO, NONZERO / 2])
        if form == "packed":
            stored = multiplier if linear_class == "autobitlinear" else 1.0 / multiplier
            tensors[f"{name}.weight"] = pack_rows(t.astype(np.int8))
            tensors[f"{name}.weight_scale"] = floats(np.array([stored]))
        elif form == "master":
            spread = multiplier * np.sqrt(np.pi / 2)
            tensors[f"{name}.weight"] = floats(generator.normal(0.0, spread, (rows, columns)))
        else:
            tensors[f"{name}.weight"] = (
                t * _scales(generator, form, rows, columns, multiplier)
            ).astype(np.float32)
        if bias:
            tensors[f"{name}.bias"] = floats(generator.normal(0.0, 0.3, rows))
        if projection_norms:
            norm(f"{name}.norm", columns, 1.0)

    def embedding(name: str, spread: float) -> None:
        shape = (config["vocab_size"], hidden)
        if ternary_embedding:
            t = generator.choice([-1, 0, 1], shape)
            tensors[name] = (t * _scales(generator, form, *shape, spread)).astype(np.float32)
        else:
            tensors[name] = floats(generator.normal(0.0, spread, shape))

    embedding(f"{prefix}embed_tokens.weight", 0.2 if family == "gemma3_text" else 1.0)
    biased = family == "qwen2" or config.get("attention_bias", False)
    for layer in range(config["num_hidden_layers"]):
        at = f"{prefix}layers.{layer}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        norm(f"{at}.input_layernorm", hidden)
        linear(f"{attention}.q_proj", heads * head_dim, hidden, biased)
        linear(f"{attention}.k_proj", kv_heads * head_dim, hidden, biased)
        linear(f"{attention}.v_proj", kv_heads * head_dim, hidden, biased)
        linear(f"{attention}.o_proj", hidden, heads * head_dim, biased and family != "qwen2")
        names = {"qwen3": ("q_norm", "k_norm"), "gemma3_text": ("q_norm", "k_norm")}
        names["hunyuan_v1_dense"] = ("query_layernorm", "key_layernorm")
        for name in names.get(family, ()):
            norm(f"{attention}.{name}", head_dim)
        if family == "bitnet":
            norm(f"{attention}.inner_attn_ln", heads * head_dim)
            norm(f"{mlp}.ffn_layernorm", ffn)
        norm(f"{at}.post_attention_layernorm", hidden)
        if family == "gemma3_text":
            norm(f"{at}.pre_feedforward_layernorm", hidden)
            norm(f"{at}.post_feedforward_layernorm", hidden)
        with_bias = config.get("mlp_bias", False)
        linear(f"{mlp}.gate_proj", ffn, hidden, with_bias)
        linear(f"{mlp}.up_proj", ffn, hidden, with_bias)
        linear(f"{mlp}.down_proj", hidden, ffn, with_bias)
    norm(f"{prefix}norm", hidden)
    if not config.get("tie_word_embeddings", False):
        embedding("lm_head.weight", 1.0)
    return tensors


def _scales(
    generator: np.random.Generator, form: str, rows: int, columns: int, multiplier: float
) -> Tensor:
    """Scales that float16 and bfloat16 hold, spread over (rows, columns)."""
    width = {"tensor": columns, "row": columns}.get(form) or int(form.removeprefix("group"))
    shape = (1, 1) if form == "tensor" else (rows, -(-columns // width))
    rough = multiplier * generator.uniform(0.7, 1.4, shape)
    scales = (to_bfloat16(rough).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    scales = scales.astype(np.float16).astype(np.float32)
    return np.broadcast_to(np.repeat(scales, width, axis=1)[:, :columns], (rows, columns))


def write_random_family(
    directory: Path,
    model_type: str,
    form: str = "packed",
    *,
    seed: int = 0,
    dtype: str = "bfloat16",
    linear_class: str | None = None,
    projection_norms: bool = False,
    prefix: str = "model.",
    ternary_embedding: bool = False,
    **changes: Any,
) -> Path:
    """A random checkpoint directory; `changes` go to `family_config`."""
    config = family_config(model_type, **changes)
    if form == "packed" or (form == "master" and model_type != "bitnet" and not projection_norms):
        config["quantization_config"] = {"quant_method": "bitnet"}
        if linear_class is not None:
            config["quantization_config"]["linear_class"] = linear_class
    tensors = family_tensors(
        config, form, seed, projection_norms=projection_norms, prefix=prefix,
        ternary_embedding=ternary_embedding,
    )  # fmt: skip
    return write_checkpoint(directory, config, tensors, dtype)
