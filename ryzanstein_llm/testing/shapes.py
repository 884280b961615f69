"""Names and shapes of all tensors of a checkpoint, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..errors import InvalidParameterError
from ..validation import check_choice, check_int

__all__ = ["FORMS", "Form", "tensor_shapes"]

Form = Literal["packed", "master", "groups64", "groups128"]
FORMS: tuple[Form, ...] = ("packed", "master", "groups64", "groups128")

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "vocab_size",
)


def tensor_shapes(config: Mapping[str, Any], form: Form = "master") -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a checkpoint whose `model_type` is bitnet,
    llama, qwen2 or qwen3.

    Shapes are those on disk. A projection with (out, in) weights is (out, in), except in the packed
    form, where it is (ceil(out / 4), in) bytes and a `weight_scale` of shape (1,).

    Raises
    ------
    InvalidParameterError
        `config` lacks a size, or a size is not a positive integer; or `form` is unknown.
    """
    check_choice("form", form, FORMS)
    _check_sizes(config)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    projections = {
        "self_attn.q_proj": (heads * head_dim, hidden),
        "self_attn.k_proj": (kv_heads * head_dim, hidden),
        "self_attn.v_proj": (kv_heads * head_dim, hidden),
        "self_attn.o_proj": (hidden, heads * head_dim),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    vectors = _vectors(config, hidden, inner, heads * head_dim, kv_heads * head_dim, head_dim)
    vocabulary = config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{name}": (width,) for name, width in vectors.items()}
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


def _vectors(
    config: Mapping[str, Any], hidden: int, inner: int, query: int, kv: int, head_dim: int
) -> dict[str, int]:
    """Norms and biases of a layer, with their widths."""
    family = config.get("model_type", "bitnet")
    check_choice("config['model_type']", family, ("bitnet", "llama", "qwen2", "qwen3"))
    vectors = {"input_layernorm.weight": hidden, "post_attention_layernorm.weight": hidden}
    if family == "bitnet":
        # transformers gives attn_sub_norm the width of the residual stream. That is the width of
        # the concatenated heads, unless head_dim says otherwise (and its own model cannot run).
        old = config.get("architectures") == ["BitnetForCausalLM"]
        attention, ffn = ("inner_attn_ln", "ffn_layernorm") if old else (
            "attn_sub_norm", "ffn_sub_norm"
        )  # fmt: skip
        vectors |= {f"self_attn.{attention}.weight": query, f"mlp.{ffn}.weight": inner}
    elif family == "qwen3":
        vectors |= {f"self_attn.{name}_norm.weight": head_dim for name in "qk"}
    elif family == "qwen2":
        widths = {"q": query, "k": kv, "v": kv}
        vectors |= {f"self_attn.{name}_proj.bias": width for name, width in widths.items()}
    return vectors


def _check_sizes(config: Mapping[str, Any]) -> None:
    if not isinstance(config, Mapping):
        raise InvalidParameterError(f"must be a mapping, not {config!r}", "config")
    for name in SIZES:
        if name not in config:
            raise InvalidParameterError(f"lacks {name}", "config")
        check_int(f"config[{name!r}]", config[name], 1, 1 << 31)
    if config.get("head_dim") is not None:
        check_int("config['head_dim']", config["head_dim"], 1, 1 << 31)
