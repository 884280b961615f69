"""Every family computes what the NumPy reference computes, whatever parts its layers have.

Prompts are free of rounding ties (see `reference.steady`), so five digits agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import (
    FamilyReference,
    relative_error,
    steady_prompts,
    write_random_family,
)

from ryzanstein_llm import BitNetModel

STEADY_TOLERANCE = 1e-5
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

# Each for a reason its name gives: (model_type, form, changes of the config or of the tensors).
TINY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama-packed-divide": ("llama", "packed", {}),
    "llama-packed-multiply": ("llama", "packed", {"linear_class": "autobitlinear"}),
    "llama-masters": ("llama", "master", {}),
    "llama-no-groups": ("llama", "packed", {"num_key_value_heads": 4}),
    "llama-tied": ("llama", "packed", {"tie_word_embeddings": True}),
    "llama-wide-heads": ("llama", "packed", {"head_dim": 64}),
    "llama-biases": ("llama", "packed", {"attention_bias": True, "mlp_bias": True}),
    "llama-linear-rope": (
        "llama", "packed", {"rope_scaling": {"type": "linear", "factor": 2.5}},
    ),
    "llama-3.1-rope": (
        "llama", "packed", {
            "rope_parameters": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                "rope_theta": 5000.0,
            },
            "rope_theta": None,
        },
    ),
    "1bitllm": ("bitnet", "master", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "1bitllm-odd-sizes": (
        "bitnet", "master", {
            "hidden_size": 200, "intermediate_size": 270, "num_attention_heads": 2,
            "num_key_value_heads": 2, "tie_word_embeddings": True,
        },
    ),
    "qwen2-biases": ("qwen2", "packed", {}),
    "qwen3-norms-before-rope": ("qwen3", "packed", {}),
    "qwen3-masters-tied": ("qwen3", "master", {"tie_word_embeddings": True}),
    "qwen3-yarn": ("qwen3", "packed", {"rope_scaling": YARN}),
    "qwen3-biases": ("qwen3", "packed", {"attention_bias": True}),
    "embedding-0.6b": (
        "qwen3", "master", {"projection_norms": True, "tie_word_embeddings": True, "prefix": ""},
    ),
    "hunyuan-norms-after-rope": (
        "hunyuan_v1_dense", "packed", {
            "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
        },
    ),
    "gemma3-packed": ("gemma3_text", "packed", {"tie_word_embeddings": True}),
    "embedding-270m": (
        "gemma3_text", "master", {"projection_norms": True, "tie_word_embeddings": True},
    ),
}  # fmt: skip


def write_tiny_family(name: str, directory: Path) -> Path:
    model_type, form, changes = TINY[name]
    return write_random_family(
        directory / name, model_type, form, seed=sorted(TINY).index(name), **changes
    )


@pytest.mark.parametrize("name", TINY)
def test_logits_are_the_references(name: str, tier: str, tmp_path: Path) -> None:
    directory = write_tiny_family(name, tmp_path)
    reference = FamilyReference.open(directory)
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        for ids in steady_prompts(reference, 2, 9):
            error = relative_error(model.forward(ids), reference.forward(ids))
            assert np.max(error) < STEADY_TOLERANCE
