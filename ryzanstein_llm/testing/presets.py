"""Model configurations by name, as in `config.json`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..validation import check_choice
from .family_presets import FAMILY_PRESETS

__all__ = ["PRESETS", "preset_config", "preset_generation_config"]

_BITNET_2B: dict[str, Any] = {
    "architectures": ["BitNetForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_bitnet.BitNetConfig",
        "AutoModelForCausalLM": "modeling_bitnet.BitNetForCausalLM",
    },
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "relu2",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 6912,
    "max_position_embeddings": 4096,
    "model_type": "bitnet",
    "num_attention_heads": 20,
    "num_hidden_layers": 30,
    "num_key_value_heads": 5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 128256,
}

_TALES_6M: dict[str, Any] = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 6,
    "vocab_size": 4096,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}

PRESETS: dict[str, dict[str, Any]] = {
    "bitnet-b1.58-2B-4T": _BITNET_2B,
    "tales-6m": _TALES_6M,
    "tiny": _TALES_6M
    | {
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 2,
        "vocab_size": 512,
        "max_position_embeddings": 256,
    },
    **FAMILY_PRESETS,
}


def preset_config(name: str) -> dict[str, Any]:
    """A copy of the configuration of a preset, without `quantization_config`, which depends on
    the form of the weights. Raises `InvalidParameterError` for an unknown name."""
    return copy.deepcopy(PRESETS[check_choice("preset", name, PRESETS)])


def preset_generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`generation_config.json` for a model with this configuration: its BOS and EOS ids (for the
    vocabulary of the 2B model also the end-of-turn id) and sampling defaults."""
    eos = config.get("eos_token_id")
    if config.get("bos_token_id") == 128000 and eos == 128001:
        eos = [128001, 128009]
    found = {"bos_token_id": config.get("bos_token_id"), "eos_token_id": eos}
    known = {key: value for key, value in found.items() if value is not None}
    return {**known, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
