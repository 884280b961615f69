"""A small random model for tests of the engine: two layers, three query heads on one KV head,
nothing a multiple of a register, a context of five cache blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ryzanstein_llm.testing import make_checkpoint

CONFIG: dict[str, Any] = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "hidden_size": 120,
    "intermediate_size": 200,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 40,
    "num_hidden_layers": 2,
    "vocab_size": 301,
    "max_position_embeddings": 1280,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def write_small_model(directory: Path, **options: Any) -> Path:
    """Write it, without a tokenizer unless asked."""
    return make_checkpoint(directory, CONFIG, **{"tokenizer": False, "seed": 5, **options})


def prompt(length: int) -> list[int]:
    """Token ids, the same every time."""
    ids: list[int] = (
        np.random.default_rng(length).integers(2, CONFIG["vocab_size"], length).tolist()
    )
    return ids
