"""Small random BitNet checkpoints in both published forms.

The numbers are drawn so that every part of the decoder matters: each projection has
its own scale, norm weights vary, and attention is neither uniform nor one-hot.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .checkpoint import Tensor, to_bfloat16, write_safetensors
from .ternary import pack_rows

Form = Literal["packed", "master"]

NONZERO = 0.6  # share of ±1 among the ternary weights of trained models, roughly


def bitnet_config(**changes: Any) -> dict[str, Any]:
    """A `config.json` of a tiny model as it is published; `changes` replace or add keys."""
    config: dict[str, Any] = {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_act": "relu2",
        "hidden_size": 192,
        "intermediate_size": 320,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": 131,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }
    return {**config, **changes}


def quantization_config(form: Form, linear_class: str | None) -> dict[str, Any]:
    """The `quantization_config` entry; `linear_class` None leaves the key out."""
    entry: dict[str, Any] = {"quant_method": "bitnet"}
    if linear_class is not None:
        entry["linear_class"] = linear_class
        entry["quantization_mode"] = "offline" if form == "packed" else "online"
    return entry


def random_tensors(
    config: dict[str, Any], form: Form, linear_class: str | None, seed: int
) -> dict[str, Tensor]:
    """All tensors by their published names; floats are float32 whose value bfloat16 holds."""
    generator = np.random.default_rng(seed)
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    tensors: dict[str, Tensor] = {}

    def floats(values: Tensor) -> Tensor:
        bits = to_bfloat16(values).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(values.shape)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"] = floats(generator.normal(1.0, 0.2, width))

    def linear(name: str, rows: int, columns: int) -> None:
        # Outputs of about `gain` for inputs of about 1; every projection has its own gain.
        multiplier = generator.uniform(0.5, 2.0) / np.sqrt(NONZERO * columns)
        if form == "master":
            spread = multiplier * np.sqrt(np.pi / 2)  # the mean of |N(0, spread)| is `multiplier`
            tensors[f"{name}.weight"] = floats(generator.normal(0.0, spread, (rows, columns)))
            return
        t = generator.choice([-1, 0, 1], (rows, columns), p=[NONZERO / 2, 1 - NONZERO, NONZERO / 2])
        stored = multiplier if linear_class == "autobitlinear" else 1.0 / multiplier
        tensors[f"{name}.weight"] = pack_rows(t.astype(np.int8))
        tensors[f"{name}.weight_scale"] = floats(np.array([stored]))

    tensors["model.embed_tokens.weight"] = floats(
        generator.normal(0.0, 1.0, (config["vocab_size"], hidden))
    )
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        norm(prefix + "input_layernorm", hidden)
        linear(prefix + "self_attn.q_proj", heads * head_dim, hidden)
        linear(prefix + "self_attn.k_proj", kv_heads * head_dim, hidden)
        linear(prefix + "self_attn.v_proj", kv_heads * head_dim, hidden)
        norm(prefix + "self_attn.attn_sub_norm", heads * head_dim)
        linear(prefix + "self_attn.o_proj", hidden, heads * head_dim)
        norm(prefix + "post_attention_layernorm", hidden)
        linear(prefix + "mlp.gate_proj", ffn, hidden)
        linear(prefix + "mlp.up_proj", ffn, hidden)
        norm(prefix + "mlp.ffn_sub_norm", ffn)
        linear(prefix + "mlp.down_proj", hidden, ffn)
    norm("model.norm", hidden)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = floats(
            generator.normal(0.0, 1.0, (config["vocab_size"], hidden))
        )
    return tensors


def write_checkpoint(
    directory: Path, config: dict[str, Any], tensors: dict[str, Tensor], dtype: str = "bfloat16"
) -> Path:
    """Write `config.json` and `model.safetensors`, with floats of `dtype` (torch's name for it)."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    floats = {name for name, tensor in tensors.items() if tensor.dtype == np.float32}
    if dtype == "float16":
        tensors = {
            name: tensor.astype(np.float16) if name in floats else tensor
            for name, tensor in tensors.items()
        }
    narrow = floats if dtype == "bfloat16" else set()
    write_safetensors(directory / "model.safetensors", tensors, bfloat16=narrow)
    return directory


def write_random_checkpoint(
    directory: Path,
    *,
    form: Form = "packed",
    linear_class: str | None = "autobitlinear",
    seed: int = 0,
    dtype: str = "bfloat16",
    **changes: Any,
) -> Path:
    """A random checkpoint directory; `changes` go to `bitnet_config`."""
    config = bitnet_config(**changes)
    config["quantization_config"] = quantization_config(form, linear_class)
    return write_checkpoint(
        directory, config, random_tensors(config, form, linear_class, seed), dtype
    )
