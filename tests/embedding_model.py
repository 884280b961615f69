"""Tiny random checkpoints of the families of bitnet-embedding, with a tokenizer, and as GGUF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf_writer import Stored, encode_gguf
from reference import absmean, encodings, read_safetensors, write_random_family

from ryzanstein_llm.testing.tokenizer_files import tokenizer_config_json, tokenizer_json

FAMILIES = ("qwen3", "gemma3_text")


def write_embedding_model(
    directory: Path, model_type: str = "qwen3", *, add_eos: bool = False, **changes: Any
) -> Path:
    """Masters with a norm before each projection. Texts begin with BOS, id 0, and end with EOS, id
    1, if `add_eos`. `changes` go to `write_random_family`."""
    options = {"vocab_size": 300, "eos_token_id": 1, "tie_word_embeddings": True, **changes}
    write_random_family(directory, model_type, "master", projection_norms=True, **options)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    write_json(directory / "tokenizer.json", tokenizer_json(config))
    settings = {**tokenizer_config_json(config), "add_eos_token": add_eos}
    write_json(directory / "tokenizer_config.json", settings)
    return directory


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


# Tensors of a layer: Hugging Face's name -> that of GGUF, but for norms that families name apart.
PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
}  # fmt: skip
NORMS = {
    "qwen3": {"post_attention_layernorm": "ffn_norm"},
    "gemma3_text": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
ARCHITECTURES = {"qwen3": "qwen3", "gemma3_text": "gemma3"}
KEYS = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "sliding_window": "attention.sliding_window",
}


def write_embedding_gguf(
    directory: Path, extra: Mapping[str, Any] | None = None, **metadata: Any
) -> Path:
    """The checkpoint in `directory` as Microsoft converts it: I2_S of its masters, and Gemma's own
    norms with 1 added. `metadata` are further keys of the architecture, `extra` others."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    own = {f"{architecture}.{new}": config[old] for old, new in KEYS.items() if old in config}
    own |= {f"{architecture}.{key}": value for key, value in metadata.items()}
    stored = []
    for name, tensor in read_safetensors(directory / "model.safetensors").items():
        new = _gguf_name(name, config["model_type"])
        if name.endswith("_proj.weight"):
            ternary = absmean(tensor)
            data = encodings.i2_s(ternary.t, np.array([[ternary.multiplier]], np.float32))
            stored.append(Stored(new, 36, tensor.shape, data.tobytes()))
        elif tensor.ndim == 2:
            stored.append(Stored(new, 1, tensor.shape, tensor.astype(np.float16).tobytes()))
        else:
            shifted = architecture == "gemma3" and not name.endswith("_proj.norm.weight")
            values = tensor.astype(np.float32) + np.float32(shifted)
            stored.append(Stored(new, 0, tensor.shape, values.tobytes()))
    path = directory / "model.gguf"
    keys = {"general.architecture": architecture, **own, **(extra or {})}
    path.write_bytes(encode_gguf(keys, stored))
    return path


def _gguf_name(name: str, model_type: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    projection = part.removesuffix("_proj.norm") + "_proj"
    if part.endswith("_proj.norm"):
        return f"blk.{layer}.{PARTS[projection]}_norm_in.weight"
    names = {**PARTS, **NORMS[model_type]}
    return f"blk.{layer}.{names[part]}.weight"
