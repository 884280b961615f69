"""The tiny random models that whole decoders are compared on, each for a reason its name gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .random_checkpoint import write_random_checkpoint

# Every hidden size but one is no multiple of 256; in transformers' BitNet the heads
# together are always as wide as the hidden size.
TINY_MODELS: dict[str, dict[str, Any]] = {
    "packed-multiply-3-heads-on-1": {
        "form": "packed",
        "linear_class": "autobitlinear",
    },
    "packed-divide-3-heads-on-1": {
        "form": "packed",
        "linear_class": "bitlinear",
    },
    "packed-without-linear-class": {
        "form": "packed",
        "linear_class": None,
        "hidden_size": 128,
        "intermediate_size": 200,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 97,
    },
    "packed-head-dim-80-untied": {
        "form": "packed",
        "linear_class": "autobitlinear",
        "hidden_size": 320,
        "intermediate_size": 456,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 80,
        "vocab_size": 301,
        "tie_word_embeddings": False,
    },
    "packed-divide-head-dim-128-untied": {
        "form": "packed",
        "linear_class": "bitlinear",
        "hidden_size": 384,
        "intermediate_size": 640,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "head_dim": 128,
        "vocab_size": 257,
        "tie_word_embeddings": False,
        "rope_theta": 500000.0,
    },
    "packed-4-heads-on-1-large-eps": {
        "form": "packed",
        "linear_class": "autobitlinear",
        "hidden_size": 256,
        "intermediate_size": 260,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "vocab_size": 511,
        "rms_norm_eps": 1e-3,
    },
    "master-small-heads": {
        "form": "master",
        "linear_class": "autobitlinear",
        "hidden_size": 96,
        "intermediate_size": 100,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 67,
        "rms_norm_eps": 1e-6,
    },
    "master-float32-head-dim-64": {
        "form": "master",
        "linear_class": "autobitlinear",
        "dtype": "float32",
        "num_key_value_heads": 3,
        "head_dim": 64,
        "rope_theta": 1000000.0,
    },
    "master-float16-head-dim-80-untied": {
        "form": "master",
        "linear_class": "autobitlinear",
        "dtype": "float16",
        "hidden_size": 320,
        "intermediate_size": 500,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 80,
        "vocab_size": 211,
        "tie_word_embeddings": False,
    },
    "master-8-heads-on-2-silu": {
        "form": "master",
        "linear_class": "autobitlinear",
        "hidden_act": "silu",
        "hidden_size": 192,
        "intermediate_size": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 129,
    },
    "packed-divide-5-heads-gelu": {
        "form": "packed",
        "linear_class": "bitlinear",
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 160,
        "intermediate_size": 224,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "vocab_size": 83,
    },
}


def write_tiny_model(name: str, directory: Path, **changes: Any) -> Path:
    """Write one of them below `directory` and return its own; `changes` go to its config."""
    seed = sorted(TINY_MODELS).index(name)
    return write_random_checkpoint(directory / name, seed=seed, **{**TINY_MODELS[name], **changes})


# So narrow that even hundreds of tokens can be free of rounding ties; see `steady`.
NARROW: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 61,
    "max_position_embeddings": 1024,
}
