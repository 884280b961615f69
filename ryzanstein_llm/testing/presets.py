"""Model configurations by name, as in `config.json`, and the tensors that belong to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from ..errors import InvalidParameterError
from ..validation import check_choice, check_int

__all__ = ["PRESETS", "Form", "bitnet_tensor_shapes", "preset_config", "preset_generation_config"]

Form = Literal["packed", "master"]

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "vocab_size",
)

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


def bitnet_tensor_shapes(
    config: Mapping[str, Any], form: Form = "master"
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a BitNetForCausalLM checkpoint.

    Shapes are those on disk. A projection with (out, in) weights is (out, in) in the master form.
    In the packed form it is (ceil(out / 4), in) bytes and a `weight_scale` of shape (1,).

    Raises
    ------
    InvalidParameterError
        `config` lacks a size, or a size is not a positive integer; or `form` is unknown.
    """
    check_choice("form", form, ("packed", "master"))
    _check_sizes(config)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    vocabulary = config["vocab_size"]
    projections = {
        "self_attn.q_proj": (heads * head_dim, hidden),
        "self_attn.k_proj": (kv_heads * head_dim, hidden),
        "self_attn.v_proj": (kv_heads * head_dim, hidden),
        "self_attn.o_proj": (hidden, heads * head_dim),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    # transformers gives attn_sub_norm the width of the residual stream. That is the width of the
    # concatenated heads, unless head_dim says otherwise (and then its own model cannot run).
    norms = {
        "input_layernorm": hidden,
        "post_attention_layernorm": hidden,
        "self_attn.attn_sub_norm": heads * head_dim,
        "mlp.ffn_sub_norm": inner,
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{name}.weight": (width,) for name, width in norms.items()}
        for name, (rows, columns) in projections.items():
            if form == "packed":
                shapes[f"{prefix}{name}.weight"] = (-(-rows // 4), columns)
                shapes[f"{prefix}{name}.weight_scale"] = (1,)
            else:
                shapes[f"{prefix}{name}.weight"] = (rows, columns)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return shapes


def _check_sizes(config: Mapping[str, Any]) -> None:
    if not isinstance(config, Mapping):
        raise InvalidParameterError(f"must be a mapping, not {config!r}", "config")
    for name in SIZES:
        if name not in config:
            raise InvalidParameterError(f"lacks {name}", "config")
        check_int(f"config[{name!r}]", config[name], 1, 1 << 31)
    if config.get("head_dim") is not None:
        check_int("config['head_dim']", config["head_dim"], 1, 1 << 31)
